/*
 * Frames: golden bytes, round trips, truncation at every byte, every limit, random mutation.
 *
 * The golden bytes of both wires are the examples of docs/PROTOCOL.md: blocks that start with
 * ```frame NAME. This test reads that file, builds every example with the encoders and compares, so
 * the document cannot lie. (The v1 examples were compared with what a deployed v1 peer sends.)
 */
#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/wire/frame.h"
#include "core/wire/reason.h"
#include "frame_any.h"
#include "frame_examples.h"

static uint64_t random_state = 88172645463325252u;

static uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t random_below(size_t limit)
{
    return (size_t)(random_u64() % limit);
}

/* The examples of the document */

static FILE *open_document(void)
{
    const char *root = getenv("CULVERT_SOURCE_DIR");
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/docs/PROTOCOL.md", root != NULL ? root : ".");
    file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s: cannot open; run from the source or set CULVERT_SOURCE_DIR",
                  path);
    return file;
}

/* Appends the hex pairs of one line, up to a '#'. */
static size_t read_hex(const char *line, uint8_t *dst, size_t size, size_t max)
{
    while (*line != '#' && *line != '\0') {
        char pair[3] = { line[0], line[1], '\0' };

        if (isspace((unsigned char)*line)) {
            line++;
            continue;
        }
        ck_assert_msg(isxdigit((unsigned char)line[0]) && isxdigit((unsigned char)line[1]),
                      "not a byte: %s", line);
        ck_assert_uint_lt(size, max);
        dst[size++] = (uint8_t)strtoul(pair, NULL, 16);
        line += 2;
    }
    return size;
}

static void print_hex(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        fprintf(stderr, "%02x%s", bytes[i], i % 16 == 15 || i + 1 == size ? "\n" : " ");
}

static void check_example(FILE *file, const char *name)
{
    uint8_t told[2048], built[FRAME_CONTROL_MAX];
    size_t told_size = 0, built_size = put_example(name, built);
    char line[512];

    while (fgets(line, sizeof(line), file) != NULL && strncmp(line, "```", 3) != 0)
        told_size = read_hex(line, told, told_size, sizeof(told));
    if (told_size != built_size || memcmp(told, built, built_size) != 0) {
        fprintf(stderr, "%s, as the encoders write it:\n", name);
        print_hex(built, built_size);
        ck_abort_msg("docs/PROTOCOL.md: the example \"%s\" is not what the encoders write", name);
    }
}

START_TEST(the_examples_of_the_document_are_true)
{
    bool seen[ARRAY_SIZE(example_names)] = { false };
    FILE *file = open_document();
    char line[512], name[64];

    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "```frame %63s", name) != 1)
            continue;
        check_example(file, name);
        for (size_t i = 0; i < ARRAY_SIZE(example_names); i++)
            seen[i] |= strcmp(example_names[i], name) == 0;
    }
    fclose(file);
    for (size_t i = 0; i < ARRAY_SIZE(example_names); i++)
        ck_assert_msg(seen[i], "docs/PROTOCOL.md has no example \"%s\"", example_names[i]);
}
END_TEST

/* The same in the source, for what must never move: a deployed v1 client's own first frame. */
START_TEST(v1_handshake_as_a_deployed_peer_sends_it)
{
    static const uint8_t wire[] = "\x01\x01\x00\x00\x00\x00\x00\x00\x00\x1a"
                                  "\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x0f"
                                  "127.0.0.1:19310";
    struct frame_hello m = { .agent = TEXT("127.0.0.1:19310") };
    uint8_t built[FRAME_CONTROL_MAX];
    struct frame frame;

    ck_assert_uint_eq((size_t)(frame_put_hello(FRAME_V1, built, &m) - built), sizeof(wire) - 1);
    ck_assert_mem_eq(built, wire, sizeof(wire) - 1);
    ck_assert_int_eq(frame_get(FRAME_V1, wire, wire + sizeof(wire) - 1, &frame), FRAME_OK);
    ck_assert_int_eq(frame.kind, FRAME_HELLO);
    ck_assert(frame_get_hello(FRAME_V1, wire + 10, wire + 36, &m));
    ck_assert_uint_eq(m.caps, 1);
    ck_assert_uint_eq(m.agent.size, 15);
    ck_assert_mem_eq(m.agent.data, "127.0.0.1:19310", 15);
    ck_assert_uint_eq(m.max_data, FRAME_PAYLOAD_MAX);
    ck_assert_uint_eq(m.window, 0);
}
END_TEST

/* Headers */

static const struct {
    enum frame_kind kind;
    uint8_t v1, v2;
    bool stream;
    uint32_t min1, max1, min2, max2;
} kinds[] = {
    { FRAME_HELLO, 1, 1, false, 11, 67584, 18, 4096 },
    { FRAME_HELLO_OK, 2, 2, false, 0, 0, 28, 4096 },
    { FRAME_AUTH, 3, 3, false, 1, 67584, 49, 4096 },
    { FRAME_AUTH_OK, 4, 4, false, 0, 0, 60, 4096 },
    { FRAME_AUTH_ERR, 5, 5, false, 0, 67584, 4, 4096 },
    { FRAME_BIND, 0, 6, false, 0, 0, 12, 4096 },
    { FRAME_BIND_OK, 6, 7, false, 2, 2, 6, 4096 },
    { FRAME_BIND_ERR, 0, 8, false, 0, 0, 6, 4096 },
    { FRAME_JOIN, 0, 9, false, 0, 0, 53, 4096 },
    { FRAME_JOIN_OK, 0, 10, false, 0, 0, 42, 4096 },
    { FRAME_GOAWAY, 11, 11, false, 2, 67584, 4, 4096 },
    { FRAME_PING, 10, 12, false, 0, 0, 16, 4096 },
    { FRAME_PONG, 0, 13, false, 0, 0, 16, 4096 },
    { FRAME_OPEN, 7, 16, true, 0, 0, 4, 4096 },
    { FRAME_DATA, 8, 17, true, 0, 16777216, 0, 16777216 },
    { FRAME_WINDOW, 0, 18, true, 0, 0, 4, 4 },
    { FRAME_RESET, 0, 19, true, 0, 0, 2, 4096 },
    { FRAME_CLOSE, 9, 0, true, 0, 0, 0, 0 },
};

/* A header written by hand, so that encoder and decoder cannot share a mistake. */
static size_t raw_header(uint8_t version, uint8_t *dst, uint8_t type, uint16_t flags,
                         uint32_t stream, uint32_t length)
{
    const uint8_t v1[] = { version,
                           type,
                           (uint8_t)(stream >> 24),
                           (uint8_t)(stream >> 16),
                           (uint8_t)(stream >> 8),
                           (uint8_t)stream,
                           (uint8_t)(length >> 24),
                           (uint8_t)(length >> 16),
                           (uint8_t)(length >> 8),
                           (uint8_t)length };

    if (version != FRAME_V2) {
        memcpy(dst, v1, sizeof(v1));
        return sizeof(v1);
    }
    memcpy(dst, v1, 2);
    dst[2] = (uint8_t)(flags >> 8);
    dst[3] = (uint8_t)flags;
    memcpy(dst + 4, v1 + 2, 8);
    return 12;
}

static enum frame_result get_raw(uint8_t version, uint8_t type, uint32_t stream, uint32_t length,
                                 struct frame *out)
{
    uint8_t header[FRAME_HEADER_MAX];
    size_t size = raw_header(version, header, type, 0x8001, stream, length);

    return frame_get(version, header, header + size, out);
}

static void check_limits(uint8_t version, enum frame_kind kind, uint8_t type, uint32_t stream,
                         uint32_t min, uint32_t max)
{
    struct frame frame;

    ck_assert_int_eq(get_raw(version, type, stream, min, &frame), FRAME_OK);
    ck_assert_int_eq(frame.kind, kind);
    ck_assert_uint_eq(frame.length, min);
    ck_assert_uint_eq(frame.flags, version == FRAME_V1 ? 0 : 0x8001);
    ck_assert_uint_eq(frame.stream, stream);
    ck_assert_int_eq(get_raw(version, type, stream, max, &frame), FRAME_OK);
    ck_assert_uint_eq(frame.length, max);
    ck_assert_int_eq(get_raw(version, type, stream, max + 1, &frame), FRAME_TOO_LONG);
    ck_assert_int_eq(get_raw(version, type, stream, UINT32_MAX, &frame), FRAME_TOO_LONG);
    if (min > 0)
        ck_assert_int_eq(get_raw(version, type, stream, min - 1, &frame), FRAME_TOO_SHORT);
    ck_assert_int_eq(get_raw(version, type, stream != 0 ? 0 : 7, min, &frame), FRAME_BAD_STREAM);
}

START_TEST(every_kind_has_its_type_and_limits)
{
    ck_assert_uint_eq(ARRAY_SIZE(kinds), FRAME_KIND_COUNT);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        uint32_t stream = kinds[i].stream ? 0xfedcba98 : 0;

        ck_assert_uint_eq(kinds[i].kind, i);
        if (kinds[i].v1 != 0)
            check_limits(FRAME_V1, kinds[i].kind, kinds[i].v1, stream, kinds[i].min1,
                         kinds[i].max1);
        if (kinds[i].v2 != 0)
            check_limits(FRAME_V2, kinds[i].kind, kinds[i].v2, stream, kinds[i].min2,
                         kinds[i].max2);
    }
}
END_TEST

START_TEST(all_other_types_are_refused)
{
    for (uint8_t version = FRAME_V1; version <= FRAME_V2; version++)
        for (unsigned type = 0; type < 256; type++) {
            bool known = false;
            struct frame frame;

            for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                known |= type != 0 && (version == FRAME_V1 ? kinds[i].v1 : kinds[i].v2) == type;
            if (!known)
                ck_assert_int_eq(get_raw(version, (uint8_t)type, 1, 0, &frame), FRAME_BAD_TYPE);
            else
                ck_assert_int_ne(get_raw(version, (uint8_t)type, 1, 0, &frame), FRAME_BAD_TYPE);
        }
}
END_TEST

START_TEST(a_wrong_version_shows_in_the_first_byte)
{
    struct frame frame = { FRAME_RESET, 1, 2, 3 };

    for (uint8_t version = FRAME_V1; version <= FRAME_V2; version++)
        for (unsigned byte = 0; byte < 256; byte++) {
            uint8_t src[1] = { (uint8_t)byte };

            ck_assert_int_eq(frame_get(version, src, src + 1, &frame),
                             byte == version ? FRAME_NEED_MORE : FRAME_BAD_VERSION);
        }
    ck_assert(frame.kind == FRAME_RESET && frame.flags == 1 && frame.stream == 2 &&
              frame.length == 3);
}
END_TEST

START_TEST(a_cut_header_needs_more)
{
    for (uint8_t version = FRAME_V1; version <= FRAME_V2; version++) {
        uint8_t header[FRAME_HEADER_MAX];
        size_t size = raw_header(version, header, version == FRAME_V1 ? 8 : 17, 0, 1, 5);
        struct frame frame;

        ck_assert_uint_eq(size, frame_header_size(version));
        for (size_t n = 0; n < size; n++) {
            uint8_t *cut = malloc(n + 1); /* + 1: malloc(0) */

            memcpy(cut, header, n);
            ck_assert_int_eq(frame_get(version, cut, cut + n, &frame), FRAME_NEED_MORE);
            free(cut);
        }
        ck_assert_int_eq(frame_get(version, header, header + size, &frame), FRAME_OK);
    }
}
END_TEST

START_TEST(headers_are_written_as_they_are_read)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        for (uint8_t version = FRAME_V1; version <= FRAME_V2; version++) {
            uint8_t type = version == FRAME_V1 ? kinds[i].v1 : kinds[i].v2;
            uint32_t length = version == FRAME_V1 ? kinds[i].max1 : kinds[i].max2;
            uint32_t stream = kinds[i].stream ? (uint32_t)random_u64() | 1 : 0;
            struct frame frame = { kinds[i].kind, version == FRAME_V1 ? 0 : 0xa5c3, stream,
                                   length };
            uint8_t expected[FRAME_HEADER_MAX], header[FRAME_HEADER_MAX];
            size_t size;

            if (type == 0)
                continue;
            size = raw_header(version, expected, type, frame.flags, stream, length);
            ck_assert_ptr_eq(frame_put(version, header, &frame), header + size);
            ck_assert_mem_eq(header, expected, size);
        }
}
END_TEST

/* Round trips */

static char random_text[300];

/* A text of random bytes, of a length that is often an edge. */
static struct frame_text some_text(void)
{
    static const size_t edges[] = { 0, 1, 254, 255, 256, 300 };
    size_t size = random_below(2) == 0 ? edges[random_below(ARRAY_SIZE(edges))] : random_below(40);

    for (size_t i = 0; i < sizeof(random_text); i++)
        random_text[i] = (char)random_u64();
    return (struct frame_text){ random_text, size };
}

static void check_text(struct frame_text got, struct frame_text put)
{
    ck_assert_uint_eq(got.size, min_size(put.size, FRAME_TEXT_MAX));
    ck_assert(got.size == 0 || memcmp(got.data, put.data, got.size) == 0);
}

/* Reads back the header that an encoder wrote into [dst, end) and returns where the payload
 * starts. */
static const uint8_t *check_header(uint8_t version, const uint8_t *dst, const uint8_t *end,
                                   enum frame_kind kind, uint32_t stream)
{
    struct frame frame;

    ck_assert_int_eq(frame_get(version, dst, end, &frame), FRAME_OK);
    ck_assert_int_eq(frame.kind, kind);
    ck_assert_uint_eq(frame.stream, stream);
    ck_assert_uint_eq(frame.flags, 0);
    ck_assert_uint_eq(frame.length, (size_t)(end - dst) - frame_header_size(version));
    ck_assert_uint_le((size_t)(end - dst), FRAME_CONTROL_MAX);
    return dst + frame_header_size(version);
}

#define ROUNDS 200

START_TEST(hello_round_trip)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct frame_hello put = { (uint32_t)random_u64(),
                                   (uint16_t)random_u64(),
                                   (uint16_t)random_u64(),
                                   (uint32_t)random_u64(),
                                   (uint32_t)random_u64(),
                                   some_text(),
                                   some_text(),
                                   numbers + random_below(FRAME_NONCE_SIZE) };
        struct frame_hello got;
        uint8_t dst[FRAME_CONTROL_MAX];
        const uint8_t *end = frame_put_hello(FRAME_V2, dst, &put);
        const uint8_t *payload = check_header(FRAME_V2, dst, end, FRAME_HELLO, 0);

        ck_assert(frame_get_hello(FRAME_V2, payload, end, &got));
        ck_assert_uint_eq(got.caps, put.caps);
        ck_assert_uint_eq(got.workers, put.workers);
        ck_assert_uint_eq(got.lanes, put.lanes);
        ck_assert_uint_eq(got.window, put.window);
        ck_assert_uint_eq(got.max_data, put.max_data);
        check_text(got.agent, put.agent);
        check_text(got.client, put.client);
        ck_assert_mem_eq(got.nonce, put.nonce, FRAME_NONCE_SIZE);
        /* Without all of its nonce it is a HELLO of an older revision. */
        ck_assert(frame_get_hello(FRAME_V2, payload, end - 1, &got));
        ck_assert_ptr_null(got.nonce);
        ck_assert(frame_get_hello(FRAME_V2, payload, end - FRAME_NONCE_SIZE, &got));
        ck_assert_ptr_null(got.nonce);
    }
}
END_TEST

START_TEST(hello_ok_round_trip)
{
    struct frame_hello_ok put = { .nonce = numbers + 7 }, got;
    uint8_t dst[FRAME_CONTROL_MAX];
    const uint8_t *end = frame_put_hello_ok(FRAME_V2, dst, &put);
    const uint8_t *payload = check_header(FRAME_V2, dst, end, FRAME_HELLO_OK, 0);

    ck_assert(frame_get_hello_ok(payload, end, &got));
    ck_assert_mem_eq(got.nonce, put.nonce, FRAME_NONCE_SIZE);
    ck_assert(!frame_get_hello_ok(payload, end - 1, &got));
    /* What an older or a later revision begins with. */
    for (uint8_t revision = 0; revision < 5; revision++) {
        dst[FRAME_V2_HEADER + 3] = revision;
        ck_assert(frame_get_hello_ok(payload, end, &got));
        ck_assert_int_eq(got.nonce != NULL, revision == FRAME_REVISION);
    }
}
END_TEST

START_TEST(auth_round_trip)
{
    static uint8_t token[FRAME_TOKEN_MAX];
    struct frame_auth put = { .id = numbers + 1, .proof = numbers + 17, .bound = 1 }, got;
    uint8_t dst[FRAME_CONTROL_MAX];
    const uint8_t *payload, *end;

    for (size_t i = 0; i < sizeof(token); i++)
        token[i] = (uint8_t)random_u64();
    for (size_t size = 1; size <= sizeof(token); size += 333) {
        end = frame_put_auth_v1(dst, token, size);
        payload = check_header(FRAME_V1, dst, end, FRAME_AUTH, 0);
        ck_assert_uint_eq((size_t)(end - payload), size);
        ck_assert_mem_eq(payload, token, size);
    }
    end = frame_put_auth(dst, &put);
    payload = check_header(FRAME_V2, dst, end, FRAME_AUTH, 0);
    ck_assert(frame_get_auth(payload, end, &got));
    ck_assert_mem_eq(got.id, put.id, FRAME_ID_SIZE);
    ck_assert_mem_eq(got.proof, put.proof, FRAME_PROOF_SIZE);
    ck_assert_uint_eq(got.bound, 1);
    ck_assert(!frame_get_auth(payload, end - 1, &got));
}
END_TEST

START_TEST(auth_ok_round_trip)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct frame_auth_ok put = { numbers + random_below(FRAME_PROOF_SIZE),
                                     (uint32_t)random_u64(),
                                     (uint16_t)random_u64(),
                                     (uint32_t)random_u64(),
                                     (uint32_t)random_u64(),
                                     (uint32_t)random_u64(),
                                     random_u64(),
                                     some_text() };
        struct frame_auth_ok got;
        uint8_t dst[FRAME_CONTROL_MAX];
        const uint8_t *end = frame_put_auth_ok(FRAME_V2, dst, &put);
        const uint8_t *payload = check_header(FRAME_V2, dst, end, FRAME_AUTH_OK, 0);

        ck_assert(frame_get_auth_ok(payload, end, &got));
        ck_assert_mem_eq(got.proof, put.proof, FRAME_PROOF_SIZE);
        ck_assert_uint_eq(got.caps, put.caps);
        ck_assert_uint_eq(got.lanes, put.lanes);
        ck_assert_uint_eq(got.window, put.window);
        ck_assert_uint_eq(got.max_data, put.max_data);
        ck_assert_uint_eq(got.slots, put.slots);
        ck_assert(got.session == put.session);
        check_text(got.agent, put.agent);
    }
}
END_TEST

START_TEST(errors_round_trip)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct frame_error put = { (uint16_t)random_u64(), (uint16_t)random_u64(), some_text() };
        uint8_t version = i % 2 == 0 ? FRAME_V1 : FRAME_V2;
        struct frame_error got;
        uint8_t dst[FRAME_CONTROL_MAX];
        const uint8_t *end = frame_put_auth_err(version, dst, &put);
        const uint8_t *payload = check_header(version, dst, end, FRAME_AUTH_ERR, 0);

        ck_assert(frame_get_error(version, FRAME_AUTH_ERR, payload, end, &got));
        ck_assert_uint_eq(got.code,
                          version == FRAME_V1 ? reason_code(REASON_AUTH_FAILED) : put.code);
        check_text(got.text, put.text);

        end = frame_put_goaway(version, dst, &put);
        payload = check_header(version, dst, end, FRAME_GOAWAY, 0);
        ck_assert(frame_get_error(version, FRAME_GOAWAY, payload, end, &got));
        ck_assert_uint_eq(got.code, put.code);
        ck_assert_uint_eq(got.tunnel, 0);
        check_text(got.text, put.text);

        end = frame_put_bind_err(dst, &put);
        payload = check_header(FRAME_V2, dst, end, FRAME_BIND_ERR, 0);
        ck_assert(frame_get_bind_err(payload, end, &got));
        ck_assert_uint_eq(got.tunnel, put.tunnel);
        ck_assert_uint_eq(got.code, put.code);
        check_text(got.text, put.text);
    }
}
END_TEST

START_TEST(bind_round_trip)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct frame_bind put = { (uint16_t)random_u64(),
                                  (uint16_t)random_u64(),
                                  (uint32_t)random_u64(),
                                  some_text(),
                                  some_text(),
                                  some_text() };
        struct frame_bind_ok put_ok = { put.tunnel, put.port, put.name, put.ticket };
        struct frame_bind got;
        struct frame_bind_ok got_ok;
        uint8_t dst[FRAME_CONTROL_MAX];
        const uint8_t *end = frame_put_bind(dst, &put);
        const uint8_t *payload = check_header(FRAME_V2, dst, end, FRAME_BIND, 0);

        ck_assert(frame_get_bind(payload, end, &got));
        ck_assert_uint_eq(got.tunnel, put.tunnel);
        ck_assert_uint_eq(got.port, put.port);
        ck_assert_uint_eq(got.options, put.options);
        check_text(got.name, put.name);
        check_text(got.origin, put.origin);
        check_text(got.ticket, put.ticket);

        end = frame_put_bind_ok(FRAME_V2, dst, &put_ok);
        payload = check_header(FRAME_V2, dst, end, FRAME_BIND_OK, 0);
        ck_assert(frame_get_bind_ok(FRAME_V2, payload, end, &got_ok));
        ck_assert_uint_eq(got_ok.tunnel, put.tunnel);
        ck_assert_uint_eq(got_ok.port, put.port);
        check_text(got_ok.host, put.name);
        check_text(got_ok.ticket, put.ticket);

        end = frame_put_bind_ok(FRAME_V1, dst, &put_ok);
        payload = check_header(FRAME_V1, dst, end, FRAME_BIND_OK, 0);
        ck_assert(frame_get_bind_ok(FRAME_V1, payload, end, &got_ok));
        ck_assert_uint_eq(got_ok.tunnel, 0);
        ck_assert_uint_eq(got_ok.port, put.port);
        ck_assert_uint_eq(got_ok.host.size, 0);
    }
}
END_TEST

START_TEST(join_round_trip)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct frame_join put = { .session = random_u64(),
                                  .lane = (uint16_t)random_u64(),
                                  .flags = (uint16_t)random_u64(),
                                  .rx_bytes = random_u64() };
        struct frame_join_ok put_ok = { .lane = put.lane, .rx_bytes = put.rx_bytes };
        struct frame_join got;
        struct frame_join_ok got_ok;
        uint8_t dst[FRAME_CONTROL_MAX];
        const uint8_t *end;

        put.bound = (uint8_t)random_u64();
        for (size_t j = 0; j < sizeof(put.proof); j++)
            put.proof[j] = put_ok.proof[j] = (uint8_t)random_u64();
        end = frame_put_join(dst, &put);
        ck_assert(frame_get_join(check_header(FRAME_V2, dst, end, FRAME_JOIN, 0), end, &got));
        ck_assert(got.session == put.session && got.lane == put.lane && got.flags == put.flags &&
                  got.rx_bytes == put.rx_bytes && got.bound == put.bound);
        ck_assert_mem_eq(got.proof, put.proof, sizeof(put.proof));

        end = frame_put_join_ok(dst, &put_ok);
        ck_assert(
            frame_get_join_ok(check_header(FRAME_V2, dst, end, FRAME_JOIN_OK, 0), end, &got_ok));
        ck_assert(got_ok.lane == put.lane && got_ok.rx_bytes == put.rx_bytes);
        ck_assert_mem_eq(got_ok.proof, put_ok.proof, sizeof(put_ok.proof));
    }
}
END_TEST

START_TEST(ping_round_trip)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct frame_ping put = { random_u64(), random_u64() };
        struct frame_ping got;
        uint8_t dst[FRAME_CONTROL_MAX];
        const uint8_t *end = frame_put_ping(FRAME_V2, dst, &put);

        ck_assert(frame_get_ping(check_header(FRAME_V2, dst, end, FRAME_PING, 0), end, &got));
        ck_assert(got.time == put.time && got.rx_bytes == put.rx_bytes);
        end = frame_put_pong(dst, &put);
        ck_assert(frame_get_ping(check_header(FRAME_V2, dst, end, FRAME_PONG, 0), end, &got));
        ck_assert(got.time == put.time && got.rx_bytes == put.rx_bytes);
    }
}
END_TEST

static struct frame_addr some_addr(void)
{
    static const uint8_t families[] = { 0, 4, 6 };
    struct frame_addr addr = { .family = families[random_below(3)] };

    for (size_t i = 0; i < (addr.family == 4 ? 4 : 16) && addr.family != 0; i++)
        addr.ip[i] = (uint8_t)random_u64();
    if (addr.family != 0)
        addr.port = (uint16_t)random_u64();
    return addr;
}

static void check_addr(const struct frame_addr *got, const struct frame_addr *put)
{
    ck_assert_uint_eq(got->family, put->family);
    ck_assert_uint_eq(got->port, put->port);
    ck_assert_mem_eq(got->ip, put->ip, sizeof(put->ip));
}

START_TEST(stream_frames_round_trip)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct frame_open put = { (uint16_t)random_u64(), some_addr(), some_addr() };
        uint32_t stream = (uint32_t)random_u64() | 1, put_u32 = (uint32_t)random_u64() | 1, got_u32;
        uint16_t put_code = (uint16_t)random_u64(), got_code;
        struct frame_open got;
        uint8_t dst[FRAME_CONTROL_MAX];
        const uint8_t *end = frame_put_open(FRAME_V2, dst, stream, &put);

        ck_assert(frame_get_open(check_header(FRAME_V2, dst, end, FRAME_OPEN, stream), end, &got));
        ck_assert_uint_eq(got.tunnel, put.tunnel);
        check_addr(&got.visitor, &put.visitor);
        check_addr(&got.local, &put.local);

        end = frame_put_window(dst, stream, put_u32);
        ck_assert(frame_get_window(check_header(FRAME_V2, dst, end, FRAME_WINDOW, stream), end,
                                   &got_u32));
        ck_assert_uint_eq(got_u32, put_u32);

        end = frame_put_reset(dst, stream, put_code);
        ck_assert(
            frame_get_reset(check_header(FRAME_V2, dst, end, FRAME_RESET, stream), end, &got_code));
        ck_assert_uint_eq(got_code, put_code);
    }
}
END_TEST

/* Truncation, extension, malformed payloads */

/* Decodes [src, src + size), moved into an allocation of exactly that size. */
static bool decodes(uint8_t version, enum frame_kind kind, uint32_t stream, const uint8_t *src,
                    size_t size)
{
    struct frame frame = { kind, 0, stream, (uint32_t)size };
    uint8_t *copy = malloc(size > 0 ? size : 1);
    uint8_t dst[FRAME_CONTROL_MAX];
    bool good;

    memcpy(copy, src, size);
    good = frame_any_again(version, &frame, copy, copy + size, dst) != 0;
    free(copy);
    return good;
}

/* The shortest cut of an example that is still well formed: nearly always the whole. */
static size_t shortest(uint8_t version, enum frame_kind kind, size_t size)
{
    if (version == FRAME_V1 && kind == FRAME_AUTH)
        return 1;
    if (version == FRAME_V1 && kind == FRAME_AUTH_ERR)
        return 0;
    if (version == FRAME_V1 && kind == FRAME_GOAWAY)
        return 2;
    return size;
}

START_TEST(a_cut_payload_is_malformed)
{
    for (size_t i = 0; i < ARRAY_SIZE(example_names); i++) {
        uint8_t example[FRAME_CONTROL_MAX];
        size_t size = put_example(example_names[i], example);
        uint8_t version = example[0];
        const uint8_t *payload = example + frame_header_size(version);
        struct frame frame;

        ck_assert_int_eq(frame_get(version, example, example + size, &frame), FRAME_OK);
        if (frame.kind == FRAME_DATA)
            continue;
        for (size_t n = version == FRAME_V1 && frame.kind == FRAME_AUTH; n <= frame.length; n++)
            ck_assert_msg(decodes(version, frame.kind, frame.stream, payload, n) ==
                              (n >= shortest(version, frame.kind, frame.length)),
                          "%s cut to %zu bytes", example_names[i], n);
    }
}
END_TEST

/* A later version may append fields: v2 ignores them, v1 never grew any. */
START_TEST(bytes_behind_the_last_field)
{
    uint8_t dst[FRAME_CONTROL_MAX + 64];
    struct frame_hello hello;
    struct frame_bind_ok bind_ok;

    for (size_t i = 0; i < ARRAY_SIZE(example_names); i++) {
        size_t size = put_example(example_names[i], dst), header = frame_header_size(dst[0]);
        struct frame frame;

        ck_assert_int_eq(frame_get(dst[0], dst, dst + size, &frame), FRAME_OK);
        if (dst[0] == FRAME_V1 || frame.kind == FRAME_DATA)
            continue;
        memset(dst + size, 0xee, 64);
        ck_assert(decodes(FRAME_V2, frame.kind, frame.stream, dst + header, size - header + 64));
    }
    put_example("v1-handshake", dst);
    ck_assert(frame_get_hello(FRAME_V1, dst + 10, dst + 10 + 25, &hello));
    ck_assert(!frame_get_hello(FRAME_V1, dst + 10, dst + 10 + 26, &hello));
    put_example("v1-bind-ok", dst);
    ck_assert(frame_get_bind_ok(FRAME_V1, dst + 10, dst + 12, &bind_ok));
    ck_assert(!frame_get_bind_ok(FRAME_V1, dst + 10, dst + 13, &bind_ok));
}
END_TEST

START_TEST(malformed_values)
{
    uint8_t dst[FRAME_CONTROL_MAX];
    struct frame_hello hello;
    struct frame_open open;
    uint32_t increment;

    for (unsigned role = 0; role < 256; role++) {
        put_example("v1-handshake", dst);
        dst[10] = (uint8_t)role;
        ck_assert_int_eq(frame_get_hello(FRAME_V1, dst + 10, dst + 35, &hello), role == 1);
    }
    for (unsigned family = 0; family < 256; family++) {
        uint8_t payload[64] = { 0, 0, (uint8_t)family };

        ck_assert_int_eq(frame_get_open(payload, payload + sizeof(payload), &open),
                         family == 0 || family == 4 || family == 6);
    }
    memset(dst, 0, 4);
    ck_assert(!frame_get_window(dst, dst + 4, &increment));
    dst[3] = 1;
    ck_assert(frame_get_window(dst, dst + 4, &increment));
}
END_TEST

START_TEST(a_text_that_claims_more_than_there_is)
{
    uint8_t dst[FRAME_CONTROL_MAX];
    size_t size = put_example("hello", dst);
    const size_t agent = 12 + 18,
                 room = size - agent; /* 13 bytes of text, and what stands behind it */
    struct frame_hello m;

    for (unsigned claim = 0; claim <= UINT16_MAX; claim++) {
        dst[agent - 2] = (uint8_t)(claim >> 8);
        dst[agent - 1] = (uint8_t)claim;
        ck_assert_int_eq(frame_get_hello(FRAME_V2, dst + 12, dst + size, &m), claim <= room);
        if (claim <= room)
            ck_assert_uint_eq(m.agent.size, claim);
    }
}
END_TEST

/* Flips, cuts and extends valid frames. What is still taken must come out the same after two
 * encodings; what is read beyond the end is seen by the sanitizers. */
static unsigned mutate_and_decode(uint8_t *bytes, size_t size)
{
    uint8_t version = bytes[0], first[FRAME_CONTROL_MAX], second[FRAME_CONTROL_MAX];
    size_t header = frame_header_size(version), taken;
    struct frame frame;

    for (size_t n = 1 + random_below(4); n > 0; n--)
        bytes[1 + random_below(size - 1)] = (uint8_t)random_u64();
    if (frame_get(version, bytes, bytes + size, &frame) != FRAME_OK ||
        frame.length > size - header || frame.kind == FRAME_DATA)
        return 0;
    if (!decodes(version, frame.kind, frame.stream, bytes + header, frame.length))
        return 0;
    taken = frame_any_again(version, &frame, bytes + header, bytes + header + frame.length, first);
    ck_assert_int_eq(frame_get(version, first, first + taken, &frame), FRAME_OK);
    ck_assert_uint_eq(frame_any_again(version, &frame, first + header, first + taken, second),
                      taken);
    ck_assert_mem_eq(first, second, taken);
    return 1;
}

START_TEST(random_mutations)
{
    unsigned taken = 0;

    for (unsigned round = 0; round < 100000; round++) {
        uint8_t bytes[FRAME_CONTROL_MAX];
        size_t size = put_example(example_names[random_below(ARRAY_SIZE(example_names))], bytes);

        taken += mutate_and_decode(bytes, size);
    }
    ck_assert_uint_gt(taken,
                      10000); /* the mutations reach the decoders, not only the header check */
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(frame_kind_name(FRAME_HELLO), "HELLO");
    ck_assert_str_eq(frame_kind_name(FRAME_CLOSE), "CLOSE");
    ck_assert_str_eq(frame_kind_name(FRAME_KIND_COUNT), "?");
    for (unsigned i = 0; i <= FRAME_TOO_SHORT; i++)
        ck_assert_str_ne(frame_result_text((enum frame_result)i), "?");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame");
    TCase *golden = tcase_create("golden"), *header = tcase_create("header");
    TCase *payload = tcase_create("payload");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(golden, the_examples_of_the_document_are_true);
    tcase_add_test(golden, v1_handshake_as_a_deployed_peer_sends_it);
    tcase_add_test(golden, names);
    tcase_add_test(header, every_kind_has_its_type_and_limits);
    tcase_add_test(header, all_other_types_are_refused);
    tcase_add_test(header, a_wrong_version_shows_in_the_first_byte);
    tcase_add_test(header, a_cut_header_needs_more);
    tcase_add_test(header, headers_are_written_as_they_are_read);
    tcase_add_test(payload, hello_round_trip);
    tcase_add_test(payload, hello_ok_round_trip);
    tcase_add_test(payload, auth_ok_round_trip);
    tcase_add_test(payload, auth_round_trip);
    tcase_add_test(payload, errors_round_trip);
    tcase_add_test(payload, bind_round_trip);
    tcase_add_test(payload, join_round_trip);
    tcase_add_test(payload, ping_round_trip);
    tcase_add_test(payload, stream_frames_round_trip);
    tcase_add_test(payload, a_cut_payload_is_malformed);
    tcase_add_test(payload, bytes_behind_the_last_field);
    tcase_add_test(payload, malformed_values);
    tcase_add_test(payload, a_text_that_claims_more_than_there_is);
    tcase_add_test(payload, random_mutations);
    tcase_set_timeout(payload, 60);
    suite_add_tcase(suite, golden);
    suite_add_tcase(suite, header);
    suite_add_tcase(suite, payload);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
