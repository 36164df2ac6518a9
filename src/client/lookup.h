/*
 * lookup: asks for the addresses of a name, off the worker; the answer comes as a message. The
 * message is made with the question, so that the thread that has the answer needs no memory.
 */
#ifndef CULVERT_CLIENT_LOOKUP_H
#define CULVERT_CLIENT_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

struct config_endpoint;
struct message_type;
struct worker;

/* `worker` gets a message of this type, whose pointer is the struct resolve_result, and which has
 * `number`. False: no memory, or no thread. */
bool lookup_start(struct worker *worker, const struct config_endpoint *endpoint,
                  const struct message_type *type, uint32_t number);

#endif
