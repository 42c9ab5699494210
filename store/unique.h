/* Places that only one invocation of a task may have at a time (`unique`).
 *
 * A place is a row under a unique index: it is taken by an insert that does
 * nothing where there is one, and given back in the transaction of the change
 * that ends it. One that is taken for a time is free when that is over, whether
 * anybody has looked or not: every statement says so. */
#pragma once

#include "store/submit.h"
#include "store/tx.h"

/* Takes the place for s->id; or answers with who has it: s->replayed, s->id and
 * s->status are then that one's, which may have got the submission's arguments.
 * ERR_BUSY with s->not_unique: it is refused. */
MUST_USE enum err unique_take(struct tx *tx, struct submission *s);

/* It was not made after all. */
MUST_USE enum err unique_untake(struct tx *tx, int64_t id);

/* Its turn starts; it is final. */
MUST_USE enum err unique_started(struct tx *tx, int64_t id);
MUST_USE enum err unique_ended(struct tx *tx, int64_t id);

/* A client's retry takes it again. ERR_BUSY: it is another's. OK for what has none. */
MUST_USE enum err unique_retake(struct tx *tx, int64_t id);

/* The key is one of those that were answered so: s->id and s->status, ERR_MISMATCH
 * (another body) or ERR_NOT_FOUND. */
MUST_USE enum err further_key_find(struct tx *tx, struct submission *s);
