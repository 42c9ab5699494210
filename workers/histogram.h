/* A histogram of durations with buckets of 5 %: quantiles without samples.
 *
 * Threads: none of this locks. */
#pragma once

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 512 }; /* 1 us .. 1.05^511 us, about 18 hours */

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS]; /* 32 bits are full after half a day of short bodies */
    uint64_t total;
};

void histogram_add(struct histogram *histogram, int64_t us);

/* The duration in microseconds below which the share q (0..1) lies, to 5 %; 0
 * if nothing was added. */
double histogram_quantile(const struct histogram *histogram, double q);
