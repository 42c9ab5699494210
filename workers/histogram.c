#include "workers/histogram.h"

#include <math.h>

#define LOG_STEP 0.04879016416943205 /* ln 1.05 */

void histogram_add(struct histogram *histogram, int64_t us)
{
    int bucket = us <= 1 ? 0 : (int)(log((double)us) / LOG_STEP);
    histogram->counts[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]++;
    histogram->total++;
}

double histogram_quantile(const struct histogram *histogram, double q)
{
    uint64_t seen = 0;
    if (!histogram->total)
        return 0;
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if ((double)seen >= q * (double)histogram->total)
            return exp((i + 0.5) * LOG_STEP); /* the middle of the bucket */
    }
    return exp(HISTOGRAM_BUCKETS * LOG_STEP);
}
