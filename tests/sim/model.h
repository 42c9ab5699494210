/* The transition told a second time: rows in memory that follow what store/DESIGN.md and the
 * contract promise, without SQL. It takes the store's own operations and says what changed as the
 * store does, in the same order: compare.c holds it against the real store, world.c feeds the real
 * queue with it.
 *
 * Left out: keys, children, steps, messages, payloads, results, and steps of more than one go.
 *
 * Threads: none. */
#pragma once

#include "store/store.h"
#include "store/suspend.h"
#include "tests/sim/chance.h"
#include "tests/sim/fault.h"

enum { TIES_MAX = 3 /* waits, predecessors, kept results of one */ };

/* Why a row failed or was cancelled, in place of its text. */
enum why {
    WHY_NONE,
    WHY_BODY,
    WHY_EXPIRED,
    WHY_LEASE_LOST,
    WHY_DEPENDENCY,
    WHY_NOT_RELEASED,
    WHY_GROUP_LATE,
    WHY_FAIL_FAST,
    WHY_CRASHED,
};

struct tie {
    int64_t id;
    int state; /* a wait: 1, it has ended; a predecessor: as in `dependencies` */
    bool timed;
};

struct row {
    int64_t id;
    int task;
    enum status status;
    int priority, attempt, failures, failed, recoveries, deaths, max_retries;
    bool ranked;
    int64_t rank;
    int64_t retention_ms, run_at, expires_at, finished_at, prune_at, cancel_at;
    int64_t lease, lease_until, lease_ms;
    int holder;
    int waits_left;
    unsigned follow, flags;
    enum why why;
    int64_t group;
    struct {
        bool there, was_cancelled;
        unsigned reasons;
        int policy, unmet, bad;
        int64_t delay_ms, expires_ms, release_by, cancelled_by;
    } held;
    struct {
        bool there;
        int turns;
        int64_t lease, wakes_at;
    } suspension;
    struct tie waits[TIES_MAX], after[TIES_MAX];
    int64_t kept[TIES_MAX];
    int wait_count, after_count, kept_count;
    bool in_place;

    /* The world's: */
    bool left_to_expire; /* what was to run it found it past its time */
    uint32_t mark;       /* it is in a lane, by this audit */
    bool left_group;     /* a turn may not know that, and so not when it is to be pruned */
};

struct group {
    int64_t id;
    unsigned state;
    int total;
    int64_t counts[STATUS_SLOTS], ends;
    int64_t retention_ms, release_by, finished_at, prune_at;
};

struct followed {
    int kind;
    int64_t id;
};

struct model {
    int node;
    int64_t now, last_id;
    const int64_t *given; /* ids that the real store gave, in order; NULL: the model gives its own */
    struct row **rows;    /* by id */
    int count, cap;
    struct group **groups; /* by id */
    int group_count, group_cap;
    struct followed *follow_ups;
    int follow_up_count, follow_up_cap;
    struct change *changes; /* of the batch */
    int change_count, change_cap, grouped;
    struct row *spare;       /* to be taken again */
    const struct turn *turn; /* whose word is being done: it says of which group it is */
};

void model_release(struct model *model);

struct row *model_row(const struct model *model, int64_t id);     /* NULL: it is not there */
struct group *model_group(const struct model *model, int64_t id); /* NULL, too */
int64_t row_rank(const struct row *row);
bool row_in_turn(const struct row *row, int64_t lease); /* under way, under that lease; NULL is not */

/* An operation: the store's own, and what it points to. */
enum deed_kind {
    DEED_SUBMIT,
    DEED_GROUP,
    DEED_GROUP_CHANGE,
    DEED_CLAIM,
    DEED_FINISH,
    DEED_SUSPEND,
    DEED_WAIT,
    DEED_RESUME,
    DEED_RENEW,
    DEED_LOSE,
    DEED_ALTER,
    DEED_RELEASE,
    DEED_UPKEEP,
    DEED_REFILL,
    DEED_KINDS
};

enum { MEMBERS_MAX = 4 };

struct deed {
    enum deed_kind kind;
    union {
        struct op op;
        struct turn_op turn;
        struct op_submit submit;
        struct op_group group;
        struct op_group_change group_change;
        struct op_claim claim;
        struct op_finish finish;
        struct op_suspend suspend;
        struct op_wait wait;
        struct op_resume resume;
        struct op_renew renew;
        struct op_lose lose;
        struct op_alter alter;
        struct op_release release;
        struct op_upkeep upkeep;
        struct op_refill refill;
    };
    int64_t ids[MEMBERS_MAX];
    union {
        struct submission submission;
        struct {
            struct group_submission made;
            struct submission items[MEMBERS_MAX];
        };
    };
    int before[MEMBERS_MAX]; /* a chain's: the member before each */
    struct deed *next;
    void (*done)(void *context, struct deed *deed); /* the world's */
    void *owner;
};

/* A batch: what is done at `now`, in order; each one's op.err is set, and the changes are there
 * until the next. */
void model_commit(struct model *model, int64_t now, struct deed *first);

/* What store_recover() does. The changes are heard by nobody. */
void model_recover(struct model *model, int64_t now, const struct casualty *casualties, int count,
                   int max_recoveries);

/* Is the claim of a turn written together with its end? Then that is where the end stands. */
bool deed_ends_simply(const struct deed *deed);
