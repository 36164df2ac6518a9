/*
 * ring: one worker's io_uring, and the only file that knows liburing.
 *
 * The interface is small on purpose: prepare an operation (it goes out with the next wait), wait,
 * read completions. Nothing here allocates after ring_open, and no submission fails: when the
 * submission queue is full it is handed to the kernel on the spot. tests/fake/ring_fake.c
 * implements the same interface over simulated sockets and a simulated clock.
 *
 * Completion flags are this file's own (RING_CQE_*), so that no other file needs a kernel header.
 *
 * Setup: SINGLE_ISSUER, DEFER_TASKRUN (6.1), COOP_TASKRUN implied, SUBMIT_ALL, CQSIZE. The ring is
 * created disabled by ring_open in the starting thread and enabled by ring_start in its worker's
 * thread, because SINGLE_ISSUER binds it to the first task that uses it. All that counts against
 * the user's locked memory (pinned.h) is taken before ring_start, so that one place can do with
 * less.
 */
#ifndef CULVERT_CORE_IO_RING_H
#define CULVERT_CORE_IO_RING_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

struct ring; /* opaque */

struct ring_cqe {
    uint64_t user_data; /* 0 and UINT64_MAX are the ring's own */
    int32_t res;        /* result, or -errno */
    uint32_t flags;     /* RING_CQE_* */
    uint32_t buffer;    /* with RING_CQE_BUFFER: id of the provided buffer */
};

#define RING_CQE_MORE \
    0x1u /* more completions of this operation follow (multishot, or a zero-copy notification) */
#define RING_CQE_BUFFER 0x2u /* `buffer` is valid */
#define RING_CQE_NOTIF  0x4u /* zero-copy notification: the buffer is free again */
#define RING_CQE_COPIED \
    0x8u /* with NOTIF: the kernel copied after all (IORING_NOTIF_USAGE_ZC_COPIED) */
#define RING_CQE_NONEMPTY 0x10u /* recv: the socket still had data (IORING_CQE_F_SOCK_NONEMPTY) */

/* Flags of ring_recv*, ring_send*. */
#define RING_POLL_FIRST 0x1u /* certainly not ready: do not try before polling */
#define RING_WAITALL    0x2u /* send: complete only when all is sent (MSG_WAITALL) */
#define RING_DONTWAIT   0x4u /* -EAGAIN instead of waiting */
/* Send: zero copy; a RING_CQE_NOTIF completion follows if RING_CQE_MORE is set, even after an
 * error. */
#define RING_ZC 0x8u

/* Pieces of one send. */
#define RING_PIECES 16u

/* What this kernel gives; probed once per process. */
struct ring_features {
    bool usable; /* false: io_uring cannot be used, see ring_unusable_text */
    bool defer_taskrun;
    bool send_zc;        /* 6.0; sendmsg 6.1 */
    bool zc_report;      /* 6.2: IORING_SEND_ZC_REPORT_USAGE */
    bool recv_bundle;    /* 6.10 */
    bool buf_inc;        /* 6.12 */
    int error;           /* errno of what failed; 0: nothing */
    const char *refused; /* the call that failed where io_uring_setup did not; or NULL */
};

const struct ring_features *ring_features(void);

/* One sentence for the operator: what forbids io_uring here, or why a call below gave this errno,
 * and which knob to turn. */
const char *ring_unusable_text(void);
const char *ring_error_text(int error);

/* Prints what this kernel gives, for `culvert version --features`. */
void ring_features_print(FILE *out);

/* `entries`: submission queue size, a power of two; the completion queue is 4 times as large. NULL
 * and *error = errno if the kernel refuses. ENOMEM is told after 200 ms: a ring that was closed, or
 * whose process was killed, gives its share of the user's locked memory back some 14 to 29 ms
 * late. */
struct ring *ring_open(unsigned entries, int *error);
void ring_close(struct ring *ring);

/* Binds the ring to the calling thread; call once, before any other operation below. 0 or
 * -errno. */
int ring_start(struct ring *ring);

/* Bytes of locked memory of a ring with so many entries and provided buffers. */
uint64_t ring_memory(unsigned entries, unsigned buffers);

/* How many entries each of so many rings may have, halved from `wish` down to `least`, for all of
 * them to fit the user's locked memory beside pinned_leave(). The rest of the user's processes is
 * not known: it may still be too many. */
unsigned ring_entries(unsigned rings, unsigned buffers, unsigned wish, unsigned least);

/* For ring_message from other rings. */
int ring_fd(const struct ring *ring);

/* Monotonic clock, nanoseconds; read once per ring_wait and cached. */
uint64_t ring_now(const struct ring *ring);

/* Provided buffers: group 0, so many (power of two) buffers. ring_buffers_open registers the ring
 * of descriptors, before ring_start from any thread; ring_buffer_give hands buffer `id` to the
 * kernel (visible to it at once). 0 or -errno. */
int ring_buffers_open(struct ring *ring, unsigned buffers);
void ring_buffer_give(struct ring *ring, void *base, uint32_t size, uint32_t id);

/* Buffers given so far, modulo 65,536, and the id of the one that was given as number `place`, one
 * of those that the kernel has. A buffer that it has used is told by a completion; so as long as
 * there are none to be read (ring_has_more), and until the next ring_wait or submission, those
 * that it was given and that were not told are all unused. */
uint16_t ring_buffers_given(const struct ring *ring);
uint32_t ring_buffer_at(struct ring *ring, uint16_t place);

/* A sparse table of `count` fixed buffers, and one entry of it: RING_ZC sends from a registered
 * buffer need no page lookup. 0 or -errno (-ENOMEM: over RLIMIT_MEMLOCK; sends then work
 * unregistered). */
int ring_register_table(struct ring *ring, unsigned count);
int ring_register_buffer(struct ring *ring, unsigned index, void *base, size_t size);
/* The entry is empty again; no send from it may be in flight. */
int ring_unregister_buffer(struct ring *ring, unsigned index);

/* CLOEXEC. many: multishot; otherwise the next one only. */
void ring_accept(struct ring *ring, uint64_t user_data, int fd, bool many);
void ring_connect(struct ring *ring, uint64_t user_data, int fd, const struct sockaddr *addr,
                  socklen_t size); /* addr must live until completion */
void ring_recv(struct ring *ring, uint64_t user_data, int fd, void *buf, size_t size,
               unsigned flags);
void ring_recvmsg(struct ring *ring, uint64_t user_data, int fd, struct msghdr *msg,
                  unsigned flags); /* msg, iovec and control must live until completion */
void ring_recv_provided(struct ring *ring, uint64_t user_data, int fd, unsigned flags);
void ring_send(struct ring *ring, uint64_t user_data, int fd, const void *buf, size_t size,
               unsigned flags);
/* `count` pieces as one send, at most RING_PIECES. The vector is copied: only the bytes must live
 * until completion. */
void ring_send_pieces(struct ring *ring, uint64_t user_data, int fd, const struct iovec *iov,
                      unsigned count, unsigned flags);
/* Zero-copy send from registered buffer `index` (RING_ZC implied). */
void ring_send_fixed(struct ring *ring, uint64_t user_data, int fd, const void *buf, size_t size,
                     unsigned index, unsigned flags);
void ring_sendmsg(struct ring *ring, uint64_t user_data, int fd, const struct msghdr *msg,
                  unsigned flags); /* msg and its iovecs must live until completion */

/* Completes when fd can be read, or written, or has an error; res: events (poll(2)), or -errno.
 * ended: whether those of a poll for reading tell that the peer has, by FIN or else, behind what
 * can be read. */
void ring_poll(struct ring *ring, uint64_t user_data, int fd, bool out);
static inline bool ring_poll_ended(int res)
{
    return res < 0 || (res & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* True if a zero-copy send with this result was refused as such, before a byte of it left: the
 * socket cannot do it, or (-ENOMEM, -ENOBUFS) the pages of a buffer that is not registered are over
 * the user's RLIMIT_MEMLOCK. The same bytes can be sent plainly. */
static inline bool ring_zc_refused(int res)
{
    return res == -EOPNOTSUPP || res == -ENOMEM || res == -ENOBUFS;
}

/* Asks the kernel to end the operation with this user_data; that operation completes with
 * -ECANCELED or its own result. The request itself gives no completion. */
void ring_cancel(struct ring *ring, uint64_t target);

/* Closes fd; no completion. No operation on it may be in flight. */
void ring_close_fd(struct ring *ring, int fd);

/* Posts {user_data, res} as a completion on another ring; the sender gets a completion with
 * `sent_user_data` only if it failed. */
void ring_message(struct ring *ring, int target_fd, uint64_t user_data, int32_t res,
                  uint64_t sent_user_data);

/* The same from a thread that has no ring of its own, to a ring of this process. 0 or -errno. */
int ring_message_from_thread(int target_fd, uint64_t user_data, int32_t res);

/* Submits what is prepared, waits until at least one completion is there or `timeout` ns have
 * passed (UINT64_MAX: no limit; 0: no wait), and copies up to `max` completions to `out`. Returns
 * how many. A wait may end early without any, when the time-out of an earlier one is due. */
unsigned ring_wait(struct ring *ring, uint64_t timeout, struct ring_cqe *out, unsigned max);

/* True if completions are there that the last ring_wait had no room for. */
bool ring_has_more(const struct ring *ring);

/* Counters, for the statistics: never reset. */
struct ring_stats {
    uint64_t waits;       /* io_uring_enter calls that waited */
    uint64_t submissions; /* SQEs */
    uint64_t completions; /* CQEs */
    uint64_t overflows;   /* submission queue was full in the middle of a turn */
};
const struct ring_stats *ring_stats(const struct ring *ring);

#endif
