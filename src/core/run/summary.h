/*
 * summary: what an instance did, per tunnel, kept for the lines that are printed at the end. Parts
 * of a session report when they close (any worker, guarded by a mutex: control plane); the oldest
 * rows are folded into one when the table is full.
 *
 * Bytes are payload that was handed on: to the lane where it was read, to the local connection
 * where it was delivered. "Up" is from visitors to origins and "down" is back, whichever end says
 * so, as in the lines of --log-visitors. The totals are the sum of the rows; what streams deliver
 * that have outlived their session has a row of its own.
 */
#ifndef CULVERT_CORE_RUN_SUMMARY_H
#define CULVERT_CORE_RUN_SUMMARY_H

#include "core/base/stats.h"
#include "core/mux/session.h"

#include <stdint.h>
#include <stdio.h>

#define SUMMARY_ROWS 64u

/* Adds a session part's tunnels. */
void summary_session(const struct session *session);

/* Client: tunnel `index` was never ready. */
void summary_missing(unsigned index, uint16_t port, const char *origin, const char *why);

/* Prints the rows: connections, sessions, streams, bytes, uptime (ns), then one line per tunnel,
 * and per one that never was. Without a session there is nothing to say of streams. */
void summary_print(FILE *out, const struct stats *sum, uint64_t uptime, bool server);

#endif
