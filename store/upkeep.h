/* What time asks: upkeep in small steps, and refills of the queue in memory. */
#pragma once

#include "store/change.h"
#include "store/op.h"

/* Upkeep, in small steps; `more` says that another step is due at once. */
enum upkeep {
    UPKEEP_PROMOTE,    /* scheduled -> queued where run_at <= now */
    UPKEEP_EXPIRE,     /* scheduled, queued -> failed as `expired` where expires_at <= now */
    UPKEEP_PRUNE,      /* final ones past prune_at or above retain_max are deleted */
    UPKEEP_WAKE,       /* suspended -> queued where wakes_at <= now */
    UPKEEP_FOLLOW_UP,  /* what follows changes without a bound: a step of it */
    UPKEEP_RELEASE_BY, /* promises -> cancelled as `not_released` where release_by <= now */
    UPKEEP_SCHEDULE,   /* a timer alone: what schedules are due is read and handed over (schedule.h) */
    UPKEEP_LOOPS,      /* those that have rested, and those past prune_at */
    UPKEEP_CACHE,      /* kept results that are past their time go */
    UPKEEP_DEADLINE,   /* what is not final by its deadline fails */
    UPKEEPS_END,
};
enum { UPKEEPS = UPKEEPS_END };
struct op_upkeep {
    struct op op;
    enum upkeep what;
    int64_t now;
    bool more;       /* out */
    int64_t next_at; /* out: when the next one is due; 0: none is known */
};
void op_upkeep_init(struct op_upkeep *op, enum upkeep what);

/* The next `limit` queued of a task after (priority, rank), in order. Its done()
 * only frees; what was found reaches the listener in its place among the
 * changes, because only there is it known what was queued before it and what
 * after. */
struct op_refill {
    struct op op;
    int task;
    int after_priority;
    int64_t after_rank;
    int limit;
    /* out */
    struct ready *items;
    int count, cap;
    struct buf arena; /* the items' bytes */
};
void op_refill_init(struct op_refill *op);
void op_refill_release(struct op_refill *op);
