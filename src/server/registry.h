/*
 * registry: what the server's workers share: sessions and public ports.
 *
 * Touched when a client logs in, binds, joins a lane or leaves, never for a stream: a mutex is enough, and the data path stays free of locks. A
 * session's parts on the workers copy what they need from here.
 *
 * A client that is started again while its old session still stands is known by its identity and token: the old session goes, its ports are the new one's. The
 * ports of sessions that have ended are remembered for a while, so that a client which comes back finds them, if nobody else took them.
 *
 * A public port is taken from the moment a session asks for it until the last worker has closed its listening socket (a port counted as free
 * while a socket is still bound would be skipped by the next client that wants it).
 */
#ifndef CULVERT_SERVER_REGISTRY_H
#define CULVERT_SERVER_REGISTRY_H

#include "core/config.h"
#include "core/frame.h"
#include "core/reason.h"
#include "core/scram.h"
#include "core/sock.h"

#include <stdbool.h>
#include <stdint.h>

struct registry_tunnel {
    uint16_t port;
    char name[64];
    char origin[272];
};

/* A copy of a session's shared facts. Its secret is not one of them, so that they may be copied and
 * dumped: it is in secret memory (core/secret.h), and leaves the registry by registry_add only. */
struct registry_session {
    uint64_t id;
    unsigned home; /* worker of lane 0 */
    uint16_t lanes;
    uint8_t version;
    uint32_t peer_window, peer_max_data;
    bool draining;
    bool resumes;
    bool lost;                        /* its lane 0 has no connection at the moment */
    uint8_t client[FRAME_CLIENT_MAX]; /* identity; client_size 0: not known */
    uint8_t client_size;
    unsigned token;                                     /* which one it showed */
    union sock_addr peer;                               /* from where it logged in */
    uint32_t tunnel_count;                              /* 1 + the highest index that is bound */
    struct registry_tunnel tunnels[CONFIG_TUNNELS_MAX]; /* port 0: the index is not bound */
};

/* Once, before the workers start. False: out of memory. */
bool registry_open(const struct config *config);
void registry_close(void);

/* The next session id: 1, 2, 3, ... */
uint64_t registry_next_id(void);

/* Registers a session (id from registry_next_id) with its secret. *replaced: the id of the
 * session of the same client that was taken out for it, which the caller ends; 0 if there was
 * none. LIMIT_SESSIONS when full. */
enum reason registry_add(const struct registry_session *session,
                         const uint8_t secret[SCRAM_KEY_SIZE], uint64_t *replaced);

/* Copies a session's facts, without its secret, and makes the proof of JOIN_OK, if that of JOIN
 * is right on this channel. UNKNOWN_SESSION otherwise. */
enum reason registry_join(const struct frame_join *join, const struct scram_channel *channel,
                          struct registry_session *out, uint8_t answer[FRAME_PROOF_SIZE]);

/* Copies a session's facts; false if it has ended. */
bool registry_get(uint64_t id, struct registry_session *out);

/* Says whether the session's lane 0 has a connection. */
void registry_lost(uint64_t id, bool lost);

/* Marks the session as draining. */
void registry_drain(uint64_t id);

/* Takes the session out; false if somebody else already did. */
bool registry_remove(uint64_t id);

struct registry_bound {
    uint16_t port;
    int fd;
    uint64_t
        evicted; /* the session that lost its port to this one, which the caller ends; 0: none */
    bool closing;
};

/* Finds a public port for tunnel `index` of the session, which the caller knows to be unbound: `wanted`, or when 0 the one that this client had, or `ticket` (0: none), or the
 * first free one from the start port upwards. A wanted port that a lost session of the same token has is taken from it. Opens its listening socket
 * (SO_REUSEPORT) on `addr`, and notes the tunnel. REASON_DONE with a port and a descriptor, or PORT_BUSY, PORT_FORBIDDEN, PORTS_EXHAUSTED, LIMIT_DESCRIPTORS,
 * UNKNOWN_SESSION. PORT_BUSY and `closing`: a port that this client has a claim to, but sockets of its old session still listen there. A visitor who came to one of them would be
 * reset with it, so there is no new one beside them: the caller asks again when registry_port_unref says that somebody waits. */
enum reason registry_bind(uint64_t id, uint16_t index, const union sock_addr *addr, uint16_t wanted,
                          uint16_t ticket, const struct registry_tunnel *what,
                          struct registry_bound *bound);

/* Takes back what registry_bind has noted of a tunnel that came to nothing, before its socket is
 * counted off by registry_port_unref: from then on the port is anybody's, and the index free. */
void registry_unbind(uint64_t id, uint16_t index, uint16_t port);

/* One more listening socket, about to be opened, on the port of a tunnel. False: the session has ended, or has not this tunnel. */
bool registry_port_ref(uint64_t id, uint16_t index, uint16_t port);

/* One less. True if it was the last one of a port that a session waits for. */
bool registry_port_unref(uint16_t port);

#endif
