/*
 * options_token: see options_token.h.
 *
 * Fails closed: a token that is named but not there (no file, an empty file, an empty variable) is
 * an error and never falls through to the next source, because an empty secret is what one looks
 * like that failed to arrive. It passes through secret memory only (secret.h), and what was read is
 * what struct config has from then on.
 *
 * A server's file has a token in each line, as many as it likes: only the file as a whole has a
 * limit, so that an input without an end (/dev/zero) has one. A client's file may have comments and
 * blank lines as well, but one token.
 */
#include "config/options_token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/secret.h"
#include "core/base/token.h"
#include "core/wire/frame.h"

CHECK_STATIC(CONFIG_TOKEN_MAX == FRAME_TOKEN_MAX, "a token that is accepted here fits into AUTH");

#define FIRST_ROOM (CONFIG_TOKEN_MAX + 2) /* one token, its newline, and the byte behind it */

static bool fail(struct options_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool fail(struct options_error *error, int code, const char *format, ...)
{
    va_list args;

    error->code = code;
    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    return false;
}

static bool fail_long(const char *source, const struct config *config, unsigned line,
                      struct options_error *error)
{
    char where[32] = "";

    if (memchr(config->token, '\n', config->token_size) != NULL)
        snprintf(where, sizeof(where), "line %u: ", line + 1);
    return fail(error, EXIT_CODE_USAGE,
                "%s: %sthe token is longer than %d bytes; use a shorter one", source, where,
                CONFIG_TOKEN_MAX);
}

/* A line that looks blank was not meant as a secret. */
static bool looks_blank(const struct config_token *token)
{
    for (size_t i = 0; i < token->size; i++)
        if (strchr(" \t\r\v\f", token->bytes[i]) == NULL) /* zeros look blank, too */
            return false;
    return true;
}

/* There is a token, each is more than white space, and none is longer than it may be. */
static bool check(const char *source, const struct config *config, struct options_error *error)
{
    struct config_token token = { 0 };

    if (!config_next_token(config, &token))
        return fail(error, EXIT_CODE_USAGE,
                    "%s: the token is empty; it needs at least one character", source);
    do {
        if (token.size > CONFIG_TOKEN_MAX)
            return fail_long(source, config, token.line, error);
        if (looks_blank(&token))
            return fail(error, EXIT_CODE_USAGE, "%s: line %u: the token is nothing but white space",
                        source, token.line + 1);
    } while (config_next_token(config, &token));
    return true;
}

bool options_token_take(const char *source, const char *token, size_t size, struct config *config,
                        struct options_error *error)
{
    if (!config_copy_token(config, token, size))
        return fail(error, EXIT_CODE_CANNOT_START, "out of memory");
    return check(source, config, error);
}

/* Files */

/* What was read of a file: secret memory. */
struct input {
    char *bytes;
    size_t size, room;
};

static bool input_grow(struct input *in)
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
static int input_read(struct input *in, int fd)
{
    while (in->size <= CONFIG_TOKENS_MAX) {
        if (in->size == in->room && !input_grow(in))
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

static bool fail_file(const char *file, int code, struct options_error *error)
{
    if (code == EFBIG)
        return fail(error, EXIT_CODE_USAGE,
                    "--token-file: '%.200s' is larger than %u MiB; name a file of tokens, one in "
                    "each line",
                    file, CONFIG_TOKENS_MAX >> 20);
    return fail(error, EXIT_CODE_CANNOT_START, "--token-file: cannot read '%.200s': %s", file,
                strerror(code));
}

/* A pipe (`--token-file <(pass show tunnel)`) has no readers but us, whatever its mode. */
static void warn_if_public(const struct stat *st, const char *file,
                           char warning[OPTIONS_WARNING_MAX])
{
    if (S_ISREG(st->st_mode) && (st->st_mode & S_IROTH) != 0)
        snprintf(warning, OPTIONS_WARNING_MAX,
                 "token file '%.200s' can be read by every user of this machine; run chmod 600 on "
                 "it",
                 file);
}

/* The line from `from` to `to`, as it is meant: nothing, if it is a comment. */
static size_t line_clean(const char *from, const char *to, const char **clean)
{
    size_t size = (size_t)(to - from);

    *clean = from;
    token_trim(clean, &size);
    return size > 0 && (*clean)[0] == '#' ? 0 : size;
}

/* A file comes from an editor, by mail, from Windows: what nobody sees is no part of a token (a
 * mark of byte order, white space at the ends of lines), nor is a comment. Lines stay lines:
 * their numbers are in messages. */
static void input_clean(struct input *in)
{
    static const char mark[] = { '\xef', '\xbb', '\xbf' };
    const char *at = in->bytes, *end = in->bytes + in->size;
    size_t kept = 0;

    CHECK(at != NULL); /* there is room before anything is read */
    if (in->size >= sizeof(mark) && memcmp(at, mark, sizeof(mark)) == 0)
        at += sizeof(mark);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *line;
        size_t size = line_clean(at, newline != NULL ? newline : end, &line);

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
static bool input_is_utf16(const struct input *in)
{
    return in->size >= 2 &&
           (memcmp(in->bytes, "\xff\xfe", 2) == 0 || memcmp(in->bytes, "\xfe\xff", 2) == 0);
}

/* What was read becomes the token, if it is one. */
static bool take_input(struct input *in, const char *file, struct config *config,
                       struct options_error *error)
{
    if (input_is_utf16(in)) {
        secret_free(in->bytes);
        return fail(error, EXIT_CODE_USAGE, "--token-file: '%.200s' is UTF-16: save it as UTF-8",
                    file);
    }
    input_clean(in);
    if (in->size > 0 && in->bytes[in->size - 1] == '\n')
        in->bytes[--in->size] = '\0';
    config_own_token(config, in->bytes, in->size);
    return check("--token-file", config, error);
}

/* The open file `fd`, which is closed. */
static bool read_fd(int fd, const char *file, struct config *config,
                    char warning[OPTIONS_WARNING_MAX], struct options_error *error)
{
    struct stat st = { .st_mode = 0 };
    struct input in = { 0 };
    int code = fstat(fd, &st) == 0 ? input_read(&in, fd) : errno;

    close(fd);
    if (code != 0) {
        secret_free(in.bytes);
        return fail_file(file, code, error);
    }
    warn_if_public(&st, file, warning);
    config->token_again = S_ISREG(st.st_mode);
    return take_input(&in, file, config, error);
}

static bool read_file(const char *file, struct options *options, struct options_error *error)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    options->config.token_file = file;
    return fd >= 0 ? read_fd(fd, file, &options->config, options->warning, error)
                   : fail_file(file, errno, error);
}

/* Opened without waiting for a writer of a FIFO that stands there now; what a regular file says
 * comes without waiting. */
bool options_token_again(const struct config *config, struct config *fresh,
                         char warning[OPTIONS_WARNING_MAX], struct options_error *error)
{
    const char *file = config->token_file;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;

    warning[0] = '\0';
    if (fd < 0)
        return fail_file(file, errno, error);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return fail(error, EXIT_CODE_CANNOT_START,
                    "--token-file: '%.200s' is no regular file any more; put one there", file);
    }
    bool read = read_fd(fd, file, fresh, warning, error);
    if (!read)
        config_drop_token(fresh);
    return read;
}

bool options_token_find(const char *file, struct options *options, struct options_error *error)
{
    const char *variable = getenv("CULVERT_TOKEN");

    if (file != NULL)
        return read_file(file, options, error);
    if (variable != NULL)
        return options_token_take("CULVERT_TOKEN", variable, strlen(variable), &options->config,
                                  error);
    options->config.token_is_default = true;
    return options_token_take("default", OPTIONS_DEFAULT_TOKEN, strlen(OPTIONS_DEFAULT_TOKEN),
                              &options->config, error);
}
