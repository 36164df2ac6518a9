/*
 * test_tls_certs: certificates that no sane tool makes (expired, from the future, of a strange CA), with libcrypto, in memory.
 * wolfSSL's headers must not be included in the same source.
 */
#ifndef CULVERT_TESTS_TEST_TLS_CERTS_H
#define CULVERT_TESTS_TEST_TLS_CERTS_H

#include <check.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "tls/tls.h"

struct made {
    X509 *cert;
    EVP_PKEY *key;
    char cert_pem[4096];
    char key_pem[4096];
};

struct spec {
    const char *cn;
    const char *names; /* subjectAltName, NULL: none */
    long from;         /* seconds from now */
    long until;
    const struct made *issuer; /* NULL: self-signed */
    const char *usage;         /* extendedKeyUsage, NULL: none */
    bool ca;
    bool rsa;
    const struct made *key_of; /* NULL: a new key */
};

static inline void made_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

static inline void made_pem(struct made *made)
{
    BIO *bio = BIO_new(BIO_s_mem());
    ck_assert_int_eq(PEM_write_bio_X509(bio, made->cert), 1);
    int n = BIO_read(bio, made->cert_pem, sizeof(made->cert_pem) - 1);
    made->cert_pem[n] = '\0';
    BIO_free(bio);
    bio = BIO_new(BIO_s_mem());
    ck_assert_int_eq(PEM_write_bio_PrivateKey(bio, made->key, NULL, NULL, 0, NULL, NULL), 1);
    n = BIO_read(bio, made->key_pem, sizeof(made->key_pem) - 1);
    made->key_pem[n] = '\0';
    BIO_free(bio);
}

static inline void make(struct made *made, const struct spec *spec)
{
    const struct made *issuer = spec->issuer != NULL ? spec->issuer : made;
    static long serial = 1000;

    if (spec->key_of != NULL) {
        made->key = spec->key_of->key;
        EVP_PKEY_up_ref(made->key);
    } else {
        made->key = spec->rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    }
    made->cert = X509_new();
    X509_set_version(made->cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made->cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made->cert), spec->from);
    X509_gmtime_adj(X509_getm_notAfter(made->cert), spec->until);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made->cert), "CN", MBSTRING_UTF8,
                               (const unsigned char *)spec->cn, -1, -1, 0);
    X509_set_issuer_name(made->cert, X509_get_subject_name(issuer->cert));
    X509_set_pubkey(made->cert, made->key);
    made_extension(made->cert, issuer->cert, NID_basic_constraints,
                   spec->ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    made_extension(made->cert, issuer->cert, NID_subject_key_identifier, "hash");
    if (spec->ca)
        made_extension(made->cert, issuer->cert, NID_key_usage, "critical,keyCertSign");
    if (spec->names != NULL)
        made_extension(made->cert, issuer->cert, NID_subject_alt_name, spec->names);
    if (spec->usage != NULL)
        made_extension(made->cert, issuer->cert, NID_ext_key_usage, spec->usage);
    ck_assert_int_gt(X509_sign(made->cert, issuer->key, EVP_sha256()), 0);
    made_pem(made);
}

static inline void made_drop(struct made *made)
{
    X509_free(made->cert);
    EVP_PKEY_free(made->key);
}

static inline struct tls_pem pem_of(const char *text)
{
    return (struct tls_pem){ text, strlen(text) };
}

#endif
