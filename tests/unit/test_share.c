/* share: who may take how much of a pool, beside whom. */
#include <check.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <string.h>

#include "core/io/addr.h"
#include "core/base/base.h"
#include "core/io/fds.h"
#include "core/io/share.h"

#define KIND SHARE_SMALL
#define ALL  9000u

static struct share_tree tree;

static void setup_of(uint64_t capacity, uint32_t nodes)
{
    ck_assert(share_tree_open(&tree, nodes, &(struct hash_key){ { 1, 2 } }));
    for (unsigned i = 0; i < SHARE_KIND_COUNT; i++)
        tree.capacity[i] = capacity;
}

static void setup(void)
{
    setup_of(ALL, 4096);
}

static void teardown(void)
{
    ck_assert_uint_eq(tree.nodes.used, 0);
    ck_assert_uint_eq(tree.pool.refs, 1);
    share_tree_close(&tree);
}

/* Takes one by one as long as it may; how many. */
static uint64_t fill(struct share *s, uint64_t most)
{
    uint64_t n = 0;

    for (; n < most && share_may(s, KIND, 1); n++)
        share_take(s, KIND, 1);
    return n;
}

/* pool -> token -> address -> session -> tunnel -> address, all of these keys. */
static struct share *chain(uint64_t token, uint64_t client, uint64_t session, uint64_t visitor)
{
    struct share *nodes[5];

    nodes[0] = share_open(&tree.pool, SHARE_TOKEN, token);
    nodes[1] = share_open(nodes[0], SHARE_ADDRESS4, client);
    nodes[2] = share_open(nodes[1], SHARE_SESSION, session);
    nodes[3] = share_open(nodes[2], SHARE_TUNNEL, 0);
    nodes[4] = share_open(nodes[3], SHARE_ADDRESS4, visitor);
    for (unsigned i = 0; i < 4; i++)
        share_unref(nodes[i]); /* the one below has a reference */
    return nodes[4];
}

static void drop(struct share *s)
{
    share_give(s, KIND, s->used[KIND]);
    share_unref(s);
}

START_TEST(one_owner_alone_gets_seven_eighths)
{
    struct share *s = share_open(&tree.pool, SHARE_TOKEN, 1);

    ck_assert_uint_eq(fill(s, ALL), ALL * 8 / 9);
    drop(s);
    s = chain(1, 1, 1, 1); /* however deep */
    ck_assert_uint_ge(fill(s, ALL), ALL * 7 / 8);
    ck_assert_uint_le(tree.pool.used[KIND], ALL * 8 / 9);
    drop(s);
}
END_TEST

START_TEST(two_who_want_all_get_the_same_and_leave_some)
{
    struct share *a = share_open(&tree.pool, SHARE_TOKEN, 1);
    struct share *b = share_open(&tree.pool, SHARE_TOKEN, 2);

    (void)fill(a, ALL);
    for (unsigned i = 0; i < 100; i++) { /* a is over its limit: it gives back, b may take */
        (void)fill(b, ALL);
        while (share_over(a, KIND))
            share_give(a, KIND, 1);
    }
    ck_assert_uint_ge(a->used[KIND], ALL * 8 / 17 - 8);
    ck_assert_uint_ge(b->used[KIND], ALL * 8 / 17 - 8);
    ck_assert_uint_le(a->used[KIND] + b->used[KIND], ALL * 16 / 17 + 8);
    drop(a);
    drop(b);
}
END_TEST

/* Another session of the same token and address, another visitor of the same tunnel, another
 * token. */
static const uint64_t others[][4] = {
    { 1, 1, 1, 2 }, { 1, 1, 2, 1 }, { 1, 2, 1, 1 }, { 2, 1, 1, 1 }
};

START_TEST(beside_one_who_has_all_that_it_may_others_find_room)
{
    const uint64_t *key = others[_i];
    struct share *hog = chain(1, 1, 1, 1);

    (void)fill(hog, ALL);
    struct share *other = chain(key[0], key[1], key[2], key[3]);
    ck_assert_uint_ge(fill(other, ALL), ALL / 20);
    ck_assert(share_over(hog, KIND));
    ck_assert(!share_may(hog, KIND, 1));
    drop(other);
    drop(hog);
}
END_TEST

/* Two hostile addresses of which one comes late, of visitors of a tunnel or of clients of a
 * token. */
START_TEST(two_addresses_leave_some_to_a_third)
{
    bool clients = _i != 0;
    struct share *owner[3];
    uint64_t got[3];

    for (unsigned i = 0; i < 3; i++) {
        owner[i] = chain(1, clients ? i : 1, 1, clients ? 1 : i);
        got[i] = fill(owner[i], ALL);
    }
    ck_assert_uint_ge(got[0], ALL * 7 / 8);
    ck_assert_uint_ge(got[1], ALL / 25);
    ck_assert_uint_ge(got[2], ALL / 250);
    for (unsigned i = 0; i < 3; i++)
        drop(owner[i]);
}
END_TEST

/* The hog of one tunnel is over its limit because another token takes its own: who else visits the
 * hog's tunnel has not made that. */
START_TEST(an_excess_is_held_against_those_who_made_it)
{
    struct share *hog = chain(1, 1, 1, 1), *tenant = chain(2, 1, 2, 1);

    (void)fill(hog, ALL);
    ck_assert_uint_eq(fill(tenant, ALL / 20), ALL / 20);
    ck_assert(share_over(hog, KIND));
    for (unsigned i = 0; i < 3; i++) {
        const uint64_t *key = others[i];
        struct share *other = chain(key[0], key[1], key[2], key[3]);
        ck_assert(!share_over(other, KIND));
        ck_assert_uint_eq(fill(other, ALL / 100), ALL / 100);
        drop(other);
    }
    drop(hog);
    drop(tenant);
}
END_TEST

/* Many sessions of one client, each with little: another client of the same token, and one with
 * another token, have what it leaves. */
START_TEST(many_sessions_of_one_address_leave_room_for_others)
{
    struct share *crowd[1000], *other;
    unsigned count = 0;

    for (bool some = true; some && count < ARRAY_SIZE(crowd); count++) {
        crowd[count] = chain(1, 1, count + 1, 1);
        some = fill(crowd[count], 20) > 0;
    }
    ck_assert_uint_lt(count, ARRAY_SIZE(crowd));
    for (unsigned i = 0; i < 2; i++) {
        other = i == 0 ? chain(1, 2, 5000, 1) : chain(2, 1, 5000, 1);
        ck_assert_uint_eq(fill(other, ALL / 200), ALL / 200);
        ck_assert(!share_sparing(other, KIND)); /* it goes on as if it were alone */
        ck_assert_uint_ge(fill(other, ALL), ALL / 200);
        drop(other);
    }
    while (count > 0)
        drop(crowd[--count]);
}
END_TEST

START_TEST(many_small_owners_of_one_leave_room_for_its_neighbour)
{
    struct share *crowd[1000], *other;
    unsigned count = 0;

    for (bool some = true; some && count < ARRAY_SIZE(crowd); count++) {
        crowd[count] = chain(1, 1, 1, count + 1);
        some = fill(crowd[count], 20) > 0;
    }
    ck_assert_uint_lt(count, ARRAY_SIZE(crowd));
    ck_assert_uint_le(tree.pool.used[KIND], ALL * 20 / 21 + 1);
    for (unsigned i = 1; i < ARRAY_SIZE(others); i++) { /* others than visitors of the tunnel */
        other = chain(others[i][0], others[i][1], others[i][2] + 1, others[i][3]);
        ck_assert_uint_ge(fill(other, ALL), ALL / 60);
        drop(other);
    }
    while (count > 0)
        drop(crowd[--count]);
}
END_TEST

START_TEST(nothing_is_held_against_anybody_while_an_eighth_is_free)
{
    struct share *s = chain(1, 1, 1, 1), *other = chain(1, 1, 1, 2);

    share_take(s, KIND, ALL * 7 / 8 - 10);
    ck_assert(share_may(s, KIND, 10));
    ck_assert(share_may(other, KIND, 10));
    ck_assert(!share_over(s, KIND));
    ck_assert(share_sparing(s, KIND));
    share_give(s, KIND, ALL / 8);
    ck_assert(!share_sparing(s, KIND));
    drop(s);
    drop(other);
}
END_TEST

/* As the early warning goes: who has much is told, not who has little. */
START_TEST(who_has_little_need_not_be_sparing)
{
    struct share *s = chain(1, 1, 1, 1), *other = chain(2, 1, 1, 1);

    share_take(s, KIND, ALL * 4 / 5);
    share_take(other, KIND, 10);
    ck_assert(share_sparing(s, KIND));
    ck_assert(!share_sparing(other, KIND));
    drop(s);
    drop(other);
}
END_TEST

START_TEST(a_small_pool_can_be_used_up)
{
    struct share *s;

    for (unsigned i = 0; i < SHARE_KIND_COUNT; i++)
        tree.capacity[i] = 8;
    s = chain(1, 1, 1, 1);
    ck_assert_uint_eq(fill(s, ALL), 8);
    ck_assert(!share_may(s, KIND, 1));
    drop(s);
}
END_TEST

START_TEST(a_node_lives_as_long_as_something_is_counted_in_it)
{
    struct share *token = share_open(&tree.pool, SHARE_TOKEN, 1);
    struct share *lane = share_open(token, SHARE_LANE, 7);

    share_take(lane, KIND, 3);
    share_unref(lane);
    share_unref(token);
    ck_assert_uint_eq(tree.nodes.used, 2);
    share_give(lane, KIND, 2);
    ck_assert_uint_eq(tree.nodes.used, 2);
    ck_assert_uint_eq(tree.pool.used[KIND], 1);
    lane = share_open(token, SHARE_LANE, 7); /* comes again meanwhile: the same */
    ck_assert_uint_eq(lane->used[KIND], 1);
    share_give(lane, KIND, 1);
    ck_assert_uint_eq(tree.nodes.used, 2);
    share_unref(lane);
    ck_assert_uint_eq(tree.nodes.used, 0);
}
END_TEST

START_TEST(what_is_moved_is_counted_once)
{
    struct share *a = chain(1, 1, 1, 1), *b = chain(1, 1, 1, 2);

    share_take(a, KIND, 5);
    share_move(a, b, KIND, 5);
    ck_assert_uint_eq(a->used[KIND], 0);
    ck_assert_uint_eq(b->used[KIND], 5);
    ck_assert_uint_eq(tree.pool.used[KIND], 5);
    share_unref(a);
    drop(b);
}
END_TEST

START_TEST(without_room_for_a_node_its_parent_counts)
{
    struct share *a, *b;

    teardown();
    setup_of(ALL, 1);
    a = share_open(&tree.pool, SHARE_TOKEN, 1);
    b = share_open(a, SHARE_LANE, 1);
    ck_assert_ptr_eq(a, b);
    share_take(b, KIND, 1);
    share_give(b, KIND, 1);
    share_unref(b);
    ck_assert_uint_eq(tree.nodes.used, 1);
    share_unref(a);
}
END_TEST

static void set_v6(union sock_addr *addr, const char *bytes)
{
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

    memcpy(&in6.sin6_addr, bytes, 16);
    memcpy(addr, &in6, sizeof(in6));
}

START_TEST(an_address_is_what_one_customer_has)
{
    union sock_addr v4 = { .bytes = { 0 } }, v6 = v4, same = v4, mapped = v4, none = v4;
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000207) };

    memcpy(&v4, &in, sizeof(in));
    set_v6(&v6, "\x20\x01\x0d\xb8\0\1\0\2\0\0\0\0\0\0\0\1");
    set_v6(&same, "\x20\x01\x0d\xb8\0\1\0\2\7\7\7\7\7\7\7\7");
    set_v6(&mapped, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\7");
    struct share *a = share_open_address(&tree.pool, &v4);
    struct share *b = share_open_address(&tree.pool, &v6);
    struct share *c = share_open_address(&tree.pool, &same);
    struct share *d = share_open_address(&tree.pool, &mapped);
    struct share *e = share_open_address(&tree.pool, &none);
    ck_assert_ptr_ne(a, b);
    ck_assert_ptr_eq(b, c);
    ck_assert_ptr_eq(a, d);
    ck_assert_ptr_ne(e, a);
    share_take(a, KIND, 8500);
    ck_assert_str_eq(share_blame(a, KIND), "address 192.0.2.7 holds 8500 small buffers");
    drop(a);
    share_take(b, KIND, 8500);
    ck_assert_str_eq(share_blame(b, KIND), "address 2001:db8:1:2::/64 holds 8500 small buffers");
    drop(b);
    share_unref(c);
    share_unref(d);
    share_unref(e);
}
END_TEST

START_TEST(who_is_to_blame_is_the_highest_at_its_limit)
{
    struct share *s = chain(0, 1, 3, 1);

    (void)fill(s, ALL);
    ck_assert_ptr_nonnull(strstr(share_blame(s, KIND), " holds "));
    ck_assert_ptr_nonnull(strstr(share_blame(s, KIND), "small buffers"));
    drop(s);
    share_take(&tree.pool, KIND, ALL);
    s = chain(0, 1, 3, 1);
    ck_assert_str_eq(share_blame(s, KIND), "all together holds 9000 small buffers");
    share_give(&tree.pool, KIND, ALL);
    drop(s);
}
END_TEST

START_TEST(descriptors_in_equal_parts)
{
    struct rlimit before, few;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){ .rlim_cur = 1000, .rlim_max = before.rlim_max };
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    uint64_t one = fds_part(1), four = fds_part(4);
    ck_assert_uint_gt(one, 900);
    ck_assert_uint_lt(one, 1000 - FDS_OWN);
    ck_assert_uint_le(4 * four, one);
    ck_assert_uint_gt(4 * four, one - 100);
    few.rlim_cur = 16;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    ck_assert_uint_gt(fds_part(64), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
}
END_TEST

/* Random owners come, take, give back and go: what the pool holds is the sum, and in the end there
 * is nothing. */
START_TEST(sums_are_right_whatever_happens)
{
    struct share *held[200] = { NULL };
    uint64_t amount[200] = { 0 }, sum = 0;

    srand(7);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned at = (unsigned)rand() % ARRAY_SIZE(held);
        uint64_t n = (uint64_t)rand() % 50;

        if (held[at] == NULL) {
            held[at] = chain((uint64_t)rand() % 3, (uint64_t)rand() % 3, (uint64_t)rand() % 3,
                             (uint64_t)rand() % 20);
        } else if (rand() % 3 != 0) {
            if (share_may(held[at], KIND, n)) {
                share_take(held[at], KIND, n);
                amount[at] += n;
                sum += n;
            }
        } else {
            if (amount[at] > 0)
                share_give(held[at], KIND, amount[at]);
            share_unref(held[at]);
            sum -= amount[at];
            amount[at] = 0;
            held[at] = NULL;
        }
        ck_assert_uint_eq(tree.pool.used[KIND], sum);
        ck_assert_uint_le(sum, ALL);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(held); i++) {
        if (held[i] == NULL)
            continue;
        if (amount[i] > 0)
            share_give(held[i], KIND, amount[i]);
        share_unref(held[i]);
    }
}
END_TEST

START_TEST(more_is_given_than_was_taken)
{
    struct share *s = share_open(&tree.pool, SHARE_TOKEN, 1);

    share_give(s, KIND, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("share");
    TCase *tcase = tcase_create("share");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_owner_alone_gets_seven_eighths);
    tcase_add_test(tcase, two_who_want_all_get_the_same_and_leave_some);
    tcase_add_loop_test(tcase, two_addresses_leave_some_to_a_third, 0, 2);
    tcase_add_loop_test(tcase, beside_one_who_has_all_that_it_may_others_find_room, 0,
                        ARRAY_SIZE(others));
    tcase_add_test(tcase, an_excess_is_held_against_those_who_made_it);
    tcase_add_test(tcase, many_sessions_of_one_address_leave_room_for_others);
    tcase_add_test(tcase, many_small_owners_of_one_leave_room_for_its_neighbour);
    tcase_add_test(tcase, nothing_is_held_against_anybody_while_an_eighth_is_free);
    tcase_add_test(tcase, who_has_little_need_not_be_sparing);
    tcase_add_test(tcase, a_small_pool_can_be_used_up);
    tcase_add_test(tcase, a_node_lives_as_long_as_something_is_counted_in_it);
    tcase_add_test(tcase, what_is_moved_is_counted_once);
    tcase_add_test(tcase, without_room_for_a_node_its_parent_counts);
    tcase_add_test(tcase, an_address_is_what_one_customer_has);
    tcase_add_test(tcase, who_is_to_blame_is_the_highest_at_its_limit);
    tcase_add_test(tcase, descriptors_in_equal_parts);
    tcase_add_test(tcase, sums_are_right_whatever_happens);
    tcase_add_test_raise_signal(tcase, more_is_given_than_was_taken, SIGABRT);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
