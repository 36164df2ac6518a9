/*
 * netwatch: hears when the network of this machine changes (rtnetlink(7)): an address or route that
 * comes or goes, a link that comes up.
 *
 * Waiting for the next try makes no sense then, and a lane whose own address is gone will not hear
 * anything any more. One socket on worker 0; its reads take a buffer from the kernel only when
 * there is something to read. A change brings a burst of messages, so what follows from it is done
 * a little later, once. All workers are told.
 */
#include "client/client_state.h"

#include "core/base/log.h"
#include "core/io/op.h"
#include "core/mux/lane.h"
#include "core/run/message.h"

#include <errno.h>
#include <string.h>

#define SETTLE (100 * NSEC_PER_MSEC)
/* Machines with many containers change all the time. */
#define CALM (2 * NSEC_PER_SEC)

static void netwatch_listen_on(struct client *client)
{
    ring_recv_provided(client->worker->loop.ring, op_pack(client->netlink_op, 0, 0, BUF_NONE),
                       client->netlink, RING_POLL_FIRST);
}

static void netwatch_settled(struct timer *timer)
{
    struct client *client = container_of(timer, struct client, netlink_timer);
    struct worker *w = client->worker;

    client->netlink_told = w->loop.now;
    if (log_lasting_shows(&client->changes, w->loop.now) > 0)
        log_at(LOG_INFO, "client", "the network has changed");
    (void)log_lasting_over(&client->changes); /* which is nothing to tell */
    for (unsigned i = 0; i < w->peer_count; i++)
        worker_post(w, i, message_new(client->netlink_message));
    netwatch_listen_on(client);
}

static void netwatch_told(void *part, const struct ring_cqe *cqe)
{
    struct worker *w = part;
    struct client *client = client_of(w);

    if ((cqe->flags & RING_CQE_BUFFER) != 0) {
        buf_provided_taken(&w->loop.bufs, cqe->buffer, &w->loop.shares.pool);
        buf_put(&w->loop.bufs, cqe->buffer);
    }
    if (client == NULL || client->netlink < 0 || w->loop.phase != LOOP_RUNNING)
        return;
    if (cqe->res == -ECANCELED || cqe->res == 0)
        return;
    /* Whatever the messages say (or that there were too many of them): something has changed. The
     * next read begins when that is done, so that neither a flood of messages nor a lack of buffers
     * makes this worker spin. */
    if (!timer_is_set(&client->netlink_timer))
        timer_set(&w->loop.timers, &client->netlink_timer,
                  max_u64(w->loop.now + SETTLE, client->netlink_told + CALM));
}

void netwatch_open(struct client *client, const struct message_type *changed)
{
    static const struct loop_op op = { "network", netwatch_told };

    client->netlink_message = changed;
    timer_init(&client->netlink_timer, netwatch_settled);
    client->netlink_op = loop_register(&client->worker->loop, client->worker, &op, 1);
    client->netlink = client->worker->loop.index == 0 ? sock_netlink() : -1;
    if (client->netlink >= 0)
        netwatch_listen_on(client);
    else if (client->worker->loop.index == 0)
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

/* Looked for anew each time: losing one lane may close others. A lane that was lost is not open any
 * more. */
static struct lane *netwatch_lane_without_address(struct worker *w)
{
    for (struct list *node = w->lanes.all.next; node != &w->lanes.all; node = node->next) {
        struct lane *lane = container_of(node, struct lane, node);

        if (lane->state == LANE_OPEN && lane->session != NULL &&
            !sock_address_stands(lane->conn.fd))
            return lane;
    }
    return NULL;
}

void netwatch_look(struct worker *w)
{
    struct lane *lane;

    while ((lane = netwatch_lane_without_address(w)) != NULL)
        lane_lost(lane, REASON_LANE_ERROR, "the address of this machine that it used is gone");
}
