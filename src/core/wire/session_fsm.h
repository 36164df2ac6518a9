/*
 * session_fsm: which frame may come when, and which state follows. Pure: no socket, no clock, no
 * allocation.
 *
 * The states are the seed's. One table row per (role, version, lane, state) names the frames that
 * may be received there; whatever is not named is a violation and closes the session with
 * BAD_STATE. The caller keeps the state, changes it in one setter that asks session_fsm_may(), and
 * closes with the reason that session_fsm_check() gives.
 *
 *   state          meaning                                           left for
 *   INIT           connected; no frame was accepted                  HANDSHAKEN; FORWARDING (a lane
 *                  that was
 *                                                                    handed over with its JOIN)
 *   HANDSHAKEN     HELLO went through; a proof is awaited            AUTHENTICATED; FORWARDING (a
 *                  joined lane)
 *   AUTHENTICATED  the token is good; no tunnel has a port           BOUND, FORWARDING
 *   BOUND          server: a port is chosen and the workers open     FORWARDING; AUTHENTICATED (no
 *                  worker
 *                  their listeners; the answer is not sent           could listen)
 *   FORWARDING     at least one tunnel is public, streams come       CLOSING
 *                  and go, more tunnels may be bound
 *   CLOSING        no new stream or tunnel; what is open ends        CLOSED
 *   CLOSED         nothing is sent or received
 *
 * From every state but CLOSED a session may go to CLOSING or CLOSED; no state is entered twice
 * except AUTHENTICATED from BOUND.
 *
 * CLOSING accepts, besides what the open streams need, every frame that the peer may have sent
 * before it learnt of the end (a pipelined AUTH or BIND, an OPEN that crossed a GOAWAY); the caller
 * ignores or refuses those.
 */
#ifndef CULVERT_CORE_WIRE_SESSION_FSM_H
#define CULVERT_CORE_WIRE_SESSION_FSM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/wire/frame.h"
#include "core/wire/reason.h"

#define SESSION_STATE_TABLE(X) \
    X(INIT)                    \
    X(HANDSHAKEN)              \
    X(AUTHENTICATED)           \
    X(BOUND)                   \
    X(FORWARDING)              \
    X(CLOSING)                 \
    X(CLOSED)

enum session_state {
#define X(name) SESSION_##name,
    SESSION_STATE_TABLE(X)
#undef X
        SESSION_STATE_COUNT
};

/* This side's role; the table says what this side may receive. */
enum session_role {
    SESSION_SERVER,
    SESSION_CLIENT,
};

/* PRIMARY is lane 0, the one that carries the log-in and the binds. JOINING is a lane that says
 * JOIN behind HELLO; after JOIN_OK it stays JOINING, or becomes PRIMARY if it took the place of
 * lane 0 in a resume. A server takes an accepted connection for PRIMARY until it hears JOIN.
 * JOINING knows the states INIT, HANDSHAKEN, FORWARDING, CLOSING and CLOSED only, and v1 knows
 * no JOINING. */
enum session_lane {
    SESSION_LANE_PRIMARY,
    SESSION_LANE_JOINING,
};

/* "FORWARDING". Never NULL. */
const char *session_state_name(enum session_state state);

/* REASON_DONE if this side may receive a frame of that kind in that state, REASON_BAD_STATE if not.
 * `version` is FRAME_V1 or FRAME_V2. */
enum reason session_fsm_check(enum session_role role, uint8_t version, enum session_state state,
                              enum session_lane lane, enum frame_kind kind);

/* The state after a received frame has been handled with success (the token was good, a port was
 * found). CHECKs that session_fsm_check() allows the frame. A frame that changes nothing returns
 * `state`. A server that has to wait between BIND and its answer goes through BOUND by itself. */
enum session_state session_fsm_next(enum session_role role, uint8_t version,
                                    enum session_state state, enum session_lane lane,
                                    enum frame_kind kind);

/* Whether a session may change from one state to another: what the caller's setter asserts. */
bool session_fsm_may(enum session_state from, enum session_state to);

#endif
