/* What a submission comes after, as JSON. */
#pragma once

#include "base/faults.h"
#include "store/submit.h"
#include "workers/tasks/reference.h"

/* `after`: ids, at most AFTER_MAX, no one twice. Absent: none. What is found is the
 * submission's, for submission_release(). */
void submission_after_read(struct span value, struct submission *out, struct faults *faults);

/* `after_policy` as enum after_policy; 0 if it is absent. */
int submission_after_policy(struct span value, struct faults *faults);

/* Is one of them there twice? Its index, the second one's; -1: no. */
int submission_after_twice(const int64_t *ids, int count);

/* Is the result of one of those it comes after meant? A fault if not. */
void submission_after_refer(const struct submission *s, const struct reference *reference, struct faults *faults);

/* A fault at what it says: `{"$result": ...}`. */
void submission_after_fault(const struct reference *reference, const char *detail, struct faults *faults);
