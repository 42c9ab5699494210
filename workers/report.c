/* A turn's claim and finish on their way to disk, and what becomes of them.
 *
 * Neither is waited for. A claim that is refused stops the body, whose finish
 * is then refused too. A report that met a fault is tried again, the claim
 * first, with the same lease: the body goes on meanwhile, and its result is
 * kept until the fault is gone. An end that meets faults again and again loses
 * what may be their cause, its result and output, and is written as a failure
 * that says so: an invocation never stays running for want of an end. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <utlist.h>

enum {
    FAULTS_WHOLE = 3,       /* an end is tried as it is so often */
    REWRITE_MAX_MS = 60000, /* between tries */
};

#define NOT_WRITTEN \
    "{\"type\":\"internal\",\"message\":\"how it ended could not be written (see the server's log)\"}"

/* --- faults ------------------------------------------------------------------------ */

static void log_fault(const struct run *run, const char *report, enum err err)
{
    char id[ID_TEXT_LEN + 1] = "";
    id_format(run->grant.turn.id, id);
    log_error("a report of a turn was not written", LOG_STR("report", report), LOG_STR("id", id),
              LOG_STR("task", store_task_name(run->runner->store, run->grant.turn.task)),
              LOG_INT("attempt", run->grant.turn.attempt), LOG_STR("error", err_name(err)),
              LOG_INT("times", run->faults));
}

static void rewrite_later_locked(struct run *run)
{
    struct runner *runner = run->runner;
    int64_t delay = run->faults < 6 ? FAILED_AGAIN_MS << (run->faults - 1) : REWRITE_MAX_MS;
    LL_PREPEND2(runner->rewrites, run, rewrite_next);
    dispatcher_set_locked(runner, TIMER_REWRITE, clock_mono_us() + delay * 1000);
}

/* What is tried together may be tried too soon, but never too late. */
struct run *report_rewrites_locked(struct runner *runner)
{
    struct run *runs = runner->rewrites;
    runner->rewrites = NULL;
    struct run *run;
    LL_FOREACH2(runs, run, rewrite_next)
    run->finish_queued = run->ended;
    return runs;
}

/* Without its result and output, and without more of the task's own words. */
static void reduce(struct run *run)
{
    struct op_finish *finish = &run->finish;
    finish->next = FINISH_FINAL;
    finish->status = STATUS_FAILED;
    finish->error = SPAN(NOT_WRITTEN);
    finish->error_type = SPAN("internal");
    finish->log_count = 0;
    finish->drop_stdout = false;
}

void report_rewrite(struct run *runs)
{
    for (struct run *next, *run = runs; run; run = next) {
        next = run->rewrite_next; /* once it is queued it is no longer ours */
        struct store *store = run->runner->store;
        struct op *finish = run->finish_queued ? &run->finish.turn.op : NULL;
        if (finish && !run->claim_faulted && run->faults >= FAULTS_WHOLE)
            reduce(run);
        if (run->claim_faulted && finish) {
            run->claim.turn.op.next = finish;
            store_queue_list(store, &run->claim.turn.op, finish, 2);
        } else {
            store_queue(store, finish ? finish : &run->claim.turn.op);
        }
    }
}

/* --- what the store answers ------------------------------------------------------------ */

static void settle_locked(struct run *run, enum err err)
{
    if (queue_settle(&run->runner->queue, &run->grant, err))
        threads_wake_locked(run->runner);
}

static void claimed(struct op *op)
{
    struct run *run = op->owner;
    struct runner *runner = run->runner;
    bool faulted = err_is_fault(op->err), end = false;
    pthread_mutex_lock(&runner->lock);
    run->claim_faulted = faulted;
    if (faulted) {
        run->faults++;
        log_fault(run, "claim", op->err);
        if (op->err == ERR_UNAVAILABLE)
            run->claim_faulted = false;
        else if (!run->finish_queued)
            rewrite_later_locked(run);
    } else {
        settle_locked(run, op->err);
        end = run->ended && !run->finish_queued;
        run->finish_queued |= end;
    }
    if (op->err == ERR_CONFLICT && !run->ended)
        attempt_stop(&run->attempt, STOP_CANCEL);
    pthread_mutex_unlock(&runner->lock);
    if (end)
        report_finish(run);
}

static void finished(struct op *op)
{
    struct run *run = op->owner;
    struct runner *runner = run->runner;
    pthread_mutex_lock(&runner->lock);
    run->finish_queued = false;
    bool faulted = err_is_fault(op->err);
    if (faulted) {
        run->faults++;
        log_fault(run, "finish", op->err);
    }
    bool again =
        (run->claim_faulted || faulted) && op->err != ERR_UNAVAILABLE; /* that one: the store is stopping */
    if (again) {
        rewrite_later_locked(run);
    } else {
        settle_locked(run, op->err); /* a claim that the stopping store did not take */
        if (--runner->unfinished == 0)
            pthread_cond_broadcast(&runner->quiet);
    }
    pthread_mutex_unlock(&runner->lock);
    if (!again)
        run_free(run);
}

/* --- sending --------------------------------------------------------------------------- */

void report_init(struct run *run)
{
    op_claim_init(&run->claim, &run->grant.turn);
    op_finish_init(&run->finish, &run->grant.turn);
    run->claim.turn.op.owner = run->finish.turn.op.owner = run;
    run->claim.turn.op.done = claimed;
    run->finish.turn.op.done = finished;
}

void report_claim(struct run *run)
{
    store_queue(run->runner->store, &run->claim.turn.op);
}

bool report_end_locked(struct run *run)
{
    run->ended = true;
    return run->finish_queued = !run->claim_faulted; /* else it goes with the claim, or after it */
}

void report_finish(struct run *run)
{
    store_queue(run->runner->store, &run->finish.turn.op);
}
