/*
 * A latency histogram with logarithmic buckets, in the manner of HdrHistogram: 128 linear steps per
 * power of two, so that every 64-bit value is kept within 0.8 %, in a fixed 59 KiB and
 * without allocation.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_STEP_BITS = 7,
    HISTOGRAM_STEPS = 1 << HISTOGRAM_STEP_BITS,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS,
};

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t min;
    uint64_t max;
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

/* Counts one value (nanoseconds here, but any unit will do). */
void histogram_record(struct histogram *h, uint64_t value);

/* The smallest value that `share` (0 to 1) of the recorded ones do not exceed, rounded up to its
 * bucket's end but never above the maximum; 0 when nothing was recorded. */
uint64_t histogram_at(const struct histogram *h, double share);

/* Arithmetic mean, 0 when nothing was recorded. */
double histogram_mean(const struct histogram *h);

#endif
