/*
 * lane: one TCP connection that carries frames of a session.
 *
 * Receiving. A lane is always reading (except a v1 lane held up by a slow stream: v1 has no
 * windows), into a small buffer that the kernel picks or, when it is busy, into a big one: parsed
 * <= filled <= size. Headers and control frames are parsed where they lie; DATA payload is handed
 * to its stream as a reference, in pieces as it arrives, so that a frame of 16 MiB needs no buffer
 * of that size. What is left unparsed is moved to the next buffer (less than one control frame); a
 * lane with nothing unparsed holds no buffer.
 *
 * Sending. Three queues, one sendmsg in flight, in this order:
 *   control  PING, WINDOW, handshake frames: a pack (contiguous bytes), its space is theirs alone.
 *            Packs hold a buffer only while they hold bytes, or while the log keeps some of it; a
 *            control pack begins small
 *   data     OPEN, RESET, and DATA frames of small payload, copied: a pack; 64 small frames leave
 *            as one piece of memory
 *   bulk     DATA frames framed in place in big buffers: references, up to LANE_BULK_BYTES, sparse
 *            streams never wait behind them
 * Order that matters is kept: within a stream, small data follows its bulk only when the bulk is
 * out (bulk_pending == 0, otherwise it goes into the bulk queue as well); OPEN is in the data pack
 * so that it cannot overtake the last data of the stream whose id it has, and RESET so that it is
 * the last of its stream (lane_kept.c). A frame once begun is finished before another is put on the
 * wire.
 *
 * TLS. A lane with a crypt begins in the state TLS; lane_crypt.c has the handshake and the user-
 * space records, which lie between the socket and the buffers above. Where a server takes TLS and
 * plain lanes on one port, such a lane becomes a plain one when its first byte begins no TLS
 * record. Whatever is sent passes lane_gate.c, which lets nothing plain out of a lane that is to be
 * TLS.
 *
 * Life. CONNECTING -> (TLS ->) OPEN (<-> FROZEN) -> (LINGER ->) CLOSING -> freed. lane_close is the
 * exit that tells nobody; lane_finish first gets the last words (AUTH_ERR, GOAWAY) to the peer: it
 * ends the session's business at once, then sends what is queued, FIN, and reads and drops until
 * the peer closes too or LANE_LINGER_NS is over. A plain close with unread input would be an RST,
 * which can destroy those words on their way (RFC 1122, 4.2.2.13).
 */
#ifndef CULVERT_CORE_LANE_H
#define CULVERT_CORE_LANE_H

#include "core/buf.h"
#include "core/crypt.h"
#include "core/frame.h"
#include "core/limits.h"
#include "core/list.h"
#include "core/reason.h"
#include "core/ring.h"
#include "core/scram.h"
#include "core/session_fsm.h"
#include "core/sock.h"
#include "core/timer.h"
#include "core/window.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct session;
struct share;
struct strangers_address;
struct stream;
struct stream_id;
struct worker;

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

struct lane_rx {  /* [parsed, filled) of buf is not handled yet */
    uint32_t buf; /* BUF_NONE: empty */
    uint32_t parsed, filled;
};

struct lane_segment {
    uint32_t buf;
    uint32_t offset, size;
    uint32_t stream; /* slot */
    uint32_t wire_id;
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
    struct list streams; /* in turn */
    struct list *next;   /* the first that has had no turn since there is room; the head: none */
};

struct lane {
    struct worker *worker;
    struct session *session; /* NULL before HELLO */
    struct share *share;     /* owns what the lane takes: a stranger's address, then the lane */
    struct share *payer;     /* counts its frames: a stranger's address, then the client's */
    struct list node;        /* in worker->all_lanes; closing: worker->closing_lanes */
    struct list session_node;
    struct list dirty_node;
    struct list starved_node;
    struct list log_node;      /* in worker->log_lanes */
    struct list late_node;     /* in worker->late_lanes: frames that were read wait for a turn */
    struct list frozen_node;   /* in worker->frozen_lanes */
    struct list settle_node;   /* in worker->settling_lanes */
    struct list stranger_node; /* in stranger->lanes */
    struct strangers_address *stranger; /* server: it has the place of one who has not logged in */
    struct list streams;
    struct lane_line lines[LANE_LINES]; /* [LANE_LINE_NONE]: nobody */
    struct timer timer;                 /* connect and handshake time-out, then heartbeat */

    uint32_t slot;
    uint32_t generation;
    int fd;
    uint8_t state;   /* enum lane_state */
    uint8_t version; /* 0: not known yet (server before the first byte) */
    uint8_t fsm;     /* enum session_state */
    uint8_t kind;    /* enum session_lane */
    uint8_t reason;
    bool recv_flight, send_flight, connect_flight;
    bool counted; /* as one of its owner's lanes, until it is freed */
    bool dry;
    bool shut; /* LINGER: our FIN is out */
    bool goaway_sent, goaway_heard;
    bool peer_beats; /* it has sent a PING or Heartbeat */
    uint16_t index;  /* of the session's lanes */
    uint16_t paused; /* v1: streams that hold up reading */
    uint8_t zc;      /* 0 undecided, 1 on, 2 off */
    uint16_t zc_pending;
    uint16_t zc_void;
    union sock_addr peer;

    /* receive */
    struct lane_rx rx;
    struct lane_rx *recv_rx; /* where the read in flight goes: rx, or raw */
    struct frame rx_frame;   /* DATA in progress if rx_left > 0 */
    uint32_t rx_left;
    /* whose; NULL: it was not there when the frame began, or has left meanwhile */
    struct stream *rx_stream;
    bool rx_busy;           /* reads go into big buffers */
    uint64_t recv_since;    /* ns: start of the read in flight, in worker->busy_lanes */
    struct list sweep_node; /* in worker->busy_lanes */
    uint64_t rx_bytes;
    uint64_t heard; /* ns; TLS: a whole record */

    /* send */
    struct lane_pack control, data;
    struct lane_segment segments[LANE_SEGMENTS]; /* ring */
    uint32_t seg_head, seg_count;
    uint32_t seg_sent;                    /* bytes of the head segment already sent */
    uint32_t bulk_bytes;                  /* unsent bytes in segments */
    uint32_t flight_control, flight_data; /* bytes of the packs in the send in flight */
    /* sealed up to the middle of the data pack: what is left of it goes before control */
    bool data_cut;
    uint64_t send_since;   /* ns: start of the send in flight */
    uint64_t unblocked;    /* ns: when a send that the peer had held up was over; 0: never */
    uint32_t flight_size;  /* bytes of the send in flight */
    bool flight_zc;        /* the send in flight is one segment, zero-copy */
    bool flight_begun;     /* it starts with the rest of the head segment */
    bool data_busy;        /* the last send had more data than a small buffer holds well */
    uint64_t rtt;          /* ns, smoothed; 0: not measured */
    uint64_t rtt_min;      /* ns: the shortest of this connection; 0: not measured */
    uint64_t sparse_heard; /* ns: the last small frame of a sparse stream */
    uint32_t sparse_id;    /* whose */
    uint64_t path_rtt;     /* ns: what TCP sees, as of path_asked; 0: not known */
    uint64_t path_asked;
    uint64_t ping_time;                 /* of the PING without answer; 0: none */
    uint16_t offered;                   /* lanes of the session */
    uint8_t transcript[SCRAM_KEY_SIZE]; /* of this connection's HELLO and HELLO_OK */
    struct frame_join join;             /* server: waits until HELLO_OK is out (awaits_out) */
    bool awaits_out; /* nothing is read until everything is out: then the role goes on */
    uint8_t client[FRAME_CLIENT_MAX]; /* server: who it says it is, between HELLO and AUTH */
    uint8_t client_size;
    uint64_t said; /* ns: when HELLO or JOIN went out, for the first round trip */
    uint32_t peer_max_data;
    uint32_t peer_window; /* initial credit of a new stream */

    /* resume */
    bool logs;                   /* what is sent is kept until the peer has counted it */
    bool will_log;               /* server: agreed in HELLO, begins with AUTH_OK */
    uint32_t log_head, log_tail; /* slices; SLAB_NONE when empty */
    uint32_t log_big;            /* big buffers that the log keeps, or more */
    uint32_t log_slices;
    uint64_t tx_bytes;    /* given to the wire: the log ends here */
    uint64_t acked;       /* the log begins here */
    uint64_t peer_rx;     /* the peer's count; may be ahead of tx_bytes by what is in flight */
    uint64_t rx_acked;    /* our count as the peer was told */
    uint64_t replay_left; /* the last so many bytes of the log go out before anything new */
    uint32_t flight_replay, flight_preface; /* bytes of these in the send in flight */
    uint8_t preface[LANE_PREFACE];    /* HELLO, HELLO_OK, JOIN or JOIN_OK, which are not counted */
    uint8_t answer[FRAME_PROOF_SIZE]; /* server: the proof of JOIN_OK */
    uint32_t preface_sent, preface_size;
    uint64_t frozen_since; /* ns */
    bool loss_told;        /* the log has said that it is lost */
    /* tx_bytes when the last stream had gone; UINT64_MAX while there are some */
    uint64_t last_said;
    uint64_t back_peer_rx; /* the peer's count when this connection took over */
    uint8_t vain;  /* connections in a row, given up, through which nothing got that waited */
    uint64_t beat; /* ns: when the next PING is due */
    int next_fd;   /* server: the connection that takes over when the old one is still; -1: none */
    struct crypt *next_crypt;
    uint64_t next_rx; /* the count that came with it */
    uint8_t next_answer[FRAME_PROOF_SIZE];

    struct lane_kept kept; /* server, v2; the fence: either side */

    uint32_t *map; /* client, and v1: wire id -> slot + 1 (mem_map) */
    uint32_t map_mask;
    uint32_t next_id; /* v1 server: next stream id */
    uint32_t stream_count;

    bool tls;               /* is to be TLS: see lane_gate.c */
    bool sniffs;            /* server: nothing was heard yet, and the first byte decides of it */
    struct crypt *crypt;    /* NULL: plain, or its TLS is over */
    struct list crypt_node; /* in worker->crypt_lanes, or those of a stranger's address: a
                               handshake step is due */
    struct lane_rx raw;     /* records as received */
    uint32_t sealed_buf, sealed_sent, sealed_filled; /* records and handshake bytes to send */
    bool crypt_ready;  /* handshake over; its last bytes may still have to leave */
    bool crypt_asking; /* a human is asked */
    bool crypt_closed; /* close_notify came */
    /* nothing more is sealed: close_notify or an alert went out, or was refused */
    bool crypt_ended;
    bool flight_sealed; /* the send in flight is of sealed_buf */

    struct msghdr msg;
    struct iovec iov[LANE_IOV];
    struct msghdr rx_msg; /* kernel record engine: reads come with the type of the record */
    struct iovec rx_iov;
    _Alignas(struct cmsghdr) uint8_t rx_control[CRYPT_CMSG], tx_control[CRYPT_CMSG];
    uint8_t sealed_type; /* of the control record in sealed_buf */
    union sock_addr dial_addr;
};

/* A server's lane around a connected socket, reading: a stranger, for whom there must be a place.
 * crypt: NULL for a plain lane, otherwise taken over, and the lane shakes hands first. NULL when
 * the table is full; the caller still owns fd and crypt. */
struct lane *lane_open(struct worker *worker, int fd, struct crypt *crypt);

/* A lane that dials; the role's lane_connected is called when the connection, TLS included, is up
 * or has failed. NULL when the table is full or no socket is to be had (*error = errno); the caller
 * still owns crypt. */
struct lane *lane_dial(struct worker *worker, const union sock_addr *addr, struct crypt *crypt,
                       int *error);

/* A human's answer to crypt_question. */
void lane_answer(struct lane *lane, bool accept);

/* Goes on with a handshake; the worker calls it for one lane per turn, so that a storm of
 * handshakes does not starve the streams. */
void lane_crypt_step(struct lane *lane);

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

/* Keeps what is sent from here on, so that the lane can be resumed; and stops doing so. */
void lane_log_open(struct lane *lane);
void lane_log_close(struct lane *lane);

/* How long nothing may come back before another connection is tried: see lane_resume.c. */
uint64_t lane_patience(const struct lane *lane);

/* A frozen lane with nothing in flight and no socket: its count of received bytes is final. */
bool lane_is_still(const struct lane *lane);

/* Client: `from`, a connection that has just been told JOIN_OK, carries the still lane from here
 * on; `from` is left without a socket, and the caller closes it. False: the server's count cannot
 * be, the lane stays frozen. */
bool lane_resume(struct lane *lane, struct lane *from, uint64_t peer_rx);

/* Server: the same with a connection whose JOIN has been read; as soon as the lane is still.
 * JOIN_OK is its first frame, with `answer` as its proof. A lane that believes to be alive is
 * frozen: the newest connection wins. False: the lane cannot be resumed, or the count is an old
 * one; the caller keeps fd and crypt. */
bool lane_resume_later(struct lane *lane, int fd, struct crypt *crypt, uint64_t peer_rx,
                       const uint8_t answer[FRAME_PROOF_SIZE]);

/* The frames that begin a connection of a v2 lane; they are not counted. Each makes its part of the
 * transcript; a nonce is drawn by the callee, which closes the lane if there is none to be had.
 * Client: HELLO, then the payload of HELLO_OK. */
void lane_say_hello(struct lane *lane, struct frame_hello *hello);
void lane_greeted(struct lane *lane, const uint8_t *src, const uint8_t *end);
/* Server: the payload of HELLO is answered with HELLO_OK. */
void lane_greet(struct lane *lane, const uint8_t *src, const uint8_t *end);

/* What proofs on this connection are bound to, once both have been said. */
void lane_channel(const struct lane *lane, struct scram_channel *channel);

/* Client: JOIN, and the arrival of JOIN_OK (not for a resume). Server: JOIN_OK, with its proof. */
void lane_say_join(struct lane *lane, const struct frame_join *join);
void lane_joined(struct lane *lane);
void lane_join_ok(struct lane *lane, const uint8_t answer[FRAME_PROOF_SIZE]);

/* Takes the end of connections in: once per turn. */
void lane_settle(struct worker *worker);

/* True if frames may be queued: they leave at once, or when the lane is back. */
static inline bool lane_takes(const struct lane *lane)
{
    return lane->state == LANE_OPEN || lane->state == LANE_FROZEN;
}

/* The round trip of the path, ns. Unlike `rtt` without what waits to be sent at its two ends: what
 * TCP sees, or the shortest PING if that is much longer, as where TCP ends at a proxy. */
uint64_t lane_path_rtt(struct lane *lane);

/* What a stream that receives in bulk may have outstanding: see window.h. */
uint32_t lane_window_limit(struct lane *lane, const struct stream *stream);

/* True if its connection is up: it is read and flushed. */
static inline bool lane_is_connected(const struct lane *lane)
{
    return lane->state == LANE_OPEN || lane->state == LANE_LINGER || lane->state == LANE_TLS;
}

/* Takes the socket out of the lane (for a hand-over to another worker): the lane is closed without
 * touching it. Only with no operation in flight. */
int lane_detach_fd(struct lane *lane, struct crypt **crypt);

/* The other end of the hand-over: a lane that is connected, and past its TLS handshake if crypt is
 * not NULL. */
struct lane *lane_adopt(struct worker *worker, int fd, struct crypt *crypt);

/* True if nothing that was received waits to be handled. */
static inline bool lane_rx_done(const struct lane *lane)
{
    return lane->rx.parsed == lane->rx.filled && lane->raw.parsed == lane->raw.filled;
}

/* True if nothing is on its way through the socket, nor waits as a record of TLS (an answer to a
 * key update, for example): a hand-over would lose it. */
static inline bool lane_tx_done(const struct lane *lane)
{
    return !lane->send_flight && lane->sealed_buf == BUF_NONE;
}

/* Sets the protocol state, asserting the transition. */
void lane_set_fsm(struct lane *lane, enum session_state state);

/* The map from wire ids to slots, for the side that does not make the ids, and for v1. `size`:
 * power of two. False: out of memory. */
bool lane_map_open(struct lane *lane, uint32_t size);

/* The stream of a wire id, NULL if it is gone. */
struct stream *lane_find(struct lane *lane, uint32_t wire_id);

/* A stream that is over here, but for the RESET that it still has to say. */
struct stream *lane_find_closing(struct lane *lane, uint32_t wire_id);

/* An OPEN frame, and what small data leaves free in the data pack, so that visitors are not
 * refused behind it, nor RESET delayed. */
#define LANE_OPEN_ROOM    64u
#define LANE_OPEN_RESERVE (32u * LANE_OPEN_ROOM)
#define LANE_RESET_ROOM   (FRAME_HEADER_MAX + 2u)

/* A stream has left the lane: its id is kept until nothing of it can be on the lane any more,
 * see lane_kept.c. */
void lane_keep(struct lane *lane, struct stream_id *id);

/* The table of ids runs out: lanes that keep some ask their peers. */
void lane_kept_pressed(struct worker *worker);

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

/* So much is kept for a resume that DATA has to wait for the peer's count: for streams, like a pack
 * without room (they are woken). OPEN, FIN and control go on. */
bool lane_log_full(const struct lane *lane);

/* A stream stands in line: if the reason is what the logs of all lanes keep, the lane stands in the
 * worker's line, and lane_log_unwait wakes it. */
void lane_log_wait(struct lane *lane);
void lane_log_unwait(struct worker *worker);

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
void lane_line_leave(struct stream *stream);
void lane_line_served(struct stream *stream);
void lane_line_settle(struct stream *stream);

/* True if the bulk queue takes another segment. */
bool lane_bulk_room(const struct lane *lane);

/* Queues [offset, offset + size) of `buf`, a whole frame; takes over the caller's reference. */
void lane_bulk_push(struct lane *lane, struct stream *stream, uint32_t buf, uint32_t offset,
                    uint32_t size);

/* GOAWAY with a reason; once per lane. */
void lane_goaway(struct lane *lane, enum reason reason);
void lane_goaway_text(struct lane *lane, enum reason reason, const char *text);

/* A new turn: lanes go on with frames that were too many for the one before. */
void lane_late(struct worker *worker);

/* Submits a read unless one is in flight or the lane is held up. */
void lane_read(struct lane *lane);
void lane_mark(struct lane *lane);
void lane_flush(struct lane *lane);

/* True if all that is to be sent is a little data, and nothing is being sent: it may wait for more
 * to go with it. Control frames may not: a WINDOW lets somebody go on. */
bool lane_can_wait(const struct lane *lane);

void lane_recv_done(struct worker *worker, const struct ring_cqe *cqe);
void lane_send_done(struct worker *worker, const struct ring_cqe *cqe);
void lane_connect_done(struct worker *worker, const struct ring_cqe *cqe);

/* Buffers were freed: lanes that wait for one go on, the first ones, at most so many. */
void lane_unstarve(struct worker *worker, unsigned most);

/* The same for those whose owner had its share of them. */
void lane_unwait(struct worker *worker, unsigned most);

/* Cancels big reads that have waited too long; returns when to look again (ns), UINT64_MAX if there
 * are none. */
uint64_t lane_sweep(struct worker *worker);

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
