/*
 * fake_tap: who reads the network.
 *
 * Every byte that either end writes to a connection of the tapped port is looked at, at the moment
 * it is written and before anything befalls it on the way. In a TLS run all of them must be
 * records, one behind the other (crypt_fake.c; the last one may be cut). No known secret may stand
 * among them, at whatever place, nor across two writes. Secrets are what a test names, keys of
 * tokens and secrets of sessions as they are made (crypt_fake.c), and under TLS what getrandom(2)
 * gave (random_fake.c), of which a plain v2 run says the nonces aloud. In a run without a tap they
 * are noted and not looked for.
 *
 * The search costs one look into a table of the secrets' first two bytes for each byte.
 */
#include "fake/fake_impl.h"

#include <stdlib.h>

#define HEADER      5u
#define RECORD_MOST (16384u + 256u) /* RFC 8446, 5.2 */

struct secret {
    uint8_t bytes[FAKE_SECRET_MOST];
    size_t size;
    bool sealed_only;
};

static struct {
    uint16_t port;
    bool sealed;
    struct secret *secrets;
    size_t count, room;
    bool begins[65536]; /* by the first two bytes */
} tap;

void fake_tap(uint16_t port, bool sealed)
{
    tap.port = port;
    tap.sealed = sealed;
}

bool fake_is_tapped(uint16_t port)
{
    return tap.port != 0 && tap.port == port;
}

void fake_tap_reset(void)
{
    for (size_t i = 0; i < tap.count; i++)
        tap.begins[tap.secrets[i].bytes[0] << 8 | tap.secrets[i].bytes[1]] = false;
    free(tap.secrets);
    tap.secrets = NULL;
    tap.count = tap.room = 0;
    tap.port = 0;
}

static void note(const void *data, size_t size, bool sealed_only)
{
    CHECK(size >= FAKE_SECRET_LEAST && size <= FAKE_SECRET_MOST);
    if (tap.count == tap.room) {
        tap.room = tap.room == 0 ? 16 : 2 * tap.room;
        tap.secrets = realloc(tap.secrets, tap.room * sizeof(tap.secrets[0]));
        CHECK(tap.secrets != NULL);
    }
    struct secret *s = &tap.secrets[tap.count++];
    s->size = size;
    s->sealed_only = sealed_only;
    memcpy(s->bytes, data, size);
    tap.begins[s->bytes[0] << 8 | s->bytes[1]] = true;
}

void fake_secret(const void *data, size_t size)
{
    note(data, size, false);
}

void fake_random_secret(const void *data, size_t size)
{
    note(data, size, true);
}

/* Secrets */

static void check_none_here(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < tap.count; i++)
        CHECK(tap.secrets[i].size > size || (tap.secrets[i].sealed_only && !tap.sealed) ||
              memcmp(tap.secrets[i].bytes, data, tap.secrets[i].size) != 0); /* in the clear */
}

static void search(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + FAKE_SECRET_LEAST <= size; i++)
        if (tap.begins[data[i] << 8 | data[i + 1]])
            check_none_here(data + i, size - i);
}

/* What a secret that began in an earlier write would end in. */
static void search_seam(struct fake_tapped *t, const uint8_t *data, size_t size)
{
    uint8_t seam[2 * FAKE_SECRET_MOST];
    size_t n = min_size(size, FAKE_SECRET_MOST);

    memcpy(seam, t->tail, t->tail_size);
    memcpy(seam + t->tail_size, data, n);
    search(seam, t->tail_size + n);
    size_t keep = min_size(t->tail_size + n, FAKE_SECRET_MOST - 1);
    if (size > n)
        memcpy(t->tail, data + size - keep, keep);
    else
        memmove(t->tail, seam + t->tail_size + n - keep, keep);
    t->tail_size = keep;
}

/* Records */

/* As early as can be: of a header that is never finished, too. */
static void check_header(struct fake_tapped *t, unsigned at, uint8_t byte)
{
    if (at == 0)
        CHECK(byte >= 21 && byte <= 23); /* alert, handshake, data: not a plain byte */
    else if (at < 3)
        CHECK(byte == 3);
    else
        t->left = t->left << 8 | byte;
    CHECK(at < HEADER - 1 || (t->left > 0 && t->left <= RECORD_MOST));
}

static void parse(struct fake_pipe *p, const uint8_t *data, size_t size)
{
    struct fake_tapped *t = &p->tapped;

    for (size_t at = 0; at < size;) {
        if (t->have == HEADER) {
            size_t n = min_size(t->left, size - at);
            t->left -= n;
            at += n;
            t->have = t->left == 0 ? 0 : HEADER;
            continue;
        }
        if (t->have == 0)
            fake_record_begins(p, p->written + at);
        check_header(t, t->have++, data[at++]);
    }
}

void fake_tap_bytes(struct fake_pipe *p, const uint8_t *data, size_t size)
{
    if (!p->tapped.on)
        return;
    search(data, size);
    search_seam(&p->tapped, data, size);
    if (tap.sealed)
        parse(p, data, size);
}
