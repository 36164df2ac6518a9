/* retain: see retain.h. */
#include "core/mux/retain.h"

#include "core/base/base.h"
#include "core/io/buf.h"
#include "core/io/limits.h"

#define RETAIN_LOOKS 8u

void retain_init(struct retain *retain, struct loop *loop)
{
    *retain = (struct retain){ .loop = loop, .head = SLAB_NONE, .tail = SLAB_NONE };
    list_init(&retain->node);
}

void retain_own(struct retain *retain, struct share *share)
{
    CHECK(retain->head == SLAB_NONE && retain->slices == 0 && retain->big == 0);
    retain->share = share;
}

static struct slice *retain_slice(const struct retain *retain, uint32_t index)
{
    return slab_at(&retain->loop->slices, index);
}

/* What is kept, and its counts. */
static void retain_check(const struct retain *retain)
{
    CHECK((retain->head == SLAB_NONE) == (retain->slices == 0) && retain->big <= retain->slices);
    CHECK(retain->keeps || retain->slices == 0);
    CHECK(retain->acked <= retain->counted && retain->acked <= retain->sent &&
          retain->replay <= retain->sent - retain->acked);
}

/* Big buffers are counted by runs of slices in one buffer: one that begins, one that ends. */
static bool retain_is_run(const struct retain *retain, uint32_t buf, uint32_t neighbour)
{
    return buf_is_big(buf) &&
           (neighbour == SLAB_NONE || retain_slice(retain, neighbour)->buf != buf);
}

static void retain_pop(struct retain *retain)
{
    struct loop *loop = retain->loop;
    uint32_t index = retain->head;
    const struct slice *slice = retain_slice(retain, index);

    CHECK(retain->slices > 0);
    if (retain_is_run(retain, slice->buf, slice->next)) {
        CHECK(retain->big > 0);
        retain->big--;
        share_give(retain->share, SHARE_LOG, 1);
    }
    retain->head = slice->next;
    if (retain->head == SLAB_NONE)
        retain->tail = SLAB_NONE;
    buf_put(&loop->bufs, slice->buf);
    slab_give(&loop->slices, index);
    share_give(retain->share, SHARE_SLICES, 1);
    retain->slices--;
}

void retain_begin(struct retain *retain)
{
    CHECK(retain->head == SLAB_NONE && !retain->keeps);
    retain->keeps = true;
    retain->acked = retain->counted = retain->sent;
}

void retain_end(struct retain *retain)
{
    while (retain->head != SLAB_NONE)
        retain_pop(retain);
    retain->keeps = false;
    retain->replay = 0;
    retain_check(retain);
}

static void retain_append(struct retain *retain, uint32_t index, const struct slice *slice)
{
    struct loop *loop = retain->loop;

    CHECK(slice->offset + slice->size <= buf_size(slice->buf));
    share_take(retain->share, SHARE_SLICES, 1);
    retain->slices++;
    buf_ref(&loop->bufs, slice->buf);
    if (retain_is_run(retain, slice->buf, retain->tail)) {
        retain->big++;
        share_take(retain->share, SHARE_LOG, 1);
    }
    *retain_slice(retain, index) = *slice;
    if (retain->tail == SLAB_NONE)
        retain->head = index;
    else
        retain_slice(retain, retain->tail)->next = index;
    retain->tail = index;
    retain_check(retain);
}

const char *retain_add(struct retain *retain, uint32_t buf, uint32_t offset, uint32_t size)
{
    const char *why = "the peer does not count what it receives";

    retain->sent += size;
    if (!retain->keeps || size == 0)
        return NULL;
    if (retain->sent - retain->acked > LANE_LOG_MAX + LANE_LOG_CONTROL) {
        retain_end(retain);
        return why;
    }
    if (retain->tail != SLAB_NONE) {
        struct slice *tail = retain_slice(retain, retain->tail);

        if (tail->buf == buf && tail->offset + tail->size == offset) {
            tail->size += size;
            return NULL;
        }
    }
    bool may = share_may(retain->share, SHARE_SLICES, 1);
    uint32_t index = may ? slab_take(&retain->loop->slices) : SLAB_NONE;
    if (index == SLAB_NONE) {
        why = share_blame(retain->share, SHARE_SLICES);
        retain_end(retain);
        return why;
    }
    retain_append(retain, index,
                  &(struct slice){ .next = SLAB_NONE, .buf = buf, .offset = offset, .size = size });
    return NULL;
}

bool retain_trim(struct retain *retain)
{
    uint64_t upto = min_u64(retain->counted, retain->sent - retain->replay);

    if (!retain->keeps || retain->acked >= upto)
        return false;
    while (retain->acked < upto) {
        struct slice *slice = retain_slice(retain, retain->head);
        uint32_t n = (uint32_t)min_u64(slice->size, upto - retain->acked);

        slice->offset += n;
        slice->size -= n;
        retain->acked += n;
        if (slice->size == 0)
            retain_pop(retain);
    }
    retain_check(retain);
    return true;
}

static bool retain_keeps_too_much(const struct retain *retain)
{
    return retain->sent - retain->acked >= LANE_LOG_MAX;
}

static bool retain_keeps_its_share(const struct retain *retain)
{
    const struct share *share = retain->share;

    if (retain->big >= LANE_LOG_BIG_MIN && !share_may(share, SHARE_LOG, 1))
        return true;
    return retain->slices >= LANE_LOG_SLICES_MIN &&
           (share_sparing(share, SHARE_SMALL) || share_sparing(share, SHARE_SLICES));
}

bool retain_is_full(const struct retain *retain)
{
    return retain->keeps && (retain_keeps_too_much(retain) || retain_keeps_its_share(retain));
}

void retain_wait(struct retain *retain, struct list *line)
{
    if (retain->keeps && !retain_keeps_too_much(retain) && retain_keeps_its_share(retain) &&
        !list_linked(&retain->node))
        list_append(line, &retain->node);
}

void retain_look(struct list *line, struct list *ready)
{
    struct list looked, *node;

    list_init(&looked);
    for (unsigned i = 0; i < RETAIN_LOOKS && (node = list_pop(line)) != NULL; i++)
        list_append(&looked, node);
    while ((node = list_pop(&looked)) != NULL) {
        bool waits = retain_keeps_its_share(container_of(node, struct retain, node));

        list_append(waits ? line : ready, node);
    }
}

unsigned retain_gather(const struct retain *retain, struct iovec *iov, unsigned most,
                       uint32_t *bytes)
{
    uint64_t skip = retain->sent - retain->replay - retain->acked;
    unsigned count = 0;

    retain_check(retain);
    *bytes = 0;
    for (uint32_t index = retain->head; index != SLAB_NONE && count < most;
         index = retain_slice(retain, index)->next) {
        const struct slice *slice = retain_slice(retain, index);

        if (skip >= slice->size) {
            skip -= slice->size;
            continue;
        }
        iov[count].iov_base = buf_data(&retain->loop->bufs, slice->buf) + slice->offset + skip;
        iov[count].iov_len = slice->size - skip;
        *bytes += (uint32_t)iov[count++].iov_len;
        skip = 0;
        if (*bytes >= LANE_REPLAY_SEND)
            break;
    }
    CHECK(*bytes > 0);
    return count;
}
