/* worker: see worker.h. */
#include "core/worker.h"

#include "core/crypt.h"
#include "core/exit_code.h"
#include "core/fds.h"
#include "core/lane.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/op.h"
#include "core/relay.h"
#include "core/session.h"
#include "core/sink.h"
#include "core/stream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* Lanes that wait for a buffer look again when one came back, and this often in any case; who waits
 * until its owner has less looks as often. So many at a time. */
#define STARVE_RETRY (20 * NSEC_PER_MSEC)
#define SHORT_LOOKS  256u

static void message_done(struct worker *w, const struct ring_cqe *cqe);
static void message_sent_done(struct worker *w, const struct ring_cqe *cqe);
static void one_drained(struct worker *w);
static void drain_timer_fire(struct timer *timer);
static void sweep_timer_fire(struct timer *timer);
static void starve_timer_fire(struct timer *timer);
static void short_timer_fire(struct timer *timer);
static void reap(struct worker *w);

/* Two lines, and one for each counter: a number and a text of stats.h. What would not fit is left
 * out. */
struct dump {
    char text[512 + STAT_COUNT * 128];
    size_t size;
};

__attribute__((format(printf, 2, 3))) static void dump_put(struct dump *d, const char *format, ...)
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
static void dump(void *arg)
{
    const struct worker *w = arg;
    const struct ring_stats *ring = ring_stats(w->ring);
    struct dump d = { .size = 0 };

    dump_put(&d,
             "worker %u: phase %d, streams %u, stream ids %u, lanes %u, sessions %u, small buffers "
             "%u, big buffers %u, slices %u\n",
             w->index, w->phase, w->streams.used, w->ids.used, w->lanes.used, w->sessions.used,
             w->bufs.small.used, w->bufs.big.used, w->slices.used);
    dump_put(&d, "  ring: %llu waits, %llu submissions, %llu completions, %llu overflows\n",
             (unsigned long long)ring->waits, (unsigned long long)ring->submissions,
             (unsigned long long)ring->completions, (unsigned long long)ring->overflows);
    for (unsigned i = 0; i < STAT_COUNT; i++)
        if (w->stats.value[i] != 0)
            dump_put(&d, "  %llu %s\n", (unsigned long long)w->stats.value[i],
                     stat_text((enum stats_item)i));
    sink_put(SINK_ERR, d.text, d.size);
}

/* Set-up */

#define NO_MEMORY                                                                             \
    "the kernel refused address space: lower --max-streams, --bulk-buffers or --workers, or " \
    "raise "                                                                                  \
    "ulimit -v"

static uint32_t lanes_most(const struct config *config)
{
    return config->role == CONFIG_SERVER ? config->max_lanes + config->max_unauthenticated : 256;
}

/* Windows grow within the memory of the big buffers. Logs may keep half of these, and a little more
 * for what one owner alone may not have. */
static void set_capacities(struct worker *w)
{
    const struct config *config = w->config;
    uint64_t *capacity = w->shares.capacity;

    capacity[SHARE_SLICES] = SLICE_COUNT;
    capacity[SHARE_LOG] = config->bulk_buffers / 2 + config->bulk_buffers / 16;
    capacity[SHARE_WINDOW] = (uint64_t)config->bulk_buffers * BUF_BIG_SIZE;
    capacity[SHARE_STREAMS] = config->max_streams;
    capacity[SHARE_FDS] = FDS_MOST; /* until the engine shares them out */
    capacity[SHARE_IDS] = w->ids.count;
    capacity[SHARE_LANES] = config->role == CONFIG_SERVER ? config->max_lanes : lanes_most(config);
}

static bool open_slabs(struct worker *w)
{
    const struct config *config = w->config;
    bool server = config->role == CONFIG_SERVER;
    uint32_t sessions = server ? config->max_sessions : 4;
    /* The server listens once for lanes and once per tunnel of every session. */
    uint32_t listeners = server ? 1 + sessions * CONFIG_TUNNELS_MAX : 1;

    return buf_pool_open(&w->bufs, &w->shares, BUF_SMALL_COUNT, config->bulk_buffers) &&
           slab_open(&w->slices, sizeof(struct slice), SLICE_COUNT, 0) &&
           slab_open(&w->streams, sizeof(struct stream), config->max_streams, 0) &&
           slab_open(&w->ids, sizeof(struct stream_id), server ? STREAM_IDS : 1, STREAM_APART) &&
           slab_open(&w->lanes, sizeof(struct lane), lanes_most(config), 0) &&
           strangers_open(&w->strangers, server ? config->max_unauthenticated : 1) &&
           slab_open(&w->sessions, sizeof(struct session), sessions, 0) &&
           chain_open(&w->session_ids, sessions) &&
           slab_open(&w->listeners, sizeof(struct listener), listeners, 0);
}

static void init_lists(struct worker *w)
{
    struct list *lists[] = { &w->dirty_streams,    &w->dirty_lanes,     &w->closing_streams,
                             &w->crypt_lanes,      &w->closing_lanes,   &w->closing_listeners,
                             &w->closing_sessions, &w->starved_streams, &w->starved_lanes,
                             &w->bulk_reads,       &w->orphan_streams,  &w->busy_lanes,
                             &w->all_lanes,        &w->all_sessions,    &w->all_listeners,
                             &w->frozen_lanes,     &w->settling_lanes,  &w->log_lanes,
                             &w->short_streams,    &w->short_lanes,     &w->wide_streams,
                             &w->late_lanes };

    for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
        list_init(lists[i]);
}

static void init(struct worker *w, const struct config *config, const struct role *role,
                 unsigned index)
{
    w->index = index;
    w->config = config;
    w->role = role;
    w->peer_count = config->workers;
    w->crypt_spare = BUF_NONE;
    w->streams_unsent = UINT64_MAX; /* until the engine shares it out */
    init_lists(w);
}

static bool open_ring(struct worker *w, unsigned entries, struct worker_error *error)
{
    int code = 0;

    w->ring = ring_open(entries, &code);
    if (w->ring != NULL)
        code = -ring_buffers_open(w->ring, BUF_PROVIDED);
    if (code != 0)
        *error =
            (struct worker_error){ .text = ring_error_text(code), .smaller_ring = code == ENOMEM };
    return code == 0;
}

/* An owner for each stream's address, each lane, and each session with its tunnels. */
static bool open_shares(struct worker *w, struct worker_error *error)
{
    const struct config *config = w->config;
    uint32_t sessions = config->role == CONFIG_SERVER ? config->max_sessions : 1;
    uint32_t nodes = config->max_streams + lanes_most(config) + sessions * (3 + CONFIG_TUNNELS_MAX);
    struct hash_key key;

    if (getrandom(&key, sizeof(key), 0) != (ssize_t)sizeof(key)) {
        error->text = "the kernel gives no random bytes (getrandom)";
        return false;
    }
    if (!share_tree_open(&w->shares, nodes, &key)) {
        error->text = NO_MEMORY;
        return false;
    }
    w->strangers_share = share_open(&w->shares.pool, SHARE_STRANGERS, 0);
    return true;
}

static bool open_parts(struct worker *w, unsigned entries, struct worker_error *error)
{
    if (!open_shares(w, error))
        return false;
    if (open_slabs(w)) {
        set_capacities(w);
        return open_ring(w, entries, error);
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
    init(w, config, role, index);
    if (!open_parts(w, entries, error)) {
        worker_close(w);
        return NULL;
    }
    w->now = ring_now(w->ring);
    timer_wheel_init(&w->timers, w->now);
    timer_init(&w->drain_timer, drain_timer_fire);
    timer_init(&w->sweep_timer, sweep_timer_fire);
    timer_init(&w->starve_timer, starve_timer_fire);
    timer_init(&w->short_timer, short_timer_fire);
    quiet_init(w);
    trim_init(w);
    return w;
}

void worker_close(struct worker *w)
{
    ring_close(w->ring);
    buf_pool_close(&w->bufs);
    slab_close(&w->slices);
    slab_close(&w->streams);
    slab_close(&w->ids);
    slab_close(&w->lanes);
    slab_close(&w->sessions);
    chain_close(&w->session_ids);
    slab_close(&w->listeners);
    strangers_close(&w->strangers);
    share_tree_close(&w->shares);
    free(w);
}

int worker_prepare(struct worker *w)
{
    int result = ring_start(w->ring);

    if (result < 0) {
        log_at(LOG_ERROR, "worker", "cannot start its ring: %s", strerror(-result));
        return EXIT_CODE_CANNOT_START;
    }
    check_set_dump(dump, w);
    if (w->config->zero_copy != CONFIG_OFF && ring_features()->send_zc)
        w->bufs.registered = ring_register_table(w->ring, w->config->bulk_buffers) == 0;
    buf_provide(&w->bufs, w->ring);
    return EXIT_CODE_OK;
}

/* What the start has closed already, when a dial failed at once, is no event to wait for. */
int worker_start(struct worker *w)
{
    int result = w->role->start(w);

    if (result == EXIT_CODE_OK)
        reap(w);
    return result;
}

/* Messages */

static uint64_t message_op(struct message *message, enum op_kind kind)
{
    uint64_t address = (uint64_t)(uintptr_t)message;

    CHECK(address >> 58 == 0);
    /* The ring orders the message's bytes before its arrival; the pair of atomics tells
     * ThreadSanitizer, which does not see through the kernel. */
    __atomic_store_n(&message->posted, 1, __ATOMIC_RELEASE);
    return (uint64_t)kind << 58 | address;
}

static struct message *message_of(const struct ring_cqe *cqe)
{
    struct message *message =
        (struct message *)(uintptr_t)(cqe->user_data & ((UINT64_C(1) << 58) - 1));

    CHECK(__atomic_load_n(&message->posted, __ATOMIC_ACQUIRE) == 1);
    return message;
}

void worker_post(struct worker *from, unsigned to, struct message *message)
{
    CHECK(to < from->peer_count);
    ring_message(from->ring, ring_fd(from->peers[to]->ring), message_op(message, OP_MESSAGE), 0,
                 message_op(message, OP_MESSAGE_SENT));
}

void worker_post_others(struct worker *from, enum message_kind kind, uint64_t session,
                        uint32_t number)
{
    for (unsigned i = 0; i < from->peer_count; i++) {
        if (i == from->index)
            continue;
        struct message *message = message_new(kind);
        message->session = session;
        message->number = number;
        worker_post(from, i, message);
    }
}

bool worker_post_from_thread(struct worker *to, struct message *message)
{
    int result = ring_message_from_thread(ring_fd(to->ring), message_op(message, OP_MESSAGE), 0);

    if (result < 0)
        message_free(message);
    return result >= 0;
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

/* A message that could not be delivered: its worker has stopped. */
static void message_sent_done(struct worker *w, const struct ring_cqe *cqe)
{
    struct message *message = message_of(cqe);

    if (message->fd >= 0)
        ring_close_fd(w->ring, message->fd);
    crypt_close(message->crypt);
    message_free(message);
}

static void message_done(struct worker *w, const struct ring_cqe *cqe)
{
    struct message *message = message_of(cqe);

    switch (message->kind) {
    case MESSAGE_STOP:
        worker_stop(w, (enum worker_stop_how)message->number);
        message_free(message);
        break;
    case MESSAGE_DRAINED:
        one_drained(w);
        message_free(message);
        break;
    case MESSAGE_SNAPSHOT:
        dump(w);
        message_free(message);
        break;
    default:
        w->role->message(w, message);
        break;
    }
}

/* Stop */

static void close_everything(struct worker *w)
{
    struct list *node;

    w->phase = WORKER_STOPPING;
    timer_stop(&w->drain_timer);
    while ((node = w->all_listeners.next) != &w->all_listeners)
        listener_close(container_of(node, struct listener, node));
    while ((node = w->all_sessions.next) != &w->all_sessions)
        session_close(container_of(node, struct session, node), REASON_SHUTDOWN);
    while ((node = w->orphan_streams.next) != &w->orphan_streams)
        stream_close(container_of(node, struct stream, lane_node), REASON_DRAIN, false);
    for (node = w->all_lanes.next; node != &w->all_lanes;) {
        struct lane *lane = container_of(node, struct lane, node);
        node = node->next;
        if (lane->state != LANE_LINGER)
            lane_dismiss(lane, REASON_SHUTDOWN);
    }
}

static void drain_timer_fire(struct timer *timer)
{
    struct worker *w = container_of(timer, struct worker, drain_timer);
    char subject[32];

    snprintf(subject, sizeof(subject), "worker %u", w->index);
    log_at(LOG_WARN, subject, "drain time-out: %u streams are cut", w->streams.used);
    close_everything(w);
}

static void tell_all_stop(struct worker *w, enum worker_stop_how how)
{
    worker_post_others(w, MESSAGE_STOP, 0, how);
    worker_stop(w, how);
}

/* Worker 0: lanes stay up until no worker has streams, because a session ends with its lane 0,
 * wherever that is. */
static void one_drained(struct worker *w)
{
    if (++w->drained_count == w->peer_count)
        tell_all_stop(w, WORKER_STOP_DRAINED);
}

static void check_drained(struct worker *w)
{
    if (w->phase != WORKER_DRAINING || w->drained || w->streams.used > 0)
        return;
    w->drained = true;
    if (w->index == 0)
        one_drained(w);
    else
        worker_post(w, 0, message_new(MESSAGE_DRAINED));
}

/* At once: lanes do not wait for their peers. */
static void cut_everything(struct worker *w)
{
    close_everything(w);
    while (!list_empty(&w->all_lanes))
        lane_close(container_of(w->all_lanes.next, struct lane, node), REASON_SHUTDOWN, NULL);
}

static void mark_all_streams(struct worker *w)
{
    for (struct list *node = w->all_lanes.next; node != &w->all_lanes; node = node->next) {
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
    if (w->phase == WORKER_STOPPED)
        return;
    if (how == WORKER_STOP_NOW) {
        cut_everything(w);
    } else if (how == WORKER_STOP_DRAINED) {
        if (w->phase < WORKER_STOPPING)
            close_everything(w);
    } else if (w->phase == WORKER_RUNNING) {
        w->phase = WORKER_DRAINING;
        timer_set(&w->timers, &w->drain_timer, w->now + w->config->drain_timeout);
        w->role->drain(w);
        mark_all_streams(w); /* v1's quiet time is shorter now */
        check_drained(w);
    }
}

/* The loop */

static void none_done(struct worker *w, const struct ring_cqe *cqe)
{
    (void)w;
    (void)cqe;
}

static void stream_connect_done(struct worker *w, const struct ring_cqe *cqe)
{
    struct op op = op_unpack(cqe->user_data);
    struct stream *s = stream_from_op(w, op.slot);
    uint8_t flight = op.aux == 0 ? STREAM_CONNECT : STREAM_BESIDE;

    CHECK((s->flight & flight) != 0);
    s->flight &= (uint8_t)~flight;
    if (s->state == STREAM_CLOSING)
        stream_mark(s);
    else
        w->role->stream_connected(s, op.aux != 0, cqe->res);
}

static void role_done(struct worker *w, const struct ring_cqe *cqe)
{
    w->role->event(w, cqe);
}

static void (*const completion[OP_KIND_COUNT])(struct worker *, const struct ring_cqe *) = {
    [OP_NONE] = none_done,
    [OP_STREAM_RECV] = relay_recv_done,
    [OP_STREAM_SEND] = relay_send_done,
    [OP_STREAM_CONNECT] = stream_connect_done,
    [OP_LANE_RECV] = lane_recv_done,
    [OP_LANE_SEND] = lane_send_done,
    [OP_LANE_CONNECT] = lane_connect_done,
    [OP_LISTENER_ACCEPT] = listener_accept_done,
    [OP_MESSAGE] = message_done,
    [OP_MESSAGE_SENT] = message_sent_done,
    [OP_ROLE] = role_done,
};

static void sweep_timer_fire(struct timer *timer)
{
    struct worker *w = container_of(timer, struct worker, sweep_timer);
    uint64_t next = min_u64(relay_sweep(w), lane_sweep(w));

    if (next != UINT64_MAX)
        timer_set(&w->timers, timer, next);
}

static void dispatch(struct worker *w, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned kind = (unsigned)(w->batch[i].user_data >> 58);

        CHECK(kind < OP_KIND_COUNT);
        completion[kind](w, &w->batch[i]);
    }
    worker_count(w, STAT_EVENTS, count);
}

static bool hands_wait(const struct worker *w)
{
    return !list_empty(&w->crypt_lanes) || !list_empty(&w->strangers.due);
}

/* Our own lanes, and those that come back by themselves, before strangers. */
static struct lane *next_hand(struct worker *w)
{
    struct list *node = list_pop(&w->crypt_lanes);

    return node != NULL ? container_of(node, struct lane, crypt_node)
                        : strangers_next(&w->strangers);
}

/* One handshake step a turn: a few hundred microseconds of public-key arithmetic at most between
 * two turns of the streams. While streams move, a step is followed by a pause of three times as
 * long as it took: a storm of handshakes has a quarter of the core, and all of it when there is
 * nothing else to do. */
static void shake_hands(struct worker *w)
{
    uint64_t moved = w->stats.value[STAT_BYTES_UP] + w->stats.value[STAT_BYTES_DOWN];

    w->moves = moved != w->moved;
    w->moved = moved;
    if (!hands_wait(w) || (w->moves && w->now < w->shake_at))
        return;
    struct lane *lane = next_hand(w);
    if (lane == NULL)
        return;
    uint64_t began = ring_now(w->ring);
    lane_crypt_step(lane);
    uint64_t ended = ring_now(w->ring);
    w->shake_at = ended + 3 * (ended - began);
}

/* Stopping, and nothing is left whose end would be an event. */
static bool is_over(const struct worker *w)
{
    return w->phase == WORKER_STOPPING && w->streams.used == 0 && w->lanes.used == 0 &&
           w->listeners.used == 0;
}

/* How long the ring may wait for completions. */
static uint64_t patience(struct worker *w)
{
    uint64_t timeout = timer_next(&w->timers, w->now);

    if (!list_empty(&w->dirty_streams) || !list_empty(&w->closing_streams) ||
        !list_empty(&w->dirty_lanes) || !list_empty(&w->late_lanes) || is_over(w))
        return 0;
    if (!hands_wait(w))
        return timeout;
    return !w->moves || w->now >= w->shake_at ? 0 : min_u64(timeout, w->shake_at - w->now);
}

static void pump(struct worker *w)
{
    struct list *node;

    while ((node = list_pop(&w->dirty_streams)) != NULL)
        relay_pump(container_of(node, struct stream, dirty_node));
}

/* A turn that has some completions will have more at once: those that came while its own operations
 * were submitted. A lane with little to send, and its next read, wait for what they bring, one turn
 * and no longer (docs/BENCHMARKS.md, "What we tried"). */
static void flush(struct worker *w, unsigned count)
{
    struct list held, *node;
    bool hold = !w->holds && count >= LANE_HOLD_EVENTS;

    list_init(&held);
    while ((node = list_pop(&w->dirty_lanes)) != NULL) {
        struct lane *lane = container_of(node, struct lane, dirty_node);

        if (hold && lane_can_wait(lane))
            list_append(&held, node);
        else
            lane_flush(lane);
    }
    w->holds = !list_empty(&held);
    while ((node = list_pop(&held)) != NULL)
        list_append(&w->dirty_lanes, node);
}

static void reap(struct worker *w)
{
    struct list *node, *next;
    bool gone = false;

    lane_settle(w);
    while ((node = list_pop(&w->closing_streams)) != NULL)
        gone |= stream_join(container_of(node, struct stream, sweep_node));
    if (gone)
        check_drained(w); /* may close everything else: before that is looked at */
    for (node = w->closing_lanes.next; node != &w->closing_lanes; node = next) {
        next = node->next;
        lane_join(container_of(node, struct lane, node));
    }
    for (node = w->closing_listeners.next; node != &w->closing_listeners; node = next) {
        next = node->next;
        listener_join(container_of(node, struct listener, node));
    }
    while ((node = list_pop(&w->closing_sessions)) != NULL)
        session_free(container_of(node, struct session, node));
}

/* Buffers that came back are lent again, and what waited for one goes on. */
static void starve_timer_fire(struct timer *timer)
{
    lane_unstarve(container_of(timer, struct worker, starve_timer), SHORT_LOOKS);
}

static void short_timer_fire(struct timer *timer)
{
    struct worker *w = container_of(timer, struct worker, short_timer);

    relay_unwait(w, SHORT_LOOKS);
    lane_unwait(w, SHORT_LOOKS);
}

static void refill(struct worker *w)
{
    buf_provide(&w->bufs, w->ring);
    if (!list_empty(&w->starved_streams))
        relay_unstarve(w);
    lane_log_unwait(w);
    if ((!list_empty(&w->short_streams) || !list_empty(&w->short_lanes) ||
         !list_empty(&w->log_lanes)) &&
        !timer_is_set(&w->short_timer))
        timer_set(&w->timers, &w->short_timer, w->now + STARVE_RETRY);
    if (list_empty(&w->starved_lanes))
        return;
    if (w->bufs.returned)
        lane_unstarve(w, SHORT_LOOKS);
    if (!list_empty(&w->starved_lanes) && !timer_is_set(&w->starve_timer))
        timer_set(&w->timers, &w->starve_timer, w->now + STARVE_RETRY);
    w->bufs.returned = false;
}

/* What a timer waits for may be among the completions that are still to be read: timers run when
 * all are, or when so many full batches have been that everything which lay there before them was
 * seen. */
static void run_timers(struct worker *w)
{
    w->full_batches = ring_has_more(w->ring) ? w->full_batches + 1 : 0;
    if (w->full_batches % WORKER_CQ_BATCHES == 0)
        timer_run(&w->timers, w->now);
}

bool worker_turn(struct worker *w, uint64_t max_wait)
{
    if (w->phase == WORKER_STOPPED)
        return false;
    unsigned count = ring_wait(w->ring, min_u64(patience(w), max_wait), w->batch, WORKER_BATCH);
    w->now = ring_now(w->ring);
    worker_count(w, STAT_TURNS, 1);
    lane_late(w);
    dispatch(w, count);
    run_timers(w);
    shake_hands(w);
    pump(w);
    flush(w, count);
    reap(w);
    refill(w);
    if (is_over(w)) {
        if (w->role->stop != NULL)
            w->role->stop(w);
        w->phase = WORKER_STOPPED;
    }
    return true;
}

void worker_discard(struct worker *w)
{
    unsigned count = ring_wait(w->ring, 0, w->batch, WORKER_BATCH);

    for (unsigned i = 0; i < count; i++) {
        if (w->batch[i].user_data >> 58 == OP_MESSAGE ||
            w->batch[i].user_data >> 58 == OP_MESSAGE_SENT)
            message_sent_done(w, &w->batch[i]);
    }
    (void)ring_wait(w->ring, 0, w->batch, WORKER_BATCH); /* the last closes go out */
}

int worker_run(struct worker *w)
{
    while (worker_turn(w, UINT64_MAX)) {}
    worker_discard(w);
    check_set_dump(NULL, NULL);
    return w->exit_code;
}
