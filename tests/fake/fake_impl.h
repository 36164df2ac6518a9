/* fake_impl: what the files of the fake share; see fake.h. Tests include fake.h only. */
#ifndef CULVERT_TESTS_FAKE_IMPL_H
#define CULVERT_TESTS_FAKE_IMPL_H

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/list.h"
#include "fake/fake.h"

#define FAKE_FD_BASE          1000
#define FAKE_CONNECT_GIVES_UP (130 * NSEC_PER_SEC) /* as Linux with tcp_syn_retries 6 */

#define FAKE_SECRET_LEAST 8u
#define FAKE_SECRET_MOST  64u

/* What fake_tap.c knows of a direction. */
struct fake_tapped {
    bool on;
    unsigned have; /* bytes of the header; all: `left` are left of the record's body */
    size_t left;
    uint8_t tail[FAKE_SECRET_MOST]; /* the last bytes written */
    size_t tail_size;
};

/* One direction of a connection. taken <= arrived <= written: read by the receiver, in its buffer,
 * on the way. */
struct fake_pipe {
    uint8_t *data; /* ring of send_room + recv_room bytes */
    size_t capacity;
    size_t send_room, recv_room;
    uint64_t written, arrived, taken;
    bool fin_sent, fin_arrived;
    struct fake_event deliver;
    struct fake_conn *conn;
    int from; /* the side that writes */
    struct fake_tapped tapped;
    bool troubled; /* `trouble` is still to come, `at` counted from the first byte ... */
    struct fake_trouble trouble;
    struct fake_event release; /* FAKE_DELAY, fake_narrow: set while the pipe is held */
    size_t longest;            /* fake_narrow: 0: any length passes */
    uint64_t heals;            /* ns: how long it takes until that is so */
    uint64_t narrow_since;     /* a segment is lost since; 0: none */
};

struct fake_conn {
    struct list node;
    uint64_t id;
    uint64_t latency;
    bool cut;
    uint64_t cut_at;
    bool severed; /* FAKE_LOSS_END */
    bool doomed;
    uint64_t doom_left; /* bytes */
    enum fake_loss doom;
    bool dead[2];               /* a reset was sent towards this side, or it was broken */
    struct fake_pipe pipe[2];   /* written by side 0 (who dialled), by side 1 */
    struct fake_socket *end[2]; /* NULL: closed */
    struct fake_event rst[2];   /* arrives at this side; arg: the pipe that this side reads */
};

struct fake_socket {
    int fd;
    unsigned process;
    unsigned host; /* where it is: 127.0.0.0 and so much more */
    bool program, closed, closing, killed;
    bool told_end; /* a read has seen FIN */
    bool counted;  /* in the program's descriptors; not while it waits in an accept queue */
    enum fake_state state;
    union sock_addr local, remote;
    /* connection */
    struct fake_conn *conn;
    int side;
    int error; /* pending, told once */
    bool reset, shut, linger0;
    bool no_wait;                  /* system calls may read and write */
    uint64_t polled_taken;         /* polled for reading when so much had been read ... */
    unsigned polled;               /* ... so many times */
    uint64_t reset_at, reset_mark; /* see fake_reset_for */
    bool over;                     /* shut down both ways: what is submitted on it ends at once */
    uint64_t user_timeout;         /* ns, 0: none */
    uint32_t unsent;               /* TCP_NOTSENT_LOWAT, which is not simulated; 0: none */
    uint64_t timeout_arrived;      /* of the sent bytes, when the time-out was set */
    struct fake_event timeout;
    struct fake_event connecting;
    struct fake_event dying;
    unsigned tries;
    /* listener */
    struct list accept_queue; /* of sockets, by queue_node */
    struct list queue_node;
    struct list listen_node;
    unsigned queued, backlog;
    bool shared;
    /* users */
    struct list ops;      /* in flight, by fake_op.by_socket */
    uint64_t starved_at;  /* a read found no provided buffer ... */
    size_t starved_gives; /* ... when so many had been given */
    unsigned recvs, sends,
        others; /* from preparation until the program has seen the last completion */
    void (*watch)(void *arg);
    void *watch_arg;
    struct fake_event watching;
};

enum fake_range_kind { FAKE_SEND_RANGE, FAKE_RECV_RANGE, FAKE_BUFFER_RANGE };

/* Memory that an operation or the ring of provided buffers holds. */
struct fake_range {
    const uint8_t *base;
    size_t size;
    enum fake_range_kind kind;
    bool held;
};

/* Fake_world.c */
void fake_event_init(struct fake_event *event, void (*fn)(void *arg), void *arg);
void fake_event_in(struct fake_event *event, uint64_t delay);
bool fake_chance(unsigned permille);
uint64_t fake_between(uint64_t low, uint64_t high);
bool fake_may_fail(int fd);
void fake_fault(int fd, int error);
unsigned fake_current_process(void);

/* Fake_memory.c */
void fake_memory_reset(void);
/* Takes hold of a range: CHECKs that it overlaps nothing it must not. Sends may share memory with
 * sends. */
void fake_hold(struct fake_range *range, const void *base, size_t size, enum fake_range_kind kind);
void fake_release(struct fake_range *range);
uint64_t fake_hash(uint64_t hash, const void *data, size_t size);
/* Marks memory that the kernel owns; fake_poisoned says whether the marks are all still there. */
void fake_poison(void *data, size_t size);
bool fake_poisoned(const void *data, size_t size);

/* Fake_net.c */
void fake_net_reset(void);
struct fake_socket *fake_socket_new(bool program);
/* CHECKs that fd is an open socket. */
struct fake_socket *fake_socket(int fd);
void fake_socket_close(struct fake_socket *s, bool reset);
int fake_fd_take(void);
bool fake_descriptors_left(void);
void fake_sockets_kill(unsigned process);

int fake_bind_listen(struct fake_socket *s, uint16_t port, bool shared, unsigned backlog);
void fake_connect_start(struct fake_socket *s, uint16_t port);
struct fake_socket *fake_accept_next(struct fake_socket *listener);

bool fake_readable(const struct fake_socket *s);
bool fake_writable(const struct fake_socket *s);
/* More than what the next read takes: data, or the end. */
bool fake_more_to_read(const struct fake_socket *s);
ssize_t fake_socket_read(struct fake_socket *s, void *data, size_t size);
ssize_t fake_socket_write(struct fake_socket *s, const void *data, size_t size);
void fake_socket_shut(struct fake_socket *s);
void fake_conn_break(struct fake_conn *conn);
void fake_conn_lose(struct fake_conn *conn, enum fake_loss how);
/* A record begins at this byte of the pipe. */
void fake_record_begins(struct fake_pipe *p, uint64_t at);

/* Sock_fake.c */
void fake_pipes_reset(void);

/* Fake_tap.c */
bool fake_is_tapped(uint16_t port);
/* About to be written. */
/* A secret on sealed connections only. */
void fake_random_secret(const void *data, size_t size);
void fake_tap_bytes(struct fake_pipe *p, const uint8_t *data, size_t size);
void fake_tap_reset(void);

/* Ring_fake.c */
void fake_rings_reset(void);
void fake_rings_kill(unsigned process, void (*lost)(uint64_t user_data));
/* A system call has moved something: the worker whose turn it is does not turn for nothing. */
void fake_moved(void);
struct fake_op;
/* The socket of this operation may have become ready. */
void fake_op_consider(struct fake_op *op);
void fake_socket_ops_consider(struct fake_socket *s);
/* Cancels all of them without fail, and those that are still to be submitted. */
void fake_socket_ops_end(struct fake_socket *s);
bool fake_rings_idle(uint64_t *wake);

#endif
