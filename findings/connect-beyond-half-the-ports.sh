#!/bin/bash
# From the 14,117th connection to one address on, connect(2) costs a hundred times as much.
#
# A good engineer knows that one address and port of a server can be reached from some 28,000 source
# ports (net.ipv4.ip_local_port_range), and would expect connect(2) to become slow when few are left.
# It becomes slow when half of them are left, in one step: the kernel (inet_hash_connect) tries the
# ports of one parity first and leaves the others to bind(2), and it does not remember that none of
# the first is free, so that every further connection looks at all 14,116 of them again before it
# takes the first of the others. From then on a single-threaded proxy can open some 250 connections a
# second, and does nothing else. IP_LOCAL_PORT_RANGE (since Linux 6.3) on the socket, be it for the
# very same range or a part of it, makes the kernel of today take ports of both parities, and the
# cost is gone.
#
# Needs gcc, and root for a network namespace of its own. Takes some ten seconds. Prints versions and
# what was seen; ends with 1 if that has changed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat >ports.c <<'C'
#include <arpa/inet.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define IP_LOCAL_PORT_RANGE 51
#define MUST(what) ((what) ? (void)0 : (perror(#what), exit(2)))
#define HALF 14000
#define STEP 250

static struct sockaddr_in addr = { .sin_family = AF_INET };

static void accept_all(int listener)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        MUST(accept(listener, NULL, NULL) >= 0);
}

/* Microseconds of processor time for each of `count` connections, which stay open. */
static double connect_so_many(int count, uint32_t range)
{
    struct timespec a, b;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        MUST(fd >= 0);
        if (range != 0)
            MUST(setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof(range)) == 0);
        MUST(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    return ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 1e3 / count;
}

int main(void)
{
    struct rlimit files = { 16000, 16000 };
    socklen_t size = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUST(setrlimit(RLIMIT_NOFILE, &files) == 0);
    MUST(bind(listener, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&addr, &size) == 0);
    MUST(listen(listener, 4096) == 0);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0)
        accept_all(listener);
    double before = connect_so_many(HALF, 0);
    (void)connect_so_many(200, 0); /* the rest of that half, and a few */
    double beyond = connect_so_many(STEP, 0);
    double ranged = connect_so_many(STEP, 32768u | 60999u << 16);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    printf("microseconds for a connection: %.0f up to the %dth, %.0f beyond the 14,116th, %.0f there "
           "with IP_LOCAL_PORT_RANGE\n", before, HALF, beyond, ranged);
    return beyond > 10 * before && ranged < beyond / 5 ? 0 : 1;
}
C
gcc -O1 -Wall -o ports ports.c
uname -sr
gcc --version | head -1
unshare --net sh -c 'ip link set lo up && sysctl -q -w net.ipv4.ip_local_port_range="32768 60999" && ./ports'

# Seen on Linux 6.18 (gcc 12.2): microseconds for a connection: 32 up to the 14000th, 3496 beyond the
# 14,116th, 36 there with IP_LOCAL_PORT_RANGE.
