/*
 * slab: a fixed array of equal items, named by index.
 *
 * Free items are a list in a separate array of indices, so that an item that was never used is
 * never touched: `fresh` is the first such item. Taking and giving are a few instructions; taking
 * from an empty slab says SLAB_NONE, which the caller turns into an explicit refusal.
 *
 * Which free item is taken is a property of the slab. With `apart` 0 the one that was given back
 * last: it is hot in the cache. Otherwise the one that has been free longest, and none before
 * `apart` are free, as long as there are fresh ones: between two times that an item is taken lie at
 * least `apart` - 1 others (all that stood in front of it when it came back), but for the first
 * time of an item, and as far as the slab is that large. This is for items whose index is told to
 * somebody else.
 */
#ifndef CULVERT_CORE_SLAB_H
#define CULVERT_CORE_SLAB_H

#include "core/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLAB_NONE UINT32_MAX

struct slab {
    char *items;
    uint32_t *next; /* of a free item */
    size_t item_size;
    uint32_t count;
    uint32_t apart;
    uint32_t free; /* head of the list of given-back items */
    uint32_t last; /* its tail */
    uint32_t fresh;
    uint32_t used;
    uint32_t peak;
};

/* False when memory cannot be mapped. Items are zeroed before their first use, not between uses. */
bool slab_open(struct slab *slab, size_t item_size, uint32_t count, uint32_t apart);
void slab_close(struct slab *slab);

static inline void *slab_at(const struct slab *slab, uint32_t index)
{
    CHECK(index < slab->fresh);
    return slab->items + (size_t)index * slab->item_size;
}

static inline uint32_t slab_index(const struct slab *slab, const void *item)
{
    return (uint32_t)((size_t)((const char *)item - slab->items) / slab->item_size);
}

/* An index, or SLAB_NONE. */
uint32_t slab_take(struct slab *slab);
void slab_give(struct slab *slab, uint32_t index);

static inline uint32_t slab_available(const struct slab *slab)
{
    return slab->count - slab->used;
}

#endif
