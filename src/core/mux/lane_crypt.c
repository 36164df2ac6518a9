/*
 * lane_crypt: TLS under a lane's frames.
 *
 * Handshake. Received bytes gather in the raw buffer; the worker makes one step of one lane per
 * turn (worker.c, shake_hands), because a step may be a few hundred microseconds of public-key
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
 * a lane must still get on, or the lanes that hold them would wait for each other for ever: sealing
 * goes on in small buffers, opening in the worker's spare, of which nothing stays when the frames
 * in it are handled (streams copy while big buffers are low).
 *
 * Kernel engine: sends and reads are plain ones, but that reads ask for the type of the record, and
 * what is not data passes through crypt_control.
 */
#include "core/base/log.h"
#include "core/io/op.h"
#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

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
static bool sealed_take(struct lane *lane, size_t size)
{
    struct buf_pool *bufs = &lane->loop->bufs;

    if (lane->conn.sealed_buf == BUF_NONE && size > BUF_SMALL_SIZE)
        lane->conn.sealed_buf = lane_take_big(lane);
    if (lane->conn.sealed_buf == BUF_NONE)
        lane->conn.sealed_buf = buf_take_small(bufs, lane->share);
    return lane->conn.sealed_buf != BUF_NONE;
}

static uint32_t sealed_room(const struct lane *lane)
{
    uint32_t size = min_u32(buf_size(lane->conn.sealed_buf), SEALED_MAX);

    return size > lane->conn.sealed_filled ? size - lane->conn.sealed_filled : 0;
}

static uint8_t *sealed_end(struct lane *lane)
{
    return buf_data(&lane->loop->bufs, lane->conn.sealed_buf) + lane->conn.sealed_filled;
}

static bool sealed_waits(const struct lane *lane)
{
    return lane->conn.sealed_sent < lane->conn.sealed_filled;
}

static void sealed_release(struct lane *lane)
{
    if (lane->conn.sealed_buf != BUF_NONE)
        buf_put(&lane->loop->bufs, lane->conn.sealed_buf);
    lane->conn.sealed_buf = BUF_NONE;
    lane->conn.sealed_sent = lane->conn.sealed_filled = 0;
}

static void fail(struct lane *lane, enum reason reason)
{
    char why[512];

    strncpy(why, crypt_why(lane->conn.crypt), sizeof(why) - 1);
    why[sizeof(why) - 1] = '\0';
    if (!lane_freeze(lane, reason, why)) /* another connection has other keys */
        lane_finish(lane, reason, why);
}

/* Handshake */

static void queue_step(struct lane *lane)
{
    struct lane_table *table = lane->table;

    if (list_linked(&lane->stranger.step_node))
        return;
    if (lane->stranger.address != NULL)
        strangers_due(&table->strangers, &lane->stranger);
    else
        list_append(&table->shaking, &lane->stranger.step_node);
}

void lane_crypt_begin(struct lane *lane)
{
    lane_set_state(lane, LANE_TLS);
    if (!lane->conn.sniffs)
        queue_step(lane);
}

/* The first byte of a server's lane: true if it begins no TLS record (RFC 8446, 5.1; neither does a
 * frame with it, docs/PROTOCOL.md, section 2). What came is for the frames then. */
static bool turns_plain(struct lane *lane)
{
    const uint8_t *src = buf_data(&lane->loop->bufs, lane->conn.raw.buf) + lane->conn.raw.parsed;

    lane->conn.sniffs = false;
    if (*src == CRYPT_TYPE_HANDSHAKE)
        return false;
    CHECK(lane->rx.buf == BUF_NONE);
    lane->rx = lane->conn.raw;
    lane->conn.raw = (struct conn_rx){ .buf = BUF_NONE };
    lane->conn.tls = false;
    lane_crypt_release(lane);
    lane_set_state(lane, LANE_OPEN);
    return true;
}

/* A client's first connection; the others are like it, and a server says it with the log-in. */
static void log_summary(const struct lane *lane)
{
    bool first = !lane->table->role->opens_streams && lane->kind == SESSION_LANE_PRIMARY;

    if (first)
        log_at(LOG_INFO, lane_subject(lane), "%s", crypt_summary(lane->conn.crypt));
    else
        log_at(LOG_DEBUG, lane_subject(lane), "%s", crypt_summary(lane->conn.crypt));
}

/* Chooses the engines. Records that were read behind the handshake are opened here, and the kernel
 * receives when none is left. False: the lane ends. */
static bool offload(struct lane *lane)
{
    enum config_engine engine = lane->loop->config->record_engine;
    bool rx = lane->conn.raw.parsed == lane->conn.raw.filled;

    if (engine != CONFIG_ENGINE_USER &&
        !crypt_offload(lane->conn.crypt, lane->conn.fd, rx, engine == CONFIG_ENGINE_KTLS)) {
        fail(lane, REASON_TLS_FAILED);
        return false;
    }
    if (!crypt_offload_due(lane->conn.crypt))
        log_summary(lane);
    return true;
}

/* The handshake is over and its bytes have left: let frames flow. */
static void finish_handshake(struct lane *lane)
{
    struct loop *loop = lane->loop;
    struct lane_table *table = lane->table;

    if (!offload(lane))
        return;
    lane_set_state(lane, LANE_OPEN);
    /* A human may have been asked meanwhile; a stranger gets no more time. */
    if (!table->role->opens_streams)
        timer_set(&loop->timers, &lane->timer, loop->now + loop->config->handshake_timeout);
    if (table->role->lane_connected != NULL)
        table->role->lane_connected(lane, 0);
    if (lane->state == LANE_OPEN &&
        lane->conn.raw.parsed < lane->conn.raw.filled) /* behind the handshake */
        lane_arrive(lane);
    lane_mark(lane);
}

/* False: no buffer for it. */
static bool take_output(struct lane *lane)
{
    size_t size = crypt_output_size(lane->conn.crypt);

    lane_mark(lane);
    if (size == 0)
        return true;
    if (!sealed_take(lane, size) || sealed_room(lane) < size)
        return false;
    lane->conn.sealed_filled += (uint32_t)crypt_output(lane->conn.crypt, sealed_end(lane), size);
    return true;
}

/* Bytes behind the handshake are records: JOIN as a rule, for which there must be room when the big
 * buffers are gone. False: no buffer for them. */
static bool take_leftover(struct lane *lane)
{
    size_t size = crypt_leftover_size(lane->conn.crypt);

    if (size > 0 && size <= BUF_SMALL_SIZE)
        lane->conn.raw.buf = buf_take_small(&lane->loop->bufs, lane->share);
    if (size > 0 && lane->conn.raw.buf == BUF_NONE &&
        !lane_rx_room(lane, &lane->conn.raw, BUF_BIG_SIZE))
        return false;
    if (size > 0)
        lane->conn.raw.filled += (uint32_t)size;
    crypt_leftover(lane->conn.crypt,
                   size > 0 ? buf_data(&lane->loop->bufs, lane->conn.raw.buf) : NULL, size);
    return true;
}

static void stepped(struct lane *lane, enum crypt_step step)
{
    if (!take_output(lane)) {
        lane_finish(lane, REASON_LIMIT_BUFFERS, NULL);
        return;
    }
    switch (step) {
    case CRYPT_WANT:
        break;
    case CRYPT_ASK:
        lane->conn.crypt_asking = true;
        timer_stop(&lane->timer); /* a human may take longer */
        lane->table->role->lane_asks(lane, crypt_question(lane->conn.crypt));
        break;
    case CRYPT_READY:
        if (!take_leftover(lane)) {
            lane_finish(lane, REASON_LIMIT_BUFFERS, NULL);
            break;
        }
        lane->conn.crypt_ready = true;
        if (!sealed_waits(lane) && !lane->conn.send_flight)
            finish_handshake(lane);
        break;
    case CRYPT_FAILED:
        fail(lane, REASON_TLS_FAILED);
        break;
    }
}

void lane_crypt_step(struct lane *lane)
{
    const uint8_t *raw = NULL;
    uint32_t size = lane->conn.raw.filled - lane->conn.raw.parsed;

    CHECK(lane->state == LANE_TLS);
    if (lane->conn.raw.buf != BUF_NONE)
        raw = buf_data(&lane->loop->bufs, lane->conn.raw.buf) + lane->conn.raw.parsed;
    enum crypt_step step = crypt_handshake(lane->conn.crypt, raw, size);
    lane_rx_release(lane, &lane->conn.raw);
    stepped(lane, step);
}

void lane_answer(struct lane *lane, bool accept)
{
    struct loop *loop = lane->loop;

    if (lane->state != LANE_TLS || !lane->conn.crypt_asking)
        return;
    lane->conn.crypt_asking = false;
    timer_set(&loop->timers, &lane->timer, loop->now + loop->config->handshake_timeout);
    stepped(lane, crypt_answer(lane->conn.crypt, accept));
}

/* Receiving */

static void read_kernel(struct lane *lane)
{
    struct loop *loop = lane->loop;

    if (lane->rx.parsed == lane->rx.filled)
        lane_rx_release(lane, &lane->rx);
    lane_rx_leave_big(lane, &lane->rx);
    if (lane->rx.buf == BUF_NONE && !lane->conn.rx_busy) {
        uint32_t buf = buf_take_small(&loop->bufs, lane->share);
        lane->rx = (struct conn_rx){ .buf = buf, .parsed = BUF_HEADROOM, .filled = BUF_HEADROOM };
    } else if (!lane_rx_room(lane, &lane->rx, LANE_RX_ROOM)) {
        return;
    }
    if (lane->rx.buf == BUF_NONE) {
        lane_starve(lane);
        return;
    }
    lane->conn.rx_iov.iov_base = buf_data(&loop->bufs, lane->rx.buf) + lane->rx.filled;
    lane->conn.rx_iov.iov_len = buf_size(lane->rx.buf) - lane->rx.filled;
    lane->conn.rx_msg = (struct msghdr){ .msg_iov = &lane->conn.rx_iov,
                                         .msg_iovlen = 1,
                                         .msg_control = lane->conn.rx_control,
                                         .msg_controllen = sizeof(lane->conn.rx_control) };
    lane->conn.recv_flight = true;
    lane->conn.recv_rx = &lane->rx;
    if (buf_is_big(lane->rx.buf))
        lane_watch_read(lane);
    ring_recvmsg(loop->ring, lane_op(lane, LANE_OP_RECV, 0), lane->conn.fd, &lane->conn.rx_msg,
                 lane->conn.dry ? RING_POLL_FIRST : 0);
}

static enum reason broken(struct lane *lane)
{
    uint8_t type;

    log_at(LOG_WARN, lane_subject(lane), "%s", crypt_why(lane->conn.crypt));
    if (!crypt_tx_kernel(lane->conn.crypt) && sealed_take(lane, CRYPT_CONTROL) &&
        lane->conn.sealed_filled + CRYPT_CONTROL <= buf_size(lane->conn.sealed_buf)) {
        lane->conn.sealed_filled +=
            (uint32_t)crypt_put(lane->conn.crypt, CRYPT_PUT_ALERT, sealed_end(lane), &type);
        lane->conn.crypt_ended = true;
    }
    return REASON_TLS_FAILED;
}

/* The worker's spare takes what waits in rx. False: it has become another buffer's reference, and
 * there is no big one in its place. */
static bool use_spare(struct lane *lane)
{
    struct loop *loop = lane->loop;
    struct lane_table *table = lane->table;
    struct conn_rx *rx = &lane->rx;
    uint32_t left = rx->filled - rx->parsed;

    if (table->spare == BUF_NONE)
        return false;
    if (left > 0)
        memcpy(buf_data(&loop->bufs, table->spare), buf_data(&loop->bufs, rx->buf) + rx->parsed,
               left);
    lane_rx_release(lane, rx);
    *rx = (struct conn_rx){ .buf = table->spare, .parsed = 0, .filled = left };
    list_remove(&lane->starved_node);
    return true;
}

/* What is unparsed in the spare, less than a control frame, moves to a small buffer; while big
 * buffers are low also from one of the lane's own. */
static enum reason leave_big(struct lane *lane, enum reason reason)
{
    struct loop *loop = lane->loop;
    struct lane_table *table = lane->table;
    struct conn_rx *rx = &lane->rx;
    uint32_t left = rx->filled - rx->parsed, big = rx->buf;

    if (big == BUF_NONE || !buf_is_big(big) ||
        (big != table->spare && !buf_big_scarce(&loop->bufs, lane->share)))
        return reason;
    if (left > BUF_SMALL_SIZE) { /* frames that wait for the next turn: the buffer is the lane's */
        buf_charge(&loop->bufs, big, lane->share);
        table->spare = big == table->spare ? BUF_NONE : table->spare;
        return reason;
    }
    /* A lane that freezes goes on from here. */
    bool keep =
        left > 0 && (reason == REASON_DONE || reason == REASON_TLS_FAILED) && lane_takes(lane);
    if (keep && !lane_rx_move_small(lane, rx))
        reason = REASON_LIMIT_BUFFERS;
    if (rx->buf == big)
        *rx = (struct conn_rx){ .buf = BUF_NONE };
    if (big != table->spare) {
        buf_put(&loop->bufs, big);
    } else if (buf_refs(&loop->bufs, big) > 1) {
        /* Big buffers came back while frames were handled, and a stream referred to this one. */
        buf_charge(&loop->bufs, big, lane->share);
        buf_put(&loop->bufs, big);
        table->spare = BUF_NONE;
    }
    return reason;
}

static bool rx_fits(const struct conn_rx *rx, uint32_t want)
{
    return rx->buf != BUF_NONE && buf_size(rx->buf) - rx->filled >= want;
}

/* Room in rx for a record of `want` bytes. False: the lane is starved. */
static bool rx_room(struct lane *lane, uint32_t want)
{
    struct conn_rx *rx = &lane->rx;

    if (rx->parsed == rx->filled)
        lane_rx_release(lane, rx);
    if (rx->buf == BUF_NONE && !buf_is_big(lane->conn.raw.buf)) /* what fits there fits here, too */
        rx->buf = buf_take_small(&lane->loop->bufs, lane->share);
    return rx_fits(rx, want) || lane_rx_room(lane, rx, want) || use_spare(lane);
}

/* The next record, for which rx has room (`want`). *stop: it is not whole, or broken. */
static void open_one(struct lane *lane, uint32_t want, bool *stop)
{
    struct buf_pool *bufs = &lane->loop->bufs;
    struct conn_rx *raw = &lane->conn.raw, *rx = &lane->rx;
    size_t used = 0, size = 0;
    uint8_t *src = buf_data(bufs, raw->buf) + raw->parsed;
    uint8_t *end = buf_data(bufs, raw->buf) + raw->filled, *dst = NULL;

    if (want > 0)
        dst = buf_data(bufs, rx->buf) + rx->filled;
    enum crypt_opened opened = crypt_open_record(lane->conn.crypt, src, end, dst, &used, &size);
    lane->conn.crypt_broken = opened == CRYPT_BROKEN;
    *stop = opened == CRYPT_MORE || opened == CRYPT_BROKEN;
    if (*stop)
        return;
    CHECK(size <= want);
    /* Not before: of a few bytes somebody on the path may have made the begin of a long record. */
    lane->conn.heard = lane->loop->now;
    raw->parsed += (uint32_t)used;
    rx->filled += (uint32_t)size;
    lane->rx_bytes += size;
    if (opened == CRYPT_CLOSED)
        lane->conn.crypt_closed = true;
}

enum reason lane_crypt_open(struct lane *lane, bool handled, bool *more)
{
    struct loop *loop = lane->loop;
    struct lane_table *table = lane->table;
    const struct conn_rx *raw = &lane->conn.raw, *rx = &lane->rx;
    bool stop = false;

    if (table->spare == BUF_NONE)
        table->spare = buf_take_big(&loop->bufs, &loop->shares.pool);
    if (lane->conn.crypt_broken)
        return broken(lane);
    while (!stop && raw->parsed < raw->filled) {
        const uint8_t *src = buf_data(&loop->bufs, raw->buf) + raw->parsed;
        const uint8_t *end = buf_data(&loop->bufs, raw->buf) + raw->filled;
        uint32_t want = (uint32_t)crypt_record_room(src, end);

        if (want > 0 && !rx_fits(rx, want)) {
            *more = !handled && rx->parsed < rx->filled;
            if (*more || !rx_room(lane, want))
                return REASON_DONE;
        }
        open_one(lane, want, &stop);
        handled = false;
    }
    *more = lane->conn.crypt_broken;
    return REASON_DONE;
}

enum reason lane_crypt_settle(struct lane *lane, enum reason reason)
{
    return leave_big(lane, reason);
}

void lane_crypt_read(struct lane *lane)
{
    if (lane->state == LANE_TLS && (lane->conn.crypt_ready || lane->conn.crypt_asking ||
                                    list_linked(&lane->stranger.step_node)))
        return;
    if (lane->state == LANE_OPEN && crypt_offload_due(lane->conn.crypt) &&
        lane->conn.raw.parsed == lane->conn.raw.filled && !lane->conn.crypt_closed) {
        lane_rx_release(lane, &lane->conn.raw);
        if (!offload(lane))
            return;
    }
    if (list_linked(&lane->starved_node))
        return;
    if (lane->state != LANE_TLS && crypt_rx_kernel(lane->conn.crypt))
        read_kernel(lane);
    else
        lane_rx_read(lane, &lane->conn.raw);
}

bool lane_crypt_is_data(struct lane *lane)
{
    return !crypt_rx_kernel(lane->conn.crypt) ||
           crypt_recv_type(&lane->conn.rx_msg) == CRYPT_TYPE_DATA;
}

static enum reason received_kernel(struct lane *lane, uint32_t size)
{
    uint8_t type = crypt_recv_type(&lane->conn.rx_msg);

    lane->conn.heard = lane->loop->now;
    if (type == CRYPT_TYPE_DATA) {
        lane->rx_bytes += size;
        lane_arrive(lane);
        return REASON_DONE;
    }
    lane->rx.filled -= size; /* not for the frames */
    uint8_t *payload = buf_data(&lane->loop->bufs, lane->rx.buf) + lane->rx.filled;
    switch (crypt_control(lane->conn.crypt, type, payload, size)) {
    case CRYPT_BROKEN:
        return broken(lane);
    case CRYPT_CLOSED:
        lane->conn.crypt_closed = true;
        return REASON_DONE;
    default:
        lane_mark(lane);
        return REASON_DONE;
    }
}

enum reason lane_crypt_received(struct lane *lane, uint32_t size)
{
    if (lane->state != LANE_TLS && crypt_rx_kernel(lane->conn.crypt))
        return received_kernel(lane, size);
    if (lane->conn.sniffs && turns_plain(lane))
        lane_rx_plain(lane, size);
    else if (lane->state == LANE_TLS)
        queue_step(lane);
    else
        lane_arrive(lane);
    return REASON_DONE;
}

/* Sending */

/* Slices of one record of at most `most` bytes from lane->conn.iov[*at], of which *skip bytes are
 * used; returns their bytes. */
static uint32_t cut_record(struct lane *lane, unsigned count, unsigned *at, size_t *skip,
                           uint32_t most, struct iovec *slices, unsigned *n)
{
    uint32_t total = 0;

    *n = 0;
    while (*at < count && *n < RECORD_SLICES && total < most) {
        const struct iovec *iov = &lane->conn.iov[*at];
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

/* Seals of the `count` slices in lane->conn.iov what there is room for. False: refused, the lane
 * must close. */
static bool seal_waiting(struct lane *lane, unsigned count)
{
    struct iovec slices[RECORD_SLICES];
    unsigned at = 0, n = 0;
    size_t skip = 0;
    uint32_t total = 0;
    uint8_t type;

    if (crypt_update_due(lane->conn.crypt))
        lane->conn.sealed_filled +=
            (uint32_t)crypt_put(lane->conn.crypt, CRYPT_PUT_UPDATE, sealed_end(lane), &type);
    while (at < count && sealed_room(lane) >= RECORD_LEAST + CRYPT_OVERHEAD) {
        uint32_t most = min_u32(CRYPT_PAYLOAD, sealed_room(lane) - CRYPT_OVERHEAD);
        uint32_t bytes = cut_record(lane, count, &at, &skip, most, slices, &n);
        size_t sealed = crypt_seal(lane->conn.crypt, slices, n, sealed_end(lane));

        if (sealed == 0)
            return false;
        lane->conn.sealed_filled += (uint32_t)sealed;
        total += bytes;
    }
    if (total > 0)
        lane_tx_left(lane, total);
    return true;
}

/* Control records through the kernel carry their type beside them. False: there is none to send, or
 * no buffer. */
static bool put_kernel(struct lane *lane, enum crypt_control what)
{
    if (!sealed_take(lane, CRYPT_CONTROL))
        return false;
    size_t size =
        crypt_put(lane->conn.crypt, what, buf_data(&lane->loop->bufs, lane->conn.sealed_buf),
                  &lane->conn.sealed_type);
    if (size == 0) {
        sealed_release(lane);
        return false;
    }
    lane->conn.sealed_sent = 0;
    lane->conn.sealed_filled = (uint32_t)size;
    lane_gate_control(lane);
    return true;
}

/* What sealing the gathered slices takes: exact for few bytes, for many it does not matter. */
static size_t sealed_size(const struct lane *lane, unsigned count)
{
    size_t size = CRYPT_CONTROL + CRYPT_OVERHEAD + RECORD_LEAST;

    for (unsigned i = 0; i < count; i++)
        size += lane->conn.iov[i].iov_len;
    return size;
}

/* What waits cannot be sealed any more, and must not go out plain: nothing but our FIN follows. The
 * lane is over, so nobody resumes by the count of what is dropped here. */
static void drop_rest(struct lane *lane)
{
    CHECK(lane->state == LANE_LINGER);
    lane_tx_release(lane);
}

/* The keys are used up, or cannot be changed. */
static void end_sealing(struct lane *lane)
{
    lane->conn.crypt_ended = true;
    fail(lane, REASON_TLS_FAILED);
}

bool lane_crypt_flush(struct lane *lane)
{
    if (sealed_waits(lane)) {
        if (crypt_tx_kernel(lane->conn.crypt))
            lane_gate_control(lane);
        else
            lane_gate_sealed(lane);
        return true;
    }
    if (lane->state == LANE_TLS)
        return true;
    if (lane->conn.crypt_ended || !lane->conn.crypt_ready) {
        drop_rest(lane);
        return false;
    }
    if (crypt_tx_kernel(lane->conn.crypt))
        return crypt_update_due(lane->conn.crypt) && put_kernel(lane, CRYPT_PUT_UPDATE);
    if (lane_tx_empty(lane) && !crypt_update_due(lane->conn.crypt))
        return false;
    unsigned count = lane_tx_gather(lane);
    if (!sealed_take(lane, sealed_size(lane, count))) {
        lane_starve(lane);
        return true;
    }
    if (!seal_waiting(lane, count)) {
        end_sealing(lane);
        return true;
    }
    if (!sealed_waits(lane)) {
        sealed_release(lane);
        return false;
    }
    lane_gate_sealed(lane);
    return true;
}

void lane_crypt_sent(struct lane *lane, uint32_t bytes)
{
    if (!lane->conn.flight_sealed) {
        crypt_sent(lane->conn.crypt, bytes);
        lane_tx_left(lane, bytes);
        return;
    }
    lane->conn.flight_sealed = false;
    lane->conn.sealed_sent += bytes;
    if (lane->conn.sealed_sent == lane->conn.sealed_filled)
        sealed_release(lane);
    lane_tx_wake(lane); /* who found no buffer while it was on its way */
    lane_mark(lane);
    if (lane->state == LANE_TLS && lane->conn.crypt_ready && !sealed_waits(lane))
        finish_handshake(lane);
    else if (lane->conn.crypt_ready && !crypt_rekey(lane->conn.crypt, lane->conn.fd))
        end_sealing(lane);
}

bool lane_crypt_end(struct lane *lane)
{
    uint8_t type;

    if (lane->conn.crypt_ended || !lane->conn.crypt_ready)
        return false;
    lane->conn.crypt_ended = true;
    if (crypt_tx_kernel(lane->conn.crypt))
        return put_kernel(lane, CRYPT_PUT_CLOSE);
    if (!sealed_take(lane, CRYPT_CONTROL))
        return false;
    lane->conn.sealed_filled +=
        (uint32_t)crypt_put(lane->conn.crypt, CRYPT_PUT_CLOSE, sealed_end(lane), &type);
    if (!sealed_waits(lane))
        return false;
    lane_gate_sealed(lane);
    return true;
}

void lane_crypt_release(struct lane *lane)
{
    sealed_release(lane);
    if (lane->conn.crypt != NULL)
        crypt_close(lane->conn.crypt);
    lane->conn.crypt = NULL;
}
