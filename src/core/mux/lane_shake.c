/*
 * lane_shake: what a lane makes of its connection's TLS (conn_crypt.c): whose turn a step of a
 * handshake is, who is told, when frames flow, and what becomes of a lane whose TLS fails.
 *
 * A storm of handshakes must not starve the streams: the worker calls lane_shake for one lane at a
 * time. Strangers take turns by address (strangers.h), the others stand in table->shaking.
 */
#include "core/base/log.h"
#include "core/mux/conn.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

#include <string.h>

/* Another connection has other keys: a lane that can be resumed is. */
void lane_tls_failed(struct lane *lane)
{
    char why[512];

    strncpy(why, crypt_why(lane->conn.crypt), sizeof(why) - 1);
    why[sizeof(why) - 1] = '\0';
    if (!lane_freeze(lane, REASON_TLS_FAILED, why))
        lane_finish(lane, REASON_TLS_FAILED, why);
}

void lane_shake_due(struct lane *lane)
{
    struct lane_table *table = lane->table;

    CHECK(lane->state == LANE_TLS);
    if (list_linked(&lane->stranger.step_node))
        return;
    if (lane->stranger.address != NULL)
        strangers_due(&table->strangers, &lane->stranger);
    else
        list_append(&table->shaking, &lane->stranger.step_node);
}

void lane_shake_begin(struct lane *lane)
{
    lane_set_state(lane, LANE_TLS);
    if (lane->conn.phase != CONN_SNIFFS)
        lane_shake_due(lane);
}

/* A client's first connection; the others are like it, and a server says it with the log-in. */
static void shake_log(const struct lane *lane)
{
    bool first = !lane->table->role->opens_streams && lane->kind == SESSION_LANE_PRIMARY;

    if (first)
        log_at(LOG_INFO, lane_subject(lane), "%s", crypt_summary(lane->conn.crypt));
    else
        log_at(LOG_DEBUG, lane_subject(lane), "%s", crypt_summary(lane->conn.crypt));
}

/* The engines are chosen, or one of them is not yet. False: the lane ends. */
static bool shake_offloaded(struct lane *lane, bool good)
{
    if (!good)
        lane_tls_failed(lane);
    else if (!crypt_offload_due(lane->conn.crypt))
        shake_log(lane);
    return good;
}

bool lane_offload(struct lane *lane)
{
    return !conn_offload_waits(&lane->conn) || shake_offloaded(lane, conn_offload(&lane->conn));
}

/* The handshake is over and its bytes have left: let frames flow. */
void lane_shake_finish(struct lane *lane)
{
    struct loop *loop = lane->loop;
    struct lane_table *table = lane->table;

    if (!shake_offloaded(lane, conn_begin_sealed(&lane->conn)))
        return;
    lane_set_state(lane, LANE_OPEN);
    /* A human may have been asked meanwhile; a stranger gets no more time. */
    if (!table->role->opens_streams)
        timer_set(&loop->timers, &lane->timer, loop->now + loop->config->handshake_timeout);
    if (table->role->lane_connected != NULL)
        table->role->lane_connected(lane, 0);
    if (lane->state == LANE_OPEN &&
        lane->conn.raw.parsed < lane->conn.raw.filled) /* behind the handshake */
        lane_arrive(lane);
    lane_mark(lane);
}

static void shake_stepped(struct lane *lane, enum conn_step step)
{
    lane_mark(lane);
    switch (step) {
    case CONN_STEP_WAITS:
        break;
    case CONN_STEP_ASKS:
        timer_stop(&lane->timer); /* a human may take longer */
        lane->table->role->lane_asks(lane, crypt_question(lane->conn.crypt));
        break;
    case CONN_STEP_DONE:
        if (conn_is_through(&lane->conn))
            lane_shake_finish(lane);
        break;
    case CONN_STEP_FAILED:
        lane_tls_failed(lane);
        break;
    case CONN_STEP_STARVED:
        lane_finish(lane, REASON_LIMIT_BUFFERS, NULL);
        break;
    }
}

void lane_shake(struct lane *lane)
{
    CHECK(lane->state == LANE_TLS);
    shake_stepped(lane, conn_shake(&lane->conn));
}

void lane_answer(struct lane *lane, bool accept)
{
    struct loop *loop = lane->loop;

    if (lane->state != LANE_TLS || lane->conn.phase != CONN_ASKS)
        return;
    timer_set(&loop->timers, &lane->timer, loop->now + loop->config->handshake_timeout);
    shake_stepped(lane, conn_answer(&lane->conn, accept));
}
