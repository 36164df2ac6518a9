/* list: order, membership, removal from anywhere, and a random run against a plain array. */
#include <check.h>
#include <stdlib.h>

#include "core/base/list.h"

#define NODES 16u

struct item {
    unsigned number;
    struct list node;
};

static struct item items[NODES];

static void items_init(struct list *head)
{
    list_init(head);
    for (unsigned i = 0; i < NODES; i++) {
        items[i].number = i;
        list_init(&items[i].node);
    }
}

START_TEST(starts_empty_and_keeps_order)
{
    struct list head;

    items_init(&head);
    ck_assert(list_empty(&head));
    ck_assert_ptr_null(list_pop(&head));
    for (unsigned i = 0; i < NODES; i++) {
        ck_assert(!list_linked(&items[i].node));
        list_append(&head, &items[i].node);
        ck_assert(list_linked(&items[i].node));
    }
    for (unsigned i = 0; i < NODES; i++) {
        struct list *node = list_pop(&head);
        ck_assert_ptr_eq(container_of(node, struct item, node), &items[i]);
        ck_assert(!list_linked(node));
    }
    ck_assert(list_empty(&head));
}
END_TEST

START_TEST(removal_is_harmless_twice)
{
    struct list head;

    items_init(&head);
    list_append(&head, &items[0].node);
    list_append(&head, &items[1].node);
    list_append(&head, &items[2].node);
    list_remove(&items[1].node);
    list_remove(&items[1].node);
    ck_assert(!list_linked(&items[1].node));
    ck_assert_ptr_eq(list_pop(&head), &items[0].node);
    ck_assert_ptr_eq(list_pop(&head), &items[2].node);
    ck_assert(list_empty(&head));
}
END_TEST

/* The model: numbers in order. */
static void compare(struct list *head, const unsigned *model, unsigned count)
{
    unsigned i = 0;

    for (struct list *node = head->next; node != head; node = node->next, i++) {
        ck_assert_uint_lt(i, count);
        ck_assert_uint_eq(container_of(node, struct item, node)->number, model[i]);
        ck_assert_ptr_eq(node->next->prev, node);
    }
    ck_assert_uint_eq(i, count);
}

START_TEST(random_run_against_an_array)
{
    unsigned model[NODES], count = 0, seed = 12345;
    struct list head;

    items_init(&head);
    for (unsigned step = 0; step < 20000; step++) {
        seed = seed * 1103515245u + 12345u;
        unsigned pick = seed >> 16 & (NODES - 1);
        if (!list_linked(&items[pick].node)) {
            list_append(&head, &items[pick].node);
            model[count++] = pick;
        } else {
            unsigned at = 0;
            list_remove(&items[pick].node);
            while (model[at] != pick)
                at++;
            for (count--; at < count; at++)
                model[at] = model[at + 1];
        }
        compare(&head, model, count);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("list");
    TCase *tcase = tcase_create("list");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, starts_empty_and_keeps_order);
    tcase_add_test(tcase, removal_is_harmless_twice);
    tcase_add_test(tcase, random_run_against_an_array);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
