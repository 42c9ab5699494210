/* Inside the store: what a schedule's invocation does as it ends. */
#pragma once

#include "store/tx.h"

/* What waits for its end is made now. */
MUST_USE enum err schedule_go_on(struct tx *tx, int64_t behind);
