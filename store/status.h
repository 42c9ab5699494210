/* The states of an invocation, and which may become which: one table.
 *
 * The numbers are on disk and in the partial indexes; they never change. */
#pragma once

#include "base/buf.h"

enum status {
    STATUS_SCHEDULED = 1, /* eligible at run_at */
    STATUS_QUEUED = 2,    /* eligible now */
    STATUS_RUNNING = 3,   /* an attempt is in progress */
    STATUS_SUCCEEDED = 5, /* final, as are the two that follow */
    STATUS_FAILED = 6,
    STATUS_CANCELLED = 7,
};

enum { STATUS_SLOTS = 8 /* one past the highest, for arrays */ };

/* "scheduled", ...; NULL for a number that is no status. */
const char *status_name(enum status status);
bool status_parse(struct span text, enum status *status);

/* May an invocation go from one to the other? From final states only a retry
 * leads out, to queued. */
bool status_may_become(enum status from, enum status to);

static inline bool status_is_final(enum status status)
{
    return status >= STATUS_SUCCEEDED;
}

/* The k-th status in the order above, 0 when k is past the last: for loops. */
enum status status_at(int k);
