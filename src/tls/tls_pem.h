/*
 * tls_pem: the members of a PEM file, one after the other, each with what is wrong with it.
 *
 * The loaders of both TLS libraries read past what they do not understand: a member that cannot be
 * decoded is left out, and one that has lost its END line takes the next one with it, without a
 * word. Whoever trusts a file wants to know that. So here each mark (a BEGIN or END line) is
 * accounted for:
 *
 *     text                           between members: skipped, bundles are full of comments
 *     -----BEGIN CERTIFICATE-----    a member begins; it has the next number and this line
 *     MIIB...                        base64 and white space, nothing else
 *     -----END CERTIFICATE-----      the same label, or the member is damaged
 *
 * A mark is found anywhere in a line, not only at its start: `cat a.pem b.pem` joins the END of one
 * with the BEGIN of the next when a.pem lacks its last newline, and such a file is whole.
 *
 * Nothing of a member's content is ever put into a text, except the subject of a certificate.
 */
#ifndef CULVERT_TLS_TLS_PEM_H
#define CULVERT_TLS_TLS_PEM_H

#include <stdbool.h>
#include <stddef.h>

struct x509_st;
struct X509_name_st;

/* What a member can be damaged by. X(NAME, what is wrong, what to do) */
#define TLS_PEM_FAULT_TABLE(X)                                                              \
    X(NONE, "is whole", "")                                                                 \
    X(NO_END, "has no END line, it would swallow what follows", "put the END line back")    \
    X(NO_BEGIN, "is an END line without a BEGIN line before it", "put the BEGIN line back") \
    X(OTHER_END, "ends with another kind of END line than it begins with", "copy it again") \
    X(MARK, "has a damaged BEGIN or END line", "that line ends with five dashes: mend it")  \
    X(BASE64, "is damaged: it has a character that is not base64, or not all of its lines", \
      "copy it again")                                                                      \
    X(CONTENT, "is damaged: its bytes are not those of one certificate", "copy it again")

enum tls_pem_fault {
#define X(NAME, what, cure) TLS_PEM_##NAME,
    TLS_PEM_FAULT_TABLE(X)
#undef X
        TLS_PEM_FAULT_COUNT
};

enum tls_pem_kind {
    TLS_PEM_CERT,
    TLS_PEM_KEY,  /* a private key, whatever its algorithm, encrypted or not */
    TLS_PEM_OTHER /* a request, a revocation list, parameters, ... */
};

struct tls_pem_member {
    unsigned number; /* in the file, from 1; everything with a mark counts */
    unsigned line;
    enum tls_pem_kind kind;
    enum tls_pem_fault fault;
    char label[32];       /* "CERTIFICATE"; "?" where it might be content */
    struct x509_st *cert; /* of a damaged member too where it can be read; tls_pem_drop frees it */
};

struct tls_pem_scan {
    const char *at;
    const char *end;
    unsigned number;
    unsigned line; /* of at */
};

/* The text must outlive the scan. */
void tls_pem_start(struct tls_pem_scan *scan, const char *text, size_t len);

/* False at the end. Otherwise *member is filled and belongs to the caller. */
bool tls_pem_next(struct tls_pem_scan *scan, struct tls_pem_member *member);
void tls_pem_drop(struct tls_pem_member *member);

/* "member 3 (line 57, /CN=Example CA)" */
void tls_pem_name(const struct tls_pem_member *member, char *text, size_t size);

/* "member 3 (line 57) has no END line: ...: put it back". The fault must not be NONE. */
void tls_pem_complaint(const struct tls_pem_member *member, char *text, size_t size);

/* "/CN=Example CA", printable, as much as fits. */
void tls_pem_subject(const struct X509_name_st *name, char *text, size_t size);

#endif
