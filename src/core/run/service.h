/*
 * service: the thread of the control plane: what takes time and is nobody's turn. Files that are
 * read again, what is to be done by the clock; whoever has such work posts a job.
 *
 * Neither a worker nor the thread of signals waits for a file system, and this thread waits for
 * nothing else: not for who reads the log (sink.h has threads for that), not for a name server
 * (resolve.h), not for a human (trust.c), not for a worker. What may take as long as somebody else
 * likes has a thread of its own; what a worker has to say to a job comes as another job.
 *
 * Jobs run one after the other, in the order in which they were posted. A job belongs to who made
 * it, from whose memory it is, so that a post can neither fail nor wait: it is in the queue once,
 * however often it is posted, and a post while it runs makes it run once more. A job with a time is
 * a timer: it joins the queue when that has come, by a clock that nobody sets.
 *
 * There is one service in a process, as there is one sink. So a post that comes too late finds a
 * service that takes nothing, not memory that is free.
 *
 * The end waits for no job: one may hang for as long as a file system does. What is queued is
 * dropped, because there are no workers any more that it could be for. A job that is running is
 * left behind, and then what it may touch must stay where it is until the process ends.
 *
 * Rejected: a thread for each job (two reloads at once, and an order that nobody knows); several
 * threads with one queue (the same); io_uring for the files (the libraries that parse certificates
 * read them in the middle of that, and the kernel may still wait in open(2)); work by the thread of
 * signals (as it was: SIGTERM waited for a reload).
 */
#ifndef CULVERT_CORE_RUN_SERVICE_H
#define CULVERT_CORE_RUN_SERVICE_H

#include "core/base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct service_job {
    struct list node; /* all of it is service.c's, under its mutex */
    uint64_t due;     /* 0: in the queue, or nowhere */
    void (*run)(struct service_job *job);
};

/* Before its first post: what it does, in the thread of the service, without a lock. `run` may post
 * its own job, and any other one. */
void service_job_init(struct service_job *job, void (*run)(struct service_job *job));

/* Makes the thread, which has all signals blocked. 0, or an errno. */
int service_start(void);

/* Behind those that are in the queue, or where it is there already; one that waited for its time
 * waits no more. Any thread, for some instructions. Before the start and after the end nothing
 * happens. */
void service_post(struct service_job *job);

/* In so many ns, not before; counted anew if it waited already. One that is in the queue stays
 * there. */
void service_post_after(struct service_job *job, uint64_t ns);

/* Monotonic clock, ns: what times of jobs are counted by. */
uint64_t service_now(void);

/* From the return on no job begins, and none is known here. True: none runs either, the thread has
 * ended. False: one does; it may come back at any time or never, and the thread ends then. Once
 * more: whether it has come back meanwhile. True without a start; not from a job. */
bool service_stop(void);

#endif
