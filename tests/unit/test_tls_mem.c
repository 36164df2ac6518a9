/*
 * Secrets and core dumps: after handshakes and key updates, no page that a core dump would contain holds a key or a traffic secret
 * of a lane, and none at all once the lane is gone.
 *
 * Needs a program linked with -z now, as the project's are: lazy binding saves vector registers on the stack.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "unit/tls_util.h"

#include "tls/record_impl.h"
#include "tls/tls_impl.h"

#define MASK 0x5a /* what is searched for is kept masked, or the search would find its own needle */

#ifdef CULVERT_SANITIZED
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

struct needle {
    uint8_t masked[16];
};

/* Byte by byte: a vector register with the secret in it would end on the stack, and be found. */
static __attribute__((noinline)) void needle_take(struct needle *needle, const uint8_t *secret)
{
    const volatile uint8_t *bytes = secret;

    for (size_t i = 0; i < sizeof(needle->masked); i++)
        needle->masked[i] = bytes[i] ^ MASK;
}

static int count_in(const uint8_t *start, const uint8_t *end, const struct needle *needle)
{
    int found = 0;

    for (const uint8_t *p = start; p + sizeof(needle->masked) <= end; p++) {
        size_t i = 0;
        while (i < sizeof(needle->masked) && (p[i] ^ MASK) == needle->masked[i])
            i++;
        found += i == sizeof(needle->masked);
    }
    return found;
}

/* How often the needle is in writable memory, in pages that dumps contain or in those that they do not ("dd" of smaps). */
static int count(const struct needle *needle, bool dumped)
{
    unsigned long start = 0;
    unsigned long end = 0;
    char rights[8] = "";
    char line[512];
    int found = 0;
    FILE *f = fopen("/proc/self/smaps", "r");

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        unsigned long from;
        unsigned long to;
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3) {
            start = from;
            end = to;
            continue;
        }
        if (strncmp(line, "VmFlags:", 8) != 0 || rights[0] != 'r' || rights[1] != 'w')
            continue;
        if ((strstr(line, " dd") == NULL) == dumped)
            found += count_in((const uint8_t *)start, (const uint8_t *)end, needle);
    }
    fclose(f);
    return found;
}

START_TEST(no_key_in_a_dump)
{
    struct scratch scratch;
    struct record *c;
    struct record *s;
    struct needle needles[6];

    scratch_make(&scratch);
    struct tls_ctx *client_side = client_ctx(&scratch);
    struct tls_ctx *server_side = server_ctx(&scratch);
    shake(client_side, server_side, "localhost", &c, &s);
    for (int round = 0; round < 2; round++) {
        struct record_in in;
        uint8_t wire[RECORD_CONTROL_MAX];
        needle_take(&needles[0], c->tx.keys.key);
        needle_take(&needles[1], c->rx.keys.key);
        needle_take(&needles[2], c->tx.keys.secret);
        needle_take(&needles[3], c->rx.keys.secret);
        needle_take(&needles[4], c->tx.keys.secret + 16);
        needle_take(&needles[5], s->rx.keys.secret + 16);
        for (int i = 0; i < 6; i++) {
            ck_assert_int_gt(count(&needles[i], false), 0); /* the search works */
            ck_assert_msg(count(&needles[i], true) == 0, "round %d: needle %d is in a dump", round,
                          i);
        }
        size_t n = record_put_key_update(c, wire);
        ck_assert_int_eq(record_open(s, wire, wire + n, &in), RECORD_SKIP);
        n = record_put_key_update(s, wire);
        ck_assert_int_eq(record_open(c, wire, wire + n, &in), RECORD_SKIP);
        say(c, s, "with new keys");
        for (int i = 0; i < 6; i++) /* the old ones are gone */
            ck_assert_msg(count(&needles[i], true) + count(&needles[i], false) == 0,
                          "round %d: needle %d outlives its key", round, i);
    }
    needle_take(&needles[0], c->tx.keys.key);
    needle_take(&needles[2], c->tx.keys.secret);
    record_free(c);
    record_free(s);
    ck_assert_int_eq(count(&needles[0], false), 0);
    ck_assert_int_eq(count(&needles[2], false), 0);
    tls_ctx_unref(client_side);
    tls_ctx_unref(server_side);
    scratch_drop(&scratch);
}
END_TEST

START_TEST(blocks)
{
    static const size_t sizes[] = { 0,  1,    15,   16,    17,     31,     48,
                                    49, 1000, 4096, 65536, 131056, 131057, 1000000 };
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
    uint8_t *block[SIZES];

    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < SIZES; i++) {
            block[i] = tls_mem_zalloc(sizes[i]);
            ck_assert_ptr_nonnull(block[i]);
            ck_assert_uint_eq((uintptr_t)block[i] % 16, 0);
            for (size_t k = 0; k < sizes[i]; k++)
                ck_assert_uint_eq(block[i][k], 0);
            memset(block[i], (int)i + 1, sizes[i]);
        }
        for (size_t i = 0; i < SIZES; i++) {
            for (size_t k = 0; k < sizes[i]; k++)
                ck_assert_uint_eq(block[i][k], i + 1);
            tls_mem_free(block[i]);
        }
    }
    tls_mem_free(NULL);
    ck_assert_ptr_null(tls_mem_alloc(SIZE_MAX));
    ck_assert_ptr_null(tls_mem_alloc(SIZE_MAX / 2));
}
END_TEST

START_TEST(growing)
{
    uint8_t *block = tls_mem_realloc(NULL, 1);

    ck_assert_ptr_nonnull(block);
    block[0] = 7;
    for (size_t size = 2; size < 400000; size = size * 3 / 2 + 1) {
        block = tls_mem_realloc(block, size);
        ck_assert_ptr_nonnull(block);
        ck_assert_uint_eq(block[0], 7);
        ck_assert_uint_eq(block[size / 2 - (size / 2 > 0)], size / 2 > 1 ? block[size / 2 - 1] : 7);
        block[size - 1] = 9;
        block[0] = 7;
    }
    ck_assert_ptr_null(tls_mem_realloc(block, 0));
}
END_TEST

int main(void)
{
    if (sanitized) {
        printf("a sanitized build keeps its own malloc: skipped\n");
        return 77;
    }
    const char *preload = getenv("LD_PRELOAD");
    if (preload != NULL && strstr(preload, "vgpreload") != NULL) {
        printf("valgrind keeps the registers of what it runs in memory of its own: skipped\n");
        return 77;
    }
    if (access("/proc/self/smaps", R_OK) != 0) {
        printf("no /proc/self/smaps here: skipped\n");
        return 77;
    }
    if (!tls_mem_start()) {
        printf("the libraries already have memory\n");
        return 1;
    }
    Suite *suite = suite_create("tls_mem");
    TCase *tc = tcase_create("memory");
    tcase_set_timeout(tc, 100);
    tcase_add_test(tc, blocks);
    tcase_add_test(tc, growing);
    tcase_add_test(tc, no_key_in_a_dump);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
