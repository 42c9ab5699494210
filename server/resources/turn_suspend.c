#include "server/resources/turn_suspend.h"

#include "base/clock.h"
#include "base/id.h"
#include "server/http/answer.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/turn.h"
#include "workers/runner.h"
#include "workers/suspension.h"
#include "workers/woken.h"

#include <stdlib.h>

enum { WHOLE_BYTES = 16 << 20 };

struct suspending {
    struct suspension_read read;
    struct op_suspend op;
    struct buf arena;
};

static void suspending_free(void *kept)
{
    struct suspending *suspending = kept;
    suspension_release(&suspending->read);
    buf_release(&suspending->arena);
    free(suspending);
}

enum next turn_answer_suspended(struct request *rq, const struct op_suspend *op)
{
    char id[ID_TEXT_LEN + 1] = "";
    enum err err = op->turn.op.err;
    id_format(op->bad, id);
    switch (err) {
    case OK: return answer_empty(rq, 204);
    case ERR_CONFLICT: return turn_is_stale(rq);
    case ERR_NOT_FOUND:
        return answer_problem(rq, 422, "invalid-request", "there is no invocation %s; the turn goes on", id);
    case ERR_INVALID:
        return answer_problem(rq, 409, "wait-cycle",
                              "%s waits for this one, and neither would ever go on: give a time, or wait for a "
                              "message too; the turn goes on",
                              id);
    default: return answer_fault(rq, err);
    }
}

static enum next suspended(struct request *rq)
{
    const struct suspending *suspending = turn_kept(rq);
    return turn_answer_suspended(rq, &suspending->op);
}

enum next turn_suspend(struct request *rq)
{
    struct suspending *suspending = xcalloc(1, sizeof *suspending);
    struct faults faults = {0};
    const struct turn *turn = &turn_found(rq)->turn;
    turn_keep(rq, suspending, suspending_free);
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    suspending->read.now_ms = clock_now_ms();
    suspension_read(&(struct keys_json){&faults, &suspending->arena}, NULL, buf_span(&rq->body),
                    &suspending->read);
    if (faults.total)
        return answer_bad_body(rq, &faults);
    op_suspend_init(&suspending->op, turn);
    suspending->op.on = suspending->read.on;
    suspending->op.read_up_to = runner_given(rq->context->runner, turn);
    suspending->op.turn.op.owner = rq;
    suspending->op.turn.op.done = resource_wake;
    rq->resume = suspended;
    request_queue(rq, &suspending->op.turn.op);
    return NEXT_COMMIT;
}

/* --- what it started with ---------------------------------------------------------------- */

static void read_woken(struct request *rq)
{
    const struct turn_row *row = turn_found(rq);
    struct woken woken;
    struct buf body = {0};
    enum err err =
        woken_read(rq->reader, row->turn.id, row->elsewhere ? WOKEN_ELSEWHERE : WOKEN_HERE, WHOLE_BYTES, &woken);
    if (err != OK) {
        answer_fault(rq, err);
        return;
    }
    buf_add_span(&body, woken.json.len ? buf_span(&woken.json) : SPAN("null"));
    woken_release(&woken);
    answer_json(rq, 200, &body);
}

enum next turn_woken(struct request *rq)
{
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    rq->work = read_woken;
    return NEXT_WORK;
}
