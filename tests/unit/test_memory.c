/* memory: what is noted is known by client, token and index; the oldest is forgotten first. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "server/memory.h"

static struct memory memory;

static void setup(void)
{
    ck_assert(memory_open(&memory, &(struct hash_key){ { 1, 2 } }));
}

static void teardown(void)
{
    memory_close(&memory);
}

static struct client_key client(uint32_t token, unsigned number)
{
    struct client_key key = { .token = token, .size = 8 };

    memcpy(key.bytes, &number, sizeof(number));
    return key;
}

START_TEST(known_by_client_token_and_index)
{
    struct client_key a = client(1, 7), b = client(2, 7), c = client(1, 8), nobody = { .token = 1 };

    memory_note(&memory, &a, 0, 1000);
    memory_note(&memory, &a, 1, 1001);
    memory_note(&memory, &nobody, 0, 1002);
    ck_assert_uint_eq(memory_recall(&memory, &a, 0), 1000);
    ck_assert_uint_eq(memory_recall(&memory, &a, 1), 1001);
    ck_assert_uint_eq(memory_recall(&memory, &a, 2), 0);
    ck_assert_uint_eq(memory_recall(&memory, &b, 0), 0);
    ck_assert_uint_eq(memory_recall(&memory, &c, 0), 0);
    ck_assert_uint_eq(memory_recall(&memory, &nobody, 0), 0);
    memory_note(&memory, &a, 0, 2000);
    ck_assert_uint_eq(memory_recall(&memory, &a, 0), 2000);
}
END_TEST

START_TEST(the_oldest_is_forgotten_first)
{
    struct client_key key;

    for (unsigned i = 0; i < MEMORY_COUNT + 10; i++) {
        key = client(0, i);
        memory_note(&memory, &key, 0, (uint16_t)(i + 1));
    }
    memory.chain.looked = 0;
    for (unsigned i = 0; i < MEMORY_COUNT + 10; i++) {
        key = client(0, i);
        ck_assert_uint_eq(memory_recall(&memory, &key, 0), i < 10 ? 0 : i + 1);
    }
    ck_assert_uint_le(memory.chain.looked, 3 * MEMORY_COUNT); /* and all are found in few steps */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tcase = tcase_create("memory");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, known_by_client_token_and_index);
    tcase_add_test(tcase, the_oldest_is_forgotten_first);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
