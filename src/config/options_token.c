/*
 * options_token: see options_token.h.
 *
 * Fails closed: a token that is named but not there (no file, an empty file, an empty variable) is
 * an error and never falls through to the next source, because an empty secret is what one looks
 * like that failed to arrive.
 *
 * A server has a token in each line of its file, as many as it likes: only the file as a whole has
 * a limit (options_token_file.h). A client's may have comments and blank lines as well, but one
 * token, which options_check.c sees to.
 */
#include "config/options_token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/options_token_file.h"
#include "core/base/check.h"
#include "core/wire/frame.h"

CHECK_STATIC(CONFIG_TOKEN_MAX == FRAME_TOKEN_MAX, "a token that is accepted here fits into AUTH");

static bool token_fail_long(const char *source, const struct config *config, unsigned line,
                            struct options_error *error)
{
    char where[32] = "";

    if (memchr(config->token, '\n', config->token_size) != NULL)
        snprintf(where, sizeof(where), "line %u: ", line + 1);
    return options_error_usage(error, "%s: %sthe token is longer than %d bytes; use a shorter one",
                               source, where, CONFIG_TOKEN_MAX);
}

/* A line that looks blank was not meant as a secret. */
static bool token_looks_blank(const struct config_token *token)
{
    for (size_t i = 0; i < token->size; i++)
        if (strchr(" \t\r\v\f", token->bytes[i]) == NULL) /* zeros look blank, too */
            return false;
    return true;
}

/* There is a token, each is more than white space, and none is longer than it may be. */
static bool token_check(const char *source, const struct config *config,
                        struct options_error *error)
{
    struct config_token token = { 0 };

    if (!config_next_token(config, &token))
        return options_error_usage(error, "%s: the token is empty; it needs at least one character",
                                   source);
    do {
        if (token.size > CONFIG_TOKEN_MAX)
            return token_fail_long(source, config, token.line, error);
        if (token_looks_blank(&token))
            return options_error_usage(error, "%s: line %u: the token is nothing but white space",
                                       source, token.line + 1);
    } while (config_next_token(config, &token));
    return true;
}

bool options_token_take(const char *source, const char *text, struct config *config,
                        struct options_error *error)
{
    if (!config_copy_token(config, text, strlen(text)))
        return options_error_start(error, "out of memory");
    return token_check(source, config, error);
}

bool options_token_again(const struct config *config, struct config *fresh,
                         char warning[OPTIONS_WARNING_MAX], struct options_error *error)
{
    warning[0] = '\0';
    if (options_token_file_again(config->token_file, fresh, warning, error) &&
        token_check("--token-file", fresh, error))
        return true;
    config_drop_token(fresh);
    return false;
}

bool options_token_find(const char *file, struct options *options, struct options_error *error)
{
    struct config *config = &options->config;
    const char *variable = getenv("CULVERT_TOKEN");

    if (file != NULL) {
        config->token_file = file;
        return options_token_file_read(file, config, options->warning, error) &&
               token_check("--token-file", config, error);
    }
    if (variable != NULL)
        return options_token_take("CULVERT_TOKEN", variable, config, error);
    config->token_is_default = true;
    return options_token_take("default", OPTIONS_DEFAULT_TOKEN, config, error);
}
