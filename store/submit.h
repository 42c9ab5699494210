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
    int64_t run_at;                       /* 0: now */
    int64_t expires_at;                   /* 0: never */
    int64_t max_queued;                   /* 0: no limit; of the task */
    struct span args;                     /* verbatim JSON, absent if none was given */
    struct span labels;                   /* a JSON object of strings, absent if none */
    int64_t parent, parent_lease;         /* whose turn submits it; 0: nobody's */
    struct span step;                     /* its name there; absent: it has none */
    struct span callback, callback_place; /* a URL that is told of its end, and HOST:PORT of it; absent: none */
    bool detached;                        /* a cancellation of the parent does not reach it */
    bool hold;                            /* a promise: hold.h */
    int64_t release_by;                   /* of a promise; 0: no such time */
    const int64_t *after;                 /* what it comes after: */
    int after_count;                      /* no one twice, at most AFTER_MAX */
    int after_policy;                     /* enum after_policy; 0: AFTER_SUCCESS */
    bool composed;            /* its arguments are made when it starts, of others' results or of its group's */
    int64_t delay_ms;         /* of what is held: from its release, in place of run_at; 0: none */
    int64_t expires_ms;       /* the same in place of expires_at */
    int64_t group;            /* it is one more member of this, which is open; 0: of none */
    struct span name;         /* its name there; absent: none */
    const int *after_members; /* op_group: what it comes after in the group, by index, besides `after` */
    int after_member_count;
    const int64_t *member_ids;    /* op_group's: the ids of the members, */
    int64_t preset_id;            /* and its own; 0: it gets the next one */
    bool held_by_group, is_group; /* op_group's */
    bool is_link;                 /* the same: it comes after the member before it */
    bool may_have_dependents;     /* op_group's: members that come later may come after it */
    struct span key_owner, key;   /* absent key: none; absent owner: nobody, as "" */
    uint8_t key_digest[32];
    uint8_t key_digest_sent[32];     /* as servers digested before: an older row may have it */
    struct particulars *particulars; /* NULL: a plain one; submission_release() frees it */
    /* out */
    int64_t id;
    int index; /* in its group, from 0 */
    enum status status;
    bool replayed;          /* the key was there with the same digest, or the step, or its unique place is taken:
                            * id is the first one's */
    bool not_unique;        /* with ERR_BUSY: another has its unique place, and does not give it */
    int64_t parent_failed;  /* how often, so far */
    bool parent_particular; /* the parent has some of what stands in particulars.h */
    bool parent_cancelled;  /* with ERR_CONFLICT: that is why */
    bool group_closed;      /* the same */
    int64_t missing;        /* with ERR_NOT_FOUND: what is not there, of `after` or `group` */
    enum err err;           /* OK, ERR_MISMATCH (key), ERR_LIMIT (max_queued), ERR_CONFLICT (the parent's turn has
                            * ended or its lease was lost, or it is cancelled), ERR_BUSY (the step is a recorded
                            * value, a group, or it is not unique), ERR_NOT_FOUND (missing) or a fault */
};

/* Submits `count` of them, each on its own; op.err is only a fault. */
struct op_submit {
    struct op op;
    struct submission *items;
    int count;
};
void op_submit_init(struct op_submit *op, struct submission *items, int count);
