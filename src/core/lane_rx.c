/*
 * lane_rx: the receive side of a lane. Theory of operation in lane.h.
 *
 * Reads start small, like those of streams: a quiet lane names no buffer, the kernel picks a small
 * one when data is there; thousands of idle lanes, logged in or not, hold no buffer at all. Before
 * the log-in a server's lane never gets the last big buffers, so that strangers cannot hold up
 * sessions. (A client's may: the logs of frozen lanes can hold all the others until this very
 * connection has brought their peer's count.) A read that fills its small buffer makes the lane
 * busy: the next one names a big buffer. A busy lane that then hears nothing for LANE_QUIET gives
 * it back (lane_sweep); what is left unparsed (less than a header, or than a control frame) moves
 * to a small one, if it fits there: who begins frames on many lanes and never ends them must not
 * hold the big ones.
 */
#include "core/crypt.h"
#include "core/lane.h"
#include "core/lane_impl.h"
#include "core/log.h"
#include "core/op.h"
#include "core/session.h"
#include "core/stream.h"
#include "core/worker.h"

#include <errno.h>

#define LANE_QUIET (200 * NSEC_PER_MSEC)

/* Buffers */

void lane_rx_release(struct lane *lane, struct lane_rx *rx)
{
    if (rx->buf != BUF_NONE)
        buf_put(&lane->worker->bufs, rx->buf);
    *rx = (struct lane_rx){ .buf = BUF_NONE };
}

/* Moves what is unparsed to the front, if nobody else looks at the buffer. */
static bool to_front(struct lane *lane, struct lane_rx *rx)
{
    struct buf_pool *bufs = &lane->worker->bufs;
    uint32_t left = rx->filled - rx->parsed;

    if (buf_refs(bufs, rx->buf) > 1 || rx->parsed == 0)
        return false;
    memmove(buf_data(bufs, rx->buf), buf_data(bufs, rx->buf) + rx->parsed, left);
    rx->parsed = 0;
    rx->filled = left;
    return true;
}

bool lane_rx_move_small(struct lane *lane, struct lane_rx *rx)
{
    struct buf_pool *bufs = &lane->worker->bufs;
    uint32_t left = rx->filled - rx->parsed;
    uint32_t to = buf_take_small(bufs, lane->share);

    CHECK(left <= BUF_SMALL_SIZE);
    if (to == BUF_NONE)
        return false;
    memcpy(buf_data(bufs, to), buf_data(bufs, rx->buf) + rx->parsed, left);
    *rx = (struct lane_rx){ .buf = to, .filled = left };
    return true;
}

uint32_t lane_take_big(struct lane *lane)
{
    struct buf_pool *bufs = &lane->worker->bufs;
    bool stranger = lane->session == NULL && lane->worker->role->opens_streams;

    if (stranger)
        return buf_take_bulk(bufs, lane->share);
    return share_may(lane->share, SHARE_BIG, 1) ? buf_take_big(bufs, lane->share) : BUF_NONE;
}

static uint32_t room_of(const struct lane_rx *rx)
{
    return rx->buf == BUF_NONE ? 0 : buf_size(rx->buf) - rx->filled;
}

/* A buffer for `size` bytes. Whose owner has its share of the big ones must still be able to read:
 * what it is told lets it forget much. So a record that has begun is read to its end, and what is
 * little fits a small one. */
static uint32_t rx_take(struct lane *lane, const struct lane_rx *rx, uint32_t size)
{
    struct buf_pool *bufs = &lane->worker->bufs;
    bool begun = rx == &lane->raw && rx->filled > rx->parsed && lane->session != NULL;
    uint32_t buf = begun ? buf_take_big(bufs, lane->share) : lane_take_big(lane);

    if (buf == BUF_NONE && size <= BUF_SMALL_SIZE && !share_may(lane->share, SHARE_BIG, 1))
        buf = buf_take_small(bufs, lane->share);
    return buf;
}

bool lane_rx_room(struct lane *lane, struct lane_rx *rx, uint32_t want)
{
    struct buf_pool *bufs = &lane->worker->bufs;
    uint32_t left = rx->filled - rx->parsed;

    if (left == 0)
        lane_rx_release(lane, rx);
    if (room_of(rx) >= want ||
        (rx->buf != BUF_NONE && buf_size(rx->buf) - left >= want && to_front(lane, rx)))
        return true;
    uint32_t fresh = rx_take(lane, rx, left + want);
    if (fresh == BUF_NONE) {
        worker_count(lane->worker, STAT_STARVED_BIG, 1);
        lane_starve(lane);
        return false;
    }
    if (left > 0)
        memcpy(buf_data(bufs, fresh), buf_data(bufs, rx->buf) + rx->parsed, left);
    lane_rx_release(lane, rx);
    *rx = (struct lane_rx){ .buf = fresh, .parsed = 0, .filled = left };
    CHECK(room_of(rx) >= want); /* a read of nothing looks like the end */
    return true;
}

/* Whose owner has its share is not woken by every buffer that comes back. */
void lane_starve(struct lane *lane)
{
    struct worker *w = lane->worker;

    if (list_linked(&lane->starved_node))
        return;
    bool may = share_may(lane->share, SHARE_SMALL, 1) && share_may(lane->share, SHARE_BIG, 1);
    list_append(may ? &w->starved_lanes : &w->short_lanes, &lane->starved_node);
}

static void go_on(struct lane *lane)
{
    lane_tx_wake(lane);
    lane_mark(lane); /* reads again */
}

static void wake(struct list *lanes, unsigned most)
{
    struct list *node;

    while (most-- > 0 && (node = list_pop(lanes)) != NULL)
        go_on(container_of(node, struct lane, starved_node));
}

void lane_unwait(struct worker *w, unsigned most)
{
    wake(&w->short_lanes, most);
}

void lane_unstarve(struct worker *w, unsigned most)
{
    wake(&w->starved_lanes, most);
}

/* Reading */

/* A quiet lane leaves a big buffer for the little that it keeps there. */
void lane_rx_leave_big(struct lane *lane, struct lane_rx *rx)
{
    uint32_t left = rx->filled - rx->parsed, big = rx->buf;

    if (!lane->rx_busy && big != BUF_NONE && buf_is_big(big) && left > 0 &&
        left + LANE_RX_ROOM <= BUF_SMALL_SIZE && lane_rx_move_small(lane, rx))
        buf_put(&lane->worker->bufs, big);
}

void lane_rx_read(struct lane *lane, struct lane_rx *rx)
{
    struct worker *w = lane->worker;
    uint64_t user_data = op_pack(OP_LANE_RECV, lane->slot, lane->generation, 0);
    unsigned flags = lane->dry ? RING_POLL_FIRST : 0;

    if (rx->filled == rx->parsed)
        lane_rx_release(lane, rx);
    lane_rx_leave_big(lane, rx);
    bool fresh = rx->buf == BUF_NONE;
    if (fresh && !lane->rx_busy) {
        ring_recv_provided(w->ring, user_data, lane->fd, flags);
    } else if (lane_rx_room(lane, rx, LANE_RX_ROOM)) {
        ring_recv(w->ring, user_data, lane->fd, buf_data(&w->bufs, rx->buf) + rx->filled,
                  room_of(rx), flags);
        if (buf_is_big(rx->buf))
            lane_watch_read(lane);
    } else if (fresh && w->bufs.provided > 0) {
        /* Slowly is better than not at all: the peer's count may free the others. Without any it
         * waits in line. */
        list_remove(&lane->starved_node);
        ring_recv_provided(w->ring, user_data, lane->fd, flags);
    } else {
        return;
    }
    lane->recv_flight = true;
    lane->recv_rx = rx;
}

/* A read into a big buffer: it is taken back if nothing comes. */
void lane_watch_read(struct lane *lane)
{
    struct worker *w = lane->worker;

    lane->recv_since = w->now;
    list_append(&w->busy_lanes, &lane->sweep_node);
    if (!timer_is_set(&w->sweep_timer))
        timer_set(&w->timers, &w->sweep_timer, w->now + LANE_QUIET);
}

uint64_t lane_sweep(struct worker *w)
{
    uint64_t next = UINT64_MAX;

    for (struct list *node = w->busy_lanes.next; node != &w->busy_lanes; node = node->next) {
        struct lane *lane = container_of(node, struct lane, sweep_node);

        if (lane->recv_since + LANE_QUIET <= w->now) {
            ring_cancel(w->ring, op_pack(OP_LANE_RECV, lane->slot, lane->generation, 0));
            if (lane->rx_acked < lane->rx_bytes)
                lane_ack(lane);
            lane->recv_since = w->now; /* the cancel may lose against data: asked again later */
        }
        next = min_u64(next, lane->recv_since + LANE_QUIET);
    }
    return next;
}

static void drop_received(struct lane *lane)
{
    lane->rx.parsed = lane->rx.filled;
    lane->raw.parsed = lane->raw.filled;
}

void lane_read(struct lane *lane)
{
    if (!lane_is_connected(lane) || lane->recv_flight || lane->paused > 0 || lane->awaits_out ||
        list_linked(&lane->late_node))
        return;
    if (lane->state == LANE_LINGER) /* nobody opens or handles anything: there is room for more */
        drop_received(lane);
    if (lane->tls)
        lane_crypt_read(lane);
    else
        lane_rx_read(lane, &lane->rx);
}

/* Frames */

static enum reason refuse(enum frame_result result)
{
    switch (result) {
    case FRAME_BAD_VERSION:
        return REASON_BAD_VERSION;
    case FRAME_TOO_LONG:
        return REASON_FRAME_TOO_LONG;
    default:
        return REASON_BAD_FRAME;
    }
}

static enum reason rx_window(struct lane *lane, const struct frame *frame, const uint8_t *p)
{
    struct stream *s = lane_find(lane, frame->stream);
    uint32_t increment;

    if (!frame_get_window(p, p + frame->length, &increment))
        return REASON_BAD_FRAME;
    if (s == NULL) {
        worker_count(lane->worker, STAT_FRAMES_STALE, 1);
        return REASON_DONE;
    }
    if (!window_tx_add(&s->tx, increment))
        return REASON_FLOW_CONTROL;
    stream_mark(s);
    return REASON_DONE;
}

/* The peer's last frame, perhaps, of a stream that is not there. */
static void rx_ended(struct lane *lane, uint32_t wire_id, bool reset)
{
    struct stream *s = lane_find_closing(lane, wire_id);

    lane_fence(lane);
    if (s != NULL)
        stream_peer_ended(s, reset);
}

static enum reason rx_reset(struct lane *lane, const struct frame *frame, const uint8_t *p)
{
    struct stream *s = lane_find(lane, frame->stream);
    uint16_t code;

    if (!frame_get_reset(p, p + frame->length, &code))
        return REASON_BAD_FRAME;
    if (s == NULL) {
        rx_ended(lane, frame->stream, true);
        return REASON_DONE;
    }
    lane_fence(lane);
    stream_rx_reset(s, reason_from_code(code));
    return REASON_DONE;
}

/* v1 StreamClose. From a client: both directions are over, what has arrived is still delivered
 * (relay.c). From a server: its visitor said FIN, and it waits for our StreamClose; a second one
 * means that the stream is gone there. */
static enum reason rx_close(struct lane *lane, const struct frame *frame)
{
    struct stream *s = lane_find(lane, frame->stream);

    if (s == NULL)
        return REASON_DONE;
    if ((s->ends & STREAM_DOWN_FIN) != 0)
        stream_close(s, REASON_PEER_RESET, false);
    else
        stream_rx_fin(s);
    return REASON_DONE;
}

static enum reason rx_ping(struct lane *lane, const uint8_t *p, const struct frame *frame)
{
    struct frame_ping ping;

    lane->peer_beats = true;
    if (lane->version == FRAME_V1)
        return REASON_DONE;
    if (!frame_get_ping(p, p + frame->length, &ping) || !lane_acked(lane, ping.rx_bytes))
        return REASON_BAD_FRAME;
    uint8_t *out = lane_control_begin(lane);
    if (out == NULL)
        return REASON_DONE;
    ping.rx_bytes = lane_tell_count(lane);
    lane_control_end(lane, frame_put_pong(out, &ping));
    return REASON_DONE;
}

static enum reason rx_pong(struct lane *lane, const uint8_t *p, const struct frame *frame)
{
    struct frame_ping ping;

    if (!frame_get_ping(p, p + frame->length, &ping) || !lane_acked(lane, ping.rx_bytes))
        return REASON_BAD_FRAME;
    if (ping.rx_bytes == 0 && !lane->logs)
        lane_kept_counted(lane, 0, false);
    if (ping.time != lane->ping_time || ping.time == 0)
        return REASON_DONE; /* not an answer to our last PING */
    lane->ping_time = 0;
    lane_kept_left(lane); /* some may have been passed since it was asked */
    uint64_t sample = max_u64(lane->worker->now - ping.time, 1);
    lane->rtt_min = lane->rtt_min == 0 ? sample : min_u64(lane->rtt_min, sample);
    lane->rtt = lane->rtt == 0 ? sample : (lane->rtt * 7 + sample) / 8; /* RFC 6298's alpha */
    return REASON_DONE;
}

static enum reason rx_control(struct lane *lane, const struct frame *frame, const uint8_t *p)
{
    switch (frame->kind) {
    case FRAME_WINDOW:
        return rx_window(lane, frame, p);
    case FRAME_RESET:
        return rx_reset(lane, frame, p);
    case FRAME_CLOSE:
        return rx_close(lane, frame);
    case FRAME_PING:
        return rx_ping(lane, p, frame);
    case FRAME_PONG:
        return rx_pong(lane, p, frame);
    default:
        return lane->worker->role->frame(lane, frame, p, p + frame->length);
    }
}

/* DATA of a stream that is gone. A v1 client may have taken our StreamClose for the visitor's FIN:
 * it is told again. */
static void rx_stale(struct lane *lane, uint32_t wire_id)
{
    worker_count(lane->worker, STAT_FRAMES_STALE, 1);
    if (lane->version != FRAME_V1 || !lane->worker->role->opens_streams)
        return;
    uint8_t *p = lane_control_begin(lane);
    if (p != NULL)
        lane_control_end(lane, frame_put_close(p, wire_id));
}

uint64_t lane_path_rtt(struct lane *lane)
{
    uint64_t now = lane->worker->now;

    if (now - lane->path_asked > LANE_PATH_NS) {
        uint64_t rtt = sock_path_rtt(lane->fd);

        lane->path_asked = now;
        lane->path_rtt = rtt != 0 ? rtt : lane->path_rtt;
    }
    return lane->rtt_min > LANE_CORE_NS ? max_u64(lane->path_rtt, lane->rtt_min) : lane->path_rtt;
}

uint32_t lane_window_limit(struct lane *lane, const struct stream *s)
{
    uint64_t quiet = lane->worker->now - lane->sparse_heard;

    if (quiet > max_u64(LANE_SPARSE_NS, LANE_SPARSE_PATHS * lane->path_rtt) ||
        lane->sparse_id == s->wire_id)
        return WINDOW_NO_LIMIT;
    return window_rx_limit(&s->rx, lane_path_rtt(lane));
}

/* A DATA header: window accounting for the whole frame at once. */
static enum reason rx_data_begin(struct lane *lane, const struct frame *frame)
{
    struct stream *s = lane_find(lane, frame->stream);

    lane->rx_frame = *frame;
    lane->rx_left = frame->length;
    lane->rx_stream = s;
    if (s == NULL) {
        rx_stale(lane, frame->stream);
        if ((frame->flags & FRAME_FLAG_FIN) != 0)
            rx_ended(lane, frame->stream, false);
        return REASON_DONE;
    }
    if ((s->ends & STREAM_DOWN_FIN) != 0)
        return lane->version == FRAME_V1 ? REASON_DONE : REASON_BAD_FRAME;
    if (lane->version != FRAME_V1 && !window_rx_push(&s->rx, frame->length))
        return REASON_FLOW_CONTROL;
    if (window_rx_is_sparse(&s->rx, frame->length, lane->worker->now)) {
        lane->sparse_heard = lane->worker->now;
        lane->sparse_id = s->wire_id;
    }
    if (frame->length == 0 && (frame->flags & FRAME_FLAG_FIN) != 0)
        stream_rx_fin(s);
    return REASON_DONE;
}

static void rx_data(struct lane *lane)
{
    uint32_t size = min_u32(lane->rx_left, lane->rx.filled - lane->rx.parsed);
    struct stream *s =
        lane->rx_stream; /* not who has the id now: the frame may have begun before it came */

    if (s != NULL && size > 0 && (s->ends & STREAM_DOWN_FIN) == 0)
        stream_rx_push(s, lane->rx.buf, lane->rx.parsed, size);
    lane->rx.parsed += size;
    lane->rx_left -= size;
    if (s != NULL && lane->rx_left == 0 && (lane->rx_frame.flags & FRAME_FLAG_FIN) != 0)
        stream_rx_fin(s);
}

/* False: what is left of the frames that were read waits for the next turn. A client does not hold
 * up its server. */
static bool may_go_on(struct lane *lane)
{
    struct worker *w = lane->worker;
    struct share *payer = lane->payer;

    if (!w->role->opens_streams)
        return true;
    if (payer->turn != w->stats.value[STAT_TURNS]) {
        payer->turn = w->stats.value[STAT_TURNS];
        payer->work = 0;
    }
    if (++payer->work <= TURN_FRAMES)
        return true;
    if (!list_linked(&lane->late_node))
        list_append(&w->late_lanes, &lane->late_node);
    return false;
}

void lane_late(struct worker *w)
{
    struct list now, *node, *served = NULL;

    list_init(&now);
    while ((node = list_pop(&w->late_lanes)) != NULL)
        list_append(&now, node);
    while ((node = list_pop(&now)) != NULL) {
        struct lane *lane = container_of(node, struct lane, late_node);

        lane_rx_handle(lane);
        if (list_linked(&lane->late_node)) {
            served = served != NULL ? served : node;
            continue;
        }
        if (lane->rx.parsed == lane->rx.filled)
            lane_rx_release(lane, &lane->rx);
        lane_mark(lane); /* reads again */
    }
    /* The first is served however many more come behind it: next time it is the last. */
    if (served != NULL && list_linked(served)) {
        list_remove(served);
        list_append(&w->late_lanes, served);
    }
}

/* All that was read, as far as the turn goes: a stream that holds up a v1 lane stops the next read,
 * so it may be over its limit by one buffer. */
enum reason lane_rx_parse(struct lane *lane)
{
    while (lane_takes(lane) && lane->rx.parsed < lane->rx.filled) {
        const uint8_t *src = buf_data(&lane->worker->bufs, lane->rx.buf) + lane->rx.parsed;
        const uint8_t *end = src + (lane->rx.filled - lane->rx.parsed);
        struct frame frame;

        if (lane->rx_left > 0) {
            rx_data(lane);
            continue;
        }
        if (!may_go_on(lane))
            return REASON_DONE;
        if (lane->version == 0)
            lane->version =
                src[0] == FRAME_V1 ? FRAME_V1 : FRAME_V2; /* anything else: BAD_VERSION */
        enum frame_result result = frame_get(lane->version, src, end, &frame);
        if (result == FRAME_NEED_MORE)
            return REASON_DONE;
        if (result != FRAME_OK)
            return refuse(result);
        enum reason reason = session_fsm_check(
            lane->worker->role->opens_streams ? SESSION_SERVER : SESSION_CLIENT, lane->version,
            (enum session_state)lane->fsm, (enum session_lane)lane->kind, frame.kind);
        if (reason != REASON_DONE)
            return reason;
        uint32_t header = (uint32_t)frame_header_size(lane->version);
        if (frame.kind != FRAME_DATA && (size_t)(end - src) < header + frame.length)
            return REASON_DONE; /* control frames are handled whole */
        lane->rx.parsed += header + (frame.kind == FRAME_DATA ? 0 : frame.length);
        worker_count(lane->worker, STAT_FRAMES_IN, 1);
        if (frame.kind == FRAME_BIND) /* it asks the kernel */
            lane->payer->work += TURN_BIND;
        reason = frame.kind == FRAME_DATA ? rx_data_begin(lane, &frame)
                                          : rx_control(lane, &frame, src + header);
        if (reason != REASON_DONE)
            return reason;
    }
    return REASON_DONE;
}

/* A violation is told to the peer before the lane goes; the session's other lanes go with it.
 * Records that were changed on their way are the path's doing, and nothing of them has been taken
 * in: like a cut, they cost the connection, not the lane. */
void lane_violation(struct lane *lane, enum reason reason)
{
    const char *text = NULL;

    if (reason == REASON_TLS_FAILED && lane_freeze(lane, reason, NULL))
        return;
    worker_count(lane->worker, STAT_BAD_FRAMES, 1);
    if (reason == REASON_BAD_VERSION && lane->fsm == SESSION_INIT) { /* before the first frame */
        bool tls = false;
        const uint8_t *src = buf_data(&lane->worker->bufs, lane->rx.buf) + lane->rx.parsed;

        text = crypt_sniff(src, lane->rx.filled - lane->rx.parsed,
                           lane->worker->role->opens_streams, &tls);
        reason = tls && !lane->tls ? REASON_TLS_FAILED : reason;
    }
    lane_goaway(lane, reason);
    lane_finish(lane, reason, text);
}

enum reason lane_rx_plain(struct lane *lane, uint32_t size)
{
    lane->heard = lane->worker->now;
    lane->rx_bytes += size;
    return lane_rx_parse(lane);
}

/* What was read is for the frames or for the records' layer. A lane that lingers only drops. */
static enum reason received(struct lane *lane, const struct ring_cqe *cqe)
{
    if (lane->state == LANE_LINGER) {
        drop_received(lane);
        return REASON_DONE;
    }
    return lane->tls ? lane_crypt_received(lane, (uint32_t)cqe->res)
                     : lane_rx_plain(lane, (uint32_t)cqe->res);
}

/* The buffer of a read that has completed belongs to the bytes that came, or goes back. */
static void arrived(struct lane *lane, const struct ring_cqe *cqe)
{
    struct worker *w = lane->worker;
    struct lane_rx *rx = lane->recv_rx;

    if ((cqe->flags & RING_CQE_BUFFER) != 0) {
        buf_provided_taken(&w->bufs, cqe->buffer, lane->share);
        CHECK(rx->buf == BUF_NONE);
        if (cqe->res > 0)
            *rx = (struct lane_rx){ .buf = cqe->buffer,
                                    .parsed = BUF_HEADROOM,
                                    .filled = BUF_HEADROOM };
        else
            buf_put(&w->bufs, cqe->buffer);
    }
    if (cqe->res <= 0)
        return;
    rx->filled += (uint32_t)cqe->res;
    lane->rx_busy = (uint32_t)cqe->res >= BUF_SMALL_PAYLOAD;
    lane->dry = (cqe->flags & RING_CQE_NONEMPTY) == 0 && (uint32_t)cqe->res < BUF_BIG_SIZE / 8 &&
                ((cqe->flags & RING_CQE_BUFFER) == 0 || !lane->rx_busy);
}

/* Nothing came, and that is no end: read again. */
static bool again(struct lane *lane, int res)
{
    if (res != -EINTR && res != -EAGAIN && res != -ECANCELED && res != -ENOBUFS)
        return false;
    if (res == -ENOBUFS)
        worker_count(lane->worker, STAT_STARVED_SMALL, 1);
    lane->rx_busy = res == -ENOBUFS; /* no small buffer: a big one; swept: a small one */
    lane_mark(lane);
    return true;
}

static void ended(struct lane *lane, int res)
{
    if (res == 0 && lane->tls && !lane->sniffs && !crypt_eof(lane->crypt))
        lane_lost(lane, REASON_TLS_TRUNCATED,
                  lane->goaway_heard
                      ? "it had said that it ends, and then did so at once, or was cut"
                      : NULL);
    else if (res == 0)
        lane_lost(lane, REASON_LANE_EOF,
                  lane->state == LANE_TLS && !lane->sniffs
                      ? "in the TLS handshake; see its log, or does it speak TLS here?"
                      : NULL);
    else
        lane_lost(lane, REASON_LANE_ERROR, strerror(-res));
}

void lane_rx_handle(struct lane *lane)
{
    enum reason reason = lane_rx_parse(lane);

    if (reason != REASON_DONE)
        lane_violation(lane, reason);
}

void lane_recv_done(struct worker *w, const struct ring_cqe *cqe)
{
    struct lane *lane = lane_from_op(w, cqe);

    CHECK(lane->recv_flight);
    lane->recv_flight = false;
    arrived(lane, cqe);
    if (lane->state == LANE_FROZEN)
        lane_frozen_recv(lane, cqe->res, !lane->tls || lane_crypt_is_data(lane));
    if (lane->state == LANE_CLOSING || lane->state == LANE_FROZEN)
        return;
    list_remove(&lane->sweep_node);
    if (cqe->res <= 0) {
        if (!again(lane, cqe->res))
            ended(lane, cqe->res);
        return;
    }
    worker_count(w, STAT_LANE_RECVS, 1);
    worker_count(w, STAT_LANE_RECV_BYTES, (uint32_t)cqe->res);
    enum reason reason = received(lane, cqe);
    if (reason != REASON_DONE)
        lane_violation(lane, reason);
    else
        lane_mark(lane); /* reads again when this turn's slices are on their way, see lane_flush */
    if (lane->rx_bytes - lane->rx_acked >= (lane->rx_busy ? LANE_ACK : LANE_ACK_SMALL))
        lane_ack(lane);
}
