/* A submission as JSON, read into what the store takes: from a client, one or a
 * line of many, or from the body of a running turn. */
#pragma once

#include "base/faults.h"
#include "store/store.h"
#include "workers/registry.h"

/* What surrounds a submission. */
struct submission_context {
    const struct registry *registry;
    struct span owner;            /* the token's name, "" without tokens: idempotency keys are the owner's */
    struct span key;              /* of the Idempotency-Key header; absent if there is none */
    int64_t parent, parent_lease; /* the turn that submits; 0: it is a client */
    int64_t now_ms;
    struct buf *scratch; /* reused for binding */
};

/* Reads checked JSON; submission_release() after it was done. Spans in `out` point into `body`, `context`, and for a
 * key or a step with escapes into `scratch_key`, which the caller keeps until the
 * submission is done. ERR_INVALID with every fault added (JSON Pointers). */
MUST_USE enum err submission_read(const struct submission_context *context, struct span body,
                                  struct submission *out, struct buf *scratch_key, struct faults *faults);

/* 1 to STEP_NAME_MAX characters of UTF-8, without NUL. */
bool step_name_is_good(struct span name);

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
