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
    if (!may_start(runner))
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
        *alone = true;
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

/* --- refills ------------------------------------------------------------------ */

void schedule_look_locked(struct runner *runner, int task)
{
    if (!lane_is_low(&runner->window, window_lane(&runner->window, task)))
        return;
    runner->refill_wanted = true;
    pthread_cond_signal(&runner->tick);
}

static void refill_done(struct op *op)
{
    struct runner *runner = op->owner;
    struct op_refill *refill = (struct op_refill *)op;
    pthread_mutex_lock(&runner->lock);
    window_lane(&runner->window, refill->task)->refilling = false;
    schedule_look_locked(runner, refill->task);
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
