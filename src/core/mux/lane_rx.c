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
#include "core/base/log.h"
#include "core/io/op.h"
#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

#include <errno.h>

#define LANE_QUIET (200 * NSEC_PER_MSEC)

/* Buffers */

void lane_rx_release(struct lane *lane, struct conn_rx *rx)
{
    if (rx->buf != BUF_NONE)
        buf_put(&lane->loop->bufs, rx->buf);
    *rx = (struct conn_rx){ .buf = BUF_NONE };
}

/* Moves what is unparsed to the front, if nobody else looks at the buffer. */
static bool to_front(struct lane *lane, struct conn_rx *rx)
{
    struct buf_pool *bufs = &lane->loop->bufs;
    uint32_t left = rx->filled - rx->parsed;

    if (buf_refs(bufs, rx->buf) > 1 || rx->parsed == 0)
        return false;
    memmove(buf_data(bufs, rx->buf), buf_data(bufs, rx->buf) + rx->parsed, left);
    rx->parsed = 0;
    rx->filled = left;
    return true;
}

bool lane_rx_move_small(struct lane *lane, struct conn_rx *rx)
{
    struct buf_pool *bufs = &lane->loop->bufs;
    uint32_t left = rx->filled - rx->parsed;
    uint32_t to = buf_take_small(bufs, lane->share);

    CHECK(left <= BUF_SMALL_SIZE);
    if (to == BUF_NONE)
        return false;
    memcpy(buf_data(bufs, to), buf_data(bufs, rx->buf) + rx->parsed, left);
    *rx = (struct conn_rx){ .buf = to, .filled = left };
    return true;
}

uint32_t lane_take_big(struct lane *lane)
{
    struct buf_pool *bufs = &lane->loop->bufs;
    bool stranger = lane->session == NULL && lane->table->role->opens_streams;

    if (stranger)
        return buf_take_bulk(bufs, lane->share);
    return share_may(lane->share, SHARE_BIG, 1) ? buf_take_big(bufs, lane->share) : BUF_NONE;
}

static uint32_t room_of(const struct conn_rx *rx)
{
    return rx->buf == BUF_NONE ? 0 : buf_size(rx->buf) - rx->filled;
}

/* A buffer for `size` bytes. Whose owner has its share of the big ones must still be able to read:
 * what it is told lets it forget much. So a record that has begun is read to its end, and what is
 * little fits a small one. */
static uint32_t rx_take(struct lane *lane, const struct conn_rx *rx, uint32_t size)
{
    struct buf_pool *bufs = &lane->loop->bufs;
    bool begun = rx == &lane->conn.raw && rx->filled > rx->parsed && lane->session != NULL;
    uint32_t buf = begun ? buf_take_big(bufs, lane->share) : lane_take_big(lane);

    if (buf == BUF_NONE && size <= BUF_SMALL_SIZE && !share_may(lane->share, SHARE_BIG, 1))
        buf = buf_take_small(bufs, lane->share);
    return buf;
}

bool lane_rx_room(struct lane *lane, struct conn_rx *rx, uint32_t want)
{
    struct buf_pool *bufs = &lane->loop->bufs;
    uint32_t left = rx->filled - rx->parsed;

    if (left == 0)
        lane_rx_release(lane, rx);
    if (room_of(rx) >= want ||
        (rx->buf != BUF_NONE && buf_size(rx->buf) - left >= want && to_front(lane, rx)))
        return true;
    uint32_t fresh = rx_take(lane, rx, left + want);
    if (fresh == BUF_NONE) {
        loop_count(lane->loop, STAT_STARVED_BIG, 1);
        lane_starve(lane);
        return false;
    }
    if (left > 0)
        memcpy(buf_data(bufs, fresh), buf_data(bufs, rx->buf) + rx->parsed, left);
    lane_rx_release(lane, rx);
    *rx = (struct conn_rx){ .buf = fresh, .parsed = 0, .filled = left };
    CHECK(room_of(rx) >= want); /* a read of nothing looks like the end */
    return true;
}

/* Whose owner has its share is not woken by every buffer that comes back. */
void lane_starve(struct lane *lane)
{
    struct lane_table *table = lane->table;

    if (list_linked(&lane->starved_node))
        return;
    bool may = share_may(lane->share, SHARE_SMALL, 1) && share_may(lane->share, SHARE_BIG, 1);
    list_append(may ? &table->starved : &table->short_of, &lane->starved_node);
}

static void go_on(struct lane *lane)
{
    lane_tx_wake(lane);
    if (lane->conn.raw.parsed < lane->conn.raw.filled) /* records that found no room */
        lane_arrive(lane);
    lane_mark(lane); /* reads again */
}

static void wake(struct list *lanes, unsigned most)
{
    struct list *node;

    while (most-- > 0 && (node = list_pop(lanes)) != NULL)
        go_on(container_of(node, struct lane, starved_node));
}

void lane_unwait(struct lane_table *table, unsigned most)
{
    wake(&table->short_of, most);
}

void lane_unstarve(struct lane_table *table, unsigned most)
{
    wake(&table->starved, most);
}

/* Reading */

/* A quiet lane leaves a big buffer for the little that it keeps there. */
void lane_rx_leave_big(struct lane *lane, struct conn_rx *rx)
{
    uint32_t left = rx->filled - rx->parsed, big = rx->buf;

    if (!lane->conn.rx_busy && big != BUF_NONE && buf_is_big(big) && left > 0 &&
        left + LANE_RX_ROOM <= BUF_SMALL_SIZE && lane_rx_move_small(lane, rx))
        buf_put(&lane->loop->bufs, big);
}

void lane_rx_read(struct lane *lane, struct conn_rx *rx)
{
    struct loop *loop = lane->loop;
    uint64_t user_data = lane_op(lane, LANE_OP_RECV, 0);
    unsigned flags = lane->conn.dry ? RING_POLL_FIRST : 0;

    if (rx->filled == rx->parsed)
        lane_rx_release(lane, rx);
    lane_rx_leave_big(lane, rx);
    bool fresh = rx->buf == BUF_NONE;
    if (fresh && !lane->conn.rx_busy) {
        ring_recv_provided(loop->ring, user_data, lane->conn.fd, flags);
    } else if (lane_rx_room(lane, rx, LANE_RX_ROOM)) {
        ring_recv(loop->ring, user_data, lane->conn.fd, buf_data(&loop->bufs, rx->buf) + rx->filled,
                  room_of(rx), flags);
        if (buf_is_big(rx->buf))
            lane_watch_read(lane);
    } else if (fresh && loop->bufs.provided > 0) {
        /* Slowly is better than not at all: the peer's count may free the others. Without any it
         * waits in line. */
        list_remove(&lane->starved_node);
        ring_recv_provided(loop->ring, user_data, lane->conn.fd, flags);
    } else {
        return;
    }
    lane->conn.recv_flight = true;
    lane->conn.recv_rx = rx;
}

/* A read into a big buffer: it is taken back if nothing comes. */
void lane_watch_read(struct lane *lane)
{
    struct loop *loop = lane->loop;

    lane->conn.recv_since = loop->now;
    list_append(&lane->table->busy, &lane->sweep_node);
    if (!timer_is_set(&lane->table->sweep))
        timer_set(&loop->timers, &lane->table->sweep, loop->now + LANE_QUIET);
}

void lane_sweep(struct timer *timer)
{
    struct lane_table *table = container_of(timer, struct lane_table, sweep);
    struct loop *loop = table->loop;
    uint64_t next = UINT64_MAX;

    for (struct list *node = table->busy.next; node != &table->busy; node = node->next) {
        struct lane *lane = container_of(node, struct lane, sweep_node);

        if (lane->conn.recv_since + LANE_QUIET <= loop->now) {
            ring_cancel(loop->ring, lane_op(lane, LANE_OP_RECV, 0));
            if (lane->rx_acked < lane->rx_bytes)
                lane_ack(lane);
            lane->conn.recv_since =
                loop->now; /* the cancel may lose against data: asked again later */
        }
        next = min_u64(next, lane->conn.recv_since + LANE_QUIET);
    }
    if (next != UINT64_MAX)
        timer_set(&loop->timers, timer, next);
}

static void drop_received(struct lane *lane)
{
    lane->rx.parsed = lane->rx.filled;
    lane->conn.raw.parsed = lane->conn.raw.filled;
}

void lane_read(struct lane *lane)
{
    if (!lane_is_connected(lane) || lane->conn.recv_flight || lane->paused > 0 ||
        lane->awaits_out || list_linked(&lane->in.late_node) || list_linked(&lane->in.arrived_node))
        return;
    if (lane->state == LANE_LINGER) /* nobody opens or handles anything: there is room for more */
        drop_received(lane);
    if (lane->conn.tls)
        lane_crypt_read(lane);
    else
        lane_rx_read(lane, &lane->rx);
}

uint64_t lane_path_rtt(struct lane *lane)
{
    uint64_t now = lane->loop->now;

    if (now - lane->conn.path_asked > LANE_PATH_NS) {
        uint64_t rtt = sock_path_rtt(lane->conn.fd);

        lane->conn.path_asked = now;
        lane->conn.path_rtt = rtt != 0 ? rtt : lane->conn.path_rtt;
    }
    return lane->conn.rtt_min > LANE_CORE_NS ? max_u64(lane->conn.path_rtt, lane->conn.rtt_min)
                                             : lane->conn.path_rtt;
}

uint32_t lane_window_limit(struct lane *lane, uint32_t wire_id, const struct window_rx *rx)
{
    uint64_t quiet = lane->loop->now - lane->sparse.heard;

    if (quiet > max_u64(LANE_SPARSE_NS, LANE_SPARSE_PATHS * lane->conn.path_rtt) ||
        lane->sparse.id == wire_id)
        return WINDOW_NO_LIMIT;
    return window_rx_limit(rx, lane_path_rtt(lane));
}

/* A violation is told to the peer before the lane goes; the session's other lanes go with it.
 * Records that were changed on their way are the path's doing, and nothing of them has been taken
 * in: like a cut, they cost the connection, not the lane. */
void lane_violation(struct lane *lane, enum reason reason)
{
    const char *text = NULL;

    if (reason == REASON_TLS_FAILED && lane_freeze(lane, reason, NULL))
        return;
    loop_count(lane->loop, STAT_BAD_FRAMES, 1);
    if (reason == REASON_BAD_VERSION && lane->fsm == SESSION_INIT) { /* before the first frame */
        bool tls = false;
        const uint8_t *src = buf_data(&lane->loop->bufs, lane->rx.buf) + lane->rx.parsed;

        text = crypt_sniff(src, lane->rx.filled - lane->rx.parsed, lane->table->role->opens_streams,
                           &tls);
        reason = tls && !lane->conn.tls ? REASON_TLS_FAILED : reason;
    }
    lane_goaway(lane, reason);
    lane_finish(lane, reason, text);
}

static bool opens_itself(const struct lane *lane)
{
    return lane->conn.tls && (lane->conn.crypt == NULL || !crypt_rx_kernel(lane->conn.crypt));
}

enum reason lane_rx_open(struct lane *lane, bool handled, bool *more)
{
    *more = false;
    if (lane->state != LANE_OPEN || !opens_itself(lane))
        return REASON_DONE;
    return lane_crypt_open(lane, handled, more);
}

enum reason lane_rx_settle(struct lane *lane, enum reason reason)
{
    return opens_itself(lane) ? lane_crypt_settle(lane, reason) : reason;
}

void lane_arrive(struct lane *lane)
{
    if (!list_linked(&lane->in.arrived_node) && !list_linked(&lane->in.late_node))
        list_append(&lane->table->arrived, &lane->in.arrived_node);
}

void lane_rx_plain(struct lane *lane, uint32_t size)
{
    lane->conn.heard = lane->loop->now;
    lane->rx_bytes += size;
    lane_arrive(lane);
}

/* What was read is for the frames or for the records' layer. A lane that lingers only drops. */
static enum reason received(struct lane *lane, const struct ring_cqe *cqe)
{
    if (lane->state == LANE_LINGER) {
        drop_received(lane);
        return REASON_DONE;
    }
    if (lane->conn.tls)
        return lane_crypt_received(lane, (uint32_t)cqe->res);
    lane_rx_plain(lane, (uint32_t)cqe->res);
    return REASON_DONE;
}

/* The buffer of a read that has completed belongs to the bytes that came, or goes back. */
static void arrived(struct lane *lane, const struct ring_cqe *cqe)
{
    struct loop *loop = lane->loop;
    struct conn_rx *rx = lane->conn.recv_rx;

    if ((cqe->flags & RING_CQE_BUFFER) != 0) {
        buf_provided_taken(&loop->bufs, cqe->buffer, lane->share);
        CHECK(rx->buf == BUF_NONE);
        if (cqe->res > 0)
            *rx = (struct conn_rx){ .buf = cqe->buffer,
                                    .parsed = BUF_HEADROOM,
                                    .filled = BUF_HEADROOM };
        else
            buf_put(&loop->bufs, cqe->buffer);
    }
    if (cqe->res <= 0)
        return;
    rx->filled += (uint32_t)cqe->res;
    lane->conn.rx_busy = (uint32_t)cqe->res >= BUF_SMALL_PAYLOAD;
    lane->conn.dry = (cqe->flags & RING_CQE_NONEMPTY) == 0 &&
                     (uint32_t)cqe->res < BUF_BIG_SIZE / 8 &&
                     ((cqe->flags & RING_CQE_BUFFER) == 0 || !lane->conn.rx_busy);
}

/* Nothing came, and that is no end: read again. */
static bool again(struct lane *lane, int res)
{
    if (res != -EINTR && res != -EAGAIN && res != -ECANCELED && res != -ENOBUFS)
        return false;
    if (res == -ENOBUFS)
        loop_count(lane->loop, STAT_STARVED_SMALL, 1);
    lane->conn.rx_busy = res == -ENOBUFS; /* no small buffer: a big one; swept: a small one */
    lane_mark(lane);
    return true;
}

static void ended(struct lane *lane, int res)
{
    if (res == 0 && lane->conn.tls && !lane->conn.sniffs && !crypt_eof(lane->conn.crypt))
        lane_lost(lane, REASON_TLS_TRUNCATED,
                  lane->goaway_heard
                      ? "it had said that it ends, and then did so at once, or was cut"
                      : NULL);
    else if (res == 0)
        lane_lost(lane, REASON_LANE_EOF,
                  lane->state == LANE_TLS && !lane->conn.sniffs
                      ? "in the TLS handshake; see its log, or does it speak TLS here?"
                      : NULL);
    else
        lane_lost(lane, REASON_LANE_ERROR, strerror(-res));
}

void lane_recv_done(void *part, const struct ring_cqe *cqe)
{
    struct lane_table *table = part;
    struct lane *lane = lane_from_op(table, cqe);

    CHECK(lane->conn.recv_flight);
    lane->conn.recv_flight = false;
    arrived(lane, cqe);
    if (lane->state == LANE_FROZEN)
        lane_frozen_recv(lane, cqe->res, !lane->conn.tls || lane_crypt_is_data(lane));
    if (lane->state == LANE_CLOSING || lane->state == LANE_FROZEN)
        return;
    list_remove(&lane->sweep_node);
    if (cqe->res <= 0) {
        if (!again(lane, cqe->res))
            ended(lane, cqe->res);
        return;
    }
    loop_count(table->loop, STAT_LANE_RECVS, 1);
    loop_count(table->loop, STAT_LANE_RECV_BYTES, (uint32_t)cqe->res);
    enum reason reason = received(lane, cqe);
    if (reason != REASON_DONE)
        lane_violation(lane, reason);
    else
        lane_mark(lane); /* reads again when what came was looked at, see lane_flush */
}
