/*
 * tokens: the file of the tokens, read again on SIGHUP.
 *
 * A token that is new can log in as soon as the file was read, and the sessions of one that is not
 * there any more end on every worker: the registry forgets them first, so that no lane joins or
 * comes back, then every worker is told, as when a session is replaced. A file that cannot be used
 * changes nothing.
 *
 * A log-in that is under way has been checked against the old tokens, or is not in the registry yet
 * when this looks there. So who has put a session there asks for its token once more: either that
 * comes after the change of the tokens and sees it, or the look at the registry, which comes after
 * the change, sees the session.
 */
#ifndef CULVERT_SERVER_TOKENS_H
#define CULVERT_SERVER_TOKENS_H

#include "core/base/config.h"

#include <stdint.h>

struct message_type;

/* A message to all workers. */
typedef void tokens_tell(void *arg, const struct message_type *type, uint64_t session,
                         uint32_t number);

/* The thread of signals; config->token_file is not NULL. */
void tokens_reload(const struct config *config, tokens_tell *tell, void *arg);

#endif
