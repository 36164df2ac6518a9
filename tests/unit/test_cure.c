/* cure: what an operator is told that an errno is, by what was tried. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cure.h"

START_TEST(low_ports_need_a_capability)
{
    static const uint16_t low[] = { 1, 80, 1023 };

    for (unsigned i = 0; i < sizeof(low) / sizeof(low[0]); i++) {
        const char *text = cure_bind_text(EACCES, low[i]);

        ck_assert_msg(strncmp(text, ": ports below 1024 need CAP_NET_BIND_SERVICE ", 45) == 0,
                      "%u: %s", low[i], text);
        ck_assert_ptr_nonnull(strstr(text, "sysctl net.ipv4.ip_unprivileged_port_start"));
    }
    /* a security module has refused it: that cure would lead astray */
    ck_assert_str_eq(cure_bind_text(EACCES, 1024), "");
    ck_assert_str_eq(cure_bind_text(EADDRINUSE, 80), cure_text(EADDRINUSE));
    ck_assert_str_eq(cure_text(EACCES), "");
}
END_TEST

START_TEST(what_is_not_in_a_table_has_no_cure)
{
    ck_assert_str_eq(cure_text(0), "");
    ck_assert_str_eq(cure_bind_text(0, 0), "");
    ck_assert_str_eq(cure_connect_text(EIO), "");
    ck_assert_str_ne(cure_connect_text(EADDRNOTAVAIL), cure_text(EADDRNOTAVAIL));
    ck_assert_str_eq(cure_connect_text(EMFILE), cure_text(EMFILE));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cure");
    TCase *tcase = tcase_create("cure");

    tcase_add_test(tcase, low_ports_need_a_capability);
    tcase_add_test(tcase, what_is_not_in_a_table_has_no_cure);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
