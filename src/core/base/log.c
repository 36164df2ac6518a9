/*
 * log: see log.h.
 *
 * A line is composed on the stack and put as one text (sink.h), so lines of several threads never
 * mix. Texts can hold bytes that a peer chose (an agent, an error text), so control characters are
 * replaced: a peer can neither start a line of its own nor move the operator's cursor. What stays
 * is UTF-8 without C0, DEL and C1 (U+0080 to U+009F: U+009B is what ESC [ is), and nothing that is
 * no UTF-8: a byte 0x9b alone is a C1 control to terminals that read Latin-1.
 *
 * Bursts. log_site_pass() counts with atomics only, because a flood is exactly when it must be
 * cheap. What was left out is told in one of two ways: the next line that the site prints carries
 * the number, or, when no further line comes, log_flush() prints the last line again with the
 * number. For that the last line of each burst is kept in a small table under a mutex, once per
 * site and window. When the table is full, the number waits for the site's next line. Rejected: a
 * list of all sites linked through struct log_site, which would make every call site bigger for the
 * sake of the rare one; a second call without a limit for what happens once in a process's life,
 * because nothing tells such a place from one that a stranger reaches, and the limit costs it
 * nothing.
 */
#include "core/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/sink.h"

#define LINE_MAX_BYTES 1024u
#define KEPT_MAX       32u
#define KEPT_TEXT      256u

enum style { STYLE_PLAIN, STYLE_TERMINAL, STYLE_JOURNAL };

static const struct {
    const char *name;   /* on the command line */
    const char *label;  /* in a line */
    const char *colour; /* on a terminal */
    char priority;      /* for journald: man 3 sd-daemon */
    uint32_t burst;     /* lines of a site in a window */
} levels[LOG_LEVEL_COUNT] = {
    [LOG_ERROR] = { "error", "ERROR", "\033[31m", '3', LOG_BURST },
    [LOG_WARN] = { "warn", "WARN", "\033[33m", '4', LOG_BURST },
    [LOG_INFO] = { "info", "INFO", "\033[32m", '6', LOG_BURST },
    [LOG_DEBUG] = { "debug", "DEBUG", "\033[36m", '7', LOG_BURST_DEBUG },
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
static bool log_stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    if (stream == NULL || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
        return false;
    return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

/* https://no-color.org: set and not empty means no colour. */
static bool log_terminal_has_colour(void)
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
    if (log_stderr_is_journal())
        style = STYLE_JOURNAL;
    else if (isatty(STDERR_FILENO))
        style = STYLE_TERMINAL;
    coloured = style == STYLE_TERMINAL && log_terminal_has_colour();
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

__attribute__((format(printf, 2, 0))) static void log_line_vput(struct line *line,
                                                                const char *format, va_list args)
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

__attribute__((format(printf, 2, 3))) static void log_line_put(struct line *line,
                                                               const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_line_vput(line, format, args);
    va_end(args);
}

/* The UTF-8 sequences of more than a byte (RFC 3629, section 4), without C1. What follows the first
 * two bytes is 0x80 to 0xbf. */
static const struct {
    uint8_t first[2], second[2]; /* from, to */
    uint8_t size;
} sequences[] = {
    { { 0xc2, 0xc2 }, { 0xa0, 0xbf }, 2 }, { { 0xc3, 0xdf }, { 0x80, 0xbf }, 2 },
    { { 0xe0, 0xe0 }, { 0xa0, 0xbf }, 3 }, { { 0xe1, 0xec }, { 0x80, 0xbf }, 3 },
    { { 0xed, 0xed }, { 0x80, 0x9f }, 3 }, { { 0xee, 0xef }, { 0x80, 0xbf }, 3 },
    { { 0xf0, 0xf0 }, { 0x90, 0xbf }, 4 }, { { 0xf1, 0xf3 }, { 0x80, 0xbf }, 4 },
    { { 0xf4, 0xf4 }, { 0x80, 0x8f }, 4 },
};

static bool log_is_within(uint8_t byte, const uint8_t range[2])
{
    return byte >= range[0] && byte <= range[1];
}

/* Bytes of the sequence that begins here; 0: none does. */
static size_t log_sequence_size(const uint8_t *p, size_t left)
{
    static const uint8_t rest[2] = { 0x80, 0xbf };
    size_t i = 0;

    while (i < ARRAY_SIZE(sequences) && !log_is_within(p[0], sequences[i].first))
        i++;
    if (i == ARRAY_SIZE(sequences) || left < sequences[i].size ||
        !log_is_within(p[1], sequences[i].second))
        return 0;
    for (size_t k = 2; k < sequences[i].size; k++)
        if (!log_is_within(p[k], rest))
            return 0;
    return sequences[i].size;
}

/* Bytes of the character that begins here and may be shown; 0: this byte may not. */
static size_t log_shown_size(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f ? 1 : 0;
    return log_sequence_size(p, left);
}

void log_clean(char *bytes, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t shown = log_shown_size((const uint8_t *)bytes + i, size - i);

        if (shown == 0)
            bytes[i] = '?';
        i += shown > 0 ? shown : 1;
    }
}

/* From `start` on, so that the colours in front survive. */
static void log_line_clean(struct line *line, size_t start)
{
    log_clean(line->bytes + start, line->size - start);
}

static void log_line_put_time(struct line *line)
{
    struct timespec now;
    struct tm tm;
    char text[32];

    clock_gettime(CLOCK_REALTIME, &now);
    if (style == STYLE_TERMINAL) {
        localtime_r(&now.tv_sec, &tm);
        strftime(text, sizeof(text), "%H:%M:%S", &tm);
        log_line_put(line, "%s.%03ld ", text, now.tv_nsec / 1000000);
    } else {
        gmtime_r(&now.tv_sec, &tm);
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        log_line_put(line, "%s.%03ldZ ", text, now.tv_nsec / 1000000);
    }
}

static void log_line_put_head(struct line *line, enum log_level level)
{
    if (style == STYLE_JOURNAL) {
        log_line_put(line, "<%c>", levels[level].priority);
        return;
    }
    log_line_put_time(line);
    if (coloured)
        log_line_put(line, "%s%-5s\033[0m ", levels[level].colour, levels[level].label);
    else
        log_line_put(line, "%-5s ", levels[level].label);
}

static void log_line_end(struct line *line, enum sink_id id)
{
    line->bytes[line->size++] = '\n';
    sink_put(id, line->bytes, line->size);
}

static size_t log_lost_notice(enum sink_id id, uint64_t lines, char *dst)
{
    struct line line = { .size = 0 };

    if (id == SINK_ERR)
        log_line_put_head(&line, LOG_WARN);
    log_line_put(&line, "culvert: standard %s was not read fast enough: %llu lines were left out\n",
                 id == SINK_ERR ? "error" : "output", (unsigned long long)lines);
    CHECK(line.size <= SINK_NOTICE);
    memcpy(dst, line.bytes, line.size);
    return line.size;
}

bool log_start(void)
{
    return sink_start(log_lost_notice);
}

void log_out(const char *format, ...)
{
    struct line line = { .size = 0 };
    va_list args;

    va_start(args, format);
    log_line_vput(&line, format, args);
    va_end(args);
    log_line_clean(&line, 0);
    log_line_end(&line, SINK_OUT);
}

/* Remembers the line for log_flush(); a full table leaves the number to the site's next line. */
static void log_keep_line(struct log_site *site, enum log_level level, const char *text,
                          size_t size)
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
    log_line_put_head(&line, level);
    start = line.size;
    log_line_put(&line, "%s: ", subject);
    va_start(args, format);
    log_line_vput(&line, format, args);
    va_end(args);
    log_line_clean(&line, start);
    if (burst_site != NULL)
        log_keep_line(burst_site, level, line.bytes + start, line.size - start);
    burst_site = NULL;
    if (left_out > 0)
        log_line_put(&line, " (and %u more before this)", left_out);
    left_out = 0;
    log_line_end(&line, SINK_ERR);
    errno = saved_errno;
}

void log_record(const char *subject, const char *format, ...)
{
    struct line line = { .size = 0 };
    va_list args;

    log_line_put_head(&line, LOG_INFO);
    size_t start = line.size;
    log_line_put(&line, "%s: ", subject);
    va_start(args, format);
    log_line_vput(&line, format, args);
    va_end(args);
    log_line_clean(&line, start);
    log_line_end(&line, SINK_ERR);
}

static uint64_t log_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

/* Signed, because another thread may have opened a window after `now` was read. */
static bool log_window_is_over(uint64_t start, uint64_t now, uint32_t window)
{
    return start == 0 || (int64_t)(now - start) >= (int64_t)window;
}

static uint32_t log_site_window(const struct log_site *site)
{
    uint32_t window = __atomic_load_n(&site->window, __ATOMIC_RELAXED);

    return window != 0 ? window : LOG_WINDOW_MS;
}

/* A flood that went on until now is told half as often from here on. */
static uint32_t log_next_window(uint32_t window, uint64_t age, uint32_t suppressed)
{
    if (suppressed == 0 || age >= 2ULL * window)
        return LOG_WINDOW_MS;
    return min_u32(2 * window, LOG_WINDOW_MAX_MS);
}

/* Opens a new window if the last one is over; returns the number left out before it to the one
 * thread that opened it. */
static uint32_t log_site_roll(struct log_site *site, uint64_t now)
{
    uint64_t start = __atomic_load_n(&site->window_start, __ATOMIC_RELAXED);
    uint32_t window = log_site_window(site);

    if (!log_window_is_over(start, now, window))
        return 0;
    if (!__atomic_compare_exchange_n(&site->window_start, &start, now, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED))
        return 0;
    uint32_t suppressed = __atomic_exchange_n(&site->suppressed, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&site->window, log_next_window(window, now - start, suppressed),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&site->printed, 0, __ATOMIC_RELAXED);
    return suppressed;
}

bool log_site_pass(struct log_site *site, enum log_level level)
{
    uint32_t burst = levels[level].burst;

    burst_site = NULL;
    left_out = log_site_roll(site, log_now_ms());
    uint32_t printed = __atomic_load_n(&site->printed, __ATOMIC_RELAXED);
    if (printed < burst)
        printed = __atomic_fetch_add(&site->printed, 1, __ATOMIC_RELAXED);
    if (printed >= burst) {
        __atomic_fetch_add(&site->suppressed, left_out + 1, __ATOMIC_RELAXED);
        left_out = 0;
        return false;
    }
    if (printed == burst - 1)
        burst_site = site;
    return true;
}

static void log_flush_line(struct kept_line *entry)
{
    uint32_t count = __atomic_exchange_n(&entry->site->suppressed, 0, __ATOMIC_RELAXED);
    struct line line = { .size = 0 };

    entry->site = NULL;
    if (count == 0 || !log_enabled(entry->level))
        return;
    log_line_put_head(&line, entry->level);
    size_t start = line.size;
    log_line_put(&line, "%s (%u more like this)", entry->text, count);
    log_line_clean(&line, start); /* it may have been cut within a character */
    log_line_end(&line, SINK_ERR);
}

void log_flush(bool all)
{
    uint64_t now = log_now_ms();

    pthread_mutex_lock(&kept_lock);
    for (unsigned i = 0; i < KEPT_MAX; i++) {
        struct log_site *site = kept[i].site;

        if (site == NULL)
            continue;
        if (all || log_window_is_over(__atomic_load_n(&site->window_start, __ATOMIC_RELAXED), now,
                                      log_site_window(site)))
            log_flush_line(&kept[i]);
    }
    pthread_mutex_unlock(&kept_lock);
}

uint32_t log_lasting_shows(struct log_lasting *state, uint64_t now)
{
    uint32_t times = ++state->times;
    bool anew = state->said == 0 || (!state->on && now - state->seen >= state->pause);

    state->seen = now;
    if (!state->on) {
        state->on = true;
        state->told = false;
        state->since = now;
    }
    if (!anew && now - state->said < state->pause)
        return 0;
    state->pause = anew ? LOG_LASTING_NS : min_u64(2 * state->pause, LOG_LASTING_MAX_NS);
    state->told = true;
    state->said = max_u64(now, 1);
    state->times = 0;
    return times;
}

bool log_lasting_over(struct log_lasting *state)
{
    bool told = state->on && state->told;

    state->on = state->told = false;
    return told;
}
