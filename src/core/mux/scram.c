/* scram: see scram.h. */
#include "core/mux/scram.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/mux/crypt.h"

CHECK_STATIC(SCRAM_KEY_SIZE == CRYPT_MAC_SIZE && FRAME_PROOF_SIZE == CRYPT_MAC_SIZE,
             "keys and proofs are what HMAC-SHA256 gives");

#define MESSAGE_MAX 256u

/* What a mac is made of. */
struct message {
    uint8_t bytes[MESSAGE_MAX];
    size_t size;
};

static void scram_message_put(struct message *m, const void *data, size_t size)
{
    CHECK(m->size + size <= sizeof(m->bytes));
    memcpy(m->bytes + m->size, data, size);
    m->size += size;
}

static void scram_message_put_number(struct message *m, uint64_t value, unsigned size)
{
    for (unsigned i = size; i > 0; i--) {
        uint8_t byte = (uint8_t)(value >> (i - 1) * 8);
        scram_message_put(m, &byte, 1);
    }
}

static void scram_message_begin(struct message *m, const char *label,
                                const struct scram_channel *channel)
{
    m->size = 0;
    scram_message_put(m, label, strlen(label));
    scram_message_put(m, channel->transcript, sizeof(channel->transcript));
    scram_message_put(m, &channel->bound, 1);
    scram_message_put(m, channel->exporter, sizeof(channel->exporter));
}

/* Over AuthMessage, which ends with the token's id. */
static void scram_auth_mac(const uint8_t key[SCRAM_KEY_SIZE], const char *label,
                           const struct scram_channel *channel, const uint8_t id[FRAME_ID_SIZE],
                           uint8_t mac[SCRAM_KEY_SIZE])
{
    struct message m;

    scram_message_begin(&m, label, channel);
    scram_message_put(&m, id, FRAME_ID_SIZE);
    crypt_mac(key, m.bytes, m.size, mac);
}

static void scram_named_mac(const uint8_t key[SCRAM_KEY_SIZE], const char *name, uint8_t *mac)
{
    crypt_mac(key, name, strlen(name), mac);
}

bool scram_equal(const void *a, const void *b, size_t size)
{
    const volatile uint8_t *x = a, *y = b;
    unsigned difference = 0;

    for (size_t i = 0; i < size; i++)
        difference |= (unsigned)(x[i] ^ y[i]);
    return difference == 0;
}

/* The id comes last, which is no secret: what a hash made last stays in vector registers until
 * something else is computed there, and a v1 log-in may be the last thing that is. */
void scram_keys(struct scram_keys *keys, const void *token, size_t size)
{
    static const uint8_t label[SCRAM_KEY_SIZE] = "culvert v2 token";
    uint8_t token_key[SCRAM_KEY_SIZE], id[SCRAM_KEY_SIZE];

    crypt_mac(label, token, size, token_key);
    scram_named_mac(token_key, "Client Key", keys->client);
    scram_named_mac(token_key, "Server Key", keys->verifier.server);
    crypt_hash(keys->client, sizeof(keys->client), keys->verifier.stored);
    scram_named_mac(token_key, "Token Id", id);
    memcpy(keys->verifier.id, id, sizeof(keys->verifier.id));
    explicit_bzero(token_key, sizeof(token_key));
    explicit_bzero(id, sizeof(id));
}

void scram_begin(uint8_t transcript[SCRAM_KEY_SIZE], const uint8_t *src, const uint8_t *end)
{
    crypt_hash(src, (size_t)(end - src), transcript);
}

void scram_go_on(uint8_t transcript[SCRAM_KEY_SIZE], const uint8_t *src, const uint8_t *end)
{
    uint8_t both[2 * SCRAM_KEY_SIZE];

    memcpy(both, transcript, SCRAM_KEY_SIZE);
    crypt_hash(src, (size_t)(end - src), both + SCRAM_KEY_SIZE);
    crypt_hash(both, sizeof(both), transcript);
}

/* As secret_copy: nothing stays in vector registers. */
static void scram_mix(uint8_t *dst, const uint8_t *other)
{
    volatile uint8_t *to = dst;
    const volatile uint8_t *from = other;

    for (size_t i = 0; i < SCRAM_KEY_SIZE; i++)
        to[i] ^= from[i];
}

void scram_client_proof(const struct scram_keys *keys, const struct scram_channel *channel,
                        uint8_t proof[FRAME_PROOF_SIZE])
{
    scram_auth_mac(keys->verifier.stored, "culvert v2 auth", channel, keys->verifier.id, proof);
    scram_mix(proof, keys->client);
}

static void scram_session_of(const uint8_t client[SCRAM_KEY_SIZE],
                             const struct scram_channel *channel, const uint8_t id[FRAME_ID_SIZE],
                             uint8_t secret[SCRAM_KEY_SIZE])
{
    scram_auth_mac(client, "culvert v2 session", channel, id, secret);
}

void scram_client_session(const struct scram_keys *keys, const struct scram_channel *channel,
                          uint8_t secret[SCRAM_KEY_SIZE])
{
    scram_session_of(keys->client, channel, keys->verifier.id, secret);
}

static void scram_server_proof_of(const struct scram_verifier *verifier,
                                  const struct scram_channel *channel, uint8_t *proof)
{
    scram_auth_mac(verifier->server, "culvert v2 auth ok", channel, verifier->id, proof);
}

bool scram_server_proved(const struct scram_keys *keys, const struct scram_channel *channel,
                         const uint8_t proof[FRAME_PROOF_SIZE])
{
    uint8_t expected[FRAME_PROOF_SIZE];

    scram_server_proof_of(&keys->verifier, channel, expected);
    return scram_equal(expected, proof, sizeof(expected));
}

bool scram_client_proved(const struct scram_verifier *verifier, const struct scram_channel *channel,
                         const uint8_t proof[FRAME_PROOF_SIZE], uint8_t secret[SCRAM_KEY_SIZE],
                         uint8_t server_proof[FRAME_PROOF_SIZE])
{
    uint8_t client[SCRAM_KEY_SIZE], stored[SCRAM_KEY_SIZE];

    scram_auth_mac(verifier->stored, "culvert v2 auth", channel, verifier->id, client);
    scram_mix(client, proof);
    crypt_hash(client, sizeof(client), stored);
    scram_session_of(client, channel, verifier->id, secret);
    scram_server_proof_of(verifier, channel, server_proof);
    bool proved = scram_equal(stored, verifier->stored, sizeof(stored));
    explicit_bzero(client, sizeof(client));
    explicit_bzero(stored, sizeof(stored));
    return proved;
}

bool scram_shown(const struct scram_verifier *verifier, const struct scram_keys *keys)
{
    return scram_equal(verifier->stored, keys->verifier.stored, sizeof(verifier->stored));
}

static void scram_join_mac(const uint8_t secret[SCRAM_KEY_SIZE], struct message *m,
                           const struct frame_join *join, bool whole, uint8_t *proof)
{
    scram_message_put_number(m, join->session, 8);
    scram_message_put_number(m, join->lane, 2);
    if (whole) {
        scram_message_put_number(m, join->flags, 2);
        scram_message_put_number(m, join->rx_bytes, 8);
    }
    crypt_mac(secret, m->bytes, m->size, proof);
}

void scram_join(const uint8_t secret[SCRAM_KEY_SIZE], const struct scram_channel *channel,
                const struct frame_join *join, uint8_t proof[FRAME_PROOF_SIZE])
{
    struct message m;

    scram_message_begin(&m, "culvert v2 join", channel);
    scram_join_mac(secret, &m, join, true, proof);
}

void scram_join_ok(const uint8_t secret[SCRAM_KEY_SIZE], const struct scram_channel *channel,
                   const struct frame_join *join, uint8_t proof[FRAME_PROOF_SIZE])
{
    struct message m;

    scram_message_begin(&m, "culvert v2 join ok", channel);
    scram_join_mac(secret, &m, join, false, proof);
}
