/*
 * message: what src/core assumes of IORING_OP_MSG_RING: it reaches a DEFER_TASKRUN ring that
 * another thread waits on and wakes it, messages of one sender keep their order, a thread without a
 * ring of its own can send through a passing one, and a message to something that is no ring fails
 * at the sender.
 */
#include "kernel.h"

#include <pthread.h>

#define COUNT 1000

struct receiver {
    struct io_uring ring;
    pthread_barrier_t ready;
};

/* Waits without a limit: only messages can wake it. */
static void *receive(void *arg)
{
    struct receiver *r = arg;
    struct io_uring_cqe *cqe;

    EXPECT(io_uring_register((unsigned)r->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) ==
           0);
    pthread_barrier_wait(&r->ready);
    for (int i = 0; i < COUNT; i++) {
        EXPECT(io_uring_submit_and_wait(&r->ring, 1) >= 0 &&
               io_uring_peek_cqe(&r->ring, &cqe) == 0);
        EXPECT(cqe->user_data == (1ULL << 63 | (unsigned)i) && cqe->res == -i);
        io_uring_cqe_seen(&r->ring, cqe);
    }
    EXPECT(io_uring_submit_and_wait(&r->ring, 1) >= 0 && io_uring_peek_cqe(&r->ring, &cqe) == 0);
    EXPECT(cqe->user_data == 4711 && cqe->res == 12);
    return NULL;
}

/* Success leaves no completion at the sender (CQE_SKIP_SUCCESS). */
static void send_message(struct io_uring *ring, int fd, int res, unsigned long long user_data)
{
    struct io_uring_sqe *sqe = kernel_sqe(ring);

    io_uring_prep_msg_ring(sqe, fd, (unsigned)res, user_data, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = 99;
}

/* The stop signal comes from a thread that has no ring. */
static void *send_from_a_passing_ring(void *arg)
{
    struct receiver *r = arg;
    struct io_uring ring;
    struct io_uring_cqe *cqe;

    EXPECT(io_uring_queue_init(2, &ring, 0) == 0);
    io_uring_prep_msg_ring(kernel_sqe(&ring), r->ring.ring_fd, 12, 4711, 0);
    EXPECT(io_uring_submit_and_wait(&ring, 1) >= 0 && io_uring_wait_cqe(&ring, &cqe) == 0);
    EXPECT(cqe->res == 0);
    io_uring_queue_exit(&ring);
    return NULL;
}

static void open_receiver(struct receiver *r)
{
    int result = io_uring_queue_init(64, &r->ring,
                                     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_SUBMIT_ALL | IORING_SETUP_R_DISABLED);
    if (result < 0)
        kernel_skip("io_uring with DEFER_TASKRUN (Linux 6.1) cannot be used here");
    EXPECT(pthread_barrier_init(&r->ready, NULL, 2) == 0);
}

int main(void)
{
    static struct receiver receiver;
    pthread_t thread, passing;
    struct io_uring ring;

    kernel_ring(&ring, 64);
    open_receiver(&receiver);
    EXPECT(pthread_create(&thread, NULL, receive, &receiver) == 0);
    pthread_barrier_wait(&receiver.ready);
    for (int i = 0; i < COUNT; i++) {
        send_message(&ring, receiver.ring.ring_fd, -i, 1ULL << 63 | (unsigned)i);
        EXPECT(io_uring_submit_and_get_events(&ring) >= 0);
    }
    kernel_none(&ring);
    EXPECT(pthread_create(&passing, NULL, send_from_a_passing_ring, &receiver) == 0);
    pthread_join(passing, NULL);
    pthread_join(thread, NULL);
    send_message(&ring, STDERR_FILENO, 0, 1);
    struct kernel_cqe cqe = kernel_next(&ring);
    EXPECT(cqe.user_data == 99 && cqe.res < 0);
    io_uring_queue_exit(&ring);
    io_uring_queue_exit(&receiver.ring);
    return 0;
}
