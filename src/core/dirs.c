/* dirs: see dirs.h. */
#include "core/dirs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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
