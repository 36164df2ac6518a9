/* lane_tx: the send side of a lane. Theory of operation in lane.h. */
#include "core/crypt.h"
#include "core/lane.h"
#include "core/lane_impl.h"
#include "core/op.h"
#include "core/stream.h"
#include "core/worker.h"

#include <errno.h>

#define ZC_MIN (64u * 1024u)
/* So much room in the data pack for each stream that gets its turn by itself; others follow it. */
#define LANE_LINE_STEP (8u * BUF_SMALL_SIZE)

enum { ZC_UNDECIDED, ZC_ON, ZC_OFF };

/* Packs */

/* Counts are told in control frames, and let both ends forget: they have a sixteenth of the pool
 * that is not held against their owner. */
static uint32_t pack_small(struct lane *lane, const struct lane_pack *pack)
{
    struct buf_pool *bufs = &lane->worker->bufs;
    bool control = pack == &lane->control;

    if (control && slab_available(&bufs->small) > bufs->small.count / 16)
        return buf_take_small(bufs, lane->share);
    return buf_take_allowed(bufs, lane->share);
}

static uint32_t pack_take(struct lane *lane, const struct lane_pack *pack, bool big)
{
    struct buf_pool *bufs = &lane->worker->bufs;
    uint32_t buf = big ? buf_take_bulk(bufs, lane->share) : BUF_NONE;

    return buf != BUF_NONE ? buf : pack_small(lane, pack);
}

/* Makes room for `room` bytes behind what waits: at the front of its own buffer if the log keeps
 * nothing of it, or in another one. Nothing of it is in flight. False: so much waits, or buffers
 * are so short. */
static bool pack_move(struct lane *lane, struct lane_pack *pack, uint32_t room, bool big)
{
    struct buf_pool *bufs = &lane->worker->bufs;
    uint32_t size = pack->filled - pack->sent, need = size + room;
    bool own = buf_refs(bufs, pack->buf) == 1;
    uint32_t to = own && need <= buf_size(pack->buf) ? pack->buf : BUF_NONE;

    if (to == BUF_NONE && need <= BUF_BIG_SIZE && (big || need > BUF_SMALL_SIZE))
        to = buf_take_bulk(bufs, lane->share);
    if (to == BUF_NONE && need <= BUF_SMALL_SIZE)
        to = pack_small(lane, pack);
    if (to == BUF_NONE)
        return false;
    memmove(buf_data(bufs, to), buf_data(bufs, pack->buf) + pack->sent, size);
    if (to != pack->buf)
        buf_put(bufs, pack->buf);
    *pack = (struct lane_pack){ .buf = to, .sent = 0, .filled = size };
    return true;
}

/* Room for `room` bytes behind what is there, or NULL: then a send is in flight, whose completion
 * makes room, or buffers are short, and the lane is woken when there are some. */
static uint8_t *pack_begin(struct lane *lane, struct lane_pack *pack, uint32_t room, bool big)
{
    struct buf_pool *bufs = &lane->worker->bufs;

    if (!lane_takes(lane))
        return NULL;
    if (pack->buf == BUF_NONE)
        *pack = (struct lane_pack){ .buf = pack_take(lane, pack, big) };
    bool there = pack->buf != BUF_NONE && pack->filled + room <= buf_size(pack->buf);
    if (!there && pack->buf != BUF_NONE && (!lane->send_flight || pack->sent == pack->filled))
        there = pack_move(lane, pack, room, big);
    if (there)
        return buf_data(bufs, pack->buf) + pack->filled;
    if (!lane->send_flight && lane->state == LANE_OPEN)
        lane_starve(lane);
    return NULL;
}

static void pack_end(struct lane *lane, struct lane_pack *pack, const uint8_t *end)
{
    const uint8_t *base = buf_data(&lane->worker->bufs, pack->buf);
    uint32_t filled = (uint32_t)(end - base);

    CHECK(filled >= pack->filled && filled <= buf_size(pack->buf));
    pack->filled = filled;
    lane_mark(lane);
}

/* A pack that is empty gives its buffer back, and the next one that is taken is the same, and warm;
 * unless the log keeps something of it: then it is filled further. */
static void pack_settle(struct lane *lane, struct lane_pack *pack)
{
    struct buf_pool *bufs = &lane->worker->bufs;

    if (pack->buf == BUF_NONE || pack->sent < pack->filled || buf_refs(bufs, pack->buf) > 1)
        return;
    buf_put(bufs, pack->buf);
    *pack = (struct lane_pack){ .buf = BUF_NONE };
}

static void pack_sent(struct lane *lane, struct lane_pack *pack, uint32_t bytes)
{
    CHECK(pack->sent + bytes <= pack->filled);
    if (bytes == 0)
        return;
    lane_log(lane, pack->buf, pack->sent, bytes);
    pack->sent += bytes;
    pack_settle(lane, pack);
}

void lane_tx_settle(struct lane *lane)
{
    pack_settle(lane, &lane->control);
    pack_settle(lane, &lane->data);
}

uint8_t *lane_control_begin(struct lane *lane)
{
    return pack_begin(lane, &lane->control, FRAME_CONTROL_MAX, false);
}

void lane_control_end(struct lane *lane, const uint8_t *end)
{
    pack_end(lane, &lane->control, end);
}

void lane_control_drop(struct lane *lane)
{
    pack_settle(lane, &lane->control);
}

void lane_data_drop(struct lane *lane)
{
    pack_settle(lane, &lane->data);
}

uint8_t *lane_data_begin(struct lane *lane, uint32_t room)
{
    return pack_begin(lane, &lane->data, room, !lane->logs || lane->data_busy);
}

void lane_data_end(struct lane *lane, const uint8_t *end)
{
    pack_end(lane, &lane->data, end);
}

void lane_goaway(struct lane *lane, enum reason reason)
{
    lane_goaway_text(lane, reason, reason_text(reason));
}

void lane_goaway_text(struct lane *lane, enum reason reason, const char *text)
{
    struct frame_error error = { .code = reason_code(reason),
                                 .text = { .data = text, .size = strlen(text) } };

    if (lane->goaway_sent || lane->state != LANE_OPEN || lane->version != FRAME_V2)
        return; /* a v1 peer does not know it */
    uint8_t *p = lane_control_begin(lane);
    if (p == NULL)
        return;
    lane_control_end(lane, frame_put_goaway(lane->version, p, &error));
    lane->goaway_sent = true;
}

/* Bulk */

bool lane_bulk_room(const struct lane *lane)
{
    return lane->seg_count < LANE_SEGMENTS && lane->bulk_bytes < LANE_BULK_BYTES &&
           !lane_log_full(lane);
}

void lane_bulk_push(struct lane *lane, struct stream *stream, uint32_t buf, uint32_t offset,
                    uint32_t size)
{
    CHECK(lane_bulk_room(lane));
    lane->segments[(lane->seg_head + lane->seg_count) % LANE_SEGMENTS] =
        (struct lane_segment){ .buf = buf,
                               .offset = offset,
                               .size = size,
                               .stream = stream->slot,
                               .wire_id = stream->wire_id };
    lane->seg_count++;
    lane->bulk_bytes += size;
    lane_mark(lane);
}

/* The stream of a segment that left has room for more. */
static void segment_left(struct lane *lane, const struct lane_segment *segment, uint32_t bytes)
{
    struct stream *s = slab_at(&lane->worker->streams, segment->stream);

    if (s->lane != lane) /* the lane lingers */
        return;
    CHECK(s->wire_id == segment->wire_id && s->bulk_pending >= bytes);
    s->bulk_pending -= bytes;
    stream_mark(s);
}

static void segments_sent(struct lane *lane, uint32_t bytes)
{
    lane->bulk_bytes -= bytes;
    lane->kept.left.bulk += bytes;
    while (bytes > 0) {
        struct lane_segment *segment = &lane->segments[lane->seg_head];
        uint32_t n = min_u32(bytes, segment->size - lane->seg_sent);

        lane_log(lane, segment->buf, segment->offset + lane->seg_sent, n);
        lane->seg_sent += n;
        bytes -= n;
        if (lane->seg_sent < segment->size)
            return;
        segment_left(lane, segment, segment->size);
        buf_put(&lane->worker->bufs, segment->buf);
        lane->seg_head = (lane->seg_head + 1) % LANE_SEGMENTS;
        lane->seg_count--;
        lane->seg_sent = 0;
    }
}

/* Flush */

uint64_t lane_send_op(const struct lane *lane)
{
    uint32_t aux = lane->flight_zc ? lane->segments[lane->seg_head].buf : BUF_NONE;

    return op_pack(OP_LANE_SEND, lane->slot, lane->generation, aux);
}

static uint32_t add_pack(struct lane *lane, const struct lane_pack *pack, unsigned *count)
{
    uint32_t size = pack->filled - pack->sent;

    if (pack->buf == BUF_NONE || size == 0)
        return 0;
    lane->iov[*count].iov_base = buf_data(&lane->worker->bufs, pack->buf) + pack->sent;
    lane->iov[*count].iov_len = size;
    (*count)++;
    return size;
}

static bool has_preface(const struct lane *lane)
{
    return lane->preface_sent < lane->preface_size;
}

static unsigned add_preface(struct lane *lane)
{
    lane->flight_preface = lane->preface_size - lane->preface_sent;
    if (lane->flight_preface == 0)
        return 0;
    lane->iov[0].iov_base = lane->preface + lane->preface_sent;
    lane->iov[0].iov_len = lane->flight_preface;
    return 1;
}

static void add_segments(struct lane *lane, unsigned *count, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        const struct lane_segment *segment = &lane->segments[(lane->seg_head + i) % LANE_SEGMENTS];
        uint32_t skip = i == 0 ? lane->seg_sent : 0;

        lane->iov[*count].iov_base =
            buf_data(&lane->worker->bufs, segment->buf) + segment->offset + skip;
        lane->iov[*count].iov_len = segment->size - skip;
        (*count)++;
    }
}

static bool zc_wanted(struct lane *lane)
{
    if (lane->tls || lane->zc == ZC_OFF || lane->seg_count == 0 || lane->seg_sent > 0 ||
        lane->segments[lane->seg_head].size < ZC_MIN)
        return false;
    if (lane->zc == ZC_UNDECIDED) {
        bool local =
            sock_addr_is_loopback(&lane->peer) && lane->worker->config->zero_copy != CONFIG_ON;
        lane->zc = ring_features()->send_zc && !local ? ZC_ON : ZC_OFF;
    }
    return lane->zc == ZC_ON;
}

/* One segment by itself: its buffer comes back with the notification, while the lane goes on with
 * the next. */
static void flush_zc(struct lane *lane)
{
    struct worker *w = lane->worker;

    lane->zc_pending++;
    buf_ref(&w->bufs, lane->segments[lane->seg_head].buf);
    worker_count(w, STAT_ZC_SENDS, 1);
    lane_gate_segment(lane);
}

/* Segments that a copying send takes: all, or with zero copy those in front of the first that is
 * large enough for it. */
static uint32_t copied_segments(const struct lane *lane, uint32_t from)
{
    uint32_t i = from;

    if (lane->zc != ZC_ON || lane->tls)
        return lane->seg_count;
    while (i < lane->seg_count &&
           lane->segments[(lane->seg_head + i) % LANE_SEGMENTS].size < ZC_MIN)
        i++;
    return i;
}

unsigned lane_tx_gather(struct lane *lane)
{
    unsigned count = add_preface(lane);
    uint32_t begun = lane->seg_sent > 0 ? 1 : 0; /* a frame on the wire is finished first */

    lane->flight_control = lane->flight_data = lane->flight_replay = 0;
    lane->flight_begun = false;
    if (count > 0)
        /* in a record of its own: a peer whose buffers are kept by its log must be able to read
         * JOIN_OK in a small one */
        return count;
    count = lane_replay_gather(lane, count);
    if (lane->replay_left > 0)
        return count;
    add_segments(lane, &count, 0, begun);
    if (lane->data_cut)
        lane->flight_data = add_pack(lane, &lane->data, &count);
    lane->flight_control = add_pack(lane, &lane->control, &count);
    if (!lane->data_cut)
        lane->flight_data = add_pack(lane, &lane->data, &count);
    add_segments(lane, &count, begun, copied_segments(lane, begun));
    lane->flight_begun = begun > 0;
    lane->data_busy = lane->flight_data > BUF_SMALL_SIZE / 2;
    return count;
}

unsigned lane_send_flags(const struct lane *lane)
{
    return lane->tls && crypt_tx_kernel(lane->crypt) ? 0 : RING_WAITALL;
}

static bool packs_empty(const struct lane *lane)
{
    return lane->control.filled == lane->control.sent && lane->data.filled == lane->data.sent;
}

bool lane_tx_empty(const struct lane *lane)
{
    return packs_empty(lane) && lane->seg_count == 0 && !has_preface(lane) &&
           lane->replay_left == 0;
}

/* Everything is out: a lane that lingers says FIN. */
static void flushed(struct lane *lane)
{
    if (lane->awaits_out) {
        lane->awaits_out = false;
        lane->worker->role->lane_out(lane);
        return;
    }
    if (lane->state == LANE_LINGER && !lane->shut) {
        if (lane->tls && lane_crypt_end(lane))
            return;
        lane->shut = true;
        (void)sock_shutdown_write(lane->fd);
    }
}

void lane_flush(struct lane *lane)
{
    CHECK(lane_is_connected(lane) && lane->fd >= 0 && lane->tls == (lane->crypt != NULL));
    lane_read(lane);
    if (!lane_is_connected(lane)) /* by what was opened of records that had waited */
        return;
    if (lane->send_flight || (lane->tls && lane_crypt_flush(lane)))
        return;
    if (lane_tx_empty(lane)) {
        flushed(lane);
        return;
    }
    lane->flight_begun = false;
    lane->flight_control = lane->flight_data = lane->flight_replay = lane->flight_preface = 0;
    if (packs_empty(lane) && !has_preface(lane) && lane->replay_left == 0 && zc_wanted(lane))
        flush_zc(lane);
    else
        lane_gate_frames(lane, lane_tx_gather(lane));
}

bool lane_can_wait(const struct lane *lane)
{
    return lane->state == LANE_OPEN && !lane->send_flight && lane->seg_count == 0 &&
           !has_preface(lane) && lane->replay_left == 0 &&
           lane->control.filled == lane->control.sent && lane->data.filled > lane->data.sent &&
           lane->data.filled - lane->data.sent <= LANE_HOLD;
}

void lane_mark(struct lane *lane)
{
    if (lane_is_connected(lane) && !list_linked(&lane->dirty_node))
        list_append(&lane->worker->dirty_lanes, &lane->dirty_node);
}

/* Completion */

static uint32_t data_sent(struct lane *lane, uint32_t bytes)
{
    uint32_t n = min_u32(bytes, lane->flight_data);

    pack_sent(lane, &lane->data, n);
    lane->kept.left.data += n;
    if (n > 0)
        lane->data_cut = n < lane->flight_data;
    return n;
}

static void account(struct lane *lane, uint32_t bytes)
{
    bool data_first = lane->data_cut;
    uint32_t n = min_u32(bytes, lane->flight_preface);

    lane->preface_sent += n;
    if (n > 0 && lane->preface_sent == lane->preface_size)
        lane_preface_drop(lane);
    bytes -= n;
    n = min_u32(bytes, lane->flight_replay);
    lane->replay_left -= n;
    bytes -= n;
    if (bytes == 0)
        return;
    if (lane->flight_begun) {
        n = min_u32(bytes, lane->segments[lane->seg_head].size - lane->seg_sent);
        segments_sent(lane, n);
        bytes -= n;
    }
    if (data_first)
        bytes -= data_sent(lane, bytes);
    n = min_u32(bytes, lane->flight_control);
    pack_sent(lane, &lane->control, n);
    lane->kept.left.control += n;
    bytes -= n;
    if (!data_first)
        bytes -= data_sent(lane, bytes);
    segments_sent(lane, bytes);
}

/* What the data pack takes at least. */
static uint32_t data_room(const struct lane *lane)
{
    if (lane->data.buf != BUF_NONE)
        return buf_size(lane->data.buf) - lane->data.filled;
    return lane->logs && !lane->data_busy ? BUF_SMALL_SIZE : BUF_BIG_SIZE;
}

/* Streams in line get their turn: they are pumped in this turn of the worker. The first ones
 * together with those that are marked already, so that they get their share of the room. */
void lane_tx_wake(struct lane *lane)
{
    lane_line_wake(lane, LANE_LINE_DATA, 1 + data_room(lane) / LANE_LINE_STEP);
    lane_line_wake(lane, LANE_LINE_CONTROL, 1);
    lane_line_wake(lane, LANE_LINE_RESET, 1);
    if (lane_bulk_room(lane))
        lane_line_wake(lane, LANE_LINE_BULK, LANE_SEGMENTS - lane->seg_count);
}

void lane_tx_left(struct lane *lane, uint32_t bytes)
{
    account(lane, bytes);
    lane_log_trim(lane); /* the peer may have been quicker than our completion */
    lane_kept_left(lane);
    lane_tx_wake(lane);
    lane_mark(lane);
}

/* The connection is lost with a send in flight: it counts as sent. */
static void flight_lost(struct lane *lane)
{
    if (lane->logs && !lane->flight_sealed)
        account(lane, lane->flight_size);
    lane->flight_sealed = false;
}

static void zc_release(struct lane *lane, uint32_t buf, unsigned flags)
{
    CHECK(lane->zc_pending > 0);
    lane->zc_pending--;
    buf_put(&lane->worker->bufs, buf);
    if ((flags & RING_CQE_COPIED) == 0)
        return;
    if (lane->zc_void > 0) {
        lane->zc_void--;
        return;
    }
    worker_count(lane->worker, STAT_ZC_COPIED, 1);
    if (lane->worker->config->zero_copy != CONFIG_ON)
        lane->zc = ZC_OFF;
}

/* See relay.c; and struct stream. */
static void zc_result(struct lane *lane, uint32_t buf, const struct ring_cqe *cqe)
{
    if ((cqe->flags & RING_CQE_MORE) == 0)
        zc_release(lane, buf, 0); /* failed before it was one: no notification comes */
    else if (cqe->res <= 0)
        lane->zc_void++;
}

static void send_failed(struct lane *lane, int error)
{
    if (lane->flight_zc && ring_zc_refused(error)) {
        lane->zc = ZC_OFF;
        lane_mark(lane);
    } else if (error == -EAGAIN || error == -EINTR) {
        lane_mark(lane);
    } else {
        flight_lost(lane);
        lane_lost(lane, REASON_LANE_ERROR, strerror(-error));
    }
}

void lane_send_done(struct worker *w, const struct ring_cqe *cqe)
{
    struct op op = op_unpack(cqe->user_data);
    struct lane *lane = slab_at(&w->lanes, op.slot);

    CHECK(lane->state != LANE_FREE);
    if ((cqe->flags & RING_CQE_NOTIF) != 0) {
        zc_release(lane, op.aux, cqe->flags);
        return;
    }
    CHECK(lane->send_flight);
    lane->send_flight = false;
    if (w->now - lane->send_since > V1_STALL_NS / 10)
        lane->unblocked = w->now;
    if (lane->flight_zc)
        zc_result(lane, op.aux, cqe);
    if (lane->state == LANE_CLOSING)
        return;
    if (lane->state == LANE_FROZEN) {
        flight_lost(lane);
        lane_line_wake(lane, LANE_LINE_RESET, 1); /* others wait until it is back */
        return;
    }
    if (cqe->res < 0) {
        send_failed(lane, cqe->res);
        return;
    }
    /* See relay.c: a reset that met a waiting send. */
    if ((uint32_t)cqe->res < lane->flight_size && (lane_send_flags(lane) & RING_WAITALL) != 0) {
        send_failed(lane, -ECONNRESET);
        return;
    }
    worker_count(w, STAT_LANE_SENDS, 1);
    worker_count(w, STAT_LANE_SEND_BYTES, (uint64_t)cqe->res);
    if (lane->tls)
        lane_crypt_sent(lane, (uint32_t)cqe->res);
    else
        lane_tx_left(lane, (uint32_t)cqe->res);
}

void lane_tx_release(struct lane *lane)
{
    struct buf_pool *bufs = &lane->worker->bufs;

    for (; lane->seg_count > 0; lane->seg_count--) {
        buf_put(bufs, lane->segments[lane->seg_head].buf);
        lane->seg_head = (lane->seg_head + 1) % LANE_SEGMENTS;
    }
    if (lane->control.buf != BUF_NONE)
        buf_put(bufs, lane->control.buf);
    if (lane->data.buf != BUF_NONE)
        buf_put(bufs, lane->data.buf);
    lane->control = lane->data = (struct lane_pack){ .buf = BUF_NONE };
    lane->seg_sent = lane->bulk_bytes = 0;
    lane->data_cut = false;
    lane->replay_left = 0;
    lane_preface_drop(lane);
}
