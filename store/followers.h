/* What follows a change of status in the same transaction: one table.
 *
 * transition.c writes the row, and calls these before and after it; nothing
 * else includes this. A follower is a line in followers[]: the statuses that
 * are left and entered, and what is done. The counters are no follower of their
 * own: they are the sum of the changes, written once a batch (tx.c). */
#pragma once

#include "store/follow_up.h"
#include "store/tx.h"

/* One change of one row, for what leads to it and what follows it. */
struct transition {
    int64_t id;
    int task;
    int64_t group;
    enum status from, to;
    const char *reason; /* kept with the change; NULL: the row tells it */
    unsigned follow;    /* to a final one: what stood in the row, as far as is known */
    struct change note; /* what the listeners hear of it, beyond that */

    /* Of the attempt that ends with it while the invocation goes on. */
    int attempt;             /* 0: the row's */
    enum status ended_as;    /* 0: the row's status */
    int64_t started_at;      /* of one that the row knows nothing of */
    int64_t ended_at;        /* 0: the row's finished_at */
    struct span ended_error; /* absent: the row's, if ended_as is 0 */

    struct span error_type;      /* to failed */
    struct span result, error;   /* to a final one: as far as they are at hand */
    int64_t at;                  /* to a final one: when it ended */
    unsigned flags;              /* to nothing: those of the row */
    struct follow_up_room *room; /* to nothing */
};

/* Before the row is written: they see it as it was. */
MUST_USE enum err followers_before(struct tx *tx, struct transition *t);

/* After it. */
MUST_USE enum err followers_after(struct tx *tx, struct transition *t);
