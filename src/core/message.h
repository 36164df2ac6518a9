/*
 * message: what workers and other threads tell each other. Messages are allocated by the sender and
 * freed by the receiver; they are part of the control plane, never of the data path. The pointer
 * travels as the user_data of a ring message.
 */
#ifndef CULVERT_CORE_MESSAGE_H
#define CULVERT_CORE_MESSAGE_H

#include "core/frame.h"
#include "core/list.h"

#include <stdint.h>

struct crypt;

enum message_kind {
    MESSAGE_STOP,     /* number: enum worker_stop_how */
    MESSAGE_DRAINED,  /* to worker 0: the sender's last stream is gone */
    MESSAGE_SNAPSHOT, /* print the counters to stderr */
    /* server: fd of a joined lane that belongs to this worker; session, number = lane */
    MESSAGE_LANE,
    /* server: the same for a lane that comes back; count = what its client has received */
    MESSAGE_RESUME,
    /* server: fd of a visitor whose session has its lanes on this worker; number = tunnel */
    MESSAGE_VISITOR,
    MESSAGE_TUNNEL,        /* server: session has a new tunnel, number */
    MESSAGE_SESSION_END,   /* both: session is over, number = enum reason */
    MESSAGE_SESSION_DRAIN, /* server: session's client says GOAWAY: no more visitors */
    MESSAGE_BIND_AGAIN,    /* server: a BIND of the session that waits may go on */
    MESSAGE_DIAL,          /* client: dial lane `number` of the session */
    MESSAGE_NETWORK,       /* client: the network of this machine has changed */
    MESSAGE_ANSWER,        /* client: number: 1 if a human trusts the server's key */
    MESSAGE_RESOLVED,      /* client: pointer: struct resolve_result, number: what for */
};

struct message {
    struct list node; /* message.c */
    uint32_t posted;
    enum message_kind kind;
    uint64_t session;
    uint32_t number;
    uint64_t count;
    int fd;
    void *pointer;                    /* from malloc, or NULL; goes with the message */
    void *secret;                     /* from secret_alloc, or NULL; goes with the message */
    struct crypt *crypt;              /* MESSAGE_LANE: of the lane, NULL if it is plain */
    uint8_t answer[FRAME_PROOF_SIZE]; /* MESSAGE_LANE, MESSAGE_RESUME: the proof of JOIN_OK */
};

/* Never NULL: out of memory for a control message of some 50 bytes ends the process. Any thread. */
struct message *message_new(enum message_kind kind);
void message_free(struct message *message);

/* The same where its maker can do without: NULL when out of memory. */
struct message *message_try(enum message_kind kind);

/* When all workers have ended: frees what none of them took, and closes its descriptors. */
void message_free_all(void);

#endif
