/* pipe: see pipe.h. */
#include "core/io/pipe.h"

#include "core/io/limits.h"
#include "core/io/sock.h"

#include <errno.h>

bool pipe_pool_open(struct pipe_pool *pool, struct share_tree *tree, uint32_t count)
{
    *pool = (struct pipe_pool){ .pool = &tree->pool };
    tree->capacity[SHARE_PIPES] = count;
    return slab_open(&pool->slab, sizeof(struct pipe), count, 0);
}

static struct pipe *pipe_at(const struct pipe_pool *pool, uint32_t id)
{
    return slab_at(&pool->slab, id);
}

static void pipe_close(struct pipe_pool *pool, struct pipe *pipe)
{
    CHECK(pool->open > 0 && pipe->in > 0);
    sock_close(pipe->out);
    sock_close(pipe->in);
    *pipe = (struct pipe){ .in = 0 };
    pool->open--;
    share_give(pool->pool, SHARE_FDS, PIPE_FDS);
}

/* Those that are not in use. */
static void pipe_close_idle(struct pipe_pool *pool)
{
    for (uint32_t id = 0; id < pool->slab.fresh; id++)
        if (pipe_at(pool, id)->in > 0 && pipe_at(pool, id)->share == NULL)
            pipe_close(pool, pipe_at(pool, id));
}

void pipe_pool_close(struct pipe_pool *pool)
{
    for (uint32_t id = 0; id < pool->slab.fresh; id++)
        if (pipe_at(pool, id)->in > 0)
            pipe_close(pool, pipe_at(pool, id));
    slab_close(&pool->slab);
}

void pipe_pool_age(struct pipe_pool *pool)
{
    if (!pool->used && pool->slab.used == 0)
        pipe_close_idle(pool);
    pool->used = false;
}

void pipe_pool_yield(struct pipe_pool *pool, uint64_t now)
{
    pool->refused = now;
    pool->yields = true;
    pipe_close_idle(pool);
}

/* Whoever comes needs descriptors more than who moves bulk. */
static bool pipe_may_stay(const struct pipe_pool *pool)
{
    return pool->pool->used[SHARE_FDS] + PIPE_FDS <= pool->pool->tree->capacity[SHARE_FDS] / 2;
}

static bool pipe_open(struct pipe_pool *pool, struct pipe *pipe, uint64_t now)
{
    int ends[2];

    if (!pipe_may_stay(pool) || (pool->refused != 0 && now - pool->refused < PIPES_AGAIN_NS))
        return false;
    if (sock_pipe(ends, PIPE_SIZE) < 0) {
        pool->refused = now;
        pool->yields = true;
        return false;
    }
    pool->yields = false;
    pipe->out = ends[0];
    pipe->in = ends[1];
    pool->open++;
    share_take(pool->pool, SHARE_FDS, PIPE_FDS);
    return true;
}

uint32_t pipe_take(struct pipe_pool *pool, struct share *owner, uint64_t now)
{
    uint32_t id = share_may(owner, SHARE_PIPES, 1) ? slab_take(&pool->slab) : SLAB_NONE;

    if (id == SLAB_NONE)
        return PIPE_NONE;
    struct pipe *pipe = pipe_at(pool, id);
    if (pipe->in == 0 && !pipe_open(pool, pipe, now)) {
        slab_give(&pool->slab, id);
        return PIPE_NONE;
    }
    CHECK(pipe->bytes == 0);
    pool->used = true;
    pipe->share = owner;
    share_take(owner, SHARE_PIPES, 1);
    return id;
}

void pipe_give(struct pipe_pool *pool, uint32_t id)
{
    struct pipe *pipe = pipe_at(pool, id);
    struct share *share = pipe->share;

    CHECK(share != NULL);
    pipe->share = NULL;
    if (pipe->bytes > 0 || pool->open > PIPES_KEPT || pool->yields || !pipe_may_stay(pool))
        pipe_close(pool, pipe);
    slab_give(&pool->slab, id);
    share_give(share, SHARE_PIPES, 1);
}

void pipe_charge(struct pipe_pool *pool, uint32_t id, struct share *owner)
{
    struct pipe *pipe = pipe_at(pool, id);

    if (pipe->share == owner)
        return;
    share_move(pipe->share, owner, SHARE_PIPES, 1);
    pipe->share = owner;
}

/* One call fills as many pages as the pipe has free, however much lies in each. In front of an
 * urgent byte it moves nothing, and behind a FIN it says then what it says at the end
 * (net/ipv4/tcp.c, tcp_splice_read). */
int pipe_fill(struct pipe_pool *pool, uint32_t id, int fd, uint32_t size, struct pipe_rest *rest)
{
    struct pipe *pipe = pipe_at(pool, id);
    uint32_t there = sock_unread(fd), filled = 0;
    uint32_t want = there > 0 ? min_u32(there, size) : size;
    int n;

    CHECK(size > 0 && pipe->share != NULL);
    do {
        n = sock_fill(pipe->in, fd, want - filled);
        filled += n > 0 ? (uint32_t)n : 0;
    } while (n > 0 && filled < want && there > 0);
    pipe->bytes += filled;
    bool told = n < 0 && n != -EAGAIN && n != -EINTR;
    *rest = (struct pipe_rest){ .more = there > filled, .error = told ? n : 0 };
    if (filled > 0)
        return (int)filled;
    if (n == 0 && there == 0)
        there = sock_unread(fd); /* it may have come meanwhile */
    return (n == -EAGAIN || n == 0) && there > 0 ? -ENOBUFS : n;
}

int pipe_drain(struct pipe_pool *pool, uint32_t id, int fd, uint32_t size)
{
    struct pipe *pipe = pipe_at(pool, id);
    uint32_t drained = 0;
    int n = 0;

    CHECK(size > 0 && size <= pipe->bytes);
    while (drained < size && (n = sock_drain(pipe->out, fd, size - drained)) > 0)
        drained += (uint32_t)n;
    pipe->bytes -= drained;
    CHECK(n != 0);
    return drained > 0 ? (int)drained : n;
}

int pipe_read(struct pipe_pool *pool, uint32_t id, void *dst, uint32_t size)
{
    struct pipe *pipe = pipe_at(pool, id);
    uint8_t *at = dst;

    CHECK(size <= pipe->bytes);
    while (size > 0) {
        int n = sock_pipe_read(pipe->out, at, size);

        if (n == -EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? n : -EIO;
        at += n;
        size -= (uint32_t)n;
        pipe->bytes -= (uint32_t)n;
    }
    return 0;
}
