/* conn_open: records that are opened into the worker's spare, because there is no other big buffer.
 * Whatever becomes of what lies in it, it stays the worker's until another one is its. Records are
 * a size, a filler and the payload: crypt is a stand-in in this file. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/io/buf.h"
#include "core/mux/conn.h"
#include "core/mux/crypt.h"

#define BIG      64u
#define SMALL    64u
#define OTHERS   57u /* with raw: so many that even with the spare's place there is none for it */
#define OVERHEAD 22u
#define MOST     16384u
#define UNPARSED 4000u /* the begin of a control frame */

static struct loop loop;
static struct conn conn;
static struct conn_spare spare;
static struct conn_rx rx;
static struct share *share;
static uint32_t others[OTHERS];
static uint64_t count;

bool crypt_rx_kernel(const struct crypt *crypt)
{
    (void)crypt;
    return false;
}

size_t crypt_record_room(const uint8_t *src, const uint8_t *end)
{
    uint32_t size;

    ck_assert(end - src >= (ptrdiff_t)OVERHEAD);
    memcpy(&size, src, sizeof(size));
    return size;
}

enum crypt_opened crypt_open_record(struct crypt *crypt, uint8_t *src, uint8_t *end, uint8_t *dst,
                                    size_t *used, size_t *size)
{
    (void)crypt;
    *size = crypt_record_room(src, end);
    *used = OVERHEAD + *size;
    ck_assert(*used <= (size_t)(end - src));
    memcpy(dst, src + OVERHEAD, *size);
    return CRYPT_DATA;
}

/* Of a connection with other bytes: not called. */
#define NEVER(result, name, ...) \
    result name(__VA_ARGS__)     \
    {                            \
        ck_abort_msg(#name);     \
    }
#define IGNORE _Pragma("GCC diagnostic ignored \"-Wunused-parameter\"")
IGNORE
NEVER(void, crypt_close, struct crypt *c)
NEVER(enum crypt_step, crypt_handshake, struct crypt *c, const uint8_t *in, size_t size)
NEVER(enum crypt_step, crypt_answer, struct crypt *c, bool accept)
NEVER(size_t, crypt_output_size, const struct crypt *c)
NEVER(size_t, crypt_output, struct crypt *c, uint8_t *dst, size_t room)
NEVER(size_t, crypt_leftover_size, const struct crypt *c)
NEVER(void, crypt_leftover, struct crypt *c, uint8_t *dst, size_t size)
NEVER(bool, crypt_offload, struct crypt *c, int fd, bool receive, bool force)
NEVER(bool, crypt_offload_due, const struct crypt *c)
NEVER(bool, crypt_tx_kernel, const struct crypt *c)
NEVER(size_t, crypt_seal, struct crypt *c, const struct iovec *slices, unsigned n, uint8_t *dst)
NEVER(bool, crypt_update_due, const struct crypt *c)
NEVER(size_t, crypt_put, struct crypt *c, enum crypt_control what, uint8_t *dst, uint8_t *type)
NEVER(void, crypt_send_type, struct msghdr *msg, void *control, uint8_t type)
NEVER(uint8_t, crypt_recv_type, struct msghdr *msg)
NEVER(enum crypt_opened, crypt_control, struct crypt *c, uint8_t type, uint8_t *p, size_t size)
NEVER(void, crypt_sent, struct crypt *c, uint32_t bytes)
NEVER(bool, crypt_rekey, struct crypt *c, int fd)
NEVER(bool, crypt_eof, struct crypt *c)
NEVER(void, crypt_exporter, const struct crypt *c, uint8_t exporter[CRYPT_MAC_SIZE])
NEVER(void, crypt_hash, const void *data, size_t size, uint8_t hash[CRYPT_MAC_SIZE])
NEVER(void, crypt_mac, const uint8_t key[CRYPT_MAC_SIZE], const void *data, size_t size,
      uint8_t mac[CRYPT_MAC_SIZE])

static void add_record(uint32_t size)
{
    uint8_t *at = buf_data(&loop.bufs, conn.raw.buf) + conn.raw.filled;

    ck_assert_uint_le(conn.raw.filled + OVERHEAD + size, BUF_BIG_SIZE);
    memcpy(at, &size, sizeof(size));
    memset(at + OVERHEAD, (int)(conn.raw.filled / MOST), size);
    conn.raw.filled += OVERHEAD + size;
}

/* The lane's owner has so many big buffers that it gets no other one, and a small buffer holds what
 * is not handled yet. raw is full of records. */
static void setup(void)
{
    const struct hash_key key = { { 1, 2 } };

    memset(&loop, 0, sizeof(loop));
    memset(&conn, 0, sizeof(conn));
    ck_assert(share_tree_open(&loop.shares, 4, &key));
    ck_assert(buf_pool_open(&loop.bufs, &loop.shares, SMALL, BIG));
    share = share_open(&loop.shares.pool, SHARE_LANE, 0);
    spare.buf = BUF_NONE;
    conn = (struct conn){ .loop = &loop,
                          .spare = &spare,
                          .share = share,
                          .phase = CONN_SEALED,
                          .standing = CONN_MEMBER,
                          .fd = -1,
                          .raw.buf = buf_take_big(&loop.bufs, share) };
    for (unsigned i = 0; i < OTHERS; i++)
        others[i] = buf_take_big(&loop.bufs, share);
    rx = (struct conn_rx){ .buf = buf_take_small(&loop.bufs, share), .filled = UNPARSED };
    count = 0;
    while (conn.raw.filled + OVERHEAD + MOST <= BUF_BIG_SIZE)
        add_record(MOST);
    add_record(BUF_BIG_SIZE - conn.raw.filled - OVERHEAD);
}

static void teardown(void)
{
    if (rx.buf != BUF_NONE && rx.buf != spare.buf)
        buf_put(&loop.bufs, rx.buf);
    buf_put(&loop.bufs, conn.raw.buf);
    for (unsigned i = 0; i < OTHERS; i++)
        if (others[i] != BUF_NONE)
            buf_put(&loop.bufs, others[i]);
    ck_assert_uint_eq(loop.bufs.big.used, spare.buf != BUF_NONE ? 1 : 0);
    ck_assert_uint_eq(loop.shares.pool.used[SHARE_BIG], loop.bufs.big.used);
    buf_pool_close(&loop.bufs);
    share_unref(share);
    share_tree_close(&loop.shares);
}

/* Up to the record for which there is no room in the spare any more. */
static void open_into_spare(void)
{
    ck_assert_int_eq(conn_open(&conn, &rx, false, &count), CONN_OPENED_MORE);
    ck_assert_int_eq(conn_open(&conn, &rx, true, &count), CONN_OPENED_MORE);
    ck_assert_uint_eq(rx.buf, spare.buf);
    ck_assert_uint_lt(conn.raw.parsed, conn.raw.filled);
}

static void check_spare(void)
{
    if (spare.buf != BUF_NONE)
        ck_assert_uint_ge(buf_refs(&loop.bufs, spare.buf), 1);
}

START_TEST(all_that_lies_in_the_spare_was_handled)
{
    open_into_spare();
    rx.parsed = rx.filled;
    ck_assert_int_eq(conn_open(&conn, &rx, true, &count), CONN_OPENED);
    ck_assert_uint_eq(count, rx.filled - rx.parsed + (uint64_t)MOST * (BUF_BIG_SIZE / MOST - 1));
    check_spare();
    rx.parsed = rx.filled;
    ck_assert(conn_open_settle(&conn, &rx, true));
    check_spare();
    ck_assert_uint_eq(rx.buf, BUF_NONE);
}
END_TEST

/* A stream refers to it, and there are other big buffers again. */
START_TEST(what_lies_in_the_spare_moves_to_another)
{
    open_into_spare();
    uint32_t stream = spare.buf;
    buf_ref(&loop.bufs, stream);
    for (unsigned i = 0; i < OTHERS; i++) {
        buf_put(&loop.bufs, others[i]);
        others[i] = BUF_NONE;
    }
    rx.parsed = rx.filled - 1;
    ck_assert_int_eq(conn_open(&conn, &rx, true, &count), CONN_OPENED);
    ck_assert_uint_ne(rx.buf, stream);
    ck_assert_uint_eq(buf_refs(&loop.bufs, stream), 1);
    buf_put(&loop.bufs, stream);
    check_spare();
    ck_assert(conn_open_settle(&conn, &rx, true));
    check_spare();
}
END_TEST

/* The same, and there are none. */
START_TEST(what_lies_in_the_spare_has_nowhere_to_go)
{
    open_into_spare();
    uint32_t stream = spare.buf;
    buf_ref(&loop.bufs, stream);
    rx.parsed = rx.filled - 1;
    ck_assert_int_eq(conn_open(&conn, &rx, true, &count), CONN_OPENED_STARVED);
    ck_assert(conn_open_settle(&conn, &rx, true));
    ck_assert_uint_eq(rx.filled - rx.parsed, 1);
    ck_assert(!buf_is_big(rx.buf));
    ck_assert_uint_eq(buf_refs(&loop.bufs, stream), 1);
    buf_put(&loop.bufs, stream);
    check_spare();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("conn_open");
    TCase *tcase = tcase_create("conn_open");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, all_that_lies_in_the_spare_was_handled);
    tcase_add_test(tcase, what_lies_in_the_spare_moves_to_another);
    tcase_add_test(tcase, what_lies_in_the_spare_has_nowhere_to_go);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
