/*
 * worker: one core's loop (loop.h), with the tables of what it carries, and its turns.
 *
 * Nothing of a worker is touched by another thread; others send messages to its ring. One turn:
 *
 *   1. submit what is prepared and wait           ring_wait
 *   2. frames that were too many for the turn before
 *   3. completions                                record, and mark dirty
 *      what has arrived on lanes                  demux_pull hands frames to their streams
 *   4. timers that are due
 *   5. one step of one TLS handshake, unless a pause follows the last
 *   6. pump each dirty stream once                relay_pump decides from state alone what to
 *                                                 submit
 *   7. flush each dirty lane once                 everything that became ready leaves in one send;
 *                                                 a little data may wait a turn
 *   8. reap: lost connections are taken in, closed objects with nothing in flight are freed
 *   9. refill: lent buffers are replaced, and what waited for buffers, or for a share of them, is
 *      marked
 *  10. the role's snapshot is swapped, if there is another one
 *
 * Objects are freed in step 8 only, so that a pointer is good for the whole turn, and so is what a
 * snapshot says. Roles hang in by one const table of callbacks.
 */
#ifndef CULVERT_CORE_RUN_WORKER_H
#define CULVERT_CORE_RUN_WORKER_H

#include "core/base/config.h"
#include "core/io/listener.h"
#include "core/io/loop.h"
#include "core/io/timer.h"
#include "core/io/trim.h"
#include "core/mux/lane.h"
#include "core/mux/role.h"
#include "core/mux/session.h"
#include "core/mux/stream.h"
#include "core/run/message.h"
#include "core/run/snapshot.h"

#include <stdbool.h>
#include <stdint.h>

struct worker {
    struct loop loop;
    const struct role *role;
    void *role_state;
    struct snapshot *snapshot;      /* the role's, or NULL if it has none; one for a whole turn */
    struct snapshot_change *change; /* to be made at the end of this turn; NULL: none */
    struct worker **peers;          /* all workers of the instance, by index */
    unsigned peer_count;
    int exit_code;

    struct lane_table lanes;
    struct stream_table streams;
    struct session_table sessions;
    struct listener_table listeners;
    struct trim trim;

    unsigned full_batches; /* turns without a pause that left completions for the next */
    bool holds;            /* the last turn left dirty lanes for this one */
    uint64_t shake_at;     /* ns: no handshake step before, see worker.c */
    uint64_t moved;        /* bytes of streams, as of the last turn */
    bool moves;            /* they changed in it */
    struct timer drain_timer;
    bool drained;           /* draining, and the last stream is gone */
    unsigned drained_count; /* worker 0: workers that said so */
    struct timer starve_timer;
    struct timer short_timer;
    struct ring_cqe batch[WORKER_BATCH];
};

/* The worker of a loop. */
static inline struct worker *worker_of(const struct loop *loop)
{
    return container_of(loop, struct worker, loop);
}

struct worker_error {
    const char *text;  /* a sentence for the operator */
    bool smaller_ring; /* with fewer entries it may do */
};

/* Maps all memory and makes the ring, of WORKER_SQ_LEAST to WORKER_SQ_ENTRIES entries; callable
 * from any thread. NULL and *error. `peers` may be filled in later, before worker_start. With the
 * role's snapshot of now. */
struct worker *worker_open(const struct config *config, const struct role *role, unsigned index,
                           unsigned entries, struct worker_error *error);
void worker_close(struct worker *worker);

/* In the worker's own thread: binds the ring, lends buffers; from then on it can take messages. 0,
 * or an exit code after saying why. */
int worker_prepare(struct worker *worker);

/* When all workers of the instance are prepared: starts the role. 0 or an exit code. */
int worker_start(struct worker *worker);

/* One turn of the loop, waiting at most `max_wait` ns for the first completion (UINT64_MAX: as long
 * as no timer is due). False when the worker has stopped. */
bool worker_turn(struct worker *worker, uint64_t max_wait);

/* After the last turn: submits what is prepared, and drops messages that came too late. */
void worker_discard(struct worker *worker);

/* Turns until stopped; returns the exit code. */
int worker_run(struct worker *worker);

/* Posts a message to another worker (or to itself); owns `message` from here on. */
void worker_post(struct worker *from, unsigned to, struct message *message);

/* The same message, without a descriptor, to each of the others. */
void worker_post_others(struct worker *from, const struct message_type *type, uint64_t session,
                        uint32_t number);

/* True if a completion brings a message, or what became of one. */
bool worker_is_message(uint64_t user_data);

/* The same from a thread without a worker. False if it could not be sent (the message is freed). */
bool worker_post_from_thread(struct worker *to, struct message *message);

/* The same of a change of snapshots, to each worker of the instance: between snapshot_change_begin
 * and the poster's own snapshot_change_made. Before the one before it is done there is no other. A
 * worker that ends does not swap, which counts as if it had: at its last look at its ring, or, if
 * the message came later, in message_free_all. */
bool worker_change_from_thread(struct worker *to, struct snapshot_change *change);

/* Such a thread may be out for long (a dead name server, a human): as long as one is, no worker is
 * freed. begin: before it is made; end: its last call, or its maker's if it could not be made. */
void worker_helper_begin(void);
void worker_helper_end(void);
bool worker_helpers_out(void);

enum worker_stop_how {
    /* accept nothing new; close when no worker of the instance has streams, or at drain_timeout */
    WORKER_STOP_DRAIN,
    WORKER_STOP_DRAINED, /* close now, with a word to the peers */
    WORKER_STOP_NOW,     /* close now, waiting for nobody */
};

void worker_stop(struct worker *worker, enum worker_stop_how how);

/* The same by message, `number` says how; and: print the counters on standard error. */
extern const struct message_type worker_message_stop, worker_message_counters;

#endif
