/*
 * netwatch: hears when the network of this machine changes (rtnetlink(7)): an address or route that
 * comes or goes, a link that comes up.
 *
 * Waiting for the next try makes no sense then, and a lane whose own address is gone will not hear
 * anything any more. One socket on worker 0; its reads take a buffer from the kernel only when
 * there is something to read. A change brings a burst of messages, so what follows from it is done
 * a little later, once. The other workers are told.
 */
#include "client/client_state.h"

#include "core/lane.h"
#include "core/log.h"
#include "core/message.h"
#include "core/op.h"

#include <errno.h>
#include <string.h>

#define SETTLE (100 * NSEC_PER_MSEC)
/* Machines with many containers change all the time. */
#define CALM (2 * NSEC_PER_SEC)

static void listen_on(struct client *client)
{
    ring_recv_provided(client->worker->ring, op_pack(OP_ROLE, 0, 0, BUF_NONE), client->netlink,
                       RING_POLL_FIRST);
}

static void settled(struct timer *timer)
{
    struct client *client = container_of(timer, struct client, netlink_timer);
    struct worker *w = client->worker;

    client->netlink_told = w->now;
    if (log_lasting_shows(&client->changes, w->now) > 0)
        log_at(LOG_INFO, "client", "the network has changed");
    (void)log_lasting_over(&client->changes); /* which is nothing to tell */
    for (unsigned i = 0; i < w->peer_count; i++)
        if (i != w->index)
            worker_post(w, i, message_new(MESSAGE_NETWORK));
    netwatch_changed(client);
    listen_on(client);
}

void netwatch_open(struct client *client)
{
    timer_init(&client->netlink_timer, settled);
    client->netlink = client->worker->index == 0 ? sock_netlink() : -1;
    if (client->netlink >= 0)
        listen_on(client);
    else if (client->worker->index == 0)
        log_at(LOG_WARN, "client",
               "cannot listen for network changes (%s): a new address is noticed later; a sandbox "
               "has to allow AF_NETLINK",
               strerror(-client->netlink));
}

void netwatch_close(struct client *client)
{
    timer_stop(&client->netlink_timer);
    if (client->netlink >= 0)
        sock_close(client->netlink);
    client->netlink = -1;
}

void netwatch_event(struct worker *w, const struct ring_cqe *cqe)
{
    struct client *client = client_of(w);

    if ((cqe->flags & RING_CQE_BUFFER) != 0) {
        buf_provided_taken(&w->bufs, cqe->buffer, &w->shares.pool);
        buf_put(&w->bufs, cqe->buffer);
    }
    if (client == NULL || client->netlink < 0 || w->phase != WORKER_RUNNING)
        return;
    if (cqe->res == -ECANCELED || cqe->res == 0)
        return;
    /* Whatever the messages say (or that there were too many of them): something has changed. The
     * next read begins when that is done, so that neither a flood of messages nor a lack of buffers
     * makes this worker spin. */
    if (!timer_is_set(&client->netlink_timer))
        timer_set(&w->timers, &client->netlink_timer,
                  max_u64(w->now + SETTLE, client->netlink_told + CALM));
}

/* Looked for anew each time: losing one lane may close others. A lane that was lost is not open any
 * more. */
static struct lane *lane_without_address(struct worker *w)
{
    for (struct list *node = w->all_lanes.next; node != &w->all_lanes; node = node->next) {
        struct lane *lane = container_of(node, struct lane, node);

        if (lane->state == LANE_OPEN && lane->session != NULL && !sock_address_stands(lane->fd))
            return lane;
    }
    return NULL;
}

void netwatch_changed(struct client *client)
{
    struct worker *w = client->worker;
    struct lane *lane;

    client_hurry(client);
    dialer_hurry(client);
    while ((lane = lane_without_address(w)) != NULL)
        lane_lost(lane, REASON_LANE_ERROR, "the address of this machine that it used is gone");
}
