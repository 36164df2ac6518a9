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
#include "core/crypt.h"
#include "core/lane.h"
#include "core/lane_impl.h"
#include "core/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

void lane_preface_drop(struct lane *lane)
{
    explicit_bzero(lane->preface, sizeof(lane->preface));
    lane->preface_sent = lane->preface_size = 0;
}

static void preface_end(struct lane *lane, const uint8_t *end)
{
    CHECK(lane->state == LANE_OPEN && lane->preface_size == 0); /* one at a time */
    lane->preface_sent = 0;
    lane->preface_size = (uint32_t)(end - lane->preface);
    CHECK(lane->preface_size <= sizeof(lane->preface));
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
    const uint8_t *end = frame_put_hello(FRAME_V2, lane->preface, hello);
    scram_begin(lane->transcript, lane->preface + FRAME_V2_HEADER, end);
    lane->said = lane->worker->now;
    preface_end(lane, end);
}

void lane_greeted(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    scram_go_on(lane->transcript, src, end);
    preface_count(lane);
}

void lane_greet(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    uint8_t nonce[FRAME_NONCE_SIZE];
    struct frame_hello_ok ok = { .nonce = nonce };

    if (!preface_nonce(lane, nonce))
        return;
    scram_begin(lane->transcript, src, end);
    const uint8_t *stop = frame_put_hello_ok(FRAME_V2, lane->preface, &ok);
    scram_go_on(lane->transcript, lane->preface + FRAME_V2_HEADER, stop);
    preface_count(lane);
    preface_end(lane, stop);
}

void lane_channel(const struct lane *lane, struct scram_channel *channel)
{
    memset(channel, 0, sizeof(*channel));
    memcpy(channel->transcript, lane->transcript, sizeof(channel->transcript));
    channel->bound = lane->tls ? FRAME_BOUND_EXPORTER : FRAME_BOUND_NOT;
    if (lane->tls)
        crypt_exporter(lane->crypt, channel->exporter);
}

void lane_say_join(struct lane *lane, const struct frame_join *join)
{
    preface_end(lane, frame_put_join(lane->preface, join));
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
    preface_end(lane, frame_put_join_ok(lane->preface, &ok));
}

void lane_join_ok(struct lane *lane, const uint8_t answer[FRAME_PROOF_SIZE])
{
    preface_count(lane); /* JOIN is not counted */
    CHECK(!lane->logs && !lane->send_flight);
    lane->tx_bytes = 0; /* nor is what was said before it, like PONG */
    memcpy(lane->answer, answer, sizeof(lane->answer));
    lane_say_join_ok(lane);
}
