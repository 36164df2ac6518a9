/* options_word: see options_word.h. */
#include "config/options_word.h"

#include <string.h>

#define PORT_LETTERS ":0123456789"

bool options_word_is_flag(const char *arg)
{
    return arg[0] == '-' && arg[1] != '\0';
}

/* What the letter means to the command; the last row if it means nothing. */
static const struct options_letter *word_find_letter(char letter, enum options_command command)
{
    const struct options_letter *row = options_letters;

    while (row->letter != '\0' && (row->letter != letter || (row->commands & (1u << command)) == 0))
        row++;
    return row;
}

/* False: no letter that means something here. */
static bool word_read_letter(char *arg, enum options_command command, struct options_word *word)
{
    const struct options_letter *letter = word_find_letter(arg[1], command);
    bool joined = arg[2] != '\0' && strchr(PORT_LETTERS, arg[2]) != NULL;

    if (letter->letter == '\0' || (arg[2] != '\0' && arg[2] != '=' && !joined))
        return false;
    word->name = letter->name;
    word->size = strlen(letter->name);
    if (arg[2] != '\0')
        word->value = joined ? arg + 2 : arg + 3;
    return true;
}

static void word_read_name(char *arg, struct options_word *word)
{
    char *name = arg[1] == '-' ? arg + 2 : arg + 1;

    word->name = name;
    word->size = strcspn(name, "=");
    if (name[word->size] == '=')
        word->value = name + word->size + 1;
}

struct options_word options_word_read(char *arg, enum options_command command)
{
    struct options_word word = { .arg = arg };

    if (!word_read_letter(arg, command, &word))
        word_read_name(arg, &word);
    word.flag = options_table_find(word.name, word.size, command);
    return word;
}

bool options_word_is_known(char *arg)
{
    if (!options_word_is_flag(arg))
        return false;
    struct options_word word = options_word_read(arg, OPTIONS_CLIENT);
    bool joined = word.value != NULL && word.value[-1] != '=';
    return word.flag != NULL && (!joined || strspn(word.value, PORT_LETTERS) == strlen(word.value));
}
