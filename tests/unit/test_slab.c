/* slab: unique indices, reuse of the hot item first, explicit exhaustion, counters, and untouched memory. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/slab.h"

#define COUNT 100u

static struct slab slab;

static void open_slab(void)
{
    ck_assert(slab_open(&slab, 48, COUNT));
}

static void close_slab(void)
{
    slab_close(&slab);
}

START_TEST(gives_each_item_once_then_none)
{
    bool seen[COUNT] = { false };

    for (unsigned i = 0; i < COUNT; i++) {
        uint32_t index = slab_take(&slab);
        ck_assert_uint_lt(index, COUNT);
        ck_assert(!seen[index]);
        seen[index] = true;
        ck_assert_uint_eq(slab.used, i + 1);
        ck_assert_uint_eq(slab_available(&slab), COUNT - i - 1);
    }
    ck_assert_uint_eq(slab_take(&slab), SLAB_NONE);
    ck_assert_uint_eq(slab.used, COUNT);
    slab_give(&slab, 37);
    ck_assert_uint_eq(slab_take(&slab), 37);
    ck_assert_uint_eq(slab_take(&slab), SLAB_NONE);
    ck_assert_uint_eq(slab.peak, COUNT);
}
END_TEST

START_TEST(last_given_is_first_taken)
{
    uint32_t a = slab_take(&slab), b = slab_take(&slab), c = slab_take(&slab);

    slab_give(&slab, b);
    slab_give(&slab, a);
    slab_give(&slab, c);
    ck_assert_uint_eq(slab_take(&slab), c);
    ck_assert_uint_eq(slab_take(&slab), a);
    ck_assert_uint_eq(slab_take(&slab), b);
    ck_assert_uint_eq(slab.fresh, 3);
    ck_assert_uint_eq(slab.peak, 3);
}
END_TEST

START_TEST(items_are_zero_apart_and_found_again)
{
    for (unsigned i = 0; i < COUNT; i++) {
        uint32_t index = slab_take(&slab);
        unsigned char *item = slab_at(&slab, index);
        for (unsigned k = 0; k < 48; k++)
            ck_assert_uint_eq(item[k], 0);
        memset(item, 0xa5, 48);
        ck_assert_uint_eq(slab_index(&slab, item), index);
        ck_assert_uint_eq(slab_index(&slab, item + 47), index);
    }
}
END_TEST

START_TEST(random_run_against_flags)
{
    bool used[COUNT] = { false };
    unsigned count = 0, seed = 1, peak = 0;

    for (unsigned step = 0; step < 50000; step++) {
        seed = seed * 1103515245u + 12345u;
        unsigned pick = (seed >> 8) % COUNT;
        if (used[pick]) {
            slab_give(&slab, pick);
            used[pick] = false;
            count--;
        } else {
            uint32_t index = slab_take(&slab);
            ck_assert_uint_lt(index, COUNT);
            ck_assert(!used[index]);
            used[index] = true;
            count++;
        }
        peak = count > peak ? count : peak;
        ck_assert_uint_eq(slab.used, count);
        ck_assert_uint_eq(slab.peak, peak);
    }
}
END_TEST

/* 1 TiB of items costs address space only: what was never taken has no page. */
START_TEST(unused_items_cost_nothing)
{
    struct slab big;
    unsigned char resident[4];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (!slab_open(&big, 1u << 20, 1u << 20))
        return; /* a limit of address space: sanitizers, ulimit -v */
    char *item = slab_at(&big, slab_take(&big));
    item[0] = 1;
    ck_assert_int_eq(mincore(item, 4 * page, resident), 0);
    ck_assert_uint_eq(resident[3] & 1, 0);
    slab_close(&big);
}
END_TEST

START_TEST(an_item_never_taken_is_a_bug)
{
    (void)slab_take(&slab);
    (void)slab_at(&slab, 1);
}
END_TEST

START_TEST(giving_what_was_not_taken_is_a_bug)
{
    slab_give(&slab, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slab");
    TCase *tcase = tcase_create("slab");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, open_slab, close_slab);
    tcase_add_test(tcase, gives_each_item_once_then_none);
    tcase_add_test(tcase, last_given_is_first_taken);
    tcase_add_test(tcase, items_are_zero_apart_and_found_again);
    tcase_add_test(tcase, random_run_against_flags);
    tcase_add_test(tcase, unused_items_cost_nothing);
    tcase_add_test_raise_signal(tcase, an_item_never_taken_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tcase, giving_what_was_not_taken_is_a_bug, SIGABRT);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
