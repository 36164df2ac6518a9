/* window: see window.h. */
#include "core/window.h"

#include "core/base.h"
#include "core/check.h"

#define CREDIT_MAX INT32_MAX

/* A lane on loopback has a round trip of some 50 us when idle; scheduling makes it a millisecond under load, which the estimate of an idle
 * moment does not show. */
#define RTT_FLOOR (500 * UINT64_C(1000))

static void check_invariant(const struct window_rx *w)
{
    CHECK((uint64_t)w->granted + w->held + w->unreported == w->size);
}

void window_rx_init(struct window_rx *w, uint32_t size, uint64_t now)
{
    CHECK(size > 0 && size <= CREDIT_MAX);
    *w = (struct window_rx){ .size = size, .granted = size, .updated = now };
}

bool window_tx_add(struct window_tx *w, uint32_t increment)
{
    if (increment > CREDIT_MAX - w->credit)
        return false;
    w->credit += increment;
    return true;
}

void window_tx_take(struct window_tx *w, uint32_t bytes)
{
    CHECK(bytes <= w->credit);
    w->credit -= bytes;
}

bool window_rx_push(struct window_rx *w, uint32_t bytes)
{
    if (bytes > w->granted)
        return false;
    w->granted -= bytes;
    w->held += bytes;
    check_invariant(w);
    return true;
}

void window_rx_consume(struct window_rx *w, uint32_t bytes)
{
    CHECK(bytes <= w->held);
    w->held -= bytes;
    w->unreported += bytes;
    check_invariant(w);
}

uint32_t window_rx_update(struct window_rx *w, uint64_t now, uint64_t rtt, uint32_t max,
                          uint64_t *budget)
{
    uint32_t grow = 0;
    bool quick = now - w->updated < 2 * max_u64(rtt, RTT_FLOOR);

    CHECK(w->unreported > 0);
    if (quick && w->size < max) {
        grow = min_u32(w->size, max - w->size);
        grow = (uint32_t)min_u64(grow, *budget);
        *budget -= grow;
    }
    uint32_t increment = w->unreported + grow;
    w->size += grow;
    w->granted += increment;
    w->unreported = 0;
    w->updated = now;
    check_invariant(w);
    return increment;
}
