/*
 * fake_net: the simulated network.
 *
 * A connection is two pipes. Bytes written go first on the way (at most send_room of them), arrive
 * in order, in pieces, after the connection's latency, when the receiver has room (recv_room), and
 * are then taken. FIN follows the last byte.
 *
 * Resets follow Linux, because code that passes here must not be surprised there:
 *   - a close with linger 0, or with unread data, sends RST and drops what was on the way; so does
 *     data that arrives at a closed end (RFC 9293 3.10.7.1, RFC 2525 2.17);
 *   - with linger 0 behind the FINs of both sides (LAST_ACK, CLOSING) a close says nothing, unless
 *     something was not sent yet, and nothing is sent again (tests/kernel/test_close.c). No packet
 *     is lost here; but to a program that has seen the peer's FIN and closes so, all that is on the
 *     way is;
 *   - accepted sockets inherit linger 0 from their listener;
 *   - after an RST arrived, data that had arrived before can still be read (tcp_recvmsg looks at
 *     the queue first), then the error is told ONCE, to whichever of read and write comes first;
 *     afterwards reads give 0 and writes EPIPE. The error is EPIPE, told to writes only, if FIN had
 *     arrived before (tcp_reset in CLOSE_WAIT). So a read of 0 is a clean end only if no error was
 *     told before it. With rst_drops_received the unread data is gone as well (as in BSD), and
 *     reads see the error;
 *   - an RST after both FINs arrived changes nothing.
 *
 * A connection that is cut carries nothing more, resets included; one that is severed (somebody
 * between has closed it) gave both ends a FIN that neither of them sent, and answers what they send
 * by RST.
 *
 * Trouble strikes one byte of one direction (fake_trouble): it arrives changed, or the connection
 * is lost or held in front of it. A test that takes every byte in turn sees what each does. A port
 * may be tapped (fake_tap.c).
 *
 * Closed sockets stay in the table as markers until the world is closed.
 */
#include "fake/fake_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#define PORTS     65536u
#define DYING_MAX (30 * NSEC_PER_MSEC)

static struct {
    struct fake_socket **sockets; /* by fd - FAKE_FD_BASE; NULL: a ring's descriptor */
    unsigned count, room;
    unsigned program_open;
    struct list conns, listeners;
    bool ready; /* the lists */
    uint64_t conn_ids;
    uint16_t next_port;
    uint16_t hooked_port;
    void (*on_connection)(int fd);
    uint8_t blackhole[PORTS / 8], refuse[PORTS / 8];
} net;

static void lists_ready(void)
{
    if (net.ready)
        return;
    list_init(&net.conns);
    list_init(&net.listeners);
    net.ready = true;
}

static void socket_changed(struct fake_socket *s)
{
    if (s == NULL)
        return;
    if (s->watch != NULL && s->watching.place == 0)
        fake_event_in(&s->watching, fake_between(0, fake_options()->op_delay_max));
    fake_socket_ops_consider(s);
}

/* Descriptors */

static void take_slot(struct fake_socket *s)
{
    if (net.count == net.room) {
        net.room = net.room == 0 ? 64 : net.room * 2;
        net.sockets = realloc(net.sockets, net.room * sizeof(struct fake_socket *));
        CHECK(net.sockets != NULL);
    }
    net.sockets[net.count++] = s;
}

int fake_fd_take(void)
{
    take_slot(NULL);
    return FAKE_FD_BASE + (int)net.count - 1;
}

static void on_watching(void *arg)
{
    struct fake_socket *s = arg;

    if (!s->closed && s->watch != NULL)
        s->watch(s->watch_arg);
}

static void connect_try(void *arg);
static void user_timeout(void *arg);
static void on_dying(void *arg);

static void count(struct fake_socket *s, bool counted)
{
    net.program_open += counted;
    net.program_open -= s->counted;
    s->counted = counted;
}

struct fake_socket *fake_socket_new(bool program)
{
    struct fake_socket *s = calloc(1, sizeof(*s));

    CHECK(s != NULL);
    s->fd = FAKE_FD_BASE + (int)net.count;
    s->program = program;
    s->process = fake_current_process();
    s->host = FAKE_HOST;
    s->state = FAKE_CONNECTING;
    list_init(&s->accept_queue);
    list_init(&s->queue_node);
    list_init(&s->listen_node);
    list_init(&s->ops);
    fake_event_init(&s->connecting, connect_try, s);
    fake_event_init(&s->watching, on_watching, s);
    fake_event_init(&s->timeout, user_timeout, s);
    fake_event_init(&s->dying, on_dying, s);
    take_slot(s);
    count(s, program);
    return s;
}

static struct fake_socket *socket_find(int fd)
{
    unsigned i = (unsigned)(fd - FAKE_FD_BASE);

    CHECK(fd >= FAKE_FD_BASE && i < net.count && net.sockets[i] != NULL);
    return net.sockets[i];
}

struct fake_socket *fake_socket(int fd)
{
    struct fake_socket *s = socket_find(fd);

    CHECK(!s->closed && !s->closing);
    return s;
}

bool fake_is_open(int fd)
{
    return !socket_find(fd)->closed;
}

bool fake_is_reset(int fd)
{
    return fake_socket(fd)->reset;
}

unsigned fake_program_sockets(void)
{
    return net.program_open;
}

void fake_print_sockets(void)
{
    static const char *const states[] = { "connecting", "connected", "refused", "listening" };

    for (unsigned i = 0; i < net.count; i++) {
        const struct fake_socket *s = net.sockets[i];

        if (s != NULL && s->program && !s->closed)
            fprintf(stderr, "  fd %d: %s, port %u to %u%s%s%s, in flight %u %u %u\n", s->fd,
                    states[s->state], fake_local_port(s->fd), fake_remote_port(s->fd),
                    s->reset ? ", reset" : "", s->shut ? ", FIN sent" : "",
                    list_linked(&s->queue_node) ? ", not accepted" : "", s->recvs, s->sends,
                    s->others);
    }
}

bool fake_descriptors_left(void)
{
    unsigned limit = fake_options()->descriptors;

    return limit == 0 || net.program_open < limit;
}

static void addr_set(union sock_addr *addr, unsigned host, uint16_t port)
{
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(127u << 24 | host) };

    memset(addr, 0, sizeof(*addr));
    memcpy(addr, &in, sizeof(in));
}

static uint16_t port_of(const union sock_addr *addr)
{
    struct sockaddr_in in;

    memcpy(&in, addr, sizeof(in));
    return ntohs(in.sin_port); /* at the same place in sockaddr_in6 */
}

static uint16_t ephemeral_port(void)
{
    if (net.next_port < 40000)
        net.next_port = 40000;
    return net.next_port++;
}

/* Pipes */

static void pipe_deliver(void *arg);
static void pipe_release(void *arg);

static void pipe_init(struct fake_pipe *p, struct fake_conn *conn, int from)
{
    const struct fake_options *o = fake_options();
    size_t low = o->buffer_min > 0 ? o->buffer_min : 65536;
    size_t high = o->buffer_max > low ? o->buffer_max : low;

    *p = (struct fake_pipe){ .conn = conn, .from = from };
    p->send_room = fake_random_size(fake_random(), low, high);
    p->recv_room = fake_random_size(fake_random(), low, high);
    p->capacity = p->send_room + p->recv_room;
    p->data = malloc(p->capacity);
    CHECK(p->data != NULL);
    fake_event_init(&p->deliver, pipe_deliver, p);
    fake_event_init(&p->release, pipe_release, p);
}

static bool pipe_can_deliver(const struct fake_pipe *p)
{
    if (p->conn->cut || p->conn->dead[0] || p->conn->dead[1] || p->release.place != 0)
        return false;
    if (p->conn->severed)
        return p->written > p->arrived;
    if (p->fin_arrived)
        return false;
    if (p->written > p->arrived)
        return p->conn->end[1 - p->from] == NULL || p->arrived - p->taken < p->recv_room;
    return p->fin_sent;
}

static void pipe_arm(struct fake_pipe *p)
{
    if (p->deliver.place == 0 && pipe_can_deliver(p))
        fake_event_in(&p->deliver, p->conn->latency);
}

static void pipe_copy_in(struct fake_pipe *p, const uint8_t *data, size_t size)
{
    size_t at = p->written % p->capacity;
    size_t first = min_size(size, p->capacity - at);

    memcpy(p->data + at, data, first);
    memcpy(p->data, data + first, size - first);
    p->written += size;
}

static void pipe_copy_out(struct fake_pipe *p, uint8_t *data, size_t size)
{
    size_t at = p->taken % p->capacity;
    size_t first = min_size(size, p->capacity - at);

    memcpy(data, p->data + at, first);
    memcpy(data + first, p->data, size - first);
    p->taken += size;
}

/* Resets */

/* RST reaches the reader of pipe `arg`. */
static void rst_arrives(void *arg)
{
    struct fake_pipe *in = arg;
    int side = 1 - in->from;
    struct fake_socket *s = in->conn->end[side];
    struct fake_pipe *out = &in->conn->pipe[side];

    if (s == NULL || s->reset || (in->fin_arrived && out->fin_arrived && !in->conn->severed))
        return;
    fake_trace("fd %d: RST arrives", s->fd);
    s->reset = true;
    s->reset_at = fake_now();
    s->error = in->fin_arrived ? EPIPE : ECONNRESET;
    in->written = in->arrived;
    if (fake_options()->rst_drops_received && in->taken < in->arrived) {
        in->taken = in->arrived;
        in->fin_arrived = false; /* what was dropped must not look like an end */
        s->error = ECONNRESET;
    }
    out->written = out->arrived;
    socket_changed(s);
}

static void rst_send(struct fake_conn *conn, int to)
{
    if (conn->dead[to])
        return;
    conn->dead[to] = true;
    fake_event_stop(&conn->pipe[0].deliver);
    fake_event_stop(&conn->pipe[1].deliver);
    if (!conn->cut)
        fake_event_in(&conn->rst[to], conn->latency);
}

static void doom_strikes(struct fake_conn *conn)
{
    const struct fake_socket *end = conn->end[0] != NULL ? conn->end[0] : conn->end[1];

    if (!conn->doomed || conn->doom_left > 0)
        return;
    conn->doomed = false;
    if (end == NULL || !fake_may_fail(end->fd))
        return;
    fake_fault(end->fd, ECONNRESET);
    fake_conn_lose(conn, conn->doom);
}

/* Trouble */

static void pipe_release(void *arg)
{
    struct fake_pipe *p = arg;

    p->narrow_since = 0;
    pipe_arm(p);
}

void fake_narrow(int fd, size_t longest, uint64_t heals)
{
    const struct fake_socket *s = fake_socket(fd);

    CHECK(longest > 0 && s->conn != NULL);
    for (int side = 0; side < 2; side++) {
        s->conn->pipe[side].longest = longest;
        s->conn->pipe[side].heals = heals;
    }
}

/* Segments are as long as what there is to send. */
static bool narrow_holds(struct fake_pipe *p)
{
    if (p->longest == 0 || p->written - p->arrived <= p->longest)
        return false;
    fake_trace("connection %llu: too long for the path", (unsigned long long)p->conn->id);
    p->longest = 0;
    p->narrow_since = fake_now();
    fake_event_in(&p->release, p->heals);
    return true;
}

void fake_record_begins(struct fake_pipe *p, uint64_t at)
{
    if (!p->troubled || p->trouble.records == 0 || --p->trouble.records > 0)
        return;
    p->trouble.at += at;
}

/* What may arrive before the trouble strikes. A byte that is spoiled arrives with those around it.
 * */
static size_t trouble_limit(const struct fake_pipe *p, size_t n)
{
    if (!p->troubled || p->trouble.records > 0 || p->trouble.kind == FAKE_SPOIL)
        return n;
    return min_size(n, p->trouble.at - p->arrived);
}

static bool trouble_due(const struct fake_pipe *p)
{
    uint64_t from = p->trouble.at + (p->trouble.kind == FAKE_SPOIL);

    return p->troubled && p->trouble.records == 0 && p->arrived >= from;
}

/* True if it struck. */
static bool trouble_strikes(struct fake_pipe *p)
{
    static const char *const names[] = { "spoiled", "lost", "held" };
    static const int errors[] = { EBADMSG, ECONNRESET, ETIME };
    const struct fake_socket *to = p->conn->end[1 - p->from];
    const struct fake_trouble *t = &p->trouble;

    if (!trouble_due(p))
        return false;
    p->troubled = false;
    if (to == NULL || !fake_may_fail(to->fd))
        return false;
    fake_trace("connection %llu: %s at byte %llu of side %d", (unsigned long long)p->conn->id,
               names[t->kind], (unsigned long long)t->at, p->from);
    fake_fault(to->fd, errors[t->kind]);
    if (t->kind == FAKE_SPOIL)
        p->data[t->at % p->capacity] ^= t->flip;
    else if (t->kind == FAKE_DELAY)
        fake_event_in(&p->release, t->delay);
    else
        fake_conn_lose(p->conn, t->how);
    p->conn->doomed = p->conn->doomed && t->kind != FAKE_LOSE;
    return true;
}

void fake_trouble(int fd, const struct fake_trouble *trouble)
{
    struct fake_socket *s = fake_socket(fd);

    if (s->conn == NULL)
        return;
    struct fake_pipe *p = &s->conn->pipe[trouble->from];
    CHECK(trouble->kind != FAKE_SPOIL || trouble->flip != 0);
    CHECK(trouble->records == 0 || p->tapped.on);
    p->trouble = *trouble;
    p->trouble.at += trouble->records == 0 ? p->arrived : 0;
    p->troubled = true;
}

static void pipe_deliver(void *arg)
{
    struct fake_pipe *p = arg;
    struct fake_conn *conn = p->conn;
    struct fake_socket *to = conn->end[1 - p->from];

    if (!pipe_can_deliver(p))
        return;
    if ((to == NULL || conn->severed) && p->written > p->arrived) {
        rst_send(conn, p->from);
        return;
    }
    if (narrow_holds(p))
        return;
    size_t n = p->written - p->arrived;
    if (to != NULL)
        n = min_size(n, p->recv_room - (p->arrived - p->taken));
    if (n > 1 && fake_options()->segment_max > 0)
        n = min_size(n, fake_between(1, fake_options()->segment_max));
    if (conn->doomed)
        n = min_size(n, conn->doom_left);
    n = trouble_limit(p, n);
    if (n == 0 && p->arrived < p->written && trouble_strikes(p)) /* in front of the very first */
        return;
    p->arrived += n;
    conn->doom_left -= conn->doomed ? n : 0;
    if (p->arrived == p->written && p->fin_sent)
        p->fin_arrived = true;
    trouble_strikes(p);
    if (p->arrived < p->written || p->fin_sent)
        pipe_arm(p);
    socket_changed(to);
    socket_changed(conn->end[p->from]);
    doom_strikes(conn);
}

/* TCP_USER_TIMEOUT: sent bytes made no way for so long, be it that the path is dead or that the
 * peer does not read (tcp_probe_timer treats both alike). */
static void timeout_arm(struct fake_socket *s)
{
    const struct fake_pipe *out = &s->conn->pipe[s->side];

    if (s->user_timeout == 0 || s->timeout.place != 0 || out->written == out->arrived)
        return;
    s->timeout_arrived = out->arrived;
    fake_event_in(&s->timeout, s->user_timeout);
}

static void user_timeout(void *arg)
{
    struct fake_socket *s = arg;

    if (s->conn == NULL || s->reset)
        return;
    struct fake_pipe *out = &s->conn->pipe[s->side];
    if (out->written == out->arrived || out->arrived > s->timeout_arrived) {
        timeout_arm(s);
        return;
    }
    fake_trace("fd %d: user time-out", s->fd);
    rst_send(s->conn, 1 - s->side);
    s->conn->dead[s->side] = true;
    s->reset = true;
    s->error = ETIMEDOUT;
    out->written = out->arrived;
    socket_changed(s);
}

/* Connections */

static struct fake_conn *conn_new(struct fake_socket *dialler, struct fake_socket *accepted,
                                  uint64_t latency)
{
    struct fake_conn *conn = calloc(1, sizeof(*conn));

    CHECK(conn != NULL);
    lists_ready();
    list_append(&net.conns, &conn->node);
    conn->id = ++net.conn_ids;
    conn->latency = latency;
    for (int side = 0; side < 2; side++) {
        struct fake_socket *s = side == 0 ? dialler : accepted;
        pipe_init(&conn->pipe[side], conn, side);
        conn->pipe[side].tapped.on = fake_is_tapped(port_of(&accepted->local));
        fake_event_init(&conn->rst[side], rst_arrives, &conn->pipe[1 - side]);
        conn->end[side] = s;
        s->conn = conn;
        s->side = side;
    }
    return conn;
}

static void conn_free(struct fake_conn *conn)
{
    for (int side = 0; side < 2; side++) {
        fake_event_stop(&conn->pipe[side].deliver);
        fake_event_stop(&conn->pipe[side].release);
        fake_event_stop(&conn->rst[side]);
        free(conn->pipe[side].data);
    }
    list_remove(&conn->node);
    free(conn);
}

/* Both have said FIN, ours has not arrived: LAST_ACK or CLOSING. */
static bool last_words(const struct fake_pipe *in, const struct fake_pipe *out)
{
    return in->fin_arrived && out->fin_sent && !out->fin_arrived;
}

static bool all_is_sent(const struct fake_pipe *out)
{
    return out->written - out->taken <= out->recv_room;
}

static void conn_leave(struct fake_socket *s, bool reset)
{
    struct fake_conn *conn = s->conn;
    struct fake_pipe *out = &conn->pipe[s->side], *in = &conn->pipe[1 - s->side];

    s->conn = NULL;
    conn->end[s->side] = NULL;
    if (conn->end[1 - s->side] == NULL) {
        conn_free(conn);
        return;
    }
    if (s->reset)
        return;
    bool both_ended = in->fin_arrived && out->fin_arrived;
    bool silent = reset && last_words(in, out) && all_is_sent(out);
    if ((reset && !both_ended && !silent) || in->arrived > in->taken) {
        out->written = out->arrived;
        rst_send(conn, 1 - s->side);
    } else if (silent && s->told_end && !s->killed) {
        out->written = out->arrived;
        out->fin_sent = false;
        pipe_arm(in);
    } else {
        out->fin_sent = true;
        pipe_arm(out);
        pipe_arm(in); /* what is on its way here meets a closed end */
    }
}

void fake_conn_break(struct fake_conn *conn)
{
    for (int side = 0; side < 2; side++) {
        conn->dead[side] = true;
        fake_event_stop(&conn->pipe[side].deliver);
    }
    for (int side = 0; side < 2; side++)
        rst_arrives(&conn->pipe[side]);
}

void fake_break(int fd)
{
    struct fake_socket *s = fake_socket(fd);

    if (s->conn != NULL)
        fake_conn_break(s->conn);
}

static void conn_cut(struct fake_conn *conn)
{
    if (!conn->cut)
        conn->cut_at = fake_now();
    conn->cut = true;
}

void fake_cut(int fd)
{
    struct fake_socket *s = fake_socket(fd);

    if (s->conn != NULL)
        conn_cut(s->conn);
}

void fake_mend(uint64_t connection)
{
    for (struct list *node = net.conns.next; net.ready && node != &net.conns; node = node->next) {
        struct fake_conn *conn = container_of(node, struct fake_conn, node);

        if (conn->id != connection || !conn->cut)
            continue;
        fake_trace("connection %llu: mended", (unsigned long long)connection);
        conn->cut = false;
        for (int side = 0; side < 2; side++) {
            pipe_arm(&conn->pipe[side]);
            if (conn->dead[0] || conn->dead[1])
                fake_event_in(&conn->rst[side], conn->latency);
        }
        return;
    }
}

/* Both ends get a FIN. */
static void conn_sever(struct fake_conn *conn)
{
    conn->severed = true;
    for (int side = 0; side < 2; side++) {
        struct fake_pipe *p = &conn->pipe[side];

        p->written = p->arrived;
        p->fin_arrived = true;
        fake_event_stop(&p->deliver);
    }
    socket_changed(conn->end[0]);
    socket_changed(conn->end[1]);
}

void fake_conn_lose(struct fake_conn *conn, enum fake_loss how)
{
    static const char *const names[] = { "reset", "cut", "ended", "reset at one end" };
    int side = (int)fake_between(0, 1);

    fake_trace("connection %llu (port %u): %s", (unsigned long long)conn->id,
               conn->end[side] != NULL ? port_of(&conn->end[side]->remote) : 0, names[how]);
    switch (how) {
    case FAKE_LOSS_RESET:
        fake_conn_break(conn);
        break;
    case FAKE_LOSS_CUT:
        conn_cut(conn);
        break;
    case FAKE_LOSS_END:
        conn_sever(conn);
        break;
    default:
        conn_cut(conn);
        conn->dead[side] = true;
        rst_arrives(&conn->pipe[1 - side]);
        break;
    }
}

void fake_lose(int fd, enum fake_loss how)
{
    struct fake_socket *s = fake_socket(fd);

    if (s->conn != NULL)
        fake_conn_lose(s->conn, how);
}

static void conn_doom(struct fake_conn *conn, uint64_t bytes, enum fake_loss how)
{
    conn->doomed = true;
    conn->doom_left = bytes;
    conn->doom = how;
}

void fake_doom(int fd, uint64_t bytes, enum fake_loss how)
{
    struct fake_socket *s = fake_socket(fd);

    CHECK(bytes > 0);
    if (s->conn != NULL)
        conn_doom(s->conn, bytes, how);
}

void fake_socket_close(struct fake_socket *s, bool reset)
{
    CHECK(!s->closed && list_empty(&s->ops));
    fake_trace("fd %d: closed%s", s->fd, reset ? " by RST" : "");
    s->closed = true;
    list_remove(&s->listen_node);
    count(s, false);
    fake_event_stop(&s->connecting);
    fake_event_stop(&s->watching);
    fake_event_stop(&s->timeout);
    fake_event_stop(&s->dying);
    for (struct list *node; (node = list_pop(&s->accept_queue)) != NULL;)
        fake_socket_close(container_of(node, struct fake_socket, queue_node), true);
    if (s->conn != NULL)
        conn_leave(s, reset);
}

static void on_dying(void *arg)
{
    struct fake_socket *s = arg;

    fake_socket_close(s, s->linger0);
}

/* The kernel closes them when it has cancelled what the rings held (io_ring_exit_work), one
 * after the other; who waits in an accept queue goes with the listener. */
void fake_sockets_kill(unsigned process)
{
    for (unsigned i = 0; i < net.count; i++) {
        struct fake_socket *s = net.sockets[i];

        if (s == NULL || !s->program || s->closed || s->process != process ||
            list_linked(&s->queue_node))
            continue;
        s->killed = true;
        fake_event_in(&s->dying, fake_between(0, DYING_MAX));
    }
}

/* Listening and connecting */

/* One of the listeners of a port, NULL if there is none; *shareable: all of them allow another. */
static struct fake_socket *listener_of(uint16_t port, bool *shareable)
{
    struct fake_socket *found = NULL;
    unsigned seen = 0;

    *shareable = true;
    lists_ready();
    for (struct list *n = net.listeners.next; n != &net.listeners; n = n->next) {
        struct fake_socket *s = container_of(n, struct fake_socket, listen_node);

        if (port_of(&s->local) != port)
            continue;
        *shareable = *shareable && s->shared;
        if (fake_between(0, seen++) == 0)
            found = s;
    }
    return found;
}

int fake_bind_listen(struct fake_socket *s, uint16_t port, bool shared, unsigned backlog)
{
    bool shareable;

    if (port == 0)
        port = ephemeral_port();
    if (listener_of(port, &shareable) != NULL && !(shared && shareable))
        return -EADDRINUSE;
    s->state = FAKE_LISTENING;
    list_append(&net.listeners, &s->listen_node);
    s->shared = shared;
    s->backlog = backlog;
    addr_set(&s->local, FAKE_HOST, port);
    return 0;
}

static void connect_ends(struct fake_socket *s, enum fake_state state, int error)
{
    s->state = state;
    s->error = error;
    socket_changed(s);
}

static void connect_established(void *arg)
{
    struct fake_socket *s = arg;

    connect_ends(s, FAKE_CONNECTED, s->error);
}

static void connect_refused(void *arg)
{
    connect_ends(arg, FAKE_REFUSED, ECONNREFUSED);
}

static void connect_timed_out(void *arg)
{
    connect_ends(arg, FAKE_REFUSED, ETIMEDOUT);
}

static uint64_t latency_draw(void)
{
    const struct fake_options *o = fake_options();

    return fake_between(o->latency_min, max_u64(o->latency_min, o->latency_max));
}

static void connect_next(struct fake_socket *s, void (*fn)(void *arg), uint64_t delay)
{
    s->connecting.fn = fn;
    fake_event_in(&s->connecting, delay);
}

/* SYN arrives. */
static void connect_try(void *arg)
{
    struct fake_socket *s = arg;
    uint16_t port = port_of(&s->remote);
    bool shareable;
    struct fake_socket *listener = listener_of(port, &shareable);
    uint64_t latency = latency_draw();

    if ((net.blackhole[port / 8] & 1u << port % 8) != 0) {
        connect_next(s, connect_timed_out, FAKE_CONNECT_GIVES_UP);
    } else if (listener == NULL || (net.refuse[port / 8] & 1u << port % 8) != 0) {
        connect_next(s, connect_refused, latency);
    } else if (listener->queued > listener->backlog) {
        bool again = ++s->tries < 7;
        connect_next(s, again ? connect_try : connect_timed_out, NSEC_PER_SEC << s->tries);
    } else {
        struct fake_socket *accepted = fake_socket_new(listener->program);
        count(accepted, false); /* counts when it is accepted */
        accepted->state = FAKE_CONNECTED;
        accepted->process = listener->process;
        accepted->linger0 = listener->linger0;
        accepted->local = listener->local;
        accepted->remote = s->local;
        struct fake_conn *conn = conn_new(s, accepted, latency);
        if (fake_options()->doom_port == port && fake_may_fail(s->fd) &&
            fake_chance(fake_options()->doom_chance))
            conn_doom(conn, fake_random_size(fake_random(), 1, fake_options()->doom_bytes),
                      (enum fake_loss)fake_between(0, FAKE_LOSS_COUNT - 1));
        if (net.hooked_port == port)
            net.on_connection(s->fd);
        connect_next(s, connect_established, latency);
        list_append(&listener->accept_queue, &accepted->queue_node);
        listener->queued++;
        socket_changed(listener);
    }
}

void fake_connect_start(struct fake_socket *s, uint16_t port)
{
    addr_set(&s->local, s->host, ephemeral_port());
    addr_set(&s->remote, FAKE_HOST, port);
    connect_next(s, connect_try, latency_draw());
}

struct fake_socket *fake_accept_next(struct fake_socket *listener)
{
    struct list *node = list_pop(&listener->accept_queue);

    if (node == NULL)
        return NULL;
    listener->queued--;
    struct fake_socket *s = container_of(node, struct fake_socket, queue_node);
    count(s, s->program);
    s->reset_at = fake_now(); /* nobody could know before */
    return s;
}

/* Reading and writing */

static size_t unread(const struct fake_socket *s)
{
    const struct fake_pipe *in = &s->conn->pipe[1 - s->side];

    return in->arrived - in->taken;
}

static bool connected(const struct fake_socket *s)
{
    return s->conn != NULL && s->state == FAKE_CONNECTED;
}

/* EPIPE is told to writers only: in CLOSE_WAIT a read sees the end first. */
static bool read_error(const struct fake_socket *s)
{
    return s->error != 0 && s->error != EPIPE;
}

bool fake_readable(const struct fake_socket *s)
{
    if (!connected(s))
        return s->state == FAKE_REFUSED;
    return unread(s) > 0 || s->conn->pipe[1 - s->side].fin_arrived || s->error != 0 || s->reset;
}

bool fake_writable(const struct fake_socket *s)
{
    if (!connected(s))
        return s->state == FAKE_REFUSED;
    const struct fake_pipe *out = &s->conn->pipe[s->side];
    return out->written - out->arrived < out->send_room || s->error != 0 || s->reset || s->shut;
}

bool fake_more_to_read(const struct fake_socket *s)
{
    return connected(s) && (unread(s) > 0 || s->conn->pipe[1 - s->side].fin_arrived);
}

static int take_error(struct fake_socket *s)
{
    int error = s->error;

    s->error = 0;
    return -error;
}

ssize_t fake_socket_read(struct fake_socket *s, void *data, size_t size)
{
    if (!connected(s))
        return s->state == FAKE_REFUSED && s->error != 0 ? take_error(s) : -ENOTCONN;
    struct fake_pipe *in = &s->conn->pipe[1 - s->side];
    size_t n = min_size(unread(s), size);
    if (n > 0) {
        pipe_copy_out(in, data, n);
        pipe_arm(in);
        return (ssize_t)n;
    }
    if (in->fin_arrived) {
        s->told_end = true;
        return 0;
    }
    if (read_error(s))
        return take_error(s);
    return s->reset ? 0 : -EAGAIN;
}

ssize_t fake_socket_write(struct fake_socket *s, const void *data, size_t size)
{
    if (!connected(s))
        return s->state == FAKE_REFUSED && s->error != 0 ? take_error(s) : -EPIPE;
    if (s->error != 0)
        return take_error(s);
    if (s->reset || s->shut)
        return -EPIPE;
    struct fake_pipe *out = &s->conn->pipe[s->side];
    size_t n = min_size(size, out->send_room - (out->written - out->arrived));
    fake_tap_bytes(out, data, n);
    pipe_copy_in(out, data, n);
    pipe_arm(out);
    timeout_arm(s);
    return (ssize_t)n;
}

void fake_socket_shut(struct fake_socket *s)
{
    s->shut = true;
    if (!connected(s) || s->reset)
        return;
    s->conn->pipe[s->side].fin_sent = true;
    pipe_arm(&s->conn->pipe[s->side]);
}

/* Endpoints of the test */

int fake_listen(uint16_t port, int backlog)
{
    struct fake_socket *s = fake_socket_new(false);

    CHECK(fake_bind_listen(s, port, false, (unsigned)backlog) == 0);
    return s->fd;
}

int fake_dial(unsigned host, uint16_t port)
{
    struct fake_socket *s = fake_socket_new(false);

    CHECK(host >= 1 && host < FAKE_HOSTS);
    s->host = host;
    fake_connect_start(s, port);
    return s->fd;
}

int fake_accept(int fd)
{
    struct fake_socket *s = fake_accept_next(fake_socket(fd));

    return s == NULL ? -1 : s->fd;
}

static void port_set(uint8_t *ports, uint16_t port, bool on)
{
    uint8_t bit = (uint8_t)(1u << port % 8);

    ports[port / 8] = (uint8_t)(on ? ports[port / 8] | bit : ports[port / 8] & ~bit);
}

void fake_blackhole(uint16_t port, bool on)
{
    port_set(net.blackhole, port, on);
}

void fake_refuse(uint16_t port, bool on)
{
    port_set(net.refuse, port, on);
}

enum fake_state fake_state(int fd)
{
    return fake_socket(fd)->state;
}

ssize_t fake_write(int fd, const void *data, size_t size)
{
    return fake_socket_write(fake_socket(fd), data, size);
}

ssize_t fake_read(int fd, void *data, size_t size)
{
    return fake_socket_read(fake_socket(fd), data, size);
}

void fake_shutdown(int fd)
{
    fake_socket_shut(fake_socket(fd));
}

void fake_end(int fd, bool reset)
{
    fake_socket_close(fake_socket(fd), reset);
}

void fake_watch(int fd, void (*fn)(void *arg), void *arg)
{
    struct fake_socket *s = fake_socket(fd);

    s->watch = fn;
    s->watch_arg = arg;
}

uint64_t fake_connection(int fd)
{
    const struct fake_socket *s = socket_find(fd);

    return s->conn == NULL ? 0 : s->conn->id;
}

uint16_t fake_local_port(int fd)
{
    return port_of(&socket_find(fd)->local);
}

uint16_t fake_remote_port(int fd)
{
    return port_of(&socket_find(fd)->remote);
}

size_t fake_unread(int fd)
{
    const struct fake_socket *s = fake_socket(fd);

    if (s->conn == NULL)
        return 0;
    return s->conn->pipe[s->side].written - s->conn->pipe[s->side].taken;
}

uint64_t fake_reset_for(int fd, uint64_t mark)
{
    struct fake_socket *s = fake_socket(fd);

    if (!s->reset)
        return 0;
    if (s->reset_mark != mark)
        s->reset_at = fake_now();
    s->reset_mark = mark;
    return fake_now() - s->reset_at;
}

void fake_on_connection(uint16_t port, void (*fn)(int fd))
{
    net.hooked_port = port;
    net.on_connection = fn;
}

uint64_t fake_passed(int fd, int from)
{
    const struct fake_socket *s = socket_find(fd);

    return s->conn == NULL ? 0 : s->conn->pipe[from].arrived;
}

void fake_net_reset(void)
{
    fake_tap_reset();
    while (net.ready && !list_empty(&net.conns))
        conn_free(container_of(net.conns.next, struct fake_conn, node));
    for (unsigned i = 0; i < net.count; i++)
        free(net.sockets[i]);
    free(net.sockets);
    memset(&net, 0, sizeof(net));
}
