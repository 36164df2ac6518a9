/*
 * loadgen's connections that are merely there: hold (many idle ones) and stall (a visitor that asks
 * for bulk and never reads).
 *
 * One source address has about 28,000 ports towards one destination, so hold moves on to the next
 * 127.0.0.x every PER_SOURCE connections; IP_BIND_ADDRESS_NO_PORT leaves the port to connect().
 * Each held connection has echoed a byte before it counts: it exists on the whole path, not only at
 * the first hop.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PER_SOURCE = 20000, AT_ONCE = 128, PATIENCE_MS = 10000 };

static int hold_dial(const struct load_config *config, unsigned i)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    const struct sockaddr_in *to = &config->to[i % config->to_count];
    int one = 1;
    int fd = bench_socket(0);

    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + i / PER_SOURCE);
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) != 0)
        bench_die(errno, "IP_BIND_ADDRESS_NO_PORT");
    if (bind(fd, (const struct sockaddr *)&from, sizeof(from)) != 0)
        bench_die(errno, "cannot bind a source address");
    if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) != 0)
        bench_die(errno, "cannot connect number %u", i);
    return fd;
}

/* Sends one byte on fds[0..count) and waits for it on each. Returns how many came back. */
static unsigned echo_all(const int *fds, unsigned count)
{
    unsigned good = 0;
    char byte = 'e';

    for (unsigned i = 0; i < count; i++)
        if (send(fds[i], &byte, 1, MSG_NOSIGNAL) != 1)
            return good;
    for (unsigned i = 0; i < count; i++) {
        struct pollfd poller = { .fd = fds[i], .events = POLLIN };

        if (poll(&poller, 1, PATIENCE_MS) == 1 && recv(fds[i], &byte, 1, 0) == 1)
            good++;
    }
    return good;
}

/* In portions, so that no backlog on the way overflows. */
static unsigned echo_portions(const int *fds, unsigned count)
{
    unsigned good = 0;

    for (unsigned i = 0; i < count; i += AT_ONCE)
        good += echo_all(fds + i, count - i < AT_ONCE ? count - i : AT_ONCE);
    return good;
}

static void say(const char *what, unsigned n)
{
    printf("%s %u\n", what, n);
    fflush(stdout);
}

void load_hold(const struct load_config *config)
{
    int *fds = calloc(config->connections, sizeof(*fds));
    unsigned good = 0;
    char line[64];

    bench_check(fds != NULL);
    for (unsigned i = 0; i < config->connections; i++) {
        fds[i] = hold_dial(config, i);
        if (i % AT_ONCE == AT_ONCE - 1 || i + 1 == config->connections)
            good += echo_all(fds + i / AT_ONCE * AT_ONCE, i % AT_ONCE + 1);
    }
    say("ready", good);
    while (fgets(line, sizeof(line), stdin) != NULL)
        say("alive", echo_portions(fds, config->connections));
    free(fds);
}

void load_stall(const struct load_config *config)
{
    char line[64];

    for (unsigned i = 0; i < config->connections; i++) {
        int fd = hold_dial(config, i);

        if (send(fd, "b", 1, MSG_NOSIGNAL) != 1)
            bench_die(errno, "the path lost a connection");
    }
    say("ready", config->connections);
    while (fgets(line, sizeof(line), stdin) != NULL)
        continue;
}
