/* registry: sessions and public ports, without workers: the test says when a listening socket is
 * open and closed. bind(2) is the test's own: it counts, says that another program has a port, and
 * does what another worker does meanwhile; so does the end of each HMAC. */
#include <arpa/inet.h>
#include <check.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/base.h"
#include "server/ports.h"
#include "server/registry.h"

static struct config config;
static union sock_addr loopback;
static uint64_t clock_ns;
static const struct registry_tunnel tunnel = { .name = "t", .origin = "localhost:1" };

/* Where the search for ports begins: below the range from which the kernel takes ports of
 * clients. */
static uint16_t first_port(void)
{
    return (uint16_t)(20000 + getpid() % 10000);
}

static struct {
    unsigned calls;
    int error;               /* of every call, if not 0 */
    bool alone;              /* the ports of this machine are no matter: only those that follow */
    uint8_t foreign[65536];  /* ports of other programs */
    void (*meanwhile)(void); /* once, within a call */
} kernel;

int bind(int fd, const struct sockaddr *addr, socklen_t size)
{
    union sock_addr at;
    void (*meanwhile)(void) = kernel.meanwhile;

    memcpy(&at, addr, size);
    kernel.calls++;
    kernel.meanwhile = NULL;
    if (meanwhile != NULL)
        meanwhile();
    errno = kernel.foreign[sock_addr_port(&at)] ? EADDRINUSE : kernel.error;
    if (errno == 0 && !kernel.alone)
        return (int)syscall(SYS_bind, fd, addr, size);
    return errno != 0 ? -1 : 0; /* listen(2) finds a port for it */
}

static unsigned macs;
static void (*within_mac)(void);

int wc_HmacFinal(void *hmac, uint8_t *hash);

int wc_HmacFinal(void *hmac, uint8_t *hash)
{
    int (*final)(void *, uint8_t *) = (int (*)(void *, uint8_t *))dlsym(RTLD_NEXT, "wc_HmacFinal");

    macs++;
    if (within_mac != NULL)
        within_mac();
    return final(hmac, hash);
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
    memset(&kernel, 0, sizeof(kernel));
    clock_ns = PORTS_FOREIGN_NS;
    config =
        (struct config){ .max_sessions = 3, .start_port = first_port(), .heartbeat = NSEC_PER_SEC };
    port_set_add(&config.ports, PORT_SET_LOW, UINT16_MAX);
    ck_assert(registry_open(&config));
}

/* With another number of sessions and another search, on a machine of its own. */
static void open_again(uint32_t sessions, uint16_t start_port)
{
    kernel.alone = true;
    registry_close();
    config = (struct config){ .max_sessions = sessions, .start_port = start_port };
    port_set_add(&config.ports, 1, UINT16_MAX);
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
    struct registry_session session = { .id = registry_next_id(), .client.token = token };
    struct registry_added added;

    session.client.size = (uint8_t)strlen(name);
    memcpy(session.client.bytes, name, session.client.size);
    ck_assert_int_eq(registry_add(&session, no_secret, &added), REASON_DONE);
    if (replaced != NULL)
        *replaced = added.replaced;
    return session.id;
}

/* BIND. The socket that comes of it is closed at once; what the registry counts stays until
 * registry_port_unref. */
static enum reason bind_port(uint64_t id, uint16_t index, uint16_t wanted, uint16_t ticket,
                             struct registry_bound *bound)
{
    const struct registry_wish wish = { .index = index,
                                        .wanted = wanted,
                                        .ticket = ticket,
                                        .addr = &loopback,
                                        .what = &tunnel,
                                        .now = clock_ns };
    enum reason reason = registry_bind(id, &wish, bound);

    ck_assert_int_eq(reason == REASON_DONE, bound->fd >= 0);
    if (bound->fd >= 0)
        sock_close(bound->fd);
    return reason;
}

/* The session that waits for the port, if this was its last socket; 0: none. */
static uint64_t port_closed(uint16_t port)
{
    return registry_port_unref(port).session;
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
    ck_assert_uint_eq(port_closed(port), 0);
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
    ck_assert_uint_eq(port_closed(port), 0);
    ck_assert(registry_get(a, &seen));
    ck_assert_uint_eq(seen.tunnel_count, 1);
    ck_assert_uint_eq(seen.tunnels[0].port, first);
    ck_assert_int_eq(bind_port(b, 0, 0, port, &bound), REASON_DONE); /* by ticket */
    ck_assert_uint_eq(bound.port, port);
    ck_assert(registry_remove(a)); /* and it is not remembered as the client's */
    ck_assert(registry_remove(b) && port_closed(port) == 0 && port_closed(first) == 0);
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
    ck_assert_uint_eq(port_closed(port), 0);
    ck_assert_int_eq(bind_port(again, 0, 0, 0, &bound), REASON_PORT_BUSY);
    ck_assert_uint_eq(port_closed(port), again);
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
    ck_assert_uint_eq(port_closed(*port), again);
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

/* Nobody can come back to it any more, as far as the registry knows. */
static void give_up(uint64_t id)
{
    registry_lane(id, 0, false, clock_ns);
    clock_ns += config.heartbeat + REGISTRY_HEAL_NS;
}

START_TEST(a_session_that_is_given_up_gives_its_port_to_one_with_the_same_token)
{
    uint64_t a = log_in("a", 7, NULL), b = log_in("b", 8, NULL), c = log_in("c", 7, NULL);
    uint16_t port = get_port(a, 0), second = get_port(a, 1);
    struct registry_bound bound;

    ck_assert_int_eq(bind_port(c, 0, port, 0, &bound), REASON_PORT_BUSY); /* not lost */
    ck_assert_uint_eq(bound.evicted, 0);
    give_up(a);
    ck_assert_int_eq(bind_port(b, 0, port, 0, &bound), REASON_PORT_BUSY); /* another token */
    ck_assert_uint_eq(bound.evicted, 0);
    ck_assert_int_eq(bind_port(c, 0, port, 0, &bound), REASON_PORT_BUSY);
    ck_assert_uint_eq(bound.evicted, a);
    ck_assert(bound.closing);
    ck_assert_uint_eq(port_closed(port), c);
    ck_assert_int_eq(bind_port(c, 0, port, 0, &bound), REASON_DONE);
    ck_assert_int_eq(bind_port(c, 1, second, 0, &bound),
                     REASON_PORT_BUSY); /* the other port of the session that went */
    ck_assert(bound.closing && bound.evicted == 0);
    ck_assert_uint_eq(port_closed(second), c);
    ck_assert_int_eq(bind_port(c, 1, second, 0, &bound), REASON_DONE);
}
END_TEST

/* The session keeps its port: nobody is to take it at this moment. */
static void check_kept(uint64_t other, uint16_t port)
{
    struct registry_bound bound;

    ck_assert_int_eq(bind_port(other, 0, port, 0, &bound), REASON_PORT_BUSY);
    ck_assert(bound.evicted == 0 && !bound.closing);
}

START_TEST(a_session_whose_lanes_blink_keeps_its_port)
{
    uint64_t a = log_in("a", 7, NULL), c = log_in("c", 7, NULL);
    uint16_t port = get_port(a, 0);
    struct registry_bound bound;

    registry_lane(a, 5, true, clock_ns);
    registry_lane(a, 0, false, clock_ns); /* the other one lives, however long */
    clock_ns += 1000 * NSEC_PER_SEC;
    check_kept(c, port);
    registry_lane(a, 5, false, clock_ns); /* the last one, now */
    check_kept(c, port);
    clock_ns += config.heartbeat + REGISTRY_HEAL_NS - 1;
    registry_lane(a, 5, false, clock_ns); /* said again: it is not lost anew */
    check_kept(c, port);
    registry_lane(a, 0, true, clock_ns); /* back in time */
    clock_ns += 1000 * NSEC_PER_SEC;
    check_kept(c, port);
    registry_lane(a, 0, false, clock_ns + 1); /* by a clock that is ahead */
    check_kept(c, port);
    clock_ns += config.heartbeat + REGISTRY_HEAL_NS + 1;
    ck_assert_int_eq(bind_port(c, 0, port, 0, &bound), REASON_PORT_BUSY);
    ck_assert(bound.evicted == a && bound.closing);
}
END_TEST

START_TEST(a_session_takes_no_port_from_itself)
{
    uint64_t a = log_in("a", 0, NULL);
    uint16_t port = get_port(a, 0);
    struct registry_session seen;
    struct registry_bound bound;

    give_up(a);
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
    ck_assert(port_closed(first) == 0 && port_closed(second) == 0);
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
    struct registry_added added;

    ck_assert_int_eq(registry_add(&session, secret, &added), REASON_DONE);
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
    struct registry_session session = { .client = { .token = 1, .bytes = "a", .size = 1 } }, out;
    uint8_t secret[4][SCRAM_KEY_SIZE];
    uint64_t id[4];
    struct registry_added added;

    for (int i = 0; i < 4; i++) { /* the same client: each takes the place of the one before */
        session.id = id[i] = registry_next_id();
        memset(secret[i], 'a' + i, sizeof(secret[i]));
        ck_assert_int_eq(registry_add(&session, secret[i], &added), REASON_DONE);
        ck_assert_uint_eq(added.replaced, i > 0 ? id[i - 1] : 0);
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
    struct registry_added added;

    for (unsigned i = 0; i < config.max_sessions; i++)
        log_in("", 0, NULL);
    ck_assert_int_eq(registry_add(&one_more, no_secret, &added), REASON_LIMIT_SESSIONS);
    ck_assert_uint_eq(added.replaced, 0);
    ck_assert_ptr_nonnull(added.blame);
}
END_TEST

/* The session of this test, for what another worker does. */
static uint64_t mine, theirs;

static void use_the_registry(void)
{
    theirs = registry_next_id(); /* with the mutex taken this never comes back */
}

START_TEST(nobody_waits_while_the_kernel_is_asked)
{
    mine = log_in("a", 0, NULL);
    theirs = 0;
    kernel.meanwhile = use_the_registry;
    (void)get_port(mine, 0);
    ck_assert_uint_gt(theirs, mine);
}
END_TEST

START_TEST(nobody_waits_while_a_proof_is_computed)
{
    static const struct scram_channel channel = { .transcript = "here" };
    struct registry_session session = { .id = registry_next_id(), .lanes = 4 }, out;
    struct frame_join join = { .session = session.id, .lane = 3 };
    struct registry_added added;
    uint8_t answer[FRAME_PROOF_SIZE];

    ck_assert_int_eq(registry_add(&session, no_secret, &added), REASON_DONE);
    scram_join(no_secret, &channel, &join, join.proof);
    macs = 0;
    within_mac = use_the_registry;
    ck_assert_int_eq(registry_join(&join, &channel, &out, answer), REASON_DONE);
    within_mac = NULL;
    ck_assert_uint_eq(macs, 2);
    ck_assert_uint_eq(theirs, session.id + 2);
}
END_TEST

static void take_ports(unsigned count)
{
    struct registry_bound bound;
    uint64_t id = 0;

    for (unsigned i = 0; i < count; i++) {
        if (i % CONFIG_TUNNELS_MAX == 0)
            id = log_in("", 0, NULL);
        ck_assert_int_eq(bind_port(id, (uint16_t)(i % CONFIG_TUNNELS_MAX), 0, 0, &bound),
                         REASON_DONE);
    }
}

START_TEST(a_bind_takes_few_steps_with_10000_ports_taken)
{
    struct registry_bound bound;

    open_again(1000, 2000);
    take_ports(10000);
    uint64_t id = log_in("somebody", 0, NULL);
    kernel.calls = 0;
    ck_assert_int_eq(bind_port(id, 0, 0, 0, &bound), REASON_DONE);
    ck_assert_uint_le(kernel.calls, 2);
    ck_assert_uint_eq(bound.tries, 1);
    ck_assert_uint_le(bound.looked, PORTS_COUNT / 64 + 16);
    uint16_t port = bound.port;
    ck_assert(registry_remove(id)); /* and one that comes again */
    ck_assert_uint_eq(port_closed(port), 0);
    id = log_in("somebody", 0, NULL);
    kernel.calls = 0;
    ck_assert_int_eq(bind_port(id, 0, 0, 0, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, port);
    ck_assert_uint_le(kernel.calls, 2);
    ck_assert_uint_le(bound.looked, 16);
}
END_TEST

START_TEST(other_programs_with_10000_ports_are_passed_in_portions)
{
    uint64_t a;
    unsigned turns = 0;
    struct registry_bound bound;
    enum reason reason;

    open_again(3, 2000);
    a = log_in("a", 0, NULL);
    memset(kernel.foreign + 2000, 1, 10000);
    do {
        kernel.calls = 0;
        reason = bind_port(a, 0, 0, 0, &bound);
        ck_assert_uint_le(kernel.calls, REGISTRY_TRIES + 1);
        ck_assert_uint_le(bound.looked, (REGISTRY_TRIES + 1) * (PORTS_COUNT / 64 + 16));
        ck_assert_int_eq(reason == REASON_DONE, !bound.later);
        turns++;
    } while (bound.later);
    ck_assert_uint_ge(bound.port, 12000);
    ck_assert_uint_ge(turns, 10000 / REGISTRY_TRIES);
    kernel.calls = 0; /* now it is known */
    ck_assert_int_eq(bind_port(a, 1, 0, 0, &bound), REASON_DONE);
    ck_assert_uint_le(kernel.calls, REGISTRY_AGAIN + 2);
}
END_TEST

/* Nothing comes of the port that is bound. */
static uint16_t find_port(uint64_t id)
{
    uint16_t port = get_port(id, 0);

    registry_unbind(id, 0, port);
    ck_assert_uint_eq(port_closed(port), 0);
    return port;
}

START_TEST(other_programs_that_have_gone_are_noticed_at_once_or_after_a_while)
{
    uint64_t a;
    struct registry_bound bound;

    open_again(3, 2000);
    a = log_in("a", 0, NULL);
    memset(kernel.foreign + 2000, 1, 20);
    ck_assert_uint_eq(find_port(a), 2020);
    kernel.foreign[2000 + REGISTRY_AGAIN - 1] = 0;
    ck_assert_uint_eq(find_port(a), 2000 + REGISTRY_AGAIN - 1);
    kernel.foreign[2000 + REGISTRY_AGAIN - 1] = 1;
    kernel.foreign[2015] = 0;
    ck_assert_uint_eq(find_port(a), 2020); /* it is not asked for again at once */
    ck_assert_int_eq(bind_port(a, 2, 2015, 0, &bound), REASON_DONE); /* but by number */
    registry_unbind(a, 2, 2015);
    ck_assert_uint_eq(port_closed(2015), 0);
    clock_ns += 2 * PORTS_FOREIGN_NS;
    ck_assert_uint_eq(find_port(a), 2015);
}
END_TEST

START_TEST(ports_of_others_are_asked_for_again_before_there_is_none)
{
    uint64_t a;
    struct registry_bound bound;

    open_again(3, 65534);
    a = log_in("a", 0, NULL);
    kernel.foreign[65534] = kernel.foreign[65535] = 1;
    ck_assert_int_eq(bind_port(a, 0, 0, 0, &bound), REASON_PORTS_EXHAUSTED);
    ck_assert(!bound.later);
    kernel.foreign[65535] = 0;
    ck_assert_int_eq(bind_port(a, 0, 0, 0, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, 65535);
    kernel.calls = 0;
    ck_assert_int_eq(bind_port(a, 1, 0, 0, &bound), REASON_PORTS_EXHAUSTED);
    ck_assert_uint_le(kernel.calls, 1);
}
END_TEST

/* Nothing is wrong with any port: then the others are not tried. */
START_TEST(what_is_no_ports_fault_ends_the_search)
{
    static const struct {
        int error;
        enum reason reason;
    } known[] = { { EMFILE, REASON_LIMIT_DESCRIPTORS },
                  { ENFILE, REASON_LIMIT_DESCRIPTORS },
                  { EACCES, REASON_PORT_FORBIDDEN },
                  { EADDRNOTAVAIL, REASON_SOCKET_ERROR } };
    uint64_t a = log_in("a", 0, NULL);
    struct registry_bound bound;

    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        kernel.error = known[i].error;
        kernel.calls = 0;
        ck_assert_int_eq(bind_port(a, 0, 0, 0, &bound), known[i].reason);
        ck_assert_int_eq(bound.error, known[i].error);
        ck_assert_uint_eq(bound.failed, first_port());
        ck_assert_uint_eq(kernel.calls, 1);
    }
    kernel.error = 0;
    kernel.alone = true;
    ck_assert_uint_eq(get_port(a, 0), first_port()); /* it was not noted as somebody's */
}
END_TEST

static void end_mine(void)
{
    ck_assert(registry_remove(mine));
}

START_TEST(a_session_that_ends_while_its_port_is_tried_leaves_it)
{
    uint64_t b = log_in("b", 0, NULL);
    struct registry_bound bound;

    mine = log_in("a", 0, NULL);
    kernel.alone = true;
    kernel.meanwhile = end_mine;
    ck_assert_int_eq(bind_port(mine, 0, 0, 0, &bound), REASON_UNKNOWN_SESSION);
    ck_assert_uint_eq(get_port(b, 0), first_port());
}
END_TEST

static struct registry_bound their_bound;

/* The client comes again, on another worker, and wants by ticket the port that is being tried. */
static void come_again(void)
{
    uint64_t replaced;

    theirs = log_in("a", 0, &replaced);
    ck_assert_uint_eq(replaced, mine);
    ck_assert_int_eq(bind_port(theirs, 0, 0, first_port(), &their_bound), REASON_PORT_BUSY);
}

START_TEST(who_waits_for_a_port_that_is_tried_in_vain_is_told)
{
    struct registry_bound bound;

    mine = log_in("a", 0, NULL);
    kernel.alone = true;
    kernel.meanwhile = come_again;
    ck_assert_int_eq(bind_port(mine, 0, first_port(), 0, &bound), REASON_UNKNOWN_SESSION);
    ck_assert(their_bound.closing);
    ck_assert_uint_eq(bound.freed.session, theirs);
    ck_assert_int_eq(bind_port(theirs, 0, 0, first_port(), &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, first_port());
}
END_TEST

static void want_the_same(void)
{
    theirs = log_in("b", 0, NULL);
    ck_assert_int_eq(bind_port(theirs, 0, first_port(), first_port(), &their_bound),
                     REASON_PORT_BUSY);
}

START_TEST(a_port_that_is_tried_is_nobody_elses)
{
    struct registry_bound bound;

    mine = log_in("a", 0, NULL);
    kernel.alone = true;
    kernel.meanwhile = want_the_same;
    ck_assert_int_eq(bind_port(mine, 0, first_port(), 0, &bound), REASON_DONE);
    ck_assert(!their_bound.closing); /* it is not waited for: its holder lives */
    ck_assert(registry_port_ref(mine, 0, first_port()));
}
END_TEST

START_TEST(a_port_that_has_changed_hands_is_opened_by_its_holder_only)
{
    uint64_t a = log_in("a", 0, NULL), b = log_in("b", 0, NULL);
    uint16_t port = get_port(a, 0);
    struct registry_bound bound;

    registry_drain(a); /* it closes its sockets, and lives on */
    ck_assert_uint_eq(port_closed(port), 0);
    ck_assert_int_eq(bind_port(b, 0, port, 0, &bound), REASON_DONE);
    ck_assert(registry_port_ref(b, 0, port));
    ck_assert(!registry_port_ref(a, 0, port));
}
END_TEST

/* A session that drains has closed its sockets when another worker hears of its tunnel. */
START_TEST(a_port_that_was_let_go_is_opened_by_nobody)
{
    uint64_t a = log_in("a", 0, NULL);
    uint16_t port = get_port(a, 0);

    ck_assert_uint_eq(port_closed(port), 0);
    ck_assert(!registry_port_ref(a, 0, port));
    ck_assert_uint_eq(get_port(log_in("b", 0, NULL), 0), port);
}
END_TEST

START_TEST(home_is_where_the_session_was_added)
{
    struct registry_session session = { .id = registry_next_id(), .home = 5 };
    struct registry_home home;
    struct registry_added added;

    ck_assert(!registry_home(session.id, &home));
    ck_assert_int_eq(registry_add(&session, no_secret, &added), REASON_DONE);
    ck_assert(registry_home(session.id, &home));
    ck_assert(home.session == session.id && home.worker == 5);
}
END_TEST

/* From an address 192.0.2.x. */
static enum reason come(unsigned host, uint32_t token, const char *name,
                        struct registry_added *added, uint64_t *id)
{
    struct registry_session session = { .id = registry_next_id(), .client.token = token };
    const struct sockaddr_in peer = { .sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(0xc0000200 + host) };

    *id = session.id;
    memcpy(&session.peer, &peer, sizeof(peer));
    session.client.size = (uint8_t)strlen(name);
    memcpy(session.client.bytes, name, session.client.size);
    return registry_add(&session, no_secret, added);
}

/* All that somebody gets. */
static unsigned come_all(unsigned host, uint32_t token)
{
    struct registry_added added;
    uint64_t id;
    unsigned count = 0;

    while (come(host, token, "", &added, &id) == REASON_DONE)
        count++;
    ck_assert_ptr_nonnull(added.blame);
    return count;
}

START_TEST(no_token_takes_all_sessions)
{
    struct registry_added added;
    uint64_t id;

    open_again(4096, 2000);
    unsigned all = come_all(1, 0);
    ck_assert_uint_ge(all, 4096 * 7 / 8);
    ck_assert_uint_le(all, 4096 * 9 / 10);
    ck_assert_int_eq(come(2, 0, "", &added, &id), REASON_DONE); /* another address, which has few */
    ck_assert_int_eq(come(1, 1, "", &added, &id), REASON_DONE); /* another token */
    ck_assert_int_eq(come(1, 0, "", &added, &id), REASON_LIMIT_SESSIONS);
    ck_assert_ptr_nonnull(strstr(added.blame, "sessions"));
    ck_assert_uint_ge(come_all(1, 1), 300);
    ck_assert_int_eq(come(3, 2, "", &added, &id), REASON_DONE);
}
END_TEST

START_TEST(no_address_takes_all_sessions_of_the_only_token)
{
    struct registry_added added;
    uint64_t id;

    open_again(64, 2000);
    (void)come_all(1, 0);
    for (unsigned host = 2; host < 5; host++)
        ck_assert_int_eq(come(host, 0, "", &added, &id), REASON_DONE);
    ck_assert_int_eq(come(1, 0, "", &added, &id), REASON_LIMIT_SESSIONS);
    ck_assert_ptr_nonnull(strstr(added.blame, "sessions"));
}
END_TEST

START_TEST(who_comes_again_needs_no_new_share)
{
    struct registry_added added;
    uint64_t old, id;

    open_again(64, 2000);
    ck_assert_int_eq(come(1, 0, "client", &added, &old), REASON_DONE);
    (void)come_all(1, 0);
    ck_assert_int_eq(come(1, 0, "another", &added, &id), REASON_LIMIT_SESSIONS);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(come(1, 0, "client", &added, &id), REASON_DONE);
        ck_assert_uint_eq(added.replaced, old);
        old = id;
    }
    ck_assert(registry_remove(old)); /* and one that has gone makes room for one */
    ck_assert_int_eq(come(1, 0, "another", &added, &id), REASON_DONE);
    ck_assert_int_eq(come(1, 0, "", &added, &id), REASON_LIMIT_SESSIONS);
}
END_TEST

/* All ports that sessions from there get. */
static unsigned bind_all(unsigned host, uint32_t token, struct registry_bound *bound,
                         uint64_t *last)
{
    struct registry_added added;
    unsigned count = 0;
    enum reason reason = REASON_DONE;

    while (reason == REASON_DONE) {
        uint16_t index = (uint16_t)(count % CONFIG_TUNNELS_MAX);

        if (index == 0)
            ck_assert_int_eq(come(host, token, "", &added, last), REASON_DONE);
        reason = bind_port(*last, index, 0, 0, bound);
        count += reason == REASON_DONE;
    }
    ck_assert_int_eq(reason, REASON_PORTS_EXHAUSTED);
    return count;
}

START_TEST(no_token_takes_all_ports)
{
    struct registry_bound bound;
    struct registry_added added;
    uint64_t last, id;

    open_again(4096, 65536 - 900);
    unsigned all = bind_all(1, 0, &bound, &last);
    ck_assert_uint_ge(all, 900 * 7 / 8);
    ck_assert_uint_le(all, 900 * 9 / 10);
    ck_assert_ptr_nonnull(bound.blame);
    ck_assert_ptr_nonnull(strstr(bound.blame, "public ports"));
    ck_assert_int_eq(come(2, 1, "", &added, &id), REASON_DONE);
    uint16_t port = get_port(id, 0);
    ck_assert_int_eq(bind_port(id, 1, 1000, 0, &bound), REASON_DONE); /* is no part of them */
    ck_assert_int_eq(bind_port(last, CONFIG_TUNNELS_MAX - 1, 0, 0, &bound), REASON_PORTS_EXHAUSTED);
    /* A port counts until its last socket is closed, whatever becomes of the session. */
    ck_assert(registry_remove(id));
    ck_assert_uint_eq(port_closed(port), 0);
    ck_assert_uint_eq(port_closed(1000), 0);
    ck_assert(registry_remove(last));
    ck_assert_int_eq(come(1, 0, "", &added, &last), REASON_DONE);
    ck_assert_int_eq(bind_port(last, 0, 0, 0, &bound), REASON_PORTS_EXHAUSTED);
    ck_assert_uint_eq(port_closed((uint16_t)(65536 - 900 + all - 1)), 0);
    ck_assert_int_eq(bind_port(last, 0, 0, 0, &bound), REASON_DONE);
}
END_TEST

START_TEST(a_port_is_given_to_the_same_address_only)
{
    struct registry_bound bound;
    struct registry_added added;
    uint64_t a, near, far;

    ck_assert_int_eq(come(1, 0, "a", &added, &a), REASON_DONE);
    ck_assert_int_eq(come(1, 0, "near", &added, &near), REASON_DONE);
    ck_assert_int_eq(come(2, 0, "far", &added, &far), REASON_DONE);
    uint16_t port = get_port(a, 0);
    give_up(a);
    check_kept(far, port);
    ck_assert_int_eq(bind_port(near, 0, port, 0, &bound), REASON_PORT_BUSY);
    ck_assert(bound.evicted == a && bound.closing);
}
END_TEST

/* Its address has all that it may, and by now more than that. */
START_TEST(nobody_ends_for_one_who_may_have_no_port)
{
    struct registry_bound bound;
    struct registry_added added;
    struct registry_session seen;
    uint64_t old, id, last;

    open_again(4096, 65536 - 900);
    ck_assert_int_eq(come(1, 0, "old", &added, &old), REASON_DONE);
    uint16_t port = get_port(old, 0);
    ck_assert_int_eq(bind_port(old, 1, 1000, 0, &bound), REASON_DONE);
    (void)bind_all(1, 0, &bound, &last); /* this address has its share */
    (void)bind_all(2, 0, &bound, &last); /* and has more than it now */
    ck_assert_int_eq(come(1, 0, "new", &added, &id), REASON_DONE);
    give_up(old);
    ck_assert_int_eq(bind_port(id, 0, port, 0, &bound), REASON_PORT_BUSY);
    ck_assert_uint_eq(bound.evicted, 0);
    ck_assert(registry_get(old, &seen));
    /* One that is no part of what is shared takes no share. */
    ck_assert_int_eq(bind_port(id, 0, 1000, 0, &bound), REASON_PORT_BUSY);
    ck_assert(bound.evicted == old && bound.closing);
}
END_TEST

START_TEST(sessions_are_listed_in_portions)
{
    struct registry_owned found[REGISTRY_PORTION];
    uint64_t ids[150], sum = 0;
    uint32_t place = 0;
    unsigned listed = 0, portions = 0;

    open_again(200, 2000);
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
        ids[i] = log_in("", i % 7, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i += 3)
        ck_assert(registry_remove(ids[i]));
    for (bool over = false; !over; portions++) {
        unsigned count = registry_list(&place, found, &over);

        for (unsigned i = 0; i < count; i++) {
            sum += found[i].session;
            ck_assert_uint_eq(found[i].token, (found[i].session - ids[0]) % 7);
        }
        listed += count;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
        sum -= i % 3 != 0 ? ids[i] : 0;
    ck_assert_uint_eq(listed, 100);
    ck_assert_uint_eq(sum, 0);
    ck_assert_uint_eq(portions, 3); /* 150 places were ever used */
}
END_TEST

/* A registry that gives these ports only. */
static void open_with(const char *list)
{
    char error[PORT_SET_ERROR_MAX];

    kernel.alone = true;
    registry_close();
    config = (struct config){ .max_sessions = 8 };
    ck_assert_msg(port_set_parse(list, &config.ports, error), "%s", error);
    config.start_port = port_set_first(&config.ports);
    ck_assert(registry_open(&config));
}

START_TEST(a_port_that_is_not_given_is_refused)
{
    struct registry_bound bound;

    open_with("80,20000-20002,20004");
    uint64_t a = log_in("a", 0, NULL);
    static const uint16_t others[] = { 1, 79, 81, 1024, 19999, 20003, 20005, 65535 };
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        kernel.calls = 0;
        ck_assert_int_eq(bind_port(a, 0, others[i], 0, &bound), REASON_PORT_FORBIDDEN);
        ck_assert_str_eq(bound.given, "80,20000-20002,20004");
        ck_assert(bound.error == 0 && !bound.closing && !bound.later);
        ck_assert_uint_eq(kernel.calls, 0);
    }
    ck_assert_int_eq(bind_port(a, 0, 80, 0, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, 80);
    ck_assert_ptr_null(bound.given);
    static const uint16_t any[] = { 20000, 20001, 20002, 20004 };
    for (uint16_t i = 0; i < ARRAY_SIZE(any); i++)
        ck_assert_uint_eq(get_port(a, i + 1), any[i]);
    ck_assert_int_eq(bind_port(a, 6, 0, 0, &bound), REASON_PORTS_EXHAUSTED);
}
END_TEST

/* It had the port when the server gave others: a ticket outlives the server. */
START_TEST(what_a_client_had_is_not_given_any_more)
{
    struct registry_bound bound;

    open_with("20000-20009");
    uint64_t a = log_in("a", 0, NULL);
    ck_assert_int_eq(bind_port(a, 0, 0, 30000, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, 20000);
    ck_assert_int_eq(bind_port(a, 1, 30000, 30000, &bound), REASON_PORT_FORBIDDEN);
    ck_assert_int_eq(bind_port(a, 1, 0, 20007, &bound), REASON_DONE);
    ck_assert_uint_eq(bound.port, 20007);
}
END_TEST

/* With all of 55,000 taken, the last is found in as many steps as the first. */
START_TEST(a_set_costs_a_search_nothing)
{
    struct registry_bound bound;
    uint64_t id = 0;

    kernel.alone = true;
    registry_close();
    config = (struct config){ .max_sessions = 4096, .start_port = 10000 };
    for (uint32_t port = 10000; port < 65536; port += 2)
        port_set_add(&config.ports, (uint16_t)port, (uint16_t)port);
    ck_assert(registry_open(&config));
    for (unsigned i = 0; i < 27768 * 7 / 8; i++) {
        if (i % CONFIG_TUNNELS_MAX == 0)
            id = log_in("", 0, NULL);
        ck_assert_int_eq(bind_port(id, (uint16_t)(i % CONFIG_TUNNELS_MAX), 0, 0, &bound),
                         REASON_DONE);
        ck_assert_uint_eq(bound.port, 10000 + 2 * i);
        ck_assert_uint_le(bound.looked, PORTS_COUNT / 64 + 16);
    }
    ck_assert_int_eq(bind_port(id, 15, 10001, 0, &bound), REASON_PORT_FORBIDDEN);
    ck_assert_uint_le(bound.looked, 16);
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
    tcase_add_test(tcase, a_session_that_is_given_up_gives_its_port_to_one_with_the_same_token);
    tcase_add_test(tcase, a_session_whose_lanes_blink_keeps_its_port);
    tcase_add_test(tcase, a_session_takes_no_port_from_itself);
    tcase_add_test(tcase, a_ticket_brings_a_port_back);
    tcase_add_test(tcase, ports_are_remembered_by_client_token_and_index);
    tcase_add_test(tcase, sessions_are_found_by_id_and_proof);
    tcase_add_test(tcase, no_more_sessions_than_allowed);
    tcase_add_test(tcase, a_bind_takes_few_steps_with_10000_ports_taken);
    tcase_add_test(tcase, other_programs_with_10000_ports_are_passed_in_portions);
    tcase_add_test(tcase, other_programs_that_have_gone_are_noticed_at_once_or_after_a_while);
    tcase_add_test(tcase, ports_of_others_are_asked_for_again_before_there_is_none);
    tcase_add_test(tcase, what_is_no_ports_fault_ends_the_search);
    tcase_add_test(tcase, a_session_that_ends_while_its_port_is_tried_leaves_it);
    tcase_add_test(tcase, who_waits_for_a_port_that_is_tried_in_vain_is_told);
    tcase_add_test(tcase, a_port_that_is_tried_is_nobody_elses);
    tcase_add_test(tcase, a_port_that_has_changed_hands_is_opened_by_its_holder_only);
    tcase_add_test(tcase, a_port_that_was_let_go_is_opened_by_nobody);
    tcase_add_test(tcase, home_is_where_the_session_was_added);
    tcase_add_test(tcase, no_token_takes_all_sessions);
    tcase_add_test(tcase, no_address_takes_all_sessions_of_the_only_token);
    tcase_add_test(tcase, who_comes_again_needs_no_new_share);
    tcase_add_test(tcase, no_token_takes_all_ports);
    tcase_add_test(tcase, a_port_is_given_to_the_same_address_only);
    tcase_add_test(tcase, nobody_ends_for_one_who_may_have_no_port);
    tcase_add_test(tcase, sessions_are_listed_in_portions);
    tcase_add_test(tcase, a_port_that_is_not_given_is_refused);
    tcase_add_test(tcase, what_a_client_had_is_not_given_any_more);
    tcase_add_test(tcase, a_set_costs_a_search_nothing);
    suite_add_tcase(suite, tcase);
    TCase *lock = tcase_create("lock"); /* with a deadline: a dead lock is what would be wrong */
    tcase_add_checked_fixture(lock, setup, teardown);
    tcase_set_timeout(lock, 20);
    tcase_add_test(lock, nobody_waits_while_the_kernel_is_asked);
    tcase_add_test(lock, nobody_waits_while_a_proof_is_computed);
    suite_add_tcase(suite, lock);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
