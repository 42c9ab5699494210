/* What the resources share: ids, faults, and showing an invocation.
 *
 * Threads: the one that has the request. */
#pragma once

#include "base/keys.h"
#include "server/http/request.h"

/* {id} of the path as an id; answers 404 and returns false if it is none. */
bool resource_id(struct request *rq, int64_t *id);

/* No parameters, and no body but {}: false with everything that is too much
 * answered. */
bool resource_is_plain(struct request *rq);

/* No body but {}: false with 422 answered. */
bool resource_body_is_empty(struct request *rq);

/* True with 503 answered: the service closes, and takes no submissions. */
bool resource_is_closing(struct request *rq);

/* The parameter `view`. */
enum view resource_view(const struct request *rq, enum view absent, struct faults *faults);

/* The task of that number as the configuration has it; NULL: it has left. */
const struct task *resource_task(const struct request *rq, int number);

/* 404, 500 or 503: no row could be read. */
enum next resource_unread(struct request *rq, enum err err);

/* 200 and the invocation as it is now, or resource_unread(). NEXT_WORK on the
 * HTTP thread if what stands outside its row is due too: rq->work does the same
 * on a reader thread then. */
enum next resource_show(struct request *rq, int64_t id, enum view view);

/* A Link to the next page of a list: the same query with that cursor. */
void resource_link_next(struct request *rq, int64_t next);

/* For an op's done(), whose owner is the request: wakes it. */
void resource_wake(struct op *op);

/* Pauses or resumes a task, 0 for the service. `then` finds the op_pause in
 * rq->state. */
enum next resource_pause(struct request *rq, int task, bool paused, enum next (*then)(struct request *rq));
