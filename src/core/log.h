/*
 * log: one line per event on stderr, with the object it is about, rate-limited per call site.
 *
 * Nothing is logged per operation in the steady data path. A burst of the same event (a flood of refused visitors) prints its first
 * lines and then, when the burst is over or some seconds have passed, one line with the number left out.
 */
#ifndef CULVERT_CORE_LOG_H
#define CULVERT_CORE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_COUNT };

/* State of one call site; static, zero-initialised, shared by threads (fields are atomics inside). */
struct log_site {
    uint64_t window_start; /* ms */
    uint32_t printed;      /* in this window */
    uint32_t suppressed;
};

/* Lines above `level` are not printed. Default LOG_INFO. Colour and short times on a terminal, RFC 3339 otherwise; under systemd
 * (JOURNAL_STREAM is stderr) priority prefixes <3>..<7> and no time. */
void log_init(enum log_level level);
bool log_enabled(enum log_level level);

/* "error", "warn", "info", "debug" -> level; false if none of these. */
bool log_level_parse(const char *text, enum log_level *level);

/* Prints "TIME LEVEL subject: text". Subject names the object ("session 7", "worker 1 lane 3"). One write(2) per line. */
void log_line(enum log_level level, const char *subject, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Counts the event at the site; true if it should be printed now. At most LOG_BURST lines per site and second. */
bool log_site_pass(struct log_site *site);
#define LOG_BURST 5u

/* Prints, for every site whose burst is over (all: for every site), one line with the number of lines left out. Called about once a
 * second from a timer that runs anyway, and with all = true before exit. Cheap when nothing was left out. */
void log_flush(bool all);

#define log_at(level, subject, ...)                          \
    do {                                                     \
        static struct log_site log_site_;                    \
        if (log_enabled(level) && log_site_pass(&log_site_)) \
            log_line((level), (subject), __VA_ARGS__);       \
    } while (0)

#endif
