/* ring_fake: what the two files of the fake ring share: ring_fake.c is the interface,
 * ring_fake_run.c what becomes of operations. */
#ifndef CULVERT_TESTS_RING_FAKE_H
#define CULVERT_TESTS_RING_FAKE_H

#include "fake/fake_impl.h"

enum fake_op_kind { ACCEPT, CONNECT, RECV, SEND, POLL_IN, POLL_OUT, CANCEL, CLOSE, MESSAGE };

struct fake_op {
    struct list node; /* of ring->prepared, ->flight or ->notifs */
    struct list by_socket;
    struct ring *ring;
    enum fake_op_kind kind;
    uint64_t user_data;
    struct fake_socket *socket;
    unsigned flags;
    bool provided, cancelled;
    bool once;    /* accept: the next one only */
    bool message; /* send: by sendmsg(2) */
    size_t size, done;
    uint8_t *buf;      /* recv */
    struct iovec *iov; /* send: a copy */
    unsigned iov_count;
    uint64_t hash;       /* send: of the bytes */
    const void *meta[2]; /* msghdr and iovecs, or address: must not change either */
    size_t meta_size[2];
    uint64_t meta_hash;
    struct fake_range *ranges;
    unsigned range_count;
    struct fake_event exec; /* also: the notification */
    struct ring *target;    /* message */
    uint64_t sent_user_data;
    int32_t res; /* message; notification: of the send */
};

struct cq_entry {
    struct ring_cqe cqe;
    unsigned *counter; /* of the socket; NULL: not an operation's last completion */
};

struct provided {
    struct fake_range range;
    void *base;
    bool given, poisoned;
};

struct registered {
    const uint8_t *base;
    size_t size;
};

struct ring {
    int fd;
    unsigned number, process;
    bool started;
    uint64_t now, wake;
    bool idle;
    bool waits_whole; /* the last wait ends when its own time is over */
    unsigned spins, wakes;
    uint64_t wakes_since;
    uint64_t stalled_until;
    uint64_t last_message_at;
    struct list prepared, flight, notifs;
    struct cq_entry *cq; /* queue: cq[cq_head % cq_room] .. */
    size_t cq_room, cq_head, cq_tail;
    struct provided *provided; /* by id */
    unsigned provided_count;   /* the most that can be given at once */
    uint32_t *order;           /* ids in the order given */
    size_t order_head, order_tail;
    struct registered *table;
    unsigned table_size;
    struct ring_stats stats;
};

/* Ring_fake.c */
void fake_op_free(struct fake_op *op);
/* The socket's counter for this kind of operation; NULL: it has no socket. */
unsigned *fake_op_counter(const struct fake_op *op);
/* Queues a completion. `counter` goes down when the program is handed it. */
void fake_post(struct ring *ring, struct ring_cqe cqe, unsigned *counter);
/* The next provided buffer, back from the kernel; false: there is none. */
bool fake_provided_pick(struct ring *ring, uint32_t *id);
/* It was not used after all: the next one to be picked. */
void fake_provided_return(struct ring *ring, uint32_t id);

/* Ring_fake_run.c */
/* Copies the vector of a send, takes hold of its memory. */
void fake_op_hold_iov(struct fake_op *op, const struct iovec *iov, unsigned count);
/* Preparation is over: from here on the program must leave what belongs to the operation alone. */
void fake_op_seal(struct fake_op *op);
void fake_op_exec(void *arg);
void fake_submit_all(struct ring *ring);
void fake_zc_reset(void);

#endif
