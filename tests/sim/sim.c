/*
 * sim: the seeded simulation.
 *
 *   sim                       every case, each with its usual number of seeds (CULVERT_LONG=1: 25
 *                             times as many)
 *   sim --case v2             one case: bare, v1, v2, tls, resume, resume-tls, every, heal,
 *                             hogs, steady
 *   sim --case v2 --seed 17   one run, replayed exactly; add --trace to see every event
 *   sim --case v2 --from 1000 --count 500
 *
 * A run that finds something wrong ends the program and says which seed it was.
 */
#include "sim/sim.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/config.h"
#include "core/base/log.h"
#include "sim/endpoint.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct sim_case {
    const char *name;
    void (*run)(uint64_t seed);
    unsigned count; /* seeds in the normal test run: some seconds of each world */
};

#ifdef CULVERT_SANITIZED
#define SLOWDOWN 10u /* fewer seeds: each costs five times as much */
#else
#define SLOWDOWN 1u
#endif

static const struct sim_case cases[] = {
    { "bare", sim_bare, 100 },     { "v2", sim_tunnel_v2, 1600 },
    { "v1", sim_tunnel_v1, 1200 }, { "tls", sim_tunnel_tls, 800 },
    { "resume", sim_resume, 600 }, { "resume-tls", sim_resume_tls, 400 },
    { "every", sim_every, 10240 }, { "heal", sim_heal, 300 },
    { "hogs", sim_hogs, 80 },      { "steady", sim_steady, 300 },
};

/* Seeds beyond the usual ones that have found something. */
static const struct {
    void (*run)(uint64_t seed);
    uint64_t seed;
} again[] = {
    { sim_tunnel_tls, 18824 }, /* v1: a lane that lingers has a whole buffer of records */
};

struct sim_totals sim_totals;

static FILE *results; /* the program under test prints on stdout, which goes nowhere here */

static const char *running_case;
static uint64_t running_seed;
static void (*dump_case)(void);

static void print_replay(void)
{
    fprintf(stderr, "sim: replay with: sim --case %s --seed %llu --trace\n", running_case,
            (unsigned long long)running_seed);
}

static void dump(void *arg)
{
    (void)arg;
    fprintf(stderr, "sim: simulated time %.6f s\n", (double)fake_now() / 1e9);
    for (unsigned i = 0; i < endpoint_count(); i++)
        if (endpoint_at(i)->end != ENDPOINT_WELL)
            endpoint_print(endpoint_at(i));
    if (dump_case != NULL)
        dump_case();
    print_replay();
}

void sim_set_dump(void (*fn)(void))
{
    dump_case = fn;
    check_set_dump(dump, NULL);
}

static void on_signal(int number)
{
    static const char text[] = "sim: killed by a signal\n";

    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    print_replay(); /* not safe in a handler, but the process ends here anyway */
    signal(number, SIG_DFL);
    raise(number);
}

void sim_config(struct config *c, bool server)
{
    struct config_endpoint lanes = { .host = "127.0.0.1", .port = SIM_LANE_PORT };

    *c = (struct config){
        .role = server ? CONFIG_SERVER : CONFIG_CLIENT,
        .workers = 1,
        .max_streams = 4,
        .max_sessions = 4,
        .max_lanes = 4,
        .max_unauthenticated = 4,
        .bulk_buffers = 8,
        .window_initial = 16384,
        .window_max = 16384,
        .heartbeat = 10 * NSEC_PER_SEC,
        .expiry = 30 * NSEC_PER_SEC,
        .handshake_timeout = 10 * NSEC_PER_SEC,
        .connect_timeout = 10 * NSEC_PER_SEC,
        .drain_timeout = 60 * NSEC_PER_SEC,
        .start_port = SIM_PUBLIC_PORT,
        .wire = CONFIG_WIRE_V2,
        .reconnect = true,
        .reconnect_attempts = 10,
        .reconnect_first = NSEC_PER_SEC,
        .reconnect_max = 30 * NSEC_PER_SEC,
    };
    port_set_add(&c->ports, PORT_SET_LOW, UINT16_MAX);
    snprintf(c->tls_cert, sizeof(c->tls_cert), "%s", server ? "simulated" : "");
    snprintf(c->tls_key, sizeof(c->tls_key), "%s", server ? "simulated" : "");
    snprintf(c->tls_pin, sizeof(c->tls_pin), "%s", server ? "" : "simulated");
    c->grace_plain = true;
    c->listen = c->servers[0] = lanes;
    c->server_count = c->tunnel_count = 1;
    c->tunnels[0].origin = lanes;
    c->tunnels[0].origin.port = SIM_ORIGIN_PORT;
    CHECK(config_copy_token(c, SIM_TOKEN, strlen(SIM_TOKEN)));
}

void sim_config_tls(struct config *c, bool tls, bool strict)
{
    c->tls = tls ? CONFIG_ON : CONFIG_OFF;
    if (c->role == CONFIG_SERVER && !strict)
        c->tls = CONFIG_AUTO;
}

void sim_count_endpoints(void)
{
    for (unsigned i = 0; i < endpoint_count(); i++) {
        const struct endpoint *e = endpoint_at(i);

        sim_totals.endpoints++;
        sim_totals.bytes += e->received;
        sim_totals.well += e->end == ENDPOINT_WELL;
        sim_totals.refused += e->end == ENDPOINT_REFUSED;
        sim_totals.died += e->end == ENDPOINT_DIED;
        sim_totals.left += e->end == ENDPOINT_LEFT;
    }
    sim_totals.simulated_ns += fake_now();
}

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void run_seed(const struct sim_case *c, uint64_t seed)
{
    running_seed = seed;
    c->run(seed);
    sim_count_endpoints();
    endpoints_reset();
    fake_close();
}

static void run_case(const struct sim_case *c, uint64_t from, uint64_t number)
{
    double start = seconds();
    const struct sim_totals *t = &sim_totals;

    sim_totals = (struct sim_totals){ 0 };
    running_case = c->name;
    for (uint64_t seed = from; seed < from + number; seed++)
        run_seed(c, seed);
    for (unsigned i = 0; i < ARRAY_SIZE(again) && number > 1; i++)
        if (again[i].run == c->run)
            run_seed(c, again[i].seed);
    fprintf(
        results,
        "sim %s: seeds %llu to %llu in %.1f s: %llu endpoints (%llu well, %llu refused, %llu died, "
        "%llu left), %.1f MB, %llu faults, %.0f simulated s\n",
        c->name, (unsigned long long)from, (unsigned long long)(from + number - 1),
        seconds() - start, (unsigned long long)t->endpoints, (unsigned long long)t->well,
        (unsigned long long)t->refused, (unsigned long long)t->died, (unsigned long long)t->left,
        (double)t->bytes / 1e6, (unsigned long long)t->faults, (double)t->simulated_ns / 1e9);
    for (unsigned stat = 0; stat < STAT_COUNT; stat++)
        if (t->stats[stat] > 0)
            fprintf(results, "  %-24s %llu\n", stat_name(stat), (unsigned long long)t->stats[stat]);
    fflush(results);
}

static void usage(void)
{
    fputs("usage: sim [--case NAME] [--seed N | --from N --count N] [--trace]\ncases:", stderr);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
        fprintf(stderr, " %s", cases[i].name);
    fputc('\n', stderr);
    exit(2);
}

static uint64_t number_after(char **argv, int *i)
{
    char *end;

    if (argv[++*i] == NULL)
        usage();
    uint64_t value = strtoull(argv[*i], &end, 0);
    if (*end != '\0')
        usage();
    return value;
}

int main(int argc, char **argv)
{
    bool is_long = getenv("CULVERT_LONG") != NULL;
    const char *only = NULL;
    uint64_t from = 1, number = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--case") == 0 && argv[i + 1] != NULL)
            only = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0)
            number = (from = number_after(argv, &i), 1);
        else if (strcmp(argv[i], "--from") == 0)
            from = number_after(argv, &i);
        else if (strcmp(argv[i], "--count") == 0)
            number = number_after(argv, &i);
        else if (strcmp(argv[i], "--trace") == 0)
            fake_trace_on(true);
        else
            usage();
    }
    (void)argc;
    sim_set_dump(NULL);
    results = fdopen(dup(STDOUT_FILENO), "w");
    if (results == NULL || freopen("/dev/null", "w", stdout) == NULL)
        return 1;
    log_init(fake_tracing() ? LOG_DEBUG : LOG_ERROR);
    signal(SIGSEGV, on_signal);
    signal(SIGALRM, on_signal);
    bool found = false;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct sim_case *c = &cases[i];
        uint64_t usual = (is_long ? 25ULL * c->count : c->count) / SLOWDOWN;

        if (only != NULL && strcmp(only, c->name) != 0)
            continue;
        found = true;
        run_case(c, from, number > 0 ? number : usual);
    }
    if (!found)
        usage();
    return 0;
}
