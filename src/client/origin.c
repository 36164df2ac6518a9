/*
 * origin: the local services, and the streams' way to them.
 *
 * Names are looked up off the worker, when the client starts and again when no address answers (at most once in RESOLVE_AGAIN). OPEN that finds no
 * address yet waits for the look-up like a slow connect: it stays CONNECTING until origin_resolved dials for it. A stream tries the address that answered last
 * first, then the others.
 */
#include "client/client_state.h"

#include "core/addr.h"
#include "core/lane.h"
#include "core/log.h"
#include "core/op.h"
#include "core/stream.h"

#include <errno.h>
#include <stdlib.h>

#define RESOLVE_AGAIN (5 * NSEC_PER_SEC)

static struct origin *origin_of(const struct stream *s)
{
    return &client_of(s->worker)->origins[s->tunnel->index];
}

void origin_init(struct client *client)
{
    const struct config *config = client->worker->config;

    for (unsigned i = 0; i < config->tunnel_count; i++)
        origin_resolve(client, i);
}

void origin_resolve(struct client *client, unsigned tunnel)
{
    struct origin *origin = &client->origins[tunnel];
    const struct config_endpoint *endpoint = &client->worker->config->tunnels[tunnel].origin;

    if (origin->resolving)
        return;
    origin->resolved = client->worker->now;
    if (!resolve_numeric(endpoint->host, endpoint->port, &origin->addrs))
        origin->resolving = client_resolve(client->worker, endpoint, tunnel);
}

/* The next address for the stream, or NULL when all have been tried. */
static const union sock_addr *next_address(const struct stream *s)
{
    const struct origin *origin = origin_of(s);

    if (s->origin_try >= origin->addrs.count)
        return NULL;
    return &origin->addrs.addr[(origin->good + s->origin_try) % origin->addrs.count];
}

static enum reason reason_of(int error)
{
    switch (error) {
    case ECONNREFUSED:
        return REASON_ORIGIN_REFUSED;
    case ETIMEDOUT:
        return REASON_ORIGIN_TIMEOUT;
    case EMFILE:
    case ENFILE:
        return REASON_LIMIT_DESCRIPTORS;
    default:
        return REASON_ORIGIN_UNREACHABLE;
    }
}

static void give_up(struct stream *s, int error)
{
    struct client *client = client_of(s->worker);
    unsigned tunnel = s->tunnel->index;

    log_at(LOG_WARN, s->tunnel->origin, "origin: %s", error != 0 ? strerror(error) : "no address");
    if (s->worker->now - client->origins[tunnel].resolved > RESOLVE_AGAIN)
        origin_resolve(client, tunnel);
    stream_close(s, reason_of(error), true);
}

static void dial(struct stream *s)
{
    struct worker *w = s->worker;
    const union sock_addr *addr = next_address(s);
    int fd = addr != NULL ? sock_dial_stream(addr->sa.sa_family) : -EHOSTUNREACH;

    if (fd < 0) {
        give_up(s, -fd);
        return;
    }
    stream_set_fd(s, fd);
    s->origin = *addr;
    s->flight |= STREAM_CONNECT;
    ring_connect(w->ring, op_pack(OP_STREAM_CONNECT, s->slot, s->generation, 0), fd, &s->origin.sa,
                 sock_addr_size(&s->origin));
}

/* A refusal that needs no slot. On a lane that is slow to leave, more refusals than the control pack holds stand in the data pack. */
static enum reason refuse(struct lane *lane, uint32_t wire_id, enum reason reason)
{
    uint8_t *control = lane_control_begin(lane);
    uint8_t *p = control != NULL ? control : lane_data_begin(lane, FRAME_CONTROL_MAX);

    if (p == NULL)
        return REASON_LIMIT_BUFFERS;
    p = lane->version == FRAME_V1 ? frame_put_close(p, wire_id)
                                  : frame_put_reset(p, wire_id, reason_code(reason));
    if (control != NULL)
        lane_control_end(lane, p);
    else
        lane_data_end(lane, p);
    worker_count(lane->worker, STAT_REFUSED_STREAMS, 1);
    log_at(LOG_WARN, lane_subject(lane), "stream refused: %s", reason_text(reason));
    return REASON_DONE;
}

/* The map's place may still name a stream that both peers have ended on the wire and that delivers its last bytes here, or whose RESET waits for room and
 * crosses the peer's own: it needs the lane no more. Any other is a protocol violation on v2; on v1, whose ids are counted, it is a collision with a
 * long-lived stream. */
static bool place_free(struct lane *lane, uint32_t wire_id)
{
    uint32_t slot = lane->map[wire_id & lane->map_mask];

    if (slot == 0)
        return true;
    const struct stream *s = slab_at(&lane->worker->streams, slot - 1);
    return s->state == STREAM_CLOSING || (s->ends & STREAM_DOWN_RST) != 0 ||
           ((s->ends & STREAM_UP_FIN) != 0 && (s->ends & STREAM_DOWN_FIN) != 0);
}

/* The low bits of an id are a place in the server's table, and AUTH_OK said how large that is. */
static bool is_place(const struct lane *lane, uint32_t wire_id)
{
    const struct client *client = client_of(lane->worker);
    uint32_t slots =
        lane == client->primary ? client->slots : client->lanes[lane->index].ticket.slots;

    return (wire_id & STREAM_SLOT_MASK) < slots;
}

/* Of what a stream needs the visitor may have one more. */
static enum reason may_open(const struct share *share)
{
    if (!share_may(share, SHARE_STREAMS, 1))
        return REASON_LIMIT_STREAMS;
    return share_may(share, SHARE_FDS, 1) ? REASON_DONE : REASON_LIMIT_DESCRIPTORS;
}

enum reason origin_open(struct lane *lane, const struct frame *frame, const uint8_t *src,
                        const uint8_t *end)
{
    struct worker *w = lane->worker;
    struct frame_open open = { .tunnel = 0 };

    if (lane->version == FRAME_V2 &&
        (!frame_get_open(src, end, &open) || !is_place(lane, frame->stream)))
        return REASON_BAD_FRAME;
    struct session_tunnel *tunnel = bind_tunnel(lane, open.tunnel);
    if (tunnel == NULL)
        return refuse(lane, frame->stream, REASON_NO_TUNNEL);
    if (!place_free(lane, frame->stream))
        return lane->version == FRAME_V2 ? REASON_BAD_FRAME
                                         : refuse(lane, frame->stream, REASON_LIMIT_STREAMS);
    if (w->phase != WORKER_RUNNING)
        return refuse(lane, frame->stream, REASON_DRAIN);
    union sock_addr visitor = { .bytes = { 0 } };
    (void)addr_from_frame(&open.visitor, &visitor); /* false on v1: not known */
    struct share *share = session_tunnel_share(lane->session, tunnel, &visitor);
    enum reason reason = may_open(share);
    struct stream *s = NULL;
    if (reason == REASON_DONE)
        s = stream_open(lane, frame->stream, -1, STREAM_CONNECTING, share);
    if (s == NULL) {
        share_unref(share);
        return refuse(lane, frame->stream, reason != REASON_DONE ? reason : REASON_LIMIT_STREAMS);
    }
    s->tunnel = tunnel;
    tunnel->streams++;
    s->visitor = visitor;
    timer_set(&w->timers, &s->timer, w->now + w->config->connect_timeout);
    if (origin_of(s)->addrs.count > 0 || !origin_of(s)->resolving)
        dial(s);
    return REASON_DONE;
}

void origin_connected(struct stream *s, int res)
{
    struct origin *origin = origin_of(s);

    if (res == 0) {
        timer_stop(&s->timer);
        origin->good = (origin->good + s->origin_try) % origin->addrs.count;
        s->state = STREAM_OPEN;
        s->heard = s->worker->now;
        stream_mark(s);
        return;
    }
    stream_drop_fd(s);
    s->origin_try++;
    if (next_address(s) != NULL)
        dial(s);
    else
        give_up(s, -res);
}

/* Streams that came before the address was known. */
static void dial_waiting(struct client *client, unsigned tunnel)
{
    struct worker *w = client->worker;

    for (struct list *n = w->all_lanes.next; n != &w->all_lanes; n = n->next) {
        struct lane *lane = container_of(n, struct lane, node);

        for (struct list *m = lane->streams.next; m != &lane->streams;) {
            struct stream *s = container_of(m, struct stream, lane_node);

            m = m->next;
            if (s->state == STREAM_CONNECTING && s->fd < 0 && s->tunnel->index == tunnel)
                dial(s);
        }
    }
}

void origin_resolved(struct client *client, const struct message *message)
{
    struct resolve_result *result = message->pointer;
    struct origin *origin = &client->origins[message->number];

    origin->resolving = false;
    if (result->count > 0) {
        origin->addrs = *result;
        origin->good = 0;
    } else {
        log_at(LOG_WARN, "origin", "%s", result->error);
    }
    dial_waiting(client, message->number);
}
