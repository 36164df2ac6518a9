/*
 * pipe: a worker's pipes, in which bytes of bulk go from one socket to another without a copy.
 *
 * A pipe is a buffer of a third kind (buf.h): it stands in the same lists, has one holder, and an
 * owner for whom it is counted. What is in it cannot be looked at, only moved on, or copied out. It
 * is made when there is none, and kept open when it comes back empty, PIPES_KEPT of them; one that
 * comes back with something in it is closed, and so that is dropped. When none was used for a whole
 * period all are closed (pipe_pool_age).
 *
 * Whoever finds none copies: the pool is empty, the owner has its share, the worker has used half
 * of its descriptors, which others need more, or the kernel gives no more pipes to this user, who
 * is asked for again after PIPES_AGAIN_NS.
 */
#ifndef CULVERT_CORE_IO_PIPE_H
#define CULVERT_CORE_IO_PIPE_H

#include "core/base/slab.h"
#include "core/io/share.h"

#include <stdbool.h>
#include <stdint.h>

#define PIPE_NONE UINT32_MAX
#define PIPE_FDS  2u /* descriptors of one */

struct pipe {
    int out, in; /* its ends, as whoever reads and writes it sees them; 0: not open */
    uint32_t bytes;
    struct share *share;
};

struct pipe_pool {
    struct slab slab;
    struct share *pool; /* owns the descriptors */
    uint32_t open;      /* pipes */
    bool used;          /* since the last period began */
    uint64_t refused;   /* ns: when the kernel last gave none; 0: never */
    bool yields;        /* since then: none is kept open */
};

/* Sets the capacity in `tree`, which outlives the pool. False: no memory; close is right either
 * way. */
bool pipe_pool_open(struct pipe_pool *pool, struct share_tree *tree, uint32_t count);
void pipe_pool_close(struct pipe_pool *pool);

/* An empty pipe, counted for `owner`; PIPE_NONE: there is none. `now`: ns. And back. */
uint32_t pipe_take(struct pipe_pool *pool, struct share *owner, uint64_t now);
void pipe_give(struct pipe_pool *pool, uint32_t id);

/* A period is over. */
void pipe_pool_age(struct pipe_pool *pool);

/* The kernel has no descriptors for others: those that are not in use are closed, and none is made
 * for PIPES_AGAIN_NS. */
void pipe_pool_yield(struct pipe_pool *pool, uint64_t now);

/* It is counted for this owner from here on. */
void pipe_charge(struct pipe_pool *pool, uint32_t id, struct share *owner);

/* Bytes in it. */
static inline uint32_t pipe_bytes(const struct pipe_pool *pool, uint32_t id)
{
    return ((const struct pipe *)slab_at(&pool->slab, id))->bytes;
}

/* What stands behind the bytes that came: more of them; an error that the socket will not say
 * again, -errno, 0: none. */
struct pipe_rest {
    bool more;
    int error;
};

/* Up to `size` bytes from a socket, and to one: see sock_fill, sock_drain. fill: -ENOBUFS: the pipe
 * takes no more, or an urgent byte is next. read: a copy of the next ones, at most as many as are
 * in it; 0 or -errno. */
int pipe_fill(struct pipe_pool *pool, uint32_t id, int fd, uint32_t size, struct pipe_rest *rest);
int pipe_drain(struct pipe_pool *pool, uint32_t id, int fd, uint32_t size);
int pipe_read(struct pipe_pool *pool, uint32_t id, void *dst, uint32_t size);

#endif
