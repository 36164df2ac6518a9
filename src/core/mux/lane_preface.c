/*
 * lane_preface: the frames with which a connection begins (conn_preface.c), as its lane sees them:
 * they are not counted, and nothing is said where they cannot be.
 *
 * A server may read JOIN before it knows that HELLO_OK has left. The connection can be handed over
 * only when nothing is on its way through it: the lane awaits that (awaits_out), and reads nothing
 * meanwhile.
 */
#include "core/mux/conn.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The lane's bytes begin behind the frame that was just read. */
static void preface_count(struct lane *lane)
{
    CHECK(lane->stream_count == 0 && lane->kept.count == 0 && !lane->kept.fences[0].stands);
    lane->rx_bytes = lane->rx.filled - lane->rx.parsed;
    lane->kept.told = 0;
}

static void preface_no_nonce(struct lane *lane)
{
    char text[128];

    snprintf(text, sizeof(text), "the kernel gives no random bytes (getrandom): %s",
             strerror(errno));
    lane_close(lane, REASON_LIMIT_BUFFERS, text);
}

void lane_say_hello(struct lane *lane, struct frame_hello *hello)
{
    CHECK(lane->state == LANE_OPEN);
    if (conn_say_hello(&lane->conn, hello))
        lane_mark(lane);
    else
        preface_no_nonce(lane);
}

void lane_greeted(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    conn_greeted(&lane->conn, src, end);
    preface_count(lane);
}

void lane_greet(struct lane *lane, const uint8_t *src, const uint8_t *end)
{
    CHECK(lane->state == LANE_OPEN);
    if (!conn_greet(&lane->conn, src, end)) {
        preface_no_nonce(lane);
        return;
    }
    preface_count(lane);
    lane_mark(lane);
}

void lane_say_join(struct lane *lane, const struct frame_join *join)
{
    CHECK(lane->state == LANE_OPEN);
    conn_say_join(&lane->conn, join);
    lane_mark(lane);
}

void lane_joined(struct lane *lane)
{
    preface_count(lane); /* JOIN_OK is not counted */
}

void lane_say_join_ok(struct lane *lane, const uint8_t answer[FRAME_PROOF_SIZE])
{
    struct frame_join_ok ok = { .lane = lane->index, .rx_bytes = lane->rx_bytes };

    CHECK(lane->state == LANE_OPEN);
    memcpy(ok.proof, answer, sizeof(ok.proof));
    lane->rx_acked = lane->rx_bytes;
    conn_say_join_ok(&lane->conn, &ok);
    lane_mark(lane);
}

void lane_join_ok(struct lane *lane, const uint8_t answer[FRAME_PROOF_SIZE])
{
    preface_count(lane); /* JOIN is not counted */
    CHECK(!lane->retain.keeps && !lane->conn.send_flight);
    lane->retain.sent = 0; /* nor is what was said before it, like PONG */
    lane_say_join_ok(lane, answer);
}
