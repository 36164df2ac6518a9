/*
 * record_impl: the inside of struct record, shared by record.c (states, control records, keys),
 * record_user.c (libcrypto) and ktls.c (kernel). Nobody else includes it, tests of secrets
 * excepted.
 */
#ifndef CULVERT_TLS_RECORD_IMPL_H
#define CULVERT_TLS_RECORD_IMPL_H

#include "tls/record.h"

struct evp_cipher_ctx_st; /* EVP_CIPHER_CTX: wolfSSL's headers and libcrypto's do not mix */

struct record_half {
    struct record_half_keys keys;   /* key and iv: of the current generation */
    struct evp_cipher_ctx_st *aead; /* NULL once the kernel has the direction */
    enum record_engine engine;
    bool closed;      /* close_notify passed */
    bool rekeyed;     /* keys changed; the kernel engine has not been told yet */
    uint64_t sealed;  /* records under the current key */
    uint64_t records; /* records since the start */
    uint64_t updates; /* key changes since the start */
};

/* Reads handshake messages that may be split over records, without storing them. */
struct record_message {
    uint8_t header[4];
    uint8_t have;  /* header bytes read */
    uint8_t value; /* first body byte: all that a KeyUpdate has */
    uint32_t left; /* body bytes still to come */
};

struct record {
    uint16_t version;
    enum record_cipher cipher;
    uint8_t secret_len;
    uint8_t key_len;
    uint8_t explicit_nonce; /* 8 in TLS 1.2 GCM, else 0 */
    struct record_half tx;
    struct record_half rx;
    struct record_message message;
    enum record_error error;
    uint8_t peer_alert;
    enum record_type put_type;
    bool reply_due;    /* the peer asked for our KeyUpdate */
    bool asked;        /* we asked for the peer's, under its current key */
    unsigned useless;  /* records without data since the last one with data */
    uint64_t rx_bytes; /* payload opened; earns KeyUpdates */
    uint64_t soft;
    uint64_t hard;
};

static inline struct record_half *record_half(struct record *record, enum record_side side)
{
    return side == RECORD_TX ? &record->tx : &record->rx;
}

static inline const struct record_half *record_half_const(const struct record *record,
                                                          enum record_side side)
{
    return side == RECORD_TX ? &record->tx : &record->rx;
}

/* Puts the half's key into its EVP context (made if there is none). False when libcrypto
 * refuses. */
bool record_user_start(struct record *record, enum record_side side);
void record_user_stop(struct record_half *half);

/* HKDF-Expand-Label of RFC 8446 7.1 with an empty context; out_len is at most the hash length.
 * False when libcrypto refuses. */
bool record_expand_label(size_t hash_len, const uint8_t *secret, const char *label, uint8_t *out,
                         size_t out_len);

/* key and iv from half->secret (RFC 8446 7.3). */
bool record_derive(uint8_t secret_len, size_t key_len, struct record_half_keys *half);

size_t record_cipher_key_len(enum record_cipher cipher);
size_t record_cipher_hash_len(enum record_cipher cipher);

enum record_status record_fail(struct record *record, enum record_error error);

#endif
