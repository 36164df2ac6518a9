/* pipe: the pool, and what moves through it, on real sockets. */
#include "core/io/pipe.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/io/limits.h"
#include "core/io/sock.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT 16u

static struct share_tree tree;
static struct pipe_pool pool;
static struct share *lane, *other;

static void setup(void)
{
    const struct hash_key key = { { 1 } };

    ck_assert(share_tree_open(&tree, 16, &key));
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
    bool more;

    pair(fds);
    ck_assert_int_eq(write(fds[0], text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(pipe_fill(&pool, id, fds[1], 1000, &more), (int)strlen(text));
    ck_assert(!more);
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
    pipe_give(&pool, id);
    while (count > 0)
        pipe_give(&pool, ids[--count]);
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
    bool more = true;
    int fds[2], n;

    pair(fds);
    ck_assert_int_eq(pipe_fill(&pool, id, fds[1], 100, &more), -EAGAIN);
    ck_assert(!more);
    do {
        while (write(fds[0], block, sizeof(block)) > 0) {}
        n = pipe_fill(&pool, id, fds[1], 1u << 20, &more);
        total += n > 0 ? (uint32_t)n : 0;
    } while (n > 0);
    ck_assert_int_eq(n, -ENOBUFS);
    ck_assert_uint_eq(pipe_bytes(&pool, id), total);
    close(fds[0]);
    while ((n = pipe_fill(&pool, other_id, fds[1], 1u << 20, &more)) > 0) {}
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

int main(void)
{
    Suite *suite = suite_create("pipe");
    TCase *tcase = tcase_create("pipe");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_that_comes_back_empty_stays_open);
    tcase_add_test(tcase, what_is_left_in_one_is_gone);
    tcase_add_test(tcase, an_owner_has_a_share);
    tcase_add_test(tcase, without_descriptors_there_is_none);
    tcase_add_test(tcase, none_stays_open_that_nobody_uses);
    tcase_add_test(tcase, nothing_more_and_the_end_are_told_apart);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
