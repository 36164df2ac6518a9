/*
 * sock_fake: core/io/sock.h over the simulated network. Addresses are real structures; whom an
 * address leads to its port says alone, since all that listens is on one host; where a connection
 * comes from may be another one (fake_dial).
 */
#include "fake/fake_impl.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

socklen_t sock_addr_size(const union sock_addr *addr)
{
    return addr->sa.sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                          : sizeof(struct sockaddr_in);
}

uint16_t sock_addr_port(const union sock_addr *addr)
{
    struct sockaddr_in in;

    memcpy(&in, addr, sizeof(in));
    return ntohs(in.sin_port); /* at the same place in sockaddr_in6 */
}

void sock_addr_set_port(union sock_addr *addr, uint16_t port)
{
    struct sockaddr_in in;

    memcpy(&in, addr, sizeof(in));
    in.sin_port = htons(port);
    memcpy(addr, &in, sizeof(in));
}

bool sock_addr_is_loopback(const union sock_addr *addr)
{
    struct sockaddr_in in;

    if (addr->sa.sa_family != AF_INET)
        return false;
    memcpy(&in, addr, sizeof(in));
    return ntohl(in.sin_addr.s_addr) >> 24 == 127;
}

bool sock_addr_is_any(const union sock_addr *addr)
{
    return addr->sa.sa_family == AF_INET &&
           ((const struct sockaddr_in *)(const void *)&addr->sa)->sin_addr.s_addr == 0;
}

int sock_dial(int family)
{
    CHECK(family == AF_INET || family == AF_INET6);
    if (!fake_descriptors_left())
        return -EMFILE;
    return fake_socket_new(true)->fd;
}

void sock_find_ports(void)
{
}

void sock_use_all_ports(int fd)
{
    CHECK(fake_is_open(fd));
}

int sock_dial_stream(int family)
{
    int fd = sock_dial(family);

    if (fd >= 0)
        sock_set_rst(fd);
    return fd;
}

int sock_listen(const union sock_addr *addr, bool shared, int backlog)
{
    if (!fake_descriptors_left())
        return -EMFILE;
    struct fake_socket *s = fake_socket_new(true);
    int result = fake_bind_listen(s, sock_addr_port(addr), shared, (unsigned)backlog);
    if (result < 0) {
        fake_socket_close(s, false);
        return result;
    }
    fake_trace("fd %d: listens on %u", s->fd, fake_local_port(s->fd));
    return s->fd;
}

int sock_listen_streams(const union sock_addr *addr, int backlog)
{
    int fd = sock_listen(addr, true, backlog);

    if (fd >= 0)
        sock_set_rst(fd);
    return fd;
}

void sock_local(int fd, union sock_addr *addr)
{
    *addr = fake_socket(fd)->local;
}

bool sock_peer(int fd, union sock_addr *addr)
{
    const struct fake_socket *s = fake_socket(fd);

    *addr = s->reset ? (union sock_addr){ .sa.sa_family = AF_UNSPEC } : s->remote;
    return !s->reset;
}

bool sock_has_unread(int fd)
{
    const struct fake_socket *s = fake_socket(fd);
    const struct fake_pipe *in = &s->conn->pipe[1 - s->side];

    return in->arrived > in->taken;
}

void sock_lane_options(int fd, uint64_t expiry_ns)
{
    struct fake_socket *s = fake_socket(fd);

    CHECK(s->state != FAKE_LISTENING && expiry_ns > 0);
    s->user_timeout = expiry_ns;
}

int sock_shutdown_write(int fd)
{
    struct fake_socket *s = fake_socket(fd);

    CHECK(s->sends == 0 && s->state != FAKE_LISTENING);
    if (s->state != FAKE_CONNECTED || s->reset)
        return -ENOTCONN;
    fake_trace("fd %d: FIN", fd);
    fake_socket_shut(s);
    fake_socket_ops_consider(s);
    return 0;
}

void sock_set_rst(int fd)
{
    fake_socket(fd)->linger0 = true;
}

void sock_set_fin(int fd)
{
    fake_socket(fd)->linger0 = false;
}

static bool pipe_close(int fd);

void sock_close(int fd)
{
    if (pipe_close(fd))
        return;
    struct fake_socket *s = fake_socket(fd);

    CHECK(s->recvs == 0 && s->sends == 0 && s->others == 0);
    fake_socket_close(s, s->linger0);
}

/* The simulated network loses no packet: a path is there, or it is too narrow, or the connection is
 * cut. What TCP of a real one takes for dead may be only slow: `stuck_lies`. */
bool sock_is_stuck(int fd, uint64_t silence)
{
    const struct fake_socket *s = fake_socket(fd);

    if (s->conn == NULL)
        return false;
    const struct fake_pipe *out = &s->conn->pipe[s->side];
    if (s->conn->cut && out->written > out->arrived)
        return fake_now() >= s->conn->cut_at + silence;
    if (out->narrow_since > 0)
        return fake_now() >= out->narrow_since + silence;
    return fake_chance(fake_options()->stuck_lies);
}

void sock_set_unsent(int fd, uint32_t bytes)
{
    fake_socket(fd)->unsent = bytes;
}

uint32_t fake_unsent(int fd)
{
    return fake_socket(fd)->unsent;
}

void sock_ask_peer(int fd)
{
    (void)fake_socket(fd);
}

void sock_errors(const int *fds, bool *broken, unsigned count)
{
    CHECK(count > 0 && count <= SOCK_ERRORS_MAX);
    for (unsigned i = 0; i < count; i++)
        broken[i] = fake_socket(fds[i])->error != 0;
}

/* Local ends are never cut here. */
bool sock_is_silent(int fd, uint64_t silence)
{
    CHECK(silence > 0);
    (void)fake_socket(fd);
    return false;
}

bool sock_is_over(int fd)
{
    const struct fake_socket *s = fake_socket(fd);

    return s->conn == NULL || s->reset;
}

bool sock_is_waiting(int fd, uint64_t *acked)
{
    const struct fake_socket *s = fake_socket(fd);
    const struct fake_pipe *out = s->conn != NULL ? &s->conn->pipe[s->side] : NULL;

    *acked = out != NULL ? out->arrived : 0;
    return out != NULL && out->written > out->arrived;
}

uint64_t sock_path_rtt(int fd)
{
    (void)fd;
    return 0;
}

uint64_t sock_acked(int fd)
{
    const struct fake_socket *s = fake_socket(fd);

    return s->conn != NULL ? s->conn->pipe[s->side].arrived : 0;
}

/* Pipes: a FIFO of bytes, and two descriptors. */

struct pipe_fake {
    struct list node;
    int out, in;
    bool closed[2];
    bool full; /* of pieces, however few bytes they have */
    size_t room, head, size;
    uint8_t *data;
};

static struct list pipes = { &pipes, &pipes };

static struct pipe_fake *pipe_of(int fd)
{
    for (struct list *node = pipes.next; node != &pipes; node = node->next) {
        struct pipe_fake *p = container_of(node, struct pipe_fake, node);

        if (p->out == fd || p->in == fd)
            return p;
    }
    return NULL;
}

static void pipe_free(struct pipe_fake *p)
{
    list_remove(&p->node);
    free(p->data);
    free(p);
}

void fake_pipes_reset(void)
{
    while (!list_empty(&pipes))
        pipe_free(container_of(pipes.next, struct pipe_fake, node));
}

static bool pipe_close(int fd)
{
    struct pipe_fake *p = pipe_of(fd);

    if (p == NULL)
        return false;
    CHECK(!p->closed[fd == p->in]);
    p->closed[fd == p->in] = true;
    if (p->closed[0] && p->closed[1])
        pipe_free(p);
    return true;
}

int sock_pipe(int pipe[2], uint32_t size)
{
    const struct fake_options *o = fake_options();

    if (!fake_descriptors_left())
        return -EMFILE;
    if (fake_chance(o->pipe_fails))
        return -EPERM;
    struct pipe_fake *p = calloc(1, sizeof(*p));
    CHECK(p != NULL);
    list_append(&pipes, &p->node);
    p->room = o->pipe_most > 0 ? fake_between(1, o->pipe_most) : size;
    p->data = malloc(p->room);
    CHECK(p->data != NULL);
    pipe[0] = p->out = fake_fd_take();
    pipe[1] = p->in = fake_fd_take();
    return 0;
}

/* Up to `size` bytes that lie together; out: to be read, otherwise to be written. */
static size_t pipe_span(const struct pipe_fake *p, size_t size, bool out, uint8_t **at)
{
    size_t from = (p->head + (out ? 0 : p->size)) % p->room;
    size_t most = out ? p->size : p->room - p->size;

    *at = p->data + from;
    return min_size(min_size(size, most), p->room - from);
}

static void pipe_skip(struct pipe_fake *p, size_t size)
{
    p->head = (p->head + size) % p->room;
    p->size -= size;
    p->full = false;
}

int sock_pipe_read(int pipe, void *dst, uint32_t size)
{
    struct pipe_fake *p = pipe_of(pipe);
    uint8_t *at;

    CHECK(p != NULL && p->out == pipe);
    size_t n = pipe_span(p, size, true, &at);
    memcpy(dst, at, n);
    pipe_skip(p, n);
    return n > 0 ? (int)n : -EAGAIN;
}

/* A socket on which a system call may read, or write: nothing in flight does. */
static struct fake_socket *socket_now(int fd, bool out)
{
    struct fake_socket *s = fake_socket(fd);

    CHECK(s->program && (out ? s->sends : s->recvs) == 0);
    return s;
}

static size_t shortened(size_t size)
{
    return size > 1 && fake_chance(fake_options()->short_chance) ? fake_between(1, size) : size;
}

int sock_fill(int pipe, int fd, uint32_t size)
{
    struct pipe_fake *p = pipe_of(pipe);
    struct fake_socket *s = socket_now(fd, false);
    uint8_t *at;

    CHECK(p != NULL && p->in == pipe && s->no_wait && size > 0);
    size_t n = pipe_span(p, size, false, &at);
    if (n == 0 || p->full)
        return -EAGAIN;
    int result = (int)fake_socket_read(s, at, shortened(n));
    fake_trace("fd %d: %d bytes to a pipe", fd, result);
    if (result > 0) {
        p->size += (size_t)result;
        p->full = fake_chance(fake_options()->pipe_full);
        fake_moved();
    }
    return result;
}

static int write_now(struct fake_socket *s, const void *src, size_t size)
{
    int result = (int)fake_socket_write(s, src, shortened(size));

    return result == 0 ? -EAGAIN : result;
}

int sock_drain(int pipe, int fd, uint32_t size)
{
    struct pipe_fake *p = pipe_of(pipe);
    struct fake_socket *s = socket_now(fd, true);
    uint8_t *at;

    CHECK(p != NULL && p->out == pipe && s->no_wait && size > 0 && size <= p->size);
    size_t n = pipe_span(p, size, true, &at);
    int result = write_now(s, at, n);
    fake_trace("fd %d: %d bytes of a pipe", fd, result);
    if (result > 0) {
        pipe_skip(p, (size_t)result);
        fake_moved();
    }
    return result;
}

void sock_no_wait(int fd)
{
    fake_socket(fd)->no_wait = true;
}

uint32_t sock_unread(int fd)
{
    const struct fake_socket *s = fake_socket(fd);
    const struct fake_pipe *in = s->conn != NULL ? &s->conn->pipe[1 - s->side] : NULL;

    return in != NULL ? (uint32_t)(in->arrived - in->taken) : 0;
}

int sock_send_begin(int fd, const void *src, uint32_t size)
{
    return write_now(socket_now(fd, true), src, size);
}

int sock_recv_exact(int fd, void *dst, uint32_t size)
{
    return (int)fake_socket_read(socket_now(fd, false), dst, shortened(size));
}

/* Any: from paths that take some bytes in a second to loopback. */
uint64_t sock_path_rate(int fd)
{
    CHECK(fake_is_open(fd));
    return fake_chance(100) ? 0 : fake_between(1, UINT64_C(1) << fake_between(10, 40));
}

bool sock_paces(int fd)
{
    CHECK(fake_is_open(fd));
    return fake_chance(fake_options()->paces);
}

int sock_netlink(void)
{
    return -EPROTONOSUPPORT;
}

bool sock_address_stands(int fd)
{
    (void)fd;
    return true;
}

int sock_spare(void)
{
    return sock_dial(AF_INET); /* a socket that is never connected */
}

/* The peer sees no FIN: the callers close with RST next. */
void sock_shutdown(int fd)
{
    fake_socket_ops_end(fake_socket(fd));
}
