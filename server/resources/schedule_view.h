/* A schedule as JSON: the one place that knows the shape. */
#pragma once

#include "store/store.h"

/* Appends {name, what its definition says, words, source, paused, next_run_at, last_run_at, last_invocation,
 * waiting_since, skipped, problem}. */
void view_schedule(struct buf *out, const struct schedule *row);
