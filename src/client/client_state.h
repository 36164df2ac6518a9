/*
 * client_state: what one worker of the client keeps. Private to src/client.
 *
 * Worker 0 leads: it dials lane 0, logs in, binds, decides about reconnecting, and asks the others
 * to dial the lanes that are theirs (lane i belongs to worker i % workers). Each worker resolves
 * and dials the origins of its own streams.
 */
#ifndef CULVERT_CLIENT_CLIENT_STATE_H
#define CULVERT_CLIENT_CLIENT_STATE_H

#include "client/jitter.h"
#include "core/base/config.h"
#include "core/io/resolve.h"
#include "core/io/timer.h"
#include "core/mux/scram.h"
#include "core/mux/session.h"
#include "core/run/worker.h"
#include "core/wire/frame.h"

#include <stdbool.h>
#include <stdint.h>

/* An address that has not answered for so long is tried no more alone (RFC 8305, section 5). */
#define CLIENT_ATTEMPT_DELAY (250 * NSEC_PER_MSEC)

/* Where an origin is: filled by origin_resolve, used in turn until one answers. */
struct origin {
    struct resolve_result addrs; /* count 0: not resolved yet, or failed */
    uint8_t list;                /* counts the look-ups that `addrs` came from */
    unsigned good;               /* the address that answered last: tried first */
    bool resolving;
    uint64_t resolved; /* ns */
};

/* What a lane needs to join, beside the session's secret; worker 0 sends a copy of both with
 * a message. */
struct join_ticket {
    uint64_t session;
    uint16_t lane;
    uint32_t peer_window, peer_max_data;
    uint32_t slots; /* stream ids name places below this */
    union sock_addr server;
    unsigned server_index; /* config->servers[], for the name that its certificate must have */
    bool resumes;
    uint16_t spare; /* the lane that is dialled as well when bulk moves on this one; 0: none */
};

/* A lane, on the worker that dials it. Lane 0 is here when it can be resumed. */
struct client_lane {
    struct worker *worker;
    bool wanted;
    struct lane *lane;                /* carries frames, or is frozen */
    struct lane *probe;               /* the connection that is being made for it */
    bool probe_shakes;                /* its path is there, TLS, HELLO and JOIN take their time */
    bool probe_up;                    /* greeted; waits for the old one to be still */
    uint8_t answer[FRAME_PROOF_SIZE]; /* the proof that JOIN_OK must bring */
    struct join_ticket ticket;
    struct timer timer; /* the next try, or the end of patience with this one */
    unsigned failures;  /* tries in a row that came to nothing */
    uint64_t dialled;   /* ns */
};

/* The tunnels, as bind.c keeps them. Sets have a bit for each. */
struct client_binding {
    uint32_t asked; /* BINDs that wait for their answer */
    uint32_t ready; /* in this session */
    uint32_t ever;  /* in any */
    bool settled;   /* every first BIND of the session has its answer */
    struct timer timer;
    struct client_bind {
        unsigned refusals; /* in this session, in a row */
        enum reason why;   /* of the last one; DONE: none */
        char said[256];    /* by the server, with that; "": none, or it was ready since */
        bool told;         /* in the log */
        uint64_t due;      /* ns: when to ask again */
        struct client_ticket {
            size_t size;
            uint8_t data[FRAME_TICKET_MAX];
        } ticket; /* of the port that we had last */
    } tunnels[CONFIG_TUNNELS_MAX];
};

/* The way to a server with several addresses, as race.c takes it. Places and bits are those of
 * client->servers. */
struct client_race {
    struct lane *lanes[RESOLVE_MAX]; /* on their way */
    uint32_t failed;
    unsigned only; /* the address that is to be tried alone; RESOLVE_MAX: none is */
    unsigned won;
    uint64_t since;       /* ns */
    union sock_addr good; /* of the last session; zeros: none yet */
    struct timer timer;
};

struct client {
    struct worker *worker;
    uint8_t *secret; /* the session's, SCRAM_KEY_SIZE bytes of secret memory */
    struct origin origins[CONFIG_TUNNELS_MAX];
    struct client_lane lanes[SESSION_LANES_MAX];

    struct resolve_result again; /* addresses of the server as asked for while lanes were frozen */
    bool asking;

    /* worker 0 only */
    int netlink; /* -1: none */
    unsigned netlink_op;
    const struct message_type *netlink_message;
    struct timer netlink_timer;
    uint64_t netlink_told; /* ns: when the last change was acted on */
    struct log_lasting changes;
    struct lane *primary;
    struct timer retry;
    struct timer slow;             /* the first attempt takes its time */
    struct resolve_result servers; /* of the server name being tried */
    unsigned server_index;         /* config->servers[] */
    struct client_race race;
    unsigned attempt; /* of the reconnect schedule; 0 when connected */
    uint8_t wire;     /* version of the next try */
    bool heard;       /* the server said something on this lane */
    bool asked;       /* a human has just accepted the server's key */
    bool was_ready;   /* there was a session with a tunnel */
    bool refused;     /* in this attempt a server let us in, and refused all tunnels */
    struct client_binding binding;
    uint32_t slots;    /* of lane 0's session, as in join_ticket */
    bool spares;       /* it may have as many lanes again */
    uint64_t ready_at; /* ns: when the last session was ready */
    uint64_t lost_at;  /* ns: when it was lost; 0: never */
    struct jitter jitter;
};

static inline struct client *client_of(struct worker *worker)
{
    return worker->role_state;
}

static inline struct client *client_at(const struct loop *loop)
{
    return client_of(worker_of(loop));
}

/* A client has one session at a time: all is its own. */
static inline struct share *client_share(struct worker *worker)
{
    share_ref(&worker->loop.shares.pool);
    return &worker->loop.shares.pool;
}

/* Worker 0. */
static inline bool client_leads(const struct worker *worker)
{
    return worker->loop.index == 0;
}

/* client.c: HELLO, on lane 0 and on every other connection. */
void client_hello(struct lane *lane);

/* client.c: a connection to this address of the server, on its way; NULL with *error (errno) if it
 * cannot be made. */
struct lane *client_connect(struct worker *worker, const struct config_endpoint *server,
                            const union sock_addr *addr, int *error);

/* client.c: a connection that came to nothing, and what helps. */
void client_unconnected(struct lane *lane, int error);

/* client.c: a timer or a lane of worker 0 wants the next try. */
void client_dial(struct client *client);

/* client.c: the next address is asked in the wire that --wire says, or in v2 first. */
void client_forget_wire(struct client *client);

/* Ends all workers with this exit code, as soon as their last words are out. */
void client_exit(struct worker *worker, int code);

/* client.c: the server that is tried, or that the session is with. */
const struct config_endpoint *client_server(const struct client *client);

/* client.c: every BIND of a new session has its answer; what was refused is not told yet. */
void client_settled(struct client *client, struct lane *lane);

/* client.c: all addresses of this server have failed. */
void client_server_failed(struct client *client);

/* race.c. begin: to client->servers. The lane that is up, or asks, becomes client->primary (won),
 * one that was closed has lost. again: the winner's address with another wire; resume: nothing came
 * of it, the others go on. good: there is a session. */
void race_init(struct client *client);
void race_begin(struct client *client);
void race_again(struct client *client);
void race_resume(struct client *client);
bool race_has(const struct client *client, const struct lane *lane);
bool race_has_path(const struct client *client); /* a lane of it shakes hands */
void race_won(struct client *client, struct lane *lane);
void race_lost(struct client *client, struct lane *lane, enum reason reason);
void race_good(struct client *client);
void race_stop(struct client *client);

/* bind.c. reset: before a session. say_all: false if there is no room. */
void bind_init(struct client *client);
void bind_reset(struct client *client);
bool bind_say_all(struct client *client, struct lane *lane);
enum reason bind_rx_ok(struct client *client, struct lane *lane, const uint8_t *src,
                       const uint8_t *end);
enum reason bind_rx_err(struct client *client, struct lane *lane, const uint8_t *src,
                        const uint8_t *end);

/* The tunnel of an OPEN, NULL if there is none. A visitor on another lane may be faster than the
 * answer to a BIND that was said again. */
struct session_tunnel *bind_tunnel(struct lane *lane, uint16_t index);

/* On another worker than lane 0's, where no answer comes: the tunnel is there. */
struct session_tunnel *bind_fill(struct session *session, unsigned index);

/* Tells of refusals that were not told yet. */
void bind_tell(struct client *client);

/* At the end: what was never ready stands in the summary, and in the exit code. */
void bind_report(struct client *client);

/* origin.c */
void origin_init(struct client *client);
void origin_resolve(struct client *client, unsigned tunnel);
void origin_resolved(struct worker *worker, struct message *message);
enum reason origin_open(struct lane *lane, const struct frame *frame, const uint8_t *src,
                        const uint8_t *end);
void origin_connected(struct stream *stream, bool beside, int res);
void origin_late(struct stream *stream);

/* dialer.c: lanes 1, 2, ... are made by dialer_start; lane 0 is taken into care by dialer_keep when
 * its session is ready. */
void dialer_init(struct client *client);
void dialer_start(struct client *client, const struct join_ticket *ticket);
void dialer_keep(struct client *client, struct lane *lane, const struct join_ticket *ticket);
void dialer_connected(struct lane *lane, int res);
enum reason dialer_greeted(struct lane *lane);
enum reason dialer_joined(struct lane *lane, const uint8_t *src, const uint8_t *end);
void dialer_refused(struct lane *lane, enum reason reason);
void dialer_frozen(struct lane *lane, const char *text);
void dialer_still(struct lane *lane);
void dialer_loaded(struct lane *lane);
void dialer_suspect(struct lane *lane);
bool dialer_is_probe(const struct client *client, const struct lane *lane);
bool dialer_is_needed(const struct client *client, const struct lane *lane);
void dialer_closed(struct client *client, struct lane *lane);
void dialer_hurry(struct client *client);
void dialer_stop(struct client *client);

/* netwatch.c */
void netwatch_open(struct client *client, const struct message_type *changed); /* to all workers */
void netwatch_close(struct client *client);
void netwatch_look(struct worker *worker); /* closes lanes whose address is gone */

#endif
