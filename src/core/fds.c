/* fds: see fds.h. */
#include "core/fds.h"

#include "core/base.h"
#include "core/check.h"
#include "core/listener.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>

/* What a worker opens when it starts: its listener for lanes, the spares, a netlink socket. */
#define FDS_WORKER (1u + LISTENER_SPARES + 1u)
/* A descriptor is open at the start only below this: the kernel gives the lowest number. */
#define FDS_SEARCH 4096u
/* However few there are: a server that can do nothing else refuses one after the other. */
#define FDS_LEAST 8u

static uint64_t fds_limit = UINT64_MAX;
static atomic_uint_least64_t fds_taken;

static unsigned open_now(uint64_t limit)
{
    unsigned count = 0;

    for (int fd = 0; fd < (int)min_u64(limit, FDS_SEARCH); fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

void fds_open(unsigned workers)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    uint64_t own = open_now(limit.rlim_cur) + min_u64(FDS_OWN, limit.rlim_cur / 8) +
                   (uint64_t)workers * FDS_WORKER;
    fds_set(limit.rlim_cur > own + FDS_LEAST ? limit.rlim_cur - own : FDS_LEAST);
}

void fds_set(uint64_t capacity)
{
    fds_limit = capacity;
}

uint64_t fds_free(void)
{
    uint64_t taken = atomic_load_explicit(&fds_taken, memory_order_relaxed);

    return taken < fds_limit ? fds_limit - taken : 0;
}

bool fds_plenty(uint64_t amount)
{
    uint64_t free = fds_free();

    return free >= amount && free - amount >= fds_limit / 8 + (fds_limit % 8 != 0);
}

void fds_take(void)
{
    atomic_fetch_add_explicit(&fds_taken, 1, memory_order_relaxed);
}

void fds_give(void)
{
    CHECK(atomic_fetch_sub_explicit(&fds_taken, 1, memory_order_relaxed) > 0);
}
