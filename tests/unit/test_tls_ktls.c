/*
 * The kernel record engine. On a kernel without TLS: every step fails with a sentence, and the lane
 * goes on with the user engine. On a kernel with it: both engines at both ends in every
 * combination, every cipher, TLS 1.3 and 1.2; data, close_notify, alerts, KeyUpdate, tampering, and
 * the kernel's own counters. tools/ has a way to boot such a kernel as an ordinary process.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <arpa/inet.h>

#include "unit/tls_util.h"

#include "tls/record_impl.h"

#define KINDS 6 /* cipher, then version */

struct end {
    int fd;
    struct record *record;
    uint8_t bytes[1 << 16];
    size_t at;
    size_t len;
};

static struct end one;
static struct end two;

/* 0: this kernel has TLS. An unconnected socket cannot have it: ENOTCONN comes from the module, so
 * the module is there. */
static int probe(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    int result = ktls_attach(fd);
    close(fd);
    return result == -ENOTCONN ? 0 : result;
}

static bool have_ktls(void)
{
    return probe() == 0;
}

static void tcp_pair(void)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(addr);
    struct timeval deadline = { .tv_sec = 30 };
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    one.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(one.fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    two.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(two.fd, 0);
    close(listener);
    setsockopt(one.fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
    setsockopt(two.fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
}

static void fill_half(struct record_half_keys *half, uint8_t byte, uint8_t secret_len,
                      size_t key_len)
{
    memset(half, 0, sizeof(*half));
    memset(half->secret, byte, secret_len);
    ck_assert(record_derive(secret_len, key_len, half));
}

static void start(int kind)
{
    struct record_keys keys = { .version = kind < 3 ? RECORD_TLS13 : RECORD_TLS12,
                                .cipher = (enum record_cipher)(kind % 3) };
    uint8_t hash_len = (uint8_t)record_cipher_hash_len(keys.cipher);
    size_t key_len = record_cipher_key_len(keys.cipher);

    keys.secret_len = keys.version == RECORD_TLS13 ? hash_len : 0;
    fill_half(&keys.tx, 1, hash_len, key_len);
    fill_half(&keys.rx, 2, hash_len, key_len);
    keys.tx.seq = keys.rx.seq = keys.version == RECORD_TLS13 ? 0 : 1;
    one.record = record_new(&keys);
    struct record_half_keys swap = keys.tx;
    keys.tx = keys.rx;
    keys.rx = swap;
    two.record = record_new(&keys);
    one.at = one.len = two.at = two.len = 0;
    tcp_pair();
}

static void stop(void)
{
    record_free(one.record);
    record_free(two.record);
    close(one.fd);
    close(two.fd);
}

/* An end with either engine */

static void send_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        ck_assert_msg(n > 0, "send: %s", strerror(errno));
        data += n;
        len -= (size_t)n;
    }
}

static void say_data(struct end *end, const uint8_t *data, size_t len)
{
    static uint8_t wire[RECORD_WIRE_MAX];

    if (record_engine(end->record, RECORD_TX) == RECORD_KTLS) {
        send_all(end->fd, data, len);
        record_tx_count(end->record, len);
        return;
    }
    memcpy(wire + record_head(end->record), data, len);
    send_all(end->fd, wire,
             record_seal(end->record, RECORD_TYPE_DATA, wire + record_head(end->record), len));
}

static void say_control(struct end *end, const uint8_t *control, size_t len)
{
    ck_assert_uint_gt(len, 0);
    if (record_engine(end->record, RECORD_TX) == RECORD_USER) {
        send_all(end->fd, control, len);
        return;
    }
    _Alignas(struct cmsghdr) char type[KTLS_CMSG_SIZE];
    struct iovec slice = { .iov_base = (void *)(uintptr_t)control, .iov_len = len };
    struct msghdr msg = { .msg_iov = &slice, .msg_iovlen = 1 };
    ktls_send_type(&msg, type, record_put_type(end->record));
    ck_assert_int_eq(sendmsg(end->fd, &msg, MSG_NOSIGNAL), (ssize_t)len);
}

/* One record through the kernel. */
static enum record_status hear_ktls(struct end *end, struct record_in *in)
{
    _Alignas(struct cmsghdr) char control[KTLS_CMSG_SIZE];
    struct iovec slice = { end->bytes, sizeof(end->bytes) };
    struct msghdr msg = { .msg_iov = &slice,
                          .msg_iovlen = 1,
                          .msg_control = control,
                          .msg_controllen = sizeof(control) };

    ssize_t n = recvmsg(end->fd, &msg, 0);
    if (n < 0)
        ck_assert_msg(errno == EBADMSG, "recvmsg: %s", strerror(errno));
    if (n <= 0) {
        record_eof(end->record);
        return RECORD_FAILED;
    }
    return record_control(end->record, ktls_recv_type(&msg), end->bytes, (size_t)n, in);
}

static enum record_status hear_user(struct end *end, struct record_in *in)
{
    for (;;) {
        enum record_status status =
            record_open(end->record, end->bytes + end->at, end->bytes + end->len, in);
        end->at = status == RECORD_FAILED ? end->at : (size_t)(in->next - end->bytes);
        if (status != RECORD_MORE)
            return status;
        memmove(end->bytes, end->bytes + end->at, end->len - end->at);
        end->len -= end->at;
        end->at = 0;
        ssize_t n = recv(end->fd, end->bytes + end->len, sizeof(end->bytes) - end->len, 0);
        if (n <= 0) {
            record_eof(end->record);
            return RECORD_FAILED;
        }
        end->len += (size_t)n;
    }
}

static enum record_status hear(struct end *end, struct record_in *in)
{
    return record_engine(end->record, RECORD_RX) == RECORD_KTLS ? hear_ktls(end, in)
                                                                : hear_user(end, in);
}

static void carry(struct end *from, struct end *to, size_t len, unsigned seed)
{
    static uint8_t data[RECORD_PLAIN_MAX];
    size_t got = 0;
    struct record_in in;

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)((i * 31 + seed) >> 3);
    say_data(from, data, len);
    while (got < len) {
        ck_assert_msg(hear(to, &in) == RECORD_DATA, "%s",
                      record_error_text(record_error(to->record)));
        ck_assert_uint_le(got + in.len, len);
        ck_assert_mem_eq(in.data, data + got, in.len);
        got += in.len;
    }
}

/* A kernel without TLS */

START_TEST(refused_without_module)
{
    start(_i);
    int error = probe();
    ck_assert_int_eq(error, -ENOENT);
    ck_assert_ptr_nonnull(strstr(ktls_why(error), "modprobe tls"));
    ck_assert_int_eq(ktls_attach(one.fd), -ENOENT);
    ck_assert_int_lt(ktls_take(one.record, RECORD_TX, one.fd), 0);
    ck_assert_int_lt(ktls_take(one.record, RECORD_RX, one.fd), 0);
    ck_assert_int_eq(record_engine(one.record, RECORD_TX), RECORD_USER);
    ck_assert_int_eq(record_engine(one.record, RECORD_RX), RECORD_USER);
    carry(&one, &two, 1000, 1);
    carry(&two, &one, 1000, 2);
    stop();
}
END_TEST

START_TEST(every_errno_has_words)
{
    static const int errnos[] = { ENOENT,   ENOPKG,      ENOPROTOOPT, EOPNOTSUPP, EINVAL, EBUSY,
                                  ENOTCONN, EEXIST,      ENOMEM,      EPERM,      EACCES, EBADMSG,
                                  EMSGSIZE, EKEYEXPIRED, ELIBBAD,     EIO };

    for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++) {
        ck_assert_str_eq(ktls_why(errnos[i]), ktls_why(-errnos[i]));
        ck_assert_str_ne(ktls_why(errnos[i]), ktls_why(ERANGE));
    }
}
END_TEST

/* A kernel with TLS */

static void take(struct end *end, enum record_side side)
{
    int error = ktls_attach(end->fd);

    ck_assert_msg(error == 0, "%s", ktls_why(error));
    error = ktls_take(end->record, side, end->fd);
    ck_assert_msg(error == 0, "%s", ktls_why(error));
    ck_assert_int_eq(record_engine(end->record, side), RECORD_KTLS);
}

/* Bits of a combination: who seals and who opens in the kernel. */
static void take_some(int combination)
{
    if (combination & 1)
        take(&one, RECORD_TX);
    if (combination & 2)
        take(&one, RECORD_RX);
    if (combination & 4)
        take(&two, RECORD_TX);
    if (combination & 8)
        take(&two, RECORD_RX);
}

static void both_ways(unsigned seed)
{
    static const size_t sizes[] = { 1, 100, 1448, 4096, 16384 };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        carry(&one, &two, sizes[i], seed);
        carry(&two, &one, sizes[i], seed + 1);
    }
}

START_TEST(combinations)
{
    for (int combination = 1; combination < 16; combination++) {
        start(_i);
        take_some(combination);
        both_ways((unsigned)combination);
        stop();
    }
}
END_TEST

/* The kernel takes over in mid-stream: sequence numbers go on. */
START_TEST(mid_stream)
{
    for (int combination = 1; combination < 16; combination++) {
        start(_i);
        both_ways(3);
        take_some(combination);
        both_ways(4);
        stop();
    }
}
END_TEST

START_TEST(ends)
{
    for (int combination = 1; combination < 16; combination++) {
        uint8_t control[RECORD_CONTROL_MAX];
        struct record_in in;
        start(_i);
        take_some(combination);
        carry(&one, &two, 10, 1);
        say_control(&one, control, record_put_close(one.record, control));
        ck_assert_int_eq(hear(&two, &in), RECORD_CLOSED);
        carry(&two, &one, 10, 2);
        say_control(&two, control, record_put_alert(two.record, 80, control));
        ck_assert_int_eq(hear(&one, &in), RECORD_FAILED);
        ck_assert_uint_eq(record_peer_alert(one.record), 80);
        stop();
    }
}
END_TEST

START_TEST(truncation)
{
    struct record_in in;

    start(_i);
    take_some(15);
    carry(&one, &two, 10, 1);
    shutdown(one.fd, SHUT_WR);
    ck_assert_int_eq(hear(&two, &in), RECORD_FAILED);
    ck_assert_int_eq(record_error(two.record), RECORD_ERROR_TRUNCATED);
    stop();
}
END_TEST

/* A user-space end changes its keys. A kernel that can (6.14) follows; one that cannot says EBUSY,
 * and the lane ends. */
START_TEST(key_update_towards_kernel)
{
    uint8_t control[RECORD_CONTROL_MAX];
    struct record_in in;

    start(_i);
    take(&two, RECORD_RX);
    carry(&one, &two, 10, 1);
    say_control(&one, control, record_put_key_update(one.record, control));
    ck_assert_int_eq(hear(&two, &in), RECORD_SKIP);
    ck_assert(record_rekeyed(two.record, RECORD_RX));
    int error = ktls_rekey(two.record, RECORD_RX, two.fd);
    if (error == 0)
        carry(&one, &two, 10, 2);
    else
        ck_assert_int_eq(error, -EBUSY);
    stop();
}
END_TEST

START_TEST(key_update_from_kernel)
{
    uint8_t control[RECORD_CONTROL_MAX];
    struct record_in in;

    start(_i);
    take(&one, RECORD_TX);
    carry(&one, &two, 10, 1);
    say_control(&one, control, record_put_key_update(one.record, control));
    ck_assert(record_rekeyed(one.record, RECORD_TX));
    ck_assert_int_eq(hear(&two, &in), RECORD_SKIP);
    ck_assert_uint_eq(record_updates(two.record, RECORD_RX), 1);
    int error = ktls_rekey(one.record, RECORD_TX, one.fd);
    if (error == 0)
        carry(&one, &two, 10, 2);
    else
        ck_assert_int_eq(error, -EBUSY);
    stop();
}
END_TEST

START_TEST(tampered)
{
    uint8_t wire[RECORD_HEAD_MAX + 16 + RECORD_TAIL_MAX] = { 0 };
    struct record_in in;

    start(_i);
    take(&two, RECORD_RX);
    size_t n = record_seal(one.record, RECORD_TYPE_DATA, wire + record_head(one.record), 16);
    wire[n - 1] ^= 1;
    send_all(one.fd, wire, n);
    ck_assert_int_eq(hear(&two, &in), RECORD_FAILED);
    stop();
}
END_TEST

static long tls_stat(const char *name)
{
    char line[128];
    long value = -1;
    FILE *f = fopen("/proc/net/tls_stat", "r");

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            value = atol(line + strcspn(line, " \t"));
    fclose(f);
    return value;
}

START_TEST(counters)
{
    long tx = tls_stat("TlsTxSw");
    long rx = tls_stat("TlsRxSw");
    long errors = tls_stat("TlsDecryptError");

    start(_i);
    take_some(15);
    both_ways(1);
    ck_assert_int_eq(tls_stat("TlsTxSw"), tx + 2);
    ck_assert_int_eq(tls_stat("TlsRxSw"), rx + 2);
    ck_assert_int_eq(tls_stat("TlsDecryptError"), errors);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls_ktls");
    TCase *tc = tcase_create("kernel");

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, every_errno_has_words);
    if (have_ktls()) {
        tcase_add_loop_test(tc, combinations, 0, KINDS);
        tcase_add_loop_test(tc, mid_stream, 0, KINDS);
        tcase_add_loop_test(tc, ends, 0, KINDS);
        tcase_add_loop_test(tc, truncation, 0, KINDS);
        tcase_add_loop_test(tc, key_update_towards_kernel, 0, 3);
        tcase_add_loop_test(tc, key_update_from_kernel, 0, 3);
        tcase_add_loop_test(tc, tampered, 0, KINDS);
        tcase_add_loop_test(tc, counters, 0, KINDS);
    } else {
        printf("this kernel has no TLS (%s): only the refusals are tested\n", ktls_why(probe()));
        tcase_add_loop_test(tc, refused_without_module, 0, KINDS);
    }
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
