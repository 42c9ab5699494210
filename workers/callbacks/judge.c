#include "workers/callbacks/judge.h"

#include "base/clock.h"
#include "base/json.h"
#include "workers/kinds/attempt.h"

#include <stdio.h>

enum { SHORTAGE_MS = 5000, GONE = 410 };
#define JITTER 0.1

int64_t judge_delay_ms(const struct policy *policy, int n, double random)
{
    if (n < 1 || n > policy->delay_count)
        return -1;
    return (int64_t)((double)policy->delays_ms[n - 1] * (1 + JITTER * (2 * random - 1)));
}

void judge_add_error(struct buf *out, const char *type, const char *message)
{
    buf_addl(out, "{\"type\":");
    json_add_lossy(out, span_of(type));
    buf_addl(out, ",\"message\":");
    json_add_lossy(out, span_of(message));
    buf_addc(out, '}');
}

static void add_answered(struct buf *out, int status)
{
    char type[24], message[80];
    const char *more = status == GONE      ? ", and is not asked again"
                       : status / 100 == 3 ? ", which is not followed"
                                           : "";
    snprintf(type, sizeof type, "http:%d", status);
    snprintf(message, sizeof message, "it answered %d%s", status, more);
    judge_add_error(out, type, message);
}

static void add_timeout(struct buf *out, int64_t timeout_ms)
{
    struct buf message = {0};
    buf_addl(&message, "it took longer than ");
    duration_add(&message, timeout_ms);
    judge_add_error(out, "timeout", buf_cstr(&message));
    buf_release(&message);
}

/* What it asks for holds, and a day is the longest that is known of it. */
static struct judgement later(const struct policy *policy, int attempts, int64_t retry_after_ms, double random)
{
    int64_t delay_ms = judge_delay_ms(policy, attempts + 1, random);
    if (delay_ms < 0)
        return (struct judgement){.status = DELIVERY_FAILED, .counts = true};
    return (struct judgement){.status = DELIVERY_PENDING,
                              .counts = true,
                              .delay_ms = retry_after_ms > delay_ms ? retry_after_ms : delay_ms};
}

struct judgement judge_answer(const struct policy *policy, int attempts, const struct post_answer *answer,
                              double random, struct buf *error)
{
    if (answer->end == POST_ANSWERED && answer->status / 100 == 2)
        return (struct judgement){.status = DELIVERY_DELIVERED, .counts = true};
    if (answer->end == POST_ANSWERED)
        add_answered(error, answer->status);
    else if (answer->end == POST_TIMED_OUT)
        add_timeout(error, policy->timeout_ms);
    else
        judge_add_error(error, "connection", answer->why);
    if (answer->end == POST_ANSWERED && answer->status == GONE)
        return (struct judgement){.status = DELIVERY_FAILED, .counts = true};
    if (answer->end == POST_BROKEN &&
        error_is_shortage(answer->error)) /* what is short here is no fault of there */
        return (struct judgement){.status = DELIVERY_PENDING, .delay_ms = SHORTAGE_MS};
    struct judgement judgement = later(policy, attempts, answer->retry_after_ms, random);
    judgement.silent = answer->end != POST_ANSWERED;
    return judgement;
}
