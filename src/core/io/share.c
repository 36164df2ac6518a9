/* share: see share.h. */
#include "core/io/share.h"

#include "core/base/base.h"
#include "core/io/addr.h"
#include "core/io/sock.h"

#include <stdio.h>
#include <string.h>

/* Tables */

bool share_tree_open(struct share_tree *tree, uint32_t nodes, const struct hash_key *key)
{
    *tree = (struct share_tree){ .pool = { .tree = tree, .refs = 1, .level = SHARE_POOL },
                                 .key = *key };
    if (slab_open(&tree->nodes, sizeof(struct share), nodes, 0) && chain_open(&tree->chain, nodes))
        return true;
    share_tree_close(tree);
    return false;
}

void share_tree_close(struct share_tree *tree)
{
    chain_close(&tree->chain);
    slab_close(&tree->nodes);
}

static uint64_t share_hash_of(const struct share_tree *tree, const struct share *parent,
                              enum share_level level, uint64_t key)
{
    uint64_t place = parent->parent == NULL ? 0 : slab_index(&tree->nodes, parent) + 1U;
    const uint64_t words[] = { key, place << 4 | (uint64_t)level };

    return hash_bytes(&tree->key, words, sizeof(words));
}

static struct share *share_find(struct share_tree *tree, uint64_t hash, const struct share *parent,
                                enum share_level level, uint64_t key)
{
    for (uint32_t i = chain_first(&tree->chain, hash); i != CHAIN_END;
         i = chain_next(&tree->chain, i)) {
        struct share *s = slab_at(&tree->nodes, i);

        if (s->parent == parent && s->key == key && s->level == (uint8_t)level)
            return s;
    }
    return NULL;
}

struct share *share_open(struct share *parent, enum share_level level, uint64_t key)
{
    struct share_tree *tree = parent->tree;
    uint64_t hash = share_hash_of(tree, parent, level, key);
    struct share *s = share_find(tree, hash, parent, level, key);

    if (s != NULL) {
        s->refs++;
        return s;
    }
    uint32_t index = slab_take(&tree->nodes);
    CHECK(parent->refs > 0);
    parent->refs++; /* of the new node, or of the caller */
    if (index == SLAB_NONE)
        return parent;
    s = slab_at(&tree->nodes, index);
    *s = (struct share){
        .parent = parent, .tree = tree, .key = key, .refs = 1, .level = (uint8_t)level
    };
    chain_add(&tree->chain, hash, index);
    return s;
}

struct share *share_open_address(struct share *parent, const union sock_addr *addr)
{
    uint64_t key = 0;

    switch (addr_prefix(addr, &key)) {
    case AF_INET:
        return share_open(parent, SHARE_ADDRESS4, key);
    case AF_INET6:
        return share_open(parent, SHARE_ADDRESS6, key);
    default:
        return share_open(parent, SHARE_NOWHERE, 0);
    }
}

void share_ref(struct share *share)
{
    if (share == NULL)
        return;
    CHECK(share->refs > 0); /* what nobody refers to may be gone in the next moment */
    share->refs++;
}

void share_unref(struct share *share)
{
    if (share == NULL)
        return;
    CHECK(share->refs > 0);
    if (--share->refs == 0)
        share_gone(share);
}

static bool share_is_empty(const struct share *share)
{
    for (unsigned i = 0; i < SHARE_KIND_COUNT; i++)
        if (share->used[i] != 0)
            return false;
    return true;
}

static void share_forget(struct share *share)
{
    struct share_tree *tree = share->tree;
    uint32_t index = slab_index(&tree->nodes, share);

    CHECK(share->tag == 0); /* whoever keeps something for it has a reference */
    chain_remove(&tree->chain,
                 share_hash_of(tree, share->parent, (enum share_level)share->level, share->key),
                 index);
    slab_give(&tree->nodes, index);
}

/* Nobody refers to it: it goes when nothing is counted in it any more, and perhaps those above. */
void share_gone(struct share *share)
{
    while (share->refs == 0 && share->parent != NULL && share_is_empty(share)) {
        struct share *parent = share->parent;

        share_forget(share);
        CHECK(parent->refs > 0);
        parent->refs--;
        share = parent;
    }
}

/* Counting */

void share_move(struct share *from, struct share *to, enum share_kind kind, uint64_t amount)
{
    CHECK(from->tree == to->tree);
    share_take(to, kind, amount);
    share_give(from, kind, amount);
}

/* Limits */

/* Whoever asks, as it looks from an owner above. */
struct asker {
    uint64_t times;    /* SHARE_RICH or SHARE_EARLY */
    uint64_t below;    /* what the part holds through which it asks */
    bool self;         /* asked for itself */
    unsigned lenience; /* in halves; HALVES: nobody on the way holds little of what is held above */
};

/* By what the limits are higher, in halves, from an owner of this level up, for a part of it that
 * holds little: less than one in SHARE_FEW; less than one in SHARE_TINY, where the parts are
 * addresses, of which somebody has two or three. Those who part from a crowd further up must find
 * something where the crowd does not any more: so each has more than the one below. */
#define HALVES 2u
static const unsigned lenience[][2] = {
    [SHARE_POOL] = { 2, 2 },     [SHARE_STRANGERS] = { 4, 5 }, [SHARE_TOKEN] = { 16, 24 },
    [SHARE_ADDRESS4] = { 8, 8 }, [SHARE_ADDRESS6] = { 8, 8 },  [SHARE_NOWHERE] = { 8, 8 },
    [SHARE_SESSION] = { 6, 6 },  [SHARE_LANE] = { 4, 4 },      [SHARE_TUNNEL] = { 4, 5 }
};

static unsigned share_lenience_of(const struct share *s, uint64_t below, uint64_t used)
{
    if (below * SHARE_FEW >= used)
        return HALVES;
    return lenience[s->level][below * SHARE_TINY < used];
}

/* What is free in an owner for the asker. *over: the owner, or one above it, holds more than its
 * limit. */
static uint64_t share_room_of(const struct share *s, enum share_kind kind, struct asker asker,
                              bool *over)
{
    uint64_t used = s->used[kind];

    if (s->parent == NULL) {
        uint64_t capacity = s->tree->capacity[kind];

        return capacity > used ? capacity - used : 0;
    }
    CHECK(used <= s->parent->used[kind]);
    if (!asker.self)
        asker.lenience = (unsigned)max_u64(asker.lenience, share_lenience_of(s, asker.below, used));
    asker.self = false;
    asker.below = used;
    uint64_t free = share_room_of(s->parent, kind, asker, over);
    /* Who holds little is not told early: to others it would be as if all were used up. */
    uint64_t times = asker.lenience > HALVES ? SHARE_RICH : asker.times;
    uint64_t limit = free * times * asker.lenience / HALVES;

    *over = *over || used > limit;
    return used < limit ? min_u64(free, limit - used) : 0;
}

static struct asker share_asks_itself(uint64_t times)
{
    return (struct asker){ .times = times, .self = true, .lenience = HALVES };
}

uint64_t share_room(const struct share *share, enum share_kind kind)
{
    bool over = false;

    return share_room_of(share, kind, share_asks_itself(SHARE_RICH), &over);
}

bool share_fits(const struct share *share, enum share_kind kind, uint64_t amount)
{
    return share_room(share, kind) >= amount;
}

bool share_over(const struct share *share, enum share_kind kind)
{
    const struct share_tree *tree = share->tree;
    bool over = false;

    if (!share_is_scarce(tree, kind))
        return false;
    (void)share_room_of(share, kind, share_asks_itself(SHARE_RICH), &over);
    return over;
}

bool share_sparing(const struct share *share, enum share_kind kind)
{
    const struct share_tree *tree = share->tree;
    bool over = false;

    if (tree->pool.used[kind] * 4 <= tree->capacity[kind] * 3)
        return false;
    return share_room_of(share, kind, share_asks_itself(SHARE_EARLY), &over) == 0;
}

/* For people */

static const char *const kind_texts[] = {
#define X(name, text) text,
    SHARE_KINDS(X)
#undef X
};

static void share_put_address4(const struct share *s, char *text, size_t size)
{
    uint32_t ip = (uint32_t)s->key;

    snprintf(text, size, "address %u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}

static void share_put_name(const struct share *s, char *text, size_t size)
{
    unsigned long long key = s->key;

    switch ((enum share_level)s->level) {
    case SHARE_POOL:
        snprintf(text, size, "all together");
        break;
    case SHARE_STRANGERS:
        snprintf(text, size, "who has not logged in");
        break;
    case SHARE_TOKEN:
        snprintf(text, size, "token %llu", key + 1);
        break;
    case SHARE_ADDRESS4:
        share_put_address4(s, text, size);
        break;
    case SHARE_ADDRESS6:
        snprintf(text, size, "address %llx:%llx:%llx:%llx::/64", key >> 48, key >> 32 & 0xffff,
                 key >> 16 & 0xffff, key & 0xffff);
        break;
    case SHARE_NOWHERE:
        snprintf(text, size, "an address that is not known");
        break;
    case SHARE_SESSION:
        snprintf(text, size, "session %llu", key);
        break;
    case SHARE_LANE:
        snprintf(text, size, "lane %llu", key);
        break;
    case SHARE_TUNNEL:
        snprintf(text, size, "tunnel %llu", key);
        break;
    }
}

/* The highest owner whose limit leaves no room; the pool, if there is none. */
static const struct share *share_to_blame(const struct share *share, enum share_kind kind)
{
    const struct share *blame = share;

    for (const struct share *s = share; s != NULL; s = s->parent) {
        bool over = false;

        if (share_room_of(s, kind, share_asks_itself(SHARE_RICH), &over) == 0)
            blame = s;
    }
    return blame;
}

const char *share_blame(const struct share *share, enum share_kind kind)
{
    static _Thread_local char text[160];
    const struct share *s = share_to_blame(share, kind);
    char name[64], above[64] = "";

    share_put_name(s, name, sizeof(name));
    if (s->parent != NULL && s->parent->parent != NULL)
        share_put_name(s->parent, above, sizeof(above));
    snprintf(text, sizeof(text), "%s%s%s holds %llu %s", name, above[0] != '\0' ? " of " : "",
             above, (unsigned long long)s->used[kind], kind_texts[kind]);
    return text;
}
