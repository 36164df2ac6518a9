/* registry: see registry.h. */
#include "server/registry.h"

#include "core/base.h"
#include "core/check.h"
#include "core/listener.h"
#include "core/secret.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Ports that sessions had which are gone; the oldest is forgotten first. */
#define MEMORIES 4096u

struct memory {
    uint8_t client[FRAME_CLIENT_MAX];
    uint8_t client_size; /* 0: unused */
    unsigned token;
    uint16_t index, port;
};

static struct {
    pthread_mutex_t mutex;
    struct memory memories[MEMORIES];
    unsigned next_memory;
    struct registry_session *sessions;
    uint8_t (*secrets)[SCRAM_KEY_SIZE]; /* secret memory; [i] is the secret of sessions[i] */
    uint32_t max_sessions;
    uint16_t start_port;
    uint64_t last_id;
    uint16_t port_refs[65536]; /* listening sockets, those that are being closed among them */
    uint64_t awaited
        [65536]; /* the session whose BIND waits for the port: nobody else gets it meanwhile; one that has ended waits for nothing */
    uint64_t
        taken[65536]; /* the session that took the port from another one, and may wait for it */
} registry = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void free_tables(void)
{
    free(registry.sessions);
    secret_free(registry.secrets);
    registry.sessions = NULL;
    registry.secrets = NULL;
}

bool registry_open(const struct config *config)
{
    registry.max_sessions = config->max_sessions;
    registry.start_port = config->start_port;
    registry.last_id = 0;
    memset(registry.port_refs, 0, sizeof(registry.port_refs));
    memset(registry.memories, 0, sizeof(registry.memories));
    registry.sessions = calloc(config->max_sessions, sizeof(registry.sessions[0]));
    registry.secrets = secret_alloc(config->max_sessions * sizeof(registry.secrets[0]));
    if (registry.sessions != NULL && registry.secrets != NULL)
        return true;
    free_tables();
    return false;
}

void registry_close(void)
{
    if (registry.sessions == NULL)
        return;
    for (uint32_t port = 0; port < ARRAY_SIZE(registry.awaited);
         port++) /* most of their pages were never touched, and stay so */
        if (registry.awaited[port] != 0 || registry.taken[port] != 0)
            registry.awaited[port] = registry.taken[port] = 0;
    free_tables();
}

static uint8_t *secret_of(const struct registry_session *entry)
{
    return registry.secrets[entry - registry.sessions];
}

/* The entry is free again. */
static void clear(struct registry_session *entry)
{
    explicit_bzero(secret_of(entry), SCRAM_KEY_SIZE);
    *entry = (struct registry_session){ .id = 0 };
}

/* id 0 finds a free entry. */
static struct registry_session *find(uint64_t id)
{
    for (uint32_t i = 0; i < registry.max_sessions; i++)
        if (registry.sessions[i].id == id)
            return &registry.sessions[i];
    return NULL;
}

uint64_t registry_next_id(void)
{
    pthread_mutex_lock(&registry.mutex);
    uint64_t id = ++registry.last_id;
    pthread_mutex_unlock(&registry.mutex);
    return id;
}

static bool same_client(const struct registry_session *a, const struct registry_session *b)
{
    return a->client_size > 0 && a->client_size == b->client_size && a->token == b->token &&
           memcmp(a->client, b->client, a->client_size) == 0;
}

/* The session that this client had until now; NULL if it had none. */
static struct registry_session *find_client(const struct registry_session *session)
{
    for (uint32_t i = 0; i < registry.max_sessions; i++)
        if (registry.sessions[i].id != 0 && same_client(&registry.sessions[i], session))
            return &registry.sessions[i];
    return NULL;
}

static struct memory *recall(const struct registry_session *session, uint16_t index)
{
    for (unsigned i = 0; i < MEMORIES; i++) {
        struct memory *m = &registry.memories[i];

        if (m->client_size > 0 && m->client_size == session->client_size && m->index == index &&
            m->token == session->token && memcmp(m->client, session->client, m->client_size) == 0)
            return m;
    }
    return NULL;
}

static void remember(const struct registry_session *session)
{
    for (uint32_t i = 0; session->client_size > 0 && i < session->tunnel_count; i++) {
        if (session->tunnels[i].port == 0)
            continue;
        struct memory *m = recall(session, (uint16_t)i);
        if (m == NULL)
            m = &registry.memories[registry.next_memory++ % MEMORIES];
        *m = (struct memory){ .client_size = session->client_size,
                              .token = session->token,
                              .index = (uint16_t)i,
                              .port = session->tunnels[i].port };
        memcpy(m->client, session->client, sizeof(m->client));
    }
}

enum reason registry_add(const struct registry_session *session,
                         const uint8_t secret[SCRAM_KEY_SIZE], uint64_t *replaced)
{
    *replaced = 0;
    pthread_mutex_lock(&registry.mutex);
    struct registry_session *entry = find_client(session);
    if (entry != NULL) {
        *replaced = entry->id;
        remember(entry);
        clear(entry);
    } else {
        entry = find(0);
    }
    if (entry != NULL) {
        *entry = *session;
        secret_copy(secret_of(entry), secret, SCRAM_KEY_SIZE);
    }
    pthread_mutex_unlock(&registry.mutex);
    return entry != NULL ? REASON_DONE : REASON_LIMIT_SESSIONS;
}

enum reason registry_join(const struct frame_join *join, const struct scram_channel *channel,
                          struct registry_session *out, uint8_t answer[FRAME_PROOF_SIZE])
{
    enum reason reason = REASON_UNKNOWN_SESSION;
    uint8_t proof[FRAME_PROOF_SIZE];

    if (join->session == 0)
        return reason;
    pthread_mutex_lock(&registry.mutex);
    const struct registry_session *entry = find(join->session);
    if (entry != NULL) {
        scram_join(secret_of(entry), channel, join, proof);
        if (scram_equal(proof, join->proof, sizeof(proof))) {
            scram_join_ok(secret_of(entry), channel, join, answer);
            *out = *entry;
            reason = REASON_DONE;
        }
    }
    pthread_mutex_unlock(&registry.mutex);
    return reason;
}

bool registry_get(uint64_t id, struct registry_session *out)
{
    pthread_mutex_lock(&registry.mutex);
    struct registry_session *entry = id != 0 ? find(id) : NULL;
    if (entry != NULL)
        *out = *entry;
    pthread_mutex_unlock(&registry.mutex);
    return entry != NULL;
}

void registry_lost(uint64_t id, bool lost)
{
    pthread_mutex_lock(&registry.mutex);
    struct registry_session *entry = find(id);
    if (entry != NULL)
        entry->lost = lost;
    pthread_mutex_unlock(&registry.mutex);
}

void registry_drain(uint64_t id)
{
    pthread_mutex_lock(&registry.mutex);
    struct registry_session *entry = find(id);
    if (entry != NULL)
        entry->draining = true;
    pthread_mutex_unlock(&registry.mutex);
}

bool registry_remove(uint64_t id)
{
    pthread_mutex_lock(&registry.mutex);
    struct registry_session *entry = find(id);
    if (entry != NULL) {
        remember(entry);
        clear(entry);
    }
    pthread_mutex_unlock(&registry.mutex);
    return entry != NULL;
}

/* A listening socket on the port, or -errno. A first bind without SO_REUSEPORT shows a port that any other program (or another culvert of the same
 * user, whose SO_REUSEPORT would let us in) has. */
static int listen_on(const union sock_addr *addr, uint16_t port)
{
    union sock_addr at = *addr;

    sock_addr_set_port(&at, port);
    int probe = sock_listen(&at, false, 1);
    if (probe < 0)
        return probe;
    sock_close(probe);
    return sock_listen_streams(&at, LISTENER_BACKLOG);
}

static bool is_held(uint16_t port)
{
    for (uint32_t i = 0; i < registry.max_sessions; i++)
        for (uint32_t k = 0; registry.sessions[i].id != 0 && k < registry.sessions[i].tunnel_count;
             k++)
            if (registry.sessions[i].tunnels[k].port == port)
                return true;
    return false;
}

/* Somebody with the same token wants a port by number that a session has which nobody may ever come back to: one that was started again with another command line, as a
 * rule. */
static uint64_t evict(const struct registry_session *session, uint16_t port)
{
    for (uint32_t i = 0; port != 0 && i < registry.max_sessions; i++) {
        struct registry_session *other = &registry.sessions[i];

        for (uint32_t k = 0; other->id != 0 && k < other->tunnel_count; k++) {
            if (other == session || other->tunnels[k].port != port || !other->lost ||
                other->token != session->token)
                continue;
            uint64_t id = other->id;
            remember(other);
            for (uint32_t t = 0; t < other->tunnel_count; t++)
                registry.taken[other->tunnels[t].port] = session->id;
            clear(other);
            return id;
        }
    }
    return 0;
}

static bool awaited_by_other(const struct registry_session *session, uint16_t port)
{
    uint64_t id = registry.awaited[port];

    return id != 0 && id != session->id && find(id) != NULL;
}

/* The ports that the client had, most certain first. A claim whose old sockets still close is waited for. */
static bool find_claim(const struct registry_session *session, uint16_t index,
                       const union sock_addr *addr, uint16_t wanted, uint16_t ticket,
                       struct registry_bound *bound)
{
    const struct memory *m = recall(session, index);
    const uint16_t claims[] = { m != NULL ? m->port : 0, ticket,
                                registry.taken[wanted] == session->id ? wanted : 0 };

    for (unsigned i = 0; i < ARRAY_SIZE(claims); i++) {
        uint16_t port = claims[i];

        if (port == 0 || (wanted != 0 && port != wanted) || is_held(port) ||
            awaited_by_other(session, port))
            continue;
        bound->closing = registry.port_refs[port] > 0;
        if (bound->closing) {
            registry.awaited[port] = session->id;
            return false;
        }
        registry.awaited[port] = 0;
        bound->fd = listen_on(addr, port);
        bound->port = port;
        if (bound->fd >= 0)
            return true;
    }
    return false;
}

static enum reason find_port(const struct registry_session *session, const union sock_addr *addr,
                             uint16_t wanted, struct registry_bound *bound)
{
    unsigned first = wanted != 0 ? wanted : registry.start_port;
    unsigned last = wanted != 0 ? wanted : 65535;

    for (unsigned p = first; p <= last; p++) {
        if (registry.port_refs[p] > 0 || awaited_by_other(session, (uint16_t)p))
            continue;
        int result = listen_on(addr, (uint16_t)p);
        if (result >= 0) {
            bound->port = (uint16_t)p;
            bound->fd = result;
            return REASON_DONE;
        }
        if (result == -EMFILE || result == -ENFILE)
            return REASON_LIMIT_DESCRIPTORS;
        if (result == -EACCES)
            return REASON_PORT_FORBIDDEN;
    }
    return wanted != 0 ? REASON_PORT_BUSY : REASON_PORTS_EXHAUSTED;
}

enum reason registry_bind(uint64_t id, uint16_t index, const union sock_addr *addr, uint16_t wanted,
                          uint16_t ticket, const struct registry_tunnel *what,
                          struct registry_bound *bound)
{
    enum reason reason = REASON_UNKNOWN_SESSION;

    CHECK(index < CONFIG_TUNNELS_MAX);
    *bound = (struct registry_bound){ .fd = -1 };
    pthread_mutex_lock(&registry.mutex);
    struct registry_session *entry = find(id);
    if (entry != NULL) {
        bound->evicted = evict(entry, wanted);
        if (find_claim(entry, index, addr, wanted, ticket, bound))
            reason = REASON_DONE;
        else
            reason = bound->closing ? REASON_PORT_BUSY : find_port(entry, addr, wanted, bound);
    }
    if (reason == REASON_DONE) {
        struct registry_tunnel *tunnel = &entry->tunnels[index];
        *tunnel = *what;
        tunnel->port = bound->port;
        entry->tunnel_count = (uint32_t)max_u64(entry->tunnel_count, index + 1U);
        registry.port_refs[bound->port]++;
    }
    pthread_mutex_unlock(&registry.mutex);
    return reason;
}

void registry_unbind(uint64_t id, uint16_t index, uint16_t port)
{
    pthread_mutex_lock(&registry.mutex);
    struct registry_session *entry = find(id);
    CHECK(index < CONFIG_TUNNELS_MAX && registry.port_refs[port] > 0);
    if (entry != NULL && entry->tunnels[index].port == port)
        entry->tunnels[index] = (struct registry_tunnel){ .port = 0 };
    while (entry != NULL && entry->tunnel_count > 0 &&
           entry->tunnels[entry->tunnel_count - 1].port == 0)
        entry->tunnel_count--;
    pthread_mutex_unlock(&registry.mutex);
}

bool registry_port_ref(uint64_t id, uint16_t index, uint16_t port)
{
    pthread_mutex_lock(&registry.mutex);
    const struct registry_session *entry = find(id);
    bool stands = entry != NULL && entry->tunnels[index].port == port;
    CHECK(registry.port_refs[port] < UINT16_MAX);
    if (stands)
        registry.port_refs[port]++;
    pthread_mutex_unlock(&registry.mutex);
    return stands;
}

bool registry_port_unref(uint16_t port)
{
    pthread_mutex_lock(&registry.mutex);
    CHECK(registry.port_refs[port] > 0);
    bool last = --registry.port_refs[port] == 0;
    bool awaited = last && registry.awaited[port] != 0;
    pthread_mutex_unlock(&registry.mutex);
    return awaited;
}
