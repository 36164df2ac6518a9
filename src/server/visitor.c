/*
 * visitor: see visitor.h. A stream is opened and OPEN is queued at once; the visitor's first bytes may follow within the initial window, without a round
 * trip. OPEN stands in the data pack, so that it cannot overtake the last data of the stream whose slot it reuses.
 * Who is refused is reset: a stream's socket is that by itself (sock.h).
 */
#include "server/visitor.h"

#include "core/addr.h"
#include "core/lane.h"
#include "core/log.h"
#include "core/session.h"
#include "core/stream.h"
#include "core/worker.h"
#include "server/registry.h"

static void refuse(struct worker *w, int fd, enum stats_item stat)
{
    worker_count(w, stat, 1);
    log_at(LOG_WARN, "server", "%s", stat_text(stat));
    ring_close_fd(w->ring, fd);
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

static void open_stream(struct lane *lane, struct session_tunnel *tunnel, int fd)
{
    struct worker *w = lane->worker;
    uint8_t *p = lane_data_begin(lane, LANE_OPEN_ROOM);
    uint32_t id = lane->version == FRAME_V1 ? v1_id(lane) : 0;
    struct stream *s = NULL;
    struct frame_open open = { .tunnel = tunnel->index };
    union sock_addr addr;

    if (p == NULL) {
        refuse(w, fd, STAT_REFUSED_BUFFERS);
        return;
    }
    if (lane->version != FRAME_V1 || id != 0)
        s = stream_open(lane, id, fd, STREAM_OPEN);
    if (s == NULL) {
        refuse(w, fd, STAT_REFUSED_STREAMS);
        return;
    }
    s->tunnel = tunnel;
    tunnel->streams++;
    sock_peer(fd, &s->visitor);
    if (lane->version != FRAME_V1) {
        addr_to_frame(&s->visitor.sa, &open.visitor);
        sock_local(fd, &addr);
        addr_to_frame(&addr.sa, &open.local);
    }
    lane_data_end(lane, frame_put_open(lane->version, p, s->wire_id, &open));
}

/* No lane here: the home worker has lane 0. */
static void hand_over(struct session *session, uint16_t tunnel, int fd)
{
    struct worker *w = session->worker;
    struct registry_session shared;

    if (!registry_get(session->id, &shared) || shared.home == w->index) {
        ring_close_fd(w->ring, fd);
        return;
    }
    struct message *message = message_new(MESSAGE_VISITOR);
    message->session = session->id;
    message->number = tunnel;
    message->fd = fd;
    worker_count(w, STAT_CROSSINGS, 1);
    worker_post(w, shared.home, message);
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
