/* stream: slots, the queue towards the local socket, and the one exit. Theory of operation in
 * stream.h. */
#include "core/mux/stream.h"

#include "core/base/log.h"
#include "core/io/addr.h"
#include "core/io/op.h"
#include "core/io/trim.h"
#include "core/mux/lane.h"
#include "core/mux/session.h"
#include "core/mux/stream_log.h"
#include "core/wire/frame.h"

#include <errno.h>
#include <stdio.h>

/* A slice at least this large may stay where it lies even behind others; smaller ones are packed
 * when they have to wait. */
#define SLICE_KEEP (BUF_BIG_SIZE / 2)

static void stream_timer_fire(struct timer *timer);

static bool stream_makes_ids(const struct lane *lane)
{
    return lane->version == FRAME_V2 && lane->table->role->opens_streams;
}

static void stream_init(struct stream *s, struct lane *lane, uint32_t slot, struct share *share)
{
    struct loop *loop = lane->loop;
    uint32_t generation = s->generation + 1; /* survives in the free slot */

    *s = (struct stream){
        .loop = loop,
        .table = lane->table->streams,
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
        .opened = loop->now,
        .heard = loop->now,
    };
    list_init(&s->dirty_node);
    lane_waiter_init(&s->waiter);
    zero_copy_init(&s->zc, loop->config);
    list_init(&s->sweep_node);
    list_init(&s->wide_node);
    timer_init(&s->timer, stream_timer_fire);
    list_append(&lane->streams, &s->lane_node);
    lane->stream_count++;
}

static void stream_limit_unsent(const struct stream_table *table, int fd)
{
    uint64_t streams = table->loop->shares.pool.used[SHARE_STREAMS];

    CHECK(streams == table->slab.used && streams > 0); /* this one at least */
    uint64_t part = table->unsent / streams;
    if (part < STREAM_UNSENT_MOST)
        sock_set_unsent(fd, (uint32_t)max_u64(part, STREAM_UNSENT_LEAST));
}

void stream_set_fd(struct stream *s, int fd)
{
    CHECK(s->fd < 0 && fd >= 0);
    s->fd = fd;
    stream_limit_unsent(s->table, fd);
    share_take(s->share, SHARE_FDS, 1);
}

void stream_drop_fd(struct stream *s)
{
    CHECK(s->fd >= 0 && (s->flight & (STREAM_RECV | STREAM_SEND | STREAM_CONNECT)) == 0);
    ring_close_fd(s->loop->ring, s->fd);
    s->fd = -1;
    share_give(s->share, SHARE_FDS, 1);
}

void stream_set_beside(struct stream *s, int fd)
{
    CHECK(s->way.beside < 0 && fd >= 0);
    s->way.beside = fd;
    stream_limit_unsent(s->table, fd);
    share_take(s->share, SHARE_FDS, 1);
}

void stream_drop_beside(struct stream *s)
{
    CHECK(s->way.beside >= 0 && (s->flight & STREAM_BESIDE) == 0);
    ring_close_fd(s->loop->ring, s->way.beside);
    s->way.beside = -1;
    share_give(s->share, SHARE_FDS, 1);
}

void stream_serve(struct stream *s, struct session_tunnel *tunnel, const union sock_addr *visitor)
{
    CHECK(s->tunnel == NULL && s->lane != NULL);
    s->tunnel = tunnel;
    s->visitor = *visitor;
    tunnel->streams++;
}

void stream_connect(struct stream *s, bool beside, const union sock_addr *addr)
{
    uint8_t flight = beside ? STREAM_BESIDE : STREAM_CONNECT;

    CHECK(s->state == STREAM_CONNECTING && (s->flight & flight) == 0);
    s->way.addr[beside] = *addr;
    s->flight |= flight;
    ring_connect(s->loop->ring, stream_op(s, STREAM_OP_CONNECT, beside),
                 beside ? s->way.beside : s->fd, &s->way.addr[beside].sa, sock_addr_size(addr));
}

void stream_connected(struct stream *s, bool beside)
{
    int fd = s->fd;

    if (beside) {
        s->fd = s->way.beside;
        s->way.beside = fd;
    }
    stream_set_state(s, STREAM_OPEN);
    s->heard = s->loop->now;
    stream_mark(s);
}

bool stream_table_open(struct stream_table *table, struct loop *loop, const struct role *role)
{
    struct list *lists[] = { &table->dirty,    &table->orphans, &table->closing,   &table->starved,
                             &table->short_of, &table->wide,    &table->bulk_reads };

    table->loop = loop;
    table->role = role;
    table->unsent = UINT64_MAX; /* until the engine shares it out */
    for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
        list_init(lists[i]);
    trim_add(loop->trim, &table->slab, false);
    return slab_open(&table->slab, sizeof(struct stream), loop->config->max_streams, 0);
}

void stream_table_close(struct stream_table *table)
{
    slab_close(&table->slab);
}

uint64_t stream_round_time(const struct stream_table *table)
{
    return QUIET_ROUND_NS * (1 + table->slab.fresh / QUIET_ROUND_SLOTS);
}

void stream_round_begins(struct stream_table *table, uint64_t when)
{
    table->rounds.next = 0;
    table->rounds.since = when;
    table->rounds.begun++;
    timer_set(&table->loop->timers, &table->rounds.timer, when);
}

void stream_set_state(struct stream *s, enum stream_state state)
{
    /* From where each state is reached. */
    static const uint8_t from[] = {
        [STREAM_FREE] = 1u << STREAM_CLOSING,
        [STREAM_CONNECTING] = 1u << STREAM_FREE,
        [STREAM_OPEN] = 1u << STREAM_FREE | 1u << STREAM_CONNECTING,
        [STREAM_CLOSING] = 1u << STREAM_CONNECTING | 1u << STREAM_OPEN,
    };

    CHECK((from[state] >> s->state & 1) != 0);
    s->state = (uint8_t)state;
}

struct stream *stream_open(struct lane *lane, uint32_t wire_id, int fd, enum stream_state state,
                           struct share *share)
{
    struct loop *loop = lane->loop;
    uint32_t slot = slab_take(&lane->table->streams->slab);

    CHECK(lane_takes(lane));
    if (slot == SLAB_NONE)
        return NULL;
    CHECK((wire_id == 0) == stream_makes_ids(lane));
    if (wire_id == 0 && (wire_id = lane_id_take(lane, slot)) == 0) {
        slab_give(&lane->table->streams->slab, slot);
        return NULL;
    }
    struct stream *s = slab_at(&lane->table->streams->slab, slot);
    CHECK(s->state == STREAM_FREE);
    stream_init(s, lane, slot, share);
    share_take(share, SHARE_STREAMS, 1);
    if (fd >= 0)
        stream_set_fd(s, fd);
    stream_set_state(s, state);
    s->wire_id = wire_id;
    if (lane->version == FRAME_V1) {
        s->tx.credit = INT32_MAX;
    } else {
        s->tx.credit = lane->terms.window;
        window_rx_init(&s->rx, loop->config->window_initial, loop->now);
    }
    if (lane->ids.map != NULL)
        lane->ids.map[s->wire_id & lane->ids.mask] = slot + 1;
    loop_count(loop, STAT_STREAMS, 1);
    lane_watch(lane);
    if (!timer_is_set(&s->table->rounds.timer))
        stream_round_begins(s->table, loop->now + stream_round_time(s->table));
    stream_mark(s);
    return s;
}

static struct stream *stream_on_lane(struct lane *lane, uint32_t wire_id)
{
    uint32_t slot = lane_slot(lane, wire_id);

    if (slot == 0)
        return NULL;
    struct stream *s = slab_at(&lane->table->streams->slab, slot - 1);
    return s->lane == lane && s->wire_id == wire_id ? s : NULL;
}

struct stream *stream_find(struct lane *lane, uint32_t wire_id)
{
    struct stream *s = stream_on_lane(lane, wire_id);

    if (s == NULL || s->state == STREAM_CLOSING)
        return NULL;
    return (s->ends & STREAM_DOWN_RST) == 0 ? s : NULL; /* otherwise the peer has forgotten it */
}

struct stream *stream_find_closing(struct lane *lane, uint32_t wire_id)
{
    struct stream *s = stream_on_lane(lane, wire_id);

    return s != NULL && s->state == STREAM_CLOSING ? s : NULL;
}

void stream_woken(struct stream_table *table)
{
    struct list *node;

    while ((node = list_pop(&table->loop->woken)) != NULL)
        stream_mark(container_of(node, struct stream, waiter.woken));
}

void stream_mark(struct stream *s)
{
    struct stream_table *table = s->table;
    bool closing = s->state == STREAM_CLOSING;
    struct list *node = closing ? &s->sweep_node : &s->dirty_node;

    if (!list_linked(node))
        list_append(closing ? &table->closing : &table->dirty, node);
}

/* Queue towards the local socket */

static struct slice *stream_slice_at(struct stream *s, uint32_t index)
{
    return slab_at(&s->loop->slices, index);
}

/* Takes over the reference on buf. False: no slice left, the reference is put. */
static bool stream_queue_append(struct stream *s, uint32_t buf, uint32_t offset, uint32_t size)
{
    uint32_t index = slab_take(&s->loop->slices);

    if (index == SLAB_NONE) {
        buf_put(&s->loop->bufs, buf);
        return false;
    }
    share_take(s->share, SHARE_SLICES, 1);
    *stream_slice_at(s, index) =
        (struct slice){ .next = SLAB_NONE, .buf = buf, .offset = offset, .size = size };
    if (s->tail == SLAB_NONE)
        s->head = index;
    else
        stream_slice_at(s, s->tail)->next = index;
    s->tail = index;
    return true;
}

static void stream_slice_give(struct stream *s, uint32_t index)
{
    slab_give(&s->loop->slices, index);
    share_give(s->share, SHARE_SLICES, 1);
}

static void stream_queue_pop(struct stream *s)
{
    uint32_t index = s->head;
    struct slice *slice = stream_slice_at(s, index);

    s->head = slice->next;
    if (s->head == SLAB_NONE)
        s->tail = SLAB_NONE;
    buf_put(&s->loop->bufs, slice->buf);
    stream_slice_give(s, index);
}

/* Room behind the last slice, if that is a small buffer of this stream alone. */
static uint32_t stream_tail_room(struct stream *s)
{
    if (s->tail == SLAB_NONE)
        return 0;
    const struct slice *slice = stream_slice_at(s, s->tail);
    if (buf_is_big(slice->buf) || buf_is_pipe(slice->buf) ||
        buf_refs(&s->loop->bufs, slice->buf) > 1)
        return 0; /* a lane's read buffer, or none to write to */
    return BUF_SMALL_SIZE - slice->offset - slice->size;
}

static bool stream_queue_copy(struct stream *s, const uint8_t *src, uint32_t size)
{
    struct buf_pool *bufs = &s->loop->bufs;

    loop_count(s->loop, STAT_COPIED_SLICES, 1);
    while (size > 0) {
        uint32_t room = stream_tail_room(s);

        if (room == 0) {
            uint32_t buf = buf_take_allowed(bufs, s->share);
            if (buf == BUF_NONE || !stream_queue_append(s, buf, 0, 0))
                return false;
            room = BUF_SMALL_SIZE;
        }
        struct slice *slice = stream_slice_at(s, s->tail);
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
static bool stream_wants_copy(const struct stream *s, uint32_t size)
{
    const struct loop *loop = s->loop;

    if (buf_big_scarce(&loop->bufs, s->lane->share) ||
        slab_available(&loop->slices) <= loop->slices.count / 2 ||
        share_sparing(s->share, SHARE_SLICES))
        return true;
    if (!share_may(s->share, SHARE_SMALL, 1))
        return false;
    if (s->state == STREAM_CONNECTING || s->blocked)
        return size < SLICE_KEEP;
    return s->head != SLAB_NONE && size < BUF_SMALL_SIZE / 2;
}

void stream_refuse_buffers(struct stream *s)
{
    loop_count(s->loop, STAT_REFUSED_BUFFERS, 1);
    log_at(LOG_WARN, stream_subject(s), "out of small buffers, stream ends: %s",
           share_blame(s->share, SHARE_SMALL));
    stream_close(s, REASON_LIMIT_BUFFERS, true);
}

void stream_rx_push(struct stream *s, uint32_t buf, uint32_t offset, uint32_t size)
{
    struct buf_pool *bufs = &s->loop->bufs;
    bool ok;

    if (s->state == STREAM_CLOSING || (s->ends & STREAM_DOWN_DEAD) != 0)
        return;
    if (stream_wants_copy(s, size)) {
        ok = stream_queue_copy(s, buf_data(bufs, buf) + offset, size);
    } else {
        buf_ref(bufs, buf);
        ok = stream_queue_append(s, buf, offset, size);
    }
    s->queued += size;
    s->bytes_down += size;
    s->heard = s->loop->now;
    if (!ok) {
        stream_refuse_buffers(s);
        return;
    }
    CHECK(s->lane->version == FRAME_V1 || s->queued <= s->rx.held);
    stream_mark(s);
}

bool stream_may_fill(const struct stream *s)
{
    unsigned over = STREAM_DOWN_FIN | STREAM_DOWN_RST | STREAM_DOWN_DEAD;

    return s->state == STREAM_OPEN && (s->ends & over) == 0;
}

/* The pipe at the end of the queue, or one that is put there when something is in it. */
static uint32_t stream_rx_pipe(struct stream *s, bool fresh)
{
    if (!fresh && s->tail != SLAB_NONE && buf_is_pipe(stream_slice_at(s, s->tail)->buf))
        return stream_slice_at(s, s->tail)->buf;
    return share_may(s->share, SHARE_SLICES, 1)
               ? buf_take_pipe(&s->loop->bufs, s->share, s->loop->now)
               : BUF_NONE;
}

static void stream_rx_filled(struct stream *s, uint32_t buf, uint32_t size)
{
    s->queued += size;
    s->bytes_down += size;
    s->heard = s->loop->now;
    loop_count(s->loop, STAT_SPLICED_DOWN, size);
    if (s->tail != SLAB_NONE && stream_slice_at(s, s->tail)->buf == buf)
        stream_slice_at(s, s->tail)->size += size;
    else if (!stream_queue_append(s, buf, 0, size))
        stream_refuse_buffers(s);
    stream_mark(s);
}

int stream_rx_fill(struct stream *s, int lane_fd, uint32_t size, struct pipe_rest *rest)
{
    struct pipe_pool *pipes = &s->loop->bufs.pipes;
    bool fresh = s->tail == SLAB_NONE || !buf_is_pipe(stream_slice_at(s, s->tail)->buf);
    int n;

    CHECK(stream_may_fill(s));
    do {
        uint32_t buf = stream_rx_pipe(s, fresh);
        if (buf == BUF_NONE)
            return -ENOBUFS;
        n = pipe_fill(pipes, buf_pipe(buf), lane_fd, size, rest);
        if (n > 0)
            stream_rx_filled(s, buf, (uint32_t)n);
        else if (fresh)
            buf_put(&s->loop->bufs, buf);
        if (n != -ENOBUFS || fresh)
            return n;
        fresh = true; /* the pipe is full: another one */
    } while (true);
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
        struct slice *slice = stream_slice_at(s, s->head);
        uint32_t n = min_u32(bytes, slice->size);

        slice->offset += n;
        slice->size -= n;
        bytes -= n;
        if (slice->size > 0)
            break;
        stream_queue_pop(s);
    }
    CHECK((s->queued == 0) == (s->head == SLAB_NONE));
}

/* Whether a slice that has to wait may stay where it lies: it fills its buffer well, or nobody else
 * uses it, or there is no other for it. */
static bool stream_keeps_buffer(const struct stream *s, const struct slice *slice)
{
    if (buf_is_pipe(slice->buf))
        return true;
    if (s->lane != NULL && !share_may(s->share, SHARE_SMALL, 1) &&
        !buf_big_scarce(&s->loop->bufs, s->lane->share))
        return true;
    if (buf_is_big(slice->buf))
        return slice->size >= SLICE_KEEP;
    return buf_refs(&s->loop->bufs, slice->buf) == 1;
}

/* Takes off the queue what the kernel is not reading: the index of the first, whose list goes
 * on. */
static uint32_t stream_queue_cut(struct stream *s)
{
    uint32_t last = SLAB_NONE, rest = s->head;

    CHECK((s->pieces > 0) == ((s->flight & STREAM_SEND) != 0 && !s->polls_down));
    for (unsigned i = 0; i < s->pieces; i++) {
        last = rest;
        rest = stream_slice_at(s, rest)->next;
    }
    if (last == SLAB_NONE)
        s->head = SLAB_NONE;
    else
        stream_slice_at(s, last)->next = SLAB_NONE;
    s->tail = last;
    return rest;
}

bool stream_compact(struct stream *s)
{
    uint32_t index = stream_queue_cut(s);
    bool ok = true;

    while (index != SLAB_NONE) {
        struct slice slice = *stream_slice_at(s, index);

        stream_slice_give(s, index);
        index = slice.next;
        if (!ok) {
            buf_put(&s->loop->bufs, slice.buf);
        } else if (stream_keeps_buffer(s, &slice)) {
            ok = stream_queue_append(s, slice.buf, slice.offset, slice.size);
        } else {
            ok = stream_queue_copy(s, buf_data(&s->loop->bufs, slice.buf) + slice.offset,
                                   slice.size);
            buf_put(&s->loop->bufs, slice.buf);
        }
    }
    return ok;
}

/* What the first pipe of the queue holds next, in a slice of its own in front of it. False: there
 * is no room for it. */
static bool stream_unpipe_some(struct stream *s, uint32_t *before, uint32_t pipe)
{
    struct loop *loop = s->loop;
    struct slice *rest = stream_slice_at(s, pipe);
    uint32_t size = min_u32(rest->size, BUF_SMALL_SIZE);
    bool may = share_may(s->share, SHARE_SLICES, 1);
    uint32_t buf = may ? buf_take_allowed(&loop->bufs, s->share) : BUF_NONE;
    uint32_t index = buf != BUF_NONE ? slab_take(&loop->slices) : SLAB_NONE;

    if (index == SLAB_NONE ||
        pipe_read(&loop->bufs.pipes, buf_pipe(rest->buf), buf_data(&loop->bufs, buf), size) != 0) {
        if (buf != BUF_NONE)
            buf_put(&loop->bufs, buf);
        if (index != SLAB_NONE)
            slab_give(&loop->slices, index);
        return false;
    }
    share_take(s->share, SHARE_SLICES, 1);
    *stream_slice_at(s, index) = (struct slice){ .next = pipe, .buf = buf, .size = size };
    if (*before == SLAB_NONE)
        s->head = index;
    else
        stream_slice_at(s, *before)->next = index;
    *before = index;
    rest->size -= size;
    return true;
}

bool stream_is_in_pipe(const struct stream *s)
{
    return s->head != SLAB_NONE &&
           buf_is_pipe(((const struct slice *)slab_at(&s->loop->slices, s->head))->buf);
}

void stream_unpipe(struct stream *s)
{
    uint32_t before = SLAB_NONE, pipe = s->head;

    CHECK(s->pieces == 0 && pipe != SLAB_NONE && buf_is_pipe(stream_slice_at(s, pipe)->buf));
    while (stream_slice_at(s, pipe)->size > 0)
        if (!stream_unpipe_some(s, &before, pipe))
            return;
    uint32_t next = stream_slice_at(s, pipe)->next;
    stream_slice_at(s, before)->next = next;
    if (s->tail == pipe)
        s->tail = before;
    buf_put(&s->loop->bufs, stream_slice_at(s, pipe)->buf);
    stream_slice_give(s, pipe);
}

/* The end */

/* A cancel that meets a send which is just being tried again is lost (io_uring_prep_cancel(3),
 * EALREADY): what is still there after a while is cancelled again. */
static void stream_cancel_flight(struct stream *s)
{
    struct loop *loop = s->loop;
    struct ring *ring = loop->ring;

    if (s->flight != 0)
        timer_set(&loop->timers, &s->timer, loop->now + CANCEL_AGAIN_NS);
    if ((s->flight & STREAM_RECV) != 0)
        ring_cancel(ring, stream_op(s, STREAM_OP_RECV, s->recv_buf));
    if ((s->flight & STREAM_SEND) != 0)
        ring_cancel(ring, stream_op(s, STREAM_OP_SEND,
                                    s->polls_down ? BUF_NONE : stream_slice_at(s, s->head)->buf));
    if ((s->flight & STREAM_CONNECT) != 0)
        ring_cancel(ring, stream_op(s, STREAM_OP_CONNECT, 0));
    if ((s->flight & STREAM_BESIDE) != 0)
        ring_cancel(ring, stream_op(s, STREAM_OP_CONNECT, 1));
}

/* True if the peer has been told. Behind all that was said before: a reset must not destroy what
 * came before it (v1's StreamClose is also the regular end), and what comes behind it would be
 * taken for a frame of the next stream that has this id. */
static bool stream_send_reset(struct stream *s, struct lane *lane)
{
    if (s->waiter.pending > 0 || lane_data_overtakes(lane))
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

static void stream_detach_lane(struct stream *s)
{
    struct lane *lane = s->lane;

    list_remove(&s->lane_node);
    if (lane == NULL)
        return;
    lane_disown(lane, &s->waiter);
    CHECK(lane->stream_count > 0);
    lane->stream_count--;
    CHECK((lane->stream_count == 0) == list_empty(&lane->streams));
    CHECK(lane->paused <= lane->stream_count);
    if (lane->ids.map != NULL && lane->ids.map[s->wire_id & lane->ids.mask] == s->slot + 1)
        lane->ids.map[s->wire_id & lane->ids.mask] = 0;
    if (lane->in.stream == s)
        lane->in.stream = NULL;
    if (stream_makes_ids(lane))
        lane_keep(lane, s->wire_id);
    s->lane = NULL;
    s->tunnel = NULL;
}

/* A stream that is over leaves its lane when it has said all and the queue names it no more. */
static void stream_leave_lane(struct stream *s)
{
    struct lane *lane = s->lane;

    if (lane == NULL || !lane_takes(lane) || (!s->reset_due && s->waiter.pending == 0))
        stream_detach_lane(s);
}

static void stream_unhold_lane(struct stream *s)
{
    if (s->lane_paused)
        lane_unhold(s->lane);
    s->lane_paused = false;
}

/* Queued slices go at once, but for those that the kernel is reading. */
static void stream_drop_queue(struct stream *s)
{
    uint32_t index = stream_queue_cut(s);

    while (index != SLAB_NONE) {
        struct slice slice = *stream_slice_at(s, index);

        buf_put(&s->loop->bufs, slice.buf);
        stream_slice_give(s, index);
        index = slice.next;
    }
}

void stream_rx_drop(struct stream *s)
{
    CHECK(s->sending <= s->queued);
    stream_drop_queue(s);
    s->bytes_down -= s->queued - s->sending;
    s->queued = s->sending;
}

static void stream_count_end(struct loop *loop, enum reason reason)
{
    bool clean = !reason_is_rst(reason);

    loop_count(loop, clean ? STAT_STREAMS_DONE : STAT_STREAMS_RESET, 1);
}

/* The peer has said its last word about this stream, and needs none of ours. */
static bool stream_peer_is_done(const struct stream *s)
{
    unsigned both = STREAM_UP_FIN | STREAM_DOWN_FIN;

    return (s->ends & STREAM_DOWN_RST) != 0 || (s->ends & both) == both;
}

static void stream_drop_window(struct stream *s)
{
    CHECK(list_linked(&s->wide_node) == (s->rx.counted > 0));
    list_remove(&s->wide_node);
    if (s->rx.counted > 0)
        share_give(s->share, SHARE_WINDOW, s->rx.counted);
    s->rx.counted = 0;
}

struct stream_moved stream_moved(const struct stream *s)
{
    bool server = s->table->role->opens_streams;
    uint64_t sent = s->bytes_up, delivered = s->bytes_down - s->queued;

    CHECK(s->bytes_down >= s->queued);
    return (struct stream_moved){ .up = server ? sent : delivered,
                                  .down = server ? delivered : sent };
}

void stream_close(struct stream *s, enum reason reason, bool tell)
{
    struct loop *loop = s->loop;
    struct lane *lane = s->lane;

    if (s->state == STREAM_CLOSING)
        return;
    struct stream_moved moved = stream_moved(s);

    log_at(LOG_DEBUG, stream_subject(s), "ends: %s, %llu bytes up, %llu down", reason_text(reason),
           (unsigned long long)moved.up, (unsigned long long)moved.down);
    if (loop->config->log_visitors)
        stream_log_end(s, reason, tell);
    stream_set_state(s, STREAM_CLOSING);
    s->reason = (uint8_t)reason;
    stream_count_end(loop, reason);
    timer_stop(&s->timer);
    list_remove(&s->dirty_node);
    lane_line_leave(s->lane, &s->waiter);
    list_remove(&s->waiter.node);
    s->starved = false;
    list_remove(&s->sweep_node);
    stream_mark(s);
    CHECK(!s->bulk || s->table->bulk > 0);
    if (s->bulk)
        s->table->bulk--;
    stream_cancel_flight(s);
    stream_drop_queue(s);
    if (s->held != BUF_NONE)
        buf_put(&loop->bufs, s->held);
    s->held = BUF_NONE;
    stream_drop_window(s);
    stream_unhold_lane(s);
    if (tell && lane != NULL && lane_takes(lane) && !stream_peer_is_done(s))
        s->reset_due = !stream_send_reset(s, lane); /* stream_join goes on */
    stream_leave_lane(s);
}

void stream_peer_ended(struct stream *s, bool reset)
{
    CHECK(s->state == STREAM_CLOSING);
    s->ends |= reset ? STREAM_DOWN_RST : STREAM_DOWN_FIN;
    if (stream_peer_is_done(s))
        s->reset_due = false;
    stream_mark(s);
}

/* All has arrived, and all was said. On v2 both sides have said FIN, and ours was given to the
 * wire: the peer may be done with the stream, drain and leave. A v1 client says StreamClose when
 * its origin has ended, and may then leave: what has arrived is still the visitor's. */
static bool stream_needs_no_lane(const struct stream *s)
{
    unsigned both = STREAM_UP_FIN | STREAM_DOWN_FIN;
    const struct lane *lane = s->lane;

    if (lane->version != FRAME_V1)
        return (s->ends & both) == both && lane_data_left(lane, s->fin_at);
    return (s->ends & STREAM_DOWN_FIN) != 0 && s->table->role->opens_streams &&
           lane->reason == REASON_LANE_EOF;
}

static bool stream_outlives_lane(const struct stream *s)
{
    unsigned over = STREAM_DOWN_DEAD | STREAM_DOWN_RST;

    return s->state == STREAM_OPEN && (s->ends & over) == 0 && stream_needs_no_lane(s) &&
           s->loop->phase < LOOP_STOPPING;
}

static void stream_go_on_alone(struct stream *s)
{
    struct loop *loop = s->loop;

    if (s->held != BUF_NONE)
        buf_put(&loop->bufs, s->held);
    s->held = BUF_NONE;
    s->ends |= STREAM_UP_EOF;
    s->took = loop->now;
    s->acked = sock_acked(s->fd);
    stream_drop_window(s);
    lane_line_leave(s->lane, &s->waiter);
    stream_unhold_lane(s);
    stream_detach_lane(s);
    list_append(&s->table->orphans, &s->lane_node);
    stream_mark(s);
}

void stream_lane_lost(struct stream *s, enum reason reason)
{
    if (stream_outlives_lane(s)) {
        stream_go_on_alone(s);
    } else if (s->state != STREAM_CLOSING) {
        stream_close(s, reason, false);
    } else {
        s->reset_due = false;
        stream_detach_lane(s);
        stream_mark(s);
    }
}

/* Behind FINs of both sides RST cannot say anything any more, only destroy what was whole
 * (sock.h). */
static bool stream_ends_by_fin(const struct stream *s)
{
    unsigned both = STREAM_UP_EOF | STREAM_DOWN_SHUT;

    return !reason_is_rst((enum reason)s->reason) || (s->ends & both) == both;
}

/* RESET that finds no room stands in line for some. Behind bulk it waits for that to leave. */
static void stream_say_reset(struct stream *s)
{
    s->waiter.refused = LANE_LINE_NONE;
    if (s->reset_due && s->waiter.pending == 0) {
        s->reset_due = !stream_send_reset(s, s->lane);
        s->waiter.refused = s->reset_due ? LANE_LINE_RESET : LANE_LINE_NONE;
    }
    lane_line_settle(s->lane, &s->waiter);
}

static bool stream_is_listed(const struct stream *s)
{
    return list_linked(&s->lane_node) || list_linked(&s->dirty_node) ||
           list_linked(&s->waiter.node) || list_linked(&s->sweep_node) ||
           list_linked(&s->wide_node) || timer_is_set(&s->timer) || list_linked(&s->waiter.woken);
}

/* It holds nothing that somebody would still expect back. */
static bool stream_holds(const struct stream *s)
{
    return s->held != BUF_NONE || s->recv_buf != BUF_NONE || s->head != SLAB_NONE ||
           s->rx.counted > 0 || s->lane_paused || s->waiter.pending > 0;
}

bool stream_join(struct stream *s)
{
    CHECK(s->state == STREAM_CLOSING);
    loop_count(s->loop, STAT_JOINS, 1);
    stream_say_reset(s);
    stream_leave_lane(s);
    if (s->flight != 0)
        return false;
    if (s->fd >= 0) {
        if (stream_ends_by_fin(s))
            sock_set_fin(s->fd);
        stream_drop_fd(s);
    }
    if (s->way.beside >= 0)
        stream_drop_beside(s);
    /* Notifications of what a peer has not acknowledged come because the socket is closed, not
     * before. */
    if (s->zc.pending > 0 || s->lane != NULL)
        return false;
    if (s->head != SLAB_NONE)
        stream_drop_queue(s);
    timer_stop(&s->timer);
    list_remove(&s->waiter.woken);
    CHECK(!stream_is_listed(s) && !stream_holds(s));
    stream_set_state(s, STREAM_FREE);
    share_give(s->share, SHARE_STREAMS, 1);
    share_unref(s->share);
    slab_give(&s->table->slab, s->slot);
    return true;
}

/* Time-outs: see relay.c for who sets them. */
static void stream_timer_fire(struct timer *timer)
{
    struct stream *s = container_of(timer, struct stream, timer);

    if (s->state == STREAM_CLOSING)
        stream_cancel_flight(s);
    else if (s->state == STREAM_CONNECTING)
        s->table->role->stream_late(s);
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
