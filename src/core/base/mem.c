/* mem: see mem.h. */
#include "core/base/mem.h"

#include "core/base/check.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

void *mem_map(size_t size)
{
    CHECK(size > 0);
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}

void mem_unmap(void *base, size_t size)
{
    if (base != NULL)
        CHECK(munmap(base, size) == 0);
}

/* Zeros are promised, also where the kernel does not take the pages. */
void mem_give_back(void *base, size_t size)
{
    CHECK((uintptr_t)base % MEM_PAGE == 0 && size % MEM_PAGE == 0);
    if (madvise(base, size, MADV_DONTNEED) != 0)
        memset(base, 0, size);
}

void mem_no_dump(void *base, size_t size)
{
    (void)madvise(base, size, MADV_DONTDUMP); /* best effort: the mapping works without */
}
