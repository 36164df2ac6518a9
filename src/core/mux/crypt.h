/*
 * crypt: what a lane needs of TLS, declared here and implemented in src/tls/crypt.c, so that the
 * engine knows no TLS library (and a simulation links another implementation).
 *
 * A crypt belongs to one lane: a handshake over memory, then two record engines, one per direction,
 * each either in user space (this interface seals and opens) or in the kernel (the lane sends and
 * receives plain bytes; only what is not data passes through here). A crypt_ctx is one side's
 * certificates and trust; it is counted, and may be shared by threads.
 */
#ifndef CULVERT_CORE_MUX_CRYPT_H
#define CULVERT_CORE_MUX_CRYPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct crypt;
struct crypt_ctx;

/* Payload of one record, and what a record is longer than its payload at most. */
#define CRYPT_PAYLOAD  16384u
#define CRYPT_OVERHEAD 320u
/* Room for one record of anything but data. */
#define CRYPT_CONTROL 64u

/* HMAC-SHA256 (RFC 2104, FIPS 180-4). */
#define CRYPT_MAC_SIZE 32u
void crypt_mac(const uint8_t key[CRYPT_MAC_SIZE], const void *data, size_t size,
               uint8_t mac[CRYPT_MAC_SIZE]);

/* SHA-256 (FIPS 180-4). */
void crypt_hash(const void *data, size_t size, uint8_t hash[CRYPT_MAC_SIZE]);

enum crypt_step {
    CRYPT_WANT, /* more bytes of the peer are needed */
    CRYPT_ASK,  /* a human must say whether to trust the peer: crypt_question, crypt_answer */
    CRYPT_READY,
    CRYPT_FAILED /* crypt_why; what crypt_output gives (an alert) should still be sent */
};

enum crypt_opened {
    CRYPT_MORE, /* not a whole record yet */
    CRYPT_DATA,
    CRYPT_SKIP,   /* a record without data was handled */
    CRYPT_CLOSED, /* close_notify */
    CRYPT_BROKEN  /* crypt_why; crypt_put_alert has the last word to the peer */
};

enum crypt_control { CRYPT_PUT_UPDATE, CRYPT_PUT_CLOSE, CRYPT_PUT_ALERT };

/* A lane's state. name: the server's name as verified; NULL on the server. NULL: out of memory. */
struct crypt *crypt_open(struct crypt_ctx *ctx, const char *name, const char *known_as);
void crypt_close(struct crypt *crypt);

/* Handshake. Takes all of [in, in + size), goes as far as it can. */
enum crypt_step crypt_handshake(struct crypt *crypt, const uint8_t *in, size_t size);
enum crypt_step crypt_answer(struct crypt *crypt, bool accept);
const char *crypt_question(const struct crypt *crypt); /* the peer's pin */

/* Bytes that crypt_output would give; moves them into dst and returns how many. */
size_t crypt_output_size(const struct crypt *crypt);
size_t crypt_output(struct crypt *crypt, uint8_t *dst, size_t room);

/* After READY: received bytes that belong to records already. crypt_leftover, once, moves them to
 * dst and frees the handshake. */
size_t crypt_leftover_size(const struct crypt *crypt);
void crypt_leftover(struct crypt *crypt, uint8_t *dst, size_t size);

/* After READY and when the handshake's output is sent: moves what it can into the kernel. `rx`: no
 * byte lies in user space that belongs to a record that is not opened; otherwise the direction that
 * receives is due, for a second call when that is so. `force`: an engine of user space is not
 * accepted. False with crypt_why if that fails. */
bool crypt_offload(struct crypt *crypt, int fd, bool rx, bool force);

/* Not once a record did not open, or close_notify came: nothing is received any more. */
bool crypt_offload_due(const struct crypt *crypt);
bool crypt_tx_kernel(const struct crypt *crypt);
bool crypt_rx_kernel(const struct crypt *crypt);

/* After READY: what both ends of a TLS 1.3 connection have in common and nobody else has (RFC
 * 9266: "tls-exporter"). All zeros under TLS 1.2, which proves nothing. */
void crypt_exporter(const struct crypt *crypt, uint8_t exporter[CRYPT_MAC_SIZE]);

/* TLS 1.2, which v1 peers may use and v2 peers may not. */
bool crypt_is_12(const struct crypt *crypt);

/* "TLS 1.3, AES-128-GCM, user/user" */
const char *crypt_summary(struct crypt *crypt);

/* One sentence after FAILED or BROKEN. crypt_short: FAILED because this machine had too little
 * memory, or descriptors; it says nothing of the peer, and the libraries may not recover from
 * it. crypt_is_clock: FAILED for a date, be it that a clock is wrong. */
const char *crypt_why(const struct crypt *crypt);
bool crypt_short(const struct crypt *crypt);
bool crypt_is_clock(const struct crypt *crypt);

/* User engine, sending: one record of the slices' bytes (at most CRYPT_PAYLOAD) to dst, which has
 * CRYPT_OVERHEAD more room. 0: refused. */
size_t crypt_seal(struct crypt *crypt, const struct iovec *slices, unsigned count, uint8_t *dst);

/* True if a key update is due before further data. */
bool crypt_update_due(const struct crypt *crypt);

/* A control record; returns its size, 0 if there is none to send. Kernel engine: the plain payload
 * and its record *type. */
size_t crypt_put(struct crypt *crypt, enum crypt_control what, uint8_t *dst, uint8_t *type);

/* The payload that the record at src has at most; 0: it is not whole. For a header that is refused
 * anyway the answer is CRYPT_PAYLOAD. */
size_t crypt_record_room(const uint8_t *src, const uint8_t *end);

/* User engine, receiving: opens the record at src. DATA: *size bytes of payload were written to dst
 * (room for crypt_record_room, may be NULL if that is 0). *used: bytes of src consumed; 0 with
 * MORE, all with CLOSED. */
enum crypt_opened crypt_open_record(struct crypt *crypt, uint8_t *src, uint8_t *end, uint8_t *dst,
                                    size_t *used, size_t *size);

/* Kernel engine: the type of a record travels beside its bytes, in a control message of CRYPT_CMSG
 * bytes (aligned as a struct cmsghdr, living until the send is done). crypt_send_type makes *msg
 * send one record of `type`; crypt_recv_type: what a recvmsg with such room got. */
#define CRYPT_CMSG           CMSG_SPACE(1)
#define CRYPT_TYPE_HANDSHAKE 22 /* RFC 8446, 5.1 */
#define CRYPT_TYPE_DATA      23
void crypt_send_type(struct msghdr *msg, void *control, uint8_t type);
uint8_t crypt_recv_type(struct msghdr *msg);

/* Kernel engine: a record that is not data, as the kernel delivered it. */
enum crypt_opened crypt_control(struct crypt *crypt, uint8_t type, uint8_t *payload, size_t size);

/* Kernel engine: bytes of data that were sent, and the keys of a direction after a key update went
 * out or came in. False: this kernel cannot change keys, crypt_why. */
void crypt_sent(struct crypt *crypt, uint32_t bytes);
bool crypt_rekey(struct crypt *crypt, int fd);

/* A plain lane that began with something else: a sentence on what the peer seems to be, for the
 * server's log or the client's; NULL if it is a tunnel peer after all. *tls: it speaks TLS. */
const char *crypt_sniff(const uint8_t *src, size_t size, bool server, bool *tls);

/* The peer's bytes ended. False: without close_notify, they may be cut short. */
bool crypt_eof(struct crypt *crypt);

#endif
