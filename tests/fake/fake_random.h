/*
 * fake_random: the one source of chance in a simulation, so that a run can be repeated from its
 * seed.
 *
 * xoshiro256** (Blackman and Vigna, public domain), seeded through splitmix64. libc's rand is not
 * used: it differs between machines.
 */
#ifndef CULVERT_TESTS_FAKE_RANDOM_H
#define CULVERT_TESTS_FAKE_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct fake_random {
    uint64_t s[4];
};

/* A good hash of 64 bits; also makes the byte patterns that streams carry. */
static inline uint64_t fake_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline void fake_random_seed(struct fake_random *r, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++)
        r->s[i] = fake_mix(seed + i * UINT64_C(0x9e3779b97f4a7c15));
}

static inline uint64_t fake_rotl(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static inline uint64_t fake_random_next(struct fake_random *r)
{
    uint64_t result = fake_rotl(r->s[1] * 5, 7) * 9;
    uint64_t t = r->s[1] << 17;

    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = fake_rotl(r->s[3], 45);
    return result;
}

/* Evenly from [low, high]. The bias of the remainder does not matter to a test. */
static inline uint64_t fake_random_between(struct fake_random *r, uint64_t low, uint64_t high)
{
    return low + fake_random_next(r) % (high - low + 1);
}

/* From [low, high] with small values as likely as large ones: first a number of bits, then the
 * bits. low >= 1. */
static inline uint64_t fake_random_size(struct fake_random *r, uint64_t low, uint64_t high)
{
    unsigned span = 63U - (unsigned)__builtin_clzll(high / low);
    uint64_t top = low << fake_random_between(r, 0, span);

    top = top * 2 > high ? high : top * 2;
    return fake_random_between(r, low, top);
}

/* True `permille` times in a thousand. */
static inline bool fake_random_chance(struct fake_random *r, unsigned permille)
{
    return permille > 0 && fake_random_next(r) % 1000 < permille;
}

#endif
