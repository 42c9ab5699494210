#include "workers/histogram.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static bool within_5_percent(double got, double wanted)
{
    return got >= wanted / 1.05 && got <= wanted * 1.05;
}

Test(histogram, quantiles_are_right_to_5_percent)
{
    static const struct {
        double q, us;
    } rows[] = {{0.01, 10}, {0.5, 500}, {0.9, 900}, {0.99, 990}, {1, 1000}};
    struct histogram *histogram = calloc(1, sizeof *histogram);
    for (int us = 1; us <= 1000; us++)
        histogram_add(histogram, us);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect(within_5_percent(histogram_quantile(histogram, rows[i].q), rows[i].us), "%g: %g", rows[i].q,
                  histogram_quantile(histogram, rows[i].q));
    free(histogram);
}

Test(histogram, an_empty_one_says_0)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    cr_expect_eq(histogram_quantile(histogram, 0.5), 0);
    free(histogram);
}

Test(histogram, what_is_beyond_the_buckets_stands_in_the_first_or_the_last)
{
    static const struct {
        int64_t us;
        double least, most;
    } rows[] = {{INT64_MIN, 0.9, 1.1}, {0, 0.9, 1.1}, {1, 0.9, 1.1}, {INT64_MAX, 6e10, 8e10}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct histogram *histogram = calloc(1, sizeof *histogram);
        histogram_add(histogram, rows[i].us);
        double us = histogram_quantile(histogram, 1);
        cr_expect(us >= rows[i].least && us <= rows[i].most, "%lld: %g", (long long)rows[i].us, us);
        free(histogram);
    }
}

/* Counters of 32 bits wrapped after half a day at 100,000 a second; the median
 * was then the last bucket's, 19 hours. */
Test(histogram, five_billion_in_one_bucket_do_not_wrap)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    int bucket = 0;
    histogram_add(histogram, 100);
    while (!histogram->counts[bucket])
        bucket++;
    histogram->counts[bucket] = UINT64_C(4294967296);
    histogram->total = UINT64_C(4294967296);
    cr_expect(within_5_percent(histogram_quantile(histogram, 0.5), 100));
    free(histogram);
}
