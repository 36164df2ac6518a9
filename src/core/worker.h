/*
 * worker: one core's loop and everything it owns.
 *
 * A worker owns a ring, its buffers, slabs of streams, lanes, sessions and listeners, a timer wheel
 * and counters. Nothing of it is touched by another thread; others send messages to its ring. One
 * turn:
 *
 *   1. submit what is prepared and wait           ring_wait
 *   2. frames that were too many for the turn before
 *   3. completions                                record, handle the frames that a lane received,
 *                                                 and mark dirty
 *   4. timers that are due
 *   5. one step of one TLS handshake, unless a pause follows the last
 *   6. pump each dirty stream once                relay_pump decides from state alone what to
 *                                                 submit
 *   7. flush each dirty lane once                 everything that became ready leaves in one send;
 *                                                 a little data may wait a turn
 *   8. reap: lost connections are taken in, closed objects with nothing in flight are freed
 *   9. refill: lent buffers are replaced, and what waited for buffers, or for a share of them, is
 *      marked
 *
 * Objects are freed in step 8 only, so that a pointer is good for the whole turn. Roles hang in by
 * one const table of callbacks.
 */
#ifndef CULVERT_CORE_WORKER_H
#define CULVERT_CORE_WORKER_H

#include "core/buf.h"
#include "core/chain.h"
#include "core/config.h"
#include "core/list.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/message.h"
#include "core/quiet.h"
#include "core/reason.h"
#include "core/ring.h"
#include "core/share.h"
#include "core/slab.h"
#include "core/stats.h"
#include "core/strangers.h"
#include "core/timer.h"
#include "core/trim.h"

#include <stdbool.h>
#include <stdint.h>

struct frame;
struct lane;
struct listener;
struct session;
struct stream;
struct worker;

/* What a role does. Every function runs in the worker's thread; NULL where a role has nothing to
 * do. */
struct role {
    const char *name;
    bool opens_streams; /* the server: ids are made here, from slots */
    /* A TLS handshake (client) needs a human's word: lane_answer. */
    void (*lane_asks)(struct lane *lane, const char *pin);
    /* The worker is in its thread and its ring runs. 0, or an exit code after saying why, with
     * nothing left behind. Worker 0 comes last, when all others have started: what it says on
     * standard output is true of all. */
    int (*start)(struct worker *worker);
    /* A connection came in on a listener; the callee owns fd. */
    void (*accepted)(struct listener *listener, int fd);
    /* A lane that was dialled is connected (res 0) or not (-errno). */
    void (*lane_connected)(struct lane *lane, int res);
    /* Everything is out of a lane that awaited it (awaits_out). */
    void (*lane_out)(struct lane *lane);
    /* A control frame or OPEN that the state machine allows. [src, end) is the whole payload.
     * REASON_DONE, or why the lane must close. */
    enum reason (*frame)(struct lane *lane, const struct frame *frame, const uint8_t *src,
                         const uint8_t *end);
    /* The lane was closed: its streams are, and it has left `session` (NULL if it had none). text:
     * detail for the log, or NULL. */
    void (*lane_closed)(struct lane *lane, struct session *session, enum reason reason,
                        const char *text);
    /* The lane lost its connection and waits for another one (text: detail, or NULL); and: nothing
     * is in flight any more, its counts are final. */
    void (*lane_frozen)(struct lane *lane, const char *text);
    void (*lane_still)(struct lane *lane);
    void (*lane_back)(struct lane *lane);
    /* Nothing comes back from the other end. */
    void (*lane_suspect)(struct lane *lane);
    /* The lane's slot is about to be free. */
    void (*lane_freed)(struct lane *lane);
    /* A stream's local connect ended (client): its fd's, or the one beside it. And: its timer says
     * that none has for a while. */
    void (*stream_connected)(struct stream *stream, bool beside, int res);
    void (*stream_late)(struct stream *stream);
    /* A listener's socket was closed: its port is free. */
    void (*listener_closed)(struct listener *listener);
    /* The session part is about to be freed; its lanes and listeners are closed. */
    void (*session_closed)(struct session *session, enum reason reason);
    /* A completion of the role's own (OP_ROLE). */
    void (*event)(struct worker *worker, const struct ring_cqe *cqe);
    /* A message for the role; the callee frees it. */
    void (*message)(struct worker *worker, struct message *message);
    /* Drain: accept nothing new, tell the peers. */
    void (*drain)(struct worker *worker);
    /* The worker stops: free what `state` has. */
    void (*stop)(struct worker *worker);
};

enum worker_phase {
    WORKER_RUNNING,
    WORKER_DRAINING, /* no new streams; ends when the last is gone or drain_timeout is over */
    WORKER_STOPPING, /* everything is closed; ends when nothing is in flight */
    WORKER_STOPPED
};

struct worker {
    unsigned index;
    const struct config *config;
    const struct role *role;
    void *role_state;
    struct worker **peers; /* all workers of the instance, by index */
    unsigned peer_count;
    struct ring *ring;
    uint64_t now; /* ns, of this turn */
    enum worker_phase phase;
    int exit_code;

    struct share_tree shares;      /* whose all of the following is */
    struct share *strangers_share; /* server: the owner above whoever has not logged in */
    struct strangers strangers;
    struct buf_pool bufs;
    struct slab slices;
    struct slab streams;
    uint64_t streams_unsent; /* bytes that sockets of streams may take: STREAMS_UNSENT_PART */
    struct slab ids;         /* server, v2: struct stream_id */
    uint64_t ids_pressed;    /* ns: when they last ran so short that all lanes asked for counts */
    struct slab lanes;
    struct slab sessions;
    struct chain session_ids; /* those of all_sessions, by id */
    struct slab listeners;

    uint32_t bulk_streams; /* streams whose reads go into big buffers */

    unsigned full_batches; /* turns without a pause that left completions for the next */

    struct timer_wheel timers;
    struct timer drain_timer;
    bool drained;           /* draining, and the last stream is gone */
    unsigned drained_count; /* worker 0: workers that said so */
    struct timer starve_timer;
    struct timer sweep_timer;    /* bulk reads that went quiet, see relay.c */
    struct trim trim;            /* memory that is not needed any more */
    struct quiet quiet;          /* streams of which no completion tells anything */
    struct list dirty_streams;   /* to be pumped in this turn */
    struct list dirty_lanes;     /* to be flushed in this turn, or the next */
    bool holds;                  /* the last turn left some of them for this one */
    struct list orphan_streams;  /* lane gone, what has arrived is being delivered */
    struct list closing_streams; /* to be joined at the end of this turn, see stream.h */
    struct list closing_lanes;
    struct list late_lanes; /* with frames that wait for the next turn */
    struct list frozen_lanes;
    /* frozen ones whose connection is still to be closed, or that have another */
    struct list settling_lanes;
    struct list log_lanes; /* with streams that wait until their logs may keep more */
    struct list closing_listeners;
    unsigned spares; /* of spare_fds: descriptors kept for lanes, see listener.h */
    bool keeps_spares;
    int spare_fds[LISTENER_SPARES];
    uint32_t short_listeners; /* that had to pause, see listener.h */
    struct log_lasting pauses;
    struct list closing_sessions;
    struct list crypt_lanes;     /* TLS handshakes with work to do, but for strangers' */
    uint64_t shake_at;           /* ns: no handshake step before, see worker.c */
    uint64_t moved;              /* bytes of streams, as of the last turn */
    bool moves;                  /* they changed in it */
    struct list starved_streams; /* reads that found no small buffer */
    struct list starved_lanes;   /* reads that found no big buffer */
    struct list short_streams;   /* reads that wait until their owner has less, see share.h */
    struct list short_lanes;     /* the same of lanes, for any buffer */
    struct timer short_timer;
    struct list wide_streams; /* whose windows have grown; the longest unused first */
    /* big buffer for opening records when there is no other, see lane_crypt.c; BUF_NONE: not taken
     * yet */
    uint32_t crypt_spare;
    struct list busy_lanes; /* lanes with a read into an empty big buffer in flight */
    struct list bulk_reads; /* streams with a read into a big buffer in flight */
    struct list all_lanes, all_sessions, all_listeners;

    struct stats stats;
    struct ring_cqe batch[WORKER_BATCH];
};

struct worker_error {
    const char *text;  /* a sentence for the operator */
    bool smaller_ring; /* with fewer entries it may do */
};

/* Maps all memory and makes the ring, of WORKER_SQ_LEAST to WORKER_SQ_ENTRIES entries; callable
 * from any thread. NULL and *error. `peers` may be filled in later, before worker_start. */
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
void worker_post_others(struct worker *from, enum message_kind kind, uint64_t session,
                        uint32_t number);

/* The same from a thread without a worker. False if it could not be sent (the message is freed). */
bool worker_post_from_thread(struct worker *to, struct message *message);

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

static inline void worker_count(struct worker *worker, enum stats_item stat, uint64_t amount)
{
    worker->stats.value[stat] += amount;
}

#endif
