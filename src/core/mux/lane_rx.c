/*
 * lane_rx: the receive side of a lane: when it reads, who waits for a buffer, and what becomes of
 * what came. Theory of operation in lane.h; conn.c reads.
 *
 * A busy lane that hears nothing for LANE_QUIET gives its big buffer back (lane_sweep); what is
 * left unparsed (less than a header, or than a control frame) moves to a small one, if it fits
 * there: who begins frames on many lanes and never ends them must not hold the big ones.
 */
#include "core/base/log.h"
#include "core/io/op.h"
#include "core/mux/conn.h"
#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"
#include "core/mux/session.h"

#include <errno.h>

#define LANE_QUIET (200 * NSEC_PER_MSEC)

/* Waiting for buffers */

/* Whose owner has its share is not woken by every buffer that comes back. */
void lane_starve(struct lane *lane)
{
    struct lane_table *table = lane->table;

    if (list_linked(&lane->starved_node))
        return;
    bool may = share_may(lane->share, SHARE_SMALL, 1) && share_may(lane->share, SHARE_BIG, 1);
    list_append(may ? &table->starved : &table->short_of, &lane->starved_node);
}

static void rx_go_on(struct lane *lane)
{
    lane_tx_wake(lane);
    if (lane->conn.raw.parsed < lane->conn.raw.filled) /* records that found no room */
        lane_arrive(lane);
    lane_mark(lane); /* reads again */
}

static void rx_wake(struct list *lanes, unsigned most)
{
    struct list *node;

    while (most-- > 0 && (node = list_pop(lanes)) != NULL)
        rx_go_on(container_of(node, struct lane, starved_node));
}

void lane_unwait(struct lane_table *table, unsigned most)
{
    rx_wake(&table->short_of, most);
}

void lane_unstarve(struct lane_table *table, unsigned most)
{
    rx_wake(&table->starved, most);
}

/* Reading */

/* A read into a big buffer: it is taken back if nothing comes. */
static void rx_watch(struct lane *lane)
{
    struct loop *loop = lane->loop;

    CHECK(!list_linked(&lane->sweep_node));
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
            conn_cancel_read(&lane->conn); /* it may lose against data: asked again later */
            if (lane->rx_acked < lane->rx_bytes)
                lane_ack(lane);
        }
        next = min_u64(next, lane->conn.recv_since + LANE_QUIET);
    }
    if (next != UINT64_MAX)
        timer_set(&loop->timers, timer, next);
}

static void rx_drop(struct lane *lane)
{
    lane->rx.parsed = lane->rx.filled;
    conn_drop_raw(&lane->conn);
}

/* Nothing is taken from the socket that the kernel may want to open itself. */
static bool rx_rests(const struct lane *lane)
{
    return lane->state == LANE_TLS &&
           (lane->conn.phase == CONN_ASKS || lane->conn.phase == CONN_SHAKEN ||
            list_linked(&lane->stranger.step_node));
}

void lane_read(struct lane *lane)
{
    if (!lane_is_connected(lane) || lane->conn.recv_flight || lane->paused > 0 ||
        lane->awaits_out || list_linked(&lane->in.late_node) || list_linked(&lane->in.arrived_node))
        return;
    if (lane->state == LANE_LINGER) /* nobody opens or handles anything: there is room for more */
        rx_drop(lane);
    if (rx_rests(lane) || (lane->state == LANE_OPEN && !lane_offload(lane)) ||
        (conn_is_tls(&lane->conn) && list_linked(&lane->starved_node)))
        return;
    if (lane->in.splices && lane->state == LANE_OPEN) {
        if (lane->in.ready)
            lane_arrive(lane);
        else
            conn_poll(&lane->conn);
        return;
    }
    switch (conn_read(&lane->conn, &lane->rx)) {
    case CONN_READ_STARVED:
        lane_starve(lane);
        break;
    case CONN_READ_BIG:
        rx_watch(lane);
        break;
    case CONN_READ_SMALL:
        break;
    }
}

void lane_hears_sparse(struct lane *lane, uint32_t wire_id)
{
    lane->session->sparse =
        (struct session_sparse){ .heard = lane->loop->now, .id = wire_id, .lane = lane->index };
}

uint32_t lane_window_limit(struct lane *lane, uint32_t wire_id, const struct window_rx *rx)
{
    const struct session_sparse *sparse = &lane->session->sparse;
    uint64_t quiet = lane->loop->now - sparse->heard;

    if (quiet > max_u64(LANE_SPARSE_NS, LANE_SPARSE_PATHS * lane->conn.path_rtt) ||
        (sparse->id == wire_id && sparse->lane == lane->index))
        return WINDOW_NO_LIMIT;
    return window_rx_limit(rx, conn_path_rtt(&lane->conn),
                           lane_moves(lane) ? WINDOW_LIMIT_MOVED : WINDOW_LIMIT_COPIED);
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
        reason = tls && !conn_is_tls(&lane->conn) ? REASON_TLS_FAILED : reason;
    }
    lane_goaway(lane, reason);
    lane_finish(lane, reason, text);
}

/* What came before a record that is broken is good, and counted. */
static enum reason rx_broken(struct lane *lane)
{
    log_at(LOG_WARN, lane_subject(lane), "%s", crypt_why(lane->conn.crypt));
    return REASON_TLS_FAILED;
}

enum reason lane_rx_open(struct lane *lane, bool handled, bool *more)
{
    *more = false;
    if (lane->state != LANE_OPEN || !conn_opens(&lane->conn))
        return REASON_DONE;
    switch (conn_open(&lane->conn, &lane->rx, handled, &lane->rx_bytes)) {
    case CONN_OPENED_BROKEN:
        return rx_broken(lane);
    case CONN_OPENED_STARVED:
        lane_starve(lane);
        return REASON_DONE;
    case CONN_OPENED_MORE:
        *more = true;
        return REASON_DONE;
    default:
        return REASON_DONE;
    }
}

enum reason lane_rx_settle(struct lane *lane, enum reason reason)
{
    /* A lane that freezes goes on from here. */
    bool keep = (reason == REASON_DONE || reason == REASON_TLS_FAILED) && lane_takes(lane);

    if (!conn_opens(&lane->conn) || conn_open_settle(&lane->conn, &lane->rx, keep))
        return reason;
    return REASON_LIMIT_BUFFERS;
}

void lane_arrive(struct lane *lane)
{
    if (!list_linked(&lane->in.arrived_node) && !list_linked(&lane->in.late_node))
        list_append(&lane->table->arrived, &lane->in.arrived_node);
}

/* What was read is for the frames or for the records' layer. A lane that lingers only drops. */
static enum reason rx_take(struct lane *lane, uint32_t size)
{
    if (lane->state == LANE_LINGER) {
        rx_drop(lane);
        return REASON_DONE;
    }
    enum conn_got got = conn_take(&lane->conn, &lane->rx, size);
    switch (got) {
    case CONN_GOT_PLAIN:
    case CONN_GOT_FRAMES:
        if (got == CONN_GOT_PLAIN)
            lane_set_state(lane, LANE_OPEN);
        CHECK(size <= lane->rx.filled - lane->rx.parsed);
        lane->rx_bytes += size;
        lane_arrive(lane);
        break;
    case CONN_GOT_RECORDS:
        lane_arrive(lane);
        break;
    case CONN_GOT_SHAKE:
        lane_shake_due(lane);
        break;
    case CONN_GOT_CONTROL:
        break;
    case CONN_GOT_BROKEN:
        return rx_broken(lane);
    }
    return REASON_DONE;
}

int lane_rx_header(struct lane *lane)
{
    int n = conn_read_now(&lane->conn, &lane->rx, (uint32_t)frame_header_size(lane->version));

    if (n > 0)
        lane_rx_moved(lane, (uint32_t)n);
    return n;
}

void lane_rx_moved(struct lane *lane, uint32_t size)
{
    loop_count(lane->loop, STAT_LANE_RECV_BYTES, size);
    lane->rx_bytes += size;
    lane_load(lane);
    conn_excuse(&lane->conn);
}

void lane_rx_ended(struct lane *lane, int res)
{
    if (res == 0 && conn_is_cut(&lane->conn))
        lane_lost(lane, REASON_TLS_TRUNCATED,
                  lane->goaway_heard
                      ? "it had said that it ends, and then did so at once, or was cut"
                      : NULL);
    else if (res == 0)
        lane_lost(lane, REASON_LANE_EOF,
                  lane->state == LANE_TLS && lane->conn.phase != CONN_SNIFFS
                      ? "in the TLS handshake; see its log, or does it speak TLS here?"
                      : NULL);
    else
        lane_lost(lane, REASON_LANE_ERROR, strerror(-res));
}

/* Whatever it is, what moves it next will tell. */
static void rx_polled(struct lane *lane, int told)
{
    if (lane->state == LANE_LINGER)
        lane_mark(lane);
    if (lane->state != LANE_OPEN)
        return;
    lane->in.ready = true;
    lane->in.ended = ring_poll_ended(told);
    lane_arrive(lane);
}

void lane_recv_done(void *part, const struct ring_cqe *cqe)
{
    struct lane_table *table = part;
    struct lane *lane = lane_from_op(table, cqe);

    bool polled = lane->conn.recv_polls;

    conn_recv_done(&lane->conn, cqe);
    if (polled) {
        rx_polled(lane, cqe->res);
        return;
    }
    if (lane->state == LANE_FROZEN && cqe->res > 0)
        lane_frozen_recv(lane, (uint32_t)cqe->res);
    if (lane->state == LANE_CLOSING || lane->state == LANE_FROZEN)
        return;
    list_remove(&lane->sweep_node);
    if (cqe->res <= 0) {
        if (conn_recv_again(&lane->conn, cqe->res))
            lane_mark(lane);
        else
            lane_rx_ended(lane, cqe->res);
        return;
    }
    loop_count(table->loop, STAT_LANE_RECVS, 1);
    loop_count(table->loop, STAT_LANE_RECV_BYTES, (uint32_t)cqe->res);
    enum reason reason = rx_take(lane, (uint32_t)cqe->res);
    if (reason != REASON_DONE)
        lane_violation(lane, reason);
    else
        lane_mark(lane); /* reads again when what came was looked at, see lane_flush */
}
