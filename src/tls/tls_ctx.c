/*
 * tls_ctx: a struct tls_config turned into a wolfSSL context, once; every mistake in it is found
 * here and named.
 *
 * Shared by all handshakes of all workers and read-only after tls_ctx_new(), so no lock is needed;
 * the reference count is atomic.
 *
 * What is set, and why
 *   versions   1.3 only, or 1.2 and 1.3 when v1 peers are expected; never less
 *   ciphers    AEADs that the record engines have. This CPU's fastest first. A server with AES
 *              instructions follows the client's order, so that the weaker CPU of the two decides;
 *              one without insists on its own
 *   groups     X25519, then P-256 and P-384
 *   no tickets and no session cache: the keys leave wolfSSL after the handshake, and lanes live
 *   long
 *   verify     always on. OPENSSL_COMPATIBLE_DEFAULTS in Debian's build would switch it off for
 *              clients. The CA file is libcrypto's alone (tls_ca.c); wolfSSL's callback asks
 *              tls_peer.c
 *   own chain  checked and written anew by tls_own.c: wolfSSL gets certificates and nothing else
 */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/error-ssl.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "tls/tls_impl.h"

#include "core/base/file.h"
#include "core/base/secret.h"

#define CIPHERS13_AES \
    "TLS13-AES128-GCM-SHA256:TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES256-GCM-SHA384"
#define CIPHERS13_CHACHA \
    "TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384"
#define CIPHERS12_AES                                                                          \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:" \
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
#define CIPHERS12_CHACHA                                                                       \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:" \
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"

/* X509_V_ERR_...: 5.5.4 and 5.7.2 name them differently, the numbers are OpenSSL's in both. */
#define V_SELF_SIGNED_LEAF     18
#define V_SELF_SIGNED_IN_CHAIN 19
#define V_NO_ISSUER_LOCALLY    20
#define V_NO_LEAF_SIGNER       21

struct why {
    char *text;
    size_t size;
};

static pthread_once_t wolf_once = PTHREAD_ONCE_INIT;
static int wolf_started;

static void ctx_wolf_start(void)
{
    wolf_started = wolfSSL_Init() == WOLFSSL_SUCCESS;
}

void tls_ctx_warn(const struct tls_ctx *ctx, const char *text)
{
    if (ctx->warn != NULL)
        ctx->warn(ctx->warn_arg, text);
}

time_t tls_ctx_time(const struct tls_ctx *ctx)
{
    return time(NULL) + ctx->later;
}

static bool ctx_no(struct why *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool ctx_no(struct why *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, why->size, format, args);
    va_end(args);
    return false;
}

/* Own certificate */

struct pem {
    char *text;
    size_t len;
};

/* From a file or from memory; text stays NULL when neither is given. */
static bool ctx_pem_get(const char *what, const char *file, struct tls_pem memory, struct pem *pem,
                        struct why *why)
{
    *pem = (struct pem){ 0 };
    if (memory.data != NULL) {
        pem->text = secret_alloc(memory.len + 1);
        if (pem->text == NULL)
            return ctx_no(why, "out of memory");
        memcpy(pem->text, memory.data, memory.len);
        pem->len = strlen(pem->text);
        return true;
    }
    if (file == NULL)
        return true;
    int result = file_read(file, &pem->text, &pem->len);
    return result == 0 || ctx_no(why, "cannot read the %s %s: %s", what, file, strerror(-result));
}

static void ctx_pem_drop(struct pem *pem)
{
    file_drop(pem->text);
    *pem = (struct pem){ 0 };
}

static const char *ctx_from_where(const char *file)
{
    return file != NULL ? file : "(in memory)";
}

static bool ctx_use_own_chain(struct tls_ctx *ctx, const struct tls_config *config,
                              const char *chain, struct why *why)
{
    return wolfSSL_CTX_use_certificate_chain_buffer(ctx->wolf, (const unsigned char *)chain,
                                                    (long)strlen(chain)) == WOLFSSL_SUCCESS ||
           ctx_no(why, "wolfSSL cannot use the certificate %s", ctx_from_where(config->cert_file));
}

/* Some tools write the chain upside down. */
static bool ctx_no_match(const struct tls_ctx *ctx, const struct tls_config *config,
                         const struct pem *cert, struct why *why)
{
    unsigned member = tls_own_member_of(cert->text, cert->len, ctx->sign_key);

    if (member > 0)
        return ctx_no(why, "the key %s belongs to member %u of %s: put that certificate first",
                      ctx_from_where(config->key_file), member, ctx_from_where(config->cert_file));
    return ctx_no(why, "the key %s does not belong to the certificate %s",
                  ctx_from_where(config->key_file), ctx_from_where(config->cert_file));
}

static bool ctx_no_key(const struct tls_config *config, const struct pem *key, struct why *why)
{
    const char *file = ctx_from_where(config->key_file);
    bool der = key->text[0] == 0x30 && memchr(key->text, '\0', key->len) != NULL;

    if (strstr(key->text, "ENCRYPTED") != NULL)
        return ctx_no(why,
                      "the key %s is encrypted, and nobody is asked for its password: give an "
                      "unencrypted one (openssl pkey -in %s -out FILE)",
                      file, file);
    if (der)
        return ctx_no(why,
                      "the key %s is not in PEM form: openssl pkey -inform DER -in %s -out FILE",
                      file, file);
    return ctx_no(why, "%s has no usable private key: give an unencrypted PEM file", file);
}

static bool ctx_use_own_key(struct tls_ctx *ctx, const struct tls_config *config, const char *chain,
                            const struct pem *cert, const struct pem *key, struct why *why)
{
    bool matches;

    if (wolfSSL_CTX_use_PrivateKey_buffer(ctx->wolf, (const unsigned char *)key->text,
                                          (long)key->len, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        return ctx_no_key(config, key, why);
    ctx->sign_key = tls_pk_load(key->text, key->len, chain, strlen(chain), &matches);
    if (!matches)
        return ctx_no_match(ctx, config, cert, why);
    if (tls_pk_is_ecc(ctx->sign_key))
        wolfSSL_CTX_SetEccSignCb(ctx->wolf, tls_pk_ecc_sign);
    return true;
}

static bool ctx_load_own_pems(struct tls_ctx *ctx, const struct tls_config *config,
                              const struct pem *cert, const struct pem *key, struct why *why)
{
    char *chain;

    if (!tls_own_load(ctx, ctx_from_where(config->cert_file), cert->text, cert->len, &chain,
                      why->text, why->size))
        return false;
    bool ok = ctx_use_own_chain(ctx, config, chain, why) &&
              ctx_use_own_key(ctx, config, chain, cert, key, why);
    free(chain);
    return ok;
}

static bool ctx_load_own(struct tls_ctx *ctx, const struct tls_config *config, struct why *why)
{
    struct pem cert;
    struct pem key = { 0 };

    bool ok = ctx_pem_get("certificate", config->cert_file, config->cert, &cert, why) &&
              ctx_pem_get("private key", config->key_file, config->key, &key, why);
    if (ok && (cert.text == NULL) != (key.text == NULL))
        ok = ctx_no(why,
                    "a certificate needs its key and a key its certificate: give both --tls-cert "
                    "and --tls-key");
    else if (ok && cert.text == NULL && ctx->role == TLS_SERVER)
        ok = ctx_no(
            why,
            "a TLS server needs a certificate: give --tls-cert and --tls-key, or make them with "
            "'culvert gen-cert'");
    else if (ok && cert.text != NULL)
        ok = ctx_load_own_pems(ctx, config, &cert, &key, why);
    ctx_pem_drop(&cert);
    ctx_pem_drop(&key);
    return ok;
}

/* Whom to trust */

static bool ctx_load_ca(struct tls_ctx *ctx, const struct tls_config *config, struct why *why)
{
    struct pem ca;

    if (!ctx_pem_get("CA file", config->ca_file, config->ca, &ca, why))
        return false;
    ctx->ca =
        tls_ca_load(ctx, ctx_from_where(config->ca_file), ca.text, ca.len, why->text, why->size);
    ctx_pem_drop(&ca);
    return ctx->ca != NULL;
}

static bool ctx_client_trust(struct tls_ctx *ctx, const struct tls_config *config, struct why *why)
{
    bool by_ca = config->ca_file != NULL || config->ca.data != NULL;
    int ways = by_ca + (config->pin != NULL) + (config->known_servers != NULL);

    if (ways == 0)
        return ctx_no(
            why,
            "nothing says which server to trust: give --tls-ca, --tls-pin or a known_servers file");
    if (by_ca && config->pin != NULL)
        return ctx_no(why, "--tls-ca and --tls-pin exclude each other: a pin needs no CA");
    if (by_ca) {
        ctx->trust = TLS_TRUST_CA;
        return ctx_load_ca(ctx, config, why);
    }
    if (config->pin != NULL) {
        ctx->trust = TLS_TRUST_PIN;
        return tls_pin_parse(config->pin, ctx->pin) ||
               ctx_no(why,
                      "'%s' is not a pin: it is sha256: and 64 hex digits, as the server prints at "
                      "start, or sha256// and base64, as curl writes it",
                      config->pin);
    }
    ctx->trust = TLS_TRUST_KNOWN;
    ctx->new_key = config->new_key;
    ctx->known_servers = strdup(config->known_servers);
    return ctx->known_servers != NULL || ctx_no(why, "out of memory");
}

static bool ctx_server_trust(struct tls_ctx *ctx, const struct tls_config *config, struct why *why)
{
    if (config->ca_file == NULL && config->ca.data == NULL) {
        ctx->trust = TLS_TRUST_NOBODY;
        return true;
    }
    ctx->trust = TLS_TRUST_CA;
    return ctx_load_ca(ctx, config, why);
}

/* `error` is X509_V_ERR_... or wolfSSL's number, by OPENSSL_COMPATIBLE_DEFAULTS of its build. */
static struct tls_opinion ctx_opinion_of(int error, bool content)
{
    struct tls_opinion opinion = { .content = content };

    switch (error) {
    case ASN_NO_SIGNER_E:
    case ASN_SELF_SIGNED_E:
    case V_SELF_SIGNED_LEAF:
    case V_SELF_SIGNED_IN_CHAIN:
    case V_NO_ISSUER_LOCALLY:
    case V_NO_LEAF_SIGNER:
        opinion.issuer_unknown = true;
        break;
    default:
        break;
    }
    opinion.text = error > 0 ? wolfSSL_X509_verify_cert_error_string(error)
                             : wolfSSL_ERR_reason_error_string((unsigned long)error);
    return opinion;
}

/* Called by wolfSSL for each certificate of the peer's chain, its own last. */
static int ctx_verify(int chain_ok, WOLFSSL_X509_STORE_CTX *store)
{
    struct tls_handshake *handshake = store->userCtx;
    struct tls_chain chain = { .count = 0 };
    int depth = store->error_depth;

    if (handshake == NULL || depth < 0 || depth >= store->totalCerts)
        return 0;
    for (; chain.count < TLS_CHAIN_MAX && chain.count < (unsigned)store->totalCerts;
         chain.count++) {
        chain.cert[chain.count].der = store->certs[chain.count].buffer;
        chain.cert[chain.count].len = store->certs[chain.count].length;
    }
    struct tls_opinion opinion = ctx_opinion_of(store->error, chain_ok == 1);
    return tls_peer_judge(handshake, depth, &chain, &opinion);
}

/* The context */

static WOLFSSL_METHOD *ctx_method_of(const struct tls_ctx *ctx)
{
    if (ctx->min_version == RECORD_TLS13)
        return ctx->role == TLS_SERVER ? wolfTLSv1_3_server_method() : wolfTLSv1_3_client_method();
    return ctx->role == TLS_SERVER ? wolfSSLv23_server_method() : wolfSSLv23_client_method();
}

static bool ctx_set_ciphers(struct tls_ctx *ctx)
{
    bool aes = record_cipher_preferred() != RECORD_CHACHA20_POLY1305;
    const char *list = aes ? CIPHERS13_AES : CIPHERS13_CHACHA;

    if (ctx->min_version == RECORD_TLS12)
        list = aes ? CIPHERS13_AES ":" CIPHERS12_AES : CIPHERS13_CHACHA ":" CIPHERS12_CHACHA;
    ctx->client_order = aes && ctx->role == TLS_SERVER;
    return wolfSSL_CTX_set_cipher_list(ctx->wolf, list) == WOLFSSL_SUCCESS;
}

static bool ctx_set_protocol(struct tls_ctx *ctx, struct why *why)
{
    int groups[] = { WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1 };

    bool ok = wolfSSL_CTX_SetMinVersion(ctx->wolf, ctx->min_version == RECORD_TLS12
                                                       ? WOLFSSL_TLSV1_2
                                                       : WOLFSSL_TLSV1_3) == WOLFSSL_SUCCESS &&
              ctx_set_ciphers(ctx) &&
              wolfSSL_CTX_set_groups(ctx->wolf, groups, sizeof(groups) / sizeof(groups[0])) ==
                  WOLFSSL_SUCCESS;
    if (!ok)
        return ctx_no(why,
                      "this wolfSSL lacks TLS 1.3, AES-GCM, ChaCha20-Poly1305 or X25519: install "
                      "the distribution's "
                      "libwolfssl");
    if (ctx->role == TLS_SERVER)
        wolfSSL_CTX_no_ticket_TLSv13(ctx->wolf);
    wolfSSL_CTX_set_session_cache_mode(ctx->wolf, WOLFSSL_SESS_CACHE_OFF);
    wolfSSL_CTX_SetHKDFExpandLabelCb(ctx->wolf, tls_keys_hkdf);
    wolfSSL_CTX_SetEccVerifyCb(ctx->wolf, tls_pk_ecc_verify);
    return true;
}

static bool ctx_set_trust(struct tls_ctx *ctx, const struct tls_config *config, struct why *why)
{
    int mode = WOLFSSL_VERIFY_PEER;

    if (ctx->role == TLS_CLIENT) {
        if (!ctx_client_trust(ctx, config, why))
            return false;
    } else {
        if (!ctx_server_trust(ctx, config, why))
            return false;
        mode = ctx->trust == TLS_TRUST_CA
                   ? WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT
                   : WOLFSSL_VERIFY_NONE; /* a server that asks clients for nothing */
    }
    wolfSSL_CTX_set_verify(ctx->wolf, mode, ctx_verify);
    return true;
}

static bool ctx_set_keylog(struct tls_ctx *ctx, const struct tls_config *config, struct why *why)
{
    char text[256];

    if (config->keylog_file == NULL)
        return true;
    ctx->keylog = tls_keylog_open(config->keylog_file);
    if (ctx->keylog < 0)
        return ctx_no(why, "cannot open the TLS key log %s: %s", config->keylog_file,
                      strerror(errno));
    snprintf(text, sizeof(text),
             "TLS secrets are written to %s: whoever reads it can decrypt this program's traffic",
             config->keylog_file);
    tls_ctx_warn(ctx, text);
    return true;
}

/* With frames of its own, in which both libraries leave the private key: the caller wipes them. */
static __attribute__((noinline)) bool ctx_start(struct tls_ctx *ctx,
                                                const struct tls_config *config, struct why *why)
{
    pthread_once(&wolf_once, ctx_wolf_start);
    if (!wolf_started)
        return ctx_no(why, "wolfSSL does not start");
    ctx->wolf = wolfSSL_CTX_new(ctx_method_of(ctx));
    if (ctx->wolf == NULL)
        return ctx_no(why, "out of memory");
    return ctx_set_protocol(ctx, why) && ctx_load_own(ctx, config, why) &&
           ctx_set_trust(ctx, config, why) && ctx_set_keylog(ctx, config, why);
}

struct tls_ctx *tls_ctx_new(const struct tls_config *config, char *why, size_t why_size)
{
    struct why reason = { why, why_size };
    struct tls_ctx *ctx = calloc(1, sizeof(*ctx));

    CHECK(config->min_version == 0 || config->min_version == RECORD_TLS12 ||
          config->min_version == RECORD_TLS13);
    if (ctx == NULL) {
        ctx_no(&reason, "out of memory");
        return NULL;
    }
    ctx->refs = 1;
    ctx->role = config->role;
    ctx->min_version = config->min_version != 0 ? config->min_version : RECORD_TLS13;
    ctx->keylog = -1;
    ctx->warn = config->warn;
    ctx->warn_arg = config->warn_arg;
    tls_short_watch();
    bool ok = ctx_start(ctx, config, &reason);
    if (!ok && tls_short_text() != NULL)
        ctx_no(&reason, "%s", tls_short_text());
    wolfSSL_ERR_clear_error();
    tls_mem_wipe_stack();
    if (ok)
        return ctx;
    tls_ctx_unref(ctx);
    return NULL;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx)
{
    CHECK(atomic_fetch_add(&ctx->refs, 1) > 0);
    return ctx;
}

void tls_ctx_unref(struct tls_ctx *ctx)
{
    if (ctx == NULL || atomic_fetch_sub(&ctx->refs, 1) != 1)
        return;
    wolfSSL_CTX_free(ctx->wolf);
    tls_ca_free(ctx->ca);
    tls_pk_free(ctx->sign_key);
    if (ctx->keylog >= 0)
        close(ctx->keylog);
    free(ctx->known_servers);
    free(ctx);
}

const char *tls_ctx_pin(const struct tls_ctx *ctx)
{
    return ctx->own_pin;
}
