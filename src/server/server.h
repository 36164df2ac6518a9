/* server: the role that accepts lanes and visitors. */
#ifndef CULVERT_SERVER_SERVER_H
#define CULVERT_SERVER_SERVER_H

#include "core/base/config.h"
#include "core/io/sock.h"
#include "core/mux/role.h"
#include "server/reload.h"

#include <stdbool.h>

extern const struct role server_role;

/* Before the workers are opened: resolves the listen and public addresses, checks that the
 * tunnel port can be had, opens the registry, and takes the tokens out of *config (auth.h). 0,
 * or an exit code after saying what to change. A listen port of 0 is replaced by the one that
 * the kernel chose. */
int server_prepare(struct config *config);

/* When there is a service (core/run/service.h): what is done beside the workers (reload.h). */
void server_serve(const struct reload_workers *workers);

/* SIGHUP, which waits for nothing: certificate, key and the file of the tokens are read again,
 * without touching lanes that are up; sessions whose token is not there any more end. */
void server_reload(void);

/* After the workers and the service have ended. */
void server_finish(void);

#endif
