/* lane: life, heartbeat, the map of its streams. Theory of operation in lane.h; lane_rx.c receives,
 * lane_tx.c sends. */
#include "core/mux/lane.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/io/addr.h"
#include "core/io/op.h"
#include "core/io/trim.h"
#include "core/mux/crypt.h"
#include "core/mux/lane_impl.h"
#include "core/mux/session.h"

#include <errno.h>
#include <stdio.h>

static void lane_timer_fire(struct timer *timer);

/* Life */

void lane_check_sends(const struct lane *lane)
{
    CHECK((lane->seg_count == 0) == (lane->bulk_bytes == 0));
    CHECK(lane->seg_count > 0 || lane->seg_sent == 0);
    CHECK(lane->control.sent <= lane->control.filled && lane->data.sent <= lane->data.filled);
    CHECK(!lane->data_cut || lane->data.sent < lane->data.filled);
}

/* The lane's socket, and its end: as descriptors of its owner. Those of strangers are set aside
 * (strangers.h). */

static bool lane_is_set_aside(const struct lane_table *table, const struct share *share)
{
    return table->strangers_share != NULL &&
           (share == table->strangers_share || share->parent == table->strangers_share);
}

static void lane_count_fd(const struct lane *lane)
{
    if (!lane_is_set_aside(lane->table, lane->share))
        share_take(lane->share, SHARE_FDS, 1);
}

static void lane_uncount_fd(const struct lane *lane)
{
    if (!lane_is_set_aside(lane->table, lane->share))
        share_give(lane->share, SHARE_FDS, 1);
}

void lane_set_fd(struct lane *lane, int fd)
{
    conn_put_fd(&lane->conn, fd);
    lane_count_fd(lane);
}

int lane_take_fd(struct lane *lane)
{
    int fd = conn_take_fd(&lane->conn);

    lane_uncount_fd(lane);
    return fd;
}

void lane_own(struct lane *lane, struct share *share)
{
    CHECK(lane->kept.count == 0 && lane->stream_count == 0);
    if (lane->conn.fd >= 0)
        lane_uncount_fd(lane);
    share_unref(lane->share);
    lane->share = lane->payer = share;
    conn_own(&lane->conn, share);
    retain_own(&lane->retain, share);
    if (lane->conn.fd >= 0)
        lane_count_fd(lane);
    while (lane->payer->level >= SHARE_SESSION && lane->payer->parent != NULL)
        lane->payer = lane->payer->parent;
}

/* A server's are strangers at first. */
static struct share *lane_first_owner(struct lane_table *table, const union sock_addr *peer,
                                      uint32_t slot)
{
    if (table->role->opens_streams)
        return share_open_address(table->strangers_share, peer);
    return share_open(&table->loop->shares.pool, SHARE_LANE, slot);
}

bool lane_table_open(struct lane_table *table, struct loop *loop, const struct role *role,
                     uint32_t count, uint32_t strangers)
{
    static const struct loop_op ops[LANE_OPS] = {
        [LANE_OP_RECV] = { "lane_recv", lane_recv_done },
        [LANE_OP_SEND] = { "lane_send", lane_send_done },
        [LANE_OP_CONNECT] = { "lane_connect", lane_connect_done },
    };
    struct list *lists[] = { &table->all,     &table->closing,  &table->dirty,   &table->late,
                             &table->frozen,  &table->settling, &table->logging, &table->shaking,
                             &table->starved, &table->short_of, &table->busy,    &table->arrived };

    table->loop = loop;
    table->role = role;
    table->op = loop_register(loop, table, ops, LANE_OPS);
    table->spare.buf = BUF_NONE;
    for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
        list_init(lists[i]);
    timer_init(&table->sweep, lane_sweep);
    trim_add(loop->trim, &table->slab, true);
    if (role->opens_streams)
        table->strangers_share = share_open(&loop->shares.pool, SHARE_STRANGERS, 0);
    uint32_t ids = role->opens_streams ? STREAM_IDS : 1;
    return slab_open(&table->slab, sizeof(struct lane), count, 0) &&
           slab_open(&table->ids, sizeof(struct lane_id), ids, STREAM_APART) &&
           strangers_open(&table->strangers, strangers);
}

void lane_table_close(struct lane_table *table)
{
    slab_close(&table->slab);
    slab_close(&table->ids);
    strangers_close(&table->strangers);
}

/* Of a lane without a session. */
static enum conn_standing lane_outsider(const struct lane_table *table)
{
    return table->role->opens_streams ? CONN_STRANGER : CONN_OWN;
}

static uint64_t lane_op(const struct lane *lane, enum lane_op op)
{
    return op_pack(lane->table->op + op, lane->slot, lane->generation, 0);
}

static struct lane *lane_new(struct lane_table *table, const union sock_addr *peer,
                             enum conn_phase phase, struct crypt *crypt)
{
    struct loop *loop = table->loop;
    uint32_t slot = slab_take(&table->slab);

    CHECK(loop->config->tls != (crypt != NULL ? CONFIG_OFF : CONFIG_ON));
    if (slot == SLAB_NONE)
        return NULL;
    struct lane *lane = slab_at(&table->slab, slot);
    CHECK(lane->state == LANE_FREE);
    uint32_t generation = lane->generation + 1;
    memset(lane, 0, sizeof(*lane));
    lane->loop = loop;
    lane->table = table;
    lane->slot = slot;
    lane->generation = generation;
    trim_watch(loop->trim);
    const struct conn_ops ops = { .recv = lane_op(lane, LANE_OP_RECV),
                                  .send = lane_op(lane, LANE_OP_SEND),
                                  .connect = lane_op(lane, LANE_OP_CONNECT) };
    conn_init(&lane->conn, loop, &table->spare, &ops, peer);
    conn_init_tls(&lane->conn, phase, crypt);
    lane->share = lane->payer = lane_first_owner(table, peer, slot);
    conn_own(&lane->conn, lane->share);
    conn_stand(&lane->conn, lane_outsider(table));
    retain_init(&lane->retain, loop);
    retain_own(&lane->retain, lane->share);
    lane->rx.buf = lane->control.buf = lane->data.buf = BUF_NONE;
    lane->ids.next = 1;
    lane->terms.max_data = FRAME_PAYLOAD_MAX;
    list_init(&lane->session_node);
    list_init(&lane->dirty_node);
    list_init(&lane->starved_node);
    list_init(&lane->frozen_node);
    list_init(&lane->settle_node);
    list_init(&lane->sweep_node);
    stranger_init(&lane->stranger);
    list_init(&lane->in.late_node);
    list_init(&lane->in.arrived_node);
    lane->next.loose.fd = -1;
    list_init(&lane->streams);
    lane_kept_init(lane);
    lane_line_init(lane);
    timer_init(&lane->timer, lane_timer_fire);
    list_append(&table->all, &lane->node);
    loop_count(loop, STAT_CONNECTIONS, 1);
    return lane;
}

void lane_set_state(struct lane *lane, enum lane_state state)
{
    /* From where each state is reached. */
    static const uint8_t from[] = {
        [LANE_FREE] = 1u << LANE_CLOSING,
        [LANE_CONNECTING] = 1u << LANE_FREE,
        [LANE_TLS] = 1u << LANE_OPEN,
        [LANE_OPEN] = 1u << LANE_FREE | 1u << LANE_CONNECTING | 1u << LANE_TLS | 1u << LANE_FROZEN,
        [LANE_FROZEN] = 1u << LANE_OPEN,
        [LANE_LINGER] = 1u << LANE_TLS | 1u << LANE_OPEN,
        [LANE_CLOSING] = 1u << LANE_CONNECTING | 1u << LANE_TLS | 1u << LANE_OPEN |
                         1u << LANE_FROZEN | 1u << LANE_LINGER,
    };

    CHECK((from[state] >> lane->state & 1) != 0);
    lane->state = (uint8_t)state;
}

/* The connection is up: frames, or the TLS handshake first. */
static void lane_start(struct lane *lane)
{
    struct loop *loop = lane->loop;

    sock_lane_options(lane->conn.fd, loop->config->expiry);
    timer_set(&loop->timers, &lane->timer, loop->now + loop->config->handshake_timeout);
    lane_set_state(lane, LANE_OPEN);
    if (conn_is_tls(&lane->conn))
        lane_shake_begin(lane);
    lane_read(lane);
}

/* A lane whose connection exists. */
static struct lane *lane_of_fd(struct lane_table *table, enum conn_phase phase,
                               const struct conn_loose *loose)
{
    union sock_addr peer;

    (void)sock_peer(loose->fd, &peer);
    struct lane *lane = lane_new(table, &peer, phase, loose->crypt);
    if (lane == NULL)
        return NULL;
    lane_set_fd(lane, loose->fd);
    lane->fsm = SESSION_INIT;
    return lane;
}

struct lane *lane_open(struct lane_table *table, const struct conn_loose *loose)
{
    enum conn_phase tls = table->loop->config->tls == CONFIG_AUTO ? CONN_SNIFFS : CONN_SHAKES;
    struct lane *lane = lane_of_fd(table, loose->crypt != NULL ? tls : CONN_PLAIN, loose);

    if (lane == NULL)
        return NULL;
    strangers_add(&table->strangers, &lane->stranger, lane->share);
    lane_start(lane);
    return lane;
}

struct lane *lane_adopt(struct lane_table *table, const struct conn_loose *loose)
{
    struct loop *loop = table->loop;
    struct lane *lane = lane_of_fd(table, loose->crypt != NULL ? CONN_SEALED : CONN_PLAIN, loose);

    if (lane == NULL)
        return NULL;
    lane_set_state(lane, LANE_OPEN);
    timer_set(&loop->timers, &lane->timer, loop->now + loop->config->handshake_timeout);
    /* It reads when its caller has made it a lane of the session: reading may end it. */
    lane_mark(lane);
    return lane;
}

struct lane *lane_dial(struct lane_table *table, const union sock_addr *addr, struct crypt *crypt,
                       int *error)
{
    struct loop *loop = table->loop;
    int fd = sock_dial(addr->sa.sa_family);

    if (fd < 0) {
        *error = -fd;
        return NULL;
    }
    enum conn_phase phase = crypt != NULL ? CONN_SHAKES : CONN_PLAIN;
    struct lane *lane = lane_new(table, addr, phase, crypt);
    if (lane == NULL) {
        *error = ENOBUFS;
        sock_close(fd);
        return NULL;
    }
    lane_set_fd(lane, fd);
    lane_set_state(lane, LANE_CONNECTING);
    lane->fsm = SESSION_INIT;
    timer_set(&loop->timers, &lane->timer, loop->now + loop->config->connect_timeout);
    conn_dial(&lane->conn, addr);
    return lane;
}

void lane_connect_done(void *part, const struct ring_cqe *cqe)
{
    struct lane_table *table = part;
    struct lane *lane = lane_from_op(table, cqe);

    conn_connect_done(&lane->conn);
    if (lane->state == LANE_CLOSING)
        return;
    if (cqe->res == 0)
        lane_start(lane);
    if (lane->state != LANE_TLS)
        table->role->lane_connected(lane, cqe->res);
}

void lane_attach(struct lane *lane, struct session *session)
{
    CHECK(lane->session == NULL && !session->closing && !lane->counted);
    CHECK(lane->stranger.address == NULL); /* who is let in has given up that place */
    lane->session = session;
    conn_stand(&lane->conn, CONN_MEMBER);
    list_append(&session->lanes, &lane->session_node);
    session->lane_count++;
    if (lane->table->role->opens_streams) /* a client's lanes are its own from the beginning */
        lane_own(lane, share_open(session->share, SHARE_LANE, lane->index));
    share_take(lane->share, SHARE_LANES, 1);
    lane->counted = true;
}

void lane_detach(struct lane *lane)
{
    CHECK(lane->session->lane_count > 0);
    list_remove(&lane->session_node);
    lane->session->lane_count--;
    CHECK((lane->session->lane_count == 0) == list_empty(&lane->session->lanes));
    lane->session = NULL;
    conn_stand(&lane->conn, lane_outsider(lane->table));
}

/* The session's business with this lane is over; the socket may live on for the last words. */
static void lane_leave(struct lane *lane, enum reason reason, const char *text)
{
    struct session *session = lane->session;

    lane->reason = (uint8_t)reason;
    lane->awaits_out = false;
    lane_set_fsm(lane, SESSION_CLOSED);
    lane->table->lost(lane);
    CHECK(list_empty(&lane->streams) && lane->stream_count == 0);
    lane_kept_release(lane);
    if (session != NULL)
        lane_detach(lane);
    lane->table->role->lane_closed(lane, session, reason, text);
}

void lane_close(struct lane *lane, enum reason reason, const char *text)
{
    uint8_t before = lane->state;

    if (before == LANE_CLOSING)
        return;
    lane_set_state(lane, LANE_CLOSING);
    timer_stop(&lane->timer);
    list_remove(&lane->dirty_node);
    list_remove(&lane->starved_node);
    list_remove(&lane->retain.node);
    list_remove(&lane->in.late_node);
    list_remove(&lane->in.arrived_node);
    list_remove(&lane->stranger.step_node);
    list_remove(&lane->sweep_node);
    list_remove(&lane->node);
    list_append(&lane->table->closing, &lane->node);
    conn_cancel(&lane->conn);
    if (before == LANE_FROZEN)
        lane_unfreeze(lane);
    if (before != LANE_LINGER)
        lane_leave(lane, reason, text);
}

void lane_finish(struct lane *lane, enum reason reason, const char *text)
{
    struct loop *loop = lane->loop;

    if (lane->state != LANE_OPEN && lane->state != LANE_TLS) {
        lane_close(lane, reason, text);
        return;
    }
    lane_set_state(lane, LANE_LINGER);
    list_remove(&lane->stranger.step_node);
    timer_set(&loop->timers, &lane->timer, loop->now + LANE_LINGER_NS);
    lane_leave(lane, reason, text);
    lane_mark(lane);
}

void lane_dismiss(struct lane *lane, enum reason reason)
{
    if (lane->conn.phase >= CONN_SHAKEN)
        lane_finish(lane, reason, NULL);
    else
        lane_close(lane, reason, NULL);
}

void lane_load(struct lane *lane)
{
    const struct role *role = lane->table->role;
    uint64_t now = lane->loop->now;
    bool anew = lane->loaded == 0 || now - lane->loaded > LANE_LOADED_NS;

    lane->loaded = now;
    if (anew && role->lane_loaded != NULL && lane->fsm == SESSION_FORWARDING)
        role->lane_loaded(lane);
}

bool lane_is_loaded(const struct lane *lane)
{
    return lane->loaded != 0 && lane->loop->now - lane->loaded <= LANE_LOADED_NS;
}

static void lane_release_buffers(struct lane *lane)
{
    conn_rx_release(&lane->conn, &lane->rx);
    lane_tx_release(lane);
    retain_end(&lane->retain);
    conn_drop(&lane->conn);
}

static bool lane_is_listed(const struct lane *lane)
{
    const struct list *nodes[] = {
        &lane->node,         &lane->session_node, &lane->dirty_node,    &lane->starved_node,
        &lane->sweep_node,   &lane->frozen_node,  &lane->settle_node,   &lane->in.arrived_node,
        &lane->in.late_node, &lane->retain.node,  &lane->stranger.node, &lane->stranger.step_node,
        &lane->timer.node
    };

    for (unsigned i = 0; i < ARRAY_SIZE(nodes); i++)
        if (list_linked(nodes[i]))
            return true;
    return false;
}

bool lane_join(struct lane *lane)
{
    struct lane_table *table = lane->table;

    CHECK(lane->state == LANE_CLOSING && lane->fsm == SESSION_CLOSED && lane->session == NULL);
    CHECK(lane->stream_count == 0 && lane->kept.count == 0 && lane->next.loose.fd < 0);
    if (conn_flies(&lane->conn))
        return false;
    if (lane->conn.fd >= 0) {
        /* A peer that acknowledges nothing any more must not hold up the end. */
        if (lane->conn.zc.pending > 0)
            sock_set_rst(lane->conn.fd);
        ring_close_fd(lane->loop->ring, lane_take_fd(lane));
    }
    if (lane->conn.zc.pending > 0)
        return false;
    lane_release_buffers(lane);
    if (lane->ids.map != NULL)
        mem_unmap(lane->ids.map, sizeof(lane->ids.map[0]) * ((size_t)lane->ids.mask + 1));
    lane->ids.map = NULL;
    list_remove(&lane->node);
    if (table->role->lane_freed != NULL)
        table->role->lane_freed(lane);
    if (lane->counted)
        share_give(lane->share, SHARE_LANES, 1);
    share_unref(lane->share);
    CHECK(!lane_is_listed(lane) && lane->stranger.address == NULL);
    lane_set_state(lane, LANE_FREE);
    slab_give(&table->slab, lane->slot);
    return true;
}

struct conn_loose lane_loosen(struct lane *lane)
{
    return conn_loosen(&lane->conn, lane_take_fd(lane));
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

    addr_format(&lane->conn.peer.sa, peer, sizeof(peer));
    if (lane->session != NULL)
        snprintf(text, sizeof(text), "session %llu lane %u (%s)",
                 (unsigned long long)lane->session->id, lane->index, peer);
    else
        snprintf(text, sizeof(text), "connection (%s)", peer);
    return text;
}

void lane_warn_plain(const struct lane *lane)
{
    if (conn_is_tls(&lane->conn) || sock_addr_is_loopback(&lane->conn.peer))
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
    struct frame_ping ping = { .time = lane->loop->now };

    if (p == NULL)
        return; /* no room: the lane has enough to say */
    ping.rx_bytes = lane_tell_count(lane);
    lane->ping_time = ping.time;
    lane->kept.unasked = 0;
    lane_control_end(lane, frame_put_ping(lane->version, p, &ping));
}

void lane_start_heartbeat(struct lane *lane)
{
    struct loop *loop = lane->loop;

    /* A v1 lane may be held up by a slow reader, which TCP cannot tell from a dead peer. */
    if (lane->version == FRAME_V1)
        sock_lane_options(lane->conn.fd, V1_USER_TIMEOUT * loop->config->expiry);
    lane->beat = loop->now + loop->config->heartbeat;
    timer_set(&loop->timers, &lane->timer, lane->beat);
    lane_watch(lane);
    /* v1: a server expires only clients that it has heard a Heartbeat of. v2: windows follow the
     * round trip, which a server does not know from the handshake, and nobody of a connection that
     * took over. */
    if (lane->version == FRAME_V1 ? !lane->table->role->opens_streams : lane->conn.rtt_min == 0)
        lane_ask(lane);
}

/* A v1 client sends no Heartbeat (its document says so, its code does not): silence tells nothing
 * of one that never did. It is found dead by our own heartbeats and TCP_USER_TIMEOUT. A lane that
 * is held up hears nothing by its own choice. */
static bool lane_expects_frames(const struct lane *lane)
{
    bool v1_client = lane->version == FRAME_V1 && lane->table->role->opens_streams;

    return lane->paused == 0 && (!v1_client || lane->peer_beats);
}

/* It has streams, or the peer has not counted all that the last of them said. */
static bool lane_is_needed(const struct lane *lane)
{
    return lane->stream_count > 0 || lane->retain.counted < lane->last_said;
}

/* A client watches the path of a lane that is needed: it is the one who can dial again. */
static bool lane_is_watched(const struct lane *lane)
{
    return lane->retain.keeps && lane_is_needed(lane) && lane->state == LANE_OPEN &&
           lane->fsm == SESSION_FORWARDING && !lane->table->role->opens_streams;
}

void lane_watch(struct lane *lane)
{
    struct loop *loop = lane->loop;

    if (lane->stream_count > 0)
        lane->last_said = UINT64_MAX;
    if (lane_is_watched(lane) && lane->timer.due > loop->now + LANE_WATCH_NS)
        timer_set(&loop->timers, &lane->timer, loop->now + LANE_WATCH_NS);
}

/* A quiet lane is asked; a path from which TCP hears nothing is suspect. What our own queue holds
 * up, or a peer that is stopped, is not the path's fault: its TCP answers. */
static void lane_look(struct lane *lane)
{
    uint64_t silence = lane->loop->now - lane->conn.heard, patience = lane_patience(lane);

    if (lane->stream_count == 0)
        lane->last_said = min_u64(lane->last_said, lane->retain.sent);
    if (silence < LANE_SILENCE_NS)
        return;
    if (lane->ping_time == 0)
        lane_ask(lane);
    if (silence >= patience && sock_is_stuck(lane->conn.fd, max_u64(patience, 4 * lane->conn.rtt)))
        lane->table->role->lane_suspect(lane);
}

/* Before the handshake is over the timer is its time-out; afterwards it beats and looks whether the
 * peer was heard. */
static void lane_timer_fire(struct timer *timer)
{
    struct lane *lane = container_of(timer, struct lane, timer);
    struct loop *loop = lane->loop;
    const struct config *config = loop->config;

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
    if (lane_expects_frames(lane) && loop->now - lane->conn.heard >= config->expiry) {
        lane_lost(lane, REASON_HEARTBEAT_MISSED, NULL);
        return;
    }
    if (loop->now >= lane->beat) {
        lane_ask(lane);
        lane->beat = loop->now + config->heartbeat;
    }
    uint64_t next = lane->beat;
    if (lane_expects_frames(lane))
        next = min_u64(next, lane->conn.heard + config->expiry);
    timer_set(&loop->timers, timer, next);
    if (lane_is_watched(lane))
        lane_look(lane);
    lane_watch(lane);
}

/* What its role knows of it */

void lane_set_version(struct lane *lane, uint8_t version)
{
    CHECK(lane->session == NULL && (lane->version == 0 || lane->version == version));
    lane->version = version;
}

void lane_be_joining(struct lane *lane)
{
    CHECK(lane->session == NULL);
    lane->kind = SESSION_LANE_JOINING;
}

void lane_set_index(struct lane *lane, uint16_t index)
{
    CHECK(lane->session == NULL && index < SESSION_LANES_MAX);
    lane->index = index;
}

const struct lane_terms lane_terms_v1 = { .max_data = V1_DATA_MAX, .lanes = 1 };

void lane_agree(struct lane *lane, const struct lane_terms *terms)
{
    CHECK(terms->lanes >= 1 && terms->max_data > 0 && lane->stream_count == 0);
    lane->terms = *terms;
}

void lane_heard_goaway(struct lane *lane)
{
    lane->goaway_heard = true;
}

void lane_introduce(struct lane *lane, const struct frame_text *client, bool will_log)
{
    CHECK(lane->session == NULL && client->size <= sizeof(lane->client));
    lane->client_size = (uint8_t)client->size;
    memcpy(lane->client, client->data, client->size);
    lane->will_log = will_log;
}

void lane_await_out(struct lane *lane)
{
    CHECK(lane->state == LANE_OPEN && !lane->awaits_out);
    lane->awaits_out = true;
    lane_mark(lane);
}

/* Streams of the lane */

uint32_t lane_v1_id(struct lane *lane)
{
    for (uint32_t tries = 0; tries <= lane->ids.mask; tries++) {
        uint32_t id = lane->ids.next++;

        if (id != 0 && lane->ids.map[id & lane->ids.mask] == 0)
            return id;
    }
    return 0;
}

bool lane_map_open(struct lane *lane, uint32_t size)
{
    CHECK((size & (size - 1)) == 0 && lane->ids.map == NULL);
    lane->ids.map = mem_map(sizeof(lane->ids.map[0]) * size);
    lane->ids.mask = size - 1;
    return lane->ids.map != NULL;
}

uint32_t lane_slot(const struct lane *lane, uint32_t wire_id)
{
    const struct slab *ids = &lane->table->ids;
    uint32_t place = wire_id & STREAM_SLOT_MASK;

    if (lane->ids.map != NULL)
        return lane->ids.map[wire_id & lane->ids.mask];
    return place < ids->fresh ? ((const struct lane_id *)slab_at(ids, place))->stream : 0;
}

void lane_hold(struct lane *lane)
{
    CHECK(lane->paused < lane->stream_count);
    lane->paused++;
}

void lane_unhold(struct lane *lane)
{
    CHECK(lane->paused > 0);
    if (--lane->paused == 0 && lane->state == LANE_OPEN) {
        conn_excuse(&lane->conn); /* what the peer said meanwhile is unread */
        lane_read(lane);
    }
}
