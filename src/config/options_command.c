/* options_command: see options_command.h. */
#include "config/options_command.h"

#include <stddef.h>
#include <string.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/value.h"

static const char *const names[] = {
    [OPTIONS_SERVER] = "server",     [OPTIONS_CLIENT] = "client",   [OPTIONS_DEMO] = "demo",
    [OPTIONS_GEN_CERT] = "gen-cert", [OPTIONS_VERSION] = "version", [OPTIONS_HELP] = "help",
};
CHECK_STATIC(ARRAY_SIZE(names) == OPTIONS_COMMAND_COUNT, "every command has a name");

const char *options_command_name(enum options_command command)
{
    CHECK(command < OPTIONS_COMMAND_COUNT);
    return names[command];
}

bool options_command_find(const char *name, enum options_command *command)
{
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *command = (enum options_command)i;
            return true;
        }
    }
    return false;
}

const char *options_command_nearest(const char *word)
{
    const char *best = NULL;
    unsigned best_distance = ~0u;

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        unsigned distance = value_distance(word, names[i]);

        if (distance < best_distance) {
            best = names[i];
            best_distance = distance;
        }
    }
    return value_is_near(best_distance, word) ? best : NULL;
}
