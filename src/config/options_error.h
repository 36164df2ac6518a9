/*
 * options_error: why a command line is refused.
 *
 * One sentence that names the flag and the cure, and the exit code. The first error is the only
 * one: whoever says it returns false, and so does everybody above.
 */
#ifndef CULVERT_CONFIG_OPTIONS_ERROR_H
#define CULVERT_CONFIG_OPTIONS_ERROR_H

#include <stdbool.h>

#include "core/base/exit_code.h"

struct options_error {
    enum exit_code code; /* EXIT_CODE_USAGE or EXIT_CODE_CANNOT_START */
    char text[512];      /* without "culvert: " and newline */
};

/* What was written is wrong (EXIT_CODE_USAGE). Returns false. */
bool options_error_usage(struct options_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* It may be right, but this machine says no (EXIT_CODE_CANNOT_START). Returns false. */
bool options_error_start(struct options_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
