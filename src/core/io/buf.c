/* buf: see buf.h. */
#include "core/io/buf.h"

#include "core/base/mem.h"
#include "core/base/pinned.h"
#include "core/io/ring.h"

/* A huge page counts whole, once, with the first registered buffer that has a part of it. */
#define HUGE_PAGE (2 * MIB)

enum { FIXED_UNKNOWN, FIXED_YES, FIXED_REFUSED };

bool buf_pool_open(struct buf_pool *pool, struct share_tree *tree, uint32_t small_count,
                   uint32_t big_count)
{
    CHECK(small_count <= BUF_SMALL_COUNT && big_count >= 8 && big_count < BUF_BIG_BIT);
    /* Two at least: a TLS lane needs one for the records it receives, one for what it opens of
     * them. */
    *pool = (struct buf_pool){ .pool = &tree->pool,
                               .big_reserve = (uint32_t)max_u64(big_count / 64, 2) };
    tree->capacity[SHARE_SMALL] = small_count;
    tree->capacity[SHARE_BIG] = big_count;
    if (!pipe_pool_open(&pool->pipes, tree, PIPES_COUNT) ||
        !slab_open(&pool->small, BUF_SMALL_SIZE, small_count, 0) ||
        !slab_open(&pool->big, BUF_BIG_SIZE, big_count, 0))
        return false;
    pool->small_refs = mem_map(sizeof(uint32_t) * small_count);
    pool->big_refs = mem_map(sizeof(uint32_t) * big_count);
    pool->big_fixed = mem_map(big_count);
    pool->small_owner = mem_map(sizeof(pool->small_owner[0]) * small_count);
    pool->big_owner = mem_map(sizeof(pool->big_owner[0]) * big_count);
    if (pool->small_refs == NULL || pool->big_refs == NULL || pool->big_fixed == NULL ||
        pool->small_owner == NULL || pool->big_owner == NULL)
        return false;
    mem_no_dump(pool->small.items, (size_t)BUF_SMALL_SIZE * small_count);
    mem_no_dump(pool->big.items, (size_t)BUF_BIG_SIZE * big_count);
    return true;
}

void buf_pool_close(struct buf_pool *pool)
{
    pinned_drop(pool->pinned);
    pool->pinned = 0;
    mem_unmap(pool->small_refs, sizeof(uint32_t) * pool->small.count);
    mem_unmap(pool->big_refs, sizeof(uint32_t) * pool->big.count);
    mem_unmap(pool->big_fixed, pool->big.count);
    mem_unmap(pool->small_owner, sizeof(pool->small_owner[0]) * pool->small.count);
    mem_unmap(pool->big_owner, sizeof(pool->big_owner[0]) * pool->big.count);
    pipe_pool_close(&pool->pipes);
    slab_close(&pool->small);
    slab_close(&pool->big);
}

static uint32_t *buf_refs_of(const struct buf_pool *pool, uint32_t id)
{
    if (buf_is_big(id))
        return &pool->big_refs[id & ~BUF_BIG_BIT];
    return &pool->small_refs[id];
}

static struct buf_owner *buf_owner_of(const struct buf_pool *pool, uint32_t id)
{
    if (buf_is_big(id))
        return &pool->big_owner[id & ~BUF_BIG_BIT];
    return &pool->small_owner[id];
}

static enum share_kind buf_kind_of(uint32_t id)
{
    return buf_is_big(id) ? SHARE_BIG : SHARE_SMALL;
}

uint32_t buf_take_small(struct buf_pool *pool, struct share *owner)
{
    uint32_t index = slab_take(&pool->small);

    if (index == SLAB_NONE)
        return BUF_NONE;
    pool->small_refs[index] = 1;
    pool->small_owner[index].share = owner;
    share_take(owner, SHARE_SMALL, 1);
    return index;
}

uint32_t buf_take_big(struct buf_pool *pool, struct share *owner)
{
    uint32_t index = slab_take(&pool->big);

    if (index == SLAB_NONE)
        return BUF_NONE;
    CHECK(pool->big_refs[index] == 0); /* both ends of its being free */
    pool->big_refs[index] = 1;
    pool->big_owner[index].share = owner;
    share_take(owner, SHARE_BIG, 1);
    return index | BUF_BIG_BIT;
}

uint32_t buf_take_pipe(struct buf_pool *pool, struct share *owner, uint64_t now)
{
    uint32_t id = pipe_take(&pool->pipes, owner, now);

    return id != PIPE_NONE ? id | BUF_PIPE_BIT : BUF_NONE;
}

uint32_t buf_take_allowed(struct buf_pool *pool, struct share *owner)
{
    return share_may(owner, SHARE_SMALL, 1) ? buf_take_small(pool, owner) : BUF_NONE;
}

uint32_t buf_take_bulk(struct buf_pool *pool, struct share *owner)
{
    if (slab_available(&pool->big) <= pool->big_reserve || !share_may(owner, SHARE_BIG, 1))
        return BUF_NONE;
    return buf_take_big(pool, owner);
}

void buf_charge(struct buf_pool *pool, uint32_t id, struct share *owner)
{
    if (buf_is_pipe(id)) {
        pipe_charge(&pool->pipes, buf_pipe(id), owner);
        return;
    }
    struct buf_owner *now = buf_owner_of(pool, id);

    if (now->share == owner)
        return;
    share_move(now->share, owner, buf_kind_of(id), 1);
    now->share = owner;
}

void buf_ref(struct buf_pool *pool, uint32_t id)
{
    uint32_t *refs = buf_refs_of(pool, id);

    CHECK(*refs > 0 && *refs < UINT32_MAX);
    (*refs)++;
}

void buf_put(struct buf_pool *pool, uint32_t id)
{
    if (buf_is_pipe(id)) {
        pipe_give(&pool->pipes, buf_pipe(id));
        return;
    }
    uint32_t *refs = buf_refs_of(pool, id);

    CHECK(*refs > 0);
    if (--*refs > 0)
        return;
    share_give(buf_owner_of(pool, id)->share, buf_kind_of(id), 1);
    pool->returned = true;
    if (buf_is_big(id))
        slab_give(&pool->big, id & ~BUF_BIG_BIT);
    else
        slab_give(&pool->small, id);
}

unsigned buf_refs(const struct buf_pool *pool, uint32_t id)
{
    return buf_is_pipe(id) ? 1 : *buf_refs_of(pool, id);
}

void buf_provide(struct buf_pool *pool, struct ring *ring)
{
    while (pool->provided < BUF_PROVIDED) {
        uint32_t id = buf_take_small(pool, pool->pool);

        if (id == BUF_NONE)
            return;
        ring_buffer_give(ring, buf_data(pool, id) + BUF_HEADROOM, BUF_SMALL_PAYLOAD, id);
        pool->provided++;
    }
}

void buf_provided_taken(struct buf_pool *pool, uint32_t id, struct share *owner)
{
    CHECK(pool->provided > 0 && pool->small_refs[id] == 1);
    pool->provided--;
    buf_charge(pool, id, owner);
}

static bool buf_is_fixed(const struct buf_pool *pool, uint32_t index)
{
    return index < pool->big.count && pool->big_fixed[index] == FIXED_YES;
}

static uintptr_t buf_first_huge(const struct buf_pool *pool, uint32_t index)
{
    return (uintptr_t)slab_at(&pool->big, index) / HUGE_PAGE;
}

static uintptr_t buf_last_huge(const struct buf_pool *pool, uint32_t index)
{
    return ((uintptr_t)slab_at(&pool->big, index) + BUF_BIG_SIZE - 1) / HUGE_PAGE;
}

/* Whether another registered buffer has a part of this huge page: two neighbours each way may. */
static bool buf_is_counted(const struct buf_pool *pool, uint32_t index, uintptr_t huge)
{
    uint32_t first = index > 2 ? index - 2 : 0;

    for (uint32_t i = first; i <= index + 2; i++)
        if (i != index && buf_is_fixed(pool, i) && buf_first_huge(pool, i) <= huge &&
            buf_last_huge(pool, i) >= huge)
            return true;
    return false;
}

/* The most that the kernel may count for it beside the others: whether there are huge pages is not
 * known. */
static uint64_t buf_cost_of(const struct buf_pool *pool, uint32_t index)
{
    uint64_t cost = 0;

    for (uintptr_t huge = buf_first_huge(pool, index); huge <= buf_last_huge(pool, index); huge++)
        cost += buf_is_counted(pool, index, huge) ? 0 : HUGE_PAGE;
    return cost;
}

static bool buf_fix(struct buf_pool *pool, struct ring *ring, uint32_t index)
{
    uint64_t cost = buf_cost_of(pool, index);

    if (!pinned_try(cost))
        return false;
    if (ring_register_buffer(ring, index, slab_at(&pool->big, index), BUF_BIG_SIZE) != 0) {
        pinned_drop(cost);
        return false;
    }
    pool->pinned += cost;
    return true;
}

int buf_fixed_index(struct buf_pool *pool, struct ring *ring, uint32_t id)
{
    uint32_t index = id & ~BUF_BIG_BIT;

    CHECK(buf_is_big(id) && pool->big_refs[index] > 0);
    if (!pool->registered)
        return -1;
    if (pool->big_fixed[index] == FIXED_UNKNOWN)
        pool->big_fixed[index] = buf_fix(pool, ring, index) ? FIXED_YES : FIXED_REFUSED;
    return pool->big_fixed[index] == FIXED_YES ? (int)index : -1;
}

/* Whether number a was given before b: they are less than half a turn of the counter apart. */
static bool buf_is_before(uint16_t a, uint16_t b)
{
    return (int16_t)(uint16_t)(a - b) < 0;
}

CHECK_STATIC(BUF_SMALL_SIZE % MEM_PAGE == 0, "small buffers are pages");

uint16_t buf_lent_rest(struct buf_pool *pool, struct ring *ring, uint16_t next, uint16_t until,
                       unsigned most)
{
    uint16_t first = (uint16_t)(ring_buffers_given(ring) - pool->provided);

    CHECK(!ring_has_more(ring));
    if (buf_is_before(next, first))
        next = first;
    for (; buf_is_before(next, until) && most > 0; next++, most--) {
        uint32_t id = ring_buffer_at(ring, next);

        CHECK(!buf_is_big(id) && pool->small_refs[id] == 1);
        mem_give_back(slab_at(&pool->small, id), BUF_SMALL_SIZE);
    }
    return buf_is_before(next, until) ? next : until;
}

/* The kernel must not go on with pages that are no longer ours. */
static bool buf_unfix(struct buf_pool *pool, struct ring *ring, uint32_t index)
{
    if (pool->big_fixed[index] == FIXED_YES) {
        if (ring_unregister_buffer(ring, index) != 0)
            return false;
        uint64_t cost = buf_cost_of(pool, index);
        CHECK(pool->pinned >=
              cost); /* a huge page was counted with the first, goes with the last */
        pinned_drop(cost);
        pool->pinned -= cost;
    }
    pool->big_fixed[index] = FIXED_UNKNOWN; /* one that was refused may ask again */
    return true;
}

bool buf_rest(struct buf_pool *pool, struct ring *ring)
{
    uint32_t index = slab_leaving(&pool->big);

    CHECK(index != SLAB_NONE && pool->big_refs[index] == 0);
    if (!buf_unfix(pool, ring, index))
        return false;
    slab_rest(&pool->big);
    return true;
}
