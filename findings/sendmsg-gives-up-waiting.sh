#!/bin/bash
# io_uring: a sendmsg with MSG_WAITALL on a socket with O_NONBLOCK ends in the middle after 128 waits.
#
# A good engineer reads in io_uring_prep_sendmsg(3) that MSG_WAITALL makes a send on a stream socket
# go on until all has left, finds that O_NONBLOCK does not change that (a send of many megabytes to
# a slow reader completes in one piece), and takes a short count for what it is on a blocking
# socket: the peer has reset. But the kernel counts its waits. After 128 of them it hands the request to
# a thread; send(2) waits there, sendmsg(2) looks at O_NONBLOCK and does not, and the request
# completes with what had left until then. A reader that takes a little at a time, or a machine that
# is short of memory for sockets, makes 128 waits out of a megabyte, and a connection that nothing
# has happened to is closed.
#
# Needs gcc and liburing-dev. Takes a second. Prints versions and what was seen; ends with 1 if that
# has changed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat >waits.c <<'C'
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(what) ((what) ? (void)0 : (perror(#what), exit(2)))
#define SIZE (1 << 20)

/* The result of one send of a mebibyte to a reader of 4096 bytes at a time. */
static int sent(struct io_uring *ring, int message, int flags)
{
    static char data[SIZE], some[4096];
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0), little = 4096, from, to, result;
    struct iovec iov = { .iov_base = data, .iov_len = SIZE };
    struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct io_uring_cqe *cqe;

    MUST(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)) == 0);
    MUST(bind(listener, (struct sockaddr *)&addr, size) == 0 && listen(listener, 1) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&addr, &size) == 0);
    from = socket(AF_INET, SOCK_STREAM, 0);
    MUST(setsockopt(from, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &little, sizeof(little)) == 0);
    MUST(connect(from, (struct sockaddr *)&addr, size) == 0);
    MUST((to = accept(listener, NULL, NULL)) >= 0 && fcntl(from, F_SETFL, flags) == 0);
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    if (message)
        io_uring_prep_sendmsg(sqe, from, &header, MSG_WAITALL | MSG_NOSIGNAL);
    else
        io_uring_prep_send(sqe, from, data, SIZE, MSG_WAITALL | MSG_NOSIGNAL);
    for (int tries = 0; io_uring_peek_cqe(ring, &cqe) != 0; tries++) {
        MUST(tries < 100000);
        MUST(recv(to, some, sizeof(some), MSG_DONTWAIT) >= 0 || errno == EAGAIN);
        usleep(100);
        MUST(io_uring_submit_and_get_events(ring) >= 0);
    }
    result = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    struct pollfd over = { .fd = from };
    MUST(poll(&over, 1, 0) == 0); /* nothing has happened to the connection */
    close(from);
    close(to);
    close(listener);
    return result;
}

int main(void)
{
    struct io_uring ring;
    int error = io_uring_queue_init(8, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

    MUST((errno = -error) == 0);
    printf("%d %d ", sent(&ring, 0, 0), sent(&ring, 1, 0));
    printf("%d %d\n", sent(&ring, 0, O_NONBLOCK), sent(&ring, 1, O_NONBLOCK));
    return 0;
}
C
gcc -O2 -o waits waits.c -luring
read -r send message send_nb message_nb < <(./waits)
echo "Linux $(uname -r), liburing $(pkg-config --modversion liburing), $(gcc --version | head -1)"
echo "of 1048576 bytes left: send $send, sendmsg $message; with O_NONBLOCK: send $send_nb, sendmsg $message_nb"
[ "$send" -eq 1048576 ] && [ "$message" -eq 1048576 ] && [ "$send_nb" -eq 1048576 ] &&
    [ "$message_nb" -gt 0 ] && [ "$message_nb" -lt 1048576 ]
