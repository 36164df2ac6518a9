/* relay: see relay.h. */
#include "core/relay.h"

#include "core/frame.h"
#include "core/lane.h"
#include "core/log.h"
#include "core/op.h"
#include "core/session.h"
#include "core/worker.h"

#include <errno.h>

/* A send of at most this much tries without waiting first, since it can be copied cheaply if the
 * socket does not take it. */
#define TRY_FIRST (16u * 1024u)
/* A bulk read that brings nothing for this long gives its buffer back. */
#define BULK_QUIET (200 * NSEC_PER_MSEC)
/* A send that is over sooner than this shows that the local socket is not slow. */
#define SLOW_NS (10 * NSEC_PER_MSEC)
/* What a small pack certainly takes when it is empty. */
#define SMALL_PIECE (BUF_SMALL_SIZE / 2)
/* Zero copy starts to pay somewhere above this (page pinning and a second completion against a
 * copy). */
#define ZC_MIN (64u * 1024u)
/* Who has not used its window for so long is at rest; so many are looked at for one that wants to
 * grow. */
#define WINDOW_REST_NS NSEC_PER_SEC
#define WIDE_LOOKS     8u
/* Of reads that wait for their owner's share so many are asked for at a time. */
#define SHORT_ASKED 4096u

enum { ZC_UNDECIDED, ZC_ON, ZC_OFF };

/* Up: local socket -> lane */

/* How much a bulk read asks for: all of a big buffer for few streams, less for many, so that what
 * is read is still in the cache when it is sent. */
static uint32_t bulk_share(const struct worker *w)
{
    uint32_t share = BULK_CACHE / (w->bulk_streams + 1);

    return share < BULK_READ_MIN ? BULK_READ_MIN : min_u32(share, BUF_BIG_PAYLOAD);
}

static void set_bulk(struct stream *s, bool bulk)
{
    if (s->bulk == bulk)
        return;
    s->bulk = bulk;
    s->worker->bulk_streams += bulk ? 1u : -1u;
}

/* Reads no more until its owner holds less. */
static void wait_for_share(struct stream *s)
{
    s->starved = true;
    lane_line_leave(s);
    list_append(&s->worker->short_streams, &s->wait_node);
}

static void relay_recv(struct stream *s)
{
    struct worker *w = s->worker;
    unsigned flags = s->dry ? RING_POLL_FIRST : 0;

    if (!share_may(s->share, SHARE_SMALL, 1)) {
        wait_for_share(s);
        return;
    }
    s->recv_buf = s->bulk && !share_sparing(s->share, SHARE_BIG) ? buf_take_bulk(&w->bufs, s->share)
                                                                 : BUF_NONE;
    if (s->recv_buf != BUF_NONE) {
        uint32_t size = min_u32(bulk_share(w), min_u32(s->tx.credit, s->lane->peer_max_data));

        ring_recv(w->ring, op_pack(OP_STREAM_RECV, s->slot, s->generation, s->recv_buf), s->fd,
                  buf_data(&w->bufs, s->recv_buf) + BUF_HEADROOM, size, flags);
        worker_count(w, STAT_BULK_READS, 1);
        s->recv_since = w->now;
        list_append(&w->bulk_reads, &s->sweep_node);
        if (!timer_is_set(&w->sweep_timer))
            timer_set(&w->timers, &w->sweep_timer, w->now + BULK_QUIET);
    } else {
        ring_recv_provided(w->ring, op_pack(OP_STREAM_RECV, s->slot, s->generation, BUF_NONE),
                           s->fd, flags);
    }
    s->flight |= STREAM_RECV;
}

/* EOF on the local socket: v2 says so at once, v1 when the rule of docs/PROTOCOL.md allows (see
 * pump_v1_end). */
static void recv_eof(struct stream *s)
{
    s->ends |= STREAM_UP_EOF;
    s->heard = s->worker->now;
    stream_mark(s);
}

static void recv_failed(struct stream *s, int error)
{
    struct worker *w = s->worker;

    if (error == -ENOBUFS) {
        worker_count(w, STAT_STARVED_SMALL, 1);
        s->starved = true;
        lane_line_leave(s);
        list_append(&w->starved_streams, &s->wait_node);
        return;
    }
    if (error == -ECANCELED || error == -EINTR || error == -EAGAIN) {
        set_bulk(s, false); /* swept, or to be tried again: waits in a small buffer */
        stream_mark(s);
        return;
    }
    s->ends |= STREAM_UP_RST;
    stream_mark(s);
}

static void recv_data(struct stream *s, uint32_t buf, uint32_t size, bool more)
{
    bool big = buf_is_big(buf);

    s->held = buf;
    s->held_offset = BUF_HEADROOM;
    s->held_size = size;
    s->heard = s->worker->now;
    s->dry = !more && size < (big ? BULK_READ_MIN / 2 : BUF_SMALL_PAYLOAD);
    set_bulk(s, size >= (big ? BUF_SMALL_SIZE : BUF_SMALL_PAYLOAD));
    stream_mark(s);
}

void relay_recv_done(struct worker *w, const struct ring_cqe *cqe)
{
    struct stream *s = stream_from_op(w, op_unpack(cqe->user_data).slot);
    uint32_t buf = s->recv_buf;

    CHECK((s->flight & STREAM_RECV) != 0);
    s->flight &= (uint8_t)~STREAM_RECV;
    s->recv_buf = BUF_NONE;
    if (buf != BUF_NONE && s->state != STREAM_CLOSING)
        list_remove(&s->sweep_node);
    if ((cqe->flags & RING_CQE_BUFFER) != 0) {
        buf = cqe->buffer;
        buf_provided_taken(&w->bufs, buf, s->share);
    }
    if (s->state != STREAM_CLOSING && cqe->res > 0) {
        recv_data(s, buf, (uint32_t)cqe->res, (cqe->flags & RING_CQE_NONEMPTY) != 0);
        if (buf_small_low(&w->bufs) && share_over(s->share, SHARE_SMALL))
            stream_refuse_buffers(s);
        return;
    }
    if (buf != BUF_NONE)
        buf_put(&w->bufs, buf);
    if (s->state == STREAM_CLOSING) {
        if (cqe->res == 0)
            s->ends |= STREAM_UP_EOF; /* for stream_join */
        stream_mark(s);
        return;
    }
    if (cqe->res == 0 && (s->ends & STREAM_DOWN_DEAD) != 0)
        recv_failed(s, -ECONNRESET); /* the send was told of the reset, the read sees its end */
    else if (cqe->res == 0)
        recv_eof(s);
    else
        recv_failed(s, cqe->res);
}

static void wait_for_room(struct stream *s, enum lane_line_kind line)
{
    s->refused = line; /* relay_pump puts it there */
    lane_log_wait(s->lane);
}

static void count_up(struct stream *s, uint32_t size)
{
    if (s->lane->version != FRAME_V1)
        window_tx_take(&s->tx, size);
    s->bytes_up += size;
    s->tunnel->to_lane += size;
    worker_count(s->worker, STAT_BYTES_UP, size);
}

/* A stream that has outlived its lane has no tunnel any more. */
static void count_down(struct stream *s, uint32_t size)
{
    if (s->tunnel != NULL)
        s->tunnel->from_lane += size;
    worker_count(s->worker, STAT_BYTES_DOWN, size);
}

static struct frame data_frame(const struct stream *s, uint32_t size, bool fin)
{
    return (struct frame){
        .kind = FRAME_DATA, .flags = fin ? FRAME_FLAG_FIN : 0, .stream = s->wire_id, .length = size
    };
}

/* Frames the held bytes in place, header in front. */
static bool send_bulk(struct stream *s, uint32_t size)
{
    struct lane *lane = s->lane;
    uint32_t header = (uint32_t)frame_header_size(lane->version);
    struct frame frame = data_frame(s, size, false);

    if (!lane_bulk_room(lane)) {
        wait_for_room(s, LANE_LINE_BULK);
        return false;
    }
    CHECK(size == s->held_size && s->held_offset >= BUF_HEADROOM);
    frame_put(lane->version, buf_data(&s->worker->bufs, s->held) + s->held_offset - header, &frame);
    s->bulk_pending += size + header;
    buf_charge(&s->worker->bufs, s->held, lane->share); /* which may keep it in its log */
    lane_bulk_push(lane, s, s->held, s->held_offset - header, size + header);
    s->held = BUF_NONE;
    lane_line_served(s);
    count_up(s, size);
    return true;
}

static bool send_small(struct stream *s, uint32_t size)
{
    struct lane *lane = s->lane;
    struct buf_pool *bufs = &s->worker->bufs;
    bool full = lane_log_full(lane);
    uint8_t *p = full ? NULL : lane_data_begin(lane, size + FRAME_HEADER_MAX + LANE_OPEN_RESERVE);

    /* Big buffers are short: the pack is a small one. */
    if (p == NULL && !full && size > SMALL_PIECE) {
        size = SMALL_PIECE;
        p = lane_data_begin(lane, size + FRAME_HEADER_MAX + LANE_OPEN_RESERVE);
    }
    struct frame frame = data_frame(s, size, false);
    if (p == NULL) {
        wait_for_room(s, LANE_LINE_DATA);
        return false;
    }
    p = frame_put(lane->version, p, &frame);
    memcpy(p, buf_data(bufs, s->held) + s->held_offset, size);
    lane_data_end(lane, p + size);
    count_up(s, size);
    s->held_offset += size;
    s->held_size -= size;
    if (s->held_size == 0) {
        buf_put(bufs, s->held);
        s->held = BUF_NONE;
    }
    return true;
}

/* True when nothing is held any more. */
static bool send_held(struct stream *s)
{
    while (s->held != BUF_NONE) {
        uint32_t size = min_u32(s->held_size, min_u32(s->tx.credit, s->lane->peer_max_data));
        /* Small data behind bulk of the same stream must not overtake it: it stands in line as
         * bulk, if it goes in one piece. */
        bool whole = size == s->held_size;

        if (size == 0)
            return false; /* WINDOW marks the stream */
        if (buf_is_big(s->held) && size >= BUF_SMALL_SIZE && whole) {
            if (!send_bulk(s, size))
                return false;
        } else if (s->bulk_pending > 0) {
            return false; /* lane_send_done marks the stream */
        } else if (!send_small(s, min_u32(size, BUF_SMALL_SIZE))) {
            return false;
        }
    }
    return true;
}

static void send_fin(struct stream *s)
{
    struct lane *lane = s->lane;
    struct frame frame = data_frame(s, 0, true);

    if (s->bulk_pending > 0)
        return; /* lane_send_done marks the stream */
    uint8_t *p = lane_data_begin(lane, FRAME_HEADER_MAX);
    if (p == NULL) {
        wait_for_room(s, LANE_LINE_DATA);
        return;
    }
    lane_data_end(lane, frame_put(lane->version, p, &frame));
    s->ends |= STREAM_UP_FIN;
    s->fin_at = lane_data_mark(lane);
}

/* v1 has no half-close: StreamClose ends both directions, so it is said when both have ended, or
 * when the local side has and the other direction has been quiet for long enough
 * (docs/PROTOCOL.md). */
static void pump_v1_end(struct stream *s)
{
    struct worker *w = s->worker;
    bool server = w->role->opens_streams;
    bool up = (s->ends & STREAM_UP_EOF) != 0, down = (s->ends & STREAM_DOWN_SHUT) != 0;
    uint64_t quiet;

    if (server && down) {
        stream_close(s, REASON_V1_CLOSED,
                     false); /* a v1 client's StreamClose ends both, and all is delivered */
        return;
    }
    if ((!up && !down) || s->queued > 0 || s->held != BUF_NONE || s->bulk_pending > 0)
        return;
    if (server || !up)
        quiet = V1_VISITOR_EOF_QUIET_NS;
    else
        quiet = down ? V1_CLOSE_GAP_NS : V1_ORIGIN_EOF_QUIET_NS;
    if (w->phase != WORKER_RUNNING)
        quiet = min_u64(
            quiet,
            V1_ORIGIN_EOF_QUIET_NS); /* a drain does not wait for those who may never come back */
    if (w->now >= s->heard + quiet)
        stream_close(s, REASON_DONE, true);
    else if (!timer_is_set(&s->timer) || s->timer.due > s->heard + quiet)
        timer_set(&w->timers, &s->timer, s->heard + quiet);
}

/* The local peer reset, and what it may have said before finds no credit: the far side, which may
 * have ended the same way, need never give any. */
static bool is_stuck(const struct stream *s)
{
    return (s->ends & STREAM_DOWN_DEAD) != 0 && s->tx.credit == 0 && (s->flight & STREAM_RECV) == 0;
}

static void pump_up(struct stream *s)
{
    if ((s->ends & STREAM_DOWN_RST) != 0)
        return;
    bool all_sent = send_held(s);
    if (is_stuck(s)) {
        if (s->bulk_pending == 0) /* otherwise lane_send_done marks the stream */
            stream_close(s, REASON_PEER_RESET, true);
        return;
    }
    if (!all_sent)
        return;
    if ((s->ends & STREAM_UP_RST) != 0) {
        if (s->bulk_pending == 0)
            stream_close(s, REASON_PEER_RESET, true);
        return;
    }
    if ((s->ends & STREAM_UP_EOF) != 0) {
        if ((s->ends & STREAM_UP_FIN) == 0 && s->lane->version != FRAME_V1)
            send_fin(s);
        return;
    }
    if ((s->flight & STREAM_RECV) == 0 && s->tx.credit > 0 && !s->starved &&
        s->bulk_pending < STREAM_BULK_PENDING)
        relay_recv(s);
}

/* Down: lane -> local socket */

static bool zc_wanted(struct stream *s, const struct slice *slice)
{
    if (s->zc == ZC_OFF || slice->size < ZC_MIN || !buf_is_big(slice->buf))
        return false;
    if (s->zc == ZC_UNDECIDED) {
        union sock_addr peer;

        (void)sock_peer(s->fd, &peer);
        bool local = sock_addr_is_loopback(&peer) && s->worker->config->zero_copy != CONFIG_ON;
        s->zc = ring_features()->send_zc && !local ? ZC_ON : ZC_OFF;
    }
    return s->zc == ZC_ON;
}

static void send_zc(struct stream *s, const struct slice *slice, uint64_t user_data)
{
    struct worker *w = s->worker;
    int index = buf_fixed_index(&w->bufs, w->ring, slice->buf);
    const uint8_t *data = buf_data(&w->bufs, slice->buf) + slice->offset;

    buf_ref(&w->bufs, slice->buf); /* put by the notification */
    s->zc_pending++;
    s->sending_zc = true;
    worker_count(w, STAT_ZC_SENDS, 1);
    if (index >= 0)
        ring_send_fixed(w->ring, user_data, s->fd, data, slice->size, (unsigned)index,
                        RING_WAITALL);
    else
        ring_send(w->ring, user_data, s->fd, data, slice->size, RING_WAITALL | RING_ZC);
}

/* What goes out in one send: the first slice, and behind it those that pin no other buffer of a
 * lane, since they lie in the same one or have one to themselves. */
static unsigned gather(struct stream *s, struct iovec iov[RING_PIECES])
{
    struct worker *w = s->worker;
    uint32_t pinned = BUF_NONE;
    unsigned count = 0;

    for (uint32_t index = s->head; index != SLAB_NONE && count < RING_PIECES;) {
        const struct slice *slice = slab_at(&w->slices, index);
        bool alone = !buf_is_big(slice->buf) && buf_refs(&w->bufs, slice->buf) == 1;

        if (!alone && pinned != BUF_NONE && pinned != slice->buf)
            break;
        if (count > 0 && zc_wanted(s, slice))
            break;
        pinned = alone ? pinned : slice->buf;
        iov[count++] = (struct iovec){ .iov_base = buf_data(&w->bufs, slice->buf) + slice->offset,
                                       .iov_len = slice->size };
        s->sending += slice->size;
        index = slice->next;
    }
    return count;
}

static void relay_send(struct stream *s)
{
    struct worker *w = s->worker;
    const struct slice *slice = slab_at(&w->slices, s->head);
    uint64_t user_data = op_pack(OP_STREAM_SEND, s->slot, s->generation, slice->buf);
    struct iovec iov[RING_PIECES];

    s->flight |= STREAM_SEND;
    s->send_since = w->now;
    if (zc_wanted(s, slice)) {
        s->sending = slice->size;
        s->pieces = 1;
        s->sending_all = true;
        send_zc(s, slice, user_data);
        return;
    }
    unsigned count = gather(s, iov);
    CHECK(count > 0);
    CHECK_STATIC(RING_PIECES <= UINT8_MAX, "stream.pieces");
    s->pieces = (uint8_t)count;
    s->sending_all = s->sending > TRY_FIRST || s->blocked;
    unsigned flags = s->sending_all ? RING_WAITALL : RING_DONTWAIT;
    if (count == 1)
        ring_send(w->ring, user_data, s->fd, iov[0].iov_base, iov[0].iov_len, flags);
    else
        ring_send_pieces(w->ring, user_data, s->fd, iov, count, flags);
}

static void send_blocked(struct stream *s)
{
    s->blocked = true;
    if (!stream_compact(s)) {
        stream_refuse_buffers(s);
        return;
    }
    stream_mark(s);
}

static void send_complete(struct stream *s)
{
    if (s->worker->now - s->send_since < SLOW_NS)
        s->blocked = false;
    stream_mark(s);
}

/* A notification, or a send that will have none: the reference of the zero-copy send goes. */
static void zc_release(struct stream *s, uint32_t buf, unsigned flags)
{
    CHECK(s->zc_pending > 0);
    s->zc_pending--;
    buf_put(&s->worker->bufs, buf);
    if (s->state == STREAM_CLOSING)
        stream_mark(s);
    if ((flags & RING_CQE_COPIED) == 0)
        return;
    if (s->zc_void > 0) {
        s->zc_void--;
        return;
    }
    worker_count(s->worker, STAT_ZC_COPIED, 1);
    if (s->worker->config->zero_copy != CONFIG_ON)
        s->zc = ZC_OFF;
}

/* The result of a zero-copy send. The report of one that moved nothing will say "copied"
 * (tests/kernel/test_zero_copy.c): so many of those count for nothing. */
static void zc_result(struct stream *s, uint32_t buf, const struct ring_cqe *cqe)
{
    if ((cqe->flags & RING_CQE_MORE) == 0)
        zc_release(s, buf, 0); /* failed before it was one: no notification comes */
    else if (cqe->res <= 0)
        s->zc_void++;
}

/* The local peer reset the connection: what it sent before may still lie in the socket, and the end
 * that a read sees then is no FIN. */
static void send_reset(struct stream *s)
{
    s->ends |= STREAM_DOWN_DEAD;
    stream_rx_drop(s);
    if ((s->ends & (STREAM_UP_EOF | STREAM_DOWN_RST)) != 0)
        stream_close(s, REASON_PEER_RESET, (s->ends & STREAM_DOWN_RST) == 0);
    else
        stream_mark(s);
}

static void send_result(struct stream *s, int res, uint32_t asked)
{
    struct worker *w = s->worker;

    if (res == -EAGAIN || res == -EINTR) {
        send_blocked(s);
    } else if (s->zc == ZC_ON && ring_zc_refused(res)) {
        s->zc = ZC_OFF;
        stream_mark(s);
    } else if (res < 0 && res != -EPIPE && res != -ECONNRESET) {
        stream_close(s, REASON_SOCKET_ERROR, true);
    } else if (res < 0) {
        send_reset(s);
    } else {
        stream_rx_consume(s, (uint32_t)res);
        if (s->lane != NULL && s->lane->version != FRAME_V1)
            window_rx_consume(&s->rx, (uint32_t)res);
        count_down(s, (uint32_t)res);
        s->heard = s->took = w->now;
        /* A reset that meets a waiting send shows as a short count (tests/kernel/test_send.c). */
        if ((uint32_t)res < asked && s->sending_all)
            send_reset(s);
        else if ((uint32_t)res < asked)
            send_blocked(s);
        else
            send_complete(s);
    }
}

void relay_send_done(struct worker *w, const struct ring_cqe *cqe)
{
    struct op op = op_unpack(cqe->user_data);
    struct stream *s = stream_from_op(w, op.slot);
    uint32_t asked = s->sending;

    if ((cqe->flags & RING_CQE_NOTIF) != 0) {
        zc_release(s, op.aux, cqe->flags);
        return;
    }
    CHECK((s->flight & STREAM_SEND) != 0);
    s->flight &= (uint8_t)~STREAM_SEND;
    s->sending = 0;
    s->pieces = 0;
    if (s->sending_zc)
        zc_result(s, op.aux, cqe);
    s->sending_zc = false;
    if (s->state == STREAM_CLOSING)
        stream_mark(s);
    else
        send_result(s, cqe->res, asked);
}

/* Streams at rest make room for those that move. */
static void lapse_windows(struct worker *w)
{
    for (unsigned i = 0; i < WIDE_LOOKS && !list_empty(&w->wide_streams); i++) {
        struct stream *s = container_of(list_pop(&w->wide_streams), struct stream, wide_node);
        bool rests = w->now - s->rx.updated >= WINDOW_REST_NS;
        uint32_t counted = rests ? window_rx_lapse(&s->rx) : 0;

        if (counted > 0)
            share_give(s->share, SHARE_WINDOW, counted);
        else
            list_append(&w->wide_streams, &s->wide_node); /* looked at again after the others */
    }
}

static uint32_t update_window(struct stream *s, const struct window_terms *terms)
{
    struct worker *w = s->worker;
    uint32_t counted = s->rx.counted;

    uint32_t increment = window_rx_update(&s->rx, w->now, terms);
    if (s->rx.counted > counted)
        share_take(s->share, SHARE_WINDOW, s->rx.counted - counted);
    else if (s->rx.counted < counted)
        share_give(s->share, SHARE_WINDOW, counted - s->rx.counted);
    list_remove(&s->wide_node);
    if (s->rx.counted > 0)
        list_append(&w->wide_streams, &s->wide_node);
    return increment;
}

static void send_window(struct stream *s, uint32_t limit)
{
    struct lane *lane = s->lane;
    struct worker *w = s->worker;
    uint8_t *p = lane_control_begin(lane);

    if (p == NULL) {
        wait_for_room(s, LANE_LINE_CONTROL);
        return;
    }
    if (limit < s->rx.size)
        worker_count(w, STAT_WINDOWS_LIMITED, 1);
    if (s->rx.size < w->config->window_max && share_room(s->share, SHARE_WINDOW) < s->rx.size)
        lapse_windows(w);
    struct window_terms terms = { .rtt = max_u64(lane_path_rtt(lane), lane->rtt_min),
                                  .limit = limit,
                                  .max = w->config->window_max,
                                  .room = share_room(s->share, SHARE_WINDOW),
                                  .over = share_over(s->share, SHARE_WINDOW) };
    uint32_t increment = update_window(s, &terms);
    if (increment > 0)
        lane_control_end(lane, frame_put_window(p, s->wire_id, increment));
    else
        lane_control_drop(lane);
}

/* The local peer may be unable to read because it cannot write: its own bytes wait for a lane that
 * the far side does not read. Somebody who could write and does not is only a slow reader. */
static bool waits_for_lane(const struct stream *s)
{
    return s->lane->send_flight && (s->flight & STREAM_RECV) == 0 &&
           (s->ends & (STREAM_UP_EOF | STREAM_UP_RST)) == 0;
}

/* When the local peer last took something: a send that waits says so only when it is over, which a
 * slow reader of much may keep from it for a long time. */
static uint64_t took_last(struct stream *s)
{
    uint64_t now = s->worker->now;

    if (now - s->took < V1_LOOK_NS)
        return s->took;
    uint64_t acked = sock_acked(s->fd);
    if (acked != s->acked)
        s->took = now;
    s->acked = acked;
    return s->took;
}

/* v1: bound what waits for a slow reader by not reading the lane; a reader that takes nothing at
 * all is closed. */
static void pump_v1_hold(struct stream *s)
{
    struct worker *w = s->worker;

    if (!s->lane_paused && s->queued > V1_QUEUE_HIGH) {
        s->lane_paused = true;
        s->took = w->now;
        s->acked = sock_acked(s->fd);
        lane_hold(s->lane);
    } else if (s->lane_paused && s->queued <= V1_QUEUE_LOW) {
        s->lane_paused = false;
        lane_unhold(s->lane);
    }
    if (!s->lane_paused)
        return;
    bool waits = waits_for_lane(s);
    s->took = max_u64(s->took, s->lane->unblocked); /* it may have waited until then */
    if (w->now >= took_last(s) + (waits ? V1_STALL_WAITING_NS : V1_STALL_NS))
        stream_close(s, REASON_STALLED, true);
    else
        timer_set(&w->timers, &s->timer, w->now + V1_LOOK_NS);
}

/* v2: nothing is left to be said on the lane. */
static bool up_ended(const struct stream *s)
{
    return (s->ends & STREAM_UP_FIN) != 0 && s->bulk_pending == 0;
}

static void pump_down(struct stream *s)
{
    if ((s->flight & STREAM_SEND) != 0)
        return;
    if (s->head != SLAB_NONE) {
        relay_send(s);
        return;
    }
    s->blocked = false;
    if ((s->ends & STREAM_DOWN_RST) != 0) {
        stream_close(s, REASON_PEER_RESET, false);
        return;
    }
    if ((s->ends & (STREAM_DOWN_FIN | STREAM_DOWN_SHUT | STREAM_DOWN_DEAD)) == STREAM_DOWN_FIN) {
        if (!up_ended(s)) /* otherwise it is closed in this turn, which says FIN, too */
            (void)sock_shutdown_write(s->fd); /* ENOTCONN: the read sees the reset */
        s->ends |= STREAM_DOWN_SHUT;
    }
}

/* A stream whose lane is gone delivers what has arrived, as long as the local peer takes it: with
 * v2 (UP_FIN) as if the lane were there, see quiet.c, with v1 for V1_STALL_NS at a time. */
static void pump_orphan(struct stream *s)
{
    struct worker *w = s->worker;
    bool v1 = (s->ends & STREAM_UP_FIN) == 0;

    pump_down(s);
    if (s->state != STREAM_OPEN)
        return;
    if ((s->ends & STREAM_DOWN_DEAD) != 0)
        stream_close(s, REASON_PEER_RESET, false);
    else if ((s->ends & STREAM_DOWN_SHUT) != 0)
        stream_close(s, v1 ? REASON_V1_CLOSED : REASON_DONE, false);
    else if (!v1)
        return;
    else if (w->now >= took_last(s) + V1_STALL_NS)
        stream_close(s, REASON_STALLED, false);
    else
        timer_set(&w->timers, &s->timer, w->now + V1_LOOK_NS);
}

static void pump(struct stream *s)
{
    if (s->lane == NULL) {
        pump_orphan(s);
        return;
    }
    pump_down(s);
    if (s->state == STREAM_OPEN)
        pump_up(s);
    if (s->state != STREAM_OPEN)
        return;
    if (s->lane->version == FRAME_V1) {
        pump_v1_hold(s);
        if (s->state == STREAM_OPEN)
            pump_v1_end(s);
    } else {
        uint32_t limit = lane_window_limit(s->lane, s);
        if (window_rx_due(&s->rx, limit) && (s->ends & (STREAM_DOWN_FIN | STREAM_DOWN_RST)) == 0)
            send_window(s, limit);
        if (up_ended(s) && (s->ends & STREAM_DOWN_SHUT) != 0)
            stream_close(s, REASON_DONE, false);
    }
}

void relay_pump(struct stream *s)
{
    CHECK(s->state == STREAM_OPEN || s->state == STREAM_CONNECTING);
    if (s->state == STREAM_CONNECTING)
        return;
    s->refused = LANE_LINE_NONE;
    pump(s);
    if (s->state == STREAM_OPEN)
        lane_line_settle(s);
}

uint64_t relay_sweep(struct worker *w)
{
    uint64_t next = UINT64_MAX;

    for (struct list *node = w->bulk_reads.next; node != &w->bulk_reads; node = node->next) {
        struct stream *s = container_of(node, struct stream, sweep_node);

        if (s->recv_since + BULK_QUIET > w->now) {
            next = min_u64(next, s->recv_since + BULK_QUIET);
            continue;
        }
        ring_cancel(w->ring, op_pack(OP_STREAM_RECV, s->slot, s->generation, s->recv_buf));
        s->recv_since = w->now; /* the cancel may lose against data: asked again later */
        next = min_u64(next, w->now + BULK_QUIET);
    }
    return next;
}

void relay_unwait(struct worker *w, unsigned most)
{
    for (unsigned looks = SHORT_ASKED; looks > 0 && most > 0 && !list_empty(&w->short_streams);
         looks--) {
        struct stream *s = container_of(list_pop(&w->short_streams), struct stream, wait_node);

        if (!share_may(s->share, SHARE_SMALL, 1)) {
            list_append(&w->short_streams, &s->wait_node);
            continue;
        }
        s->starved = false;
        stream_mark(s);
        most--;
    }
}

void relay_unstarve(struct worker *w)
{
    struct list *node;

    for (uint32_t n = w->bufs.provided; n > 0 && (node = list_pop(&w->starved_streams)) != NULL;) {
        struct stream *s = container_of(node, struct stream, wait_node);

        if (!share_may(s->share, SHARE_SMALL, 1)) { /* it would only go over to these */
            list_append(&w->short_streams, &s->wait_node);
            continue;
        }
        n--;
        s->starved = false;
        s->dry = false;
        stream_mark(s);
    }
}
