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

static const struct limits *limits_of(uint8_t version, enum frame_kind kind)
{
    return version == FRAME_V1 ? &table[kind].v1 : &table[kind].v2;
}

/* Integers */

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)load_u16(p) << 16 | load_u16(p + 2);
}

static uint64_t load_u64(const uint8_t *p)
{
    return (uint64_t)load_u32(p) << 32 | load_u32(p + 4);
}

static uint8_t *put_u8(uint8_t *p, uint8_t v)
{
    *p = v;
    return p + 1;
}

static uint8_t *put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}

static uint8_t *put_u32(uint8_t *p, uint32_t v)
{
    return put_u16(put_u16(p, (uint16_t)(v >> 16)), (uint16_t)v);
}

static uint8_t *put_u64(uint8_t *p, uint64_t v)
{
    return put_u32(put_u32(p, (uint32_t)(v >> 32)), (uint32_t)v);
}

static uint8_t *put_bytes(uint8_t *p, const void *data, size_t size)
{
    if (size > 0)
        memcpy(p, data, size);
    return p + size;
}

/* Text without a length of its own: v1, where it is the rest of the payload. */
static uint8_t *put_rest(uint8_t *p, const struct frame_text *text)
{
    return put_bytes(p, text->data, min_size(text->size, FRAME_TEXT_MAX));
}

static uint8_t *put_text(uint8_t *p, const struct frame_text *text)
{
    return put_rest(put_u16(p, (uint16_t)min_size(text->size, FRAME_TEXT_MAX)), text);
}

static uint8_t *put_addr(uint8_t *p, const struct frame_addr *addr)
{
    size_t size = addr->family == 4 ? 4 : 16;

    CHECK(addr->family == 0 || addr->family == 4 || addr->family == 6);
    p = put_u8(p, addr->family);
    if (addr->family == 0)
        return p;
    return put_u16(put_bytes(p, addr->ip, size), addr->port);
}

/* Headers */

static enum frame_result check_header(uint8_t version, const struct frame *frame)
{
    const struct limits *limits = limits_of(version, frame->kind);

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
        frame.flags = load_u16(src);
        src += 2;
    }
    frame.stream = load_u32(src);
    frame.length = load_u32(src + 4);
    result = check_header(version, &frame);
    if (result == FRAME_OK)
        *out = frame;
    return result;
}

uint8_t *frame_put(uint8_t version, uint8_t *dst, const struct frame *frame)
{
    CHECK(version == FRAME_V1 || version == FRAME_V2);
    CHECK(frame->kind < FRAME_KIND_COUNT);
    CHECK(limits_of(version, frame->kind)->type != 0);
    CHECK(check_header(version, frame) == FRAME_OK);
    dst = put_u8(dst, version);
    dst = put_u8(dst, limits_of(version, frame->kind)->type);
    if (version == FRAME_V2)
        dst = put_u16(dst, frame->flags);
    return put_u32(put_u32(dst, frame->stream), frame->length);
}

/* The payload stands in [payload of dst, end): writes the header in front of it. Returns end. */
static uint8_t *finish(uint8_t version, uint8_t *dst, uint8_t *end, enum frame_kind kind,
                       uint32_t stream)
{
    struct frame frame = { .kind = kind, .stream = stream };

    frame.length = (uint32_t)(size_t)(end - dst - (ptrdiff_t)frame_header_size(version));
    frame_put(version, dst, &frame);
    return end;
}

/* A last field that is left out when it is empty. */
static uint8_t *put_extra(uint8_t *p, const struct frame_text *text)
{
    return text->size > 0 ? put_text(p, text) : p;
}

/* Encoders */

uint8_t *frame_put_hello(uint8_t version, uint8_t *dst, const struct frame_hello *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V1) {
        p = put_u8(p, V1_ROLE_CLIENT);
        p = put_u64(p, V1_CAP_HEARTBEAT);
    } else {
        p = put_u32(p, m->caps);
        p = put_u16(p, m->workers);
        p = put_u16(p, m->lanes);
        p = put_u32(p, m->window);
        p = put_u32(p, m->max_data);
    }
    p = put_text(p, &m->agent);
    if (version == FRAME_V2)
        p = put_bytes(put_text(p, &m->client), m->nonce, FRAME_NONCE_SIZE);
    return finish(version, dst, p, FRAME_HELLO, 0);
}

uint8_t *frame_put_hello_ok(uint8_t version, uint8_t *dst, const struct frame_hello_ok *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V2)
        p = put_bytes(put_u32(p, FRAME_REVISION), m->nonce, FRAME_NONCE_SIZE);
    return finish(version, dst, p, FRAME_HELLO_OK, 0);
}

uint8_t *frame_put_auth(uint8_t *dst, const struct frame_auth *m)
{
    uint8_t *p = put_bytes(dst + FRAME_V2_HEADER, m->id, FRAME_ID_SIZE);

    p = put_bytes(put_u8(p, m->bound), m->proof, FRAME_PROOF_SIZE);
    return finish(FRAME_V2, dst, p, FRAME_AUTH, 0);
}

uint8_t *frame_put_auth_v1(uint8_t *dst, const void *token, size_t size)
{
    CHECK(size > 0 && size <= FRAME_TOKEN_MAX);
    return finish(FRAME_V1, dst, put_bytes(dst + FRAME_V1_HEADER, token, size), FRAME_AUTH, 0);
}

uint8_t *frame_put_auth_ok(uint8_t version, uint8_t *dst, const struct frame_auth_ok *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V2) {
        p = put_bytes(p, m->proof, FRAME_PROOF_SIZE);
        p = put_u32(p, m->caps);
        p = put_u16(p, m->lanes);
        p = put_u32(p, m->window);
        p = put_u32(p, m->max_data);
        p = put_u32(p, m->slots);
        p = put_u64(p, m->session);
        p = put_text(p, &m->agent);
    }
    return finish(version, dst, p, FRAME_AUTH_OK, 0);
}

uint8_t *frame_put_auth_err(uint8_t version, uint8_t *dst, const struct frame_error *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V1)
        p = put_rest(p, &m->text);
    else
        p = put_text(put_u16(p, m->code), &m->text);
    return finish(version, dst, p, FRAME_AUTH_ERR, 0);
}

uint8_t *frame_put_bind(uint8_t *dst, const struct frame_bind *m)
{
    uint8_t *p = dst + FRAME_V2_HEADER;

    p = put_u16(p, m->tunnel);
    p = put_u16(p, m->port);
    p = put_u32(p, m->options);
    p = put_text(p, &m->name);
    p = put_text(p, &m->origin);
    p = put_extra(p, &m->ticket);
    return finish(FRAME_V2, dst, p, FRAME_BIND, 0);
}

uint8_t *frame_put_bind_ok(uint8_t version, uint8_t *dst, const struct frame_bind_ok *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V1)
        p = put_u16(p, m->port);
    else
        p = put_extra(put_text(put_u16(put_u16(p, m->tunnel), m->port), &m->host), &m->ticket);
    return finish(version, dst, p, FRAME_BIND_OK, 0);
}

uint8_t *frame_put_bind_err(uint8_t *dst, const struct frame_error *m)
{
    uint8_t *p = put_u16(dst + FRAME_V2_HEADER, m->tunnel);

    p = put_text(put_u16(p, m->code), &m->text);
    return finish(FRAME_V2, dst, p, FRAME_BIND_ERR, 0);
}

uint8_t *frame_put_join(uint8_t *dst, const struct frame_join *m)
{
    uint8_t *p = dst + FRAME_V2_HEADER;

    p = put_u64(p, m->session);
    p = put_u16(p, m->lane);
    p = put_u16(p, m->flags);
    p = put_u64(p, m->rx_bytes);
    p = put_bytes(put_u8(p, m->bound), m->proof, FRAME_PROOF_SIZE);
    return finish(FRAME_V2, dst, p, FRAME_JOIN, 0);
}

uint8_t *frame_put_join_ok(uint8_t *dst, const struct frame_join_ok *m)
{
    uint8_t *p = put_u64(put_u16(dst + FRAME_V2_HEADER, m->lane), m->rx_bytes);

    return finish(FRAME_V2, dst, put_bytes(p, m->proof, FRAME_PROOF_SIZE), FRAME_JOIN_OK, 0);
}

uint8_t *frame_put_goaway(uint8_t version, uint8_t *dst, const struct frame_error *m)
{
    uint8_t *p = put_u16(dst + frame_header_size(version), m->code);

    p = version == FRAME_V1 ? put_rest(p, &m->text) : put_text(p, &m->text);
    return finish(version, dst, p, FRAME_GOAWAY, 0);
}

uint8_t *frame_put_ping(uint8_t version, uint8_t *dst, const struct frame_ping *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V2)
        p = put_u64(put_u64(p, m->time), m->rx_bytes);
    return finish(version, dst, p, FRAME_PING, 0);
}

uint8_t *frame_put_pong(uint8_t *dst, const struct frame_ping *m)
{
    uint8_t *p = put_u64(put_u64(dst + FRAME_V2_HEADER, m->time), m->rx_bytes);

    return finish(FRAME_V2, dst, p, FRAME_PONG, 0);
}

uint8_t *frame_put_open(uint8_t version, uint8_t *dst, uint32_t stream, const struct frame_open *m)
{
    uint8_t *p = dst + frame_header_size(version);

    if (version == FRAME_V2) {
        p = put_u16(p, m->tunnel);
        p = put_addr(p, &m->visitor);
        p = put_addr(p, &m->local);
    }
    return finish(version, dst, p, FRAME_OPEN, stream);
}

uint8_t *frame_put_window(uint8_t *dst, uint32_t stream, uint32_t increment)
{
    CHECK(increment > 0);
    return finish(FRAME_V2, dst, put_u32(dst + FRAME_V2_HEADER, increment), FRAME_WINDOW, stream);
}

uint8_t *frame_put_reset(uint8_t *dst, uint32_t stream, uint16_t code)
{
    return finish(FRAME_V2, dst, put_u16(dst + FRAME_V2_HEADER, code), FRAME_RESET, stream);
}

uint8_t *frame_put_close(uint8_t *dst, uint32_t stream)
{
    return finish(FRAME_V1, dst, dst + FRAME_V1_HEADER, FRAME_CLOSE, stream);
}

/* Decoders */

/* A read cursor. After the first missing byte `bad` stays set and every further field reads as
 * zero. */
struct get {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static const uint8_t *get_bytes(struct get *g, size_t size)
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

static uint8_t get_u8(struct get *g)
{
    return *get_bytes(g, 1);
}

static uint16_t get_u16(struct get *g)
{
    return load_u16(get_bytes(g, 2));
}

static uint32_t get_u32(struct get *g)
{
    return load_u32(get_bytes(g, 4));
}

static uint64_t get_u64(struct get *g)
{
    return load_u64(get_bytes(g, 8));
}

static void get_proof(struct get *g, uint8_t proof[FRAME_PROOF_SIZE])
{
    memcpy(proof, get_bytes(g, FRAME_PROOF_SIZE), FRAME_PROOF_SIZE);
}

/* What is left of the payload, as text (v1). */
static struct frame_text get_rest(struct get *g)
{
    struct frame_text text = { (const char *)g->at, (size_t)(g->end - g->at) };

    g->at = g->end;
    return text;
}

static struct frame_text get_text(struct get *g)
{
    size_t size = get_u16(g);
    const uint8_t *data = get_bytes(g, size);

    if (g->bad)
        return (struct frame_text){ "", 0 };
    return (struct frame_text){ (const char *)data, size };
}

/* A last field that may be left out; what is no text is something that we do not know. */
static struct frame_text get_extra(struct get *g)
{
    struct get extra = *g;
    struct frame_text text = get_text(&extra);

    if (!g->bad && !extra.bad)
        *g = extra;
    return text;
}

static struct frame_addr get_addr(struct get *g)
{
    struct frame_addr addr = { .family = get_u8(g) };
    size_t size = addr.family == 4 ? 4 : 16;

    if (addr.family == 0)
        return addr;
    if (addr.family != 4 && addr.family != 6)
        g->bad = true;
    memcpy(addr.ip, get_bytes(g, size), size);
    addr.port = get_u16(g);
    return addr;
}

/* v2: a later version may append fields, so bytes that are left over are no error. */
static bool get_done(const struct get *g)
{
    return !g->bad;
}

/* v1 is frozen: a payload ends where its fields end. */
static bool get_done_v1(const struct get *g)
{
    return !g->bad && g->at == g->end;
}

static bool get_hello_v1(struct get *g, struct frame_hello *m)
{
    uint8_t role = get_u8(g);

    *m = (struct frame_hello){
        .workers = 1, .lanes = 1, .max_data = FRAME_PAYLOAD_MAX, .client = { "", 0 }
    }; /* no nonce: v1 proves nothing */
    m->caps = (uint32_t)get_u64(g);
    m->agent = get_text(g);
    return role == V1_ROLE_CLIENT && get_done_v1(g);
}

bool frame_get_hello(uint8_t version, const uint8_t *src, const uint8_t *end, struct frame_hello *m)
{
    struct get g = { src, end, false };

    if (version == FRAME_V1)
        return get_hello_v1(&g, m);
    m->caps = get_u32(&g);
    m->workers = get_u16(&g);
    m->lanes = get_u16(&g);
    m->window = get_u32(&g);
    m->max_data = get_u32(&g);
    m->agent = get_text(&g);
    m->client = get_extra(&g);
    bool older = !g.bad && (size_t)(g.end - g.at) < FRAME_NONCE_SIZE;
    m->nonce = older ? NULL : get_bytes(&g, FRAME_NONCE_SIZE);
    return get_done(&g);
}

bool frame_get_hello_ok(const uint8_t *src, const uint8_t *end, struct frame_hello_ok *m)
{
    struct get g = { src, end, false };
    bool ours = get_u32(&g) == FRAME_REVISION;

    m->nonce = ours ? get_bytes(&g, FRAME_NONCE_SIZE) : NULL;
    return get_done(&g);
}

bool frame_get_auth(const uint8_t *src, const uint8_t *end, struct frame_auth *m)
{
    struct get g = { src, end, false };

    m->id = get_bytes(&g, FRAME_ID_SIZE);
    m->bound = get_u8(&g);
    m->proof = get_bytes(&g, FRAME_PROOF_SIZE);
    return get_done(&g);
}

bool frame_get_auth_ok(const uint8_t *src, const uint8_t *end, struct frame_auth_ok *m)
{
    struct get g = { src, end, false };

    m->proof = get_bytes(&g, FRAME_PROOF_SIZE);
    m->caps = get_u32(&g);
    m->lanes = get_u16(&g);
    m->window = get_u32(&g);
    m->max_data = get_u32(&g);
    m->slots = get_u32(&g);
    m->session = get_u64(&g);
    m->agent = get_text(&g);
    return get_done(&g);
}

bool frame_get_error(uint8_t version, enum frame_kind kind, const uint8_t *src, const uint8_t *end,
                     struct frame_error *m)
{
    struct get g = { src, end, false };

    CHECK(kind == FRAME_AUTH_ERR || kind == FRAME_GOAWAY);
    *m = (struct frame_error){ .code = reason_code(REASON_AUTH_FAILED) };
    if (version == FRAME_V2 || kind == FRAME_GOAWAY)
        m->code = get_u16(&g);
    m->text = version == FRAME_V2 ? get_text(&g) : get_rest(&g);
    return get_done(&g);
}

bool frame_get_bind(const uint8_t *src, const uint8_t *end, struct frame_bind *m)
{
    struct get g = { src, end, false };

    m->tunnel = get_u16(&g);
    m->port = get_u16(&g);
    m->options = get_u32(&g);
    m->name = get_text(&g);
    m->origin = get_text(&g);
    m->ticket = get_extra(&g);
    return get_done(&g);
}

bool frame_get_bind_ok(uint8_t version, const uint8_t *src, const uint8_t *end,
                       struct frame_bind_ok *m)
{
    struct get g = { src, end, false };

    *m = (struct frame_bind_ok){ .host = { "", 0 }, .ticket = { "", 0 } };
    if (version == FRAME_V1) {
        m->port = get_u16(&g);
        return get_done_v1(&g);
    }
    m->tunnel = get_u16(&g);
    m->port = get_u16(&g);
    m->host = get_text(&g);
    m->ticket = get_extra(&g);
    return get_done(&g);
}

bool frame_get_bind_err(const uint8_t *src, const uint8_t *end, struct frame_error *m)
{
    struct get g = { src, end, false };

    m->tunnel = get_u16(&g);
    m->code = get_u16(&g);
    m->text = get_text(&g);
    return get_done(&g);
}

bool frame_get_join(const uint8_t *src, const uint8_t *end, struct frame_join *m)
{
    struct get g = { src, end, false };

    m->session = get_u64(&g);
    m->lane = get_u16(&g);
    m->flags = get_u16(&g);
    m->rx_bytes = get_u64(&g);
    m->bound = get_u8(&g);
    get_proof(&g, m->proof);
    return get_done(&g);
}

bool frame_get_join_ok(const uint8_t *src, const uint8_t *end, struct frame_join_ok *m)
{
    struct get g = { src, end, false };

    m->lane = get_u16(&g);
    m->rx_bytes = get_u64(&g);
    get_proof(&g, m->proof);
    return get_done(&g);
}

bool frame_get_ping(const uint8_t *src, const uint8_t *end, struct frame_ping *m)
{
    struct get g = { src, end, false };

    m->time = get_u64(&g);
    m->rx_bytes = get_u64(&g);
    return get_done(&g);
}

bool frame_get_open(const uint8_t *src, const uint8_t *end, struct frame_open *m)
{
    struct get g = { src, end, false };

    m->tunnel = get_u16(&g);
    m->visitor = get_addr(&g);
    m->local = get_addr(&g);
    return get_done(&g);
}

bool frame_get_window(const uint8_t *src, const uint8_t *end, uint32_t *increment)
{
    struct get g = { src, end, false };

    *increment = get_u32(&g);
    return get_done(&g) && *increment > 0;
}

bool frame_get_reset(const uint8_t *src, const uint8_t *end, uint16_t *code)
{
    struct get g = { src, end, false };

    *code = get_u16(&g);
    return get_done(&g);
}
