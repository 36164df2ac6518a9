/*
 * loadgen: puts a known load on a path and says what came back.
 *
 *     loadgen open  --to H:P --rate R [--connections N] [--seconds S] [--http /path | --size B]
 *     loadgen rr    --to H:P [--connections N] [--seconds S] [--http /path | --size B]
 *     loadgen crr   --to H:P [--connections N] [--seconds S] [--http /path | --size B]
 *     loadgen bulk  --to H:P [--connections N] [--seconds S] [--up]
 *     loadgen hold  --to H:P[,H:P...] --connections N
 *     loadgen stall --to H:P [--connections N]
 *
 * Without --http the far end is bench/origin, whose first byte chooses echo, bulk or sink. --json
 * prints one line for a program. What each mode measures is told in load.h and its file's header.
 */
#include "load.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

struct mode {
    const char *name;
    void (*measure)(const struct load_config *config, struct load_result *result);
    void (*keep)(const struct load_config *config);
};

static const struct mode modes[] = {
    { .name = "open", .measure = load_open }, { .name = "rr", .measure = load_rr },
    { .name = "crr", .measure = load_crr },   { .name = "bulk", .measure = load_bulk },
    { .name = "hold", .keep = load_hold },    { .name = "stall", .keep = load_stall },
};

static const double shares[] = { 0.5, 0.9, 0.99, 0.999 };
static const char *const share_names[] = { "p50", "p90", "p99", "p999" };
enum { SHARES = sizeof(shares) / sizeof(*shares) };

static void report_json(const char *mode, const struct load_result *r)
{
    const struct histogram *h = &r->latency;

    printf(
        "{\"mode\":\"%s\",\"seconds\":%.3f,\"requests\":%llu,\"per_second\":%.1f,\"errors\":%llu,"
        "\"unanswered\":%llu,\"gbit_per_second\":%.3f,\"latency_us\":{\"min\":%.1f,\"mean\":%.1f",
        mode, r->seconds, (unsigned long long)r->requests, (double)r->requests / r->seconds,
        (unsigned long long)r->errors, (unsigned long long)r->late,
        (double)r->bytes * 8e-9 / r->seconds, (double)h->min / 1e3, histogram_mean(h) / 1e3);
    for (int i = 0; i < SHARES; i++)
        printf(",\"%s\":%.1f", share_names[i], (double)histogram_at(h, shares[i]) / 1e3);
    printf(",\"max\":%.1f}}\n", (double)h->max / 1e3);
}

static void report_text(const char *mode, const struct load_result *r)
{
    const struct histogram *h = &r->latency;

    printf("%s: %.1f s", mode, r->seconds);
    if (r->bytes > 0)
        printf(", %.2f Gbit/s", (double)r->bytes * 8e-9 / r->seconds);
    if (h->count > 0)
        printf(", %.0f requests/s", (double)r->requests / r->seconds);
    printf(", %llu errors, %llu unanswered\n", (unsigned long long)r->errors,
           (unsigned long long)r->late);
    if (h->count == 0)
        return;
    printf("latency (us): min %.1f  mean %.1f", (double)h->min / 1e3, histogram_mean(h) / 1e3);
    for (int i = 0; i < SHARES; i++)
        printf("  %s %.1f", share_names[i], (double)histogram_at(h, shares[i]) / 1e3);
    printf("  max %.1f\n", (double)h->max / 1e3);
}

void load_report(const struct load_config *config, const char *mode,
                 const struct load_result *result)
{
    if (config->json)
        report_json(mode, result);
    else
        report_text(mode, result);
}

static void targets_read(struct load_config *config, const char *list)
{
    char text[512];

    if (list == NULL || strlen(list) >= sizeof(text))
        bench_die(0, "--to HOST:PORT is needed");
    memcpy(text, list, strlen(list) + 1);
    for (char *one = strtok(text, ","); one != NULL; one = strtok(NULL, ",")) {
        if (config->to_count == LOAD_TARGETS_MAX)
            bench_die(0, "--to takes at most %d addresses", LOAD_TARGETS_MAX);
        config->to[config->to_count++] = bench_addr(one);
    }
}

static void options_read(struct load_config *config, int argc, char **argv)
{
    const char *to = NULL;
    uint64_t connections = 1, rate = 1000, milliseconds = 0, seconds = 5, warm = 500, size = 64;
    const struct bench_option table[] = {
        { .name = "to", .text = &to, .help = "HOST:PORT; for hold also several, with commas" },
        { .name = "connections", .number = &connections, .help = "how many (1)" },
        { .name = "rate", .number = &rate, .help = "open: requests per second over all (1000)" },
        { .name = "seconds", .number = &seconds, .help = "measured time (5)" },
        { .name = "ms", .number = &milliseconds, .help = "measured time in milliseconds instead" },
        { .name = "warm", .number = &warm, .help = "milliseconds before the measured time (500)" },
        { .name = "http", .text = &config->path, .help = "ask for this path instead of an echo" },
        { .name = "size", .number = &size, .help = "bytes of an echo (64)" },
        { .name = "up", .flag = &config->up, .help = "bulk: towards the origin" },
        { .name = "json", .flag = &config->json, .help = "one line of JSON" },
        { .name = NULL },
    };

    bench_options(argc, argv, 2, table);
    targets_read(config, to);
    config->connections = (unsigned)connections;
    config->rate = (double)rate;
    config->seconds = milliseconds > 0 ? (double)milliseconds / 1e3 : (double)seconds;
    config->warm = (double)warm / 1e3;
    config->size = size;
    if (connections == 0 || rate == 0 || config->seconds <= 0 || size == 0 || size > 1 << 20)
        bench_die(0, "--connections, --rate, --seconds and --size are above 0, --size up to 1m");
}

int main(int argc, char **argv)
{
    static struct load_result result;
    struct load_config config = { 0 };

    signal(SIGPIPE, SIG_IGN);
    bench_raise_files();
    for (unsigned i = 0; argc > 1 && i < sizeof(modes) / sizeof(*modes); i++) {
        if (strcmp(argv[1], modes[i].name) != 0)
            continue;
        options_read(&config, argc, argv);
        if (modes[i].keep != NULL) {
            modes[i].keep(&config);
        } else {
            modes[i].measure(&config, &result);
            load_report(&config, modes[i].name, &result);
        }
        return 0;
    }
    bench_die(0,
              "usage: loadgen open|rr|crr|bulk|hold|stall --to HOST:PORT [options] (open --help)");
}
