/*
 * ring_fake_run: submission, execution and completion of the operations of the fake ring; see
 * ring_fake.c.
 */
#include "fake/ring_fake.h"

#include "core/io/op.h"

#include <errno.h>
#include <stdlib.h>

#define IOV_MAX_OP    1024u
#define CANCEL_DELAY  (50 * UINT64_C(1000)) /* unless an option says otherwise */
#define MESSAGE_DELAY (20 * UINT64_C(1000))
#define POLLS_IN_VAIN 20u
#define STARVED_PAUSE (10 * NSEC_PER_MSEC) /* a second try without cause is no loop */

static const char *const kind_names[] = { "accept",   "connect", "recv",  "send",   "poll in",
                                          "poll out", "cancel",  "close", "message" };

/* Memory of sends */

static uint64_t hash_iov(const struct iovec *iov, unsigned count)
{
    uint64_t hash = 1;

    for (unsigned i = 0; i < count; i++)
        hash = fake_hash(hash, iov[i].iov_base, iov[i].iov_len);
    return hash;
}

static uint64_t hash_meta(const struct fake_op *op)
{
    uint64_t hash = 1;

    for (unsigned i = 0; i < 2; i++)
        if (op->meta[i] != NULL)
            hash = fake_hash(hash, op->meta[i], op->meta_size[i]);
    return hash;
}

static void check_unchanged(const struct fake_op *op)
{
    if (op->kind == SEND)
        CHECK(hash_iov(op->iov, op->iov_count) == op->hash);
    CHECK(hash_meta(op) == op->meta_hash);
}

void fake_op_hold_iov(struct fake_op *op, const struct iovec *iov, unsigned count)
{
    CHECK(count <= IOV_MAX_OP);
    op->iov = calloc(count + 1, sizeof(iov[0]));
    op->ranges = calloc(count + 1, sizeof(op->ranges[0]));
    CHECK(op->iov != NULL && op->ranges != NULL);
    op->iov_count = op->range_count = count;
    for (unsigned i = 0; i < count; i++) {
        CHECK(iov[i].iov_len > 0);
        op->iov[i] = iov[i];
        op->size += iov[i].iov_len;
        fake_hold(&op->ranges[i], iov[i].iov_base, iov[i].iov_len, FAKE_SEND_RANGE);
    }
    op->hash = hash_iov(op->iov, count);
}

void fake_op_seal(struct fake_op *op)
{
    op->meta_hash = hash_meta(op);
}

/* Completion */

static void trace_op(const struct fake_op *op, const char *what, int64_t res, unsigned flags)
{
    struct op o = op_unpack(op->user_data);

    if (!fake_tracing())
        return;
    fake_trace("ring %u: %s %s fd %d %u[slot %u gen %u aux %u] size %zu res %lld flags %x",
               op->ring->number, kind_names[op->kind], what,
               op->socket == NULL ? -1 : op->socket->fd, o.kind, o.slot, o.generation, o.aux,
               op->size, (long long)res, flags);
}

/* The last completion of an operation; its memory is the program's again. */
static void op_complete(struct fake_op *op, int64_t res, unsigned flags, uint32_t buffer)
{
    struct ring_cqe cqe = { op->user_data, (int32_t)res, flags, buffer };

    trace_op(op, "completes", res, flags);
    check_unchanged(op);
    fake_post(op->ring, cqe, fake_op_counter(op));
    fake_op_free(op);
}

/* Execution */

static bool op_ready(const struct fake_op *op)
{
    switch (op->kind) {
    case ACCEPT:
        return !list_empty(&op->socket->accept_queue);
    case CONNECT:
        return op->socket->state != FAKE_CONNECTING;
    case RECV:
    case POLL_IN:
        return fake_readable(op->socket);
    case SEND:
    case POLL_OUT:
        return fake_writable(op->socket);
    default:
        return true;
    }
}

static bool inject(const struct fake_op *op, unsigned permille, int error)
{
    if (permille == 0 || !fake_may_fail(op->socket->fd) || !fake_chance(permille))
        return false;
    fake_fault(op->socket->fd, error);
    return true;
}

/* 0, or the -errno to complete with. A broken connection goes on to the normal path, which finds it
 * so. */
static int inject_io(struct fake_op *op)
{
    const struct fake_options *o = fake_options();

    if (op->done == 0 && inject(op, o->fail_memory, ENOMEM))
        return -ENOMEM;
    if (op->done == 0 && inject(op, o->fail_intr, EINTR))
        return -EINTR;
    if (op->socket->conn != NULL && inject(op, o->fail_reset, ECONNRESET))
        fake_conn_break(op->socket->conn);
    return 0;
}

static void accept_done(struct fake_op *op)
{
    static const int errors[] = { EMFILE, ECONNABORTED, ENOMEM };
    const struct fake_options *o = fake_options();

    if (!fake_descriptors_left()) {
        op_complete(op, -EMFILE, 0, 0);
        return;
    }
    if (inject(op, o->accept_error, EMFILE)) {
        op_complete(op, -errors[fake_between(0, ARRAY_SIZE(errors) - 1)], 0, 0);
        return;
    }
    struct fake_socket *s = fake_accept_next(op->socket);
    if (op->once || fake_chance(o->accept_ends)) {
        op_complete(op, s->fd, 0, 0);
        return;
    }
    unsigned flags = RING_CQE_MORE | (op_ready(op) ? RING_CQE_NONEMPTY : 0);
    trace_op(op, "gives", s->fd, flags);
    fake_post(op->ring,
              (struct ring_cqe){ .user_data = op->user_data, .res = s->fd, .flags = flags }, NULL);
    if (op->cancelled) /* one more slipped through */
        fake_event_in(&op->exec, fake_between(0, CANCEL_DELAY));
    else
        fake_op_consider(op);
}

static void connect_done(struct fake_op *op)
{
    struct fake_socket *s = op->socket;
    int error = s->state == FAKE_REFUSED ? s->error : 0;

    if (error != 0)
        s->error = 0;
    op_complete(op, -error, 0, 0);
}

static size_t shortened(size_t size)
{
    return size > 1 && fake_chance(fake_options()->short_chance) ? fake_between(1, size) : size;
}

/* The ring has no provided buffer. Whoever asks it for one again at once, with none given and
 * nothing read meanwhile, asks in vain, again and again: that burns a core, too. */
static void recv_without_buffer(struct fake_op *op)
{
    struct fake_socket *s = op->socket;
    bool in_vain = s->starved_at != 0 && s->starved_gives == op->ring->order_tail;

    CHECK(!in_vain || fake_now() - s->starved_at >= STARVED_PAUSE);
    s->starved_at = fake_now();
    s->starved_gives = op->ring->order_tail;
    op_complete(op, -ENOBUFS, 0, 0);
}

static void recv_provided_done(struct fake_op *op)
{
    struct ring *ring = op->ring;
    uint32_t id;

    if (!fake_more_to_read(op->socket)) { /* an error: no buffer is used */
        op_complete(op, fake_socket_read(op->socket, NULL, 0), 0, 0);
        return;
    }
    if (fake_chance(fake_options()->starve_chance)) {
        op_complete(op, -ENOBUFS, 0, 0);
        return;
    }
    if (!fake_provided_pick(ring, &id)) {
        recv_without_buffer(op);
        return;
    }
    struct provided *p = &ring->provided[id];
    op->size = p->range.size;
    ssize_t n = fake_socket_read(op->socket, p->base, shortened(op->size));
    if (n <= 0) { /* the end, or an error: the buffer goes back to the front */
        fake_provided_return(ring, id);
        op_complete(op, n, 0, 0);
        return;
    }
    unsigned more = fake_more_to_read(op->socket) ? RING_CQE_NONEMPTY : 0;
    op->socket->starved_at = 0;
    op_complete(op, n, RING_CQE_BUFFER | more, id);
}

static void recv_done(struct fake_op *op)
{
    int error = inject_io(op);

    if (error != 0) {
        op_complete(op, error, 0, 0);
        return;
    }
    if (op->provided) {
        recv_provided_done(op);
        return;
    }
    fake_release(&op->ranges[0]);
    CHECK(fake_poisoned(op->buf, op->size)); /* nobody wrote to it while it was the kernel's */
    ssize_t n = fake_socket_read(op->socket, op->buf, shortened(op->size));
    op->socket->starved_at = 0;
    op_complete(op, n, n > 0 && fake_more_to_read(op->socket) ? RING_CQE_NONEMPTY : 0, 0);
}

static uint64_t zc_copies;

uint64_t fake_zc_copies(void)
{
    return zc_copies;
}

void fake_zc_reset(void)
{
    zc_copies = 0;
}

static void notify(void *arg)
{
    struct fake_op *op = arg;
    const struct fake_options *o = fake_options();
    bool copied = !o->no_zc_report && (op->res <= 0 || fake_chance(o->zc_copied));

    zc_copies += copied && op->res > 0;
    trace_op(op, "notifies", 0, copied ? RING_CQE_COPIED : 0);
    check_unchanged(op);
    fake_post(op->ring,
              (struct ring_cqe){ .user_data = op->user_data,
                                 .flags = RING_CQE_NOTIF | (copied ? RING_CQE_COPIED : 0) },
              NULL);
    fake_op_free(op);
}

/* The result of a send; with zero copy a notification may follow, whatever the result was. */
static void send_complete(struct fake_op *op, int64_t res)
{
    const struct fake_options *o = fake_options();

    if ((op->flags & RING_ZC) == 0 || (res <= 0 && !fake_chance(o->zc_chance))) {
        op_complete(op, res, 0, 0);
        return;
    }
    trace_op(op, "completes", res, RING_CQE_MORE);
    check_unchanged(op);
    fake_post(op->ring,
              (struct ring_cqe){
                  .user_data = op->user_data, .res = (int32_t)res, .flags = RING_CQE_MORE },
              fake_op_counter(op));
    list_remove(&op->by_socket);
    list_remove(&op->node);
    list_append(&op->ring->notifs, &op->node);
    op->socket = NULL;
    op->exec.fn = notify;
    op->res = (int32_t)res;
    fake_event_in(&op->exec, fake_between(0, o->zc_delay_max));
}

/* Writes up to `limit` bytes from where the operation stands; the result of the last write that
 * moved nothing, or 0. */
static ssize_t send_some(struct fake_op *op, size_t limit)
{
    size_t start = 0;

    for (unsigned i = 0; i < op->iov_count && limit > 0; i++) {
        const struct iovec *iov = &op->iov[i];
        size_t skip = op->done - start;

        start += iov->iov_len;
        if (skip >= iov->iov_len)
            continue;
        size_t want = min_size(iov->iov_len - skip, limit);
        ssize_t n = fake_socket_write(op->socket, (uint8_t *)iov->iov_base + skip, want);
        if (n < 0)
            return n;
        op->done += (size_t)n;
        limit -= (size_t)n;
        if ((size_t)n < want)
            break;
    }
    return 0;
}

static void op_cancelled(struct fake_op *op)
{
    if (op->kind == SEND)
        send_complete(op, op->done > 0 ? (int64_t)op->done : -ECANCELED);
    else
        op_complete(op, -ECANCELED, 0, 0);
}

static bool send_gives_up(const struct fake_op *op)
{
    return op->message && op->socket->no_wait && fake_chance(fake_options()->wait_ends);
}

static void send_done(struct fake_op *op)
{
    int error = inject_io(op);

    if (error != 0) {
        send_complete(op, error);
        return;
    }
    ssize_t result = send_some(op, shortened(op->size - op->done));
    if (result < 0)
        send_complete(op, op->done > 0 ? (int64_t)op->done : result);
    else if (op->done == op->size || (op->done > 0 && (op->flags & RING_WAITALL) == 0))
        send_complete(op, (int64_t)op->done);
    else if (send_gives_up(op))
        send_complete(op, op->done > 0 ? (int64_t)op->done : -EAGAIN);
    else if (op->cancelled) /* it came too late for this piece, not for the next */
        op_cancelled(op);
    else
        fake_op_consider(op);
}

static void message_done(struct fake_op *op)
{
    fake_trace("ring %u: message to ring %u", op->ring->number, op->target->number);
    if (fake_chance(fake_options()->message_fails)) {
        fake_post(op->ring, (struct ring_cqe){ .user_data = op->sent_user_data, .res = -EOVERFLOW },
                  NULL);
    } else {
        fake_post(op->target, (struct ring_cqe){ .user_data = op->user_data, .res = op->res },
                  NULL);
    }
    fake_op_free(op);
}

/* Whoever asks again and again, is told that there is something, and takes nothing burns a core. */
static void poll_in_done(struct fake_op *op)
{
    struct fake_socket *s = op->socket;
    uint64_t taken = s->conn != NULL ? s->conn->pipe[1 - s->side].taken : 0;

    s->polled = taken == s->polled_taken ? s->polled + 1 : 0;
    s->polled_taken = taken;
    CHECK(s->polled < POLLS_IN_VAIN);
    bool ended = s->reset || s->conn == NULL || s->conn->pipe[1 - s->side].fin_arrived;
    op_complete(op, POLLIN | (ended ? POLLRDHUP : 0), 0, 0);
}

void fake_op_exec(void *arg)
{
    struct fake_op *op = arg;
    bool ready = op_ready(op);

    if (op->cancelled && !(ready && fake_chance(fake_options()->cancel_loses))) {
        op_cancelled(op);
        return;
    }
    if (!ready)
        return;
    switch (op->kind) {
    case ACCEPT:
        accept_done(op);
        break;
    case CONNECT:
        connect_done(op);
        break;
    case RECV:
        recv_done(op);
        break;
    case SEND:
        send_done(op);
        break;
    case POLL_IN:
        poll_in_done(op);
        break;
    case POLL_OUT:
        op_complete(op, POLLOUT, 0, 0);
        break;
    default:
        message_done(op);
        break;
    }
}

void fake_op_consider(struct fake_op *op)
{
    if (op->exec.place == 0 && op_ready(op))
        fake_event_in(&op->exec, fake_between(0, fake_options()->op_delay_max));
}

void fake_socket_ops_consider(struct fake_socket *s)
{
    for (struct list *node = s->ops.next; node != &s->ops; node = node->next)
        fake_op_consider(container_of(node, struct fake_op, by_socket));
}

static void cancel_op(struct fake_op *op)
{
    uint64_t longest = fake_options()->cancel_delay_max;

    trace_op(op, "is cancelled", 0, 0);
    op->cancelled = true;
    if (op->exec.place == 0)
        fake_event_in(&op->exec, fake_between(0, longest > 0 ? longest : CANCEL_DELAY));
}

void fake_socket_ops_end(struct fake_socket *s)
{
    s->over = true;
    for (struct list *node = s->ops.next; node != &s->ops; node = node->next) {
        struct fake_op *op = container_of(node, struct fake_op, by_socket);
        if (!op->cancelled)
            cancel_op(op);
    }
}

/* Submission */

static void submit_cancel(struct fake_op *op)
{
    struct list *flight = &op->ring->flight;

    for (struct list *node = flight->next; node != flight; node = node->next) {
        struct fake_op *target = container_of(node, struct fake_op, node);
        if (target->kind == MESSAGE || target->user_data != op->user_data || target->cancelled)
            continue;
        if (fake_chance(fake_options()->cancel_lost))
            trace_op(target, "is not cancelled, being busy", 0, 0);
        else
            cancel_op(target);
        break;
    }
    fake_op_free(op);
}

static void submit_close(struct fake_op *op)
{
    struct fake_socket *s = op->socket;

    op->socket = NULL;
    fake_op_free(op);
    fake_socket_close(s, s->linger0);
}

static void submit_message(struct fake_op *op)
{
    uint64_t at = max_u64(fake_now() + fake_between(0, MESSAGE_DELAY), op->target->last_message_at);

    op->target->last_message_at = at;
    list_append(&op->ring->flight, &op->node);
    fake_event_set(&op->exec, at);
}

static void submit_io(struct fake_op *op)
{
    bool ready;

    list_append(&op->ring->flight, &op->node);
    list_append(&op->socket->ops, &op->by_socket);
    if (op->kind == CONNECT)
        fake_connect_start(op->socket, sock_addr_port((const union sock_addr *)op->meta[0]));
    trace_op(op, "submitted", 0, op->flags);
    if (op->socket->over) {
        cancel_op(op);
        return;
    }
    ready = op_ready(op);
    if (op->provided && (op->flags & RING_POLL_FIRST) == 0 &&
        op->ring->order_head == op->ring->order_tail)
        recv_without_buffer(op);
    else if ((op->flags & RING_DONTWAIT) != 0 && !ready)
        op_complete(op, -EAGAIN, 0, 0);
    else if (ready && (op->flags & RING_POLL_FIRST) == 0 &&
             fake_chance(fake_options()->inline_chance))
        fake_op_exec(op);
    else
        fake_op_consider(op);
}

void fake_submit_all(struct ring *ring)
{
    for (struct list *node; (node = list_pop(&ring->prepared)) != NULL;) {
        struct fake_op *op = container_of(node, struct fake_op, node);

        if (op->kind == CANCEL)
            submit_cancel(op);
        else if (op->kind == CLOSE)
            submit_close(op);
        else if (op->kind == MESSAGE)
            submit_message(op);
        else
            submit_io(op);
    }
}
