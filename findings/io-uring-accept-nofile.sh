#!/bin/bash
# An accept of io_uring has the limit of open files of the moment in which it was submitted.
#
# A good engineer would guess that RLIMIT_NOFILE is looked at when a descriptor is made, as accept4(2)
# does. io_uring reads it when it takes the submission: a multishot accept that was armed under a
# high limit goes on to make descriptors when the limit has fallen below them (prlimit(1) on a
# running server, for example), while accept4 of the same process, and an accept that is armed
# afterwards, say EMFILE. So a server cannot be told to accept less by lowering its limit, and a test
# that wants to see EMFILE must lower the limit first.
#
# Needs root or nothing, gcc, and apt-get download (Debian 12's liburing 2.3-3). Prints versions and
# what was seen; ends with 1 if that has changed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
chmod 777 . # apt downloads as a user of its own
apt-get -qq download liburing-dev=2.3-3 >/dev/null
dpkg-deb -x liburing-dev_2.3-3_*.deb root

cat >accept.c <<'C'
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(what) ((what) ? (void)0 : (perror(#what), exit(2)))

static struct io_uring ring;
static struct sockaddr_in addr;

static int visit(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    MUST(fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    return fd;
}

static int next_result(void)
{
    struct io_uring_cqe *cqe;

    MUST(io_uring_submit_and_wait(&ring, 1) >= 0 && io_uring_peek_cqe(&ring, &cqe) == 0);
    int res = cqe->res;
    io_uring_cqe_seen(&ring, cqe);
    return res;
}

static const char *say(int result)
{
    return result >= 0 ? "a descriptor" : strerror(-result);
}

int main(void)
{
    socklen_t size = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0), visitors[4];
    struct rlimit limit;

    addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    MUST(bind(listener, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(listener, 16) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&addr, &size) == 0);
    MUST(io_uring_queue_init(8, &ring, 0) == 0);
    for (int i = 0; i < 4; i++) /* their descriptors are made before the limit falls */
        visitors[i] = i == 0 ? visit() : socket(AF_INET, SOCK_STREAM, 0);
    io_uring_prep_multishot_accept(io_uring_get_sqe(&ring), listener, NULL, NULL, 0);
    int first = next_result();
    MUST(first >= 0);
    MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = (rlim_t)first + 1; /* all that may be is open */
    MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    MUST(connect(visitors[1], (struct sockaddr *)&addr, sizeof(addr)) == 0);
    int armed = next_result();
    printf("accept armed before the limit fell: %s\n", say(armed));
    MUST(connect(visitors[2], (struct sockaddr *)&addr, sizeof(addr)) == 0);
    int still = next_result();
    printf("the same, once more: %s\n", say(still));
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    io_uring_prep_accept(sqe, listener, NULL, NULL, 0);
    int later = next_result();
    printf("accept submitted afterwards: %s\n", say(later));
    int plain = accept4(listener, NULL, NULL, 0) < 0 ? -errno : 0;
    printf("accept4 afterwards: %s\n", say(plain));
    return armed >= 0 && still >= 0 && later == -EMFILE && plain == -EMFILE ? 0 : 1;
}
C
gcc -O1 -D_GNU_SOURCE -I root/usr/include accept.c "$(find root -name liburing.a)" -o accept
echo "Linux $(uname -r), liburing 2.3-3"
if ./accept; then
    echo "as described above"
else
    echo "this has changed"
    exit 1
fi
