/*
 * origin: the local services, and the streams' way to them.
 *
 * Names are looked up off the worker, when the client starts and again when no address answers (at
 * most once in RESOLVE_AGAIN). OPEN that finds no address yet waits for the look-up like a slow
 * connect: it stays CONNECTING until origin_resolved dials for it.
 *
 * Addresses. A stream tries the address that answered last first, then the others, whose families
 * alternate (resolve.c). One that refuses is followed by the next at once; one that says nothing is
 * left alone for CLIENT_ATTEMPT_DELAY, then the next is tried beside it, and who answers first is
 * the origin (happy eyeballs, RFC 8305). The first is not given up: that an answer takes longer
 * than a quarter of a second is no sign that none comes, and the next address may be the dead one.
 * Two at most are on their way: a third address takes the place of the older attempt, which has had
 * twice the delay by then. The connect time-out bounds all of it. A refusal and a silence end the
 * same way, in origin_give_up: the log names the origin, the name is looked up again, and the
 * server is told why.
 *
 * What a second attempt needs is in the stream (struct stream_way), so that it ends with it.
 * Rejected: a table of attempts beside the streams, each with a timer and an end of its own: it
 * saves some fifty bytes of a stream, and has to be told of every way in which one can end. A
 * stream with one address, or whose first one answers, pays nothing: its one timer is set once, to
 * the delay or to the time-out.
 */
#include "client/client_state.h"
#include "client/lookup.h"

#include "core/base/cure.h"
#include "core/base/log.h"
#include "core/io/addr.h"
#include "core/io/op.h"
#include "core/mux/lane.h"
#include "core/mux/stream.h"
#include "core/mux/stream_log.h"

#include <errno.h>
#include <stdlib.h>

#define RESOLVE_AGAIN (5 * NSEC_PER_SEC)

static struct origin *origin_of(const struct stream *s)
{
    return &client_at(s->loop)->origins[s->tunnel->index];
}

void origin_init(struct client *client)
{
    const struct config *config = client->worker->loop.config;

    for (unsigned i = 0; i < config->tunnel_count; i++)
        origin_resolve(client, i);
}

/* `number` is the tunnel. */
static const struct message_type origin_message = { "origin_resolved", origin_resolved };

void origin_resolve(struct client *client, unsigned tunnel)
{
    struct origin *origin = &client->origins[tunnel];
    const struct config_endpoint *endpoint = &client->worker->loop.config->tunnels[tunnel].origin;

    if (origin->resolving)
        return;
    origin->resolved = client->worker->loop.now;
    if (!resolve_numeric(endpoint->host, endpoint->port, &origin->addrs))
        origin->resolving = lookup_start(client->worker, endpoint, &origin_message, tunnel);
}

/* The next address for the stream, or NULL when all have been tried. */
static const union sock_addr *origin_next_address(const struct stream *s)
{
    const struct origin *origin = origin_of(s);

    if (s->way.next >= origin->addrs.count)
        return NULL;
    return &origin->addrs.addr[(s->way.first + s->way.next) % origin->addrs.count];
}

static enum reason origin_reason_of(int error)
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

static void origin_give_up(struct stream *s, int error)
{
    struct client *client = client_at(s->loop);
    unsigned tunnel = s->tunnel->index;

    if (origin_of(s)->addrs.count == 0)
        log_at(LOG_WARN, s->tunnel->origin, "origin: no address is known of this name");
    else
        log_at(LOG_WARN, s->tunnel->origin, "origin: %s%s",
               error != 0 ? strerror(error) : "no address", cure_connect_text(error));
    if (s->loop->now - client->origins[tunnel].resolved > RESOLVE_AGAIN)
        origin_resolve(client, tunnel);
    stream_close(s, origin_reason_of(error), true);
}

static bool origin_is_dialling(const struct stream *s)
{
    return (s->flight & (STREAM_CONNECT | STREAM_BESIDE)) != 0;
}

/* Until another address is due, or the end. */
static void origin_wait_on(struct stream *s)
{
    struct worker *w = worker_of(s->loop);
    uint64_t next =
        origin_next_address(s) != NULL ? w->loop.now + CLIENT_ATTEMPT_DELAY : UINT64_MAX;

    timer_set(&w->loop.timers, &s->timer, min_u64(next, s->way.due));
}

static void origin_connect_to(struct stream *s, bool beside, int fd, const union sock_addr *addr)
{
    if (beside)
        stream_set_beside(s, fd);
    else
        stream_set_fd(s, fd);
    s->way.attempt[beside] = s->way.next;
    stream_connect(s, beside, addr);
}

/* The next address that there is a socket for. `error`: why the one before came to nothing. */
static void origin_dial(struct stream *s, bool beside, int error)
{
    const union sock_addr *addr;
    int fd = -1;

    for (; fd < 0 && (addr = origin_next_address(s)) != NULL; s->way.next++) {
        fd = sock_dial_stream(addr->sa.sa_family);
        if (fd >= 0 && s->table->slab.used > SOCK_PORTS_CROWD)
            sock_use_all_ports(fd);
        if (fd >= 0)
            origin_connect_to(s, beside, fd, addr);
        else
            error = -fd;
    }
    if (origin_is_dialling(s))
        origin_wait_on(s);
    else
        origin_give_up(s, error);
}

/* Who comes, as OPEN says; on v1 it says nothing. */
struct visit {
    struct session_tunnel *tunnel; /* NULL: there is none of this index */
    union sock_addr addr;
    uint16_t port; /* the public one; 0: not known */
};

static struct visit origin_visit_of(struct lane *lane, const struct frame_open *open)
{
    struct visit visit = { .tunnel = bind_tunnel(lane, open->tunnel) };
    union sock_addr local = { .bytes = { 0 } };

    (void)addr_from_frame(&open->visitor, &visit.addr); /* false on v1: not known */
    if (addr_from_frame(&open->local, &local))
        visit.port = sock_addr_port(&local);
    if (visit.tunnel != NULL && visit.tunnel->port == 0) /* only lane 0's worker has had BIND_OK */
        visit.tunnel->port = visit.port;
    return visit;
}

/* A refusal that needs no slot. On a lane that is slow to leave, more refusals than the control
 * pack holds stand in the data pack. */
static enum reason origin_refuse(struct lane *lane, uint32_t wire_id, enum reason reason,
                                 const struct visit *visit)
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
    loop_count(lane->loop, STAT_REFUSED_STREAMS, 1);
    log_at(LOG_WARN, lane_subject(lane), "stream refused: %s", reason_text(reason));
    stream_log_refused(lane->table->streams, lane->session->id, visit->tunnel, visit->port,
                       &visit->addr, reason);
    return REASON_DONE;
}

/* The map's place may still name a stream that both peers have ended on the wire and that delivers
 * its last bytes here, or whose RESET waits for room and crosses the peer's own: it needs the lane
 * no more. Any other is a protocol violation on v2; on v1, whose ids are counted, it is a collision
 * with a long-lived stream. */
static bool origin_place_free(struct lane *lane, uint32_t wire_id)
{
    uint32_t slot = lane->ids.map[wire_id & lane->ids.mask];

    if (slot == 0)
        return true;
    const struct stream *s = slab_at(&lane->table->streams->slab, slot - 1);
    return s->state == STREAM_CLOSING || (s->ends & STREAM_DOWN_RST) != 0 ||
           ((s->ends & STREAM_UP_FIN) != 0 && (s->ends & STREAM_DOWN_FIN) != 0);
}

/* The low bits of an id are a place in the server's table, and AUTH_OK said how large that is. */
static bool origin_is_place(const struct lane *lane, uint32_t wire_id)
{
    const struct client *client = client_at(lane->loop);
    uint32_t slots =
        lane == client->primary ? client->slots : client->lanes[lane->index].ticket.slots;

    return (wire_id & STREAM_SLOT_MASK) < slots;
}

/* Of what a stream needs the visitor may have one more. */
static enum reason origin_may_open(const struct share *share)
{
    if (!share_may(share, SHARE_STREAMS, 1))
        return REASON_LIMIT_STREAMS;
    return share_may(share, SHARE_FDS, 1) ? REASON_DONE : REASON_LIMIT_DESCRIPTORS;
}

static void origin_dial_first(struct stream *s)
{
    const struct origin *origin = origin_of(s);

    s->way.list = origin->list;
    s->way.first = (uint8_t)origin->good;
    origin_dial(s, false, EHOSTUNREACH);
}

enum reason origin_open(struct lane *lane, const struct frame *frame, const uint8_t *src,
                        const uint8_t *end)
{
    struct worker *w = worker_of(lane->loop);
    struct frame_open open = { .tunnel = 0 };

    if (lane->version == FRAME_V2 &&
        (!frame_get_open(src, end, &open) || !origin_is_place(lane, frame->stream)))
        return REASON_BAD_FRAME;
    struct visit visit = origin_visit_of(lane, &open);
    if (visit.tunnel == NULL)
        return origin_refuse(lane, frame->stream, REASON_NO_TUNNEL, &visit);
    if (!origin_place_free(lane, frame->stream))
        return lane->version == FRAME_V2
                   ? REASON_BAD_FRAME
                   : origin_refuse(lane, frame->stream, REASON_LIMIT_STREAMS, &visit);
    if (w->loop.phase != LOOP_RUNNING)
        return origin_refuse(lane, frame->stream, REASON_DRAIN, &visit);
    struct share *share = session_tunnel_share(lane->session, visit.tunnel, &visit.addr);
    enum reason reason = origin_may_open(share);
    struct stream *s = NULL;
    if (reason == REASON_DONE)
        s = stream_open(lane, frame->stream, -1, STREAM_CONNECTING, share);
    if (s == NULL) {
        share_unref(share);
        return origin_refuse(lane, frame->stream,
                             reason != REASON_DONE ? reason : REASON_LIMIT_STREAMS, &visit);
    }
    stream_serve(s, visit.tunnel, &visit.addr);
    s->way.due = w->loop.now + w->loop.config->connect_timeout;
    if (origin_of(s)->addrs.count > 0 || !origin_of(s)->resolving)
        origin_dial_first(s);
    else
        timer_set(&w->loop.timers, &s->timer, s->way.due);
    return REASON_DONE;
}

static void origin_close_attempt(struct stream *s, bool beside)
{
    if (beside)
        stream_drop_beside(s);
    else
        stream_drop_fd(s);
}

/* A connect that is being cancelled and was faster is closed like one that was not. */
static void origin_abandon(struct stream *s, bool beside)
{
    ring_cancel(s->loop->ring, stream_op(s, STREAM_OP_CONNECT, beside));
}

/* The other attempt, if there is one, is beside from here on, whatever its operation is called. */
static void origin_won(struct stream *s, bool beside)
{
    struct origin *origin = origin_of(s);

    timer_stop(&s->timer);
    if (s->way.list == origin->list)
        origin->good = (s->way.first + s->way.attempt[beside]) % origin->addrs.count;
    stream_connected(s, beside);
    if (origin_is_dialling(s))
        origin_abandon(s, !beside);
}

void origin_connected(struct stream *s, bool beside, int res)
{
    if (s->state == STREAM_OPEN) { /* it came second */
        origin_close_attempt(s, true);
        return;
    }
    if (res == 0) {
        origin_won(s, beside);
        return;
    }
    origin_close_attempt(s, beside);
    origin_dial(s, beside, res == -ECANCELED ? ETIMEDOUT : -res);
}

/* Two are on their way: the older one makes room, and origin_dial() goes on where it ends. */
static void origin_abandon_older(struct stream *s)
{
    origin_abandon(s, s->way.attempt[1] < s->way.attempt[0]);
    origin_wait_on(s);
}

void origin_late(struct stream *s)
{
    if (s->loop->now >= s->way.due || !origin_is_dialling(s))
        origin_give_up(s, ETIMEDOUT);
    else if ((s->flight & STREAM_BESIDE) == 0)
        origin_dial(s, true, 0);
    else if ((s->flight & STREAM_CONNECT) == 0)
        origin_dial(s, false, 0);
    else
        origin_abandon_older(s);
}

/* Streams that came before the address was known. */
static void origin_dial_waiting(struct client *client, unsigned tunnel)
{
    struct worker *w = client->worker;

    for (struct list *n = w->lanes.all.next; n != &w->lanes.all; n = n->next) {
        struct lane *lane = container_of(n, struct lane, node);

        for (struct list *m = lane->streams.next; m != &lane->streams;) {
            struct stream *s = container_of(m, struct stream, lane_node);

            m = m->next;
            if (s->state == STREAM_CONNECTING && !origin_is_dialling(s) &&
                s->tunnel->index == tunnel)
                origin_dial_first(s);
        }
    }
}

/* What answered last is tried first, if it is still among them. */
static void origin_set_addresses(struct origin *origin, const struct resolve_result *result)
{
    union sock_addr good = origin->addrs.addr[origin->good];

    origin->addrs = *result;
    origin->good = 0;
    origin->list++;
    for (unsigned i = 0; i < result->count; i++)
        if (addr_equal(&result->addr[i], &good))
            origin->good = i;
}

void origin_resolved(struct worker *w, struct message *message)
{
    struct client *client = client_of(w);
    struct resolve_result *result = message->pointer;
    struct origin *origin = &client->origins[message->number];

    origin->resolving = false;
    if (result->count > 0) {
        origin_set_addresses(origin, result);
    } else {
        log_at(LOG_WARN, "origin", "%s", result->error);
    }
    origin_dial_waiting(client, message->number);
}
