/*
 * bind: what a BIND costs a server that has many public ports, and how long another worker is held
 * up meanwhile. It calls the registry as a worker does, with listening sockets that stay open.
 *
 *     bind [SESSIONS] [FOREIGN]     625 sessions of 16 tunnels; so many ports of other programs
 *                                   (0) stand in front of them
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "core/base/base.h"
#include "server/registry.h"

#define FIRST_PORT 2000u
#define LAST_BINDS 160u

static union sock_addr address;
static atomic_bool over;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Another worker that comes to the registry again and again. Times: CPU of nobody else is in them
 * but what the scheduler puts there. */
static void *visit(void *arg)
{
    uint64_t *worst = arg;

    while (!over) {
        uint64_t begin = now_ns();

        (void)registry_next_id();
        *worst = max_u64(*worst, now_ns() - begin);
    }
    return NULL;
}

static uint64_t log_in(unsigned number)
{
    static const uint8_t secret[SCRAM_KEY_SIZE];
    struct registry_session session = { .id = registry_next_id(), .client.size = 16 };
    struct registry_added added;

    memcpy(session.client.bytes, &number, sizeof(number));
    if (registry_add(&session, secret, &added) != REASON_DONE)
        abort();
    return session.id;
}

static uint64_t bind_one(uint64_t id, unsigned index)
{
    static const struct registry_tunnel what = { .name = "t" };
    struct registry_wish wish = {
        .index = (uint16_t)index, .addr = &address, .what = &what, .now = now_ns()
    };
    struct registry_bound bound;
    uint64_t begin = now_ns();
    enum reason reason;

    do
        reason = registry_bind(id, &wish, &bound);
    while (bound.later);
    if (reason != REASON_DONE)
        abort();
    return now_ns() - begin;
}

static void take_foreign(unsigned count)
{
    union sock_addr at = address;

    for (unsigned i = 0; i < count; i++) {
        sock_addr_set_port(&at, (uint16_t)(FIRST_PORT + i));
        if (sock_listen(&at, false, 1) < 0)
            fprintf(stderr, "port %u is taken\n", FIRST_PORT + i);
    }
}

static void run(unsigned sessions)
{
    uint64_t *took = calloc((size_t)sessions * CONFIG_TUNNELS_MAX, sizeof(*took));
    uint64_t worst = 0;
    pthread_t visitor;
    unsigned count = 0;

    if (took == NULL || pthread_create(&visitor, NULL, visit, &worst) != 0)
        abort();
    for (unsigned i = 0; i < sessions; i++) {
        uint64_t id = log_in(i);

        for (unsigned k = 0; k < CONFIG_TUNNELS_MAX; k++)
            took[count++] = bind_one(id, k);
    }
    over = true;
    pthread_join(visitor, NULL);
    uint64_t *last = count > LAST_BINDS ? took + count - LAST_BINDS : took;
    unsigned n = (unsigned)(took + count - last);
    printf("first BIND %.1f us", (double)took[0] / 1e3);
    qsort(last, n, sizeof(*last), by_size);
    uint64_t middle = last[n / 2];
    printf("; of the last %u: median %.1f us, most %.1f us; another worker waits %.1f us at most\n",
           n, (double)middle / 1e3, (double)last[n - 1] / 1e3, (double)worst / 1e3);
    free(took);
}

int main(int argc, char **argv)
{
    struct rlimit files;
    struct config config = { .max_sessions = 4096, .start_port = FIRST_PORT };

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    address.sa.sa_family = AF_INET6;
    if (!registry_open(&config))
        return 1;
    take_foreign(argc > 2 ? (unsigned)atoi(argv[2]) : 0);
    run(argc > 1 ? (unsigned)atoi(argv[1]) : 625);
    registry_close();
    return 0;
}
