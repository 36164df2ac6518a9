/*
 * demo_load: the demo's visitors. Each function blocks, measures, checks every
 * byte that comes back, and on failure leaves one sentence in `error`.
 */
#ifndef CULVERT_APP_DEMO_LOAD_H
#define CULVERT_APP_DEMO_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define DEMO_LOAD_ERROR_MAX   256u
#define DEMO_LOAD_CONNECTIONS 64u

/* A visitor that sees no progress for this long gives up. */
#define DEMO_LOAD_STALL_SECONDS 30

struct demo_load_latency {
    double seconds; /* from the first request to the last answer */
    double p50_ms, p99_ms;
};

/* GET /bulk/N, one stream. */
bool demo_load_download(const struct sockaddr_in *to, uint64_t bytes, double *seconds, char *error);

/* POST /sink, one stream; the origin checks. */
bool demo_load_upload(const struct sockaddr_in *to, uint64_t bytes, double *seconds, char *error);

/* `requests` times GET / over DEMO_LOAD_CONNECTIONS keep-alive connections at
 * once. */
bool demo_load_requests(const struct sockaddr_in *to, uint32_t requests,
                        struct demo_load_latency *latency, char *error);

#endif
