/*
 * quiet: streams of which no completion tells anything.
 *
 * That a local socket was reset is told to whoever reads it or sends to it. Of a stream that does
 * neither nobody would learn it: its credit is used up, its lane is lost, held or full, its local
 * peer has said FIN. So all streams of a worker are looked at in rounds (limits.h, QUIET_*), and
 * those without a read or a send in flight are asked for errors, many by one poll(2). It costs the
 * data path nothing. The rounds go on as long as there are streams.
 *
 * What comes of it:
 *
 *   broken   The socket has an error, or a read or send was told of one and could not end the
 *            stream yet. What was read before, or lies in the socket, goes on as long as some of it
 *            moves; when nothing has for QUIET_BROKEN_NS, the stream ends. The same for one that
 *            the peer has reset, whose last bytes the local peer is to have: QUIET_LAST_NS.
 *   silent   Bytes wait for the local peer, which does not answer: TCP would go on for a quarter
 *            of an hour. (If nothing waits TCP asks by itself: sock_ask_peer.)
 *   idle     --stream-idle: nothing has moved. A send that waits moves without a word: when TCP
 *            still has bytes for the local peer, it counts whether that has taken some since the
 *            last look, so that a stream whose reader is slow ends after twice the time at most.
 *
 * Rejected: IORING_OP_POLL_ADD for each stream that stops reading, because a bulk stream does that
 * at each window, and the poll would have to be cancelled each time.
 */
#ifndef CULVERT_CORE_MUX_QUIET_H
#define CULVERT_CORE_MUX_QUIET_H

struct stream_table;

/* Before the first stream: the rounds begin with it, and go on as long as there are any. */
void quiet_init(struct stream_table *table);

#endif
