#!/bin/bash
# A connection that was reset before it was accepted is accepted all the same, and has no peer.
#
# A good engineer would guess from accept(2) (ECONNABORTED, "a connection has been aborted", as POSIX
# and the BSDs have it) that who was reset in the queue is not handed out, or that all questions about
# its socket fail. On Linux accept4 succeeds and says the address; getpeername(2) of the same socket
# says ENOTCONN; what was sent before the reset can be read whole, and only then ECONNRESET comes.
# io_uring's multishot accept has no place for addresses, so a server that uses it asks getpeername,
# and finds nobody: such visitors (port scans, health checks of load balancers) have no address to be
# counted at. Told apart from others by: no peer, and nothing to read.
#
# Needs gcc, and apt-get download (Debian 12's liburing 2.3-3). Prints versions and what was seen; ends
# with 1 if that has changed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
chmod 777 . # apt downloads as a user of its own
apt-get -qq download liburing-dev=2.3-3 >/dev/null
dpkg-deb -x liburing-dev_2.3-3_*.deb root

cat >reset.c <<'C'
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(what) ((what) ? (void)0 : (perror(#what), exit(2)))
#define WORDS "last words"

static struct sockaddr_in addr;

/* Returns its port. */
static int visit_and_reset(void)
{
    const struct linger reset = { .l_onoff = 1 };
    struct sockaddr_in own;
    socklen_t size = sizeof(own);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    MUST(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    MUST(getsockname(fd, (struct sockaddr *)&own, &size) == 0);
    MUST(send(fd, WORDS, strlen(WORDS), 0) == (ssize_t)strlen(WORDS));
    MUST(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
    close(fd);
    return ntohs(own.sin_port);
}

static int next(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;

    MUST(io_uring_submit_and_wait(ring, 1) >= 0 && io_uring_peek_cqe(ring, &cqe) == 0);
    int res = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return res;
}

/* Whether it is as described. */
static int look(int fd)
{
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    char bytes[64];
    int name = getpeername(fd, (struct sockaddr *)&peer, &size) == 0 ? 0 : errno;
    ssize_t first = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    int then = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) >= 0 ? 0 : errno;

    printf("  getpeername: %s\n", name == 0 ? "an address" : strerror(name));
    printf("  first read: %zd bytes of %zu; then: %s\n", first, strlen(WORDS),
           then == 0 ? "the end" : strerror(then));
    return name == ENOTCONN && first == (ssize_t)strlen(WORDS) && then == ECONNRESET;
}

int main(void)
{
    socklen_t size = sizeof(addr);
    struct sockaddr_in peer;
    struct io_uring ring;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    MUST(bind(listener, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(listener, 16) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&addr, &size) == 0);

    int port = visit_and_reset();
    size = sizeof(peer);
    int fd = accept4(listener, (struct sockaddr *)&peer, &size, 0);
    int named = fd >= 0 && ntohs(peer.sin_port) == port;
    printf("accept4: %s\n", fd < 0 ? strerror(errno) : named ? "a socket and its address" : "a socket");
    int plain = fd >= 0 && look(fd);

    MUST(io_uring_queue_init(8, &ring, 0) == 0);
    (void)visit_and_reset();
    io_uring_prep_multishot_accept(io_uring_get_sqe(&ring), listener, NULL, NULL, 0);
    fd = next(&ring);
    printf("multishot accept: %s\n", fd < 0 ? strerror(-fd) : "a socket");
    int multishot = fd >= 0 && look(fd);
    return named && plain && multishot ? 0 : 1;
}
C
gcc -O1 -D_GNU_SOURCE -I root/usr/include reset.c "$(find root -name liburing.a)" -o reset
echo "Linux $(uname -r), liburing 2.3-3"
if ./reset; then
    echo "as described above"
else
    echo "this has changed"
    exit 1
fi
