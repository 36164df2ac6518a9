/*
 * stream: one visitor's connection, as each side sees it: a local socket on one hand, a lane on the
 * other.
 *
 * "up" is from the local socket to the lane, "down" from the lane to the local socket, on both
 * sides.
 *
 * Life. FREE -> CONNECTING (client: the origin is being dialled) -> OPEN -> CLOSING -> FREE. How
 * far each direction has ended is kept in bits beside the state, because half-close is a property
 * of a direction:
 *
 *   UP_EOF      the local socket said FIN (or the v1 rule decided so)    nothing more is read
 *   UP_FIN      FIN was put on the lane                                  nothing more is sent up
 *   DOWN_FIN    the peer said FIN                                        nothing more arrives
 *   DOWN_SHUT   everything was delivered, and the socket was shut down for writing (or is closed in
 *               this very turn, because nothing else was missing)
 *   UP_RST      the local socket was reset     what was read before is still sent, then RESET
 *   DOWN_RST    the peer said RESET            what arrived before is still delivered, then RST
 *   DOWN_DEAD   the local socket takes nothing more; what it sent before is still read
 *
 * The last three are TCP's own order: a receiver reads what was queued before a reset. An origin
 * that answers and closes with input unread resets right behind its answer, and the visitor must
 * have that answer.
 *
 * UP_FIN and DOWN_SHUT together end the stream with DONE. Any error ends it with
 * stream_close(reason), which sends RESET and closes the local socket with RST. That is what the
 * socket does by itself, and when this process dies; only stream_join, for a good end, makes a FIN
 * of it. Closing is mark, join, free: stream_close marks, takes the stream off every queue and
 * cancels what is in flight; stream_join, at the end of a turn, frees the slot when nothing is in
 * flight any more, zero-copy notifications included, and nothing of the stream is in the lane's
 * bulk queue.
 *
 * A closing stream is looked at when something that it waits for has happened, and not otherwise:
 * there may be thousands that wait for a peer who does not read, and every turn of the worker would
 * go past them. Whatever ends a wait marks the stream (stream_mark): an operation's completion, a
 * notification, its last bulk that leaves the lane, room for its RESET (lane_line.c), the peer's
 * last word, the lane's end.
 *
 * A stream that needs its lane no more outlives it: all has arrived, FIN included, and all was
 * said. For the other end of the lane it is over, which may leave then; what is still to be
 * delivered here is whole, and lies in buffers that have their owner (share.h) though the lane is
 * gone. Such a stream is in table->orphans.
 *
 * RESET is the last that we say of a stream: it waits until what is queued of it as bulk is out,
 * and stands behind its data. To a peer that has said RESET, or after FIN in both directions,
 * nothing is said at all. The id on the wire (v2) outlives the stream: see lane_kept.c.
 *
 * Up: at most one buffer is `held` (read, not yet on the lane), and at most STREAM_BULK_PENDING
 * bytes of it stand in the lane's bulk queue. Small payloads are copied into the lane's pack
 * (copybreak), big ones are framed in place and referenced.
 *
 * Down: a queue of slices that reference the lane's read buffers. They are sent from where they
 * lie, those of one buffer together. When the local socket does not take them at once, or big
 * buffers run low, what is left is copied into small buffers of its own (stream_compact), so that a
 * slow reader does not keep a lane's buffers for itself. A send of much data waits in the kernel,
 * and is no such sign: a bulk stream may keep as many as its window lets come, until they run low.
 */
#ifndef CULVERT_CORE_MUX_STREAM_H
#define CULVERT_CORE_MUX_STREAM_H

#include "core/base/list.h"
#include "core/io/buf.h"
#include "core/io/loop.h"
#include "core/io/sock.h"
#include "core/io/timer.h"
#include "core/io/zero_copy.h"
#include "core/mux/lane.h"
#include "core/mux/role.h"
#include "core/wire/reason.h"
#include "core/wire/window.h"

#include <stdbool.h>
#include <stdint.h>

struct session_tunnel;
struct share;

enum stream_state { STREAM_FREE, STREAM_CONNECTING, STREAM_OPEN, STREAM_CLOSING };

enum stream_end {
    STREAM_UP_EOF = 1u << 0,
    STREAM_UP_FIN = 1u << 1,
    STREAM_DOWN_FIN = 1u << 2,
    STREAM_DOWN_SHUT = 1u << 3,
    STREAM_UP_RST = 1u << 4,
    STREAM_DOWN_RST = 1u << 5,
    STREAM_DOWN_DEAD = 1u << 6,
};

enum stream_flight { /* operations in flight */
                     STREAM_RECV = 1u << 0,
                     STREAM_SEND = 1u << 1,
                     STREAM_CONNECT = 1u << 2,
                     STREAM_BESIDE = 1u << 3,
};

/* Client: the way to the origin, which origin.c takes. Two connections at most are being made: one
 * becomes, or would become, the stream's fd (STREAM_CONNECT), one stands beside it (STREAM_BESIDE).
 * If the latter is first the two change places; what came second is closed when its connect has
 * ended. */
struct stream_way {
    uint64_t due;            /* ns: when the origin has had its time */
    int beside;              /* -1: none */
    uint8_t list;            /* which look-up the addresses are from ... */
    uint8_t first;           /* ... where in its list the stream began, ... */
    uint8_t next;            /* ... and how many addresses it has taken */
    uint8_t attempt[2];      /* of these, the ones that are being tried: as fd, and beside it */
    union sock_addr addr[2]; /* theirs; a new look-up may replace the list that they are from */
};

struct stream {
    struct loop *loop;
    struct stream_table *table;
    struct lane *lane;             /* NULL once closing, and nothing of it waits there */
    struct session_tunnel *tunnel; /* counters; valid as long as lane is */
    struct share *share;           /* of the visitor's address: owns what the stream takes */
    struct list lane_node;         /* in lane->streams, or table->orphans */
    struct list dirty_node;        /* in table->dirty */
    struct lane_waiter waiter;     /* for room on the lane; its node also in table->starved or
                                      short_of */
    struct list sweep_node;        /* in table->bulk_reads; closing: in table->closing,
                               when something has happened that it may have waited for */
    struct list wide_node;         /* in table->wide */
    struct timer timer;            /* connecting: another address, time-out; v1: quiet end, stall */

    uint32_t slot;
    uint32_t generation; /* of the slot, for operations */
    uint32_t wire_id;
    int fd;

    uint8_t state;  /* enum stream_state */
    uint8_t ends;   /* enum stream_end bits */
    uint8_t flight; /* enum stream_flight bits */
    uint8_t reason; /* enum reason, once closing */

    bool bulk;        /* reads go into big buffers */
    bool blocked;     /* the local socket did not take all: send with waiting */
    bool dry;         /* the last read emptied the socket: poll first */
    bool reset_due;   /* closing: RESET (v1: StreamClose) waits for its turn on the lane */
    bool lane_paused; /* v1: this stream holds up its lane */
    bool starved;     /* in table->starved or short_of */
    bool sending_all; /* the send in flight waits until all is sent */
    bool sending_zc;  /* the send in flight is zero-copy */
    bool polls_up;    /* the read in flight is a poll, and so is the send: see relay_splice.c */
    bool polls_down;
    bool ready;     /* up: there may be something to move */
    bool no_wait;   /* system calls on its socket do not wait */
    uint8_t swift;  /* up: reads in a row that were worth a pipe */
    uint8_t pieces; /* slices of the send in flight: the first ones of the queue */
    struct zero_copy zc;

    /* up */
    uint32_t held; /* buffer id or BUF_NONE */
    uint32_t held_offset;
    uint32_t held_size;
    uint32_t recv_buf; /* explicit buffer of the read in flight, or BUF_NONE */
    struct window_tx tx;
    uint64_t fin_at; /* UP_FIN: where it ends in the bytes of the lane's data pack */

    /* down */
    uint32_t head, tail; /* slices; SLAB_NONE when empty */
    uint32_t queued;     /* bytes */
    uint32_t sending;    /* bytes in flight */
    struct window_rx rx;

    struct stream_way way;
    union sock_addr visitor;       /* who it is for; AF_UNSPEC on a v1 client */
    uint64_t bytes_up, bytes_down; /* to the lane; from it, but for what was dropped undelivered */
    uint64_t opened;               /* ns */
    uint64_t recv_since;           /* ns: start of the bulk read in flight */
    uint64_t send_since;           /* ns: start of the send in flight */
    uint64_t heard;                /* ns: last payload in either direction (v1 rules) */
    /* ns: when the local socket last took bytes, or a v1 lane began to wait for it */
    uint64_t took;
    uint64_t acked; /* v1: bytes that the local peer had acknowledged when it was last asked */

    /* quiet.c */
    bool asked;            /* TCP asks whether the local peer is still there */
    bool broken;           /* one end was reset, and what was said before it is under way */
    uint64_t broken_at;    /* ns: when that was seen, or something moved since */
    uint64_t broken_moved; /* what had moved then */
    uint64_t idle_at;      /* --stream-idle, ns: when the local peer was seen to take bytes ... */
    uint64_t idle_acked;   /* ... and how many it had */
};

/* The rounds of quiet.c, in which all are looked at. */
struct stream_rounds {
    struct timer timer; /* set as long as there are streams */
    uint32_t next;      /* slot to look at */
    uint32_t begun;     /* rounds */
    uint64_t since;     /* ns: when this one began */
};

/* A worker's streams. */
struct stream_table {
    struct loop *loop;
    const struct role *role;
    unsigned op; /* enum stream_op: the first */
    struct slab slab;
    uint64_t unsent;        /* bytes that sockets of streams may take: STREAMS_UNSENT_PART */
    uint32_t bulk;          /* streams whose reads go into big buffers */
    struct list dirty;      /* to be pumped in this turn */
    struct list orphans;    /* lane gone, what has arrived is being delivered */
    struct list closing;    /* to be joined at the end of this turn, see above */
    struct list starved;    /* reads that found no small buffer */
    struct list short_of;   /* reads that wait until their owner has less, see share.h */
    struct list wide;       /* whose windows have grown; the longest unused first */
    struct list bulk_reads; /* with a read into a big buffer in flight */
    struct timer sweep;     /* of these that went quiet, see relay.c */
    struct stream_rounds rounds;
};

enum stream_op { STREAM_OP_RECV, STREAM_OP_SEND, STREAM_OP_CONNECT, STREAM_OPS };

/* user_data of an operation. aux: of a read or send its buffer; of a connect 1 if it is beside. */
static inline uint64_t stream_op(const struct stream *stream, enum stream_op op, uint32_t aux)
{
    return op_pack(stream->table->op + op, stream->slot, stream->generation, aux);
}

/* How long a round takes, ns; and the next one begins at that time, ns. */
uint64_t stream_round_time(const struct stream_table *table);
void stream_round_begins(struct stream_table *table, uint64_t when);

/* False: no memory; close is right either way. relay_open and quiet_init come next. */
bool stream_table_open(struct stream_table *table, struct loop *loop, const struct role *role);
void stream_table_close(struct stream_table *table);

/* The only one that writes a stream's state: asserts that the new one may follow. */
void stream_set_state(struct stream *stream, enum stream_state state);

/* A free slot as an OPEN or CONNECTING stream on `lane`, with its windows; NULL when the table
 * is full, or that of the ids, or the lane has its share of these. The caller has counted and
 * refuses; it has asked whether `share`, the owner of what the stream takes, may have another
 * stream, and a descriptor. Owns fd (-1 for none yet) and the reference on share, but not if it
 * fails. wire_id 0: made here. */
struct stream *stream_open(struct lane *lane, uint32_t wire_id, int fd, enum stream_state state,
                           struct share *share);

/* The stream's socket, and its end: as descriptors of its owner. Where there are many streams it
 * has a limit of what it takes (limits.h, STREAMS_UNSENT_PART). */
void stream_set_fd(struct stream *stream, int fd);
void stream_drop_fd(struct stream *stream);

/* The same for an attempt beside another one (way.beside). */
void stream_set_beside(struct stream *stream, int fd);
void stream_drop_beside(struct stream *stream);

/* Whose it is: counts in the tunnel. */
void stream_serve(struct stream *stream, struct session_tunnel *tunnel,
                  const union sock_addr *visitor);

/* Connects its socket, or the one beside it; the role's stream_connected is told. connected: that
 * one is, is the stream's from here on, and the stream is open; the other one, if there is one, is
 * beside it. */
void stream_connect(struct stream *stream, bool beside, const union sock_addr *addr);
void stream_connected(struct stream *stream, bool beside);

/* The stream of a wire id, NULL if it is gone; and one that is over here, but for the RESET that it
 * still has to say. */
struct stream *stream_find(struct lane *lane, uint32_t wire_id);
struct stream *stream_find_closing(struct lane *lane, uint32_t wire_id);

/* Marks those for whom there is room on their lanes again. */
void stream_woken(struct stream_table *table);

/* The stream of a completion: its slot is neither freed nor used again while an operation is in
 * flight. */
static inline struct stream *stream_from_op(struct stream_table *table, struct op op)
{
    struct stream *stream = slab_at(&table->slab, op.slot);

    CHECK(stream->state != STREAM_FREE && op_is_of(op, stream->generation));
    return stream;
}

/* Payload from the lane: `size` bytes at `offset` of buffer `buf` (the callee takes its own
 * reference). Window accounting was done with the frame's header. */
void stream_rx_push(struct stream *stream, uint32_t buf, uint32_t offset, uint32_t size);

/* The same straight from the lane's socket, at most `size` bytes, through a pipe: see sock_fill.
 * -ENOBUFS also where there is no pipe to be had, or what is queued is not in one. */
int stream_rx_fill(struct stream *stream, int lane_fd, uint32_t size, struct pipe_rest *rest);

/* Whether a pipe is the first of the queue. And: copies what is in it to small buffers, as far as
 * there are some; nothing is being sent. */
bool stream_is_in_pipe(const struct stream *stream);
void stream_unpipe(struct stream *stream);

/* Whether that may be: there is a local socket, and nothing stands against it. */
bool stream_may_fill(const struct stream *stream);

/* The peer's FIN, and its RESET. */
void stream_rx_fin(struct stream *stream);
void stream_rx_reset(struct stream *stream, enum reason reason);

/* Drops what waits for the local socket, except what the kernel is reading. */
void stream_rx_drop(struct stream *stream);

/* Copies every queued slice that is not in flight into small buffers, but for those that have a
 * buffer to themselves or fill half of a big one. False when out of small buffers. */
bool stream_compact(struct stream *stream);

/* Drops the first `bytes` of the queue, which were sent. */
void stream_rx_consume(struct stream *stream, uint32_t bytes);

/* The peer's RESET or FIN has come for a stream that is closing: perhaps its last word. */
void stream_peer_ended(struct stream *stream, bool reset);

/* Ends a stream for which there is no small buffer, with a word about who has them. */
void stream_refuse_buffers(struct stream *stream);

/* Payload that was handed on so far: up is from the visitor to the origin, whichever end asks. */
struct stream_moved {
    uint64_t up, down;
};
struct stream_moved stream_moved(const struct stream *stream);

/* Ends the stream. tell: the peer does not know yet, send RESET (v1: StreamClose). */
void stream_close(struct stream *stream, enum reason reason, bool tell);

/* The lane is gone: a stream that ends with it, or only delivers what has arrived, without a lane,
 * or that waited for room to say RESET. */
void stream_lane_lost(struct stream *stream, enum reason reason);

/* Frees a closing stream if nothing is in flight; true if freed. Otherwise what it waits for marks
 * it. */
bool stream_join(struct stream *stream);

/* To be pumped in this turn; closing: to be joined at its end. */
void stream_mark(struct stream *stream);

/* "stream 17 of session 3 (192.0.2.1:5000)", in a static thread-local buffer. */
const char *stream_subject(const struct stream *stream);

#endif
