/* Times by which invocations must be final, over all their attempts and waits.
 *
 * A deadline is a row beside the invocation's own, with its time under an index.
 * An end does not look at it: when its time comes, upkeep finds what is not final yet.
 * What has no turn under way fails then and there; a turn is ended as by a
 * cancellation, and the row says (FOLLOW_DEADLINE) that it ends as failed. */
#pragma once

#include "store/submit.h"
#include "store/tx.h"
#include "store/upkeep.h"

#define DEADLINE_ERROR "{\"type\":\"deadline\",\"message\":\"it was not done by its deadline\"}"

/* Of a child that is to be made: not after its parent's. */
MUST_USE enum err deadline_inherit(struct tx *tx, struct submission *s);

/* Of a row that was just inserted, or replaced: the submission's, if it has one. */
MUST_USE enum err deadline_note(struct tx *tx, const struct submission *s);

/* A client's retry: it has as long as it had at first. *at is when that is over; 0: it has none. */
MUST_USE enum err deadline_renew(struct tx *tx, int64_t id, int64_t *at);

/* Those whose time has come, a step of it. */
MUST_USE enum err deadlines_meet(struct tx *tx, struct op_upkeep *op);
