/* hash: see hash.h. Names as in J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input
 * PRF". Words are read in this machine's order: the result is nobody else's. */
#include "core/base/hash.h"

#include "core/base/base.h"

struct hash_state {
    uint64_t v0, v1, v2, v3;
};

static uint64_t hash_turn(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static void hash_rounds(struct hash_state *s, unsigned count)
{
    for (; count > 0; count--) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = hash_turn(s->v1, 13) ^ s->v0;
        s->v3 = hash_turn(s->v3, 16) ^ s->v2;
        s->v0 = hash_turn(s->v0, 32);
        s->v2 += s->v1;
        s->v0 += s->v3;
        s->v1 = hash_turn(s->v1, 17) ^ s->v2;
        s->v3 = hash_turn(s->v3, 21) ^ s->v0;
        s->v2 = hash_turn(s->v2, 32);
    }
}

static void hash_word(struct hash_state *s, uint64_t word)
{
    s->v3 ^= word;
    hash_rounds(s, 2);
    s->v0 ^= word;
}

uint64_t hash_bytes(const struct hash_key *key, const void *bytes, size_t size)
{
    struct hash_state s = { .v0 = key->words[0] ^ UINT64_C(0x736f6d6570736575),
                            .v1 = key->words[1] ^ UINT64_C(0x646f72616e646f6d),
                            .v2 = key->words[0] ^ UINT64_C(0x6c7967656e657261),
                            .v3 = key->words[1] ^ UINT64_C(0x7465646279746573) };
    const uint8_t *at = bytes, *last = at + size / 8 * 8;
    uint64_t word, rest = 0;

    for (; at < last; at += sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        hash_word(&s, word);
    }
    memcpy(&rest, last, size % 8);
    hash_word(&s, rest | (uint64_t)size << 56);
    s.v2 ^= 0xff;
    hash_rounds(&s, 4);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
