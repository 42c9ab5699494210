/* Giving out what is run elsewhere: who asks, and the claims for that on their way
 * to disk. leases.c has what is out by then. */
#include "workers/leases.h"

#include "base/clock.h"
#include "workers/leases_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

enum { UNSERVED_AFTER_US = 60 * 1000000 };

static bool has_news(struct runner *runner, const char *worker)
{
    const struct roster_entry *entry = roster_find_locked(runner, worker);
    return entry && entry->news;
}

/* Who is quiet may wait, and is given nothing. */
static bool is_active_locked(struct runner *runner, const struct lease_ask *ask)
{
    const struct roster_entry *entry = roster_find_locked(runner, ask->worker);
    return !entry || entry->state == WORKER_ACTIVE;
}

/* --- giving out --------------------------------------------------------------------------- */

/* A claim on its way to disk. */
struct lending {
    struct grant grant;
    struct op_claim claim;
    struct runner *runner;
    struct lease_ask *ask;               /* NULL: it has left */
    struct lending *prev, *next;         /* in ask->lendings */
    struct lending *all_prev, *all_next; /* in runner->lendings */
    bool cancelled;                      /* in the very batch of the claim */
    int64_t lease_ms;
    char worker[WORKER_NAME_MAX + 1];
};

static void lent(struct op *op);

static struct lending *lend_locked(struct runner *runner, struct lease_ask *ask, const struct grant *grant)
{
    struct lending *lending = xcalloc(1, sizeof *lending);
    int64_t now = clock_now_ms();
    lending->grant = *grant;
    lending->runner = runner;
    lending->ask = ask;
    lending->lease_ms = ask->lease_ms;
    snprintf(lending->worker, sizeof lending->worker, "%s", ask->worker);
    op_claim_init_awaited(&lending->claim, &grant->turn);
    lending->claim.failures = grant->job->ready.failures;
    lending->claim.flags = grant->job->ready.flags;
    lending->claim.resumes = grant->job->ready.resumes;
    lending->claim.lease_ms = ask->lease_ms;
    lending->claim.lease_until = now + ask->lease_ms;
    lending->claim.started_at = now;
    lending->claim.worker = span_of(lending->worker);
    lending->claim.turn.op.owner = lending;
    lending->claim.turn.op.done = lent;
    queue_claiming(&runner->queue, &lending->grant);
    DL_APPEND(ask->lendings, lending);
    DL_APPEND2(runner->lendings, lending, all_prev, all_next);
    histogram_add(&runner->wait, clock_mono_us() - grant->job->offered_us);
    runner->unfinished++;
    return lending;
}

/* What is past its time is left to the upkeep, which fails it as expired. */
static bool take_one_locked(struct runner *runner, const struct lease_ask *ask, struct grant *grant)
{
    while (queue_take_elsewhere(&runner->queue, ask->tasks, ask->task_count, lease_new(), grant)) {
        int64_t expires_at = grant->job->ready.expires_at;
        if (!expires_at || expires_at > clock_now_ms())
            return true;
        free(grant->job);
    }
    return false;
}

/* True if it was given something. */
static bool give_locked(struct runner *runner, struct lease_ask *ask, struct ops *ops)
{
    struct grant grant;
    int count = 0;
    while (count < ask->max && take_one_locked(runner, ask, &grant)) {
        ops_add(ops, &lend_locked(runner, ask, &grant)->claim.turn.op);
        runner_look_locked(runner, grant.turn.task);
        count++;
    }
    return count > 0;
}

void leases_serve_locked(struct runner *runner, struct ops *ops)
{
    struct lease_ask *ask, *next;
    DL_FOREACH_SAFE (runner->asks, ask, next) {
        if (!queue_has_work_elsewhere(&runner->queue))
            break;
        if (!is_active_locked(runner, ask) || !give_locked(runner, ask, ops))
            continue;
        DL_DELETE(runner->asks, ask);
        ask->listed = false;
    }
}

void leases_serve(struct runner *runner)
{
    struct ops ops = {0};
    pthread_mutex_lock(&runner->lock);
    leases_serve_locked(runner, &ops);
    pthread_mutex_unlock(&runner->lock);
    ops_queue(runner->store, &ops);
}

static void wait_locked(struct runner *runner, struct lease_ask *ask)
{
    ask->listed = true;
    DL_APPEND(runner->asks, ask);
}

/* Ends an ask: over() is the caller's to call, without the lock. */
static struct lease_ask *end_locked(struct runner *runner, struct lease_ask *ask)
{
    if (ask->listed)
        DL_DELETE(runner->asks, ask);
    ask->listed = false;
    ask->ended = true;
    return ask;
}

/* --- what becomes of a claim ---------------------------------------------------------------- */

static void lending_free(struct lending *lending)
{
    free(lending->grant.job);
    free(lending);
}

static void hold_locked(const struct lending *lending)
{
    struct runner *runner = lending->runner;
    const struct ready *ready = &lending->grant.job->ready;
    struct lease *lease = lease_add_locked(runner, &lending->grant.turn, lending->worker);
    int64_t now_us = clock_mono_us();
    lease->began_us = now_us;
    lease->lease_until = lending->claim.lease_until;
    lease->lease_ms = lending->lease_ms;
    lease->until_us = now_us + lease->lease_ms * 1000;
    lease->ends_us = ready->timeout_ms ? now_us + ready->timeout_ms * 1000 : 0;
    lease->pays = true;
    if (lending->cancelled)
        lease_cancel_locked(lease);
    lease->failures = ready->failures;
    lease->max_retries = ready->max_retries;
    lease->retention_ms = ready->retention_ms;
    lease_watch_locked(runner, lease, lease_due_us(lease));
}

/* The last of an ask's claims is back. */
static struct lease_ask *settle_ask_locked(struct lending *lending, struct ops *more)
{
    struct runner *runner = lending->runner;
    struct lease_ask *ask = lending->ask;
    DL_DELETE(ask->lendings, lending);
    if (lending->claim.turn.op.err == OK)
        ask->given[ask->given_count++] = lending->grant.turn;
    if (ask->lendings)
        return NULL;
    bool again = !ask->given_count && lending->claim.turn.op.err == ERR_CONFLICT && ask->waits &&
                 !runner->closing && !has_news(runner, ask->worker);
    if (!again)
        return end_locked(runner, ask);
    if (!is_active_locked(runner, ask) || !give_locked(runner, ask, more))
        wait_locked(runner, ask);
    return NULL;
}

static void lent(struct op *op)
{
    struct lending *lending = op->owner;
    struct runner *runner = lending->runner;
    struct lease_ask *over = NULL;
    struct ops more = {0};
    bool nobody = false, came_back = false;
    if (op->err == OK)
        runner_log_start(runner, &lending->grant.turn, span_of(lending->worker));
    pthread_mutex_lock(&runner->lock);
    if (err_is_fault(op->err))
        queue_put_back(&runner->queue, &lending->grant);
    else
        came_back = queue_settle(&runner->queue, &lending->grant, op->err);
    DL_DELETE2(runner->lendings, lending, all_prev, all_next);
    if (op->err == OK)
        hold_locked(lending);
    if (lending->ask)
        over = settle_ask_locked(lending, &more);
    else
        nobody = op->err == OK;
    if (--runner->unfinished == 0)
        pthread_cond_broadcast(&runner->quiet);
    pthread_mutex_unlock(&runner->lock);
    ops_queue(runner->store, &more);
    if (nobody)
        leases_return(runner, &lending->grant.turn, 1);
    if (over)
        over->over(over);
    if (came_back)
        leases_serve(runner);
    lending_free(lending);
}

/* --- asking ---------------------------------------------------------------------------------- */

bool leases_ask(struct runner *runner, struct lease_ask *ask, bool wait)
{
    struct ops ops = {0};
    int64_t now_us = clock_mono_us();
    ask->waits = wait;
    pthread_mutex_lock(&runner->lock);
    struct roster_entry *entry = roster_entry_locked(runner, ask->worker);
    bool news = entry->news;
    entry->asked = ask->max;
    if (!ask->tasks)
        runner->asked_all_us = now_us;
    for (int i = 0; i < ask->task_count; i++)
        window_lane(&runner->queue.window, ask->tasks[i])->asked_us = now_us;
    bool taken = entry->state == WORKER_ACTIVE && !runner->closing && give_locked(runner, ask, &ops);
    bool fills = queue_fills_elsewhere(&runner->queue, ask->tasks, ask->task_count);
    bool waits = !taken && (wait || fills) && !news && !runner->closing;
    if (waits)
        wait_locked(runner, ask);
    pthread_mutex_unlock(&runner->lock);
    ops_queue(runner->store, &ops);
    return taken || waits;
}

bool leases_leave(struct runner *runner, struct lease_ask *ask)
{
    struct lending *lending, *next;
    pthread_mutex_lock(&runner->lock);
    bool left = !ask->ended;
    if (ask->listed)
        DL_DELETE(runner->asks, ask);
    ask->listed = false;
    DL_FOREACH_SAFE (ask->lendings, lending, next) {
        DL_DELETE(ask->lendings, lending);
        lending->ask = NULL;
    }
    pthread_mutex_unlock(&runner->lock);
    return left;
}

/* It does not wait, and stayed for what was still to come from disk. */
static bool has_seen_all(const struct runner *runner, const struct lease_ask *ask)
{
    return !ask->waits && !queue_fills_elsewhere(&runner->queue, ask->tasks, ask->task_count);
}

void leases_end_asks(struct runner *runner, bool all)
{
    struct lease_ask *ended = NULL, *ask, *next;
    pthread_mutex_lock(&runner->lock);
    DL_FOREACH_SAFE (runner->asks, ask, next) {
        if (!all && !has_news(runner, ask->worker) && !has_seen_all(runner, ask))
            continue;
        end_locked(runner, ask);
        DL_APPEND(ended, ask);
    }
    pthread_mutex_unlock(&runner->lock);
    DL_FOREACH_SAFE (ended, ask, next)
        ask->over(ask);
}

void lending_cancelled_locked(struct runner *runner, int64_t id)
{
    struct lending *lending;
    DL_FOREACH2 (runner->lendings, lending, all_next)
        lending->cancelled |= lending->grant.turn.id == id;
}

/* --- giving back ---------------------------------------------------------------------- */

static void returned(struct op *op)
{
    free(op);
}

void leases_return(struct runner *runner, const struct turn *turns, int count)
{
    struct ops ops = {0};
    for (int i = 0; i < count; i++) {
        struct op_finish *finish = xmalloc(sizeof *finish);
        op_finish_init(finish, &turns[i]);
        finish->next = FINISH_UNSTARTED;
        finish->status = STATUS_QUEUED;
        finish->finished_at = clock_now_ms();
        finish->turn.op.done = returned;
        ops_add(&ops, &finish->turn.op);
    }
    ops_queue(runner->store, &ops);
}

/* --- looking in -------------------------------------------------------------------------------------- */

static bool is_asked_locked(struct runner *runner, int task)
{
    const struct lease_ask *ask;
    DL_FOREACH (runner->asks, ask) {
        bool wanted = !ask->tasks;
        if (!is_active_locked(runner, ask))
            continue;
        for (int i = 0; i < ask->task_count && !wanted; i++)
            wanted = ask->tasks[i] == task;
        if (wanted)
            return true;
    }
    return false;
}

struct unserved *leases_unserved(struct runner *runner, int *count)
{
    int64_t now_us = clock_mono_us(), now_ms = clock_now_ms();
    *count = 0;
    pthread_mutex_lock(&runner->lock);
    int lanes = runner->queue.window.lane_count;
    struct unserved *out = xcalloc((size_t)lanes + 1, sizeof *out);
    for (int task = 1; task < lanes; task++) {
        if (!queue_waits_elsewhere(&runner->queue, task) || is_asked_locked(runner, task))
            continue;
        int64_t asked_us = runner->queue.window.lanes[task]->asked_us;
        asked_us = asked_us > runner->asked_all_us ? asked_us : runner->asked_all_us;
        if (asked_us && now_us - asked_us < UNSERVED_AFTER_US)
            continue;
        out[(*count)++] = (struct unserved){task, asked_us ? now_ms - (now_us - asked_us) / 1000 : 0};
    }
    pthread_mutex_unlock(&runner->lock);
    return out;
}
