/*
 * lane_gate: what may leave a lane, and what ends the process instead. Every combination of a lane
 * that is to be TLS or not, with a crypt or without, sealed by the kernel or by user space, ended
 * or not, in every state, tries each of the four ways out; an oracle says which may pass. What
 * passes must be the bytes of that way. Ring, crypt and the rest of the lane are stand-ins in this
 * file.
 */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

enum way { FRAMES, SEGMENT, SEALED, CONTROL, WAYS };

#define FD 7

static struct loop loop;
static struct lane_table table;
static struct lane lane;
static const void *left; /* where the bytes began that were sent */
static size_t left_size;
static bool kernel_seals, typed;

bool crypt_tx_kernel(const struct crypt *crypt)
{
    return crypt != NULL && kernel_seals;
}

void crypt_send_type(struct msghdr *msg, void *control, uint8_t type)
{
    typed =
        msg == &lane.conn.msg && control == lane.conn.tx_control && type == lane.conn.sealed_type;
}

uint64_t lane_send_op(const struct lane *of)
{
    return of->slot;
}

unsigned lane_send_flags(const struct lane *of)
{
    return of->conn.tls && kernel_seals ? 0 : RING_WAITALL;
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

void ring_send(struct ring *ring, uint64_t user_data, int fd, const void *buf, size_t size,
               unsigned flags)
{
    ck_assert(ring == NULL && user_data == lane.slot && (flags & RING_WAITALL) != 0);
    sent(fd, buf, size);
}

void ring_send_fixed(struct ring *ring, uint64_t user_data, int fd, const void *buf, size_t size,
                     unsigned index, unsigned flags)
{
    ck_assert(index > 0);
    ring_send(ring, user_data, fd, buf, size, flags);
}

void ring_sendmsg(struct ring *ring, uint64_t user_data, int fd, const struct msghdr *msg,
                  unsigned flags)
{
    ck_assert(ring == NULL && user_data == lane.slot && flags == lane_send_flags(&lane));
    ck_assert_uint_eq(msg->msg_iovlen, 1);
    sent(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len);
}

static uint8_t frame[10];

/* Bit 0: to be TLS; 1: has a crypt; 2: the kernel seals; 3: ended; 4: the type of data; 5: nothing
 * was heard that decides of TLS; then the state. */
static void lane_make(unsigned bits)
{
    lane = (struct lane){
        .loop = &loop,
        .table = &table,
        .slot = 5,
        .conn.fd = FD,
        .conn.tls = (bits & 1) != 0,
        .conn.crypt = (bits & 2) != 0 ? (struct crypt *)&lane : NULL,
        .conn.crypt_ended = (bits & 8) != 0,
        .conn.sealed_type = (bits & 16) != 0 ? CRYPT_TYPE_DATA : 21,
        .conn.sniffs = (bits & 32) != 0,
        .state = (uint8_t)(bits >> 6),
        .seg_count = 1,
        .conn.sealed_sent = 3,
        .conn.sealed_filled = 20,
    };
    kernel_seals = (bits & 4) != 0;
    lane.segments[0] = (struct lane_segment){ .size = 30, .offset = 1 };
    lane.conn.iov[0] = (struct iovec){ .iov_base = frame, .iov_len = sizeof(frame) };
}

#define CASES ((1u << 6) * (LANE_CLOSING + 1))

static bool may_pass(enum way way)
{
    bool kernel = lane.conn.crypt != NULL && kernel_seals;

    if (lane.state != LANE_OPEN && lane.state != LANE_LINGER && lane.state != LANE_TLS)
        return false;
    if (lane.conn.sniffs)
        return false;
    if (!lane.conn.tls)
        return lane.conn.crypt == NULL && (way == FRAMES || way == SEGMENT);
    if (lane.conn.crypt == NULL || way == SEGMENT)
        return false;
    if (way == FRAMES)
        return kernel && !lane.conn.crypt_ended;
    return way == SEALED ? !kernel : kernel && lane.conn.sealed_type != CRYPT_TYPE_DATA;
}

static void go(enum way way)
{
    switch (way) {
    case FRAMES:
        lane_gate_frames(&lane, 1);
        break;
    case SEGMENT:
        lane_gate_segment(&lane);
        break;
    case SEALED:
        lane_gate_sealed(&lane);
        break;
    default:
        lane_gate_control(&lane);
        break;
    }
}

static void check_passes(enum way way)
{
    const uint8_t *sealed = buf_data(&loop.bufs, 0) + 3;
    const void *from[WAYS] = { frame, buf_data(&loop.bufs, 0) + 1, sealed, sealed };
    const size_t sizes[WAYS] = { sizeof(frame), 30, 17, 17 };

    typed = false;
    go(way);
    ck_assert_ptr_eq(left, from[way]);
    ck_assert_uint_eq(left_size, sizes[way]);
    ck_assert_uint_eq(lane.conn.flight_size, sizes[way]);
    ck_assert(lane.conn.send_flight && typed == (way == CONTROL));
    ck_assert(lane.conn.flight_sealed == (way == SEALED || way == CONTROL));
    ck_assert(lane.conn.flight_zc == (way == SEGMENT));
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
                  "way %d passed with a lane of %#x", (int)way, bits);
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
            lane_make(bits);
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
    lane_make(LANE_OPEN << 5);
    lane.conn.send_flight = true;
    check_ends(FRAMES, LANE_OPEN << 5);
    lane_make(LANE_OPEN << 5);
    lane.conn.fd = -1;
    check_ends(FRAMES, LANE_OPEN << 5);
    lane_make(LANE_OPEN << 5);
    lane.conn.iov[0].iov_len = 0;
    check_ends(FRAMES, LANE_OPEN << 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lane_gate");
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
