/* pinned: see pinned.h. */
#include "core/base/pinned.h"

#include "core/base/base.h"
#include "core/base/check.h"

#include <stdatomic.h>

#define LEAVE_MOST (2 * MIB)

static uint64_t pinned_most = UINT64_MAX;
static atomic_uint_least64_t pinned_taken;

void pinned_set_limit(uint64_t bytes)
{
    pinned_most = bytes;
}

uint64_t pinned_limit(void)
{
    return pinned_most;
}

uint64_t pinned_leave(void)
{
    return min_u64(pinned_most / 4, LEAVE_MOST);
}

void pinned_add(uint64_t bytes)
{
    atomic_fetch_add(&pinned_taken, bytes);
}

void pinned_drop(uint64_t bytes)
{
    CHECK(atomic_fetch_sub(&pinned_taken, bytes) >= bytes);
}

bool pinned_try(uint64_t bytes)
{
    uint64_t room = pinned_most - pinned_leave(), before = atomic_load(&pinned_taken);

    do {
        if (bytes > room || before > room - bytes)
            return false;
    } while (!atomic_compare_exchange_weak(&pinned_taken, &before, before + bytes));
    return true;
}
