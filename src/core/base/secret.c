/*
 * secret: see secret.h.
 *
 * Blocks have sizes of powers of two, with a 16-byte header in front that remembers the size; freed
 * ones are wiped and kept in a list per size. So a block that is not in use is zeros but for its
 * header, which is why secret_alloc() clears nothing, and touches no page that its caller does not
 * touch. Chunks are mapped as they are needed, and given back when nothing in them was used for a
 * while (trim.h): after a storm of handshakes all but those that hold what came of it. What is
 * larger than BLOCK_MAX is mapped alone. One lock: a handshake's hundred allocations are nothing
 * beside its arithmetic.
 *
 * A chunk is locked whole but page by page as it is touched (MLOCK_ONFAULT), so that locking costs
 * no memory; against RLIMIT_MEMLOCK it counts whole. An ordinary user has 8 MiB of it for each
 * process: enough for two thousand lanes of 3 KiB, or for fifty handshakes at the same moment, of
 * 126 KiB each (the rings of io_uring are counted elsewhere, per user). Where that is not enough
 * the program goes on with pages that are not locked, and says so once; blocks that are locked are
 * taken first, so that what is not locked after a storm of handshakes is the next storm, not the
 * lanes that came of it.
 *
 * A header is checked when its block comes back: a pointer that is not from here, or that comes
 * back twice, is a bug. In a child of fork all is zeros, headers too: a child may allocate, but not
 * free what it inherited.
 *
 * Rejected: memfd_secret(2), which hides pages from the kernel's own map and from debuggers as
 * well, but forbids the whole machine to hibernate and needs Linux 5.14 with a boot parameter, or
 * 6.5; libcrypto's CRYPTO_secure_malloc alone, which holds only some secrets of one library;
 * prctl(PR_SET_DUMPABLE), which leaves no core dump at all, where the tables of a crashed worker
 * are wanted; and giving back single pages, for which free lists would have to lie elsewhere.
 *
 * Sanitized builds want to see each block: with CULVERT_SANITIZED everything here is malloc, but
 * wiped.
 */
#include "core/base/secret.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/log.h"

#define CHUNK      (1u << 20)
#define BLOCK_MIN  5u  /* log2: 32 bytes */
#define BLOCK_MAX  17u /* 128 KiB */
#define SIZE_COUNT (BLOCK_MAX - BLOCK_MIN + 1)

/* What could not be locked */

static atomic_int lock_error; /* errno of the first refusal */
static atomic_bool warns, warned;

static void secret_warn_once(void)
{
    int error = atomic_load(&lock_error);
    struct rlimit limit = { 0 };

    if (error == 0 || !atomic_load(&warns) || atomic_exchange(&warned, true))
        return;
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    log_at(LOG_WARN, "culvert",
           "cannot lock more memory for secrets (%s; limit %llu KiB): they may be written to "
           "swap. Raise "
           "the limit (LimitMEMLOCK= of the service, or ulimit -l), or encrypt the swap",
           strerror(error), (unsigned long long)limit.rlim_cur / 1024);
}

void secret_warn(void)
{
    atomic_store(&warns, true);
    secret_warn_once();
}

void secret_copy(void *dst, const void *src, size_t size)
{
    volatile uint8_t *to = dst;
    const volatile uint8_t *from = src;

    for (size_t i = 0; i < size; i++)
        to[i] = from[i];
}

#ifdef CULVERT_SANITIZED

void secret_age(void)
{
}

bool secret_trim(void)
{
    return false;
}

bool secret_is_warm(void)
{
    return false;
}

void *secret_alloc(size_t size)
{
    return size <= SIZE_MAX / 2 ? calloc(1, size > 0 ? size : 1) : NULL;
}

void secret_free(void *memory)
{
    if (memory != NULL)
        explicit_bzero(memory, malloc_usable_size(memory));
    free(memory);
}

void *secret_realloc(void *memory, size_t size)
{
    void *other = size > 0 ? secret_alloc(size) : NULL;

    if (other != NULL && memory != NULL)
        secret_copy(other, memory, min_size(malloc_usable_size(memory), size));
    if (other != NULL || size == 0)
        secret_free(memory);
    return other;
}

#else

/* Pages */

/* What the administrator allows, beyond what was preset. */
static bool secret_raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return false;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
}

static bool secret_lock_pages(void *pages, size_t size)
{
    int none = 0;

    if (mlock2(pages, size, MLOCK_ONFAULT) == 0 ||
        (secret_raise_limit() && mlock2(pages, size, MLOCK_ONFAULT) == 0))
        return true;
    atomic_compare_exchange_strong(&lock_error, &none, errno);
    return false;
}

static void *secret_map(size_t size, bool *locked)
{
    /* A huge page would be resident whole for one block in it. */
    static const int advice[] = { MADV_DONTDUMP, MADV_WIPEONFORK, MADV_NOHUGEPAGE };
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED)
        return NULL;
    /* The first two cannot fail on such a mapping; the third says EINVAL where there are no huge
     * pages. */
    for (size_t i = 0; i < ARRAY_SIZE(advice); i++)
        (void)madvise(pages, size, advice[i]);
    *locked = secret_lock_pages(pages, size);
    return pages;
}

/* Blocks */

struct block {
    uint32_t size;      /* header included */
    uint32_t chunk;     /* CHUNK_NONE: mapped alone */
    struct block *next; /* in the list of its size; of a block in use: one of `in_use` */
};

/* A free block has its neighbour on the other side behind the header. */
struct free_block {
    struct block block;
    struct block *before; /* NULL: it is the first */
};

CHECK_STATIC(sizeof(struct block) == 16, "what follows a header is aligned for any type");
CHECK_STATIC(sizeof(struct free_block) <= 1u << BLOCK_MIN, "fits the smallest");

struct chunk {
    uint8_t *base; /* NULL: none */
    uint32_t carved;
    uint32_t used; /* blocks */
    bool locked;
    bool spared; /* nothing in it was in use when this period began, nor since */
    bool old;    /* nor in the whole period before: it can go */
};

#define CHUNKS_MAX 16384u
#define CHUNK_NONE UINT32_MAX

/* [1]: whose pages are locked */
static struct block in_use[2];
static struct block *free_blocks[2][SIZE_COUNT];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chunk chunks[CHUNKS_MAX];
static uint32_t chunk_count;          /* places of the table that were ever used */
static uint32_t carving = CHUNK_NONE; /* the chunk that new blocks come from */

static unsigned secret_class_of(size_t size)
{
    unsigned class = BLOCK_MIN;

    while (((size_t)1 << class) < size)
        class ++;
    return class;
}

static uint32_t secret_chunk_place(void)
{
    for (uint32_t i = 0; i < chunk_count; i++)
        if (chunks[i].base == NULL)
            return i;
    return chunk_count < CHUNKS_MAX ? chunk_count++ : CHUNK_NONE;
}

static bool secret_chunk_begin(void)
{
    uint32_t place = secret_chunk_place();
    bool locked = false;
    uint8_t *base = place != CHUNK_NONE ? secret_map(CHUNK, &locked) : NULL;

    if (base == NULL)
        return false;
    chunks[place] = (struct chunk){ .base = base, .locked = locked };
    carving = place; /* the rest of the old chunk is lost: less than one block */
    return true;
}

static struct block *secret_carve(size_t size)
{
    if ((carving == CHUNK_NONE || CHUNK - chunks[carving].carved < size) && !secret_chunk_begin())
        return NULL;
    struct chunk *chunk = &chunks[carving];
    struct block *block = (struct block *)(void *)(chunk->base + chunk->carved);
    chunk->carved += (uint32_t)size;
    block->chunk = carving;
    return block;
}

#ifdef CULVERT_DEBUG
/* Nobody wrote to a block that was given back. In a child of fork all is zeros, the size too. */
static bool secret_is_clean(const struct block *block)
{
    const uint8_t *bytes = (const uint8_t *)block;

    for (size_t i = sizeof(*block); i < block->size; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}
#endif

static struct block **secret_list_of(const struct block *block, bool locked)
{
    return &free_blocks[locked][secret_class_of(block->size) - BLOCK_MIN];
}

static void secret_set_before(struct block *block, struct block *before)
{
    if (block != NULL)
        ((struct free_block *)(void *)block)->before = before;
}

/* The list is said by the caller: in a child of fork a block has forgotten its size. */
static void secret_unlink_block(struct block **list, struct block *block)
{
    struct block *before = ((struct free_block *)(void *)block)->before;

    secret_set_before(block->next, before);
    if (before != NULL)
        before->next = block->next;
    else
        *list = block->next;
    secret_set_before(block, NULL);
}

static void secret_link_block(struct block *block, bool locked)
{
    struct block **list = secret_list_of(block, locked);

    block->next = *list;
    secret_set_before(block->next, block);
    *list = block;
}

static struct block *secret_take(unsigned class, bool *locked)
{
    pthread_mutex_lock(&lock);
    *locked = free_blocks[1][class - BLOCK_MIN] != NULL;
    struct block **list = &free_blocks[*locked][class - BLOCK_MIN];
    struct block *block = *list;
    if (block != NULL)
        secret_unlink_block(list, block);
    else
        block = secret_carve((size_t)1 << class);
    if (block != NULL) {
        struct chunk *chunk = &chunks[block->chunk];
        *locked = chunk->locked;
        chunk->used++;
        chunk->spared = chunk->old = false;
    }
#ifdef CULVERT_DEBUG
    CHECK(block == NULL || secret_is_clean(block));
#endif
    pthread_mutex_unlock(&lock);
    return block;
}

static void secret_give(struct block *block, bool locked)
{
    pthread_mutex_lock(&lock);
    CHECK(chunks[block->chunk].used > 0);
    chunks[block->chunk].used--;
    secret_link_block(block, locked);
    pthread_mutex_unlock(&lock);
}

/* Giving chunks back */

static bool secret_may_go(uint32_t place)
{
    return chunks[place].base != NULL && chunks[place].used == 0 && place != carving;
}

void secret_age(void)
{
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < chunk_count; i++) {
        chunks[i].old = chunks[i].spared;
        chunks[i].spared = secret_may_go(i);
    }
    pthread_mutex_unlock(&lock);
}

bool secret_is_warm(void)
{
    bool warm = false;

    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < chunk_count; i++)
        warm |= secret_may_go(i);
    pthread_mutex_unlock(&lock);
    return warm;
}

/* All its blocks are free: they stand one behind the other. */
static void secret_chunk_end(struct chunk *chunk)
{
    for (uint32_t at = 0; at < chunk->carved;) {
        struct block *block = (struct block *)(void *)(chunk->base + at);

        at += block->size;
        secret_unlink_block(secret_list_of(block, chunk->locked), block);
    }
    CHECK(munmap(chunk->base, CHUNK) == 0);
    *chunk = (struct chunk){ .base = NULL };
}

bool secret_trim(void)
{
    unsigned found = 0;

    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < chunk_count && found < 2; i++)
        if (chunks[i].old && secret_may_go(i) && ++found == 1)
            secret_chunk_end(&chunks[i]);
    pthread_mutex_unlock(&lock);
    return found == 2;
}

static size_t secret_payload(const struct block *block)
{
    return block->size - sizeof(*block);
}

static struct block *secret_block_of(void *memory)
{
    struct block *block = (struct block *)memory - 1;

    CHECK(block->next == &in_use[0] || block->next == &in_use[1]);
    return block;
}

void *secret_alloc(size_t size)
{
    struct block *block;
    bool locked = false;

    if (size > UINT32_MAX - sizeof(*block))
        return NULL;
    size += sizeof(*block);
    uint32_t chunk = CHUNK_NONE;
    if (size > (size_t)1 << BLOCK_MAX) {
        block = secret_map(size, &locked);
    } else {
        unsigned class = secret_class_of(size);
        block = secret_take(class, &locked);
        size = (size_t)1 << class;
        chunk = block != NULL ? block->chunk : CHUNK_NONE;
    }
    secret_warn_once();
    if (block == NULL)
        return NULL;
    *block = (struct block){ .size = (uint32_t)size, .chunk = chunk, .next = &in_use[locked] };
    return block + 1;
}

void secret_free(void *memory)
{
    if (memory == NULL)
        return;
    struct block *block = secret_block_of(memory);
    explicit_bzero(memory, secret_payload(block));
    if (block->size <= (size_t)1 << BLOCK_MAX)
        secret_give(block, block->next == &in_use[1]);
    else
        CHECK(munmap(block, block->size) == 0);
}

void *secret_realloc(void *memory, size_t size)
{
    if (memory == NULL)
        return secret_alloc(size);
    if (size == 0) {
        secret_free(memory);
        return NULL;
    }
    size_t old = secret_payload(secret_block_of(memory));
    if (size <= old)
        return memory;
    void *larger = secret_alloc(size);
    if (larger == NULL)
        return NULL;
    secret_copy(larger, memory, old);
    secret_free(memory);
    return larger;
}

#endif
