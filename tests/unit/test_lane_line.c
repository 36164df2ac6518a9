/* lane_line: who gets a turn when there is room on a lane, in what order, and that no turn is lost.
 * Whether one is refused room is what the test says. */
#include <check.h>
#include <stdlib.h>

#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

#define MANY 9500u

static struct loop loop;
static struct lane lane;
static struct lane_waiter waiters[MANY];
static unsigned pumped[MANY]; /* in this order */
static unsigned pump_count;

static void setup(void)
{
    list_init(&loop.woken);
    lane = (struct lane){ .loop = &loop, .retain.keeps = true, .data.buf = BUF_NONE };
    lane_line_init(&lane);
    for (unsigned i = 0; i < MANY; i++)
        lane_waiter_init(&waiters[i]);
}

static void refuse(unsigned i, enum lane_line_kind line)
{
    waiters[i].refused = (uint8_t)line;
    lane_line_settle(&lane, &waiters[i]);
}

static void stand_in_line(unsigned from, unsigned to, enum lane_line_kind line)
{
    for (unsigned i = from; i < to; i++)
        refuse(i, line);
}

/* Pumps as the worker does; the first `room` of them are not refused. */
static void pump(unsigned room, enum lane_line_kind refused)
{
    struct list *node;

    pump_count = 0;
    while ((node = list_pop(&loop.woken)) != NULL) {
        struct lane_waiter *waiter = container_of(node, struct lane_waiter, woken);
        unsigned i = (unsigned)(waiter - waiters);

        if (pump_count < room && waiter->line == LANE_LINE_BULK)
            lane_line_served(waiter);
        refuse(i, pump_count < room ? LANE_LINE_NONE : refused);
        pumped[pump_count++] = i;
    }
}

START_TEST(a_send_wakes_few_of_many)
{
    stand_in_line(0, MANY, LANE_LINE_DATA);
    lane_tx_wake(&lane);
    pump(0, LANE_LINE_DATA);
    ck_assert_uint_eq(pump_count, 1);
    lane.data_busy = true; /* a big pack */
    lane_tx_wake(&lane);
    pump(0, LANE_LINE_DATA);
    ck_assert_uint_gt(pump_count, 1);
    ck_assert_uint_lt(pump_count, 20);
}
END_TEST

START_TEST(as_many_go_as_there_is_room_for_in_order)
{
    stand_in_line(0, MANY, LANE_LINE_DATA);
    lane_tx_wake(&lane);
    pump(3000, LANE_LINE_DATA);
    ck_assert_uint_eq(pump_count, 3001);
    for (unsigned i = 0; i < pump_count; i++)
        ck_assert_uint_eq(pumped[i], i);
    lane_tx_wake(&lane); /* who was refused kept its place */
    pump(MANY, LANE_LINE_DATA);
    ck_assert_uint_eq(pump_count, MANY - 3000);
    for (unsigned i = 0; i < pump_count; i++)
        ck_assert_uint_eq(pumped[i], 3000 + i);
    ck_assert(list_empty(&lane.lines[LANE_LINE_DATA].waiters));
}
END_TEST

START_TEST(a_turn_is_passed_on_by_who_is_over)
{
    stand_in_line(0, 10, LANE_LINE_DATA);
    lane_tx_wake(&lane);
    ck_assert(waiters[0].turn);
    for (unsigned i = 0; i < 5; i++) { /* stream_close, between its turn and its pump */
        list_remove(&waiters[i].woken);
        lane_line_leave(&lane, &waiters[i]);
    }
    pump(0, LANE_LINE_DATA);
    ck_assert_uint_eq(pump_count, 1);
    ck_assert_uint_eq(pumped[0], 5);
    lane_line_leave(&lane, &waiters[7]); /* it had none, and gives none */
    ck_assert(list_empty(&loop.woken));
    lane_tx_wake(&lane);
    pump(10, LANE_LINE_DATA);
    ck_assert_uint_eq(pump_count, 4);
    ck_assert_uint_eq(pumped[2], 8);
}
END_TEST

START_TEST(who_needs_something_else_passes_its_turn_on)
{
    stand_in_line(0, 3, LANE_LINE_DATA);
    lane_tx_wake(&lane);
    pump(0, LANE_LINE_CONTROL);
    ck_assert_uint_eq(pump_count, 3); /* each went to the other line */
    ck_assert(list_empty(&lane.lines[LANE_LINE_DATA].waiters));
    lane_tx_wake(&lane);
    pump(3, LANE_LINE_NONE);
    ck_assert_uint_eq(pump_count, 3);
}
END_TEST

START_TEST(control_does_not_wait_behind_data)
{
    stand_in_line(0, 100, LANE_LINE_DATA);
    stand_in_line(100, 103, LANE_LINE_CONTROL);
    lane_tx_wake(&lane);
    ck_assert(waiters[100].turn);
    list_remove(&waiters[0].woken);
    pump(3, LANE_LINE_CONTROL);
    ck_assert_uint_eq(pump_count, 3);
    ck_assert(list_empty(&lane.lines[LANE_LINE_CONTROL].waiters));
}
END_TEST

START_TEST(bulk_turns_are_as_many_as_free_places)
{
    lane.seg_count = LANE_SEGMENTS - 5;
    stand_in_line(0, 100, LANE_LINE_BULK);
    lane_tx_wake(&lane);
    pump(5, LANE_LINE_BULK);
    ck_assert_uint_eq(pump_count, 5); /* who took a place passes nothing on */
    lane_tx_wake(&lane);
    for (unsigned i = 5; i < 10; i++) { /* all who have a turn are over */
        list_remove(&waiters[i].woken);
        lane_line_leave(&lane, &waiters[i]);
    }
    pump(0, LANE_LINE_BULK);
    ck_assert_uint_eq(pump_count, 5);
    ck_assert_uint_eq(pumped[0], 10);
    lane.bulk_bytes = LANE_BULK_BYTES;
    lane_tx_wake(&lane);
    ck_assert(list_empty(&loop.woken));
}
END_TEST

/* A stream that starves waits for something else (relay_pump). */
START_TEST(who_waits_for_nothing_stands_in_no_line)
{
    stand_in_line(0, 2, LANE_LINE_DATA);
    refuse(0, LANE_LINE_NONE);
    ck_assert_int_eq(waiters[0].line, LANE_LINE_NONE);
    ck_assert(lane.lines[LANE_LINE_DATA].waiters.next == &waiters[1].node);
}
END_TEST

static void push(struct lane_waiter *waiter, uint32_t size)
{
    lane_bulk_push(&lane, waiter, BUF_NONE, 0, size);
}

/* Bytes of who leaves are still sent, and counted for nobody. */
START_TEST(who_leaves_is_not_counted)
{
    push(&waiters[0], 100);
    push(&waiters[1], 200);
    push(&waiters[0], 300);
    ck_assert_uint_eq(waiters[0].pending, 400);
    lane_disown(&lane, &waiters[0]);
    ck_assert_uint_eq(waiters[0].pending, 0);
    ck_assert_uint_eq(waiters[1].pending, 200);
    ck_assert_uint_eq(lane.seg_count, 3);
    ck_assert_uint_eq(lane.bulk_bytes, 600);
    ck_assert_ptr_null(lane.segments[0].waiter);
    ck_assert_ptr_eq(lane.segments[1].waiter, &waiters[1]);
    ck_assert_ptr_null(lane.segments[2].waiter);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lane_line");
    TCase *tcase = tcase_create("lane_line");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, a_send_wakes_few_of_many);
    tcase_add_test(tcase, as_many_go_as_there_is_room_for_in_order);
    tcase_add_test(tcase, a_turn_is_passed_on_by_who_is_over);
    tcase_add_test(tcase, who_needs_something_else_passes_its_turn_on);
    tcase_add_test(tcase, control_does_not_wait_behind_data);
    tcase_add_test(tcase, bulk_turns_are_as_many_as_free_places);
    tcase_add_test(tcase, who_waits_for_nothing_stands_in_no_line);
    tcase_add_test(tcase, who_leaves_is_not_counted);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
