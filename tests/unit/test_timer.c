/*
 * timer: never early, late by at most one tick, moved and stopped timers, callbacks that touch
 * other timers, timers more than a rotation away, and a random run against a plain array of due
 * times.
 */
#include <check.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/io/timer.h"

#define TIMERS 64u

struct item {
    struct timer timer;
    unsigned fired;
    uint64_t at;
};

static struct timer_wheel wheel;
static struct item items[TIMERS];
static uint64_t now;
static void (*also)(struct item *item);

static void fire(struct timer *timer)
{
    struct item *item = container_of(timer, struct item, timer);

    ck_assert(!timer_is_set(timer));
    ck_assert_uint_le(timer->due, now);
    item->fired++;
    item->at = now;
    if (also != NULL)
        also(item);
}

static void setup(void)
{
    now = 1000 * NSEC_PER_SEC + 12345;
    also = NULL;
    timer_wheel_init(&wheel, now);
    for (unsigned i = 0; i < TIMERS; i++) {
        items[i] = (struct item){ 0 };
        timer_init(&items[i].timer, fire);
    }
}

static void run_to(uint64_t time)
{
    now = time;
    timer_run(&wheel, now);
}

START_TEST(an_empty_wheel_never_wakes)
{
    ck_assert_uint_eq(timer_next(&wheel, now), UINT64_MAX);
    run_to(now + 3600 * NSEC_PER_SEC);
    ck_assert_uint_eq(timer_next(&wheel, now), UINT64_MAX);
}
END_TEST

/* An idle worker sleeps exactly timer_next() at a time; so do these. */
static unsigned sleep_until_fired(struct item *item)
{
    unsigned wakes = 0;

    while (item->fired == 0) {
        uint64_t sleep = timer_next(&wheel, now);
        ck_assert_uint_ne(sleep, UINT64_MAX);
        run_to(now + sleep);
        ck_assert_uint_lt(++wakes, 10000);
    }
    return wakes;
}

START_TEST(fires_once_and_never_early)
{
    static const uint64_t delays[] = { 0,
                                       1,
                                       TIMER_TICK_NS - 1,
                                       TIMER_TICK_NS,
                                       TIMER_TICK_NS + 1,
                                       NSEC_PER_SEC,
                                       TIMER_BUCKETS * TIMER_TICK_NS - 1,
                                       TIMER_BUCKETS * TIMER_TICK_NS,
                                       TIMER_BUCKETS * TIMER_TICK_NS + 1,
                                       10 * NSEC_PER_SEC,
                                       3600 * NSEC_PER_SEC };

    for (unsigned i = 0; i < ARRAY_SIZE(delays); i++) {
        uint64_t due = now + delays[i];
        timer_set(&wheel, &items[i].timer, due);
        ck_assert(timer_is_set(&items[i].timer));
        unsigned wakes = sleep_until_fired(&items[i]);
        ck_assert_uint_ge(items[i].at, due);
        ck_assert_uint_le(items[i].at, due + TIMER_TICK_NS);
        /* a far timer is looked at once per rotation and no more */
        ck_assert_uint_le(wakes, 2 + delays[i] / (TIMER_BUCKETS * TIMER_TICK_NS));
        ck_assert_uint_eq(items[i].fired, 1);
    }
}
END_TEST

START_TEST(a_due_time_in_the_past_fires_at_the_next_tick)
{
    timer_set(&wheel, &items[0].timer, now - NSEC_PER_SEC);
    run_to(now + TIMER_TICK_NS);
    ck_assert_uint_eq(items[0].fired, 1);
}
END_TEST

START_TEST(a_moved_timer_fires_at_its_new_time_only)
{
    uint64_t start = now;

    timer_set(&wheel, &items[0].timer, start + 100 * NSEC_PER_MSEC);
    timer_set(&wheel, &items[0].timer, start + 300 * NSEC_PER_MSEC);
    timer_set(&wheel, &items[1].timer, start + 300 * NSEC_PER_MSEC);
    timer_set(&wheel, &items[1].timer, start + 100 * NSEC_PER_MSEC);
    run_to(start + 200 * NSEC_PER_MSEC);
    ck_assert_uint_eq(items[0].fired, 0);
    ck_assert_uint_eq(items[1].fired, 1);
    run_to(start + 400 * NSEC_PER_MSEC);
    ck_assert_uint_eq(items[0].fired, 1);
    ck_assert_uint_eq(items[1].fired, 1);
}
END_TEST

START_TEST(a_stopped_timer_does_not_fire)
{
    timer_set(&wheel, &items[0].timer, now + NSEC_PER_SEC);
    timer_stop(&items[0].timer);
    timer_stop(&items[0].timer);
    ck_assert(!timer_is_set(&items[0].timer));
    ck_assert_uint_eq(timer_next(&wheel, now), UINT64_MAX);
    run_to(now + 10 * NSEC_PER_SEC);
    ck_assert_uint_eq(items[0].fired, 0);
}
END_TEST

static void set_itself_again(struct item *item)
{
    if (item->fired < 5)
        timer_set(&wheel, &item->timer, now + NSEC_PER_SEC);
}

START_TEST(a_callback_may_set_its_own_timer)
{
    also = set_itself_again;
    timer_set(&wheel, &items[0].timer, now + NSEC_PER_SEC);
    for (unsigned i = 0; i < 2000; i++)
        run_to(now + 10 * NSEC_PER_MSEC);
    ck_assert_uint_eq(items[0].fired, 5);
}
END_TEST

static void stop_all_others(struct item *item)
{
    for (unsigned i = 0; i < TIMERS; i++)
        if (&items[i] != item)
            timer_stop(&items[i].timer);
}

START_TEST(a_callback_may_stop_timers_that_are_due_with_it)
{
    unsigned fired = 0;

    also = stop_all_others;
    for (unsigned i = 0; i < TIMERS; i++)
        timer_set(&wheel, &items[i].timer, now + NSEC_PER_SEC);
    run_to(now + 2 * NSEC_PER_SEC);
    for (unsigned i = 0; i < TIMERS; i++)
        fired += items[i].fired;
    ck_assert_uint_eq(fired, 1);
}
END_TEST

/* One long sleep (a suspended machine) instead of many short ones. */
START_TEST(a_long_jump_fires_everything)
{
    for (unsigned i = 0; i < TIMERS; i++)
        timer_set(&wheel, &items[i].timer, now + (i + 1) * 777 * NSEC_PER_MSEC);
    run_to(now + 100 * NSEC_PER_SEC);
    for (unsigned i = 0; i < TIMERS; i++)
        ck_assert_uint_eq(items[i].fired, 1);
    ck_assert_uint_eq(timer_next(&wheel, now), UINT64_MAX);
}
END_TEST

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* One timer against its due time in the model (0: not set). */
static bool agrees(const struct item *item, uint64_t due, uint64_t before)
{
    if (due == 0)
        return !timer_is_set(&item->timer) && item->fired == 0;
    if (timer_is_set(&item->timer))
        return item->fired == 0 && now <= due + TIMER_TICK_NS; /* not forgotten */
    return item->fired == 1 && now >= due && before <= due + TIMER_TICK_NS;
}

static void check_model(const uint64_t *due, uint64_t before)
{
    uint64_t earliest = UINT64_MAX;
    bool agree = true;

    for (unsigned i = 0; i < TIMERS; i++) {
        agree = agree && agrees(&items[i], due[i], before);
        if (due[i] != 0 && timer_is_set(&items[i].timer))
            earliest = min_u64(earliest, due[i]);
    }
    ck_assert(agree);
    uint64_t next = timer_next(&wheel, now);
    if (earliest == UINT64_MAX)
        return;
    ck_assert_uint_ne(next, UINT64_MAX);
    ck_assert_uint_le(now + next, max_u64(earliest, now) + TIMER_TICK_NS);
}

START_TEST(random_run_against_an_array)
{
    uint64_t due[TIMERS] = { 0 };
    uint32_t seed = (uint32_t)_i + 1;

    for (unsigned step = 0; step < 3000; step++) {
        uint64_t before = now;
        unsigned pick = next_random(&seed) % TIMERS;
        items[pick].fired = 0;
        if (next_random(&seed) % 4 == 0) {
            timer_stop(&items[pick].timer);
            due[pick] = 0;
        } else {
            due[pick] = now + (uint64_t)next_random(&seed) * (next_random(&seed) % 1000);
            timer_set(&wheel, &items[pick].timer, due[pick]);
        }
        run_to(now + (uint64_t)next_random(&seed) * (next_random(&seed) % 8));
        check_model(due, before);
        for (unsigned i = 0; i < TIMERS; i++) {
            if (items[i].fired > 0)
                due[i] = 0;
            items[i].fired = 0;
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("timer");
    TCase *tcase = tcase_create("timer");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, an_empty_wheel_never_wakes);
    tcase_add_test(tcase, fires_once_and_never_early);
    tcase_add_test(tcase, a_due_time_in_the_past_fires_at_the_next_tick);
    tcase_add_test(tcase, a_moved_timer_fires_at_its_new_time_only);
    tcase_add_test(tcase, a_stopped_timer_does_not_fire);
    tcase_add_test(tcase, a_callback_may_set_its_own_timer);
    tcase_add_test(tcase, a_callback_may_stop_timers_that_are_due_with_it);
    tcase_add_test(tcase, a_long_jump_fires_everything);
    tcase_add_loop_test(tcase, random_run_against_an_array, 0, 10);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
