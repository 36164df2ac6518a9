/*
 * options_word: a word that begins with a dash, taken apart.
 *
 *     --flag   --flag=value   -flag   -flag=value     one dash for who comes from a Go program
 *     -p   -p8080   -p:8080   -p=8080                 the few that have a letter
 *
 * Nothing is copied: name and value point into the word, or into the table.
 */
#ifndef CULVERT_CONFIG_OPTIONS_WORD_H
#define CULVERT_CONFIG_OPTIONS_WORD_H

#include <stdbool.h>
#include <stddef.h>

#include "config/options_table.h"

struct options_word {
    const char *arg;                 /* all of it */
    const struct options_flag *flag; /* this command's, or another's; NULL: nobody's */
    const char *name;                /* not ended by a zero */
    size_t size;
    char *value; /* in the same word, or NULL */
};

/* It begins with a dash, and is more than one: a flag, or meant as one. */
bool options_word_is_flag(const char *arg);

/* Of such a word. */
struct options_word options_word_read(char *arg, enum options_command command);

/* True if `arg` is certainly the next flag rather than a value that begins with a dash: -p3abc is
 * no port. */
bool options_word_is_known(char *arg);

#endif
