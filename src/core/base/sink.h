/*
 * sink: what the process says on standard output and standard error.
 *
 * Whoever reads them is somebody else: a pipe that nobody empties, a terminal that was stopped, a
 * disk that is full. Nothing of that may hold up a worker, nor the thread that waits for signals.
 * So from sink_start() on only the sinks' own threads, one for each of the two, write to these
 * descriptors. Everybody else copies a text into the sink's queue, under a mutex that is held for
 * the copying and never across a system call that writes.
 *
 * - A text goes out whole, behind those that were put before it, in one write(2) if the descriptor
 *   takes it: texts never mix, and a line is there as soon as the reader lets it be there.
 * - A text that finds no room is dropped and counted. The number is said in its place: in front of
 *   the next text that fits, or when all before it is written.
 * - A descriptor that takes nothing (EAGAIN, a full disk, a reader that is gone) is tried again;
 *   what is queued waits for it.
 * - Before sink_start(), and after sink_stop() if all was written, texts are written directly: the
 *   command line, tests, the simulation.
 */
#ifndef CULVERT_CORE_BASE_SINK_H
#define CULVERT_CORE_BASE_SINK_H

#include "core/base/base.h"
#include "core/base/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What waits for the reader of standard output or standard error : some 2,000 lines, and
 * a flood adds five of each kind every ten seconds. A text: the summary is the longest, 64 rows
 * of some 450 bytes. */
#define SINK_QUEUE    (256u * 1024u)
#define SINK_TEXT_MAX (64u * 1024u)
CHECK_STATIC(2 * SINK_TEXT_MAX <= SINK_QUEUE,
             "the longest text fits, with a notice in front of it");
/* How often a descriptor that gave an error is tried again. */
#define SINK_RETRY_NS NSEC_PER_SEC
/* At the end of the program: how long a reader may take nothing, and how long all may take. */
#define SINK_END_QUIET_NS NSEC_PER_SEC
#define SINK_END_NS       (5 * NSEC_PER_SEC)

enum sink_id { SINK_OUT, SINK_ERR, SINK_COUNT };

/* Writes into dst, of SINK_NOTICE bytes, that `lines` lines were left out; returns the size. Called
 * with the sink's mutex in hand, by any thread. */
typedef size_t sink_notice(enum sink_id id, uint64_t lines, char *dst);
#define SINK_NOTICE 256u

/* Starts the threads. False, with errno, if that cannot be. exit() stops them. */
bool sink_start(sink_notice *notice);

/* Ends the threads when what is queued is written; without that when a reader has taken nothing for
 * SINK_END_QUIET_NS, or after SINK_END_NS in all. What is put afterwards is written directly, or
 * goes nowhere if the reader was given up. */
void sink_stop(void);

/* A text of 1 to SINK_TEXT_MAX bytes, as a rule whole lines. Any thread; waits for
 * nobody unless this thread has patience. */
void sink_put(enum sink_id id, const char *text, size_t size);

/* How long this thread may wait for a reader: in each put, for room, and in sink_drain(), which
 * waits until all that was put is written. 0 unless it says so here: neither a worker may wait, nor
 * the thread that waits for signals while workers run. */
void sink_set_patience(uint64_t ns);
void sink_drain(void);

#endif
