/*
 * options_token: see options_token.h.
 *
 * Fails closed: a token that is named but not there (no file, an empty file, an empty variable) is an error
 * and never falls through to the next source, because an empty secret is what one looks like that failed to
 * arrive. It passes through secret memory only (secret.h), to which struct config belongs.
 */
#include "core/options_token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"
#include "core/frame.h"
#include "core/secret.h"

CHECK_STATIC(CONFIG_TOKEN_MAX == FRAME_TOKEN_MAX, "a token that is accepted here fits into AUTH");

bool options_token_take(const char *source, const char *token, size_t size, struct config *config,
                        struct options_error *error)
{
    error->code = EXIT_CODE_USAGE;
    if (size == 0) {
        snprintf(error->text, sizeof(error->text),
                 "%s: the token is empty; it needs at least one character", source);
        return false;
    }
    if (size > CONFIG_TOKEN_MAX) {
        snprintf(error->text, sizeof(error->text),
                 "%s: the token is longer than %d bytes; use a shorter one", source,
                 CONFIG_TOKEN_MAX);
        return false;
    }
    secret_copy(config->token, token, size);
    config->token[size] = '\0';
    config->token_size = size;
    return true;
}

static bool fail_file(const char *file, int code, struct options_error *error)
{
    error->code = EXIT_CODE_CANNOT_START;
    snprintf(error->text, sizeof(error->text), "--token-file: cannot read '%.200s': %s", file,
             strerror(code));
    return false;
}

/* Reads until `size` bytes are there or the end; how many, or -errno. */
static ssize_t read_all(int fd, char *bytes, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t n = read(fd, bytes + have, size - have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

/* A pipe (`--token-file <(pass show tunnel)`) has no readers but us, whatever its mode. */
static void warn_if_public(int fd, const char *file, struct options *options)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH) != 0)
        snprintf(options->warning, sizeof(options->warning),
                 "token file '%.200s' can be read by every user of this machine; run chmod 600 on "
                 "it",
                 file);
}

static bool read_file(const char *file, struct options *options, struct options_error *error)
{
    size_t room = CONFIG_TOKEN_MAX + 2; /* the newline, and one more to see that it is too long */
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char *bytes;
    ssize_t size;
    bool ok;

    if (fd < 0)
        return fail_file(file, errno, error);
    bytes = secret_alloc(room);
    size = bytes != NULL ? read_all(fd, bytes, room) : -ENOMEM;
    warn_if_public(fd, file, options);
    close(fd);
    if (size > 0 && bytes[size - 1] == '\n')
        size--;
    ok = size < 0
             ? fail_file(file, (int)-size, error)
             : options_token_take("--token-file", bytes, (size_t)size, &options->config, error);
    secret_free(bytes);
    return ok;
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
