/*
 * visitor: see visitor.h. A stream is opened and OPEN is queued at once; the visitor's first bytes
 * may follow within the initial window, without a round trip. OPEN stands in the data pack, so that
 * it cannot overtake the last data of the stream whose slot it reuses. Who is refused is reset: a
 * stream's socket is that by itself (sock.h). Who was reset before it was accepted, as port scans
 * and some health checks do, and has left nothing to read, costs no stream and no origin's
 * connection; it has no address either, and so no line of --log-visitors.
 */
#include "server/visitor.h"

#include "core/base/log.h"
#include "core/io/addr.h"
#include "core/mux/lane.h"
#include "core/mux/lane_session.h"
#include "core/mux/session.h"
#include "core/mux/stream.h"
#include "core/mux/stream_log.h"
#include "core/run/worker.h"
#include "server/registry.h"

/* A visitor on its way in. */
struct visitor {
    struct session *session;
    struct session_tunnel *tunnel;
    int fd;
    union sock_addr addr;
};

static void visitor_refuse(const struct visitor *v, enum stats_item stat, enum reason reason,
                           const char *who)
{
    struct worker *w = worker_of(v->session->loop);

    loop_count(&w->loop, stat, 1);
    log_at(LOG_WARN, "server", "%s: %s", stat_text(stat), who);
    stream_log_refused(&w->streams, v->session->id, v->tunnel, v->tunnel->port, &v->addr, reason);
    ring_close_fd(w->loop.ring, v->fd);
}

/* There is nobody to open a stream to; tunnel: NULL if that is not known. */
static void visitor_turn_away(struct worker *w, uint64_t session,
                              const struct session_tunnel *tunnel, int fd, enum reason reason)
{
    union sock_addr visitor, local;

    if (w->loop.config->log_visitors && sock_peer(fd, &visitor)) {
        sock_local(fd, &local);
        stream_log_refused(&w->streams, session, tunnel, sock_addr_port(&local), &visitor, reason);
    }
    ring_close_fd(w->loop.ring, fd);
}

/* False: who comes from there has its share already, and is refused. */
static bool visitor_may_come(const struct visitor *v, const struct share *share)
{
    static const struct {
        enum share_kind kind;
        enum stats_item stat;
        enum reason reason;
    } needs[] = { { SHARE_STREAMS, STAT_REFUSED_STREAMS, REASON_LIMIT_STREAMS },
                  { SHARE_FDS, STAT_REFUSED_FDS, REASON_LIMIT_DESCRIPTORS } };

    for (unsigned i = 0; i < ARRAY_SIZE(needs); i++) {
        if (share_may(share, needs[i].kind, 1))
            continue;
        visitor_refuse(v, needs[i].stat, needs[i].reason, share_blame(share, needs[i].kind));
        return false;
    }
    return true;
}

static void visitor_put_open(struct lane *lane, struct stream *s, uint8_t *p)
{
    struct frame_open open = { .tunnel = s->tunnel->index };
    union sock_addr addr;

    if (lane->version != FRAME_V1) {
        addr_to_frame(&s->visitor.sa, &open.visitor);
        sock_local(s->fd, &addr);
        addr_to_frame(&addr.sa, &open.local);
    }
    lane_data_end(lane, frame_put_open(lane->version, p, s->wire_id, &open));
}

/* Takes over the reference on share. */
static void visitor_open_for(struct lane *lane, const struct visitor *v, struct share *share)
{
    uint8_t *p = lane_data_begin(lane, LANE_OPEN_ROOM);
    uint32_t id = lane->version == FRAME_V1 ? lane_v1_id(lane) : 0;
    struct stream *s = NULL;

    if (p != NULL && (lane->version != FRAME_V1 || id != 0))
        s = stream_open(lane, id, v->fd, STREAM_OPEN, share);
    if (s != NULL) {
        stream_serve(s, v->tunnel, &v->addr);
        visitor_put_open(lane, s, p);
        return;
    }
    share_unref(share);
    if (p == NULL)
        visitor_refuse(v, STAT_REFUSED_BUFFERS, REASON_LIMIT_BUFFERS,
                       share_blame(lane->share, SHARE_SMALL));
    else
        visitor_refuse(v, STAT_REFUSED_STREAMS, REASON_LIMIT_STREAMS,
                       share_blame(lane->share, SHARE_IDS));
    if (p != NULL)
        lane_data_drop(lane);
}

static void visitor_open_stream(struct lane *lane, struct session_tunnel *tunnel, int fd)
{
    struct visitor v = { .session = lane->session, .tunnel = tunnel, .fd = fd };

    CHECK(fd >= 0 && tunnel == &lane->session->tunnels[tunnel->index]);
    if (!sock_peer(fd, &v.addr) && !sock_has_unread(fd)) {
        loop_count(lane->loop, STAT_GONE, 1);
        ring_close_fd(lane->loop->ring, fd);
        return;
    }
    struct share *share = session_tunnel_share(lane->session, tunnel, &v.addr);
    if (visitor_may_come(&v, share))
        visitor_open_for(lane, &v, share);
    else
        share_unref(share);
}

static void visitor_told(struct worker *w, struct message *message);

/* A visitor of tunnel `number`, whose session has its lanes on this worker. */
static const struct message_type visitor_message = { "visitor", visitor_told };

/* No lane here: the home worker has lane 0. */
static void visitor_hand_over(struct session *session, const struct session_tunnel *tunnel, int fd)
{
    struct worker *w = worker_of(session->loop);
    struct registry_home home;

    if (!registry_home(session->id, &home) || home.worker == w->loop.index) {
        visitor_turn_away(w, session->id, tunnel, fd, REASON_SESSION_LOST);
        return;
    }
    struct message *message = message_new(&visitor_message);
    message->session = session->id;
    message->number = tunnel->index;
    message->loose.fd = fd;
    loop_count(&w->loop, STAT_CROSSINGS, 1);
    worker_post(w, home.worker, message);
}

static void visitor_accept_on(struct session *session, uint16_t index, int fd, bool may_hand_over)
{
    struct worker *w = worker_of(session->loop);
    struct session_tunnel *tunnel = session_tunnel(session, index);
    struct lane *lane = lane_pick(session);

    if (tunnel == NULL || session->draining || w->loop.phase != LOOP_RUNNING)
        visitor_turn_away(w, session->id, tunnel, fd,
                          tunnel == NULL ? REASON_NO_TUNNEL : REASON_DRAIN);
    else if (lane != NULL)
        visitor_open_stream(lane, tunnel, fd);
    else if (may_hand_over)
        visitor_hand_over(session, tunnel, fd);
    else
        visitor_turn_away(w, session->id, tunnel, fd, REASON_SESSION_LOST);
}

void visitor_accept(struct session *session, uint16_t tunnel, int fd)
{
    visitor_accept_on(session, tunnel, fd, true);
}

static void visitor_told(struct worker *w, struct message *message)
{
    struct session *session = session_find(&w->sessions, message->session);

    if (session != NULL)
        visitor_accept_on(session, (uint16_t)message->number, message->loose.fd, false);
    else
        visitor_turn_away(w, message->session, NULL, message->loose.fd, REASON_SESSION_LOST);
}
