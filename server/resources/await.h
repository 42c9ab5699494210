/* A request that waits until an invocation is final: ?wait=, Prefer: wait.
 *
 *     await_begin(rq, wait_ms);
 *     ... in the handler, and again in rq->resume:
 *     if (!await_over(&state->listener, rq, id))
 *         return NEXT_PARK;
 *
 * Threads: the HTTP thread's, but for await_announce(). */
#pragma once

#include "server/http/request.h"
#include "server/http/topics.h"

enum { AWAIT_MAX_MS = 60000 };

/* Sets the deadline, at most AWAIT_MAX_MS from now. False with 429 answered if
 * as many requests wait as may. */
bool await_begin(struct request *rq, int64_t wait_ms);

/* Is the wait over: final, gone, the deadline, or the server stops? If not, the
 * request will be woken when it may be. */
bool await_over(struct listener *listener, struct request *rq, int64_t id);

/* May one more request be suspended? False with 429 answered if not. */
bool await_may_park(struct request *rq);

/* The same of a stream: it has its place until it ends, also while it looks and sends. */
bool await_may_follow(struct request *rq);

/* What was committed, told to those who wait for it. The committing thread's. */
void await_announce(struct topics *topics, const struct change *changes, int count);
