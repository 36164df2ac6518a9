/*
 * auth: who may open a session. A server may have several tokens, one in each line of its token
 * file, so that clients need not share one.
 *
 * What is kept of a token is its public id and what verifies a proof (core/scram.h): nothing here
 * logs in anywhere, and a log-in is one look-up, by id, among any number of tokens. A v1 client
 * shows the token itself; the same keys are made of it and compared.
 *
 * Read-only between auth_open and auth_close: workers need no lock.
 */
#ifndef CULVERT_SERVER_AUTH_H
#define CULVERT_SERVER_AUTH_H

#include "core/config.h"
#include "core/frame.h"
#include "core/reason.h"
#include "core/scram.h"
#include "core/sock.h"

#include <stdbool.h>
#include <stddef.h>

/* What a log-in brings forth. */
struct auth_login {
    unsigned token;                  /* which one it was, by its line: 0, 1, 2, ... */
    uint8_t secret[SCRAM_KEY_SIZE];  /* of the session */
    uint8_t proof[FRAME_PROOF_SIZE]; /* of this server */
};

/* Once, before the workers start: makes verifiers of the tokens in config->token, which is dropped.
 * False after saying why not. */
bool auth_open(struct config *config);
void auth_close(void);

/* REASON_DONE, AUTH_FAILED, AUTH_REMOTE_DEV_TOKEN when the server has no token of its own and
 * the peer is not on loopback, or TLS_ENDS_BETWEEN when the client and this server do not see
 * the same kind of connection. An id that is not known takes as long as a wrong proof. *login is
 * to be wiped by the caller. */
enum reason auth_check(const union sock_addr *peer, const struct frame_auth *auth,
                       const struct scram_channel *channel, struct auth_login *login);

/* The same for a token that is shown as it is; it brings forth nothing but its number. */
enum reason auth_check_v1(const union sock_addr *peer, const void *token, size_t size,
                          unsigned *number);

#endif
