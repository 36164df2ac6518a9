/*
 * Driver for fuzz targets in builds without libFuzzer.
 *
 * A target file defines LLVMFuzzerTestOneInput() and, if it wants, LLVMFuzzerInitialize(). Under
 * the preset "fuzz" libFuzzer calls them; in every other build this file does, so that each test
 * run
 *
 *   1. replays every file of the corpus folder (and an empty input), then
 *   2. makes N inputs from them by seeded mutation and runs those.
 *
 * The same seed gives the same inputs in the same order on every machine, so a failure repeats.
 * Each input is handed over in an allocation of exactly its size, so that AddressSanitizer and
 * valgrind see one byte too many. When a target dies, the input is written to crash-NAME in the
 * current folder and the line that replays it is printed.
 *
 * There is no coverage feedback here: finding new paths is libFuzzer's work, keeping found ones
 * found is this one's. Inputs worth keeping go into the corpus by hand.
 *
 * Usage: fuzz_NAME [--corpus DIR] [--runs N] [--seed N] [FILE...]
 *        With FILEs only those are run. CULVERT_LONG=1 in the environment multiplies the runs by
 *        50.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    INPUT_MAX = 1 << 16, /* bytes of one input; larger corpus files are cut */
    CORPUS_MAX = 4096,   /* files read from the corpus folder */
    MUTATIONS_MAX = 8,   /* mutations applied to one input */
    RUNS_DEFAULT = 20000,
    LONG_FACTOR = 50,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

struct input {
    uint8_t *data;
    size_t size;
};

static struct input corpus[CORPUS_MAX];
static size_t corpus_count;

/* What is running, for the crash writer, which makes nothing itself: it may be in a signal
 * handler. */
static const uint8_t *current_data;
static size_t current_size;
static char crash_name[64];
static char crash_text[512];

static uint64_t seed = 1;
static uint64_t random_state;
static const char *program;

/* splitmix64: any seed is good, one word of state. */
static uint64_t random_next(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Below n; n > 0. */
static size_t random_below(size_t n)
{
    return (size_t)(random_next() % n);
}

/* Called while dying: by a signal, or by the sanitizer's death callback. */
static void crash_write(void)
{
    const uint8_t *data = current_data;
    ssize_t size;
    int fd;

    current_data = NULL;
    if (!data) {
        return;
    }
    fd = open(crash_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return;
    }
    size = write(fd, data, current_size);
    close(fd);
    if (size == (ssize_t)current_size) {
        size = write(STDERR_FILENO, crash_text, strlen(crash_text));
        (void)size; /* nobody is left to tell */
    }
}

static void crash_signal(int number)
{
    crash_write();
    signal(number, SIG_DFL);
    raise(number);
}

static void crash_arm(void)
{
    const char *slash = strrchr(program, '/');

    snprintf(crash_name, sizeof crash_name, "crash-%s", slash ? slash + 1 : program);
    snprintf(crash_text, sizeof crash_text, "\ninput kept, replay: %s %s\n", program, crash_name);
    signal(SIGABRT, crash_signal);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(crash_write);
        return;
    }
    signal(SIGSEGV, crash_signal);
    signal(SIGBUS, crash_signal);
    signal(SIGFPE, crash_signal);
    signal(SIGILL, crash_signal);
}

/* Exits with a sentence: a test that cannot read its corpus must not pass. */
static void die(const char *what, const char *name)
{
    fprintf(stderr, "%s: %s %s: %s\n", program, what, name, strerror(errno));
    exit(2);
}

static struct input input_read(const char *path)
{
    struct input in = { .data = malloc(INPUT_MAX) };
    FILE *file = fopen(path, "rb");

    if (!in.data || !file) {
        die("cannot read", path);
    }
    in.size = fread(in.data, 1, INPUT_MAX, file);
    fclose(file);
    return in;
}

static void input_run(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);

    if (!exact) {
        die("no memory for", "an input");
    }
    memcpy(exact, data, size);
    current_data = exact;
    current_size = size;
    (void)LLVMFuzzerTestOneInput(exact, size);
    current_data = NULL;
    free(exact);
}

static int corpus_compare(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int corpus_wanted(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Reads the folder in the order of names, which the sequence of mutations depends on. */
static void corpus_read(const char *folder)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, corpus_wanted, corpus_compare);

    if (count < 0 && errno == ENOENT) {
        printf("%s: no corpus folder %s, starting from an empty input\n", program, folder);
        return;
    }
    if (count < 0) {
        die("cannot list", folder);
    }
    for (int i = 0; i < count; i++) {
        char path[4096];

        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (corpus_count < CORPUS_MAX) {
            corpus[corpus_count++] = input_read(path);
        }
        free(entries[i]);
    }
    free(entries);
}

/* Numbers at which parsers of lengths, ids and types break. */
static uint64_t number_interesting(void)
{
    static const uint64_t numbers[] = {
        0,         1,         2,          0x7f,       0x80,       0xff,       0x100,
        0x3fff,    0x4000,    0x7fff,     0x8000,     0xffff,     0x10000,    0xffffff,
        0x1000000, 0x1000001, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX, (uint64_t)INT64_MAX,
    };

    return numbers[random_below(sizeof numbers / sizeof numbers[0])];
}

static void mutate_bit(struct input *in)
{
    if (in->size) {
        in->data[random_below(in->size)] ^= (uint8_t)(1u << random_below(8));
    }
}

/* One to eight bytes of a number, most significant first as on the wire, or last. */
static void mutate_number(struct input *in)
{
    size_t width = (size_t)1 << random_below(4);
    bool big = random_below(4) != 0;
    uint64_t value = random_below(3) ? number_interesting() : random_next();
    uint8_t *at;

    if (in->size < width) {
        return;
    }
    at = in->data + random_below(in->size - width + 1);
    for (size_t i = 0; i < width; i++) {
        at[big ? width - 1 - i : i] = (uint8_t)(value >> (8 * i));
    }
}

static void mutate_cut(struct input *in)
{
    size_t at, size;

    if (!in->size) {
        return;
    }
    at = random_below(in->size);
    size = random_below(4) ? 1 + random_below(in->size - at) : in->size - at;
    memmove(in->data + at, in->data + at + size, in->size - at - size);
    in->size -= size;
}

/* Puts `size` bytes of `from` at a random place; does nothing when there is no room. */
static void input_insert(struct input *in, const uint8_t *from, size_t size)
{
    size_t at = random_below(in->size + 1);

    if (size > INPUT_MAX - in->size) {
        return;
    }
    memmove(in->data + at + size, in->data + at, in->size - at);
    memcpy(in->data + at, from, size);
    in->size += size;
}

static void mutate_insert(struct input *in)
{
    uint8_t bytes[32];
    size_t size = 1 + random_below(sizeof bytes);

    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)random_next();
    }
    input_insert(in, bytes, size);
}

/* Part of another corpus file, or of this input itself. */
static void mutate_splice(struct input *in)
{
    static uint8_t part[INPUT_MAX];
    const struct input *from =
        corpus_count && random_below(2) ? &corpus[random_below(corpus_count)] : in;
    size_t at, size;

    if (!from->size) {
        return;
    }
    at = random_below(from->size);
    size = 1 + random_below(from->size - at);
    memcpy(part, from->data + at, size);
    input_insert(in, part, size);
}

static void mutate(struct input *in)
{
    static void (*const kinds[])(struct input *) = {
        mutate_bit, mutate_number, mutate_cut, mutate_insert, mutate_splice,
    };
    size_t count = 1 + random_below(MUTATIONS_MAX);

    for (size_t i = 0; i < count; i++) {
        kinds[random_below(sizeof kinds / sizeof kinds[0])](in);
    }
}

static void mutations_run(uint64_t runs)
{
    static uint8_t buffer[INPUT_MAX];

    random_state = seed;
    for (uint64_t i = 0; i < runs; i++) {
        struct input in = { .data = buffer };

        if (corpus_count) {
            const struct input *from = &corpus[random_below(corpus_count)];

            memcpy(buffer, from->data, from->size);
            in.size = from->size;
        }
        mutate(&in);
        input_run(in.data, in.size);
    }
}

static uint64_t number_argument(const char *flag, const char *text)
{
    char *end;
    uint64_t value;

    errno = 0;
    value = strtoull(text ? text : "", &end, 0);
    if (errno || !text || end == text || *end) {
        fprintf(stderr, "%s: %s needs a number\n", program, flag);
        exit(2);
    }
    return value;
}

static void files_run(char **paths)
{
    for (; *paths; paths++) {
        struct input in = input_read(*paths);

        input_run(in.data, in.size);
        free(in.data);
    }
}

int main(int argc, char **argv)
{
    uint64_t runs = RUNS_DEFAULT;
    int i;

    program = argv[0];
    if (LLVMFuzzerInitialize) {
        LLVMFuzzerInitialize(&argc, &argv);
    }
    if (getenv("CULVERT_LONG")) {
        runs *= LONG_FACTOR;
    }
    for (i = 1; i < argc && argv[i][0] == '-'; i += 2) {
        if (!strcmp(argv[i], "--corpus") && argv[i + 1]) {
            corpus_read(argv[i + 1]);
        } else if (!strcmp(argv[i], "--runs")) {
            runs = number_argument(argv[i], argv[i + 1]);
        } else if (!strcmp(argv[i], "--seed")) {
            seed = number_argument(argv[i], argv[i + 1]);
        } else {
            fprintf(stderr, "usage: %s [--corpus DIR] [--runs N] [--seed N] [FILE...]\n", program);
            return 2;
        }
    }
    crash_arm();
    if (i < argc) {
        files_run(argv + i);
        return 0;
    }
    input_run((const uint8_t *)"", 0);
    for (size_t j = 0; j < corpus_count; j++) {
        input_run(corpus[j].data, corpus[j].size);
    }
    mutations_run(runs);
    printf("%zu corpus files, %" PRIu64 " mutations of seed %" PRIu64 "\n", corpus_count, runs,
           seed);
    for (size_t j = 0; j < corpus_count; j++) {
        free(corpus[j].data);
    }
    return 0;
}
