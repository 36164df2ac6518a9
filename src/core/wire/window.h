/*
 * window: credit arithmetic of one direction of one stream, pure.
 *
 * Sender: `credit` bytes may still be sent; DATA takes from it, WINDOW adds to it.
 *
 * Receiver: `granted` is what the peer may still send (the mirror of its credit), `held` what has
 * arrived and is not consumed yet, `unreported` what was consumed and not given back yet. The
 * invariant is granted + held + unreported == size. When unreported reaches half of the size, an
 * update is due; it gives back `unreported` and, if the window is being used up faster than round
 * trips of the path explain, grows the size as well (see window_rx_update).
 *
 * Owners. What a window has beyond its initial size is counted for the stream's owner (share.h):
 * `counted`. Credit once granted cannot be taken back, but what was consumed need not be granted
 * again: so the window of an owner with more than its share shrinks with each update, down to its
 * initial size. A stream at rest gives up what is counted for it without a change of its size
 * (window_rx_lapse), when others find no room. Should it begin to move again, that is counted
 * again as far as there is room, and the window shrinks by the rest. Until then more may be granted
 * than is counted: a stream that has rested holds no bytes, and what it is sent at once is held in
 * buffers, which are counted, too.
 *
 * Beside others. What a bulk stream may send beyond what the path holds stands in the lane's socket
 * buffers, and everything else on the lane stands in line behind it: with a window of 16 MiB on a
 * fast path some 5 ms. The sender cannot see this queue (its TCP is acknowledged by the far
 * kernel), the receiver can end it: as long as sparse streams share the lane it gives back only so
 * much that `granted` + `held` stays within a limit, a few times what the path holds at the rate of
 * this stream (window_rx_limit), and keeps the rest in `unreported`. The size stays; when the
 * sparse streams are quiet again all is given back with the next update.
 */
#ifndef CULVERT_CORE_WIRE_WINDOW_H
#define CULVERT_CORE_WIRE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct window_tx {
    uint32_t credit;
};

struct window_rx {
    uint32_t size;
    uint32_t least;   /* the initial size */
    uint32_t counted; /* of what is beyond it, for the owner */
    uint32_t granted;
    uint32_t held;
    uint32_t unreported;
    uint32_t withheld;   /* of unreported: by the last update */
    uint64_t rate_bytes; /* consumed, as of the last update, since rate_since */
    uint64_t rate_since; /* ns */
    uint64_t rate;       /* bytes per second, the best of late; 0: not known */
    uint64_t updated;    /* ns: when the last update went out, or the window began */
    uint64_t late_since; /* ns */
    uint64_t late_bytes; /* of frames since then */
};

void window_rx_init(struct window_rx *w, uint32_t size, uint64_t now);

/* A WINDOW frame: false if the sum would pass 2^31 - 1, which no honest peer causes. */
bool window_tx_add(struct window_tx *w, uint32_t increment);
void window_tx_take(struct window_tx *w, uint32_t bytes);

/* DATA arrived: false if it exceeds what was granted (the peer broke flow control). */
bool window_rx_push(struct window_rx *w, uint32_t bytes);

/* Bytes left towards the local socket (or were dropped). */
void window_rx_consume(struct window_rx *w, uint32_t bytes);

/* No limit for window_rx_due and window_rx_update. */
#define WINDOW_NO_LIMIT UINT32_MAX

/* True when an update is worth a frame: half of the size, or an eighth of the limit if that is
 * smaller, is used up. */
static inline bool window_rx_due(const struct window_rx *w, uint32_t limit)
{
    if (limit < w->size)
        return w->size - w->unreported <= limit / 8 * 7;
    return w->unreported >= w->size / 2 && w->unreported > 0;
}

/* Counts a DATA frame. True if it is a small one of a stream that gets little: such a one must not
 * stand in line behind others. */
bool window_rx_is_sparse(struct window_rx *w, uint32_t bytes, uint64_t now);

/* The least limit: what the two ends need to hand each other the bytes of a path without length,
 * where these are copied, and where they are moved (docs/BENCHMARKS.md, rows 11 and 18). */
#define WINDOW_LIMIT_COPIED (160u * 1024u)
#define WINDOW_LIMIT_MOVED  (96u * 1024u)

/* What may be outstanding while there are sparse streams, `least` at the least. `rtt`: of the path,
 * ns. It has to
 * grow with the queues of the network, which other traffic fills: with the shortest round trip ever
 * seen a stream would give way until nothing is left of it. */
uint32_t window_rx_limit(const struct window_rx *w, uint64_t rtt, uint32_t least);

/* What an update may do. */
struct window_terms {
    uint64_t rtt;   /* of the path, ns */
    uint32_t limit; /* of what may be outstanding, or WINDOW_NO_LIMIT */
    uint32_t max;   /* of the size */
    uint64_t room;  /* free for the owner, bytes */
    bool over;      /* the owner has more than its share */
};

/* Takes what WINDOW should say, and accounts for it; 0: nothing is to be said. The size doubles, up
 * to `max` and as far as there is room, when half a window was used up within two round trips: then
 * the window and not the path or the reader is what limits the stream. It does not grow beyond the
 * limit. The caller counts the change of w->counted for the owner. */
uint32_t window_rx_update(struct window_rx *w, uint64_t now, const struct window_terms *terms);

/* Takes back what is counted of a stream at rest, which is one that holds nothing; 0 for others.
 * The caller counts it off. */
uint32_t window_rx_lapse(struct window_rx *w);

#endif
