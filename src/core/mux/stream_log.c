/* stream_log: see stream_log.h. */
#include "core/mux/stream_log.h"

#include "core/base/base.h"
#include "core/base/log.h"
#include "core/io/addr.h"
#include "core/mux/lane.h"
#include "core/mux/session.h"
#include "core/mux/stream.h"

#include <stdio.h>
#include <string.h>

struct visitor_line {
    const union sock_addr *visitor;
    const struct session_tunnel *tunnel; /* NULL: not known any more */
    uint16_t port;                       /* 0: not known */
    uint64_t session;                    /* 0: the same */
    uint64_t up, down, ns;
    enum reason reason;
    const char *by;
    const char *origin; /* NULL: a server, which does not say it */
};

static const char *stream_log_number_or_none(uint64_t number, char text[24])
{
    snprintf(text, 24, "%llu", (unsigned long long)number);
    return number != 0 ? text : "-";
}

static const char *stream_log_address_or_none(const union sock_addr *addr, char text[ADDR_TEXT_MAX])
{
    if (addr->sa.sa_family != AF_INET && addr->sa.sa_family != AF_INET6)
        return "-";
    return addr_format(&addr->sa, text, ADDR_TEXT_MAX);
}

static void stream_log_say(const struct visitor_line *l)
{
    char name[sizeof(l->tunnel->name)] = "-", from[ADDR_TEXT_MAX], port[24], session[24];

    if (l->tunnel != NULL)
        session_tunnel_name(l->tunnel, "-", name, sizeof(name));
    log_record("visitor",
               "from=%s tunnel=%s port=%s session=%s up=%llu down=%llu ms=%llu reason=%s "
               "by=%s%s%s",
               stream_log_address_or_none(l->visitor, from), name,
               stream_log_number_or_none(l->port, port),
               stream_log_number_or_none(l->session, session), (unsigned long long)l->up,
               (unsigned long long)l->down, (unsigned long long)(l->ns / NSEC_PER_MSEC),
               reason_name(l->reason), l->by, l->origin != NULL ? " origin=" : "",
               l->origin != NULL ? l->origin : "");
}

/* Which of the two local peers has reset: the stream's own, or the one behind the far end. */
static bool stream_log_reset_here(const struct stream *s, bool tell)
{
    unsigned here = STREAM_UP_RST | STREAM_DOWN_DEAD;

    return (s->ends & STREAM_DOWN_RST) == 0 && (tell || (s->ends & here) != 0);
}

static const char *stream_log_ended_by(const struct stream *s, enum reason reason, bool tell)
{
    bool server = s->table->role->opens_streams;

    if (reason == REASON_DONE)
        return "both";
    if (reason == REASON_PEER_RESET)
        return stream_log_reset_here(s, tell) == server ? "visitor" : "origin";
    return reason >= REASON_ORIGIN_REFUSED && reason <= REASON_ORIGIN_TIMEOUT ? "origin" : "-";
}

/* A stream that has outlived its lane has no tunnel any more (stream.h). */
static uint16_t stream_log_port_of(const struct stream *s)
{
    union sock_addr local;

    if (s->tunnel != NULL)
        return s->tunnel->port;
    if (!s->table->role->opens_streams || s->fd < 0)
        return 0;
    sock_local(s->fd, &local);
    return sock_addr_port(&local);
}

static const char *stream_log_origin_of(const struct stream *s, char text[ADDR_TEXT_MAX])
{
    union sock_addr peer;

    if (s->table->role->opens_streams)
        return NULL;
    if (s->tunnel != NULL)
        return s->tunnel->origin;
    return s->fd >= 0 && sock_peer(s->fd, &peer) ? stream_log_address_or_none(&peer, text) : "-";
}

void stream_log_end(const struct stream *s, enum reason reason, bool tell)
{
    struct stream_moved moved = stream_moved(s);
    char origin[ADDR_TEXT_MAX];
    const struct visitor_line line = { .visitor = &s->visitor,
                                       .tunnel = s->tunnel,
                                       .port = stream_log_port_of(s),
                                       .session = s->lane != NULL && s->lane->session != NULL
                                                      ? s->lane->session->id
                                                      : 0,
                                       .up = moved.up,
                                       .down = moved.down,
                                       .ns = s->loop->now - s->opened,
                                       .reason = reason,
                                       .by = stream_log_ended_by(s, reason, tell),
                                       .origin = stream_log_origin_of(s, origin) };

    stream_log_say(&line);
}

void stream_log_refused(const struct stream_table *table, uint64_t session,
                        const struct session_tunnel *tunnel, uint16_t port,
                        const union sock_addr *visitor, enum reason reason)
{
    bool server = table->role->opens_streams;
    const struct visitor_line line = { .visitor = visitor,
                                       .tunnel = tunnel,
                                       .port = port,
                                       .session = session,
                                       .reason = reason,
                                       .by = "-",
                                       .origin = server           ? NULL
                                                 : tunnel != NULL ? tunnel->origin
                                                                  : "-" };

    if (table->loop->config->log_visitors)
        stream_log_say(&line);
}
