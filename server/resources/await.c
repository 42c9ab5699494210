#include "server/resources/await.h"

#include "base/clock.h"
#include "server/http/answer.h"
#include "server/http/http.h"
#include "server/resources/context.h"

enum { ANNOUNCED_AT_ONCE = 128 };

bool await_may_park(struct request *rq)
{
    if (http_parked(rq->http) < rq->config->limits.streams)
        return true;
    answer_header(rq, "Retry-After", "1");
    answer_problem(rq, 429, "too-many-streams", "%lld requests wait or follow already, which is the limit",
                   (long long)rq->config->limits.streams);
    return false;
}

bool await_may_follow(struct request *rq)
{
    if (!await_may_park(rq))
        return false;
    http_follow(rq);
    return true;
}

bool await_begin(struct request *rq, int64_t wait_ms)
{
    if (!await_may_park(rq))
        return false;
    rq->timed_out = false;
    rq->deadline_us = clock_mono_us() + (wait_ms < AWAIT_MAX_MS ? wait_ms : AWAIT_MAX_MS) * 1000;
    return true;
}

bool await_over(struct listener *listener, struct request *rq, int64_t id)
{
    struct topics *topics = rq->context->topics;
    struct invocation row;
    topics_leave(listener);
    if (rq->timed_out || rq->closing || rq->gone)
        return true;
    topics_listen(topics, listener, rq, (struct topic){TOPIC_INVOCATION_FINAL, id});
    if (reader_get(rq->reader, id, VIEW_BASIC, &row) == OK && !status_is_final(row.status))
        return false;
    topics_leave(listener);
    return true;
}

void await_announce(struct topics *topics, const struct change *changes, int count)
{
    struct topic list[ANNOUNCED_AT_ONCE];
    int n = 0;
    bool messages = false;
    if (!topics_awaited(topics))
        return;
    for (int i = 0; i < count; i++) {
        if (n + 3 > ANNOUNCED_AT_ONCE) {
            topics_announce(topics, list, n);
            n = 0;
        }
        bool is_group = changes[i].group == changes[i].id;
        if (is_group) {
            list[n++] = (struct topic){TOPIC_GROUP, changes[i].id};
            continue;
        }
        bool final = changes[i].to == 0 || status_is_final(changes[i].to);
        list[n++] = (struct topic){TOPIC_INVOCATION, changes[i].id};
        if (final)
            list[n++] = (struct topic){TOPIC_INVOCATION_FINAL, changes[i].id};
        if (final && changes[i].group)
            list[n++] = (struct topic){TOPIC_GROUP, changes[i].group};
        messages |= final || changes[i].message;
    }
    if (messages)
        topics_announce(topics, &(struct topic){TOPIC_MESSAGES, 0}, 1);
    topics_announce(topics, list, n);
}
