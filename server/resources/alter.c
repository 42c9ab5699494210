#include "server/resources/alter.h"

#include "base/keys.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"

#include <stdlib.h>

struct altering {
    struct op_alter op;
    int64_t id;
    struct buf condition; /* If-Match; empty: there is none */
    struct buf who;       /* the token's name: a reload may come before the commit */
};

static void altering_free(void *state)
{
    struct altering *altering = state;
    buf_release(&altering->condition);
    buf_release(&altering->who);
    free(altering);
}

/* --- what is answered --------------------------------------------------------------- */

/* What each change needs, for the 409 that names it. */
static const char *const needs[] = {
    [ALTER_CANCEL] = "it can always be cancelled",
    [ALTER_RETRY] = "a retry needs one that is failed or cancelled",
    [ALTER_PATCH] = "PATCH needs one that is held, scheduled or queued",
    [ALTER_DELETE] = "DELETE needs one that is succeeded, failed or cancelled; cancel it first",
};

static void show(struct request *rq)
{
    const struct altering *altering = rq->state;
    resource_show(rq, altering->id, VIEW_FULL);
}

static enum next refuse_condition(struct request *rq)
{
    return answer_problem(rq, 412, "precondition-failed",
                          "it is no longer what If-Match names; get it again, and decide anew");
}

static enum next altered(struct request *rq)
{
    const struct altering *altering = rq->state;
    const struct op_alter *op = &altering->op;
    if (op->op.err == ERR_MISMATCH)
        return refuse_condition(rq);
    if (op->op.err == ERR_CONFLICT && op->what == ALTER_DELETE && status_is_final(op->status))
        return answer_problem(
            rq, 409, "conflict",
            "one that has not ended waits for it, comes after it, is to get its result, or may ask for it as its "
            "step; or it is a member of a group, which keeps it");
    if (op->op.err == ERR_BUSY)
        return answer_problem(rq, 409, "not-unique", "another invocation has its unique place");
    if (op->op.err == ERR_CONFLICT && op->of_loop)
        return answer_problem(rq, 409, "conflict", "it is an iteration of a loop: resume the loop instead");
    if (op->op.err == ERR_CONFLICT && op->what == ALTER_RETRY && status_is_final(op->status) &&
        op->status != STATUS_SUCCEEDED)
        return answer_problem(rq, 409, "conflict",
                              "it comes after one that did not succeed: retry that, and it follows");
    if (op->op.err == ERR_CONFLICT)
        return answer_problem(rq, 409, "conflict", "it is %s; %s", status_name(op->status), needs[op->what]);
    if (op->op.err != OK)
        return resource_unread(rq, op->op.err);
    if (op->what == ALTER_DELETE)
        return answer_empty(rq, 204);
    rq->work = show;
    rq->resume = NULL;
    return resource_show(rq, altering->id, VIEW_FULL);
}

static struct altering *begin(struct request *rq, enum alter what, int64_t id)
{
    struct altering *altering = xcalloc(1, sizeof *altering);
    rq->state = altering;
    rq->release = altering_free;
    altering->id = id;
    op_alter_init(&altering->op, what, &altering->id, 1);
    if (rq->token)
        buf_adds(&altering->who, rq->token->name);
    altering->op.who = buf_span(&altering->who);
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

/* --- If-Match ------------------------------------------------------------------------- */

static bool has_tag(const struct altering *altering, const struct invocation *row, const char *task, bool payloads)
{
    struct buf body = {0};
    char tag[ETAG_BYTES];
    view_invocation(&body, row, task, payloads);
    etag_of(buf_span(&body), tag);
    buf_release(&body);
    return etag_matches(buf_span(&altering->condition), span_of(tag));
}

/* On a reader thread. What was compared is believed in the write as well. */
static void compare(struct request *rq)
{
    struct altering *altering = rq->state;
    struct invocation row;
    enum err err = reader_get(rq->reader, altering->id, VIEW_FULL, &row);
    if (err != OK) {
        resource_unread(rq, err);
        return;
    }
    const char *task = store_task_name(rq->context->store, row.task);
    if (!has_tag(altering, &row, task, true) && !has_tag(altering, &row, task, false)) {
        refuse_condition(rq);
        return;
    }
    altering->op.belief = (struct alter_belief){.given = true,
                                                .status = row.status,
                                                .priority = row.priority,
                                                .attempt = row.attempt,
                                                .run_at = row.run_at,
                                                .finished_at = row.finished_at};
}

static enum next compared(struct request *rq)
{
    return rq->answer.status ? NEXT_ANSWER : commit(rq, rq->state);
}

/* The alteration, if the client has seen what is there. */
static enum next commit_if_matched(struct request *rq, struct altering *altering)
{
    struct span condition = request_header(rq, "If-Match");
    if (!condition.p || etag_is_any(condition))
        return commit(rq, altering);
    buf_add_span(&altering->condition, condition);
    rq->work = compare;
    rq->resume = compared;
    return NEXT_WORK;
}

/* --- without a body --------------------------------------------------------------------- */

static enum next alter(struct request *rq, enum alter what)
{
    int64_t id;
    if (!resource_id(rq, &id) || !resource_is_plain(rq))
        return NEXT_ANSWER;
    struct altering *altering = begin(rq, what, id);
    return what == ALTER_DELETE ? commit_if_matched(rq, altering) : commit(rq, altering);
}

enum next alter_cancel(struct request *rq)
{
    return alter(rq, ALTER_CANCEL);
}

enum next alter_retry(struct request *rq)
{
    static const struct key fields[] = {
        {.name = "fresh", .type = KEY_BOOL, .offset = offsetof(struct op_alter, fresh)},
        {0},
    };
    struct faults faults = {0};
    struct buf arena = {0};
    int64_t id;
    if (!resource_id(rq, &id) || !parameters_are_none(rq))
        return NEXT_ANSWER;
    struct altering *altering = begin(rq, ALTER_RETRY, id);
    if (rq->body.len)
        keys_read_json(&(struct keys_json){&faults, &arena}, NULL, buf_span(&rq->body), fields, &altering->op);
    buf_release(&arena);
    return faults.total ? answer_bad_body(rq, &faults) : commit(rq, altering);
}

enum next alter_delete(struct request *rq)
{
    return alter(rq, ALTER_DELETE);
}

/* --- PATCH ------------------------------------------------------------------------------ */

struct patch {
    int priority;
    int64_t run_at; /* 0: now */
};

enum { PATCH_PRIORITY = 1 << 0, PATCH_RUN_AT = 1 << 1 };

static const struct key patch_fields[] = {
    {.name = "priority", .type = KEY_INT, .offset = offsetof(struct patch, priority), .max = PRIORITY_MAX},
    {.name = "run_at", .type = KEY_TIME, .offset = offsetof(struct patch, run_at), .nullable = true},
    {0},
};

/* The bits of what is to change, or 0 with 422 answered. */
static unsigned read_patch(struct request *rq, struct patch *patch)
{
    struct faults faults = {0};
    struct buf arena = {0};
    uint64_t given =
        keys_read_json(&(struct keys_json){&faults, &arena}, NULL, buf_span(&rq->body), patch_fields, patch);
    if (!given && !faults.total)
        faults_add(&faults, 0, "", "names nothing to change: priority or run_at");
    buf_release(&arena);
    if (!faults.total)
        return (unsigned)given;
    answer_bad_body(rq, &faults);
    return 0;
}

enum next alter_patch(struct request *rq)
{
    struct patch patch = {0};
    int64_t id;
    if (!resource_id(rq, &id) || !parameters_are_none(rq))
        return NEXT_ANSWER;
    unsigned given = read_patch(rq, &patch);
    if (!given)
        return NEXT_ANSWER;
    struct altering *altering = begin(rq, ALTER_PATCH, id);
    altering->op.set_priority = given & PATCH_PRIORITY;
    altering->op.priority = patch.priority;
    altering->op.set_run_at = (given & PATCH_RUN_AT) != 0;
    altering->op.run_at = patch.run_at;
    return commit_if_matched(rq, altering);
}
