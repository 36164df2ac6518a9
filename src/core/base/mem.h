/*
 * mem: start-up memory. Tables and pools are mapped once, at start, as large as the limits say, and
 * touched only when used.
 *
 * A mapping is reserved without commitment (MAP_NORESERVE): address space is free, resident pages
 * are not. After start nothing on the data path asks for memory.
 *
 * What was used once and is not needed any more goes back to the kernel page by page (slab.h):
 * MADV_DONTNEED, not MADV_FREE, whose pages stay resident until some other process is short of
 * memory, and would be counted against this one as long. It also says what is there afterwards:
 * zeros.
 */
#ifndef CULVERT_CORE_BASE_MEM_H
#define CULVERT_CORE_BASE_MEM_H

#include <stddef.h>

/* Zeroed, page-aligned. NULL when the kernel refuses. */
void *mem_map(size_t size);
void mem_unmap(void *base, size_t size);

/* The unit in which memory is given back; a kernel with larger pages keeps them. */
#define MEM_PAGE ((size_t)4096)

/* [base, base + size), whole pages, is zeros from here on, and not resident if the kernel takes it:
 * some tens of microseconds for a MiB. */
void mem_give_back(void *base, size_t size);

/* Marks memory that may hold secrets or visitors' bytes as not to be dumped (MADV_DONTDUMP). */
void mem_no_dump(void *base, size_t size);

#endif
