/*
 * floor_ring: one hop of a bare TCP relay on io_uring. Two of them in a row are the floor that a
 * tunnel is held against: no frames, no accounts, no timers, nothing but moving bytes as well as
 * one thread and one ring can.
 *
 *     visitor --> floor_ring --listen A --to B --> floor_ring --listen B --to C --> origin
 *
 * A pair is one accepted socket (side 0) and one dialled socket (side 1). It has two halves, half d
 * moves bytes from side d to side 1 - d. A half owns a short queue of filled buffers (ids into one
 * arena) and at most one receive and one send in flight:
 *
 *     receive is armed    iff  not eof, and a buffer may be filled, and none is armed
 *     send is in flight   iff  the queue is not empty
 *     shutdown is sent    iff  eof and the queue is empty
 *
 * Completions only change that state; half_pump() then decides. A pair is freed when nothing is in
 * flight and both halves are shut, or one of its sockets failed.
 *
 * How a receive gets its buffer is the experiment (--mode); figures are in README.md:
 *     two       two buffers per half, plain recv, send MSG_WAITALL: fills one while the other is
 *               sent; the more pairs there are, the less of a buffer a receive uses (floor_share)
 *     fixed     the same through READ_FIXED on a registered arena
 *     pick      one-shot recv that picks from a ring of provided buffers
 *     batch     one-shot recv that may fill several of them (Linux 6.10), up to --batch bytes
 *     multi     multishot recv from the same ring
 *     bundle    multishot recv that may fill several buffers at a time (Linux 6.10)
 * A receive that follows one that emptied its socket waits for sure, and says so (POLL_FIRST),
 * which saves an attempt that would only return -EAGAIN.
 *
 * Rejected: SEND_ZC (loopback copies anyway and then pays for the notification); a thread per
 * connection; linked recv -> send chains (a short recv would break the chain, and no second buffer
 * could be filled); IORING_OP_SHUTDOWN (always handed to a helper thread, an ordinary shutdown() is
 * not); queues without a limit on provided buffers (a half that cannot send starves all others).
 */
#include "util.h"

#include <errno.h>
#include <liburing.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Newer than liburing 2.3, from linux/io_uring.h. */
#define RECVSEND_BUNDLE (1u << 4) /* Linux 6.10 */

enum { IOV_MAX_SLICES = 16, QUEUE_MAX = 64, SHARE_MIN = 65536, NONE = 0xffffffff };

enum mode { MODE_TWO, MODE_FIXED, MODE_PICK, MODE_BATCH, MODE_MULTI, MODE_BUNDLE };
static const char *const mode_names[] = { "two", "fixed", "pick", "batch", "multi", "bundle" };

enum op { OP_ACCEPT, OP_CONNECT, OP_RECV, OP_SEND };

struct half {
    uint32_t head; /* filled buffers, linked through next[]; NONE when empty */
    uint32_t tail;
    uint32_t queued;  /* how many */
    uint32_t in_send; /* how many of them the send in flight covers */
    uint32_t spare;   /* two, fixed: the buffer that is not queued, when there is one */
    uint32_t filling;
    bool receiving;
    bool sending;
    bool starved; /* on the list of those that wait for a provided buffer */
    bool waits;   /* the last receive emptied the socket */
    bool eof;
    bool shut; /* shutdown sent */
    struct msghdr msg;
    struct iovec iov[IOV_MAX_SLICES];
};

struct pair {
    int fd[2];
    uint32_t in_flight;
    uint32_t next_free;
    bool connected;
    bool failed;
    bool used;
    struct half half[2];
};

struct floor {
    struct io_uring ring;
    enum mode mode;
    bool poll_first;
    int listener;
    struct sockaddr_in to;
    struct pair *pairs;
    uint32_t pair_count;
    uint32_t pair_free;
    uint32_t pairs_open;
    /* the arena: `count` buffers of `size` bytes, `pitch` apart (spreads them over cache sets) */
    uint8_t *arena;
    uint32_t size;
    uint32_t share; /* two: how much of a buffer one receive may use, see floor_share() */
    uint32_t budget;
    uint32_t pitch;
    uint32_t count;
    uint32_t free_head;
    uint32_t *next;
    uint32_t *start;
    uint32_t *len;
    struct io_uring_buf_ring *ring_bufs;
    /* the id at each place of the provided ring; a bundle takes a run of places */
    uint32_t *ring_order;
    uint32_t *ring_place; /* and back */
    uint32_t ring_tail;
    uint32_t batch;    /* batch: most bytes of one receive */
    uint32_t *starved; /* pair << 1 | half, that found no provided buffer; a stack */
    uint32_t starved_count;
};

static uint8_t *buf_at(struct floor *f, uint32_t id)
{
    return f->arena + (size_t)id * f->pitch;
}

static bool mode_provided(const struct floor *f)
{
    return f->mode >= MODE_PICK;
}

/* Buffers */

static uint32_t buf_take(struct floor *f)
{
    uint32_t id = f->free_head;

    bench_check(id != NONE);
    f->free_head = f->next[id];
    return id;
}

static void buf_give(struct floor *f, uint32_t id)
{
    f->next[id] = f->free_head;
    f->free_head = id;
}

static void ring_buf_give(struct floor *f, uint32_t id)
{
    uint32_t place = f->ring_tail++ & (f->count - 1);

    f->ring_order[place] = id;
    f->ring_place[id] = place;
    io_uring_buf_ring_add(f->ring_bufs, buf_at(f, id), f->size, (unsigned short)id,
                          io_uring_buf_ring_mask(f->count), 0);
    io_uring_buf_ring_advance(f->ring_bufs, 1);
}

/* The buffer that a bundle filled after this one. */
static uint32_t ring_buf_after(const struct floor *f, uint32_t id)
{
    return f->ring_order[(f->ring_place[id] + 1) & (f->count - 1)];
}

static void half_push(struct floor *f, struct half *h, uint32_t id, uint32_t len)
{
    f->start[id] = 0;
    f->len[id] = len;
    f->next[id] = NONE;
    if (h->head == NONE)
        h->head = id;
    else
        f->next[h->tail] = id;
    h->tail = id;
    h->queued++;
}

static void half_release(struct floor *f, struct half *h, uint32_t id)
{
    if (mode_provided(f)) {
        ring_buf_give(f, id);
    } else if (h->spare == NONE) {
        h->spare = id;
    } else {
        buf_give(f, id);
    }
}

/* Takes `sent` bytes off the front of the queue. */
static void half_consume(struct floor *f, struct half *h, uint32_t sent)
{
    while (h->head != NONE) {
        uint32_t id = h->head;

        if (sent < f->len[id]) {
            f->start[id] += sent;
            f->len[id] -= sent;
            return;
        }
        sent -= f->len[id];
        h->head = f->next[id];
        h->queued--;
        half_release(f, h, id);
    }
    bench_check(sent == 0);
}

/* Submissions */

static struct io_uring_sqe *floor_sqe(struct floor *f)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&f->ring);

    if (sqe == NULL) {
        io_uring_submit(&f->ring);
        sqe = io_uring_get_sqe(&f->ring);
        bench_check(sqe != NULL);
    }
    return sqe;
}

static void sqe_tag(struct floor *f, struct io_uring_sqe *sqe, struct pair *p, int d, enum op op)
{
    sqe->user_data = (uint64_t)(p - f->pairs) << 8 | (uint64_t)d << 4 | op;
    p->in_flight++;
}

static void half_recv(struct floor *f, struct pair *p, int d)
{
    struct half *h = &p->half[d];
    struct io_uring_sqe *sqe = floor_sqe(f);

    if (f->mode == MODE_FIXED) {
        io_uring_prep_read_fixed(sqe, p->fd[d], buf_at(f, h->spare), f->size, 0, 0);
    } else if (f->mode == MODE_TWO) {
        io_uring_prep_recv(sqe, p->fd[d], buf_at(f, h->spare), f->share, 0);
    } else if (f->mode == MODE_PICK) {
        io_uring_prep_recv(sqe, p->fd[d], NULL, f->size, 0);
    } else if (f->mode == MODE_BATCH) {
        io_uring_prep_recv(sqe, p->fd[d], NULL, f->batch, 0);
    } else {
        io_uring_prep_recv_multishot(sqe, p->fd[d], NULL, 0, 0);
    }
    if (mode_provided(f)) {
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = 0;
    } else {
        h->filling = h->spare;
        h->spare = NONE;
    }
    if (f->mode == MODE_BUNDLE || f->mode == MODE_BATCH)
        sqe->ioprio |= RECVSEND_BUNDLE;
    if (f->poll_first && h->waits && f->mode != MODE_FIXED)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe_tag(f, sqe, p, d, OP_RECV);
    h->receiving = true;
}

static void half_send(struct floor *f, struct pair *p, int d)
{
    struct half *h = &p->half[d];
    struct io_uring_sqe *sqe = floor_sqe(f);
    unsigned n = 1;

    if (h->queued == 1) {
        io_uring_prep_send(sqe, p->fd[1 - d], buf_at(f, h->head) + f->start[h->head],
                           f->len[h->head], MSG_WAITALL | MSG_NOSIGNAL);
    } else {
        n = 0;
        for (uint32_t id = h->head; id != NONE && n < IOV_MAX_SLICES; id = f->next[id], n++) {
            h->iov[n].iov_base = buf_at(f, id) + f->start[id];
            h->iov[n].iov_len = f->len[id];
        }
        h->msg = (struct msghdr){ .msg_iov = h->iov, .msg_iovlen = n };
        io_uring_prep_sendmsg(sqe, p->fd[1 - d], &h->msg, MSG_WAITALL | MSG_NOSIGNAL);
    }
    h->in_send = n;
    sqe_tag(f, sqe, p, d, OP_SEND);
    h->sending = true;
}

/* The ring would hand a shutdown to a helper thread, so it is an ordinary call. The second half of
 * a pair needs none: the close that follows at once sends the same FIN. */
static void half_shutdown(struct pair *p, int d)
{
    if (!p->half[1 - d].shut)
        shutdown(p->fd[1 - d], SHUT_WR);
    p->half[d].shut = true;
}

static bool half_may_recv(struct floor *f, struct half *h)
{
    if (h->receiving || h->eof)
        return false;
    if (!mode_provided(f))
        return h->spare != NONE;
    if (f->mode == MODE_BATCH)
        return !h->starved && h->queued == h->in_send; /* one batch leaves, one may come */
    return !h->starved && h->queued < QUEUE_MAX;
}

static void half_pump(struct floor *f, struct pair *p, int d)
{
    struct half *h = &p->half[d];

    if (d == 1 && !p->connected)
        return;
    if (p->connected && h->head != NONE && !h->sending)
        half_send(f, p, d);
    if (half_may_recv(f, h))
        half_recv(f, p, d);
    if (p->connected && h->eof && h->head == NONE && !h->shut)
        half_shutdown(p, d);
}

/* Pairs */

/* Big receives are cheaper as long as all buffers that bulk touches fit the cache: with many pairs
 * the same megabytes are divided among them. */
static void floor_share(struct floor *f)
{
    uint32_t share = f->budget / (2 * f->pairs_open + 1);

    share = share < SHARE_MIN ? SHARE_MIN : share;
    f->share = share < f->size ? share : f->size;
}

static void pair_open(struct floor *f, int visitor)
{
    uint32_t slot = f->pair_free;
    struct pair *p;
    struct io_uring_sqe *sqe;

    if (slot == NONE) {
        close(visitor);
        return;
    }
    p = &f->pairs[slot];
    f->pair_free = p->next_free;
    f->pairs_open++;
    floor_share(f);
    *p = (struct pair){ .fd = { visitor, bench_socket(0) }, .used = true };
    for (int d = 0; d < 2; d++) {
        struct half *h = &p->half[d];

        h->head = h->spare = h->filling = NONE;
        h->waits = true;
        if (!mode_provided(f))
            h->spare = buf_take(f);
    }
    sqe = floor_sqe(f);
    io_uring_prep_connect(sqe, p->fd[1], (struct sockaddr *)&f->to, sizeof(f->to));
    sqe_tag(f, sqe, p, 1, OP_CONNECT);
    half_pump(f, p, 0);
}

static void half_drop(struct floor *f, struct half *h)
{
    while (h->head != NONE)
        half_consume(f, h, f->len[h->head]);
    if (h->spare != NONE)
        buf_give(f, h->spare);
    if (h->filling != NONE)
        buf_give(f, h->filling);
}

static void pair_free(struct floor *f, struct pair *p)
{
    close(p->fd[0]);
    close(p->fd[1]);
    half_drop(f, &p->half[0]);
    half_drop(f, &p->half[1]);
    p->used = false;
    f->pairs_open--;
    floor_share(f);
    p->next_free = f->pair_free;
    f->pair_free = (uint32_t)(p - f->pairs);
}

/* Wakes everything that is in flight, so that the last completion can free the pair. */
static void pair_fail(struct pair *p)
{
    if (p->failed)
        return;
    p->failed = true;
    shutdown(p->fd[0], SHUT_RDWR);
    shutdown(p->fd[1], SHUT_RDWR);
}

static void pair_pump(struct floor *f, struct pair *p)
{
    bool done = p->half[0].shut && p->half[1].shut;

    if (!p->failed && !done) {
        half_pump(f, p, 0);
        half_pump(f, p, 1);
        done = p->half[0].shut && p->half[1].shut;
    }
    if ((p->failed || done) && p->in_flight == 0)
        pair_free(f, p);
}

/* Completions */

/* The second buffer is taken when the first comes back full of traffic, not when the pair opens. */
static void half_second_buffer(struct floor *f, struct half *h)
{
    if (h->queued == 1 && h->spare == NONE)
        h->spare = buf_take(f);
}

static void half_starve(struct floor *f, struct pair *p, int d)
{
    p->half[d].starved = true;
    f->starved[f->starved_count++] = (uint32_t)(p - f->pairs) << 1 | (uint32_t)d;
}

/* After a batch of completions, some of which gave buffers back. */
static void starved_pump(struct floor *f)
{
    uint32_t count = f->starved_count;

    f->starved_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct pair *p = &f->pairs[f->starved[i] >> 1];
        struct half *h = &p->half[f->starved[i] & 1];

        if (p->used && h->starved) {
            h->starved = false;
            pair_pump(f, p);
        }
    }
}

static void recv_done(struct floor *f, struct pair *p, int d, const struct io_uring_cqe *cqe)
{
    struct half *h = &p->half[d];
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    int res = cqe->res;

    h->receiving = more;
    if (res > 0 && mode_provided(f)) {
        uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

        for (uint32_t left = (uint32_t)res, after; left > 0; id = after) {
            uint32_t len = left < f->size ? left : f->size;

            after = ring_buf_after(f, id);
            half_push(f, h, id, len);
            left -= len;
        }
    } else if (res > 0) {
        half_push(f, h, h->filling, (uint32_t)res);
        h->filling = NONE;
        half_second_buffer(f, h);
    } else if (!mode_provided(f)) {
        half_release(f, h, h->filling);
        h->filling = NONE;
    }
    h->waits = (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) == 0;
    if (res == 0)
        h->eof = true;
    else if (res == -ENOBUFS)
        half_starve(f, p, d);
    else if (res < 0)
        pair_fail(p);
}

static void send_done(struct floor *f, struct pair *p, int d, int res)
{
    struct half *h = &p->half[d];

    h->sending = false;
    h->in_send = 0;
    if (res < 0)
        pair_fail(p);
    else
        half_consume(f, h, (uint32_t)res);
}

static void accept_arm(struct floor *f)
{
    struct io_uring_sqe *sqe = floor_sqe(f);

    io_uring_prep_multishot_accept(sqe, f->listener, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = OP_ACCEPT;
}

static void floor_complete(struct floor *f, const struct io_uring_cqe *cqe)
{
    enum op op = (enum op)(cqe->user_data & 15);
    int d = (int)(cqe->user_data >> 4 & 1);
    struct pair *p = &f->pairs[cqe->user_data >> 8];

    if (op == OP_ACCEPT) {
        if (cqe->res >= 0)
            pair_open(f, cqe->res);
        if ((cqe->flags & IORING_CQE_F_MORE) == 0)
            accept_arm(f);
        return;
    }
    if ((cqe->flags & IORING_CQE_F_MORE) == 0)
        p->in_flight--;
    if (op == OP_RECV)
        recv_done(f, p, d, cqe);
    else if (op == OP_SEND)
        send_done(f, p, d, cqe->res);
    else if (op == OP_CONNECT && cqe->res < 0)
        pair_fail(p);
    else if (op == OP_CONNECT)
        p->connected = true;
    pair_pump(f, p);
}

static void floor_run(struct floor *f)
{
    struct io_uring_cqe *cqe;
    unsigned head;

    accept_arm(f);
    for (;;) {
        unsigned n = 0;
        int err = io_uring_submit_and_wait(&f->ring, 1);

        if (err < 0 && err != -EINTR)
            bench_die(-err, "io_uring_enter");
        io_uring_for_each_cqe(&f->ring, head, cqe)
        {
            floor_complete(f, cqe);
            n++;
        }
        io_uring_cq_advance(&f->ring, n);
        starved_pump(f);
    }
}

/* Start */

static void *map_or_die(size_t bytes)
{
    void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (mem == MAP_FAILED)
        bench_die(errno, "no memory for %zu bytes", bytes);
    return mem;
}

static void arena_init(struct floor *f)
{
    f->pitch = f->size + 256;
    f->arena = map_or_die((size_t)f->count * f->pitch);
    f->next = map_or_die(f->count * sizeof(*f->next));
    f->start = map_or_die(f->count * sizeof(*f->start));
    f->len = map_or_die(f->count * sizeof(*f->len));
    f->free_head = NONE;
    for (uint32_t id = f->count; !mode_provided(f) && id-- > 0;)
        buf_give(f, id);
}

static void arena_register(struct floor *f)
{
    struct iovec all = { f->arena, (size_t)f->count * f->pitch };
    int err;

    if (f->mode != MODE_FIXED)
        return;
    err = io_uring_register_buffers(&f->ring, &all, 1);
    if (err < 0)
        bench_die(-err, "cannot register %zu bytes of buffers", all.iov_len);
}

static void ring_bufs_init(struct floor *f)
{
    struct io_uring_buf_reg reg = { .ring_entries = f->count, .bgid = 0 };
    int err;

    f->ring_order = map_or_die(f->count * sizeof(*f->ring_order));
    f->ring_place = map_or_die(f->count * sizeof(*f->ring_place));
    f->ring_bufs = map_or_die(f->count * sizeof(struct io_uring_buf));
    reg.ring_addr = (uint64_t)(uintptr_t)f->ring_bufs;
    err = io_uring_register_buf_ring(&f->ring, &reg, 0);
    if (err < 0)
        bench_die(-err, "cannot register a ring of %u buffers", f->count);
    io_uring_buf_ring_init(f->ring_bufs);
    for (uint32_t id = 0; id < f->count; id++)
        ring_buf_give(f, id);
}

static void ring_init(struct floor *f)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                 IORING_SETUP_SUBMIT_ALL,
        .cq_entries = 16384,
    };
    int err = io_uring_queue_init_params(2048, &f->ring, &params);

    if (err < 0)
        bench_die(-err, "no io_uring (Linux 6.1 is needed, and kernel.io_uring_disabled=0)");
    io_uring_register_ring_fd(&f->ring);
}

static void pairs_init(struct floor *f)
{
    f->pairs = map_or_die(f->pair_count * sizeof(*f->pairs));
    f->pair_free = NONE;
    for (uint32_t slot = f->pair_count; slot-- > 0;) {
        f->pairs[slot].next_free = f->pair_free;
        f->pair_free = slot;
    }
    f->starved = map_or_die(f->pair_count * 2 * sizeof(*f->starved));
}

static enum mode mode_of(const char *name)
{
    for (unsigned i = 0; i < sizeof(mode_names) / sizeof(*mode_names); i++)
        if (strcmp(name, mode_names[i]) == 0)
            return (enum mode)i;
    bench_die(0, "--mode is two, fixed, pick, batch, multi or bundle, not '%s'", name);
}

int main(int argc, char **argv)
{
    static struct floor f;
    struct sockaddr_in addr;
    const char *listen_at = NULL, *to = NULL, *mode = "two";
    uint64_t buffer = 512 << 10, budget = 16 << 20, pairs = 4096, pool = 1024, batch = 512 << 10;
    bool no_poll_first = false;
    const struct bench_option table[] = {
        { .name = "listen", .text = &listen_at, .help = "HOST:PORT to accept visitors on" },
        { .name = "to", .text = &to, .help = "HOST:PORT to relay them to" },
        { .name = "buffer", .number = &buffer, .help = "bytes of one buffer (512k)" },
        { .name = "budget", .number = &budget, .help = "two: all pairs' receives together (16m)" },
        { .name = "mode", .text = &mode, .help = "two, fixed, pick, batch, multi, bundle (two)" },
        { .name = "batch", .number = &batch, .help = "batch: most bytes of one receive (512k)" },
        { .name = "pairs", .number = &pairs, .help = "most visitors at once (4096)" },
        { .name = "pool", .number = &pool, .help = "provided buffers, a power of two (1024)" },
        { .name = "no-poll-first", .flag = &no_poll_first, .help = "always try a receive at once" },
        { .name = NULL },
    };

    bench_options(argc, argv, 1, table);
    if (listen_at == NULL || to == NULL)
        bench_die(0, "--listen HOST:PORT and --to HOST:PORT are needed");
    signal(SIGPIPE, SIG_IGN);
    bench_raise_files();
    f.mode = mode_of(mode);
    f.poll_first = !no_poll_first;
    f.to = bench_addr(to);
    f.size = (uint32_t)buffer;
    f.batch = (uint32_t)batch;
    f.budget = (uint32_t)budget;
    f.pair_count = (uint32_t)pairs;
    f.count = (uint32_t)(mode_provided(&f) ? pool : pairs * 4);
    addr = bench_addr(listen_at);
    f.listener = bench_listen(&addr, 0);
    pairs_init(&f);
    arena_init(&f);
    ring_init(&f);
    arena_register(&f);
    if (mode_provided(&f))
        ring_bufs_init(&f);
    floor_run(&f);
}
