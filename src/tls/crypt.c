/*
 * crypt: core/mux/crypt.h over tls.h, record.h and ktls.h. One struct per lane: the handshake until
 * it is over, then the record engines. The handshake object, and with it wolfSSL's, is freed as
 * soon as the keys are out.
 */
#include "core/mux/crypt.h"

#include "core/base/check.h"
#include "core/mux/crypt_ctx.h"
#include "tls/tls_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/hash.h>
#include <wolfssl/wolfcrypt/hmac.h>

/* For a client that does not speak TLS: a fatal alert, unexpected_message. It does not decrypt it,
 * but it can tell a TLS server by it. */
static const uint8_t plain_alert[] = { RECORD_TYPE_ALERT, 3, 3, 0, 2, 2, 10 };

struct crypt {
    struct crypt_ctx *ctx; /* with both names: of a handshake that has not begun */
    char *name, *known_as;
    struct tls_handshake *handshake; /* NULL once the keys are out */
    struct record *record;           /* NULL before */
    uint8_t *leftover;               /* of the handshake, until taken */
    size_t leftover_size;
    bool plain_peer; /* plain_alert is to be sent */
    bool is_short;   /* crypt_short */
    bool is_clock;   /* crypt_is_clock */
    bool rx_due; /* the kernel sends; it is to receive when user space has opened what it holds */
    uint8_t exporter[CRYPT_MAC_SIZE];
    char pin[TLS_PIN_SIZE];
    char summary[128];
    char why[TLS_WHY_SIZE];
};

static struct tls_ctx *crypt_tls_of(struct crypt_ctx *ctx)
{
    return (struct tls_ctx *)ctx;
}

/* Contexts: see core/mux/crypt_ctx.h */

static const char *crypt_given(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

/* Made once, for the whole life of the program: contexts that come after it have the same key, and
 * so the same pin. Only one thread opens contexts. */
static struct crypt_ctx *crypt_open_in_memory(const struct crypt_config *config,
                                              struct tls_config *tls, char *why, size_t why_size)
{
    static struct tls_own_pair own;

    if (own.key.data == NULL && !tls_own_pair_make(crypt_given(config->name), &own, why, why_size))
        return NULL;
    tls->cert = (struct tls_pem){ own.cert.data, own.cert.len };
    tls->key = (struct tls_pem){ own.key.data, own.key.len };
    return (struct crypt_ctx *)tls_ctx_new(tls, why, why_size);
}

struct crypt_ctx *crypt_ctx_open(const struct crypt_config *config, char *why, size_t why_size)
{
    struct tls_config tls = {
        .role = config->server ? TLS_SERVER : TLS_CLIENT,
        .min_version = config->allow_12 ? RECORD_TLS12 : RECORD_TLS13,
        .cert_file = crypt_given(config->cert),
        .key_file = crypt_given(config->key),
        .ca_file = crypt_given(config->ca),
        .pin = crypt_given(config->pin),
        .known_servers = crypt_given(config->known_servers),
        .new_key = config->accept_new ? TLS_NEW_ACCEPT
                   : config->ask      ? TLS_NEW_ASK
                                      : TLS_NEW_REFUSE,
        .keylog_file = crypt_given(config->keylog),
        .warn = config->warn,
    };

    if (config->in_memory)
        return crypt_open_in_memory(config, &tls, why, why_size);
    return (struct crypt_ctx *)tls_ctx_new(&tls, why, why_size);
}

struct crypt_ctx *crypt_ctx_ref(struct crypt_ctx *ctx)
{
    return (struct crypt_ctx *)tls_ctx_ref(crypt_tls_of(ctx));
}

void crypt_ctx_unref(struct crypt_ctx *ctx)
{
    if (ctx != NULL)
        tls_ctx_unref(crypt_tls_of(ctx));
}

const char *crypt_ctx_pin(const struct crypt_ctx *ctx)
{
    return tls_ctx_pin((const struct tls_ctx *)ctx);
}

bool crypt_make_certificate(const char *dir, const char *name, char *why, size_t why_size)
{
    const char *names[] = { name };
    struct tls_gen gen = { .dir = dir, .names = names, .name_count = name != NULL ? 1 : 0 };

    return tls_gen_cert(&gen, why, why_size);
}

bool crypt_certificate_dates(const char *cert, struct crypt_dates *dates)
{
    struct tls_dates from;

    if (!tls_cert_dates(cert, &from))
        return false;
    *dates = (struct crypt_dates){ .days = from.days,
                                   .early = from.early,
                                   .clock_is_set = from.clock_is_set };
    snprintf(dates->text, sizeof(dates->text), "%s", from.text);
    return true;
}

bool crypt_certificate_name(const char *cert, char *name, size_t size)
{
    return tls_cert_public_name(cert, name, size);
}

bool crypt_renew_certificate(const char *dir, char *why, size_t why_size)
{
    return tls_cert_renew(dir, why, why_size);
}

/* Lanes */

struct crypt *crypt_open(struct crypt_ctx *ctx, const char *name, const char *known_as)
{
    struct crypt *crypt = calloc(1, sizeof(*crypt));

    if (crypt == NULL)
        return NULL;
    crypt->ctx = crypt_ctx_ref(ctx);
    crypt->name = name != NULL ? strdup(name) : NULL;
    crypt->known_as = known_as != NULL ? strdup(known_as) : NULL;
    if ((crypt->name != NULL) == (name != NULL) && (crypt->known_as != NULL) == (known_as != NULL))
        return crypt;
    crypt_close(crypt);
    return NULL;
}

/* What the handshake was made from is done with. */
static void crypt_drop_parts(struct crypt *crypt)
{
    crypt_ctx_unref(crypt->ctx);
    free(crypt->name);
    free(crypt->known_as);
    crypt->ctx = NULL;
    crypt->name = crypt->known_as = NULL;
}

/* With the first step, not when a connection is accepted: it takes some 50 us, and a worker accepts
 * hundreds in one turn but makes one step. */
static bool crypt_begin(struct crypt *crypt)
{
    crypt->handshake = tls_handshake_new(crypt_tls_of(crypt->ctx), crypt->name, crypt->known_as);
    crypt_drop_parts(crypt);
    return crypt->handshake != NULL;
}

void crypt_close(struct crypt *crypt)
{
    if (crypt == NULL)
        return;
    crypt_drop_parts(crypt);
    tls_handshake_free(crypt->handshake);
    record_free(crypt->record);
    free(crypt->leftover);
    free(crypt);
}

/* `why`: what was short, or NULL. */
static enum crypt_step crypt_failed(struct crypt *crypt, const char *why)
{
    const char *text = why != NULL ? why : tls_handshake_why(crypt->handshake);

    snprintf(crypt->why, sizeof(crypt->why), "%s", text);
    crypt->is_short = why != NULL;
    return CRYPT_FAILED;
}

static const char *crypt_what_is_short(void)
{
    return tls_short_text() != NULL ? tls_short_text() : "out of memory";
}

static enum crypt_step crypt_keys_out(struct crypt *crypt)
{
    struct record_keys keys;
    size_t size = 0;

    snprintf(crypt->summary, sizeof(crypt->summary), "%s", tls_handshake_summary(crypt->handshake));
    snprintf(crypt->pin, sizeof(crypt->pin), "%s", tls_handshake_peer_pin(crypt->handshake));
    memcpy(crypt->exporter, tls_handshake_exporter(crypt->handshake), sizeof(crypt->exporter));
    const uint8_t *leftover = tls_handshake_leftover(crypt->handshake, &size);
    if (size > 0) {
        crypt->leftover = malloc(size);
        if (crypt->leftover != NULL)
            memcpy(crypt->leftover, leftover, size);
        crypt->leftover_size = size;
    }
    tls_handshake_keys(crypt->handshake, &keys);
    crypt->record = record_new(&keys);
    record_keys_wipe(&keys);
    if (crypt->record != NULL && (size == 0 || crypt->leftover != NULL))
        return CRYPT_READY;
    return crypt_failed(crypt, crypt_what_is_short());
}

static enum crypt_step crypt_step_of(struct crypt *crypt, enum tls_state state)
{
    switch (state) {
    case TLS_WANT_READ:
        return CRYPT_WANT;
    case TLS_ASK:
        return CRYPT_ASK;
    case TLS_DONE:
        return crypt_keys_out(crypt);
    default:
        crypt->plain_peer = tls_handshake_fail(crypt->handshake) == TLS_FAIL_PLAINTEXT;
        crypt->is_clock = tls_why_is_clock(tls_handshake_fail(crypt->handshake));
        if (tls_handshake_fail(crypt->handshake) == TLS_FAIL_NO_MEMORY)
            return crypt_failed(crypt, crypt_what_is_short());
        return crypt_failed(crypt, tls_short_text());
    }
}

enum crypt_step crypt_handshake(struct crypt *crypt, const uint8_t *in, size_t size)
{
    enum tls_state state = TLS_WANT_READ;

    CHECK(crypt->record == NULL);
    tls_short_watch();
    if (crypt->handshake == NULL && !crypt_begin(crypt))
        return crypt_failed(crypt, crypt_what_is_short());
    do {
        size_t taken = size > 0 ? tls_handshake_feed(crypt->handshake, in, size) : 0;

        state = tls_handshake_step(crypt->handshake);
        if (size > 0 && taken == 0)
            break; /* cannot be: a step that waits has consumed what it had */
        in = in != NULL ? in + taken : NULL;
        size -= taken;
    } while (size > 0 && state == TLS_WANT_READ);
    /* DONE with bytes left: they are records, and the handshake keeps what it was fed */
    while (size > 0 && state == TLS_DONE) {
        size_t taken = tls_handshake_feed(crypt->handshake, in, size);

        if (taken == 0)
            break;
        in += taken;
        size -= taken;
    }
    return crypt_step_of(crypt, state);
}

enum crypt_step crypt_answer(struct crypt *crypt, bool accept)
{
    tls_short_watch();
    return crypt_step_of(crypt, tls_handshake_answer(crypt->handshake, accept));
}

const char *crypt_question(const struct crypt *crypt)
{
    return tls_handshake_peer_pin(crypt->handshake);
}

size_t crypt_output_size(const struct crypt *crypt)
{
    size_t size = 0;

    if (crypt->handshake == NULL)
        return 0;
    (void)tls_handshake_output(crypt->handshake, &size);
    return size + (crypt->plain_peer ? sizeof(plain_alert) : 0);
}

size_t crypt_output(struct crypt *crypt, uint8_t *dst, size_t room)
{
    size_t size = 0;
    const uint8_t *out = tls_handshake_output(crypt->handshake, &size);

    if (size > room)
        size = room;
    if (size > 0)
        memcpy(dst, out, size);
    tls_handshake_output_done(crypt->handshake, size);
    if (crypt->plain_peer && room - size >= sizeof(plain_alert)) {
        memcpy(dst + size, plain_alert, sizeof(plain_alert));
        size += sizeof(plain_alert);
        crypt->plain_peer = false;
    }
    return size;
}

size_t crypt_leftover_size(const struct crypt *crypt)
{
    return crypt->leftover_size;
}

void crypt_leftover(struct crypt *crypt, uint8_t *dst, size_t size)
{
    CHECK(size == crypt->leftover_size);
    if (size > 0)
        memcpy(dst, crypt->leftover, size);
    free(crypt->leftover);
    crypt->leftover = NULL;
    crypt->leftover_size = 0;
    tls_handshake_free(crypt->handshake); /* its output was taken before */
    crypt->handshake = NULL;
}

/* Both directions are tried by themselves: a kernel may take only one. */
static int crypt_take(struct crypt *crypt, int fd, bool rx)
{
    int error = ktls_attach(fd);
    int tx = error == 0 && !crypt->rx_due ? ktls_take(crypt->record, RECORD_TX, fd) : error;

    crypt->rx_due = error == 0 && !rx;
    if (error == 0 && rx)
        error = ktls_take(crypt->record, RECORD_RX, fd);
    return tx != 0 ? tx : error;
}

bool crypt_offload_due(const struct crypt *crypt)
{
    return crypt->rx_due && record_error(crypt->record) == RECORD_ERROR_NONE &&
           !record_closed(crypt->record, RECORD_RX);
}

bool crypt_offload(struct crypt *crypt, int fd, bool rx, bool force)
{
    int error = crypt_take(crypt, fd, rx);

    /* Without a connection there is no engine to choose; why the peer ended it may still be
     * read. */
    if (error == 0 || error == -ENOTCONN || !force)
        return true;
    snprintf(crypt->why, sizeof(crypt->why), "--record-engine ktls: %s", ktls_why(error));
    return false;
}

bool crypt_tx_kernel(const struct crypt *crypt)
{
    return crypt->record != NULL && record_engine(crypt->record, RECORD_TX) == RECORD_KTLS;
}

bool crypt_rx_kernel(const struct crypt *crypt)
{
    return crypt->record != NULL && record_engine(crypt->record, RECORD_RX) == RECORD_KTLS;
}

void crypt_exporter(const struct crypt *crypt, uint8_t exporter[CRYPT_MAC_SIZE])
{
    memcpy(exporter, crypt->exporter, CRYPT_MAC_SIZE);
}

bool crypt_is_12(const struct crypt *crypt)
{
    return crypt->record != NULL && record_version(crypt->record) == RECORD_TLS12;
}

const char *crypt_summary(struct crypt *crypt)
{
    char engines[48];
    size_t used = strlen(crypt->summary);

    snprintf(engines, sizeof(engines), ", records sent by %s, received by %s",
             crypt_tx_kernel(crypt) ? "ktls" : "user", crypt_rx_kernel(crypt) ? "ktls" : "user");
    if (strstr(crypt->summary, ", records") == NULL)
        snprintf(crypt->summary + used, sizeof(crypt->summary) - used, "%s", engines);
    return crypt->summary;
}

bool crypt_short(const struct crypt *crypt)
{
    return crypt->is_short;
}

bool crypt_is_clock(const struct crypt *crypt)
{
    return crypt->is_clock;
}

const char *crypt_why(const struct crypt *crypt)
{
    if (crypt->why[0] == '\0' && crypt->record != NULL)
        return record_error_text(record_error(crypt->record));
    return crypt->why;
}

size_t crypt_seal(struct crypt *crypt, const struct iovec *slices, unsigned count, uint8_t *dst)
{
    return record_seal_slices(crypt->record, RECORD_TYPE_DATA, slices, (int)count, dst);
}

bool crypt_update_due(const struct crypt *crypt)
{
    return record_update_due(crypt->record);
}

size_t crypt_put(struct crypt *crypt, enum crypt_control what, uint8_t *dst, uint8_t *type)
{
    size_t size = 0;

    if (what == CRYPT_PUT_UPDATE)
        size = record_put_key_update(crypt->record, dst);
    else if (what == CRYPT_PUT_CLOSE)
        size = record_put_close(crypt->record, dst);
    else if (record_error_alert(record_error(crypt->record)) != 0)
        size =
            record_put_alert(crypt->record, record_error_alert(record_error(crypt->record)), dst);
    *type = (uint8_t)record_put_type(crypt->record);
    return size;
}

/* What the peer's alert means for the operator of this side (RFC 8446, 6.2). */
static const char *crypt_alert_cure(uint8_t alert)
{
    switch (alert) {
    case 116: /* certificate_required: in TLS 1.3 it comes when the client thinks that it is in */
        return ": it wants a client certificate, signed by a CA that it trusts (--tls-cert and "
               "--tls-key)";
    case 42: /* bad_certificate */
    case 46: /* certificate_unknown */
    case 48: /* unknown_ca */
        return ": it does not trust the certificate of this side (--tls-cert)";
    default:
        return "; see its log";
    }
}

static void crypt_note_alert(struct crypt *crypt)
{
    uint8_t alert = record_peer_alert(crypt->record);

    if (record_error(crypt->record) == RECORD_ERROR_PEER_ALERT)
        snprintf(crypt->why, sizeof(crypt->why),
                 "the peer ended the connection with the alert %s%s", record_alert_name(alert),
                 crypt_alert_cure(alert));
}

static enum crypt_opened crypt_opened_of(struct crypt *crypt, enum record_status status)
{
    switch (status) {
    case RECORD_MORE:
        return CRYPT_MORE;
    case RECORD_DATA:
        return CRYPT_DATA;
    case RECORD_SKIP:
        return CRYPT_SKIP;
    case RECORD_CLOSED:
        return CRYPT_CLOSED;
    default:
        crypt_note_alert(crypt);
        return CRYPT_BROKEN;
    }
}

size_t crypt_record_room(const uint8_t *src, const uint8_t *end)
{
    size_t have = (size_t)(end - src);

    if (have < RECORD_HEADER)
        return 0;
    size_t size = (size_t)src[3] << 8 | src[4];
    if (size == 0 || size > RECORD_WIRE_MAX - RECORD_HEADER)
        return CRYPT_PAYLOAD;
    if (have < RECORD_HEADER + size)
        return 0;
    return size < CRYPT_PAYLOAD ? size : CRYPT_PAYLOAD;
}

enum crypt_opened crypt_open_record(struct crypt *crypt, uint8_t *src, uint8_t *end, uint8_t *dst,
                                    size_t *used, size_t *size)
{
    struct record_in in = { .next = src };
    enum crypt_opened opened = crypt_opened_of(crypt, record_open(crypt->record, src, end, &in));

    *used = opened == CRYPT_MORE || opened == CRYPT_BROKEN ? 0 : (size_t)(in.next - src);
    if (opened == CRYPT_CLOSED) /* what follows is nobody's (RFC 8446, 6.1) */
        *used = (size_t)(end - src);
    *size = 0;
    if (opened == CRYPT_DATA) {
        CHECK(in.len <= CRYPT_PAYLOAD);
        memcpy(dst, in.data, in.len);
        *size = in.len;
    }
    return opened;
}

CHECK_STATIC(CRYPT_CMSG == KTLS_CMSG_SIZE, "the lane's control messages are those of the kernel");

void crypt_send_type(struct msghdr *msg, void *control, uint8_t type)
{
    ktls_send_type(msg, control, (enum record_type)type);
}

uint8_t crypt_recv_type(struct msghdr *msg)
{
    return (uint8_t)ktls_recv_type(msg);
}

enum crypt_opened crypt_control(struct crypt *crypt, uint8_t type, uint8_t *payload, size_t size)
{
    struct record_in in;

    return crypt_opened_of(
        crypt, record_control(crypt->record, (enum record_type)type, payload, size, &in));
}

void crypt_sent(struct crypt *crypt, uint32_t bytes)
{
    record_tx_count(crypt->record, bytes);
}

static bool crypt_rekey_side(struct crypt *crypt, enum record_side side, int fd)
{
    if (record_engine(crypt->record, side) != RECORD_KTLS || !record_rekeyed(crypt->record, side))
        return true;
    int error = ktls_rekey(crypt->record, side, fd);
    if (error == 0)
        return true;
    snprintf(crypt->why, sizeof(crypt->why), "%s", ktls_why(error));
    return false;
}

bool crypt_rekey(struct crypt *crypt, int fd)
{
    return crypt_rekey_side(crypt, RECORD_TX, fd) && crypt_rekey_side(crypt, RECORD_RX, fd);
}

const char *crypt_sniff(const uint8_t *src, size_t size, bool server, bool *tls)
{
    enum tls_sniff sniff = tls_sniff(src, size);

    *tls = sniff == TLS_SNIFF_TLS || sniff == TLS_SNIFF_OLD_SSL;
    switch (sniff) {
    case TLS_SNIFF_TLS:
    case TLS_SNIFF_OLD_SSL:
        return server ? "the peer speaks TLS and this side does not: start this server without "
                        "--plain, or that client with it"
                      : "the peer speaks TLS and this side does not: give this client --tls in "
                        "place of --plain, or start the server with --plain";
    case TLS_SNIFF_HTTP:
        return "the peer speaks HTTP: this connection is for tunnel clients and their server, "
               "visitors use the tunnel's public port";
    case TLS_SNIFF_SSH:
        return "the peer speaks SSH: the address is another service's";
    case TLS_SNIFF_OTHER:
        return server ? "the peer is no tunnel client: who connects to this port that is none?"
                      : "the peer is no tunnel server: is the port the right one?";
    default:
        return NULL;
    }
}

bool crypt_eof(struct crypt *crypt)
{
    return crypt->record == NULL || record_eof(crypt->record);
}

/* Digests. wolfCrypt's work on a structure of the caller's stack: they allocate nothing, so that
 * they cannot fail, and take no lock. libcrypto's HMAC() looks its algorithms up under locks and
 * allocates a dozen objects for each mac: it took four times as long. */

static __attribute__((noinline)) void crypt_make_mac(const uint8_t key[CRYPT_MAC_SIZE],
                                                     const void *data, size_t size,
                                                     uint8_t mac[CRYPT_MAC_SIZE])
{
    Hmac hmac;

    CHECK(size <= UINT32_MAX && wc_HmacInit(&hmac, NULL, INVALID_DEVID) == 0 &&
          wc_HmacSetKey(&hmac, WC_SHA256, key, CRYPT_MAC_SIZE) == 0 &&
          wc_HmacUpdate(&hmac, data, (word32)size) == 0 && wc_HmacFinal(&hmac, mac) == 0);
    wc_HmacFree(&hmac);
}

void crypt_mac(const uint8_t key[CRYPT_MAC_SIZE], const void *data, size_t size,
               uint8_t mac[CRYPT_MAC_SIZE])
{
    crypt_make_mac(key, data, size, mac);
    tls_mem_wipe_stack();
}

static __attribute__((noinline)) void crypt_make_hash(const void *data, size_t size,
                                                      uint8_t hash[CRYPT_MAC_SIZE])
{
    CHECK(size <= UINT32_MAX && wc_Sha256Hash(data, (word32)size, hash) == 0);
}

void crypt_hash(const void *data, size_t size, uint8_t hash[CRYPT_MAC_SIZE])
{
    crypt_make_hash(data, size, hash);
    tls_mem_wipe_stack();
}
