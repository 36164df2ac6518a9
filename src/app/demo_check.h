/* demo_check: what the demo measures, in a thread of its own, and how it prints
 * it. */
#ifndef CULVERT_APP_DEMO_CHECK_H
#define CULVERT_APP_DEMO_CHECK_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "app/demo_load.h"
#include "config/options.h"

struct demo_check {
    struct options_demo what;
    struct sockaddr_in tunnel, direct;
    int done_event;        /* eventfd, written once when the check is over */
    atomic_bool cancelled; /* set by the owner: what fails from now on is not printed */
    bool ok;
    char error[DEMO_LOAD_ERROR_MAX]; /* one sentence if not ok */
};

/* Starts the check; its results go to standard output as they come. The fields
 * `ok` and `error` may be read once done_event is readable. False with errno.
 */
bool demo_check_start(struct demo_check *check);

#endif
