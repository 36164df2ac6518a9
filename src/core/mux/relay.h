/*
 * relay: the pump between a stream's local socket and its lane. The same code on both sides.
 *
 * Completions record and mark the stream dirty (relay_*_done); relay_pump, once per dirty stream
 * and turn, decides from state alone what to submit next. Three rules decide everything:
 *
 *   read up    if and only if there is credit, nothing held, none in flight, and the lane's bulk
 *              queue is below its share: BACKPRESSURE LIVES HERE
 *   send up    what is held, when the lane has room; otherwise wait in the lane's line
 *   send down  the first slices, one send in flight
 *
 * Reads start small: a buffer that the kernel picks from the provided ones when data is there, so
 * that an idle stream holds none. A read that fills its small buffer makes the stream `bulk`: the
 * next read names a big buffer. A bulk read that brings less than a small buffer, or brings nothing
 * for BULK_QUIET, makes it small again (stream_table.sweep cancels the latter).
 *
 * Sends of little data try without waiting first: a socket that takes all at once, the usual case,
 * costs one completion and no copy. One that does not is `blocked` until its queue is empty again
 * or it has taken the rest quickly, and its bytes move to small buffers. A bulk stream with its
 * socket full meets that now and then, whenever a small piece is all that waits: were it to stay
 * blocked, everything behind would be copied, and sent in pieces of 8 KiB.
 *
 * A RESET for the local socket's reset follows the data that was read before it, and the receiver
 * delivers that data first: as TCP does, and as an origin that answers and closes with unread input
 * relies on.
 */
#ifndef CULVERT_CORE_MUX_RELAY_H
#define CULVERT_CORE_MUX_RELAY_H

#include "core/mux/stream.h"

/* Registers what streams submit. */
void relay_open(struct stream_table *table);

void relay_pump(struct stream *stream);

/* Puts streams whose reads found no small buffer back to work. */
void relay_unstarve(struct stream_table *table);

/* The same for those whose owner had its share of them and may have more now: at most so many. */
void relay_unwait(struct stream_table *table, unsigned most);

#endif
