/*
 * sock_fake: core/io/sock.h over the simulated network. Addresses are real structures; whom an
 * address leads to its port says alone, since all that listens is on one host; where a connection
 * comes from may be another one (fake_dial).
 */
#include "fake/fake_impl.h"

#include <errno.h>
#include <netinet/in.h>

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

void sock_close(int fd)
{
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
