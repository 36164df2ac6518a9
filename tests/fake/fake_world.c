/*
 * fake_world: clock, events and chance of the simulated world.
 *
 * Events are in a binary heap ordered by time and, within one instant, by the order in which they
 * were set; so a run depends on the seed alone. The clock moves only in fake_step(), and only when
 * nothing is due and all rings are idle.
 */
#include "fake/fake_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct fake_limits fake_limits;

static struct {
    uint64_t now;
    uint64_t order;
    struct fake_random random;
    struct fake_options options;
    struct fake_event **heap; /* heap[1] is due first */
    size_t count, room;
    bool tracing;
    bool (*may_fail)(int fd);
    void (*on_fault)(int fd, int error);
    unsigned process;
} world;

void fake_open(uint64_t seed, const struct fake_options *options)
{
    fake_close();
    world.now = NSEC_PER_SEC; /* not 0: a time of 0 often means "never" */
    world.order = 0;
    world.options = *options;
    fake_random_seed(&world.random, seed);
}

void fake_close(void)
{
    fake_rings_reset();
    fake_net_reset();
    fake_pipes_reset();
    fake_memory_reset();
    fake_limits = (struct fake_limits){ 0 };
    world.count = 0;
    free(world.heap);
    world.heap = NULL;
    world.room = 0;
    world.may_fail = NULL;
    world.on_fault = NULL;
    world.process = 0;
}

void fake_options_random(struct fake_options *options, uint64_t seed)
{
    struct fake_random r;

    fake_random_seed(&r, seed ^ UINT64_C(0x6f7074696f6e73));
    *options = (struct fake_options){
        .latency_min = fake_random_between(&r, 0, 100) * 1000,
        .op_delay_max = fake_random_chance(&r, 200) ? 0 : fake_random_size(&r, 100, 3000000),
        .buffer_min = fake_random_size(&r, 1, 4096),
        .buffer_max = fake_random_size(&r, 4096, 262144),
        .segment_max = fake_random_chance(&r, 500) ? 0 : fake_random_size(&r, 1, 65536),
        .inline_chance = (unsigned)fake_random_between(&r, 0, 1000),
        .short_chance = (unsigned)fake_random_between(&r, 0, 500),
        .hold_chance = (unsigned)fake_random_between(&r, 0, 500),
        .early_chance = (unsigned)fake_random_between(&r, 0, 300),
        .cancel_lost = fake_random_chance(&r, 300) ? (unsigned)fake_random_between(&r, 0, 700) : 0,
        .cancel_loses = (unsigned)fake_random_between(&r, 0, 1000),
        .zc_chance = (unsigned)fake_random_between(&r, 500, 1000),
        .zc_copied = fake_random_chance(&r, 300) ? 900 : (unsigned)fake_random_between(&r, 0, 50),
        .zc_delay_max = fake_random_size(&r, 1000, 50000000),
        .no_send_zc = fake_random_chance(&r, 200),
        .no_zc_report = fake_random_chance(&r, 300),
        .rst_drops_received = fake_random_chance(&r, 500),
        .tickets = 300,
    };
    options->latency_max = options->latency_min +
                           (fake_random_chance(&r, 500) ? fake_random_size(&r, 1000, 50000000) : 0);
    /* At least 16 KB/s: a byte per round trip would take for ever and find nothing more. */
    size_t least = (size_t)(options->latency_max * 16 / NSEC_PER_MSEC);
    options->buffer_min = options->buffer_min < least ? least : options->buffer_min;
    if (options->segment_max > 0 && options->segment_max < least)
        options->segment_max = least;
    options->wait_ends = (unsigned)fake_random_between(&r, 0, 100);
}

uint64_t fake_now(void)
{
    return world.now;
}

struct fake_random *fake_random(void)
{
    return &world.random;
}

struct fake_options *fake_options(void)
{
    return &world.options;
}

bool fake_chance(unsigned permille)
{
    return fake_random_chance(&world.random, permille);
}

uint64_t fake_between(uint64_t low, uint64_t high)
{
    return fake_random_between(&world.random, low, high);
}

void fake_fault_hooks(bool (*may_fail)(int fd), void (*on_fault)(int fd, int error))
{
    world.may_fail = may_fail;
    world.on_fault = on_fault;
}

bool fake_may_fail(int fd)
{
    return world.may_fail == NULL || world.may_fail(fd);
}

void fake_fault(int fd, int error)
{
    fake_trace("fault on %d: %s", fd, strerror(error));
    if (world.on_fault != NULL)
        world.on_fault(fd, error);
}

/* Processes */

void fake_process(unsigned process)
{
    world.process = process;
}

unsigned fake_current_process(void)
{
    return world.process;
}

void fake_kill(unsigned process, void (*lost)(uint64_t user_data))
{
    fake_trace("process %u: killed", process);
    fake_rings_kill(process, lost);
    fake_sockets_kill(process);
}

/* Trace */

void fake_trace_on(bool on)
{
    world.tracing = on;
}

bool fake_tracing(void)
{
    return world.tracing;
}

void fake_trace(const char *format, ...)
{
    va_list args;

    if (!world.tracing)
        return;
    fprintf(stderr, "%10.6f  ", (double)world.now / 1e9);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* Events */

static bool before(const struct fake_event *a, const struct fake_event *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void put(size_t place, struct fake_event *event)
{
    world.heap[place] = event;
    event->place = place;
}

static void sift_up(size_t place, struct fake_event *event)
{
    for (; place > 1 && before(event, world.heap[place / 2]); place /= 2)
        put(place, world.heap[place / 2]);
    put(place, event);
}

static void sift_down(size_t place, struct fake_event *event)
{
    for (size_t child; (child = place * 2) <= world.count; place = child) {
        if (child < world.count && before(world.heap[child + 1], world.heap[child]))
            child++;
        if (!before(world.heap[child], event))
            break;
        put(place, world.heap[child]);
    }
    put(place, event);
}

static void make_room(void)
{
    if (world.count + 2 < world.room)
        return;
    world.room = world.room == 0 ? 256 : world.room * 2;
    world.heap = realloc(world.heap, world.room * sizeof(struct fake_event *));
    CHECK(world.heap != NULL);
}

void fake_event_init(struct fake_event *event, void (*fn)(void *arg), void *arg)
{
    *event = (struct fake_event){ .fn = fn, .arg = arg };
}

void fake_event_set(struct fake_event *event, uint64_t at)
{
    fake_event_stop(event);
    make_room();
    event->at = max_u64(at, world.now);
    event->order = world.order++;
    sift_up(++world.count, event);
}

void fake_event_in(struct fake_event *event, uint64_t delay)
{
    fake_event_set(event, world.now + delay);
}

void fake_event_stop(struct fake_event *event)
{
    size_t place = event->place;

    if (place == 0)
        return;
    event->place = 0;
    struct fake_event *last = world.heap[world.count--];
    if (last == event)
        return;
    if (place > 1 && before(last, world.heap[place / 2]))
        sift_up(place, last);
    else
        sift_down(place, last);
}

static bool run_due(void)
{
    bool any = false;

    /* What an event sets for this very instant runs in the next step: the rings get their turn in
     * between. */
    uint64_t limit = world.order;
    while (world.count > 0 && world.heap[1]->at <= world.now && world.heap[1]->order < limit) {
        struct fake_event *event = world.heap[1];
        fake_event_stop(event);
        event->fn(event->arg);
        any = true;
    }
    return any;
}

bool fake_step(void)
{
    uint64_t wake = UINT64_MAX;

    if (run_due() || !fake_rings_idle(&wake))
        return true;
    if (world.count > 0)
        wake = min_u64(wake, world.heap[1]->at);
    if (wake == UINT64_MAX)
        return false;
    world.now = max_u64(wake, world.now);
    run_due();
    return true;
}
