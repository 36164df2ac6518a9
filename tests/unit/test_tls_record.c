/*
 * The record engine in user space: published vectors, then everything a record can get wrong. Keys
 * are made up here; records that wolfSSL, OpenSSL and GnuTLS made are in test_tls_wolf.c and
 * test_tls_interop.c.
 */
#include <check.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "tls/record.h"
#include "tls/record_impl.h"

/* Every cipher in both versions: a loop index picks one. */
#define KINDS 6

static enum record_cipher kind_cipher(int kind)
{
    return (enum record_cipher)(kind % 3);
}

static uint16_t kind_version(int kind)
{
    return kind < 3 ? RECORD_TLS13 : RECORD_TLS12;
}

static void fill(uint8_t *dst, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245u + 12345u;
        dst[i] = (uint8_t)(seed >> 16);
    }
}

static void make_keys(struct record_keys *keys, int kind)
{
    memset(keys, 0, sizeof(*keys));
    keys->version = kind_version(kind);
    keys->cipher = kind_cipher(kind);
    if (keys->version == RECORD_TLS13)
        keys->secret_len = (uint8_t)record_cipher_hash_len(keys->cipher);
    fill(keys->tx.secret, RECORD_SECRET_MAX, 1);
    fill(keys->rx.secret, RECORD_SECRET_MAX, 2);
    size_t key_len = record_cipher_key_len(keys->cipher);
    size_t hash_len = record_cipher_hash_len(keys->cipher);
    ck_assert(record_derive((uint8_t)hash_len, key_len, &keys->tx));
    ck_assert(record_derive((uint8_t)hash_len, key_len, &keys->rx));
    if (keys->version == RECORD_TLS12) {
        keys->tx.seq = 1; /* after Finished */
        keys->rx.seq = 1;
    }
}

/* Two ends of one lane. */
static void make_pair(int kind, struct record **a, struct record **b)
{
    struct record_keys keys;
    struct record_half_keys swap;

    make_keys(&keys, kind);
    *a = record_new(&keys);
    swap = keys.tx;
    keys.tx = keys.rx;
    keys.rx = swap;
    *b = record_new(&keys);
    ck_assert_ptr_nonnull(*a);
    ck_assert_ptr_nonnull(*b);
}

/* A pair whose `a` writes with an explicit inner type and padding that record_seal() would not
 * make. */
struct wire {
    uint8_t bytes[RECORD_WIRE_MAX + 64];
    size_t len;
};

static void seal_text(struct record *from, struct wire *wire, const void *data, size_t len)
{
    memcpy(wire->bytes + record_head(from), data, len);
    wire->len = record_seal(from, RECORD_TYPE_DATA, wire->bytes + record_head(from), len);
    ck_assert_uint_eq(wire->len, record_head(from) + len + record_tail(from));
}

static void seal_as(struct record *from, struct wire *wire, enum record_type type, const void *data,
                    size_t len)
{
    memcpy(wire->bytes + record_head(from), data, len);
    wire->len = record_seal(from, type, wire->bytes + record_head(from), len);
    ck_assert_uint_gt(wire->len, 0);
}

static enum record_status open_wire(struct record *to, struct wire *wire, struct record_in *in)
{
    return record_open(to, wire->bytes, wire->bytes + wire->len, in);
}

static void expect_data(struct record *to, struct wire *wire, const void *data, size_t len)
{
    struct record_in in;

    ck_assert_msg(open_wire(to, wire, &in) == RECORD_DATA, "%s",
                  record_error_text(record_error(to)));
    ck_assert_uint_eq(in.len, len);
    ck_assert_mem_eq(in.data, data, len);
    ck_assert_ptr_eq(in.next, wire->bytes + wire->len);
}

static void expect_error(struct record *to, struct wire *wire, enum record_error error)
{
    struct record_in in;

    ck_assert_int_eq(open_wire(to, wire, &in), RECORD_FAILED);
    ck_assert_msg(record_error(to) == error, "%s instead of %s",
                  record_error_text(record_error(to)), record_error_text(error));
    /* and it stays failed */
    ck_assert_int_eq(open_wire(to, wire, &in), RECORD_FAILED);
}

static void drop(struct record *a, struct record *b)
{
    record_free(a);
    record_free(b);
}

/* Vectors */

static size_t unhex(const char *hex, uint8_t *dst)
{
    size_t n = 0;

    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2)
        dst[n++] = (uint8_t)strtoul((const char[]){ hex[0], hex[1], '\0' }, NULL, 16);
    return n;
}

/* RFC 8448 section 3: from the traffic secrets to the two records of application data. */
START_TEST(rfc8448)
{
    struct record_keys keys = { .version = RECORD_TLS13,
                                .cipher = RECORD_AES_128_GCM,
                                .secret_len = 32 };
    uint8_t expected[128];
    struct wire wire;
    uint8_t text[50];

    unhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5", keys.tx.secret);
    unhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643", keys.rx.secret);
    ck_assert(record_derive(32, 16, &keys.tx));
    ck_assert(record_derive(32, 16, &keys.rx));
    unhex("17422dda596ed5d9acd890e3c63f5051", expected);
    ck_assert_mem_eq(keys.tx.key, expected, 16);
    unhex("5b78923dee08579033e523d9", expected);
    ck_assert_mem_eq(keys.tx.iv, expected, 12);
    unhex("9f02283b6c9c07efc26bb9f2ac92e356", expected);
    ck_assert_mem_eq(keys.rx.key, expected, 16);
    struct record *record = record_new(&keys);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)i;
    seal_text(record, &wire, text, sizeof(text));
    size_t n = unhex(
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20"
        "441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4",
        expected);
    ck_assert_uint_eq(n, wire.len);
    ck_assert_mem_eq(wire.bytes, expected, n);
    record_free(record);
}
END_TEST

/* Nonce and AAD as the RFCs write them, computed the long way. */
START_TEST(by_hand)
{
    struct record_keys keys;
    struct wire wire;
    uint8_t nonce[12];
    uint8_t aad[13] = { 0 };
    uint8_t plain[64];
    int n;
    make_keys(&keys, _i);
    keys.tx.seq = 0x0102030405060708ull;
    struct record *record = record_new(&keys);

    seal_text(record, &wire, "by hand", 7);
    bool tls13 = keys.version == RECORD_TLS13;
    bool gcm12 = !tls13 && keys.cipher != RECORD_CHACHA20_POLY1305;
    memcpy(nonce, keys.tx.iv, 12);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = gcm12 ? (uint8_t)(i + 1) : (uint8_t)(nonce[4 + i] ^ (i + 1));
    if (gcm12)
        ck_assert_mem_eq(wire.bytes + 5, nonce + 4, 8);
    const uint8_t aad12[13] = { 1, 2, 3, 4, 5, 6, 7, 8, 23, 3, 3, 0, 7 };
    memcpy(aad, tls13 ? wire.bytes : aad12, tls13 ? 5 : 13);
    const EVP_CIPHER *cipher = keys.cipher == RECORD_AES_128_GCM   ? EVP_aes_128_gcm()
                               : keys.cipher == RECORD_AES_256_GCM ? EVP_aes_256_gcm()
                                                                   : EVP_chacha20_poly1305();
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    ck_assert_int_eq(EVP_DecryptInit_ex(ctx, cipher, NULL, keys.tx.key, nonce), 1);
    ck_assert_int_eq(EVP_DecryptUpdate(ctx, NULL, &n, aad, tls13 ? 5 : 13), 1);
    int len = tls13 ? 8 : 7;
    uint8_t *body = wire.bytes + record_head(record);
    ck_assert_int_eq(EVP_DecryptUpdate(ctx, plain, &n, body, len), 1);
    ck_assert_int_eq(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, body + len), 1);
    ck_assert_int_eq(EVP_DecryptFinal_ex(ctx, plain + n, &n), 1);
    ck_assert_mem_eq(plain, tls13 ? "by hand\x17" : "by hand", len);
    EVP_CIPHER_CTX_free(ctx);
    record_free(record);
}
END_TEST

/* Data */

START_TEST(every_size)
{
    static const size_t sizes[] = { 1,   2,    15,   16,   17,   31,    32,   33,
                                    100, 1000, 1448, 4096, 8191, 16383, 16384 };
    static uint8_t data[RECORD_PLAIN_MAX];
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(_i, &a, &b);

    fill(data, sizeof(data), 7);
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            seal_text(a, &wire, data, sizes[i]);
            ck_assert_mem_ne(wire.bytes + record_head(a), data,
                             sizes[i] > 4 ? sizes[i] : RECORD_TAG);
            expect_data(b, &wire, data, sizes[i]);
            seal_text(b, &wire, data, sizes[i]);
            expect_data(a, &wire, data, sizes[i]);
        }
    ck_assert_uint_eq(record_count(a, RECORD_TX), 45);
    ck_assert_uint_eq(record_count(a, RECORD_RX), 45);
    drop(a, b);
}
END_TEST

/* Slices sealed into a buffer are the same record as the bytes sealed in place. */
START_TEST(from_slices)
{
    uint8_t data[3000];
    struct record *a;
    struct record *b;
    struct record *c;
    struct record *d;
    struct wire one;
    struct wire two;
    make_pair(_i, &a, &b);
    make_pair(_i, &c, &d);

    fill(data, sizeof(data), 9);
    for (size_t cut = 0; cut <= 48; cut += 3) {
        const struct iovec slices[] = { { data, cut },
                                        { data + cut, 0 },
                                        { data + cut, 100 },
                                        { data + cut + 100, sizeof(data) - cut - 100 } };
        seal_text(a, &one, data, sizeof(data));
        two.len = record_seal_slices(c, RECORD_TYPE_DATA, slices, 4, two.bytes);
        ck_assert_uint_eq(one.len, two.len);
        ck_assert_mem_eq(one.bytes, two.bytes, one.len);
        expect_data(d, &two, data, sizeof(data));
    }
    drop(a, b);
    drop(c, d);
}
END_TEST

START_TEST(byte_by_byte)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    struct record_in in;
    make_pair(_i, &a, &b);

    for (int round = 0; round < 3; round++) {
        seal_text(a, &wire, "drip, drip", 10);
        for (size_t have = 0; have < wire.len; have++) {
            ck_assert_int_eq(record_open(b, wire.bytes, wire.bytes + have, &in), RECORD_MORE);
            ck_assert_ptr_eq(in.next, wire.bytes);
            ck_assert_uint_eq(in.need, have < RECORD_HEADER ? RECORD_HEADER : wire.len);
        }
        expect_data(b, &wire, "drip, drip", 10);
    }
    drop(a, b);
}
END_TEST

START_TEST(many_in_one_buffer)
{
    static uint8_t buffer[64 * 128];
    struct record *a;
    struct record *b;
    struct record_in in;
    make_pair(_i, &a, &b);
    uint8_t *end = buffer;

    for (uint8_t i = 0; i < 64; i++) {
        memset(end + record_head(a), i, 1u + i);
        end += record_seal(a, RECORD_TYPE_DATA, end + record_head(a), 1u + i);
    }
    uint8_t *src = buffer;
    for (uint8_t i = 0; i < 64; i++) {
        ck_assert_int_eq(record_open(b, src, end, &in), RECORD_DATA);
        ck_assert_uint_eq(in.len, 1u + i);
        ck_assert_uint_eq(in.data[i], i);
        src = in.next;
    }
    ck_assert_ptr_eq(src, end);
    ck_assert_int_eq(record_open(b, src, end, &in), RECORD_MORE);
    drop(a, b);
}
END_TEST

/* Tampering */

/* Each bit of the whole record, header included. */
START_TEST(flipped_bits)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    struct wire bad;
    struct record_in in;
    make_pair(_i, &a, &b);
    record_free(b);

    seal_text(a, &wire, "authentic", 9);
    for (size_t bit = 0; bit < 8 * wire.len; bit++) {
        struct record *other;
        make_pair(_i, &other, &b);
        record_free(other);
        bad = wire;
        bad.bytes[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        enum record_status status = open_wire(b, &bad, &in);
        /* A longer length only means that the record has not all come: give it its bytes. */
        if (status == RECORD_MORE) {
            ck_assert(bit / 8 == 3 || bit / 8 == 4);
            ck_assert_uint_gt(in.need, wire.len);
            ck_assert_uint_le(in.need, sizeof(bad.bytes));
            memset(bad.bytes + wire.len, 0, in.need - wire.len);
            bad.len = in.need;
            status = open_wire(b, &bad, &in);
        }
        ck_assert_msg(status == RECORD_FAILED, "bit %zu", bit);
        ck_assert_int_ne(record_error(b), RECORD_ERROR_NONE);
        ck_assert_int_ne(record_error_alert(record_error(b)), 0);
        record_free(b);
    }
    record_free(a);
}
END_TEST

START_TEST(replayed)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    struct wire copy;
    make_pair(_i, &a, &b);

    seal_text(a, &wire, "once", 4);
    copy = wire;
    expect_data(b, &wire, "once", 4);
    expect_error(b, &copy, RECORD_ERROR_BAD_TAG);
    ck_assert_uint_eq(record_error_alert(record_error(b)), 20);
    drop(a, b);
}
END_TEST

START_TEST(reordered)
{
    struct record *a;
    struct record *b;
    struct wire first;
    struct wire second;
    make_pair(_i, &a, &b);

    seal_text(a, &first, "first", 5);
    seal_text(a, &second, "second", 6);
    expect_error(b, &second, RECORD_ERROR_BAD_TAG);
    drop(a, b);
}
END_TEST

/* A record sent back to who sent it. */
START_TEST(reflected)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(_i, &a, &b);

    seal_text(a, &wire, "echo", 4);
    expect_error(a, &wire, RECORD_ERROR_BAD_TAG);
    drop(a, b);
}
END_TEST

START_TEST(oversized)
{
    struct record *a;
    struct record *b;
    struct wire wire = { .len = RECORD_HEADER };
    make_pair(_i, &a, &b);

    memcpy(wire.bytes, (uint8_t[]){ 23, 3, 3, 0x41, 0x01 }, 5); /* 16,384 + 257 */
    expect_error(b, &wire, RECORD_ERROR_TOO_LONG);
    ck_assert_uint_eq(record_error_alert(record_error(b)), 22);
    drop(a, b);
}
END_TEST

START_TEST(undersized)
{
    struct record *a;
    struct record *b;
    struct wire wire = { .len = RECORD_HEADER + 20 };
    make_pair(_i, &a, &b);

    uint8_t least = (uint8_t)(RECORD_TAG + (_i < 3 ? 1 : b->explicit_nonce));
    memcpy(wire.bytes, (uint8_t[]){ 23, 3, 3, 0, (uint8_t)(least - 1) }, 5);
    expect_error(b, &wire, RECORD_ERROR_TOO_SHORT);
    drop(a, b);
}
END_TEST

START_TEST(wrong_types)
{
    static const uint8_t types[] = { 0, 20, 21, 22, 24, 255 };
    struct record *a;
    struct record *b;
    struct wire wire = { .len = RECORD_HEADER + 40 };
    make_pair(0, &a, &b);

    memcpy(wire.bytes, (uint8_t[]){ types[_i], 3, 3, 0, 40 }, 5);
    expect_error(b, &wire, RECORD_ERROR_BAD_TYPE);
    ck_assert_uint_eq(record_error_alert(record_error(b)), 10);
    drop(a, b);
}
END_TEST

/* What a peer sends that lost its keys, or never had ours. */
START_TEST(plain_alert)
{
    struct record *a;
    struct record *b;
    struct wire wire = { .len = 6 };
    struct record_in in;
    make_pair(0, &a, &b);

    memcpy(wire.bytes, (uint8_t[]){ 21, 3, 3, 0, 2, 2, 48 }, 7);
    ck_assert_int_eq(open_wire(b, &wire, &in), RECORD_MORE);
    ck_assert_uint_eq(in.need, 7);
    wire.len = 7;
    expect_error(b, &wire, RECORD_ERROR_PLAIN_ALERT);
    ck_assert_uint_eq(record_peer_alert(b), 48);
    ck_assert_str_eq(record_alert_name(48), "unknown_ca");
    drop(a, b);
}
END_TEST

/* Padding and inner types (TLS 1.3) */

/* Seals inner plaintext as it stands: record_seal() would append a type of its own. */
static void seal_inner(struct record *from, struct wire *wire, const uint8_t *inner, size_t len)
{
    int n;
    uint8_t nonce[12];
    uint8_t *at = wire->bytes;
    size_t body = len + RECORD_TAG;

    memcpy(at, (uint8_t[]){ 23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body }, 5);
    memcpy(nonce, from->tx.keys.iv, 12);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] ^= (uint8_t)(from->tx.keys.seq >> (56 - 8 * i));
    ck_assert_int_eq(EVP_CipherInit_ex(from->tx.aead, NULL, NULL, NULL, nonce, -1), 1);
    ck_assert_int_eq(EVP_CipherUpdate(from->tx.aead, NULL, &n, at, 5), 1);
    if (len > 0)
        ck_assert_int_eq(EVP_CipherUpdate(from->tx.aead, at + 5, &n, inner, (int)len), 1);
    ck_assert_int_eq(EVP_CipherFinal_ex(from->tx.aead, at + 5 + len, &n), 1);
    ck_assert_int_eq(EVP_CIPHER_CTX_ctrl(from->tx.aead, EVP_CTRL_AEAD_GET_TAG, 16, at + 5 + len),
                     1);
    from->tx.keys.seq++;
    wire->len = 5 + len + RECORD_TAG;
}

START_TEST(padding)
{
    static uint8_t inner[RECORD_PLAIN_MAX + 256 - RECORD_TAG];
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(_i, &a, &b);

    memcpy(inner, "padded\x17", 7);
    for (size_t pad = 0; pad < 300; pad += 37) {
        seal_inner(a, &wire, inner, 7 + pad);
        expect_data(b, &wire, "padded", 6);
    }
    seal_inner(a, &wire, inner, sizeof(inner)); /* as long as a record may be */
    expect_data(b, &wire, "padded", 6);
    drop(a, b);
}
END_TEST

static const struct {
    const char *inner;
    size_t len;
    enum record_error error;
} inners[] = {
    { "\0\0\0\0", 4, RECORD_ERROR_NO_INNER_TYPE },
    { "x\x14", 2, RECORD_ERROR_BAD_TYPE },
    { "x\x18", 2, RECORD_ERROR_BAD_TYPE },
    { "\x16", 1, RECORD_ERROR_BAD_HANDSHAKE }, /* an empty handshake record */
    { "\x15", 1, RECORD_ERROR_BAD_ALERT },
    { "\x01\x15", 2, RECORD_ERROR_BAD_ALERT },
    { "\x01\0\0\x15", 4, RECORD_ERROR_BAD_ALERT },
    { "\x03\x14\x15", 3, RECORD_ERROR_BAD_ALERT }, /* no such level */
    { "\x02\x14\x15", 3, RECORD_ERROR_PEER_ALERT },
    { "\x01\x14\x15", 3, RECORD_ERROR_PEER_ALERT }, /* TLS 1.3 has no warnings */
    { "\x18\0\0\x01\x02\x16", 6, RECORD_ERROR_BAD_KEY_UPDATE },
    { "\x18\0\0\0\x16", 5, RECORD_ERROR_BAD_KEY_UPDATE },
    { "\x18\0\0\x02\0\0\x16", 7, RECORD_ERROR_BAD_KEY_UPDATE },
    { "\x18\0\0\x01\0\x18\x16", 7, RECORD_ERROR_BAD_KEY_UPDATE }, /* more behind it */
    { "\x01\0\0\x01\0\x16", 6, RECORD_ERROR_BAD_HANDSHAKE },      /* a ClientHello */
    { "\0\0\0\0\x16", 5, RECORD_ERROR_BAD_HANDSHAKE },            /* a HelloRequest */
    { "\x0d\0\0\x03\0\0\0\x16", 8, RECORD_ERROR_BAD_HANDSHAKE },  /* a CertificateRequest */
    { "\x04\x02\0\x01\x16", 5, RECORD_ERROR_BAD_HANDSHAKE },      /* a ticket of 131,073 bytes */
};

START_TEST(inner_types)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(0, &a, &b);

    seal_inner(a, &wire, (const uint8_t *)inners[_i].inner, inners[_i].len);
    expect_error(b, &wire, inners[_i].error);
    drop(a, b);
}
END_TEST

START_TEST(inner_too_long)
{
    static uint8_t inner[RECORD_PLAIN_MAX + 2];
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(0, &a, &b);

    memset(inner, 'x', sizeof(inner) - 1);
    inner[sizeof(inner) - 1] = 23;
    seal_inner(a, &wire, inner, sizeof(inner));
    expect_error(b, &wire, RECORD_ERROR_TOO_LONG);
    drop(a, b);
}
END_TEST

/* Alerts and ends */

START_TEST(close_both_ways)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    struct record_in in;
    uint8_t control[RECORD_CONTROL_MAX];
    make_pair(_i, &a, &b);

    wire.len = record_put_close(a, wire.bytes);
    ck_assert_uint_gt(wire.len, 0);
    ck_assert_uint_le(wire.len, RECORD_CONTROL_MAX);
    ck_assert_int_eq(record_put_type(a), RECORD_TYPE_ALERT);
    ck_assert_int_eq(open_wire(b, &wire, &in), RECORD_CLOSED);
    ck_assert_ptr_eq(in.next, wire.bytes + wire.len);
    ck_assert(record_closed(a, RECORD_TX));
    ck_assert(record_closed(b, RECORD_RX));
    ck_assert(record_eof(b));
    /* half-close: the other direction goes on */
    seal_text(b, &wire, "not yet", 7);
    expect_data(a, &wire, "not yet", 7);
    ck_assert_uint_eq(record_seal(a, RECORD_TYPE_DATA, control + record_head(a), 1), 0);
    ck_assert_uint_eq(record_put_close(a, control), 0);
    wire.len = record_put_close(b, wire.bytes);
    ck_assert_int_eq(open_wire(a, &wire, &in), RECORD_CLOSED);
    ck_assert(record_eof(a));
    drop(a, b);
}
END_TEST

START_TEST(truncated)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(_i, &a, &b);

    seal_text(a, &wire, "and then", 8);
    expect_data(b, &wire, "and then", 8);
    ck_assert(!record_eof(b));
    ck_assert_int_eq(record_error(b), RECORD_ERROR_TRUNCATED);
    drop(a, b);
}
END_TEST

START_TEST(fatal_alert)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(_i, &a, &b);

    wire.len = record_put_alert(a, 80, wire.bytes);
    expect_error(b, &wire, RECORD_ERROR_PEER_ALERT);
    ck_assert_uint_eq(record_peer_alert(b), 80);
    ck_assert_str_eq(record_alert_name(record_peer_alert(b)), "internal_error");
    ck_assert_uint_eq(record_put_close(a, wire.bytes), 0);
    drop(a, b);
}
END_TEST

START_TEST(warnings_of_tls12)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    struct record_in in;
    make_pair(3, &a, &b);

    seal_as(a, &wire, RECORD_TYPE_ALERT, "\x01\x64", 2); /* no_renegotiation */
    ck_assert_int_eq(open_wire(b, &wire, &in), RECORD_SKIP);
    seal_text(a, &wire, "go on", 5);
    expect_data(b, &wire, "go on", 5);
    seal_as(a, &wire, RECORD_TYPE_HANDSHAKE, "\0\0\0\0", 4); /* HelloRequest */
    expect_error(b, &wire, RECORD_ERROR_RENEGOTIATION);
    ck_assert_uint_eq(record_error_alert(record_error(b)), 100);
    drop(a, b);
}
END_TEST

START_TEST(useless_flood)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    struct record_in in;
    int skipped = 0;
    make_pair(_i, &a, &b);

    for (;;) {
        seal_text(a, &wire, "", 0);
        if (open_wire(b, &wire, &in) != RECORD_SKIP)
            break;
        skipped++;
    }
    ck_assert_int_eq(record_error(b), RECORD_ERROR_USELESS_FLOOD);
    ck_assert_int_eq(skipped, 32);
    drop(a, b);
}
END_TEST

/* Tickets and split messages */

START_TEST(tickets_are_skipped)
{
    static uint8_t ticket[5000] = { 4, 0, (5000 - 4) >> 8, (5000 - 4) & 255 };
    struct record *a;
    struct record *b;
    struct wire wire;
    struct record_in in;
    make_pair(0, &a, &b);

    fill(ticket + 4, sizeof(ticket) - 4, 3);
    static const size_t cuts[] = { 1, 2, 3, 4, 5, 100, 2500, 4999, 5000 };
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        seal_as(a, &wire, RECORD_TYPE_HANDSHAKE, ticket, cuts[i]);
        ck_assert_int_eq(open_wire(b, &wire, &in), RECORD_SKIP);
        if (cuts[i] < sizeof(ticket)) {
            seal_as(a, &wire, RECORD_TYPE_HANDSHAKE, ticket + cuts[i], sizeof(ticket) - cuts[i]);
            ck_assert_int_eq(open_wire(b, &wire, &in), RECORD_SKIP);
        }
        seal_text(a, &wire, "data", 4);
        expect_data(b, &wire, "data", 4);
    }
    /* two in one record */
    seal_as(a, &wire, RECORD_TYPE_HANDSHAKE, "\x04\0\0\x02xy\x04\0\0\x01z", 11);
    ck_assert_int_eq(open_wire(b, &wire, &in), RECORD_SKIP);
    seal_text(a, &wire, "data", 4);
    expect_data(b, &wire, "data", 4);
    drop(a, b);
}
END_TEST

/* RFC 8446 5.1: nothing between the parts of a message. */
START_TEST(interleaved)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    struct record_in in;
    make_pair(0, &a, &b);

    seal_as(a, &wire, RECORD_TYPE_HANDSHAKE, "\x04\0\0\x02x", 5);
    ck_assert_int_eq(open_wire(b, &wire, &in), RECORD_SKIP);
    seal_text(a, &wire, "data", 4);
    expect_error(b, &wire, RECORD_ERROR_BAD_HANDSHAKE);
    drop(a, b);
}
END_TEST

/* Key updates */

static void update(struct record *from, struct record *to)
{
    struct wire wire;
    struct record_in in;
    uint64_t before = record_updates(to, RECORD_RX);

    wire.len = record_put_key_update(from, wire.bytes);
    ck_assert_uint_gt(wire.len, 0);
    ck_assert_uint_le(wire.len, RECORD_CONTROL_MAX);
    ck_assert_int_eq(record_put_type(from), RECORD_TYPE_HANDSHAKE);
    ck_assert_int_eq(open_wire(to, &wire, &in), RECORD_SKIP);
    ck_assert_uint_eq(record_updates(to, RECORD_RX), before + 1);
}

START_TEST(key_update)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    uint8_t old[RECORD_KEY_MAX];
    make_pair(_i, &a, &b);

    for (int round = 0; round < 5; round++) {
        memcpy(old, a->tx.keys.key, sizeof(old));
        seal_text(a, &wire, "before", 6);
        expect_data(b, &wire, "before", 6);
        update(a, b);
        ck_assert(record_rekeyed(a, RECORD_TX));
        ck_assert(!record_rekeyed(a, RECORD_TX));
        ck_assert(record_rekeyed(b, RECORD_RX));
        ck_assert_mem_ne(old, a->tx.keys.key, a->key_len);
        ck_assert_mem_eq(a->tx.keys.secret, b->rx.keys.secret, a->secret_len);
        ck_assert_uint_eq(a->tx.keys.seq, 0);
        seal_text(a, &wire, "after", 5);
        expect_data(b, &wire, "after", 5);
        seal_text(b, &wire, "other way", 9);
        expect_data(a, &wire, "other way", 9);
        update(b, a);
    }
    ck_assert(!record_update_due(a));
    ck_assert(!record_update_due(b));
    drop(a, b);
}
END_TEST

/* The next secret by the formula of RFC 8446 7.2, computed here. */
START_TEST(key_update_vector)
{
    struct record *a;
    struct record *b;
    uint8_t next[32];
    unsigned n;
    static const uint8_t info[] = "\0\x20\x11tls13 traffic upd\0\x01";
    make_pair(0, &a, &b);

    ck_assert_ptr_nonnull(
        HMAC(EVP_sha256(), a->tx.keys.secret, 32, info, sizeof(info) - 1, next, &n));
    update(a, b);
    ck_assert_mem_eq(a->tx.keys.secret, next, 32);
    drop(a, b);
}
END_TEST

/* A record under the old key after the KeyUpdate, and one under the new key before it. */
START_TEST(key_update_order)
{
    struct record *a;
    struct record *b;
    struct wire data;
    struct wire key;
    struct record_in in;
    make_pair(_i, &a, &b);

    seal_text(a, &data, "old", 3);
    key.len = record_put_key_update(a, key.bytes);
    expect_error(b, &key, RECORD_ERROR_BAD_TAG);
    drop(a, b);
    make_pair(_i, &a, &b);
    key.len = record_put_key_update(a, key.bytes);
    seal_text(a, &data, "new", 3);
    expect_error(b, &data, RECORD_ERROR_BAD_TAG);
    (void)in;
    drop(a, b);
}
END_TEST

START_TEST(key_update_asked)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    struct record_in in;
    make_pair(0, &a, &b);

    /* several requests before we come to answer are answered once */
    for (int i = 0; i < 3; i++) {
        seal_as(a, &wire, RECORD_TYPE_HANDSHAKE, "\x18\0\0\x01\x01", 5);
        ck_assert_int_eq(open_wire(b, &wire, &in), RECORD_SKIP);
        ck_assert(record_expand_label(32, a->tx.keys.secret, "traffic upd", a->tx.keys.secret, 32));
        ck_assert(record_derive(32, a->key_len, &a->tx.keys));
        ck_assert(record_user_start(a, RECORD_TX));
        a->tx.keys.seq = 0;
        ck_assert(record_update_due(b));
    }
    update(b, a);
    ck_assert(!record_update_due(b));
    seal_text(b, &wire, "answered", 8);
    expect_data(a, &wire, "answered", 8);
    drop(a, b);
}
END_TEST

START_TEST(limits)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(_i, &a, &b);

    record_set_limits(a, 10, 12);
    record_set_limits(b, 1000, 1000);
    for (int i = 0; i < 12; i++) {
        ck_assert_int_eq(record_update_due(a), i >= 10 && _i < 3);
        seal_text(a, &wire, "data", 4);
        expect_data(b, &wire, "data", 4);
    }
    /* an update that did not come in time: no more records */
    memset(wire.bytes, 0, sizeof(wire.bytes));
    ck_assert_uint_eq(record_seal(a, RECORD_TYPE_DATA, wire.bytes + record_head(a), 4), 0);
    drop(a, b);
}
END_TEST

/* A long talk in which both sides update whenever it is due. */
START_TEST(limits_kept)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(_i, &a, &b);

    record_set_limits(a, 10, 20);
    record_set_limits(b, 15, 20);
    for (int i = 0; i < 200; i++) {
        if (record_update_due(a))
            update(a, b);
        if (record_update_due(b))
            update(b, a);
        seal_text(a, &wire, "ping", 4);
        expect_data(b, &wire, "ping", 4);
        seal_text(b, &wire, "pong", 4);
        expect_data(a, &wire, "pong", 4);
    }
    ck_assert_uint_ge(record_updates(a, RECORD_TX), 15);
    ck_assert_uint_ge(record_updates(b, RECORD_TX), 10);
    drop(a, b);
}
END_TEST

/* A peer that never updates by itself is asked, once per key. */
START_TEST(lazy_peer_is_asked)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    make_pair(0, &a, &b);

    record_set_limits(b, 5, 1000);
    for (int i = 0; i < 6; i++) {
        seal_text(a, &wire, "data", 4);
        expect_data(b, &wire, "data", 4);
    }
    ck_assert(record_update_due(b));
    update(b, a); /* carries the request */
    ck_assert(record_update_due(a));
    ck_assert(!record_update_due(b));
    update(a, b);
    ck_assert(!record_update_due(a));
    ck_assert(!record_update_due(b));
    seal_text(a, &wire, "data", 4);
    expect_data(b, &wire, "data", 4);
    drop(a, b);
}
END_TEST

START_TEST(key_update_flood)
{
    struct record *a;
    struct record *b;
    struct wire wire;
    struct record_in in;
    int updates = 0;
    make_pair(0, &a, &b);

    for (;;) {
        wire.len = record_put_key_update(a, wire.bytes);
        if (open_wire(b, &wire, &in) != RECORD_SKIP)
            break;
        updates++;
        seal_text(a, &wire, "x", 1); /* a byte between does not help */
        expect_data(b, &wire, "x", 1);
    }
    ck_assert_int_eq(record_error(b), RECORD_ERROR_KEY_UPDATE_FLOOD);
    ck_assert_int_eq(updates, 32);
    drop(a, b);
}
END_TEST

START_TEST(no_secret)
{
    struct record_keys keys;
    struct record *a;
    struct record *b;
    struct wire wire;
    struct record_half_keys swap;
    make_pair(0, &a, &b);
    record_free(b);
    make_keys(&keys, 0);
    swap = keys.tx;
    keys.tx = keys.rx;
    keys.rx = swap;
    keys.secret_len = 0;
    b = record_new(&keys);

    record_set_limits(b, 1, 5);
    seal_text(b, &wire, "x", 1);
    ck_assert(!record_update_due(b)); /* it could not */
    wire.len = record_put_key_update(a, wire.bytes);
    expect_error(b, &wire, RECORD_ERROR_NO_SECRET);
    drop(a, b);
}
END_TEST

/* The kernel engine's entry */

START_TEST(control)
{
    struct record *a;
    struct record *b;
    struct record_in in;
    uint8_t data[] = "plain";
    uint8_t key[] = { 24, 0, 0, 1, 1 };
    uint8_t close[] = { 1, 0 };
    make_pair(0, &a, &b);

    ck_assert_int_eq(record_control(b, RECORD_TYPE_DATA, data, 5, &in), RECORD_DATA);
    ck_assert_ptr_eq(in.data, data);
    ck_assert_uint_eq(in.len, 5);
    ck_assert_int_eq(record_control(b, RECORD_TYPE_HANDSHAKE, key, 5, &in), RECORD_SKIP);
    ck_assert(record_rekeyed(b, RECORD_RX));
    ck_assert(record_update_due(b));
    ck_assert_int_eq(record_control(b, RECORD_TYPE_ALERT, close, 2, &in), RECORD_CLOSED);
    ck_assert(record_eof(b));
    drop(a, b);
}
END_TEST

static TCase *case_of(Suite *suite, const char *name)
{
    TCase *tc = tcase_create(name);

    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    return tc;
}

int main(void)
{
    Suite *suite = suite_create("tls_record");
    TCase *tc = case_of(suite, "vectors");
    tcase_add_test(tc, rfc8448);
    tcase_add_loop_test(tc, by_hand, 0, KINDS);

    tc = case_of(suite, "data");
    tcase_add_loop_test(tc, every_size, 0, KINDS);
    tcase_add_loop_test(tc, from_slices, 0, KINDS);
    tcase_add_loop_test(tc, byte_by_byte, 0, KINDS);
    tcase_add_loop_test(tc, many_in_one_buffer, 0, KINDS);

    tc = case_of(suite, "tampering");
    tcase_add_loop_test(tc, flipped_bits, 0, KINDS);
    tcase_add_loop_test(tc, replayed, 0, KINDS);
    tcase_add_loop_test(tc, reordered, 0, KINDS);
    tcase_add_loop_test(tc, reflected, 0, KINDS);
    tcase_add_loop_test(tc, oversized, 0, KINDS);
    tcase_add_loop_test(tc, undersized, 0, KINDS);
    tcase_add_loop_test(tc, wrong_types, 0, 6);
    tcase_add_test(tc, plain_alert);

    tc = case_of(suite, "inner");
    tcase_add_loop_test(tc, padding, 0, 3);
    tcase_add_loop_test(tc, inner_types, 0, (int)(sizeof(inners) / sizeof(inners[0])));
    tcase_add_test(tc, inner_too_long);

    tc = case_of(suite, "ends");
    tcase_add_loop_test(tc, close_both_ways, 0, KINDS);
    tcase_add_loop_test(tc, truncated, 0, KINDS);
    tcase_add_loop_test(tc, fatal_alert, 0, KINDS);
    tcase_add_test(tc, warnings_of_tls12);
    tcase_add_loop_test(tc, useless_flood, 0, KINDS);

    tc = case_of(suite, "messages");
    tcase_add_test(tc, tickets_are_skipped);
    tcase_add_test(tc, interleaved);
    tcase_add_loop_test(tc, key_update, 0, 3);
    tcase_add_test(tc, key_update_vector);
    tcase_add_loop_test(tc, key_update_order, 0, 3);
    tcase_add_test(tc, key_update_asked);
    tcase_add_loop_test(tc, limits, 0, KINDS);
    tcase_add_loop_test(tc, limits_kept, 0, 3);
    tcase_add_test(tc, lazy_peer_is_asked);
    tcase_add_test(tc, key_update_flood);
    tcase_add_test(tc, no_secret);
    tcase_add_test(tc, control);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
