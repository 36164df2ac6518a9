/* demux: see demux.h. */
#include "core/mux/demux.h"

#include "core/mux/lane.h"
#include "core/mux/stream.h"
#include "core/wire/frame.h"
#include "core/wire/session_fsm.h"

#include <errno.h>

/* Frames */

static enum reason demux_refuse(enum frame_result result)
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

static enum reason demux_window(struct lane *lane, const struct frame *frame, const uint8_t *p)
{
    struct stream *s = stream_find(lane, frame->stream);
    uint32_t increment;

    if (!frame_get_window(p, p + frame->length, &increment))
        return REASON_BAD_FRAME;
    if (s == NULL) {
        loop_count(lane->loop, STAT_FRAMES_STALE, 1);
        return REASON_DONE;
    }
    if (!window_tx_add(&s->tx, increment))
        return REASON_FLOW_CONTROL;
    stream_mark(s);
    return REASON_DONE;
}

/* The peer's last frame, perhaps, of a stream that is not there. */
static void demux_ended(struct lane *lane, uint32_t wire_id, bool reset)
{
    struct stream *s = stream_find_closing(lane, wire_id);

    lane_fence(lane);
    if (s != NULL)
        stream_peer_ended(s, reset);
}

static enum reason demux_reset(struct lane *lane, const struct frame *frame, const uint8_t *p)
{
    struct stream *s = stream_find(lane, frame->stream);
    uint16_t code;

    if (!frame_get_reset(p, p + frame->length, &code))
        return REASON_BAD_FRAME;
    if (s == NULL) {
        demux_ended(lane, frame->stream, true);
        return REASON_DONE;
    }
    lane_fence(lane);
    stream_rx_reset(s, reason_from_code(code));
    return REASON_DONE;
}

/* v1 StreamClose. From a client: both directions are over, what has arrived is still delivered
 * (relay.c). From a server: its visitor said FIN, and it waits for our StreamClose; a second one
 * means that the stream is gone there. */
static enum reason demux_close(struct lane *lane, const struct frame *frame)
{
    struct stream *s = stream_find(lane, frame->stream);

    if (s == NULL)
        return REASON_DONE;
    if ((s->ends & STREAM_DOWN_FIN) != 0)
        stream_close(s, REASON_PEER_RESET, false);
    else
        stream_rx_fin(s);
    return REASON_DONE;
}

static enum reason demux_ping(struct lane *lane, const uint8_t *p, const struct frame *frame)
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

static enum reason demux_pong(struct lane *lane, const uint8_t *p, const struct frame *frame)
{
    struct frame_ping ping;

    if (!frame_get_ping(p, p + frame->length, &ping) || !lane_acked(lane, ping.rx_bytes))
        return REASON_BAD_FRAME;
    if (ping.rx_bytes == 0 && !lane->retain.keeps)
        lane_kept_counted(lane, 0, false);
    if (ping.time != lane->ping_time || ping.time == 0)
        return REASON_DONE; /* not an answer to our last PING */
    lane->ping_time = 0;
    lane_kept_left(lane); /* some may have been passed since it was asked */
    conn_ponged(&lane->conn, max_u64(lane->loop->now - ping.time, 1));
    return REASON_DONE;
}

static enum reason demux_control(struct lane *lane, const struct frame *frame, const uint8_t *p)
{
    switch (frame->kind) {
    case FRAME_WINDOW:
        return demux_window(lane, frame, p);
    case FRAME_RESET:
        return demux_reset(lane, frame, p);
    case FRAME_CLOSE:
        return demux_close(lane, frame);
    case FRAME_PING:
        return demux_ping(lane, p, frame);
    case FRAME_PONG:
        return demux_pong(lane, p, frame);
    default:
        return lane->table->role->frame(lane, frame, p, p + frame->length);
    }
}

/* DATA of a stream that is gone. A v1 client may have taken our StreamClose for the visitor's FIN:
 * it is told again. */
static void demux_stale(struct lane *lane, uint32_t wire_id)
{
    loop_count(lane->loop, STAT_FRAMES_STALE, 1);
    if (lane->version != FRAME_V1 || !lane->table->role->opens_streams)
        return;
    uint8_t *p = lane_control_begin(lane);
    if (p != NULL)
        lane_control_end(lane, frame_put_close(p, wire_id));
}

/* A DATA header: window accounting for the whole frame at once. */
static enum reason demux_data_begin(struct lane *lane, const struct frame *frame)
{
    struct stream *s = stream_find(lane, frame->stream);

    lane->in.frame = *frame;
    lane->in.left = frame->length;
    lane->in.stream = s;
    if (s == NULL) {
        demux_stale(lane, frame->stream);
        if ((frame->flags & FRAME_FLAG_FIN) != 0)
            demux_ended(lane, frame->stream, false);
        return REASON_DONE;
    }
    if ((s->ends & STREAM_DOWN_FIN) != 0)
        return lane->version == FRAME_V1 ? REASON_DONE : REASON_BAD_FRAME;
    if (lane->version != FRAME_V1 && !window_rx_push(&s->rx, frame->length))
        return REASON_FLOW_CONTROL;
    if (window_rx_is_sparse(&s->rx, frame->length, lane->loop->now))
        lane_hears_sparse(lane, s->wire_id);
    if (frame->length == 0 && (frame->flags & FRAME_FLAG_FIN) != 0)
        stream_rx_fin(s);
    return REASON_DONE;
}

static void demux_data(struct lane *lane)
{
    uint32_t size = min_u32(lane->in.left, lane->rx.filled - lane->rx.parsed);
    struct stream *s =
        lane->in.stream; /* not who has the id now: the frame may have begun before it came */

    CHECK(s == NULL || s->lane == lane);
    if (s != NULL && size > 0 && (s->ends & STREAM_DOWN_FIN) == 0)
        stream_rx_push(s, lane->rx.buf, lane->rx.parsed, size);
    lane->rx.parsed += size;
    lane->in.left -= size;
    if (s != NULL && lane->in.left == 0 && (lane->in.frame.flags & FRAME_FLAG_FIN) != 0)
        stream_rx_fin(s);
}

/* False: what is left of the frames that were read waits for the next turn. A client does not hold
 * up its server. */
static bool demux_may_go_on(struct lane *lane)
{
    struct loop *loop = lane->loop;
    struct lane_table *table = lane->table;
    struct share *payer = lane->payer;

    if (!table->role->opens_streams)
        return true;
    if (payer->turn != loop->stats.value[STAT_TURNS]) {
        payer->turn = loop->stats.value[STAT_TURNS];
        payer->work = 0;
    }
    if (++payer->work <= TURN_FRAMES)
        return true;
    if (!list_linked(&lane->in.late_node))
        list_append(&table->late, &lane->in.late_node);
    return false;
}

/* All that was read, as far as the turn goes: a stream that holds up a v1 lane stops the next read,
 * so it may be over its limit by one buffer. */
static enum reason demux_parse(struct lane *lane)
{
    while (lane_takes(lane) && lane->rx.parsed < lane->rx.filled) {
        const uint8_t *src = buf_data(&lane->loop->bufs, lane->rx.buf) + lane->rx.parsed;
        const uint8_t *end = src + (lane->rx.filled - lane->rx.parsed);
        struct frame frame;

        if (lane->in.left > 0) {
            demux_data(lane);
            continue;
        }
        if (!demux_may_go_on(lane))
            return REASON_DONE;
        if (lane->version == 0)
            lane->version =
                src[0] == FRAME_V1 ? FRAME_V1 : FRAME_V2; /* anything else: BAD_VERSION */
        enum frame_result result = frame_get(lane->version, src, end, &frame);
        if (result == FRAME_NEED_MORE)
            return REASON_DONE;
        if (result != FRAME_OK)
            return demux_refuse(result);
        enum reason reason = session_fsm_check(
            lane->table->role->opens_streams ? SESSION_SERVER : SESSION_CLIENT, lane->version,
            (enum session_state)lane->fsm, (enum session_lane)lane->kind, frame.kind);
        if (reason != REASON_DONE)
            return reason;
        uint32_t header = (uint32_t)frame_header_size(lane->version);
        if (frame.kind != FRAME_DATA && (size_t)(end - src) < header + frame.length)
            return REASON_DONE; /* control frames are handled whole */
        lane->rx.parsed += header + (frame.kind == FRAME_DATA ? 0 : frame.length);
        loop_count(lane->loop, STAT_FRAMES_IN, 1);
        if (frame.kind == FRAME_BIND) /* it asks the kernel */
            lane->payer->work += TURN_BIND;
        reason = frame.kind == FRAME_DATA ? demux_data_begin(lane, &frame)
                                          : demux_control(lane, &frame, src + header);
        if (reason != REASON_DONE)
            return reason;
    }
    return REASON_DONE;
}

/* Bulk */

/* Whether what comes next is moved: the rest of a large frame, or a header behind one. */
static bool demux_splices(struct lane *lane, bool behind)
{
    const struct stream *s = lane->in.stream;

    if (!lane_takes_pipes(lane) || lane->rx.parsed < lane->rx.filled)
        return false;
    if (lane->in.left == 0)
        return behind;
    uint32_t least = behind ? SPLICE_LEAST / SPLICE_BEHIND : SPLICE_LEAST;
    return s != NULL && lane->in.left >= least && stream_may_fill(s);
}

/* What comes next is moved; or it is read, and behind bulk little at a time, so that the next large
 * frame is not read to its end. */
static void demux_decide(struct lane *lane)
{
    bool full = lane->in.full;

    lane->in.full = false;
    if (!full && demux_splices(lane, lane->in.left > 0 && lane->in.small > 0)) {
        lane->in.splices = lane->in.ready = true;
        lane->in.small = SPLICE_SMALL_READS;
    } else if (lane->in.small > 0) {
        lane->in.small--;
        conn_be_slow(&lane->conn);
    }
}

/* Payload, as far as it is there. *error: what the socket said behind it. */
static int demux_move(struct lane *lane, int *error)
{
    struct stream *s = lane->in.stream;
    struct pipe_rest rest;
    int n = stream_rx_fill(s, lane->conn.fd, min_u32(lane->in.left, SPLICE_TURN), &rest);

    if (n <= 0)
        return n;
    *error = rest.error;
    lane->in.ready = rest.more;
    lane_rx_moved(lane, (uint32_t)n);
    lane->in.left -= (uint32_t)n;
    if (lane->in.left == 0 && (lane->in.frame.flags & FRAME_FLAG_FIN) != 0)
        stream_rx_fin(s);
    return n;
}

/* Frames one after the other, without reading beyond a header, until something else comes. When the
 * peer has ended the rest is read: a pipe that is full cannot tell the end from nothing, and polls
 * would tell of it for ever. */
static enum reason demux_splice(struct lane *lane)
{
    uint32_t moved = 0;

    conn_no_wait(&lane->conn); /* it may be another connection than when it began */
    if (lane->in.ended) {
        lane->in.ended = lane->in.splices = false;
        lane->in.full = true;
    }
    while (lane->state == LANE_OPEN && lane->in.splices && lane->in.ready && moved < SPLICE_TURN) {
        bool header = lane->in.left == 0;
        int error = 0;

        if (!header && (lane->in.stream == NULL || !stream_may_fill(lane->in.stream))) {
            lane->in.splices = false;
            break;
        }
        int n = header ? lane_rx_header(lane) : demux_move(lane, &error);

        if (n == -ENOBUFS) {
            lane->in.splices = false;
            lane->in.full = true;
        } else if (n == -EAGAIN || n == -EINTR) {
            lane->in.ready = false;
        } else if (n <= 0) {
            lane->in.splices = false;
            lane_rx_ended(lane, n);
        } else {
            enum reason reason = header ? demux_parse(lane) : REASON_DONE;
            if (reason != REASON_DONE)
                return reason;
            moved += (uint32_t)n;
            lane->in.splices = header ? demux_splices(lane, true) && lane->in.left > 0
                                      : lane->in.left > 0 || demux_splices(lane, true);
        }
        if (error != 0) {
            lane->in.splices = false;
            lane_rx_ended(lane, error);
        }
    }
    return REASON_DONE;
}

/* Lanes */

/* What came before a record that is broken is good, and counted. */
static enum reason demux_take(struct lane *lane)
{
    bool handled = false, more = false;
    enum reason reason = REASON_DONE;

    if (lane->in.splices && lane->state == LANE_OPEN) {
        reason = demux_splice(lane);
        if (reason != REASON_DONE || lane->in.splices || !lane_takes(lane))
            return reason;
    }
    do {
        reason = lane_rx_open(lane, handled, &more);
        enum reason parsed = demux_parse(lane);
        reason = parsed != REASON_DONE ? parsed : reason;
        handled = true;
    } while (more && reason == REASON_DONE && lane_takes(lane) &&
             !list_linked(&lane->in.late_node));
    CHECK(lane->rx.parsed <= lane->rx.filled && lane->rx_acked <= lane->rx_bytes);
    reason = lane_rx_settle(lane, reason);
    if (reason == REASON_DONE)
        demux_decide(lane);
    return reason;
}

static void demux_lane(struct lane *lane)
{
    enum reason reason = demux_take(lane);

    if (reason != REASON_DONE)
        lane_violation(lane, reason);
    else
        lane_mark(lane); /* reads again when this turn's slices are on their way, see lane_flush */
    if (lane->rx_bytes - lane->rx_acked >= (lane->conn.rx_busy ? LANE_ACK : LANE_ACK_SMALL))
        lane_ack(lane);
}

void demux_late(struct lane_table *lanes)
{
    struct list now, *node, *served = NULL;

    list_init(&now);
    while ((node = list_pop(&lanes->late)) != NULL)
        list_append(&now, node);
    while ((node = list_pop(&now)) != NULL) {
        struct lane *lane = container_of(node, struct lane, in.late_node);

        demux_lane(lane);
        if (served == NULL && list_linked(&lane->in.late_node))
            served = node;
    }
    /* The first is served however many more come behind it: next time it is the last. */
    if (served != NULL && list_linked(served)) {
        list_remove(served);
        list_append(&lanes->late, served);
    }
}

void demux_pull(struct lane_table *lanes)
{
    struct list *node;

    while ((node = list_pop(&lanes->arrived)) != NULL)
        demux_lane(container_of(node, struct lane, in.arrived_node));
}

bool demux_resume(struct lane *lane, struct lane *from, uint64_t peer_rx)
{
    struct conn_rx rest = from->rx;

    from->rx = (struct conn_rx){ .buf = BUF_NONE };
    bool good = lane_resume(lane, from, peer_rx);
    while (good && lane->state == LANE_OPEN && rest.parsed < rest.filled) {
        if (!lane_take_rest(lane, &rest)) {
            lane_lost(lane, REASON_LIMIT_BUFFERS, NULL); /* what it has not taken is sent again */
            break;
        }
        enum reason reason = demux_parse(lane);
        if (reason != REASON_DONE)
            lane_violation(lane, reason);
    }
    lane_drop_rest(lane, &rest);
    return good;
}

static void demux_lost(struct lane *lane)
{
    for (struct list *node = lane->streams.next; node != &lane->streams;) {
        struct stream *s = container_of(node, struct stream, lane_node);

        node = node->next;
        stream_lane_lost(s, REASON_SESSION_LOST);
    }
}

void demux_open(struct lane_table *lanes, struct stream_table *streams)
{
    lanes->streams = streams;
    lanes->lost = demux_lost;
}
