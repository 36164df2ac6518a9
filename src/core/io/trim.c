/* trim: see trim.h. */
#include "core/io/trim.h"

#include "core/base/secret.h"
#include "core/io/limits.h"
#include "core/io/loop.h"

/* Those that were lent before this period, from where the last time ended if they are still
 * lent. */
static void trim_age_lent(struct trim *trim)
{
    const struct loop *loop = trim->loop;
    uint16_t given = ring_buffers_given(loop->ring), until = trim->given;
    uint16_t first = (uint16_t)(given - loop->bufs.provided);

    trim->given = given;
    if ((uint16_t)(given - until) >= TRIM_LENT_QUIET || trim->lent_next != trim->lent_until)
        return;
    if ((uint16_t)(until - trim->lent_until) > (uint16_t)(until - first))
        trim->lent_next = first;
    trim->lent_until = until;
}

/* True if there are more. */
static bool trim_lent(struct trim *trim)
{
    struct loop *loop = trim->loop;

    if (trim->lent_next == trim->lent_until)
        return false;
    if (!ring_has_more(loop->ring))
        trim->lent_next =
            buf_lent_rest(&loop->bufs, loop->ring, trim->lent_next, trim->lent_until, TRIM_ITEMS);
    return trim->lent_next != trim->lent_until;
}

static bool trim_has_secrets(const struct trim *trim)
{
    return trim->loop->index == 0;
}

static void trim_age(struct trim *trim)
{
    for (unsigned i = 0; i < trim->count; i++)
        slab_age(trim->slabs[i]);
    trim_age_lent(trim);
    pipe_pool_age(&trim->loop->bufs.pipes);
    if (trim_has_secrets(trim))
        secret_age();
}

/* False: not this one, and none behind it. */
static bool trim_item(struct trim *trim, struct slab *slab)
{
    struct loop *loop = trim->loop;

    if (slab == &loop->bufs.big)
        return buf_rest(&loop->bufs, loop->ring);
    slab_rest(slab);
    return true;
}

/* As many items as a turn may take; true if there are more. */
static bool trim_portion(struct trim *trim, struct slab *slab)
{
    size_t bytes = 0;

    for (unsigned n = 0; slab_leaving(slab) != SLAB_NONE; n++) {
        if (n >= TRIM_ITEMS || bytes >= TRIM_BYTES)
            return true;
        if (!trim_item(trim, slab))
            return false;
        bytes += slab->item_size;
    }
    return false;
}

static bool trim_some(struct trim *trim)
{
    for (unsigned i = 0; i < trim->count; i++)
        if (trim_portion(trim, trim->slabs[i]))
            return true;
    return trim_lent(trim) || (trim_has_secrets(trim) && secret_trim());
}

static bool trim_is_over(const struct trim *trim)
{
    if (trim->busy != NULL && trim->busy->used > 0)
        return false;
    for (unsigned i = 0; i < trim->count; i++)
        if (slab_is_warm(trim->slabs[i]))
            return false;
    return trim->loop->bufs.pipes.open == 0 && (!trim_has_secrets(trim) || !secret_is_warm());
}

static void trim_timer_fire(struct timer *timer)
{
    struct trim *trim = container_of(timer, struct trim, timer);
    struct loop *loop = trim->loop;

    if (loop->now >= trim->period) {
        trim_age(trim);
        trim->period = loop->now + TRIM_PERIOD_NS;
    }
    if (trim_some(trim))
        timer_set(&loop->timers, timer, loop->now + TRIM_NEXT_NS);
    else if (!trim_is_over(trim))
        timer_set(&loop->timers, timer, trim->period);
}

void trim_add(struct trim *trim, struct slab *slab, bool busy)
{
    CHECK(trim->count < TRIM_SLABS);
    trim->slabs[trim->count++] = slab;
    if (busy)
        trim->busy = slab;
}

void trim_init(struct trim *trim, struct loop *loop)
{
    *trim = (struct trim){ .loop = loop };
    loop->trim = trim;
    timer_init(&trim->timer, trim_timer_fire);
    trim_add(trim, &loop->bufs.big, false);
    trim_add(trim, &loop->bufs.small, false);
    trim_add(trim, &loop->slices, false);
}

void trim_watch(struct trim *trim)
{
    struct loop *loop = trim->loop;

    if (timer_is_set(&trim->timer))
        return;
    trim->period = loop->now + TRIM_PERIOD_NS;
    timer_set(&loop->timers, &trim->timer, trim->period);
}
