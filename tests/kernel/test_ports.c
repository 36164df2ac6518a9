/*
 * ports: what src/core/io/sock.c assumes of the source ports of connections.
 *
 * A socket may have a range of its own (IP_LOCAL_PORT_RANGE, Linux 6.3, and Debian 12's 6.1.176),
 * also one that is all of the system's, and connects. An older kernel refuses the option, and the
 * connection is as it would have been. (6.18 takes ports of both parities then, 6.1.176 those of
 * one as long as there are some: findings/connect-beyond-half-the-ports.sh.)
 */
#include "kernel.h"

#include "core/io/sock.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

static void range_of_system(unsigned *first, unsigned *last)
{
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");

    EXPECT(file != NULL && fscanf(file, "%u %u", first, last) == 2);
    fclose(file);
}

int main(void)
{
    struct sockaddr_in in = { .sin_family = 0 };
    int listener = kernel_listen(&in, false), fd = socket(AF_INET, SOCK_STREAM, 0);
    unsigned first, last;
    uint32_t range = 0;
    socklen_t size = sizeof(range);

    EXPECT(listener >= 0 && fd >= 0);
    range_of_system(&first, &last);
    sock_find_ports();
    sock_use_all_ports(fd);
    if (getsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, &size) == 0)
        EXPECT(range == (first | last << 16));
    else
        EXPECT(errno == ENOPROTOOPT);
    EXPECT(connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0);
    close(fd);
    close(listener);
    return 0;
}
