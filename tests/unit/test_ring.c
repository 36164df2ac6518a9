/*
 * ring: every call of ring.h against the kernel, over socket pairs and loopback. What the kernel
 * does in corners is in tests/kernel; here it is the layer: flags, user_data, results, counters,
 * and that nothing is lost.
 */
#include <check.h>
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/io/ring.h"
#include "core/io/sock.h"

#define ENTRIES 64u

static struct ring *ring;
static int pair[2];

static void setup(void)
{
    int error = 0;

    ring = ring_open(ENTRIES, &error);
    ck_assert_msg(ring != NULL, "ring_open: %s", strerror(error));
    ck_assert_int_eq(ring_start(ring), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void teardown(void)
{
    ring_close(ring);
    close(pair[0]);
    close(pair[1]);
}

/* The next completion; waits as long as it takes, up to a deadline that only a hang reaches. */
static struct ring_cqe next(void)
{
    struct ring_cqe cqe;

    for (unsigned i = 0; i < 100; i++)
        if (ring_wait(ring, NSEC_PER_SEC, &cqe, 1) == 1)
            return cqe;
    ck_abort_msg("no completion");
}

/* Nothing may come; a moment is enough, since all that could come is ready by then. */
static void nothing_comes(void)
{
    struct ring_cqe cqe;

    ck_assert_uint_eq(ring_wait(ring, 20 * NSEC_PER_MSEC, &cqe, 1), 0);
}

static void write_all(int fd, const void *data, size_t size)
{
    ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
}

START_TEST(receives_into_own_memory)
{
    char buf[8] = "........";

    ring_recv(ring, 0x1234567890abcdef, pair[0], buf, 5, RING_POLL_FIRST);
    nothing_comes();
    write_all(pair[1], "abcdefg", 7);
    struct ring_cqe cqe = next();
    ck_assert_uint_eq(cqe.user_data, 0x1234567890abcdef);
    ck_assert_int_eq(cqe.res, 5);
    ck_assert_uint_eq(cqe.flags & ~RING_CQE_NONEMPTY, 0);
    ck_assert_mem_eq(buf, "abcde...", 8);
    ring_recv(ring, 7, pair[0], buf, 5, 0);
    cqe = next();
    ck_assert_int_eq(cqe.res, 2);
    ck_assert_mem_eq(buf, "fg", 2);
}
END_TEST

START_TEST(the_end_is_zero)
{
    char buf[8];

    shutdown(pair[1], SHUT_WR);
    ring_recv(ring, 1, pair[0], buf, sizeof(buf), 0);
    ck_assert_int_eq(next().res, 0);
}
END_TEST

START_TEST(dontwait_says_again)
{
    char buf[8];

    ring_recv(ring, 1, pair[0], buf, sizeof(buf), RING_DONTWAIT);
    ck_assert_int_eq(next().res, -EAGAIN);
}
END_TEST

START_TEST(receives_into_provided_memory)
{
    static char memory[4][256];

    ck_assert_int_eq(ring_buffers_open(ring, 4), 0);
    for (uint32_t i = 0; i < 4; i++)
        ring_buffer_give(ring, memory[i] + 64, 128, i + 100);
    for (uint32_t i = 0; i < 4; i++) {
        ring_recv_provided(ring, 50 + i, pair[0], i % 2 == 0 ? RING_POLL_FIRST : 0);
        write_all(pair[1], "0123456789", 10);
        struct ring_cqe cqe = next();
        ck_assert_uint_eq(cqe.user_data, 50 + i);
        ck_assert_int_eq(cqe.res, 10);
        ck_assert_uint_eq(cqe.flags & RING_CQE_BUFFER, RING_CQE_BUFFER);
        ck_assert_uint_eq(cqe.buffer, i + 100);
        ck_assert_mem_eq(memory[i] + 64, "0123456789", 10);
    }
    write_all(pair[1], "x", 1);
    ring_recv_provided(ring, 60, pair[0], 0);
    struct ring_cqe cqe = next();
    ck_assert_int_eq(cqe.res, -ENOBUFS);
    ck_assert_uint_eq(cqe.flags & RING_CQE_BUFFER, 0);
    ring_buffer_give(ring, memory[2] + 64, 128, 102);
    ring_recv_provided(ring, 61, pair[0], 0);
    cqe = next();
    ck_assert_int_eq(cqe.res, 1);
    ck_assert_uint_eq(cqe.buffer, 102);
}
END_TEST

static void read_back(const char *expected, size_t size)
{
    char buf[64] = { 0 };

    ck_assert_int_eq(recv(pair[1], buf, size, MSG_WAITALL), (ssize_t)size);
    ck_assert_mem_eq(buf, expected, size);
}

START_TEST(sends_and_sends_vectors)
{
    char first[] = "vec", second[] = "tors";
    struct iovec iov[2] = { { first, 3 }, { second, 4 } };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

    ring_send(ring, 1, pair[0], "plain", 5, RING_WAITALL);
    ck_assert_int_eq(next().res, 5);
    read_back("plain", 5);
    ring_sendmsg(ring, 2, pair[0], &msg, 0);
    ck_assert_int_eq(next().res, 7);
    read_back("vectors", 7);
}
END_TEST

START_TEST(a_dead_peer_is_an_error_and_no_signal)
{
    close(pair[1]);
    ring_send(ring, 1, pair[0], "x", 1, 0);
    ck_assert_int_eq(next().res, -EPIPE);
    pair[1] = dup(pair[0]);
}
END_TEST

static void *read_slowly(void *arg)
{
    size_t *total = arg;
    static char buf[65536];
    ssize_t n;

    while ((n = read(pair[1], buf, sizeof(buf))) > 0)
        *total += (size_t)n;
    return NULL;
}

START_TEST(waitall_completes_once_for_all)
{
    size_t size = 8 * MIB, got = 0;
    char *data = calloc(1, size);
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, read_slowly, &got), 0);
    ring_send(ring, 1, pair[0], data, size, RING_WAITALL);
    struct ring_cqe cqe = next();
    ck_assert_int_eq(cqe.res, (int)size);
    nothing_comes();
    shutdown(pair[0], SHUT_WR);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(got, size);
    free(data);
}
END_TEST

START_TEST(cancel_ends_a_waiting_receive)
{
    char buf[8];

    ring_recv(ring, 77, pair[0], buf, sizeof(buf), 0);
    nothing_comes();
    ring_cancel(ring, 77);
    struct ring_cqe cqe = next();
    ck_assert_uint_eq(cqe.user_data, 77);
    ck_assert_int_eq(cqe.res, -ECANCELED);
    ring_cancel(ring, 77); /* nothing of that name: no completion of its own */
    nothing_comes();
}
END_TEST

static int listen_loopback(union sock_addr *addr)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    memset(addr, 0, sizeof(*addr));
    memcpy(addr, &in, sizeof(in));
    int fd = sock_listen(addr, false, 16);
    ck_assert_int_ge(fd, 0);
    sock_local(fd, addr);
    return fd;
}

START_TEST(accepts_many_with_one_request)
{
    union sock_addr addr;
    int listener = listen_loopback(&addr), dialled[3];

    ring_accept(ring, 5, listener, true);
    for (unsigned i = 0; i < 3; i++) {
        dialled[i] = sock_dial(AF_INET);
        ring_connect(ring, 6, dialled[i], &addr.sa, sock_addr_size(&addr));
    }
    unsigned accepted = 0, connected = 0;
    while (accepted < 3 || connected < 3) {
        struct ring_cqe cqe = next();
        ck_assert_int_ge(cqe.res, 0);
        if (cqe.user_data == 5) {
            ck_assert_uint_eq(cqe.flags & ~RING_CQE_NONEMPTY, RING_CQE_MORE);
            accepted++;
            ring_close_fd(ring, cqe.res);
        } else {
            ck_assert_int_eq(cqe.res, 0);
            connected++;
        }
    }
    ring_cancel(ring, 5);
    struct ring_cqe cqe = next();
    ck_assert_int_eq(cqe.res, -ECANCELED);
    ck_assert_uint_eq(cqe.flags & RING_CQE_MORE, 0);
    for (unsigned i = 0; i < 3; i++)
        close(dialled[i]);
    close(listener);
}
END_TEST

START_TEST(connecting_to_nobody_is_refused)
{
    union sock_addr addr;

    close(listen_loopback(&addr)); /* a port that was free a moment ago */
    int fd = sock_dial(AF_INET);
    ring_connect(ring, 1, fd, &addr.sa, sock_addr_size(&addr));
    ck_assert_int_eq(next().res, -ECONNREFUSED);
    close(fd);
}
END_TEST

START_TEST(closes_descriptors)
{
    int fds[2];
    char buf[1];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ring_close_fd(ring, fds[0]);
    nothing_comes();
    ck_assert_int_eq(read(fds[1], buf, 1), 0);
    close(fds[1]);
}
END_TEST

/* Far more operations in one turn than the queue holds: handed over on the spot, none lost. */
START_TEST(a_full_submission_queue_loses_nothing)
{
    static char bufs[ENTRIES * 3];
    bool seen[ENTRIES * 3] = { false };
    unsigned done = 0;

    for (unsigned i = 0; i < ENTRIES * 3; i++)
        ring_recv(ring, i + 1, pair[0], &bufs[i], 1, 0);
    ck_assert_uint_gt(ring_stats(ring)->overflows, 0);
    for (unsigned i = 0; i < ENTRIES * 3; i++)
        write_all(pair[1], "z", 1);
    while (done < ENTRIES * 3) {
        struct ring_cqe out[16];
        unsigned n = ring_wait(ring, 10 * NSEC_PER_SEC, out, 16);
        ck_assert_uint_gt(n, 0);
        for (unsigned i = 0; i < n; i++, done++) {
            ck_assert_int_eq(out[i].res, 1);
            ck_assert(!seen[out[i].user_data - 1]);
            seen[out[i].user_data - 1] = true;
        }
    }
    ck_assert_uint_eq(ring_stats(ring)->completions, ENTRIES * 3);
    ck_assert_uint_ge(ring_stats(ring)->submissions, ENTRIES * 3);
    ck_assert_uint_le(ring_stats(ring)->submissions, ENTRIES * 3 + 1); /* the ring's own alarm */
}
END_TEST

/* Two ends of a TCP connection over loopback: unlike a socket pair it takes many small sends
 * without waiting. */
static int pipe_of_sockets(int ends[2])
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, size) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &size) != 0 ||
        connect(ends[0], (struct sockaddr *)&at, size) != 0)
        return -1;
    ends[1] = accept(listener, NULL, NULL);
    close(listener);
    return ends[1] >= 0 ? 0 : -1;
}

/* More of them in one turn than there is room for, from vectors that are gone when the kernel sees
 * them. */
START_TEST(sends_in_pieces_keep_their_order)
{
    enum { SENDS = 560, MOST = SENDS * RING_PIECES };
    const unsigned each = _i == 0 ? RING_PIECES : 2; /* out of vectors first, or of headers */
    static uint8_t bytes[MOST], seen[MOST];
    int error = 0, ends[2];
    struct ring *wide = ring_open(1024, &error);
    size_t got = 0, all = (size_t)SENDS * each;

    ck_assert(wide != NULL);
    ck_assert_int_eq(ring_start(wide), 0);
    ck_assert_int_eq(pipe_of_sockets(ends), 0);
    for (unsigned i = 0; i < all; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    for (unsigned i = 0; i < SENDS; i++) {
        struct iovec iov[RING_PIECES];

        for (unsigned k = 0; k < each; k++)
            iov[k] = (struct iovec){ .iov_base = &bytes[i * each + k], .iov_len = 1 };
        ring_send_pieces(wide, i + 1, ends[0], iov, each, RING_WAITALL);
        memset(iov, 0, sizeof(iov));
    }
    for (unsigned done = 0; done < SENDS;) {
        struct ring_cqe out[64];
        unsigned n = ring_wait(wide, 10 * NSEC_PER_SEC, out, 64);

        for (unsigned i = 0; i < n; i++, done++)
            ck_assert_int_eq(out[i].res, (int)each);
    }
    while (got < all) {
        ssize_t n = recv(ends[1], seen + got, all - got, 0);

        ck_assert_int_gt(n, 0);
        got += (size_t)n;
    }
    ck_assert_mem_eq(seen, bytes, all);
    ck_assert_uint_gt(ring_stats(wide)->overflows, 0);
    ring_close(wide);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* A wait of so many ms that data ends at once: its time-out is still there afterwards. */
static void wait_ended_by_data(uint64_t ms)
{
    struct ring_cqe cqe;
    char buf[1];

    ring_recv(ring, 1, pair[0], buf, 1, 0);
    write_all(pair[1], "z", 1);
    while (ring_wait(ring, ms * NSEC_PER_MSEC, &cqe, 1) == 0) {}
    ck_assert_uint_eq(cqe.user_data, 1);
}

/* Waits that long, though an earlier time-out may end it early; how many waits that took. */
static unsigned wait_for_nothing(uint64_t ms)
{
    uint64_t due = ring_now(ring) + ms * NSEC_PER_MSEC;
    struct ring_cqe cqe;
    unsigned waits = 0;

    for (; ring_now(ring) < due; waits++)
        ck_assert_uint_eq(ring_wait(ring, due - ring_now(ring), &cqe, 1), 0);
    return waits;
}

/* The time-out that one wait set is in the way of the next neither when that is shorter nor when it
 * is longer. */
START_TEST(each_wait_has_its_own_time)
{
    wait_ended_by_data(3600 * 1000);
    ck_assert_uint_eq(wait_for_nothing(20), 1); /* Check's time-out ends it if the hour counts */
    wait_ended_by_data(5);
    ck_assert_uint_le(wait_for_nothing(50), 3); /* the 5 ms may end one, and a late clock another */
    for (uint64_t ms = 32; ms > 0; ms /= 2) {
        wait_ended_by_data(ms);
        wait_for_nothing(ms / 2 + 1);
    }
    wait_ended_by_data(1000);
}
END_TEST

START_TEST(waiting_ends_in_time_and_the_clock_moves)
{
    struct ring_cqe cqe;
    uint64_t before = ring_now(ring);

    ck_assert_uint_eq(ring_wait(ring, 5 * NSEC_PER_MSEC, &cqe, 1), 0);
    ck_assert_uint_ge(ring_now(ring), before + 5 * NSEC_PER_MSEC);
    before = ring_now(ring);
    ck_assert_uint_eq(ring_wait(ring, 0, &cqe, 1), 0);
    ck_assert_uint_ge(ring_now(ring), before);
}
END_TEST

struct other {
    struct ring *ring;
    pthread_barrier_t ready;
    struct ring_cqe got[2];
};

static void *other_thread(void *arg)
{
    struct other *other = arg;

    if (ring_start(other->ring) != 0)
        return NULL;
    pthread_barrier_wait(&other->ready);
    for (unsigned n = 0; n < 2;)
        n += ring_wait(other->ring, UINT64_MAX, &other->got[n], 2 - n);
    return NULL;
}

START_TEST(messages_reach_another_threads_ring)
{
    struct other other = { 0 };
    pthread_t thread;
    int error;

    other.ring = ring_open(ENTRIES, &error);
    ck_assert_ptr_nonnull(other.ring);
    pthread_barrier_init(&other.ready, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, &other), 0);
    pthread_barrier_wait(&other.ready);
    ring_message(ring, ring_fd(other.ring), 0xfedcba9876543210, -5, 99);
    nothing_comes(); /* success is silent */
    ck_assert_int_eq(ring_message_from_thread(ring_fd(other.ring), 4711, 12), 0);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(other.got[0].user_data, 0xfedcba9876543210);
    ck_assert_int_eq(other.got[0].res, -5);
    ck_assert_uint_eq(other.got[1].user_data, 4711);
    ck_assert_int_eq(other.got[1].res, 12);
    ring_close(other.ring);
    pthread_barrier_destroy(&other.ready);
}
END_TEST

START_TEST(a_message_to_no_ring_fails_aloud)
{
    ring_message(ring, pair[0], 1, 0, 99);
    struct ring_cqe cqe = next();
    ck_assert_uint_eq(cqe.user_data, 99);
    ck_assert_int_lt(cqe.res, 0);
    ck_assert_int_lt(ring_message_from_thread(pair[0], 1, 0), 0);
}
END_TEST

/* A connected loopback pair through the ring's own calls. */
static void tcp_pair(int fds[2])
{
    union sock_addr addr;
    int listener = listen_loopback(&addr);

    fds[0] = sock_dial(AF_INET);
    ck_assert_int_eq(connect(fds[0], &addr.sa, sock_addr_size(&addr)), 0);
    fds[1] = accept(listener, NULL, NULL);
    ck_assert_int_ge(fds[1], 0);
    close(listener);
}

static void expect_zero_copy(int fds[2], const char *data, size_t size)
{
    static char got[65536];

    struct ring_cqe cqe = next();
    ck_assert_int_eq(cqe.res, (int)size);
    ck_assert_uint_eq(cqe.flags & RING_CQE_NOTIF, 0);
    bool more = (cqe.flags & RING_CQE_MORE) != 0;
    ck_assert_int_eq(recv(fds[1], got, size, MSG_WAITALL), (ssize_t)size);
    ck_assert_mem_eq(got, data, size);
    if (!more)
        return;
    uint64_t user_data = cqe.user_data;
    cqe = next();
    ck_assert_uint_eq(cqe.user_data, user_data);
    ck_assert_uint_eq(cqe.flags & (RING_CQE_NOTIF | RING_CQE_MORE), RING_CQE_NOTIF);
    if (ring_features()->zc_report) /* loopback copies, and says so */
        ck_assert_uint_eq(cqe.flags & RING_CQE_COPIED, RING_CQE_COPIED);
}

START_TEST(zero_copy_in_its_three_forms)
{
    static char data[65536];
    struct iovec iov[2] = { { data, 1000 }, { data + 1000, 60000 } };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
    int fds[2];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7);
    tcp_pair(fds);
    ring_send(ring, 1, fds[0], data, 65000, RING_ZC | RING_WAITALL);
    expect_zero_copy(fds, data, 65000);
    ring_sendmsg(ring, 2, fds[0], &msg, RING_ZC | RING_WAITALL);
    expect_zero_copy(fds, data, 61000);
    if (ring_register_table(ring, 4) == 0 &&
        ring_register_buffer(ring, 2, data, sizeof(data)) == 0) {
        ring_send_fixed(ring, 3, fds[0], data + 100, 60000, 2, RING_WAITALL);
        expect_zero_copy(fds, data + 100, 60000);
    }
    close(fds[0]);
    close(fds[1]);
}
END_TEST

/* Locked memory: a process of a user of its own, since root is exempt and others' processes
 * count. */

static void set_limit(uint64_t limit)
{
    struct rlimit memlock;

    ck_assert_int_eq(getrlimit(RLIMIT_MEMLOCK, &memlock), 0);
    memlock.rlim_cur = min_u64(limit, memlock.rlim_max);
    ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &memlock), 0);
}

/* The first ring brings the one of threads without a ring, which stays. False: this kernel does not
 * count rings. */
static bool become_user(void)
{
    uid_t user = 100000 + (uid_t)getpid();
    int error = 0;

    if (geteuid() == 0)
        ck_assert(setgroups(0, NULL) == 0 && setresgid(user, user, user) == 0 &&
                  setresuid(user, user, user) == 0);
    ring_close(ring_open(ENTRIES, &error));
    set_limit(0);
    struct ring *uncounted = ring_open(ENTRIES, &error);
    if (uncounted != NULL)
        printf("this kernel does not count rings\n");
    ring_close(uncounted);
    return uncounted == NULL && error == ENOMEM;
}

static void set_limit_for(unsigned entries, unsigned buffers)
{
    set_limit(ring_memory(2, 0) + ring_memory(entries, buffers));
}

/* ring_memory() is what the kernel counts, to the page. */
START_TEST(a_ring_is_as_large_as_it_says)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    int error = 0;

    if (!become_user())
        return;
    for (unsigned entries = 64; entries <= 4096; entries *= 2) {
        set_limit(ring_memory(2, 0) + ring_memory(entries, 0) - page);
        ck_assert_ptr_null(ring_open(entries, &error));
        ck_assert_int_eq(error, ENOMEM);
        set_limit_for(entries, 0);
        struct ring *exact = ring_open(entries, &error);
        ck_assert_msg(exact != NULL, "%u entries: %s", entries, strerror(error));
        ck_assert_int_eq(ring_buffers_open(exact, 512), -ENOMEM);
        set_limit_for(entries, 512);
        ck_assert_int_eq(ring_buffers_open(exact, 512), 0);
        ring_close(exact);
    }
}
END_TEST

/* Closed rings, and those of a process that was killed, give their share back late: the next one
 * waits for it, and not for ever. */
START_TEST(a_ring_waits_for_what_comes_back)
{
    int error = 0, ready[2];
    char byte;

    if (!become_user())
        return;
    set_limit_for(1024, 0);
    for (unsigned i = 0; i < 20; i++) {
        struct ring *all = ring_open(1024, &error);
        ck_assert_msg(all != NULL, "ring %u: %s", i, strerror(error));
        ring_close(all);
    }
    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct ring *all = ring_open(1024, &error);
        (void)!write(ready[1], all != NULL ? "y" : "n", 1);
        for (;;)
            pause();
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(byte, 'y');
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    struct ring *next_one = ring_open(1024, &error);
    ck_assert_msg(next_one != NULL, "after a kill: %s", strerror(error));
    ck_assert_ptr_null(ring_open(1024, &error)); /* this time it does not come back */
    ck_assert_int_eq(error, ENOMEM);
    ring_close(next_one);
}
END_TEST

START_TEST(errors_have_a_cure)
{
    ck_assert_ptr_nonnull(strstr(ring_error_text(ENOMEM), "ulimit -l"));
    ck_assert_ptr_nonnull(strstr(ring_error_text(ENOMEM), "LimitMEMLOCK="));
    ck_assert_ptr_nonnull(strstr(ring_error_text(EMFILE), "ulimit -n"));
    ck_assert_ptr_nonnull(strstr(ring_error_text(ENFILE), "fs.file-max"));
    ck_assert_ptr_nonnull(strstr(ring_error_text(EPERM), "seccomp"));
    ck_assert_ptr_nonnull(strstr(ring_error_text(ENOSYS), "6.1"));
    ck_assert_ptr_nonnull(ring_error_text(EIO));
}
END_TEST

/* What one wait has no room for is told, and comes with the next. */
START_TEST(what_is_left_behind_is_known)
{
    struct ring_cqe cqe[ENTRIES * 8];
    char byte[1];

    ck_assert(!ring_has_more(ring));
    for (unsigned i = 0; i < 5; i++)
        ring_recv(ring, 1 + i, pair[0], byte, 1, RING_DONTWAIT); /* nothing there: at once */
    unsigned got = ring_wait(ring, NSEC_PER_SEC, cqe, 2);
    ck_assert_uint_eq(got, 2);
    ck_assert(ring_has_more(ring));
    while (got < 5)
        got += ring_wait(ring, NSEC_PER_SEC, cqe, 2);
    ck_assert(!ring_has_more(ring));
}
END_TEST

/* More than the completion queue holds: the kernel keeps the rest, and nothing is "all" before it
 * was read. */
START_TEST(what_the_queue_could_not_hold_is_known)
{
    struct ring_cqe cqe[ENTRIES];
    const unsigned many = ENTRIES * 4 + 100; /* the queue holds ENTRIES * 4 */
    unsigned got = 0;
    char byte[1];

    for (unsigned i = 0; i < many; i++)
        ring_recv(ring, 1 + i, pair[0], byte, 1, RING_DONTWAIT);
    while (got < many) {
        unsigned n = ring_wait(ring, NSEC_PER_SEC, cqe, ENTRIES);
        for (unsigned i = 0; i < n; i++)
            ck_assert_uint_eq(cqe[i].user_data, 1 + got + i);
        got += n;
        ck_assert(ring_has_more(ring) == (got < many));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring");
    TCase *tcase = tcase_create("ring");
    TCase *memory = tcase_create("memory");
    SRunner *runner = srunner_create(suite);

    if (!ring_features()->usable) {
        printf("skipped: %s\n", ring_unusable_text());
        return 77;
    }
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, receives_into_own_memory);
    tcase_add_test(tcase, the_end_is_zero);
    tcase_add_test(tcase, dontwait_says_again);
    tcase_add_test(tcase, receives_into_provided_memory);
    tcase_add_test(tcase, sends_and_sends_vectors);
    tcase_add_test(tcase, a_dead_peer_is_an_error_and_no_signal);
    tcase_add_test(tcase, waitall_completes_once_for_all);
    tcase_add_test(tcase, cancel_ends_a_waiting_receive);
    tcase_add_test(tcase, accepts_many_with_one_request);
    tcase_add_test(tcase, connecting_to_nobody_is_refused);
    tcase_add_test(tcase, closes_descriptors);
    tcase_add_test(tcase, a_full_submission_queue_loses_nothing);
    tcase_add_loop_test(tcase, sends_in_pieces_keep_their_order, 0, 2);
    tcase_add_test(tcase, each_wait_has_its_own_time);
    tcase_add_test(tcase, waiting_ends_in_time_and_the_clock_moves);
    tcase_add_test(tcase, messages_reach_another_threads_ring);
    tcase_add_test(tcase, a_message_to_no_ring_fails_aloud);
    tcase_add_test(tcase, errors_have_a_cure);
    tcase_add_test(tcase, what_is_left_behind_is_known);
    tcase_add_test(tcase, what_the_queue_could_not_hold_is_known);
    if (ring_features()->send_zc)
        tcase_add_test(tcase, zero_copy_in_its_three_forms);
    suite_add_tcase(suite, tcase);
    tcase_set_timeout(memory, 60);
    tcase_add_test(memory, a_ring_is_as_large_as_it_says);
    tcase_add_test(memory, a_ring_waits_for_what_comes_back);
    suite_add_tcase(suite, memory);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
