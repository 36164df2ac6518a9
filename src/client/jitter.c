/* jitter: see jitter.h. */
#include "client/jitter.h"

#include <sys/random.h>

void jitter_init(struct jitter *jitter, uint64_t now)
{
    if (getrandom(&jitter->state, sizeof(jitter->state), 0) < 0)
        jitter->state = now;
}

uint64_t jitter_draw(struct jitter *jitter, uint64_t below)
{
    jitter->state = jitter->state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (jitter->state >> 33) % below;
}
