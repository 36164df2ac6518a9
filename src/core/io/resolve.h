/*
 * resolve: names to addresses without blocking a worker.
 *
 * getaddrinfo blocks (hosts file, DNS, NSS modules) and has no completion that a ring could wait
 * for, so each look-up runs in a short-lived helper thread. Rejected: a resolver of our own (it
 * would not honour nsswitch.conf), getaddrinfo_a (notifies by signal or by a thread it makes
 * itself), and one long-lived thread with a queue (one dead name server would hold up every other
 * look-up). Look-ups are rare: at start, at a reconnect, and when an origin's name is looked up
 * again.
 */
#ifndef CULVERT_CORE_IO_RESOLVE_H
#define CULVERT_CORE_IO_RESOLVE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/io/sock.h"

#define RESOLVE_MAX 16u /* more addresses than anyone tries in turn; the rest are dropped */

struct resolve_result {
    unsigned count; /* 0: failed, and `error` says why */
    union sock_addr
        addr[RESOLVE_MAX]; /* in the order to try (RFC 6724), families in turn, no duplicates */
    char error[128];       /* "cannot resolve 'HOST': Name or service not known", or that a zone's
                      * interface is not there */
};

/* Without a look-up: a numeric IPv4 or IPv6 host, or the empty host of a listen address, which
 * gives [::] and 0.0.0.0 (the second for machines without IPv6). False: not numeric, *out is
 * untouched. */
bool resolve_numeric(const char *host, uint16_t port, struct resolve_result *out);

/* Starts a look-up of both families. `done(arg, result)` is called once, ON THE HELPER THREAD,
 * which has all signals blocked; it owns the result and frees it with resolve_free(). It may be
 * called long after (a dead name server takes tens of seconds), so what `arg` points to must live
 * until then. Numeric hosts take the same way. False: no memory or no thread, and `done` will not
 * be called. */
bool resolve_start(const char *host, uint16_t port,
                   void (*done)(void *arg, struct resolve_result *result), void *arg);

/* Families in turn, so that one that leads nowhere is left after one attempt (RFC 8305, section 4).
 * Which is first, and the order within each, stay as they are. What look-ups give is so already. */
void resolve_alternate(struct resolve_result *result);

/* NULL is allowed. */
void resolve_free(struct resolve_result *result);

#endif
