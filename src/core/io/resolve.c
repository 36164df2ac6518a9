/* resolve: see resolve.h. */
#include "core/io/resolve.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/io/addr.h"

/* NSS modules keep buffers on the stack; glibc's own need well under 64 KiB. */
#define STACK_SIZE (256 * KIB)

/* The result is allocated with the job, so that the helper thread cannot run out of memory. */
struct job {
    struct resolve_result *result;
    void (*done)(void *arg, struct resolve_result *result);
    void *arg;
    uint16_t port;
    char host[];
};

static void resolve_result_add(struct resolve_result *result, const union sock_addr *addr)
{
    for (unsigned i = 0; i < result->count; i++)
        if (addr_equal(&result->addr[i], addr))
            return;
    if (result->count < RESOLVE_MAX)
        result->addr[result->count++] = *addr;
}

bool resolve_numeric(const char *host, uint16_t port, struct resolve_result *out)
{
    union sock_addr addr;

    if (host[0] == '\0') {
        memset(out, 0, sizeof(*out));
        addr_from_host("::", port, &out->addr[0]);
        addr_from_host("0.0.0.0", port, &out->addr[1]);
        out->count = 2;
        return true;
    }
    if (!addr_from_host(host, port, &addr))
        return false;
    memset(out, 0, sizeof(*out));
    resolve_result_add(out, &addr);
    return true;
}

static void resolve_result_fill(struct resolve_result *result, const struct addrinfo *list,
                                uint16_t port)
{
    for (const struct addrinfo *i = list; i != NULL; i = i->ai_next) {
        union sock_addr addr = { .bytes = { 0 } };

        if (i->ai_family != AF_INET && i->ai_family != AF_INET6)
            continue;
        memcpy(&addr, i->ai_addr, min_size(i->ai_addrlen, sizeof(addr)));
        sock_addr_set_port(&addr, port);
        resolve_result_add(result, &addr);
    }
}

static void resolve_result_move(struct resolve_result *result, unsigned from, unsigned to)
{
    union sock_addr addr = result->addr[from];

    memmove(&result->addr[to + 1], &result->addr[to], (from - to) * sizeof(addr));
    result->addr[to] = addr;
}

void resolve_alternate(struct resolve_result *result)
{
    for (unsigned i = 1; i < result->count; i++) {
        unsigned other = i;

        while (other < result->count &&
               result->addr[other].sa.sa_family == result->addr[i - 1].sa.sa_family)
            other++;
        if (other == result->count)
            return;
        resolve_result_move(result, other, i);
    }
}

/* No resolver knows it either; the interface may come later. */
static bool resolve_zone_is_missing(const char *host, struct resolve_result *result)
{
    const char *zone = addr_missing_zone(host);

    if (zone != NULL)
        snprintf(result->error, sizeof(result->error),
                 "there is no interface '%s' on this machine now ('%.60s')", zone, host);
    return zone != NULL;
}

static void resolve_look_up(const char *host, uint16_t port, struct resolve_result *result)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    int error;

    if (resolve_numeric(host, port, result) || resolve_zone_is_missing(host, result))
        return;
    hints.ai_flags = AI_IDN;
    error = getaddrinfo(host, NULL, &hints, &list);
    if (error == 0)
        resolve_result_fill(result, list, port);
    resolve_alternate(result);
    if (list != NULL)
        freeaddrinfo(list);
    if (result->count == 0)
        snprintf(result->error, sizeof(result->error), "cannot resolve '%.60s': %s", host,
                 error != 0 ? gai_strerror(error) : "no IPv4 or IPv6 address");
}

static void *resolve_helper(void *opaque)
{
    struct job *job = opaque;

    resolve_look_up(job->host, job->port, job->result);
    job->done(job->arg, job->result);
    free(job);
    return NULL;
}

/* Signals belong to the engine's own threads, so the helper starts with all of them blocked. */
static bool resolve_start_thread(struct job *job)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    int error;

    if (pthread_attr_init(&attr) != 0)
        return false;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, &attr, resolve_helper, job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return error == 0;
}

bool resolve_start(const char *host, uint16_t port,
                   void (*done)(void *arg, struct resolve_result *result), void *arg)
{
    size_t size = strlen(host) + 1;
    struct job *job = malloc(sizeof(*job) + size);
    struct resolve_result *result = calloc(1, sizeof(*result));

    if (job == NULL || result == NULL)
        goto fail;
    *job = (struct job){ .result = result, .done = done, .arg = arg, .port = port };
    memcpy(job->host, host, size);
    if (resolve_start_thread(job))
        return true;
fail:
    free(result);
    free(job);
    return false;
}

void resolve_free(struct resolve_result *result)
{
    free(result);
}
