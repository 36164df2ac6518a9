/*
 * The parts of loadgen: one request-and-reply format (exchange), one function per mode, one report.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "histogram.h"
#include "util.h"

enum { LOAD_TARGETS_MAX = 16 };

struct load_config {
    struct sockaddr_in to[LOAD_TARGETS_MAX]; /* several only for hold: connections take turns */
    unsigned to_count;
    unsigned connections;
    double rate;      /* open: requests per second over all connections */
    double seconds;   /* measured time */
    double warm;      /* seconds before that */
    size_t size;      /* bytes of an echo request and of its reply */
    const char *path; /* HTTP path; NULL means echo */
    bool up;          /* bulk: send instead of receive */
    bool json;
};

/* Exchange: one request and when its reply is complete */

enum exchange_state { EXCHANGE_MORE, EXCHANGE_DONE, EXCHANGE_BAD };

struct exchange {
    bool http;
    size_t size;
    size_t left; /* bytes of the reply still to come; HTTP: of its body, once in_body */
    bool in_body;
    size_t head_len;
    char head[2048]; /* HTTP head gathered so far */
};

/* The request every exchange sends; valid until the next call. `close` asks HTTP to close
 * afterwards. */
const uint8_t *exchange_request(const struct load_config *config, bool close, size_t *len);

/* Before each request. */
void exchange_begin(struct exchange *x, const struct load_config *config);

/* Bytes of the reply. More than the reply, or a head without Content-Length, is BAD. */
enum exchange_state exchange_feed(struct exchange *x, const uint8_t *data, size_t len);

/* Results */

struct load_result {
    struct histogram latency; /* nanoseconds */
    uint64_t requests;        /* completed in the measured time */
    uint64_t errors;          /* connections lost or refused, replies that were wrong */
    uint64_t late;            /* open: due but never answered */
    uint64_t bytes;           /* bulk */
    double seconds;           /* measured time */
};

/* One line of JSON, or some lines of text, on stdout. */
void load_report(const struct load_config *config, const char *mode,
                 const struct load_result *result);

/* Modes; each fills the result or exits 1 with a sentence */

/* Constant rate, whatever the answers do; latency runs from the moment a request was due. */
void load_open(const struct load_config *config, struct load_result *result);

/* On each of `connections` connections the next request when the reply is there. */
void load_rr(const struct load_config *config, struct load_result *result);

/* A new connection for each request, `connections` at once; latency runs from connect(). */
void load_crr(const struct load_config *config, struct load_result *result);

/* Bytes as fast as they go over `connections` connections. */
void load_bulk(const struct load_config *config, struct load_result *result);

/* Opens `connections` connections from 127.0.0.2 onward, echoes one byte over each to know that it
 * reaches the origin, prints "ready N" and keeps them. A line on stdin echoes a byte over each
 * again and prints "alive N"; the end of stdin ends it. */
void load_hold(const struct load_config *config);

/* Asks for bulk on `connections` connections and never reads; prints "ready N"; until stdin ends.
 * */
void load_stall(const struct load_config *config);

#endif
