/* listener: see listener.h. */
#include "core/listener.h"

#include "core/log.h"
#include "core/op.h"
#include "core/session.h"
#include "core/sock.h"
#include "core/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void arm(struct listener *listener)
{
    struct worker *w = listener->worker;
    bool many = !listener->short_of && !share_is_scarce(&w->shares, SHARE_FDS);

    listener->flight = true;
    ring_accept(w->ring, op_pack(OP_LISTENER_ACCEPT, listener->slot, 0, 0), listener->fd, many);
}

/* False: there are still too few. */
static bool spares_fill(struct worker *w)
{
    while (w->keeps_spares && w->spares < LISTENER_SPARES) {
        int fd = sock_spare();

        if (fd < 0)
            return false;
        w->spare_fds[w->spares++] = fd;
    }
    return true;
}

static void spares_drop(struct worker *w, unsigned count)
{
    for (; count > 0 && w->spares > 0; count--)
        sock_close(w->spare_fds[--w->spares]);
}

static bool for_lanes(const struct listener *listener)
{
    return listener->session == NULL;
}

static void pause_for(struct listener *listener)
{
    struct worker *w = listener->worker;

    timer_set(&w->timers, &listener->timer, w->now + LISTENER_PAUSE);
}

/* A cancel may be lost (io_uring_prep_cancel(3), EALREADY): as long as the accept is there it is
 * cancelled again. */
static void cancel(struct listener *listener)
{
    struct worker *w = listener->worker;

    timer_set(&w->timers, &listener->timer, w->now + CANCEL_AGAIN_NS);
    ring_cancel(w->ring, op_pack(OP_LISTENER_ACCEPT, listener->slot, 0, 0));
}

/* Short of descriptors or memory: from the first listener that pauses to the last that stands. */

static void short_begins(struct listener *listener, int error)
{
    struct worker *w = listener->worker;
    uint32_t times = log_lasting_shows(&w->pauses, w->now);
    char subject[32], more[48] = "";

    w->short_listeners += !listener->short_of;
    listener->short_of = true;
    listener->short_at = w->now;
    if (times == 0)
        return;
    if (times > 1)
        snprintf(more, sizeof(more), "; %u pauses since this was last said", times);
    snprintf(subject, sizeof(subject), "worker %u", w->index);
    log_at(LOG_WARN, subject, "accepting pauses: %s%s%s", strerror(error),
           error == EMFILE ? " (raise the hard limit of open files, ulimit -Hn)" : "", more);
}

static void short_ends(struct listener *listener)
{
    struct worker *w = listener->worker;
    char subject[32];

    if (!listener->short_of)
        return;
    CHECK(w->short_listeners > 0);
    listener->short_of = false;
    if (--w->short_listeners > 0 || !log_lasting_over(&w->pauses) || w->phase != WORKER_RUNNING)
        return;
    snprintf(subject, sizeof(subject), "worker %u", w->index);
    log_at(LOG_WARN, subject, "accepting goes on, after %.1f s",
           (double)(w->now - w->pauses.since) / 1e9);
}

static void timer_fire(struct timer *timer)
{
    struct listener *listener = container_of(timer, struct listener, timer);
    struct worker *w = listener->worker;

    if (listener->closing) {
        cancel(listener);
        return;
    }
    bool enough = spares_fill(w);

    listener->paused = !enough && !for_lanes(listener);
    if (!listener->flight && !listener->paused)
        arm(listener);
    if (!enough)
        pause_for(listener);
    else if (w->now - listener->short_at >= LISTENER_WELL)
        short_ends(listener);
    else if (listener->short_of)
        timer_set(&w->timers, timer, listener->short_at + LISTENER_WELL);
}

struct listener *listener_open(struct worker *w, int fd, struct session *session, uint16_t tunnel,
                               uint16_t port)
{
    uint32_t slot = slab_take(&w->listeners);

    if (slot == SLAB_NONE)
        return NULL;
    struct listener *listener = slab_at(&w->listeners, slot);
    *listener = (struct listener){
        .worker = w, .session = session, .slot = slot, .fd = fd, .tunnel = tunnel, .port = port
    };
    if (session != NULL) {
        listener->share = session->share;
        share_ref(listener->share);
        share_take(listener->share, SHARE_FDS, 1);
    }
    timer_init(&listener->timer, timer_fire);
    list_append(&w->all_listeners, &listener->node);
    if (for_lanes(listener)) {
        w->keeps_spares = true;
        (void)spares_fill(w); /* if some are missing, the next pause looks for more */
    }
    arm(listener);
    return listener;
}

void listener_close(struct listener *listener)
{
    struct worker *w = listener->worker;

    if (listener->closing)
        return;
    listener->closing = true;
    short_ends(listener);
    if (for_lanes(listener)) {
        w->keeps_spares = false;
        spares_drop(w, LISTENER_SPARES);
    }
    listener->session = NULL;
    timer_stop(&listener->timer);
    list_remove(&listener->node);
    list_append(&w->closing_listeners, &listener->node);
    if (listener->flight)
        cancel(listener);
}

bool listener_join(struct listener *listener)
{
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
    if (listener->worker->role->listener_closed != NULL)
        listener->worker->role->listener_closed(listener);
    slab_give(&listener->worker->listeners, listener->slot);
    return true;
}

static void pause_accepting(struct listener *listener, int error)
{
    worker_count(listener->worker, STAT_ACCEPT_PAUSES, 1);
    short_begins(listener, error);
    listener->paused = true;
    pause_for(listener);
}

/* A lane that cannot be accepted for want of a descriptor gets the place of some spares. */
static bool use_spare(struct listener *listener, int error)
{
    struct worker *w = listener->worker;

    if ((error != EMFILE && error != ENFILE) || !for_lanes(listener) || w->spares == 0)
        return false;
    spares_drop(w, 2);   /* its TLS handshake opens /dev/urandom for a moment */
    pause_for(listener); /* to take another one */
    return true;
}

/* A visitor that was gone before it was accepted, and the like: no reason to pause. */
static bool is_passing(int error)
{
    return error == ECONNABORTED || error == EINTR || error == EAGAIN || error == EPROTO ||
           error == ECANCELED;
}

void listener_accept_done(struct worker *w, const struct ring_cqe *cqe)
{
    struct listener *listener = slab_at(&w->listeners, op_unpack(cqe->user_data).slot);

    if ((cqe->flags & RING_CQE_MORE) == 0)
        listener->flight = false;
    if (cqe->res >= 0) {
        if (listener->closing)
            ring_close_fd(w->ring, cqe->res);
        else
            w->role->accepted(listener, cqe->res);
    } else if (!listener->closing && !is_passing(-cqe->res) && !use_spare(listener, -cqe->res)) {
        pause_accepting(listener, -cqe->res);
        return;
    }
    if (!listener->flight && !listener->closing && !listener->paused)
        arm(listener);
}
