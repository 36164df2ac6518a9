/*
 * strangers: connections to a server that have not logged in, by the address that they come from.
 *
 * There are places for so many of them (--max-unauthenticated). When all are taken, the newcomer
 * gets that of the oldest of the address that has most: a log-in takes a few round trips, while
 * whoever holds a place and says nothing is the oldest at some time. So one address that makes
 * connections as fast as it can only takes places from itself, and who comes from the same address
 * still has as long as a full turn of all places takes.
 *
 * Their descriptors are set aside, a part of all where these are few: an owner who has taken all
 * that it may of the others leaves the smaller a rest, the more it looks like a crowd (share.h),
 * and strangers of the same address would have taken most of that.
 *
 * Steps of TLS handshakes, which cost some hundred microseconds each, are taken in turns between
 * addresses, not between connections.
 *
 * Addresses are those of share.h, whose nodes name an entry here (share.tag). Entries with the same
 * number of connections are in one list, up to STRANGERS_COUNTS; those with as many or more are in
 * one.
 */
#ifndef CULVERT_CORE_MUX_STRANGERS_H
#define CULVERT_CORE_MUX_STRANGERS_H

#include "core/base/list.h"
#include "core/base/slab.h"

#include <stdbool.h>
#include <stdint.h>

struct share;

#define STRANGERS_PART   8u /* of the descriptors, at most */
#define STRANGERS_COUNTS 64u
#define STRANGERS_LOOKS  16u

/* Part of a connection. */
struct stranger {
    struct strangers_address *address; /* NULL: it has no place */
    struct list node;                  /* in address->members */
    struct list step_node; /* in address->due; without a place, in a list of its owner's */
};

struct strangers_address {
    struct share *share;
    uint32_t count;
    struct list members;    /* the oldest first */
    struct list due;        /* of these, with a handshake step to make */
    struct list count_node; /* in strangers.by_count */
    struct list due_node;   /* in strangers.due */
};

struct strangers {
    struct slab addresses;
    struct list by_count[STRANGERS_COUNTS]; /* [count - 1] */
    struct list due;
    uint32_t count, most;
};

/* False: no memory. */
bool strangers_open(struct strangers *strangers, uint32_t most);
void strangers_close(struct strangers *strangers);

/* Before the first one: not more places than their part of so many descriptors. How many there are
 * then, at least one. */
uint32_t strangers_fit(struct strangers *strangers, uint64_t descriptors);

/* A place is free. */
static inline bool strangers_room(const struct strangers *strangers)
{
    return strangers->count < strangers->most;
}

void stranger_init(struct stranger *stranger);

/* One whose address is `share` takes a place, which must be free; and leaves it, if it has one. */
void strangers_add(struct strangers *strangers, struct stranger *stranger, struct share *share);
void strangers_remove(struct strangers *strangers, struct stranger *stranger);

/* Who gives up its place next; NULL if there is nobody. */
struct stranger *strangers_last(const struct strangers *strangers);

/* A step of its handshake is due; and whose turn it is, NULL if it is nobody's. */
void strangers_due(struct strangers *strangers, struct stranger *stranger);
struct stranger *strangers_next(struct strangers *strangers);

#endif
