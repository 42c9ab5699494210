#include "workers/leases.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/leases_internal.h"
#include "workers/verdict.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    LEASE_DEFAULT_MS = 30000,
    RECOVERIES_DEFAULT = 3, /* of a task that left the configuration */
};

/* --- the leases that are out ---------------------------------------------------------- */

struct lease *lease_find_locked(struct runner *runner, int64_t id, int64_t token)
{
    struct lease *lease;
    HASH_FIND(hh, runner->leases, &id, sizeof id, lease);
    return lease && (!token || lease->turn.lease == token) ? lease : NULL;
}

void lease_watch_locked(struct runner *runner, struct lease *lease, int64_t at_us)
{
    deadlines_remove(&runner->lease_deadlines, &lease->deadline);
    deadlines_add(&runner->lease_deadlines, &lease->deadline, at_us);
    dispatcher_set_locked(runner, TIMER_LEASES, at_us);
}

int64_t lease_due_us(const struct lease *lease)
{
    bool held = lease->holds && lease->held_us > lease->until_us;
    int64_t until_us = held ? lease->held_us : lease->until_us;
    return lease->ends_us && lease->ends_us < until_us ? lease->ends_us : until_us;
}

static void lease_forget_locked(struct runner *runner, struct lease *lease)
{
    deadlines_remove(&runner->lease_deadlines, &lease->deadline);
    HASH_DELETE(hh, runner->leases, lease);
    lease->holder->held--;
    lease->holder->cancelled -= lease->cancelled;
    free(lease);
}

void lease_cancel_locked(struct lease *lease)
{
    lease->cancelled = true;
    lease->holder->cancelled++;
    lease->holder->news = true;
}

struct lease *lease_add_locked(struct runner *runner, const struct turn *turn, const char *worker)
{
    struct lease *lease = lease_find_locked(runner, turn->id, 0);
    if (lease)
        lease_forget_locked(runner, lease);
    lease = xcalloc(1, sizeof *lease);
    lease->turn = *turn;
    lease->holder = roster_entry_locked(runner, worker);
    lease->holder->held++;
    HASH_ADD(hh, runner->leases, turn.id, sizeof lease->turn.id, lease);
    return lease;
}

/* --- renewing ------------------------------------------------------------------------------ */

void leases_renewed(struct runner *runner, const struct turn *turn, int64_t lease_ms, int64_t lease_until)
{
    pthread_mutex_lock(&runner->lock);
    struct lease *lease = lease_find_locked(runner, turn->id, turn->lease);
    if (lease) {
        lease->lease_until = lease_until;
        lease->lease_ms = lease_ms;
        lease->until_us = clock_mono_us() + lease_ms * 1000;
        lease->pays = true;
        roster_seen_locked(lease->holder);
        lease_watch_locked(runner, lease, lease_due_us(lease));
    }
    pthread_mutex_unlock(&runner->lock);
}

bool leases_hold(struct runner *runner, const struct turn *turn, int64_t for_ms, int64_t lease_until)
{
    pthread_mutex_lock(&runner->lock);
    struct lease *lease = lease_find_locked(runner, turn->id, turn->lease);
    if (lease) {
        int64_t held_us = clock_mono_us() + (for_ms + lease->lease_ms) * 1000;
        lease->lease_until = lease_until;
        lease->held_us = lease->holds++ && lease->held_us > held_us ? lease->held_us : held_us;
        lease->pays = true;
        roster_seen_locked(lease->holder);
        lease_watch_locked(runner, lease, lease_due_us(lease));
    }
    pthread_mutex_unlock(&runner->lock);
    return lease;
}

/* One whose end is on its way is not watched. */
static void watch_again_locked(struct runner *runner, struct lease *lease)
{
    if (lease->deadline.place)
        lease_watch_locked(runner, lease, lease_due_us(lease));
}

void leases_let_go(struct runner *runner, const struct turn *turn)
{
    pthread_mutex_lock(&runner->lock);
    struct lease *lease = lease_find_locked(runner, turn->id, turn->lease);
    if (lease) {
        lease->holds--;
        lease->until_us = clock_mono_us() + lease->lease_ms * 1000;
        watch_again_locked(runner, lease);
    }
    pthread_mutex_unlock(&runner->lock);
}

void leases_stand_still_locked(struct runner *runner, const struct turn *turn)
{
    struct lease *lease = lease_find_locked(runner, turn->id, turn->lease);
    if (!lease || !lease->ends_us)
        return;
    int64_t left_us = lease->ends_us - clock_mono_us();
    lease->ends_left_us = left_us > 0 ? left_us : 1;
    lease->ends_us = 0;
    watch_again_locked(runner, lease);
}

void leases_go_on_locked(struct runner *runner, const struct turn *turn)
{
    struct lease *lease = lease_find_locked(runner, turn->id, turn->lease);
    if (!lease || !lease->ends_left_us)
        return;
    lease->ends_us = clock_mono_us() + lease->ends_left_us;
    lease->ends_left_us = 0;
    watch_again_locked(runner, lease);
}

bool leases_is_cancelled_locked(struct runner *runner, const struct turn *turn)
{
    const struct lease *lease = lease_find_locked(runner, turn->id, turn->lease);
    return lease && lease->cancelled;
}

void leases_begin_anew_locked(struct runner *runner)
{
    struct lease *lease, *next;
    int64_t now_us = clock_mono_us();
    HASH_ITER (hh, runner->leases, lease, next) {
        lease->until_us = now_us + lease->lease_ms * 1000;
        lease_watch_locked(runner, lease, lease_due_us(lease));
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
    struct lease *lease = lease_find_locked(runner, run->grant.turn.id, run->grant.turn.lease);
    if (written && !lease) /* it has ended since */
        return;
    if (!written) {
        const struct lease *other = lease_find_locked(runner, run->grant.turn.id, 0);
        if (other && other->began_us > run->began_us) /* of a turn after this one, which the disk will refuse */
            return;
        lease = lease_add_locked(runner, &run->grant.turn, run->task->kind->name);
        lease->began_us = run->began_us;
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
            lease_cancel_locked(lease);
        return;
    }
    lease->promised = false;
    lease->until_us = clock_mono_us() + lease->lease_ms * 1000;
    lease_watch_locked(runner, lease, lease_due_us(lease));
}

bool leases_is_promised_locked(struct runner *runner, int64_t id, int64_t token)
{
    const struct lease *lease = lease_find_locked(runner, id, token);
    return lease && lease->promised;
}

void leases_not_taken_over_locked(struct runner *runner, const struct run *run)
{
    struct lease *lease = lease_find_locked(runner, run->grant.turn.id, run->grant.turn.lease);
    if (lease)
        lease_forget_locked(runner, lease);
}

/* --- what the store reports ------------------------------------------------------------------------ */

bool leases_take_change_locked(struct runner *runner, const struct change *change)
{
    if (change->cancel)
        lending_cancelled_locked(runner, change->id);
    struct lease *lease = runner->leases ? lease_find_locked(runner, change->id, 0) : NULL;
    if (!lease || !status_in_turn(change->from))
        return false;
    if (!status_in_turn(change->to) || change->suspended) {
        lease_forget_locked(runner, lease);
    } else if (change->cancel && !lease->cancelled) {
        lease_cancel_locked(lease);
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
    struct lease *lease = lease_find_locked(runner, turn.id, turn.lease);
    if (lease && err_is_fault(op->err))
        lease_watch_locked(runner, lease, clock_mono_us() + FAILED_AGAIN_MS * 1000);
    else if (lease && !lease->deadline.place)
        lease_forget_locked(runner, lease);
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
    struct lease *lease = lease_add_locked(runner, &row->turn, worker);
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
        lease_cancel_locked(lease);
    lease->failures = row->failures;
    lease->max_retries = row->max_retries;
    lease->retention_ms = row->retention_ms;
    lease_watch_locked(runner, lease, lease_due_us(lease));
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
        lease_forget_locked(runner, lease);
    deadlines_release(&runner->lease_deadlines);
    roster_release(runner);
}
