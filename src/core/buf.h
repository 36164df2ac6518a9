/*
 * buf: a worker's buffers: many small ones, some big ones, counted references.
 *
 * A buffer belongs to traffic, not to a connection: it is taken when bytes are there (small ones are lent to the kernel, which picks one when a
 * read completes) and goes back when the last reference is put. Ids fit the 24 bits of an op's aux field; big ones have BUF_BIG_BIT.
 *
 * When big buffers run low, slices are copied into small ones (see stream.c), so that what a slow reader has not taken never holds up the lanes:
 * `buf_big_low` is that moment, and BUF_BIG_RESERVE are kept for lanes alone.
 */
#ifndef CULVERT_CORE_BUF_H
#define CULVERT_CORE_BUF_H

#include "core/limits.h"
#include "core/slab.h"

#include <stdbool.h>
#include <stdint.h>

struct ring;

#define BUF_NONE    0xffffffu
#define BUF_BIG_BIT 0x800000u

struct buf_pool {
    struct slab small, big;
    uint32_t *small_refs, *big_refs; /* a read may hold a slice for every one of its streams */
    bool returned;     /* a buffer came back since the worker last looked: what starves may go on */
    uint32_t provided; /* small ones lent to the kernel */
    uint32_t big_low;
    uint32_t big_reserve;
    bool registered;    /* the ring has a table of fixed buffers, index = big buffer */
    uint8_t *big_fixed; /* per big buffer: 1 registered, 2 refused */
    uint64_t pinned;    /* what these count in pinned.h */
};

/* False when memory cannot be mapped. big_count >= 8. */
bool buf_pool_open(struct buf_pool *pool, uint32_t small_count, uint32_t big_count);
void buf_pool_close(struct buf_pool *pool);

/* One reference, owned by the caller; BUF_NONE when empty. buf_take_bulk leaves the reserve of the lanes alone. */
uint32_t buf_take_small(struct buf_pool *pool);
uint32_t buf_take_big(struct buf_pool *pool);
uint32_t buf_take_bulk(struct buf_pool *pool);

void buf_ref(struct buf_pool *pool, uint32_t id);
void buf_put(struct buf_pool *pool, uint32_t id);
unsigned buf_refs(const struct buf_pool *pool, uint32_t id);

static inline bool buf_is_big(uint32_t id)
{
    return (id & BUF_BIG_BIT) != 0;
}

static inline uint8_t *buf_data(const struct buf_pool *pool, uint32_t id)
{
    if (buf_is_big(id))
        return slab_at(&pool->big, id & ~BUF_BIG_BIT);
    return slab_at(&pool->small, id);
}

static inline uint32_t buf_size(uint32_t id)
{
    return buf_is_big(id) ? BUF_BIG_SIZE : BUF_SMALL_SIZE;
}

static inline bool buf_big_low(const struct buf_pool *pool)
{
    return slab_available(&pool->big) < pool->big_low;
}

/* Lends small buffers to the ring up to BUF_PROVIDED. */
void buf_provide(struct buf_pool *pool, struct ring *ring);

/* The kernel used provided buffer `id`: it is the caller's now. */
void buf_provided_taken(struct buf_pool *pool, uint32_t id);

/* Index of the fixed buffer for zero-copy sends from big buffer `id`, registering it on first use;
 * -1 if it cannot be registered, or would take of the user's locked memory what is left to others
 * (pinned.h). */
int buf_fixed_index(struct buf_pool *pool, struct ring *ring, uint32_t id);

#endif
