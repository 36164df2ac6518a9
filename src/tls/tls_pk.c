/*
 * tls_pk: elliptic-curve signatures for wolfSSL's handshakes, computed by libcrypto.
 *
 * wolfSSL offers callbacks for public-key work. Debian builds it without assembly: measured here,
 * P-256 signing takes 68 us and verifying 263 us, against libcrypto's 15 and 40. X25519 stays with
 * wolfSSL (44 us against 23; its TLS 1.3 code has no callback for it), and so do RSA and Ed25519.
 */
#include "tls/tls_impl.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#define P256_POINT 65

/* A SubjectPublicKeyInfo of P-256 up to its point. */
static const uint8_t p256_prefix[] = {
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
};

int tls_pk_ecc_sign(struct WOLFSSL *wolf, const unsigned char *hash, unsigned hash_len,
                    unsigned char *sig, unsigned *sig_len, const unsigned char *key,
                    unsigned key_len, void *sign_key)
{
    size_t len = *sig_len;

    (void)wolf, (void)key, (void)key_len;
    EVP_PKEY_CTX *pk = EVP_PKEY_CTX_new(sign_key, NULL);
    bool ok = pk != NULL && EVP_PKEY_sign_init(pk) == 1 &&
              EVP_PKEY_sign(pk, sig, &len, hash, hash_len) == 1;
    EVP_PKEY_CTX_free(pk);
    ERR_clear_error();
    *sig_len = (unsigned)len;
    return ok ? 0 : -1;
}

/* P-256 straight from the point: libcrypto's general decoder costs more than the verification. */
static EVP_PKEY *pk_p256_from_point(const uint8_t *point)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){ "P-256" }, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point,
                                          P256_POINT),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *key = NULL;

    EVP_PKEY_CTX *pk = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (pk != NULL && EVP_PKEY_fromdata_init(pk) == 1 &&
        EVP_PKEY_fromdata(pk, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(pk);
    return key;
}

static EVP_PKEY *pk_public_key(const uint8_t *der, size_t len)
{
    if (len == sizeof(p256_prefix) + P256_POINT &&
        memcmp(der, p256_prefix, sizeof(p256_prefix)) == 0)
        return pk_p256_from_point(der + sizeof(p256_prefix));
    return d2i_PUBKEY(NULL, &der, (long)len);
}

int tls_pk_ecc_verify(struct WOLFSSL *wolf, const unsigned char *sig, unsigned sig_len,
                      const unsigned char *hash, unsigned hash_len, const unsigned char *key,
                      unsigned key_len, int *result, void *unused)
{
    (void)wolf, (void)unused;
    *result = 0;
    EVP_PKEY *pkey = pk_public_key(key, key_len);
    EVP_PKEY_CTX *pk = pkey != NULL ? EVP_PKEY_CTX_new(pkey, NULL) : NULL;
    if (pk != NULL && EVP_PKEY_verify_init(pk) == 1)
        *result = EVP_PKEY_verify(pk, sig, sig_len, hash, hash_len) == 1;
    int ret = pk != NULL ? 0 : -1;
    EVP_PKEY_CTX_free(pk);
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    return ret;
}

static EVP_PKEY *pk_read_key(const char *pem, size_t len)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    /* The empty password: an encrypted key fails instead of asking on the terminal. */
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (char[]){ "" }) : NULL;

    BIO_free(bio);
    return key;
}

EVP_PKEY *tls_pk_load(const char *key_pem, size_t len, const char *cert_pem, size_t cert_len,
                      bool *matches)
{
    EVP_PKEY *key = pk_read_key(key_pem, len);
    BIO *bio = BIO_new_mem_buf(cert_pem, (int)cert_len);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    *matches = key != NULL && cert != NULL && X509_check_private_key(cert, key) == 1;
    X509_free(cert);
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

static bool pk_is_common_curve(const EVP_PKEY *key)
{
    static const int curves[] = { NID_X9_62_prime256v1, NID_secp384r1, NID_secp521r1 };
    char name[32] = "";

    (void)EVP_PKEY_get_group_name(key, name, sizeof(name), NULL);
    for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++)
        if (strcmp(name, OBJ_nid2sn(curves[i])) == 0)
            return true;
    return false;
}

bool tls_pk_is_common(const EVP_PKEY *key)
{
    switch (key != NULL ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_ED25519:
    case EVP_PKEY_ED448:
        return true;
    case EVP_PKEY_EC:
        return pk_is_common_curve(key);
    default:
        return false;
    }
}

bool tls_pk_is_ecc(const EVP_PKEY *key)
{
    return key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC;
}

void tls_pk_free(EVP_PKEY *key)
{
    EVP_PKEY_free(key);
}
