/*
 * session: one worker's part of a session: its lanes and tunnels here.
 *
 * A session whose lanes are on several workers has a part on each; what they share is kept by the
 * role (the server's registry, the client's worker 0). A part lives from its first lane to the end
 * of the session. The part on the server also owns the public listeners of its tunnels on this
 * worker.
 */
#ifndef CULVERT_CORE_MUX_SESSION_H
#define CULVERT_CORE_MUX_SESSION_H

#include "core/base/chain.h"
#include "core/base/config.h"
#include "core/base/list.h"
#include "core/io/loop.h"
#include "core/io/sock.h"
#include "core/io/timer.h"
#include "core/mux/role.h"
#include "core/wire/reason.h"

#include <stdbool.h>
#include <stdint.h>

struct lane;
struct listener;
struct share;

struct session_tunnel {
    bool bound;
    /* server: its BIND has no answer yet: the port that it has a claim to is still being closed, or
     * an earlier BIND waits */
    bool waits;
    bool refused; /* server: and the log has said so; what a client asks again is not said again */
    uint16_t wanted, ticket;
    uint16_t index;
    uint16_t port;
    struct listener *listener;            /* server */
    struct share *share;                  /* see session_tunnel_share */
    uint64_t streams, to_lane, from_lane; /* bytes handed on: read here, delivered here */
    char name[64];
    char origin[272]; /* HOST:PORT */
};

/* The last small frame of a sparse stream. */
struct session_sparse {
    uint64_t heard; /* ns */
    uint32_t id;    /* whose, ... */
    uint16_t lane;  /* on which lane */
};

struct session {
    struct loop *loop;
    struct session_table *table;
    struct list node; /* in table->all; closing: table->closing */
    uint64_t id;
    uint32_t slot;
    struct share *share; /* owns, together with all below, what the session takes here */
    uint8_t version;
    bool closing;
    bool draining; /* no new streams */
    uint64_t told; /* ns: when the log last said what befell one of its lanes; 0: never */
    struct session_sparse sparse;
    uint32_t lane_count;
    struct list lanes;
    struct session_tunnel tunnels[CONFIG_TUNNELS_MAX];
    uint32_t tunnel_count;
};

/* A worker's parts of sessions. */
struct session_table {
    struct loop *loop;
    const struct role *role;
    struct slab slab;
    struct chain ids; /* those of `all`, by id */
    struct list all, closing;
};

/* Of so many. False: no memory; close is right either way. */
bool session_table_open(struct session_table *table, struct loop *loop, const struct role *role,
                        uint32_t count);
void session_table_close(struct session_table *table);

/* Takes over the reference on share. NULL when the table is full. */
struct session *session_open(struct session_table *table, uint64_t id, uint8_t version,
                             struct share *share);

/* At the end of a turn, of a session that was closed. */
void session_free(struct session *session);

/* The part of a session here that is not closing; NULL if there is none. In a few steps, however
 * many there are. */
struct session *session_find(struct session_table *table, uint64_t id);

/* It is closing from here on, and found no more; freed at the end of the turn. False: it was
 * closing already. See lane_session_close, which ends its lanes as well. */
bool session_leave(struct session *session);

/* Whether the log tells what has just befallen one of the lanes: not within ten seconds of another
 * one, which was of the same kind and had the same cause, as a rule. */
bool session_tells(struct session *session);

/* Its part drains: no new streams. */
void session_drain(struct session *session);

/* The place of a tunnel, below CONFIG_TUNNELS_MAX, which counts as one of the session's from here
 * on. */
struct session_tunnel *session_tunnel_place(struct session *session, unsigned index);

/* Tunnel of an index, NULL if not bound. */
struct session_tunnel *session_tunnel(struct session *session, uint16_t index);

/* The tunnel's name as lines of the log, of the summary and of visitors may have it, and `none`
 * where it has no name. A client chooses it, and may call its tunnel "x reason=DONE": other
 * letters than those of --name are "_". */
void session_tunnel_name(const struct session_tunnel *tunnel, const char *none, char *dst,
                         size_t size);

/* The owner of what a visitor from this address takes in the tunnel, with a reference for the
 * caller. */
struct share *session_tunnel_share(struct session *session, struct session_tunnel *tunnel,
                                   const union sock_addr *visitor);

#endif
