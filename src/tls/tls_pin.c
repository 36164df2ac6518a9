/*
 * tls_pin: pins, and the known_servers file.
 *
 * A pin is the SHA-256 of a certificate's SubjectPublicKeyInfo, as in RFC 7469: it survives a
 * renewed certificate as long as the key stays. Written "sha256:" and 64 hex digits; curl's
 * --pinnedpubkey, "sha256//" and base64, is read too.
 *
 * known_servers has one line per key, "host:port sha256:...", # comments and blank lines allowed. A
 * server may have several lines. It is looked up on every handshake and appended to with one write,
 * so several clients can share it; nothing is ever removed here: a changed key is for a human to
 * judge. A file with a zero in it is damaged as a whole: it would hide all lines below, and with
 * them a changed key.
 */
#include "tls/tls_impl.h"

#include "core/base/file.h"
#include "core/base/value.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIN_PREFIX     "sha256:"
#define PIN_PREFIX_LEN 7
#define PIN_HEX        64
#define PIN_BASE64     44 /* 32 bytes with padding */

static void pin_put(const uint8_t digest[SHA256_DIGEST_LENGTH], char pin[TLS_PIN_SIZE])
{
    snprintf(pin, TLS_PIN_SIZE, PIN_PREFIX);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++)
        snprintf(pin + PIN_PREFIX_LEN + 2 * i, 3, "%02x", digest[i]);
}

bool tls_pin_of_cert(const X509 *cert, char pin[TLS_PIN_SIZE])
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    unsigned char *der = NULL;

    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (len <= 0)
        return false;
    SHA256(der, (size_t)len, digest);
    OPENSSL_free(der);
    pin_put(digest, pin);
    return true;
}

static bool pin_of_pem(const char *text, size_t len, char pin[TLS_PIN_SIZE])
{
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    bool ok = cert != NULL && tls_pin_of_cert(cert, pin);

    X509_free(cert);
    BIO_free(bio);
    ERR_clear_error();
    return ok;
}

bool tls_pin_of_file(const char *cert_file, char pin[TLS_PIN_SIZE], char *why, size_t why_size)
{
    char *text;
    size_t len;

    int result = file_read(cert_file, &text, &len);
    if (result != 0) {
        snprintf(why, why_size, "cannot read the certificate %s: %s", cert_file, strerror(-result));
        return false;
    }
    bool ok = pin_of_pem(text, len, pin);
    if (!ok)
        snprintf(why, why_size, "%s has no certificate in PEM form", cert_file);
    file_drop(text);
    return ok;
}

static bool pin_digest_of_base64(const char *text, uint8_t digest[SHA256_DIGEST_LENGTH])
{
    uint8_t block[48];

    if (text[PIN_BASE64 - 1] != '=' || strchr(text, '=') != text + PIN_BASE64 - 1)
        return false;
    if (EVP_DecodeBlock(block, (const unsigned char *)text, PIN_BASE64) != 33)
        return false;
    memcpy(digest, block, SHA256_DIGEST_LENGTH);
    return true;
}

static bool pin_digest_of_hex(const char *text, uint8_t digest[SHA256_DIGEST_LENGTH])
{
    for (int i = 0; i < PIN_HEX; i++)
        if (!isxdigit((unsigned char)text[i]))
            return false;
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        const char pair[3] = { text[2 * i], text[2 * i + 1], '\0' };
        digest[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return true;
}

bool tls_pin_parse(const char *text, char pin[TLS_PIN_SIZE])
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    bool ok = false;

    text = value_pin_digest(text);
    if (text == NULL)
        return false;
    size_t len = strlen(text);
    if (len == PIN_HEX)
        ok = pin_digest_of_hex(text, digest);
    else if (len == PIN_BASE64)
        ok = pin_digest_of_base64(text, digest);
    if (ok)
        pin_put(digest, pin);
    return ok;
}

/* Known_servers */

/* The line's verdict: NEW when it is about another server. */
static enum tls_known pin_line_look(char *line, const char *known_as, const char *pin)
{
    char *rest = NULL;
    char normal[TLS_PIN_SIZE];

    const char *host = strtok_r(line, " \t\r", &rest);
    if (host == NULL || host[0] == '#' || strcasecmp(host, known_as) != 0)
        return TLS_KNOWN_NEW;
    const char *key = strtok_r(NULL, " \t\r", &rest);
    if (key == NULL || !tls_pin_parse(key, normal))
        return TLS_KNOWN_CHANGED; /* a damaged line must not become "never seen" */
    return strcmp(normal, pin) == 0 ? TLS_KNOWN_SAME : TLS_KNOWN_CHANGED;
}

/* All lines of the file: the same key anywhere is as good as alone. */
static enum tls_known pin_text_look(char *text, const char *known_as, const char *pin)
{
    enum tls_known verdict = TLS_KNOWN_NEW;
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        enum tls_known one = pin_line_look(line, known_as, pin);
        if (one == TLS_KNOWN_NEW)
            continue;
        verdict = one;
        if (one == TLS_KNOWN_SAME)
            break;
    }
    return verdict;
}

enum tls_known tls_known_look(const char *path, const char *known_as, const char *pin)
{
    char *text;
    size_t len;

    int result = file_read(path, &text, &len);
    if (result == -ENOENT)
        return TLS_KNOWN_NEW;
    if (result != 0)
        return TLS_KNOWN_UNREADABLE;
    bool whole = memchr(text, '\0', len) == NULL;
    enum tls_known verdict = whole ? pin_text_look(text, known_as, pin) : TLS_KNOWN_UNREADABLE;
    file_drop(text);
    return verdict;
}

bool tls_known_append(const char *path, const char *known_as, const char *pin)
{
    char line[512];

    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    /* A file edited by hand may lack its last newline. */
    char last = '\n';
    off_t size = lseek(fd, 0, SEEK_END);
    if (size > 0 && pread(fd, &last, 1, size - 1) != 1)
        last = '\n';
    int n = snprintf(line, sizeof(line), "%s%s %s\n", last == '\n' ? "" : "\n", known_as, pin);
    bool ok = n > 0 && (size_t)n < sizeof(line) && write(fd, line, (size_t)n) == n;
    return close(fd) == 0 && ok;
}
