/*
 * trust: the client's TLS context, and the question to a human whether to trust a server that is
 * not known yet.
 *
 * Whom the client trusts: the CA of --tls-ca, the key of --tls-pin, or, without either, the file
 * known_servers in the state directory in the manner of ssh: a new key is shown and asked about on
 * the terminal (refused without one, unless --tls-accept-new), a changed key is refused.
 */
#ifndef CULVERT_CLIENT_TRUST_H
#define CULVERT_CLIENT_TRUST_H

#include "core/base/config.h"

#include <stdbool.h>

struct crypt;
struct message_type;
struct worker;

/* Whether lanes to this server are TLS: always with --tls or another flag of TLS, never with
 * --plain, otherwise unless it is this machine by its name (localhost, RFC 6761) or address. */
bool trust_wants_tls(const struct config *config, const struct config_endpoint *server);

/* Before the workers start. False after saying what to change. */
bool trust_open(const struct config *config);
void trust_close(void);

/* For a lane to this server; NULL: out of memory. */
struct crypt *trust_crypt(const struct config_endpoint *server);

/* Asks on the terminal, in a thread of its own; the answer comes to the worker as
 * `answer`, whose number is 1 if the key is trusted. */
void trust_ask(struct worker *worker, const struct config_endpoint *server, const char *pin,
               const struct message_type *answer);

#endif
