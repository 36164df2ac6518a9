/*
 * Log lines, read back from a pipe in place of stderr. Windows of log_site_pass() are moved by
 * writing the site's own start time, never by waiting.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "core/base/sink.h"

/* Start times of windows: one that does not end in this test, and one that ended long ago. */
#define NEVER_OVER (UINT64_MAX / 2)
#define LONG_OVER  1

static int saved_stderr, read_end;
static char captured[65536];

static void capture_start(void)
{
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    saved_stderr = dup(STDERR_FILENO);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    read_end = ends[0];
    unsetenv("JOURNAL_STREAM");
    log_init(LOG_INFO);
}

/* What was logged since the start of the capture; ends it. */
static const char *capture_end(void)
{
    ssize_t n = read(read_end, captured, sizeof(captured) - 1);

    captured[n > 0 ? n : 0] = '\0';
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(read_end);
    return captured;
}

static unsigned count_lines(const char *text)
{
    unsigned lines = 0;

    for (; *text != '\0'; text++)
        lines += *text == '\n';
    return lines;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t regex;

    ck_assert_int_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    ck_assert_msg(regexec(&regex, text, 0, NULL, 0) == 0, "'%s' does not match '%s'", text,
                  pattern);
    regfree(&regex);
}

#define RFC3339 "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "

START_TEST(a_line_has_time_level_subject_text)
{
    capture_start();
    log_line(LOG_WARN, "session 7", "lane %d lost: %s", 3, "timed out");
    assert_matches(capture_end(), RFC3339 "WARN  session 7: lane 3 lost: timed out\n$");
}
END_TEST

START_TEST(levels_below_the_threshold_are_silent)
{
    capture_start();
    log_init(LOG_WARN);
    ck_assert(log_enabled(LOG_ERROR) && log_enabled(LOG_WARN));
    ck_assert(!log_enabled(LOG_INFO) && !log_enabled(LOG_DEBUG));
    log_line(LOG_INFO, "worker 0", "not this");
    log_line(LOG_ERROR, "worker 0", "but this");
    ck_assert_ptr_null(strstr(capture_end(), "not this"));
    ck_assert_ptr_nonnull(strstr(captured, "ERROR worker 0: but this\n"));
    ck_assert_uint_eq(count_lines(captured), 1);
}
END_TEST

START_TEST(level_names_are_read)
{
    enum log_level level = LOG_DEBUG;

    ck_assert(log_level_parse("error", &level) && level == LOG_ERROR);
    ck_assert(log_level_parse("warn", &level) && level == LOG_WARN);
    ck_assert(log_level_parse("info", &level) && level == LOG_INFO);
    ck_assert(log_level_parse("debug", &level) && level == LOG_DEBUG);
    ck_assert(!log_level_parse("INFO", &level) && !log_level_parse("", &level));
    ck_assert_int_eq(level, LOG_DEBUG);
}
END_TEST

START_TEST(bytes_of_a_peer_cannot_forge_a_line)
{
    capture_start();
    log_line(LOG_INFO, "session 1", "agent '%s'", "x\nERROR root: owned\r\033[2J\177\t");
    ck_assert_uint_eq(count_lines(capture_end()), 1);
    ck_assert_ptr_nonnull(strstr(captured, "agent 'x?ERROR root: owned?\?[2J?\?'\n"));
}
END_TEST

/* What a peer said, and what the log has of it. */
START_TEST(bytes_of_a_peer_are_text)
{
    static const struct {
        const char *said, *shown;
    } known[] = {
        { "Z\xc3\xbcrich \xe2\x82\xac \xf0\x9f\x98\x80",
          "Z\xc3\xbcrich \xe2\x82\xac \xf0\x9f\x98\x80" },
        { "\xc3\x84 \xc3\x9b", "\xc3\x84 \xc3\x9b" }, /* letters with 0x84 and 0x9b in them */
        { "\xc2\x9b"
          "2J",
          "?\?2J" }, /* CSI */
        { "\xc2\x80 \xc2\x9f \xc2\xa0",
          "?\? ?\? \xc2\xa0" }, /* the first, the last, and the next */
        { "\x9b"
          "2J\x80\x9f",
          "?2J?\?" }, /* for terminals that read Latin-1 */
        { "\177", "?" },
        { "\xc3", "?" }, /* cut */
        { "\xe2\x82", "?\?" },
        { "\xc3"
          "A",
          "?A" },
        { "\xc1\x9b \xe0\x82\x9b", "?\? ?\?\?" },                    /* longer than need be */
        { "\xed\xa0\x80 \xf4\x90\x80\x80 \xff", "?\?\? ?\?\?\? ?" }, /* no characters */
    };

    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        char expected[64];

        snprintf(expected, sizeof(expected), ": '%s'\n", known[i].shown);
        capture_start();
        log_line(LOG_INFO, "session 1", "'%s'", known[i].said);
        ck_assert_msg(strstr(capture_end(), expected) != NULL, "%u: %s", i, captured);
    }
}
END_TEST

START_TEST(a_long_line_is_cut_and_marked)
{
    char *text = malloc(5000);

    memset(text, 'y', 4999);
    text[4999] = '\0';
    capture_start();
    log_line(LOG_INFO, "lane", "%s", text);
    capture_end();
    free(text);
    ck_assert_uint_lt(strlen(captured), 1025);
    ck_assert_uint_gt(strlen(captured), 900);
    ck_assert_str_eq(captured + strlen(captured) - 5, "y...\n");
}
END_TEST

START_TEST(errno_survives)
{
    capture_start();
    errno = ENOENT;
    log_line(LOG_INFO, "test", "errno");
    ck_assert_int_eq(errno, ENOENT);
    capture_end();
}
END_TEST

/* stderr is what JOURNAL_STREAM names only if device and inode agree. */
START_TEST(under_systemd_a_line_has_a_priority)
{
    char stream[64];
    struct stat st;

    capture_start();
    ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init(LOG_DEBUG);
    log_line(LOG_ERROR, "a", "1");
    log_line(LOG_WARN, "b", "2");
    log_line(LOG_INFO, "c", "3");
    log_line(LOG_DEBUG, "d", "4");
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino + 1);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init(LOG_INFO);
    log_line(LOG_INFO, "e", "5");
    capture_end();
    unsetenv("JOURNAL_STREAM");
    log_init(LOG_INFO);
    assert_matches(captured, "^<3>a: 1\n<4>b: 2\n<6>c: 3\n<7>d: 4\n[0-9]{4}-[^<]* e: 5\n$");
}
END_TEST

START_TEST(a_burst_is_cut_and_the_next_line_tells_how_many)
{
    struct log_site site = { .window_start = NEVER_OVER };
    unsigned passed = 0;

    capture_start();
    for (unsigned i = 0; i < 100; i++)
        passed += log_site_pass(&site, LOG_WARN);
    ck_assert_uint_eq(passed, LOG_BURST);
    ck_assert_uint_eq(site.suppressed, 95);
    site.window_start = LONG_OVER;
    ck_assert(log_site_pass(&site, LOG_WARN));
    log_line(LOG_WARN, "server", "too many streams");
    log_line(LOG_WARN, "server", "another matter");
    capture_end();
    ck_assert_ptr_nonnull(strstr(captured, "too many streams (and 95 more before this)\n"));
    ck_assert_ptr_nonnull(strstr(captured, "another matter\n"));
    ck_assert_uint_eq(site.suppressed, 0);
}
END_TEST

static struct log_site flushed_site; /* sites are static: log keeps their addresses */

START_TEST(a_burst_without_a_next_line_is_told_by_flush)
{
    capture_start();
    flushed_site.window_start = NEVER_OVER;
    for (unsigned i = 0; i < 12; i++)
        if (log_site_pass(&flushed_site, LOG_WARN))
            log_line(LOG_WARN, "server", "refused visitor %u", i);
    log_flush(false);
    flushed_site.window_start = LONG_OVER;
    log_flush(false);
    log_flush(true);
    capture_end();
    ck_assert_uint_eq(count_lines(captured), LOG_BURST + 1);
    ck_assert_ptr_nonnull(strstr(captured, "server: refused visitor 4 (7 more like this)\n"));
}
END_TEST

static struct log_site exit_site;

START_TEST(flush_all_does_not_wait_for_the_window)
{
    capture_start();
    exit_site.window_start = NEVER_OVER;
    for (unsigned i = 0; i < LOG_BURST + 2; i++)
        if (log_site_pass(&exit_site, LOG_INFO))
            log_line(LOG_INFO, "x", "y");
    log_flush(true);
    ck_assert_ptr_nonnull(strstr(capture_end(), "x: y (2 more like this)\n"));
}
END_TEST

START_TEST(the_macro_counts_per_call_site)
{
    capture_start();
    for (unsigned i = 0; i < 50; i++) {
        log_at(LOG_INFO, "a", "first");
        log_at(LOG_INFO, "b", "second");
        log_at(LOG_DEBUG, "c", "silent");
    }
    ck_assert_uint_ge(count_lines(capture_end()), 2 * LOG_BURST);
    ck_assert_uint_lt(count_lines(captured), 100);
    ck_assert_ptr_null(strstr(captured, "silent"));
}
END_TEST

/* Events of one window: `count`, which began `age` ms ago. Returns how many were printed. */
static unsigned window_of(struct log_site *site, uint64_t age, unsigned count)
{
    struct timespec now;
    unsigned passed = 0;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    site->window_start = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 - age;
    for (unsigned i = 0; i < count; i++)
        passed += log_site_pass(site, LOG_INFO);
    return passed;
}

START_TEST(a_flood_that_goes_on_is_told_less_and_less_often)
{
    struct log_site site = { .window_start = NEVER_OVER };
    const unsigned windows[] = { 1000, 2000, 4000, 8000, 10000, 10000 };

    ck_assert_uint_eq(window_of(&site, LOG_WINDOW_MS, 1000), LOG_BURST);
    for (unsigned i = 1; i < ARRAY_SIZE(windows); i++) {
        ck_assert_uint_eq(window_of(&site, windows[i - 1] - 500, 1000), 0);
        ck_assert_uint_eq(window_of(&site, windows[i - 1], 1000), LOG_BURST);
        ck_assert_uint_eq(site.window, windows[i]);
    }
    ck_assert_uint_eq(window_of(&site, 3 * LOG_WINDOW_MAX_MS, 1), 1); /* a pause ends it */
    ck_assert_uint_eq(site.window, LOG_WINDOW_MS);
    ck_assert_uint_eq(window_of(&site, LOG_WINDOW_MS, LOG_BURST), LOG_BURST);
    ck_assert_uint_eq(window_of(&site, LOG_WINDOW_MS, LOG_BURST), LOG_BURST);
    ck_assert_uint_eq(site.window, LOG_WINDOW_MS);
}
END_TEST

START_TEST(debug_lines_are_cut_later)
{
    struct log_site site = { .window_start = NEVER_OVER };
    unsigned passed = 0;

    for (unsigned i = 0; i < 1000; i++)
        passed += log_site_pass(&site, LOG_DEBUG);
    ck_assert_uint_eq(passed, LOG_BURST_DEBUG);
    ck_assert_uint_eq(site.suppressed, 1000 - LOG_BURST_DEBUG);
}
END_TEST

START_TEST(a_state_that_lasts_is_told_when_it_begins_and_when_it_is_over)
{
    struct log_lasting state = { .on = false };
    uint64_t now = 1000;

    ck_assert(!log_lasting_over(&state));
    ck_assert_uint_eq(log_lasting_shows(&state, now), 1);
    for (unsigned i = 1; i < 250; i++) { /* five times a second for 50 s */
        uint32_t times = log_lasting_shows(&state, now += LOG_LASTING_NS / 50);

        ck_assert_uint_eq(times, (i == 50 ? 50 : i == 150 ? 100 : 0));
    }
    ck_assert(log_lasting_over(&state));
    ck_assert_uint_eq(state.since, 1000);
    ck_assert(!log_lasting_over(&state));
}
END_TEST

/* Neither begin nor end, so soon after the last one; but all that was not told is counted. */
START_TEST(a_state_that_comes_and_goes_is_not_told_each_time)
{
    struct log_lasting state = { .on = false };
    uint64_t now = 1000;
    unsigned told = 0;

    for (unsigned i = 0; i < 100; i++, now += LOG_LASTING_NS / 10) {
        uint32_t times = log_lasting_shows(&state, now);

        ck_assert_uint_eq(times, (i == 0 ? 1 : i == 10 ? 10 : i == 30 ? 20 : i == 70 ? 40 : 0));
        told += times > 0;
        ck_assert(log_lasting_over(&state) == (times > 0));
    }
    ck_assert_uint_eq(told, 4);
    now += LOG_LASTING_MAX_NS;
    ck_assert_uint_gt(log_lasting_shows(&state, now), 0); /* after a quiet time it begins anew */
    ck_assert(log_lasting_over(&state));
    ck_assert_uint_eq(log_lasting_shows(&state, now + LOG_LASTING_NS), 1);
}
END_TEST

/* Lines of a state that shows five times a second, and of one that shows every half minute. */
START_TEST(a_state_that_lasts_long_is_told_ever_less_often)
{
    static const struct {
        uint64_t every, lasts;
        unsigned lines;
    } known[] = {
        { NSEC_PER_SEC / 5, 20 * NSEC_PER_SEC, 2 },
        { NSEC_PER_SEC / 5, 600 * NSEC_PER_SEC, 6 },
        { 30 * NSEC_PER_SEC, 600 * NSEC_PER_SEC, 6 },
        { NSEC_PER_SEC / 5, 86400 * NSEC_PER_SEC, 5 + 24 * 12 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        struct log_lasting state = { .on = false };
        unsigned told = 0;

        for (uint64_t at = 0; at < known[i].lasts; at += known[i].every)
            told += log_lasting_shows(&state, at + 1000) > 0;
        ck_assert_uint_ge(told, known[i].lines - 1);
        ck_assert_uint_le(told, known[i].lines);
        ck_assert(log_lasting_over(&state));
    }
}
END_TEST

START_TEST(a_line_for_programs_is_the_text_alone)
{
    int ends[2];
    ssize_t n;

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    log_out("ready: tcp://%s -> %s", "a:1", "b\n2");
    n = read(ends[0], captured, sizeof(captured) - 1);
    captured[n > 0 ? n : 0] = '\0';
    ck_assert_str_eq(captured, "ready: tcp://a:1 -> b?2\n");
}
END_TEST

/* Reads on, behind `size` bytes, until `end` is the end of `text`. */
static void capture_to(char *text, size_t size, const char *end)
{
    while (size < strlen(end) || strcmp(text + size - strlen(end), end) != 0) {
        ssize_t n = read(read_end, text + size, MIB - size - 1);

        ck_assert_int_gt(n, 0);
        size += (size_t)n;
        text[size] = '\0';
    }
}

START_TEST(what_nobody_read_is_counted)
{
    unsigned long long lost = 0;
    unsigned there = 0;
    char *text = malloc(MIB);
    static const char notice[] = "WARN  culvert: standard error was not read fast enough: ";

    capture_start();
    fcntl(STDERR_FILENO, F_SETFL, 0);
    ck_assert(log_start());
    for (unsigned i = 0; i < 10000; i++)
        log_line(LOG_WARN, "session 7", "a line that nobody reads, number %u", i);
    fcntl(read_end, F_SETFL, 0);
    ssize_t n = read(read_end, text, MIB - 1);
    sink_set_patience(UINT64_MAX);
    log_line(LOG_INFO, "session 8", "somebody reads again");
    capture_to(text, (size_t)n, "somebody reads again\n");
    for (char *at = text; (at = strstr(at, notice)) != NULL; at++) {
        unsigned long long more;

        ck_assert_int_eq(sscanf(at + strlen(notice), "%llu lines", &more), 1);
        lost += more; /* the writer may have lost patience twice */
    }
    for (char *at = text; (at = strstr(at, "a line that nobody reads")) != NULL; at++)
        there++;
    ck_assert_uint_eq(there + lost, 10000);
    ck_assert_uint_gt(lost, 0);
    free(text);
    sink_stop();
    fcntl(read_end, F_SETFL, O_NONBLOCK);
    capture_end();
}
END_TEST

#define THREADS 4
#define EVENTS  20000

static struct log_site shared_site;

static void *hammer(void *arg)
{
    unsigned *passed = arg;

    for (unsigned i = 0; i < EVENTS; i++)
        if (log_site_pass(&shared_site, LOG_INFO)) {
            (*passed)++;
            log_line(LOG_INFO, "thread", "event");
        }
    return NULL;
}

/* Every event is either passed or counted; under TSan this is also the race test. */
START_TEST(threads_share_a_site)
{
    pthread_t threads[THREADS];
    unsigned passed[THREADS] = { 0 }, lines = 0;

    capture_start();
    shared_site.window_start = NEVER_OVER;
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &passed[i]), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        lines += passed[i];
    }
    ck_assert_uint_eq(count_lines(capture_end()), lines);
    ck_assert_uint_eq(lines, LOG_BURST);
    ck_assert_uint_eq(shared_site.suppressed, THREADS * EVENTS - lines);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tcase = tcase_create("log");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_line_has_time_level_subject_text);
    tcase_add_test(tcase, levels_below_the_threshold_are_silent);
    tcase_add_test(tcase, level_names_are_read);
    tcase_add_test(tcase, bytes_of_a_peer_cannot_forge_a_line);
    tcase_add_test(tcase, bytes_of_a_peer_are_text);
    tcase_add_test(tcase, a_long_line_is_cut_and_marked);
    tcase_add_test(tcase, errno_survives);
    tcase_add_test(tcase, under_systemd_a_line_has_a_priority);
    tcase_add_test(tcase, a_burst_is_cut_and_the_next_line_tells_how_many);
    tcase_add_test(tcase, a_burst_without_a_next_line_is_told_by_flush);
    tcase_add_test(tcase, flush_all_does_not_wait_for_the_window);
    tcase_add_test(tcase, the_macro_counts_per_call_site);
    tcase_add_test(tcase, a_flood_that_goes_on_is_told_less_and_less_often);
    tcase_add_test(tcase, debug_lines_are_cut_later);
    tcase_add_test(tcase, a_state_that_lasts_is_told_when_it_begins_and_when_it_is_over);
    tcase_add_test(tcase, a_state_that_comes_and_goes_is_not_told_each_time);
    tcase_add_test(tcase, a_state_that_lasts_long_is_told_ever_less_often);
    tcase_add_test(tcase, a_line_for_programs_is_the_text_alone);
    tcase_add_test(tcase, what_nobody_read_is_counted);
    tcase_add_test(tcase, threads_share_a_site);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
