/* tunnel: see tunnel.h. */
#include "server/tunnel.h"

#include "core/base/cure.h"
#include "core/base/log.h"
#include "core/io/addr.h"
#include "core/io/listener.h"
#include "core/mux/lane.h"
#include "core/mux/lane_session.h"
#include "core/mux/session.h"
#include "core/run/worker.h"
#include "server/registry.h"
#include "server/ticket.h"
#include "server/visitor.h"

#include <stdio.h>
#include <string.h>

/* Set by tunnel_open, read-only afterwards. */
static union sock_addr public_addr;
static char public_host[256];

void tunnel_open(const union sock_addr *addr, bool named)
{
    public_addr = *addr;
    if (named)
        addr_format_host(&public_addr.sa, public_host, sizeof(public_host));
}

static void tunnel_text_copy(char *dst, size_t size, struct frame_text text)
{
    size_t n = min_size(size - 1, text.size);

    for (size_t i = 0; i < n; i++) /* goes to logs and terminals */
        dst[i] = text.data[i] >= 0x20 && text.data[i] < 0x7f ? text.data[i] : '?';
    dst[n] = '\0';
}

/* Listening sockets */

static void tunnel_bind_again(struct session *session);

static void tunnel_bind_again_told(struct worker *w, struct message *message)
{
    struct session *session = session_find(&w->sessions, message->session);

    if (session != NULL)
        tunnel_bind_again(session);
}

/* A BIND of the session that waits may go on. */
static const struct message_type bind_again_message = { "bind_again", tunnel_bind_again_told };

/* The session (0: none) may go on with its BIND, on its own worker and in a turn of its own. */
static void tunnel_tell_waiter(struct worker *w, struct registry_home waiter)
{
    if (waiter.session == 0)
        return;
    struct message *message = message_new(&bind_again_message);
    message->session = waiter.session;
    worker_post(w, waiter.worker, message);
}

static void tunnel_port_unref(struct worker *w, uint16_t port)
{
    tunnel_tell_waiter(w, registry_port_unref(port));
}

static void tunnel_visitor_accepted(struct listener *listener, int fd)
{
    visitor_accept(listener->owner, listener->index, fd);
}

static void tunnel_port_closed(struct listener *listener)
{
    tunnel_port_unref(worker_of(listener->loop), listener->port);
}

static const struct listener_use visitors = { .accepted = tunnel_visitor_accepted,
                                              .closed = tunnel_port_closed };

/* Puts tunnel `index` on this worker; takes over fd (the first listening socket of its port)
 * unless it is -1, which opens one more. False: it came to nothing, and the first one's port is
 * free again. */
static bool tunnel_add(struct session *session, uint16_t index, const struct registry_tunnel *what,
                       int fd)
{
    struct worker *w = worker_of(session->loop);
    struct session_tunnel *tunnel = &session->tunnels[index];
    bool first = fd >= 0;

    CHECK(what->port != 0 && !tunnel->bound && tunnel->share == NULL && tunnel->listener == NULL);
    if (!first) {
        union sock_addr at = public_addr;

        if (!registry_port_ref(session->id, index, what->port))
            return false;
        sock_addr_set_port(&at, what->port);
        if (share_may(session->share, SHARE_FDS, 1))
            fd = sock_listen_streams(&at, LISTENER_BACKLOG);
    }
    if (fd < 0) {
        tunnel_port_unref(w, what->port);
        return false;
    }
    struct listener *listener =
        listener_open(&w->listeners, fd, &visitors, session, session->share);
    if (listener == NULL) {
        sock_close(fd);
        if (first)
            registry_unbind(session->id, index, what->port);
        tunnel_port_unref(w, what->port);
        return false;
    }
    listener->index = index;
    listener->port = what->port;
    *session_tunnel_place(session, index) = (struct session_tunnel){
        .bound = true, .index = index, .port = what->port, .listener = listener
    };
    memcpy(tunnel->name, what->name, sizeof(tunnel->name));
    memcpy(tunnel->origin, what->origin, sizeof(tunnel->origin));
    return true;
}

void tunnel_copy(struct session *session, const struct registry_session *shared)
{
    if (session->draining || session->loop->phase != LOOP_RUNNING)
        return; /* what it listened on is closed for good */
    for (uint32_t i = 0; i < shared->tunnel_count; i++)
        if (shared->tunnels[i].port != 0 && !session->tunnels[i].bound &&
            !tunnel_add(session, (uint16_t)i, &shared->tunnels[i], -1))
            log_at(LOG_WARN, "server", "worker %u cannot listen on port %u: other workers carry it",
                   session->loop->index, shared->tunnels[i].port);
}

void tunnel_close(struct session *session)
{
    for (uint32_t i = 0; i < session->tunnel_count; i++) {
        if (session->tunnels[i].listener != NULL)
            listener_close(session->tunnels[i].listener);
        session->tunnels[i].listener = NULL;
    }
}

void tunnel_stop(struct session *session)
{
    session_drain(session);
    tunnel_close(session);
}

static void tunnel_told(struct worker *w, struct message *message)
{
    struct session *session = session_find(&w->sessions, message->session);
    struct registry_session shared;

    if (session != NULL && registry_get(message->session, &shared))
        tunnel_copy(session, &shared);
}

/* The session has a new tunnel. */
static const struct message_type tunnel_message = { "tunnel", tunnel_told };

/* BIND */

static void tunnel_session_over_told(struct worker *w, struct message *message)
{
    struct session *session = session_find(&w->sessions, message->session);

    if (session != NULL)
        lane_session_close(session, (enum reason)message->number);
}

const struct message_type tunnel_session_over = { "session_over", tunnel_session_over_told };

void tunnel_replace_session(struct worker *w, uint64_t id, const char *why)
{
    struct session *session = session_find(&w->sessions, id);
    char subject[48];

    snprintf(subject, sizeof(subject), "session %llu", (unsigned long long)id);
    log_at(LOG_INFO, subject, "ends: %s", why);
    worker_post_others(w, &tunnel_session_over, id, REASON_REPLACED);
    if (session != NULL)
        lane_session_close(session, REASON_REPLACED);
}

/* Asks the registry, and does what follows from its answer for others. */
static enum reason tunnel_ask_registry(struct lane *lane, const struct registry_wish *wish,
                                       struct registry_bound *bound)
{
    struct worker *w = worker_of(lane->loop);
    uint64_t id = lane->session->id;
    enum reason reason = registry_bind(id, wish, bound);

    if (bound->evicted != 0)
        tunnel_replace_session(w, bound->evicted,
                               "it has no connection, and a client with its token wants its port");
    tunnel_tell_waiter(w, bound->freed);
    if (bound->later)
        tunnel_tell_waiter(w, (struct registry_home){ .session = id, .worker = w->loop.index });
    return reason;
}

/* What the log and the client are told of a BIND that was refused, in a static thread-local
 * buffer. */
static const char *tunnel_refusal(enum reason reason, const struct registry_bound *bound)
{
    static _Thread_local char text[256];

    snprintf(text, sizeof(text), "%s", reason_text(reason));
    if (bound->given != NULL)
        snprintf(text, sizeof(text), "%s: this server gives %s", reason_text(reason), bound->given);
    else if (bound->blame != NULL)
        snprintf(text, sizeof(text),
                 "%s for you: %s; end some tunnels, or give the server more --ports",
                 reason_text(reason), bound->blame);
    else if (bound->error != 0)
        snprintf(text, sizeof(text), "%s: %s%s", reason_text(reason), strerror(bound->error),
                 cure_bind_text(bound->error, bound->failed));
    return text;
}

static void tunnel_log(struct lane *lane, const struct session_tunnel *tunnel)
{
    char name[sizeof(tunnel->name)];

    session_tunnel_name(tunnel, "", name, sizeof(name));
    log_at(LOG_INFO, lane_subject(lane), "tunnel %s%sport %u -> %s", name,
           name[0] != '\0' ? ", " : "", tunnel->port,
           tunnel->origin[0] != '\0' ? tunnel->origin : "origin of the client");
}

/* Indices are the client's choice: one whose BIND was refused stays free, and the next ones do not
 * depend on it. DONE without a port: it waits. *why: more than the reason says, if there is
 * more. */
static enum reason tunnel_bind_one(struct lane *lane, uint16_t index, uint16_t wanted,
                                   uint16_t ticket, struct registry_tunnel *what, const char **why)
{
    struct session *session = lane->session;
    struct worker *w = worker_of(lane->loop);
    const struct registry_wish wish = { .index = index,
                                        .wanted = wanted,
                                        .ticket = ticket,
                                        .addr = &public_addr,
                                        .what = what,
                                        .now = w->loop.now };
    struct registry_bound bound;

    if (index >= CONFIG_TUNNELS_MAX)
        return REASON_LIMIT_TUNNELS;
    if (session->tunnels[index].bound || session->tunnels[index].waits)
        return REASON_BAD_STATE;
    if (w->loop.phase != LOOP_RUNNING || session->draining)
        return REASON_SHUTDOWN;
    if (!share_may(session->share, SHARE_FDS, 1)) {
        *why = share_blame(session->share, SHARE_FDS);
        return REASON_LIMIT_DESCRIPTORS;
    }
    enum reason reason = tunnel_ask_registry(lane, &wish, &bound);
    if (bound.closing || bound.later)
        return REASON_DONE;
    if (reason != REASON_DONE) {
        *why = tunnel_refusal(reason, &bound);
        return reason;
    }
    what->port = bound.port;
    if (!tunnel_add(session, index, what, bound.fd))
        return REASON_LIMIT_TUNNELS;
    worker_post_others(w, &tunnel_message, session->id, index);
    if (lane->fsm != SESSION_FORWARDING) {
        lane_set_fsm(lane, SESSION_FORWARDING);
        lane_start_heartbeat(lane);
    }
    tunnel_log(lane, &session->tunnels[index]);
    return REASON_DONE;
}

static uint8_t *tunnel_put_bind_ok(const struct lane *lane, uint16_t index, uint16_t port,
                                   uint8_t *p)
{
    uint8_t ticket[FRAME_TICKET_MAX];
    struct frame_bind_ok ok = { .tunnel = index,
                                .port = port,
                                .host = frame_text_of(public_host),
                                .ticket.data = (const char *)ticket };

    if (lane->client_size > 0)
        ok.ticket.size = ticket_make(ticket, port, lane->client, lane->client_size);
    return frame_put_bind_ok(lane->version, p, &ok);
}

/* Answered when its port is there. */
static void tunnel_bind_later(struct session *session, uint16_t index, uint16_t wanted,
                              uint16_t ticket, const struct registry_tunnel *what)
{
    struct session_tunnel *tunnel = session_tunnel_place(session, index);

    CHECK(!tunnel->bound && tunnel->share == NULL);
    *tunnel = (struct session_tunnel){
        .waits = true, .wanted = wanted, .ticket = ticket, .refused = tunnel->refused
    };
    memcpy(tunnel->name, what->name, sizeof(tunnel->name));
    memcpy(tunnel->origin, what->origin, sizeof(tunnel->origin));
}

/* A client asks again for as long as it has a session: said once. */
static void tunnel_log_refusal(struct lane *lane, uint16_t index, uint16_t wanted, const char *why)
{
    struct session_tunnel *tunnel =
        index < CONFIG_TUNNELS_MAX ? &lane->session->tunnels[index] : NULL;

    if (tunnel != NULL && tunnel->refused)
        return;
    if (tunnel != NULL)
        tunnel->refused = true;
    log_at(LOG_WARN, lane_subject(lane), "bind of port %u refused: %s", wanted, why);
}

/* v1 has no answer but the end; what is said before it a client may show. */
static enum reason tunnel_refuse_v1(struct lane *lane, uint16_t wanted, enum reason reason,
                                    const char *why)
{
    const struct frame_error error = { .code = reason_code(reason), .text = frame_text_of(why) };
    uint8_t *p = lane_control_begin(lane);

    tunnel_log_refusal(lane, 0, wanted, why);
    if (p != NULL)
        lane_control_end(lane, frame_put_goaway(FRAME_V1, p, &error));
    return reason;
}

static enum reason tunnel_bind_and_answer(struct lane *lane, uint16_t index, uint16_t wanted,
                                          uint16_t ticket, struct registry_tunnel *what)
{
    const char *why = NULL;
    enum reason reason = tunnel_bind_one(lane, index, wanted, ticket, what, &why);

    if (why == NULL)
        why = reason_text(reason);
    if (lane->session == NULL)
        return REASON_DONE; /* it has ended on the way */
    if (reason == REASON_DONE && what->port == 0) {
        tunnel_bind_later(lane->session, index, wanted, ticket, what);
        return REASON_DONE;
    }
    if (reason != REASON_DONE && lane->version == FRAME_V1)
        return tunnel_refuse_v1(lane, wanted, reason, why);
    uint8_t *p = lane_control_begin(lane);
    if (p == NULL)
        return REASON_LIMIT_BUFFERS;
    if (reason == REASON_DONE) {
        lane_control_end(lane, tunnel_put_bind_ok(lane, index, what->port, p));
    } else {
        struct frame_error error = { .tunnel = index,
                                     .code = reason_code(reason),
                                     .text = frame_text_of(why) };
        tunnel_log_refusal(lane, index, wanted, why);
        lane_control_end(lane, frame_put_bind_err(p, &error));
    }
    return REASON_DONE;
}

static void tunnel_bind_one_again(struct lane *lane, struct session_tunnel *tunnel, uint16_t index)
{
    struct registry_tunnel what = { .port = 0 };

    CHECK(tunnel->waits && !tunnel->bound);
    tunnel->waits = false;
    memcpy(what.name, tunnel->name, sizeof(what.name));
    memcpy(what.origin, tunnel->origin, sizeof(what.origin));
    enum reason reason = tunnel_bind_and_answer(lane, index, tunnel->wanted, tunnel->ticket, &what);
    if (reason != REASON_DONE)
        lane_finish(lane, reason, NULL);
}

/* By index: the order in which a client sends them. */
static void tunnel_bind_in_order(struct session *session, struct lane *lane)
{
    for (uint32_t i = 0; i < session->tunnel_count && lane->session == session && lane_takes(lane);
         i++) {
        if (!session->tunnels[i].waits)
            continue;
        tunnel_bind_one_again(lane, &session->tunnels[i], (uint16_t)i);
        if (session->tunnels[i].waits)
            return;
    }
}

static void tunnel_bind_again(struct session *session)
{
    struct lane *lane = lane_of_session(session, 0);

    if (lane != NULL)
        tunnel_bind_in_order(session, lane);
}

/* A new tunnel, while an earlier one waits. */
static bool tunnel_must_queue(const struct session *session, uint16_t index)
{
    if (index >= CONFIG_TUNNELS_MAX || session->tunnels[index].bound)
        return false;
    for (uint32_t i = 0; i < session->tunnel_count; i++)
        if (session->tunnels[i].waits)
            return !session->tunnels[index].waits;
    return false;
}

enum reason tunnel_bind(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    struct frame_bind bind;
    struct registry_tunnel what = { .port = 0 };

    if (!frame_get_bind(src, end, &bind) || bind.ticket.size > FRAME_TICKET_MAX ||
        lane->session == NULL)
        return REASON_BAD_FRAME;
    tunnel_text_copy(what.name, sizeof(what.name), bind.name);
    tunnel_text_copy(what.origin, sizeof(what.origin), bind.origin);
    uint16_t had = ticket_port(bind.ticket, lane->client, lane->client_size);
    if (tunnel_must_queue(lane->session, bind.tunnel)) {
        tunnel_bind_later(lane->session, bind.tunnel, bind.port, had, &what);
        return REASON_DONE;
    }
    return tunnel_bind_and_answer(lane, bind.tunnel, bind.port, had, &what);
}

enum reason tunnel_bind_v1(struct lane *lane)
{
    struct registry_tunnel what = { .port = 0 };
    return tunnel_bind_and_answer(lane, 0, 0, 0, &what);
}
