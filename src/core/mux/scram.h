/*
 * scram: proofs in place of secrets, pure (no I/O, no allocation, no clock).
 *
 * A v2 log-in follows SCRAM (RFC 5802) with what tokens allow to leave out: they are random, so
 * that no salt and no iterations stretch them. From a token T follow
 *
 *     TokenKey  = HMAC("culvert v2 token", T)
 *     Id        = HMAC(TokenKey, "Token Id"), its first 16 bytes: the token's public name, by which
 *               a server finds it
 *     ClientKey = HMAC(TokenKey, "Client Key")      StoredKey = H(ClientKey)
 *     ServerKey = HMAC(TokenKey, "Server Key")
 *
 * A server keeps Id, StoredKey and ServerKey: none of them logs in. Both sides prove what they know
 * over a channel: the transcript of HELLO and HELLO_OK, which has a fresh nonce of each, and under
 * TLS the connection's exporter (RFC 9266), so that a proof is worth nothing on any other
 * connection, nor where somebody between ends TLS and begins it anew:
 *
 *     Channel     = H(H(HELLO) + H(HELLO_OK)) + bound u8 + exporter (zeros when not bound)
 *     AuthMessage = Channel + Id
 *     ClientProof = ClientKey xor HMAC(StoredKey, "culvert v2 auth" + AuthMessage)          in AUTH
 *     ServerProof = HMAC(ServerKey, "culvert v2 auth ok" + AuthMessage)                     in
 *     AUTH_OK
 *
 * A session's secret crosses no network either: both sides derive it from the log-in that made the
 * session, and prove with it, on the channel of a later connection, that this connection is the
 * session's:
 *
 *     Session     = HMAC(ClientKey, "culvert v2 session" + AuthMessage)
 *     in JOIN     = HMAC(Session, "culvert v2 join" + Channel + session u64 + lane u16 + flags u16
 *                 + rx_bytes u64)
 *     in JOIN_OK  = HMAC(Session, "culvert v2 join ok" + Channel + session u64 + lane u16)
 *
 * HELLO and HELLO_OK stand for their payloads, without headers. H is SHA-256, HMAC is HMAC-SHA256;
 * labels are ASCII without a terminator; integers are big-endian. "culvert v2 token" is a key,
 * filled up with zeros as HMAC does. Who sees a log-in on a plain connection can try tokens against
 * its proof: that is why they must be random and long (docs/SECURITY.md).
 *
 * A server learns ClientKey for the moment of a log-in, as in every SCRAM: who has stolen its
 * StoredKey and sees a log-in on a plain connection has it too. Rejected: a key agreement that
 * hides it (OPAQUE, SPAKE2), which neither library has.
 */
#ifndef CULVERT_CORE_MUX_SCRAM_H
#define CULVERT_CORE_MUX_SCRAM_H

#include "core/wire/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRAM_KEY_SIZE 32u

/* What a server keeps of a token. */
struct scram_verifier {
    uint8_t id[FRAME_ID_SIZE];
    uint8_t stored[SCRAM_KEY_SIZE];
    uint8_t server[SCRAM_KEY_SIZE];
};

/* What a client has of it. */
struct scram_keys {
    struct scram_verifier verifier;
    uint8_t client[SCRAM_KEY_SIZE];
};

/* A connection, as both of its ends see it if nobody stands between them. */
struct scram_channel {
    uint8_t transcript[SCRAM_KEY_SIZE];
    uint8_t bound; /* FRAME_BOUND_* */
    uint8_t exporter[SCRAM_KEY_SIZE];
};

/* From a token of any size; leaves nothing else of it behind. */
void scram_keys(struct scram_keys *keys, const void *token, size_t size);

/* The transcript goes on with the payload of HELLO (begins), then of HELLO_OK. */
void scram_begin(uint8_t transcript[SCRAM_KEY_SIZE], const uint8_t *src, const uint8_t *end);
void scram_go_on(uint8_t transcript[SCRAM_KEY_SIZE], const uint8_t *src, const uint8_t *end);

/* Client: its proof, the session's secret, and whether the server has proved itself. */
void scram_client_proof(const struct scram_keys *keys, const struct scram_channel *channel,
                        uint8_t proof[FRAME_PROOF_SIZE]);
void scram_client_session(const struct scram_keys *keys, const struct scram_channel *channel,
                          uint8_t secret[SCRAM_KEY_SIZE]);
bool scram_server_proved(const struct scram_keys *keys, const struct scram_channel *channel,
                         const uint8_t proof[FRAME_PROOF_SIZE]);

/* Server: whether the client knows the token, and then the session's secret and the server's own
 * proof, which are written in any case. The time that it takes does not depend on the answer. */
bool scram_client_proved(const struct scram_verifier *verifier, const struct scram_channel *channel,
                         const uint8_t proof[FRAME_PROOF_SIZE], uint8_t secret[SCRAM_KEY_SIZE],
                         uint8_t server_proof[FRAME_PROOF_SIZE]);

/* Whether these are the keys of a token that was shown as it is (v1). */
bool scram_shown(const struct scram_verifier *verifier, const struct scram_keys *keys);

/* The proof of JOIN over all of its fields but the proof itself, and that of JOIN_OK, over the
 * same session and lane. */
void scram_join(const uint8_t secret[SCRAM_KEY_SIZE], const struct scram_channel *channel,
                const struct frame_join *join, uint8_t proof[FRAME_PROOF_SIZE]);
void scram_join_ok(const uint8_t secret[SCRAM_KEY_SIZE], const struct scram_channel *channel,
                   const struct frame_join *join, uint8_t proof[FRAME_PROOF_SIZE]);

/* True if all bytes are the same; the time does not depend on where they differ. */
bool scram_equal(const void *a, const void *b, size_t size);

#endif
