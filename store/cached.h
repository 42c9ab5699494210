/* Results that answer the next submissions of the same (`cache_results`).
 *
 * An invocation of such a task has its key beside its row; its success writes what
 * it gave under that key, in the same transaction. A submission that finds it
 * there becomes an invocation of its own that has succeeded already, with a copy of
 * the result: whoever gave it may be pruned meanwhile. What is past its time
 * counts no longer, whether upkeep has been there or not. */
#pragma once

#include "store/submit.h"
#include "store/tx.h"
#include "store/upkeep.h"

/* What answers s, if anything does: s->particulars->cached.source and .result. */
MUST_USE enum err cached_find(struct tx *tx, struct submission *s);

/* Of a row that was just inserted: its key, or what it was answered with. */
MUST_USE enum err cached_note(struct tx *tx, const struct submission *s);

/* It has succeeded. *until_at is when what was kept is over. */
MUST_USE enum err cached_keep(struct tx *tx, int64_t id, int64_t *until_at);

/* A client deletes it: what it gave answers nobody any more. */
MUST_USE enum err cached_forget(struct tx *tx, int64_t id);

/* What is over goes, a step of it. */
MUST_USE enum err cached_tidy(struct tx *tx, struct op_upkeep *op);
