/* options_token_file: see options_token_file.h. */
#include "config/options_token_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/secret.h"
#include "core/base/token.h"

#define FIRST_ROOM (CONFIG_TOKEN_MAX + 2) /* one token, its newline, and the byte behind it */

/* What was read: secret memory. */
struct token_file {
    char *bytes;
    size_t size, room;
};

static bool token_file_grow(struct token_file *in)
{
    size_t room = in->room == 0 ? FIRST_ROOM : min_size(2 * in->room, CONFIG_TOKENS_MAX + 1);
    char *larger = secret_realloc(in->bytes, room);

    if (larger == NULL)
        return false;
    in->bytes = larger;
    in->room = room;
    return true;
}

/* To the end, behind which there is room for a byte. 0 or an errno: EFBIG when there is no end
 * within the limit. */
static int token_file_fill(struct token_file *in, int fd)
{
    while (in->size <= CONFIG_TOKENS_MAX) {
        if (in->size == in->room && !token_file_grow(in))
            return ENOMEM;
        ssize_t n = read(fd, in->bytes + in->size, in->room - in->size);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n == 0)
            return 0;
        if (n > 0)
            in->size += (size_t)n;
    }
    return EFBIG;
}

/* The line from `from` to `to`, as it is meant: nothing, if it is a comment. */
static size_t token_file_line(const char *from, const char *to, const char **clean)
{
    size_t size = (size_t)(to - from);

    *clean = from;
    token_trim(clean, &size);
    return size > 0 && (*clean)[0] == '#' ? 0 : size;
}

static void token_file_clean(struct token_file *in)
{
    static const char mark[] = { '\xef', '\xbb', '\xbf' };
    const char *at = in->bytes, *end = in->bytes + in->size;
    size_t kept = 0;

    CHECK(at != NULL); /* there is room before anything is read */
    if (in->size >= sizeof(mark) && memcmp(at, mark, sizeof(mark)) == 0)
        at += sizeof(mark);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *line;
        size_t size = token_file_line(at, newline != NULL ? newline : end, &line);

        secret_copy(in->bytes + kept, line, size); /* never behind where it is */
        kept += size;
        if (newline == NULL)
            break;
        in->bytes[kept++] = '\n';
        at = newline + 1;
    }
    explicit_bzero(in->bytes + kept, in->size - kept);
    in->size = kept;
}

/* The mark of byte order, of either: half of its bytes would be zeros, which no other end has. */
static bool token_file_is_utf16(const struct token_file *in)
{
    return in->size >= 2 &&
           (memcmp(in->bytes, "\xff\xfe", 2) == 0 || memcmp(in->bytes, "\xfe\xff", 2) == 0);
}

static bool token_file_fail(const char *file, int code, struct options_error *error)
{
    if (code == EFBIG)
        return options_error_usage(error,
                                   "--token-file: '%.200s' is larger than %u MiB; name a file of "
                                   "tokens, one in each line",
                                   file, CONFIG_TOKENS_MAX >> 20);
    return options_error_start(error, "--token-file: cannot read '%.200s': %s", file,
                               strerror(code));
}

/* A pipe (`--token-file <(pass show tunnel)`) has no readers but us, whatever its mode. */
static void token_file_warn_if_public(const struct stat *st, const char *file,
                                      char warning[OPTIONS_WARNING_MAX])
{
    if (S_ISREG(st->st_mode) && (st->st_mode & S_IROTH) != 0)
        snprintf(warning, OPTIONS_WARNING_MAX,
                 "token file '%.200s' can be read by every user of this machine; run chmod 600 on "
                 "it",
                 file);
}

/* What was read becomes that of *config. */
static bool token_file_give(struct token_file *in, const char *file, struct config *config,
                            struct options_error *error)
{
    if (token_file_is_utf16(in)) {
        secret_free(in->bytes);
        return options_error_usage(error, "--token-file: '%.200s' is UTF-16: save it as UTF-8",
                                   file);
    }
    token_file_clean(in);
    if (in->size > 0 && in->bytes[in->size - 1] == '\n')
        in->bytes[--in->size] = '\0';
    config_own_token(config, in->bytes, in->size);
    return true;
}

/* The open file `fd`, which is closed. */
static bool token_file_take(int fd, const char *file, struct config *config,
                            char warning[OPTIONS_WARNING_MAX], struct options_error *error)
{
    struct stat st = { .st_mode = 0 };
    struct token_file in = { 0 };
    int code = fstat(fd, &st) == 0 ? token_file_fill(&in, fd) : errno;

    close(fd);
    if (code != 0) {
        secret_free(in.bytes);
        return token_file_fail(file, code, error);
    }
    token_file_warn_if_public(&st, file, warning);
    config->token_again = S_ISREG(st.st_mode);
    return token_file_give(&in, file, config, error);
}

bool options_token_file_read(const char *file, struct config *config,
                             char warning[OPTIONS_WARNING_MAX], struct options_error *error)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    return fd >= 0 ? token_file_take(fd, file, config, warning, error)
                   : token_file_fail(file, errno, error);
}

/* Opened without waiting for a writer of a FIFO that stands there now; what a regular file says
 * comes without waiting. */
bool options_token_file_again(const char *file, struct config *config,
                              char warning[OPTIONS_WARNING_MAX], struct options_error *error)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;

    if (fd < 0)
        return token_file_fail(file, errno, error);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return token_file_take(fd, file, config, warning, error);
    close(fd);
    return options_error_start(
        error, "--token-file: '%.200s' is no regular file any more; put one there", file);
}
