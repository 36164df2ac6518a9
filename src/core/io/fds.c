/* fds: see fds.h. */
#include "core/io/fds.h"

#include "core/base/base.h"
#include "core/io/listener.h"

#include <fcntl.h>
#include <sys/resource.h>

/* What a worker opens when it starts: its listener for lanes, the spares, a netlink socket. */
#define FDS_WORKER (1u + LISTENER_SPARES + 1u)
/* A descriptor is open at the start only below this: the kernel gives the lowest number. */
#define FDS_SEARCH 4096u
/* However few there are: a server that can do nothing else refuses one after the other. */
#define FDS_LEAST 8u

static unsigned fds_open_now(uint64_t limit)
{
    unsigned count = 0;

    for (int fd = 0; fd < (int)min_u64(limit, FDS_SEARCH); fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

uint64_t fds_part(unsigned workers)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return FDS_MOST;
    uint64_t own = fds_open_now(limit.rlim_cur) + min_u64(FDS_OWN, limit.rlim_cur / 8) +
                   (uint64_t)workers * FDS_WORKER;
    uint64_t rest = limit.rlim_cur > own ? min_u64(limit.rlim_cur - own, FDS_MOST) : 0;
    return max_u64(rest / workers, FDS_LEAST);
}
