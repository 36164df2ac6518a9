/* stream: slots, the queue towards the local socket, and the one exit. Theory of operation in
 * stream.h. */
#include "core/stream.h"

#include "core/addr.h"
#include "core/frame.h"
#include "core/lane.h"
#include "core/log.h"
#include "core/op.h"
#include "core/quiet.h"
#include "core/session.h"
#include "core/visitor_log.h"
#include "core/worker.h"

#include <stdio.h>

/* A slice at least this large may stay where it lies even behind others; smaller ones are packed
 * when they have to wait. */
#define SLICE_KEEP (BUF_BIG_SIZE / 2)

static void stream_timer_fire(struct timer *timer);

static bool makes_ids(const struct lane *lane)
{
    return lane->version == FRAME_V2 && lane->worker->role->opens_streams;
}

/* 0: there is none, or the lane has its share of them: one that is frozen, or whose peer does not
 * count, is not to stop the others. */
static uint32_t take_id(const struct lane *lane, uint32_t slot)
{
    struct worker *w = lane->worker;
    bool may = share_may(lane->share, SHARE_IDS, 1);
    uint32_t place = may ? slab_take(&w->ids) : SLAB_NONE;

    if (slab_available(&w->ids) <= w->ids.count / 8)
        lane_kept_pressed(w);
    if (place == SLAB_NONE)
        return 0;
    share_take(lane->share, SHARE_IDS, 1);
    struct stream_id *id = slab_at(&w->ids, place);
    CHECK(id->stream == 0);
    id->generation = id->generation >= STREAM_GENERATION_MAX ? 1 : id->generation + 1;
    id->stream = slot + 1;
    list_init(&id->node);
    return id->generation << STREAM_SLOT_BITS | place;
}

static void stream_init(struct stream *s, struct lane *lane, uint32_t slot, struct share *share)
{
    struct worker *w = lane->worker;
    uint32_t generation = s->generation + 1; /* survives in the free slot */

    *s = (struct stream){
        .worker = w,
        .lane = lane,
        .share = share,
        .slot = slot,
        .generation = generation,
        .fd = -1,
        .way.beside = -1,
        .held = BUF_NONE,
        .recv_buf = BUF_NONE,
        .head = SLAB_NONE,
        .tail = SLAB_NONE,
        .dry = true,
        .opened = w->now,
        .heard = w->now,
        .zc = w->config->zero_copy == CONFIG_OFF ? 2 : 0,
    };
    list_init(&s->dirty_node);
    list_init(&s->wait_node);
    list_init(&s->sweep_node);
    list_init(&s->wide_node);
    timer_init(&s->timer, stream_timer_fire);
    list_append(&lane->streams, &s->lane_node);
    lane->stream_count++;
}

static void limit_unsent(const struct worker *w, int fd)
{
    uint64_t part = w->streams_unsent / w->shares.pool.used[SHARE_STREAMS];

    if (part < STREAM_UNSENT_MOST)
        sock_set_unsent(fd, (uint32_t)max_u64(part, STREAM_UNSENT_LEAST));
}

void stream_set_fd(struct stream *s, int fd)
{
    CHECK(s->fd < 0 && fd >= 0);
    s->fd = fd;
    limit_unsent(s->worker, fd);
    share_take(s->share, SHARE_FDS, 1);
}

void stream_drop_fd(struct stream *s)
{
    ring_close_fd(s->worker->ring, s->fd);
    s->fd = -1;
    share_give(s->share, SHARE_FDS, 1);
}

void stream_set_beside(struct stream *s, int fd)
{
    CHECK(s->way.beside < 0 && fd >= 0);
    s->way.beside = fd;
    limit_unsent(s->worker, fd);
    share_take(s->share, SHARE_FDS, 1);
}

void stream_drop_beside(struct stream *s)
{
    ring_close_fd(s->worker->ring, s->way.beside);
    s->way.beside = -1;
    share_give(s->share, SHARE_FDS, 1);
}

struct stream *stream_open(struct lane *lane, uint32_t wire_id, int fd, enum stream_state state,
                           struct share *share)
{
    struct worker *w = lane->worker;
    uint32_t slot = slab_take(&w->streams);

    if (slot == SLAB_NONE)
        return NULL;
    CHECK((wire_id == 0) == makes_ids(lane));
    if (wire_id == 0 && (wire_id = take_id(lane, slot)) == 0) {
        slab_give(&w->streams, slot);
        return NULL;
    }
    struct stream *s = slab_at(&w->streams, slot);
    CHECK(s->state == STREAM_FREE);
    stream_init(s, lane, slot, share);
    share_take(share, SHARE_STREAMS, 1);
    if (fd >= 0)
        stream_set_fd(s, fd);
    s->state = state;
    s->wire_id = wire_id;
    if (lane->version == FRAME_V1) {
        s->tx.credit = INT32_MAX;
    } else {
        s->tx.credit = lane->peer_window;
        window_rx_init(&s->rx, w->config->window_initial, w->now);
    }
    if (lane->map != NULL)
        lane->map[s->wire_id & lane->map_mask] = slot + 1;
    worker_count(w, STAT_STREAMS, 1);
    lane_watch(lane);
    quiet_watch(w);
    stream_mark(s);
    return s;
}

struct stream *stream_from_op(struct worker *worker, uint32_t slot)
{
    struct stream *s = slab_at(&worker->streams, slot);

    CHECK(s->state != STREAM_FREE); /* a slot is not freed while an operation is in flight */
    return s;
}

void stream_mark(struct stream *s)
{
    struct worker *w = s->worker;
    bool closing = s->state == STREAM_CLOSING;
    struct list *node = closing ? &s->sweep_node : &s->dirty_node;

    if (!list_linked(node))
        list_append(closing ? &w->closing_streams : &w->dirty_streams, node);
}

/* Queue towards the local socket */

static struct slice *slice_at(struct stream *s, uint32_t index)
{
    return slab_at(&s->worker->slices, index);
}

/* Takes over the reference on buf. False: no slice left, the reference is put. */
static bool queue_append(struct stream *s, uint32_t buf, uint32_t offset, uint32_t size)
{
    uint32_t index = slab_take(&s->worker->slices);

    if (index == SLAB_NONE) {
        buf_put(&s->worker->bufs, buf);
        return false;
    }
    share_take(s->share, SHARE_SLICES, 1);
    *slice_at(s, index) =
        (struct slice){ .next = SLAB_NONE, .buf = buf, .offset = offset, .size = size };
    if (s->tail == SLAB_NONE)
        s->head = index;
    else
        slice_at(s, s->tail)->next = index;
    s->tail = index;
    return true;
}

static void slice_give(struct stream *s, uint32_t index)
{
    slab_give(&s->worker->slices, index);
    share_give(s->share, SHARE_SLICES, 1);
}

static void queue_pop(struct stream *s)
{
    uint32_t index = s->head;
    struct slice *slice = slice_at(s, index);

    s->head = slice->next;
    if (s->head == SLAB_NONE)
        s->tail = SLAB_NONE;
    buf_put(&s->worker->bufs, slice->buf);
    slice_give(s, index);
}

/* Room behind the last slice, if that is a small buffer of this stream alone. */
static uint32_t tail_room(struct stream *s)
{
    if (s->tail == SLAB_NONE)
        return 0;
    const struct slice *slice = slice_at(s, s->tail);
    if (buf_is_big(slice->buf) || buf_refs(&s->worker->bufs, slice->buf) > 1)
        return 0; /* a lane's read buffer */
    return BUF_SMALL_SIZE - slice->offset - slice->size;
}

static bool queue_copy(struct stream *s, const uint8_t *src, uint32_t size)
{
    struct buf_pool *bufs = &s->worker->bufs;

    worker_count(s->worker, STAT_COPIED_SLICES, 1);
    while (size > 0) {
        uint32_t room = tail_room(s);

        if (room == 0) {
            uint32_t buf = buf_take_allowed(bufs, s->share);
            if (buf == BUF_NONE || !queue_append(s, buf, 0, 0))
                return false;
            room = BUF_SMALL_SIZE;
        }
        struct slice *slice = slice_at(s, s->tail);
        uint32_t n = min_u32(room, size);
        memcpy(buf_data(bufs, slice->buf) + slice->offset + slice->size, src, n);
        slice->size += n;
        src += n;
        size -= n;
    }
    return true;
}

/* Whether a new slice should be copied rather than referenced. The first slice of an open,
 * unblocked stream goes out in this very turn. References are never all slices: there is one left
 * for each small buffer. */
static bool wants_copy(const struct stream *s, uint32_t size)
{
    const struct worker *w = s->worker;

    if (buf_big_scarce(&w->bufs, s->lane->share) ||
        slab_available(&w->slices) <= w->slices.count / 2 || share_sparing(s->share, SHARE_SLICES))
        return true;
    if (!share_may(s->share, SHARE_SMALL, 1))
        return false;
    if (s->state == STREAM_CONNECTING || s->blocked)
        return size < SLICE_KEEP;
    return s->head != SLAB_NONE && size < BUF_SMALL_SIZE / 2;
}

void stream_refuse_buffers(struct stream *s)
{
    worker_count(s->worker, STAT_REFUSED_BUFFERS, 1);
    log_at(LOG_WARN, stream_subject(s), "out of small buffers, stream ends: %s",
           share_blame(s->share, SHARE_SMALL));
    stream_close(s, REASON_LIMIT_BUFFERS, true);
}

void stream_rx_push(struct stream *s, uint32_t buf, uint32_t offset, uint32_t size)
{
    struct buf_pool *bufs = &s->worker->bufs;
    bool ok;

    if (s->state == STREAM_CLOSING || (s->ends & STREAM_DOWN_DEAD) != 0)
        return;
    if (wants_copy(s, size)) {
        ok = queue_copy(s, buf_data(bufs, buf) + offset, size);
    } else {
        buf_ref(bufs, buf);
        ok = queue_append(s, buf, offset, size);
    }
    s->queued += size;
    s->bytes_down += size;
    s->heard = s->worker->now;
    if (!ok) {
        stream_refuse_buffers(s);
        return;
    }
    stream_mark(s);
}

void stream_rx_fin(struct stream *s)
{
    if (s->state == STREAM_CLOSING)
        return;
    s->ends |= STREAM_DOWN_FIN;
    stream_mark(s);
}

/* No good end is a RESET, whatever its code says: what has not arrived does not. */
void stream_rx_reset(struct stream *s, enum reason reason)
{
    if (!reason_is_rst(reason))
        reason = REASON_PEER_OTHER;
    if (reason >= REASON_ORIGIN_REFUSED && reason <= REASON_ORIGIN_TIMEOUT)
        log_at(LOG_WARN, stream_subject(s), "%s", reason_text(reason));
    if (s->state == STREAM_OPEN && s->queued > 0 && reason == REASON_PEER_RESET) {
        s->ends |= STREAM_DOWN_RST;
        stream_mark(s);
    } else {
        stream_close(s, reason, false);
    }
}

void stream_rx_consume(struct stream *s, uint32_t bytes)
{
    CHECK(bytes <= s->queued);
    s->queued -= bytes;
    while (bytes > 0) {
        struct slice *slice = slice_at(s, s->head);
        uint32_t n = min_u32(bytes, slice->size);

        slice->offset += n;
        slice->size -= n;
        bytes -= n;
        if (slice->size > 0)
            break;
        queue_pop(s);
    }
}

/* Whether a slice that has to wait may stay where it lies: it fills its buffer well, or nobody else
 * uses it, or there is no other for it. */
static bool keeps_buffer(const struct stream *s, const struct slice *slice)
{
    const struct worker *w = s->worker;

    if (s->lane != NULL && !share_may(s->share, SHARE_SMALL, 1) &&
        !buf_big_scarce(&w->bufs, s->lane->share))
        return true;
    if (buf_is_big(slice->buf))
        return slice->size >= SLICE_KEEP;
    return buf_refs(&s->worker->bufs, slice->buf) == 1;
}

/* Takes off the queue what the kernel is not reading: the index of the first, whose list goes
 * on. */
static uint32_t queue_cut(struct stream *s)
{
    uint32_t last = SLAB_NONE, rest = s->head;

    for (unsigned i = 0; i < s->pieces; i++) {
        last = rest;
        rest = slice_at(s, rest)->next;
    }
    if (last == SLAB_NONE)
        s->head = SLAB_NONE;
    else
        slice_at(s, last)->next = SLAB_NONE;
    s->tail = last;
    return rest;
}

bool stream_compact(struct stream *s)
{
    uint32_t index = queue_cut(s);
    bool ok = true;

    while (index != SLAB_NONE) {
        struct slice slice = *slice_at(s, index);

        slice_give(s, index);
        index = slice.next;
        if (!ok) {
            buf_put(&s->worker->bufs, slice.buf);
        } else if (keeps_buffer(s, &slice)) {
            ok = queue_append(s, slice.buf, slice.offset, slice.size);
        } else {
            ok = queue_copy(s, buf_data(&s->worker->bufs, slice.buf) + slice.offset, slice.size);
            buf_put(&s->worker->bufs, slice.buf);
        }
    }
    return ok;
}

/* The end */

static uint64_t op_of(const struct stream *s, enum op_kind kind, uint32_t aux)
{
    return op_pack(kind, s->slot, s->generation, aux);
}

/* A cancel that meets a send which is just being tried again is lost (io_uring_prep_cancel(3),
 * EALREADY): what is still there after a while is cancelled again. */
static void cancel_flight(struct stream *s)
{
    struct worker *w = s->worker;
    struct ring *ring = w->ring;

    if (s->flight != 0)
        timer_set(&w->timers, &s->timer, w->now + CANCEL_AGAIN_NS);
    if ((s->flight & STREAM_RECV) != 0)
        ring_cancel(ring, op_of(s, OP_STREAM_RECV, s->recv_buf));
    if ((s->flight & STREAM_SEND) != 0)
        ring_cancel(ring, op_of(s, OP_STREAM_SEND, slice_at(s, s->head)->buf));
    if ((s->flight & STREAM_CONNECT) != 0)
        ring_cancel(ring, op_of(s, OP_STREAM_CONNECT, 0));
    if ((s->flight & STREAM_BESIDE) != 0)
        ring_cancel(ring, op_of(s, OP_STREAM_CONNECT, 1));
}

/* True if the peer has been told. Behind all that was said before: a reset must not destroy what
 * came before it (v1's StreamClose is also the regular end), and what comes behind it would be
 * taken for a frame of the next stream that has this id. */
static bool send_reset(struct stream *s, struct lane *lane)
{
    if (s->bulk_pending > 0 || lane_data_overtakes(lane))
        return false;
    uint8_t *p = lane_data_begin(lane, LANE_RESET_ROOM);
    if (p == NULL)
        return false;
    p = lane->version == FRAME_V1
            ? frame_put_close(p, s->wire_id)
            : frame_put_reset(p, s->wire_id, reason_code((enum reason)s->reason));
    lane_data_end(lane, p);
    return true;
}

static void detach_lane(struct stream *s)
{
    struct lane *lane = s->lane;

    list_remove(&s->lane_node);
    if (lane == NULL)
        return;
    lane_line_leave(s);
    lane->stream_count--;
    if (lane->map != NULL && lane->map[s->wire_id & lane->map_mask] == s->slot + 1)
        lane->map[s->wire_id & lane->map_mask] = 0;
    if (lane->rx_stream == s)
        lane->rx_stream = NULL;
    if (makes_ids(lane))
        lane_keep(lane, slab_at(&s->worker->ids, s->wire_id & STREAM_SLOT_MASK));
    s->bulk_pending = 0;
    s->lane = NULL;
    s->tunnel = NULL;
}

/* A stream that is over leaves its lane when it has said all and the queue names it no more. */
static void leave_lane(struct stream *s)
{
    struct lane *lane = s->lane;

    if (lane == NULL || !lane_takes(lane) || (!s->reset_due && s->bulk_pending == 0))
        detach_lane(s);
}

static void unhold_lane(struct stream *s)
{
    if (s->lane_paused)
        lane_unhold(s->lane);
    s->lane_paused = false;
}

/* Queued slices go at once, but for those that the kernel is reading. */
static void drop_queue(struct stream *s)
{
    uint32_t index = queue_cut(s);

    while (index != SLAB_NONE) {
        struct slice slice = *slice_at(s, index);

        buf_put(&s->worker->bufs, slice.buf);
        slice_give(s, index);
        index = slice.next;
    }
}

void stream_rx_drop(struct stream *s)
{
    drop_queue(s);
    s->bytes_down -= s->queued - s->sending;
    s->queued = s->sending;
}

static void count_end(struct worker *w, enum reason reason)
{
    bool clean = !reason_is_rst(reason);

    worker_count(w, clean ? STAT_STREAMS_DONE : STAT_STREAMS_RESET, 1);
}

/* The peer has said its last word about this stream, and needs none of ours. */
static bool peer_is_done(const struct stream *s)
{
    unsigned both = STREAM_UP_FIN | STREAM_DOWN_FIN;

    return (s->ends & STREAM_DOWN_RST) != 0 || (s->ends & both) == both;
}

static void drop_window(struct stream *s)
{
    list_remove(&s->wide_node);
    if (s->rx.counted > 0)
        share_give(s->share, SHARE_WINDOW, s->rx.counted);
    s->rx.counted = 0;
}

struct stream_moved stream_moved(const struct stream *s)
{
    bool server = s->worker->role->opens_streams;
    uint64_t sent = s->bytes_up, delivered = s->bytes_down - s->queued;

    CHECK(s->bytes_down >= s->queued);
    return (struct stream_moved){ .up = server ? sent : delivered,
                                  .down = server ? delivered : sent };
}

void stream_close(struct stream *s, enum reason reason, bool tell)
{
    struct worker *w = s->worker;
    struct lane *lane = s->lane;

    CHECK(s->state == STREAM_CONNECTING || s->state == STREAM_OPEN || s->state == STREAM_CLOSING);
    if (s->state == STREAM_CLOSING)
        return;
    struct stream_moved moved = stream_moved(s);

    log_at(LOG_DEBUG, stream_subject(s), "ends: %s, %llu bytes up, %llu down", reason_text(reason),
           (unsigned long long)moved.up, (unsigned long long)moved.down);
    if (w->config->log_visitors)
        visitor_log_stream(s, reason, tell);
    s->state = STREAM_CLOSING;
    s->reason = (uint8_t)reason;
    count_end(w, reason);
    timer_stop(&s->timer);
    list_remove(&s->dirty_node);
    lane_line_leave(s);
    list_remove(&s->wait_node);
    s->starved = false;
    list_remove(&s->sweep_node);
    stream_mark(s);
    if (s->bulk)
        w->bulk_streams--;
    cancel_flight(s);
    drop_queue(s);
    if (s->held != BUF_NONE)
        buf_put(&w->bufs, s->held);
    s->held = BUF_NONE;
    drop_window(s);
    unhold_lane(s);
    if (tell && lane != NULL && lane_takes(lane) && !peer_is_done(s))
        s->reset_due = !send_reset(s, lane); /* stream_join goes on */
    leave_lane(s);
}

void stream_peer_ended(struct stream *s, bool reset)
{
    CHECK(s->state == STREAM_CLOSING);
    s->ends |= reset ? STREAM_DOWN_RST : STREAM_DOWN_FIN;
    if (peer_is_done(s))
        s->reset_due = false;
    stream_mark(s);
}

/* All has arrived, and all was said. On v2 both sides have said FIN, and ours was given to the
 * wire: the peer may be done with the stream, drain and leave. A v1 client says StreamClose when
 * its origin has ended, and may then leave: what has arrived is still the visitor's. */
static bool needs_no_lane(const struct stream *s)
{
    unsigned both = STREAM_UP_FIN | STREAM_DOWN_FIN;
    const struct lane *lane = s->lane;

    if (lane->version != FRAME_V1)
        return (s->ends & both) == both && lane_data_left(lane, s->fin_at);
    return (s->ends & STREAM_DOWN_FIN) != 0 && s->worker->role->opens_streams &&
           lane->reason == REASON_LANE_EOF;
}

static bool outlives_lane(const struct stream *s)
{
    unsigned over = STREAM_DOWN_DEAD | STREAM_DOWN_RST;

    return s->state == STREAM_OPEN && (s->ends & over) == 0 && needs_no_lane(s) &&
           s->worker->phase < WORKER_STOPPING;
}

static void go_on_alone(struct stream *s)
{
    struct worker *w = s->worker;

    if (s->held != BUF_NONE)
        buf_put(&w->bufs, s->held);
    s->held = BUF_NONE;
    s->ends |= STREAM_UP_EOF;
    s->took = w->now;
    s->acked = sock_acked(s->fd);
    drop_window(s);
    lane_line_leave(s);
    unhold_lane(s);
    detach_lane(s);
    list_append(&w->orphan_streams, &s->lane_node);
    stream_mark(s);
}

void stream_lane_lost(struct stream *s, enum reason reason)
{
    if (outlives_lane(s)) {
        go_on_alone(s);
    } else if (s->state != STREAM_CLOSING) {
        stream_close(s, reason, false);
    } else {
        s->reset_due = false;
        detach_lane(s);
        stream_mark(s);
    }
}

/* Behind FINs of both sides RST cannot say anything any more, only destroy what was whole
 * (sock.h). */
static bool ends_by_fin(const struct stream *s)
{
    unsigned both = STREAM_UP_EOF | STREAM_DOWN_SHUT;

    return !reason_is_rst((enum reason)s->reason) || (s->ends & both) == both;
}

/* RESET that finds no room stands in line for some. Behind bulk it waits for that to leave. */
static void say_reset(struct stream *s)
{
    s->refused = LANE_LINE_NONE;
    if (s->reset_due && s->bulk_pending == 0) {
        s->reset_due = !send_reset(s, s->lane);
        s->refused = s->reset_due ? LANE_LINE_RESET : LANE_LINE_NONE;
    }
    lane_line_settle(s);
}

static bool is_listed(const struct stream *s)
{
    return list_linked(&s->lane_node) || list_linked(&s->dirty_node) ||
           list_linked(&s->wait_node) || list_linked(&s->sweep_node) || list_linked(&s->wide_node);
}

bool stream_join(struct stream *s)
{
    struct worker *w = s->worker;

    CHECK(s->state == STREAM_CLOSING);
    worker_count(w, STAT_JOINS, 1);
    say_reset(s);
    leave_lane(s);
    if (s->flight != 0)
        return false;
    if (s->fd >= 0) {
        if (ends_by_fin(s))
            sock_set_fin(s->fd);
        stream_drop_fd(s);
    }
    if (s->way.beside >= 0)
        stream_drop_beside(s);
    /* Notifications of what a peer has not acknowledged come because the socket is closed, not
     * before. */
    if (s->zc_pending > 0 || s->lane != NULL)
        return false;
    if (s->head != SLAB_NONE)
        drop_queue(s);
    timer_stop(&s->timer);
    CHECK(!is_listed(s));
    s->state = STREAM_FREE;
    share_give(s->share, SHARE_STREAMS, 1);
    share_unref(s->share);
    slab_give(&w->streams, s->slot);
    return true;
}

/* Time-outs: see relay.c for who sets them. */
static void stream_timer_fire(struct timer *timer)
{
    struct stream *s = container_of(timer, struct stream, timer);

    if (s->state == STREAM_CLOSING)
        cancel_flight(s);
    else if (s->state == STREAM_CONNECTING)
        s->worker->role->stream_late(s);
    else
        stream_mark(s);
}

const char *stream_subject(const struct stream *s)
{
    static _Thread_local char text[128];
    char visitor[ADDR_TEXT_MAX];

    addr_format(&s->visitor.sa, visitor, sizeof(visitor));
    snprintf(text, sizeof(text), "session %llu stream %u.%u (visitor %s)",
             s->lane != NULL && s->lane->session != NULL ? (unsigned long long)s->lane->session->id
                                                         : 0ULL,
             s->slot, s->generation, visitor);
    return text;
}
