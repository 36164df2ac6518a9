/*
 * Texts for standard output and standard error whose readers do what readers do: read nothing, go
 * away, come back, read slowly. Each test runs in a process of its own, so the descriptors are its
 * to replace.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/io/limits.h"
#include "core/base/sink.h"

#define PIPE_BYTES 4096
/* Far beyond what a bounded wait may take on a busy machine. */
#define SOON_NS (20 * NSEC_PER_SEC)

static atomic_bool fails_at_the_end; /* the next write to standard error */
static unsigned threads;             /* before the end */

static unsigned thread_count(void)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned count = 0;

    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* In place of the C library's. Whoever ends the sinks tells both, and then waits for the one of
 * standard output, which has nothing to do: when that thread is gone, the end is wanted here. */
ssize_t write(int fd, const void *data, size_t size)
{
    if (fd == STDERR_FILENO && atomic_exchange(&fails_at_the_end, false)) {
        while (thread_count() >= threads)
            sched_yield();
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, fd, data, size);
}

static uint64_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static size_t notice(enum sink_id id, uint64_t lines, char *dst)
{
    return (size_t)snprintf(dst, SINK_NOTICE, "lost %d %llu\n", (int)id, (unsigned long long)lines);
}

/* A small pipe in place of a descriptor; returns its read end. */
static int pipe_at(int fd, int flags)
{
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | flags), 0);
    ck_assert_int_ge(fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES), PIPE_BYTES);
    ck_assert_int_eq(dup2(ends[1], fd), fd);
    close(ends[1]);
    fcntl(ends[0], F_SETFL, 0);
    return ends[0];
}

/* To the brim, so that not a byte more goes in. */
static size_t fill(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    static const char dots[PIPE_BYTES];
    size_t total = 0;

    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    for (size_t size = sizeof(dots); size > 0;) {
        ssize_t n = write(fd, dots, size);
        total += n > 0 ? (size_t)n : 0;
        size = n > 0 ? size : size / 2;
    }
    fcntl(fd, F_SETFL, flags);
    return total;
}

static void skip(int fd, size_t size)
{
    char bytes[PIPE_BYTES];

    while (size > 0) {
        ssize_t n = read(fd, bytes, min_size(size, sizeof(bytes)));
        ck_assert_int_gt(n, 0);
        size -= (size_t)n;
    }
}

static void put(enum sink_id id, const char *text)
{
    sink_put(id, text, strlen(text));
}

/* Reads until the text is the end of what was read. */
static char *read_to(int fd, const char *end)
{
    size_t size = 0, room = 1 << 20;
    char *text = malloc(room);

    for (;;) {
        ssize_t n = read(fd, text + size, min_size(room - size - 1, PIPE_BYTES));
        ck_assert_int_gt(n, 0);
        size += (size_t)n;
        text[size] = '\0';
        if (size >= strlen(end) && strcmp(text + size - strlen(end), end) == 0)
            return text;
        if (room - size < PIPE_BYTES + 1)
            text = realloc(text, room *= 2);
    }
}

START_TEST(without_a_thread_texts_are_written_at_once)
{
    int out = pipe_at(STDOUT_FILENO, 0);
    char byte;

    put(SINK_OUT, "x");
    ck_assert_int_eq(read(out, &byte, 1), 1);
    ck_assert(sink_start(notice));
    sink_stop();
    put(SINK_OUT, "y");
    ck_assert_int_eq(read(out, &byte, 1), 1);
    ck_assert_int_eq(byte, 'y');
}
END_TEST

START_TEST(a_text_is_there_at_once)
{
    int out = pipe_at(STDOUT_FILENO, 0), err = pipe_at(STDERR_FILENO, 0);
    char *text;

    ck_assert(sink_start(notice));
    for (unsigned i = 0; i < 100; i++) {
        put(SINK_OUT, "first\n");
        put(SINK_OUT, "second\n");
        text = read_to(out, "first\nsecond\n");
        ck_assert_str_eq(text, "first\nsecond\n");
        free(text);
        put(SINK_ERR, "third\n");
        text = read_to(err, "third\n");
        ck_assert_str_eq(text, "third\n");
        free(text);
    }
    sink_stop();
}
END_TEST

#define THREADS 4
#define LINES   20000

struct producer {
    pthread_t thread;
    unsigned number;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    char text[128];

    for (unsigned i = 0; i < LINES; i++) {
        int size = snprintf(text, sizeof(text), "line %u %u, and some more to make it long\n",
                            p->number, i);
        sink_put(SINK_ERR, text, (size_t)size);
    }
    return NULL;
}

/* Every line is there, in its thread's order, or counted; returns the number of those that are
 * there. */
static unsigned count_all(char *text)
{
    unsigned there = 0, next[THREADS] = { 0 }, number, line;
    unsigned long long lost = 0, more;

    for (char *at = strtok(text, "\n"); at != NULL; at = strtok(NULL, "\n")) {
        if (sscanf(at, "lost 1 %llu", &more) == 1) {
            lost += more;
        } else if (sscanf(at, "line %u %u, and some more to make it lon", &number, &line) == 2) {
            ck_assert_uint_lt(number, THREADS);
            ck_assert_uint_ge(line, next[number]);
            ck_assert_str_eq(at + strlen(at) - 4, "long");
            next[number] = line + 1;
            there++;
        } else {
            ck_assert_str_eq(at, "end");
        }
    }
    ck_assert_uint_eq(there + lost, THREADS * LINES);
    return there;
}

START_TEST(nobody_waits_for_a_reader_that_does_not_read)
{
    struct producer producers[THREADS];
    int err = pipe_at(STDERR_FILENO, 0);
    size_t before = fill(STDERR_FILENO);
    char *text;

    ck_assert(sink_start(notice));
    for (unsigned i = 0; i < THREADS; i++) {
        producers[i].number = i;
        ck_assert_int_eq(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(producers[i].thread, NULL);
    skip(err, before);
    sink_set_patience(UINT64_MAX); /* for "end" to be among what comes */
    put(SINK_ERR, "end\n");
    text = read_to(err, "end\n");
    ck_assert_uint_lt(count_all(text), THREADS * LINES);
    free(text);
    sink_stop();
}
END_TEST

/* The queue goes round many times while somebody reads; what fits is not lost. */
START_TEST(a_reader_that_reads_gets_all)
{
    struct producer p = { .number = 0 };
    int err = pipe_at(STDERR_FILENO, 0);
    char line[64];
    char *text;

    ck_assert(sink_start(notice));
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 100; i++) {
            snprintf(line, sizeof(line), "line %u %u\n", p.number, round * 100 + i);
            put(SINK_ERR, line);
        }
        put(SINK_ERR, "end\n");
        text = read_to(err, "end\n");
        for (unsigned i = 0; i < 100; i++) {
            snprintf(line, sizeof(line), "line %u %u\n", p.number, round * 100 + i);
            ck_assert_ptr_nonnull(strstr(text, line));
        }
        ck_assert_ptr_null(strstr(text, "lost"));
        free(text);
    }
    sink_stop();
}
END_TEST

START_TEST(one_that_is_stuck_does_not_hold_up_the_other)
{
    int out = pipe_at(STDOUT_FILENO, 0), err = pipe_at(STDERR_FILENO, 0);
    size_t before = fill(STDERR_FILENO);
    char *text;

    ck_assert(sink_start(notice));
    put(SINK_ERR, "stuck\n");
    put(SINK_OUT, "ready\n");
    free(read_to(out, "ready\n"));
    skip(err, before);
    free(read_to(err, "stuck\n"));
    before = fill(STDOUT_FILENO);
    put(SINK_OUT, "stuck\n");
    put(SINK_ERR, "a line\n");
    free(read_to(err, "a line\n"));
    skip(out, before);
    text = read_to(out, "stuck\n");
    ck_assert_str_eq(text, "stuck\n");
    free(text);
    sink_stop();
}
END_TEST

/* Descriptors that somebody else made non-blocking, and texts that go out in pieces. */
START_TEST(a_text_in_pieces_is_whole)
{
    int err = pipe_at(STDERR_FILENO, O_NONBLOCK);
    char *long_text = malloc(SINK_TEXT_MAX + 1), *text;

    memset(long_text, 'a', SINK_TEXT_MAX);
    long_text[SINK_TEXT_MAX - 1] = '\n';
    long_text[SINK_TEXT_MAX] = '\0';
    ck_assert(sink_start(notice));
    put(SINK_ERR, long_text);
    put(SINK_ERR, "end\n");
    text = read_to(err, "end\n");
    ck_assert_uint_eq(strlen(text), SINK_TEXT_MAX + 4);
    ck_assert(memcmp(text, long_text, SINK_TEXT_MAX) == 0);
    free(text);
    free(long_text);
    sink_stop();
}
END_TEST

static void put_long(char byte)
{
    char line[1024];

    memset(line, byte, sizeof(line));
    line[sizeof(line) - 1] = '\n';
    sink_put(SINK_ERR, line, sizeof(line));
}

static void put_more_than_fits(void)
{
    for (unsigned i = 0; i < 2 * SINK_QUEUE / 1024; i++)
        put_long('b');
}

/* fd: something that gives errors. When it takes bytes again they come, and the number that is
 * missing. */
static void recovers_from(int fd)
{
    int err, copy;
    char *text;

    ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    ck_assert(sink_start(notice));
    put_more_than_fits();
    copy = dup(STDOUT_FILENO);
    err = pipe_at(STDOUT_FILENO, 0); /* replaced in one go: descriptor 2 is never closed */
    ck_assert_int_eq(dup2(STDOUT_FILENO, STDERR_FILENO), STDERR_FILENO);
    dup2(copy, STDOUT_FILENO);
    sink_set_patience(UINT64_MAX);
    put(SINK_ERR, "end\n");
    text = read_to(err, "end\n");
    ck_assert_int_eq(text[0], 'b');
    ck_assert_ptr_nonnull(strstr(text, "b\nlost 1 "));
    free(text);
    sink_stop();
}

START_TEST(a_full_disk_is_not_for_ever)
{
    recovers_from(open("/dev/full", O_WRONLY | O_CLOEXEC));
}
END_TEST

START_TEST(a_reader_that_is_gone_harms_nobody)
{
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    recovers_from(ends[1]);
}
END_TEST

/* A line that was written in part goes on where it was cut. */
START_TEST(a_disk_that_fills_up_within_a_line)
{
    char path[] = "/tmp/culvert-sink-XXXXXX", line[] = "0123456789\n", text[64] = "";
    int fd = mkostemp(path, O_CLOEXEC);
    struct rlimit limit, none;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit is EFBIG */
    getrlimit(RLIMIT_FSIZE, &none);
    limit = none;
    limit.rlim_cur = 5;
    ck_assert(sink_start(notice));
    setrlimit(RLIMIT_FSIZE,
              &limit); /* Check itself writes to a file: it says nothing until the limit is gone */
    put(SINK_ERR, line);
    put(SINK_ERR, "end\n");
    while (lseek(fd, 0, SEEK_END) < 5)
        sched_yield();
    setrlimit(RLIMIT_FSIZE, &none);
    sink_stop();
    ck_assert_int_gt(pread(fd, text, sizeof(text) - 1, 0), 0);
    ck_assert_str_eq(text, "0123456789\nend\n");
    unlink(path);
}
END_TEST

/* A try that fails after the end was wanted may have begun before. */
START_TEST(the_last_try_begins_after_the_end)
{
    int err = pipe_at(STDERR_FILENO, 0);
    char text[16] = "";

    ck_assert(sink_start(notice));
    threads = thread_count();
    atomic_store(&fails_at_the_end, true);
    put(SINK_ERR, "end\n");
    while (atomic_load(&fails_at_the_end)) /* until it is in the middle of it */
        sched_yield();
    sink_stop();
    fcntl(err, F_SETFL, O_NONBLOCK);
    ck_assert_int_gt(read(err, text, sizeof(text) - 1), 0);
    ck_assert_str_eq(text, "end\n");
}
END_TEST

START_TEST(patience_waits_for_room)
{
    int err = pipe_at(STDERR_FILENO, 0);
    size_t before = fill(STDERR_FILENO);
    uint64_t start;
    char *text;

    ck_assert(sink_start(notice));
    put_more_than_fits();
    start = now();
    sink_set_patience(50 * NSEC_PER_MSEC);
    put_long('n');
    ck_assert(now() - start >= 50 * NSEC_PER_MSEC);
    start = now();
    sink_drain();
    ck_assert(now() - start >= 50 * NSEC_PER_MSEC && now() - start < SOON_NS);
    skip(err, before);
    sink_set_patience(UINT64_MAX);
    put(SINK_ERR, "but this\n");
    text = read_to(err, "but this\n");
    ck_assert_ptr_null(strstr(text, "nn"));
    free(text);
    sink_drain();
    sink_stop();
}
END_TEST

/* The end */

static void *read_slowly(void *arg)
{
    const struct timespec pause = { .tv_nsec = 1000000 };
    int fd = *(int *)arg;
    static size_t total;
    char bytes[512];
    ssize_t n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
        total += (size_t)n;
        (void)nanosleep(&pause, NULL); /* this is what slow means */
    }
    return &total;
}

START_TEST(the_end_waits_for_a_reader_that_reads)
{
    int err = pipe_at(STDERR_FILENO, 0);
    pthread_t reader;
    void *total;

    ck_assert_int_eq(pthread_create(&reader, NULL, read_slowly, &err), 0);
    ck_assert(sink_start(notice));
    for (unsigned i = 0; i < 200; i++)
        put_long('c');
    sink_stop();
    close(STDERR_FILENO);
    pthread_join(reader, &total);
    ck_assert_uint_eq(*(size_t *)total, 200 * 1024);
}
END_TEST

START_TEST(the_end_does_not_wait_for_one_that_does_not)
{
    int out = pipe_at(STDOUT_FILENO, 0), err = pipe_at(STDERR_FILENO, O_NONBLOCK);
    uint64_t start;

    fill(STDOUT_FILENO);
    fill(STDERR_FILENO);
    ck_assert(sink_start(notice));
    put(SINK_OUT, "stuck\n");
    put_more_than_fits();
    start = now();
    sink_stop();
    ck_assert(now() - start >= SINK_END_QUIET_NS);
    ck_assert(now() - start < SOON_NS);
    put(SINK_OUT, "nobody waits for this\n");
    sink_stop();
    ck_assert(now() - start < SOON_NS);
    close(out);
    close(err);
}
END_TEST

START_TEST(the_end_does_not_wait_for_a_full_disk)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    uint64_t start = now();

    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    ck_assert(sink_start(notice));
    put(SINK_OUT, "x\n");
    put_more_than_fits();
    sink_stop();
    ck_assert(now() - start < SINK_END_NS);
}
END_TEST

/* What child() does in a process of its own, whose standard error is a pipe, full or not. Returns
 * how it ended, and what it said in `text` unless that is NULL: then nobody reads. */
static int run_child(void (*child)(void), char **text)
{
    int err = pipe_at(STDERR_FILENO, 0), status;
    uint64_t start = now();
    struct rlimit none = { 0 };

    if (text == NULL)
        fill(STDERR_FILENO);
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        if (sink_start(notice))
            child();
        _exit(99);
    }
    if (text != NULL)
        *text = read_to(err, "end\n");
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(now() - start < SOON_NS);
    close(err);
    return status;
}

static void exits(void)
{
    put(SINK_ERR, "a line\n");
    put(SINK_ERR, "end\n");
    exit(7);
}

START_TEST(exit_writes_what_is_queued)
{
    char *text;
    int status = run_child(exits, &text);

    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    ck_assert_str_eq(text, "a line\nend\n");
    free(text);
    status = run_child(exits, NULL);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}
END_TEST

/* A failed CHECK */

static void dump(void *arg)
{
    put(SINK_ERR, arg);
}

static volatile int three = 4;

static void fails(void)
{
    static char tables[] = "tables\nend\n";

    put_more_than_fits();
    check_set_dump(dump, tables);
    CHECK(three == 3);
}

START_TEST(a_failed_check_says_why_and_what_was_before)
{
    char *text, *bug;
    int status = run_child(fails, &text);

    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    ck_assert_int_eq(text[0], 'b');
    bug = strstr(text, "culvert: bug: ");
    ck_assert_ptr_nonnull(bug);
    ck_assert_ptr_nonnull(strstr(bug, "CHECK(three == 3) failed\ntables\nend\n"));
    free(text);
}
END_TEST

static void *fails_in_a_thread(void *arg)
{
    pthread_barrier_wait(arg);
    fails();
    return NULL;
}

static void fail_together(void)
{
    pthread_barrier_t barrier;
    pthread_t thread;

    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned i = 1; i < THREADS; i++)
        pthread_create(&thread, NULL, fails_in_a_thread, &barrier);
    fails_in_a_thread(&barrier);
}

static size_t bad_notice(enum sink_id id, uint64_t lines, char *dst)
{
    (void)dst;
    CHECK(id == SINK_OUT && lines == 0);
    return 0;
}

START_TEST(a_failed_check_aborts_though_nobody_reads)
{
    int status = run_child(fails, NULL);

    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = run_child(fail_together, NULL);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
END_TEST

/* With the sink's mutex in hand: a text that finds no room, and a shorter one that does, behind a
 * notice. */
static void fails_inside(void)
{
    static char text[SINK_TEXT_MAX];

    memset(text, '\n', sizeof(text));
    for (unsigned i = 0; i <= SINK_QUEUE / SINK_TEXT_MAX; i++)
        sink_put(SINK_ERR, text, sizeof(text));
    put(SINK_ERR, "short\n");
}

#define QUEUED 3 /* of the longest texts, without one that the writer has */

/* The writer itself: when it has written what is queued, a notice is due, and the pipe is full
 * again. */
static void fails_in_writer(void)
{
    static char text[SINK_TEXT_MAX];

    memset(text, '\n', sizeof(text));
    sink_set_patience(UINT64_MAX);
    for (unsigned i = 0; i < 1 + QUEUED;
         i++) /* the last one waits until the writer has the first */
        sink_put(SINK_ERR, text, sizeof(text));
    sink_set_patience(0);
    sink_put(SINK_ERR, text, sizeof(text));
    put(SINK_OUT, "lost\n");
    for (;;)
        pause();
}

static void fails_within(void (*child)(void), size_t texts)
{
    int out = pipe_at(STDOUT_FILENO, 0), err = pipe_at(STDERR_FILENO, 0), status;
    struct rlimit none = { 0 };

    ck_assert_int_eq(fcntl(STDERR_FILENO, F_SETPIPE_SZ, SINK_TEXT_MAX), SINK_TEXT_MAX);
    size_t before = fill(STDERR_FILENO);
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        if (sink_start(bad_notice))
            child();
        _exit(99);
    }
    if (texts > 0) {
        free(read_to(out, "lost\n"));
        skip(err, before + (texts - 1) * SINK_TEXT_MAX);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    close(out);
    close(err);
}

START_TEST(a_failed_check_in_here_aborts_too)
{
    ck_assert_uint_eq(SINK_QUEUE / (SINK_TEXT_MAX + sizeof(uint32_t)), QUEUED);
    fails_within(fails_inside, 0);
    fails_within(fails_in_writer, 1 + QUEUED);
}
END_TEST

START_TEST(a_reader_that_has_caught_up_is_told_what_it_missed)
{
    int err = pipe_at(STDERR_FILENO, 0);
    size_t before = fill(STDERR_FILENO);
    char *text;

    ck_assert(sink_start(notice));
    put_more_than_fits();
    skip(err, before);
    text = read_to(err, "bbb\n");
    while (strstr(text, "lost") == NULL) {
        free(text);
        text = read_to(err, "\n");
    }
    free(text);
    sink_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sink");
    TCase *tcase = tcase_create("sink");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, without_a_thread_texts_are_written_at_once);
    tcase_add_test(tcase, a_text_is_there_at_once);
    tcase_add_test(tcase, nobody_waits_for_a_reader_that_does_not_read);
    tcase_add_test(tcase, a_reader_that_reads_gets_all);
    tcase_add_test(tcase, one_that_is_stuck_does_not_hold_up_the_other);
    tcase_add_test(tcase, a_text_in_pieces_is_whole);
    tcase_add_test(tcase, a_full_disk_is_not_for_ever);
    tcase_add_test(tcase, a_reader_that_is_gone_harms_nobody);
    tcase_add_test(tcase, a_disk_that_fills_up_within_a_line);
    tcase_add_test(tcase, the_last_try_begins_after_the_end);
    tcase_add_test(tcase, patience_waits_for_room);
    tcase_add_test(tcase, the_end_waits_for_a_reader_that_reads);
    tcase_add_test(tcase, the_end_does_not_wait_for_one_that_does_not);
    tcase_add_test(tcase, the_end_does_not_wait_for_a_full_disk);
    tcase_add_test(tcase, exit_writes_what_is_queued);
    tcase_add_test(tcase, a_failed_check_says_why_and_what_was_before);
    tcase_add_test(tcase, a_failed_check_aborts_though_nobody_reads);
    tcase_add_test(tcase, a_failed_check_in_here_aborts_too);
    tcase_add_test(tcase, a_reader_that_has_caught_up_is_told_what_it_missed);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
