/* strangers: see strangers.h. */
#include "core/mux/strangers.h"

#include "core/base/base.h"
#include "core/io/share.h"

bool strangers_open(struct strangers *strangers, uint32_t most)
{
    *strangers = (struct strangers){ .most = most };
    list_init(&strangers->due);
    for (unsigned i = 0; i < STRANGERS_COUNTS; i++)
        list_init(&strangers->by_count[i]);
    return slab_open(&strangers->addresses, sizeof(struct strangers_address), most, 0);
}

void strangers_close(struct strangers *strangers)
{
    slab_close(&strangers->addresses);
}

uint32_t strangers_fit(struct strangers *strangers, uint64_t descriptors)
{
    uint64_t part = max_u64(descriptors / STRANGERS_PART, 1);

    CHECK(strangers->count == 0);
    strangers->most = (uint32_t)min_u64(strangers->most, part);
    return strangers->most;
}

static void strangers_sort_in(struct strangers *strangers, struct strangers_address *address)
{
    uint32_t place = min_u32(address->count, STRANGERS_COUNTS) - 1;

    CHECK(address->count > 0 && address->count <= strangers->count);
    CHECK(strangers->addresses.used <= strangers->count); /* each has somebody */
    list_remove(&address->count_node);
    list_append(&strangers->by_count[place], &address->count_node);
}

static struct strangers_address *strangers_address_of(struct strangers *strangers,
                                                      struct share *share)
{
    uint32_t index = share->tag != 0 ? share->tag - 1 : slab_take(&strangers->addresses);
    CHECK(index != SLAB_NONE); /* one for each place */
    struct strangers_address *address = slab_at(&strangers->addresses, index);
    if (share->tag != 0) {
        CHECK(address->share == share);
        return address;
    }
    *address = (struct strangers_address){ .share = share };
    list_init(&address->members);
    list_init(&address->due);
    list_init(&address->count_node);
    list_init(&address->due_node);
    share->tag = index + 1;
    share_ref(share);
    return address;
}

static void strangers_forget(struct strangers *strangers, struct strangers_address *address)
{
    CHECK(list_empty(&address->members) && list_empty(&address->due));
    list_remove(&address->count_node);
    list_remove(&address->due_node);
    address->share->tag = 0;
    share_unref(address->share);
    slab_give(&strangers->addresses, slab_index(&strangers->addresses, address));
}

void stranger_init(struct stranger *stranger)
{
    stranger->address = NULL;
    list_init(&stranger->node);
    list_init(&stranger->step_node);
}

void strangers_add(struct strangers *strangers, struct stranger *stranger, struct share *share)
{
    CHECK(strangers_room(strangers) && stranger->address == NULL);
    struct strangers_address *address = strangers_address_of(strangers, share);
    stranger->address = address;
    list_append(&address->members, &stranger->node);
    address->count++;
    strangers->count++;
    strangers_sort_in(strangers, address);
}

void strangers_remove(struct strangers *strangers, struct stranger *stranger)
{
    struct strangers_address *address = stranger->address;

    if (address == NULL)
        return;
    CHECK(address->count > 0 && list_linked(&stranger->node));
    stranger->address = NULL;
    list_remove(&stranger->node);
    list_remove(&stranger->step_node);
    strangers->count--;
    if (--address->count == 0)
        strangers_forget(strangers, address);
    else
        strangers_sort_in(strangers, address);
}

/* In the last list are all from STRANGERS_COUNTS on: the one with most of some. */
static const struct strangers_address *strangers_busiest_of(const struct list *list)
{
    const struct strangers_address *busiest = NULL;
    unsigned looks = STRANGERS_LOOKS;

    for (const struct list *node = list->next; node != list && looks > 0; node = node->next) {
        const struct strangers_address *address =
            container_of(node, struct strangers_address, count_node);

        if (busiest == NULL || address->count > busiest->count)
            busiest = address;
        looks--;
    }
    return busiest;
}

struct stranger *strangers_last(const struct strangers *strangers)
{
    for (unsigned i = STRANGERS_COUNTS; i > 0; i--) {
        const struct list *list = &strangers->by_count[i - 1];

        if (list_empty(list))
            continue;
        const struct strangers_address *address = strangers_busiest_of(list);
        return container_of(address->members.next, struct stranger, node);
    }
    CHECK(strangers->count == 0);
    return NULL;
}

void strangers_due(struct strangers *strangers, struct stranger *stranger)
{
    struct strangers_address *address = stranger->address;

    CHECK(address != NULL && !list_linked(&stranger->step_node));
    list_append(&address->due, &stranger->step_node);
    if (!list_linked(&address->due_node))
        list_append(&strangers->due, &address->due_node);
}

/* An address whose members have gone meanwhile has no turn. */
struct stranger *strangers_next(struct strangers *strangers)
{
    struct list *node;

    while ((node = list_pop(&strangers->due)) != NULL) {
        struct strangers_address *address = container_of(node, struct strangers_address, due_node);
        struct list *step = list_pop(&address->due);

        if (!list_empty(&address->due))
            list_append(&strangers->due, &address->due_node);
        if (step != NULL)
            return container_of(step, struct stranger, step_node);
    }
    return NULL;
}
