/* Reading one invocation: its row, payloads, attempts, log. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "store/status.h"

struct store;
struct reader;
struct ready;

/* A read-only connection, for one thread at a time. */
MUST_USE enum err reader_open(struct store *store, struct reader **out, struct reason *why);
void reader_close(struct reader *reader); /* takes NULL */

/* For a thread that must not be held up: from now on a row of which something
 * stands outside it is ERR_LIMIT with VIEW_FULL. Other readers have no such limit. */
void reader_be_brief(struct reader *reader);
bool reader_is_brief(const struct reader *reader);

/* How many rows it has seen so far, ends of results included. */
int64_t reader_rows_seen(const struct reader *reader);

enum view { VIEW_BASIC /* without args and result */, VIEW_FULL };

enum { WAITING_FOR_MAX = 100 };

/* A row. Spans live until the next call on the reader, or until the row
 * function returns. */
struct invocation {
    int64_t id;
    int task;
    enum status status;
    int priority, attempt, max_retries, failures, recoveries;
    int64_t timeout_ms, retention_ms;
    int64_t run_at, started_at, finished_at, expires_at, cancel_requested_at; /* 0: absent */
    bool has_progress;
    double progress;
    struct span progress_note, args, labels, key, worker, result, error; /* absent: null */
    int64_t parent;                                                      /* 0: it is nobody's child */
    int64_t loop, iteration;    /* whose iteration it is, 0: none's; and which, the first is 1 */
    struct span step;           /* its name in its parent */
    const int64_t *waiting_for; /* VIEW_FULL: what it waits for and is not final, at most WAITING_FOR_MAX of it; */
    int waiting_for_count;      /* lives as long as the spans do */
    int turns;                  /* VIEW_FULL: how many have suspended */
    int64_t wakes_at;           /* VIEW_FULL: the time that wakes it; 0: none */
    int64_t group;              /* it is a member of; 0: of none */
    int index;                  /* there, from 0 */
    unsigned holds;             /* what holds it: bits of enum hold_reason; 0: it is not held */
    const int64_t *after;       /* VIEW_FULL: what it comes after; lives as long as the spans do */
    int after_count;
    bool composed;                 /* its arguments are made of others' results, or its group's, when it starts */
    int64_t deadline;              /* when it must be final; 0: no such time */
    int64_t cached_from;           /* whose result it has got; 0: nobody's */
    bool has_steps, has_suspended; /* it may have some (step.h); it has, once or more (suspend.h) */
};

MUST_USE enum err reader_get(struct reader *reader, int64_t id, enum view view, struct invocation *out);

/* How many submissions of a task were answered with a kept result. */
MUST_USE enum err reader_cache_hits(struct reader *reader, int task, int64_t *hits);

/* When it must be final; 0: no such time. */
MUST_USE enum err reader_deadline(struct reader *reader, int64_t id, int64_t *at);

/* Arguments (kind 1) or result (2) that stand outside the row, appended. */
MUST_USE enum err reader_payload(struct reader *reader, int64_t id, int kind, struct buf *out);

/* By idempotency key; the digest is copied out. */
MUST_USE enum err reader_find_key(struct reader *reader, struct span owner, struct span key, int64_t *id,
                                  uint8_t digest[32]);

struct attempt_row {
    int attempt;
    enum status status;
    int64_t started_at, finished_at;
    struct span worker, error;
};
/* All of them, the current or last included, oldest first. ERR_NOT_FOUND. */
MUST_USE enum err reader_attempts(struct reader *reader, int64_t id,
                                  void (*row)(void *context, const struct attempt_row *row), void *context);

/* The log as one run of bytes: all attempts in order, or one (attempt > 0).
 * Appends at most `limit` bytes from `offset`; *total is its length now. */
MUST_USE enum err reader_log(struct reader *reader, int64_t id, int attempt, int64_t offset, int64_t limit,
                             struct buf *out, int64_t *total);

/* How many pieces of a local attempt's output there are: the next one's number. */
MUST_USE enum err reader_log_pieces(struct reader *reader, int64_t id, int attempt, int64_t *count);

/* For following: appends the pieces after `*seq` (start with 0), at most about
 * `limit` bytes, and moves `*seq` on. */
MUST_USE enum err reader_log_after(struct reader *reader, int64_t id, int attempt, int64_t *seq, int64_t limit,
                                   struct buf *out);
