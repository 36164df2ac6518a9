/*
 * tls_handshake: one TLS handshake over memory buffers.
 *
 *     feed -> in[] -> handshake_io_recv -> wolfSSL -> handshake_io_send -> out -> output
 *
 * wolfSSL reads exactly the records of the handshake (header first, then the body), so what is left
 * in in[] when it is done are records of the lane: the leftover.
 *
 * States
 *   WANT_READ  running           -> ASK, DONE, FAILED
 *   ASK        waits for a human -> DONE, FAILED. Our last flight is held back: the server has not
 *              been told that it is trusted
 *   DONE       keys are in `keys` until tls_handshake_keys() takes them; the WOLFSSL object is gone
 *   FAILED     why is set; output holds the alert that tells the peer
 *
 * Secrets are wiped where they end: caught secrets when the keys are out, keys when they are taken,
 * all of it in free.
 */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/error-ssl.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/secret.h"
#include "tls/tls_impl.h"

/*
 * A peer that refuses our certificate may say so in the clear although we expect ciphertext by then
 * (OpenSSL does, in TLS 1.3); wolfSSL only reports a bad header. The alert is not authentic, but it
 * explains the end better than anything else.
 */
static void handshake_watch_bytes(struct tls_watch *watch, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        size_t at = watch->have++;
        if (at < RECORD_HEADER)
            watch->header[at] = data[i];
        else if (at < RECORD_HEADER + sizeof(watch->alert))
            watch->alert[at - RECORD_HEADER] = data[i];
        if (watch->have < RECORD_HEADER)
            continue;
        size_t body = (size_t)watch->header[3] << 8 | watch->header[4];
        if (watch->have < RECORD_HEADER + body)
            continue;
        watch->have = 0;
        watch->alerted = watch->header[0] == RECORD_TYPE_ALERT && body == sizeof(watch->alert);
        if (watch->alerted)
            return;
    }
}

/* Buffers */

static int handshake_io_recv(WOLFSSL *wolf, char *buf, int size, void *arg)
{
    struct tls_handshake *handshake = arg;
    size_t have = handshake->in_len - handshake->in_at;
    size_t n = (size_t)size < have ? (size_t)size : have;

    (void)wolf;
    if (n == 0)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    memcpy(buf, handshake->in + handshake->in_at, n);
    if (!handshake->watch.alerted)
        handshake_watch_bytes(&handshake->watch, handshake->in + handshake->in_at, n);
    handshake->in_at += n;
    return (int)n;
}

static bool handshake_out_reserve(struct tls_handshake *handshake, size_t more)
{
    size_t need = handshake->out_len + more;
    size_t size = handshake->out_size > 0 ? handshake->out_size : 4096;

    if (need > TLS_OUT_MAX)
        return false;
    while (size < need)
        size *= 2;
    if (size == handshake->out_size)
        return true;
    uint8_t *out = tls_short_pass(realloc(handshake->out, size), size);
    if (out == NULL)
        return false;
    handshake->out = out;
    handshake->out_size = size;
    return true;
}

static int handshake_io_send(WOLFSSL *wolf, char *buf, int size, void *arg)
{
    struct tls_handshake *handshake = arg;

    (void)wolf;
    if (!handshake_out_reserve(handshake, (size_t)size))
        return WOLFSSL_CBIO_ERR_GENERAL;
    memcpy(handshake->out + handshake->out_len, buf, (size_t)size);
    handshake->out_len += (size_t)size;
    return size;
}

size_t tls_handshake_feed(struct tls_handshake *handshake, const uint8_t *data, size_t len)
{
    if (handshake->state != TLS_WANT_READ)
        return 0;
    if (handshake->in_at > 0) {
        handshake->in_len -= handshake->in_at;
        memmove(handshake->in, handshake->in + handshake->in_at, handshake->in_len);
        handshake->in_at = 0;
    }
    size_t room = sizeof(handshake->in) - handshake->in_len;
    size_t n = len < room ? len : room;
    if (n > 0)
        memcpy(handshake->in + handshake->in_len, data, n);
    handshake->in_len += n;
    return n;
}

const uint8_t *tls_handshake_output(struct tls_handshake *handshake, size_t *len)
{
    /* In ASK the last flight waits for the answer. */
    *len = handshake->state == TLS_ASK ? 0 : handshake->out_len - handshake->out_at;
    return handshake->out != NULL ? handshake->out + handshake->out_at : handshake->in;
}

void tls_handshake_output_done(struct tls_handshake *handshake, size_t sent)
{
    CHECK(sent <= handshake->out_len - handshake->out_at);
    handshake->out_at += sent;
    if (handshake->out_at == handshake->out_len) {
        handshake->out_at = 0;
        handshake->out_len = 0;
    }
}

uint8_t *tls_handshake_leftover(struct tls_handshake *handshake, size_t *len)
{
    CHECK(handshake->state == TLS_DONE);
    *len = handshake->in_len - handshake->in_at;
    return handshake->in + handshake->in_at;
}

/* Life */

static bool handshake_is_address(const char *name)
{
    uint8_t address[16];

    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

static bool handshake_wolf_start(struct tls_handshake *handshake)
{
    struct tls_ctx *ctx = handshake->ctx;

    handshake->wolf = wolfSSL_new(ctx->wolf);
    if (handshake->wolf == NULL)
        return false;
    wolfSSL_SSLSetIORecv(handshake->wolf, handshake_io_recv);
    wolfSSL_SSLSetIOSend(handshake->wolf, handshake_io_send);
    wolfSSL_SetIOReadCtx(handshake->wolf, handshake);
    wolfSSL_SetIOWriteCtx(handshake->wolf, handshake);
    wolfSSL_SetCertCbCtx(handshake->wolf, handshake);
    wolfSSL_SetEccSignCtx(handshake->wolf, ctx->sign_key);
    wolfSSL_KeepArrays(handshake->wolf); /* the exporter's secret, the client random */
    if (handshake->name == NULL || handshake_is_address(handshake->name))
        return true;
    return wolfSSL_UseSNI(handshake->wolf, WOLFSSL_SNI_HOST_NAME, handshake->name,
                          (unsigned short)strlen(handshake->name)) == WOLFSSL_SUCCESS;
}

struct tls_handshake *tls_handshake_new(struct tls_ctx *ctx, const char *name, const char *known_as)
{
    CHECK((name != NULL) == (ctx->role == TLS_CLIENT));
    CHECK(known_as != NULL || ctx->trust != TLS_TRUST_KNOWN);

    struct tls_handshake *handshake = secret_alloc(sizeof(*handshake));
    if (handshake == NULL)
        return NULL;
    handshake->ctx = tls_ctx_ref(ctx);
    handshake->state = TLS_WANT_READ;
    handshake->name = name != NULL ? strdup(name) : NULL;
    handshake->known_as = known_as != NULL ? strdup(known_as) : NULL;
    if ((name == NULL || handshake->name != NULL) &&
        (known_as == NULL || handshake->known_as != NULL) && handshake_wolf_start(handshake))
        return handshake;
    tls_handshake_free(handshake);
    return NULL;
}

static void handshake_wipe_secrets(struct tls_handshake *handshake)
{
    explicit_bzero(&handshake->client_secrets, sizeof(handshake->client_secrets));
    explicit_bzero(&handshake->server_secrets, sizeof(handshake->server_secrets));
}

void tls_handshake_free(struct tls_handshake *handshake)
{
    if (handshake == NULL)
        return;
    wolfSSL_free(handshake->wolf);
    tls_ctx_unref(handshake->ctx);
    free(handshake->name);
    free(handshake->known_as);
    free(handshake->out);
    secret_free(handshake);
}

/* Ends */

/* Every end of a handshake passes here or through handshake_finish_done(). */
static enum tls_state handshake_finish_failed(struct tls_handshake *handshake)
{
    CHECK(handshake->state == TLS_WANT_READ || handshake->state == TLS_ASK);
    CHECK(handshake->fail != TLS_FAIL_NONE);
    handshake->state = TLS_FAILED;
    wolfSSL_free(handshake->wolf);
    handshake->wolf = NULL;
    handshake_wipe_secrets(handshake);
    explicit_bzero(&handshake->keys, sizeof(handshake->keys));
    return TLS_FAILED;
}

static enum tls_state handshake_failed_with(struct tls_handshake *handshake, enum tls_fail fail)
{
    tls_why_set(handshake, fail);
    return handshake_finish_failed(handshake);
}

static enum tls_state handshake_finish_done(struct tls_handshake *handshake)
{
    const struct tls_ctx *ctx = handshake->ctx;

    if (handshake->key_is_new &&
        !tls_known_append(ctx->known_servers, handshake->known_as, handshake->peer_pin))
        tls_ctx_warn(
            ctx, "the known_servers file cannot be written: the server's key is not remembered");
    handshake->state = TLS_DONE;
    return TLS_DONE;
}

/* wolfSSL is content. */
static enum tls_state handshake_shaken(struct tls_handshake *handshake)
{
    const struct tls_ctx *ctx = handshake->ctx;

    if (ctx->trust != TLS_TRUST_NOBODY && !handshake->peer_ok) {
        /* Cannot be: wolfSSL calls verify() for every peer that shows a certificate, and insists on
         * one. */
        handshake->out_len = handshake->out_at = 0;
        return handshake_failed_with(handshake, TLS_FAIL_INTERNAL);
    }
    if (!tls_keys_export(handshake)) {
        handshake->out_len = handshake->out_at = 0;
        return handshake_failed_with(handshake, handshake->detail[0] != '\0' ? TLS_FAIL_NO_CIPHER
                                                                             : TLS_FAIL_INTERNAL);
    }
    tls_keylog_write(handshake);
    handshake_wipe_secrets(handshake);
    wolfSSL_free(handshake->wolf);
    handshake->wolf = NULL;
    if (handshake->key_is_new && ctx->new_key == TLS_NEW_ASK) {
        handshake->state = TLS_ASK;
        return TLS_ASK;
    }
    return handshake_finish_done(handshake);
}

static enum tls_fail handshake_fail_of_error(int error)
{
    switch (error) {
    case VERSION_ERROR:
    case UNSUPPORTED_PROTO_VERSION:
        return TLS_FAIL_VERSION;
    case MATCH_SUITE_ERROR:
    case UNSUPPORTED_SUITE:
    case BAD_KEY_SHARE_DATA:
    case ECC_CURVETYPE_ERROR:
    case ECC_CURVE_ERROR:
        return TLS_FAIL_NO_CIPHER;
    case MEMORY_E:
    case MEMORY_ERROR:
        return TLS_FAIL_NO_MEMORY;
    default:
        return TLS_FAIL_PROTOCOL;
    }
}

/* What the peer says is wrong; -1 when it says nothing. */
static int handshake_alert_of_peer(struct tls_handshake *handshake)
{
    WOLFSSL_ALERT_HISTORY alerts = { .last_rx = { .code = -1 } };

    /* wolfSSL stops at the header; the alert's body is still in our buffer */
    if (!handshake->watch.alerted)
        handshake_watch_bytes(&handshake->watch, handshake->in + handshake->in_at,
                              handshake->in_len - handshake->in_at);

    wolfSSL_get_alert_history(handshake->wolf, &alerts);
    if (alerts.last_rx.code >= 0)
        return alerts.last_rx.code;
    return handshake->watch.alerted ? handshake->watch.alert[1] : -1;
}

/* A client that was asked for its certificate and sent none: wolfSSL has different numbers for it
 * in TLS 1.2 and 1.3. */
static bool handshake_client_sent_none(const struct tls_handshake *handshake, int error)
{
    return handshake->ctx->role == TLS_SERVER && handshake->ctx->trust == TLS_TRUST_CA &&
           handshake->peer_pin[0] == '\0' && (error == NO_PEER_CERT || error == VERIFY_CERT_ERROR);
}

/* wolfSSL has given up; find the most telling reason: the certificate, then the peer's alert, then
 * wolfSSL's number. */
static enum tls_state handshake_shake_failed(struct tls_handshake *handshake, int error)
{
    char text[80] = ""; /* WOLFSSL_MAX_ERROR_SZ */

    if (handshake->cert_fail != TLS_FAIL_NONE)
        return handshake_failed_with(handshake, handshake->cert_fail);
    int alert = handshake_alert_of_peer(handshake);
    if (alert >= 0) {
        snprintf(handshake->detail, sizeof(handshake->detail), "it sent the alert %s",
                 record_alert_name((uint8_t)alert));
        return handshake_failed_with(handshake,
                                     tls_why_of_alert(handshake->ctx->role, (uint8_t)alert));
    }
    if (handshake_client_sent_none(handshake, error))
        return handshake_failed_with(handshake, TLS_FAIL_CLIENT_CERT_MISSING);
    enum tls_fail fail = handshake_fail_of_error(error);
    if (fail == TLS_FAIL_PROTOCOL) {
        wolfSSL_ERR_error_string((unsigned long)error, text);
        snprintf(handshake->detail, sizeof(handshake->detail), "%s", text);
    }
    return handshake_failed_with(handshake, fail);
}

/*
 * The client's order of ciphers counts if it begins with one of TLS 1.3. With an order that begins
 * with one of TLS 1.2 (Go's does) wolfSSL would choose that for a TLS 1.3 connection, and then fail
 * with VERSION_ERROR. A hello in pieces gets the server's order.
 */
static void handshake_take_client_order(struct tls_handshake *handshake)
{
    size_t at = RECORD_HEADER + 4 + 2 + 32; /* RFC 8446, 4.1.2: up to legacy_session_id */

    if (!handshake->ctx->client_order || handshake->in_len <= at)
        return;
    at += 1u + handshake->in[at] + 2; /* to the first suite */
    if (at < handshake->in_len && handshake->in[at] == 0x13)
        wolfSSL_UseClientSuites(handshake->wolf);
}

/* The first byte decides whether this is TLS at all; for the sentence, as many as have come. */
static bool handshake_is_plaintext(struct tls_handshake *handshake)
{
    if (handshake->sniffed || handshake->in_len == 0)
        return false;
    enum tls_sniff sniff = tls_sniff(handshake->in, handshake->in_len);
    handshake->sniffed = true;
    if (sniff == TLS_SNIFF_TLS) {
        handshake_take_client_order(handshake);
        return false;
    }
    tls_why_plaintext(handshake, sniff);
    if (sniff == TLS_SNIFF_OLD_SSL)
        tls_why_set(handshake, TLS_FAIL_VERSION);
    return true;
}

static __attribute__((noinline)) enum tls_state handshake_step(struct tls_handshake *handshake)
{
    tls_stepping = handshake;
    int result = handshake->ctx->role == TLS_SERVER ? wolfSSL_accept(handshake->wolf)
                                                    : wolfSSL_connect(handshake->wolf);
    int error = wolfSSL_get_error(handshake->wolf, result);
    tls_stepping = NULL;
    wolfSSL_ERR_clear_error(); /* wolfSSL's queue of this thread would grow */
    if (result == WOLFSSL_SUCCESS)
        return handshake_shaken(handshake);
    if (error == WOLFSSL_ERROR_WANT_READ)
        return TLS_WANT_READ;
    return handshake_shake_failed(handshake, error);
}

enum tls_state tls_handshake_step(struct tls_handshake *handshake)
{
    if (handshake->state != TLS_WANT_READ)
        return handshake->state;
    if (handshake_is_plaintext(handshake))
        return handshake_finish_failed(handshake);
    enum tls_state state = handshake_step(handshake);
    tls_mem_wipe_stack();
    return state;
}

enum tls_state tls_handshake_answer(struct tls_handshake *handshake, bool accept)
{
    CHECK(handshake->state == TLS_ASK);
    if (accept)
        return handshake_finish_done(handshake);
    handshake->out_len = handshake->out_at = 0; /* our Finished must not follow a refusal */
    return handshake_failed_with(handshake, TLS_FAIL_KEY_REFUSED);
}

enum tls_state tls_handshake_abort(struct tls_handshake *handshake, enum tls_fail reason)
{
    CHECK(reason == TLS_FAIL_CLOSED || reason == TLS_FAIL_TIMEOUT);
    if (handshake->state == TLS_DONE || handshake->state == TLS_FAILED)
        return handshake->state;
    return handshake_failed_with(handshake, reason);
}

/* What came of it */

enum tls_fail tls_handshake_fail(const struct tls_handshake *handshake)
{
    return handshake->fail;
}

const char *tls_handshake_why(const struct tls_handshake *handshake)
{
    return handshake->why;
}

/* With a frame of its own: the compiler may spill what it copies, and the caller wipes it. */
static __attribute__((noinline)) void handshake_take_keys(struct record_keys *from,
                                                          struct record_keys *to)
{
    *to = *from;
    explicit_bzero(from, sizeof(*from));
}

void tls_handshake_keys(struct tls_handshake *handshake, struct record_keys *keys)
{
    CHECK(handshake->state == TLS_DONE && handshake->keys.version != 0);
    handshake_take_keys(&handshake->keys, keys);
    tls_mem_wipe_stack();
}

const uint8_t *tls_handshake_exporter(const struct tls_handshake *handshake)
{
    CHECK(handshake->state == TLS_DONE);
    return handshake->exporter;
}

const char *tls_handshake_peer_pin(const struct tls_handshake *handshake)
{
    return handshake->peer_pin;
}

const char *tls_handshake_summary(const struct tls_handshake *handshake)
{
    return handshake->summary;
}
