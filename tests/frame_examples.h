/*
 * frame_examples: the frames that docs/PROTOCOL.md shows, built with the encoders.
 *
 * put_example() writes the example of a name; example_names has them all. Include from one Check
 * program.
 */
#ifndef CULVERT_TESTS_FRAME_EXAMPLES_H
#define CULVERT_TESTS_FRAME_EXAMPLES_H

#include <check.h>
#include <string.h>

#include "core/wire/frame.h"
#include "core/wire/reason.h"

#define TEXT(s)          \
    {                    \
        s, sizeof(s) - 1 \
    }

/* 0, 1, 2, ... */
static const uint8_t numbers[2 * FRAME_NONCE_SIZE] = {
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
    0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f,
    0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
};

/* Proofs, as another implementation makes them (tests/e2e/v2wire.py); test_scram.c makes them
 * again. */
static const uint8_t example_id[FRAME_ID_SIZE] = {
    0x1f, 0x3f, 0x6c, 0xfe, 0x3c, 0x8c, 0x51, 0xb4, 0x15, 0xa1, 0xe4, 0xa8, 0xd7, 0x5c, 0x65, 0x74,
};
static const uint8_t example_auth[FRAME_PROOF_SIZE] = {
    0xfb, 0x86, 0xa2, 0x03, 0xdd, 0xbe, 0x0d, 0xb1, 0xc0, 0x56, 0x95, 0xc3, 0x00, 0xc9, 0xdf, 0x52,
    0xc6, 0xe9, 0x47, 0x5d, 0x80, 0x54, 0xc6, 0x54, 0x30, 0xe4, 0x8b, 0x17, 0x3d, 0x8c, 0xf9, 0x51,
};
static const uint8_t example_auth_ok[FRAME_PROOF_SIZE] = {
    0xa1, 0xcd, 0x86, 0x42, 0x02, 0x0c, 0x19, 0x6b, 0xc0, 0xa8, 0xcc, 0x86, 0x09, 0x82, 0x4b, 0xf7,
    0xaa, 0x04, 0x32, 0xce, 0x36, 0x07, 0x65, 0x8d, 0x32, 0xee, 0x95, 0x97, 0xa4, 0x98, 0x72, 0x7b,
};
static const uint8_t example_join[FRAME_PROOF_SIZE] = {
    0xbe, 0xda, 0xcd, 0x9b, 0xd9, 0x44, 0x95, 0x0a, 0x1a, 0x6d, 0xa5, 0x29, 0x44, 0xdf, 0x64, 0x88,
    0x18, 0x33, 0x3b, 0x09, 0x5f, 0x80, 0xd8, 0xae, 0x5f, 0x4d, 0x4f, 0x09, 0x43, 0xfd, 0x07, 0x5d,
};
static const uint8_t example_join_ok[FRAME_PROOF_SIZE] = {
    0x22, 0x43, 0x51, 0x15, 0xab, 0x61, 0xcb, 0x0e, 0x47, 0x17, 0x41, 0x56, 0x45, 0x3d, 0xa4, 0x79,
    0xbe, 0x35, 0x28, 0xeb, 0xec, 0xd9, 0x86, 0x6a, 0x60, 0xb3, 0x06, 0xfa, 0x72, 0xc2, 0xf2, 0x14,
};
#define EXAMPLE_SESSION UINT64_C(0x1122334455667788)

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
        .workers = 2,
        .window = 1u << 20,
        .max_data = 1u << 18,
        .agent = TEXT("culvert 0.1.0"),
        .client = TEXT(""),
        .nonce = numbers,
    };

    return frame_put_hello(version, dst, version == FRAME_V1 ? &v1 : &v2);
}

static uint8_t *put_hello_ok(uint8_t *dst)
{
    static const struct frame_hello_ok m = { .nonce = numbers + FRAME_NONCE_SIZE };

    return frame_put_hello_ok(FRAME_V2, dst, &m);
}

static uint8_t *put_auth(uint8_t *dst)
{
    static const struct frame_auth m = { .id = example_id, .proof = example_auth };

    return frame_put_auth(dst, &m);
}

static uint8_t *put_auth_ok(uint8_t *dst)
{
    static const struct frame_auth_ok m = { .proof = example_auth_ok,
                                            .lanes = 2,
                                            .window = 1u << 20,
                                            .max_data = 1u << 18,
                                            .slots = 32768,
                                            .session = EXAMPLE_SESSION,
                                            .agent = TEXT("culvert 0.1.0") };

    return frame_put_auth_ok(FRAME_V2, dst, &m);
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
    struct frame_join m = { .session = EXAMPLE_SESSION, .lane = 1 };

    memcpy(m.proof, example_join, sizeof(m.proof));
    return frame_put_join(dst, &m);
}

static uint8_t *put_join_ok(uint8_t *dst)
{
    struct frame_join_ok m = { .lane = 1 };

    memcpy(m.proof, example_join_ok, sizeof(m.proof));
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
        return frame_put_auth_v1(dst, "dev-token", 9);
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
        return put_auth(dst);
    if (strcmp(name, "auth-ok") == 0)
        return put_auth_ok(dst);
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
