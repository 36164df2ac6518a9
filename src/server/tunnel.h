/*
 * tunnel: the public ports of the server's sessions. BIND asks for one; each worker that has a lane
 * of the session listens on it.
 *
 * A client that comes again gets the ports that its old session had. BIND is answered when no
 * socket of that session listens there any more, on any worker: until then a visitor may be given
 * to one of them by the kernel, and is reset with it. What waits for that is in the session's
 * tunnels (session_tunnel.waits), and answers go out in the order of the indices. Whoever closes
 * the last socket tells the session that waits, and no other. A BIND that met many ports of other
 * programs waits in the same way, for a turn of everybody else.
 */
#ifndef CULVERT_SERVER_TUNNEL_H
#define CULVERT_SERVER_TUNNEL_H

#include "core/io/sock.h"
#include "core/wire/reason.h"

#include <stdbool.h>
#include <stdint.h>

struct lane;
struct message_type;
struct registry_session;
struct session;
struct worker;

/* Once, before the workers start: the address of public ports, and whether clients are told of
 * it. */
void tunnel_open(const union sock_addr *addr, bool named);

/* BIND on lane 0: answers it, or lets it wait. A reason other than REASON_DONE is a violation. */
enum reason tunnel_bind(struct lane *lane, const uint8_t *src, const uint8_t *end);

/* v1 has no BIND: BindOK follows AuthOK at once. */
enum reason tunnel_bind_v1(struct lane *lane);

/* The session is over, `number` says why (enum reason). */
extern const struct message_type tunnel_session_over;

/* What the registry knows and this worker's part of the session does not have yet; nothing where no
 * visitor is let in any more. */
void tunnel_copy(struct session *session, const struct registry_session *shared);

/* No new visitors here: the listeners close. stop: nor any that another worker has for it. */
void tunnel_close(struct session *session);
void tunnel_stop(struct session *session);

/* The ports of this session are somebody's who has come instead of its client, which is a new
 * process of the same, or one with the same token. The registry has it no more; its visitors are
 * told now. */
void tunnel_replace_session(struct worker *worker, uint64_t id, const char *why);

#endif
