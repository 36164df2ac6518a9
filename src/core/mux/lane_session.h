/*
 * lane_session: the lanes of a session on one worker. A session (session.h) knows that it has some;
 * which they are, and what is done to all of them, is here.
 */
#ifndef CULVERT_CORE_MUX_LANE_SESSION_H
#define CULVERT_CORE_MUX_LANE_SESSION_H

#include "core/wire/reason.h"

#include <stdint.h>

struct lane;
struct session;

/* The lane of an index here; NULL if there is none. */
struct lane *lane_of_session(struct session *session, uint16_t index);

/* The lane for a new stream: the open one with the fewest, or else a frozen one, which may come
 * back; NULL if there is none. */
struct lane *lane_pick(struct session *session);

/* Closes every lane with the reason, and the session: the part is freed at the end of the turn. */
void lane_session_close(struct session *session, enum reason reason);

#endif
