/*
 * test_tls_certs: certificates that no sane tool makes (expired, from the future, of a strange CA),
 * with libcrypto, in memory. wolfSSL's headers must not be included in the same source.
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

/* What make_as() can do besides; zero: as make() does. "" leaves the extension out. */
struct spec_odd {
    const char *basic;     /* basicConstraints */
    const char *key_usage; /* keyUsage */
    const char *limits;    /* nameConstraints */
    const char *digest;    /* "SHA256" */
    EVP_PKEY *key;         /* is taken over */
    bool key_id;           /* authorityKeyIdentifier */
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

static inline EVP_PKEY *made_key(const struct spec *spec, const struct spec_odd *odd)
{
    if (odd->key != NULL)
        return odd->key;
    if (spec->key_of == NULL)
        return spec->rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    EVP_PKEY_up_ref(spec->key_of->key);
    return spec->key_of->key;
}

static inline void made_extensions(X509 *cert, X509 *issuer, const struct spec *spec,
                                   const struct spec_odd *odd)
{
    const struct {
        int nid;
        const char *value;
    } all[] = {
        { NID_basic_constraints, odd->basic != NULL ? odd->basic
                                 : spec->ca         ? "critical,CA:TRUE"
                                                    : "critical,CA:FALSE" },
        { NID_subject_key_identifier, "hash" },
        { NID_authority_key_identifier, odd->key_id ? "keyid" : NULL },
        { NID_key_usage, odd->key_usage != NULL ? odd->key_usage
                         : spec->ca             ? "critical,keyCertSign"
                                                : NULL },
        { NID_subject_alt_name, spec->names },
        { NID_ext_key_usage, spec->usage },
        { NID_name_constraints, odd->limits },
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i].value != NULL && all[i].value[0] != '\0')
            made_extension(cert, issuer, all[i].nid, all[i].value);
}

static inline void make_as(struct made *made, const struct spec *spec, const struct spec_odd *odd)
{
    const struct made *issuer = spec->issuer != NULL ? spec->issuer : made;
    static long serial = 1000;

    made->key = made_key(spec, odd);
    made->cert = X509_new();
    X509_set_version(made->cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made->cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made->cert), spec->from);
    X509_gmtime_adj(X509_getm_notAfter(made->cert), spec->until);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made->cert), "CN", MBSTRING_UTF8,
                               (const unsigned char *)spec->cn, -1, -1, 0);
    X509_set_issuer_name(made->cert, X509_get_subject_name(issuer->cert));
    X509_set_pubkey(made->cert, made->key);
    made_extensions(made->cert, issuer->cert, spec, odd);
    const EVP_MD *digest = odd->digest != NULL ? EVP_get_digestbyname(odd->digest) : EVP_sha256();
    ck_assert_int_gt(X509_sign(made->cert, issuer->key, digest), 0);
    made_pem(made);
}

static inline void make(struct made *made, const struct spec *spec)
{
    make_as(made, spec, &(struct spec_odd){ 0 });
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
