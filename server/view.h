/* Invocations as JSON: the one place that knows the shape. */
#pragma once

#include "store/store.h"

/* Appends the invocation object: id, task, status, priority, [args, result,]
 * error, attempt, max_retries, timeout, retention, created_at, run_at,
 * started_at, finished_at, expires_at, cancel_requested_at, labels, key,
 * worker, progress. `payloads` false hides args and result (basic view). */
void view_invocation(struct buf *out, const struct invocation *row, const char *task, bool payloads);

/* The same on one line (NDJSON). */
void view_invocation_line(struct buf *out, const struct invocation *row, const char *task, bool payloads);
