/*
 * check: see check.h.
 *
 * The last words go the way of all texts, behind what the log has said before, and wait for a
 * reader for a second at most (sink.h, which is above this file and says them by a table of its
 * own). Whatever holds them up beyond that (a writer that failed itself, a mutex that the failing
 * thread has and the dump wants) is ended by a timer, which sends what abort() would.
 */
#include "core/base/check.h"

#include "core/base/base.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_SECONDS 4 /* the line, the dump, all that was queued before them, and a moment */

static _Thread_local void (*dump_hook)(void *arg);
static _Thread_local void *dump_arg;

static const struct check_speaker *speaker_now;

void check_set_speaker(const struct check_speaker *speaker)
{
    __atomic_store_n(&speaker_now, speaker, __ATOMIC_RELEASE);
}

void check_set_dump(void (*dump)(void *arg), void *arg)
{
    dump_hook = dump;
    dump_arg = arg;
}

/* The first thread that fails sets it, the others do not put it off. A kernel that has no timer
 * left ends the process another way. */
static void check_set_limit(void)
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

static void check_say(const struct check_speaker *speaker, const char *text, size_t size)
{
    if (speaker != NULL)
        speaker->put(text, size);
    else
        (void)!write(STDERR_FILENO, text, size);
}

_Noreturn void check_failed(const char *cond, const char *file, int line)
{
    const struct check_speaker *speaker = __atomic_load_n(&speaker_now, __ATOMIC_ACQUIRE);
    void (*hook)(void *) = dump_hook;
    char text[1024];

    dump_hook = NULL; /* a CHECK that fails inside the dump must not recurse */
    check_set_limit();
    if (speaker != NULL)
        speaker->begin();
    int size = snprintf(text, sizeof(text), "culvert: bug: %s:%d: CHECK(%.800s) failed\n", file,
                        line, cond);
    if (size > 0)
        check_say(speaker, text, min_size((size_t)size, sizeof(text) - 1));
    if (hook != NULL)
        hook(dump_arg);
    if (speaker != NULL)
        speaker->end();
    abort();
}
