/*
 * options_args: the argument vector into the draft.
 *
 * First the command, then its flags, as options_word.h takes them apart. Switches take no value but
 * `=true` or `=false`; of the others it is the rest of the word or the next argument. A flag given
 * twice counts the last time, except those that say "repeatable". The only arguments that stand
 * alone are a client's origins (`culvert 3000` is `culvert client --local 3000`) and a topic of the
 * help.
 */
#ifndef CULVERT_CONFIG_OPTIONS_ARGS_H
#define CULVERT_CONFIG_OPTIONS_ARGS_H

#include <stdbool.h>

#include "config/options_draft.h"

/* Reads argv[1..argc). False: *draft->error says what is wrong with the first wrong one. */
bool options_args_read(struct options_draft *draft, int argc, char **argv);

#endif
