/*
 * record_user: records sealed and opened in place with libcrypto.
 *
 * One EVP context per direction, keyed once per key and reused for every record: per record only
 * the nonce is set, so nothing is allocated. Figures: docs/BENCHMARKS.md.
 *
 *   TLS 1.3           nonce = iv xor seq        AAD = the 5 header bytes as received      inner =
 *                     payload, type, zeros
 *   TLS 1.2 GCM       nonce = salt, seq (sent)  AAD = seq, type, version, payload length
 *   TLS 1.2 ChaCha    nonce = iv xor seq        AAD = as TLS 1.2 GCM
 *
 * The explicit nonce of TLS 1.2 GCM is the sequence number. wolfSSL counts it the same way (from 0,
 * one per record), so the records it sealed during the handshake cannot share a nonce with ours.
 *
 * A record that fails is decrypted garbage in the caller's buffer; it is never handed out.
 * Rejected: EVP_aead-like one-shot wrappers and a context per record (a malloc each), and
 * decrypting into a second buffer (a copy's worth of cache misses).
 */
#include "tls/record_impl.h"

#include <openssl/evp.h>
#include <string.h>
#include <sys/uio.h>

#include "core/base/check.h"

#define AAD_MAX      13
#define CHACHA_STACK 2048u /* twice as deep as its code goes; checked in test_tls_mem.c */

static void user_put_u64(uint8_t *dst, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        dst[i] = (uint8_t)value;
}

static const EVP_CIPHER *user_evp_cipher(enum record_cipher cipher)
{
    switch (cipher) {
    case RECORD_AES_128_GCM:
        return EVP_aes_128_gcm();
    case RECORD_AES_256_GCM:
        return EVP_aes_256_gcm();
    default:
        return EVP_chacha20_poly1305();
    }
}

bool record_user_start(struct record *record, enum record_side side)
{
    struct record_half *half = record_half(record, side);
    const EVP_CIPHER *cipher = NULL;

    if (half->aead == NULL) {
        half->aead = EVP_CIPHER_CTX_new();
        cipher = user_evp_cipher(record->cipher);
    }
    if (half->aead == NULL)
        return false;
    return EVP_CipherInit_ex(half->aead, cipher, NULL, half->keys.key, NULL, side == RECORD_TX) ==
           1;
}

void record_user_stop(struct record_half *half)
{
    EVP_CIPHER_CTX_free(half->aead); /* wipes the key schedule */
    half->aead = NULL;
}

/* The nonce of the record with this half's sequence number; `explicit_part` is where a TLS 1.2 GCM
 * record carries its own. */
static void user_make_nonce(const struct record *record, const struct record_half *half,
                            const uint8_t *explicit_part, uint8_t nonce[RECORD_IV])
{
    memcpy(nonce, half->keys.iv, RECORD_IV);
    if (record->explicit_nonce != 0) {
        memcpy(nonce + 4, explicit_part, 8);
        return;
    }
    uint8_t seq[8];
    user_put_u64(seq, half->keys.seq);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] ^= seq[i];
}

/* `header` is the record's; `len` the payload length that TLS 1.2 authenticates instead of the
 * header's. */
static size_t user_make_aad(const struct record *record, const struct record_half *half,
                            const uint8_t *header, size_t len, uint8_t aad[AAD_MAX])
{
    if (record->version == RECORD_TLS13) {
        memcpy(aad, header, RECORD_HEADER);
        return RECORD_HEADER;
    }
    user_put_u64(aad, half->keys.seq);
    memcpy(aad + 8, header, 3);
    aad[11] = (uint8_t)(len >> 8);
    aad[12] = (uint8_t)len;
    return 13;
}

/* Nonce and AAD go in; from here on the context takes payload. */
static void user_aead_begin(const struct record *record, struct record_half *half,
                            const uint8_t *header, size_t len)
{
    uint8_t nonce[RECORD_IV];
    uint8_t aad[AAD_MAX];
    int out_len;

    user_make_nonce(record, half, header + RECORD_HEADER, nonce);
    size_t aad_len = user_make_aad(record, half, header, len, aad);
    CHECK(EVP_CipherInit_ex(half->aead, NULL, NULL, NULL, nonce, -1) == 1);
    CHECK(EVP_CipherUpdate(half->aead, NULL, &out_len, aad, (int)aad_len) == 1);
}

/*
 * libcrypto's ChaCha20 leaves its key in the dead frames below the caller's, as it is for a few
 * blocks and word by word for many, so each record is followed by this: some 20 ns. AES-GCM leaves
 * nothing there.
 */
static __attribute__((noinline)) void user_wipe_frames(void)
{
    uint8_t frames[CHACHA_STACK];

    explicit_bzero(frames, sizeof(frames));
}

static void user_aead_end(const struct record *record)
{
    if (record->cipher == RECORD_CHACHA20_POLY1305)
        user_wipe_frames();
}

/* Sealing */

static bool user_may_seal(struct record *record)
{
    CHECK(record->tx.engine == RECORD_USER);
    return !record->tx.closed && record->tx.sealed < record->hard;
}

/* Header (and explicit nonce) in front of `len` bytes of payload; returns where the payload
 * begins. */
static uint8_t *user_put_header(const struct record *record, enum record_type type, size_t len,
                                uint8_t *dst)
{
    bool tls13 = record->version == RECORD_TLS13;
    size_t body = record->explicit_nonce + len + (tls13 ? 1 : 0) + RECORD_TAG;

    dst[0] = (uint8_t)(tls13 ? RECORD_TYPE_DATA : type);
    dst[1] = 3;
    dst[2] = 3;
    dst[3] = (uint8_t)(body >> 8);
    dst[4] = (uint8_t)body;
    if (record->explicit_nonce != 0)
        user_put_u64(dst + RECORD_HEADER, record->tx.keys.seq);
    return dst + RECORD_HEADER + record->explicit_nonce;
}

/* The inner type of TLS 1.3, then the tag; returns the end of the record. */
static uint8_t *user_put_trailer(struct record *record, enum record_type type, uint8_t *dst)
{
    struct record_half *half = &record->tx;
    int n;

    if (record->version == RECORD_TLS13) {
        *dst = (uint8_t)type;
        CHECK(EVP_CipherUpdate(half->aead, dst, &n, dst, 1) == 1);
        dst++;
    }
    CHECK(EVP_CipherFinal_ex(half->aead, dst, &n) == 1 && n == 0);
    CHECK(EVP_CIPHER_CTX_ctrl(half->aead, EVP_CTRL_AEAD_GET_TAG, RECORD_TAG, dst) == 1);
    user_aead_end(record);
    half->keys.seq++;
    half->sealed++;
    half->records++;
    return dst + RECORD_TAG;
}

size_t record_seal(struct record *record, enum record_type type, uint8_t *payload, size_t len)
{
    int n = 0;

    CHECK(len <= RECORD_PLAIN_MAX);
    if (!user_may_seal(record))
        return 0;
    uint8_t *start = payload - record_head(record);
    CHECK(user_put_header(record, type, len, start) == payload);
    user_aead_begin(record, &record->tx, start, len);
    if (len > 0)
        CHECK(EVP_CipherUpdate(record->tx.aead, payload, &n, payload, (int)len) == 1);
    CHECK((size_t)n == len);
    return (size_t)(user_put_trailer(record, type, payload + len) - start);
}

static size_t user_slices_len(const struct iovec *slices, int count)
{
    size_t len = 0;

    for (int i = 0; i < count; i++)
        len += slices[i].iov_len;
    return len;
}

size_t record_seal_slices(struct record *record, enum record_type type, const struct iovec *slices,
                          int count, uint8_t *dst)
{
    size_t len = user_slices_len(slices, count);
    int n;

    CHECK(len <= RECORD_PLAIN_MAX);
    if (!user_may_seal(record))
        return 0;
    uint8_t *at = user_put_header(record, type, len, dst);
    user_aead_begin(record, &record->tx, dst, len);
    for (int i = 0; i < count; i++) {
        if (slices[i].iov_len == 0)
            continue;
        CHECK(EVP_CipherUpdate(record->tx.aead, at, &n, slices[i].iov_base,
                               (int)slices[i].iov_len) == 1);
        at += slices[i].iov_len;
    }
    return (size_t)(user_put_trailer(record, type, at) - dst);
}

/* Opening */

/* What the header alone can say. */
static enum record_error user_header_check(const struct record *record, const uint8_t *header,
                                           size_t body)
{
    if (record->version == RECORD_TLS13 && header[0] == RECORD_TYPE_ALERT && body == 2)
        return RECORD_ERROR_PLAIN_ALERT;
    if (record->version == RECORD_TLS13 && header[0] != RECORD_TYPE_DATA)
        return RECORD_ERROR_BAD_TYPE;
    if (header[0] < RECORD_TYPE_ALERT || header[0] > RECORD_TYPE_DATA)
        return RECORD_ERROR_BAD_TYPE;
    if (header[1] != 3 || header[2] != 3)
        return RECORD_ERROR_BAD_VERSION;
    /* RFC 8446 5.2; TLS 1.2 would allow 2048 more, but no AEAD adds more than its nonce and tag */
    if (body > RECORD_PLAIN_MAX + 256)
        return RECORD_ERROR_TOO_LONG;
    if (body < record->explicit_nonce + RECORD_TAG + (record->version == RECORD_TLS13 ? 1u : 0u))
        return RECORD_ERROR_TOO_SHORT;
    return RECORD_ERROR_NONE;
}

/* Decrypts `len` bytes at payload, whose tag follows them. False when they are not authentic. */
static bool user_aead_open(struct record *record, const uint8_t *header, uint8_t *payload,
                           size_t len)
{
    struct record_half *half = &record->rx;
    int n = 0;

    user_aead_begin(record, half, header, len);
    if (len > 0)
        CHECK(EVP_CipherUpdate(half->aead, payload, &n, payload, (int)len) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(half->aead, EVP_CTRL_AEAD_SET_TAG, RECORD_TAG, payload + len) == 1);
    bool authentic = EVP_CipherFinal_ex(half->aead, payload + len, &n) == 1;
    user_aead_end(record);
    half->keys.seq++;
    return authentic;
}

/* TLS 1.3: the type is the last byte that is not zero. Shortens *len to the payload; 0 when there
 * is no type. */
static uint8_t user_strip_inner(const uint8_t *payload, size_t *len)
{
    while (*len > 0 && payload[*len - 1] == 0)
        (*len)--;
    if (*len == 0)
        return 0;
    (*len)--;
    return payload[*len];
}

static enum record_status user_open_whole(struct record *record, uint8_t *src, size_t body,
                                          struct record_in *in)
{
    uint8_t *payload = src + RECORD_HEADER + record->explicit_nonce;
    size_t len = body - record->explicit_nonce - RECORD_TAG;
    uint8_t type = src[0];

    if (!user_aead_open(record, src, payload, len))
        return record_fail(record, RECORD_ERROR_BAD_TAG);
    if (record->version == RECORD_TLS13) {
        type = user_strip_inner(payload, &len);
        if (type == 0)
            return record_fail(record, RECORD_ERROR_NO_INNER_TYPE);
    }
    if (len > RECORD_PLAIN_MAX)
        return record_fail(record, RECORD_ERROR_TOO_LONG);
    return record_control(record, (enum record_type)type, payload, len, in);
}

enum record_status record_open(struct record *record, uint8_t *src, uint8_t *end,
                               struct record_in *in)
{
    size_t have = (size_t)(end - src);

    CHECK(record->rx.engine == RECORD_USER);
    *in = (struct record_in){ .next = src, .need = RECORD_HEADER };
    if (record->error != RECORD_ERROR_NONE)
        return RECORD_FAILED;
    if (record->rx.closed)
        return RECORD_CLOSED;
    if (have < RECORD_HEADER)
        return RECORD_MORE;

    size_t body = (size_t)src[3] << 8 | src[4];
    enum record_error error = user_header_check(record, src, body);
    if (error == RECORD_ERROR_PLAIN_ALERT && have < RECORD_HEADER + 2) {
        in->need = RECORD_HEADER + 2;
        return RECORD_MORE;
    }
    if (error == RECORD_ERROR_PLAIN_ALERT)
        record->peer_alert = src[RECORD_HEADER + 1];
    if (error != RECORD_ERROR_NONE)
        return record_fail(record, error);
    in->need = RECORD_HEADER + body;
    if (have < in->need)
        return RECORD_MORE;
    in->next = src + in->need;
    if (record->rx.sealed >= record->hard && record->version == RECORD_TLS12)
        return record_fail(record, RECORD_ERROR_LIMIT);
    return user_open_whole(record, src, body, in);
}
