/*
 * origin: the service behind the tunnel for everything that iperf3 and nginx do not cover. One
 * thread, epoll, level-triggered. The first byte a visitor sends chooses what its connection is:
 *
 *     e   echo: everything comes back, this byte included
 *     b   bulk: bytes without end, until the visitor goes
 *     s   sink: everything is read and dropped
 *
 * A connection that sends nothing stays open and costs one small allocation, so that a hundred
 * thousand idle ones fit. An echo keeps what the socket did not take and stops reading until it is
 * gone.
 */
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, CHUNK = 256 * 1024, LISTENERS_MAX = 16, TURN_ROUNDS = 8 };

struct visitor {
    int fd;
    char kind; /* 0 until the first byte */
    uint32_t watched;
    uint8_t *pending; /* echo: what is still to be sent, NULL when nothing */
    size_t pending_len;
};

static int origin_epoll;
static uint8_t chunk[CHUNK];
static const uint8_t bulk[CHUNK];

static void visitor_watch(struct visitor *v, uint32_t wanted)
{
    struct epoll_event event = { .events = wanted, .data.ptr = v };

    if (v->watched == wanted)
        return;
    v->watched = wanted;
    if (epoll_ctl(origin_epoll, EPOLL_CTL_MOD, v->fd, &event) != 0)
        bench_die(errno, "epoll_ctl");
}

static void visitor_close(struct visitor *v)
{
    close(v->fd);
    free(v->pending);
    free(v);
}

/* Sends what it can and keeps the rest. Returns false when the visitor is gone. */
static bool echo_send(struct visitor *v, const uint8_t *data, size_t len)
{
    ssize_t n = send(v->fd, data, len, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN)
        return false;
    n = n < 0 ? 0 : n;
    if ((size_t)n == len)
        return true;
    v->pending = malloc(len - (size_t)n);
    bench_check(v->pending != NULL);
    v->pending_len = len - (size_t)n;
    memcpy(v->pending, data + n, v->pending_len);
    visitor_watch(v, EPOLLOUT);
    return true;
}

static bool echo_resume(struct visitor *v)
{
    uint8_t *data = v->pending;
    size_t len = v->pending_len;
    bool alive;

    v->pending = NULL;
    visitor_watch(v, EPOLLIN);
    alive = echo_send(v, data, len);
    free(data);
    return alive;
}

static bool bulk_send(struct visitor *v)
{
    for (int round = 0; round < TURN_ROUNDS; round++) {
        ssize_t n = send(v->fd, bulk, sizeof(bulk), MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN;
    }
    return true;
}

static bool visitor_read(struct visitor *v)
{
    ssize_t n = recv(v->fd, chunk, sizeof(chunk), 0);

    if (n < 0)
        return errno == EAGAIN;
    if (n == 0)
        return false;
    if (v->kind == 0)
        v->kind = (char)chunk[0];
    if (v->kind == 'e')
        return echo_send(v, chunk, (size_t)n);
    if (v->kind == 'b')
        visitor_watch(v, EPOLLIN | EPOLLOUT);
    return v->kind == 'b' || v->kind == 's';
}

static void visitor_ready(struct visitor *v, uint32_t events)
{
    bool alive = (events & EPOLLERR) == 0;

    if (alive && (events & EPOLLOUT) != 0)
        alive = v->kind == 'b' ? bulk_send(v) : echo_resume(v);
    if (alive && (events & (EPOLLIN | EPOLLHUP)) != 0 && v->pending == NULL)
        alive = visitor_read(v);
    if (!alive)
        visitor_close(v);
}

static void visitors_accept(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct visitor *v = calloc(1, sizeof(*v));
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = v };

        bench_check(v != NULL);
        v->fd = fd;
        v->watched = EPOLLIN;
        if (epoll_ctl(origin_epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            bench_die(errno, "epoll_ctl");
    }
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        bench_die(errno, "accept");
}

static int listeners[LISTENERS_MAX];

static void listener_add(int place, struct sockaddr_in addr)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = &listeners[place] };

    addr.sin_port = htons((uint16_t)(ntohs(addr.sin_port) + place));
    listeners[place] = bench_listen(&addr, SOCK_NONBLOCK);
    if (epoll_ctl(origin_epoll, EPOLL_CTL_ADD, listeners[place], &event) != 0)
        bench_die(errno, "epoll_ctl");
}

static bool is_listener(const void *ptr)
{
    return (const int *)ptr >= listeners && (const int *)ptr < listeners + LISTENERS_MAX;
}

int main(int argc, char **argv)
{
    const char *listen_at = NULL;
    uint64_t ports = 1;
    struct epoll_event events[EVENTS];
    const struct bench_option table[] = {
        { .name = "listen", .text = &listen_at, .help = "HOST:PORT" },
        { .name = "ports", .number = &ports, .help = "listen on so many ports from there on (1)" },
        { .name = NULL },
    };

    bench_options(argc, argv, 1, table);
    if (listen_at == NULL || ports == 0 || ports > LISTENERS_MAX)
        bench_die(0, "--listen HOST:PORT is needed, and 1 to %d --ports", LISTENERS_MAX);
    signal(SIGPIPE, SIG_IGN);
    bench_raise_files();
    origin_epoll = epoll_create1(EPOLL_CLOEXEC);
    for (uint64_t i = 0; i < ports; i++)
        listener_add((int)i, bench_addr(listen_at));
    for (;;) {
        int n = epoll_wait(origin_epoll, events, EVENTS, -1);

        if (n < 0 && errno != EINTR)
            bench_die(errno, "epoll_wait");
        for (int i = 0; i < n; i++) {
            if (is_listener(events[i].data.ptr))
                visitors_accept(*(int *)events[i].data.ptr);
            else
                visitor_ready(events[i].data.ptr, events[i].events);
        }
    }
}
