/* slab: see slab.h. */
#include "core/slab.h"

#include "core/mem.h"

bool slab_open(struct slab *slab, size_t item_size, uint32_t count)
{
    CHECK(item_size > 0 && count > 0 && count < SLAB_NONE);
    *slab = (struct slab){ .item_size = item_size, .count = count, .free = SLAB_NONE };
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
    *slab = (struct slab){ .free = SLAB_NONE };
}

uint32_t slab_take(struct slab *slab)
{
    uint32_t index = slab->free;

    if (index != SLAB_NONE)
        slab->free = slab->next[index];
    else if (slab->fresh < slab->count)
        index = slab->fresh++;
    else
        return SLAB_NONE;
    slab->used++;
    if (slab->used > slab->peak)
        slab->peak = slab->used;
    return index;
}

void slab_give(struct slab *slab, uint32_t index)
{
    CHECK(index < slab->fresh && slab->used > 0);
    slab->next[index] = slab->free;
    slab->free = index;
    slab->used--;
}
