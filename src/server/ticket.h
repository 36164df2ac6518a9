/*
 * ticket: a client's proof that it had a public port at this server.
 *
 * BIND_OK carries one, BIND brings it back: a server that was restarted gives the port again if
 * nobody has it. It names port and client and is signed (HMAC-SHA256, RFC 2104) with a key that the
 * server keeps in its state directory, so that a client cannot make one for a port that it never
 * had. Without a state directory the key lives as long as the process.
 */
#ifndef CULVERT_SERVER_TICKET_H
#define CULVERT_SERVER_TICKET_H

#include "core/base/config.h"
#include "core/wire/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Once, before the workers start: reads the key, or makes one. A directory that cannot be written
 * is warned about. False, after saying why, without a key. */
bool ticket_open(const struct config *config);
void ticket_close(void);

/* Writes the ticket for a port to dst (FRAME_TICKET_MAX bytes); its size. */
size_t ticket_make(uint8_t *dst, uint16_t port, const uint8_t *client, size_t client_size);

/* The port of a ticket; 0 if it is not one of ours for this client. */
uint16_t ticket_port(struct frame_text ticket, const uint8_t *client, size_t client_size);

#endif
