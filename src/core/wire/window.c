/* window: see window.h. */
#include "core/wire/window.h"

#include "core/base/base.h"
#include "core/base/check.h"

#define CREDIT_MAX INT32_MAX

/* A path on loopback has a round trip of some 50 us; that the two ends stand in line for a core
 * makes it milliseconds, which TCP does not see. With 0.5 ms here the windows of 64 streams stayed
 * at 64 KiB, and these were slower by a third. */
#define RTT_FLOOR (4 * NSEC_PER_MSEC)

/* What a sparse stream gets at most, in frames of what size: 13 Mbit/s. */
#define SPARSE_NS    (20 * NSEC_PER_MSEC)
#define SPARSE_BYTES (32u * 1024u)
#define SPARSE_FRAME (4u * 1024u)

/* The rate is taken over so long, or a round trip if that is longer. */
#define RATE_NS (10 * NSEC_PER_MSEC)

/* How many times what the path holds may be outstanding: an update is due at seven eighths of it,
 * so the stream may still become three quarters as fast again in the round trip until more
 * comes. */
#define LIMIT_PATHS 2u

static void window_check_invariant(const struct window_rx *w)
{
    CHECK((uint64_t)w->granted + w->held + w->unreported == w->size);
    CHECK(w->size >= w->least && w->counted <= w->size - w->least);
}

void window_rx_init(struct window_rx *w, uint32_t size, uint64_t now)
{
    CHECK(size > 0 && size <= CREDIT_MAX);
    *w = (struct window_rx){ .size = size,
                             .least = size,
                             .granted = size,
                             .rate_since = now,
                             .updated = now,
                             .late_since = now };
}

bool window_tx_add(struct window_tx *w, uint32_t increment)
{
    CHECK(w->credit <= CREDIT_MAX);
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
    window_check_invariant(w);
    return true;
}

void window_rx_consume(struct window_rx *w, uint32_t bytes)
{
    CHECK(bytes <= w->held);
    w->held -= bytes;
    w->unreported += bytes;
    window_check_invariant(w);
}

bool window_rx_is_sparse(struct window_rx *w, uint32_t bytes, uint64_t now)
{
    CHECK(now >= w->late_since);
    if (now - w->late_since > SPARSE_NS) {
        w->late_since = now;
        w->late_bytes = 0;
    }
    w->late_bytes += bytes;
    return bytes > 0 && bytes <= SPARSE_FRAME && w->late_bytes <= SPARSE_BYTES;
}

uint32_t window_rx_limit(const struct window_rx *w, uint64_t rtt, uint32_t least)
{
    if (w->rate == 0)
        return WINDOW_NO_LIMIT;
    double path = (double)w->rate * ((double)rtt / NSEC_PER_SEC);
    return path < (double)(INT32_MAX / LIMIT_PATHS)
               ? (uint32_t)max_u64(least, LIMIT_PATHS * (uint64_t)path)
               : WINDOW_NO_LIMIT;
}

/* The best of late: a pause of the path or of the reader says nothing about what it can take. */
static void window_measure_rate(struct window_rx *w, uint64_t now, uint64_t rtt)
{
    uint64_t elapsed = now - w->rate_since;

    CHECK(now >= w->rate_since && w->withheld <= w->unreported);
    w->rate_bytes += w->unreported - w->withheld;
    if (elapsed < max_u64(rtt, RATE_NS))
        return;
    double rate = (double)w->rate_bytes / ((double)elapsed / NSEC_PER_SEC);
    w->rate = max_u64((uint64_t)rate, w->rate - w->rate / 8);
    w->rate_bytes = 0;
    w->rate_since = now;
}

static uint32_t window_update_limited(struct window_rx *w, uint64_t now, uint32_t limit)
{
    uint32_t increment = limit - (w->size - w->unreported);

    CHECK(increment <= limit && increment <= w->unreported);
    w->granted += increment;
    w->unreported -= increment;
    w->withheld = w->unreported;
    w->updated = now;
    window_check_invariant(w);
    return increment;
}

/* What has lapsed is counted again, as far as there is room; what is not, and all that the owner
 * has too much, is not granted again. Returns what room is left. */
static uint64_t window_shrink(struct window_rx *w, const struct window_terms *terms)
{
    uint32_t beyond = w->size - w->least;
    uint32_t again = (uint32_t)min_u64(beyond - w->counted, terms->room);
    uint32_t lack = beyond - w->counted - again;
    uint32_t drop = min_u32(w->unreported, terms->over ? beyond : lack);

    w->counted += again;
    w->size -= drop;
    w->unreported -= drop;
    w->withheld = min_u32(w->withheld, w->unreported);
    w->counted = min_u32(w->counted, w->size - w->least);
    return terms->room - again;
}

uint32_t window_rx_update(struct window_rx *w, uint64_t now, const struct window_terms *terms)
{
    uint32_t grow = 0;
    bool quick = w->withheld == 0 && now - w->updated < 2 * max_u64(terms->rtt, RTT_FLOOR);

    CHECK(w->unreported > 0 && window_rx_due(w, terms->limit));
    window_measure_rate(w, now, terms->rtt);
    uint32_t before = w->size;
    uint64_t room = window_shrink(w, terms);
    if (terms->limit < w->size)
        return window_update_limited(w, now, terms->limit);
    uint32_t max = min_u32(terms->max, terms->limit);
    if (quick && w->size == before && w->size < max && w->counted == w->size - w->least) {
        grow = (uint32_t)min_u64(min_u32(w->size, max - w->size), room);
        w->counted += grow;
    }
    uint32_t increment = w->unreported + grow;
    w->size += grow;
    w->granted += increment;
    w->unreported = 0;
    w->withheld = 0;
    w->updated = now;
    window_check_invariant(w);
    return increment;
}

uint32_t window_rx_lapse(struct window_rx *w)
{
    uint32_t counted = w->counted;

    window_check_invariant(w);
    if (w->held > 0)
        return 0;
    w->counted = 0;
    return counted;
}
