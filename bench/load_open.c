/*
 * loadgen's open loop. Request k is due at start + k / rate, on connection k mod N. It is sent when
 * it is due and its connection is free, or as soon as that connection's previous reply is there; in
 * both cases its latency runs from the moment it was due. A path that stalls for a second is so
 * charged with every request that had to wait in that second, which a closed loop would never have
 * sent (the error called coordinated omission).
 *
 * Per connection: sent <= due requests; `answered` counts replies, so the request in flight is
 * number `answered` of that connection, and its due time follows from the number alone.
 */
#include "load.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256 };

struct conn {
    int fd;
    uint64_t due; /* how many of its requests are due */
    uint64_t answered;
    bool in_flight;
    struct exchange exchange;
};

struct open_loop {
    const struct load_config *config;
    struct load_result *result;
    struct conn *conns;
    const uint8_t *request;
    size_t request_len;
    uint64_t start;
    uint64_t measure_from; /* requests due from here on count */
    uint64_t stop;         /* none is due from here on */
    uint64_t next;         /* the first request that is not due yet */
};

static uint64_t due_time(const struct open_loop *o, uint64_t k)
{
    return o->start + (uint64_t)((double)k * 1e9 / o->config->rate);
}

static void conn_send(struct open_loop *o, struct conn *c)
{
    /* A request is far smaller than a socket buffer, and there is one in flight: it goes whole. */
    ssize_t n = send(c->fd, o->request, o->request_len, MSG_NOSIGNAL);

    if (n != (ssize_t)o->request_len)
        bench_die(n < 0 ? errno : 0, "the path lost a connection or took only part of a request");
    exchange_begin(&c->exchange, o->config);
    c->in_flight = true;
}

static void conn_answered(struct open_loop *o, struct conn *c, uint64_t now)
{
    uint64_t k = c->answered * o->config->connections + (uint64_t)(c - o->conns);
    uint64_t due = due_time(o, k);

    c->answered++;
    c->in_flight = false;
    if (due >= o->measure_from) {
        histogram_record(&o->result->latency, now > due ? now - due : 0);
        o->result->requests++;
    }
    if (c->answered < c->due)
        conn_send(o, c);
}

static void conn_readable(struct open_loop *o, struct conn *c)
{
    static uint8_t buf[65536];
    ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);
    enum exchange_state state;

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        bench_die(n < 0 ? errno : 0, "the path closed a connection");
    state = c->in_flight ? exchange_feed(&c->exchange, buf, (size_t)n) : EXCHANGE_BAD;
    if (state == EXCHANGE_BAD)
        bench_die(0, "the reply is not what was asked for");
    if (state == EXCHANGE_DONE)
        conn_answered(o, c, bench_now());
}

static void loop_send_due(struct open_loop *o, uint64_t now)
{
    for (; due_time(o, o->next) <= now && due_time(o, o->next) < o->stop; o->next++) {
        struct conn *c = &o->conns[o->next % o->config->connections];

        c->due++;
        if (!c->in_flight)
            conn_send(o, c);
    }
}

static void loop_connect(struct open_loop *o, int epoll)
{
    for (unsigned i = 0; i < o->config->connections; i++) {
        struct conn *c = &o->conns[i];
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

        c->fd = bench_socket(0);
        if (connect(c->fd, (const struct sockaddr *)&o->config->to[0], sizeof(o->config->to[0])) !=
            0)
            bench_die(errno, "cannot connect");
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
            bench_die(errno, "epoll_ctl");
    }
}

static void loop_wait(struct open_loop *o, int epoll, uint64_t now)
{
    struct epoll_event events[EVENTS];
    uint64_t until = due_time(o, o->next);
    uint64_t wait = until > now ? until - now : 0;
    struct timespec timeout;
    int n;

    if (until >= o->stop)
        wait = 1000000;
    timeout = (struct timespec){ .tv_sec = (time_t)(wait / 1000000000u),
                                 .tv_nsec = (long)(wait % 1000000000u) };
    n = epoll_pwait2(epoll, events, EVENTS, &timeout, NULL);
    if (n < 0 && errno != EINTR)
        bench_die(errno, "epoll_pwait2");
    for (int i = 0; i < n; i++)
        conn_readable(o, events[i].data.ptr);
}

/* What never came back waited at least until now, and counts as that. */
static void loop_charge_unanswered(struct open_loop *o, uint64_t now)
{
    for (unsigned i = 0; i < o->config->connections; i++) {
        for (uint64_t j = o->conns[i].answered; j < o->conns[i].due; j++) {
            uint64_t due = due_time(o, j * o->config->connections + i);

            if (due >= o->measure_from)
                histogram_record(&o->result->latency, now - due);
        }
    }
}

static uint64_t loop_unanswered(const struct open_loop *o)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < o->config->connections; i++)
        sum += o->conns[i].due - o->conns[i].answered;
    return sum;
}

void load_open(const struct load_config *config, struct load_result *result)
{
    struct open_loop o = { .config = config, .result = result };
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    uint64_t now, give_up;

    bench_check(config->rate > 0 && config->connections > 0);
    prctl(PR_SET_TIMERSLACK, 1000);
    o.conns = calloc(config->connections, sizeof(*o.conns));
    bench_check(o.conns != NULL);
    o.request = exchange_request(config, false, &o.request_len);
    loop_connect(&o, epoll);
    o.start = bench_now() + 1000000;
    o.measure_from = o.start + (uint64_t)(config->warm * 1e9);
    o.stop = o.measure_from + (uint64_t)(config->seconds * 1e9);
    give_up = o.stop + 5000000000u; /* an overloaded path may answer that much later */
    for (now = bench_now(); now < o.stop || (loop_unanswered(&o) > 0 && now < give_up);
         now = bench_now()) {
        loop_send_due(&o, now);
        loop_wait(&o, epoll, now);
    }
    result->late = loop_unanswered(&o);
    loop_charge_unanswered(&o, now);
    result->seconds = config->seconds;
    close(epoll);
    free(o.conns);
}
