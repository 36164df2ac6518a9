/* help: what `culvert help` and `culvert COMMAND --help` print. */
#ifndef CULVERT_APP_HELP_H
#define CULVERT_APP_HELP_H

#include <stdio.h>

#include "config/options.h"

/* Usage, flags with their defaults (from the table that the parser uses),
 * examples. */
void help_print_command(FILE *out, enum options_command command);

/* `topic`: NULL for the overview, a command, "exit-codes", "environment", or
 * "table": flags, exit codes and variables in lines with tabs, for programs.
 * Returns EXIT_CODE_OK, or EXIT_CODE_USAGE after one sentence on stderr if
 * there is no such topic. */
int help_run(FILE *out, const char *topic);

#endif
