/* Groups and the ends of their members as JSON: the one place that knows their shapes. */
#pragma once

#include "store/group.h"

/* Appends {id, mode, status, open, total, counts, fail_fast, labels, parent, step, release_by,
 * created_at, finished_at}; the brace that ends it is the caller's. */
void group_view_begin(struct buf *out, const struct group_row *row);

/* Its `invocations` and what it shares, and the brace. On a reader thread: they may be many. */
MUST_USE enum err group_view_members(struct buf *out, struct reader *reader, int64_t id);

/* {id, index, [name,] status, result, error}, without the brace that ends it. On one line: line
 * breaks outside strings are spaces. */
void group_view_result(struct buf *out, const struct group_result *row, bool on_one_line);
