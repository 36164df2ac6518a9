/* tunnel: BIND on a worker of its own, with a real ring; nobody is at the other end of its lane. */
#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/wire/frame.h"
#include "core/mux/lane.h"
#include "core/mux/lane_session.h"
#include "core/mux/session.h"
#include "core/run/worker.h"
#include "server/registry.h"
#include "server/tunnel.h"

static const struct role role = { .name = "test", .opens_streams = true };
static struct config config;
static union sock_addr loopback;
static struct worker *worker;
static struct session *session;
static struct lane *lane;
static int peer;
static const uint8_t secret[SCRAM_KEY_SIZE];

static void open_worker(void)
{
    struct worker_error error = { .text = "" };

    worker = worker_open(&config, &role, 0, WORKER_SQ_LEAST, &error);
    ck_assert_msg(worker != NULL, "%s", error.text);
    worker->peers = &worker;
    ck_assert_int_eq(worker_prepare(worker), 0);
}

/* One that has logged in. */
static void open_session(void)
{
    struct registry_session shared = { .id = registry_next_id(), .lanes = 1 };
    union sock_addr at = loopback;
    struct registry_added added;
    int listener = sock_listen(&at, false, 1);

    sock_local(listener, &at);
    peer = sock_dial(AF_INET);
    ck_assert_int_eq(connect(peer, &at.sa, sock_addr_size(&at)), 0);
    const struct conn_loose loose = { .fd = accept(listener, NULL, NULL) };
    lane = lane_open(&worker->lanes, &loose);
    sock_close(listener);
    ck_assert_ptr_nonnull(lane);
    ck_assert_int_eq(registry_add(&shared, secret, &added), REASON_DONE);
    session = session_open(&worker->sessions, shared.id, FRAME_V2,
                           share_open(&worker->loop.shares.pool, SHARE_SESSION, shared.id));
    ck_assert_ptr_nonnull(session);
    strangers_remove(&worker->lanes.strangers, &lane->stranger);
    lane_attach(lane, session);
    lane->version = FRAME_V2;
    lane_set_fsm(lane, SESSION_HANDSHAKEN);
    lane_set_fsm(lane, SESSION_AUTHENTICATED);
}

static void setup(void)
{
    const struct sockaddr_in at = { .sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    memset(&loopback, 0, sizeof(loopback));
    memcpy(&loopback, &at, sizeof(at));
    config = (struct config){ .role = CONFIG_SERVER,
                              .workers = 1,
                              .max_sessions = 2,
                              .max_streams = 16,
                              .max_lanes = 4,
                              .max_unauthenticated = 4,
                              .bulk_buffers = 8,
                              .window_initial = 65536,
                              .window_max = 65536,
                              .heartbeat = NSEC_PER_SEC,
                              .expiry = 3 * NSEC_PER_SEC,
                              .handshake_timeout = NSEC_PER_SEC,
                              .zero_copy = CONFIG_OFF,
                              .start_port = (uint16_t)(20000 + getpid() % 10000) };
    port_set_add(&config.ports, PORT_SET_LOW, UINT16_MAX);
    ck_assert(registry_open(&config));
    tunnel_open(&loopback, false);
    open_worker();
    open_session();
}

static void teardown(void)
{
    worker_close(worker);
    registry_close();
    sock_close(peer);
}

static void bind_tunnel(uint16_t index)
{
    uint8_t frame[FRAME_CONTROL_MAX];
    struct frame_bind bind = { .tunnel = index,
                               .name = frame_text_of("t"),
                               .origin = frame_text_of("localhost:1") };
    const uint8_t *end = frame_put_bind(frame, &bind);

    ck_assert_int_eq(tunnel_bind(lane, frame + FRAME_V2_HEADER, end), REASON_DONE);
}

/* The answer that was queued last: true for BIND_OK. */
static bool is_bound(uint16_t *code)
{
    struct lane_pack *pack = &lane->control;
    const uint8_t *src = buf_data(&worker->loop.bufs, pack->buf) + pack->sent;
    const uint8_t *end = buf_data(&worker->loop.bufs, pack->buf) + pack->filled;
    struct frame_error error = { .code = 0 };
    struct frame frame = { .length = 0 };
    bool ok = false;

    for (; src < end; src += FRAME_V2_HEADER + frame.length) {
        ck_assert_int_eq(frame_get(FRAME_V2, src, end, &frame), FRAME_OK);
        ok = frame.kind == FRAME_BIND_OK;
        if (frame.kind == FRAME_BIND_ERR)
            ck_assert(frame_get_bind_err(src + FRAME_V2_HEADER,
                                         src + FRAME_V2_HEADER + frame.length, &error));
    }
    *code = error.code;
    return ok;
}

START_TEST(bind_gives_a_port)
{
    struct registry_session shared;
    uint16_t code;

    bind_tunnel(2);
    ck_assert(is_bound(&code));
    ck_assert(session->tunnels[2].bound && session->tunnels[2].port >= config.start_port);
    ck_assert(registry_get(session->id, &shared));
    ck_assert_uint_eq(shared.tunnels[2].port, session->tunnels[2].port);
    bind_tunnel(2);
    ck_assert(!is_bound(&code));
    ck_assert_uint_eq(code, reason_code(REASON_BAD_STATE));
}
END_TEST

START_TEST(a_listener_that_finds_no_place_leaves_its_port)
{
    struct registry_session shared;
    uint32_t slots[64], count = 0;
    uint16_t code;

    while (slab_available(&worker->listeners.slab) > 0)
        slots[count++] = slab_take(&worker->listeners.slab);
    bind_tunnel(0);
    ck_assert(!is_bound(&code));
    ck_assert_uint_eq(code, reason_code(REASON_LIMIT_TUNNELS));
    ck_assert(registry_get(session->id, &shared));
    ck_assert_uint_eq(shared.tunnel_count, 0); /* no other worker opens it, nobody finds it held */
    while (count > 0)
        slab_give(&worker->listeners.slab, slots[--count]);
    bind_tunnel(0);
    ck_assert(is_bound(&code));
    ck_assert(session->tunnels[0].bound);
}
END_TEST

/* The tunnel of another worker of the session. */
static struct registry_bound bind_elsewhere(uint16_t index)
{
    const struct registry_tunnel what = { .origin = "localhost:1" };
    const struct registry_wish wish = { .index = index, .addr = &loopback, .what = &what };
    struct registry_bound bound;

    ck_assert_int_eq(registry_bind(session->id, &wish, &bound), REASON_DONE);
    return bound;
}

START_TEST(a_worker_that_stops_opens_no_tunnels_of_others)
{
    struct registry_bound bound = bind_elsewhere(0);
    struct registry_session shared;

    ck_assert(registry_get(session->id, &shared));
    worker->loop.phase = LOOP_DRAINING;
    tunnel_copy(session, &shared);
    ck_assert(!session->tunnels[0].bound);
    worker->loop.phase = LOOP_RUNNING;
    session->draining = true;
    tunnel_copy(session, &shared);
    ck_assert(!session->tunnels[0].bound);
    session->draining = false;
    tunnel_copy(session, &shared);
    ck_assert(session->tunnels[0].bound && session->tunnels[0].port == bound.port);
    sock_close(bound.fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tunnel");
    TCase *tcase = tcase_create("tunnel");

    if (!ring_features()->usable) {
        printf("skipped: %s\n", ring_unusable_text());
        return 77;
    }
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, bind_gives_a_port);
    tcase_add_test(tcase, a_listener_that_finds_no_place_leaves_its_port);
    tcase_add_test(tcase, a_worker_that_stops_opens_no_tunnels_of_others);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
