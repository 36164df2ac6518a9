/*
 * config: the tokens of a struct config, and who owns them.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/base/config.h"
#include "core/base/secret.h"

static struct config config;

static void with_token(const char *bytes, size_t size)
{
    ck_assert(config_copy_token(&config, bytes, size));
    ck_assert_uint_eq(config.token_size, size);
    ck_assert_mem_eq(config.token, bytes, size);
    ck_assert_int_eq(config.token[size], '\0');
}

static void teardown(void)
{
    config_drop_token(&config);
}

static const struct {
    const char *bytes;
    const char *tokens; /* "LINE:TOKEN " of each */
} rows[] = {
    { "", "" },
    { "\n\n\n", "" },
    { "a", "0:a " },
    { "a\n", "0:a " },
    { "\na", "1:a " },
    { "a\nbc\n\n\nd\n\n", "0:a 1:bc 4:d " },
    { "\n\na\n\nb", "2:a 4:b " },
    { " \n x", "0:  1: x " },
};

START_TEST(each_line_is_a_token)
{
    struct config_token token = { 0 };
    char found[64] = "";
    size_t at = 0;

    with_token(rows[_i].bytes, strlen(rows[_i].bytes));
    while (config_next_token(&config, &token))
        at += (size_t)snprintf(found + at, sizeof(found) - at, "%u:%.*s ", token.line,
                               (int)token.size, token.bytes);
    ck_assert_str_eq(found, rows[_i].tokens);
    ck_assert(!config_next_token(&config, &token));
}
END_TEST

START_TEST(a_token_may_hold_a_zero)
{
    struct config_token token = { 0 };

    with_token("a\0b\nc", 5);
    ck_assert(config_next_token(&config, &token));
    ck_assert_uint_eq(token.size, 3);
    ck_assert_mem_eq(token.bytes, "a\0b", 3);
    ck_assert(config_next_token(&config, &token));
    ck_assert_uint_eq(token.line, 1);
    ck_assert(!config_next_token(&config, &token));
}
END_TEST

/* Sanitizers see what is not given back. */
START_TEST(the_last_token_counts)
{
    char *own = secret_alloc(4);

    with_token("first", 5);
    with_token("second", 6);
    memcpy(own, "own", 4);
    config_own_token(&config, own, 3);
    ck_assert_ptr_eq(config.token, own);
    ck_assert_uint_eq(config.token_size, 3);
}
END_TEST

/* What a client has: blank lines about it are no part of it. */
START_TEST(one_token_is_kept)
{
    with_token("\n\nsecret\n\n", 10);
    ck_assert(config_keep_one_token(&config));
    ck_assert_uint_eq(config.token_size, 6);
    ck_assert_mem_eq(config.token, "secret\0\0\0\0", 11);
    with_token("one\n\ntwo", 8);
    ck_assert(!config_keep_one_token(&config));
    ck_assert_uint_eq(config.token_size, 8);
    with_token("\n", 1);
    ck_assert(config_keep_one_token(&config));
}
END_TEST

START_TEST(a_dropped_token_is_gone)
{
    struct config_token token = { 0 };

    with_token("secret", 6);
    for (int i = 0; i < 2; i++) {
        config_drop_token(&config);
        ck_assert_ptr_null(config.token);
        ck_assert_uint_eq(config.token_size, 0);
        ck_assert(!config_next_token(&config, &token));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tcase = tcase_create("config");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_loop_test(tcase, each_line_is_a_token, 0, ARRAY_SIZE(rows));
    tcase_add_test(tcase, a_token_may_hold_a_zero);
    tcase_add_test(tcase, the_last_token_counts);
    tcase_add_test(tcase, one_token_is_kept);
    tcase_add_test(tcase, a_dropped_token_is_gone);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
