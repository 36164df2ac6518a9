/*
 * token: which secrets are too weak to stand between strangers and a tunnel.
 *
 * Whoever can reach a server may try one token after the other, and a token in clear or in a
 * transcript (scram.h) can be tried without the server. Sixteen characters are no proof of
 * strength, but what people type without thinking is shorter. Weak tokens are good enough on
 * loopback, where whoever can try them is on the machine already.
 */
#ifndef CULVERT_CORE_BASE_TOKEN_H
#define CULVERT_CORE_BASE_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#define TOKEN_STRONG_MIN 16

/* What is wrong with it, a short clause; NULL: nothing. */
const char *token_weakness(const char *token, size_t size);

/* White space at its ends, which nobody sees; what reads files drops it there. */
bool token_has_blank_ends(const char *token, size_t size);

/* Without it: *token and *size are moved. A token of nothing but white space becomes empty. */
void token_trim(const char **token, size_t *size);

/* How to make a better one, for the end of a sentence. */
#define TOKEN_CURE "make one for both ends with: (umask 077; openssl rand -hex 16 >token)"

#endif
