/*
 * Certificates, pins and the known_servers file: what gen-cert leaves behind, what it keeps, what
 * it refuses, and that libcrypto's own verifier agrees with what was made.
 */
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "unit/test_tls_certs.h"
#include "unit/tls_util.h"

#include "core/base/value.h"
#include "tls/tls_impl.h"

static struct scratch scratch;
static char why[TLS_WHY_SIZE];

static void setup(void)
{
    scratch_make(&scratch);
}

static void teardown(void)
{
    scratch_drop(&scratch);
}

static X509 *load(const char *path)
{
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    X509 *cert = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    ck_assert_ptr_nonnull(cert);
    return cert;
}

static char *path_of(const char *file)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", scratch.dir, file);
    return path;
}

static void slurp(const char *path, char text[8192])
{
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    size_t n = fread(text, 1, 8191, f);
    text[n] = '\0';
    fclose(f);
}

static void spill(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static bool gen(const struct tls_gen *g)
{
    why[0] = '\0';
    return tls_gen_cert(g, why, sizeof(why));
}

START_TEST(files_are_private)
{
    static const char *const files[] = { "ca.pem",     "ca.key",     "server.pem",
                                         "server.key", "client.pem", "client.key" };
    struct stat st;

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        ck_assert_int_eq(stat(path_of(files[i]), &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
    }
}
END_TEST

/* Nothing but the files named: no half-written ones. */
START_TEST(nothing_is_left_over)
{
    DIR *dir = opendir(scratch.dir);
    int files = 0;

    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        files += e->d_name[0] != '.';
    closedir(dir);
    ck_assert_int_eq(files, 6);
}
END_TEST

static int verify(const char *leaf_file, int purpose, const char *host, const char *ip)
{
    X509 *ca = load(scratch.ca);
    X509 *leaf = load(leaf_file);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, ca);
    X509_STORE_CTX_init(ctx, store, leaf, NULL);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_purpose(param, purpose);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
    if (host != NULL)
        X509_VERIFY_PARAM_set1_host(param, host, 0);
    if (ip != NULL)
        X509_VERIFY_PARAM_set1_ip_asc(param, ip);
    X509_verify_cert(ctx);
    int error = X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(leaf);
    X509_free(ca);
    return error;
}

START_TEST(strict_verifier_agrees)
{
    static const char *const hosts[] = { "localhost", "server.example" };
    static const char *const ips[] = { "127.0.0.1", "::1", "192.0.2.7" };

    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(verify(scratch.cert, X509_PURPOSE_SSL_SERVER, hosts[i], NULL), X509_V_OK);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(verify(scratch.cert, X509_PURPOSE_SSL_SERVER, NULL, ips[i]), X509_V_OK);
    ck_assert_int_eq(verify(scratch.cert, X509_PURPOSE_SSL_SERVER, "other.example", NULL),
                     X509_V_ERR_HOSTNAME_MISMATCH);
    ck_assert_int_eq(verify(scratch.client_cert, X509_PURPOSE_SSL_CLIENT, NULL, NULL), X509_V_OK);
    ck_assert_int_eq(verify(scratch.client_cert, X509_PURPOSE_SSL_SERVER, NULL, NULL),
                     X509_V_ERR_INVALID_PURPOSE);
}
END_TEST

START_TEST(again_keeps_ca_and_key)
{
    char ca[2][8192];
    char key[2][8192];
    char cert[2][8192];
    char pin[2][TLS_PIN_SIZE];
    const char *const names[] = { "new.example", "localhost" };

    slurp(scratch.ca, ca[0]);
    slurp(scratch.key, key[0]);
    slurp(scratch.cert, cert[0]);
    ck_assert(tls_pin_of_file(scratch.cert, pin[0], why, sizeof(why)));
    ck_assert_msg(gen(&(struct tls_gen){ .dir = scratch.dir, .names = names, .name_count = 2 }),
                  "%s", why);
    slurp(scratch.ca, ca[1]);
    slurp(scratch.key, key[1]);
    slurp(scratch.cert, cert[1]);
    ck_assert(tls_pin_of_file(scratch.cert, pin[1], why, sizeof(why)));
    ck_assert_str_eq(ca[0], ca[1]);
    ck_assert_str_eq(key[0], key[1]);
    ck_assert_str_eq(pin[0], pin[1]);
    ck_assert_str_ne(cert[0], cert[1]);
    ck_assert_int_eq(verify(scratch.cert, X509_PURPOSE_SSL_SERVER, "new.example", NULL), X509_V_OK);
}
END_TEST

START_TEST(days)
{
    int day;
    int sec;
    ck_assert(gen(&(struct tls_gen){ .dir = scratch.dir, .days = 7 }));
    X509 *cert = load(scratch.cert);
    ck_assert_int_eq(ASN1_TIME_diff(&day, &sec, NULL, X509_get0_notAfter(cert)), 1);
    ck_assert_int_ge(day, 6);
    ck_assert_int_le(day, 7);
    ck_assert_int_eq(ASN1_TIME_diff(&day, &sec, X509_get0_notBefore(cert), NULL), 1);
    ck_assert_int_eq(day, 1); /* clocks differ */
    X509_free(cert);
}
END_TEST

START_TEST(renewal_keeps_names_and_key)
{
    const char *names[] = { "a.example", "*.b.example", "192.0.2.1", "2001:db8::1" };
    struct tls_gen g = { .dir = scratch.dir, .names = names, .name_count = 4, .days = 5 };
    char key[8192], after[8192], pin[TLS_PIN_SIZE], now[TLS_PIN_SIZE], text[512];
    long left;

    ck_assert_msg(gen(&g), "%s", why);
    ck_assert(tls_cert_days(path_of("server.pem"), &left));
    ck_assert_int_ge(left, 4);
    ck_assert_int_le(left, 5);
    slurp(path_of("server.key"), key);
    ck_assert(tls_pin_of_file(path_of("server.pem"), pin, why, sizeof(why)));
    ck_assert_msg(tls_cert_renew(scratch.dir, why, sizeof(why)), "%s", why);
    ck_assert(tls_cert_days(path_of("server.pem"), &left));
    ck_assert_int_ge(left, 800);
    slurp(path_of("server.key"), after);
    ck_assert_str_eq(after, key);
    ck_assert(tls_pin_of_file(path_of("server.pem"), now, why, sizeof(why)));
    ck_assert_str_eq(now, pin);
    ck_assert(tls_cert_describe(path_of("server.pem"), text, sizeof(text)));
    for (size_t i = 0; i < 4; i++)
        ck_assert_msg(strstr(text, names[i]) != NULL, "%s is not in: %s", names[i], text);
}
END_TEST

/* A machine without a battery for its clock: what it makes in 1970 is good when the clock is set,
 * and what it makes while the clock is ahead can be made again when that is put right. */
START_TEST(dates_when_the_clock_is_wrong)
{
    const time_t day = 86400, written = 1793491200, now = written + 200 * day; /* 2026-11-01 */
    struct tls_period period = tls_cert_period(0, 825, false);

    ck_assert(!tls_cert_clock_is_set(0) && !tls_cert_clock_is_set(written - 1));
    ck_assert(tls_cert_clock_is_set(written) && tls_cert_clock_is_set(now));
    ck_assert(period.begin < written && period.end == written + 825 * day);
    period = tls_cert_period(now, 825, false);
    ck_assert(period.begin == now - day && period.end == now + 825 * day);
    for (time_t at = 0; at < 4 * now; at += now) {
        period = tls_cert_period(at, 3650, true);
        ck_assert(period.begin < written && period.end >= written + 3650 * day);
    }
}
END_TEST

/* Of a key that is kept nowhere the dates say nothing: it is trusted by its pin. */
START_TEST(in_memory_for_ever)
{
    struct tls_own_pair own;
    time_t far = (time_t)4102444800; /* 2100-01-01 */

    ck_assert_msg(tls_own_pair_make("server.example", &own, why, sizeof(why)), "%s", why);
    BIO *bio = BIO_new_mem_buf(own.cert.data, (int)own.cert.len);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    ck_assert_ptr_nonnull(cert);
    ck_assert_int_eq(tls_cert_when(cert, 86400), TLS_WHEN_GOOD);
    ck_assert_int_eq(tls_cert_when(cert, time(NULL)), TLS_WHEN_GOOD);
    ck_assert_int_eq(tls_cert_when(cert, far), TLS_WHEN_GOOD);
    X509_free(cert);
    BIO_free(bio);
    tls_own_pair_drop(&own);
}
END_TEST

START_TEST(dates_beside_the_clock)
{
    struct made early = { 0 };
    struct tls_dates dates;

    ck_assert(tls_cert_dates(scratch.cert, &dates));
    ck_assert(!dates.early && dates.clock_is_set && dates.days > 800);
    ck_assert_ptr_nonnull(strstr(dates.text, "valid until 20"));
    make(&early, &(struct spec){ "early", NULL, 3600, 7200, NULL, NULL, false, false, NULL });
    spill(scratch.cert, early.cert_pem);
    ck_assert(tls_cert_dates(scratch.cert, &dates));
    ck_assert(dates.early);
    ck_assert_ptr_nonnull(strstr(dates.text, "valid from 20"));
    ck_assert_ptr_nonnull(strstr(dates.text, ", this machine's clock says 20"));
    made_drop(&early);
    spill(scratch.cert, "nothing");
    ck_assert(!tls_cert_dates(scratch.cert, &dates));
}
END_TEST

/* What another CA has signed, or what is no certificate, is not ours to replace. */
START_TEST(renewal_refuses_what_is_not_ours)
{
    struct tls_gen g = { .dir = scratch.dir };
    char before[8192], after[8192];
    long left;

    ck_assert(gen(&g));
    slurp(path_of("server.pem"), before);
    ck_assert_int_eq(unlink(path_of("ca.pem")), 0);
    ck_assert_int_eq(unlink(path_of("ca.key")), 0);
    ck_assert(!tls_cert_renew(scratch.dir, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "ca.pem"));
    ck_assert(gen(&(struct tls_gen){ .dir = scratch.dir, .client = "makes-another-ca" }));
    ck_assert(!tls_cert_renew(scratch.dir, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "not signed"));
    slurp(path_of("server.pem"), after);
    ck_assert_str_eq(after, before);
    spill(path_of("server.pem"), "nothing\n");
    ck_assert(!tls_cert_renew(scratch.dir, why, sizeof(why)));
    ck_assert(!tls_cert_days(path_of("server.pem"), &left));
    ck_assert(!tls_cert_days(path_of("missing.pem"), &left));
}
END_TEST

START_TEST(refusals)
{
    const char *const bad_names[] = { "evil\nname" };
    const char *const inject[] = { "a,DNS:bank.example" };
    const char *const empty[] = { "" };
    const char *const odd[] = { "a:b" };

    ck_assert(!gen(&(struct tls_gen){ .dir = "/nonexistent/dir" }));
    ck_assert_ptr_nonnull(strstr(why, "/nonexistent/dir"));
    ck_assert(!gen(&(struct tls_gen){ .dir = scratch.dir, .names = bad_names, .name_count = 1 }));
    ck_assert(!gen(&(struct tls_gen){ .dir = scratch.dir, .names = inject, .name_count = 1 }));
    ck_assert_ptr_nonnull(strstr(why, "neither a host name nor an IP address"));
    ck_assert(!gen(&(struct tls_gen){ .dir = scratch.dir, .names = empty, .name_count = 1 }));
    ck_assert(!gen(&(struct tls_gen){ .dir = scratch.dir, .names = odd, .name_count = 1 }));
    ck_assert_int_eq(unlink(path_of("ca.key")), 0);
    ck_assert(!gen(&(struct tls_gen){ .dir = scratch.dir }));
    ck_assert_ptr_nonnull(strstr(why, "ca.key"));
    spill(path_of("ca.key"), "no key\n");
    ck_assert(!gen(&(struct tls_gen){ .dir = scratch.dir }));
    ck_assert_ptr_nonnull(strstr(why, "ca.key"));
    char key[8192];
    slurp(scratch.key, key);
    spill(path_of("ca.key"), key);
    ck_assert(!gen(&(struct tls_gen){ .dir = scratch.dir }));
    ck_assert_ptr_nonnull(strstr(why, "does not belong"));
}
END_TEST

/* Nothing is signed by a CA that nobody would believe. */
START_TEST(ca_out_of_date)
{
    static const struct {
        long from, until;
        const char *says, *date;
    } rows[] = {
        { -7200, -3600, "has expired", "valid until 2" },
        { 3600, 7200, "is not valid yet", "valid from 2" },
    };
    struct made ca = { 0 };
    char before[8192], after[8192];

    slurp(scratch.cert, before);
    make(&ca, &(struct spec){ "old CA", NULL, rows[_i].from, rows[_i].until, NULL, NULL, true,
                              false, NULL });
    spill(path_of("ca.pem"), ca.cert_pem);
    spill(path_of("ca.key"), ca.key_pem);
    ck_assert(!gen(&(struct tls_gen){ .dir = scratch.dir }));
    ck_assert_msg(strstr(why, rows[_i].says) != NULL, "%s", why);
    ck_assert_msg(strstr(why, rows[_i].date) != NULL, "%s", why);
    slurp(scratch.cert, after);
    ck_assert_str_eq(before, after);
    made_drop(&ca);
}
END_TEST

START_TEST(long_names)
{
    char name[251];
    const char *const names[] = { name };
    for (size_t i = 0; i < sizeof(name) - 1; i++)
        name[i] = i % 50 == 49 ? '.' : 'a';
    name[sizeof(name) - 1] = '\0';
    name[sizeof(name) - 2] = 'z';

    ck_assert_msg(gen(&(struct tls_gen){ .dir = scratch.dir, .names = names, .name_count = 1 }),
                  "%s", why);
    ck_assert_int_eq(verify(scratch.cert, X509_PURPOSE_SSL_SERVER, name, NULL), X509_V_OK);
}
END_TEST

START_TEST(describe)
{
    char text[512];

    ck_assert(tls_cert_describe(scratch.cert, text, sizeof(text)));
    ck_assert_ptr_nonnull(strstr(text, "localhost, 127.0.0.1, ::1, server.example, 192.0.2.7"));
    ck_assert_ptr_nonnull(strstr(text, "valid until 20"));
    ck_assert(!tls_cert_describe(scratch.key, text, sizeof(text)));
    ck_assert(!tls_cert_describe("/nonexistent", text, sizeof(text)));
}
END_TEST

/* Pins */

START_TEST(pin_is_spki_sha256)
{
    char pin[TLS_PIN_SIZE];
    char expected[TLS_PIN_SIZE];
    unsigned char *der = NULL;
    unsigned char digest[32];

    ck_assert(tls_pin_of_file(scratch.cert, pin, why, sizeof(why)));
    X509 *cert = load(scratch.cert);
    EVP_PKEY *key = X509_get_pubkey(cert);
    int len = i2d_PUBKEY(key, &der);
    SHA256(der, (size_t)len, digest);
    int n = snprintf(expected, sizeof(expected), "sha256:");
    for (int i = 0; i < 32; i++)
        n += snprintf(expected + n, sizeof(expected) - (size_t)n, "%02x", digest[i]);
    ck_assert_str_eq(pin, expected);
    OPENSSL_free(der);
    EVP_PKEY_free(key);
    X509_free(cert);
    ck_assert(!tls_pin_of_file("/nonexistent", pin, why, sizeof(why)));
    ck_assert(!tls_pin_of_file(scratch.key, pin, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "certificate"));
}
END_TEST

#define HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const struct {
    const char *text;
    bool good;
} pins[] = {
    { "sha256:" HEX, true },
    { "SHA256:00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF", true },
    { "sha256:ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=", true },
    { "sha256://ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=", true },
    { "sha256//ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=", true }, /* as curl writes it */
    { "SHA256//" HEX, true },
    { "", false },
    { "sha256", false },
    { "sha256:", false },
    { "sha256//", false },
    { "sha256/" HEX, false },
    { "sha256" HEX, false },
    { "sha256///ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=", false },
    { HEX, false },
    { "sha1:" HEX, false },
    { "sha256:" HEX "0", false },
    { "sha256:0" HEX, false },
    { "sha256:0x112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", false },
    { "sha256:g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", false },
    { "sha256:ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8", false },
    { "sha256:ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v==", false },
    { "sha256:ABEi=0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=", false },
};

START_TEST(pin_parse)
{
    char pin[TLS_PIN_SIZE] = "";

    ck_assert_int_eq(tls_pin_parse(pins[_i].text, pin), pins[_i].good);
    ck_assert_int_eq(value_is_pin(pins[_i].text), pins[_i].good); /* what options look at */
    if (pins[_i].good)
        ck_assert_str_eq(pin, "sha256:" HEX);
}
END_TEST

/* Known_servers */

#define PIN_A "sha256:" HEX
#define PIN_B "sha256:ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static enum tls_known look(const char *host, const char *pin)
{
    return tls_known_look(scratch.known, host, pin);
}

START_TEST(known_servers)
{
    ck_assert_int_eq(look("a:1", PIN_A), TLS_KNOWN_NEW);
    ck_assert(tls_known_append(scratch.known, "a:1", PIN_A));
    ck_assert_int_eq(look("a:1", PIN_A), TLS_KNOWN_SAME);
    ck_assert_int_eq(look("A:1", PIN_A), TLS_KNOWN_SAME); /* host names have no case */
    ck_assert_int_eq(look("a:1", PIN_B), TLS_KNOWN_CHANGED);
    ck_assert_int_eq(look("a:2", PIN_A), TLS_KNOWN_NEW);
    ck_assert_int_eq(look("a:", PIN_A), TLS_KNOWN_NEW);
    ck_assert(tls_known_append(scratch.known, "a:1", PIN_B)); /* a second key of the same server */
    ck_assert_int_eq(look("a:1", PIN_A), TLS_KNOWN_SAME);
    ck_assert_int_eq(look("a:1", PIN_B), TLS_KNOWN_SAME);
    struct stat st;
    ck_assert_int_eq(stat(scratch.known, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(known_servers_by_hand)
{
    spill(scratch.known,
          "# servers\n\n  \na:1 sha256:ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8= office\r\n"
          "#b:1 " PIN_A "\nc:1\nd:1 garbage\n\te:1\t" PIN_A);
    ck_assert_int_eq(look("a:1", PIN_A), TLS_KNOWN_SAME);
    ck_assert_int_eq(look("b:1", PIN_A), TLS_KNOWN_NEW);
    /* a damaged line is no reason to take the next key that comes */
    ck_assert_int_eq(look("c:1", PIN_A), TLS_KNOWN_CHANGED);
    ck_assert_int_eq(look("d:1", PIN_A), TLS_KNOWN_CHANGED);
    ck_assert_int_eq(look("e:1", PIN_A), TLS_KNOWN_SAME);
    /* the last line had no newline */
    ck_assert(tls_known_append(scratch.known, "f:1", PIN_B));
    ck_assert_int_eq(look("e:1", PIN_A), TLS_KNOWN_SAME);
    ck_assert_int_eq(look("f:1", PIN_B), TLS_KNOWN_SAME);
}
END_TEST

/* It would end the text for who reads it as a string, and hide a changed key below. */
START_TEST(known_servers_with_a_zero)
{
    static const char text[] = "x:1 " PIN_A "\n\0\na:1 " PIN_B "\n";
    FILE *file = fopen(scratch.known, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, sizeof(text) - 1, file), sizeof(text) - 1);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(look("a:1", PIN_A), TLS_KNOWN_UNREADABLE);
    ck_assert_int_eq(look("x:1", PIN_A), TLS_KNOWN_UNREADABLE);
    ck_assert_int_eq(look("y:1", PIN_A), TLS_KNOWN_UNREADABLE);
}
END_TEST

START_TEST(known_servers_unreadable)
{
    ck_assert_int_eq(tls_known_look(scratch.dir, "a:1", PIN_A), TLS_KNOWN_UNREADABLE);
    ck_assert(!tls_known_append(scratch.dir, "a:1", PIN_A));
    ck_assert(!tls_known_append("/nonexistent/known", "a:1", PIN_A));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls_cert");
    TCase *tc = tcase_create("certificates");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, files_are_private);
    tcase_add_test(tc, nothing_is_left_over);
    tcase_add_test(tc, strict_verifier_agrees);
    tcase_add_test(tc, again_keeps_ca_and_key);
    tcase_add_test(tc, days);
    tcase_add_test(tc, renewal_keeps_names_and_key);
    tcase_add_test(tc, dates_when_the_clock_is_wrong);
    tcase_add_test(tc, in_memory_for_ever);
    tcase_add_test(tc, dates_beside_the_clock);
    tcase_add_test(tc, renewal_refuses_what_is_not_ours);
    tcase_add_test(tc, refusals);
    tcase_add_loop_test(tc, ca_out_of_date, 0, 2);
    tcase_add_test(tc, long_names);
    tcase_add_test(tc, describe);
    tcase_add_test(tc, pin_is_spki_sha256);
    tcase_add_loop_test(tc, pin_parse, 0, (int)(sizeof(pins) / sizeof(pins[0])));
    tcase_add_test(tc, known_servers);
    tcase_add_test(tc, known_servers_by_hand);
    tcase_add_test(tc, known_servers_with_a_zero);
    tcase_add_test(tc, known_servers_unreadable);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
