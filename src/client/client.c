/*
 * client: logs in at the server, keeps the session, dials again when it is lost.
 *
 * Worker 0 does all of this on lane 0. On v2 it says HELLO, and behind the server's nonce AUTH and
 * every BIND in one go, so that a session is ready two round trips after the connection; on v1 it
 * goes step by step, as that wire wants. When all binds are answered (bind.c), the other lanes are
 * dialled by their workers.
 *
 * The token stays here on v2: what crosses the network are proofs (core/mux/scram.h), and the
 * server has to prove itself before it is given a visitor.
 *
 * The wire is chosen by trying: v2 first; a server that ends the connection without a single frame
 * is taken for a v1 server and dialled again, at once, with v1 (unless --wire says otherwise). The
 * next try after a v1 failure of the same kind is v2 again. v1 shows the token itself: on a plain
 * connection that somebody may read, `auto` does not do that, because whoever can cut a connection
 * could ask for it.
 *
 * A server that is not to be trusted ends the client that has had no session yet, but for dates
 * that are wrong: a machine that has just started may not know the time, and tries again by the
 * schedule.
 *
 * A lane that can be resumed is brought back by dialer.c, and nothing is lost. When a session is
 * over that was ready (every BIND had its answer, and one of them a port), a new one is tried at
 * once, and for QUICK_NS in quick succession: most servers that go away are restarted, or the path
 * blinked. Then comes the seed's schedule: 1, 2, 4, 8, 16, 30 s, each with jitter (half of it
 * fixed, half random, so that many clients do not come back in step), ten attempts. Within one
 * attempt every --server is tried in turn, and its addresses as race.c does. A session that became
 * ready resets the schedule; one that lived shortly does not earn the quick tries again.
 */
#include "client/client.h"

#include "client/client_state.h"
#include "client/identity.h"
#include "client/lookup.h"
#include "client/outage.h"
#include "client/trust.h"
#include "core/base/cure.h"
#include "core/base/exit_code.h"
#include "core/base/log.h"
#include "core/base/secret.h"
#include "core/base/token.h"
#include "core/io/addr.h"
#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/mux/lane_session.h"
#include "core/mux/session.h"
#include "core/mux/stream.h"
#include "core/run/summary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define V1_MAP_SIZE 65536u
#define AGENT       "culvert"

/* After a session that lived for some time. */
#define QUICK_NS    (10 * NSEC_PER_SEC)
#define QUICK_PAUSE (100 * NSEC_PER_MSEC) /* and as much again at random */
#define LIVED_NS    (5 * NSEC_PER_SEC)
/* A first attempt of which there was nothing to say for so long. */
#define SLOW_NS NSEC_PER_SEC

static void client_retry_fire(struct timer *timer);
static void client_slow_fire(struct timer *timer);

/* Of the token, in secret memory. Made by client_prepare, read-only while workers run. */
static struct scram_keys *keys;
static const char *weakness; /* of the token (core/base/token.h) */

/* Start and end */

/* The pause before the next attempt ends now. */
static void client_hurry(struct client *client)
{
    if (!timer_is_set(&client->retry))
        return;
    if (client->attempt > 0)
        client->attempt--; /* an attempt that the operator did not count on */
    timer_set(&client->worker->loop.timers, &client->retry, client->worker->loop.now);
}

static void client_network_changed(struct worker *w, struct message *message)
{
    struct client *client = client_of(w);

    (void)message;
    client_hurry(client);
    dialer_hurry(client);
    netwatch_look(w);
}

static const struct message_type network_message = { "network", client_network_changed };

static int client_start(struct worker *w)
{
    struct client *client = calloc(1, sizeof(*client));

    if (client != NULL)
        client->secret = secret_alloc(SCRAM_KEY_SIZE);
    if (client == NULL || client->secret == NULL) {
        log_at(LOG_ERROR, "client", "out of memory");
        free(client);
        return EXIT_CODE_CANNOT_START;
    }
    client->worker = w;
    client->wire = w->loop.config->wire == CONFIG_WIRE_V1 ? FRAME_V1 : FRAME_V2;
    timer_init(&client->retry, client_retry_fire);
    timer_init(&client->slow, client_slow_fire);
    bind_init(client);
    race_init(client);
    w->role_state = client;
    jitter_init(&client->jitter, w->loop.now);
    dialer_init(client);
    netwatch_open(client, &network_message);
    origin_init(client);
    if (client_leads(w)) {
        timer_set(&w->loop.timers, &client->slow, w->loop.now + SLOW_NS);
        client_dial(client);
    }
    return EXIT_CODE_OK;
}

/* In order: servers are still to get an alert, GOAWAY, or close_notify, by which they know that
 * nothing is missing. */
void client_exit(struct worker *w, int code)
{
    w->exit_code = code;
    worker_post_others(w, &worker_message_stop, 0, WORKER_STOP_DRAINED);
    worker_stop(w, WORKER_STOP_DRAINED);
}

/* Dialling lane 0 */

const struct config_endpoint *client_server(const struct client *client)
{
    return &client->worker->loop.config->servers[client->server_index];
}

/* 1, 2, 4, ... of the schedule: half fixed, half random. */
static uint64_t client_backoff(struct client *client)
{
    const struct config *config = client->worker->loop.config;
    uint64_t wait = config->reconnect_first;

    for (unsigned i = 1; i < client->attempt && wait < config->reconnect_max; i++)
        wait *= 2;
    wait = min_u64(wait, config->reconnect_max);
    return wait / 2 + jitter_draw(&client->jitter, wait / 2 + 1);
}

/* The next attempt begins with the first server, and asks for its addresses. */
static void client_begin_with_first(struct client *client)
{
    client->refused = false;
    client->server_index = 0;
    client->servers.count = 0;
}

static void client_say_attempt(const struct client *client, uint64_t wait)
{
    const struct config *config = client->worker->loop.config;
    char next[64];

    if (config->reconnect_attempts == CONFIG_FOREVER)
        snprintf(next, sizeof(next), "attempt %u in %.1f s", client->attempt, (double)wait / 1e9);
    else
        snprintf(next, sizeof(next), "attempt %u of %u in %.1f s", client->attempt,
                 config->reconnect_attempts, (double)wait / 1e9);
    if (client->attempt == 1 && !client->was_ready)
        log_at(LOG_INFO, "client", "trying again: %s", next);
    else
        outage_goes_on(client->worker, next);
}

/* Of a client that tries no more. */
static int client_failed_code(const struct client *client)
{
    if (client->refused)
        return EXIT_CODE_TUNNEL_MISSING;
    return client->was_ready && !client->worker->loop.config->reconnect ? EXIT_CODE_FAILED
                                                                        : EXIT_CODE_GAVE_UP;
}

/* With what failed last, unless that is said already: by each tunnel, or with the session's end. */
static void client_say_end(int code, const char *text)
{
    char last[OUTAGE_TEXT];

    if (code != EXIT_CODE_TUNNEL_MISSING && outage_last(last, sizeof(last)))
        log_at(LOG_ERROR, "client", "%s; what failed last: %s", text, last);
    else
        log_at(LOG_ERROR, "client", "%s", text);
}

/* All servers and addresses of this attempt have failed: wait and try again, or end. */
static void client_attempt_failed(struct client *client)
{
    struct worker *w = client->worker;
    const struct config *config = w->loop.config;
    int code = client_failed_code(client);
    char text[96];

    if (w->loop.phase != LOOP_RUNNING)
        return;
    if (!config->reconnect) {
        client_say_end(code, "there is no other attempt, because of --no-reconnect");
        client_exit(w, code);
        return;
    }
    client_begin_with_first(client);
    outage_session_lost(w);
    if (client->lost_at != 0 && w->loop.now - client->lost_at < QUICK_NS && client->attempt == 0) {
        outage_goes_on(w, "trying again at once");
        timer_set(&w->loop.timers, &client->retry,
                  w->loop.now + QUICK_PAUSE + jitter_draw(&client->jitter, QUICK_PAUSE));
        return;
    }
    if (client->attempt >= config->reconnect_attempts) {
        snprintf(text, sizeof(text),
                 "gave up after %u attempts: --reconnect-attempts forever goes on",
                 client->attempt);
        client_say_end(code, text);
        client_exit(w, code);
        return;
    }
    client->attempt++;
    uint64_t wait = client_backoff(client);
    client_say_attempt(client, wait);
    timer_set(&w->loop.timers, &client->retry, w->loop.now + wait);
}

/* A session is over that was ready. */
static void client_session_lost(struct client *client)
{
    struct worker *w = client->worker;

    if (!w->loop.config->reconnect || w->loop.phase != LOOP_RUNNING ||
        (client->lost_at != 0 && w->loop.now - client->ready_at < LIVED_NS)) {
        client_attempt_failed(client);
        return;
    }
    client->lost_at = w->loop.now;
    client_begin_with_first(client);
    outage_session_lost(w);
    timer_set(&w->loop.timers, &client->retry, w->loop.now);
}

static void client_retry_fire(struct timer *timer)
{
    client_dial(container_of(timer, struct client, retry));
}

/* A wire that was tried for one address says nothing of the next one, nor of a server that went
 * away before it answered. */
void client_forget_wire(struct client *client)
{
    if (client->worker->loop.config->wire == CONFIG_WIRE_AUTO && !client->was_ready)
        client->wire = FRAME_V2;
}

void client_server_failed(struct client *client)
{
    client_forget_wire(client);
    client->servers.count = 0;
    client->server_index++;
    if (client->server_index < client->worker->loop.config->server_count)
        client_dial(client);
    else
        client_attempt_failed(client);
}

/* No session came of the address that was up. */
static void client_next_address(struct client *client)
{
    client_forget_wire(client);
    client->heard = false;
    race_resume(client);
}

struct lane *client_connect(struct worker *w, const struct config_endpoint *server,
                            const union sock_addr *addr, int *error)
{
    struct crypt *crypt = NULL;
    struct lane *lane = NULL;

    bool tls = trust_wants_tls(w->loop.config, server), elsewhere = !sock_addr_is_loopback(addr);
    const char *cure = w->loop.config->tls == CONFIG_AUTO && !tls
                           ? "without TLS; give --tls, or --plain"
                       : weakness != NULL ? "with a weak token; " TOKEN_CURE
                                          : NULL;

    if (elsewhere && cure != NULL) {
        log_at(LOG_WARN, "client",
               "%s is the name of this machine, but leads to another address: it is not dialled %s",
               server->host, cure);
        *error = EPERM;
        return NULL;
    }
    *error = ENOMEM; /* all that trust_crypt can lack */
    if (!tls || (crypt = trust_crypt(server)) != NULL)
        lane = lane_dial(&w->lanes, addr, crypt, error);
    if (lane == NULL)
        crypt_close(crypt);
    CHECK(lane != NULL || *error != 0);
    return lane;
}

static void client_server_resolved(struct worker *w, struct message *message);

static const struct message_type server_message = { "server_resolved", client_server_resolved };

void client_dial(struct client *client)
{
    struct worker *w = client->worker;
    const struct config_endpoint *endpoint = client_server(client);

    CHECK(client->primary == NULL);
    client->heard = false;
    bind_reset(client);
    if (client->servers.count > 0) { /* what is known of it is a try old: the other wire */
        race_again(client);
        return;
    }
    if (resolve_numeric(endpoint->host, endpoint->port, &client->servers)) {
        race_begin(client);
    } else if (!lookup_start(w, endpoint, &server_message, 0)) {
        log_at(LOG_WARN, "client", "cannot look up %s: no memory or no thread for it",
               endpoint->host);
        client_server_failed(client);
    } /* otherwise client_server_resolved goes on */
}

/* Once, before the first session: a human waits, and sees nothing. */
static void client_slow_fire(struct timer *timer)
{
    const struct client *client = container_of(timer, struct client, slow);
    const struct config *config = client->worker->loop.config;
    const struct lane *lane = client->primary;
    char name[ADDR_ENDPOINT_TEXT_MAX];

    addr_format_endpoint(client_server(client), name, sizeof(name));
    if (timer_is_set(&client->retry) || (lane != NULL && lane->conn.phase == CONN_ASKS))
        return; /* what failed was told; a human is asked */
    if (lane != NULL || race_has_path(client))
        log_at(LOG_INFO, "client", "connected to %s, which does not answer yet: it has %.0f s",
               name, (double)config->handshake_timeout / 1e9);
    else if (client->servers.count == 0)
        log_at(LOG_INFO, "client", "looking up %s: the name service does not answer yet", name);
    else
        log_at(LOG_INFO, "client", "connecting to %s: nothing answers yet, it has %.0f s", name,
               (double)config->connect_timeout / 1e9);
}

static void client_server_resolved(struct worker *w, struct message *message)
{
    const struct resolve_result *result = message->pointer;
    struct client *client = client_of(w);

    if (client->primary != NULL || w->loop.phase != LOOP_RUNNING)
        return;
    if (result->count == 0)
        outage_try(client->worker, "client", result->error, NULL);
    client->servers = *result;
    if (result->count > 0)
        race_begin(client);
    else
        client_server_failed(client);
}

/* Logging in */

static bool client_say_handshake_v1(struct lane *lane)
{
    char origin[ADDR_ENDPOINT_TEXT_MAX];
    uint8_t *p = lane_control_begin(lane);

    if (p == NULL)
        return false;
    addr_format_endpoint(&lane->loop->config->tunnels[0].origin, origin, sizeof(origin));
    struct frame_hello hello = { .agent = frame_text_of(origin) }; /* the expose address */
    conn_said(&lane->conn);
    lane_control_end(lane, frame_put_hello(FRAME_V1, p, &hello));
    return true;
}

void client_hello(struct lane *lane)
{
    const struct config *config = lane->loop->config;
    struct frame_hello hello = { .caps = config_grace(config, conn_is_tls(&lane->conn)) > 0
                                             ? FRAME_CAP_RESUME
                                             : 0,
                                 .workers = (uint16_t)config->workers,
                                 .lanes = (uint16_t)config->lanes,
                                 .window = config->window_initial,
                                 .max_data = FRAME_PAYLOAD_MAX,
                                 .agent = frame_text_of(AGENT),
                                 .client = identity_get() };

    lane_say_hello(lane, &hello);
}

static bool client_say_auth_v1(struct lane *lane)
{
    const struct config *config = lane->loop->config;
    uint8_t *p = lane_control_begin(lane);

    if (p == NULL)
        return false;
    lane_control_end(lane, frame_put_auth_v1(p, config->token, config->token_size));
    return true;
}

/* What both ends can derive from here on is the session's secret. */
static bool client_say_auth(struct client *client, struct lane *lane)
{
    uint8_t proof[FRAME_PROOF_SIZE];
    uint8_t *p = lane_control_begin(lane);
    struct scram_channel channel;

    if (p == NULL)
        return false;
    conn_channel(&lane->conn, &channel);
    scram_client_proof(keys, &channel, proof);
    scram_client_session(keys, &channel, client->secret);
    struct frame_auth auth = { .id = keys->verifier.id, .proof = proof, .bound = channel.bound };
    lane_control_end(lane, frame_put_auth(p, &auth));
    return true;
}

void client_unconnected(struct lane *lane, int error)
{
    char text[256];

    snprintf(text, sizeof(text), "%s%s", strerror(error), cure_connect_text(error));
    lane_close(lane, REASON_CONNECT_FAILED, text);
}

static void client_primary_connected(struct client *client, struct lane *lane, int res)
{
    uint32_t map = client->wire == FRAME_V1 ? V1_MAP_SIZE : STREAM_SLOTS_MAX;

    if (res < 0) {
        client_unconnected(lane, -res);
        return;
    }
    client->heard = false;
    bind_reset(client);
    lane_set_version(lane, client->wire);
    if (!lane_map_open(lane, map)) {
        lane_close(lane, REASON_LIMIT_BUFFERS, "no address space for the table of its streams");
        return;
    }
    if (lane->version == FRAME_V2)
        client_hello(lane);
    else if (!client_say_handshake_v1(lane))
        lane_close(lane, REASON_LIMIT_BUFFERS, NULL);
}

static void client_lane_connected(struct lane *lane, int res)
{
    struct client *client = client_at(lane->loop);

    if (res == 0 && race_has(client, lane))
        race_won(client, lane);
    if (lane == client->primary || race_has(client, lane))
        client_primary_connected(client, lane, res);
    else
        dialer_connected(lane, res);
}

static void client_greeted(struct lane *lane)
{
    lane_set_fsm(lane, SESSION_HANDSHAKEN);
    conn_answered(&lane->conn);
}

static enum reason client_rx_hello_ok_v1(struct lane *lane)
{
    struct worker *w = worker_of(lane->loop);
    struct session *session = session_open(&w->sessions, 1, FRAME_V1, client_share(w));

    if (session == NULL)
        return REASON_LIMIT_SESSIONS;
    lane_agree(lane, &lane_terms_v1);
    lane_attach(lane, session);
    (void)bind_say_all(client_at(lane->loop), lane);
    return client_say_auth_v1(lane) ? REASON_DONE : REASON_LIMIT_BUFFERS;
}

/* The lane's bytes begin here, and what is sent is kept from here on: the server may say in
 * AUTH_OK that it need not be. */
static enum reason client_log_in(struct client *client, struct lane *lane)
{
    const struct config *config = client->worker->loop.config;

    if (config_grace(config, conn_is_tls(&lane->conn)) > 0)
        lane_log_open(lane);
    return client_say_auth(client, lane) && bind_say_all(client, lane) ? REASON_DONE
                                                                       : REASON_LIMIT_BUFFERS;
}

/* What docs/PROTOCOL.md bounds of AUTH_OK. */
static bool client_is_offer(const struct frame_auth_ok *ok)
{
    return ok->lanes > 0 && ok->slots <= STREAM_SLOTS_MAX && ok->window <= INT32_MAX &&
           ok->max_data >= FRAME_DATA_MIN;
}

static enum reason client_rx_hello_ok(struct client *client, struct lane *lane, const uint8_t *src,
                                      const uint8_t *end)
{
    struct frame_hello_ok ok;

    client_greeted(lane);
    if (lane->version == FRAME_V1)
        return client_rx_hello_ok_v1(lane);
    if (!frame_get_hello_ok(src, end, &ok))
        return REASON_BAD_FRAME;
    if (ok.nonce == NULL)
        return REASON_OLD_WIRE;
    if (lane->conn.crypt != NULL && crypt_is_12(lane->conn.crypt))
        return REASON_TLS_TOO_OLD;
    if (conn_preface_waits(&lane->conn))
        return REASON_BAD_STATE; /* an answer, and HELLO has not left */
    lane_greeted(lane, src, end);
    return lane == client->primary ? client_log_in(client, lane) : dialer_greeted(lane);
}

/* What the server grants, once it has proved that it knows the token. */
static enum reason client_rx_auth_ok_v2(struct client *client, struct lane *lane,
                                        const uint8_t *src, const uint8_t *end)
{
    struct frame_auth_ok ok;
    struct scram_channel channel;

    if (!frame_get_auth_ok(src, end, &ok))
        return REASON_BAD_FRAME;
    conn_channel(&lane->conn, &channel);
    if (!scram_server_proved(keys, &channel, ok.proof))
        return REASON_SERVER_UNPROVEN;
    if (!client_is_offer(&ok))
        return REASON_BAD_FRAME;
    struct session *session =
        session_open(&client->worker->sessions, ok.session, FRAME_V2, client_share(client->worker));
    if (session == NULL)
        return REASON_LIMIT_SESSIONS;
    uint64_t wanted = lane->loop->config->lanes;
    const struct lane_terms terms = { .window = ok.window,
                                      .max_data = ok.max_data,
                                      .lanes = (uint16_t)min_u64(
                                          ok.lanes, wanted != 0 ? wanted : SESSION_LANES_MAX) };
    client->slots = ok.slots;
    client->spares = (ok.caps & FRAME_CAP_SPARE) != 0 && 2u * terms.lanes <= SESSION_LANES_MAX;
    if ((ok.caps & FRAME_CAP_RESUME) == 0)
        retain_end(&lane->retain);
    lane_agree(lane, &terms);
    lane_attach(lane, session);
    return REASON_DONE;
}

static enum reason client_rx_auth_ok(struct client *client, struct lane *lane, const uint8_t *src,
                                     const uint8_t *end)
{
    enum reason reason =
        lane->version == FRAME_V2 ? client_rx_auth_ok_v2(client, lane, src, end) : REASON_DONE;

    if (reason != REASON_DONE)
        return reason;
    lane_set_fsm(lane, SESSION_AUTHENTICATED);
    lane_warn_plain(lane);
    loop_count(&client->worker->loop, STAT_SESSIONS, 1);
    return REASON_DONE;
}

/* Another token does not help when TLS ends on the way. */
static void client_log_refusal(const struct frame_error *error)
{
    bool between = reason_from_code(error->code) == REASON_TLS_ENDS_BETWEEN;

    log_at(LOG_ERROR, "client", "the server refused %s: %.*s%s",
           between ? "the log-in" : "the token", (int)error->text.size, error->text.data,
           between ? "" : " (give one that the server has, by --token-file or CULVERT_TOKEN)");
}

static enum reason client_rx_auth_err(struct client *client, struct lane *lane, const uint8_t *src,
                                      const uint8_t *end)
{
    struct frame_error error;

    if (!frame_get_error(lane->version, FRAME_AUTH_ERR, src, end, &error))
        return REASON_BAD_FRAME;
    client_log_refusal(&error);
    lane_finish(lane, REASON_AUTH_FAILED, NULL);
    client_exit(client->worker, EXIT_CODE_AUTH_REFUSED);
    return REASON_DONE;
}

static void client_dial_told(struct worker *w, struct message *message)
{
    struct client *client = client_of(w);

    if (w->loop.phase != LOOP_RUNNING)
        return;
    secret_copy(client->secret, message->secret, SCRAM_KEY_SIZE);
    dialer_start(client, message->pointer);
}

/* Dial this lane: pointer is its join_ticket, secret the session's. */
static const struct message_type dial_message = { "dial", client_dial_told };

/* A lane of another worker. False: out of memory. */
static bool client_dial_elsewhere(const struct client *client, const struct join_ticket *ticket,
                                  unsigned target)
{
    struct message *message = message_try(&dial_message);

    if (message == NULL)
        return false;
    message->pointer = malloc(sizeof(*ticket));
    message->secret = secret_alloc(SCRAM_KEY_SIZE);
    if (message->pointer == NULL || message->secret == NULL) {
        message_free(message);
        return false;
    }
    memcpy(message->pointer, ticket, sizeof(*ticket));
    secret_copy(message->secret, client->secret, SCRAM_KEY_SIZE);
    worker_post(client->worker, target, message);
    return true;
}

/* The other lanes, once the tunnels are there. */
static void client_dial_lanes(struct client *client, struct lane *lane)
{
    struct worker *w = client->worker;
    struct join_ticket ticket = { .session = lane->session->id,
                                  .peer_window = lane->terms.window,
                                  .peer_max_data = lane->terms.max_data,
                                  .slots = client->slots,
                                  .server = lane->conn.peer,
                                  .server_index = client->server_index,
                                  .resumes = lane->retain.keeps };

    if (client->spares)
        ticket.spare = lane->terms.lanes;
    dialer_keep(client, lane, &ticket);
    for (uint16_t i = 1; i < lane->terms.lanes; i++) {
        unsigned target = i % w->peer_count;

        ticket.lane = i;
        ticket.spare = client->spares ? (uint16_t)(lane->terms.lanes + i) : 0;
        if (target == w->loop.index) {
            dialer_start(client, &ticket);
            continue;
        }
        if (!client_dial_elsewhere(client, &ticket, target)) { /* whole or not at all */
            lane_goaway(lane, REASON_LIMIT_BUFFERS);
            lane_finish(lane, REASON_LIMIT_BUFFERS, "out of memory for the other lanes");
            return;
        }
    }
}

void client_settled(struct client *client, struct lane *lane)
{
    struct worker *w = client->worker;

    bind_tell(client);
    if (client->binding.ready == 0) {
        outage_try(w, "client", "the server refused every tunnel", NULL);
        client->refused = true;
        lane_goaway(lane, REASON_SHUTDOWN);
        lane_finish(lane, REASON_DONE, NULL); /* all is said */
        return;
    }
    race_good(client);
    outage_session_ready(lane);
    client->attempt = 0;
    client->was_ready = true;
    timer_stop(&client->slow);
    client->ready_at = w->loop.now;
    if (lane->version == FRAME_V1 && w->loop.config->tunnel_count > 1)
        log_at(LOG_WARN, "client",
               "a v1 server has one tunnel per client: only the first --local is public");
    client_dial_lanes(client, lane);
}

static enum reason client_rx_goaway(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    struct frame_error error;

    if (!frame_get_error(lane->version, FRAME_GOAWAY, src, end, &error))
        return REASON_BAD_FRAME;
    lane_heard_goaway(lane);
    if (dialer_is_probe(client_at(lane->loop), lane) &&
        reason_from_code(error.code) == REASON_UNKNOWN_SESSION)
        log_at(LOG_DEBUG, lane_subject(lane),
               "the server has no such session"); /* lane 0 says it */
    else if (dialer_is_probe(client_at(lane->loop), lane))
        outage_try(worker_of(lane->loop), lane_subject(lane), "the server says",
                   reason_text(reason_from_code(error.code)));
    else if (lane->index == 0)
        log_at(LOG_WARN, lane_subject(lane), "the server says: %.*s", (int)error.text.size,
               error.text.data);
    enum reason reason = reason_from_code(error.code);
    if (lane->index == 0 && lane->session != NULL && reason == REASON_REPLACED)
        identity_renew(); /* somebody else is what we say we are: do not fight for it */
    dialer_refused(lane, reason);
    return REASON_DONE;
}

static enum reason client_frame(struct lane *lane, const struct frame *frame, const uint8_t *src,
                                const uint8_t *end)
{
    struct client *client = client_at(lane->loop);

    client->heard = client->heard || lane == client->primary;
    switch (frame->kind) {
    case FRAME_HELLO_OK:
        return client_rx_hello_ok(client, lane, src, end);
    case FRAME_AUTH_OK:
        return client_rx_auth_ok(client, lane, src, end);
    case FRAME_AUTH_ERR:
        return client_rx_auth_err(client, lane, src, end);
    case FRAME_BIND_OK:
        return bind_rx_ok(client, lane, src, end);
    case FRAME_BIND_ERR:
        return bind_rx_err(client, lane, src, end);
    case FRAME_JOIN_OK:
        return dialer_joined(lane, src, end);
    case FRAME_GOAWAY:
        return client_rx_goaway(lane, src, end);
    case FRAME_OPEN:
        return origin_open(lane, frame, src, end);
    default:
        return REASON_BAD_STATE;
    }
}

/* Losing */

/* v1 shows the token to whoever reads the connection. */
static bool client_may_show_token(const struct lane *lane)
{
    return lane->conn.crypt != NULL || sock_addr_is_loopback(&lane->conn.peer);
}

/* A server that hung up without a word to the first frame speaks the other version; with TLS only
 * if it did so in an orderly way, or somebody on the path could choose the version. One that speaks
 * another protocol (foreign) is no v1 server, and is shown no token. */
static bool client_try_other_wire(struct client *client, const struct lane *lane,
                                  enum reason reason, bool foreign)
{
    const struct config *config = client->worker->loop.config;
    bool asked = client->asked;

    client->asked = false;
    if (asked && !client->heard) /* the server lost patience while a human thought about its key */
        return true;
    bool silent =
        !client->heard && lane->version != 0 &&
        (reason == REASON_LANE_EOF || reason == REASON_LANE_ERROR || reason == REASON_BAD_VERSION);

    if (foreign || (lane->conn.crypt != NULL && !lane->conn.crypt_closed))
        silent = false;
    if (!silent || config->wire != CONFIG_WIRE_AUTO || client->was_ready)
        return false;
    bool was_v2 = client->wire == FRAME_V2;
    if (was_v2 && !client_may_show_token(lane)) {
        log_at(LOG_WARN, "client",
               "the server hung up on v2: if it speaks v1 only, give --wire v1, which shows the "
               "token to everybody on the path; --tls hides it");
        return false;
    }
    client->wire = was_v2 ? FRAME_V1 : FRAME_V2;
    if (was_v2)
        log_at(LOG_WARN, "client",
               "the server hung up on v2: it seems to speak v1 only, falling back to v1 (no "
               "half-close, no flow control, one tunnel)");
    return was_v2;
}

/* Whom to trust does not change by itself; a clock does, when it is set. */
static bool client_tls_is_final(const struct client *client, const struct lane *lane)
{
    bool clock = lane->conn.crypt != NULL && crypt_is_clock(lane->conn.crypt);

    return !client->was_ready && !(clock && client->worker->loop.config->reconnect);
}

/* To worker 0: a violation, of a session that may have ended since. */
static void client_session_over_told(struct worker *w, struct message *message)
{
    struct session *session = session_find(&w->sessions, message->session);

    if (!client_leads(w))
        dialer_stop(client_of(w));
    if (session != NULL)
        lane_session_close(session, (enum reason)message->number);
}

static const struct message_type session_over = { "session_over", client_session_over_told };

static void client_primary_lost(struct client *client, struct lane *lane, struct session *session,
                                enum reason reason, bool foreign)
{
    struct worker *w = client->worker;

    client->primary = NULL;
    if (session != NULL) {
        worker_post_others(w, &session_over, session->id, REASON_SESSION_LOST);
        lane_session_close(session, REASON_SESSION_LOST);
    }
    dialer_stop(client);
    if (w->loop.phase != LOOP_RUNNING || reason == REASON_AUTH_FAILED)
        return;
    if (reason == REASON_TLS_FAILED && client_tls_is_final(client, lane)) {
        bool is_short = lane->conn.crypt != NULL && crypt_short(lane->conn.crypt);
        client_exit(w, is_short ? EXIT_CODE_CANNOT_START : EXIT_CODE_FAILED);
        return;
    }
    if (client_try_other_wire(client, lane, reason, foreign))
        timer_set(&w->loop.timers, &client->retry, w->loop.now);
    else if (!client->binding.settled || client->binding.ready == 0)
        client_next_address(client); /* one that accepts and refuses does not hide the others */
    else
        client_session_lost(client);
}

/* A violation on any lane ends the session (docs/PROTOCOL.md, section 9). Worker 0 has lane 0,
 * whose end tells everybody else. */
static void client_session_violated(struct worker *w, struct session *session, enum reason reason)
{
    if (client_leads(w)) {
        lane_session_close(session, reason);
        return;
    }
    struct message *message = message_new(&session_over);
    message->session = session->id;
    message->number = reason;
    worker_post(w, 0, message);
}

/* A lane of the session, a connection that was to become one, or one beside a lane that stands.
 * What goes with its session was told with lane 0; on another worker that may be when the next
 * session stands. */
static void client_log_closed(const struct lane *lane, const struct session *session,
                              enum reason reason, const char *text)
{
    const struct client *client = client_at(lane->loop);
    bool was_ready = session != NULL && (lane != client->primary || client->binding.settled);
    bool ends = reason == REASON_TLS_FAILED && client_tls_is_final(client, lane) &&
                (lane == client->primary || race_has(client, lane));

    if (ends)
        log_at(LOG_ERROR, lane_subject(lane), "%s%s%s", reason_text(reason),
               text != NULL ? ": " : "", text != NULL ? text : "");
    else if (was_ready && lane == client->primary &&
             lane->conn.fd < 0) /* not for this frozen first */
        log_at(LOG_WARN, lane_subject(lane), "the session is over: %s",
               text != NULL ? text : reason_text(reason));
    else if (reason == REASON_AUTH_FAILED) /* client_log_refusal has told it */
        log_at(LOG_DEBUG, lane_subject(lane), "%s", reason_text(reason));
    else if (reason == REASON_SESSION_LOST && (lane != client->primary || !was_ready))
        log_at(LOG_DEBUG, lane_subject(lane), "%s", reason_text(reason));
    else if (was_ready && !reason_is_violation(reason))
        outage_lost(lane, reason_text(reason), text);
    else if (!was_ready && (!dialer_is_probe(client, lane) || dialer_is_needed(client, lane)))
        outage_try(worker_of(lane->loop), lane_subject(lane), reason_text(reason), text);
    else
        log_at(was_ready ? LOG_WARN : LOG_DEBUG, lane_subject(lane), "%s%s%s", reason_text(reason),
               text != NULL ? ": " : "", text != NULL ? text : "");
}

static void client_lane_closed(struct lane *lane, struct session *session, enum reason reason,
                               const char *text)
{
    struct worker *w = worker_of(lane->loop);
    struct client *client = client_of(w);

    if (w->loop.phase < LOOP_STOPPING && reason != REASON_REPLACED && reason != REASON_DONE)
        client_log_closed(lane, session, reason, text);
    if (reason == REASON_TLS_FAILED &&
        race_has(client, lane)) /* whom to trust is the same for all */
        race_won(client, lane);
    if (race_has(client, lane)) {
        race_lost(client, lane, reason);
        return;
    }
    dialer_closed(client, lane);
    if (lane == client->primary)
        client_primary_lost(client, lane, session, reason,
                            reason == REASON_BAD_VERSION && text != NULL);
    else if (session != NULL && reason_is_violation(reason))
        client_session_violated(w, session, reason);
}

static void client_session_closed(struct session *session, enum reason reason)
{
    (void)reason;
    summary_session(session);
}

static void client_answer_told(struct worker *w, struct message *message)
{
    struct client *client = client_of(w);

    client->asked = message->number != 0;
    if (client->primary != NULL)
        lane_answer(client->primary, message->number != 0);
}

static const struct message_type answer_message = { "answer", client_answer_told };

static void client_lane_asks(struct lane *lane, const char *pin)
{
    struct client *client = client_at(lane->loop);

    if (race_has(client, lane))
        race_won(client, lane);
    if (lane == client->primary)
        trust_ask(client->worker, client_server(client), pin, &answer_message);
    else
        lane_answer(lane, false); /* lane 0 went to the same server: its key has changed since */
}

static void client_drain(struct worker *w)
{
    struct client *client = client_of(w);

    timer_stop(&client->retry);
    timer_stop(&client->slow);
    race_stop(client);
    dialer_stop(client);
    while (!list_empty(&w->lanes.frozen)) /* nobody brings them back any more */
        lane_close(container_of(w->lanes.frozen.next, struct lane, frozen_node), REASON_SHUTDOWN,
                   NULL);
    for (struct list *node = w->lanes.all.next; node != &w->lanes.all; node = node->next)
        lane_goaway(container_of(node, struct lane, node), REASON_SHUTDOWN);
}

static void client_stop(struct worker *w)
{
    struct client *client = client_of(w);

    timer_stop(&client->retry);
    timer_stop(&client->slow);
    timer_stop(&client->race.timer);
    timer_stop(&client->binding.timer);
    if (client_leads(w))
        bind_report(client);
    dialer_stop(client);
    netwatch_close(client);
    secret_free(client->secret);
    free(client);
    w->role_state = NULL;
}

int client_prepare(struct config *config)
{
    sock_find_ports();
    identity_open(config);
    keys = secret_alloc(sizeof(*keys));
    if (keys == NULL) {
        log_at(LOG_ERROR, "client", "out of memory");
        return EXIT_CODE_CANNOT_START;
    }
    scram_keys(keys, config->token, config->token_size);
    weakness = token_weakness(config->token, config->token_size);
    if (config->wire == CONFIG_WIRE_V2) /* v1 shows the token itself */
        config_drop_token(config);
    return trust_open(config) ? EXIT_CODE_OK : EXIT_CODE_CANNOT_START;
}

void client_finish(void)
{
    secret_free(keys);
    keys = NULL;
    identity_close();
    trust_close();
}

const struct role client_role = {
    .name = "client",
    .start = client_start,
    .lane_asks = client_lane_asks,
    .lane_connected = client_lane_connected,
    .frame = client_frame,
    .lane_closed = client_lane_closed,
    .lane_frozen = dialer_frozen,
    .lane_loaded = dialer_loaded,
    .lane_still = dialer_still,
    .lane_suspect = dialer_suspect,
    .stream_connected = origin_connected,
    .stream_late = origin_late,
    .session_closed = client_session_closed,
    .drain = client_drain,
    .stop = client_stop,
};
