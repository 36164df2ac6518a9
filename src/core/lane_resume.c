/*
 * lane_resume: a lane that outlives its connections.
 *
 * A lane is a sequence of bytes each way; TCP connections come and go under it. Both sides count:
 * tx_bytes is what was given to the wire, rx_bytes what was received (docs/PROTOCOL.md, section 8).
 * What was given to the wire is kept in a log until the peer's count has passed it: slices of the
 * very buffers that were sent, with a reference each, so that keeping costs no copy. The peer tells
 * its count in PING, PONG and, every LANE_ACK bytes or when it falls quiet, in a PONG of its own.
 *
 * Bounds. An honest peer's log is bounded by the streams' windows and a little more: a window opens
 * again only when its bytes have arrived, and the count follows within LANE_ACK. For a peer that
 * does not count, data stops at LANE_LOG_MAX (lane_log_full); OPEN, FIN and control go on, and when
 * they have added LANE_LOG_CONTROL the log is dropped: the lane lives, but cannot be resumed.
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
#include "core/crypt.h"
#include "core/lane.h"
#include "core/lane_impl.h"
#include "core/log.h"
#include "core/op.h"
#include "core/session.h"
#include "core/stream.h"
#include "core/worker.h"

/* Lanes that wait for their logs: so many are looked at in a turn. */
#define LOG_LOOKS 8u

/* The log */

static struct slice *slice_at(struct lane *lane, uint32_t index)
{
    return slab_at(&lane->worker->slices, index);
}

/* Big buffers are counted by runs of slices in one buffer: one that begins, one that ends. */
static void count_run(struct lane *lane, uint32_t buf, uint32_t neighbour, uint32_t by)
{
    if (!buf_is_big(buf) || (neighbour != SLAB_NONE && slice_at(lane, neighbour)->buf == buf))
        return;
    lane->log_big += by;
    if (by == 1)
        share_take(lane->share, SHARE_LOG, 1);
    else
        share_give(lane->share, SHARE_LOG, 1);
}

static void log_pop(struct lane *lane)
{
    struct worker *w = lane->worker;
    uint32_t index = lane->log_head;
    struct slice *slice = slice_at(lane, index);

    count_run(lane, slice->buf, slice->next, -1u);
    lane->log_head = slice->next;
    if (lane->log_head == SLAB_NONE)
        lane->log_tail = SLAB_NONE;
    buf_put(&w->bufs, slice->buf);
    slab_give(&w->slices, index);
    share_give(lane->share, SHARE_SLICES, 1);
    lane->log_slices--;
}

void lane_log_open(struct lane *lane)
{
    CHECK(lane->log_head == SLAB_NONE);
    lane->logs = true;
    lane->acked = lane->peer_rx = lane->tx_bytes;
    lane->rx_acked = lane->rx_bytes;
}

void lane_log_close(struct lane *lane)
{
    while (lane->log_head != SLAB_NONE)
        log_pop(lane);
    lane->logs = false;
    lane->replay_left = 0;
}

static void give_up(struct lane *lane, const char *why)
{
    log_at(LOG_WARN, lane_subject(lane), "%s: this lane cannot be resumed any more", why);
    lane_log_close(lane);
}

void lane_log(struct lane *lane, uint32_t buf, uint32_t offset, uint32_t size)
{
    struct worker *w = lane->worker;

    lane->tx_bytes += size;
    if (!lane->logs || size == 0)
        return;
    if (lane->tx_bytes - lane->acked > LANE_LOG_MAX + LANE_LOG_CONTROL) {
        give_up(lane, "the peer does not count what it receives");
        return;
    }
    if (lane->log_tail != SLAB_NONE) {
        struct slice *tail = slice_at(lane, lane->log_tail);
        if (tail->buf == buf && tail->offset + tail->size == offset) {
            tail->size += size;
            return;
        }
    }
    uint32_t index = share_may(lane->share, SHARE_SLICES, 1) ? slab_take(&w->slices) : SLAB_NONE;
    if (index == SLAB_NONE) {
        give_up(lane, share_blame(lane->share, SHARE_SLICES));
        return;
    }
    share_take(lane->share, SHARE_SLICES, 1);
    lane->log_slices++;
    buf_ref(&w->bufs, buf);
    count_run(lane, buf, lane->log_tail, 1);
    *slice_at(lane, index) =
        (struct slice){ .next = SLAB_NONE, .buf = buf, .offset = offset, .size = size };
    if (lane->log_tail == SLAB_NONE)
        lane->log_head = index;
    else
        slice_at(lane, lane->log_tail)->next = index;
    lane->log_tail = index;
}

/* A peer that does not count gets no more than this: its streams wait for its count. */
static bool keeps_too_much(const struct lane *lane)
{
    return lane->tx_bytes - lane->acked >= LANE_LOG_MAX;
}

/* Of big buffers the logs of all lanes have a part. Of what they share with others, small buffers
 * and slices, a log leaves the last to frames that must go out. Lanes that keep little are not held
 * back by those that keep much. */
static bool keeps_its_share(const struct lane *lane)
{
    if (lane->log_big >= LANE_LOG_BIG_MIN && !share_may(lane->share, SHARE_LOG, 1))
        return true;
    return lane->log_slices >= LANE_LOG_SLICES_MIN &&
           (share_sparing(lane->share, SHARE_SMALL) || share_sparing(lane->share, SHARE_SLICES));
}

bool lane_log_full(const struct lane *lane)
{
    return lane->logs && (keeps_too_much(lane) || keeps_its_share(lane));
}

void lane_log_wait(struct lane *lane)
{
    if (!lane->logs || keeps_too_much(lane)) /* lane_log_trim wakes it */
        return;
    if (keeps_its_share(lane) && !list_linked(&lane->log_node))
        list_append(&lane->worker->log_lanes, &lane->log_node);
}

/* Some in each turn: an owner who keeps its share may have many lanes. */
void lane_log_unwait(struct worker *w)
{
    const struct list *stop = NULL;

    for (unsigned i = 0; i < LOG_LOOKS && w->log_lanes.next != stop && !list_empty(&w->log_lanes);
         i++) {
        struct lane *lane = container_of(list_pop(&w->log_lanes), struct lane, log_node);

        if (!keeps_its_share(lane)) {
            lane_tx_wake(lane);
            continue;
        }
        list_append(&w->log_lanes, &lane->log_node);
        stop = stop != NULL ? stop : &lane->log_node;
    }
}

/* Forgets what the peer has, as far as it was given to the wire by our own count. */
void lane_log_trim(struct lane *lane)
{
    uint64_t upto = min_u64(lane->peer_rx, lane->tx_bytes - lane->replay_left);

    if (!lane->logs || lane->acked >= upto)
        return;
    while (lane->acked < upto) {
        struct slice *slice = slice_at(lane, lane->log_head);
        uint32_t n = (uint32_t)min_u64(slice->size, upto - lane->acked);

        slice->offset += n;
        slice->size -= n;
        lane->acked += n;
        if (slice->size == 0)
            log_pop(lane);
    }
    lane_tx_settle(lane);
    lane_tx_wake(lane);
}

bool lane_acked(struct lane *lane, uint64_t rx_bytes)
{
    uint64_t sent = lane->tx_bytes; /* once, be it through a connection before this one */

    if (lane->send_flight &&
        !lane->flight_sealed) /* may have arrived before we know that it left */
        sent += lane->flight_size - lane->flight_preface - lane->flight_replay;
    if (lane->logs && rx_bytes > sent)
        return false;
    lane_kept_counted(lane, rx_bytes, rx_bytes <= sent);
    if (!lane->logs)
        return true;
    lane->peer_rx = max_u64(lane->peer_rx, rx_bytes);
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
    if (lane->logs)
        lane_tell(lane);
}

unsigned lane_replay_gather(struct lane *lane, unsigned count)
{
    uint64_t skip = lane->tx_bytes - lane->replay_left - lane->acked;
    uint32_t index = lane->log_head;

    lane->flight_replay = 0;
    if (lane->replay_left == 0)
        return count;
    for (; index != SLAB_NONE && count < LANE_IOV; index = slice_at(lane, index)->next) {
        const struct slice *slice = slice_at(lane, index);

        if (skip >= slice->size) {
            skip -= slice->size;
            continue;
        }
        lane->iov[count].iov_base =
            buf_data(&lane->worker->bufs, slice->buf) + slice->offset + skip;
        lane->iov[count].iov_len = slice->size - skip;
        lane->flight_replay += (uint32_t)lane->iov[count++].iov_len;
        skip = 0;
        if (lane->flight_replay >= LANE_REPLAY_SEND)
            break;
    }
    CHECK(lane->flight_replay > 0);
    return count;
}

/* Freezing */

static bool can_freeze(const struct lane *lane)
{
    const struct worker *w = lane->worker;

    return lane->logs && lane->state == LANE_OPEN && lane->fsm == SESSION_FORWARDING &&
           lane->session != NULL && !lane->session->closing && !lane->goaway_sent &&
           !lane->goaway_heard && w->phase == WORKER_RUNNING;
}

#define LOST_FORMAT "connection lost: %s%s%s; %u streams wait for it to come back"
#define BACK_FORMAT "back after %.3f s, %llu bytes are sent again"

/* A client tells of its lanes by itself; a server of one of those that go together, and of the same
 * one when it is back. */
static void log_lost(struct lane *lane, enum reason reason, const char *text)
{
    const char *colon = text != NULL ? ": " : "", *detail = text != NULL ? text : "";

    lane->loss_told = lane->worker->role->opens_streams && session_tells(lane->session);
    if (lane->loss_told)
        log_at(LOG_WARN, lane_subject(lane), LOST_FORMAT, reason_text(reason), colon, detail,
               lane->stream_count);
    else
        log_at(LOG_DEBUG, lane_subject(lane), LOST_FORMAT, reason_text(reason), colon, detail,
               lane->stream_count);
}

static void log_back(const struct lane *lane)
{
    double seconds = (double)(lane->worker->now - lane->frozen_since) / 1e9;

    if (lane->loss_told)
        log_at(LOG_INFO, lane_subject(lane), BACK_FORMAT, seconds,
               (unsigned long long)lane->replay_left);
    else
        log_at(LOG_DEBUG, lane_subject(lane), BACK_FORMAT, seconds,
               (unsigned long long)lane->replay_left);
}

static void freeze(struct lane *lane, enum reason reason, const char *text)
{
    struct worker *w = lane->worker;

    lane->state = LANE_FROZEN;
    lane->reason = (uint8_t)reason;
    lane->frozen_since = w->now;
    list_remove(&lane->dirty_node);
    list_remove(&lane->sweep_node);
    list_append(&w->frozen_lanes, &lane->frozen_node);
    list_append(&w->settling_lanes, &lane->settle_node);
    lane_cancel_flight(lane);
    lane->ping_time = 0;
    timer_set(&w->timers, &lane->timer, w->now + w->config->grace);
    worker_count(w, STAT_LANES_FROZEN, 1);
    log_lost(lane, reason, text);
    if (w->role->lane_frozen != NULL)
        w->role->lane_frozen(lane, text);
}

bool lane_freeze(struct lane *lane, enum reason reason, const char *text)
{
    if (!can_freeze(lane))
        return false;
    freeze(lane, reason, text);
    return true;
}

void lane_lost(struct lane *lane, enum reason reason, const char *text)
{
    if (!lane_freeze(lane, reason, text))
        lane_close(lane, reason, text);
}

bool lane_is_still(const struct lane *lane)
{
    return lane->state == LANE_FROZEN && !lane->recv_flight && !lane->send_flight && lane->fd < 0;
}

/* What is left of a big read buffer, less than a control frame, waits in a small one: a lane may be
 * frozen for long. */
static void leave_big_buffer(struct lane *lane)
{
    struct lane_rx *rx = &lane->rx;
    uint32_t left = rx->filled - rx->parsed, big = rx->buf;

    if (left == 0)
        lane_rx_release(lane, rx);
    else if (buf_is_big(big) && left <= BUF_SMALL_SIZE && lane_rx_move_small(lane, rx))
        buf_put(&lane->worker->bufs, big);
}

/* Nothing is in flight any more: the connection goes. Zero-copy notifications come when its queue
 * is freed. */
static void close_connection(struct lane *lane)
{
    struct worker *w = lane->worker;

    if (lane->fd >= 0) {
        sock_set_rst(lane->fd);
        ring_close_fd(w->ring, lane_take_fd(lane));
    }
    lane->replay_left = 0;
    lane_preface_drop(lane);
    leave_big_buffer(lane);
    lane_rx_release(lane, &lane->raw); /* records that were not opened are not counted */
    lane_crypt_release(lane);
}

void lane_frozen_recv(struct lane *lane, int res, bool data)
{
    if (res > 0 && data && (!lane->tls || crypt_rx_kernel(lane->crypt))) {
        lane->rx_bytes += (uint32_t)res;
        lane_rx_handle(lane);
    } else if (res > 0 && lane->recv_rx == &lane->rx) {
        lane->rx.filled -= (uint32_t)res;
    }
}

/* Coming back */

static void unlist(struct lane *lane)
{
    list_remove(&lane->frozen_node);
    list_remove(&lane->settle_node);
}

uint64_t lane_patience(const struct lane *lane)
{
    unsigned shift = lane->peer_rx > lane->back_peer_rx ? 0 : min_u32(lane->vain, 16);

    return min_u64(LANE_SILENCE_NS << shift, lane->worker->config->expiry);
}

/* What the connection before this one was good for. The counts are those of the moment at which it
 * was given up. */
static void judge_last(struct lane *lane, uint64_t peer_rx)
{
    if (peer_rx > lane->back_peer_rx || peer_rx == lane->tx_bytes)
        lane->vain = 0;
    else if (lane->reason == REASON_HEARTBEAT_MISSED && lane->vain < UINT8_MAX)
        lane->vain++;
    lane->back_peer_rx = peer_rx;
}

/* False: the counts do not fit each other. */
static bool thaw(struct lane *lane, int fd, struct crypt *crypt, uint64_t peer_rx)
{
    struct worker *w = lane->worker;

    if (!lane->logs || peer_rx < lane->acked || peer_rx > lane->tx_bytes)
        return false;
    judge_last(lane, peer_rx);
    lane->peer_rx = peer_rx;
    lane_log_trim(lane);
    lane->replay_left = lane->tx_bytes - peer_rx;
    CHECK(lane->tls == (crypt != NULL));
    lane_set_fd(lane, fd);
    lane->crypt = crypt;
    lane->crypt_ready = lane->tls;
    lane->crypt_closed = lane->crypt_ended = false;
    (void)sock_peer(fd, &lane->peer);
    lane->state = LANE_OPEN;
    unlist(lane);
    lane->heard = lane->unblocked = w->now;
    lane->dry = true;
    lane->rx_busy = false;
    lane->rtt_min = lane->path_rtt = lane->path_asked = 0;
    worker_count(w, STAT_LANES_RESUMED, 1);
    worker_count(w, STAT_REPLAYED_BYTES, lane->replay_left);
    log_back(lane);
    lane_start_heartbeat(lane);
    if (w->role->lane_back != NULL)
        w->role->lane_back(lane);
    lane_tx_wake(lane); /* what was in flight counts as sent and may have made room */
    lane_mark(lane);
    return true;
}

static void drop_next(struct lane *lane)
{
    if (lane->next_fd < 0)
        return;
    ring_close_fd(lane->worker->ring, lane->next_fd);
    crypt_close(lane->next_crypt);
    lane->next_fd = -1;
    lane->next_crypt = NULL;
}

static void take_next(struct lane *lane)
{
    int fd = lane->next_fd;
    struct crypt *crypt = lane->next_crypt;

    lane->next_fd = -1;
    lane->next_crypt = NULL;
    if (thaw(lane, fd, crypt, lane->next_rx)) {
        memcpy(lane->answer, lane->next_answer, sizeof(lane->answer));
        lane_say_join_ok(lane);
        return;
    }
    ring_close_fd(lane->worker->ring, fd);
    crypt_close(crypt);
    log_at(LOG_WARN, lane_subject(lane), "its client counts %llu bytes of %llu to %llu",
           (unsigned long long)lane->next_rx, (unsigned long long)lane->acked,
           (unsigned long long)lane->tx_bytes);
    lane_close(lane, REASON_BAD_FRAME, NULL);
}

/* A count below one that was told before comes from a JOIN that was long on its way, and whose
 * client has come back meanwhile. */
bool lane_resume_later(struct lane *lane, int fd, struct crypt *crypt, uint64_t peer_rx,
                       const uint8_t answer[FRAME_PROOF_SIZE])
{
    if (peer_rx < lane->peer_rx)
        return false;
    if (lane->state == LANE_OPEN && can_freeze(lane))
        freeze(lane, REASON_REPLACED, NULL);
    if (lane->state != LANE_FROZEN)
        return false;
    drop_next(lane);
    lane->next_fd = fd;
    lane->next_crypt = crypt;
    lane->next_rx = peer_rx;
    memcpy(lane->next_answer, answer, sizeof(lane->next_answer));
    if (!list_linked(&lane->settle_node))
        list_append(&lane->worker->settling_lanes, &lane->settle_node);
    return true;
}

bool lane_resume(struct lane *lane, struct lane *from, uint64_t peer_rx)
{
    struct buf_pool *bufs = &lane->worker->bufs;
    struct lane_rx rest = from->rx;
    struct crypt *crypt;

    CHECK(lane_is_still(lane) && !from->send_flight && !from->recv_flight);
    int fd = lane_detach_fd(from, &crypt);
    lane->raw = from->raw;
    from->rx = from->raw = (struct lane_rx){ .buf = BUF_NONE };
    bool good = thaw(lane, fd, crypt, peer_rx);
    if (!good) {
        ring_close_fd(lane->worker->ring, fd);
        crypt_close(crypt);
        lane_rx_release(lane, &lane->raw);
    }
    while (good && lane->state == LANE_OPEN && rest.parsed < rest.filled) {
        if (!lane_rx_room(lane, &lane->rx, 1)) {
            lane_lost(lane, REASON_LIMIT_BUFFERS, NULL); /* what it has not taken is sent again */
            break;
        }
        uint32_t n = min_u32(rest.filled - rest.parsed, buf_size(lane->rx.buf) - lane->rx.filled);
        memcpy(buf_data(bufs, lane->rx.buf) + lane->rx.filled,
               buf_data(bufs, rest.buf) + rest.parsed, n);
        rest.parsed += n;
        lane->rx.filled += n;
        lane->rx_bytes += n;
        lane_rx_handle(lane);
    }
    if (rest.buf != BUF_NONE && rest.buf != lane->worker->crypt_spare)
        buf_put(bufs, rest.buf);
    return good;
}

void lane_unfreeze(struct lane *lane)
{
    unlist(lane);
    drop_next(lane);
}

static void settle(struct lane *lane)
{
    struct worker *w = lane->worker;

    if (lane->recv_flight || lane->send_flight) {
        list_append(&w->settling_lanes, &lane->settle_node);
        return;
    }
    if (!lane->logs) { /* it was dropped while the lane froze */
        lane_close(lane, REASON_LIMIT_BUFFERS, NULL);
        return;
    }
    if (lane->fd >= 0) {
        close_connection(lane);
        if (w->role->lane_still != NULL)
            w->role->lane_still(lane);
    }
    if (lane->state == LANE_FROZEN && lane->next_fd >= 0)
        take_next(lane);
}

/* Whatever settles a lane may close others: each is taken from the list before it is looked at. */
void lane_settle(struct worker *w)
{
    struct list now, *node;

    list_init(&now);
    while ((node = list_pop(&w->settling_lanes)) != NULL)
        list_append(&now, node);
    while ((node = list_pop(&now)) != NULL)
        settle(container_of(node, struct lane, settle_node));
}
