/* visitor: connections to public ports become streams. */
#ifndef CULVERT_SERVER_VISITOR_H
#define CULVERT_SERVER_VISITOR_H

#include <stdint.h>

struct message;
struct session;
struct worker;

/* A connection to a tunnel's port; owns fd. Refused with RST when the table is full or the session
 * has no lane anywhere. */
void visitor_accept(struct session *session, uint16_t tunnel, int fd);

/* The same for a connection that another worker accepted; session may be NULL (it has ended
 * meanwhile). */
void visitor_adopt(struct worker *worker, struct session *session, const struct message *message);

#endif
