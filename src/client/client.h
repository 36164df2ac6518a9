/* client: the role that dials lanes and origins. */
#ifndef CULVERT_CLIENT_CLIENT_H
#define CULVERT_CLIENT_CLIENT_H

#include "core/run/worker.h"

extern const struct role client_role;

/* Before the workers are opened: reads what the client trusts, and makes keys of the token, which
 * stays in *config only if v1 may need it. 0, or an exit code after saying what to change. */
int client_prepare(struct config *config);

/* After the workers have ended. */
void client_finish(void);

#endif
