/* A loop as JSON, read into what the store takes. What an iteration is, task,
 * arguments and so on, reads as a submission does. */
#pragma once

#include "store/store.h"
#include "workers/submission.h"

/* Reads checked JSON. Spans in `out` point into `arena`, which the caller keeps until the loop is
 * made. ERR_INVALID with every fault added (JSON Pointers). */
MUST_USE enum err loop_body_read(const struct submission_context *context, struct span body, struct buf *arena,
                                 struct op_loop_make *out, struct faults *faults);

/* What changes one that is paused: task, args, delay. `task` is the one that it has, by name (absent:
 * that is not known); arguments are checked against the one that it is to have. */
MUST_USE enum err loop_patch_read(const struct submission_context *context, struct span task, struct span body,
                                  struct buf *arena, struct op_loop_alter *out, struct faults *faults);

/* {slots, slot, fail_fast}, of a set that is there. */
MUST_USE enum err loop_set_patch_read(struct span body, struct op_set_alter *out, struct faults *faults);

/* input, output, chosen. */
const char *loop_next_name(enum loop_next next);
