/*
 * listener: a listening socket with a multishot accept.
 *
 * A listener that closes cancels its accept, again and again if a cancel is lost, and is freed when
 * that is over.
 *
 * Out of descriptors or memory, accepting pauses for LISTENER_PAUSE and is counted; the backlog of
 * the kernel holds the visitors meanwhile. That is one state of the worker, however many pauses it
 * takes: it begins with the first, and is over when the accepts of all its listeners have stood for
 * LISTENER_WELL (one that finds no descriptor fails at once, whether somebody waits or not). In
 * this state, and while nearly all descriptors are taken, a listener accepts one after the other:
 * each is judged, and refused perhaps, before the next. A multishot accept takes of a full backlog
 * as many as there are descriptors before the first is judged: those who come and go as fast as
 * they can, and are refused because their address has its share, had all of them then, again after
 * each pause, and everybody else waited.
 *
 * Lanes come first. When visitors have all descriptors and a lane is cut, one of those who wait
 * takes its descriptor, and the lane cannot come back; but its visitors cannot leave before it is
 * back. So a worker that accepts lanes keeps LISTENER_SPARES descriptors that stand for nothing:
 * when a lane cannot be accepted, some are given up for it. While there are fewer, they are taken
 * again first, and visitors wait.
 */
#ifndef CULVERT_CORE_IO_LISTENER_H
#define CULVERT_CORE_IO_LISTENER_H

#include "core/base/list.h"
#include "core/base/log.h"
#include "core/io/loop.h"
#include "core/io/ring.h"
#include "core/io/timer.h"

#include <stdbool.h>
#include <stdint.h>

struct listener;
struct share;

#define LISTENER_PAUSE   (100 * NSEC_PER_MSEC)
#define LISTENER_WELL    NSEC_PER_SEC
#define LISTENER_BACKLOG 4096
#define LISTENER_SPARES  8

/* What a listener is for; a constant of whoever opens it. */
struct listener_use {
    /* A connection came in; the callee owns fd. */
    void (*accepted)(struct listener *listener, int fd);
    /* The socket was closed: its port is free. NULL: nobody asks. */
    void (*closed)(struct listener *listener);
    bool lanes; /* these come by it: spare descriptors are kept for it */
};

/* A worker's listeners. */
struct listener_table {
    struct loop *loop;
    unsigned op; /* of its accepts */
    struct slab slab;
    struct list all, closing;
    unsigned spares; /* of spare_fds: descriptors kept for lanes */
    bool keeps_spares;
    int spare_fds[LISTENER_SPARES];
    uint32_t short_of; /* that had to pause */
    struct log_lasting pauses;
};

struct listener {
    struct loop *loop;
    struct listener_table *table;
    const struct listener_use *use;
    void *owner;         /* the opener's; NULL once closing */
    struct share *share; /* whose descriptor it is; NULL: the server's own */
    struct list node;    /* in table->all; closing: table->closing */
    struct timer timer;  /* pause, and the look after it; closing: the next cancel */
    uint32_t slot;
    int fd;
    uint16_t index; /* the opener's */
    uint16_t port;  /* the same */
    bool flight;
    bool paused;   /* the timer arms it again */
    bool short_of; /* counted in table->short_of: it has not stood since its last pause */
    bool closing;
    uint64_t short_at; /* of the last pause */
};

/* Of so many. False: no memory; close is right either way. */
bool listener_table_open(struct listener_table *table, struct loop *loop, uint32_t count);
void listener_table_close(struct listener_table *table);

/* Starts accepting on fd, which the listener owns from here on. share: in whose name; not taken
 * over. NULL when the table is full (the caller keeps fd). */
struct listener *listener_open(struct listener_table *table, int fd, const struct listener_use *use,
                               void *owner, struct share *share);
void listener_close(struct listener *listener);
bool listener_join(struct listener *listener);

#endif
