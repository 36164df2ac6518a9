/*
 * keepalive: what src/core/io/sock.c assumes of TCP where the other end's machine is gone.
 *
 * Accepted sockets inherit SO_KEEPALIVE and its three times from their listener, and the timer
 * runs without another call. Silence of the other end is an error of the socket then, which poll(2)
 * tells without being asked.
 *
 * While bytes wait for the other end TCP asks nothing by keepalive: it sends them again, or asks
 * for a window, for a quarter of an hour. TCP_USER_TIMEOUT would be shorter, and ends a reader that
 * is alive and only takes nothing: no option for streams.
 */
#include "kernel.h"

#include "core/io/limits.h"
#include "core/io/sock.h"

#include <linux/filter.h>

static int option_of(int fd, int level, int option)
{
    int value = -1;
    socklen_t size = sizeof(value);

    EXPECT(getsockopt(fd, level, option, &value, &size) == 0);
    return value;
}

static void set_option(int fd, int level, int option, int value)
{
    EXPECT(setsockopt(fd, level, option, &value, sizeof(value)) == 0);
}

static void expect_times(int fd, int quiet, int ask, int asks)
{
    EXPECT(option_of(fd, SOL_SOCKET, SO_KEEPALIVE) == 1);
    EXPECT(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE) == quiet);
    EXPECT(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL) == ask);
    EXPECT(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT) == asks);
}

static int streams_listener(struct sockaddr_in *in)
{
    union sock_addr addr;

    *in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    memset(&addr, 0, sizeof(addr));
    memcpy(&addr, in, sizeof(*in));
    int fd = sock_listen_streams(&addr, 16);
    EXPECT(fd >= 0);
    sock_local(fd, &addr);
    in->sin_port = htons(sock_addr_port(&addr));
    return fd;
}

/* A visitor's socket as its listener makes it, and one to an origin when it was told
 * to ask. */
static void streams_have_it(void)
{
    struct sockaddr_in in;
    int listener = streams_listener(&in);
    int dialled = sock_dial_stream(AF_INET);

    EXPECT(dialled >= 0 && connect(dialled, (struct sockaddr *)&in, sizeof(in)) == 0);
    int accepted = accept(listener, NULL, NULL);
    EXPECT(accepted >= 0);
    expect_times(accepted, PEER_QUIET_S, PEER_ASK_S, PEER_ASKS);
    sock_ask_peer(dialled);
    expect_times(dialled, PEER_QUIET_S, PEER_ASK_S, PEER_ASKS);
    EXPECT(option_of(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT) == 0);
    close(dialled);
    close(accepted);
    close(listener);
}

/* From here on nothing that arrives at this socket is taken, nor answered. */
static void deafen(int fd)
{
    struct sock_filter drop = { .code = BPF_RET | BPF_K, .k = 0 };
    struct sock_fprog program = { .len = 1, .filter = &drop };

    EXPECT(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0);
}

/* The error that poll(2) shows within so many ms without being asked for any event; 0: none. */
static int error_of(int fd, int ms)
{
    struct pollfd poll_fd = { .fd = fd };

    if (poll(&poll_fd, 1, ms) == 0)
        return 0;
    EXPECT((poll_fd.revents & POLLERR) != 0);
    return option_of(fd, SOL_SOCKET, SO_ERROR);
}

static void impatient(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 2);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

static void accepted_pair(int fds[2])
{
    struct sockaddr_in addr = { 0 };
    int listener = kernel_listen(&addr, false);

    impatient(listener);
    fds[0] = kernel_dial(&addr);
    fds[1] = accept(listener, NULL, NULL);
    EXPECT(fds[1] >= 0);
    close(listener);
}

static void close_pair(int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

static void silence_is_an_error(void)
{
    int fds[2];

    accepted_pair(fds);
    deafen(fds[0]);
    EXPECT(error_of(fds[1], 20000) == ETIMEDOUT);
    close_pair(fds);
}

static void fill(int fd)
{
    static char junk[1 << 16];

    while (send(fd, junk, sizeof(junk), MSG_DONTWAIT) > 0) {}
    EXPECT(errno == EAGAIN);
}

/* It answers, but takes nothing, for longer than silence would have been allowed. */
static void a_stalled_reader_lives(void)
{
    int fds[2];

    accepted_pair(fds);
    fill(fds[1]);
    EXPECT(error_of(fds[1], 8000) == 0);
    close_pair(fds);
}

static void user_timeout_ends_a_stalled_reader(void)
{
    int fds[2];

    accepted_pair(fds);
    set_option(fds[1], IPPROTO_TCP, TCP_USER_TIMEOUT, 1000);
    fill(fds[1]);
    EXPECT(error_of(fds[1], 20000) == ETIMEDOUT);
    close_pair(fds);
}

int main(void)
{
    streams_have_it();
    silence_is_an_error();
    a_stalled_reader_lives();
    user_timeout_ends_a_stalled_reader();
    return 0;
}
