/* What was submitted, finished and failed since the start, and how many a
 * second of late. Fed with what commits changed.
 *
 * Threads: any; one small mutex. */
#pragma once

#include "store/store.h"

struct statistics;

struct statistics *statistics_new(void);
void statistics_free(struct statistics *statistics); /* takes NULL */

/* The store listener's. */
void statistics_changed(struct statistics *statistics, const struct change *changes, int count, int64_t now_ms);

struct statistics_view {
    int64_t submitted, finished, failed;               /* since the start; failed ones are finished too */
    double submitted_rate, finished_rate, failed_rate; /* per second over the last 10, the current one included */
};
void statistics_read(struct statistics *statistics, int64_t now_ms, struct statistics_view *out);
