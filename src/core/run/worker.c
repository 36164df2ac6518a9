/* worker: see worker.h. */
#include "core/run/worker.h"

#include "core/base/exit_code.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/sink.h"
#include "core/io/fds.h"
#include "core/io/listener.h"
#include "core/io/op.h"
#include "core/mux/crypt.h"
#include "core/mux/demux.h"
#include "core/mux/lane.h"
#include "core/mux/lane_session.h"
#include "core/mux/quiet.h"
#include "core/mux/relay.h"
#include "core/mux/session.h"
#include "core/mux/stream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* Lanes that wait for a buffer look again when one came back, and this often in any case; who waits
 * until its owner has less looks as often. So many at a time. */
#define STARVE_RETRY (20 * NSEC_PER_MSEC)
#define SHORT_LOOKS  256u

enum { OP_MESSAGE = OP_NONE + 1, OP_MESSAGE_SENT, OPS };

static void worker_none_done(void *part, const struct ring_cqe *cqe);
static void worker_message_done(void *part, const struct ring_cqe *cqe);
static void worker_message_sent_done(void *part, const struct ring_cqe *cqe);
static void worker_one_drained(struct worker *w);
static void worker_drain_timer_fire(struct timer *timer);
static void worker_starve_timer_fire(struct timer *timer);
static void worker_short_timer_fire(struct timer *timer);
static void worker_reap(struct worker *w);

/* Two lines, and one for each counter: a number and a text of stats.h. What would not fit is left
 * out. */
struct dump {
    char text[512 + STAT_COUNT * 128];
    size_t size;
};

__attribute__((format(printf, 2, 3))) static void worker_dump_put(struct dump *d,
                                                                  const char *format, ...)
{
    size_t room = sizeof(d->text) - d->size;
    va_list args;

    va_start(args, format);
    int size = vsnprintf(d->text + d->size, room, format, args);
    va_end(args);
    if (size > 0 && (size_t)size < room)
        d->size += (size_t)size;
}

/* For SIGUSR1, and before a failed CHECK aborts. One text, so that it stays together. */
static void worker_dump(void *arg)
{
    const struct worker *w = arg;
    const struct ring_stats *ring = ring_stats(w->loop.ring);
    struct dump d = { .size = 0 };

    worker_dump_put(
        &d,
        "worker %u: phase %d, streams %u, stream ids %u, lanes %u, sessions %u, small buffers "
        "%u, big buffers %u, slices %u\n",
        w->loop.index, w->loop.phase, w->streams.slab.used, w->lanes.ids.used, w->lanes.slab.used,
        w->sessions.slab.used, w->loop.bufs.small.used, w->loop.bufs.big.used, w->loop.slices.used);
    worker_dump_put(&d, "  ring: %llu waits, %llu submissions, %llu completions, %llu overflows\n",
                    (unsigned long long)ring->waits, (unsigned long long)ring->submissions,
                    (unsigned long long)ring->completions, (unsigned long long)ring->overflows);
    for (unsigned i = 0; i < STAT_COUNT; i++)
        if (w->loop.stats.value[i] != 0)
            worker_dump_put(&d, "  %llu %s\n", (unsigned long long)w->loop.stats.value[i],
                            stat_text((enum stats_item)i));
    sink_put(SINK_ERR, d.text, d.size);
}

/* Set-up */

#define NO_MEMORY                                                                             \
    "the kernel refused address space: lower --max-streams, --bulk-buffers or --workers, or " \
    "raise "                                                                                  \
    "ulimit -v"

static uint32_t worker_lanes_most(const struct config *config)
{
    return config->role == CONFIG_SERVER
               ? config->max_lanes + config->max_unauthenticated + WORKER_LANES_CLOSING
               : 256;
}

/* Windows grow within the memory of the big buffers. Logs may keep half of these, and a little more
 * for what one owner alone may not have. */
static void worker_set_capacities(struct worker *w)
{
    const struct config *config = w->loop.config;
    uint64_t *capacity = w->loop.shares.capacity;

    capacity[SHARE_SLICES] = SLICE_COUNT;
    capacity[SHARE_LOG] = config->bulk_buffers / 2 + config->bulk_buffers / 16;
    capacity[SHARE_WINDOW] = (uint64_t)config->bulk_buffers * BUF_BIG_SIZE;
    capacity[SHARE_STREAMS] = config->max_streams;
    capacity[SHARE_FDS] = FDS_MOST; /* until the engine shares them out */
    capacity[SHARE_IDS] = w->lanes.ids.count;
    capacity[SHARE_LANES] =
        config->role == CONFIG_SERVER ? config->max_lanes : worker_lanes_most(config);
}

static bool worker_open_buffers(struct loop *loop)
{
    return buf_pool_open(&loop->bufs, &loop->shares, BUF_SMALL_COUNT, loop->config->bulk_buffers) &&
           slab_open(&loop->slices, sizeof(struct slice), SLICE_COUNT, 0);
}

/* All are made, whatever fails: they can be closed then. */
static bool worker_open_tables(struct worker *w)
{
    const struct config *config = w->loop.config;
    bool server = config->role == CONFIG_SERVER;
    uint32_t sessions = server ? config->max_sessions : 4;
    /* The server listens once for lanes and once per tunnel of every session. */
    uint32_t listeners = server ? 1 + sessions * CONFIG_TUNNELS_MAX : 1;
    bool good = worker_open_buffers(&w->loop);

    trim_init(&w->trim, &w->loop);

    good = stream_table_open(&w->streams, &w->loop, w->role) && good;
    relay_open(&w->streams);
    quiet_init(&w->streams);
    good = lane_table_open(&w->lanes, &w->loop, w->role, worker_lanes_most(config),
                           server ? config->max_unauthenticated : 1) &&
           good;
    demux_open(&w->lanes, &w->streams);
    good = session_table_open(&w->sessions, &w->loop, w->role, sessions) && good;
    return listener_table_open(&w->listeners, &w->loop, listeners) && good;
}

static void worker_init(struct worker *w, const struct config *config, const struct role *role,
                        unsigned index)
{
    static const struct loop_op ops[OPS] = {
        [OP_NONE] = { "none", worker_none_done },
        [OP_MESSAGE] = { "message", worker_message_done },
        [OP_MESSAGE_SENT] = { "message_sent", worker_message_sent_done },
    };

    w->loop.index = index;
    list_init(&w->loop.woken);
    w->loop.config = config;
    w->role = role;
    w->peer_count = config->workers;
    CHECK(loop_register(&w->loop, w, ops, OPS) == OP_NONE); /* the same numbers on all workers */
}

static bool worker_open_ring(struct worker *w, unsigned entries, struct worker_error *error)
{
    int code = 0;

    w->loop.ring = ring_open(entries, &code);
    if (w->loop.ring != NULL)
        code = -ring_buffers_open(w->loop.ring, BUF_PROVIDED);
    if (code != 0)
        *error =
            (struct worker_error){ .text = ring_error_text(code), .smaller_ring = code == ENOMEM };
    return code == 0;
}

/* An owner for each stream's address, each lane, and each session with its tunnels. */
static bool worker_open_shares(struct worker *w, struct worker_error *error)
{
    const struct config *config = w->loop.config;
    uint32_t sessions = config->role == CONFIG_SERVER ? config->max_sessions : 1;
    uint32_t nodes =
        config->max_streams + worker_lanes_most(config) + sessions * (3 + CONFIG_TUNNELS_MAX);
    struct hash_key key;

    if (getrandom(&key, sizeof(key), 0) != (ssize_t)sizeof(key)) {
        error->text = "the kernel gives no random bytes (getrandom)";
        return false;
    }
    if (!share_tree_open(&w->loop.shares, nodes, &key)) {
        error->text = NO_MEMORY;
        return false;
    }
    return true;
}

static bool worker_open_parts(struct worker *w, unsigned entries, struct worker_error *error)
{
    if (!worker_open_shares(w, error))
        return false;
    if (worker_open_tables(w)) {
        worker_set_capacities(w);
        return worker_open_ring(w, entries, error);
    }
    *error = (struct worker_error){ .text = NO_MEMORY };
    return false;
}

struct worker *worker_open(const struct config *config, const struct role *role, unsigned index,
                           unsigned entries, struct worker_error *error)
{
    struct worker *w = calloc(1, sizeof(*w));

    CHECK(config->max_streams <= STREAM_SLOTS_MAX);
    CHECK(entries >= WORKER_SQ_LEAST && entries <= WORKER_SQ_ENTRIES);
    if (w == NULL) {
        *error = (struct worker_error){ .text = "out of memory" };
        return NULL;
    }
    worker_init(w, config, role, index);
    w->snapshot = role->snapshot != NULL ? role->snapshot() : NULL;
    if (!worker_open_parts(w, entries, error)) {
        worker_close(w);
        return NULL;
    }
    w->loop.now = ring_now(w->loop.ring);
    timer_wheel_init(&w->loop.timers, w->loop.now);
    timer_init(&w->drain_timer, worker_drain_timer_fire);
    timer_init(&w->starve_timer, worker_starve_timer_fire);
    timer_init(&w->short_timer, worker_short_timer_fire);
    return w;
}

void worker_close(struct worker *w)
{
    ring_close(w->loop.ring);
    buf_pool_close(&w->loop.bufs);
    slab_close(&w->loop.slices);
    stream_table_close(&w->streams);
    lane_table_close(&w->lanes);
    session_table_close(&w->sessions);
    listener_table_close(&w->listeners);
    share_tree_close(&w->loop.shares);
    snapshot_unref(w->snapshot);
    free(w);
}

int worker_prepare(struct worker *w)
{
    int result = ring_start(w->loop.ring);

    if (result < 0) {
        log_at(LOG_ERROR, "worker", "cannot start its ring: %s", strerror(-result));
        return EXIT_CODE_CANNOT_START;
    }
    check_set_dump(worker_dump, w);
    if (w->loop.config->zero_copy != CONFIG_OFF && ring_features()->send_zc)
        w->loop.bufs.registered =
            ring_register_table(w->loop.ring, w->loop.config->bulk_buffers) == 0;
    buf_provide(&w->loop.bufs, w->loop.ring);
    return EXIT_CODE_OK;
}

/* What the start has closed already, when a dial failed at once, is no event to wait for. */
int worker_start(struct worker *w)
{
    int result = w->role->start(w);

    if (result == EXIT_CODE_OK)
        worker_reap(w);
    return result;
}

/* Messages */

static uint64_t worker_message_op(struct message *message, unsigned kind)
{
    uint64_t address = (uint64_t)(uintptr_t)message;

    CHECK(address >> 58 == 0);
    /* The ring orders the message's bytes before its arrival; the pair of atomics tells
     * ThreadSanitizer, which does not see through the kernel. */
    __atomic_store_n(&message->posted, 1, __ATOMIC_RELEASE);
    return (uint64_t)kind << 58 | address;
}

static struct message *worker_message_of(const struct ring_cqe *cqe)
{
    struct message *message =
        (struct message *)(uintptr_t)(cqe->user_data & ((UINT64_C(1) << 58) - 1));

    CHECK(__atomic_load_n(&message->posted, __ATOMIC_ACQUIRE) == 1);
    return message;
}

void worker_post(struct worker *from, unsigned to, struct message *message)
{
    CHECK(to < from->peer_count);
    ring_message(from->loop.ring, ring_fd(from->peers[to]->loop.ring),
                 worker_message_op(message, OP_MESSAGE), 0,
                 worker_message_op(message, OP_MESSAGE_SENT));
}

void worker_post_others(struct worker *from, const struct message_type *type, uint64_t session,
                        uint32_t number)
{
    for (unsigned i = 0; i < from->peer_count; i++) {
        if (i == from->loop.index)
            continue;
        struct message *message = message_new(type);
        message->session = session;
        message->number = number;
        worker_post(from, i, message);
    }
}

bool worker_post_from_thread(struct worker *to, struct message *message)
{
    int result =
        ring_message_from_thread(ring_fd(to->loop.ring), worker_message_op(message, OP_MESSAGE), 0);

    if (result < 0)
        message_drop(message);
    return result >= 0;
}

static void worker_change_told(struct worker *w, struct message *message)
{
    CHECK(w->change == NULL); /* the one before is done */
    w->change = message->held;
}

static void worker_change_dropped(struct message *message)
{
    snapshot_change_made(message->held);
}

static const struct message_type worker_change_message = { "change", worker_change_told };

bool worker_change_from_thread(struct worker *to, struct snapshot_change *change)
{
    struct message *message = message_new(&worker_change_message);

    message->held = change;
    message->dropped = worker_change_dropped;
    snapshot_change_expect(change);
    return worker_post_from_thread(to, message);
}

/* At the end of the turn. What the change is made of may be gone when it is said to be made. */
static void worker_swap_snapshot(struct worker *w)
{
    struct snapshot_change *change = w->change;

    if (change == NULL)
        return;
    snapshot_unref(w->snapshot);
    w->snapshot = snapshot_ref(change->next);
    w->change = NULL;
    snapshot_change_made(change);
}

static unsigned helpers;

void worker_helper_begin(void)
{
    __atomic_add_fetch(&helpers, 1, __ATOMIC_RELAXED);
}

void worker_helper_end(void)
{
    __atomic_sub_fetch(&helpers, 1, __ATOMIC_RELEASE);
}

bool worker_helpers_out(void)
{
    return __atomic_load_n(&helpers, __ATOMIC_ACQUIRE) > 0;
}

static void worker_none_done(void *part, const struct ring_cqe *cqe)
{
    (void)part;
    (void)cqe;
}

bool worker_is_message(uint64_t user_data)
{
    return op_kind(user_data) == OP_MESSAGE || op_kind(user_data) == OP_MESSAGE_SENT;
}

/* A message that could not be delivered: its worker has stopped. */
static void worker_message_sent_done(void *part, const struct ring_cqe *cqe)
{
    struct worker *w = part;
    struct message *message = worker_message_of(cqe);

    conn_loose_close(&message->loose, w->loop.ring);
    message_drop(message);
}

static void worker_message_done(void *part, const struct ring_cqe *cqe)
{
    struct message *message = worker_message_of(cqe);

    message->type->arrived(part, message);
    message_free(message);
}

static void worker_stop_told(struct worker *w, struct message *message)
{
    worker_stop(w, (enum worker_stop_how)message->number);
}

static void worker_counters_told(struct worker *w, struct message *message)
{
    (void)message;
    worker_dump(w);
}

static void worker_drained_told(struct worker *w, struct message *message)
{
    (void)message;
    worker_one_drained(w);
}

const struct message_type worker_message_stop = { "stop", worker_stop_told };
const struct message_type worker_message_counters = { "counters", worker_counters_told };

/* To worker 0: the sender's last stream is gone. */
static const struct message_type drained_message = { "drained", worker_drained_told };

/* Stop */

static void worker_close_everything(struct worker *w)
{
    struct list *node;

    w->loop.phase = LOOP_STOPPING;
    timer_stop(&w->drain_timer);
    while ((node = w->listeners.all.next) != &w->listeners.all)
        listener_close(container_of(node, struct listener, node));
    while ((node = w->sessions.all.next) != &w->sessions.all)
        lane_session_close(container_of(node, struct session, node), REASON_SHUTDOWN);
    while ((node = w->streams.orphans.next) != &w->streams.orphans)
        stream_close(container_of(node, struct stream, lane_node), REASON_DRAIN, false);
    for (node = w->lanes.all.next; node != &w->lanes.all;) {
        struct lane *lane = container_of(node, struct lane, node);
        node = node->next;
        if (lane->state != LANE_LINGER)
            lane_dismiss(lane, REASON_SHUTDOWN);
    }
}

static void worker_drain_timer_fire(struct timer *timer)
{
    struct worker *w = container_of(timer, struct worker, drain_timer);
    char subject[32];

    snprintf(subject, sizeof(subject), "worker %u", w->loop.index);
    log_at(LOG_WARN, subject, "drain time-out: %u streams are cut", w->streams.slab.used);
    worker_close_everything(w);
}

static void worker_tell_all_stop(struct worker *w, enum worker_stop_how how)
{
    worker_post_others(w, &worker_message_stop, 0, how);
    worker_stop(w, how);
}

/* Worker 0: lanes stay up until no worker has streams, because a session ends with its lane 0,
 * wherever that is. */
static void worker_one_drained(struct worker *w)
{
    if (++w->drained_count == w->peer_count)
        worker_tell_all_stop(w, WORKER_STOP_DRAINED);
}

static bool worker_is_beside(const struct lane *lane)
{
    return lane->index > 0 && lane->fsm == SESSION_FORWARDING;
}

/* A session ends with its lane 0, for whom it is with as well: the others go first, each to the end
 * of its bytes. False: not yet. */
static bool worker_ends_beside(struct worker *w)
{
    bool all = true;

    for (struct list *node = w->lanes.all.next, *next; node != &w->lanes.all; node = next) {
        struct lane *lane = container_of(node, struct lane, node);

        next = node->next;
        if (worker_is_beside(lane))
            lane_finish(lane, REASON_SHUTDOWN, NULL);
        all = all && lane->state != LANE_LINGER;
    }
    return all;
}

static void worker_check_drained(struct worker *w)
{
    if (w->loop.phase != LOOP_DRAINING || w->drained || w->streams.slab.used > 0 ||
        !worker_ends_beside(w))
        return;
    w->drained = true;
    if (w->loop.index == 0)
        worker_one_drained(w);
    else
        worker_post(w, 0, message_new(&drained_message));
}

/* At once: lanes do not wait for their peers. */
static void worker_cut_everything(struct worker *w)
{
    worker_close_everything(w);
    while (!list_empty(&w->lanes.all))
        lane_close(container_of(w->lanes.all.next, struct lane, node), REASON_SHUTDOWN, NULL);
}

static void worker_mark_all_streams(struct worker *w)
{
    for (struct list *node = w->lanes.all.next; node != &w->lanes.all; node = node->next) {
        struct lane *lane = container_of(node, struct lane, node);

        for (struct list *s = lane->streams.next; s != &lane->streams; s = s->next) {
            struct stream *stream = container_of(s, struct stream, lane_node);
            if (stream->state != STREAM_CLOSING)
                stream_mark(stream);
        }
    }
}

void worker_stop(struct worker *w, enum worker_stop_how how)
{
    if (w->loop.phase == LOOP_STOPPED)
        return;
    if (how == WORKER_STOP_NOW) {
        worker_cut_everything(w);
    } else if (how == WORKER_STOP_DRAINED) {
        if (w->loop.phase < LOOP_STOPPING)
            worker_close_everything(w);
    } else if (w->loop.phase == LOOP_RUNNING) {
        w->loop.phase = LOOP_DRAINING;
        timer_set(&w->loop.timers, &w->drain_timer, w->loop.now + w->loop.config->drain_timeout);
        w->role->drain(w);
        worker_mark_all_streams(w); /* v1's quiet time is shorter now */
        worker_check_drained(w);
    }
}

/* The loop */

static void worker_dispatch(struct worker *w, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        loop_complete(&w->loop, &w->batch[i]);
    loop_count(&w->loop, STAT_EVENTS, count);
}

static bool worker_hands_wait(const struct worker *w)
{
    return !list_empty(&w->lanes.shaking) || !list_empty(&w->lanes.strangers.due);
}

/* Our own lanes, and those that come back by themselves, before strangers. */
static struct lane *worker_next_hand(struct worker *w)
{
    struct list *node = list_pop(&w->lanes.shaking);

    return node != NULL ? container_of(node, struct lane, stranger.step_node)
                        : lane_of_stranger(strangers_next(&w->lanes.strangers));
}

/* One handshake step a turn: a few hundred microseconds of public-key arithmetic at most between
 * two turns of the streams. While streams move, a step is followed by a pause of three times as
 * long as it took: a storm of handshakes has a quarter of the core, and all of it when there is
 * nothing else to do. */
static void worker_shake_hands(struct worker *w)
{
    uint64_t moved = w->loop.stats.value[STAT_BYTES_UP] + w->loop.stats.value[STAT_BYTES_DOWN];

    w->moves = moved != w->moved;
    w->moved = moved;
    if (!worker_hands_wait(w) || (w->moves && w->loop.now < w->shake_at))
        return;
    struct lane *lane = worker_next_hand(w);
    if (lane == NULL)
        return;
    uint64_t began = ring_now(w->loop.ring);
    lane_shake(lane);
    uint64_t ended = ring_now(w->loop.ring);
    w->shake_at = ended + 3 * (ended - began);
}

/* Stopping, and nothing is left whose end would be an event. */
static bool worker_is_over(const struct worker *w)
{
    return w->loop.phase == LOOP_STOPPING && w->streams.slab.used == 0 && w->lanes.slab.used == 0 &&
           w->listeners.slab.used == 0;
}

/* How long the ring may wait for completions. */
static uint64_t worker_patience(struct worker *w)
{
    uint64_t timeout = timer_next(&w->loop.timers, w->loop.now);

    if (!list_empty(&w->streams.dirty) || !list_empty(&w->streams.closing) ||
        !list_empty(&w->lanes.dirty) || !list_empty(&w->lanes.late) ||
        !list_empty(&w->lanes.arrived) || !list_empty(&w->loop.woken) || worker_is_over(w))
        return 0;
    if (!worker_hands_wait(w))
        return timeout;
    return !w->moves || w->loop.now >= w->shake_at ? 0
                                                   : min_u64(timeout, w->shake_at - w->loop.now);
}

/* What has arrived on lanes. */
static void worker_pull(struct worker *w)
{
    if (!list_empty(&w->lanes.arrived))
        demux_pull(&w->lanes);
}

/* Streams that found no room on their lanes, and may find some now. */
static void worker_wake(struct worker *w)
{
    if (!list_empty(&w->loop.woken))
        stream_woken(&w->streams);
}

static void worker_pump(struct worker *w)
{
    struct list *node;

    worker_wake(w);
    while ((node = list_pop(&w->streams.dirty)) != NULL) {
        relay_pump(container_of(node, struct stream, dirty_node));
        worker_wake(w);
    }
}

/* A turn that has some completions will have more at once: those that came while its own operations
 * were submitted. A lane with little to send, and its next read, wait for what they bring, one turn
 * and no longer (docs/BENCHMARKS.md, "What we tried"). */
static void worker_flush(struct worker *w, unsigned count)
{
    struct list held, *node;
    bool hold = !w->holds && count >= LANE_HOLD_EVENTS;

    list_init(&held);
    while ((node = list_pop(&w->lanes.dirty)) != NULL) {
        struct lane *lane = container_of(node, struct lane, dirty_node);

        if (hold && lane_can_wait(lane))
            list_append(&held, node);
        else
            lane_flush(lane);
    }
    w->holds = !list_empty(&held);
    while ((node = list_pop(&held)) != NULL)
        list_append(&w->lanes.dirty, node);
}

static void worker_reap(struct worker *w)
{
    struct list *node, *next;

    lane_settle(&w->lanes);
    worker_wake(w);
    while ((node = list_pop(&w->streams.closing)) != NULL) {
        stream_join(container_of(node, struct stream, sweep_node));
        worker_wake(w);
    }
    worker_check_drained(w); /* may close everything else: before that is looked at */
    for (node = w->lanes.closing.next; node != &w->lanes.closing; node = next) {
        next = node->next;
        lane_join(container_of(node, struct lane, node));
    }
    for (node = w->listeners.closing.next; node != &w->listeners.closing; node = next) {
        next = node->next;
        listener_join(container_of(node, struct listener, node));
    }
    while ((node = list_pop(&w->sessions.closing)) != NULL)
        session_free(container_of(node, struct session, node));
}

/* Buffers that came back are lent again, and what waited for one goes on. */
static void worker_starve_timer_fire(struct timer *timer)
{
    lane_unstarve(&container_of(timer, struct worker, starve_timer)->lanes, SHORT_LOOKS);
}

static void worker_short_timer_fire(struct timer *timer)
{
    struct worker *w = container_of(timer, struct worker, short_timer);

    relay_unwait(&w->streams, SHORT_LOOKS);
    lane_unwait(&w->lanes, SHORT_LOOKS);
}

static void worker_refill(struct worker *w)
{
    buf_provide(&w->loop.bufs, w->loop.ring);
    if (!list_empty(&w->streams.starved))
        relay_unstarve(&w->streams);
    if (!list_empty(&w->lanes.logging))
        lane_log_unwait(&w->lanes);
    if ((!list_empty(&w->streams.short_of) || !list_empty(&w->lanes.short_of) ||
         !list_empty(&w->lanes.logging)) &&
        !timer_is_set(&w->short_timer))
        timer_set(&w->loop.timers, &w->short_timer, w->loop.now + STARVE_RETRY);
    if (list_empty(&w->lanes.starved))
        return;
    if (w->loop.bufs.returned)
        lane_unstarve(&w->lanes, SHORT_LOOKS);
    if (!list_empty(&w->lanes.starved) && !timer_is_set(&w->starve_timer))
        timer_set(&w->loop.timers, &w->starve_timer, w->loop.now + STARVE_RETRY);
    w->loop.bufs.returned = false;
}

/* What a timer waits for may be among the completions that are still to be read: timers run when
 * all are, or when so many full batches have been that everything which lay there before them was
 * seen. */
static void worker_run_timers(struct worker *w)
{
    w->full_batches = ring_has_more(w->loop.ring) ? w->full_batches + 1 : 0;
    if (w->full_batches % WORKER_CQ_BATCHES == 0)
        timer_run(&w->loop.timers, w->loop.now);
}

bool worker_turn(struct worker *w, uint64_t max_wait)
{
    if (w->loop.phase == LOOP_STOPPED)
        return false;
    unsigned count =
        ring_wait(w->loop.ring, min_u64(worker_patience(w), max_wait), w->batch, WORKER_BATCH);
    w->loop.now = ring_now(w->loop.ring);
    loop_count(&w->loop, STAT_TURNS, 1);
    if (!list_empty(&w->lanes.late))
        demux_late(&w->lanes);
    worker_dispatch(w, count);
    worker_pull(w);
    worker_run_timers(w);
    worker_shake_hands(w);
    worker_pull(w); /* what stood behind a handshake */
    worker_pump(w);
    worker_flush(w, count);
    worker_reap(w);
    worker_refill(w);
    worker_swap_snapshot(w);
    if (worker_is_over(w)) {
        if (w->role->stop != NULL)
            w->role->stop(w);
        w->loop.phase = LOOP_STOPPED;
    }
    return true;
}

void worker_discard(struct worker *w)
{
    unsigned count = ring_wait(w->loop.ring, 0, w->batch, WORKER_BATCH);

    for (unsigned i = 0; i < count; i++) {
        if (worker_is_message(w->batch[i].user_data))
            worker_message_sent_done(w, &w->batch[i]);
    }
    (void)ring_wait(w->loop.ring, 0, w->batch, WORKER_BATCH); /* the last closes go out */
}

int worker_run(struct worker *w)
{
    while (worker_turn(w, UINT64_MAX)) {}
    worker_discard(w);
    check_set_dump(NULL, NULL);
    return w->exit_code;
}
