/*
 * auth: see auth.h. Verifiers stand in secret memory, of which there may be little
 * (RLIMIT_MEMLOCK), one behind the other in the order of their lines; where each is stands in a
 * table of open addressing in ordinary memory, with at least twice as many places as tokens. An id
 * is a mac, so that its first bytes are as good as any hash, and no secret. A token that stands in
 * two lines is one token, the first.
 *
 * Rejected: verifiers in the places themselves, which takes three times the secret memory on the
 * average; and a sorted table, since qsort(3) may copy what it sorts to ordinary memory.
 */
#include "server/auth.h"

#include "core/base.h"
#include "core/check.h"
#include "core/log.h"
#include "core/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct entry {
    unsigned token;
    struct scram_verifier verifier;
};

CHECK_STATIC(sizeof(struct entry) <= 84, "what docs/OPERATIONS.md says a token takes");

static struct {
    struct entry *entries; /* secret memory */
    uint32_t count;
    uint32_t *places; /* of ids: the number of an entry, from 1; 0: free */
    uint32_t mask;
    bool loopback_only;           /* the well-known token */
    struct scram_verifier nobody; /* stands for ids that are not known */
} auth;

CHECK_STATIC(CONFIG_TOKENS_MAX <= UINT32_MAX / 4, "places of tokens of one byte can be counted");

static bool stands_at(uint32_t place, const uint8_t id[FRAME_ID_SIZE])
{
    return memcmp(auth.entries[auth.places[place] - 1].verifier.id, id, FRAME_ID_SIZE) == 0;
}

/* The place of an id: that of its entry, or the free one where it would be. */
static uint32_t *place_of(const uint8_t id[FRAME_ID_SIZE])
{
    uint32_t at;

    memcpy(&at, id, sizeof(at));
    at &= auth.mask;
    while (auth.places[at] != 0 && !stands_at(at, id))
        at = (at + 1) & auth.mask;
    return &auth.places[at];
}

/* NULL: nobody's. */
static const struct entry *find(const uint8_t id[FRAME_ID_SIZE])
{
    uint32_t number = *place_of(id);

    return number != 0 ? &auth.entries[number - 1] : NULL;
}

static void add(const struct config_token *token)
{
    struct scram_keys keys;

    scram_keys(&keys, token->bytes, token->size);
    uint32_t *place = place_of(keys.verifier.id);
    if (*place == 0) {
        struct entry *entry = &auth.entries[auth.count++];
        entry->token = token->line;
        secret_copy(&entry->verifier, &keys.verifier, sizeof(entry->verifier));
        *place = auth.count;
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

static bool open_tables(uint32_t count)
{
    uint32_t places = 2;

    while (places < 2 * count)
        places *= 2;
    auth.count = 0;
    auth.mask = places - 1;
    auth.entries = secret_alloc(count * sizeof(auth.entries[0]));
    auth.places = calloc(places, sizeof(auth.places[0]));
    if (auth.entries == NULL || auth.places == NULL)
        log_at(LOG_ERROR, "server", "out of memory for %u tokens", count);
    return auth.entries != NULL && auth.places != NULL;
}

static bool make_nobody(void)
{
    bool made = getrandom(&auth.nobody, sizeof(auth.nobody), 0) == (ssize_t)sizeof(auth.nobody);

    if (!made)
        log_at(LOG_ERROR, "server", "the kernel gives no random bytes (getrandom): %s",
               strerror(errno));
    return made;
}

bool auth_open(struct config *config)
{
    struct config_token token = { 0 };

    if (!open_tables(count_tokens(config)) || !make_nobody())
        return false;
    auth.loopback_only = config->token_is_default;
    while (config_next_token(config, &token))
        add(&token);
    config_drop_token(config);
    return true;
}

void auth_close(void)
{
    secret_free(auth.entries);
    free(auth.places);
    auth.entries = NULL;
    auth.places = NULL;
}

static enum reason accept_from(const union sock_addr *peer)
{
    return auth.loopback_only && !sock_addr_is_loopback(peer) ? REASON_AUTH_REMOTE_DEV_TOKEN
                                                              : REASON_DONE;
}

enum reason auth_check(const union sock_addr *peer, const struct frame_auth *frame,
                       const struct scram_channel *channel, struct auth_login *login)
{
    const struct entry *entry = find(frame->id);
    const struct scram_verifier *verifier = entry != NULL ? &entry->verifier : &auth.nobody;
    bool proved = scram_client_proved(verifier, channel, frame->proof, login->secret, login->proof);

    login->token = entry != NULL ? entry->token : 0;
    if (frame->bound != channel->bound)
        return REASON_TLS_ENDS_BETWEEN; /* no proof could be right */
    return entry != NULL && proved ? accept_from(peer) : REASON_AUTH_FAILED;
}

enum reason auth_check_v1(const union sock_addr *peer, const void *token, size_t size,
                          unsigned *number)
{
    struct scram_keys keys;

    if (size > FRAME_TOKEN_MAX) /* no token; strangers need not be hashed at length */
        return REASON_AUTH_FAILED;
    scram_keys(&keys, token, size);
    const struct entry *entry = find(keys.verifier.id);
    bool good = entry != NULL && scram_shown(&entry->verifier, &keys);
    *number = good ? entry->token : 0;
    explicit_bzero(&keys, sizeof(keys));
    return good ? accept_from(peer) : REASON_AUTH_FAILED;
}
