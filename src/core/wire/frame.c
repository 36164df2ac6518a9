/*
 * frame: see frame.h for the contract, docs/PROTOCOL.md for the bytes.
 *
 * What a frame may look like is data: FRAME_TABLE gives each kind its type number and payload
 * bounds per wire, and two small arrays made from it turn a type byte into a kind. A version that
 * lacks a kind has no type number for it, so the refusal of, say, WINDOW on v1 is the same look-up
 * that refuses type 200.
 *
 * Payloads are read through a cursor whose failure sticks (`struct get`): a decoder reads all its
 * fields in wire order and asks once, at the end, whether every one was there. Nothing is read past
 * end, whatever the lengths inside claim. Writers are small functions that return the advanced
 * pointer. A whole-frame encoder writes the payload behind the space of the header first and the
 * header last, when the length is known.
 *
 * Rejected: casting packed structs onto the buffer (alignment, byte order and text fields make it a
 * trap), and one generic field-table interpreter (it hides the layouts, which are the one thing a
 * reader looks for here).
 */
#include "core/wire/frame.h"

#include <string.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/wire/reason.h"

#define TYPE_LIMIT       32 /* every type number is below this */
#define V1_ROLE_CLIENT   1
#define V1_CAP_HEARTBEAT 1u

struct limits {
    uint8_t type; /* 0: not in this version */
    uint32_t min;
    uint32_t max;
};

static const struct {
    const char *name;
    bool stream;
    struct limits v1;
    struct limits v2;
} table[] = {
#define X(kind, v1, v2, stream, min1, max1, min2, max2) \
    [FRAME_##kind] = { #kind, stream, { v1, min1, max1 }, { v2, min2, max2 } },
    FRAME_TABLE(X)
#undef X
};

/* From a type to kind + 1, 0 if there is none. Kinds that a version lacks land above TYPE_LIMIT,
 * where no look-up goes. */
#define TYPE_INDEX(type, kind) ((type) != 0 ? (type) : TYPE_LIMIT + FRAME_##kind)

static const uint8_t kind_of_v1[TYPE_LIMIT + FRAME_KIND_COUNT] = {
#define X(kind, v1, v2, stream, min1, max1, min2, max2) [TYPE_INDEX(v1, kind)] = FRAME_##kind + 1,
    FRAME_TABLE(X)
#undef X
};

static const uint8_t kind_of_v2[TYPE_LIMIT + FRAME_KIND_COUNT] = {
#define X(kind, v1, v2, stream, min1, max1, min2, max2) [TYPE_INDEX(v2, kind)] = FRAME_##kind + 1,
    FRAME_TABLE(X)
#undef X
};

#define X(kind, v1, v2, stream, min1, max1, min2, max2)                     \
    CHECK_STATIC((v1) < TYPE_LIMIT && (v2) < TYPE_LIMIT && (v1) + (v2) > 0, \
                 "a frame type is a number below TYPE_LIMIT in at least one version");
FRAME_TABLE(X)
#undef X
CHECK_STATIC(12 + 2 * FRAME_TEXT_MAX <= 1024 && FRAME_TOKEN_MAX <= 1024,
             "BIND and AUTH are the longest control frames and fit FRAME_CONTROL_MAX");

const char *frame_kind_name(enum frame_kind kind)
{
    return (unsigned)kind < FRAME_KIND_COUNT ? table[kind].name : "?";
}

const char *frame_result_text(enum frame_result result)
{
    static const char *const text[] = {
        [FRAME_OK] = "ok",
        [FRAME_NEED_MORE] = "header incomplete",
        [FRAME_BAD_VERSION] = "wrong protocol version",
        [FRAME_BAD_TYPE] = "unknown frame type",
        [FRAME_BAD_STREAM] = "stream id does not fit the frame type",
        [FRAME_TOO_LONG] = "payload longer than this frame may have",
        [FRAME_TOO_SHORT] = "payload shorter than this frame must have",
    };

    return (unsigned)result < ARRAY_SIZE(text) ? text[result] : "?";
}

static const struct limits *frame_limits_of(uint8_t version, enum frame_kind kind)
{
    return version == FRAME_V1 ? &table[kind].v1 : &table[kind].v2;
}

/* Integers */

static uint16_t frame_load_u16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static uint32_t frame_load_u32(const uint8_t *p)
{
    return (uint32_t)frame_load_u16(p) << 16 | frame_load_u16(p + 2);
}

static uint64_t frame_load_u64(const uint8_t *p)
{
    return (uint64_t)frame_load_u32(p) << 32 | frame_load_u32(p + 4);
}

static uint8_t *frame_put_u8(uint8_t *p, uint8_t v)
{
    *p = v;
    return p + 1;
}

static uint8_t *frame_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}

static uint8_t *frame_put_u32(uint8_t *p, uint32_t v)
{
    return frame_put_u16(frame_put_u16(p, (uint16_t)(v >> 16)), (uint16_t)v);
}

static uint8_t *frame_put_u64(uint8_t *p, uint64_t v)
{
    return frame_put_u32(frame_put_u32(p, (uint32_t)(v >> 32)), (uint32_t)v);
}

static uint8_t *frame_put_bytes(uint8_t *p, const void *data, size_t size)
{
    if (size > 0)
        memcpy(p, data, size);
    return p + size;
}

/* Text without a length of its own: v1, where it is the rest of the payload. */
static uint8_t *frame_put_rest(uint8_t *p, const struct frame_text *text)
{
    return frame_put_bytes(p, text->data, min_size(text->size, FRAME_TEXT_MAX));
}

static uint8_t *frame_put_text(uint8_t *p, const struct frame_text *text)
{
    return frame_put_rest(frame_put_u16(p, (uint16_t)min_size(text->size, FRAME_TEXT_MAX)), text);
}

static uint8_t *frame_put_addr(uint8_t *p, const struct frame_addr *addr)
{
    size_t size = addr->family == 4 ? 4 : 16;

    CHECK(addr->family == 0 || addr->family == 4 || addr->family == 6);
    p = frame_put_u8(p, addr->family);
    if (addr->family == 0)
        return p;
    return frame_put_u16(frame_put_bytes(p, addr->ip, size), addr->port);
}

/* Headers */

static enum frame_result frame_check_header(uint8_t version, const struct frame *frame)
{
    const struct limits *limits = frame_limits_of(version, frame->kind);

    if (table[frame->kind].stream != (frame->stream != 0))
        return FRAME_BAD_STREAM;
    if (frame->length > limits->max)
        return FRAME_TOO_LONG;
    return frame->length < limits->min ? FRAME_TOO_SHORT : FRAME_OK;
}

enum frame_result frame_get(uint8_t version, const uint8_t *src, const uint8_t *end,
                            struct frame *out)
{
    const uint8_t *kind_of = version == FRAME_V1 ? kind_of_v1 : kind_of_v2;
    struct frame frame = { 0 };
    enum frame_result result;

    CHECK(version == FRAME_V1 || version == FRAME_V2);
    if (src == end)
        return FRAME_NEED_MORE;
    if (src[0] != version)
        return FRAME_BAD_VERSION;
    if ((size_t)(end - src) < frame_header_size(version))
        return FRAME_NEED_MORE;
    if (src[1] >= TYPE_LIMIT || kind_of[src[1]] == 0)
        return FRAME_BAD_TYPE;
    frame.kind = (enum frame_kind)(kind_of[src[1]] - 1);
    src += 2;
    if (version == FRAME_V2) {
        frame.flags = frame_load_u16(src);
        src += 2;
    }
    frame.stream = frame_load_u32(src);
    frame.length = frame_load_u32(src + 4);
    result = frame_check_header(version, &frame);
    if (result == FRAME_OK)
        *out = frame;
    return result;
}

uint8_t *frame_put(uint8_t version, uint8_t *dst, const struct frame *frame)
{
    CHECK(version == FRAME_V1 || version == FRAME_V2);
    CHECK(frame->kind < FRAME_KIND_COUNT);
    CHECK(frame_limits_of(version, frame->kind)->type != 0);
    CHECK(frame_check_header(version, frame) == FRAME_OK);
    dst = frame_put_u8(dst, version);
    dst = frame_put_u8(dst, frame_limits_of(version, frame->kind)->type);
    if (version == FRAME_V2)
        dst = frame_put_u16(dst, frame->flags);
    return frame_put_u32(frame_put_u32(dst, frame->stream), frame->length);
}

/* The payload stands in [payload of dst, end): writes the header in front of it. Returns end. */
static uint8_t *frame_finish(uint8_t version, uint8_t *dst, uint8_t *end, enum frame_kind kind,
                             uint32_t stream)
{
    struct frame frame = { .kind = kind, .stream = stream };

    frame.length = (uint32_t)(size_t)(end - dst - (ptrdiff_t)frame_header_size(version));
    frame_put(version, dst, &frame);
    return end;
}

/* A last field that is left out when it is empty. */
static uint8_t *frame_put_extra(uint8_t *p, const struct frame_text *text)
{
    return text->size > 0 ? frame_put_text(p, text) : p;
}

/* Encoders */

uint8_t *frame_put_hello(uint8_t version, uint8_t *dst, const struct frame_hello *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V1) {
        p = frame_put_u8(p, V1_ROLE_CLIENT);
        p = frame_put_u64(p, V1_CAP_HEARTBEAT);
    } else {
        p = frame_put_u32(p, m->caps);
        p = frame_put_u16(p, m->workers);
        p = frame_put_u16(p, m->lanes);
        p = frame_put_u32(p, m->window);
        p = frame_put_u32(p, m->max_data);
    }
    p = frame_put_text(p, &m->agent);
    if (version == FRAME_V2)
        p = frame_put_bytes(frame_put_text(p, &m->client), m->nonce, FRAME_NONCE_SIZE);
    return frame_finish(version, dst, p, FRAME_HELLO, 0);
}

uint8_t *frame_put_hello_ok(uint8_t version, uint8_t *dst, const struct frame_hello_ok *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V2)
        p = frame_put_bytes(frame_put_u32(p, FRAME_REVISION), m->nonce, FRAME_NONCE_SIZE);
    return frame_finish(version, dst, p, FRAME_HELLO_OK, 0);
}

uint8_t *frame_put_auth(uint8_t *dst, const struct frame_auth *m)
{
    uint8_t *p = frame_put_bytes(dst + FRAME_V2_HEADER, m->id, FRAME_ID_SIZE);

    p = frame_put_bytes(frame_put_u8(p, m->bound), m->proof, FRAME_PROOF_SIZE);
    return frame_finish(FRAME_V2, dst, p, FRAME_AUTH, 0);
}

uint8_t *frame_put_auth_v1(uint8_t *dst, const void *token, size_t size)
{
    CHECK(size > 0 && size <= FRAME_TOKEN_MAX);
    return frame_finish(FRAME_V1, dst, frame_put_bytes(dst + FRAME_V1_HEADER, token, size),
                        FRAME_AUTH, 0);
}

uint8_t *frame_put_auth_ok(uint8_t version, uint8_t *dst, const struct frame_auth_ok *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V2) {
        p = frame_put_bytes(p, m->proof, FRAME_PROOF_SIZE);
        p = frame_put_u32(p, m->caps);
        p = frame_put_u16(p, m->lanes);
        p = frame_put_u32(p, m->window);
        p = frame_put_u32(p, m->max_data);
        p = frame_put_u32(p, m->slots);
        p = frame_put_u64(p, m->session);
        p = frame_put_text(p, &m->agent);
    }
    return frame_finish(version, dst, p, FRAME_AUTH_OK, 0);
}

uint8_t *frame_put_auth_err(uint8_t version, uint8_t *dst, const struct frame_error *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V1)
        p = frame_put_rest(p, &m->text);
    else
        p = frame_put_text(frame_put_u16(p, m->code), &m->text);
    return frame_finish(version, dst, p, FRAME_AUTH_ERR, 0);
}

uint8_t *frame_put_bind(uint8_t *dst, const struct frame_bind *m)
{
    uint8_t *p = dst + FRAME_V2_HEADER;

    p = frame_put_u16(p, m->tunnel);
    p = frame_put_u16(p, m->port);
    p = frame_put_u32(p, m->options);
    p = frame_put_text(p, &m->name);
    p = frame_put_text(p, &m->origin);
    p = frame_put_extra(p, &m->ticket);
    return frame_finish(FRAME_V2, dst, p, FRAME_BIND, 0);
}

uint8_t *frame_put_bind_ok(uint8_t version, uint8_t *dst, const struct frame_bind_ok *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V1)
        p = frame_put_u16(p, m->port);
    else
        p = frame_put_extra(
            frame_put_text(frame_put_u16(frame_put_u16(p, m->tunnel), m->port), &m->host),
            &m->ticket);
    return frame_finish(version, dst, p, FRAME_BIND_OK, 0);
}

uint8_t *frame_put_bind_err(uint8_t *dst, const struct frame_error *m)
{
    uint8_t *p = frame_put_u16(dst + FRAME_V2_HEADER, m->tunnel);

    p = frame_put_text(frame_put_u16(p, m->code), &m->text);
    return frame_finish(FRAME_V2, dst, p, FRAME_BIND_ERR, 0);
}

uint8_t *frame_put_join(uint8_t *dst, const struct frame_join *m)
{
    uint8_t *p = dst + FRAME_V2_HEADER;

    p = frame_put_u64(p, m->session);
    p = frame_put_u16(p, m->lane);
    p = frame_put_u16(p, m->flags);
    p = frame_put_u64(p, m->rx_bytes);
    p = frame_put_bytes(frame_put_u8(p, m->bound), m->proof, FRAME_PROOF_SIZE);
    return frame_finish(FRAME_V2, dst, p, FRAME_JOIN, 0);
}

uint8_t *frame_put_join_ok(uint8_t *dst, const struct frame_join_ok *m)
{
    uint8_t *p = frame_put_u64(frame_put_u16(dst + FRAME_V2_HEADER, m->lane), m->rx_bytes);

    return frame_finish(FRAME_V2, dst, frame_put_bytes(p, m->proof, FRAME_PROOF_SIZE),
                        FRAME_JOIN_OK, 0);
}

uint8_t *frame_put_goaway(uint8_t version, uint8_t *dst, const struct frame_error *m)
{
    uint8_t *p = frame_put_u16(dst + frame_header_size(version), m->code);

    p = version == FRAME_V1 ? frame_put_rest(p, &m->text) : frame_put_text(p, &m->text);
    return frame_finish(version, dst, p, FRAME_GOAWAY, 0);
}

uint8_t *frame_put_ping(uint8_t version, uint8_t *dst, const struct frame_ping *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V2)
        p = frame_put_u64(frame_put_u64(p, m->time), m->rx_bytes);
    return frame_finish(version, dst, p, FRAME_PING, 0);
}

uint8_t *frame_put_pong(uint8_t *dst, const struct frame_ping *m)
{
    uint8_t *p = frame_put_u64(frame_put_u64(dst + FRAME_V2_HEADER, m->time), m->rx_bytes);

    return frame_finish(FRAME_V2, dst, p, FRAME_PONG, 0);
}

uint8_t *frame_put_open(uint8_t version, uint8_t *dst, uint32_t stream, const struct frame_open *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V2) {
        p = frame_put_u16(p, m->tunnel);
        p = frame_put_addr(p, &m->visitor);
        p = frame_put_addr(p, &m->local);
    }
    return frame_finish(version, dst, p, FRAME_OPEN, stream);
}

uint8_t *frame_put_window(uint8_t *dst, uint32_t stream, uint32_t increment)
{
    CHECK(increment > 0);
    return frame_finish(FRAME_V2, dst, frame_put_u32(dst + FRAME_V2_HEADER, increment),
                        FRAME_WINDOW, stream);
}

uint8_t *frame_put_reset(uint8_t *dst, uint32_t stream, uint16_t code)
{
    return frame_finish(FRAME_V2, dst, frame_put_u16(dst + FRAME_V2_HEADER, code), FRAME_RESET,
                        stream);
}

uint8_t *frame_put_close(uint8_t *dst, uint32_t stream)
{
    return frame_finish(FRAME_V1, dst, dst + FRAME_V1_HEADER, FRAME_CLOSE, stream);
}

/* Decoders */

/* A read cursor. After the first missing byte `bad` stays set and every further field reads as
 * zero. */
struct get {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static const uint8_t *frame_get_bytes(struct get *g, size_t size)
{
    static const uint8_t zeros[FRAME_PROOF_SIZE];
    const uint8_t *at = g->at;

    if (g->bad || (size_t)(g->end - at) < size) {
        g->bad = true;
        return zeros;
    }
    g->at += size;
    return at;
}

static uint8_t frame_get_u8(struct get *g)
{
    return *frame_get_bytes(g, 1);
}

static uint16_t frame_get_u16(struct get *g)
{
    return frame_load_u16(frame_get_bytes(g, 2));
}

static uint32_t frame_get_u32(struct get *g)
{
    return frame_load_u32(frame_get_bytes(g, 4));
}

static uint64_t frame_get_u64(struct get *g)
{
    return frame_load_u64(frame_get_bytes(g, 8));
}

static void frame_get_proof(struct get *g, uint8_t proof[FRAME_PROOF_SIZE])
{
    memcpy(proof, frame_get_bytes(g, FRAME_PROOF_SIZE), FRAME_PROOF_SIZE);
}

/* What is left of the payload, as text (v1). */
static struct frame_text frame_get_rest(struct get *g)
{
    struct frame_text text = { (const char *)g->at, (size_t)(g->end - g->at) };

    g->at = g->end;
    return text;
}

static struct frame_text frame_get_text(struct get *g)
{
    size_t size = frame_get_u16(g);
    const uint8_t *data = frame_get_bytes(g, size);

    if (g->bad)
        return (struct frame_text){ "", 0 };
    return (struct frame_text){ (const char *)data, size };
}

/* A last field that may be left out; what is no text is something that we do not know. */
static struct frame_text frame_get_extra(struct get *g)
{
    struct get extra = *g;
    struct frame_text text = frame_get_text(&extra);

    if (!g->bad && !extra.bad)
        *g = extra;
    return text;
}

static struct frame_addr frame_get_addr(struct get *g)
{
    struct frame_addr addr = { .family = frame_get_u8(g) };
    size_t size = addr.family == 4 ? 4 : 16;

    if (addr.family == 0)
        return addr;
    if (addr.family != 4 && addr.family != 6)
        g->bad = true;
    memcpy(addr.ip, frame_get_bytes(g, size), size);
    addr.port = frame_get_u16(g);
    return addr;
}

/* v2: a later version may append fields, so bytes that are left over are no error. */
static bool frame_get_done(const struct get *g)
{
    return !g->bad;
}

/* v1 is frozen: a payload ends where its fields end. */
static bool frame_get_done_v1(const struct get *g)
{
    return !g->bad && g->at == g->end;
}

static bool frame_get_hello_v1(struct get *g, struct frame_hello *m)
{
    uint8_t role = frame_get_u8(g);

    *m = (struct frame_hello){
        .workers = 1, .lanes = 1, .max_data = FRAME_PAYLOAD_MAX, .client = { "", 0 }
    }; /* no nonce: v1 proves nothing */
    m->caps = (uint32_t)frame_get_u64(g);
    m->agent = frame_get_text(g);
    return role == V1_ROLE_CLIENT && frame_get_done_v1(g);
}

bool frame_get_hello(uint8_t version, const uint8_t *src, const uint8_t *end, struct frame_hello *m)
{
    struct get g = { src, end, false };

    if (version == FRAME_V1)
        return frame_get_hello_v1(&g, m);
    m->caps = frame_get_u32(&g);
    m->workers = frame_get_u16(&g);
    m->lanes = frame_get_u16(&g);
    m->window = frame_get_u32(&g);
    m->max_data = frame_get_u32(&g);
    m->agent = frame_get_text(&g);
    m->client = frame_get_extra(&g);
    bool older = !g.bad && (size_t)(g.end - g.at) < FRAME_NONCE_SIZE;
    m->nonce = older ? NULL : frame_get_bytes(&g, FRAME_NONCE_SIZE);
    return frame_get_done(&g);
}

bool frame_get_hello_ok(const uint8_t *src, const uint8_t *end, struct frame_hello_ok *m)
{
    struct get g = { src, end, false };
    bool ours = frame_get_u32(&g) == FRAME_REVISION;

    m->nonce = ours ? frame_get_bytes(&g, FRAME_NONCE_SIZE) : NULL;
    return frame_get_done(&g);
}

bool frame_get_auth(const uint8_t *src, const uint8_t *end, struct frame_auth *m)
{
    struct get g = { src, end, false };

    m->id = frame_get_bytes(&g, FRAME_ID_SIZE);
    m->bound = frame_get_u8(&g);
    m->proof = frame_get_bytes(&g, FRAME_PROOF_SIZE);
    return frame_get_done(&g);
}

bool frame_get_auth_ok(const uint8_t *src, const uint8_t *end, struct frame_auth_ok *m)
{
    struct get g = { src, end, false };

    m->proof = frame_get_bytes(&g, FRAME_PROOF_SIZE);
    m->caps = frame_get_u32(&g);
    m->lanes = frame_get_u16(&g);
    m->window = frame_get_u32(&g);
    m->max_data = frame_get_u32(&g);
    m->slots = frame_get_u32(&g);
    m->session = frame_get_u64(&g);
    m->agent = frame_get_text(&g);
    return frame_get_done(&g);
}

bool frame_get_error(uint8_t version, enum frame_kind kind, const uint8_t *src, const uint8_t *end,
                     struct frame_error *m)
{
    struct get g = { src, end, false };

    CHECK(kind == FRAME_AUTH_ERR || kind == FRAME_GOAWAY);
    *m = (struct frame_error){ .code = reason_code(REASON_AUTH_FAILED) };
    if (version == FRAME_V2 || kind == FRAME_GOAWAY)
        m->code = frame_get_u16(&g);
    m->text = version == FRAME_V2 ? frame_get_text(&g) : frame_get_rest(&g);
    return frame_get_done(&g);
}

bool frame_get_bind(const uint8_t *src, const uint8_t *end, struct frame_bind *m)
{
    struct get g = { src, end, false };

    m->tunnel = frame_get_u16(&g);
    m->port = frame_get_u16(&g);
    m->options = frame_get_u32(&g);
    m->name = frame_get_text(&g);
    m->origin = frame_get_text(&g);
    m->ticket = frame_get_extra(&g);
    return frame_get_done(&g);
}

bool frame_get_bind_ok(uint8_t version, const uint8_t *src, const uint8_t *end,
                       struct frame_bind_ok *m)
{
    struct get g = { src, end, false };

    *m = (struct frame_bind_ok){ .host = { "", 0 }, .ticket = { "", 0 } };
    if (version == FRAME_V1) {
        m->port = frame_get_u16(&g);
        return frame_get_done_v1(&g);
    }
    m->tunnel = frame_get_u16(&g);
    m->port = frame_get_u16(&g);
    m->host = frame_get_text(&g);
    m->ticket = frame_get_extra(&g);
    return frame_get_done(&g);
}

bool frame_get_bind_err(const uint8_t *src, const uint8_t *end, struct frame_error *m)
{
    struct get g = { src, end, false };

    m->tunnel = frame_get_u16(&g);
    m->code = frame_get_u16(&g);
    m->text = frame_get_text(&g);
    return frame_get_done(&g);
}

bool frame_get_join(const uint8_t *src, const uint8_t *end, struct frame_join *m)
{
    struct get g = { src, end, false };

    m->session = frame_get_u64(&g);
    m->lane = frame_get_u16(&g);
    m->flags = frame_get_u16(&g);
    m->rx_bytes = frame_get_u64(&g);
    m->bound = frame_get_u8(&g);
    frame_get_proof(&g, m->proof);
    return frame_get_done(&g);
}

bool frame_get_join_ok(const uint8_t *src, const uint8_t *end, struct frame_join_ok *m)
{
    struct get g = { src, end, false };

    m->lane = frame_get_u16(&g);
    m->rx_bytes = frame_get_u64(&g);
    frame_get_proof(&g, m->proof);
    return frame_get_done(&g);
}

bool frame_get_ping(const uint8_t *src, const uint8_t *end, struct frame_ping *m)
{
    struct get g = { src, end, false };

    m->time = frame_get_u64(&g);
    m->rx_bytes = frame_get_u64(&g);
    return frame_get_done(&g);
}

bool frame_get_open(const uint8_t *src, const uint8_t *end, struct frame_open *m)
{
    struct get g = { src, end, false };

    m->tunnel = frame_get_u16(&g);
    m->visitor = frame_get_addr(&g);
    m->local = frame_get_addr(&g);
    return frame_get_done(&g);
}

bool frame_get_window(const uint8_t *src, const uint8_t *end, uint32_t *increment)
{
    struct get g = { src, end, false };

    *increment = frame_get_u32(&g);
    return frame_get_done(&g) && *increment > 0;
}

bool frame_get_reset(const uint8_t *src, const uint8_t *end, uint16_t *code)
{
    struct get g = { src, end, false };

    *code = frame_get_u16(&g);
    return frame_get_done(&g);
}
