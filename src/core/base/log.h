/*
 * log: one line per event on stderr, with the object it is about, rate-limited per call site.
 *
 * Nothing is logged per operation in the steady data path. Nobody waits for who reads the log:
 * lines go through sink.h, and those that find no room are counted.
 *
 * There is no way to log events without a limit: log_at() is the only call, whether the event is
 * once in a process's life or whatever a stranger makes it (tests/lint/output sees to it). Lines
 * that an operator asked to have one each of go by log_record(), and only those. A burst of the
 * same event (a flood of refused visitors) prints its first lines, and the number of those left out
 * with the next one. A flood that goes on is told less and less often. A state that lasts and shows
 * again and again meanwhile has its begin and its end told, see struct log_lasting.
 */
#ifndef CULVERT_CORE_BASE_LOG_H
#define CULVERT_CORE_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_COUNT };

/* State of one call site; static, zero-initialised, shared by threads (fields are atomics
 * inside). */
struct log_site {
    uint64_t window_start; /* ms */
    uint32_t window;       /* ms; 0: the first one */
    uint32_t printed;      /* in this window */
    uint32_t suppressed;
};

/* Lines above `level` are not printed. Default LOG_INFO. Colour and short times on a terminal, RFC
 * 3339 otherwise; under systemd (JOURNAL_STREAM is stderr) priority prefixes <3>..<7> and no
 * time. */
void log_init(enum log_level level);
bool log_enabled(enum log_level level);

/* Before there are threads that must not wait for a reader: from here on none does (sink.h). False,
 * with errno, if that cannot be; exit() ends it. */
bool log_start(void);

/* "error", "warn", "info", "debug" -> level; false if none of these. */
bool log_level_parse(const char *text, enum log_level *level);

/* "TIME LEVEL subject: text". Subject names the object ("session 7", "worker 1 lane 3"). At most
 * LOG_BURST lines per site in a window: a second, and twice as long as the last one, up to
 * LOG_WINDOW_MAX_MS, while lines are left out in each. */
#define log_at(level, subject, ...)                                   \
    do {                                                              \
        static struct log_site log_site_;                             \
        if (log_enabled(level) && log_site_pass(&log_site_, (level))) \
            log_line((level), (subject), __VA_ARGS__);                \
    } while (0)

#define LOG_BURST         5u
#define LOG_BURST_DEBUG   50u /* whoever asks for these lines wants them */
#define LOG_WINDOW_MS     1000u
#define LOG_WINDOW_MAX_MS 10000u

/* For log_at() only. Counts the event at the site; true if it should be printed now. */
bool log_site_pass(struct log_site *site, enum log_level level);
/* For log_at() only. */
void log_line(enum log_level level, const char *subject, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For stream_log.c only. A line of level info, which is printed whatever the threshold is, and has
 * no limit but what sink.h takes. */
void log_record(const char *subject, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Replaces each byte that may not be shown (log.c's header) by '?': for who quotes words of others
 * elsewhere than in the log. */
void log_clean(char *bytes, size_t size);

/* Prints, for every site whose burst is over (all: for every site), one line with the number of
 * lines left out. Called every few seconds by a thread that has nothing else to do, and with all =
 * true before exit. Cheap when nothing was left out. */
void log_flush(bool all);

/* One line on standard output, for people and for programs that wait for it. */
void log_out(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A state that lasts, and shows again and again while it does. Of one thread, zero-initialised. Its
 * caller tells when it begins and how often it has shown, and its end if its begin was told. From
 * one time to the next pass LOG_LASTING_NS, and twice as long with each as long as it goes on, up
 * to LOG_LASTING_MAX_NS; one that comes and goes within that goes on, and is not told each time. */
struct log_lasting {
    bool on, told;
    uint64_t since, seen, said; /* ns; said 0: never, or forgotten: the next one is told */
    uint64_t pause;             /* ns: from when it was said */
    uint32_t times;             /* since it was said */
};
#define LOG_LASTING_NS     UINT64_C(10000000000)
#define LOG_LASTING_MAX_NS UINT64_C(300000000000)

/* It shows, at `now` (ns). Returns how often it has since it was said last, or 0 if that is not to
 * be said now. */
uint32_t log_lasting_shows(struct log_lasting *state, uint64_t now);
/* It is over. True if that is to be said: it was on since state->since. */
bool log_lasting_over(struct log_lasting *state);

#endif
