/*
 * options_habit: words of other programs, and what to write instead.
 *
 * Who types them has used ngrok, frp, bore, rathole or ssh and has not read a manual; edit distance
 * leads nowhere, since the words are not misspelt. Pure tables.
 */
#ifndef CULVERT_CONFIG_OPTIONS_HABIT_H
#define CULVERT_CONFIG_OPTIONS_HABIT_H

#include "config/options_command.h"

/* A clause for after "--NAME is not a flag of ...; ", or NULL. */
const char *options_habit_flag(const char *name, enum options_command command);

/* A clause for after "'WORD' is not a command; ", or NULL. */
const char *options_habit_command(const char *word);

#endif
