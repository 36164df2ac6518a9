/* dirs: what is missing is made for the owner alone, what is there stays as it is. */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/dirs.h"

static char base[64];

static void setup(void)
{
    strcpy(base, "/tmp/test_dirs.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    ck_assert_int_eq(chdir(base), 0);
}

static void teardown(void)
{
    rmdir("a/b/c");
    rmdir("a/b");
    rmdir("a");
    unlink("file");
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(rmdir(base), 0);
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    return st.st_mode & 07777;
}

START_TEST(makes_what_is_missing)
{
    ck_assert_int_eq(mkdir("a", 0755), 0);
    ck_assert_int_eq(dirs_make("a/b/c"), 0);
    ck_assert_uint_eq(mode_of("a"), 0755);
    ck_assert_uint_eq(mode_of("a/b"), 0700);
    ck_assert_uint_eq(mode_of("a/b/c"), 0700);
    ck_assert_int_eq(dirs_make("a/b/c"), 0);
    ck_assert_int_eq(dirs_make("a/b/"), 0);
    ck_assert_int_eq(dirs_make(base), 0);
}
END_TEST

START_TEST(says_why_not)
{
    char longer[1024];
    FILE *file = fopen("file", "w");

    ck_assert_ptr_nonnull(file);
    fclose(file);
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    ck_assert_int_eq(dirs_make("file"), -ENOTDIR);
    ck_assert_int_eq(dirs_make("file/below"), -ENOTDIR);
    ck_assert_int_eq(dirs_make(longer), -ENAMETOOLONG);
    ck_assert_int_eq(dirs_make(""), -ENOENT);
}
END_TEST

/* What the first missing one was refused for, not that it is missing. */
START_TEST(says_what_forbids)
{
    int status;

    ck_assert_int_eq(chmod(base, 0755), 0);
    ck_assert_int_eq(mkdir("a", 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresuid(100000, 100000, 100000) != 0))
            _exit(0);
        _exit(-dirs_make("a/b/c"));
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), EACCES);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dirs");
    TCase *tcase = tcase_create("dirs");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, makes_what_is_missing);
    tcase_add_test(tcase, says_why_not);
    tcase_add_test(tcase, says_what_forbids);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
