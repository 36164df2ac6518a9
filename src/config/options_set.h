/*
 * options_set: the value of a flag, from its text to its place.
 *
 * A text is judged by itself and by the row of its flag; whether it goes with other flags is known
 * when all are read (options_check.h). Nothing here knows whether the text is from a command line
 * or from the table, where the defaults are.
 */
#ifndef CULVERT_CONFIG_OPTIONS_SET_H
#define CULVERT_CONFIG_OPTIONS_SET_H

#include <stdbool.h>

#include "config/options_draft.h"
#include "config/options_table.h"

/* A switch has NULL, "true" or "false" for a value. That of --token is wiped, whatever comes of it;
 * --token-file keeps the pointer. False: *draft->error says what to write instead. */
bool options_set(struct options_draft *draft, const struct options_flag *flag, char *value);

#endif
