/* killed: see killed.h. */
#include "sim/killed.h"

#include "client/client_state.h"
#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/base/mem.h"
#include "core/run/message.h"
#include "core/base/secret.h"
#include "fake/fake.h"
#include "sim/sim.h"

#include <stdlib.h>

/* A message that no worker takes any more; its descriptor, if it has one, went with the process. */
static void message_lost(uint64_t user_data)
{
    if (!worker_is_message(user_data))
        return;
    struct message *message = (struct message *)(uintptr_t)(user_data & ((UINT64_C(1) << 58) - 1));
    crypt_close(message->loose.crypt);
    message_free(message);
}

static void free_lane(struct lane *lane)
{
    if (lane->state == LANE_FREE)
        return;
    crypt_close(lane->conn.crypt);
    crypt_close(lane->next.loose.crypt);
    if (lane->ids.map != NULL)
        mem_unmap(lane->ids.map, sizeof(lane->ids.map[0]) * ((size_t)lane->ids.mask + 1));
}

static void free_worker(struct worker *w)
{
    for (uint32_t i = 0; i < w->lanes.slab.fresh; i++)
        free_lane(slab_at(&w->lanes.slab, i));
    for (unsigned i = 0; i < STAT_COUNT; i++)
        sim_totals.stats[i] += w->loop.stats.value[i];
    if (!w->role->opens_streams)
        secret_free(((struct client *)w->role_state)->secret);
    free(w->role_state);
    w->loop.ring = NULL;
    worker_close(w);
}

void killed_bury(unsigned process, struct worker **workers, unsigned count)
{
    fake_kill(process, message_lost);
    for (unsigned i = 0; i < count; i++) {
        free_worker(workers[i]);
        workers[i] = NULL;
    }
}
