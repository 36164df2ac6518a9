/*
 * options_print: the table of flags, for people and for programs.
 */
#ifndef CULVERT_CONFIG_OPTIONS_PRINT_H
#define CULVERT_CONFIG_OPTIONS_PRINT_H

#include <stdio.h>

#include "config/options_command.h"

/* The flags of a command in groups, with their defaults, 80 columns wide. */
void options_print_flags(FILE *out, enum options_command command);

/* All flags for a program to read (man page, completion), in the order of the help, a line each:
 *   flag TAB group TAB commands, with commas TAB name TAB value TAB default TAB help
 *   letter TAB letter TAB commands, with commas TAB name of the flag
 * Without a value it is a switch; without a default there is none. */
void options_print_table(FILE *out);

#endif
