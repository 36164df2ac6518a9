/*
 * every: one short conversation over TLS, with one disturbance at every byte of it in turn.
 *
 * The conversation: a client logs in (connection 0), its second lane joins (1), a visitor and an
 * origin say a little to each other, in the middle of that the connection of their lane is lost and
 * the lane is resumed (2), and both sides stop. The seed says which byte of which direction of
 * which connection is struck, and how: it arrives changed, the connection is lost in front of it
 * (in one of four ways), or it and all behind it wait (a little, or longer than anybody's
 * patience). The world is calm and always the same before that, so that every byte is struck, from
 * the first of the handshake to the last close_notify.
 *
 * Three plans: as above; the same where one side is told to stop when the resumed lane has yet to
 * send again what the other side has not got, so that the lane can be frozen no more; and without a
 * grace time.
 *
 * Whatever happens: no plain byte and no secret leaves either end (fake_tap), nobody waits for
 * ever, and with a grace time every stream ends well and all lanes stand again. A client that finds
 * its very first login changed may give up: whom to trust does not change by itself.
 */
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/config.h"
#include "core/base/exit_code.h"
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

#define WORKERS_MAX 2u
#define CONNECTIONS 3u
#define PIPES       (2 * CONNECTIONS)
/* Bytes of all connections, both directions: in the first round at most NEAR_PLACES of each pipe
 * (the handshake and the first records), then all. */
#define NEAR_MAX    2048u
#define PLACES_MAX  12288u
#define NEAR_PLACES 220u
#define JOBS        5u /* strikes at each in a round */
#define GRACE       (600 * NSEC_PER_SEC)
#define PATIENCE    (2 * GRACE) /* of the test: nothing takes longer */

enum side { SERVER, CLIENT };
enum plan { PLAN_RESUME, PLAN_STOP, PLAN_NO_GRACE, PLAN_COUNT };

/* What a seed stands for. */
struct strike {
    enum plan plan;
    uint64_t world;
    unsigned connection;
    struct fake_trouble trouble;
};

static struct {
    struct strike strike;
    bool calm;      /* nothing is struck: to see how many bytes there are */
    unsigned count; /* workers of each side */
    struct config config[2];
    struct worker *workers[2][WORKERS_MAX];
    int origin;
    unsigned connections;
    int dialled[CONNECTIONS];
    uint64_t passed[CONNECTIONS][2];
    uint64_t stop_passed; /* PLAN_STOP: what had arrived where GOAWAY was heard, when it was */
    bool struck, lost;
    struct fake_event lose;
} every;

static void dump(void)
{
    static const char *const kinds[] = { "spoiled", "lost", "held" };
    static const char *const plans[] = { "resume", "stop", "no grace" };
    const struct strike *s = &every.strike;

    fprintf(stderr, "plan %s, world %llu: connection %u, byte %llu from end %d %s (%d)%s\n",
            plans[s->plan], (unsigned long long)s->world, s->connection,
            (unsigned long long)s->trouble.at, s->trouble.from, kinds[s->trouble.kind],
            (int)s->trouble.how, every.struck ? "" : ", not yet");
    fake_print_sockets();
    path_print();
}

/* The world */

static void options_make(struct fake_options *o)
{
    *o = (struct fake_options){
        .latency_min = 100000,
        .latency_max = 100000,
        .op_delay_max = 1000,
        .buffer_min = 8192,
        .buffer_max = 8192,
        .inline_chance = 500,
        .handshake_max = 12,
        .tickets = 1000,
    };
}

static void config_make(enum side side)
{
    struct config *c = &every.config[side];

    sim_config(c, side == SERVER);
    c->workers = every.count;
    c->lanes = 2;
    c->grace = every.strike.plan == PLAN_NO_GRACE ? 0
               : every.strike.plan == PLAN_STOP   ? GRACE / 30
                                                  : GRACE;
    /* A first byte that was spoiled is plain to a server that takes both, and so is its answer. */
    sim_config_tls(c, true, every.strike.trouble.kind == FAKE_SPOIL);
}

static void open_workers(enum side side)
{
    const struct role *role = side == SERVER ? &server_role : &client_role;
    struct worker_error error;

    for (unsigned i = 0; i < every.count; i++) {
        every.workers[side][i] =
            worker_open(&every.config[side], role, i, WORKER_SQ_ENTRIES, &error);
        CHECK(every.workers[side][i] != NULL);
    }
    for (unsigned i = 0; i < every.count; i++) {
        every.workers[side][i]->peers = every.workers[side];
        CHECK(worker_prepare(every.workers[side][i]) == 0);
        CHECK(worker_start(every.workers[side][i]) == 0);
        sim_set_dump(dump);
    }
}

/* The strike */

static void on_connection(int fd)
{
    unsigned nth = every.connections++;

    if (nth >= CONNECTIONS)
        return;
    every.dialled[nth] = fd;
    if (!every.calm && nth == every.strike.connection)
        fake_trouble(fd, &every.strike.trouble);
}

static void on_fault(int fd, int error)
{
    (void)fd;
    (void)error;
    sim_totals.faults++;
    every.struck = true;
}

/* The loop */

/* The lane on which the stream is. */
static struct lane *busy_lane(enum side side)
{
    for (unsigned i = 0; i < every.count; i++) {
        struct worker *w = every.workers[side][i];
        for (struct list *n = w->lanes.all.next; n != &w->lanes.all; n = n->next)
            if (container_of(n, struct lane, node)->stream_count > 0)
                return container_of(n, struct lane, node);
    }
    return NULL;
}

/* PLAN_STOP: the server is what is stopped while it sends again, and its bytes are struck. Where a
 * client is, the session ends when its GOAWAY is heard, and there is nothing to count. */
#define STOP_FROM 1

static void count_passed(void)
{
    const struct lane *lane = busy_lane(CLIENT);

    for (unsigned i = 0; i < min_u32(every.connections, CONNECTIONS); i++)
        for (int from = 0; from < 2; from++)
            every.passed[i][from] =
                max_u64(every.passed[i][from], fake_passed(every.dialled[i], from));
    if (every.stop_passed == 0 && lane != NULL && lane->goaway_heard)
        every.stop_passed = every.passed[CONNECTIONS - 1][STOP_FROM];
}

static void turn_stopped(struct worker *w)
{
    struct ring_cqe cqe;

    while (ring_wait(w->loop.ring, UINT64_MAX, &cqe, 1) == 1)
        ;
}

static bool turn(void)
{
    for (unsigned i = 0; i < 2 * every.count; i++) {
        struct worker *w = every.workers[i / every.count][i % every.count];

        if (fake_ring_ready(w->loop.ring) && !worker_turn(w, UINT64_MAX))
            turn_stopped(w);
    }
    if (every.calm)
        count_passed();
    sim_totals.steps++;
    return fake_step();
}

static void run_until(bool (*done)(void), uint64_t limit)
{
    uint64_t end = fake_now() + limit;

    while (!done()) {
        CHECK(turn() || done());
        CHECK(fake_now() < end || done()); /* something is stuck */
    }
}

/* The conversation */

static bool client_stopped(void)
{
    return every.workers[CLIENT][0]->loop.phase == LOOP_STOPPED;
}

static bool is_public(void)
{
    for (unsigned i = 0; i < every.count; i++)
        if (every.workers[SERVER][i]->listeners.slab.used < 2)
            return false;
    return path_whole();
}

static bool ready_or_over(void)
{
    return is_public() || client_stopped();
}

static void accept_origin(void *arg)
{
    const struct endpoint_plan *plan = arg;
    int fd;

    while ((fd = fake_accept(every.origin)) >= 0)
        (void)endpoint_accept(fd, plan);
}

static void lose_comes(void *arg)
{
    const struct lane *lane = busy_lane(CLIENT);

    (void)arg;
    every.lost = true;
    if (lane != NULL && lane->state == LANE_OPEN)
        fake_lose(lane->conn.fd, FAKE_LOSS_RESET);
}

static void stop_side(enum side side)
{
    for (unsigned i = 0; i < every.count; i++) {
        struct message *message = message_new(&worker_message_stop);

        message->number = WORKER_STOP_DRAIN;
        if (every.workers[side][i]->loop.phase == LOOP_STOPPED)
            message_free(message);
        else
            CHECK(worker_post_from_thread(every.workers[side][i], message));
    }
}

/* PLAN_STOP: as soon as the lane is back, and still has to send again. */
static bool sends_again(void)
{
    const struct lane *lane = busy_lane(SERVER);

    return endpoints_ended() ||
           (lane != NULL && lane->state == LANE_OPEN && lane->retain.replay > 0 && every.lost);
}

static uint16_t public_port(void)
{
    const struct worker *w = every.workers[SERVER][0];
    const struct session *newest = NULL;

    for (const struct list *n = w->sessions.all.next; n != &w->sessions.all; n = n->next) {
        const struct session *session = container_of(n, struct session, node);
        if (newest == NULL || session->id > newest->id)
            newest = session;
    }
    CHECK(newest != NULL && newest->tunnels[0].bound);
    return newest->tunnels[0].port;
}

static void talk(void)
{
    bool much = every.strike.plan == PLAN_STOP;
    struct endpoint_plan plan = {
        .total = much ? 2500 : 60,
        .step_max = much ? 30 : 60,
        .think_max = much ? 60000 : 100000,
        .pause_at = much ? UINT64_MAX : 60,
        .pause = NSEC_PER_SEC,
        .reset_at = UINT64_MAX,
    };

    fake_watch(every.origin, accept_origin, &plan);
    (void)endpoint_dial(FAKE_HOST, public_port(), &plan);
    every.lose.fn = lose_comes;
    if (every.strike.plan != PLAN_NO_GRACE)
        fake_event_set(&every.lose, fake_now() + (much ? NSEC_PER_MSEC : NSEC_PER_SEC / 2));
    if (much) {
        run_until(sends_again, PATIENCE);
        stop_side(SERVER);
    }
    run_until(endpoints_ended, PATIENCE);
    fake_event_stop(&every.lose);
    fake_watch(every.origin, NULL, NULL);
}

/* The end */

static bool a_side_stopped(enum side side)
{
    for (unsigned i = 0; i < every.count; i++)
        if (every.workers[side][i]->loop.phase != LOOP_STOPPED ||
            fake_ring_in_flight(every.workers[side][i]->loop.ring) > 0)
            return false;
    return true;
}

static bool all_stopped(void)
{
    return a_side_stopped(SERVER) && a_side_stopped(CLIENT);
}

static void check_ends(void)
{
    bool excused = every.struck && every.strike.plan != PLAN_RESUME;

    for (unsigned i = 0; i < endpoint_count(); i++) {
        const struct endpoint *e = endpoint_at(i);

        CHECK(e->end == ENDPOINT_WELL || (excused && e->end != ENDPOINT_OPEN));
        CHECK(e->end != ENDPOINT_WELL || e->received == e->plan.total);
    }
}

static void check_stopped(struct worker *w)
{
    turn_stopped(w);
    CHECK(w->lanes.slab.used == 0 && w->sessions.slab.used == 0 && w->streams.slab.used == 0);
    CHECK(w->loop.slices.used == 0 && w->loop.bufs.small.used == w->loop.bufs.provided);
    for (unsigned i = 0; i < STAT_COUNT; i++)
        sim_totals.stats[i] += w->loop.stats.value[i];
}

static void stop_all(void)
{
    stop_side(CLIENT);
    stop_side(SERVER);
    run_until(all_stopped, PATIENCE);
    for (unsigned i = 0; i < 2 * every.count; i++)
        check_stopped(every.workers[i / every.count][i % every.count]);
    CHECK(fake_program_sockets() == 0);
    for (unsigned i = 0; i < 2 * every.count; i++)
        worker_close(every.workers[i / every.count][i % every.count]);
    client_finish();
    server_finish();
    CHECK(every.config[SERVER].token == NULL && every.config[CLIENT].token == NULL);
    fake_end(every.origin, false);
}

/* The client gave up before it had a session: right only if what it was told at its first login was
 * changed. */
static void check_given_up(void)
{
    CHECK(every.workers[CLIENT][0]->exit_code == EXIT_CODE_FAILED && every.struck);
    CHECK(every.strike.connection == 0 && every.strike.trouble.kind == FAKE_SPOIL);
}

static void begin(void)
{
    bool many = (every.strike.plan == PLAN_NO_GRACE) == (every.strike.world % 2 == 1);
    unsigned count = many ? WORKERS_MAX : 1;
    struct fake_options options;
    struct path_world world = {
        .workers = { every.workers[SERVER], every.workers[CLIENT] },
        .count = { count, count },
        .port = SIM_LANE_PORT,
    };

    every.count = count;
    options_make(&options);
    fake_open(every.strike.world, &options);
    fake_fault_hooks(NULL, on_fault);
    fake_tap(SIM_LANE_PORT, true);
    fake_on_connection(SIM_LANE_PORT, on_connection);
    config_make(SERVER);
    config_make(CLIENT);
    fake_secret(every.config[CLIENT].token, every.config[CLIENT].token_size);
    sim_set_dump(dump);
    every.origin = fake_listen(SIM_ORIGIN_PORT, 4);
    CHECK(server_prepare(&every.config[SERVER]) == 0 && client_prepare(&every.config[CLIENT]) == 0);
    path_watch(&world);
    open_workers(SERVER);
    open_workers(CLIENT);
}

static void converse(void)
{
    begin();
    run_until(ready_or_over, PATIENCE);
    if (client_stopped()) {
        check_given_up();
    } else {
        talk();
        if (every.strike.plan == PLAN_RESUME)
            run_until(path_whole, PATIENCE);
    }
    stop_all();
    check_ends();
    sim_set_dump(NULL);
}

/* Seeds */

/* How many bytes pass in each direction of each connection, by a conversation in which none is
 * struck. */
static const uint64_t *places(enum plan plan, uint64_t world)
{
    static struct {
        uint64_t world;
        uint64_t passed[PIPES];
    } known[PLAN_COUNT];

    if (known[plan].world == world)
        return known[plan].passed;
    memset(&every, 0, sizeof(every));
    every.calm = true;
    every.strike = (struct strike){ .plan = plan, .world = world };
    converse();
    known[plan].world = world;
    if (plan == PLAN_STOP) { /* only what PLAN_RESUME has not */
        uint64_t heard = every.stop_passed;
        memset(every.passed, 0, sizeof(every.passed));
        every.passed[CONNECTIONS - 1][STOP_FROM] = heard;
    }
    memcpy(known[plan].passed, every.passed, sizeof(known[plan].passed));
    sim_count_endpoints();
    endpoints_reset();
    return known[plan].passed;
}

/* A round: each byte of PLAN_RESUME in all three ways, of the others in one, and the next round in
 * another; in an order in which any part of the seeds is spread over all bytes. The first round,
 * which every test run makes, leaves out what is far from the begin of a connection. */
static uint64_t strike_draw(uint64_t round, uint64_t n, uint64_t most, struct strike *s)
{
    static const enum plan plans[JOBS] = { PLAN_RESUME, PLAN_RESUME, PLAN_RESUME, PLAN_STOP,
                                           PLAN_NO_GRACE };
    uint64_t job = n % JOBS, place = n / JOBS * 1597 % most, way = place + round;

    *s = (struct strike){ .plan = plans[job], .world = 1 + round / 4 };
    s->trouble = (struct fake_trouble){
        .kind = (enum fake_trouble_kind)(s->plan == PLAN_RESUME ? job : way % 3),
        .flip = (uint8_t)(1u << way % 8),
        .how = (enum fake_loss)(way % FAKE_LOSS_COUNT),
        .delay = (way % 2 == 0 ? 3 : 100) * NSEC_PER_SEC,
    };
    return place;
}

/* False: there is no such byte. */
static bool strike_of(uint64_t seed, struct strike *s)
{
    uint64_t first = NEAR_MAX * JOBS, n = seed - 1, total = 0;
    uint64_t round = n < first ? 0 : 1 + (n - first) / (PLACES_MAX * JOBS);
    uint64_t most = round == 0 ? NEAR_MAX : PLACES_MAX;
    uint64_t at = strike_draw(round, round == 0 ? n : (n - first) % (PLACES_MAX * JOBS), most, s);
    const uint64_t *passed = places(s->plan, s->world);
    bool far = round > 0 || s->plan == PLAN_STOP, found = false;

    for (unsigned pipe = 0; pipe < PIPES; pipe++) {
        uint64_t bytes = min_u64(passed[pipe], far ? UINT64_MAX : NEAR_PLACES);

        if (!found && at < total + bytes) {
            found = true;
            s->connection = pipe / 2;
            s->trouble.from = (int)(pipe % 2);
            s->trouble.at = at - total;
        }
        total += bytes;
    }
    CHECK(total > 0 && total <= most); /* none is left out */
    return found;
}

void sim_every(uint64_t seed)
{
    struct strike strike;

    if (!strike_of(seed, &strike))
        return;
    memset(&every, 0, sizeof(every));
    every.strike = strike;
    converse();
}
