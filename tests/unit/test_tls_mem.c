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
    tcase_add_test(tc, no_key_in_a_dump);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
