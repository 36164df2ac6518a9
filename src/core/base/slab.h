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
 *
 * Memory is given back (slab_age, slab_rest; not with `apart`). Items that come back form a stack,
 * so those that nobody needed lie at its bottom: the stack of one period is put under that of the
 * next as a whole, and what is left of it when the next is over was free all the time. So neither
 * taking nor giving has to note anything. What was free so long rests: its pages go back to the
 * kernel, an item at a time, and it is taken again when no other is free, before a fresh one, which
 * it resembles: it is zeros. Of items that do not fill pages, a page goes when all that have a part
 * of it rest.
 */
#ifndef CULVERT_CORE_BASE_SLAB_H
#define CULVERT_CORE_BASE_SLAB_H

#include "core/base/check.h"

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
    uint32_t free;    /* head of the list of given-back items */
    uint32_t last;    /* its tail, with `apart` */
    uint32_t older;   /* head of the list of those that came back in the period before */
    uint32_t leaving; /* of those that were free for a whole period: they are to rest */
    uint32_t resting; /* of those without pages */
    uint16_t *rests; /* of each page: resting items that have a part of it; NULL: items are pages */
    uint32_t fresh;
    uint32_t used;
    uint32_t peak;
};

/* False when memory cannot be mapped. Items are zeroed before their first use, and when they have
 * rested, not otherwise between uses. */
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

/* A period is over. */
void slab_age(struct slab *slab);

/* The next item that is to rest, SLAB_NONE if none is; and it rests. */
static inline uint32_t slab_leaving(const struct slab *slab)
{
    return slab->leaving;
}
void slab_rest(struct slab *slab);

/* True if items are free that do not rest. */
static inline bool slab_is_warm(const struct slab *slab)
{
    return slab->apart == 0 && (slab->free & slab->older & slab->leaving) != SLAB_NONE;
}

static inline uint32_t slab_available(const struct slab *slab)
{
    return slab->count - slab->used;
}

#endif
