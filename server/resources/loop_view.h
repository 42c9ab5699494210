/* Loops and their sets as JSON: the one place that knows the shapes. Pure. */
#pragma once

#include "store/store.h"

/* {id, name, task, status, next, delay, iteration, max_iterations, set, [args, invocation, result, …} */
void view_loop(struct buf *out, const struct loop_view *loop, const char *task, bool payloads);

/* {name, slots, slot, fail_fast, paused, loops, held, waiting, acting} */
void view_set(struct buf *out, const struct set_view *set);

/* {slot, runner, set, invocation, loop, since}: 0 and absent are null. */
struct slot_shown {
    int64_t slot, invocation, loop, since;
    struct span runner, set;
};
void view_slot(struct buf *out, const struct slot_shown *slot);
