/*
 * conn_gate: the one way from a connection to its socket.
 *
 * Every send is submitted here, and nowhere else (tests/lint/layers), behind one check. A plain
 * connection sends frames as they are. One that is to be TLS sends
 *   sealed    what lies in its sealed buffer: handshake bytes and records, while user space seals;
 *   frames    as they are, while the kernel seals, and while the crypt has not ended;
 *   control   a record that is not data, to the kernel that seals, with its type beside it.
 * Without a crypt it sends nothing. Whoever has bytes for which there is no way any more drops
 * them; a caller that forgets ends the process here, before a byte of it has left.
 *
 * Bytes that are sealed are taken from the sealed buffer by this file itself: no caller can name
 * others.
 */
#include "core/mux/conn.h"
#include "core/mux/conn_impl.h"

static void gate_check_frames(const struct conn *conn)
{
    bool kernel = conn->crypt != NULL && crypt_tx_kernel(conn->crypt);

    CHECK(!conn_is_tls(conn) || (kernel && !conn->crypt_ended && conn->phase == CONN_SEALED));
}

static void gate_pass(struct conn *conn, enum conn_flight flight, uint32_t size)
{
    CHECK(conn->fd >= 0 && !conn->send_flight && !conn->shut && size > 0);
    CHECK(conn_is_tls(conn) == (conn->crypt != NULL) && conn->phase != CONN_SNIFFS);
    conn->send_flight = true;
    conn->send_since = conn->loop->now;
    conn->flight = (uint8_t)flight;
    conn->flight_size = size;
}

uint64_t conn_gate_op(const struct conn *conn)
{
    uint32_t aux = conn->flight == CONN_FLIGHT_ZERO_COPY ? conn->flight_buf : BUF_NONE;

    return conn->ops.send | aux;
}

unsigned conn_gate_flags(const struct conn *conn)
{
    return conn_is_tls(conn) && crypt_tx_kernel(conn->crypt) ? 0 : RING_WAITALL;
}

void conn_gate_pieces(struct conn *conn, unsigned count, enum conn_flight flight)
{
    uint32_t size = 0;

    for (unsigned i = 0; i < count; i++)
        size += (uint32_t)conn->iov[i].iov_len;
    gate_check_frames(conn);
    gate_pass(conn, flight, size);
    conn->msg = (struct msghdr){ .msg_iov = conn->iov, .msg_iovlen = count };
    ring_sendmsg(conn->loop->ring, conn_gate_op(conn), conn->fd, &conn->msg, conn_gate_flags(conn));
}

void conn_gate_segment(struct conn *conn, uint32_t buf, uint32_t offset, uint32_t size)
{
    struct loop *loop = conn->loop;
    const uint8_t *data = buf_data(&loop->bufs, buf) + offset;
    int index = buf_fixed_index(&loop->bufs, loop->ring, buf);

    CHECK(!conn_is_tls(conn));
    gate_pass(conn, CONN_FLIGHT_ZERO_COPY, size);
    conn->flight_buf = buf;
    if (index >= 0)
        ring_send_fixed(loop->ring, conn_gate_op(conn), conn->fd, data, size, (unsigned)index,
                        RING_WAITALL);
    else
        ring_send(loop->ring, conn_gate_op(conn), conn->fd, data, size, RING_WAITALL | RING_ZC);
}

/* The header waits in the socket for what follows it at once. */
static int gate_header(struct conn *conn, const uint8_t *header, uint32_t size)
{
    int n = size > 0 ? sock_send_begin(conn->fd, header, size) : 0;

    return n == -EAGAIN || n == -EINTR ? 0 : n;
}

int conn_gate_pipe(struct conn *conn, const uint8_t *header, uint32_t header_size, uint32_t pipe,
                   uint32_t body)
{
    CHECK(!conn_is_tls(conn) && conn->crypt == NULL);
    CHECK(conn->fd >= 0 && !conn->send_flight && !conn->shut && body > 0);
    int begun = gate_header(conn, header, header_size);
    if (begun < 0 || (uint32_t)begun < header_size)
        return begun;
    int n = pipe_drain(&conn->loop->bufs.pipes, buf_pipe(pipe), conn->fd, body);
    if (n == -EAGAIN || n == -EINTR)
        n = 0;
    return n < 0 ? n : begun + n;
}

void conn_gate_poll(struct conn *conn)
{
    CHECK(conn->fd >= 0 && !conn->send_flight);
    conn->send_flight = true;
    conn->send_since = conn->loop->now;
    conn->flight = CONN_FLIGHT_POLL;
    conn->flight_size = 0;
    ring_poll(conn->loop->ring, conn_gate_op(conn), conn->fd, true);
}

static uint8_t *gate_sealed_bytes(const struct conn *conn)
{
    return buf_data(&conn->loop->bufs, conn->sealed_buf) + conn->sealed_sent;
}

void conn_gate_sealed(struct conn *conn)
{
    uint32_t size = conn->sealed_filled - conn->sealed_sent;

    CHECK(conn_is_tls(conn) && conn->crypt != NULL && !crypt_tx_kernel(conn->crypt));
    gate_pass(conn, CONN_FLIGHT_SEALED, size);
    ring_send(conn->loop->ring, conn_gate_op(conn), conn->fd, gate_sealed_bytes(conn), size,
              RING_WAITALL);
}

void conn_gate_control(struct conn *conn)
{
    uint32_t size = conn->sealed_filled - conn->sealed_sent;

    CHECK(conn_is_tls(conn) && conn->crypt != NULL && crypt_tx_kernel(conn->crypt) &&
          conn->sealed_type != CRYPT_TYPE_DATA);
    gate_pass(conn, CONN_FLIGHT_SEALED, size);
    conn->iov[0] = (struct iovec){ .iov_base = gate_sealed_bytes(conn), .iov_len = size };
    conn->msg = (struct msghdr){ .msg_iov = conn->iov, .msg_iovlen = 1 };
    crypt_send_type(&conn->msg, conn->tx_control, conn->sealed_type);
    ring_sendmsg(conn->loop->ring, conn_gate_op(conn), conn->fd, &conn->msg, conn_gate_flags(conn));
}
