/* What a task's options make of one submission beside its row, and what the answer
 * says of it. */
#pragma once

#include "store/store.h"
#include "workers/registry.h"

/* NULL for a plain one; owned. `bound` are the arguments by name, as checked. */
struct particulars *particulars_of(const struct task *task, struct span bound);

/* Has an invocation of that task with these arguments, as they were sent, those of the filter that no
 * index has found? */
bool particulars_match(const struct registry *registry, const struct filter *filter, int task, struct span args);

/* Was it answered with one that had its unique place? */
bool submission_met_first(const struct submission *s);

/* Appends {"returned":true,"differs":["/args/x"]}: what of that one is otherwise than
 * this submission says. For one that met it, with the body that it was read from. */
void submission_add_unique(struct buf *out, const struct registry *registry, const struct submission *s);
