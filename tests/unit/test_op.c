/* op: every field survives packing, and none spills into another. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/io/op.h"

static void round_trip(unsigned kind, uint32_t slot, uint32_t generation, uint32_t aux)
{
    struct op op = op_unpack(op_pack(kind, slot, generation, aux));

    ck_assert_uint_eq(op.kind, kind);
    ck_assert_uint_eq(op.slot, slot);
    ck_assert_uint_eq(op.generation, generation & ((1u << OP_GENERATION_BITS) - 1));
    ck_assert_uint_eq(op.aux, aux);
}

START_TEST(fields_survive)
{
    static const uint32_t edges[] = { 0, 1, 2, 0x7fffff, 0x800000, 0xfffffe, 0xffffff };
    static const uint32_t generations[] = { 0, 1, 512, 1023, 1024, UINT32_MAX };

    for (unsigned kind = 0; kind < OP_KINDS; kind++)
        for (unsigned s = 0; s < ARRAY_SIZE(edges); s++)
            for (unsigned g = 0; g < ARRAY_SIZE(generations); g++)
                for (unsigned a = 0; a < ARRAY_SIZE(edges); a++)
                    round_trip(kind, edges[s], generations[g], edges[a]);
}
END_TEST

/* A cancel request's own answer has user_data 0 and is dropped; nothing else may have it. */
START_TEST(only_none_packs_to_zero)
{
    ck_assert_uint_eq(op_pack(OP_NONE, 0, 0, 0), 0);
    for (unsigned kind = 1; kind < OP_KINDS; kind++)
        ck_assert_uint_ne(op_pack(kind, 0, 0, 0), 0);
}
END_TEST

START_TEST(generations_differ)
{
    for (uint32_t g = 0; g < 1023; g++)
        ck_assert_uint_ne(op_pack(3, 5, g, 0), op_pack(3, 5, g + 1, 0));
}
END_TEST

START_TEST(kind_too_large_is_a_bug)
{
    (void)op_pack(OP_KINDS, 0, 0, 0);
}
END_TEST

START_TEST(slot_too_large_is_a_bug)
{
    (void)op_pack(3, 1u << OP_SLOT_BITS, 0, 0);
}
END_TEST

START_TEST(aux_too_large_is_a_bug)
{
    (void)op_pack(3, 0, 0, 1u << OP_AUX_BITS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("op");
    TCase *tcase = tcase_create("op");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, fields_survive);
    tcase_add_test(tcase, only_none_packs_to_zero);
    tcase_add_test(tcase, generations_differ);
    tcase_add_test_raise_signal(tcase, kind_too_large_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tcase, slot_too_large_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tcase, aux_too_large_is_a_bug, SIGABRT);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
