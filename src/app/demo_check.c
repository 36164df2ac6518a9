/*
 * demo_check: see demo_check.h.
 *
 * The tunnel goes first in each row: a direct run that is quick must not have
 * warmed anything that only the tunnel pays for. Each row is printed in two
 * pieces, so that one sees which measurement is running.
 */
#include "app/demo_check.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "core/base/base.h"
#include "core/base/value.h"

static bool demo_check_bulk_row(struct demo_check *check, const char *name,
                                bool (*run)(const struct sockaddr_in *to, uint64_t bytes,
                                            double *seconds, char *error))
{
    uint64_t bytes = check->what.size;
    char size[VALUE_TEXT_MAX];
    double tunnel, direct;

    printf("  %-8s %8s       ", name, value_format_size(bytes, size));
    fflush(stdout);
    if (!run(&check->tunnel, bytes, &tunnel, check->error))
        return false;
    printf("%8.2f Gbit/s, all right     ", (double)bytes * 8 / tunnel / 1e9);
    fflush(stdout);
    if (!run(&check->direct, bytes, &direct, check->error))
        return false;
    printf("%8.2f Gbit/s\n", (double)bytes * 8 / direct / 1e9);
    fflush(stdout);
    return true;
}

static bool demo_check_request_rows(struct demo_check *check)
{
    struct demo_load_latency tunnel, direct;
    uint32_t requests = check->what.requests;

    printf("  %-21u ", requests);
    fflush(stdout);
    if (!demo_load_requests(&check->tunnel, requests, &tunnel, check->error))
        return false;
    printf("%8.0f /s, all right          ", requests / tunnel.seconds);
    fflush(stdout);
    if (!demo_load_requests(&check->direct, requests, &direct, check->error))
        return false;
    printf("%8.0f /s\n", requests / direct.seconds);
    printf("  %-21s %8.2f ms p50, %6.2f p99   %8.2f ms p50, %6.2f p99\n", "", tunnel.p50_ms,
           tunnel.p99_ms, direct.p50_ms, direct.p99_ms);
    fflush(stdout);
    return true;
}

static void *demo_check_main(void *arg)
{
    struct demo_check *check = arg;

    printf("\n  %-21s %-29s %s\n", "every byte checked", " through the tunnel",
           "   direct connection");
    check->ok = demo_check_bulk_row(check, "download", demo_load_download) &&
                demo_check_bulk_row(check, "upload", demo_load_upload);
    if (check->ok) {
        printf("  HTTP requests over %u keep-alive connections\n", DEMO_LOAD_CONNECTIONS);
        check->ok = demo_check_request_rows(check);
    }
    if (!check->ok && !check->cancelled)
        printf("failed\n");
    fflush(stdout);
    eventfd_write(check->done_event, 1);
    return NULL;
}

bool demo_check_start(struct demo_check *check)
{
    pthread_t thread;
    int error;

    check->done_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (check->done_event < 0)
        return false;
    error = pthread_create(&thread, NULL, demo_check_main, check);
    if (error != 0) {
        errno = error;
        return false;
    }
    pthread_detach(thread);
    return true;
}
