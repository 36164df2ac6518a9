/*
 * tls_impl: the inside of struct tls_ctx and struct tls_handshake, for the files of src/tls.
 *
 * wolfSSL's headers define names that libcrypto's also define when both are included in one file.
 * So wolfSSL types are forward declared here, and each source includes one of the two libraries:
 * tls_ctx.c, tls_handshake.c and tls_keys.c wolfSSL; tls_ca.c, tls_cert.c, tls_own.c, tls_path.c,
 * tls_peer.c, tls_pem.c, tls_pin.c and tls_pk.c libcrypto.
 */
#ifndef CULVERT_TLS_TLS_IMPL_H
#define CULVERT_TLS_TLS_IMPL_H

#include <stdatomic.h>
#include <time.h>

#include "tls/tls.h"

struct WOLFSSL;
struct WOLFSSL_CTX;
struct evp_pkey_st;
struct tls_ca;
struct x509_st;
struct x509_store_ctx_st;
struct x509_store_st;

#define TLS_IN_SIZE   8192u          /* wolfSSL keeps a partial record itself, so any size works */
#define TLS_OUT_MAX   (256u * 1024u) /* a flight with the longest certificate chain */
#define TLS_TEXT_SIZE 320u
#define TLS_CHAIN_MAX 9u /* certificates of a peer; wolfSSL (MAX_CHAIN_DEPTH) refuses more */

enum tls_trust {
    TLS_TRUST_NOBODY, /* server without client CA */
    TLS_TRUST_CA,
    TLS_TRUST_PIN,
    TLS_TRUST_KNOWN,
};

struct tls_ctx {
    atomic_uint refs;
    enum tls_role role;
    enum tls_trust trust;
    enum tls_new_key new_key;
    uint16_t min_version;
    bool client_order; /* a server with AES instructions: the weaker CPU of the two decides */
    struct WOLFSSL_CTX *wolf;
    /* own EC key for tls_pk.c; NULL: wolfSSL signs itself (RSA, Ed25519) */
    struct evp_pkey_st *sign_key;
    char pin[TLS_PIN_SIZE]; /* trust PIN: expected */
    char own_pin[TLS_PIN_SIZE];
    char *known_servers;
    struct tls_ca *ca; /* trust CA */
    long later;        /* seconds that tls_ctx_time() is ahead of the clock: only tests move it */
    int keylog;        /* descriptor or -1 */
    void (*warn)(void *arg, const char *text);
    void *warn_arg;
};

/* application and handshake traffic secrets, caught while wolfSSL derives keys from them */
struct tls_secrets {
    uint8_t handshake[RECORD_SECRET_MAX];
    uint8_t traffic[RECORD_SECRET_MAX];
    uint8_t len;
    /* keys derived so far: the first from the handshake secret, the second from the traffic
     * secret */
    uint8_t seen;
};

/* Looks at the headers of incoming records as they pass, for an alert in the clear. */
struct tls_watch {
    uint8_t header[RECORD_HEADER];
    uint8_t alert[2];
    size_t have; /* bytes of the current record seen, header included */
    bool alerted;
};

struct tls_handshake {
    struct tls_ctx *ctx;
    struct WOLFSSL *wolf; /* NULL once over */
    enum tls_state state;
    enum tls_fail fail;
    char *name;
    char *known_as;
    bool sniffed;
    bool judged;                /* the verify callback was called: `accepted` is the verdict */
    bool accepted;              /* the peer is trusted, unless wolfSSL objects */
    bool peer_ok;               /* the verify callback has accepted the peer's own certificate */
    bool key_is_new;            /* known_servers: not listed; accepted or asked for */
    enum tls_fail cert_fail;    /* what the verify callback found */
    char detail[TLS_TEXT_SIZE]; /* what exactly: names, dates */
    char peer_pin[TLS_PIN_SIZE];
    char why[TLS_WHY_SIZE];
    char summary[TLS_TEXT_SIZE];
    struct tls_watch watch;
    struct tls_secrets client_secrets;
    struct tls_secrets server_secrets;
    struct record_keys keys;
    uint8_t exporter[TLS_EXPORTER_SIZE];
    uint8_t *out;
    size_t out_at;
    size_t out_len;
    size_t out_size;
    size_t in_at;
    size_t in_len;
    uint8_t in[TLS_IN_SIZE];
};

/* The handshake whose step runs on this thread: the HKDF callback of wolfSSL has no argument of its
 * own. */
extern _Thread_local struct tls_handshake *tls_stepping;

/* The peer's certificates as they came, its own first. */
struct tls_chain {
    unsigned count;
    struct {
        const uint8_t *der;
        size_t len;
    } cert[TLS_CHAIN_MAX];
};

void tls_ctx_warn(const struct tls_ctx *ctx, const char *text);

/*
 * The time by which dates of certificates are judged. A test that wants to see one expire adds to
 * ctx->later instead of waiting.
 */
time_t tls_ctx_time(const struct tls_ctx *ctx);

/* tls_keys.c */
int tls_keys_hkdf(unsigned char *okm, unsigned okm_len, const unsigned char *prk, unsigned prk_len,
                  const unsigned char *protocol, unsigned protocol_len, const unsigned char *label,
                  unsigned label_len, const unsigned char *info, unsigned info_len, int digest,
                  int side);
bool tls_keys_export(struct tls_handshake *handshake);
int tls_keylog_open(const char *path);
void tls_keylog_write(struct tls_handshake *handshake);

/*
 * tls_pk.c: P-256 (and P-384, P-521) signatures by libcrypto, whose assembly is 5 to 7 times as
 * fast as the C of Debian's wolfSSL. The first two are wolfSSL's callbacks; 0 or negative.
 */
int tls_pk_ecc_sign(struct WOLFSSL *wolf, const unsigned char *hash, unsigned hash_len,
                    unsigned char *sig, unsigned *sig_len, const unsigned char *key,
                    unsigned key_len, void *sign_key);
int tls_pk_ecc_verify(struct WOLFSSL *wolf, const unsigned char *sig, unsigned sig_len,
                      const unsigned char *hash, unsigned hash_len, const unsigned char *key,
                      unsigned key_len, int *result, void *unused);
struct evp_pkey_st *tls_pk_load(const char *key_pem, size_t len, const char *cert_pem,
                                size_t cert_len, bool *matches);
/* TLS 1.3 has signatures of this kind, and wolfSSL makes them right: with an RSA-PSS key (which is
 * not RSA, RFC 8446, 4.2.3) or another curve it makes such as other libraries refuse. */
#define TLS_PK_COMMON "ECDSA (P-256, P-384, P-521), Ed25519, Ed448 or RSA"
bool tls_pk_is_common(const struct evp_pkey_st *key);
bool tls_pk_is_ecc(const struct evp_pkey_st *key);
void tls_pk_free(struct evp_pkey_st *key);

/* What wolfSSL says of the certificate at hand. */
struct tls_opinion {
    bool content;
    bool issuer_unknown; /* its only complaint; it always has it, because it is given no CA */
    const char *text;    /* its complaint */
};

/*
 * tls_peer.c: decides on a peer, whose certificates are `chain`, at the first call of a handshake;
 * the later ones repeat the verdict. At depth 0, the peer's own certificate, wolfSSL's opinion
 * counts too. Sets peer_pin; cert_fail and detail when it refuses.
 */
bool tls_peer_judge(struct tls_handshake *handshake, int depth, const struct tls_chain *chain,
                    const struct tls_opinion *opinion);

/* Notes why the peer is refused; false. The format's text is made printable. */
bool tls_peer_refuse(struct tls_handshake *handshake, enum tls_fail fail, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "a, b, c": the names a certificate is for, as many as fit; "nobody" without any. */
void tls_peer_names(const struct x509_st *cert, char *text, size_t size);

/*
 * tls_ca.c: the CA file. `name` is the file's for messages. NULL with a sentence in `why`; what
 * does not hinder the start is told by tls_ctx_warn().
 */
struct tls_ca *tls_ca_load(struct tls_ctx *ctx, const char *name, const char *text, size_t len,
                           char *why, size_t why_size);
void tls_ca_free(struct tls_ca *ca);
struct x509_store_st *tls_ca_store(const struct tls_ca *ca);

/* An intermediate from its bytes, remembered or read; NULL: it cannot be read. The caller frees
 * it. */
struct x509_st *tls_ca_read(struct tls_ca *ca, const uint8_t *der, size_t len);

/* Remembers one of a peer that was accepted. */
void tls_ca_remember(struct tls_ca *ca, const uint8_t *der, size_t len);

/*
 * tls_path.c: true if a path of certificates leads from the peer's own, `leaf`, to a CA of ctx->ca,
 * and each of them may be where it is at this moment. Otherwise false, refused with the reason.
 */
bool tls_path_leads(struct tls_handshake *handshake, struct x509_st *leaf,
                    const struct tls_chain *chain);

/* libcrypto asks a store: which CA has signed this? 1 and *issuer, or 0. */
int tls_path_issuer(struct x509_st **issuer, struct x509_store_ctx_st *path, struct x509_st *cert);

/* NULL, or why this key is no protection. */
const char *tls_path_weak_key(const struct x509_st *cert);

/*
 * tls_own.c: the own certificate chain, checked; *pem, which the caller frees, has the certificates
 * alone, for wolfSSL. Sets own_pin.
 */
bool tls_own_load(struct tls_ctx *ctx, const char *name, const char *text, size_t len, char **pem,
                  char *why, size_t why_size);

/* The number of the member whose key this is; 0: none. */
unsigned tls_own_member_of(const char *text, size_t len, const struct evp_pkey_st *key);

/* tls_cert.c: dates. "valid from 2026-01-02 03:04 UTC, this machine's clock says 1970-..." when
 * EARLY, "valid until ..." otherwise. */
#define TLS_WHEN_TEXT 128u
enum tls_when {
    TLS_WHEN_EARLY,
    TLS_WHEN_GOOD,
    TLS_WHEN_LATE,
};
enum tls_when tls_cert_when(const struct x509_st *cert, time_t now);
void tls_cert_when_text(const struct x509_st *cert, enum tls_when when, time_t now, char *text,
                        size_t size);

/* For how long a certificate that is made now is good. A clock that is not set counts for
 * nothing. */
struct tls_period {
    time_t begin, end;
};
bool tls_cert_clock_is_set(time_t now);
struct tls_period tls_cert_period(time_t now, unsigned days, bool ca);

/* tls_pin.c */
enum tls_known {
    TLS_KNOWN_SAME,
    TLS_KNOWN_CHANGED,
    TLS_KNOWN_NEW,
    TLS_KNOWN_UNREADABLE,
};
enum tls_known tls_known_look(const char *path, const char *known_as, const char *pin);
bool tls_known_append(const char *path, const char *known_as, const char *pin);
bool tls_pin_of_cert(const struct x509_st *cert, char pin[TLS_PIN_SIZE]);

/* tls_why.c */
void tls_why_set(struct tls_handshake *handshake, enum tls_fail fail);
bool tls_why_is_clock(enum tls_fail fail); /* a date: time, or another clock, may heal it */
enum tls_fail tls_why_of_alert(enum tls_role role, uint8_t alert);
void tls_why_plaintext(struct tls_handshake *handshake, enum tls_sniff sniff);

#endif
