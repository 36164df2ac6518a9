/* pipe: the pool, and what moves through it, on real sockets. */
#include "core/io/pipe.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/io/limits.h"
#include "core/io/sock.h"

#include <check.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT 64u
CHECK_STATIC(COUNT > PIPES_KEPT + 4, "more than are kept open");

static struct share_tree tree;
static struct pipe_pool pool;
static struct share *lane, *other;

static void setup(void)
{
    const struct hash_key key = { { 1 } };

    ck_assert(share_tree_open(&tree, 2 * COUNT, &key));
    ck_assert(pipe_pool_open(&pool, &tree, COUNT));
    tree.capacity[SHARE_FDS] = 1000;
    lane = share_open(&tree.pool, SHARE_LANE, 1);
    other = share_open(&tree.pool, SHARE_LANE, 2);
}

static void teardown(void)
{
    ck_assert_uint_eq(tree.pool.used[SHARE_PIPES], 0);
    pipe_pool_close(&pool);
    ck_assert_uint_eq(tree.pool.used[SHARE_FDS], 0);
    share_unref(lane);
    share_unref(other);
    share_tree_close(&tree);
}

static void pair(int fds[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    sock_no_wait(fds[0]);
    sock_no_wait(fds[1]);
}

static void fill(uint32_t id, const char *text)
{
    int fds[2];
    struct pipe_rest rest;

    pair(fds);
    ck_assert_int_eq(write(fds[0], text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(pipe_fill(&pool, id, fds[1], 1000, &rest), (int)strlen(text));
    ck_assert(!rest.more);
    close(fds[0]);
    close(fds[1]);
}

START_TEST(one_that_comes_back_empty_stays_open)
{
    uint32_t id = pipe_take(&pool, lane, 1);

    ck_assert_uint_ne(id, PIPE_NONE);
    ck_assert_uint_eq(pool.open, 1);
    ck_assert_uint_eq(lane->used[SHARE_PIPES], 1);
    ck_assert_uint_eq(tree.pool.used[SHARE_FDS], PIPE_FDS);
    pipe_charge(&pool, id, other);
    ck_assert_uint_eq(lane->used[SHARE_PIPES], 0);
    ck_assert_uint_eq(other->used[SHARE_PIPES], 1);
    pipe_give(&pool, id);
    ck_assert_uint_eq(pool.open, 1);
    ck_assert_uint_eq(pipe_take(&pool, lane, 1), id);
    ck_assert_uint_eq(pool.open, 1);
    pipe_give(&pool, id);
}
END_TEST

START_TEST(what_is_left_in_one_is_gone)
{
    uint32_t id = pipe_take(&pool, lane, 1);

    fill(id, "secret of somebody");
    ck_assert_uint_eq(pipe_bytes(&pool, id), 18);
    pipe_give(&pool, id);
    ck_assert_uint_eq(pool.open, 0);
    id = pipe_take(&pool, other, 1);
    ck_assert_uint_eq(pipe_bytes(&pool, id), 0);
    fill(id, "mine");
    char text[5] = "";
    ck_assert_int_eq(pipe_read(&pool, id, text, 4), 0);
    ck_assert_str_eq(text, "mine");
    pipe_give(&pool, id);
}
END_TEST

START_TEST(an_owner_has_a_share)
{
    uint32_t ids[COUNT], count = 0;

    while ((ids[count] = pipe_take(&pool, lane, 1)) != PIPE_NONE)
        count++;
    ck_assert_uint_lt(count, COUNT);
    uint32_t id = pipe_take(&pool, other, 1);
    ck_assert_uint_ne(id, PIPE_NONE);
    pipe_charge(&pool, id, lane); /* it is there: whoever takes it over is not asked */
    ck_assert_uint_eq(lane->used[SHARE_PIPES], count + 1);
    pipe_charge(&pool, id, lane);
    ck_assert_uint_eq(lane->used[SHARE_PIPES], count + 1);
    ck_assert(share_over(lane, SHARE_PIPES));
    pipe_give(&pool, id);
    while (count > 0)
        pipe_give(&pool, ids[--count]);
}
END_TEST

START_TEST(so_many_are_kept_open)
{
    uint32_t ids[PIPES_KEPT + 4];
    const uint32_t count = sizeof(ids) / sizeof(ids[0]);

    for (uint32_t i = 0; i < count; i++) {
        ids[i] = pipe_take(&pool, lane, 1);
        ck_assert_uint_ne(ids[i], PIPE_NONE);
    }
    ck_assert_uint_eq(pool.open, count);
    ck_assert_uint_eq(tree.pool.used[SHARE_FDS], count * PIPE_FDS);
    for (uint32_t i = 0; i < count; i++)
        pipe_give(&pool, ids[i]);
    ck_assert_uint_eq(pool.open, PIPES_KEPT);
    ck_assert_uint_eq(tree.pool.used[SHARE_FDS], PIPES_KEPT * PIPE_FDS);
    ck_assert_uint_eq(tree.pool.used[SHARE_PIPES], 0);
}
END_TEST

START_TEST(all_of_them_may_be_taken_and_no_more)
{
    uint32_t ids[COUNT], count = 0;
    struct share *owners[COUNT];

    for (; count < COUNT; count++) {
        owners[count] = share_open(&tree.pool, SHARE_LANE, 100 + count);
        ids[count] = pipe_take(&pool, owners[count], 1);
        if (ids[count] == PIPE_NONE)
            break;
        for (uint32_t i = 0; i < count; i++)
            ck_assert_uint_ne(ids[i], ids[count]);
    }
    ck_assert_uint_ge(count, COUNT * 7 / 8); /* one each: nobody is refused before that */
    ck_assert_uint_eq(tree.pool.used[SHARE_PIPES], count);
    for (uint32_t i = 0; i < count; i++)
        pipe_give(&pool, ids[i]);
    for (uint32_t i = 0; i < count + (count < COUNT); i++)
        share_unref(owners[i]);
}
END_TEST

START_TEST(without_descriptors_there_is_none)
{
    struct rlimit limit, few;
    uint64_t now = 1000;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = 3;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    ck_assert_uint_eq(pipe_take(&pool, lane, now), PIPE_NONE);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_eq(pipe_take(&pool, lane, now + PIPES_AGAIN_NS - 1), PIPE_NONE);
    uint32_t id = pipe_take(&pool, lane, now + PIPES_AGAIN_NS);
    ck_assert_uint_ne(id, PIPE_NONE);
    pipe_give(&pool, id);
    tree.capacity[SHARE_FDS] = 4 * PIPE_FDS - 1; /* half of them are for others: one pipe */
    uint32_t first = pipe_take(&pool, lane, now);
    ck_assert_uint_eq(pipe_take(&pool, lane, now), PIPE_NONE);
    tree.capacity[SHARE_FDS] = PIPE_FDS; /* others came */
    pipe_give(&pool, first);
    ck_assert_uint_eq(pool.open, 0);
}
END_TEST

START_TEST(descriptors_that_others_lack_are_given_up)
{
    const uint64_t now = 1000;
    uint32_t id = pipe_take(&pool, lane, now);

    pipe_give(&pool, pipe_take(&pool, lane, now));
    ck_assert_uint_eq(pool.open, 2);
    pipe_pool_yield(&pool, now);
    ck_assert_uint_eq(pool.open, 1);
    ck_assert_uint_eq(pipe_take(&pool, lane, now + PIPES_AGAIN_NS - 1), PIPE_NONE);
    pipe_give(&pool, id);
    ck_assert_uint_eq(pool.open, 0);
    id = pipe_take(&pool, lane, now + PIPES_AGAIN_NS);
    ck_assert_uint_ne(id, PIPE_NONE);
    pipe_give(&pool, id);
    ck_assert_uint_eq(pool.open, 1);
}
END_TEST

/* Behind a FIN splice(2) says at an urgent byte what it says at the end. */
START_TEST(an_urgent_byte_is_not_the_end)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1, n;
    uint32_t id = pipe_take(&pool, lane, 1);
    struct pipe_rest rest;

    ck_assert_int_eq(setsockopt(listener, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)), 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&addr, size), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&addr, &size), 0);
    int from = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(from, (struct sockaddr *)&addr, size), 0);
    int to = accept(listener, NULL, NULL);
    sock_no_wait(to);
    ck_assert_int_eq(send(from, "before", 6, 0), 6);
    ck_assert_int_eq(send(from, "!", 1, MSG_OOB), 1);
    ck_assert_int_eq(send(from, "behind", 6, 0), 6);
    ck_assert_int_eq(shutdown(from, SHUT_WR), 0);
    struct pollfd end = { .fd = to, .events = POLLRDHUP };
    ck_assert_int_eq(poll(&end, 1, 10000), 1);
    do
        n = pipe_fill(&pool, id, to, 1000, &rest);
    while (n > 0);
    ck_assert_int_eq(n, -ENOBUFS);
    ck_assert_uint_gt(sock_unread(to), 0);
    close(from);
    close(to);
    close(listener);
    pipe_give(&pool, id);
}
END_TEST

START_TEST(none_stays_open_that_nobody_uses)
{
    pipe_give(&pool, pipe_take(&pool, lane, 1));
    pipe_pool_age(&pool); /* of the period in which it was used */
    ck_assert_uint_eq(pool.open, 1);
    uint32_t id = pipe_take(&pool, lane, 1);
    pipe_pool_age(&pool);
    pipe_pool_age(&pool);
    ck_assert_uint_eq(pool.open, 1); /* it is in use */
    pipe_give(&pool, id);
    pipe_pool_age(&pool);
    ck_assert_uint_eq(pool.open, 0);
}
END_TEST

START_TEST(nothing_more_and_the_end_are_told_apart)
{
    static char block[16384];
    uint32_t id = pipe_take(&pool, lane, 1), other_id = pipe_take(&pool, lane, 1), total = 0;
    struct pipe_rest rest = { .more = true };
    int fds[2], n;

    pair(fds);
    ck_assert_int_eq(pipe_fill(&pool, id, fds[1], 100, &rest), -EAGAIN);
    ck_assert(!rest.more);
    do {
        while (write(fds[0], block, sizeof(block)) > 0) {}
        n = pipe_fill(&pool, id, fds[1], 1u << 20, &rest);
        total += n > 0 ? (uint32_t)n : 0;
    } while (n > 0);
    ck_assert_int_eq(n, -ENOBUFS);
    ck_assert_uint_eq(pipe_bytes(&pool, id), total);
    close(fds[0]);
    while ((n = pipe_fill(&pool, other_id, fds[1], 1u << 20, &rest)) > 0) {}
    ck_assert_int_eq(n, 0);
    close(fds[1]);

    pair(fds);
    uint32_t left = total;
    while (left > 0) {
        n = pipe_drain(&pool, id, fds[0], left);
        ck_assert(n > 0 || n == -EAGAIN);
        left -= n > 0 ? (uint32_t)n : 0;
        while (read(fds[1], block, sizeof(block)) > 0) {}
    }
    ck_assert_uint_eq(pipe_bytes(&pool, id), 0);
    close(fds[0]);
    close(fds[1]);
    pipe_give(&pool, id);
    pipe_give(&pool, other_id);
}
END_TEST

static char pattern(uint32_t at)
{
    return (char)(at * 7 % 251);
}

static void tcp_pair(int fds[2])
{
    union sock_addr addr = { .sa.sa_family = AF_INET };
    int listener = sock_listen(&addr, false, 1);

    ck_assert_int_ge(listener, 0);
    sock_local(listener, &addr);
    fds[0] = sock_dial(AF_INET);
    ck_assert_int_eq(connect(fds[0], &addr.sa, sock_addr_size(&addr)), 0);
    fds[1] = accept(listener, NULL, NULL);
    ck_assert_int_ge(fds[1], 0);
    sock_close(listener);
    sock_no_wait(fds[0]);
    sock_no_wait(fds[1]);
}

static void await_unread(int fd, uint32_t bytes)
{
    for (unsigned i = 0; i < 10000 && sock_unread(fd) < bytes; i++)
        usleep(1000);
    ck_assert_uint_eq(sock_unread(fd), bytes);
}

/* A part is asked for, a part is copied out, the rest goes on; and what comes behind it. */
START_TEST(parts_stay_in_order)
{
    enum { ALL = 50000, FIRST = 20000, COPIED = 1234 };
    static char block[ALL], got[ALL];
    uint32_t id = pipe_take(&pool, lane, 1), at = 0;
    struct pipe_rest rest = { 0 };
    int from[2], to[2];

    for (uint32_t i = 0; i < ALL; i++)
        block[i] = pattern(i);
    tcp_pair(from);
    tcp_pair(to);
    ck_assert_int_eq(write(from[0], block, ALL), ALL);
    await_unread(from[1], ALL);
    ck_assert_int_eq(pipe_fill(&pool, id, from[1], FIRST, &rest), FIRST);
    ck_assert(rest.more);
    ck_assert_uint_eq(sock_unread(from[1]), ALL - FIRST);
    ck_assert_int_eq(pipe_read(&pool, id, got, COPIED), 0);
    at = COPIED;
    ck_assert_uint_eq(pipe_bytes(&pool, id), FIRST - COPIED);
    ck_assert_int_eq(pipe_fill(&pool, id, from[1], ALL, &rest), ALL - FIRST);
    ck_assert(!rest.more);
    ck_assert_int_eq(pipe_drain(&pool, id, to[0], 777), 777);
    ck_assert_int_eq(pipe_drain(&pool, id, to[0], ALL - COPIED - 777), ALL - COPIED - 777);
    ck_assert_uint_eq(pipe_bytes(&pool, id), 0);
    await_unread(to[1], ALL - COPIED);
    ck_assert_int_eq(sock_recv_exact(to[1], got + at, ALL - at), ALL - COPIED);
    ck_assert_int_eq(memcmp(block, got, ALL), 0);
    ck_assert_int_eq(pipe_fill(&pool, id, from[1], ALL, &rest), -EAGAIN);
    ck_assert(!rest.more);
    sock_shutdown_write(from[0]);
    while (!rest.more && pipe_fill(&pool, id, from[1], ALL, &rest) == -EAGAIN)
        usleep(1000);
    ck_assert_int_eq(pipe_fill(&pool, id, from[1], ALL, &rest), 0);
    pipe_give(&pool, id);
    for (unsigned i = 0; i < 2; i++) {
        close(from[i]);
        close(to[i]);
    }
}
END_TEST

/* What is there comes first, then why there is no more; what cannot be delivered stays inside. */
START_TEST(resets_are_told)
{
    uint32_t id = pipe_take(&pool, lane, 1);
    struct pipe_rest rest = { 0 };
    int fds[2];

    signal(SIGPIPE, SIG_IGN); /* as main.c does */
    tcp_pair(fds);
    ck_assert_int_eq(write(fds[0], "last words", 10), 10);
    sock_set_rst(fds[0]);
    close(fds[0]);
    struct pollfd hup = { .fd = fds[1], .events = POLLRDHUP };
    ck_assert_int_eq(poll(&hup, 1, 10000), 1);
    ck_assert_int_eq(pipe_fill(&pool, id, fds[1], 1000, &rest), 10);
    ck_assert_int_eq(pipe_fill(&pool, id, fds[1], 1000, &rest), -ECONNRESET);
    ck_assert_int_eq(pipe_drain(&pool, id, fds[1], 10), -EPIPE);
    ck_assert_uint_eq(pipe_bytes(&pool, id), 10);
    pipe_give(&pool, id);
    ck_assert_uint_eq(pool.open, 0);
    close(fds[1]);
}
END_TEST

/* A socket says its error once: behind bytes that one call brought, with an urgent byte next. */
START_TEST(an_error_behind_bytes_is_not_lost)
{
    uint32_t id = pipe_take(&pool, lane, 1);
    struct pipe_rest rest = { 0 };
    int fds[2], on = 1;

    signal(SIGPIPE, SIG_IGN);
    tcp_pair(fds);
    ck_assert_int_eq(setsockopt(fds[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)), 0);
    ck_assert_int_eq(write(fds[0], "last words", 10), 10);
    ck_assert_int_eq(send(fds[0], "!", 1, MSG_OOB), 1);
    sock_set_rst(fds[0]);
    close(fds[0]);
    struct pollfd hup = { .fd = fds[1], .events = POLLRDHUP };
    ck_assert_int_eq(poll(&hup, 1, 10000), 1);
    ck_assert_int_eq(pipe_fill(&pool, id, fds[1], 1000, &rest), 10);
    ck_assert(rest.more);
    ck_assert_int_eq(rest.error, -ECONNRESET);
    pipe_give(&pool, id);
    close(fds[1]);
}
END_TEST

/* By the control that a socket has, whatever the machine's is; every kernel has reno. */
START_TEST(bbr_paces)
{
    static const char *const controls[] = { "reno", "cubic", "bbr" };
    unsigned known = 0;
    int fds[2];

    tcp_pair(fds);
    for (unsigned i = 0; i < ARRAY_SIZE(controls); i++) {
        const char *name = controls[i];

        if (setsockopt(fds[0], IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) != 0)
            continue;
        known++;
        ck_assert_int_eq(sock_paces(fds[0]), strcmp(name, "bbr") == 0);
    }
    ck_assert_uint_gt(known, 0);
    close(fds[0]);
    close(fds[1]);
    ck_assert(!sock_paces(-1));
}
END_TEST

/* Segments of a byte each take a page of the pipe each. */
START_TEST(small_pieces_fill_one)
{
    uint32_t id = pipe_take(&pool, lane, 1), other_id = pipe_take(&pool, lane, 1), sent = 0;
    struct pipe_rest rest = { .more = true };
    int fds[2], n = 1;

    tcp_pair(fds);
    while (n > 0 && sent < PIPE_SIZE) {
        ck_assert_int_eq(write(fds[0], "x", 1), 1);
        sent++;
        await_unread(fds[1], 1);
        n = pipe_fill(&pool, id, fds[1], 1000, &rest);
    }
    ck_assert_int_eq(n, -ENOBUFS);
    ck_assert(rest.more);
    ck_assert_uint_eq(pipe_bytes(&pool, id), sent - 1);
    ck_assert_int_eq(pipe_fill(&pool, other_id, fds[1], 1000, &rest), 1);
    ck_assert(!rest.more);
    pipe_give(&pool, id);
    pipe_give(&pool, other_id);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(reading_more_than_is_in_it_is_a_bug)
{
    char text[8];

    fill(pipe_take(&pool, lane, 1), "abc");
    (void)pipe_read(&pool, 0, text, 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pipe");
    TCase *tcase = tcase_create("pipe");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_that_comes_back_empty_stays_open);
    tcase_add_test(tcase, what_is_left_in_one_is_gone);
    tcase_add_test(tcase, an_owner_has_a_share);
    tcase_add_test(tcase, so_many_are_kept_open);
    tcase_add_test(tcase, all_of_them_may_be_taken_and_no_more);
    tcase_add_test(tcase, without_descriptors_there_is_none);
    tcase_add_test(tcase, descriptors_that_others_lack_are_given_up);
    tcase_add_test(tcase, an_urgent_byte_is_not_the_end);
    tcase_add_test(tcase, none_stays_open_that_nobody_uses);
    tcase_add_test(tcase, nothing_more_and_the_end_are_told_apart);
    tcase_add_test(tcase, parts_stay_in_order);
    tcase_add_test(tcase, resets_are_told);
    tcase_add_test(tcase, bbr_paces);
    tcase_add_test(tcase, an_error_behind_bytes_is_not_lost);
    tcase_add_test(tcase, small_pieces_fill_one);
    tcase_add_test_raise_signal(tcase, reading_more_than_is_in_it_is_a_bug, SIGABRT);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
