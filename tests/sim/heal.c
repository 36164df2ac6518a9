/*
 * heal: one download through a path that lets connections be made, and not what is sent through
 * them.
 *
 * Two moods. In the narrow one every segment that is longer than the path allows is lost, on every
 * connection, until TCP has found that out, which takes it some seconds that the seed draws: a
 * client that replaces each connection before that never gets anything through. In the stalling one
 * every connection goes dark when so many bytes have passed: a client that has become patient
 * waits long at each.
 *
 * Either way the bytes must be whole, and there in time: how much time follows from the mood.
 */
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/config.h"
#include "core/mux/lane.h"
#include "core/mux/session.h"
#include "core/run/worker.h"
#include "client/client.h"
#include "server/server.h"
#include "sim/endpoint.h"
#include "sim/path.h"
#include "sim/sim.h"

#include <stdio.h>
#include <string.h>

#define PATIENCE  (3600 * NSEC_PER_SEC) /* of the test */
#define EXPIRY    (30 * NSEC_PER_SEC)
#define HEALS_MAX (14 * NSEC_PER_SEC)
#define LONGEST   1200u
#define STALL_MIN 40000u /* more than two records: what a connection does not finish is lost */
#define STALL_MAX 400000u
#define BYTES_MAX 4000000u

enum side { SERVER, CLIENT };

static struct {
    bool tls, narrow;
    uint64_t heals; /* narrow: ns */
    uint64_t bytes; /* of the download */
    uint64_t each;  /* stalling: what a connection lets pass */
    struct config config[2];
    struct worker *workers[2][1];
    int origin;
    struct endpoint_plan plan;
} heal;

static void dump(void)
{
    fprintf(stderr, "%s%s: heals after %.3f s, %llu bytes, %llu with each connection\n",
            heal.narrow ? "narrow" : "stalling", heal.tls ? ", TLS" : "", (double)heal.heals / 1e9,
            (unsigned long long)heal.bytes, (unsigned long long)heal.each);
    fake_print_sockets();
    path_print();
}

/* The world */

static void config_make(enum side side)
{
    struct config *c = &heal.config[side];

    sim_config(c, side == SERVER);
    c->lanes = 1;
    c->bulk_buffers = 16;
    c->window_initial = 65536;
    c->window_max = 1048576;
    c->heartbeat = EXPIRY / 3;
    c->expiry = EXPIRY;
    c->grace = 600 * NSEC_PER_SEC;
    sim_config_tls(c, heal.tls, false);
}

static void open_worker(enum side side)
{
    const struct role *role = side == SERVER ? &server_role : &client_role;
    struct worker_error error;
    struct worker *w = worker_open(&heal.config[side], role, 0, WORKER_SQ_ENTRIES, &error);

    CHECK(w != NULL);
    heal.workers[side][0] = w;
    w->peers = heal.workers[side];
    CHECK(worker_prepare(w) == 0 && worker_start(w) == 0);
    sim_set_dump(dump);
}

static void turn_stopped(struct worker *w)
{
    struct ring_cqe cqe;

    while (ring_wait(w->loop.ring, UINT64_MAX, &cqe, 1) == 1)
        ;
}

static void run_until(bool (*done)(void), uint64_t limit)
{
    uint64_t end = fake_now() + limit;

    while (!done()) {
        for (unsigned side = 0; side < 2; side++) {
            struct worker *w = heal.workers[side][0];

            if (fake_ring_ready(w->loop.ring) && !worker_turn(w, UINT64_MAX))
                turn_stopped(w);
        }
        sim_totals.steps++;
        CHECK(fake_step() || done());
        CHECK(fake_now() < end || done()); /* too late */
    }
}

/* The path */

static void spoil_path(int fd)
{
    sim_totals.faults++;
    if (heal.narrow)
        fake_narrow(fd, LONGEST, heal.heals);
    else
        fake_doom(fd, heal.each, FAKE_LOSS_CUT);
}

static struct lane *client_lane(void)
{
    struct worker *w = heal.workers[CLIENT][0];

    CHECK(!list_empty(&w->lanes.all));
    return container_of(w->lanes.all.next, struct lane, node);
}

/* What a client may take: its patience grows until the path has healed once, and by then has come
 * to less than twice that; some seconds for what it looks at twice a second. */
static uint64_t time_allowed(void)
{
    uint64_t seconds = 3 * NSEC_PER_SEC;

    if (heal.narrow)
        return 4 * heal.heals + 8 * seconds;
    return (heal.bytes / (heal.each / 2) + 3) * seconds;
}

/* One run */

static bool is_public(void)
{
    return heal.workers[SERVER][0]->listeners.slab.used == 2 && path_whole();
}

static bool all_stopped(void)
{
    for (unsigned side = 0; side < 2; side++)
        if (heal.workers[side][0]->loop.phase != LOOP_STOPPED ||
            fake_ring_in_flight(heal.workers[side][0]->loop.ring) > 0)
            return false;
    return true;
}

static void accept_origin(void *arg)
{
    int fd;

    (void)arg;
    while ((fd = fake_accept(heal.origin)) >= 0)
        (void)endpoint_accept(fd, &heal.plan);
}

/* The client has much to send, the server next to nothing: whose silence is that of a path, and
 * whose of a peer without a word to say? */
static void download(void)
{
    struct endpoint_plan asks = {
        .total = 100, .step_max = 100, .pause_at = UINT64_MAX, .reset_at = UINT64_MAX
    };

    heal.plan = asks;
    heal.plan.total = heal.bytes;
    heal.plan.step_max = 65536;
    fake_watch(heal.origin, accept_origin, NULL);
    fake_on_connection(SIM_LANE_PORT, spoil_path);
    spoil_path(client_lane()->conn.fd);
    (void)endpoint_dial(FAKE_HOST, SIM_PUBLIC_PORT, &asks);
    run_until(endpoints_ended, time_allowed());
    for (unsigned i = 0; i < endpoint_count(); i++)
        CHECK(endpoint_at(i)->end == ENDPOINT_WELL);
    fake_watch(heal.origin, NULL, NULL);
}

static void stop_both(void)
{
    for (unsigned side = 2; side-- > 0;) {
        struct message *message = message_new(&worker_message_stop);

        message->number = WORKER_STOP_DRAIN;
        CHECK(worker_post_from_thread(heal.workers[side][0], message));
    }
    run_until(all_stopped, PATIENCE);
    for (unsigned side = 0; side < 2; side++) {
        struct worker *w = heal.workers[side][0];

        turn_stopped(w);
        CHECK(w->lanes.slab.used == 0 && w->sessions.slab.used == 0 && w->streams.slab.used == 0);
        CHECK(w->loop.slices.used == 0 && w->loop.bufs.small.used == w->loop.bufs.provided);
        for (unsigned i = 0; i < STAT_COUNT; i++)
            sim_totals.stats[i] += w->loop.stats.value[i];
    }
    CHECK(fake_program_sockets() == 0);
    for (unsigned side = 0; side < 2; side++)
        worker_close(heal.workers[side][0]);
    client_finish();
    server_finish();
    fake_end(heal.origin, false);
}

static void draw(uint64_t seed)
{
    struct fake_options options;

    fake_options_random(&options, seed);
    options.buffer_min = 65536;
    options.buffer_max = 262144;
    options.segment_max = 0;
    options.latency_max = min_u64(options.latency_max, 100 * NSEC_PER_MSEC);
    options.latency_min = min_u64(options.latency_min, options.latency_max);
    fake_open(seed, &options);
    heal.tls = fake_random_chance(fake_random(), 500);
    heal.narrow = fake_random_chance(fake_random(), 500);
    heal.heals = size_between(NSEC_PER_MSEC, HEALS_MAX);
    heal.bytes = size_between(10 * LONGEST, BYTES_MAX);
    heal.each = size_between(STALL_MIN, STALL_MAX);
}

void sim_heal(uint64_t seed)
{
    struct path_world world = {
        .workers = { heal.workers[SERVER], heal.workers[CLIENT] },
        .count = { 1, 1 },
        .port = SIM_LANE_PORT,
    };

    memset(&heal, 0, sizeof(heal));
    draw(seed);
    config_make(SERVER);
    config_make(CLIENT);
    sim_set_dump(dump);
    heal.origin = fake_listen(SIM_ORIGIN_PORT, 4);
    CHECK(server_prepare(&heal.config[SERVER]) == 0 && client_prepare(&heal.config[CLIENT]) == 0);
    path_watch(&world);
    open_worker(SERVER);
    open_worker(CLIENT);
    run_until(is_public, PATIENCE);
    download();
    fake_on_connection(SIM_LANE_PORT, NULL);
    stop_both();
    sim_set_dump(NULL);
}
