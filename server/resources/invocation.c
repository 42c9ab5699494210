#include "server/resources/invocation.h"

#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"

#include <stdlib.h>

/* One that may wait until it is final, and is then shown: on the HTTP thread if
 * its row has everything, else on a reader thread (NEXT_WORK). */
struct getting {
    struct listener listener;
    int64_t id;
    enum view view;
    enum next (*show)(struct request *rq, const struct getting *getting);
};

static void getting_free(void *state)
{
    struct getting *getting = state;
    topics_leave(&getting->listener);
    free(getting);
}

/* On a reader thread. */
static void show_at_length(struct request *rq)
{
    const struct getting *getting = rq->state;
    getting->show(rq, getting);
}

/* After a wait it may still be what the client has. */
static enum next show(struct request *rq)
{
    const struct getting *getting = rq->state;
    if (freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    rq->work = show_at_length;
    rq->resume = NULL;
    return getting->show(rq, getting);
}

static enum next show_when_final(struct request *rq)
{
    struct getting *getting = rq->state;
    return await_over(&getting->listener, rq, getting->id) ? show(rq) : NEXT_PARK;
}

static enum next get(struct request *rq, const struct getting *wanted, int64_t wait_ms)
{
    struct getting *getting = xcalloc(1, sizeof *getting);
    *getting = *wanted;
    rq->state = getting;
    rq->release = getting_free;
    if (!wait_ms)
        return show(rq);
    if (!await_begin(rq, wait_ms))
        return NEXT_ANSWER;
    rq->resume = show_when_final;
    return show_when_final(rq);
}

/* --- the whole ------------------------------------------------------------------- */

static enum next show_invocation(struct request *rq, const struct getting *getting)
{
    return resource_show(rq, getting->id, getting->view);
}

enum next invocation_get(struct request *rq)
{
    static const char *const known[] = {"view", "wait", NULL};
    struct faults faults = {0};
    struct getting getting = {.show = show_invocation};
    if (!resource_id(rq, &getting.id))
        return NEXT_ANSWER;
    parameters_check(rq, known, NULL, &faults);
    getting.view = resource_view(rq, VIEW_FULL, &faults);
    int64_t wait_ms = parameters_wait(rq, &faults);
    return faults.total ? answer_bad_query(rq, &faults) : get(rq, &getting, wait_ms);
}

/* --- its result -------------------------------------------------------------------- */

/* Each status that has no result has its own type, and a failure its error. */
static enum next answer_no_result(struct request *rq, const struct invocation *row)
{
    if (row->status == STATUS_CANCELLED)
        return answer_problem(rq, 409, "cancelled", "it was cancelled; there is no result");
    if (row->status != STATUS_FAILED)
        return answer_problem(rq, 409, "unfinished", "it is %s; with ?wait=30 the answer comes when it is final",
                              status_name(row->status));
    answer_problem(rq, 409, "failed", "it failed, as `error` says; there is no result");
    if (row->error.p)
        answer_extend(rq, "error", row->error);
    return NEXT_ANSWER;
}

static enum next show_result(struct request *rq, const struct getting *getting)
{
    struct invocation row;
    struct buf body = {0};
    enum err err = reader_get(rq->reader, getting->id, VIEW_FULL, &row);
    if (err == ERR_LIMIT)
        return NEXT_WORK;
    if (err != OK)
        return resource_unread(rq, err);
    if (row.status != STATUS_SUCCEEDED)
        return answer_no_result(rq, &row);
    buf_add_span(&body, row.result.p ? row.result : SPAN("null"));
    return answer_json(rq, 200, &body);
}

enum next invocation_result(struct request *rq)
{
    static const char *const known[] = {"wait", NULL};
    struct faults faults = {0};
    struct getting getting = {.show = show_result};
    if (!resource_id(rq, &getting.id))
        return NEXT_ANSWER;
    parameters_check(rq, known, NULL, &faults);
    int64_t wait_ms = parameters_wait(rq, &faults);
    return faults.total ? answer_bad_query(rq, &faults) : get(rq, &getting, wait_ms);
}

/* --- its attempts -------------------------------------------------------------------- */

static void add_attempt(void *context, const struct attempt_row *row)
{
    struct buf *body = context;
    if (body->data[body->len - 1] == '}')
        buf_addc(body, ',');
    view_attempt(body, row);
}

/* On a reader thread: nobody knows how many there are. */
static void read_attempts(struct request *rq)
{
    struct buf body = {0};
    const int64_t *id = rq->state;
    buf_addl(&body, "{\"items\":[");
    enum err err = reader_attempts(rq->reader, *id, add_attempt, &body);
    if (err != OK) {
        buf_release(&body);
        resource_unread(rq, err);
        return;
    }
    buf_addl(&body, "],\"next\":null}");
    answer_json(rq, 200, &body);
}

enum next invocation_attempts(struct request *rq)
{
    int64_t *id = xcalloc(1, sizeof *id);
    rq->state = id;
    rq->release = free;
    if (!resource_id(rq, id) || !parameters_are_none(rq) || freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    rq->work = read_attempts;
    return NEXT_WORK;
}
