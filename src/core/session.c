/* session: see session.h. */
#include "core/session.h"

#include "core/lane.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/worker.h"

#include <stdio.h>
#include <string.h>

struct session *session_open(struct worker *w, uint64_t id, uint8_t version, struct share *share)
{
    uint32_t slot = slab_take(&w->sessions);

    if (slot == SLAB_NONE) {
        share_unref(share);
        return NULL;
    }
    struct session *session = slab_at(&w->sessions, slot);
    memset(session, 0, sizeof(*session));
    session->worker = w;
    session->slot = slot;
    session->id = id;
    session->version = version;
    session->share = share;
    list_init(&session->lanes);
    list_append(&w->all_sessions, &session->node);
    chain_add(&w->session_ids, id, slot);
    return session;
}

void session_free(struct session *session)
{
    for (uint32_t i = 0; i < CONFIG_TUNNELS_MAX; i++)
        share_unref(session->tunnels[i].share);
    share_unref(session->share);
    slab_give(&session->worker->sessions, session->slot);
}

static struct session *session_at(const struct worker *w, uint32_t slot)
{
    return slab_at(&w->sessions, slot);
}

struct session *session_find(struct worker *w, uint64_t id)
{
    uint32_t slot = chain_first(&w->session_ids, id);

    while (slot != CHAIN_END && session_at(w, slot)->id != id)
        slot = chain_next(&w->session_ids, slot);
    return slot != CHAIN_END ? session_at(w, slot) : NULL;
}

void session_attach(struct session *session, struct lane *lane)
{
    CHECK(lane->session == NULL);
    lane->session = session;
    list_append(&session->lanes, &lane->session_node);
    session->lane_count++;
    if (lane->worker->role->opens_streams) /* a client's lanes are its own from the beginning */
        lane_own(lane, share_open(session->share, SHARE_LANE, lane->index));
    share_take(lane->share, SHARE_LANES, 1);
    lane->counted = true;
}

void session_detach(struct lane *lane)
{
    CHECK(lane->session->lane_count > 0);
    list_remove(&lane->session_node);
    lane->session->lane_count--;
    lane->session = NULL;
}

struct lane *session_lane(struct session *session, uint16_t index)
{
    for (struct list *node = session->lanes.next; node != &session->lanes; node = node->next) {
        struct lane *lane = container_of(node, struct lane, session_node);

        if (lane->index == index)
            return lane;
    }
    return NULL;
}

bool session_tells(struct session *session)
{
    uint64_t now = session->worker->now;

    if (session->told != 0 && now - session->told < LOG_LASTING_NS)
        return false;
    session->told = max_u64(now, 1);
    return true;
}

struct lane *session_pick_lane(struct session *session)
{
    struct lane *best = NULL;

    for (struct list *node = session->lanes.next; node != &session->lanes; node = node->next) {
        struct lane *lane = container_of(node, struct lane, session_node);

        if (!lane_takes(lane) || lane->fsm != SESSION_FORWARDING || lane->goaway_heard)
            continue;
        if (best == NULL || (best->state == LANE_FROZEN && lane->state == LANE_OPEN) ||
            (best->state == lane->state && lane->stream_count < best->stream_count))
            best = lane;
    }
    return best;
}

void session_close(struct session *session, enum reason reason)
{
    struct worker *w = session->worker;

    if (session->closing)
        return;
    session->closing = true;
    chain_remove(&w->session_ids, session->id, session->slot);
    list_remove(&session->node);
    list_append(&w->closing_sessions, &session->node);
    for (uint32_t i = 0; i < session->tunnel_count; i++) {
        if (session->tunnels[i].listener != NULL)
            listener_close(session->tunnels[i].listener);
        session->tunnels[i].listener = NULL;
    }
    while (!list_empty(&session->lanes)) {
        struct lane *lane = container_of(session->lanes.next, struct lane, session_node);
        lane_goaway(lane, reason);
        lane_finish(lane, reason, NULL);
    }
    if (w->role->session_closed != NULL)
        w->role->session_closed(session, reason);
}

struct session_tunnel *session_tunnel(struct session *session, uint16_t index)
{
    if (index >= session->tunnel_count || !session->tunnels[index].bound)
        return NULL;
    return &session->tunnels[index];
}

void session_tunnel_name(const struct session_tunnel *tunnel, const char *none, char *dst,
                         size_t size)
{
    size_t i = 0;

    for (; i + 1 < size && tunnel->name[i] != '\0'; i++)
        dst[i] = strchr(CONFIG_NAME_LETTERS, tunnel->name[i]) != NULL ? tunnel->name[i] : '_';
    dst[i] = '\0';
    if (i == 0)
        snprintf(dst, size, "%s", none);
}

struct share *session_tunnel_share(struct session *session, struct session_tunnel *tunnel,
                                   const union sock_addr *visitor)
{
    if (tunnel->share == NULL)
        tunnel->share = share_open(session->share, SHARE_TUNNEL, tunnel->index);
    return share_open_address(tunnel->share, visitor);
}
