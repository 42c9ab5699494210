#include "workers/queue/queue.h"

#include <stdlib.h>
#include <utlist.h>

void queue_init(struct queue *queue)
{
    *queue = (struct queue){0};
}

void queue_release(struct queue *queue)
{
    for (int i = 0; i < queue->suspect_count; i++)
        free(queue->suspects[i]);
    free(queue->suspects);
    window_release(&queue->window);
    for (int i = 0; i < PLACES; i++)
        consumer_release(&queue->consumers[i]);
}

/* --- the tasks that may run ------------------------------------------------------- */

static struct lane *lane_of(struct queue *queue, int task)
{
    return window_lane(&queue->window, task);
}

void queue_tasks_begin(struct queue *queue)
{
    for (int i = 0; i < queue->window.lane_count; i++)
        if (queue->window.lanes[i])
            window_set(&queue->window, queue->window.lanes[i], NULL, NULL, false);
}

void queue_task_set(struct queue *queue, const struct task *task, enum place place, bool paused)
{
    window_set(&queue->window, lane_of(queue, task->id), task, &queue->consumers[place], paused);
}

void queue_task_limit(struct queue *queue, int task, int limit)
{
    window_limit(&queue->window, lane_of(queue, task)->room, limit);
}

void queue_task_room(struct queue *queue, int task, const void *room)
{
    window_enter(&queue->window, lane_of(queue, task), room);
}

void queue_room_limit(struct queue *queue, const void *of, int limit)
{
    struct room *room = window_room(&queue->window, of);
    if (room)
        window_limit(&queue->window, room, limit);
}

/* What is out of a room that its lane has left is nobody's, and so is a suspect. */
static void count_out(struct queue *queue, const struct grant *grant, int more)
{
    if (grant->suspect)
        return;
    struct lane *lane = lane_of(queue, grant->turn.task);
    if (lane->stay == grant->stay)
        window_count_out(&queue->window, lane, more);
}

int queue_held_up(const struct queue *queue, const void *of)
{
    const struct room *room = window_room(&queue->window, of);
    int count = 0;
    for (const struct lane *lane = room && !queue->closed ? room->lanes : NULL; lane; lane = lane->roommate)
        count += lane->consumer && !lane->paused && window_is_full(lane) ? lane->count : 0;
    return count;
}

void queue_gives_way(struct queue *queue, struct grant *grant, bool gives)
{
    if (!grant->in_flight || grant->gave_way == gives)
        return;
    grant->gave_way = gives;
    count_out(queue, grant, gives ? -1 : 1);
}

/* Of one that ran in the process. */
static bool may_run_apart(struct queue *queue, int task)
{
    const struct lane *lane = lane_of(queue, task);
    return lane->consumer == &queue->consumers[IN_PROCESS] && !lane->paused;
}

void queue_tasks_end(struct queue *queue)
{
    int kept = 0;
    for (int i = 0; i < queue->suspect_count; i++) {
        struct job *job = queue->suspects[i];
        if (may_run_apart(queue, job->ready.task)) {
            queue->suspects[kept++] = job;
            continue;
        }
        window_offer(&queue->window, &job->ready, job->offered_us);
        free(job);
    }
    queue->suspect_count = kept;
}

void queue_task_pause(struct queue *queue, int task, bool paused)
{
    struct lane *lane = lane_of(queue, task);
    window_set(&queue->window, lane, lane->task, lane->consumer, paused);
    queue_tasks_end(queue);
}

const struct task *queue_task(struct queue *queue, int task)
{
    return lane_of(queue, task)->task;
}

/* --- what was given out -------------------------------------------------------------- */

static struct grant *claim_of(const struct queue *queue, int64_t id)
{
    struct grant *grant;
    DL_SEARCH_SCALAR(queue->claiming, grant, turn.id, id);
    return grant;
}

/* Is that claim still to decide about the job? If the row bears its lease, its
 * turn has been already; unless its body is still to end. */
static bool decides(const struct grant *grant, const struct ready *ready)
{
    return grant && (grant->suspended || ready->lease != grant->turn.lease);
}

void queue_claiming(struct queue *queue, struct grant *grant)
{
    grant->claiming = true;
    DL_PREPEND(queue->claiming, grant);
}

/* Whatever came anew may be given out. */
static bool release(struct queue *queue, struct grant *grant, bool back)
{
    grant->claiming = false;
    DL_DELETE(queue->claiming, grant);
    back = back && grant->anew;
    if (back)
        window_offer(&queue->window, &grant->anew->ready, grant->anew->offered_us);
    free(grant->anew);
    grant->anew = NULL;
    return back;
}

bool queue_settle(struct queue *queue, struct grant *grant, enum err err)
{
    if (!grant->claiming || grant->refused)
        return false;
    if (grant->suspended)
        return !grant->runs && release(queue, grant, true);
    grant->refused = err == ERR_CONFLICT;
    if (grant->refused && grant->runs && !grant->in_process)
        return false;
    return release(queue, grant, grant->refused);
}

/* --- what the store reports ------------------------------------------------------------ */

void queue_offer(struct queue *queue, const struct change *change, int64_t now_us)
{
    struct grant *grant = change->from ? claim_of(queue, change->id) : NULL;
    if (!decides(grant, &change->ready)) {
        window_offer(&queue->window, &change->ready, now_us);
        return;
    }
    free(grant->anew);
    grant->anew = job_new(&change->ready, now_us);
}

static void withdraw_suspect(struct queue *queue, int64_t id)
{
    for (int i = 0; i < queue->suspect_count; i++) {
        if (queue->suspects[i]->ready.id != id)
            continue;
        free(queue->suspects[i]);
        queue->suspects[i] = queue->suspects[--queue->suspect_count];
        return;
    }
}

void queue_withdraw(struct queue *queue, const struct change *change)
{
    struct grant *grant = claim_of(queue, change->id);
    if (grant) {
        free(grant->anew);
        grant->anew = NULL;
    }
    window_withdraw(&queue->window, change->task, change->old_priority, change->old_rank, change->id);
    withdraw_suspect(queue, change->id);
}

static bool is_taken(void *context, const struct ready *ready)
{
    struct queue *queue = context;
    for (int i = 0; i < queue->suspect_count; i++)
        if (queue->suspects[i]->ready.id == ready->id)
            return true;
    struct grant *grant = claim_of(queue, ready->id);
    if (!decides(grant, ready))
        return false;
    if ((grant->refused || grant->suspended) && !grant->anew) /* it waits for the process of the last turn */
        grant->anew = job_new(ready, queue->refilled_us);
    return true;
}

/* Can a refill have found what was taken? What is taken comes from before the
 * lane's limit, mostly. */
static bool may_be_taken(const struct queue *queue, const struct op_refill *refill)
{
    const struct grant *grant;
    DL_FOREACH (queue->claiming, grant) {
        const struct ready *ready = &grant->job->ready;
        if (ready->task == refill->task &&
            (grant->anew || grant->refused || grant->suspended || ready->priority > refill->after_priority ||
             (ready->priority == refill->after_priority && ready->rank > refill->after_rank)))
            return true;
    }
    return queue->suspect_count > 0;
}

void queue_refilled(struct queue *queue, const struct op_refill *refill, struct window_now now)
{
    queue->refilled_us = now.mono_us;
    window_refilled(&queue->window, refill, now, may_be_taken(queue, refill) ? is_taken : NULL, queue);
}

/* --- giving out -------------------------------------------------------------------------- */

bool queue_has_work(const struct queue *queue)
{
    return !queue->closed &&
           (consumer_has_work(&queue->consumers[IN_PROCESS]) || consumer_has_work(&queue->consumers[APART]));
}

/* The first of a task of which no other waits for a child; -1: there is none. */
static int next_suspect(const struct queue *queue)
{
    for (int i = 0; i < queue->suspect_count; i++)
        if (!queue->window.lanes[queue->suspects[i]->ready.task]->has_suspect_out)
            return i;
    return -1;
}

bool queue_has_work_in_flight(const struct queue *queue)
{
    return !queue->closed && (next_suspect(queue) >= 0 || consumer_has_work(&queue->consumers[IN_FLIGHT]));
}

bool queue_has_work_elsewhere(const struct queue *queue)
{
    return !queue->closed && consumer_has_work(&queue->consumers[ELSEWHERE]);
}

static struct job *take_suspect(struct queue *queue, int i)
{
    struct job **at = queue->suspects + i, *job = *at;
    memmove(at, at + 1, (size_t)(--queue->suspect_count - i) * sizeof *at);
    lane_of(queue, job->ready.task)->has_suspect_out = true;
    return job;
}

void queue_begins(struct queue *queue, struct grant *grant)
{
    if (grant->unbegun)
        lane_of(queue, grant->turn.task)->has_suspect_out = false;
    grant->unbegun = false;
}

static struct job *take_from_lanes(struct queue *queue, bool *in_process)
{
    struct consumer *inside = &queue->consumers[IN_PROCESS], *apart = &queue->consumers[APART];
    bool has_apart = consumer_has_work(apart);
    *in_process = consumer_has_work(inside) && (!has_apart || window_comes_first(&queue->window, inside, apart));
    return window_take(&queue->window, *in_process ? inside : apart);
}

static struct turn turn_of(const struct job *job, int64_t lease)
{
    const struct ready *ready = &job->ready;
    return (struct turn){ready->id, lease, ready->task, ready->attempt + 1, ready->group};
}

static void put_aside(struct queue *queue, struct job *job)
{
    queue->suspects = xrealloc(queue->suspects, (size_t)(queue->suspect_count + 1) * sizeof *queue->suspects);
    queue->suspects[queue->suspect_count++] = job;
}

bool queue_take(struct queue *queue, int64_t lease, struct grant *grant)
{
    while (queue_has_work(queue)) {
        *grant = (struct grant){.runs = true};
        grant->job = take_from_lanes(queue, &grant->in_process);
        if (grant->in_process && grant->job->ready.suspect) {
            put_aside(queue, grant->job);
            continue;
        }
        grant->turn = turn_of(grant->job, lease);
        return true;
    }
    return false;
}

bool queue_take_in_flight(struct queue *queue, int64_t lease, struct grant *grant)
{
    if (!queue_has_work_in_flight(queue))
        return false;
    int i = next_suspect(queue);
    *grant = (struct grant){.suspect = i >= 0, .unbegun = i >= 0, .in_flight = true, .runs = true};
    grant->job =
        grant->suspect ? take_suspect(queue, i) : window_take(&queue->window, &queue->consumers[IN_FLIGHT]);
    grant->turn = turn_of(grant->job, lease);
    if (grant->suspect)
        return true;
    grant->stay = lane_of(queue, grant->turn.task)->stay;
    count_out(queue, grant, 1);
    return true;
}

bool queue_take_elsewhere(struct queue *queue, const int *tasks, int count, int64_t lease, struct grant *grant)
{
    struct consumer *elsewhere = &queue->consumers[ELSEWHERE];
    if (queue->closed)
        return false;
    struct job *job =
        tasks ? window_take_of(&queue->window, elsewhere, tasks, count) : window_take(&queue->window, elsewhere);
    if (!job)
        return false;
    *grant = (struct grant){.job = job, .turn = turn_of(job, lease)};
    return true;
}

void queue_put_back(struct queue *queue, struct grant *grant)
{
    if (!grant->anew)
        window_offer(&queue->window, &grant->job->ready, grant->job->offered_us);
    release(queue, grant, true);
}

void queue_suspended(struct queue *queue, struct grant *grant)
{
    grant->suspended = true;
    free(grant->anew); /* what came before the turn is over with it */
    grant->anew = NULL;
    if (!grant->claiming)
        queue_claiming(queue, grant);
}

bool queue_left(struct queue *queue, struct grant *grant)
{
    grant->runs = false;
    queue_begins(queue, grant);
    if (grant->in_flight && !grant->gave_way)
        count_out(queue, grant, -1);
    return grant->refused && grant->claiming && release(queue, grant, true);
}

/* --- refills --------------------------------------------------------------------------------- */

bool queue_is_low(struct queue *queue, int task)
{
    return lane_is_low(&queue->window, lane_of(queue, task));
}

bool queue_wants_refill(struct queue *queue, int task, struct op_refill *refill)
{
    struct lane *lane = lane_of(queue, task);
    if (!lane_is_low(&queue->window, lane))
        return false;
    refill->task = task;
    refill->after_priority = lane->limit_priority;
    refill->after_rank = lane->limit_rank;
    refill->limit = lane_room(&queue->window);
    lane->refilling = true;
    return true;
}

void queue_refill_done(struct queue *queue, int task)
{
    lane_of(queue, task)->refilling = false;
}

bool queue_is_drained(const struct queue *queue)
{
    return !queue->suspect_count && window_is_drained(&queue->window, &queue->consumers[IN_PROCESS]) &&
           window_is_drained(&queue->window, &queue->consumers[APART]) &&
           window_is_drained(&queue->window, &queue->consumers[IN_FLIGHT]);
}

bool queue_waits_elsewhere(const struct queue *queue, int task)
{
    const struct lane *lane = task < queue->window.lane_count ? queue->window.lanes[task] : NULL;
    return lane && lane->consumer == &queue->consumers[ELSEWHERE] && !lane->paused && lane->count;
}

static bool fills_elsewhere(const struct queue *queue, int task)
{
    const struct lane *lane = task < queue->window.lane_count ? queue->window.lanes[task] : NULL;
    return lane && lane->consumer == &queue->consumers[ELSEWHERE] && !lane->paused && !lane->count &&
           (lane->more || lane->refilling);
}

bool queue_fills_elsewhere(const struct queue *queue, const int *tasks, int count)
{
    bool fills = false;
    if (!tasks)
        count = queue->window.lane_count;
    for (int i = 0; i < count && !fills; i++)
        fills = fills_elsewhere(queue, tasks ? tasks[i] : i);
    return fills && !queue->closed;
}
