/*
 * send: what src/core assumes of IORING_OP_SEND on TCP.
 *
 * The last two tests are the trap: a reset that meets a half-done MSG_WAITALL send is reported as a
 * short count and nothing else; the error of the socket has been told thereby, and a read that
 * comes after says 0 like a clean end. Only poll(2) still tells of it. So who gets a short count
 * asks it (relay.c, conn.c), and the simulated kernel does the same.
 */
#include "kernel.h"

#include <pthread.h>

#define BIG (16u << 20)

static struct io_uring ring;
static char *data;

static void send_all(int fd, size_t size, unsigned long long user_data)
{
    struct io_uring_sqe *sqe = kernel_sqe(&ring);

    io_uring_prep_send(sqe, fd, data, size, MSG_WAITALL | MSG_NOSIGNAL);
    sqe->user_data = user_data;
}

static void *drain(void *arg)
{
    static char buf[65536];
    int fd = *(int *)arg;
    size_t total = 0;
    ssize_t n;

    while ((n = read(fd, buf, sizeof(buf))) > 0)
        total += (size_t)n;
    return (void *)total;
}

/* Many MiB, one completion, on a blocking socket. */
static void waitall_completes_in_one_piece(void)
{
    int fds[2];
    pthread_t thread;
    void *total;

    kernel_pair(fds);
    EXPECT(pthread_create(&thread, NULL, drain, &fds[1]) == 0);
    send_all(fds[0], BIG, 1);
    EXPECT(kernel_next(&ring).res == (int)BIG);
    kernel_none(&ring);
    shutdown(fds[0], SHUT_WR);
    pthread_join(thread, &total);
    EXPECT((size_t)total == BIG);
    close(fds[0]);
    close(fds[1]);
}

/* Without it a send that meets a full buffer is short. */
static void plain_send_is_short(void)
{
    struct io_uring_sqe *sqe = kernel_sqe(&ring);
    int fds[2];

    kernel_pair(fds);
    io_uring_prep_send(sqe, fds[0], data, BIG, MSG_NOSIGNAL);
    int res = kernel_next(&ring).res;
    EXPECT(res > 0 && res < (int)BIG);
    close(fds[0]);
    close(fds[1]);
}

static void dontwait_says_again_when_full(void)
{
    struct io_uring_sqe *sqe;
    int fds[2], res;

    kernel_pair(fds);
    do {
        sqe = kernel_sqe(&ring);
        io_uring_prep_send(sqe, fds[0], data, BIG, MSG_NOSIGNAL | MSG_DONTWAIT);
        res = kernel_next(&ring).res;
    } while (res > 0);
    EXPECT(res == -EAGAIN);
    close(fds[0]);
    close(fds[1]);
}

/* A cancelled send that has moved bytes says how many; one that has not, -ECANCELED. */
static void cancel_of_a_send_in_progress(void)
{
    struct io_uring_sqe *sqe;
    int fds[2];

    kernel_pair(fds);
    for (int round = 0; round < 2; round++) {
        send_all(fds[0], BIG, 7);
        kernel_none(&ring);
        sqe = kernel_sqe(&ring);
        io_uring_prep_cancel64(sqe, 7, 0);
        sqe->user_data = 8;
        struct kernel_cqe first = kernel_next(&ring), second = kernel_next(&ring);
        struct kernel_cqe send = first.user_data == 7 ? first : second;
        if (round == 0)
            EXPECT(send.res > 0 && send.res < (int)BIG);
        else
            EXPECT(send.res == -ECANCELED);
    }
    close(fds[0]);
    close(fds[1]);
}

static void reset_in_a_waitall_send_is_a_short_count(void)
{
    struct io_uring_sqe *sqe;
    char buf[16];
    int fds[2];

    kernel_pair(fds);
    send_all(fds[0], BIG, 1);
    kernel_none(&ring);
    kernel_reset(fds[1]);
    struct kernel_cqe cqe = kernel_next(&ring);
    EXPECT(cqe.res > 0 && cqe.res < (int)BIG);
    struct pollfd poll_fd = { .fd = fds[0] };
    EXPECT(poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLHUP) != 0); /* still told here */
    sqe = kernel_sqe(&ring);
    io_uring_prep_recv(sqe, fds[0], buf, sizeof(buf), 0);
    EXPECT(kernel_next(&ring).res == 0); /* looks like FIN */
    send_all(fds[0], 1, 2);
    EXPECT(kernel_next(&ring).res == -EPIPE);
    close(fds[0]);
}

/* With nothing sent yet the error is told, to whoever comes first, and once. */
static void reset_is_told_once(void)
{
    struct io_uring_sqe *sqe;
    char buf[16];
    int fds[2];

    kernel_pair(fds);
    kernel_reset(fds[1]);
    struct pollfd poll_fd = { .fd = fds[0], .events = POLLIN };
    EXPECT(poll(&poll_fd, 1, 5000) == 1);
    send_all(fds[0], 10, 1);
    EXPECT(kernel_next(&ring).res == -ECONNRESET);
    sqe = kernel_sqe(&ring);
    io_uring_prep_recv(sqe, fds[0], buf, sizeof(buf), 0);
    EXPECT(kernel_next(&ring).res == 0);
    close(fds[0]);
}

int main(void)
{
    data = calloc(1, BIG);
    EXPECT(data != NULL);
    kernel_ring(&ring, 64);
    waitall_completes_in_one_piece();
    plain_send_is_short();
    dontwait_says_again_when_full();
    cancel_of_a_send_in_progress();
    reset_in_a_waitall_send_is_a_short_count();
    reset_is_told_once();
    io_uring_queue_exit(&ring);
    free(data);
    return 0;
}
