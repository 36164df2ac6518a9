/*
 * tunnel: the whole engine in the simulated world. Server workers and client workers (one or two
 * each, the real code) are joined by fake sockets; visitors and origins are scripted endpoints.
 *
 * A run: start both, wait for the tunnels, let visitors come over some seconds, wait until every
 * endpoint has ended, check the ends and the pools, stop both, check that everything is back. What
 * the seed draws beside the world's options is in `struct mood`: from quiet (every stream must end
 * well) to lost lanes. The cases of resume lose them all the time (path.c), and every stream must
 * end well nevertheless, unless the grace time was drawn too short.
 *
 * Which ends are right:
 *   - an endpoint that ended well has received exactly what its peer sent, and the peer had said
 *     FIN (v2: an end that looks clean is never a cut one; v1: as long as nothing but a death
 *     happens); one that heard nothing has a peer who had nothing to say;
 *   - an endpoint may die only if a fault explains it: its own connection's, its peer's (known from
 *     the bytes, or, when no byte got through, some endpoint of the other kind without a peer), its
 *     origin's refusal, a lost lane, or the death of a side: all its workers vanish at once
 *     (killed.c), and only the other one is left to see its streams' ends and to stop.
 */
#include "core/io/addr.h"
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/config.h"
#include "core/mux/lane.h"
#include "core/base/log.h"
#include "core/io/op.h"
#include "core/mux/session.h"
#include "core/mux/stream.h"
#include "core/run/worker.h"
#include "client/client.h"
#include "client/client_state.h"
#include "server/server.h"
#include "sim/endpoint.h"
#include "sim/killed.h"
#include "sim/path.h"
#include "sim/sim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOKEN           "sim-token"
#define LANE_PORT       9000
#define PUBLIC_PORT     10000
#define ORIGIN_PORT     7000
#define NOBODY_PORT     7100
#define TUNNELS_MAX     3u
#define WORKERS_MAX     3u
#define VISITORS_MAX    24u
#define CHURN_MAX       500u
#define STALL_MAX       (5 * NSEC_PER_SEC)
#define STRANGER_SMALLS 2u
#define TIME_LIMIT      (3600 * NSEC_PER_SEC)
#define OUTAGE_MAX      (30 * NSEC_PER_SEC)
#define HEARTBEAT       (10 * NSEC_PER_SEC)
#define EXPIRY          (3 * HEARTBEAT)

enum side { SERVER, CLIENT };

struct mood {
    bool resets;        /* endpoints reset, or never read */
    bool bad_origins;   /* some tunnel's origin refuses, or does not answer */
    bool stream_faults; /* operations on streams' sockets fail */
    bool lane_faults;   /* lanes break, or fall silent */
    bool spoils;        /* TLS: bytes of lanes are changed on their way, or held up */
    bool limits;        /* few stream slots, few descriptors */
    bool bulk;          /* few streams, megabytes each, through large socket buffers */
    bool churn;  /* v2: many visitors, most of whom reset at once, and ids that come back at once */
    bool stalls; /* the workers of a side get no turns for a while */
    bool miserly;     /* resume: the log of a lane is small, and counts come late */
    bool dearth;      /* few small buffers */
    bool short_grace; /* resume: outages may outlast it */
    bool stormy;      /* resume: the path stays bad while the workers stop ... */
    bool hasty;       /* ... which they do while streams are on */
    bool killed;      /* one side's process dies while streams are on */
    bool addresses;   /* origins have several, of which one answers */
};

static struct {
    bool v1, tls, resume;
    bool strict;             /* the server takes TLS lanes only, or plain ones only */
    bool visitor_ends_first; /* v1 */
    struct mood mood;
    struct config config[2];
    struct worker *workers[2][WORKERS_MAX];
    unsigned tunnels;
    bool origin_bad[TUNNELS_MAX];
    int origins[TUNNELS_MAX]; /* listening; -1: none */
    unsigned visitors_due;
    struct fake_event next_visitor;
    struct fake_event lane_fault;
    struct fake_event stall;
    unsigned stalls_due;
    uint64_t faulted[16]; /* connections with a fault before their endpoint knew of them */
    unsigned faulted_count;
    /* resume: so many are left; a path that never holds long enough for a few bytes proves
     * nothing */
    unsigned lane_faults;
    uint64_t session;     /* resume: the first one, and the last if no grace time runs out */
    bool killed;          /* a side is dead */
    bool lane_lost;       /* at some time */
    bool limited;         /* likewise */
    uint64_t quiet_since; /* 0: not now */
    bool calm;            /* no more faults */
    uint64_t steps;
    uint64_t zc_copied; /* counted by the workers */
} run;

static struct fake_random *chance(void)
{
    return fake_random();
}

static void dump_workers(void)
{
    fprintf(stderr, "%s%s%s, tunnels %u, moods:%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s\n",
            run.v1 ? "v1" : "v2", run.tls ? " over TLS" : "", run.resume ? ", resume" : "",
            run.tunnels, run.mood.addresses ? " addresses" : "", run.mood.churn ? " churn" : "",
            run.mood.stalls ? " stalls" : "", run.mood.miserly ? " miserly" : "",
            run.mood.dearth ? " dearth" : "", run.mood.short_grace ? " short-grace" : "",
            run.mood.stormy ? " stormy" : "", run.mood.hasty ? " hasty" : "",
            run.mood.killed ? " killed" : "", run.mood.resets ? " resets" : "",
            run.mood.bad_origins ? " bad-origins" : "",
            run.mood.stream_faults ? " stream-faults" : "", run.mood.limits ? " limits" : "",
            run.mood.bulk ? " bulk" : "", run.mood.lane_faults ? " lane-faults" : "",
            run.mood.spoils ? " spoils" : "", run.lane_lost ? " (lane lost)" : "");
    fake_print_sockets();
    if (run.resume)
        path_print();
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < run.config[side].workers; i++) {
            const struct worker *w = run.workers[side][i];
            if (w == NULL)
                continue;
            fprintf(stderr,
                    "  %s worker %u: phase %d, streams %u, lanes %u, sessions %u, listeners %u, "
                    "slices %u, "
                    "big %u, small %u (lent %u), in flight %u\n",
                    side == SERVER ? "server" : "client", i, w->loop.phase, w->streams.slab.used,
                    w->lanes.slab.used, w->sessions.slab.used, w->listeners.slab.used,
                    w->loop.slices.used, w->loop.bufs.big.used, w->loop.bufs.small.used,
                    w->loop.bufs.provided, fake_ring_in_flight(w->loop.ring));
        }
}

/* Set-up */

static void endpoint_text(struct config_endpoint *endpoint, uint16_t port)
{
    snprintf(endpoint->host, sizeof(endpoint->host), "127.0.0.1");
    endpoint->port = port;
}

static void config_common(struct config *c, enum config_role role)
{
    *c = (struct config){
        .role = role,
        .workers = (unsigned)between(1, run.resume ? WORKERS_MAX : 2),
        .max_streams = run.mood.limits ? (uint32_t)between(1, 16) : 64,
        .max_sessions = 4,
        .max_lanes = 16,
        .max_unauthenticated = 8,
        .bulk_buffers = (uint32_t)between(8, run.mood.dearth ? 9 : 48),
        .window_initial = (uint32_t)fake_random_size(chance(), 4096, 262144),
        .heartbeat = HEARTBEAT,
        .expiry = EXPIRY,
        .handshake_timeout = 10 * NSEC_PER_SEC,
        .connect_timeout = 10 * NSEC_PER_SEC,
        .drain_timeout = 60 * NSEC_PER_SEC,
        .zero_copy = (enum config_auto)between(CONFIG_AUTO, CONFIG_OFF),
    };
    if (run.mood.bulk && c->zero_copy == CONFIG_AUTO) /* to loopback that means off */
        c->zero_copy = CONFIG_ON;
    if (run.mood.bulk)
        c->window_initial = (uint32_t)fake_random_size(chance(), 65536, 1048576);
    /* A first byte that was spoiled is plain to a server that takes both, and so is its answer. */
    sim_config_tls(c, run.tls, run.mood.spoils || run.strict);
    c->grace_plain = true;
    snprintf(c->tls_cert, sizeof(c->tls_cert), "%s", role == CONFIG_SERVER ? "simulated" : "");
    snprintf(c->tls_key, sizeof(c->tls_key), "%s", role == CONFIG_SERVER ? "simulated" : "");
    snprintf(c->tls_pin, sizeof(c->tls_pin), "%s", role == CONFIG_CLIENT ? "simulated" : "");
    c->record_engine = CONFIG_ENGINE_AUTO;
    if (run.resume)
        c->grace = run.mood.short_grace ? fake_random_size(chance(), NSEC_PER_MSEC, OUTAGE_MAX)
                                        : 1000 * NSEC_PER_SEC;
    c->window_max = c->window_initial * (uint32_t)between(1, 16);
    CHECK(config_copy_token(c, TOKEN, strlen(TOKEN)));
}

static void config_draw(void)
{
    struct config *s = &run.config[SERVER], *c = &run.config[CLIENT];

    config_common(s, CONFIG_SERVER);
    endpoint_text(&s->listen, LANE_PORT);
    port_set_add(&s->ports, PORT_SET_LOW, UINT16_MAX);
    s->start_port = PUBLIC_PORT;
    config_common(c, CONFIG_CLIENT);
    /* AUTO would take a lane that breaks in the handshake for a v1 server. */
    c->wire =
        run.v1 ? CONFIG_WIRE_V1
        : maybe(500) || run.mood.lane_faults || run.mood.spoils || run.resume || run.mood.dearth
            ? CONFIG_WIRE_V2
            : CONFIG_WIRE_AUTO;
    endpoint_text(&c->servers[0], LANE_PORT);
    c->server_count = 1;
    c->lanes = run.v1 ? 0 : (unsigned)between(0, 3);
    c->reconnect = true;
    c->reconnect_attempts = run.mood.lane_faults || run.mood.spoils || run.mood.dearth ? 1000 : 10;
    c->reconnect_first = NSEC_PER_SEC;
    c->reconnect_max = 30 * NSEC_PER_SEC;
    if (run.mood.churn && maybe(700))
        s->workers = c->workers = c->lanes = 1;
    run.tunnels = run.v1 ? 1 : (unsigned)between(1, TUNNELS_MAX);
    c->tunnel_count = run.tunnels;
    for (unsigned i = 0; i < run.tunnels; i++)
        endpoint_text(&c->tunnels[i].origin, (uint16_t)(ORIGIN_PORT + i));
}

static void open_workers(enum side side)
{
    const struct config *config = &run.config[side];
    struct worker_error error;

    fake_process(side);
    for (unsigned i = 0; i < config->workers; i++) {
        run.workers[side][i] = worker_open(config, side == SERVER ? &server_role : &client_role, i,
                                           WORKER_SQ_ENTRIES, &error);
        CHECK(run.workers[side][i] != NULL);
    }
    for (unsigned i = 0; i < config->workers; i++) {
        run.workers[side][i]->peers = run.workers[side];
        CHECK(worker_prepare(run.workers[side][i]) == 0);
        CHECK(worker_start(run.workers[side][i]) == 0);
        sim_set_dump(dump_workers);
    }
}

/* Faults */

static bool is_lane(int fd)
{
    return fake_local_port(fd) == LANE_PORT || fake_remote_port(fd) == LANE_PORT;
}

static bool may_fail(int fd)
{
    if (run.calm)
        return false;
    if (!is_lane(fd))
        return run.mood.stream_faults;
    return run.mood.lane_faults || run.lane_faults > 0 || (run.mood.spoils && !run.resume);
}

static void lose_lane(void)
{
    if (run.resume && !run.mood.short_grace && !run.mood.dearth)
        return; /* nobody notices */
    run.lane_lost = true;
    for (unsigned i = 0; i < endpoint_count(); i++)
        if (endpoint_at(i)->end == ENDPOINT_OPEN)
            endpoint_blame(endpoint_at(i), "lane lost");
}

static void on_fault(int fd, int error)
{
    (void)error;
    sim_totals.faults++;
    uint64_t connection = fake_connection(fd);
    struct endpoint *e = endpoint_of_connection(connection);
    run.lane_faults -= is_lane(fd) && run.lane_faults > 0;
    if (is_lane(fd))
        lose_lane();
    else if (e != NULL)
        endpoint_blame(e, "an operation on its connection failed");
    else
        run.faulted[run.faulted_count++ % ARRAY_SIZE(run.faulted)] = connection;
}

/* The socket of some open lane of a client worker; -1 if there is none. */
static int some_lane(void)
{
    int fds[64];
    unsigned count = 0;

    for (unsigned i = 0; i < run.config[CLIENT].workers; i++) {
        struct worker *w = run.workers[CLIENT][i];
        for (struct list *n = w->lanes.all.next; n != &w->lanes.all && count < 64; n = n->next) {
            const struct lane *lane = container_of(n, struct lane, node);
            if (lane->state == LANE_OPEN)
                fds[count++] = lane->conn.fd;
        }
    }
    return count == 0 ? -1 : fds[between(0, count - 1)];
}

static void break_lane(void *arg)
{
    int fd = some_lane();

    (void)arg;
    if (run.calm)
        return;
    if (fd < 0) {
        fake_event_set(&run.lane_fault, fake_now() + NSEC_PER_SEC);
        return;
    }
    if (run.mood.spoils) { /* told when it strikes */
        path_trouble(fd);
        return;
    }
    lose_lane();
    sim_totals.faults++;
    if (maybe(500))
        fake_break(fd);
    else
        fake_cut(fd);
}

/* The workers of one side are held up for a while, as if their process were stopped. */
static void stall_comes(void *arg)
{
    enum side side = maybe(500) ? SERVER : CLIENT;
    uint64_t until = fake_now() + fake_random_size(chance(), NSEC_PER_MSEC, STALL_MAX);

    (void)arg;
    if (run.calm)
        return;
    fake_trace("the %s stalls until %.6f", side == SERVER ? "server" : "client",
               (double)until / 1e9);
    for (unsigned i = 0; i < run.config[side].workers; i++)
        fake_ring_stall(run.workers[side][i]->loop.ring, until);
    if (--run.stalls_due > 0)
        fake_event_set(&run.stall, until + fake_random_size(chance(), 1000, NSEC_PER_SEC));
}

/* Endpoints */

/* Small buffers make small pieces, and every piece costs some turns: some hundred of them are
 * enough. */
static uint64_t bytes_max(void)
{
    const struct fake_options *o = fake_options();
    uint64_t piece = o->buffer_min;

    if (o->segment_max > 0)
        piece = min_u64(piece, o->segment_max);
    if (run.mood.miserly)
        return 4 * LANE_LOG_MAX; /* more comes with every heartbeat only */
    return run.mood.bulk ? 20000000 : min_u64(max_u64(piece * 200, 1000), 1000000);
}

static uint64_t total_draw(uint64_t most)
{
    if (maybe(100))
        return 0;
    if (run.mood.bulk && maybe(500))
        return fake_random_size(chance(), 100000, most / 2);
    return fake_random_size(chance(), ENDPOINT_ID_SIZE, maybe(100) ? most : most / 10);
}

static void plan_draw(struct endpoint_plan *plan)
{
    uint64_t most = bytes_max();

    *plan = (struct endpoint_plan){
        .total = total_draw(most),
        .start = maybe(200) ? fake_random_size(chance(), 1, NSEC_PER_SEC) : 0,
        .step_max = fake_random_size(chance(), max_u64(64, most / 500), 65536),
        .think_max = fake_random_size(chance(), 1, 1000000),
        .pause_at = maybe(200) ? fake_random_size(chance(), 1, most / 10) : UINT64_MAX,
        .pause = fake_random_size(chance(), 1, 60 * NSEC_PER_SEC),
        .fin_delay = maybe(200) ? fake_random_size(chance(), 1, 10 * NSEC_PER_SEC) : 0,
        .reset_at = UINT64_MAX,
        .wait_for_end = false,
    };
    if (run.mood.resets && maybe(200))
        plan->reset_at = fake_random_size(chance(), 1, most / 10);
    if (run.mood.resets && maybe(100)) {
        plan->never_reads = true;
        plan->patience = fake_random_size(chance(), 1000, 100 * NSEC_PER_SEC);
    }
}

/* Most visitors send a little and reset; some say all, and must be served whatever the others'
 * frames do. Some send as much as is queued as bulk, and reset in the middle of it; some origins
 * have said all, and reset while they still read. */
static void plan_for_churn(struct endpoint_plan *plan, bool visitor)
{
    bool much = maybe(400);
    uint64_t most = much ? min_u64(bytes_max(), 200000) : 1000;

    *plan = (struct endpoint_plan){
        .total = fake_random_size(chance(), much ? most / 8 : ENDPOINT_ID_SIZE, most),
        .step_max = fake_random_size(chance(), max_u64(64, most / 20), 65536),
        .think_max = fake_random_size(chance(), 1, maybe(200) ? 10 * NSEC_PER_MSEC : 100000),
        .pause_at = maybe(300) ? between(1, most) : UINT64_MAX,
        .pause = fake_random_size(chance(), 1000, NSEC_PER_SEC),
        .reset_at = UINT64_MAX,
    };
    if (maybe(visitor ? 600 : 200))
        plan->reset_at = between(1, plan->total + most);
}

/* v1 has no half-close and no windows: an end of one direction ends the other soon, and a reader
 * that pauses is cut. What v1 can carry is a conversation in which the last word is known to
 * both. */
static void plan_for_v1(struct endpoint_plan *plan, bool first_to_end)
{
    if (plan->total == 0)
        plan->total = ENDPOINT_ID_SIZE;
    plan->pause = min_u64(plan->pause, 2 * NSEC_PER_SEC);
    plan->wait_for_all = first_to_end;
    plan->wait_for_end = !first_to_end;
}

static void accept_origins(void *arg)
{
    int listener = *(int *)arg, fd;

    while ((fd = fake_accept(listener)) >= 0) {
        struct endpoint_plan plan;
        plan_draw(&plan);
        if (run.v1)
            plan_for_v1(&plan, !run.visitor_ends_first);
        if (run.mood.churn)
            plan_for_churn(&plan, false);
        struct endpoint *e = endpoint_accept(fd, &plan);
        if (run.mood.dearth)
            endpoint_blame(e, "buffers are few");
        for (unsigned i = 0; i < ARRAY_SIZE(run.faulted); i++)
            if (run.faulted[i] == fake_connection(fd) && run.faulted[i] != 0)
                endpoint_blame(e, "an operation failed before it was accepted");
    }
}

static void open_origins(void)
{
    for (unsigned i = 0; i < run.tunnels; i++) {
        uint16_t port = (uint16_t)(ORIGIN_PORT + i);

        run.origin_bad[i] = run.mood.bad_origins && maybe(400);
        run.origins[i] = -1;
        if (run.origin_bad[i] && maybe(300))
            fake_blackhole(port, true);
        if (run.origin_bad[i])
            continue;
        run.origins[i] = fake_listen(port, 128);
        fake_watch(run.origins[i], accept_origins, &run.origins[i]);
    }
}

/* Some that refuse, some that say nothing, and in the middle of them the one that answers. */
static void draw_addresses(struct resolve_result *out, uint16_t good)
{
    unsigned before = (unsigned)between(0, 3), after = (unsigned)between(0, 2);

    *out = (struct resolve_result){ .count = before + 1 + after };
    for (unsigned i = 0; i < out->count; i++) {
        uint16_t port = (uint16_t)(i == before ? good : NOBODY_PORT + between(0, 7));

        CHECK(addr_from_host("127.0.0.1", port, &out->addr[i]));
        if (i != before)
            fake_blackhole(port, port % 2 == 0);
    }
}

/* What a look-up of the origins' names would have said, on every worker of the client. */
static void give_addresses(void)
{
    for (unsigned i = 0; i < run.tunnels && run.mood.addresses; i++) {
        struct resolve_result addrs;

        draw_addresses(&addrs, (uint16_t)(ORIGIN_PORT + i));
        for (unsigned n = 0; n < run.config[CLIENT].workers; n++) {
            struct message message = { .number = i, .pointer = &addrs };
            origin_resolved(run.workers[CLIENT][n], &message);
        }
    }
}

/* Where tunnel i of the newest session is public. A session that came after a lost one has other
 * ports while the old one lives. */
static uint16_t public_port(unsigned tunnel)
{
    uint64_t newest = 0;
    uint16_t port = (uint16_t)(PUBLIC_PORT + tunnel);

    for (unsigned i = 0; i < run.config[SERVER].workers; i++) {
        struct worker *w = run.workers[SERVER][i];
        for (struct list *n = w->sessions.all.next; n != &w->sessions.all; n = n->next) {
            const struct session *session = container_of(n, struct session, node);
            if (session->id < newest || !session->tunnels[tunnel].bound)
                continue;
            newest = session->id;
            port = session->tunnels[tunnel].port;
        }
    }
    return port;
}

/* The longest time between two visitors. */
static uint64_t visitor_pause(void)
{
    return run.mood.churn ? 20 * NSEC_PER_MSEC : 2 * NSEC_PER_SEC;
}

static void visitor_comes(void *arg)
{
    struct endpoint_plan plan;
    unsigned tunnel = (unsigned)between(0, run.tunnels - 1);

    (void)arg;
    plan_draw(&plan);
    if (run.v1)
        plan_for_v1(&plan, run.visitor_ends_first);
    if (run.mood.churn)
        plan_for_churn(&plan, true);
    struct endpoint *e = endpoint_dial(FAKE_HOST, public_port(tunnel), &plan);
    if (run.origin_bad[tunnel])
        endpoint_blame(e, "its origin refuses");
    if (run.lane_lost && !run.calm)
        endpoint_blame(e, "came after a lane was lost");
    if (run.mood.dearth)
        endpoint_blame(e, "buffers are few");
    if (--run.visitors_due > 0)
        fake_event_set(&run.next_visitor,
                       fake_now() +
                           (maybe(300) ? 0 : fake_random_size(chance(), 1, visitor_pause())));
}

/* The loop */

/* Whatever its lane does, a stream whose local end was reset ends soon after the last of what was
 * said before has moved: nothing may move any more for QUIET_BROKEN_NS, and rounds begin before and
 * behind it. */
static void check_reset(const struct stream *s)
{
    uint64_t bound = QUIET_BROKEN_NS + 3 * QUIET_ROUND_NS + 2 * STALL_MAX;

    if (s->fd >= 0 && s->lane != NULL)
        CHECK(fake_reset_for(s->fd, s->bytes_up - s->waiter.pending) < bound);
}

static void check_streams(const struct worker *w)
{
    for (uint32_t i = 0; i < w->streams.slab.fresh; i++) {
        const struct stream *s = slab_at(&w->streams.slab, i);
        if (s->state != STREAM_OPEN)
            continue;
        check_reset(s);
        if (!run.v1)
            CHECK(s->queued <= s->rx.size); /* memory of a stalled stream is bounded */
    }
}

/* As worker_run does: the last closes go out. Messages that come now are found by
 * message_free_all. */
static void turn_stopped(struct worker *w)
{
    struct ring_cqe cqe;

    while (ring_wait(w->loop.ring, UINT64_MAX, &cqe, 1) == 1)
        CHECK(worker_is_message(cqe.user_data));
}

static void turn_of(struct worker *w)
{
    uint64_t frames = w->loop.stats.value[STAT_FRAMES_IN];

    if (!worker_turn(w, UINT64_MAX)) {
        turn_stopped(w);
        return;
    }
    if (w->loop.stats.value[STAT_FRAMES_IN] != frames) /* those that an earlier turn had left */
        fake_ring_worked(w->loop.ring);
}

/* False when nothing can happen any more by itself. */
static bool turn(void)
{
    unsigned count[2] = { run.config[SERVER].workers, run.config[CLIENT].workers };
    unsigned first = (unsigned)between(0, count[0] + count[1] - 1);

    for (unsigned k = 0; k < count[0] + count[1]; k++) {
        unsigned i = (first + k) % (count[0] + count[1]);
        enum side side = i < count[0] ? SERVER : CLIENT;
        struct worker *w = run.workers[side][side == SERVER ? i : i - count[0]];

        fake_process(side);
        if (fake_ring_ready(w->loop.ring))
            turn_of(w);
        if (run.steps % 64 == 0)
            check_streams(w);
    }
    CHECK(fake_now() < TIME_LIMIT);
    run.steps++;
    sim_totals.steps++;
    return fake_step();
}

/* Every tunnel is public: on all workers, once all lanes stand. */
static bool tunnels_ready(void)
{
    unsigned sessions = 0, listeners = 0;

    for (unsigned i = 0; i < run.config[SERVER].workers; i++) {
        sessions += run.workers[SERVER][i]->sessions.slab.used;
        listeners += run.workers[SERVER][i]->listeners.slab.used;
    }
    return sessions > 0 && listeners >= run.config[SERVER].workers + run.tunnels;
}

static void run_until(bool (*done)(void), uint64_t limit)
{
    uint64_t end = fake_now() + limit;

    while (!done()) {
        CHECK(turn() || done());           /* otherwise everybody waits for everybody */
        CHECK(fake_now() < end || done()); /* it takes too long: something is stuck */
    }
}

static bool visitors_ended(void)
{
    return run.visitors_due == 0 && endpoints_ended();
}

static bool streams_gone(void)
{
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < run.config[side].workers; i++)
            if (run.workers[side][i]->streams.slab.used > 0)
                return false;
    return true;
}

/* Nothing is left of any stream; also not one that a visitor left behind before its origin saw
 * it. */
static bool quiet(void)
{
    if (!visitors_ended() || !streams_gone())
        run.quiet_since = 0;
    else if (run.quiet_since == 0)
        run.quiet_since = fake_now();
    return run.quiet_since != 0 && fake_now() - run.quiet_since >= NSEC_PER_SEC;
}

/* And what they said to each other has arrived. */
static bool all_stopped(void)
{
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < run.config[side].workers; i++)
            if (run.workers[side][i]->loop.phase != LOOP_STOPPED ||
                fake_ring_in_flight(run.workers[side][i]->loop.ring) > 0)
                return false;
    return true;
}

/* Checks */

/* Endpoints that no byte ever tied to a peer, and that a fault of the script concerns. */
static bool some_unknown_fault(bool visitor)
{
    for (unsigned i = 0; i < endpoint_count(); i++) {
        const struct endpoint *e = endpoint_at(i);
        if (e->visitor == visitor && e->peer == 0 && e->blamed)
            return true;
    }
    return false;
}

static bool faulted(const struct endpoint *e)
{
    if (e->blamed)
        return true;
    if (e->peer != 0)
        return endpoint_find(e->peer)->blamed;
    if (run.limited && e->received == 0)
        return true; /* refused before a byte got through */
    return some_unknown_fault(!e->visitor);
}

/* Somebody of the other kind meant to say nothing. */
static bool silence_was_meant(const struct endpoint *e)
{
    for (unsigned i = 0; i < endpoint_count(); i++) {
        const struct endpoint *other = endpoint_at(i);
        if (other->visitor != e->visitor && other->peer == 0 && other->plan.total == 0 &&
            other->fin_sent)
            return true;
    }
    return false;
}

static bool end_is_right(const struct endpoint *e, const struct endpoint *peer)
{
    if (e->end == ENDPOINT_OPEN)
        return false;
    if (e->end == ENDPOINT_DIED || e->end == ENDPOINT_REFUSED)
        return run.killed || faulted(e);
    if (e->end != ENDPOINT_WELL || (run.v1 && faulted(e)))
        return true;
    if (peer == NULL)
        return silence_was_meant(e);
    if (run.v1 && run.killed) /* the end of one side is both sides' */
        return e->received == peer->plan.total;
    return e->received == peer->sent &&
           peer->fin_sent; /* otherwise a cut that looked like an end */
}

static void check_end(const struct endpoint *e)
{
    const struct endpoint *peer = e->peer != 0 ? endpoint_find(e->peer) : NULL;
    bool right = end_is_right(e, peer);

    if (!right) {
        fprintf(stderr, "wrong end:\n");
        endpoint_print(e);
        if (peer != NULL)
            endpoint_print(peer);
    }
    CHECK(right);
}

static uint32_t kept_ids(const struct worker *w)
{
    uint32_t count = 0;

    for (const struct list *n = w->lanes.all.next; n != &w->lanes.all; n = n->next)
        count += container_of(n, struct lane, node)->kept.count;
    return count;
}

/* What owners hold is what the pools have lent; who is gone holds nothing. */
static void check_shares(const struct worker *w, bool stopped)
{
    const uint64_t *used = w->loop.shares.pool.used;

    CHECK(used[SHARE_SMALL] == w->loop.bufs.small.used && used[SHARE_BIG] == w->loop.bufs.big.used);
    CHECK(used[SHARE_SLICES] == w->loop.slices.used && used[SHARE_IDS] == w->lanes.ids.used);
    CHECK(used[SHARE_STREAMS] == 0 && used[SHARE_WINDOW] == 0 && used[SHARE_PIPES] == 0 &&
          w->loop.bufs.pipes.slab.used == 0);
    CHECK(list_empty(&w->streams.wide) && list_empty(&w->streams.short_of));
    if (!stopped)
        return;
    CHECK(used[SHARE_LANES] == 0 && used[SHARE_LOG] == 0 &&
          used[SHARE_FDS] == (uint64_t)PIPE_FDS * w->loop.bufs.pipes.open);
    CHECK(w->loop.shares.nodes.used == (w->role->opens_streams ? 1 : 0) &&
          list_empty(&w->lanes.short_of)); /* the strangers' */
}

static void check_pools(const struct worker *w, bool stopped)
{
    uint32_t spare = w->lanes.spare.buf != BUF_NONE ? 1 : 0; /* kept for opening records */

    uint32_t logged = path_logged(w); /* a slice has a reference on one buffer */

    CHECK(w->streams.slab.used == 0 && w->loop.slices.used == logged &&
          w->lanes.ids.used == kept_ids(w));
    CHECK(list_empty(&w->streams.starved) && list_empty(&w->streams.bulk_reads));
    CHECK(list_empty(&w->streams.orphans));
    check_shares(w, stopped);
    if (!stopped) {
        /* A lane may hold the beginning of a frame, and has two packs at most. */
        CHECK(w->loop.bufs.big.used <= 3 * w->lanes.slab.used + spare + logged);
        CHECK(w->loop.bufs.small.used - w->loop.bufs.provided <= 3 * w->lanes.slab.used + logged);
        return;
    }
    CHECK(logged == 0 && w->lanes.ids.used == 0);
    CHECK(w->loop.bufs.small.used == w->loop.bufs.provided);
    CHECK(w->loop.bufs.big.used == spare && w->lanes.slab.used == 0 && w->sessions.slab.used == 0 &&
          w->listeners.slab.used == 0);
    CHECK(list_empty(&w->lanes.starved));
}

static void each_worker(void (*fn)(struct worker *w))
{
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < run.config[side].workers; i++)
            fn(run.workers[side][i]);
}

static void check_idle(struct worker *w)
{
    check_pools(w, false);
}

static void check_stopped(struct worker *w)
{
    fake_options()->hold_chance = 0;
    fake_options()->early_chance = 0;
    turn_stopped(w);
    check_pools(w, true);
    for (unsigned i = 0; i < STAT_COUNT; i++)
        sim_totals.stats[i] += w->loop.stats.value[i];
    run.zc_copied += w->loop.stats.value[STAT_ZC_COPIED];
    CHECK(fake_ring_in_flight(w->loop.ring) == 0);
}

struct stopper {
    struct fake_event event;
    struct worker *worker;
    enum worker_stop_how how;
};

static void stop_comes(void *arg)
{
    struct stopper *stopper = arg;
    struct message *message =
        message_new(&worker_message_stop); /* as the signal handling of the program does */

    message->number = stopper->how;
    CHECK(worker_post_from_thread(stopper->worker, message));
}

/* All workers of a side hear the same, one a little after the other. */
static void stop_side(enum side side, uint64_t at)
{
    static struct stopper stoppers[2][WORKERS_MAX];
    enum worker_stop_how how = maybe(300) ? WORKER_STOP_NOW : WORKER_STOP_DRAIN;

    for (unsigned i = 0; i < run.config[side].workers; i++) {
        struct stopper *stopper = &stoppers[side][i];
        *stopper = (struct stopper){ .worker = run.workers[side][i], .how = how };
        stopper->event.fn = stop_comes;
        stopper->event.arg = stopper;
        at += maybe(500) ? 0 : fake_random_size(chance(), 1, NSEC_PER_SEC);
        fake_event_set(&stopper->event, at);
    }
}

/* One run */

/* Half of the runs have endpoints that know no faults but those of the path: all must end well. */
static void options_for_resume(struct fake_options *options, struct fake_random *r)
{
    struct mood *mood = &run.mood;
    unsigned rate = (unsigned)fake_random_between(r, 0, 2);

    mood->lane_faults = mood->limits = false;
    if (fake_random_chance(r, 500)) {
        mood->resets = mood->bad_origins = mood->stream_faults = false;
        options->fail_memory = options->fail_intr = options->fail_reset = 0;
    }
    mood->short_grace = fake_random_chance(r, 200);
    mood->stormy = fake_random_chance(r, 300);
    mood->hasty = mood->stormy && fake_random_chance(r, 500);
    if (!mood->stream_faults) {
        options->fail_memory = fake_random_chance(r, 300) ? rate : 0;
        options->fail_intr = fake_random_chance(r, 300) ? rate : 0;
        options->fail_reset = fake_random_chance(r, 300) ? rate : 0;
    }
    options->doom_chance =
        fake_random_chance(r, 500) ? (unsigned)fake_random_between(r, 0, 600) : 0;
    options->doom_port = LANE_PORT;
    options->doom_bytes = fake_random_size(r, 16, 100000);
    /* Far longer than kernels take: connections come for lanes that are not still yet. */
    options->cancel_delay_max =
        fake_random_chance(r, 300) ? fake_random_size(r, 1000, 5 * NSEC_PER_SEC) : 0;
    options->stuck_lies = fake_random_chance(r, 300) ? 300 : 0;
}

/* Ids come back at once, most often to lanes that are slow: pieces are large enough for bulk,
 * and wait long. */
static void draw_churn(struct fake_random *r)
{
    struct fake_options *options = fake_options();

    fake_limits.generations = (uint32_t)fake_random_between(r, 1, 3);
    fake_limits.apart = (uint32_t)fake_random_size(r, 1, 16);
    fake_limits.ids_ask = (uint32_t)fake_random_size(r, 1, 256);
    fake_limits.ids = fake_random_chance(r, 700) ? (uint32_t)fake_random_size(r, 1, 256) : 0;
    if (!run.resume && fake_random_chance(r, 300)) { /* ends that come in the middle of something */
        run.mood.stream_faults = true;
        options->fail_memory = 20;
    }
    if (fake_random_chance(r, 300))
        return;
    options->buffer_min = fake_random_size(r, 2048, 65536);
    options->buffer_max = fake_random_size(r, options->buffer_min, 262144);
    options->segment_max = 0;
    options->latency_max = options->latency_min + fake_random_size(r, 100000, 20 * NSEC_PER_MSEC);
}

/* With a long grace the streams of a frozen lane keep what buffers they have, be it for ever: the
 * client can come back only while its new connection finds some as a stranger. Of a pool of which
 * one in 65 is less than that, share.h promises it nothing. */
static void draw_lasting_dearth(struct fake_random *r)
{
    run.mood.dearth = true;
    fake_limits.provided = 1u << fake_random_between(r, 0, 4);
    fake_limits.small_buffers =
        fake_limits.provided + STRANGER_SMALLS * 65 + (uint32_t)fake_random_between(r, 0, 24);
}

/* From a sequence of its own: what else is drawn stays as it was. */
static void limits_draw(uint64_t seed)
{
    struct fake_random r;

    fake_random_seed(&r, seed + 2);
    run.mood.churn = !run.v1 && !run.mood.bulk && fake_random_chance(&r, 150);
    run.mood.stalls = fake_random_chance(&r, run.mood.churn ? 500 : 100);
    run.mood.miserly = run.resume && !run.mood.bulk && fake_random_chance(&r, 100);
    run.mood.dearth =
        (!run.resume || run.mood.short_grace) && fake_random_chance(&r, run.resume ? 300 : 80);
    if (run.mood.churn)
        draw_churn(&r);
    if (fake_random_chance(&r, 200))
        fake_limits.turn_frames = (uint32_t)fake_random_size(&r, 1, 64);
    if (run.mood.dearth) {
        fake_limits.provided = 1u << fake_random_between(&r, 0, 4);
        fake_limits.small_buffers = fake_limits.provided + (uint32_t)fake_random_between(&r, 8, 24);
    }
    if (run.mood.miserly) {
        fake_limits.lane_log_max = (uint32_t)fake_random_size(&r, 4096, 1048576);
        fake_limits.lane_log_big_min = (uint32_t)fake_random_between(&r, 1, 8);
        fake_limits.lane_ack = (uint32_t)fake_random_size(&r, 1024, 4194304);
        fake_limits.lane_ack_small = (uint32_t)fake_random_size(&r, 1024, 4194304);
    }
    run.mood.addresses = fake_random_chance(&r, 200);
    if (run.resume && !run.mood.short_grace && fake_random_chance(&r, 200))
        draw_lasting_dearth(&r);
}

/* Bulk that is moved: of any size, through pipes that are few and small. */
static void pipes_draw(uint64_t seed)
{
    struct fake_options *options = fake_options();
    struct fake_random r;

    fake_random_seed(&r, seed + 3);
    fake_limits.splice_least =
        fake_random_chance(&r, 800) ? (uint32_t)fake_random_size(&r, 64, 16384) : 0;
    fake_limits.pipes = fake_random_chance(&r, 300) ? (uint32_t)fake_random_between(&r, 1, 4) : 0;
    options->pipe_most = fake_random_chance(&r, 700) ? fake_random_size(&r, 1, 65536) : 0;
    options->paces = fake_random_chance(&r, 200) ? 500 : 0;
    options->pipe_full =
        fake_random_chance(&r, 300) ? 1000 : (unsigned)fake_random_between(&r, 0, 99);
    options->pipe_fails = fake_random_chance(&r, 200) ? 300 : 0;
}

static void options_draw(uint64_t seed)
{
    struct fake_options options;
    struct fake_random r;

    fake_options_random(&options, seed);
    fake_random_seed(&r, seed + 1);
    run.mood = (struct mood){
        .resets = fake_random_chance(&r, 500),
        .bad_origins = fake_random_chance(&r, 300),
        .stream_faults = fake_random_chance(&r, 300),
        .lane_faults = fake_random_chance(&r, 250),
        .limits = fake_random_chance(&r, 200),
        .bulk = fake_random_chance(&r, 100),
    };
    if (fake_random_chance(&r, 300))
        run.mood = (struct mood){ .bulk = run.mood.bulk };
    if (run.mood.bulk) {
        options.buffer_min = 262144;
        options.buffer_max = 4194304;
        options.segment_max = options.segment_max > 0 ? 65536 : 0;
    }
    options.starve_chance = fake_random_chance(&r, 500) ? 20 : 0;
    options.accept_error = fake_random_chance(&r, 300) ? 50 : 0;
    options.accept_ends = fake_random_chance(&r, 300) ? 100 : 0;
    options.register_fails = fake_random_chance(&r, 200) ? 300 : 0;
    if (run.mood.stream_faults)
        options.fail_memory = options.fail_intr = options.fail_reset = 3;
    if (run.resume)
        options_for_resume(&options, &r);
    run.mood.spoils = run.tls && fake_random_chance(&r, 600);
    run.mood.killed = fake_random_chance(&r, 100);
    fake_open(seed, &options);
    limits_draw(seed);
    pipes_draw(seed);
}

/* Every byte of a lane is looked at, on all connections; but v1 shows its token. */
static void tap_lanes(void)
{
    if (run.tls || !run.v1) {
        fake_tap(LANE_PORT, run.tls);
        fake_secret(run.config[CLIENT].token, run.config[CLIENT].token_size);
    }
    path_troubles(LANE_PORT, run.mood.spoils ? (unsigned)between(50, 400) : 0);
}

static bool a_while_passed(void)
{
    return fake_now() >= run.quiet_since;
}

/* After a lane was lost: the client comes back, and what comes then must work. */
static void probe_again(void)
{
    run.calm = true;
    if (run.tls)
        path_end();
    if (run.resume) { /* a cut that nothing asked for shows when the heartbeat stays away */
        path_end();
        fake_options()->stuck_lies = 0;
        run.quiet_since = fake_now() + 2 * EXPIRY;
        run_until(a_while_passed, 3 * EXPIRY);
        run_until(path_whole, 300 * NSEC_PER_SEC);
    }
    fake_options()->descriptors = 0;
    fake_event_stop(&run.lane_fault);
    run_until(tunnels_ready, 600 * NSEC_PER_SEC);
    run.mood = (struct mood){ .dearth = run.mood.dearth };
    run.visitors_due = 2;
    fake_event_set(&run.next_visitor, fake_now() + 60 * NSEC_PER_SEC);
    run_until(visitors_ended, 1000 * NSEC_PER_SEC);
}

/* The workers are stopped in the middle of it all: nobody need end well, but nobody may be lied to,
 * and nothing may be left. */
static void stop_early(void)
{
    run.quiet_since = fake_now() + fake_random_size(chance(), NSEC_PER_MSEC, 20 * NSEC_PER_SEC);
    run_until(a_while_passed, 60 * NSEC_PER_SEC);
    fake_event_stop(&run.next_visitor);
    run.visitors_due = 0;
    for (unsigned i = 0; i < endpoint_count(); i++)
        endpoint_blame(endpoint_at(i), "the workers stop");
}

/* Whoever is left sees every stream end: endpoints by RST, or by an end that had been said, and
 * the other side when its patience is over. */
static void die_early(void)
{
    enum side victim = maybe(500) ? SERVER : CLIENT;

    run.quiet_since = fake_now() + fake_random_size(chance(), NSEC_PER_MSEC, 20 * NSEC_PER_SEC);
    run_until(a_while_passed, 60 * NSEC_PER_SEC);
    run.killed = run.calm = true;
    fake_event_stop(&run.next_visitor);
    fake_event_stop(&run.lane_fault);
    run.visitors_due = 0;
    if (run.resume)
        path_end();
    killed_bury(victim, run.workers[victim], run.config[victim].workers);
    run.config[victim].workers = 0;
    sim_set_dump(dump_workers);
    run_until(endpoints_ended, 3000 * NSEC_PER_SEC);
}

/* The kernel takes a moment for the last ones. */
static bool sockets_gone(void)
{
    return fake_program_sockets() == 0;
}

static void run_visitors(void)
{
    run.next_visitor.fn = visitor_comes;
    run.visitors_due = (unsigned)between(1, run.mood.bulk ? 4 : VISITORS_MAX);
    if (run.mood.churn)
        run.visitors_due = (unsigned)fake_random_size(chance(), VISITORS_MAX, CHURN_MAX);
    run.stall.fn = stall_comes;
    run.stalls_due = (unsigned)between(1, 6);
    if (run.mood.stalls)
        fake_event_set(&run.stall, fake_now() + fake_random_size(chance(), 1000, NSEC_PER_SEC));
    fake_event_set(&run.next_visitor, fake_now() + between(0, NSEC_PER_SEC));
    run.limited = run.mood.limits || run.mood.churn;
    if (run.mood.limits && !run.mood.lane_faults && !run.mood.spoils &&
        maybe(500)) /* a bind that finds no descriptor is refused for good */
        fake_options()->descriptors = fake_program_sockets() + (unsigned)between(8, 24);
    run.lane_fault.fn = break_lane;
    if (run.mood.lane_faults || run.mood.spoils)
        fake_event_set(&run.lane_fault,
                       fake_now() + fake_random_size(chance(), 1, 10 * NSEC_PER_SEC));
    if (run.mood.dearth) /* a stream or a lane that finds no buffer ends */
        lose_lane();
    if (run.mood.killed) {
        die_early();
        return;
    }
    if (run.mood.hasty) {
        stop_early();
        return;
    }
    run_until(visitors_ended, 2000 * NSEC_PER_SEC);
    if (run.lane_lost)
        probe_again();
}

/* The client has all its ports; from here on its lanes are brought back. */
static bool session_kept(void)
{
    const struct worker *w = run.workers[CLIENT][0];

    for (const struct list *n = w->sessions.all.next; n != &w->sessions.all; n = n->next) {
        const struct session *session = container_of(n, struct session, node);
        bool all = session->tunnel_count == run.tunnels;

        for (unsigned i = 0; i < run.tunnels; i++)
            all = all && session->tunnels[i].bound;
        if (all) {
            run.session = session->id;
            return true;
        }
    }
    return false;
}

/* Both sides know: a client whose first log-in is spoiled gives up. */
static bool session_known(void)
{
    return tunnels_ready() && session_kept();
}

static void check_session(struct worker *w)
{
    for (const struct list *n = w->sessions.all.next; n != &w->sessions.all; n = n->next)
        CHECK(container_of(n, struct session, node)->id == run.session);
}

static void begin_path(void)
{
    struct path_world world = {
        .workers = { run.workers[SERVER], run.workers[CLIENT] },
        .count = { run.config[SERVER].workers, run.config[CLIENT].workers },
        .port = LANE_PORT,
        .told = lose_lane,
    };

    path_begin(&world, OUTAGE_MAX);
    if (run.tls && !run.mood.short_grace && maybe(300))
        fake_options()->seal_refused = (unsigned)between(1, 5);
    run.lane_faults = (unsigned)fake_random_size(chance(), 1, 200);
}

static bool lanes_rest(void)
{
    return path_whole() &&
           (run.mood.dearth ||
            path_counts_agree()); /* a log for which there are no slices is dropped */
}

/* The path is good again: all lanes come back, with nothing left to say, and of what they kept only
 * the last heartbeat stays. */
static void check_lanes(void)
{
    run.quiet_since = fake_now() + 3 * HEARTBEAT;
    run_until(a_while_passed, 4 * HEARTBEAT);
    run_until(lanes_rest, 300 * NSEC_PER_SEC);
    if (!run.lane_lost)
        each_worker(check_session);
}

static void come_to_rest(void)
{
    if (run.resume && !run.mood.stormy)
        run.calm = true;
    run_until(quiet, 300 * NSEC_PER_SEC);
    if (run.resume && run.calm) {
        path_end();
        check_lanes();
        run_until(quiet, 300 * NSEC_PER_SEC); /* a lane may have brought the end of old streams */
    }
    each_worker(check_idle);
}

static void close_all(void)
{
    each_worker(worker_close);
    client_finish();
    server_finish();
    CHECK(run.config[SERVER].token == NULL);
    CHECK((run.config[CLIENT].token == NULL) == (run.config[CLIENT].wire == CONFIG_WIRE_V2));
    config_drop_token(&run.config[CLIENT]);
    for (unsigned i = 0; i < run.tunnels; i++)
        if (run.origins[i] >= 0)
            fake_end(run.origins[i], false);
}

static void sim_tunnel(uint64_t seed, bool v1, bool tls, bool resume)
{
    memset(&run, 0, sizeof(run));
    run.v1 = v1;
    run.tls = tls;
    run.strict = seed % 2 == 0;
    run.resume = resume;
    options_draw(seed);
    fake_fault_hooks(may_fail, on_fault);
    run.visitor_ends_first = maybe(500);
    config_draw();
    tap_lanes();
    sim_set_dump(dump_workers);
    open_origins();
    CHECK(server_prepare(&run.config[SERVER]) == 0 && client_prepare(&run.config[CLIENT]) == 0);
    open_workers(SERVER);
    open_workers(CLIENT);
    give_addresses();
    run.calm =
        run.tls || run.resume || maybe(800); /* the first session mostly comes without faults */
    run_until(run.resume        ? session_kept
              : run.mood.spoils ? session_known
                                : tunnels_ready,
              (run.calm ? 100 : 2000) * NSEC_PER_SEC);
    run.calm = false;
    if (run.resume)
        begin_path();
    run_visitors();
    if (!run.mood.hasty && !run.mood.killed)
        come_to_rest();
    stop_side(SERVER, fake_now() + between(0, 3 * NSEC_PER_SEC));
    stop_side(CLIENT, fake_now() + between(0, 3 * NSEC_PER_SEC));
    /* Nobody waits for the drain time-out unless there are streams. */
    run_until(all_stopped, (run.mood.hasty || run.mood.killed ? 100 : 20) * NSEC_PER_SEC);
    run_until(endpoints_ended, 300 * NSEC_PER_SEC);
    for (unsigned i = 0; i < endpoint_count(); i++)
        check_end(endpoint_at(i));
    message_free_all();
    each_worker(check_stopped);
    CHECK(run.killed || run.zc_copied == fake_zc_copies());
    if (run.killed)
        run_until(sockets_gone, NSEC_PER_SEC);
    CHECK(sockets_gone());
    if (run.resume)
        path_end();
    close_all();
    sim_set_dump(NULL);
}

void sim_tunnel_v1(uint64_t seed)
{
    sim_tunnel(seed, true, false, false);
}

void sim_tunnel_v2(uint64_t seed)
{
    sim_tunnel(seed, false, false, false);
}

void sim_tunnel_tls(uint64_t seed)
{
    sim_tunnel(seed, seed % 4 == 0, true, false);
}

void sim_resume(uint64_t seed)
{
    sim_tunnel(seed, false, false, true);
}

void sim_resume_tls(uint64_t seed)
{
    sim_tunnel(seed, false, true, true);
}
