/*
 * check: see check.h.
 *
 * The last words go the way of all texts (sink.h), behind what the log has said before, and wait
 * for a reader for LAST_WORDS_NS at most. Whatever holds them up beyond that (a writer that failed
 * itself, a mutex that the failing thread has and the dump wants) is ended by a timer, which sends
 * what abort() would.
 */
#include "core/check.h"

#include "core/base.h"
#include "core/sink.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LAST_WORDS_NS NSEC_PER_SEC
#define LIMIT_SECONDS 4 /* the line, the dump, all that was queued before them, and a moment */

static _Thread_local void (*dump_hook)(void *arg);
static _Thread_local void *dump_arg;

void check_set_dump(void (*dump)(void *arg), void *arg)
{
    dump_hook = dump;
    dump_arg = arg;
}

/* The first thread that fails sets it, the others do not put it off. A kernel that has no timer
 * left ends the process another way. */
static void set_limit(void)
{
    static bool set;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGABRT };
    struct itimerspec time = { .it_value = { .tv_sec = LIMIT_SECONDS } };
    timer_t timer;

    if (__atomic_exchange_n(&set, true, __ATOMIC_RELAXED))
        return;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
        timer_settime(timer, 0, &time, NULL) != 0)
        (void)alarm(LIMIT_SECONDS);
}

_Noreturn void check_failed(const char *cond, const char *file, int line)
{
    void (*hook)(void *) = dump_hook;
    char text[1024];

    dump_hook = NULL; /* a CHECK that fails inside the dump must not recurse */
    set_limit();
    sink_set_patience(LAST_WORDS_NS);
    int size = snprintf(text, sizeof(text), "culvert: bug: %s:%d: CHECK(%.800s) failed\n", file,
                        line, cond);
    if (size > 0)
        sink_put(SINK_ERR, text, min_size((size_t)size, sizeof(text) - 1));
    if (hook != NULL)
        hook(dump_arg);
    sink_drain();
    abort();
}
