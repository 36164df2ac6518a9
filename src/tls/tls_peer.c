/*
 * tls_peer: is this certificate the peer we want?
 *
 * wolfSSL hands over the peer's certificates through its verify callback, once for each, the peer's
 * own last, and tls_peer_judge() decides at the first of these calls. With a CA: tls_path.c must
 * find a path to it, and the server's name must be in the peer's own certificate; it is compared by
 * libcrypto, which knows IP addresses and wildcards and never falls back to the common name when
 * there are alternative names. With a pin or known_servers the key is the identity, and neither
 * chain nor name is looked at. In every mode the peer's own certificate must be in date and its key
 * must not be a toy.
 *
 * wolfSSL knows no CA (tls_ca.c says why), so "the issuer is unknown" is its opinion of every peer
 * and counts for nothing. Anything else that it has to object to (form, key usage) is a refusal.
 * That the peer holds the key's private half is proved by its CertificateVerify signature, which
 * wolfSSL checks in every mode.
 *
 * The alert that tells the peer is wolfSSL's choice and mostly unknown_ca, whatever the reason: the
 * words are in this side's log. Text from a certificate is the peer's, so it is made printable.
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

#include "core/base/check.h"

bool tls_peer_refuse(struct tls_handshake *handshake, enum tls_fail fail, const char *format, ...)
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

static bool peer_in_date(struct tls_handshake *handshake, const X509 *cert)
{
    char text[TLS_WHEN_TEXT];
    time_t now = tls_ctx_time(handshake->ctx);
    enum tls_when when = tls_cert_when(cert, now);

    if (when == TLS_WHEN_GOOD)
        return true;
    tls_cert_when_text(cert, when, now, text, sizeof(text));
    return tls_peer_refuse(
        handshake, when == TLS_WHEN_EARLY ? TLS_FAIL_NOT_YET_VALID : TLS_FAIL_EXPIRED, "%s", text);
}

static void peer_put_name(const GENERAL_NAME *name, char *text, size_t size)
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
        peer_put_name(sk_GENERAL_NAME_value(names, i), one, sizeof(one));
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

static bool peer_name_ok(struct tls_handshake *handshake, X509 *cert)
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
    return tls_peer_refuse(handshake, TLS_FAIL_WRONG_NAME, "it is for %s, not for %.50s", names,
                           name);
}

static bool peer_judge_pin(struct tls_handshake *handshake)
{
    const char *pin = handshake->peer_pin;

    if (strcmp(pin, handshake->ctx->pin) == 0)
        return true;
    return tls_peer_refuse(handshake, TLS_FAIL_PIN_MISMATCH, "its key is %s", pin);
}

static bool peer_judge_known(struct tls_handshake *handshake)
{
    const struct tls_ctx *ctx = handshake->ctx;
    const char *pin = handshake->peer_pin;

    switch (tls_known_look(ctx->known_servers, handshake->known_as, pin)) {
    case TLS_KNOWN_SAME:
        return true;
    case TLS_KNOWN_CHANGED:
        return tls_peer_refuse(handshake, TLS_FAIL_KEY_CHANGED, "now %s, not what %s has", pin,
                               ctx->known_servers);
    case TLS_KNOWN_UNREADABLE:
        return tls_peer_refuse(handshake, TLS_FAIL_UNKNOWN_KEY,
                               "the known_servers file cannot be read; to trust it add --tls-pin "
                               "%s",
                               pin);
    case TLS_KNOWN_NEW:
        break;
    }
    if (ctx->new_key == TLS_NEW_REFUSE)
        return tls_peer_refuse(handshake, TLS_FAIL_UNKNOWN_KEY, "to trust it add --tls-pin %s",
                               pin);
    handshake->key_is_new = true;
    return true;
}

static bool peer_judge_leaf(struct tls_handshake *handshake, X509 *leaf,
                            const struct tls_chain *chain)
{
    const char *weak = tls_path_weak_key(leaf);

    if (!tls_pin_of_cert(leaf, handshake->peer_pin))
        return tls_peer_refuse(handshake, TLS_FAIL_BAD_CERTIFICATE, "its key cannot be read");
    if (!peer_in_date(handshake, leaf))
        return false;
    if (weak != NULL)
        return tls_peer_refuse(handshake, TLS_FAIL_BAD_CERTIFICATE, "it %s", weak);
    switch (handshake->ctx->trust) {
    case TLS_TRUST_PIN:
        return peer_judge_pin(handshake);
    case TLS_TRUST_KNOWN:
        return peer_judge_known(handshake);
    case TLS_TRUST_CA:
        return tls_path_leads(handshake, leaf, chain) &&
               (handshake->ctx->role == TLS_SERVER || peer_name_ok(handshake, leaf));
    case TLS_TRUST_NOBODY:
        break;
    }
    return tls_peer_refuse(handshake, TLS_FAIL_INTERNAL, "nobody asked for a certificate");
}

static bool peer_judge(struct tls_handshake *handshake, const struct tls_chain *chain)
{
    const uint8_t *der = chain->cert[0].der;
    X509 *leaf = d2i_X509(NULL, &der, (long)chain->cert[0].len);
    bool good = leaf != NULL
                    ? peer_judge_leaf(handshake, leaf, chain)
                    : tls_peer_refuse(handshake, TLS_FAIL_BAD_CERTIFICATE, "it cannot be read");

    X509_free(leaf);
    ERR_clear_error();
    return good;
}

bool tls_peer_judge(struct tls_handshake *handshake, int depth, const struct tls_chain *chain,
                    const struct tls_opinion *opinion)
{
    CHECK(chain->count > 0);
    if (!handshake->judged)
        handshake->accepted = peer_judge(handshake, chain);
    handshake->judged = true;
    if (depth > 0 || !handshake->accepted)
        return handshake->accepted;
    handshake->peer_ok =
        opinion->content || opinion->issuer_unknown ||
        tls_peer_refuse(handshake, TLS_FAIL_BAD_CERTIFICATE, "wolfSSL objects: %s", opinion->text);
    return handshake->peer_ok;
}
