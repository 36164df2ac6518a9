/*
 * frame_any: decodes the payload of any frame and encodes it again, for tests and fuzzing.
 *
 * What a decoder takes, its encoder must be able to say, and saying it twice must give the same
 * bytes.
 */
#ifndef CULVERT_TESTS_FRAME_ANY_H
#define CULVERT_TESTS_FRAME_ANY_H

#include "core/base/base.h"
#include "core/wire/frame.h"

/* Handshake frames: their size once encoded again into dst, 0 if malformed. */
static inline uint8_t *frame_any_handshake(uint8_t version, enum frame_kind kind,
                                           const uint8_t *src, const uint8_t *end, uint8_t *dst)
{
    union {
        struct frame_hello hello;
        struct frame_hello_ok hello_ok;
        struct frame_auth auth;
        struct frame_auth_ok auth_ok;
        struct frame_error error;
    } m;

    switch (kind) {
    case FRAME_HELLO:
        return frame_get_hello(version, src, end, &m.hello) &&
                       (version == FRAME_V1 || m.hello.nonce != NULL)
                   ? frame_put_hello(version, dst, &m.hello)
                   : NULL;
    case FRAME_HELLO_OK:
        if (version == FRAME_V1)
            return frame_put_hello_ok(version, dst, NULL);
        return frame_get_hello_ok(src, end, &m.hello_ok) && m.hello_ok.nonce != NULL
                   ? frame_put_hello_ok(version, dst, &m.hello_ok)
                   : NULL;
    case FRAME_AUTH:
        if (version == FRAME_V1)
            return frame_put_auth_v1(dst, src, min_size((size_t)(end - src), FRAME_TOKEN_MAX));
        return frame_get_auth(src, end, &m.auth) ? frame_put_auth(dst, &m.auth) : NULL;
    case FRAME_AUTH_OK:
        if (version == FRAME_V1)
            return frame_put_auth_ok(version, dst, NULL);
        return frame_get_auth_ok(src, end, &m.auth_ok) ? frame_put_auth_ok(version, dst, &m.auth_ok)
                                                       : NULL;
    default: /* AUTH_ERR */
        return frame_get_error(version, kind, src, end, &m.error)
                   ? frame_put_auth_err(version, dst, &m.error)
                   : NULL;
    }
}

/* Frames of tunnels, lanes and liveness. */
static inline uint8_t *frame_any_control(uint8_t version, enum frame_kind kind, const uint8_t *src,
                                         const uint8_t *end, uint8_t *dst)
{
    union {
        struct frame_bind bind;
        struct frame_bind_ok bind_ok;
        struct frame_error error;
        struct frame_join join;
        struct frame_join_ok join_ok;
        struct frame_ping ping;
    } m;

    switch (kind) {
    case FRAME_BIND:
        return frame_get_bind(src, end, &m.bind) ? frame_put_bind(dst, &m.bind) : NULL;
    case FRAME_BIND_OK:
        return frame_get_bind_ok(version, src, end, &m.bind_ok)
                   ? frame_put_bind_ok(version, dst, &m.bind_ok)
                   : NULL;
    case FRAME_BIND_ERR:
        return frame_get_bind_err(src, end, &m.error) ? frame_put_bind_err(dst, &m.error) : NULL;
    case FRAME_JOIN:
        return frame_get_join(src, end, &m.join) ? frame_put_join(dst, &m.join) : NULL;
    case FRAME_JOIN_OK:
        return frame_get_join_ok(src, end, &m.join_ok) ? frame_put_join_ok(dst, &m.join_ok) : NULL;
    case FRAME_GOAWAY:
        return frame_get_error(version, kind, src, end, &m.error)
                   ? frame_put_goaway(version, dst, &m.error)
                   : NULL;
    case FRAME_PING:
        if (version == FRAME_V1)
            return frame_put_ping(version, dst, NULL);
        return frame_get_ping(src, end, &m.ping) ? frame_put_ping(version, dst, &m.ping) : NULL;
    default: /* PONG */
        return frame_get_ping(src, end, &m.ping) ? frame_put_pong(dst, &m.ping) : NULL;
    }
}

/* Frames of streams. DATA has no fields: its header is written again. */
static inline uint8_t *frame_any_stream(uint8_t version, const struct frame *frame,
                                        const uint8_t *src, const uint8_t *end, uint8_t *dst)
{
    struct frame_open open;
    uint32_t increment;
    uint16_t code;

    switch (frame->kind) {
    case FRAME_OPEN:
        if (version == FRAME_V1)
            return frame_put_open(version, dst, frame->stream, NULL);
        return frame_get_open(src, end, &open) ? frame_put_open(version, dst, frame->stream, &open)
                                               : NULL;
    case FRAME_WINDOW:
        return frame_get_window(src, end, &increment)
                   ? frame_put_window(dst, frame->stream, increment)
                   : NULL;
    case FRAME_RESET:
        return frame_get_reset(src, end, &code) ? frame_put_reset(dst, frame->stream, code) : NULL;
    case FRAME_CLOSE:
        return frame_put_close(dst, frame->stream);
    default: /* DATA */
        return frame_put(version, dst, frame);
    }
}

/* `frame` came from frame_get(), [src, end) is its payload. Writes at most FRAME_CONTROL_MAX bytes
 * to dst and returns how many, 0 if the payload is malformed. */
static inline size_t frame_any_again(uint8_t version, const struct frame *frame, const uint8_t *src,
                                     const uint8_t *end, uint8_t *dst)
{
    uint8_t *to;

    if (frame->stream != 0)
        to = frame_any_stream(version, frame, src, end, dst);
    else if (frame->kind <= FRAME_AUTH_ERR)
        to = frame_any_handshake(version, frame->kind, src, end, dst);
    else
        to = frame_any_control(version, frame->kind, src, end, dst);
    return to != NULL ? (size_t)(to - dst) : 0;
}

#endif
