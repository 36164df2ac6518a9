/*
 * steady: a quiet world in which so much of one thing happens, for bench/instructions, which counts
 * what the engine spends on it; and for tests of the plainest case there is.
 *
 * The seed says what and how much: seed % 3 is what, and seed / 3 how many: connections of
 * 100 bytes each way (0), frames of 100 bytes each way on one connection (1), or blocks of 64 KiB
 * down on one connection (2).
 */
#include "client/client.h"
#include "core/base/check.h"
#include "core/base/config.h"
#include "core/run/worker.h"
#include "server/server.h"
#include "sim/endpoint.h"
#include "sim/sim.h"

#include <stdio.h>
#include <string.h>

#define PATIENCE (36000 * NSEC_PER_SEC) /* of the test */
#define SMALL    100u
#define BLOCK    65536u

enum what { CONNECTIONS, FRAMES, BLOCKS, WHATS };
enum side { SERVER, CLIENT };

static struct {
    enum what what;
    uint64_t count;
    struct config config[2];
    struct worker *workers[2][1];
    int origin;
    struct endpoint_plan visitor, answer;
} steady;

static void dump(void)
{
    fprintf(stderr, "steady: %d, %llu of them\n", (int)steady.what,
            (unsigned long long)steady.count);
    fake_print_sockets();
}

static void config_make(enum side side)
{
    struct config *c = &steady.config[side];

    sim_config(c, side == SERVER);
    c->lanes = 1;
    c->bulk_buffers = 64;
    c->window_initial = 65536;
    c->window_max = 4194304;
    c->grace = 60 * NSEC_PER_SEC;
    sim_config_tls(c, false, false);
}

static void open_worker(enum side side)
{
    const struct role *role = side == SERVER ? &server_role : &client_role;
    struct worker_error error;
    struct worker *w = worker_open(&steady.config[side], role, 0, WORKER_SQ_ENTRIES, &error);

    CHECK(w != NULL);
    steady.workers[side][0] = w;
    w->peers = steady.workers[side];
    CHECK(worker_prepare(w) == 0 && worker_start(w) == 0);
    sim_set_dump(dump);
}

static void turn_stopped(struct worker *w)
{
    struct ring_cqe cqe;

    while (ring_wait(w->loop.ring, UINT64_MAX, &cqe, 1) == 1)
        ;
}

static void run_until(bool (*done)(void))
{
    uint64_t end = fake_now() + PATIENCE;

    while (!done()) {
        for (unsigned side = 0; side < 2; side++) {
            struct worker *w = steady.workers[side][0];

            if (fake_ring_ready(w->loop.ring) && !worker_turn(w, UINT64_MAX))
                turn_stopped(w);
        }
        sim_totals.steps++;
        CHECK(fake_step() || done());
        CHECK(fake_now() < end || done());
    }
}

static bool is_public(void)
{
    return steady.workers[SERVER][0]->listeners.slab.used == 2;
}

static bool all_stopped(void)
{
    for (unsigned side = 0; side < 2; side++)
        if (steady.workers[side][0]->loop.phase != LOOP_STOPPED ||
            fake_ring_in_flight(steady.workers[side][0]->loop.ring) > 0)
            return false;
    return true;
}

static void accept_origin(void *arg)
{
    int fd;

    (void)arg;
    while ((fd = fake_accept(steady.origin)) >= 0)
        (void)endpoint_accept(fd, &steady.answer);
}

/* In pieces of `step`, each by itself. */
static struct endpoint_plan plan_of(uint64_t total, uint64_t step)
{
    return (struct endpoint_plan){ .total = total,
                                   .step_max = step,
                                   .think_max = steady.what == FRAMES ? NSEC_PER_MSEC : 0,
                                   .pause_at = UINT64_MAX,
                                   .reset_at = UINT64_MAX };
}

static void load(void)
{
    uint64_t connections = steady.what == CONNECTIONS ? steady.count : 1;

    fake_watch(steady.origin, accept_origin, NULL);
    for (uint64_t i = 0; i < connections; i++) {
        (void)endpoint_dial(FAKE_HOST, SIM_PUBLIC_PORT, &steady.visitor);
        run_until(endpoints_ended);
    }
    for (unsigned i = 0; i < endpoint_count(); i++)
        CHECK(endpoint_at(i)->end == ENDPOINT_WELL);
    fake_watch(steady.origin, NULL, NULL);
}

static void stop_both(void)
{
    for (unsigned side = 2; side-- > 0;) {
        struct message *message = message_new(&worker_message_stop);

        message->number = WORKER_STOP_DRAIN;
        CHECK(worker_post_from_thread(steady.workers[side][0], message));
    }
    run_until(all_stopped);
    for (unsigned side = 0; side < 2; side++) {
        struct worker *w = steady.workers[side][0];

        turn_stopped(w);
        CHECK(w->lanes.slab.used == 0 && w->sessions.slab.used == 0 && w->streams.slab.used == 0);
        for (unsigned i = 0; i < STAT_COUNT; i++)
            sim_totals.stats[i] += w->loop.stats.value[i];
        worker_close(w);
    }
    CHECK(fake_program_sockets() == 0);
    client_finish();
    server_finish();
    fake_end(steady.origin, false);
}

static void draw(uint64_t seed)
{
    const struct fake_options options = { .latency_min = 50000,
                                          .latency_max = 50000,
                                          .buffer_min = 262144,
                                          .buffer_max = 262144,
                                          .zc_chance = 1000 };

    memset(&steady, 0, sizeof(steady));
    fake_open(1, &options);
    steady.what = (enum what)(seed % WHATS);
    steady.count = seed / WHATS + 1;
    switch (steady.what) {
    case CONNECTIONS:
        steady.visitor = steady.answer = plan_of(SMALL, SMALL);
        break;
    case FRAMES:
        steady.visitor = steady.answer = plan_of(SMALL * steady.count, SMALL);
        break;
    default:
        steady.visitor = plan_of(SMALL, SMALL);
        steady.answer = plan_of(BLOCK * steady.count, BLOCK);
        break;
    }
}

void sim_steady(uint64_t seed)
{
    draw(seed);
    config_make(SERVER);
    config_make(CLIENT);
    sim_set_dump(dump);
    steady.origin = fake_listen(SIM_ORIGIN_PORT, 4);
    CHECK(server_prepare(&steady.config[SERVER]) == 0 &&
          client_prepare(&steady.config[CLIENT]) == 0);
    open_worker(SERVER);
    open_worker(CLIENT);
    run_until(is_public);
    load();
    stop_both();
    sim_set_dump(NULL);
}
