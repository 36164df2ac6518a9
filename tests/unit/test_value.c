/* Numbers, durations, sizes, core lists and edit distance. */
#include <check.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/base/value.h"

enum kind { NUMBER, DURATION, SIZE };

static const struct {
    enum kind kind;
    const char *text;
    bool ok;
    uint64_t value;
} cases[] = {
    { NUMBER, "0", true, 0 },
    { NUMBER, "007", true, 7 },
    { NUMBER, "18446744073709551615", true, UINT64_MAX },
    { NUMBER, "18446744073709551616", false, 0 },
    { NUMBER, "", false, 0 },
    { NUMBER, "-1", false, 0 },
    { NUMBER, "+1", false, 0 },
    { NUMBER, " 1", false, 0 },
    { NUMBER, "1 ", false, 0 },
    { NUMBER, "0x10", false, 0 },
    { NUMBER, "1.5", false, 0 },
    { DURATION, "250ms", true, 250 * NSEC_PER_MSEC },
    { DURATION, "10s", true, 10 * NSEC_PER_SEC },
    { DURATION, "2m", true, 120 * NSEC_PER_SEC },
    { DURATION, "1h", true, 3600 * NSEC_PER_SEC },
    { DURATION, "0", true, 0 },
    { DURATION, "0s", true, 0 },
    { DURATION, "10", false, 0 },
    { DURATION, "s", false, 0 },
    { DURATION, "10 s", false, 0 },
    { DURATION, "10sec", false, 0 },
    { DURATION, "-1s", false, 0 },
    { DURATION, "5124095576h", false, 0 }, /* 2^64 ns is a little less */
    { SIZE, "65536", true, 65536 },
    { SIZE, "64K", true, 65536 },
    { SIZE, "64kib", true, 65536 },
    { SIZE, "16MiB", true, 16 * MIB },
    { SIZE, "16m", true, 16 * MIB },
    { SIZE, "1G", true, 1024 * MIB },
    { SIZE, "12B", true, 12 },
    { SIZE, "17179869184G", false, 0 },
    { SIZE, "1T", false, 0 },
    { SIZE, "K", false, 0 },
};

START_TEST(a_text_is_read_whole_or_not_at_all)
{
    uint64_t value = 4711;
    bool ok = false;

    switch (cases[_i].kind) {
    case NUMBER:
        ok = value_parse_number(cases[_i].text, &value);
        break;
    case DURATION:
        ok = value_parse_duration(cases[_i].text, &value);
        break;
    case SIZE:
        ok = value_parse_size(cases[_i].text, &value);
        break;
    }
    ck_assert_msg(ok == cases[_i].ok, "'%s'", cases[_i].text);
    ck_assert_uint_eq(value, ok ? cases[_i].value : 4711);
}
END_TEST

static const struct {
    const char *text;
    unsigned count; /* 0: refused */
    int cpus[8];
} lists[] = {
    { "0", 1, { 0 } },
    { "0-3,6", 5, { 0, 1, 2, 3, 6 } },
    { "6,0-1", 3, { 6, 0, 1 } },
    { "1023", 1, { 1023 } },
    { "0-7", 8, { 0, 1, 2, 3, 4, 5, 6, 7 } },
    { "0-8", 0, { 0 } }, /* more than fit */
    { "1024", 0, { 0 } },
    { "0-1024", 0, { 0 } },
    { "3-1", 0, { 0 } },
    { "0,0", 0, { 0 } },
    { "0-3,2", 0, { 0 } },
    { "", 0, { 0 } },
    { ",", 0, { 0 } },
    { "0,", 0, { 0 } },
    { "0-", 0, { 0 } },
    { "-3", 0, { 0 } },
    { "0;1", 0, { 0 } },
    { "a", 0, { 0 } },
    { "18446744073709551616", 0, { 0 } },
};

START_TEST(a_core_list_is_read)
{
    int cpus[8] = { -1 };
    unsigned count = 99;
    bool ok = value_parse_cpus(lists[_i].text, cpus, ARRAY_SIZE(cpus), &count);

    ck_assert_msg(ok == (lists[_i].count != 0), "'%s'", lists[_i].text);
    ck_assert_uint_eq(count, ok ? lists[_i].count : 99);
    if (ok)
        ck_assert_mem_eq(cpus, lists[_i].cpus, count * sizeof(cpus[0]));
    else
        ck_assert_int_eq(cpus[0], -1);
}
END_TEST

START_TEST(what_is_written_is_read_back)
{
    static const uint64_t values[] = {
        0,           1000000,
        250000000,   999000000,
        1000000000,  60000000000,
        90000000000, 3600000000000,
        1024,        1025,
        65536,       16777216,
        1 << 30,     UINT64_MAX / 1000000 * 1000000,
    };
    char text[VALUE_TEXT_MAX];
    uint64_t back;

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        if (values[i] % NSEC_PER_MSEC == 0) {
            ck_assert(value_parse_duration(value_format_duration(values[i], text), &back));
            ck_assert_uint_eq(back, values[i]);
        }
        ck_assert(value_parse_size(value_format_size(values[i], text), &back));
        ck_assert_uint_eq(back, values[i]);
    }
    ck_assert_str_eq(value_format_duration(90 * NSEC_PER_SEC, text), "90s");
    ck_assert_str_eq(value_format_size(64 * KIB, text), "64KiB");
}
END_TEST

static const struct {
    const char *a, *b;
    unsigned distance;
} distances[] = {
    { "server", "server", 0 },  { "sever", "server", 1 },    { "servre", "server", 1 },
    { "servr", "server", 1 },   { "local", "lcoal", 1 },     { "", "abc", 3 },
    { "kitten", "sitting", 3 }, { "tls-ca", "tls-cert", 3 },
};

START_TEST(distance_counts_edits_both_ways)
{
    ck_assert_uint_eq(value_distance(distances[_i].a, distances[_i].b), distances[_i].distance);
    ck_assert_uint_eq(value_distance(distances[_i].b, distances[_i].a), distances[_i].distance);
}
END_TEST

START_TEST(long_words_are_compared_by_their_start)
{
    const char *word = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    ck_assert_uint_eq(value_distance(word, word + 1), 0);
    ck_assert_uint_eq(value_distance(word, ""), 32);
    ck_assert(!value_is_near(32, word));
    ck_assert(value_is_near(1, "x"));
    ck_assert(!value_is_near(2, "abc"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("value");
    TCase *tcase = tcase_create("value");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(tcase, a_text_is_read_whole_or_not_at_all, 0, ARRAY_SIZE(cases));
    tcase_add_loop_test(tcase, a_core_list_is_read, 0, ARRAY_SIZE(lists));
    tcase_add_test(tcase, what_is_written_is_read_back);
    tcase_add_loop_test(tcase, distance_counts_edits_both_ways, 0, ARRAY_SIZE(distances));
    tcase_add_test(tcase, long_words_are_compared_by_their_start);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
