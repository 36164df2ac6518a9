/*
 * stream_log: one line for each visitor's connection when it ends, at both ends (--log-visitors).
 *
 *     visitor: from=203.0.113.7:50000 tunnel=web port=10000 session=3 up=78 down=1234 ms=12
 *         reason=DONE by=both                                                   (one line)
 *
 * For programs that read it: the keys above in this order, then a client's `origin`; later ones may
 * follow behind. Values hold neither blanks nor '='; "-" is what is not known, or has no name.
 *
 * up is from the visitor to the origin, down towards the visitor, whichever end says so. Each
 * counts what it has handed on: to its local socket where it delivers, to the lane where it reads.
 * When both say DONE they say the same numbers; otherwise these differ by what was under way: one
 * end may be done while the local peer of the other still takes its last bytes, or resets.
 *
 * It is the operator who asked for a line each, so they have no limit (log_record), and are lost
 * only where nobody reads. Nothing of it is done where it is off: stream_close() asks once.
 */
#ifndef CULVERT_CORE_MUX_STREAM_LOG_H
#define CULVERT_CORE_MUX_STREAM_LOG_H

#include "core/io/sock.h"
#include "core/wire/reason.h"

#include <stdbool.h>
#include <stdint.h>

struct session_tunnel;
struct stream;
struct stream_table;

/* The stream ends, and still has all that it had. tell: the far end does not know yet. */
void stream_log_end(const struct stream *stream, enum reason reason, bool tell);

/* One that is turned away before there is a stream, if these lines are wanted. tunnel: NULL if
 * there is none; port: where it came, 0: not known. */
void stream_log_refused(const struct stream_table *table, uint64_t session,
                        const struct session_tunnel *tunnel, uint16_t port,
                        const union sock_addr *visitor, enum reason reason);

#endif
