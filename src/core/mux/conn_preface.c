/*
 * conn_preface: the frames with which a connection of a v2 lane begins.
 *
 *     HELLO --> <-- HELLO_OK     on every connection: two nonces
 *     JOIN  --> <-- JOIN_OK      on one that joins a session, or brings a lane back
 *
 * They are not part of the lane's bytes (docs/PROTOCOL.md, section 8): a connection may end between
 * them, and the next one begins with its own. So they wait in `preface`, one at a time, and leave
 * before anything else, in a record of their own: a peer whose buffers are kept by its log must be
 * able to read JOIN_OK in a small one. What they say, each side hashes into the transcript to which
 * its proofs are bound (scram.h).
 */
#include "core/mux/conn.h"
#include "core/mux/conn_impl.h"

#include <string.h>
#include <sys/random.h>

void conn_preface_drop(struct conn *conn)
{
    explicit_bzero(conn->preface, sizeof(conn->preface));
    conn->preface_sent = conn->preface_size = 0;
}

static void preface_end(struct conn *conn, const uint8_t *end)
{
    CHECK(conn->preface_size == 0 && conn->preface_sent == 0); /* one at a time */
    conn->preface_size = (uint32_t)(end - conn->preface);
    CHECK(conn->preface_size <= sizeof(conn->preface));
}

/* random(4): up to 256 bytes are never cut short. A system call filter may refuse it. */
static bool preface_nonce(uint8_t nonce[FRAME_NONCE_SIZE])
{
    return getrandom(nonce, FRAME_NONCE_SIZE, 0) == (ssize_t)FRAME_NONCE_SIZE;
}

bool conn_say_hello(struct conn *conn, struct frame_hello *hello)
{
    uint8_t nonce[FRAME_NONCE_SIZE];

    if (!preface_nonce(nonce))
        return false;
    hello->nonce = nonce;
    const uint8_t *end = frame_put_hello(FRAME_V2, conn->preface, hello);
    scram_begin(conn->transcript, conn->preface + FRAME_V2_HEADER, end);
    conn->said = conn->loop->now;
    preface_end(conn, end);
    return true;
}

void conn_greeted(struct conn *conn, const uint8_t *src, const uint8_t *end)
{
    scram_go_on(conn->transcript, src, end);
}

bool conn_greet(struct conn *conn, const uint8_t *src, const uint8_t *end)
{
    uint8_t nonce[FRAME_NONCE_SIZE];
    struct frame_hello_ok ok = { .nonce = nonce };

    if (!preface_nonce(nonce))
        return false;
    scram_begin(conn->transcript, src, end);
    const uint8_t *stop = frame_put_hello_ok(FRAME_V2, conn->preface, &ok);
    scram_go_on(conn->transcript, conn->preface + FRAME_V2_HEADER, stop);
    preface_end(conn, stop);
    return true;
}

void conn_say_join(struct conn *conn, const struct frame_join *join)
{
    conn->said = conn->loop->now;
    preface_end(conn, frame_put_join(conn->preface, join));
}

void conn_say_join_ok(struct conn *conn, const struct frame_join_ok *ok)
{
    preface_end(conn, frame_put_join_ok(conn->preface, ok));
}

void conn_channel(const struct conn *conn, struct scram_channel *channel)
{
    memset(channel, 0, sizeof(*channel));
    memcpy(channel->transcript, conn->transcript, sizeof(channel->transcript));
    channel->bound = conn_is_tls(conn) ? FRAME_BOUND_EXPORTER : FRAME_BOUND_NOT;
    if (conn_is_tls(conn))
        crypt_exporter(conn->crypt, channel->exporter);
}
