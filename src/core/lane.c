/* lane: life, heartbeat, the map of its streams. Theory of operation in lane.h; lane_rx.c receives,
 * lane_tx.c sends. */
#include "core/lane.h"

#include "core/addr.h"
#include "core/crypt.h"
#include "core/lane_impl.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/op.h"
#include "core/session.h"
#include "core/stream.h"
#include "core/worker.h"

#include <errno.h>
#include <stdio.h>

static void lane_timer_fire(struct timer *timer);

/* Life */

/* The lane's socket, and its end: as descriptors of its owner. Those of strangers are set aside
 * (strangers.h). */

static bool is_set_aside(const struct worker *w, const struct share *share)
{
    return w->strangers_share != NULL &&
           (share == w->strangers_share || share->parent == w->strangers_share);
}

static void take_fd(const struct lane *lane)
{
    if (!is_set_aside(lane->worker, lane->share))
        share_take(lane->share, SHARE_FDS, 1);
}

static void give_fd(const struct lane *lane)
{
    if (!is_set_aside(lane->worker, lane->share))
        share_give(lane->share, SHARE_FDS, 1);
}

void lane_set_fd(struct lane *lane, int fd)
{
    CHECK(lane->fd < 0 && fd >= 0);
    lane->fd = fd;
    take_fd(lane);
}

int lane_take_fd(struct lane *lane)
{
    int fd = lane->fd;

    CHECK(fd >= 0);
    lane->fd = -1;
    give_fd(lane);
    return fd;
}

void lane_own(struct lane *lane, struct share *share)
{
    CHECK(lane->log_head == SLAB_NONE && lane->kept.count == 0 && lane->stream_count == 0);
    if (lane->fd >= 0)
        give_fd(lane);
    share_unref(lane->share);
    lane->share = lane->payer = share;
    if (lane->fd >= 0)
        take_fd(lane);
    while (lane->payer->level >= SHARE_SESSION && lane->payer->parent != NULL)
        lane->payer = lane->payer->parent;
}

/* A server's are strangers at first. */
static struct share *first_owner(struct worker *w, const union sock_addr *peer, uint32_t slot)
{
    if (w->role->opens_streams)
        return share_open_address(w->strangers_share, peer);
    return share_open(&w->shares.pool, SHARE_LANE, slot);
}

static struct lane *lane_new(struct worker *w, const union sock_addr *peer, struct crypt *crypt)
{
    uint32_t slot = slab_take(&w->lanes);

    CHECK(w->config->tls != (crypt != NULL ? CONFIG_OFF : CONFIG_ON));
    if (slot == SLAB_NONE)
        return NULL;
    struct lane *lane = slab_at(&w->lanes, slot);
    CHECK(lane->state == LANE_FREE);
    uint32_t generation = lane->generation + 1;
    memset(lane, 0, sizeof(*lane));
    lane->worker = w;
    lane->slot = slot;
    lane->generation = generation;
    trim_watch(w);
    lane->fd = -1;
    lane->peer = *peer;
    lane->share = lane->payer = first_owner(w, peer, slot);
    lane->tls = crypt != NULL;
    lane->crypt = crypt;
    lane->rx.buf = lane->raw.buf = lane->control.buf = lane->data.buf = BUF_NONE;
    lane->dry = true;
    lane->heard = w->now;
    lane->next_id = 1;
    lane->zc = w->config->zero_copy == CONFIG_OFF ? 2 : 0;
    lane->peer_max_data = FRAME_PAYLOAD_MAX;
    list_init(&lane->session_node);
    list_init(&lane->dirty_node);
    list_init(&lane->starved_node);
    list_init(&lane->log_node);
    list_init(&lane->frozen_node);
    list_init(&lane->settle_node);
    list_init(&lane->crypt_node);
    list_init(&lane->sweep_node);
    list_init(&lane->stranger_node);
    list_init(&lane->late_node);
    lane->sealed_buf = BUF_NONE;
    lane->log_head = lane->log_tail = SLAB_NONE;
    lane->next_fd = -1;
    list_init(&lane->streams);
    lane_kept_init(lane);
    lane_line_init(lane);
    timer_init(&lane->timer, lane_timer_fire);
    list_append(&w->all_lanes, &lane->node);
    worker_count(w, STAT_CONNECTIONS, 1);
    return lane;
}

/* The connection is up: frames, or the TLS handshake first. */
static void start(struct lane *lane)
{
    struct worker *w = lane->worker;

    sock_lane_options(lane->fd, w->config->expiry);
    timer_set(&w->timers, &lane->timer, w->now + w->config->handshake_timeout);
    lane->state = LANE_OPEN;
    if (lane->tls)
        lane_crypt_begin(lane);
    lane_read(lane);
}

struct lane *lane_open(struct worker *w, int fd, struct crypt *crypt)
{
    union sock_addr peer;

    (void)sock_peer(fd, &peer);
    struct lane *lane = lane_new(w, &peer, crypt);
    if (lane == NULL)
        return NULL;
    lane_set_fd(lane, fd);
    lane->fsm = SESSION_INIT;
    lane->sniffs = crypt != NULL && w->config->tls == CONFIG_AUTO;
    strangers_add(&w->strangers, lane);
    start(lane);
    return lane;
}

struct lane *lane_adopt(struct worker *w, int fd, struct crypt *crypt)
{
    union sock_addr peer;

    (void)sock_peer(fd, &peer);
    struct lane *lane = lane_new(w, &peer, crypt);
    if (lane == NULL)
        return NULL;
    lane_set_fd(lane, fd);
    lane->fsm = SESSION_INIT;
    lane->state = LANE_OPEN;
    lane->crypt_ready = lane->tls;
    timer_set(&w->timers, &lane->timer, w->now + w->config->handshake_timeout);
    lane_mark(
        lane); /* reads when its caller has made it a lane of the session: reading may end it */
    return lane;
}

struct lane *lane_dial(struct worker *w, const union sock_addr *addr, struct crypt *crypt,
                       int *error)
{
    int fd = sock_dial(addr->sa.sa_family);

    if (fd < 0) {
        *error = -fd;
        return NULL;
    }
    struct lane *lane = lane_new(w, addr, crypt);
    if (lane == NULL) {
        *error = ENOBUFS;
        sock_close(fd);
        return NULL;
    }
    lane_set_fd(lane, fd);
    lane->state = LANE_CONNECTING;
    lane->fsm = SESSION_INIT;
    lane->dial_addr = *addr;
    lane->connect_flight = true;
    timer_set(&w->timers, &lane->timer, w->now + w->config->connect_timeout);
    ring_connect(w->ring, op_pack(OP_LANE_CONNECT, lane->slot, lane->generation, 0), fd,
                 &lane->dial_addr.sa, sock_addr_size(addr));
    return lane;
}

struct lane *lane_from_op(struct worker *w, const struct ring_cqe *cqe)
{
    struct lane *lane = slab_at(&w->lanes, op_unpack(cqe->user_data).slot);

    CHECK(lane->state != LANE_FREE);
    return lane;
}

void lane_connect_done(struct worker *w, const struct ring_cqe *cqe)
{
    struct lane *lane = lane_from_op(w, cqe);

    CHECK(lane->connect_flight);
    lane->connect_flight = false;
    if (lane->state == LANE_CLOSING)
        return;
    if (cqe->res == 0) {
        lane->heard = w->now;
        start(lane);
    }
    if (lane->state != LANE_TLS)
        w->role->lane_connected(lane, cqe->res);
}

void lane_cancel_flight(struct lane *lane)
{
    struct ring *ring = lane->worker->ring;

    if (lane->recv_flight)
        ring_cancel(ring, op_pack(OP_LANE_RECV, lane->slot, lane->generation, 0));
    if (lane->send_flight)
        ring_cancel(ring, lane_send_op(lane));
    if (lane->connect_flight)
        ring_cancel(ring, op_pack(OP_LANE_CONNECT, lane->slot, lane->generation, 0));
    /* A cancel that meets a send which is just being tried again is lost (io_uring_prep_cancel(3),
     * EALREADY), and the lane would wait until TCP gives up. */
    if (lane->recv_flight || lane->send_flight || lane->connect_flight)
        sock_shutdown(lane->fd);
}

/* The session's business with this lane is over; the socket may live on for the last words. */
static void leave(struct lane *lane, enum reason reason, const char *text)
{
    struct session *session = lane->session;

    lane->reason = (uint8_t)reason;
    lane->awaits_out = false;
    lane_set_fsm(lane, SESSION_CLOSED);
    for (struct list *node = lane->streams.next; node != &lane->streams;) {
        struct stream *s = container_of(node, struct stream, lane_node);
        node = node->next;
        stream_lane_lost(s, REASON_SESSION_LOST);
    }
    CHECK(list_empty(&lane->streams) && lane->stream_count == 0);
    lane_kept_release(lane);
    if (session != NULL)
        session_detach(lane);
    lane->worker->role->lane_closed(lane, session, reason, text);
}

void lane_close(struct lane *lane, enum reason reason, const char *text)
{
    struct worker *w = lane->worker;
    uint8_t before = lane->state;

    if (before == LANE_CLOSING)
        return;
    CHECK(before != LANE_FREE);
    lane->state = LANE_CLOSING;
    timer_stop(&lane->timer);
    list_remove(&lane->dirty_node);
    list_remove(&lane->starved_node);
    list_remove(&lane->log_node);
    list_remove(&lane->late_node);
    list_remove(&lane->crypt_node);
    list_remove(&lane->sweep_node);
    list_remove(&lane->node);
    list_append(&w->closing_lanes, &lane->node);
    lane_cancel_flight(lane);
    if (before == LANE_FROZEN)
        lane_unfreeze(lane);
    if (before != LANE_LINGER)
        leave(lane, reason, text);
}

void lane_finish(struct lane *lane, enum reason reason, const char *text)
{
    struct worker *w = lane->worker;

    if (lane->state != LANE_OPEN && lane->state != LANE_TLS) {
        lane_close(lane, reason, text);
        return;
    }
    lane->state = LANE_LINGER;
    list_remove(&lane->crypt_node);
    timer_set(&w->timers, &lane->timer, w->now + LANE_LINGER_NS);
    leave(lane, reason, text);
    lane_mark(lane);
}

void lane_dismiss(struct lane *lane, enum reason reason)
{
    if (lane->tls && lane->crypt_ready)
        lane_finish(lane, reason, NULL);
    else
        lane_close(lane, reason, NULL);
}

static void release_buffers(struct lane *lane)
{
    lane_rx_release(lane, &lane->rx);
    lane_rx_release(lane, &lane->raw);
    lane_tx_release(lane);
    lane_log_close(lane);
    lane_crypt_release(lane);
}

bool lane_join(struct lane *lane)
{
    struct worker *w = lane->worker;

    CHECK(lane->state == LANE_CLOSING);
    if (lane->recv_flight || lane->send_flight || lane->connect_flight)
        return false;
    if (lane->fd >= 0) {
        /* A peer that acknowledges nothing any more must not hold up the end. */
        if (lane->zc_pending > 0)
            sock_set_rst(lane->fd);
        ring_close_fd(w->ring, lane_take_fd(lane));
    }
    if (lane->zc_pending > 0)
        return false;
    release_buffers(lane);
    if (lane->map != NULL)
        mem_unmap(lane->map, sizeof(lane->map[0]) * ((size_t)lane->map_mask + 1));
    lane->map = NULL;
    list_remove(&lane->node);
    if (w->role->lane_freed != NULL)
        w->role->lane_freed(lane);
    explicit_bzero(lane->preface, sizeof(lane->preface)); /* a JOIN that never left */
    if (lane->counted)
        share_give(lane->share, SHARE_LANES, 1);
    share_unref(lane->share);
    lane->state = LANE_FREE;
    slab_give(&w->lanes, lane->slot);
    return true;
}

int lane_detach_fd(struct lane *lane, struct crypt **crypt)
{
    *crypt = lane->crypt;
    lane->crypt = NULL;

    CHECK(!lane->recv_flight && !lane->send_flight && !lane->connect_flight);
    return lane_take_fd(lane);
}

void lane_set_fsm(struct lane *lane, enum session_state state)
{
    enum session_state from = (enum session_state)lane->fsm;

    if (from == state)
        return;
    CHECK(session_fsm_may(from, state));
    log_at(LOG_DEBUG, lane_subject(lane), "%s -> %s", session_state_name(from),
           session_state_name(state));
    lane->fsm = (uint8_t)state;
}

const char *lane_subject(const struct lane *lane)
{
    static _Thread_local char text[128];
    char peer[ADDR_TEXT_MAX];

    addr_format(&lane->peer.sa, peer, sizeof(peer));
    if (lane->session != NULL)
        snprintf(text, sizeof(text), "session %llu lane %u (%s)",
                 (unsigned long long)lane->session->id, lane->index, peer);
    else
        snprintf(text, sizeof(text), "connection (%s)", peer);
    return text;
}

void lane_warn_plain(const struct lane *lane)
{
    if (lane->tls || sock_addr_is_loopback(&lane->peer))
        return;
    log_at(LOG_WARN, lane_subject(lane),
           "this connection is plain: whoever is on its path can read and change what crosses "
           "it%s (TLS needs no flag: leave out --plain)",
           lane->version == FRAME_V1 ? ", and has seen the token" : "");
}

/* Heartbeat */

void lane_ask(struct lane *lane)
{
    uint8_t *p = lane_control_begin(lane);
    struct frame_ping ping = { .time = lane->worker->now };

    if (p == NULL)
        return; /* no room: the lane has enough to say */
    ping.rx_bytes = lane_tell_count(lane);
    lane->ping_time = ping.time;
    lane->kept.unasked = 0;
    lane_control_end(lane, frame_put_ping(lane->version, p, &ping));
}

void lane_start_heartbeat(struct lane *lane)
{
    struct worker *w = lane->worker;

    /* A v1 lane may be held up by a slow reader, which TCP cannot tell from a dead peer. */
    if (lane->version == FRAME_V1)
        sock_lane_options(lane->fd, V1_USER_TIMEOUT * w->config->expiry);
    lane->beat = w->now + w->config->heartbeat;
    timer_set(&w->timers, &lane->timer, lane->beat);
    lane_watch(lane);
    /* v1: a server expires only clients that it has heard a Heartbeat of. v2: windows follow the
     * round trip, which a server does not know from the handshake, and nobody of a connection that
     * took over. */
    if (lane->version == FRAME_V1 ? !w->role->opens_streams : lane->rtt_min == 0)
        lane_ask(lane);
}

/* A v1 client sends no Heartbeat (its document says so, its code does not): silence tells nothing
 * of one that never did. It is found dead by our own heartbeats and TCP_USER_TIMEOUT. A lane that
 * is held up hears nothing by its own choice. */
static bool expects_frames(const struct lane *lane)
{
    bool v1_client = lane->version == FRAME_V1 && lane->worker->role->opens_streams;

    return lane->paused == 0 && (!v1_client || lane->peer_beats);
}

/* It has streams, or the peer has not counted all that the last of them said. */
static bool is_needed(const struct lane *lane)
{
    return lane->stream_count > 0 || lane->peer_rx < lane->last_said;
}

/* A client watches the path of a lane that is needed: it is the one who can dial again. */
static bool is_watched(const struct lane *lane)
{
    return lane->logs && is_needed(lane) && lane->state == LANE_OPEN &&
           lane->fsm == SESSION_FORWARDING && !lane->worker->role->opens_streams;
}

void lane_watch(struct lane *lane)
{
    struct worker *w = lane->worker;

    if (lane->stream_count > 0)
        lane->last_said = UINT64_MAX;
    if (is_watched(lane) && lane->timer.due > w->now + LANE_WATCH_NS)
        timer_set(&w->timers, &lane->timer, w->now + LANE_WATCH_NS);
}

/* A quiet lane is asked; a path from which TCP hears nothing is suspect. What our own queue holds
 * up, or a peer that is stopped, is not the path's fault: its TCP answers. */
static void look(struct lane *lane)
{
    struct worker *w = lane->worker;
    uint64_t silence = w->now - lane->heard, patience = lane_patience(lane);

    if (lane->stream_count == 0)
        lane->last_said = min_u64(lane->last_said, lane->tx_bytes);
    if (silence < LANE_SILENCE_NS)
        return;
    if (lane->ping_time == 0)
        lane_ask(lane);
    if (silence >= patience && sock_is_stuck(lane->fd, max_u64(patience, 4 * lane->rtt)))
        w->role->lane_suspect(lane);
}

/* Before the handshake is over the timer is its time-out; afterwards it beats and looks whether the
 * peer was heard. */
static void lane_timer_fire(struct timer *timer)
{
    struct lane *lane = container_of(timer, struct lane, timer);
    struct worker *w = lane->worker;
    const struct config *config = w->config;

    if (lane->state == LANE_FROZEN) {
        lane_close(lane, (enum reason)lane->reason, "it did not come back within the grace time");
        return;
    }
    if (lane->state == LANE_CONNECTING || lane->state == LANE_LINGER) {
        lane_close(lane, REASON_CONNECT_FAILED, "time-out");
        return;
    }
    if (lane->fsm != SESSION_FORWARDING && lane->fsm != SESSION_CLOSING) {
        lane_close(lane, REASON_HANDSHAKE_TIMEOUT, NULL);
        return;
    }
    if (expects_frames(lane) && w->now - lane->heard >= config->expiry) {
        lane_lost(lane, REASON_HEARTBEAT_MISSED, NULL);
        return;
    }
    if (w->now >= lane->beat) {
        lane_ask(lane);
        lane->beat = w->now + config->heartbeat;
    }
    uint64_t next = lane->beat;
    if (expects_frames(lane))
        next = min_u64(next, lane->heard + config->expiry);
    timer_set(&w->timers, timer, next);
    if (is_watched(lane))
        look(lane);
    lane_watch(lane);
}

/* Streams of the lane */

bool lane_map_open(struct lane *lane, uint32_t size)
{
    CHECK((size & (size - 1)) == 0 && lane->map == NULL);
    lane->map = mem_map(sizeof(lane->map[0]) * size);
    lane->map_mask = size - 1;
    return lane->map != NULL;
}

/* + 1; 0: none. */
static uint32_t slot_of(const struct lane *lane, uint32_t wire_id)
{
    const struct slab *ids = &lane->worker->ids;
    uint32_t place = wire_id & STREAM_SLOT_MASK;

    if (lane->map != NULL)
        return lane->map[wire_id & lane->map_mask];
    return place < ids->fresh ? ((const struct stream_id *)slab_at(ids, place))->stream : 0;
}

static struct stream *on_lane(struct lane *lane, uint32_t wire_id)
{
    uint32_t slot = slot_of(lane, wire_id);

    if (slot == 0)
        return NULL;
    struct stream *s = slab_at(&lane->worker->streams, slot - 1);
    return s->lane == lane && s->wire_id == wire_id ? s : NULL;
}

struct stream *lane_find(struct lane *lane, uint32_t wire_id)
{
    struct stream *s = on_lane(lane, wire_id);

    if (s == NULL || s->state == STREAM_CLOSING)
        return NULL;
    return (s->ends & STREAM_DOWN_RST) == 0 ? s : NULL; /* otherwise the peer has forgotten it */
}

struct stream *lane_find_closing(struct lane *lane, uint32_t wire_id)
{
    struct stream *s = on_lane(lane, wire_id);

    return s != NULL && s->state == STREAM_CLOSING ? s : NULL;
}

void lane_hold(struct lane *lane)
{
    lane->paused++;
}

void lane_unhold(struct lane *lane)
{
    CHECK(lane->paused > 0);
    if (--lane->paused == 0 && lane->state == LANE_OPEN) {
        lane->heard = lane->worker->now; /* what the peer said meanwhile is unread */
        lane_read(lane);
    }
}
