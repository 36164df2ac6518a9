/* stream: streams that are over wait for room on a lane that nobody reads, and go when there is
 * some, or when they need none any more. The worker is the real one, in the simulated world of
 * tests/fake; the peer is this file, which reads when it is told to. */
#include <check.h>
#include <stdlib.h>

#include "core/io/addr.h"
#include "core/base/config.h"
#include "core/wire/frame.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"
#include "core/base/log.h"
#include "core/io/share.h"
#include "core/io/sock.h"
#include "core/mux/stream.h"
#include "core/run/worker.h"
#include "fake/fake.h"

#define PORT   9000
#define FILLER 1u /* the id of a stream that there is not: a place and no generation */
#define MANY   3000u
#define BUFFER 4096u

static struct config config;
static struct worker *worker, *workers[1];
static struct lane *lane;
static struct stream *streams[MANY];
static uint32_t wire_ids[MANY];
static int listener, peer;

static struct { /* what the peer has read */
    uint8_t bytes[FRAME_CONTROL_MAX];
    size_t have, skip; /* of a payload */
    unsigned resets;
    uint32_t reset[MANY]; /* ids, in this order */
    uint64_t data;
} seen;

/* The role: a lane is dialled, and nothing else happens. */

static int role_start(struct worker *w)
{
    (void)w;
    return 0;
}

static void role_connected(struct lane *l, int res)
{
    ck_assert_int_eq(res, 0);
    l->version = FRAME_V2;
    l->fsm = SESSION_FORWARDING;
    timer_stop(&l->timer);
}

static void role_closed(struct lane *l, struct session *session, enum reason reason,
                        const char *text)
{
    (void)l;
    (void)session;
    (void)reason;
    (void)text;
}

static const struct role role = {
    .name = "test",
    .opens_streams = true,
    .start = role_start,
    .lane_connected = role_connected,
    .lane_closed = role_closed,
};

/* The peer */

static void note(const struct frame *frame)
{
    if (frame->kind == FRAME_RESET) {
        ck_assert_uint_lt(seen.resets, MANY);
        seen.reset[seen.resets++] = frame->stream;
    }
    if (frame->kind != FRAME_DATA || frame->stream == FILLER)
        return;
    ck_assert_uint_eq(seen.resets, 0); /* which is the last of its stream */
    seen.data += frame->length;
}

static void take(uint8_t byte)
{
    struct frame frame;

    if (seen.skip > 0) {
        seen.skip--;
        return;
    }
    seen.bytes[seen.have++] = byte;
    if (seen.have < frame_header_size(FRAME_V2))
        return;
    ck_assert_int_eq(frame_get(FRAME_V2, seen.bytes, seen.bytes + seen.have, &frame), FRAME_OK);
    note(&frame);
    seen.have = 0;
    seen.skip = frame.length;
}

static bool peer_reads(void)
{
    uint8_t bytes[BUFFER];
    ssize_t got = fake_read(peer, bytes, sizeof(bytes));

    for (ssize_t i = 0; i < got; i++)
        take(bytes[i]);
    return got > 0;
}

static void peer_says(const uint8_t *begin, const uint8_t *end)
{
    ck_assert_int_eq(fake_write(peer, begin, (size_t)(end - begin)), end - begin);
}

/* Time */

static void tick(void *arg)
{
    *(bool *)arg = true;
}

/* What can happen until the peer does something, which takes no time in this world. The first turn
 * is for what this file has done, of which the ring knows nothing. */
static void settle(void)
{
    bool over = false;
    struct fake_event event = { .fn = tick, .arg = &over };

    fake_event_set(&event, fake_now() + NSEC_PER_MSEC);
    for (bool first = true; !over; first = false) {
        if ((first || fake_ring_ready(worker->loop.ring)) && !worker_turn(worker, UINT64_MAX))
            break;
        (void)fake_step();
    }
    fake_event_stop(&event);
}

static void peer_reads_all(void)
{
    do
        settle();
    while (peer_reads());
}

static uint64_t turns(void)
{
    return worker->loop.stats.value[STAT_TURNS];
}

static uint64_t looks(void)
{
    return worker->loop.stats.value[STAT_JOINS];
}

/* The lane */

static void open_lane(void)
{
    union sock_addr addr;
    int error = 0;

    ck_assert(addr_from_host("127.0.0.1", PORT, &addr));
    listener = fake_listen(PORT, 1);
    lane = lane_dial(&worker->lanes, &addr, NULL, &error);
    ck_assert_ptr_nonnull(lane);
    settle();
    peer = fake_accept(listener);
    ck_assert_int_ge(peer, 0);
    ck_assert_int_eq(lane->state, LANE_OPEN);
}

static void setup(void)
{
    struct fake_options options = { .buffer_min = BUFFER, .buffer_max = BUFFER };
    struct worker_error error;

    log_init(LOG_ERROR);
    fake_open(1, &options);
    config = (struct config){ .role = CONFIG_SERVER,
                              .workers = 1,
                              .max_streams = MANY,
                              .max_sessions = 1,
                              .max_lanes = 4,
                              .max_unauthenticated = 4,
                              .bulk_buffers = 8,
                              .window_initial = 65536,
                              .window_max = 65536,
                              .heartbeat = 3600 * NSEC_PER_SEC,
                              .expiry = 3600 * NSEC_PER_SEC,
                              .handshake_timeout = 10 * NSEC_PER_SEC,
                              .connect_timeout = 10 * NSEC_PER_SEC,
                              .zero_copy = CONFIG_OFF };
    seen = (typeof(seen)){ .resets = 0 };
    worker = workers[0] = worker_open(&config, &role, 0, WORKER_SQ_ENTRIES, &error);
    ck_assert_ptr_nonnull(worker);
    worker->peers = workers;
    ck_assert_int_eq(worker_prepare(worker), 0);
    ck_assert_int_eq(worker_start(worker), 0);
    open_lane();
}

static void teardown(void)
{
    worker_stop(worker, WORKER_STOP_NOW);
    settle();
    ck_assert_uint_eq(worker->streams.slab.used, 0);
    ck_assert_uint_eq(worker->lanes.slab.used, 0);
    worker_close(worker);
    fake_close();
}

static void open_streams(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct share *share = share_open_address(lane->share, &lane->conn.peer);

        streams[i] = stream_open(lane, 0, -1, STREAM_CONNECTING, share);
        ck_assert_ptr_nonnull(streams[i]);
        wire_ids[i] = streams[i]->wire_id;
    }
}

static uint8_t *put_data(uint8_t *p, uint32_t wire_id, uint32_t length)
{
    struct frame frame = { .kind = FRAME_DATA, .stream = wire_id, .length = length };

    p = frame_put(FRAME_V2, p, &frame);
    memset(p, 0, length);
    return p + length;
}

static bool has_room(void)
{
    return lane_data_begin(lane, LANE_RESET_ROOM) != NULL;
}

/* Until nothing fits in any more, because the peer does not read. */
static void fill_lane(void)
{
    do {
        while (has_room()) {
            uint8_t *p = lane_data_begin(lane, LANE_RESET_ROOM);
            lane_data_end(lane, put_data(p, FILLER, LANE_RESET_ROOM - FRAME_HEADER_MAX));
        }
        settle();
    } while (has_room());
    ck_assert(lane->conn.send_flight);
}

/* ... and streams that have ended wait for it. */
static void close_streams(unsigned count)
{
    open_streams(count);
    fill_lane();
    for (unsigned i = 0; i < count; i++)
        stream_close(streams[i], REASON_PEER_RESET, true);
    settle();
    ck_assert_uint_eq(worker->streams.slab.used, count);
}

/* But for one whose turn it is when a buffer has come back, perhaps. */
static void nobody_is_looked_at(void)
{
    uint64_t before = looks(), from = turns();

    for (unsigned i = 0; i < 100; i++)
        settle();
    ck_assert_uint_ge(turns() - from, 100);
    ck_assert_uint_le(looks() - before, 1);
}

#define UNSENT (4u * STREAM_UNSENT_MOST)

static uint32_t nth_part(unsigned n)
{
    return n <= 4 ? 0 : (uint32_t)max_u64(UNSENT / n, STREAM_UNSENT_LEAST);
}

START_TEST(many_sockets_take_little_each)
{
    enum { COUNT = 300 };

    worker->streams.unsent = UNSENT;
    for (unsigned n = 1; n <= COUNT; n++) {
        struct share *share = share_open_address(lane->share, &lane->conn.peer);

        streams[n - 1] = stream_open(lane, 0, sock_dial_stream(AF_INET), STREAM_OPEN, share);
        ck_assert_uint_eq(fake_unsent(streams[n - 1]->fd), nth_part(n));
    }
    for (unsigned i = 0; i < COUNT; i++)
        stream_close(streams[i], REASON_PEER_RESET, false);
}
END_TEST

START_TEST(who_waits_costs_no_turn)
{
    close_streams(MANY);
    nobody_is_looked_at();
}
END_TEST

START_TEST(room_lets_them_go_in_order)
{
    close_streams(300);
    uint64_t before = looks(), events = worker->loop.stats.value[STAT_EVENTS];
    peer_reads_all();
    ck_assert_uint_eq(worker->streams.slab.used, 0);
    ck_assert_uint_eq(seen.resets, 300);
    for (unsigned i = 0; i < 300; i++)
        ck_assert_uint_eq(seen.reset[i], wire_ids[i]);
    ck_assert_uint_le(looks() - before, 300 + worker->loop.stats.value[STAT_EVENTS] - events);
}
END_TEST

START_TEST(the_end_of_the_lane_lets_them_go)
{
    close_streams(MANY);
    lane_close(lane, REASON_LANE_ERROR, NULL);
    settle();
    ck_assert_uint_eq(worker->streams.slab.used, 0);
}
END_TEST

START_TEST(the_last_word_of_the_peer_lets_them_go)
{
    uint8_t frame[FRAME_CONTROL_MAX];

    close_streams(100);
    for (unsigned i = 0; i < 100; i++) {
        peer_says(frame, frame_put_reset(frame, wire_ids[i], 0));
        settle();
        ck_assert_uint_eq(worker->streams.slab.used, 99 - i);
    }
    peer_reads_all();
    ck_assert_uint_eq(seen.resets, 0);
}
END_TEST

/* Who has its turn is over before it comes to it. */
START_TEST(who_leaves_does_not_take_the_turn_along)
{
    close_streams(10);
    lane_tx_wake(lane);
    for (unsigned i = 0; i < 9; i++)
        stream_peer_ended(streams[i], true);
    settle();
    ck_assert_uint_eq(worker->streams.slab.used, 1);
    peer_reads_all();
    ck_assert_uint_eq(worker->streams.slab.used, 0);
}
END_TEST

static void queue_bulk(struct stream *s, uint32_t length)
{
    uint32_t size = (uint32_t)frame_header_size(FRAME_V2) + length;
    uint32_t buf = buf_take_bulk(&worker->loop.bufs, lane->share);

    ck_assert_uint_ne(buf, BUF_NONE);
    (void)put_data(buf_data(&worker->loop.bufs, buf), s->wire_id, length);
    lane_bulk_push(lane, &s->waiter, buf, 0, size);
}

START_TEST(reset_waits_behind_bulk)
{
    open_streams(1);
    fill_lane();
    queue_bulk(streams[0], 20000);
    queue_bulk(streams[0], 20000);
    stream_close(streams[0], REASON_PEER_RESET, true);
    settle();
    nobody_is_looked_at();
    peer_reads_all();
    ck_assert_uint_eq(worker->streams.slab.used, 0);
    ck_assert_uint_eq(seen.data, 40000);
    ck_assert_uint_eq(seen.resets, 1);
    ck_assert_uint_eq(seen.reset[0], wire_ids[0]);
}
END_TEST

/* It has nothing to say, and waits for its bulk alone. */
START_TEST(bulk_that_has_left_lets_it_go)
{
    open_streams(1);
    fill_lane();
    queue_bulk(streams[0], 20000);
    stream_close(streams[0], REASON_DONE, false);
    settle();
    ck_assert_uint_eq(worker->streams.slab.used, 1);
    peer_reads_all();
    ck_assert_uint_eq(worker->streams.slab.used, 0);
    ck_assert_uint_eq(seen.resets, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream");
    TCase *tcase = tcase_create("stream");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, many_sockets_take_little_each);
    tcase_add_test(tcase, who_waits_costs_no_turn);
    tcase_add_test(tcase, room_lets_them_go_in_order);
    tcase_add_test(tcase, the_end_of_the_lane_lets_them_go);
    tcase_add_test(tcase, the_last_word_of_the_peer_lets_them_go);
    tcase_add_test(tcase, who_leaves_does_not_take_the_turn_along);
    tcase_add_test(tcase, reset_waits_behind_bulk);
    tcase_add_test(tcase, bulk_that_has_left_lets_it_go);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
