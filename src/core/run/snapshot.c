/* snapshot: see snapshot.h. */
#include "core/run/snapshot.h"

#include "core/base/check.h"

void snapshot_init(struct snapshot *snapshot, void (*free)(struct snapshot *snapshot))
{
    snapshot->free = free;
    atomic_init(&snapshot->refs, 1);
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
    CHECK(atomic_fetch_add(&snapshot->refs, 1) > 0);
    return snapshot;
}

void snapshot_unref(struct snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    unsigned refs = atomic_fetch_sub(&snapshot->refs, 1);
    CHECK(refs > 0);
    if (refs == 1)
        snapshot->free(snapshot);
}

void snapshot_change_begin(struct snapshot_change *change, struct snapshot *next,
                           void (*done)(struct snapshot_change *change))
{
    change->next = next;
    change->done = done;
    atomic_init(&change->expected, 1);
}

void snapshot_change_expect(struct snapshot_change *change)
{
    CHECK(atomic_fetch_add(&change->expected, 1) > 0);
}

void snapshot_change_made(struct snapshot_change *change)
{
    unsigned expected = atomic_fetch_sub(&change->expected, 1);

    CHECK(expected > 0);
    if (expected == 1)
        change->done(change);
}
