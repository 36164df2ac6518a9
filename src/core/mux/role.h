/*
 * role: what server and client do beside what they have in common: one const table of callbacks
 * each, called by lanes, streams, sessions and the worker. Nothing else of the engine asks which of
 * the two it is, but for opens_streams.
 */
#ifndef CULVERT_CORE_MUX_ROLE_H
#define CULVERT_CORE_MUX_ROLE_H

#include "core/wire/reason.h"

#include <stdbool.h>
#include <stdint.h>

struct frame;
struct lane;
struct session;
struct snapshot;
struct stream;
struct worker;

/* What a role does. Every function runs in the worker's thread; NULL where a role has nothing to
 * do. */
struct role {
    const char *name;
    bool opens_streams; /* the server: ids are made here, from slots */
    /* Before there are workers' threads: the snapshot that a worker begins with, and a reference to
     * it; NULL: there is none (core/run/snapshot.h). */
    struct snapshot *(*snapshot)(void);
    /* A TLS handshake (client) needs a human's word: lane_answer. */
    void (*lane_asks)(struct lane *lane, const char *pin);
    /* The worker is in its thread and its ring runs. 0, or an exit code after saying why, with
     * nothing left behind. Worker 0 comes last, when all others have started: what it says on
     * standard output is true of all. */
    int (*start)(struct worker *worker);
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
    /* Bulk has begun to move through pipes on this lane: what is small had better go elsewhere. */
    void (*lane_loaded)(struct lane *lane);
    /* Nothing comes back from the other end. */
    void (*lane_suspect)(struct lane *lane);
    /* The lane's slot is about to be free. */
    void (*lane_freed)(struct lane *lane);
    /* A stream's local connect ended (client): its fd's, or the one beside it. And: its timer says
     * that none has for a while. */
    void (*stream_connected)(struct stream *stream, bool beside, int res);
    void (*stream_late)(struct stream *stream);
    /* The session part is about to be freed; its lanes and listeners are closed. */
    void (*session_closed)(struct session *session, enum reason reason);
    /* Drain: accept nothing new, tell the peers. */
    void (*drain)(struct worker *worker);
    /* The worker stops: free what `state` has. */
    void (*stop)(struct worker *worker);
};

#endif
