/*
 * sock: the few direct system calls on sockets: create, bind, listen, options, half-close.
 *
 * Sockets of streams and sockets of lanes are different from their first moment. A visitor or an
 * origin takes FIN for "that was all", so a stream's socket ends with RST (SO_LINGER 0), whoever
 * closes it and be it the kernel when the process dies, unless sock_set_fin has said that the end
 * is a good one. Accepted sockets inherit this from their listener, which costs a stream nothing.
 * What a peer makes of the end of a lane does not depend on how it ends (LANE_EOF is no good end
 * either), while what was said before must arrive; so lanes end with FIN.
 *
 * All sockets are close-on-exec. They are left blocking: io_uring polls by itself, and a blocking
 * socket makes RING_WAITALL sends complete in one piece. tests/fake implements the same interface
 * over simulated sockets.
 */
#ifndef CULVERT_CORE_IO_SOCK_H
#define CULVERT_CORE_IO_SOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Room for an address of either family, smaller than sockaddr_storage. */
union sock_addr {
    struct sockaddr sa;
    uint8_t bytes[28]; /* sockaddr_in6 */
    uint32_t align;
};

socklen_t sock_addr_size(const union sock_addr *addr);
uint16_t sock_addr_port(const union sock_addr *addr);
void sock_addr_set_port(union sock_addr *addr, uint16_t port);
bool sock_addr_is_loopback(const union sock_addr *addr); /* 127/8, ::1, ::ffff:127/104 */
bool sock_addr_is_any(const union sock_addr *addr);      /* 0.0.0.0, :: */

/* TCP socket for connecting a lane, TCP_NODELAY set; urgent data stands in its place
 * (SO_OOBINLINE). fd or -errno. */
int sock_dial(int family);

/* The same for a stream: it ends with RST. */
int sock_dial_stream(int family);

/* Connections to one address have a source port each, of which the kernel tries those of one parity
 * first (net.ipv4.ip_local_port_range): when these are in use, some 14,000, each connect(2) looks
 * at all of them before it turns to the others, and takes 4 ms instead of 30 us (inet_hash_connect
 * in Linux 6.18). A socket that is given a range of its own, here the system's, takes both parities
 * alike (IP_LOCAL_PORT_RANGE; Debian 12's 6.1.176 has the option and keeps to one parity all the
 * same; nothing happens where there is none). Rejected: a part of the range, which may be full
 * while other ports are free. The system's range is read by sock_find_ports, once. */
void sock_find_ports(void);
void sock_use_all_ports(int fd);

/* TCP listening socket with SO_REUSEADDR, SO_REUSEPORT if `shared`, TCP_NODELAY (inherited by
 * accepted sockets); IPv6 wildcard sockets take IPv4 too. fd or -errno. */
int sock_listen(const union sock_addr *addr, bool shared, int backlog);

/* The same, shared, whose accepted sockets are streams'. */
int sock_listen_streams(const union sock_addr *addr, int backlog);

/* A netlink socket that hears of changes of links, addresses and routes (rtnetlink(7)). fd or
 * -errno. */
int sock_netlink(void);

/* False if the local address of this connected socket is not one of this machine any more. */
bool sock_address_stands(int fd);

/* Local or remote address; zeroed (family AF_UNSPEC) on failure. False: it was reset, and has no
 * peer any more. */
void sock_local(int fd, union sock_addr *addr);
bool sock_peer(int fd, union sock_addr *addr);

/* True if something that came is left to read. */
bool sock_has_unread(int fd);

/* A lane's options: keepalive, TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT (limits.h, LANE_UNSENT). */
void sock_lane_options(int fd, uint64_t timeout_ns);

/* The socket takes so many bytes beyond what is under way (TCP_NOTSENT_LOWAT, tcp(7)); without this
 * as many as its send buffer holds. */
void sock_set_unsent(int fd, uint32_t bytes);

/* TCP asks whether the other end is still there (limits.h, PEER_QUIET_S). Visitors' sockets inherit
 * it from their listener. */
void sock_ask_peer(int fd);

/* Which of these sockets have an error that nobody was told of yet, such as a reset; a FIN is none.
 * One system call for all of them, at most SOCK_ERRORS_MAX. */
#define SOCK_ERRORS_MAX 512u
void sock_errors(const int *fds, bool *broken, unsigned count);

/* True if something waits for the other end, and that has not answered for `silence` ns, asked more
 * than once. A reader that takes nothing, but answers, is not silent. */
bool sock_is_silent(int fd, uint64_t silence);

/* True if a connection of which this end is not shut is over, by a reset or a time-out, whoever was
 * told of it (poll(2), POLLHUP). */
bool sock_is_over(int fd);

/* True if some of what was sent has not been acknowledged; *acked: bytes that have been. */
bool sock_is_waiting(int fd, uint64_t *acked);

/* A descriptor that stands for nothing, to be given up for another one. fd or -errno. */
int sock_spare(void);

/* FIN. 0 or -errno. */
int sock_shutdown_write(int fd);

/* Both directions, at once: what is in flight on this socket completes, and nothing more comes. */
void sock_shutdown(int fd);

/* True if TCP waits for an acknowledgement and has heard nothing from the other end for `silence`
 * ns, or has sent the same bytes again and again; also if it has bytes that it cannot send, because
 * this machine has no route or not the address any more (tcp(7), TCP_INFO; tcpi_probes:
 * net/ipv4/tcp_timer.c, tcp_send_probe0). */
bool sock_is_stuck(int fd, uint64_t silence);

/* The round trip as TCP sees it, smoothed, ns: without what waits in socket buffers (tcp(7),
 * TCP_INFO, tcpi_rtt). 0: not known. */
uint64_t sock_path_rtt(int fd);

/* Bytes that the other end has acknowledged so far (TCP_INFO, tcpi_bytes_acked, Linux 4.1). 0: not
 * known. */
uint64_t sock_acked(int fd);

/* A pipe, CLOEXEC and not waiting, that holds `size` bytes in pages of their own, and as many
 * pieces of other pages as it has pages. 0 or -errno: of an ordinary user -EPERM when her pipes
 * have pipe-user-pages-soft (pipe(7)). read: copies out of it. */
int sock_pipe(int pipe[2], uint32_t size);
int sock_pipe_read(int pipe, void *dst, uint32_t size);

/* Moves up to `size` bytes without a copy (splice(2)) between a pipe's end and a socket that does
 * not wait (sock_no_wait). The bytes moved, or -errno. fill: 0 at the end; -EAGAIN: the socket has
 * nothing, or the pipe takes no more. drain: -EAGAIN: the socket takes nothing. */
int sock_fill(int pipe, int fd, uint32_t size);
int sock_drain(int pipe, int fd, uint32_t size);

/* Bytes that can be read at once (SIOCINQ, tcp(7)). */
uint32_t sock_unread(int fd);

/* System calls on this socket wait for nothing (O_NONBLOCK); what is submitted to a ring waits as
 * before (tests/kernel/test_splice.c). */
void sock_no_wait(int fd);

/* The same two without a pipe, for a header in front of what is drained, which follows at once, or
 * filled. Bytes, 0 at the end, or -errno; they wait for nothing. */
int sock_send_begin(int fd, const void *src, uint32_t size);
int sock_recv_exact(int fd, void *dst, uint32_t size);

/* Bytes in a second that the path takes, as TCP sees it (tcp(7), TCP_INFO, tcpi_delivery_rate,
 * Linux 4.9). 0: not known. */
uint64_t sock_path_rate(int fd);

/* True if TCP spreads what it sends here over time by timers of its own: BBR (tcp(7),
 * TCP_CONGESTION). */
bool sock_paces(int fd);

/* Makes the coming close send RST (SO_LINGER 0), as a stream's socket does by itself. */
void sock_set_rst(int fd);

/* Makes the coming close send FIN, behind everything that waits to be sent, and again what is
 * lost. Behind FINs of both sides this matters most: there a close with linger 0 is silent, and
 * what is not acknowledged is gone (tests/kernel/test_close.c). */
void sock_set_fin(int fd);

/* Closes a socket outside of a ring (start, failed set-up). */
void sock_close(int fd);

#endif
