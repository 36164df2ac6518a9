/* lane_tx: the send side of a lane. Theory of operation in lane.h. */
#include "core/io/op.h"
#include "core/mux/conn.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

#include <errno.h>

/* So much room in the data pack for each stream that gets its turn by itself; others follow it. */
#define LANE_LINE_STEP (8u * BUF_SMALL_SIZE)

/* Packs */

/* Counts are told in control frames, and let both ends forget: they have a sixteenth of the pool
 * that is not held against their owner. */
static uint32_t tx_pack_small(struct lane *lane, const struct lane_pack *pack)
{
    struct buf_pool *bufs = &lane->loop->bufs;
    bool control = pack == &lane->control;

    if (control && slab_available(&bufs->small) > bufs->small.count / 16)
        return buf_take_small(bufs, lane->share);
    return buf_take_allowed(bufs, lane->share);
}

static uint32_t tx_pack_take(struct lane *lane, const struct lane_pack *pack, bool big)
{
    struct buf_pool *bufs = &lane->loop->bufs;
    uint32_t buf = big ? buf_take_bulk(bufs, lane->share) : BUF_NONE;

    return buf != BUF_NONE ? buf : tx_pack_small(lane, pack);
}

/* Makes room for `room` bytes behind what waits: at the front of its own buffer if the log keeps
 * nothing of it, or in another one. Nothing of it is in flight. False: so much waits, or buffers
 * are so short. */
static bool tx_pack_move(struct lane *lane, struct lane_pack *pack, uint32_t room, bool big)
{
    struct buf_pool *bufs = &lane->loop->bufs;
    uint32_t size = pack->filled - pack->sent, need = size + room;
    bool own = buf_refs(bufs, pack->buf) == 1;
    uint32_t to = own && need <= buf_size(pack->buf) ? pack->buf : BUF_NONE;

    if (to == BUF_NONE && need <= BUF_BIG_SIZE && (big || need > BUF_SMALL_SIZE))
        to = buf_take_bulk(bufs, lane->share);
    if (to == BUF_NONE && need <= BUF_SMALL_SIZE)
        to = tx_pack_small(lane, pack);
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
static uint8_t *tx_pack_begin(struct lane *lane, struct lane_pack *pack, uint32_t room, bool big)
{
    struct buf_pool *bufs = &lane->loop->bufs;

    if (!lane_takes(lane))
        return NULL;
    if (pack->buf == BUF_NONE)
        *pack = (struct lane_pack){ .buf = tx_pack_take(lane, pack, big) };
    bool there = pack->buf != BUF_NONE && pack->filled + room <= buf_size(pack->buf);
    if (!there && pack->buf != BUF_NONE && (!lane->conn.send_flight || pack->sent == pack->filled))
        there = tx_pack_move(lane, pack, room, big);
    if (there)
        return buf_data(bufs, pack->buf) + pack->filled;
    if (!lane->conn.send_flight && lane->state == LANE_OPEN)
        lane_starve(lane);
    return NULL;
}

static void tx_pack_end(struct lane *lane, struct lane_pack *pack, const uint8_t *end)
{
    const uint8_t *base = buf_data(&lane->loop->bufs, pack->buf);
    uint32_t filled = (uint32_t)(end - base);

    CHECK(filled >= pack->filled && filled <= buf_size(pack->buf));
    pack->filled = filled;
    lane_mark(lane);
}

/* A pack that is empty gives its buffer back, and the next one that is taken is the same, and warm;
 * unless the log keeps something of it: then it is filled further. */
static void tx_pack_settle(struct lane *lane, struct lane_pack *pack)
{
    struct buf_pool *bufs = &lane->loop->bufs;

    if (pack->buf == BUF_NONE || pack->sent < pack->filled || buf_refs(bufs, pack->buf) > 1)
        return;
    buf_put(bufs, pack->buf);
    *pack = (struct lane_pack){ .buf = BUF_NONE };
}

static void tx_pack_sent(struct lane *lane, struct lane_pack *pack, uint32_t bytes)
{
    CHECK(pack->sent + bytes <= pack->filled);
    if (bytes == 0)
        return;
    lane_log(lane, pack->buf, pack->sent, bytes);
    pack->sent += bytes;
    tx_pack_settle(lane, pack);
}

void lane_tx_settle(struct lane *lane)
{
    tx_pack_settle(lane, &lane->control);
    tx_pack_settle(lane, &lane->data);
}

uint8_t *lane_control_begin(struct lane *lane)
{
    return tx_pack_begin(lane, &lane->control, FRAME_CONTROL_MAX, false);
}

void lane_control_end(struct lane *lane, const uint8_t *end)
{
    tx_pack_end(lane, &lane->control, end);
}

void lane_control_drop(struct lane *lane)
{
    tx_pack_settle(lane, &lane->control);
}

void lane_data_drop(struct lane *lane)
{
    tx_pack_settle(lane, &lane->data);
}

uint8_t *lane_data_begin(struct lane *lane, uint32_t room)
{
    return tx_pack_begin(lane, &lane->data, room, !lane->retain.keeps || lane->data_busy);
}

void lane_data_end(struct lane *lane, const uint8_t *end)
{
    tx_pack_end(lane, &lane->data, end);
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
           !retain_is_full(&lane->retain);
}

void lane_bulk_push(struct lane *lane, struct lane_waiter *waiter, uint32_t buf, uint32_t offset,
                    uint32_t size)
{
    CHECK(lane_bulk_room(lane) && size > 0 && offset + size <= buf_size(buf));
    lane->segments[(lane->seg_head + lane->seg_count) % LANE_SEGMENTS] =
        (struct lane_segment){ .buf = buf, .offset = offset, .size = size, .waiter = waiter };
    lane->seg_count++;
    lane->bulk_bytes += size;
    waiter->pending += size;
    CHECK(waiter->pending <= lane->bulk_bytes + lane->seg_sent);
    lane_mark(lane);
}

bool lane_takes_pipes(struct lane *lane)
{
    return lane_moves(lane) && lane->state == LANE_OPEN && !lane->retain.keeps;
}

uint32_t lane_pipe_most(struct lane *lane)
{
    return min_u32(conn_path_most(&lane->conn), lane->terms.max_data);
}

void lane_bulk_push_pipe(struct lane *lane, struct lane_waiter *waiter, uint32_t pipe,
                         const struct frame *frame)
{
    uint32_t header = (uint32_t)frame_header_size(lane->version);
    uint32_t index = (lane->seg_head + lane->seg_count) % LANE_SEGMENTS;
    struct lane_segment *segment = &lane->segments[index];

    CHECK(lane_bulk_room(lane) && buf_is_pipe(pipe) && !lane->retain.keeps);
    *segment =
        (struct lane_segment){ .buf = pipe, .size = header + frame->length, .waiter = waiter };
    frame_put(lane->version, segment->header, frame);
    lane->seg_count++;
    lane->bulk_bytes += segment->size;
    waiter->pending += segment->size;
    lane_mark(lane);
}

void lane_disown(struct lane *lane, struct lane_waiter *waiter)
{
    CHECK(waiter->line == LANE_LINE_NONE ? !waiter->turn : list_linked(&waiter->node));
    lane_line_leave(lane, waiter);
    for (uint32_t i = 0; i < lane->seg_count && waiter->pending > 0; i++) {
        struct lane_segment *segment = &lane->segments[(lane->seg_head + i) % LANE_SEGMENTS];

        if (segment->waiter != waiter)
            continue;
        CHECK(waiter->pending >= segment->size);
        waiter->pending -= segment->size;
        segment->waiter = NULL;
    }
    CHECK(waiter->pending == 0);
}

static void tx_segment_left(struct lane *lane, const struct lane_segment *segment)
{
    struct lane_waiter *waiter = segment->waiter;

    if (waiter == NULL)
        return;
    CHECK(waiter->pending >= segment->size);
    waiter->pending -= segment->size;
    lane_waiter_wake(lane, waiter);
}

static void tx_segments_sent(struct lane *lane, uint32_t bytes)
{
    if (bytes == 0)
        return;
    CHECK(bytes <= lane->bulk_bytes);
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
        tx_segment_left(lane, segment);
        buf_put(&lane->loop->bufs, segment->buf);
        lane->seg_head = (lane->seg_head + 1) % LANE_SEGMENTS;
        lane->seg_count--;
        lane->seg_sent = 0;
    }
    lane_check_sends(lane);
}

/* What has left */

static uint32_t tx_data_sent(struct lane *lane, uint32_t bytes)
{
    uint32_t n = min_u32(bytes, lane->flight_data);

    tx_pack_sent(lane, &lane->data, n);
    lane->kept.left.data += n;
    if (n > 0)
        lane->data_cut = n < lane->flight_data;
    return n;
}

static void tx_account(struct lane *lane, uint32_t bytes)
{
    bool data_first = lane->data_cut;
    uint32_t n = min_u32(bytes, lane->flight_replay);

    CHECK(n <= lane->retain.replay);
    lane->retain.replay -= n;
    bytes -= n;
    if (bytes == 0)
        return;
    if (lane->flight_begun) {
        n = min_u32(bytes, lane->segments[lane->seg_head].size - lane->seg_sent);
        tx_segments_sent(lane, n);
        bytes -= n;
    }
    if (data_first)
        bytes -= tx_data_sent(lane, bytes);
    n = min_u32(bytes, lane->flight_control);
    tx_pack_sent(lane, &lane->control, n);
    lane->kept.left.control += n;
    bytes -= n;
    if (!data_first)
        bytes -= tx_data_sent(lane, bytes);
    tx_segments_sent(lane, bytes);
}

/* What the data pack takes at least. */
static uint32_t tx_data_room(const struct lane *lane)
{
    if (lane->data.buf != BUF_NONE)
        return buf_size(lane->data.buf) - lane->data.filled;
    return lane->retain.keeps && !lane->data_busy ? BUF_SMALL_SIZE : BUF_BIG_SIZE;
}

/* Streams in line get their turn: they are pumped in this turn of the worker. The first ones
 * together with those that are marked already, so that they get their share of the room. */
void lane_tx_wake(struct lane *lane)
{
    lane_line_wake(lane, LANE_LINE_DATA, 1 + tx_data_room(lane) / LANE_LINE_STEP);
    lane_line_wake(lane, LANE_LINE_CONTROL, 1);
    lane_line_wake(lane, LANE_LINE_RESET, 1);
    if (lane_bulk_room(lane))
        lane_line_wake(lane, LANE_LINE_BULK, LANE_SEGMENTS - lane->seg_count);
}

static void tx_left(struct lane *lane, uint32_t bytes)
{
    tx_account(lane, bytes);
    lane_log_trim(lane); /* the peer may have been quicker than our completion */
    lane_kept_left(lane);
    lane_tx_wake(lane);
    lane_mark(lane);
}

/* Flush */

static uint32_t tx_add_pack(struct lane *lane, const struct lane_pack *pack, unsigned *count)
{
    uint32_t size = pack->filled - pack->sent;

    if (pack->buf == BUF_NONE || size == 0)
        return 0;
    lane->conn.iov[*count].iov_base = buf_data(&lane->loop->bufs, pack->buf) + pack->sent;
    lane->conn.iov[*count].iov_len = size;
    (*count)++;
    return size;
}

static void tx_add_segments(struct lane *lane, unsigned *count, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        const struct lane_segment *segment = &lane->segments[(lane->seg_head + i) % LANE_SEGMENTS];
        uint32_t skip = i == 0 ? lane->seg_sent : 0;

        lane->conn.iov[*count].iov_base =
            buf_data(&lane->loop->bufs, segment->buf) + segment->offset + skip;
        lane->conn.iov[*count].iov_len = segment->size - skip;
        (*count)++;
    }
}

static const struct lane_segment *tx_segment(const struct lane *lane, uint32_t i)
{
    return &lane->segments[(lane->seg_head + i) % LANE_SEGMENTS];
}

/* The first from here on that lies in a pipe. */
static uint32_t tx_first_pipe(const struct lane *lane, uint32_t from)
{
    while (from < lane->seg_count && !buf_is_pipe(tx_segment(lane, from)->buf))
        from++;
    return from;
}

static bool tx_packs_empty(const struct lane *lane)
{
    return lane->control.filled == lane->control.sent && lane->data.filled == lane->data.sent;
}

/* One segment by itself: its buffer comes back with the notification, while the lane goes on with
 * the next. */
static bool tx_zero_copy(struct lane *lane)
{
    const struct lane_segment *segment = &lane->segments[lane->seg_head];

    if (lane->seg_count == 0 || lane->seg_sent > 0 || !tx_packs_empty(lane) ||
        lane->retain.replay > 0 || !conn_wants_zero_copy(&lane->conn, segment->size))
        return false;
    conn_send_zero_copy(&lane->conn, segment->buf, segment->offset, segment->size);
    return true;
}

/* Segments that a copying send takes: all, or with zero copy those in front of the first that is
 * large enough for it. */
static uint32_t tx_copied_segments(const struct lane *lane, uint32_t from)
{
    uint32_t i = from, least = conn_zero_copy_least(&lane->conn);

    if (least == UINT32_MAX)
        return tx_first_pipe(lane, from);
    while (i < lane->seg_count && !buf_is_pipe(tx_segment(lane, i)->buf) &&
           tx_segment(lane, i)->size < least)
        i++;
    return i;
}

/* Fills conn.iov with what waits, in the order of the wire; how many pieces. */
static unsigned tx_gather(struct lane *lane)
{
    uint32_t begun = lane->seg_sent > 0 ? 1 : 0; /* a frame on the wire is finished first */

    CHECK(begun == 0 || !buf_is_pipe(tx_segment(lane, 0)->buf));

    lane->flight_control = lane->flight_data = lane->flight_replay = 0;
    lane->flight_begun = false;
    unsigned count = lane_replay_gather(lane, 0);
    if (lane->retain.replay > 0)
        return count;
    tx_add_segments(lane, &count, 0, begun);
    if (lane->data_cut)
        lane->flight_data = tx_add_pack(lane, &lane->data, &count);
    lane->flight_control = tx_add_pack(lane, &lane->control, &count);
    if (!lane->data_cut)
        lane->flight_data = tx_add_pack(lane, &lane->data, &count);
    tx_add_segments(lane, &count, begun, tx_copied_segments(lane, begun));
    lane->flight_begun = begun > 0;
    lane->data_busy = lane->flight_data > BUF_SMALL_SIZE / 2;
    return count;
}

static bool tx_empty(const struct lane *lane)
{
    return tx_packs_empty(lane) && lane->seg_count == 0 && lane->retain.replay == 0;
}

/* Everything is out: a lane that lingers says FIN. */
static void tx_flushed(struct lane *lane)
{
    if (lane->awaits_out) {
        lane->awaits_out = false;
        lane->table->role->lane_out(lane);
        return;
    }
    if (lane->state == LANE_LINGER && !lane->conn.shut) {
        if (conn_end(&lane->conn))
            return;
        conn_shut(&lane->conn);
    }
}

/* What waits cannot be sealed any more, and must not go out plain: nothing but our FIN follows. The
 * lane is over, so nobody resumes by the count of what is dropped here. */
static void tx_drop(struct lane *lane)
{
    CHECK(lane->state == LANE_LINGER);
    lane_tx_release(lane);
    conn_preface_drop(&lane->conn);
}

/* Whether the lane's pieces may follow what its connection had to send. */
static bool tx_may(struct lane *lane, enum conn_flow flow)
{
    switch (flow) {
    case CONN_FREE:
        break;
    case CONN_BUSY:
        return false;
    case CONN_OVER:
        if (lane->state != LANE_TLS)
            tx_drop(lane);
        break;
    case CONN_STARVED:
        lane_starve(lane);
        return false;
    case CONN_REFUSED:
        lane_tls_failed(lane);
        return false;
    }
    return lane->state != LANE_TLS;
}

/* What lies in a pipe goes out by itself: when it has begun, or nothing else waits. */
static bool tx_pipe_is_next(const struct lane *lane)
{
    return lane->seg_count > 0 && buf_is_pipe(tx_segment(lane, 0)->buf) &&
           (lane->seg_sent > 0 || tx_packs_empty(lane)) && lane->retain.replay == 0;
}

/* False: the connection is lost. */
static bool tx_pipe(struct lane *lane)
{
    const struct lane_segment *segment = tx_segment(lane, 0);
    uint32_t header = (uint32_t)frame_header_size(lane->version);
    uint32_t begun = min_u32(lane->seg_sent, header);
    int n = conn_send_pipe(&lane->conn, segment->header + begun, header - begun, segment->buf,
                           segment->size - max_u32(lane->seg_sent, header));

    if (n < 0) {
        lane_lost(lane, REASON_LANE_ERROR, strerror(-n));
        return false;
    }
    if (n > 0) {
        loop_count(lane->loop, STAT_LANE_SENDS, 1);
        loop_count(lane->loop, STAT_LANE_SEND_BYTES, (uint64_t)n);
        tx_segments_sent(lane, (uint32_t)n);
        lane_load(lane);
        lane_kept_left(lane);
        lane_tx_wake(lane);
    }
    return true;
}

/* Some of them in a turn. */
static void tx_pipes(struct lane *lane)
{
    uint32_t before = lane->bulk_bytes;

    while (tx_pipe_is_next(lane) && !lane->conn.send_flight &&
           before - lane->bulk_bytes < SPLICE_TURN)
        if (!tx_pipe(lane))
            return;
    if (!lane->conn.send_flight && !tx_empty(lane))
        lane_mark(lane);
}

static void tx_send(struct lane *lane)
{
    uint32_t taken = 0;

    if (tx_pipe_is_next(lane)) {
        tx_pipes(lane);
        return;
    }

    lane->flight_begun = false;
    lane->flight_control = lane->flight_data = lane->flight_replay = 0;
    if (tx_zero_copy(lane))
        return;
    (void)tx_may(lane, conn_send(&lane->conn, tx_gather(lane), &taken));
    if (taken > 0)
        tx_left(lane, taken);
}

void lane_flush(struct lane *lane)
{
    CHECK(lane_is_connected(lane) && lane->conn.fd >= 0 &&
          conn_is_tls(&lane->conn) == (lane->conn.crypt != NULL));
    lane_read(lane);
    if (!lane_is_connected(lane)) /* by what was opened of records that had waited */
        return;
    if (!tx_may(lane, conn_flush(&lane->conn)))
        return;
    if (tx_empty(lane))
        tx_flushed(lane);
    else
        tx_send(lane);
}

bool lane_can_wait(const struct lane *lane)
{
    return lane->state == LANE_OPEN && !lane->conn.send_flight && lane->seg_count == 0 &&
           !conn_preface_waits(&lane->conn) && lane->retain.replay == 0 &&
           lane->control.filled == lane->control.sent && lane->data.filled > lane->data.sent &&
           lane->data.filled - lane->data.sent <= LANE_HOLD;
}

void lane_mark(struct lane *lane)
{
    if (lane_is_connected(lane) && !list_linked(&lane->dirty_node))
        list_append(&lane->table->dirty, &lane->dirty_node);
}

/* Completion */

/* The connection is lost with a send in flight: it counts as sent. */
static void tx_flight_lost(struct lane *lane)
{
    if (lane->retain.keeps)
        tx_account(lane, conn_flight_frames(&lane->conn));
}

/* Bytes have left that were no frames of the lane. */
static void tx_own_left(struct lane *lane)
{
    lane_tx_wake(lane); /* who found no buffer while it was on its way */
    lane_mark(lane);
    if (lane->state == LANE_TLS && conn_is_through(&lane->conn))
        lane_shake_finish(lane);
    else if (!conn_rekey(&lane->conn))
        lane_tls_failed(lane);
}

void lane_send_done(void *part, const struct ring_cqe *cqe)
{
    struct lane_table *table = part;
    struct loop *loop = table->loop;
    struct lane *lane = lane_from_op(table, cqe);

    if ((cqe->flags & RING_CQE_NOTIF) != 0) {
        uint32_t buf = op_unpack(cqe->user_data).aux;

        zero_copy_notified(&lane->conn.zc, lane->loop, buf, cqe);
        return;
    }
    conn_send_done(&lane->conn, cqe);
    if (lane->state == LANE_CLOSING)
        return;
    if (lane->state == LANE_FROZEN) {
        tx_flight_lost(lane);
        lane_line_wake(lane, LANE_LINE_RESET, 1); /* others wait until it is back */
        return;
    }
    if (lane->conn.flight == CONN_FLIGHT_POLL) {
        lane_mark(lane);
        return;
    }
    int sent = conn_send_result(&lane->conn, cqe->res);
    if (sent == -EAGAIN) {
        lane_mark(lane);
        return;
    }
    if (sent < 0) {
        tx_flight_lost(lane);
        lane_lost(lane, REASON_LANE_ERROR, strerror(-sent));
        return;
    }
    loop_count(loop, STAT_LANE_SENDS, 1);
    loop_count(loop, STAT_LANE_SEND_BYTES, (uint64_t)sent);
    uint32_t frames = conn_sent(&lane->conn, (uint32_t)sent);
    if (frames > 0)
        tx_left(lane, frames);
    else
        tx_own_left(lane);
}

void lane_tx_release(struct lane *lane)
{
    struct buf_pool *bufs = &lane->loop->bufs;

    CHECK(!lane->conn.send_flight);
    lane_check_sends(lane);
    for (; lane->seg_count > 0; lane->seg_count--) {
        CHECK(lane->segments[lane->seg_head].waiter == NULL); /* the streams are gone */
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
    lane->retain.replay = 0;
}
