/* ports: the lowest free one, what is passed over, and for how long. */
#include <check.h>
#include <stdlib.h>

#include "server/ports.h"

static struct ports ports;

static void setup(void)
{
    struct port_set all = { .bits = { 0 } };

    port_set_add(&all, 1, UINT16_MAX);
    ck_assert(ports_open(&ports, &all));
}

static void teardown(void)
{
    ports_close(&ports);
}

START_TEST(the_lowest_free_one_is_found)
{
    ck_assert_uint_eq(ports_find(&ports, 10000, false), 10000);
    for (uint32_t port = 10000; port < 10200; port++)
        ports_ref(&ports, (uint16_t)port);
    ck_assert_uint_eq(ports_find(&ports, 10000, false), 10200);
    ck_assert_uint_eq(ports_find(&ports, 9999, false), 9999);
    ck_assert(ports_unref(&ports, 10127));
    ck_assert_uint_eq(ports_find(&ports, 10000, false), 10127);
    ck_assert_uint_eq(ports_find(&ports, 10128, false), 10200);
}
END_TEST

START_TEST(the_last_port_and_none)
{
    ports_ref(&ports, 65534);
    ck_assert_uint_eq(ports_find(&ports, 65534, false), 65535);
    ports_ref(&ports, 65535);
    ck_assert_uint_eq(ports_find(&ports, 65534, false), 0);
    for (uint32_t port = 1; port < 65534; port++)
        ports_ref(&ports, (uint16_t)port);
    ports.looked = 0;
    ck_assert_uint_eq(ports_find(&ports, 1, false), 0);
    ck_assert_uint_eq(ports.looked, PORTS_COUNT / 64);
}
END_TEST

START_TEST(in_use_until_the_last_socket_and_the_last_who_waits)
{
    ports_ref(&ports, 7);
    ports_ref(&ports, 7);
    ports_await(&ports, 7, 3);
    ck_assert(!ports_unref(&ports, 7));
    ck_assert(ports_unref(&ports, 7));
    ck_assert(ports_is_busy(&ports, 7));
    ports_await(&ports, 7, 0);
    ck_assert(!ports_is_busy(&ports, 7));
}
END_TEST

START_TEST(other_programs_ports_are_passed_over_for_a_while)
{
    uint64_t now = 5 * PORTS_FOREIGN_NS;

    ports_tick(&ports, now);
    ports_note_foreign(&ports, 100);
    ck_assert(!ports_is_busy(&ports, 100)); /* whoever wants it by number may try */
    ck_assert_uint_eq(ports_find(&ports, 100, false), 101);
    ck_assert_uint_eq(ports_find(&ports, 100, true), 100);
    ports_tick(&ports, now + PORTS_FOREIGN_NS);
    ports_note_foreign(&ports, 101);
    ck_assert_uint_eq(ports_find(&ports, 100, false), 102);
    ports_tick(&ports, now + 2 * PORTS_FOREIGN_NS);
    ck_assert_uint_eq(ports_find(&ports, 100, false), 100);
    ck_assert_uint_eq(ports_find(&ports, 101, false), 102);
    ports_tick(&ports, now + 5 * PORTS_FOREIGN_NS);
    ck_assert_uint_eq(ports_find(&ports, 101, false), 101);
}
END_TEST

/* In the same steps, however few the server gives. */
START_TEST(none_but_those_that_are_given_are_found)
{
    static const uint16_t wanted[] = { 80, 10000, 10001, 10003, 65535 };
    struct port_set given = { .bits = { 0 } };
    uint32_t next = 1;

    for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++)
        port_set_add(&given, wanted[i], wanted[i]);
    teardown();
    ck_assert(ports_open(&ports, &given));
    for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
        ck_assert_uint_eq(ports_find(&ports, next, true), wanted[i]);
        next = wanted[i] + 1U;
    }
    ck_assert_uint_eq(ports_find(&ports, 1024, false), 10000);
    ports_ref(&ports, 10000);
    ports_note_foreign(&ports, 10001);
    ck_assert_uint_eq(ports_find(&ports, 1024, false), 10003);
    ports_ref(&ports, 10003);
    ports_ref(&ports, 65535);
    ports.looked = 0;
    ck_assert_uint_eq(ports_find(&ports, 1024, false), 0);
    ck_assert_uint_eq(ports.looked, (PORTS_COUNT - 1024) / 64);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ports");
    TCase *tcase = tcase_create("ports");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_lowest_free_one_is_found);
    tcase_add_test(tcase, the_last_port_and_none);
    tcase_add_test(tcase, in_use_until_the_last_socket_and_the_last_who_waits);
    tcase_add_test(tcase, other_programs_ports_are_passed_over_for_a_while);
    tcase_add_test(tcase, none_but_those_that_are_given_are_found);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
