/*
 * recv: what src/core assumes of provided buffers, of the headroom in front of them, of cancelling
 * a waiting read, and of the hint that more data waits.
 */
#include "kernel.h"

#define BUFFERS  4u
#define SIZE     256u
#define HEADROOM 64u
#define MARK     0xd5

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static unsigned char memory[BUFFERS][SIZE];
static int fds[2];

static void give(unsigned short id)
{
    memset(memory[id], MARK, SIZE);
    io_uring_buf_ring_add(buffers, memory[id] + HEADROOM, SIZE - 2 * HEADROOM, id,
                          io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(buffers, 1);
}

static void open_buffers(void)
{
    struct io_uring_buf_reg reg = { .ring_entries = BUFFERS };

    EXPECT(posix_memalign((void **)&buffers, 4096, BUFFERS * sizeof(struct io_uring_buf)) == 0);
    reg.ring_addr = (unsigned long long)(unsigned long)buffers;
    if (io_uring_register_buf_ring(&ring, &reg, 0) < 0)
        kernel_skip("rings of provided buffers (Linux 5.19) cannot be used here");
    io_uring_buf_ring_init(buffers);
}

static void recv_provided(unsigned long long user_data, bool poll_first)
{
    struct io_uring_sqe *sqe = kernel_sqe(&ring);

    io_uring_prep_recv(sqe, fds[0], NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->ioprio |= poll_first ? IORING_RECVSEND_POLL_FIRST : 0;
    sqe->user_data = user_data;
}

static void send_bytes(const char *bytes, size_t size)
{
    struct pollfd poll_fd = { .fd = fds[0], .events = POLLIN };

    EXPECT(write(fds[1], bytes, size) == (ssize_t)size);
    EXPECT(poll(&poll_fd, 1, 5000) == 1);
}

/* A byte outside of [HEADROOM, HEADROOM + n) was touched. */
static bool touched_outside(unsigned id, unsigned n)
{
    for (unsigned i = 0; i < SIZE; i++)
        if ((i < HEADROOM || i >= HEADROOM + n) && memory[id][i] != MARK)
            return true;
    return false;
}

static void provided_buffer_keeps_its_headroom(void)
{
    give(2);
    recv_provided(1, true);
    kernel_none(&ring);
    send_bytes("0123456789", 10);
    struct kernel_cqe cqe = kernel_next(&ring);
    EXPECT(cqe.res == 10 && (cqe.flags & IORING_CQE_F_BUFFER) != 0);
    EXPECT(cqe.flags >> IORING_CQE_BUFFER_SHIFT == 2);
    EXPECT(memcmp(memory[2] + HEADROOM, "0123456789", 10) == 0 && !touched_outside(2, 10));
}

/* A read longer than the buffer fills it and leaves the rest for the next one, in the order in
 * which they were given. */
static void buffers_are_used_in_order(void)
{
    char bytes[SIZE] = { 0 };

    give(3);
    give(1);
    send_bytes(bytes, 200);
    recv_provided(1, false);
    struct kernel_cqe cqe = kernel_next(&ring);
    EXPECT(cqe.res == (int)(SIZE - 2 * HEADROOM) && cqe.flags >> IORING_CQE_BUFFER_SHIFT == 3);
    EXPECT((cqe.flags & IORING_CQE_F_SOCK_NONEMPTY) != 0);
    recv_provided(1, false);
    cqe = kernel_next(&ring);
    EXPECT(cqe.res == 200 - (int)(SIZE - 2 * HEADROOM));
    EXPECT(cqe.flags >> IORING_CQE_BUFFER_SHIFT == 1);
    EXPECT((cqe.flags & IORING_CQE_F_SOCK_NONEMPTY) == 0);
}

/* No buffer: an error at once if the read is tried at once, when data comes if it polls first; the
 * data stays. */
static void no_buffer_is_enobufs(void)
{
    recv_provided(1, true);
    kernel_none(&ring);
    send_bytes("x", 1);
    struct kernel_cqe cqe = kernel_next(&ring);
    EXPECT(cqe.res == -ENOBUFS && (cqe.flags & IORING_CQE_F_BUFFER) == 0);
    recv_provided(1, false);
    EXPECT(kernel_next(&ring).res == -ENOBUFS);
    give(0);
    recv_provided(1, false);
    cqe = kernel_next(&ring);
    EXPECT(cqe.res == 1 && cqe.flags >> IORING_CQE_BUFFER_SHIFT == 0);
}

/* A read that is cancelled or that finds nothing keeps no buffer. */
static void a_cancelled_read_keeps_no_buffer(void)
{
    give(1);
    recv_provided(5, false);
    kernel_none(&ring);
    struct io_uring_sqe *sqe = kernel_sqe(&ring);
    io_uring_prep_cancel64(sqe, 5, 0);
    sqe->user_data = 6;
    struct kernel_cqe first = kernel_next(&ring), second = kernel_next(&ring);
    struct kernel_cqe read = first.user_data == 5 ? first : second;
    struct kernel_cqe cancel = first.user_data == 5 ? second : first;
    EXPECT(read.res == -ECANCELED && (read.flags & IORING_CQE_F_BUFFER) == 0);
    EXPECT(cancel.res == 0);
    EXPECT(!touched_outside(1, 0));
    send_bytes("abc", 3);
    recv_provided(5, false);
    EXPECT(kernel_next(&ring).flags >> IORING_CQE_BUFFER_SHIFT == 1);
}

static void dontwait_says_again(void)
{
    struct io_uring_sqe *sqe = kernel_sqe(&ring);
    char buf[4];

    io_uring_prep_recv(sqe, fds[0], buf, sizeof(buf), MSG_DONTWAIT);
    EXPECT(kernel_next(&ring).res == -EAGAIN);
}

/* Data that came before a reset can still be read; then the error, once. */
static void data_before_a_reset_is_readable(void)
{
    struct io_uring_sqe *sqe;
    char buf[16];
    int other[2];

    kernel_pair(other);
    EXPECT(write(other[1], "last words", 10) == 10);
    kernel_reset(other[1]);
    struct pollfd poll_fd = { .fd = other[0], .events = POLLRDHUP };
    EXPECT(poll(&poll_fd, 1, 5000) == 1);
    for (int i = 0; i < 3; i++) {
        static const int expected[] = { 10, -ECONNRESET, 0 };
        sqe = kernel_sqe(&ring);
        io_uring_prep_recv(sqe, other[0], buf, sizeof(buf), 0);
        EXPECT(kernel_next(&ring).res == expected[i]);
    }
    close(other[0]);
}

/* The end uses no buffer. */
static void the_end_takes_no_buffer(void)
{
    give(2);
    shutdown(fds[1], SHUT_WR);
    recv_provided(1, false);
    struct kernel_cqe cqe = kernel_next(&ring);
    EXPECT(cqe.res == 0 && (cqe.flags & IORING_CQE_F_BUFFER) == 0);
    EXPECT(!touched_outside(2, 0));
}

int main(void)
{
    kernel_ring(&ring, 64);
    open_buffers();
    kernel_pair(fds);
    provided_buffer_keeps_its_headroom();
    buffers_are_used_in_order();
    no_buffer_is_enobufs();
    a_cancelled_read_keeps_no_buffer();
    dontwait_says_again();
    data_before_a_reset_is_readable();
    the_end_takes_no_buffer();
    io_uring_queue_exit(&ring);
    free(buffers);
    return 0;
}
