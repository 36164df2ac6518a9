/*
 * conn: one connection, as a lane has it: a descriptor, what is in flight on it, TLS, and the
 * frames with which it begins, which are not of the lane's bytes.
 *
 * Lanes outlive their connections (lane_resume.c), so what is known of one of them is kept apart
 * from what is the lane's: all of this is lost with the connection, or begins anew with the next.
 * A conn knows no lane. It is given pieces to send, and says how many bytes of them it took; it is
 * given completions, and says what has come, or what is wrong. What follows from that, who is told
 * and who waits, is its lane's business.
 *
 * Way out. Whoever has bytes for the peer calls conn_send (or conn_send_zero_copy, where there is
 * no TLS): no function outside this object takes bytes and a socket. A conn that is to be TLS knows
 * it before it sends anything, from its birth or, at a server that takes both, from the first byte
 * that it hears; its pieces are sealed, or they stay where they are. conn_gate.c checks it once
 * more.
 *
 * Sends. One is in flight at a time (enum conn_flight): pieces that the lane has gathered in iov,
 * the preface, or bytes of the sealed buffer (records and handshake). Reads. One is in flight: into
 * the lane's buffer, or into `raw`, where records gather until they are opened.
 *
 * Hand-over. A connection that leaves its conn, for another one or another worker, is a struct
 * conn_loose on its way: nothing is in flight, and nothing lies here, but for what the lane takes
 * along itself.
 */
#ifndef CULVERT_CORE_MUX_CONN_H
#define CULVERT_CORE_MUX_CONN_H

#include "core/io/buf.h"
#include "core/io/limits.h"
#include "core/io/loop.h"
#include "core/io/sock.h"
#include "core/io/zero_copy.h"
#include "core/mux/crypt.h"
#include "core/mux/scram.h"
#include "core/wire/frame.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* [parsed, filled) of buf is not handled yet. */
struct conn_rx {
    uint32_t buf; /* BUF_NONE: empty */
    uint32_t parsed, filled;
};

enum conn_phase {
    CONN_PLAIN,
    CONN_SNIFFS, /* server: nothing was heard yet, and the first byte decides whether it is TLS */
    CONN_SHAKES, /* TLS handshake */
    CONN_ASKS,   /* a human is asked whether to trust the peer */
    CONN_SHAKEN, /* the handshake is over, but its last bytes may still have to leave */
    CONN_SEALED  /* frames flow in records */
};

/* Who takes buffers. */
enum conn_standing {
    CONN_STRANGER, /* a server's, not let in yet: the last big buffers are not for it */
    CONN_OWN,      /* a client's that has no session yet */
    CONN_MEMBER
};

enum conn_flight {
    CONN_FLIGHT_FRAMES,
    CONN_FLIGHT_ZERO_COPY, /* frames: one segment */
    CONN_FLIGHT_PREFACE,
    CONN_FLIGHT_SEALED,
    CONN_FLIGHT_POLL /* none: the socket takes no more of what lies in a pipe */
};

/* user_data of its operations; `send` lacks the buffer of a zero-copy send, its aux. */
struct conn_ops {
    uint64_t recv, send, connect;
};

/* A worker's big buffer for opening records when there is no other; BUF_NONE: not taken yet. */
struct conn_spare {
    uint32_t buf;
};

enum conn_pacing { CONN_PACES_UNKNOWN, CONN_PACES_NOT, CONN_PACES };

struct conn {
    struct loop *loop;
    struct conn_spare *spare;
    struct share *share; /* owns what it takes; the lane has the reference */
    struct conn_ops ops;
    uint8_t phase;    /* enum conn_phase */
    uint8_t standing; /* enum conn_standing */
    int fd;           /* -1: none */
    union sock_addr peer;
    union sock_addr dial_addr;
    bool connect_flight;

    /* receive */
    bool recv_flight;
    bool recv_polls;         /* it reads nothing, see conn_poll */
    bool no_wait;            /* system calls on its socket do not wait */
    bool dry;                /* the last read emptied the socket: poll first */
    bool rx_busy;            /* reads go into big buffers */
    struct conn_rx *recv_rx; /* where the read in flight goes: the lane's, or raw */
    uint64_t recv_since;     /* ns: of a read into a big buffer: its start, or its last cancel */
    uint64_t heard;          /* ns; TLS: a whole record */
    struct conn_rx raw;      /* records as received */
    struct msghdr rx_msg;    /* kernel record engine: reads come with the type of the record */
    struct iovec rx_iov;

    /* send */
    bool send_flight;
    bool shut;            /* our FIN is out */
    uint8_t flight;       /* enum conn_flight: of the send in flight, or the last */
    uint32_t flight_size; /* its bytes */
    uint32_t flight_buf;  /* CONN_FLIGHT_ZERO_COPY: whence */
    uint64_t send_since;  /* ns: its start */
    uint64_t unblocked;   /* ns: when a send that the peer had held up was over; 0: never */
    struct zero_copy zc;
    struct msghdr msg;
    struct iovec iov[LANE_IOV];
    _Alignas(struct cmsghdr) uint8_t rx_control[CRYPT_CMSG], tx_control[CRYPT_CMSG];

    /* TLS */
    struct crypt *crypt; /* NULL: plain, or its TLS is over */
    bool crypt_broken;   /* a record cannot be opened; what came before it is handled first */
    bool crypt_closed;   /* close_notify came */
    bool crypt_ended;    /* nothing is sealed: close_notify or an alert went out, or was refused */
    uint8_t sealed_type; /* of the control record in sealed_buf */
    uint32_t sealed_buf, sealed_sent, sealed_filled; /* records and handshake bytes to send */

    /* the frames with which it begins: conn_preface.c */
    uint8_t preface[LANE_PREFACE]; /* HELLO, HELLO_OK, JOIN or JOIN_OK, which are not counted */
    uint32_t preface_sent, preface_size;
    uint8_t transcript[SCRAM_KEY_SIZE]; /* of HELLO and HELLO_OK */
    uint64_t said; /* ns: when HELLO or JOIN went out, for the first round trip */

    /* the path */
    uint64_t rtt;      /* ns, of PING, smoothed; 0: not measured */
    uint64_t rtt_min;  /* ns: the shortest; 0: not measured */
    uint64_t path_rtt; /* ns: what TCP sees, as of path_asked; 0: not known */
    uint64_t path_asked;
    uint64_t rate; /* bytes in a second, as of rate_asked; 0: not known */
    uint64_t rate_asked;
    uint8_t pacing; /* enum conn_pacing: of this socket's congestion control */
};

/* *conn is zeros. crypt: taken over, NULL for a plain one. Descriptor and owner come later. */
void conn_init(struct conn *conn, struct loop *loop, struct conn_spare *spare,
               const struct conn_ops *ops, const union sock_addr *peer);
void conn_init_tls(struct conn *conn, enum conn_phase phase, struct crypt *crypt);

/* What it takes from here on belongs to `share`, whose life is the caller's affair. */
void conn_own(struct conn *conn, struct share *share);
void conn_stand(struct conn *conn, enum conn_standing standing);

/* The socket: who counts descriptors is the caller's affair. */
void conn_put_fd(struct conn *conn, int fd);
int conn_take_fd(struct conn *conn);

static inline bool conn_is_tls(const struct conn *conn)
{
    return conn->phase != CONN_PLAIN;
}

/* A read, a send or a connect is in flight. */
static inline bool conn_flies(const struct conn *conn)
{
    return conn->recv_flight || conn->send_flight || conn->connect_flight;
}

/* Dials; the caller has put the descriptor. And: cancels what is in flight, or the read, which
 * then completes soon. */
void conn_dial(struct conn *conn, const union sock_addr *addr);
void conn_connect_done(struct conn *conn);
void conn_cancel(struct conn *conn);
void conn_cancel_read(struct conn *conn);

/* Nothing is in flight any more, and all that is the connection's is dropped; its descriptor is the
 * caller's. */
void conn_drop(struct conn *conn);

/* A connection between two conns; fd -1: none. */
struct conn_loose {
    int fd;
    struct crypt *crypt; /* NULL: plain */
};

/* Nothing is in flight. The descriptor has been taken with conn_take_fd, and is put by the caller;
 * put: into a conn of the same kind, past its handshake. */
struct conn_loose conn_loosen(struct conn *conn, int fd);
void conn_tie(struct conn *conn, const struct conn_loose *loose);

/* Records that came with it, and were not opened, go the same way; on one worker. drop: nobody
 * opens them. */
void conn_move_raw(struct conn *to, struct conn *from);
void conn_drop_raw(struct conn *conn);

/* Closes it, if there is one. */
void conn_loose_close(struct conn_loose *loose, struct ring *ring);

/* Buffers. `rx` is the conn's own `raw`, or the lane's, into which it reads. release: gives the
 * buffer back. room: at least `want` bytes behind what was filled; false: there is no buffer.
 * move_small: what is unparsed, at most a small buffer's worth, moves to a small one, and the old
 * one is the caller's; false: none is free, nothing has changed. */
#define CONN_RX_ROOM (2u * 1024u)
void conn_rx_release(struct conn *conn, struct conn_rx *rx);
bool conn_rx_room(struct conn *conn, struct conn_rx *rx, uint32_t want);
bool conn_rx_move_small(struct conn *conn, struct conn_rx *rx);

/* Reading. Submits a read of what becomes bytes of frames in *rx, at once or when they were opened.
 * STARVED: there is no buffer, and no read. BIG: into a big one, from recv_since on. */
enum conn_read { CONN_READ_STARVED, CONN_READ_SMALL, CONN_READ_BIG };
enum conn_read conn_read(struct conn *conn, struct conn_rx *rx);

/* In place of a read: completes when there is something to read. And what comes is to be moved, not
 * read: system calls on its socket do not wait. */
void conn_poll(struct conn *conn);
void conn_no_wait(struct conn *conn);

/* Its next read is a small one, whatever the last one brought. */
void conn_be_slow(struct conn *conn);

/* Up to `size` bytes to *rx, which is empty, at once, while no read is in flight. Bytes, 0 at the
 * end, or -errno: -ENOBUFS if there is no buffer. */
int conn_read_now(struct conn *conn, struct conn_rx *rx, uint32_t size);

/* A read has completed: the buffer belongs to the bytes that came, or goes back. */
void conn_recv_done(struct conn *conn, const struct ring_cqe *cqe);

/* Such a read brought nothing, and that is no end: there is another one to come. */
bool conn_recv_again(struct conn *conn, int res);

/* Of such a read that brought `size` bytes, what they are. FRAMES: they stand in rx. PLAIN: the
 * same, and the first byte has said that this is no TLS. RECORDS: conn_open. SHAKE: a step of the
 * handshake is due. CONTROL: handled. BROKEN: crypt_why; the alert waits to be sent. */
enum conn_got {
    CONN_GOT_FRAMES,
    CONN_GOT_PLAIN,
    CONN_GOT_RECORDS,
    CONN_GOT_SHAKE,
    CONN_GOT_CONTROL,
    CONN_GOT_BROKEN
};
enum conn_got conn_take(struct conn *conn, struct conn_rx *rx, uint32_t size);

/* The same where the lane is frozen, and only bytes of frames are of use: how many there are. */
uint32_t conn_take_late(struct conn *conn, struct conn_rx *rx, uint32_t size);

/* The peer was not silent until now: it was not listened to. */
void conn_excuse(struct conn *conn);

/* The peer's bytes have ended without the word that there are no more. */
bool conn_is_cut(const struct conn *conn);

/* True if records are opened here, in user space. */
static inline bool conn_opens(const struct conn *conn)
{
    return conn_is_tls(conn) && (conn->crypt == NULL || !crypt_rx_kernel(conn->crypt));
}

/* Opens records that lie in raw to the end of rx, as far as there is room, and adds the bytes to
 * *count. MORE: goes on when the frames in rx were handled, which `handled` says they were.
 * STARVED: no buffer. BROKEN: as above, after all that came before. */
enum conn_opened { CONN_OPENED, CONN_OPENED_MORE, CONN_OPENED_STARVED, CONN_OPENED_BROKEN };
enum conn_opened conn_open(struct conn *conn, struct conn_rx *rx, bool handled, uint64_t *count);

/* Afterwards: what is unparsed leaves the spare; not `keep`: nobody needs it. False: there is no
 * buffer for it. */
bool conn_open_settle(struct conn *conn, struct conn_rx *rx, bool keep);

/* Handshake: one step of it, or what a human's answer makes of it. DONE: conn_is_through tells when
 * its last bytes have left. FAILED: crypt_why. STARVED: no buffer. */
enum conn_step {
    CONN_STEP_WAITS,
    CONN_STEP_ASKS,
    CONN_STEP_DONE,
    CONN_STEP_FAILED,
    CONN_STEP_STARVED
};
enum conn_step conn_shake(struct conn *conn);
enum conn_step conn_answer(struct conn *conn, bool accept);

static inline bool conn_is_through(const struct conn *conn)
{
    return conn->phase == CONN_SHAKEN && !conn->send_flight &&
           conn->sealed_sent == conn->sealed_filled;
}

/* Chooses the record engines, and lets frames flow. The kernel receives when no record lies here
 * any more: then it waits, and offload is due again. False: refused, crypt_why. */
bool conn_begin_sealed(struct conn *conn);
bool conn_offload_waits(const struct conn *conn);
bool conn_offload(struct conn *conn);

/* Sending. Whatever of the conn's own waits goes first: the preface, records. FREE: pieces may
 * follow. BUSY: a send is in flight. OVER: its TLS has not begun, or has ended: what waits stays,
 * or is dropped. STARVED: no buffer for records. REFUSED: crypt_why, nothing can be sealed any
 * more. */
enum conn_flow { CONN_FREE, CONN_BUSY, CONN_OVER, CONN_STARVED, CONN_REFUSED };
enum conn_flow conn_flush(struct conn *conn);

/* After FREE: the `count` pieces in iov. BUSY: *taken bytes of them are sealed and need not be
 * kept; the others are in flight from where they lie, and conn_sent tells of them. */
enum conn_flow conn_send(struct conn *conn, unsigned count, uint32_t *taken);

/* Whether a segment of so many bytes leaves by itself, zero-copy; and: sends it. A reference to
 * `buf` is kept until the kernel has notified. */
bool conn_wants_zero_copy(struct conn *conn, uint32_t size);
void conn_send_zero_copy(struct conn *conn, uint32_t buf, uint32_t offset, uint32_t size);

/* The smallest piece that does not go with others. */
static inline uint32_t conn_zero_copy_least(const struct conn *conn)
{
    return conn->zc.mode != ZERO_COPY_ON || conn_is_tls(conn) ? UINT32_MAX : ZERO_COPY_MIN;
}

/* After FREE, of a plain one: `header` bytes, and then `body` bytes out of a pipe, both as far as
 * the socket takes them now. What has left, or -errno; if that is not all, a poll is in flight as
 * the send. */
int conn_send_pipe(struct conn *conn, const uint8_t *header, uint32_t header_size, uint32_t pipe,
                   uint32_t body);

/* A send has completed. */
void conn_send_done(struct conn *conn, const struct ring_cqe *cqe);

/* What became of it: how many bytes left, -EAGAIN (it may be tried again), or why the connection is
 * lost. */
int conn_send_result(struct conn *conn, int res);

/* So many left: how many of them were the lane's pieces. rekey: afterwards, if none; false:
 * refused, nothing can be sealed any more. */
uint32_t conn_sent(struct conn *conn, uint32_t bytes);
bool conn_rekey(struct conn *conn);

/* Bytes of the lane's pieces in the send in flight, or in the last one. */
static inline uint32_t conn_flight_frames(const struct conn *conn)
{
    return conn->flight <= CONN_FLIGHT_ZERO_COPY ? conn->flight_size : 0;
}

/* Nothing of its own waits to leave, and nothing is in flight: a hand-over would lose it. */
static inline bool conn_tx_done(const struct conn *conn)
{
    return !conn->send_flight && conn->sealed_buf == BUF_NONE;
}

/* The orderly end of this direction, once: end says so in TLS (true: something is sent first), shut
 * says FIN. */
bool conn_end(struct conn *conn);
void conn_shut(struct conn *conn);

/* The frames that begin a connection of a v2 lane: conn_preface.c. Each makes its part of the
 * transcript. False: the kernel gives no nonce, errno. Client: HELLO, then the payload of
 * HELLO_OK. Server: the payload of HELLO is answered with HELLO_OK. */
bool conn_say_hello(struct conn *conn, struct frame_hello *hello);
void conn_greeted(struct conn *conn, const uint8_t *src, const uint8_t *end);
bool conn_greet(struct conn *conn, const uint8_t *src, const uint8_t *end);
void conn_say_join(struct conn *conn, const struct frame_join *join);
void conn_say_join_ok(struct conn *conn, const struct frame_join_ok *ok);

static inline bool conn_preface_waits(const struct conn *conn)
{
    return conn->preface_sent < conn->preface_size;
}

/* Forgets it, wherever it stands. */
void conn_preface_drop(struct conn *conn);

/* Whether what it sends is paced: asked once for each socket. False without one. */
bool conn_paces(struct conn *conn);

/* How many bytes of one stream may go out at once: what the path takes in SPLICE_RATE_NS. */
uint32_t conn_path_most(struct conn *conn);

/* What proofs on this connection are bound to, once HELLO and HELLO_OK have been said. */
void conn_channel(const struct conn *conn, struct scram_channel *channel);

/* The path. said: HELLO or JOIN goes out (of v1; those above note it themselves); answered: the
 * first round trip is over. ponged: one of PING, ns. */
void conn_said(struct conn *conn);
void conn_answered(struct conn *conn);
void conn_ponged(struct conn *conn, uint64_t sample);

/* The round trip of the path, ns. Unlike `rtt` without what waits to be sent at its two ends: what
 * TCP sees, or the shortest PING if that is much longer, as where TCP ends at a proxy. */
uint64_t conn_path_rtt(struct conn *conn);

#endif
