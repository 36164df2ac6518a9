/*
 * sink: see sink.h.
 *
 * The queue is a ring of bytes, each text behind its size. The writer copies a text out before it
 * writes it, so that the room is free while write(2) takes its time. Rejected: writev(2) from the
 * ring, which saves a copy that costs nothing here and keeps the room of what is being written;
 * several lines in one write(2), after which a slow reader's progress shows only every few lines.
 *
 * A writer is in write(2) for as long as its reader wants. Nothing ends that but the end of the
 * process, so sink_stop() leaves a thread that is stuck there behind.
 *
 * A failed CHECK (check.c) puts its last words like everybody else, with patience. Two threads
 * cannot: a writer that failed would wait for itself, and whoever failed with a sink's mutex in
 * hand would wait for ever. They write directly; check.c bounds the time that this may take.
 */
#include "core/base/sink.h"

#include "core/base/base.h"
#include "core/base/check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum sink_state {
    SINK_DIRECT,  /* no thread: texts are written by who puts them */
    SINK_RUNNING, /* the thread writes */
    SINK_ENDING,  /* the thread writes what is queued, then ends */
    SINK_OVER, /* the thread is about to end, or has: nothing is taken; DIRECT when it is joined */
    SINK_LEFT  /* the thread is stuck in write(2): nothing is taken any more */
};

struct sink {
    const int fd;
    pthread_mutex_t lock; /* for all of the rest but `text` */
    pthread_cond_t work;  /* for the writer: something to write, or the end */
    pthread_cond_t moved; /* for others: a text left the queue or was written, or the end */
    enum sink_state state;
    pthread_t thread;
    uint64_t head, tail; /* bytes taken out and put in since the start: head <= tail */
    uint64_t lines_lost; /* since the last notice */
    uint64_t moved_at;   /* ns: when the descriptor took something */
    bool writing;        /* the writer has a text that is not written yet */
    bool refused;        /* the last try to write it was an error */
    bool last_try;       /* the next one begins after the end was wanted */
    char queue[SINK_QUEUE];
    char text[SINK_TEXT_MAX]; /* the writer's */
};

/* Touched only as far as they are filled. */
static struct sink sinks[SINK_COUNT] = {
    [SINK_OUT] = { .fd = STDOUT_FILENO,
                   .lock = PTHREAD_MUTEX_INITIALIZER,
                   .work = PTHREAD_COND_INITIALIZER,
                   .moved = PTHREAD_COND_INITIALIZER },
    [SINK_ERR] = { .fd = STDERR_FILENO,
                   .lock = PTHREAD_MUTEX_INITIALIZER,
                   .work = PTHREAD_COND_INITIALIZER,
                   .moved = PTHREAD_COND_INITIALIZER },
};

static sink_notice *sink_notice_of; /* set by sink_start() */

static _Thread_local uint64_t sink_patience; /* ns */
/* Sinks whose mutex this thread has; one more in a writer. */
static _Thread_local unsigned sink_inside;

static uint64_t sink_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t sink_later(uint64_t from, uint64_t ns)
{
    return ns > UINT64_MAX - from ? UINT64_MAX : from + ns;
}

static void sink_lock(struct sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    sink_inside++;
}

static void sink_unlock(struct sink *sink)
{
    sink_inside--;
    pthread_mutex_unlock(&sink->lock);
}

/* Both need the lock. */
static void sink_await(struct sink *sink, pthread_cond_t *cond, uint64_t end)
{
    struct timespec ts = { .tv_sec = (time_t)(end / NSEC_PER_SEC),
                           .tv_nsec = (long)(end % NSEC_PER_SEC) };

    (void)pthread_cond_clockwait(cond, &sink->lock, CLOCK_MONOTONIC, &ts);
}

static bool sink_is_alive(const struct sink *sink)
{
    return sink->state == SINK_RUNNING || sink->state == SINK_ENDING;
}

/* The queue */

static void sink_copy_in(struct sink *sink, const void *bytes, size_t size)
{
    size_t at = sink->tail % SINK_QUEUE;
    size_t first = min_size(size, SINK_QUEUE - at);

    memcpy(sink->queue + at, bytes, first);
    memcpy(sink->queue, (const char *)bytes + first, size - first);
    sink->tail += size;
}

static void sink_copy_out(struct sink *sink, void *bytes, size_t size)
{
    size_t at = sink->head % SINK_QUEUE;
    size_t first = min_size(size, SINK_QUEUE - at);

    memcpy(bytes, sink->queue + at, first);
    memcpy((char *)bytes + first, sink->queue, size - first);
    sink->head += size;
}

static void sink_append(struct sink *sink, const char *text, size_t size)
{
    uint32_t head = (uint32_t)size;

    sink_copy_in(sink, &head, sizeof(head));
    sink_copy_in(sink, text, size);
}

/* Room for the text and, if lines were lost, for the notice in front of it. */
static bool sink_has_room(const struct sink *sink, size_t size)
{
    CHECK(sink->head <= sink->tail && sink->tail - sink->head <= SINK_QUEUE);
    size += sizeof(uint32_t);
    if (sink->lines_lost > 0)
        size += sizeof(uint32_t) + SINK_NOTICE;
    return size <= SINK_QUEUE - (sink->tail - sink->head);
}

static uint64_t sink_count_lines(const char *text, size_t size)
{
    uint64_t lines = 0;

    for (const char *end = text + size; text < end; lines++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));

        text = newline != NULL ? newline + 1 : end;
    }
    return lines;
}

static void sink_notify(struct sink *sink)
{
    char text[SINK_NOTICE];
    size_t size = sink_notice_of((enum sink_id)(sink - sinks), sink->lines_lost, text);

    CHECK(size > 0 && size <= SINK_NOTICE);
    sink_append(sink, text, size);
    sink->lines_lost = 0;
}

static void sink_accept(struct sink *sink, const char *text, size_t size)
{
    uint64_t end = sink_patience > 0 ? sink_later(sink_now(), sink_patience) : 0;

    while (!sink_has_room(sink, size) && sink_is_alive(sink) && sink_now() < end)
        sink_await(sink, &sink->moved, end);
    if (!sink_is_alive(sink) || !sink_has_room(sink, size)) {
        sink->lines_lost += sink_count_lines(text, size);
        return;
    }
    if (sink->lines_lost > 0)
        sink_notify(sink);
    sink_append(sink, text, size);
    pthread_cond_signal(&sink->work);
}

/* Without a thread. What a full disk or a closed pipe does not take is lost. */
static void sink_write_directly(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        text += n;
        size -= (size_t)n;
    }
}

void sink_put(enum sink_id id, const char *text, size_t size)
{
    CHECK(id < SINK_COUNT && size > 0 && size <= SINK_TEXT_MAX);
    struct sink *sink = &sinks[id];
    bool direct = sink_inside > 0;

    if (!direct) {
        sink_lock(sink);
        direct = sink->state == SINK_DIRECT;
        if (!direct)
            sink_accept(sink, text, size);
        sink_unlock(sink);
    }
    if (direct)
        sink_write_directly(sink->fd, text, size);
}

/* The writer */

/* Waits for a text and copies it out. 0: there is none, and there will be none. A reader that has
 * caught up is told at once what it has missed, whether more comes or not. */
static size_t sink_take(struct sink *sink)
{
    uint32_t size = 0;

    sink_lock(sink);
    sink->writing = false;
    pthread_cond_broadcast(&sink->moved);
    if (sink->head == sink->tail && sink->lines_lost > 0)
        sink_notify(sink);
    while (sink->head == sink->tail && sink->state == SINK_RUNNING)
        pthread_cond_wait(&sink->work, &sink->lock);
    if (sink->head < sink->tail) {
        sink_copy_out(sink, &size, sizeof(size));
        CHECK(size > 0 && size <= SINK_TEXT_MAX && size <= sink->tail - sink->head);
        sink_copy_out(sink, sink->text, size);
        sink->writing = true;
        pthread_cond_broadcast(&sink->moved);
    }
    sink_unlock(sink);
    return size;
}

static void sink_moved(struct sink *sink)
{
    sink_lock(sink);
    sink->refused = false;
    sink->moved_at = sink_now();
    pthread_cond_broadcast(&sink->moved);
    sink_unlock(sink);
}

/* A full disk, a reader that is gone: nothing tells when that is over. One more try begins when the
 * end is wanted; false after that one. */
static bool sink_pause(struct sink *sink)
{
    uint64_t end = sink_now() + SINK_RETRY_NS;

    sink_lock(sink);
    bool again = !sink->last_try;
    sink->refused = true;
    pthread_cond_broadcast(&sink->moved);
    while (sink->state == SINK_RUNNING && sink_now() < end)
        sink_await(sink, &sink->work, end);
    sink->last_try = sink->state != SINK_RUNNING;
    sink_unlock(sink);
    return again;
}

static bool sink_write_failed(struct sink *sink, int error)
{
    struct pollfd fd = { .fd = sink->fd, .events = POLLOUT };

    if (error == EINTR)
        return true;
    if (error != EAGAIN)
        return sink_pause(sink);
    (void)poll(&fd, 1, -1); /* like a write that blocks: sink_stop() leaves this thread behind */
    return true;
}

/* False: it is to end, and the descriptor takes nothing. */
static bool sink_write(struct sink *sink, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(sink->fd, text, size);

        if (n > 0) {
            text += n;
            size -= (size_t)n;
            sink_moved(sink);
        } else if (!sink_write_failed(sink, n < 0 ? errno : ENOSPC)) {
            return false;
        }
    }
    return true;
}

static void *sink_main(void *arg)
{
    struct sink *sink = arg;
    size_t size;

    sink_inside++;
    while ((size = sink_take(sink)) > 0 && sink_write(sink, sink->text, size)) {}
    sink_lock(sink);
    sink->writing = false;
    if (sink->state == SINK_ENDING)
        sink->state = SINK_OVER;
    pthread_cond_broadcast(&sink->moved);
    sink_unlock(sink);
    return NULL;
}

/* Last words */

#define SINK_LAST_WORDS_NS NSEC_PER_SEC

static void sink_last_begin(void)
{
    sink_set_patience(SINK_LAST_WORDS_NS);
}

static void sink_last_put(const char *text, size_t size)
{
    sink_put(SINK_ERR, text, size);
}

static const struct check_speaker sink_speaker = { .begin = sink_last_begin,
                                                   .end = sink_drain,
                                                   .put = sink_last_put };

/* Start and end */

/* Signals belong to the engine's thread: this one starts with all of them blocked, SIGPIPE, too. */
static int sink_start_thread(struct sink *sink)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&sink->thread, NULL, sink_main, sink);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* The thread sees the state that it was started with: it needs the lock first. */
static int sink_open(struct sink *sink)
{
    sink_lock(sink);
    CHECK(sink->state == SINK_DIRECT);
    sink->head = sink->tail = sink->lines_lost = 0;
    sink->writing = sink->refused = sink->last_try = false;
    int error = sink_start_thread(sink);
    if (error == 0)
        sink->state = SINK_RUNNING;
    sink_unlock(sink);
    return error;
}

bool sink_start(sink_notice *notice)
{
    static bool registered;
    int error = 0;

    sink_notice_of = notice;
    check_set_speaker(&sink_speaker);
    if (!registered)
        error = atexit(sink_stop) == 0 ? 0 : ENOMEM;
    registered = error == 0;
    for (unsigned i = 0; i < SINK_COUNT && error == 0; i++)
        error = sink_open(&sinks[i]);
    if (error != 0)
        sink_stop();
    errno = error;
    return error == 0;
}

/* True when all is written, or refused; false when since `start` nothing was taken for `quiet`, or
 * at `limit`. */
static bool sink_await_written(struct sink *sink, uint64_t start, uint64_t quiet, uint64_t limit)
{
    while (sink_is_alive(sink) && (sink->head < sink->tail || sink->writing)) {
        uint64_t end = min_u64(sink_later(max_u64(start, sink->moved_at), quiet), limit);

        if (sink->state == SINK_RUNNING && sink->refused)
            break;
        if (sink_now() >= end)
            return false;
        sink_await(sink, &sink->moved, end);
    }
    return true;
}

void sink_set_patience(uint64_t ns)
{
    sink_patience = ns;
}

void sink_drain(void)
{
    uint64_t start = sink_now();

    for (unsigned i = 0; i < SINK_COUNT && sink_inside == 0; i++) {
        sink_lock(&sinks[i]);
        (void)sink_await_written(&sinks[i], start, sink_patience, sink_later(start, sink_patience));
        sink_unlock(&sinks[i]);
    }
}

static void sink_end(struct sink *sink)
{
    sink_lock(sink);
    if (sink->state == SINK_RUNNING)
        sink->state = SINK_ENDING;
    pthread_cond_signal(&sink->work);
    sink_unlock(sink);
}

/* Nothing is taken from here on: a thread that had nothing left cannot get stuck any more. */
static void sink_close(struct sink *sink, uint64_t start)
{
    sink_lock(sink);
    if (sink->state == SINK_ENDING &&
        !sink_await_written(sink, start, SINK_END_QUIET_NS, start + SINK_END_NS)) {
        sink->state = SINK_LEFT;
        pthread_detach(sink->thread);
    }
    if (sink->state == SINK_ENDING)
        sink->state = SINK_OVER;
    enum sink_state state = sink->state;
    pthread_cond_broadcast(&sink->moved);
    sink_unlock(sink);
    if (state != SINK_OVER)
        return;
    pthread_join(sink->thread, NULL);
    sink_lock(sink);
    sink->state = SINK_DIRECT;
    sink_unlock(sink);
}

void sink_stop(void)
{
    uint64_t start = sink_now();

    for (unsigned i = 0; i < SINK_COUNT; i++)
        sink_end(&sinks[i]);
    for (unsigned i = 0; i < SINK_COUNT; i++)
        sink_close(&sinks[i], start);
}
