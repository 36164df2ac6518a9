/* check: see check.h. */
#include "core/check.h"

#include <stdio.h>
#include <stdlib.h>

static _Thread_local void (*dump_hook)(void *arg);
static _Thread_local void *dump_arg;

void check_set_dump(void (*dump)(void *arg), void *arg)
{
    dump_hook = dump;
    dump_arg = arg;
}

_Noreturn void check_failed(const char *cond, const char *file, int line)
{
    void (*hook)(void *) = dump_hook;

    dump_hook = NULL; /* a CHECK that fails inside the dump must not recurse */
    fprintf(stderr, "culvert: bug: %s:%d: CHECK(%s) failed\n", file, line, cond);
    if (hook != NULL)
        hook(dump_arg);
    abort();
}
