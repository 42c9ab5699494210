/* Which failures get a line in the log: a few of each task in a while, so that
 * one that fails a thousand times a second neither fills the log nor hides what
 * others say.
 *
 * Threads: under the lock of whoever owns it. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { FAILURES_MAX = 10, FAILURES_EVERY_US = 10 * 1000000 };

struct failures {
    struct failures_of {
        int64_t until_us; /* the while ends */
        int lines, left_out;
    } * of; /* by the task's number */
    int count;
};

/* May one more of the task be logged? *left_out says how many were not since the
 * last that was. */
bool failures_may_log(struct failures *failures, int task, int64_t now_us, int *left_out);
void failures_release(struct failures *failures);
