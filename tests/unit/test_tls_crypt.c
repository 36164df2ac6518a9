/*
 * crypt: what a connection sees of TLS when records come that nobody should send: behind a record
 * that does not open, and behind close_notify. The kernel of these tests takes a socket for TLS,
 * and no keys: then the direction that receives is due, and user space goes on.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "unit/tls_util.h"

#include "core/base/base.h"
#include "core/mux/crypt.h"
#include "core/mux/crypt_ctx.h"

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

/* Stands before the C library's. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    (void)fd;
    (void)value;
    (void)size;
    if (level == IPPROTO_TCP && name == TCP_ULP)
        return 0;
    errno = EINVAL;
    return -1;
}

static struct crypt_ctx *server_ctx_of, *client_ctx_of;
static struct crypt *server, *client;

static struct crypt_ctx *ctx_open(bool is_server, const char *pin)
{
    const struct crypt_config config = { .server = is_server,
                                         .cert = "",
                                         .key = "",
                                         .in_memory = is_server,
                                         .name = "",
                                         .ca = "",
                                         .pin = pin,
                                         .known_servers = "",
                                         .keylog = "" };
    char why[512] = "";
    struct crypt_ctx *ctx = crypt_ctx_open(&config, why, sizeof(why));

    ck_assert_msg(ctx != NULL, "%s", why);
    return ctx;
}

/* What `from` has to say is a step of `to`. */
static enum crypt_step tell(struct crypt *from, struct crypt *to)
{
    static uint8_t bytes[1 << 16];
    size_t size = crypt_output(from, bytes, sizeof(bytes));

    return crypt_handshake(to, bytes, size);
}

static void meet(void)
{
    enum crypt_step at_client = CRYPT_WANT, at_server = CRYPT_WANT;

    server_ctx_of = ctx_open(true, "");
    client_ctx_of = ctx_open(false, crypt_ctx_pin(server_ctx_of));
    server = crypt_open(server_ctx_of, NULL, NULL);
    client = crypt_open(client_ctx_of, "localhost", "localhost:1");
    ck_assert(server != NULL && client != NULL);
    ck_assert_int_eq(crypt_handshake(client, NULL, 0), CRYPT_WANT);
    for (int i = 0; i < 8 && (at_client != CRYPT_READY || at_server != CRYPT_READY); i++) {
        if (at_server != CRYPT_READY)
            at_server = tell(client, server);
        if (at_client != CRYPT_READY)
            at_client = tell(server, client);
        ck_assert_msg(at_server != CRYPT_FAILED, "%s", crypt_why(server));
        ck_assert_msg(at_client != CRYPT_FAILED, "%s", crypt_why(client));
    }
    ck_assert(at_client == CRYPT_READY && at_server == CRYPT_READY);
    ck_assert_uint_eq(crypt_leftover_size(server), 0);
    crypt_leftover(server, NULL, 0);
    ck_assert(crypt_offload(server, 1, false, false));
    ck_assert(crypt_offload_due(server) && !crypt_rx_kernel(server) && !crypt_tx_kernel(server));
}

static void drop(void)
{
    crypt_close(server);
    crypt_close(client);
    crypt_ctx_unref(server_ctx_of);
    crypt_ctx_unref(client_ctx_of);
}

/* A record of the client's, as the server opens it. */
static enum crypt_opened opened(uint8_t *record, size_t have, size_t *used)
{
    static uint8_t payload[CRYPT_PAYLOAD];
    size_t size;

    return crypt_open_record(server, record, record + have, payload, used, &size);
}

START_TEST(what_is_broken_is_never_the_kernels)
{
    uint8_t junk[5 + 64] = { 23, 3, 3, 0, 64 };
    size_t used;

    meet();
    ck_assert_int_eq(opened(junk, sizeof(junk), &used), CRYPT_BROKEN);
    ck_assert_uint_eq(used, 0);
    ck_assert(!crypt_offload_due(server));
    drop();
}
END_TEST

/* Whole records, parts of them and junk: all is taken, each time, and nothing comes of it. */
START_TEST(nothing_stands_behind_close_notify)
{
    uint8_t bytes[2 * CRYPT_CONTROL + 100] = { 0 }, type;
    size_t used;

    meet();
    size_t size = crypt_put(client, CRYPT_PUT_CLOSE, bytes, &type);
    ck_assert_uint_gt(size, 0);
    ck_assert_int_eq(opened(bytes, size + 40, &used), CRYPT_CLOSED);
    ck_assert_uint_ge(used, size);
    ck_assert(!crypt_offload_due(server));
    for (size_t more = 1; more < 40; more++) {
        ck_assert_int_eq(opened(bytes + size, more, &used), CRYPT_CLOSED);
        ck_assert_uint_eq(used, more);
    }
    drop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls_crypt");
    TCase *tcase = tcase_create("behind the last record");

    tcase_add_test(tcase, what_is_broken_is_never_the_kernels);
    tcase_add_test(tcase, nothing_stands_behind_close_notify);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
