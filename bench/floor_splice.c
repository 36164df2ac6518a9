/*
 * floor_splice: one hop of a bare TCP relay on epoll and splice(2). Two of them in a row are the
 * second floor a tunnel is held against: payload never enters user space, it moves as page
 * references through a pipe of up to 1 MiB.
 *
 *     visitor --> floor_splice --listen A --to B --> floor_splice --listen B --to C --> origin
 *
 * A pair is one accepted socket (side 0) and one dialled socket (side 1); half d moves bytes from
 * side d to side 1 - d. Sockets are watched edge-triggered and once for both directions: an event
 * only sets `readable` or `writable` of a side, half_pump() then moves until one of them turns out
 * false.
 *
 *     a half holds a pipe  iff  bytes are inside it (an idle half holds none; there is a pool)
 *     a pair is on the ready list  iff  it used up its turn with both ends still willing
 *
 * The turn (TURN_ROUNDS pipefuls) keeps one bulk pair from starving the rest, as the edge would not
 * come back by itself.
 *
 * Rejected: a pipe per half from the start (three system calls for each new visitor);
 * level-triggered epoll (every event then needs a change of interest); splice through io_uring
 * (always handed to a helper thread).
 */
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, TURN_ROUNDS = 16, POOL_MAX = 1024 };

struct pipe_ends {
    int out; /* read end */
    int in;  /* write end */
};

struct half {
    struct pipe_ends pipe;
    size_t inside; /* bytes in the pipe */
    bool has_pipe;
    bool eof;
    bool shut;
};

struct side {
    int fd;
    int index; /* 0 or 1: which side of the pair this is */
    bool readable;
    bool writable;
    struct pair *pair;
};

struct pair {
    struct side side[2];
    struct half half[2];
    struct pair *next; /* ready list or dead list */
    bool on_ready;
    bool dead;
};

struct floor {
    int epoll;
    int listener;
    struct sockaddr_in to;
    size_t pipe_size;
    struct pair *ready;
    struct pair *dead; /* freed after the batch of events, which may name them again */
    struct pipe_ends pool[POOL_MAX];
    unsigned pooled;
};

/* Pipes */

static bool pipe_take(struct floor *f, struct half *h)
{
    int fds[2];

    if (f->pooled > 0) {
        h->pipe = f->pool[--f->pooled];
    } else {
        if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
            return false;
        /* Refused to ordinary users beyond pipe-user-pages-soft: the pipe then stays at 64 KiB. */
        (void)fcntl(fds[1], F_SETPIPE_SZ, (int)f->pipe_size);
        h->pipe = (struct pipe_ends){ .out = fds[0], .in = fds[1] };
    }
    h->has_pipe = true;
    return true;
}

static void pipe_close(struct pipe_ends pipe)
{
    close(pipe.in);
    close(pipe.out);
}

/* Only an empty pipe goes back to the pool. */
static void pipe_give(struct floor *f, struct half *h)
{
    if (h->inside == 0 && f->pooled < POOL_MAX)
        f->pool[f->pooled++] = h->pipe;
    else
        pipe_close(h->pipe);
    h->has_pipe = false;
}

/* Pairs */

static void pair_kill(struct floor *f, struct pair *p)
{
    if (p->dead)
        return;
    p->dead = true;
    for (int d = 0; d < 2; d++) {
        close(p->side[d].fd);
        if (p->half[d].has_pipe)
            pipe_give(f, &p->half[d]);
    }
    if (!p->on_ready) {
        p->next = f->dead;
        f->dead = p;
    }
}

static void pairs_reap(struct floor *f)
{
    while (f->dead != NULL) {
        struct pair *p = f->dead;

        f->dead = p->next;
        free(p);
    }
}

static void side_init(struct floor *f, struct pair *p, int index, int fd)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };

    p->side[index] = (struct side){ .fd = fd, .index = index, .pair = p };
    event.data.ptr = &p->side[index];
    if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        bench_die(errno, "epoll_ctl");
}

static void pair_open(struct floor *f, int visitor)
{
    struct pair *p = calloc(1, sizeof(*p));
    int origin;

    bench_check(p != NULL);
    origin = bench_socket(SOCK_NONBLOCK);
    if (connect(origin, (struct sockaddr *)&f->to, sizeof(f->to)) != 0 && errno != EINPROGRESS) {
        close(origin);
        close(visitor);
        free(p);
        return;
    }
    side_init(f, p, 0, visitor);
    side_init(f, p, 1, origin);
}

/* Moving */

enum moved { MOVED, MOVED_NOTHING, MOVED_ERROR };

/* Socket to pipe. */
static enum moved half_fill(struct floor *f, struct pair *p, int d)
{
    struct half *h = &p->half[d];
    ssize_t n;

    if (h->eof || !p->side[d].readable)
        return MOVED_NOTHING;
    if (!h->has_pipe && !pipe_take(f, h))
        return MOVED_ERROR;
    n = splice(p->side[d].fd, NULL, h->pipe.in, NULL, f->pipe_size,
               SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n > 0) {
        h->inside += (size_t)n;
        return MOVED;
    }
    if (n == 0) {
        h->eof = true;
        return MOVED_NOTHING;
    }
    if (errno != EAGAIN)
        return MOVED_ERROR;
    /* EAGAIN with bytes inside may be a full pipe: the socket then still has some. */
    if (h->inside == 0)
        p->side[d].readable = false;
    return MOVED_NOTHING;
}

/* Pipe to socket. */
static enum moved half_drain(struct floor *f, struct pair *p, int d)
{
    struct half *h = &p->half[d];
    struct side *to = &p->side[1 - d];
    ssize_t n;

    if (h->inside == 0 || !to->writable)
        return MOVED_NOTHING;
    n = splice(h->pipe.out, NULL, to->fd, NULL, h->inside, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n < 0 && errno != EAGAIN)
        return MOVED_ERROR;
    if (n <= 0) {
        to->writable = false;
        return MOVED_NOTHING;
    }
    h->inside -= (size_t)n;
    if (h->inside == 0)
        pipe_give(f, h);
    return MOVED;
}

static bool half_finish(struct floor *f, struct pair *p, int d)
{
    struct half *h = &p->half[d];

    if (h->has_pipe && h->inside == 0)
        pipe_give(f, h);
    if (h->eof && h->inside == 0 && !h->shut && p->side[1 - d].writable) {
        shutdown(p->side[1 - d].fd, SHUT_WR);
        h->shut = true;
    }
    return h->shut;
}

/* Returns MOVED when the turn was used up and there may be more. */
static enum moved half_pump(struct floor *f, struct pair *p, int d)
{
    for (int round = 0; round < TURN_ROUNDS; round++) {
        enum moved filled = half_fill(f, p, d);
        enum moved drained = half_drain(f, p, d);

        if (filled == MOVED_ERROR || drained == MOVED_ERROR)
            return MOVED_ERROR;
        if (filled == MOVED_NOTHING && drained == MOVED_NOTHING)
            return MOVED_NOTHING;
    }
    return MOVED;
}

static void pair_pump(struct floor *f, struct pair *p)
{
    enum moved a, b;
    bool done;

    if (p->dead)
        return;
    a = half_pump(f, p, 0);
    b = half_pump(f, p, 1);
    done = half_finish(f, p, 0);
    done = half_finish(f, p, 1) && done;
    if (done || a == MOVED_ERROR || b == MOVED_ERROR) {
        pair_kill(f, p);
    } else if ((a == MOVED || b == MOVED) && !p->on_ready) {
        p->on_ready = true;
        p->next = f->ready;
        f->ready = p;
    }
}

static void ready_pump(struct floor *f)
{
    struct pair *list = f->ready;

    f->ready = NULL;
    while (list != NULL) {
        struct pair *p = list;

        list = p->next;
        p->on_ready = false;
        if (p->dead) {
            p->next = f->dead;
            f->dead = p;
        } else {
            pair_pump(f, p);
        }
    }
}

/* Events */

static void listener_ready(struct floor *f)
{
    int fd;

    while ((fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        pair_open(f, fd);
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        bench_die(errno, "accept");
}

static void side_ready(struct floor *f, struct side *side, uint32_t events)
{
    if (side->pair->dead)
        return;
    if ((events & EPOLLERR) != 0) {
        pair_kill(f, side->pair);
        return;
    }
    side->readable |= (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) != 0;
    side->writable |= (events & EPOLLOUT) != 0;
    pair_pump(f, side->pair);
}

static void floor_run(struct floor *f)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        int n = epoll_wait(f->epoll, events, EVENTS, f->ready != NULL ? 0 : -1);

        if (n < 0 && errno != EINTR)
            bench_die(errno, "epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                listener_ready(f);
            else
                side_ready(f, events[i].data.ptr, events[i].events);
        }
        ready_pump(f);
        pairs_reap(f);
    }
}

int main(int argc, char **argv)
{
    static struct floor f;
    const char *listen_at = NULL, *to = NULL;
    struct sockaddr_in addr;
    uint64_t pipe_size = 1 << 20;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
    const struct bench_option table[] = {
        { .name = "listen", .text = &listen_at, .help = "HOST:PORT to accept visitors on" },
        { .name = "to", .text = &to, .help = "HOST:PORT to relay them to" },
        { .name = "pipe", .number = &pipe_size, .help = "bytes of one pipe (1m)" },
        { .name = NULL },
    };

    bench_options(argc, argv, 1, table);
    if (listen_at == NULL || to == NULL)
        bench_die(0, "--listen HOST:PORT and --to HOST:PORT are needed");
    signal(SIGPIPE, SIG_IGN);
    bench_raise_files();
    f.pipe_size = pipe_size;
    f.to = bench_addr(to);
    addr = bench_addr(listen_at);
    f.listener = bench_listen(&addr, SOCK_NONBLOCK);
    f.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (f.epoll < 0 || epoll_ctl(f.epoll, EPOLL_CTL_ADD, f.listener, &event) != 0)
        bench_die(errno, "epoll");
    floor_run(&f);
}
