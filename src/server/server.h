/* server: the role that accepts lanes and visitors. */
#ifndef CULVERT_SERVER_SERVER_H
#define CULVERT_SERVER_SERVER_H

#include "core/base/config.h"
#include "core/io/sock.h"
#include "core/mux/role.h"
#include "server/tokens.h"

#include <stdbool.h>

extern const struct role server_role;

/* Before the workers are opened: resolves the listen and public addresses, checks that the
 * tunnel port can be had, opens the registry, and takes the tokens out of *config (auth.h). 0,
 * or an exit code after saying what to change. A listen port of 0 is replaced by the one that
 * the kernel chose. */
int server_prepare(struct config *config);

/* SIGHUP, in the thread of signals: reads certificate and key again, without touching lanes that
 * are up, and the file of the tokens: sessions whose token is not there any more end. */
void server_reload(const struct config *config, tokens_tell *tell, void *arg);

/* From time to time, in the thread of signals: what is to be done by the clock. */
void server_tick(const struct config *config, uint64_t now);

/* After the workers have ended. */
void server_finish(void);

#endif
