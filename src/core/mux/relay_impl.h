/* relay_impl: what relay.c and relay_splice.c share besides relay.h. */
#ifndef CULVERT_CORE_MUX_RELAY_IMPL_H
#define CULVERT_CORE_MUX_RELAY_IMPL_H

#include "core/mux/stream.h"

#include <stdbool.h>
#include <stdint.h>

/* Reads in a row that were worth a pipe, before the next bytes go through one. */
#define SPLICE_SWIFT 3u
/* And how many in a row may bring less until it is read as before. */
#define SPLICE_PATIENCE 8u

/* relay.c: reads. What a read brought: bytes in `buf`; or the end or an error, told by res. */
void relay_recv(struct stream *s);
void relay_judge(struct stream *s, uint32_t size);
void relay_recv_data(struct stream *s, uint32_t buf, uint32_t size, bool more);
void relay_recv_nothing(struct stream *s, int res);

/* relay.c: it stands in this line of its lane at the end of the pump. */
void relay_wait_for_room(struct stream *s, enum lane_line_kind line);

/* relay.c: so many bytes were given to the lane; and the header in front of them. */
void relay_count_up(struct stream *s, uint32_t size);
struct frame relay_data_frame(const struct stream *s, uint32_t size, bool fin);

/* relay.c: so many bytes of the queue have left; or an error: none can any more. */
void relay_sent(struct stream *s, uint32_t bytes);
void relay_send_failed(struct stream *s, int error);

/* relay_splice.c: up: whether the next bytes are to go through a pipe, and what is next then; and
 * the poll for that has completed. */
bool relay_splices(const struct stream *s);
void relay_splice_up(struct stream *s);
void relay_splice_polled(struct stream *s);

/* relay_splice.c: what stands first in the queue and lies in pipes. False: the socket takes no
 * more, or the stream is over. */
bool relay_splice_down(struct stream *s);

#endif
