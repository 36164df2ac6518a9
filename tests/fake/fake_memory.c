/*
 * fake_memory: who owns which bytes while operations are in flight.
 *
 * Two tables hold the ranges of all rings of the world. Memory to be received into belongs to one
 * operation (or to the provided buffers) alone; memory being sent may be sent twice at once, but
 * not received into.
 *
 * Poison: the kernel's own memory is filled with a pattern when it gets it, and must still hold it
 * when the kernel uses it. Only the first bytes and a few more are marked: a megabyte touched for
 * each receive would make the simulation slow without finding more. Under AddressSanitizer the
 * program may not even read such memory.
 */
#include "fake/fake_impl.h"

#include <stdlib.h>

#ifdef CULVERT_SANITIZED
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(base, size)   ((void)(base), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(base, size) ((void)(base), (void)(size))
#endif

#define POISON_EDGE  256u
#define POISON_LARGE 65536u
#define POISON_BYTE  0xd5u

/* Ranges by address. */
struct table {
    struct fake_range **ranges;
    size_t count, room;
};

static struct table sends; /* may overlap each other: a few, scanned whole */
static struct table owned; /* overlap nothing: sorted by address */

static void table_free(struct table *t)
{
    while (t->count > 0)
        fake_release(t->ranges[t->count - 1]);
    free(t->ranges);
    *t = (struct table){ 0 };
}

void fake_memory_reset(void)
{
    table_free(&sends);
    table_free(&owned);
}

static bool overlap(const struct fake_range *a, const struct fake_range *b)
{
    return a->base < b->base + b->size && b->base < a->base + a->size;
}

/* The first owned range that ends behind `base`. */
static size_t owned_from(const uint8_t *base)
{
    size_t low = 0, high = owned.count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct fake_range *r = owned.ranges[middle];

        if (r->base + r->size <= base)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void check_alone(const struct fake_range *range)
{
    size_t i = owned_from(range->base);

    CHECK(i == owned.count || !overlap(range, owned.ranges[i]));
    for (i = 0; i < sends.count && range->kind != FAKE_SEND_RANGE; i++)
        CHECK(!overlap(range, sends.ranges[i]));
}

static void insert(struct table *t, size_t at, struct fake_range *range)
{
    if (t->count == t->room) {
        t->room = t->room == 0 ? 256 : t->room * 2;
        t->ranges = realloc(t->ranges, t->room * sizeof(struct fake_range *));
        CHECK(t->ranges != NULL);
    }
    memmove(&t->ranges[at + 1], &t->ranges[at], (t->count - at) * sizeof(struct fake_range *));
    t->ranges[at] = range;
    t->count++;
}

void fake_hold(struct fake_range *range, const void *base, size_t size, enum fake_range_kind kind)
{
    CHECK(!range->held);
    *range = (struct fake_range){ .base = base, .size = size, .kind = kind };
    if (size == 0)
        return;
    check_alone(range);
    range->held = true;
    if (kind == FAKE_SEND_RANGE) {
        insert(&sends, sends.count, range);
        return;
    }
    insert(&owned, owned_from(range->base), range);
    ASAN_POISON_MEMORY_REGION(base, size);
}

void fake_release(struct fake_range *range)
{
    struct table *t = range->kind == FAKE_SEND_RANGE ? &sends : &owned;
    size_t at = 0;

    if (!range->held)
        return;
    range->held = false;
    if (t == &owned) {
        ASAN_UNPOISON_MEMORY_REGION(range->base, range->size);
        at = owned_from(range->base);
    }
    while (t->ranges[at] != range)
        at++;
    t->count--;
    memmove(&t->ranges[at], &t->ranges[at + 1], (t->count - at) * sizeof(struct fake_range *));
}

uint64_t fake_hash(uint64_t hash, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t word = 0;

    for (; size >= 8; size -= 8, p += 8) {
        memcpy(&word, p, 8);
        hash = (hash ^ word) * UINT64_C(0x9fb21c651e98df25);
        hash ^= hash >> 32;
    }
    word = size;
    memcpy(&word, p, size);
    return fake_mix(hash ^ word) + size;
}

/* Where the marks are: the first bytes, and single ones further on in large memory. */
static size_t step_of(size_t size)
{
    return size < POISON_LARGE ? size : size / 4;
}

void fake_poison(void *data, size_t size)
{
    uint8_t *p = data;
    size_t step = step_of(size);

    memset(p, POISON_BYTE, min_size(size, POISON_EDGE));
    for (size_t i = step; i < size; i += step)
        p[i] = POISON_BYTE;
}

bool fake_poisoned(const void *data, size_t size)
{
    const uint8_t *p = data;
    size_t step = step_of(size);

    for (size_t i = 0; i < min_size(size, POISON_EDGE); i++)
        if (p[i] != POISON_BYTE)
            return false;
    for (size_t i = step; i < size; i += step)
        if (p[i] != POISON_BYTE)
            return false;
    return true;
}
