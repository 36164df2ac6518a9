/*
 * options_machine: what only this machine can tell: its cores.
 */
#ifndef CULVERT_CONFIG_OPTIONS_MACHINE_H
#define CULVERT_CONFIG_OPTIONS_MACHINE_H

#include <stdbool.h>

#include "config/options_error.h"
#include "core/base/config.h"

/* On how many cores this process may run: 1 to CONFIG_CPUS_MAX. */
unsigned options_machine_cores(void);

/* Every core of --cpus is one this process may run on. */
bool options_check_machine(const struct config *config, struct options_error *error);

#endif
