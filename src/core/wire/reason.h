/*
 * reason: why a stream, a lane or a session ended.
 *
 * Every end passes one function with one of these. The table gives the text for logs, the code that
 * RESET, GOAWAY, AUTH_ERR and BIND_ERR carry on the wire (v2; docs/PROTOCOL.md), and whether the
 * local socket of a stream is ended by FIN (all bytes were delivered) or by RST (they were not, so
 * the far end must not mistake it for a clean end). Codes are part of the protocol: never renumber,
 * only append. An unknown code from a peer reads as PEER_OTHER.
 */
#ifndef CULVERT_CORE_WIRE_REASON_H
#define CULVERT_CORE_WIRE_REASON_H

#include <stdbool.h>
#include <stdint.h>

/* X(name, wire code, RST at the local socket, text) */
#define REASON_TABLE(X)                                                                           \
    X(DONE, 0, false, "both directions ended")                                                    \
    X(PEER_RESET, 1, true, "connection reset by the far end")                                     \
    X(ORIGIN_REFUSED, 2, true, "origin refused the connection")                                   \
    X(ORIGIN_UNREACHABLE, 3, true, "origin cannot be reached")                                    \
    X(ORIGIN_TIMEOUT, 4, true, "origin did not answer in time")                                   \
    X(LIMIT_STREAMS, 5, true, "too many streams")                                                 \
    X(LIMIT_BUFFERS, 6, true, "out of buffers")                                                   \
    X(LIMIT_DESCRIPTORS, 7, true, "out of file descriptors")                                      \
    X(STALLED, 8, true, "reader made no progress")                                                \
    X(SESSION_LOST, 9, true, "the session ended")                                                 \
    X(DRAIN, 10, true, "cut at shutdown")                                                         \
    X(SOCKET_ERROR, 11, true, "socket error")                                                     \
    X(NO_TUNNEL, 12, true, "no such tunnel")                                                      \
    X(V1_CLOSED, 13, false, "closed by a v1 peer")                                                \
    X(PEER_OTHER, 31, true, "ended by the peer for another reason")                               \
    X(BAD_VERSION, 32, true, "unknown protocol version")                                          \
    X(BAD_FRAME, 33, true, "invalid frame")                                                       \
    X(BAD_STATE, 34, true, "frame not allowed in this state")                                     \
    X(FRAME_TOO_LONG, 35, true, "frame longer than allowed")                                      \
    X(FLOW_CONTROL, 36, true, "peer sent more than its window")                                   \
    X(AUTH_FAILED, 37, true, "authentication failed")                                             \
    X(AUTH_WEAK_TOKEN, 38, true, "a token that is short or well known is good on loopback only")  \
    X(HANDSHAKE_TIMEOUT, 39, true, "handshake took too long")                                     \
    X(HEARTBEAT_MISSED, 40, true, "no frame heard for too long")                                  \
    X(LANE_EOF, 41, true, "connection closed by the peer")                                        \
    X(LANE_ERROR, 42, true, "connection failed")                                                  \
    X(LIMIT_SESSIONS, 43, true, "too many sessions")                                              \
    X(LIMIT_LANES, 44, true, "too many lanes")                                                    \
    X(LIMIT_UNAUTHENTICATED, 45, true, "too many connections that have not logged in")            \
    X(SHUTDOWN, 46, true, "shutting down")                                                        \
    X(REPLACED, 47, true, "replaced by a newer connection")                                       \
    X(UNKNOWN_SESSION, 48, true, "no such session")                                               \
    X(PORT_BUSY, 49, true, "the port is in use")                                                  \
    X(PORT_FORBIDDEN, 50, true, "the port is not allowed")                                        \
    X(PORTS_EXHAUSTED, 51, true, "no free public port")                                           \
    X(LIMIT_TUNNELS, 52, true, "too many tunnels in one session")                                 \
    X(CONNECT_FAILED, 53, true, "cannot connect to the server")                                   \
    X(RESOLVE_FAILED, 54, true, "cannot resolve the name")                                        \
    X(TLS_FAILED, 55, true, "TLS failed")                                                         \
    X(TLS_TRUNCATED, 56, true, "connection ended without TLS close_notify: bytes may be missing") \
    X(TLS_TOO_OLD, 57, true, "v2 needs TLS 1.3")                                                  \
    X(LANE_GONE, 58, true, "the lane is gone, its streams have ended")                            \
    X(TLS_ENDS_BETWEEN, 59, true,                                                                 \
      "TLS does not reach from the client to the server, something between them ends it")         \
    X(SERVER_UNPROVEN, 60, true, "the server did not prove that it knows the token")              \
    X(OLD_WIRE, 61, true,                                                                         \
      "client and server speak different revisions of v2: update the older one")                  \
    X(STREAM_IDLE, 62, true, "nothing moved for longer than --stream-idle")                       \
    X(PEER_SILENT, 63, true, "the far end has not answered for minutes")                          \
    X(TOKEN_GONE, 64, true, "the token is not accepted any more")

enum reason {
#define X(name, code, rst, text) REASON_##name,
    REASON_TABLE(X)
#undef X
        REASON_COUNT
};

/* A short English clause, for logs. Never NULL. */
const char *reason_text(enum reason reason);

/* The enum's name without prefix, "PEER_RESET". */
const char *reason_name(enum reason reason);

/* The code that stands on the v2 wire. */
uint16_t reason_code(enum reason reason);

/* From the wire; an unknown code gives REASON_PEER_OTHER. */
enum reason reason_from_code(uint16_t code);

/* True if a stream that ends for this reason must end with RST at its local socket. */
bool reason_is_rst(enum reason reason);

/* True if a peer broke the protocol: its session ends. */
bool reason_is_violation(enum reason reason);

#endif
