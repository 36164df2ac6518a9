/* quiet: see quiet.h. */
#include "core/mux/quiet.h"

#include "core/io/limits.h"
#include "core/io/sock.h"
#include "core/mux/stream.h"

CHECK_STATIC(QUIET_BATCH <= SOCK_ERRORS_MAX, "one call asks for the errors of a batch");

/* The streams of a batch whose sockets are asked for errors. */
struct quiet_batch {
    struct stream *streams[QUIET_BATCH];
    int fds[QUIET_BATCH];
    unsigned count;
};

/* What can still move: bytes that go up to the lane and leave it; of a stream that the peer has
 * reset, bytes that the local peer takes. Any change is a movement. */
static uint64_t quiet_moved(const struct stream *s)
{
    uint64_t acked;

    if ((s->ends & STREAM_DOWN_RST) == 0)
        return s->bytes_up - s->waiter.pending;
    (void)sock_is_waiting(s->fd, &acked);
    return acked;
}

/* Nothing is left that could still go up. */
static bool quiet_has_said_all(const struct stream *s)
{
    return (s->ends & (STREAM_UP_EOF | STREAM_DOWN_RST)) == STREAM_UP_EOF && s->held == BUF_NONE &&
           s->waiter.pending == 0;
}

static void quiet_is_broken(struct stream *s)
{
    bool reset = (s->ends & STREAM_DOWN_RST) != 0;
    uint64_t now = s->loop->now, moved = quiet_moved(s);

    if (!s->broken || moved != s->broken_moved) {
        s->broken = true;
        s->broken_at = now;
        s->broken_moved = moved;
    }
    if (quiet_has_said_all(s) || now - s->broken_at >= (reset ? QUIET_LAST_NS : QUIET_BROKEN_NS))
        stream_close(s, REASON_PEER_RESET, !reset);
    else
        stream_mark(s);
}

static bool quiet_is_idle(struct stream *s)
{
    uint64_t now = s->loop->now, idle = s->loop->config->stream_idle, acked;

    if (idle == 0 || now - max_u64(s->heard, s->idle_at) < idle)
        return false;
    if (!sock_is_waiting(s->fd, &acked) || (s->idle_at != 0 && acked == s->idle_acked))
        return true;
    s->idle_at = now;
    s->idle_acked = acked;
    return false;
}

/* The round in which this slot's turn for rare questions comes. */
static bool quiet_is_due(const struct stream *s)
{
    return (s->table->rounds.begun + s->slot) % QUIET_RARELY == 0;
}

static void quiet_ask_peer(struct stream *s)
{
    if (s->asked || s->loop->now - s->heard < QUIET_ASK_NS)
        return;
    s->asked = true;
    if (!s->table->role->opens_streams)
        sock_ask_peer(s->fd);
}

static bool quiet_is_silent(const struct stream *s)
{
    return s->loop->now - s->heard >= PEER_SILENT_NS && quiet_is_due(s) &&
           sock_is_silent(s->fd, PEER_SILENT_NS);
}

/* A reader that takes nothing leaves pipes to those who move, when they are few. */
static bool quiet_holds_pipes(const struct stream *s)
{
    const struct slab *pipes = &s->loop->bufs.pipes.slab;

    return s->polls_down && s->head != SLAB_NONE && slab_available(pipes) < pipes->count / 2 &&
           s->loop->now - s->send_since >= QUIET_ROUND_NS;
}

static void quiet_look_at(struct stream *s, struct quiet_batch *batch)
{
    unsigned told = STREAM_UP_RST | STREAM_DOWN_DEAD | STREAM_DOWN_RST;

    quiet_ask_peer(s);
    if (quiet_holds_pipes(s) && stream_is_in_pipe(s))
        stream_unpipe(s);
    if (quiet_is_idle(s)) {
        stream_close(s, REASON_STREAM_IDLE, true);
    } else if (quiet_is_silent(s)) {
        stream_close(s, REASON_PEER_SILENT, true);
    } else if (s->broken || (s->ends & told) != 0) {
        quiet_is_broken(s);
    } else if ((s->flight & (STREAM_RECV | STREAM_SEND)) == 0) {
        CHECK(batch->count < QUIET_BATCH && s->fd >= 0);
        batch->streams[batch->count] = s;
        batch->fds[batch->count++] = s->fd;
    }
}

static void quiet_ask_for_errors(const struct quiet_batch *batch)
{
    bool broken[QUIET_BATCH];

    if (batch->count == 0)
        return;
    sock_errors(batch->fds, broken, batch->count);
    for (unsigned i = 0; i < batch->count; i++)
        if (broken[i])
            quiet_is_broken(batch->streams[i]);
}

/* v1: a stream without a lane has a time of its own (relay.c, relay_pump_orphan). */
static bool quiet_concerns(const struct stream *s)
{
    return s->state == STREAM_OPEN && (s->lane != NULL || (s->ends & STREAM_UP_FIN) != 0);
}

static void quiet_look(struct stream_table *table)
{
    struct quiet_batch batch = { .count = 0 };
    uint32_t end = min_u32(table->slab.fresh, table->rounds.next + QUIET_BATCH);

    for (; table->rounds.next < end; table->rounds.next++) {
        struct stream *s = slab_at(&table->slab, table->rounds.next);

        if (quiet_concerns(s))
            quiet_look_at(s, &batch);
    }
    quiet_ask_for_errors(&batch);
}

static void quiet_timer_fire(struct timer *timer)
{
    struct stream_table *table = container_of(timer, struct stream_table, rounds.timer);
    struct loop *loop = table->loop;
    struct stream_rounds *rounds = &table->rounds;

    if (table->slab.used == 0)
        return;
    quiet_look(table);
    if (rounds->next < table->slab.fresh) {
        timer_set(&loop->timers, timer, loop->now + QUIET_NEXT_NS);
        return;
    }
    stream_round_begins(
        table, max_u64(rounds->since + stream_round_time(table), loop->now + QUIET_NEXT_NS));
}

void quiet_init(struct stream_table *table)
{
    timer_init(&table->rounds.timer, quiet_timer_fire);
}
