/*
 * loop: what everything that happens in a worker shares: the ring and the clock of this turn,
 * buffers and those who own them, timers, counters, and how far the end has come.
 *
 * A loop belongs to one thread, and so does all that is in it or points to it. What it does not
 * have is a noun of its own: streams, lanes, sessions and listeners stand in tables beside their
 * type (struct lane_table in lane.h, for example), which know the loop and not each other's lists.
 * worker.h puts them together, and turns.
 *
 * Completions. A part of a worker registers what it submits (loop_register) and is given a number
 * for each kind of operation; op.h packs it into the operation's user_data. So nobody keeps a list
 * of all parts, and the loop knows none.
 */
#ifndef CULVERT_CORE_IO_LOOP_H
#define CULVERT_CORE_IO_LOOP_H

#include "core/base/config.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/base/stats.h"
#include "core/io/buf.h"
#include "core/io/op.h"
#include "core/io/ring.h"
#include "core/io/share.h"
#include "core/io/timer.h"

#include <stdint.h>

struct trim;

enum loop_phase {
    LOOP_RUNNING,
    LOOP_DRAINING, /* no new streams; ends when the last is gone or drain_timeout is over */
    LOOP_STOPPING, /* everything is closed; ends when nothing is in flight */
    LOOP_STOPPED
};

/* One kind of operation. `part` is what the kind was registered with. */
struct loop_op {
    const char *name; /* for dumps */
    void (*done)(void *part, const struct ring_cqe *cqe);
};

struct loop {
    unsigned index; /* of the worker, among those of the instance */
    const struct config *config;
    struct ring *ring;
    uint64_t now; /* ns, of this turn */
    enum loop_phase phase;
    struct share_tree shares; /* whose all of the following is */
    struct buf_pool bufs;
    struct slab slices;
    struct list woken; /* those for whom there is room again, see lane_line.c */
    struct trim *trim; /* memory that is not needed any more */
    struct stats stats;
    unsigned op_count;
    struct loop_op ops[OP_KINDS];
    void *op_parts[OP_KINDS];
    struct timer_wheel timers;
};

/* Kinds of operations of a part: `count` of them, in order. Returns the first one's number. Before
 * the loop turns. */
unsigned loop_register(struct loop *loop, void *part, const struct loop_op *ops, unsigned count);

/* Calls what was registered for this completion. */
static inline void loop_complete(struct loop *loop, const struct ring_cqe *cqe)
{
    unsigned kind = op_kind(cqe->user_data);

    CHECK(kind < loop->op_count);
    loop->ops[kind].done(loop->op_parts[kind], cqe);
}

static inline void loop_count(struct loop *loop, enum stats_item stat, uint64_t amount)
{
    loop->stats.value[stat] += amount;
}

#endif
