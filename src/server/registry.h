/*
 * registry: what the server's workers share: sessions and public ports.
 *
 * Touched when a client logs in, binds, joins a lane or leaves, never for a stream: a mutex is
 * enough, and the data path stays free of locks. A session's parts on the workers copy what they
 * need from here. Nobody waits long for the mutex: whatever is done under it takes a few steps,
 * however many sessions and ports there are (chain.h, ports.h), and never a system call.
 *
 * A client that is started again while its old session still stands is known by its identity and
 * token: the old session goes, its ports are the new one's. The ports of sessions that have ended
 * are remembered for a while (memory.h), so that a client which comes back finds them, if nobody
 * else took them.
 *
 * Started again with another command line it has another identity, and asks for its ports by
 * number. It gets them from a session of the same token and address that has had no connection on
 * any lane for longer than a client needs to notice and to come back (REGISTRY_HEAL_NS): one whose
 * path only blinks loses nothing, and no session ends for somebody whose share of ports is used up.
 *
 * Sessions, and public ports from the start port up, are shared (share.h): server -> token ->
 * client's address. So neither one token nor one address takes all of them, be it by clients that
 * come and go and leave sessions behind for the grace time. A client that comes again replaces its
 * own session, and needs no new share for that. A port counts until its last socket is closed.
 *
 * A public port is taken from the moment a session asks for it until the last worker has closed its
 * listening socket (a port counted as free while a socket is still bound would be skipped by the
 * next client that wants it). registry_bind reserves a port under the mutex, lets go of that, tries
 * to listen, and comes back with the result: while it is away its session may end, and other
 * workers bind other ports. Whether another program has a port only the kernel knows: each BIND
 * asks it REGISTRY_TRIES times at most, then the others have their turn. What it found is
 * remembered for some seconds (ports.h), and all but the lowest of these are passed over.
 */
#ifndef CULVERT_SERVER_REGISTRY_H
#define CULVERT_SERVER_REGISTRY_H

#include "core/base/config.h"
#include "core/io/sock.h"
#include "core/mux/scram.h"
#include "core/wire/frame.h"
#include "core/wire/reason.h"
#include "server/client_key.h"

#include <stdbool.h>
#include <stdint.h>

/* Ports that one registry_bind tries to listen on; of these, ports that it tries although another
 * program had them some seconds ago: if that had only a few, the lowest free one is exact. */
#define REGISTRY_TRIES 32u
#define REGISTRY_AGAIN 8u

/* A client hears of a lost connection with its next PING at the latest, so after a heartbeat; then
 * it dials at once, three times with a patience of half a second and once of two (dialer.c). Who
 * has not come back by then has gone. */
#define REGISTRY_HEAL_NS (5 * NSEC_PER_SEC)

struct registry_tunnel {
    uint16_t port;
    char name[64];
    char origin[272];
};

/* A copy of a session's shared facts. Its secret is not one of them, so that they may be copied and
 * dumped: it is in secret memory (core/base/secret.h), and leaves the registry by registry_add
 * only. */
struct registry_session {
    uint64_t id;
    unsigned home; /* worker of lane 0 */
    uint16_t lanes;
    uint8_t version;
    uint32_t peer_window, peer_max_data;
    bool draining;
    bool resumes;
    bool tls; /* its lanes are TLS, all or none */
    struct client_key client;
    union sock_addr peer;  /* from where it logged in */
    uint32_t tunnel_count; /* 1 + the highest index that is bound */
    /* port 0: the index is not bound. In a copy only the first tunnel_count are filled in. */
    struct registry_tunnel tunnels[CONFIG_TUNNELS_MAX];
};

/* Where a session lives. */
struct registry_home {
    uint64_t session; /* 0: none */
    unsigned worker;
};

/* Once, before the workers start. False: out of memory. */
bool registry_open(const struct config *config);
void registry_close(void);

/* The next session id: 1, 2, 3, ... */
uint64_t registry_next_id(void);

struct registry_added {
    uint64_t replaced; /* the session of the same client that was taken out for it, which the
                          caller ends; 0: none */
    const char *blame; /* refused: who has how many already (share_blame) */
};

/* Registers a session (id from registry_next_id) with its secret. LIMIT_SESSIONS when there are
 * too many, or who comes has its share of them. */
enum reason registry_add(const struct registry_session *session,
                         const uint8_t secret[SCRAM_KEY_SIZE], struct registry_added *added);

/* Copies a session's facts, without its secret, and makes the proof of JOIN_OK, if that of JOIN
 * is right on this channel. UNKNOWN_SESSION otherwise, LIMIT_BUFFERS without memory: then *out is
 * not to be looked at. */
enum reason registry_join(const struct frame_join *join, const struct scram_channel *channel,
                          struct registry_session *out, uint8_t answer[FRAME_PROOF_SIZE]);

/* Copies a session's facts; false if it has ended. */
bool registry_get(uint64_t id, struct registry_session *out);

/* Where it lives only. */
bool registry_home(uint64_t id, struct registry_home *out);

/* Says whether a lane of the session has a connection from now (ns) on. A new session's lane 0
 * has. */
void registry_lane(uint64_t id, uint16_t lane, bool up, uint64_t now);

/* Marks the session as draining. */
void registry_drain(uint64_t id);

struct registry_owned {
    uint64_t session;
    uint32_t token; /* of its client */
};

/* Sessions, in portions: looks at so many places of the table from *place on (0 to begin), and
 * moves *place behind them. Returns how many it found there; *over: there are no places left. */
#define REGISTRY_PORTION 64u
unsigned registry_list(uint32_t *place, struct registry_owned found[REGISTRY_PORTION], bool *over);

/* Takes the session out; false if somebody else already did. */
bool registry_remove(uint64_t id);

struct registry_wish {
    uint16_t index;              /* of the tunnel, which the caller knows to be unbound */
    uint16_t wanted;             /* by number; 0: any */
    uint16_t ticket;             /* what a ticket says that the client had; 0: none */
    const union sock_addr *addr; /* where to listen */
    const struct registry_tunnel *what;
    uint64_t now; /* ns */
};

struct registry_bound {
    uint16_t port;
    int fd;
    int error;         /* errno of a try that failed for no fault of its port; 0: none did */
    uint16_t failed;   /* the port of that try */
    const char *given; /* PORT_FORBIDDEN: the ports that there are, if it is not one of them */
    const char *blame; /* PORTS_EXHAUSTED: whose share of them is used up (share_blame), or NULL */
    uint64_t evicted;  /* the session that lost its port to this one, which the caller ends */
    struct registry_home freed; /* a session that waits for a port, which is free again */
    bool closing;               /* the BIND waits: see below */
    bool later;                 /* enough was tried in one go: the caller asks again soon */
    unsigned tries, looked;     /* what it cost: ports tried, and steps under the mutex */
};

/*
 * Finds a public port for a tunnel of the session, one of config->ports: the wanted one, or when
 * that is 0 the one that this client had, or that of its ticket, or the lowest free one from the
 * start port upwards. A
 * wanted port of a session that is given up (see above) is taken from it. Opens its listening
 * socket (SO_REUSEPORT), and notes the tunnel.
 *
 * REASON_DONE with a port and a descriptor, or PORT_BUSY, PORT_FORBIDDEN, PORTS_EXHAUSTED,
 * LIMIT_DESCRIPTORS, SOCKET_ERROR (see `error`), UNKNOWN_SESSION.
 *
 * PORT_BUSY and `closing`: a port that this client has a claim to, but sockets of its old session
 * still listen there. A visitor who came to one of them would be reset with it, so there is no new
 * one beside them: the caller asks again when registry_port_unref (or `freed`) names its session.
 */
enum reason registry_bind(uint64_t id, const struct registry_wish *wish,
                          struct registry_bound *bound);

/* Takes back what registry_bind has noted of a tunnel that came to nothing, before its socket is
 * counted off by registry_port_unref: from then on the port is anybody's, and the index free. */
void registry_unbind(uint64_t id, uint16_t index, uint16_t port);

/* One more listening socket, about to be opened, on the port of a tunnel. False: the session has
 * ended, or has not this tunnel, its port is another session's meanwhile, or nobody listens there
 * any more: it was let go with its last socket, and counts for nobody. */
bool registry_port_ref(uint64_t id, uint16_t index, uint16_t port);

/* One less, which is closed. If it was the last one: the session that waits for the port. */
struct registry_home registry_port_unref(uint16_t port);

#endif
