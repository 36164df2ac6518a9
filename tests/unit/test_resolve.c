/*
 * Names to addresses. The name tests need nothing but the hosts file: "localhost", and a name under
 * .invalid (RFC 6761), which cannot resolve whatever the network is like.
 */
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/io/addr.h"
#include "core/base/base.h"
#include "core/io/resolve.h"

#define DEADLINE_MS 60000

struct waiter {
    int event;
    pthread_t caller;
    bool other_thread, signals_blocked;
    struct resolve_result *result;
};

static void note_done(void *arg, struct resolve_result *result)
{
    struct waiter *waiter = arg;
    sigset_t mask;

    waiter->result = result;
    waiter->other_thread = !pthread_equal(pthread_self(), waiter->caller);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    waiter->signals_blocked = sigismember(&mask, SIGINT) && sigismember(&mask, SIGTERM);
    eventfd_write(waiter->event, 1);
}

static void waiter_start(struct waiter *waiter, const char *host, uint16_t port)
{
    *waiter = (struct waiter){ .event = eventfd(0, EFD_CLOEXEC), .caller = pthread_self() };
    ck_assert_int_ge(waiter->event, 0);
    ck_assert(resolve_start(host, port, note_done, waiter));
}

static void waiter_wait(struct waiter *waiter)
{
    struct pollfd poll_fd = { .fd = waiter->event, .events = POLLIN };
    eventfd_t value;

    ck_assert_msg(poll(&poll_fd, 1, DEADLINE_MS) == 1, "no answer in time");
    eventfd_read(waiter->event, &value);
    close(waiter->event);
    ck_assert_ptr_nonnull(waiter->result);
    ck_assert(waiter->other_thread);
    ck_assert(waiter->signals_blocked);
}

START_TEST(numeric_hosts_need_no_look_up)
{
    struct resolve_result result;
    char text[ADDR_TEXT_MAX];

    ck_assert(resolve_numeric("192.0.2.1", 80, &result));
    ck_assert_uint_eq(result.count, 1);
    ck_assert_str_eq(addr_format(&result.addr[0].sa, text, sizeof(text)), "192.0.2.1:80");
    ck_assert(resolve_numeric("2001:db8::1", 443, &result));
    ck_assert_uint_eq(result.count, 1);
    ck_assert_str_eq(addr_format(&result.addr[0].sa, text, sizeof(text)), "[2001:db8::1]:443");
    ck_assert(!resolve_numeric("localhost", 80, &result));
}
END_TEST

START_TEST(an_empty_host_is_every_address)
{
    struct resolve_result result;
    char text[ADDR_TEXT_MAX];

    ck_assert(resolve_numeric("", 9000, &result));
    ck_assert_uint_eq(result.count, 2);
    ck_assert_str_eq(addr_format(&result.addr[0].sa, text, sizeof(text)), "[::]:9000");
    ck_assert_str_eq(addr_format(&result.addr[1].sa, text, sizeof(text)), "0.0.0.0:9000");
}
END_TEST

START_TEST(a_name_gives_distinct_addresses_with_the_port)
{
    struct waiter waiter;

    waiter_start(&waiter, "localhost", 8080);
    waiter_wait(&waiter);
    ck_assert_uint_ge(waiter.result->count, 1);
    for (unsigned i = 0; i < waiter.result->count; i++) {
        ck_assert(sock_addr_is_loopback(&waiter.result->addr[i]));
        ck_assert_uint_eq(sock_addr_port(&waiter.result->addr[i]), 8080);
        for (unsigned j = 0; j < i; j++)
            ck_assert(!addr_equal(&waiter.result->addr[i], &waiter.result->addr[j]));
    }
    resolve_free(waiter.result);
}
END_TEST

START_TEST(families_take_turns)
{
    static const char *const given[] = { "::1", "::2", "::3", "127.0.0.1", "127.0.0.2", "::4" };
    static const char *const wanted[] = { "::1", "127.0.0.1", "::2", "127.0.0.2", "::3", "::4" };
    struct resolve_result result = { .count = 6 };
    union sock_addr addr;

    for (unsigned i = 0; i < 6; i++)
        ck_assert(addr_from_host(given[i], 80, &result.addr[i]));
    resolve_alternate(&result);
    ck_assert_uint_eq(result.count, 6);
    for (unsigned i = 0; i < 6; i++) {
        ck_assert(addr_from_host(wanted[i], 80, &addr));
        ck_assert_msg(addr_equal(&result.addr[i], &addr), "place %u is not %s", i, wanted[i]);
    }
    result.count = 0;
    resolve_alternate(&result);
}
END_TEST

START_TEST(a_numeric_host_takes_the_same_way)
{
    struct waiter waiter;
    char text[ADDR_TEXT_MAX];

    waiter_start(&waiter, "::1", 1);
    waiter_wait(&waiter);
    ck_assert_uint_eq(waiter.result->count, 1);
    ck_assert_str_eq(addr_format(&waiter.result->addr[0].sa, text, sizeof(text)), "[::1]:1");
    resolve_free(waiter.result);
}
END_TEST

START_TEST(a_name_that_is_not_there_says_so)
{
    struct waiter waiter;

    waiter_start(&waiter, "no-such-host.invalid", 80);
    waiter_wait(&waiter);
    ck_assert_uint_eq(waiter.result->count, 0);
    ck_assert_ptr_nonnull(strstr(waiter.result->error, "cannot resolve 'no-such-host.invalid': "));
    resolve_free(waiter.result);
}
END_TEST

/* It is told apart from a name that no resolver has. */
START_TEST(a_zone_that_is_not_there_says_so)
{
    struct waiter waiter;

    waiter_start(&waiter, "fe80::1%no-such-0", 80);
    waiter_wait(&waiter);
    ck_assert_uint_eq(waiter.result->count, 0);
    ck_assert_str_eq(waiter.result->error,
                     "there is no interface 'no-such-0' on this machine now ('fe80::1%no-such-0')");
    resolve_free(waiter.result);
}
END_TEST

START_TEST(many_look_ups_at_once_each_get_their_own)
{
    struct waiter waiters[32];

    for (unsigned i = 0; i < ARRAY_SIZE(waiters); i++)
        waiter_start(&waiters[i], "localhost", (uint16_t)(1000 + i));
    for (unsigned i = 0; i < ARRAY_SIZE(waiters); i++) {
        waiter_wait(&waiters[i]);
        ck_assert_uint_ge(waiters[i].result->count, 1);
        ck_assert_uint_eq(sock_addr_port(&waiters[i].result->addr[0]), 1000 + i);
        resolve_free(waiters[i].result);
    }
}
END_TEST

START_TEST(the_host_text_is_copied)
{
    struct waiter waiter;
    char host[16] = "127.0.0.1";

    waiter_start(&waiter, host, 5);
    memset(host, 'x', sizeof(host) - 1);
    waiter_wait(&waiter);
    ck_assert_uint_eq(waiter.result->count, 1);
    resolve_free(waiter.result);
    resolve_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resolve");
    TCase *tcase = tcase_create("resolve");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, numeric_hosts_need_no_look_up);
    tcase_add_test(tcase, an_empty_host_is_every_address);
    tcase_add_test(tcase, a_name_gives_distinct_addresses_with_the_port);
    tcase_add_test(tcase, families_take_turns);
    tcase_add_test(tcase, a_numeric_host_takes_the_same_way);
    tcase_add_test(tcase, a_name_that_is_not_there_says_so);
    tcase_add_test(tcase, a_zone_that_is_not_there_says_so);
    tcase_add_test(tcase, many_look_ups_at_once_each_get_their_own);
    tcase_add_test(tcase, the_host_text_is_copied);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
