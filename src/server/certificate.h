/*
 * certificate: the server's TLS context: opened at start, read again on SIGHUP. Workers have it in
 * their snapshot (reload.h).
 *
 * Without --tls-cert the server makes itself a certificate in its state directory (once; it is
 * kept, and renewed from 30 days before its end, while the server runs too: the clock may have been
 * set meanwhile), or in memory where it can have no such directory, and prints the client's command
 * with its pin. One on loopback alone prints none: its clients need no TLS.
 */
#ifndef CULVERT_SERVER_CERTIFICATE_H
#define CULVERT_SERVER_CERTIFICATE_H

#include "core/base/config.h"
#include "core/io/sock.h"

#include <stdbool.h>

struct crypt_ctx;

/* Before there is a service; the rest is the service's, one call at a time. NULL after saying what
 * to change. */
struct crypt_ctx *certificate_open(const struct config *config, const union sock_addr *listen);

/* Another context, to take the place of the one in use; NULL: that stays, because the files cannot
 * be read, which is said, or there is nothing to read. */
struct crypt_ctx *certificate_read_again(const struct config *config);

/* Whether the one in use is in files that we made, which are renewed. */
bool certificate_is_own(const struct config *config);

/* Every few seconds (now: ns, of a clock that nobody sets), if it is our own: one that has become
 * due is renewed, and read again as above. */
struct crypt_ctx *certificate_look(const struct config *config, uint64_t now);

#endif
