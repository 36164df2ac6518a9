/*
 * loadgen's closed loops: rr, crr and bulk. Here the path sets the pace, so these say how fast it
 * can go, not how it feels at a given load (that is load_open.c).
 *
 * rr with one connection blocks in recv() and so includes one wake-up of this process, as any
 * caller's would; with several it is wrk's keep-alive loop, for an origin that is no web server.
 * crr keeps `connections` attempts going from one thread; an attempt is connect, request, reply,
 * close, and a failed one counts as an error and is tried again. bulk counts on this side: what was
 * read, or what the socket took.
 */
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, CHUNK = 256 * 1024, TURN_ROUNDS = 8 };

static uint8_t chunk[CHUNK];

static int dial(const struct load_config *config)
{
    int fd = bench_socket(0);

    if (connect(fd, (const struct sockaddr *)&config->to[0], sizeof(config->to[0])) != 0)
        bench_die(errno, "cannot connect");
    return fd;
}

/* Rr */

static void rr_once(const struct load_config *config, int fd, struct exchange *x)
{
    size_t len;
    const uint8_t *request = exchange_request(config, false, &len);
    enum exchange_state state = EXCHANGE_MORE;

    exchange_begin(x, config);
    if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len)
        bench_die(errno, "the path lost the connection");
    while (state == EXCHANGE_MORE) {
        ssize_t n = recv(fd, chunk, sizeof(chunk), 0);

        if (n <= 0)
            bench_die(n < 0 ? errno : 0, "the path closed the connection");
        state = exchange_feed(x, chunk, (size_t)n);
    }
    if (state == EXCHANGE_BAD)
        bench_die(0, "the reply is not what was asked for");
}

static void rr_one(const struct load_config *config, struct load_result *result, uint64_t from,
                   uint64_t stop)
{
    static struct exchange x;
    int fd = dial(config);
    uint64_t before, after;

    for (before = bench_now(); before < stop; before = after) {
        rr_once(config, fd, &x);
        after = bench_now();
        if (before >= from) {
            histogram_record(&result->latency, after - before);
            result->requests++;
        }
    }
    close(fd);
}

struct caller {
    int fd;
    uint64_t began;
    struct exchange exchange;
};

static void caller_ask(const struct load_config *config, struct caller *c)
{
    size_t len;
    const uint8_t *request = exchange_request(config, false, &len);

    exchange_begin(&c->exchange, config);
    c->began = bench_now();
    if (send(c->fd, request, len, MSG_NOSIGNAL) != (ssize_t)len)
        bench_die(errno, "the path lost a connection");
}

/* Returns true when a whole reply came. */
static bool caller_read(struct caller *c)
{
    ssize_t n = recv(c->fd, chunk, sizeof(chunk), 0);
    enum exchange_state state;

    if (n <= 0)
        bench_die(n < 0 ? errno : 0, "the path closed a connection");
    state = exchange_feed(&c->exchange, chunk, (size_t)n);
    if (state == EXCHANGE_BAD)
        bench_die(0, "the reply is not what was asked for");
    return state == EXCHANGE_DONE;
}

static struct caller *callers_start(const struct load_config *config, int epoll)
{
    struct caller *callers = calloc(config->connections, sizeof(*callers));

    bench_check(callers != NULL);
    for (unsigned i = 0; i < config->connections; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = &callers[i] };

        callers[i].fd = dial(config);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, callers[i].fd, &event) != 0)
            bench_die(errno, "epoll_ctl");
        caller_ask(config, &callers[i]);
    }
    return callers;
}

static void rr_many(const struct load_config *config, struct load_result *result, uint64_t from,
                    uint64_t stop)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct caller *callers = callers_start(config, epoll);
    struct epoll_event events[EVENTS];
    uint64_t now = bench_now();

    while (now < stop) {
        int n = epoll_wait(epoll, events, EVENTS, 10);

        for (int i = 0; i < n; i++) {
            struct caller *c = events[i].data.ptr;

            if (!caller_read(c))
                continue;
            now = bench_now();
            if (now >= from && now < stop) {
                histogram_record(&result->latency, now - c->began);
                result->requests++;
            }
            caller_ask(config, c);
        }
        now = bench_now();
    }
    free(callers);
}

void load_rr(const struct load_config *config, struct load_result *result)
{
    uint64_t from = bench_now() + (uint64_t)(config->warm * 1e9);
    uint64_t stop = from + (uint64_t)(config->seconds * 1e9);

    if (config->connections == 1)
        rr_one(config, result, from, stop);
    else
        rr_many(config, result, from, stop);
    result->seconds = config->seconds;
}

/* Crr */

struct attempt {
    int fd; /* -1: none */
    bool asked;
    uint64_t began;
    struct exchange exchange;
};

struct crr {
    const struct load_config *config;
    struct load_result *result;
    int epoll;
    uint64_t from;
    uint64_t stop;
};

static void attempt_begin(struct crr *r, struct attempt *a)
{
    struct epoll_event event = { .events = EPOLLOUT, .data.ptr = a };

    a->asked = false;
    a->began = bench_now();
    a->fd = bench_socket(SOCK_NONBLOCK);
    exchange_begin(&a->exchange, r->config);
    if (connect(a->fd, (const struct sockaddr *)&r->config->to[0], sizeof(r->config->to[0])) != 0 &&
        errno != EINPROGRESS)
        bench_die(errno, "cannot connect");
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, a->fd, &event) != 0)
        bench_die(errno, "epoll_ctl");
}

static void attempt_end(struct crr *r, struct attempt *a, bool good)
{
    uint64_t now = bench_now();

    close(a->fd);
    a->fd = -1;
    if (now >= r->from && now < r->stop) {
        if (good) {
            histogram_record(&r->result->latency, now - a->began);
            r->result->requests++;
        } else {
            r->result->errors++;
        }
    }
    if (now < r->stop)
        attempt_begin(r, a);
}

/* Returns false when the attempt failed. */
static bool attempt_ask(struct crr *r, struct attempt *a)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = a };
    size_t len;
    const uint8_t *request = exchange_request(r->config, true, &len);

    a->asked = true;
    return send(a->fd, request, len, MSG_NOSIGNAL) == (ssize_t)len &&
           epoll_ctl(r->epoll, EPOLL_CTL_MOD, a->fd, &event) == 0;
}

static void attempt_ready(struct crr *r, struct attempt *a, uint32_t events)
{
    enum exchange_state state;
    ssize_t n;

    if (!a->asked) {
        if ((events & (EPOLLERR | EPOLLHUP)) != 0 || !attempt_ask(r, a))
            attempt_end(r, a, false);
        return;
    }
    n = recv(a->fd, chunk, sizeof(chunk), 0);
    if (n < 0 && errno == EAGAIN)
        return;
    state = n > 0 ? exchange_feed(&a->exchange, chunk, (size_t)n) : EXCHANGE_BAD;
    if (state != EXCHANGE_MORE)
        attempt_end(r, a, state == EXCHANGE_DONE);
}

void load_crr(const struct load_config *config, struct load_result *result)
{
    struct crr r = { .config = config, .result = result };
    struct attempt *attempts = calloc(config->connections, sizeof(*attempts));
    struct epoll_event events[EVENTS];

    bench_check(attempts != NULL);
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    r.from = bench_now() + (uint64_t)(config->warm * 1e9);
    r.stop = r.from + (uint64_t)(config->seconds * 1e9);
    for (unsigned i = 0; i < config->connections; i++)
        attempt_begin(&r, &attempts[i]);
    while (bench_now() < r.stop) {
        int n = epoll_wait(r.epoll, events, EVENTS, 10);

        if (n < 0 && errno != EINTR)
            bench_die(errno, "epoll_wait");
        for (int i = 0; i < n; i++)
            attempt_ready(&r, events[i].data.ptr, events[i].events);
    }
    result->seconds = config->seconds;
    free(attempts);
}

/* Bulk */

static ssize_t bulk_move(bool up, int fd)
{
    return up ? send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL | MSG_DONTWAIT)
              : recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
}

static uint64_t bulk_turn(bool up, int fd)
{
    uint64_t moved = 0;

    for (int round = 0; round < TURN_ROUNDS; round++) {
        ssize_t n = bulk_move(up, fd);

        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0)
            bench_die(n < 0 ? errno : 0, "the path closed a bulk connection");
        moved += (uint64_t)n;
    }
    return moved;
}

static void bulk_connect(const struct load_config *config, int epoll)
{
    int fd = dial(config);
    struct epoll_event event = { .events = config->up ? EPOLLOUT : EPOLLIN, .data.fd = fd };

    if (send(fd, config->up ? "s" : "b", 1, MSG_NOSIGNAL) != 1)
        bench_die(errno, "the path lost a connection");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        bench_die(errno, "epoll_ctl");
}

void load_bulk(const struct load_config *config, struct load_result *result)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS];
    uint64_t from = bench_now() + (uint64_t)(config->warm * 1e9);
    uint64_t stop = from + (uint64_t)(config->seconds * 1e9);
    uint64_t now;

    for (unsigned i = 0; i < config->connections; i++)
        bulk_connect(config, epoll);
    for (now = bench_now(); now < stop; now = bench_now()) {
        int n = epoll_wait(epoll, events, EVENTS, 10);

        if (n < 0 && errno != EINTR)
            bench_die(errno, "epoll_wait");
        for (int i = 0; i < n; i++) {
            uint64_t moved = bulk_turn(config->up, events[i].data.fd);

            if (now >= from)
                result->bytes += moved;
        }
    }
    result->seconds = (double)(now - from) / 1e9;
}
