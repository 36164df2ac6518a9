/*
 * tls_keys: takes the keys of a finished handshake out of wolfSSL.
 *
 * wolfSSL gives keys, ivs and sequence numbers by public calls (wolfSSL_GetClientWriteKey and its
 * sisters). It gives no traffic secret: the secret and keylog callbacks are not compiled into
 * Debian's packages (neither 5.5.4 nor 5.7.2 define HAVE_SECRET_CALLBACK). But a KeyUpdate needs
 * the secret, and so does SSLKEYLOGFILE. What the packages do have is the HKDF callback of
 * HAVE_PK_CALLBACKS: it is shown every HKDF-Expand-Label of the key schedule before wolfSSL
 * computes it. Where the label is "key", the input is the secret of one direction: first the
 * handshake's, then the application's. The callback only looks; it returns NOT_COMPILED_IN, and
 * wolfSSL does the work.
 *
 * The callback has no argument, so tls_stepping names the handshake whose step runs on this thread.
 *
 * What was caught is not trusted blindly: the key derived from it must equal the key that wolfSSL
 * exports, or secret_len stays 0 and the lane closes instead of updating its keys. Rejected:
 * rebuilding the key schedule from the ECDH secret and a transcript (300 lines to the same end),
 * and keeping the WOLFSSL object to let it compute updates (10 KB a lane, and its record layer in
 * step).
 */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "tls/record_impl.h"
#include "tls/tls_impl.h"

#define RANDOM_SIZE 32
#define MASTER_SIZE 48

_Thread_local struct tls_handshake *tls_stepping;

int tls_keys_hkdf(unsigned char *okm, unsigned okm_len, const unsigned char *prk, unsigned prk_len,
                  const unsigned char *protocol, unsigned protocol_len, const unsigned char *label,
                  unsigned label_len, const unsigned char *info, unsigned info_len, int digest,
                  int side)
{
    struct tls_handshake *handshake = tls_stepping;

    (void)okm, (void)okm_len, (void)protocol, (void)protocol_len;
    (void)info, (void)info_len, (void)digest;
    if (handshake == NULL || label_len != 3 || memcmp(label, "key", 3) != 0 ||
        prk_len > RECORD_SECRET_MAX)
        return NOT_COMPILED_IN;
    struct tls_secrets *secrets =
        side == WOLFSSL_CLIENT_END ? &handshake->client_secrets : &handshake->server_secrets;
    memcpy(secrets->seen == 0 ? secrets->handshake : secrets->traffic, prk, prk_len);
    secrets->len = (uint8_t)prk_len;
    if (secrets->seen < 2)
        secrets->seen++;
    return NOT_COMPILED_IN;
}

static bool keys_cipher_of_suite(int suite, enum record_cipher *cipher)
{
    static const struct {
        uint16_t suite;
        enum record_cipher cipher;
    } suites[] = {
#define X(NAME, name, key, hash, tls13) { tls13, RECORD_##NAME },
        RECORD_CIPHER_TABLE(X)
#undef X
        /* TLS 1.2: ECDHE with ECDSA, then with RSA (RFC 5289, RFC 7905) */
        { 0xc02b, RECORD_AES_128_GCM },
        { 0xc02f, RECORD_AES_128_GCM },
        { 0xc02c, RECORD_AES_256_GCM },
        { 0xc030, RECORD_AES_256_GCM },
        { 0xcca9, RECORD_CHACHA20_POLY1305 },
        { 0xcca8, RECORD_CHACHA20_POLY1305 },
    };

    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
        if (suites[i].suite == suite) {
            *cipher = suites[i].cipher;
            return true;
        }
    return false;
}

/* True when the secret caught is the one that key and iv come from; then *half has it. */
static bool keys_take_secret(const struct tls_secrets *secrets, enum record_cipher cipher,
                             struct record_half_keys *half)
{
    struct record_half_keys derived = { 0 };

    if (secrets->seen != 2 || secrets->len != record_cipher_hash_len(cipher))
        return false;
    memcpy(derived.secret, secrets->traffic, secrets->len);
    bool same = record_derive(secrets->len, record_cipher_key_len(cipher), &derived) &&
                memcmp(derived.key, half->key, sizeof(half->key)) == 0 &&
                memcmp(derived.iv, half->iv, sizeof(half->iv)) == 0;
    if (same)
        memcpy(half->secret, derived.secret, secrets->len);
    explicit_bzero(&derived, sizeof(derived));
    return same;
}

static void keys_copy_half(struct record_half_keys *half, const unsigned char *key, size_t key_len,
                           const unsigned char *iv, size_t iv_len, word64 seq)
{
    memcpy(half->key, key, key_len);
    memcpy(half->iv, iv, iv_len);
    half->seq = seq;
}

static bool keys_copy(struct tls_handshake *handshake)
{
    struct record_keys *keys = &handshake->keys;
    WOLFSSL *wolf = handshake->wolf;
    bool client = handshake->ctx->role == TLS_CLIENT;
    bool salt_only = keys->version == RECORD_TLS12 && keys->cipher != RECORD_CHACHA20_POLY1305;
    size_t key_len = record_cipher_key_len(keys->cipher);
    size_t iv_len = salt_only ? 4 : RECORD_IV;
    word64 tx_seq;
    word64 rx_seq;

    if (wolfSSL_GetSequenceNumber(wolf, &tx_seq) < 0 ||
        wolfSSL_GetPeerSequenceNumber(wolf, &rx_seq) < 0 ||
        (size_t)wolfSSL_GetKeySize(wolf) != key_len)
        return false;
    struct record_half_keys *client_half = client ? &keys->tx : &keys->rx;
    struct record_half_keys *server_half = client ? &keys->rx : &keys->tx;
    keys_copy_half(client_half, wolfSSL_GetClientWriteKey(wolf), key_len,
                   wolfSSL_GetClientWriteIV(wolf), iv_len, client ? tx_seq : rx_seq);
    keys_copy_half(server_half, wolfSSL_GetServerWriteKey(wolf), key_len,
                   wolfSSL_GetServerWriteIV(wolf), iv_len, client ? rx_seq : tx_seq);
    if (keys->version == RECORD_TLS13 &&
        keys_take_secret(&handshake->client_secrets, keys->cipher, client_half) &&
        keys_take_secret(&handshake->server_secrets, keys->cipher, server_half))
        keys->secret_len = (uint8_t)record_cipher_hash_len(keys->cipher);
    return true;
}

/* RFC 8446, 7.5, by wolfSSL's own key schedule. */
static bool keys_copy_exporter(struct tls_handshake *handshake)
{
    static const char label[] = "EXPORTER-Channel-Binding"; /* RFC 9266, 4.2 */

    if (handshake->keys.version != RECORD_TLS13)
        return true;
    return wolfSSL_export_keying_material(handshake->wolf, handshake->exporter,
                                          sizeof(handshake->exporter), label, sizeof(label) - 1,
                                          NULL, 0, 0) == WOLFSSL_SUCCESS;
}

bool tls_keys_export(struct tls_handshake *handshake)
{
    struct record_keys *keys = &handshake->keys;
    int version = wolfSSL_GetVersion(handshake->wolf);

    if (version != WOLFSSL_TLSV1_3 && version != WOLFSSL_TLSV1_2)
        return false;
    keys->version = version == WOLFSSL_TLSV1_3 ? RECORD_TLS13 : RECORD_TLS12;
    if (!keys_cipher_of_suite(wolfSSL_get_current_cipher_suite(handshake->wolf), &keys->cipher) ||
        !keys_copy(handshake) || !keys_copy_exporter(handshake))
        return false;
    /* max_fragment_length (RFC 6066): wolfSSL grants it to clients that ask, the lanes could not
     * keep it */
    if (wolfSSL_GetMaxOutputSize(handshake->wolf) < (int)RECORD_PLAIN_MAX) {
        snprintf(handshake->detail, sizeof(handshake->detail), "the peer insists on short records");
        return false;
    }
    if (keys->version == RECORD_TLS13 && keys->secret_len == 0)
        tls_ctx_warn(handshake->ctx,
                     "this wolfSSL does not show TLS traffic secrets: lanes will be closed where "
                     "their keys should be updated");
    snprintf(handshake->summary, sizeof(handshake->summary), "TLS 1.%d, %s",
             keys->version == RECORD_TLS13 ? 3 : 2, record_cipher_name(keys->cipher));
    return true;
}

/* SSLKEYLOGFILE */

/* Workers write to it: a pipe that nobody reads must not stop them. */
int tls_keylog_open(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
}

static size_t keys_put_hex(char *dst, const uint8_t *src, size_t len)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        dst[2 * i] = digits[src[i] >> 4];
        dst[2 * i + 1] = digits[src[i] & 15];
    }
    return 2 * len;
}

/* One line in one write, so that lines of several threads do not mix. */
static void keys_keylog_line(struct tls_handshake *handshake, const char *label,
                             const uint8_t *secret, size_t len)
{
    uint8_t random[RANDOM_SIZE];
    char line[64 + 2 * RANDOM_SIZE + 2 * RECORD_SECRET_MAX];

    if (wolfSSL_get_client_random(handshake->wolf, random, sizeof(random)) != sizeof(random))
        return;
    size_t n = (size_t)snprintf(line, sizeof(line), "%s ", label);
    n += keys_put_hex(line + n, random, sizeof(random));
    line[n++] = ' ';
    n += keys_put_hex(line + n, secret, len);
    line[n++] = '\n';
    if (write(handshake->ctx->keylog, line, n) != (ssize_t)n)
        tls_ctx_warn(handshake->ctx, "the TLS key log file cannot be written");
    explicit_bzero(line, sizeof(line));
}

static void keys_keylog_tls12(struct tls_handshake *handshake)
{
    unsigned char master[MASTER_SIZE];
    WOLFSSL_SESSION *session = wolfSSL_get_session(handshake->wolf);

    if (session != NULL &&
        wolfSSL_SESSION_get_master_key(session, master, sizeof(master)) == sizeof(master))
        keys_keylog_line(handshake, "CLIENT_RANDOM", master, sizeof(master));
    explicit_bzero(master, sizeof(master));
}

void tls_keylog_write(struct tls_handshake *handshake)
{
    const struct tls_secrets *client = &handshake->client_secrets;
    const struct tls_secrets *server = &handshake->server_secrets;

    if (handshake->ctx->keylog < 0)
        return;
    if (handshake->keys.version == RECORD_TLS12) {
        keys_keylog_tls12(handshake);
        return;
    }
    keys_keylog_line(handshake, "CLIENT_HANDSHAKE_TRAFFIC_SECRET", client->handshake, client->len);
    keys_keylog_line(handshake, "SERVER_HANDSHAKE_TRAFFIC_SECRET", server->handshake, server->len);
    keys_keylog_line(handshake, "CLIENT_TRAFFIC_SECRET_0", client->traffic, client->len);
    keys_keylog_line(handshake, "SERVER_TRAFFIC_SECRET_0", server->traffic, server->len);
}
