/*
 * frame: the two wire formats, pure (no I/O, no allocation).
 *
 * v1 is the GoTunnel wire: a 10-byte header {version 1, type, stream u32, length u32}. v2 is
 * Culvert's own: a 12-byte header {version 2, type, flags u16, stream u32, length u32}. All
 * integers are big-endian. docs/PROTOCOL.md is the reference.
 *
 * Both wires decode to one struct frame whose `kind` is common to them, so that lane and session
 * code asks "is this DATA?" once. What a wire does not have, its table does not have: v1 knows no
 * WINDOW, v2 knows no CLOSE.
 *
 * Decoders take (src, end) and never read past end. Encoders return the advanced pointer; the
 * caller has made sure of room (FRAME_CONTROL_MAX is enough for every frame but DATA and those that
 * carry caller-bounded text).
 */
#ifndef CULVERT_CORE_WIRE_FRAME_H
#define CULVERT_CORE_WIRE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FRAME_V1         1
#define FRAME_V2         2
#define FRAME_V1_HEADER  10
#define FRAME_V2_HEADER  12
#define FRAME_HEADER_MAX 12

#define FRAME_PAYLOAD_MAX            (16u * 1024u * 1024u) /* DATA, both wires */
#define FRAME_V1_CONTROL_PAYLOAD_MAX (66u * 1024u) /* Handshake: 11 + 65535 bytes; Auth: a token */
#define FRAME_V2_CONTROL_PAYLOAD_MAX 4096u
/* What an encoder below writes at most. */
#define FRAME_CONTROL_MAX (FRAME_HEADER_MAX + 1024u)
/* Names, agents, addresses, error texts: longer ones are cut by the encoder. */
#define FRAME_TEXT_MAX   255u
#define FRAME_TOKEN_MAX  1000u
#define FRAME_NONCE_SIZE 32u
#define FRAME_ID_SIZE    16u /* public name of a token */
#define FRAME_PROOF_SIZE 32u
#define FRAME_CLIENT_MAX 32u
#define FRAME_TICKET_MAX 96u
/* The least that a peer may take in one DATA. */
#define FRAME_DATA_MIN 1024u

#define FRAME_FLAG_FIN 0x0001u /* DATA: the last byte of this direction is in this frame */

/* X(kind, v1 type or 0, v2 type or 0, belongs to a stream, v1 payload min, max, v2 payload min,
 * max) */
#define FRAME_TABLE(X)                                                                         \
    X(HELLO, 1, 1, false, 11, FRAME_V1_CONTROL_PAYLOAD_MAX, 18, FRAME_V2_CONTROL_PAYLOAD_MAX)  \
    X(HELLO_OK, 2, 2, false, 0, 0, 28, FRAME_V2_CONTROL_PAYLOAD_MAX)                           \
    X(AUTH, 3, 3, false, 1, FRAME_V1_CONTROL_PAYLOAD_MAX, 49, FRAME_V2_CONTROL_PAYLOAD_MAX)    \
    X(AUTH_OK, 4, 4, false, 0, 0, 60, FRAME_V2_CONTROL_PAYLOAD_MAX)                            \
    X(AUTH_ERR, 5, 5, false, 0, FRAME_V1_CONTROL_PAYLOAD_MAX, 4, FRAME_V2_CONTROL_PAYLOAD_MAX) \
    X(BIND, 0, 6, false, 0, 0, 12, FRAME_V2_CONTROL_PAYLOAD_MAX)                               \
    X(BIND_OK, 6, 7, false, 2, 2, 6, FRAME_V2_CONTROL_PAYLOAD_MAX)                             \
    X(BIND_ERR, 0, 8, false, 0, 0, 6, FRAME_V2_CONTROL_PAYLOAD_MAX)                            \
    X(JOIN, 0, 9, false, 0, 0, 53, FRAME_V2_CONTROL_PAYLOAD_MAX)                               \
    X(JOIN_OK, 0, 10, false, 0, 0, 42, FRAME_V2_CONTROL_PAYLOAD_MAX)                           \
    X(GOAWAY, 11, 11, false, 2, FRAME_V1_CONTROL_PAYLOAD_MAX, 4, FRAME_V2_CONTROL_PAYLOAD_MAX) \
    X(PING, 10, 12, false, 0, 0, 16, FRAME_V2_CONTROL_PAYLOAD_MAX)                             \
    X(PONG, 0, 13, false, 0, 0, 16, FRAME_V2_CONTROL_PAYLOAD_MAX)                              \
    X(OPEN, 7, 16, true, 0, 0, 4, FRAME_V2_CONTROL_PAYLOAD_MAX)                                \
    X(DATA, 8, 17, true, 0, FRAME_PAYLOAD_MAX, 0, FRAME_PAYLOAD_MAX)                           \
    X(WINDOW, 0, 18, true, 0, 0, 4, 4)                                                         \
    X(RESET, 0, 19, true, 0, 0, 2, FRAME_V2_CONTROL_PAYLOAD_MAX)                               \
    X(CLOSE, 9, 0, true, 0, 0, 0, 0)

enum frame_kind {
#define X(kind, v1, v2, stream, min1, max1, min2, max2) FRAME_##kind,
    FRAME_TABLE(X)
#undef X
        FRAME_KIND_COUNT
};

struct frame {
    enum frame_kind kind;
    uint16_t flags;  /* v1: 0 */
    uint32_t stream; /* 0 for control frames */
    uint32_t length; /* of the payload */
};

enum frame_result {
    FRAME_OK,
    FRAME_NEED_MORE,   /* fewer bytes than a header */
    FRAME_BAD_VERSION, /* first byte is not `version` */
    FRAME_BAD_TYPE,    /* no such type in this version */
    FRAME_BAD_STREAM,  /* stream id 0 on a stream frame, or not 0 on a control frame */
    FRAME_TOO_LONG,    /* length above what this kind may have */
    FRAME_TOO_SHORT,   /* length below what this kind must have */
};

/* Printable names, for logs and the dumper. Never NULL. */
const char *frame_kind_name(enum frame_kind kind);
const char *frame_result_text(enum frame_result result);

/* 10 for v1, 12 for v2. */
static inline size_t frame_header_size(uint8_t version)
{
    return version == FRAME_V1 ? FRAME_V1_HEADER : FRAME_V2_HEADER;
}

/* Reads one header. On any result but FRAME_OK *out is untouched. A header whose first byte already
 * shows a wrong version is FRAME_BAD_VERSION even if it is incomplete. */
enum frame_result frame_get(uint8_t version, const uint8_t *src, const uint8_t *end,
                            struct frame *out);

/* Writes one header; returns dst + frame_header_size(version). CHECKs that the kind exists in that
 * version. */
uint8_t *frame_put(uint8_t version, uint8_t *dst, const struct frame *frame);

/* An IPv4 or IPv6 endpoint as it stands on the wire: family u8 (4, 6, or 0 for none), then address
 * and port u16. */
struct frame_addr {
    uint8_t family;
    uint8_t ip[16];
    uint16_t port;
};

/* Text fields point into the source on decoding (not terminated), into the caller's memory on
 * encoding. */
struct frame_text {
    const char *data;
    size_t size;
};

static inline struct frame_text frame_text_of(const char *text)
{
    return (struct frame_text){ .data = text, .size = strlen(text) };
}

/* What HELLO_OK begins with. What stood there before the first release was 0 or 1, so that a
 * peer of that time is known by it. */
#define FRAME_REVISION 2u

struct frame_hello {   /* HELLO */
    uint32_t caps;     /* v1: low half of the u64 */
    uint16_t workers;  /* of the client */
    uint16_t lanes;    /* wanted; 0: as many as the server offers */
    uint32_t window;   /* bytes: initial receive window of every stream of the session, this side */
    uint32_t max_data; /* bytes: longest DATA payload this side takes */
    struct frame_text agent; /* v1: the expose address */
    /* v2: tells this client from all others, the same after a restart; may be empty */
    struct frame_text client;
    const uint8_t *nonce; /* v2: FRAME_NONCE_SIZE bytes; NULL on decoding: an older revision */
};

struct frame_hello_ok {   /* HELLO_OK, v2 */
    const uint8_t *nonce; /* FRAME_NONCE_SIZE bytes; NULL on decoding: another revision */
};

/* How far TLS reaches: what the proof is bound to. */
#define FRAME_BOUND_NOT      0u /* this connection is plain for its sender */
#define FRAME_BOUND_EXPORTER 1u /* RFC 9266: tls-exporter */

struct frame_auth {       /* AUTH, v2 */
    const uint8_t *id;    /* FRAME_ID_SIZE bytes: the token's public name */
    const uint8_t *proof; /* FRAME_PROOF_SIZE bytes */
    uint8_t bound;        /* FRAME_BOUND_* */
};

struct frame_auth_ok {    /* AUTH_OK, v2 */
    const uint8_t *proof; /* FRAME_PROOF_SIZE bytes: the server's */
    uint32_t caps;
    uint16_t lanes; /* the session may have */
    uint32_t window;
    uint32_t max_data;
    uint32_t slots; /* the low 20 bits of a stream id are below this */
    uint64_t session;
    struct frame_text agent;
};

struct frame_bind {
    uint16_t tunnel; /* index chosen by the client, 0, 1, 2, ... */
    uint16_t port;   /* wanted public port, 0: any */
    uint32_t options;
    struct frame_text name;
    struct frame_text origin;
    struct frame_text ticket; /* of an earlier BIND_OK; may be empty */
};

struct frame_bind_ok {
    uint16_t tunnel;
    uint16_t port;
    struct frame_text host;   /* public address as text, may be empty */
    struct frame_text ticket; /* gives the port back later; may be empty */
};

struct frame_error { /* AUTH_ERR, GOAWAY; BIND_ERR with tunnel */
    uint16_t tunnel;
    uint16_t code; /* reason_code() */
    struct frame_text text;
};

struct frame_join {
    uint64_t session;
    uint16_t lane;
    uint16_t flags;    /* FRAME_JOIN_RESUME */
    uint64_t rx_bytes; /* resume: bytes of the lane received so far */
    uint8_t bound;     /* FRAME_BOUND_* */
    uint8_t proof[FRAME_PROOF_SIZE];
};
#define FRAME_JOIN_RESUME 0x0001u
/* Capability: this side keeps what it sent and resumes lanes. */
#define FRAME_CAP_RESUME 0x00000001u
/* AUTH_OK: the session may have as many lanes again, where the client wants them. */
#define FRAME_CAP_SPARE 0x00000002u

struct frame_join_ok {
    uint16_t lane;
    uint64_t rx_bytes;
    uint8_t proof[FRAME_PROOF_SIZE]; /* the server's */
};

struct frame_ping {    /* PING, PONG (echoes time) */
    uint64_t time;     /* the sender's clock, nanoseconds; opaque to the peer */
    uint64_t rx_bytes; /* bytes of the lane received and handled so far */
};

struct frame_open {
    uint16_t tunnel;
    struct frame_addr visitor;
    struct frame_addr local; /* the public endpoint the visitor came to */
};

/* Whole-frame encoders (header and payload); each returns the advanced pointer. v1 forms where the
 * wire has them. */
uint8_t *frame_put_hello(uint8_t version, uint8_t *dst, const struct frame_hello *m);
uint8_t *frame_put_hello_ok(uint8_t version, uint8_t *dst, const struct frame_hello_ok *m);
uint8_t *frame_put_auth(uint8_t *dst, const struct frame_auth *m);
uint8_t *frame_put_auth_v1(uint8_t *dst, const void *token, size_t size);
uint8_t *frame_put_auth_ok(uint8_t version, uint8_t *dst, const struct frame_auth_ok *m);
uint8_t *frame_put_auth_err(uint8_t version, uint8_t *dst, const struct frame_error *m);
uint8_t *frame_put_bind(uint8_t *dst, const struct frame_bind *m);
uint8_t *frame_put_bind_ok(uint8_t version, uint8_t *dst, const struct frame_bind_ok *m);
uint8_t *frame_put_bind_err(uint8_t *dst, const struct frame_error *m);
uint8_t *frame_put_join(uint8_t *dst, const struct frame_join *m);
uint8_t *frame_put_join_ok(uint8_t *dst, const struct frame_join_ok *m);
uint8_t *frame_put_goaway(uint8_t version, uint8_t *dst, const struct frame_error *m);
uint8_t *frame_put_ping(uint8_t version, uint8_t *dst,
                        const struct frame_ping *m); /* v1: Heartbeat */
uint8_t *frame_put_pong(uint8_t *dst, const struct frame_ping *m);
uint8_t *frame_put_open(uint8_t version, uint8_t *dst, uint32_t stream, const struct frame_open *m);
uint8_t *frame_put_window(uint8_t *dst, uint32_t stream, uint32_t increment);
uint8_t *frame_put_reset(uint8_t *dst, uint32_t stream, uint16_t code);
uint8_t *frame_put_close(uint8_t *dst, uint32_t stream); /* v1 StreamClose */

/* Payload decoders: [src, end) is exactly the payload. False: malformed. Trailing bytes that a
 * later version may add are ignored on v2 (forward compatibility), refused on v1. */
bool frame_get_hello(uint8_t version, const uint8_t *src, const uint8_t *end,
                     struct frame_hello *m);
bool frame_get_hello_ok(const uint8_t *src, const uint8_t *end, struct frame_hello_ok *m);
bool frame_get_auth(const uint8_t *src, const uint8_t *end, struct frame_auth *m);
bool frame_get_auth_ok(const uint8_t *src, const uint8_t *end, struct frame_auth_ok *m);
bool frame_get_error(
    uint8_t version, enum frame_kind kind, const uint8_t *src, const uint8_t *end,
    struct frame_error *m); /* AUTH_ERR (v1: text only, code AUTH_FAILED), GOAWAY (v1: Error) */
bool frame_get_bind(const uint8_t *src, const uint8_t *end, struct frame_bind *m);
bool frame_get_bind_ok(uint8_t version, const uint8_t *src, const uint8_t *end,
                       struct frame_bind_ok *m);
bool frame_get_bind_err(const uint8_t *src, const uint8_t *end, struct frame_error *m);
bool frame_get_join(const uint8_t *src, const uint8_t *end, struct frame_join *m);
bool frame_get_join_ok(const uint8_t *src, const uint8_t *end, struct frame_join_ok *m);
bool frame_get_ping(const uint8_t *src, const uint8_t *end, struct frame_ping *m);
bool frame_get_open(const uint8_t *src, const uint8_t *end, struct frame_open *m);
bool frame_get_window(const uint8_t *src, const uint8_t *end,
                      uint32_t *increment); /* 0 is malformed */
bool frame_get_reset(const uint8_t *src, const uint8_t *end, uint16_t *code);

#endif
