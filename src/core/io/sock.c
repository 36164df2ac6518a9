/* sock: see sock.h. */
#include "core/io/sock.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/io/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <linux/rtnetlink.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

CHECK_STATIC(sizeof(struct sockaddr_in6) <= sizeof(union sock_addr), "both families fit");

static struct sockaddr_in *sock_as_in(union sock_addr *addr)
{
    return (struct sockaddr_in *)(void *)addr;
}

static struct sockaddr_in6 *sock_as_in6(union sock_addr *addr)
{
    return (struct sockaddr_in6 *)(void *)addr;
}

socklen_t sock_addr_size(const union sock_addr *addr)
{
    return addr->sa.sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                          : sizeof(struct sockaddr_in);
}

uint16_t sock_addr_port(const union sock_addr *addr)
{
    union sock_addr copy = *addr;

    return ntohs(copy.sa.sa_family == AF_INET6 ? sock_as_in6(&copy)->sin6_port
                                               : sock_as_in(&copy)->sin_port);
}

void sock_addr_set_port(union sock_addr *addr, uint16_t port)
{
    if (addr->sa.sa_family == AF_INET6)
        sock_as_in6(addr)->sin6_port = htons(port);
    else
        sock_as_in(addr)->sin_port = htons(port);
}

bool sock_addr_is_loopback(const union sock_addr *addr)
{
    union sock_addr copy = *addr;

    if (copy.sa.sa_family == AF_INET)
        return ntohl(sock_as_in(&copy)->sin_addr.s_addr) >> 24 == 127;
    if (copy.sa.sa_family != AF_INET6)
        return false;
    const struct in6_addr *ip = &sock_as_in6(&copy)->sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(ip))
        return ip->s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(ip);
}

bool sock_addr_is_any(const union sock_addr *addr)
{
    union sock_addr copy = *addr;

    if (copy.sa.sa_family == AF_INET)
        return sock_as_in(&copy)->sin_addr.s_addr == htonl(INADDR_ANY);
    return copy.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&sock_as_in6(&copy)->sin6_addr);
}

static void sock_set_int(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value,
                     sizeof(value)); /* an option refused is a hint lost */
}

static void sock_set_linger(int fd, bool rst)
{
    struct linger linger = { .l_onoff = rst, .l_linger = 0 };

    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
}

int sock_dial(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    sock_set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    sock_set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    return fd;
}

/* The times come first: SO_KEEPALIVE starts the timer with those that it finds. */
void sock_ask_peer(int fd)
{
    sock_set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, PEER_QUIET_S);
    sock_set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, PEER_ASK_S);
    sock_set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, PEER_ASKS);
    sock_set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

/* Before listen: accepted sockets have what the listening socket has at that moment. */
static void sock_set_stream(int fd)
{
    sock_set_linger(fd, true);
}

int sock_dial_stream(int family)
{
    int fd = sock_dial(family);

    if (fd >= 0)
        sock_set_stream(fd);
    return fd;
}

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51 /* uapi/linux/in.h, 6.3 */
#endif

static struct {
    uint16_t first, last; /* 0: not known */
} ports;

void sock_find_ports(void)
{
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    unsigned first, last;

    if (file == NULL)
        return;
    if (fscanf(file, "%u %u", &first, &last) == 2 && first < last && last <= UINT16_MAX) {
        ports.first = (uint16_t)first;
        ports.last = (uint16_t)last;
    }
    (void)fclose(file);
}

void sock_use_all_ports(int fd)
{
    uint32_t range = ports.first | (uint32_t)ports.last << 16;

    if (ports.first != 0)
        (void)setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof(range));
}

static int sock_listen_on(const union sock_addr *addr, bool shared, bool streams, int backlog)
{
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    sock_set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (shared)
        sock_set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (addr->sa.sa_family == AF_INET6)
        sock_set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    sock_set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    sock_set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    if (streams) {
        sock_set_stream(fd);
        sock_ask_peer(fd);
    }
    if (bind(fd, &addr->sa, sock_addr_size(addr)) != 0 || listen(fd, backlog) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int sock_listen(const union sock_addr *addr, bool shared, int backlog)
{
    return sock_listen_on(addr, shared, false, backlog);
}

int sock_listen_streams(const union sock_addr *addr, int backlog)
{
    return sock_listen_on(addr, true, true, backlog);
}

int sock_netlink(void)
{
    struct sockaddr_nl name = { .nl_family = AF_NETLINK,
                                .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                             RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&name, sizeof(name)) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

bool sock_address_stands(int fd)
{
    union sock_addr addr;
    bool stands = true;

    sock_local(fd, &addr);
    if (addr.sa.sa_family != AF_INET && addr.sa.sa_family != AF_INET6)
        return true;
    int probe = socket(addr.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sock_addr_set_port(&addr, 0);
    if (probe >= 0 && bind(probe, &addr.sa, sock_addr_size(&addr)) != 0)
        stands = errno != EADDRNOTAVAIL;
    if (probe >= 0)
        close(probe);
    return stands;
}

void sock_local(int fd, union sock_addr *addr)
{
    socklen_t size = sizeof(*addr);

    memset(addr, 0, sizeof(*addr));
    if (getsockname(fd, &addr->sa, &size) != 0)
        memset(addr, 0, sizeof(*addr));
}

bool sock_peer(int fd, union sock_addr *addr)
{
    socklen_t size = sizeof(*addr);

    memset(addr, 0, sizeof(*addr));
    if (getpeername(fd, &addr->sa, &size) == 0)
        return true;
    memset(addr, 0, sizeof(*addr));
    return false;
}

bool sock_has_unread(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void sock_set_unsent(int fd, uint32_t bytes)
{
    sock_set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)bytes);
}

void sock_lane_options(int fd, uint64_t timeout_ns)
{
    int ms = (int)min_u64(timeout_ns / NSEC_PER_MSEC, 1000UL * 3600);

    sock_set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    sock_set_unsent(fd, LANE_UNSENT);
    sock_set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    sock_set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, ms); /* RFC 5482; tcp(7) */
}

void sock_shutdown(int fd)
{
    (void)shutdown(fd, SHUT_RDWR); /* ENOTCONN: it is over anyway */
}

/* What an older kernel does not say is 0. */
static bool sock_get_tcp_info(int fd, struct tcp_info *info)
{
    socklen_t size = sizeof(*info);

    memset(info, 0, sizeof(*info));
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) == 0;
}

bool sock_is_stuck(int fd, uint64_t silence)
{
    struct tcp_info info;

    if (!sock_get_tcp_info(fd, &info))
        return false;
    bool silent = info.tcpi_last_ack_recv >= silence / NSEC_PER_MSEC;
    /* What cannot leave (no route, or the address of this end is gone) does not count as sent: TCP
     * probes, as it does a window that is closed; but then each answer makes the count of probes
     * 0. */
    if (info.tcpi_unacked == 0)
        return silent && info.tcpi_probes >= 2;
    return silent || info.tcpi_retransmits >= 3;
}

bool sock_is_silent(int fd, uint64_t silence)
{
    struct tcp_info info;

    if (!sock_get_tcp_info(fd, &info) || info.tcpi_last_ack_recv < silence / NSEC_PER_MSEC)
        return false;
    return info.tcpi_unacked > 0 ? info.tcpi_retransmits >= 2 : info.tcpi_probes >= 2;
}

bool sock_is_over(int fd)
{
    struct pollfd p = { .fd = fd };

    return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0;
}

bool sock_is_waiting(int fd, uint64_t *acked)
{
    struct tcp_info info;
    bool known = sock_get_tcp_info(fd, &info);

    *acked = info.tcpi_bytes_acked;
    return known && (info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0);
}

void sock_errors(const int *fds, bool *broken, unsigned count)
{
    struct pollfd polls[SOCK_ERRORS_MAX];

    CHECK(count > 0 && count <= SOCK_ERRORS_MAX);
    for (unsigned i = 0; i < count; i++)
        polls[i] = (struct pollfd){ .fd = fds[i] };
    bool some = poll(polls, count, 0) > 0; /* not told now (EINTR): in the next round */
    for (unsigned i = 0; i < count; i++)
        broken[i] = some && (polls[i].revents & POLLERR) != 0;
}

uint64_t sock_path_rtt(int fd)
{
    struct tcp_info info;

    return sock_get_tcp_info(fd, &info) ? info.tcpi_rtt * (NSEC_PER_MSEC / 1000) : 0;
}

uint64_t sock_acked(int fd)
{
    struct tcp_info info;

    return sock_get_tcp_info(fd, &info) ? info.tcpi_bytes_acked : 0;
}

uint64_t sock_path_rate(int fd)
{
    struct tcp_info info;

    return sock_get_tcp_info(fd, &info) ? info.tcpi_delivery_rate : 0;
}

int sock_pipe(int pipe[2], uint32_t size)
{
    if (pipe2(pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    if (fcntl(pipe[1], F_SETPIPE_SZ, (int)size) >= 0)
        return 0;
    int error = errno;
    sock_close(pipe[0]);
    sock_close(pipe[1]);
    return -error;
}

bool sock_paces(int fd)
{
    char name[16] = "";
    socklen_t size = sizeof(name);

    return getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size) == 0 &&
           strncmp(name, "bbr", 3) == 0;
}

int sock_pipe_read(int pipe, void *dst, uint32_t size)
{
    ssize_t n = read(pipe, dst, size);

    return n >= 0 ? (int)n : -errno;
}

/* One call fills as many pages as the pipe has free, however much lies in each. */
int sock_fill(int pipe, int fd, uint32_t size)
{
    ssize_t n = splice(fd, NULL, pipe, NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

    return n >= 0 ? (int)n : -errno;
}

uint32_t sock_unread(int fd)
{
    int bytes = 0;

    return ioctl(fd, SIOCINQ, &bytes) == 0 && bytes > 0 ? (uint32_t)bytes : 0;
}

int sock_drain(int pipe, int fd, uint32_t size)
{
    ssize_t n = splice(pipe, NULL, fd, NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

    return n >= 0 ? (int)n : -errno;
}

void sock_no_wait(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    CHECK(flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
}

int sock_send_begin(int fd, const void *src, uint32_t size)
{
    ssize_t n = send(fd, src, size, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE);

    return n >= 0 ? (int)n : -errno;
}

int sock_recv_exact(int fd, void *dst, uint32_t size)
{
    ssize_t n = recv(fd, dst, size, MSG_DONTWAIT);

    return n >= 0 ? (int)n : -errno;
}

int sock_spare(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);

    return fd >= 0 ? fd : -errno;
}

int sock_shutdown_write(int fd)
{
    return shutdown(fd, SHUT_WR) == 0 ? 0 : -errno;
}

void sock_set_rst(int fd)
{
    sock_set_linger(fd, true);
}

void sock_set_fin(int fd)
{
    sock_set_linger(fd, false);
}

void sock_close(int fd)
{
    (void)close(fd);
}
