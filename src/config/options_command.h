/*
 * options_command: the commands of the program, and their names.
 *
 * The order is that of the overview and of the help for programs (`culvert help table`).
 */
#ifndef CULVERT_CONFIG_OPTIONS_COMMAND_H
#define CULVERT_CONFIG_OPTIONS_COMMAND_H

#include <stdbool.h>

enum options_command {
    OPTIONS_SERVER,
    OPTIONS_CLIENT, /* also without a command word */
    OPTIONS_DEMO,
    OPTIONS_GEN_CERT,
    OPTIONS_VERSION,
    OPTIONS_HELP,
    OPTIONS_COMMAND_COUNT
};

/* "server", "client", "demo", "gen-cert", "version", "help". */
const char *options_command_name(enum options_command command);

/* False: no such command. */
bool options_command_find(const char *name, enum options_command *command);

/* The command whose name is nearest to `word`, or NULL if none is near. */
const char *options_command_nearest(const char *word);

#endif
