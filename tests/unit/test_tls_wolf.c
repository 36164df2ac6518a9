/*
 * Our record engine against wolfSSL's own record layer: one end of each lane is ours, the other a
 * WOLFSSL object that stays in charge of its records. Every cipher, TLS 1.3 and 1.2, our end as
 * server and as client.
 */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "unit/tls_util.h"

static struct scratch scratch;

static void setup(void)
{
    scratch_make(&scratch);
}

static void teardown(void)
{
    scratch_drop(&scratch);
}

/* Bytes on their way in one direction. */
struct pipe {
    uint8_t bytes[1 << 16];
    size_t at;
    size_t len;
};

struct lane {
    WOLFSSL_CTX *wolf_ctx;
    WOLFSSL *wolf;
    struct tls_ctx *ctx;
    struct record *record;
    struct pipe to_wolf;
    struct pipe to_us;
};

static const char *const suites[] = {
    "TLS13-AES128-GCM-SHA256",        "TLS13-AES256-GCM-SHA384",
    "TLS13-CHACHA20-POLY1305-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",  "ECDHE-ECDSA-CHACHA20-POLY1305",
};
#define SUITES 6
#define KINDS  (2 * SUITES) /* our end as server, then as client */

static int pipe_recv(WOLFSSL *wolf, char *buf, int size, void *arg)
{
    struct pipe *p = &((struct lane *)arg)->to_wolf;
    size_t n = p->len - p->at < (size_t)size ? p->len - p->at : (size_t)size;

    (void)wolf;
    if (n == 0)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    memcpy(buf, p->bytes + p->at, n);
    p->at += n;
    if (p->at == p->len)
        p->at = p->len = 0;
    return (int)n;
}

static int pipe_send(WOLFSSL *wolf, char *buf, int size, void *arg)
{
    struct pipe *p = &((struct lane *)arg)->to_us;

    (void)wolf;
    ck_assert_uint_le(p->len + (size_t)size, sizeof(p->bytes));
    memcpy(p->bytes + p->len, buf, (size_t)size);
    p->len += (size_t)size;
    return size;
}

static void wolf_make(struct lane *lane, int kind)
{
    bool wolf_is_server = kind >= SUITES;
    const char *suite = suites[kind % SUITES];
    bool tls13 = strncmp(suite, "TLS13", 5) == 0;
    WOLFSSL_METHOD *method =
        wolf_is_server ? (tls13 ? wolfTLSv1_3_server_method() : wolfTLSv1_2_server_method())
                       : (tls13 ? wolfTLSv1_3_client_method() : wolfTLSv1_2_client_method());

    lane->wolf_ctx = wolfSSL_CTX_new(method);
    ck_assert_ptr_nonnull(lane->wolf_ctx);
    ck_assert_int_eq(wolfSSL_CTX_set_cipher_list(lane->wolf_ctx, suite), WOLFSSL_SUCCESS);
    if (wolf_is_server) {
        ck_assert_int_eq(wolfSSL_CTX_use_certificate_chain_file(lane->wolf_ctx, scratch.cert),
                         WOLFSSL_SUCCESS);
        ck_assert_int_eq(
            wolfSSL_CTX_use_PrivateKey_file(lane->wolf_ctx, scratch.key, WOLFSSL_FILETYPE_PEM),
            WOLFSSL_SUCCESS);
    } else {
        ck_assert_int_eq(wolfSSL_CTX_load_verify_locations(lane->wolf_ctx, scratch.ca, NULL),
                         WOLFSSL_SUCCESS);
        wolfSSL_CTX_set_verify(lane->wolf_ctx, WOLFSSL_VERIFY_PEER, NULL);
    }
    wolfSSL_CTX_SetIORecv(lane->wolf_ctx, pipe_recv);
    wolfSSL_CTX_SetIOSend(lane->wolf_ctx, pipe_send);
    lane->wolf = wolfSSL_new(lane->wolf_ctx);
    wolfSSL_SetIOReadCtx(lane->wolf, lane);
    wolfSSL_SetIOWriteCtx(lane->wolf, lane);
}

static void to_wolf(struct lane *lane, const uint8_t *data, size_t len)
{
    struct pipe *p = &lane->to_wolf;

    ck_assert_uint_le(p->len + len, sizeof(p->bytes));
    memcpy(p->bytes + p->len, data, len);
    p->len += len;
}

static void shake_wolf(struct lane *lane, struct tls_handshake *ours, bool wolf_is_server)
{
    size_t len;
    struct pipe *in = &lane->to_us;
    bool wolf_done = false;

    for (int round = 0; round < 20; round++) {
        if (!wolf_done)
            wolf_done = (wolf_is_server ? wolfSSL_accept(lane->wolf)
                                        : wolfSSL_connect(lane->wolf)) == WOLFSSL_SUCCESS;
        in->at += tls_handshake_feed(ours, in->bytes + in->at, in->len - in->at);
        if (in->at == in->len)
            in->at = in->len = 0;
        enum tls_state state = tls_handshake_step(ours);
        ck_assert_msg(state != TLS_FAILED, "%s", tls_handshake_why(ours));
        const uint8_t *out = tls_handshake_output(ours, &len);
        to_wolf(lane, out, len);
        tls_handshake_output_done(ours, len);
        if (wolf_done && state == TLS_DONE)
            return;
    }
    ck_abort_msg("no end of the handshake");
}

static struct lane *lane_make(int kind)
{
    bool wolf_is_server = kind >= SUITES;
    struct lane *lane = calloc(1, sizeof(*lane));
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert_file = scratch.cert,
                                       .key_file = scratch.key,
                                       .min_version = RECORD_TLS12 };
    const struct tls_config client = { .role = TLS_CLIENT,
                                       .ca_file = scratch.ca,
                                       .min_version = RECORD_TLS12 };
    struct record_keys keys;
    size_t len;

    lane->ctx = ctx_make(wolf_is_server ? &client : &server);
    wolf_make(lane, kind);
    struct tls_handshake *ours =
        tls_handshake_new(lane->ctx, wolf_is_server ? "localhost" : NULL, NULL);
    shake_wolf(lane, ours, wolf_is_server);
    tls_handshake_keys(ours, &keys);
    bool tls13 = kind % SUITES < 3;
    ck_assert_uint_eq(keys.version, tls13 ? RECORD_TLS13 : RECORD_TLS12);
    ck_assert_uint_eq(keys.tx.seq, tls13 ? 0 : 1);
    ck_assert_uint_eq(keys.secret_len, tls13 ? (kind % 3 == 1 ? 48 : 32) : 0);
    lane->record = record_new(&keys);
    ck_assert_ptr_nonnull(lane->record);
    const uint8_t *left = tls_handshake_leftover(ours, &len);
    memmove(lane->to_us.bytes + len, lane->to_us.bytes + lane->to_us.at,
            lane->to_us.len - lane->to_us.at);
    memcpy(lane->to_us.bytes, left, len);
    lane->to_us.len = lane->to_us.len - lane->to_us.at + len;
    lane->to_us.at = 0;
    tls_handshake_free(ours);
    return lane;
}

static void lane_drop(struct lane *lane)
{
    record_free(lane->record);
    wolfSSL_free(lane->wolf);
    wolfSSL_CTX_free(lane->wolf_ctx);
    tls_ctx_unref(lane->ctx);
    free(lane);
}

static void fill(uint8_t *dst, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245u + 12345u;
        dst[i] = (uint8_t)(seed >> 16);
    }
}

/* Opens what wolfSSL sent until `len` bytes of data are there, or the status is not DATA or
 * SKIP. */
static enum record_status hear(struct lane *lane, uint8_t *dst, size_t len)
{
    struct pipe *p = &lane->to_us;
    size_t got = 0;

    while (got < len || len == 0) {
        struct record_in in;
        enum record_status status =
            record_open(lane->record, p->bytes + p->at, p->bytes + p->len, &in);
        if (status == RECORD_MORE && len == 0)
            return status;
        if (status != RECORD_DATA && status != RECORD_SKIP)
            return status;
        p->at = (size_t)(in.next - p->bytes);
        if (status == RECORD_SKIP)
            continue;
        ck_assert_uint_le(got + in.len, len);
        memcpy(dst + got, in.data, in.len);
        got += in.len;
    }
    if (p->at == p->len)
        p->at = p->len = 0;
    return RECORD_DATA;
}

static void exchange(struct lane *lane, size_t len, unsigned seed)
{
    static uint8_t data[RECORD_PLAIN_MAX];
    static uint8_t wire[RECORD_WIRE_MAX];
    static uint8_t got[RECORD_PLAIN_MAX];
    size_t read = 0;

    fill(data, len, seed);
    ck_assert_int_eq(wolfSSL_write(lane->wolf, data, (int)len), (int)len);
    ck_assert_int_eq(hear(lane, got, len), RECORD_DATA);
    ck_assert_mem_eq(got, data, len);

    fill(data, len, seed + 1);
    memcpy(wire + record_head(lane->record), data, len);
    size_t n = record_seal(lane->record, RECORD_TYPE_DATA, wire + record_head(lane->record), len);
    to_wolf(lane, wire, n);
    while (read < len) {
        int one = wolfSSL_read(lane->wolf, got + read, (int)(len - read));
        ck_assert_int_gt(one, 0);
        read += (size_t)one;
    }
    ck_assert_mem_eq(got, data, len);
}

START_TEST(data_both_ways)
{
    static const size_t sizes[] = { 1, 2, 100, 1448, 4096, 16383, 16384, 5 };
    struct lane *lane = lane_make(_i);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        exchange(lane, sizes[i], (unsigned)i);
    for (unsigned i = 0; i < 300; i++) /* the sequence number passes one byte */
        exchange(lane, 20 + i, i);
    lane_drop(lane);
}
END_TEST

START_TEST(close_by_wolfssl)
{
    struct lane *lane = lane_make(_i);
    uint8_t none[1];

    exchange(lane, 10, 1);
    wolfSSL_shutdown(lane->wolf);
    ck_assert_int_eq(hear(lane, none, 1), RECORD_CLOSED);
    ck_assert(record_eof(lane->record));
    lane_drop(lane);
}
END_TEST

START_TEST(close_by_us)
{
    struct lane *lane = lane_make(_i);
    uint8_t wire[RECORD_CONTROL_MAX];
    uint8_t none[1];

    exchange(lane, 10, 1);
    to_wolf(lane, wire, record_put_close(lane->record, wire));
    int result = wolfSSL_read(lane->wolf, none, 1);
    ck_assert_int_eq(wolfSSL_get_error(lane->wolf, result), WOLFSSL_ERROR_ZERO_RETURN);
    lane_drop(lane);
}
END_TEST

/* TLS 1.3: our KeyUpdate is understood, wolfSSL's too, and its request is answered. */
START_TEST(key_updates)
{
    int kind = _i < 3 ? _i : SUITES + _i - 3;
    struct lane *lane = lane_make(kind);
    uint8_t wire[RECORD_CONTROL_MAX];
    uint8_t none[1];

    for (unsigned round = 0; round < 3; round++) {
        exchange(lane, 100, round);
        to_wolf(lane, wire, record_put_key_update(lane->record, wire));
        exchange(lane, 200, round);
        ck_assert_int_eq(wolfSSL_update_keys(lane->wolf), WOLFSSL_SUCCESS);
        ck_assert_int_eq(hear(lane, none, 0), RECORD_MORE);
        lane->to_us.at = lane->to_us.len = 0;
        /* wolfSSL asks for ours */
        ck_assert(record_update_due(lane->record));
        to_wolf(lane, wire, record_put_key_update(lane->record, wire));
        ck_assert(!record_update_due(lane->record));
        exchange(lane, 300, round);
    }
    ck_assert_uint_eq(record_updates(lane->record, RECORD_RX), 3);
    ck_assert_uint_eq(record_updates(lane->record, RECORD_TX), 6);
    lane_drop(lane);
}
END_TEST

/* What we seal with a flipped bit, wolfSSL refuses; and what it answers, we understand. */
START_TEST(flipped_bit)
{
    struct lane *lane = lane_make(_i);
    uint8_t wire[RECORD_HEAD_MAX + 16 + RECORD_TAIL_MAX];
    uint8_t none[16];

    memset(wire, 0, sizeof(wire));
    size_t n = record_seal(lane->record, RECORD_TYPE_DATA, wire + record_head(lane->record), 16);
    wire[n - 3] ^= 4;
    to_wolf(lane, wire, n);
    ck_assert_int_lt(wolfSSL_read(lane->wolf, none, 16), 0);
    ck_assert_int_eq(hear(lane, none, 1), RECORD_FAILED);
    ck_assert_int_eq(record_error(lane->record), RECORD_ERROR_PEER_ALERT);
    ck_assert_uint_eq(record_peer_alert(lane->record), 20); /* bad_record_mac */
    lane_drop(lane);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls_wolf");
    TCase *tc = tcase_create("records");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, data_both_ways, 0, KINDS);
    tcase_add_loop_test(tc, close_by_wolfssl, 0, KINDS);
    tcase_add_loop_test(tc, close_by_us, 0, KINDS);
    tcase_add_loop_test(tc, key_updates, 0, 6);
    tcase_add_loop_test(tc, flipped_bit, 0, KINDS);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
