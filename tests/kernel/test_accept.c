/*
 * accept: what src/core assumes of listening sockets: multishot accept, options that accepted
 * sockets inherit, RST by SO_LINGER 0, several listeners on one port, and how a busy port shows.
 */
#include "kernel.h"

static struct io_uring ring;

static void arm(int listener, unsigned long long user_data)
{
    struct io_uring_sqe *sqe = kernel_sqe(&ring);

    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = user_data;
}

static void cancel(unsigned long long user_data)
{
    struct io_uring_sqe *sqe = kernel_sqe(&ring);

    io_uring_prep_cancel64(sqe, user_data, 0);
    sqe->user_data = 999;
    struct kernel_cqe first = kernel_next(&ring), second = kernel_next(&ring);
    struct kernel_cqe accept_cqe = first.user_data == 999 ? second : first;
    EXPECT(accept_cqe.user_data == user_data && accept_cqe.res == -ECANCELED);
    EXPECT((accept_cqe.flags & IORING_CQE_F_MORE) == 0);
}

/* One request, many connections; TCP_NODELAY comes from the listener; the accepted socket is
 * blocking. */
static void multishot_and_inherited_nodelay(void)
{
    struct sockaddr_in addr = { 0 };
    int listener = kernel_listen(&addr, false), on = 1, dialled[5];

    EXPECT(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
    arm(listener, 1);
    for (int i = 0; i < 5; i++)
        dialled[i] = kernel_dial(&addr);
    for (int i = 0; i < 5; i++) {
        struct kernel_cqe cqe = kernel_next(&ring);
        socklen_t size = sizeof(on);
        EXPECT(cqe.res >= 0 && (cqe.flags & IORING_CQE_F_MORE) != 0);
        on = 0;
        EXPECT(getsockopt(cqe.res, IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on == 1);
        close(cqe.res);
        close(dialled[i]);
    }
    cancel(1);
    close(listener);
}

/* A visitor that has left by RST before it was accepted is accepted all the same; its first read
 * tells. */
static void reset_before_accept(void)
{
    struct sockaddr_in addr = { 0 };
    int listener = kernel_listen(&addr, false);
    struct io_uring_sqe *sqe;
    char buf[4];

    kernel_reset(kernel_dial(&addr));
    arm(listener, 1);
    struct kernel_cqe cqe = kernel_next(&ring);
    EXPECT(cqe.res >= 0);
    sqe = kernel_sqe(&ring);
    io_uring_prep_recv(sqe, cqe.res, buf, sizeof(buf), 0);
    EXPECT(kernel_next(&ring).res == -ECONNRESET);
    close(cqe.res);
    cancel(1);
    close(listener);
}

static void linger_zero_sends_rst(void)
{
    char buf[4];
    int fds[2];

    kernel_pair(fds);
    kernel_reset(fds[0]);
    EXPECT(read(fds[1], buf, sizeof(buf)) == -1 && errno == ECONNRESET);
    close(fds[1]);
}

/* Closing with unread data is a reset as well (RFC 2525, 2.17): a stream that must end cleanly
 * reads to the end first. */
static void close_with_unread_data_is_a_reset(void)
{
    struct pollfd poll_fd = { .events = POLLIN };
    char buf[4];
    int fds[2];

    kernel_pair(fds);
    EXPECT(write(fds[1], "unread", 6) == 6);
    poll_fd.fd = fds[0];
    EXPECT(poll(&poll_fd, 1, 5000) == 1);
    close(fds[0]);
    EXPECT(read(fds[1], buf, sizeof(buf)) == -1 && errno == ECONNRESET);
    close(fds[1]);
}

/* Two listeners with SO_REUSEPORT both get connections. */
static void reuseport_distributes(void)
{
    struct sockaddr_in addr = { 0 };
    int listeners[2] = { kernel_listen(&addr, true), -1 }, dialled[200];
    unsigned got[2] = { 0 };

    listeners[1] = kernel_listen(&addr, true);
    EXPECT(listeners[1] >= 0);
    arm(listeners[0], 0);
    arm(listeners[1], 1);
    (void)io_uring_submit(&ring);
    for (int i = 0; i < 200; i++) {
        dialled[i] = kernel_dial(&addr);
        struct kernel_cqe cqe = kernel_next(&ring);
        EXPECT(cqe.res >= 0);
        got[cqe.user_data]++;
        close(cqe.res);
    }
    EXPECT(got[0] + got[1] == 200 && got[0] > 20 && got[1] > 20); /* by hash: about half each */
    for (int i = 0; i < 200; i++)
        close(dialled[i]);
    cancel(0);
    cancel(1);
    close(listeners[0]);
    close(listeners[1]);
}

/* The registry finds a busy port by binding without SO_REUSEPORT; with it, it would be let in. */
static void a_probe_without_reuseport_sees_a_busy_port(void)
{
    struct sockaddr_in addr = { 0 }, again;
    int listener = kernel_listen(&addr, true);

    again = addr;
    EXPECT(kernel_listen(&again, false) == -EADDRINUSE);
    again = addr;
    int second = kernel_listen(&again, true);
    EXPECT(second >= 0);
    close(second);
    close(listener);
    again = addr;
    listener = kernel_listen(&again, false); /* free at once: nothing was connected */
    EXPECT(listener >= 0);
    close(listener);
}

int main(void)
{
    kernel_ring(&ring, 64);
    multishot_and_inherited_nodelay();
    reset_before_accept();
    linger_zero_sends_rst();
    close_with_unread_data_is_a_reset();
    reuseport_distributes();
    a_probe_without_reuseport_sees_a_busy_port();
    io_uring_queue_exit(&ring);
    return 0;
}
