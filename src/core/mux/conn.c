/*
 * conn: life, reads and sends of a connection. Theory of operation in conn.h; conn_crypt.c has its
 * TLS, conn_preface.c the frames that it begins with, conn_gate.c the way out.
 *
 * Reads start small, like those of streams: a quiet connection names no buffer, the kernel picks a
 * small one when data is there; thousands of idle ones, logged in or not, hold no buffer at all.
 * Before the log-in a server's never gets the last big buffers, so that strangers cannot hold up
 * sessions. (A client's may: the logs of frozen lanes can hold all the others until this very
 * connection has brought their peer's count.) A read that fills its small buffer makes the
 * connection busy: the next one names a big buffer.
 */
#include "core/mux/conn.h"

#include "core/mux/conn_impl.h"

#include <errno.h>
#include <string.h>

/* What is in flight has a socket; what is handled or sent came or was filled before. */
static void conn_check(const struct conn *conn)
{
    CHECK(conn->fd >= 0 || !conn_flies(conn));
    CHECK(conn->raw.parsed <= conn->raw.filled);
    CHECK(conn->sealed_sent <= conn->sealed_filled &&
          (conn->sealed_buf != BUF_NONE || conn->sealed_filled == 0));
}

/* Life */

void conn_init(struct conn *conn, struct loop *loop, struct conn_spare *spare,
               const struct conn_ops *ops, const union sock_addr *peer)
{
    conn->loop = loop;
    conn->spare = spare;
    conn->ops = *ops;
    conn->fd = -1;
    conn->peer = *peer;
    conn->raw.buf = conn->sealed_buf = BUF_NONE;
    conn->dry = true;
    conn->heard = loop->now;
    zero_copy_init(&conn->zc, loop->config);
}

void conn_init_tls(struct conn *conn, enum conn_phase phase, struct crypt *crypt)
{
    CHECK(conn->phase == CONN_PLAIN && (phase == CONN_PLAIN) == (crypt == NULL));
    conn->phase = (uint8_t)phase;
    conn->crypt = crypt;
}

void conn_own(struct conn *conn, struct share *share)
{
    conn->share = share;
}

void conn_stand(struct conn *conn, enum conn_standing standing)
{
    conn->standing = (uint8_t)standing;
}

void conn_put_fd(struct conn *conn, int fd)
{
    CHECK(conn->fd < 0 && fd >= 0 && !conn_flies(conn));
    conn->fd = fd;
    conn->no_wait = false;
    conn->pacing = CONN_PACES_UNKNOWN;
}

int conn_take_fd(struct conn *conn)
{
    int fd = conn->fd;

    CHECK(fd >= 0 && !conn_flies(conn));
    conn->fd = -1;
    return fd;
}

void conn_dial(struct conn *conn, const union sock_addr *addr)
{
    CHECK(conn->fd >= 0 && !conn_flies(conn));
    conn->dial_addr = *addr;
    conn->connect_flight = true;
    ring_connect(conn->loop->ring, conn->ops.connect, conn->fd, &conn->dial_addr.sa,
                 sock_addr_size(addr));
}

void conn_connect_done(struct conn *conn)
{
    CHECK(conn->connect_flight);
    conn->connect_flight = false;
    conn->heard = conn->loop->now;
}

void conn_cancel(struct conn *conn)
{
    struct ring *ring = conn->loop->ring;

    conn_check(conn);
    if (conn->recv_flight)
        ring_cancel(ring, conn->ops.recv);
    if (conn->send_flight)
        ring_cancel(ring, conn_gate_op(conn));
    if (conn->connect_flight)
        ring_cancel(ring, conn->ops.connect);
    /* A cancel that meets a send which is just being tried again is lost (io_uring_prep_cancel(3),
     * EALREADY), and the connection would wait until TCP gives up. */
    if (conn_flies(conn))
        sock_shutdown(conn->fd);
}

void conn_cancel_read(struct conn *conn)
{
    CHECK(conn->recv_flight);
    ring_cancel(conn->loop->ring, conn->ops.recv);
    conn->recv_since = conn->loop->now; /* the cancel may lose against data */
}

void conn_drop(struct conn *conn)
{
    CHECK(!conn_flies(conn) && conn->fd < 0);
    conn_check(conn);
    conn_preface_drop(conn);
    conn_rx_release(conn, &conn->raw); /* records that were not opened are not counted */
    conn_crypt_release(conn);
}

/* Hand-over */

struct conn_loose conn_loosen(struct conn *conn, int fd)
{
    struct conn_loose loose = { .fd = fd, .crypt = conn->crypt };

    CHECK(!conn_flies(conn) && conn->fd < 0 && fd >= 0);
    CHECK(conn_is_tls(conn) == (conn->crypt != NULL) && conn_tx_done(conn));
    conn->crypt = NULL;
    return loose;
}

void conn_tie(struct conn *conn, const struct conn_loose *loose)
{
    conn_check(conn);
    CHECK(conn->fd == loose->fd && conn->crypt == NULL && conn_tx_done(conn));
    CHECK(conn_is_tls(conn) == (loose->crypt != NULL));
    conn->crypt = loose->crypt;
    conn->phase = loose->crypt != NULL ? CONN_SEALED : CONN_PLAIN;
    conn->crypt_closed = conn->crypt_ended = conn->crypt_broken = false;
    (void)sock_peer(loose->fd, &conn->peer);
    conn->heard = conn->unblocked = conn->loop->now;
    conn->dry = true;
    conn->rx_busy = false;
    conn->rtt_min = conn->path_rtt = conn->path_asked = 0;
}

void conn_move_raw(struct conn *to, struct conn *from)
{
    CHECK(to->raw.buf == BUF_NONE && !conn_flies(to) && !conn_flies(from));
    to->raw = from->raw;
    from->raw = (struct conn_rx){ .buf = BUF_NONE };
}

void conn_drop_raw(struct conn *conn)
{
    conn->raw.parsed = conn->raw.filled;
}

void conn_loose_close(struct conn_loose *loose, struct ring *ring)
{
    if (loose->fd < 0)
        return;
    ring_close_fd(ring, loose->fd);
    crypt_close(loose->crypt);
    *loose = (struct conn_loose){ .fd = -1 };
}

/* Buffers */

void conn_rx_release(struct conn *conn, struct conn_rx *rx)
{
    if (rx->buf != BUF_NONE && rx->buf == conn->spare->buf)
        conn_spare_leave(conn);
    else if (rx->buf != BUF_NONE)
        buf_put(&conn->loop->bufs, rx->buf);
    *rx = (struct conn_rx){ .buf = BUF_NONE };
}

/* Moves what is unparsed to the front, if nobody else looks at the buffer. */
static bool conn_rx_to_front(struct conn *conn, struct conn_rx *rx)
{
    struct buf_pool *bufs = &conn->loop->bufs;
    uint32_t left = rx->filled - rx->parsed;

    if (buf_refs(bufs, rx->buf) > 1 || rx->parsed == 0)
        return false;
    memmove(buf_data(bufs, rx->buf), buf_data(bufs, rx->buf) + rx->parsed, left);
    rx->parsed = 0;
    rx->filled = left;
    return true;
}

bool conn_rx_move_small(struct conn *conn, struct conn_rx *rx)
{
    struct buf_pool *bufs = &conn->loop->bufs;
    uint32_t left = rx->filled - rx->parsed;
    uint32_t to = buf_take_small(bufs, conn->share);

    CHECK(left <= BUF_SMALL_SIZE);
    if (to == BUF_NONE)
        return false;
    memcpy(buf_data(bufs, to), buf_data(bufs, rx->buf) + rx->parsed, left);
    *rx = (struct conn_rx){ .buf = to, .filled = left };
    return true;
}

uint32_t conn_take_big(struct conn *conn)
{
    struct buf_pool *bufs = &conn->loop->bufs;

    if (conn->standing == CONN_STRANGER)
        return buf_take_bulk(bufs, conn->share);
    return share_may(conn->share, SHARE_BIG, 1) ? buf_take_big(bufs, conn->share) : BUF_NONE;
}

static uint32_t conn_rx_left(const struct conn_rx *rx)
{
    return rx->buf == BUF_NONE ? 0 : buf_size(rx->buf) - rx->filled;
}

/* A buffer for `size` bytes. Whose owner has its share of the big ones must still be able to read:
 * what it is told lets it forget much. So a record that has begun is read to its end, and what is
 * little fits a small one. */
static uint32_t conn_rx_take(struct conn *conn, const struct conn_rx *rx, uint32_t size)
{
    struct buf_pool *bufs = &conn->loop->bufs;
    bool begun = rx == &conn->raw && rx->filled > rx->parsed && conn->standing == CONN_MEMBER;
    uint32_t buf = begun ? buf_take_big(bufs, conn->share) : conn_take_big(conn);

    if (buf == BUF_NONE && size <= BUF_SMALL_SIZE && !share_may(conn->share, SHARE_BIG, 1))
        buf = buf_take_small(bufs, conn->share);
    return buf;
}

bool conn_rx_room(struct conn *conn, struct conn_rx *rx, uint32_t want)
{
    struct buf_pool *bufs = &conn->loop->bufs;
    uint32_t left = rx->filled - rx->parsed;

    CHECK(rx->parsed <= rx->filled && want <= BUF_BIG_SIZE);
    if (left == 0)
        conn_rx_release(conn, rx);
    if (conn_rx_left(rx) >= want ||
        (rx->buf != BUF_NONE && buf_size(rx->buf) - left >= want && conn_rx_to_front(conn, rx)))
        return true;
    uint32_t fresh = conn_rx_take(conn, rx, left + want);
    if (fresh == BUF_NONE) {
        loop_count(conn->loop, STAT_STARVED_BIG, 1);
        return false;
    }
    if (left > 0)
        memcpy(buf_data(bufs, fresh), buf_data(bufs, rx->buf) + rx->parsed, left);
    conn_rx_release(conn, rx);
    *rx = (struct conn_rx){ .buf = fresh, .parsed = 0, .filled = left };
    CHECK(conn_rx_left(rx) >= want); /* a read of nothing looks like the end */
    return true;
}

void conn_rx_leave_big(struct conn *conn, struct conn_rx *rx)
{
    uint32_t left = rx->filled - rx->parsed, big = rx->buf;

    if (!conn->rx_busy && big != BUF_NONE && buf_is_big(big) && left > 0 &&
        left + CONN_RX_ROOM <= BUF_SMALL_SIZE && conn_rx_move_small(conn, rx))
        buf_put(&conn->loop->bufs, big);
}

/* Reading */

enum conn_read conn_read_bytes(struct conn *conn, struct conn_rx *rx)
{
    struct loop *loop = conn->loop;
    unsigned flags = conn->dry ? RING_POLL_FIRST : 0;
    enum conn_read how = CONN_READ_SMALL;

    if (rx->filled == rx->parsed)
        conn_rx_release(conn, rx);
    conn_rx_leave_big(conn, rx);
    bool fresh = rx->buf == BUF_NONE;
    if (fresh && !conn->rx_busy) {
        ring_recv_provided(loop->ring, conn->ops.recv, conn->fd, flags);
    } else if (conn_rx_room(conn, rx, CONN_RX_ROOM)) {
        ring_recv(loop->ring, conn->ops.recv, conn->fd, buf_data(&loop->bufs, rx->buf) + rx->filled,
                  conn_rx_left(rx), flags);
        how = buf_is_big(rx->buf) ? CONN_READ_BIG : CONN_READ_SMALL;
    } else if (fresh && loop->bufs.provided > 0) {
        /* Slowly is better than not at all: the peer's count may free the others. Without any it
         * waits in line. */
        ring_recv_provided(loop->ring, conn->ops.recv, conn->fd, flags);
    } else {
        return CONN_READ_STARVED;
    }
    conn->recv_flight = true;
    conn->recv_rx = rx;
    conn->recv_since = loop->now;
    return how;
}

enum conn_read conn_read(struct conn *conn, struct conn_rx *rx)
{
    CHECK(!conn->recv_flight && conn->fd >= 0);
    if (!conn_is_tls(conn))
        return conn_read_bytes(conn, rx);
    return conn_opens(conn) ? conn_read_bytes(conn, &conn->raw) : conn_read_opened(conn, rx);
}

void conn_no_wait(struct conn *conn)
{
    if (!conn->no_wait)
        sock_no_wait(conn->fd);
    conn->no_wait = true;
}

void conn_be_slow(struct conn *conn)
{
    conn->rx_busy = false;
}

void conn_poll(struct conn *conn)
{
    CHECK(!conn->recv_flight && conn->fd >= 0 && !conn_is_tls(conn));
    ring_poll(conn->loop->ring, conn->ops.recv, conn->fd, false);
    conn->recv_flight = conn->recv_polls = true;
}

int conn_read_now(struct conn *conn, struct conn_rx *rx, uint32_t size)
{
    struct buf_pool *bufs = &conn->loop->bufs;

    CHECK(!conn->recv_flight && rx->parsed == rx->filled && !conn_is_tls(conn));
    conn_rx_release(conn, rx);
    rx->buf = buf_take_small(bufs, conn->share);
    if (rx->buf == BUF_NONE)
        return -ENOBUFS;
    int n = sock_recv_exact(conn->fd, buf_data(bufs, rx->buf), size);
    if (n > 0)
        rx->filled = (uint32_t)n;
    else
        conn_rx_release(conn, rx);
    return n;
}

void conn_recv_done(struct conn *conn, const struct ring_cqe *cqe)
{
    struct loop *loop = conn->loop;
    struct conn_rx *rx = conn->recv_rx;

    CHECK(conn->recv_flight);
    conn->recv_flight = false;
    if (conn->recv_polls) {
        conn->recv_polls = false;
        return;
    }
    if ((cqe->flags & RING_CQE_BUFFER) != 0) {
        buf_provided_taken(&loop->bufs, cqe->buffer, conn->share);
        CHECK(rx->buf == BUF_NONE);
        if (cqe->res > 0)
            *rx = (struct conn_rx){ .buf = cqe->buffer,
                                    .parsed = BUF_HEADROOM,
                                    .filled = BUF_HEADROOM };
        else
            buf_put(&loop->bufs, cqe->buffer);
    }
    if (cqe->res <= 0)
        return;
    rx->filled += (uint32_t)cqe->res;
    CHECK(rx->buf != BUF_NONE && rx->filled <= buf_size(rx->buf));
    conn->rx_busy = (uint32_t)cqe->res >= BUF_SMALL_PAYLOAD;
    conn->dry = (cqe->flags & RING_CQE_NONEMPTY) == 0 && (uint32_t)cqe->res < BUF_BIG_SIZE / 8 &&
                ((cqe->flags & RING_CQE_BUFFER) == 0 || !conn->rx_busy);
}

bool conn_recv_again(struct conn *conn, int res)
{
    if (res != -EINTR && res != -EAGAIN && res != -ECANCELED && res != -ENOBUFS)
        return false;
    if (res == -ENOBUFS)
        loop_count(conn->loop, STAT_STARVED_SMALL, 1);
    conn->rx_busy = res == -ENOBUFS; /* no small buffer: a big one; swept: a small one */
    return true;
}

void conn_excuse(struct conn *conn)
{
    conn->heard = conn->loop->now;
}

/* Sending */

/* Pieces as they are, where that may be; otherwise sealed. */
static enum conn_flow conn_send_as(struct conn *conn, unsigned count, enum conn_flight flight,
                                   uint32_t *taken)
{
    *taken = 0;
    if (conn_seals_here(conn))
        return conn_seal(conn, count, taken);
    conn_gate_pieces(conn, count, flight);
    return CONN_BUSY;
}

static void conn_preface_left(struct conn *conn, uint32_t bytes)
{
    conn->preface_sent += bytes;
    CHECK(conn->preface_sent <= conn->preface_size);
    if (bytes > 0 && conn->preface_sent == conn->preface_size)
        conn_preface_drop(conn);
}

static enum conn_flow conn_send_preface(struct conn *conn)
{
    uint32_t taken;

    conn->iov[0] = (struct iovec){ .iov_base = conn->preface + conn->preface_sent,
                                   .iov_len = conn->preface_size - conn->preface_sent };
    enum conn_flow flow = conn_send_as(conn, 1, CONN_FLIGHT_PREFACE, &taken);
    conn_preface_left(conn, taken);
    return flow;
}

enum conn_flow conn_flush(struct conn *conn)
{
    if (conn->send_flight)
        return CONN_BUSY;
    if (conn_is_tls(conn)) {
        enum conn_flow flow = conn_flush_sealed(conn);

        if (flow != CONN_FREE)
            return flow;
    }
    return conn_preface_waits(conn) ? conn_send_preface(conn) : CONN_FREE;
}

enum conn_flow conn_send(struct conn *conn, unsigned count, uint32_t *taken)
{
    CHECK(count > 0 && count <= LANE_IOV && !conn_preface_waits(conn));
    return conn_send_as(conn, count, CONN_FLIGHT_FRAMES, taken);
}

bool conn_wants_zero_copy(struct conn *conn, uint32_t size)
{
    struct zero_copy *zc = &conn->zc;

    if (conn_is_tls(conn) || !zero_copy_may(zc, size))
        return false;
    if (zc->mode == ZERO_COPY_UNDECIDED)
        zero_copy_decide(zc, conn->loop->config, sock_addr_is_loopback(&conn->peer));
    return zc->mode == ZERO_COPY_ON;
}

void conn_send_zero_copy(struct conn *conn, uint32_t buf, uint32_t offset, uint32_t size)
{
    zero_copy_sent(&conn->zc, conn->loop, buf);
    conn_gate_segment(conn, buf, offset, size);
}

int conn_send_pipe(struct conn *conn, const uint8_t *header, uint32_t header_size, uint32_t pipe,
                   uint32_t body)
{
    conn_no_wait(conn);
    int n = conn_gate_pipe(conn, header, header_size, pipe, body);

    if (n >= 0 && (uint32_t)n < header_size + body)
        conn_gate_poll(conn);
    return n;
}

void conn_send_done(struct conn *conn, const struct ring_cqe *cqe)
{
    struct loop *loop = conn->loop;

    CHECK(conn->send_flight);
    conn->send_flight = false;
    if (loop->now - conn->send_since > V1_STALL_NS / 10)
        conn->unblocked = loop->now;
    if (conn->flight == CONN_FLIGHT_ZERO_COPY)
        zero_copy_result(&conn->zc, loop, conn->flight_buf, cqe);
}

int conn_send_result(struct conn *conn, int res)
{
    bool whole = (conn_gate_flags(conn) & RING_WAITALL) != 0;

    if (res >= 0) /* see relay.c, relay_send_result: a reset that met a waiting send */
        return whole && (uint32_t)res < conn->flight_size && sock_is_over(conn->fd) ? -ECONNRESET
                                                                                    : res;
    if (conn->flight == CONN_FLIGHT_ZERO_COPY && ring_zc_refused(res)) {
        conn->zc.mode = ZERO_COPY_OFF;
        return -EAGAIN;
    }
    return res == -EINTR ? -EAGAIN : res;
}

uint32_t conn_sent(struct conn *conn, uint32_t bytes)
{
    CHECK(bytes <= conn->flight_size);
    if (conn->flight == CONN_FLIGHT_SEALED) {
        conn_sealed_left(conn, bytes);
        return 0;
    }
    if (conn_is_tls(conn))
        crypt_sent(conn->crypt, bytes);
    if (conn->flight == CONN_FLIGHT_PREFACE) {
        conn_preface_left(conn, bytes);
        return 0;
    }
    return bytes;
}

void conn_shut(struct conn *conn)
{
    CHECK(!conn->send_flight && !conn->shut);
    conn->shut = true;
    (void)sock_shutdown_write(conn->fd);
}

/* The path */

void conn_said(struct conn *conn)
{
    conn->said = conn->loop->now;
}

void conn_answered(struct conn *conn)
{
    conn->rtt = conn->rtt_min = max_u64(conn->loop->now - conn->said, 1);
}

void conn_ponged(struct conn *conn, uint64_t sample)
{
    conn->rtt_min = conn->rtt_min == 0 ? sample : min_u64(conn->rtt_min, sample);
    conn->rtt = conn->rtt == 0 ? sample : (conn->rtt * 7 + sample) / 8; /* RFC 6298's alpha */
}

uint64_t conn_path_rtt(struct conn *conn)
{
    uint64_t now = conn->loop->now;

    if (now - conn->path_asked > LANE_PATH_NS) {
        uint64_t rtt = sock_path_rtt(conn->fd);

        conn->path_asked = now;
        conn->path_rtt = rtt != 0 ? rtt : conn->path_rtt;
    }
    return conn->rtt_min > LANE_CORE_NS ? max_u64(conn->path_rtt, conn->rtt_min) : conn->path_rtt;
}

bool conn_paces(struct conn *conn)
{
    if (conn->pacing == CONN_PACES_UNKNOWN && conn->fd >= 0)
        conn->pacing = sock_paces(conn->fd) ? CONN_PACES : CONN_PACES_NOT;
    return conn->pacing == CONN_PACES;
}

uint32_t conn_path_most(struct conn *conn)
{
    uint64_t now = conn->loop->now;

    if (now - conn->rate_asked > LANE_PATH_NS) {
        conn->rate_asked = now;
        conn->rate = sock_path_rate(conn->fd);
    }
    double most = (double)conn->rate * ((double)SPLICE_RATE_NS / NSEC_PER_SEC);
    return conn->rate == 0 || most > SPLICE_MOST ? SPLICE_MOST : (uint32_t)most;
}
