/*
 * message: see message.h. Messages that are under way are kept in a list, so that those that no
 * worker takes any more (it had stopped) are found at the end.
 */
#include "core/run/message.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/list.h"
#include "core/base/secret.h"
#include "core/io/sock.h"
#include "core/mux/crypt.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list under_way = { &under_way, &under_way };

struct message *message_try(const struct message_type *type)
{
    struct message *message = calloc(1, sizeof(*message));

    if (message == NULL)
        return NULL;
    message->type = type;
    message->loose.fd = -1;
    pthread_mutex_lock(&mutex);
    list_append(&under_way, &message->node);
    pthread_mutex_unlock(&mutex);
    return message;
}

struct message *message_new(const struct message_type *type)
{
    struct message *message = message_try(type);

    CHECK(message != NULL);
    return message;
}

void message_free(struct message *message)
{
    pthread_mutex_lock(&mutex);
    list_remove(&message->node);
    pthread_mutex_unlock(&mutex);
    free(message->pointer);
    secret_free(message->secret);
    free(message);
}

void message_drop(struct message *message)
{
    if (message->dropped != NULL)
        message->dropped(message);
    message_free(message);
}

void message_free_all(void)
{
    while (!list_empty(&under_way)) {
        struct message *message = container_of(under_way.next, struct message, node);

        if (message->loose.fd >= 0)
            sock_close(message->loose.fd);
        crypt_close(message->loose.crypt);
        message_drop(message);
    }
}
