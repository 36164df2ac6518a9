/*
 * options_defaults: what nobody has said.
 *
 * Most defaults are texts in the table of flags, and are set before the first flag is read. Others
 * follow from what was said, from the environment or from this machine, and wait until all is read;
 * so do those of flags that are repeatable, since what is given does not join them. Nothing here
 * fails: what contradicts, options_check.c finds afterwards.
 */
#ifndef CULVERT_CONFIG_OPTIONS_DEFAULTS_H
#define CULVERT_CONFIG_OPTIONS_DEFAULTS_H

#include "config/options_draft.h"

/* Before the first flag. */
void options_defaults_before(struct options_draft *draft);

/* After the last one: what is still open, for the command that it is. */
void options_defaults_after(struct options_draft *draft);

#endif
