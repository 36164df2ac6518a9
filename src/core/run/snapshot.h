/*
 * snapshot: what a role's workers look things up in and the control plane makes anew: who may log
 * in, with which certificate. It is immutable: who has a reference reads it without a lock, and
 * nothing of it changes under his eyes.
 *
 * Each worker has a reference to one (worker.h), with which it begins. A change gives all of them
 * another one, by message; a worker swaps them at the end of the turn in which the message came, so
 * that all of a turn sees the same one: what was checked is done by what it was checked by. When
 * the last worker has swapped, whoever made the change is told. From then on nothing happens by the
 * old one, and all that happened by it can be seen.
 *
 * Rejected: a pointer that all threads read and one exchanges, be it under a mutex (a lock for each
 * log-in and each lane, and a worker may see two of them in one turn) or by RCU (a grace period is
 * what a turn is already); to be told by the old one's last reference, which goes in a worker: the
 * maker keeps one, so that a table of a million tokens is freed in the maker's thread.
 */
#ifndef CULVERT_CORE_RUN_SNAPSHOT_H
#define CULVERT_CORE_RUN_SNAPSHOT_H

#include <stdatomic.h>

/* The first member of what a role has. */
struct snapshot {
    atomic_uint refs;
    void (*free)(struct snapshot *snapshot);
};

/* With one reference, the caller's. `free` is called when the last one goes, in that thread. */
void snapshot_init(struct snapshot *snapshot, void (*free)(struct snapshot *snapshot));

/* One more; and one less, for which NULL is allowed. Any thread. */
struct snapshot *snapshot_ref(struct snapshot *snapshot);
void snapshot_unref(struct snapshot *snapshot);

/* A change to another snapshot, in its maker's memory until `done`. One at a time. */
struct snapshot_change {
    struct snapshot *next;
    void (*done)(struct snapshot_change *change);
    atomic_uint expected; /* workers that have not swapped yet, and one as long as it is posted */
};

/* Before it is posted; `next` is the maker's reference, and stays his until `done`. That is called
 * once, in the thread of who was the last: a worker, who posted the change, or who freed messages
 * that nobody took. */
void snapshot_change_begin(struct snapshot_change *change, struct snapshot *next,
                           void (*done)(struct snapshot_change *change));

/* One worker more has to swap: worker_change_from_thread says so. */
void snapshot_change_expect(struct snapshot_change *change);

/* One less: it has swapped, or ended. The poster says it too, after his last post. */
void snapshot_change_made(struct snapshot_change *change);

#endif
