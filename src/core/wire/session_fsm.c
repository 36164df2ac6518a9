/*
 * session_fsm: see session_fsm.h for the states.
 *
 * A row is a bit set of frame kinds, so a look-up is one load and one shift, and a row reads like
 * the sentence in docs/PROTOCOL.md that it stands for. Rows that are not written are empty: nothing
 * may be received there.
 *
 * Rejected: a switch per state (it hides the refusals, which are what matters here), and a table of
 * handlers (handling needs sockets and tables; this file must not know them).
 */
#include "core/wire/session_fsm.h"

#include "core/base/base.h"
#include "core/base/check.h"

CHECK_STATIC(FRAME_KIND_COUNT <= 32, "the frame kinds fit a 32-bit set");

#define K(kind) (UINT32_C(1) << FRAME_##kind)

/* Liveness and the announcement of an end: allowed wherever the peer has introduced itself. */
#define V1_ALWAYS (K(PING) | K(GOAWAY))
#define V2_ALWAYS (K(PING) | K(PONG) | K(GOAWAY))
#define V1_STREAM (K(DATA) | K(CLOSE))
#define V2_STREAM (K(DATA) | K(WINDOW) | K(RESET))

typedef uint32_t kind_set;

/* What a server may receive: [version - 1][lane][state]. */
static const kind_set server_rows[2][2][SESSION_STATE_COUNT] = {
    [0][SESSION_LANE_PRIMARY] = {
        [SESSION_INIT] = K(HELLO),
        [SESSION_HANDSHAKEN] = V1_ALWAYS | K(AUTH),
        [SESSION_AUTHENTICATED] = V1_ALWAYS,
        [SESSION_BOUND] = V1_ALWAYS,
        [SESSION_FORWARDING] = V1_ALWAYS | V1_STREAM,
        [SESSION_CLOSING] = V1_ALWAYS | V1_STREAM | K(AUTH),
    },
    [1][SESSION_LANE_PRIMARY] = {
        [SESSION_INIT] = K(HELLO),
        [SESSION_HANDSHAKEN] = V2_ALWAYS | K(AUTH) | K(JOIN),
        [SESSION_AUTHENTICATED] = V2_ALWAYS | K(BIND),
        [SESSION_BOUND] = V2_ALWAYS | K(BIND),
        [SESSION_FORWARDING] = V2_ALWAYS | V2_STREAM | K(BIND),
        [SESSION_CLOSING] = V2_ALWAYS | V2_STREAM | K(AUTH) | K(BIND),
    },
    [1][SESSION_LANE_JOINING] = {
        [SESSION_HANDSHAKEN] = K(JOIN),
        [SESSION_FORWARDING] = V2_ALWAYS | V2_STREAM,
        [SESSION_CLOSING] = V2_ALWAYS | V2_STREAM,
    },
};

/* What a client may receive. */
static const kind_set client_rows[2][2][SESSION_STATE_COUNT] = {
    [0][SESSION_LANE_PRIMARY] = {
        [SESSION_INIT] = K(HELLO_OK) | K(GOAWAY),
        [SESSION_HANDSHAKEN] = K(AUTH_OK) | K(AUTH_ERR) | K(GOAWAY),
        [SESSION_AUTHENTICATED] = K(BIND_OK) | K(GOAWAY),
        [SESSION_BOUND] = V1_ALWAYS | K(OPEN),
        [SESSION_FORWARDING] = V1_ALWAYS | V1_STREAM | K(OPEN),
        [SESSION_CLOSING] = V1_ALWAYS | V1_STREAM | K(OPEN) | K(HELLO_OK) | K(AUTH_OK) |
                            K(AUTH_ERR) | K(BIND_OK),
    },
    [1][SESSION_LANE_PRIMARY] = {
        [SESSION_INIT] = K(HELLO_OK) | K(GOAWAY),
        [SESSION_HANDSHAKEN] = V2_ALWAYS | K(AUTH_OK) | K(AUTH_ERR),
        [SESSION_AUTHENTICATED] = V2_ALWAYS | K(BIND_OK) | K(BIND_ERR),
        [SESSION_BOUND] = V2_ALWAYS | K(BIND_OK) | K(BIND_ERR) | K(OPEN),
        [SESSION_FORWARDING] = V2_ALWAYS | V2_STREAM | K(BIND_OK) | K(BIND_ERR) | K(OPEN),
        [SESSION_CLOSING] = V2_ALWAYS | V2_STREAM | K(OPEN) | K(HELLO_OK) | K(AUTH_OK) |
                            K(AUTH_ERR) | K(BIND_OK) | K(BIND_ERR),
    },
    [1][SESSION_LANE_JOINING] = {
        [SESSION_INIT] = K(HELLO_OK) | K(GOAWAY),
        [SESSION_HANDSHAKEN] = K(JOIN_OK) | K(GOAWAY),
        [SESSION_FORWARDING] = V2_ALWAYS | V2_STREAM | K(OPEN),
        [SESSION_CLOSING] = V2_ALWAYS | V2_STREAM | K(OPEN) | K(HELLO_OK) | K(JOIN_OK),
    },
};

/* Where a frame leads that is received in `from`. Pairs that are not here change nothing. */
static const struct {
    enum frame_kind kind;
    enum session_state from;
    enum session_state to;
} steps[] = {
    { FRAME_HELLO, SESSION_INIT, SESSION_HANDSHAKEN },
    { FRAME_HELLO_OK, SESSION_INIT, SESSION_HANDSHAKEN },
    { FRAME_AUTH, SESSION_HANDSHAKEN, SESSION_AUTHENTICATED },
    { FRAME_AUTH_OK, SESSION_HANDSHAKEN, SESSION_AUTHENTICATED },
    { FRAME_BIND, SESSION_AUTHENTICATED, SESSION_FORWARDING },
    { FRAME_BIND, SESSION_BOUND, SESSION_FORWARDING },
    { FRAME_BIND_OK, SESSION_AUTHENTICATED, SESSION_FORWARDING },
    { FRAME_BIND_OK, SESSION_BOUND, SESSION_FORWARDING },
    { FRAME_OPEN, SESSION_BOUND, SESSION_FORWARDING },
    { FRAME_JOIN, SESSION_HANDSHAKEN, SESSION_FORWARDING },
    { FRAME_JOIN_OK, SESSION_HANDSHAKEN, SESSION_FORWARDING },
};

#define S(state) (1u << SESSION_##state)
#define ENDS     (S(CLOSING) | S(CLOSED))

static const unsigned exits[] = {
    [SESSION_INIT] = S(HANDSHAKEN) | S(FORWARDING) | ENDS,
    [SESSION_HANDSHAKEN] = S(AUTHENTICATED) | S(FORWARDING) | ENDS,
    [SESSION_AUTHENTICATED] = S(BOUND) | S(FORWARDING) | ENDS,
    [SESSION_BOUND] = S(AUTHENTICATED) | S(FORWARDING) | ENDS,
    [SESSION_FORWARDING] = ENDS,
    [SESSION_CLOSING] = S(CLOSED),
    [SESSION_CLOSED] = 0,
};
CHECK_STATIC(ARRAY_SIZE(exits) == SESSION_STATE_COUNT, "every state has its exits");

const char *session_state_name(enum session_state state)
{
    static const char *const names[] = {
#define X(name) [SESSION_##name] = #name,
        SESSION_STATE_TABLE(X)
#undef X
    };

    return (unsigned)state < SESSION_STATE_COUNT ? names[state] : "?";
}

enum reason session_fsm_check(enum session_role role, uint8_t version, enum session_state state,
                              enum session_lane lane, enum frame_kind kind)
{
    kind_set row;

    CHECK(version == FRAME_V1 || version == FRAME_V2);
    CHECK(state < SESSION_STATE_COUNT && kind < FRAME_KIND_COUNT);
    row = role == SESSION_SERVER ? server_rows[version - 1][lane][state]
                                 : client_rows[version - 1][lane][state];
    return row >> kind & 1 ? REASON_DONE : REASON_BAD_STATE;
}

enum session_state session_fsm_next(enum session_role role, uint8_t version,
                                    enum session_state state, enum session_lane lane,
                                    enum frame_kind kind)
{
    CHECK(session_fsm_check(role, version, state, lane, kind) == REASON_DONE);
    if (kind == FRAME_GOAWAY || kind == FRAME_AUTH_ERR)
        return SESSION_CLOSING;
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        if (steps[i].kind == kind && steps[i].from == state) {
            CHECK(session_fsm_may(state, steps[i].to)); /* one table against the other */
            return steps[i].to;
        }
    return state;
}

bool session_fsm_may(enum session_state from, enum session_state to)
{
    CHECK(from < SESSION_STATE_COUNT && to < SESSION_STATE_COUNT);
    return exits[from] >> to & 1;
}
