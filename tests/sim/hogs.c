/*
 * hogs: hostile owners beside honest ones, and the honest ones' progress is the property: every
 * honest visitor who comes while the hogs are at work is accepted and ends well, every byte
 * checked, within BOUND of simulated time; an honest client logs in, and its lane comes back when
 * it is lost. Nobody honest waits for a hog to go: they stay until all that is over.
 *
 * A run. The server has little of one thing (enum tight) and plenty of the others. The hogs come,
 * until they are refused more of it: a run in which they are not proves nothing, and fails. Then
 * honest visitors come, three times, each from an address of its own, some at a time. With resume
 * the honest client's connection is lost in the middle of that, in any of the ways of fake_lose.
 * It may also come only when the hogs have what they want (`late`). Then the hogs go, and both
 * sides stop: nobody's share holds anything any more.
 *
 * Who the hogs are (enum scene) says what share.h promises beside them. Of a pool of C the hogs
 * leave one part in `left`, and the honest find room until one part in `until` is left:
 *
 *     same tunnel      one address of visitors, who has 8 times what is free       1/9 to 1/17
 *     tunnel beside    a crowd: visitors' addresses, together 16 times             1/17 to 1/25
 *     session beside   the same client's address has a second session, whose
 *                      visitors are a crowd                                        1/17 to 1/33
 *     other client     another address with the same token: a crowd of sessions    1/33 to 1/65
 *
 * So need <= C/left - C/until, and C is the least that is enough, and a little for what is not a
 * whole number (capacity_for). An honest visitor needs a stream, and 4 small buffers: one for each
 * of the at most two pieces of 12,000 bytes each way; its lane needs 12 for packs and what it
 * keeps. Ids: 8 for each, since they come back with a count. A descriptor for each stream and each
 * lane, and for the few strangers who are let in whatever there is.
 *
 * Hostile visitors never read, stall, trickle, say FIN and stay, or come and go; they are dialled
 * again as long as some are missing. Those of a hostile client (rogue.c) get no answer, more than
 * they take, or a RESET; it never counts, floods with PINGs, and comes again with more sessions,
 * lanes and tunnels than it may have. In a surge (TIGHT_SURGE) they are quiet until all of them
 * say at once what nobody takes: reads that were ready before anybody had too much. Strangers say
 * nothing, twice as many as there are places, and many more while an honest client logs in or
 * joins.
 *
 * BOUND. Latency is at most 5 ms, and a conversation takes half a dozen round trips, some looks at
 * its share (20 ms each), and its turn behind what its lane holds and behind each other stream in
 * line. 0.6 s was the longest in some hundred seeds. A log-in takes four round trips
 * (BOUND_LOGIN); one that is refused or thrown out would be tried again after half a second at the
 * earliest. A connection that dies without a word takes the expiry to be noticed, if nothing was
 * on its way that the client could miss.
 *
 * Not promised, and not here: who is one of a crowd. Hostile addresses in the same tunnel, five or
 * more, or a second one that comes when the first has its share, take what is left for all who
 * have little there, honest ones among them; so do two client's addresses one after the other of
 * those of the same token, and a hostile client of what is left to visitors in a tunnel with a
 * hog.
 */
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/config.h"
#include "core/mux/lane.h"
#include "core/mux/session.h"
#include "core/io/share.h"
#include "core/run/worker.h"
#include "client/client.h"
#include "server/server.h"
#include "sim/endpoint.h"
#include "sim/path.h"
#include "sim/rogue.h"
#include "sim/sim.h"

#include <stdio.h>
#include <string.h>

#define HONEST_MAX   3u /* honest visitors at a time */
#define WAVES        3u
#define CROWD_MAX    8u /* addresses of hostile visitors */
#define ROGUES_FEW   6u /* sessions of hostile clients, or when sessions, lanes, ports are few */
#define ROGUES_MAX   24u
#define DIALS_MOST   8000u /* of hogs and strangers in a run */
#define DIALS_TICK   24u
#define TICK         (10 * NSEC_PER_MSEC) /* until all are there */
#define TICK_FULL    (50 * NSEC_PER_MSEC)
#define STORM        NSEC_PER_MSEC
#define FOREVER      (100000 * NSEC_PER_SEC)
#define LATENCY_MAX  (5 * NSEC_PER_MSEC)
#define BOUND        (10 * NSEC_PER_SEC)
#define BOUND_LOGIN  (NSEC_PER_SEC / 2)
#define FILL         (120 * NSEC_PER_SEC)
#define PATIENCE     (3600 * NSEC_PER_SEC) /* of the test */
#define GRACE        (600 * NSEC_PER_SEC)
#define SESSIONS_FEW 16u /* 14 for one address */
#define UNAUTH       12u
#define MUCH         2000000u /* more than windows and sockets take */

/* Who is where: 127.0.0.0 and so much more. The honest client is at FAKE_HOST. */
#define HOST_HONEST   20u
#define HOST_ROGUE    150u
#define HOST_STRANGER 180u
#define HOST_HOG      200u

enum side { SERVER, CLIENT };

/* Where the hogs are, as seen from the honest ones. */
enum scene { SCENE_TUNNEL, SCENE_BESIDE, SCENE_SESSION, SCENE_CLIENT, SCENE_COUNT };

/* What there is little of. */
enum tight {
    TIGHT_STREAMS,
    TIGHT_FDS,
    TIGHT_SMALL,
    TIGHT_IDS,      /* from here on by hostile clients ... */
    TIGHT_SURGE,    /* small buffers again, all of them at once */
    TIGHT_SESSIONS, /* ... from another address */
    TIGHT_LANES,
    TIGHT_PORTS,
    TIGHT_COUNT
};

struct scene_terms {
    const char *name;
    unsigned left,
        until;   /* the hogs leave one part in `left`, the honest find room until one in `until` */
    bool rogues; /* hostile client; otherwise hostile visitors of the honest one */
};

static const struct scene_terms scenes[SCENE_COUNT] = {
    [SCENE_TUNNEL] = { "same tunnel", 9, 17, false },
    [SCENE_BESIDE] = { "tunnel beside", 17, 25, false },
    [SCENE_SESSION] = { "session beside, of the same address", 17, 33, true },
    [SCENE_CLIENT] = { "other client", 33, 65, true },
};

/* What the server counts when somebody is refused it. */
static const struct {
    const char *name;
    enum stats_item refused;
} tights[TIGHT_COUNT] = {
    [TIGHT_STREAMS] = { "streams", STAT_REFUSED_STREAMS },
    [TIGHT_FDS] = { "descriptors", STAT_REFUSED_FDS },
    [TIGHT_SMALL] = { "small buffers", STAT_REFUSED_BUFFERS },
    [TIGHT_IDS] = { "ids", STAT_REFUSED_STREAMS },
    [TIGHT_SURGE] = { "small buffers in a surge", STAT_COUNT },
    [TIGHT_SESSIONS] = { "sessions", STAT_REFUSED_SESSIONS },
    [TIGHT_LANES] = { "lanes", STAT_REFUSED_LANES },
    [TIGHT_PORTS] = { "ports", STAT_COUNT },
};

static struct {
    enum scene scene;
    enum tight tight;
    bool tls, resumes, strangers, late;
    unsigned honest; /* at a time */
    unsigned wanted; /* hostile visitors at a time */
    unsigned crowd;  /* addresses that they come from */
    unsigned movers; /* per mille of them come and go */
    uint64_t fds;
    struct config config[2];
    struct worker *workers[2][1];
    int origins[2];
    struct rogue *rogues[ROGUES_MAX];
    unsigned rogue_count;
    struct rogue_plan rogue_plan;
    bool filled; /* all have come */
    struct endpoint *hogs[DIALS_MOST], *silent[DIALS_MOST];
    unsigned hog_count, silent_count, dials;
    struct fake_event tick, loss, storm;
    struct endpoint *wave[HONEST_MAX];
    uint64_t until, surge; /* ns */
    uint64_t storm_until;  /* ns */
} hogs;

static const struct scene_terms *terms(void)
{
    return &scenes[hogs.scene];
}

static struct worker *worker_at(enum side side)
{
    return hogs.workers[side][0];
}

static void print_shares(const struct worker *w)
{
    static const char *const names[] = {
#define X(name, text) text,
        SHARE_KINDS(X)
#undef X
    };

    for (unsigned i = 0; i < SHARE_KIND_COUNT; i++)
        fprintf(stderr, "    %llu of %llu %s\n", (unsigned long long)w->loop.shares.pool.used[i],
                (unsigned long long)w->loop.shares.capacity[i], names[i]);
}

static void dump(void)
{
    fprintf(stderr, "%s, few %s%s%s%s%s; %u honest, %u hogs from %u addresses, %u rogues\n",
            terms()->name, tights[hogs.tight].name, hogs.tls ? ", TLS" : "",
            hogs.resumes ? ", resume" : "", hogs.strangers ? ", strangers" : "",
            hogs.late ? ", late" : "", hogs.honest, hogs.wanted, hogs.crowd, hogs.rogue_count);
    for (unsigned side = 0; side < 2; side++)
        if (hogs.workers[side][0] != NULL)
            print_shares(hogs.workers[side][0]);
    path_print();
}

/* The world */

static uint64_t capacity_for(uint64_t need)
{
    uint64_t left = terms()->left, until = terms()->until;

    return need * left * until / (until - left) + until;
}

static uint64_t streams_least(void)
{
    return capacity_for(hogs.honest + 2);
}

static uint64_t smalls_least(void)
{
    return capacity_for(4 * hogs.honest + 12);
}

static void config_make(enum side side)
{
    struct config *c = &hogs.config[side];

    sim_config(c, side == SERVER);
    c->lanes = 1;
    sim_config_tls(c, hogs.tls, hogs.honest % 2 == 0);
    c->max_streams = hogs.tight == TIGHT_STREAMS ? (uint32_t)streams_least() : 2 * hogs.wanted + 64;
    c->max_sessions = hogs.tight == TIGHT_SESSIONS ? SESSIONS_FEW : 64;
    c->max_lanes = hogs.tight == TIGHT_LANES ? (uint32_t)capacity_for(1) : 256;
    if (hogs.tight == TIGHT_PORTS)
        c->start_port = (uint16_t)(65536 - capacity_for(2));
    c->max_unauthenticated = UNAUTH;
    c->bulk_buffers = 8;
    c->window_initial = hogs.tight == TIGHT_SMALL ? 262144 : 32768;
    c->window_max = 1048576;
    c->grace = hogs.resumes ? GRACE : 0;
    c->reconnect_attempts = CONFIG_FOREVER;
    if (side == CLIENT) {
        c->tunnel_count = 2;
        c->tunnels[1] = c->tunnels[0];
        c->tunnels[1].origin.port++;
    }
}

static void open_worker(enum side side)
{
    const struct role *role = side == SERVER ? &server_role : &client_role;
    struct worker_error error;
    struct worker *w = worker_open(&hogs.config[side], role, 0, WORKER_SQ_ENTRIES, &error);

    CHECK(w != NULL);
    hogs.workers[side][0] = w;
    w->peers = hogs.workers[side];
    if (hogs.fds > 0)
        w->loop.shares.capacity[SHARE_FDS] = hogs.fds;
    CHECK(worker_prepare(w) == 0 && worker_start(w) == 0);
    sim_set_dump(dump);
}

static void turn_stopped(struct worker *w)
{
    struct ring_cqe cqe;

    while (ring_wait(w->loop.ring, UINT64_MAX, &cqe, 1) == 1)
        ;
}

static void turn_of(struct worker *w)
{
    uint64_t frames = w->loop.stats.value[STAT_FRAMES_IN];

    if (!worker_turn(w, UINT64_MAX))
        turn_stopped(w);
    else if (w->loop.stats.value[STAT_FRAMES_IN] !=
             frames) /* those that an earlier turn had left */
        fake_ring_worked(w->loop.ring);
}

static void run_until(bool (*done)(void), uint64_t limit)
{
    uint64_t end = fake_now() + limit;

    while (!done()) {
        for (unsigned side = 0; side < 2; side++) {
            struct worker *w = worker_at(side);

            if (w != NULL && fake_ring_ready(w->loop.ring))
                turn_of(w);
        }
        sim_totals.steps++;
        CHECK(fake_step() || done());
        CHECK(fake_now() < end || done()); /* too late */
    }
}

static bool time_is_up(void)
{
    return fake_now() >= hogs.until;
}

static void pass(uint64_t ns)
{
    hogs.until = fake_now() + ns;
    run_until(time_is_up, ns + NSEC_PER_SEC);
}

/* Hostile visitors, and strangers */

/* Its stream stays as long as it does: it never says FIN, or there is too much that it should read
 * before. */
static void holder_draw(struct endpoint_plan *plan)
{
    bool much = hogs.tight == TIGHT_SMALL || maybe(30);

    plan->total = ENDPOINT_ID_SIZE;
    plan->asks = much ? MUCH : ENDPOINT_ID_SIZE;
    plan->fin_delay = much && maybe(500) ? 0 : FOREVER;
    switch (terms()->rogues ? 0 : between(0, 6)) {
    case 0:
    case 1:
    case 2:
        plan->never_reads = true;
        plan->patience = FOREVER;
        plan->total = much && maybe(300) ? size_between(ENDPOINT_ID_SIZE, MUCH) : ENDPOINT_ID_SIZE;
        break;
    case 3:
    case 4:
    case 5: /* stalls, perhaps behind its FIN */
        plan->pause_at = size_between(ENDPOINT_ID_SIZE, plan->asks);
        plan->pause = FOREVER;
        break;
    default: /* trickles */
        plan->step_max = 64;
        plan->think_max = NSEC_PER_SEC;
        break;
    }
}

static void mover_draw(struct endpoint_plan *plan)
{
    plan->total = ENDPOINT_ID_SIZE;
    plan->asks = size_between(ENDPOINT_ID_SIZE, 16384);
    plan->never_reads = terms()->rogues;
    plan->patience = size_between(NSEC_PER_MSEC, NSEC_PER_SEC);
    if (maybe(500))
        plan->reset_at = size_between(1, ENDPOINT_ID_SIZE + plan->asks);
}

/* They come and are quiet, so that their reads are ready, and then all say at once what their lane
 * does not take. */
static void surge_draw(struct endpoint_plan *plan)
{
    plan->total = 65536;
    plan->never_reads = true;
    plan->patience = FOREVER;
    plan->fin_delay = FOREVER;
    plan->start = hogs.surge > fake_now() ? hogs.surge - fake_now() : 0;
}

static void hog_draw(struct endpoint_plan *plan)
{
    *plan = (struct endpoint_plan){
        .step_max = 65536,
        .think_max = 1000,
        .pause_at = UINT64_MAX,
        .reset_at = UINT64_MAX,
    };
    if (hogs.tight == TIGHT_SURGE)
        surge_draw(plan);
    else if (maybe(hogs.movers))
        mover_draw(plan);
    else
        holder_draw(plan);
}

/* A tunnel of a rogue; 0: it has none yet. */
static uint16_t rogue_port(void)
{
    uint16_t ports[ROGUE_TUNNELS_MAX];
    const struct rogue *r = hogs.rogues[between(0, hogs.rogue_count - 1)];
    unsigned count = rogue_ports(r, ports, ROGUE_TUNNELS_MAX);

    return count > 0 ? ports[between(0, count - 1)] : 0;
}

static uint16_t client_port(unsigned tunnel)
{
    const struct worker *w = worker_at(CLIENT);

    CHECK(!list_empty(&w->sessions.all));
    const struct session *session = container_of(w->sessions.all.next, struct session, node);
    CHECK(session->tunnels[tunnel].bound);
    return session->tunnels[tunnel].port;
}

static void hog_comes(void)
{
    uint16_t port = terms()->rogues ? rogue_port() : client_port(hogs.scene == SCENE_BESIDE);
    struct endpoint_plan plan;

    if (port == 0 || hogs.dials == DIALS_MOST)
        return;
    hog_draw(&plan);
    hogs.hogs[hogs.hog_count++] =
        endpoint_dial(HOST_HOG + (unsigned)between(0, hogs.crowd - 1), port, &plan);
    hogs.dials++;
}

static void stranger_comes(void)
{
    struct endpoint_plan plan = {
        .start = FOREVER, .step_max = 1, .pause_at = UINT64_MAX, .reset_at = UINT64_MAX
    };

    if (hogs.dials == DIALS_MOST)
        return;
    hogs.silent[hogs.silent_count++] = endpoint_dial(HOST_STRANGER, SIM_LANE_PORT, &plan);
    hogs.dials++;
}

/* Who has been thrown out notices it, though it does not read. Returns how many are left. */
static unsigned sweep(struct endpoint **list, unsigned *count, bool strangers)
{
    unsigned left = 0;

    for (unsigned i = 0; i < *count; i++) {
        struct endpoint *e = list[i];

        if (e->end == ENDPOINT_OPEN && e->connected &&
            (fake_is_reset(e->fd) || (strangers && e->eof)))
            endpoint_leave(e);
        if (e->end == ENDPOINT_OPEN)
            list[left++] = e;
    }
    return *count = left;
}

/* The hogs have been refused what there is little of. */
static bool is_refused(void)
{
    const struct share_tree *shares = &worker_at(SERVER)->loop.shares;
    unsigned rogues = 0;

    if (hogs.tight == TIGHT_SURGE) /* they wait, or are ended */
        return shares->pool.used[SHARE_SMALL] * 8 > shares->capacity[SHARE_SMALL] * 7;
    if (hogs.tight != TIGHT_PORTS)
        return worker_at(SERVER)->loop.stats.value[tights[hogs.tight].refused] > 0;
    for (unsigned i = 0; i < hogs.rogue_count; i++)
        rogues += rogue_refusals(hogs.rogues[i]);
    return rogues > 0;
}

static bool all_refused(void)
{
    return is_refused() && (!hogs.strangers ||
                            worker_at(SERVER)->loop.stats.value[STAT_REFUSED_UNAUTHENTICATED] > 0);
}

static void tick_comes(void *arg)
{
    unsigned here = sweep(hogs.hogs, &hogs.hog_count, false);
    unsigned silent = sweep(hogs.silent, &hogs.silent_count, true);

    (void)arg;
    hogs.filled = hogs.filled || here >= hogs.wanted || is_refused();
    unsigned most = hogs.filled ? 1 : DIALS_TICK;
    for (; most > 0 && here < hogs.wanted; most--, here++)
        hog_comes();
    for (most = 2; hogs.strangers && most > 0 && silent < 2 * UNAUTH; most--, silent++)
        stranger_comes();
    fake_event_set(&hogs.tick, fake_now() + (hogs.filled ? TICK_FULL : TICK));
}

/* Strangers without end, while somebody honest logs in or joins. */
static void storm_comes(void *arg)
{
    (void)arg;
    stranger_comes();
    if (fake_now() < hogs.storm_until)
        fake_event_set(&hogs.storm, fake_now() + between(1, STORM));
}

static void storm_begins(uint64_t length)
{
    if (!hogs.strangers)
        return;
    hogs.storm.fn = storm_comes;
    hogs.storm_until = fake_now() + length;
    fake_event_set(&hogs.storm, fake_now());
}

static bool rogues_stand(void)
{
    for (unsigned i = 0; i < hogs.rogue_count; i++)
        if (rogue_stands(hogs.rogues[i]))
            return true;
    return hogs.rogue_count == 0;
}

static void rogues_come(void)
{
    for (unsigned i = 0; i < hogs.rogue_count; i++)
        hogs.rogues[i] = rogue_come(&hogs.rogue_plan);
    run_until(rogues_stand, 20 * NSEC_PER_SEC);
}

/* Until they are refused more: to have been at their limits makes a run worth something. */
static void hogs_come(void)
{
    if (terms()->rogues)
        rogues_come();
    hogs.surge = fake_now() + NSEC_PER_SEC;
    hogs.tick.fn = tick_comes;
    fake_event_set(&hogs.tick, fake_now());
    run_until(all_refused, FILL);
    pass(size_between(NSEC_PER_MSEC, 2 * NSEC_PER_SEC));
}

static void hogs_go(void)
{
    fake_event_stop(&hogs.tick);
    fake_event_stop(&hogs.storm);
    for (unsigned i = 0; i < endpoint_count(); i++)
        if (endpoint_at(i)->end == ENDPOINT_OPEN)
            endpoint_leave(endpoint_at(i));
    for (unsigned i = 0; i < hogs.rogue_count; i++)
        rogue_leave(hogs.rogues[i], maybe(500));
}

/* The honest ones */

static bool is_public(void)
{
    const struct worker *w = worker_at(CLIENT);

    if (list_empty(&w->sessions.all))
        return false;
    const struct session *session = container_of(w->sessions.all.next, struct session, node);
    return session->tunnels[0].bound && session->tunnels[1].bound;
}

static void accept_origin(void *arg)
{
    struct endpoint_plan plan = {
        .step_max = 65536,
        .think_max = 1000,
        .pause_at = UINT64_MAX,
        .reset_at = UINT64_MAX,
        .as_asked = true,
    };
    int fd;

    while ((fd = fake_accept(*(int *)arg)) >= 0)
        (void)endpoint_accept(fd, &plan);
}

static void open_origins(void)
{
    for (unsigned i = 0; i < 2; i++) {
        hogs.origins[i] = fake_listen((uint16_t)(SIM_ORIGIN_PORT + i), 128);
        fake_watch(hogs.origins[i], accept_origin, &hogs.origins[i]);
    }
}

static struct endpoint *honest_comes(unsigned i)
{
    struct endpoint_plan plan = {
        .total = size_between(ENDPOINT_ID_SIZE, 12000),
        .asks = size_between(ENDPOINT_ID_SIZE, 12000),
        .start = maybe(300) ? size_between(1, 100 * NSEC_PER_MSEC) : 0,
        .step_max = size_between(64, 65536),
        .think_max = 1000,
        .pause_at = UINT64_MAX,
        .reset_at = UINT64_MAX,
    };

    return endpoint_dial(HOST_HONEST + i, client_port(0), &plan);
}

static bool wave_over(void)
{
    for (unsigned i = 0; i < hogs.honest; i++) {
        const struct endpoint *e = hogs.wave[i];

        if (e->end == ENDPOINT_OPEN ||
            (e->peer != 0 && endpoint_find(e->peer)->end == ENDPOINT_OPEN))
            return false;
    }
    return true;
}

static void check_honest(const struct endpoint *e)
{
    if (e->end != ENDPOINT_WELL || e->received != e->plan.asks)
        endpoint_print(e);
    CHECK(e->end == ENDPOINT_WELL && e->received == e->plan.asks && e->peer != 0);
    CHECK(endpoint_find(e->peer)->received == e->plan.total);
}

static void loss_comes(void *arg)
{
    const struct worker *w = worker_at(CLIENT);
    const struct lane *lane = container_of(w->lanes.all.next, struct lane, node);

    (void)arg;
    if (list_empty(&w->lanes.all) || lane->state != LANE_OPEN)
        return;
    sim_totals.faults++;
    fake_lose(lane->conn.fd, (enum fake_loss)between(0, FAKE_LOSS_COUNT - 1));
    storm_begins(NSEC_PER_SEC);
}

static void wave_comes(void)
{
    for (unsigned i = 0; i < hogs.honest; i++)
        hogs.wave[i] = honest_comes(i);
    if (hogs.resumes && maybe(500)) {
        hogs.loss.fn = loss_comes;
        fake_event_set(&hogs.loss, fake_now() + size_between(1000, 500 * NSEC_PER_MSEC));
    }
    run_until(wave_over, BOUND + (hogs.resumes ? hogs.config[CLIENT].expiry : 0));
    CHECK(terms()->rogues ? rogues_stand() : hogs.hog_count > 0); /* they are still there */
    for (unsigned i = 0; i < hogs.honest; i++)
        check_honest(hogs.wave[i]);
    fake_event_stop(&hogs.loss);
    pass(size_between(NSEC_PER_MSEC, NSEC_PER_SEC));
}

/* One run */

static bool all_stopped(void)
{
    for (unsigned side = 0; side < 2; side++)
        if (worker_at(side)->loop.phase != LOOP_STOPPED ||
            fake_ring_in_flight(worker_at(side)->loop.ring) > 0)
            return false;
    return true;
}

static void check_stopped(struct worker *w)
{
    const uint64_t *used = w->loop.shares.pool.used;

    turn_stopped(w);
    CHECK(w->lanes.slab.used == 0 && w->sessions.slab.used == 0 && w->streams.slab.used == 0);
    CHECK(w->loop.slices.used == 0 && w->lanes.ids.used == 0 &&
          w->loop.bufs.small.used == w->loop.bufs.provided);
    for (unsigned i = 0; i < SHARE_KIND_COUNT; i++)
        CHECK(used[i] == (i == SHARE_SMALL ? w->loop.bufs.provided
                          : i == SHARE_BIG ? w->loop.bufs.big.used
                                           : 0));
    CHECK(w->loop.shares.nodes.used == (w->role->opens_streams ? 1 : 0)); /* the strangers' */
    for (unsigned i = 0; i < STAT_COUNT; i++)
        sim_totals.stats[i] += w->loop.stats.value[i];
}

static void stop_both(void)
{
    for (unsigned side = 2; side-- > 0;) {
        struct message *message = message_new(&worker_message_stop);

        message->number = WORKER_STOP_DRAIN;
        CHECK(worker_post_from_thread(worker_at(side), message));
    }
    run_until(all_stopped, PATIENCE);
    for (unsigned side = 0; side < 2; side++)
        check_stopped(worker_at(side));
    CHECK(fake_program_sockets() == 0);
    for (unsigned side = 0; side < 2; side++)
        worker_close(worker_at(side));
    client_finish();
    server_finish();
    for (unsigned i = 0; i < 2; i++)
        fake_end(hogs.origins[i], false);
}

static void draw_rogues(void)
{
    bool many = hogs.tight >= TIGHT_SESSIONS;

    hogs.rogue_count = !terms()->rogues              ? 0
                       : hogs.scene == SCENE_SESSION ? 1
                       : many                        ? ROGUES_MAX
                                                     : (unsigned)between(1, ROGUES_FEW);
    hogs.rogue_plan = (struct rogue_plan){
        .host = hogs.scene == SCENE_SESSION ? FAKE_HOST : HOST_ROGUE,
        .port = SIM_LANE_PORT,
        .token = SIM_TOKEN,
        .tunnels = hogs.tight == TIGHT_PORTS     ? ROGUE_TUNNELS_MAX
                   : hogs.scene == SCENE_SESSION ? 1
                                                 : (unsigned)between(1, 4),
        .lanes = hogs.tight == TIGHT_LANES ? ROGUE_LANES_MAX : (unsigned)between(1, 4),
        .resumes = hogs.tight == TIGHT_IDS || maybe(700),
        .floods = maybe(many ? 100 : 300),
        .fills = hogs.tight == TIGHT_SMALL || (hogs.tight < TIGHT_IDS && maybe(150)),
        .credit = maybe(300) ? 65536 : 0,
        .deaf_after = hogs.tight == TIGHT_SURGE,
        .reset_after = hogs.tight == TIGHT_IDS ? (unsigned)between(1, 50) : 0,
    };
}

static void draw_limits(void)
{
    uint64_t smalls = smalls_least();

    hogs.wanted = 40;
    if (hogs.tight == TIGHT_STREAMS)
        hogs.wanted = (unsigned)(streams_least() * 5 / 4);
    if (hogs.tight == TIGHT_FDS) {
        hogs.fds = capacity_for(hogs.honest + 2 + UNAUTH);
        hogs.wanted = (unsigned)hogs.fds;
    }
    fake_limits.provided = 16;
    if (hogs.tight == TIGHT_SMALL) {
        fake_limits.small_buffers = (uint32_t)smalls + fake_limits.provided;
        hogs.wanted = (unsigned)(2 * smalls * BUF_SMALL_SIZE / 262144);
    }
    if (hogs.tight == TIGHT_SURGE) {
        fake_limits.small_buffers = (uint32_t)smalls + fake_limits.provided;
        hogs.wanted = fake_limits.small_buffers;
    }
    if (hogs.tight == TIGHT_IDS) {
        fake_limits.ids = (uint32_t)capacity_for(8 * hogs.honest);
        fake_limits.apart = 1;
        hogs.wanted = fake_limits.ids / 2;
    }
}

static void draw(uint64_t seed)
{
    struct fake_options options;

    fake_options_random(&options, seed);
    options.buffer_min = 8192;
    options.buffer_max = 32768;
    options.segment_max = 0;
    options.op_delay_max = min_u64(options.op_delay_max, NSEC_PER_MSEC);
    options.cancel_lost = 0; /* a wake-up for each of hundreds of streams that end in a second */
    options.latency_max = min_u64(options.latency_max, LATENCY_MAX);
    options.latency_min = min_u64(options.latency_min, options.latency_max);
    fake_open(seed, &options);
    hogs.scene = (enum scene)between(0, SCENE_COUNT - 1);
    hogs.tight = (enum tight)between(0, hogs.scene == SCENE_CLIENT    ? TIGHT_COUNT - 1
                                        : hogs.scene == SCENE_SESSION ? TIGHT_SURGE
                                                                      : TIGHT_SMALL);
    if (terms()->rogues && maybe(150))
        hogs.tight = TIGHT_SURGE;
    hogs.tls = !terms()->rogues && maybe(300);
    hogs.resumes =
        hogs.tight == TIGHT_IDS || maybe(500); /* or else who does not count loses nothing */
    hogs.strangers = maybe(500);
    hogs.late = hogs.tight >= TIGHT_SESSIONS || (hogs.scene == SCENE_CLIENT && maybe(500));
    hogs.honest = hogs.tight == TIGHT_SURGE ? 1 : (unsigned)between(1, HONEST_MAX);
    hogs.crowd = hogs.scene == SCENE_TUNNEL ? 1 : (unsigned)between(1, CROWD_MAX);
    hogs.movers = (unsigned)between(0, 300);
    draw_limits();
    draw_rogues();
}

void sim_hogs(uint64_t seed)
{
    struct path_world world = {
        .workers = { hogs.workers[SERVER], hogs.workers[CLIENT] },
        .count = { 1, 1 },
        .port = SIM_LANE_PORT,
    };

    memset(&hogs, 0, sizeof(hogs));
    draw(seed);
    config_make(SERVER);
    config_make(CLIENT);
    sim_set_dump(dump);
    open_origins();
    CHECK(server_prepare(&hogs.config[SERVER]) == 0 && client_prepare(&hogs.config[CLIENT]) == 0);
    path_watch(&world);
    open_worker(SERVER);
    if (hogs.late)
        hogs_come();
    if (hogs.late)
        storm_begins(BOUND_LOGIN);
    open_worker(CLIENT);
    run_until(is_public, BOUND_LOGIN);
    fake_event_stop(&hogs.storm);
    if (!hogs.late)
        hogs_come();
    for (unsigned i = 0; i < WAVES; i++)
        wave_comes();
    hogs_go();
    pass(5 * NSEC_PER_SEC);
    stop_both();
    sim_set_dump(NULL);
}
