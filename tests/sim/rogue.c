/* rogue: see rogue.h. */
#include "sim/rogue.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/wire/frame.h"
#include "core/wire/reason.h"
#include "core/mux/scram.h"
#include "fake/fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INPUT 65536u /* more than any frame that the server sends here, but DATA */
#define PIECE 16384u /* of DATA */
/* What waits for a lane: beyond it nothing more is said, and DATA not even begun. */
#define OUT_MOST  1048576u
#define DATA_MOST (64u * OUT_MOST)
#define WINDOW    65536u
#define AGAIN_NS  (200 * NSEC_PER_MSEC)
#define FLOOD     64u
#define RESETS    256u

/* A connection: lane 0, or one that joins. */
struct rogue_lane {
    struct rogue *rogue;
    unsigned index;
    int fd; /* -1: none */
    bool hello, up, deaf;
    unsigned opens;
    uint8_t transcript[SCRAM_KEY_SIZE];
    uint8_t in[INPUT];
    size_t filled;
    size_t skip; /* of the payload of DATA */
    uint8_t *out;
    size_t out_size, out_sent, out_room;
    struct fake_event flood;
};

struct rogue {
    struct rogue_plan plan;
    struct scram_keys keys;
    uint8_t client[16], secret[SCRAM_KEY_SIZE];
    uint64_t session;
    uint32_t window; /* of a visitor's stream */
    uint16_t ports[ROGUE_TUNNELS_MAX];
    unsigned bound, refusals;
    unsigned offered; /* lanes; 1: there is no session yet */
    struct rogue_lane *lanes[ROGUE_LANES_MAX];
    struct fake_event again, reset;
    struct rogue_reset {
        struct rogue_lane *lane;
        uint32_t stream;
        uint64_t due;
    } resets[RESETS]; /* a ring, in the order in which they are due */
    unsigned reset_first, reset_count;
};

static void lane_run(void *arg);

/* Saying */

static uint8_t *lane_say(struct rogue_lane *lane, size_t most)
{
    if (lane->out_sent == lane->out_size)
        lane->out_sent = lane->out_size = 0;
    if (lane->out_room < lane->out_size + most) {
        lane->out_room = 2 * (lane->out_size + most);
        lane->out = realloc(lane->out, lane->out_room);
        CHECK(lane->out != NULL);
    }
    return lane->out + lane->out_size;
}

static void lane_said(struct rogue_lane *lane, const uint8_t *end)
{
    lane->out_size = (size_t)(end - lane->out);
    CHECK(lane->out_size <= lane->out_room);
}

static void lane_flush(struct rogue_lane *lane)
{
    while (lane->fd >= 0 && lane->out_sent < lane->out_size) {
        ssize_t n =
            fake_write(lane->fd, lane->out + lane->out_sent, lane->out_size - lane->out_sent);

        if (n <= 0)
            return; /* an end is seen by the read */
        lane->out_sent += (size_t)n;
    }
}

static bool lane_chokes(const struct rogue_lane *lane)
{
    return lane->out_size - lane->out_sent > OUT_MOST;
}

static void say_hello(struct rogue_lane *lane)
{
    static const uint8_t nonce[FRAME_NONCE_SIZE] = "any number will do for a rogue";
    const struct rogue *r = lane->rogue;
    struct frame_hello hello = {
        .caps = r->plan.resumes ? FRAME_CAP_RESUME : 0,
        .workers = 1,
        .lanes = (uint16_t)r->plan.lanes,
        .window = WINDOW,
        .max_data = FRAME_PAYLOAD_MAX,
        .agent = frame_text_of("rogue"),
        .client = { .data = (const char *)r->client, .size = sizeof(r->client) },
        .nonce = nonce,
    };
    uint8_t *p = lane_say(lane, FRAME_CONTROL_MAX);

    const uint8_t *end = frame_put_hello(FRAME_V2, p, &hello);
    scram_begin(lane->transcript, p + FRAME_V2_HEADER, end);
    lane_said(lane, end);
}

static struct scram_channel channel_of(const struct rogue_lane *lane)
{
    struct scram_channel channel = { .bound = FRAME_BOUND_NOT };

    memcpy(channel.transcript, lane->transcript, sizeof(channel.transcript));
    return channel;
}

static void say_auth(struct rogue_lane *lane)
{
    struct rogue *r = lane->rogue;
    struct scram_channel channel = channel_of(lane);
    uint8_t proof[FRAME_PROOF_SIZE];

    scram_client_proof(&r->keys, &channel, proof);
    scram_client_session(&r->keys, &channel, r->secret);
    struct frame_auth auth = { .id = r->keys.verifier.id, .proof = proof };
    lane_said(lane, frame_put_auth(lane_say(lane, FRAME_CONTROL_MAX), &auth));
    for (unsigned i = 0; i < r->plan.tunnels; i++) {
        struct frame_bind bind = { .tunnel = (uint16_t)i };
        lane_said(lane, frame_put_bind(lane_say(lane, FRAME_CONTROL_MAX), &bind));
    }
}

static void say_join(struct rogue_lane *lane)
{
    struct scram_channel channel = channel_of(lane);
    struct frame_join join = { .session = lane->rogue->session, .lane = (uint16_t)lane->index };

    scram_join(lane->rogue->secret, &channel, &join, join.proof);
    lane_said(lane, frame_put_join(lane_say(lane, FRAME_CONTROL_MAX), &join));
}

static void say_ping(struct rogue_lane *lane)
{
    struct frame_ping ping = { .time = fake_now() };

    lane_said(lane, frame_put_ping(FRAME_V2, lane_say(lane, FRAME_CONTROL_MAX), &ping));
}

static void say_data(struct rogue_lane *lane, uint32_t stream, uint32_t size)
{
    while (size > 0) {
        uint32_t n = min_u32(size, PIECE);
        struct frame frame = { .kind = FRAME_DATA, .stream = stream, .length = n };
        uint8_t *p = frame_put(FRAME_V2, lane_say(lane, FRAME_V2_HEADER + n), &frame);

        memset(p, (int)stream, n);
        lane_said(lane, p + n);
        size -= n;
    }
}

/* Connections */

static void lane_free(struct rogue_lane *lane)
{
    fake_event_stop(&lane->flood);
    free(lane->out);
    free(lane);
}

static void lane_gone(struct rogue_lane *lane, bool reset)
{
    struct rogue *r = lane->rogue;

    fake_end(lane->fd, reset);
    r->lanes[lane->index] = NULL;
    for (unsigned i = 0; i < r->reset_count; i++) {
        struct rogue_reset *due = &r->resets[(r->reset_first + i) % RESETS];
        due->lane = due->lane == lane ? NULL : due->lane;
    }
    lane_free(lane);
}

static void leave_all(struct rogue *r, bool reset)
{
    for (unsigned i = 0; i < ROGUE_LANES_MAX; i++)
        if (r->lanes[i] != NULL)
            lane_gone(r->lanes[i], reset);
    r->session = r->bound = 0;
    r->offered = 1;
}

/* With a session that has ended all its lanes are gone. */
static void come_again(struct rogue_lane *lane)
{
    struct rogue *r = lane->rogue;

    if (lane->index == 0)
        leave_all(r, true);
    else
        lane_gone(lane, true);
    if (r->again.place == 0)
        fake_event_set(&r->again, fake_now() + AGAIN_NS);
}

static void flood_comes(void *arg)
{
    struct rogue_lane *lane = arg;

    for (unsigned i = 0; i < FLOOD && !lane_chokes(lane); i++)
        say_ping(lane);
    fake_event_set(&lane->flood, fake_now() + 20 * NSEC_PER_MSEC);
    lane_flush(lane);
}

static void lane_up(struct rogue_lane *lane)
{
    lane->up = true;
    if (lane->rogue->plan.floods)
        fake_event_set(&lane->flood, fake_now());
}

static void lane_dial(struct rogue *r, unsigned index)
{
    struct rogue_lane *lane = calloc(1, sizeof(*lane));

    CHECK(lane != NULL && r->lanes[index] == NULL);
    r->lanes[index] = lane;
    lane->rogue = r;
    lane->index = index;
    lane->flood.fn = flood_comes;
    lane->flood.arg = lane;
    lane->fd = fake_dial(r->plan.host, r->plan.port);
    fake_watch(lane->fd, lane_run, lane);
}

static void dial_missing(struct rogue *r)
{
    for (unsigned i = r->session != 0 ? 1 : 0; i < r->offered; i++)
        if (r->lanes[i] == NULL)
            lane_dial(r, i);
}

static void again_comes(void *arg)
{
    dial_missing(arg);
}

/* Hearing */

static void resets_come(void *arg)
{
    struct rogue *r = arg;

    while (r->reset_count > 0) {
        struct rogue_reset *due = &r->resets[r->reset_first];

        if (due->due > fake_now()) {
            fake_event_set(&r->reset, due->due);
            return;
        }
        r->reset_first = (r->reset_first + 1) % RESETS;
        r->reset_count--;
        if (due->lane == NULL || lane_chokes(due->lane))
            continue;
        uint8_t *p = lane_say(due->lane, FRAME_CONTROL_MAX);
        lane_said(due->lane, frame_put_reset(p, due->stream, reason_code(REASON_PEER_RESET)));
        lane_flush(due->lane);
    }
}

static void reset_later(struct rogue_lane *lane, uint32_t stream)
{
    struct rogue *r = lane->rogue;

    if (r->reset_count == RESETS)
        return;
    r->resets[(r->reset_first + r->reset_count++) % RESETS] = (struct rogue_reset){
        .lane = lane,
        .stream = stream,
        .due = fake_now() + r->plan.reset_after * NSEC_PER_MSEC,
    };
    if (r->reset.place == 0)
        fake_event_set(&r->reset, r->resets[r->reset_first].due);
}

static void rx_open(struct rogue_lane *lane, uint32_t stream)
{
    const struct rogue_plan *plan = &lane->rogue->plan;

    if (plan->credit > 0)
        lane_said(lane, frame_put_window(lane_say(lane, FRAME_CONTROL_MAX), stream, plan->credit));
    if (plan->fills && lane->out_size - lane->out_sent < DATA_MOST)
        say_data(lane, stream, lane->rogue->window);
    if (plan->reset_after > 0)
        reset_later(lane, stream);
    lane->deaf = ++lane->opens == plan->deaf_after;
}

static void rx_ping(struct rogue_lane *lane, const uint8_t *src, const uint8_t *end)
{
    struct frame_ping ping;

    CHECK(frame_get_ping(src, end, &ping));
    ping.rx_bytes = 0;
    if (!lane_chokes(lane))
        lane_said(lane, frame_put_pong(lane_say(lane, FRAME_CONTROL_MAX), &ping));
}

static void rx_auth_ok(struct rogue_lane *lane, const uint8_t *src, const uint8_t *end)
{
    struct rogue *r = lane->rogue;
    struct frame_auth_ok ok;

    CHECK(frame_get_auth_ok(src, end, &ok));
    r->session = ok.session;
    r->window = ok.window;
    r->offered = min_u32(r->plan.lanes, ok.lanes);
    dial_missing(r);
    lane_up(lane);
}

static void rx_hello_ok(struct rogue_lane *lane, const uint8_t *src, const uint8_t *end)
{
    scram_go_on(lane->transcript, src, end);
    if (lane->index == 0)
        say_auth(lane);
    else
        say_join(lane);
}

static void rx_bind_ok(struct rogue *r, const uint8_t *src, const uint8_t *end)
{
    struct frame_bind_ok ok;

    CHECK(frame_get_bind_ok(FRAME_V2, src, end, &ok) && r->bound < ROGUE_TUNNELS_MAX);
    r->ports[r->bound++] = ok.port;
}

static void handle(struct rogue_lane *lane, const struct frame *frame, const uint8_t *src,
                   const uint8_t *end)
{
    switch (frame->kind) {
    case FRAME_HELLO_OK:
        rx_hello_ok(lane, src, end);
        break;
    case FRAME_AUTH_OK:
        rx_auth_ok(lane, src, end);
        break;
    case FRAME_BIND_OK:
        rx_bind_ok(lane->rogue, src, end);
        break;
    case FRAME_JOIN_OK:
        lane_up(lane);
        break;
    case FRAME_OPEN:
        rx_open(lane, frame->stream);
        break;
    case FRAME_PING:
        rx_ping(lane, src, end);
        break;
    case FRAME_BIND_ERR:
    case FRAME_GOAWAY:
        lane->rogue->refusals++;
        break;
    default: /* it does not care */
        break;
    }
}

/* DATA is as long as it likes, and passes unread. */
static size_t skip_data(struct rogue_lane *lane, size_t at)
{
    size_t n = min_size(lane->skip, lane->filled - at);

    lane->skip -= n;
    return n;
}

static bool is_bulk(const struct frame *frame)
{
    return frame->kind == FRAME_DATA;
}

static void parse(struct rogue_lane *lane)
{
    struct frame frame;
    size_t at = 0;

    while (at < lane->filled) {
        at += skip_data(lane, at);
        const uint8_t *src = lane->in + at, *end = lane->in + lane->filled;
        enum frame_result result = frame_get(FRAME_V2, src, end, &frame);
        if (at == lane->filled || result == FRAME_NEED_MORE)
            break;
        CHECK(result == FRAME_OK);
        size_t body = is_bulk(&frame) ? 0 : frame.length;
        if ((size_t)(end - src) < FRAME_V2_HEADER + body)
            break;
        src += FRAME_V2_HEADER;
        lane->skip = frame.length - body;
        at += FRAME_V2_HEADER + body;
        handle(lane, &frame, src, src + body);
    }
    memmove(lane->in, lane->in + at, lane->filled - at);
    lane->filled -= at;
}

/* False: the connection is over. */
static bool hear(struct rogue_lane *lane)
{
    while (!lane->deaf) {
        ssize_t n = fake_read(lane->fd, lane->in + lane->filled, sizeof(lane->in) - lane->filled);

        if (n == -EAGAIN)
            return true;
        if (n <= 0)
            return false;
        lane->filled += (size_t)n;
        parse(lane);
        if (lane->rogue->plan.floods && lane->up && !lane_chokes(lane))
            say_ping(lane);
    }
    return true;
}

static void lane_run(void *arg)
{
    struct rogue_lane *lane = arg;
    struct rogue *r = lane->rogue;

    if (fake_state(lane->fd) == FAKE_CONNECTING)
        return;
    if (fake_state(lane->fd) == FAKE_CONNECTED && !lane->hello) {
        lane->hello = true;
        say_hello(lane);
    }
    bool lives = fake_state(lane->fd) == FAKE_CONNECTED && hear(lane);
    if (lives) {
        lane_flush(lane);
        return;
    }
    r->refusals += !lane->up;
    come_again(lane);
}

/* Life */

struct rogue *rogue_come(const struct rogue_plan *plan)
{
    struct rogue *r = calloc(1, sizeof(*r));

    CHECK(r != NULL && plan->tunnels <= ROGUE_TUNNELS_MAX && plan->lanes <= ROGUE_LANES_MAX);
    r->plan = *plan;
    scram_keys(&r->keys, plan->token, strlen(plan->token));
    for (unsigned i = 0; i < sizeof(r->client); i++)
        r->client[i] = (uint8_t)fake_random_between(fake_random(), 0, 255);
    r->again.fn = again_comes;
    r->again.arg = r;
    r->reset.fn = resets_come;
    r->reset.arg = r;
    r->offered = 1;
    dial_missing(r);
    return r;
}

static void say_goaway(struct rogue_lane *lane)
{
    struct frame_error error = { .code = reason_code(REASON_DONE), .text = frame_text_of("") };

    lane_said(lane, frame_put_goaway(FRAME_V2, lane_say(lane, FRAME_CONTROL_MAX), &error));
    lane_flush(lane);
}

void rogue_leave(struct rogue *r, bool politely)
{
    for (unsigned i = 0; politely && i < ROGUE_LANES_MAX; i++)
        if (r->lanes[i] != NULL && r->lanes[i]->up)
            say_goaway(r->lanes[i]);
    leave_all(r, !politely);
    fake_event_stop(&r->again);
    fake_event_stop(&r->reset);
    free(r);
}

unsigned rogue_ports(const struct rogue *r, uint16_t *ports, unsigned most)
{
    unsigned count = min_u32(r->bound, most);

    memcpy(ports, r->ports, count * sizeof(ports[0]));
    return count;
}

bool rogue_stands(const struct rogue *r)
{
    return r->bound > 0;
}

unsigned rogue_refusals(const struct rogue *r)
{
    return r->refusals;
}
