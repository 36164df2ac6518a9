/*
 * file: whole small files in and out: certificates, keys.
 *
 * Reading is bounded; what was read is secret memory (secret.h), because it may be a key. Writing
 * goes to a new file beside the target, mode 0600, synced and renamed over it: a reader sees the
 * old file or the new one, never half of it.
 */
#ifndef CULVERT_CORE_BASE_FILE_H
#define CULVERT_CORE_BASE_FILE_H

#include <stddef.h>

/* Reads a whole file, at most 1 MiB, plus a NUL that is not counted; the caller gives *text to
 * file_drop. 0, or a negative errno with *text NULL. */
int file_read(const char *path, char **text, size_t *len);

/* Writes a file that appears whole, or leaves what is there. 0 or a negative errno. */
int file_write(const char *path, const char *text, size_t len);

/* Wipes and frees; NULL is allowed. */
void file_drop(char *text);

#endif
