/*
 * tls_peer: is this certificate the peer we want?
 *
 * wolfSSL builds and checks the chain (signatures, CA flags, key usage, dates) and calls tls_peer_judge() for each certificate, the
 * peer's own last. With a CA nothing that wolfSSL refused is ever accepted here; the peer's own certificate must further have the
 * server's name, which is compared by libcrypto (it knows IP addresses and wildcards, and never falls back to the common name when
 * there are alternative names). With a pin or known_servers the key is the identity: there, and only there, "nobody here knows the
 * issuer" is no objection, and the dates are checked here because the chain check may have ended before them. That the peer holds the
 * key's private half is proved by its CertificateVerify signature, which wolfSSL checks in every mode.
 *
 * When something is refused, this file also finds the words: text from a certificate is the peer's, so it is made printable.
 */
#include "tls/tls_impl.h"

#include <ctype.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <arpa/inet.h>

static bool refuse(struct tls_handshake *handshake, enum tls_fail fail, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool refuse(struct tls_handshake *handshake, enum tls_fail fail, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(handshake->detail, sizeof(handshake->detail), format, args);
    va_end(args);
    for (char *p = handshake->detail; *p != '\0'; p++)
        if (!isprint((unsigned char)*p))
            *p = '?';
    handshake->cert_fail = fail;
    return false;
}

static void put_time(const ASN1_TIME *time, char *text, size_t size)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(time, &tm) != 1 || strftime(text, size, "%Y-%m-%d %H:%M UTC", &tm) == 0)
        snprintf(text, size, "an unreadable date");
}

static bool dates_ok(struct tls_handshake *handshake, const X509 *cert)
{
    char text[40];

    if (X509_cmp_current_time(X509_get0_notBefore(cert)) >= 0) {
        put_time(X509_get0_notBefore(cert), text, sizeof(text));
        return refuse(handshake, TLS_FAIL_NOT_YET_VALID, "valid from %s", text);
    }
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0) {
        put_time(X509_get0_notAfter(cert), text, sizeof(text));
        return refuse(handshake, TLS_FAIL_EXPIRED, "valid until %s", text);
    }
    return true;
}

static void put_name(const GENERAL_NAME *name, char *text, size_t size)
{
    char address[INET6_ADDRSTRLEN];

    text[0] = '\0';
    if (name->type == GEN_DNS) {
        snprintf(text, size, "%.*s", ASN1_STRING_length(name->d.dNSName),
                 (const char *)ASN1_STRING_get0_data(name->d.dNSName));
    } else if (name->type == GEN_IPADD) {
        int len = ASN1_STRING_length(name->d.iPAddress);
        int family = len == 4 ? AF_INET : AF_INET6;
        if ((len == 4 || len == 16) && inet_ntop(family, ASN1_STRING_get0_data(name->d.iPAddress),
                                                 address, sizeof(address)) != NULL)
            snprintf(text, size, "%s", address);
    }
}

/* "a, b, c": the names a certificate is for, as many as fit. */
void tls_peer_names(const struct x509_st *cert, char *text, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    char one[80];
    size_t at = 0;

    text[0] = '\0';
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        put_name(sk_GENERAL_NAME_value(names, i), one, sizeof(one));
        int n =
            one[0] == '\0' ? 0 : snprintf(text + at, size - at, "%s%s", at > 0 ? ", " : "", one);
        if (n < 0 || (size_t)n >= size - at) {
            text[at] = '\0';
            break;
        }
        at += (size_t)n;
    }
    GENERAL_NAMES_free(names);
    if (text[0] == '\0')
        snprintf(text, size, "nobody");
}

static bool name_ok(struct tls_handshake *handshake, X509 *cert)
{
    uint8_t address[16];
    char names[TLS_TEXT_SIZE / 2];
    const char *name = handshake->name;

    bool is_address =
        inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
    int match = is_address
                    ? X509_check_ip_asc(cert, name, 0)
                    : X509_check_host(cert, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL);
    if (match == 1)
        return true;
    tls_peer_names(cert, names, sizeof(names));
    return refuse(handshake, TLS_FAIL_WRONG_NAME, "it is for %s, not for %.50s", names, name);
}

static bool is_self_signed(X509 *cert)
{
    return X509_NAME_cmp(X509_get_issuer_name(cert), X509_get_subject_name(cert)) == 0;
}

static bool refuse_chain(struct tls_handshake *handshake, int depth, X509 *cert,
                         bool issuer_unknown)
{
    char issuer[TLS_TEXT_SIZE / 2];

    if (!dates_ok(handshake, cert))
        return false;
    X509_NAME_oneline(X509_get_issuer_name(cert), issuer, sizeof(issuer));
    if (depth == 0 && is_self_signed(cert))
        return refuse(handshake, TLS_FAIL_SELF_SIGNED, "made by %s", issuer);
    if (issuer_unknown)
        return refuse(handshake, TLS_FAIL_WRONG_CA, "signed by %s", issuer);
    return refuse(handshake, TLS_FAIL_BAD_CERTIFICATE,
                  "signed by %s, whose signature or purpose is wrong", issuer);
}

static bool judge_ca(struct tls_handshake *handshake, X509 *cert, bool chain_ok,
                     bool issuer_unknown)
{
    if (!chain_ok)
        return refuse_chain(handshake, 0, cert, issuer_unknown);
    if (!dates_ok(handshake, cert))
        return false;
    return handshake->ctx->role == TLS_SERVER || name_ok(handshake, cert);
}

static bool judge_pin(struct tls_handshake *handshake)
{
    const char *pin = handshake->peer_pin;

    if (strcmp(pin, handshake->ctx->pin) == 0)
        return true;
    return refuse(handshake, TLS_FAIL_PIN_MISMATCH, "its key is %s", pin);
}

static bool judge_known(struct tls_handshake *handshake)
{
    const struct tls_ctx *ctx = handshake->ctx;
    const char *pin = handshake->peer_pin;

    switch (tls_known_look(ctx->known_servers, handshake->known_as, pin)) {
    case TLS_KNOWN_SAME:
        return true;
    case TLS_KNOWN_CHANGED:
        return refuse(handshake, TLS_FAIL_KEY_CHANGED, "now %s, not what %s has", pin,
                      ctx->known_servers);
    case TLS_KNOWN_UNREADABLE:
        return refuse(handshake, TLS_FAIL_UNKNOWN_KEY, "the known_servers file cannot be read");
    case TLS_KNOWN_NEW:
        break;
    }
    if (ctx->new_key == TLS_NEW_REFUSE)
        return refuse(handshake, TLS_FAIL_UNKNOWN_KEY, "it is %s", pin);
    handshake->key_is_new = true;
    return true;
}

static bool judge_key(struct tls_handshake *handshake, X509 *cert, bool chain_ok,
                      bool issuer_unknown)
{
    if (!dates_ok(handshake, cert))
        return false;
    if (!chain_ok && !issuer_unknown)
        return refuse(handshake, TLS_FAIL_BAD_CERTIFICATE,
                      "its form, signature or purpose is wrong");
    return handshake->ctx->trust == TLS_TRUST_PIN ? judge_pin(handshake) : judge_known(handshake);
}

bool tls_peer_judge(struct tls_handshake *handshake, int depth, const uint8_t *der, size_t len,
                    bool chain_ok, bool issuer_unknown)
{
    bool by_key = handshake->ctx->trust != TLS_TRUST_CA;
    bool good;

    if (depth > 0 && (chain_ok || by_key))
        return true; /* the certificate at depth 0 decides */
    X509 *cert = d2i_X509(NULL, &der, (long)len);
    if (cert == NULL)
        good = refuse(handshake, TLS_FAIL_BAD_CERTIFICATE, "it cannot be read");
    else if (depth == 0 && !tls_pin_of_cert(cert, handshake->peer_pin))
        good = refuse(handshake, TLS_FAIL_BAD_CERTIFICATE, "its key cannot be read");
    else if (depth > 0)
        good = refuse_chain(handshake, depth, cert, issuer_unknown);
    else if (by_key)
        good = judge_key(handshake, cert, chain_ok, issuer_unknown);
    else
        good = judge_ca(handshake, cert, chain_ok, issuer_unknown);
    X509_free(cert);
    ERR_clear_error();
    if (depth == 0)
        handshake->peer_ok = good;
    return good;
}
