/* listener: see listener.h. */
#include "core/io/listener.h"

#include "core/base/log.h"
#include "core/io/op.h"
#include "core/io/sock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void listener_arm(struct listener *listener)
{
    struct loop *loop = listener->loop;
    bool many = !listener->short_of && !share_is_scarce(&loop->shares, SHARE_FDS);

    CHECK(!listener->flight && !listener->closing);
    listener->flight = true;
    ring_accept(loop->ring, op_pack(listener->table->op, listener->slot, 0, 0), listener->fd, many);
}

/* False: there are still too few. */
static bool listener_spares_fill(struct listener_table *table)
{
    while (table->keeps_spares && table->spares < LISTENER_SPARES) {
        int fd = sock_spare();

        if (fd < 0)
            return false;
        table->spare_fds[table->spares++] = fd;
    }
    return true;
}

static void listener_spares_drop(struct listener_table *table, unsigned count)
{
    CHECK(table->spares <= LISTENER_SPARES);
    for (; count > 0 && table->spares > 0; count--)
        sock_close(table->spare_fds[--table->spares]);
}

static void listener_pause_for(struct listener *listener)
{
    struct loop *loop = listener->loop;

    timer_set(&loop->timers, &listener->timer, loop->now + LISTENER_PAUSE);
}

/* A cancel may be lost (io_uring_prep_cancel(3), EALREADY): as long as the accept is there it is
 * cancelled again. */
static void listener_cancel(struct listener *listener)
{
    struct loop *loop = listener->loop;

    timer_set(&loop->timers, &listener->timer, loop->now + CANCEL_AGAIN_NS);
    ring_cancel(loop->ring, op_pack(listener->table->op, listener->slot, 0, 0));
}

/* Short of descriptors or memory: from the first listener that pauses to the last that stands. */

static void listener_short_begins(struct listener *listener, int error)
{
    struct loop *loop = listener->loop;
    struct listener_table *table = listener->table;
    uint32_t times = log_lasting_shows(&table->pauses, loop->now);
    char subject[32], more[48] = "";

    table->short_of += !listener->short_of;
    listener->short_of = true;
    listener->short_at = loop->now;
    CHECK(table->short_of <= table->slab.used);
    if (times == 0)
        return;
    if (times > 1)
        snprintf(more, sizeof(more), "; %u pauses since this was last said", times);
    snprintf(subject, sizeof(subject), "worker %u", loop->index);
    log_at(LOG_WARN, subject, "accepting pauses: %s%s%s", strerror(error),
           error == EMFILE ? " (raise the hard limit of open files, ulimit -Hn)" : "", more);
}

static void listener_short_ends(struct listener *listener)
{
    struct loop *loop = listener->loop;
    struct listener_table *table = listener->table;
    char subject[32];

    if (!listener->short_of)
        return;
    CHECK(table->short_of > 0);
    listener->short_of = false;
    if (--table->short_of > 0 || !log_lasting_over(&table->pauses) || loop->phase != LOOP_RUNNING)
        return;
    snprintf(subject, sizeof(subject), "worker %u", loop->index);
    log_at(LOG_WARN, subject, "accepting goes on, after %.1f s",
           (double)(loop->now - table->pauses.since) / 1e9);
}

static void listener_timer_fire(struct timer *timer)
{
    struct listener *listener = container_of(timer, struct listener, timer);
    struct loop *loop = listener->loop;

    if (listener->closing) {
        listener_cancel(listener);
        return;
    }
    bool enough = listener_spares_fill(listener->table);

    listener->paused = !enough && !listener->use->lanes;
    if (!listener->flight && !listener->paused)
        listener_arm(listener);
    if (!enough)
        listener_pause_for(listener);
    else if (loop->now - listener->short_at >= LISTENER_WELL)
        listener_short_ends(listener);
    else if (listener->short_of)
        timer_set(&loop->timers, timer, listener->short_at + LISTENER_WELL);
}

struct listener *listener_open(struct listener_table *table, int fd, const struct listener_use *use,
                               void *owner, struct share *share)
{
    uint32_t slot = slab_take(&table->slab);

    CHECK(fd >= 0);
    if (slot == SLAB_NONE)
        return NULL;
    struct listener *listener = slab_at(&table->slab, slot);
    *listener = (struct listener){ .loop = table->loop,
                                   .table = table,
                                   .use = use,
                                   .owner = owner,
                                   .share = share,
                                   .slot = slot,
                                   .fd = fd };
    if (share != NULL) {
        share_ref(share);
        share_take(share, SHARE_FDS, 1);
    }
    timer_init(&listener->timer, listener_timer_fire);
    list_append(&table->all, &listener->node);
    if (use->lanes) {
        table->keeps_spares = true;
        (void)listener_spares_fill(table); /* if some are missing, the next pause looks for more */
    }
    listener_arm(listener);
    return listener;
}

void listener_close(struct listener *listener)
{
    struct listener_table *table = listener->table;

    if (listener->closing)
        return;
    listener->closing = true;
    listener_short_ends(listener);
    if (listener->use->lanes) {
        table->keeps_spares = false;
        listener_spares_drop(table, LISTENER_SPARES);
    }
    listener->owner = NULL;
    timer_stop(&listener->timer);
    list_remove(&listener->node);
    list_append(&table->closing, &listener->node);
    if (listener->flight)
        listener_cancel(listener);
}

bool listener_join(struct listener *listener)
{
    CHECK(listener->closing && !listener->short_of && listener->owner == NULL);
    if (listener->flight)
        return false;
    timer_stop(&listener->timer);
    list_remove(&listener->node);
    /* At once, not with the next submission: the port is free when the role is told. */
    sock_close(listener->fd);
    if (listener->share != NULL) {
        share_give(listener->share, SHARE_FDS, 1);
        share_unref(listener->share);
    }
    if (listener->use->closed != NULL)
        listener->use->closed(listener);
    slab_give(&listener->table->slab, listener->slot);
    return true;
}

static void listener_pause_accepting(struct listener *listener, int error)
{
    loop_count(listener->loop, STAT_ACCEPT_PAUSES, 1);
    listener_short_begins(listener, error);
    pipe_pool_yield(&listener->table->loop->bufs.pipes, listener->table->loop->now);
    listener->paused = true;
    listener_pause_for(listener);
}

/* A lane that cannot be accepted for want of a descriptor gets the place of some spares. */
static bool listener_use_spare(struct listener *listener, int error)
{
    if ((error != EMFILE && error != ENFILE) || !listener->use->lanes ||
        listener->table->spares == 0)
        return false;
    /* Two: its TLS handshake opens /dev/urandom for a moment. */
    listener_spares_drop(listener->table, 2);
    listener_pause_for(listener); /* to take another one */
    return true;
}

/* A visitor that was gone before it was accepted, and the like: no reason to pause. */
static bool listener_is_passing(int error)
{
    return error == ECONNABORTED || error == EINTR || error == EAGAIN || error == EPROTO ||
           error == ECANCELED;
}

static void listener_accept_done(void *part, const struct ring_cqe *cqe)
{
    struct listener_table *table = part;
    struct listener *listener = slab_at(&table->slab, op_unpack(cqe->user_data).slot);

    CHECK(listener->flight);
    if ((cqe->flags & RING_CQE_MORE) == 0)
        listener->flight = false;
    if (cqe->res >= 0) {
        if (listener->closing)
            ring_close_fd(table->loop->ring, cqe->res);
        else
            listener->use->accepted(listener, cqe->res);
    } else if (!listener->closing && !listener_is_passing(-cqe->res) &&
               !listener_use_spare(listener, -cqe->res)) {
        listener_pause_accepting(listener, -cqe->res);
        return;
    }
    if (!listener->flight && !listener->closing && !listener->paused)
        listener_arm(listener);
}

bool listener_table_open(struct listener_table *table, struct loop *loop, uint32_t count)
{
    static const struct loop_op op = { "accept", listener_accept_done };

    table->loop = loop;
    table->op = loop_register(loop, table, &op, 1);
    list_init(&table->all);
    list_init(&table->closing);
    return slab_open(&table->slab, sizeof(struct listener), count, 0);
}

void listener_table_close(struct listener_table *table)
{
    slab_close(&table->slab);
}
