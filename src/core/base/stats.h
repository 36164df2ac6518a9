/* stats: a worker's counters. Written by their worker alone, never reset; others read a copy that
 * the worker made (a snapshot message). */
#ifndef CULVERT_CORE_BASE_STATS_H
#define CULVERT_CORE_BASE_STATS_H

#include <stdint.h>

/* X(name, text for people) */
#define STATS_TABLE(X)                                                                  \
    X(CONNECTIONS, "lanes accepted or dialled")                                         \
    X(SESSIONS, "sessions opened")                                                      \
    X(STREAMS, "streams opened")                                                        \
    X(STREAMS_DONE, "streams that ended with all bytes delivered")                      \
    X(STREAMS_RESET, "streams that ended otherwise")                                    \
    X(BYTES_UP, "bytes from local sockets to lanes")                                    \
    X(BYTES_DOWN, "bytes from lanes to local sockets")                                  \
    X(GONE, "connections accepted that had been reset")                                 \
    X(REFUSED_STREAMS, "visitors refused: too many streams")                            \
    X(REFUSED_FDS, "visitors refused: too many file descriptors")                       \
    X(REFUSED_SESSIONS, "clients refused: too many sessions")                           \
    X(REFUSED_LANES, "connections refused: too many lanes")                             \
    X(REFUSED_UNAUTHENTICATED, "connections refused: too many that have not logged in") \
    X(REFUSED_BUFFERS, "streams ended: out of buffers")                                 \
    X(ACCEPT_PAUSES, "pauses of accepting: out of file descriptors or memory")          \
    X(AUTH_FAILURES, "authentication failures")                                         \
    X(BAD_FRAMES, "sessions closed for a protocol violation")                           \
    X(FRAMES_IN, "frames received")                                                     \
    X(FRAMES_STALE, "frames for streams that had ended")                                \
    X(JOINS, "looks at streams that are closing")                                       \
    X(LANE_SENDS, "sends on lanes")                                                     \
    X(LANE_SEND_BYTES, "bytes sent on lanes")                                           \
    X(LANE_RECVS, "reads of lanes")                                                     \
    X(LANE_RECV_BYTES, "bytes read from lanes")                                         \
    X(LANES_FROZEN, "connections of lanes that were lost, streams kept")                \
    X(LANES_RESUMED, "lanes that came back on another connection")                      \
    X(REPLAYED_BYTES, "bytes sent again on lanes that came back")                       \
    X(STARVED_SMALL, "reads that found no small buffer")                                \
    X(STARVED_BIG, "reads of lanes that waited for a big buffer")                       \
    X(BULK_READS, "reads into big buffers")                                             \
    X(SPLICED_UP, "bytes moved through pipes to lanes")                                 \
    X(SPLICED_DOWN, "bytes moved through pipes from lanes")                             \
    X(COPIED_SLICES, "slices copied out of lane buffers")                               \
    X(WINDOWS_LIMITED, "windows kept small for the sparse streams of a lane")           \
    X(ZC_SENDS, "zero-copy sends")                                                      \
    X(ZC_COPIED, "zero-copy sends that the kernel copied after all")                    \
    X(CROSSINGS, "visitors handed to another worker")                                   \
    X(TURNS, "turns of the worker's loop")                                              \
    X(EVENTS, "completions handled")

enum stats_item {
#define X(name, text) STAT_##name,
    STATS_TABLE(X)
#undef X
        STAT_COUNT
};

struct stats {
    uint64_t value[STAT_COUNT];
};

const char *stat_name(enum stats_item stat); /* "STREAMS_DONE" */
const char *stat_text(enum stats_item stat);
void stats_add(struct stats *sum, const struct stats *part);

#endif
