/*
 * demux: what has arrived on lanes, frame by frame.
 *
 * A lane puts bytes into its buffer, says so (lane_table.arrived) and knows nothing of what is in
 * them. The worker pulls, after the completions: records are opened as far as there is room
 * (lane_rx_open), frames are handled in order. What is about a stream goes to the stream, what is
 * about the session to the role, what is about the lane (PING, counts) back to the lane. DATA is
 * handed to its stream in pieces as it arrives; control frames are handled whole.
 *
 * Bulk. On a plain v2 lane that keeps no log the rest of a large frame is not read: it moves to a
 * pipe of its stream, and behind it exactly a header is read, so that the next large frame moves as
 * a whole. The lane is polled meanwhile. When something small comes it is read as before, little at
 * a time for a while; when there is no pipe, or a stream's are full, what comes next is read and
 * copied: a lane never waits for a stream.
 *
 * A server handles so many frames of one owner in a turn, over all its lanes (TURN_FRAMES). What is
 * left waits in lane_table.late for the next one.
 *
 * What arrives for a stream that is not there was on its way when that ended, and is dropped
 * (docs/PROTOCOL.md, section 6).
 */
#ifndef CULVERT_CORE_MUX_DEMUX_H
#define CULVERT_CORE_MUX_DEMUX_H

#include <stdbool.h>
#include <stdint.h>

struct lane;
struct lane_table;
struct stream_table;

/* These streams are carried on these lanes. */
void demux_open(struct lane_table *lanes, struct stream_table *streams);

/* A new turn: lanes go on with frames that were too many for the one before. */
void demux_late(struct lane_table *lanes);

/* All that has arrived. */
void demux_pull(struct lane_table *lanes);

/* Client: `from`, a connection that has just been told JOIN_OK, carries the still lane from here
 * on, and what came behind JOIN_OK is the lane's; `from` is left without a socket, and the caller
 * closes it. False: the server's count cannot be, the lane stays frozen. */
bool demux_resume(struct lane *lane, struct lane *from, uint64_t peer_rx);

#endif
