/*
 * log: see log.h.
 *
 * A line is composed on the stack and leaves in one write(2), so lines of several threads never mix
 * and nothing is buffered when the process dies. Texts can hold bytes that a peer chose (an agent, an
 * error text), so control characters are replaced: a peer can neither start a line of its own nor move
 * the operator's cursor.
 *
 * Bursts. log_site_pass() counts with atomics only, because a flood is exactly when it must be cheap.
 * What was left out is told in one of two ways: the next line that the site prints carries the number,
 * or, when no further line comes, log_flush() prints the last line again with the number. For that the
 * last line of each burst is kept in a small table under a mutex, once per site and second. When the
 * table is full, the number waits for the site's next line. Rejected: a list of all sites linked
 * through struct log_site, which would make every call site bigger for the sake of the rare one.
 */
#include "core/log.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base.h"
#include "core/check.h"

#define LINE_MAX_BYTES 1024u
#define KEPT_MAX       32u
#define KEPT_TEXT      256u
#define WINDOW_MS      1000u

enum style { STYLE_PLAIN, STYLE_TERMINAL, STYLE_JOURNAL };

static const struct {
    const char *name;   /* on the command line */
    const char *label;  /* in a line */
    const char *colour; /* on a terminal */
    char priority;      /* for journald: man 3 sd-daemon */
} levels[LOG_LEVEL_COUNT] = {
    [LOG_ERROR] = { "error", "ERROR", "\033[31m", '3' },
    [LOG_WARN] = { "warn", "WARN", "\033[33m", '4' },
    [LOG_INFO] = { "info", "INFO", "\033[32m", '6' },
    [LOG_DEBUG] = { "debug", "DEBUG", "\033[36m", '7' },
};

/* The last line that a site printed before its burst was cut. */
struct kept_line {
    struct log_site *site; /* NULL: free */
    enum log_level level;
    char text[KEPT_TEXT]; /* "subject: text" */
};

/* Written by log_init() before there are threads, read by all afterwards. */
static enum log_level threshold = LOG_INFO;
static enum style style = STYLE_PLAIN;
static bool coloured;

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept_line kept[KEPT_MAX];

/* From log_site_pass() to the log_line() that follows it in log_at(). */
static _Thread_local struct log_site *burst_site; /* keep the next line: it is the burst's last */
static _Thread_local uint32_t left_out;           /* say this number in the next line */

/* A line under construction; what does not fit is cut and marked. */
struct line {
    char bytes[LINE_MAX_BYTES];
    size_t size;
};

/* man 5 systemd.exec, JOURNAL_STREAM: "device:inode" of the stream that journald reads. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    if (stream == NULL || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
        return false;
    return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

/* https://no-color.org: set and not empty means no colour. */
static bool terminal_has_colour(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    if (no_color != NULL && no_color[0] != '\0')
        return false;
    return term != NULL && strcmp(term, "dumb") != 0;
}

void log_init(enum log_level level)
{
    CHECK(level < LOG_LEVEL_COUNT);
    threshold = level;
    style = STYLE_PLAIN;
    if (stderr_is_journal())
        style = STYLE_JOURNAL;
    else if (isatty(STDERR_FILENO))
        style = STYLE_TERMINAL;
    coloured = style == STYLE_TERMINAL && terminal_has_colour();
}

bool log_enabled(enum log_level level)
{
    return level <= threshold;
}

bool log_level_parse(const char *text, enum log_level *level)
{
    for (unsigned i = 0; i < LOG_LEVEL_COUNT; i++) {
        if (strcmp(text, levels[i].name) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* Room is kept for the mark of a cut line, the colour reset and the newline. */
#define LINE_ROOM (LINE_MAX_BYTES - 16u)

__attribute__((format(printf, 2, 0))) static void line_vput(struct line *line, const char *format,
                                                            va_list args)
{
    size_t room = LINE_ROOM - line->size;
    int wanted = vsnprintf(line->bytes + line->size, room + 1, format, args);

    CHECK(wanted >= 0);
    if ((size_t)wanted <= room) {
        line->size += (size_t)wanted;
        return;
    }
    memcpy(line->bytes + LINE_ROOM - 3, "...", 3);
    line->size = LINE_ROOM;
}

__attribute__((format(printf, 2, 3))) static void line_put(struct line *line, const char *format,
                                                           ...)
{
    va_list args;

    va_start(args, format);
    line_vput(line, format, args);
    va_end(args);
}

/* From `start` on, so that the colours in front survive. */
static void line_clean(struct line *line, size_t start)
{
    for (size_t i = start; i < line->size; i++)
        if (iscntrl((unsigned char)line->bytes[i]))
            line->bytes[i] = '?';
}

static void line_put_time(struct line *line)
{
    struct timespec now;
    struct tm tm;
    char text[32];

    clock_gettime(CLOCK_REALTIME, &now);
    if (style == STYLE_TERMINAL) {
        localtime_r(&now.tv_sec, &tm);
        strftime(text, sizeof(text), "%H:%M:%S", &tm);
        line_put(line, "%s.%03ld ", text, now.tv_nsec / 1000000);
    } else {
        gmtime_r(&now.tv_sec, &tm);
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        line_put(line, "%s.%03ldZ ", text, now.tv_nsec / 1000000);
    }
}

static void line_put_head(struct line *line, enum log_level level)
{
    if (style == STYLE_JOURNAL) {
        line_put(line, "<%c>", levels[level].priority);
        return;
    }
    line_put_time(line);
    if (coloured)
        line_put(line, "%s%-5s\033[0m ", levels[level].colour, levels[level].label);
    else
        line_put(line, "%-5s ", levels[level].label);
}

static void line_write(struct line *line)
{
    ssize_t n;

    line->bytes[line->size++] = '\n';
    do
        n = write(STDERR_FILENO, line->bytes, line->size);
    while (n < 0 && errno == EINTR);
    /* A log that cannot be written (full disk, closed pipe) must not stop the traffic. */
}

/* Remembers the line for log_flush(); a full table leaves the number to the site's next line. */
static void keep_line(struct log_site *site, enum log_level level, const char *text, size_t size)
{
    struct kept_line *slot = NULL;

    pthread_mutex_lock(&kept_lock);
    for (unsigned i = 0; i < KEPT_MAX; i++) {
        if (kept[i].site == site) {
            slot = &kept[i];
            break;
        }
        if (kept[i].site == NULL && slot == NULL)
            slot = &kept[i];
    }
    if (slot != NULL) {
        size = min_size(size, KEPT_TEXT - 1);
        slot->site = site;
        slot->level = level;
        memcpy(slot->text, text, size);
        slot->text[size] = '\0';
    }
    pthread_mutex_unlock(&kept_lock);
}

void log_line(enum log_level level, const char *subject, const char *format, ...)
{
    struct line line = { .size = 0 };
    va_list args;
    size_t start;
    int saved_errno = errno;

    CHECK(level < LOG_LEVEL_COUNT);
    if (!log_enabled(level))
        return;
    line_put_head(&line, level);
    start = line.size;
    line_put(&line, "%s: ", subject);
    va_start(args, format);
    line_vput(&line, format, args);
    va_end(args);
    line_clean(&line, start);
    if (burst_site != NULL)
        keep_line(burst_site, level, line.bytes + start, line.size - start);
    burst_site = NULL;
    if (left_out > 0)
        line_put(&line, " (and %u more before this)", left_out);
    left_out = 0;
    line_write(&line);
    errno = saved_errno;
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

/* Signed, because another thread may have opened a window after `now` was read. */
static bool window_is_over(uint64_t start, uint64_t now)
{
    return start == 0 || (int64_t)(now - start) >= (int64_t)WINDOW_MS;
}

/* True for the one thread that opened a new window. */
static bool site_roll(struct log_site *site, uint64_t now)
{
    uint64_t start = __atomic_load_n(&site->window_start, __ATOMIC_RELAXED);

    if (!window_is_over(start, now))
        return false;
    if (!__atomic_compare_exchange_n(&site->window_start, &start, now, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED))
        return false;
    __atomic_store_n(&site->printed, 0, __ATOMIC_RELAXED);
    return true;
}

bool log_site_pass(struct log_site *site)
{
    uint32_t printed;

    left_out = 0;
    burst_site = NULL;
    if (site_roll(site, now_ms()))
        left_out = __atomic_exchange_n(&site->suppressed, 0, __ATOMIC_RELAXED);
    printed = __atomic_load_n(&site->printed, __ATOMIC_RELAXED);
    if (printed < LOG_BURST)
        printed = __atomic_fetch_add(&site->printed, 1, __ATOMIC_RELAXED);
    if (printed >= LOG_BURST) {
        __atomic_fetch_add(&site->suppressed, 1, __ATOMIC_RELAXED);
        return false;
    }
    if (printed == LOG_BURST - 1)
        burst_site = site;
    return true;
}

static void flush_line(struct kept_line *entry)
{
    uint32_t count = __atomic_exchange_n(&entry->site->suppressed, 0, __ATOMIC_RELAXED);
    struct line line = { .size = 0 };

    entry->site = NULL;
    if (count == 0 || !log_enabled(entry->level))
        return;
    line_put_head(&line, entry->level);
    line_put(&line, "%s (%u more like this)", entry->text, count);
    line_write(&line);
}

void log_flush(bool all)
{
    uint64_t now = now_ms();

    pthread_mutex_lock(&kept_lock);
    for (unsigned i = 0; i < KEPT_MAX; i++) {
        struct log_site *site = kept[i].site;

        if (site == NULL)
            continue;
        if (all || window_is_over(__atomic_load_n(&site->window_start, __ATOMIC_RELAXED), now))
            flush_line(&kept[i]);
    }
    pthread_mutex_unlock(&kept_lock);
}
