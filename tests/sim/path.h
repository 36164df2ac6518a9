/*
 * path: what befalls the connections of lanes in the cases of resume, and what lanes that came
 * through it must look like.
 */
#ifndef CULVERT_TESTS_SIM_PATH_H
#define CULVERT_TESTS_SIM_PATH_H

#include "core/run/worker.h"

#include <stdbool.h>

/* All workers of both sides; `port`: where lanes are accepted; told(): something happened to a
 * lane. */
struct path_world {
    struct worker **workers[2];
    unsigned count[2];
    uint16_t port;
    void (*told)(void);
};

/* Only for the questions below. */
void path_watch(const struct path_world *world);

/* Draws a plan from the seed and begins with it. `longest`: of an outage, ns. */
void path_begin(const struct path_world *world, uint64_t longest);

/* A byte of this connection will be spoiled, or lost with what follows, or held up. The same for so
 * many of a thousand connections to a (tapped) port from their beginning, until path_end. */
void path_trouble(int fd);
void path_troubles(uint16_t port, unsigned permille);

/* Nothing more happens, and connects succeed again. What was lost stays lost. */
void path_end(void);

/* All lanes stand, on both sides. */
bool path_whole(void);

/* Both sides count the same bytes, and keep no more than what nobody can have counted yet: the last
 * words of a quiet lane. */
bool path_counts_agree(void);

/* Slices that the logs of this worker's lanes hold. */
uint32_t path_logged(const struct worker *w);

/* For the dump of a failed run. */
void path_print(void);

#endif
