/*
 * tls_cert: makes certificates, so that the safe way is the easy one.
 *
 * culvert gen-cert, and a server that is started with --tls and no certificate, both end here: a
 * directory with
 *
 *     ca.pem      ca.key       a CA of ten years, made once and kept
 *     server.pem  server.key   EC P-256, replaced at each call; its names always include localhost,
 *                 which v1 clients verify
 *
 * The key of a replaced server certificate is kept when it is there, so that pins and known_servers
 * entries stay good: a renewed certificate is the same server. (To change the key, remove
 * server.key.)
 *
 * A server that has nowhere to keep files gets the same kind of certificate in memory, and another
 * one at its next start.
 *
 * Dates begin a day early: clocks differ. Server certificates live 825 days, which is what the
 * stricter verifiers accept.
 *
 * A clock that is before FIRST_DAY is not set yet (a machine without a battery for it begins in
 * 1970): what is made then is dated from FIRST_DAY on, so that it is good when the clock is set. A
 * CA always begins there, also when the clock is ahead, or it could sign nothing when that is put
 * right. What is in memory alone, and trusted by its key alone, is good for all time.
 */
#include "tls/tls_impl.h"

#include "core/base/file.h"
#include "core/base/secret.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DAY         86400L
#define CA_DAYS     3650u
#define SERVER_DAYS 825u
#define FOR_EVER    UINT_MAX
#define NAMES_SIZE  4096

struct pair {
    X509 *cert;
    EVP_PKEY *key;
};

struct job {
    const struct tls_gen *gen;
    char *why;
    size_t why_size;
};

static bool cert_no(const struct job *job, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool cert_no(const struct job *job, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(job->why, job->why_size, format, args);
    va_end(args);
    return false;
}

static void cert_pair_drop(struct pair *pair)
{
    X509_free(pair->cert);
    EVP_PKEY_free(pair->key);
    *pair = (struct pair){ 0 };
}

static bool cert_path_of(const struct job *job, const char *file, char *path, size_t size)
{
    int n = snprintf(path, size, "%s/%s", job->gen->dir, file);

    return (n > 0 && (size_t)n < size) || cert_no(job, "the path %s is too long", job->gen->dir);
}

/* Files */

static bool cert_write_bio(const struct job *job, const char *file, BIO *bio)
{
    char path[4096];
    char *text;

    if (!cert_path_of(job, file, path, sizeof(path)))
        return false;
    long len = BIO_get_mem_data(bio, &text);
    int result = file_write(path, text, (size_t)len);
    return result == 0 || cert_no(job, "cannot write %s: %s", path, strerror(-result));
}

static bool cert_write(const struct job *job, const char *file, X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio != NULL && PEM_write_bio_X509(bio, cert) == 1 && cert_write_bio(job, file, bio);

    BIO_free(bio);
    return ok;
}

static bool cert_write_key(const struct job *job, const char *file, EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    bool ok = bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1 &&
              cert_write_bio(job, file, bio);

    BIO_free(bio);
    return ok;
}

/* NULL without a file; *ok false when there is one that cannot be used. */
static BIO *cert_read_bio(const struct job *job, const char *file, bool *ok)
{
    char path[4096];
    char *text;
    size_t len;
    BIO *bio = NULL;

    *ok = cert_path_of(job, file, path, sizeof(path));
    if (!*ok)
        return NULL;
    int result = file_read(path, &text, &len);
    if (result == -ENOENT)
        return NULL;
    if (result == 0 && (bio = BIO_new(BIO_s_mem())) != NULL)
        BIO_write(bio, text, (int)len);
    file_drop(text);
    *ok = bio != NULL || cert_no(job, "cannot read %s: %s", path, strerror(-result));
    return bio;
}

static bool cert_read_key(const struct job *job, const char *file, EVP_PKEY **key)
{
    bool ok;
    BIO *bio = cert_read_bio(job, file, &ok);

    *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (char[]){ "" }) : NULL;
    if (bio != NULL && *key == NULL)
        ok = cert_no(job, "%s/%s is not an unencrypted PEM key: move it away to get a new one",
                     job->gen->dir, file);
    BIO_free(bio);
    return ok;
}

static bool cert_read(const struct job *job, const char *file, X509 **cert)
{
    bool ok;
    BIO *bio = cert_read_bio(job, file, &ok);

    *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (bio != NULL && *cert == NULL)
        ok = cert_no(job, "%s/%s is not a PEM certificate: move it away to get a new one",
                     job->gen->dir, file);
    BIO_free(bio);
    return ok;
}

/* Certificates */

static bool cert_set_serial(X509 *cert)
{
    unsigned char bytes[16];

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return false;
    bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 1); /* positive and not zero, RFC 5280 4.1.2.2 */
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return ok;
}

/* A common name has at most 64 characters (RFC 5280 A.1). Verifiers look at the alternative names,
 * which have no such limit. */
static bool cert_set_name(X509_NAME *name, const char *common)
{
    if (strlen(common) > 64)
        common = "Culvert server";
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)"Culvert",
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common, -1,
                                      -1, 0) == 1;
}

static bool cert_add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* A day after this code was written: no clock that is right was ever before. */
#define FIRST_DAY ((time_t)1793491200) /* 2026-11-01 */

bool tls_cert_clock_is_set(time_t now)
{
    return now >= FIRST_DAY;
}

struct tls_period tls_cert_period(time_t now, unsigned days, bool ca)
{
    time_t from = tls_cert_clock_is_set(now) ? now : FIRST_DAY;

    return (struct tls_period){ .begin = (ca ? FIRST_DAY : from) - DAY,
                                .end = from + (time_t)days * DAY };
}

/* RFC 5280, 4.1.2.5: the end of what has no end. */
static bool cert_set_for_ever(X509 *cert)
{
    return ASN1_TIME_set(X509_getm_notBefore(cert), 0) != NULL &&
           ASN1_TIME_set_string_X509(X509_getm_notAfter(cert), "99991231235959Z") == 1;
}

static bool cert_set_dates(X509 *cert, unsigned days, bool ca)
{
    struct tls_period period = tls_cert_period(time(NULL), days, ca);

    if (days == FOR_EVER)
        return cert_set_for_ever(cert);
    return ASN1_TIME_set(X509_getm_notBefore(cert), period.begin) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(cert), period.end) != NULL;
}

static X509 *cert_begin(EVP_PKEY *key, const char *common, unsigned days, bool ca)
{
    X509 *cert = X509_new();

    if (cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1 && cert_set_serial(cert) &&
        cert_set_dates(cert, days, ca) && X509_set_pubkey(cert, key) == 1 &&
        cert_set_name(X509_get_subject_name(cert), common))
        return cert;
    X509_free(cert);
    return NULL;
}

static bool cert_ca_finish(X509 *cert, EVP_PKEY *key)
{
    return X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
           cert_add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
           cert_add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           cert_add_extension(cert, cert, NID_subject_key_identifier, "hash") &&
           X509_sign(cert, key, EVP_sha256()) > 0;
}

static bool cert_leaf_finish(X509 *cert, const struct pair *ca, const char *usage,
                             const char *names)
{
    return X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) == 1 &&
           cert_add_extension(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
           cert_add_extension(cert, ca->cert, NID_key_usage, "critical,digitalSignature") &&
           cert_add_extension(cert, ca->cert, NID_ext_key_usage, usage) &&
           cert_add_extension(cert, ca->cert, NID_subject_key_identifier, "hash") &&
           cert_add_extension(cert, ca->cert, NID_authority_key_identifier, "keyid") &&
           cert_add_extension(cert, ca->cert, NID_subject_alt_name, names) &&
           X509_sign(cert, ca->key, EVP_sha256()) > 0;
}

/* "DNS:localhost,IP:127.0.0.1,...": without the characters that would end a value in this
 * syntax. */
static bool cert_add_name(const struct job *job, const char *name, char *names, size_t size)
{
    uint8_t address[16];
    size_t at = strlen(names);

    bool is_ip = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
    size_t ok_len =
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:*");
    if (name[0] == '\0' || name[ok_len] != '\0' || (!is_ip && strchr(name, ':') != NULL))
        return cert_no(job, "'%s' is neither a host name nor an IP address", name);
    int n =
        snprintf(names + at, size - at, "%s%s:%s", at > 0 ? "," : "", is_ip ? "IP" : "DNS", name);
    return (n > 0 && (size_t)n < size - at) || cert_no(job, "too many names");
}

static bool cert_server_names(const struct job *job, char *names, size_t size)
{
    static const char *const always[] = { "localhost", "127.0.0.1", "::1" };

    names[0] = '\0';
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        if (!cert_add_name(job, always[i], names, size))
            return false;
    for (size_t i = 0; i < job->gen->name_count; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof(always) / sizeof(always[0]); k++)
            known = known || strcmp(always[k], job->gen->names[i]) == 0;
        if (!known && !cert_add_name(job, job->gen->names[i], names, size))
            return false;
    }
    return true;
}

/* Gen-cert */

static bool cert_new_ca(const struct job *job, struct pair *ca)
{
    char common[64];
    unsigned char id[4];

    if (RAND_bytes(id, sizeof(id)) != 1)
        return cert_no(job, "no random numbers");
    snprintf(common, sizeof(common), "Culvert CA %02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
    ca->key = EVP_EC_gen("P-256");
    ca->cert = ca->key != NULL
                   ? cert_begin(ca->key, common, job->gen->days ? job->gen->days : CA_DAYS, true)
                   : NULL;
    return (ca->cert != NULL && cert_ca_finish(ca->cert, ca->key)) ||
           cert_no(job, "the CA certificate cannot be made");
}

static bool cert_make_ca(const struct job *job, struct pair *ca)
{
    return cert_new_ca(job, ca) && cert_write_key(job, "ca.key", ca->key) &&
           cert_write(job, "ca.pem", ca->cert);
}

static bool cert_get_ca(const struct job *job, struct pair *ca)
{
    char date[TLS_WHEN_TEXT];

    if (!cert_read_key(job, "ca.key", &ca->key) || !cert_read(job, "ca.pem", &ca->cert))
        return false;
    if (ca->key == NULL && ca->cert == NULL)
        return cert_make_ca(job, ca);
    if (ca->key == NULL || ca->cert == NULL)
        return cert_no(
            job, "%s has ca.%s but not ca.%s: put it back, or move both away to get a new CA",
            job->gen->dir, ca->key != NULL ? "key" : "pem", ca->key != NULL ? "pem" : "key");
    if (X509_check_private_key(ca->cert, ca->key) != 1)
        return cert_no(job, "%s/ca.key does not belong to ca.pem", job->gen->dir);
    enum tls_when when = tls_cert_when(ca->cert, time(NULL));
    tls_cert_when_text(ca->cert, when, time(NULL), date, sizeof(date));
    if (when == TLS_WHEN_LATE)
        return cert_no(job,
                       "%s/ca.pem has expired (%s): move ca.pem and ca.key away to get a new CA",
                       job->gen->dir, date);
    return when == TLS_WHEN_GOOD ||
           cert_no(job, "%s/ca.pem is not valid yet (%s): check this machine's clock",
                   job->gen->dir, date);
}

/* For the names of the job and the key of the pair, by the CA. */
static bool cert_leaf(const struct job *job, const struct pair *ca, struct pair *leaf)
{
    const struct tls_gen *gen = job->gen;
    bool client = gen->client != NULL;
    const char *common = client ? gen->client : gen->name_count > 0 ? gen->names[0] : "localhost";
    char names[NAMES_SIZE] = "";

    if (client ? !cert_add_name(job, gen->client, names, sizeof(names))
               : !cert_server_names(job, names, sizeof(names)))
        return false;
    leaf->cert = cert_begin(leaf->key, common, gen->days ? gen->days : SERVER_DAYS, false);
    return (leaf->cert != NULL &&
            cert_leaf_finish(leaf->cert, ca, client ? "clientAuth" : "serverAuth", names)) ||
           cert_no(job, "the certificate for %s cannot be made", common);
}

static bool cert_new_key(const struct job *job, EVP_PKEY **key)
{
    *key = EVP_EC_gen("P-256");
    return *key != NULL || cert_no(job, "no key can be made");
}

static bool cert_make_leaf(const struct job *job, const struct pair *ca)
{
    bool client = job->gen->client != NULL;
    const char *key_file = client ? "client.key" : "server.key";
    struct pair leaf = { 0 };

    bool ok = cert_read_key(job, key_file, &leaf.key);
    if (ok && leaf.key == NULL)
        ok = cert_new_key(job, &leaf.key) && cert_write_key(job, key_file, leaf.key);
    ok = ok && cert_leaf(job, ca, &leaf) &&
         cert_write(job, client ? "client.pem" : "server.pem", leaf.cert);
    cert_pair_drop(&leaf);
    return ok;
}

/* With frames of its own, in which libcrypto leaves keys: the caller wipes them. */
static __attribute__((noinline)) bool cert_make_all(const struct job *job)
{
    struct pair ca = { 0 };

    bool ok = cert_get_ca(job, &ca) && cert_make_leaf(job, &ca);
    cert_pair_drop(&ca);
    ERR_clear_error();
    return ok;
}

bool tls_gen_cert(const struct tls_gen *gen, char *why, size_t why_size)
{
    struct job job = { gen, why, why_size };

    if (mkdir(gen->dir, 0700) != 0 && errno != EEXIST)
        return cert_no(&job, "cannot make the directory %s: %s", gen->dir, strerror(errno));
    bool ok = cert_make_all(&job);
    tls_mem_wipe_stack();
    return ok;
}

/* What a BIO holds, as secret memory. */
static bool cert_take_text(BIO *bio, struct tls_text *text)
{
    char *bytes;
    long size = BIO_get_mem_data(bio, &bytes);

    text->data = size > 0 ? secret_alloc((size_t)size) : NULL;
    if (text->data == NULL)
        return false;
    memcpy(text->data, bytes, (size_t)size);
    text->len = (size_t)size;
    return true;
}

static bool cert_take_pair(const struct job *job, const struct pair *leaf, struct tls_own_pair *own)
{
    BIO *cert = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_secmem());

    bool ok = cert != NULL && key != NULL && PEM_write_bio_X509(cert, leaf->cert) == 1 &&
              PEM_write_bio_PrivateKey(key, leaf->key, NULL, NULL, 0, NULL, NULL) == 1 &&
              cert_take_text(cert, &own->cert) && cert_take_text(key, &own->key);
    BIO_free(cert);
    BIO_free(key);
    return ok || cert_no(job, "out of memory");
}

void tls_own_pair_drop(struct tls_own_pair *own)
{
    secret_free(own->cert.data);
    secret_free(own->key.data);
    *own = (struct tls_own_pair){ 0 };
}

static __attribute__((noinline)) bool cert_make_pair(const struct job *job,
                                                     struct tls_own_pair *own)
{
    struct pair ca = { 0 }, leaf = { 0 };

    bool ok = cert_new_ca(job, &ca) && cert_new_key(job, &leaf.key) && cert_leaf(job, &ca, &leaf) &&
              cert_take_pair(job, &leaf, own);
    cert_pair_drop(&leaf);
    cert_pair_drop(&ca);
    ERR_clear_error();
    return ok;
}

bool tls_own_pair_make(const char *name, struct tls_own_pair *own, char *why, size_t why_size)
{
    struct tls_gen gen = { .names = &name, .name_count = name != NULL ? 1 : 0, .days = FOR_EVER };
    struct job job = { &gen, why, why_size };

    *own = (struct tls_own_pair){ 0 };
    bool ok = cert_make_pair(&job, own);
    if (!ok)
        tls_own_pair_drop(own);
    tls_mem_wipe_stack();
    return ok;
}

bool tls_cert_describe(const char *cert_file, char *text, size_t text_size)
{
    char *pem;
    size_t len;
    struct tm tm;
    char names[256] = "";
    char day[16] = "?";

    if (file_read(cert_file, &pem, &len) != 0)
        return false;
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (cert != NULL) {
        tls_peer_names(cert, names, sizeof(names));
        if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1)
            strftime(day, sizeof(day), "%Y-%m-%d", &tm);
        snprintf(text, text_size, "for %s, valid until %s", names, day);
    }
    X509_free(cert);
    BIO_free(bio);
    file_drop(pem);
    ERR_clear_error();
    return cert != NULL;
}

/* Dates */

enum tls_when tls_cert_when(const X509 *cert, time_t now)
{
    if (X509_cmp_time(X509_get0_notBefore(cert), &now) >= 0)
        return TLS_WHEN_EARLY;
    return X509_cmp_time(X509_get0_notAfter(cert), &now) <= 0 ? TLS_WHEN_LATE : TLS_WHEN_GOOD;
}

static void cert_date_text(const struct tm *tm, char *text, size_t size)
{
    if (tm == NULL || strftime(text, size, "%Y-%m-%d %H:%M UTC", tm) == 0)
        snprintf(text, size, "an unreadable date");
}

void tls_cert_when_text(const X509 *cert, enum tls_when when, time_t now, char *text, size_t size)
{
    const ASN1_TIME *bound =
        when == TLS_WHEN_EARLY ? X509_get0_notBefore(cert) : X509_get0_notAfter(cert);
    const char *word = when == TLS_WHEN_EARLY ? "valid from" : "valid until";
    char date[40], clock[40];
    struct tm tm, today;

    cert_date_text(ASN1_TIME_to_tm(bound, &tm) == 1 ? &tm : NULL, date, sizeof(date));
    cert_date_text(gmtime_r(&now, &today), clock, sizeof(clock));
    snprintf(text, size, "%s %s, this machine's clock says %s", word, date, clock);
}

/* Renewal */

#define RENEW_NAMES 64u

static X509 *cert_load(const char *cert_file)
{
    char *pem;
    size_t len;

    if (file_read(cert_file, &pem, &len) != 0)
        return NULL;
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    file_drop(pem);
    ERR_clear_error();
    return cert;
}

static bool cert_days_of(const X509 *cert, long *days)
{
    int whole = 0, seconds = 0;

    bool ok = cert != NULL && ASN1_TIME_diff(&whole, &seconds, NULL, X509_get0_notAfter(cert)) == 1;
    *days = whole < 0 || seconds < 0 ? whole - 1 : whole;
    return ok;
}

bool tls_cert_days(const char *cert_file, long *days)
{
    X509 *cert = cert_load(cert_file);
    bool ok = cert_days_of(cert, days);

    X509_free(cert);
    return ok;
}

bool tls_cert_dates(const char *cert_file, struct tls_dates *dates)
{
    X509 *cert = cert_load(cert_file);
    time_t now = time(NULL);
    bool ok = cert_days_of(cert, &dates->days);

    if (ok) {
        enum tls_when when = tls_cert_when(cert, now);
        dates->early = when == TLS_WHEN_EARLY;
        dates->clock_is_set = tls_cert_clock_is_set(now);
        tls_cert_when_text(cert, when, now, dates->text, sizeof(dates->text));
    }
    X509_free(cert);
    return ok;
}

bool tls_cert_outlives(const char *cert_file, const char *other_file, long *days)
{
    X509 *cert = cert_load(cert_file), *other = cert_load(other_file);
    int whole = 0, seconds = 0;

    bool ok =
        cert != NULL && other != NULL &&
        ASN1_TIME_diff(&whole, &seconds, X509_get0_notAfter(other), X509_get0_notAfter(cert)) == 1;
    *days = whole;
    X509_free(cert);
    X509_free(other);
    return ok && (whole > 0 || (whole == 0 && seconds > 0));
}

static bool cert_is_issuer(const struct job *job, X509 *cert)
{
    X509 *ca = NULL;

    bool ok =
        cert_read(job, "ca.pem", &ca) && ca != NULL && X509_verify(cert, X509_get0_pubkey(ca)) == 1;
    X509_free(ca);
    ERR_clear_error();
    return ok || cert_no(job, "it is not signed by %s/ca.pem", job->gen->dir);
}

static bool cert_name_text(const GENERAL_NAME *name, char *text, size_t size)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);

    if (type == GEN_DNS)
        return snprintf(text, size, "%.*s", ASN1_STRING_length(value),
                        (const char *)ASN1_STRING_get0_data(value)) > 0;
    if (type != GEN_IPADD)
        return false;
    int family = ASN1_STRING_length(value) == 16 ? AF_INET6 : AF_INET;
    return inet_ntop(family, ASN1_STRING_get0_data(value), text, (socklen_t)size) != NULL;
}

/* Fills names[] with texts that stand in `room`; how many. */
static size_t cert_names_of(X509 *cert, const char *names[RENEW_NAMES], char room[RENEW_NAMES][256])
{
    GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    size_t count = 0;

    for (int i = 0; i < sk_GENERAL_NAME_num(all) && count < RENEW_NAMES; i++) {
        if (cert_name_text(sk_GENERAL_NAME_value(all, i), room[count], sizeof(room[0]))) {
            names[count] = room[count];
            count++;
        }
    }
    GENERAL_NAMES_free(all);
    return count;
}

static bool cert_is_local(const char *name)
{
    return strcmp(name, "localhost") == 0 || strncmp(name, "127.", 4) == 0 ||
           strcmp(name, "::1") == 0;
}

static bool cert_is_address(const char *name)
{
    uint8_t address[16];

    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

/* A wildcard is no name to connect to. */
bool tls_cert_public_name(const char *cert_file, char *name, size_t size)
{
    const char *names[RENEW_NAMES], *best = NULL;
    char room[RENEW_NAMES][256];
    X509 *cert = cert_load(cert_file);
    size_t count = cert != NULL ? cert_names_of(cert, names, room) : 0;

    for (size_t i = 0; i < count; i++)
        if (!cert_is_local(names[i]) && names[i][0] != '*' &&
            (best == NULL || (cert_is_address(best) && !cert_is_address(names[i]))))
            best = names[i];
    if (best != NULL)
        snprintf(name, size, "%s", best);
    X509_free(cert);
    return best != NULL;
}

bool tls_cert_renew(const char *dir, char *why, size_t why_size)
{
    const char *names[RENEW_NAMES];
    char room[RENEW_NAMES][256], path[4096];
    struct tls_gen gen = { .dir = dir, .names = names };
    struct job job = { &gen, why, why_size };

    if (!cert_path_of(&job, "server.pem", path, sizeof(path)))
        return false;
    X509 *cert = cert_load(path);
    bool ok = (cert != NULL || cert_no(&job, "%s is not a PEM certificate", path)) &&
              cert_is_issuer(&job, cert);
    if (ok)
        gen.name_count = cert_names_of(cert, names, room);
    X509_free(cert);
    return ok && tls_gen_cert(&gen, why, why_size);
}
