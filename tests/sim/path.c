/*
 * path: see path.h.
 *
 * Strikes follow each other in random time, often in bursts, so that the second one meets what the
 * first one has left: an old connection with operations in flight, a dial, a handshake, a JOIN that
 * is half said. A strike takes one connection of a lane (a probe's as well; the client's end or the
 * server's) or all of them, in one of the ways of fake_lose, now or after so many more bytes; or it
 * closes the server's port for a while, by refusal or silence, so that lanes stay frozen while
 * visitors come; or it cuts a cable that is plugged in again later. Beside this, every new
 * connection may be doomed from its beginning (fake_options.doom_chance).
 *
 * Where lanes are TLS a byte may also be spoiled, and what follows it may be held up: on
 * connections that stand, and on new ones from their beginning. Half of these strike among the
 * first few hundred bytes, the handshake and JOIN; a third at the begin of a record.
 */
#include "sim/path.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/mux/lane.h"
#include "core/mux/session.h"
#include "core/mux/stream.h"
#include "fake/fake.h"
#include "sim/sim.h"

#include <stdio.h>

#define CONNECTIONS_MAX 256u
#define TROUBLE_LONGEST \
    (60 * NSEC_PER_SEC)  /* how long bytes are held up: beyond everybody's patience */
#define BURST       300u /* of a thousand strikes come right behind another */
#define QUIET_BYTES 256u /* PING and PONG of an idle lane */

static struct {
    struct path_world world;
    uint64_t longest;
    unsigned left; /* strikes */
    struct fake_event strike, open_port, mend;
    uint64_t cut;      /* the connection that will be mended */
    unsigned troubled; /* of a thousand new connections */
} path;

static void each_lane(void (*fn)(const struct lane *lane, void *arg), void *arg)
{
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < path.world.count[side]; i++) {
            struct worker *w = path.world.workers[side][i];
            if (w == NULL) /* its process is dead */
                continue;
            for (struct list *n = w->lanes.all.next; n != &w->lanes.all; n = n->next)
                fn(container_of(n, struct lane, node), arg);
        }
}

/* Strikes */

struct connections {
    int fds[CONNECTIONS_MAX];
    unsigned count;
};

static void add_connection(const struct lane *lane, void *arg)
{
    struct connections *c = arg;

    if (lane->conn.fd >= 0 && fake_connection(lane->conn.fd) != 0 && c->count < CONNECTIONS_MAX)
        c->fds[c->count++] = lane->conn.fd;
}

static enum fake_loss draw_loss(void)
{
    return (enum fake_loss)between(0, FAKE_LOSS_COUNT - 1);
}

static void lose_all(const struct connections *c)
{
    enum fake_loss how = draw_loss();

    for (unsigned i = 0; i < c->count; i++)
        fake_lose(c->fds[i], how);
}

static void port_opens(void *arg)
{
    (void)arg;
    fake_trace("path: the port is open again");
    fake_refuse(path.world.port, false);
    fake_blackhole(path.world.port, false);
}

static void close_port(const struct connections *c)
{
    if (maybe(500))
        fake_refuse(path.world.port, true);
    else
        fake_blackhole(path.world.port, true);
    fake_trace("path: the port is closed");
    fake_event_set(&path.open_port, fake_now() + size_between(1000, path.longest));
    if (maybe(700))
        lose_all(c);
}

static void plug_in(void *arg)
{
    (void)arg;
    fake_mend(path.cut);
}

static void unplug(int fd)
{
    path.cut = fake_connection(fd);
    fake_cut(fd);
    fake_event_set(&path.mend, fake_now() + size_between(1000000, path.longest));
}

static void place_draw(struct fake_trouble *t)
{
    if (maybe(500)) {
        t->at = between(0, 400);
    } else if (maybe(600)) {
        t->records = (unsigned)size_between(1, 100);
        t->at = between(0, 6); /* in its header, or right behind */
    } else {
        t->at = size_between(1, 100000);
    }
}

void path_trouble(int fd)
{
    struct fake_trouble t = { .kind = maybe(700)   ? FAKE_SPOIL
                                      : maybe(500) ? FAKE_LOSE
                                                   : FAKE_DELAY,
                              .from = (int)between(0, 1),
                              .flip = (uint8_t)(1u << between(0, 7)),
                              .how = draw_loss(),
                              .delay = size_between(1000000, TROUBLE_LONGEST) };

    place_draw(&t);
    fake_trouble(fd, &t);
}

static void new_connection(int fd)
{
    if (maybe(path.troubled))
        path_trouble(fd);
}

void path_troubles(uint16_t port, unsigned permille)
{
    path.troubled = permille;
    fake_on_connection(port, new_connection);
}

static void strike(const struct connections *c)
{
    int fd = c->fds[between(0, c->count - 1)];

    if (path.troubled > 0 && maybe(300)) { /* told when it strikes */
        path_trouble(fd);
        return;
    }
    sim_totals.faults++;
    switch (between(0, 9)) {
    case 0:
    case 1:
    case 2:
    case 3:
        fake_lose(fd, draw_loss());
        break;
    case 4:
    case 5:
    case 6:
        fake_doom(fd, size_between(1, 20000), draw_loss());
        break;
    case 7:
        close_port(c);
        break;
    case 8:
        unplug(fd);
        break;
    default:
        lose_all(c);
        break;
    }
    path.world.told();
}

static void strike_comes(void *arg)
{
    struct connections c = { .count = 0 };

    (void)arg;
    each_lane(add_connection, &c);
    if (c.count > 0) {
        strike(&c);
        path.left--;
    }
    if (path.left > 0)
        fake_event_set(&path.strike,
                       fake_now() + (maybe(BURST) ? size_between(1000, 200 * NSEC_PER_MSEC)
                                                  : size_between(1000000, 20 * NSEC_PER_SEC)));
}

void path_watch(const struct path_world *world)
{
    memset(&path, 0, sizeof(path));
    path.world = *world;
}

void path_begin(const struct path_world *world, uint64_t longest)
{
    unsigned troubled = path.troubled;

    path_watch(world);
    path.troubled = troubled;
    path.longest = longest;
    path.left = (unsigned)size_between(1, 40);
    path.strike.fn = strike_comes;
    path.open_port.fn = port_opens;
    path.mend.fn = plug_in;
    fake_event_set(&path.strike, fake_now() + size_between(1000, 5 * NSEC_PER_SEC));
}

void path_end(void)
{
    path.left = 0;
    fake_event_stop(&path.strike);
    fake_event_stop(&path.open_port);
    fake_event_stop(&path.mend);
    path.troubled = fake_options()->seal_refused = 0;
    port_opens(NULL);
}

/* What must be */

struct tally {
    unsigned standing[2], other[2];
    unsigned joined; /* lanes that the session should have */
};

static void tally_lane(const struct lane *lane, void *arg)
{
    struct tally *t = arg;
    unsigned side = lane->table->role->opens_streams ? 0 : 1;

    if (lane->state == LANE_OPEN && lane->fsm == SESSION_FORWARDING && lane->session != NULL)
        t->standing[side]++;
    else
        t->other[side]++;
    t->joined = (unsigned)max_u64(t->joined, lane->index == 0 ? lane->terms.lanes : 0);
}

bool path_whole(void)
{
    struct tally t = { .joined = 0 };

    each_lane(tally_lane, &t);
    /* Spare ones stand beside them. */
    return t.joined > 0 && t.standing[0] >= t.joined && t.standing[1] == t.standing[0] &&
           t.other[0] + t.other[1] == 0;
}

struct pair {
    const struct lane *lane;
    const struct lane *twin;
    bool agree;
};

static void match_twin(const struct lane *lane, void *arg)
{
    struct pair *pair = arg;

    if (lane != pair->lane && lane->index == pair->lane->index &&
        lane->table->role != pair->lane->table->role)
        pair->twin = lane;
}

static void match_lane(const struct lane *lane, void *arg)
{
    struct pair *all = arg;
    struct pair pair = { .lane = lane };

    each_lane(match_twin, &pair);
    all->agree = all->agree && pair.twin != NULL && pair.twin->rx_bytes == lane->retain.sent &&
                 lane->retain.replay == 0 && lane->retain.sent - lane->retain.acked <= QUIET_BYTES;
}

bool path_counts_agree(void)
{
    struct pair all = { .agree = true };

    each_lane(match_lane, &all);
    return all.agree;
}

static uint32_t logged_in(const struct worker *w, const struct list *lanes)
{
    uint32_t count = 0;

    for (const struct list *n = lanes->next; n != lanes; n = n->next) {
        const struct lane *lane = container_of(n, struct lane, node);
        uint32_t index = lane->retain.head;

        for (; index != SLAB_NONE; count++)
            index = ((const struct slice *)slab_at(&w->loop.slices, index))->next;
    }
    return count;
}

uint32_t path_logged(const struct worker *w)
{
    return logged_in(w, &w->lanes.all) + logged_in(w, &w->lanes.closing);
}

static void print_lane(const struct lane *lane, void *arg)
{
    static const char *const states[] = { "free",   "connecting", "tls",    "open",
                                          "frozen", "linger",     "closing" };

    (void)arg;
    fprintf(stderr,
            "  %s %u lane %u slot %u fd %d: %s, %u streams, tx %llu (acked %llu, again %llu), rx "
            "%llu%s%s%s\n",
            lane->table->role->name, worker_of(lane->loop)->loop.index, lane->index, lane->slot,
            lane->conn.fd, states[lane->state], lane->stream_count,
            (unsigned long long)lane->retain.sent, (unsigned long long)lane->retain.acked,
            (unsigned long long)lane->retain.replay, (unsigned long long)lane->rx_bytes,
            lane->conn.recv_flight ? ", receives" : "", lane->conn.send_flight ? ", sends" : "",
            list_linked(&lane->starved_node) ? ", starved" : "");
}

void path_print(void)
{
    each_lane(print_lane, NULL);
}
