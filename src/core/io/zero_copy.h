/*
 * zero_copy: whether a socket's large sends leave their buffers in place, and what is known of
 * those that did.
 *
 * It pays above ZERO_COPY_MIN (pinning pages and a second completion against a copy), and not where
 * the kernel copies all the same, as on loopback: it says so in the notification, and then this
 * socket sends copies, unless the operator wants to see it (--zero-copy on). A buffer has a
 * reference for each such send, which comes back with the notification: after the peer has
 * acknowledged the bytes, or when the socket's queue is freed. A notification has the user_data of
 * its send and can follow one that failed; it comes if the result has RING_CQE_MORE.
 */
#ifndef CULVERT_CORE_IO_ZERO_COPY_H
#define CULVERT_CORE_IO_ZERO_COPY_H

#include "core/io/loop.h"
#include "core/io/ring.h"

#include <stdbool.h>
#include <stdint.h>

#define ZERO_COPY_MIN (64u * 1024u)

enum zero_copy_mode { ZERO_COPY_UNDECIDED, ZERO_COPY_ON, ZERO_COPY_OFF };

struct zero_copy {
    uint8_t mode;     /* enum zero_copy_mode */
    uint16_t pending; /* notifications outstanding */
    uint16_t empty;   /* of these, of sends that moved nothing */
};

void zero_copy_init(struct zero_copy *zc, const struct config *config);

/* A send of so many bytes: false: it copies. True: it may not, once decide has been called. */
static inline bool zero_copy_may(const struct zero_copy *zc, uint32_t size)
{
    return zc->mode != ZERO_COPY_OFF && size >= ZERO_COPY_MIN;
}

/* local: the peer is on this machine. */
void zero_copy_decide(struct zero_copy *zc, const struct config *config, bool local);

/* A send from `buf` begins: takes a reference. */
void zero_copy_sent(struct zero_copy *zc, struct loop *loop, uint32_t buf);

/* Its result; and its notification. */
void zero_copy_result(struct zero_copy *zc, struct loop *loop, uint32_t buf,
                      const struct ring_cqe *cqe);
void zero_copy_notified(struct zero_copy *zc, struct loop *loop, uint32_t buf,
                        const struct ring_cqe *cqe);

#endif
