/* options_args: see options_args.h. */
#include "config/options_args.h"

#include <string.h>

#include "config/options_set.h"
#include "config/options_table.h"
#include "config/options_unknown.h"
#include "config/options_word.h"
#include "core/base/base.h"

/* What is a command and looks like a flag, if it is all that stands there. */
static const struct {
    const char *word;
    enum options_command command;
} lone_flags[] = {
    { "--help", OPTIONS_HELP },       { "-help", OPTIONS_HELP },       { "-h", OPTIONS_HELP },
    { "--version", OPTIONS_VERSION }, { "-version", OPTIONS_VERSION }, { "-V", OPTIONS_VERSION },
    { "-v", OPTIONS_VERSION },
};

static bool args_is_lone_flag(const char *word, enum options_command *command)
{
    for (size_t i = 0; i < ARRAY_SIZE(lone_flags); i++) {
        if (strcmp(lone_flags[i].word, word) == 0) {
            *command = lone_flags[i].command;
            return true;
        }
    }
    return false;
}

/* PORT or HOST:PORT, or what was meant as one. */
static bool args_is_origin(const char *word)
{
    return strchr(word, ':') != NULL || strspn(word, "0123456789") == strlen(word);
}

/* *at is where its arguments begin. */
static bool args_read_command(struct options_draft *d, int argc, char **argv, int *at)
{
    enum options_command *command = &d->options->command;

    *command = OPTIONS_CLIENT;
    *at = 1;
    if (argc < 2 || args_is_origin(argv[1]))
        return true;
    if (argv[1][0] == '-') {
        *at = argc == 2 && args_is_lone_flag(argv[1], command) ? 2 : 1;
        return true;
    }
    *at = 2;
    return options_command_find(argv[1], command) || options_unknown_command(d, argv[1]);
}

/* The flag's value is argv[*at]; *at moves behind it. */
static bool args_read_value(struct options_draft *d, const struct options_flag *flag, int argc,
                            char **argv, int *at)
{
    if (*at >= argc)
        return options_error_usage(d->error, "--%s needs a value; write --%s %s", flag->name,
                                   flag->name, flag->value);
    if (options_word_is_known(argv[*at]))
        return options_error_usage(
            d->error, "--%s needs a value; write --%s %s, or --%s=%s if it begins as a flag does",
            flag->name, flag->name, flag->value, flag->name, flag->value);
    return options_set(d, flag, argv[(*at)++]);
}

/* argv[*at] is a flag; *at moves behind it and its value. */
static bool args_read_flag(struct options_draft *d, int argc, char **argv, int *at)
{
    struct options_word word = options_word_read(argv[(*at)++], d->options->command);
    const struct options_flag *flag = word.flag;

    if (flag == NULL || !options_flag_is_for(flag, d->options->command))
        return options_unknown_flag(d, &word);
    if (flag->value == NULL || word.value != NULL)
        return options_set(d, flag, word.value);
    return args_read_value(d, flag, argc, argv, at);
}

/* To a client an origin. */
static bool args_read_lone(struct options_draft *d, char *arg)
{
    enum options_command command = d->options->command;

    if (command == OPTIONS_CLIENT && args_is_origin(arg))
        return options_set(d, options_table_find("local", strlen("local"), command), arg);
    if (command == OPTIONS_CLIENT)
        return options_error_usage(
            d->error,
            "'%.60s' stands alone; to expose a local service write its PORT or HOST:PORT, to name "
            "the server --server HOST:PORT",
            arg);
    if (command == OPTIONS_SERVER && args_is_origin(arg))
        return options_error_usage(
            d->error, "'%.60s' stands alone; to have clients connect there write --addr %.60s", arg,
            arg);
    return options_error_usage(
        d->error, "'%.60s' stands alone; 'culvert %s' takes only flags, which begin with --", arg,
        options_command_name(command));
}

/* One argument, or two; *at moves behind them. */
static bool args_read_next(struct options_draft *d, int argc, char **argv, int *at)
{
    if (options_word_is_flag(argv[*at]))
        return args_read_flag(d, argc, argv, at);
    if (d->options->command != OPTIONS_HELP || d->options->topic != NULL)
        return args_read_lone(d, argv[(*at)++]);
    d->options->topic = argv[(*at)++];
    return true;
}

bool options_args_read(struct options_draft *d, int argc, char **argv)
{
    int at;

    if (!args_read_command(d, argc, argv, &at))
        return false;
    while (at < argc)
        if (!args_read_next(d, argc, argv, &at))
            return false;
    return true;
}
