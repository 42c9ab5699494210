/* A request that waits until an invocation is final: ?wait=, Prefer: wait.
 *
 *     await_begin(rq, wait_ms);
 *     ... in the handler, and again in rq->resume:
 *     if (!await_over(&state->await, rq, id))
 *         return NEXT_PARK;
 *
 * Threads: the HTTP thread's. */
#pragma once

#include "server/http/http.h"

enum { AWAIT_MAX_MS = 60000 };

/* All zeros at first; embedded in the handler's state. */
struct await {
    struct request *rq; /* NULL: not in the table of waits */
    int64_t id;
};

/* Sets the deadline, at most AWAIT_MAX_MS from now. False with 429 answered if
 * as many requests wait as may. */
bool await_begin(struct request *rq, int64_t wait_ms);

/* Is the wait over: final, gone, the deadline, or the server stops? If not, the
 * request will be woken when it may be. */
bool await_over(struct await *await, struct request *rq, int64_t id);

/* For the state's release. */
void await_release(struct await *await);

/* May one more request be suspended? False with 429 answered if not. */
bool await_may_park(struct request *rq);
