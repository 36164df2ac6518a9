/*
 * timer: a hashed wheel of intrusive timers, one per worker.
 *
 * 1,024 buckets of 4 ms. A timer further away than one rotation stays in its bucket and is looked
 * at once per rotation (4 s), which for heartbeats of 10 s costs nothing worth a second level. A
 * bitmap of buckets in use gives the time of the next look without a scan, so that an idle worker
 * wakes only when something is due. Setting, moving and stopping are O(1).
 *
 * Callbacks run from timer_run; they may set and stop any timer, their own included.
 */
#ifndef CULVERT_CORE_IO_TIMER_H
#define CULVERT_CORE_IO_TIMER_H

#include "core/base/list.h"

#include <stdbool.h>
#include <stdint.h>

#define TIMER_BUCKETS 1024u
#define TIMER_TICK_NS UINT64_C(4000000)

struct timer {
    struct list node;
    uint64_t due; /* ns, ring_now clock */
    void (*fire)(struct timer *timer);
};

struct timer_wheel {
    struct list buckets[TIMER_BUCKETS];
    uint64_t used[TIMER_BUCKETS / 64];
    uint64_t tick; /* every bucket up to this tick has been run */
    uint64_t now;
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now);

/* A timer must be initialised once before it is set or stopped. */
void timer_init(struct timer *timer, void (*fire)(struct timer *timer));

/* Fires once at `due` or up to one tick later; moves a timer that is already set. */
void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t due);
void timer_stop(struct timer *timer);

static inline bool timer_is_set(const struct timer *timer)
{
    return list_linked(&timer->node);
}

/* Nanoseconds from `now` until the wheel wants to be run; UINT64_MAX if no timer is set. */
uint64_t timer_next(struct timer_wheel *wheel, uint64_t now);

/* Fires all that is due. */
void timer_run(struct timer_wheel *wheel, uint64_t now);

#endif
