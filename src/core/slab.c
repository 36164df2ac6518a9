/* slab: see slab.h. */
#include "core/slab.h"

#include "core/mem.h"

bool slab_open(struct slab *slab, size_t item_size, uint32_t count, uint32_t apart)
{
    CHECK(item_size > 0 && count > 0 && count < SLAB_NONE);
    *slab = (struct slab){
        .item_size = item_size, .count = count, .apart = apart, .free = SLAB_NONE, .last = SLAB_NONE
    };
    slab->items = mem_map(item_size * count);
    slab->next = mem_map(sizeof(slab->next[0]) * count);
    if (slab->items != NULL && slab->next != NULL)
        return true;
    slab_close(slab);
    return false;
}

void slab_close(struct slab *slab)
{
    mem_unmap(slab->items, slab->item_size * slab->count);
    mem_unmap(slab->next, sizeof(slab->next[0]) * slab->count);
    *slab = (struct slab){ .free = SLAB_NONE, .last = SLAB_NONE };
}

/* Whether the next item is one that was never used. */
static bool wants_fresh(const struct slab *slab)
{
    uint32_t free = slab->fresh - slab->used;

    return slab->fresh < slab->count && (free == 0 || free < slab->apart);
}

uint32_t slab_take(struct slab *slab)
{
    uint32_t index = slab->free;

    if (wants_fresh(slab))
        index = slab->fresh++;
    else if (index == SLAB_NONE)
        return SLAB_NONE;
    else
        slab->free = slab->next[index];
    slab->used++;
    if (slab->used > slab->peak)
        slab->peak = slab->used;
    return index;
}

static void append(struct slab *slab, uint32_t index)
{
    slab->next[index] = SLAB_NONE;
    if (slab->free == SLAB_NONE)
        slab->free = index;
    else
        slab->next[slab->last] = index;
    slab->last = index;
}

void slab_give(struct slab *slab, uint32_t index)
{
    CHECK(index < slab->fresh && slab->used > 0);
    if (slab->apart > 0) {
        append(slab, index);
    } else {
        slab->next[index] = slab->free;
        slab->free = index;
    }
    slab->used--;
}
