/* chain: what was added is found, what was removed is not, and as many steps as that takes. */
#include <check.h>
#include <stdlib.h>

#include "core/base/chain.h"

#define COUNT 4096u

static struct chain chain;

static void setup(void)
{
    ck_assert(chain_open(&chain, COUNT));
}

static void teardown(void)
{
    chain_close(&chain);
}

static bool has(uint64_t hash, uint32_t item)
{
    uint32_t i = chain_first(&chain, hash);

    while (i != CHAIN_END && i != item)
        i = chain_next(&chain, i);
    return i == item;
}

START_TEST(what_was_added_is_found)
{
    ck_assert_uint_eq(chain_first(&chain, 7), CHAIN_END);
    chain_add(&chain, 7, 0);
    chain_add(&chain, 7 + COUNT, 1); /* the same chain */
    chain_add(&chain, 7, COUNT - 1);
    chain_add(&chain, 8, 2);
    ck_assert(has(7, 0) && has(7, COUNT - 1) && has(7 + COUNT, 1) && has(8, 2));
    ck_assert(!has(8, 0) && !has(9, 2));
}
END_TEST

START_TEST(first_middle_and_last_leave)
{
    for (uint32_t i = 0; i < 5; i++)
        chain_add(&chain, 1, i);
    chain_remove(&chain, 1, 4);
    ck_assert(!has(1, 4) && has(1, 3) && has(1, 0));
    chain_remove(&chain, 1, 2);
    ck_assert(!has(1, 2) && has(1, 3) && has(1, 1));
    chain_remove(&chain, 1, 0);
    ck_assert(!has(1, 0) && has(1, 3) && has(1, 1));
    chain_add(&chain, 2, 0); /* and comes back elsewhere */
    ck_assert(has(2, 0) && !has(1, 0));
}
END_TEST

START_TEST(ids_that_are_counted_up_are_found_at_once)
{
    for (uint32_t i = 0; i < COUNT; i++)
        chain_add(&chain, 1000000 + i, i);
    chain.looked = 0;
    for (uint32_t i = 0; i < COUNT; i++)
        ck_assert_uint_eq(chain_first(&chain, 1000000 + i), i);
    ck_assert_uint_eq(chain.looked, COUNT);
}
END_TEST

START_TEST(a_chain_of_one)
{
    struct chain one;

    ck_assert(chain_open(&one, 1));
    chain_add(&one, UINT64_MAX, 0);
    ck_assert_uint_eq(chain_first(&one, UINT64_MAX), 0);
    ck_assert_uint_eq(chain_next(&one, 0), CHAIN_END);
    chain_remove(&one, UINT64_MAX, 0);
    ck_assert_uint_eq(chain_first(&one, UINT64_MAX), CHAIN_END);
    chain_close(&one);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chain");
    TCase *tcase = tcase_create("chain");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_was_added_is_found);
    tcase_add_test(tcase, first_middle_and_last_leave);
    tcase_add_test(tcase, ids_that_are_counted_up_are_found_at_once);
    tcase_add_test(tcase, a_chain_of_one);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
