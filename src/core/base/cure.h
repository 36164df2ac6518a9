/* cure: what an operator can do about an errno. One table for what keeps the program from starting,
 * and one for connections that cannot be made, so that the same trouble has the same cure
 * everywhere. */
#ifndef CULVERT_CORE_BASE_CURE_H
#define CULVERT_CORE_BASE_CURE_H

#include <stdint.h>

/* Follows strerror() in a sentence: ": raise ulimit -n", or nothing. Never NULL. */
const char *cure_text(int error);

/* The same, of a port that was to be bound: the low ones are not everybody's. */
const char *cure_bind_text(int error, uint16_t port);

/* The same, of a connection that was to be made. */
const char *cure_connect_text(int error);

#endif
