/* timer: see timer.h. */
#include "core/io/timer.h"

#include "core/base/check.h"

CHECK_STATIC((TIMER_BUCKETS & (TIMER_BUCKETS - 1)) == 0 && TIMER_BUCKETS % 64 == 0, "masks below");

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now)
{
    *wheel = (struct timer_wheel){ .tick = now / TIMER_TICK_NS, .now = now };
    for (unsigned i = 0; i < TIMER_BUCKETS; i++)
        list_init(&wheel->buckets[i]);
}

void timer_init(struct timer *timer, void (*fire)(struct timer *timer))
{
    list_init(&timer->node);
    timer->due = 0;
    timer->fire = fire;
}

/* The tick after `due` lies: firing is late by at most one tick, never early. */
static uint64_t timer_tick_of(uint64_t due)
{
    return due / TIMER_TICK_NS + 1;
}

void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t due)
{
    uint64_t tick = max_u64(timer_tick_of(due), wheel->tick + 1);
    unsigned bucket = (unsigned)(tick & (TIMER_BUCKETS - 1));

    CHECK(timer->fire != NULL);
    list_remove(&timer->node);
    timer->due = due;
    list_append(&wheel->buckets[bucket], &timer->node);
    wheel->used[bucket / 64] |= UINT64_C(1) << (bucket % 64);
}

void timer_stop(struct timer *timer)
{
    list_remove(&timer->node); /* the bucket's bit is cleared when the bucket is next looked at */
}

/* Ticks from wheel->tick to the next bucket in use (1..TIMER_BUCKETS), 0 if none is. */
static uint64_t timer_next_used(struct timer_wheel *wheel)
{
    for (unsigned distance = 1; distance <= TIMER_BUCKETS;) {
        unsigned bucket = (unsigned)((wheel->tick + distance) & (TIMER_BUCKETS - 1));
        uint64_t word = wheel->used[bucket / 64] >> (bucket % 64);

        if (word == 0) {
            distance += 64 - bucket % 64;
            continue;
        }
        distance += (unsigned)__builtin_ctzll(word);
        bucket = (unsigned)((wheel->tick + distance) & (TIMER_BUCKETS - 1));
        if (distance > TIMER_BUCKETS)
            return 0;
        if (!list_empty(&wheel->buckets[bucket]))
            return distance;
        wheel->used[bucket / 64] &= ~(UINT64_C(1) << (bucket % 64));
        distance++;
    }
    return 0;
}

uint64_t timer_next(struct timer_wheel *wheel, uint64_t now)
{
    uint64_t distance = timer_next_used(wheel);

    if (distance == 0)
        return UINT64_MAX;
    uint64_t at = (wheel->tick + distance) * TIMER_TICK_NS;
    return at > now ? at - now : 0;
}

static void timer_run_bucket(struct list *bucket, struct timer_wheel *wheel)
{
    struct list later;

    list_init(&later);
    for (struct list *node; (node = list_pop(bucket)) != NULL;) {
        struct timer *timer = container_of(node, struct timer, node);

        uint64_t tick = timer_tick_of(timer->due);

        if (tick <= wheel->tick) {
            timer->fire(timer);
            continue;
        }
        CHECK((tick - wheel->tick) % TIMER_BUCKETS == 0); /* of a later rotation */
        list_append(&later, node);
    }
    for (struct list *node; (node = list_pop(&later)) != NULL;) {
        struct timer *timer = container_of(node, struct timer, node);
        timer_set(wheel, timer, timer->due);
    }
}

void timer_run(struct timer_wheel *wheel, uint64_t now)
{
    uint64_t target = now / TIMER_TICK_NS;

    CHECK(now >= wheel->now);
    wheel->now = now;
    while (wheel->tick < target) {
        uint64_t distance = timer_next_used(wheel);

        if (distance == 0 || wheel->tick + distance > target) {
            wheel->tick = target;
            return;
        }
        wheel->tick += distance;
        timer_run_bucket(&wheel->buckets[wheel->tick & (TIMER_BUCKETS - 1)], wheel);
    }
}
