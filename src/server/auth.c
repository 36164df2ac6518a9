/*
 * auth: see auth.h. Verifiers stand in secret memory, of which there may be little
 * (RLIMIT_MEMLOCK), one behind the other in the order of their lines; where each is stands in a
 * table of open addressing in ordinary memory, with at least twice as many places as tokens. An id
 * is a mac, so that its first bytes are as good as any hash, and no secret. A token that stands in
 * two lines is one token, the first.
 *
 * All of it is one table that nobody changes; who reads the tokens again makes another one. Numbers
 * are given by him alone: a token that is in both tables keeps its own.
 *
 * Rejected: verifiers in the places themselves, which takes three times the secret memory on the
 * average; and a sorted table, since qsort(3) may copy what it sorts to ordinary memory.
 */
#include "server/auth.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/secret.h"
#include "core/base/token.h"
#include "core/io/addr.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct entry {
    uint32_t token : 31;
    uint32_t weak : 1; /* good on loopback only: core/base/token.h */
    struct scram_verifier verifier;
};

CHECK_STATIC(sizeof(struct entry) <= 84, "what docs/OPERATIONS.md says a token takes");

struct auth_table {
    atomic_uint refs;
    struct entry *entries; /* secret memory */
    uint32_t count;
    uint32_t *places; /* of ids: the number of an entry, from 1; 0: free */
    uint32_t mask;
    uint32_t *tokens; /* the numbers of all entries, in order */
};

static struct {
    unsigned next; /* the number of the next token that is new; of who makes tables */
    struct scram_verifier nobody; /* stands for ids that are not known; does not change */
} auth;

CHECK_STATIC(CONFIG_TOKENS_MAX <= UINT32_MAX / 4, "places of tokens of one byte can be counted");

/* Tables */

static void auth_table_free(struct auth_table *table)
{
    secret_free(table->entries);
    free(table->places);
    free(table->tokens);
    free(table);
}

struct auth_table *auth_ref(struct auth_table *table)
{
    CHECK(atomic_fetch_add(&table->refs, 1) > 0);
    return table;
}

void auth_unref(struct auth_table *table)
{
    if (table != NULL && atomic_fetch_sub(&table->refs, 1) == 1)
        auth_table_free(table);
}

static bool auth_stands_at(const struct auth_table *table, uint32_t place,
                           const uint8_t id[FRAME_ID_SIZE])
{
    return memcmp(table->entries[table->places[place] - 1].verifier.id, id, FRAME_ID_SIZE) == 0;
}

/* The place of an id: that of its entry, or the free one where it would be. */
static uint32_t *auth_place_of(const struct auth_table *table, const uint8_t id[FRAME_ID_SIZE])
{
    uint32_t at;

    memcpy(&at, id, sizeof(at));
    at &= table->mask;
    while (table->places[at] != 0 && !auth_stands_at(table, at, id))
        at = (at + 1) & table->mask;
    return &table->places[at];
}

/* NULL: nobody's. */
static const struct entry *auth_find(const struct auth_table *table,
                                     const uint8_t id[FRAME_ID_SIZE])
{
    uint32_t number = *auth_place_of(table, id);

    return number != 0 ? &table->entries[number - 1] : NULL;
}

/* The number of a token that had one; otherwise its line, or the next if there were tokens
 * before. */
static unsigned auth_number_of(const struct auth_table *before, const struct config_token *token,
                               const uint8_t id[FRAME_ID_SIZE])
{
    const struct entry *known = before != NULL ? auth_find(before, id) : NULL;

    if (known != NULL)
        return known->token;
    if (before == NULL)
        auth.next = token->line + 1;
    else
        CHECK(auth.next < 1u << 31);
    return before == NULL ? token->line : auth.next++;
}

static void auth_add(struct auth_table *table, const struct auth_table *before,
                     const struct config_token *token)
{
    struct scram_keys keys;

    scram_keys(&keys, token->bytes, token->size);
    uint32_t *place = auth_place_of(table, keys.verifier.id);
    if (*place == 0) {
        struct entry *entry = &table->entries[table->count];
        entry->token = auth_number_of(before, token, keys.verifier.id) & INT32_MAX;
        entry->weak = token_weakness(token->bytes, token->size) != NULL;
        secret_copy(&entry->verifier, &keys.verifier, sizeof(entry->verifier));
        table->tokens[table->count++] = entry->token;
        *place = table->count;
    }
    explicit_bzero(&keys, sizeof(keys));
}

static uint32_t auth_count_tokens(const struct config *config)
{
    struct config_token token = { 0 };
    uint32_t count = 0;

    while (config_next_token(config, &token))
        count++;
    return count;
}

static struct auth_table *auth_table_alloc(uint32_t count)
{
    struct auth_table *table = calloc(1, sizeof(*table));
    uint32_t places = 2;

    CHECK(count > 0); /* a file without a token is refused where it is read */
    while (places < 2 * count)
        places *= 2;
    if (table == NULL)
        return NULL;
    *table = (struct auth_table){ .refs = 1,
                                  .mask = places - 1,
                                  .entries = secret_alloc(count * sizeof(table->entries[0])),
                                  .places = calloc(places, sizeof(table->places[0])),
                                  .tokens = calloc(count, sizeof(table->tokens[0])) };
    if (table->entries != NULL && table->places != NULL && table->tokens != NULL)
        return table;
    auth_table_free(table);
    return NULL;
}

static int auth_compare_tokens(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* Of all that are weak the first is named. */
static void auth_warn_of_weak(const struct config *config)
{
    struct config_token token = { 0 }, first = { 0 };
    const char *weakness = NULL;
    unsigned count = 0;

    while (config_next_token(config, &token)) {
        const char *this = token_weakness(token.bytes, token.size);

        if (this != NULL && count++ == 0) {
            weakness = this;
            first = token;
        }
    }
    if (count > 0)
        log_at(LOG_WARN, "server",
               "the token in line %u is %s: clients with it are let in from loopback only (%u such "
               "token%s); " TOKEN_CURE,
               first.line + 1, weakness, count, count > 1 ? "s" : "");
}

/* Of the tokens in *config, which are dropped. NULL after saying why. */
static struct auth_table *auth_table_make(struct config *config, const struct auth_table *before)
{
    struct config_token token = { 0 };
    uint32_t count = auth_count_tokens(config);
    struct auth_table *table = auth_table_alloc(count);

    if (table == NULL)
        log_at(LOG_ERROR, "server", "out of memory for %u tokens", count);
    while (table != NULL && config_next_token(config, &token))
        auth_add(table, before, &token);
    if (table != NULL)
        qsort(table->tokens, table->count, sizeof(table->tokens[0]), auth_compare_tokens);
    if (table != NULL && !config->token_is_default && !addr_host_is_loopback(config->listen.host))
        auth_warn_of_weak(config);
    config_drop_token(config);
    return table;
}

/* Of the tokens in `a`, those that `b` has not. */
static uint32_t auth_count_others(const struct auth_table *a, const struct auth_table *b)
{
    uint32_t others = 0;

    for (uint32_t i = 0; i < a->count; i++)
        others += !auth_knows(b, a->tokens[i]);
    return others;
}

/* Life */

static bool auth_make_nobody(void)
{
    bool made = getrandom(&auth.nobody, sizeof(auth.nobody), 0) == (ssize_t)sizeof(auth.nobody);

    if (!made)
        log_at(LOG_ERROR, "server", "the kernel gives no random bytes (getrandom): %s",
               strerror(errno));
    return made;
}

struct auth_table *auth_open(struct config *config)
{
    return auth_make_nobody() ? auth_table_make(config, NULL) : NULL;
}

struct auth_table *auth_renew(const struct auth_table *before, struct config *tokens,
                              struct auth_change *change)
{
    struct auth_table *table = auth_table_make(tokens, before);

    if (table != NULL)
        *change = (struct auth_change){ .count = table->count,
                                        .fresh = auth_count_others(table, before),
                                        .gone = auth_count_others(before, table) };
    return table;
}

/* Log-ins */

bool auth_knows(const struct auth_table *table, unsigned token)
{
    const uint32_t key = token;

    return bsearch(&key, table->tokens, table->count, sizeof(key), auth_compare_tokens) != NULL;
}

static enum reason auth_accept_from(const struct entry *entry, const union sock_addr *peer)
{
    return entry->weak && !sock_addr_is_loopback(peer) ? REASON_AUTH_WEAK_TOKEN : REASON_DONE;
}

enum reason auth_check(const struct auth_table *table, const union sock_addr *peer,
                       const struct frame_auth *frame, const struct scram_channel *channel,
                       struct auth_login *login)
{
    const struct entry *entry = auth_find(table, frame->id);
    const struct scram_verifier *verifier = entry != NULL ? &entry->verifier : &auth.nobody;
    bool proved = scram_client_proved(verifier, channel, frame->proof, login->secret, login->proof);

    login->token = entry != NULL ? entry->token : 0;
    if (frame->bound != channel->bound)
        return REASON_TLS_ENDS_BETWEEN; /* no proof could be right */
    return entry != NULL && proved ? auth_accept_from(entry, peer) : REASON_AUTH_FAILED;
}

/* Of the token with these keys; NULL: it is none. */
static const struct entry *auth_find_shown(const struct auth_table *table,
                                           const struct scram_keys *keys)
{
    const struct entry *entry = auth_find(table, keys->verifier.id);

    return entry != NULL && scram_shown(&entry->verifier, keys) ? entry : NULL;
}

enum reason auth_check_v1(const struct auth_table *table, const union sock_addr *peer,
                          const void *token, size_t size, unsigned *number)
{
    struct scram_keys keys;

    if (size > FRAME_TOKEN_MAX) /* no token; strangers need not be hashed at length */
        return REASON_AUTH_FAILED;
    scram_keys(&keys, token, size);
    const struct entry *entry = auth_find_shown(table, &keys);
    explicit_bzero(&keys, sizeof(keys));
    *number = entry != NULL ? entry->token : 0;
    return entry != NULL ? auth_accept_from(entry, peer) : REASON_AUTH_FAILED;
}

bool auth_has_but_for_blanks(const struct auth_table *table, const void *token, size_t size)
{
    const char *at = token;
    struct scram_keys keys;

    if (size > FRAME_TOKEN_MAX || !token_has_blank_ends(at, size))
        return false;
    token_trim(&at, &size);
    scram_keys(&keys, at, size);
    bool has = auth_find_shown(table, &keys) != NULL;
    explicit_bzero(&keys, sizeof(keys));
    return has;
}
