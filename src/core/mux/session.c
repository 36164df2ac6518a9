/* session: see session.h. */
#include "core/mux/session.h"

#include "core/base/log.h"
#include "core/io/trim.h"

#include <stdio.h>
#include <string.h>

bool session_table_open(struct session_table *table, struct loop *loop, const struct role *role,
                        uint32_t count)
{
    table->loop = loop;
    table->role = role;
    list_init(&table->all);
    list_init(&table->closing);
    trim_add(loop->trim, &table->slab, false);
    return slab_open(&table->slab, sizeof(struct session), count, 0) &&
           chain_open(&table->ids, count);
}

void session_table_close(struct session_table *table)
{
    slab_close(&table->slab);
    chain_close(&table->ids);
}

struct session *session_open(struct session_table *table, uint64_t id, uint8_t version,
                             struct share *share)
{
    uint32_t slot = slab_take(&table->slab);

    if (slot == SLAB_NONE) {
        share_unref(share);
        return NULL;
    }
    struct session *session = slab_at(&table->slab, slot);
    memset(session, 0, sizeof(*session));
    session->loop = table->loop;
    session->table = table;
    session->slot = slot;
    session->id = id;
    session->version = version;
    session->share = share;
    list_init(&session->lanes);
    list_append(&table->all, &session->node);
    chain_add(&table->ids, id, slot);
    return session;
}

void session_free(struct session *session)
{
    CHECK(session->closing && session->lane_count == 0 && list_empty(&session->lanes));
    for (uint32_t i = 0; i < CONFIG_TUNNELS_MAX; i++) {
        CHECK(session->tunnels[i].listener == NULL); /* it would go on to name the session */
        share_unref(session->tunnels[i].share);
    }
    share_unref(session->share);
    slab_give(&session->table->slab, session->slot);
}

static struct session *session_at(const struct session_table *table, uint32_t slot)
{
    return slab_at(&table->slab, slot);
}

struct session *session_find(struct session_table *table, uint64_t id)
{
    uint32_t slot = chain_first(&table->ids, id);

    while (slot != CHAIN_END && session_at(table, slot)->id != id)
        slot = chain_next(&table->ids, slot);
    if (slot == CHAIN_END)
        return NULL;
    struct session *session = session_at(table, slot);
    CHECK(!session->closing); /* which left the index with it */
    return session;
}

bool session_tells(struct session *session)
{
    uint64_t now = session->loop->now;

    if (session->told != 0 && now - session->told < LOG_LASTING_NS)
        return false;
    session->told = max_u64(now, 1);
    return true;
}

bool session_leave(struct session *session)
{
    struct session_table *table = session->table;

    if (session->closing)
        return false;
    session->closing = true;
    chain_remove(&table->ids, session->id, session->slot);
    list_remove(&session->node);
    list_append(&table->closing, &session->node);
    return true;
}

void session_drain(struct session *session)
{
    session->draining = true;
}

struct session_tunnel *session_tunnel_place(struct session *session, unsigned index)
{
    CHECK(index < CONFIG_TUNNELS_MAX);
    session->tunnel_count = (uint32_t)max_u64(session->tunnel_count, index + 1U);
    return &session->tunnels[index];
}

struct session_tunnel *session_tunnel(struct session *session, uint16_t index)
{
    if (index >= session->tunnel_count || !session->tunnels[index].bound)
        return NULL;
    CHECK(session->tunnels[index].index == index);
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
    CHECK(tunnel == &session->tunnels[tunnel->index] && tunnel->bound);
    if (tunnel->share == NULL)
        tunnel->share = share_open(session->share, SHARE_TUNNEL, tunnel->index);
    return share_open_address(tunnel->share, visitor);
}
