/*
 * record: one small interface over the two record engines of a lane.
 *
 *   user    records are sealed and opened here, in place in the caller's buffers, with libcrypto's
 *           AEADs (record_user.c)
 *   ktls    the kernel does it; the lane sends and receives plain bytes (ktls.c)
 *
 * A struct record holds both directions of one lane after its handshake. Each direction has its own
 * engine, and starts with `user`; ktls_take() moves a direction into the kernel. What is not DATA
 * (alerts, KeyUpdate, tickets) is handled here for both engines, so that a lane only ever sees
 * data, an end, or a failure with a reason.
 *
 * Buffers. Sealing needs record_head() bytes in front of the payload and record_tail() bytes behind
 * it; both are 0 once the kernel seals. Opening gives back a pointer into the caller's buffer.
 * Nothing here copies a payload, and nothing allocates after record_new().
 *
 * Not thread-safe: a record belongs to one lane, and a lane to one worker.
 *
 * References: RFC 8446 (TLS 1.3), RFC 5246 and RFC 5288 (TLS 1.2 with AES-GCM), RFC 7905 (TLS 1.2
 * with ChaCha20-Poly1305).
 */
#ifndef CULVERT_TLS_RECORD_H
#define CULVERT_TLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct iovec;

#define RECORD_HEADER    5u     /* type, legacy version, length */
#define RECORD_PLAIN_MAX 16384u /* payload of one record, RFC 8446 5.1 */
#define RECORD_TAG       16u
#define RECORD_HEAD_MAX  13u /* header and, in TLS 1.2 GCM, the 8-byte explicit nonce */
#define RECORD_TAIL_MAX  17u /* the inner type byte of TLS 1.3, and the tag */
#define RECORD_WIRE_MAX \
    (RECORD_HEADER + RECORD_PLAIN_MAX + 256u) /* RFC 8446 5.2; TLS 1.2 AEADs need less */
#define RECORD_CONTROL_MAX 64u                /* what any record_put_*() below writes at most */

#define RECORD_KEY_MAX    32u
#define RECORD_IV         12u
#define RECORD_SECRET_MAX 48u

#define RECORD_TLS12 0x0303u
#define RECORD_TLS13 0x0304u

enum record_type {
    RECORD_TYPE_CCS = 20,
    RECORD_TYPE_ALERT = 21,
    RECORD_TYPE_HANDSHAKE = 22,
    RECORD_TYPE_DATA = 23,
};

/* X(NAME, name, key bytes, hash bytes of its TLS 1.3 suite, suite of TLS 1.3) */
#define RECORD_CIPHER_TABLE(X)                    \
    X(AES_128_GCM, "AES-128-GCM", 16, 32, 0x1301) \
    X(AES_256_GCM, "AES-256-GCM", 32, 48, 0x1302) \
    X(CHACHA20_POLY1305, "ChaCha20-Poly1305", 32, 32, 0x1303)

enum record_cipher {
#define X(NAME, name, key, hash, suite) RECORD_##NAME,
    RECORD_CIPHER_TABLE(X)
#undef X
        RECORD_CIPHER_COUNT
};

enum record_engine {
    RECORD_USER,
    RECORD_KTLS,
};

enum record_side {
    RECORD_TX,
    RECORD_RX,
};

/* Why a direction failed. X(NAME, alert to send (RFC 8446 6.2), sentence) */
#define RECORD_ERROR_TABLE(X)                                                                  \
    X(NONE, 0, "no error")                                                                     \
    X(TOO_LONG, 22, "the peer sent a record longer than TLS allows")                           \
    X(TOO_SHORT, 20, "the peer sent a record too short to be sealed")                          \
    X(BAD_TYPE, 10, "the peer sent a record of a type that does not belong here")              \
    X(BAD_VERSION, 70, "the peer sent a record of another TLS version")                        \
    X(BAD_TAG, 20,                                                                             \
      "a record failed authentication: it was changed, repeated or reordered on the way")      \
    X(NO_INNER_TYPE, 10, "the peer sent a record without a content type")                      \
    X(PLAIN_ALERT, 10, "the peer sent an unencrypted alert after the handshake")               \
    X(BAD_ALERT, 50, "the peer sent a malformed alert")                                        \
    X(BAD_HANDSHAKE, 10, "the peer sent a handshake message that does not belong here")        \
    X(RENEGOTIATION, 100, "the peer wants to renegotiate TLS 1.2, which is not supported")     \
    X(BAD_KEY_UPDATE, 47, "the peer sent a malformed KeyUpdate")                               \
    X(KEY_UPDATE_FLOOD, 10, "the peer changes its keys far too often")                         \
    X(USELESS_FLOOD, 10, "the peer sends records that carry nothing")                          \
    X(NO_SECRET, 80, "the peer changed its keys, but this lane's traffic secret is not known") \
    X(LIMIT, 80, "the record limit of the lane's key is reached")                              \
    X(PEER_ALERT, 0, "the peer ended the connection with an alert")                            \
    X(TRUNCATED, 0, "the connection ended without close_notify: bytes may be missing")

enum record_error {
#define X(NAME, alert, text) RECORD_ERROR_##NAME,
    RECORD_ERROR_TABLE(X)
#undef X
        RECORD_ERROR_COUNT
};

/* One direction's keys. `secret` is application_traffic_secret_N (TLS 1.3 only). */
struct record_half_keys {
    uint8_t key[RECORD_KEY_MAX];
    uint8_t iv[RECORD_IV]; /* TLS 1.2 GCM: the 4-byte salt, then zeros */
    uint8_t secret[RECORD_SECRET_MAX];
    uint64_t seq; /* of the next record */
};

struct record_keys {
    uint16_t version; /* RECORD_TLS12 or RECORD_TLS13 */
    enum record_cipher cipher;
    uint8_t secret_len; /* 0: secrets not known, keys cannot be updated */
    struct record_half_keys tx;
    struct record_half_keys rx;
};

enum record_status {
    RECORD_MORE,   /* not a whole record yet; see need */
    RECORD_DATA,   /* data, len: payload, valid until the buffer is reused */
    RECORD_SKIP,   /* a whole record, nothing in it for the caller; ask record_update_due() */
    RECORD_CLOSED, /* close_notify: the orderly end of this direction */
    RECORD_FAILED, /* record_error() says why; nothing can be opened any more */
};

struct record_in {
    uint8_t *data;
    size_t len;
    uint8_t *next; /* the first byte behind the record; src when MORE */
    size_t need;   /* MORE: bytes of the whole record, counted from src (at least RECORD_HEADER) */
};

struct record;

/*
 * Makes both directions, engine user. The keys are copied; wipe yours with record_keys_wipe(). NULL
 * when memory or the cipher cannot be had.
 */
struct record *record_new(const struct record_keys *keys);

/* Wipes and frees; NULL is allowed. */
void record_free(struct record *record);

void record_keys_wipe(struct record_keys *keys);

enum record_engine record_engine(const struct record *record, enum record_side side);
enum record_cipher record_cipher(const struct record *record);
uint16_t record_version(const struct record *record);
const char *record_cipher_name(enum record_cipher cipher);
const char *record_engine_name(enum record_engine engine);

/* The cipher this CPU does fastest: AES-128-GCM with AES instructions, ChaCha20-Poly1305
 * without. */
enum record_cipher record_cipher_preferred(void);

/* Room that sealing needs in front of and behind a payload; 0 and 0 when the kernel seals. */
size_t record_head(const struct record *record);
size_t record_tail(const struct record *record);

/*
 * Seals `len` (at most RECORD_PLAIN_MAX) bytes at `payload` in place. The record starts at payload
 * - record_head(); its whole length is returned. 0: refused, because close_notify is out or the
 * key's record limit is reached (record_tx_error()): close the lane. Must not be called when the
 * kernel seals.
 */
size_t record_seal(struct record *record, enum record_type type, uint8_t *payload, size_t len);

/*
 * The same from `count` slices into dst, which has room for head, the sum of the slices (at most
 * RECORD_PLAIN_MAX) and tail. Sealing is the copy: packing small frames this way costs no memcpy.
 * The slices must not overlap dst.
 */
size_t record_seal_slices(struct record *record, enum record_type type, const struct iovec *slices,
                          int count, uint8_t *dst);

/*
 * Opens the record that starts at src, in place. Fills *in. Records must be given in order, each
 * exactly once. Must not be called when the kernel opens.
 */
enum record_status record_open(struct record *record, uint8_t *src, uint8_t *end,
                               struct record_in *in);

/*
 * For the kernel engine: a record of `type` whose plain payload the kernel delivered
 * (ktls_recv_type()). DATA is passed through. After RECORD_SKIP ask record_rx_rekeyed(): the kernel
 * needs new keys.
 */
enum record_status record_control(struct record *record, enum record_type type, uint8_t *payload,
                                  size_t len, struct record_in *in);

/* For the kernel engine: `bytes` of payload went to the kernel, which cuts records of at most
 * RECORD_PLAIN_MAX. */
void record_tx_count(struct record *record, size_t bytes);

/*
 * True when a KeyUpdate should go out before further data: the peer asked for one, or a key has
 * sealed nearly as many records as it may (RFC 8446 5.5). Then queue what record_put_key_update()
 * writes; what is sealed later has the new key.
 */
bool record_update_due(const struct record *record);

/*
 * Each writes one control record to dst (RECORD_CONTROL_MAX bytes of room) and returns its length;
 * 0 when refused as in record_seal(). With the user engine these are sealed bytes, to be sent like
 * any other; with ktls the plain payload, to be sent as a record of the type that record_put_type()
 * names (ktls_send_type()).
 */
size_t record_put_key_update(struct record *record, uint8_t *dst);
size_t record_put_close(struct record *record, uint8_t *dst);
size_t record_put_alert(struct record *record, uint8_t alert, uint8_t *dst);
enum record_type record_put_type(const struct record *record);

/* The kernel engine's part of a key change: true once after each change of that direction's
 * keys. */
bool record_rekeyed(struct record *record, enum record_side side);

/* True when close_notify went out, or came in. */
bool record_closed(const struct record *record, enum record_side side);

/*
 * The TCP connection has ended in the direction RX. False: without close_notify before, so what
 * came may be cut short; record_error() is then TRUNCATED.
 */
bool record_eof(struct record *record);

/* The reason of RECORD_FAILED, the alert that tells the peer (0: none is due), and a sentence for
 * the log. */
enum record_error record_error(const struct record *record);
uint8_t record_error_alert(enum record_error error);
const char *record_error_text(enum record_error error);

/* The alert that came with PEER_ALERT, and what it means in words. */
uint8_t record_peer_alert(const struct record *record);
const char *record_alert_name(uint8_t alert);

/* Counters of a direction since its start. */
uint64_t record_count(const struct record *record, enum record_side side);
uint64_t record_updates(const struct record *record, enum record_side side);

/*
 * Lowers the limits of records under one key: `soft` makes an update due, `hard` refuses. For tests
 * and for the careful; the defaults are in record.c.
 */
void record_set_limits(struct record *record, uint64_t soft, uint64_t hard);

#endif
