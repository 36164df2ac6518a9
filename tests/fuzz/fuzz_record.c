/*
 * Fuzz target: the record engine as a peer that holds the keys can abuse it. The input is a script
 * for one end of a lane: what is sealed with a good key may still be of any type, any content and
 * any order, and that is where a parser can go wrong; bytes without a key must never come out as
 * data.
 *
 * Input: {cipher and version u8}, then commands {op u8, length u8, bytes}.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "tls/record.h"
#include "tls/record_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum op {
    OP_SEAL,     /* bytes[0] is the type, the rest the content */
    OP_FLIP,     /* the same with one bit flipped on the way */
    OP_RAW,      /* the bytes as they are */
    OP_TRUNCATE, /* a record that does not all come */
    OP_UPDATE,   /* a KeyUpdate of the peer's */
    OP_ANSWER,   /* our KeyUpdate when one is due */
    OP_REPLAY,   /* the last record again */
    OP_CLOSE,    /* close_notify of the peer's */
    OP_COUNT
};

struct world {
    struct record *peer;
    struct record *ours;
    uint8_t wire[RECORD_HEAD_MAX + 256 + RECORD_TAIL_MAX];
    uint8_t last[RECORD_HEAD_MAX + 256 + RECORD_TAIL_MAX];
    size_t last_len;
    bool failed;
};

static void start(struct world *world, uint8_t kind)
{
    struct record_keys keys;
    struct record_half_keys swap;

    memset(&keys, 0, sizeof(keys));
    keys.version = (kind & 4) != 0 ? RECORD_TLS12 : RECORD_TLS13;
    keys.cipher = (enum record_cipher)(kind % RECORD_CIPHER_COUNT);
    if (keys.version == RECORD_TLS13 && (kind & 8) == 0)
        keys.secret_len = (uint8_t)record_cipher_hash_len(keys.cipher);
    memset(&keys.tx, 'T', sizeof(keys.tx));
    memset(&keys.rx, 'R', sizeof(keys.rx));
    keys.tx.seq = keys.rx.seq = 0;
    if (keys.secret_len != 0)
        CHECK(record_derive(keys.secret_len, record_cipher_key_len(keys.cipher), &keys.tx) &&
              record_derive(keys.secret_len, record_cipher_key_len(keys.cipher), &keys.rx));
    world->ours = record_new(&keys);
    swap = keys.tx;
    keys.tx = keys.rx;
    keys.rx = swap;
    world->peer = record_new(&keys);
    CHECK(world->ours != NULL && world->peer != NULL);
}

/* Opens an exact copy, so that a read past the end is seen. Returns the status. */
static enum record_status give(struct world *world, const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    struct record_in in;

    CHECK(copy != NULL);
    memcpy(copy, bytes, len);
    enum record_status status = record_open(world->ours, copy, copy + len, &in);
    if (world->failed)
        CHECK(status == RECORD_FAILED);
    if (status == RECORD_DATA)
        CHECK(in.len > 0 && in.len <= RECORD_PLAIN_MAX && in.data >= copy &&
              in.data + in.len <= copy + len);
    if (status == RECORD_DATA || status == RECORD_SKIP)
        CHECK(in.next > copy && in.next <= copy + len);
    if (status == RECORD_MORE)
        CHECK(in.next == copy && in.need > len && in.need <= RECORD_WIRE_MAX);
    if (status == RECORD_FAILED) {
        CHECK(record_error(world->ours) != RECORD_ERROR_NONE);
        world->failed = true;
    }
    free(copy);
    return status;
}

static size_t seal(struct world *world, const uint8_t *bytes, size_t len)
{
    enum record_type type = len > 0 ? (enum record_type)bytes[0] : RECORD_TYPE_DATA;

    if (len > 0) {
        bytes++;
        len--;
    }
    if (len > 0)
        memcpy(world->wire + record_head(world->peer), bytes, len);
    size_t n = record_seal(world->peer, type, world->wire + record_head(world->peer), len);
    if (n > 0) {
        memcpy(world->last, world->wire, n);
        world->last_len = n;
    }
    return n;
}

static void flip(struct world *world, const uint8_t *bytes, size_t len)
{
    size_t n = seal(world, bytes, len);

    if (n == 0)
        return;
    size_t bit = (len > 1 ? bytes[1] * 7u : 0) % (8 * n);
    world->wire[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    enum record_status status = give(world, world->wire, n);
    CHECK(status != RECORD_DATA && status != RECORD_SKIP);
    world->failed = true; /* the two ends are out of step now */
    if (status == RECORD_CLOSED || status == RECORD_MORE)
        record_fail(world->ours, RECORD_ERROR_BAD_TAG);
}

static void answer(struct world *world)
{
    struct record_in in;
    uint8_t wire[RECORD_CONTROL_MAX];

    if (!record_update_due(world->ours))
        return;
    size_t n = record_put_key_update(world->ours, wire);
    if (n == 0)
        return;
    enum record_status status = record_open(world->peer, wire, wire + n, &in);
    CHECK(status == RECORD_SKIP || status == RECORD_FAILED); /* FAILED: the flood bound */
    CHECK(!record_update_due(world->ours));
}

static void run(struct world *world, enum op op, const uint8_t *bytes, size_t len)
{
    size_t n;

    switch (op) {
    case OP_SEAL:
        n = seal(world, bytes, len);
        give(world, world->wire, n);
        break;
    case OP_FLIP:
        flip(world, bytes, len);
        break;
    case OP_RAW:
        CHECK(give(world, bytes, len) != RECORD_DATA);
        break;
    case OP_TRUNCATE:
        n = seal(world, bytes, len);
        for (size_t have = 0; have < n; have++)
            CHECK(give(world, world->wire, have) != RECORD_DATA);
        give(world, world->wire, n);
        break;
    case OP_UPDATE:
        if (world->peer->secret_len != 0)
            give(world, world->wire, record_put_key_update(world->peer, world->wire));
        break;
    case OP_ANSWER:
        answer(world);
        break;
    case OP_REPLAY:
        CHECK(give(world, world->last, world->last_len) != RECORD_DATA);
        break;
    default:
        give(world, world->wire, record_put_close(world->peer, world->wire));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world world = { 0 };
    const uint8_t *end = data + size;

    if (size < 1)
        return 0;
    start(&world, *data++);
    while (end - data >= 2) {
        enum op op = (enum op)(data[0] % OP_COUNT);
        size_t len = data[1];
        data += 2;
        if (len > (size_t)(end - data))
            len = (size_t)(end - data);
        run(&world, op, data, len);
        data += len;
    }
    record_free(world.peer);
    record_free(world.ours);
    return 0;
}
