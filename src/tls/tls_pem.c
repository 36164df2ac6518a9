/* tls_pem: see tls_pem.h. */
#include "tls/tls_pem.h"

#include <ctype.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "tls/tls_impl.h"

#define PEM_DASHES     "-----"
#define PEM_DASHES_LEN 5u

static const struct {
    const char *what;
    const char *cure;
} pem_faults[] = {
#define X(NAME, what, cure) { what, cure },
    TLS_PEM_FAULT_TABLE(X)
#undef X
};

/* Marks */

struct pem_mark {
    const char *start; /* its first dash; NULL: there is none */
    const char *after;
    const char *label;
    size_t label_len;
    bool begin;
    bool whole; /* it ends with dashes, in the same line */
};

/* The word behind the dashes at `dashes`; 0: not a mark. */
static size_t pem_mark_word(const char *dashes, const char *end, bool *begin)
{
    static const char begins[] = "BEGIN ", ends[] = "END ";
    const char *word = dashes + PEM_DASHES_LEN;
    size_t left = (size_t)(end - word);

    *begin = left >= sizeof(begins) - 1 && memcmp(word, begins, sizeof(begins) - 1) == 0;
    if (*begin)
        return sizeof(begins) - 1;
    return left >= sizeof(ends) - 1 && memcmp(word, ends, sizeof(ends) - 1) == 0 ? sizeof(ends) - 1
                                                                                 : 0;
}

static struct pem_mark pem_mark_at(const char *dashes, size_t word, bool begin, const char *end)
{
    struct pem_mark mark = { .start = dashes, .begin = begin };

    mark.label = dashes + PEM_DASHES_LEN + word;
    size_t left = (size_t)(end - mark.label);
    const char *newline = memchr(mark.label, '\n', left);
    size_t line = newline != NULL ? (size_t)(newline - mark.label) : left;
    const char *close = memmem(mark.label, line, PEM_DASHES, PEM_DASHES_LEN);
    mark.whole = close != NULL;
    mark.label_len = mark.whole ? (size_t)(close - mark.label) : line;
    mark.after = mark.label + mark.label_len + (mark.whole ? PEM_DASHES_LEN : 0);
    return mark;
}

static struct pem_mark pem_mark_find(const char *at, const char *end)
{
    bool begin;

    for (;;) {
        const char *dashes = memmem(at, (size_t)(end - at), PEM_DASHES, PEM_DASHES_LEN);
        if (dashes == NULL)
            return (struct pem_mark){ .start = NULL };
        size_t word = pem_mark_word(dashes, end, &begin);
        if (word > 0)
            return pem_mark_at(dashes, word, begin, end);
        at = dashes + 1;
    }
}

static bool pem_mark_same(const struct pem_mark *a, const struct pem_mark *b)
{
    return a->label_len == b->label_len && memcmp(a->label, b->label, a->label_len) == 0;
}

/* Labels are capitals; what is not may be content that a damaged file has put there. */
static void pem_label(const struct pem_mark *mark, char label[32])
{
    bool plain = mark->whole && mark->label_len > 0 && mark->label_len < 32;

    for (size_t i = 0; plain && i < mark->label_len; i++)
        plain = isupper((unsigned char)mark->label[i]) || isdigit((unsigned char)mark->label[i]) ||
                mark->label[i] == ' ';
    if (plain)
        snprintf(label, 32, "%.*s", (int)mark->label_len, mark->label);
    else
        snprintf(label, 32, "?");
}

static enum tls_pem_kind pem_kind(const char *label)
{
    static const char *const certs[] = { "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE" };

    for (size_t i = 0; i < sizeof(certs) / sizeof(certs[0]); i++)
        if (strcmp(label, certs[i]) == 0)
            return TLS_PEM_CERT;
    return strstr(label, "PRIVATE KEY") != NULL ? TLS_PEM_KEY : TLS_PEM_OTHER;
}

/* Content */

static bool pem_is_base64(char c)
{
    return isalnum((unsigned char)c) || c == '+' || c == '/';
}

/* Moves base64 without white space to `to`; stops at what is neither. True: that was all of it. */
static bool pem_compact(const char *body, size_t len, unsigned char *to, size_t *count)
{
    size_t pad = 0;

    *count = 0;
    for (size_t i = 0; i < len; i++) {
        if (isspace((unsigned char)body[i]))
            continue;
        pad += body[i] == '=';
        if (pad > 2 || (body[i] != '=' && (pad > 0 || !pem_is_base64(body[i]))))
            return false;
        to[(*count)++] = (unsigned char)body[i];
    }
    return *count % 4 == 0 && *count > 0;
}

static size_t pem_decode(unsigned char *text, size_t count, unsigned char *der)
{
    count -= count % 4;
    int len = count > 0 ? EVP_DecodeBlock(der, text, (int)count) : 0;
    if (len <= 0)
        return 0;
    size_t pad = (size_t)(text[count - 1] == '=') + (size_t)(text[count - 2] == '=');
    return (size_t)len - pad;
}

/* What can be read of the certificate, and if that is not all of it, why. */
static enum tls_pem_fault pem_read(const char *body, size_t len, bool trusted, X509 **cert)
{
    enum tls_pem_fault fault = TLS_PEM_NONE;
    unsigned char *text = tls_short_pass(malloc(2 * len + 8), 2 * len + 8);
    size_t count;

    if (text == NULL)
        return TLS_PEM_CONTENT;
    unsigned char *der = text + len + 4;
    if (!pem_compact(body, len, text, &count))
        fault = TLS_PEM_BASE64;
    size_t size = pem_decode(text, count, der);
    const unsigned char *end = der;
    *cert = trusted ? d2i_X509_AUX(NULL, &end, (long)size) : d2i_X509(NULL, &end, (long)size);
    if (fault == TLS_PEM_NONE && (*cert == NULL || end != der + size))
        fault = TLS_PEM_CONTENT;
    free(text);
    ERR_clear_error();
    return fault;
}

/* Members */

void tls_pem_start(struct tls_pem_scan *scan, const char *text, size_t len)
{
    *scan = (struct tls_pem_scan){ .at = text, .end = text + len, .line = 1 };
}

static void pem_go_to(struct tls_pem_scan *scan, const char *to)
{
    CHECK(to >= scan->at && to <= scan->end);
    for (; scan->at < to; scan->at++)
        scan->line += *scan->at == '\n';
}

/* By the marks alone: `end` is the one behind the member that `begin` begins. */
static enum tls_pem_fault pem_judge_marks(const struct pem_mark *begin, const struct pem_mark *end)
{
    if (!begin->begin)
        return TLS_PEM_NO_BEGIN;
    if (!begin->whole)
        return TLS_PEM_MARK;
    if (end->start == NULL || end->begin)
        return TLS_PEM_NO_END;
    if (!end->whole)
        return TLS_PEM_MARK;
    return pem_mark_same(begin, end) ? TLS_PEM_NONE : TLS_PEM_OTHER_END;
}

/* Where the next member may begin: an END goes with its member, another BEGIN does not. */
static const char *pem_behind(const struct tls_pem_scan *scan, const struct pem_mark *begin,
                              const struct pem_mark *end)
{
    if (!begin->begin)
        return begin->after;
    if (end->start == NULL)
        return scan->end;
    return end->begin ? end->start : end->after;
}

bool tls_pem_next(struct tls_pem_scan *scan, struct tls_pem_member *member)
{
    struct pem_mark begin = pem_mark_find(scan->at, scan->end);

    if (begin.start == NULL)
        return false;
    pem_go_to(scan, begin.start);
    *member = (struct tls_pem_member){ .number = ++scan->number, .line = scan->line };
    struct pem_mark end = pem_mark_find(begin.after, scan->end);
    member->fault = pem_judge_marks(&begin, &end);
    pem_label(&begin, member->label);
    member->kind = pem_kind(member->label);
    if (begin.begin && member->kind == TLS_PEM_CERT) {
        const char *stop = end.start != NULL ? end.start : scan->end;
        enum tls_pem_fault inside = pem_read(begin.after, (size_t)(stop - begin.after),
                                             member->label[0] == 'T', &member->cert);
        member->fault = member->fault == TLS_PEM_NONE ? inside : member->fault;
    }
    pem_go_to(scan, pem_behind(scan, &begin, &end));
    return true;
}

void tls_pem_drop(struct tls_pem_member *member)
{
    X509_free(member->cert);
    member->cert = NULL;
}

/* Words */

void tls_pem_subject(const X509_NAME *name, char *text, size_t size)
{
    if (X509_NAME_oneline(name, text, (int)size) == NULL)
        snprintf(text, size, "?");
    for (char *p = text; *p != '\0'; p++)
        if (!isprint((unsigned char)*p))
            *p = '?';
}

void tls_pem_name(const struct tls_pem_member *member, char *text, size_t size)
{
    char subject[128] = "";

    if (member->cert != NULL)
        tls_pem_subject(X509_get_subject_name(member->cert), subject, sizeof(subject));
    snprintf(text, size, "member %u (line %u%s%s)", member->number, member->line,
             subject[0] != '\0' ? ", " : "", subject);
}

void tls_pem_complaint(const struct tls_pem_member *member, char *text, size_t size)
{
    char name[192];

    CHECK(member->fault != TLS_PEM_NONE && member->fault < TLS_PEM_FAULT_COUNT);
    tls_pem_name(member, name, sizeof(name));
    snprintf(text, size, "%s %s: %s", name, pem_faults[member->fault].what,
             pem_faults[member->fault].cure);
}
