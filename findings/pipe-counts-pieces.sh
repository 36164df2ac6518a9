#!/bin/bash
# A pipe of 256 KiB takes five times as much of a TCP stream, or a tenth: splice(2) counts pieces.
#
# A good engineer sets F_SETPIPE_SZ to what a relay is to have under way, and expects a pipe of 256
# KiB to take about 256 KiB: pipe(7) says that a pipe has a capacity in bytes. It has 64 places, and
# what splice(2) moves from a socket into one of them is a piece of memory as the sender's kernel, or
# the network card, has cut it: up to 32 KiB for large writes over loopback, so that it takes more
# than a megabyte; and a few hundred bytes of a stream of small writes, so that 26 KB fill it. A
# relay that bounds its memory, or its latency, by the size of its pipes bounds neither, and one that
# waits until a pipe holds a certain number of bytes may wait for ever.
#
# Needs gcc. Takes a second. Prints versions and what was seen; ends with 1 if that has changed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat >pieces.c <<'C'
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(what) ((what) ? (void)0 : (perror(#what), exit(2)))
#define PIPE (256 * 1024)

static void pair(int fds[2])
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1, big = 8 << 20;

    MUST(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big)) == 0);
    MUST(bind(listener, (struct sockaddr *)&addr, size) == 0 && listen(listener, 1) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&addr, &size) == 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    MUST(setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
    MUST(connect(fds[0], (struct sockaddr *)&addr, size) == 0);
    MUST((fds[1] = accept(listener, NULL, NULL)) >= 0);
    MUST(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
    close(listener);
}

/* What a pipe takes of a stream that is written in pieces of `size` bytes. */
static long held(size_t size)
{
    static char data[128 * 1024];
    int fds[2], ends[2];
    long total = 0;

    pair(fds);
    MUST(pipe2(ends, O_NONBLOCK) == 0 && fcntl(ends[1], F_SETPIPE_SZ, PIPE) == PIPE);
    for (int full = 0; !full;) {
        struct pollfd in = { .fd = fds[1], .events = POLLIN };
        for (int i = 0; i < 64 && write(fds[0], data, size) > 0; i++) {}
        MUST(poll(&in, 1, 5000) == 1);
        ssize_t n = splice(fds[1], NULL, ends[1], NULL, 1 << 20, SPLICE_F_NONBLOCK);
        MUST(n > 0 || errno == EAGAIN);
        total += n > 0 ? n : 0;
        full = n < 0 && poll(&in, 1, 0) == 1;
    }
    return total;
}

int main(void)
{
    printf("%ld %ld\n", held(64), held(128 * 1024));
    return 0;
}
C
gcc -O2 -o pieces pieces.c
read -r small large < <(./pieces)
echo "Linux $(uname -r), $(gcc --version | head -1)"
echo "a pipe of 262144 bytes took $small bytes of writes of 64, and $large of writes of 131072"
[ "$small" -lt 32768 ] && [ "$large" -gt 1048576 ]
