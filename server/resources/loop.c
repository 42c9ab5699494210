/* One loop: shown, and changed. */
#include "server/resources/loops.h"

#include "base/clock.h"
#include "base/id.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/loop_view.h"
#include "server/resources/resource.h"
#include "workers/loop_body.h"

#include <stdlib.h>

struct loop_ref loops_ref(const struct request *rq)
{
    struct loop_ref ref = {.name = rq->segment};
    if (!id_parse(rq->segment, &ref.id))
        ref.id = 0;
    return ref;
}

enum next loops_unread(struct request *rq, enum err err)
{
    if (err == ERR_NOT_FOUND)
        return answer_not_found(rq, "there is no such loop");
    return answer_fault(rq, err);
}

void loops_context(const struct request *rq, struct buf *scratch, struct submission_context *out)
{
    *out = (struct submission_context){.registry = rq->config->registry,
                                       .owner = rq->token ? span_of(rq->token->name) : SPAN(""),
                                       .now_ms = clock_now_ms(),
                                       .scratch = scratch};
}

/* --- shown -------------------------------------------------------------------------- */

static void show(struct request *rq, struct loop_ref ref)
{
    struct loop_view view;
    struct buf bytes = {0}, body = {0};
    enum err err = reader_loop(rq->reader, ref, VIEW_FULL, &view, &bytes);
    if (err == OK) {
        view_loop(&body, &view, store_task_name(rq->context->store, view.task), true);
        answer_json(rq, 200, &body);
    } else {
        loops_unread(rq, err);
    }
    buf_release(&bytes);
}

/* On a reader thread. */
static void show_asked(struct request *rq)
{
    show(rq, loops_ref(rq));
}

enum next loops_get(struct request *rq)
{
    if (!parameters_are_none(rq) || freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    rq->work = show_asked;
    return NEXT_WORK;
}

/* --- changed --------------------------------------------------------------------------- */

struct altering {
    struct op_loop_alter op;
    struct buf name, arena;
};

static void altering_free(void *state)
{
    struct altering *altering = state;
    buf_release(&altering->name);
    buf_release(&altering->arena);
    free(altering);
}

static void show_altered(struct request *rq)
{
    const struct altering *altering = rq->state;
    show(rq, (struct loop_ref){.id = altering->op.id});
}

const char *loops_status_name(enum loop_status status)
{
    static const char *const texts[] = {
        [LOOP_ACTIVE] = "running",     [LOOP_PAUSED] = "paused",       [LOOP_STOPPING] = "stopping",
        [LOOP_STOPPED] = "stopped",    [LOOP_SUCCEEDED] = "succeeded", [LOOP_FAILED] = "failed",
        [LOOP_CANCELLED] = "cancelled"};
    return texts[status];
}

/* What each change needs, for the 409 that names it. */
static const char *const needs[] = {
    [LOOP_PAUSE] = "a pause needs one that is queued or running",
    [LOOP_RESUME] = "a resume needs one that is paused or failed",
    [LOOP_STOP] = "it can always be stopped",
    [LOOP_CANCEL] = "it can always be cancelled",
    [LOOP_PATCH] = "PATCH needs one that is paused or failed; pause it first",
    [LOOP_DELETE] =
        "DELETE needs one that is stopped, succeeded, failed or cancelled, whose last iteration has ended",
};

static enum next altered(struct request *rq)
{
    const struct op_loop_alter *op = &((const struct altering *)rq->state)->op;
    if (op->op.err == ERR_CONFLICT)
        return answer_problem(rq, 409, "conflict", "it is %s; %s", loops_status_name(op->status), needs[op->what]);
    if (op->op.err == ERR_LIMIT)
        return answer_problem(rq, 409, "conflict", "it has had its max_iterations");
    if (op->op.err != OK)
        return loops_unread(rq, op->op.err);
    if (op->what == LOOP_DELETE)
        return answer_empty(rq, 204);
    rq->work = show_altered;
    rq->resume = NULL;
    return NEXT_WORK;
}

/* The client may leave before the commit, and its path with it. */
static struct altering *begin(struct request *rq, enum loop_alter what)
{
    struct altering *altering = xcalloc(1, sizeof *altering);
    struct loop_ref ref = loops_ref(rq);
    rq->state = altering;
    rq->release = altering_free;
    buf_add_span(&altering->name, ref.name);
    ref.name = buf_span(&altering->name);
    op_loop_alter_init(&altering->op, what, ref);
    altering->op.op.owner = rq;
    altering->op.op.done = resource_wake;
    return altering;
}

static enum next commit(struct request *rq, struct altering *altering)
{
    rq->resume = altered;
    request_queue(rq, &altering->op.op);
    return NEXT_COMMIT;
}

static enum next alter(struct request *rq, enum loop_alter what)
{
    return resource_is_plain(rq) ? commit(rq, begin(rq, what)) : NEXT_ANSWER;
}

enum next loops_pause(struct request *rq)
{
    return alter(rq, LOOP_PAUSE);
}

enum next loops_resume(struct request *rq)
{
    return alter(rq, LOOP_RESUME);
}

enum next loops_stop(struct request *rq)
{
    return alter(rq, LOOP_STOP);
}

enum next loops_cancel(struct request *rq)
{
    return alter(rq, LOOP_CANCEL);
}

enum next loops_delete(struct request *rq)
{
    return alter(rq, LOOP_DELETE);
}

/* Its row without what stands outside it. */
static enum err current_task(struct request *rq, struct span *task)
{
    struct loop_view view;
    struct buf bytes = {0};
    enum err err = reader_loop(rq->reader, loops_ref(rq), VIEW_BASIC, &view, &bytes);
    const struct task *known = err == OK ? resource_task(rq, view.task) : NULL;
    *task = known ? span_of(known->name) : (struct span){NULL, 0};
    buf_release(&bytes);
    return err;
}

enum next loops_patch(struct request *rq)
{
    static struct buf scratch; /* the HTTP thread's */
    struct faults faults = {0};
    struct submission_context context;
    struct span task;
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    enum err err = current_task(rq, &task);
    if (err != OK)
        return loops_unread(rq, err);
    struct altering *altering = begin(rq, LOOP_PATCH);
    loops_context(rq, &scratch, &context);
    if (loop_patch_read(&context, task, buf_span(&rq->body), &altering->arena, &altering->op, &faults) != OK)
        return answer_bad_body(rq, &faults);
    return commit(rq, altering);
}
