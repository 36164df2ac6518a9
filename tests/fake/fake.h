/*
 * fake: a small world in place of the kernel: a clock, a network of TCP sockets, and rings over
 * them.
 *
 * ring_fake.c and sock_fake.c implement core/io/ring.h and core/io/sock.h on it; a test links them
 * in place of ring.c and sock.c and runs any number of workers, one turn after the other, in a
 * single thread. There is one world at a time; everything that happens in it follows from the seed
 * given to fake_open().
 *
 * Time stands still while a ring has something to do. fake_step() runs what is due now, and only
 * when nothing is and every ring is idle moves the clock to the next event or to the moment until
 * which a ring said it would wait.
 *
 * Two kinds of sockets: those of the program under test (made by sock_* and by accept completions,
 * used through rings) and those of the test's own endpoints (fake_dial, fake_listen, fake_accept,
 * used by the direct calls below). Descriptors of both are numbers of this world, never reused, so
 * that an operation on a closed descriptor is a certain find.
 *
 * What is checked on the way, with CHECK: no operation on a closed descriptor; no close with an
 * operation in flight; at most one receive and one send in flight per socket, and no half-close
 * beside a send; memory of a receive and provided buffers belong to the kernel alone from
 * submission to completion (nobody else's memory overlaps, and its bytes do not change); memory of
 * a send is unchanged at completion, for zero copy at the notification; msghdr and iovecs and
 * addresses likewise.
 *
 * Where real kernels differ or a detail matters, the rule is written where it is implemented, and
 * tests/kernel holds the real kernel to the same.
 */
#ifndef CULVERT_TESTS_FAKE_H
#define CULVERT_TESTS_FAKE_H

#include "core/io/ring.h"
#include "core/io/sock.h"
#include "fake/fake_random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Chances are in a thousand. Every field of zero is a quiet, immediate, faultless world. */
struct fake_options {
    uint64_t latency_min, latency_max; /* ns, one way, drawn per connection */
    uint64_t op_delay_max;             /* ns between "could complete" and "completes" */
    uint64_t cancel_delay_max;         /* ns between a cancel and its completion; 0: 50 us */
    size_t buffer_min,
        buffer_max; /* bytes of socket buffer, each side of each direction, drawn per connection */
    size_t segment_max;     /* bytes that travel at once; 0: all */
    unsigned inline_chance; /* a ready operation completes within its submission */
    unsigned short_chance;  /* a receive or a send moves less than it could */
    unsigned hold_chance;   /* ring_wait hands out fewer completions than there are */
    unsigned early_chance;  /* ring_wait ends before its time is over */
    /* a receive finds no provided buffer: others had them all for a moment */
    unsigned starve_chance;
    /* a message to a socket that does not wait is over before all of it is written */
    unsigned wait_ends;
    unsigned cancel_lost;  /* a cancel has no effect at all (EALREADY) */
    unsigned cancel_loses; /* a ready operation that is cancelled completes all the same */
    /* a zero-copy send gives a notification (otherwise none, as after early errors) */
    unsigned zc_chance;
    unsigned zc_copied;            /* ... and it says that the kernel copied */
    uint64_t zc_delay_max;         /* ns between the result and the notification */
    bool no_send_zc, no_zc_report; /* this "kernel" lacks them */
    bool rst_drops_received;       /* a reset also discards what had arrived and was not read */
    /* injected faults; each is told to `on_fault` */
    unsigned fail_reset;  /* the connection breaks: reset at both ends */
    unsigned fail_memory; /* -ENOMEM, nothing moved */
    unsigned fail_intr;   /* -EINTR, nothing moved */
    /* multishot accept ends with -EMFILE, -ECONNABORTED or -ENOMEM; the connection stays queued */
    unsigned accept_error;
    unsigned accept_ends; /* multishot accept ends with a connection (no MORE) */
    /* a connection to `doom_port` is lost (fake_lose, the way is drawn) ... */
    unsigned doom_chance;
    size_t doom_bytes; /* ... when up to so many bytes have arrived through it */
    uint16_t doom_port;
    size_t handshake_max;  /* crypt_fake.c: bytes of a message, 0: as in real handshakes */
    unsigned tickets;      /* crypt_fake.c: the server has a record ready behind its answer */
    unsigned seal_refused; /* crypt_fake.c: a key is used up, and cannot be changed */
    unsigned stuck_lies;   /* sock_is_stuck takes a path for dead that is only quiet */
    unsigned message_fails;
    unsigned pipe_fails; /* no pipe: -EPERM */
    /* bytes that a pipe takes, drawn up to that; 0: as many as it is asked for */
    uint64_t pipe_most;
    unsigned pipe_full;      /* a pipe takes nothing more until something has left it */
    unsigned paces;          /* a connection's congestion control does */
    unsigned register_fails; /* -ENOMEM from ring_register_* */
    unsigned descriptors;    /* of the program, 0: any number; beyond: -EMFILE */
};

/* Small, medium and large faults and delays, drawn from the seed; the injected faults stay 0. */
void fake_options_random(struct fake_options *options, uint64_t seed);

void fake_open(uint64_t seed, const struct fake_options *options);
/* Releases everything, whatever state it is in. */
void fake_close(void);

uint64_t fake_now(void);
struct fake_random *fake_random(void);

/* Changes the options in mid-run (a quiet end of a run, for example). */
struct fake_options *fake_options(void);

/* Prints one line per event on stderr from now on. */
void fake_trace_on(bool on);
bool fake_tracing(void);
void fake_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* `may_fail(fd)` says whether faults may be injected on this socket of the program (NULL: on all);
 * `on_fault(fd, error)` hears of each that was. */
void fake_fault_hooks(bool (*may_fail)(int fd), void (*on_fault)(int fd, int error));

/* Handles the events that are due; if there were none and all rings are idle, moves the clock on.
 * False: nothing is due, ever. */
bool fake_step(void);

/* True if the worker that owns this ring should run a turn: completions wait, operations are
 * prepared, its last wait asked for no waiting, or its waiting time is over. */
bool fake_ring_ready(const struct ring *ring);

/* Until then the worker of this ring gets no turn: a process that is stopped, or has no core. */
void fake_ring_stall(struct ring *ring, uint64_t until);

/* Sockets (and listeners) of the program that are open; rings not counted. */
unsigned fake_program_sockets(void);

/* Prints them on stderr. */
void fake_print_sockets(void);

/* The process that what the program opens from now on belongs to: rings, sockets that it dials
 * or listens on, and those that are accepted from the latter. 0 until this is called. */
void fake_process(unsigned process);

/* kill -9: the rings of the process are gone at once, with everything that is in flight, and
 * each of its sockets is closed a moment later. `lost` hears of messages to its rings, and of
 * completions that nobody has seen. */
void fake_kill(unsigned process, void (*lost)(uint64_t user_data));

/* Operations of this ring that are in flight, zero-copy notifications that are due included. */
unsigned fake_ring_in_flight(const struct ring *ring);

/* The worker of this ring has done something in a turn without completions. */
void fake_ring_worked(struct ring *ring);

/* Zero-copy sends so far of which something was sent, and whose report said that the kernel
 * copied. */
uint64_t fake_zc_copies(void);

/* Calls fn(arg) at the given time, once. */
struct fake_event {
    uint64_t at;
    uint64_t order;
    size_t place; /* in the heap, 1-based; 0: not set */
    void (*fn)(void *arg);
    void *arg;
};
void fake_event_set(struct fake_event *event, uint64_t at);
void fake_event_stop(struct fake_event *event);

/* Endpoints of the test */

/* A listening socket on 127.0.0.1:port. */
int fake_listen(uint16_t port, int backlog);

/* From 127.0.0.0 + host, connects to 127.0.0.1:port; the result shows in fake_state(). Never fails
 * at once. The program itself dials, and all that listens is, at FAKE_HOST. */
#define FAKE_HOST  1u
#define FAKE_HOSTS 65536u
int fake_dial(unsigned host, uint16_t port);

/* The next connection, or -1. */
int fake_accept(int fd);

/* From now on nobody answers at this port: connects time out. */
void fake_blackhole(uint16_t port, bool on);

/* From now on connects to this port are refused, whoever listens. */
void fake_refuse(uint16_t port, bool on);

enum fake_state {
    FAKE_CONNECTING,
    FAKE_CONNECTED,
    FAKE_REFUSED, /* or timed out */
    FAKE_LISTENING,
};
enum fake_state fake_state(int fd);

/* Bytes written (0: the buffers are full), or -errno: -EPIPE, -ECONNRESET. */
ssize_t fake_write(int fd, const void *data, size_t size);
/* Bytes read, 0 at the end, -EAGAIN, or -ECONNRESET. */
ssize_t fake_read(int fd, void *data, size_t size);
/* The peer has closed or reset, and nothing is left to read. */
void fake_shutdown(int fd);
/* Close; with `reset`, by RST. As in Linux, a close with unread data is a reset too. */
void fake_end(int fd, bool reset);

/* fn(arg) is called, as an event of its own, soon after this endpoint may have become readable,
 * writable or dead. */
void fake_watch(int fd, void (*fn)(void *arg), void *arg);

/* Breaks the connection of any socket, program's or test's: both ends see a reset. */
void fake_break(int fd);

/* Silently loses everything from now on (a pulled cable): nothing arrives, no error. fake_mend
 * plugs it in again: what was sent meanwhile arrives, resets too. */
void fake_cut(int fd);
void fake_mend(uint64_t connection);

/* The ways to lose a connection. */
enum fake_loss {
    FAKE_LOSS_RESET, /* fake_break */
    FAKE_LOSS_CUT,   /* fake_cut */
    /* somebody between closes: both ends see FIN, what was on the way is gone, more of it is
     * answered by RST */
    FAKE_LOSS_END,
    FAKE_LOSS_HALF, /* one end sees a reset, the other one nothing */
    FAKE_LOSS_COUNT
};
void fake_lose(int fd, enum fake_loss how);

/* The connection is lost when `bytes` more have arrived through it, at either end: in the middle of
 * whatever they are. */
void fake_doom(int fd, uint64_t bytes, enum fake_loss how);

/* What befalls the bytes of one direction of a connection, once, when byte `at` is there. */
enum fake_trouble_kind {
    FAKE_SPOIL, /* it arrives changed, and the connection goes on */
    FAKE_LOSE,  /* the connection is lost in front of it */
    FAKE_DELAY, /* it and what follows wait */
};
struct fake_trouble {
    enum fake_trouble_kind kind;
    int from;    /* whose bytes: 0 of the end that dialled, 1 of the other */
    uint64_t at; /* 0: the next byte that arrives ... */
    /* ... or, on a tapped port, from the begin of the record so many records on */
    unsigned records;
    uint8_t flip; /* SPOIL: bits, not 0 */
    enum fake_loss how;
    uint64_t delay; /* ns */
};
/* As a fault of the direction's reader: fake_fault_hooks. Another one takes its place. */
void fake_trouble(int fd, const struct fake_trouble *trouble);

/* In both directions of this connection a segment of more than `longest` bytes is lost, again and
 * again, until TCP has found out how long they may be, which takes `heals` ns from the first one.
 * sock_is_stuck sees it. */
void fake_narrow(int fd, size_t longest, uint64_t heals);

/* fn(fd) is called for every connection to this port as it comes about, with the dialler's end. */
void fake_on_connection(uint16_t port, void (*fn)(int fd));

/* Bytes that passed a connection so far, read or not; 0 when this end of it is closed. */
uint64_t fake_passed(int fd, int from);

/* From now on nothing that is said on a connection to this port, made later, has a secret in it,
 * and if it is `sealed` it is TLS records only (crypt_fake.c): this is checked. A secret is what
 * a test or the simulated cryptography names, and on sealed connections what getrandom(2) gives,
 * too. */
void fake_tap(uint16_t port, bool sealed);
void fake_secret(const void *data, size_t size);

/* An id common to both ends of a connection, unique in a run; 0 if there is no connection yet. */
uint64_t fake_connection(int fd);
uint16_t fake_local_port(int fd);
uint16_t fake_remote_port(int fd);
bool fake_is_open(int fd);
/* An RST has arrived. */
bool fake_is_reset(int fd);

/* How long ago an RST arrived here, or this was accepted, or `mark` last changed from one call to
 * the next; 0: none has arrived. */
uint64_t fake_reset_for(int fd, uint64_t mark);

/* Bytes that this socket has sent so far and that its peer has not read: what the "kernel"
 * holds. */
size_t fake_unread(int fd);

/* What sock_set_unsent was told; 0: nothing. */
uint32_t fake_unsent(int fd);

#endif
