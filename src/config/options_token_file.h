/*
 * options_token_file: the bytes of a token file, as they are meant.
 *
 * A file comes from an editor, by mail, from Windows: what nobody sees is no part of a token (a
 * mark of byte order, white space at the ends of lines), nor is a comment. Lines stay lines, since
 * their numbers are in messages. Whether what is left are tokens, options_token.c says.
 *
 * What is read passes through secret memory only (secret.h), and is what struct config has from
 * then on. The file as a whole has a limit, so that an input without an end (/dev/zero) has one.
 */
#ifndef CULVERT_CONFIG_OPTIONS_TOKEN_FILE_H
#define CULVERT_CONFIG_OPTIONS_TOKEN_FILE_H

#include <stdbool.h>

#include "config/options_error.h"
#include "config/options_values.h"

/* The tokens of `file` into *config. May leave a sentence in `warning`. False: *config has none of
 * them, and *error says why. */
bool options_token_file_read(const char *file, struct config *config,
                             char warning[OPTIONS_WARNING_MAX], struct options_error *error);

/* The same of a file that was read before and has to be a regular one. Waits for nobody, whatever
 * has become of it since. */
bool options_token_file_again(const char *file, struct config *config,
                              char warning[OPTIONS_WARNING_MAX], struct options_error *error);

#endif
