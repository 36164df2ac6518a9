/*
 * Tests of the parts of loadgen that could be wrong without anybody noticing: the histogram against
 * exact percentiles of the same values, and where a reply ends, cut at every place.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void expect(bool good, const char *what, unsigned long long detail)
{
    if (good)
        return;
    failures++;
    fprintf(stderr, "failed: %s (%llu)\n", what, detail);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* A value of each size of number equally often. */
static uint64_t spread_value(unsigned i)
{
    uint64_t random = (uint64_t)i * 0x9e3779b97f4a7c15u;

    random ^= random >> 29;
    return random >> (i % 60);
}

static void test_percentiles(void)
{
    enum { COUNT = 20000 };
    static struct histogram h;
    static uint64_t values[COUNT];
    static const double shares[] = { 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0 };

    for (unsigned i = 0; i < COUNT; i++) {
        values[i] = spread_value(i);
        histogram_record(&h, values[i]);
    }
    qsort(values, COUNT, sizeof(*values), by_value);
    for (unsigned i = 0; i < sizeof(shares) / sizeof(*shares); i++) {
        uint64_t exact = values[(unsigned)(shares[i] * COUNT + 0.5) - 1];
        uint64_t got = histogram_at(&h, shares[i]);

        expect(got >= exact, "a percentile is never below the exact one", i);
        expect(got - exact <= exact / HISTOGRAM_STEPS, "a percentile is within one step", i);
    }
    expect(h.min == values[0] && h.max == values[COUNT - 1], "minimum and maximum are exact", 0);
}

static void test_edges(void)
{
    static struct histogram h;

    expect(histogram_at(&h, 0.5) == 0, "nothing recorded reads 0", 0);
    histogram_record(&h, UINT64_MAX);
    expect(histogram_at(&h, 0.5) == UINT64_MAX, "the largest value has a bucket", 0);
    for (uint64_t value = 1; value != 0; value <<= 1) {
        static struct histogram one;

        memset(&one, 0, sizeof(one));
        histogram_record(&one, value - 1);
        histogram_record(&one, value);
        expect(histogram_at(&one, 0.5) == value - 1, "neighbours at a power of two stay apart",
               value);
    }
}

/* Feeds the reply in two pieces, cut at `cut`. */
static enum exchange_state feed_cut(const struct load_config *config, const char *reply, size_t cut)
{
    static struct exchange x;
    size_t len = strlen(reply);
    enum exchange_state state;

    exchange_begin(&x, config);
    state = exchange_feed(&x, (const uint8_t *)reply, cut);
    if (cut < len && state != EXCHANGE_MORE)
        return EXCHANGE_BAD;
    return cut < len ? exchange_feed(&x, (const uint8_t *)reply + cut, len - cut) : state;
}

static void test_replies(void)
{
    const struct load_config http = { .path = "/" }, echo = { .size = 5 };
    const char *page = "HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 6\r\n\r\nhello\n";

    for (size_t cut = 1; cut <= strlen(page); cut++)
        expect(feed_cut(&http, page, cut) == EXCHANGE_DONE, "a page ends where it ends", cut);
    for (size_t cut = 1; cut <= 5; cut++)
        expect(feed_cut(&echo, "eeeee", cut) == EXCHANGE_DONE, "an echo ends where it ends", cut);
    expect(feed_cut(&echo, "eeeeee", 6) == EXCHANGE_BAD, "a long echo is wrong", 0);
    expect(feed_cut(&http, "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", 26) == EXCHANGE_BAD,
           "a head without a length is wrong", 0);
    expect(feed_cut(&http, "SSH-2.0-x\r\n\r\n", 13) == EXCHANGE_BAD, "another protocol is wrong",
           0);
}

int main(void)
{
    test_percentiles();
    test_edges();
    test_replies();
    printf("%d failed\n", failures);
    return failures != 0;
}
