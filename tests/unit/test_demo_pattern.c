/* The demo's pattern: what it must notice. A check that lets a wrong byte pass would make the demo
 * a lie. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "app/demo_pattern.h"
#include "core/base/base.h"

#define SIZE (3u * DEMO_PATTERN_CHUNK)

static uint8_t bytes[SIZE];

static void fill(enum demo_pattern_stream stream, uint64_t position)
{
    for (size_t done = 0; done < SIZE;) {
        size_t run;
        const uint8_t *at = demo_pattern_at(stream, position + done, &run);

        ck_assert_uint_ge(run, 1);
        ck_assert_uint_le(run, DEMO_PATTERN_CHUNK);
        run = min_size(run, SIZE - done);
        memcpy(bytes + done, at, run);
        done += run;
    }
}

static void setup(void)
{
    demo_pattern_init(1);
}

static const uint64_t positions[] = {
    0, 1, DEMO_PATTERN_CHUNK - 1, DEMO_PATTERN_CHUNK, UINT64_C(1) << 32, (UINT64_C(1) << 40) + 12345
};

START_TEST(the_right_bytes_pass_however_they_are_cut)
{
    static const size_t cuts[] = { 1, 7, 4096, DEMO_PATTERN_CHUNK, SIZE };
    uint64_t wrong;

    fill(DEMO_PATTERN_UP, positions[_i]);
    for (size_t i = 0; i < ARRAY_SIZE(cuts); i++)
        for (size_t at = SIZE / 3 - 100; at < SIZE && at < SIZE / 3 - 100 + 300 * cuts[i];
             at += cuts[i])
            ck_assert(demo_pattern_check(DEMO_PATTERN_UP, positions[_i] + at, bytes + at,
                                         min_size(cuts[i], SIZE - at), &wrong));
}
END_TEST

START_TEST(one_wrong_bit_is_found_where_it_is)
{
    static const size_t places[] = { 0, 1, DEMO_PATTERN_CHUNK - 1, DEMO_PATTERN_CHUNK, SIZE - 1 };
    uint64_t wrong = 0;

    fill(DEMO_PATTERN_DOWN, positions[_i]);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        bytes[places[i]] ^= 0x10;
        ck_assert(!demo_pattern_check(DEMO_PATTERN_DOWN, positions[_i], bytes, SIZE, &wrong));
        ck_assert_uint_eq(wrong, positions[_i] + places[i]);
        bytes[places[i]] ^= 0x10;
    }
}
END_TEST

/* Bytes lost, doubled, or from the other stream: all are bytes of the pattern, but not those of
 * here. */
START_TEST(right_bytes_in_the_wrong_place_are_wrong)
{
    static const uint64_t shifts[] = { 1,
                                       4,
                                       4096,
                                       65536,
                                       DEMO_PATTERN_CHUNK,
                                       2 * DEMO_PATTERN_CHUNK,
                                       16 * DEMO_PATTERN_CHUNK,
                                       UINT64_C(1) << 30,
                                       UINT64_C(1) << 36 };
    uint64_t wrong = 0;

    fill(DEMO_PATTERN_DOWN, positions[_i]);
    for (size_t i = 0; i < ARRAY_SIZE(shifts); i++) {
        ck_assert(
            !demo_pattern_check(DEMO_PATTERN_DOWN, positions[_i] + shifts[i], bytes, 4096, &wrong));
        ck_assert_uint_lt(wrong - positions[_i] - shifts[i], 16);
    }
    ck_assert(!demo_pattern_check(DEMO_PATTERN_UP, positions[_i], bytes, 4096, &wrong));
}
END_TEST

static int compare_pointers(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (const void *const *)a, y = (uintptr_t) * (const void *const *)b;

    return (x > y) - (x < y);
}

START_TEST(chunks_do_not_repeat_within_four_gibibytes)
{
    size_t chunks = (4096 * MIB) / DEMO_PATTERN_CHUNK, run;
    const void **starts = malloc(chunks * sizeof(*starts));

    ck_assert_ptr_nonnull(starts);
    for (size_t i = 0; i < chunks; i++)
        starts[i] = demo_pattern_at(DEMO_PATTERN_UP, (uint64_t)i * DEMO_PATTERN_CHUNK, &run);
    qsort(starts, chunks, sizeof(*starts), compare_pointers);
    for (size_t i = 1; i < chunks; i++)
        ck_assert_ptr_ne(starts[i], starts[i - 1]);
    free(starts);
}
END_TEST

START_TEST(another_seed_is_another_pattern)
{
    uint64_t wrong;

    fill(DEMO_PATTERN_DOWN, 0);
    demo_pattern_init(2);
    ck_assert(!demo_pattern_check(DEMO_PATTERN_DOWN, 0, bytes, SIZE, &wrong));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("demo_pattern");
    TCase *tcase = tcase_create("demo_pattern");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, the_right_bytes_pass_however_they_are_cut, 0, ARRAY_SIZE(positions));
    tcase_add_loop_test(tcase, one_wrong_bit_is_found_where_it_is, 0, ARRAY_SIZE(positions));
    tcase_add_loop_test(tcase, right_bytes_in_the_wrong_place_are_wrong, 0, ARRAY_SIZE(positions));
    tcase_add_test(tcase, chunks_do_not_repeat_within_four_gibibytes);
    tcase_add_test(tcase, another_seed_is_another_pattern);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
