/*
 * Peers that nobody here wrote: openssl s_client and s_server, gnutls-cli and gnutls-serv, over
 * loopback. A tool that is not installed is left out; without any the whole test is skipped.
 *
 * Our end is tls_handshake and record on a blocking socket with a deadline; what the tools print or
 * echo is what is asserted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "unit/tls_util.h"

#define DEADLINE_MS 30000
#define ARGS_MAX    40

static struct scratch scratch;

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    scratch_make(&scratch);
}

static void teardown(void)
{
    scratch_drop(&scratch);
}

/* Processes */

struct tool {
    pid_t pid;
    int in;  /* its stdin */
    int out; /* its stdout and stderr */
};

static void tool_start(struct tool *tool, const char *const argv[])
{
    int in[2];
    int out[2];

    ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    tool->pid = fork();
    ck_assert_int_ge(tool->pid, 0);
    if (tool->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        execvp(argv[0], (char **)(uintptr_t)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    tool->in = in[1];
    tool->out = out[0];
}

static void tool_say(struct tool *tool, const char *text)
{
    ck_assert_int_eq(write(tool->in, text, strlen(text)), (ssize_t)strlen(text));
}

/* Reads what the tool prints until `text` is in it. */
static void tool_wait(struct tool *tool, const char *text)
{
    char seen[65536];
    size_t len = 0;

    for (;;) {
        struct pollfd p = { .fd = tool->out, .events = POLLIN };
        seen[len] = '\0';
        if (strstr(seen, text) != NULL)
            return;
        ck_assert_msg(poll(&p, 1, DEADLINE_MS) == 1, "no '%s' in: %s", text, seen);
        ssize_t n = read(tool->out, seen + len, sizeof(seen) - 1 - len);
        ck_assert_msg(n > 0, "ended without '%s': %s", text, seen);
        len += (size_t)n;
    }
}

static void tool_stop(struct tool *tool)
{
    close(tool->in);
    close(tool->out);
    kill(tool->pid, SIGTERM);
    ck_assert_int_eq(waitpid(tool->pid, NULL, 0), tool->pid);
}

static bool installed(const char *name)
{
    char command[128];

    snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", name);
    return system(command) == 0;
}

/* Our end */

struct end {
    int fd;
    struct tls_ctx *ctx;
    struct tls_handshake *handshake;
    struct record *record;
    enum tls_fail fail;
    char why[TLS_WHY_SIZE];
    uint8_t bytes[1 << 17];
    size_t at;
    size_t len;
};

static struct end *end_new(const struct tls_config *config)
{
    struct end *end = calloc(1, sizeof(*end));

    end->fd = -1;
    end->ctx = ctx_make(config);
    return end;
}

static void end_drop(struct end *end)
{
    record_free(end->record);
    tls_handshake_free(end->handshake);
    tls_ctx_unref(end->ctx);
    if (end->fd >= 0)
        close(end->fd);
    free(end);
}

static ssize_t end_recv(struct end *end)
{
    struct pollfd p = { .fd = end->fd, .events = POLLIN };

    ck_assert_msg(poll(&p, 1, DEADLINE_MS) == 1, "the peer says nothing");
    ck_assert_uint_lt(end->len, sizeof(end->bytes));
    ssize_t n = recv(end->fd, end->bytes + end->len, sizeof(end->bytes) - end->len, 0);
    if (n > 0)
        end->len += (size_t)n;
    return n;
}

static void end_send(struct end *end, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(end->fd, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the peer has gone; what we then read says why */
        data += n;
        len -= (size_t)n;
    }
}

static enum tls_state end_step(struct end *end)
{
    size_t len;

    end->at += tls_handshake_feed(end->handshake, end->bytes + end->at, end->len - end->at);
    if (end->at == end->len)
        end->at = end->len = 0;
    enum tls_state state = tls_handshake_step(end->handshake);
    const uint8_t *out = tls_handshake_output(end->handshake, &len);
    end_send(end, out, len);
    tls_handshake_output_done(end->handshake, len);
    return state;
}

/* The whole handshake; true when DONE, and then there is a record object. */
static bool end_shake(struct end *end, const char *name)
{
    struct record_keys keys;
    size_t len;

    end->handshake = tls_handshake_new(end->ctx, name, NULL);
    enum tls_state state = end_step(end);
    while (state == TLS_WANT_READ) {
        if (end->at == end->len && end_recv(end) <= 0)
            tls_handshake_abort(end->handshake, TLS_FAIL_CLOSED);
        state = end_step(end);
    }
    end->fail = tls_handshake_fail(end->handshake);
    snprintf(end->why, sizeof(end->why), "%s", tls_handshake_why(end->handshake));
    if (state != TLS_DONE)
        return false;
    tls_handshake_keys(end->handshake, &keys);
    end->record = record_new(&keys);
    uint8_t *left = tls_handshake_leftover(end->handshake, &len);
    size_t rest = end->len - end->at;
    memmove(end->bytes + len, end->bytes + end->at, rest);
    memcpy(end->bytes, left, len);
    end->at = 0;
    end->len = len + rest;
    return true;
}

static void end_say(struct end *end, const char *text)
{
    uint8_t wire[1024];
    size_t len = strlen(text);

    if (record_update_due(end->record))
        end_send(end, wire, record_put_key_update(end->record, wire));
    memcpy(wire + record_head(end->record), text, len);
    end_send(end, wire,
             record_seal(end->record, RECORD_TYPE_DATA, wire + record_head(end->record), len));
}

/* The next record that is not skipped. At the end of the connection: FAILED with TRUNCATED, or
 * CLOSED. */
static enum record_status end_open(struct end *end, struct record_in *in)
{
    for (;;) {
        enum record_status status =
            record_open(end->record, end->bytes + end->at, end->bytes + end->len, in);
        if (status == RECORD_DATA || status == RECORD_SKIP)
            end->at = (size_t)(in->next - end->bytes);
        if (status == RECORD_SKIP)
            continue;
        if (status != RECORD_MORE)
            return status;
        if (end->at > 0) {
            memmove(end->bytes, end->bytes + end->at, end->len - end->at);
            end->len -= end->at;
            end->at = 0;
        }
        if (end_recv(end) <= 0)
            return record_eof(end->record) ? RECORD_CLOSED : RECORD_FAILED;
    }
}

/* Until the peer's KeyUpdate has come. (The tools take what follows in the same line of input for
 * part of the command.) */
static void end_updated(struct end *end)
{
    uint64_t before = record_updates(end->record, RECORD_RX);

    while (record_updates(end->record, RECORD_RX) == before) {
        struct record_in in;
        enum record_status status =
            record_open(end->record, end->bytes + end->at, end->bytes + end->len, &in);
        if (status == RECORD_MORE)
            ck_assert_int_gt(end_recv(end), 0);
        else
            ck_assert_int_eq(status, RECORD_SKIP);
        end->at = (size_t)(in.next - end->bytes);
    }
}

/* Data records until `text` is in what they carried. */
static void end_hear(struct end *end, const char *text)
{
    char heard[65536];
    size_t len = 0;

    heard[0] = '\0';
    while (strstr(heard, text) == NULL) {
        struct record_in in;
        enum record_status status = end_open(end, &in);
        ck_assert_msg(status == RECORD_DATA, "status %d, %s, alert %s; heard: %s", (int)status,
                      record_error_text(record_error(end->record)),
                      record_alert_name(record_peer_alert(end->record)), heard);
        ck_assert_uint_lt(len + in.len, sizeof(heard));
        memcpy(heard + len, in.data, in.len);
        len += in.len;
        heard[len] = '\0';
    }
}

static int listen_any(char port[8])
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(port, 8, "%u", ntohs(addr.sin_port));
    return fd;
}

static void end_accept(struct end *end, int listener)
{
    struct pollfd p = { .fd = listener, .events = POLLIN };

    ck_assert_int_eq(poll(&p, 1, DEADLINE_MS), 1);
    end->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(end->fd, 0);
    close(listener);
}

/* A port that was free a moment ago; the tools that listen cannot choose one themselves. */
static void free_port(char port[8])
{
    close(listen_any(port));
}

static void end_connect(struct end *end, const char *port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((uint16_t)atoi(port)) };

    for (int tries = 0; tries < DEADLINE_MS / 10; tries++) {
        end->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(end->fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
            return;
        close(end->fd);
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    }
    ck_abort_msg("nobody listens on port %s", port);
}

static struct tls_config server_config(void)
{
    return (struct tls_config){ .role = TLS_SERVER,
                                .cert_file = scratch.cert,
                                .key_file = scratch.key,
                                .min_version = RECORD_TLS12 };
}

static struct tls_config client_config(void)
{
    return (struct tls_config){ .role = TLS_CLIENT,
                                .ca_file = scratch.ca,
                                .min_version = RECORD_TLS12 };
}

/* OpenSSL connects to us */

static const struct {
    const char *version;
    const char *option;
    const char *cipher;
    enum record_cipher expected;
} offers[] = {
    { "-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", RECORD_AES_128_GCM },
    { "-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384", RECORD_AES_256_GCM },
    { "-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", RECORD_CHACHA20_POLY1305 },
    { "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", RECORD_AES_128_GCM },
    { "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", RECORD_AES_256_GCM },
    { "-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305", RECORD_CHACHA20_POLY1305 },
};
#define OFFERS 6

static void s_client(struct tool *tool, const char *port, const char *const more[])
{
    char target[32];
    snprintf(target, sizeof(target), "127.0.0.1:%s", port);
    const char *argv[ARGS_MAX] = { "openssl",
                                   "s_client",
                                   "-connect",
                                   target,
                                   "-CAfile",
                                   scratch.ca,
                                   "-verify_return_error",
                                   "-verify_hostname",
                                   "localhost",
                                   "-servername",
                                   "localhost" };
    int n = 11;
    while (*more != NULL)
        argv[n++] = *more++;
    tool_start(tool, argv);
}

START_TEST(openssl_client)
{
    const struct tls_config config = server_config();
    struct end *end = end_new(&config);
    struct tool tool;
    struct record_in in;
    char port[8];
    int listener = listen_any(port);

    s_client(&tool, port,
             (const char *[]){ offers[_i].version, offers[_i].option, offers[_i].cipher, NULL });
    end_accept(end, listener);
    ck_assert_msg(end_shake(end, NULL), "%s", end->why);
    ck_assert_int_eq(record_cipher(end->record), offers[_i].expected);
    tool_say(&tool, "hello from openssl\n");
    end_hear(end, "hello from openssl\n");
    end_say(end, "hello from culvert\n");
    tool_wait(&tool, "hello from culvert");
    if (record_version(end->record) == RECORD_TLS13) {
        tool_say(&tool, "K\n"); /* KeyUpdate, with a request for ours */
        end_updated(end);
        tool_say(&tool, "after its update\n");
        end_hear(end, "after its update\n");
        ck_assert_uint_eq(record_updates(end->record, RECORD_RX), 1);
        end_say(end, "after our update\n");
        ck_assert_uint_eq(record_updates(end->record, RECORD_TX), 1);
        tool_wait(&tool, "after our update");
    }
    tool_say(&tool, "Q\n");
    ck_assert_int_eq(end_open(end, &in), RECORD_CLOSED);
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

/* A client that does not trust us says so; a client of 2006 is told why not. */
START_TEST(openssl_client_refuses)
{
    const struct tls_config config = server_config();
    struct end *end = end_new(&config);
    struct tool tool;
    char port[8];
    int listener = listen_any(port);
    struct scratch other;
    scratch_make(&other);
    struct scratch ours = scratch;

    snprintf(scratch.ca, sizeof(scratch.ca), "%s", other.ca);
    s_client(&tool, port, (const char *[]){ "-tls1_3", NULL });
    scratch = ours;
    end_accept(end, listener);
    if (end_shake(end, NULL)) {
        /* TLS 1.3: the alert can come after our side is done */
        struct record_in in;
        ck_assert_int_eq(end_open(end, &in), RECORD_FAILED);
        ck_assert_int_eq(record_error(end->record), RECORD_ERROR_PEER_ALERT);
        ck_assert_uint_eq(record_peer_alert(end->record), 48);
    } else {
        ck_assert_msg(end->fail == TLS_FAIL_PEER_DISTRUSTS, "%s", end->why);
    }
    tool_stop(&tool);
    end_drop(end);
    scratch_drop(&other);
}
END_TEST

START_TEST(openssl_client_too_old)
{
    static const char *const versions[] = { "-tls1", "-tls1_1" };
    const struct tls_config config = server_config();
    struct end *end = end_new(&config);
    struct tool tool;
    char port[8];
    int listener = listen_any(port);

    s_client(&tool, port, (const char *[]){ versions[_i], "-cipher", "ALL:@SECLEVEL=0", NULL });
    end_accept(end, listener);
    ck_assert(!end_shake(end, NULL));
    ck_assert_msg(end->fail == TLS_FAIL_VERSION, "%s", end->why);
    tool_wait(&tool, "alert protocol version");
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

/* max_fragment_length is refused: records are 16 KiB. */
START_TEST(openssl_client_short_records)
{
    const struct tls_config config = server_config();
    struct end *end = end_new(&config);
    struct tool tool;
    char port[8];
    int listener = listen_any(port);

    s_client(&tool, port,
             (const char *[]){ _i == 0 ? "-tls1_3" : "-tls1_2", "-maxfraglen", "512", NULL });
    end_accept(end, listener);
    ck_assert(!end_shake(end, NULL));
    ck_assert_msg(end->fail == TLS_FAIL_NO_CIPHER, "%s", end->why);
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

START_TEST(openssl_client_certificate)
{
    struct tls_config config = server_config();
    config.ca_file = scratch.ca;
    struct end *end = end_new(&config);
    struct tool tool;
    char port[8];
    int listener = listen_any(port);
    bool with = _i % 2 == 0;
    const char *version = _i < 2 ? "-tls1_3" : "-tls1_2";

    if (with)
        s_client(&tool, port,
                 (const char *[]){ version, "-cert", scratch.client_cert, "-key",
                                   scratch.client_key, NULL });
    else
        s_client(&tool, port, (const char *[]){ version, NULL });
    end_accept(end, listener);
    bool done = end_shake(end, NULL);
    if (with) {
        ck_assert_msg(done, "%s", end->why);
        tool_say(&tool, "it is me\n");
        end_hear(end, "it is me\n");
    } else {
        ck_assert(!done);
        ck_assert_msg(end->fail == TLS_FAIL_CLIENT_CERT_MISSING, "%s", end->why);
    }
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

/* We connect to OpenSSL */

static void s_server(struct tool *tool, const char *port, const char *const more[])
{
    char target[32];
    snprintf(target, sizeof(target), "127.0.0.1:%s", port);
    const char *argv[ARGS_MAX] = { "openssl", "s_server",   "-accept", target,
                                   "-cert",   scratch.cert, "-key",    scratch.key };
    int n = 8;
    while (*more != NULL)
        argv[n++] = *more++;
    tool_start(tool, argv);
}

START_TEST(openssl_server)
{
    const struct tls_config config = client_config();
    struct end *end = end_new(&config);
    struct tool tool;
    struct record_in in;
    char port[8];
    free_port(port);

    s_server(&tool, port,
             (const char *[]){ offers[_i].version, offers[_i].option, offers[_i].cipher, NULL });
    end_connect(end, port);
    ck_assert_msg(end_shake(end, "localhost"), "%s", end->why);
    ck_assert_int_eq(record_cipher(end->record), offers[_i].expected);
    end_say(end, "hello from culvert\n");
    tool_wait(&tool, "hello from culvert");
    tool_say(&tool, "hello from openssl\n"); /* behind two tickets in TLS 1.3 */
    end_hear(end, "hello from openssl\n");
    if (record_version(end->record) == RECORD_TLS13) {
        tool_say(&tool, "K\n");
        end_updated(end);
        tool_say(&tool, "after its update\n");
        end_hear(end, "after its update\n");
        ck_assert_uint_eq(record_updates(end->record, RECORD_RX), 1);
        end_say(end, "after our update\n");
        tool_wait(&tool, "after our update");
    }
    tool_say(&tool, "Q\n");
    /* s_server closes its socket without close_notify: that is a truncation, and we must say so */
    ck_assert_int_eq(end_open(end, &in), RECORD_FAILED);
    ck_assert_int_eq(record_error(end->record), RECORD_ERROR_TRUNCATED);
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

/* A server that only knows P-256 or P-384 sends a HelloRetryRequest: our first key share is
 * X25519. */
START_TEST(openssl_server_retry)
{
    static const char *const groups[] = { "P-256", "P-384" };
    const struct tls_config config = client_config();
    struct end *end = end_new(&config);
    struct tool tool;
    char port[8];
    free_port(port);

    s_server(&tool, port, (const char *[]){ "-tls1_3", "-groups", groups[_i], "-rev", NULL });
    end_connect(end, port);
    ck_assert_msg(end_shake(end, "localhost"), "%s", end->why);
    end_say(end, "tnemom a tiaw\n");
    end_hear(end, "wait a moment");
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

START_TEST(openssl_server_asks_certificate)
{
    struct tls_config config = client_config();
    bool with = _i == 0;
    if (with) {
        config.cert_file = scratch.client_cert;
        config.key_file = scratch.client_key;
    }
    struct end *end = end_new(&config);
    struct tool tool;
    struct record_in in;
    char port[8];
    free_port(port);

    s_server(&tool, port,
             (const char *[]){ "-tls1_3", "-Verify", "1", "-verify_return_error", "-CAfile",
                               scratch.ca, "-rev", NULL });
    end_connect(end, port);
    ck_assert_msg(end_shake(end, "localhost"), "%s", end->why);
    if (with) {
        end_say(end, "em si ti\n");
        end_hear(end, "it is me");
    } else {
        /* TLS 1.3: the client is done before the server looks at its certificate */
        ck_assert_int_eq(end_open(end, &in), RECORD_FAILED);
        ck_assert_uint_eq(record_peer_alert(end->record), 116);
    }
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

/* TLS 1.0 and 1.1 servers are refused by us. */
START_TEST(openssl_server_too_old)
{
    const struct tls_config config = client_config();
    struct end *end = end_new(&config);
    struct tool tool;
    char port[8];
    free_port(port);

    s_server(&tool, port,
             (const char *[]){ _i == 0 ? "-tls1" : "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", NULL });
    end_connect(end, port);
    ck_assert(!end_shake(end, "localhost"));
    ck_assert_msg(end->fail == TLS_FAIL_VERSION, "%s", end->why);
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

/* GnuTLS */

static const char *const priorities[] = {
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM",
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM",
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305",
    "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM",
    "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305",
};
#define PRIORITIES 5

START_TEST(gnutls_client)
{
    const struct tls_config config = server_config();
    struct end *end = end_new(&config);
    struct tool tool;
    char port[8];
    int listener = listen_any(port);

    tool_start(&tool, (const char *[]){ "gnutls-cli", "--x509cafile", scratch.ca, "--port", port,
                                        "--priority", priorities[_i], "localhost", NULL });
    end_accept(end, listener);
    ck_assert_msg(end_shake(end, NULL), "%s", end->why);
    tool_say(&tool, "hello from gnutls\n");
    end_hear(end, "hello from gnutls\n");
    end_say(end, "hello from culvert\n");
    tool_wait(&tool, "hello from culvert");
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

START_TEST(gnutls_server)
{
    const struct tls_config config = client_config();
    struct end *end = end_new(&config);
    struct tool tool;
    char port[8];
    free_port(port);

    tool_start(&tool, (const char *[]){ "gnutls-serv", "--x509certfile", scratch.cert,
                                        "--x509keyfile", scratch.key, "--port", port, "--priority",
                                        priorities[_i], "--echo", NULL });
    end_connect(end, port);
    ck_assert_msg(end_shake(end, "localhost"), "%s", end->why);
    end_say(end, "there and back\n");
    end_hear(end, "there and back\n");
    tool_stop(&tool);
    end_drop(end);
}
END_TEST

static TCase *case_of(Suite *suite, const char *name)
{
    TCase *tc = tcase_create(name);

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 100);
    suite_add_tcase(suite, tc);
    return tc;
}

int main(void)
{
    Suite *suite = suite_create("tls_interop");
    bool openssl = installed("openssl");
    bool gnutls = installed("gnutls-cli") && installed("gnutls-serv");

    if (!openssl && !gnutls) {
        printf("neither openssl nor gnutls-bin is installed: skipped\n");
        return 77;
    }
    if (openssl) {
        TCase *tc = case_of(suite, "openssl");
        tcase_add_loop_test(tc, openssl_client, 0, OFFERS);
        tcase_add_test(tc, openssl_client_refuses);
        tcase_add_loop_test(tc, openssl_client_too_old, 0, 2);
        tcase_add_loop_test(tc, openssl_client_short_records, 0, 2);
        tcase_add_loop_test(tc, openssl_client_certificate, 0, 4);
        tcase_add_loop_test(tc, openssl_server, 0, OFFERS);
        tcase_add_loop_test(tc, openssl_server_retry, 0, 2);
        tcase_add_loop_test(tc, openssl_server_asks_certificate, 0, 2);
        tcase_add_loop_test(tc, openssl_server_too_old, 0, 2);
    }
    if (gnutls) {
        TCase *tc = case_of(suite, "gnutls");
        tcase_add_loop_test(tc, gnutls_client, 0, PRIORITIES);
        tcase_add_loop_test(tc, gnutls_server, 0, PRIORITIES);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
