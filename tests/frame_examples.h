/*
 * frame_examples: the frames that docs/PROTOCOL.md shows, built with the encoders.
 *
 * put_example() writes the example of a name; example_names has them all. Include from one Check program.
 */
#ifndef CULVERT_TESTS_FRAME_EXAMPLES_H
#define CULVERT_TESTS_FRAME_EXAMPLES_H

#include <check.h>
#include <string.h>

#include "core/frame.h"
#include "core/reason.h"

#define TEXT(s)          \
    {                    \
        s, sizeof(s) - 1 \
    }

static const uint8_t secret[FRAME_SECRET_SIZE] = {
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
};

#define STREAM_A 0x00100005u /* generation 1, slot 5 */

static uint8_t *put_data(uint8_t version, uint8_t *dst, uint32_t stream, uint16_t flags,
                         const char *text)
{
    struct frame frame = { FRAME_DATA, flags, stream, (uint32_t)strlen(text) };

    dst = frame_put(version, dst, &frame);
    memcpy(dst, text, frame.length);
    return dst + frame.length;
}

static uint8_t *put_hello(uint8_t version, uint8_t *dst)
{
    static const struct frame_hello v1 = { .agent = TEXT("localhost:3000") };
    static const struct frame_hello v2 = {
        .workers = 2, .window = 1u << 20, .max_data = 1u << 18, .agent = TEXT("culvert 0.1.0")
    };

    return frame_put_hello(version, dst, version == FRAME_V1 ? &v1 : &v2);
}

static uint8_t *put_hello_ok(uint8_t *dst)
{
    static const struct frame_hello_ok m = { .lanes = 2,
                                             .window = 1u << 20,
                                             .max_data = 1u << 18,
                                             .slots = 32768,
                                             .session = 0x1122334455667788,
                                             .agent = TEXT("culvert 0.1.0") };

    return frame_put_hello_ok(FRAME_V2, dst, &m);
}

static uint8_t *put_auth_err(uint8_t version, uint8_t *dst)
{
    static const struct frame_error m = { .code = 37, .text = TEXT("authentication failed") };

    return frame_put_auth_err(version, dst, &m);
}

static uint8_t *put_bind(uint8_t *dst)
{
    static const struct frame_bind m = { .port = 10000,
                                         .name = TEXT("web"),
                                         .origin = TEXT("localhost:3000") };

    return frame_put_bind(dst, &m);
}

static uint8_t *put_bind_ok(uint8_t version, uint8_t *dst)
{
    static const struct frame_bind_ok m = { .port = 10000, .host = TEXT("tunnel.example") };

    return frame_put_bind_ok(version, dst, &m);
}

static uint8_t *put_bind_err(uint8_t *dst)
{
    static const struct frame_error m = { 1, 49, TEXT("the port is in use") };

    return frame_put_bind_err(dst, &m);
}

static uint8_t *put_join(uint8_t *dst)
{
    struct frame_join m = { .session = 0x1122334455667788, .lane = 1 };

    memcpy(m.secret, secret, sizeof(secret));
    return frame_put_join(dst, &m);
}

static uint8_t *put_join_ok(uint8_t *dst)
{
    static const struct frame_join_ok m = { .lane = 1 };

    return frame_put_join_ok(dst, &m);
}

static uint8_t *put_goaway(uint8_t version, uint8_t *dst)
{
    static const struct frame_error m = { .code = 46, .text = TEXT("shutting down") };

    return frame_put_goaway(version, dst, &m);
}

static uint8_t *put_ping(uint8_t version, uint8_t *dst)
{
    static const struct frame_ping m = { 1000000000, 65536 };

    return frame_put_ping(version, dst, &m);
}

static uint8_t *put_pong(uint8_t *dst)
{
    static const struct frame_ping m = { 1000000000, 4096 };

    return frame_put_pong(dst, &m);
}

static uint8_t *put_open(uint8_t *dst)
{
    static const struct frame_open m = {
        .visitor = { 4, { 203, 0, 113, 7 }, 50000 },
        .local = { 4, { 198, 51, 100, 1 }, 10000 },
    };

    return frame_put_open(FRAME_V2, dst, STREAM_A, &m);
}

static uint8_t *put_open_ipv6(uint8_t *dst)
{
    static const struct frame_open m = {
        .tunnel = 1,
        .visitor = { 6, { 0x20, 0x01, 0x0d, 0xb8, [15] = 7 }, 50001 },
    };

    return frame_put_open(FRAME_V2, dst, STREAM_A + 1, &m);
}

/* Writes the example of that name to dst; NULL if there is none. */
static uint8_t *put_example_v1(const char *name, uint8_t *dst)
{
    if (strcmp(name, "v1-handshake") == 0)
        return put_hello(FRAME_V1, dst);
    if (strcmp(name, "v1-handshake-ack") == 0)
        return frame_put_hello_ok(FRAME_V1, dst, NULL);
    if (strcmp(name, "v1-auth") == 0)
        return frame_put_auth(FRAME_V1, dst, "dev-token", 9);
    if (strcmp(name, "v1-auth-ok") == 0)
        return frame_put_auth_ok(FRAME_V1, dst, NULL);
    if (strcmp(name, "v1-auth-err") == 0)
        return put_auth_err(FRAME_V1, dst);
    if (strcmp(name, "v1-bind-ok") == 0)
        return put_bind_ok(FRAME_V1, dst);
    if (strcmp(name, "v1-stream-open") == 0)
        return frame_put_open(FRAME_V1, dst, 1, NULL);
    if (strcmp(name, "v1-stream-data") == 0)
        return put_data(FRAME_V1, dst, 1, 0, "hello");
    if (strcmp(name, "v1-stream-close") == 0)
        return frame_put_close(dst, 1);
    if (strcmp(name, "v1-heartbeat") == 0)
        return frame_put_ping(FRAME_V1, dst, NULL);
    if (strcmp(name, "v1-error") == 0)
        return put_goaway(FRAME_V1, dst);
    return NULL;
}

static uint8_t *put_example_control(const char *name, uint8_t *dst)
{
    if (strcmp(name, "hello") == 0)
        return put_hello(FRAME_V2, dst);
    if (strcmp(name, "hello-ok") == 0)
        return put_hello_ok(dst);
    if (strcmp(name, "auth") == 0)
        return frame_put_auth(FRAME_V2, dst, "dev-token", 9);
    if (strcmp(name, "auth-ok") == 0)
        return frame_put_auth_ok(FRAME_V2, dst, secret);
    if (strcmp(name, "auth-err") == 0)
        return put_auth_err(FRAME_V2, dst);
    if (strcmp(name, "bind") == 0)
        return put_bind(dst);
    if (strcmp(name, "bind-ok") == 0)
        return put_bind_ok(FRAME_V2, dst);
    if (strcmp(name, "bind-err") == 0)
        return put_bind_err(dst);
    if (strcmp(name, "join") == 0)
        return put_join(dst);
    if (strcmp(name, "join-ok") == 0)
        return put_join_ok(dst);
    if (strcmp(name, "goaway") == 0)
        return put_goaway(FRAME_V2, dst);
    if (strcmp(name, "ping") == 0)
        return put_ping(FRAME_V2, dst);
    if (strcmp(name, "pong") == 0)
        return put_pong(dst);
    return NULL;
}

static uint8_t *put_example_stream(const char *name, uint8_t *dst)
{
    if (strcmp(name, "open") == 0)
        return put_open(dst);
    if (strcmp(name, "open-ipv6") == 0)
        return put_open_ipv6(dst);
    if (strcmp(name, "data") == 0)
        return put_data(FRAME_V2, dst, STREAM_A, 0, "hello");
    if (strcmp(name, "data-fin") == 0)
        return put_data(FRAME_V2, dst, STREAM_A, FRAME_FLAG_FIN, "bye");
    if (strcmp(name, "fin") == 0)
        return put_data(FRAME_V2, dst, STREAM_A, FRAME_FLAG_FIN, "");
    if (strcmp(name, "window") == 0)
        return frame_put_window(dst, STREAM_A, 524288);
    if (strcmp(name, "reset") == 0)
        return frame_put_reset(dst, STREAM_A, reason_code(REASON_ORIGIN_REFUSED));
    return NULL;
}

static const char *const example_names[] = {
    "v1-handshake",
    "v1-handshake-ack",
    "v1-auth",
    "v1-auth-ok",
    "v1-auth-err",
    "v1-bind-ok",
    "v1-stream-open",
    "v1-stream-data",
    "v1-stream-close",
    "v1-heartbeat",
    "v1-error",
    "hello",
    "hello-ok",
    "auth",
    "auth-ok",
    "auth-err",
    "bind",
    "bind-ok",
    "bind-err",
    "join",
    "join-ok",
    "goaway",
    "ping",
    "pong",
    "open",
    "open-ipv6",
    "data",
    "data-fin",
    "fin",
    "window",
    "reset",
};

static size_t put_example(const char *name, uint8_t *dst)
{
    uint8_t *to = put_example_v1(name, dst);

    if (to == NULL)
        to = put_example_control(name, dst);
    if (to == NULL)
        to = put_example_stream(name, dst);
    ck_assert_msg(to != NULL, "docs/PROTOCOL.md has an example \"%s\" that this test cannot build",
                  name);
    return (size_t)(to - dst);
}

#endif
