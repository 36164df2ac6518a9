/* lookup: see lookup.h. */
#include "client/lookup.h"

#include "core/base/config.h"
#include "core/io/resolve.h"
#include "core/run/message.h"
#include "core/run/worker.h"

#include <stdlib.h>

struct lookup {
    struct worker *worker;
    struct message *message;
};

/* A worker that has ended needs no answer. */
static void lookup_done(void *arg, struct resolve_result *result)
{
    struct lookup *lookup = arg;

    lookup->message->pointer = result;
    (void)worker_post_from_thread(lookup->worker, lookup->message);
    free(lookup);
    worker_helper_end();
}

static struct lookup *lookup_new(struct worker *w, const struct message_type *type, uint32_t number)
{
    struct lookup *lookup = malloc(sizeof(*lookup));

    if (lookup == NULL)
        return NULL;
    *lookup = (struct lookup){ .worker = w, .message = message_try(type) };
    if (lookup->message != NULL) {
        lookup->message->number = number;
        return lookup;
    }
    free(lookup);
    return NULL;
}

bool lookup_start(struct worker *w, const struct config_endpoint *endpoint,
                  const struct message_type *type, uint32_t number)
{
    struct lookup *lookup = lookup_new(w, type, number);

    if (lookup == NULL)
        return false;
    worker_helper_begin();
    if (resolve_start(endpoint->host, endpoint->port, lookup_done, lookup))
        return true;
    worker_helper_end();
    message_free(lookup->message);
    free(lookup);
    return false;
}
