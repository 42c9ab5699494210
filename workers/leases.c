#include "workers/leases.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/leases_internal.h"
#include "workers/verdict.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

enum {
    LEASE_DEFAULT_MS = 30000,
    RECOVERIES_DEFAULT = 3, /* of a task that left the configuration */
    UNSERVED_AFTER_US = 60 * 1000000,
};

/* --- the leases that are out ---------------------------------------------------------- */

static struct lease *find_locked(struct runner *runner, int64_t id, int64_t token)
{
    struct lease *lease;
    HASH_FIND(hh, runner->leases, &id, sizeof id, lease);
    return lease && (!token || lease->turn.lease == token) ? lease : NULL;
}

static void watch_locked(struct runner *runner, struct lease *lease, int64_t at_us)
{
    deadlines_remove(&runner->lease_deadlines, &lease->deadline);
    deadlines_add(&runner->lease_deadlines, &lease->deadline, at_us);
    dispatcher_set_locked(runner, TIMER_LEASES, at_us);
}

static int64_t due_us(const struct lease *lease)
{
    bool held = lease->holds && lease->held_us > lease->until_us;
    int64_t until_us = held ? lease->held_us : lease->until_us;
    return lease->ends_us && lease->ends_us < until_us ? lease->ends_us : until_us;
}

static void forget_locked(struct runner *runner, struct lease *lease)
{
    deadlines_remove(&runner->lease_deadlines, &lease->deadline);
    HASH_DELETE(hh, runner->leases, lease);
    lease->holder->held--;
    lease->holder->cancelled -= lease->cancelled;
    free(lease);
}

static void cancel_locked(struct lease *lease)
{
    lease->cancelled = true;
    lease->holder->cancelled++;
    lease->holder->news = true;
}

static struct lease *add_locked(struct runner *runner, const struct turn *turn, const char *worker)
{
    struct lease *lease = find_locked(runner, turn->id, 0);
    if (lease)
        forget_locked(runner, lease);
    lease = xcalloc(1, sizeof *lease);
    lease->turn = *turn;
    lease->holder = roster_entry_locked(runner, worker);
    lease->holder->held++;
    HASH_ADD(hh, runner->leases, turn.id, sizeof lease->turn.id, lease);
    return lease;
}

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
    struct lease *lease = add_locked(runner, &lending->grant.turn, lending->worker);
    int64_t now_us = clock_mono_us();
    lease->lease_until = lending->claim.lease_until;
    lease->lease_ms = lending->lease_ms;
    lease->until_us = now_us + lease->lease_ms * 1000;
    lease->ends_us = ready->timeout_ms ? now_us + ready->timeout_ms * 1000 : 0;
    lease->pays = true;
    if (lending->cancelled)
        cancel_locked(lease);
    lease->failures = ready->failures;
    lease->max_retries = ready->max_retries;
    lease->retention_ms = ready->retention_ms;
    watch_locked(runner, lease, due_us(lease));
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

/* --- giving back, renewing ---------------------------------------------------------------------- */

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

void leases_renewed(struct runner *runner, const struct turn *turn, int64_t lease_ms, int64_t lease_until)
{
    pthread_mutex_lock(&runner->lock);
    struct lease *lease = find_locked(runner, turn->id, turn->lease);
    if (lease) {
        lease->lease_until = lease_until;
        lease->lease_ms = lease_ms;
        lease->until_us = clock_mono_us() + lease_ms * 1000;
        lease->pays = true;
        roster_seen_locked(lease->holder);
        watch_locked(runner, lease, due_us(lease));
    }
    pthread_mutex_unlock(&runner->lock);
}

bool leases_hold(struct runner *runner, const struct turn *turn, int64_t for_ms, int64_t lease_until)
{
    pthread_mutex_lock(&runner->lock);
    struct lease *lease = find_locked(runner, turn->id, turn->lease);
    if (lease) {
        int64_t held_us = clock_mono_us() + (for_ms + lease->lease_ms) * 1000;
        lease->lease_until = lease_until;
        lease->held_us = lease->holds++ && lease->held_us > held_us ? lease->held_us : held_us;
        lease->pays = true;
        roster_seen_locked(lease->holder);
        watch_locked(runner, lease, due_us(lease));
    }
    pthread_mutex_unlock(&runner->lock);
    return lease;
}

/* One whose end is on its way is not watched. */
static void watch_again_locked(struct runner *runner, struct lease *lease)
{
    if (lease->deadline.place)
        watch_locked(runner, lease, due_us(lease));
}

void leases_let_go(struct runner *runner, const struct turn *turn)
{
    pthread_mutex_lock(&runner->lock);
    struct lease *lease = find_locked(runner, turn->id, turn->lease);
    if (lease) {
        lease->holds--;
        lease->until_us = clock_mono_us() + lease->lease_ms * 1000;
        watch_again_locked(runner, lease);
    }
    pthread_mutex_unlock(&runner->lock);
}

void leases_stand_still_locked(struct runner *runner, const struct turn *turn)
{
    struct lease *lease = find_locked(runner, turn->id, turn->lease);
    if (!lease || !lease->ends_us)
        return;
    int64_t left_us = lease->ends_us - clock_mono_us();
    lease->ends_left_us = left_us > 0 ? left_us : 1;
    lease->ends_us = 0;
    watch_again_locked(runner, lease);
}

void leases_go_on_locked(struct runner *runner, const struct turn *turn)
{
    struct lease *lease = find_locked(runner, turn->id, turn->lease);
    if (!lease || !lease->ends_left_us)
        return;
    lease->ends_us = clock_mono_us() + lease->ends_left_us;
    lease->ends_left_us = 0;
    watch_again_locked(runner, lease);
}

bool leases_is_cancelled_locked(struct runner *runner, const struct turn *turn)
{
    const struct lease *lease = find_locked(runner, turn->id, turn->lease);
    return lease && lease->cancelled;
}

void leases_begin_anew_locked(struct runner *runner)
{
    struct lease *lease, *next;
    int64_t now_us = clock_mono_us();
    HASH_ITER (hh, runner->leases, lease, next) {
        lease->until_us = now_us + lease->lease_ms * 1000;
        watch_locked(runner, lease, due_us(lease));
    }
}

int leases_cancelled(struct runner *runner, const char *worker, struct turn *turns, int max)
{
    int count = 0;
    struct lease *lease, *next;
    pthread_mutex_lock(&runner->lock);
    struct roster_entry *entry = roster_entry_locked(runner, worker);
    entry->news = false;
    if (entry->cancelled)
        HASH_ITER (hh, runner->leases, lease, next)
            if (count < max && lease->cancelled && lease->holder == entry)
                turns[count++] = lease->turn;
    pthread_mutex_unlock(&runner->lock);
    return count;
}

/* --- taken over --------------------------------------------------------------------------------- */

void leases_take_over_locked(struct runner *runner, struct run *run, bool written)
{
    const struct ready *ready = &run->grant.job->ready;
    const struct op_finish *finish = &run->finish;
    struct lease *lease = find_locked(runner, run->grant.turn.id, run->grant.turn.lease);
    if (written && !lease) /* it has ended since */
        return;
    if (!written) {
        lease = add_locked(runner, &run->grant.turn, run->task->kind->name);
        lease->lease_until = finish->lease_until;
        lease->lease_ms = finish->lease_ms;
        lease->pays = lease->promised = true;
        lease->failures = ready->failures;
        lease->max_retries = ready->max_retries;
        lease->retention_ms = ready->retention_ms;
        lease->ends_us = run->attempt.deadline_us;
        lease->ends_left_us = run->timeout_left_us;
        waits_take_over_locked(run);
        if (atomic_load(&run->attempt.stop) == STOP_CANCEL)
            cancel_locked(lease);
        return;
    }
    lease->promised = false;
    lease->until_us = clock_mono_us() + lease->lease_ms * 1000;
    watch_locked(runner, lease, due_us(lease));
}

bool leases_is_promised_locked(struct runner *runner, int64_t id, int64_t token)
{
    const struct lease *lease = find_locked(runner, id, token);
    return lease && lease->promised;
}

void leases_not_taken_over_locked(struct runner *runner, const struct run *run)
{
    struct lease *lease = find_locked(runner, run->grant.turn.id, run->grant.turn.lease);
    if (lease)
        forget_locked(runner, lease);
}

/* --- what the store reports ------------------------------------------------------------------------ */

static void note_cancel_of_claimed(struct runner *runner, int64_t id)
{
    struct lending *lending;
    DL_FOREACH2 (runner->lendings, lending, all_next)
        lending->cancelled |= lending->grant.turn.id == id;
}

bool leases_take_change_locked(struct runner *runner, const struct change *change)
{
    if (change->cancel)
        note_cancel_of_claimed(runner, change->id);
    struct lease *lease = runner->leases ? find_locked(runner, change->id, 0) : NULL;
    if (!lease || !status_in_turn(change->from))
        return false;
    if (!status_in_turn(change->to) || change->suspended) {
        forget_locked(runner, lease);
    } else if (change->cancel && !lease->cancelled) {
        cancel_locked(lease);
        return true;
    }
    return false;
}

/* --- ends that nobody reports ------------------------------------------------------------------------ */

struct lease_end {
    union {
        struct turn_op op; /* both begin so */
        struct op_lose lose;
        struct op_finish finish;
    };
    struct runner *runner;
    const char *what; /* a line of the log */
};

static const struct task *task_of(struct runner *runner, const struct turn *turn)
{
    return queue_task(&runner->queue, turn->task);
}

static void lose_locked(struct runner *runner, const struct lease *lease, struct lease_end *end)
{
    const struct task *task = task_of(runner, &lease->turn);
    end->what = "a lease ran out";
    op_lose_init(&end->lose, &lease->turn);
    end->lose.lease_until = lease->lease_until;
    end->lose.pays = lease->pays;
    end->lose.max_recoveries = task ? task->options.max_recoveries : RECOVERIES_DEFAULT;
}

static void time_out_locked(struct runner *runner, const struct lease *lease, struct lease_end *end)
{
    struct failure failure = {
        .type = SPAN("timeout"),
        .error = SPAN("{\"type\":\"timeout\",\"message\":\"it did not end in time\"}"),
        .retry_after_ms = -1,
        .failures = lease->failures,
        .max_retries = lease->max_retries,
    };
    end->what = "an attempt elsewhere did not end in time";
    op_finish_init(&end->finish, &lease->turn);
    end->finish.retention_ms = lease->retention_ms;
    verdict_on_failure(&end->finish, task_of(runner, &lease->turn), &failure, clock_now_ms(),
                       verdict_random(&lease->turn));
}

static void log_end(struct runner *runner, const struct turn *turn, const char *what)
{
    char id[ID_TEXT_LEN + 1] = "";
    int left_out;
    if (!runner_may_log(runner, turn->task, &left_out))
        return;
    id_format(turn->id, id);
    log_warn(what, LOG_STR("task", store_task_name(runner->store, turn->task)), LOG_STR("id", id),
             LOG_INT("attempt", turn->attempt), LOG_INT("left_out", left_out));
}

/* Refused: it was renewed, and is watched again, or reported, and is forgotten.
 * A fault: it is tried again. */
static void end_written(struct op *op)
{
    struct lease_end *end = (struct lease_end *)op;
    struct runner *runner = end->runner;
    struct turn turn = end->op.turn;
    pthread_mutex_lock(&runner->lock);
    struct lease *lease = find_locked(runner, turn.id, turn.lease);
    if (lease && err_is_fault(op->err))
        watch_locked(runner, lease, clock_mono_us() + FAILED_AGAIN_MS * 1000);
    else if (lease && !lease->deadline.place)
        forget_locked(runner, lease);
    pthread_mutex_unlock(&runner->lock);
    if (op->err == OK)
        log_end(runner, &turn, end->what);
    free(end);
}

void leases_expire(struct runner *runner)
{
    struct ops ops = {0};
    int64_t now_us = clock_mono_us();
    struct deadline *first;
    pthread_mutex_lock(&runner->lock);
    if (!runner->healthy) { /* nor could anybody renew: all begin anew when commits work */
        dispatcher_set_locked(runner, TIMER_LEASES, now_us + FAILED_AGAIN_MS * 1000);
        pthread_mutex_unlock(&runner->lock);
        return;
    }
    while ((first = deadlines_first(&runner->lease_deadlines)) && first->at_us <= now_us) {
        struct lease *lease = (struct lease *)first;
        struct lease_end *end = xcalloc(1, sizeof *end);
        deadlines_remove(&runner->lease_deadlines, first);
        if (lease->ends_us && lease->ends_us <= now_us)
            time_out_locked(runner, lease, end);
        else
            lose_locked(runner, lease, end);
        end->runner = runner;
        end->op.op.done = end_written;
        ops_add(&ops, &end->op.op);
    }
    if (first)
        dispatcher_set_locked(runner, TIMER_LEASES, first->at_us);
    pthread_mutex_unlock(&runner->lock);
    ops_queue(runner->store, &ops);
}

/* --- those that the last server gave out ---------------------------------------------------------- */

/* Whatever the clock says by now: not more than all of it. */
static int64_t left_of_timeout(const struct turn_row *row)
{
    int64_t left_ms = row->started_at + row->timeout_ms - clock_now_ms();
    return left_ms < row->timeout_ms ? left_ms : row->timeout_ms;
}

/* They begin anew, and cost nothing if their holder is gone. */
static void load_one(void *context, const struct turn_row *row)
{
    struct runner *runner = context;
    char worker[WORKER_NAME_MAX + 1];
    snprintf(worker, sizeof worker, "%.*s", (int)row->worker.len, row->worker.p ? row->worker.p : "");
    int64_t now_us = clock_mono_us();
    pthread_mutex_lock(&runner->lock);
    struct lease *lease = add_locked(runner, &row->turn, worker);
    lease->lease_until = row->lease_until;
    lease->lease_ms = row->lease_ms ? row->lease_ms : LEASE_DEFAULT_MS;
    lease->until_us = now_us + lease->lease_ms * 1000;
    if (row->status == STATUS_WAITING)
        waits_load_locked(runner, &row->turn);
    if (row->timeout_ms && row->status == STATUS_WAITING) /* for how long is not known: all of it is left */
        lease->ends_left_us = row->timeout_ms * 1000;
    else if (row->timeout_ms)
        lease->ends_us = now_us + left_of_timeout(row) * 1000;
    if (row->cancelled)
        cancel_locked(lease);
    lease->failures = row->failures;
    lease->max_retries = row->max_retries;
    lease->retention_ms = row->retention_ms;
    watch_locked(runner, lease, due_us(lease));
    pthread_mutex_unlock(&runner->lock);
}

enum err leases_load(struct runner *runner, struct reason *why)
{
    struct reader *reader = NULL;
    enum err err = reader_open(runner->store, &reader, why);
    if (err == OK)
        err = reader_leases(reader, load_one, runner);
    reader_close(reader);
    return err;
}

void leases_release(struct runner *runner)
{
    struct lease *lease, *next;
    HASH_ITER (hh, runner->leases, lease, next)
        forget_locked(runner, lease);
    deadlines_release(&runner->lease_deadlines);
    roster_release(runner);
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
