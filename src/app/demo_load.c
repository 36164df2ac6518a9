/* demo_load: see demo_load.h. */
#include "app/demo_load.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "app/demo_http.h"
#include "app/demo_origin.h"
#include "core/base/base.h"

#define STACK_SIZE (128 * KIB)

__attribute__((format(printf, 2, 3))) static bool demo_load_fail(char *error, const char *format,
                                                                 ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error, DEMO_LOAD_ERROR_MAX, format, args);
    va_end(args);
    return false;
}

/* errno as demo_http leaves it: 0 is an early end. */
static const char *demo_load_why(int code)
{
    if (code == 0)
        return "the connection ended too early";
    if (code == EAGAIN)
        return "no progress for 30 s";
    return strerror(code);
}

static uint64_t demo_load_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static double demo_load_seconds_since(uint64_t start)
{
    return (double)(demo_load_now_ns() - start) / 1e9;
}

static bool demo_load_visit(struct demo_http *http, const struct sockaddr_in *to, char *error)
{
    struct timeval stall = { .tv_sec = DEMO_LOAD_STALL_SECONDS };
    int one = 1;

    http->have = 0;
    http->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (http->fd < 0)
        return demo_load_fail(error, "cannot make a socket: %s", strerror(errno));
    setsockopt(http->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(http->fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall));
    setsockopt(http->fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof(stall));
    if (connect(http->fd, (const struct sockaddr *)to, sizeof(*to)) == 0)
        return true;
    demo_load_fail(error, "cannot connect to port %u: %s", ntohs(to->sin_port), strerror(errno));
    close(http->fd);
    return false;
}

static bool demo_load_get(struct demo_http *http, uint64_t bytes, char *error)
{
    char text[8192];
    uint64_t done = 0;

    snprintf(text, sizeof(text), "GET /bulk/%" PRIu64 " HTTP/1.1\r\nHost: demo\r\n\r\n", bytes);
    if (!demo_http_send(http, text, strlen(text)) || !demo_http_read_head(http, text, sizeof(text)))
        return demo_load_fail(error, "download: no answer: %s", demo_load_why(errno));
    if (strncmp(text, "HTTP/1.1 200 ", 13) != 0 || demo_http_content_length(text) != bytes)
        return demo_load_fail(error, "download: wrong answer '%.*s'", (int)strcspn(text, "\r"),
                              text);
    if (demo_http_check_pattern(http, DEMO_PATTERN_DOWN, bytes, &done))
        return true;
    if (errno == EILSEQ)
        return demo_load_fail(error, "download: byte %" PRIu64 " of %" PRIu64 " is wrong", done,
                              bytes);
    return demo_load_fail(error, "download: after %" PRIu64 " of %" PRIu64 " bytes: %s", done,
                          bytes, demo_load_why(errno));
}

static bool demo_load_post(struct demo_http *http, uint64_t bytes, char *error)
{
    char text[8192], body[128] = "";
    uint64_t done = 0;
    bool sent;
    int code;

    snprintf(text, sizeof(text),
             "POST /sink HTTP/1.1\r\nHost: demo\r\nContent-Length: %" PRIu64 "\r\n\r\n", bytes);
    sent = demo_http_send(http, text, strlen(text)) &&
           demo_http_send_pattern(http, DEMO_PATTERN_UP, bytes, &done);
    code = errno;
    /* The answer comes even if sending failed, when the origin found a wrong
   * byte. */
    if (!demo_http_read_head(http, text, sizeof(text)))
        return demo_load_fail(error, "upload: after %" PRIu64 " of %" PRIu64 " bytes: %s", done,
                              bytes, demo_load_why(sent ? errno : code));
    if (strncmp(text, "HTTP/1.1 200 ", 13) == 0 && sent)
        return true;
    if (demo_http_recv(http, body, sizeof(body) - 1) < 0)
        body[0] = '\0';
    return demo_load_fail(error, "upload: the origin says: %.*s", (int)strcspn(body, "\n"), body);
}

bool demo_load_download(const struct sockaddr_in *to, uint64_t bytes, double *seconds, char *error)
{
    struct demo_http http;
    uint64_t start;
    bool ok;

    if (!demo_load_visit(&http, to, error))
        return false;
    start = demo_load_now_ns();
    ok = demo_load_get(&http, bytes, error);
    *seconds = demo_load_seconds_since(start);
    close(http.fd);
    return ok;
}

bool demo_load_upload(const struct sockaddr_in *to, uint64_t bytes, double *seconds, char *error)
{
    struct demo_http http;
    uint64_t start;
    bool ok;

    if (!demo_load_visit(&http, to, error))
        return false;
    start = demo_load_now_ns();
    ok = demo_load_post(&http, bytes, error);
    *seconds = demo_load_seconds_since(start);
    close(http.fd);
    return ok;
}

/* Requests */

/* One keep-alive connection and its thread. */
struct visitor {
    const struct sockaddr_in *to;
    pthread_barrier_t *start; /* all are connected before the first request */
    uint32_t requests;
    uint32_t *latency_us; /* one for each request */
    bool ok;
    char error[DEMO_LOAD_ERROR_MAX];
};

static bool demo_load_request_once(struct demo_http *http, char *error)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: demo\r\n\r\n";
    char head[sizeof(http->buf) + 1], body[1024];
    size_t size = strlen(demo_origin_page), have = 0;

    if (!demo_http_send(http, request, sizeof(request) - 1) ||
        !demo_http_read_head(http, head, sizeof(head)))
        return demo_load_fail(error, "request: no answer: %s", demo_load_why(errno));
    if (strncmp(head, "HTTP/1.1 200 ", 13) != 0 || demo_http_content_length(head) != size)
        return demo_load_fail(error, "request: wrong answer '%.*s'", (int)strcspn(head, "\r"),
                              head);
    while (have < size) {
        ssize_t n = demo_http_recv(http, body + have, min_size(size - have, sizeof(body) - have));

        if (n <= 0)
            return demo_load_fail(error, "request: page cut short: %s",
                                  n == 0 ? demo_load_why(0) : demo_load_why(errno));
        have += (size_t)n;
    }
    if (memcmp(body, demo_origin_page, size) != 0)
        return demo_load_fail(error, "request: the page is not the one that the origin sent");
    return true;
}

static void *demo_load_run_visitor(void *arg)
{
    struct visitor *visitor = arg;
    struct demo_http http;
    bool connected = demo_load_visit(&http, visitor->to, visitor->error);

    pthread_barrier_wait(visitor->start);
    if (!connected)
        return NULL;
    visitor->ok = true;
    for (uint32_t i = 0; i < visitor->requests && visitor->ok; i++) {
        uint64_t start = demo_load_now_ns();

        visitor->ok = demo_load_request_once(&http, visitor->error);
        visitor->latency_us[i] = (uint32_t)((demo_load_now_ns() - start) / 1000);
    }
    close(http.fd);
    return NULL;
}

static int demo_load_compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Nearest rank, of sorted latencies. */
static double demo_load_percentile_ms(const uint32_t *latencies_us, uint32_t count,
                                      uint32_t percent)
{
    uint64_t rank = ((uint64_t)count * percent + 99) / 100;

    return latencies_us[rank - 1] / 1000.0;
}

/* Threads that could not be started would leave the barrier waiting: the caller
 * gives up the process. */
static unsigned demo_load_start_visitors(struct visitor *visitors, pthread_t *threads)
{
    pthread_attr_t attr;
    unsigned started = 0;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    while (started < DEMO_LOAD_CONNECTIONS &&
           pthread_create(&threads[started], &attr, demo_load_run_visitor, &visitors[started]) == 0)
        started++;
    pthread_attr_destroy(&attr);
    return started;
}

static bool demo_load_run_visitors(struct visitor *visitors, pthread_barrier_t *start,
                                   double *seconds, char *error)
{
    pthread_t threads[DEMO_LOAD_CONNECTIONS];
    uint64_t begin;
    bool ok = true;

    if (demo_load_start_visitors(visitors, threads) < DEMO_LOAD_CONNECTIONS)
        return demo_load_fail(error,
                              "cannot start %u threads: raise the limit of processes (ulimit -u)",
                              DEMO_LOAD_CONNECTIONS);
    pthread_barrier_wait(start);
    begin = demo_load_now_ns();
    for (unsigned i = 0; i < DEMO_LOAD_CONNECTIONS; i++)
        pthread_join(threads[i], NULL);
    *seconds = demo_load_seconds_since(begin);
    pthread_barrier_destroy(start);
    for (unsigned i = 0; i < DEMO_LOAD_CONNECTIONS && ok; i++)
        if (!visitors[i].ok)
            ok = demo_load_fail(error, "%s", visitors[i].error);
    return ok;
}

/* Static: threads that wait at the barrier after a failed start still see them.
 */
static struct visitor visitors[DEMO_LOAD_CONNECTIONS];
static pthread_barrier_t barrier;

bool demo_load_requests(const struct sockaddr_in *to, uint32_t requests,
                        struct demo_load_latency *latency, char *error)
{
    uint32_t *latencies = calloc(requests, sizeof(*latencies)), *next = latencies;
    bool ok;

    if (latencies == NULL)
        return demo_load_fail(error, "out of memory");
    pthread_barrier_init(&barrier, NULL, DEMO_LOAD_CONNECTIONS + 1);
    for (unsigned i = 0; i < DEMO_LOAD_CONNECTIONS; i++) {
        uint32_t share = requests / DEMO_LOAD_CONNECTIONS + (i < requests % DEMO_LOAD_CONNECTIONS);

        visitors[i] =
            (struct visitor){ .to = to, .start = &barrier, .requests = share, .latency_us = next };
        next += share;
    }
    ok = demo_load_run_visitors(visitors, &barrier, &latency->seconds, error);
    if (ok) {
        qsort(latencies, requests, sizeof(*latencies), demo_load_compare_u32);
        latency->p50_ms = demo_load_percentile_ms(latencies, requests, 50);
        latency->p99_ms = demo_load_percentile_ms(latencies, requests, 99);
    }
    free(latencies);
    return ok;
}
