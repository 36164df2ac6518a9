/* lane_session: see lane_session.h. */
#include "core/mux/lane_session.h"

#include "core/mux/lane.h"
#include "core/mux/session.h"

struct lane *lane_of_session(struct session *session, uint16_t index)
{
    for (struct list *node = session->lanes.next; node != &session->lanes; node = node->next) {
        struct lane *lane = container_of(node, struct lane, session_node);

        if (lane->index == index)
            return lane;
    }
    return NULL;
}

/* Whether a newcomer fares better on `lane`. */
static bool session_lane_is_better(const struct lane *lane, const struct lane *best)
{
    bool open = lane->state == LANE_OPEN, best_open = best->state == LANE_OPEN;
    bool loaded = lane_is_loaded(lane), best_loaded = lane_is_loaded(best);

    if (open != best_open)
        return open;
    if (loaded != best_loaded)
        return !loaded;
    return lane->stream_count < best->stream_count;
}

struct lane *lane_pick(struct session *session)
{
    struct lane *best = NULL;

    for (struct list *node = session->lanes.next; node != &session->lanes; node = node->next) {
        struct lane *lane = container_of(node, struct lane, session_node);

        if (!lane_takes(lane) || lane->fsm != SESSION_FORWARDING || lane->goaway_heard)
            continue;
        if (best == NULL || session_lane_is_better(lane, best))
            best = lane;
    }
    return best;
}

void lane_session_close(struct session *session, enum reason reason)
{
    const struct role *role = session->table->role;

    if (!session_leave(session))
        return;
    while (!list_empty(&session->lanes)) {
        struct lane *lane = container_of(session->lanes.next, struct lane, session_node);

        lane_goaway(lane, reason);
        lane_finish(lane, reason, NULL);
    }
    CHECK(session->lane_count == 0);
    if (role->session_closed != NULL)
        role->session_closed(session, reason);
}
