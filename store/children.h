/* Invocations that a turn submits: its children. One that was submitted as a step
 * is found again by that name, by every later turn of its parent. A cancellation
 * reaches them, but for those that are detached. */
#pragma once

#include "store/follow_up.h"
#include "store/submit.h"

/* Before a submission with a parent is made: s->replayed if the step is there. If
 * that did not succeed, and the parent has failed since it asked for it last, it
 * runs again.
 * ERR_CONFLICT: the parent's lease was lost, its turn has ended, or it is cancelled
 * and the child would not be detached; ERR_BUSY: the step's name is a value's. */
MUST_USE enum err children_find(struct tx *tx, struct submission *s);

/* After it was made. */
MUST_USE enum err children_note(struct tx *tx, const struct submission *s);

/* Cancels the children of one that is cancelled, as many as there is room for. */
MUST_USE enum err children_cancel(struct tx *tx, int64_t parent, struct follow_up_room *room, bool *left);

/* Of one that is retried while a cancellation was on its way to its children: it
 * reaches those that are there, and none that comes. */
MUST_USE enum err children_leave(struct tx *tx, int64_t parent);

/* One starts from nothing: their steps' names are free, and what is unfinished is
 * to be cancelled (FOLLOW_UP_DROPPED). */
MUST_USE enum err children_drop(struct tx *tx, int64_t parent);
MUST_USE enum err children_cancel_dropped(struct tx *tx, int64_t parent, struct follow_up_room *room, bool *left);

/* One is retried: a cancellation of its parent reaches it again. */
MUST_USE enum err children_follow_again(struct tx *tx, int64_t child);

/* Is it a step of one that is not final yet? Then it stays. */
MUST_USE enum err children_is_held(struct tx *tx, int64_t child, bool *held);
