/* pinned: the account of locked memory: what is added, what may be tried, what is left to
 * others. */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/base/pinned.h"

START_TEST(without_a_limit_all_is_granted)
{
    ck_assert(pinned_try(UINT64_C(1) << 50));
    pinned_add(UINT64_C(1) << 50);
    ck_assert(pinned_try(MIB));
}
END_TEST

START_TEST(two_mebibytes_are_left_to_others)
{
    pinned_set_limit(8 * MIB);
    ck_assert_uint_eq(pinned_limit(), 8 * MIB);
    ck_assert_uint_eq(pinned_leave(), 2 * MIB);
    pinned_add(MIB);
    ck_assert(!pinned_try(5 * MIB + 1));
    ck_assert(pinned_try(5 * MIB));
    ck_assert(!pinned_try(1));
    pinned_drop(2 * MIB);
    ck_assert(pinned_try(2 * MIB));
    ck_assert(!pinned_try(1));
}
END_TEST

START_TEST(a_small_limit_leaves_a_quarter)
{
    pinned_set_limit(MIB);
    ck_assert_uint_eq(pinned_leave(), MIB / 4);
    ck_assert(!pinned_try(MIB));
    ck_assert(pinned_try(MIB * 3 / 4));
    pinned_set_limit(0);
    ck_assert_uint_eq(pinned_leave(), 0);
    ck_assert(!pinned_try(1));
    ck_assert(!pinned_try(UINT64_MAX)); /* no sum of it and the rest */
}
END_TEST

/* What had to be taken may be over the limit: then nothing more is. */
START_TEST(over_the_limit_nothing_may_be_tried)
{
    pinned_set_limit(4 * MIB);
    pinned_add(5 * MIB);
    ck_assert(!pinned_try(1));
    pinned_drop(5 * MIB);
    ck_assert(pinned_try(2 * MIB));
}
END_TEST

static void *take_and_drop(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 20000; i++)
        if (pinned_try(MIB))
            pinned_drop(MIB);
    return NULL;
}

START_TEST(threads_share_one_account)
{
    pthread_t threads[4];

    pinned_set_limit(8 * MIB);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_drop, NULL), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    ck_assert(pinned_try(6 * MIB));
    ck_assert(!pinned_try(1));
}
END_TEST

START_TEST(a_drop_too_many_is_a_bug)
{
    pinned_add(1);
    pinned_drop(2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pinned");
    TCase *tcase = tcase_create("account");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, without_a_limit_all_is_granted);
    tcase_add_test(tcase, two_mebibytes_are_left_to_others);
    tcase_add_test(tcase, a_small_limit_leaves_a_quarter);
    tcase_add_test(tcase, over_the_limit_nothing_may_be_tried);
    tcase_add_test(tcase, threads_share_one_account);
    tcase_add_test_raise_signal(tcase, a_drop_too_many_is_a_bug, SIGABRT);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
