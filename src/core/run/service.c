/* service: see service.h. */
#include "core/run/service.h"

#include "core/base/base.h"
#include "core/base/check.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

static struct {
    pthread_mutex_t lock; /* for all of it; never held while a job runs */
    pthread_cond_t work;  /* for the thread: a job, an earlier time, or the end */
    pthread_t thread;
    bool open;           /* takes jobs, and has a thread */
    bool busy;           /* a job runs */
    struct list queue;   /* service_job.node */
    struct list waiting; /* the same, for their time, the earliest first */
} service = { .lock = PTHREAD_MUTEX_INITIALIZER,
              .work = PTHREAD_COND_INITIALIZER,
              .queue = { &service.queue, &service.queue },
              .waiting = { &service.waiting, &service.waiting } };

uint64_t service_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

void service_job_init(struct service_job *job, void (*run)(struct service_job *job))
{
    *job = (struct service_job){ .run = run };
    list_init(&job->node);
}

static struct service_job *service_job_of(struct list *node)
{
    return container_of(node, struct service_job, node);
}

/* The rest needs the lock, up to the life of the thread. */

static void service_enqueue(struct service_job *job)
{
    list_remove(&job->node);
    job->due = 0;
    list_append(&service.queue, &job->node);
}

/* Whose time has come joins the queue. Returns that of the next one. */
static uint64_t service_look_at_clock(void)
{
    uint64_t now = service_now();

    while (!list_empty(&service.waiting)) {
        struct service_job *first = service_job_of(service.waiting.next);

        if (first->due > now)
            return first->due;
        service_enqueue(first);
    }
    return UINT64_MAX;
}

static void service_await(uint64_t due)
{
    struct timespec ts = { .tv_sec = (time_t)(due / NSEC_PER_SEC),
                           .tv_nsec = (long)(due % NSEC_PER_SEC) };

    if (due == UINT64_MAX)
        pthread_cond_wait(&service.work, &service.lock);
    else
        (void)pthread_cond_clockwait(&service.work, &service.lock, CLOCK_MONOTONIC, &ts);
}

/* Waits for a job; NULL: it is the end. */
static struct service_job *service_take(void)
{
    while (service.open) {
        uint64_t due = service_look_at_clock();
        struct list *node = list_pop(&service.queue);

        if (node != NULL)
            return service_job_of(node);
        service_await(due);
    }
    return NULL;
}

static void service_wait_until(struct service_job *job, uint64_t due)
{
    list_remove(&job->node);
    struct list *next = service.waiting.next;
    while (next != &service.waiting && service_job_of(next)->due <= due)
        next = next->next;
    job->due = due;
    list_append(next, &job->node); /* in front of it */
}

/* Not one that is in the queue already. */
static bool service_takes(const struct service_job *job)
{
    return service.open && (job->due != 0 || !list_linked(&job->node));
}

static void service_drop(struct list *jobs)
{
    while (list_pop(jobs) != NULL) {}
}

/* The thread */

static void *service_main(void *arg)
{
    struct service_job *job;

    (void)arg;
    pthread_mutex_lock(&service.lock);
    while ((job = service_take()) != NULL) {
        service.busy = true;
        pthread_mutex_unlock(&service.lock);
        job->run(job);
        pthread_mutex_lock(&service.lock);
        service.busy = false;
    }
    pthread_mutex_unlock(&service.lock);
    return NULL;
}

int service_start(void)
{
    sigset_t all, before;

    pthread_mutex_lock(&service.lock); /* the thread needs it first */
    CHECK(!service.open && !service.busy);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&service.thread, NULL, service_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    service.open = error == 0;
    pthread_mutex_unlock(&service.lock);
    return error;
}

bool service_stop(void)
{
    pthread_mutex_lock(&service.lock);
    bool ends = service.open, left = service.busy;
    service.open = false;
    service_drop(&service.queue);
    service_drop(&service.waiting);
    pthread_cond_signal(&service.work);
    pthread_mutex_unlock(&service.lock);
    if (ends && left)
        pthread_detach(service.thread);
    else if (ends)
        pthread_join(service.thread, NULL);
    return !left;
}

/* Posts */

void service_post(struct service_job *job)
{
    pthread_mutex_lock(&service.lock);
    if (service_takes(job)) {
        service_enqueue(job);
        pthread_cond_signal(&service.work);
    }
    pthread_mutex_unlock(&service.lock);
}

void service_post_after(struct service_job *job, uint64_t ns)
{
    pthread_mutex_lock(&service.lock);
    if (service_takes(job)) {
        service_wait_until(job, service_now() + ns);
        pthread_cond_signal(&service.work);
    }
    pthread_mutex_unlock(&service.lock);
}
