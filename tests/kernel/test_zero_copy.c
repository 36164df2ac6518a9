/*
 * zero_copy: what src/core assumes of IORING_OP_SEND_ZC: the result says by F_MORE that a
 * notification follows, which has the same user_data; it comes after the result, also when the send
 * failed; on loopback the usage report says that the kernel copied, and of a send that failed it
 * says so everywhere; closing the socket does not lose the notification.
 */
#include "kernel.h"

#include <pthread.h>

#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

#define SIZE (1u << 20)

static struct io_uring ring;
static char *data;
static unsigned report;

static void send_zc(int fd, size_t size, unsigned long long user_data)
{
    struct io_uring_sqe *sqe = kernel_sqe(&ring);

    io_uring_prep_send_zc(sqe, fd, data, size, MSG_WAITALL | MSG_NOSIGNAL, report);
    sqe->user_data = user_data;
}

/* The usage report came with 6.2: a kernel without it refuses the flag. */
static void probe(void)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring);
    int fds[2];

    if (probe == NULL || !io_uring_opcode_supported(probe, IORING_OP_SEND_ZC))
        kernel_skip("zero-copy send (Linux 6.0) is not there");
    io_uring_free_probe(probe);
    kernel_pair(fds);
    report = IORING_SEND_ZC_REPORT_USAGE;
    send_zc(fds[0], 1, 1);
    struct kernel_cqe cqe = kernel_next(&ring);
    if (cqe.res == -EINVAL)
        report = 0;
    else if ((cqe.flags & IORING_CQE_F_MORE) != 0)
        (void)kernel_next(&ring);
    close(fds[0]);
    close(fds[1]);
}

static void *drain(void *arg)
{
    static char buf[65536];

    while (read(*(int *)arg, buf, sizeof(buf)) > 0) {}
    return NULL;
}

static void expect_notification(unsigned long long user_data)
{
    struct kernel_cqe cqe = kernel_next(&ring);

    EXPECT(cqe.user_data == user_data && (cqe.flags & IORING_CQE_F_NOTIF) != 0);
    EXPECT((cqe.flags & IORING_CQE_F_MORE) == 0);
    if (report != 0)
        EXPECT(((unsigned)cqe.res & IORING_NOTIF_USAGE_ZC_COPIED) != 0);
}

static void result_then_notification(void)
{
    pthread_t thread;
    int fds[2];

    kernel_pair(fds);
    EXPECT(pthread_create(&thread, NULL, drain, &fds[1]) == 0);
    for (unsigned i = 0; i < 5; i++) {
        send_zc(fds[0], SIZE, 10 + i);
        struct kernel_cqe cqe = kernel_next(&ring);
        EXPECT(cqe.user_data == 10 + i && cqe.res == (int)SIZE);
        EXPECT((cqe.flags & IORING_CQE_F_MORE) != 0 && (cqe.flags & IORING_CQE_F_NOTIF) == 0);
        expect_notification(10 + i);
    }
    close(fds[0]);
    pthread_join(thread, NULL);
    close(fds[1]);
}

/* A failed send: a notification follows if and only if F_MORE says so. Its report says "copied",
 * which nothing was. */
static void a_failed_send_tells_whether_one_follows(void)
{
    int fds[2];

    kernel_pair(fds);
    shutdown(fds[0], SHUT_WR);
    send_zc(fds[0], SIZE, 20);
    struct kernel_cqe cqe = kernel_next(&ring);
    EXPECT(cqe.user_data == 20 && cqe.res == -EPIPE && (cqe.flags & IORING_CQE_F_NOTIF) == 0);
    if ((cqe.flags & IORING_CQE_F_MORE) != 0)
        expect_notification(20);
    kernel_none(&ring);
    close(fds[0]);
    close(fds[1]);
}

/* The peer does not read: the send waits, is cancelled, the socket is reset; the notification still
 * comes. */
static void cancel_and_reset_bring_the_notification(void)
{
    struct io_uring_sqe *sqe;
    bool notified = false, expected = false;
    int fds[2];

    kernel_pair(fds);
    send_zc(fds[0], 16 * SIZE, 30);
    kernel_none(&ring);
    sqe = kernel_sqe(&ring);
    io_uring_prep_cancel64(sqe, 30, 0);
    sqe->user_data = 31;
    for (int i = 0; i < 2; i++) {
        struct kernel_cqe cqe = kernel_next(&ring);
        if (cqe.user_data == 31)
            continue;
        if ((cqe.flags & IORING_CQE_F_NOTIF) != 0)
            notified = true;
        else
            expected = (cqe.flags & IORING_CQE_F_MORE) != 0;
    }
    kernel_reset(fds[0]);
    if (expected && !notified) {
        struct kernel_cqe cqe = kernel_next(&ring);
        EXPECT(cqe.user_data == 30 && (cqe.flags & IORING_CQE_F_NOTIF) != 0);
    }
    kernel_none(&ring);
    close(fds[1]);
}

/* From a registered buffer, and by vector. */
static void fixed_and_vector(void)
{
    struct iovec iov[2] = { { data, 1000 }, { data + 1000, 2000 } };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
    struct iovec whole = { data, SIZE };
    struct io_uring_sqe *sqe;
    int fds[2];

    kernel_pair(fds);
    EXPECT(io_uring_register_buffers_sparse(&ring, 4) == 0);
    if (io_uring_register_buffers_update_tag(&ring, 2, &whole, NULL, 1) == 1) {
        sqe = kernel_sqe(&ring);
        io_uring_prep_send_zc(sqe, fds[0], data + 100, 5000, MSG_NOSIGNAL,
                              report | IORING_RECVSEND_FIXED_BUF);
        sqe->buf_index = 2;
        sqe->user_data = 40;
        EXPECT(kernel_next(&ring).res == 5000);
        expect_notification(40);
    }
    sqe = kernel_sqe(&ring);
    io_uring_prep_sendmsg_zc(sqe, fds[0], &msg, MSG_NOSIGNAL);
    sqe->ioprio |= (unsigned short)report;
    sqe->user_data = 41;
    EXPECT(kernel_next(&ring).res == 3000);
    expect_notification(41);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    data = calloc(16, SIZE);
    EXPECT(data != NULL);
    kernel_ring(&ring, 64);
    probe();
    result_then_notification();
    a_failed_send_tells_whether_one_follows();
    cancel_and_reset_bring_the_notification();
    fixed_and_vector();
    io_uring_queue_exit(&ring);
    free(data);
    return 0;
}
