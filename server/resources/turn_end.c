#include "server/resources/turn_end.h"

#include "base/json.h"
#include "server/resources/resource.h"
#include "workers/kinds/attempt.h"

#include <inttypes.h>
#include <stdio.h>

/* --- what is said --------------------------------------------------------------- */

void turn_end_read_result(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    (void)in, (void)at;
    ((struct turn_end *)target)->result = value;
}

void turn_end_read_error(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct turn_end *end = target;
    end->failed = true;
    failure_read(in, at, value, &end->told);
}

/* --- what becomes of it --------------------------------------------------------- */

static void make_error(struct turn_end *end)
{
    struct outcome outcome = {0};
    failure_settle(&end->told, &outcome);
    end->error_type = outcome.type;
    end->error = outcome.error;
    buf_release(&outcome.types);
}

static void refuse_result(struct turn_end *end, int64_t limit)
{
    char message[100];
    struct outcome outcome = {0};
    snprintf(message, sizeof message, "the result has %zu bytes, the limit is %" PRId64, end->result.len, limit);
    outcome_fail(&outcome, SPAN("bad_result"), span_of(message), (struct span){0});
    end->error_type = outcome.type;
    end->error = outcome.error;
    end->told = (struct failure_told){.again = AGAIN_AS_CONFIGURED, .retry_after_ms = -1};
}

void turn_end_decide(struct turn_end *end, const struct turn_row *row, const struct task *task,
                     int64_t result_bytes, int64_t now_ms, double random)
{
    struct op_finish *finish = &end->finish;
    bool too_large = !end->failed && (int64_t)end->result.len > result_bytes;
    op_finish_init_once(finish, &row->turn);
    finish->retention_ms = row->retention_ms;
    if (!end->failed && !too_large) {
        finish->next = FINISH_FINAL;
        finish->status = STATUS_SUCCEEDED;
        finish->result = end->result;
        finish->finished_at = now_ms;
        return;
    }
    if (too_large)
        refuse_result(end, result_bytes);
    else
        make_error(end);
    struct failure failure = {
        .type = buf_span(&end->error_type),
        .error = buf_span(&end->error),
        .types = end->told.types,
        .again = end->told.again,
        .retry_after_ms = end->told.retry_after_ms,
        .failures = row->failures,
        .max_retries = row->max_retries,
    };
    verdict_on_failure(finish, task, &failure, now_ms, random);
}

void turn_end_release(struct turn_end *end)
{
    buf_release(&end->error_type);
    buf_release(&end->error);
}
