/*
 * CA files and paths to a CA: what a file may have in it and what is said of the rest, and that at
 * every handshake each certificate of the path, the CA's included, is looked at as it is at that
 * moment, whether a client verifies a server or a server a client.
 */
#include <ctype.h>
#include <pthread.h>
#include <time.h>

#include "unit/test_tls_certs.h"
#include "unit/tls_util.h"

#include "tls/tls_impl.h"

#define HOUR 3600L
#define DAY  (24 * HOUR)
#define YEAR (365 * DAY)

#define BUNDLE "/etc/ssl/certs/ca-certificates.crt"

static struct scratch scratch;
static char why[TLS_WHY_SIZE];
static char said[65536]; /* every warning, a line each */

static void hear(void *arg, const char *text)
{
    size_t at = strlen(said);

    (void)arg;
    snprintf(said + at, sizeof(said) - at, "%s\n", text);
}

/* The certificates that most tests need. */
static struct made root, middle, leaf, below_middle;
static char both[8192]; /* below_middle and middle */

static void setup(void)
{
    scratch_make(&scratch);
    said[0] = why[0] = '\0';
    make(&root, &(struct spec){ "root", NULL, -DAY, YEAR, NULL, NULL, true, false, NULL });
    make(&middle, &(struct spec){ "middle", NULL, -DAY, YEAR, &root, NULL, true, false, NULL });
    make(&leaf,
         &(struct spec){ "leaf", "DNS:localhost", -DAY, YEAR, &root, NULL, false, false, NULL });
    make(&below_middle,
         &(struct spec){ "below", "DNS:localhost", -DAY, YEAR, &middle, NULL, false, false, NULL });
    snprintf(both, sizeof(both), "%s%s", below_middle.cert_pem, middle.cert_pem);
}

static void teardown(void)
{
    made_drop(&root);
    made_drop(&middle);
    made_drop(&leaf);
    made_drop(&below_middle);
    scratch_drop(&scratch);
}

/* Loading */

static struct tls_ctx *load_as(enum tls_role role, struct tls_pem ca)
{
    struct tls_config config = { .role = role, .ca = ca, .warn = hear };

    if (role == TLS_SERVER) {
        config.cert_file = scratch.cert;
        config.key_file = scratch.key;
    }
    said[0] = why[0] = '\0';
    return tls_ctx_new(&config, why, sizeof(why));
}

/* Both ends load it, and the one that is asked for says so. */
static void loads(const char *text)
{
    for (int role = TLS_SERVER; role <= TLS_CLIENT; role++) {
        struct tls_ctx *ctx = load_as((enum tls_role)role, pem_of(text));
        ck_assert_msg(ctx != NULL, "%s", why);
        tls_ctx_unref(ctx);
    }
}

static void assert_has(const char *text, const char *word)
{
    ck_assert_msg(strstr(text, word) != NULL, "'%s' is not in: %s", word, text);
}

static void refused(const char *text, const char *const words[], size_t count)
{
    for (int role = TLS_SERVER; role <= TLS_CLIENT; role++) {
        struct tls_ctx *ctx = load_as((enum tls_role)role, pem_of(text));
        ck_assert_msg(ctx == NULL, "loaded, though %s", words[0]);
        for (size_t i = 0; i < count; i++)
            assert_has(why, words[i]);
    }
}

#define REFUSED(text, ...)                                \
    refused((text), (const char *const[]){ __VA_ARGS__ }, \
            sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

/* A text of up to three parts. */
static const char *joined(const char *a, const char *b, const char *c)
{
    static char text[32768];

    snprintf(text, sizeof(text), "%s%s%s", a, b, c);
    return text;
}

/* Without its last line, which is the END. */
static const char *without_end(const char *pem)
{
    static char text[4096];

    snprintf(text, sizeof(text), "%s", pem);
    *strstr(text, "-----END") = '\0';
    return text;
}

static const char *without_begin(const char *pem)
{
    return strchr(pem, '\n') + 1;
}

/* With the bytes `from` as `to` (of the same length) at the first place. */
static const char *changed(const char *pem, const char *from, const char *to)
{
    static char text[4096];

    ck_assert_uint_eq(strlen(from), strlen(to));
    snprintf(text, sizeof(text), "%s", pem);
    char *at = strstr(text, from);
    ck_assert_ptr_nonnull(at);
    memcpy(at, to, strlen(to));
    return text;
}

/*
 * The second of three members has lost a line: wolfSSL would have loaded the first, or the third
 * as well.
 */
START_TEST(member_without_end)
{
    const char *text = joined(root.cert_pem, without_end(middle.cert_pem), leaf.cert_pem);

    REFUSED(text, "member 2 (line ", "/CN=middle", "has no END line", "put the END line back");
    REFUSED(joined(root.cert_pem, without_end(middle.cert_pem), ""), "member 2", "no END line");
    REFUSED(without_end(root.cert_pem), "member 1 (line 1, /CN=root)", "no END line");
    /* a comment between two members is no content */
    REFUSED(joined(without_end(root.cert_pem), "# the next\n", middle.cert_pem),
            "member 1 (line 1, /CN=root)", "no END line");
}
END_TEST

START_TEST(member_without_begin)
{
    REFUSED(joined(root.cert_pem, without_begin(middle.cert_pem), leaf.cert_pem), "member 2 (line ",
            "without a BEGIN line");
    REFUSED(without_begin(root.cert_pem), "member 1", "without a BEGIN line");
}
END_TEST

START_TEST(two_begins)
{
    REFUSED(joined("-----BEGIN CERTIFICATE-----\n", root.cert_pem, ""), "member 1 (line 1)",
            "no END line");
}
END_TEST

START_TEST(marks_that_do_not_fit)
{
    REFUSED(changed(root.cert_pem, "END CERTIFICATE", "END CERTIFICITE"), "member 1",
            "another kind of END line");
    REFUSED(changed(root.cert_pem, "CERTIFICATE-----", "CERTIFICATE----\n"), "member 1 (line 1)",
            "damaged BEGIN or END line");
    const char *text = changed(middle.cert_pem, "-----BEGIN", "----\nBEGIN");
    REFUSED(joined(root.cert_pem, text, ""), "member 2", "without a BEGIN line");
}
END_TEST

START_TEST(content_that_is_damaged)
{
    char text[4096];

    REFUSED(joined(root.cert_pem, changed(middle.cert_pem, "\nMII", "\nM!I"), ""),
            "member 2 (line ", "not base64");
    /* a line is missing */
    snprintf(text, sizeof(text), "%s", middle.cert_pem);
    char *line = strchr(strchr(text, '\n') + 1, '\n');
    char *next = strchr(line + 1, '\n');
    memmove(line, next, strlen(next) + 1);
    REFUSED(joined(root.cert_pem, text, leaf.cert_pem), "member 2 (line ", "is damaged");
    /* half of a line */
    snprintf(text, sizeof(text), "%s", middle.cert_pem);
    line = strchr(text, '\n');
    memmove(line + 1, line + 3, strlen(line + 3) + 1);
    REFUSED(joined(root.cert_pem, text, ""), "member 2", "is damaged");
    REFUSED("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "member 1", "is damaged");
    /* good base64 of something else */
    REFUSED("-----BEGIN CERTIFICATE-----\naGVsbG8sIHdvcmxkIQ==\n-----END CERTIFICATE-----\n",
            "member 1", "its bytes are not those of one certificate");
}
END_TEST

/* Each bad member is named: the first in the reason, the others as warnings. */
START_TEST(all_bad_members_are_named)
{
    char text[32768];

    snprintf(text, sizeof(text), "%s%s%s%s", without_end(root.cert_pem), middle.cert_pem,
             without_begin(leaf.cert_pem), changed(below_middle.cert_pem, "\nMII", "\nM!I"));
    REFUSED(text, "member 1 (line 1, /CN=root)", "and 2 more of its members");
    assert_has(said, "member 3 (line ");
    assert_has(said, "member 4 (line ");
    ck_assert_ptr_null(strstr(said, "member 2"));
}
END_TEST

/* Whoever makes a mistake with a key must not find it in a log. */
START_TEST(private_key_in_a_ca_file)
{
    char encrypted[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n"
                       "-----END ENCRYPTED PRIVATE KEY-----\n";

    REFUSED(joined(root.cert_pem, root.key_pem, ""), "member 2 (line ", "is a private key",
            "take it out");
    for (const char *p = strchr(root.key_pem, '\n') + 1; strlen(p) > 40; p += 4) {
        char piece[9] = "";
        memcpy(piece, p, 8);
        if (strchr(piece, '\n') == NULL && strchr(piece, '-') == NULL)
            ck_assert_ptr_null(strstr(why, piece));
    }
    REFUSED(root.key_pem, "member 1 (line 1) is a private key");
    REFUSED(joined(encrypted, root.cert_pem, ""), "member 1 (line 1) is a private key");
    /* as a BEGIN line it would be quoted as the kind of member */
    REFUSED("-----BEGIN hunter2-----\nAAAA\n-----END hunter2-----\n", "member 1",
            "is no certificate");
    ck_assert_ptr_null(strstr(why, "hunter2"));
}
END_TEST

START_TEST(other_members)
{
    REFUSED(joined(root.cert_pem, "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", ""),
            "member 2", "is no certificate (X509 CRL)", "take it out");
    REFUSED("", "no usable CA certificate");
    REFUSED("no certificate\n", "no usable CA certificate");
}
END_TEST

START_TEST(der_is_not_pem)
{
    unsigned char *der = NULL;

    int len = i2d_X509(root.cert, &der);
    FILE *f = fopen(scratch.known, "w");
    ck_assert_uint_eq(fwrite(der, 1, (size_t)len, f), (size_t)len);
    fclose(f);
    const struct tls_config config = { .role = TLS_CLIENT, .ca_file = scratch.known };
    ck_assert_ptr_null(tls_ctx_new(&config, why, sizeof(why)));
    assert_has(why, "PEM form");
    assert_has(why, "-inform DER");
    OPENSSL_free(der);
}
END_TEST

/* What looks odd but is whole. */
START_TEST(whole_files)
{
    char text[8192];

    loads(joined("\xef\xbb\xbf", root.cert_pem, "")); /* as an editor of Windows begins a file */
    loads(joined("Certificate:\n    Data: ...\n", root.cert_pem, "\n# the end\n"));
    ck_assert_str_eq(said, "");
    /* `cat a.pem b.pem`, and a.pem lacks its last newline */
    snprintf(text, sizeof(text), "%s", root.cert_pem);
    text[strlen(text) - 1] = '\0';
    loads(joined(text, middle.cert_pem, ""));
    /* CRLF, and no newline at the end */
    size_t at = 0;
    for (const char *p = root.cert_pem; p[0] != '\0' && p[1] != '\0'; p++) {
        if (*p == '\n')
            text[at++] = '\r';
        text[at++] = *p;
    }
    text[at] = '\0';
    loads(text);
    snprintf(text, sizeof(text), "%s", changed(root.cert_pem, "BEGIN CERT", "BEGIN CERT"));
    BIO *bio = BIO_new(BIO_s_mem());
    ck_assert_int_eq(PEM_write_bio_X509_AUX(bio, root.cert), 1); /* TRUSTED CERTIFICATE */
    text[BIO_read(bio, text, sizeof(text) - 1)] = '\0';
    BIO_free(bio);
    loads(text);
    ck_assert_str_eq(said, "");
}
END_TEST

START_TEST(expired_file_is_refused)
{
    struct made old = { 0 }, older = { 0 }, future = { 0 };
    char day[16], text[8192];
    time_t then = time(NULL) - HOUR;

    make(&old, &(struct spec){ "old", NULL, -YEAR, -HOUR, NULL, NULL, true, false, NULL });
    make(&older, &(struct spec){ "older", NULL, -YEAR, -DAY, NULL, NULL, true, false, NULL });
    make(&future, &(struct spec){ "future", NULL, HOUR, YEAR, NULL, NULL, true, false, NULL });
    strftime(day, sizeof(day), "%Y-%m-%d", gmtime(&then));
    REFUSED(old.cert_pem, "/CN=old", "has expired", "valid until", day, "renewed");
    ck_assert_str_eq(said, "");
    loads(future.cert_pem); /* the clock is wrong, and will be set */
    assert_has(said, "/CN=future) is not valid yet");
    assert_has(said, "valid from");
    assert_has(said, "this machine's clock says");
    snprintf(text, sizeof(text), "%s%s", old.cert_pem, older.cert_pem);
    REFUSED(text, "member 1", "/CN=old", "for the others");
    assert_has(said, "member 2");
    made_drop(&old);
    made_drop(&older);
    made_drop(&future);
}
END_TEST

/* System bundles have some: the others are used. */
START_TEST(expired_members_are_named)
{
    struct made old = { 0 }, future = { 0 };
    char text[16384];

    make(&old, &(struct spec){ "old", NULL, -YEAR, -HOUR, NULL, NULL, true, false, NULL });
    make(&future, &(struct spec){ "future", NULL, HOUR, YEAR, NULL, NULL, true, false, NULL });
    snprintf(text, sizeof(text), "%s%s%s", old.cert_pem, root.cert_pem, future.cert_pem);
    loads(text);
    assert_has(said, "member 1 (line 1, /CN=old) has expired");
    assert_has(said, "/CN=future) is not valid yet");
    ck_assert_ptr_null(strstr(said, "/CN=root"));
    made_drop(&old);
    made_drop(&future);
}
END_TEST

START_TEST(last_days_of_a_ca)
{
    struct made soon = { 0 };

    make(&soon,
         &(struct spec){ "soon", NULL, -YEAR, 5 * DAY + HOUR, NULL, NULL, true, false, NULL });
    loads(soon.cert_pem);
    assert_has(said, "/CN=soon");
    assert_has(said, "expires in 5 days");
    loads(joined(soon.cert_pem, root.cert_pem, ""));
    ck_assert_str_eq(said, ""); /* there is another one */
    made_drop(&soon);
}
END_TEST

/* A certificate that is no CA may stand in the file; what it can do is said. */
START_TEST(members_that_are_no_ca)
{
    struct made own = { 0 }, dumb = { 0 };

    loads(leaf.cert_pem);
    assert_has(said, "member 1 (line 1, /CN=leaf) is no CA certificate");
    make(&own,
         &(struct spec){ "own", "DNS:localhost", -DAY, YEAR, NULL, NULL, false, false, NULL });
    loads(own.cert_pem);
    ck_assert_str_eq(said, ""); /* a server without a CA: documented */
    make_as(&dumb, &(struct spec){ "dumb", NULL, -DAY, YEAR, NULL, NULL, true, false, NULL },
            &(struct spec_odd){ .key_usage = "critical,digitalSignature" });
    loads(dumb.cert_pem);
    assert_has(said, "its keyUsage has no keyCertSign");
    made_drop(&own);
    made_drop(&dumb);
}
END_TEST

static double milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* As many members as a system's bundle: every one counts, and none costs a start its quickness. */
START_TEST(many_members)
{
    enum { MANY = 150 };
    static struct made many[MANY];
    static char text[MANY * 1024];
    size_t at = 0;

    for (int i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof(name), "CA %d", i);
        make(&many[i], &(struct spec){ name, NULL, -DAY, YEAR, NULL, NULL, true, false, NULL });
        at += (size_t)snprintf(text + at, sizeof(text) - at, "# %s\n%s", name, many[i].cert_pem);
        ck_assert_uint_lt(at, sizeof(text));
    }
    double start = milliseconds();
    struct tls_ctx *ctx = load_as(TLS_CLIENT, pem_of(text));
    printf("%d members: %.1f ms\n", MANY, milliseconds() - start);
    ck_assert_msg(ctx != NULL, "%s", why);
    ck_assert_str_eq(said, "");
    for (int i = 0; i < MANY; i += MANY - 1) { /* the first and the last */
        struct made one = { 0 };
        make(&one, &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &many[i], NULL, false, false,
                                   NULL });
        const struct tls_config server = { .role = TLS_SERVER,
                                           .cert = pem_of(one.cert_pem),
                                           .key = pem_of(one.key_pem) };
        struct tls_ctx *other = ctx_make(&server);
        struct record *a, *b;
        shake(ctx, other, "localhost", &a, &b);
        record_free(a);
        record_free(b);
        tls_ctx_unref(other);
        made_drop(&one);
    }
    /* one byte of member 75 */
    *(strstr(text, "# CA 74\n") + 100) = '!';
    REFUSED(text, "member 75 (line ");
    tls_ctx_unref(ctx);
    for (int i = 0; i < MANY; i++)
        made_drop(&many[i]);
}
END_TEST

/* What Debian trusts, where it is installed. */
START_TEST(system_bundle)
{
    const struct tls_config config = { .role = TLS_CLIENT, .ca_file = BUNDLE, .warn = hear };

    if (access(BUNDLE, R_OK) != 0) {
        printf("%s is not here\n", BUNDLE);
        return;
    }
    double start = milliseconds();
    struct tls_ctx *ctx = tls_ctx_new(&config, why, sizeof(why));
    printf("%s: %.1f ms\n%s", BUNDLE, milliseconds() - start, said);
    ck_assert_msg(ctx != NULL, "%s", why);
    for (char *line = strtok(said, "\n"); line != NULL; line = strtok(NULL, "\n"))
        ck_assert_msg(strstr(line, "has expired") != NULL, "%s", line);
    tls_ctx_unref(ctx);
}
END_TEST

/* Paths */

struct verdict {
    bool good;
    enum tls_fail fail;
    char why[TLS_WHY_SIZE];
};

/* The verifying end; contexts are dropped. */
static struct verdict meet(struct tls_ctx *client, struct tls_ctx *server, bool by_server)
{
    struct tls_handshake *c = tls_handshake_new(client, "localhost", "localhost:9000");
    struct tls_handshake *s = tls_handshake_new(server, NULL, NULL);
    struct tls_handshake *one = by_server ? s : c;
    struct verdict verdict;

    pump(c, s, 65536);
    verdict.good = tls_handshake_step(one) == TLS_DONE;
    verdict.fail = tls_handshake_fail(one);
    snprintf(verdict.why, sizeof(verdict.why), "%s", tls_handshake_why(one));
    if (!verdict.good)
        ck_assert_int_ne(tls_handshake_step(by_server ? c : s), TLS_WANT_READ); /* it is told */
    tls_handshake_free(c);
    tls_handshake_free(s);
    return verdict;
}

/*
 * A client with the CA file `ca` meets a server that shows `chain`; or, by_server, a server meets a
 * client. The verifying end's clock is ahead by `later` when they meet, after both have loaded
 * their files.
 */
static struct verdict verify_by(bool by_server, const char *ca, const char *chain, const char *key,
                                long later)
{
    char pin[TLS_PIN_SIZE];
    struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(ca), .warn = hear };
    struct tls_config server = { .role = TLS_SERVER, .cert = pem_of(chain), .key = pem_of(key) };

    if (by_server) {
        ck_assert(tls_pin_of_file(scratch.cert, pin, why, sizeof(why)));
        client = (struct tls_config){
            .role = TLS_CLIENT, .pin = pin, .cert = pem_of(chain), .key = pem_of(key)
        };
        server = (struct tls_config){ .role = TLS_SERVER,
                                      .ca = pem_of(ca),
                                      .cert_file = scratch.cert,
                                      .key_file = scratch.key,
                                      .warn = hear };
    }
    struct tls_ctx *c = ctx_make(&client), *s = ctx_make(&server);
    (by_server ? s : c)->later = later;
    struct verdict verdict = meet(c, s, by_server);
    tls_ctx_unref(c);
    tls_ctx_unref(s);
    return verdict;
}

static void assert_good(const struct verdict *verdict)
{
    ck_assert_msg(verdict->good, "%s", verdict->why);
}

static void assert_fails(const struct verdict *verdict, enum tls_fail fail, const char *word)
{
    ck_assert_msg(!verdict->good, "trusted, instead of %s", tls_fail_name(fail));
    ck_assert_msg(verdict->fail == fail, "%s instead of %s: %s", tls_fail_name(verdict->fail),
                  tls_fail_name(fail), verdict->why);
    assert_has(verdict->why, word);
}

/* Where the reason is in the path, both ends must find it: _i is 1 where a server verifies. */
#define BY_SERVER (_i == 1)

START_TEST(good_paths)
{
    struct verdict v = verify_by(BY_SERVER, root.cert_pem, leaf.cert_pem, leaf.key_pem, 0);
    assert_good(&v);
    v = verify_by(BY_SERVER, root.cert_pem, both, below_middle.key_pem, 0);
    assert_good(&v);
    /* an intermediate in the file is a CA, whether its own CA is known or not */
    v = verify_by(BY_SERVER, middle.cert_pem, below_middle.cert_pem, below_middle.key_pem, 0);
    assert_good(&v);
    /* the peer's own certificate in the file: trusted as such */
    v = verify_by(BY_SERVER, leaf.cert_pem, leaf.cert_pem, leaf.key_pem, 0);
    assert_good(&v);
    /* the CA at the end of the chain is not needed, and does no harm */
    v = verify_by(BY_SERVER, root.cert_pem, joined(both, root.cert_pem, ""), below_middle.key_pem,
                  0);
    assert_good(&v);
    v = verify_by(BY_SERVER, root.cert_pem, below_middle.cert_pem, below_middle.key_pem, 0);
    assert_fails(&v, TLS_FAIL_WRONG_CA, "signed by /CN=middle");
}
END_TEST

/* The CA is valid when the file is loaded, and expires while the program runs. */
START_TEST(ca_expires_later)
{
    struct made ca = { 0 }, one = { 0 };

    make(&ca, &(struct spec){ "short CA", NULL, -DAY, HOUR, NULL, NULL, true, false, NULL });
    make(&one, &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &ca, NULL, false, false, NULL });
    struct verdict v = verify_by(BY_SERVER, ca.cert_pem, one.cert_pem, one.key_pem, 0);
    assert_good(&v);
    v = verify_by(BY_SERVER, ca.cert_pem, one.cert_pem, one.key_pem, 2 * HOUR);
    assert_fails(&v, TLS_FAIL_CA_EXPIRED, "/CN=short CA, valid until");
    assert_has(v.why, "--tls-ca");
    /* beside others that are in date */
    v = verify_by(BY_SERVER, joined(ca.cert_pem, root.cert_pem, ""), one.cert_pem, one.key_pem,
                  2 * HOUR);
    assert_fails(&v, TLS_FAIL_CA_EXPIRED, "/CN=short CA");
    v = verify_by(BY_SERVER, joined(ca.cert_pem, root.cert_pem, ""), leaf.cert_pem, leaf.key_pem,
                  2 * HOUR);
    assert_good(&v);
    made_drop(&ca);
    made_drop(&one);
}
END_TEST

/* The same by the real clock: one second before and after the end. */
START_TEST(ca_expires_now)
{
    struct made ca = { 0 }, one = { 0 };
    long lives = 3;
    time_t end = time(NULL) + lives;

    make(&ca, &(struct spec){ "brief CA", NULL, -DAY, lives, NULL, NULL, true, false, NULL });
    make(&one, &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &ca, NULL, false, false, NULL });
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(ca.cert_pem) };
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(one.cert_pem),
                                       .key = pem_of(one.key_pem) };
    struct tls_ctx *c = ctx_make(&client), *s = ctx_make(&server);
    while (time(NULL) <= end + 1)
        nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    struct verdict v = meet(c, s, false);
    assert_fails(&v, TLS_FAIL_CA_EXPIRED, "/CN=brief CA");
    tls_ctx_unref(c);
    tls_ctx_unref(s);
    made_drop(&ca);
    made_drop(&one);
}
END_TEST

/* A CA whose time has not come, in a file with one whose time has. */
START_TEST(ca_becomes_valid)
{
    struct made ca = { 0 }, one = { 0 };

    make(&ca, &(struct spec){ "next CA", NULL, HOUR, YEAR, NULL, NULL, true, false, NULL });
    make(&one, &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &ca, NULL, false, false, NULL });
    const char *file = joined(root.cert_pem, ca.cert_pem, "");
    struct verdict v = verify_by(BY_SERVER, file, one.cert_pem, one.key_pem, 0);
    assert_fails(&v, TLS_FAIL_CA_NOT_YET_VALID, "/CN=next CA, valid from");
    v = verify_by(BY_SERVER, file, one.cert_pem, one.key_pem, 2 * HOUR);
    assert_good(&v);
    made_drop(&ca);
    made_drop(&one);
}
END_TEST

START_TEST(ca_above_an_intermediate_expires)
{
    struct made ca = { 0 }, mid = { 0 }, one = { 0 };
    char chain[8192];

    make(&ca, &(struct spec){ "short CA", NULL, -DAY, HOUR, NULL, NULL, true, false, NULL });
    make(&mid, &(struct spec){ "long mid", NULL, -DAY, YEAR, &ca, NULL, true, false, NULL });
    make(&one,
         &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &mid, NULL, false, false, NULL });
    snprintf(chain, sizeof(chain), "%s%s", one.cert_pem, mid.cert_pem);
    struct verdict v = verify_by(BY_SERVER, ca.cert_pem, chain, one.key_pem, 0);
    assert_good(&v);
    v = verify_by(BY_SERVER, ca.cert_pem, chain, one.key_pem, 2 * HOUR);
    assert_fails(&v, TLS_FAIL_CA_EXPIRED, "/CN=short CA, valid until");
    /* the intermediate is in the file, too, and in date: it is a CA of its own */
    v = verify_by(BY_SERVER, joined(ca.cert_pem, mid.cert_pem, ""), chain, one.key_pem, 2 * HOUR);
    assert_good(&v);
    made_drop(&ca);
    made_drop(&mid);
    made_drop(&one);
}
END_TEST

START_TEST(intermediate_expires)
{
    struct made mid = { 0 }, one = { 0 };
    char chain[8192];

    make(&mid, &(struct spec){ "short mid", NULL, -DAY, HOUR, &root, NULL, true, false, NULL });
    make(&one,
         &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &mid, NULL, false, false, NULL });
    snprintf(chain, sizeof(chain), "%s%s", one.cert_pem, mid.cert_pem);
    struct verdict v = verify_by(BY_SERVER, root.cert_pem, chain, one.key_pem, 0);
    assert_good(&v);
    v = verify_by(BY_SERVER, root.cert_pem, chain, one.key_pem, 2 * HOUR);
    assert_fails(&v, TLS_FAIL_CHAIN_EXPIRED, "/CN=short mid, valid until");
    made_drop(&mid);
    made_drop(&one);
}
END_TEST

/*
 * One context, many handshakes: an intermediate that was shown and accepted once must not serve a
 * peer that does not show it, nor after its end.
 */
START_TEST(nothing_is_learnt_from_peers)
{
    struct made mid = { 0 }, one = { 0 };
    char chain[8192];

    make(&mid, &(struct spec){ "short mid", NULL, -DAY, HOUR, &root, NULL, true, false, NULL });
    make(&one,
         &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &mid, NULL, false, false, NULL });
    snprintf(chain, sizeof(chain), "%s%s", one.cert_pem, mid.cert_pem);
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(root.cert_pem) };
    const struct tls_config whole = { .role = TLS_SERVER,
                                      .cert = pem_of(chain),
                                      .key = pem_of(one.key_pem) };
    const struct tls_config bare = { .role = TLS_SERVER,
                                     .cert = pem_of(one.cert_pem),
                                     .key = pem_of(one.key_pem) };
    struct tls_ctx *c = ctx_make(&client), *s = ctx_make(&whole), *t = ctx_make(&bare);
    for (int i = 0; i < 3; i++) {
        struct verdict v = meet(c, s, false);
        assert_good(&v);
    }
    struct verdict v = meet(c, t, false);
    assert_fails(&v, TLS_FAIL_WRONG_CA, "signed by /CN=short mid");
    c->later = 2 * HOUR;
    v = meet(c, s, false);
    assert_fails(&v, TLS_FAIL_CHAIN_EXPIRED, "/CN=short mid");
    tls_ctx_unref(c);
    tls_ctx_unref(s);
    tls_ctx_unref(t);
    made_drop(&mid);
    made_drop(&one);
}
END_TEST

/*
 * Renewed: the same name and key, other dates. In either order, with key identifiers and without.
 */
START_TEST(renewed_ca)
{
    struct made renewed = { 0 }, old = { 0 }, one = { 0 };
    bool key_id = _i >= 2;

    make(&old, &(struct spec){ "the CA", NULL, -YEAR, -HOUR, NULL, NULL, true, false, NULL });
    make(&renewed, &(struct spec){ "the CA", NULL, -DAY, YEAR, NULL, NULL, true, false, &old });
    make_as(&one,
            &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &old, NULL, false, false, NULL },
            &(struct spec_odd){ .key_id = key_id });
    struct verdict v = verify_by((_i & 1) == 1, joined(old.cert_pem, renewed.cert_pem, ""),
                                 one.cert_pem, one.key_pem, 0);
    assert_good(&v);
    v = verify_by((_i & 1) == 1, joined(renewed.cert_pem, old.cert_pem, ""), one.cert_pem,
                  one.key_pem, 0);
    assert_good(&v);
    made_drop(&old);
    made_drop(&renewed);
    made_drop(&one);
}
END_TEST

/*
 * A CA that was made anew under the same name: another key. Both are in date, and nothing but the
 * signature tells which it was.
 */
START_TEST(same_name_other_key)
{
    struct made a = { 0 }, b = { 0 }, of_a = { 0 }, of_b = { 0 };

    make(&a, &(struct spec){ "the CA", NULL, -DAY, YEAR, NULL, NULL, true, false, NULL });
    make(&b, &(struct spec){ "the CA", NULL, -DAY, YEAR, NULL, NULL, true, false, NULL });
    make(&of_a, &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &a, NULL, false, false, NULL });
    make(&of_b, &(struct spec){ "two", "DNS:localhost", -DAY, YEAR, &b, NULL, false, false, NULL });
    const char *file = joined(a.cert_pem, b.cert_pem, root.cert_pem);
    struct verdict v = verify_by(BY_SERVER, file, of_a.cert_pem, of_a.key_pem, 0);
    assert_good(&v);
    v = verify_by(BY_SERVER, file, of_b.cert_pem, of_b.key_pem, 0);
    assert_good(&v);
    v = verify_by(BY_SERVER, a.cert_pem, of_b.cert_pem, of_b.key_pem, 0);
    assert_fails(&v, TLS_FAIL_WRONG_CA, "but not by that one's key");
    made_drop(&a);
    made_drop(&b);
    made_drop(&of_a);
    made_drop(&of_b);
}
END_TEST

/*
 * An expired CA of the file has the name and key of an intermediate that the peer shows in a valid
 * form: the path goes that way.
 */
START_TEST(way_around_an_expired_ca)
{
    struct made old = { 0 }, cross = { 0 }, one = { 0 };
    char chain[8192];

    make(&old, &(struct spec){ "cross", NULL, -YEAR, -HOUR, NULL, NULL, true, false, NULL });
    make(&cross, &(struct spec){ "cross", NULL, -DAY, YEAR, &root, NULL, true, false, &old });
    make(&one,
         &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &old, NULL, false, false, NULL });
    snprintf(chain, sizeof(chain), "%s%s", one.cert_pem, cross.cert_pem);
    struct verdict v =
        verify_by(BY_SERVER, joined(old.cert_pem, root.cert_pem, ""), chain, one.key_pem, 0);
    assert_good(&v);
    /* the other way round: what the peer shows has expired, and what the file has is in date */
    struct made stale = { 0 };
    make(&stale, &(struct spec){ "root", NULL, -YEAR, -HOUR, &old, NULL, true, false, &root });
    snprintf(chain, sizeof(chain), "%s%s", leaf.cert_pem, stale.cert_pem);
    v = verify_by(BY_SERVER, root.cert_pem, chain, leaf.key_pem, 0);
    assert_good(&v);
    made_drop(&old);
    made_drop(&cross);
    made_drop(&one);
    made_drop(&stale);
}
END_TEST

/*
 * --- intermediates that may not be where they are ----------------------------------------------
 */

static const struct {
    struct spec_odd odd;
    const char *usage; /* of the intermediate */
    enum tls_fail fail;
    const char *says;
} middles[] = {
    { { .key_usage = "" }, NULL, TLS_FAIL_NONE, "" }, /* says nothing: may */
    { { .key_usage = "critical,digitalSignature" },
      NULL,
      TLS_FAIL_BAD_CHAIN,
      "the intermediate /CN=mid may not sign certificates: its keyUsage has no keyCertSign" },
    { { .basic = "critical,CA:FALSE", .key_usage = "" },
      NULL,
      TLS_FAIL_BAD_CHAIN,
      "the intermediate /CN=mid may not sign certificates: its basicConstraints has no CA:TRUE" },
    { { .basic = "", .key_usage = "" }, NULL, TLS_FAIL_BAD_CHAIN, "no CA:TRUE" },
    { { .limits = "critical,permitted;DNS:example.org" },
      NULL,
      TLS_FAIL_BAD_CERTIFICATE,
      "permitted subtree" },
    { { .limits = "critical,permitted;DNS:localhost" }, NULL, TLS_FAIL_NONE, "" },
    { { 0 }, "serverAuth,clientAuth", TLS_FAIL_NONE, "" },
    { { 0 }, "anyExtendedKeyUsage", TLS_FAIL_NONE, "" },
    { { 0 }, "emailProtection", TLS_FAIL_BAD_CHAIN, "its extendedKeyUsage has no" },
};
#define MIDDLES ((int)(sizeof(middles) / sizeof(middles[0])))

START_TEST(odd_intermediate)
{
    struct made mid = { 0 }, one = { 0 };
    char chain[8192];
    int row = _i % MIDDLES;

    make_as(&mid,
            &(struct spec){ "mid", NULL, -DAY, YEAR, &root, middles[row].usage, true, false, NULL },
            &middles[row].odd);
    make(&one,
         &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &mid, NULL, false, false, NULL });
    snprintf(chain, sizeof(chain), "%s%s", one.cert_pem, mid.cert_pem);
    struct verdict v = verify_by(_i >= MIDDLES, root.cert_pem, chain, one.key_pem, 0);
    if (middles[row].fail == TLS_FAIL_NONE)
        assert_good(&v);
    else
        assert_fails(&v, middles[row].fail, middles[row].says);
    made_drop(&mid);
    made_drop(&one);
}
END_TEST

START_TEST(path_too_long)
{
    struct made ca = { 0 }, mid = { 0 }, one = { 0 };
    char chain[8192];

    make_as(&ca, &(struct spec){ "flat CA", NULL, -DAY, YEAR, NULL, NULL, true, false, NULL },
            &(struct spec_odd){ .basic = "critical,CA:TRUE,pathlen:0" });
    make(&mid, &(struct spec){ "mid", NULL, -DAY, YEAR, &ca, NULL, true, false, NULL });
    make(&one,
         &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &mid, NULL, false, false, NULL });
    snprintf(chain, sizeof(chain), "%s%s", one.cert_pem, mid.cert_pem);
    struct verdict v = verify_by(BY_SERVER, ca.cert_pem, chain, one.key_pem, 0);
    assert_fails(&v, TLS_FAIL_BAD_CA, "/CN=flat CA is refused by libcrypto: path length");
    made_drop(&ca);
    made_drop(&mid);
    made_drop(&one);
}
END_TEST

/* A certificate that is trusted as itself, or a CA that may not sign, vouches for no other. */
START_TEST(no_ca_vouches_for_nobody)
{
    static const struct spec_odd odds[] = {
        { .basic = "critical,CA:FALSE", .key_usage = "" },
        { .basic = "", .key_usage = "" },
        { .key_usage = "critical,digitalSignature" },
    };

    for (size_t i = 0; i < sizeof(odds) / sizeof(odds[0]); i++) {
        struct made own = { 0 }, one = { 0 };
        make_as(&own,
                &(struct spec){ "own", "DNS:localhost", -DAY, YEAR, NULL, NULL, true, false, NULL },
                &odds[i]);
        make(&one,
             &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &own, NULL, false, false, NULL });
        struct verdict v = verify_by(BY_SERVER, own.cert_pem, own.cert_pem, own.key_pem, 0);
        assert_good(&v);
        v = verify_by(BY_SERVER, own.cert_pem, one.cert_pem, one.key_pem, 0);
        assert_fails(&v, TLS_FAIL_BAD_CA, "the CA /CN=own may not sign certificates");
        made_drop(&own);
        made_drop(&one);
    }
}
END_TEST

/* A member of the kind TRUSTED CERTIFICATE says what it is trusted for, and that counts. */
START_TEST(trusted_for_something_else)
{
    char text[4096];

    for (int good = 0; good <= 1; good++) {
        X509 *copy = X509_dup(root.cert);
        const int nids[] = { NID_email_protect, BY_SERVER ? NID_client_auth : NID_server_auth };
        ck_assert_int_eq(X509_add1_trust_object(copy, OBJ_nid2obj(nids[good])), 1);
        BIO *bio = BIO_new(BIO_s_mem());
        ck_assert_int_eq(PEM_write_bio_X509_AUX(bio, copy), 1);
        text[BIO_read(bio, text, sizeof(text) - 1)] = '\0';
        struct verdict v = verify_by(BY_SERVER, text, leaf.cert_pem, leaf.key_pem, 0);
        if (good == 1)
            assert_good(&v);
        else
            assert_fails(&v, TLS_FAIL_BAD_CA, "/CN=root is refused by libcrypto");
        BIO_free(bio);
        X509_free(copy);
    }
}
END_TEST

START_TEST(weak_paths)
{
    struct made ca = { 0 }, one = { 0 }, short_ca = { 0 };

    make(&ca, &(struct spec){ "RSA CA", NULL, -DAY, YEAR, NULL, NULL, true, true, NULL });
    make_as(&one,
            &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &ca, NULL, false, false, NULL },
            &(struct spec_odd){ .digest = "MD5" });
    struct verdict v = verify_by(BY_SERVER, ca.cert_pem, one.cert_pem, one.key_pem, 0);
    assert_fails(&v, TLS_FAIL_BAD_CERTIFICATE, "signed by a broken hash");
    made_drop(&one);
    make_as(&one,
            &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &ca, NULL, false, false, NULL },
            &(struct spec_odd){ .digest = "SHA1" });
    v = verify_by(BY_SERVER, ca.cert_pem, one.cert_pem, one.key_pem, 0);
    assert_good(&v);
    made_drop(&one);
    make_as(&short_ca, &(struct spec){ "toy CA", NULL, -DAY, YEAR, NULL, NULL, true, false, NULL },
            &(struct spec_odd){ .key = EVP_RSA_gen(512) });
    make(&one,
         &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &short_ca, NULL, false, false, NULL });
    v = verify_by(BY_SERVER, short_ca.cert_pem, one.cert_pem, one.key_pem, 0);
    assert_fails(&v, TLS_FAIL_BAD_CA, "/CN=toy CA has a key that is too short");
    made_drop(&short_ca);
    made_drop(&one);
    made_drop(&ca);
}
END_TEST

/* Addresses are compared as addresses: every way to write one will do. */
START_TEST(addresses)
{
    static const char *const names[] = { "2001:db8::1", "2001:DB8:0:0:0:0:0:1", "192.0.2.1" };
    struct made one = { 0 };

    make(&one, &(struct spec){ "one", "IP:2001:db8::1,IP:192.0.2.1", -DAY, YEAR, &root, NULL, false,
                               false, NULL });
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(root.cert_pem) };
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(one.cert_pem),
                                       .key = pem_of(one.key_pem) };
    struct tls_ctx *c = ctx_make(&client), *s = ctx_make(&server);
    struct record *a, *b;
    shake(c, s, names[_i], &a, &b);
    record_free(a);
    record_free(b);
    tls_ctx_unref(c);
    tls_ctx_unref(s);
    made_drop(&one);
}
END_TEST

/*
 * One context and its remembered intermediates, several threads; more intermediates than are
 * remembered.
 */
static struct tls_ctx *shared;
static struct tls_ctx *peers[12];

static void *meet_often(void *arg)
{
    long *good = arg;

    for (int i = 0; i < 24; i++) {
        struct verdict v = meet(shared, peers[i % 12], false);
        *good += v.good;
    }
    return NULL;
}

START_TEST(threads)
{
    pthread_t thread[4];
    long good[4] = { 0 };
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(root.cert_pem) };
    shared = ctx_make(&client);

    for (size_t i = 0; i < 12; i++) {
        struct made mid = { 0 }, one = { 0 };
        char chain[8192];
        make(&mid, &(struct spec){ "mid", NULL, -DAY, YEAR, &root, NULL, true, false, NULL });
        make(&one,
             &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &mid, NULL, false, false, NULL });
        snprintf(chain, sizeof(chain), "%s%s", one.cert_pem, mid.cert_pem);
        const struct tls_config server = { .role = TLS_SERVER,
                                           .cert = pem_of(chain),
                                           .key = pem_of(one.key_pem) };
        peers[i] = ctx_make(&server);
        made_drop(&mid);
        made_drop(&one);
    }
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, meet_often, &good[i]), 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
        ck_assert_int_eq(good[i], 24);
    }
    for (size_t i = 0; i < 12; i++)
        tls_ctx_unref(peers[i]);
    tls_ctx_unref(shared);
}
END_TEST

/* The own chain */

static struct tls_ctx *own(enum tls_role role, const char *chain, const char *key)
{
    const struct tls_config config = { .role = role,
                                       .cert = pem_of(chain),
                                       .key = pem_of(key),
                                       .ca = role == TLS_CLIENT ? pem_of(root.cert_pem)
                                                                : (struct tls_pem){ 0 },
                                       .warn = hear };

    said[0] = why[0] = '\0';
    return tls_ctx_new(&config, why, sizeof(why));
}

static void own_refused(const char *chain, const char *word)
{
    for (int role = TLS_SERVER; role <= TLS_CLIENT; role++) {
        ck_assert_ptr_null(own((enum tls_role)role, chain, below_middle.key_pem));
        assert_has(why, word);
    }
}

static void own_says(enum tls_role role, const char *chain, const char *key, const char *word)
{
    struct tls_ctx *ctx = own(role, chain, key);

    ck_assert_msg(ctx != NULL, "%s", why);
    if (word != NULL)
        assert_has(said, word);
    else
        ck_assert_str_eq(said, "");
    tls_ctx_unref(ctx);
}

START_TEST(own_chain_damaged)
{
    own_refused(joined(below_middle.cert_pem, without_end(middle.cert_pem), root.cert_pem),
                "member 2 (line ");
    own_refused(joined(below_middle.cert_pem, changed(middle.cert_pem, "\nMII", "\nM!I"), ""),
                "not base64");
    own_refused(joined(without_end(below_middle.cert_pem), middle.cert_pem, ""),
                "member 1 (line 1, /CN=below) has no END line");
    own_refused(joined(middle.cert_pem, below_middle.cert_pem, ""), "belongs to member 2");
    own_refused("", "no usable certificate");
}
END_TEST

START_TEST(own_chain_in_order)
{
    own_says(TLS_SERVER, both, below_middle.key_pem, NULL);
    own_says(TLS_SERVER, joined(both, root.cert_pem, ""), below_middle.key_pem, NULL);
    own_says(TLS_SERVER, joined(below_middle.cert_pem, root.cert_pem, middle.cert_pem),
             below_middle.key_pem, "/CN=root) has not signed the one before it");
    own_says(TLS_SERVER, joined(leaf.cert_pem, leaf.cert_pem, ""), leaf.key_pem, "member 2 (line ");
    /* `cat leaf.pem middle.pem`, and leaf.pem lacks its last newline */
    char text[4096];
    snprintf(text, sizeof(text), "%s", below_middle.cert_pem);
    text[strlen(text) - 1] = '\0';
    own_says(TLS_SERVER, joined(text, middle.cert_pem, ""), below_middle.key_pem, NULL);
    /* certificate and key in one file */
    const char *all = joined(below_middle.key_pem, both, "");
    own_says(TLS_SERVER, all, all, NULL);
}
END_TEST

START_TEST(own_chain_dates)
{
    struct made old = { 0 }, mid = { 0 }, one = { 0 };

    make(&old,
         &(struct spec){ "old", "DNS:localhost", -YEAR, -HOUR, &root, NULL, false, false, NULL });
    own_says(TLS_CLIENT, old.cert_pem, old.key_pem, "/CN=old) has expired (valid until ");
    own_says(TLS_SERVER, old.cert_pem, old.key_pem, NULL); /* counted in days by the server */
    make(&mid, &(struct spec){ "old mid", NULL, -YEAR, -HOUR, &root, NULL, true, false, NULL });
    make(&one, &(struct spec){ "one", "DNS:localhost", DAY, YEAR, &mid, NULL, false, false, NULL });
    const char *chain = joined(one.cert_pem, mid.cert_pem, "");
    own_says(TLS_SERVER, chain, one.key_pem, "/CN=old mid) has expired");
    own_says(TLS_SERVER, chain, one.key_pem, "/CN=one) is not valid yet (valid from ");
    own_says(TLS_CLIENT, chain, one.key_pem, "/CN=old mid) has expired");
    made_drop(&old);
    made_drop(&mid);
    made_drop(&one);
}
END_TEST

START_TEST(own_chain_too_long)
{
    char text[32768] = "";

    for (unsigned i = 0; i < TLS_CHAIN_MAX + 1; i++)
        strcat(text, leaf.cert_pem);
    ck_assert_ptr_null(own(TLS_SERVER, text, leaf.key_pem));
    assert_has(why, "more than 9 certificates");
}
END_TEST

/* SECURITY.md says that these may be used. */
START_TEST(ed25519)
{
    struct made one = { 0 };

    make_as(&one,
            &(struct spec){ "one", "DNS:localhost", -DAY, YEAR, &root, NULL, false, false, NULL },
            &(struct spec_odd){ .key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") });
    struct verdict v = verify_by(BY_SERVER, root.cert_pem, one.cert_pem, one.key_pem, 0);
    assert_good(&v);
    made_drop(&one);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls_ca");
    TCase *file = tcase_create("file");
    TCase *path = tcase_create("path");
    TCase *chain = tcase_create("own chain");

    tcase_add_checked_fixture(file, setup, teardown);
    tcase_set_timeout(file, 120);
    tcase_add_test(file, member_without_end);
    tcase_add_test(file, member_without_begin);
    tcase_add_test(file, two_begins);
    tcase_add_test(file, marks_that_do_not_fit);
    tcase_add_test(file, content_that_is_damaged);
    tcase_add_test(file, all_bad_members_are_named);
    tcase_add_test(file, private_key_in_a_ca_file);
    tcase_add_test(file, other_members);
    tcase_add_test(file, der_is_not_pem);
    tcase_add_test(file, whole_files);
    tcase_add_test(file, expired_file_is_refused);
    tcase_add_test(file, expired_members_are_named);
    tcase_add_test(file, last_days_of_a_ca);
    tcase_add_test(file, members_that_are_no_ca);
    tcase_add_test(file, many_members);
    tcase_add_test(file, system_bundle);
    tcase_add_checked_fixture(path, setup, teardown);
    tcase_set_timeout(path, 120);
    tcase_add_loop_test(path, good_paths, 0, 2);
    tcase_add_loop_test(path, ca_expires_later, 0, 2);
    tcase_add_test(path, ca_expires_now);
    tcase_add_loop_test(path, ca_becomes_valid, 0, 2);
    tcase_add_loop_test(path, ca_above_an_intermediate_expires, 0, 2);
    tcase_add_loop_test(path, intermediate_expires, 0, 2);
    tcase_add_test(path, nothing_is_learnt_from_peers);
    tcase_add_loop_test(path, renewed_ca, 0, 4);
    tcase_add_loop_test(path, same_name_other_key, 0, 2);
    tcase_add_loop_test(path, way_around_an_expired_ca, 0, 2);
    tcase_add_loop_test(path, odd_intermediate, 0, 2 * MIDDLES);
    tcase_add_loop_test(path, path_too_long, 0, 2);
    tcase_add_loop_test(path, no_ca_vouches_for_nobody, 0, 2);
    tcase_add_loop_test(path, trusted_for_something_else, 0, 2);
    tcase_add_loop_test(path, weak_paths, 0, 2);
    tcase_add_loop_test(path, addresses, 0, 3);
    tcase_add_loop_test(path, ed25519, 0, 2);
    tcase_add_test(path, threads);
    tcase_add_checked_fixture(chain, setup, teardown);
    tcase_set_timeout(chain, 120);
    tcase_add_test(chain, own_chain_damaged);
    tcase_add_test(chain, own_chain_in_order);
    tcase_add_test(chain, own_chain_dates);
    tcase_add_test(chain, own_chain_too_long);
    suite_add_tcase(suite, file);
    suite_add_tcase(suite, path);
    suite_add_tcase(suite, chain);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
