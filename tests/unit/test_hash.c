/* hash: the vectors of SipHash's paper and of its reference program. */
#include <check.h>
#include <stdlib.h>

#include "core/base/hash.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the vectors are those of a little-endian machine"
#endif

static const struct hash_key key = { { UINT64_C(0x0706050403020100),
                                       UINT64_C(0x0f0e0d0c0b0a0908) } };

START_TEST(vectors)
{
    static const struct {
        size_t size;
        uint64_t hash;
    } known[] = { { 0, UINT64_C(0x726fdb47dd0e0e31) },
                  { 1, UINT64_C(0x74f839c593dc67fd) },
                  { 8, UINT64_C(0x93f5f5799a932462) },
                  { 15, UINT64_C(0xa129ca6149be45e5) } };
    uint8_t bytes[16];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        ck_assert_uint_eq(hash_bytes(&key, bytes, known[i].size), known[i].hash);
}
END_TEST

START_TEST(another_key_spreads_otherwise)
{
    struct hash_key other = key;

    other.words[1] ^= 1;
    ck_assert_uint_ne(hash_bytes(&key, "client", 6), hash_bytes(&other, "client", 6));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hash");
    TCase *tcase = tcase_create("hash");

    tcase_add_test(tcase, vectors);
    tcase_add_test(tcase, another_key_spreads_otherwise);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
