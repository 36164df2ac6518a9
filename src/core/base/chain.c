/* chain: see chain.h. */
#include "core/base/chain.h"

#include "core/base/check.h"
#include "core/base/mem.h"

static uint32_t chain_heads(uint32_t count)
{
    uint32_t heads = 1;

    while (heads < count)
        heads *= 2;
    return heads;
}

bool chain_open(struct chain *chain, uint32_t count)
{
    CHECK(count > 0 && count <= UINT32_MAX / 2);
    *chain = (struct chain){ .mask = chain_heads(count) - 1, .count = count };
    chain->heads = mem_map(sizeof(chain->heads[0]) * (chain->mask + 1));
    chain->next = mem_map(sizeof(chain->next[0]) * count);
    if (chain->heads != NULL && chain->next != NULL)
        return true;
    chain_close(chain);
    return false;
}

void chain_close(struct chain *chain)
{
    mem_unmap(chain->heads, sizeof(chain->heads[0]) * (chain->mask + 1));
    mem_unmap(chain->next, sizeof(chain->next[0]) * chain->count);
    *chain = (struct chain){ .heads = NULL };
}

void chain_add(struct chain *chain, uint64_t hash, uint32_t item)
{
    uint32_t *head = &chain->heads[hash & chain->mask];

    CHECK(item < chain->count);
    chain->next[item] = *head;
    *head = item + 1;
}

void chain_remove(struct chain *chain, uint64_t hash, uint32_t item)
{
    uint32_t *link = &chain->heads[hash & chain->mask];

    while (*link != item + 1) {
        CHECK(*link != 0);
        chain->looked++;
        link = &chain->next[*link - 1];
    }
    *link = chain->next[item];
}

/* CHAIN_END for 0, which is no item. */
static uint32_t chain_item(struct chain *chain, uint32_t link)
{
    chain->looked += link != 0;
    return link - 1;
}

uint32_t chain_first(struct chain *chain, uint64_t hash)
{
    return chain_item(chain, chain->heads[hash & chain->mask]);
}

uint32_t chain_next(struct chain *chain, uint32_t item)
{
    return chain_item(chain, chain->next[item]);
}
