/*
 * lane: one TCP connection that carries frames of a session.
 *
 * Receiving. A lane is always reading (except a v1 lane held up by a slow stream: v1 has no
 * windows), into a small buffer that the kernel picks or, when it is busy, into a big one: parsed
 * <= filled <= size. Headers and control frames are parsed where they lie; DATA payload is handed
 * to its stream as a reference, in pieces as it arrives, so that a frame of 16 MiB needs no buffer
 * of that size. What is left unparsed is moved to the next buffer (less than one control frame); a
 * lane with nothing unparsed holds no buffer. Where payload is moved, not read (demux.c), it polls.
 *
 * Sending. Three queues, one sendmsg in flight, in this order:
 *   control  PING, WINDOW, handshake frames: a pack (contiguous bytes), its space is theirs alone.
 *            Packs hold a buffer only while they hold bytes, or while the log keeps some of it; a
 *            control pack begins small
 *   data     OPEN, RESET, and DATA frames of small payload, copied: a pack; 64 small frames leave
 *            as one piece of memory
 *   bulk     DATA frames framed in place in big buffers: references, up to LANE_BULK_BYTES, sparse
 *            streams never wait behind them; or what lies in a pipe, with its header beside it,
 *            which goes out by itself and at once, as far as the socket takes it
 * Order that matters is kept: within a stream, small data follows its bulk only when the bulk is
 * out (pending == 0, otherwise it goes into the bulk queue as well); OPEN is in the data pack
 * so that it cannot overtake the last data of the stream whose id it has, and RESET so that it is
 * the last of its stream (lane_kept.c). A frame once begun is finished before another is put on the
 * wire.
 *
 * Connection. What is known of the connection that carries a lane is a conn (conn.h): the lane
 * gives it pieces, and takes bytes of frames or reasons. One that is to be TLS begins in the state
 * TLS; conn_crypt.c has the handshake and the user-space records, which lie between the socket and
 * the buffers above. Where a server takes TLS and plain lanes on one port, such a lane becomes a
 * plain one when its first byte begins no TLS record.
 *
 * Life. CONNECTING -> (TLS ->) OPEN (<-> FROZEN) -> (LINGER ->) CLOSING -> freed. lane_close is the
 * exit that tells nobody; lane_finish first gets the last words (AUTH_ERR, GOAWAY) to the peer: it
 * ends the session's business at once, then sends what is queued, FIN, and reads and drops until
 * the peer closes too or LANE_LINGER_NS is over. A plain close with unread input would be an RST,
 * which can destroy those words on their way (RFC 1122, 4.2.2.13).
 */
#ifndef CULVERT_CORE_MUX_LANE_H
#define CULVERT_CORE_MUX_LANE_H

#include "core/base/list.h"
#include "core/io/buf.h"
#include "core/io/limits.h"
#include "core/io/loop.h"
#include "core/io/ring.h"
#include "core/io/sock.h"
#include "core/io/timer.h"
#include "core/mux/conn.h"
#include "core/mux/crypt.h"
#include "core/mux/retain.h"
#include "core/mux/role.h"
#include "core/mux/scram.h"
#include "core/mux/strangers.h"
#include "core/wire/frame.h"
#include "core/wire/reason.h"
#include "core/wire/session_fsm.h"
#include "core/wire/window.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct session;
struct share;
struct stream;
struct stream_table;

enum lane_state {
    LANE_FREE,
    LANE_CONNECTING,
    LANE_TLS,
    LANE_OPEN,
    LANE_FROZEN, /* its connection is lost, it waits for another one: see lane_resume.c */
    LANE_LINGER,
    LANE_CLOSING
};

struct lane_pack { /* [sent, filled) waits or is in flight */
    uint32_t buf;  /* BUF_NONE when empty */
    uint32_t sent, filled;
};

/* Who sends on a lane, as the lane sees it: a part of a stream. `woken` is in loop->woken when
 * there is room. */
struct lane_waiter {
    struct list node; /* in one of the lane's lines; while it stands in none its owner's */
    struct list woken;
    uint32_t pending; /* bytes of it in the bulk queue */
    uint8_t line;     /* enum lane_line_kind: where it stands */
    uint8_t refused;  /* the same: what it found no room for in this pump */
    bool turn;        /* it has its turn in that line */
};

struct lane_segment {
    uint32_t buf;
    uint32_t offset, size;
    struct lane_waiter *waiter; /* NULL: nobody counts it any more */
    /* of what lies in a pipe; its first bytes on the wire, which are counted in `size` */
    uint8_t header[FRAME_HEADER_MAX];
};

/* Server, v2: one id of the wire, in table->ids: generation << STREAM_SLOT_BITS | its place
 * there. */
struct lane_id {
    struct list node;    /* over: in one of lane->kept */
    uint64_t until;      /* over: the peer's count that it waits for */
    uint32_t generation; /* 1 .. STREAM_GENERATION_MAX */
    uint32_t stream;     /* slot + 1; 0: none */
};

/* Positions in the three queues: bytes since the lane began. */
struct lane_marks {
    uint64_t control, data, bulk;
};

/* No count above `count` is told until the marks are passed. */
struct lane_fence {
    bool stands;
    uint64_t count;
    struct lane_marks marks;
};

/* Ids of streams that are over, and what must not be told yet: see lane_kept.c. */
struct lane_kept {
    struct lane_marks left; /* what was given to the wire */
    uint32_t count;         /* ids in the three lists */
    struct list fresh, queued, sent;
    struct lane_marks until; /* of `queued` */
    uint64_t counted;        /* the highest count that the peer has told in PING or PONG */
    bool peer_counts_not;
    uint32_t unasked; /* in `sent` since the last PING */
    struct lane_fence fences[2];
    uint64_t told; /* our count when the peer last heard it in PING or PONG */
};

/* What a stream waits for: see lane_line.c. */
enum lane_line_kind {
    LANE_LINE_NONE,
    LANE_LINE_BULK,
    LANE_LINE_DATA,
    LANE_LINE_CONTROL,
    LANE_LINE_RESET,
    LANE_LINES
};

struct lane_line {
    struct list waiters; /* in turn */
    struct list *next;   /* the first that has had no turn since there is room; the head: none */
};

/* What has arrived and nobody has looked at, as demux.c goes through it. */
struct lane_in {
    struct list arrived_node; /* in table->arrived */
    struct list late_node;    /* in table->late: frames that were read wait for a turn */
    struct frame frame;       /* DATA in progress if left > 0 */
    uint32_t left;
    /* whose; NULL: it was not there when the frame began, or has left meanwhile */
    struct stream *stream;
    /* what comes next is moved through pipes, and the lane is polled, not read: see demux.c */
    bool splices;
    bool ready;    /* there may be something */
    bool ended;    /* the peer has, behind what is there */
    bool full;     /* pipes took no more: what comes next is read, whatever it is */
    uint8_t small; /* so many reads are small ones: behind them something large may come again */
};

/* Wire ids where the low bits of an id are no place in a table here. */
struct lane_ids {
    uint32_t *map; /* client, and v1: wire id -> slot + 1 (mem_map) */
    uint32_t mask;
    uint32_t next; /* v1 server: next stream id */
};

/* What its two ends have agreed on. */
struct lane_terms {
    uint32_t window;   /* initial credit of a new stream, as the peer gives it */
    uint32_t max_data; /* payload of a DATA frame, as the peer takes it */
    uint16_t lanes;    /* of the session */
};

/* Server: the connection that takes over when the old one is still. */
struct lane_next {
    struct conn_loose loose;
    uint64_t rx_bytes; /* the count that came with it */
    uint8_t answer[FRAME_PROOF_SIZE];
};

struct lane {
    struct loop *loop;
    struct lane_table *table;
    struct session *session; /* NULL before HELLO */
    struct share *share;     /* owns what the lane takes: a stranger's address, then the lane */
    struct share *payer;     /* counts its frames: a stranger's address, then the client's */
    struct list node;        /* in table->all; closing: table->closing */
    struct list session_node;
    struct list dirty_node;
    struct list starved_node;
    struct list sweep_node;   /* in table->busy */
    struct list frozen_node;  /* in table->frozen */
    struct list settle_node;  /* in table->settling */
    struct stranger stranger; /* server: the place of one who has not logged in; and for steps of
                                 its handshake, in table->shaking if it has none */
    struct list streams;
    uint32_t stream_count;
    struct lane_line lines[LANE_LINES]; /* [LANE_LINE_NONE]: nobody */
    struct timer timer;                 /* connect and handshake time-out, then heartbeat */
    struct conn conn;                   /* the connection that carries it */

    uint32_t slot;
    uint32_t generation;
    uint8_t state;   /* enum lane_state */
    uint8_t version; /* 0: not known yet (server before the first byte) */
    uint8_t fsm;     /* enum session_state */
    uint8_t kind;    /* enum session_lane */
    uint8_t reason;
    bool counted; /* as one of its owner's lanes, until it is freed */
    bool goaway_sent, goaway_heard;
    bool peer_beats; /* it has sent a PING or Heartbeat */
    uint64_t loaded; /* ns: when bulk last moved through pipes on it; 0: never */
    uint16_t index;  /* of the session's lanes */
    uint16_t paused; /* v1: streams that hold up reading */

    /* receive */
    struct conn_rx rx; /* bytes of frames */
    struct lane_in in;
    uint64_t rx_bytes;

    /* send */
    struct lane_pack control, data;
    struct lane_segment segments[LANE_SEGMENTS]; /* ring */
    uint32_t seg_head, seg_count;
    uint32_t seg_sent;                    /* bytes of the head segment already sent */
    uint32_t bulk_bytes;                  /* unsent bytes in segments */
    uint32_t flight_control, flight_data; /* bytes of the packs in the send in flight */
    uint32_t flight_replay;               /* of what is sent again */
    bool flight_begun;                    /* it starts with the rest of the head segment */
    /* sealed up to the middle of the data pack: what is left of it goes before control */
    bool data_cut;
    bool data_busy;     /* the last send had more data than a small buffer holds well */
    uint64_t ping_time; /* of the PING without answer; 0: none */
    uint64_t beat;      /* ns: when the next PING is due */

    /* log-in */
    struct lane_terms terms;
    struct frame_join join; /* server: waits until HELLO_OK is out (awaits_out) */
    bool awaits_out;        /* nothing is read until everything is out: then the role goes on */
    uint8_t client[FRAME_CLIENT_MAX]; /* server: who it says it is, between HELLO and AUTH */
    uint8_t client_size;
    struct lane_ids ids;

    /* resume */
    struct retain retain;  /* what is sent, until the peer has counted it */
    bool will_log;         /* server: agreed in HELLO, begins with AUTH_OK */
    uint64_t rx_acked;     /* our count as the peer was told */
    uint64_t frozen_since; /* ns */
    bool loss_told;        /* the log has said that it is lost */
    /* retain.sent when the last stream had gone; UINT64_MAX while there are some */
    uint64_t last_said;
    uint64_t back_peer_rx; /* the peer's count when this connection took over */
    uint8_t vain; /* connections in a row, given up, through which nothing got that waited */
    struct lane_next next;
    struct lane_kept kept; /* server, v2; the fence: either side */
};

/* A worker's lanes. */
struct lane_table {
    struct loop *loop;
    const struct role *role;
    struct stream_table *streams; /* of those who use the lanes */
    /* The lane ends: what its streams do then. Set with them. */
    void (*lost)(struct lane *lane);
    unsigned op; /* enum lane_op: the first */
    struct slab slab;
    struct slab ids;      /* server, v2: struct lane_id */
    uint64_t ids_pressed; /* ns: when they last ran so short that all lanes asked for counts */
    struct list all, closing;
    struct list dirty;   /* to be flushed in this turn, or the next */
    struct list arrived; /* with bytes that nobody has looked at: see demux.h */
    struct list late;    /* with frames that wait for the next turn */
    struct list frozen;
    struct list
        settling; /* frozen ones whose connection is still to be closed, or that have another */
    struct list logging;  /* with streams that wait until their logs may keep more */
    struct list shaking;  /* TLS handshakes with work to do, but for strangers' */
    struct list starved;  /* reads that found no big buffer */
    struct list short_of; /* reads that wait until their owner has less, see share.h */
    struct list busy;     /* with a read into an empty big buffer in flight */
    struct timer sweep;   /* of these, see lane_rx.c */
    struct conn_spare spare;
    struct strangers strangers;
    struct share *strangers_share; /* server: the owner above whoever has not logged in */
};

enum lane_op { LANE_OP_RECV, LANE_OP_SEND, LANE_OP_CONNECT, LANE_OPS };

/* Of so many lanes, and places for so many strangers. False: no memory; close is right either way.
 * demux_open comes next. */
bool lane_table_open(struct lane_table *table, struct loop *loop, const struct role *role,
                     uint32_t count, uint32_t strangers);
void lane_table_close(struct lane_table *table);

/* NULL if that is NULL. */
static inline struct lane *lane_of_stranger(struct stranger *stranger)
{
    return stranger != NULL ? container_of(stranger, struct lane, stranger) : NULL;
}

/* A server's lane around an accepted connection, reading: a stranger, for whom there must be a
 * place. With a crypt it shakes hands first. NULL when the table is full; the caller still owns
 * *loose. */
struct lane *lane_open(struct lane_table *table, const struct conn_loose *loose);

/* A lane that dials; the role's lane_connected is called when the connection, TLS included, is up
 * or has failed. NULL when the table is full or no socket is to be had (*error = errno); the caller
 * still owns crypt. */
struct lane *lane_dial(struct lane_table *table, const union sock_addr *addr, struct crypt *crypt,
                       int *error);

/* A human's answer to crypt_question. */
void lane_answer(struct lane *lane, bool accept);

/* Goes on with a handshake; the worker calls it for one lane per turn, so that a storm of
 * handshakes does not starve the streams. */
void lane_shake(struct lane *lane);

/* The lane is one of the session's, and what it takes from here on is the session's; and no
 * more. */
void lane_attach(struct lane *lane, struct session *session);
void lane_detach(struct lane *lane);

/* Ends the lane: tells the role, closes its streams, cancels what is in flight. text: detail for
 * the log, may be NULL. */
void lane_close(struct lane *lane, enum reason reason, const char *text);
void lane_finish(struct lane *lane, enum reason reason, const char *text);

/* One that we give up ourselves, while its peer is well: TLS hears that nothing is missing. */
void lane_dismiss(struct lane *lane, enum reason reason);
bool lane_join(struct lane *lane);

/* The connection ended without a word: freezes the lane if it can be resumed, otherwise closes
 * it. */
void lane_lost(struct lane *lane, enum reason reason, const char *text);

/* Keeps what is sent from here on, so that the lane can be resumed (retain_end stops it). */
void lane_log_open(struct lane *lane);

/* How long nothing may come back before another connection is tried: see lane_resume.c. */
uint64_t lane_patience(const struct lane *lane);

/* A frozen lane with nothing in flight and no socket: its count of received bytes is final. */
bool lane_is_still(const struct lane *lane);

/* For demux_resume. The connection of `from` carries the still lane from here on; what stands in
 * from->rx is the caller's, who has taken it. False: the server's count cannot be, the lane stays
 * frozen. take_rest: of what came on it, as much as there is room for; false: there is none.
 * drop_rest: gives the buffer back. */
bool lane_resume(struct lane *lane, struct lane *from, uint64_t peer_rx);
bool lane_take_rest(struct lane *lane, struct conn_rx *rest);
void lane_drop_rest(struct lane *lane, struct conn_rx *rest);

/* Server: the same with a connection whose JOIN has been read; as soon as the lane is still.
 * JOIN_OK is its first frame, with `answer` as its proof. A lane that believes to be alive is
 * frozen: the newest connection wins. False: the lane cannot be resumed, or the count is an old
 * one; the caller keeps *loose. */
bool lane_resume_later(struct lane *lane, const struct conn_loose *loose, uint64_t peer_rx,
                       const uint8_t answer[FRAME_PROOF_SIZE]);

/* The frames that begin a connection of a v2 lane; they are not counted. Each makes its part of the
 * transcript; a nonce is drawn by the callee, which closes the lane if there is none to be had.
 * Client: HELLO, then the payload of HELLO_OK. */
void lane_say_hello(struct lane *lane, struct frame_hello *hello);
void lane_greeted(struct lane *lane, const uint8_t *src, const uint8_t *end);
/* Server: the payload of HELLO is answered with HELLO_OK. */
void lane_greet(struct lane *lane, const uint8_t *src, const uint8_t *end);

/* Client: JOIN, and the arrival of JOIN_OK (not for a resume). Server: JOIN_OK, with its proof. */
void lane_say_join(struct lane *lane, const struct frame_join *join);
void lane_joined(struct lane *lane);
void lane_join_ok(struct lane *lane, const uint8_t answer[FRAME_PROOF_SIZE]);

/* Takes the end of connections in: once per turn. */
void lane_settle(struct lane_table *table);

/* True if frames may be queued: they leave at once, or when the lane is back. */
static inline bool lane_takes(const struct lane *lane)
{
    return lane->state == LANE_OPEN || lane->state == LANE_FROZEN;
}

/* A small frame of a sparse stream has come. And what a stream that receives in bulk may have
 * outstanding beside such: see window.h. */
void lane_hears_sparse(struct lane *lane, uint32_t wire_id);
uint32_t lane_window_limit(struct lane *lane, uint32_t wire_id, const struct window_rx *rx);

/* Bulk moves through pipes on this lane now; and whether it did of late, so that a newcomer fares
 * better on another one. */
void lane_load(struct lane *lane);
bool lane_is_loaded(const struct lane *lane);

/* True if its connection is up: it is read and flushed. */
static inline bool lane_is_connected(const struct lane *lane)
{
    return lane->state == LANE_OPEN || lane->state == LANE_LINGER || lane->state == LANE_TLS;
}

/* Takes the connection out of the lane (for a hand-over to another worker): the lane is closed
 * without touching it. Only with no operation in flight. */
struct conn_loose lane_loosen(struct lane *lane);

/* The other end of the hand-over: a lane that is connected, and past its TLS handshake if it is
 * TLS. NULL when the table is full; the caller still owns *loose. */
struct lane *lane_adopt(struct lane_table *table, const struct conn_loose *loose);

/* True if nothing that was received waits to be handled. */
static inline bool lane_rx_done(const struct lane *lane)
{
    return lane->rx.parsed == lane->rx.filled && lane->conn.raw.parsed == lane->conn.raw.filled;
}

/* Sets the protocol state, asserting the transition. */
void lane_set_fsm(struct lane *lane, enum session_state state);

/* What its role knows of it: the version of its frames; that it joins a session, as which of its
 * lanes; what was agreed; that the peer has said GOAWAY. The first two before it has a session. */
void lane_set_version(struct lane *lane, uint8_t version);
void lane_be_joining(struct lane *lane);
void lane_set_index(struct lane *lane, uint16_t index);
void lane_agree(struct lane *lane, const struct lane_terms *terms);
extern const struct lane_terms lane_terms_v1;
void lane_heard_goaway(struct lane *lane);

/* Server: what HELLO said: who it is, at most FRAME_CLIENT_MAX bytes, and whether its log is to
 * begin with AUTH_OK. */
void lane_introduce(struct lane *lane, const struct frame_text *client, bool will_log);

/* Nothing is read until everything is out: then the role's lane_out is called. */
void lane_await_out(struct lane *lane);

/* Server, v1: an id that no stream has; 0: there is none. */
uint32_t lane_v1_id(struct lane *lane);

/* The map from wire ids to slots, for the side that does not make the ids, and for v1. `size`:
 * power of two. False: out of memory. */
bool lane_map_open(struct lane *lane, uint32_t size);

/* The slot of a wire id's stream, + 1; 0: none. It may be another one's that has the place now. */
uint32_t lane_slot(const struct lane *lane, uint32_t wire_id);

/* An id for the stream in this slot; 0: there is none, or the lane has its share of them. */
uint32_t lane_id_take(struct lane *lane, uint32_t slot);

/* An OPEN frame, and what small data leaves free in the data pack, so that visitors are not
 * refused behind it, nor RESET delayed. */
#define LANE_OPEN_ROOM    64u
#define LANE_OPEN_RESERVE (32u * LANE_OPEN_ROOM)
#define LANE_RESET_ROOM   (FRAME_HEADER_MAX + 2u)

/* A stream has left the lane: its id is kept until nothing of it can be on the lane any more,
 * see lane_kept.c. */
void lane_keep(struct lane *lane, uint32_t wire_id);

/* The lane, and what it takes from here on, belongs to another owner; takes over the reference.
 * Nothing is in its log, and no ids are kept. */
void lane_own(struct lane *lane, struct share *share);

/* Room for and submission of frames. lane_control_begin gives FRAME_CONTROL_MAX bytes of room in
 * the control pack, or NULL; lane_control_end(end) queues what was written. The same for the data
 * pack. */
uint8_t *lane_control_begin(struct lane *lane);
void lane_control_end(struct lane *lane, const uint8_t *end);
void lane_control_drop(struct lane *lane); /* nothing was written after all */
uint8_t *lane_data_begin(struct lane *lane, uint32_t room);
void lane_data_end(struct lane *lane, const uint8_t *end);
void lane_data_drop(struct lane *lane);

/* A stream stands in line: if the reason is what the logs of all lanes keep, the lane stands in the
 * worker's line, and lane_log_unwait wakes it. */
void lane_log_wait(struct lane *lane);
void lane_log_unwait(struct lane_table *table);

/* What is queued now in the data pack leaves before what stands in the control pack. */
static inline bool lane_data_overtakes(const struct lane *lane)
{
    return lane->data_cut && lane->control.filled > lane->control.sent;
}

/* Where what is queued now ends in the bytes of the data pack since the lane began; and whether all
 * up to there was given to the wire. */
uint64_t lane_data_mark(const struct lane *lane);
bool lane_data_left(const struct lane *lane, uint64_t mark);

/* Streams that wait for room, see lane_line.c. wake: there is room for `count`. leave: the stream
 * waits no more. served: it got a place in the bulk queue. settle: at the end of its pump. */
void lane_line_init(struct lane *lane);
void lane_line_wake(struct lane *lane, enum lane_line_kind kind, uint32_t count);
void lane_line_leave(struct lane *lane, struct lane_waiter *waiter);
void lane_line_served(struct lane_waiter *waiter);
void lane_line_settle(struct lane *lane, struct lane_waiter *waiter);

/* True if the bulk queue takes another segment. */
bool lane_bulk_room(const struct lane *lane);

/* Queues [offset, offset + size) of `buf`, a whole frame; takes over the caller's reference, and
 * counts the bytes in waiter->pending until they have left. */
void lane_bulk_push(struct lane *lane, struct lane_waiter *waiter, uint32_t buf, uint32_t offset,
                    uint32_t size);

/* Whether bulk may move through pipes at all: a plain v2 lane, and with --bulk auto one that TCP
 * does not pace, where a copy costs less (docs/BENCHMARKS.md, "Bulk that is not copied"). */
static inline bool lane_moves(struct lane *lane)
{
    enum config_bulk bulk = lane->loop->config->bulk;

    return lane->version == FRAME_V2 && !conn_is_tls(&lane->conn) && bulk != CONFIG_COPY &&
           (bulk == CONFIG_SPLICE || !conn_paces(&lane->conn));
}

/* The same of what lies in a pipe, behind this header. Whether a lane takes pipes now, and how
 * many bytes of one: 1 MiB, less on a slow path. */
void lane_bulk_push_pipe(struct lane *lane, struct lane_waiter *waiter, uint32_t pipe,
                         const struct frame *frame);
bool lane_takes_pipes(struct lane *lane);
uint32_t lane_pipe_most(struct lane *lane);

void lane_waiter_init(struct lane_waiter *waiter);

/* It leaves its line, and what of it is in the bulk queue is not counted any more. */
void lane_disown(struct lane *lane, struct lane_waiter *waiter);

/* GOAWAY with a reason; once per lane. */
void lane_goaway(struct lane *lane, enum reason reason);
void lane_goaway_text(struct lane *lane, enum reason reason, const char *text);

/* For demux.c, which looks at what has arrived. open: makes bytes of frames of what lies in `raw`,
 * as far as there is room; *more: it goes on when the frames in rx were handled, which `handled`
 * says they were. settle: afterwards, with what came of it; the reason may be another one. */
enum reason lane_rx_open(struct lane *lane, bool handled, bool *more);
enum reason lane_rx_settle(struct lane *lane, enum reason reason);

/* For demux.c, of a lane that splices: a header, exactly, into rx. Bytes, 0 at the end, or -errno.
 * And: so many bytes of frames came, and went elsewhere; the connection has ended, or failed. */
int lane_rx_header(struct lane *lane);
void lane_rx_moved(struct lane *lane, uint32_t size);
void lane_rx_ended(struct lane *lane, int res);

/* The same: tells the peer, and ends the lane. */
void lane_violation(struct lane *lane, enum reason reason);

/* The same: the peer's count in PING and PONG; false: it cannot be. */
bool lane_acked(struct lane *lane, uint64_t rx_bytes);

/* Our count as it may be told now, in PING and PONG; it is told. */
uint64_t lane_tell_count(struct lane *lane);

/* A frame was handled that may be the peer's last one of some stream. */
void lane_fence(struct lane *lane);

/* Bytes have left, or a PING was answered. */
void lane_kept_look(struct lane *lane);
static inline void lane_kept_left(struct lane *lane)
{
    if (lane->kept.count > 0 || lane->kept.fences[0].stands)
        lane_kept_look(lane);
}

/* The peer's count in PING or PONG; not `possible`: it is none. */
void lane_kept_counted(struct lane *lane, uint64_t rx_bytes, bool possible);

/* Tells the peer our count, if that is news to it, on a lane that can be resumed. */
void lane_ack(struct lane *lane);

/* Submits a read unless one is in flight or the lane is held up. */
void lane_read(struct lane *lane);
void lane_mark(struct lane *lane);
void lane_flush(struct lane *lane);

/* True if all that is to be sent is a little data, and nothing is being sent: it may wait for more
 * to go with it. Control frames may not: a WINDOW lets somebody go on. */
bool lane_can_wait(const struct lane *lane);

/* Buffers were freed: lanes that wait for one go on, the first ones, at most so many. */
void lane_unstarve(struct lane_table *table, unsigned most);

/* The same for those whose owner had its share of them. */
void lane_unwait(struct lane_table *table, unsigned most);

/* v1: a stream has too much waiting (or no longer). */
void lane_hold(struct lane *lane);
void lane_unhold(struct lane *lane);

/* A stream was opened: a client looks after the path more often. */
void lane_watch(struct lane *lane);

/* Starts heartbeats and expiry; call when the handshake is over. */
void lane_start_heartbeat(struct lane *lane);

/* After the log-in, of a plain lane that leaves this machine: what that means. */
void lane_warn_plain(const struct lane *lane);

/* "session 3 lane 0 (192.0.2.1:5000)" */
const char *lane_subject(const struct lane *lane);

#endif
