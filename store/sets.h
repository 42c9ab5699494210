/* Inside the store: slots that loops share. */
#pragma once

#include "store/follow_up.h"
#include "store/loop_row.h"

/* The set that a loop is to be in, made if it is not there; 0: none is named. ERR_CONFLICT,
 * ERR_INVALID: as of op_loop_make. */
MUST_USE enum err set_join(struct tx *tx, const struct set_spec *spec, int64_t *id);

/* A loop of a set without a current iteration: takes a slot and begins, or waits for one; or gives
 * back what it has. The next one in turn gets what is free then. Writes the loop's state. */
MUST_USE enum err set_settle(struct tx *tx, struct loop *loop, int64_t run_at);

/* It is gone: the set too, if it was the last. */
MUST_USE enum err set_leave(struct tx *tx, int64_t id);

/* Follow-ups: what was asked of all loops of a set; those that wait while slots are free. */
MUST_USE enum err set_act_on_rest(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left);
MUST_USE enum err set_fill_slots(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left);
