/* registry: see registry.h. */
#include "server/registry.h"

#include "core/base/base.h"
#include "core/base/chain.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/secret.h"
#include "core/base/slab.h"
#include "core/io/limits.h"
#include "core/io/listener.h"
#include "core/io/share.h"
#include "server/memory.h"
#include "server/ports.h"

#include <errno.h>
#include <pthread.h>
#include <sys/random.h>

struct entry {
    struct registry_session session;     /* id 0: free */
    uint16_t awaits[CONFIG_TUNNELS_MAX]; /* ports that its BINDs wait for; 0: none */
    struct share *share;
    uint64_t up;   /* lanes that have a connection, a bit for each */
    uint64_t lost; /* ns: since none has */
};
CHECK_STATIC(SESSION_LANES_MAX <= 64, "a bit for each lane");

static struct {
    pthread_mutex_t mutex;
    struct slab entries;
    uint8_t (*secrets)[SCRAM_KEY_SIZE]; /* secret memory; [i] is the secret of entry i */
    struct chain ids, clients;          /* of entries */
    struct hash_key key;
    struct memory memory;
    struct ports ports;
    struct share_tree shares;
    uint16_t start_port;
    char given[PORT_SET_TEXT_MAX]; /* the ports that clients may get */
    uint64_t last_id;
    uint64_t patience; /* ns: a session that is lost for longer is given up */
} registry = { .mutex = PTHREAD_MUTEX_INITIALIZER };

/* Life */

/* For each session its token and address; and as many that have ended, whose sockets still
 * close. */
static bool registry_open_shares(uint32_t sessions, uint32_t ports)
{
    if (!share_tree_open(&registry.shares, 4 * sessions, &registry.key))
        return false;
    registry.shares.capacity[SHARE_SESSIONS] = sessions;
    registry.shares.capacity[SHARE_PORTS] = ports;
    return true;
}

static bool registry_open_tables(const struct config *config)
{
    uint32_t sessions = config->max_sessions;

    registry.secrets = secret_alloc(sessions * sizeof(registry.secrets[0]));
    return slab_open(&registry.entries, sizeof(struct entry), sessions, 0) &&
           chain_open(&registry.ids, sessions) && chain_open(&registry.clients, sessions) &&
           memory_open(&registry.memory, &registry.key) &&
           ports_open(&registry.ports, &config->ports) &&
           registry_open_shares(sessions, port_set_count(&config->ports, config->start_port)) &&
           registry.secrets != NULL;
}

bool registry_open(const struct config *config)
{
    CHECK(port_set_has(&config->ports, config->start_port));
    registry.start_port = config->start_port;
    port_set_format(&config->ports, registry.given);
    registry.last_id = 0;
    registry.patience = config->heartbeat + REGISTRY_HEAL_NS;
    if (getrandom(&registry.key, sizeof(registry.key), 0) != (ssize_t)sizeof(registry.key)) {
        log_at(LOG_ERROR, "server", "the kernel gives no random bytes (getrandom): %s",
               strerror(errno));
        return false;
    }
    if (registry_open_tables(config))
        return true;
    log_at(LOG_ERROR, "server", "out of memory for --max-sessions %u: lower it, or raise ulimit -v",
           config->max_sessions);
    registry_close();
    return false;
}

void registry_close(void)
{
    slab_close(&registry.entries);
    chain_close(&registry.ids);
    chain_close(&registry.clients);
    memory_close(&registry.memory);
    ports_close(&registry.ports);
    share_tree_close(&registry.shares);
    secret_free(registry.secrets);
    registry.secrets = NULL;
}

/* Entries */

static struct entry *registry_entry_at(uint32_t index)
{
    return slab_at(&registry.entries, index);
}

static uint32_t registry_entry_index(const struct entry *entry)
{
    return slab_index(&registry.entries, entry);
}

static uint8_t *registry_entry_secret(const struct entry *entry)
{
    return registry.secrets[registry_entry_index(entry)];
}

static struct entry *registry_entry_find(uint64_t id)
{
    uint32_t i = chain_first(&registry.ids, id);

    while (i != CHAIN_END && registry_entry_at(i)->session.id != id)
        i = chain_next(&registry.ids, i);
    return i != CHAIN_END ? registry_entry_at(i) : NULL;
}

static uint64_t registry_entry_hash(const struct client_key *client)
{
    return client_key_hash(client, 0, &registry.key);
}

/* The session that this client had until now; NULL if it had none. */
static struct entry *registry_entry_find_client(const struct client_key *client)
{
    uint32_t i =
        client->size > 0 ? chain_first(&registry.clients, registry_entry_hash(client)) : CHAIN_END;

    while (i != CHAIN_END && !client_key_equal(&registry_entry_at(i)->session.client, client))
        i = chain_next(&registry.clients, i);
    return i != CHAIN_END ? registry_entry_at(i) : NULL;
}

static void registry_check_sessions(void)
{
    CHECK(registry.entries.used == registry.shares.pool.used[SHARE_SESSIONS]);
}

/* Takes over the reference on share. There is room. */
static void registry_entry_add(const struct registry_session *session, const uint8_t *secret,
                               struct share *share)
{
    uint32_t i = slab_take(&registry.entries);
    struct entry *entry = registry_entry_at(i);

    CHECK(session->id > 0 && session->id <= registry.last_id);
    *entry = (struct entry){ .session = *session, .share = share, .up = 1 };
    share_take(share, SHARE_SESSIONS, 1);
    registry_check_sessions();
    secret_copy(registry_entry_secret(entry), secret, SCRAM_KEY_SIZE);
    chain_add(&registry.ids, session->id, i);
    if (session->client.size > 0)
        chain_add(&registry.clients, registry_entry_hash(&session->client), i);
}

/* It waits for no port any more. */
static void registry_entry_wait_over(struct entry *entry, uint16_t index)
{
    uint16_t number = entry->awaits[index];

    if (number == 0)
        return;
    CHECK(ports_at(&registry.ports, number)->awaited == entry->session.id);
    ports_await(&registry.ports, number, 0);
    entry->awaits[index] = 0;
}

/* Its ports are remembered. What it holds in registry.ports is nobody's as soon as its id is not
 * found any more. */
static void registry_entry_remove(struct entry *entry)
{
    const struct registry_session *s = &entry->session;

    for (uint16_t i = 0; i < CONFIG_TUNNELS_MAX; i++) {
        registry_entry_wait_over(entry, i);
        if (s->tunnels[i].port != 0)
            memory_note(&registry.memory, &s->client, i, s->tunnels[i].port);
    }
    explicit_bzero(registry_entry_secret(entry), SCRAM_KEY_SIZE);
    chain_remove(&registry.ids, s->id, registry_entry_index(entry));
    if (s->client.size > 0)
        chain_remove(&registry.clients, registry_entry_hash(&s->client),
                     registry_entry_index(entry));
    entry->session.id = 0;
    share_give(entry->share, SHARE_SESSIONS, 1);
    share_unref(entry->share);
    slab_give(&registry.entries, registry_entry_index(entry));
    registry_check_sessions();
}

/* Without the tunnels that it has not. */
static void registry_entry_copy(const struct entry *entry, struct registry_session *out)
{
    size_t size = offsetof(struct registry_session, tunnels) +
                  entry->session.tunnel_count * sizeof(out->tunnels[0]);

    memcpy(out, &entry->session, size);
}

/* Sessions */

uint64_t registry_next_id(void)
{
    pthread_mutex_lock(&registry.mutex);
    uint64_t id = ++registry.last_id;
    pthread_mutex_unlock(&registry.mutex);
    return id;
}

/* Who takes a session and its ports: what one session holds of them is little. */
static struct share *registry_share_of(const struct registry_session *session)
{
    struct share *token = share_open(&registry.shares.pool, SHARE_TOKEN, session->client.token);
    struct share *address = share_open_address(token, &session->peer);

    share_unref(token);
    return address;
}

static enum reason registry_add_locked(const struct registry_session *session,
                                       const uint8_t *secret, struct registry_added *added)
{
    struct share *share = registry_share_of(session);
    struct entry *old = registry_entry_find_client(&session->client);

    if (old == NULL && !share_may(share, SHARE_SESSIONS, 1)) {
        added->blame = share_blame(share, SHARE_SESSIONS);
        share_unref(share);
        return REASON_LIMIT_SESSIONS;
    }
    if (old != NULL) {
        added->replaced = old->session.id;
        registry_entry_remove(old);
    }
    registry_entry_add(session, secret, share);
    return REASON_DONE;
}

enum reason registry_add(const struct registry_session *session,
                         const uint8_t secret[SCRAM_KEY_SIZE], struct registry_added *added)
{
    *added = (struct registry_added){ .replaced = 0 };
    pthread_mutex_lock(&registry.mutex);
    enum reason reason = registry_add_locked(session, secret, added);
    pthread_mutex_unlock(&registry.mutex);
    return reason;
}

/* A session's facts with its secret; false if it has ended. */
static bool registry_copy_all(uint64_t id, struct registry_session *out, uint8_t *secret)
{
    pthread_mutex_lock(&registry.mutex);
    const struct entry *entry = registry_entry_find(id);
    if (entry != NULL) {
        registry_entry_copy(entry, out);
        secret_copy(secret, registry_entry_secret(entry), SCRAM_KEY_SIZE);
    }
    pthread_mutex_unlock(&registry.mutex);
    return entry != NULL;
}

/* Any stranger may ask for this arithmetic: it is done outside of the mutex. */
enum reason registry_join(const struct frame_join *join, const struct scram_channel *channel,
                          struct registry_session *out, uint8_t answer[FRAME_PROOF_SIZE])
{
    enum reason reason = REASON_UNKNOWN_SESSION;
    uint8_t *secret = secret_alloc(SCRAM_KEY_SIZE);
    uint8_t proof[FRAME_PROOF_SIZE];

    if (secret == NULL)
        return REASON_LIMIT_BUFFERS;
    if (registry_copy_all(join->session, out, secret)) {
        scram_join(secret, channel, join, proof);
        if (scram_equal(proof, join->proof, sizeof(proof))) {
            scram_join_ok(secret, channel, join, answer);
            reason = REASON_DONE;
        }
    }
    secret_free(secret);
    return reason;
}

bool registry_get(uint64_t id, struct registry_session *out)
{
    pthread_mutex_lock(&registry.mutex);
    const struct entry *entry = registry_entry_find(id);
    if (entry != NULL)
        registry_entry_copy(entry, out);
    pthread_mutex_unlock(&registry.mutex);
    return entry != NULL;
}

static struct registry_home registry_home_of(uint64_t id)
{
    const struct entry *entry = registry_entry_find(id);

    if (entry == NULL)
        return (struct registry_home){ .session = 0 };
    return (struct registry_home){ .session = id, .worker = entry->session.home };
}

bool registry_home(uint64_t id, struct registry_home *out)
{
    pthread_mutex_lock(&registry.mutex);
    *out = registry_home_of(id);
    pthread_mutex_unlock(&registry.mutex);
    return out->session != 0;
}

static void registry_entry_note_lane(struct entry *entry, uint16_t lane, bool up, uint64_t now)
{
    uint64_t before = entry->up;

    CHECK(lane < SESSION_LANES_MAX);
    uint64_t bit = UINT64_C(1) << lane;
    entry->up = up ? before | bit : before & ~bit;
    if (before != 0 && entry->up == 0)
        entry->lost = now;
}

void registry_lane(uint64_t id, uint16_t lane, bool up, uint64_t now)
{
    pthread_mutex_lock(&registry.mutex);
    struct entry *entry = registry_entry_find(id);
    if (entry != NULL)
        registry_entry_note_lane(entry, lane, up, now);
    pthread_mutex_unlock(&registry.mutex);
}

void registry_drain(uint64_t id)
{
    pthread_mutex_lock(&registry.mutex);
    struct entry *entry = registry_entry_find(id);
    if (entry != NULL)
        entry->session.draining = true;
    pthread_mutex_unlock(&registry.mutex);
}

unsigned registry_list(uint32_t *place, struct registry_owned found[REGISTRY_PORTION], bool *over)
{
    unsigned count = 0;

    pthread_mutex_lock(&registry.mutex);
    uint32_t end = (uint32_t)min_u64((uint64_t)*place + REGISTRY_PORTION, registry.entries.fresh);
    for (; *place < end; (*place)++) {
        const struct registry_session *s = &registry_entry_at(*place)->session;

        if (s->id != 0)
            found[count++] = (struct registry_owned){ .session = s->id, .token = s->client.token };
    }
    *over = *place >= registry.entries.fresh;
    pthread_mutex_unlock(&registry.mutex);
    return count;
}

bool registry_remove(uint64_t id)
{
    pthread_mutex_lock(&registry.mutex);
    struct entry *entry = registry_entry_find(id);
    if (entry != NULL)
        registry_entry_remove(entry);
    pthread_mutex_unlock(&registry.mutex);
    return entry != NULL;
}

/* BIND: what to try next is found under the mutex, tried outside, and the result taken in under it
 * again. */

struct binding {
    uint64_t id;
    const struct registry_wish *wish;
    struct registry_bound *bound;
    uint16_t claims[3]; /* ports that the client had, most certain first; 0: none, or tried */
    uint32_t next;      /* the search: the lowest port that was not looked at; 0: over */
    bool all;           /* it looks at other programs' ports, too */
    uint16_t port;      /* reserved, being tried; 0: there is nothing to try */
    bool claimed;       /* it is a claim */
};

/* A listening socket on the port, or -errno. A first bind without SO_REUSEPORT shows a port that
 * any other program (or another culvert of the same user, whose SO_REUSEPORT would let us in)
 * has. */
static int registry_listen_on(const union sock_addr *addr, uint16_t port)
{
    union sock_addr at = *addr;

    sock_addr_set_port(&at, port);
    int probe = sock_listen(&at, false, 1);
    if (probe < 0)
        return probe;
    sock_close(probe);
    return sock_listen_streams(&at, LISTENER_BACKLOG);
}

/* The server gives it, whoever asks: what a client had may be from a time with other --ports. */
static bool registry_is_given(uint16_t port)
{
    return port_set_has(&registry.ports.given, port);
}

static bool registry_is_held(const struct port *port)
{
    return port->holder != 0 && registry_entry_find(port->holder) != NULL;
}

/* What others lack when somebody has it: who takes any port finds those from the start port up. */
static bool registry_is_shared(uint16_t port)
{
    return port >= registry.start_port;
}

/* The first socket of a port, which the session will open. */
static void registry_port_take(uint16_t number, const struct entry *entry)
{
    struct port *port = ports_at(&registry.ports, number);

    ports_ref(&registry.ports, number);
    port->holder = entry->session.id;
    if (!registry_is_shared(number))
        return;
    CHECK(port->refs == 1 && port->owner == NULL);
    port->owner = entry->share;
    share_take(port->owner, SHARE_PORTS, 1);
}

/* One listening socket less; *waiter: the session that waits for it, if that was the last one. */
static void registry_port_let_go(uint16_t number, struct registry_home *waiter)
{
    struct port *port = ports_at(&registry.ports, number);

    *waiter = (struct registry_home){ .session = 0 };
    CHECK((port->owner != NULL) == registry_is_shared(number));
    if (!ports_unref(&registry.ports, number))
        return;
    if (port->owner != NULL)
        share_give(port->owner, SHARE_PORTS, 1);
    port->owner = NULL;
    if (port->awaited != 0)
        *waiter = registry_home_of(port->awaited);
}

/* Workers read their clocks at different moments: `now` may lie before it was lost. */
static bool registry_is_given_up(const struct entry *entry, uint64_t now)
{
    return entry->up == 0 && now >= entry->lost + registry.patience;
}

/* Of the same token and address. */
static bool registry_is_alike(const struct entry *a, const struct entry *b)
{
    return a->session.client.token == b->session.client.token && a->share == b->share;
}

/* Whether the entry may have the port once whoever has it gives it. */
static bool registry_may_follow(const struct entry *entry, uint16_t number)
{
    struct share *owner = ports_at(&registry.ports, number)->owner;

    if (owner != NULL)
        share_give(owner, SHARE_PORTS, 1);
    bool may = !registry_is_shared(number) || share_may(entry->share, SHARE_PORTS, 1);
    if (owner != NULL)
        share_take(owner, SHARE_PORTS, 1);
    return may;
}

/* Somebody alike wants a port by number that a session has which nobody may ever come back to: one
 * that was started again with another command line, as a rule. */
static uint64_t registry_evict(const struct entry *entry, const struct registry_wish *wish)
{
    uint64_t heir = entry->session.id;
    struct port *port = ports_at(&registry.ports, wish->wanted);
    struct entry *other = wish->wanted != 0 ? registry_entry_find(port->holder) : NULL;

    if (other == NULL || other == entry || !registry_is_alike(entry, other) ||
        !registry_is_given_up(other, wish->now) || !registry_may_follow(entry, wish->wanted))
        return 0;
    uint64_t id = other->session.id;
    port->taken = heir;
    for (uint32_t i = 0; i < other->session.tunnel_count; i++)
        ports_at(&registry.ports, other->session.tunnels[i].port)->taken = heir;
    registry_entry_remove(other);
    return id;
}

static void registry_bind_begin(struct binding *b, struct entry *entry)
{
    const struct registry_wish *wish = b->wish;
    const struct registry_session *s = &entry->session;

    ports_tick(&registry.ports, wish->now);
    registry_entry_wait_over(entry, wish->index);
    b->bound->evicted = registry_evict(entry, wish);
    b->claims[0] = memory_recall(&registry.memory, &s->client, wish->index);
    b->claims[1] = wish->ticket;
    if (ports_at(&registry.ports, wish->wanted)->taken == s->id)
        b->claims[2] = wish->wanted;
    b->next = wish->wanted != 0 ? wish->wanted : registry.start_port;
}

/* The next port that the client has a claim to; 0: none, or one to wait for. */
static uint16_t registry_next_claim(struct binding *b, struct entry *entry)
{
    for (unsigned i = 0; i < ARRAY_SIZE(b->claims); i++) {
        uint16_t number = b->claims[i], wanted = b->wish->wanted;
        const struct port *port = ports_at(&registry.ports, number);

        b->claims[i] = 0;
        if (!registry_is_given(number) || (wanted != 0 && number != wanted) ||
            registry_is_held(port) || port->awaited != 0)
            continue;
        b->bound->closing = port->refs > 0;
        if (!b->bound->closing)
            return number;
        ports_await(&registry.ports, number, b->id);
        entry->awaits[b->wish->index] = number;
        return 0;
    }
    return 0;
}

static uint16_t registry_next_wanted(struct binding *b)
{
    uint16_t port = (uint16_t)b->next;

    b->next = 0;
    return port != 0 && !ports_is_busy(&registry.ports, port) ? port : 0;
}

/* What other programs had some seconds ago is looked at again before there is no port. */
static uint16_t registry_next_free(struct binding *b)
{
    bool all = b->all || b->bound->tries < REGISTRY_AGAIN;
    uint16_t port = b->next < PORTS_COUNT ? ports_find(&registry.ports, b->next, all) : 0;

    if (port == 0 && !all) {
        b->all = true;
        port = ports_find(&registry.ports, registry.start_port, true);
    }
    b->next = port + 1U;
    return port;
}

static enum reason registry_bind_next(struct binding *b, struct entry *entry)
{
    bool any = b->wish->wanted == 0;

    b->port = registry_next_claim(b, entry);
    b->claimed = b->port != 0;
    if (b->bound->closing)
        return REASON_PORT_BUSY;
    if (!b->claimed)
        b->port = any ? registry_next_free(b) : registry_next_wanted(b);
    if (b->port == 0)
        return any ? REASON_PORTS_EXHAUSTED : REASON_PORT_BUSY;
    if (b->bound->tries == REGISTRY_TRIES) {
        b->port = 0;
        b->bound->later = !b->all; /* otherwise all that is left is other programs' */
        return b->all ? REASON_PORTS_EXHAUSTED : REASON_PORT_BUSY;
    }
    if (registry_is_shared(b->port) && !share_may(entry->share, SHARE_PORTS, 1)) {
        b->port = 0;
        b->bound->blame = share_blame(entry->share, SHARE_PORTS);
        return REASON_PORTS_EXHAUSTED;
    }
    registry_port_take(b->port, entry);
    return REASON_DONE;
}

/* The tunnel is there. */
static void registry_bind_note(struct binding *b, struct registry_session *session, int fd)
{
    struct registry_tunnel *tunnel = &session->tunnels[b->wish->index];

    CHECK(tunnel->port == 0 && ports_at(&registry.ports, b->port)->holder == b->id);
    *tunnel = *b->wish->what;
    tunnel->port = b->bound->port = b->port;
    b->bound->fd = fd;
    b->port = 0;
    session->tunnel_count = (uint32_t)max_u64(session->tunnel_count, b->wish->index + 1U);
}

/* The port could not be had: what that says, REASON_DONE if others are to be tried. */
static enum reason registry_bind_failed(struct binding *b, int error)
{
    struct registry_home waiter;

    CHECK(ports_at(&registry.ports, b->port)->holder == b->id);
    ports_at(&registry.ports, b->port)->holder = 0;
    registry_port_let_go(b->port, &waiter);
    CHECK(waiter.session == 0); /* nobody waits for what a living session holds */
    if (error == EADDRINUSE)
        ports_note_foreign(&registry.ports, b->port);
    uint16_t port = b->port;
    b->port = 0;
    if (error == EADDRINUSE || b->claimed)
        return REASON_DONE;
    b->bound->error = error;
    b->bound->failed = port;
    if (error == EMFILE || error == ENFILE)
        return REASON_LIMIT_DESCRIPTORS;
    return error == EACCES ? REASON_PORT_FORBIDDEN : REASON_SOCKET_ERROR;
}

/* Takes in what came of b->port (0: this is the beginning; result: a descriptor, or -errno), and
 * reserves the next one to be tried. */
static enum reason registry_bind_step(struct binding *b, int result)
{
    struct entry *entry = registry_entry_find(b->id);

    if (entry == NULL)
        return REASON_UNKNOWN_SESSION;
    if (b->port == 0 && b->wish->wanted != 0 && !registry_is_given(b->wish->wanted)) {
        b->bound->given = registry.given;
        return REASON_PORT_FORBIDDEN;
    }
    if (b->port == 0) {
        registry_bind_begin(b, entry);
    } else if (result >= 0) {
        registry_bind_note(b, &entry->session, result);
        return REASON_DONE;
    } else {
        enum reason reason = registry_bind_failed(b, -result);
        if (reason != REASON_DONE)
            return reason;
    }
    return registry_bind_next(b, entry);
}

static uint64_t registry_looked(void)
{
    return registry.ids.looked + registry.clients.looked + registry.memory.chain.looked +
           registry.ports.looked;
}

static enum reason registry_bind_locked_step(struct binding *b, int result)
{
    pthread_mutex_lock(&registry.mutex);
    uint64_t before = registry_looked();
    enum reason reason = registry_bind_step(b, result);
    b->bound->looked += (unsigned)(registry_looked() - before);
    pthread_mutex_unlock(&registry.mutex);
    return reason;
}

/* The session has ended while its port was tried. */
static void registry_bind_drop(struct binding *b, int result)
{
    if (result >= 0)
        sock_close(result);
    pthread_mutex_lock(&registry.mutex);
    registry_port_let_go(b->port, &b->bound->freed);
    pthread_mutex_unlock(&registry.mutex);
}

enum reason registry_bind(uint64_t id, const struct registry_wish *wish,
                          struct registry_bound *bound)
{
    struct binding b = { .id = id, .wish = wish, .bound = bound };
    int result = 0;

    CHECK(wish->index < CONFIG_TUNNELS_MAX);
    *bound = (struct registry_bound){ .fd = -1 };
    enum reason reason = registry_bind_locked_step(&b, result);
    while (reason == REASON_DONE && b.port != 0) {
        bound->tries++;
        result = registry_listen_on(wish->addr, b.port);
        reason = registry_bind_locked_step(&b, result);
    }
    if (b.port != 0)
        registry_bind_drop(&b, result);
    return reason;
}

void registry_unbind(uint64_t id, uint16_t index, uint16_t port)
{
    pthread_mutex_lock(&registry.mutex);
    struct entry *entry = registry_entry_find(id);
    struct port *p = ports_at(&registry.ports, port);
    CHECK(index < CONFIG_TUNNELS_MAX && p->refs > 0);
    if (entry != NULL && entry->session.tunnels[index].port == port) {
        struct registry_session *s = &entry->session;

        if (p->holder == id)
            p->holder = 0;
        s->tunnels[index] = (struct registry_tunnel){ .port = 0 };
        while (s->tunnel_count > 0 && s->tunnels[s->tunnel_count - 1].port == 0)
            s->tunnel_count--;
    }
    pthread_mutex_unlock(&registry.mutex);
}

bool registry_port_ref(uint64_t id, uint16_t index, uint16_t port)
{
    pthread_mutex_lock(&registry.mutex);
    const struct entry *entry = registry_entry_find(id);
    const struct port *p = ports_at(&registry.ports, port);
    bool stands = entry != NULL && entry->session.tunnels[index].port == port && p->holder == id &&
                  p->refs > 0;
    if (stands)
        ports_ref(&registry.ports, port);
    pthread_mutex_unlock(&registry.mutex);
    return stands;
}

struct registry_home registry_port_unref(uint16_t port)
{
    struct registry_home waiter;

    pthread_mutex_lock(&registry.mutex);
    registry_port_let_go(port, &waiter);
    pthread_mutex_unlock(&registry.mutex);
    return waiter;
}
