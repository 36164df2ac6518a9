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

#include "core/crypt.h"
#include "core/lane.h"
#include "core/lane_impl.h"
#include "core/worker.h"

enum way { FRAMES, SEGMENT, SEALED, CONTROL, WAYS };

#define FD 7

static struct worker worker;
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
    typed = msg == &lane.msg && control == lane.tx_control && type == lane.sealed_type;
}

uint64_t lane_send_op(const struct lane *of)
{
    return of->slot;
}

unsigned lane_send_flags(const struct lane *of)
{
    return of->tls && kernel_seals ? 0 : RING_WAITALL;
}

int buf_fixed_index(struct buf_pool *pool, struct ring *ring, uint32_t id)
{
    return pool == &worker.bufs && ring == NULL && id != BUF_NONE ? -1 : 0;
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
        .worker = &worker,
        .slot = 5,
        .fd = FD,
        .tls = (bits & 1) != 0,
        .crypt = (bits & 2) != 0 ? (struct crypt *)&lane : NULL,
        .crypt_ended = (bits & 8) != 0,
        .sealed_type = (bits & 16) != 0 ? CRYPT_TYPE_DATA : 21,
        .sniffs = (bits & 32) != 0,
        .state = (uint8_t)(bits >> 6),
        .seg_count = 1,
        .sealed_sent = 3,
        .sealed_filled = 20,
    };
    kernel_seals = (bits & 4) != 0;
    lane.segments[0] = (struct lane_segment){ .size = 30, .offset = 1 };
    lane.iov[0] = (struct iovec){ .iov_base = frame, .iov_len = sizeof(frame) };
}

#define CASES ((1u << 6) * (LANE_CLOSING + 1))

static bool may_pass(enum way way)
{
    bool kernel = lane.crypt != NULL && kernel_seals;

    if (lane.state != LANE_OPEN && lane.state != LANE_LINGER && lane.state != LANE_TLS)
        return false;
    if (lane.sniffs)
        return false;
    if (!lane.tls)
        return lane.crypt == NULL && (way == FRAMES || way == SEGMENT);
    if (lane.crypt == NULL || way == SEGMENT)
        return false;
    if (way == FRAMES)
        return kernel && !lane.crypt_ended;
    return way == SEALED ? !kernel : kernel && lane.sealed_type != CRYPT_TYPE_DATA;
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
    const uint8_t *sealed = buf_data(&worker.bufs, 0) + 3;
    const void *from[WAYS] = { frame, buf_data(&worker.bufs, 0) + 1, sealed, sealed };
    const size_t sizes[WAYS] = { sizeof(frame), 30, 17, 17 };

    typed = false;
    go(way);
    ck_assert_ptr_eq(left, from[way]);
    ck_assert_uint_eq(left_size, sizes[way]);
    ck_assert_uint_eq(lane.flight_size, sizes[way]);
    ck_assert(lane.send_flight && typed == (way == CONTROL));
    ck_assert(lane.flight_sealed == (way == SEALED || way == CONTROL));
    ck_assert(lane.flight_zc == (way == SEGMENT));
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
    if (worker.bufs.small.items == NULL)
        ck_assert(slab_open(&worker.bufs.small, BUF_SMALL_SIZE, 2, 0));
    if (worker.bufs.small.fresh == 0)
        ck_assert_uint_eq(slab_take(&worker.bufs.small), 0);
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
    lane.send_flight = true;
    check_ends(FRAMES, LANE_OPEN << 5);
    lane_make(LANE_OPEN << 5);
    lane.fd = -1;
    check_ends(FRAMES, LANE_OPEN << 5);
    lane_make(LANE_OPEN << 5);
    lane.iov[0].iov_len = 0;
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
