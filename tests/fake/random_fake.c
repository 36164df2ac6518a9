/* random_fake: getrandom(2) from the seed of the simulation, so that secrets and jitter replay.
 * What it gives is noted: a tap looks for it (fake_tap.c). The linker takes this one. */
#include "fake/fake_impl.h"

#include <sys/random.h>

ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
    uint8_t *p = buffer;

    (void)flags;
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)fake_random_next(fake_random());
    if (size >= 16) /* less is no secret, but a seed of jitter */
        fake_random_secret(buffer, min_size(size, FAKE_SECRET_MOST));
    return (ssize_t)size;
}
