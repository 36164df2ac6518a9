/*
 * ring_fake: core/io/ring.h over the simulated network.
 *
 * An operation is prepared; the next ring_wait submits it, in order; it then waits in its socket's
 * list until it can make progress, is executed then or a little later, and its completion is
 * queued. Queued completions are handed out in order; among operations the order follows from the
 * random delays. What the program must leave alone is fixed at preparation, because a full
 * submission queue may hand an operation to the kernel at that moment.
 *
 * A socket's counters (recvs, sends, others) go up at preparation and down when the program is
 * handed the last completion: a program that closes in between acts on knowledge it cannot have.
 *
 * Kept from the kernel, because programs stumble over it:
 *   - a send with RING_WAITALL that moved some bytes and then fails or is cancelled gives the count
 *     of those bytes; the error of the socket has been told thereby (io_send: "else if
 *     (sr->done_io) ret = sr->done_io");
 *   - such a send to a socket that does not wait (sock_no_wait), if it is a message, is over
 *     after some waits for room, with the count of bytes until then or -EAGAIN
 *     (tests/kernel/test_splice.c);
 *   - a receive with provided buffers gives -ENOBUFS at submission, data or not, unless
 *     RING_POLL_FIRST was given;
 *   - a receive at the end of the stream takes no provided buffer;
 *   - a multishot accept that fails is over (no MORE); the connection it could not take stays
 *     queued;
 *   - a zero-copy notification has the user_data of its send and comes any time after the result,
 *     also a failed one's; several come in any order; the report of a send that moved nothing says
 *     "copied";
 *   - messages from one ring to another keep their order.
 */
#include "fake/ring_fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define RINGS_MAX    16u
#define PROVIDED_IDS 65536u /* ids have 16 bits */
#define SPINS_MAX    3u
#define WAKES_MAX    1000u /* in WAKES_TIME */
#define WAKES_TIME   (10 * NSEC_PER_SEC)

static struct ring *rings[RINGS_MAX];
static struct ring *ring_turns; /* whose worker has its turn: one after the other */
static unsigned ring_number;

/* Features */

const struct ring_features *ring_features(void)
{
    static struct ring_features features;

    features = (struct ring_features){
        .usable = true,
        .defer_taskrun = true,
        .send_zc = !fake_options()->no_send_zc,
        .zc_report = !fake_options()->no_send_zc && !fake_options()->no_zc_report,
    };
    return &features;
}

const char *ring_unusable_text(void)
{
    return "the simulated kernel always has io_uring";
}

const char *ring_error_text(int error)
{
    return strerror(error);
}

uint64_t ring_memory(unsigned entries, unsigned buffers)
{
    (void)entries, (void)buffers;
    return 0; /* nobody has a limit here */
}

unsigned ring_entries(unsigned count, unsigned buffers, unsigned wish, unsigned least)
{
    (void)count, (void)buffers;
    CHECK(least > 0 && wish >= least);
    return wish;
}

void ring_features_print(FILE *out)
{
    fprintf(out, "io_uring: simulated\n");
}

/* Rings */

struct ring *ring_open(unsigned entries, int *error)
{
    struct ring *ring = calloc(1, sizeof(*ring));
    unsigned i = 0;

    CHECK(ring != NULL && entries > 0);
    *error = 0;
    while (rings[i] != NULL)
        i++;
    CHECK(i < RINGS_MAX);
    rings[i] = ring;
    ring->number = ring_number++;
    ring->process = fake_current_process();
    ring->fd = fake_fd_take();
    ring->now = fake_now();
    ring->wake = fake_now();
    list_init(&ring->prepared);
    list_init(&ring->flight);
    list_init(&ring->notifs);
    return ring;
}

void fake_op_free(struct fake_op *op)
{
    for (unsigned i = 0; i < op->range_count; i++)
        fake_release(&op->ranges[i]);
    fake_event_stop(&op->exec);
    list_remove(&op->node);
    list_remove(&op->by_socket);
    free(op->iov);
    free(op->ranges);
    free(op);
}

static void ops_free(struct list *head)
{
    while (!list_empty(head))
        fake_op_free(container_of(head->next, struct fake_op, node));
}

static void ring_free(struct ring *ring)
{
    ops_free(&ring->prepared);
    ops_free(&ring->flight);
    ops_free(&ring->notifs);
    for (size_t i = ring->order_head; i != ring->order_tail; i++)
        fake_release(&ring->provided[ring->order[i % ring->provided_count]].range);
    if (ring_turns == ring)
        ring_turns = NULL;
    free(ring->cq);
    free(ring->provided);
    free(ring->order);
    free(ring->table);
    free(ring);
}

static void check_no_memory_in_flight(const struct list *head)
{
    for (const struct list *node = head->next; node != head; node = node->next)
        CHECK(container_of(node, struct fake_op, node)->range_count == 0);
}

/* Messages on their way to a ring that closes are lost. */
static void drop_messages(struct ring *from, const struct ring *to)
{
    for (struct list *node = from->flight.next, *next; node != &from->flight; node = next) {
        struct fake_op *op = container_of(node, struct fake_op, node);

        next = node->next;
        if (op->target == to)
            fake_op_free(op);
    }
}

/* The kernel would end accepts and connects by itself, and so does this; whoever closes a ring with
 * memory in flight is wrong. */
void ring_close(struct ring *ring)
{
    if (ring == NULL)
        return;
    fake_submit_all(ring);
    check_no_memory_in_flight(&ring->flight);
    check_no_memory_in_flight(&ring->notifs);
    for (unsigned i = 0; i < RINGS_MAX; i++) {
        if (rings[i] == ring)
            rings[i] = NULL;
        else if (rings[i] != NULL)
            drop_messages(rings[i], ring);
    }
    ring_free(ring);
}

static void tell_lost_ops(const struct list *head, void (*lost)(uint64_t user_data))
{
    for (const struct list *node = head->next; node != head; node = node->next) {
        const struct fake_op *op = container_of(node, struct fake_op, node);

        if (op->kind == MESSAGE)
            lost(op->user_data);
    }
}

static void tell_lost(const struct ring *ring, void (*lost)(uint64_t user_data))
{
    tell_lost_ops(&ring->prepared, lost);
    tell_lost_ops(&ring->flight, lost);
    for (size_t i = ring->cq_head; i != ring->cq_tail; i++)
        lost(ring->cq[i % ring->cq_room].cqe.user_data);
}

void fake_rings_kill(unsigned process, void (*lost)(uint64_t user_data))
{
    for (unsigned i = 0; i < RINGS_MAX; i++) {
        if (rings[i] == NULL || rings[i]->process != process)
            continue;
        tell_lost(rings[i], lost);
        ring_free(rings[i]);
        rings[i] = NULL;
    }
}

void fake_rings_reset(void)
{
    for (unsigned i = 0; i < RINGS_MAX; i++) {
        if (rings[i] != NULL)
            ring_free(rings[i]);
        rings[i] = NULL;
    }
    ring_number = 0;
    fake_zc_reset();
}

int ring_start(struct ring *ring)
{
    CHECK(!ring->started);
    ring->started = true;
    return 0;
}

int ring_fd(const struct ring *ring)
{
    return ring->fd;
}

uint64_t ring_now(const struct ring *ring)
{
    return ring->now;
}

bool ring_has_more(const struct ring *ring)
{
    return ring->cq_head != ring->cq_tail;
}

const struct ring_stats *ring_stats(const struct ring *ring)
{
    return &ring->stats;
}

void fake_ring_stall(struct ring *ring, uint64_t until)
{
    ring->stalled_until = until;
}

bool fake_ring_ready(const struct ring *ring)
{
    if (fake_now() < ring->stalled_until)
        return false;
    return !ring->idle || ring->cq_head != ring->cq_tail || !list_empty(&ring->prepared) ||
           ring->wake <= fake_now();
}

bool fake_rings_idle(uint64_t *wake)
{
    for (unsigned i = 0; i < RINGS_MAX; i++) {
        if (rings[i] == NULL)
            continue;
        if (fake_ring_ready(rings[i]))
            return false;
        *wake = min_u64(*wake, fake_now() < rings[i]->stalled_until ? rings[i]->stalled_until
                                                                    : rings[i]->wake);
    }
    return true;
}

void fake_moved(void)
{
    if (ring_turns != NULL)
        fake_ring_worked(ring_turns);
}

void fake_ring_worked(struct ring *ring)
{
    ring->spins = 0;
}

unsigned fake_ring_in_flight(const struct ring *ring)
{
    unsigned count = 0;

    for (const struct list *n = ring->prepared.next; n != &ring->prepared; n = n->next)
        count++;
    for (const struct list *n = ring->flight.next; n != &ring->flight; n = n->next)
        count++;
    for (const struct list *n = ring->notifs.next; n != &ring->notifs; n = n->next)
        count++;
    return count;
}

/* Provided and registered buffers */

int ring_buffers_open(struct ring *ring, unsigned buffers)
{
    CHECK(buffers > 0 && (buffers & (buffers - 1)) == 0 && buffers <= 32768 &&
          ring->provided == NULL);
    ring->provided =
        calloc(PROVIDED_IDS, sizeof(ring->provided[0])); /* pages that are not used do not exist */
    ring->order = calloc(buffers, sizeof(ring->order[0]));
    CHECK(ring->provided != NULL && ring->order != NULL);
    ring->provided_count = buffers;
    return 0;
}

void ring_buffer_give(struct ring *ring, void *base, uint32_t size, uint32_t id)
{
    CHECK(id < PROVIDED_IDS && size > 0 &&
          ring->order_tail - ring->order_head < ring->provided_count);
    struct provided *p = &ring->provided[id];

    CHECK(!p->given);
    p->poisoned = ring->stats.waits > 0; /* the first lot is many, and untouched anyway */
    if (p->poisoned)
        fake_poison(base, size);
    fake_hold(&p->range, base, size, FAKE_BUFFER_RANGE);
    p->base = base;
    p->given = true;
    ring->order[ring->order_tail++ % ring->provided_count] = id;
}

bool fake_provided_pick(struct ring *ring, uint32_t *id)
{
    if (ring->order_head == ring->order_tail)
        return false;
    *id = ring->order[ring->order_head++ % ring->provided_count];
    struct provided *p = &ring->provided[*id];
    fake_release(&p->range);
    CHECK(!p->poisoned || fake_poisoned(p->base, p->range.size)); /* nobody wrote to it meanwhile */
    p->given = false;
    return true;
}

void fake_provided_return(struct ring *ring, uint32_t id)
{
    struct provided *p = &ring->provided[id];

    ring->order_head--;
    fake_hold(&p->range, p->base, p->range.size, FAKE_BUFFER_RANGE);
    p->given = true;
}

uint16_t ring_buffers_given(const struct ring *ring)
{
    return (uint16_t)ring->order_tail;
}

/* Who asks may write there. */
uint32_t ring_buffer_at(struct ring *ring, uint16_t place)
{
    size_t back = (uint16_t)((uint16_t)ring->order_tail - place);

    CHECK(back > 0 && back <= ring->order_tail - ring->order_head);
    uint32_t id = ring->order[(ring->order_tail - back) % ring->provided_count];
    ring->provided[id].poisoned = false;
    return id;
}

int ring_register_table(struct ring *ring, unsigned count)
{
    CHECK(ring->table == NULL && count > 0);
    if (fake_chance(fake_options()->register_fails))
        return -ENOMEM;
    ring->table = calloc(count, sizeof(ring->table[0]));
    CHECK(ring->table != NULL);
    ring->table_size = count;
    return 0;
}

int ring_register_buffer(struct ring *ring, unsigned index, void *base, size_t size)
{
    CHECK(index < ring->table_size && size > 0);
    if (fake_chance(fake_options()->register_fails))
        return -ENOMEM;
    ring->table[index] = (struct registered){ .base = base, .size = size };
    return 0;
}

static void check_not_sent_from(const struct list *ops, const uint8_t *base, size_t size)
{
    for (const struct list *node = ops->next; node != ops; node = node->next) {
        const struct fake_op *op = container_of(node, struct fake_op, node);

        for (unsigned i = 0; op->kind == SEND && i < op->iov_count; i++) {
            const uint8_t *p = op->iov[i].iov_base;
            CHECK(p + op->iov[i].iov_len <= base || p >= base + size);
        }
    }
}

int ring_unregister_buffer(struct ring *ring, unsigned index)
{
    CHECK(index < ring->table_size);
    struct registered *r = &ring->table[index];

    CHECK(r->base != NULL);
    check_not_sent_from(&ring->prepared, r->base, r->size);
    check_not_sent_from(&ring->flight, r->base, r->size);
    check_not_sent_from(&ring->notifs, r->base, r->size);
    *r = (struct registered){ .base = NULL };
    return 0;
}

/* Completions */

static void cq_grow(struct ring *ring)
{
    size_t room = ring->cq_room == 0 ? 64 : ring->cq_room * 2;
    struct cq_entry *cq = calloc(room, sizeof(cq[0]));

    CHECK(cq != NULL);
    for (size_t i = ring->cq_head; i != ring->cq_tail; i++)
        cq[i % room] = ring->cq[i % ring->cq_room];
    free(ring->cq);
    ring->cq = cq;
    ring->cq_room = room;
}

void fake_post(struct ring *ring, struct ring_cqe cqe, unsigned *counter)
{
    if (ring->cq_tail - ring->cq_head == ring->cq_room)
        cq_grow(ring);
    ring->cq[ring->cq_tail++ % ring->cq_room] = (struct cq_entry){ .cqe = cqe, .counter = counter };
}

unsigned *fake_op_counter(const struct fake_op *op)
{
    struct fake_socket *s = op->socket;

    if (s == NULL)
        return NULL;
    if (op->kind == RECV || op->kind == POLL_IN)
        return &s->recvs;
    return op->kind == SEND || op->kind == POLL_OUT ? &s->sends : &s->others;
}

/* Preparation */

static struct fake_op *op_new(struct ring *ring, enum fake_op_kind kind, uint64_t user_data, int fd)
{
    struct fake_op *op = calloc(1, sizeof(*op));

    CHECK(op != NULL && ring->started);
    op->ring = ring;
    op->kind = kind;
    op->user_data = user_data;
    list_init(&op->by_socket);
    list_append(&ring->prepared, &op->node);
    fake_event_init(&op->exec, fake_op_exec, op);
    ring->stats.submissions++;
    if (fd >= 0) {
        op->socket = fake_socket(fd); /* CHECKs that it is open and not about to be closed */
        CHECK(op->socket->program);
        if (kind != CLOSE)
            ++*fake_op_counter(op);
        CHECK(op->socket->recvs <= 1 && op->socket->sends <= 1);
    }
    return op;
}

static void op_meta(struct fake_op *op, unsigned i, const void *data, size_t size)
{
    op->meta[i] = data;
    op->meta_size[i] = size;
}

void ring_accept(struct ring *ring, uint64_t user_data, int fd, bool many)
{
    struct fake_op *op = op_new(ring, ACCEPT, user_data, fd);

    CHECK(op->socket->state == FAKE_LISTENING && op->socket->others == 1);
    op->once = !many;
    fake_op_seal(op);
}

void ring_connect(struct ring *ring, uint64_t user_data, int fd, const struct sockaddr *addr,
                  socklen_t size)
{
    struct fake_op *op = op_new(ring, CONNECT, user_data, fd);

    CHECK(op->socket->state == FAKE_CONNECTING && op->socket->others == 1);
    op_meta(op, 0, addr, size);
    fake_op_seal(op);
}

static struct fake_op *recv_new(struct ring *ring, uint64_t user_data, int fd, unsigned flags)
{
    struct fake_op *op = op_new(ring, RECV, user_data, fd);

    CHECK(op->socket->state != FAKE_LISTENING && (flags & (RING_WAITALL | RING_ZC)) == 0);
    op->flags = flags;
    fake_op_seal(op);
    return op;
}

void ring_recv(struct ring *ring, uint64_t user_data, int fd, void *buf, size_t size,
               unsigned flags)
{
    struct fake_op *op = recv_new(ring, user_data, fd, flags);

    CHECK(size > 0);
    op->buf = buf;
    op->size = size;
    op->ranges = calloc(1, sizeof(op->ranges[0]));
    CHECK(op->ranges != NULL);
    op->range_count = 1;
    fake_poison(buf, size);
    fake_hold(&op->ranges[0], buf, size, FAKE_RECV_RANGE);
}

void ring_recv_provided(struct ring *ring, uint64_t user_data, int fd, unsigned flags)
{
    struct fake_op *op = recv_new(ring, user_data, fd, flags);

    CHECK(ring->provided != NULL);
    op->provided = true;
}

static struct fake_op *send_new(struct ring *ring, uint64_t user_data, int fd, unsigned flags)
{
    struct fake_op *op = op_new(ring, SEND, user_data, fd);

    CHECK(op->socket->state != FAKE_LISTENING && !op->socket->shut);
    CHECK((flags & RING_ZC) == 0 || !fake_options()->no_send_zc);
    op->flags = flags;
    return op;
}

void ring_send(struct ring *ring, uint64_t user_data, int fd, const void *buf, size_t size,
               unsigned flags)
{
    struct fake_op *op = send_new(ring, user_data, fd, flags);
    struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = size };

    fake_op_hold_iov(op, &iov, 1);
    fake_op_seal(op);
}

void ring_send_pieces(struct ring *ring, uint64_t user_data, int fd, const struct iovec *iov,
                      unsigned count, unsigned flags)
{
    struct fake_op *op = send_new(ring, user_data, fd, flags);

    CHECK(count > 0 && count <= RING_PIECES && (flags & RING_ZC) == 0);
    op->message = true;
    fake_op_hold_iov(op, iov, count);
    fake_op_seal(op);
}

void ring_send_fixed(struct ring *ring, uint64_t user_data, int fd, const void *buf, size_t size,
                     unsigned index, unsigned flags)
{
    CHECK(index < ring->table_size);
    const struct registered *r = &ring->table[index];
    const uint8_t *p = buf;

    CHECK(r->base != NULL && p >= r->base && size <= r->size && p + size <= r->base + r->size);
    ring_send(ring, user_data, fd, buf, size, flags | RING_ZC);
}

void ring_sendmsg(struct ring *ring, uint64_t user_data, int fd, const struct msghdr *msg,
                  unsigned flags)
{
    struct fake_op *op = send_new(ring, user_data, fd, flags);

    CHECK(msg->msg_iovlen > 0 && msg->msg_control == NULL && msg->msg_name == NULL);
    op->message = true;
    fake_op_hold_iov(op, msg->msg_iov, (unsigned)msg->msg_iovlen);
    op_meta(op, 0, msg, sizeof(*msg));
    op_meta(op, 1, msg->msg_iov, msg->msg_iovlen * sizeof(msg->msg_iov[0]));
    fake_op_seal(op);
}

void ring_poll(struct ring *ring, uint64_t user_data, int fd, bool out)
{
    struct fake_op *op = op_new(ring, out ? POLL_OUT : POLL_IN, user_data, fd);

    CHECK(op->socket->state == FAKE_CONNECTED);
    fake_op_seal(op);
}

void ring_cancel(struct ring *ring, uint64_t target)
{
    (void)op_new(ring, CANCEL, target, -1);
}

void ring_close_fd(struct ring *ring, int fd)
{
    struct fake_op *op = op_new(ring, CLOSE, 0, fd);

    CHECK(op->socket->recvs == 0 && op->socket->sends == 0 && op->socket->others == 0);
    op->socket->closing = true;
}

static struct ring *ring_of_fd(int fd)
{
    for (unsigned i = 0; i < RINGS_MAX; i++)
        if (rings[i] != NULL && rings[i]->fd == fd)
            return rings[i];
    return NULL;
}

void ring_message(struct ring *ring, int target_fd, uint64_t user_data, int32_t res,
                  uint64_t sent_user_data)
{
    struct fake_op *op = op_new(ring, MESSAGE, user_data, -1);

    op->target = ring_of_fd(target_fd);
    op->res = res;
    op->sent_user_data = sent_user_data;
    CHECK(op->target != NULL);
}

int ring_message_from_thread(int target_fd, uint64_t user_data, int32_t res)
{
    struct ring *target = ring_of_fd(target_fd);

    if (target == NULL)
        return -EBADF;
    fake_post(target, (struct ring_cqe){ .user_data = user_data, .res = res }, NULL);
    return 0;
}

/* Waiting */

/*
 * A worker that turns and turns for nothing burns a core for ever. Two ways, with nothing submitted
 * between one wait and the next:
 *   - it asked for no waiting, and got nothing; no time passes then. What one turn leaves for the
 *     next (a flush held back, what was marked when buffers came back) is done in the next, and the
 *     one after that sees what the one before it has seen.
 *   - it waited until its own time was over, again and again: a timer that is set anew for the next
 *     tick each time. There is work that is looked at every 20 ms (worker.c, STARVE_RETRY), what
 *     many streams and lanes look at once a second, and memory that goes back a portion a
 *     millisecond (trim.h), some hundred times.
 */
static void check_spin(struct ring *ring, uint64_t timeout, size_t ready, bool submitted)
{
    bool nothing = ready == 0 && !submitted;

    ring->spins = nothing && timeout == 0 ? ring->spins + 1 : 0;
    CHECK(ring->spins < SPINS_MAX);
    if (fake_now() - ring->wakes_since >= WAKES_TIME) {
        ring->wakes_since = fake_now();
        ring->wakes = 0;
    }
    if (nothing && ring->waits_whole && fake_now() >= ring->wake)
        ring->wakes++;
    CHECK(ring->wakes < WAKES_MAX);
}

unsigned ring_wait(struct ring *ring, uint64_t timeout, struct ring_cqe *out, unsigned max)
{
    bool submitted = !list_empty(&ring->prepared);
    bool early = timeout > 0 && timeout != UINT64_MAX && fake_chance(fake_options()->early_chance);

    CHECK(ring->started && max > 0);
    fake_submit_all(ring);
    size_t ready = ring->cq_tail - ring->cq_head, count = min_size(ready, max);
    if (count > 0 && fake_chance(fake_options()->hold_chance))
        count = fake_between(0, count);
    for (size_t i = 0; i < count; i++) {
        struct cq_entry *entry = &ring->cq[ring->cq_head++ % ring->cq_room];
        out[i] = entry->cqe;
        if (entry->counter != NULL)
            --*entry->counter;
    }
    check_spin(ring, timeout, ready,
               submitted); /* what is held back here is no fault of the worker's */
    ring->now = fake_now();
    ring->waits_whole = timeout > 0 && timeout != UINT64_MAX && !early && count == 0;
    if (early)
        timeout = fake_between(1, timeout);
    ring->wake = timeout == UINT64_MAX ? UINT64_MAX : ring->now + timeout;
    ring->idle = count == 0 && timeout > 0;
    ring->stats.waits++;
    ring->stats.completions += count;
    ring_turns = ring;
    return (unsigned)count;
}
