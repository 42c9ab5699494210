/* A submission as JSON, read into what the store takes: for POST /tasks with
 * one, and for each line of many. */
#pragma once

#include "base/faults.h"
#include "server/http/request.h"
#include "store/store.h"

/* What surrounds a submission. */
struct submission_context {
    const struct config *config;
    struct span owner; /* the token's name, "" without tokens: idempotency keys are the owner's */
    struct span key;   /* of the Idempotency-Key header; absent if there is none */
    int64_t now_ms;
    struct buf *scratch; /* reused for binding */
};

/* Reads checked JSON. Spans in `out` point into `body`, `context`, and for a
 * key with escapes into `scratch_key`, which the caller keeps until the
 * submission is done. ERR_INVALID with every fault added (JSON Pointers). */
MUST_USE enum err submission_read(const struct submission_context *context, struct span body,
                                  struct submission *out, struct buf *scratch_key, struct faults *faults);

/* False, with s->err as the committer would have it: the task's own row is not on
 * disk yet. For one that was read. */
bool submission_has_task(struct submission *s);

/* The row as it stands after the commit. */
void submission_row(const struct submission *s, struct invocation *row);

/* What to answer when it was not accepted: status and type of the problem, and
 * a sentence. */
struct refusal {
    int status;
    const char *type;
    const char *detail;
};
struct refusal submission_refusal(const struct submission *s, enum err err);
