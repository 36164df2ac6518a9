/* strangers: who gives up its place, and whose handshake goes on. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/base/list.h"
#include "core/io/share.h"
#include "core/mux/strangers.h"

#define PLACES 100u

static struct share_tree tree;
static struct strangers strangers;
static struct stranger all[PLACES + 1];
static struct share *shares[PLACES + 1]; /* theirs */

static void setup(void)
{
    ck_assert(share_tree_open(&tree, 2 * PLACES, &(struct hash_key){ { 1, 2 } }));
    ck_assert(strangers_open(&strangers, PLACES));
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        stranger_init(&all[i]);
}

static void leave(struct stranger *stranger)
{
    strangers_remove(&strangers, stranger);
    share_unref(shares[stranger - all]);
    shares[stranger - all] = NULL;
}

static void teardown(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        leave(&all[i]);
    ck_assert_uint_eq(strangers.count, 0);
    ck_assert_uint_eq(strangers.addresses.used, 0);
    ck_assert_uint_eq(tree.nodes.used, 0);
    strangers_close(&strangers);
    share_tree_close(&tree);
}

static void come(unsigned index, uint64_t address)
{
    shares[index] = share_open(&tree.pool, SHARE_ADDRESS4, address);
    strangers_add(&strangers, &all[index], shares[index]);
}

START_TEST(the_oldest_of_the_busiest_address_goes)
{
    ck_assert_ptr_null(strangers_last(&strangers));
    come(0, 1);
    come(1, 2);
    come(2, 2);
    come(3, 1);
    come(4, 1);
    ck_assert_ptr_eq(strangers_last(&strangers), &all[0]);
    leave(&all[0]);
    leave(&all[3]);
    ck_assert_ptr_eq(strangers_last(&strangers), &all[1]);
    leave(&all[1]);
    ck_assert_uint_eq(strangers.count, 2);
}
END_TEST

/* One address that makes connections for ever, and others with one each: these stay. */
START_TEST(a_flood_takes_places_from_itself)
{
    unsigned next = 10;

    for (unsigned i = 0; i < 10; i++)
        come(i, 100 + i);
    for (unsigned i = 0; i < 1000; i++) {
        if (!strangers_room(&strangers)) {
            struct stranger *last = strangers_last(&strangers);
            next = (unsigned)(last - all);
            ck_assert_uint_ge(next, 10);
            leave(last);
        }
        come(next++, 1);
    }
    for (unsigned i = 0; i < 10; i++)
        ck_assert_ptr_nonnull(all[i].address);
}
END_TEST

/* In a list of its own from so many on: all the same, the oldest first. */
START_TEST(many_are_counted_as_many)
{
    for (unsigned i = 0; i < STRANGERS_COUNTS + 10; i++)
        come(i, 1);
    come(STRANGERS_COUNTS + 10, 2);
    for (unsigned i = 0; i < STRANGERS_COUNTS + 8; i++) {
        ck_assert_ptr_eq(strangers_last(&strangers), &all[i]);
        leave(&all[i]);
    }
}
END_TEST

START_TEST(addresses_take_turns_with_handshakes)
{
    for (unsigned i = 0; i < 5; i++)
        come(i, i < 4 ? 1 : 2);
    for (unsigned i = 0; i < 5; i++)
        strangers_due(&strangers, &all[i]);
    ck_assert_ptr_eq(strangers_next(&strangers), &all[0]);
    ck_assert_ptr_eq(strangers_next(&strangers), &all[4]); /* not behind the other's three */
    ck_assert_ptr_eq(strangers_next(&strangers), &all[1]);
    leave(&all[2]);
    ck_assert_ptr_eq(strangers_next(&strangers), &all[3]);
    ck_assert_ptr_null(strangers_next(&strangers));
    ck_assert(list_empty(&strangers.due));
}
END_TEST

START_TEST(who_leaves_has_no_turn)
{
    come(0, 1);
    strangers_due(&strangers, &all[0]);
    leave(&all[0]);
    ck_assert_ptr_null(strangers_next(&strangers));
    come(1, 1);
    come(2, 1);
    strangers_due(&strangers, &all[1]);
    list_remove(&all[1].step_node); /* it closes */
    ck_assert_ptr_null(strangers_next(&strangers));
}
END_TEST

START_TEST(one_more_than_there_are_places)
{
    for (unsigned i = 0; i <= PLACES; i++)
        come(i, i);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("strangers");
    TCase *tcase = tcase_create("strangers");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_oldest_of_the_busiest_address_goes);
    tcase_add_test(tcase, a_flood_takes_places_from_itself);
    tcase_add_test(tcase, many_are_counted_as_many);
    tcase_add_test(tcase, addresses_take_turns_with_handshakes);
    tcase_add_test(tcase, who_leaves_has_no_turn);
    tcase_add_test_raise_signal(tcase, one_more_than_there_are_places, SIGABRT);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
