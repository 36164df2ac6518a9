/*
 * buf: a worker's buffers: many small ones, some big ones, counted references.
 *
 * A buffer belongs to traffic, not to a connection: it is taken when bytes are there (small ones
 * are lent to the kernel, which picks one when a read completes) and goes back when the last
 * reference is put. Ids fit the 24 bits of an op's aux field; big ones have BUF_BIG_BIT.
 *
 * Every buffer is counted for an owner (share.h) from when it is taken to its last put: the lane or
 * the stream that took it, and whoever keeps it longer (buf_charge). What is lent to the kernel is
 * the pool's. Taking asks whether there is one, not whether the owner may have it, unless a
 * function says so: what is read must be put somewhere.
 *
 * When an owner has many of the big buffers, its slices are copied into small ones (see stream.c),
 * so that what a slow reader has not taken never holds up the lanes: buf_big_scarce is that
 * moment. The very last are for lanes alone.
 */
#ifndef CULVERT_CORE_IO_BUF_H
#define CULVERT_CORE_IO_BUF_H

#include "core/base/slab.h"
#include "core/io/limits.h"
#include "core/io/pipe.h"
#include "core/io/share.h"

#include <stdbool.h>
#include <stdint.h>

struct ring;

#define BUF_NONE     0xffffffu
#define BUF_BIG_BIT  0x800000u
#define BUF_PIPE_BIT 0x400000u

/* A part of a buffer, with a reference on it, in somebody's list. They are a slab of their own. */
struct slice {
    uint32_t next; /* SLAB_NONE: last */
    uint32_t buf;
    uint32_t offset;
    uint32_t size;
};

struct buf_owner {
    struct share *share;
};

struct buf_pool {
    struct slab small, big;
    struct pipe_pool pipes;
    uint32_t *small_refs, *big_refs; /* a read may hold a slice for every one of its streams */
    struct buf_owner *small_owner, *big_owner;
    struct share *pool; /* owns what is lent to the kernel */
    bool returned;     /* a buffer came back since the worker last looked: what starves may go on */
    uint32_t provided; /* small ones lent to the kernel */
    uint32_t big_reserve;
    bool registered;    /* the ring has a table of fixed buffers, index = big buffer */
    uint8_t *big_fixed; /* per big buffer: 1 registered, 2 refused */
    uint64_t pinned;    /* what these count in pinned.h */
};

/* False when memory cannot be mapped. big_count >= 8. Sets the capacities of small and big buffers
 * in `tree`, which outlives the pool. */
bool buf_pool_open(struct buf_pool *pool, struct share_tree *tree, uint32_t small_count,
                   uint32_t big_count);
void buf_pool_close(struct buf_pool *pool);

/* One reference, owned by the caller and counted for `owner`; BUF_NONE when empty. */
uint32_t buf_take_small(struct buf_pool *pool, struct share *owner);
uint32_t buf_take_big(struct buf_pool *pool, struct share *owner);

/* A pipe, see pipe.h; `now`: ns. It has one reference, and no data that could be looked at. */
uint32_t buf_take_pipe(struct buf_pool *pool, struct share *owner, uint64_t now);

/* The same as far as the owner's share goes; of big ones, it leaves the reserve of the lanes
 * alone. */
uint32_t buf_take_allowed(struct buf_pool *pool, struct share *owner);
uint32_t buf_take_bulk(struct buf_pool *pool, struct share *owner);

/* The buffer is counted for this owner from here on. */
void buf_charge(struct buf_pool *pool, uint32_t id, struct share *owner);

void buf_ref(struct buf_pool *pool, uint32_t id);
void buf_put(struct buf_pool *pool, uint32_t id);
unsigned buf_refs(const struct buf_pool *pool, uint32_t id);

static inline bool buf_is_big(uint32_t id)
{
    return (id & BUF_BIG_BIT) != 0;
}

static inline bool buf_is_pipe(uint32_t id)
{
    return (id & (BUF_BIG_BIT | BUF_PIPE_BIT)) == BUF_PIPE_BIT;
}

static inline uint32_t buf_pipe(uint32_t id)
{
    CHECK(buf_is_pipe(id));
    return id & ~BUF_PIPE_BIT;
}

static inline uint8_t *buf_data(const struct buf_pool *pool, uint32_t id)
{
    if (buf_is_big(id))
        return slab_at(&pool->big, id & ~BUF_BIG_BIT);
    CHECK(!buf_is_pipe(id));
    return slab_at(&pool->small, id);
}

static inline uint32_t buf_size(uint32_t id)
{
    return buf_is_big(id) ? BUF_BIG_SIZE : BUF_SMALL_SIZE;
}

/* True if this owner should do without big buffers where it can: it has many while there are few,
 * or there are none but for the lanes. */
static inline bool buf_big_scarce(const struct buf_pool *pool, const struct share *owner)
{
    return slab_available(&pool->big) <= pool->big_reserve || share_sparing(owner, SHARE_BIG);
}

/* True if there are so few small ones that owners with more than their share cannot go on: reads
 * that were ready before take whatever is lent, and those beside them who have little find nothing
 * any more when one in 17 to 21 is left (share.h). */
static inline bool buf_small_low(const struct buf_pool *pool)
{
    uint32_t left = slab_available(&pool->small);

    return left < BUF_PROVIDED || left < pool->small.count / 12;
}

/* Lends small buffers to the ring up to BUF_PROVIDED. */
void buf_provide(struct buf_pool *pool, struct ring *ring);

/* The kernel used provided buffer `id`: it is the caller's now, counted for `owner`. */
void buf_provided_taken(struct buf_pool *pool, uint32_t id, struct share *owner);

/* Index of the fixed buffer for zero-copy sends from big buffer `id`, registering it on first use;
 * -1 if it cannot be registered, or would take of the user's locked memory what is left to others
 * (pinned.h). */
int buf_fixed_index(struct buf_pool *pool, struct ring *ring, uint32_t id);

/* Small buffers that are lent, and were before the one given as number `until`
 * (ring_buffers_given): the pages of at most `most` of them go back to the kernel, beginning with
 * number `next`. Returns the number to go on with, `until` at the end. Only when all completions
 * were read. */
uint16_t buf_lent_rest(struct buf_pool *pool, struct ring *ring, uint16_t next, uint16_t until,
                       unsigned most);

/* The next big buffer that is to rest (slab.h) does, and is not registered any more. False: the
 * kernel would not let go of it, and nothing has changed. */
bool buf_rest(struct buf_pool *pool, struct ring *ring);

#endif
