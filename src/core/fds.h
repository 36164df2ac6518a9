/*
 * fds: the process's file descriptors, as far as others can fill them.
 *
 * All workers draw from one number, RLIMIT_NOFILE less what the process needs for itself, so that
 * accepting refuses somebody in particular (share.h) before the kernel refuses everybody (EMFILE).
 * Any thread.
 */
#ifndef CULVERT_CORE_FDS_H
#define CULVERT_CORE_FDS_H

#include <stdbool.h>
#include <stdint.h>

/* Of these, for look-ups of names, files that are read again, a human who is asked: what the
 * process opens while it runs, beside what workers count. Where there are few, an eighth. */
#define FDS_OWN 24u

/* Once, before the workers start, when all else that stays is open: `workers` will open their own
 * besides (fds.c). */
void fds_open(unsigned workers);

/* The same with a number: tests, and the simulation. */
void fds_set(uint64_t capacity);

uint64_t fds_free(void);

/* An eighth is free beyond `amount`. */
bool fds_plenty(uint64_t amount);
void fds_take(void);
void fds_give(void);

#endif
