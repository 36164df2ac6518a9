/*
 * message: see message.h. Messages that are under way are kept in a list, so that those that no
 * worker takes any more (it had stopped) are found at the end.
 */
#include "core/message.h"

#include "core/base.h"
#include "core/check.h"
#include "core/crypt.h"
#include "core/list.h"
#include "core/secret.h"
#include "core/sock.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list under_way = { &under_way, &under_way };

struct message *message_try(enum message_kind kind)
{
    struct message *message = calloc(1, sizeof(*message));

    if (message == NULL)
        return NULL;
    message->kind = kind;
    message->fd = -1;
    pthread_mutex_lock(&mutex);
    list_append(&under_way, &message->node);
    pthread_mutex_unlock(&mutex);
    return message;
}

struct message *message_new(enum message_kind kind)
{
    struct message *message = message_try(kind);

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

void message_free_all(void)
{
    while (!list_empty(&under_way)) {
        struct message *message = container_of(under_way.next, struct message, node);

        if (message->fd >= 0)
            sock_close(message->fd);
        crypt_close(message->crypt);
        message_free(message);
    }
}
