/*
 * bare: the simulated world alone, under an echo server that uses every call of core/io/ring.h.
 *
 * It is the fake's own test: what the server gets right here, with operations late, short,
 * cancelled and failing, is what real code may rely on; and what the fake would get wrong shows as
 * a byte lost or an end that never comes.
 *
 * Each connection of the server has one buffer and goes round: receive, send the same bytes back,
 * again. At the end of input it says FIN; at an error it resets.
 */
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/io/op.h"
#include "core/io/ring.h"
#include "core/io/sock.h"
#include "sim/endpoint.h"
#include "sim/sim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#define PORT        9000
#define CONNS       64u
#define BUFFERS     16u
#define BUFFER_SIZE 8192u
#define HEADROOM    64u

struct echo {
    int fd; /* -1: free */
    unsigned in_flight, notifs;
    bool receiving, failed, ended, uncopied;
    bool starved;      /* the ring had no buffer: the next read brings its own */
    uint32_t provided; /* buffer id + 1 */
    uint8_t own[BUFFER_SIZE];
    uint8_t *data;
    size_t size, sent;
    struct msghdr msg;
    struct iovec iov[2];
};

static struct {
    struct ring *ring;
    int listener;
    bool accepting, stopping;
    struct echo echoes[CONNS];
    uint8_t (*buffers)[BUFFER_SIZE];
    bool registered;
    unsigned open;
} bare;

static struct fake_random *chance(void)
{
    return fake_random();
}

enum { BARE_RECV = 1, BARE_SEND, BARE_ACCEPT };

static uint64_t op_of(unsigned kind, const struct echo *e)
{
    return op_pack(kind, (uint32_t)(e - bare.echoes), 1, 0);
}

static void give(uint32_t id)
{
    ring_buffer_give(bare.ring, bare.buffers[id] + HEADROOM, BUFFER_SIZE - HEADROOM, id);
}

static void echo_recv(struct echo *e)
{
    unsigned flags = fake_random_chance(chance(), 300) ? RING_POLL_FIRST : 0;

    flags |= fake_random_chance(chance(), 50) ? RING_DONTWAIT : 0;
    e->in_flight++;
    e->receiving = true;
    if (fake_random_chance(chance(), 500) && !e->starved)
        ring_recv_provided(bare.ring, op_of(BARE_RECV, e), e->fd, flags);
    else
        ring_recv(bare.ring, op_of(BARE_RECV, e), e->fd, e->own, sizeof(e->own), flags);
    if (fake_random_chance(chance(), 50))
        ring_cancel(bare.ring, op_of(BARE_RECV, e));
}

static void echo_sendmsg(struct echo *e, unsigned flags)
{
    size_t left = e->size - e->sent, half = left / 2;

    e->iov[0] = (struct iovec){ e->data + e->sent, left - half };
    e->iov[1] = (struct iovec){ e->data + e->sent + left - half, half };
    e->msg = (struct msghdr){ .msg_iov = e->iov, .msg_iovlen = half > 0 ? 2 : 1 };
    ring_sendmsg(bare.ring, op_of(BARE_SEND, e), e->fd, &e->msg, flags);
}

static void echo_send(struct echo *e)
{
    unsigned flags = fake_random_chance(chance(), 500) ? RING_WAITALL : 0;
    size_t left = e->size - e->sent;

    e->in_flight++;
    if (ring_features()->send_zc && fake_random_chance(chance(), 400))
        flags |= RING_ZC;
    if (fake_random_chance(chance(), 300))
        echo_sendmsg(e, flags);
    else if (e->provided != 0 && bare.registered && (flags & RING_ZC) != 0)
        ring_send_fixed(bare.ring, op_of(BARE_SEND, e), e->fd, e->data + e->sent, left,
                        e->provided - 1, flags);
    else
        ring_send(bare.ring, op_of(BARE_SEND, e), e->fd, e->data + e->sent, left, flags);
    if (fake_random_chance(chance(), 20))
        ring_cancel(bare.ring, op_of(BARE_SEND, e));
}

static void echo_close(struct echo *e)
{
    if (e->failed)
        sock_set_rst(e->fd);
    if (fake_random_chance(chance(), 500))
        ring_close_fd(bare.ring, e->fd);
    else
        sock_close(e->fd);
    e->fd = -1;
    bare.open--;
}

/* The pump: what next, from the state alone. */
static void echo_next(struct echo *e)
{
    if (e->in_flight > 0 || e->notifs > 0)
        return;
    if (e->failed || e->ended) {
        if (e->provided != 0)
            give(e->provided - 1);
        e->provided = 0;
        if (e->ended && !e->failed && sock_shutdown_write(e->fd) != 0)
            e->failed = true;
        echo_close(e);
    } else if (e->sent < e->size) {
        echo_send(e);
    } else {
        if (e->provided != 0)
            give(e->provided - 1);
        e->provided = 0;
        echo_recv(e);
    }
}

static bool transient(int32_t res)
{
    return res == -ENOBUFS || res == -EAGAIN || res == -EINTR || res == -ENOMEM ||
           res == -ECANCELED;
}

static void on_recv(struct echo *e, const struct ring_cqe *cqe)
{
    CHECK(e->receiving && (cqe->flags & RING_CQE_MORE) == 0);
    e->in_flight--;
    e->receiving = false;
    e->starved = cqe->res == -ENOBUFS || (e->starved && cqe->res < 0);
    e->size = e->sent = 0;
    if (cqe->res > 0) {
        bool provided = (cqe->flags & RING_CQE_BUFFER) != 0;
        e->provided = provided ? cqe->buffer + 1 : 0;
        e->data = provided ? bare.buffers[cqe->buffer] + HEADROOM : e->own;
        e->size = (size_t)cqe->res;
    } else {
        CHECK((cqe->flags & RING_CQE_BUFFER) == 0);
        e->ended = cqe->res == 0;
        e->failed = cqe->res < 0 && !transient(cqe->res);
    }
}

static void on_send(struct echo *e, const struct ring_cqe *cqe)
{
    if ((cqe->flags & RING_CQE_NOTIF) != 0) {
        CHECK(e->notifs > 0);
        e->notifs--;
        return;
    }
    e->in_flight--;
    e->notifs += (cqe->flags & RING_CQE_MORE) != 0;
    if (cqe->res > 0)
        e->sent += (size_t)cqe->res;
    else
        e->failed = !transient(cqe->res);
    CHECK(e->sent <= e->size);
}

static struct echo *echo_free_slot(void)
{
    for (unsigned i = 0; i < CONNS; i++)
        if (bare.echoes[i].fd < 0 && bare.echoes[i].in_flight == 0 && bare.echoes[i].notifs == 0)
            return &bare.echoes[i];
    return NULL;
}

static void on_accept(const struct ring_cqe *cqe)
{
    bare.accepting = (cqe->flags & RING_CQE_MORE) != 0;
    if (cqe->res < 0)
        return;
    struct echo *e = echo_free_slot();
    CHECK(e != NULL);
    *e = (struct echo){ .fd = cqe->res };
    bare.open++;
    echo_next(e);
}

static void on_completion(const struct ring_cqe *cqe)
{
    struct op op = op_unpack(cqe->user_data);
    struct echo *e = &bare.echoes[op.slot];

    if (op.kind == BARE_ACCEPT) {
        on_accept(cqe);
        return;
    }
    CHECK(op.slot < CONNS && e->fd >= 0);
    if (op.kind == BARE_RECV)
        on_recv(e, cqe);
    else
        on_send(e, cqe);
    echo_next(e);
}

static void turn(void)
{
    struct ring_cqe out[8];
    uint64_t accept = op_pack(BARE_ACCEPT, 0, 0, 0);

    if (!bare.accepting && !bare.stopping) {
        ring_accept(bare.ring, accept, bare.listener, true);
        bare.accepting = true;
    }
    unsigned n = ring_wait(bare.ring, UINT64_MAX, out, ARRAY_SIZE(out));
    for (unsigned i = 0; i < n; i++)
        on_completion(&out[i]);
}

static void on_fault(int fd, int error)
{
    (void)error;
    sim_totals.faults++;
    struct endpoint *e = endpoint_of_connection(fake_connection(fd));
    if (e != NULL && error == ECONNRESET)
        endpoint_blame(e, "connection broken");
}

static void server_open(void)
{
    union sock_addr addr = { 0 };
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(PORT) };
    int error;

    memset(&bare, 0, sizeof(bare));
    for (unsigned i = 0; i < CONNS; i++)
        bare.echoes[i].fd = -1;
    memcpy(&addr, &in, sizeof(in));
    bare.ring = ring_open(64, &error);
    CHECK(ring_start(bare.ring) == 0 && ring_buffers_open(bare.ring, BUFFERS) == 0);
    bare.buffers = calloc(BUFFERS, BUFFER_SIZE);
    CHECK(bare.buffers != NULL);
    bare.registered = ring_register_table(bare.ring, BUFFERS) == 0;
    for (uint32_t i = 0; i < BUFFERS; i++) {
        bare.registered = bare.registered &&
                          ring_register_buffer(bare.ring, i, bare.buffers[i], BUFFER_SIZE) == 0;
        if (i < 3)
            give(i); /* few: -ENOBUFS happens */
    }
    bare.listener = sock_listen(&addr, false, 16);
    CHECK(bare.listener >= 0 && sock_listen(&addr, true, 16) == -EADDRINUSE);
}

static bool is_still(void)
{
    return !bare.accepting && bare.open == 0 && fake_ring_in_flight(bare.ring) == 0;
}

static void server_close(void)
{
    bare.stopping = true;
    for (unsigned i = 0; i < 1000 && !is_still(); i++) {
        if (bare.accepting)
            ring_cancel(bare.ring, op_pack(BARE_ACCEPT, 0, 0, 0)); /* one may be lost */
        turn();
        (void)fake_step();
    }
    CHECK(is_still());
    ring_close_fd(bare.ring, bare.listener);
    turn();
    CHECK(fake_program_sockets() == 0);
    ring_close(bare.ring);
    free(bare.buffers);
}

static void plan_draw(struct endpoint_plan *plan)
{
    struct fake_random *r = chance();

    *plan = (struct endpoint_plan){
        .total = fake_random_chance(r, 100) ? 0 : fake_random_size(r, ENDPOINT_ID_SIZE, 200000),
        .start = fake_random_chance(r, 200) ? fake_random_size(r, 1, NSEC_PER_SEC) : 0,
        .step_max = fake_random_size(r, 64, 65536),
        .think_max = fake_random_size(r, 1, 1000000),
        .pause_at = fake_random_chance(r, 200) ? fake_random_size(r, 1, 100000) : UINT64_MAX,
        .pause = fake_random_size(r, 1, 10 * NSEC_PER_SEC),
        .reset_at = fake_random_chance(r, 100) ? fake_random_size(r, 1, 100000) : UINT64_MAX,
        .fin_delay = fake_random_chance(r, 200) ? fake_random_size(r, 1, NSEC_PER_SEC) : 0,
        .never_reads = fake_random_chance(r, 50),
        .patience = fake_random_size(r, 1, 10 * NSEC_PER_SEC),
    };
}

static void check_ends(void)
{
    for (unsigned i = 0; i < endpoint_count(); i++) {
        const struct endpoint *e = endpoint_at(i);

        CHECK(e->end != ENDPOINT_OPEN && e->end != ENDPOINT_REFUSED);
        CHECK(e->end != ENDPOINT_WELL || e->blamed ||
              (e->received == e->plan.total && e->sent == e->plan.total));
        CHECK(e->end != ENDPOINT_DIED || e->blamed);
    }
}

static void options_draw(uint64_t seed)
{
    struct fake_options options;
    struct fake_random r;

    fake_options_random(&options, seed);
    fake_random_seed(&r, seed + 1);
    if (fake_random_chance(&r, 500)) {
        options.fail_memory = options.fail_intr = 5;
        options.fail_reset = fake_random_chance(&r, 500) ? 2 : 0;
        options.accept_error = options.accept_ends = 100;
    }
    fake_open(seed, &options);
}

void sim_bare(uint64_t seed)
{
    options_draw(seed);
    fake_fault_hooks(NULL, on_fault);
    server_open();
    unsigned visitors = (unsigned)fake_random_between(chance(), 1, 12);
    for (unsigned i = 0; i < visitors; i++) {
        struct endpoint_plan plan;
        plan_draw(&plan);
        endpoint_dial(FAKE_HOST, PORT, &plan)->echo = true;
    }
    while (!endpoints_ended() || bare.open > 0) {
        if (fake_ring_ready(bare.ring))
            turn();
        CHECK(fake_step()); /* false: everybody waits for everybody */
        CHECK(fake_now() < 1000 * NSEC_PER_SEC);
        sim_totals.steps++;
    }
    check_ends();
    server_close();
}
