/* What a commit did, and who is told of it. */
#pragma once

#include "base/buf.h"
#include "store/status.h"

struct op_refill;

/* What it takes to start a queued invocation. `args` is absent if it stands
 * outside the row: read it with reader_payload(). */
struct ready {
    int64_t id;
    int task;
    int priority;
    int64_t rank;  /* among those of its priority, the lowest first: its id, unless it is older than new work */
    int attempt;   /* starts so far */
    int64_t lease; /* of the last turn, if its holder ended it; else 0 */
    int failures;
    int max_retries;
    int64_t timeout_ms;
    int64_t retention_ms;
    int64_t expires_at;
    int64_t run_at; /* since when it is eligible; 0: since it was queued */
    int64_t group;  /* it is a member of; 0: of none */
    struct span args;
    unsigned flags;    /* the row's (store/transition.h) */
    bool has_deadline; /* it may have one */
    bool suspect;      /* it ran in the process at two of its unexplained deaths: to run in a child of its own */
    bool resumes;      /* it has suspended: the turn starts with what that left */
};

struct change {
    int64_t id;
    int task;
    int64_t group;    /* it is a member of; its own id: not an invocation but a group, which changed; 0: of none */
    enum status from; /* 0: it is new */
    enum status to;   /* 0: it is gone */
    bool renews;      /* it is new, and an iteration that follows another */
    bool cancel;      /* its turn is under way, and its cancellation is now on disk */
    bool woken;       /* it waits, and what it waits for is there */
    bool suspended;   /* its turn has ended so */
    int64_t wakes_at; /* at this time, if it has one; else 0 */
    int64_t loops_at; /* UPKEEP_LOOPS is due then; 0: nothing is known */
    int64_t due_at;   /* to scheduled: run_at; else 0 */
    int64_t expires_at;
    int64_t prune_at;               /* to a final one */
    int64_t release_by;             /* of a promise that is new, or a group of them */
    int64_t deadline_at;            /* it has a new one; else 0 */
    bool is_late;                   /* to failed, because that has come */
    int64_t cached_until;           /* its result answers others until then; 0: it does not */
    bool withdrawn;                 /* from queued, otherwise than by a start */
    int old_priority;               /* where it stood then, */
    int64_t old_rank;               /* and there */
    bool callback;                  /* not a change: something was done about a delivery (deliveries.h) */
    bool follow_up;                 /* something unbounded follows it: UPKEEP_FOLLOW_UP is due */
    const struct op_refill *refill; /* not a change: what a refill found at this point */
    struct ready ready;             /* to queued; spans live until the listener returns */
    bool group_final;               /* of a group: it has ended */
    bool message;                   /* its status stays; it sent messages, or one was sent to it: */
    int64_t first_seq, last_seq;
};

/* Called after each commit, before the done()s, in commit order; also with no
 * changes when commits work again after a failure (`healthy` says which).
 * Any of them may be NULL. */
struct store_listener {
    void (*committed)(void *context, const struct change *changes, int count);
    void (*health)(void *context, bool healthy);
    void (*flushed)(void *context); /* after the done()s of a batch; NULL: not wanted */
    void *context;
};
