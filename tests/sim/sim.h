/* sim: what the program's cases share; see sim.c. */
#ifndef CULVERT_TESTS_SIM_H
#define CULVERT_TESTS_SIM_H

#include "core/base/stats.h"
#include "fake/fake.h"

#include <stdbool.h>
#include <stdint.h>

/* Each runs one simulation from its seed; anything wrong ends in CHECK. */
void sim_bare(uint64_t seed);
void sim_tunnel_v1(uint64_t seed);
void sim_tunnel_v2(uint64_t seed);
void sim_tunnel_tls(uint64_t seed); /* three quarters v2 */
void sim_resume(uint64_t seed);     /* lanes lose their connections and come back */
void sim_resume_tls(uint64_t seed);
void sim_every(uint64_t seed);  /* one short conversation, struck at one byte */
void sim_heal(uint64_t seed);   /* connections can be made, and carry little or nothing */
void sim_hogs(uint64_t seed);   /* hostile owners beside honest ones */
void sim_steady(uint64_t seed); /* so much of one thing, in a quiet world */

/* What the case knows about its state, printed by check_failed. NULL: nothing. A worker's start
 * sets its own hook: call it again afterwards. */
void sim_set_dump(void (*dump)(void));

/* Totals over all runs, printed at the end: a simulation in which nothing happens proves
 * nothing. */
struct sim_totals {
    uint64_t endpoints, well, refused, died, left;
    uint64_t bytes, faults, steps, simulated_ns;
    uint64_t stats[STAT_COUNT]; /* of all workers */
};
extern struct sim_totals sim_totals;

/* Where the cases with one small session have their things. */
#define SIM_TOKEN       "a-token-of-the-simulation"
#define SIM_LANE_PORT   9000
#define SIM_PUBLIC_PORT 10000
#define SIM_ORIGIN_PORT 7000

struct config;

/* A server of one small session, or its client: one worker, one tunnel, few of everything, no TLS
 * and no grace time. */
void sim_config(struct config *config, bool server);

/* Whether its lanes are TLS; a server that is not strict takes both kinds. */
void sim_config_tls(struct config *config, bool tls, bool strict);

/* Drawn from the run's sequence: evenly, by size (fake_random_size), and true so often in 1,000. */
static inline uint64_t between(uint64_t low, uint64_t high)
{
    return fake_random_between(fake_random(), low, high);
}

static inline uint64_t size_between(uint64_t low, uint64_t high)
{
    return fake_random_size(fake_random(), low, high);
}

static inline bool maybe(unsigned permille)
{
    return fake_random_chance(fake_random(), permille);
}

/* Adds the endpoints of this run to the totals. */
void sim_count_endpoints(void);

#endif
