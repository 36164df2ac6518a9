/*
 * demo_pattern: an endless stream of bytes that anyone can check at any
 * position.
 *
 * The stream is cut into chunks, and each chunk is a window into one table of
 * pseudo-random bytes at an offset that depends on the chunk's number. So a
 * byte that is lost, doubled, swapped or moved shows, while making the bytes
 * costs nothing (they are sent from the table) and checking them is one memcmp
 * per chunk. The windows of one stream repeat after 256 GiB. Rejected: a
 * generator per byte (it would be the slowest part of what is measured) and a
 * checksum at the end (it cannot say where the first wrong byte is).
 */
#ifndef CULVERT_APP_DEMO_PATTERN_H
#define CULVERT_APP_DEMO_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEMO_PATTERN_CHUNK (256u * 1024u)

/* Different streams, so that bytes of one that turn up in the other are wrong.
 */
enum demo_pattern_stream { DEMO_PATTERN_DOWN, DEMO_PATTERN_UP };

/* Makes the table; once, before the functions below. */
void demo_pattern_init(uint64_t seed);

/* The bytes at `position`; *size is how many of them lie there in one piece (1
 * to DEMO_PATTERN_CHUNK). */
const uint8_t *demo_pattern_at(enum demo_pattern_stream stream, uint64_t position, size_t *size);

/* True if the bytes are those of the stream at `position`; otherwise *wrong is
 * the position of the first that is not. */
bool demo_pattern_check(enum demo_pattern_stream stream, uint64_t position, const uint8_t *bytes,
                        size_t size, uint64_t *wrong);

#endif
