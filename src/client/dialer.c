/*
 * dialer: the lanes of the session, each on the worker it belongs to: made, and brought back.
 *
 * Lanes 1, 2, ... are dialled when the session is ready and say JOIN. A lane that is lost is
 * dialled again while the session lives, at once and then with growing pauses.
 *
 * A lane that can be resumed (lane 0, too) is only frozen when its connection is lost: the next
 * connection, `probe`, says JOIN with RESUME and the count of the lane, which must be final by then
 * (dialer_still), and JOIN_OK moves it under the lane. The same is done, beside the connection that
 * is there, when nothing comes back from the path (dialer_suspect): the old connection is given up
 * only when a new one is there to replace it. Where that helps nothing, the next one is left alone
 * for longer (lane_resume.c, "Patience").
 *
 * Times. A black hole gives no sign of its end, so connections are tried in quick succession, each
 * with little patience (a SYN that was lost is sent again by TCP after a second at the earliest);
 * every fourth one has more, for paths with long round trips. Where the path is there, TLS and JOIN
 * have their own, which grows. A refusal comes at once and is followed by a short pause. The grace
 * time of the lane ends all this. When a few tries have failed the server's name is looked up
 * again, and what it says now is tried in turn with what it said before.
 */
#include "client/client_state.h"
#include "client/lookup.h"
#include "client/outage.h"

#include "core/base/log.h"
#include "core/base/secret.h"
#include "core/io/sock.h"
#include "core/mux/demux.h"
#include "core/mux/lane.h"
#include "core/mux/lane_session.h"

#include <string.h>

#define RETRY_FIRST     (250 * NSEC_PER_MSEC)
#define RETRY_SHIFT_MAX 6u /* 16 s */

/* And as much again at random; more with each try that cost the server a handshake. */
#define RESUME_PAUSE (100 * NSEC_PER_MSEC)
/* Patience with a path, and with one of long round trips. */
#define RESUME_CONNECT (500 * NSEC_PER_MSEC)
#define RESUME_LONG    (2000 * NSEC_PER_MSEC)
/* Patience with TLS, and with JOIN; doubles with each try: a server may be in a storm of
 * clients. */
#define RESUME_ANSWER (3000 * NSEC_PER_MSEC)
#define ANSWER_SHIFT  3u

/* A resume that waited in vain for a path is tried again at once. One that was refused, or that
 * cost the server a handshake, after a pause. */
static void dialer_retry_later(struct client_lane *entry)
{
    struct worker *w = entry->worker;
    unsigned shift = min_u32(entry->failures, RETRY_SHIFT_MAX);
    uint64_t wait = RETRY_FIRST << shift;

    if (!entry->wanted || w->loop.phase != LOOP_RUNNING)
        return;
    if (entry->lane != NULL) {
        uint64_t most = RESUME_PAUSE << min_u32(entry->failures, ANSWER_SHIFT);
        bool in_vain = w->loop.now - entry->dialled >= RESUME_PAUSE && !entry->probe_shakes;
        wait = in_vain ? 0 : RESUME_PAUSE + jitter_draw(&client_of(w)->jitter, most);
    }
    entry->failures++;
    timer_set(&w->loop.timers, &entry->timer, w->loop.now + wait);
}

static const struct config_endpoint *dialer_server_of(const struct client_lane *entry)
{
    return &entry->worker->loop.config->servers[entry->ticket.server_index];
}

static void dialer_asked_again(struct worker *w, struct message *message)
{
    const struct resolve_result *result = message->pointer;
    struct client *client = client_of(w);

    client->asking = false;
    if (result->count > 0)
        client->again = *result;
}

static const struct message_type again_message = { "asked_again", dialer_asked_again };

/* Asks the name service again; one look-up at a time, since a dead one takes long. */
static void dialer_ask_again(struct client_lane *entry)
{
    struct client *client = client_of(entry->worker);
    struct resolve_result numeric;

    if (client->asking ||
        resolve_numeric(dialer_server_of(entry)->host, dialer_server_of(entry)->port, &numeric))
        return;
    client->asking = lookup_start(entry->worker, dialer_server_of(entry), &again_message, 0);
}

static const union sock_addr *dialer_pick_address(const struct client_lane *entry)
{
    const struct resolve_result *again = &client_of(entry->worker)->again;

    if (entry->lane == NULL || again->count == 0 || entry->failures % 2 == 0)
        return &entry->ticket.server;
    return &again->addr[entry->failures / 2 % again->count];
}

static void dialer_dial(struct client_lane *entry)
{
    struct worker *w = entry->worker;
    int error;

    CHECK(entry->probe == NULL);
    if (entry->lane != NULL && entry->failures % 8 == 3)
        dialer_ask_again(entry);
    entry->probe_up = entry->probe_shakes = false;
    entry->dialled = w->loop.now;
    entry->probe = client_connect(w, dialer_server_of(entry), dialer_pick_address(entry), &error);
    if (entry->probe == NULL) {
        outage_try(w, "client", reason_text(REASON_CONNECT_FAILED), strerror(error));
        dialer_retry_later(entry);
        return;
    }
    lane_set_index(entry->probe, entry->ticket.lane);
    lane_be_joining(entry->probe);
    if (entry->lane != NULL)
        timer_set(&w->loop.timers, &entry->timer,
                  w->loop.now + (entry->failures % 4 == 3 ? RESUME_LONG : RESUME_CONNECT));
}

/* The path is there. What a server in a storm of clients takes for TLS and JOIN is not its
 * fault. */
static void dialer_wait_for_answer(struct client_lane *entry)
{
    struct worker *w = entry->worker;

    entry->probe_shakes = true;
    timer_set(&w->loop.timers, &entry->timer,
              w->loop.now + (RESUME_ANSWER << min_u32(entry->failures, ANSWER_SHIFT)));
}

static void dialer_timer_fire(struct timer *timer)
{
    struct client_lane *entry = container_of(timer, struct client_lane, timer);
    struct lane *probe = entry->probe;

    if (probe == NULL)
        dialer_dial(entry);
    else if (probe->state == LANE_TLS && !entry->probe_up && !entry->probe_shakes)
        dialer_wait_for_answer(entry);
    else
        lane_close(probe, REASON_CONNECT_FAILED, "time-out"); /* dialer_closed goes on */
}

void dialer_init(struct client *client)
{
    for (unsigned i = 0; i < SESSION_LANES_MAX; i++) {
        client->lanes[i].worker = client->worker;
        timer_init(&client->lanes[i].timer, dialer_timer_fire);
    }
}

/* A JOIN that was given up must not arrive later, when another one has been answered: TCP would go
 * on to send it after a plain close. */
static void dialer_forget_join(struct lane *probe)
{
    if (probe->state == LANE_CLOSING && probe->conn.fd >= 0)
        sock_set_rst(probe->conn.fd);
}

static void dialer_drop_probe(struct client_lane *entry, enum reason reason)
{
    struct lane *probe = entry->probe;

    entry->probe = NULL;
    timer_stop(&entry->timer);
    if (probe == NULL)
        return;
    if (entry->probe_up) {
        lane_close(probe, reason, NULL);
        dialer_forget_join(probe);
    } else {
        lane_dismiss(probe, reason);
    }
}

void dialer_start(struct client *client, const struct join_ticket *ticket)
{
    struct client_lane *entry = &client->lanes[ticket->lane];
    struct lane *lane = entry->lane;

    CHECK(ticket->lane > 0 && ticket->lane < SESSION_LANES_MAX);
    entry->lane = NULL;
    if (lane != NULL)
        lane_close(lane, REASON_REPLACED, NULL);
    dialer_drop_probe(entry, REASON_REPLACED);
    entry->ticket = *ticket;
    entry->wanted = true;
    entry->failures = 0;
    dialer_dial(entry);
}

void dialer_keep(struct client *client, struct lane *lane, const struct join_ticket *ticket)
{
    struct client_lane *entry = &client->lanes[ticket->lane];

    entry->ticket = *ticket;
    if (!ticket->resumes)
        return;
    entry->wanted = true;
    entry->failures = 0;
    entry->lane = lane;
}

/* From here on it is a lane like the others, until the session ends. */
void dialer_loaded(struct lane *lane)
{
    struct client *client = client_at(lane->loop);
    struct join_ticket ticket = client->lanes[lane->index].ticket;

    if (lane->version != FRAME_V2 || ticket.spare == 0 || ticket.session != lane->session->id ||
        client->lanes[ticket.spare].wanted)
        return;
    ticket.lane = ticket.spare;
    ticket.spare = 0;
    dialer_start(client, &ticket);
}

static struct client_lane *dialer_entry_of(const struct lane *lane)
{
    return &client_at(lane->loop)->lanes[lane->index];
}

static void dialer_say_join(struct client_lane *entry)
{
    struct lane *probe = entry->probe, *lane = entry->lane;
    struct frame_join join = { .session = entry->ticket.session, .lane = entry->ticket.lane };
    struct scram_channel channel;

    if (lane != NULL) {
        join.flags = FRAME_JOIN_RESUME;
        join.rx_bytes = lane->rx_bytes;
    }
    conn_channel(&probe->conn, &channel);
    join.bound = channel.bound;
    scram_join(client_of(entry->worker)->secret, &channel, &join, join.proof);
    scram_join_ok(client_of(entry->worker)->secret, &channel, &join, entry->answer);
    lane_say_join(probe, &join);
}

void dialer_connected(struct lane *lane, int res)
{
    struct client_lane *entry = dialer_entry_of(lane);

    if (res < 0) {
        client_unconnected(lane, -res);
        return;
    }
    if (entry->probe != lane || !entry->wanted) {
        lane_close(lane, REASON_CONNECT_FAILED, NULL);
        return;
    }
    lane_set_version(lane, FRAME_V2);
    if (entry->lane == NULL && !lane_map_open(lane, STREAM_SLOTS_MAX)) {
        lane_close(lane, REASON_LIMIT_BUFFERS, NULL);
        return;
    }
    if (entry->lane != NULL)
        dialer_wait_for_answer(entry);
    client_hello(lane);
}

/* HELLO_OK: the server is there, and JOIN may be said as soon as the lane's own connection is
 * still. */
enum reason dialer_greeted(struct lane *lane)
{
    struct client_lane *entry = dialer_entry_of(lane);

    if (entry->probe != lane || !entry->wanted) {
        lane_dismiss(lane, REASON_SESSION_LOST);
        return REASON_DONE;
    }
    if (entry->lane == NULL) {
        const struct lane_terms terms = { .window = entry->ticket.peer_window,
                                          .max_data = entry->ticket.peer_max_data,
                                          .lanes = 1 };
        lane_agree(lane, &terms);
        dialer_say_join(entry);
        return REASON_DONE;
    }
    if (entry->lane->state == LANE_OPEN && entry->lane->conn.heard > entry->dialled) {
        log_at(LOG_INFO, lane_subject(entry->lane), "was only slow");
        dialer_drop_probe(entry, REASON_REPLACED);
        entry->failures = 0;
        return REASON_DONE;
    }
    entry->probe_up = true;
    if (entry->lane->state == LANE_OPEN)
        lane_lost(entry->lane, REASON_HEARTBEAT_MISSED, "nothing comes back");
    else if (lane_is_still(entry->lane))
        dialer_say_join(entry);
    return REASON_DONE;
}

void dialer_still(struct lane *lane)
{
    struct client_lane *entry = dialer_entry_of(lane);

    if (entry->lane == lane && entry->probe != NULL && entry->probe_up)
        dialer_say_join(entry);
}

void dialer_frozen(struct lane *lane, const char *text)
{
    struct client_lane *entry = dialer_entry_of(lane);

    if (entry->lane == lane && entry->wanted)
        outage_lost(lane, reason_text((enum reason)lane->reason), text);
    if (entry->lane != lane || !entry->wanted) {
        lane_close(lane, (enum reason)lane->reason, NULL); /* the session was not ready yet */
        return;
    }
    if (entry->probe != NULL)
        return;
    entry->failures = 0;
    timer_stop(&entry->timer);
    dialer_dial(entry);
}

void dialer_suspect(struct lane *lane)
{
    struct client_lane *entry = dialer_entry_of(lane);

    if (entry->lane != lane || entry->probe != NULL || timer_is_set(&entry->timer) ||
        !entry->wanted)
        return;
    outage_suspect(lane);
    dialer_dial(entry);
}

/* Once for as long as it lasts: one such connection may be chance. */
#define VAIN_TOLD 2u

static void dialer_say_vain(const struct lane *lane)
{
    if (lane->vain == VAIN_TOLD)
        log_at(LOG_WARN, lane_subject(lane),
               "connections can be made, but what is sent through them does not arrive: are large "
               "packets lost on the path (an MTU problem)? Waiting longer with each");
}

/* JOIN_OK for a lane that comes back. */
static enum reason dialer_resumed(struct client_lane *entry, struct lane *probe, uint64_t count)
{
    struct lane *lane = entry->lane;

    if (!lane_is_still(lane))
        return REASON_BAD_STATE; /* an answer without a question */
    if (!conn_tx_done(&probe->conn)) {
        lane_close(probe, REASON_CONNECT_FAILED, "something is still to be sent through it");
        return REASON_DONE;
    }
    entry->probe = NULL;
    entry->failures = 0;
    entry->ticket.server = probe->conn.peer;
    timer_stop(&entry->timer);
    bool good = demux_resume(lane, probe, count);
    lane_close(probe, REASON_DONE, NULL);
    if (good) {
        outage_back(lane);
        dialer_say_vain(lane);
    } else {
        lane_close(lane, REASON_BAD_FRAME, "the server's count of bytes cannot be");
    }
    return REASON_DONE;
}

/* JOIN_OK: the lane belongs to the session's part on this worker, which is made with the first one.
 * A session that has ended meanwhile gets no part: nothing would end it again. */
enum reason dialer_joined(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    struct worker *w = worker_of(lane->loop);
    struct client_lane *entry = dialer_entry_of(lane);
    struct frame_join_ok ok;

    if (!frame_get_join_ok(src, end, &ok) || ok.lane != lane->index)
        return REASON_BAD_FRAME;
    if (entry->lane == NULL && ok.rx_bytes != 0) /* nothing of a new lane was sent yet */
        return REASON_BAD_FRAME;
    if (entry->probe != lane || !entry->wanted) {
        lane_dismiss(lane, REASON_SESSION_LOST);
        return REASON_DONE;
    }
    if (!scram_equal(ok.proof, entry->answer, sizeof(ok.proof)))
        return REASON_SERVER_UNPROVEN;
    if (entry->lane != NULL)
        return dialer_resumed(entry, lane, ok.rx_bytes);
    entry->lane = lane;
    entry->probe = NULL;
    entry->failures = 0;
    lane_joined(lane);
    struct session *session = session_find(&w->sessions, entry->ticket.session);
    if (session == NULL) {
        session = session_open(&w->sessions, entry->ticket.session, FRAME_V2, client_share(w));
        CHECK(session != NULL); /* one session at a time, four slots */
    }
    for (unsigned i = 0; i < w->loop.config->tunnel_count && !client_leads(w); i++)
        (void)bind_fill(session, i);
    lane_attach(lane, session);
    if (entry->ticket.resumes)
        lane_log_open(lane);
    conn_answered(&lane->conn);
    lane_set_fsm(lane, SESSION_FORWARDING);
    lane_start_heartbeat(lane);
    outage_back(lane);
    return REASON_DONE;
}

/* GOAWAY in answer to JOIN: a lane that the server does not hold any more is over. */
void dialer_refused(struct lane *lane, enum reason reason)
{
    struct client_lane *entry = dialer_entry_of(lane);

    if (entry->probe == lane && entry->lane != NULL &&
        (reason == REASON_UNKNOWN_SESSION || reason == REASON_LANE_GONE))
        lane_close(entry->lane, REASON_SESSION_LOST, reason_text(reason));
}

bool dialer_is_probe(const struct client *client, const struct lane *lane)
{
    return client->lanes[lane->index].probe == lane;
}

/* A probe beside a lane that is only suspect may fail as often as it will. */
bool dialer_is_needed(const struct client *client, const struct lane *lane)
{
    const struct client_lane *entry = &client->lanes[lane->index];

    return entry->lane == NULL || entry->lane->state == LANE_FROZEN;
}

void dialer_closed(struct client *client, struct lane *lane)
{
    struct client_lane *entry = &client->lanes[lane->index];

    if (entry->probe == lane) {
        entry->probe = NULL;
        timer_stop(&entry->timer);
        dialer_forget_join(lane);
        if (entry->lane == NULL || entry->lane->state == LANE_FROZEN)
            dialer_retry_later(entry);
        else
            entry->failures++; /* a suspect lane asks again when it is still suspect */
    } else if (entry->lane == lane) {
        entry->lane = NULL;
        dialer_drop_probe(entry, REASON_SESSION_LOST);
        if (!entry->wanted || lane->index == 0 || client->worker->loop.phase != LOOP_RUNNING)
            return; /* client.c begins a new session */
        if (client->worker->loop.now - entry->dialled < RETRY_FIRST)
            dialer_retry_later(entry); /* it did not live long */
        else
            dialer_dial(entry);
    }
}

void dialer_hurry(struct client *client)
{
    for (unsigned i = 0; i < SESSION_LANES_MAX; i++) {
        struct client_lane *entry = &client->lanes[i];

        if (entry->wanted && entry->probe == NULL && timer_is_set(&entry->timer))
            timer_set(&client->worker->loop.timers, &entry->timer, client->worker->loop.now);
    }
}

void dialer_stop(struct client *client)
{
    client->again.count = 0;
    for (unsigned i = 0; i < SESSION_LANES_MAX; i++) {
        struct client_lane *entry = &client->lanes[i];

        entry->wanted = false;
        dialer_drop_probe(entry, REASON_SESSION_LOST);
    }
    explicit_bzero(client->secret, SCRAM_KEY_SIZE);
}
