/* outage: what the log says while the server cannot be reached; see outage.c. Any worker. */
#ifndef CULVERT_CLIENT_OUTAGE_H
#define CULVERT_CLIENT_OUTAGE_H

#include <stdbool.h>
#include <stddef.h>

struct lane;
struct worker;

/* A lane of the session has lost its connection, or is back: the same one, or joined anew. */
void outage_lost(const struct lane *lane, const char *why, const char *detail);
void outage_back(const struct lane *lane);

/* The session is over; there is another one, on this lane. */
void outage_session_lost(const struct worker *worker);
void outage_session_ready(const struct lane *lane);

/* Another connection is tried beside one that is silent. */
void outage_suspect(const struct lane *lane);

/* A try came to nothing. detail: may be NULL. And: what is done next. */
void outage_try(const struct worker *worker, const char *subject, const char *why,
                const char *detail);
void outage_goes_on(const struct worker *worker, const char *next);

/* What failed last, in this outage; false: nothing that was tried. */
#define OUTAGE_TEXT 800u /* what TLS has to say is long; a line has 1024 bytes */
bool outage_last(char *text, size_t size);

#endif
