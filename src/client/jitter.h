/*
 * jitter: random pauses, so that many clients do not come back in step. Nothing secret: a counter
 * that is multiplied (Knuth, MMIX), seeded by the kernel.
 */
#ifndef CULVERT_CLIENT_JITTER_H
#define CULVERT_CLIENT_JITTER_H

#include <stdint.h>

struct jitter {
    uint64_t state;
};

/* now: ns, where the kernel gives no random bytes. */
void jitter_init(struct jitter *jitter, uint64_t now);

/* A number below `below` (> 0). */
uint64_t jitter_draw(struct jitter *jitter, uint64_t below);

#endif
