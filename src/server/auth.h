/* auth: who may open a session. A server may have several tokens, one in each line of its token file, so that clients need not share one. */
#ifndef CULVERT_SERVER_AUTH_H
#define CULVERT_SERVER_AUTH_H

#include "core/config.h"
#include "core/reason.h"
#include "core/sock.h"

#include <stdbool.h>
#include <stddef.h>

/* Compares in a time that depends on `given_size` only. */
bool auth_equal(const void *expected, size_t expected_size, const void *given, size_t given_size);

/* Which of the tokens it was, by its line, is written to *which. REASON_DONE, AUTH_FAILED, or AUTH_REMOTE_DEV_TOKEN when the server has no token of its own and the peer is not on loopback. */
enum reason auth_check(const struct config *config, const union sock_addr *peer, const void *token,
                       size_t size, unsigned *which);

#endif
