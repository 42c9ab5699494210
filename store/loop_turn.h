/* Inside the store: from one iteration of a loop to the next. */
#pragma once

#include "store/loop_row.h"

/* What the end of an iteration says of the loop. Pure. */
struct loop_outcome {
    bool succeeded, stop, pause;
    struct span next; /* of the result; absent: it has none */
};
struct loop_outcome loop_outcome_of(enum status status, struct span result);
enum loop_status loop_status_after(const struct loop *loop, const struct loop_outcome *outcome);

/* One that has no current iteration is where its status wants it: an active one has its
 * next iteration, by `run_at` (0: at once), or waits for a slot; any other has given its
 * slot back. Writes both of its rows' halves. */
MUST_USE enum err loop_settle(struct tx *tx, struct loop *loop, int64_t run_at);

/* Makes the next iteration: sets loop->invocation. */
MUST_USE enum err loop_begin(struct tx *tx, struct loop *loop, int64_t run_at);

/* It is final from now on. */
void loop_end(struct tx *tx, struct loop *loop, enum loop_status status);

/* An invocation that may be an iteration is final. */
struct iteration_end {
    int64_t id;
    enum status status;
    int64_t at;
    struct span result, error; /* absent: there is none */
};
MUST_USE enum err loop_iteration_ended(struct tx *tx, const struct iteration_end *end);
