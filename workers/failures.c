#include "workers/failures.h"

#include "base/buf.h"

#include <stdlib.h>

bool failures_may_log(struct failures *failures, int task, int64_t now_us, int *left_out)
{
    if (task >= failures->count) {
        int count = task + 64;
        failures->of = xrealloc(failures->of, (size_t)count * sizeof *failures->of);
        memset(failures->of + failures->count, 0, (size_t)(count - failures->count) * sizeof *failures->of);
        failures->count = count;
    }
    struct failures_of *of = &failures->of[task];
    if (now_us >= of->until_us) {
        of->until_us = now_us + FAILURES_EVERY_US;
        of->lines = 0;
    }
    if (of->lines == FAILURES_MAX) {
        of->left_out++;
        return false;
    }
    of->lines++;
    *left_out = of->left_out;
    of->left_out = 0;
    return true;
}

void failures_release(struct failures *failures)
{
    free(failures->of);
    *failures = (struct failures){0};
}
