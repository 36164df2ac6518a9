/*
 * identity: what tells this client from all others at a server, and stays the same when it is
 * started again.
 *
 * A server that still believes in the connection of a client that was killed, or whose machine was,
 * keeps its session for the grace time. When the same client logs in again the server ends that
 * session at once and gives its ports to the new one.
 *
 * The identity is made of what the machine, the user and the command line say, not of a file. Two
 * clients of one user with the same tunnels are told apart by a number: each takes the lowest that
 * nobody has, by binding a socket of the abstract namespace (unix(7)) with that name, which the
 * kernel frees when the process is gone, however it ends. It is no secret: a server compares it
 * only among sessions of the same token.
 */
#ifndef CULVERT_CLIENT_IDENTITY_H
#define CULVERT_CLIENT_IDENTITY_H

#include "core/base/config.h"
#include "core/wire/frame.h"

/* Once, before the workers start; and at the end. */
void identity_open(const struct config *config);
void identity_close(void);

/* Another one, that nobody had: somebody else has used ours at the server. */
void identity_renew(void);

/* Empty before identity_open. */
struct frame_text identity_get(void);

#endif
