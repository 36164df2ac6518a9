/* options_error: see options_error.h. */
#include "config/options_error.h"

#include <stdarg.h>
#include <stdio.h>

bool options_error_usage(struct options_error *error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    error->code = EXIT_CODE_USAGE;
    return false;
}

bool options_error_start(struct options_error *error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    error->code = EXIT_CODE_CANNOT_START;
    return false;
}
