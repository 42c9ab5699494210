#include "server/resources/schedule_change.h"

#include "base/clock.h"
#include "server/http/answer.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/schedules.h"
#include "workers/schedule_definition.h"

#include <stdlib.h>

enum { TRIES = 5 };

static enum next answer_refusal(struct request *rq, enum err err)
{
    switch (err) {
    case ERR_CONFLICT:
        return answer_problem(rq, 409, "conflict",
                              "the schedule is one of the configuration's: it is changed and removed there");
    case ERR_LIMIT:
        return answer_problem(rq, 409, "conflict", "there are %d schedules, which is the limit", SCHEDULES_MAX);
    default: return schedules_unread(rq, err);
    }
}

/* --- PUT ---------------------------------------------------------------------------- */

struct putting {
    struct op_schedule_put op;
    struct schedule_definition definition;
    struct faults faults;
};

static void putting_free(void *state)
{
    struct putting *putting = state;
    schedule_release(&putting->definition);
    faults_release(&putting->faults);
    free(putting);
}

static enum next put(struct request *rq)
{
    const struct putting *putting = rq->state;
    if (putting->op.op.err != OK)
        return answer_refusal(rq, putting->op.op.err);
    runner_schedules_changed(rq->context->runner);
    return schedules_show(rq, putting->op.created ? 201 : 200);
}

/* On a reader thread, as a zone is a file. */
static void read_definition(struct request *rq)
{
    struct putting *putting = rq->state;
    if (!schedule_name_is_good(rq->segment))
        faults_add(&putting->faults, 0, "",
                   "a schedule's name has 1 to %d of A-Z a-z 0-9 . _ -, a letter or digit first, and is not "
                   "`preview`",
                   SCHEDULE_NAME_MAX);
    else if (schedule_read(rq->config->registry, buf_span(&rq->body), &putting->definition, &putting->faults) ==
             OK) {
        struct cron_clock clock = schedule_clock(&putting->definition);
        putting->op.now = clock_now_ms();
        if (!cron_next(&clock, putting->op.now, &putting->op.put.next_at))
            putting->op.put.next_at = 0;
    }
}

static enum next queue_put(struct request *rq)
{
    struct putting *putting = rq->state;
    if (putting->faults.total)
        return answer_faults(rq, 422, "invalid-request", &putting->faults);
    putting->op.put.name = rq->segment;
    putting->op.put.definition = buf_span(&putting->definition.text);
    putting->op.op.owner = rq;
    putting->op.op.done = resource_wake;
    rq->resume = put;
    request_queue(rq, &putting->op.op);
    return NEXT_COMMIT;
}

enum next schedule_change_put(struct request *rq)
{
    struct putting *putting = xcalloc(1, sizeof *putting);
    op_schedule_put_init(&putting->op);
    rq->state = putting;
    rq->release = putting_free;
    rq->work = read_definition;
    rq->resume = queue_put;
    return NEXT_WORK;
}

/* --- DELETE --------------------------------------------------------------------------- */

static enum next removed(struct request *rq)
{
    const struct op_schedule_remove *op = rq->state;
    return op->op.err == OK ? answer_empty(rq, 204) : answer_refusal(rq, op->op.err);
}

enum next schedule_change_delete(struct request *rq)
{
    if (!resource_is_plain(rq))
        return NEXT_ANSWER;
    struct op_schedule_remove *op = xcalloc(1, sizeof *op);
    rq->state = op;
    rq->release = free;
    op_schedule_remove_init(op, rq->segment);
    op->op.owner = rq;
    op->op.done = resource_wake;
    rq->resume = removed;
    request_queue(rq, &op->op);
    return NEXT_COMMIT;
}

/* --- pause and resume ------------------------------------------------------------------- */

/* The row is read, its next time found, and both are believed in the write. */
struct pausing {
    struct op_schedule_pause op;
    bool paused;
    int tries;
    bool settled; /* it is as wished already */
    enum err err;
    struct request *rq;
};

/* What can be read no more has no next time; its problem says so when it is looked at. */
static int64_t next_of(const struct request *rq, struct span definition, int64_t now)
{
    struct schedule_definition read;
    struct faults faults = {0};
    int64_t next = now; /* looked at at once */
    if (schedule_read(rq->config->registry, definition, &read, &faults) == OK) {
        struct cron_clock clock = schedule_clock(&read);
        if (!cron_next(&clock, now, &next))
            next = 0;
    }
    schedule_release(&read);
    faults_release(&faults);
    return next;
}

static bool take_row(void *context, const struct schedule *row)
{
    struct pausing *pausing = context;
    int64_t now = clock_now_ms();
    pausing->settled = row->paused == pausing->paused;
    op_schedule_pause_init(&pausing->op);
    pausing->op.id = row->id;
    pausing->op.version = row->version;
    pausing->op.paused = pausing->paused;
    pausing->op.now = now > row->until ? now : row->until;
    pausing->op.next_at = pausing->paused ? 0 : next_of(pausing->rq, row->definition, pausing->op.now);
    return false;
}

static void read_row(struct request *rq)
{
    struct pausing *pausing = rq->state;
    pausing->err = reader_schedule(rq->reader, rq->segment, take_row, pausing);
}

static enum next queue_pause(struct request *rq);

static enum next paused(struct request *rq)
{
    struct pausing *pausing = rq->state;
    if (pausing->op.op.err == ERR_CONFLICT && ++pausing->tries < TRIES) { /* somebody changed it meanwhile */
        rq->work = read_row;
        rq->resume = queue_pause;
        return NEXT_WORK;
    }
    if (pausing->op.op.err == ERR_CONFLICT)
        return answer_unavailable(rq);
    if (pausing->op.op.err != OK)
        return answer_refusal(rq, pausing->op.op.err);
    runner_schedules_changed(rq->context->runner);
    return schedules_show(rq, 200);
}

static enum next queue_pause(struct request *rq)
{
    struct pausing *pausing = rq->state;
    if (pausing->err != OK)
        return schedules_unread(rq, pausing->err);
    if (pausing->settled)
        return schedules_show(rq, 200);
    pausing->op.op.owner = rq;
    pausing->op.op.done = resource_wake;
    rq->resume = paused;
    request_queue(rq, &pausing->op.op);
    return NEXT_COMMIT;
}

static enum next set_paused(struct request *rq, bool on)
{
    if (!resource_is_plain(rq))
        return NEXT_ANSWER;
    struct pausing *pausing = xcalloc(1, sizeof *pausing);
    pausing->rq = rq;
    pausing->paused = on;
    rq->state = pausing;
    rq->release = free;
    rq->work = read_row;
    rq->resume = queue_pause;
    return NEXT_WORK;
}

enum next schedule_change_pause(struct request *rq)
{
    return set_paused(rq, true);
}

enum next schedule_change_resume(struct request *rq)
{
    return set_paused(rq, false);
}
