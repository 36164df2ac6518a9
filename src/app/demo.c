/*
 * demo: see demo.h.
 *
 * One loop (demo_pump) waits for everything: signals, the pipes of both
 * children, and the end of the check, which runs in a thread because it blocks.
 * The course of the demo is then written straight down, each step as "pump
 * until this is so". Whatever goes wrong ends in demo_fail(): one sentence, the
 * children's last log lines, and an exit code.
 *
 * The order of the start: bind the origin, start the server and wait until it
 * accepts, start the client and wait for its line "ready: tcp://HOST:PORT ->
 * ORIGIN". The token is a random one of this run, handed to both in the
 * environment. With --tls the server makes itself a certificate in a directory
 * of this run, which is removed as soon as the server has read it, and the client
 * gets the pin that the server prints: what a user would do, without the copying.
 */
#include "app/demo.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "app/demo_check.h"
#include "app/demo_child.h"
#include "app/demo_origin.h"
#include "app/demo_pattern.h"
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/cure.h"
#include "core/base/secret.h"
#include "core/io/addr.h"

#define START_PORT      "10000"
#define START_SECONDS   20  /* for the server to accept, and for the client to be ready */
#define STOP_SECONDS    15  /* for a child to end after SIGTERM; its drain is told to be shorter */
#define LAST_WORDS_MS   300 /* for what the other one says of a child that has died */
#define DRAIN           "3s"
#define SERVER_ATTEMPTS 3    /* the free port that was found may be taken in the meantime */
#define CAUSE_MS        1000 /* for the death of a child to be seen after a failed check */
#define TOKEN_SIZE      32
#define STATE_DIR       "/tmp/culvert-demo-XXXXXX"

struct demo {
    const struct options *options;
    struct demo_child server, client;
    struct demo_check check;
    int signals;          /* signalfd */
    unsigned interrupted; /* how many times */
    struct signalfd_siginfo last_signal;
    bool checked;
    uint16_t server_port, origin_port;
    char ready[256];                   /* "tcp://HOST:PORT" once the client is ready */
    char *token;                       /* secret memory */
    char state_dir[sizeof(STATE_DIR)]; /* of the server with --tls; empty without */
    char pin[80];                      /* "sha256:..." once that server has printed it */
};

static const char *const wire_names[] = {
    [CONFIG_WIRE_AUTO] = "auto", [CONFIG_WIRE_V1] = "v1", [CONFIG_WIRE_V2] = "v2"
};
static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"
};

static uint64_t demo_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

__attribute__((format(printf, 3, 4))) static int demo_fail(struct demo *demo, int code,
                                                           const char *format, ...)
{
    va_list args;

    demo_child_print_log(&demo->server);
    demo_child_print_log(&demo->client);
    fputs("culvert demo: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return code;
}

/* Pump */

static void demo_note_client_line(void *arg, const char *text)
{
    struct demo *demo = arg;
    size_t size;

    if (strncmp(text, "ready: ", 7) != 0)
        return;
    size = strcspn(text + 7, " ");
    if (demo->ready[0] == '\0' && size < sizeof(demo->ready)) {
        memcpy(demo->ready, text + 7, size);
        demo->ready[size] = '\0';
    }
}

/* "tls: culvert client --server ... --tls-pin sha256:... --token-file FILE" */
static void demo_note_server_line(void *arg, const char *text)
{
    struct demo *demo = arg;
    const char *pin = strstr(text, "--tls-pin ");

    if (strncmp(text, "tls: ", 5) == 0 && pin != NULL)
        snprintf(demo->pin, sizeof(demo->pin), "%.*s", (int)strcspn(pin + 10, " "), pin + 10);
}

static void demo_take_signals(struct demo *demo)
{
    struct signalfd_siginfo info;

    while (read(demo->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        if (info.ssi_signo == SIGINT || info.ssi_signo == SIGTERM) {
            demo->interrupted++;
            demo->last_signal = info;
        }
}

/* Waits for the next event, at most timeout_ms (-1: no limit), and handles all
 * that are there. */
static void demo_pump(struct demo *demo, int timeout_ms)
{
    struct pollfd fds[] = {
        { .fd = demo->signals, .events = POLLIN },
        { .fd = demo->check.done_event, .events = POLLIN },
        { .fd = demo->server.out.fd, .events = POLLIN },
        { .fd = demo->server.err.fd, .events = POLLIN },
        { .fd = demo->client.out.fd, .events = POLLIN },
        { .fd = demo->client.err.fd, .events = POLLIN },
    };
    uint64_t value;

    poll(fds, ARRAY_SIZE(fds), timeout_ms);
    demo_take_signals(demo);
    if (demo->check.done_event >= 0 &&
        read(demo->check.done_event, &value, sizeof(value)) == (ssize_t)sizeof(value))
        demo->checked = true;
    demo_child_ended(&demo->server); /* before the pipes are emptied, so that no
                                      last line is lost */
    demo_child_ended(&demo->client);
    demo_child_read(&demo->server, demo_note_server_line, demo);
    demo_child_read(&demo->client, demo_note_client_line, demo);
}

/* Start */

static struct sockaddr_in demo_loopback(uint16_t port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

/* A port of 127.0.0.1 that was free a moment ago; 0 with errno. */
static uint16_t demo_find_free_port(void)
{
    struct sockaddr_in addr = demo_loopback(0);
    socklen_t size = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return 0;
    if (bind(fd, (struct sockaddr *)&addr, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &size) != 0)
        addr.sin_port = 0;
    close(fd);
    return ntohs(addr.sin_port);
}

static bool demo_port_accepts(uint16_t port)
{
    struct sockaddr_in addr = demo_loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok;

    if (fd < 0)
        return false;
    ok = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
    close(fd);
    return ok;
}

/* Letters for random bits: 16 for each, so that none is likelier than another. */
static bool demo_make_token(struct demo *demo)
{
    demo->token = secret_alloc(TOKEN_SIZE + 1);
    if (demo->token == NULL || getrandom(demo->token, TOKEN_SIZE, 0) != (ssize_t)TOKEN_SIZE)
        return false;
    for (size_t i = 0; i < TOKEN_SIZE; i++)
        demo->token[i] = (char)('a' + (demo->token[i] & 15));
    return true;
}

static bool demo_make_state_dir(struct demo *demo)
{
    memcpy(demo->state_dir, STATE_DIR, sizeof(STATE_DIR));
    if (mkdtemp(demo->state_dir) != NULL)
        return true;
    demo->state_dir[0] = '\0';
    return false;
}

/* What the server made there, and nothing else. */
static void demo_remove_state_dir(struct demo *demo)
{
    const char *const files[] = { "ca.pem", "ca.key", "server.pem", "server.key", "ticket.key" };
    char path[sizeof(STATE_DIR) + 16];

    if (demo->state_dir[0] == '\0')
        return;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", demo->state_dir, files[i]);
        unlink(path);
    }
    rmdir(demo->state_dir);
    demo->state_dir[0] = '\0';
}

/* clang-format off */
static bool demo_start_server(struct demo *demo)
{
    const struct options *options = demo->options;
    char addr[32], workers[16];
    bool tls = options->config.tls == CONFIG_ON;
    const char *argv[] = {
        "culvert", "server",
        "--addr", addr,
        "--start-port", START_PORT,
        "--public-addr", "127.0.0.1",
        "--workers", workers,
        "--log-level", level_names[options->log_level],
        "--drain-timeout", DRAIN,
        tls ? "--tls" : NULL, /* NULL ends the list: what follows is for --tls */
        "--state-dir", demo->state_dir,
        NULL
    };

    demo->server_port = demo_find_free_port();
    if (demo->server_port == 0)
        return false;
    snprintf(addr, sizeof(addr), "127.0.0.1:%u", demo->server_port);
    snprintf(workers, sizeof(workers), "%u", options->config.workers);
    return demo_child_start(&demo->server, "server", argv, demo->token, options->demo.verbose);
}

static bool demo_start_client(struct demo *demo)
{
    const struct options *options = demo->options;
    char server[32], local[32], workers[16];
    const char *argv[] = {
        "culvert", "client",
        "--server", server,
        "--local", local,
        "--name", "demo",
        "--wire", wire_names[options->config.wire],
        "--workers", workers,
        "--log-level", level_names[options->log_level],
        "--drain-timeout", DRAIN,
        options->config.tls == CONFIG_ON ? "--tls" : NULL, /* as above */
        "--tls-pin", demo->pin,
        NULL
    };

    snprintf(server, sizeof(server), "127.0.0.1:%u", demo->server_port);
    snprintf(local, sizeof(local), "127.0.0.1:%u", demo->origin_port);
    snprintf(workers, sizeof(workers), "%u", options->config.workers);
    return demo_child_start(&demo->client, "client", argv, demo->token, options->demo.verbose);
}
/* clang-format on */

/* What a child's early end makes of the demo: a machine that refuses keeps its
 * code. What the other one says of it may take a moment. */
static int demo_fail_ended(struct demo *demo, const struct demo_child *child)
{
    int code = child->status == EXIT_CODE_CANNOT_START ? EXIT_CODE_CANNOT_START : EXIT_CODE_FAILED;

    for (uint64_t end = demo_now_ms() + LAST_WORDS_MS; demo_now_ms() < end;)
        demo_pump(demo, 20);
    if (child->status >= 128)
        return demo_fail(demo, code, "the %s was killed by signal %d", child->name,
                         child->status - 128);
    return demo_fail(demo, code, "the %s ended with exit code %d (%s)", child->name, child->status,
                     exit_code_text(child->status));
}

static int demo_fail_interrupted(struct demo *demo)
{
    demo->check.cancelled = true;
    fprintf(stderr,
            "\nculvert demo: stopped by SIG%s (from process %u) before the check was over\n",
            sigabbrev_np((int)demo->last_signal.ssi_signo), demo->last_signal.ssi_pid);
    return EXIT_CODE_FAILED;
}

/* EXIT_CODE_OK once the server accepts, and has said its pin. */
static int demo_wait_server(struct demo *demo)
{
    uint64_t deadline = demo_now_ms() + START_SECONDS * 1000;

    while (!demo_port_accepts(demo->server_port) ||
           (demo->options->config.tls == CONFIG_ON && demo->pin[0] == '\0')) {
        if (demo->interrupted > 0)
            return demo_fail_interrupted(demo);
        if (demo->server.pid == 0)
            return demo->server.status;
        if (demo_now_ms() > deadline)
            return demo_fail(demo, EXIT_CODE_FAILED, "the server did not accept within %d s",
                             START_SECONDS);
        demo_pump(demo, 10);
    }
    return EXIT_CODE_OK;
}

static int demo_bring_up_server(struct demo *demo)
{
    for (unsigned attempt = 1;; attempt++) {
        int code;

        if (!demo_start_server(demo))
            return demo_fail(demo, EXIT_CODE_CANNOT_START, "cannot start the server: %s%s",
                             strerror(errno), cure_text(errno));
        code = demo_wait_server(demo);
        if (code == EXIT_CODE_OK)
            demo_remove_state_dir(demo);
        if (code == EXIT_CODE_OK || demo->server.pid != 0 || demo->interrupted > 0)
            return code;
        if (code != EXIT_CODE_CANNOT_START || attempt == SERVER_ATTEMPTS)
            return demo_fail_ended(demo, &demo->server);
    }
}

static int demo_bring_up_client(struct demo *demo)
{
    uint64_t deadline = demo_now_ms() + START_SECONDS * 1000;

    if (!demo_start_client(demo))
        return demo_fail(demo, EXIT_CODE_CANNOT_START, "cannot start the client: %s%s",
                         strerror(errno), cure_text(errno));
    while (demo->ready[0] == '\0') {
        if (demo->interrupted > 0)
            return demo_fail_interrupted(demo);
        if (demo->client.pid == 0)
            return demo_fail_ended(demo, &demo->client);
        if (demo->server.pid == 0)
            return demo_fail_ended(demo, &demo->server);
        if (demo_now_ms() > deadline)
            return demo_fail(demo, EXIT_CODE_FAILED, "the client was not ready within %d s",
                             START_SECONDS);
        demo_pump(demo, 100);
    }
    return EXIT_CODE_OK;
}

/* Check */

/* Where visitors connect: the port of the "ready:" line, on loopback. */
static bool demo_parse_ready(struct demo *demo, struct sockaddr_in *to)
{
    struct config_endpoint endpoint;
    char error[ADDR_ERROR_MAX];

    if (strncmp(demo->ready, "tcp://", 6) != 0 ||
        !addr_parse_endpoint(demo->ready + 6, ADDR_SERVER, &endpoint, error))
        return false;
    *to = demo_loopback(endpoint.port);
    return true;
}

/* Visitors notice the death of a child before it can be waited for (its sockets close first), so
 * its end gets a moment to arrive: it is the better explanation. */
static int demo_fail_check(struct demo *demo)
{
    uint64_t deadline = demo_now_ms() + CAUSE_MS;

    while (demo->server.pid != 0 && demo->client.pid != 0 && demo_now_ms() < deadline)
        demo_pump(demo, 50);
    if (demo->server.pid == 0)
        return demo_fail_ended(demo, &demo->server);
    if (demo->client.pid == 0)
        return demo_fail_ended(demo, &demo->client);
    return demo_fail(demo, EXIT_CODE_FAILED, "%s", demo->check.error);
}

static int demo_run_check(struct demo *demo)
{
    demo->check.what = demo->options->demo;
    demo->check.direct = demo_loopback(demo->origin_port);
    if (!demo_parse_ready(demo, &demo->check.tunnel))
        return demo_fail(demo, EXIT_CODE_FAILED, "the client's line '%s' has no address",
                         demo->ready);
    printf("visitor -> 127.0.0.1:%u -> server (127.0.0.1:%u) -> client -> origin "
           "127.0.0.1:%u\n",
           ntohs(demo->check.tunnel.sin_port), demo->server_port, demo->origin_port);
    if (demo->options->config.tls == CONFIG_ON)
        printf("server and client speak TLS; the client trusts the server's key\n  %s\n",
               demo->pin);
    if (!demo_check_start(&demo->check))
        return demo_fail(demo, EXIT_CODE_CANNOT_START, "cannot start the check: %s%s",
                         strerror(errno), cure_text(errno));
    while (!demo->checked) {
        demo_pump(demo, -1);
        if (demo->interrupted > 0)
            return demo_fail_interrupted(demo);
        if (demo->server.pid == 0)
            return demo_fail_ended(demo, &demo->server);
        if (demo->client.pid == 0)
            return demo_fail_ended(demo, &demo->client);
    }
    return demo->check.ok ? EXIT_CODE_OK : demo_fail_check(demo);
}

static int demo_stay_up(struct demo *demo)
{
    printf("\nPublic URL: http://127.0.0.1:%u/   (Ctrl+C ends the demo)\n",
           ntohs(demo->check.tunnel.sin_port));
    fflush(stdout);
    while (demo->interrupted == 0) {
        demo_pump(demo, -1);
        if (demo->server.pid == 0)
            return demo_fail_ended(demo, &demo->server);
        if (demo->client.pid == 0)
            return demo_fail_ended(demo, &demo->client);
    }
    return EXIT_CODE_OK;
}

/* Stop */

/* SIGTERM, and SIGKILL if that takes too long or Ctrl+C is pressed again. False
 * in the second case. */
static bool demo_stop_child(struct demo *demo, struct demo_child *child)
{
    uint64_t deadline = demo_now_ms() + STOP_SECONDS * 1000;
    unsigned before = demo->interrupted;

    demo_child_signal(child, SIGTERM);
    if (demo->check.cancelled)
        demo_child_signal(child, SIGINT);
    while (child->pid != 0 && demo_now_ms() < deadline && demo->interrupted == before)
        demo_pump(demo, 100);
    if (child->pid == 0)
        return true;
    demo_child_signal(child, SIGKILL);
    while (child->pid != 0)
        demo_pump(demo, 100);
    return false;
}

/* Client first, then server: so the end of the session is one that the client
 * asked for. */
static int demo_stop(struct demo *demo, int code)
{
    struct demo_child *children[] = { &demo->client, &demo->server };

    for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
        struct demo_child *child = children[i];
        bool was_running = child->pid != 0;

        if (!demo_stop_child(demo, child) && code == EXIT_CODE_OK && demo->interrupted < 2)
            code = demo_fail(demo, EXIT_CODE_FAILED, "the %s did not end within %d s of SIGTERM",
                             child->name, STOP_SECONDS);
        else if (was_running && child->status != EXIT_CODE_OK && code == EXIT_CODE_OK &&
                 demo->interrupted < 2)
            code = demo_fail_ended(demo, child);
    }
    return code;
}

/* SIGINT, SIGTERM and SIGCHLD arrive as events. False with errno. */
static bool demo_open_signals(struct demo *demo)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGCHLD);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return false;
    demo->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return demo->signals >= 0;
}

static int demo_run_through(struct demo *demo)
{
    int code;

    demo_pattern_init(UINT64_C(0x63756c76657274));
    if (!demo_open_signals(demo) || !demo_make_token(demo) ||
        (demo->options->config.tls == CONFIG_ON && !demo_make_state_dir(demo)) ||
        !demo_origin_start(&demo->origin_port))
        return demo_fail(demo, EXIT_CODE_CANNOT_START, "cannot start: %s%s", strerror(errno),
                         cure_text(errno));
    code = demo_bring_up_server(demo);
    if (code == EXIT_CODE_OK)
        code = demo_bring_up_client(demo);
    if (code == EXIT_CODE_OK)
        code = demo_run_check(demo);
    if (code == EXIT_CODE_OK && !demo->options->demo.once)
        code = demo_stay_up(demo);
    return demo_stop(demo, code);
}

int demo_run(const struct options *options)
{
    static struct demo demo; /* static: threads of the origin and of the check
                              outlive this function */
    int code;

    demo = (struct demo){ .options = options,
                          .signals = -1,
                          .check.done_event = -1,
                          .server = { .out.fd = -1, .err.fd = -1 },
                          .client = { .out.fd = -1, .err.fd = -1 } };
    code = demo_run_through(&demo);
    demo_remove_state_dir(&demo); /* if it came to no start */
    secret_free(demo.token);
    if (code == EXIT_CODE_OK && options->demo.once)
        printf("\nEvery byte was right.\n");
    return code;
}
