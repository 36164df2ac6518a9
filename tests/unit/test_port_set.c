/* Sets of ports: lists that are read and written, and what is found in them. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/base/port_set.h"

static const struct {
    const char *text;
    const char *back; /* NULL: refused */
    uint32_t count;
    uint16_t first;
} lists[] = {
    { "80", "80", 1, 80 },
    { "1", "1", 1, 1 },
    { "65535", "65535", 1, 65535 },
    { "1-65535", "1-65535", 65535, 1024 },
    { "80,443,10000-10100", "80,443,10000-10100", 103, 10000 },
    { "10000-10100,443,80", "80,443,10000-10100", 103, 10000 },
    { "1000-1023", "1000-1023", 24, 1000 },
    { "1023,1024", "1023-1024", 2, 1024 },
    { "10-20,15-30,20", "10-30", 21, 10 },
    { "63-64,127-128", "63-64,127-128", 4, 63 },
    { "00080", "80", 1, 80 },
    { "5-5", "5", 1, 5 },
    { "", NULL, 0, 0 },
    { ",", NULL, 0, 0 },
    { "80,", NULL, 0, 0 },
    { ",80", NULL, 0, 0 },
    { "80,,81", NULL, 0, 0 },
    { "0", NULL, 0, 0 },
    { "0-80", NULL, 0, 0 },
    { "80-0", NULL, 0, 0 },
    { "65536", NULL, 0, 0 },
    { "1-65536", NULL, 0, 0 },
    { "000080", NULL, 0, 0 },
    { "4294967376", NULL, 0, 0 }, /* 2^32 + 80 */
    { "80-", NULL, 0, 0 },
    { "-80", NULL, 0, 0 },
    { "80--90", NULL, 0, 0 },
    { "80-90-100", NULL, 0, 0 },
    { "90-80", NULL, 0, 0 },
    { "80, 90", NULL, 0, 0 },
    { " 80", NULL, 0, 0 },
    { "80;90", NULL, 0, 0 },
    { "+80", NULL, 0, 0 },
    { "all", NULL, 0, 0 },
};

START_TEST(a_list_is_read_whole_or_not_at_all)
{
    struct port_set set = { .bits = { 4711 } }, before = set;
    char error[PORT_SET_ERROR_MAX] = "", text[PORT_SET_TEXT_MAX];
    bool ok = port_set_parse(lists[_i].text, &set, error);

    ck_assert_msg(ok == (lists[_i].back != NULL), "'%s': %s", lists[_i].text, error);
    if (!ok) {
        ck_assert_mem_eq(&set, &before, sizeof(set));
        ck_assert_ptr_nonnull(strstr(error, "write "));
        return;
    }
    ck_assert_str_eq(port_set_format(&set, text), lists[_i].back);
    ck_assert_uint_eq(port_set_count(&set, 1), lists[_i].count);
    ck_assert_uint_eq(port_set_first(&set), lists[_i].first);
    ck_assert(!port_set_has(&set, 0));
}
END_TEST

START_TEST(a_wrong_part_is_named)
{
    struct port_set set;
    char error[PORT_SET_ERROR_MAX], longest[5000];

    ck_assert(!port_set_parse("80,443x,90", &set, error));
    ck_assert_ptr_nonnull(strstr(error, "'443x' is neither a port"));
    ck_assert(!port_set_parse("80,10100-10000", &set, error));
    ck_assert_ptr_nonnull(strstr(error, "write 10000-10100"));
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    ck_assert(!port_set_parse(longest, &set, error));
    ck_assert_ptr_nonnull(strstr(error, "80,443,10000-10100")); /* the cure is not cut off */
}
END_TEST

START_TEST(the_next_one_is_found)
{
    struct port_set set = { .bits = { 0 } };

    ck_assert_uint_eq(port_set_first(&set), 0);
    ck_assert_uint_eq(port_set_next(&set, 1), 0);
    port_set_add(&set, 63, 64);
    port_set_add(&set, 65535, 65535);
    ck_assert_uint_eq(port_set_next(&set, 1), 63);
    ck_assert_uint_eq(port_set_next(&set, 63), 63);
    ck_assert_uint_eq(port_set_next(&set, 64), 64);
    ck_assert_uint_eq(port_set_next(&set, 65), 65535);
    ck_assert_uint_eq(port_set_next(&set, 65535), 65535);
    ck_assert_uint_eq(port_set_count(&set, 64), 2);
    ck_assert_uint_eq(port_set_count(&set, 65535), 1);
}
END_TEST

/* A list that is too long for its text is cut between two of its parts. */
START_TEST(a_long_list_is_cut)
{
    struct port_set set = { .bits = { 0 } }, back;
    char text[PORT_SET_TEXT_MAX], error[PORT_SET_ERROR_MAX];

    for (uint32_t port = 10000; port < 60000; port += 3)
        port_set_add(&set, (uint16_t)port, (uint16_t)(port + 1));
    port_set_format(&set, text);
    size_t size = strlen(text);
    ck_assert_uint_gt(size, 4);
    ck_assert_str_eq(text + size - 4, ",...");
    text[size - 4] = '\0';
    ck_assert(port_set_parse(text, &back, error));
    for (unsigned i = 0; i < PORT_SET_WORDS; i++)
        ck_assert_uint_eq(back.bits[i] & ~set.bits[i], 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("port_set");
    TCase *tcase = tcase_create("port_set");

    tcase_add_loop_test(tcase, a_list_is_read_whole_or_not_at_all, 0, ARRAY_SIZE(lists));
    tcase_add_test(tcase, a_wrong_part_is_named);
    tcase_add_test(tcase, the_next_one_is_found);
    tcase_add_test(tcase, a_long_list_is_cut);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
