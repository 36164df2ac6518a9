/*
 * floor_plain: one hop of a bare TCP relay on io_uring, in the plainest way there is. Two of them
 * in a row are a floor like floor_ring, which looks after its memory and its polls; of the two ring
 * floors the better one counts, so that no cleverness of floor_ring's that misfires in some row
 * flatters whoever is held against it.
 *
 *     visitor --> floor_plain --listen A --to B --> floor_plain --listen B --to C --> origin
 *
 * A pair is one accepted socket (side 0) and one dialled socket (side 1). It has two halves, half d
 * moves bytes from side d to side 1 - d through two buffers of its own, in turn:
 *
 *     sent <= received <= sent + 2      receive number n goes to buffer n & 1, and so does send n
 *     receive is armed    iff  not eof, fewer than 2 are not sent, and none is armed
 *     send is in flight   iff  sent != received
 *     shutdown is sent    iff  eof and sent == received
 *
 * Completions only change that state; half_pump() then decides. A pair is freed when nothing is in
 * flight and both halves are shut, or one of its sockets failed. Buffers belong to a pair's slot;
 * of their 4 MiB only pages that were filled once take memory, and the slot that was freed last is
 * used first.
 */
#include "util.h"

#include <errno.h>
#include <liburing.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAIRS = 4096, BUFFERS = 4, NONE = 0xffffffff };

enum op { OP_ACCEPT, OP_CONNECT, OP_RECV, OP_SEND };

struct half {
    uint32_t received; /* how many receives brought bytes */
    uint32_t sent;     /* how many of those are sent */
    uint32_t len[2];
    uint32_t start[2]; /* what a send that ended early has sent of it */
    bool receiving;
    bool sending;
    bool eof;
    bool shut; /* shutdown sent */
};

struct pair {
    int fd[2];
    uint32_t in_flight;
    uint32_t next_free;
    bool connected;
    bool failed;
    struct half half[2];
};

struct floor {
    struct io_uring ring;
    int listener;
    struct sockaddr_in to;
    struct pair *pairs;
    uint32_t pair_free;
    uint8_t *arena;
    uint32_t size;
};

/* Submissions */

/* Buffers are a little more than their size apart, which spreads them over cache sets. */
static uint8_t *half_buffer(const struct floor *f, const struct pair *p, int d, uint32_t number)
{
    size_t index = (size_t)(p - f->pairs) * BUFFERS + (size_t)d * 2 + (number & 1);

    return f->arena + index * (f->size + 256);
}

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

    io_uring_prep_recv(sqe, p->fd[d], half_buffer(f, p, d, h->received), f->size, 0);
    sqe_tag(f, sqe, p, d, OP_RECV);
    h->receiving = true;
}

static void half_send(struct floor *f, struct pair *p, int d)
{
    struct half *h = &p->half[d];
    struct io_uring_sqe *sqe = floor_sqe(f);
    uint32_t i = h->sent & 1;

    io_uring_prep_send(sqe, p->fd[1 - d], half_buffer(f, p, d, h->sent) + h->start[i],
                       h->len[i] - h->start[i], MSG_WAITALL | MSG_NOSIGNAL);
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

static void half_pump(struct floor *f, struct pair *p, int d)
{
    struct half *h = &p->half[d];

    if (d == 1 && !p->connected)
        return;
    if (p->connected && h->sent != h->received && !h->sending)
        half_send(f, p, d);
    if (!h->eof && !h->receiving && h->received - h->sent < 2)
        half_recv(f, p, d);
    if (p->connected && h->eof && h->sent == h->received && !h->shut)
        half_shutdown(p, d);
}

/* Pairs */

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
    *p = (struct pair){ .fd = { visitor, bench_socket(0) } };
    sqe = floor_sqe(f);
    io_uring_prep_connect(sqe, p->fd[1], (struct sockaddr *)&f->to, sizeof(f->to));
    sqe_tag(f, sqe, p, 1, OP_CONNECT);
    half_pump(f, p, 0);
}

static void pair_free(struct floor *f, struct pair *p)
{
    close(p->fd[0]);
    close(p->fd[1]);
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
    if (!p->failed) {
        half_pump(f, p, 0);
        half_pump(f, p, 1);
    }
    if ((p->failed || (p->half[0].shut && p->half[1].shut)) && p->in_flight == 0)
        pair_free(f, p);
}

/* Completions */

static void recv_done(struct pair *p, int d, int res)
{
    struct half *h = &p->half[d];

    h->receiving = false;
    if (res > 0) {
        h->len[h->received & 1] = (uint32_t)res;
        h->start[h->received & 1] = 0;
        h->received++;
    } else if (res == 0) {
        h->eof = true;
    } else {
        pair_fail(p);
    }
}

static void send_done(struct pair *p, int d, int res)
{
    struct half *h = &p->half[d];
    uint32_t i = h->sent & 1;

    h->sending = false;
    if (res < 0) {
        pair_fail(p);
        return;
    }
    h->start[i] += (uint32_t)res;
    bench_check(h->start[i] <= h->len[i]);
    if (h->start[i] == h->len[i])
        h->sent++;
}

static void accept_arm(struct floor *f)
{
    struct io_uring_sqe *sqe = floor_sqe(f);

    io_uring_prep_multishot_accept(sqe, f->listener, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = OP_ACCEPT;
}

static void accept_done(struct floor *f, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0)
        pair_open(f, cqe->res);
    if ((cqe->flags & IORING_CQE_F_MORE) == 0)
        accept_arm(f);
}

static void floor_complete(struct floor *f, const struct io_uring_cqe *cqe)
{
    enum op op = (enum op)(cqe->user_data & 15);
    int d = (int)(cqe->user_data >> 4 & 1);
    struct pair *p = &f->pairs[cqe->user_data >> 8];

    if (op == OP_ACCEPT) {
        accept_done(f, cqe);
        return;
    }
    p->in_flight--;
    if (op == OP_RECV)
        recv_done(p, d, cqe->res);
    else if (op == OP_SEND)
        send_done(p, d, cqe->res);
    else if (cqe->res < 0)
        pair_fail(p);
    else
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
    f->pairs = map_or_die(PAIRS * sizeof(*f->pairs));
    f->arena = map_or_die((size_t)PAIRS * BUFFERS * (f->size + 256));
    f->pair_free = NONE;
    for (uint32_t slot = PAIRS; slot-- > 0;) {
        f->pairs[slot].next_free = f->pair_free;
        f->pair_free = slot;
    }
}

int main(int argc, char **argv)
{
    static struct floor f;
    struct sockaddr_in addr;
    const char *listen_at = NULL, *to = NULL;
    uint64_t buffer = 1 << 20;
    const struct bench_option table[] = {
        { .name = "listen", .text = &listen_at, .help = "HOST:PORT to accept visitors on" },
        { .name = "to", .text = &to, .help = "HOST:PORT to relay them to" },
        { .name = "buffer", .number = &buffer, .help = "bytes of one buffer (1m)" },
        { .name = NULL },
    };

    bench_options(argc, argv, 1, table);
    if (listen_at == NULL || to == NULL)
        bench_die(0, "--listen HOST:PORT and --to HOST:PORT are needed");
    signal(SIGPIPE, SIG_IGN);
    bench_raise_files();
    f.to = bench_addr(to);
    f.size = (uint32_t)buffer;
    addr = bench_addr(listen_at);
    f.listener = bench_listen(&addr, 0);
    pairs_init(&f);
    ring_init(&f);
    floor_run(&f);
}
