/*
 * scram: the proofs of docs/PROTOCOL.md, section 3, against the frames that the document shows
 * (which another implementation made), and what each of them depends on.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/mux/scram.h"
#include "frame_examples.h"

static struct scram_keys keys;
static struct scram_channel channel;

/* The log-in of the document. */
static void setup(void)
{
    uint8_t frame[FRAME_CONTROL_MAX];

    scram_keys(&keys, "dev-token", 9);
    memset(&channel, 0, sizeof(channel));
    const uint8_t *end = put_example("hello", frame) + frame;
    scram_begin(channel.transcript, frame + FRAME_V2_HEADER, end);
    end = put_example("hello-ok", frame) + frame;
    scram_go_on(channel.transcript, frame + FRAME_V2_HEADER, end);
}

START_TEST(the_log_in_of_the_document)
{
    static const uint8_t secret[SCRAM_KEY_SIZE] = {
        0xdd, 0x2c, 0xc4, 0xc2, 0x7f, 0x9f, 0xe7, 0x44, 0xd5, 0xe1, 0xb2,
        0x71, 0xc6, 0x21, 0xbe, 0xa0, 0x5f, 0x40, 0x69, 0xe3, 0x3f, 0xb6,
        0x06, 0xb6, 0x48, 0x2e, 0x2c, 0x55, 0x6a, 0x6f, 0x58, 0x81,
    };
    uint8_t proof[FRAME_PROOF_SIZE], mine[SCRAM_KEY_SIZE], theirs[SCRAM_KEY_SIZE];

    ck_assert_mem_eq(keys.verifier.id, example_id, sizeof(example_id));
    scram_client_proof(&keys, &channel, proof);
    ck_assert_mem_eq(proof, example_auth, sizeof(proof));
    ck_assert(scram_client_proved(&keys.verifier, &channel, example_auth, theirs, proof));
    ck_assert_mem_eq(proof, example_auth_ok, sizeof(proof));
    ck_assert(scram_server_proved(&keys, &channel, example_auth_ok));
    scram_client_session(&keys, &channel, mine);
    ck_assert_mem_eq(mine, secret, sizeof(mine));
    ck_assert_mem_eq(theirs, secret, sizeof(theirs));
}
END_TEST

START_TEST(the_join_of_the_document)
{
    struct frame_join join = { .session = EXAMPLE_SESSION, .lane = 1 };
    uint8_t secret[SCRAM_KEY_SIZE], proof[FRAME_PROOF_SIZE];

    scram_client_session(&keys, &channel, secret);
    scram_join(secret, &channel, &join, proof);
    ck_assert_mem_eq(proof, example_join, sizeof(proof));
    scram_join_ok(secret, &channel, &join, proof);
    ck_assert_mem_eq(proof, example_join_ok, sizeof(proof));
}
END_TEST

/* Whatever changes on the way, or from one connection to the next, makes other proofs. */
static void check_other(const struct scram_channel *other)
{
    uint8_t secret[SCRAM_KEY_SIZE], proof[FRAME_PROOF_SIZE];

    ck_assert(!scram_client_proved(&keys.verifier, other, example_auth, secret, proof));
    ck_assert(!scram_server_proved(&keys, other, example_auth_ok));
}

START_TEST(proofs_are_bound_to_the_channel)
{
    for (size_t i = 0; i < sizeof(channel); i++) {
        struct scram_channel other = channel;

        ((uint8_t *)&other)[i] ^= 0x40;
        check_other(&other);
    }
}
END_TEST

START_TEST(a_join_is_for_one_place_only)
{
    const struct frame_join join = { .session = 5, .lane = 1, .rx_bytes = 7 };
    const struct frame_join others[] = {
        { .session = 6, .lane = 1, .rx_bytes = 7 },
        { .session = 5, .lane = 2, .rx_bytes = 7 },
        { .session = 5, .lane = 1, .rx_bytes = 8 },
        { .session = 5, .lane = 1, .rx_bytes = 7, .flags = FRAME_JOIN_RESUME },
    };
    const uint8_t secret[SCRAM_KEY_SIZE] = "a secret";
    uint8_t proof[FRAME_PROOF_SIZE], other[FRAME_PROOF_SIZE];

    scram_join(secret, &channel, &join, proof);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        scram_join(secret, &channel, &others[i], other);
        ck_assert(!scram_equal(proof, other, sizeof(proof)));
    }
    scram_join_ok(secret, &channel, &join, other);
    ck_assert(!scram_equal(proof, other, sizeof(proof)));
}
END_TEST

/* What a server keeps proves nothing of a client: neither the one key nor the other stands for
 * ClientKey. */
START_TEST(a_verifier_does_not_log_in)
{
    uint8_t secret[SCRAM_KEY_SIZE], proof[FRAME_PROOF_SIZE], forged[FRAME_PROOF_SIZE];
    struct scram_keys thief = { .verifier = keys.verifier };

    memcpy(thief.client, keys.verifier.stored, sizeof(thief.client));
    scram_client_proof(&thief, &channel, forged);
    ck_assert(!scram_client_proved(&keys.verifier, &channel, forged, secret, proof));
    memcpy(thief.client, keys.verifier.server, sizeof(thief.client));
    scram_client_proof(&thief, &channel, forged);
    ck_assert(!scram_client_proved(&keys.verifier, &channel, forged, secret, proof));
}
END_TEST

START_TEST(equal_means_equal)
{
    uint8_t a[FRAME_PROOF_SIZE] = { 0 }, b[FRAME_PROOF_SIZE] = { 0 };

    ck_assert(scram_equal(a, b, sizeof(a)));
    for (size_t i = 0; i < sizeof(a); i++) {
        b[i] = 0x80;
        ck_assert(!scram_equal(a, b, sizeof(a)));
        b[i] = 0;
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scram");
    TCase *tcase = tcase_create("scram");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, the_log_in_of_the_document);
    tcase_add_test(tcase, the_join_of_the_document);
    tcase_add_test(tcase, proofs_are_bound_to_the_channel);
    tcase_add_test(tcase, a_join_is_for_one_place_only);
    tcase_add_test(tcase, a_verifier_does_not_log_in);
    tcase_add_test(tcase, equal_means_equal);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
