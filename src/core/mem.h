/*
 * mem: start-up memory. Tables and pools are mapped once, at start, as large as the limits say, and touched only when used.
 *
 * A mapping is reserved without commitment (MAP_NORESERVE): address space is free, resident pages are not. After start nothing on the data
 * path asks for memory.
 */
#ifndef CULVERT_CORE_MEM_H
#define CULVERT_CORE_MEM_H

#include <stddef.h>

/* Zeroed, page-aligned. NULL when the kernel refuses. */
void *mem_map(size_t size);
void mem_unmap(void *base, size_t size);

/* Marks memory that may hold secrets or visitors' bytes as not to be dumped (MADV_DONTDUMP). */
void mem_no_dump(void *base, size_t size);

#endif
