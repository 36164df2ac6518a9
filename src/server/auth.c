/*
 * auth: see auth.h. Verifiers stand in a table of open addressing with twice as many places as tokens; an id is a mac, so that its first
 * bytes are as good as any hash. A token that stands in two lines is one token, the first.
 */
#include "server/auth.h"

#include "core/base.h"
#include "core/check.h"
#include "core/secret.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct entry {
    bool used;
    unsigned token;
    struct scram_verifier verifier;
};

static struct {
    struct entry *entries; /* secret memory */
    uint32_t mask;
    bool loopback_only;           /* the well-known token */
    struct scram_verifier nobody; /* stands for ids that are not known */
} auth;

/* The place of an id: its entry, or the free one where it would be. */
static struct entry *place_of(const uint8_t id[FRAME_ID_SIZE])
{
    uint32_t at;

    memcpy(&at, id, sizeof(at));
    while (auth.entries[at & auth.mask].used &&
           memcmp(auth.entries[at & auth.mask].verifier.id, id, FRAME_ID_SIZE) != 0)
        at++;
    return &auth.entries[at & auth.mask];
}

static void add(const struct config_token *token)
{
    struct scram_keys keys;

    scram_keys(&keys, token->bytes, token->size);
    struct entry *entry = place_of(keys.verifier.id);
    if (!entry->used) {
        entry->used = true;
        entry->token = token->line;
        secret_copy(&entry->verifier, &keys.verifier, sizeof(entry->verifier));
    }
    explicit_bzero(&keys, sizeof(keys));
}

static uint32_t count_tokens(const struct config *config)
{
    struct config_token token = { 0 };
    uint32_t count = 0;

    while (config_next_token(config, &token))
        count++;
    return count;
}

bool auth_open(struct config *config)
{
    uint32_t places = 2, wanted = 2 * count_tokens(config);
    struct config_token token = { 0 };

    while (places < wanted)
        places *= 2;
    auth.entries = secret_alloc(places * sizeof(auth.entries[0]));
    if (auth.entries == NULL ||
        getrandom(&auth.nobody, sizeof(auth.nobody), 0) != (ssize_t)sizeof(auth.nobody))
        return false;
    auth.mask = places - 1;
    auth.loopback_only = config->token_is_default;
    while (config_next_token(config, &token))
        add(&token);
    config_drop_token(config);
    return true;
}

void auth_close(void)
{
    secret_free(auth.entries);
    auth.entries = NULL;
}

static enum reason accept_from(const union sock_addr *peer)
{
    return auth.loopback_only && !sock_addr_is_loopback(peer) ? REASON_AUTH_REMOTE_DEV_TOKEN
                                                              : REASON_DONE;
}

enum reason auth_check(const union sock_addr *peer, const struct frame_auth *frame,
                       const struct scram_channel *channel, struct auth_login *login)
{
    const struct entry *entry = place_of(frame->id);
    const struct scram_verifier *verifier = entry->used ? &entry->verifier : &auth.nobody;
    bool proved = scram_client_proved(verifier, channel, frame->proof, login->secret, login->proof);

    login->token = entry->token;
    if (frame->bound != channel->bound)
        return REASON_TLS_ENDS_BETWEEN; /* no proof could be right */
    return entry->used && proved ? accept_from(peer) : REASON_AUTH_FAILED;
}

enum reason auth_check_v1(const union sock_addr *peer, const void *token, size_t size,
                          unsigned *number)
{
    struct scram_keys keys;

    if (size > FRAME_TOKEN_MAX) /* no token; strangers need not be hashed at length */
        return REASON_AUTH_FAILED;
    scram_keys(&keys, token, size);
    const struct entry *entry = place_of(keys.verifier.id);
    bool good = entry->used && scram_shown(&entry->verifier, &keys);
    *number = entry->token;
    explicit_bzero(&keys, sizeof(keys));
    return good ? accept_from(peer) : REASON_AUTH_FAILED;
}
