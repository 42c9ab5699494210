/* Problems (RFC 9457) as JSON: the one place that knows their shape.
 *
 * Threads: no shared state. */
#pragma once

#include "base/faults.h"

/* The title of a type such as "not-found"; "Problem" if it is none of ours. */
const char *problem_title(const char *type);

/* Appends a problem object. `faults` may be NULL, `instance` absent. */
void problem_add(struct buf *out, int status, const char *type, const char *detail, const struct faults *faults,
                 struct span instance);

/* Appends a sentence for faults, of which there is one at least: the first, and
 * how many more there are. Clients log `detail`. */
void problem_add_detail(struct buf *out, const struct faults *faults);
