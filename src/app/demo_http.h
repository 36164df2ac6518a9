/*
 * demo_http: as much of HTTP/1.1 as the demo's origin and visitors need, on
 * blocking sockets.
 *
 * Both ends are ours, so this is no parser for the world: heads up to 8 KiB,
 * Content-Length only (RFC 9112, 6.2), no chunked coding. Plain blocking calls
 * on purpose: what the demo compares with must not depend on the code it tests.
 */
#ifndef CULVERT_APP_DEMO_HTTP_H
#define CULVERT_APP_DEMO_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "app/demo_pattern.h"

struct demo_http {
    int fd;
    size_t have; /* bytes in buf that were read behind the last head */
    char buf[8192];
};

/* Reads up to the empty line and leaves the head in `head` (terminated, without
 * the body's bytes). False with errno: 0 at a clean end before the first byte,
 * EMSGSIZE if the head is too long, EPROTO if the connection ended inside of
 * it. */
bool demo_http_read_head(struct demo_http *http, char *head, size_t size);

/* Value of Content-Length in a head; 0 if it has none. */
uint64_t demo_http_content_length(const char *head);

/* Takes body bytes, those behind the head first; like recv. */
ssize_t demo_http_recv(struct demo_http *http, void *bytes, size_t size);

/* All of it or false with errno. */
bool demo_http_send(struct demo_http *http, const void *bytes, size_t size);

/* Sends the stream's bytes [0, size). False with errno; *done is how far it
 * came. */
bool demo_http_send_pattern(struct demo_http *http, enum demo_pattern_stream stream, uint64_t size,
                            uint64_t *done);

/* Receives `size` bytes and checks each. False: errno is set, 0 at an early
 * end, EILSEQ at a wrong byte; *done is how many were right. */
bool demo_http_check_pattern(struct demo_http *http, enum demo_pattern_stream stream, uint64_t size,
                             uint64_t *done);

#endif
