/*
 * Shared small things of the bench programs; see util.h. Nothing here runs while something is
 * measured, except bench_now().
 */
#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

enum { FILES_WANTED = 1 << 18 };

void bench_die(int err, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (err != 0)
        fprintf(stderr, ": %s", strerror(err));
    fputc('\n', stderr);
    exit(1);
}

void bench_check_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s: %s:%d: broken invariant: %s\n", program_invocation_short_name, file, line,
            what);
    abort();
}

uint64_t bench_number(const char *text)
{
    char *end;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (end == text || errno != 0 || *text == '-')
        bench_die(0, "'%s' is not a number", text);
    switch (*end) {
    case 'g':
    case 'G':
        value <<= 10;
        __attribute__((fallthrough));
    case 'm':
    case 'M':
        value <<= 10;
        __attribute__((fallthrough));
    case 'k':
    case 'K':
        value <<= 10;
        end++;
        break;
    default:
        break;
    }
    if (*end != '\0')
        bench_die(0, "'%s' is not a number with an optional k, m or g", text);
    return value;
}

struct sockaddr_in bench_addr(const char *text)
{
    struct sockaddr_in addr = { .sin_family = AF_INET };
    const char *colon = strrchr(text, ':');
    char host[64];
    uint64_t port;

    if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
        bench_die(0, "'%s' is not HOST:PORT with a numeric IPv4 host", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    port = bench_number(colon + 1);
    if (port > 65535)
        bench_die(0, "port of '%s' is above 65535", text);
    addr.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host[0] != '\0' ? host : "127.0.0.1", &addr.sin_addr) != 1)
        bench_die(0, "'%s' is not HOST:PORT with a numeric IPv4 host", text);
    return addr;
}

int bench_socket(int type_flags)
{
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);

    if (fd < 0)
        bench_die(errno, "no socket");
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
        bench_die(errno, "TCP_NODELAY");
    return fd;
}

int bench_listen(const struct sockaddr_in *addr, int type_flags)
{
    int one = 1;
    int fd = bench_socket(type_flags);

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0)
        bench_die(errno, "SO_REUSEADDR");
    /* A ring of a process that was just killed is taken down by the kernel a moment later. */
    for (int tries = 0; bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0; tries++) {
        if (errno != EADDRINUSE || tries == 100)
            bench_die(errno, "cannot bind port %u", ntohs(addr->sin_port));
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    }
    if (listen(fd, 4096) != 0)
        bench_die(errno, "cannot listen");
    return fd;
}

uint64_t bench_raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        bench_die(errno, "RLIMIT_NOFILE");
    if (limit.rlim_max < FILES_WANTED) {
        struct rlimit more = { FILES_WANTED, FILES_WANTED };

        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return more.rlim_cur; /* allowed to root only */
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        bench_die(errno, "RLIMIT_NOFILE");
    return limit.rlim_cur;
}

uint64_t bench_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void options_help(const struct bench_option *table)
{
    printf("usage: %s [options]\n", program_invocation_short_name);
    for (; table->name != NULL; table++)
        printf("  --%-12s %s\n", table->name, table->help);
    exit(0);
}

static const struct bench_option *options_find(const struct bench_option *table, const char *arg)
{
    for (; table->name != NULL; table++)
        if (strncmp(arg, "--", 2) == 0 && strcmp(arg + 2, table->name) == 0)
            return table;
    bench_die(0, "unknown option '%s' (try --help)", arg);
}

void bench_options(int argc, char **argv, int first, const struct bench_option *table)
{
    for (int i = first; i < argc; i++) {
        const struct bench_option *option;

        if (strcmp(argv[i], "--help") == 0)
            options_help(table);
        option = options_find(table, argv[i]);
        if (option->flag != NULL) {
            *option->flag = true;
            continue;
        }
        if (++i == argc)
            bench_die(0, "--%s needs a value", option->name);
        if (option->text != NULL)
            *option->text = argv[i];
        else
            *option->number = bench_number(argv[i]);
    }
}
