/*
 * lane_line: streams that wait for room on a lane, in turn. There are four lines: for the data
 * pack, for the control pack, for the bulk queue, and of streams that are over, for RESET, which
 * goes into what small data leaves free of the data pack (LANE_OPEN_RESERVE).
 *
 * A stream stands in one line at most, and is put there at the end of its pump if it was refused
 * room in it (relay_pump); it keeps its place until a pump in which it was not refused. When room
 * comes, the first of the line get their turn: as many as there is certainly room for, not all,
 * since there may be thousands. Who has its turn passes it on when it leaves the line, be it
 * because it was served, because it needs nothing any more, or because it is over. Who is refused
 * ends it: there is no room, and what refused it wakes the line again when there is some (a send in
 * flight, buffers that come back, the peer's count). So either nobody waits, or somebody has a
 * turn, or there is no room.
 *
 * In the bulk line turns are counted by the free places of the queue: who took one does not pass
 * its turn on (lane_line_served).
 *
 * A stream that is refused twice in a pump stands for control: WINDOW lets the far side go on.
 *
 * What a pump is to the others stream_join is to a stream in the line for RESET.
 */
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

void lane_waiter_init(struct lane_waiter *waiter)
{
    *waiter = (struct lane_waiter){ .line = LANE_LINE_NONE };
    list_init(&waiter->node);
    list_init(&waiter->woken);
}

void lane_line_init(struct lane *lane)
{
    for (unsigned i = 0; i < LANE_LINES; i++) {
        list_init(&lane->lines[i].waiters);
        lane->lines[i].next = &lane->lines[i].waiters;
    }
}

void lane_waiter_wake(struct lane *lane, struct lane_waiter *waiter)
{
    if (!list_linked(&waiter->woken))
        list_append(&lane->loop->woken, &waiter->woken);
}

/* To the first that has had none since there is room. */
static bool lane_line_turn(struct lane *lane, struct lane_line *line)
{
    if (line->next == &line->waiters)
        return false;
    struct lane_waiter *waiter = container_of(line->next, struct lane_waiter, node);
    line->next = line->next->next;
    waiter->turn = true;
    lane_waiter_wake(lane, waiter);
    return true;
}

void lane_line_wake(struct lane *lane, enum lane_line_kind kind, uint32_t count)
{
    struct lane_line *line = &lane->lines[kind];

    line->next = line->waiters.next;
    while (count > 0 && lane_line_turn(lane, line))
        count--;
}

void lane_line_leave(struct lane *lane, struct lane_waiter *waiter)
{
    if (waiter->line == LANE_LINE_NONE)
        return;
    struct lane_line *line = &lane->lines[waiter->line];
    bool turn = waiter->turn;
    if (line->next == &waiter->node)
        line->next = waiter->node.next;
    list_remove(&waiter->node);
    waiter->line = LANE_LINE_NONE;
    waiter->turn = false;
    if (turn)
        (void)lane_line_turn(lane, line);
}

void lane_line_served(struct lane_waiter *waiter)
{
    if (waiter->line == LANE_LINE_BULK)
        waiter->turn = false;
}

void lane_line_settle(struct lane *lane, struct lane_waiter *waiter)
{
    if (waiter->refused == waiter->line) {
        waiter->turn = false;
        return;
    }
    lane_line_leave(lane, waiter);
    if (waiter->refused == LANE_LINE_NONE)
        return;
    CHECK(!list_linked(&waiter->node));
    list_append(&lane->lines[waiter->refused].waiters, &waiter->node);
    waiter->line = waiter->refused;
}
