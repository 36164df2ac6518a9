/*
 * The thread of the control plane: what it runs, in which order, and for what it does not wait.
 * Each test runs in a process of its own, with a service of its own.
 */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/sink.h"
#include "core/io/resolve.h"
#include "core/run/service.h"

/* Bounds a failure, nothing else. */
#define DEADLINE_S 60

static void await(sem_t *event)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += DEADLINE_S;
    ck_assert_msg(sem_timedwait(event, &ts) == 0, "it did not happen");
}

/* Jobs that note in which order they ran. */
struct noted {
    struct service_job job;
    char name;
    unsigned again; /* how often it posts itself */
    uint64_t at;
};

static struct noted noted[4]; /* a, b, c, d */
static char order[64];
static size_t ran;
static sem_t ends; /* one for each */

static void note(struct service_job *job)
{
    struct noted *me = container_of(job, struct noted, job);

    me->at = service_now();
    order[ran++] = me->name;
    if (me->again > 0) {
        me->again--;
        service_post(job);
    }
    sem_post(&ends);
}

static void await_order(const char *wanted)
{
    for (size_t i = 0; wanted[i] != '\0'; i++)
        await(&ends);
    ck_assert_str_eq(order, wanted);
}

/* A job that runs until it may go on. */
static struct service_job stuck;
static sem_t began, may_end;
static atomic_bool is_stuck;

static void get_stuck(struct service_job *job)
{
    (void)job;
    atomic_store(&is_stuck, true);
    sem_post(&began);
    while (sem_wait(&may_end) != 0) {}
    atomic_store(&is_stuck, false);
}

static void start_stuck(void)
{
    service_post(&stuck);
    await(&began);
}

static void setup(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(noted); i++) {
        noted[i].name = (char)('a' + i);
        service_job_init(&noted[i].job, note);
    }
    service_job_init(&stuck, get_stuck);
    sem_init(&ends, 0, 0);
    sem_init(&began, 0, 0);
    sem_init(&may_end, 0, 0);
    ck_assert_int_eq(service_start(), 0);
}

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

START_TEST(jobs_run_in_the_order_of_their_posts)
{
    start_stuck();
    service_post(&noted[2].job);
    service_post(&noted[0].job);
    service_post(&noted[1].job);
    service_post(&noted[2].job); /* it is there already */
    sem_post(&may_end);
    await_order("cab");
}
END_TEST

START_TEST(a_post_while_it_runs_makes_it_run_once_more)
{
    start_stuck();
    service_post(&stuck);
    service_post(&noted[0].job);
    service_post(&stuck);
    sem_post(&may_end);
    await(&began);
    ck_assert_uint_eq(ran, 0);
    sem_post(&may_end);
    await_order("a");
    noted[1].again = 2;
    service_post(&noted[1].job);
    await(&ends);
    await(&ends);
    await(&ends);
    ck_assert_str_eq(order, "abbb");
    service_post(&noted[0].job);
    await(&ends);
    ck_assert_str_eq(order, "abbba"); /* nothing else was left */
    ck_assert_int_eq(sem_trywait(&began), -1);
}
END_TEST

START_TEST(jobs_with_a_time_wait_for_it)
{
    uint64_t start = service_now();

    start_stuck();
    service_post_after(&noted[3].job, 90 * NSEC_PER_MSEC);
    service_post_after(&noted[0].job, 3600 * NSEC_PER_SEC);
    service_post_after(&noted[2].job, 60 * NSEC_PER_MSEC);
    service_post_after(&noted[1].job, 30 * NSEC_PER_MSEC);
    service_post_after(&noted[1].job, 120 * NSEC_PER_MSEC); /* anew */
    sem_post(&may_end);
    await_order("cdb");
    ck_assert_uint_ge(noted[2].at, start + 60 * NSEC_PER_MSEC);
    ck_assert_uint_ge(noted[3].at, start + 90 * NSEC_PER_MSEC);
    ck_assert_uint_ge(noted[1].at, start + 120 * NSEC_PER_MSEC);
    service_post(&noted[0].job); /* it need not wait any more */
    await(&ends);
    ck_assert_str_eq(order, "cdba");
}
END_TEST

/* The thread sleeps until the first one when another comes that is due before. */
START_TEST(an_earlier_time_wakes_the_thread)
{
    service_post_after(&noted[0].job, 3600 * NSEC_PER_SEC);
    service_post_after(&noted[1].job, 20 * NSEC_PER_MSEC);
    await_order("b");
    service_post_after(&noted[1].job, 0);
    await(&ends);
    ck_assert_str_eq(order, "bb");
}
END_TEST

static bool other_thread, signals_blocked;
static pthread_t caller;

static void look_around(struct service_job *job)
{
    sigset_t mask;

    (void)job;
    other_thread = !pthread_equal(pthread_self(), caller);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    signals_blocked = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGHUP);
    sem_post(&ends);
}

START_TEST(it_is_a_thread_without_signals)
{
    struct service_job job;

    caller = pthread_self();
    service_job_init(&job, look_around);
    service_post(&job);
    await(&ends);
    ck_assert(other_thread && signals_blocked);
}
END_TEST

/* The job comes back when all is over: what was queued behind it never runs. */
START_TEST(the_end_waits_for_no_job)
{
    unsigned threads = thread_count();

    start_stuck();
    service_post(&noted[0].job);
    service_post_after(&noted[1].job, NSEC_PER_MSEC);
    ck_assert(!service_stop());
    ck_assert(atomic_load(&is_stuck));
    service_post(&noted[2].job);
    sem_post(&may_end);
    while (thread_count() >= threads)
        sched_yield();
    ck_assert(!atomic_load(&is_stuck));
    ck_assert_uint_eq(ran, 0);
}
END_TEST

START_TEST(the_end_of_an_idle_one_is_the_end_of_its_thread)
{
    unsigned threads = thread_count();

    service_post_after(&noted[0].job, 3600 * NSEC_PER_SEC);
    ck_assert(service_stop() && service_stop());
    while (thread_count() >= threads) /* it was joined: the kernel may still count it */
        sched_yield();
    service_post(&noted[1].job); /* nobody's any more */
    ck_assert_int_eq(service_start(), 0);
    service_post(&noted[2].job);
    await_order("c");
}
END_TEST

/* A name server that does not answer */

static sem_t asked, may_answer;
static atomic_bool answers;

/* In place of the C library's. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **list)
{
    (void)host;
    (void)port;
    (void)hints;
    *list = NULL;
    sem_post(&asked);
    while (sem_wait(&may_answer) != 0) {}
    return EAI_AGAIN;
}

static void answered(void *arg, struct resolve_result *result)
{
    (void)arg;
    atomic_store(&answers, true);
    resolve_free(result);
    sem_post(&ends);
}

static size_t no_notice(enum sink_id id, uint64_t lines, char *dst)
{
    (void)id;
    (void)lines;
    dst[0] = '\n';
    return 1;
}

/* Standard error is a pipe that is full, and that nobody reads. */
static int fill_standard_error(void)
{
    static const char dots[4096];
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
    while (write(fds[1], dots, sizeof(dots)) > 0) {}
    ck_assert_int_eq(fcntl(fds[1], F_SETFL, 0), 0);
    ck_assert_int_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    close(fds[1]);
    return fds[0];
}

/* More than the queue of the log holds. */
static void say_much(struct service_job *job)
{
    static char text[SINK_TEXT_MAX];

    memset(text, '.', sizeof(text));
    for (unsigned i = 0; i < 2 * SINK_QUEUE / SINK_TEXT_MAX; i++)
        sink_put(SINK_ERR, text, sizeof(text));
    note(job);
}

static void read_all(int fd)
{
    static char text[65536];

    for (ssize_t n = 1; n > 0;)
        n = read(fd, text, sizeof(text));
}

START_TEST(it_waits_neither_for_the_log_nor_for_a_name)
{
    sem_init(&asked, 0, 0);
    sem_init(&may_answer, 0, 0);
    int reader = fill_standard_error();
    ck_assert(sink_start(no_notice));
    ck_assert(resolve_start("server.example", 80, answered, NULL));
    await(&asked);
    noted[0].job.run = say_much;
    service_post(&noted[0].job);
    service_post(&noted[1].job);
    await_order("ab");
    ck_assert(!atomic_load(&answers));
    sem_post(&may_answer);
    await(&ends);
    read_all(reader); /* the test's own end need not wait for its log either */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("service");
    TCase *tcase = tcase_create("service");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, jobs_run_in_the_order_of_their_posts);
    tcase_add_test(tcase, a_post_while_it_runs_makes_it_run_once_more);
    tcase_add_test(tcase, jobs_with_a_time_wait_for_it);
    tcase_add_test(tcase, an_earlier_time_wakes_the_thread);
    tcase_add_test(tcase, it_is_a_thread_without_signals);
    tcase_add_test(tcase, the_end_waits_for_no_job);
    tcase_add_test(tcase, the_end_of_an_idle_one_is_the_end_of_its_thread);
    tcase_add_test(tcase, it_waits_neither_for_the_log_nor_for_a_name);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
