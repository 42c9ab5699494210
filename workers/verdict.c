#include "workers/verdict.h"

#include "base/json.h"

static bool allows_one_of(const struct retry_policy *policy, struct span types)
{
    struct json_iter it = json_iter(types.p ? types : SPAN("[]"));
    struct span item;
    struct buf text = {0};
    bool allows = false;
    while (!allows && json_element(&it, &item)) {
        text.len = 0;
        json_unescape(item, &text);
        allows = retry_allows(policy, buf_span(&text));
    }
    buf_release(&text);
    return allows;
}

static bool may_try_again(const struct task *task, const struct failure *failure)
{
    if (!task || failure->again == AGAIN_NEVER || failure->failures >= failure->max_retries)
        return false;
    return failure->again == AGAIN_ALWAYS || retry_allows(&task->options.retry, failure->type) ||
           allows_one_of(&task->options.retry, failure->types);
}

void verdict_on_failure(struct op_finish *finish, const struct task *task, const struct failure *failure,
                        int64_t now_ms, double random)
{
    finish->next = FINISH_FINAL;
    finish->status = STATUS_FAILED;
    finish->finished_at = now_ms;
    finish->error = failure->error;
    finish->error_type = failure->type;
    if (!may_try_again(task, failure))
        return;
    int64_t delay = failure->retry_after_ms >= 0
                        ? failure->retry_after_ms
                        : retry_delay_ms(&task->options.retry.backoff, failure->failures + 1, random);
    finish->next = FINISH_RETRY;
    finish->run_at = delay > 0 ? now_ms + delay : 0;
}
