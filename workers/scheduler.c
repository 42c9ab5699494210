/* Which job comes next, and which slot is woken for it.
 *
 * Slots pull: one that is free takes the first job there is. A commit that
 * makes work ready wakes one idle slot; that one, before it runs its job,
 * wakes the next if there is more. So one wake-up is under way at a time, and
 * short bodies are run in a row by a slot that is awake, without a switch. */
#include "workers/runner_internal.h"

#include "base/clock.h"

#include <stdlib.h>

static bool may_start(const struct runner *runner)
{
    return runner->healthy && !runner->paused && (!runner->closing || runner->policy == CLOSE_JOIN);
}

bool schedule_has_work_locked(const struct runner *runner)
{
    if (!may_start(runner) || runner->alone_runs)
        return false;
    if (runner->alone_count)
        return runner->running == 0;
    return window_has_work(&runner->window);
}

struct job *schedule_take_locked(struct runner *runner, bool *alone)
{
    *alone = false;
    if (!schedule_has_work_locked(runner))
        return NULL;
    if (runner->alone_count) {
        struct job *job = runner->alone[0];
        memmove(runner->alone, runner->alone + 1, (size_t)--runner->alone_count * sizeof *runner->alone);
        *alone = runner->alone_runs = true;
        return job;
    }
    return window_take(&runner->window);
}

void schedule_wake_locked(struct runner *runner)
{
    if (runner->idle > 0 && !runner->waking && schedule_has_work_locked(runner)) {
        runner->waking = true;
        pthread_cond_signal(&runner->work);
    }
}

/* --- claims on their way ------------------------------------------------------- */

void schedule_claim_locked(struct runner *runner, struct run *run)
{
    run->claiming = true;
    run->claim_next = runner->claiming;
    if (run->claim_next)
        run->claim_next->claim_previous = run;
    runner->claiming = run;
}

void schedule_settle_locked(struct runner *runner, struct run *run, enum err err)
{
    if (!run->claiming)
        return;
    run->claiming = false;
    if (run->claim_previous)
        run->claim_previous->claim_next = run->claim_next;
    else
        runner->claiming = run->claim_next;
    if (run->claim_next)
        run->claim_next->claim_previous = run->claim_previous;
    if (run->again && err == ERR_CONFLICT) {
        window_offer(&runner->window, &run->again->ready, run->again->offered_us);
        schedule_wake_locked(runner);
    }
    free(run->again);
    run->again = NULL;
}

static struct run *claim_of(const struct runner *runner, int64_t id)
{
    struct run *run = runner->claiming;
    while (run && run->turn.id != id)
        run = run->claim_next;
    return run;
}

/* Is that claim still to decide about the job? If the row bears its lease, its
 * turn has been already. */
static bool decides(const struct run *run, const struct ready *ready)
{
    return run && ready->lease != run->turn.lease;
}

/* --- what the store reports ------------------------------------------------------ */

void schedule_offer_locked(struct runner *runner, const struct change *change, int64_t now_us)
{
    struct run *run = change->from ? claim_of(runner, change->id) : NULL;
    if (!decides(run, &change->ready)) {
        window_offer(&runner->window, &change->ready, now_us);
        return;
    }
    free(run->again);
    run->again = job_new(&change->ready, now_us);
}

static void withdraw_alone(struct runner *runner, int64_t id)
{
    for (int i = 0; i < runner->alone_count; i++) {
        if (runner->alone[i]->ready.id != id)
            continue;
        free(runner->alone[i]);
        runner->alone[i] = runner->alone[--runner->alone_count];
        return;
    }
}

void schedule_withdraw_locked(struct runner *runner, const struct change *change)
{
    struct run *run = claim_of(runner, change->id);
    if (run) {
        free(run->again);
        run->again = NULL;
    }
    window_withdraw(&runner->window, change->task, change->old_priority, change->id);
    withdraw_alone(runner, change->id);
    schedule_look_locked(runner, change->task);
}

static bool is_taken(void *context, const struct ready *ready)
{
    const struct runner *runner = context;
    for (int i = 0; i < runner->alone_count; i++)
        if (runner->alone[i]->ready.id == ready->id)
            return true;
    return decides(claim_of(runner, ready->id), ready);
}

/* Can a refill have found what was taken? What is taken comes from before the
 * lane's limit, mostly. */
static bool may_be_taken(const struct runner *runner, const struct op_refill *refill)
{
    for (const struct run *run = runner->claiming; run; run = run->claim_next) {
        const struct ready *ready = &run->job->ready;
        if (run->again || ready->priority > refill->after_priority ||
            (ready->priority == refill->after_priority && ready->id > refill->after_id))
            return true;
    }
    return runner->alone_count > 0;
}

void schedule_refilled_locked(struct runner *runner, const struct op_refill *refill, int64_t now_us)
{
    struct window_now now = {now_us, clock_now_ms()};
    window_refilled(&runner->window, refill, now, may_be_taken(runner, refill) ? is_taken : NULL, runner);
}

void schedule_release_alone_locked(struct runner *runner)
{
    int kept = 0;
    for (int i = 0; i < runner->alone_count; i++) {
        struct job *job = runner->alone[i];
        const struct lane *lane = window_lane(&runner->window, job->ready.task);
        if (lane->task && !lane->paused) {
            runner->alone[kept++] = job;
            continue;
        }
        window_offer(&runner->window, &job->ready, job->offered_us);
        free(job);
    }
    runner->alone_count = kept;
}

/* --- refills ------------------------------------------------------------------ */

static void schedule_refill_at_locked(struct runner *runner, int64_t at)
{
    if (at >= runner->refill_at)
        return;
    runner->refill_at = at;
    pthread_cond_signal(&runner->tick);
}

void schedule_look_locked(struct runner *runner, int task)
{
    if (lane_is_low(&runner->window, window_lane(&runner->window, task)))
        schedule_refill_at_locked(runner, 0);
}

static void refill_done(struct op *op)
{
    struct runner *runner = op->owner;
    struct op_refill *refill = (struct op_refill *)op;
    pthread_mutex_lock(&runner->lock);
    window_lane(&runner->window, refill->task)->refilling = false;
    if (op->err == OK)
        schedule_look_locked(runner, refill->task);
    else /* at once again, it would fail again */
        schedule_refill_at_locked(runner, clock_now_ms() + FAILED_AGAIN_MS);
    schedule_wake_locked(runner);
    pthread_cond_broadcast(&runner->quiet);
    pthread_mutex_unlock(&runner->lock);
    op_refill_release(refill);
    free(refill);
}

void schedule_refill_locked(struct runner *runner, int task, struct op_refill **out)
{
    struct lane *lane = window_lane(&runner->window, task);
    *out = NULL;
    if (!lane_is_low(&runner->window, lane) || !runner->healthy)
        return;
    struct op_refill *refill = xmalloc(sizeof *refill);
    op_refill_init(refill);
    refill->task = task;
    refill->after_priority = lane->limit_priority;
    refill->after_id = lane->limit_id;
    refill->limit = lane_room(&runner->window);
    refill->op.owner = runner;
    refill->op.done = refill_done;
    lane->refilling = true;
    *out = refill;
}

void schedule_refill_all(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    int count = runner->window.lane_count;
    pthread_mutex_unlock(&runner->lock);
    for (int task = 0; task < count; task++) {
        struct op_refill *refill = NULL;
        pthread_mutex_lock(&runner->lock);
        if (runner->window.lanes[task])
            schedule_refill_locked(runner, task, &refill);
        pthread_mutex_unlock(&runner->lock);
        if (refill)
            store_queue(runner->store, &refill->op);
    }
}
