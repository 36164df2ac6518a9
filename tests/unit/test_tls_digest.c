/*
 * Macs and hashes of the engine (core/mux/crypt.h): examples of RFC 4231 and FIPS 180, and
 * libcrypto's own one-shot functions for every size about a block's.
 */
#include <check.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/mux/crypt.h"

static void assert_bytes(const uint8_t bytes[CRYPT_MAC_SIZE], const char *hex)
{
    char text[2 * CRYPT_MAC_SIZE + 1];

    for (size_t i = 0; i < CRYPT_MAC_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    ck_assert_str_eq(text, hex);
}

/* Keys are filled up with zeros, as HMAC does. */
static const struct {
    uint8_t key[CRYPT_MAC_SIZE];
    const char *data;
    const char *mac;
} macs[] = {
    { { 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11 },
      "Hi There",
      "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
    { "Jefe", "what do ya want for nothing?",
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
};

START_TEST(macs_of_rfc_4231)
{
    uint8_t mac[CRYPT_MAC_SIZE];

    crypt_mac(macs[_i].key, macs[_i].data, strlen(macs[_i].data), mac);
    assert_bytes(mac, macs[_i].mac);
}
END_TEST

START_TEST(hashes_of_fips_180)
{
    uint8_t hash[CRYPT_MAC_SIZE];

    crypt_hash("abc", 3, hash);
    assert_bytes(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    crypt_hash("", 0, hash);
    assert_bytes(hash, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
END_TEST

START_TEST(sizes)
{
    uint8_t key[CRYPT_MAC_SIZE], data[1000], is[CRYPT_MAC_SIZE], should[CRYPT_MAC_SIZE];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 167 + 13);
    for (size_t size = 0; size <= sizeof(data); size++) {
        memset(key, (int)size, sizeof(key));
        key[size % sizeof(key)] ^= 0x81;
        crypt_mac(key, data, size, is);
        ck_assert_ptr_nonnull(HMAC(EVP_sha256(), key, sizeof(key), data, size, should, NULL));
        ck_assert_mem_eq(is, should, sizeof(is));
        crypt_hash(data, size, is);
        ck_assert_int_eq(EVP_Digest(data, size, should, NULL, EVP_sha256(), NULL), 1);
        ck_assert_mem_eq(is, should, sizeof(is));
    }
}
END_TEST

/* What it is made of may be where it goes. */
START_TEST(in_place)
{
    uint8_t key[CRYPT_MAC_SIZE] = "key", data[CRYPT_MAC_SIZE] = "data", mac[CRYPT_MAC_SIZE];

    crypt_mac(key, data, sizeof(data), mac);
    crypt_mac(key, data, sizeof(data), data);
    ck_assert_mem_eq(data, mac, sizeof(mac));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls_digest");
    TCase *tcase = tcase_create("tls_digest");
    SRunner *runner = srunner_create(suite);

    tcase_add_loop_test(tcase, macs_of_rfc_4231, 0, ARRAY_SIZE(macs));
    tcase_add_test(tcase, hashes_of_fips_180);
    tcase_add_test(tcase, sizes);
    tcase_add_test(tcase, in_place);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
