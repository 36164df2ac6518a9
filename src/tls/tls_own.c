/*
 * tls_own: the own certificate chain (--tls-cert), looked at before a peer does.
 *
 * wolfSSL sends what it can read of the file: a damaged intermediate is left out without a word,
 * and peers then find no way to the CA. So each member is checked here (tls_pem.h), a damaged one
 * ends the start, and wolfSSL is given a text that this file has written, which has the
 * certificates and nothing else. Private keys and parameters beside them are usual (one file for
 * all) and are left alone.
 *
 * What a peer will stumble over, but need not, is said and goes on: a certificate that is out of
 * date, one that has not signed the one before it. A server's first certificate is left out of
 * this, its days are counted elsewhere (tls_cert_dates) with a cure of its own.
 */
#include "tls/tls_impl.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/tls_pem.h"

#define OWN_TEXT 448u

struct own_load {
    struct tls_ctx *ctx;
    const char *name;
    BIO *out;
    X509 *before; /* the certificate in front of the one at hand */
    unsigned certs;
    char *why;
    size_t why_size;
};

static bool own_no(const struct own_load *load, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool own_no(const struct own_load *load, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(load->why, load->why_size, format, args);
    va_end(args);
    return false;
}

static void own_tell(const struct own_load *load, const struct tls_pem_member *member,
                     const char *what)
{
    char line[OWN_TEXT + 256], name[192];

    tls_pem_name(member, name, sizeof(name));
    snprintf(line, sizeof(line), "the certificate file %s: %s %s", load->name, name, what);
    tls_ctx_warn(load->ctx, line);
}

static void own_look_at_date(const struct own_load *load, const struct tls_pem_member *member)
{
    char date[TLS_WHEN_TEXT], what[OWN_TEXT];
    time_t now = tls_ctx_time(load->ctx);
    enum tls_when when = tls_cert_when(member->cert, now);

    if (when == TLS_WHEN_GOOD ||
        (when == TLS_WHEN_LATE && load->certs == 1 && load->ctx->role == TLS_SERVER))
        return;
    tls_cert_when_text(member->cert, when, now, date, sizeof(date));
    snprintf(what, sizeof(what), "%s (%s), %s",
             when == TLS_WHEN_LATE ? "has expired" : "is not valid yet", date,
             when == TLS_WHEN_LATE
                 ? "peers will refuse it: put the renewed one in its place"
                 : "peers with such a clock will refuse it: check this machine's clock");
    own_tell(load, member, what);
}

static void own_look_at_order(const struct own_load *load, const struct tls_pem_member *member)
{
    if (load->before == NULL || X509_check_issued(member->cert, load->before) == X509_V_OK)
        return;
    own_tell(load, member,
             "has not signed the one before it, or may not: peers may find no way to the CA; put "
             "the server's or client's own certificate first, then the one that signed it, and so "
             "on");
}

static bool own_first(struct own_load *load, const X509 *cert)
{
    if (!tls_pin_of_cert(cert, load->ctx->own_pin))
        return own_no(load, "the certificate %s cannot be read", load->name);
    return tls_pk_is_common(X509_get0_pubkey(cert)) ||
           own_no(load,
                  "the certificate %s has a key of a kind that peers do not take: take one "
                  "of " TLS_PK_COMMON,
                  load->name);
}

static bool own_take(struct own_load *load, const struct tls_pem_member *member)
{
    char text[OWN_TEXT];

    if (member->fault != TLS_PEM_NONE) {
        tls_pem_complaint(member, text, sizeof(text));
        return own_no(load, "the certificate file %s cannot be used: %s", load->name, text);
    }
    if (member->kind != TLS_PEM_CERT)
        return true;
    if (++load->certs > TLS_CHAIN_MAX)
        return own_no(load, "%s has more than %u certificates: peers take no longer chain",
                      load->name, TLS_CHAIN_MAX);
    if (load->certs == 1 && !own_first(load, member->cert))
        return false;
    own_look_at_date(load, member);
    own_look_at_order(load, member);
    X509_up_ref(member->cert);
    X509_free(load->before);
    load->before = member->cert;
    return PEM_write_bio_X509(load->out, member->cert) == 1 || own_no(load, "out of memory");
}

static bool own_members(struct own_load *load, const char *text, size_t len)
{
    struct tls_pem_scan scan;
    struct tls_pem_member member;
    bool ok = true;

    tls_pem_start(&scan, text, len);
    while (ok && tls_pem_next(&scan, &member)) {
        ok = own_take(load, &member);
        tls_pem_drop(&member);
    }
    if (ok && load->certs == 0)
        ok = own_no(load,
                    "%s has no usable certificate: give a PEM file, the server's own certificate "
                    "first",
                    load->name);
    return ok;
}

/* What was written, as a string. */
static bool own_text(struct own_load *load, char **pem)
{
    char *written;
    long size = BIO_get_mem_data(load->out, &written);

    *pem = size > 0 ? tls_short_pass(calloc(1, (size_t)size + 1), (size_t)size + 1) : NULL;
    if (*pem == NULL)
        return own_no(load, "out of memory");
    memcpy(*pem, written, (size_t)size);
    return true;
}

bool tls_own_load(struct tls_ctx *ctx, const char *name, const char *text, size_t len, char **pem,
                  char *why, size_t why_size)
{
    struct own_load load = { .ctx = ctx, .name = name, .why = why, .why_size = why_size };

    *pem = NULL;
    load.out = BIO_new(BIO_s_mem());
    bool ok = load.out != NULL ? own_members(&load, text, len) : own_no(&load, "out of memory");
    ok = ok && own_text(&load, pem);
    X509_free(load.before);
    BIO_free(load.out);
    ERR_clear_error();
    return ok;
}

unsigned tls_own_member_of(const char *text, size_t len, const EVP_PKEY *key)
{
    struct tls_pem_scan scan;
    struct tls_pem_member member;
    unsigned found = 0;

    tls_pem_start(&scan, text, len);
    while (key != NULL && found == 0 && tls_pem_next(&scan, &member)) {
        if (member.cert != NULL && X509_check_private_key(member.cert, key) == 1)
            found = member.number;
        tls_pem_drop(&member);
    }
    ERR_clear_error();
    return found;
}
