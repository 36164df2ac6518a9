/*
 * outage: what the log says while the server cannot be reached.
 *
 * One for the process: lanes of several workers lose the same path, and what each of them tries,
 * several times a second, comes to the same nothing. Said are the beginning (the first lane that is
 * lost, and why), each new kind of failure of what is tried, how it goes after 10 s, 30 s, 70 s,
 * ... and at last every five minutes, and the end, with how long it took. The rest is for level
 * debug. A path that comes and goes is told as often as one that stays away (log_lasting); where
 * that leaves the beginning out, the first line that is said of the outage names the cause.
 *
 * An outage begins when a lane of the session is lost, or the session, and ends when all of them
 * are back, or there is another session. Before the first session it begins with the first failure.
 */
#include "client/outage.h"

#include "core/base/base.h"
#include "core/base/log.h"
#include "core/mux/lane.h"
#include "core/run/worker.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define KINDS_MAX    4u
#define OUTAGE_CAUSE (OUTAGE_TEXT + 64u)
/* A silence that nobody has noticed for so long was over. */
#define SUSPECT_NS (5 * NSEC_PER_SEC)
CHECK_STATIC(SESSION_LANES_MAX <= 64, "a bit for each lane");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    uint64_t down;   /* lanes that are lost */
    bool no_session; /* and the others with it */
    uint64_t since;  /* ns; 0: there is no outage */
    unsigned tries;  /* that came to nothing */
    unsigned kind_count;
    char kinds[KINDS_MAX][OUTAGE_TEXT];
    char last[OUTAGE_TEXT];
    char cause[OUTAGE_TEXT]; /* of this outage, as long as no line has named it; "": one has */
    struct log_lasting lost, trying, suspect;
    uint64_t suspected; /* ns: last */
    uint64_t now;       /* ns */
} outage;

/* Under the lock */

/* Workers look at the clock at different moments; here it does not go back. */
static uint64_t outage_now(const struct worker *w)
{
    outage.now = max_u64(outage.now, w->loop.now);
    return outage.now;
}

/* With the silence that led to it, if there was one. */
static void outage_begin(uint64_t now)
{
    bool was_silent = outage.suspect.on && now - outage.suspected < SUSPECT_NS;

    if (outage.since != 0)
        return;
    outage.since = max_u64(was_silent ? outage.suspect.since : now, 1);
    outage.tries = outage.kind_count = 0;
    outage.trying.said = 0;
    outage.cause[0] = '\0';
}

/* What a line that is said now adds to itself. */
static void outage_take_cause(char text[OUTAGE_CAUSE])
{
    text[0] = '\0';
    if (outage.cause[0] != '\0')
        snprintf(text, OUTAGE_CAUSE, "; the connection was lost before: %s", outage.cause);
    outage.cause[0] = '\0';
}

static bool outage_is_new(const char *kind)
{
    for (unsigned i = 0; i < outage.kind_count; i++)
        if (strcmp(outage.kinds[i], kind) == 0)
            return false;
    if (outage.kind_count == KINDS_MAX)
        return false;
    snprintf(outage.kinds[outage.kind_count++], sizeof(outage.kinds[0]), "%s", kind);
    return true;
}

/* True if the end is to be said: something was. */
static bool outage_end(uint64_t now, double *seconds, unsigned *tries)
{
    bool told = log_lasting_over(&outage.lost);

    told |= log_lasting_over(&outage.trying);
    (void)log_lasting_over(&outage.suspect);
    *seconds = (double)(now - outage.since) / 1e9;
    *tries = outage.tries;
    told = told && outage.since != 0;
    outage.since = 0;
    return told;
}

/* Alane, the session */

/* No-reconnect is about sessions: a lane that is kept is brought back all the same. */
static bool outage_comes_back(const struct lane *lane)
{
    return lane->loop->config->reconnect || lane->state == LANE_FROZEN;
}

void outage_lost(const struct lane *lane, const char *why, const char *detail)
{
    pthread_mutex_lock(&lock);
    uint64_t now = outage_now(worker_of(lane->loop));
    outage_begin(now);
    bool first = (outage.down | outage.no_session) == 0;
    uint32_t times = first ? log_lasting_shows(&outage.lost, now) : 0;
    if (first && times == 0)
        snprintf(outage.cause, sizeof(outage.cause), "%s%s%s", why, detail != NULL ? ": " : "",
                 detail != NULL ? detail : "");
    outage.down |= UINT64_C(1) << lane->index;
    pthread_mutex_unlock(&lock);
    if (times > 1)
        log_at(LOG_WARN, lane_subject(lane),
               "connection lost: %s%s%s; trying to come back, for the %u. time since this was said "
               "last",
               why, detail != NULL ? ": " : "", detail != NULL ? detail : "", times);
    else if (times > 0)
        log_at(LOG_WARN, lane_subject(lane), "connection lost: %s%s%s%s", why,
               detail != NULL ? ": " : "", detail != NULL ? detail : "",
               outage_comes_back(lane) ? "; trying to come back" : "");
    else
        log_at(LOG_DEBUG, lane_subject(lane), "lost: %s%s%s", why, detail != NULL ? ": " : "",
               detail != NULL ? detail : "");
}

void outage_back(const struct lane *lane)
{
    double seconds = 0;
    unsigned tries = 0;

    pthread_mutex_lock(&lock);
    bool was = outage.since != 0; /* a try that failed begins one as well */
    outage.down &= ~(UINT64_C(1) << lane->index);
    bool told = was && outage.down == 0 && !outage.no_session &&
                outage_end(outage_now(worker_of(lane->loop)), &seconds, &tries);
    pthread_mutex_unlock(&lock);
    if (told)
        log_at(LOG_INFO, lane_subject(lane), "all is well again after %.3f s, %u tries failed",
               seconds, tries);
}

void outage_session_lost(const struct worker *w)
{
    pthread_mutex_lock(&lock);
    outage_begin(outage_now(w));
    outage.no_session = true;
    pthread_mutex_unlock(&lock);
}

void outage_session_ready(const struct lane *lane)
{
    double seconds;
    unsigned tries;

    pthread_mutex_lock(&lock);
    outage.down = 0;
    outage.no_session = false;
    bool told = outage_end(outage_now(worker_of(lane->loop)), &seconds, &tries);
    pthread_mutex_unlock(&lock);
    if (told)
        log_at(LOG_INFO, lane_subject(lane), "connected after %.3f s, %u tries failed", seconds,
               tries);
}

/* What is tried */

void outage_suspect(const struct lane *lane)
{
    pthread_mutex_lock(&lock);
    uint64_t now = outage_now(worker_of(lane->loop));
    if (now - outage.suspected >= SUSPECT_NS)
        (void)log_lasting_over(&outage.suspect);
    outage.suspected = now;
    uint32_t times = log_lasting_shows(&outage.suspect, now);
    pthread_mutex_unlock(&lock);
    if (times > 0)
        log_at(LOG_INFO, lane_subject(lane), "nothing comes back: trying another connection%s",
               times > 1 ? ", again" : "");
}

void outage_try(const struct worker *w, const char *subject, const char *why, const char *detail)
{
    char kind[sizeof(outage.last)], cause[OUTAGE_CAUSE] = "";

    snprintf(kind, sizeof(kind), "%s%s%s", why, detail != NULL ? ": " : "",
             detail != NULL ? detail : "");
    pthread_mutex_lock(&lock);
    outage_begin(outage_now(w));
    outage.tries++;
    memcpy(outage.last, kind, sizeof(kind));
    bool is_new = outage_is_new(kind);
    if (is_new)
        outage.trying.said = 0;
    bool says = is_new && log_lasting_shows(&outage.trying, outage_now(w)) > 0;
    if (says)
        outage_take_cause(cause);
    pthread_mutex_unlock(&lock);
    if (says)
        log_at(LOG_WARN, subject, "%s%s", kind, cause);
    else
        log_at(LOG_DEBUG, subject, "%s", kind);
}

void outage_goes_on(const struct worker *w, const char *next)
{
    char last[sizeof(outage.last)], cause[OUTAGE_CAUSE] = "";

    pthread_mutex_lock(&lock);
    bool says = outage.since != 0 && log_lasting_shows(&outage.trying, outage_now(w)) > 0;
    unsigned tries = outage.tries;
    double seconds = (double)(outage_now(w) - outage.since) / 1e9;
    memcpy(last, outage.last, sizeof(last));
    if (says)
        outage_take_cause(cause);
    pthread_mutex_unlock(&lock);
    if (says && tries == 0)
        log_at(LOG_INFO, "client", "no session for %.0f s; %s%s", seconds, next, cause);
    else if (says)
        log_at(LOG_INFO, "client", "no session for %.0f s, %u tries failed, the last one: %s; %s%s",
               seconds, tries, last, next, cause);
    else
        log_at(LOG_DEBUG, "client", "%s", next);
}

bool outage_last(char *text, size_t size)
{
    pthread_mutex_lock(&lock);
    bool any = outage.since != 0 && outage.tries > 0;
    if (any)
        snprintf(text, size, "%s", outage.last);
    pthread_mutex_unlock(&lock);
    return any;
}
