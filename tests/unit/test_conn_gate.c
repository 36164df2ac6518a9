/*
 * conn_gate: what may leave a connection, and what ends the process instead. Every combination of
 * phase, with a crypt or without, sealed by the kernel or by user space, ended or not, with its FIN
 * out or not, tries each of the five ways out; an oracle says which may pass. What passes must be
 * the bytes of that way. Ring and crypt are stand-ins in this file.
 */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/mux/crypt.h"
#include "core/mux/conn.h"
#include "core/mux/conn_impl.h"

enum way { FRAMES, SEGMENT, SEALED, CONTROL, PIPED, WAYS };

#define FD 7
#define OP ((uint64_t)5 << 58)

static struct loop loop;
static struct conn conn;
static const void *left; /* where the bytes began that were sent */
static size_t left_size;
static bool kernel_seals, typed;

bool crypt_tx_kernel(const struct crypt *crypt)
{
    return crypt != NULL && kernel_seals;
}

void crypt_send_type(struct msghdr *msg, void *control, uint8_t type)
{
    typed = msg == &conn.msg && control == conn.tx_control && type == conn.sealed_type;
}

/* A zero-copy send names its buffer, for the notification. */
static uint64_t user_data(bool segment)
{
    return OP | (segment ? 0 : BUF_NONE);
}

int buf_fixed_index(struct buf_pool *pool, struct ring *ring, uint32_t id)
{
    return pool == &loop.bufs && ring == NULL && id != BUF_NONE ? -1 : 0;
}

static void sent(int fd, const void *data, size_t size)
{
    ck_assert_int_eq(fd, FD);
    left = data;
    left_size = size;
}

void ring_send(struct ring *ring, uint64_t op, int fd, const void *buf, size_t size, unsigned flags)
{
    ck_assert(ring == NULL && op == user_data((flags & RING_ZC) != 0));
    ck_assert((flags & RING_WAITALL) != 0);
    sent(fd, buf, size);
}

void ring_send_fixed(struct ring *ring, uint64_t op, int fd, const void *buf, size_t size,
                     unsigned index, unsigned flags)
{
    ck_assert(index > 0);
    ring_send(ring, op, fd, buf, size, flags);
}

void ring_sendmsg(struct ring *ring, uint64_t op, int fd, const struct msghdr *msg, unsigned flags)
{
    ck_assert(ring == NULL && op == user_data(false));
    ck_assert_uint_eq(flags, conn_is_tls(&conn) && kernel_seals ? 0 : RING_WAITALL);
    ck_assert_uint_eq(msg->msg_iovlen, 1);
    sent(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len);
}

static uint8_t frame[10];

/* What lies in a pipe, behind a header. */
#define PIPED_SIZE 1000

int sock_send_begin(int fd, const void *src, uint32_t size)
{
    sent(fd, src, size);
    return (int)size;
}

int pipe_drain(struct pipe_pool *pool, uint32_t id, int fd, uint32_t size)
{
    ck_assert(pool == &loop.bufs.pipes && id == 1);
    ck_assert_int_eq(fd, FD);
    return (int)size;
}

void ring_poll(struct ring *ring, uint64_t op, int fd, bool out)
{
    ck_assert(ring == NULL && op == user_data(false) && out);
    ck_assert_int_eq(fd, FD);
}

/* Bit 0: has a crypt; 1: the kernel seals; 2: ended; 3: the type of data; 4: FIN is out; then the
 * phase. */
static void conn_make(unsigned bits)
{
    conn = (struct conn){
        .loop = &loop,
        .ops.send = OP,
        .fd = FD,
        .phase = (uint8_t)(bits >> 5),
        .crypt = (bits & 1) != 0 ? (struct crypt *)&conn : NULL,
        .crypt_ended = (bits & 4) != 0,
        .sealed_type = (bits & 8) != 0 ? CRYPT_TYPE_DATA : 21,
        .shut = (bits & 16) != 0,
        .sealed_sent = 3,
        .sealed_filled = 20,
    };
    kernel_seals = (bits & 2) != 0;
    conn.iov[0] = (struct iovec){ .iov_base = frame, .iov_len = sizeof(frame) };
}

#define CASES ((1u << 5) * (CONN_SEALED + 1))

static bool may_pass(enum way way)
{
    bool kernel = conn.crypt != NULL && kernel_seals;

    if (conn.phase == CONN_SNIFFS || conn.shut)
        return false;
    if (conn.phase == CONN_PLAIN)
        return conn.crypt == NULL && (way == FRAMES || way == SEGMENT || way == PIPED);
    if (conn.crypt == NULL || way == SEGMENT || way == PIPED)
        return false;
    if (way == FRAMES)
        return kernel && !conn.crypt_ended && conn.phase == CONN_SEALED;
    return way == SEALED ? !kernel : kernel && conn.sealed_type != CRYPT_TYPE_DATA;
}

static int piped;

static void go(enum way way)
{
    switch (way) {
    case PIPED:
        piped = conn_gate_pipe(&conn, frame, sizeof(frame), 1 | BUF_PIPE_BIT, PIPED_SIZE);
        break;
    case FRAMES:
        conn_gate_pieces(&conn, 1, CONN_FLIGHT_FRAMES);
        break;
    case SEGMENT:
        conn_gate_segment(&conn, 0, 1, 30);
        break;
    case SEALED:
        conn_gate_sealed(&conn);
        break;
    default:
        conn_gate_control(&conn);
        break;
    }
}

static void check_passes(enum way way)
{
    const uint8_t *sealed = buf_data(&loop.bufs, 0) + 3;
    const void *from[WAYS] = { frame, buf_data(&loop.bufs, 0) + 1, sealed, sealed };
    const size_t sizes[WAYS] = { sizeof(frame), 30, 17, 17 };
    const enum conn_flight flights[WAYS] = { CONN_FLIGHT_FRAMES, CONN_FLIGHT_ZERO_COPY,
                                             CONN_FLIGHT_SEALED, CONN_FLIGHT_SEALED };

    typed = false;
    go(way);
    if (way == PIPED) {
        ck_assert_ptr_eq(left, frame);
        ck_assert_uint_eq(left_size, sizeof(frame));
        ck_assert_int_eq(piped, (int)sizeof(frame) + PIPED_SIZE);
        ck_assert(!conn.send_flight);
        conn_gate_poll(&conn);
        ck_assert(conn.send_flight && conn_flight_frames(&conn) == 0);
        return;
    }
    ck_assert_ptr_eq(left, from[way]);
    ck_assert_uint_eq(left_size, sizes[way]);
    ck_assert_uint_eq(conn.flight_size, sizes[way]);
    ck_assert(conn.send_flight && typed == (way == CONTROL));
    ck_assert_uint_eq(conn.flight, flights[way]);
    ck_assert_uint_eq(conn_flight_frames(&conn), way <= SEGMENT ? sizes[way] : 0);
}

/* In a process of its own, whose last words are nobody's business. */
static void check_ends(enum way way, unsigned bits)
{
    int status = 0;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        go(way);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT,
                  "way %d passed with a connection of %#x", (int)way, bits);
}

static void set_up(void)
{
    if (loop.bufs.small.items == NULL)
        ck_assert(slab_open(&loop.bufs.small, BUF_SMALL_SIZE, 2, 0));
    if (loop.bufs.small.fresh == 0)
        ck_assert_uint_eq(slab_take(&loop.bufs.small), 0);
}

START_TEST(only_what_may_passes)
{
    unsigned passed = 0;

    set_up();
    for (unsigned bits = 0; bits < CASES; bits++)
        for (enum way way = FRAMES; way < WAYS; way++) {
            conn_make(bits);
            if (may_pass(way)) {
                check_passes(way);
                passed++;
            } else {
                check_ends(way, bits);
            }
        }
    ck_assert_uint_gt(passed, 0);
}
END_TEST

START_TEST(one_send_at_a_time_and_only_to_a_socket)
{
    set_up();
    conn_make(0);
    conn.send_flight = true;
    check_ends(FRAMES, 0);
    conn_make(0);
    conn.fd = -1;
    check_ends(FRAMES, 0);
    conn_make(0);
    conn.iov[0].iov_len = 0;
    check_ends(FRAMES, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("conn_gate");
    TCase *tcase = tcase_create("gate");

    tcase_add_test(tcase, only_what_may_passes);
    tcase_add_test(tcase, one_send_at_a_time_and_only_to_a_socket);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
