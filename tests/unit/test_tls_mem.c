/*
 * Secrets and core dumps: after handshakes and key updates, no page that a core dump would contain
 * holds a key or a traffic secret of a lane, and none at all once the lane is gone; nor a private
 * key, once it was read or used. What is left on the stack is looked at far below the depth that is
 * wiped.
 *
 * Needs a program linked with -z now, as the project's are: lazy binding saves vector registers on
 * the stack.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>
#include <sys/uio.h>

#include "unit/test_tls_certs.h"
#include "unit/tls_util.h"

#include "core/mux/crypt.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/secret.h"
#include "tls/record_impl.h"
#include "tls/tls_impl.h"

#define DEEP (256u * 1024) /* of the stack, below the caller */
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

/* What the test itself has left there. */
static __attribute__((noinline)) void deep_wipe(void)
{
    uint8_t frames[DEEP];

    explicit_bzero(frames, sizeof(frames));
}

static uint8_t *snapshot; /* of the stack */

/* What a function that has just returned has left there. */
static __attribute__((noinline)) void take_snapshot(void)
{
    const volatile uint8_t *top = __builtin_frame_address(0);

    for (size_t i = 0; i < DEEP; i++)
        snapshot[i] = top[i - DEEP];
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

/* How often the needle is in writable memory, in pages that dumps contain or in those that they do
 * not ("dd" of smaps). */
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

/* Private keys */

#define KEY_PIECES 40

/* What is looked for of a key: all its secret numbers, in pieces of 16 bytes, in both byte
 * orders. */
struct key_needles {
    struct needle needle[KEY_PIECES * 2];
    int count;
};

static void needles_add(struct key_needles *needles, uint8_t *number, size_t size)
{
    for (int order = 0; order < 2; order++) {
        for (size_t at = 0; at + 16 <= size; at += 16) {
            ck_assert_int_lt(needles->count,
                             (int)(sizeof(needles->needle) / sizeof(needles->needle[0])));
            needle_take(&needles->needle[needles->count++], number + at);
        }
        for (size_t i = 0; i < size / 2; i++) {
            uint8_t swap = number[i];
            number[i] = number[size - 1 - i];
            number[size - 1 - i] = swap;
        }
    }
}

static void needles_add_bn(struct key_needles *needles, const EVP_PKEY *key, const char *name,
                           int size)
{
    BIGNUM *bn = NULL;
    uint8_t *number = secret_alloc(512);

    ck_assert_int_eq(EVP_PKEY_get_bn_param(key, name, &bn), 1);
    ck_assert_int_eq(BN_bn2binpad(bn, number, size), size);
    needles_add(needles, number, (size_t)size);
    BN_clear_free(bn);
    secret_free(number);
}

static void needles_of(struct key_needles *needles, const EVP_PKEY *key)
{
    uint8_t *seed = secret_alloc(32);
    size_t size = 32;

    needles->count = 0;
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC:
        needles_add_bn(needles, key, "priv", 32);
        break;
    case EVP_PKEY_RSA:
        needles_add_bn(needles, key, "d", 256);
        needles_add_bn(needles, key, "rsa-factor1", 128);
        needles_add_bn(needles, key, "rsa-factor2", 128);
        break;
    default:
        ck_assert_int_eq(EVP_PKEY_get_raw_private_key(key, seed, &size), 1);
        needles_add(needles, seed, size);
    }
    secret_free(seed);
}

static const char *const key_kinds[] = { "EC", "RSA", "ED25519" };

static EVP_PKEY *key_make(int kind)
{
    switch (kind) {
    case 0:
        return EVP_EC_gen("P-256");
    case 1:
        return EVP_RSA_gen(2048);
    default:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    }
}

/* A CA, and a certificate with a key of this kind, in secret memory: struct made has the keys'
 * texts. */
static void make_both(int kind, struct made *ca, struct made *made)
{
    struct made *key = secret_alloc(sizeof(*key));

    key->key = key_make(kind);
    make(ca, &(struct spec){ "CA", NULL, -3600, 3600, NULL, NULL, true, false, NULL });
    make(made, &(struct spec){ "box", "DNS:localhost", -3600, 3600, ca, NULL, false, false, key });
    made_drop(key);
    secret_free(key);
}

static void assert_hidden(const struct key_needles *needles, const char *kind, const char *when)
{
    for (int i = 0; i < needles->count; i++)
        ck_assert_msg(count(&needles->needle[i], true) == 0, "%s key: piece %d is in a dump %s",
                      kind, i, when);
}

START_TEST(no_private_key_in_a_dump)
{
    struct made *ca = secret_alloc(sizeof(*ca)), *made = secret_alloc(sizeof(*made));
    struct key_needles needles;
    struct record *c, *s;

    make_both(_i, ca, made);
    needles_of(&needles, made->key);
    deep_wipe(); /* what the test itself has left */
    assert_hidden(&needles, key_kinds[_i], "before");
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(made->cert_pem),
                                       .key = pem_of(made->key_pem) };
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(ca->cert_pem) };
    struct tls_ctx *server_side = ctx_make(&server);
    assert_hidden(&needles, key_kinds[_i], "after it was read");
    int found = 0;
    for (int i = 0; i < needles.count; i++)
        found += count(&needles.needle[i], false);
    ck_assert_int_gt(found, 0); /* the search works */
    struct tls_ctx *client_side = ctx_make(&client);
    shake(client_side, server_side, "localhost", &c, &s);
    assert_hidden(&needles, key_kinds[_i], "after a handshake");
    record_free(c);
    record_free(s);
    tls_ctx_unref(client_side);
    tls_ctx_unref(server_side);
    made_drop(made);
    made_drop(ca);
    secret_free(made);
    secret_free(ca);
    for (int i = 0; i < needles.count; i++)
        ck_assert_msg(count(&needles.needle[i], false) == 0, "%s key: piece %d outlives it",
                      key_kinds[_i], i);
}
END_TEST

/* With everything still to be taken out of it: the last step of either side was the last thing that
 * happened. */
START_TEST(a_handshake_leaves_no_key)
{
    struct made *ca = secret_alloc(sizeof(*ca)), *made = secret_alloc(sizeof(*made));
    struct record_keys *keys = secret_alloc(sizeof(*keys));
    struct key_needles needles;

    make_both(_i, ca, made);
    needles_of(&needles, made->key);
    const struct tls_config server = { .role = TLS_SERVER,
                                       .cert = pem_of(made->cert_pem),
                                       .key = pem_of(made->key_pem) };
    const struct tls_config client = { .role = TLS_CLIENT, .ca = pem_of(ca->cert_pem) };
    struct tls_ctx *server_side = ctx_make(&server), *client_side = ctx_make(&client);
    struct tls_handshake *s = tls_handshake_new(server_side, NULL, NULL);
    struct tls_handshake *c = tls_handshake_new(client_side, "localhost", NULL);
    deep_wipe();
    pump(c, s, 65536);
    take_snapshot();
    ck_assert_int_eq(tls_handshake_step(c), TLS_DONE);
    tls_handshake_keys(c, keys);
    needles_add(&needles, keys->tx.key, 16);
    needles_add(&needles, keys->rx.key, 16);
    needles_add(&needles, keys->tx.secret, 32);
    needles_add(&needles, keys->rx.secret, 32);
    for (int i = 0; i < needles.count; i++)
        ck_assert_msg(count_in(snapshot, snapshot + DEEP, &needles.needle[i]) == 0, "piece %d", i);
    tls_handshake_free(c);
    tls_handshake_free(s);
    tls_ctx_unref(client_side);
    tls_ctx_unref(server_side);
    made_drop(made);
    made_drop(ca);
    secret_free(keys);
    secret_free(made);
    secret_free(ca);
}
END_TEST

/* The first call makes the keys, the second one keeps them. */
START_TEST(gen_cert_leaves_no_key)
{
    struct scratch scratch;
    struct key_needles needles;
    char why[512] = "", *text;
    size_t size;

    scratch_make(&scratch);
    const struct tls_gen gen = { .dir = scratch.dir };
    ck_assert_int_eq(_i == 0 ? unlink(scratch.key) : 0, 0);
    deep_wipe();
    bool made = tls_gen_cert(&gen, why, sizeof(why));
    take_snapshot();
    ck_assert_msg(made, "%s", why);
    ck_assert_int_eq(file_read(scratch.key, &text, &size), 0);
    BIO *bio = BIO_new_mem_buf(text, (int)size);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    needles_of(&needles, key);
    for (int i = 0; i < needles.count; i++)
        ck_assert_int_eq(count_in(snapshot, snapshot + DEEP, &needles.needle[i]), 0);
    EVP_PKEY_free(key);
    BIO_free(bio);
    file_drop(text);
    scratch_drop(&scratch);
}
END_TEST

/* The stack */

/* A record's key in the stack below, at any place, and word by word as ChaCha20 has it for many
 * blocks. */
static __attribute__((noinline)) bool stack_has(const uint8_t *key, size_t size)
{
    const uint8_t *top = __builtin_frame_address(0);

    for (size_t piece = 0; piece + 4 <= size; piece += 4) {
        for (const volatile uint8_t *p = top - DEEP; p < top - 64; p++) {
            int together = 0, word = 0;
            while (together < 8 && piece + 8 <= size &&
                   p[together] == key[piece + (size_t)together])
                together++;
            while (word < 8 && p[word] == key[piece + (size_t)(word % 4)])
                word++;
            if (together == 8 || word == 8)
                return true;
        }
    }
    return false;
}

static __attribute__((noinline)) uint8_t leave_below(const uint8_t *key)
{
    volatile uint8_t frame[512]; /* deeper than the frame of the search */

    for (size_t i = 0; i < 16; i++)
        frame[i] = key[i];
    return frame[0];
}

START_TEST(search_below)
{
    uint8_t *key = secret_alloc(16);

    ck_assert_int_eq(getrandom(key, 16, 0), 16);
    deep_wipe();
    ck_assert(!stack_has(key, 16));
    uint8_t first = leave_below(key);
    ck_assert(stack_has(key, 16) && first == key[0]);
    tls_mem_wipe_stack();
    ck_assert(!stack_has(key, 16));
    secret_free(key);
}
END_TEST

static uint8_t wire[RECORD_HEAD_MAX + RECORD_PLAIN_MAX + RECORD_TAIL_MAX];

static void make_ends(struct record_keys *keys, struct record **from, struct record **to)
{
    struct record_half_keys *half = secret_alloc(sizeof(*half));

    ck_assert_int_eq(getrandom(keys->tx.key, RECORD_KEY_MAX, 0), RECORD_KEY_MAX);
    *from = record_new(keys);
    *half = keys->rx;
    keys->rx = keys->tx;
    keys->tx = *half;
    *to = record_new(keys);
    secret_free(half);
}

static size_t seal(struct record *from, size_t size, bool in_slices)
{
    static uint8_t plain[RECORD_PLAIN_MAX];
    const struct iovec slices[] = { { plain, size / 2 }, { plain, size - size / 2 } };

    if (in_slices)
        return record_seal_slices(from, RECORD_TYPE_DATA, slices, 2, wire);
    return record_seal(from, RECORD_TYPE_DATA, wire + record_head(from), size);
}

START_TEST(no_key_below_records)
{
    static const size_t some[] = { 1, 16, 64, 65, 128, 129, 200, 257, 513, 1000, 4096, 16384 };
    struct record_keys *keys = secret_alloc(sizeof(*keys));
    struct record *from, *to;
    struct record_in in;

    keys->version = RECORD_TLS13;
    keys->cipher = (enum record_cipher)_i;
    size_t size = record_cipher_key_len(keys->cipher);
    make_ends(keys, &from, &to);
    for (size_t i = 0; i < 2 * sizeof(some) / sizeof(some[0]); i++) {
        deep_wipe();
        size_t n = seal(from, some[i / 2], i % 2 != 0);
        ck_assert_msg(!stack_has(keys->rx.key, size), "sealed %zu", some[i / 2]);
        deep_wipe();
        enum record_status status = record_open(to, wire, wire + n, &in);
        ck_assert_msg(!stack_has(keys->rx.key, size), "opened %zu", some[i / 2]);
        ck_assert_int_eq(status, RECORD_DATA);
    }
    record_free(from);
    record_free(to);
    secret_free(keys);
}
END_TEST

/* HMAC hashes the key xored with a pad, whose words a hash keeps in its frames. */
START_TEST(no_key_below_a_mac)
{
    uint8_t *key = secret_alloc(CRYPT_MAC_SIZE), *padded = secret_alloc(CRYPT_MAC_SIZE);
    uint8_t mac[CRYPT_MAC_SIZE];

    ck_assert_int_eq(getrandom(key, CRYPT_MAC_SIZE, 0), CRYPT_MAC_SIZE);
    deep_wipe();
    crypt_mac(key, "text", 4, mac);
    for (int swap = 0; swap < 2; swap++) {
        ck_assert(!stack_has(key, CRYPT_MAC_SIZE));
        for (int pad = 0x36; pad <= 0x5c; pad += 0x5c - 0x36) {
            for (size_t i = 0; i < CRYPT_MAC_SIZE; i++)
                padded[i] = key[swap ? (i & ~(size_t)3) + 3 - i % 4 : i] ^ (uint8_t)pad;
            ck_assert_msg(!stack_has(padded, CRYPT_MAC_SIZE), "pad %x", (unsigned)pad);
        }
    }
    secret_free(key);
    secret_free(padded);
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
    snapshot = mem_map(DEEP);
    mem_no_dump(snapshot, DEEP);
    Suite *suite = suite_create("tls_mem");
    TCase *tc = tcase_create("memory");
    tcase_set_timeout(tc, 100);
    tcase_add_test(tc, no_key_in_a_dump);
    tcase_add_loop_test(tc, no_private_key_in_a_dump, 0, 3);
    tcase_add_loop_test(tc, gen_cert_leaves_no_key, 0, 2);
    tcase_add_loop_test(tc, a_handshake_leaves_no_key, 0, 3);
    tcase_add_test(tc, search_below);
    tcase_add_loop_test(tc, no_key_below_records, 0, RECORD_CIPHER_COUNT);
    tcase_add_test(tc, no_key_below_a_mac);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
