/*
 * What a reload does to log-ins and sessions, step by step: the service is real, and two workers
 * with real rings take their turns when a test says so.
 */
#include <check.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/run/service.h"
#include "core/run/worker.h"
#include "server/auth.h"
#include "server/registry.h"
#include "server/reload.h"
#include "server/tunnel.h"

#define WORKERS 2u

static struct config config;
static struct worker *workers[WORKERS];
static char folder[] = "/tmp/test_reload.XXXXXX";
static char path[sizeof(folder) + 16];
static union sock_addr peer; /* nobody's */

static int start(struct worker *worker)
{
    (void)worker;
    return 0;
}

static const struct role role = { .name = "test", .snapshot = reload_first, .start = start };

static void write_tokens(const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert(fputs(text, file) >= 0 && fclose(file) == 0);
}

/* What the service has done */

static sem_t published, idle;
static unsigned publications;
static uint64_t ended[8];
static unsigned ended_count;

static void end_session(void *arg, const struct message_type *type, uint64_t session,
                        uint32_t number)
{
    (void)arg;
    CHECK(type == &tunnel_session_over && number == REASON_TOKEN_GONE);
    CHECK(ended_count < ARRAY_SIZE(ended));
    ended[ended_count++] = session;
}

static void send_change(void *arg, struct snapshot_change *change)
{
    (void)arg;
    for (unsigned i = 0; i < WORKERS; i++)
        CHECK(worker_change_from_thread(workers[i], change));
    publications++;
    sem_post(&published);
}

static void say_idle(struct service_job *job)
{
    (void)job;
    sem_post(&idle);
}

static void await(sem_t *event)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += 60;
    ck_assert_msg(sem_timedwait(event, &ts) == 0, "it did not happen");
}

/* All that was posted to the service is done. */
static void await_idle(void)
{
    static struct service_job job;

    service_job_init(&job, say_idle);
    service_post(&job);
    await(&idle);
}

/* SIGHUP, until the workers have the message. */
static void reload_to(const char *tokens)
{
    write_tokens(tokens);
    reload_all();
    await(&published);
    await_idle();
}

static void turn(unsigned i)
{
    ck_assert(worker_turn(workers[i], 0));
    await_idle();
}

static void open_workers(void)
{
    struct worker_error error = { .text = "" };

    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = worker_open(&config, &role, i, WORKER_SQ_LEAST, &error);
        ck_assert_msg(workers[i] != NULL, "%s", error.text);
        workers[i]->peers = workers;
        ck_assert_int_eq(worker_prepare(workers[i]), 0);
    }
}

static void setup(void)
{
    const struct reload_workers reached = { .tell = end_session, .change = send_change };
    const char *tokens = "stays-stays-stays\ngone-gone-gone-gone\n";

    umask(077);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/tokens", folder);
    write_tokens(tokens);
    config = (struct config){ .role = CONFIG_SERVER,
                              .workers = WORKERS,
                              .max_sessions = 8,
                              .max_streams = 16,
                              .max_lanes = 8,
                              .max_unauthenticated = 4,
                              .bulk_buffers = 8,
                              .window_initial = 65536,
                              .window_max = 65536,
                              .zero_copy = CONFIG_OFF,
                              .tls = CONFIG_OFF,
                              .token_file = path,
                              .token_again = true,
                              .start_port = 20000 };
    snprintf(config.listen.host, sizeof(config.listen.host), "127.0.0.1");
    peer.sa.sa_family = AF_INET;
    port_set_add(&config.ports, PORT_SET_LOW, UINT16_MAX);
    sem_init(&published, 0, 0);
    sem_init(&idle, 0, 0);
    ck_assert(config_copy_token(&config, tokens, strlen(tokens)));
    ck_assert(registry_open(&config) && reload_open(&config, &peer));
    open_workers();
    ck_assert_int_eq(service_start(), 0);
    reload_serve(&reached);
}

static void teardown(void)
{
    while (!service_stop()) {} /* the last job may not have quite ended */
    message_free_all();
    for (unsigned i = 0; i < WORKERS; i++)
        worker_close(workers[i]);
    reload_close();
    registry_close();
    unlink(path);
    rmdir(folder);
}

/* Log-ins */

static const struct auth_table *tokens_of(unsigned i)
{
    return container_of(workers[i]->snapshot, struct reload_snapshot, snapshot)->tokens;
}

static bool lets_in(unsigned i, const char *token)
{
    unsigned number;

    return auth_check_v1(tokens_of(i), &peer, token, strlen(token), &number) == REASON_DONE;
}

/* As in a turn of this worker: checked, and put into the registry. */
static uint64_t log_in(unsigned i, const char *token)
{
    static const uint8_t secret[SCRAM_KEY_SIZE];
    struct registry_session shared = { .id = registry_next_id(), .lanes = 1, .home = i };
    struct registry_added added;

    ck_assert_int_eq(auth_check_v1(tokens_of(i), &peer, token, strlen(token), &shared.client.token),
                     REASON_DONE);
    ck_assert_int_eq(registry_add(&shared, secret, &added), REASON_DONE);
    return shared.id;
}

static bool has_ended(uint64_t session)
{
    struct registry_home home;
    bool told = false;

    for (unsigned i = 0; i < ended_count; i++)
        told = told || ended[i] == session;
    ck_assert(told != registry_home(session, &home));
    return told;
}

/* One worker has swapped, and the other one goes on with what it has: whom it lets in then is seen
 * when it has swapped too. */
START_TEST(sessions_end_when_all_workers_have_swapped)
{
    uint64_t stays = log_in(0, "stays-stays-stays"), before = log_in(1, "gone-gone-gone-gone");

    reload_to("new-new-new-new-new\nstays-stays-stays\n");
    turn(0);
    ck_assert(lets_in(0, "new-new-new-new-new") && !lets_in(0, "gone-gone-gone-gone"));
    ck_assert(!lets_in(1, "new-new-new-new-new") && lets_in(1, "gone-gone-gone-gone"));
    ck_assert(!has_ended(before));
    uint64_t late = log_in(1, "gone-gone-gone-gone"), fresh = log_in(0, "new-new-new-new-new");
    turn(1);
    ck_assert(!lets_in(1, "gone-gone-gone-gone"));
    ck_assert(has_ended(before) && has_ended(late));
    ck_assert(!has_ended(stays) && !has_ended(fresh));
}
END_TEST

START_TEST(what_is_wanted_meanwhile_is_done_afterwards)
{
    uint64_t session = log_in(0, "gone-gone-gone-gone");

    reload_to("stays-stays-stays\ngone-gone-gone-gone\nnew-new-new-new-new\n");
    write_tokens("new-new-new-new-new\n");
    for (unsigned i = 0; i < 3; i++) {
        reload_all();
        await_idle();
    }
    turn(0);
    ck_assert_uint_eq(publications, 1);
    turn(1);
    await(&published);
    ck_assert(!has_ended(session)); /* of the first one, which had it */
    turn(0);
    turn(1);
    ck_assert(has_ended(session));
    ck_assert(!lets_in(1, "stays-stays-stays") && lets_in(1, "new-new-new-new-new"));
    await_idle();
    ck_assert_uint_eq(publications, 2); /* three posts were one */
}
END_TEST

START_TEST(a_file_that_cannot_be_used_changes_nothing)
{
    const struct snapshot *before = workers[0]->snapshot;

    write_tokens("");
    reload_all();
    await_idle();
    turn(0);
    ck_assert_uint_eq(publications, 0);
    ck_assert_ptr_eq(workers[0]->snapshot, before);
    reload_to("stays-stays-stays\n");
    turn(0);
    ck_assert_ptr_ne(workers[0]->snapshot, before);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reload");
    TCase *tcase = tcase_create("reload");

    if (!ring_features()->usable) {
        printf("skipped: %s\n", ring_unusable_text());
        return 77;
    }
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, sessions_end_when_all_workers_have_swapped);
    tcase_add_test(tcase, what_is_wanted_meanwhile_is_done_afterwards);
    tcase_add_test(tcase, a_file_that_cannot_be_used_changes_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
