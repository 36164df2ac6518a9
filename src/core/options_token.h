/* options_token: where the token comes from. Used by options.c only. */
#ifndef CULVERT_CORE_OPTIONS_TOKEN_H
#define CULVERT_CORE_OPTIONS_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#include "core/options.h"

/* The seed's token; a server accepts it from loopback peers only. */
#define OPTIONS_DEFAULT_TOKEN "dev-token"

/* Copies a token of 1 to CONFIG_TOKEN_MAX bytes, or several, each in a line. False: *error names
 * `source` and the cure. */
bool options_token_take(const char *source, const char *token, size_t size, struct config *config,
                        struct options_error *error);

/* For a command line without --token: from `file` if it is not NULL, else from CULVERT_TOKEN, else the
 * default. May leave a sentence in options->warning. */
bool options_token_find(const char *file, struct options *options, struct options_error *error);

#endif
