/*
 * options_unknown: what is said of a flag or a command that is none.
 *
 * Who types it is told what to write instead: what he is used to from other programs
 * (options_habit.h), whose flag it is, or what is nearest.
 *
 * Tokens never appear there. An unknown flag is quoted as far as it is a name, and of one that
 * begins like the name of a secret only that name: -tSECRET, --token:SECRET and --passwordSECRET
 * are one word.
 */
#ifndef CULVERT_CONFIG_OPTIONS_UNKNOWN_H
#define CULVERT_CONFIG_OPTIONS_UNKNOWN_H

#include <stdbool.h>

#include "config/options_draft.h"
#include "config/options_word.h"

/* The word is no flag of this command. Returns false. */
bool options_unknown_flag(struct options_draft *draft, const struct options_word *word);

/* The first argument is no command. Returns false. */
bool options_unknown_command(struct options_draft *draft, const char *word);

#endif
