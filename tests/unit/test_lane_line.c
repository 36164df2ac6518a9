/* lane_line: who gets a turn when there is room on a lane, in what order, and that no turn is
 * lost. Streams are pumped by this file: whether one is refused room is what the test says. */
#include <check.h>
#include <stdlib.h>

#include "core/lane.h"
#include "core/lane_impl.h"
#include "core/stream.h"
#include "core/worker.h"

#define MANY 9500u

static struct worker worker;
static struct lane lane;
static struct stream streams[MANY];
static unsigned pumped[MANY]; /* in this order */
static unsigned pump_count;

static void setup(void)
{
    worker = (struct worker){ .index = 0 };
    list_init(&worker.dirty_streams);
    lane = (struct lane){ .worker = &worker, .logs = true, .data.buf = BUF_NONE };
    lane_line_init(&lane);
    for (unsigned i = 0; i < MANY; i++) {
        streams[i] = (struct stream){ .worker = &worker, .lane = &lane, .slot = i };
        list_init(&streams[i].wait_node);
        list_init(&streams[i].dirty_node);
    }
}

static void refuse(unsigned i, enum lane_line_kind line)
{
    streams[i].refused = (uint8_t)line;
    lane_line_settle(&streams[i]);
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
    while ((node = list_pop(&worker.dirty_streams)) != NULL) {
        struct stream *s = container_of(node, struct stream, dirty_node);

        if (pump_count < room && s->line == LANE_LINE_BULK)
            lane_line_served(s);
        refuse(s->slot, pump_count < room ? LANE_LINE_NONE : refused);
        pumped[pump_count++] = s->slot;
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
    ck_assert(list_empty(&lane.lines[LANE_LINE_DATA].streams));
}
END_TEST

START_TEST(a_turn_is_passed_on_by_who_is_over)
{
    stand_in_line(0, 10, LANE_LINE_DATA);
    lane_tx_wake(&lane);
    ck_assert(streams[0].turn);
    for (unsigned i = 0; i < 5; i++) { /* stream_close, between its turn and its pump */
        list_remove(&streams[i].dirty_node);
        lane_line_leave(&streams[i]);
    }
    pump(0, LANE_LINE_DATA);
    ck_assert_uint_eq(pump_count, 1);
    ck_assert_uint_eq(pumped[0], 5);
    lane_line_leave(&streams[7]); /* it had none, and gives none */
    ck_assert(list_empty(&worker.dirty_streams));
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
    ck_assert(list_empty(&lane.lines[LANE_LINE_DATA].streams));
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
    ck_assert(streams[100].turn);
    list_remove(&streams[0].dirty_node);
    pump(3, LANE_LINE_CONTROL);
    ck_assert_uint_eq(pump_count, 3);
    ck_assert(list_empty(&lane.lines[LANE_LINE_CONTROL].streams));
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
        list_remove(&streams[i].dirty_node);
        lane_line_leave(&streams[i]);
    }
    pump(0, LANE_LINE_BULK);
    ck_assert_uint_eq(pump_count, 5);
    ck_assert_uint_eq(pumped[0], 10);
    lane.bulk_bytes = LANE_BULK_BYTES;
    lane_tx_wake(&lane);
    ck_assert(list_empty(&worker.dirty_streams));
}
END_TEST

START_TEST(who_starves_stands_in_no_line)
{
    stand_in_line(0, 2, LANE_LINE_DATA);
    streams[0].starved = true;
    lane_line_leave(&streams[0]);
    refuse(0, LANE_LINE_DATA);
    ck_assert_int_eq(streams[0].line, LANE_LINE_NONE);
    ck_assert(lane.lines[LANE_LINE_DATA].streams.next == &streams[1].wait_node);
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
    tcase_add_test(tcase, who_starves_stands_in_no_line);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
