/* Making invocations. */
#pragma once

#include "store/op.h"
#include "store/particulars.h"
#include "store/status.h"

enum {
    INLINE_MAX = 1024, /* arguments and results above stand in a table of their own */
    LABELS_MAX = 32,
    LABEL_NAME_MAX = 64, /* characters, as of the next two */
    LABEL_VALUE_MAX = 256,
    KEY_MAX = 255,
    STEP_NAME_MAX = 255, /* too */
};

/* One submission. Spans are borrowed until done(). */
struct submission {
    /* in */
    int task;
    int priority;
    int max_retries;
    int64_t timeout_ms; /* 0: none */
    int64_t retention_ms;
    int64_t run_at;               /* 0: now */
    int64_t expires_at;           /* 0: never */
    int64_t max_queued;           /* 0: no limit; of the task */
    struct span args;             /* verbatim JSON, absent if none was given */
    struct span labels;           /* a JSON object of strings, absent if none */
    int64_t parent, parent_lease; /* whose turn submits it; 0: nobody's */
    struct span step;             /* its name there; absent: it has none */
    bool detached;                /* a cancellation of the parent does not reach it */
    struct span key_owner, key;   /* absent key: none; absent owner: nobody, as "" */
    uint8_t key_digest[32];
    uint8_t key_digest_sent[32];     /* as servers digested before: an older row may have it */
    struct particulars *particulars; /* NULL: a plain one; submission_release() frees it */
    /* out */
    int64_t id;
    enum status status;
    bool replayed;          /* the key was there with the same digest, or the step, or its unique place is taken:
                            * id is the first one's */
    bool not_unique;        /* with ERR_BUSY: another has its unique place, and does not give it */
    int64_t parent_failed;  /* how often, so far */
    bool parent_particular; /* the parent has some of what stands in particulars.h */
    bool parent_cancelled;  /* with ERR_CONFLICT: that is why */
    enum err err;           /* OK, ERR_MISMATCH (key), ERR_LIMIT (max_queued), ERR_CONFLICT (the parent's turn has
                            * ended or its lease was lost, or it is cancelled), ERR_BUSY (the step is a recorded
                            * value, or it is not unique) or a fault */
};

/* Submits `count` of them, each on its own; op.err is only a fault. */
struct op_submit {
    struct op op;
    struct submission *items;
    int count;
};
void op_submit_init(struct op_submit *op, struct submission *items, int count);
