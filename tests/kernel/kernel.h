/* kernel: what the tests of the kernel's behaviour share: rings as Culvert sets them up, loopback
 * pairs, and skipping. */
#ifndef CULVERT_TESTS_KERNEL_H
#define CULVERT_TESTS_KERNEL_H

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KERNEL_SKIP 77

#define EXPECT(cond)                                                                              \
    do {                                                                                          \
        if (!(cond)) {                                                                            \
            fprintf(stderr, "%s:%d: expected %s (errno %d)\n", __FILE__, __LINE__, #cond, errno); \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

__attribute__((noreturn)) static inline void kernel_skip(const char *why)
{
    printf("skipped: %s\n", why);
    exit(KERNEL_SKIP);
}

/* A ring with the flags of src/core/io/ring.c; skips where the kernel refuses. */
static inline void kernel_ring(struct io_uring *ring, unsigned entries)
{
    int result = io_uring_queue_init(entries, ring,
                                     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_SUBMIT_ALL);
    if (result < 0)
        kernel_skip(
            "io_uring with SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1) cannot be used here");
}

static inline int kernel_listen(struct sockaddr_in *addr, bool reuseport)
{
    socklen_t size = sizeof(*addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    EXPECT(fd >= 0);
    if (addr->sin_family == 0)
        *addr = (struct sockaddr_in){ .sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    EXPECT(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
    if (reuseport)
        EXPECT(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0);
    if (bind(fd, (struct sockaddr *)addr, sizeof(*addr)) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    EXPECT(listen(fd, 64) == 0 && getsockname(fd, (struct sockaddr *)addr, &size) == 0);
    return fd;
}

static inline int kernel_dial(const struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    EXPECT(fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0);
    return fd;
}

static inline void kernel_pair(int fds[2])
{
    struct sockaddr_in addr = { 0 };
    int listener = kernel_listen(&addr, false);

    fds[0] = kernel_dial(&addr);
    fds[1] = accept(listener, NULL, NULL);
    EXPECT(fds[1] >= 0);
    close(listener);
}

/* RST instead of FIN. */
static inline void kernel_reset(int fd)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    EXPECT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
    close(fd);
}

struct kernel_cqe {
    unsigned long long user_data;
    int res;
    unsigned flags;
};

/* Submits and waits for the next completion, at most ten seconds; copies it. */
static inline struct kernel_cqe kernel_next(struct io_uring *ring)
{
    struct __kernel_timespec ts = { .tv_sec = 10 };
    struct io_uring_cqe *cqe = NULL;

    int result = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &ts, NULL);
    EXPECT(result >= 0 && io_uring_peek_cqe(ring, &cqe) == 0);
    struct kernel_cqe copy = { cqe->user_data, cqe->res, cqe->flags };
    io_uring_cqe_seen(ring, cqe);
    return copy;
}

/* Submits, waits a moment, and expects no completion. */
static inline void kernel_none(struct io_uring *ring)
{
    struct __kernel_timespec ts = { .tv_nsec = 20000000 };
    struct io_uring_cqe *cqe = NULL;

    (void)io_uring_submit_and_wait_timeout(ring, &cqe, 1, &ts, NULL);
    EXPECT(io_uring_peek_cqe(ring, &cqe) == -EAGAIN);
}

static inline struct io_uring_sqe *kernel_sqe(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

    EXPECT(sqe != NULL);
    return sqe;
}

#endif
