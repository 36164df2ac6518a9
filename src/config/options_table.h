/*
 * options_table: all flags, a row each.
 *
 * A row says what a flag is called, what kind of value it takes and between which bounds, where the
 * value goes, which commands take it, its default and its help. What reads a command line, fills in
 * defaults or prints help, man page and completions knows no flag by itself: it goes by the rows,
 * so these cannot disagree, and a new flag is a new row.
 *
 * What a kind means is options_set.c's. What a row cannot say because it takes two flags to be said
 * is options_defaults.c's (what one leaves open) and options_check.c's (what contradicts).
 */
#ifndef CULVERT_CONFIG_OPTIONS_TABLE_H
#define CULVERT_CONFIG_OPTIONS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/options_command.h"

/* What is read, and so how. */
enum options_kind {
    /* stored at the row's place */
    KIND_NUMBER,
    KIND_DURATION,   /* nanoseconds */
    KIND_SIZE,       /* bytes */
    KIND_CHOICE,     /* a word of the row's `value`, stored as its number from 0 on */
    KIND_SWITCH,     /* stored as true */
    KIND_SWITCH_OFF, /* stored as false */
    KIND_TEXT,       /* a path or other text, kept as it is */
    KIND_PIN,        /* a text that has the form of a key's pin */
    /* for one member of struct options or of the draft */
    KIND_CPUS,
    KIND_LISTEN,
    KIND_PORTS,
    KIND_PUBLIC_ADDR,
    KIND_SERVER,
    KIND_LOCAL,
    KIND_PORT,
    KIND_TUNNEL_NAME,
    KIND_CERT_NAME,
    KIND_TOKEN,
    KIND_TOKEN_FILE,
    KIND_TLS,
    KIND_PLAIN,
    KIND_COUNT
};

/* Titles of the help, in its order. */
enum options_group {
    GROUP_WHERE,
    GROUP_DEMO,
    GROUP_CERT,
    GROUP_SECRET,
    GROUP_CORES,
    GROUP_LIMITS,
    GROUP_TIMES,
    GROUP_REST,
    GROUP_COUNT
};

struct options_flag {
    const char *name;   /* without dashes */
    const char *value;  /* in the help, "FILE", or all choices, "auto|on|off"; NULL: a switch */
    const char *preset; /* the default; NULL: none */
    const char *help;
    enum options_kind kind;
    uint64_t min, max; /* numbers, durations, sizes */
    const char *word;  /* may stand in place of one of these: "auto"; NULL: none may */
    uint64_t meaning;  /* what is stored for the word */
    uint16_t offset;   /* in struct options */
    uint16_t width;    /* bytes there */
    uint8_t commands;  /* those that take it: 1 << enum options_command */
    enum options_group group;
    bool list; /* repeatable: the preset counts only if the flag is not given */
};

/* In the order of the help; a row without a name ends them. */
extern const struct options_flag options_flags[];

/* What one dash and one letter mean, to whom; '\0' ends them. */
struct options_letter {
    char letter;
    uint8_t commands;
    const char *name;
};
extern const struct options_letter options_letters[];

static inline bool options_flag_is_for(const struct options_flag *flag,
                                       enum options_command command)
{
    return (flag->commands & (1u << command)) != 0;
}

const char *options_table_title(enum options_group group);

/* The flag named by the `size` bytes at `name`: this command's, or else another's; NULL if there is
 * none. */
const struct options_flag *options_table_find(const char *name, size_t size,
                                              enum options_command command);

/* A flag of this command that `word` begins, or that is a few letters away; NULL if none is. */
const struct options_flag *options_table_nearest(const char *word, enum options_command command);

/* For "--%s belongs to 'culvert %s'": the first command that takes the flag. */
enum options_command options_table_owner(const struct options_flag *flag);

#endif
