/*
 * ports: what src/core/sock.c assumes of the source ports of connections.
 *
 * A socket may have a range of its own within the system's (IP_LOCAL_PORT_RANGE, Linux 6.3, and
 * Debian 12's 6.1.176), and connect(2) keeps to it. An older kernel refuses the option, and the
 * connection is as it would have been. (6.18 takes ports of both parities from it, 6.1.176 those of
 * one as long as there are some.)
 */
#include "kernel.h"

#include "core/limits.h"
#include "core/sock.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

#define CONNECTIONS 64u

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

/* The first port of the system's range, and how many there are. */
static void range_of_system(unsigned *first, unsigned *count)
{
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    unsigned last;

    EXPECT(file != NULL && fscanf(file, "%u %u", first, &last) == 2);
    fclose(file);
    *count = last - *first + 1;
}

int main(void)
{
    int listener = listen_somewhere(), fd;
    unsigned first, count;

    range_of_system(&first, &count);
    sock_find_ports();
    bool narrow = has_ranges() && count >= 2 * SOCK_PORTS_WINDOW;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        uint32_t random = i * 2654435761u;
        unsigned begin = narrow ? first + random % (count - SOCK_PORTS_WINDOW + 1) : 0;
        unsigned end = narrow ? begin + SOCK_PORTS_WINDOW : UINT16_MAX + 1u;
        unsigned port = port_of(random, &fd);

        EXPECT(port >= begin && port < end);
        close(fd);
    }
    close(listener);
    return 0;
}
