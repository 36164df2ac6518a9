/*
 * demo_origin: the small HTTP service that the demo exposes.
 *
 *   GET /          a page of text
 *   GET /bulk/N    N bytes of the DOWN pattern
 *   POST /sink     takes Content-Length bytes and answers 200 if they are the
 * UP pattern, else 400 with a sentence that names the first wrong byte
 *
 * A thread for each connection, blocking sockets: as plain as can be.
 */
#ifndef CULVERT_APP_DEMO_ORIGIN_H
#define CULVERT_APP_DEMO_ORIGIN_H

#include <stdbool.h>
#include <stdint.h>

/* What GET / returns, for visitors that compare it. */
extern const char demo_origin_page[];

/* Listens on a free port of 127.0.0.1 and serves until the process ends. False
 * with errno. */
bool demo_origin_start(uint16_t *port);

#endif
