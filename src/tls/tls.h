/*
 * tls: handshakes, trust and certificates. With record.h and ktls.h, which it includes, the only
 * header others see.
 *
 * Nothing here touches a socket. A handshake is bytes in, bytes out:
 *
 *     h = tls_handshake_new(ctx, "tunnel.example.org", "tunnel.example.org:9000", ...)
 *     for (;;) {
 *         state = tls_handshake_step(h)
 *         send what tls_handshake_output() holds, in every state
 *         DONE:       tls_handshake_keys() -> record_new(); open tls_handshake_leftover() first
 *         FAILED:     log tls_handshake_why(), close
 *         ASK:        show tls_handshake_peer_pin() to a human, then tls_handshake_answer()
 *         WANT_READ:  receive, tls_handshake_feed()
 *     }
 *     tls_handshake_free(h)
 *
 * A step never blocks, but it may compute: 0.1 to 0.4 ms with P-256 certificates. Callers that must
 * not wait that long run it on another thread; a handshake belongs to one thread at a time, a
 * tls_ctx may be shared by all.
 *
 * Who is trusted (client). Exactly one of:
 *   ca             the chain ends at a CA of the file, all dates (the CA's too) are valid at that
 *                  moment, and the certificate has the server's name
 *   pin            the server's key has this SHA-256 (of the SubjectPublicKeyInfo), and the dates
 *                  are valid. The key is the identity, so neither chain nor name is looked at
 *   known_servers  as pin, with the pin kept in a file in the manner of ssh, one line "host:port
 *                  sha256:..." per server
 * There is no way to switch verification off.
 */
#ifndef CULVERT_TLS_TLS_H
#define CULVERT_TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls/ktls.h"
#include "tls/record.h"
#include "tls/tls_mem.h"
#include "tls/tls_short.h"

#define TLS_PIN_SIZE      72u /* "sha256:", 64 hex digits, NUL */
#define TLS_WHY_SIZE      512u
#define TLS_EXPORTER_SIZE 32u

enum tls_role {
    TLS_SERVER,
    TLS_CLIENT,
};

/* What a client does with a server that known_servers does not list. */
enum tls_new_key {
    TLS_NEW_REFUSE, /* fail with UNKNOWN_KEY: no terminal to ask on */
    TLS_NEW_ASK,    /* state ASK */
    TLS_NEW_ACCEPT, /* append to the file: --tls-accept-new */
};

/* Why a handshake failed. X(NAME, what happened, what to do) */
#define TLS_FAIL_TABLE(X)                                                                        \
    X(NONE, "no failure", "")                                                                    \
    X(PLAINTEXT, "the peer does not speak TLS here", "see above")                                \
    X(WRONG_CA, "the certificate is not signed by a CA this side trusts",                        \
      "give the CA that signed it (--tls-ca), or the server's pin (--tls-pin sha256:...)")       \
    X(SELF_SIGNED, "the certificate is self-signed and this side does not trust it",             \
      "give that certificate as --tls-ca; a client can have its pin, too, --tls-pin sha256:...") \
    X(WRONG_NAME, "the certificate is for another name",                                         \
      "connect by a name it has, make one with that name (culvert gen-cert), or use --tls-pin")  \
    X(EXPIRED, "the certificate has expired",                                                    \
      "make a new one (culvert gen-cert), or check this machine's clock")                        \
    X(NOT_YET_VALID, "the certificate is not valid yet", "check the clocks of both machines")    \
    X(CA_EXPIRED, "the CA that signed the certificate has expired",                              \
      "put its renewed certificate into the CA file (--tls-ca) of this side, or check this "     \
      "machine's clock")                                                                         \
    X(CA_NOT_YET_VALID, "the CA that signed the certificate is not valid yet",                   \
      "check this machine's clock")                                                              \
    X(CHAIN_EXPIRED, "an intermediate certificate of the chain has expired",                     \
      "put the renewed one into the file of --tls-cert at the side that shows it, or check "     \
      "this machine's clock")                                                                    \
    X(CHAIN_NOT_YET_VALID, "an intermediate certificate of the chain is not valid yet",          \
      "check the clocks of both machines")                                                       \
    X(BAD_CHAIN, "the certificate's chain cannot be used",                                       \
      "the CA above it has to issue the named certificate anew")                                 \
    X(BAD_CA, "the CA that signed the certificate cannot vouch for it",                          \
      "give another certificate of that CA (--tls-ca), or have it make one")                     \
    X(PIN_MISMATCH, "the server's key does not match --tls-pin",                                 \
      "if its key was replaced, give the new pin; if not, somebody may be listening in")         \
    X(KEY_CHANGED, "THE SERVER'S KEY HAS CHANGED since it was first seen",                       \
      "somebody may be listening in; if you know why the key changed, remove the server's line " \
      "from the file")                                                                           \
    X(UNKNOWN_KEY, "the server's key is not known yet",                                          \
      "compare it with what the server printed at its start")                                    \
    X(KEY_REFUSED, "the server's key was not accepted",                                          \
      "compare it with what the server printed at start")                                        \
    X(BAD_CERTIFICATE, "the certificate cannot be used", "make a new one with culvert gen-cert") \
    X(CLIENT_CERT_MISSING, "the server asks for a client certificate",                           \
      "give the client one signed by the server's client CA (--tls-cert and --tls-key)")         \
    X(VERSION, "the two sides have no TLS version in common",                                    \
      "Culvert speaks TLS 1.3, and 1.2 with v1 peers: update the peer, or allow 1.2")            \
    X(NO_CIPHER, "the two sides have no cipher or curve in common",                              \
      "the peer needs AES-GCM or ChaCha20-Poly1305, with X25519 or P-256, in records of 16 KiB") \
    X(PEER_DISTRUSTS, "the peer does not trust this side's certificate",                         \
      "see its log: it may need the CA (--tls-ca) or the pin (--tls-pin) that this side "        \
      "printed at start, or one of the two has a wrong clock")                                   \
    X(PEER_ALERT, "the peer refused the handshake", "see the peer's log")                        \
    X(CLOSED, "the peer closed the connection during the handshake",                             \
      "see the peer's log: it may not speak TLS on this port")                                   \
    X(TIMEOUT, "the handshake took too long",                                                    \
      "check the network, and that the peer speaks TLS on this port")                            \
    X(PROTOCOL, "the peer broke the TLS protocol",                                               \
      "try again; if it persists, something changes bytes on the way")                           \
    X(NO_MEMORY, "out of memory", "free memory, or lower --max-streams")                         \
    X(INTERNAL, "the TLS library failed", "please report this with the log")

enum tls_fail {
#define X(NAME, text, cure) TLS_FAIL_##NAME,
    TLS_FAIL_TABLE(X)
#undef X
        TLS_FAIL_COUNT
};

/* PEM text in memory; data NULL: none. */
struct tls_pem {
    const char *data;
    size_t len;
};

/* Every string may be NULL. Copied by tls_ctx_new(). */
struct tls_config {
    enum tls_role role;
    uint16_t min_version; /* 0 or RECORD_TLS13; RECORD_TLS12 when v1 peers are served or dialled */

    /* Own certificate chain and key: needed by a server, sent by a client that is asked. Files or
     * memory. */
    const char *cert_file;
    const char *key_file;
    struct tls_pem cert;
    struct tls_pem key;

    /* Client: whom to trust. Server: clients must show a certificate of this CA (mTLS); without it
     * none is asked for. */
    const char *ca_file;
    struct tls_pem ca;
    const char *pin;           /* client: what value_is_pin() takes */
    const char *known_servers; /* client: path of the file */
    enum tls_new_key new_key;

    /* Debugging only: secrets of every handshake are appended here (SSLKEYLOGFILE format), after a
     * warning. */
    const char *keylog_file;

    /* One sentence for the log; may be NULL. Called from tls_ctx_new() and from steps. */
    void (*warn)(void *arg, const char *text);
    void *warn_arg;
};

struct tls_ctx;
struct tls_handshake;

/* NULL on failure, with one sentence in `why` that names the file or value and the cure. */
struct tls_ctx *tls_ctx_new(const struct tls_config *config, char *why, size_t why_size);

/*
 * Reference counting, thread-safe. For a reload make a new ctx, swap the pointer, drop the old one:
 * handshakes under way keep it alive, and lanes that are up do not need it.
 */
struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx);
void tls_ctx_unref(struct tls_ctx *ctx);

/* The pin of the own certificate; "" without one. */
const char *tls_ctx_pin(const struct tls_ctx *ctx);

/* Handshake */

enum tls_state {
    TLS_WANT_READ,
    TLS_ASK,
    TLS_DONE,
    TLS_FAILED,
};

/*
 * Client: `name` is the server's host name or IP address as the user gave it (sent as SNI and
 * verified), `known_as` the key in known_servers, normally "host:port". Server: both NULL. NULL
 * only when memory is short.
 */
struct tls_handshake *tls_handshake_new(struct tls_ctx *ctx, const char *name,
                                        const char *known_as);

/* Wipes and frees; NULL is allowed. */
void tls_handshake_free(struct tls_handshake *handshake);

/* Takes up to `len` received bytes and returns how many; what is not taken, offer again after the
 * next step. */
size_t tls_handshake_feed(struct tls_handshake *handshake, const uint8_t *data, size_t len);

/* Goes as far as the bytes allow. A client's first step needs none. */
enum tls_state tls_handshake_step(struct tls_handshake *handshake);

/* Bytes to send: valid until the next call that is not output. Also after FAILED: the alert. */
const uint8_t *tls_handshake_output(struct tls_handshake *handshake, size_t *len);
void tls_handshake_output_done(struct tls_handshake *handshake, size_t sent);

/* Leaves the state ASK. True: the key is appended to known_servers, DONE. False: FAILED with
 * KEY_REFUSED. */
enum tls_state tls_handshake_answer(struct tls_handshake *handshake, bool accept);

/* The connection ended, or took too long: FAILED with `reason` (CLOSED or TIMEOUT), unless over
 * already. */
enum tls_state tls_handshake_abort(struct tls_handshake *handshake, enum tls_fail reason);

enum tls_fail tls_handshake_fail(const struct tls_handshake *handshake);
const char *tls_fail_name(enum tls_fail fail);

/* After FAILED: what happened and what to do, for the log or the terminal. */
const char *tls_handshake_why(const struct tls_handshake *handshake);

/* After DONE, once: the keys of both directions. The handshake keeps none. */
void tls_handshake_keys(struct tls_handshake *handshake, struct record_keys *keys);

/* After DONE: TLS_EXPORTER_SIZE bytes that both ends have in common and nobody else has, whoever
 * stands between them (RFC 9266: "EXPORTER-Channel-Binding" without context). Zeros under TLS
 * 1.2. Valid until free. */
const uint8_t *tls_handshake_exporter(const struct tls_handshake *handshake);

/* After DONE: bytes that came behind the handshake; they are records. Writable, for opening in
 * place; valid until free. */
uint8_t *tls_handshake_leftover(struct tls_handshake *handshake, size_t *len);

/* The peer's pin; "" when it showed no certificate. Known from ASK and DONE on, and after most
 * certificate failures. */
const char *tls_handshake_peer_pin(const struct tls_handshake *handshake);

/* "TLS 1.3, AES-128-GCM" after DONE. */
const char *tls_handshake_summary(const struct tls_handshake *handshake);

/* Plain bytes where TLS was expected, and the reverse */

/* X(NAME, what the peer seems to be) */
#define TLS_SNIFF_TABLE(X)                                           \
    X(NOTHING, "nothing yet")                                        \
    X(TLS, "a TLS peer")                                             \
    X(OLD_SSL, "a peer that speaks SSL 2 or 3, which nobody should") \
    X(V1, "a v1 tunnel peer without TLS")                            \
    X(V2, "a Culvert peer without TLS")                              \
    X(HTTP, "an HTTP peer")                                          \
    X(SSH, "an SSH peer")                                            \
    X(OTHER, "something that is not TLS")

enum tls_sniff {
#define X(NAME, text) TLS_SNIFF_##NAME,
    TLS_SNIFF_TABLE(X)
#undef X
        TLS_SNIFF_COUNT
};

/* What the first bytes of a connection look like. For a plain port too: TLS there is a client with
 * --tls. */
enum tls_sniff tls_sniff(const uint8_t *data, size_t len);
const char *tls_sniff_text(enum tls_sniff sniff);

/* Certificates */

/* "sha256:..." of the SubjectPublicKeyInfo of the first certificate in a PEM file. False with a
 * sentence in why. */
bool tls_pin_of_file(const char *cert_file, char pin[TLS_PIN_SIZE], char *why, size_t why_size);

/* Reads a pin as users write it, into the form above. False: neither 64 hex digits nor 44 base64
 * characters. */
bool tls_pin_parse(const char *text, char pin[TLS_PIN_SIZE]);

struct tls_gen {
    const char *dir; /* made if missing, mode 0700 */
    const char *const
        *names; /* host names and IP addresses; localhost, 127.0.0.1 and ::1 are always added */
    size_t name_count;
    unsigned days; /* 0: 3650 for the CA, 825 for certificates */
    /* not NULL: a client certificate for this name instead (client.pem, client.key) */
    const char *client;
};

/*
 * Makes what is missing in dir: ca.pem and ca.key (kept when there), then server.pem and server.key
 * (replaced). EC P-256; files are 0600 and appear whole or not at all. False with a sentence in
 * why.
 */
bool tls_gen_cert(const struct tls_gen *gen, char *why, size_t why_size);

/* A server's certificate and key in memory, PEM, for `name` (may be NULL) and localhost, by a CA of
 * which nothing is kept. Secret memory; drop gives it back. False with a sentence in why. */
struct tls_text {
    char *data;
    size_t len;
};

struct tls_own_pair {
    struct tls_text cert, key;
};

bool tls_own_pair_make(const char *name, struct tls_own_pair *own, char *why, size_t why_size);
void tls_own_pair_drop(struct tls_own_pair *own);

/* Names of the first certificate in a PEM file but localhost and its addresses: the first of
 * them, a DNS name if there is one. False: it has none, or cannot be read. */
bool tls_cert_public_name(const char *cert_file, char *name, size_t size);

/* Days until the first certificate in a PEM file expires, negative when it has. False: there is
 * none that can be read. */
bool tls_cert_days(const char *cert_file, long *days);

/* The same, and how its dates stand to the clock; text: the nearer of them, and the clock. */
struct tls_dates {
    long days;
    bool early; /* it is not valid yet */
    bool clock_is_set;
    char text[128];
};
bool tls_cert_dates(const char *cert_file, struct tls_dates *dates);

/* True if the first certificate of the one file is valid for longer than that of the other; *days:
 * by how many. False as well if one of them cannot be read. */
bool tls_cert_outlives(const char *cert_file, const char *other_file, long *days);

/*
 * Makes dir/server.pem again, with its names and its key, if the CA in dir has signed it (else it
 * is not ours to replace: false). False with a sentence in why.
 */
bool tls_cert_renew(const char *dir, char *why, size_t why_size);

/* One line for a human: names and last day of the first certificate in a PEM file. */
bool tls_cert_describe(const char *cert_file, char *text, size_t text_size);

#endif
