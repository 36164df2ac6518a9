/* killed: see killed.h. */
#include "sim/killed.h"

#include "client/client_state.h"
#include "core/crypt.h"
#include "core/lane.h"
#include "core/mem.h"
#include "core/message.h"
#include "core/op.h"
#include "core/secret.h"
#include "fake/fake.h"
#include "sim/sim.h"

#include <stdlib.h>

/* A message that no worker takes any more; its descriptor, if it has one, went with the process. */
static void message_lost(uint64_t user_data)
{
    uint64_t kind = user_data >> 58;

    if (kind != OP_MESSAGE && kind != OP_MESSAGE_SENT)
        return;
    struct message *message = (struct message *)(uintptr_t)(user_data & ((UINT64_C(1) << 58) - 1));
    crypt_close(message->crypt);
    message_free(message);
}

static void free_lane(struct lane *lane)
{
    if (lane->state == LANE_FREE)
        return;
    crypt_close(lane->crypt);
    crypt_close(lane->next_crypt);
    if (lane->map != NULL)
        mem_unmap(lane->map, sizeof(lane->map[0]) * ((size_t)lane->map_mask + 1));
}

static void free_worker(struct worker *w)
{
    for (uint32_t i = 0; i < w->lanes.fresh; i++)
        free_lane(slab_at(&w->lanes, i));
    for (unsigned i = 0; i < STAT_COUNT; i++)
        sim_totals.stats[i] += w->stats.value[i];
    if (!w->role->opens_streams)
        secret_free(((struct client *)w->role_state)->secret);
    free(w->role_state);
    w->ring = NULL;
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
