/* client_key: see client_key.h. */
#include "server/client_key.h"

#include "core/base/base.h"
#include "core/base/check.h"

bool client_key_equal(const struct client_key *a, const struct client_key *b)
{
    return a->size > 0 && a->size == b->size && a->token == b->token &&
           memcmp(a->bytes, b->bytes, a->size) == 0;
}

uint64_t client_key_hash(const struct client_key *client, uint16_t more, const struct hash_key *key)
{
    uint8_t text[sizeof(client->token) + sizeof(more) + FRAME_CLIENT_MAX];
    size_t head = sizeof(client->token) + sizeof(more);

    CHECK(client->size <= FRAME_CLIENT_MAX);
    memcpy(text, &client->token, sizeof(client->token));
    memcpy(text + sizeof(client->token), &more, sizeof(more));
    memcpy(text + head, client->bytes, client->size);
    return hash_bytes(key, text, head + client->size);
}
