/* slab: see slab.h. */
#include "core/base/slab.h"

#include "core/base/mem.h"

CHECK_STATIC(SLAB_NONE == UINT32_MAX, "slab_is_warm: all of three lists are empty");

static size_t slab_pages_of(const struct slab *slab)
{
    return (slab->item_size * slab->count + MEM_PAGE - 1) / MEM_PAGE;
}

/* Items that have a part of this page. */
static size_t slab_items_of(const struct slab *slab, size_t page)
{
    size_t first = page * MEM_PAGE / slab->item_size;
    size_t last = ((page + 1) * MEM_PAGE - 1) / slab->item_size;

    return (last < slab->count ? last : slab->count - 1) - first + 1;
}

static bool slab_open_pages(struct slab *slab)
{
    if (slab->apart > 0 || slab->item_size % MEM_PAGE == 0)
        return true;
    slab->rests = mem_map(sizeof(slab->rests[0]) * slab_pages_of(slab));
    return slab->rests != NULL;
}

bool slab_open(struct slab *slab, size_t item_size, uint32_t count, uint32_t apart)
{
    CHECK(item_size > 0 && count > 0 && count < SLAB_NONE);
    *slab = (struct slab){ .item_size = item_size,
                           .count = count,
                           .apart = apart,
                           .free = SLAB_NONE,
                           .last = SLAB_NONE,
                           .older = SLAB_NONE,
                           .leaving = SLAB_NONE,
                           .resting = SLAB_NONE };
    slab->items = mem_map(item_size * count);
    slab->next = mem_map(sizeof(slab->next[0]) * count);
    if (slab->items != NULL && slab->next != NULL && slab_open_pages(slab))
        return true;
    slab_close(slab);
    return false;
}

void slab_close(struct slab *slab)
{
    mem_unmap(slab->items, slab->item_size * slab->count);
    mem_unmap(slab->next, sizeof(slab->next[0]) * slab->count);
    if (slab->rests != NULL)
        mem_unmap(slab->rests, sizeof(slab->rests[0]) * slab_pages_of(slab));
    *slab = (struct slab){ .free = SLAB_NONE,
                           .last = SLAB_NONE,
                           .older = SLAB_NONE,
                           .leaving = SLAB_NONE,
                           .resting = SLAB_NONE };
}

/* Whether the next item is one that was never used. */
static bool slab_wants_fresh(const struct slab *slab)
{
    uint32_t free = slab->fresh - slab->used;

    return slab->fresh < slab->count && (free == 0 || free < slab->apart);
}

static uint32_t slab_pop(struct slab *slab, uint32_t *list)
{
    uint32_t index = *list;

    if (index != SLAB_NONE)
        *list = slab->next[index];
    return index;
}

static void slab_push(struct slab *slab, uint32_t *list, uint32_t index)
{
    slab->next[index] = *list;
    *list = index;
}

/* Adds `by` to the count of each page that the item has a part of; gives back those that are
 * full. */
static void slab_count_pages(struct slab *slab, uint32_t index, int by)
{
    size_t first = index * slab->item_size / MEM_PAGE;
    size_t last = ((index + 1) * slab->item_size - 1) / MEM_PAGE;

    for (size_t page = first; page <= last; page++) {
        slab->rests[page] = (uint16_t)(slab->rests[page] + by);
        if (by > 0 && slab->rests[page] == slab_items_of(slab, page))
            mem_give_back(slab->items + page * MEM_PAGE, MEM_PAGE);
    }
}

/* When nothing came back in this period: the oldest last. */
static uint32_t slab_take_older(struct slab *slab)
{
    uint32_t index = slab_pop(slab, &slab->older);

    if (index == SLAB_NONE)
        index = slab_pop(slab, &slab->leaving);
    if (index != SLAB_NONE)
        return index;
    index = slab_pop(slab, &slab->resting);
    if (index != SLAB_NONE && slab->rests != NULL)
        slab_count_pages(slab, index, -1);
    return index;
}

uint32_t slab_take(struct slab *slab)
{
    uint32_t index = slab->free;

    if (slab_wants_fresh(slab))
        index = slab->fresh++;
    else if (index != SLAB_NONE)
        slab->free = slab->next[index];
    else if ((index = slab_take_older(slab)) == SLAB_NONE)
        return SLAB_NONE;
    slab->used++;
    if (slab->used > slab->peak)
        slab->peak = slab->used;
    return index;
}

static void slab_append(struct slab *slab, uint32_t index)
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
    if (slab->apart > 0)
        slab_append(slab, index);
    else
        slab_push(slab, &slab->free, index);
    slab->used--;
}

/* As long as some are still on their way, those behind them wait for the next period. */
void slab_age(struct slab *slab)
{
    if (slab->apart > 0 || slab->leaving != SLAB_NONE)
        return;
    slab->leaving = slab->older;
    slab->older = slab->free;
    slab->free = SLAB_NONE;
}

void slab_rest(struct slab *slab)
{
    uint32_t index = slab_pop(slab, &slab->leaving);

    CHECK(index != SLAB_NONE);
    slab_push(slab, &slab->resting, index);
    if (slab->rests != NULL)
        slab_count_pages(slab, index, 1);
    else
        mem_give_back(slab_at(slab, index), slab->item_size);
}
