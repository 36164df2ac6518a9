/*
 * engine: see engine.h.
 *
 * The main thread makes the workers, then only waits: for signals (signalfd) and for workers that
 * ended (an eventfd that they write). It talks to workers by messages like everybody else, and
 * reads their counters after they have ended, or from the copies that they make on request. Like
 * them it waits neither for who reads what the program says (sink.h), nor for a file (service.h):
 * a reader that has stopped, or a file system, would take the signals' effect away.
 *
 * The start is all or nothing, and ends in order whatever fails in it: every worker has its memory
 * and its ring before there is a second thread; the threads wait for each other at two gates, and
 * what stops one of them stops all there. Between the gates all workers but the first start their
 * role. A server's service, which is made before them, has nothing to do until they are there.
 *
 * The end waits for workers, and for nobody else. A service that is in a job, and a helper that is
 * out (worker.h), may come back when it likes: what they use is left to the end of the process.
 */
#include "app/engine.h"

#include "client/client.h"
#include "core/base/check.h"
#include "core/base/cure.h"
#include "core/base/exit_code.h"
#include "core/base/log.h"
#include "core/base/sink.h"
#include "core/io/fds.h"
#include "core/run/service.h"
#include "core/run/summary.h"
#include "core/run/worker.h"
#include "server/server.h"
#include "tls/tls.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* This thread has nothing else to do: it says what bursts of log lines left out, rarely enough not
 * to wake an idle program. */
#define LOG_FLUSH_MS 10000

/* All threads pass together, or none does. */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned expected, arrived;
    int code; /* why none passes */
};

enum { GATE_PREPARED, GATE_STARTED, GATE_COUNT };

struct seat { /* one worker's thread */
    struct worker *worker;
    pthread_t thread;
    struct gate *gates;
    int done_fd; /* written when the thread is over */
    bool over;
    bool failed; /* it never ran */
    int code;
    int cpu; /* -1: not pinned */
};

struct engine {
    const struct config *config;
    unsigned count;
    unsigned threads; /* made, of so many */
    struct seat *seats;
    struct worker **peers; /* what every worker sees of the others */
    struct gate gates[GATE_COUNT];
    int done_fd, signal_fd;
    unsigned stops;
    bool left_service; /* it is in a job */
};

/* Not on a stack: a service that was left behind may still look at it. */
static struct engine engine_only;

static void engine_pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0)
        log_at(LOG_WARN, "worker", "cannot run on CPU %d: %s", cpu, strerror(errno));
}

static void engine_seat_over(struct seat *seat)
{
    uint64_t one = 1;

    __atomic_store_n(&seat->over, true, __ATOMIC_RELEASE);
    CHECK(write(seat->done_fd, &one, sizeof(one)) == sizeof(one));
}

static void engine_gate_init(struct gate *gate, unsigned expected)
{
    *gate = (struct gate){ .mutex = PTHREAD_MUTEX_INITIALIZER,
                           .changed = PTHREAD_COND_INITIALIZER,
                           .expected = expected,
                           .code = EXIT_CODE_OK };
}

/* With a thread's code; waits for the others, and returns the worst of all. */
static int engine_gate_pass(struct gate *gate, int code)
{
    pthread_mutex_lock(&gate->mutex);
    gate->arrived++;
    if (code != EXIT_CODE_OK)
        gate->code = code;
    pthread_cond_broadcast(&gate->changed);
    while (gate->arrived < gate->expected)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    code = gate->code;
    pthread_mutex_unlock(&gate->mutex);
    return code;
}

/* There are only so many threads, and so none passes. */
static void engine_gate_shut(struct gate *gate, unsigned threads, int code)
{
    pthread_mutex_lock(&gate->mutex);
    gate->expected = threads;
    gate->code = code;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

/* A message to a ring that is not enabled yet would be lost: nothing starts before all are. */
static int engine_seat_start(struct seat *seat)
{
    bool last = seat->worker->loop.index == 0;
    int code = engine_gate_pass(&seat->gates[GATE_PREPARED], worker_prepare(seat->worker));

    if (code != EXIT_CODE_OK)
        return code;
    if (!last)
        code = worker_start(seat->worker);
    int all = engine_gate_pass(&seat->gates[GATE_STARTED], code);
    if (last && all == EXIT_CODE_OK)
        return worker_start(seat->worker);
    return last ? all : code; /* one that has started ends by a message, in its loop */
}

static void *engine_seat_main(void *arg)
{
    struct seat *seat = arg;

    if (seat->cpu >= 0)
        engine_pin(seat->cpu);
    seat->code = engine_seat_start(seat);
    seat->failed = seat->code != EXIT_CODE_OK;
    if (!seat->failed)
        seat->code = worker_run(seat->worker);
    engine_seat_over(seat);
    return NULL;
}

/* Workers */

static void engine_close_workers(struct engine *engine)
{
    for (unsigned i = 0; i < engine->count; i++) {
        if (engine->seats[i].worker != NULL)
            worker_close(engine->seats[i].worker);
        engine->seats[i].worker = engine->peers[i] = NULL;
    }
}

/* All or none. */
static bool engine_open_all(struct engine *engine, unsigned entries, struct worker_error *error)
{
    const struct role *role = engine->config->role == CONFIG_SERVER ? &server_role : &client_role;

    for (unsigned i = 0; i < engine->count; i++) {
        struct worker *worker = worker_open(engine->config, role, i, entries, error);
        if (worker == NULL) {
            engine_close_workers(engine);
            return false;
        }
        worker->peers = engine->peers;
        engine->seats[i].worker = engine->peers[i] = worker;
    }
    return true;
}

/* Where the user's locked memory is short, with smaller rings: first as small as this process makes
 * necessary, then as the user's other processes do. */
static bool engine_open_workers(struct engine *engine)
{
    unsigned entries =
        ring_entries(engine->count, BUF_PROVIDED, WORKER_SQ_ENTRIES, WORKER_SQ_LEAST);
    struct worker_error error = { .text = NULL };
    bool open = engine_open_all(engine, entries, &error);

    while (!open && error.smaller_ring && entries / 2 >= WORKER_SQ_LEAST) {
        entries /= 2;
        open = engine_open_all(engine, entries, &error);
    }
    if (!open)
        log_at(LOG_ERROR, "culvert", "%s", error.text);
    else if (entries < WORKER_SQ_ENTRIES)
        log_at(LOG_INFO, "culvert",
               "rings have %u entries instead of %u: locked memory is short for --workers %u "
               "(ulimit -l, shared by all processes of this user)",
               entries, WORKER_SQ_ENTRIES, engine->count);
    return open;
}

static int engine_make_thread(struct engine *engine, unsigned index)
{
    const struct config *config = engine->config;
    struct seat *seat = &engine->seats[index];

    seat->done_fd = engine->done_fd;
    seat->gates = engine->gates;
    seat->cpu = config->cpu_count > 0 ? config->cpus[index % config->cpu_count] : -1;
    return pthread_create(&seat->thread, NULL, engine_seat_main, seat);
}

/* The gates need all of them: if one cannot be made, the others find them shut. */
static void engine_start_threads(struct engine *engine)
{
    int error = 0;

    for (unsigned i = 0; i < GATE_COUNT; i++)
        engine_gate_init(&engine->gates[i], engine->count);
    while (engine->threads < engine->count && error == 0) {
        error = engine_make_thread(engine, engine->threads);
        engine->threads += error == 0;
    }
    if (error == 0)
        return;
    log_at(LOG_ERROR, "culvert", "cannot make a thread for each of %u workers: %s%s", engine->count,
           strerror(error), cure_text(error));
    engine_gate_shut(&engine->gates[GATE_PREPARED], engine->threads, EXIT_CODE_CANNOT_START);
}

/* A ring must be running to take messages: a worker that is still starting is tried again. */
#define STARTING_USEC 1000

static bool engine_seat_is_over(const struct seat *seat)
{
    return __atomic_load_n(&seat->over, __ATOMIC_ACQUIRE);
}

static void engine_tell_session(struct engine *engine, const struct message_type *type,
                                uint64_t session, uint32_t number)
{
    for (unsigned i = 0; i < engine->threads; i++) {
        struct seat *seat = &engine->seats[i];

        for (bool sent = false; !sent && !engine_seat_is_over(seat);) {
            struct message *message = message_new(type);
            message->session = session;
            message->number = number;
            sent = worker_post_from_thread(seat->worker, message);
            if (!sent)
                usleep(STARTING_USEC);
        }
    }
}

static void engine_tell_all(struct engine *engine, const struct message_type *type, uint32_t number)
{
    engine_tell_session(engine, type, 0, number);
}

/* reload_workers.tell */
static void engine_tell_of_session(void *arg, const struct message_type *type, uint64_t session,
                                   uint32_t number)
{
    engine_tell_session(arg, type, session, number);
}

/* reload_workers.change */
static void engine_change(void *arg, struct snapshot_change *change)
{
    struct engine *engine = arg;

    for (unsigned i = 0; i < engine->threads; i++) {
        struct seat *seat = &engine->seats[i];

        while (!engine_seat_is_over(seat) && !worker_change_from_thread(seat->worker, change))
            usleep(STARTING_USEC);
    }
}

static unsigned engine_count_over(const struct engine *engine)
{
    unsigned over = 0;

    for (unsigned i = 0; i < engine->threads; i++)
        over += engine_seat_is_over(&engine->seats[i]);
    return over;
}

/* Signals */

static bool engine_open_signals(struct engine *engine)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* inherited by the workers */
    engine->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (engine->signal_fd >= 0)
        engine->done_fd = eventfd(0, EFD_CLOEXEC);
    if (engine->done_fd >= 0)
        return true;
    log_at(LOG_ERROR, "culvert", "cannot wait for signals: %s%s", strerror(errno),
           cure_text(errno));
    return false;
}

static void engine_stop(struct engine *engine)
{
    engine->stops++;
    if (engine->stops == 1) {
        engine_tell_all(engine, &worker_message_stop, WORKER_STOP_DRAIN);
        log_at(LOG_INFO, "culvert",
               "stopping: streams may end within %.0f s; once more to stop at once",
               (double)engine->config->drain_timeout / 1e9);
    } else if (engine->stops == 2) {
        engine_tell_all(engine, &worker_message_stop, WORKER_STOP_NOW);
    } else {
        _exit(EXIT_CODE_FAILED); /* workers that do not even end at once */
    }
}

static void engine_on_signal(struct engine *engine)
{
    struct signalfd_siginfo info;

    if (read(engine->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    switch (info.ssi_signo) {
    case SIGINT:
    case SIGTERM:
        engine_stop(engine);
        break;
    case SIGUSR1:
        engine_tell_all(engine, &worker_message_counters, 0);
        break;
    default: /* SIGHUP */
        if (engine->config->role == CONFIG_SERVER)
            server_reload();
        break;
    }
}

/* One that could not start ends the others. One that ran has told them itself, and their last words
 * may still be on their way. */
static void engine_end_with_the_failed(struct engine *engine)
{
    for (unsigned i = 0; i < engine->threads; i++)
        if (engine_seat_is_over(&engine->seats[i]) && engine->seats[i].failed)
            engine_tell_all(engine, &worker_message_stop, WORKER_STOP_NOW);
}

static void engine_wait_for_end(struct engine *engine)
{
    struct pollfd fds[] = { { .fd = engine->signal_fd, .events = POLLIN },
                            { .fd = engine->done_fd, .events = POLLIN } };

    while (engine_count_over(engine) < engine->threads) {
        if (poll(fds, ARRAY_SIZE(fds), LOG_FLUSH_MS) < 0)
            continue;
        log_flush(false);
        if ((fds[0].revents & POLLIN) != 0)
            engine_on_signal(engine);
        if ((fds[1].revents & POLLIN) != 0) {
            uint64_t count;
            CHECK(read(engine->done_fd, &count, sizeof(count)) == sizeof(count));
            engine_end_with_the_failed(engine);
        }
    }
}

/* The worst of the workers' codes: any that is not 0. */
static int engine_join_threads(struct engine *engine, struct stats *sum)
{
    int code = engine->threads == engine->count ? EXIT_CODE_OK : EXIT_CODE_CANNOT_START;

    for (unsigned i = 0; i < engine->threads; i++) {
        pthread_join(engine->seats[i].thread, NULL);
        if (engine->seats[i].code != EXIT_CODE_OK)
            code = engine->seats[i].code;
        stats_add(sum, &engine->seats[i].worker->loop.stats);
    }
    return code;
}

static void engine_print_summary(const struct stats *sum, uint64_t uptime, bool server)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (out == NULL)
        return;
    summary_print(out, sum, uptime, server);
    if (fclose(out) == 0)
        sink_put(SINK_OUT, text, size);
    free(text);
}

static uint64_t engine_memory_of_machine(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint32_t engine_for_strangers(struct worker *w, uint64_t descriptors)
{
    if (w->loop.config->role != CONFIG_SERVER)
        return 0;
    uint32_t places = strangers_fit(&w->lanes.strangers, descriptors);

    if (places < w->loop.config->max_unauthenticated && w->loop.index == 0)
        log_at(LOG_WARN, "server",
               "%u connections of a worker may be without log-in at a time, not %u: there are few "
               "file descriptors (raise the hard limit of open files, ulimit -Hn)",
               places, w->loop.config->max_unauthenticated);
    return places;
}

/* What the machine has and the process may take, in equal parts. */
static void engine_share_out(struct engine *engine)
{
    uint64_t descriptors = fds_part(engine->count);
    uint64_t unsent = engine_memory_of_machine() / STREAMS_UNSENT_PART / engine->count;

    for (unsigned i = 0; i < engine->count; i++) {
        struct worker *w = engine->peers[i];

        w->loop.shares.capacity[SHARE_FDS] = descriptors - engine_for_strangers(w, descriptors);
        w->streams.unsent = unsent;
    }
}

/* Of a server: a client has no use for one. */
static bool engine_open_service(const struct engine *engine)
{
    int error = engine->config->role == CONFIG_SERVER ? service_start() : 0;

    if (error != 0)
        log_at(LOG_ERROR, "culvert", "cannot make a thread for what reads files again: %s%s",
               strerror(error), cure_text(error));
    return error == 0;
}

static void engine_serve(struct engine *engine)
{
    const struct reload_workers workers = { .arg = engine,
                                            .tell = engine_tell_of_session,
                                            .change = engine_change };

    if (engine->config->role == CONFIG_SERVER)
        server_serve(&workers);
}

static int engine_run_workers(struct engine *engine)
{
    struct stats sum = { .value = { 0 } };
    uint64_t started = service_now();
    int code = EXIT_CODE_CANNOT_START;

    if (engine_open_signals(engine) && engine_open_workers(engine) && engine_open_service(engine)) {
        engine_share_out(engine);
        engine_start_threads(engine);
        engine_serve(engine);
        engine_wait_for_end(engine);
        code = engine_join_threads(engine, &sum);
        if (code != EXIT_CODE_CANNOT_START)
            engine_print_summary(&sum, service_now() - started,
                                 engine->config->role == CONFIG_SERVER);
    }
    engine->left_service = !service_stop();
    if (!engine->left_service && !worker_helpers_out()) { /* or the end of the process does it */
        message_free_all();
        engine_close_workers(engine);
    }
    if (engine->signal_fd >= 0)
        close(engine->signal_fd);
    if (engine->done_fd >= 0)
        close(engine->done_fd);
    return code;
}

static int engine_prepare(struct config *config)
{
    return config->role == CONFIG_SERVER ? server_prepare(config) : client_prepare(config);
}

static void engine_finish(struct engine *engine)
{
    if (engine->config->role == CONFIG_SERVER)
        server_finish();
    else
        client_finish();
    free(engine->seats);
    free(engine->peers);
}

bool engine_left_service(void)
{
    return engine_only.left_service;
}

int engine_run(struct config *config)
{
    struct engine *engine = &engine_only;
    int code = EXIT_CODE_OK;

    *engine = (struct engine){
        .config = config, .count = config->workers, .signal_fd = -1, .done_fd = -1
    };
    if (!ring_features()->usable) {
        log_at(LOG_ERROR, "culvert", "%s", ring_unusable_text());
        return EXIT_CODE_CANNOT_START;
    }
    engine->seats = calloc(engine->count, sizeof(struct seat));
    engine->peers = calloc(engine->count, sizeof(struct worker *));
    if (engine->seats != NULL && engine->peers != NULL) {
        code = engine_prepare(config);
    } else {
        log_at(LOG_ERROR, "culvert", "out of memory for --workers %u", engine->count);
        code = EXIT_CODE_CANNOT_START;
    }
    tls_short_begin();
    if (code == EXIT_CODE_OK)
        code = engine_run_workers(engine);
    if (!engine->left_service)
        engine_finish(engine);
    return code;
}
