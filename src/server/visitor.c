/*
 * visitor: see visitor.h. A stream is opened and OPEN is queued at once; the visitor's first bytes may follow within the initial window, without a round
 * trip. OPEN stands in the data pack, so that it cannot overtake the last data of the stream whose slot it reuses.
 * Who is refused is reset: a stream's socket is that by itself (sock.h). Who was reset before it
 * was accepted, as port scans and some health checks do, and has left nothing to read, costs no
 * stream and no origin's connection.
 */
#include "server/visitor.h"

#include "core/addr.h"
#include "core/lane.h"
#include "core/log.h"
#include "core/session.h"
#include "core/stream.h"
#include "core/worker.h"
#include "server/registry.h"

static void refuse(struct worker *w, int fd, enum stats_item stat, const char *who)
{
    worker_count(w, stat, 1);
    log_at(LOG_WARN, "server", "%s: %s", stat_text(stat), who);
    ring_close_fd(w->ring, fd);
}

/* False: who comes from there has its share already, and is refused. */
static bool may_come(struct worker *w, const struct share *share, int fd)
{
    static const struct {
        enum share_kind kind;
        enum stats_item stat;
    } needs[] = { { SHARE_STREAMS, STAT_REFUSED_STREAMS }, { SHARE_FDS, STAT_REFUSED_FDS } };

    for (unsigned i = 0; i < ARRAY_SIZE(needs); i++) {
        if (share_may(share, needs[i].kind, 1))
            continue;
        refuse(w, fd, needs[i].stat, share_blame(share, needs[i].kind));
        return false;
    }
    return true;
}

/* v1 ids are counted; one whose place in the map is taken by a long-lived stream is passed over. 0: all places are taken. */
static uint32_t v1_id(struct lane *lane)
{
    for (uint32_t tries = 0; tries <= lane->map_mask; tries++) {
        uint32_t id = lane->next_id++;

        if (id != 0 && lane->map[id & lane->map_mask] == 0)
            return id;
    }
    return 0;
}

static void put_open(struct lane *lane, struct stream *s, uint8_t *p)
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
static void open_for(struct lane *lane, struct session_tunnel *tunnel, int fd,
                     const union sock_addr *visitor, struct share *share)
{
    struct worker *w = lane->worker;
    uint8_t *p = lane_data_begin(lane, LANE_OPEN_ROOM);
    uint32_t id = lane->version == FRAME_V1 ? v1_id(lane) : 0;
    struct stream *s = NULL;

    if (p != NULL && (lane->version != FRAME_V1 || id != 0))
        s = stream_open(lane, id, fd, STREAM_OPEN, share);
    if (s != NULL) {
        s->tunnel = tunnel;
        tunnel->streams++;
        s->visitor = *visitor;
        put_open(lane, s, p);
        return;
    }
    share_unref(share);
    if (p == NULL)
        refuse(w, fd, STAT_REFUSED_BUFFERS, share_blame(lane->share, SHARE_SMALL));
    else
        refuse(w, fd, STAT_REFUSED_STREAMS, share_blame(lane->share, SHARE_IDS));
    if (p != NULL)
        lane_data_drop(lane);
}

static void open_stream(struct lane *lane, struct session_tunnel *tunnel, int fd)
{
    union sock_addr visitor;

    if (!sock_peer(fd, &visitor) && !sock_has_unread(fd)) {
        worker_count(lane->worker, STAT_GONE, 1);
        ring_close_fd(lane->worker->ring, fd);
        return;
    }
    struct share *share = session_tunnel_share(lane->session, tunnel, &visitor);
    if (may_come(lane->worker, share, fd))
        open_for(lane, tunnel, fd, &visitor, share);
    else
        share_unref(share);
}

/* No lane here: the home worker has lane 0. */
static void hand_over(struct session *session, uint16_t tunnel, int fd)
{
    struct worker *w = session->worker;
    struct registry_home home;

    if (!registry_home(session->id, &home) || home.worker == w->index) {
        ring_close_fd(w->ring, fd);
        return;
    }
    struct message *message = message_new(MESSAGE_VISITOR);
    message->session = session->id;
    message->number = tunnel;
    message->fd = fd;
    worker_count(w, STAT_CROSSINGS, 1);
    worker_post(w, home.worker, message);
}

static void accept_on(struct session *session, uint16_t index, int fd, bool may_hand_over)
{
    struct worker *w = session->worker;
    struct session_tunnel *tunnel = session_tunnel(session, index);
    struct lane *lane = session_pick_lane(session);

    if (tunnel == NULL || session->draining || w->phase != WORKER_RUNNING)
        ring_close_fd(w->ring, fd);
    else if (lane != NULL)
        open_stream(lane, tunnel, fd);
    else if (may_hand_over)
        hand_over(session, index, fd);
    else
        ring_close_fd(w->ring, fd);
}

void visitor_accept(struct session *session, uint16_t tunnel, int fd)
{
    accept_on(session, tunnel, fd, true);
}

void visitor_adopt(struct worker *w, struct session *session, const struct message *message)
{
    if (session != NULL) {
        accept_on(session, (uint16_t)message->number, message->fd, false);
        return;
    }
    ring_close_fd(w->ring, message->fd);
}
