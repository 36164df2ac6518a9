/* client_key: who a client is, for tables: the identity that it chose, and the token that it
 * showed. */
#ifndef CULVERT_SERVER_CLIENT_KEY_H
#define CULVERT_SERVER_CLIENT_KEY_H

#include "core/base/hash.h"
#include "core/wire/frame.h"

#include <stdbool.h>
#include <stdint.h>

struct client_key {
    uint32_t token;
    uint8_t size; /* 0: it has no identity, and equals nobody */
    uint8_t bytes[FRAME_CLIENT_MAX];
};

bool client_key_equal(const struct client_key *a, const struct client_key *b);

/* `more`: what else belongs to the key. */
uint64_t client_key_hash(const struct client_key *client, uint16_t more,
                         const struct hash_key *key);

#endif
