/*
 * splice: what src/core assumes of splice(2) between TCP sockets and pipes, beside a ring.
 *
 * A socket that does not wait (O_NONBLOCK) is still waited for by the ring, which tries and then
 * polls by itself; SPLICE_F_NONBLOCK alone does not keep splice(2) from waiting for the socket.
 * What a reset destroys differs from a read: nothing that was received can be moved any more once
 * the reset is there, as for recv(2).
 */
#include "kernel.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>

#define PIPE (256u * 1024u)
#define BULK (8u << 20)

static struct io_uring ring;

static void no_wait(int fd)
{
    EXPECT(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
}

static void pipe_open(int ends[2])
{
    EXPECT(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    EXPECT(fcntl(ends[1], F_SETPIPE_SZ, PIPE) >= (int)PIPE);
}

static void close_all(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

static ssize_t move(int from, int to, size_t size)
{
    ssize_t n = splice(from, NULL, to, NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

    return n >= 0 ? n : -errno;
}

static void await(int fd, short events)
{
    struct pollfd p = { .fd = fd, .events = events };

    EXPECT(poll(&p, 1, 10000) == 1);
}

static void the_ring_waits_where_calls_do_not(void)
{
    struct io_uring_sqe *sqe;
    char byte;
    int fds[2];

    kernel_pair(fds);
    no_wait(fds[0]);
    sqe = kernel_sqe(&ring);
    io_uring_prep_recv(sqe, fds[0], &byte, 1, 0);
    kernel_none(&ring);
    EXPECT(write(fds[1], "x", 1) == 1);
    EXPECT(kernel_next(&ring).res == 1 && byte == 'x');

    char *data = calloc(1, BULK);
    EXPECT(data != NULL);
    sqe = kernel_sqe(&ring);
    io_uring_prep_send(sqe, fds[0], data, BULK, MSG_WAITALL | MSG_NOSIGNAL);
    kernel_none(&ring);
    for (size_t got = 0; got < BULK;) {
        ssize_t n = read(fds[1], data, BULK);
        EXPECT(n > 0);
        got += (size_t)n;
        (void)io_uring_submit_and_get_events(&ring);
    }
    EXPECT(kernel_next(&ring).res == (int)BULK);
    free(data);
    close_all(fds, 2);
}

static void nothing_the_end_and_what_is_there(void)
{
    int fds[2], ends[2], bytes = -1;

    kernel_pair(fds);
    pipe_open(ends);
    no_wait(fds[0]);
    EXPECT(move(fds[0], ends[1], PIPE) == -EAGAIN);
    EXPECT(write(fds[1], "hello", 5) == 5);
    await(fds[0], POLLIN);
    EXPECT(ioctl(fds[0], SIOCINQ, &bytes) == 0 && bytes == 5);
    shutdown(fds[1], SHUT_WR);
    await(fds[0], POLLRDHUP);
    EXPECT(ioctl(fds[0], SIOCINQ, &bytes) == 0 && bytes == 5); /* FIN is not counted */
    EXPECT(move(fds[0], ends[1], PIPE) == 5);
    EXPECT(move(fds[0], ends[1], PIPE) == 0);
    close_all(fds, 2);
    close_all(ends, 2);
}

/* Both ways, and a system call that moves nothing kills nobody who ignores SIGPIPE. */
static void resets_are_errors(void)
{
    int fds[2], ends[2];

    kernel_pair(fds);
    pipe_open(ends);
    no_wait(fds[0]);
    kernel_reset(fds[1]);
    await(fds[0], POLLIN);
    EXPECT(move(fds[0], ends[1], PIPE) == -ECONNRESET);
    EXPECT(write(ends[1], "x", 1) == 1);
    EXPECT(move(ends[0], fds[0], 1) == -EPIPE);
    close(fds[0]);
    close_all(ends, 2);
}

static void a_poll_tells_of_data_and_of_room(void)
{
    static char data[65536];
    struct io_uring_sqe *sqe;
    int fds[2];

    kernel_pair(fds);
    no_wait(fds[0]);
    sqe = kernel_sqe(&ring);
    io_uring_prep_poll_add(sqe, fds[0], POLLIN);
    kernel_none(&ring);
    EXPECT(write(fds[1], "x", 1) == 1);
    EXPECT((kernel_next(&ring).res & POLLIN) != 0);
    while (send(fds[0], data, sizeof(data), MSG_NOSIGNAL) > 0) {}
    EXPECT(errno == EAGAIN);
    sqe = kernel_sqe(&ring);
    io_uring_prep_poll_add(sqe, fds[0], POLLOUT);
    kernel_none(&ring);
    no_wait(fds[1]);
    while (read(fds[1], data, sizeof(data)) > 0) {}
    EXPECT((kernel_next(&ring).res & POLLOUT) != 0);
    sqe = kernel_sqe(&ring);
    io_uring_prep_poll_add(sqe, fds[1], POLLIN);
    (void)io_uring_submit(&ring);
    close(fds[0]);
    EXPECT(kernel_next(&ring).res > 0); /* more, or the end */
    close(fds[1]);
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* What waits for more is sent after 200 ms (tcp(7), TCP_CORK) at the latest; a machine that is busy
 * for so long has other chances. */
static void a_header_and_what_follows_leave_at_once(void)
{
    bool good = false;

    for (unsigned i = 0; i < 20 && !good; i++) {
        char data[64];
        int fds[2], ends[2], bytes = 0;

        kernel_pair(fds);
        pipe_open(ends);
        no_wait(fds[0]);
        EXPECT(write(ends[1], "payload", 7) == 7);
        uint64_t begin = now_ms();
        EXPECT(send(fds[0], "head", 4, MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL) == 4);
        EXPECT(move(ends[0], fds[0], 7) == 7);
        while (bytes < 11) {
            await(fds[1], POLLIN);
            ssize_t n = read(fds[1], data + bytes, sizeof(data) - (size_t)bytes);
            EXPECT(n > 0);
            bytes += (int)n;
        }
        EXPECT(memcmp(data, "headpayload", 11) == 0);
        good = now_ms() - begin < 150;
        close_all(fds, 2);
        close_all(ends, 2);
    }
    EXPECT(good);
}

/* Through socket, pipe, socket and pipe, in pieces of any size. */
static void order_is_kept(void)
{
    int in[2], out[2], ends[2];
    uint32_t sent = 0, got = 0, moved = 0, random = 1;
    static uint8_t data[70000];

    kernel_pair(in);
    kernel_pair(out);
    pipe_open(ends);
    no_wait(in[0]);
    no_wait(in[1]);
    no_wait(out[0]);
    no_wait(out[1]);
    while (got < BULK) {
        random = random * 1103515245u + 12345u;
        size_t size = 1 + (random >> 8) % sizeof(data);
        size = size < BULK - sent ? size : BULK - sent;
        for (size_t i = 0; i < size; i++)
            data[i] = (uint8_t)((sent + i) * 7 % 251);
        ssize_t n = size > 0 ? send(in[0], data, size, MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (uint32_t)n : 0;
        n = move(in[1], ends[1], 1 + (random >> 4) % PIPE);
        EXPECT(n > 0 || n == -EAGAIN);
        n = move(ends[0], out[0], 1 + (random >> 6) % PIPE);
        EXPECT(n > 0 || n == -EAGAIN);
        moved += n > 0 ? (uint32_t)n : 0;
        n = read(out[1], data, sizeof(data));
        for (ssize_t i = 0; i < n; i++)
            EXPECT(data[i] == (uint8_t)((got + (uint32_t)i) * 7 % 251));
        got += n > 0 ? (uint32_t)n : 0;
    }
    EXPECT(moved == BULK);
    close_all(in, 2);
    close_all(out, 2);
    close_all(ends, 2);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    kernel_ring(&ring, 64);
    the_ring_waits_where_calls_do_not();
    nothing_the_end_and_what_is_there();
    resets_are_errors();
    a_poll_tells_of_data_and_of_room();
    a_header_and_what_follows_leave_at_once();
    order_is_kept();
    io_uring_queue_exit(&ring);
    return 0;
}
