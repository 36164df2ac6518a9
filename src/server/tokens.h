/*
 * tokens: the file of the tokens, read again on SIGHUP.
 *
 * A token that is new can log in, and one that is gone cannot, as soon as all workers have the
 * table that was made of the file (reload.h). Then the sessions of those that are gone end on every
 * worker: the registry forgets them first, so that no lane joins or comes back, then every worker
 * is told, as when a session is replaced. A file that cannot be used changes nothing.
 *
 * No log-in slips through: it is checked and put into the registry within one turn of a worker, and
 * a worker has one table for a turn. So when the last one has swapped its table, all that the old
 * one let in stand in the registry.
 */
#ifndef CULVERT_SERVER_TOKENS_H
#define CULVERT_SERVER_TOKENS_H

#include "core/base/config.h"
#include "server/auth.h"

#include <stdint.h>

struct message_type;

/* A message to all workers. */
typedef void tokens_tell(void *arg, const struct message_type *type, uint64_t session,
                         uint32_t number);

/* The thread of the service, as all of this; config->token_file is not NULL. The table of what is
 * in the file now, or NULL after saying why not. */
struct auth_table *tokens_read_again(const struct config *config, const struct auth_table *before,
                                     struct auth_change *change);

/* When all workers have this table: ends the sessions whose token is not in it, if the change says
 * that there may be some, and says what has changed. */
void tokens_changed(const struct auth_table *table, const struct auth_change *change,
                    tokens_tell *tell, void *arg);

#endif
