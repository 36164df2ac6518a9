/*
 * ports: who has which public port. No lock and no system call of its own: the registry keeps it
 * under its mutex.
 *
 * A port is held by a session from the moment that the session tries to get it until the session
 * ends or gives it back, and in use as long as a listening socket is open on it, or about to be. It
 * may be in use and held by nobody (the sockets of a session that has ended still close), and the
 * other way round (a session that takes no more visitors). A session may wait for one: it goes to
 * nobody else meanwhile.
 *
 * What a search must pass over stands in bits beside that: ports in use or waited for, and, as long
 * as PORTS_FOREIGN_NS to twice that, ports that another program was found to have. So the lowest
 * free port of 65,536 is found in 1,024 steps at most, whoever has the others. A search finds none
 * but those that the server gives (core/base/port_set.h).
 */
#ifndef CULVERT_SERVER_PORTS_H
#define CULVERT_SERVER_PORTS_H

#include "core/base/base.h"
#include "core/base/port_set.h"

#include <stdbool.h>
#include <stdint.h>

struct share;

#define PORTS_COUNT      65536u
#define PORTS_FOREIGN_NS (10 * NSEC_PER_SEC)

/* Sessions are named by their ids, 0: none. One that has ended holds and takes nothing any more,
 * but may still stand here. */
struct port {
    uint64_t holder;
    uint64_t awaited;    /* who waits for it: a session that lives */
    uint64_t taken;      /* who took it from another session, and may wait for it */
    struct share *owner; /* in which it counts, as long as it is in use; NULL: it does not */
    uint32_t refs; /* listening sockets, those that are opened or closed just now among them */
};

struct ports {
    struct port *all;
    struct port_set given; /* what the server gives at all */
    uint64_t busy[PORTS_COUNT / 64];
    uint64_t foreign[2][PORTS_COUNT / 64]; /* found since `turned`, and in the time before it */
    uint64_t turned;                       /* ns */
    uint64_t looked; /* words of these that were looked at, for tests: costs are counted */
};

bool ports_open(struct ports *ports, const struct port_set *given);
void ports_close(struct ports *ports);

static inline struct port *ports_at(const struct ports *ports, uint16_t port)
{
    return &ports->all[port];
}

/* In use, or waited for. */
static inline bool ports_is_busy(const struct ports *ports, uint16_t port)
{
    return (ports->busy[port / 64] >> port % 64 & 1) != 0;
}

/* A socket more or less. unref: true for the last one. */
void ports_ref(struct ports *ports, uint16_t port);
bool ports_unref(struct ports *ports, uint16_t port);

/* From here on `session` waits for it; 0: nobody. */
void ports_await(struct ports *ports, uint16_t port, uint64_t session);

/* The clock says `now` (ns): what was found long ago is forgotten. */
void ports_tick(struct ports *ports, uint64_t now);

/* Another program has it. */
void ports_note_foreign(struct ports *ports, uint16_t port);

/* The lowest port given from `first` upwards that is neither in use nor waited for, nor, unless
 * `all`, noted as another program's. 0: there is none. */
uint16_t ports_find(struct ports *ports, uint32_t first, bool all);

#endif
