/*
 * options: see options.h.
 *
 *     options_table      all flags, a row each
 *     options_defaults   what the rows say of those that are not given; then, behind the arguments,
 *                        what follows from those that are
 *     options_args       the argument vector, by the table: options_word takes a word apart,
 *                        options_set reads its value, options_unknown answers what is no flag
 *     options_check      what does not go together
 *     options_token      the token, from wherever it comes
 *
 * Each is given the same draft, and stops at the first error. What an error quotes may be any word
 * of the command line: it is shown as the log would show it, here, where all of them pass.
 */
#include "config/options.h"

#include <string.h>

#include "config/options_args.h"
#include "config/options_check.h"
#include "config/options_defaults.h"
#include "config/options_draft.h"
#include "config/options_token.h"

static bool options_find_token(struct options_draft *d)
{
    if (!d->token_given && !options_token_find(d->token_file, d->options, d->error))
        return false;
    return options_check_token(d);
}

/* What follows when all flags are read. */
static bool options_finish(struct options_draft *d)
{
    enum options_command command = d->options->command;

    if (d->options->help || d->options->version)
        return true;
    options_defaults_after(d);
    if (!options_check(d))
        return false;
    return (command != OPTIONS_SERVER && command != OPTIONS_CLIENT) || options_find_token(d);
}

bool options_parse(int argc, char **argv, struct options *options, struct options_error *error)
{
    struct options_draft draft = { .options = options, .error = error };

    memset(options, 0, sizeof(*options));
    memset(error, 0, sizeof(*error));
    options_defaults_before(&draft);
    if (options_args_read(&draft, argc, argv) && options_finish(&draft))
        return true;
    config_drop_token(&options->config);
    log_clean(error->text, strlen(error->text));
    return false;
}
