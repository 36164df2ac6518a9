/* dirs: see dirs.h. */
#include "core/base/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/base.h"

#define LOCK_TRIES 1000u
#define LOCK_PAUSE (10 * NSEC_PER_MSEC)

int dirs_make(const char *path)
{
    char part[512];
    struct stat st;
    size_t size = strlen(path);

    if (size >= sizeof(part))
        return -ENAMETOOLONG;
    for (size_t i = 1; i <= size; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        int error = mkdir(part, 0700) == 0 ? 0 : errno;
        if (error != 0 && error != EEXIST && stat(part, &st) != 0)
            return -error;
    }
    if (stat(path, &st) != 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* Not flock(2) that waits: whoever has it may be stopped. */
static int dirs_lock_patiently(int fd)
{
    const struct timespec pause = { .tv_nsec = (long)LOCK_PAUSE };

    for (unsigned i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        nanosleep(&pause, NULL);
    }
    return -ETIMEDOUT;
}

int dirs_lock(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    int error = dirs_lock_patiently(fd);
    if (error == 0)
        return fd;
    close(fd);
    return error;
}
