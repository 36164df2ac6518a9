/*
 * conn_crypt: TLS under the frames of a connection.
 *
 * Handshake. Received bytes gather in the raw buffer; the worker makes one step of one connection
 * per turn (worker_shake_hands), because a step may be a few hundred microseconds of public-key
 * arithmetic and the streams of other lanes must not wait for a storm of them. Nothing is read
 * while a step is due or while the last handshake bytes are on their way, so that no record is
 * taken from the socket before the kernel may want to (kTLS).
 *
 * User engine, receiving: records gather in the raw buffer, each is opened (in one pass over its
 * bytes) to the end of the lane's read buffer, where frames are parsed as on a plain lane. Frames
 * and records need not begin together. Sending: what waits is sealed, in the order of the wire,
 * from where it lies into the sealed buffer, records of 16 KiB. Sealing is the only pass over the
 * payload; the packs and big buffers are free at once, before the send is over. Rejected: sealing
 * in place, which needs a gap between every 16 KiB of a read (scattered reads into record-shaped
 * slots: 64 iovec entries per MiB) and pins the buffers until the send completes.
 *
 * Buffers. What is little is opened into and sealed into small buffers. When the big ones are gone
 * a connection must still get on, or those that hold them would wait for each other for ever:
 * sealing goes on in small buffers, opening in the worker's spare, of which nothing stays when the
 * frames in it are handled (streams copy while big buffers are low).
 *
 * Kernel engine: sends and reads are plain ones, but that reads ask for the type of the record, and
 * what is not data passes through crypt_control.
 */
#include "core/mux/conn.h"
#include "core/mux/conn_impl.h"

#include <string.h>

/* Bytes of records in one send: stays in the core's cache between sealing and sending. */
#define SEALED_MAX (256u * 1024u)
/* Slices that one record is made of. */
#define RECORD_SLICES 32u

/* Records that are not worth while: the rest of a buffer stays empty instead. */
#define RECORD_LEAST 1024u
CHECK_STATIC(BUF_SMALL_SIZE >= RECORD_LEAST + CRYPT_OVERHEAD + CRYPT_CONTROL,
             "a record fits into a small buffer");

/* A buffer to send from, for about `size` bytes. */
static bool conn_sealed_take(struct conn *conn, size_t size)
{
    struct buf_pool *bufs = &conn->loop->bufs;

    if (conn->sealed_buf == BUF_NONE && size > BUF_SMALL_SIZE)
        conn->sealed_buf = conn_take_big(conn);
    if (conn->sealed_buf == BUF_NONE)
        conn->sealed_buf = buf_take_small(bufs, conn->share);
    return conn->sealed_buf != BUF_NONE;
}

static uint32_t conn_sealed_room(const struct conn *conn)
{
    uint32_t size = min_u32(buf_size(conn->sealed_buf), SEALED_MAX);

    return size > conn->sealed_filled ? size - conn->sealed_filled : 0;
}

static uint8_t *conn_sealed_end(struct conn *conn)
{
    return buf_data(&conn->loop->bufs, conn->sealed_buf) + conn->sealed_filled;
}

static bool conn_sealed_waits(const struct conn *conn)
{
    return conn->sealed_sent < conn->sealed_filled;
}

/* So many bytes were written to conn_sealed_end. */
static void conn_sealed_add(struct conn *conn, size_t size)
{
    conn->sealed_filled += (uint32_t)size;
    CHECK(conn->sealed_filled <= buf_size(conn->sealed_buf));
}

static void conn_sealed_release(struct conn *conn)
{
    if (conn->sealed_buf != BUF_NONE)
        buf_put(&conn->loop->bufs, conn->sealed_buf);
    conn->sealed_buf = BUF_NONE;
    conn->sealed_sent = conn->sealed_filled = 0;
}

void conn_crypt_release(struct conn *conn)
{
    conn_sealed_release(conn);
    if (conn->crypt != NULL)
        crypt_close(conn->crypt);
    conn->crypt = NULL;
}

/* Handshake */

/* The first byte of a server's: true if it begins no TLS record (RFC 8446, 5.1; neither does a
 * frame with it, docs/PROTOCOL.md, section 2). What came is for the frames then. */
static bool conn_turns_plain(struct conn *conn, struct conn_rx *rx)
{
    const uint8_t *src = buf_data(&conn->loop->bufs, conn->raw.buf) + conn->raw.parsed;

    conn->phase = CONN_SHAKES;
    if (*src == CRYPT_TYPE_HANDSHAKE)
        return false;
    CHECK(rx->buf == BUF_NONE);
    *rx = conn->raw;
    conn->raw = (struct conn_rx){ .buf = BUF_NONE };
    conn->phase = CONN_PLAIN;
    conn_crypt_release(conn);
    return true;
}

/* False: no buffer for it. */
static bool conn_take_output(struct conn *conn)
{
    size_t size = crypt_output_size(conn->crypt);

    if (size == 0)
        return true;
    if (!conn_sealed_take(conn, size) || conn_sealed_room(conn) < size)
        return false;
    conn_sealed_add(conn, crypt_output(conn->crypt, conn_sealed_end(conn), size));
    return true;
}

/* Bytes behind the handshake are records: JOIN as a rule, for which there must be room when the big
 * buffers are gone. False: no buffer for them. */
static bool conn_take_leftover(struct conn *conn)
{
    struct buf_pool *bufs = &conn->loop->bufs;
    size_t size = crypt_leftover_size(conn->crypt);

    CHECK(conn->raw.buf == BUF_NONE && size <= BUF_BIG_SIZE); /* of what was read into one */
    if (size > 0 && size <= BUF_SMALL_SIZE)
        conn->raw.buf = buf_take_small(bufs, conn->share);
    if (size > 0 && conn->raw.buf == BUF_NONE && !conn_rx_room(conn, &conn->raw, BUF_BIG_SIZE))
        return false;
    if (size > 0)
        conn->raw.filled += (uint32_t)size;
    crypt_leftover(conn->crypt, size > 0 ? buf_data(bufs, conn->raw.buf) : NULL, size);
    return true;
}

static enum conn_step conn_stepped(struct conn *conn, enum crypt_step step)
{
    if (!conn_take_output(conn))
        return CONN_STEP_STARVED;
    switch (step) {
    case CRYPT_ASK:
        conn->phase = CONN_ASKS;
        return CONN_STEP_ASKS;
    case CRYPT_READY:
        if (!conn_take_leftover(conn))
            return CONN_STEP_STARVED;
        conn->phase = CONN_SHAKEN;
        return CONN_STEP_DONE;
    case CRYPT_FAILED:
        return CONN_STEP_FAILED;
    default:
        return CONN_STEP_WAITS;
    }
}

enum conn_step conn_shake(struct conn *conn)
{
    const uint8_t *raw = NULL;
    uint32_t size = conn->raw.filled - conn->raw.parsed;

    CHECK(conn->phase == CONN_SHAKES && !conn->recv_flight);
    if (conn->raw.buf != BUF_NONE)
        raw = buf_data(&conn->loop->bufs, conn->raw.buf) + conn->raw.parsed;
    enum crypt_step step = crypt_handshake(conn->crypt, raw, size);
    conn_rx_release(conn, &conn->raw);
    return conn_stepped(conn, step);
}

enum conn_step conn_answer(struct conn *conn, bool accept)
{
    CHECK(conn->phase == CONN_ASKS);
    conn->phase = CONN_SHAKES;
    return conn_stepped(conn, crypt_answer(conn->crypt, accept));
}

/* Engines */

bool conn_offload_waits(const struct conn *conn)
{
    return conn->phase == CONN_SEALED && crypt_offload_due(conn->crypt) &&
           conn->raw.parsed == conn->raw.filled && !conn->crypt_closed;
}

bool conn_offload(struct conn *conn)
{
    enum config_engine engine = conn->loop->config->record_engine;
    bool rx = conn->raw.parsed == conn->raw.filled;

    if (rx)
        conn_rx_release(conn, &conn->raw);
    return engine == CONFIG_ENGINE_USER ||
           crypt_offload(conn->crypt, conn->fd, rx, engine == CONFIG_ENGINE_KTLS);
}

bool conn_begin_sealed(struct conn *conn)
{
    CHECK(conn_is_through(conn));
    if (!conn_offload(conn))
        return false;
    conn->phase = CONN_SEALED;
    return true;
}

/* Receiving */

enum conn_read conn_read_opened(struct conn *conn, struct conn_rx *rx)
{
    struct loop *loop = conn->loop;

    if (rx->parsed == rx->filled)
        conn_rx_release(conn, rx);
    conn_rx_leave_big(conn, rx);
    if (rx->buf == BUF_NONE && !conn->rx_busy) {
        uint32_t buf = buf_take_small(&loop->bufs, conn->share);

        *rx = (struct conn_rx){ .buf = buf, .parsed = BUF_HEADROOM, .filled = BUF_HEADROOM };
    } else if (!conn_rx_room(conn, rx, CONN_RX_ROOM)) {
        return CONN_READ_STARVED;
    }
    if (rx->buf == BUF_NONE)
        return CONN_READ_STARVED;
    conn->rx_iov.iov_base = buf_data(&loop->bufs, rx->buf) + rx->filled;
    conn->rx_iov.iov_len = buf_size(rx->buf) - rx->filled;
    conn->rx_msg = (struct msghdr){ .msg_iov = &conn->rx_iov,
                                    .msg_iovlen = 1,
                                    .msg_control = conn->rx_control,
                                    .msg_controllen = sizeof(conn->rx_control) };
    conn->recv_flight = true;
    conn->recv_rx = rx;
    conn->recv_since = loop->now;
    ring_recvmsg(loop->ring, conn->ops.recv, conn->fd, &conn->rx_msg,
                 conn->dry ? RING_POLL_FIRST : 0);
    return buf_is_big(rx->buf) ? CONN_READ_BIG : CONN_READ_SMALL;
}

/* The last word to the peer: an alert. */
static void conn_break(struct conn *conn)
{
    uint8_t type;

    if (!conn_seals_here(conn) || !conn_sealed_take(conn, CRYPT_CONTROL) ||
        conn->sealed_filled + CRYPT_CONTROL > buf_size(conn->sealed_buf))
        return;
    conn_sealed_add(conn, crypt_put(conn->crypt, CRYPT_PUT_ALERT, conn_sealed_end(conn), &type));
    conn->crypt_ended = true;
}

static enum conn_got conn_take_opened(struct conn *conn, struct conn_rx *rx, uint32_t size)
{
    uint8_t type = crypt_recv_type(&conn->rx_msg);

    conn->heard = conn->loop->now;
    if (type == CRYPT_TYPE_DATA)
        return CONN_GOT_FRAMES;
    rx->filled -= size; /* not for the frames */
    uint8_t *payload = buf_data(&conn->loop->bufs, rx->buf) + rx->filled;
    switch (crypt_control(conn->crypt, type, payload, size)) {
    case CRYPT_BROKEN:
        conn_break(conn);
        return CONN_GOT_BROKEN;
    case CRYPT_CLOSED:
        conn->crypt_closed = true;
        return CONN_GOT_CONTROL;
    default:
        return CONN_GOT_CONTROL;
    }
}

enum conn_got conn_take(struct conn *conn, struct conn_rx *rx, uint32_t size)
{
    if (conn_is_tls(conn) && !conn_opens(conn))
        return conn_take_opened(conn, rx, size);
    if (conn->phase == CONN_SNIFFS && conn_turns_plain(conn, rx)) {
        conn->heard = conn->loop->now;
        return CONN_GOT_PLAIN;
    }
    if (conn->phase == CONN_PLAIN) {
        conn->heard = conn->loop->now;
        return CONN_GOT_FRAMES;
    }
    return conn->phase == CONN_SEALED ? CONN_GOT_RECORDS : CONN_GOT_SHAKE;
}

uint32_t conn_take_late(struct conn *conn, struct conn_rx *rx, uint32_t size)
{
    bool frames = !conn_opens(conn) &&
                  (!conn_is_tls(conn) || crypt_recv_type(&conn->rx_msg) == CRYPT_TYPE_DATA);

    if (!frames && conn->recv_rx == rx)
        rx->filled -= size;
    return frames ? size : 0;
}

bool conn_is_cut(const struct conn *conn)
{
    return conn->phase >= CONN_SHAKES && !crypt_eof(conn->crypt);
}

void conn_spare_leave(struct conn *conn)
{
    struct buf_pool *bufs = &conn->loop->bufs;
    uint32_t big = conn->spare->buf;

    if (buf_refs(bufs, big) == 1)
        return;
    /* Big buffers came back while frames were handled, and a stream referred to this one. */
    buf_charge(bufs, big, conn->share);
    buf_put(bufs, big);
    conn->spare->buf = BUF_NONE;
}

/* The worker's spare takes what waits in rx. False: it has become another buffer's reference, and
 * there is no big one in its place; or what waits lies in it already, behind what a stream refers
 * to. */
static bool conn_use_spare(struct conn *conn, struct conn_rx *rx)
{
    struct buf_pool *bufs = &conn->loop->bufs;
    uint32_t left = rx->filled - rx->parsed, spare = conn->spare->buf;

    if (spare == BUF_NONE || rx->buf == spare)
        return false;
    if (left > 0)
        memcpy(buf_data(bufs, spare), buf_data(bufs, rx->buf) + rx->parsed, left);
    conn_rx_release(conn, rx);
    *rx = (struct conn_rx){ .buf = spare, .parsed = 0, .filled = left };
    return true;
}

/* What is unparsed in the spare, less than a control frame, moves to a small buffer; while big
 * buffers are low also from one of the connection's own. */
bool conn_open_settle(struct conn *conn, struct conn_rx *rx, bool keep)
{
    struct buf_pool *bufs = &conn->loop->bufs;
    struct conn_spare *spare = conn->spare;
    uint32_t left = rx->filled - rx->parsed, big = rx->buf;
    bool good = true;

    if (big == BUF_NONE || !buf_is_big(big) ||
        (big != spare->buf && !buf_big_scarce(bufs, conn->share)))
        return true;
    if (left > BUF_SMALL_SIZE) { /* frames that wait for the next turn: the buffer is ours */
        buf_charge(bufs, big, conn->share);
        spare->buf = big == spare->buf ? BUF_NONE : spare->buf;
        return true;
    }
    if (left > 0 && keep)
        good = conn_rx_move_small(conn, rx);
    if (rx->buf == big)
        *rx = (struct conn_rx){ .buf = BUF_NONE };
    if (big == spare->buf)
        conn_spare_leave(conn);
    else
        buf_put(bufs, big);
    return good;
}

static bool conn_rx_fits(const struct conn_rx *rx, uint32_t want)
{
    return rx->buf != BUF_NONE && buf_size(rx->buf) - rx->filled >= want;
}

/* Room in rx for a record of `want` bytes. */
static bool conn_open_room(struct conn *conn, struct conn_rx *rx, uint32_t want)
{
    if (rx->parsed == rx->filled)
        conn_rx_release(conn, rx);
    if (rx->buf == BUF_NONE && !buf_is_big(conn->raw.buf)) /* what fits there fits here, too */
        rx->buf = buf_take_small(&conn->loop->bufs, conn->share);
    return conn_rx_fits(rx, want) || conn_rx_room(conn, rx, want) || conn_use_spare(conn, rx);
}

/* The next record, for which rx has room (`want`). *stop: it is not whole, or broken. Returns the
 * bytes of its payload. */
static uint32_t conn_open_one(struct conn *conn, struct conn_rx *rx, uint32_t want, bool *stop)
{
    struct buf_pool *bufs = &conn->loop->bufs;
    struct conn_rx *raw = &conn->raw;
    size_t used = 0, size = 0;
    uint8_t *src = buf_data(bufs, raw->buf) + raw->parsed;
    uint8_t *end = buf_data(bufs, raw->buf) + raw->filled, *dst = NULL;

    CHECK(want == 0 || conn_rx_fits(rx, want)); /* the payload is opened to there */
    if (want > 0)
        dst = buf_data(bufs, rx->buf) + rx->filled;
    enum crypt_opened opened = crypt_open_record(conn->crypt, src, end, dst, &used, &size);
    conn->crypt_broken = opened == CRYPT_BROKEN;
    *stop = opened == CRYPT_MORE || opened == CRYPT_BROKEN;
    if (*stop)
        return 0;
    CHECK(size <= want && used > 0 && used <= (size_t)(end - src));
    /* Not before: of a few bytes somebody on the path may have made the begin of a long record. */
    conn->heard = conn->loop->now;
    raw->parsed += (uint32_t)used;
    rx->filled += (uint32_t)size;
    if (opened == CRYPT_CLOSED)
        conn->crypt_closed = true;
    return (uint32_t)size;
}

enum conn_opened conn_open(struct conn *conn, struct conn_rx *rx, bool handled, uint64_t *count)
{
    struct loop *loop = conn->loop;
    const struct conn_rx *raw = &conn->raw;
    bool stop = false;

    if (conn->spare->buf == BUF_NONE)
        conn->spare->buf = buf_take_big(&loop->bufs, &loop->shares.pool);
    if (conn->crypt_broken) {
        conn_break(conn);
        return CONN_OPENED_BROKEN;
    }
    while (!stop && raw->parsed < raw->filled) {
        const uint8_t *src = buf_data(&loop->bufs, raw->buf) + raw->parsed;
        const uint8_t *end = buf_data(&loop->bufs, raw->buf) + raw->filled;
        uint32_t want = (uint32_t)crypt_record_room(src, end);

        if (want > 0 && !conn_rx_fits(rx, want)) {
            if (!handled && rx->parsed < rx->filled)
                return CONN_OPENED_MORE;
            if (!conn_open_room(conn, rx, want))
                return CONN_OPENED_STARVED;
        }
        *count += conn_open_one(conn, rx, want, &stop);
        handled = false;
    }
    return conn->crypt_broken ? CONN_OPENED_MORE : CONN_OPENED;
}

/* Sending */

/* Slices of one record of at most `most` bytes from conn->iov[*at], of which *skip bytes are used;
 * returns their bytes. */
static uint32_t conn_cut_record(struct conn *conn, unsigned count, unsigned *at, size_t *skip,
                                uint32_t most, struct iovec *slices, unsigned *n)
{
    uint32_t total = 0;

    *n = 0;
    while (*at < count && *n < RECORD_SLICES && total < most) {
        const struct iovec *iov = &conn->iov[*at];
        size_t size = min_size(iov->iov_len - *skip, most - total);

        slices[*n].iov_base = (uint8_t *)iov->iov_base + *skip;
        slices[(*n)++].iov_len = size;
        total += (uint32_t)size;
        *skip += size;
        if (*skip == iov->iov_len) {
            (*at)++;
            *skip = 0;
        }
    }
    return total;
}

/* Seals of the `count` pieces in conn->iov what there is room for. False: refused. */
static bool conn_seal_pieces(struct conn *conn, unsigned count, uint32_t *taken)
{
    struct iovec slices[RECORD_SLICES];
    unsigned at = 0, n = 0;
    size_t skip = 0;

    while (at < count && conn_sealed_room(conn) >= RECORD_LEAST + CRYPT_OVERHEAD) {
        uint32_t most = min_u32(CRYPT_PAYLOAD, conn_sealed_room(conn) - CRYPT_OVERHEAD);
        uint32_t bytes = conn_cut_record(conn, count, &at, &skip, most, slices, &n);
        size_t sealed = crypt_seal(conn->crypt, slices, n, conn_sealed_end(conn));

        if (sealed == 0)
            return false;
        CHECK(sealed > bytes);
        conn_sealed_add(conn, sealed);
        *taken += bytes;
    }
    return true;
}

/* What sealing the gathered pieces takes: exact for few bytes, for many it does not matter. */
static size_t conn_sealed_size(const struct conn *conn, unsigned count)
{
    size_t size = CRYPT_CONTROL + CRYPT_OVERHEAD + RECORD_LEAST;

    for (unsigned i = 0; i < count; i++)
        size += conn->iov[i].iov_len;
    return size;
}

enum conn_flow conn_seal(struct conn *conn, unsigned count, uint32_t *taken)
{
    CHECK(!conn_sealed_waits(conn) && !conn->crypt_ended);
    if (!conn_sealed_take(conn, conn_sealed_size(conn, count)))
        return CONN_STARVED;
    if (!conn_seal_pieces(conn, count, taken)) {
        conn->crypt_ended = true; /* the keys are used up; what was sealed may leave, uncounted */
        *taken = 0;
        return CONN_REFUSED;
    }
    conn_gate_sealed(conn);
    return CONN_BUSY;
}

/* A control record; through the kernel it carries its type beside it. FREE: there is none. */
static enum conn_flow conn_put(struct conn *conn, enum crypt_control what)
{
    bool kernel = crypt_tx_kernel(conn->crypt);

    CHECK(!conn_sealed_waits(conn));
    if (!conn_sealed_take(conn, CRYPT_CONTROL))
        return CONN_STARVED;
    conn_sealed_add(conn, crypt_put(conn->crypt, what, conn_sealed_end(conn), &conn->sealed_type));
    if (!conn_sealed_waits(conn)) {
        conn_sealed_release(conn);
        return CONN_FREE;
    }
    if (kernel)
        conn_gate_control(conn);
    else
        conn_gate_sealed(conn);
    return CONN_BUSY;
}

enum conn_flow conn_flush_sealed(struct conn *conn)
{
    if (conn_sealed_waits(conn)) {
        if (crypt_tx_kernel(conn->crypt))
            conn_gate_control(conn);
        else
            conn_gate_sealed(conn);
        return CONN_BUSY;
    }
    if (conn->crypt_ended || conn->phase < CONN_SHAKEN)
        return CONN_OVER;
    if (!crypt_update_due(conn->crypt))
        return CONN_FREE;
    enum conn_flow flow = conn_put(conn, CRYPT_PUT_UPDATE);
    /* The kernel seals without a buffer of ours, and there is time until the keys are used up. */
    return flow == CONN_STARVED && crypt_tx_kernel(conn->crypt) ? CONN_FREE : flow;
}

void conn_sealed_left(struct conn *conn, uint32_t bytes)
{
    conn->sealed_sent += bytes;
    CHECK(conn->sealed_sent <= conn->sealed_filled);
    if (conn->sealed_sent == conn->sealed_filled)
        conn_sealed_release(conn);
}

bool conn_rekey(struct conn *conn)
{
    bool good = conn->phase < CONN_SHAKEN || crypt_rekey(conn->crypt, conn->fd);

    conn->crypt_ended |= !good;
    return good;
}

bool conn_end(struct conn *conn)
{
    if (conn->crypt_ended || conn->phase < CONN_SHAKEN)
        return false;
    conn->crypt_ended = true;
    return conn_put(conn, CRYPT_PUT_CLOSE) == CONN_BUSY;
}
