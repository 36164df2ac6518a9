/*
 * crypt_ctx: one side's certificates and trust, declared here and implemented in src/tls/crypt.c
 * (see crypt.h). Counted and shared by threads. A reload makes a new one and drops the old:
 * handshakes under way keep theirs, lanes that are up need none.
 */
#ifndef CULVERT_CORE_MUX_CRYPT_CTX_H
#define CULVERT_CORE_MUX_CRYPT_CTX_H

#include <stdbool.h>
#include <stddef.h>

struct crypt_ctx;

struct crypt_config { /* texts may be empty: not given */
    bool server;
    bool allow_12;          /* TLS 1.2, for v1 peers */
    const char *cert, *key; /* PEM files */
    bool in_memory;   /* server: a certificate of its own that is kept nowhere, in their place */
    const char *name; /* of that certificate, beside localhost */
    const char *ca;   /* client: whom to trust; server: whose clients */
    const char *pin;  /* client */
    const char *known_servers; /* client: file */
    bool accept_new, ask;      /* client: an unknown server is noted; or a human is asked */
    const char *keylog;
    void (*warn)(void *arg, const char *text);
};

/* NULL with a sentence in `why`. */
struct crypt_ctx *crypt_ctx_open(const struct crypt_config *config, char *why, size_t why_size);
struct crypt_ctx *crypt_ctx_ref(struct crypt_ctx *ctx);
void crypt_ctx_unref(struct crypt_ctx *ctx);

/* Makes ca.pem, server.pem and their keys in dir (mode 0600), for `name` (may be NULL) and
 * localhost. */
bool crypt_make_certificate(const char *dir, const char *name, char *why, size_t why_size);

/* How the certificate in a PEM file stands to the clock. False: it cannot be read. */
struct crypt_dates {
    long days;         /* until it expires, negative when it has */
    bool early;        /* it is not valid yet */
    bool clock_is_set; /* false: it is before this program was written */
    char text[128];    /* "valid until ..., this machine's clock says ...", or from */
};
bool crypt_certificate_dates(const char *cert, struct crypt_dates *dates);

/* The name by which clients know the server of the certificate in a PEM file: the first that is not
 * this machine's own. False: it has none, or cannot be read. */
bool crypt_certificate_name(const char *cert, char *name, size_t size);

/* Makes server.pem in dir again, for the same names and the same key, if it is signed by the CA
 * there. */
bool crypt_renew_certificate(const char *dir, char *why, size_t why_size);

/* "sha256:..." of the own certificate; "" without one. */
const char *crypt_ctx_pin(const struct crypt_ctx *ctx);

#endif
