/*
 * siege: strangers and visitors in numbers, and the listener that they are measured against. For
 * bench/attack, where what an attacker's own processor does must not be what limits him.
 *
 *     siege storm --to HOST:PORT [--from ADDR] [--keep N] [--words FILE]
 *     siege bare --listen HOST:PORT [--most N]
 *
 * storm connects as fast as it can from one address, says what is in FILE, and keeps the last N
 * connections, the oldest of which is reset when another one is made. It prints "ready" when it has
 * N, or after two seconds; when standard input ends it prints "did N". Being refused is no error.
 *
 * bare takes every connection, reads what comes and drops it. Of more than N it resets the oldest,
 * as our server does with those who do not log in: an attacker who comes again then does so here,
 * too.
 */
#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, CHUNK = 256 * 1024, WORDS_MAX = 16 * 1024, KEEP_MAX = 100 * 1000 };
#define BARE_FILES (1u << 20) /* descriptors are smaller than that (bench_raise_files) */
#define READY_NS   (2 * UINT64_C(1000000000))

struct storm {
    struct sockaddr_in to, from;
    uint64_t keep, at, did;
    uint64_t began;
    bool ready;
    int *kept; /* a ring of `keep` descriptors, -1 where there is none */
    size_t words_size;
    uint8_t words[WORDS_MAX];
};

static struct storm storm;

/* Storm */

/* A connection from the attacker's address; -1 when it was refused or is not taken. */
static int storm_connect(void)
{
    const int one = 1;
    const struct linger reset = { .l_onoff = 1 };
    const struct timeval patience = { .tv_usec = 100000 };
    int fd = bench_socket(0);

    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0)
        bench_die(errno, "setsockopt");
    if (bind(fd, (const struct sockaddr *)&storm.from, sizeof(storm.from)) != 0)
        bench_die(errno, "cannot bind the attacker's address");
    if (connect(fd, (const struct sockaddr *)&storm.to, sizeof(storm.to)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Keeps it in the place of the oldest one. */
static void storm_keep(int fd)
{
    if (storm.keep == 0) {
        close(fd);
        return;
    }
    if (storm.kept[storm.at] >= 0)
        close(storm.kept[storm.at]);
    storm.kept[storm.at] = fd;
    storm.at = (storm.at + 1) % storm.keep;
}

static void storm_one(void)
{
    int fd = storm_connect();

    if (fd < 0)
        return;
    if (storm.words_size > 0) /* may have been reset meanwhile */
        (void)!send(fd, storm.words, storm.words_size, MSG_NOSIGNAL);
    storm_keep(fd);
    storm.did++;
}

static void storm_say_ready(void)
{
    if (storm.ready || (storm.did < storm.keep && bench_now() - storm.began < READY_NS))
        return;
    storm.ready = true;
    printf("ready\n");
    (void)fflush(stdout);
}

static void *storm_run(void *unused)
{
    (void)unused;
    for (;;) {
        storm_one();
        storm_say_ready();
    }
    return NULL;
}

static void words_read(const char *name)
{
    FILE *file = name != NULL ? fopen(name, "rb") : NULL;

    if (name == NULL)
        return;
    if (file == NULL)
        bench_die(errno, "cannot read %s", name);
    storm.words_size = fread(storm.words, 1, sizeof(storm.words), file);
    (void)fclose(file);
}

static void storm_main(int argc, char **argv)
{
    const char *to = NULL, *from = "127.0.0.9", *words = NULL;
    char end[64];
    pthread_t thread;
    const struct bench_option table[] = {
        { .name = "to", .text = &to, .help = "HOST:PORT" },
        { .name = "from", .text = &from, .help = "the attacker's address (127.0.0.9)" },
        { .name = "keep", .number = &storm.keep, .help = "connections that are kept (0)" },
        { .name = "words", .text = &words, .help = "a file with what is said" },
        { .name = NULL },
    };

    bench_options(argc, argv, 2, table);
    if (to == NULL || storm.keep > KEEP_MAX)
        bench_die(0, "--to HOST:PORT is needed, and --keep up to %d", KEEP_MAX);
    storm.to = bench_addr(to);
    storm.from = (struct sockaddr_in){ .sin_family = AF_INET };
    if (inet_pton(AF_INET, from, &storm.from.sin_addr) != 1)
        bench_die(0, "--from takes a numeric IPv4 address");
    words_read(words);
    storm.kept = malloc((storm.keep + 1) * sizeof(*storm.kept));
    bench_check(storm.kept != NULL);
    memset(storm.kept, -1, (storm.keep + 1) * sizeof(*storm.kept));
    storm.began = bench_now();
    if (pthread_create(&thread, NULL, storm_run, NULL) != 0)
        bench_die(0, "no thread");
    while (read(STDIN_FILENO, end, sizeof(end)) > 0)
        ;
    printf("did %llu\n", (unsigned long long)storm.did);
    (void)fflush(stdout);
    _exit(0);
}

/* Bare */

static struct {
    uint64_t most, at;
    int *kept;       /* a ring of `most` descriptors, -1 where there is none */
    uint64_t *place; /* of a descriptor there */
} bare;

static void bare_close(int fd)
{
    if (bare.most > 0)
        bare.kept[bare.place[fd]] = -1;
    close(fd);
}

static void bare_keep(int fd)
{
    const struct linger reset = { .l_onoff = 1 };

    if (bare.most == 0)
        return;
    if (bare.kept[bare.at] >= 0) {
        (void)setsockopt(bare.kept[bare.at], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(bare.kept[bare.at]);
    }
    bare.kept[bare.at] = fd;
    bare.place[fd] = bare.at;
    bare.at = (bare.at + 1) % bare.most;
}

static void bare_accept(int epoll, int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            bench_die(errno, "epoll_ctl");
        bare_keep(fd);
    }
}

static void bare_read(int fd)
{
    static uint8_t chunk[CHUNK];
    ssize_t n = recv(fd, chunk, sizeof(chunk), 0);

    if (n < 0 && errno == EBADF) /* the oldest, closed since this event came */
        return;
    if (n == 0 || (n < 0 && errno != EAGAIN))
        bare_close(fd);
}

static void bare_main(int argc, char **argv)
{
    const char *at = NULL;
    struct epoll_event events[EVENTS];
    const struct bench_option table[] = {
        { .name = "listen", .text = &at, .help = "HOST:PORT" },
        { .name = "most", .number = &bare.most, .help = "connections; the oldest goes (no limit)" },
        { .name = NULL },
    };

    bench_options(argc, argv, 2, table);
    if (at == NULL)
        bench_die(0, "--listen HOST:PORT is needed");
    bare.kept = malloc((bare.most + 1) * sizeof(*bare.kept));
    bare.place = calloc(BARE_FILES, sizeof(*bare.place));
    bench_check(bare.kept != NULL && bare.place != NULL);
    memset(bare.kept, -1, (bare.most + 1) * sizeof(*bare.kept));
    struct sockaddr_in addr = bench_addr(at);
    int epoll = epoll_create1(EPOLL_CLOEXEC), listener = bench_listen(&addr, SOCK_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN, .data.fd = listener };

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        bench_die(errno, "epoll_ctl");
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);

        if (n < 0 && errno != EINTR)
            bench_die(errno, "epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                bare_accept(epoll, listener);
            else
                bare_read(events[i].data.fd);
        }
    }
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    bench_raise_files();
    if (argc > 1 && strcmp(argv[1], "storm") == 0)
        storm_main(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "bare") == 0)
        bare_main(argc, argv);
    bench_die(0, "usage: siege storm|bare [options] (storm --help)");
}
