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
    FAULTS_WHOLE = 4,       /* an end is tried as it is so often, over seven seconds */
    REWRITE_MAX_MS = 60000, /* between tries */
};

#define NOT_WRITTEN \
    "{\"type\":\"internal\",\"message\":\"how it ended could not be written (see the server's log)\"}"

/* --- faults ------------------------------------------------------------------------ */

/* What a line of the log says, copied under the lock and written without it. */
struct fault_note {
    char id[ID_TEXT_LEN + 1];
    int task, attempt, times;
    const char *report;
    enum err err;
};

static void note_fault_locked(struct run *run, const char *report, enum err err, struct fault_note *note)
{
    *note = (struct fault_note){.task = run->grant.turn.task,
                                .attempt = run->grant.turn.attempt,
                                .times = ++run->faults,
                                .report = report,
                                .err = err};
    id_format(run->grant.turn.id, note->id);
}

static void log_fault(struct store *store, const struct fault_note *note)
{
    log_error("a report of a turn was not written", LOG_STR("report", note->report), LOG_STR("id", note->id),
              LOG_STR("task", store_task_name(store, note->task)), LOG_INT("attempt", note->attempt),
              LOG_STR("error", err_name(note->err)), LOG_INT("times", note->times));
}

static void rewrite_later_locked(struct run *run)
{
    struct runner *runner = run->runner;
    int64_t delay = run->faults < 6 ? FAILED_AGAIN_MS << (run->faults - 1) : REWRITE_MAX_MS;
    run->rewrite_us = clock_mono_us() + (runner->closing ? FAILED_AGAIN_MS : delay) * 1000;
    LL_PREPEND2(runner->rewrites, run, rewrite_next);
    dispatcher_set_locked(runner, TIMER_REWRITE, run->rewrite_us);
}

void report_hurry_locked(struct runner *runner)
{
    struct run *run;
    LL_FOREACH2 (runner->rewrites, run, rewrite_next)
        run->rewrite_us = 0;
    if (runner->rewrites)
        dispatcher_set_locked(runner, TIMER_REWRITE, 0);
}

/* Without its result and output, and without more of the task's own words. */
static void reduce(struct run *run)
{
    struct op_finish *finish = &run->finish;
    if (finish->next == FINISH_HAND_OVER)
        leases_not_taken_over_locked(run->runner, run);
    finish->next = FINISH_FINAL;
    finish->status = STATUS_FAILED;
    finish->error = SPAN(NOT_WRITTEN);
    finish->error_type = SPAN("internal");
    finish->log_count = 0;
    finish->drop_stdout = false;
    finish->inbox_read = 0;
}

/* The claim, if that is what failed, with the output that was refused for want
 * of it, and the end, if there is one. */
static void append_reports(struct run *run, struct ops *ops)
{
    struct log_write *write, *next;
    if (run->claim_faulted)
        ops_add(ops, &run->claim.turn.op);
    DL_FOREACH_SAFE (run->held_logs, write, next) {
        DL_DELETE(run->held_logs, write);
        ops_add(ops, &write->op.turn.op);
    }
    run->finish_queued = run->ended;
    if (!run->ended)
        return;
    if (!run->claim_faulted && run->faults >= FAULTS_WHOLE && !run->runner->closing)
        reduce(run);
    ops_add(ops, &run->finish.turn.op);
}

void report_rewrites_locked(struct runner *runner, int64_t now_us, struct ops *ops)
{
    struct run *later = NULL, *run, *next;
    LL_FOREACH_SAFE2 (runner->rewrites, run, next, rewrite_next) {
        if (run->rewrite_us > now_us) {
            LL_PREPEND2(later, run, rewrite_next);
            dispatcher_set_locked(runner, TIMER_REWRITE, run->rewrite_us);
        } else {
            append_reports(run, ops);
        }
    }
    runner->rewrites = later;
}

/* --- what the store answers ------------------------------------------------------------ */

/* True: it came back, and may be for somebody elsewhere by now. */
static bool settle_locked(struct run *run, enum err err)
{
    bool came_back = queue_settle(&run->runner->queue, &run->grant, err);
    if (came_back)
        threads_wake_locked(run->runner);
    return came_back;
}

static void set_claim_faulted_locked(struct run *run, bool faulted)
{
    struct runner *runner = run->runner;
    if (run->claim_faulted == faulted)
        return;
    run->claim_faulted = faulted;
    run->claim_faults += faulted;
    if (!faulted)
        in_place_notify_locked(run); /* it may have something to say */
    runner->claims_faulted += faulted ? 1 : -1;
    runner_gate_locked(runner);
}

/* ERR_UNAVAILABLE: the store is stopping, and nothing is tried again. */
static void claimed(struct op *op)
{
    struct run *run = op->owner;
    struct runner *runner = run->runner;
    struct fault_note note;
    struct ops ops = {0};
    bool faulted = err_is_fault(op->err), came_back = false;
    if (op->err == OK && run->finish_queued && !run->claim_faulted)
        return; /* as for most: the end, which comes next, settles both under one lock */
    pthread_mutex_lock(&runner->lock);
    set_claim_faulted_locked(run, faulted && op->err != ERR_UNAVAILABLE);
    if (faulted)
        note_fault_locked(run, "claim", op->err, &note);
    else
        run->faults = 0;
    if (run->claim_faulted) {
        if (!run->finish_queued)
            rewrite_later_locked(run);
    } else {
        if (!faulted)
            came_back = settle_locked(run, op->err);
        if (!run->finish_queued) /* output that was refused in this very batch is held still */
            append_reports(run, &ops);
    }
    if (op->err == ERR_CONFLICT && !run->ended) {
        if (run->attempt.record)
            journal_refused(run->attempt.record);
        attempt_stop(&run->attempt, STOP_CANCEL);
    }
    pthread_mutex_unlock(&runner->lock);
    if (faulted)
        log_fault(runner->store, &note);
    ops_queue(runner->store, &ops);
    if (came_back)
        leases_serve(runner);
}

static void settle_hand_over_locked(struct run *run, enum err err)
{
    if (run->finish.next != FINISH_HAND_OVER)
        return;
    if (err == OK)
        leases_take_over_locked(run->runner, run, true);
    else
        leases_not_taken_over_locked(run->runner, run);
}

static void finished(struct op *op)
{
    struct run *run = op->owner;
    struct runner *runner = run->runner;
    struct fault_note note;
    struct ops ops = {0};
    bool faulted = err_is_fault(op->err), came_back = false;
    pthread_mutex_lock(&runner->lock);
    run->finish_queued = false;
    if (faulted)
        note_fault_locked(run, "finish", op->err, &note);
    bool again = (run->claim_faulted || faulted) && op->err != ERR_UNAVAILABLE;
    bool more = !again && op->err == OK && run->held_logs; /* the end is found by its lease */
    if (again) {
        rewrite_later_locked(run);
    } else if (more) {
        append_reports(run, &ops);
    } else {
        set_claim_faulted_locked(run, false);
        settle_hand_over_locked(run, op->err);
        came_back = settle_locked(run, run->claim.turn.op.err);
        if (--runner->unfinished == 0)
            pthread_cond_broadcast(&runner->quiet);
        in_place_closing_locked(runner);
    }
    pthread_mutex_unlock(&runner->lock);
    if (faulted)
        log_fault(runner->store, &note);
    if (more)
        ops_queue(runner->store, &ops);
    else if (!again)
        run_free(run);
    if (came_back)
        leases_serve(runner);
}

enum claim_state runner_claim(struct runner *runner, int64_t id, int64_t lease)
{
    struct run *run;
    pthread_mutex_lock(&runner->lock);
    enum claim_state state = leases_is_promised_locked(runner, id, lease) ? CLAIM_ON_ITS_WAY : CLAIM_NONE;
    DL_FOREACH (runner->runs, run) {
        const struct grant *grant = &run->grant;
        if (grant->turn.id == id && grant->turn.lease == lease && !grant->refused)
            state = grant->claiming ? CLAIM_ON_ITS_WAY : CLAIM_WRITTEN;
    }
    pthread_mutex_unlock(&runner->lock);
    return state;
}

/* --- sending --------------------------------------------------------------------------- */

void report_init(struct run *run)
{
    op_claim_init(&run->claim, &run->grant.turn);
    op_finish_init(&run->finish, &run->grant.turn);
    run->claim.turn.op.owner = run->finish.turn.op.owner = run;
    run->claim.turn.op.done = claimed;
    run->finish.turn.op.done = finished;
    run->finish.may_have_suspended = true;
}

void report_claim(struct run *run)
{
    store_queue(run->runner->store, &run->claim.turn.op);
}

bool report_end_locked(struct run *run)
{
    run->ended = true;
    bool queued = !run->claim_faulted; /* else it goes with the claim, or after it */
    run->finish_queued = queued;
    return queued;
}

void report_finish(struct run *run)
{
    store_queue(run->runner->store, &run->finish.turn.op);
}
