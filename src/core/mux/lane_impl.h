/* lane_impl: what the files of a lane (lane.c and lane_*.c) share besides lane.h. */
#ifndef CULVERT_CORE_MUX_LANE_IMPL_H
#define CULVERT_CORE_MUX_LANE_IMPL_H

#include "core/io/op.h"
#include "core/mux/lane.h"
#include "core/wire/reason.h"

#include <stdbool.h>
#include <stdint.h>

/* What completed; part: the table. */
void lane_recv_done(void *part, const struct ring_cqe *cqe);
void lane_send_done(void *part, const struct ring_cqe *cqe);
void lane_connect_done(void *part, const struct ring_cqe *cqe);

/* lane_rx.c: lane_table.sweep. */
void lane_sweep(struct timer *timer);

/* The lane of a completion: its slot is neither freed nor used again while an operation is in
 * flight. */
static inline struct lane *lane_from_op(struct lane_table *table, const struct ring_cqe *cqe)
{
    struct op op = op_unpack(cqe->user_data);
    struct lane *lane = slab_at(&table->slab, op.slot);

    CHECK(lane->state != LANE_FREE && op_is_of(op, lane->generation));
    return lane;
}

/* lane_rx.c: there is no buffer: the lane stands in line, and is marked when there are some. */
void lane_starve(struct lane *lane);

/* lane.c: the only one that writes a lane's state: asserts that the new one may follow. */
void lane_set_state(struct lane *lane, enum lane_state state);

/* lane.c: counts of what waits to be sent that are kept at two ends; between two steps. */
void lane_check_sends(const struct lane *lane);

/* lane.c: the lane's socket, and its end (the caller closes what it takes): as descriptors of its
 * owner. */
void lane_set_fd(struct lane *lane, int fd);
int lane_take_fd(struct lane *lane);

/* lane_resume.c: `size` bytes at `offset` of `buf` were given to the wire. Forgets what the peer
 * has. The peer's count: false if it cannot be. */
void lane_log(struct lane *lane, uint32_t buf, uint32_t offset, uint32_t size);
void lane_log_trim(struct lane *lane);

/* lane_preface.c: JOIN_OK with our count and this proof goes out before anything else. */
void lane_say_join_ok(struct lane *lane, const uint8_t answer[FRAME_PROOF_SIZE]);

/* lane_resume.c: tells the peer our count, if that is news to it; lane_ack: on a lane that can be
 * resumed. */
void lane_tell(struct lane *lane);

/* lane_kept.c: our count as it may be told now, in PING and PONG. */
uint64_t lane_count(const struct lane *lane);

/* lane_kept.c: the lane carries no streams any more: nothing that is on it can be taken for
 * something else. */
void lane_kept_release(struct lane *lane);
void lane_kept_init(struct lane *lane);

/* lane_line.c: it has room, or bytes of it have left. */
void lane_waiter_wake(struct lane *lane, struct lane_waiter *waiter);

/* lane.c: PING, now. */
void lane_ask(struct lane *lane);

/* lane_resume.c: adds what has to be sent again to lane->conn.iov behind `count`; returns the new
 * count. */
unsigned lane_replay_gather(struct lane *lane, unsigned count);

/* lane_resume.c: freezes the lane; false if it cannot be resumed. */
bool lane_freeze(struct lane *lane, enum reason reason, const char *text);

/* lane_resume.c: a read that brought so many bytes after the lane froze. */
void lane_frozen_recv(struct lane *lane, uint32_t size);

/* lane_resume.c: the lane leaves the frozen ones for good. */
void lane_unfreeze(struct lane *lane);

/* lane_tx.c: packs of which nobody keeps anything give their buffer back. */
void lane_tx_settle(struct lane *lane);

/* lane_rx.c: bytes came that nobody has looked at. */
void lane_arrive(struct lane *lane);

/* lane_tx.c: streams that stand in line for room are pumped again. */
void lane_tx_wake(struct lane *lane);

/* lane_tx.c: drops all that waits to be sent, what is to be sent again included; nothing may be in
 * flight. Nothing of it is counted. */
void lane_tx_release(struct lane *lane);

/* lane_shake.c: the connection is to be TLS: the handshake begins; a step of it is due; it is over,
 * and its bytes have left. */
void lane_shake_begin(struct lane *lane);
void lane_shake_due(struct lane *lane);
void lane_shake_finish(struct lane *lane);

/* lane_shake.c: the kernel receives from here on, if it waits for that. False: the lane ends. */
bool lane_offload(struct lane *lane);

/* lane_shake.c: its TLS is over, crypt_why: the handshake failed, or nothing can be sealed any
 * more. The lane freezes, or ends. */
void lane_tls_failed(struct lane *lane);

#endif
