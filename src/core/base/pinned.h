/*
 * pinned: what this process has of its user's locked memory, as io_uring counts it against
 * RLIMIT_MEMLOCK.
 *
 * Registered buffers count, zero-copy sends from other memory while they are under way, and on some
 * kernels the rings themselves (Linux 6.18; not 6.1 to 6.12). The kernel keeps one account for each
 * user, over all processes, refuses with ENOMEM what is over the limit, and tells nobody how much
 * is left. So this is an account of our own, of one process: what can be done without (registered
 * buffers) is taken only as far as pinned_leave() of the limit stays free, for sends and for the
 * rings of another process of the same user.
 *
 * mlock(2) has an account of its own, per process, with the same limit: it is not in here.
 *
 * The limit is set once, while there is one thread; without it (root, no limit, the simulation)
 * everything is granted.
 */
#ifndef CULVERT_CORE_BASE_PINNED_H
#define CULVERT_CORE_BASE_PINNED_H

#include <stdbool.h>
#include <stdint.h>

/* UINT64_MAX, as before the first call: nothing of this process counts. */
void pinned_set_limit(uint64_t bytes);
uint64_t pinned_limit(void);

/* What of the limit is left to others: 2 MiB, or a quarter of a limit that is small. */
uint64_t pinned_leave(void);

/* What the kernel has granted, and what it has back. Any thread. */
void pinned_add(uint64_t bytes);
void pinned_drop(uint64_t bytes);

/* The same for what can be done without: false, and nothing is counted, if it would not leave
 * pinned_leave(). */
bool pinned_try(uint64_t bytes);

#endif
