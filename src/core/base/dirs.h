/* dirs: the directory in which a program keeps its state. */
#ifndef CULVERT_CORE_BASE_DIRS_H
#define CULVERT_CORE_BASE_DIRS_H

/*
 * Makes the directory and what is missing above it, mode 0700, as the XDG base directory
 * specification wants it for ~/.local/state. What is there already stays as it is. 0, or a negative
 * errno.
 */
int dirs_make(const char *path);

/*
 * Of processes that make files in the directory, which belong together or must not be made twice,
 * one at a time: waits for the others (flock(2)), 10 s at most. A descriptor, which has the
 * directory until it is closed; -ETIMEDOUT; or another negative errno, where there are no such
 * locks: then nobody is kept away.
 */
int dirs_lock(const char *path);

#endif
