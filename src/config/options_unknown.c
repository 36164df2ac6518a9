/* options_unknown: see options_unknown.h. */
#include "config/options_unknown.h"

#include <stdio.h>
#include <string.h>

#include "config/options_habit.h"
#include "core/base/base.h"

#define NAME_ROOM 64

/* What names a secret here or elsewhere: behind it, in the same word, the secret itself may
 * stand. */
static const struct {
    const char *name; /* without dashes */
    bool one_dash;    /* only behind one dash */
} secrets[] = {
    { "token", false },     { "secret", false },   { "auth-token", false },
    { "authtoken", false }, { "password", false }, { "t", true },
};

/* How much of the flag is its name: up to what no flag has in it, or to where a secret may
 * begin. */
static size_t unknown_name_size(const struct options_word *word)
{
    size_t letters_only = min_size(word->size, strspn(word->name, CONFIG_NAME_LETTERS));
    bool one_dash = word->name == word->arg + 1;

    for (size_t i = 0; i < ARRAY_SIZE(secrets); i++) {
        size_t known = strlen(secrets[i].name);

        if (letters_only > known && memcmp(word->name, secrets[i].name, known) == 0 &&
            (one_dash || !secrets[i].one_dash))
            return known;
    }
    return letters_only;
}

static void unknown_copy(const char *from, size_t size, char to[NAME_ROOM])
{
    snprintf(to, NAME_ROOM, "%.*s", (int)min_size(size, NAME_ROOM - 1), from);
}

/* What somebody who writes this is used to: by the whole name, or else by what may be quoted of it.
 * NULL: nothing that is known. */
static const char *unknown_habit(const char *whole, const char *quoted, bool near,
                                 enum options_command command)
{
    const char *habit = options_habit_flag(whole, command);

    return habit != NULL || near ? habit : options_habit_flag(quoted, command);
}

/* Another command's, or near to one of this command's: it means that one. */
static bool unknown_fail_flag(struct options_draft *d, const char *shown,
                              const struct options_flag *other, const struct options_flag *near)
{
    enum options_command command = d->options->command;
    const char *name = options_command_name(command);

    if (other != NULL)
        return options_error_usage(
            d->error, "--%s belongs to 'culvert %s', not to 'culvert %s'; leave it out",
            other->name, options_command_name(options_table_owner(other)), name);
    if (near != NULL)
        return options_error_usage(d->error, "%s is not a flag of 'culvert %s'; did you mean --%s?",
                                   shown, name, near->name);
    return options_error_usage(d->error,
                               "%s is not a flag of 'culvert %s'; 'culvert help %s' lists them",
                               shown, name, name);
}

bool options_unknown_flag(struct options_draft *d, const struct options_word *word)
{
    enum options_command command = d->options->command;
    size_t quoted = unknown_name_size(word);
    char whole[NAME_ROOM], name[NAME_ROOM], shown[NAME_ROOM + 16];

    unknown_copy(word->name, word->size, whole);
    unknown_copy(word->name, quoted, name);
    snprintf(shown, sizeof(shown), "%.*s%s%s", (int)(word->name - word->arg), word->arg, name,
             quoted < word->size ? "..." : "");
    const struct options_flag *near = options_table_nearest(whole, command);
    bool meant = near != NULL || word->flag != NULL;
    const char *habit = unknown_habit(whole, name, meant, command);
    if (habit != NULL)
        return options_error_usage(d->error, "%s is not a flag of 'culvert %s'; %s", shown,
                                   options_command_name(command), habit);
    return unknown_fail_flag(d, shown, word->flag, near);
}

bool options_unknown_command(struct options_draft *d, const char *word)
{
    const char *near = options_command_nearest(word);
    const char *habit = options_habit_command(word);

    if (habit != NULL)
        return options_error_usage(d->error, "'%.60s' is not a command; %s", word, habit);
    if (near != NULL)
        return options_error_usage(d->error, "'%.60s' is not a command; did you mean 'culvert %s'?",
                                   word, near);
    return options_error_usage(d->error, "'%.60s' is not a command; 'culvert help' lists them",
                               word);
}
