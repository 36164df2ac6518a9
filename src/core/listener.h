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
#ifndef CULVERT_CORE_LISTENER_H
#define CULVERT_CORE_LISTENER_H

#include "core/list.h"
#include "core/ring.h"
#include "core/timer.h"

#include <stdbool.h>
#include <stdint.h>

struct session;
struct share;
struct worker;

#define LISTENER_PAUSE   (100 * NSEC_PER_MSEC)
#define LISTENER_WELL    NSEC_PER_SEC
#define LISTENER_BACKLOG 4096
#define LISTENER_SPARES  8

struct listener {
    struct worker *worker;
    struct session *session; /* NULL: the tunnel address, for lanes */
    struct share *share;     /* whose descriptor it is; NULL: the server's own */
    struct list node;        /* in worker->all_listeners; closing: worker->closing_listeners */
    struct timer timer;      /* pause, and the look after it; closing: the next cancel */
    uint32_t slot;
    int fd;
    uint16_t tunnel; /* index */
    uint16_t port;   /* of a tunnel; 0 for the tunnel address */
    bool flight;
    bool paused;   /* the timer arms it again */
    bool short_of; /* counted in worker->short_listeners: it has not stood since its last pause */
    bool closing;
    uint64_t short_at; /* of the last pause */
};

/* Starts accepting on fd, which the listener owns from here on. NULL when the table is full (the
 * caller keeps fd). */
struct listener *listener_open(struct worker *worker, int fd, struct session *session,
                               uint16_t tunnel, uint16_t port);
void listener_close(struct listener *listener);
bool listener_join(struct listener *listener);
void listener_accept_done(struct worker *worker, const struct ring_cqe *cqe);

#endif
