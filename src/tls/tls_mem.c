/*
 * tls_mem: where keys live. Pages that no core dump contains, wiped when a block is freed.
 *
 * struct record and struct tls_handshake are always taken from here. After tls_mem_start() so is every allocation of libcrypto and
 * wolfSSL: traffic secrets, private keys and key schedules sit in their objects, not only in ours.
 *
 * Blocks have sizes of powers of two, with a 16-byte header in front that remembers the size; freed ones are wiped and kept in a list
 * per size. Chunks are mapped as they are needed and never given back. What is larger than BLOCK_MAX is mapped alone. One lock: the
 * data path does not allocate, and a handshake's hundred allocations are nothing beside its arithmetic.
 *
 * The stack of a thread is dumped, and the libraries leave keys in dead frames: whoever has called them with keys calls
 * tls_mem_wipe_stack() afterwards.
 *
 * Rejected: CRYPTO_secure_malloc alone (libcrypto puts only some secrets there, and it mlocks: 8 MiB is all an ordinary user has);
 * prctl(PR_SET_DUMPABLE) (no core dump at all, where the tables of a crashed worker are wanted).
 *
 * Sanitized builds and builds under valgrind want to see each block: with CULVERT_SANITIZED everything here is malloc.
 */
#include "tls/tls_impl.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/check.h"

#define CHUNK      (1u << 20)
#define BLOCK_MIN  5u           /* log2: 32 bytes */
#define BLOCK_MAX  17u          /* 128 KiB */
#define WIPE_STACK (32u * 1024) /* deeper than either library goes; checked in test_tls_mem.c */
#define SIZE_COUNT (BLOCK_MAX - BLOCK_MIN + 1)

struct block {
    size_t size; /* header included */
    struct block *next;
};

CHECK_STATIC(sizeof(struct block) == 16, "what follows a header is aligned for any type");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *free_blocks[SIZE_COUNT];
static uint8_t *chunk_at;
static uint8_t *chunk_end;

static void *map(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED)
        return NULL;
    /* Cannot fail on such a mapping; should it, secrets are still secrets, only dumped ones. */
    madvise(pages, size, MADV_DONTDUMP);
    return pages;
}

static unsigned class_of(size_t size)
{
    unsigned class = BLOCK_MIN;

    while (((size_t)1 << class) < size)
        class ++;
    return class;
}

static struct block *carve(size_t size)
{
    if ((size_t)(chunk_end - chunk_at) < size) {
        uint8_t *chunk = map(CHUNK);
        if (chunk == NULL)
            return NULL;
        chunk_at = chunk; /* the rest of the old chunk is lost: less than one block */
        chunk_end = chunk + CHUNK;
    }
    struct block *block = (struct block *)(void *)chunk_at;
    chunk_at += size;
    return block;
}

static struct block *take(size_t size)
{
    unsigned class = class_of(size);
    struct block **list = &free_blocks[class - BLOCK_MIN];

    pthread_mutex_lock(&lock);
    struct block *block = *list;
    if (block != NULL)
        *list = block->next;
    else
        block = carve((size_t)1 << class);
    pthread_mutex_unlock(&lock);
    if (block != NULL)
        block->size = (size_t)1 << class;
    return block;
}

#ifdef CULVERT_SANITIZED

void *tls_mem_alloc(size_t size)
{
    return malloc(size);
}

void tls_mem_free(void *memory)
{
    (void)take, (void)map;
    free(memory);
}

void *tls_mem_realloc(void *memory, size_t size)
{
    return realloc(memory, size);
}

bool tls_mem_start(void)
{
    return true;
}

#else

void *tls_mem_alloc(size_t size)
{
    struct block *block;

    if (size > SIZE_MAX / 2)
        return NULL;
    size += sizeof(*block);
    if (size > (size_t)1 << BLOCK_MAX) {
        block = map(size);
        if (block != NULL)
            block->size = size;
    } else {
        block = take(size);
    }
    return block != NULL ? block + 1 : NULL;
}

void tls_mem_free(void *memory)
{
    if (memory == NULL)
        return;
    struct block *block = (struct block *)memory - 1;
    explicit_bzero(memory, block->size - sizeof(*block));
    if (block->size > (size_t)1 << BLOCK_MAX) {
        munmap(block, block->size);
        return;
    }
    struct block **list = &free_blocks[class_of(block->size) - BLOCK_MIN];
    pthread_mutex_lock(&lock);
    block->next = *list;
    *list = block;
    pthread_mutex_unlock(&lock);
}

static void *crypto_alloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return tls_mem_alloc(size);
}

static void *crypto_realloc(void *memory, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return tls_mem_realloc(memory, size);
}

static void crypto_free(void *memory, const char *file, int line)
{
    (void)file, (void)line;
    tls_mem_free(memory);
}

bool tls_mem_start(void)
{
    return CRYPTO_set_mem_functions(crypto_alloc, crypto_realloc, crypto_free) == 1 &&
           tls_mem_start_wolf();
}

void *tls_mem_realloc(void *memory, size_t size)
{
    if (memory == NULL)
        return tls_mem_alloc(size);
    if (size == 0) {
        tls_mem_free(memory);
        return NULL;
    }
    size_t old = ((struct block *)memory - 1)->size - sizeof(struct block);
    if (size <= old)
        return memory;
    void *larger = tls_mem_alloc(size);
    if (larger == NULL)
        return NULL;
    memcpy(larger, memory, old);
    tls_mem_free(memory);
    return larger;
}

#endif

void tls_mem_wipe_stack(void)
{
    uint8_t frames[WIPE_STACK];

    explicit_bzero(frames, sizeof(frames));
}

void *tls_mem_zalloc(size_t size)
{
    void *memory = tls_mem_alloc(size);

    if (memory != NULL)
        memset(memory, 0, size);
    return memory;
}
