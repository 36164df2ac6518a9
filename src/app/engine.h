/* engine: runs an instance: its workers as threads, the signals, the summary at the end. */
#ifndef CULVERT_APP_ENGINE_H
#define CULVERT_APP_ENGINE_H

#include "core/base/config.h"

#include <stdbool.h>

/* Blocks until the instance has ended: SIGINT or SIGTERM (the first drains, the second ends at
 * once), or of itself. Returns an exit code (exit_code.h). SIGUSR1 prints the counters of every
 * worker to stderr. The log must have been started (log_start). *config changes while the role
 * prepares, before there are workers, and never after. */
int engine_run(struct config *config);

/* Afterwards: the service is still in a job (service.h), which reads files that hang. Nothing of
 * what it may use was freed, nor may exit handlers: the process has to end by _exit(2). */
bool engine_left_service(void);

#endif
