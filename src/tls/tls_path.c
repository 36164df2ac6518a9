/*
 * tls_path: from a peer's certificate to a CA of ours, or the reason why not.
 *
 * libcrypto finds the path and verifies it: signatures, CA flags, path lengths, name constraints,
 * and the dates of every certificate in it, the CA's included, at the moment of the handshake. This
 * file adds
 *
 *   who may be the CA     path_anchor(): a certificate of the store that has the issuer's name and
 *                         is in date. If several are (a CA that was renewed, with the same key or
 *                         with another) the one whose key has made the signature. One out of date
 *                         counts as absent, so that another path, by a certificate that the peer
 *                         shows, can be found
 *   what it is for        serverAuth or clientAuth (or any) in each extendedKeyUsage of the path,
 *                         from the peer's to the CA's. libcrypto's own purposes do not know "any"
 *   how strong it is      no key below 80 bits (RSA of 1024), no signature by MD5. SHA-1 is old but
 *                         passes: private CAs have it, and forging one takes a CA that signs what
 *                         strangers ask for
 *   the words             what is wrong, with which certificate, in the table of TLS_FAIL_TABLE
 *
 * What the peer shows beyond the path does not matter: certificates for other verifiers, expired
 * ones included, are usual.
 */
#include "tls/tls_impl.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>

#include "core/base/check.h"
#include "tls/tls_pem.h"

#define PATH_KEY_BITS       80 /* of security: RSA 1024 */
#define PATH_SIGNATURE_BITS 63 /* SHA-1; MD5 has 39 */
#define PATH_NAME           (TLS_TEXT_SIZE / 3)

/* Who may be the CA */

/*
 * By name, key identifier and kind of key. What else speaks against it is said later: without it
 * the CA would be unknown.
 */
static bool path_is_issuer(X509 *candidate, X509 *cert)
{
    switch (X509_check_issued(candidate, cert)) {
    case X509_V_OK:
    case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
    case X509_V_ERR_UNSUPPORTED_SIGNATURE_ALGORITHM:
        return true;
    default:
        return false;
    }
}

static bool path_signed(X509 *candidate, X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(candidate);

    return key != NULL && X509_verify(cert, key) == 1;
}

/*
 * The certificate of the store that has signed `cert`, in date or (for the words only) out of
 * date.
 */
static X509 *path_anchor(X509_STORE_CTX *path, X509 *cert, bool in_date)
{
    time_t now = X509_VERIFY_PARAM_get_time(X509_STORE_CTX_get0_param(path));
    STACK_OF(X509) *all = X509_STORE_CTX_get1_certs(path, X509_get_issuer_name(cert));
    X509 *found = NULL;

    for (int i = 0; i < sk_X509_num(all); i++) {
        X509 *one = sk_X509_value(all, i);
        if ((tls_cert_when(one, now) == TLS_WHEN_GOOD) != in_date || !path_is_issuer(one, cert))
            continue;
        if (found == NULL ||
            !path_signed(found, cert)) /* with one of the name there is no choice */
            found = one;
    }
    if (found != NULL)
        X509_up_ref(found);
    sk_X509_pop_free(all, X509_free);
    return found;
}

int tls_path_issuer(X509 **issuer, X509_STORE_CTX *path, X509 *cert)
{
    *issuer = path_anchor(path, cert, true);
    ERR_clear_error(); /* of candidates whose key it was not */
    return *issuer != NULL;
}

/* What is wrong */

/* From the file, not from the peer. */
static bool path_is_ours(X509_STORE_CTX *path, int at)
{
    return at >= X509_STORE_CTX_get_num_untrusted(path);
}

/* "the intermediate /CN=x" or "the CA /CN=x": at `at` of the path. */
static void path_who(X509_STORE_CTX *path, int at, char *text, size_t size)
{
    char name[PATH_NAME];
    X509 *cert = sk_X509_value(X509_STORE_CTX_get0_chain(path), at);

    tls_pem_subject(X509_get_subject_name(cert), name, sizeof(name));
    snprintf(text, size, "the %s %s", path_is_ours(path, at) ? "CA" : "intermediate", name);
}

/* The certificate at `at` may not be there: `what`. */
static bool path_refuse_at(struct tls_handshake *handshake, X509_STORE_CTX *path, int at,
                           const char *what)
{
    char who[PATH_NAME + 32];

    if (at <= 0)
        return tls_peer_refuse(handshake, TLS_FAIL_BAD_CERTIFICATE, "it %s", what);
    path_who(path, at, who, sizeof(who));
    return tls_peer_refuse(handshake, path_is_ours(path, at) ? TLS_FAIL_BAD_CA : TLS_FAIL_BAD_CHAIN,
                           "%s %s", who, what);
}

static bool path_refuse_date(struct tls_handshake *handshake, const X509 *cert, bool ca)
{
    static const enum tls_fail fails[2][2] = {
        { TLS_FAIL_CHAIN_NOT_YET_VALID, TLS_FAIL_CHAIN_EXPIRED },
        { TLS_FAIL_CA_NOT_YET_VALID, TLS_FAIL_CA_EXPIRED },
    };
    char name[PATH_NAME], date[TLS_WHEN_TEXT];
    time_t now = tls_ctx_time(handshake->ctx);
    enum tls_when when = tls_cert_when(cert, now);

    tls_pem_subject(X509_get_subject_name(cert), name, sizeof(name));
    tls_cert_when_text(cert, when, now, date, sizeof(date));
    return tls_peer_refuse(handshake, fails[ca][when != TLS_WHEN_EARLY], "%s, %s", name, date);
}

/*
 * The path ends in the air. If a CA of ours has signed its last certificate, that one is out of
 * date.
 */
static bool path_refuse_end(struct tls_handshake *handshake, X509_STORE_CTX *path, int error)
{
    STACK_OF(X509) *certs = X509_STORE_CTX_get0_chain(path);
    X509 *last = sk_X509_value(certs, sk_X509_num(certs) - 1);
    char issuer[PATH_NAME];
    bool good;

    X509 *old = path_anchor(path, last, false);
    tls_pem_subject(X509_get_issuer_name(last), issuer, sizeof(issuer));
    if (old != NULL && path_signed(old, last))
        good = path_refuse_date(handshake, old, true);
    else if (error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT)
        good = tls_peer_refuse(handshake, TLS_FAIL_SELF_SIGNED, "made by %s", issuer);
    else
        good = tls_peer_refuse(handshake, TLS_FAIL_WRONG_CA, "signed by %s", issuer);
    X509_free(old);
    return good;
}

static bool path_refuse_signature(struct tls_handshake *handshake, X509_STORE_CTX *path, int at)
{
    char issuer[PATH_NAME];
    X509 *cert = sk_X509_value(X509_STORE_CTX_get0_chain(path), at);

    tls_pem_subject(X509_get_issuer_name(cert), issuer, sizeof(issuer));
    return tls_peer_refuse(handshake, TLS_FAIL_WRONG_CA,
                           "signed by a %s, but not by that one's key as this side knows it",
                           issuer);
}

/* May sign no certificate: libcrypto says no more than that. */
static const char *path_no_ca(X509 *cert)
{
    if ((X509_get_extension_flags(cert) & EXFLAG_CA) == 0)
        return "may not sign certificates: its basicConstraints has no CA:TRUE";
    return "may not sign certificates: its keyUsage has no keyCertSign";
}

static bool path_refuse(struct tls_handshake *handshake, X509_STORE_CTX *path)
{
    char what[128];
    int error = X509_STORE_CTX_get_error(path);
    int at = X509_STORE_CTX_get_error_depth(path);
    X509 *cert = sk_X509_value(X509_STORE_CTX_get0_chain(path), at);

    if (cert == NULL)
        return tls_peer_refuse(handshake, TLS_FAIL_INTERNAL, "%s",
                               X509_verify_cert_error_string(error));
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return path_refuse_date(handshake, cert, path_is_ours(path, at));
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return path_refuse_end(handshake, path, error);
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return path_refuse_signature(handshake, path, at);
    case X509_V_ERR_INVALID_CA:
        return path_refuse_at(handshake, path, at, path_no_ca(cert));
    default:
        snprintf(what, sizeof(what), "is refused by libcrypto: %s",
                 X509_verify_cert_error_string(error));
        return path_refuse_at(handshake, path, at, what);
    }
}

/* What libcrypto does not look at */

const char *tls_path_weak_key(const X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);

    if (key == NULL)
        return "has a key that cannot be read";
    return EVP_PKEY_get_security_bits(key) < PATH_KEY_BITS ? "has a key that is too short" : NULL;
}

static const char *path_weak_signature(X509 *cert)
{
    int digest, key, bits;
    uint32_t flags;

    if (X509_get_signature_info(cert, &digest, &key, &bits, &flags) != 1 ||
        bits >= PATH_SIGNATURE_BITS)
        return NULL;
    return "is signed by a broken hash, MD5 or older";
}

static const char *path_wrong_purpose(X509 *cert, enum tls_role own_role)
{
    bool server = own_role == TLS_CLIENT;               /* the peer's role */
    uint32_t usage = X509_get_extended_key_usage(cert); /* all bits without the extension */

    if ((usage & (XKU_ANYEKU | (server ? XKU_SSL_SERVER : XKU_SSL_CLIENT))) != 0)
        return NULL;
    return server ? "is not for servers: its extendedKeyUsage has no serverAuth"
                  : "is not for clients: its extendedKeyUsage has no clientAuth";
}

/* The CA's own signature is not looked at: it is trusted for being in the file. */
static bool path_fits(struct tls_handshake *handshake, X509_STORE_CTX *path)
{
    STACK_OF(X509) *certs = X509_STORE_CTX_get0_chain(path);
    int count = sk_X509_num(certs);

    for (int i = 0; i < count; i++) {
        X509 *cert = sk_X509_value(certs, i);
        const char *what = path_wrong_purpose(cert, handshake->ctx->role);
        if (what == NULL)
            what = tls_path_weak_key(cert);
        if (what == NULL && i < count - 1)
            what = path_weak_signature(cert);
        if (what != NULL)
            return path_refuse_at(handshake, path, i, what);
    }
    return true;
}

/* The verdict */

/* What cannot be read is left out: it may not be needed. NULL: out of memory. */
static STACK_OF(X509) * path_between(struct tls_ca *ca, const struct tls_chain *chain)
{
    STACK_OF(X509) *certs = sk_X509_new_null();

    for (unsigned i = 1; certs != NULL && i < chain->count; i++) {
        X509 *cert = tls_ca_read(ca, chain->cert[i].der, chain->cert[i].len);
        if (cert == NULL || sk_X509_push(certs, cert) > 0)
            continue;
        X509_free(cert);
        sk_X509_pop_free(certs, X509_free);
        return NULL;
    }
    return certs;
}

bool tls_path_leads(struct tls_handshake *handshake, X509 *leaf, const struct tls_chain *chain)
{
    struct tls_ca *ca = handshake->ctx->ca;
    X509_STORE_CTX *path = X509_STORE_CTX_new();
    STACK_OF(X509) *between = path_between(ca, chain);
    bool good = false;

    CHECK(ca != NULL);
    if (path == NULL || between == NULL ||
        X509_STORE_CTX_init(path, tls_ca_store(ca), leaf, between) != 1) {
        tls_peer_refuse(handshake, TLS_FAIL_NO_MEMORY, "%s", "");
    } else {
        X509_STORE_CTX_set_time(path, 0, tls_ctx_time(handshake->ctx));
        good =
            X509_verify_cert(path) == 1 ? path_fits(handshake, path) : path_refuse(handshake, path);
    }
    for (unsigned i = 1; good && i < chain->count; i++)
        tls_ca_remember(ca, chain->cert[i].der, chain->cert[i].len);
    X509_STORE_CTX_free(path);
    sk_X509_pop_free(between, X509_free);
    ERR_clear_error();
    return good;
}
