/*
 * engine: see engine.h.
 *
 * The main thread makes the workers, then only waits: for signals (signalfd) and for workers that ended (an eventfd that they write). It talks to workers
 * by messages like everybody else, and reads their counters after they have ended, or from the copies that they make on request.
 * Like them it never waits for who reads what the program says (sink.h), or a reader that has
 * stopped would take the signals' effect away.
 */
#include "app/engine.h"

#include "client/client.h"
#include "core/check.h"
#include "core/exit_code.h"
#include "core/log.h"
#include "core/sink.h"
#include "core/summary.h"
#include "core/worker.h"
#include "server/server.h"

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

/* This thread has nothing else to do: it says what bursts of log lines left out, rarely enough not to wake an idle program. */
#define LOG_FLUSH_MS 10000

struct seat { /* one worker's thread */
    struct worker *worker;
    pthread_t thread;
    pthread_barrier_t *prepared;
    int done_fd; /* written when the thread is over */
    bool over;
    int code;
    int cpu; /* -1: not pinned */
};

struct engine {
    const struct config *config;
    unsigned count;
    struct seat *seats;
    pthread_barrier_t prepared;
    int done_fd, signal_fd;
    unsigned stops;
};

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0)
        log_at(LOG_WARN, "worker", "cannot run on CPU %d: %s", cpu, strerror(errno));
}

static void seat_over(struct seat *seat)
{
    uint64_t one = 1;

    __atomic_store_n(&seat->over, true, __ATOMIC_RELEASE);
    CHECK(write(seat->done_fd, &one, sizeof(one)) == sizeof(one));
}

static void *seat_main(void *arg)
{
    struct seat *seat = arg;

    if (seat->cpu >= 0)
        pin(seat->cpu);
    seat->code = worker_prepare(seat->worker);
    pthread_barrier_wait(
        seat->prepared); /* a message to a ring that is not enabled yet would be lost */
    if (seat->code == EXIT_CODE_OK)
        seat->code = worker_start(seat->worker);
    if (seat->code == EXIT_CODE_OK)
        seat->code = worker_run(seat->worker);
    seat_over(seat);
    return NULL;
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Workers */

static bool open_workers(struct engine *engine)
{
    const struct role *role = engine->config->role == CONFIG_SERVER ? &server_role : &client_role;
    struct worker **peers = calloc(engine->count, sizeof(struct worker *));
    const char *error = "out of memory";

    for (unsigned i = 0; peers != NULL && i < engine->count; i++) {
        engine->seats[i].worker = peers[i] = worker_open(engine->config, role, i, &error);
        if (peers[i] == NULL) {
            log_at(LOG_ERROR, role->name, "%s", error);
            free(peers);
            return false;
        }
        peers[i]->peers = peers;
    }
    return peers != NULL;
}

static void close_workers(struct engine *engine)
{
    struct worker **peers = NULL;

    for (unsigned i = 0; i < engine->count; i++) {
        if (engine->seats[i].worker == NULL)
            continue;
        peers = engine->seats[i].worker->peers;
        worker_close(engine->seats[i].worker);
    }
    free(peers);
}

/* The barrier needs all of them: a thread that cannot be made ends the program. */
static void start_threads(struct engine *engine)
{
    const struct config *config = engine->config;

    pthread_barrier_init(&engine->prepared, NULL, engine->count);
    for (unsigned i = 0; i < engine->count; i++) {
        struct seat *seat = &engine->seats[i];

        seat->done_fd = engine->done_fd;
        seat->prepared = &engine->prepared;
        seat->cpu = config->cpu_count > 0 ? config->cpus[i % config->cpu_count] : -1;
        int error = pthread_create(&seat->thread, NULL, seat_main, seat);
        if (error != 0) {
            log_at(LOG_ERROR, "worker", "cannot make a thread: %s (lower --workers)",
                   strerror(error));
            exit(EXIT_CODE_CANNOT_START);
        }
    }
}

/* A ring must be running to take messages: a worker that is still starting is tried again. */
static void tell_all(struct engine *engine, enum message_kind kind, uint32_t number)
{
    for (unsigned i = 0; i < engine->count; i++) {
        struct seat *seat = &engine->seats[i];

        for (bool sent = false; !sent && !__atomic_load_n(&seat->over, __ATOMIC_ACQUIRE);) {
            struct message *message = message_new(kind);
            message->number = number;
            sent = worker_post_from_thread(seat->worker, message);
            if (!sent)
                usleep(1000);
        }
    }
}

static unsigned count_over(const struct engine *engine)
{
    unsigned over = 0;

    for (unsigned i = 0; i < engine->count; i++)
        over += __atomic_load_n(&engine->seats[i].over, __ATOMIC_ACQUIRE);
    return over;
}

/* Signals */

static bool open_signals(struct engine *engine)
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
    engine->done_fd = eventfd(0, EFD_CLOEXEC);
    return engine->signal_fd >= 0 && engine->done_fd >= 0;
}

static void stop(struct engine *engine)
{
    engine->stops++;
    if (engine->stops == 1) {
        tell_all(engine, MESSAGE_STOP, WORKER_STOP_DRAIN);
        log_at(LOG_INFO, "culvert",
               "stopping: streams may end within %.0f s; once more to stop at once",
               (double)engine->config->drain_timeout / 1e9);
    } else if (engine->stops == 2) {
        tell_all(engine, MESSAGE_STOP, WORKER_STOP_NOW);
    } else {
        _exit(EXIT_CODE_FAILED); /* workers that do not even end at once */
    }
}

static void on_signal(struct engine *engine)
{
    struct signalfd_siginfo info;

    if (read(engine->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    switch (info.ssi_signo) {
    case SIGINT:
    case SIGTERM:
        stop(engine);
        break;
    case SIGUSR1:
        tell_all(engine, MESSAGE_SNAPSHOT, 0);
        break;
    default: /* SIGHUP */
        if (engine->config->role == CONFIG_SERVER)
            server_reload(engine->config);
        break;
    }
}

static void wait_for_end(struct engine *engine)
{
    struct pollfd fds[] = { { .fd = engine->signal_fd, .events = POLLIN },
                            { .fd = engine->done_fd, .events = POLLIN } };

    while (count_over(engine) < engine->count) {
        if (poll(fds, ARRAY_SIZE(fds), LOG_FLUSH_MS) < 0)
            continue;
        log_flush(false);
        if ((fds[0].revents & POLLIN) != 0)
            on_signal(engine);
        if ((fds[1].revents & POLLIN) != 0) {
            uint64_t count;
            CHECK(read(engine->done_fd, &count, sizeof(count)) == sizeof(count));
            for (unsigned i = 0; i < engine->count; i++) /* one that cannot go on ends the others */
                if (__atomic_load_n(&engine->seats[i].over, __ATOMIC_ACQUIRE) &&
                    engine->seats[i].code != EXIT_CODE_OK)
                    tell_all(engine, MESSAGE_STOP, WORKER_STOP_NOW);
        }
    }
}

/* The worst of the workers' codes: any that is not 0. */
static int join_threads(struct engine *engine, struct stats *sum)
{
    int code = EXIT_CODE_OK;

    for (unsigned i = 0; i < engine->count; i++) {
        pthread_join(engine->seats[i].thread, NULL);
        if (engine->seats[i].code != EXIT_CODE_OK)
            code = engine->seats[i].code;
        stats_add(sum, &engine->seats[i].worker->stats);
    }
    return code;
}

static void print_summary(const struct stats *sum, uint64_t uptime)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (out == NULL)
        return;
    summary_print(out, sum, uptime);
    if (fclose(out) == 0)
        sink_put(SINK_OUT, text, size);
    free(text);
}

static int run_workers(struct engine *engine)
{
    struct stats sum = { .value = { 0 } };
    uint64_t started = now_ns();
    int code = EXIT_CODE_CANNOT_START;

    if (open_signals(engine) && open_workers(engine)) {
        start_threads(engine);
        wait_for_end(engine);
        code = join_threads(engine, &sum);
        if (code != EXIT_CODE_CANNOT_START)
            print_summary(&sum, now_ns() - started);
    }
    if (!worker_helpers_out()) { /* otherwise the end of the process does it */
        message_free_all();
        close_workers(engine);
    }
    close(engine->signal_fd);
    close(engine->done_fd);
    return code;
}

int engine_run(struct config *config)
{
    struct engine engine = {
        .config = config, .count = config->workers, .signal_fd = -1, .done_fd = -1
    };
    int code = EXIT_CODE_OK;

    if (!ring_features()->usable) {
        log_at(LOG_ERROR, "culvert", "%s", ring_unusable_text());
        return EXIT_CODE_CANNOT_START;
    }
    if (config->role == CONFIG_SERVER)
        code = server_prepare(config);
    else
        code = client_prepare(config);
    engine.seats = calloc(engine.count, sizeof(struct seat));
    CHECK(engine.seats != NULL);
    if (code == EXIT_CODE_OK)
        code = run_workers(&engine);
    if (config->role == CONFIG_SERVER)
        server_finish();
    else
        client_finish();
    free(engine.seats);
    return code;
}
