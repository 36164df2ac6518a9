/*
 * options_check: the command line as a whole.
 *
 * Each value is right by itself when it comes here, and what nobody said is filled in; this finds
 * what contradicts, or is missing. A relation is a row: whether it is broken, and what to write
 * instead. The first broken one is said, so those of the command itself stand before those that a
 * server and a client share.
 *
 * The token is judged last: to get it, files are read.
 */
#ifndef CULVERT_CONFIG_OPTIONS_CHECK_H
#define CULVERT_CONFIG_OPTIONS_CHECK_H

#include <stdbool.h>

#include "config/options_draft.h"

/* The flags. False: *draft->error says which ones do not go together. */
bool options_check(struct options_draft *draft);

/* The token, of a server or a client. May leave a sentence in options->warning. */
bool options_check_token(struct options_draft *draft);

#endif
