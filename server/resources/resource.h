/* What the resources share: parameters, faults, and showing an invocation.
 *
 * Threads: the HTTP thread's. */
#pragma once

#include "server/http/http.h"

/* --- what was asked -------------------------------------------------------------- */

/* No parameters, and no body but {}: false with everything that is too much
 * answered. */
bool resource_is_plain(struct request *rq);

/* No body but {}: false with 422 answered. */
bool resource_body_is_empty(struct request *rq);

/* `allowed` parameters only, each once: false with 400 answered. */
bool resource_query_is(struct request *rq, const char *const *allowed);

/* The parameter as an index of `words` (NULL-terminated), `standard` if it is
 * not there; a fault if it is none of them. */
int resource_word(const struct request *rq, const char *name, const char *const *words, int standard,
                  struct faults *faults);

/* The parameter `view`. */
enum view resource_view(const struct request *rq, enum view standard, struct faults *faults);

/* A parameter that is a whole number of min..max. */
int64_t resource_int(const struct request *rq, const char *name, int64_t min, int64_t max, int64_t standard,
                     struct faults *faults);

/* The parameter `wait` in milliseconds, 0 if it is not there. */
int64_t resource_wait(const struct request *rq, struct faults *faults);

/* --- answers ----------------------------------------------------------------------- */

enum next resource_bad_query(struct request *rq, struct faults *faults); /* 400; releases the faults */
enum next resource_bad_body(struct request *rq, struct faults *faults);  /* 422; releases the faults */

/* 404, 500 or 503: no row could be read. */
enum next resource_unread(struct request *rq, enum err err);

/* 200 and the invocation as it is now, or resource_unread(). */
enum next resource_show(struct request *rq, int64_t id, enum view view);

/* For an op's done(), whose owner is the request: wakes it. */
void resource_wake(struct op *op);

/* Pauses or resumes a task, 0 for the service. `then` finds the op_pause in
 * rq->state. */
enum next resource_pause(struct request *rq, int task, bool paused, enum next (*then)(struct request *rq));
