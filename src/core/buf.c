/* buf: see buf.h. */
#include "core/buf.h"

#include "core/mem.h"
#include "core/ring.h"

enum { FIXED_UNKNOWN, FIXED_YES, FIXED_REFUSED };

bool buf_pool_open(struct buf_pool *pool, uint32_t small_count, uint32_t big_count)
{
    CHECK(small_count <= BUF_SMALL_COUNT && big_count >= 8 && big_count < BUF_BIG_BIT);
    /* Two at least: a TLS lane needs one for the records it receives, one for what it opens of them. */
    *pool = (struct buf_pool){ .big_reserve = (uint32_t)max_u64(big_count / 8, 2) };
    pool->big_low = (uint32_t)max_u64(big_count / 4, pool->big_reserve + 2);
    if (!slab_open(&pool->small, BUF_SMALL_SIZE, small_count) ||
        !slab_open(&pool->big, BUF_BIG_SIZE, big_count))
        return false;
    pool->small_refs = mem_map(sizeof(uint32_t) * small_count);
    pool->big_refs = mem_map(sizeof(uint32_t) * big_count);
    pool->big_fixed = mem_map(big_count);
    if (pool->small_refs == NULL || pool->big_refs == NULL || pool->big_fixed == NULL)
        return false;
    mem_no_dump(pool->small.items, (size_t)BUF_SMALL_SIZE * small_count);
    mem_no_dump(pool->big.items, (size_t)BUF_BIG_SIZE * big_count);
    return true;
}

void buf_pool_close(struct buf_pool *pool)
{
    mem_unmap(pool->small_refs, sizeof(uint32_t) * pool->small.count);
    mem_unmap(pool->big_refs, sizeof(uint32_t) * pool->big.count);
    mem_unmap(pool->big_fixed, pool->big.count);
    slab_close(&pool->small);
    slab_close(&pool->big);
}

static uint32_t *refs_of(const struct buf_pool *pool, uint32_t id)
{
    if (buf_is_big(id))
        return &pool->big_refs[id & ~BUF_BIG_BIT];
    return &pool->small_refs[id];
}

uint32_t buf_take_small(struct buf_pool *pool)
{
    uint32_t index = slab_take(&pool->small);

    if (index == SLAB_NONE)
        return BUF_NONE;
    pool->small_refs[index] = 1;
    return index;
}

uint32_t buf_take_big(struct buf_pool *pool)
{
    uint32_t index = slab_take(&pool->big);

    if (index == SLAB_NONE)
        return BUF_NONE;
    pool->big_refs[index] = 1;
    return index | BUF_BIG_BIT;
}

uint32_t buf_take_bulk(struct buf_pool *pool)
{
    if (slab_available(&pool->big) <= pool->big_reserve)
        return BUF_NONE;
    return buf_take_big(pool);
}

void buf_ref(struct buf_pool *pool, uint32_t id)
{
    uint32_t *refs = refs_of(pool, id);

    CHECK(*refs > 0 && *refs < UINT32_MAX);
    (*refs)++;
}

void buf_put(struct buf_pool *pool, uint32_t id)
{
    uint32_t *refs = refs_of(pool, id);

    CHECK(*refs > 0);
    if (--*refs > 0)
        return;
    pool->returned = true;
    if (buf_is_big(id))
        slab_give(&pool->big, id & ~BUF_BIG_BIT);
    else
        slab_give(&pool->small, id);
}

unsigned buf_refs(const struct buf_pool *pool, uint32_t id)
{
    return *refs_of(pool, id);
}

void buf_provide(struct buf_pool *pool, struct ring *ring)
{
    while (pool->provided < BUF_PROVIDED) {
        uint32_t id = buf_take_small(pool);

        if (id == BUF_NONE)
            return;
        ring_buffer_give(ring, buf_data(pool, id) + BUF_HEADROOM, BUF_SMALL_PAYLOAD, id);
        pool->provided++;
    }
}

void buf_provided_taken(struct buf_pool *pool, uint32_t id)
{
    CHECK(pool->provided > 0 && pool->small_refs[id] == 1);
    pool->provided--;
}

int buf_fixed_index(struct buf_pool *pool, struct ring *ring, uint32_t id)
{
    uint32_t index = id & ~BUF_BIG_BIT;

    CHECK(buf_is_big(id));
    if (!pool->registered)
        return -1;
    if (pool->big_fixed[index] == FIXED_UNKNOWN)
        pool->big_fixed[index] =
            ring_register_buffer(ring, index, buf_data(pool, id), BUF_BIG_SIZE) == 0
                ? FIXED_YES
                : FIXED_REFUSED;
    return pool->big_fixed[index] == FIXED_YES ? (int)index : -1;
}
