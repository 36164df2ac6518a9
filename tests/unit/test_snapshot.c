/*
 * Snapshots of workers with real rings: when one takes another's place, who hears that all have
 * swapped, and what becomes of those that a worker does not take any more. But for the last test
 * there is one thread, whose turns the tests choose.
 */
#include <check.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/run/snapshot.h"
#include "core/run/worker.h"

#define WORKERS 2u

/* What a role has. */
struct numbered {
    struct snapshot snapshot;
    unsigned number, twice; /* always 2 * number */
};

static unsigned made;
static atomic_uint freed;
static struct numbered *newest;
static struct snapshot_change change;
static atomic_uint done;

static void free_numbered(struct snapshot *base)
{
    struct numbered *numbered = container_of(base, struct numbered, snapshot);

    numbered->number = numbered->twice = 1;
    free(numbered);
    atomic_fetch_add(&freed, 1);
}

static struct numbered *make(void)
{
    struct numbered *numbered = calloc(1, sizeof(*numbered));

    CHECK(numbered != NULL);
    snapshot_init(&numbered->snapshot, free_numbered);
    numbered->number = made++;
    numbered->twice = 2 * numbered->number;
    return numbered;
}

static struct snapshot *first(void)
{
    return snapshot_ref(&newest->snapshot);
}

static int start(struct worker *worker)
{
    (void)worker;
    return 0;
}

static void drain(struct worker *worker)
{
    (void)worker;
}

static const struct role role = {
    .name = "test", .snapshot = first, .start = start, .drain = drain
};
static struct config config;
static struct worker *workers[WORKERS];

static void setup(void)
{
    struct worker_error error = { .text = "" };

    config = (struct config){ .role = CONFIG_CLIENT,
                              .workers = WORKERS,
                              .max_streams = 16,
                              .bulk_buffers = 8,
                              .window_initial = 65536,
                              .window_max = 65536,
                              .heartbeat = NSEC_PER_SEC,
                              .expiry = 3 * NSEC_PER_SEC,
                              .drain_timeout = NSEC_PER_SEC,
                              .zero_copy = CONFIG_OFF };
    newest = make();
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = worker_open(&config, &role, i, WORKER_SQ_LEAST, &error);
        ck_assert_msg(workers[i] != NULL, "%s", error.text);
        workers[i]->peers = workers;
    }
}

static void prepare(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        ck_assert_int_eq(worker_prepare(workers[i]), 0);
        ck_assert_int_eq(worker_start(workers[i]), 0);
    }
}

static void close_workers(void)
{
    for (unsigned i = 0; i < WORKERS; i++)
        worker_close(workers[i]);
}

/* Nothing is left of any snapshot. */
static void finish(void)
{
    close_workers();
    snapshot_unref(&newest->snapshot);
    ck_assert_uint_eq(atomic_load(&freed), made);
}

static const struct numbered *seen_by(const struct worker *w)
{
    return container_of(w->snapshot, struct numbered, snapshot);
}

static void count_done(struct snapshot_change *which)
{
    CHECK(which == &change);
    atomic_fetch_add(&done, 1);
}

/* A change to a new one, which is sent to `count` workers. Returns the one before. */
static struct numbered *publish(unsigned count)
{
    struct numbered *before = newest;

    newest = make();
    snapshot_change_begin(&change, &newest->snapshot, count_done);
    for (unsigned i = 0; i < count; i++)
        ck_assert(worker_change_from_thread(workers[i], &change));
    snapshot_change_made(&change);
    return before;
}

static unsigned looked_at, looks;

static void look(struct worker *w, struct message *message)
{
    (void)message;
    looked_at = seen_by(w)->number;
    looks++;
}

static const struct message_type look_message = { "look", look };

static void send_look(void)
{
    ck_assert(worker_post_from_thread(workers[0], message_new(&look_message)));
}

START_TEST(a_worker_begins_with_the_newest)
{
    prepare();
    for (unsigned i = 0; i < WORKERS; i++)
        ck_assert_ptr_eq(workers[i]->snapshot, &newest->snapshot);
    finish();
}
END_TEST

/* The second look is in the turn in which the change comes, behind it. */
START_TEST(a_turn_sees_one_of_them)
{
    prepare();
    send_look();
    struct numbered *before = publish(1);
    send_look();
    ck_assert(worker_turn(workers[0], 0));
    ck_assert_uint_eq(looks, 2);
    ck_assert_uint_eq(looked_at, before->number);
    ck_assert_ptr_eq(workers[0]->snapshot, &newest->snapshot);
    send_look();
    ck_assert(worker_turn(workers[0], 0));
    ck_assert_uint_eq(looks, 3);
    ck_assert_uint_eq(looked_at, newest->number);
    snapshot_unref(&before->snapshot);
    ck_assert_uint_eq(atomic_load(&freed), 0); /* the other worker has it */
    finish();
}
END_TEST

START_TEST(the_last_worker_says_that_all_have_swapped)
{
    prepare();
    struct numbered *before = publish(WORKERS);
    for (unsigned i = 0; i < WORKERS; i++) {
        ck_assert_uint_eq(atomic_load(&done), 0);
        ck_assert(worker_turn(workers[i], 0));
    }
    ck_assert_uint_eq(atomic_load(&done), 1);
    ck_assert_uint_eq(atomic_load(&freed), 0); /* whoever made it frees it */
    snapshot_unref(&before->snapshot);
    ck_assert_uint_eq(atomic_load(&freed), 1);
    finish();
}
END_TEST

START_TEST(nobody_is_waited_for)
{
    struct numbered *before = publish(0);

    ck_assert_uint_eq(atomic_load(&done), 1);
    snapshot_unref(&before->snapshot);
    finish();
}
END_TEST

/* Its ring takes nothing yet: the caller may try again. */
START_TEST(a_worker_that_does_not_run_yet_takes_none)
{
    struct numbered *before = newest;

    newest = make();
    snapshot_change_begin(&change, &newest->snapshot, count_done);
    ck_assert(!worker_change_from_thread(workers[0], &change));
    ck_assert_uint_eq(atomic_load(&done), 0);
    prepare();
    ck_assert(worker_change_from_thread(workers[0], &change));
    snapshot_change_made(&change);
    ck_assert(worker_turn(workers[0], 0));
    ck_assert_uint_eq(atomic_load(&done), 1);
    ck_assert_ptr_eq(workers[0]->snapshot, &newest->snapshot);
    snapshot_unref(&before->snapshot);
    finish();
}
END_TEST

static void stop(struct worker *w)
{
    worker_stop(w, WORKER_STOP_NOW);
    while (worker_turn(w, 0)) {}
}

/* It has ended when the change comes, and looks into its ring once more. */
START_TEST(a_worker_that_ends_counts_as_one_that_has_swapped)
{
    prepare();
    stop(workers[0]);
    struct numbered *before = publish(WORKERS);
    ck_assert(worker_turn(workers[1], 0));
    ck_assert_uint_eq(atomic_load(&done), 0);
    worker_discard(workers[0]);
    ck_assert_uint_eq(atomic_load(&done), 1);
    ck_assert_ptr_eq(workers[0]->snapshot, &before->snapshot);
    snapshot_unref(&before->snapshot);
    finish();
}
END_TEST

/* It stops in the turn in which the change comes. */
START_TEST(the_last_turn_swaps_too)
{
    prepare();
    struct numbered *before = publish(WORKERS);
    for (unsigned i = 0; i < WORKERS; i++)
        stop(workers[i]);
    ck_assert_uint_eq(atomic_load(&done), 1);
    ck_assert_ptr_eq(workers[0]->snapshot, &newest->snapshot);
    snapshot_unref(&before->snapshot);
    finish();
}
END_TEST

START_TEST(what_nobody_takes_is_taken_back)
{
    prepare();
    struct numbered *before = publish(WORKERS);
    message_free_all();
    ck_assert_uint_eq(atomic_load(&done), 1);
    snapshot_unref(&before->snapshot);
    finish();
}
END_TEST

/* Threads: one changes it all the time, the others look at it in each turn. */

#define CHANGES 300u

static sem_t ready, swapped;

static void say_swapped(struct snapshot_change *which)
{
    (void)which;
    sem_post(&swapped);
}

static void look_twice(struct worker *w, struct message *message)
{
    const struct numbered *numbered = seen_by(w);

    (void)message;
    CHECK(numbered->twice == 2 * numbered->number);
}

static const struct message_type check_message = { "check", look_twice };

static void *run(void *arg)
{
    struct worker *w = arg;

    CHECK(worker_prepare(w) == 0 && worker_start(w) == 0);
    sem_post(&ready);
    CHECK(worker_run(w) == 0);
    return NULL;
}

static void await(sem_t *event)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += 60;
    ck_assert_msg(sem_timedwait(event, &ts) == 0, "it did not happen");
}

static void change_once(void)
{
    struct numbered *before = newest;

    newest = make();
    snapshot_change_begin(&change, &newest->snapshot, say_swapped);
    for (unsigned i = 0; i < WORKERS; i++) {
        (void)worker_post_from_thread(workers[i], message_new(&check_message));
        ck_assert(worker_change_from_thread(workers[i], &change));
        (void)worker_post_from_thread(workers[i], message_new(&check_message));
    }
    snapshot_change_made(&change);
    await(&swapped);
    unsigned gone = atomic_load(&freed);
    snapshot_unref(&before->snapshot);
    ck_assert_uint_eq(atomic_load(&freed), gone + 1); /* nobody else has it */
}

START_TEST(no_turn_sees_one_that_is_gone)
{
    pthread_t threads[WORKERS];

    sem_init(&ready, 0, 0);
    sem_init(&swapped, 0, 0);
    for (unsigned i = 0; i < WORKERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run, workers[i]), 0);
    for (unsigned i = 0; i < WORKERS; i++)
        await(&ready);
    for (unsigned i = 0; i < CHANGES; i++)
        change_once();
    for (unsigned i = 0; i < WORKERS; i++) {
        struct message *message = message_new(&worker_message_stop);

        message->number = WORKER_STOP_NOW;
        ck_assert(worker_post_from_thread(workers[i], message));
    }
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    message_free_all();
    finish();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot");
    TCase *tcase = tcase_create("snapshot");

    if (!ring_features()->usable) {
        printf("skipped: %s\n", ring_unusable_text());
        return 77;
    }
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, a_worker_begins_with_the_newest);
    tcase_add_test(tcase, a_turn_sees_one_of_them);
    tcase_add_test(tcase, the_last_worker_says_that_all_have_swapped);
    tcase_add_test(tcase, nobody_is_waited_for);
    tcase_add_test(tcase, a_worker_that_does_not_run_yet_takes_none);
    tcase_add_test(tcase, a_worker_that_ends_counts_as_one_that_has_swapped);
    tcase_add_test(tcase, the_last_turn_swaps_too);
    tcase_add_test(tcase, what_nobody_takes_is_taken_back);
    tcase_add_test(tcase, no_turn_sees_one_that_is_gone);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
