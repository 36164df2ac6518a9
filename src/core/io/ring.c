/*
 * ring: see ring.h. A thin layer: the liburing calls, the translation of completion flags, and the
 * probe.
 *
 * Memory. On some kernels (6.18; not 6.1 to 6.12) a ring counts against RLIMIT_MEMLOCK, in one
 * account of the user with all her processes, root excepted. Whether it does is tried out, since
 * neither a version nor a capability tells: CAP_IPC_LOCK counts in the first user namespace only.
 * The share of a ring that was closed, and of a process that was killed, comes back some 14 to 29
 * ms late: what is refused with ENOMEM is tried again for a while.
 *
 * Rejected: SQPOLL (a second thread on the same core as the worker costs more than the system call
 * it saves; on a pinned core of its own it is a core that does nothing else), registered ring
 * descriptors beyond the one for io_uring_enter, and multishot receives (backpressure is "do not
 * arm the next read", which a multishot turns into a cancel with a race).
 */
#include "core/io/ring.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/pinned.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* Newer than the oldest liburing we build on (2.3). Values are kernel ABI,
 * include/uapi/linux/io_uring.h. */
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif
#define SETUP_NO_SQARRAY        (1U << 16) /* IORING_SETUP_NO_SQARRAY, 6.6 */
#define FEATURE_RECVSEND_BUNDLE (1U << 14) /* IORING_FEAT_RECVSEND_BUNDLE, 6.10 */

#define BUFFER_GROUP 0

/* How long memory that was refused is asked for again, and how often. */
#define MEMORY_PATIENCE (200 * NSEC_PER_MSEC)
#define MEMORY_PAUSE    (5 * NSEC_PER_MSEC)

/* What the kernel keeps in front of the completions: heads, tails and flags of both queues. 256
 * bytes on 6.18. */
#define QUEUE_HEAD 512u

/* Of the ring of threads that have none. */
#define MESSENGER_ENTRIES 2u

/* What a wait may take is said to the kernel once, by an operation that is over at that time, and
 * not with each wait: most waits end long before, and to set and take back a timer each time is
 * work for nothing (docs/BENCHMARKS.md, "What we tried"). */
#define USER_DATA_NONE \
    UINT64_C(0) /* a cancel, a close, an alarm that is moved: nobody waits for it */
#define USER_DATA_ALARM UINT64_MAX

/* Vectors of sends in pieces and their headers, until they are submitted: then the kernel has its
 * own copy (io_uring_setup(2), IORING_FEAT_SUBMIT_STABLE). */
#define PIECES_ROOM  4096u
#define HEADERS_ROOM 512u
CHECK_STATIC(PIECES_ROOM >= RING_PIECES, "one send");

struct ring {
    struct io_uring uring;
    struct iovec pieces[PIECES_ROOM];
    struct msghdr headers[HEADERS_ROOM];
    unsigned pieces_used, headers_used;
    struct io_uring_buf_ring *buffers;
    unsigned buffer_count;
    uint64_t pinned; /* counted in pinned.h */
    uint64_t now;
    /* ns: when the time-out operation in flight is due; UINT64_MAX: there is none */
    uint64_t alarm;
    struct __kernel_timespec alarm_time; /* read by the kernel when it is submitted */
    struct ring_stats stats;
};

static struct ring_features features;
static pthread_once_t features_once = PTHREAD_ONCE_INIT;

static const unsigned SETUP_FLAGS =
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL;

/* Rings of this process count against RLIMIT_MEMLOCK; and they have an array of indices into the
 * submissions, which liburing asks the kernel to leave out from 2.6 and Linux 6.6 on. Set by the
 * probe, read-only afterwards. */
static bool rings_count, rings_indexed = true;

static uint64_t ring_clock_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* True after a pause if a call with this result is to be made again. *until: 0 before the first
 * call. */
static bool ring_wait_for_memory(int result, uint64_t *until)
{
    const struct timespec pause = { .tv_nsec = (long)MEMORY_PAUSE };

    if (result != -ENOMEM)
        return false;
    if (*until == 0)
        *until = ring_clock_now() + MEMORY_PATIENCE;
    if (ring_clock_now() >= *until)
        return false;
    (void)nanosleep(&pause, NULL);
    return true;
}

/* The probe */

static bool ring_kernel_at_least(int major, int minor)
{
    struct utsname name;
    int have_major = 0, have_minor = 0;

    if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &have_major, &have_minor) != 2)
        return false;
    return have_major > major || (have_major == major && have_minor >= minor);
}

static int ring_probe_open(struct io_uring *uring)
{
    return io_uring_queue_init(8, uring, SETUP_FLAGS);
}

static bool ring_buffer_is_refused(struct io_uring *uring)
{
    static char byte;
    struct iovec iov = { .iov_base = &byte, .iov_len = 1 };

    return io_uring_register_buffers(uring, &iov, 1) == -ENOMEM;
}

/* Under a limit of nothing, what counts is refused. */
static void ring_probe_limit(void)
{
    struct rlimit limit, nothing;
    struct io_uring uring;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return;
    nothing = limit;
    nothing.rlim_cur = 0;
    if (setrlimit(RLIMIT_MEMLOCK, &nothing) != 0)
        return;
    int result = ring_probe_open(&uring);
    rings_count = result == -ENOMEM;
    if (rings_count || (result == 0 && ring_buffer_is_refused(&uring)))
        pinned_set_limit(limit.rlim_cur);
    if (result == 0)
        io_uring_queue_exit(&uring);
    (void)setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* A filter may let the set-up through and nothing else. */
static int ring_probe_enter(struct io_uring *uring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(uring);

    CHECK(sqe != NULL);
    io_uring_prep_nop(sqe);
    int result = io_uring_submit(uring);
    return result < 0 && result != -EAGAIN ? result : 0;
}

/* Nobody can do without registration: it starts a ring. Without memory to ask for operations, none
 * of them is taken for granted. */
static int ring_probe_register(struct io_uring *uring)
{
    const unsigned most = 256;
    struct io_uring_probe *probe =
        calloc(1, sizeof(*probe) + most * sizeof(struct io_uring_probe_op));
    int result = 0;

    if (probe != NULL)
        result = io_uring_register_probe(uring, probe, most);
    if (probe != NULL && result >= 0)
        features.send_zc = io_uring_opcode_supported(probe, IORING_OP_SEND_ZC) != 0 &&
                           io_uring_opcode_supported(probe, IORING_OP_SENDMSG_ZC) != 0;
    free(probe);
    return result < 0 && result != -ENOMEM ? result : 0;
}

static const char *ring_probe_calls(struct io_uring *uring, int *error)
{
    *error = -ring_probe_enter(uring);
    if (*error != 0)
        return "io_uring_enter";
    *error = -ring_probe_register(uring);
    return *error != 0 ? "io_uring_register" : NULL;
}

static void ring_features_probe(void)
{
    struct io_uring uring;
    uint64_t until = 0;
    int result;

    ring_probe_limit();
    do
        result = ring_probe_open(&uring);
    while (ring_wait_for_memory(result, &until));
    if (result < 0) {
        features.error = -result;
        return;
    }
    features.refused = ring_probe_calls(&uring, &features.error);
    features.usable = features.refused == NULL;
    features.defer_taskrun = features.usable;
    features.zc_report = features.send_zc && ring_kernel_at_least(6, 2);
    features.recv_bundle = (uring.features & FEATURE_RECVSEND_BUNDLE) != 0;
    features.buf_inc = ring_kernel_at_least(6, 12);
    rings_indexed = (uring.flags & SETUP_NO_SQARRAY) == 0;
    io_uring_queue_exit(&uring);
}

const struct ring_features *ring_features(void)
{
    pthread_once(&features_once, ring_features_probe);
    return &features;
}

/* Docker's own profile has refused these calls since 2023 (moby 25). */
#define CURE_CALLS                                                                              \
    "in a container allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp " \
    "profile (docker run --security-opt seccomp=FILE, or =unconfined)"

static const struct {
    int error;
    const char *text;
} error_texts[] = {
    { EPERM, "io_uring is switched off here: " CURE_CALLS ", or set sysctl "
             "kernel.io_uring_disabled=0" },
    { EACCES, "a security module (SELinux, for example) does not let this program use io_uring: "
              "allow it in its policy" },
    { ENOSYS, "this kernel or container has no io_uring: Culvert needs Linux 6.1 or newer with "
              "CONFIG_IO_URING; " CURE_CALLS },
    { EINVAL, "this kernel's io_uring is too old: Culvert needs Linux 6.1 or newer" },
    { ENOMEM, "the kernel refused memory for io_uring: raise the limit of locked memory (ulimit "
              "-l, with systemd LimitMEMLOCK=), which all processes of this user share, lower "
              "--workers, or free some memory" },
    { EMFILE, "no file descriptors left for io_uring: raise ulimit -n (with systemd "
              "LimitNOFILE=), or lower --workers" },
    { ENFILE, "this machine has no file descriptors left for io_uring: raise sysctl fs.file-max" },
};

const char *ring_error_text(int error)
{
    for (unsigned i = 0; i < ARRAY_SIZE(error_texts); i++)
        if (error_texts[i].error == error)
            return error_texts[i].text;
    return "io_uring cannot be set up here";
}

const char *ring_unusable_text(void)
{
    const struct ring_features *f = ring_features();
    static char text[320];

    if (f->refused == NULL)
        return ring_error_text(f->error);
    snprintf(text, sizeof(text),
             "%s is refused here (%s), though io_uring_setup is not: " CURE_CALLS, f->refused,
             strerror(f->error));
    return text;
}

void ring_features_print(FILE *out)
{
    const struct ring_features *f = ring_features();

    if (!f->usable) {
        fprintf(out, "io_uring: not usable: %s\n", ring_unusable_text());
        return;
    }
    fprintf(out, "io_uring: usable, with deferred task work (6.1)\n");
    fprintf(out, "zero-copy send (6.0/6.1): %s\n", f->send_zc ? "yes" : "no");
    fprintf(out, "zero-copy usage reports (6.2): %s\n", f->zc_report ? "yes" : "no");
    fprintf(out, "receive bundles (6.10): %s\n", f->recv_bundle ? "yes" : "no");
    fprintf(out, "incremental buffer rings (6.12): %s\n", f->buf_inc ? "yes" : "no");
}

/* Memory */

static uint64_t ring_whole_pages(uint64_t bytes)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    return (bytes + page - 1) / page * page;
}

static uint64_t ring_buffers_memory(unsigned buffers)
{
    return ring_whole_pages(buffers * sizeof(struct io_uring_buf));
}

static uint64_t ring_queues_memory(unsigned entries)
{
    uint64_t indices = rings_indexed ? entries * sizeof(uint32_t) : 0;
    uint64_t completions =
        QUEUE_HEAD + UINT64_C(4) * entries * sizeof(struct io_uring_cqe) + indices;

    return ring_whole_pages(entries * sizeof(struct io_uring_sqe)) + ring_whole_pages(completions);
}

uint64_t ring_memory(unsigned entries, unsigned buffers)
{
    return ring_queues_memory(entries) + ring_buffers_memory(buffers);
}

/* The kernel has granted it. */
static void ring_count_memory(struct ring *ring, uint64_t bytes)
{
    if (!rings_count)
        return;
    pinned_add(bytes);
    ring->pinned += bytes;
}

unsigned ring_entries(unsigned rings, unsigned buffers, unsigned wish, unsigned least)
{
    uint64_t others = ring_queues_memory(MESSENGER_ENTRIES) + pinned_leave();

    CHECK(least > 0 && wish >= least);
    while (rings_count && wish / 2 >= least &&
           rings * ring_memory(wish, buffers) + others > pinned_limit())
        wish /= 2;
    return wish;
}

/* Set-up */

/* The ring of all threads without one, opened with the first worker's ring and kept: when
 * descriptors have run out is no time to open one, and the message may be the one that stops the
 * program. */
static struct {
    pthread_mutex_t mutex;
    struct io_uring uring;
    bool open;
} messenger = { .mutex = PTHREAD_MUTEX_INITIALIZER };

/* 0 or -errno. */
static int ring_messenger_open(void)
{
    uint64_t until = 0;
    int result = 0;

    pthread_mutex_lock(&messenger.mutex);
    if (!messenger.open) {
        do
            result = io_uring_queue_init(MESSENGER_ENTRIES, &messenger.uring, 0);
        while (ring_wait_for_memory(result, &until));
        messenger.open = result == 0;
    }
    pthread_mutex_unlock(&messenger.mutex);
    return result;
}

static int ring_open_queues(struct ring *ring, unsigned entries)
{
    uint64_t until = 0;
    int result;

    do {
        struct io_uring_params params = {
            .flags = SETUP_FLAGS | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
            .cq_entries = entries * 4,
        };
        result = io_uring_queue_init_params(entries, &ring->uring, &params);
    } while (ring_wait_for_memory(result, &until));
    return result;
}

struct ring *ring_open(unsigned entries, int *error)
{
    struct ring *ring = calloc(1, sizeof(*ring));
    int result = ring != NULL ? ring_messenger_open() : -ENOMEM;

    if (result == 0)
        result = ring_open_queues(ring, entries);
    if (result < 0) {
        *error = -result;
        free(ring);
        return NULL;
    }
    ring_count_memory(ring, ring_queues_memory(entries));
    ring->now = ring_clock_now();
    ring->alarm = UINT64_MAX;
    return ring;
}

void ring_close(struct ring *ring)
{
    if (ring == NULL)
        return;
    io_uring_queue_exit(&ring->uring);
    pinned_drop(ring->pinned);
    free(ring->buffers);
    free(ring);
}

int ring_start(struct ring *ring)
{
    /* io_uring_enable_rings() is declared but not exported by the liburing 2.3 of Debian 12. */
    int result =
        io_uring_register((unsigned)ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

    if (result < 0)
        return result;
    (void)io_uring_register_ring_fd(
        &ring->uring); /* spares a descriptor look-up per enter; optional */
    return 0;
}

int ring_fd(const struct ring *ring)
{
    return ring->uring.ring_fd;
}

uint64_t ring_now(const struct ring *ring)
{
    return ring->now;
}

int ring_buffers_open(struct ring *ring, unsigned buffers)
{
    struct io_uring_buf_reg reg = { .ring_entries = buffers, .bgid = BUFFER_GROUP };
    uint64_t until = 0;
    void *memory;
    int result;

    CHECK(buffers > 0 && (buffers & (buffers - 1)) == 0 && ring->buffers == NULL);
    if (posix_memalign(&memory, (size_t)sysconf(_SC_PAGESIZE),
                       buffers * sizeof(struct io_uring_buf)) != 0)
        return -ENOMEM;
    memset(memory, 0, buffers * sizeof(struct io_uring_buf));
    reg.ring_addr = (uint64_t)(uintptr_t)memory;
    do
        result = io_uring_register_buf_ring(&ring->uring, &reg, 0);
    while (ring_wait_for_memory(result, &until));
    if (result < 0) {
        free(memory);
        return result;
    }
    ring_count_memory(ring, ring_buffers_memory(buffers));
    ring->buffers = memory;
    ring->buffer_count = buffers;
    io_uring_buf_ring_init(ring->buffers);
    return 0;
}

void ring_buffer_give(struct ring *ring, void *base, uint32_t size, uint32_t id)
{
    CHECK(id <= UINT16_MAX);
    io_uring_buf_ring_add(ring->buffers, base, size, (uint16_t)id,
                          io_uring_buf_ring_mask(ring->buffer_count), 0);
    io_uring_buf_ring_advance(ring->buffers, 1);
}

uint16_t ring_buffers_given(const struct ring *ring)
{
    return ring->buffers->tail;
}

uint32_t ring_buffer_at(struct ring *ring, uint16_t place)
{
    return ring->buffers->bufs[place & io_uring_buf_ring_mask(ring->buffer_count)].bid;
}

int ring_register_table(struct ring *ring, unsigned count)
{
    return io_uring_register_buffers_sparse(&ring->uring, count);
}

int ring_register_buffer(struct ring *ring, unsigned index, void *base, size_t size)
{
    struct iovec iov = { .iov_base = base, .iov_len = size };
    int result = io_uring_register_buffers_update_tag(&ring->uring, index, &iov, NULL, 1);

    return result < 0 ? result : 0;
}

int ring_unregister_buffer(struct ring *ring, unsigned index)
{
    return ring_register_buffer(ring, index, NULL, 0);
}

static void ring_submitted(struct ring *ring)
{
    if (io_uring_sq_ready(&ring->uring) == 0)
        ring->pieces_used = ring->headers_used = 0;
}

/* In the middle of a turn. */
static void ring_submit_now(struct ring *ring)
{
    ring->stats.overflows++;
    int result = io_uring_submit(&ring->uring);
    CHECK(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY);
    if (result == -EBUSY || result == -EAGAIN)
        io_uring_get_events(&ring->uring);
    ring_submitted(ring);
}

/* Never NULL: a full queue is submitted on the spot. */
static struct io_uring_sqe *ring_get_sqe(struct ring *ring, uint64_t user_data)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    while (sqe == NULL) {
        ring_submit_now(ring);
        sqe = io_uring_get_sqe(&ring->uring);
    }
    ring->stats.submissions++;
    sqe->user_data =
        user_data; /* the prep functions below leave it, but io_uring_prep_rw of 2.3 does not */
    return sqe;
}

static unsigned ring_msg_flags(unsigned flags)
{
    return MSG_NOSIGNAL | ((flags & RING_WAITALL) != 0 ? MSG_WAITALL : 0U) |
           ((flags & RING_DONTWAIT) != 0 ? MSG_DONTWAIT : 0U);
}

void ring_accept(struct ring *ring, uint64_t user_data, int fd, bool many)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);

    if (many)
        io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = user_data;
}

void ring_connect(struct ring *ring, uint64_t user_data, int fd, const struct sockaddr *addr,
                  socklen_t size)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);

    io_uring_prep_connect(sqe, fd, addr, size);
    sqe->user_data = user_data;
}

void ring_recv(struct ring *ring, uint64_t user_data, int fd, void *buf, size_t size,
               unsigned flags)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);

    io_uring_prep_recv(sqe, fd, buf, size, (int)ring_msg_flags(flags));
    if ((flags & RING_POLL_FIRST) != 0)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->user_data = user_data;
}

void ring_recvmsg(struct ring *ring, uint64_t user_data, int fd, struct msghdr *msg, unsigned flags)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);

    io_uring_prep_recvmsg(sqe, fd, msg, ring_msg_flags(flags));
    if ((flags & RING_POLL_FIRST) != 0)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->user_data = user_data;
}

void ring_recv_provided(struct ring *ring, uint64_t user_data, int fd, unsigned flags)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);

    io_uring_prep_recv(sqe, fd, NULL, 0, (int)ring_msg_flags(flags));
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    if ((flags & RING_POLL_FIRST) != 0)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->user_data = user_data;
}

static unsigned ring_zc_flags(void)
{
    return features.zc_report ? IORING_SEND_ZC_REPORT_USAGE : 0U;
}

void ring_send(struct ring *ring, uint64_t user_data, int fd, const void *buf, size_t size,
               unsigned flags)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);

    if ((flags & RING_ZC) != 0)
        io_uring_prep_send_zc(sqe, fd, buf, size, (int)ring_msg_flags(flags), ring_zc_flags());
    else
        io_uring_prep_send(sqe, fd, buf, size, (int)ring_msg_flags(flags));
    sqe->user_data = user_data;
}

void ring_send_pieces(struct ring *ring, uint64_t user_data, int fd, const struct iovec *iov,
                      unsigned count, unsigned flags)
{
    CHECK(count > 0 && count <= RING_PIECES);
    while (ring->pieces_used + count > PIECES_ROOM || ring->headers_used == HEADERS_ROOM)
        ring_submit_now(ring);
    /* This may submit, too: before room is taken. */
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);
    struct iovec *pieces = &ring->pieces[ring->pieces_used];
    struct msghdr *header = &ring->headers[ring->headers_used++];

    ring->pieces_used += count;
    memcpy(pieces, iov, count * sizeof(*iov));
    *header = (struct msghdr){ .msg_iov = pieces, .msg_iovlen = count };
    io_uring_prep_sendmsg(sqe, fd, header, ring_msg_flags(flags));
    sqe->user_data = user_data;
}

void ring_send_fixed(struct ring *ring, uint64_t user_data, int fd, const void *buf, size_t size,
                     unsigned index, unsigned flags)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);

    io_uring_prep_send_zc(sqe, fd, buf, size, (int)ring_msg_flags(flags),
                          ring_zc_flags() | IORING_RECVSEND_FIXED_BUF);
    sqe->buf_index = (uint16_t)index;
    sqe->user_data = user_data;
}

void ring_sendmsg(struct ring *ring, uint64_t user_data, int fd, const struct msghdr *msg,
                  unsigned flags)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);

    if ((flags & RING_ZC) != 0) {
        io_uring_prep_sendmsg_zc(sqe, fd, msg, ring_msg_flags(flags));
        sqe->ioprio |= (uint16_t)ring_zc_flags();
    } else {
        io_uring_prep_sendmsg(sqe, fd, msg, ring_msg_flags(flags));
    }
    sqe->user_data = user_data;
}

void ring_poll(struct ring *ring, uint64_t user_data, int fd, bool out)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, user_data);

    io_uring_prep_poll_add(sqe, fd, out ? POLLOUT : POLLIN | POLLRDHUP);
    sqe->user_data = user_data;
}

void ring_cancel(struct ring *ring, uint64_t target)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, USER_DATA_NONE);

    io_uring_prep_cancel64(sqe, target, 0);
    sqe->user_data = USER_DATA_NONE;
}

void ring_close_fd(struct ring *ring, int fd)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, USER_DATA_NONE);

    io_uring_prep_close(sqe, fd);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = USER_DATA_NONE;
}

void ring_message(struct ring *ring, int target_fd, uint64_t user_data, int32_t res,
                  uint64_t sent_user_data)
{
    struct io_uring_sqe *sqe = ring_get_sqe(ring, sent_user_data);

    io_uring_prep_msg_ring(sqe, target_fd, (unsigned)res, user_data, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = sent_user_data;
}

static int ring_messenger_send(int target_fd, uint64_t user_data, int32_t res)
{
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&messenger.uring);
    int result;

    CHECK(sqe != NULL);
    io_uring_prep_msg_ring(sqe, target_fd, (unsigned)res, user_data, 0);
    do /* -EAGAIN: not submitted, the kernel was out of memory for a moment */
        result = io_uring_submit_and_wait(&messenger.uring, 1);
    while (result == -EINTR || result == -EAGAIN);
    do
        result = io_uring_wait_cqe(&messenger.uring, &cqe);
    while (result < 0);
    result = cqe->res < 0 ? cqe->res : 0;
    io_uring_cqe_seen(&messenger.uring, cqe);
    return result;
}

int ring_message_from_thread(int target_fd, uint64_t user_data, int32_t res)
{
    pthread_mutex_lock(&messenger.mutex);
    CHECK(messenger.open); /* with the ring that the message is for */
    int result = ring_messenger_send(target_fd, user_data, res);
    pthread_mutex_unlock(&messenger.mutex);
    return result;
}

static bool ring_translate(struct ring *ring, const struct io_uring_cqe *cqe, struct ring_cqe *out)
{
    if (cqe->user_data == USER_DATA_ALARM)
        ring->alarm = UINT64_MAX;
    if (cqe->user_data == USER_DATA_ALARM || cqe->user_data == USER_DATA_NONE)
        return false;
    out->user_data = cqe->user_data;
    out->res = cqe->res;
    out->flags = ((cqe->flags & IORING_CQE_F_MORE) != 0 ? RING_CQE_MORE : 0U) |
                 ((cqe->flags & IORING_CQE_F_BUFFER) != 0 ? RING_CQE_BUFFER : 0U) |
                 ((cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) != 0 ? RING_CQE_NONEMPTY : 0U);
    out->buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    if ((cqe->flags & IORING_CQE_F_NOTIF) != 0) {
        out->flags |= RING_CQE_NOTIF;
        if (((uint32_t)cqe->res & IORING_NOTIF_USAGE_ZC_COPIED) != 0)
            out->flags |= RING_CQE_COPIED;
    }
    return true;
}

/* One that is due earlier may stay: the wait ends too early once, and the next one sets it anew. */
static void ring_set_alarm(struct ring *ring, uint64_t due)
{
    if (due >= ring->alarm)
        return;
    uint64_t now = ring_clock_now(), rest = due > now ? due - now : 1;
    bool moves = ring->alarm != UINT64_MAX;
    struct io_uring_sqe *sqe = ring_get_sqe(ring, USER_DATA_ALARM);

    ring->alarm = due;
    /* Relative: the kernel does not know of this process's time namespace (time_namespaces(7)). */
    ring->alarm_time = (struct __kernel_timespec){ .tv_sec = (int64_t)(rest / NSEC_PER_SEC),
                                                   .tv_nsec = (long long)(rest % NSEC_PER_SEC) };
    if (moves) {
        io_uring_prep_timeout_update(sqe, &ring->alarm_time, USER_DATA_ALARM, 0);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS; /* fails when it is just over, and ends the wait */
        sqe->user_data = USER_DATA_NONE;
    } else {
        io_uring_prep_timeout(sqe, &ring->alarm_time, 0, 0);
        sqe->user_data = USER_DATA_ALARM;
    }
}

static void ring_submit_and_wait(struct ring *ring, uint64_t timeout)
{
    int result;

    if (timeout == 0) {
        result = io_uring_submit_and_get_events(&ring->uring);
    } else {
        if (timeout < UINT64_MAX - ring->now)
            ring_set_alarm(ring, ring->now + timeout);
        result = io_uring_submit_and_wait(&ring->uring, 1);
    }
    ring->stats.waits++;
    ring_submitted(ring);
    CHECK(result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN);
}

unsigned ring_wait(struct ring *ring, uint64_t timeout, struct ring_cqe *out, unsigned max)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0, count = 0;

    ring_submit_and_wait(ring, io_uring_cq_ready(&ring->uring) > 0 ? 0 : timeout);
    ring->now = ring_clock_now();
    io_uring_for_each_cqe(&ring->uring, head, cqe)
    {
        if (count == max)
            break;
        seen++;
        count += ring_translate(ring, cqe, &out[count]);
    }
    io_uring_cq_advance(&ring->uring, seen);
    ring->stats.completions += count;
    return count;
}

bool ring_has_more(const struct ring *ring)
{
    return io_uring_cq_ready(&ring->uring) > 0 || io_uring_cq_has_overflow(&ring->uring);
}

const struct ring_stats *ring_stats(const struct ring *ring)
{
    return &ring->stats;
}
