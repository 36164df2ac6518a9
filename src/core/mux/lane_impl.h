/* lane_impl: what the files of a lane (lane.c and lane_*.c) share besides lane.h. */
#ifndef CULVERT_CORE_MUX_LANE_IMPL_H
#define CULVERT_CORE_MUX_LANE_IMPL_H

#include "core/mux/lane.h"
#include "core/wire/reason.h"

#include <stdbool.h>
#include <stdint.h>

/* user_data of an operation. */
static inline uint64_t lane_op(const struct lane *lane, enum lane_op op, uint32_t aux)
{
    return op_pack(lane->table->op + op, lane->slot, lane->generation, aux);
}

/* What completed; part: the table. */
void lane_recv_done(void *part, const struct ring_cqe *cqe);
void lane_send_done(void *part, const struct ring_cqe *cqe);
void lane_connect_done(void *part, const struct ring_cqe *cqe);

/* lane_rx.c: lane_table.sweep. */
void lane_sweep(struct timer *timer);

/* lane.c: the lane of a completion. */
struct lane *lane_from_op(struct lane_table *table, const struct ring_cqe *cqe);

/* lane_rx.c: makes room for at least `want` bytes behind what was filled. False: no big buffer is
 * free; the lane stands in line and is marked when there are. */
#define LANE_RX_ROOM (2u * 1024u)
bool lane_rx_room(struct lane *lane, struct conn_rx *rx, uint32_t want);
void lane_starve(struct lane *lane);

/* lane_rx.c: a big buffer for the lane's own use, BUF_NONE if there is none; never one of the last
 * for whom a server has not let in. */
uint32_t lane_take_big(struct lane *lane);

/* lane_rx.c: what is unparsed, at most a small buffer's worth, moves to a small one; the old one is
 * the caller's. False: none is free, nothing has changed. */
bool lane_rx_move_small(struct lane *lane, struct conn_rx *rx);

/* lane_rx.c: what is little moves out of a big buffer, if the lane is quiet. */
void lane_rx_leave_big(struct lane *lane, struct conn_rx *rx);

/* lane_rx.c: submits a read into a small or big buffer. */
void lane_rx_read(struct lane *lane, struct conn_rx *rx);
void lane_watch_read(struct lane *lane);

/* lane.c: the only one that writes a lane's state: asserts that the new one may follow. */
void lane_set_state(struct lane *lane, enum lane_state state);

/* lane.c: the lane's socket, and its end (the caller closes what it takes): as descriptors of its
 * owner. */
void lane_set_fd(struct lane *lane, int fd);
int lane_take_fd(struct lane *lane);

/* lane.c: cancels what is in flight. */
void lane_cancel_flight(struct lane *lane);

/* lane_resume.c: `size` bytes at `offset` of `buf` were given to the wire. Forgets what the peer
 * has. The peer's count: false if it cannot be. */
void lane_log(struct lane *lane, uint32_t buf, uint32_t offset, uint32_t size);
void lane_log_trim(struct lane *lane);

/* lane_preface.c: JOIN_OK with our count goes out before anything else. */
void lane_say_join_ok(struct lane *lane);

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

/* lane_resume.c: a read that completed after the lane froze. data: it is not a control record. */
void lane_frozen_recv(struct lane *lane, int res, bool data);

/* lane_resume.c: the lane leaves the frozen ones for good. */
void lane_unfreeze(struct lane *lane);

/* lane_tx.c: packs of which nobody keeps anything give their buffer back. */
void lane_tx_settle(struct lane *lane);

/* lane_rx.c: `size` bytes of frames came on a plain lane, and stand in rx. */
void lane_rx_plain(struct lane *lane, uint32_t size);

/* lane_rx.c: bytes came that nobody has looked at. */
void lane_arrive(struct lane *lane);

/* lane_tx.c: streams that stand in line for room are pumped again. */
void lane_tx_wake(struct lane *lane);

/* lane_tx.c: user_data of the send in flight; aux is the buffer of a zero-copy send. */
uint64_t lane_send_op(const struct lane *lane);

/* lane_tx.c: how a send that copies is submitted: whole, but that the kernel's record engine
 * refuses MSG_WAITALL (tls_sw_sendmsg: EOPNOTSUPP), so that its sends may be short. */
unsigned lane_send_flags(const struct lane *lane);

/* lane_tx.c: nothing waits to be sent. */
bool lane_tx_empty(const struct lane *lane);

/* lane_tx.c: drops all that waits to be sent, what is to be sent again and the preface included;
 * nothing may be in flight. Nothing of it is counted. */
void lane_tx_release(struct lane *lane);

/* lane_preface.c: forgets what a connection begins with, wherever it stands. */
void lane_preface_drop(struct lane *lane);

/* lane_gate.c: the only sends of a lane. What was gathered in lane->conn.iov, copied; the head
 * segment by itself, zero-copy; what lies in the sealed buffer, as records, or as one control
 * record for the kernel's engine. */
void lane_gate_frames(struct lane *lane, unsigned count);
void lane_gate_segment(struct lane *lane);
void lane_gate_sealed(struct lane *lane);
void lane_gate_control(struct lane *lane);

/* lane_tx.c: fills lane->conn.iov with what waits, in the order of the wire; how many slices. */
unsigned lane_tx_gather(struct lane *lane);

/* lane_tx.c: `bytes` of what was gathered have left. */
void lane_tx_left(struct lane *lane, uint32_t bytes);

/* lane_crypt.c: for a lane with a crypt. Reading, a read's completion, sending (true: a send is in
 * flight or there is nothing to send; false: the kernel's engine, send as on a plain lane), a
 * send's completion, and release of the buffers. */
void lane_crypt_begin(struct lane *lane);
void lane_crypt_read(struct lane *lane);
enum reason lane_crypt_received(struct lane *lane, uint32_t size);

/* lane_crypt.c: lane_rx_open and lane_rx_settle where records are opened here. */
enum reason lane_crypt_open(struct lane *lane, bool handled, bool *more);
enum reason lane_crypt_settle(struct lane *lane, enum reason reason);

bool lane_crypt_flush(struct lane *lane);
void lane_crypt_sent(struct lane *lane, uint32_t bytes);
void lane_crypt_release(struct lane *lane);

/* lane_crypt.c: whether what was received through the kernel's engine is data. */
bool lane_crypt_is_data(struct lane *lane);

/* lane_crypt.c: the orderly end of this direction, once. True: something has to be sent first. */
bool lane_crypt_end(struct lane *lane);

#endif
