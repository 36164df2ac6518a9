/*
 * share: who may still take something of a pool, and who has too much of it.
 *
 * Every pool that others can fill (buffers, windows, streams, ids, lanes, descriptors, sessions,
 * ports) is shared by a tree of owners:
 *
 *     the pool -> token -> client's address -> session -> lane, or tunnel -> visitor's address
 *              -> strangers -> address
 *
 * What an owner holds is counted in it and in all owners above it. The rule is that of dynamic
 * thresholds (Choudhury and Hahne, 1998, for the memory of switches): an owner may hold at most
 * SHARE_RICH times what is still free where it takes from. Nothing is set aside, nothing is
 * configured: who is alone gets seven eighths of the pool, two who want all get 8/17 each, and who
 * has little finds room, because those who have much have to leave some.
 *
 * What is free for an owner is what is free above it, cut by its own limit. So the same holds
 * between the sessions of one token, or the visitors of one tunnel.
 *
 * Not their fault. An owner that has grown to its limit is over it as soon as others take of the
 * pool: its limit follows what is free. Then those below it who have little of what it holds (less
 * than one part in SHARE_FEW) would pay for those who have much. For them the limits above are
 * higher, by a factor that depends on where they part from those who have much (share.c, lenience):
 * 2 for a visitor's address beside others in its tunnel, up to 8 for a client's address beside
 * others of its token; and for addresses that have less than one part in SHARE_TINY some more, so
 * that two that take all they can, one later than the other (somebody's of IPv4 and of IPv6), leave
 * some to a third. This ends too: three of them below one owner, or a thousand, leave nothing to
 * another one beside them; but one part in 21 of a pool, or one in 33 if they are sessions of one
 * address, to whoever is not below that owner. Half of that or less is for one newcomer, so a pool
 * that is to serve N beside such a crowd has some 70 N.
 *
 * Nothing is held against anybody before seven eighths of a pool are in use; then every limit is
 * above what can be held. So the usual answer needs two loads (share_may).
 *
 * Owners who are over their limit (share_over) give back what they can when they next touch it:
 * windows shrink, slices are copied, reads wait. Nothing is taken from them otherwise.
 *
 * A node lives as long as somebody refers to it, or something is counted in it: buffers outlive
 * the lane that read them. Nodes are found by parent and key.
 *
 * A tree belongs to one thread (a worker's; the registry's has its mutex).
 *
 * Rejected: fixed quotas (an owner alone could not use what is idle; any number is wrong for
 * somebody), and taking back by force from who has most (an index of owners by what they hold, for
 * each pool, on the data path).
 */
#ifndef CULVERT_CORE_IO_SHARE_H
#define CULVERT_CORE_IO_SHARE_H

#include "core/base/chain.h"
#include "core/base/hash.h"
#include "core/base/slab.h"

#include <stdbool.h>
#include <stdint.h>

/* The limit as a multiple of what is free, and who is not to blame. */
#define SHARE_RICH 8u
#define SHARE_FEW  4u
#define SHARE_TINY 64u
/* Who is told to be sparing while there is still some left (share_sparing): one owner alone at
 * three quarters. In place of SHARE_RICH. */
#define SHARE_EARLY 4u

/* X(name, what for people) */
#define SHARE_KINDS(X)            \
    X(SMALL, "small buffers")     \
    X(BIG, "big buffers")         \
    X(SLICES, "slices")           \
    X(PIPES, "pipes")             \
    X(LOG, "big buffers of logs") \
    X(WINDOW, "bytes of windows") \
    X(STREAMS, "streams")         \
    X(IDS, "stream ids")          \
    X(LANES, "lanes")             \
    X(FDS, "file descriptors")    \
    X(SESSIONS, "sessions")       \
    X(PORTS, "public ports")

enum share_kind {
#define X(name, text) SHARE_##name,
    SHARE_KINDS(X)
#undef X
        SHARE_KIND_COUNT
};

/* What a key is. */
enum share_level {
    SHARE_POOL,
    SHARE_STRANGERS,
    SHARE_TOKEN,
    SHARE_ADDRESS4, /* see share_open_address */
    SHARE_ADDRESS6,
    SHARE_NOWHERE, /* an address that is not known */
    SHARE_SESSION,
    SHARE_LANE,
    SHARE_TUNNEL
};

union sock_addr;

struct share {
    struct share *parent; /* NULL: the pool itself */
    struct share_tree *tree;
    uint64_t key;
    uint32_t refs; /* of objects, and of the nodes below */
    uint32_t tag;  /* of somebody who keeps something for this owner; 0: nothing */
    uint32_t work; /* frames handled in `turn`, see lane_rx.c */
    uint64_t turn;
    uint8_t level; /* enum share_level */
    uint64_t used[SHARE_KIND_COUNT];
};

struct share_tree {
    struct share pool; /* the root: what all hold */
    uint64_t capacity[SHARE_KIND_COUNT];
    struct slab nodes;
    struct chain chain; /* of nodes */
    struct hash_key key;
};

/* For at most `nodes` owners at a time; capacities are 0 until they are set. `key` is random, since
 * strangers choose addresses. False: no memory. */
bool share_tree_open(struct share_tree *tree, uint32_t nodes, const struct hash_key *key);
void share_tree_close(struct share_tree *tree);

/* The owner of this key below `parent`, made if there is none, with one reference for the caller.
 * Never NULL: when there is no room for another owner it is `parent` itself. */
struct share *share_open(struct share *parent, enum share_level level, uint64_t key);

/* The owner of an address below `parent`: IPv4 by all of it, IPv6 by its first 64 bits, the subnet
 * whose hosts choose the rest as they like (RFC 4291, section 2.5.1). Who has a larger prefix (RFC
 * 6177) is as many owners as he makes of it. */
struct share *share_open_address(struct share *parent, const union sock_addr *addr);

/* One more reference, one less. NULL is ignored. */
void share_ref(struct share *share);
void share_unref(struct share *share);

/* Counts `amount` in the owner and all above it. */
static inline void share_take(struct share *share, enum share_kind kind, uint64_t amount)
{
    for (struct share *s = share; s != NULL; s = s->parent)
        s->used[kind] += amount;
}

void share_gone(struct share *share);

static inline void share_give(struct share *share, enum share_kind kind, uint64_t amount)
{
    CHECK(share->used[kind] >= amount);
    for (struct share *s = share; s != NULL; s = s->parent)
        s->used[kind] -= amount;
    if (share->refs == 0)
        share_gone(share);
}

/* The same amount, held by another owner of the same tree from now on. */
void share_move(struct share *from, struct share *to, enum share_kind kind, uint64_t amount);

/* What is free for this owner. */
uint64_t share_room(const struct share *share, enum share_kind kind);

/* The slow part of share_may. */
bool share_fits(const struct share *share, enum share_kind kind, uint64_t amount);

/* Nearly all of it is taken, by whomever. */
static inline bool share_is_scarce(const struct share_tree *tree, enum share_kind kind)
{
    return tree->pool.used[kind] * 8 > tree->capacity[kind] * 7;
}

/* True if the owner may take so much more. */
static inline bool share_may(const struct share *share, enum share_kind kind, uint64_t amount)
{
    const struct share_tree *tree = share->tree;

    if ((tree->pool.used[kind] + amount) * 8 <= tree->capacity[kind] * 7)
        return true;
    return share_fits(share, kind, amount);
}

/* True if the owner, or one above it that it has much of, holds more than its limit. */
bool share_over(const struct share *share, enum share_kind kind);

/* True if the owner should use what costs more time but less of the pool. */
bool share_sparing(const struct share *share, enum share_kind kind);

/* "address 192.0.2.1 of tunnel 0 of session 3 holds 7168 streams", in a static thread-local buffer:
 * the first owner, from this one up, that is at its limit. */
const char *share_blame(const struct share *share, enum share_kind kind);

#endif
