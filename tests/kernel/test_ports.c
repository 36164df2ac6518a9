/*
 * ports: what src/core/sock.c assumes of the source ports of connections.
 *
 * A socket may have a range of its own within the system's (IP_LOCAL_PORT_RANGE, Linux 6.3), in
 * which connect(2) finds ports of both parities. An older kernel refuses the option, and the
 * connection is as it would have been.
 */
#include "kernel.h"

#include "core/limits.h"
#include "core/sock.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

#define CONNECTIONS 400u

static union sock_addr target;

static int listen_somewhere(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    memset(&target, 0, sizeof(target));
    memcpy(&target, &in, sizeof(in));
    int fd = sock_listen(&target, false, CONNECTIONS);
    EXPECT(fd >= 0);
    sock_local(fd, &target);
    return fd;
}

/* The source port of a connection whose ports were narrowed. */
static unsigned port_of(uint32_t random, int *fd)
{
    union sock_addr own;

    *fd = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(*fd >= 0);
    sock_narrow_ports(*fd, random);
    EXPECT(connect(*fd, &target.sa, sock_addr_size(&target)) == 0);
    sock_local(*fd, &own);
    return sock_addr_port(&own);
}

static bool has_ranges(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint32_t range = 0;

    bool has = setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof(range)) == 0;
    EXPECT(has || errno == ENOPROTOOPT);
    close(fd);
    return has;
}

int main(void)
{
    int listener = listen_somewhere(), fds[CONNECTIONS];
    unsigned least = UINT16_MAX, most = 0, odd = 0;

    sock_find_ports();
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        unsigned port = port_of(17, &fds[i]);

        least = port < least ? port : least;
        most = port > most ? port : most;
        odd += port % 2;
    }
    if (has_ranges()) {
        EXPECT(most - least < SOCK_PORTS_WINDOW);
        EXPECT(odd > CONNECTIONS / 8 && odd < CONNECTIONS / 8 * 7);
    }
    for (unsigned i = 0; i < CONNECTIONS; i++)
        close(fds[i]);
    close(listener);
    return 0;
}
