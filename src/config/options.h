/*
 * options: the command line into one const struct config.
 *
 * One table of flags serves the parser, the defaults and the help text, so they cannot disagree.
 * Each row names the commands that take it. Parsing prints nothing and never exits: it fills struct
 * options or says in one sentence what to change, and so can be tested and fuzzed. What it touches
 * outside of its arguments: the environment variable CULVERT_TOKEN, the token file, the set of
 * cores of this process, and the argv bytes of --token, which it wipes.
 */
#ifndef CULVERT_CONFIG_OPTIONS_H
#define CULVERT_CONFIG_OPTIONS_H

#include <stdbool.h>

#include "config/options_command.h"
#include "config/options_error.h"
#include "config/options_machine.h"
#include "config/options_print.h"
#include "config/options_values.h"

/* Parses argv[1..argc). `options` is filled completely, defaults included, and whatever it held
 * before is not looked at. Its token is the caller's to drop (config_drop_token), whatever the
 * command is. False: *error is filled and *options is unspecified, but has no token. */
bool options_parse(int argc, char **argv, struct options *options, struct options_error *error);

#endif
