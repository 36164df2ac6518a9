/* demo_pattern: see demo_pattern.h. */
#include "app/demo_pattern.h"

#include <string.h>

#include "core/base/base.h"
#include "core/base/check.h"

#define OFFSETS (1024u * 1024u) /* a power of two */
/* Odd, so that all offsets are used before one comes again. */
#define STEP 40503u

CHECK_STATIC((OFFSETS & (OFFSETS - 1)) == 0, "offsets wrap by masking");

static uint64_t table[(OFFSETS + DEMO_PATTERN_CHUNK) / sizeof(uint64_t)];

/* splitmix64: https://prng.di.unimi.it/splitmix64.c, public domain. */
static uint64_t demo_pattern_next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void demo_pattern_init(uint64_t seed)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        table[i] = demo_pattern_next_random(&seed);
}

const uint8_t *demo_pattern_at(enum demo_pattern_stream stream, uint64_t position, size_t *size)
{
    uint64_t chunk = position / DEMO_PATTERN_CHUNK;
    size_t within = position % DEMO_PATTERN_CHUNK;
    uint64_t offset = (chunk * STEP + (uint64_t)stream * (OFFSETS / 2 + 7)) & (OFFSETS - 1);

    *size = DEMO_PATTERN_CHUNK - within;
    return (const uint8_t *)table + offset + within;
}

static uint64_t demo_pattern_first_difference(const uint8_t *a, const uint8_t *b)
{
    uint64_t i = 0;

    while (a[i] == b[i])
        i++;
    return i;
}

bool demo_pattern_check(enum demo_pattern_stream stream, uint64_t position, const uint8_t *bytes,
                        size_t size, uint64_t *wrong)
{
    while (size > 0) {
        size_t run;
        const uint8_t *expected = demo_pattern_at(stream, position, &run);

        run = min_size(run, size);
        if (memcmp(bytes, expected, run) != 0) {
            *wrong = position + demo_pattern_first_difference(bytes, expected);
            return false;
        }
        position += run;
        bytes += run;
        size -= run;
    }
    return true;
}
