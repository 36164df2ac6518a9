/*
 * chain: finds the items of a table by a hash of their key.
 *
 * Items are numbers: a slab's indices, or places in an array. Those whose hashes end in the same
 * bits are one chain. Keys stay with the items: who looks for one walks the chain and compares.
 * There are at least as many chains as items, so that one is short as long as the hashes are spread
 * well: ids that are counted up are their own hash, what somebody else chooses is hashed with a
 * secret (hash.h).
 */
#ifndef CULVERT_CORE_BASE_CHAIN_H
#define CULVERT_CORE_BASE_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#define CHAIN_END UINT32_MAX

struct chain {
    uint32_t *heads; /* item + 1 by hash; 0: none */
    uint32_t *next;  /* item + 1 by item */
    uint32_t mask, count;
    uint64_t looked; /* items that were looked at, for tests: costs are counted, not timed */
};

/* For items 0 .. count - 1; none is in it. False when memory cannot be mapped. */
bool chain_open(struct chain *chain, uint32_t count);
void chain_close(struct chain *chain);

/* An item is in it once at most, and leaves with the hash that it came with. */
void chain_add(struct chain *chain, uint64_t hash, uint32_t item);
void chain_remove(struct chain *chain, uint64_t hash, uint32_t item);

/* The items whose hash may be this one, the newest first; CHAIN_END behind the last. */
uint32_t chain_first(struct chain *chain, uint64_t hash);
uint32_t chain_next(struct chain *chain, uint32_t item);

#endif
