/* slab: unique indices, which item is used again first and after how many others, explicit
 * exhaustion, counters, and untouched memory. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/slab.h"

#define COUNT 100u

static struct slab slab;

static void open_slab(void)
{
    ck_assert(slab_open(&slab, 48, COUNT, 0));
}

/* For long runs: Check's own assertions write to a file each time, minutes of valgrind. */
#define ALWAYS(what)                   \
    do {                               \
        if (!(what))                   \
            ck_abort_msg("%s", #what); \
    } while (0)

/* Steps of a random run: some seconds of valgrind. */
static unsigned long_run(void)
{
    static unsigned steps;

    if (steps == 0)
        steps = getenv("CULVERT_LONG") != NULL ? 200000 : 50000;
    return steps;
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
            ALWAYS(index < COUNT);
            ALWAYS(!used[index]);
            used[index] = true;
            count++;
        }
        peak = count > peak ? count : peak;
        ALWAYS(slab.used == count);
        ALWAYS(slab.peak == peak);
    }
}
END_TEST

/* 1 TiB of items costs address space only: what was never taken has no page. */
START_TEST(unused_items_cost_nothing)
{
    struct slab big;
    unsigned char resident[4];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (!slab_open(&big, 1u << 20, 1u << 20, 0))
        return; /* a limit of address space: sanitizers, ulimit -v */
    char *item = slab_at(&big, slab_take(&big));
    item[0] = 1;
    ck_assert_int_eq(mincore(item, 4 * page, resident), 0);
    ck_assert_uint_eq(resident[3] & 1, 0);
    slab_close(&big);
}
END_TEST

static void give_all(struct slab *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        slab_give(s, i);
}

START_TEST(first_given_is_first_taken_where_asked)
{
    struct slab fifo;

    ck_assert(slab_open(&fifo, 48, COUNT, 1));
    for (uint32_t i = 0; i < 4; i++)
        ck_assert_uint_eq(slab_take(&fifo), i);
    slab_give(&fifo, 2);
    slab_give(&fifo, 0);
    slab_give(&fifo, 3);
    ck_assert_uint_eq(slab_take(&fifo), 2);
    slab_give(&fifo, 2);
    ck_assert_uint_eq(slab_take(&fifo), 0);
    ck_assert_uint_eq(slab_take(&fifo), 3);
    ck_assert_uint_eq(slab_take(&fifo), 2);
    ck_assert_uint_eq(slab_take(&fifo), 4);
    slab_close(&fifo);
}
END_TEST

/* Fresh items go first as long as too few are free; where there is none left, the oldest of the
 * few. */
START_TEST(fresh_ones_until_enough_are_free)
{
    const uint32_t apart = 10;
    struct slab fifo;

    ck_assert(slab_open(&fifo, 48, 30, apart));
    for (uint32_t i = 0; i < 15; i++)
        ck_assert_uint_eq(slab_take(&fifo), i);
    give_all(&fifo, 9);
    ck_assert_uint_eq(slab_take(&fifo), 15); /* 9 are free */
    slab_give(&fifo, 9);
    ck_assert_uint_eq(slab_take(&fifo), 0);
    for (uint32_t i = 16; i < 30; i++)
        ck_assert_uint_eq(slab_take(&fifo), i);
    for (uint32_t i = 1; i < 10; i++)
        ck_assert_uint_eq(slab_take(&fifo), i);
    ck_assert_uint_eq(slab_take(&fifo), SLAB_NONE);
    slab_give(&fifo, 29);
    ck_assert_uint_eq(slab_take(&fifo), 29);
    ck_assert_uint_eq(slab_take(&fifo), SLAB_NONE);
    slab_close(&fifo);
}
END_TEST

/* Whatever is taken and given back, and in which order: between two times that an item is taken,
 * but for its first, lie `apart` - 1 others. */
START_TEST(random_run_keeps_them_apart)
{
    const uint32_t count = 600, apart = 100, most = 400;
    uint32_t *used = calloc(count, sizeof(*used)), live = 0, seed = 1;
    uint64_t *taken = calloc(count, sizeof(*taken)), takes = 0, again = 0, nearest = UINT64_MAX;
    unsigned *times = calloc(count, sizeof(*times));
    struct slab fifo;

    ck_assert(used != NULL && taken != NULL && times != NULL);
    ck_assert(slab_open(&fifo, 48, count, apart));
    for (unsigned step = 0; step < long_run(); step++) {
        seed = seed * 1103515245u + 12345u;
        bool fill = (step / 3000) % 2 == 0; /* rises and falls, and short visits in between */
        if (live > 0 && (live == most || (seed >> 8) % 100 < (fill ? 45u : 55u))) {
            uint32_t pick = (seed >> 16) % live;
            slab_give(&fifo, used[pick]);
            used[pick] = used[--live];
            continue;
        }
        uint32_t index = slab_take(&fifo);
        ALWAYS(index < count);
        if (times[index]++ > 1) {
            uint64_t others = takes - taken[index] - 1;
            nearest = others < nearest ? others : nearest;
            again++;
        }
        taken[index] = takes++;
        used[live++] = index;
    }
    ck_assert_uint_gt(again, 10000);
    ck_assert_uint_ge(nearest, apart - 1);
    slab_close(&fifo);
    free(used);
    free(taken);
    free(times);
}
END_TEST

static unsigned resident_pages(const void *base, size_t size)
{
    static unsigned char pages[1024];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned count = 0;

    ck_assert_uint_le(size / page, sizeof(pages));
    ck_assert_int_eq(mincore((void *)(uintptr_t)base, size, pages), 0);
    for (size_t i = 0; i < size / page; i++)
        count += pages[i] & 1u;
    return count;
}

static unsigned rest_all(struct slab *s)
{
    unsigned count = 0;

    for (; slab_leaving(s) != SLAB_NONE; count++)
        slab_rest(s);
    return count;
}

static void take_and_touch(struct slab *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char *item = slab_at(s, slab_take(s));
        for (size_t k = 0; k < s->item_size; k++)
            ALWAYS(item[k] == 0);
        memset(item, 1, s->item_size);
    }
}

/* Items of two pages: what was free for a whole period goes, what was needed in it stays. */
START_TEST(what_was_free_for_a_period_is_given_back)
{
    struct slab s;
    const size_t size = 8192;

    ck_assert(slab_open(&s, size, 64, 0));
    take_and_touch(&s, 64);
    ck_assert_uint_eq(resident_pages(s.items, 64 * size), 128);
    for (uint32_t i = 0; i < 60; i++)
        slab_give(&s, i);
    slab_age(&s);
    ck_assert_uint_eq(rest_all(&s), 0); /* not yet a whole one */
    for (unsigned i = 0; i < 10; i++)
        ck_assert_uint_eq(slab_take(&s), 59 - i);
    for (uint32_t i = 50; i < 60; i++)
        slab_give(&s, i);
    slab_age(&s);
    ck_assert_uint_eq(rest_all(&s), 50);
    ck_assert_uint_eq(resident_pages(s.items, 50 * size), 0);
    ck_assert_uint_eq(resident_pages(slab_at(&s, 50), 14 * size), 28);
    slab_age(&s);
    ck_assert_uint_eq(rest_all(&s), 10);
    ck_assert_uint_eq(s.used, 4);
    ck_assert(!slab_is_warm(&s));
    take_and_touch(&s, 60);
    ck_assert_uint_eq(slab_take(&s), SLAB_NONE);
    slab_close(&s);
}
END_TEST

/* Items that share pages: a page goes with the last of them. */
START_TEST(a_page_goes_with_its_last_item)
{
    struct slab s;
    const uint32_t count = 4096 * 3 / 48; /* three pages, none of them of whole items */

    ck_assert(slab_open(&s, 48, count, 0));
    take_and_touch(&s, count);
    for (uint32_t i = 0; i < count; i++)
        if (i != 100) /* in the second page */
            slab_give(&s, i);
    slab_age(&s);
    slab_age(&s);
    ck_assert_uint_eq(rest_all(&s), count - 1);
    ck_assert_uint_eq(resident_pages(s.items, 4096), 0);
    ck_assert_uint_eq(resident_pages(s.items + 4096, 4096), 1);
    ck_assert_uint_eq(resident_pages(s.items + 8192, 4096), 0);
    ck_assert_int_eq(((char *)slab_at(&s, 100))[47], 1);
    slab_give(&s, 100);
    slab_age(&s);
    slab_age(&s);
    ck_assert_uint_eq(rest_all(&s), 1);
    ck_assert_uint_eq(resident_pages(s.items, 3 * 4096), 0);
    take_and_touch(&s, count);
    slab_close(&s);
}
END_TEST

/* Whatever is taken, given and aged: no item is there twice, none is lost, and what one holds stays
 * as long as it is in use. */
START_TEST(random_run_with_rest)
{
    uint32_t tags[COUNT] = { 0 }, seed = 7, rested = 0;
    unsigned count = 0;

    for (unsigned step = 1; step < long_run(); step++) {
        seed = seed * 1103515245u + 12345u;
        unsigned pick = (seed >> 8) % COUNT;
        if ((seed >> 16) % 50 == 0)
            slab_age(&slab);
        if ((seed >> 16) % 3 == 0 && slab_leaving(&slab) != SLAB_NONE) {
            slab_rest(&slab);
            rested++;
        }
        if (tags[pick] != 0) {
            ALWAYS(*(uint32_t *)slab_at(&slab, pick) == tags[pick]);
            slab_give(&slab, pick);
            tags[pick] = 0;
            count--;
        } else if ((step / 2000) % 2 == 0) { /* many in use, then few */
            uint32_t index = slab_take(&slab);
            ALWAYS(index < COUNT && tags[index] == 0);
            *(uint32_t *)slab_at(&slab, index) = tags[index] = step;
            count++;
        }
        ALWAYS(slab.used == count);
    }
    ck_assert_uint_gt(rested, 1000);
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
    tcase_add_test(tcase, first_given_is_first_taken_where_asked);
    tcase_add_test(tcase, fresh_ones_until_enough_are_free);
    tcase_add_test(tcase, random_run_keeps_them_apart);
    tcase_add_test(tcase, unused_items_cost_nothing);
    tcase_add_test(tcase, what_was_free_for_a_period_is_given_back);
    tcase_add_test(tcase, a_page_goes_with_its_last_item);
    tcase_add_test(tcase, random_run_with_rest);
    tcase_add_test_raise_signal(tcase, an_item_never_taken_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tcase, giving_what_was_not_taken_is_a_bug, SIGABRT);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
