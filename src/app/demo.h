/*
 * demo: `culvert demo`, the whole thing on one machine.
 *
 * The demo process starts a server and a client as child processes of the same
 * program, is itself origin and visitor, checks every byte that crosses, and
 * prints what it measured.
 */
#ifndef CULVERT_APP_DEMO_H
#define CULVERT_APP_DEMO_H

#include "config/options.h"

/* Runs until the check is over (--once) or Ctrl+C. Returns an exit code. */
int demo_run(const struct options *options);

#endif
