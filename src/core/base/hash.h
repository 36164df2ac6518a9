/*
 * hash: SipHash-2-4, for keys that somebody else chooses: without the secret nobody can choose many
 * that fall into one chain (chain.h).
 */
#ifndef CULVERT_CORE_BASE_HASH_H
#define CULVERT_CORE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_key {
    uint64_t words[2]; /* random */
};

uint64_t hash_bytes(const struct hash_key *key, const void *bytes, size_t size);

#endif
