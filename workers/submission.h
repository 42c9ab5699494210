/* A submission as JSON, read into what the store takes: from a client, one or a
 * line of many, or from the body of a running turn. */
#pragma once

#include "base/faults.h"
#include "store/hold.h"
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

    /* For who reads more than a submission (group_submission.c). Fields that are the caller's:
     * true if this is one, and was taken. NULL: there are none. */
    bool (*beside)(void *of, struct span key, struct span value);
    void *of;
    bool held; /* it may be held at first: its times count from the release, as of one with `after` */
    struct span common_args; /* what its group shares; absent: nothing */
    bool refers;             /* its arguments may name others' results, which the caller checks */
    bool no_task;            /* it is not one submission's */
    bool no_args;            /* submission_read_args() reads them */
    bool no_digest;          /* of a key */
};

/* Reads checked JSON. Spans in `out` point into `body`, `context`, and for a
 * callback, and a key or a step with escapes, into `scratch_key`, which the caller keeps until the
 * submission is done; so long he has what submission_release() frees. ERR_INVALID
 * with every fault added (JSON Pointers); then there is nothing to free. */
MUST_USE enum err submission_read(const struct submission_context *context, struct span body,
                                  struct submission *out, struct buf *scratch_key, struct faults *faults);

/* The arguments alone, of a submission that was read without. ERR_INVALID with every
 * fault added under /args. */
MUST_USE enum err submission_read_args(const struct submission_context *context, const struct task *task,
                                       struct span args, struct submission *out, struct faults *faults);

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

/* Appends the sentence, with the id that it is about. */
void submission_add_detail(struct buf *out, const struct submission *s, const struct refusal *refusal);
