/*
 * message: what workers and other threads tell each other. Messages are allocated by the sender and
 * freed by the receiver; they are part of the control plane, never of the data path. The pointer
 * travels as the user_data of a ring message.
 */
#ifndef CULVERT_CORE_RUN_MESSAGE_H
#define CULVERT_CORE_RUN_MESSAGE_H

#include "core/base/list.h"
#include "core/mux/conn.h"
#include "core/wire/frame.h"

#include <stdint.h>

struct message;
struct worker;

/* What a message is about: a constant of whoever takes it. */
struct message_type {
    const char *name; /* for dumps */
    /* In the thread of the worker that it was sent to, which frees it afterwards: a connection is
     * the callee's, pointer and secret go with the message. */
    void (*arrived)(struct worker *worker, struct message *message);
};

struct message {
    struct list node; /* message.c */
    uint32_t posted;
    const struct message_type *type;
    uint64_t session;
    uint32_t number;
    uint64_t count;
    struct conn_loose loose; /* a lane's connection, or a visitor's */
    void *pointer;           /* from malloc, or NULL; goes with the message */
    void *secret;            /* from secret_alloc, or NULL; goes with the message */
    void *held;              /* of somebody who counts it: the callee's, or taken back by ... */
    void (*dropped)(struct message *message); /* ... this, in any thread, if no worker takes it */
    uint8_t answer[FRAME_PROOF_SIZE];         /* the proof of JOIN_OK */
};

/* Never NULL: out of memory for a control message of some 50 bytes ends the process. Any thread. */
struct message *message_new(const struct message_type *type);
void message_free(struct message *message);

/* The same where its maker can do without: NULL when out of memory. */
struct message *message_try(const struct message_type *type);

/* Frees one that no worker takes: its ring does not run yet, or has stopped. Descriptor and crypt
 * are the caller's to close. */
void message_drop(struct message *message);

/* When all workers have ended: drops what none of them took, and closes its descriptors. */
void message_free_all(void);

#endif
