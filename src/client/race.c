/*
 * race: a connection to one of a server's addresses (RFC 8305, as origin.c has it for origins).
 *
 * The address of the last session goes first. One that fails is followed by the next at once, one
 * that says nothing for CLIENT_ATTEMPT_DELAY by the next beside it; nothing that is on its way is
 * given up for that, since lanes are few. Who is up first, TLS included, is lane 0 (or who asks
 * first whether its key is to be trusted: a human is asked once); the others are closed, and may be
 * tried again should nothing come of the winner. While one shakes hands the path is there, and no
 * more are begun. The connect time-out bounds all of it, not each; then the next --server has its
 * turn. A server with one address costs no timer beside its lane's own.
 */
#include "client/client_state.h"

#include "client/outage.h"
#include "core/io/addr.h"
#include "core/mux/lane.h"

#include <string.h>

CHECK_STATIC(RESOLVE_MAX <= 32, "a bit for each address");

static void race_timer_fire(struct timer *timer);

void race_init(struct client *client)
{
    timer_init(&client->race.timer, race_timer_fire);
}

static uint32_t race_bit(unsigned address)
{
    return 1u << address;
}

/* Attempts */

static bool race_runs(const struct client *client)
{
    for (unsigned i = 0; i < client->servers.count; i++)
        if (client->race.lanes[i] != NULL)
            return true;
    return false;
}

static bool race_is_over(const struct client *client)
{
    const struct client_race *race = &client->race;

    return client->worker->loop.now - race->since >= client->worker->loop.config->connect_timeout &&
           client->servers.count > 1;
}

static bool race_may_try(const struct client_race *race, unsigned address)
{
    return (race->failed & race_bit(address)) == 0 && race->lanes[address] == NULL &&
           (race->only == RESOLVE_MAX || race->only == address);
}

/* Neither failed nor on its way; the count if there is none. */
static unsigned race_next(const struct client *client)
{
    const struct client_race *race = &client->race;
    unsigned i = 0;

    while (i < client->servers.count && !race_may_try(race, i))
        i++;
    return race_is_over(client) ? client->servers.count : i;
}

/* False: this address has failed. */
static bool race_attempt(struct client *client, unsigned address)
{
    struct worker *w = client->worker;
    const union sock_addr *addr = &client->servers.addr[address];
    int error;
    struct lane *lane = client_connect(w, client_server(client), addr, &error);

    client->race.lanes[address] = lane;
    if (lane != NULL)
        return true;
    client->race.failed |= race_bit(address);
    outage_try(w, "client", "cannot dial", strerror(error));
    return false;
}

static void race_set_timer(struct client *client)
{
    struct client_race *race = &client->race;
    struct worker *w = client->worker;
    uint64_t end = race->since + w->loop.config->connect_timeout;

    if (client->servers.count <= 1)
        return;
    timer_set(&w->loop.timers, &race->timer,
              race_next(client) < client->servers.count
                  ? min_u64(w->loop.now + CLIENT_ATTEMPT_DELAY, end)
                  : end);
}

/* The next address, or nobody is left. */
static void race_go_on(struct client *client)
{
    unsigned next = race_next(client);

    while (next < client->servers.count && !race_attempt(client, next))
        next = race_next(client);
    if (race_runs(client))
        race_set_timer(client);
    else
        client_server_failed(client);
}

/* The address of the last session goes first, the order of the others stays. */
static void race_sort(struct client *client)
{
    struct resolve_result *servers = &client->servers;
    unsigned i = 0;

    while (i < servers->count && !addr_equal(&servers->addr[i], &client->race.good))
        i++;
    if (i == servers->count)
        return;
    memmove(&servers->addr[1], &servers->addr[0], i * sizeof(servers->addr[0]));
    servers->addr[0] = client->race.good;
}

void race_begin(struct client *client)
{
    struct client_race *race = &client->race;

    CHECK(!race_runs(client) && client->servers.count <= RESOLVE_MAX);
    race_sort(client);
    race->failed = 0;
    race->only = RESOLVE_MAX;
    race->since = client->worker->loop.now;
    race_go_on(client);
}

void race_again(struct client *client)
{
    client->race.only = client->race.won;
    client->race.failed &= ~race_bit(client->race.won);
    client->race.since = client->worker->loop.now;
    race_go_on(client);
}

void race_resume(struct client *client)
{
    client->race.failed |= race_bit(client->race.won);
    client->race.only = RESOLVE_MAX;
    client->race.since = client->worker->loop.now;
    race_go_on(client);
}

/* Ends */

static struct lane *race_slow(const struct client *client)
{
    for (unsigned i = 0; i < client->servers.count; i++)
        if (client->race.lanes[i] != NULL && client->race.lanes[i]->state == LANE_CONNECTING)
            return client->race.lanes[i];
    return NULL;
}

/* Those that are still to be connected: who shakes hands has a time-out of its own. With the last
 * one the race for the next server may begin. */
static void race_give_up(struct client *client)
{
    struct lane *lane;

    while (race_is_over(client) && (lane = race_slow(client)) != NULL)
        lane_close(lane, REASON_CONNECT_FAILED, "time-out");
}

bool race_has_path(const struct client *client)
{
    for (unsigned i = 0; i < client->servers.count; i++)
        if (client->race.lanes[i] != NULL && client->race.lanes[i]->state == LANE_TLS)
            return true;
    return false;
}

static void race_timer_fire(struct timer *timer)
{
    struct client *client = container_of(timer, struct client, race.timer);

    if (!race_runs(client))
        return;
    if (race_is_over(client))
        race_give_up(client);
    else if (race_has_path(client))
        race_set_timer(client);
    else
        race_go_on(client);
}

static unsigned race_place(const struct client *client, const struct lane *lane)
{
    unsigned i = 0;

    while (i < client->servers.count && client->race.lanes[i] != lane)
        i++;
    return i;
}

bool race_has(const struct client *client, const struct lane *lane)
{
    return race_place(client, lane) < client->servers.count;
}

void race_stop(struct client *client)
{
    timer_stop(&client->race.timer);
    for (unsigned i = 0; i < client->servers.count; i++) {
        struct lane *lane = client->race.lanes[i];

        client->race.lanes[i] = NULL;
        if (lane != NULL)
            lane_dismiss(lane, REASON_REPLACED);
    }
}

void race_won(struct client *client, struct lane *lane)
{
    unsigned place = race_place(client, lane);

    CHECK(place < client->servers.count && client->primary == NULL);
    client->race.lanes[place] = NULL;
    client->race.won = place;
    client->primary = lane;
    race_stop(client);
}

/* One that had a path, and took all the time for nothing, does not take it from the others. */
void race_lost(struct client *client, struct lane *lane, enum reason reason)
{
    struct client_race *race = &client->race;
    unsigned place = race_place(client, lane);

    race->lanes[place] = NULL;
    race->failed |= race_bit(place);
    if (race->only != RESOLVE_MAX) /* what it spoke says nothing of the others */
        client_forget_wire(client);
    race->only = RESOLVE_MAX;
    if (reason != REASON_CONNECT_FAILED)
        race->since = client->worker->loop.now;
    if (client->worker->loop.phase == LOOP_RUNNING)
        race_go_on(client);
}

void race_good(struct client *client)
{
    client->race.good = client->primary->conn.peer;
}
