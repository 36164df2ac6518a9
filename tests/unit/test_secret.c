/*
 * secret memory: what the kernel is told of its pages, that blocks are zeros when they are taken
 * and when they are given back, and what happens at the limits.
 */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "core/base/secret.h"

#ifdef CULVERT_SANITIZED
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

#define LARGE (1u << 20) /* mapped alone */

static const size_t sizes[] = { 0,    1,    15,    16,     17,     31,     48,   49,
                                1000, 4096, 65536, 131056, 131057, 500000, LARGE };

static bool all_are(const uint8_t *bytes, size_t size, uint8_t value)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

/* Blocks */

START_TEST(blocks_are_zeros)
{
    uint8_t *block[ARRAY_SIZE(sizes)];

    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            block[i] = secret_alloc(sizes[i]);
            ck_assert_ptr_nonnull(block[i]);
            ck_assert_uint_eq((uintptr_t)block[i] % 16, 0);
            ck_assert(all_are(block[i], sizes[i], 0));
            memset(block[i], (int)i + 1, sizes[i]);
        }
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            ck_assert(all_are(block[i], sizes[i], (uint8_t)(i + 1)));
            secret_free(block[i]);
        }
    }
    secret_free(NULL);
}
END_TEST

START_TEST(no_room)
{
    ck_assert_ptr_null(secret_alloc(SIZE_MAX));
    ck_assert_ptr_null(secret_alloc(SIZE_MAX / 2 + 1));
}
END_TEST

START_TEST(growing)
{
    uint8_t *block = secret_realloc(NULL, 1);

    ck_assert_ptr_nonnull(block);
    block[0] = 7;
    for (size_t size = 2; size < 400000; size = size * 3 / 2 + 1) {
        block = secret_realloc(block, size);
        ck_assert_ptr_nonnull(block);
        ck_assert_uint_eq(block[0], 7);
        block[size - 1] = 9;
        block[0] = 7;
    }
    block = secret_realloc(block, 10);
    ck_assert_uint_eq(block[0], 7);
    ck_assert_ptr_null(secret_realloc(block, 0));
}
END_TEST

START_TEST(copies)
{
    uint8_t from[100], to[100] = { 0 };

    for (size_t i = 0; i < sizeof(from); i++)
        from[i] = (uint8_t)(i + 1);
    secret_copy(to, from, 0);
    ck_assert(all_are(to, sizeof(to), 0));
    secret_copy(to + 1, from, 98);
    ck_assert_mem_eq(to + 1, from, 98);
    ck_assert_uint_eq(to[0] + to[99], 0);
}
END_TEST

/* The pages stay mapped, and can be looked at. */
START_TEST(free_wipes)
{
    static const size_t small[] = { 1, 32, 1000, 65536, 100000 };

    for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
        uint8_t *block = secret_alloc(small[i]);
        memset(block, 0xa5, small[i]);
        secret_free(block);
        ck_assert(all_are(block, small[i], 0));
    }
}
END_TEST

START_TEST(realloc_wipes)
{
    uint8_t *small = secret_alloc(100);

    memset(small, 0xa5, 100);
    uint8_t *large = secret_realloc(small, 5000);
    ck_assert_ptr_ne(small, large);
    ck_assert(all_are(small, 100, 0));
    ck_assert(all_are(large, 100, 0xa5));
    uint8_t *alone = secret_realloc(large, LARGE);
    ck_assert(all_are(large, 5000, 0));
    ck_assert(all_are(alone, 100, 0xa5));
    secret_free(alone);
}
END_TEST

START_TEST(freed_twice)
{
    void *block = secret_alloc(10);

    secret_free(block);
    secret_free(block);
}
END_TEST

START_TEST(freed_by_a_stranger)
{
    uint64_t other[8] = { 0 };

    secret_free(other + 4);
}
END_TEST

#ifdef CULVERT_DEBUG
START_TEST(written_after_free)
{
    uint8_t *block = secret_alloc(100);

    secret_free(block);
    block[50] = 1;
    secret_alloc(100);
}
END_TEST
#endif

/* Threads */

#define THREADS 8
#define KEPT    16

static char changed[] = "a block is not what was written";
static char dirty[] = "a fresh block is not zeros";

static void *churn(void *arg)
{
    uint8_t *kept[KEPT] = { NULL };
    size_t size[KEPT] = { 0 };
    unsigned seed = (unsigned)(uintptr_t)arg;
    uint8_t mark = (uint8_t)(seed + 1);

    for (int i = 0; i < 20000; i++) {
        if (i % 500 == 0)
            secret_age();
        (void)secret_trim();
        unsigned at = (unsigned)rand_r(&seed) % KEPT;
        if (!all_are(kept[at], size[at], mark))
            return changed;
        size_t want = (size_t)rand_r(&seed) % 600;
        if (rand_r(&seed) % 3 == 0) {
            kept[at] = secret_realloc(kept[at], want);
        } else {
            secret_free(kept[at]);
            kept[at] = secret_alloc(want);
            if (!all_are(kept[at], want, 0))
                return dirty;
        }
        size[at] = kept[at] != NULL ? want : 0;
        memset(kept[at] != NULL ? kept[at] : &(uint8_t){ 0 }, mark, size[at]);
    }
    for (unsigned at = 0; at < KEPT; at++)
        secret_free(kept[at]);
    return NULL;
}

START_TEST(threads)
{
    pthread_t thread[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, churn, (void *)i), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        ck_assert_msg(wrong == NULL, "%s", (const char *)wrong);
    }
}
END_TEST

/* Pages */

struct facts {
    char flags[512]; /* " rd wr ... " */
    unsigned long resident, locked;
};

/* Of the mapping that an address is in. */
static struct facts facts_of(const void *address)
{
    struct facts facts = { .resident = 0 };
    unsigned long from, to, at = (unsigned long)address;
    bool inside = false;
    char line[512];
    FILE *f = fopen("/proc/self/smaps", "r");

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = at >= from && at < to;
        if (!inside)
            continue;
        sscanf(line, "Rss: %lu", &facts.resident);
        sscanf(line, "Locked: %lu", &facts.locked);
        if (strncmp(line, "VmFlags:", 8) == 0)
            snprintf(facts.flags, sizeof(facts.flags), "%s", line + 8);
    }
    fclose(f);
    ck_assert(facts.flags[0] != '\0');
    return facts;
}

static bool has(const struct facts *facts, const char *flag)
{
    char word[8];

    snprintf(word, sizeof(word), " %s ", flag);
    return strstr(facts->flags, word) != NULL;
}

START_TEST(pages_are_hidden_and_locked)
{
    static const size_t some[] = { 10, 100000, LARGE };

    for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
        uint8_t *block = secret_alloc(some[i]);
        block[some[i] - 1] = 1;
        struct facts facts = facts_of(block);
        ck_assert_msg(has(&facts, "dd"), "dumped: %s", facts.flags);
        ck_assert_msg(has(&facts, "wf"), "inherited: %s", facts.flags);
        ck_assert_msg(has(&facts, "lo"), "not locked: %s", facts.flags);
        ck_assert_uint_gt(facts.resident, 0);
        ck_assert_uint_eq(facts.locked, facts.resident);
        secret_free(block);
    }
}
END_TEST

/* A block costs the pages that are touched, not those that are locked or could be. */
START_TEST(pages_are_touched_when_used)
{
    uint8_t *block = secret_alloc(8 * LARGE);

    ck_assert_uint_le(facts_of(block).resident, 16);
    memset(block, 1, LARGE);
    ck_assert_uint_ge(facts_of(block).resident, LARGE / 1024);
    ck_assert_uint_le(facts_of(block).resident, LARGE / 1024 + 16);
    secret_free(block);
}
END_TEST

static bool is_mapped(const void *block)
{
    unsigned char resident[1];
    uintptr_t page = (uintptr_t)block & ~(uintptr_t)4095;

    return mincore((void *)page, 1, resident) == 0;
}

/* A storm, of which a block in five thousand stays: the memory of all others goes, when they have
 * not been used for a whole period; that one is what it was, and there may be another storm. */
START_TEST(a_storm_is_given_back)
{
    enum { COUNT = 20000, LIVES = 11 };
    static uint8_t *blocks[COUNT];
    unsigned gone = 0;

    for (unsigned storm = 0; storm < 3; storm++) {
        for (unsigned i = 0; i < COUNT; i++) {
            blocks[i] = secret_alloc(1000);
            ck_assert(blocks[i] != NULL && all_are(blocks[i], 1000, 0));
            memset(blocks[i], 0xa5, 1000);
        }
        for (unsigned i = 0; i < COUNT; i++)
            if (i % 5000 != LIVES)
                secret_free(blocks[i]);
        secret_age();
        ck_assert(!secret_trim()); /* not yet a whole period */
        ck_assert(secret_is_warm());
        secret_age();
        while (secret_trim()) {}
        ck_assert(!secret_is_warm());
        gone = 0;
        for (unsigned i = 0; i < COUNT; i++)
            gone += !is_mapped(blocks[i]);
        ck_assert_uint_ge(gone,
                          COUNT / 2); /* 20 chunks, five with a block in use or to carve from */
        for (unsigned i = LIVES; i < COUNT; i += 5000) {
            ck_assert(all_are(blocks[i], 1000, 0xa5));
            secret_free(blocks[i]);
        }
    }
}
END_TEST

START_TEST(fork_inherits_zeros)
{
    uint8_t *block = secret_alloc(100), *free_one = secret_alloc(100);
    int status;

    memset(block, 0xa5, 100);
    secret_free(free_one); /* the child finds it in the list */
    pid_t child = fork();
    if (child == 0) {
        uint8_t *own = secret_alloc(100), *other = secret_alloc(100);
        _exit(all_are(block, 100, 0) && own != NULL && all_are(own, 100, 0) && other != NULL &&
                      other != own
                  ? 0
                  : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(all_are(block, 100, 0xa5));
    secret_free(block);
}
END_TEST

/* Limits */

START_TEST(no_memory)
{
    struct rlimit limit = { 256u << 20, 256u << 20 };
    uint8_t *block = secret_alloc(200000);

    memset(block, 7, 200000);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    ck_assert_ptr_null(secret_alloc((size_t)1 << 30));
    ck_assert_ptr_null(secret_realloc(block, (size_t)1 << 30));
    ck_assert(all_are(block, 200000, 7));
    /* Small blocks, until there is no chunk for them either. */
    for (void *next = block; next != NULL;)
        next = secret_alloc(100000);
    secret_free(block);
}
END_TEST

/* As an ordinary user, whom the limit binds, with standard error in a file. */
static FILE *be_ordinary(rlim_t soft, rlim_t hard)
{
    struct rlimit limit = { soft, hard };
    FILE *words = tmpfile();

    ck_assert_ptr_nonnull(words);
    ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(setuid(65534), 0);
    ck_assert_int_ge(dup2(fileno(words), STDERR_FILENO), 0);
    return words;
}

static unsigned warnings(FILE *words)
{
    char line[1024];
    unsigned count = 0;

    rewind(words);
    while (fgets(line, sizeof(line), words) != NULL)
        count += strstr(line, "LimitMEMLOCK=") != NULL && strstr(line, "WARN") != NULL;
    return count;
}

START_TEST(warns_once_when_not_locked)
{
    FILE *words = be_ordinary(0, 0);
    uint8_t *block = secret_alloc(100);

    block[0] = 1;
    ck_assert_ptr_nonnull(secret_alloc(LARGE));
    struct facts facts = facts_of(block);
    ck_assert(!has(&facts, "lo") && has(&facts, "dd") && has(&facts, "wf"));
    ck_assert_uint_eq(warnings(words), 0); /* the log is not set up */
    secret_warn();
    ck_assert_uint_eq(warnings(words), 1);
    ck_assert_ptr_nonnull(secret_alloc(LARGE));
    secret_warn();
    ck_assert_uint_eq(warnings(words), 1);
}
END_TEST

START_TEST(warns_when_it_happens)
{
    FILE *words = be_ordinary(2 * LARGE, 2 * LARGE);

    secret_warn();
    ck_assert_ptr_nonnull(secret_alloc(100));
    ck_assert_uint_eq(warnings(words), 0);
    ck_assert_ptr_nonnull(secret_alloc(LARGE));
    ck_assert_ptr_nonnull(secret_alloc(LARGE));
    ck_assert_uint_eq(warnings(words), 1);
}
END_TEST

START_TEST(raises_the_limit_as_far_as_it_may)
{
    FILE *words = be_ordinary(0, 8 * LARGE);
    uint8_t *block = secret_alloc(100);

    secret_warn();
    block[0] = 1;
    struct facts facts = facts_of(block);
    ck_assert_msg(has(&facts, "lo"), "not locked: %s", facts.flags);
    ck_assert_uint_eq(warnings(words), 0);
}
END_TEST

static void add_real(TCase *tc)
{
    tcase_add_test(tc, free_wipes);
    tcase_add_test(tc, realloc_wipes);
    tcase_add_test_raise_signal(tc, freed_twice, SIGABRT);
    tcase_add_test_raise_signal(tc, freed_by_a_stranger, SIGABRT);
#ifdef CULVERT_DEBUG
    tcase_add_test_raise_signal(tc, written_after_free, SIGABRT);
#endif
    tcase_add_test(tc, pages_are_hidden_and_locked);
    tcase_add_test(tc, pages_are_touched_when_used);
    tcase_add_test(tc, a_storm_is_given_back);
    tcase_add_test(tc, fork_inherits_zeros);
    tcase_add_test(tc, no_memory);
    tcase_add_test(tc, warns_once_when_not_locked);
    tcase_add_test(tc, warns_when_it_happens);
    tcase_add_test(tc, raises_the_limit_as_far_as_it_may);
}

int main(void)
{
    Suite *suite = suite_create("secret");
    TCase *tc = tcase_create("memory");

    tcase_add_test(tc, blocks_are_zeros);
    tcase_add_test(tc, growing);
    tcase_add_test(tc, copies);
    tcase_add_test(tc, threads);
    tcase_add_test(tc, no_room);
    if (sanitized) /* malloc instead, which the sanitizer watches by itself */
        printf("a sanitized build keeps its own malloc: its pages are not looked at\n");
    else
        add_real(tc);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
