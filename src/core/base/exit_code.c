/* exit_code: see exit_code.h. */
#include "core/base/exit_code.h"

#include "core/base/base.h"

static const struct {
    int status;
    const char *text;
} table[] = {
#define X(name, status, text) { status, text },
    EXIT_CODE_TABLE(X)
#undef X
};

const char *exit_code_text(int status)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].status == status)
            return table[i].text;
    return "unknown exit code";
}
