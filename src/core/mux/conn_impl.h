/* conn_impl: what the files of a connection (conn.c and conn_*.c) share besides conn.h. */
#ifndef CULVERT_CORE_MUX_CONN_IMPL_H
#define CULVERT_CORE_MUX_CONN_IMPL_H

#include "core/mux/conn.h"

#include <stdbool.h>
#include <stdint.h>

/* conn_gate.c: the only sends of a connection. The pieces gathered in iov, copied, as `flight`; one
 * segment by itself, zero-copy; what lies in the sealed buffer, as records, or as one control
 * record for the kernel's engine. */
void conn_gate_pieces(struct conn *conn, unsigned count, enum conn_flight flight);
void conn_gate_segment(struct conn *conn, uint32_t buf, uint32_t offset, uint32_t size);
void conn_gate_sealed(struct conn *conn);
void conn_gate_control(struct conn *conn);

/* conn_gate.c: a header and what lies in a pipe, now, as far as the socket takes it: bytes or
 * -errno; and a poll for room in place of a send. */
int conn_gate_pipe(struct conn *conn, const uint8_t *header, uint32_t header_size, uint32_t pipe,
                   uint32_t body);
void conn_gate_poll(struct conn *conn);

/* conn_gate.c: how a send that copies is submitted: whole, but that the kernel's record engine
 * refuses MSG_WAITALL (tls_sw_sendmsg: EOPNOTSUPP), so that its sends may be short. */
unsigned conn_gate_flags(const struct conn *conn);

/* conn_gate.c: user_data of the send in flight. */
uint64_t conn_gate_op(const struct conn *conn);

/* conn.c: a big buffer for its own use, BUF_NONE if there is none; never one of the last for whom a
 * server has not let in. */
uint32_t conn_take_big(struct conn *conn);

/* conn.c: what is little moves out of a big buffer, if the connection is quiet. */
void conn_rx_leave_big(struct conn *conn, struct conn_rx *rx);

/* conn.c: a read without more words, into rx. */
enum conn_read conn_read_bytes(struct conn *conn, struct conn_rx *rx);

/* conn_crypt.c: the same of what the kernel has opened, with the type of the record. */
enum conn_read conn_read_opened(struct conn *conn, struct conn_rx *rx);

/* conn_crypt.c: nothing lies in the worker's spare any more: it takes the next, or, if a stream
 * refers to it, stays that one's. */
void conn_spare_leave(struct conn *conn);

/* conn_crypt.c: gives back the sealed buffer, and the crypt. */
void conn_crypt_release(struct conn *conn);

/* conn_crypt.c: seals of the `count` pieces in iov what there is room for, and sends it; as
 * conn_send. */
enum conn_flow conn_seal(struct conn *conn, unsigned count, uint32_t *taken);

/* conn_crypt.c: conn_flush of one that is TLS, but for its preface. */
enum conn_flow conn_flush_sealed(struct conn *conn);

/* conn_crypt.c: so many bytes of the sealed buffer have left. */
void conn_sealed_left(struct conn *conn, uint32_t bytes);

static inline bool conn_seals_here(const struct conn *conn)
{
    return conn_is_tls(conn) && !crypt_tx_kernel(conn->crypt);
}

#endif
