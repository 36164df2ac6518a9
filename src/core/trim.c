/* trim: see trim.h. */
#include "core/trim.h"

#include "core/limits.h"
#include "core/secret.h"
#include "core/worker.h"

#define TRIM_SLABS 6u

static void trim_slabs(struct worker *w, struct slab *slabs[TRIM_SLABS])
{
    slabs[0] = &w->bufs.big;
    slabs[1] = &w->bufs.small;
    slabs[2] = &w->slices;
    slabs[3] = &w->streams;
    slabs[4] = &w->lanes;
    slabs[5] = &w->sessions;
}

/* Those that were lent before this period, from where the last time ended if they are still
 * lent. */
static void trim_age_lent(struct worker *w)
{
    struct trim *trim = &w->trim;
    uint16_t given = ring_buffers_given(w->ring), until = trim->given;
    uint16_t first = (uint16_t)(given - w->bufs.provided);

    trim->given = given;
    if ((uint16_t)(given - until) >= TRIM_LENT_QUIET || trim->lent_next != trim->lent_until)
        return;
    if ((uint16_t)(until - trim->lent_until) > (uint16_t)(until - first))
        trim->lent_next = first;
    trim->lent_until = until;
}

/* True if there are more. */
static bool trim_lent(struct worker *w)
{
    struct trim *trim = &w->trim;

    if (trim->lent_next == trim->lent_until)
        return false;
    if (!ring_has_more(w->ring))
        trim->lent_next =
            buf_lent_rest(&w->bufs, w->ring, trim->lent_next, trim->lent_until, TRIM_ITEMS);
    return trim->lent_next != trim->lent_until;
}

static void trim_age(struct worker *w)
{
    struct slab *slabs[TRIM_SLABS];

    trim_slabs(w, slabs);
    for (unsigned i = 0; i < TRIM_SLABS; i++)
        slab_age(slabs[i]);
    trim_age_lent(w);
    if (w->index == 0)
        secret_age();
}

/* False: not this one, and none behind it. */
static bool trim_item(struct worker *w, struct slab *slab)
{
    if (slab == &w->bufs.big)
        return buf_rest(&w->bufs, w->ring);
    slab_rest(slab);
    return true;
}

/* As many items as a turn may take; true if there are more. */
static bool trim_portion(struct worker *w, struct slab *slab)
{
    size_t bytes = 0;

    for (unsigned n = 0; slab_leaving(slab) != SLAB_NONE; n++) {
        if (n >= TRIM_ITEMS || bytes >= TRIM_BYTES)
            return true;
        if (!trim_item(w, slab))
            return false;
        bytes += slab->item_size;
    }
    return false;
}

static bool trim_some(struct worker *w)
{
    struct slab *slabs[TRIM_SLABS];

    trim_slabs(w, slabs);
    for (unsigned i = 0; i < TRIM_SLABS; i++)
        if (trim_portion(w, slabs[i]))
            return true;
    return trim_lent(w) || (w->index == 0 && secret_trim());
}

static bool trim_is_over(struct worker *w)
{
    struct slab *slabs[TRIM_SLABS];
    bool warm = false;

    trim_slabs(w, slabs);
    for (unsigned i = 0; i < TRIM_SLABS; i++)
        warm |= slab_is_warm(slabs[i]);
    return !warm && w->lanes.used == 0 && (w->index != 0 || !secret_is_warm());
}

static void trim_timer_fire(struct timer *timer)
{
    struct worker *w = container_of(timer, struct worker, trim.timer);

    if (w->now >= w->trim.period) {
        trim_age(w);
        w->trim.period = w->now + TRIM_PERIOD_NS;
    }
    if (trim_some(w))
        timer_set(&w->timers, timer, w->now + TRIM_NEXT_NS);
    else if (!trim_is_over(w))
        timer_set(&w->timers, timer, w->trim.period);
}

void trim_init(struct worker *w)
{
    timer_init(&w->trim.timer, trim_timer_fire);
}

void trim_watch(struct worker *w)
{
    if (timer_is_set(&w->trim.timer))
        return;
    w->trim.period = w->now + TRIM_PERIOD_NS;
    timer_set(&w->timers, &w->trim.timer, w->trim.period);
}
