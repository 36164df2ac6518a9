/*
 * lane_kept: ids of streams that are over, but of which something may still be on their lane.
 *
 * A stream's id on the wire (v2) is a place in the server's table of ids and a generation, so equal
 * ids come back (limits.h, STREAM_APART, says when at the earliest). If one came back while a frame
 * of its last stream waits in a queue, in a frozen lane's log, or at the peer, that frame would be
 * taken for one of the new stream's: another visitor's bytes. So a place goes back to the table
 * when two things have passed:
 *
 *   1. All that was queued on the lane when the stream left it was given to the wire. Everything
 *      that follows, OPEN with the same id first, is behind it in the lane's order of bytes, be
 *      they sent again after a resume.
 *   2. We have heard a count of the peer, in PING or PONG, that passes the stream's last byte: the
 *      peer has handled our FIN or RESET before it said so, and says nothing more of the stream
 *      afterwards. So whatever it did say has arrived.
 *
 * This is the server's part. What both sides owe each other for the second step (docs/PROTOCOL.md,
 * section 5):
 *   - RESET is the last frame of its side: it waits until the stream's bulk is out, and stands in
 *     the data pack behind its data (stream.c);
 *   - after FIN in both directions nothing follows, neither WINDOW nor RESET, and nothing after the
 *     other side's RESET (stream.c, relay.c);
 *   - a count that covers the other side's FIN or RESET does not overtake what is queued of the
 *     stream. PING and PONG are in the control pack, which goes first, so there is the fence: as
 *     long as data or bulk wait that stood in the queues when such a frame came, the count that we
 *     tell stops short of it.
 * The count in JOIN is not for the second step: it says where the bytes go on, and is told in front
 * of all queues.
 *
 * Kept ids wait in three lists: those in `fresh` came while those in `queued` wait for the marks
 * that were taken when the first of them came; those in `sent` have passed the first step, in the
 * order of the counts that they wait for. Fences are two in the same way: under a flood of resets
 * the count lags by what two fillings of the queues hold, and not for ever.
 *
 * A count is asked for, with PING, when many ids of a lane wait for one, and of all lanes when the
 * table runs out. When nothing is left of it visitors are refused. A frozen lane keeps its ids
 * until it is back, or closed. A peer without RESUME may not count: it shows this by a PONG with 0
 * or with more than it was sent, and then the first step must do, and the distance between equal
 * ids.
 *
 * Rejected: keeping the slot in the table of streams in place of an id. Visitors who come and go on
 * a frozen lane would use up --max-streams, a small table would refuse visitors until the peer has
 * counted, and the distance between equal ids would be paid with a struct stream each.
 */
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"
#include "core/wire/frame.h"

/* How often all lanes are asked when the table runs out. */
#define KEPT_PRESSED_NS (100 * NSEC_PER_MSEC)

/* Marks: positions in the three queues of a lane */

static struct lane_marks kept_marks_now(const struct lane *lane)
{
    const struct lane_marks *left = &lane->kept.left;

    return (struct lane_marks){
        .control = left->control + (lane->control.filled - lane->control.sent),
        .data = left->data + (lane->data.filled - lane->data.sent),
        .bulk = left->bulk + lane->bulk_bytes,
    };
}

static bool kept_marks_passed(const struct lane *lane, const struct lane_marks *marks)
{
    const struct lane_marks *left = &lane->kept.left;

    return left->control >= marks->control && left->data >= marks->data &&
           left->bulk >= marks->bulk;
}

uint64_t lane_data_mark(const struct lane *lane)
{
    return kept_marks_now(lane).data;
}

/* A send in flight counts: the peer may have it before we know. */
bool lane_data_left(const struct lane *lane, uint64_t mark)
{
    bool flies = lane->conn.send_flight && conn_flight_frames(&lane->conn) > 0;

    CHECK(mark <= lane_data_mark(lane));
    return lane->kept.left.data + (flies ? lane->flight_data : 0) >= mark;
}

/* The fence */

/* Bytes of the lane up to the end of the last frame that was handled. */
static uint64_t kept_fence_handled(const struct lane *lane)
{
    CHECK(lane->rx.filled - lane->rx.parsed <= lane->rx_bytes);
    return lane->rx_bytes - (lane->rx.filled - lane->rx.parsed);
}

void lane_fence(struct lane *lane)
{
    struct lane_kept *kept = &lane->kept;
    struct lane_marks marks = kept_marks_now(lane);
    struct lane_fence *fence = &kept->fences[kept->fences[0].stands ? 1 : 0];

    marks.control = 0; /* counts stand behind it in the same pack */
    if (kept_marks_passed(lane, &marks))
        return;
    if (!fence->stands)
        fence->count = kept_fence_handled(lane) - 1;
    fence->stands = true;
    fence->marks = marks;
    CHECK(fence->count < kept_fence_handled(lane) && fence->count >= kept->fences[0].count);
}

/* True if one fell: the peer is told what it was not told before. */
static bool kept_fences_look(struct lane *lane)
{
    struct lane_fence *fences = lane->kept.fences;
    bool fell = false;

    while (fences[0].stands && kept_marks_passed(lane, &fences[0].marks)) {
        fences[0] = fences[1];
        fences[1].stands = false;
        fell = true;
    }
    return fell;
}

uint64_t lane_count(const struct lane *lane)
{
    const struct lane_fence *fence = &lane->kept.fences[0];

    return fence->stands ? fence->count : kept_fence_handled(lane);
}

uint64_t lane_tell_count(struct lane *lane)
{
    uint64_t count = lane_count(lane);

    CHECK(count >= lane->kept.told); /* a fence that stood lower would never be passed by it */
    lane->kept.told = lane->rx_acked = count;
    return count;
}

/* Asking */

static bool kept_may_ask(const struct lane *lane)
{
    return !list_empty(&lane->kept.sent) && lane->state == LANE_OPEN && lane->ping_time == 0;
}

static void kept_ask_if_many(struct lane *lane)
{
    if (lane->kept.unasked >= STREAM_IDS_ASK && kept_may_ask(lane))
        lane_ask(lane);
}

/* The table of ids runs out: lanes that keep some ask their peers. */
static void kept_pressed(struct lane_table *table)
{
    if (table->loop->now - table->ids_pressed < KEPT_PRESSED_NS)
        return;
    table->ids_pressed = table->loop->now;
    for (struct list *node = table->all.next; node != &table->all; node = node->next) {
        struct lane *lane = container_of(node, struct lane, node);

        if (kept_may_ask(lane))
            lane_ask(lane);
    }
}

/* Keeping */

void lane_kept_init(struct lane *lane)
{
    list_init(&lane->kept.fresh);
    list_init(&lane->kept.queued);
    list_init(&lane->kept.sent);
}

static void kept_give_back(struct lane *lane, struct list *node)
{
    struct slab *ids = &lane->table->ids;

    const struct lane_id *id = container_of(node, struct lane_id, node);

    CHECK(lane->kept.count > 0 && id->stream == 0);
    lane->kept.count--;
    share_give(lane->share, SHARE_IDS, 1);
    slab_give(ids, slab_index(ids, id));
}

/* How the low bits of an id say where it is. */
static struct lane_id *kept_id_at(const struct lane *lane, uint32_t wire_id)
{
    return slab_at(&lane->table->ids, wire_id & STREAM_SLOT_MASK);
}

/* A lane that is frozen, or whose peer does not count, is not to stop the others: it has its share
 * of the ids. */
uint32_t lane_id_take(struct lane *lane, uint32_t slot)
{
    struct slab *ids = &lane->table->ids;
    bool may = share_may(lane->share, SHARE_IDS, 1);
    uint32_t place = may ? slab_take(ids) : SLAB_NONE;

    if (slab_available(ids) <= ids->count / 8)
        kept_pressed(lane->table);
    if (place == SLAB_NONE)
        return 0;
    share_take(lane->share, SHARE_IDS, 1);
    struct lane_id *id = slab_at(ids, place);
    CHECK(id->stream == 0);
    id->generation = id->generation >= STREAM_GENERATION_MAX ? 1 : id->generation + 1;
    id->stream = slot + 1;
    list_init(&id->node);
    return id->generation << STREAM_SLOT_BITS | place;
}

void lane_keep(struct lane *lane, uint32_t wire_id)
{
    struct lane_id *id = kept_id_at(lane, wire_id);

    CHECK(id->stream != 0 && id->generation == wire_id >> STREAM_SLOT_BITS);
    id->stream = 0;
    list_append(&lane->kept.fresh, &id->node);
    lane->kept.count++;
    CHECK(lane->kept.count <= lane->share->used[SHARE_IDS]); /* until given back they are held */
    if (lane_takes(lane))
        lane_kept_look(lane);
    else
        lane_kept_release(lane);
}

static void kept_pass_first(struct lane *lane)
{
    struct list *node;

    while ((node = list_pop(&lane->kept.queued)) != NULL) {
        container_of(node, struct lane_id, node)->until = lane->retain.sent;
        list_append(&lane->kept.sent, node);
        lane->kept.unasked++;
    }
}

static void kept_pass_second(struct lane *lane)
{
    struct lane_kept *kept = &lane->kept;

    while (!list_empty(&kept->sent)) {
        const struct lane_id *id = container_of(kept->sent.next, struct lane_id, node);

        CHECK(id->until <= lane->retain.sent);
        if (!kept->peer_counts_not && id->until > kept->counted)
            return;
        kept_give_back(lane, list_pop(&kept->sent));
    }
}

/* What came while others waited begins to wait. */
static bool kept_queue_fresh(struct lane *lane)
{
    struct lane_kept *kept = &lane->kept;
    struct list *node;

    if (!list_empty(&kept->queued))
        return true;
    while ((node = list_pop(&kept->fresh)) != NULL)
        list_append(&kept->queued, node);
    kept->until = kept_marks_now(lane);
    return !list_empty(&kept->queued);
}

void lane_kept_look(struct lane *lane)
{
    while (kept_queue_fresh(lane) && kept_marks_passed(lane, &lane->kept.until))
        kept_pass_first(lane);
    kept_pass_second(lane);
    kept_ask_if_many(lane);
    if (kept_fences_look(lane))
        lane_tell(lane);
}

void lane_kept_counted(struct lane *lane, uint64_t rx_bytes, bool possible)
{
    if (possible)
        lane->kept.counted = max_u64(lane->kept.counted, rx_bytes);
    else
        lane->kept.peer_counts_not = true;
    kept_pass_second(lane);
}

void lane_kept_release(struct lane *lane)
{
    struct list *lists[] = { &lane->kept.fresh, &lane->kept.queued, &lane->kept.sent };

    for (unsigned i = 0; i < ARRAY_SIZE(lists); i++) {
        struct list *node;

        while ((node = list_pop(lists[i])) != NULL)
            kept_give_back(lane, node);
    }
    CHECK(lane->kept.count == 0);
}
