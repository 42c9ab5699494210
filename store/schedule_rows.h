/* Inside the store: what a schedule's invocation does as it ends. */
#pragma once

#include "store/tx.h"

struct op;

/* What waits for its end is made now. */
MUST_USE enum err schedule_go_on(struct tx *tx, int64_t behind);

/* op_class.committed: a schedule is shown otherwise, though no invocation has changed. */
void schedule_committed(struct store *store, struct op *op);
