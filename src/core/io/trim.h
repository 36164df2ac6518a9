/*
 * trim: a worker's memory goes back to the kernel when it was not needed for a while.
 *
 * Buffers, slices, streams, lanes and sessions are tables as large as the limits say, of which the
 * used part is resident (slab.h). Every TRIM_PERIOD_NS all tables end a period; what was free for a
 * whole one rests, in portions so small that no turn is long (limits.h). So a burst is forgotten
 * within three periods, and what steady traffic uses stays. The data path has no part in it: it
 * pays with page faults when it comes back after a pause, as it did in the beginning.
 *
 * Small buffers that are lent to the kernel are used in the order in which they were lent; when few
 * reads took one in a period, the pages of those that were lent before it go back while they stay
 * lent.
 *
 * Worker 0 does the same with secret memory (secret.h), which all share.
 *
 * Not given back: the table of ids (their generations must survive; 32 bytes for each of as many
 * streams as were open at once, or STREAM_APART), listeners, and indices and counts beside the
 * tables.
 */
#ifndef CULVERT_CORE_IO_TRIM_H
#define CULVERT_CORE_IO_TRIM_H

#include "core/base/slab.h"
#include "core/io/timer.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;

#define TRIM_SLABS 8u

struct trim {
    struct loop *loop;
    struct timer timer;
    uint64_t period;                /* ns: when this one ends */
    struct slab *slabs[TRIM_SLABS]; /* whose memory it is */
    unsigned count;
    const struct slab *busy; /* while this one has items in use, periods go on */
    uint16_t given;          /* small buffers lent in all, when it began (ring_buffers_given) */
    uint16_t lent_next, lent_until; /* of these that rest: the next, and behind the last */
};

/* Of the loop's buffers and slices; and one table more, which may be the one that keeps it going:
 * whatever there is of the others is used by its items. */
void trim_init(struct trim *trim, struct loop *loop);
void trim_add(struct trim *trim, struct slab *slab, bool busy);

/* There is something that will be given back: periods begin, unless they go on. They end when
 * nothing is free but what rests. */
void trim_watch(struct trim *trim);

#endif
