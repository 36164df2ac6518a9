/*
 * record: the part of the record engines that does not depend on who does the arithmetic.
 *
 * Owns the keys of both directions, their record counts and limits, and everything that is not
 * data: alerts, KeyUpdate, tickets.
 *
 * Invariants
 *   - half.seq counts up by one per record and restarts at 0 with a new key, so a nonce is never
 *     used twice under a key.
 *   - error is set at most once; after that nothing is opened.
 *   - After close_notify went out nothing is sealed.
 *   - Sealed records under one key never exceed `hard`; `soft` is half of it and makes an update
 *     due.
 *
 * Floods. A peer may send at most USELESS_MAX records in a row without a byte of data, and
 * UPDATES_FREE KeyUpdates plus one per UPDATE_EARNED bytes of data: more is either an attack on our
 * CPU or a broken peer.
 *
 * Handshake messages are read as a stream and not stored: of a NewSessionTicket (foreign peers send
 * them; we never resume) only the length matters, and a KeyUpdate has one byte. Rejected: handing
 * them back to wolfSSL, whose own record layer would have to be kept in step with ours, with 10 KB
 * per lane, to handle two message types.
 */
#include "tls/record_impl.h"
#include "tls/tls_mem.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/secret.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

/* RFC 8446 5.5: 2^24.5 full-size AES-GCM records per key. ChaCha20-Poly1305 has no limit below the
 * sequence number's. */
#define LIMIT_GCM13 (1ull << 24)
/* TLS 1.2 cannot change keys without a renegotiation. v1 peers send records of 4 KiB, so this is 16
 * TiB. */
#define LIMIT_GCM12  (1ull << 32)
#define LIMIT_CHACHA (1ull << 48)

#define USELESS_MAX   32u
#define UPDATES_FREE  32u
#define UPDATE_EARNED (1ull << 20)

#define MESSAGE_HELLO_REQUEST 0
#define MESSAGE_TICKET        4
#define MESSAGE_KEY_UPDATE    24
/* RFC 8446, 4.6.1: ticket and extensions are below 2^16 each. */
#define TICKET_MAX (1u << 17)

#define ALERT_CLOSE_NOTIFY  0
#define ALERT_USER_CANCELED 90
#define ALERT_WARNING       1
#define ALERT_FATAL         2

static const struct {
    const char *name;
    size_t key_len;
    size_t hash_len;
} ciphers[] = {
#define X(NAME, name, key, hash, suite) { name, key, hash },
    RECORD_CIPHER_TABLE(X)
#undef X
};

static const struct {
    uint8_t alert;
    const char *text;
} errors[] = {
#define X(NAME, alert, text) { alert, text },
    RECORD_ERROR_TABLE(X)
#undef X
};

size_t record_cipher_key_len(enum record_cipher cipher)
{
    CHECK(cipher < RECORD_CIPHER_COUNT);
    return ciphers[cipher].key_len;
}

size_t record_cipher_hash_len(enum record_cipher cipher)
{
    CHECK(cipher < RECORD_CIPHER_COUNT);
    return ciphers[cipher].hash_len;
}

const char *record_cipher_name(enum record_cipher cipher)
{
    CHECK(cipher < RECORD_CIPHER_COUNT);
    return ciphers[cipher].name;
}

const char *record_engine_name(enum record_engine engine)
{
    return engine == RECORD_KTLS ? "ktls" : "user";
}

enum record_cipher record_cipher_preferred(void)
{
#if defined(__x86_64__) || defined(__i386__)
    bool aes = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    bool aes = (getauxval(AT_HWCAP) & HWCAP_AES) != 0 && (getauxval(AT_HWCAP) & HWCAP_PMULL) != 0;
#else
    bool aes = false;
#endif
    return aes ? RECORD_AES_128_GCM : RECORD_CHACHA20_POLY1305;
}

/* Keys */

bool record_expand_label(size_t hash_len, const uint8_t *secret, const char *label, uint8_t *out,
                         size_t out_len)
{
    uint8_t info[4 + 6 + 32];
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    size_t label_len = strlen(label);
    size_t n = 0;

    CHECK(out_len <= hash_len && label_len <= 31);
    info[n++] = (uint8_t)(out_len >> 8);
    info[n++] = (uint8_t)out_len;
    info[n++] = (uint8_t)(6 + label_len);
    memcpy(info + n, "tls13 ", 6);
    memcpy(info + n + 6, label, label_len);
    n += 6 + label_len;
    info[n++] = 0; /* empty context */
    info[n++] = 1; /* HKDF-Expand's block counter: one block is enough */
    const EVP_MD *md = hash_len == 48 ? EVP_sha384() : EVP_sha256();
    bool ok = HMAC(md, secret, (int)hash_len, info, n, digest, &digest_len) != NULL;
    if (ok)
        memcpy(out, digest, out_len);
    OPENSSL_cleanse(digest, sizeof(digest));
    return ok;
}

bool record_derive(uint8_t secret_len, size_t key_len, struct record_half_keys *half)
{
    return record_expand_label(secret_len, half->secret, "key", half->key, key_len) &&
           record_expand_label(secret_len, half->secret, "iv", half->iv, RECORD_IV);
}

/*
 * application_traffic_secret_N+1 and its key (RFC 8446 7.2). This and record_make() have frames of
 * their own, which the caller wipes: a compiler may spill what they copy.
 */
static __attribute__((noinline)) bool record_next_keys(struct record *record, enum record_side side)
{
    struct record_half *half = record_half(record, side);
    uint8_t next[RECORD_SECRET_MAX];

    bool ok = record_expand_label(record->secret_len, half->keys.secret, "traffic upd", next,
                                  record->secret_len);
    memcpy(half->keys.secret, next, record->secret_len);
    OPENSSL_cleanse(next, sizeof(next));
    ok = ok && record_derive(record->secret_len, record->key_len, &half->keys);
    half->keys.seq = 0;
    half->sealed = 0;
    half->updates++;
    half->rekeyed = true;
    if (ok && half->engine == RECORD_USER)
        ok = record_user_start(record, side);
    return ok;
}

static bool record_half_next_keys(struct record *record, enum record_side side)
{
    bool ok = record_next_keys(record, side);

    tls_mem_wipe_stack();
    return ok;
}

void record_keys_wipe(struct record_keys *keys)
{
    OPENSSL_cleanse(keys, sizeof(*keys));
}

static void record_default_limits(struct record *record)
{
    uint64_t hard = LIMIT_CHACHA;

    if (record->cipher != RECORD_CHACHA20_POLY1305)
        hard = record->version == RECORD_TLS13 ? LIMIT_GCM13 : LIMIT_GCM12;
    record_set_limits(record, hard / 2, hard);
}

static __attribute__((noinline)) bool record_make(struct record *record,
                                                  const struct record_keys *keys)
{
    bool tls13 = keys->version == RECORD_TLS13;

    record->version = keys->version;
    record->cipher = keys->cipher;
    record->secret_len = tls13 ? keys->secret_len : 0;
    record->key_len = (uint8_t)record_cipher_key_len(keys->cipher);
    record->explicit_nonce = !tls13 && keys->cipher != RECORD_CHACHA20_POLY1305 ? 8 : 0;
    record->tx.keys = keys->tx;
    record->rx.keys = keys->rx;
    record_default_limits(record);
    return record_user_start(record, RECORD_TX) && record_user_start(record, RECORD_RX);
}

struct record *record_new(const struct record_keys *keys)
{
    CHECK(keys->version == RECORD_TLS12 || keys->version == RECORD_TLS13);
    CHECK(keys->secret_len == 0 || keys->secret_len == record_cipher_hash_len(keys->cipher));

    struct record *record = secret_alloc(sizeof(*record));
    if (record == NULL)
        return NULL;
    bool ok = record_make(record, keys);
    tls_mem_wipe_stack();
    if (ok)
        return record;
    record_free(record);
    return NULL;
}

void record_free(struct record *record)
{
    if (record == NULL)
        return;
    record_user_stop(&record->tx);
    record_user_stop(&record->rx);
    secret_free(record);
}

void record_set_limits(struct record *record, uint64_t soft, uint64_t hard)
{
    CHECK(soft >= 1 && soft <= hard);
    record->soft = soft;
    record->hard = hard;
}

/* What a lane may ask */

enum record_engine record_engine(const struct record *record, enum record_side side)
{
    return record_half_const(record, side)->engine;
}

enum record_cipher record_cipher(const struct record *record)
{
    return record->cipher;
}

uint16_t record_version(const struct record *record)
{
    return record->version;
}

size_t record_head(const struct record *record)
{
    return record->tx.engine == RECORD_KTLS ? 0 : RECORD_HEADER + record->explicit_nonce;
}

size_t record_tail(const struct record *record)
{
    if (record->tx.engine == RECORD_KTLS)
        return 0;
    return record->version == RECORD_TLS13 ? 1 + RECORD_TAG : RECORD_TAG;
}

bool record_closed(const struct record *record, enum record_side side)
{
    return record_half_const(record, side)->closed;
}

uint64_t record_count(const struct record *record, enum record_side side)
{
    return record_half_const(record, side)->records;
}

uint64_t record_updates(const struct record *record, enum record_side side)
{
    return record_half_const(record, side)->updates;
}

bool record_rekeyed(struct record *record, enum record_side side)
{
    struct record_half *half = record_half(record, side);
    bool rekeyed = half->rekeyed;

    half->rekeyed = false;
    return rekeyed;
}

enum record_error record_error(const struct record *record)
{
    return record->error;
}

uint8_t record_error_alert(enum record_error error)
{
    CHECK(error < RECORD_ERROR_COUNT);
    return errors[error].alert;
}

const char *record_error_text(enum record_error error)
{
    CHECK(error < RECORD_ERROR_COUNT);
    return errors[error].text;
}

uint8_t record_peer_alert(const struct record *record)
{
    return record->peer_alert;
}

enum record_status record_fail(struct record *record, enum record_error error)
{
    if (record->error == RECORD_ERROR_NONE)
        record->error = error;
    return RECORD_FAILED;
}

bool record_eof(struct record *record)
{
    if (record->rx.closed)
        return true;
    record_fail(record, RECORD_ERROR_TRUNCATED);
    return false;
}

/* What comes in and is not data */

static enum record_status record_alert_in(struct record *record, const uint8_t *payload, size_t len)
{
    if (len != 2 || payload[0] < ALERT_WARNING || payload[0] > ALERT_FATAL)
        return record_fail(record, RECORD_ERROR_BAD_ALERT);

    uint8_t level = payload[0];
    uint8_t alert = payload[1];
    if (alert == ALERT_CLOSE_NOTIFY) {
        record->rx.closed = true;
        return RECORD_CLOSED;
    }
    /* TLS 1.3 ignores the level: all but these two alerts are fatal (RFC 8446 6). TLS 1.2 has real
     * warnings. */
    if (alert == ALERT_USER_CANCELED || (record->version == RECORD_TLS12 && level == ALERT_WARNING))
        return RECORD_SKIP;
    record->peer_alert = alert;
    return record_fail(record, RECORD_ERROR_PEER_ALERT);
}

static enum record_status record_key_update_in(struct record *record, uint8_t request)
{
    if (request > 1)
        return record_fail(record, RECORD_ERROR_BAD_KEY_UPDATE);
    if (record->secret_len == 0)
        return record_fail(record, RECORD_ERROR_NO_SECRET);
    if (record->rx.updates >= UPDATES_FREE + record->rx_bytes / UPDATE_EARNED)
        return record_fail(record, RECORD_ERROR_KEY_UPDATE_FLOOD);
    if (!record_half_next_keys(record, RECORD_RX))
        return record_fail(record, RECORD_ERROR_NO_SECRET);
    record->asked = false;
    record->reply_due = record->reply_due || request == 1;
    return RECORD_SKIP;
}

/* The four header bytes of a message are in. */
static enum record_status record_message_start(struct record *record)
{
    struct record_message *message = &record->message;
    const uint8_t *h = message->header;

    message->left = (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3];
    message->value = 0;
    if (h[0] == MESSAGE_KEY_UPDATE && message->left != 1)
        return record_fail(record, RECORD_ERROR_BAD_KEY_UPDATE);
    if (h[0] == MESSAGE_TICKET && message->left > TICKET_MAX)
        return record_fail(record, RECORD_ERROR_BAD_HANDSHAKE);
    if (h[0] != MESSAGE_KEY_UPDATE && h[0] != MESSAGE_TICKET)
        return record_fail(record, RECORD_ERROR_BAD_HANDSHAKE);
    return RECORD_SKIP;
}

/* Takes bytes of one message; returns how many. */
static size_t record_message_take(struct record *record, const uint8_t *src, size_t len)
{
    struct record_message *message = &record->message;
    size_t n = 0;

    if (message->have < sizeof(message->header)) {
        while (n < len && message->have < sizeof(message->header))
            message->header[message->have++] = src[n++];
        if (message->have == sizeof(message->header) &&
            record_message_start(record) == RECORD_FAILED)
            return n;
    }
    if (message->have == sizeof(message->header) && message->left > 0 && n < len) {
        size_t part = len - n < message->left ? len - n : message->left;
        message->value = src[n];
        message->left -= (uint32_t)part;
        n += part;
    }
    return n;
}

static bool record_message_whole(const struct record_message *message)
{
    return message->have == sizeof(message->header) && message->left == 0;
}

static enum record_status record_handshake_in(struct record *record, const uint8_t *payload,
                                              size_t len)
{
    const uint8_t *end = payload + len;

    if (record->version == RECORD_TLS12)
        return record_fail(record, RECORD_ERROR_RENEGOTIATION);
    if (len == 0)
        return record_fail(record, RECORD_ERROR_BAD_HANDSHAKE);
    while (payload < end) {
        payload += record_message_take(record, payload, (size_t)(end - payload));
        if (record->error != RECORD_ERROR_NONE)
            return RECORD_FAILED;
        if (!record_message_whole(&record->message))
            break;
        record->message.have = 0;
        if (record->message.header[0] != MESSAGE_KEY_UPDATE)
            continue;
        /* A key change ends its record: nothing under the old key may follow (RFC 8446 5.1). */
        if (payload != end)
            return record_fail(record, RECORD_ERROR_BAD_KEY_UPDATE);
        return record_key_update_in(record, record->message.value);
    }
    return RECORD_SKIP;
}

static enum record_status record_data_in(struct record *record, uint8_t *payload, size_t len,
                                         struct record_in *in)
{
    if (len == 0)
        return RECORD_SKIP;
    record->useless = 0;
    record->rx_bytes += len;
    in->data = payload;
    in->len = len;
    return RECORD_DATA;
}

static enum record_status record_control_in(struct record *record, enum record_type type,
                                            const uint8_t *payload, size_t len)
{
    if (type == RECORD_TYPE_ALERT)
        return record_alert_in(record, payload, len);
    if (type == RECORD_TYPE_HANDSHAKE)
        return record_handshake_in(record, payload, len);
    return record_fail(record, RECORD_ERROR_BAD_TYPE);
}

enum record_status record_control(struct record *record, enum record_type type, uint8_t *payload,
                                  size_t len, struct record_in *in)
{
    enum record_status status;

    in->data = NULL;
    in->len = 0;
    if (record->error != RECORD_ERROR_NONE)
        return RECORD_FAILED;
    if (record->rx.closed)
        return RECORD_CLOSED;
    record->rx.records++;
    record->rx.sealed++;
    bool in_message = record->message.have != 0;
    if (in_message && type != RECORD_TYPE_HANDSHAKE) /* RFC 8446 5.1: not interleaved */
        return record_fail(record, RECORD_ERROR_BAD_HANDSHAKE);
    status = type == RECORD_TYPE_DATA ? record_data_in(record, payload, len, in)
                                      : record_control_in(record, type, payload, len);
    if (status == RECORD_SKIP && ++record->useless > USELESS_MAX)
        return record_fail(record, RECORD_ERROR_USELESS_FLOOD);
    return status;
}

/* What goes out and is not data */

static bool record_tx_limit_near(const struct record *record)
{
    return record->tx.sealed >= record->soft;
}

/* The peer has sealed many records under one key and does not change it by itself: ask, once per
 * key. */
static bool record_rx_limit_near(const struct record *record)
{
    return record->rx.sealed >= record->soft && !record->asked;
}

bool record_update_due(const struct record *record)
{
    if (record->secret_len == 0 || record->tx.closed)
        return false;
    return record->reply_due || record_tx_limit_near(record) || record_rx_limit_near(record);
}

void record_tx_count(struct record *record, size_t bytes)
{
    uint64_t n = (bytes + RECORD_PLAIN_MAX - 1) / RECORD_PLAIN_MAX;

    CHECK(record->tx.engine == RECORD_KTLS);
    record->tx.records += n;
    record->tx.sealed += n;
}

enum record_type record_put_type(const struct record *record)
{
    return record->put_type;
}

static size_t record_put(struct record *record, enum record_type type, const uint8_t *payload,
                         size_t len, uint8_t *dst)
{
    record->put_type = type;
    memcpy(dst + record_head(record), payload, len);
    if (record->tx.engine == RECORD_USER)
        return record_seal(record, type, dst + record_head(record), len);
    if (record->tx.closed)
        return 0;
    record_tx_count(record, len);
    return len;
}

size_t record_put_alert(struct record *record, uint8_t alert, uint8_t *dst)
{
    uint8_t level = alert == ALERT_CLOSE_NOTIFY ? ALERT_WARNING : ALERT_FATAL;
    const uint8_t payload[2] = { level, alert };
    size_t len = record_put(record, RECORD_TYPE_ALERT, payload, sizeof(payload), dst);

    record->tx.closed = true; /* nothing may follow, after a fatal alert either */
    return len;
}

size_t record_put_close(struct record *record, uint8_t *dst)
{
    return record_put_alert(record, ALERT_CLOSE_NOTIFY, dst);
}

size_t record_put_key_update(struct record *record, uint8_t *dst)
{
    uint8_t payload[5] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };

    CHECK(record->secret_len != 0);
    payload[4] = record_rx_limit_near(record) ? 1 : 0;
    size_t len = record_put(record, RECORD_TYPE_HANDSHAKE, payload, sizeof(payload), dst);
    if (len == 0)
        return 0;
    record->asked = record->asked || payload[4] == 1;
    record->reply_due = false;
    return record_half_next_keys(record, RECORD_TX) ? len : 0;
}

/* RFC 8446 6 and the IANA registry: what a log should say. */
const char *record_alert_name(uint8_t alert)
{
    static const struct {
        uint8_t alert;
        const char *name;
    } names[] = {
        { 0, "close_notify" },
        { 10, "unexpected_message" },
        { 20, "bad_record_mac" },
        { 22, "record_overflow" },
        { 40, "handshake_failure" },
        { 42, "bad_certificate" },
        { 43, "unsupported_certificate" },
        { 44, "certificate_revoked" },
        { 45, "certificate_expired" },
        { 46, "certificate_unknown" },
        { 47, "illegal_parameter" },
        { 48, "unknown_ca" },
        { 49, "access_denied" },
        { 50, "decode_error" },
        { 51, "decrypt_error" },
        { 70, "protocol_version" },
        { 71, "insufficient_security" },
        { 80, "internal_error" },
        { 86, "inappropriate_fallback" },
        { 90, "user_canceled" },
        { 100, "no_renegotiation" },
        { 109, "missing_extension" },
        { 110, "unsupported_extension" },
        { 112, "unrecognized_name" },
        { 115, "unknown_psk_identity" },
        { 116, "certificate_required" },
        { 120, "no_application_protocol" },
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].alert == alert)
            return names[i].name;
    return "unknown alert";
}
