/*
 * certificate: the server's TLS context: opened at start, read again on SIGHUP.
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

struct crypt;

/* False after saying what to change. */
bool certificate_open(const struct config *config, const union sock_addr *listen);

/* Any thread but the workers'. The old certificate stays in use when the new one cannot be read. */
void certificate_reload(const struct config *config);

/* From time to time in the same thread (now: ns, of a clock that nobody sets): one of ours that has
 * become due is renewed. */
void certificate_tick(const struct config *config, uint64_t now);
void certificate_close(void);

/* For a new lane; NULL: out of memory. Any worker. */
struct crypt *certificate_crypt(void);

#endif
