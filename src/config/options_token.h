/* options_token: where the token comes from. Used for the command line, and by a server that reads
 * its file again. */
#ifndef CULVERT_CONFIG_OPTIONS_TOKEN_H
#define CULVERT_CONFIG_OPTIONS_TOKEN_H

#include <stdbool.h>

#include "config/options_error.h"
#include "config/options_values.h"

/* The seed's token; a server accepts it from loopback peers only. */
#define OPTIONS_DEFAULT_TOKEN "dev-token"

/* Copies a token of 1 to CONFIG_TOKEN_MAX bytes, or several, each in a line. False: *error names
 * `source` and the cure. */
bool options_token_take(const char *source, const char *text, struct config *config,
                        struct options_error *error);

/* For a command line without --token: from `file` if it is not NULL, else from CULVERT_TOKEN, else
 * the default. May leave a sentence in options->warning. */
bool options_token_find(const char *file, struct options *options, struct options_error *error);

/* Once more: the tokens of config->token_file, a regular file, into *fresh, which was zeros, and
 * whose they are then. False: it has none, and *error names the line and the cure. `warning` is
 * that of struct options. Waits for nobody, whatever has become of the file since. */
bool options_token_again(const struct config *config, struct config *fresh,
                         char warning[OPTIONS_WARNING_MAX], struct options_error *error);

#endif
