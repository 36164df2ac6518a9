/*
 * lane_preface: the frames with which a connection of a v2 lane begins.
 *
 *     HELLO --> <-- HELLO_OK     on every connection: two nonces
 *     JOIN  --> <-- JOIN_OK      on one that joins a session, or brings a lane back
 *
 * They are not part of the lane's bytes (docs/PROTOCOL.md, section 8): a connection may end between
 * them, and the next one begins with its own. So they wait in `preface`, one at a time, and leave
 * before anything else, in a record of their own; what they say, each side hashes into the
 * transcript to which its proofs are bound (scram.h).
 *
 * A server may read JOIN before it knows that HELLO_OK has left. The connection can be handed over
 * only when nothing is on its way through it: the lane awaits that (awaits_out), and reads nothing
 * meanwhile.
 */
#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

void lane_preface_drop(struct lane *lane)
{
    explicit_bzero(lane->conn.preface, sizeof(lane->conn.preface));
    lane->conn.preface_sent = lane->conn.preface_size = 0;
}

static void preface_end(struct lane *lane, const uint8_t *end)
{
    CHECK(lane->state == LANE_OPEN && lane->conn.preface_size == 0); /* one at a time */
    lane->conn.preface_sent = 0;
    lane->conn.preface_size = (uint32_t)(end - lane->conn.preface);
    CHECK(lane->conn.preface_size <= sizeof(lane->conn.preface));
    lane_mark(lane);
}

/* random(4): up to 256 bytes are never cut short. A system call filter may refuse it. */
static bool preface_nonce(struct lane *lane, uint8_t nonce[FRAME_NONCE_SIZE])
{
    char text[128];

    if (getrandom(nonce, FRAME_NONCE_SIZE, 0) == (ssize_t)FRAME_NONCE_SIZE)
        return true;
    snprintf(text, sizeof(text), "the kernel gives no random bytes (getrandom): %s",
             strerror(errno));
    lane_close(lane, REASON_LIMIT_BUFFERS, text);
    return false;
}

/* The lane's bytes begin behind the frame that was just read. */
static void preface_count(struct lane *lane)
{
    lane->rx_bytes = lane->rx.filled - lane->rx.parsed;
    lane->kept.told = 0;
}

void lane_say_hello(struct lane *lane, struct frame_hello *hello)
{
    uint8_t nonce[FRAME_NONCE_SIZE];

    if (!preface_nonce(lane, nonce))
        return;
    hello->nonce = nonce;
    const uint8_t *end = frame_put_hello(FRAME_V2, lane->conn.preface, hello);
    scram_begin(lane->conn.transcript, lane->conn.preface + FRAME_V2_HEADER, end);
    lane->conn.said = lane->loop->now;
    preface_end(lane, end);
}

void lane_greeted(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    scram_go_on(lane->conn.transcript, src, end);
    preface_count(lane);
}

void lane_greet(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    uint8_t nonce[FRAME_NONCE_SIZE];
    struct frame_hello_ok ok = { .nonce = nonce };

    if (!preface_nonce(lane, nonce))
        return;
    scram_begin(lane->conn.transcript, src, end);
    const uint8_t *stop = frame_put_hello_ok(FRAME_V2, lane->conn.preface, &ok);
    scram_go_on(lane->conn.transcript, lane->conn.preface + FRAME_V2_HEADER, stop);
    preface_count(lane);
    preface_end(lane, stop);
}

void lane_channel(const struct lane *lane, struct scram_channel *channel)
{
    memset(channel, 0, sizeof(*channel));
    memcpy(channel->transcript, lane->conn.transcript, sizeof(channel->transcript));
    channel->bound = lane->conn.tls ? FRAME_BOUND_EXPORTER : FRAME_BOUND_NOT;
    if (lane->conn.tls)
        crypt_exporter(lane->conn.crypt, channel->exporter);
}

void lane_say_join(struct lane *lane, const struct frame_join *join)
{
    preface_end(lane, frame_put_join(lane->conn.preface, join));
}

void lane_joined(struct lane *lane)
{
    preface_count(lane); /* JOIN_OK is not counted */
}

void lane_say_join_ok(struct lane *lane)
{
    struct frame_join_ok ok = { .lane = lane->index, .rx_bytes = lane->rx_bytes };

    memcpy(ok.proof, lane->answer, sizeof(ok.proof));
    lane->rx_acked = lane->rx_bytes;
    preface_end(lane, frame_put_join_ok(lane->conn.preface, &ok));
}

void lane_join_ok(struct lane *lane, const uint8_t answer[FRAME_PROOF_SIZE])
{
    preface_count(lane); /* JOIN is not counted */
    CHECK(!lane->retain.keeps && !lane->conn.send_flight);
    lane->retain.sent = 0; /* nor is what was said before it, like PONG */
    memcpy(lane->answer, answer, sizeof(lane->answer));
    lane_say_join_ok(lane);
}
