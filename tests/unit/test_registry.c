/* registry: sessions and public ports, without workers: the test says when a listening socket is open and closed. */
#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/registry.h"

static struct config config;
static union sock_addr loopback;
static const struct registry_tunnel tunnel = { .name = "t", .origin = "localhost:1" };

/* Where the search for ports begins: below the range from which the kernel takes ports of clients. */
static uint16_t first_port(void)
{
    return (uint16_t)(20000 + getpid() % 10000);
}

/* One that is free at the moment, beyond those that the search finds. */
static uint16_t some_port(void)
{
    for (unsigned port = first_port() + 100U; port < 32000; port++) {
        union sock_addr at = loopback;

        sock_addr_set_port(&at, (uint16_t)port);
        int fd = sock_listen(&at, false, 1);
        if (fd < 0)
            continue;
        sock_close(fd);
        return (uint16_t)port;
    }
    ck_abort_msg("no port is free");
    return 0;
}

static void setup(void)
{
    const struct sockaddr_in at = { .sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    memset(&loopback, 0, sizeof(loopback));
    memcpy(&loopback, &at, sizeof(at));
    config = (struct config){ .max_sessions = 3, .start_port = first_port() };
    ck_assert(registry_open(&config));
}

static void teardown(void)
{
    registry_close();
}

static const uint8_t no_secret[SCRAM_KEY_SIZE];

/* Logs a client in; `name` "" is one without identity. *replaced may be NULL. */
static uint64_t log_in(const char *name, unsigned token, uint64_t *replaced)
{
    struct registry_session session = { .id = registry_next_id(), .token = token };
    uint64_t old = 0;

    session.client_size = (uint8_t)strlen(name);
    memcpy(session.client, name, session.client_size);
    ck_assert_int_eq(registry_add(&session, no_secret, &old), REASON_DONE);
    if (replaced != NULL)
        *replaced = old;
    return session.id;
}

/* BIND. The socket that comes of it is closed at once; what the registry counts stays until port_unref. */
static enum reason bind_port(uint64_t id, uint16_t index, uint16_t wanted, uint16_t ticket,
                             struct registry_bound *bound)
{
    enum reason reason = registry_bind(id, index, &loopback, wanted, ticket, &tunnel, bound);

    ck_assert_int_eq(reason == REASON_DONE, bound->fd >= 0);
    if (bound->fd >= 0)
        sock_close(bound->fd);
    return reason;
}

static uint16_t get_port(uint64_t id, uint16_t index)
{
    struct registry_bound bound;

    ck_assert_int_eq(bind_port(id, index, 0, 0, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.evicted, 0);
    ck_assert_uint_ge(bound.port, config.start_port);
    return bound.port;
}

START_TEST(each_tunnel_has_a_port_of_its_own)
{
    uint64_t a = log_in("a", 0, NULL), b = log_in("b", 0, NULL);
    struct registry_session seen;
    uint16_t first = get_port(a, 0), second = get_port(a, 3), other = get_port(b, 0);

    ck_assert(first != second && first != other && second != other);
    ck_assert(registry_get(a, &seen));
    ck_assert_uint_eq(seen.tunnel_count, 4);
    ck_assert_uint_eq(seen.tunnels[0].port, first);
    ck_assert_uint_eq(seen.tunnels[1].port, 0);
    ck_assert_uint_eq(seen.tunnels[3].port, second);
    ck_assert_str_eq(seen.tunnels[3].origin, "localhost:1");
}
END_TEST

START_TEST(a_port_in_use_is_refused_and_a_closed_one_is_not)
{
    uint64_t a = log_in("a", 0, NULL), b = log_in("b", 0, NULL);
    uint16_t port = get_port(a, 0);
    struct registry_bound bound;

    ck_assert_int_eq(bind_port(b, 0, port, 0, &bound), REASON_PORT_BUSY);
    ck_assert(!bound.closing && bound.evicted == 0);
    ck_assert(registry_remove(a));
    ck_assert_int_eq(bind_port(b, 0, port, 0, &bound),
                     REASON_PORT_BUSY); /* a socket is still open */
    ck_assert(!registry_port_unref(port));
    ck_assert_int_eq(bind_port(b, 0, port, 0, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, port);
}
END_TEST

START_TEST(a_tunnel_that_came_to_nothing_leaves_no_trace)
{
    uint64_t a = log_in("a", 0, NULL), b = log_in("b", 0, NULL);
    uint16_t first = get_port(a, 0), port = get_port(a, 3);
    struct registry_session seen;
    struct registry_bound bound;

    registry_unbind(a, 3, port);
    ck_assert(!registry_port_unref(port));
    ck_assert(registry_get(a, &seen));
    ck_assert_uint_eq(seen.tunnel_count, 1);
    ck_assert_uint_eq(seen.tunnels[0].port, first);
    ck_assert_uint_eq(seen.tunnels[3].port, 0);
    ck_assert_int_eq(bind_port(b, 0, 0, port, &bound), REASON_DONE); /* by ticket */
    ck_assert_uint_eq(bound.port, port);
    ck_assert(registry_remove(a)); /* and it is not remembered as the client's */
    ck_assert(registry_remove(b) && !registry_port_unref(port) && !registry_port_unref(first));
    ck_assert_uint_ne(get_port(log_in("a", 0, NULL), 3), port);
}
END_TEST

START_TEST(unbind_takes_back_its_own_tunnel_only)
{
    uint64_t a = log_in("a", 0, NULL);
    uint16_t first = get_port(a, 0), second = get_port(a, 1);
    struct registry_session seen;

    registry_unbind(a, 0, second); /* another port has come there meanwhile */
    registry_unbind(a + 1, 0, first);
    ck_assert(registry_get(a, &seen));
    ck_assert_uint_eq(seen.tunnel_count, 2);
    ck_assert(seen.tunnels[0].port == first && seen.tunnels[1].port == second);
}
END_TEST

START_TEST(a_port_of_another_program_is_refused)
{
    uint64_t a = log_in("a", 0, NULL);
    union sock_addr at = loopback;
    int fd = sock_listen(&at, true, 1);
    struct registry_bound bound;

    ck_assert_int_ge(fd, 0);
    sock_local(fd, &at);
    ck_assert_int_eq(bind_port(a, 0, sock_addr_port(&at), 0, &bound), REASON_PORT_BUSY);
    sock_close(fd);
}
END_TEST

START_TEST(a_client_that_comes_again_waits_for_the_last_socket_of_its_port)
{
    uint64_t a = log_in("a", 0, NULL), replaced;
    uint16_t port = get_port(a, 0);
    struct registry_bound bound;

    ck_assert(registry_port_ref(a, 0, port)); /* a second worker listens, too */
    uint64_t again = log_in("a", 0, &replaced);
    ck_assert_uint_eq(replaced, a);
    ck_assert_int_eq(bind_port(again, 0, 0, 0, &bound), REASON_PORT_BUSY);
    ck_assert(bound.closing);
    ck_assert(!registry_port_unref(port));
    ck_assert_int_eq(bind_port(again, 0, 0, 0, &bound), REASON_PORT_BUSY);
    ck_assert(registry_port_unref(port)); /* somebody waits */
    ck_assert_int_eq(bind_port(again, 0, 0, 0, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, port);
}
END_TEST

/* A client comes again and waits for its port, whose last socket is closed now; the new session. */
static uint64_t wait_for_port(uint16_t *port)
{
    uint64_t a = log_in("a", 0, NULL);
    struct registry_bound bound;

    *port = get_port(a, 0);
    uint64_t again = log_in("a", 0, NULL);
    ck_assert_int_eq(bind_port(again, 0, 0, 0, &bound), REASON_PORT_BUSY);
    ck_assert(bound.closing);
    ck_assert(registry_port_unref(*port));
    return again;
}

START_TEST(a_port_that_is_waited_for_goes_to_nobody_else)
{
    struct registry_bound bound;
    uint16_t port;
    uint64_t again = wait_for_port(&port), b = log_in("b", 0, NULL);

    ck_assert_int_eq(bind_port(b, 0, port, 0, &bound), REASON_PORT_BUSY);
    ck_assert(!bound.closing);
    ck_assert_int_eq(bind_port(b, 0, 0, 0, &bound), REASON_DONE);
    ck_assert_uint_ne(bound.port, port);
    ck_assert_int_eq(bind_port(again, 0, 0, 0, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, port);
}
END_TEST

START_TEST(who_waits_and_ends_leaves_the_port_to_others)
{
    struct registry_bound bound;
    uint16_t port;
    uint64_t again = wait_for_port(&port), b = log_in("b", 0, NULL);

    ck_assert(registry_remove(again));
    ck_assert_int_eq(bind_port(b, 0, port, 0, &bound), REASON_DONE);
}
END_TEST

START_TEST(a_lost_session_of_the_same_token_gives_its_port)
{
    uint64_t a = log_in("a", 7, NULL), b = log_in("b", 8, NULL), c = log_in("c", 7, NULL);
    uint16_t port = get_port(a, 0), second = get_port(a, 1);
    struct registry_bound bound;

    ck_assert_int_eq(bind_port(c, 0, port, 0, &bound), REASON_PORT_BUSY); /* not lost */
    ck_assert_uint_eq(bound.evicted, 0);
    registry_lost(a, true);
    ck_assert_int_eq(bind_port(b, 0, port, 0, &bound), REASON_PORT_BUSY); /* another token */
    ck_assert_uint_eq(bound.evicted, 0);
    ck_assert_int_eq(bind_port(c, 0, port, 0, &bound), REASON_PORT_BUSY);
    ck_assert_uint_eq(bound.evicted, a);
    ck_assert(bound.closing);
    ck_assert(registry_port_unref(port));
    ck_assert_int_eq(bind_port(c, 0, port, 0, &bound), REASON_DONE);
    ck_assert_int_eq(bind_port(c, 1, second, 0, &bound),
                     REASON_PORT_BUSY); /* the other port of the session that went */
    ck_assert(bound.closing && bound.evicted == 0);
    ck_assert(registry_port_unref(second));
    ck_assert_int_eq(bind_port(c, 1, second, 0, &bound), REASON_DONE);
}
END_TEST

START_TEST(a_session_takes_no_port_from_itself)
{
    uint64_t a = log_in("a", 0, NULL);
    uint16_t port = get_port(a, 0);
    struct registry_session seen;
    struct registry_bound bound;

    registry_lost(a, true);
    ck_assert_int_eq(bind_port(a, 1, port, 0, &bound), REASON_PORT_BUSY);
    ck_assert(bound.evicted == 0 && !bound.closing);
    ck_assert(registry_get(a, &seen));
    ck_assert_uint_eq(seen.tunnels[0].port, port);
}
END_TEST

START_TEST(a_ticket_brings_a_port_back)
{
    uint64_t a = log_in("a", 0, NULL), b = log_in("b", 0, NULL);
    uint16_t port = some_port();
    struct registry_bound bound;

    ck_assert_int_eq(bind_port(a, 0, 0, port, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, port);
    ck_assert_int_eq(bind_port(b, 0, 0, port, &bound), REASON_DONE); /* held: another one */
    ck_assert_uint_ne(bound.port, port);
}
END_TEST

START_TEST(ports_are_remembered_by_client_token_and_index)
{
    uint64_t a = log_in("a", 1, NULL);
    uint16_t first = get_port(a, 0), second = get_port(a, 1);

    ck_assert(registry_remove(a));
    ck_assert(!registry_port_unref(first) && !registry_port_unref(second));
    uint64_t other = log_in("a", 2, NULL);
    ck_assert_uint_ne(get_port(other, 1), second);
    uint64_t again = log_in("a", 1, NULL);
    ck_assert_uint_eq(get_port(again, 1), second);
}
END_TEST

/* A JOIN with the proof that follows from this secret on this channel. */
static enum reason try_join(uint64_t id, const uint8_t *secret, const struct scram_channel *said,
                            const struct scram_channel *seen, struct registry_session *out)
{
    struct frame_join join = { .session = id, .lane = 3 };
    uint8_t answer[FRAME_PROOF_SIZE], expected[FRAME_PROOF_SIZE];

    scram_join(secret, said, &join, join.proof);
    enum reason reason = registry_join(&join, seen, out, answer);
    if (reason == REASON_DONE) {
        scram_join_ok(secret, said, &join, expected);
        ck_assert_mem_eq(answer, expected, sizeof(expected));
    }
    return reason;
}

START_TEST(sessions_are_found_by_id_and_proof)
{
    static const struct scram_channel channel = { .transcript = "here" },
                                      other = { .transcript = "there" };
    struct registry_session session = { .id = registry_next_id(), .lanes = 4 }, out;
    uint8_t secret[SCRAM_KEY_SIZE] = "a session's secret";
    uint64_t replaced;

    ck_assert_int_eq(registry_add(&session, secret, &replaced), REASON_DONE);
    ck_assert_int_eq(try_join(session.id, secret, &channel, &channel, &out), REASON_DONE);
    ck_assert_uint_eq(out.lanes, 4);
    ck_assert_int_eq(try_join(session.id, secret, &channel, &other, &out), REASON_UNKNOWN_SESSION);
    secret[SCRAM_KEY_SIZE - 1] ^= 1;
    ck_assert_int_eq(try_join(session.id, secret, &channel, &channel, &out),
                     REASON_UNKNOWN_SESSION);
    ck_assert_int_eq(try_join(0, secret, &channel, &channel, &out), REASON_UNKNOWN_SESSION);
    ck_assert(registry_remove(session.id));
    ck_assert(!registry_remove(session.id));
    ck_assert(!registry_get(session.id, &out));
    ck_assert(!registry_port_ref(session.id, 0, 1));
}
END_TEST

/* Secrets stand beside the sessions, by place: one that ends leaves nothing to the next there. */
START_TEST(a_secret_ends_with_its_session)
{
    static const struct scram_channel channel = { .transcript = "here" };
    struct registry_session session = { .token = 1, .client = "a", .client_size = 1 }, out;
    uint8_t secret[4][SCRAM_KEY_SIZE];
    uint64_t id[4], replaced;

    for (int i = 0; i < 4; i++) { /* the same client: each takes the place of the one before */
        session.id = id[i] = registry_next_id();
        memset(secret[i], 'a' + i, sizeof(secret[i]));
        ck_assert_int_eq(registry_add(&session, secret[i], &replaced), REASON_DONE);
        ck_assert_uint_eq(replaced, i > 0 ? id[i - 1] : 0);
        for (int k = 0; k <= i; k++) {
            ck_assert_int_eq(try_join(id[k], secret[k], &channel, &channel, &out) == REASON_DONE,
                             k == i);
            ck_assert_int_eq(try_join(id[i], secret[k], &channel, &channel, &out) == REASON_DONE,
                             k == i);
        }
        ck_assert_int_eq(try_join(id[i], no_secret, &channel, &channel, &out),
                         REASON_UNKNOWN_SESSION);
    }
    ck_assert(registry_remove(id[3]));
    ck_assert_int_eq(try_join(id[3], secret[3], &channel, &channel, &out), REASON_UNKNOWN_SESSION);
    ck_assert_int_eq(try_join(id[3], no_secret, &channel, &channel, &out), REASON_UNKNOWN_SESSION);
}
END_TEST

START_TEST(no_more_sessions_than_allowed)
{
    struct registry_session one_more = { .id = 99 };
    uint64_t replaced;

    for (unsigned i = 0; i < config.max_sessions; i++)
        log_in("", 0, NULL);
    ck_assert_int_eq(registry_add(&one_more, no_secret, &replaced), REASON_LIMIT_SESSIONS);
    ck_assert_uint_eq(replaced, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("registry");
    TCase *tcase = tcase_create("registry");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_secret_ends_with_its_session);
    tcase_add_test(tcase, each_tunnel_has_a_port_of_its_own);
    tcase_add_test(tcase, a_port_in_use_is_refused_and_a_closed_one_is_not);
    tcase_add_test(tcase, a_tunnel_that_came_to_nothing_leaves_no_trace);
    tcase_add_test(tcase, unbind_takes_back_its_own_tunnel_only);
    tcase_add_test(tcase, a_port_of_another_program_is_refused);
    tcase_add_test(tcase, a_client_that_comes_again_waits_for_the_last_socket_of_its_port);
    tcase_add_test(tcase, a_port_that_is_waited_for_goes_to_nobody_else);
    tcase_add_test(tcase, who_waits_and_ends_leaves_the_port_to_others);
    tcase_add_test(tcase, a_lost_session_of_the_same_token_gives_its_port);
    tcase_add_test(tcase, a_session_takes_no_port_from_itself);
    tcase_add_test(tcase, a_ticket_brings_a_port_back);
    tcase_add_test(tcase, ports_are_remembered_by_client_token_and_index);
    tcase_add_test(tcase, sessions_are_found_by_id_and_proof);
    tcase_add_test(tcase, no_more_sessions_than_allowed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
