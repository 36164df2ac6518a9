/* endpoint: see endpoint.h. */
#include "sim/endpoint.h"

#include "core/base/base.h"
#include "core/base/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define STEP_ROOM 65536u

static struct endpoint *all[ENDPOINT_MAX];
static unsigned count;

void endpoints_reset(void)
{
    for (unsigned i = 0; i < count; i++)
        free(all[i]);
    count = 0;
}

unsigned endpoint_count(void)
{
    return count;
}

struct endpoint *endpoint_at(unsigned i)
{
    CHECK(i < count);
    return all[i];
}

struct endpoint *endpoint_find(uint64_t id)
{
    return id >= 1 && id <= count ? all[id - 1] : NULL;
}

struct endpoint *endpoint_of_connection(uint64_t connection)
{
    for (unsigned i = 0; i < count; i++) {
        struct endpoint *e = all[i];

        if (e->connection == 0 && e->end == ENDPOINT_OPEN)
            e->connection = fake_connection(e->fd);
        if (e->connection == connection)
            return e;
    }
    return NULL;
}

bool endpoints_ended(void)
{
    for (unsigned i = 0; i < count; i++)
        if (all[i]->end == ENDPOINT_OPEN)
            return false;
    return true;
}

void endpoint_blame(struct endpoint *e, const char *why)
{
    if (!e->blamed)
        fake_trace("endpoint %llu: blamed: %s", (unsigned long long)e->id, why);
    e->blamed = true;
    e->blame = e->blame == NULL ? why : e->blame;
}

void endpoint_print(const struct endpoint *e)
{
    static const char *const ends[] = { "open", "well", "refused", "died", "left" };

    fprintf(stderr,
            "  %s %llu%s fd %d: %s, sent %llu of %llu%s, received %llu%s, peer %llu%s%s%s\n",
            e->visitor ? "visitor" : "origin", (unsigned long long)e->id, e->echo ? " (echo)" : "",
            e->fd, ends[e->end], (unsigned long long)e->sent, (unsigned long long)e->plan.total,
            e->fin_sent ? " and FIN" : "", (unsigned long long)e->received,
            e->eof ? " and FIN" : "", (unsigned long long)e->peer, e->blamed ? ", blamed: " : "",
            e->blamed ? e->blame : "", e->plan.never_reads ? ", never reads" : "");
}

/* What is sent */

static uint8_t pattern_at(uint64_t id, uint64_t position)
{
    return (uint8_t)(fake_mix(id << 40 ^ position / 8) >> position % 8 * 8);
}

static void pattern_fill(uint64_t id, uint64_t position, uint8_t *out, size_t size)
{
    for (size_t i = 0; i < size;) {
        uint64_t at = position + i;

        if (at < ENDPOINT_ID_SIZE) {
            out[i++] = (uint8_t)(id >> at * 8);
        } else if (at % 8 == 0 && size - i >= 8) {
            uint64_t word = fake_mix(id << 40 ^ at / 8);
            memcpy(out + i, &word, 8);
            i += 8;
        } else {
            out[i++] = pattern_at(id, at);
        }
    }
}

static void learn_peer(struct endpoint *e)
{
    uint64_t id = 0;

    for (unsigned i = 0; i < ENDPOINT_ID_SIZE; i++)
        id |= (uint64_t)e->head[i] << i * 8;
    struct endpoint *peer = endpoint_find(id);
    CHECK(peer != NULL); /* what came is not what anybody sent */
    CHECK(e->echo ? peer == e : peer->visitor != e->visitor);
    CHECK(e->peer == 0 || e->peer == id);
    CHECK(peer->peer == 0 || peer->peer == e->id); /* two streams were mixed up */
    e->peer = id;
    peer->peer = e->id;
    if (e->plan.as_asked)
        e->plan.total = peer->plan.asks;
}

static void verify(struct endpoint *e, const uint8_t *data, size_t size)
{
    static uint8_t expected[STEP_ROOM];

    for (; size > 0 && e->received < ENDPOINT_ID_SIZE; size--) {
        e->head[e->received++] = *data++;
        if (e->received == ENDPOINT_ID_SIZE)
            learn_peer(e);
    }
    if (size == 0)
        return;
    pattern_fill(e->peer, e->received, expected, size);
    CHECK(memcmp(expected, data, size) == 0); /* a wrong byte */
    e->received += size;
    CHECK(e->received <= endpoint_find(e->peer)->sent);
}

/* Ends */

static void finish(struct endpoint *e, enum endpoint_end end, bool reset)
{
    if (fake_tracing())
        endpoint_print(e);
    e->connection = fake_connection(e->fd);
    e->end = end;
    e->ended_at = fake_now();
    fake_event_stop(&e->event);
    fake_end(e->fd, reset);
}

void endpoint_leave(struct endpoint *e)
{
    endpoint_blame(e, "left by RST");
    finish(e, ENDPOINT_LEFT, true);
}

/* Steps */

static void wake_in(struct endpoint *e, uint64_t delay)
{
    uint64_t at = fake_now() + delay;

    if (e->event.place == 0 || e->event.at > at)
        fake_event_set(&e->event, at);
}

static size_t step_size(const struct endpoint *e)
{
    return (size_t)min_u64(fake_random_between(fake_random(), 1, e->plan.step_max), STEP_ROOM);
}

/* True if bytes were read. */
static bool step_read(struct endpoint *e)
{
    static uint8_t data[STEP_ROOM];

    if (e->eof || e->plan.never_reads)
        return false;
    ssize_t n = fake_read(e->fd, data, step_size(e));
    if (n == -EAGAIN)
        return false;
    if (n < 0) {
        finish(e, ENDPOINT_DIED, false);
        return false;
    }
    if (n == 0)
        e->eof = true;
    else
        verify(e, data, (size_t)n);
    return true;
}

static bool has_all(const struct endpoint *e)
{
    return e->eof || (e->peer != 0 && e->received == endpoint_find(e->peer)->plan.total);
}

static void send_fin(struct endpoint *e)
{
    if ((e->plan.wait_for_end && !e->eof) || (e->plan.wait_for_all && !has_all(e)))
        return;
    if (e->fin_due == 0)
        e->fin_due = fake_now() + e->plan.fin_delay;
    if (fake_now() < e->fin_due) {
        wake_in(e, e->fin_due - fake_now());
        return;
    }
    e->fin_sent = true;
    fake_shutdown(e->fd);
}

static bool step_write(struct endpoint *e)
{
    static uint8_t data[STEP_ROOM];

    if (fake_now() < e->begins) {
        wake_in(e, e->begins - fake_now());
        return false;
    }
    if (e->plan.as_asked && e->peer == 0 && !e->eof)
        return false;
    size_t n = (size_t)min_u64(step_size(e), e->plan.total - e->sent);
    if (n == 0) {
        if (!e->fin_sent)
            send_fin(e);
        return false;
    }
    pattern_fill(e->id, e->sent, data, n);
    ssize_t done = fake_write(e->fd, data, n);
    if (done < 0) {
        finish(e, ENDPOINT_DIED, false);
        return false;
    }
    e->sent += (uint64_t)done;
    return done > 0;
}

/* True while the plan says to do nothing. */
static bool pausing(struct endpoint *e)
{
    uint64_t moved = e->sent + e->received;

    if (moved >= e->plan.reset_at) {
        endpoint_leave(e);
        return true;
    }
    if (!e->paused && moved >= e->plan.pause_at) {
        e->paused = true;
        e->pause_until = fake_now() + e->plan.pause;
    }
    if (fake_now() >= e->pause_until)
        return false;
    wake_in(e, e->pause_until - fake_now());
    return true;
}

static void begin(struct endpoint *e)
{
    e->connected = true;
    e->connection = fake_connection(e->fd);
    e->begins = fake_now() + e->plan.start;
}

static bool out_of_patience(struct endpoint *e)
{
    if (!e->plan.never_reads)
        return false;
    if (fake_now() < e->begins + e->plan.patience) {
        wake_in(e, e->begins + e->plan.patience - fake_now());
        return false;
    }
    endpoint_leave(e);
    return true;
}

static void run(void *arg)
{
    struct endpoint *e = arg;

    if (e->end != ENDPOINT_OPEN)
        return;
    if (fake_state(e->fd) == FAKE_REFUSED) {
        finish(e, ENDPOINT_REFUSED, false);
        return;
    }
    if (fake_state(e->fd) == FAKE_CONNECTING)
        return;
    if (!e->connected)
        begin(e);
    if (pausing(e) || out_of_patience(e))
        return;
    bool moved = step_read(e);
    if (e->end == ENDPOINT_OPEN && !pausing(e))
        moved |= step_write(e);
    if (e->end != ENDPOINT_OPEN)
        return;
    if (e->fin_sent && e->eof)
        finish(e, ENDPOINT_WELL, false);
    else if (moved)
        wake_in(e, fake_random_between(fake_random(), 0, e->plan.think_max));
}

static struct endpoint *endpoint_new(int fd, const struct endpoint_plan *plan)
{
    struct endpoint *e = calloc(1, sizeof(*e));

    CHECK(e != NULL && count < ENDPOINT_MAX);
    CHECK(plan->total == 0 || plan->total >= ENDPOINT_ID_SIZE);
    all[count++] = e;
    e->id = count;
    e->fd = fd;
    e->plan = *plan;
    e->event.fn = run;
    e->event.arg = e;
    fake_watch(fd, run, e);
    return e;
}

struct endpoint *endpoint_dial(unsigned host, uint16_t port, const struct endpoint_plan *plan)
{
    struct endpoint *e = endpoint_new(fake_dial(host, port), plan);

    e->visitor = true;
    return e;
}

struct endpoint *endpoint_accept(int fd, const struct endpoint_plan *plan)
{
    struct endpoint *e = endpoint_new(fd, plan);

    wake_in(e, 0);
    return e;
}
