/* memory: see memory.h. */
#include "server/memory.h"

#include "core/base/base.h"
#include "core/base/check.h"

bool memory_open(struct memory *memory, const struct hash_key *key)
{
    memset(memory->items, 0, sizeof(memory->items));
    memory->key = *key;
    memory->next = 0;
    return chain_open(&memory->chain, MEMORY_COUNT);
}

void memory_close(struct memory *memory)
{
    chain_close(&memory->chain);
}

static uint64_t memory_hash(const struct memory *memory, const struct client_key *client,
                            uint16_t index)
{
    return client_key_hash(client, index, &memory->key);
}

static struct memory_item *memory_find(struct memory *memory, const struct client_key *client,
                                       uint16_t index)
{
    uint32_t i = chain_first(&memory->chain, memory_hash(memory, client, index));

    for (; i != CHAIN_END; i = chain_next(&memory->chain, i)) {
        struct memory_item *item = &memory->items[i];

        if (item->index == index && client_key_equal(&item->client, client))
            return item;
    }
    return NULL;
}

uint16_t memory_recall(struct memory *memory, const struct client_key *client, uint16_t index)
{
    const struct memory_item *item = memory_find(memory, client, index);

    return item != NULL ? item->port : 0;
}

/* The place of the oldest. */
static uint32_t memory_take(struct memory *memory)
{
    uint32_t i = memory->next++ % MEMORY_COUNT;
    const struct memory_item *item = &memory->items[i];

    if (item->client.size > 0)
        chain_remove(&memory->chain, memory_hash(memory, &item->client, item->index), i);
    return i;
}

void memory_note(struct memory *memory, const struct client_key *client, uint16_t index,
                 uint16_t port)
{
    struct memory_item *item = memory_find(memory, client, index);

    CHECK(port != 0); /* which says that nothing is known */
    if (client->size == 0)
        return;
    if (item == NULL) {
        uint32_t i = memory_take(memory);

        item = &memory->items[i];
        *item = (struct memory_item){ .client = *client, .index = index };
        chain_add(&memory->chain, memory_hash(memory, client, index), i);
    }
    item->port = port;
}
