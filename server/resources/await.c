#include "server/resources/await.h"

#include "base/clock.h"
#include "server/server.h"

bool await_may_park(struct request *rq)
{
    if (http_parked(rq->server->http) < rq->config->limits.streams)
        return true;
    answer_header(rq, "Retry-After", "1");
    answer_problem(rq, 429, "too-many-streams", "%lld requests wait or follow already, which is the limit",
                   (long long)rq->config->limits.streams);
    return false;
}

bool await_begin(struct request *rq, int64_t wait_ms)
{
    if (!await_may_park(rq))
        return false;
    rq->timed_out = false;
    rq->deadline_us = clock_mono_us() + (wait_ms < AWAIT_MAX_MS ? wait_ms : AWAIT_MAX_MS) * 1000;
    return true;
}

void await_release(struct await *await)
{
    if (await->rq)
        waits_remove(await->rq->server->waits, await->rq, await->id);
    await->rq = NULL;
}

bool await_over(struct await *await, struct request *rq, int64_t id)
{
    struct invocation row;
    await_release(await);
    if (rq->timed_out || rq->closing || rq->gone)
        return true;
    waits_add(rq->server->waits, rq, id, false);
    *await = (struct await){rq, id};
    if (reader_get(rq->server->reader, id, VIEW_BASIC, &row) == OK && !status_is_final(row.status))
        return false;
    await_release(await);
    return true;
}
