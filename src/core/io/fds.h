/*
 * fds: the process's file descriptors, as far as others can fill them.
 *
 * RLIMIT_NOFILE less what the process needs for itself, in equal parts for the workers, so that
 * accepting refuses somebody in particular (share.h) before the kernel refuses everybody (EMFILE).
 *
 * Rejected: one number for all workers, of which each knows what its own owners hold. Whoever is at
 * their limit with one worker is far over it when they have taken from the next one as well, and
 * those beside them found nothing there.
 */
#ifndef CULVERT_CORE_IO_FDS_H
#define CULVERT_CORE_IO_FDS_H

#include <stdint.h>

/* Of these, for look-ups of names, files that are read again, a human who is asked: what the
 * process opens while it runs, beside what workers count. Where there are few, an eighth. */
#define FDS_OWN 24u

/* However many there are: a multiple of it is no overflow (share.h). */
#define FDS_MOST (UINT64_C(1) << 48)

/* Once, before the workers start, when all else that stays is open: `workers` will open their own
 * besides (fds.c). What each of them may have. */
uint64_t fds_part(unsigned workers);

#endif
