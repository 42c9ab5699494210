/* Both submit whatever runs, and leave the schedule's own times alone. */
#include "server/resources/schedule_run.h"

#include "base/clock.h"
#include "base/id.h"
#include "server/http/answer.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/schedules.h"
#include "server/resources/view.h"
#include "workers/firing.h"
#include "workers/submission.h"

#include <stdlib.h>

struct running {
    struct firing *firing;
    int64_t from, to; /* of a backfill; both are times that may be due */
    bool backfill;
    int count; /* of times; one more than there may be: there are too many */
    int64_t times[SCHEDULE_TIMES_MAX + 1];
    enum err err;
    struct request *rq;
};

static void running_free(void *state)
{
    struct running *running = state;
    firing_free(running->firing);
    free(running);
}

/* --- what is submitted ------------------------------------------------------------- */

static void find_times(struct running *running)
{
    struct cron_clock clock = schedule_clock(&running->firing->definition);
    int64_t at = running->from - 1;
    while (running->count <= SCHEDULE_TIMES_MAX && cron_next(&clock, at, &at) && at <= running->to)
        running->times[running->count++] = at;
}

static enum err fill(struct running *running, const struct schedule *row)
{
    const struct registry *registry = running->rq->config->registry;
    int64_t now = clock_now_ms();
    running->firing = firing_new(row->name);
    running->firing->op.id = row->id;
    enum err err = firing_read(running->firing, registry, row->definition);
    if (err != OK)
        return err;
    if (running->backfill)
        find_times(running);
    else
        running->times[running->count++] = now;
    if (running->count > SCHEDULE_TIMES_MAX)
        return ERR_LIMIT;
    return firing_fill(running->firing, registry, running->times, running->count, 0, now);
}

static bool take_row(void *context, const struct schedule *row)
{
    struct running *running = context;
    running->err = fill(running, row);
    return false;
}

/* On a reader thread. */
static void read_row(struct request *rq)
{
    struct running *running = rq->state;
    enum err err = reader_schedule(rq->reader, rq->segment, take_row, running);
    if (err != OK)
        running->err = err;
}

static enum next answer_refusal(struct request *rq)
{
    struct running *running = rq->state;
    switch (running->err) {
    case ERR_INVALID:
        return answer_problem(rq, 409, "conflict", "the schedule cannot submit: %s",
                              buf_cstr(&running->firing->problem));
    case ERR_LIMIT:
        return answer_problem(rq, 422, "invalid-request", "more than %d of its times lie there",
                              SCHEDULE_TIMES_MAX);
    case ERR_UNAVAILABLE: return answer_unavailable(rq);
    default: return schedules_unread(rq, running->err);
    }
}

static enum next queue(struct request *rq, enum next (*then)(struct request *rq))
{
    struct running *running = rq->state;
    if (running->err != OK)
        return answer_refusal(rq);
    running->firing->op.op.owner = rq;
    running->firing->op.op.done = resource_wake;
    rq->resume = then;
    request_queue(rq, &running->firing->op.op);
    return NEXT_COMMIT;
}

static enum next begin(struct request *rq, struct running *running, enum next (*then)(struct request *rq))
{
    running->rq = rq;
    rq->state = running;
    rq->release = running_free;
    rq->work = read_row;
    rq->resume = then;
    return NEXT_WORK;
}

/* --- now ----------------------------------------------------------------------------- */

static enum next ran(struct request *rq)
{
    const struct running *running = rq->state;
    const struct submission *s = running->firing->items;
    enum err err = running->firing->op.op.err;
    if (err == ERR_NOT_FOUND)
        return schedules_unread(rq, err);
    if (err != OK || s->err != OK) {
        struct refusal refusal = submission_refusal(s, err);
        if (refusal.status == 429 || refusal.status == 503)
            answer_header(rq, "Retry-After", "1");
        return answer_problem(rq, refusal.status, refusal.type, "%s", refusal.detail);
    }
    struct invocation row;
    struct buf body = {0}, location = {0};
    buf_addl(&location, "/invocations/");
    id_add(&location, s->id);
    answer_header(rq, "Location", buf_cstr(&location));
    buf_release(&location);
    submission_row(s, &row);
    view_invocation(&body, &row, store_task_name(rq->context->store, row.task), true);
    return answer_json(rq, 201, &body);
}

static enum next queue_run(struct request *rq)
{
    return queue(rq, ran);
}

enum next schedule_run_now(struct request *rq)
{
    if (!resource_is_plain(rq) || resource_is_closing(rq))
        return NEXT_ANSWER;
    return begin(rq, xcalloc(1, sizeof(struct running)), queue_run);
}

/* --- a range ----------------------------------------------------------------------------- */

static void add_item(struct buf *out, const struct submission *s, int64_t due)
{
    buf_addl(out, "{\"id\":\"");
    id_add(out, s->id);
    buf_addf(out, "\",\"status\":\"%s\",\"scheduled_for\":", status_name(s->status));
    view_time(out, due);
    buf_addc(out, '}');
}

static enum next filled(struct request *rq)
{
    const struct running *running = rq->state;
    const struct op_schedule_fire *op = &running->firing->op;
    struct buf body = {0};
    if (op->op.err != OK)
        return schedules_unread(rq, op->op.err);
    buf_addl(&body, "{\"items\":[");
    for (int i = 0, shown = 0; i < op->count; i++) {
        if (op->items[i].err != OK)
            continue;
        if (shown++)
            buf_addc(&body, ',');
        add_item(&body, &op->items[i], op->due[i]);
    }
    buf_addf(&body, "],\"skipped\":%d}", op->skipped);
    return answer_json(rq, 201, &body);
}

static enum next queue_backfill(struct request *rq)
{
    return queue(rq, filled);
}

static const struct key range_keys[] = {
    {.name = "from", .type = KEY_TIME, .required = true, .offset = offsetof(struct running, from)},
    {.name = "to", .type = KEY_TIME, .required = true, .offset = offsetof(struct running, to)},
    {0},
};

enum next schedule_run_backfill(struct request *rq)
{
    struct faults faults = {0};
    struct buf arena = {0};
    if (resource_is_closing(rq))
        return NEXT_ANSWER;
    struct running *running = xcalloc(1, sizeof *running);
    running->backfill = true;
    keys_read_json(&(struct keys_json){&faults, &arena}, NULL, buf_span(&rq->body), range_keys, running);
    buf_release(&arena);
    if (!faults.total && running->from > running->to)
        faults_add(&faults, 0, "/to", "is before `from`");
    if (!faults.total)
        return begin(rq, running, queue_backfill);
    free(running);
    return answer_bad_body(rq, &faults);
}
