/*
 * auth: who may open a session. A server may have several tokens, one in each line of its token
 * file, so that clients need not share one.
 *
 * What is kept of a token is its public id and what verifies a proof (core/mux/scram.h): nothing
 * here logs in anywhere, and a log-in is one look-up, by id, among any number of tokens. A v1
 * client shows the token itself; the same keys are made of it and compared.
 *
 * A token has a number for the life of the process: by it sessions, shares and remembered ports are
 * known (client_key.h). At first that is its line. When the tokens are read again, one that was
 * there keeps its number, wherever it stands now, and a new one gets a number that none has had: so
 * one that went and comes back is a new one, and nothing of a session that ends just then is its
 * own.
 *
 * A table of tokens never changes, so any thread may ask one that it has a reference to: a worker's
 * is in its snapshot (reload.h). Tables are made by one thread at a time.
 */
#ifndef CULVERT_SERVER_AUTH_H
#define CULVERT_SERVER_AUTH_H

#include "core/base/config.h"
#include "core/io/sock.h"
#include "core/mux/scram.h"
#include "core/wire/frame.h"
#include "core/wire/reason.h"

#include <stdbool.h>
#include <stddef.h>

/* What a log-in brings forth. */
struct auth_login {
    unsigned token;                  /* which one it was, by its number */
    uint8_t secret[SCRAM_KEY_SIZE];  /* of the session */
    uint8_t proof[FRAME_PROOF_SIZE]; /* of this server */
};

struct auth_table;

/* Once, before the workers start: makes a table of the tokens in config->token, which is dropped.
 * NULL after saying why not. */
struct auth_table *auth_open(struct config *config);

/* One reference more; and one less, for which NULL is allowed. Verifiers go with the last one. */
struct auth_table *auth_ref(struct auth_table *table);
void auth_unref(struct auth_table *table);

struct auth_change {
    unsigned count, fresh, gone; /* tokens, new ones of these, and those that are not there now */
};

/* The table of the tokens in *tokens, which are dropped, to take the place of the newest one. NULL
 * after saying why. */
struct auth_table *auth_renew(const struct auth_table *before, struct config *tokens,
                              struct auth_change *change);

/* Whether there is a token of this number. */
bool auth_knows(const struct auth_table *table, unsigned token);

/* REASON_DONE, AUTH_FAILED, AUTH_WEAK_TOKEN when the token is weak (core/base/token.h) and
 * the peer is not on loopback, or TLS_ENDS_BETWEEN when the client and this server do not see
 * the same kind of connection. An id that is not known takes as long as a wrong proof. *login is
 * to be wiped by the caller. */
enum reason auth_check(const struct auth_table *table, const union sock_addr *peer,
                       const struct frame_auth *auth, const struct scram_channel *channel,
                       struct auth_login *login);

/* The same for a token that is shown as it is; it brings forth nothing but its number. */
enum reason auth_check_v1(const struct auth_table *table, const union sock_addr *peer,
                          const void *token, size_t size, unsigned *number);

/* Whether what was shown is no token, but one with white space at its ends: for this server's log
 * alone. Who does not have the token learns nothing by it, and gets no line into the log. */
bool auth_has_but_for_blanks(const struct auth_table *table, const void *token, size_t size);

#endif
