/*
 * window: credit arithmetic of one direction of one stream, pure.
 *
 * Sender: `credit` bytes may still be sent; DATA takes from it, WINDOW adds to it.
 *
 * Receiver: `granted` is what the peer may still send (the mirror of its credit), `held` what has arrived and is not consumed yet, `unreported`
 * what was consumed and not given back yet. The invariant is granted + held + unreported == size. When unreported reaches half of the size, an
 * update is due; it gives back `unreported` and, if the window is being used up faster than round trips of the lane explain, grows the
 * size as well (see window_update). A window never shrinks: credit once granted cannot be taken back.
 */
#ifndef CULVERT_CORE_WINDOW_H
#define CULVERT_CORE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct window_tx {
    uint32_t credit;
};

struct window_rx {
    uint32_t size;
    uint32_t granted;
    uint32_t held;
    uint32_t unreported;
    uint64_t updated; /* ns: when the last update went out; 0: none yet */
};

void window_rx_init(struct window_rx *w, uint32_t size, uint64_t now);

/* A WINDOW frame: false if the sum would pass 2^31 - 1, which no honest peer causes. */
bool window_tx_add(struct window_tx *w, uint32_t increment);
void window_tx_take(struct window_tx *w, uint32_t bytes);

/* DATA arrived: false if it exceeds what was granted (the peer broke flow control). */
bool window_rx_push(struct window_rx *w, uint32_t bytes);

/* Bytes left towards the local socket (or were dropped). */
void window_rx_consume(struct window_rx *w, uint32_t bytes);

/* True when an update is worth a frame. */
static inline bool window_rx_due(const struct window_rx *w)
{
    return w->unreported >= w->size / 2 && w->unreported > 0;
}

/* Takes what WINDOW should say, and accounts for it. `rtt`: the lane's, ns. The size doubles, up to max and by no more than *budget (which is
 * reduced by the growth), when half a window was used up within two round trips: then the window and not the path or the
 * reader is what limits the stream. */
uint32_t window_rx_update(struct window_rx *w, uint64_t now, uint64_t rtt, uint32_t max,
                          uint64_t *budget);

#endif
