/*
 * bind: the tunnels of the session: asked for, ready, and asked for again.
 *
 * All BINDs go out with the log-in. When each has its answer the session is settled: the other
 * lanes are dialled, or it ends at once if no tunnel came of it, as a try that failed. A tunnel
 * that is refused while others are ready (its port is in use, as a rule by one's own session that
 * is not over yet) is asked for again while the session lives, after 1, 2, 4, ... and at last every
 * 30 s. What comes of a refusal is known when the session is settled: then it is logged, once until
 * the server says something else; `ready:` says when the tunnel comes, and what was never ready
 * stands in the summary and in the exit code. Whatever the refusal says: what is forbidden today a
 * server's operator may allow tomorrow, and one small frame every half minute is cheaper than a
 * list of what may change.
 *
 * v1 has one tunnel, which is bound without a word.
 */
#include "client/client_state.h"

#include "core/base/exit_code.h"
#include "core/base/log.h"
#include "core/io/addr.h"
#include "core/mux/lane.h"
#include "core/run/summary.h"

#include <stdio.h>
#include <string.h>

#define PAUSE_FIRST     NSEC_PER_SEC
#define PAUSE_MAX       (30 * NSEC_PER_SEC)
#define PAUSE_SHIFT_MAX 5u
CHECK_STATIC(PAUSE_FIRST << PAUSE_SHIFT_MAX >= PAUSE_MAX, "pauses grow up to the longest");
CHECK_STATIC(CONFIG_TUNNELS_MAX < 32, "a bit for each tunnel");

static uint32_t bind_bit(unsigned tunnel)
{
    return 1u << tunnel;
}

static void bind_timer_fire(struct timer *timer);

void bind_init(struct client *client)
{
    timer_init(&client->binding.timer, bind_timer_fire);
}

void bind_reset(struct client *client)
{
    struct client_binding *b = &client->binding;

    timer_stop(&b->timer);
    b->asked = b->ready = 0;
    b->settled = false;
    for (unsigned i = 0; i < CONFIG_TUNNELS_MAX; i++)
        b->tunnels[i].refusals = 0;
}

/* Asking */

static bool bind_say(struct lane *lane, unsigned index)
{
    struct client_binding *b = &client_at(lane->loop)->binding;
    const struct config_tunnel *tunnel = &lane->loop->config->tunnels[index];
    const struct client_ticket *ticket = &b->tunnels[index].ticket;
    char origin[ADDR_ENDPOINT_TEXT_MAX];
    uint8_t *p = lane_control_begin(lane);
    struct frame_bind bind = { .tunnel = (uint16_t)index,
                               .port = tunnel->port,
                               .name = frame_text_of(tunnel->name) };

    bind.ticket = (struct frame_text){ .data = (const char *)ticket->data, .size = ticket->size };
    if (p == NULL)
        return false;
    addr_format_endpoint(&tunnel->origin, origin, sizeof(origin));
    bind.origin = frame_text_of(origin);
    lane_control_end(lane, frame_put_bind(p, &bind));
    b->asked |= bind_bit(index);
    return true;
}

bool bind_say_all(struct client *client, struct lane *lane)
{
    bool said = true;

    if (lane->version == FRAME_V1)
        client->binding.asked = bind_bit(0);
    for (unsigned i = 0; lane->version != FRAME_V1 && i < lane->loop->config->tunnel_count; i++)
        said = said && bind_say(lane, i);
    return said;
}

static bool bind_may_ask(const struct client *client)
{
    const struct lane *lane = client->primary;

    return lane != NULL && lane_takes(lane) && lane->fsm == SESSION_FORWARDING &&
           !lane->goaway_heard && !lane->goaway_sent && client->worker->loop.phase == LOOP_RUNNING;
}

/* A lane without room has much to say: a little later. */
static void bind_timer_fire(struct timer *timer)
{
    struct client *client = container_of(timer, struct client, binding.timer);
    struct worker *w = client->worker;
    uint64_t next = UINT64_MAX;

    if (!bind_may_ask(client)) { /* the first answers are still to come, or it is over */
        if (client->primary != NULL && w->loop.phase == LOOP_RUNNING)
            timer_set(&w->loop.timers, timer, w->loop.now + PAUSE_FIRST);
        return;
    }
    for (unsigned i = 0; i < w->loop.config->tunnel_count; i++) {
        struct client_bind *tunnel = &client->binding.tunnels[i];
        bool waits = tunnel->refusals > 0 && (client->binding.asked & bind_bit(i)) == 0;

        if (!waits)
            continue;
        if (tunnel->due <= w->loop.now && bind_say(client->primary, i))
            continue;
        tunnel->due = max_u64(tunnel->due, w->loop.now + TIMER_TICK_NS);
        next = min_u64(next, tunnel->due);
    }
    if (next != UINT64_MAX)
        timer_set(&w->loop.timers, timer, next);
}

static void bind_later(struct client *client, struct client_bind *tunnel)
{
    struct worker *w = client->worker;
    struct timer *timer = &client->binding.timer;
    uint64_t pause = PAUSE_FIRST << min_u32(tunnel->refusals, PAUSE_SHIFT_MAX);

    tunnel->refusals++;
    tunnel->due = w->loop.now + min_u64(pause, PAUSE_MAX);
    if (!timer_is_set(timer) || timer->due > tunnel->due)
        timer_set(&w->loop.timers, timer, tunnel->due);
}

/* Answers */

/* Every BIND gets one answer. False: this one has no question. */
static bool bind_note_answer(struct client *client, uint16_t tunnel)
{
    if (tunnel >= CONFIG_TUNNELS_MAX || (client->binding.asked & bind_bit(tunnel)) == 0)
        return false;
    client->binding.asked &= ~bind_bit(tunnel);
    return true;
}

static void bind_settle(struct client *client, struct lane *lane)
{
    struct client_binding *b = &client->binding;

    if (b->settled || b->asked != 0)
        return;
    b->settled = true;
    client_settled(client, lane);
}

/* What a server says goes to a terminal and to programs that read it: a host is an address or a
 * name, or it is not taken. */
static bool bind_is_host(const char *text, size_t size)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:_-%";

    for (size_t i = 0; i < size; i++)
        if (text[i] == '\0' || strchr(set, text[i]) == NULL)
            return false;
    return size > 0;
}

struct session_tunnel *bind_fill(struct session *session, unsigned index)
{
    const struct config_tunnel *wanted = &session->loop->config->tunnels[index];
    struct session_tunnel *tunnel = session_tunnel_place(session, index);

    tunnel->bound = true;
    tunnel->index = (uint16_t)index;
    snprintf(tunnel->name, sizeof(tunnel->name), "%s", wanted->name);
    addr_format_endpoint(&wanted->origin, tunnel->origin, sizeof(tunnel->origin));
    return tunnel;
}

struct session_tunnel *bind_tunnel(struct lane *lane, uint16_t index)
{
    const struct client_binding *b = &client_at(lane->loop)->binding;
    struct session_tunnel *tunnel = session_tunnel(lane->session, index);

    if (tunnel == NULL && index < CONFIG_TUNNELS_MAX && b->settled &&
        (b->asked & bind_bit(index)) != 0)
        tunnel = bind_fill(lane->session, index);
    return tunnel;
}

static void bind_ready(struct client *client, struct lane *lane, const struct frame_bind_ok *ok)
{
    struct session_tunnel *tunnel = bind_fill(lane->session, ok->tunnel);
    struct config_endpoint public_end = *client_server(client);
    unsigned asked = client->worker->loop.config->tunnels[ok->tunnel].port;
    char public_text[ADDR_ENDPOINT_TEXT_MAX];

    tunnel->port = ok->port;
    public_end.port = ok->port;
    if (bind_is_host(ok->host.data, ok->host.size) && ok->host.size < sizeof(public_end.host)) {
        memcpy(public_end.host, ok->host.data, ok->host.size);
        public_end.host[ok->host.size] = '\0';
    }
    addr_format_endpoint(&public_end, public_text, sizeof(public_text));
    log_out("ready: tcp://%s -> %s", public_text, tunnel->origin);
    if (lane->version == FRAME_V1 && asked != 0 && asked != ok->port)
        log_at(LOG_WARN, "client",
               "port %u was asked for, but with the v1 wire the server chooses: leave --port out, "
               "or use v2",
               asked);
    client->binding.ready |= bind_bit(ok->tunnel);
    client->binding.ever |= bind_bit(ok->tunnel);
}

enum reason bind_rx_ok(struct client *client, struct lane *lane, const uint8_t *src,
                       const uint8_t *end)
{
    struct frame_bind_ok ok = { .tunnel = 0 };

    if (!frame_get_bind_ok(lane->version, src, end, &ok) || ok.port == 0 ||
        ok.ticket.size > FRAME_TICKET_MAX || !bind_note_answer(client, ok.tunnel))
        return REASON_BAD_FRAME;
    if (lane->fsm != SESSION_FORWARDING) {
        lane_set_fsm(lane, SESSION_FORWARDING);
        lane_start_heartbeat(lane);
    }
    struct client_bind *tunnel = &client->binding.tunnels[ok.tunnel];
    tunnel->refusals = 0;
    tunnel->said[0] = '\0';
    tunnel->ticket.size = ok.ticket.size;
    memcpy(tunnel->ticket.data, ok.ticket.data, ok.ticket.size);
    bind_ready(client, lane, &ok);
    bind_settle(client, lane);
    return REASON_DONE;
}

void bind_tell(struct client *client)
{
    const struct config *config = client->worker->loop.config;
    const char *next = client->binding.ready == 0
                           ? ""
                           : "; it is asked for again, after 1 s and then less and less often, at "
                             "least every 30 s";

    for (unsigned i = 0; i < config->tunnel_count; i++) {
        struct client_bind *tunnel = &client->binding.tunnels[i];

        if (tunnel->refusals > 0 && !tunnel->told)
            log_at(LOG_ERROR, "client", "tunnel %u, port %u: %s%s", i, config->tunnels[i].port,
                   tunnel->said, next);
        tunnel->told = tunnel->refusals > 0;
    }
}

static void bind_note_refusal(struct client_bind *tunnel, const struct frame_error *error)
{
    char before[sizeof(tunnel->said)];

    memcpy(before, tunnel->said, sizeof(before));
    snprintf(tunnel->said, sizeof(tunnel->said), "%.*s", (int)error->text.size, error->text.data);
    tunnel->why = reason_from_code(error->code);
    tunnel->told = tunnel->told && strcmp(before, tunnel->said) == 0;
}

enum reason bind_rx_err(struct client *client, struct lane *lane, const uint8_t *src,
                        const uint8_t *end)
{
    struct frame_error error;

    if (!frame_get_bind_err(src, end, &error) || !bind_note_answer(client, error.tunnel))
        return REASON_BAD_FRAME;
    struct client_bind *tunnel = &client->binding.tunnels[error.tunnel];
    bind_note_refusal(tunnel, &error);
    bind_later(client, tunnel);
    if (client->binding.settled)
        bind_tell(client);
    else
        bind_settle(client, lane);
    return REASON_DONE;
}

/* The end */

static const char *bind_why_not(const struct client *client, unsigned index)
{
    const struct client_bind *tunnel = &client->binding.tunnels[index];

    if (tunnel->why != REASON_DONE)
        return reason_text(tunnel->why);
    return client->was_ready ? "a v1 server has one tunnel" : "there was no session";
}

/* The server was there, be it that it gave no tunnel at all. */
static bool bind_was_asked(const struct client *client)
{
    bool refused = false;

    for (unsigned i = 0; i < CONFIG_TUNNELS_MAX; i++)
        refused |= client->binding.tunnels[i].why != REASON_DONE;
    return refused || client->was_ready;
}

void bind_report(struct client *client)
{
    struct worker *w = client->worker;
    char origin[ADDR_ENDPOINT_TEXT_MAX];
    bool missing = false;

    for (unsigned i = 0; i < w->loop.config->tunnel_count; i++) {
        const struct config_tunnel *tunnel = &w->loop.config->tunnels[i];

        if ((client->binding.ever & bind_bit(i)) != 0)
            continue;
        missing = true;
        addr_format_endpoint(&tunnel->origin, origin, sizeof(origin));
        summary_missing(i, tunnel->port, origin, bind_why_not(client, i));
    }
    if (missing && bind_was_asked(client) &&
        (w->exit_code == EXIT_CODE_OK || w->exit_code == EXIT_CODE_FAILED))
        w->exit_code = EXIT_CODE_TUNNEL_MISSING;
}
