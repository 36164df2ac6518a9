/* dirs: the directory in which a program keeps its state. */
#ifndef CULVERT_CORE_DIRS_H
#define CULVERT_CORE_DIRS_H

/*
 * Makes the directory and what is missing above it, mode 0700, as the XDG base directory
 * specification wants it for ~/.local/state. What is there already stays as it is. 0, or a negative
 * errno.
 */
int dirs_make(const char *path);

#endif
