/* options_print: see options_print.h. */
#include "config/options_print.h"

#include <string.h>

#include "config/options_table.h"

/* For people */

#define HELP_COLUMN 26
#define HELP_WIDTH  79

/* Words of `text` from `column` on, continued at HELP_COLUMN. */
static void print_wrapped(FILE *out, const char *text, size_t column)
{
    while (*text != '\0') {
        size_t size = strcspn(text, " ");

        if (column + 1 + size > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        fprintf(out, " %.*s", (int)size, text);
        column += 1 + size;
        text += size;
        text += strspn(text, " ");
    }
}

/* The letter that stands for the flag; 0: none. */
static char print_letter(const struct options_flag *flag, enum options_command command)
{
    const struct options_letter *letter = options_letters;

    while (letter->letter != '\0' &&
           ((letter->commands & (1u << command)) == 0 || strcmp(letter->name, flag->name) != 0))
        letter++;
    return letter->letter;
}

/* "  -p, --port N", and blanks or a new line up to HELP_COLUMN. */
static void print_head(FILE *out, const struct options_flag *flag, enum options_command command)
{
    const char letter[] = { '-', print_letter(flag, command), ',', ' ', '\0' };
    char head[64];

    snprintf(head, sizeof(head), "  %s--%s%s%s", letter[1] != '\0' ? letter : "", flag->name,
             flag->value != NULL ? " " : "", flag->value != NULL ? flag->value : "");
    if (strlen(head) > HELP_COLUMN)
        fprintf(out, "%s\n%*s", head, HELP_COLUMN, "");
    else
        fprintf(out, "%-*s", HELP_COLUMN, head);
}

static void print_flag(FILE *out, const struct options_flag *flag, enum options_command command)
{
    char text[512];

    if (flag->preset != NULL)
        snprintf(text, sizeof(text), "%s (default %s)", flag->help, flag->preset);
    else
        snprintf(text, sizeof(text), "%s", flag->help);
    print_head(out, flag, command);
    print_wrapped(out, text, HELP_COLUMN);
    fputc('\n', out);
}

static void print_group(FILE *out, enum options_command command, enum options_group group)
{
    bool titled = false;

    for (const struct options_flag *flag = options_flags; flag->name != NULL; flag++) {
        if (flag->group != group || !options_flag_is_for(flag, command))
            continue;
        if (!titled)
            fprintf(out, "\n%s\n", options_table_title(group));
        titled = true;
        print_flag(out, flag, command);
    }
}

void options_print_flags(FILE *out, enum options_command command)
{
    for (unsigned group = 0; group < GROUP_COUNT; group++)
        print_group(out, command, (enum options_group)group);
}

/* For programs */

static void print_commands(FILE *out, uint8_t commands)
{
    const char *between = "";

    for (unsigned i = 0; i < OPTIONS_COMMAND_COUNT; i++) {
        if ((commands & (1u << i)) == 0)
            continue;
        fprintf(out, "%s%s", between, options_command_name((enum options_command)i));
        between = ",";
    }
}

static void print_row(FILE *out, const struct options_flag *flag)
{
    fprintf(out, "flag\t%s\t", options_table_title(flag->group));
    print_commands(out, flag->commands);
    fprintf(out, "\t%s\t%s\t%s\t%s\n", flag->name, flag->value != NULL ? flag->value : "",
            flag->preset != NULL ? flag->preset : "", flag->help);
}

void options_print_table(FILE *out)
{
    for (unsigned group = 0; group < GROUP_COUNT; group++)
        for (const struct options_flag *flag = options_flags; flag->name != NULL; flag++)
            if (flag->group == group)
                print_row(out, flag);
    for (const struct options_letter *letter = options_letters; letter->letter != '\0'; letter++) {
        fprintf(out, "letter\t%c\t", letter->letter);
        print_commands(out, letter->commands);
        fprintf(out, "\t%s\n", letter->name);
    }
}
