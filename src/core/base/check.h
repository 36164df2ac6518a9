/*
 * check: assertions that stay on in release builds.
 *
 * A failed CHECK is a bug in Culvert, never a peer's or the kernel's doing: those close a stream, a
 * lane or a session with a reason. The failing thread first runs the dump hook of its worker
 * (tables and counters), then aborts, so that a report from the field carries what the next reader
 * needs. It aborts within seconds, whether somebody reads standard error or not.
 */
#ifndef CULVERT_CORE_BASE_CHECK_H
#define CULVERT_CORE_BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))

/* Evaluated at compile time; a message is required, because it is what the next person will
 * read. */
#define CHECK_STATIC(cond, text) _Static_assert(cond, text)

/* Prints the failed condition, calls the thread's dump hook once, aborts. */
_Noreturn void check_failed(const char *cond, const char *file, int line);

/* Who says the last words, and what the dump hook says: the sink (sink.h), once it has threads.
 * NULL: they are written to standard error, without waiting for a reader to come back. */
struct check_speaker {
    void (*begin)(void); /* from here on texts wait for a reader, for a second at most */
    void (*end)(void);   /* all is written, or a second is over */
    void (*put)(const char *text, size_t size);
};
void check_set_speaker(const struct check_speaker *speaker);

/* Sets this thread's dump hook (NULL removes it). The hook prints with sink_put() and must not
 * allocate. */
void check_set_dump(void (*dump)(void *arg), void *arg);

#endif
