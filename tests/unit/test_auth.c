/*
 * auth: tokens of a server, one or several, and proofs in their place.
 *
 * The client's half is core/mux/scram.c, which test_scram.c holds against vectors of another
 * implementation.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "server/auth.h"

#define COUNT 20000u

static struct config config;
static struct auth_table *table; /* the newest */
static const struct scram_channel channel = { .transcript = "a transcript", .bound = 0 };

static void with_token(const char *token, bool is_default)
{
    memset(&config, 0, sizeof(config));
    ck_assert(config_copy_token(&config, token, strlen(token)));
    config.token_is_default = is_default;
    table = auth_open(&config);
    ck_assert_ptr_nonnull(table);
}

static bool is_far;

static void teardown(void)
{
    auth_unref(table);
    table = NULL;
    config_drop_token(&config);
    is_far = false;
}

/* 2000::, or ::1 */
static union sock_addr peer_of_test(void)
{
    union sock_addr peer = { .sa = { .sa_family = AF_INET6 } };

    peer.bytes[is_far ? 8 : 23] = is_far ? 0x20 : 1;
    return peer;
}

/* A client's log-in with this token over a channel; the server sees `seen`. */
static enum reason log_in(const char *token, const struct scram_channel *said,
                          const struct scram_channel *seen, struct auth_login *login)
{
    union sock_addr peer = peer_of_test();
    uint8_t proof[FRAME_PROOF_SIZE];
    struct scram_keys keys;

    scram_keys(&keys, token, strlen(token));
    scram_client_proof(&keys, said, proof);
    struct frame_auth auth = { .id = keys.verifier.id, .proof = proof, .bound = said->bound };
    enum reason reason = auth_check(table, &peer, &auth, seen, login);
    if (reason != REASON_DONE)
        return reason;
    uint8_t secret[SCRAM_KEY_SIZE];
    scram_client_session(&keys, said, secret);
    ck_assert_mem_eq(secret, login->secret, sizeof(secret));
    ck_assert(scram_server_proved(&keys, said, login->proof));
    return reason;
}

/* Both ways to show a token must agree. */
static enum reason check_token(const char *token)
{
    union sock_addr peer = peer_of_test();
    struct auth_login login;
    unsigned number;

    enum reason reason = log_in(token, &channel, &channel, &login);
    ck_assert_int_eq(auth_check_v1(table, &peer, token, strlen(token), &number), reason);
    if (reason == REASON_DONE)
        ck_assert_uint_eq(number, login.token);
    return reason;
}

START_TEST(one_token)
{
    with_token("secret", false);
    ck_assert_int_eq(check_token("secret"), REASON_DONE);
    ck_assert_int_eq(check_token("secre"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("secrets"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("secretsecret"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token(""), REASON_AUTH_FAILED);
}
END_TEST

START_TEST(a_token_in_each_line)
{
    struct auth_login login;

    with_token("alpha\n\nbeta\ngamma\nbeta", false);
    ck_assert_int_eq(check_token("alpha"), REASON_DONE);
    ck_assert_int_eq(check_token("beta"), REASON_DONE);
    ck_assert_int_eq(check_token("gamma"), REASON_DONE);
    ck_assert_int_eq(check_token(""), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("alpha\n"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("alpha\n\nbeta"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("delta"), REASON_AUTH_FAILED);
    ck_assert_int_eq(log_in("beta", &channel, &channel, &login), REASON_DONE);
    ck_assert_uint_eq(login.token, 2); /* of two lines that say it the first */
    ck_assert_int_eq(log_in("gamma", &channel, &channel, &login), REASON_DONE);
    ck_assert_uint_eq(login.token, 3);
}
END_TEST

/* What only white space keeps from being a token is said to be so, and nothing else is. */
START_TEST(white_space_is_told_apart)
{
    static const char *const near[] = { " secret", "secret ", "secret\r", "\tsecret \r\n" };
    static const char *const far[] = { "secret", "", " ", "secre t", " secre", "secret x" };

    with_token("other\nsecret", false);
    for (unsigned i = 0; i < ARRAY_SIZE(near); i++) {
        ck_assert_int_eq(check_token(near[i]), REASON_AUTH_FAILED);
        ck_assert(auth_has_but_for_blanks(table, near[i], strlen(near[i])));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(far); i++)
        ck_assert(!auth_has_but_for_blanks(table, far[i], strlen(far[i])));
}
END_TEST

/* Each by its line; a blank line in between is counted too. */
START_TEST(thousands_of_tokens)
{
    static char tokens[COUNT * 12];
    char one[16];
    struct auth_login login;
    size_t size = 0;

    for (unsigned i = 0; i < COUNT; i++)
        size += (size_t)snprintf(tokens + size, sizeof(tokens) - size, i == 7 ? "\n" : "t%u\n", i);
    with_token(tokens, false);
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(one, sizeof(one), "t%u", i);
        ck_assert_int_eq(log_in(one, &channel, &channel, &login),
                         i == 7 ? REASON_AUTH_FAILED : REASON_DONE);
        ck_assert_uint_eq(login.token, i == 7 ? 0 : i);
    }
    ck_assert_int_eq(check_token("t0"), REASON_DONE);
    ck_assert_int_eq(check_token("t10000"), REASON_DONE);
    ck_assert_int_eq(check_token("t19999"), REASON_DONE);
    ck_assert_int_eq(check_token("t20000"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token(""), REASON_AUTH_FAILED);
}
END_TEST

START_TEST(the_default_token_is_for_loopback)
{
    with_token("dev-token", true);
    ck_assert_int_eq(check_token("dev-token"), REASON_DONE);
    is_far = true;
    ck_assert_int_eq(check_token("dev-token"), REASON_AUTH_WEAK_TOKEN);
    ck_assert_int_eq(check_token("other"), REASON_AUTH_FAILED);
}
END_TEST

/* Each for itself: a weak one beside a strong one makes neither other than it is. */
START_TEST(weak_tokens_are_for_loopback)
{
    static const char *const weak[] = { "fifteen-letters", "1234567890123456",
                                        "aaaaaaaaaaaaaaaaaaaaaaaa" };

    with_token("fifteen-letters\nsixteen-letters-\n1234567890123456\naaaaaaaaaaaaaaaaaaaaaaaa\n",
               false);
    for (size_t i = 0; i < ARRAY_SIZE(weak); i++) {
        is_far = false;
        ck_assert_int_eq(check_token(weak[i]), REASON_DONE);
        is_far = true;
        ck_assert_int_eq(check_token(weak[i]), REASON_AUTH_WEAK_TOKEN);
    }
    ck_assert_int_eq(check_token("sixteen-letters-"), REASON_DONE);
    ck_assert_int_eq(check_token("fifteen-letter"), REASON_AUTH_FAILED);
}
END_TEST

/* What is kept does not log in: neither as a token nor as a key. */
START_TEST(the_token_is_not_kept)
{
    with_token("a token that nobody keeps", false);
    ck_assert_ptr_null(config.token);
    ck_assert_uint_eq(config.token_size, 0);
}
END_TEST

/* A proof of one connection is worth nothing on another. */
START_TEST(a_proof_is_for_one_channel)
{
    struct scram_channel other = channel, tls = channel, elsewhere;
    struct auth_login login;

    with_token("secret", false);
    other.transcript[31] ^= 1;
    ck_assert_int_eq(log_in("secret", &channel, &other, &login), REASON_AUTH_FAILED);
    tls.bound = FRAME_BOUND_EXPORTER;
    memset(tls.exporter, 7, sizeof(tls.exporter));
    ck_assert_int_eq(log_in("secret", &tls, &tls, &login), REASON_DONE);
    elsewhere = tls;
    elsewhere.exporter[0] ^= 0x80;
    ck_assert_int_eq(log_in("secret", &tls, &elsewhere, &login), REASON_AUTH_FAILED);
    ck_assert_int_eq(log_in("secret", &channel, &tls, &login), REASON_TLS_ENDS_BETWEEN);
    ck_assert_int_eq(log_in("secret", &tls, &channel, &login), REASON_TLS_ENDS_BETWEEN);
}
END_TEST

START_TEST(every_bit_of_a_proof_counts)
{
    union sock_addr peer = peer_of_test();
    uint8_t proof[FRAME_PROOF_SIZE];
    struct auth_login login;
    struct scram_keys keys;

    with_token("secret", false);
    scram_keys(&keys, "secret", 6);
    struct frame_auth auth = { .id = keys.verifier.id, .proof = proof };
    for (size_t bit = 0; bit < 8 * sizeof(proof); bit++) {
        scram_client_proof(&keys, &channel, proof);
        ck_assert_int_eq(auth_check(table, &peer, &auth, &channel, &login), REASON_DONE);
        proof[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(auth_check(table, &peer, &auth, &channel, &login), REASON_AUTH_FAILED);
    }
}
END_TEST

/* The tokens are read again. */
static struct auth_change renew(const char *token)
{
    struct auth_change change = { .count = 0 };
    struct config fresh = { .token = NULL };

    ck_assert(config_copy_token(&fresh, token, strlen(token)));
    struct auth_table *next = auth_renew(table, &fresh, &change);
    ck_assert_ptr_nonnull(next);
    ck_assert_ptr_null(fresh.token);
    auth_unref(table);
    table = next;
    return change;
}

static unsigned number_of(const char *token)
{
    struct auth_login login;

    ck_assert_int_eq(log_in(token, &channel, &channel, &login), REASON_DONE);
    return login.token;
}

static void check_change(struct auth_change change, unsigned count, unsigned fresh, unsigned gone)
{
    ck_assert_uint_eq(change.count, count);
    ck_assert_uint_eq(change.fresh, fresh);
    ck_assert_uint_eq(change.gone, gone);
}

START_TEST(a_token_keeps_its_number_wherever_it_stands)
{
    with_token("alpha\nbeta\ngamma", false);
    check_change(renew("gamma\n\ndelta\nalpha\ndelta"), 3, 1, 1);
    ck_assert_uint_eq(number_of("alpha"), 0);
    ck_assert_uint_eq(number_of("gamma"), 2);
    ck_assert_uint_eq(number_of("delta"), 3); /* not 1, which sessions of beta have */
    ck_assert_int_eq(check_token("beta"), REASON_AUTH_FAILED);
    ck_assert(auth_knows(table, 0) && auth_knows(table, 2) && auth_knows(table, 3));
    ck_assert(!auth_knows(table, 1) && !auth_knows(table, 4));
    check_change(renew("beta\nalpha"), 2, 1, 2); /* it comes back as another one */
    ck_assert_uint_eq(number_of("beta"), 4);
    ck_assert_uint_eq(number_of("alpha"), 0);
    check_change(renew("alpha\nbeta\n"), 2, 0, 0);
    ck_assert_uint_eq(number_of("beta"), 4);
}
END_TEST

START_TEST(tokens_of_a_file_are_no_default)
{
    with_token("dev-token", true);
    ck_assert_int_eq(check_token("dev-token"), REASON_DONE);
    check_change(renew("secret"), 1, 1, 1);
    ck_assert_int_eq(check_token("secret"), REASON_DONE);
    ck_assert_int_eq(check_token("dev-token"), REASON_AUTH_FAILED);
}
END_TEST

START_TEST(thousands_come_and_go)
{
    static char tokens[COUNT * 12];

    with_token("t0\nt1\nlast", false);
    for (unsigned round = 0; round < 3; round++) {
        size_t size = 0;

        for (unsigned i = round; i < COUNT / 4; i++)
            size += (size_t)snprintf(tokens + size, sizeof(tokens) - size, "t%u\n", i);
        check_change(renew(tokens), COUNT / 4 - round, round == 0 ? COUNT / 4 - 2 : 0, 1);
    }
    ck_assert(!auth_knows(table, 0) && !auth_knows(table, 1) && !auth_knows(table, 2));
    ck_assert_uint_eq(number_of("t2"), 3);
    ck_assert_uint_eq(number_of("t4999"), 3 + 4997);
}
END_TEST

/* Whoever has a reference to a table sees no other one. */
START_TEST(a_table_does_not_change)
{
    struct auth_login login;

    with_token("first\nstays", false);
    struct auth_table *before = auth_ref(table);
    check_change(renew("second\nstays"), 2, 1, 1);
    struct auth_table *now = table;
    table = before;
    ck_assert_int_eq(check_token("first"), REASON_DONE);
    ck_assert_int_eq(check_token("second"), REASON_AUTH_FAILED);
    ck_assert(auth_knows(before, 0) && !auth_knows(now, 0));
    ck_assert_int_eq(log_in("stays", &channel, &channel, &login), REASON_DONE);
    ck_assert_uint_eq(login.token, 1);
    table = now;
    auth_unref(before);
    ck_assert_int_eq(check_token("first"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("second"), REASON_DONE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("auth");
    TCase *tcase = tcase_create("auth");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, one_token);
    tcase_add_test(tcase, a_token_in_each_line);
    tcase_add_test(tcase, white_space_is_told_apart);
    tcase_add_test(tcase, thousands_of_tokens);
    tcase_add_test(tcase, the_default_token_is_for_loopback);
    tcase_add_test(tcase, weak_tokens_are_for_loopback);
    tcase_add_test(tcase, the_token_is_not_kept);
    tcase_add_test(tcase, a_proof_is_for_one_channel);
    tcase_add_test(tcase, every_bit_of_a_proof_counts);
    tcase_add_test(tcase, a_token_keeps_its_number_wherever_it_stands);
    tcase_add_test(tcase, tokens_of_a_file_are_no_default);
    tcase_add_test(tcase, thousands_come_and_go);
    tcase_add_test(tcase, a_table_does_not_change);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
