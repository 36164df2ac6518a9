/*
 * splice: what src/core assumes of splice(2) between TCP sockets and pipes, beside a ring.
 *
 * A socket that does not wait (O_NONBLOCK) is still waited for by the ring, which tries and then
 * polls by itself; but after 128 polls it hands the operation to a thread, and a message
 * (sendmsg(2)) does not wait there: it ends with the count so far. SPLICE_F_NONBLOCK alone does not
 * keep splice(2) from waiting for the socket. What was received before a reset can still be moved,
 * as it can be read, and the reset is told behind it. Two things are not as with recv(2): a pipe is
 * full when each of its pages has a piece, however small, and nothing is moved at an urgent byte,
 * though it stands in line (SO_OOBINLINE): -EAGAIN, while polls and SIOCINQ tell of what is there,
 * until somebody has read it.
 */
#include "kernel.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>

#define PIPE   (256u * 1024u)
#define BULK   (8u << 20)
#define NOBODY 65534

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

/* Few bytes fit between these two. */
static void pair_of_little(int fds[2])
{
    struct sockaddr_in addr = { 0 };
    int listener = kernel_listen(&addr, false), little = 4096;

    EXPECT(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)) == 0);
    fds[0] = kernel_dial(&addr);
    fds[1] = accept(listener, NULL, NULL);
    EXPECT(fds[1] >= 0);
    EXPECT(setsockopt(fds[0], IPPROTO_TCP, TCP_NOTSENT_LOWAT, &little, sizeof(little)) == 0);
    close(listener);
}

/* Reads until the operation is over; how much. */
static int read_little(int fd, struct io_uring_sqe *sqe, int *res)
{
    char some[4096];
    struct io_uring_cqe *cqe = NULL;
    int got = 0;

    sqe->user_data = 1;
    while (io_uring_peek_cqe(&ring, &cqe) != 0) {
        ssize_t n = recv(fd, some, sizeof(some), MSG_DONTWAIT);
        if (n < 0)
            usleep(100);
        got += n > 0 ? (int)n : 0;
        EXPECT(n != 0 && io_uring_submit_and_get_events(&ring) >= 0);
    }
    *res = cqe->res;
    io_uring_cqe_seen(&ring, cqe);
    return got;
}

static bool is_over(int fd)
{
    struct pollfd p = { .fd = fd };

    return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0;
}

/* A reader that takes a little at a time, so that all of it takes more than 128 waits: a send goes
 * on, a message is short though nothing has happened to the connection (relay_send_result). */
static void a_message_waits_so_many_times(void)
{
    int fds[2], size = 1 << 20, res = 0, got;
    char *data = calloc(1, (size_t)size);
    struct iovec iov = { .iov_base = data };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

    EXPECT(data != NULL);
    pair_of_little(fds);
    no_wait(fds[0]);
    struct io_uring_sqe *sqe = kernel_sqe(&ring);
    io_uring_prep_send(sqe, fds[0], data, (size_t)size, MSG_WAITALL | MSG_NOSIGNAL);
    got = read_little(fds[1], sqe, &res);
    EXPECT(res == size);
    sqe = kernel_sqe(&ring);
    iov.iov_len = (size_t)size;
    io_uring_prep_sendmsg(sqe, fds[0], &message, MSG_WAITALL | MSG_NOSIGNAL);
    got += read_little(fds[1], sqe, &res);
    EXPECT(res > 0 && res < size && got > size && !is_over(fds[0]));
    EXPECT(fcntl(fds[0], F_SETFL, 0) == 0);
    sqe = kernel_sqe(&ring);
    io_uring_prep_sendmsg(sqe, fds[0], &message, MSG_WAITALL | MSG_NOSIGNAL);
    (void)read_little(fds[1], sqe, &res);
    EXPECT(res == size);
    no_wait(fds[0]);
    sqe = kernel_sqe(&ring);
    io_uring_prep_sendmsg(sqe, fds[0], &message, MSG_WAITALL | MSG_NOSIGNAL);
    EXPECT(io_uring_submit(&ring) == 1);
    kernel_reset(fds[1]);
    res = kernel_next(&ring).res;
    EXPECT(res < size && is_over(fds[0]));
    free(data);
    close(fds[0]);
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

static int unread(int fd)
{
    int bytes = -1;

    EXPECT(ioctl(fd, SIOCINQ, &bytes) == 0);
    return bytes;
}

static void data_before_a_reset_is_moved(void)
{
    int fds[2], ends[2];
    char text[16];

    kernel_pair(fds);
    pipe_open(ends);
    no_wait(fds[0]);
    EXPECT(write(fds[1], "last words", 10) == 10);
    kernel_reset(fds[1]);
    await(fds[0], POLLRDHUP);
    EXPECT(unread(fds[0]) == 10);
    EXPECT(move(fds[0], ends[1], 4) == 4); /* the rest is still there */
    EXPECT(move(fds[0], ends[1], PIPE) == 6);
    EXPECT(unread(fds[0]) == 0);
    EXPECT(move(fds[0], ends[1], PIPE) == -ECONNRESET);
    EXPECT(move(fds[0], ends[1], PIPE) == 0); /* the error is told once */
    EXPECT(read(ends[0], text, sizeof(text)) == 10 && memcmp(text, "last words", 10) == 0);
    close(fds[0]);
    close_all(ends, 2);
}

/* A good end is told before what came behind it; a write has that. */
static void a_reset_behind_a_fin_is_for_the_writer(void)
{
    int fds[2], ends[2];

    kernel_pair(fds);
    pipe_open(ends);
    no_wait(fds[0]);
    EXPECT(write(fds[1], "x", 1) == 1);
    shutdown(fds[1], SHUT_WR);
    await(fds[0], POLLRDHUP);
    kernel_reset(fds[1]);
    await(fds[0], POLLHUP);
    EXPECT(move(fds[0], ends[1], PIPE) == 1);
    EXPECT(move(fds[0], ends[1], PIPE) == 0);
    EXPECT(move(ends[0], fds[0], 1) == -EPIPE);
    close(fds[0]);
    close_all(ends, 2);
}

/* The reset is told to whoever comes first; the bytes stay in the pipe. */
static void a_move_to_a_reset_is_told_why(void)
{
    int fds[2], ends[2];
    char text[16];

    kernel_pair(fds);
    pipe_open(ends);
    no_wait(fds[0]);
    EXPECT(write(ends[1], "hello", 5) == 5);
    kernel_reset(fds[1]);
    await(fds[0], POLLHUP);
    EXPECT(move(ends[0], fds[0], 5) == -ECONNRESET);
    EXPECT(move(ends[0], fds[0], 5) == -EPIPE);
    EXPECT(send(fds[0], "x", 1, MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE);
    EXPECT(read(ends[0], text, sizeof(text)) == 5 && memcmp(text, "hello", 5) == 0);
    close(fds[0]);
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

static void a_poll_tells_of_ends(void)
{
    for (unsigned i = 0; i < 4; i++) {
        bool fin = (i & 1) != 0, out = (i & 2) != 0;
        static char data[65536];
        int fds[2];

        kernel_pair(fds);
        no_wait(fds[0]);
        while (out && send(fds[0], data, sizeof(data), MSG_NOSIGNAL) > 0) {}
        struct io_uring_sqe *sqe = kernel_sqe(&ring);
        io_uring_prep_poll_add(sqe, fds[0], out ? POLLOUT : POLLIN);
        kernel_none(&ring);
        if (fin && !out)
            shutdown(fds[1], SHUT_WR);
        else
            kernel_reset(fds[1]);
        EXPECT(kernel_next(&ring).res > 0);
        close(fds[0]);
        if (fin && !out)
            close(fds[1]);
    }
}

/* In line, and not: a lane's socket is not asked for urgent data, a stream's has it in line. */
static void an_urgent_byte_is_not_moved(void)
{
    for (int in_line = 0; in_line < 2; in_line++) {
        int fds[2], ends[2];
        char text[16];

        kernel_pair(fds);
        pipe_open(ends);
        no_wait(fds[0]);
        EXPECT(setsockopt(fds[0], SOL_SOCKET, SO_OOBINLINE, &in_line, sizeof(in_line)) == 0);
        EXPECT(send(fds[1], "abcX", 4, MSG_OOB) == 4);
        EXPECT(send(fds[1], "def", 3, 0) == 3);
        do
            await(fds[0], POLLIN);
        while (recv(fds[0], text, sizeof(text), MSG_PEEK) < 3);
        EXPECT(move(fds[0], ends[1], PIPE) == 3);
        await(fds[0], POLLIN);
        EXPECT(move(fds[0], ends[1], PIPE) == -EAGAIN);
        await(fds[0], POLLIN); /* again and again */
        EXPECT(unread(fds[0]) == (in_line ? 4 : 0));
        ssize_t n = recv(fds[0], text, sizeof(text), MSG_DONTWAIT);
        EXPECT(n == 3 + in_line && memcmp(text, &"Xdef"[1 - in_line], (size_t)n) == 0);
        EXPECT(send(fds[1], "g", 1, 0) == 1);
        await(fds[0], POLLIN);
        EXPECT(move(fds[0], ends[1], PIPE) == 1); /* as before */
        close_all(fds, 2);
        close_all(ends, 2);
    }
}

/* Segments of a byte each stand in pages of their own. */
static void a_pipe_is_full_of_pieces(void)
{
    int fds[2], ends[2], on = 1;
    ssize_t n, moved = 0;

    kernel_pair(fds);
    pipe_open(ends);
    no_wait(fds[0]);
    EXPECT(setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
    for (unsigned i = 0; i < PIPE; i++) {
        EXPECT(write(fds[1], "x", 1) == 1);
        await(fds[0], POLLIN);
        n = move(fds[0], ends[1], PIPE);
        EXPECT(n == 1 || n == -EAGAIN);
        if (n < 0)
            break;
        moved++;
    }
    EXPECT(moved >= PIPE / 4096 && moved < PIPE);
    EXPECT(unread(fds[0]) == 1); /* so it is the pipe that takes no more */
    static char text[PIPE];
    EXPECT(read(ends[0], text, sizeof(text)) == moved);
    EXPECT(move(fds[0], ends[1], PIPE) == 1);
    close_all(fds, 2);
    close_all(ends, 2);
}

static unsigned long pipe_pages_of_a_user(void)
{
    FILE *file = fopen("/proc/sys/fs/pipe-user-pages-soft", "re");
    unsigned long pages = 0;

    if (file != NULL && fscanf(file, "%lu", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return pages;
}

/* 0: refused with -EPERM, as it should be. */
static int take_pipes_as_nobody(unsigned long pages)
{
    unsigned long most = pages / (PIPE / 4096);
    int ends[2];

    if (setuid(NOBODY) != 0)
        return 2;
    for (unsigned long i = 0; i <= most; i++) {
        if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
            return 2;
        if (fcntl(ends[1], F_SETPIPE_SZ, PIPE) < 0)
            return errno == EPERM ? 0 : 1;
    }
    return 1;
}

/* The pages of a user are counted over all of her processes. Nobody's are used up for a moment, if
 * this runs as root, and if so many descriptors are allowed. */
static void a_user_has_so_many_pages_in_pipes(void)
{
    unsigned long pages = pipe_pages_of_a_user();
    int status;

    if (geteuid() != 0 || pages == 0)
        return;
    pid_t pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0)
        _exit(take_pipes_as_nobody(pages));
    EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    EXPECT(WEXITSTATUS(status) != 1);
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* A header and so many bytes that came from a socket: how long the last of them take, ms. */
static uint64_t send_behind_a_header(uint32_t size)
{
    static char data[PIPE];
    uint32_t got = 0, in_pipe = 0, sent = 0;
    int from[2], fds[2], ends[2];

    kernel_pair(from);
    kernel_pair(fds);
    pipe_open(ends);
    no_wait(from[0]);
    no_wait(fds[0]);
    memset(data, 'p', size);
    EXPECT(write(from[1], data, size) == (ssize_t)size);
    while (in_pipe < size) {
        await(from[0], POLLIN);
        ssize_t n = move(from[0], ends[1], size - in_pipe);
        EXPECT(n > 0);
        in_pipe += (uint32_t)n;
    }
    uint64_t begin = now_ms();
    EXPECT(send(fds[0], "head", 4, MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL) == 4);
    while (got < size + 4) {
        ssize_t n = sent < size ? move(ends[0], fds[0], size - sent) : 0;
        EXPECT(n >= 0 || n == -EAGAIN);
        sent += n > 0 ? (uint32_t)n : 0;
        await(fds[1], POLLIN);
        n = read(fds[1], data, sizeof(data));
        EXPECT(n > 0 && (got > 0 || memcmp(data, "head", n < 4 ? (size_t)n : 4) == 0));
        got += (uint32_t)n;
    }
    EXPECT(sent == size && data[0] != 0);
    uint64_t took = now_ms() - begin;
    close_all(from, 2);
    close_all(fds, 2);
    close_all(ends, 2);
    return took;
}

/* What waits for more is sent after 200 ms (tcp(7), TCP_CORK) at the latest; a machine that is busy
 * for so long has other chances. */
static void a_header_and_what_follows_leave_at_once(void)
{
    static const uint32_t sizes[] = { 1, 7, 4096, 65483, 70001, 200000 };

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned tries = 0;

        while (send_behind_a_header(sizes[i]) >= 150)
            EXPECT(++tries < 20);
    }
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
    a_message_waits_so_many_times();
    nothing_the_end_and_what_is_there();
    resets_are_errors();
    data_before_a_reset_is_moved();
    a_reset_behind_a_fin_is_for_the_writer();
    a_move_to_a_reset_is_told_why();
    a_poll_tells_of_ends();
    an_urgent_byte_is_not_moved();
    a_pipe_is_full_of_pieces();
    a_user_has_so_many_pages_in_pipes();
    a_poll_tells_of_data_and_of_room();
    a_header_and_what_follows_leave_at_once();
    order_is_kept();
    io_uring_queue_exit(&ring);
    return 0;
}
