/*
 * server: listens for lanes on the tunnel address (every worker with its own SO_REUSEPORT socket),
 * lets clients log in, and gives their tunnels public ports.
 *
 * A session lives where its first lane was accepted: that worker is its home. Lane i of the session
 * belongs to worker (home + i) % workers; a JOIN that is accepted elsewhere is handed over with its
 * socket. A tunnel has a listening socket on each worker that has a lane of the session, so that a
 * visitor is carried by the worker that accepted it. When a worker has lost its lanes but the
 * session lives, its visitors are handed to the home worker.
 *
 * The session ends with its lane 0, or with a violation on any lane. Whoever notices takes it out
 * of the registry (once) and tells the other workers. A lane whose connection is lost is not over
 * while its grace time lasts (lane_resume.c): visitors come, and wait on it; JOIN with RESUME
 * brings it back, lane 0 like the others.
 */
#include "server/server.h"

#include "core/base/cure.h"
#include "core/base/exit_code.h"
#include "core/base/log.h"
#include "core/base/secret.h"
#include "core/io/addr.h"
#include "core/io/listener.h"
#include "core/io/resolve.h"
#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/mux/lane_session.h"
#include "core/mux/session.h"
#include "core/mux/stream.h"
#include "core/run/summary.h"
#include "core/run/worker.h"
#include "server/auth.h"
#include "server/registry.h"
#include "server/reload.h"
#include "server/ticket.h"
#include "server/tunnel.h"
#include "server/visitor.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define V1_MAP_SIZE 65536u
#define AGENT       "culvert"

/* Set by server_prepare, read-only afterwards. */
static union sock_addr listen_addr;

/* Preparation */

/* A server that was killed is gone before the kernel has closed its ring's sockets: the one that
 * follows it at once waits for that. SIGTERM and SIGINT end the wait. */
#define LISTEN_TRIES 100u
#define LISTEN_PAUSE (10 * NSEC_PER_MSEC)
#define LISTEN_WAIT  (LISTEN_TRIES * LISTEN_PAUSE / NSEC_PER_SEC)

static int server_listen_wait(const union sock_addr *addr, const sigset_t *ends)
{
    const struct timespec pause = { .tv_nsec = (long)LISTEN_PAUSE };
    int fd = -EADDRINUSE;

    for (unsigned i = 0; fd == -EADDRINUSE && i < LISTEN_TRIES; i++)
        fd = sigtimedwait(ends, NULL, &pause) > 0 ? -EINTR : sock_listen(addr, false, 1);
    return fd;
}

static int server_listen_patiently(const union sock_addr *addr)
{
    int fd = sock_listen(addr, false, 1);
    char text[ADDR_TEXT_MAX];
    sigset_t ends, before;

    if (fd != -EADDRINUSE)
        return fd;
    addr_format(&addr->sa, text, sizeof(text));
    log_at(
        LOG_INFO, "server",
        "waiting for %s, which is in use: at most %u s, as a server that was killed lets go of it",
        text, (unsigned)LISTEN_WAIT);
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, &before);
    fd = server_listen_wait(addr, &ends);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return fd;
}

/* Options have seen to the form; the interface of a zone may still be missing. */
static void server_fail_address(const char *host, const char *text, const char *flag)
{
    const char *zone = addr_missing_zone(host);

    if (zone != NULL)
        log_at(
            LOG_ERROR, "server",
            "cannot listen on %s (%s): there is no interface '%s' on this machine: name one that "
            "'ip link' shows, or start when it is there",
            text, flag, zone);
    else
        log_at(LOG_ERROR, "server",
               "%s %s: give a numeric address of this machine, or leave the host empty", flag,
               text);
}

static bool server_pick_address(const char *host, uint16_t port, const char *flag,
                                union sock_addr *out)
{
    struct resolve_result result;
    struct config_endpoint endpoint = { .port = port };
    char text[ADDR_ENDPOINT_TEXT_MAX];

    snprintf(endpoint.host, sizeof(endpoint.host), "%s", host);
    addr_format_endpoint(&endpoint, text, sizeof(text));
    if (!resolve_numeric(host, port, &result)) {
        server_fail_address(host, text, flag);
        return false;
    }
    int error = 0;
    for (unsigned i = 0; i < result.count; i++) {
        int fd = server_listen_patiently(&result.addr[i]);
        if (fd >= 0) {
            *out = result.addr[i];
            if (port == 0)
                sock_local(fd, out); /* the port that the kernel chose */
            sock_close(fd);
            return true;
        }
        error = -fd;
        if (error == EINTR) {
            log_at(LOG_INFO, "server", "stopped while it waited for %s (%s)", text, flag);
            return false;
        }
    }
    log_at(LOG_ERROR, "server", "cannot listen on %s (%s): %s%s", text, flag, strerror(error),
           cure_bind_text(error, port));
    return false;
}

int server_prepare(struct config *config)
{
    union sock_addr public_addr;

    if (!server_pick_address(config->listen.host, config->listen.port, "--addr", &listen_addr))
        return EXIT_CODE_CANNOT_START;
    if (!server_pick_address(config->public_addr, 0, "--public-addr", &public_addr))
        return EXIT_CODE_CANNOT_START;
    tunnel_open(&public_addr, config->public_addr[0] != '\0');
    if (!reload_open(config, &listen_addr))
        return EXIT_CODE_CANNOT_START;
    if (!registry_open(config) || !ticket_open(config))
        return EXIT_CODE_CANNOT_START;
    if (config->token_is_default)
        log_at(LOG_WARN, "server",
               "no token is set: the default token is accepted from loopback peers only (set "
               "--token-file or CULVERT_TOKEN)");
    return EXIT_CODE_OK;
}

void server_finish(void)
{
    reload_close();
    registry_close();
    ticket_close();
}

void server_serve(const struct reload_workers *workers)
{
    reload_serve(workers);
}

void server_reload(void)
{
    reload_all();
}

/* What the worker lets clients in by: one and the same for a whole turn. */
static const struct reload_snapshot *server_snapshot(const struct worker *w)
{
    return container_of(w->snapshot, struct reload_snapshot, snapshot);
}

static void server_lane_accepted(struct listener *listener, int fd);

static int server_start(struct worker *w)
{
    static const struct listener_use lanes = { .accepted = server_lane_accepted, .lanes = true };
    char text[ADDR_TEXT_MAX];
    int fd = sock_listen(&listen_addr, true, LISTENER_BACKLOG);

    addr_format(&listen_addr.sa, text, sizeof(text));
    if (fd < 0) {
        log_at(LOG_ERROR, "server", "cannot listen on %s: %s%s", text, strerror(-fd),
               cure_bind_text(-fd, sock_addr_port(&listen_addr)));
        return EXIT_CODE_CANNOT_START;
    }
    CHECK(listener_open(&w->listeners, fd, &lanes, NULL, NULL) != NULL); /* the first of its slab */
    if (w->loop.index == 0)
        log_out("listening: %s", text);
    return EXIT_CODE_OK;
}

/* Sessions across workers */

/* `session` may be on its way out already. */
static void server_end_session(struct session *session, enum reason reason)
{
    struct worker *w = worker_of(session->loop);

    if (session->closing)
        return;
    if (registry_remove(session->id)) {
        char subject[48];

        snprintf(subject, sizeof(subject), "session %llu", (unsigned long long)session->id);
        log_at(LOG_INFO, subject, "ends: %s", reason_text(reason));
        worker_post_others(w, &tunnel_session_over, session->id, (uint32_t)reason);
    }
    lane_session_close(session, reason);
}

/* Whether the lane has a connection: who has none on any lane for long is given up. */
static void server_note_lane(const struct lane *lane, const struct session *session, bool up)
{
    registry_lane(session->id, lane->index, up, lane->loop->now);
}

static void server_session_closed(struct session *session, enum reason reason)
{
    (void)reason;
    tunnel_close(session);
    summary_session(session);
}

/* Frames */

static void server_authenticated(struct lane *lane)
{
    strangers_remove(&lane->table->strangers, &lane->stranger);
}

static enum reason server_refuse_auth(struct lane *lane, enum reason reason)
{
    /* Whoever tries tokens does not learn that this one was right, but weak. */
    enum reason told = reason == REASON_AUTH_WEAK_TOKEN ? REASON_AUTH_FAILED : reason;
    uint8_t *p = lane_control_begin(lane);
    struct frame_error error = { .code = reason_code(told),
                                 .text = frame_text_of(reason_text(told)) };

    loop_count(lane->loop, STAT_AUTH_FAILURES, 1);
    if (p != NULL)
        lane_control_end(lane, frame_put_auth_err(lane->version, p, &error));
    lane_finish(lane, reason, reason == REASON_AUTH_FAILED ? "its token is another one" : NULL);
    return REASON_DONE;
}

/* text: more than the reason says, or NULL. */
static enum reason server_refuse_session(struct lane *lane, enum reason reason, const char *text)
{
    loop_count(lane->loop, STAT_REFUSED_SESSIONS, 1);
    lane_goaway_text(lane, reason, text != NULL ? text : reason_text(reason));
    lane_finish(lane, reason, text);
    return REASON_DONE;
}

/* Somebody else may still come. */
static enum reason server_refuse_share(struct lane *lane, enum reason reason, const char *blame)
{
    char text[256];

    snprintf(text, sizeof(text), "%s, of %u: end some, or raise --max-sessions of the server",
             blame, lane->loop->config->max_sessions);
    return server_refuse_session(lane, reason, text);
}

static uint16_t server_lanes_offered(const struct worker *w, const struct frame_hello *hello)
{
    uint64_t lanes = hello->lanes != 0 ? hello->lanes : max_u64(w->peer_count, hello->workers);

    return (uint16_t)min_u64(max_u64(lanes, 1), SESSION_LANES_MAX);
}

/* What the client says of itself; its answer tells a stranger nothing but a nonce. */
static enum reason server_rx_hello_v2(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    struct frame_hello hello;

    if (!frame_get_hello(FRAME_V2, src, end, &hello))
        return REASON_BAD_FRAME;
    if (hello.nonce == NULL)
        return REASON_OLD_WIRE;
    if (lane->conn.crypt != NULL && crypt_is_12(lane->conn.crypt))
        return REASON_TLS_TOO_OLD;
    if (hello.window > INT32_MAX || hello.max_data < FRAME_DATA_MIN ||
        hello.client.size > sizeof(lane->client))
        return REASON_BAD_FRAME;
    const struct lane_terms terms = { .window = hello.window,
                                      .max_data = hello.max_data,
                                      .lanes =
                                          server_lanes_offered(worker_of(lane->loop), &hello) };
    bool grace = config_grace(lane->loop->config, conn_is_tls(&lane->conn)) > 0;
    lane_agree(lane, &terms);
    lane_introduce(lane, &hello.client, grace && (hello.caps & FRAME_CAP_RESUME) != 0);
    lane_greet(lane, src, end);
    return REASON_DONE;
}

static enum reason server_rx_hello_v1(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    struct frame_hello hello;
    uint8_t *p = lane_control_begin(lane);

    if (!frame_get_hello(FRAME_V1, src, end, &hello))
        return REASON_BAD_FRAME;
    if (p == NULL)
        return REASON_LIMIT_BUFFERS;
    lane_agree(lane, &lane_terms_v1);
    lane_control_end(lane, frame_put_hello_ok(FRAME_V1, p, NULL));
    return REASON_DONE;
}

static enum reason server_rx_hello(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    enum reason reason = lane->version == FRAME_V1 ? server_rx_hello_v1(lane, src, end)
                                                   : server_rx_hello_v2(lane, src, end);

    if (reason == REASON_DONE)
        lane_set_fsm(lane, SESSION_HANDSHAKEN);
    return reason;
}

/* The owner of what a session takes here: token, client's address, session. */
static struct share *server_session_share(struct worker *w, const struct registry_session *shared)
{
    struct share *token = share_open(&w->loop.shares.pool, SHARE_TOKEN, shared->client.token);
    struct share *address = share_open_address(token, &shared->peer);
    struct share *session = share_open(address, SHARE_SESSION, shared->id);

    share_unref(token);
    share_unref(address);
    return session;
}

/* Lanes beyond those offered that a client may have for bulk: as many again, or none, where none is
 * moved. */
static uint16_t server_spares(struct lane *lane)
{
    bool may = lane_moves(lane) && !lane->will_log;

    return may && 2u * lane->terms.lanes <= SESSION_LANES_MAX ? lane->terms.lanes : 0;
}

static uint8_t *server_put_auth_ok(struct lane *lane, uint64_t session,
                                   const struct auth_login *login, uint8_t *p)
{
    struct frame_auth_ok ok = { .proof = login->proof,
                                .caps = (lane->will_log ? FRAME_CAP_RESUME : 0u) |
                                        (server_spares(lane) > 0 ? FRAME_CAP_SPARE : 0u),
                                .lanes = lane->terms.lanes,
                                .window = lane->loop->config->window_initial,
                                .max_data = FRAME_PAYLOAD_MAX,
                                .slots = STREAM_SLOTS_MAX,
                                .session = session,
                                .agent = frame_text_of(AGENT) };

    return frame_put_auth_ok(lane->version, p, &ok);
}

/* Who it is, with what the log-in brings forth. */
static enum reason server_check_auth(const struct lane *lane, const uint8_t *src,
                                     const uint8_t *end, struct auth_login *login)
{
    const struct auth_table *tokens = server_snapshot(worker_of(lane->loop))->tokens;
    struct frame_auth auth;
    struct scram_channel channel;

    if (lane->version == FRAME_V1)
        return auth_check_v1(tokens, &lane->conn.peer, src, (size_t)(end - src), &login->token);
    if (!frame_get_auth(src, end, &auth))
        return REASON_BAD_FRAME;
    conn_channel(&lane->conn, &channel);
    return auth_check(tokens, &lane->conn.peer, &auth, &channel, login);
}

/* Whether the owner may have this lane, and its descriptor. */
static enum reason server_lane_room(const struct lane *lane, const struct share *share)
{
    if (!share_may(share, SHARE_LANES, 1)) {
        log_at(LOG_WARN, lane_subject(lane), "too many lanes: %s", share_blame(share, SHARE_LANES));
        return REASON_LIMIT_LANES;
    }
    if (!share_may(share, SHARE_FDS, 1)) {
        log_at(LOG_WARN, lane_subject(lane), "too many file descriptors: %s",
               share_blame(share, SHARE_FDS));
        return REASON_LIMIT_DESCRIPTORS;
    }
    return REASON_DONE;
}

/* Everything that a session needs is there: afterwards nothing refuses it, so that no session of
 * the same client ends for one that does not come to be. */
static enum reason server_session_room(struct lane *lane, const struct share *share)
{
    struct worker *w = worker_of(lane->loop);

    enum reason reason = server_lane_room(lane, share);
    if (reason != REASON_DONE)
        return reason;
    if (slab_available(&w->sessions.slab) == 0 ||
        (lane->version == FRAME_V1 && !lane_map_open(lane, V1_MAP_SIZE)))
        return REASON_LIMIT_SESSIONS;
    return lane_control_begin(lane) != NULL ? REASON_DONE : REASON_LIMIT_BUFFERS;
}

/* In the turn in which it was checked: see tokens.h. */
static enum reason server_log_in(struct lane *lane, const struct auth_login *login)
{
    struct worker *w = worker_of(lane->loop);
    struct registry_session shared = { .id = registry_next_id(),
                                       .home = w->loop.index,
                                       .lanes = (uint16_t)(lane->terms.lanes + server_spares(lane)),
                                       .version = lane->version,
                                       .resumes = lane->will_log,
                                       .tls = conn_is_tls(&lane->conn),
                                       .peer_window = lane->terms.window,
                                       .peer_max_data = lane->terms.max_data,
                                       .client = { .token = login->token,
                                                   .size = lane->client_size },
                                       .peer = lane->conn.peer };
    struct share *share = server_session_share(w, &shared);
    struct registry_added added = { .replaced = 0 };
    enum reason reason = server_session_room(lane, share);

    memcpy(shared.client.bytes, lane->client, sizeof(shared.client.bytes));
    if (reason == REASON_DONE)
        reason = registry_add(&shared, login->secret, &added);
    if (reason != REASON_DONE) {
        share_unref(share);
        return added.blame != NULL ? server_refuse_share(lane, reason, added.blame)
                                   : server_refuse_session(lane, reason, NULL);
    }
    if (added.replaced != 0)
        tunnel_replace_session(w, added.replaced, "its client has logged in anew");
    struct session *session = session_open(&w->sessions, shared.id, lane->version, share);
    CHECK(session != NULL);
    server_authenticated(lane);
    lane_attach(lane, session);
    loop_count(&w->loop, STAT_SESSIONS, 1);
    lane_set_fsm(lane, SESSION_AUTHENTICATED);
    if (lane->will_log) /* not for strangers: they have nothing to resume */
        lane_log_open(lane);
    lane_control_end(lane, server_put_auth_ok(lane, shared.id, login, lane_control_begin(lane)));
    log_at(LOG_INFO, lane_subject(lane), "logged in (v%u), %s", lane->version,
           lane->conn.crypt != NULL ? crypt_summary(lane->conn.crypt) : "plain");
    lane_warn_plain(lane);
    return lane->version == FRAME_V1 ? tunnel_bind_v1(lane) : REASON_DONE;
}

/* Only v1 shows its token; v2 proves that it has it, and what is almost right looks like all
 * else. */
static void server_hint_at_blanks(const struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    const struct auth_table *tokens = server_snapshot(worker_of(lane->loop))->tokens;

    if (lane->version == FRAME_V1 && auth_has_but_for_blanks(tokens, src, (size_t)(end - src)))
        log_at(LOG_WARN, lane_subject(lane),
               "this client's token is a known one but for white space at its ends: it should be "
               "given without");
}

static enum reason server_rx_auth(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    struct auth_login *login = secret_alloc(sizeof(*login));

    if (login == NULL)
        return server_refuse_session(lane, REASON_LIMIT_SESSIONS, NULL);
    enum reason reason = server_check_auth(lane, src, end, login);
    if (reason == REASON_AUTH_FAILED)
        server_hint_at_blanks(lane, src, end);
    if (reason == REASON_DONE)
        reason = server_log_in(lane, login);
    else if (reason != REASON_BAD_FRAME)
        reason = server_refuse_auth(lane, reason);
    secret_free(login);
    return reason;
}

static struct lane *server_find_lane(struct worker *w, uint64_t id, uint16_t index)
{
    struct session *session = session_find(&w->sessions, id);

    return session != NULL ? lane_of_session(session, index) : NULL;
}

/* The oldest stranger of the busiest address makes room for a new one. */
static void server_dismiss_stranger(struct worker *w)
{
    struct lane *lane = lane_of_stranger(strangers_last(&w->lanes.strangers));
    char text[96];

    if (lane == NULL)
        return;
    snprintf(text, sizeof(text), "%u of %u places are its address's", lane->stranger.address->count,
             w->lanes.strangers.most);
    loop_count(&w->loop, STAT_REFUSED_UNAUTHENTICATED, 1);
    strangers_remove(&w->lanes.strangers, &lane->stranger);
    lane_close(lane, REASON_LIMIT_UNAUTHENTICATED, text);
}

static enum reason server_refuse_join(struct lane *lane, enum reason reason)
{
    lane_goaway(lane, reason);
    lane_finish(lane, reason, NULL);
    return REASON_DONE;
}

/* The newest connection of a lane wins: the old one may be half dead, which only its client knows
 * yet. All of one index are on one worker. */
static void server_replace_lane(struct session *session, uint16_t index)
{
    struct lane *old = lane_of_session(session, index);

    if (old == NULL)
        return;
    if (!share_may(session->share, SHARE_LANES, 1)) { /* no time for last words */
        lane_close(old, REASON_REPLACED, NULL);
        return;
    }
    lane_goaway(old, REASON_REPLACED);
    lane_finish(old, REASON_REPLACED, NULL);
}

/* A lane of a known session, on the worker where it belongs. */
static void server_adopt_lane(struct lane *lane, const struct registry_session *shared,
                              uint16_t index, const uint8_t answer[FRAME_PROOF_SIZE])
{
    struct worker *w = worker_of(lane->loop);
    struct session *session = session_find(&w->sessions, shared->id);
    struct share *share = server_session_share(w, shared);

    bool replaces = server_find_lane(w, shared->id, index) != NULL;
    enum reason reason = replaces ? REASON_DONE : server_lane_room(lane, share);
    if (reason != REASON_DONE) {
        loop_count(&w->loop, STAT_REFUSED_LANES, 1);
        share_unref(share);
        server_refuse_join(lane, reason);
        return;
    }
    if (session == NULL)
        session = session_open(&w->sessions, shared->id, FRAME_V2, share);
    else
        share_unref(share);
    if (session == NULL) {
        server_refuse_session(lane, REASON_LIMIT_SESSIONS, NULL);
        return;
    }
    server_replace_lane(session, index);
    const struct lane_terms terms = { .window = shared->peer_window,
                                      .max_data = shared->peer_max_data,
                                      .lanes = shared->lanes };
    lane_set_index(lane, index);
    lane_agree(lane, &terms);
    lane_attach(lane, session);
    server_note_lane(lane, session, true);
    tunnel_copy(session, shared);
    if (shared->draining)
        tunnel_stop(session);
    lane_join_ok(lane, answer);
    if (shared->resumes)
        lane_log_open(lane);
    lane_set_fsm(lane, SESSION_FORWARDING);
    lane_start_heartbeat(lane);
    log_at(LOG_DEBUG, lane_subject(lane), "joined on worker %u", w->loop.index);
}

/* The client of this lane may never have got JOIN_OK, and then knows nothing of it and joins anew,
 * while visitors may be on it already: it goes on from its first byte, like a lane of which the
 * client has counted none. */
static bool server_is_unheard(const struct lane *lane)
{
    return lane != NULL && lane->retain.keeps && lane->rx_bytes == 0 && lane->retain.counted == 0;
}

static void server_join_here(struct worker *w, struct message *message);

/* The connection of a joined lane that belongs to this worker, `number`; and of one that comes
 * back, of which its client has received `count` bytes. */
static const struct message_type lane_message = { "lane", server_join_here };
static const struct message_type resume_message = { "resume", server_join_here };

/* The connection of a lane that comes back, on the worker where the lane is. */
static bool server_resume_lane(struct worker *w, const struct message *message)
{
    struct lane *lane = server_find_lane(w, message->session, (uint16_t)message->number);

    if (lane == NULL || (message->type == &lane_message && !server_is_unheard(lane)))
        return false;
    return lane_resume_later(lane, &message->loose, message->count, message->answer);
}

/* Who is refused after its proof has the place of a stranger while it reads why. */
static void server_stranger_again(struct worker *w, struct lane *lane)
{
    if (!strangers_room(&w->lanes.strangers))
        server_dismiss_stranger(w);
    strangers_add(&w->lanes.strangers, &lane->stranger, lane->share);
}

/* A worker that does not have the lane says so itself: a refusal needs a lane object, which the
 * hand-over makes. */
static void server_join_here(struct worker *w, struct message *message)
{
    struct registry_session shared;
    struct lane *lane = NULL;

    if (w->loop.phase == LOOP_RUNNING && server_resume_lane(w, message))
        return;
    if (w->loop.phase == LOOP_RUNNING && registry_get(message->session, &shared))
        lane = lane_adopt(&w->lanes, &message->loose);
    if (lane == NULL) {
        loop_count(&w->loop, STAT_REFUSED_LANES, 1);
        conn_loose_close(&message->loose, w->loop.ring);
        return;
    }
    lane_set_version(lane, FRAME_V2);
    lane_be_joining(lane);
    if (message->type == &resume_message) {
        server_stranger_again(w, lane);
        server_refuse_join(lane, REASON_LANE_GONE);
    } else {
        server_adopt_lane(lane, &shared, (uint16_t)message->number, message->answer);
    }
}

/* To the worker where the lane belongs, as a descriptor: this lane object is done with. */
static void server_hand_lane_over(struct lane *lane, unsigned target, const uint8_t *answer)
{
    struct worker *w = worker_of(lane->loop);
    bool resume = (lane->join.flags & FRAME_JOIN_RESUME) != 0;
    struct message *message = message_new(resume ? &resume_message : &lane_message);

    message->session = lane->join.session;
    message->number = lane->join.lane;
    message->count = resume ? lane->join.rx_bytes : 0;
    memcpy(message->answer, answer, sizeof(message->answer));
    message->loose = lane_loosen(lane);
    lane_close(lane, REASON_DONE, NULL);
    if (target != w->loop.index) {
        worker_post(w, target, message);
        return;
    }
    server_join_here(w, message);
    message_free(message);
}

static enum reason server_check_join(struct lane *lane, struct registry_session *shared,
                                     uint8_t answer[FRAME_PROOF_SIZE])
{
    const struct frame_join *join = &lane->join;
    struct scram_channel channel;

    conn_channel(&lane->conn, &channel);
    if (join->bound != channel.bound)
        return REASON_TLS_ENDS_BETWEEN;
    enum reason reason = registry_join(join, &channel, shared, answer);
    if (reason == REASON_DONE && shared->tls != conn_is_tls(&lane->conn))
        reason = REASON_TLS_ENDS_BETWEEN;
    bool resume = (join->flags & FRAME_JOIN_RESUME) != 0;
    if (reason == REASON_DONE && ((join->lane == 0 && !resume) || join->lane >= shared->lanes))
        reason = REASON_LIMIT_LANES;
    return reason;
}

/* JOIN was read, and HELLO_OK is out. */
static void server_join(struct lane *lane)
{
    struct worker *w = worker_of(lane->loop);
    struct registry_session shared;
    uint8_t answer[FRAME_PROOF_SIZE];
    bool resume = (lane->join.flags & FRAME_JOIN_RESUME) != 0;
    enum reason reason = server_check_join(lane, &shared, answer);

    if (reason == REASON_DONE && w->loop.phase != LOOP_RUNNING)
        reason = REASON_SHUTDOWN;
    if (reason != REASON_DONE) {
        server_refuse_join(lane, reason);
        return;
    }
    server_authenticated(lane);
    unsigned target = (shared.home + lane->join.lane) % w->peer_count;
    if (target == w->loop.index && !resume &&
        !server_is_unheard(server_find_lane(w, shared.id, lane->join.lane)))
        server_adopt_lane(lane, &shared, lane->join.lane, answer);
    else
        server_hand_lane_over(lane, target, answer);
}

static enum reason server_rx_join(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    if (!frame_get_join(src, end, &lane->join))
        return REASON_BAD_FRAME;
    if (!lane_rx_done(lane))
        return REASON_BAD_STATE; /* nothing may follow JOIN before JOIN_OK */
    lane_await_out(lane);
    return REASON_DONE;
}

static void server_session_drains(struct worker *w, struct message *message)
{
    struct session *session = session_find(&w->sessions, message->session);

    if (session != NULL)
        tunnel_stop(session);
}

static const struct message_type drain_message = { "session_drain", server_session_drains };

static enum reason server_rx_goaway(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    struct session *session = lane->session;
    struct frame_error error;

    if (!frame_get_error(lane->version, FRAME_GOAWAY, src, end, &error))
        return REASON_BAD_FRAME;
    lane_heard_goaway(lane);
    if (session == NULL || lane->index != 0 ||
        session->draining) /* lane 0 speaks for the session */
        return REASON_DONE;
    registry_drain(session->id);
    tunnel_stop(session);
    worker_post_others(worker_of(lane->loop), &drain_message, session->id, 0);
    return REASON_DONE;
}

static enum reason server_frame(struct lane *lane, const struct frame *frame, const uint8_t *src,
                                const uint8_t *end)
{
    switch (frame->kind) {
    case FRAME_HELLO:
        return server_rx_hello(lane, src, end);
    case FRAME_AUTH:
        return server_rx_auth(lane, src, end);
    case FRAME_BIND:
        return tunnel_bind(lane, src, end);
    case FRAME_JOIN:
        lane_be_joining(lane);
        return server_rx_join(lane, src, end);
    case FRAME_GOAWAY:
        return server_rx_goaway(lane, src, end);
    default:
        return REASON_BAD_STATE;
    }
}

/* Lanes come and go */

static void server_accept_lane(struct worker *w, int fd)
{
    struct crypt_ctx *ctx = server_snapshot(w)->crypt;
    struct conn_loose loose = { .fd = fd };
    struct lane *lane = NULL;
    union sock_addr peer;

    if (!sock_peer(fd, &peer)) { /* was reset: nobody could hear an answer */
        loop_count(&w->loop, STAT_GONE, 1);
        ring_close_fd(w->loop.ring, fd);
        return;
    }
    if (!strangers_room(&w->lanes.strangers))
        server_dismiss_stranger(w);
    if (ctx == NULL || (loose.crypt = crypt_open(ctx, NULL, NULL)) != NULL)
        lane = lane_open(&w->lanes, &loose);
    if (lane != NULL)
        return;
    loop_count(&w->loop, STAT_REFUSED_LANES, 1);
    log_at(LOG_WARN, "server", "%s", stat_text(STAT_REFUSED_LANES));
    sock_set_rst(fd);
    conn_loose_close(&loose, w->loop.ring);
}

static void server_lane_accepted(struct listener *listener, int fd)
{
    server_accept_lane(worker_of(listener->loop), fd);
}

static bool server_is_violation(enum reason reason)
{
    return reason >= REASON_BAD_VERSION && reason <= REASON_FLOW_CONTROL;
}

/* A refused lane counts until its slot is free. */
static void server_lane_freed(struct lane *lane)
{
    server_authenticated(lane);
}

/* A server that was started anew hears it from every lane of every client: once in ten seconds. */
static bool server_tells_of_unknown(uint64_t now)
{
    static _Atomic uint64_t told;
    uint64_t before = atomic_load(&told);

    return (before == 0 || now - before >= LOG_LASTING_NS) &&
           atomic_compare_exchange_strong(&told, &before, now);
}

/* Of the lanes of one session that go together one is told. */
static void server_log_closed(struct lane *lane, struct session *session, enum reason reason,
                              const char *text)
{
    const char *colon = text != NULL ? ": " : "", *detail = text != NULL ? text : "";

    if (server_is_violation(reason) && session != NULL)
        log_at(LOG_WARN, lane_subject(lane), "closed: %s%s%s", reason_text(reason), colon, detail);
    else if (reason == REASON_UNKNOWN_SESSION && server_tells_of_unknown(lane->loop->now))
        log_at(LOG_INFO, lane_subject(lane),
               "closed: it belongs to a session that is over, or that was another server's: its "
               "client begins a new one");
    else if (reason == REASON_UNKNOWN_SESSION)
        log_at(LOG_DEBUG, lane_subject(lane), "closed: %s", reason_text(reason));
    else if (session == NULL || session_tells(session))
        log_at(LOG_INFO, lane_subject(lane), "closed: %s%s%s", reason_text(reason), colon, detail);
    else
        log_at(LOG_DEBUG, lane_subject(lane), "closed: %s%s%s", reason_text(reason), colon, detail);
}

static void server_lane_closed(struct lane *lane, struct session *session, enum reason reason,
                               const char *text)
{
    if (lane->loop->phase < LOOP_STOPPING && reason != REASON_DONE)
        server_log_closed(lane, session, reason, text);
    if (session != NULL)
        server_note_lane(lane, session, false);
    if (session != NULL && (lane->index == 0 || server_is_violation(reason)))
        server_end_session(session, reason); /* a lane 0 that may come back is frozen, not closed */
}

static void server_drop_streams(struct lane *lane)
{
    for (struct list *node = lane->streams.next, *next; node != &lane->streams; node = next) {
        struct stream *s = container_of(node, struct stream, lane_node);

        next = node->next;
        if (s->state != STREAM_CLOSING)
            stream_close(s, REASON_DRAIN, false);
    }
}

static void server_frozen(struct lane *lane, const char *text)
{
    (void)text;
    server_note_lane(lane, lane->session, false);
}

static void server_back(struct lane *lane)
{
    server_note_lane(lane, lane->session, true);
}

static void server_drain(struct worker *w)
{
    struct list *node;

    log_at(LOG_INFO, "server", "worker %u stops accepting, %u streams may end", w->loop.index,
           w->streams.slab.used);
    for (node = w->sessions.all.next; node != &w->sessions.all; node = node->next)
        tunnel_close(container_of(node, struct session, node));
    while ((node = w->listeners.all.next) != &w->listeners.all)
        listener_close(container_of(node, struct listener, node));
    /* Nobody can come back to a server that does not listen. The lanes stay: lane 0 is its
     * session's, whose other lanes may live. */
    for (node = w->lanes.frozen.next; node != &w->lanes.frozen; node = node->next)
        server_drop_streams(container_of(node, struct lane, frozen_node));
    for (node = w->lanes.all.next; node != &w->lanes.all; node = node->next)
        lane_goaway(container_of(node, struct lane, node), REASON_SHUTDOWN);
}

const struct role server_role = {
    .name = "server",
    .opens_streams = true,
    .snapshot = reload_first,
    .start = server_start,
    .lane_out = server_join,
    .frame = server_frame,
    .lane_closed = server_lane_closed,
    .lane_freed = server_lane_freed,
    .lane_frozen = server_frozen,
    .lane_back = server_back,
    .session_closed = server_session_closed,
    .drain = server_drain,
};
