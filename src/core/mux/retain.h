/*
 * retain: what was given to the wire, until the peer has counted it.
 *
 * A sequence of bytes that has no end and no length: `sent` is where it has got to, and [acked,
 * sent) is kept, as slices of the very buffers that were sent, with a reference each, so that
 * keeping costs no copy. What the peer counts (`counted`) may be ahead of `sent` by what is in
 * flight; it is forgotten when both have passed it. After a loss the last `replay` bytes of it go
 * out again, before anything new.
 *
 * Bounds. An honest peer lets pile up what the streams' windows allow and a little more: a window
 * opens again only when its bytes have arrived, and the count follows within LANE_ACK. For a peer
 * that does not count, data stops at LANE_LOG_MAX (retain_is_full); OPEN, FIN and control go on,
 * and when they have added LANE_LOG_CONTROL nothing is kept any more. Of big buffers all that is
 * kept by anybody has a part; of what it shares with others, small buffers and slices, it leaves
 * the last to frames that must go out. Who keeps little is not held back by those who keep much.
 *
 * Whoever found it full for its share stands in line (retain_wait), and is looked at every so
 * often, some in each turn: an owner who keeps its share may have many.
 */
#ifndef CULVERT_CORE_MUX_RETAIN_H
#define CULVERT_CORE_MUX_RETAIN_H

#include "core/base/list.h"
#include "core/io/loop.h"
#include "core/io/share.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct retain {
    struct loop *loop;
    struct share *share; /* owns what is kept; somebody else's reference */
    struct list node;    /* in line */
    bool keeps;
    uint32_t head, tail; /* slices; SLAB_NONE when empty */
    uint32_t big;        /* big buffers that are kept, or more */
    uint32_t slices;     /* in the list */
    uint64_t sent;       /* given to the wire: what is kept ends here */
    uint64_t acked;      /* and begins here */
    uint64_t counted;    /* by the peer */
    uint64_t replay;     /* the last so many bytes of it go out again */
};

void retain_init(struct retain *retain, struct loop *loop);

/* Another owner; nothing is kept. */
void retain_own(struct retain *retain, struct share *share);

/* Keeps what is sent from here on; and no more, with what was kept. */
void retain_begin(struct retain *retain);
void retain_end(struct retain *retain);

/* `size` bytes at `offset` of `buf` were given to the wire. NULL, or why they cannot be kept: then
 * nothing is any more. */
const char *retain_add(struct retain *retain, uint32_t buf, uint32_t offset, uint32_t size);

/* Forgets what the peer has, as far as it was given to the wire. True if that was anything. */
bool retain_trim(struct retain *retain);

/* So much is kept that data has to wait for the peer's count. */
bool retain_is_full(const struct retain *retain);

/* Somebody waits: if the reason is what all keep together, it stands in `line`; otherwise its own
 * count ends the wait. look: asks some of the line, and moves to `ready` who need not wait. */
void retain_wait(struct retain *retain, struct list *line);
void retain_look(struct list *line, struct list *ready);

/* Slices of what goes out again, `most` at most, and their bytes: some LANE_REPLAY_SEND. */
unsigned retain_gather(const struct retain *retain, struct iovec *iov, unsigned most,
                       uint32_t *bytes);

#endif
