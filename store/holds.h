/* Inside the store: what is held, and what lets it go. */
#pragma once

#include "store/follow_up.h"
#include "store/hold.h"
#include "store/submit.h"

/* Is it to be held? By more than its group, so that it has a row in holds? Does it come after
 * others, or may others come after it from the start? */
bool hold_is_wanted(const struct submission *s);
bool hold_has_row(const struct submission *s);
bool hold_is_dependent(const struct submission *s);

/* Is all there that it comes after? ERR_NOT_FOUND: s->missing is not. */
MUST_USE enum err dependencies_check(struct tx *tx, struct submission *s);

/* Its row is there, held: notes what holds it, and lets it go where nothing does any more. */
MUST_USE enum err hold_note(struct tx *tx, struct submission *s);

/* One reason less. Nothing happens to one that is not held, or not for that. */
MUST_USE enum err hold_let_go(struct tx *tx, int64_t id, enum hold_reason reason);

/* It became final: those after it learn of it, as far as there is room; the rest, and all that
 * is to be cancelled, follows in steps (FOLLOW_UP_DEPENDENTS). */
MUST_USE enum err dependents_tell(struct tx *tx, int64_t id, bool succeeded, bool *left);
MUST_USE enum err dependents_tell_rest(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left);

/* It is not final any more: those after it wait for it anew, in steps (FOLLOW_UP_DEPENDENTS_AGAIN). */
MUST_USE enum err dependents_again(struct tx *tx, int64_t id, bool *left);
MUST_USE enum err dependents_again_rest(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left);

/* Does an unfinished one come after it? Then it stays. */
MUST_USE enum err dependents_keep(struct tx *tx, int64_t id, bool *kept);

/* Of one that a client retries: what becomes of it, as those it comes after stand now. */
enum hold_now { HOLD_NOW_FREE, HOLD_NOW_HELD, HOLD_NOW_REFUSED };
MUST_USE enum err hold_look(struct tx *tx, int64_t id, enum hold_now *now);

/* Final -> held, as hold_look() said. */
MUST_USE enum err hold_again(struct tx *tx, int64_t id, int task, enum status from);

/* It is removed. */
MUST_USE enum err hold_forget(struct tx *tx, int64_t id);

/* UPKEEP_RELEASE_BY: promises whose time is over are cancelled. */
MUST_USE enum err holds_expire(struct tx *tx, struct op_upkeep *op);
