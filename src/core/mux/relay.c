/* relay: see relay.h. */
#include "core/mux/relay.h"

#include "core/base/log.h"
#include "core/io/op.h"
#include "core/mux/lane.h"
#include "core/mux/relay_impl.h"
#include "core/mux/session.h"
#include "core/wire/frame.h"

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
/* Who has not used its window for so long is at rest; so many are looked at for one that wants to
 * grow. */
#define WINDOW_REST_NS NSEC_PER_SEC
#define WIDE_LOOKS     8u
/* Of reads that wait for their owner's share so many are asked for at a time. */
#define SHORT_ASKED 4096u

/* Up: local socket -> lane */

/* How much a bulk read asks for: all of a big buffer for few streams, less for many, so that what
 * is read is still in the cache when it is sent. */
static uint32_t relay_bulk_share(const struct stream_table *table)
{
    uint32_t share = BULK_CACHE / (table->bulk + 1);

    return share < BULK_READ_MIN ? BULK_READ_MIN : min_u32(share, BUF_BIG_PAYLOAD);
}

static void relay_set_bulk(struct stream *s, bool bulk)
{
    if (s->bulk == bulk)
        return;
    s->bulk = bulk;
    s->table->bulk += bulk ? 1u : -1u;
    CHECK(s->table->bulk <= s->table->slab.used);
}

/* Reads no more until there is a small buffer, or until its owner holds less. */
static void relay_starve(struct stream *s, struct list *line)
{
    s->starved = true;
    lane_line_leave(s->lane, &s->waiter);
    CHECK(!list_linked(&s->waiter.node));
    list_append(line, &s->waiter.node);
}

void relay_recv(struct stream *s)
{
    struct loop *loop = s->loop;
    unsigned flags = s->dry ? RING_POLL_FIRST : 0;

    CHECK(s->held == BUF_NONE && s->recv_buf == BUF_NONE);
    if (!share_may(s->share, SHARE_SMALL, 1)) {
        relay_starve(s, &s->table->short_of);
        return;
    }
    s->recv_buf = s->bulk && !share_sparing(s->share, SHARE_BIG)
                      ? buf_take_bulk(&loop->bufs, s->share)
                      : BUF_NONE;
    if (s->recv_buf != BUF_NONE) {
        uint32_t size =
            min_u32(relay_bulk_share(s->table), min_u32(s->tx.credit, s->lane->terms.max_data));

        CHECK(size > 0); /* a read of nothing looks like the end */
        ring_recv(loop->ring, stream_op(s, STREAM_OP_RECV, s->recv_buf), s->fd,
                  buf_data(&loop->bufs, s->recv_buf) + BUF_HEADROOM, size, flags);
        loop_count(loop, STAT_BULK_READS, 1);
        s->recv_since = loop->now;
        list_append(&s->table->bulk_reads, &s->sweep_node);
        if (!timer_is_set(&s->table->sweep))
            timer_set(&loop->timers, &s->table->sweep, loop->now + BULK_QUIET);
    } else {
        ring_recv_provided(loop->ring, stream_op(s, STREAM_OP_RECV, BUF_NONE), s->fd, flags);
    }
    s->flight |= STREAM_RECV;
}

/* EOF on the local socket: v2 says so at once, v1 when the rule of docs/PROTOCOL.md allows (see
 * relay_pump_v1_end). */
static void relay_recv_eof(struct stream *s)
{
    s->ends |= STREAM_UP_EOF;
    s->heard = s->loop->now;
    stream_mark(s);
}

static void relay_recv_failed(struct stream *s, int error)
{
    if (error == -ENOBUFS) {
        loop_count(s->loop, STAT_STARVED_SMALL, 1);
        relay_starve(s, &s->table->starved);
        return;
    }
    if (error == -ECANCELED || error == -EINTR || error == -EAGAIN) {
        relay_set_bulk(s, false); /* swept, or to be tried again: waits in a small buffer */
        stream_mark(s);
        return;
    }
    s->ends |= STREAM_UP_RST;
    stream_mark(s);
}

/* Whether what comes next is worth a pipe: little is, where the credit allows no more. */
void relay_judge(struct stream *s, uint32_t size)
{
    if (size >= (s->tx.credit >= 2 * SPLICE_WORTH ? SPLICE_WORTH : SPLICE_LEAST))
        s->swift = s->swift + 1U < SPLICE_SWIFT ? (uint8_t)(s->swift + 1U)
                                                : SPLICE_SWIFT + SPLICE_PATIENCE;
    else
        s->swift = s->swift > SPLICE_SWIFT ? (uint8_t)(s->swift - 1U) : 0;
}

void relay_recv_data(struct stream *s, uint32_t buf, uint32_t size, bool more)
{
    bool big = buf_is_big(buf);

    CHECK(s->held == BUF_NONE && buf != BUF_NONE && size <= buf_size(buf) - BUF_HEADROOM);
    s->held = buf;
    s->held_offset = BUF_HEADROOM;
    s->held_size = size;
    s->heard = s->loop->now;
    s->dry = !more && size < (big ? BULK_READ_MIN / 2 : BUF_SMALL_PAYLOAD);
    relay_judge(s, size);
    relay_set_bulk(s, size >= (big ? BUF_SMALL_SIZE : BUF_SMALL_PAYLOAD));
    stream_mark(s);
}

void relay_recv_nothing(struct stream *s, int res)
{
    if (res == 0 && (s->ends & STREAM_DOWN_DEAD) != 0)
        relay_recv_failed(s, -ECONNRESET); /* the send was told of it, the read sees its end */
    else if (res == 0)
        relay_recv_eof(s);
    else
        relay_recv_failed(s, res);
}

static void relay_recv_done(void *part, const struct ring_cqe *cqe)
{
    struct stream_table *table = part;
    struct loop *loop = table->loop;
    struct stream *s = stream_from_op(table, op_unpack(cqe->user_data));
    uint32_t buf = s->recv_buf;

    CHECK((s->flight & STREAM_RECV) != 0);
    s->flight &= (uint8_t)~STREAM_RECV;
    if (s->polls_up) {
        relay_splice_polled(s);
        return;
    }
    s->recv_buf = BUF_NONE;
    if (buf != BUF_NONE && s->state != STREAM_CLOSING)
        list_remove(&s->sweep_node);
    if ((cqe->flags & RING_CQE_BUFFER) != 0) {
        buf = cqe->buffer;
        buf_provided_taken(&loop->bufs, buf, s->share);
    }
    if (s->state != STREAM_CLOSING && cqe->res > 0) {
        relay_recv_data(s, buf, (uint32_t)cqe->res, (cqe->flags & RING_CQE_NONEMPTY) != 0);
        if (buf_small_low(&loop->bufs) && share_over(s->share, SHARE_SMALL))
            stream_refuse_buffers(s);
        return;
    }
    if (buf != BUF_NONE)
        buf_put(&loop->bufs, buf);
    if (s->state == STREAM_CLOSING) {
        if (cqe->res == 0)
            s->ends |= STREAM_UP_EOF; /* for stream_join */
        stream_mark(s);
        return;
    }
    relay_recv_nothing(s, cqe->res);
}

void relay_wait_for_room(struct stream *s, enum lane_line_kind line)
{
    s->waiter.refused = line; /* relay_pump puts it there */
    lane_log_wait(s->lane);
}

void relay_count_up(struct stream *s, uint32_t size)
{
    if (s->lane->version != FRAME_V1)
        window_tx_take(&s->tx, size);
    s->bytes_up += size;
    s->tunnel->to_lane += size;
    loop_count(s->loop, STAT_BYTES_UP, size);
}

/* A stream that has outlived its lane has no tunnel any more. */
static void relay_count_down(struct stream *s, uint32_t size)
{
    if (s->tunnel != NULL)
        s->tunnel->from_lane += size;
    loop_count(s->loop, STAT_BYTES_DOWN, size);
}

struct frame relay_data_frame(const struct stream *s, uint32_t size, bool fin)
{
    return (struct frame){
        .kind = FRAME_DATA, .flags = fin ? FRAME_FLAG_FIN : 0, .stream = s->wire_id, .length = size
    };
}

/* Frames the held bytes in place, header in front. */
static bool relay_send_bulk(struct stream *s, uint32_t size)
{
    struct lane *lane = s->lane;
    uint32_t header = (uint32_t)frame_header_size(lane->version);
    struct frame frame = relay_data_frame(s, size, false);

    if (!lane_bulk_room(lane)) {
        relay_wait_for_room(s, LANE_LINE_BULK);
        return false;
    }
    CHECK(size == s->held_size && s->held_offset >= BUF_HEADROOM);
    frame_put(lane->version, buf_data(&s->loop->bufs, s->held) + s->held_offset - header, &frame);
    buf_charge(&s->loop->bufs, s->held, lane->share); /* which may keep it in its log */
    lane_bulk_push(lane, &s->waiter, s->held, s->held_offset - header, size + header);
    s->held = BUF_NONE;
    lane_line_served(&s->waiter);
    relay_count_up(s, size);
    return true;
}

static bool relay_send_small(struct stream *s, uint32_t size)
{
    struct lane *lane = s->lane;
    struct buf_pool *bufs = &s->loop->bufs;
    bool full = retain_is_full(&lane->retain);
    uint8_t *p = full ? NULL : lane_data_begin(lane, size + FRAME_HEADER_MAX + LANE_OPEN_RESERVE);

    /* Big buffers are short: the pack is a small one. */
    if (p == NULL && !full && size > SMALL_PIECE) {
        size = SMALL_PIECE;
        p = lane_data_begin(lane, size + FRAME_HEADER_MAX + LANE_OPEN_RESERVE);
    }
    struct frame frame = relay_data_frame(s, size, false);
    if (p == NULL) {
        relay_wait_for_room(s, LANE_LINE_DATA);
        return false;
    }
    p = frame_put(lane->version, p, &frame);
    memcpy(p, buf_data(bufs, s->held) + s->held_offset, size);
    lane_data_end(lane, p + size);
    relay_count_up(s, size);
    s->held_offset += size;
    s->held_size -= size;
    if (s->held_size == 0) {
        buf_put(bufs, s->held);
        s->held = BUF_NONE;
    }
    return true;
}

/* True when nothing is held any more. */
static bool relay_send_held(struct stream *s)
{
    while (s->held != BUF_NONE) {
        uint32_t size = min_u32(s->held_size, min_u32(s->tx.credit, s->lane->terms.max_data));
        /* Small data behind bulk of the same stream must not overtake it: it stands in line as
         * bulk, if it goes in one piece. */
        bool whole = size == s->held_size;

        if (size == 0)
            return false; /* WINDOW marks the stream */
        if (buf_is_big(s->held) && size >= BUF_SMALL_SIZE && whole) {
            if (!relay_send_bulk(s, size))
                return false;
        } else if (s->waiter.pending > 0) {
            return false; /* lane_send_done marks the stream */
        } else if (!relay_send_small(s, min_u32(size, BUF_SMALL_SIZE))) {
            return false;
        }
    }
    return true;
}

static void relay_send_fin(struct stream *s)
{
    struct lane *lane = s->lane;
    struct frame frame = relay_data_frame(s, 0, true);

    CHECK(s->held == BUF_NONE);
    if (s->waiter.pending > 0)
        return; /* lane_send_done marks the stream */
    uint8_t *p = lane_data_begin(lane, FRAME_HEADER_MAX);
    if (p == NULL) {
        relay_wait_for_room(s, LANE_LINE_DATA);
        return;
    }
    lane_data_end(lane, frame_put(lane->version, p, &frame));
    s->ends |= STREAM_UP_FIN;
    s->fin_at = lane_data_mark(lane);
}

/* v1 has no half-close: StreamClose ends both directions, so it is said when both have ended, or
 * when the local side has and the other direction has been quiet for long enough
 * (docs/PROTOCOL.md). */
static void relay_pump_v1_end(struct stream *s)
{
    struct loop *loop = s->loop;
    bool server = s->table->role->opens_streams;
    bool up = (s->ends & STREAM_UP_EOF) != 0, down = (s->ends & STREAM_DOWN_SHUT) != 0;
    uint64_t quiet;

    if (server && down) {
        stream_close(s, REASON_V1_CLOSED,
                     false); /* a v1 client's StreamClose ends both, and all is delivered */
        return;
    }
    if ((!up && !down) || s->queued > 0 || s->held != BUF_NONE || s->waiter.pending > 0)
        return;
    if (server || !up)
        quiet = V1_VISITOR_EOF_QUIET_NS;
    else
        quiet = down ? V1_CLOSE_GAP_NS : V1_ORIGIN_EOF_QUIET_NS;
    if (loop->phase != LOOP_RUNNING)
        quiet = min_u64(
            quiet,
            V1_ORIGIN_EOF_QUIET_NS); /* a drain does not wait for those who may never come back */
    if (loop->now >= s->heard + quiet)
        stream_close(s, REASON_DONE, true);
    else if (!timer_is_set(&s->timer) || s->timer.due > s->heard + quiet)
        timer_set(&loop->timers, &s->timer, s->heard + quiet);
}

/* The local peer reset, and what it may have said before finds no credit: the far side, which may
 * have ended the same way, need never give any. */
static bool relay_is_stuck(const struct stream *s)
{
    return (s->ends & STREAM_DOWN_DEAD) != 0 && s->tx.credit == 0 && (s->flight & STREAM_RECV) == 0;
}

static void relay_pump_up(struct stream *s)
{
    if ((s->ends & STREAM_DOWN_RST) != 0)
        return;
    bool all_sent = relay_send_held(s);
    if (relay_is_stuck(s)) {
        if (s->waiter.pending == 0) /* otherwise lane_send_done marks the stream */
            stream_close(s, REASON_PEER_RESET, true);
        return;
    }
    if (!all_sent)
        return;
    if ((s->ends & STREAM_UP_RST) != 0) {
        if (s->waiter.pending == 0)
            stream_close(s, REASON_PEER_RESET, true);
        return;
    }
    if ((s->ends & STREAM_UP_EOF) != 0) {
        if ((s->ends & STREAM_UP_FIN) == 0 && s->lane->version != FRAME_V1)
            relay_send_fin(s);
        return;
    }
    if ((s->flight & STREAM_RECV) == 0 && s->tx.credit > 0 && !s->starved &&
        s->waiter.pending < STREAM_BULK_PENDING) {
        if (relay_splices(s))
            relay_splice_up(s);
        else
            relay_recv(s);
    }
}

/* Down: lane -> local socket */

static bool relay_zc_wanted(struct stream *s, const struct slice *slice)
{
    union sock_addr peer;

    if (!zero_copy_may(&s->zc, slice->size) || !buf_is_big(slice->buf))
        return false;
    if (s->zc.mode == ZERO_COPY_UNDECIDED) {
        (void)sock_peer(s->fd, &peer);
        zero_copy_decide(&s->zc, s->loop->config, sock_addr_is_loopback(&peer));
    }
    return s->zc.mode == ZERO_COPY_ON;
}

static void relay_send_zc(struct stream *s, const struct slice *slice, uint64_t user_data)
{
    struct loop *loop = s->loop;
    int index = buf_fixed_index(&loop->bufs, loop->ring, slice->buf);
    const uint8_t *data = buf_data(&loop->bufs, slice->buf) + slice->offset;

    zero_copy_sent(&s->zc, loop, slice->buf);
    s->sending_zc = true;
    if (index >= 0)
        ring_send_fixed(loop->ring, user_data, s->fd, data, slice->size, (unsigned)index,
                        RING_WAITALL);
    else
        ring_send(loop->ring, user_data, s->fd, data, slice->size, RING_WAITALL | RING_ZC);
}

/* What goes out in one send: the first slice, and behind it those that pin no other buffer of a
 * lane, since they lie in the same one or have one to themselves. */
static unsigned relay_gather(struct stream *s, struct iovec iov[RING_PIECES])
{
    struct loop *loop = s->loop;
    uint32_t pinned = BUF_NONE;
    unsigned count = 0;

    for (uint32_t index = s->head; index != SLAB_NONE && count < RING_PIECES;) {
        const struct slice *slice = slab_at(&loop->slices, index);
        bool alone = !buf_is_big(slice->buf) && buf_refs(&loop->bufs, slice->buf) == 1;

        if (buf_is_pipe(slice->buf))
            break;
        if (!alone && pinned != BUF_NONE && pinned != slice->buf)
            break;
        if (count > 0 && relay_zc_wanted(s, slice))
            break;
        pinned = alone ? pinned : slice->buf;
        iov[count++] =
            (struct iovec){ .iov_base = buf_data(&loop->bufs, slice->buf) + slice->offset,
                            .iov_len = slice->size };
        s->sending += slice->size;
        index = slice->next;
    }
    return count;
}

static void relay_send(struct stream *s)
{
    struct loop *loop = s->loop;
    const struct slice *slice = slab_at(&loop->slices, s->head);
    uint64_t user_data = stream_op(s, STREAM_OP_SEND, slice->buf);
    struct iovec iov[RING_PIECES];

    CHECK(s->pieces == 0 && s->sending == 0);
    s->flight |= STREAM_SEND;
    s->send_since = loop->now;
    if (relay_zc_wanted(s, slice)) {
        s->sending = slice->size;
        s->pieces = 1;
        s->sending_all = true;
        relay_send_zc(s, slice, user_data);
        return;
    }
    unsigned count = relay_gather(s, iov);
    CHECK(count > 0 && s->sending > 0 && s->sending <= s->queued);
    CHECK_STATIC(RING_PIECES <= UINT8_MAX, "stream.pieces");
    s->pieces = (uint8_t)count;
    s->sending_all = s->sending > TRY_FIRST || s->blocked;
    unsigned flags = s->sending_all ? RING_WAITALL : RING_DONTWAIT;
    if (count == 1)
        ring_send(loop->ring, user_data, s->fd, iov[0].iov_base, iov[0].iov_len, flags);
    else
        ring_send_pieces(loop->ring, user_data, s->fd, iov, count, flags);
}

static void relay_send_blocked(struct stream *s)
{
    s->blocked = true;
    if (!stream_compact(s)) {
        stream_refuse_buffers(s);
        return;
    }
    stream_mark(s);
}

/* What is left goes out next; a send that has waited has shown that the reader takes something. */
static void relay_send_again(struct stream *s)
{
    if (s->sending_all)
        stream_mark(s);
    else
        relay_send_blocked(s);
}

static void relay_send_complete(struct stream *s)
{
    if (s->loop->now - s->send_since < SLOW_NS)
        s->blocked = false;
    stream_mark(s);
}

/* The local peer reset the connection: what it sent before may still lie in the socket, and the end
 * that a read sees then is no FIN. */
static void relay_send_reset(struct stream *s)
{
    s->ends |= STREAM_DOWN_DEAD;
    stream_rx_drop(s);
    if ((s->ends & (STREAM_UP_EOF | STREAM_DOWN_RST)) != 0)
        stream_close(s, REASON_PEER_RESET, (s->ends & STREAM_DOWN_RST) == 0);
    else
        stream_mark(s);
}

/* So many bytes of the queue have left. */
void relay_sent(struct stream *s, uint32_t bytes)
{
    stream_rx_consume(s, bytes);
    if (s->lane != NULL && s->lane->version != FRAME_V1)
        window_rx_consume(&s->rx, bytes);
    relay_count_down(s, bytes);
    s->heard = s->took = s->loop->now;
}

/* The end of a send that has left nothing. */
void relay_send_failed(struct stream *s, int error)
{
    if (error == -EPIPE || error == -ECONNRESET)
        relay_send_reset(s);
    else
        stream_close(s, REASON_SOCKET_ERROR, true);
}

/* A reset that meets a waiting send shows as a short count and nothing else
 * (tests/kernel/test_send.c); but a send that waits is also short when it has waited often, on a
 * socket that does not wait for system calls (tests/kernel/test_splice.c). */
static void relay_send_result(struct stream *s, int res, uint32_t asked)
{
    if (res == -EAGAIN || res == -EINTR) {
        relay_send_again(s);
    } else if (s->zc.mode == ZERO_COPY_ON && ring_zc_refused(res)) {
        s->zc.mode = ZERO_COPY_OFF;
        stream_mark(s);
    } else if (res < 0) {
        relay_send_failed(s, res);
    } else {
        relay_sent(s, (uint32_t)res);
        if ((uint32_t)res == asked)
            relay_send_complete(s);
        else if (s->sending_all && sock_is_over(s->fd))
            relay_send_reset(s);
        else
            relay_send_again(s);
    }
}

static void relay_send_done(void *part, const struct ring_cqe *cqe)
{
    struct stream_table *table = part;
    struct op op = op_unpack(cqe->user_data);
    struct stream *s = stream_from_op(table, op);
    uint32_t asked = s->sending;

    if ((cqe->flags & RING_CQE_NOTIF) != 0) {
        zero_copy_notified(&s->zc, table->loop, op.aux, cqe);
        if (s->state == STREAM_CLOSING)
            stream_mark(s);
        return;
    }
    CHECK((s->flight & STREAM_SEND) != 0);
    s->flight &= (uint8_t)~STREAM_SEND;
    if (s->polls_down) {
        s->polls_down = false;
        stream_mark(s);
        return;
    }
    s->sending = 0;
    s->pieces = 0;
    if (s->sending_zc)
        zero_copy_result(&s->zc, table->loop, op.aux, cqe);
    s->sending_zc = false;
    if (s->state == STREAM_CLOSING)
        stream_mark(s);
    else
        relay_send_result(s, cqe->res, asked);
}

/* Streams at rest make room for those that move. */
static void relay_lapse_windows(struct stream_table *table)
{
    for (unsigned i = 0; i < WIDE_LOOKS && !list_empty(&table->wide); i++) {
        struct stream *s = container_of(list_pop(&table->wide), struct stream, wide_node);
        CHECK(s->rx.counted > 0);
        bool rests = table->loop->now - s->rx.updated >= WINDOW_REST_NS;
        uint32_t counted = rests ? window_rx_lapse(&s->rx) : 0;

        if (counted > 0)
            share_give(s->share, SHARE_WINDOW, counted);
        else
            list_append(&table->wide, &s->wide_node); /* looked at again after the others */
    }
}

static uint32_t relay_update_window(struct stream *s, const struct window_terms *terms)
{
    uint32_t counted = s->rx.counted;

    uint32_t increment = window_rx_update(&s->rx, s->loop->now, terms);
    if (s->rx.counted > counted)
        share_take(s->share, SHARE_WINDOW, s->rx.counted - counted);
    else if (s->rx.counted < counted)
        share_give(s->share, SHARE_WINDOW, counted - s->rx.counted);
    list_remove(&s->wide_node);
    if (s->rx.counted > 0)
        list_append(&s->table->wide, &s->wide_node);
    return increment;
}

static void relay_send_window(struct stream *s, uint32_t limit)
{
    struct lane *lane = s->lane;
    struct loop *loop = s->loop;
    uint8_t *p = lane_control_begin(lane);

    if (p == NULL) {
        relay_wait_for_room(s, LANE_LINE_CONTROL);
        return;
    }
    if (limit < s->rx.size)
        loop_count(loop, STAT_WINDOWS_LIMITED, 1);
    if (s->rx.size < loop->config->window_max && share_room(s->share, SHARE_WINDOW) < s->rx.size)
        relay_lapse_windows(s->table);
    struct window_terms terms = { .rtt = max_u64(conn_path_rtt(&lane->conn), lane->conn.rtt_min),
                                  .limit = limit,
                                  .max = loop->config->window_max,
                                  .room = share_room(s->share, SHARE_WINDOW),
                                  .over = share_over(s->share, SHARE_WINDOW) };
    uint32_t increment = relay_update_window(s, &terms);
    if (increment > 0)
        lane_control_end(lane, frame_put_window(p, s->wire_id, increment));
    else
        lane_control_drop(lane);
}

/* The local peer may be unable to read because it cannot write: its own bytes wait for a lane that
 * the far side does not read. Somebody who could write and does not is only a slow reader. */
static bool relay_waits_for_lane(const struct stream *s)
{
    return s->lane->conn.send_flight && (s->flight & STREAM_RECV) == 0 &&
           (s->ends & (STREAM_UP_EOF | STREAM_UP_RST)) == 0;
}

/* When the local peer last took something: a send that waits says so only when it is over, which a
 * slow reader of much may keep from it for a long time. */
static uint64_t relay_took_last(struct stream *s)
{
    uint64_t now = s->loop->now;

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
static void relay_pump_v1_hold(struct stream *s)
{
    struct loop *loop = s->loop;

    if (!s->lane_paused && s->queued > V1_QUEUE_HIGH) {
        s->lane_paused = true;
        s->took = loop->now;
        s->acked = sock_acked(s->fd);
        lane_hold(s->lane);
    } else if (s->lane_paused && s->queued <= V1_QUEUE_LOW) {
        s->lane_paused = false;
        lane_unhold(s->lane);
    }
    if (!s->lane_paused)
        return;
    bool waits = relay_waits_for_lane(s);
    s->took = max_u64(s->took, s->lane->conn.unblocked); /* it may have waited until then */
    if (loop->now >= relay_took_last(s) + (waits ? V1_STALL_WAITING_NS : V1_STALL_NS))
        stream_close(s, REASON_STALLED, true);
    else
        timer_set(&loop->timers, &s->timer, loop->now + V1_LOOK_NS);
}

/* v2: nothing is left to be said on the lane. */
static bool relay_up_ended(const struct stream *s)
{
    return (s->ends & STREAM_UP_FIN) != 0 && s->waiter.pending == 0;
}

static void relay_pump_down(struct stream *s)
{
    if ((s->flight & STREAM_SEND) != 0 || !relay_splice_down(s))
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
        if (!relay_up_ended(s)) /* otherwise it is closed in this turn, which says FIN, too */
            (void)sock_shutdown_write(s->fd); /* ENOTCONN: the read sees the reset */
        s->ends |= STREAM_DOWN_SHUT;
    }
}

/* A stream whose lane is gone delivers what has arrived, as long as the local peer takes it: with
 * v2 (UP_FIN) as if the lane were there, see quiet.c, with v1 for V1_STALL_NS at a time. */
static void relay_pump_orphan(struct stream *s)
{
    struct loop *loop = s->loop;
    bool v1 = (s->ends & STREAM_UP_FIN) == 0;

    relay_pump_down(s);
    if (s->state != STREAM_OPEN)
        return;
    if ((s->ends & STREAM_DOWN_DEAD) != 0)
        stream_close(s, REASON_PEER_RESET, false);
    else if ((s->ends & STREAM_DOWN_SHUT) != 0)
        stream_close(s, v1 ? REASON_V1_CLOSED : REASON_DONE, false);
    else if (!v1)
        return;
    else if (loop->now >= relay_took_last(s) + V1_STALL_NS)
        stream_close(s, REASON_STALLED, false);
    else
        timer_set(&loop->timers, &s->timer, loop->now + V1_LOOK_NS);
}

static void relay_pump_open(struct stream *s)
{
    if (s->lane == NULL) {
        CHECK(list_linked(&s->lane_node)); /* in table->orphans */
        relay_pump_orphan(s);
        return;
    }
    relay_pump_down(s);
    if (s->state == STREAM_OPEN)
        relay_pump_up(s);
    if (s->state != STREAM_OPEN)
        return;
    if (s->lane->version == FRAME_V1) {
        relay_pump_v1_hold(s);
        if (s->state == STREAM_OPEN)
            relay_pump_v1_end(s);
    } else {
        uint32_t limit = lane_window_limit(s->lane, s->wire_id, &s->rx);
        if (window_rx_due(&s->rx, limit) && (s->ends & (STREAM_DOWN_FIN | STREAM_DOWN_RST)) == 0)
            relay_send_window(s, limit);
        if (relay_up_ended(s) && (s->ends & STREAM_DOWN_SHUT) != 0)
            stream_close(s, REASON_DONE, false);
    }
}

void relay_pump(struct stream *s)
{
    CHECK(s->state == STREAM_OPEN || s->state == STREAM_CONNECTING);
    if (s->state == STREAM_CONNECTING)
        return;
    s->waiter.refused = LANE_LINE_NONE;
    relay_pump_open(s);
    if (s->state != STREAM_OPEN)
        return;
    if (s->starved) /* it waits for something else */
        s->waiter.refused = LANE_LINE_NONE;
    lane_line_settle(s->lane, &s->waiter);
}

static void relay_sweep_fire(struct timer *timer)
{
    struct stream_table *table = container_of(timer, struct stream_table, sweep);
    struct loop *loop = table->loop;
    uint64_t next = UINT64_MAX;

    for (struct list *node = table->bulk_reads.next; node != &table->bulk_reads;
         node = node->next) {
        struct stream *s = container_of(node, struct stream, sweep_node);

        CHECK((s->flight & STREAM_RECV) != 0 && s->recv_buf != BUF_NONE);
        if (s->recv_since + BULK_QUIET > loop->now) {
            next = min_u64(next, s->recv_since + BULK_QUIET);
            continue;
        }
        ring_cancel(loop->ring, stream_op(s, STREAM_OP_RECV, s->recv_buf));
        s->recv_since = loop->now; /* the cancel may lose against data: asked again later */
        next = min_u64(next, loop->now + BULK_QUIET);
    }
    if (next != UINT64_MAX)
        timer_set(&loop->timers, timer, next);
}

static void relay_connect_done(void *part, const struct ring_cqe *cqe)
{
    struct stream_table *table = part;
    struct op op = op_unpack(cqe->user_data);
    struct stream *s = stream_from_op(table, op);
    uint8_t flight = op.aux == 0 ? STREAM_CONNECT : STREAM_BESIDE;

    CHECK((s->flight & flight) != 0);
    s->flight &= (uint8_t)~flight;
    if (s->state == STREAM_CLOSING)
        stream_mark(s);
    else
        table->role->stream_connected(s, op.aux != 0, cqe->res);
}

void relay_open(struct stream_table *table)
{
    static const struct loop_op ops[STREAM_OPS] = {
        [STREAM_OP_RECV] = { "stream_recv", relay_recv_done },
        [STREAM_OP_SEND] = { "stream_send", relay_send_done },
        [STREAM_OP_CONNECT] = { "stream_connect", relay_connect_done },
    };

    table->op = loop_register(table->loop, table, ops, STREAM_OPS);
    timer_init(&table->sweep, relay_sweep_fire);
}

void relay_unwait(struct stream_table *table, unsigned most)
{
    for (unsigned looks = SHORT_ASKED; looks > 0 && most > 0 && !list_empty(&table->short_of);
         looks--) {
        struct stream *s = container_of(list_pop(&table->short_of), struct stream, waiter.node);

        CHECK(s->starved && s->waiter.line == LANE_LINE_NONE);
        if (!share_may(s->share, SHARE_SMALL, 1)) {
            list_append(&table->short_of, &s->waiter.node);
            continue;
        }
        s->starved = false;
        stream_mark(s);
        most--;
    }
}

void relay_unstarve(struct stream_table *table)
{
    struct list *node;

    for (uint32_t n = table->loop->bufs.provided;
         n > 0 && (node = list_pop(&table->starved)) != NULL;) {
        struct stream *s = container_of(node, struct stream, waiter.node);

        CHECK(s->starved && s->waiter.line == LANE_LINE_NONE);
        if (!share_may(s->share, SHARE_SMALL, 1)) { /* it would only go over to these */
            list_append(&table->short_of, &s->waiter.node);
            continue;
        }
        n--;
        s->starved = false;
        s->dry = false;
        stream_mark(s);
    }
}
