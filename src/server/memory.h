/*
 * memory: the ports that sessions had which are gone, so that a client which comes back finds them.
 *
 * Known by the client and the index of the tunnel. The oldest of MEMORY_COUNT is forgotten first.
 * Kept by the registry under its mutex.
 */
#ifndef CULVERT_SERVER_MEMORY_H
#define CULVERT_SERVER_MEMORY_H

#include "core/base/chain.h"
#include "server/client_key.h"

#include <stdbool.h>
#include <stdint.h>

#define MEMORY_COUNT 4096u

struct memory_item {
    struct client_key client; /* size 0: unused */
    uint16_t index, port;
};

struct memory {
    struct memory_item items[MEMORY_COUNT];
    struct hash_key key;
    struct chain chain; /* by client and index */
    uint32_t next;      /* the oldest, once all are used */
};

bool memory_open(struct memory *memory, const struct hash_key *key);
void memory_close(struct memory *memory);

/* What the client had for tunnel `index`; 0: not known. */
uint16_t memory_recall(struct memory *memory, const struct client_key *client, uint16_t index);

/* Nothing for a client without identity. */
void memory_note(struct memory *memory, const struct client_key *client, uint16_t index,
                 uint16_t port);

#endif
