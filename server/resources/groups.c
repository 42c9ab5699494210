#include "server/resources/groups.h"

#include "base/id.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/group_view.h"
#include "server/resources/resource.h"

#include <stdlib.h>

/* --- what they share ------------------------------------------------------------------ */

bool groups_id(struct request *rq, int64_t *id)
{
    if (id_parse(rq->segment, id) && *id)
        return true;
    answer_not_found(rq, "there is no such group");
    return false;
}

enum next groups_unread(struct request *rq, enum err err)
{
    return err == ERR_NOT_FOUND ? answer_not_found(rq, "there is no such group") : answer_fault(rq, err);
}

enum next groups_show(struct request *rq, int status, int64_t id, bool members)
{
    struct group_row row;
    struct buf body = {0};
    enum err err = reader_group(rq->reader, id, &row);
    if (err == OK)
        group_view_begin(&body, &row);
    if (err == OK && members)
        err = group_view_members(&body, rq->reader, id);
    else
        buf_addc(&body, '}');
    if (err == OK)
        return answer_json(rq, status, &body);
    buf_release(&body);
    return groups_unread(rq, err);
}

bool groups_await_over(struct listener *listener, struct request *rq, int64_t id)
{
    struct topics *topics = rq->context->topics;
    struct group_row row;
    topics_leave(listener);
    if (rq->timed_out || rq->closing || rq->gone)
        return true;
    topics_listen(topics, listener, rq, (struct topic){TOPIC_GROUP, id});
    if (reader_group(rq->reader, id, &row) == OK && row.status < GROUP_SUCCEEDED)
        return false;
    topics_leave(listener);
    return true;
}

/* --- one group -------------------------------------------------------------------------- */

struct getting {
    struct listener listener;
    int64_t id;
    enum view view;
};

static void getting_free(void *state)
{
    struct getting *getting = state;
    topics_leave(&getting->listener);
    free(getting);
}

/* On a reader thread. */
static void show_whole(struct request *rq)
{
    const struct getting *getting = rq->state;
    groups_show(rq, 200, getting->id, true);
}

/* After a wait it may still be what the client has. */
static enum next show(struct request *rq)
{
    const struct getting *getting = rq->state;
    rq->resume = NULL;
    if (freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    if (getting->view == VIEW_BASIC)
        return groups_show(rq, 200, getting->id, false);
    rq->work = show_whole;
    return NEXT_WORK;
}

static enum next show_when_final(struct request *rq)
{
    struct getting *getting = rq->state;
    return groups_await_over(&getting->listener, rq, getting->id) ? show(rq) : NEXT_PARK;
}

enum next groups_get(struct request *rq)
{
    static const char *const known[] = {"view", "wait", NULL};
    struct faults faults = {0};
    struct getting *getting = xcalloc(1, sizeof *getting);
    rq->state = getting;
    rq->release = getting_free;
    if (!groups_id(rq, &getting->id))
        return NEXT_ANSWER;
    parameters_check(rq, known, NULL, &faults);
    getting->view = resource_view(rq, VIEW_BASIC, &faults);
    int64_t wait_ms = parameters_wait(rq, &faults);
    if (faults.total)
        return answer_bad_query(rq, &faults);
    if (!wait_ms)
        return show(rq);
    if (!await_begin(rq, wait_ms))
        return NEXT_ANSWER;
    rq->resume = show_when_final;
    return show_when_final(rq);
}

/* --- changes ------------------------------------------------------------------------------- */

static enum next changed(struct request *rq)
{
    const struct op_group_change *op = rq->state;
    if (op->op.err == ERR_CONFLICT)
        return answer_problem(rq, 409, "conflict",
                              "it was cancelled, as it was not released in time (release_by); submit it anew");
    if (op->op.err != OK)
        return groups_unread(rq, op->op.err);
    return groups_show(rq, op->follows ? 202 : 200, op->id, false);
}

static enum next change(struct request *rq, enum group_change what)
{
    int64_t id;
    if (!groups_id(rq, &id) || !resource_is_plain(rq))
        return NEXT_ANSWER;
    struct op_group_change *op = xcalloc(1, sizeof *op);
    rq->state = op;
    rq->release = free;
    op_group_change_init(op, what, id);
    op->op.owner = rq;
    op->op.done = resource_wake;
    rq->resume = changed;
    request_queue(rq, &op->op);
    return NEXT_COMMIT;
}

enum next groups_release(struct request *rq)
{
    return change(rq, GROUP_RELEASE);
}

enum next groups_close(struct request *rq)
{
    return change(rq, GROUP_CLOSE);
}

enum next groups_cancel(struct request *rq)
{
    return change(rq, GROUP_CANCEL);
}
