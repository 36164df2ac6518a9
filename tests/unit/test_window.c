/*
 * window: both ends of the credit arithmetic together. The sender's credit is always the receiver's
 * `granted` less what is on the way, no honest sender is ever refused, credit never passes the
 * size, and a window grows only when it is what limits. Beside sparse streams no more is
 * outstanding than the limit, once what was granted before has come.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/wire/window.h"

#define MSEC NSEC_PER_MSEC

/* An update by an owner that is within its share, and whose budget what is counted comes from. */
static uint32_t update(struct window_rx *rx, uint64_t now, uint64_t rtt, uint32_t limit,
                       uint32_t max, uint64_t *budget)
{
    struct window_terms terms = { .rtt = rtt, .limit = limit, .max = max, .room = *budget };
    uint32_t counted = rx->counted, increment = window_rx_update(rx, now, &terms);

    *budget += counted;
    *budget -= rx->counted;
    return increment;
}

START_TEST(a_new_window_grants_its_size)
{
    struct window_rx rx;

    window_rx_init(&rx, 65536, 0);
    ck_assert_uint_eq(rx.granted, 65536);
    ck_assert(!window_rx_due(&rx, WINDOW_NO_LIMIT));
    ck_assert(window_rx_push(&rx, 65536));
    ck_assert(!window_rx_push(&rx, 1));
    ck_assert(window_rx_push(&rx, 0));
}
END_TEST

START_TEST(an_update_is_due_at_half_the_size)
{
    struct window_rx rx;
    uint64_t budget = 0;

    window_rx_init(&rx, 1000, 0);
    ck_assert(window_rx_push(&rx, 1000));
    window_rx_consume(&rx, 499);
    ck_assert(!window_rx_due(&rx, WINDOW_NO_LIMIT));
    window_rx_consume(&rx, 1);
    ck_assert(window_rx_due(&rx, WINDOW_NO_LIMIT));
    ck_assert_uint_eq(update(&rx, 1, MSEC, WINDOW_NO_LIMIT, 4000, &budget), 500);
    ck_assert(!window_rx_due(&rx, WINDOW_NO_LIMIT));
    ck_assert_uint_eq(rx.size, 1000); /* no budget: no growth */
    ck_assert_uint_eq(rx.granted, 500);
}
END_TEST

static uint32_t use_half(struct window_rx *rx, uint64_t now, uint64_t rtt, uint32_t max,
                         uint64_t *budget)
{
    uint32_t half = rx->size / 2;

    ck_assert(window_rx_push(rx, half));
    window_rx_consume(rx, half);
    return update(rx, now, rtt, WINDOW_NO_LIMIT, max, budget);
}

START_TEST(grows_when_used_up_within_two_round_trips)
{
    struct window_rx rx;
    uint64_t budget = 10000000;

    window_rx_init(&rx, 1000, 0);
    ck_assert_uint_eq(use_half(&rx, 19 * MSEC, 10 * MSEC, 4000, &budget), 500 + 1000);
    ck_assert_uint_eq(rx.size, 2000);
    ck_assert_uint_eq(budget, 10000000 - 1000);
    ck_assert_uint_eq(use_half(&rx, 100 * MSEC, 10 * MSEC, 4000, &budget), 1000); /* slow: stays */
    ck_assert_uint_eq(rx.size, 2000);
    ck_assert_uint_eq(use_half(&rx, 110 * MSEC, 10 * MSEC, 4000, &budget), 1000 + 2000);
    ck_assert_uint_eq(use_half(&rx, 111 * MSEC, 10 * MSEC, 4000, &budget), 2000); /* at its most */
    ck_assert_uint_eq(rx.size, 4000);
}
END_TEST

START_TEST(growth_is_bounded_by_the_budget)
{
    struct window_rx rx;
    uint64_t budget = 300;

    window_rx_init(&rx, 1000, 0);
    ck_assert_uint_eq(use_half(&rx, 1, MSEC, 1u << 30, &budget), 500 + 300);
    ck_assert_uint_eq(budget, 0);
    ck_assert_uint_eq(use_half(&rx, 2, MSEC, 1u << 30, &budget), 650);
    ck_assert_uint_eq(rx.size, 1300);
}
END_TEST

START_TEST(a_limit_withholds_and_gives_back)
{
    struct window_rx rx;
    uint64_t budget = 1u << 30;

    window_rx_init(&rx, 1000, 0);
    ck_assert(window_rx_push(&rx, 900));
    window_rx_consume(&rx, 649);
    ck_assert(
        !window_rx_due(&rx, 400)); /* 351 are outstanding, seven eighths of the limit are 350 */
    window_rx_consume(&rx, 1);
    ck_assert(window_rx_due(&rx, 400));
    ck_assert_uint_eq(update(&rx, 1, MSEC, 400, 4000, &budget), 50);
    ck_assert_uint_eq(rx.granted + rx.held, 400);
    ck_assert_uint_eq(rx.size, 1000); /* quick, and yet it does not grow */
    ck_assert(!window_rx_due(&rx, 400));
    ck_assert(window_rx_due(&rx, WINDOW_NO_LIMIT)); /* the sparse ones are quiet: all of it */
    ck_assert_uint_eq(update(&rx, 2, MSEC, WINDOW_NO_LIMIT, 4000, &budget), 600);
    ck_assert_uint_eq(rx.size,
                      1000); /* soon after the last one, but it was not the window that limited */
    ck_assert_uint_eq(rx.granted + rx.held, 1000);
}
END_TEST

START_TEST(the_limit_is_a_few_paths_at_the_rate)
{
    struct window_rx rx;
    uint64_t budget = 0;
    const uint32_t size = 32u << 20, half = size / 2;

    window_rx_init(&rx, size, 0);
    ck_assert_uint_eq(window_rx_limit(&rx, 50 * MSEC, 1000),
                      WINDOW_NO_LIMIT); /* nothing is known yet */
    use_half(&rx, 9 * MSEC, MSEC, size, &budget);
    ck_assert_uint_eq(window_rx_limit(&rx, 50 * MSEC, 1000), WINDOW_NO_LIMIT);
    use_half(&rx, 1000 * MSEC, MSEC, size, &budget); /* 32 MiB in a second */
    ck_assert_uint_eq(rx.rate, size);
    ck_assert_uint_eq(window_rx_limit(&rx, 50 * MSEC, 1000), size / 20 * 2);
    ck_assert_uint_eq(window_rx_limit(&rx, 0, WINDOW_LIMIT_COPIED), 160u << 10);
    ck_assert_uint_eq(window_rx_limit(&rx, 0, WINDOW_LIMIT_MOVED), 96u << 10);
    ck_assert_uint_eq(window_rx_limit(&rx, 3600000 * MSEC, 1000), WINDOW_NO_LIMIT);
    use_half(&rx, 9000 * MSEC, MSEC, size, &budget); /* slow for once */
    ck_assert_uint_eq(rx.rate, size - size / 8);
    use_half(&rx, 9010 * MSEC, 20 * MSEC, size, &budget); /* less than a round trip: no sample */
    ck_assert_uint_eq(rx.rate, size - size / 8);
    use_half(&rx, 9100 * MSEC, 20 * MSEC, size, &budget);
    ck_assert_uint_eq(rx.rate, half * 2 * UINT64_C(10)); /* both halves in 100 ms */
}
END_TEST

START_TEST(sparse_is_little_in_small_frames)
{
    struct window_rx rx;

    window_rx_init(&rx, 16u << 20, 5 * MSEC);
    ck_assert(window_rx_is_sparse(&rx, 64, 5 * MSEC));
    ck_assert(!window_rx_is_sparse(&rx, 0, 5 * MSEC)); /* a bare FIN */
    ck_assert(!window_rx_is_sparse(&rx, 4097, 5 * MSEC));
    for (unsigned i = 0; i < 6; i++)
        ck_assert(window_rx_is_sparse(&rx, 4096, 6 * MSEC));
    ck_assert(!window_rx_is_sparse(&rx, 4096,
                                   6 * MSEC)); /* beyond 32 KiB in 20 ms: bulk in small pieces */
    ck_assert(!window_rx_is_sparse(&rx, 1, 25 * MSEC));
    ck_assert(window_rx_is_sparse(&rx, 1, 26 * MSEC + 20 * MSEC));
}
END_TEST

START_TEST(credit_beyond_the_limit_is_refused)
{
    struct window_tx tx = { .credit = INT32_MAX - 10 };

    ck_assert(window_tx_add(&tx, 10));
    ck_assert(!window_tx_add(&tx, 1));
    ck_assert_uint_eq(tx.credit, INT32_MAX);
    tx.credit = 5;
    ck_assert(!window_tx_add(&tx, UINT32_MAX)); /* must not wrap */
    ck_assert_uint_eq(tx.credit, 5);
}
END_TEST

START_TEST(sending_beyond_credit_is_a_bug)
{
    struct window_tx tx = { .credit = 5 };

    window_tx_take(&tx, 6);
}
END_TEST

START_TEST(consuming_what_is_not_held_is_a_bug)
{
    struct window_rx rx;

    window_rx_init(&rx, 100, 0);
    window_rx_consume(&rx, 1);
}
END_TEST

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Grown from 1000 to 8000, all counted. */
static void grow(struct window_rx *rx, uint64_t *budget)
{
    window_rx_init(rx, 1000, 0);
    for (unsigned i = 1; i <= 3; i++)
        use_half(rx, i, MSEC, 8000, budget);
    ck_assert_uint_eq(rx->size, 8000);
    ck_assert_uint_eq(rx->counted, 7000);
}

START_TEST(the_window_of_an_owner_with_too_much_shrinks)
{
    struct window_terms terms = {
        .rtt = MSEC, .limit = WINDOW_NO_LIMIT, .max = 8000, .room = 0, .over = true
    };
    uint64_t budget = 10000;
    struct window_rx rx;

    grow(&rx, &budget);
    for (uint32_t size = 4000; size >= 1000; size /= 2) {
        uint32_t half = rx.size / 2;
        ck_assert(window_rx_push(&rx, half));
        window_rx_consume(&rx, half);
        ck_assert_uint_eq(window_rx_update(&rx, 4, &terms), 0); /* none of it is granted again */
        ck_assert_uint_eq(rx.size, size);
        ck_assert_uint_eq(rx.counted, size - 1000);
    }
    ck_assert(window_rx_push(&rx, 500)); /* at its initial size it goes on */
    window_rx_consume(&rx, 500);
    ck_assert_uint_eq(window_rx_update(&rx, 5, &terms), 500);
    ck_assert_uint_eq(rx.size, 1000);
}
END_TEST

START_TEST(a_stream_at_rest_gives_up_what_is_counted)
{
    uint64_t budget = 10000;
    struct window_rx rx;

    grow(&rx, &budget);
    ck_assert(window_rx_push(&rx, 10));
    ck_assert_uint_eq(window_rx_lapse(&rx), 0); /* it holds something */
    window_rx_consume(&rx, 10);
    ck_assert_uint_eq(window_rx_lapse(&rx), 7000);
    ck_assert_uint_eq(window_rx_lapse(&rx), 0);
    ck_assert_uint_eq(rx.size, 8000);
    budget = 5000; /* others have taken the rest meanwhile */
    ck_assert(window_rx_push(&rx, 3990));
    window_rx_consume(&rx, 3990);
    ck_assert_uint_eq(update(&rx, 9, MSEC, WINDOW_NO_LIMIT, 8000, &budget), 2000);
    ck_assert_uint_eq(rx.size, 6000);
    ck_assert_uint_eq(rx.counted, 5000);
    ck_assert_uint_eq(budget, 0);
}
END_TEST

static uint32_t two_ends_update(struct window_rx *rx, uint64_t now, uint32_t limit, uint32_t *seed,
                                uint64_t *budget)
{
    struct window_terms terms = { .rtt = MSEC,
                                  .limit = limit,
                                  .max = 4000,
                                  .room = next_random(seed) % (*budget + 1),
                                  .over = next_random(seed) % 8 == 0 };
    uint32_t counted = rx->counted, increment = window_rx_update(rx, now, &terms);

    *budget += counted;
    *budget -= rx->counted;
    return increment;
}

/* Two ends and a path that delays both data and updates. */
START_TEST(two_ends_agree)
{
    struct window_tx tx = { .credit = 1000 };
    struct window_rx rx;
    uint64_t budget = 5000, now = 0, data_on_way = 0, credit_on_way = 0, sent = 0;
    uint32_t seed = (uint32_t)_i + 1, limit = WINDOW_NO_LIMIT, most = 0;

    window_rx_init(&rx, 1000, 0);
    for (unsigned step = 0; step < 20000; step++) {
        uint32_t amount = next_random(&seed) % 700;
        if (step % 64 == 0) {
            limit = next_random(&seed) % 2 == 0 ? WINDOW_NO_LIMIT : 50 + next_random(&seed) % 3000;
            most = rx.granted + rx.held;
        }
        now += next_random(&seed) % (4 * MSEC);
        switch (next_random(&seed) % 4) {
        case 0:
            amount = min_u32(amount, tx.credit);
            window_tx_take(&tx, amount);
            data_on_way += amount;
            sent += amount;
            break;
        case 1:
            amount = (uint32_t)min_u64(amount, data_on_way);
            ck_assert(window_rx_push(&rx, amount)); /* honest: never refused */
            data_on_way -= amount;
            break;
        case 2:
            window_rx_consume(&rx, min_u32(amount, rx.held));
            if (next_random(&seed) % 50 == 0)
                budget += window_rx_lapse(&rx);
            if (window_rx_due(&rx, limit))
                credit_on_way += two_ends_update(&rx, now, limit, &seed, &budget);
            break;
        default:
            amount = (uint32_t)min_u64(amount, credit_on_way);
            ck_assert(window_tx_add(&tx, amount));
            credit_on_way -= amount;
            break;
        }
        ck_assert_uint_eq(tx.credit + data_on_way + credit_on_way, rx.granted);
        ck_assert_uint_le(rx.held + data_on_way, rx.size); /* memory is bounded by the window */
        if (limit < rx.size)
            ck_assert_uint_le(rx.granted + rx.held, max_u64(limit, most));
        ck_assert_uint_eq(5000 - budget, rx.counted);
    }
    ck_assert_uint_gt(sent, 100000); /* it never ran dry for good */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("window");
    TCase *tcase = tcase_create("window");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_new_window_grants_its_size);
    tcase_add_test(tcase, an_update_is_due_at_half_the_size);
    tcase_add_test(tcase, grows_when_used_up_within_two_round_trips);
    tcase_add_test(tcase, growth_is_bounded_by_the_budget);
    tcase_add_test(tcase, a_limit_withholds_and_gives_back);
    tcase_add_test(tcase, the_limit_is_a_few_paths_at_the_rate);
    tcase_add_test(tcase, sparse_is_little_in_small_frames);
    tcase_add_test(tcase, the_window_of_an_owner_with_too_much_shrinks);
    tcase_add_test(tcase, a_stream_at_rest_gives_up_what_is_counted);
    tcase_add_test(tcase, credit_beyond_the_limit_is_refused);
    tcase_add_test_raise_signal(tcase, sending_beyond_credit_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tcase, consuming_what_is_not_held_is_a_bug, SIGABRT);
    tcase_add_loop_test(tcase, two_ends_agree, 0, 10);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
