#include "server/resources/turn_steps.h"

#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/turn.h"
#include "server/resources/view.h"
#include "workers/submission.h"

#include <stdlib.h>

/* --- recording ---------------------------------------------------------------------- */

struct recording {
    struct span value; /* first: it is read as a body's */
    struct op_step op;
    struct buf arena;
};

static void recording_free(void *kept)
{
    struct recording *recording = kept;
    buf_release(&recording->op.kept);
    buf_release(&recording->arena);
    free(recording);
}

static bool read_value(struct request *rq, struct recording *recording)
{
    static const struct key fields[] = {
        {.name = "value", .type = KEY_VALUE, .offset = offsetof(struct recording, value), .required = true},
        {0},
    };
    struct faults faults = {0};
    keys_read_json(&(struct keys_json){&faults, &recording->arena}, NULL, buf_span(&rq->body), fields, recording);
    if (!step_name_is_good(rq->second))
        faults_add(&faults, 0, "", "a step's name has 1 to %d characters", STEP_NAME_MAX);
    if (!faults.total)
        return true;
    answer_bad_body(rq, &faults);
    return false;
}

static enum next answer_refusal(struct request *rq, enum err err)
{
    switch (err) {
    case ERR_CONFLICT: return turn_is_stale(rq);
    case ERR_BUSY: return answer_problem(rq, 409, "conflict", "the name is that of a child");
    case ERR_LIMIT:
        return answer_problem(rq, 409, "steps-full",
                              "an invocation records at most %d values, of %d bytes together", STEPS_MAX,
                              STEPS_BYTES_MAX);
    default: return answer_fault(rq, err);
    }
}

static enum next recorded(struct request *rq)
{
    const struct recording *recording = turn_kept(rq);
    const struct op_step *op = &recording->op;
    struct buf body = {0};
    if (op->turn.op.err != OK)
        return answer_refusal(rq, op->turn.op.err);
    buf_addl(&body, "{\"name\":");
    json_add_string(&body, rq->second);
    buf_addl(&body, ",\"value\":");
    buf_add_span(&body, op->found ? buf_span(&op->kept) : op->value);
    buf_addc(&body, '}');
    return answer_json(rq, op->found ? 200 : 201, &body);
}

enum next turn_steps_put(struct request *rq)
{
    struct recording *recording = xcalloc(1, sizeof *recording);
    turn_keep(rq, recording, recording_free);
    if (!read_value(rq, recording))
        return NEXT_ANSWER;
    op_step_init(&recording->op, &turn_found(rq)->turn);
    recording->op.name = rq->second;
    recording->op.value = recording->value;
    recording->op.turn.op.owner = rq;
    recording->op.turn.op.done = resource_wake;
    rq->resume = recorded;
    request_queue(rq, &recording->op.turn.op);
    return NEXT_COMMIT;
}

/* --- showing --------------------------------------------------------------------------- */

static void add_step(void *context, const struct step *step)
{
    struct buf *body = context;
    buf_adds(body, body->data[body->len - 1] == '}' ? ",{\"name\":" : "{\"name\":");
    json_add_string(body, step->name);
    buf_addl(body, ",\"value\":");
    buf_add_span(body, step->value);
    buf_addl(body, ",\"at\":");
    view_time(body, step->at);
    buf_addc(body, '}');
}

static void show(struct request *rq, int64_t id)
{
    struct invocation row;
    struct buf body = {0};
    enum err err = reader_get(rq->reader, id, VIEW_BASIC, &row);
    buf_addl(&body, "{\"items\":[");
    if (err == OK)
        err = reader_steps(rq->reader, id, add_step, &body);
    if (err != OK) {
        buf_release(&body);
        resource_unread(rq, err);
        return;
    }
    buf_addl(&body, "],\"next\":null}");
    answer_json(rq, 200, &body);
}

/* On a reader thread, as is the next. */
static void show_own(struct request *rq)
{
    show(rq, turn_found(rq)->turn.id);
}

static void show_others(struct request *rq)
{
    show(rq, *(const int64_t *)rq->state);
}

enum next turn_steps_list(struct request *rq)
{
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    rq->work = show_own;
    return NEXT_WORK;
}

enum next turn_steps_of_invocation(struct request *rq)
{
    int64_t *id = xcalloc(1, sizeof *id);
    rq->state = id;
    rq->release = free;
    if (!resource_id(rq, id) || !parameters_are_none(rq) || freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    rq->work = show_others;
    return NEXT_WORK;
}
