/*
 * crypt_fake: core/mux/crypt.h for the simulation: the shape of TLS 1.3 without its secrets.
 *
 * Three handshake messages of random lengths (the client's hello, the server's long answer, the
 * client's end), each with the header of a record. A message ends in a sum over all that was said
 * so far as its sender knows it, so that no byte can be changed unnoticed: as in TLS, a changed
 * hello may show at once (a field that the server looks at) or at the client, to whom the server
 * answers what was not asked. Who finds it says an alert, in the clear as long as it has no keys.
 *
 * Behind its answer the server may have a record ready (TLS 1.3 lets it: tickets), and behind its
 * end the client has its first data: the other side finds them as leftover. Records have the five
 * bytes of header and, inside, the type at the end and a tag that binds the bytes to their number
 * and to the key, which follows from the handshake: a record changed, lost, repeated, cut, opened
 * twice or of another connection is seen. Keys change after some random records (key updates), may
 * be used up, and then nothing can be sealed any more; close_notify and alerts exist. The engine of
 * the kernel does not: crypt_offload says that there is none.
 */
#include "core/mux/crypt.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/mux/crypt_ctx.h"
#include "core/io/ring.h"
#include "fake/fake.h"

#include <stdio.h>
#include <stdlib.h>

#define HEADER       5u
#define TAG          8u
#define SUM          8u /* behind a handshake message */
#define ALERT        21u
#define HANDSHAKE    22u
#define PROTECTED    23u
#define HELLO_MAX    600u
#define ANSWER_MAX   6000u
#define RECORD_MOST  (CRYPT_PAYLOAD + 256u)
#define DESCRIBES    51u /* decrypt_error, RFC 8446, 6.2 */
#define UPDATE_AFTER 200u
#define UPDATE_SLACK 200u

enum inner { INNER_DATA = 1, INNER_UPDATE, INNER_CLOSE, INNER_ALERT, INNER_TICKET };

struct bytes {
    uint8_t *data;
    size_t size;
};

struct half {
    uint64_t key, number;
};

struct crypt {
    bool server, began, keyed, ready, ended, closed;
    bool used_up;      /* nothing is sealed any more */
    bool was_told;     /* the peer's alert came: there is nothing to answer */
    unsigned messages; /* of the handshake, received */
    uint64_t said;     /* sum over the handshake so far */
    uint64_t exporter; /* the same, when the keys were made */
    struct bytes in, out;
    struct half tx, rx;
    int until_update; /* records; a few more may go before the update does */
    const char *why;
};

struct crypt_ctx {
    unsigned refs;
    bool server;
};

static void append(struct bytes *b, const void *data, size_t size)
{
    if (size == 0)
        return;
    b->data = realloc(b->data, b->size + size);
    CHECK(b->data != NULL);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void drop(struct bytes *b, size_t size)
{
    b->size -= size;
    memmove(b->data, b->data + size, b->size);
}

/* Contexts */

struct crypt_ctx *crypt_ctx_open(const struct crypt_config *config, char *why, size_t why_size)
{
    struct crypt_ctx *ctx = calloc(1, sizeof(*ctx));

    CHECK(ctx != NULL && why_size > 0);
    why[0] = '\0';
    ctx->refs = 1;
    ctx->server = config->server;
    return ctx;
}

struct crypt_ctx *crypt_ctx_ref(struct crypt_ctx *ctx)
{
    ctx->refs++;
    return ctx;
}

const char *crypt_sniff(const uint8_t *src, size_t size, bool server, bool *tls)
{
    (void)src;
    (void)server;
    (void)size;
    *tls = false;
    return NULL;
}

void crypt_ctx_unref(struct crypt_ctx *ctx)
{
    if (ctx != NULL && --ctx->refs == 0)
        free(ctx);
}

bool crypt_certificate_name(const char *cert, char *name, size_t size)
{
    (void)cert;
    (void)name;
    (void)size;
    return false;
}

bool crypt_certificate_dates(const char *cert, struct crypt_dates *dates)
{
    (void)cert;
    *dates = (struct crypt_dates){ .days = 1000, .clock_is_set = true };
    return true;
}

bool crypt_renew_certificate(const char *dir, char *why, size_t why_size)
{
    snprintf(why, why_size, "no certificate is renewed in %s: this is a simulation", dir);
    return false;
}

bool crypt_make_certificate(const char *dir, const char *name, char *why, size_t why_size)
{
    (void)name;
    snprintf(why, why_size, "no certificate is made in %s: this is a simulation", dir);
    return false;
}

const char *crypt_ctx_pin(const struct crypt_ctx *ctx)
{
    return ctx->server ? "sha256:simulated" : "";
}

struct crypt *crypt_open(struct crypt_ctx *ctx, const char *name, const char *known_as)
{
    struct crypt *c = calloc(1, sizeof(*c));

    CHECK(c != NULL && (name == NULL) == ctx->server && (known_as == NULL || !ctx->server));
    c->server = ctx->server;
    c->until_update = (int)fake_random_between(fake_random(), 1, UPDATE_AFTER);
    c->why = "";
    return c;
}

void crypt_close(struct crypt *c)
{
    if (c == NULL)
        return;
    free(c->in.data);
    free(c->out.data);
    free(c);
}

/* Handshake */

static void put_header(uint8_t *dst, uint8_t type, size_t size)
{
    dst[0] = type;
    dst[1] = dst[2] = 3;
    dst[3] = (uint8_t)(size >> 8);
    dst[4] = (uint8_t)size;
}

static size_t header_size(const uint8_t *src)
{
    return (size_t)src[3] << 8 | src[4];
}

static uint64_t sum_of(uint64_t sum, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * UINT64_C(0x100000001b3); /* FNV-1a's prime */
    return fake_mix(sum ^ size);
}

static void say(struct crypt *c, size_t most)
{
    const struct fake_options *o = fake_options();
    size_t size = fake_random_between(
        fake_random(), 1, o->handshake_max > 0 ? min_size(o->handshake_max, most) : most);
    uint8_t *message = calloc(1, HEADER + size + SUM);

    CHECK(message != NULL);
    put_header(message, HANDSHAKE, size + SUM);
    for (size_t i = 0; i < size; i++)
        message[HEADER + i] = (uint8_t)fake_random_next(fake_random());
    c->said = sum_of(c->said, message, HEADER + size);
    memcpy(message + HEADER + size, &c->said, SUM);
    append(&c->out, message, HEADER + size + SUM);
    free(message);
}

/* Both know the answer. */
static void make_keys(struct crypt *c)
{
    uint64_t server = fake_mix(c->said + 1), client = fake_mix(c->said + 2);

    c->tx.key = c->server ? server : client;
    c->rx.key = c->server ? client : server;
    c->exporter = fake_mix(c->said + 3);
    c->keyed = true;
}

static size_t finish(struct crypt *c, uint8_t *dst, size_t size, enum inner inner);

static void put_record(struct crypt *c, enum inner inner)
{
    uint8_t record[CRYPT_CONTROL];

    append(&c->out, record, finish(c, record, 0, inner));
}

static enum crypt_step failed(struct crypt *c, const char *why)
{
    c->why = why;
    return CRYPT_FAILED;
}

/* The peer is told. */
static enum crypt_step spoiled(struct crypt *c, const char *why)
{
    const uint8_t alert[] = { ALERT, 3, 3, 0, 2, 2, DESCRIBES };

    if (c->keyed)
        put_record(c, INNER_ALERT);
    else
        append(&c->out, alert, sizeof(alert));
    c->ended = true;
    return failed(c, why);
}

/* One message of the peer was received. */
static void heard(struct crypt *c)
{
    c->messages++;
    if (c->server && c->messages == 1) {
        say(c, ANSWER_MAX);
        make_keys(c);
        if (fake_random_chance(fake_random(), fake_options()->tickets))
            put_record(c, INNER_TICKET);
    }
    if (!c->server) {
        make_keys(c);
        say(c, HELLO_MAX);
    }
    c->ready = c->messages == (c->server ? 2 : 1);
}

/* False: a byte of it, or of what it answers to, is not what was said. The server goes on with half
 * of the wrong hellos. */
static bool is_right(struct crypt *c, const uint8_t *message, size_t whole)
{
    uint64_t sum;

    c->said = sum_of(c->said, message, whole - SUM);
    memcpy(&sum, message + whole - SUM, SUM);
    if (sum == c->said)
        return true;
    bool unseen = c->server && c->messages == 0 && message[HEADER] % 2 == 0;
    c->said = sum_of(c->said, (const uint8_t *)&sum, SUM);
    return unseen;
}

enum crypt_step crypt_handshake(struct crypt *c, const uint8_t *in, size_t size)
{
    CHECK(!c->ready);
    append(&c->in, in, size);
    if (!c->server && !c->began)
        say(c, HELLO_MAX);
    c->began = true;
    while (!c->ready) {
        if (c->in.size < HEADER)
            return CRYPT_WANT;
        if (c->in.data[0] == ALERT)
            return failed(c, "the peer sent an alert");
        size_t whole = HEADER + header_size(c->in.data);
        if (c->in.data[0] != HANDSHAKE || c->in.data[1] != 3 || c->in.data[2] != 3 ||
            whole <= HEADER + SUM || whole > HEADER + RECORD_MOST)
            return spoiled(c, "not a handshake message");
        if (c->in.size < whole)
            return CRYPT_WANT;
        if (!is_right(c, c->in.data, whole))
            return spoiled(c, "the handshake was changed on its way");
        drop(&c->in, whole);
        heard(c);
    }
    return CRYPT_READY;
}

enum crypt_step crypt_answer(struct crypt *c, bool accept)
{
    return failed(c, accept ? "nobody asked" : "refused");
}

const char *crypt_question(const struct crypt *c)
{
    return c->why;
}

size_t crypt_output_size(const struct crypt *c)
{
    return c->out.size;
}

size_t crypt_output(struct crypt *c, uint8_t *dst, size_t room)
{
    size_t n = min_size(room, c->out.size);

    if (n == 0)
        return 0;
    memcpy(dst, c->out.data, n);
    drop(&c->out, n);
    return n;
}

size_t crypt_leftover_size(const struct crypt *c)
{
    return c->in.size;
}

void crypt_leftover(struct crypt *c, uint8_t *dst, size_t size)
{
    CHECK(size == c->in.size);
    if (size > 0)
        memcpy(dst, c->in.data, size);
    free(c->in.data);
    c->in = (struct bytes){ 0 };
}

bool crypt_offload_due(const struct crypt *c)
{
    return c == NULL;
}

bool crypt_offload(struct crypt *c, int fd, bool rx, bool force)
{
    (void)rx;
    CHECK(fake_is_open(fd) && c->ready);
    c->why = "the simulated kernel has no TLS";
    return !force;
}

bool crypt_tx_kernel(const struct crypt *c)
{
    return c == NULL;
}

bool crypt_rx_kernel(const struct crypt *c)
{
    return c == NULL;
}

void crypt_send_type(struct msghdr *msg, void *control, uint8_t type)
{
    CHECK(msg == NULL && control == NULL && type == 0);
}

uint8_t crypt_recv_type(struct msghdr *msg)
{
    CHECK(msg == NULL);
    return 0;
}

bool crypt_is_12(const struct crypt *c)
{
    return c == NULL;
}

void crypt_exporter(const struct crypt *c, uint8_t exporter[CRYPT_MAC_SIZE])
{
    CHECK(c->ready);
    memset(exporter, 0, CRYPT_MAC_SIZE);
    memcpy(exporter, &c->exporter, sizeof(c->exporter));
}

const char *crypt_summary(struct crypt *c)
{
    return c->server ? "simulated TLS, server" : "simulated TLS, client";
}

bool crypt_short(const struct crypt *c)
{
    (void)c;
    return false;
}

bool crypt_is_clock(const struct crypt *c)
{
    (void)c;
    return false;
}

const char *crypt_why(const struct crypt *c)
{
    return c->why;
}

/* Records */

static uint64_t tag_of(const struct half *half, const uint8_t *data, size_t size)
{
    return sum_of(fake_mix(half->key ^ half->number << 8), data, size);
}

/* Hides and shows: without the right key and number nothing reads as what it was. */
static void mask(const struct half *half, uint8_t *data, size_t size)
{
    uint8_t byte = (uint8_t)(fake_mix(half->key * 31 + half->number) | 1);

    for (size_t i = 0; i < size; i++)
        data[i] ^= byte;
}

/* Makes a record of the `size` bytes that stand behind its header already. */
static size_t finish(struct crypt *c, uint8_t *dst, size_t size, enum inner inner)
{
    CHECK(c->keyed && !c->ended);
    dst[HEADER + size++] = (uint8_t)inner;
    uint64_t tag = tag_of(&c->tx, dst + HEADER, size);
    mask(&c->tx, dst + HEADER, size);
    memcpy(dst + HEADER + size, &tag, TAG);
    put_header(dst, PROTECTED, size + TAG);
    c->tx.number++;
    return HEADER + size + TAG;
}

size_t crypt_seal(struct crypt *c, const struct iovec *slices, unsigned count, uint8_t *dst)
{
    size_t size = 0;

    CHECK(c->ready && !c->ended && c->until_update > -(int)UPDATE_SLACK);
    c->used_up = c->used_up || fake_random_chance(fake_random(), fake_options()->seal_refused);
    if (c->used_up)
        return 0;
    for (unsigned i = 0; i < count; i++) {
        CHECK(size + slices[i].iov_len <= CRYPT_PAYLOAD);
        memcpy(dst + HEADER + size, slices[i].iov_base, slices[i].iov_len);
        size += slices[i].iov_len;
    }
    CHECK(size > 0);
    c->until_update--;
    return finish(c, dst, size, INNER_DATA);
}

bool crypt_update_due(const struct crypt *c)
{
    return c->until_update <= 0;
}

static size_t put_update(struct crypt *c, uint8_t *dst)
{
    size_t size;

    if (!crypt_update_due(c))
        return 0;
    size = finish(c, dst, 0, INNER_UPDATE);
    c->tx = (struct half){ .key = fake_mix(c->tx.key) };
    c->until_update = (int)fake_random_between(fake_random(), 1, UPDATE_AFTER);
    return size;
}

size_t crypt_put(struct crypt *c, enum crypt_control what, uint8_t *dst, uint8_t *type)
{
    *type = PROTECTED;
    if (c->ended || c->used_up)
        return 0;
    if (what == CRYPT_PUT_UPDATE)
        return put_update(c, dst);
    if (what == CRYPT_PUT_ALERT && c->was_told)
        return 0;
    size_t size = finish(c, dst, 0, what == CRYPT_PUT_CLOSE ? INNER_CLOSE : INNER_ALERT);
    c->ended = true;
    return size;
}

static bool whole(const uint8_t *src, const uint8_t *end)
{
    return end - src >= (ptrdiff_t)HEADER && end - src >= (ptrdiff_t)(HEADER + header_size(src));
}

static bool sane(const uint8_t *src)
{
    return src[0] == PROTECTED && src[1] == 3 && header_size(src) > TAG &&
           header_size(src) <= CRYPT_PAYLOAD + 1 + TAG && src[2] == 3;
}

size_t crypt_record_room(const uint8_t *src, const uint8_t *end)
{
    if (end - src >= (ptrdiff_t)HEADER && !sane(src))
        return CRYPT_PAYLOAD;
    return whole(src, end) ? header_size(src) - TAG : 0;
}

static enum crypt_opened broken(struct crypt *c, const char *why)
{
    c->why = why;
    return CRYPT_BROKEN;
}

enum crypt_opened crypt_open_record(struct crypt *c, uint8_t *src, uint8_t *end, uint8_t *dst,
                                    size_t *used, size_t *size)
{
    uint64_t tag;

    *used = *size = 0;
    if (end - src >= (ptrdiff_t)HEADER && !sane(src))
        return broken(c, "not a record");
    if (!whole(src, end))
        return CRYPT_MORE;
    size_t inner = header_size(src) - TAG;
    mask(&c->rx, src + HEADER, inner);
    memcpy(&tag, src + HEADER + inner, TAG);
    if (tag != tag_of(&c->rx, src + HEADER, inner))
        return broken(c, "a record that was changed, lost or repeated");
    CHECK(!c->closed); /* nothing comes behind close_notify */
    c->rx.number++;
    *used = HEADER + inner + TAG;
    *size = inner - 1;
    switch (src[HEADER + inner - 1]) {
    case INNER_DATA:
        memmove(dst, src + HEADER, *size);
        return CRYPT_DATA;
    case INNER_TICKET:
        return CRYPT_SKIP;
    case INNER_UPDATE:
        c->rx = (struct half){ .key = fake_mix(c->rx.key) };
        return CRYPT_SKIP;
    case INNER_CLOSE:
        c->closed = true;
        return CRYPT_CLOSED;
    default:
        c->was_told = true;
        return broken(c, "the peer sent an alert");
    }
}

bool crypt_eof(struct crypt *c)
{
    c->why = "cut short: no close_notify";
    return c->closed || !c->ready; /* the end of a handshake cuts no data */
}

/* The kernel's engine, which is never chosen */

enum crypt_opened crypt_control(struct crypt *c, uint8_t type, uint8_t *payload, size_t size)
{
    CHECK(type == 0 && payload == NULL && size > 0); /* not reached */
    return broken(c, "no such engine");
}

void crypt_sent(struct crypt *c, uint32_t bytes)
{
    CHECK(c->ready && bytes > 0);
}

/* The engine of user space changes its keys by itself. */
bool crypt_rekey(struct crypt *c, int fd)
{
    return c->ready && fake_is_open(fd);
}

void ring_recvmsg(struct ring *ring, uint64_t user_data, int fd, struct msghdr *msg, unsigned flags)
{
    (void)user_data;
    (void)flags;
    CHECK(ring == NULL && fd < 0 && msg == NULL); /* only reads of the kernel's engine ask for it */
}

/* No cryptography, but every byte of key and data changes all of what comes out. */
static void digest(uint64_t hash, const uint8_t *data, size_t size, uint8_t out[CRYPT_MAC_SIZE])
{
    for (size_t i = 0; i < size; i++)
        hash = fake_mix((hash ^ data[i]) * UINT64_C(1099511628211));
    for (size_t i = 0; i < CRYPT_MAC_SIZE; i += sizeof(hash)) {
        hash = fake_mix(hash + size);
        memcpy(out + i, &hash, sizeof(hash));
    }
}

/* What the engine makes of tokens (core/mux/scram.c) and must keep to itself. */
static bool makes_secret(const void *data, size_t size)
{
    static const char *const labels[] = { "Client Key", "Server Key", "culvert v2 session" };

    for (unsigned i = 0; i < ARRAY_SIZE(labels); i++)
        if (size >= strlen(labels[i]) && memcmp(data, labels[i], strlen(labels[i])) == 0)
            return true;
    return false;
}

void crypt_mac(const uint8_t key[CRYPT_MAC_SIZE], const void *data, size_t size,
               uint8_t mac[CRYPT_MAC_SIZE])
{
    uint8_t seed[CRYPT_MAC_SIZE];
    uint64_t hash;

    digest(1, key, CRYPT_MAC_SIZE, seed);
    memcpy(&hash, seed, sizeof(hash));
    digest(hash, data, size, mac);
    if (makes_secret(data, size))
        fake_secret(mac, CRYPT_MAC_SIZE);
}

void crypt_hash(const void *data, size_t size, uint8_t hash[CRYPT_MAC_SIZE])
{
    digest(2, data, size, hash);
}
