/*
 * tls_ca: the CA file of --tls-ca, checked member by member when it is loaded, and kept as a store
 * of libcrypto's.
 *
 * The rule of a file is that of a sentence: half of it is not what was meant.
 *
 *   a member is damaged, or no certificate   the file is refused as a whole, the member named
 *   a certificate is out of date             warned about and kept: the clock decides at each
 *                                            handshake
 *   none is in date                          refused, with the dates; a program that can trust
 *                                            nobody should not start
 *   none, but some begin later               kept: it is the clock that is wrong as a rule, of a
 *                                            machine that has just started, and it will be set
 *   a certificate that is no CA              kept, and trusted as the peer's own certificate; it
 *                                            vouches for no other (tls_path.c). Said, unless it is
 *                                            self-signed: that is how one trusts a single server
 *                                            without a CA
 *
 * wolfSSL is given none of it. It would load what is out of date, look at no CA's dates ever again,
 * and keep for good as a CA each intermediate certificate that a peer has once shown. So to it
 * every issuer is unknown, and tls_path.c is the only judge.
 *
 * A CA needs no self-signed certificate above it: an intermediate in the file is a CA like any
 * other.
 *
 * The store is read-only after the load. Beside it a few intermediate certificates of accepted
 * peers are remembered, as bytes and as the object made from them: libcrypto 3.0 takes longer to
 * read a certificate than to verify a signature, and the same ones come with every handshake. They
 * are no more trusted than others for it. A lock guards them.
 */
#include "tls/tls_impl.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "tls/tls_pem.h"

#define CA_REMEMBERED      8u
#define CA_REMEMBERED_SIZE 8192u
#define CA_TOLD_MAX        20u /* warnings about one file */
#define CA_NEAR_DAYS       30L
#define CA_TEXT            448u

struct tls_ca {
    X509_STORE *store;
    pthread_mutex_t mutex; /* guards the rest */
    struct {
        X509 *cert;
        uint8_t *der;
        size_t len;
    } remembered[CA_REMEMBERED];
    unsigned oldest;
};

/* One load. */
struct ca_load {
    struct tls_ctx *ctx;
    const char *name;
    X509_STORE *store;
    time_t now;
    unsigned certs, usable, idle, early, refused, told;
    char refusal[CA_TEXT]; /* of the first member that is refused */
    char first_idle[CA_TEXT];
    char last[192]; /* the usable certificate that lives longest */
    long last_days;
};

/* What is said of members */

static void ca_tell(struct ca_load *load, const char *text)
{
    char line[CA_TEXT + 256];

    if (load->told++ >= CA_TOLD_MAX)
        return;
    snprintf(line, sizeof(line), "the CA file %s: %s", load->name, text);
    tls_ctx_warn(load->ctx, line);
}

/* The first is named by the refusal itself, the others before it. */
static void ca_refuse(struct ca_load *load, const char *text)
{
    if (load->refused++ == 0)
        snprintf(load->refusal, sizeof(load->refusal), "%s", text);
    else
        ca_tell(load, text);
}

/*
 * A certificate that cannot vouch for anybody now. The first waits until there is one that can:
 * without, it is the refusal.
 */
static void ca_idle(struct ca_load *load, const char *text)
{
    if (load->idle++ == 0 && load->usable == 0)
        snprintf(load->first_idle, sizeof(load->first_idle), "%s", text);
    else
        ca_tell(load, text);
}

static void ca_refuse_kind(struct ca_load *load, const struct tls_pem_member *member,
                           const char *name)
{
    char text[CA_TEXT];

    if (member->kind == TLS_PEM_KEY)
        snprintf(text, sizeof(text),
                 "%s is a private key: take it out, a CA file is made of certificates and is given "
                 "to others",
                 name);
    else
        snprintf(text, sizeof(text), "%s is no certificate (%s): take it out", name, member->label);
    ca_refuse(load, text);
}

/* False: it cannot vouch for anybody now. */
static bool ca_look(struct ca_load *load, const X509 *cert, const char *name)
{
    char text[CA_TEXT], date[TLS_WHEN_TEXT];
    enum tls_when when = tls_cert_when(cert, load->now);

    if (X509_get0_pubkey(cert) == NULL) {
        snprintf(text, sizeof(text), "%s has a key of a kind that libcrypto does not know", name);
        ca_idle(load, text);
        return false;
    }
    if (when == TLS_WHEN_GOOD)
        return true;
    tls_cert_when_text(cert, when, load->now, date, sizeof(date));
    snprintf(text, sizeof(text), "%s %s (%s): %s", name,
             when == TLS_WHEN_LATE ? "has expired" : "is not valid yet", date,
             when == TLS_WHEN_LATE ? "put the CA's renewed certificate in its place"
                                   : "check this machine's clock");
    load->early += when == TLS_WHEN_EARLY;
    ca_idle(load, text);
    return false;
}

static void ca_say_if_no_ca(struct ca_load *load, X509 *cert, const char *name)
{
    char text[CA_TEXT];
    uint32_t flags = X509_get_extension_flags(cert);

    if (X509_check_ca(cert) != 0)
        return;
    if ((flags & EXFLAG_CA) != 0)
        snprintf(text, sizeof(text),
                 "%s vouches for nobody: its keyUsage has no keyCertSign; give the certificate by "
                 "which the CA signs",
                 name);
    else if ((flags & EXFLAG_SS) == 0)
        snprintf(text, sizeof(text),
                 "%s is no CA certificate: it is trusted as a peer's own and vouches for no other; "
                 "if the CA that signed it is meant, give that one",
                 name);
    else
        return;
    ca_tell(load, text);
}

static void ca_note_last(struct ca_load *load, const X509 *cert, const char *name)
{
    int days = 0, seconds = 0;

    if (load->usable++ == 0 && load->idle > 0)
        ca_tell(load, load->first_idle);
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) != 1)
        return;
    if (load->usable > 1 && days <= load->last_days)
        return;
    load->last_days = days;
    snprintf(load->last, sizeof(load->last), "%s", name);
}

/* False: out of memory. */
static bool ca_take(struct ca_load *load, const struct tls_pem_member *member)
{
    char text[CA_TEXT], name[192];

    tls_pem_name(member, name, sizeof(name));
    if (member->fault != TLS_PEM_NONE) {
        tls_pem_complaint(member, text, sizeof(text));
        ca_refuse(load, text);
        return true;
    }
    if (member->kind != TLS_PEM_CERT) {
        ca_refuse_kind(load, member, name);
        return true;
    }
    load->certs++;
    if (ca_look(load, member->cert, name)) {
        ca_say_if_no_ca(load, member->cert, name);
        ca_note_last(load, member->cert, name);
    }
    return X509_STORE_add_cert(load->store, member->cert) == 1;
}

/* The file */

static bool ca_no(char *why, size_t why_size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool ca_no(char *why, size_t why_size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, why_size, format, args);
    va_end(args);
    return false;
}

static bool ca_members(struct ca_load *load, const char *text, size_t len)
{
    struct tls_pem_scan scan;
    struct tls_pem_member member;
    bool ok = true;

    tls_pem_start(&scan, text, len);
    while (ok && tls_pem_next(&scan, &member)) {
        ok = ca_take(load, &member);
        tls_pem_drop(&member);
    }
    return ok;
}

static bool ca_refused(const struct ca_load *load, char *why, size_t why_size)
{
    char more[64] = "";

    if (load->refused > 1)
        snprintf(more, sizeof(more), " (and %u more of its members, see above)", load->refused - 1);
    return ca_no(why, why_size, "the CA file %s cannot be used: %s%s", load->name, load->refusal,
                 more);
}

static bool ca_empty(const struct ca_load *load, const char *text, size_t len, char *why,
                     size_t why_size)
{
    bool der = len > 2 && (uint8_t)text[0] == 0x30 && (uint8_t)text[1] >= 0x80;

    return ca_no(why, why_size, "%s has no usable CA certificate in PEM form%s", load->name,
                 der ? ": openssl x509 -inform DER -in FILE makes PEM of it" : "");
}

/* What has not been said of a file that is used. */
static void ca_last_words(struct ca_load *load)
{
    char line[CA_TEXT];

    if (load->told > CA_TOLD_MAX) {
        snprintf(line, sizeof(line), "%u more of its %u members are not in order",
                 load->told - CA_TOLD_MAX, load->certs);
        load->told = 0;
        ca_tell(load, line);
    }
    if (load->last_days >= CA_NEAR_DAYS)
        return;
    snprintf(line, sizeof(line),
             "%s expires in %ld days, and no other lives longer: add the CA's renewed certificate",
             load->last, load->last_days);
    ca_tell(load, line);
}

static bool ca_verdict(struct ca_load *load, const char *text, size_t len, char *why,
                       size_t why_size)
{
    if (load->refused > 0)
        return ca_refused(load, why, why_size);
    if (load->certs == 0)
        return ca_empty(load, text, len, why, why_size);
    if (load->usable == 0 && load->early > 0) {
        ca_tell(load, load->first_idle);
        return true;
    }
    if (load->usable == 0)
        return ca_no(why, why_size, "no certificate of the CA file %s can be used today: %s%s",
                     load->name, load->first_idle,
                     load->certs > 1 ? " (for the others see above)" : "");
    ca_last_words(load);
    return true;
}

/* The trust counts for members of the kind TRUSTED CERTIFICATE, which say what they are for. */
static X509_STORE *ca_store_new(enum tls_role own_role)
{
    X509_STORE *store = X509_STORE_new();

    if (store == NULL)
        return NULL;
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    X509_STORE_set_trust(store,
                         own_role == TLS_CLIENT ? X509_TRUST_SSL_SERVER : X509_TRUST_SSL_CLIENT);
    X509_STORE_set_get_issuer(store, tls_path_issuer);
    return store;
}

static struct tls_ca *ca_new(X509_STORE *store)
{
    struct tls_ca *ca = calloc(1, sizeof(*ca));

    if (ca == NULL)
        return NULL;
    ca->store = store;
    CHECK(pthread_mutex_init(&ca->mutex, NULL) == 0);
    return ca;
}

struct tls_ca *tls_ca_load(struct tls_ctx *ctx, const char *name, const char *text, size_t len,
                           char *why, size_t why_size)
{
    struct ca_load load = { .ctx = ctx, .name = name, .now = tls_ctx_time(ctx) };
    struct tls_ca *ca = NULL;

    ca_no(why, why_size, "out of memory");
    load.store = ca_store_new(ctx->role);
    if (load.store != NULL && ca_members(&load, text, len) &&
        ca_verdict(&load, text, len, why, why_size))
        ca = ca_new(load.store);
    if (ca == NULL)
        X509_STORE_free(load.store);
    ERR_clear_error();
    return ca;
}

void tls_ca_free(struct tls_ca *ca)
{
    if (ca == NULL)
        return;
    for (unsigned i = 0; i < CA_REMEMBERED; i++) {
        X509_free(ca->remembered[i].cert);
        free(ca->remembered[i].der);
    }
    X509_STORE_free(ca->store);
    pthread_mutex_destroy(&ca->mutex);
    free(ca);
}

X509_STORE *tls_ca_store(const struct tls_ca *ca)
{
    return ca->store;
}

/* Intermediate certificates */

/* With the lock. */
static X509 *ca_find(struct tls_ca *ca, const uint8_t *der, size_t len)
{
    for (unsigned i = 0; i < CA_REMEMBERED; i++)
        if (ca->remembered[i].len == len && memcmp(ca->remembered[i].der, der, len) == 0)
            return ca->remembered[i].cert;
    return NULL;
}

X509 *tls_ca_read(struct tls_ca *ca, const uint8_t *der, size_t len)
{
    pthread_mutex_lock(&ca->mutex);
    X509 *cert = ca_find(ca, der, len);
    if (cert != NULL)
        X509_up_ref(cert);
    pthread_mutex_unlock(&ca->mutex);
    return cert != NULL ? cert : d2i_X509(NULL, &der, (long)len);
}

void tls_ca_remember(struct tls_ca *ca, const uint8_t *der, size_t len)
{
    if (len == 0 || len > CA_REMEMBERED_SIZE)
        return;
    pthread_mutex_lock(&ca->mutex);
    const uint8_t *at = der;
    X509 *cert = ca_find(ca, der, len) == NULL ? d2i_X509(NULL, &at, (long)len) : NULL;
    uint8_t *copy = cert != NULL ? malloc(len) : NULL;
    if (copy != NULL) {
        unsigned i = ca->oldest;
        ca->oldest = (i + 1) % CA_REMEMBERED;
        X509_free(ca->remembered[i].cert);
        free(ca->remembered[i].der);
        memcpy(copy, der, len);
        ca->remembered[i].cert = cert;
        ca->remembered[i].der = copy;
        ca->remembered[i].len = len;
    } else {
        X509_free(cert);
    }
    pthread_mutex_unlock(&ca->mutex);
}
