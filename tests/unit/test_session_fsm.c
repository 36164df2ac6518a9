/*
 * Session states: every (role, version, lane, state, kind) cell against a second, hand-written list
 * of what is allowed. The lists below are the sentences of docs/PROTOCOL.md ("States"); a row that
 * is missing allows nothing.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/wire/session_fsm.h"

struct row {
    enum session_role role;
    uint8_t version;
    enum session_lane lane;
    enum session_state state;
    const char *kinds;
};

#define S1(state, kinds)                                                \
    {                                                                   \
        SESSION_SERVER, 1, SESSION_LANE_PRIMARY, SESSION_##state, kinds \
    }
#define S2(state, kinds)                                                \
    {                                                                   \
        SESSION_SERVER, 2, SESSION_LANE_PRIMARY, SESSION_##state, kinds \
    }
#define SJ(state, kinds)                                                \
    {                                                                   \
        SESSION_SERVER, 2, SESSION_LANE_JOINING, SESSION_##state, kinds \
    }
#define C1(state, kinds)                                                \
    {                                                                   \
        SESSION_CLIENT, 1, SESSION_LANE_PRIMARY, SESSION_##state, kinds \
    }
#define C2(state, kinds)                                                \
    {                                                                   \
        SESSION_CLIENT, 2, SESSION_LANE_PRIMARY, SESSION_##state, kinds \
    }
#define CJ(state, kinds)                                                \
    {                                                                   \
        SESSION_CLIENT, 2, SESSION_LANE_JOINING, SESSION_##state, kinds \
    }

static const struct row rows[] = {
    S1(INIT, "HELLO"),
    S1(HANDSHAKEN, "AUTH PING GOAWAY"),
    S1(AUTHENTICATED, "PING GOAWAY"),
    S1(BOUND, "PING GOAWAY"),
    S1(FORWARDING, "PING GOAWAY DATA CLOSE"),
    S1(CLOSING, "AUTH PING GOAWAY DATA CLOSE"),

    S2(INIT, "HELLO"),
    S2(HANDSHAKEN, "AUTH JOIN PING PONG GOAWAY"),
    S2(AUTHENTICATED, "BIND PING PONG GOAWAY"),
    S2(BOUND, "BIND PING PONG GOAWAY"),
    S2(FORWARDING, "BIND PING PONG GOAWAY DATA WINDOW RESET"),
    S2(CLOSING, "AUTH BIND PING PONG GOAWAY DATA WINDOW RESET"),

    SJ(HANDSHAKEN, "JOIN"),
    SJ(FORWARDING, "PING PONG GOAWAY DATA WINDOW RESET"),
    SJ(CLOSING, "PING PONG GOAWAY DATA WINDOW RESET"),

    C1(INIT, "HELLO_OK GOAWAY"),
    C1(HANDSHAKEN, "AUTH_OK AUTH_ERR GOAWAY"),
    C1(AUTHENTICATED, "BIND_OK GOAWAY"),
    C1(BOUND, "PING GOAWAY OPEN"),
    C1(FORWARDING, "PING GOAWAY OPEN DATA CLOSE"),
    C1(CLOSING, "HELLO_OK AUTH_OK AUTH_ERR BIND_OK PING GOAWAY OPEN DATA CLOSE"),

    C2(INIT, "HELLO_OK GOAWAY"),
    C2(HANDSHAKEN, "AUTH_OK AUTH_ERR PING PONG GOAWAY"),
    C2(AUTHENTICATED, "BIND_OK BIND_ERR PING PONG GOAWAY"),
    C2(BOUND, "BIND_OK BIND_ERR PING PONG GOAWAY OPEN"),
    C2(FORWARDING, "BIND_OK BIND_ERR PING PONG GOAWAY OPEN DATA WINDOW RESET"),
    C2(CLOSING,
       "HELLO_OK AUTH_OK AUTH_ERR BIND_OK BIND_ERR PING PONG GOAWAY OPEN DATA WINDOW RESET"),

    CJ(INIT, "HELLO_OK GOAWAY"),
    CJ(HANDSHAKEN, "JOIN_OK GOAWAY"),
    CJ(FORWARDING, "PING PONG GOAWAY OPEN DATA WINDOW RESET"),
    CJ(CLOSING, "HELLO_OK JOIN_OK PING PONG GOAWAY OPEN DATA WINDOW RESET"),
};

/* Whether `name` stands as a word in `list`. */
static bool has_word(const char *list, const char *name)
{
    size_t size = strlen(name);

    for (const char *at = list; (at = strstr(at, name)) != NULL; at += size)
        if ((at == list || at[-1] == ' ') && (at[size] == ' ' || at[size] == '\0'))
            return true;
    return false;
}

static const char *row_kinds(enum session_role role, uint8_t version, enum session_lane lane,
                             enum session_state state)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].role == role && rows[i].version == version && rows[i].lane == lane &&
            rows[i].state == state)
            return rows[i].kinds;
    return "";
}

/* Calls `check` for every cell; `allowed` is what the rows above say. */
static unsigned each_cell(void (*check)(enum session_role, uint8_t, enum session_lane,
                                        enum session_state, enum frame_kind, bool allowed))
{
    unsigned cells = 0;

    for (unsigned role = 0; role < 2; role++)
        for (uint8_t version = 1; version <= 2; version++)
            for (unsigned lane = 0; lane < 2; lane++)
                for (unsigned state = 0; state < SESSION_STATE_COUNT; state++)
                    for (unsigned kind = 0; kind < FRAME_KIND_COUNT; kind++, cells++)
                        check(
                            (enum session_role)role, version, (enum session_lane)lane,
                            (enum session_state)state, (enum frame_kind)kind,
                            has_word(row_kinds((enum session_role)role, version,
                                               (enum session_lane)lane, (enum session_state)state),
                                     frame_kind_name((enum frame_kind)kind)));
    return cells;
}

static void cell_is_as_listed(enum session_role role, uint8_t version, enum session_lane lane,
                              enum session_state state, enum frame_kind kind, bool allowed)
{
    enum reason reason = session_fsm_check(role, version, state, lane, kind);

    ck_assert_msg(reason == (allowed ? REASON_DONE : REASON_BAD_STATE),
                  "%s v%u %s lane, %s, %s: %s", role == SESSION_SERVER ? "server" : "client",
                  version, lane == SESSION_LANE_PRIMARY ? "primary" : "joining",
                  session_state_name(state), frame_kind_name(kind), reason_name(reason));
}

START_TEST(every_cell_is_as_listed)
{
    ck_assert_uint_eq(each_cell(cell_is_as_listed), 2 * 2 * 2 * 7 * 18);
}
END_TEST

/* The words in the lists are frame kinds: a misspelt one would silently test nothing. */
START_TEST(the_lists_are_spelt_right)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t words = 1, found = 0;

        for (const char *at = rows[i].kinds; *at != '\0'; at++)
            words += *at == ' ';
        for (unsigned kind = 0; kind < FRAME_KIND_COUNT; kind++)
            found += has_word(rows[i].kinds, frame_kind_name((enum frame_kind)kind));
        ck_assert_msg(words == found, "row %zu: %s", i, rows[i].kinds);
    }
}
END_TEST

/* The state after a frame, listed by hand. Frames that are not here and do not end the session
 * change nothing. */
static enum session_state expected_next(enum session_role role, enum session_state state,
                                        enum frame_kind kind)
{
    switch (kind) {
    case FRAME_HELLO:
    case FRAME_HELLO_OK:
        return state == SESSION_INIT ? SESSION_HANDSHAKEN : state;
    case FRAME_AUTH:
    case FRAME_AUTH_OK:
        return state == SESSION_HANDSHAKEN ? SESSION_AUTHENTICATED : state;
    case FRAME_BIND:
    case FRAME_BIND_OK:
        return state == SESSION_CLOSING ? state : SESSION_FORWARDING;
    case FRAME_OPEN:
        ck_assert_int_eq(role, SESSION_CLIENT);
        return state == SESSION_CLOSING ? state : SESSION_FORWARDING;
    case FRAME_JOIN:
    case FRAME_JOIN_OK:
        return state == SESSION_CLOSING ? state : SESSION_FORWARDING;
    case FRAME_GOAWAY:
    case FRAME_AUTH_ERR:
        return SESSION_CLOSING;
    default:
        return state;
    }
}

static void cell_leads_where_it_should(enum session_role role, uint8_t version,
                                       enum session_lane lane, enum session_state state,
                                       enum frame_kind kind, bool allowed)
{
    enum session_state next;

    if (!allowed)
        return;
    next = session_fsm_next(role, version, state, lane, kind);
    ck_assert_msg(next == expected_next(role, state, kind), "%s + %s gives %s",
                  session_state_name(state), frame_kind_name(kind), session_state_name(next));
    ck_assert_msg(next == state || session_fsm_may(state, next), "%s to %s is not a transition",
                  session_state_name(state), session_state_name(next));
}

START_TEST(every_allowed_frame_leads_where_it_should)
{
    each_cell(cell_leads_where_it_should);
}
END_TEST

START_TEST(transitions)
{
    /* Row: from. Column: to. Order: INIT HANDSHAKEN AUTHENTICATED BOUND FORWARDING CLOSING
     * CLOSED. */
    static const char may[SESSION_STATE_COUNT][SESSION_STATE_COUNT + 1] = {
        [SESSION_INIT] = ".x..xxx",          [SESSION_HANDSHAKEN] = "..x.xxx",
        [SESSION_AUTHENTICATED] = "...xxxx", [SESSION_BOUND] = "..x.xxx",
        [SESSION_FORWARDING] = ".....xx",    [SESSION_CLOSING] = "......x",
        [SESSION_CLOSED] = ".......",
    };

    for (unsigned from = 0; from < SESSION_STATE_COUNT; from++)
        for (unsigned to = 0; to < SESSION_STATE_COUNT; to++)
            ck_assert_msg(session_fsm_may((enum session_state)from, (enum session_state)to) ==
                              (may[from][to] == 'x'),
                          "%s to %s", session_state_name((enum session_state)from),
                          session_state_name((enum session_state)to));
}
END_TEST

/* Plays the frames that one side receives and returns the state at the end. */
static enum session_state play(enum session_role role, uint8_t version, enum session_lane lane,
                               const enum frame_kind *kinds, size_t count)
{
    /* A server takes every lane for PRIMARY until it hears JOIN. */
    bool joins = role == SESSION_SERVER && lane == SESSION_LANE_JOINING;
    enum session_state state = joins ? SESSION_HANDSHAKEN : SESSION_INIT;

    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(session_fsm_check(role, version, state, lane, kinds[i]), REASON_DONE);
        state = session_fsm_next(role, version, state, lane, kinds[i]);
    }
    return state;
}

START_TEST(whole_handshakes)
{
    static const enum frame_kind server_v1[] = { FRAME_HELLO, FRAME_PING, FRAME_AUTH };
    static const enum frame_kind client_v1[] = { FRAME_HELLO_OK, FRAME_AUTH_OK, FRAME_BIND_OK,
                                                 FRAME_PING,     FRAME_OPEN,    FRAME_DATA,
                                                 FRAME_CLOSE };
    static const enum frame_kind server_v2[] = { FRAME_HELLO, FRAME_AUTH,   FRAME_BIND, FRAME_BIND,
                                                 FRAME_DATA,  FRAME_WINDOW, FRAME_RESET };
    static const enum frame_kind client_v2[] = { FRAME_HELLO_OK, FRAME_AUTH_OK, FRAME_BIND_ERR,
                                                 FRAME_BIND_OK,  FRAME_OPEN,    FRAME_BIND_OK,
                                                 FRAME_DATA };
    static const enum frame_kind join[] = { FRAME_JOIN, FRAME_DATA }; /* behind HELLO */
    static const enum frame_kind join_ok[] = { FRAME_HELLO_OK, FRAME_JOIN_OK, FRAME_OPEN,
                                               FRAME_DATA };

#define PLAY(role, version, lane, kinds) play(role, version, lane, kinds, ARRAY_SIZE(kinds))
    ck_assert_int_eq(PLAY(SESSION_SERVER, 1, SESSION_LANE_PRIMARY, server_v1),
                     SESSION_AUTHENTICATED);
    ck_assert_int_eq(PLAY(SESSION_CLIENT, 1, SESSION_LANE_PRIMARY, client_v1), SESSION_FORWARDING);
    ck_assert_int_eq(PLAY(SESSION_SERVER, 2, SESSION_LANE_PRIMARY, server_v2), SESSION_FORWARDING);
    ck_assert_int_eq(PLAY(SESSION_CLIENT, 2, SESSION_LANE_PRIMARY, client_v2), SESSION_FORWARDING);
    ck_assert_int_eq(PLAY(SESSION_SERVER, 2, SESSION_LANE_JOINING, join), SESSION_FORWARDING);
    ck_assert_int_eq(PLAY(SESSION_CLIENT, 2, SESSION_LANE_JOINING, join_ok), SESSION_FORWARDING);
#undef PLAY
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(session_state_name(SESSION_INIT), "INIT");
    ck_assert_str_eq(session_state_name(SESSION_FORWARDING), "FORWARDING");
    ck_assert_str_eq(session_state_name(SESSION_CLOSED), "CLOSED");
    ck_assert_str_eq(session_state_name(SESSION_STATE_COUNT), "?");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session_fsm");
    TCase *tcase = tcase_create("tables");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, every_cell_is_as_listed);
    tcase_add_test(tcase, the_lists_are_spelt_right);
    tcase_add_test(tcase, every_allowed_frame_leads_where_it_should);
    tcase_add_test(tcase, transitions);
    tcase_add_test(tcase, whole_handshakes);
    tcase_add_test(tcase, names);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
