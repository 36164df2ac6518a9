/*
 * Handshakes in memory: the good ones in every trust mode, and every bad one that needs no network,
 * each with its reason on the side that must name it. Both ends are ours here; test_tls_interop.c
 * has peers that nobody here wrote.
 */
#include <pthread.h>

#include "unit/test_tls_certs.h"
#include "unit/tls_util.h"

#define HOUR 3600L
#define YEAR (365 * 24 * HOUR)

static struct scratch scratch;

static void setup(void)
{
    scratch_make(&scratch);
}

static void teardown(void)
{
    scratch_drop(&scratch);
}

/* What both sides came to. */
struct outcome {
    enum tls_state client;
    enum tls_state server;
    enum tls_fail client_fail;
    enum tls_fail server_fail;
    char client_why[TLS_WHY_SIZE];
    char server_why[TLS_WHY_SIZE];
    char client_pin[TLS_PIN_SIZE];
};

static struct outcome meet(struct tls_ctx *client, struct tls_ctx *server, const char *name,
                           size_t chunk)
{
    struct outcome o;
    struct tls_handshake *c = tls_handshake_new(client, name, "server.example:9000");
    struct tls_handshake *s = tls_handshake_new(server, NULL, NULL);

    pump(c, s, chunk);
    o.client = tls_handshake_step(c);
    o.server = tls_handshake_step(s);
    o.client_fail = tls_handshake_fail(c);
    o.server_fail = tls_handshake_fail(s);
    snprintf(o.client_why, sizeof(o.client_why), "%s", tls_handshake_why(c));
    snprintf(o.server_why, sizeof(o.server_why), "%s", tls_handshake_why(s));
    snprintf(o.client_pin, sizeof(o.client_pin), "%s", tls_handshake_peer_pin(c));
    tls_handshake_free(c);
    tls_handshake_free(s);
    return o;
}

/* The same, and the contexts are dropped. */
static struct outcome meet_once(struct tls_ctx *client, struct tls_ctx *server, const char *name)
{
    struct outcome o = meet(client, server, name, 65536);

    tls_ctx_unref(client);
    tls_ctx_unref(server);
    return o;
}

static void assert_done(const struct outcome *o)
{
    ck_assert_msg(o->client == TLS_DONE, "client: %s", o->client_why);
    ck_assert_msg(o->server == TLS_DONE, "server: %s", o->server_why);
}

static void assert_client_fails(const struct outcome *o, enum tls_fail fail)
{
    ck_assert_int_eq(o->client, TLS_FAILED);
    ck_assert_msg(o->client_fail == fail, "%s instead of %s: %s", tls_fail_name(o->client_fail),
                  tls_fail_name(fail), o->client_why);
    ck_assert_str_ne(o->client_why, "");
    ck_assert_int_ne(o->server, TLS_DONE);
}

static void assert_server_fails(const struct outcome *o, enum tls_fail fail)
{
    ck_assert_int_eq(o->server, TLS_FAILED);
    ck_assert_msg(o->server_fail == fail, "%s instead of %s: %s", tls_fail_name(o->server_fail),
                  tls_fail_name(fail), o->server_why);
    ck_assert_str_ne(o->server_why, "");
}

/* What works */

START_TEST(ca_trust)
{
    static const char *const names[] = { "localhost", "server.example", "192.0.2.7", "127.0.0.1",
                                         "::1" };
    struct outcome o = meet_once(client_ctx(&scratch), server_ctx(&scratch), names[_i]);

    assert_done(&o);
}
END_TEST

START_TEST(any_chunk)
{
    static const size_t chunks[] = { 1, 2, 5, 7, 100, 1000, 4096 };
    struct tls_ctx *client = client_ctx(&scratch);
    struct tls_ctx *server = server_ctx(&scratch);
    struct outcome o = meet(client, server, "localhost", chunks[_i]);

    assert_done(&o);
    tls_ctx_unref(client);
    tls_ctx_unref(server);
}
END_TEST

START_TEST(keys_match)
{
    struct tls_ctx *client_side = client_ctx(&scratch);
    struct tls_ctx *server_side = server_ctx(&scratch);
    struct tls_handshake *c = tls_handshake_new(client_side, "localhost", NULL);
    struct tls_handshake *s = tls_handshake_new(server_side, NULL, NULL);
    struct record_keys ck;
    struct record_keys sk;

    pump(c, s, 65536);
    tls_handshake_keys(c, &ck);
    tls_handshake_keys(s, &sk);
    ck_assert_uint_eq(ck.version, RECORD_TLS13);
    ck_assert_uint_eq(ck.secret_len, 32);
    ck_assert_uint_eq(ck.tx.seq, 0);
    ck_assert_uint_eq(ck.rx.seq, 0);
    ck_assert_int_eq(ck.cipher, record_cipher_preferred());
    ck_assert_mem_eq(&ck.tx, &sk.rx, sizeof(ck.tx));
    ck_assert_mem_eq(&ck.rx, &sk.tx, sizeof(ck.rx));
    ck_assert_mem_ne(ck.tx.key, ck.rx.key, 16);
    ck_assert_str_eq(tls_handshake_summary(c), tls_handshake_summary(s));
    ck_assert_mem_eq(tls_handshake_exporter(c), tls_handshake_exporter(s), TLS_EXPORTER_SIZE);
    ck_assert_str_eq(tls_handshake_peer_pin(c), tls_ctx_pin(server_side));
    ck_assert_str_eq(tls_handshake_peer_pin(s), "");
    tls_handshake_free(c);
    tls_handshake_free(s);
    tls_ctx_unref(client_side);
    tls_ctx_unref(server_side);
}
END_TEST

/* Records that came with the last flight are the caller's. */
/* Each connection has its own, at both ends the same. (tests/e2e/cases/proofs.py holds it
 * against OpenSSL's.) */
START_TEST(exporters_differ)
{
    static const uint8_t zeros[TLS_EXPORTER_SIZE];
    uint8_t seen[3][TLS_EXPORTER_SIZE];
    struct tls_ctx *client = client_ctx(&scratch), *server = server_ctx(&scratch);

    for (unsigned i = 0; i < sizeof(seen) / sizeof(seen[0]); i++) {
        struct tls_handshake *c = tls_handshake_new(client, "localhost", NULL);
        struct tls_handshake *s = tls_handshake_new(server, NULL, NULL);

        pump(c, s, 65536);
        ck_assert_int_eq(tls_handshake_step(c), TLS_DONE);
        memcpy(seen[i], tls_handshake_exporter(c), sizeof(seen[i]));
        ck_assert_mem_eq(seen[i], tls_handshake_exporter(s), sizeof(seen[i]));
        ck_assert_mem_ne(seen[i], zeros, sizeof(zeros));
        for (unsigned k = 0; k < i; k++)
            ck_assert_mem_ne(seen[i], seen[k], sizeof(seen[i]));
        tls_handshake_free(c);
        tls_handshake_free(s);
    }
    tls_ctx_unref(client);
    tls_ctx_unref(server);
}
END_TEST

START_TEST(leftover)
{
    struct tls_ctx *client_side = client_ctx(&scratch);
    struct tls_ctx *server_side = server_ctx(&scratch);
    struct tls_handshake *c = tls_handshake_new(client_side, "localhost", NULL);
    struct tls_handshake *s = tls_handshake_new(server_side, NULL, NULL);
    struct record_keys keys;
    struct record_in in;
    uint8_t flight[2048];
    size_t len;

    tls_handshake_step(c);
    pump_one(c, s, 65536);
    pump_one(s, c, 65536);
    ck_assert_int_eq(tls_handshake_step(c), TLS_DONE);
    tls_handshake_keys(c, &keys);
    struct record *client = record_new(&keys);
    const uint8_t *out = tls_handshake_output(c, &len);
    memcpy(flight, out, len);
    memcpy(flight + len + record_head(client), "first words", 11);
    size_t n = record_seal(client, RECORD_TYPE_DATA, flight + len + record_head(client), 11);
    ck_assert_uint_eq(tls_handshake_feed(s, flight, len + n), len + n);
    ck_assert_int_eq(tls_handshake_step(s), TLS_DONE);
    tls_handshake_keys(s, &keys);
    struct record *server = record_new(&keys);
    uint8_t *left = tls_handshake_leftover(s, &len);
    ck_assert_uint_eq(len, n);
    ck_assert_int_eq(record_open(server, left, left + len, &in), RECORD_DATA);
    ck_assert_mem_eq(in.data, "first words", 11);
    record_free(client);
    record_free(server);
    tls_handshake_free(c);
    tls_handshake_free(s);
    tls_ctx_unref(client_side);
    tls_ctx_unref(server_side);
}
END_TEST

START_TEST(talk)
{
    struct tls_ctx *client_side = client_ctx(&scratch);
    struct tls_ctx *server_side = server_ctx(&scratch);
    struct record *c;
    struct record *s;

    shake(client_side, server_side, "localhost", &c, &s);
    say(c, s, "hello");
    say(s, c, "good day");
    say(c, s, "bye");
    record_free(c);
    record_free(s);
    tls_ctx_unref(client_side);
    tls_ctx_unref(server_side);
}
END_TEST

START_TEST(tls12_when_allowed)
{
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert_file = scratch.cert,
                                       .key_file = scratch.key,
                                       .min_version = RECORD_TLS12 };
    /* Two Culverts that both allow 1.2 still speak 1.3. */
    const struct tls_config client = { .role = TLS_CLIENT,
                                       .ca_file = scratch.ca,
                                       .min_version = RECORD_TLS12 };
    struct tls_ctx *client_side = ctx_make(&client);
    struct tls_ctx *server_side = ctx_make(&server);
    struct record *c;
    struct record *s;

    shake(client_side, server_side, "localhost", &c, &s);
    ck_assert_uint_eq(record_version(c), RECORD_TLS13);
    say(c, s, "new enough");
    record_free(c);
    record_free(s);
    tls_ctx_unref(client_side);
    tls_ctx_unref(server_side);
}
END_TEST

START_TEST(pin_trust)
{
    char pin[TLS_PIN_SIZE];
    char why[TLS_WHY_SIZE];

    ck_assert(tls_pin_of_file(scratch.cert, pin, why, sizeof(why)));
    const struct tls_config config = { .role = TLS_CLIENT, .pin = pin };
    struct tls_ctx *server = server_ctx(&scratch);
    ck_assert_str_eq(tls_ctx_pin(server), pin);
    /* the key is the identity: any name will do */
    struct outcome o = meet_once(ctx_make(&config), server, "another.name");
    assert_done(&o);
}
END_TEST

START_TEST(self_signed_as_ca)
{
    struct made own = { 0 };
    make(&own,
         &(struct spec){ "box", "DNS:localhost", -HOUR, YEAR, NULL, NULL, _i == 1, false, NULL });
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(own.cert_pem),
                                       .key = pem_of(own.key_pem) };
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(own.cert_pem) };
    struct outcome o = meet_once(ctx_make(&client), ctx_make(&server), "localhost");

    assert_done(&o);
    made_drop(&own);
}
END_TEST

START_TEST(rsa_server)
{
    struct made ca = { 0 };
    struct made rsa = { 0 };
    make(&ca, &(struct spec){ "RSA CA", NULL, -HOUR, YEAR, NULL, NULL, true, true, NULL });
    make(&rsa, &(struct spec){ "box", "DNS:localhost", -HOUR, YEAR, &ca, "serverAuth", false, true,
                               NULL });
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(rsa.cert_pem),
                                       .key = pem_of(rsa.key_pem) };
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(ca.cert_pem) };
    struct outcome o = meet_once(ctx_make(&client), ctx_make(&server), "localhost");

    assert_done(&o);
    made_drop(&rsa);
    made_drop(&ca);
}
END_TEST

START_TEST(ed25519_at_both_ends)
{
    struct made keys[2] = { { .key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") },
                            { .key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") } };
    struct made ca = { 0 };
    struct made box = { 0 };
    struct made user = { 0 };
    make(&ca, &(struct spec){ "CA", NULL, -HOUR, YEAR, NULL, NULL, true, false, NULL });
    make(&box, &(struct spec){ "box", "DNS:localhost", -HOUR, YEAR, &ca, "serverAuth", false, false,
                               &keys[0] });
    make(&user, &(struct spec){ "user", "DNS:user", -HOUR, YEAR, &ca, "clientAuth", false, false,
                                &keys[1] });
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(box.cert_pem),
                                       .key = pem_of(box.key_pem),
                                       .ca = pem_of(ca.cert_pem) };
    const struct tls_config client = { .role = TLS_CLIENT,
                                       .cert = pem_of(user.cert_pem),
                                       .key = pem_of(user.key_pem),
                                       .ca = pem_of(ca.cert_pem) };
    struct outcome o = meet_once(ctx_make(&client), ctx_make(&server), "localhost");

    assert_done(&o);
    made_drop(&user);
    made_drop(&box);
    made_drop(&ca);
    made_drop(&keys[1]);
    made_drop(&keys[0]);
}
END_TEST

START_TEST(chain_of_three)
{
    struct made root = { 0 };
    struct made middle = { 0 };
    struct made leaf = { 0 };
    char chain[8192];
    make(&root, &(struct spec){ "root", NULL, -HOUR, YEAR, NULL, NULL, true, false, NULL });
    make(&middle, &(struct spec){ "middle", NULL, -HOUR, YEAR, &root, NULL, true, false, NULL });
    make(&leaf, &(struct spec){ "leaf", "DNS:*.example.org", -HOUR, YEAR, &middle, "serverAuth",
                                false, false, NULL });
    snprintf(chain, sizeof(chain), "%s%s", leaf.cert_pem, middle.cert_pem);
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(chain),
                                       .key = pem_of(leaf.key_pem) };
    const struct tls_config by_ca = { .role = TLS_CLIENT, .ca = pem_of(root.cert_pem) };
    struct outcome o = meet_once(ctx_make(&by_ca), ctx_make(&server), "box.example.org");

    assert_done(&o);
    o = meet_once(ctx_make(&by_ca), ctx_make(&server), "a.b.example.org");
    assert_client_fails(&o, TLS_FAIL_WRONG_NAME);
    const struct tls_config by_pin = { .role = TLS_CLIENT, .pin = o.client_pin };
    o = meet_once(ctx_make(&by_pin), ctx_make(&server), "box");
    assert_done(&o);
    made_drop(&leaf);
    made_drop(&middle);
    made_drop(&root);
}
END_TEST

START_TEST(mutual)
{
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert_file = scratch.cert,
                                       .key_file = scratch.key,
                                       .ca_file = scratch.ca };
    const struct tls_config client = { .role = TLS_CLIENT,
                                       .ca_file = scratch.ca,
                                       .cert_file = scratch.client_cert,
                                       .key_file = scratch.client_key };
    struct outcome o = meet_once(ctx_make(&client), ctx_make(&server), "localhost");

    assert_done(&o);
}
END_TEST

/* Trust on first use */

static struct tls_ctx *known_ctx(enum tls_new_key new_key)
{
    const struct tls_config config = { .role = TLS_CLIENT,
                                       .known_servers = scratch.known,
                                       .new_key = new_key };

    return ctx_make(&config);
}

START_TEST(first_use_refused)
{
    struct outcome o = meet_once(known_ctx(TLS_NEW_REFUSE), server_ctx(&scratch), "server.example");

    assert_client_fails(&o, TLS_FAIL_UNKNOWN_KEY);
    ck_assert_ptr_nonnull(strstr(o.client_why, o.client_pin));
    ck_assert_int_ne(access(scratch.known, F_OK), 0);
}
END_TEST

START_TEST(first_use_accepted)
{
    struct outcome o = meet_once(known_ctx(TLS_NEW_ACCEPT), server_ctx(&scratch), "server.example");

    assert_done(&o);
    o = meet_once(known_ctx(TLS_NEW_REFUSE), server_ctx(&scratch), "server.example");
    assert_done(&o);
}
END_TEST

START_TEST(first_use_asked)
{
    bool accept = _i == 1;
    struct tls_ctx *client_side = known_ctx(TLS_NEW_ASK);
    struct tls_ctx *server_side = server_ctx(&scratch);
    struct tls_handshake *c =
        tls_handshake_new(client_side, "server.example", "server.example:9000");
    struct tls_handshake *s = tls_handshake_new(server_side, NULL, NULL);
    size_t len;

    pump(c, s, 65536);
    ck_assert_int_eq(tls_handshake_step(c), TLS_ASK);
    ck_assert_int_eq(tls_handshake_step(s), TLS_WANT_READ); /* our Finished waits for the answer */
    ck_assert_str_eq(tls_handshake_peer_pin(c), tls_ctx_pin(server_side));
    ck_assert_int_eq(tls_handshake_answer(c, accept), accept ? TLS_DONE : TLS_FAILED);
    pump(c, s, 65536);
    if (accept) {
        ck_assert_int_eq(tls_handshake_step(s), TLS_DONE);
    } else {
        ck_assert_int_eq(tls_handshake_fail(c), TLS_FAIL_KEY_REFUSED);
        tls_handshake_output(c, &len);
        ck_assert_uint_eq(len, 0);
    }
    ck_assert_int_eq(access(scratch.known, F_OK), accept ? 0 : -1);
    tls_handshake_free(c);
    tls_handshake_free(s);
    tls_ctx_unref(client_side);
    tls_ctx_unref(server_side);
}
END_TEST

START_TEST(changed_key)
{
    struct outcome o = meet_once(known_ctx(TLS_NEW_ACCEPT), server_ctx(&scratch), "server.example");
    assert_done(&o);
    ck_assert_int_eq(unlink(scratch.key), 0);
    char why[TLS_WHY_SIZE];
    const struct tls_gen again = { .dir = scratch.dir };
    ck_assert(tls_gen_cert(&again, why, sizeof(why)));
    /* even a client that accepts what is new refuses what has changed */
    o = meet_once(known_ctx(TLS_NEW_ACCEPT), server_ctx(&scratch), "server.example");
    assert_client_fails(&o, TLS_FAIL_KEY_CHANGED);
}
END_TEST

START_TEST(renewed_certificate_same_key)
{
    struct outcome o = meet_once(known_ctx(TLS_NEW_ACCEPT), server_ctx(&scratch), "server.example");
    assert_done(&o);
    char why[TLS_WHY_SIZE];
    const struct tls_gen again = { .dir = scratch.dir };
    ck_assert(tls_gen_cert(&again, why, sizeof(why)));
    o = meet_once(known_ctx(TLS_NEW_REFUSE), server_ctx(&scratch), "server.example");
    assert_done(&o);
}
END_TEST

/* What must fail, and how it is named */

START_TEST(wrong_ca)
{
    struct made other = { 0 };
    make(&other, &(struct spec){ "other CA", NULL, -HOUR, YEAR, NULL, NULL, true, false, NULL });
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(other.cert_pem) };
    struct outcome o = meet_once(ctx_make(&client), server_ctx(&scratch), "localhost");

    assert_client_fails(&o, TLS_FAIL_WRONG_CA);
    assert_server_fails(&o, TLS_FAIL_PEER_DISTRUSTS);
    made_drop(&other);
}
END_TEST

/* A CA of the same name, with another key. */
START_TEST(forged_ca)
{
    struct made ca = { 0 };
    struct made forged = { 0 };
    struct made leaf = { 0 };
    make(&ca, &(struct spec){ "the CA", NULL, -HOUR, YEAR, NULL, NULL, true, false, NULL });
    make(&forged, &(struct spec){ "the CA", NULL, -HOUR, YEAR, NULL, NULL, true, false, NULL });
    make(&leaf,
         &(struct spec){ "leaf", "DNS:localhost", -HOUR, YEAR, &forged, NULL, false, false, NULL });
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(leaf.cert_pem),
                                       .key = pem_of(leaf.key_pem) };
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(ca.cert_pem) };
    struct outcome o = meet_once(ctx_make(&client), ctx_make(&server), "localhost");

    ck_assert_int_eq(o.client, TLS_FAILED);
    ck_assert_msg(o.client_fail == TLS_FAIL_WRONG_CA || o.client_fail == TLS_FAIL_BAD_CERTIFICATE,
                  "%s", o.client_why);
    ck_assert_int_ne(o.server, TLS_DONE);
    made_drop(&leaf);
    made_drop(&forged);
    made_drop(&ca);
}
END_TEST

START_TEST(wrong_name)
{
    static const char *const names[] = { "elsewhere.example", "192.0.2.8", "xserver.example",
                                         "server.example.evil.example", "2001:db8::1" };
    struct outcome o = meet_once(client_ctx(&scratch), server_ctx(&scratch), names[_i]);

    assert_client_fails(&o, TLS_FAIL_WRONG_NAME);
    ck_assert_ptr_nonnull(strstr(o.client_why, "localhost")); /* says what it is for */
    assert_server_fails(&o, TLS_FAIL_PEER_DISTRUSTS);
}
END_TEST

/* Signed by the CA, but with dates or a purpose that do not fit. */
static struct outcome meet_leaf(long from, long until, const char *usage, bool by_pin)
{
    struct made ca = { 0 };
    struct made leaf = { 0 };
    char pin[TLS_PIN_SIZE];
    char why[TLS_WHY_SIZE];
    char path[256];
    make(&ca, &(struct spec){ "a CA", NULL, -2 * YEAR, YEAR, NULL, NULL, true, false, NULL });
    make(&leaf,
         &(struct spec){ "leaf", "DNS:localhost", from, until, &ca, usage, false, false, NULL });
    snprintf(path, sizeof(path), "%s/leaf.pem", scratch.dir);
    FILE *f = fopen(path, "w");
    fputs(leaf.cert_pem, f);
    fclose(f);
    ck_assert(tls_pin_of_file(path, pin, why, sizeof(why)));
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(leaf.cert_pem),
                                       .key = pem_of(leaf.key_pem) };
    const struct tls_config client = { .role = TLS_CLIENT,
                                       .ca = by_pin ? (struct tls_pem){ 0 } : pem_of(ca.cert_pem),
                                       .pin = by_pin ? pin : NULL };
    struct outcome o = meet_once(ctx_make(&client), ctx_make(&server), "localhost");
    made_drop(&leaf);
    made_drop(&ca);
    return o;
}

START_TEST(expired)
{
    struct outcome o = meet_leaf(-YEAR, -HOUR, NULL, _i == 1);

    assert_client_fails(&o, TLS_FAIL_EXPIRED);
    ck_assert_ptr_nonnull(strstr(o.client_why, "valid until"));
    assert_server_fails(&o, TLS_FAIL_PEER_DISTRUSTS);
}
END_TEST

START_TEST(not_yet_valid)
{
    struct outcome o = meet_leaf(2 * HOUR, YEAR, NULL, _i == 1);

    assert_client_fails(&o, TLS_FAIL_NOT_YET_VALID);
    ck_assert_ptr_nonnull(strstr(o.client_why, "valid from"));
}
END_TEST

START_TEST(dates_fine)
{
    struct outcome o = meet_leaf(-HOUR, HOUR, "serverAuth", _i == 1);

    assert_done(&o);
}
END_TEST

/* A client's certificate of the same CA must not pass for a server's. */
START_TEST(client_certificate_as_server)
{
    struct outcome o = meet_leaf(-HOUR, HOUR, "clientAuth", false);

    assert_client_fails(&o, TLS_FAIL_BAD_CERTIFICATE);
}
END_TEST

START_TEST(self_signed)
{
    struct made own = { 0 };
    make(&own,
         &(struct spec){ "box", "DNS:localhost", -HOUR, YEAR, NULL, NULL, false, false, NULL });
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(own.cert_pem),
                                       .key = pem_of(own.key_pem) };
    struct outcome o = meet_once(client_ctx(&scratch), ctx_make(&server), "localhost");

    assert_client_fails(&o, TLS_FAIL_SELF_SIGNED);
    made_drop(&own);
}
END_TEST

START_TEST(wrong_pin)
{
    const struct tls_config client = {
        .role = TLS_CLIENT,
        .pin = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    };
    struct tls_ctx *server = server_ctx(&scratch);
    char pin[TLS_PIN_SIZE];
    snprintf(pin, sizeof(pin), "%s", tls_ctx_pin(server));
    struct outcome o = meet_once(ctx_make(&client), server, "localhost");

    assert_client_fails(&o, TLS_FAIL_PIN_MISMATCH);
    ck_assert_ptr_nonnull(strstr(o.client_why, pin)); /* shows the server's own, to compare */
}
END_TEST

/* The right certificate without its key: what a thief of the public part can do. */
START_TEST(stolen_certificate)
{
    struct made real = { 0 };
    struct made thief = { 0 };
    char why[TLS_WHY_SIZE];
    make(&real,
         &(struct spec){ "box", "DNS:localhost", -HOUR, YEAR, NULL, NULL, false, false, NULL });
    make(&thief,
         &(struct spec){ "box", "DNS:localhost", -HOUR, YEAR, NULL, NULL, false, false, NULL });
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(real.cert_pem),
                                       .key = pem_of(thief.key_pem) };

    ck_assert_ptr_null(tls_ctx_new(&server, why, sizeof(why)));
    ck_assert_ptr_nonnull(strstr(why, "key"));
    made_drop(&thief);
    made_drop(&real);
}
END_TEST

START_TEST(client_certificate_missing)
{
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert_file = scratch.cert,
                                       .key_file = scratch.key,
                                       .ca_file = scratch.ca };
    struct outcome o = meet_once(client_ctx(&scratch), ctx_make(&server), "localhost");

    assert_server_fails(&o, TLS_FAIL_CLIENT_CERT_MISSING);
}
END_TEST

START_TEST(client_certificate_of_another_ca)
{
    struct made other = { 0 };
    struct made leaf = { 0 };
    make(&other, &(struct spec){ "other CA", NULL, -HOUR, YEAR, NULL, NULL, true, false, NULL });
    make(&leaf, &(struct spec){ "laptop", "DNS:laptop", -HOUR, _i == 1 ? -1 : YEAR, &other,
                                "clientAuth", false, false, NULL });
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert_file = scratch.cert,
                                       .key_file = scratch.key,
                                       .ca_file = scratch.ca };
    const struct tls_config client = { .role = TLS_CLIENT,
                                       .ca_file = scratch.ca,
                                       .cert = pem_of(leaf.cert_pem),
                                       .key = pem_of(leaf.key_pem) };
    struct outcome o = meet_once(ctx_make(&client), ctx_make(&server), "localhost");

    assert_server_fails(&o, _i == 1 ? TLS_FAIL_EXPIRED : TLS_FAIL_WRONG_CA);
    made_drop(&leaf);
    made_drop(&other);
}
END_TEST

/* Plain bytes and nonsense */

static const struct {
    const char *bytes;
    size_t len;
    enum tls_sniff sniff;
    enum tls_fail fail;
} plain[] = {
    { "GET / HTTP/1.1\r\n", 16, TLS_SNIFF_HTTP, TLS_FAIL_PLAINTEXT },
    { "HTTP/1.1 400 Bad Request\r\n", 26, TLS_SNIFF_HTTP, TLS_FAIL_PLAINTEXT },
    { "SSH-2.0-OpenSSH_9.2\r\n", 21, TLS_SNIFF_SSH, TLS_FAIL_PLAINTEXT },
    { "\x01\x01\0\0\0\0\0\0\0\x0b", 10, TLS_SNIFF_V1, TLS_FAIL_PLAINTEXT },
    { "\x02\x01\0\0\0\0\0\0\0\0\0\x12", 12, TLS_SNIFF_V2, TLS_FAIL_PLAINTEXT },
    { "\x01", 1, TLS_SNIFF_V1, TLS_FAIL_PLAINTEXT },
    { "hello?", 6, TLS_SNIFF_OTHER, TLS_FAIL_PLAINTEXT },
    { "\x80\x2e\x01\x00\x02\x00\x15", 7, TLS_SNIFF_OLD_SSL, TLS_FAIL_VERSION },
};

START_TEST(plaintext)
{
    struct tls_ctx *server_side = server_ctx(&scratch);
    struct tls_ctx *client_side = client_ctx(&scratch);
    struct tls_handshake *s = tls_handshake_new(server_side, NULL, NULL);
    struct tls_handshake *c = tls_handshake_new(client_side, "localhost", NULL);

    ck_assert_int_eq(tls_sniff((const uint8_t *)plain[_i].bytes, plain[_i].len), plain[_i].sniff);
    tls_handshake_step(c);
    tls_handshake_feed(s, (const uint8_t *)plain[_i].bytes, plain[_i].len);
    tls_handshake_feed(c, (const uint8_t *)plain[_i].bytes, plain[_i].len);
    ck_assert_int_eq(tls_handshake_step(s), TLS_FAILED);
    ck_assert_int_eq(tls_handshake_step(c), TLS_FAILED);
    ck_assert_int_eq(tls_handshake_fail(s), plain[_i].fail);
    ck_assert_int_eq(tls_handshake_fail(c), plain[_i].fail);
    if (plain[_i].fail == TLS_FAIL_PLAINTEXT) {
        ck_assert_ptr_nonnull(strstr(tls_handshake_why(s), tls_sniff_text(plain[_i].sniff)));
        ck_assert_ptr_nonnull(strstr(tls_handshake_why(c), tls_sniff_text(plain[_i].sniff)));
    }
    tls_handshake_free(s);
    tls_handshake_free(c);
    tls_ctx_unref(server_side);
    tls_ctx_unref(client_side);
}
END_TEST

/* A ClientHello of TLS 1.0, 1.1 or 1.2 without supported_versions: one cipher, no extensions. */
START_TEST(old_version)
{
    uint8_t hello[] = { 22,
                        3,
                        1,
                        0,
                        45,
                        1,
                        0,
                        0,
                        41,
                        3,
                        1,
                        /* random */ 1,
                        2,
                        3,
                        4,
                        5,
                        6,
                        7,
                        8,
                        9,
                        10,
                        11,
                        12,
                        13,
                        14,
                        15,
                        16,
                        17,
                        18,
                        19,
                        20,
                        21,
                        22,
                        23,
                        24,
                        25,
                        26,
                        27,
                        28,
                        29,
                        30,
                        31,
                        32,
                        /* no session, AES128-SHA, no compression */ 0,
                        0,
                        2,
                        0,
                        0x2f,
                        1,
                        0 };
    struct tls_ctx *server_side = server_ctx(&scratch);
    struct tls_handshake *s = tls_handshake_new(server_side, NULL, NULL);
    size_t len;

    hello[10] = (uint8_t)(_i + 1); /* client_version: 3.1, 3.2, 3.3 */
    ck_assert_uint_eq(tls_handshake_feed(s, hello, sizeof(hello)), sizeof(hello));
    ck_assert_int_eq(tls_handshake_step(s), TLS_FAILED);
    ck_assert_msg(tls_handshake_fail(s) == TLS_FAIL_VERSION, "%s", tls_handshake_why(s));
    const uint8_t *out = tls_handshake_output(s, &len);
    ck_assert_uint_eq(len, 7);
    ck_assert_uint_eq(out[0], 21); /* a fatal protocol_version alert */
    ck_assert_uint_eq(out[6], 70);
    tls_handshake_free(s);
    tls_ctx_unref(server_side);
}
END_TEST

START_TEST(half_way)
{
    struct tls_ctx *server_side = server_ctx(&scratch);
    struct tls_ctx *client_side = client_ctx(&scratch);
    struct tls_handshake *s = tls_handshake_new(server_side, NULL, NULL);
    struct tls_handshake *c = tls_handshake_new(client_side, "localhost", NULL);

    tls_handshake_step(c);
    pump_one(c, s, 65536);
    ck_assert_int_eq(tls_handshake_step(s), TLS_WANT_READ);
    enum tls_fail reason = _i == 0 ? TLS_FAIL_CLOSED : TLS_FAIL_TIMEOUT;
    ck_assert_int_eq(tls_handshake_abort(s, reason), TLS_FAILED);
    ck_assert_int_eq(tls_handshake_fail(s), reason);
    ck_assert_uint_eq(tls_handshake_feed(s, (const uint8_t *)"x", 1), 0);
    tls_handshake_free(s);
    tls_handshake_free(c);
    tls_ctx_unref(server_side);
    tls_ctx_unref(client_side);
}
END_TEST

/* One flipped bit anywhere in either side's flight must never end in two happy ends with different
 * keys. */
START_TEST(flipped_bits)
{
    struct tls_ctx *server_side = server_ctx(&scratch);
    struct tls_ctx *client_side = client_ctx(&scratch);
    size_t flight = 0;

    for (size_t at = 0; at <= flight; at += 13) {
        struct tls_handshake *c = tls_handshake_new(client_side, "localhost", NULL);
        struct tls_handshake *s = tls_handshake_new(server_side, NULL, NULL);
        uint8_t bytes[8192];
        size_t len;
        tls_handshake_step(c);
        const uint8_t *out = tls_handshake_output(c, &len);
        memcpy(bytes, out, len);
        if (_i == 0 && at < len)
            bytes[at] ^= (uint8_t)(1 << (at & 7));
        flight = _i == 0 ? len : flight;
        tls_handshake_output_done(c, len);
        tls_handshake_feed(s, bytes, len);
        tls_handshake_step(s);
        out = tls_handshake_output(s, &len);
        if (_i == 1) {
            ck_assert_uint_le(len, sizeof(bytes));
            memcpy(bytes, out, len);
            flight = len;
            if (at < len)
                bytes[at] ^= (uint8_t)(1 << (at & 7));
            tls_handshake_output_done(s, len);
            tls_handshake_feed(c, bytes, len);
        }
        pump(c, s, 65536);
        bool both = tls_handshake_step(c) == TLS_DONE && tls_handshake_step(s) == TLS_DONE;
        ck_assert_msg(!both || at >= flight || at == 1 || at == 2, "byte %zu of %zu", at, flight);
        tls_handshake_free(c);
        tls_handshake_free(s);
    }
    tls_ctx_unref(server_side);
    tls_ctx_unref(client_side);
}
END_TEST

START_TEST(many_at_once)
{
    enum { MANY = 100 };
    struct tls_ctx *server_side = server_ctx(&scratch);
    struct tls_ctx *client_side = client_ctx(&scratch);
    static struct tls_handshake *c[MANY];
    static struct tls_handshake *s[MANY];

    for (int i = 0; i < MANY; i++) {
        c[i] = tls_handshake_new(client_side, "localhost", NULL);
        s[i] = tls_handshake_new(server_side, NULL, NULL);
        tls_handshake_step(c[i]);
    }
    for (int i = 0; i < MANY; i++)
        pump_one(c[i], s[i], 65536);
    for (int i = 0; i < MANY; i++)
        pump(c[i], s[i], 65536);
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(tls_handshake_step(c[i]), TLS_DONE);
        ck_assert_int_eq(tls_handshake_step(s[i]), TLS_DONE);
        tls_handshake_free(c[i]);
        tls_handshake_free(s[i]);
    }
    tls_ctx_unref(server_side);
    tls_ctx_unref(client_side);
}
END_TEST

/* One pair of contexts, several threads: only the reference count is written to. */
static struct tls_ctx *shared_server;
static struct tls_ctx *shared_client;

static void *shake_often(void *arg)
{
    long *done = arg;

    for (int i = 0; i < 20; i++) {
        struct tls_handshake *c = tls_handshake_new(shared_client, "localhost", NULL);
        struct tls_handshake *s = tls_handshake_new(shared_server, NULL, NULL);
        pump(c, s, 65536);
        *done += tls_handshake_step(c) == TLS_DONE && tls_handshake_step(s) == TLS_DONE;
        tls_handshake_free(c);
        tls_handshake_free(s);
    }
    return NULL;
}

START_TEST(threads)
{
    pthread_t thread[4];
    long done[4] = { 0 };
    shared_server = server_ctx(&scratch);
    shared_client = client_ctx(&scratch);

    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, shake_often, &done[i]), 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
        ck_assert_int_eq(done[i], 20);
    }
    tls_ctx_unref(shared_server);
    tls_ctx_unref(shared_client);
}
END_TEST

/* A reload: the old context ends with its last handshake, not before. */
START_TEST(reload)
{
    struct tls_ctx *old = server_ctx(&scratch);
    struct tls_ctx *client_side = client_ctx(&scratch);
    struct tls_handshake *c = tls_handshake_new(client_side, "localhost", NULL);
    struct tls_handshake *s = tls_handshake_new(old, NULL, NULL);

    tls_ctx_unref(old);
    pump(c, s, 65536);
    ck_assert_int_eq(tls_handshake_step(s), TLS_DONE);
    tls_handshake_free(c);
    tls_handshake_free(s);
    tls_ctx_unref(client_side);
}
END_TEST

/* Key log */

static void count_warning(void *arg, const char *text)
{
    ck_assert_ptr_nonnull(strstr(text, "secrets"));
    (*(int *)arg)++;
}

START_TEST(keylog)
{
    char path[256];
    char line[512];
    int warnings = 0;
    int lines = 0;
    snprintf(path, sizeof(path), "%s/keys", scratch.dir);
    const struct tls_config client = { .role = TLS_CLIENT,
                                       .ca_file = scratch.ca,
                                       .keylog_file = path,
                                       .warn = count_warning,
                                       .warn_arg = &warnings };
    struct outcome o = meet_once(ctx_make(&client), server_ctx(&scratch), "localhost");

    assert_done(&o);
    ck_assert_int_eq(warnings, 1);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        ck_assert_ptr_nonnull(strstr(line, "TRAFFIC_SECRET"));
        ck_assert_uint_eq(strlen(strchr(line, ' ')), 1 + 64 + 1 + 64 + 1);
        lines++;
    }
    fclose(f);
    ck_assert_int_eq(lines, 4);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

/* Configurations that cannot start */

START_TEST(bad_config)
{
    char why[TLS_WHY_SIZE];
    const struct {
        struct tls_config config;
        const char *says;
    } bad[] = {
        { { .role = TLS_SERVER }, "--tls-cert" },
        { { .role = TLS_SERVER, .cert_file = scratch.cert }, "--tls-key" },
        { { .role = TLS_SERVER, .cert_file = "/nonexistent.pem", .key_file = scratch.key },
          "/nonexistent.pem" },
        { { .role = TLS_SERVER, .cert_file = scratch.key, .key_file = scratch.key },
          "certificate" },
        { { .role = TLS_SERVER, .cert_file = scratch.cert, .key_file = scratch.client_key },
          "key" },
        { { .role = TLS_SERVER, .cert_file = scratch.cert, .key_file = scratch.cert },
          "private key" },
        { { .role = TLS_CLIENT }, "trust" },
        { { .role = TLS_CLIENT, .ca_file = scratch.key }, "CA" },
        { { .role = TLS_CLIENT, .ca_file = scratch.dir }, "directory" },
        { { .role = TLS_CLIENT, .pin = "sha256:abc" }, "pin" },
        { { .role = TLS_CLIENT, .pin = "md5:abc" }, "pin" },
        { { .role = TLS_CLIENT, .ca_file = scratch.ca, .pin = "sha256:abc" }, "exclude" },
        { { .role = TLS_CLIENT, .ca_file = scratch.ca, .keylog_file = "/nonexistent/log" },
          "key log" },
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        why[0] = '\0';
        ck_assert_ptr_null(tls_ctx_new(&bad[i].config, why, sizeof(why)));
        ck_assert_msg(strcasestr(why, bad[i].says) != NULL, "%zu: '%s' lacks '%s'", i, why,
                      bad[i].says);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls_handshake");
    TCase *good = tcase_create("good");
    TCase *known = tcase_create("known");
    TCase *bad = tcase_create("bad");

    tcase_add_checked_fixture(good, setup, teardown);
    tcase_set_timeout(good, 60);
    tcase_add_loop_test(good, ca_trust, 0, 5);
    tcase_add_loop_test(good, any_chunk, 0, 7);
    tcase_add_test(good, keys_match);
    tcase_add_test(good, exporters_differ);
    tcase_add_test(good, leftover);
    tcase_add_test(good, talk);
    tcase_add_test(good, tls12_when_allowed);
    tcase_add_test(good, pin_trust);
    tcase_add_loop_test(good, self_signed_as_ca, 0, 2);
    tcase_add_test(good, rsa_server);
    tcase_add_test(good, ed25519_at_both_ends);
    tcase_add_test(good, chain_of_three);
    tcase_add_test(good, mutual);
    tcase_add_test(good, many_at_once);
    tcase_add_test(good, threads);
    tcase_add_test(good, reload);
    tcase_add_test(good, keylog);
    tcase_add_checked_fixture(known, setup, teardown);
    tcase_set_timeout(known, 60);
    tcase_add_test(known, first_use_refused);
    tcase_add_test(known, first_use_accepted);
    tcase_add_loop_test(known, first_use_asked, 0, 2);
    tcase_add_test(known, changed_key);
    tcase_add_test(known, renewed_certificate_same_key);
    tcase_add_checked_fixture(bad, setup, teardown);
    tcase_set_timeout(bad, 120);
    tcase_add_test(bad, wrong_ca);
    tcase_add_test(bad, forged_ca);
    tcase_add_loop_test(bad, wrong_name, 0, 5);
    tcase_add_loop_test(bad, expired, 0, 2);
    tcase_add_loop_test(bad, not_yet_valid, 0, 2);
    tcase_add_loop_test(bad, dates_fine, 0, 2);
    tcase_add_test(bad, client_certificate_as_server);
    tcase_add_test(bad, self_signed);
    tcase_add_test(bad, wrong_pin);
    tcase_add_test(bad, stolen_certificate);
    tcase_add_test(bad, client_certificate_missing);
    tcase_add_loop_test(bad, client_certificate_of_another_ca, 0, 2);
    tcase_add_loop_test(bad, plaintext, 0, (int)(sizeof(plain) / sizeof(plain[0])));
    tcase_add_loop_test(bad, old_version, 0, 3);
    tcase_add_loop_test(bad, half_way, 0, 2);
    tcase_add_loop_test(bad, flipped_bits, 0, 2);
    tcase_add_test(bad, bad_config);
    suite_add_tcase(suite, good);
    suite_add_tcase(suite, known);
    suite_add_tcase(suite, bad);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
