/* Inside the store: what follows for an invocation that has suspended. */
#pragma once

#include "store/suspend.h"
#include "store/tx.h"
#include "store/upkeep.h"

/* What it waits for is there: it is queued. ERR_CONFLICT: it is not suspended. */
MUST_USE enum err suspension_wake(struct tx *tx, int64_t id, enum woken_by by);

/* A message came for it. OK also if it does not wait for one. */
MUST_USE enum err suspension_message(struct tx *tx, int64_t id);

/* Its next turn was given out elsewhere, with all that is unread. */
MUST_USE enum err suspension_given(struct tx *tx, int64_t id);

/* Was it this turn that suspended last? ERR_CONFLICT: no. */
MUST_USE enum err suspension_was_by(struct tx *tx, const struct turn *turn);

/* It starts from nothing: no state, and nothing that woke it. */
MUST_USE enum err suspension_forget(struct tx *tx, int64_t id);

/* Is there one that is to get its result, or waits in place for more than that? Then
 * it is neither pruned nor deleted. */
MUST_USE enum err result_is_kept(struct tx *tx, int64_t target, bool *kept);

/* It has ended. */
MUST_USE enum err suspension_keeps_no_more(struct tx *tx, int64_t waiter);

/* UPKEEP_WAKE: those whose time has come. */
MUST_USE enum err suspensions_wake_due(struct tx *tx, struct op_upkeep *op);
