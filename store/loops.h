/* Inside the store: loops as time, and sets, see them. */
#pragma once

#include "store/loop_row.h"
#include "store/upkeep.h"

/* One change that a client may ask, as a step of any operation. Outcomes as of op_loop_alter. */
MUST_USE enum err loop_alter_one(struct tx *tx, enum loop_alter what, int64_t id, enum loop_status *was);

/* UPKEEP_LOOPS. */
MUST_USE enum err loops_upkeep(struct tx *tx, struct op_upkeep *op);
