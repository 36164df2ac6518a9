/* visitor: connections to public ports become streams. */
#ifndef CULVERT_SERVER_VISITOR_H
#define CULVERT_SERVER_VISITOR_H

#include <stdint.h>

struct session;

/* A connection to a tunnel's port; owns fd. Refused with RST when the table is full or the session
 * has no lane anywhere. */
void visitor_accept(struct session *session, uint16_t tunnel, int fd);

#endif
