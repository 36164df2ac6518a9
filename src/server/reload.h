/*
 * reload: what a server reads anew while it runs, by the service (core/run/service.h): its
 * certificates and its tokens. Both are one snapshot (core/run/snapshot.h), with which workers let
 * clients in; a reload makes another one of what it has read, and of the old one's part where
 * nothing was to be read or it could not be used.
 *
 *   SIGHUP, or a look at our own certificate -> read -> to all workers -> they have swapped
 *                                                -> sessions of tokens that are gone end, and the
 *                                                   log says what is in force from here on
 *
 * The service waits for no worker in between. What is wanted meanwhile is done afterwards: a SIGHUP
 * is never lost, and those that come while one waits are one.
 */
#ifndef CULVERT_SERVER_RELOAD_H
#define CULVERT_SERVER_RELOAD_H

#include "core/base/config.h"
#include "core/io/sock.h"
#include "core/run/snapshot.h"
#include "server/tokens.h"

#include <stdbool.h>

struct auth_table;
struct crypt_ctx;

struct reload_snapshot {
    struct snapshot snapshot;
    struct crypt_ctx *crypt; /* NULL: --plain */
    struct auth_table *tokens;
};

/* How the service reaches all workers that still run; called in its thread. */
struct reload_workers {
    void *arg; /* of both */
    tokens_tell *tell;
    /* worker_change_from_thread, for each. */
    void (*change)(void *arg, struct snapshot_change *change);
};

/* The first snapshot; takes the tokens out of *config, which is not copied. Before the workers are
 * opened. False after saying what to change. */
bool reload_open(struct config *config, const union sock_addr *listen);

/* When no worker and no service is there any more. */
void reload_close(void);

/* A reference to the newest, for a worker that is opened (role.h). Not while a service runs. */
struct snapshot *reload_first(void);

/* When there is a service: from here on it looks after our own certificate, and reloads. */
void reload_serve(const struct reload_workers *workers);

/* SIGHUP: all is read again, soon; or once more if that is being done. Any thread. */
void reload_all(void);

#endif
