/* Invocations as JSON: the one place that knows the shape. */
#pragma once

#include "store/store.h"

/* Appends the invocation object: id, task, status, hold, priority, [args, result,]
 * error, attempt, max_retries, timeout, retention, created_at, run_at,
 * started_at, finished_at, expires_at, deadline, cancel_requested_at, labels, key,
 * worker, group, index, parent, step, cached_from, [after, waiting_for,] loop, iteration, progress. `payloads` false leaves out what
 * stands in brackets (basic view). */
void view_invocation(struct buf *out, const struct invocation *row, const char *task, bool payloads);

/* {id, status}. */
void view_minimal(struct buf *out, int64_t id, enum status status);

/* An attempt: {attempt, status, started_at, finished_at, worker, error}. */
void view_attempt(struct buf *out, const struct attempt_row *row);

/* A message: {seq, kind, invocation, at, body}. On one line: line breaks outside
 * strings are spaces. */
void view_message(struct buf *out, const struct message *message, bool on_one_line);

/* "scheduled":0,"queued":2,...: every status, without braces. */
void view_counts(struct buf *out, const int64_t counts[STATUS_SLOTS]);

/* A quoted time, and a quoted id: null for 0. */
void view_time(struct buf *out, int64_t at_ms);
void view_id(struct buf *out, int64_t id);

/* A text as a string, and JSON as it is: null if absent. */
void view_text(struct buf *out, struct span text);
void view_json(struct buf *out, struct span json);

/* The fewest digits that read back as the same number; null if it is none. */
void view_number(struct buf *out, double value);
