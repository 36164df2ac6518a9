/*
 * lane_resume: a lane that outlives its connections.
 *
 * A lane is a sequence of bytes each way; TCP connections come and go under it. Both sides count:
 * retain.sent is what was given to the wire, rx_bytes what was received (docs/PROTOCOL.md, section
 * 8). What was given to the wire is kept until the peer's count has passed it. The peer tells its
 * count in PING, PONG and, every LANE_ACK bytes or when it falls quiet, in a PONG of its own.
 *
 * retain.h has the keeping and its bounds. A lane whose log was dropped lives, but cannot be
 * resumed.
 *
 * Life. A connection that ends without a word (error, EOF, silence, truncation) freezes its lane:
 * OPEN -> FROZEN. Streams stay; they go on reading until the queues of the lane or their credit are
 * full, and deliver what has arrived. When no operation is in flight the socket is closed (with
 * RST: what lies in it is in the log) and the lane is still. The client then says JOIN with its
 * count on a new connection, the server answers JOIN_OK with its own, and both put the rest of the
 * log on the wire before anything new: FROZEN -> OPEN. Nothing but the count is exchanged: whatever
 * was half said, a frame or a header, goes on with its next byte. When nobody comes back within the
 * grace time the lane is closed, and its streams with it.
 *
 * What was in flight when the lane froze counts as sent: nobody knows how much of it left, and the
 * peer's count will tell.
 *
 * Patience. That another connection can be made does not say that this one is dead: where large
 * packets are lost without a word (an MTU problem, ICMP filtered), each begins with segments that
 * are too long, and TCP finds that out by itself within seconds (net.ipv4.tcp_mtu_probing), if it
 * is let. So a connection that was given up, and through which nothing had got that waited, makes
 * the next silence that is taken for an end twice as long (lane_patience), up to the expiry; any
 * count of the peer's that has grown makes it short again. Where something stops each connection
 * after so many bytes, each moves some, and is replaced as quickly as the first.
 *
 * Hand-over. The new connection logs in as a lane object of its own (JOIN, TLS). Its socket, crypt
 * and what was read beyond JOIN_OK move to the frozen lane. JOIN and JOIN_OK are not part of the
 * lane's bytes: JOIN_OK is sent from `preface`.
 *
 * Rejected: replay per stream over any living lane. It needs a sequence number in each DATA frame
 * or a count per stream and direction, retention per stream, and a re-ordering of everything else
 * that a lane carries (OPEN, WINDOW, RESET, FIN); a byte sequence per lane needs one count and
 * keeps all order.
 */
#include "core/base/log.h"
#include "core/io/op.h"
#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"
#include "core/mux/session.h"

/* What is kept */

void lane_log_open(struct lane *lane)
{
    retain_begin(&lane->retain);
    lane->rx_acked = lane->rx_bytes;
}

void lane_log(struct lane *lane, uint32_t buf, uint32_t offset, uint32_t size)
{
    const char *why = retain_add(&lane->retain, buf, offset, size);

    if (why != NULL)
        log_at(LOG_WARN, lane_subject(lane), "%s: this lane cannot be resumed any more", why);
}

void lane_log_wait(struct lane *lane)
{
    retain_wait(&lane->retain, &lane->table->logging);
}

void lane_log_unwait(struct lane_table *table)
{
    struct list ready, *node;

    list_init(&ready);
    retain_look(&table->logging, &ready);
    while ((node = list_pop(&ready)) != NULL)
        lane_tx_wake(container_of(node, struct lane, retain.node));
}

void lane_log_trim(struct lane *lane)
{
    if (!retain_trim(&lane->retain))
        return;
    lane_tx_settle(lane);
    lane_tx_wake(lane);
}

bool lane_acked(struct lane *lane, uint64_t rx_bytes)
{
    uint64_t sent = lane->retain.sent; /* once, be it through a connection before this one */

    if (lane->conn.send_flight &&
        conn_flight_frames(&lane->conn) > 0) { /* may have arrived before we know that it left */
        CHECK(lane->flight_replay <= lane->conn.flight_size);
        sent += lane->conn.flight_size - lane->flight_replay;
    }
    if (lane->retain.keeps && rx_bytes > sent)
        return false;
    lane_kept_counted(lane, rx_bytes, rx_bytes <= sent);
    if (!lane->retain.keeps)
        return true;
    lane->retain.counted = max_u64(lane->retain.counted, rx_bytes);
    lane_log_trim(lane);
    return true;
}

void lane_tell(struct lane *lane)
{
    struct frame_ping pong = { .time = 0 };

    if (lane->fsm != SESSION_FORWARDING || lane->state != LANE_OPEN ||
        lane_count(lane) <= lane->rx_acked)
        return;
    uint8_t *p = lane_control_begin(lane);
    if (p == NULL)
        return; /* the next bytes that arrive ask again */
    pong.rx_bytes = lane_tell_count(lane);
    lane_control_end(lane, frame_put_pong(p, &pong));
}

void lane_ack(struct lane *lane)
{
    if (lane->retain.keeps)
        lane_tell(lane);
}

unsigned lane_replay_gather(struct lane *lane, unsigned count)
{
    lane->flight_replay = 0;
    if (lane->retain.replay == 0)
        return count;
    return count + retain_gather(&lane->retain, lane->conn.iov + count, LANE_IOV - count,
                                 &lane->flight_replay);
}

/* Freezing */

static bool resume_can_freeze(const struct lane *lane)
{
    return lane->retain.keeps && lane->state == LANE_OPEN && lane->fsm == SESSION_FORWARDING &&
           lane->session != NULL && !lane->session->closing && !lane->goaway_sent &&
           !lane->goaway_heard && lane->loop->phase == LOOP_RUNNING;
}

#define LOST_FORMAT "connection lost: %s%s%s; %u streams wait for it to come back"
#define BACK_FORMAT "back after %.3f s, %llu bytes are sent again"

/* A client tells of its lanes by itself; a server of one of those that go together, and of the same
 * one when it is back. */
static void resume_log_lost(struct lane *lane, enum reason reason, const char *text)
{
    const char *colon = text != NULL ? ": " : "", *detail = text != NULL ? text : "";

    lane->loss_told = lane->table->role->opens_streams && session_tells(lane->session);
    if (lane->loss_told)
        log_at(LOG_WARN, lane_subject(lane), LOST_FORMAT, reason_text(reason), colon, detail,
               lane->stream_count);
    else
        log_at(LOG_DEBUG, lane_subject(lane), LOST_FORMAT, reason_text(reason), colon, detail,
               lane->stream_count);
}

static void resume_log_back(const struct lane *lane)
{
    double seconds = (double)(lane->loop->now - lane->frozen_since) / 1e9;

    if (lane->loss_told)
        log_at(LOG_INFO, lane_subject(lane), BACK_FORMAT, seconds,
               (unsigned long long)lane->retain.replay);
    else
        log_at(LOG_DEBUG, lane_subject(lane), BACK_FORMAT, seconds,
               (unsigned long long)lane->retain.replay);
}

static void resume_freeze(struct lane *lane, enum reason reason, const char *text)
{
    struct loop *loop = lane->loop;
    struct lane_table *table = lane->table;

    CHECK(!list_linked(&lane->frozen_node) && !list_linked(&lane->settle_node));
    lane_set_state(lane, LANE_FROZEN);
    lane->reason = (uint8_t)reason;
    lane->frozen_since = loop->now;
    list_remove(&lane->dirty_node);
    list_remove(&lane->sweep_node);
    list_append(&table->frozen, &lane->frozen_node);
    list_append(&table->settling, &lane->settle_node);
    conn_cancel(&lane->conn);
    lane->ping_time = 0;
    timer_set(&loop->timers, &lane->timer, loop->now + loop->config->grace);
    loop_count(loop, STAT_LANES_FROZEN, 1);
    resume_log_lost(lane, reason, text);
    if (table->role->lane_frozen != NULL)
        table->role->lane_frozen(lane, text);
}

bool lane_freeze(struct lane *lane, enum reason reason, const char *text)
{
    if (!resume_can_freeze(lane))
        return false;
    resume_freeze(lane, reason, text);
    return true;
}

void lane_lost(struct lane *lane, enum reason reason, const char *text)
{
    if (!lane_freeze(lane, reason, text))
        lane_close(lane, reason, text);
}

bool lane_is_still(const struct lane *lane)
{
    return lane->state == LANE_FROZEN && !conn_flies(&lane->conn) && lane->conn.fd < 0;
}

/* What is left of a big read buffer, less than a control frame, waits in a small one: a lane may be
 * frozen for long. */
static void resume_leave_big_buffer(struct lane *lane)
{
    struct conn_rx *rx = &lane->rx;
    uint32_t left = rx->filled - rx->parsed, big = rx->buf;

    if (left == 0)
        conn_rx_release(&lane->conn, rx);
    else if (buf_is_big(big) && left <= BUF_SMALL_SIZE && conn_rx_move_small(&lane->conn, rx))
        buf_put(&lane->loop->bufs, big);
}

/* Nothing is in flight any more: the connection goes. Zero-copy notifications come when its queue
 * is freed. */
static void resume_close_connection(struct lane *lane)
{
    if (lane->conn.fd >= 0) {
        sock_set_rst(lane->conn.fd);
        ring_close_fd(lane->loop->ring, lane_take_fd(lane));
    }
    lane->retain.replay = 0;
    resume_leave_big_buffer(lane);
    conn_drop(&lane->conn);
}

void lane_frozen_recv(struct lane *lane, uint32_t size)
{
    uint32_t frames = conn_take_late(&lane->conn, &lane->rx, size);

    lane->rx_bytes += frames;
    if (frames > 0)
        lane_arrive(lane);
}

/* Coming back */

static void resume_unlist(struct lane *lane)
{
    CHECK(list_linked(&lane->frozen_node));
    list_remove(&lane->frozen_node);
    list_remove(&lane->settle_node);
}

uint64_t lane_patience(const struct lane *lane)
{
    unsigned shift = lane->retain.counted > lane->back_peer_rx ? 0 : min_u32(lane->vain, 16);

    return min_u64(LANE_SILENCE_NS << shift, lane->loop->config->expiry);
}

/* What the connection before this one was good for. The counts are those of the moment at which it
 * was given up. */
static void resume_judge_last(struct lane *lane, uint64_t peer_rx)
{
    if (peer_rx > lane->back_peer_rx || peer_rx == lane->retain.sent)
        lane->vain = 0;
    else if (lane->reason == REASON_HEARTBEAT_MISSED && lane->vain < UINT8_MAX)
        lane->vain++;
    lane->back_peer_rx = peer_rx;
}

/* False: the counts do not fit each other. */
static bool resume_thaw(struct lane *lane, const struct conn_loose *loose, uint64_t peer_rx)
{
    struct loop *loop = lane->loop;
    struct lane_table *table = lane->table;

    if (!lane->retain.keeps || peer_rx < lane->retain.acked || peer_rx > lane->retain.sent)
        return false;
    resume_judge_last(lane, peer_rx);
    lane->retain.counted = peer_rx;
    lane_log_trim(lane);
    lane->retain.replay = lane->retain.sent - peer_rx;
    lane_set_fd(lane, loose->fd);
    conn_tie(&lane->conn, loose);
    lane_set_state(lane, LANE_OPEN);
    resume_unlist(lane);
    loop_count(loop, STAT_LANES_RESUMED, 1);
    loop_count(loop, STAT_REPLAYED_BYTES, lane->retain.replay);
    resume_log_back(lane);
    lane_start_heartbeat(lane);
    if (table->role->lane_back != NULL)
        table->role->lane_back(lane);
    lane_tx_wake(lane); /* what was in flight counts as sent and may have made room */
    if (lane->conn.raw.parsed < lane->conn.raw.filled)
        lane_arrive(lane);
    lane_mark(lane);
    return true;
}

static void resume_drop_next(struct lane *lane)
{
    conn_loose_close(&lane->next.loose, lane->loop->ring);
}

static void resume_take_next(struct lane *lane)
{
    struct conn_loose loose = lane->next.loose;

    lane->next.loose = (struct conn_loose){ .fd = -1 };
    if (resume_thaw(lane, &loose, lane->next.rx_bytes)) {
        lane_say_join_ok(lane, lane->next.answer);
        return;
    }
    conn_loose_close(&loose, lane->loop->ring);
    log_at(LOG_WARN, lane_subject(lane), "its client counts %llu bytes of %llu to %llu",
           (unsigned long long)lane->next.rx_bytes, (unsigned long long)lane->retain.acked,
           (unsigned long long)lane->retain.sent);
    lane_close(lane, REASON_BAD_FRAME, NULL);
}

/* A count below one that was told before comes from a JOIN that was long on its way, and whose
 * client has come back meanwhile. */
bool lane_resume_later(struct lane *lane, const struct conn_loose *loose, uint64_t peer_rx,
                       const uint8_t answer[FRAME_PROOF_SIZE])
{
    CHECK(loose->fd >= 0);
    if (peer_rx < lane->retain.counted)
        return false;
    if (lane->state == LANE_OPEN && resume_can_freeze(lane))
        resume_freeze(lane, REASON_REPLACED, NULL);
    if (lane->state != LANE_FROZEN)
        return false;
    resume_drop_next(lane);
    lane->next.loose = *loose;
    lane->next.rx_bytes = peer_rx;
    memcpy(lane->next.answer, answer, sizeof(lane->next.answer));
    if (!list_linked(&lane->settle_node))
        list_append(&lane->table->settling, &lane->settle_node);
    return true;
}

bool lane_resume(struct lane *lane, struct lane *from, uint64_t peer_rx)
{
    CHECK(lane_is_still(lane) && lane->retain.keeps && !conn_flies(&from->conn));
    CHECK(from->rx.buf == BUF_NONE); /* the caller has it */
    struct conn_loose loose = lane_loosen(from);
    conn_move_raw(&lane->conn, &from->conn);
    bool good = resume_thaw(lane, &loose, peer_rx);
    if (!good) {
        conn_loose_close(&loose, lane->loop->ring);
        conn_rx_release(&lane->conn, &lane->conn.raw);
    }
    return good;
}

bool lane_take_rest(struct lane *lane, struct conn_rx *rest)
{
    struct buf_pool *bufs = &lane->loop->bufs;

    if (!conn_rx_room(&lane->conn, &lane->rx, 1))
        return false;
    uint32_t n = min_u32(rest->filled - rest->parsed, buf_size(lane->rx.buf) - lane->rx.filled);
    memcpy(buf_data(bufs, lane->rx.buf) + lane->rx.filled, buf_data(bufs, rest->buf) + rest->parsed,
           n);
    rest->parsed += n;
    lane->rx.filled += n;
    lane->rx_bytes += n;
    return true;
}

void lane_drop_rest(struct lane *lane, struct conn_rx *rest)
{
    conn_rx_release(&lane->conn, rest);
}

void lane_unfreeze(struct lane *lane)
{
    resume_unlist(lane);
    resume_drop_next(lane);
}

static void resume_settle(struct lane *lane)
{
    struct lane_table *table = lane->table;

    /* Its grace ends by the timer, which nothing but its return moves. */
    CHECK(lane->state == LANE_FROZEN && timer_is_set(&lane->timer) &&
          lane->timer.due == lane->frozen_since + lane->loop->config->grace);
    if (conn_flies(&lane->conn)) {
        list_append(&table->settling, &lane->settle_node);
        return;
    }
    if (!lane->retain.keeps) { /* it was dropped while the lane froze */
        lane_close(lane, REASON_LIMIT_BUFFERS, NULL);
        return;
    }
    if (lane->conn.fd >= 0) {
        resume_close_connection(lane);
        if (table->role->lane_still != NULL)
            table->role->lane_still(lane);
    }
    if (lane->state == LANE_FROZEN && lane->next.loose.fd >= 0)
        resume_take_next(lane);
}

/* Whatever settles a lane may close others: each is taken from the list before it is looked at. */
void lane_settle(struct lane_table *table)
{
    struct list now, *node;

    list_init(&now);
    while ((node = list_pop(&table->settling)) != NULL)
        list_append(&now, node);
    while ((node = list_pop(&now)) != NULL)
        resume_settle(container_of(node, struct lane, settle_node));
}
