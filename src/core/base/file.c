/* file: see file.h. */
#include "core/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/secret.h"

#define FILE_MAX (1024u * 1024u)

static int file_read_all(int fd, char *text, size_t size, size_t *len)
{
    *len = 0;
    while (*len < size) {
        ssize_t n = read(fd, text + *len, size - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        *len += (size_t)n;
    }
    return 0;
}

static int file_read_fd(int fd, char **text, size_t *len)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    if (st.st_size > FILE_MAX)
        return -EFBIG;
    size_t size = st.st_size > 0 ? (size_t)st.st_size : FILE_MAX; /* a pipe has no size */
    *text = secret_alloc(size + 1);
    if (*text == NULL)
        return -ENOMEM;
    int result = file_read_all(fd, *text, size, len);
    (*text)[*len] = '\0';
    if (result != 0) {
        file_drop(*text);
        *text = NULL;
    }
    return result;
}

int file_read(const char *path, char **text, size_t *len)
{
    *text = NULL;
    *len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int result = file_read_fd(fd, text, len);
    close(fd);
    return result;
}

void file_drop(char *text)
{
    secret_free(text);
}

static int file_write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

int file_write(const char *path, const char *text, size_t len)
{
    char temp[4096];

    int n = snprintf(temp, sizeof(temp), "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof(temp))
        return -ENAMETOOLONG;
    int fd = mkostemp(temp, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return -errno;
    int result = file_write_all(fd, text, len);
    if (close(fd) != 0 && result == 0)
        result = -errno;
    if (result == 0 && rename(temp, path) != 0)
        result = -errno;
    if (result != 0)
        unlink(temp);
    return result;
}
