/* Steps: named values that a body has recorded. A later turn or attempt gets
 * the value instead of doing the work again. They live as long as their
 * invocation, over retries. */
#pragma once

#include "store/turn.h"

struct reader;

enum {
    STEPS_MAX = 1000,          /* values of one invocation; how long a name may be is the caller's to say */
    STEPS_BYTES_MAX = 1 << 20, /* of all of them */
};

/* The first to record a name is the one who counts: if it is there nothing
 * changes, `found` is true and `kept` is the value that stands. ERR_CONFLICT:
 * the lease was lost, or the turn has ended; ERR_BUSY: a child has that name;
 * ERR_LIMIT: there would be more than STEPS_MAX, or STEPS_BYTES_MAX of them. */
struct op_step {
    struct turn_op turn;
    struct span name, value; /* the value: JSON, verbatim */
    bool found;              /* out */
    struct buf kept;         /* out, if it was found; the caller's to release */
};
void op_step_init(struct op_step *op, const struct turn *turn);

struct step {
    struct span name, value;
    int64_t at;
};

/* All of them, as they were recorded: oldest first. */
MUST_USE enum err reader_steps(struct reader *reader, int64_t id,
                               void (*row)(void *context, const struct step *step), void *context);

/* Appends the value of one. ERR_NOT_FOUND. */
MUST_USE enum err reader_step(struct reader *reader, int64_t id, struct span name, struct buf *value);
