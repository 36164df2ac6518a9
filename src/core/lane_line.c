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
#include "core/lane.h"
#include "core/stream.h"

void lane_line_init(struct lane *lane)
{
    for (unsigned i = 0; i < LANE_LINES; i++) {
        list_init(&lane->lines[i].streams);
        lane->lines[i].next = &lane->lines[i].streams;
    }
}

/* To the first that has had none since there is room. */
static bool lane_line_turn(struct lane_line *line)
{
    if (line->next == &line->streams)
        return false;
    struct stream *s = container_of(line->next, struct stream, wait_node);
    line->next = line->next->next;
    s->turn = true;
    stream_mark(s);
    return true;
}

void lane_line_wake(struct lane *lane, enum lane_line_kind kind, uint32_t count)
{
    struct lane_line *line = &lane->lines[kind];

    line->next = line->streams.next;
    while (count > 0 && lane_line_turn(line))
        count--;
}

void lane_line_leave(struct stream *s)
{
    if (s->line == LANE_LINE_NONE)
        return;
    struct lane_line *line = &s->lane->lines[s->line];
    bool turn = s->turn;
    if (line->next == &s->wait_node)
        line->next = s->wait_node.next;
    list_remove(&s->wait_node);
    s->line = LANE_LINE_NONE;
    s->turn = false;
    if (turn)
        (void)lane_line_turn(line);
}

void lane_line_served(struct stream *s)
{
    if (s->line == LANE_LINE_BULK)
        s->turn = false;
}

void lane_line_settle(struct stream *s)
{
    if (s->refused == s->line) {
        s->turn = false;
        return;
    }
    lane_line_leave(s);
    if (s->refused == LANE_LINE_NONE || s->starved)
        return;
    CHECK(!list_linked(&s->wait_node));
    list_append(&s->lane->lines[s->refused].streams, &s->wait_node);
    s->line = s->refused;
}
