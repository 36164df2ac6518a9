/*
 * buf: references, owners, the reserve of the lanes, and small buffers lent to a real ring (skipped
 * where io_uring cannot be used).
 */
#include <check.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/io/buf.h"
#include "core/base/pinned.h"
#include "core/io/ring.h"

#define SMALL (2u * BUF_PROVIDED)
#define BIG   16u

static struct buf_pool pool;
static struct share_tree tree;
static struct share *owner, *other;

static void open_pool(void)
{
    ck_assert(share_tree_open(&tree, 8, &(struct hash_key){ { 1, 2 } }));
    ck_assert(buf_pool_open(&pool, &tree, SMALL, BIG));
    owner = share_open(&tree.pool, SHARE_LANE, 1);
    other = share_open(&tree.pool, SHARE_LANE, 2);
}

static void close_pool(void)
{
    buf_pool_close(&pool);
    share_tree_close(&tree);
}

START_TEST(a_buffer_lives_as_long_as_its_last_reference)
{
    uint32_t small = buf_take_small(&pool, owner), big = buf_take_big(&pool, owner);

    ck_assert(!buf_is_big(small) && buf_is_big(big));
    ck_assert_uint_eq(buf_size(small), BUF_SMALL_SIZE);
    ck_assert_uint_eq(buf_size(big), BUF_BIG_SIZE);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t id = i == 0 ? small : big;
        const struct slab *slab = i == 0 ? &pool.small : &pool.big;
        ck_assert_uint_eq(buf_refs(&pool, id), 1);
        buf_ref(&pool, id);
        buf_ref(&pool, id);
        buf_put(&pool, id);
        buf_put(&pool, id);
        ck_assert_uint_eq(buf_refs(&pool, id), 1);
        ck_assert_uint_eq(slab->used, 1);
        buf_put(&pool, id);
        ck_assert_uint_eq(slab->used, 0);
    }
}
END_TEST

/* One read of 1 MiB holds a frame of one byte for each of far more than 65,535 streams. */
START_TEST(a_buffer_has_as_many_references_as_a_read_has_frames)
{
    uint32_t big = buf_take_big(&pool, owner), count = BUF_BIG_SIZE / 10;

    for (uint32_t i = 0; i < count; i++)
        buf_ref(&pool, big);
    ck_assert_uint_eq(buf_refs(&pool, big), count + 1);
    while (count-- > 0)
        buf_put(&pool, big);
    ck_assert_uint_eq(pool.big.used, 1);
    buf_put(&pool, big);
    ck_assert_uint_eq(pool.big.used, 0);
}
END_TEST

START_TEST(buffers_do_not_overlap)
{
    uint32_t ids[BIG];

    for (unsigned i = 0; i < BIG; i++) {
        ids[i] = buf_take_big(&pool, owner);
        ck_assert_uint_ne(ids[i], BUF_NONE);
        memset(buf_data(&pool, ids[i]), (int)i, BUF_BIG_SIZE);
    }
    ck_assert_uint_eq(buf_take_big(&pool, owner), BUF_NONE);
    for (unsigned i = 0; i < BIG; i++) {
        ck_assert_uint_eq(buf_data(&pool, ids[i])[0], i);
        ck_assert_uint_eq(buf_data(&pool, ids[i])[BUF_BIG_SIZE - 1], i);
        buf_put(&pool, ids[i]);
    }
}
END_TEST

START_TEST(bulk_reads_leave_the_lanes_reserve)
{
    uint32_t taken = 0;

    while (buf_take_bulk(&pool, owner) != BUF_NONE)
        taken++;
    ck_assert_uint_ge(taken, BIG * 3 / 4);
    ck_assert_uint_lt(taken, BIG - pool.big_reserve + 1);
    ck_assert(!buf_big_scarce(&pool, other) || taken == BIG - pool.big_reserve);
    while (buf_take_bulk(&pool, other) != BUF_NONE)
        taken++;
    ck_assert_uint_eq(taken, BIG - pool.big_reserve);
    ck_assert_uint_gt(pool.big_reserve, 0);
    ck_assert(buf_big_scarce(&pool, owner) && buf_big_scarce(&pool, other));
    for (; taken < BIG; taken++)
        ck_assert_uint_ne(buf_take_big(&pool, owner), BUF_NONE);
    ck_assert_uint_eq(buf_take_big(&pool, owner), BUF_NONE);
}
END_TEST

START_TEST(scarce_for_one_before_the_reserve_is_reached)
{
    uint32_t taken = 0;

    ck_assert(!buf_big_scarce(&pool, owner));
    while (!buf_big_scarce(&pool, owner)) {
        ck_assert_uint_ne(buf_take_bulk(&pool, owner), BUF_NONE);
        taken++;
    }
    ck_assert_uint_gt(slab_available(&pool.big), pool.big_reserve);
    ck_assert_uint_lt(taken, BIG);
    ck_assert(!buf_big_scarce(&pool, other)); /* who has none */
}
END_TEST

START_TEST(buffers_are_counted_for_whoever_has_them)
{
    uint32_t small = buf_take_small(&pool, owner), big = buf_take_big(&pool, owner);

    ck_assert_uint_eq(owner->used[SHARE_SMALL], 1);
    ck_assert_uint_eq(owner->used[SHARE_BIG], 1);
    buf_ref(&pool, big);
    buf_charge(&pool, big, other);
    buf_charge(&pool, big, other);
    ck_assert_uint_eq(owner->used[SHARE_BIG], 0);
    ck_assert_uint_eq(other->used[SHARE_BIG], 1);
    buf_put(&pool, big);
    ck_assert_uint_eq(other->used[SHARE_BIG], 1);
    buf_put(&pool, big);
    buf_put(&pool, small);
    ck_assert_uint_eq(tree.pool.used[SHARE_BIG], 0);
    ck_assert_uint_eq(tree.pool.used[SHARE_SMALL], 0);
}
END_TEST

START_TEST(an_owner_is_allowed_its_share)
{
    uint32_t taken = 0;

    while (buf_take_allowed(&pool, owner) != BUF_NONE)
        taken++;
    ck_assert_uint_ge(taken, SMALL * 7 / 8);
    ck_assert_uint_lt(taken, SMALL);
    ck_assert_uint_ne(buf_take_allowed(&pool, other), BUF_NONE);
    ck_assert_uint_ne(buf_take_small(&pool, owner), BUF_NONE); /* what must be is not asked */
}
END_TEST

START_TEST(small_buffers_run_out_explicitly)
{
    for (unsigned i = 0; i < SMALL; i++)
        ck_assert_uint_ne(buf_take_small(&pool, owner), BUF_NONE);
    ck_assert_uint_eq(buf_take_small(&pool, owner), BUF_NONE);
}
END_TEST

START_TEST(a_put_too_many_is_a_bug)
{
    uint32_t id = buf_take_small(&pool, owner);

    buf_put(&pool, id);
    buf_put(&pool, id);
}
END_TEST

START_TEST(a_reference_to_a_free_buffer_is_a_bug)
{
    uint32_t id = buf_take_big(&pool, owner);

    buf_put(&pool, id);
    buf_ref(&pool, id);
}
END_TEST

static struct ring *start_ring(void)
{
    int error;
    struct ring *ring = ring_open(64, &error);

    ck_assert_ptr_nonnull(ring);
    ck_assert_int_eq(ring_start(ring), 0);
    ck_assert_int_eq(ring_buffers_open(ring, BUF_PROVIDED), 0);
    return ring;
}

START_TEST(lends_what_there_is_and_tops_up)
{
    struct ring *ring = start_ring();

    buf_provide(&pool, ring);
    ck_assert_uint_eq(pool.provided, BUF_PROVIDED);
    ck_assert_uint_eq(pool.small.used, BUF_PROVIDED);
    buf_provide(&pool, ring);
    ck_assert_uint_eq(pool.small.used, BUF_PROVIDED);
    uint32_t mine[SMALL], count = 0;
    while ((mine[count] = buf_take_small(&pool, owner)) != BUF_NONE)
        count++;
    buf_provided_taken(&pool, 0, owner); /* as if the kernel had used it: now the caller's */
    buf_provide(&pool, ring);
    ck_assert_uint_eq(pool.provided, BUF_PROVIDED - 1); /* nothing left to lend */
    buf_put(&pool, mine[0]);
    buf_provide(&pool, ring);
    ck_assert_uint_eq(pool.provided, BUF_PROVIDED);
    ck_assert_uint_eq(buf_take_small(&pool, owner), BUF_NONE);
    ring_close(ring);
}
END_TEST

START_TEST(big_buffers_register_once_or_say_no)
{
    struct ring *ring = start_ring();
    uint32_t id = buf_take_big(&pool, owner);

    ck_assert_int_eq(buf_fixed_index(&pool, ring, id), -1); /* no table */
    pool.registered = ring_register_table(ring, BIG) == 0;
    if (pool.registered) {
        int index = buf_fixed_index(&pool, ring, id);
        ck_assert(index == -1 || (uint32_t)index == (id & ~BUF_BIG_BIT)); /* -1: RLIMIT_MEMLOCK */
        ck_assert_int_eq(buf_fixed_index(&pool, ring, id), index);
    }
    ring_close(ring);
}
END_TEST

/* How many of the big buffers it registers. */
static unsigned register_all(struct ring *ring)
{
    unsigned registered = 0;

    pool.registered = ring_register_table(ring, BIG) == 0;
    ck_assert(pool.registered);
    for (uint32_t id; (id = buf_take_big(&pool, owner)) != BUF_NONE;) {
        int index = buf_fixed_index(&pool, ring, id);
        ck_assert_int_eq(buf_fixed_index(&pool, ring, id), index); /* once and for all */
        registered += index >= 0;
    }
    return registered;
}

START_TEST(registration_ends_before_the_limit)
{
    struct ring *ring = start_ring();

    pinned_set_limit(8 * MIB);
    unsigned registered = register_all(ring);
    ck_assert_uint_ge(registered, 3); /* 4 MiB at least, in whole huge pages, aligned or not */
    ck_assert_uint_le(registered, 6);
    ck_assert_uint_le(pool.pinned, 6 * MIB);
    ck_assert(!pinned_try(3 * MIB));
    ring_close(ring);
    close_pool();
    ck_assert(pinned_try(6 * MIB)); /* all is back */
    open_pool();
}
END_TEST

static void rest_all_big(struct ring *ring)
{
    slab_age(&pool.big);
    slab_age(&pool.big);
    while (slab_leaving(&pool.big) != SLAB_NONE)
        ck_assert(buf_rest(&pool, ring));
}

/* What is registered counts as long as it does not rest, in whatever order they rest; and may be
 * registered again. */
START_TEST(resting_buffers_are_not_registered)
{
    struct ring *ring = start_ring();

    pinned_set_limit(64 * MIB);
    unsigned registered = register_all(ring);
    for (uint32_t i = 0; i < BIG; i += 2)
        buf_put(&pool, i | BUF_BIG_BIT);
    rest_all_big(ring);
    for (uint32_t i = 1; i < BIG; i += 2)
        buf_put(&pool, i | BUF_BIG_BIT);
    rest_all_big(ring);
    ck_assert_uint_eq(pool.pinned, 0);
    for (uint32_t i = 0; i < BIG; i++)
        ck_assert_uint_ne(pool.big_fixed[i], 1);
    pool.registered = true;
    unsigned again = 0;
    for (uint32_t id; (id = buf_take_big(&pool, owner)) != BUF_NONE;) {
        ck_assert_uint_eq(buf_data(&pool, id)[BUF_BIG_SIZE - 1], 0);
        again += buf_fixed_index(&pool, ring, id) >= 0;
    }
    ck_assert_uint_eq(again, registered);
    ring_close(ring);
}
END_TEST

/* Pages of lent buffers go, but for those that were lent last; and the buffers stay lent. */
START_TEST(lent_buffers_rest)
{
    struct ring *ring = start_ring();
    uint32_t kept = 3;

    buf_provide(&pool, ring);
    uint16_t given = ring_buffers_given(ring);
    ck_assert_uint_eq(given, BUF_PROVIDED);
    for (uint32_t i = 0; i < pool.provided; i++)
        memset(buf_data(&pool, i), 1, BUF_SMALL_SIZE);
    uint16_t next = 0, until = (uint16_t)(given - kept);
    for (unsigned calls = 0; next != until; calls++) {
        next = buf_lent_rest(&pool, ring, next, until, 100);
        ck_assert_uint_le(calls, BUF_PROVIDED / 100);
    }
    for (uint32_t i = 0; i < pool.provided; i++)
        ck_assert_uint_eq(buf_data(&pool, i)[i], i < pool.provided - kept ? 0 : 1);
    ck_assert_uint_eq(buf_lent_rest(&pool, ring, next, until, 100), until);
    ck_assert_uint_eq(pool.provided, BUF_PROVIDED);
    ring_close(ring);
}
END_TEST

/* An ordinary user of the usual 8 MiB: what is registered leaves 2 MiB of it for the rings of
 * another process. In huge pages and without. */
START_TEST(registration_leaves_room_to_others)
{
    uid_t user = 100000 + (uid_t)getpid();
    struct rlimit limit;
    int error = 0;

    ck_assert_int_eq(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    limit.rlim_cur = 8 * MIB;
    ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() == 0)
        ck_assert(setgroups(0, NULL) == 0 && setresgid(user, user, user) == 0 &&
                  setresuid(user, user, user) == 0);
    pinned_set_limit(8 * MIB);
    (void)madvise(pool.big.items, (size_t)BUF_BIG_SIZE * BIG,
                  _i == 0 ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    struct ring *ring = start_ring();
    ck_assert_uint_ge(register_all(ring), 3);
    struct ring *others[(2 * MIB - 64 * KIB) / (136 * KIB)];
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        others[i] = ring_open(1024, &error);
        ck_assert_msg(others[i] != NULL, "ring %u: %s", i, strerror(error));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
        ring_close(others[i]);
    ring_close(ring);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("buf");
    TCase *tcase = tcase_create("pool");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, open_pool, close_pool);
    tcase_add_test(tcase, a_buffer_lives_as_long_as_its_last_reference);
    tcase_add_test(tcase, a_buffer_has_as_many_references_as_a_read_has_frames);
    tcase_add_test(tcase, buffers_do_not_overlap);
    tcase_add_test(tcase, bulk_reads_leave_the_lanes_reserve);
    tcase_add_test(tcase, scarce_for_one_before_the_reserve_is_reached);
    tcase_add_test(tcase, buffers_are_counted_for_whoever_has_them);
    tcase_add_test(tcase, an_owner_is_allowed_its_share);
    tcase_add_test(tcase, small_buffers_run_out_explicitly);
    tcase_add_test_raise_signal(tcase, a_put_too_many_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tcase, a_reference_to_a_free_buffer_is_a_bug, SIGABRT);
    if (ring_features()->usable) {
        tcase_add_test(tcase, lends_what_there_is_and_tops_up);
        tcase_add_test(tcase, resting_buffers_are_not_registered);
        tcase_add_test(tcase, lent_buffers_rest);
        tcase_add_test(tcase, big_buffers_register_once_or_say_no);
        tcase_add_test(tcase, registration_ends_before_the_limit);
        tcase_add_loop_test(tcase, registration_leaves_room_to_others, 0, 2);
    }
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
