/* random_fake: getrandom(2) from the seed of the simulation, so that secrets and jitter replay. The linker takes this one. */
#include "core/base.h"
#include "fake/fake.h"

#include <sys/random.h>

ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
    uint8_t *p = buffer;

    (void)flags;
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)fake_random_next(fake_random());
    return (ssize_t)size;
}
