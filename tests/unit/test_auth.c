/* auth: tokens of a server, one or several. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "server/auth.h"

static struct config config;

static void with_token(const char *token)
{
    memset(&config, 0, sizeof(config));
    config.token_size = strlen(token);
    memcpy(config.token, token, config.token_size);
}

static enum reason check_token(const char *token)
{
    union sock_addr peer = { .sa = { .sa_family = AF_INET6 } };

    peer.bytes[8] = 0x20; /* 2000::, not loopback */
    unsigned which = 0;

    return auth_check(&config, &peer, token, strlen(token), &which);
}

START_TEST(one_token)
{
    with_token("secret");
    ck_assert_int_eq(check_token("secret"), REASON_DONE);
    ck_assert_int_eq(check_token("secre"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("secrets"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("secretsecret"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token(""), REASON_AUTH_FAILED);
}
END_TEST

START_TEST(a_token_in_each_line)
{
    with_token("alpha\n\nbeta\ngamma");
    ck_assert_int_eq(check_token("alpha"), REASON_DONE);
    ck_assert_int_eq(check_token("beta"), REASON_DONE);
    ck_assert_int_eq(check_token("gamma"), REASON_DONE);
    ck_assert_int_eq(check_token(""), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("alpha\n"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("alpha\n\nbeta"), REASON_AUTH_FAILED);
    ck_assert_int_eq(check_token("delta"), REASON_AUTH_FAILED);
}
END_TEST

START_TEST(the_default_token_is_for_loopback)
{
    with_token("dev-token");
    config.token_is_default = true;
    ck_assert_int_eq(check_token("dev-token"), REASON_AUTH_REMOTE_DEV_TOKEN);
    ck_assert_int_eq(check_token("other"), REASON_AUTH_FAILED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("auth");
    TCase *tcase = tcase_create("auth");
    SRunner *runner = srunner_create(suite);

    tcase_add_test(tcase, one_token);
    tcase_add_test(tcase, a_token_in_each_line);
    tcase_add_test(tcase, the_default_token_is_for_loopback);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
