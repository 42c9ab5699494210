/* A slot's thread: takes a job, runs its body, hands the finish over, takes
 * the next. The start is not waited for. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/json.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PROGRESS_EVERY_US = 100000 };

/* --- logs and progress on their way to disk -------------------------------------- */

struct log_write {
    struct op_log op;
    struct log_pending pending;
    struct log_chunk *chunks;
};

struct progress_write {
    struct op_progress op;
    char note[];
};

static struct slot *slot_of(struct attempt *attempt)
{
    return (struct slot *)((char *)attempt - offsetof(struct slot, attempt));
}

static void log_written(struct op *op)
{
    struct log_write *write = (struct log_write *)op;
    log_pending_release(&write->pending);
    free(write->chunks);
    free(write);
}

static void sink_log(struct attempt *attempt, struct log_pending *pending)
{
    struct run *run = slot_of(attempt)->run;
    struct log_write *write = xmalloc(sizeof *write);
    op_log_init(&write->op, &run->turn);
    write->pending = *pending;
    *pending = (struct log_pending){0};
    write->chunks = log_chunks(&write->pending);
    write->op.chunks = write->chunks;
    write->op.count = write->pending.count;
    write->op.from = run->pieces;
    write->op.turn.op.done = log_written;
    run->pieces += write->op.count;
    store_queue(run->runner->store, &write->op.turn.op);
}

static void progress_written(struct op *op)
{
    free(op);
}

static void write_progress(struct slot *slot, double value, struct span note)
{
    struct run *run = slot->run;
    struct progress_write *write = xmalloc(sizeof *write + note.len);
    op_progress_init(&write->op, &run->turn);
    if (note.p) {
        memcpy(write->note, note.p, note.len);
        write->op.note = (struct span){write->note, note.len};
    }
    write->op.value = value;
    write->op.turn.op.done = progress_written;
    slot->progress_held = false;
    slot->progress_us = clock_mono_us();
    store_queue(run->runner->store, &write->op.turn.op);
}

/* At most ten writes a second; what comes sooner is held back, and the last of
 * it is written at the end. */
static void sink_progress(struct attempt *attempt, double value, struct span note)
{
    struct slot *slot = slot_of(attempt);
    if (clock_mono_us() - slot->progress_us >= PROGRESS_EVERY_US) {
        write_progress(slot, value, note);
        return;
    }
    slot->progress_held = true;
    slot->progress_value = value;
    slot->progress_note.len = 0;
    buf_add_span(&slot->progress_note, note);
}

bool slot_flush_locked(struct slot *slot)
{
    if (!slot->run || !slot->attempt.task->kind->in_process)
        return false;
    attempt_log_tick(&slot->attempt);
    pthread_mutex_lock(&slot->attempt.lock);
    if (slot->progress_held)
        write_progress(slot, slot->progress_value, buf_span(&slot->progress_note));
    pthread_mutex_unlock(&slot->attempt.lock);
    return true;
}

static const struct attempt_sink sink = {.log = sink_log, .progress = sink_progress};

/* --- the end of a run ---------------------------------------------------------------- */

static double random_of(struct slot *slot)
{
    slot->random ^= slot->random << 13; /* xorshift64 (Marsaglia 2003) */
    slot->random ^= slot->random >> 7;
    slot->random ^= slot->random << 17;
    return (double)(slot->random >> 11) / (double)(UINT64_C(1) << 53);
}

/* Decides what becomes of the invocation. */
static void decide(struct slot *slot, struct run *run, const struct task *task)
{
    struct op_finish *op = &run->finish;
    const struct outcome *outcome = &run->outcome;
    struct span type = buf_span(&outcome->type);
    op->next = FINISH_FINAL;
    op->finished_at = clock_now_ms();
    switch (outcome->end) {
    case OUTCOME_SUCCEEDED:
        op->status = STATUS_SUCCEEDED;
        op->result = outcome->result.len ? buf_span(&outcome->result) : (struct span){NULL, 0};
        return;
    case OUTCOME_CANCELLED: op->status = STATUS_CANCELLED; return;
    case OUTCOME_STOPPED:
        op->next = FINISH_REQUEUE;
        op->status = STATUS_QUEUED;
        return;
    case OUTCOME_FAILED: break;
    }
    op->status = STATUS_FAILED;
    op->error = buf_span(&outcome->error);
    op->error_type = type;
    if (!outcome->retry || run->job->ready.failures >= run->job->ready.max_retries ||
        !retry_allows(&task->options.retry, type))
        return;
    int64_t delay = outcome->retry_after_ms >= 0 ? outcome->retry_after_ms
                                                 : retry_delay_ms(&task->options.retry.backoff,
                                                                  run->job->ready.failures + 1, random_of(slot));
    op->next = FINISH_RETRY;
    op->run_at = delay > 0 ? op->finished_at + delay : 0;
}

/* --- a run ------------------------------------------------------------------------------ */

/* Arguments as the body gets them: fetched if they stand outside the row,
 * bound if the task has parameters. False with the outcome filled otherwise. */
static bool prepare_args(struct slot *slot, struct run *run, const struct task *task, struct span *args)
{
    struct buf outside = {0};
    struct reason why;
    struct span sent = run->job->ready.args;
    bool ok = true;
    if (!sent.p) {
        enum err err = slot->reader ? OK : reader_open(run->runner->store, &slot->reader, &why);
        if (err == OK)
            err = reader_payload(slot->reader, run->turn.id, 1, &outside);
        if (err != OK) {
            outcome_fail(&run->outcome, SPAN("internal"), SPAN("the arguments could not be read"),
                         (struct span){0});
            return false;
        }
        sent = (struct span){buf_cstr(&outside), outside.len};
    }
    slot->bound.len = 0;
    if (task->params) {
        struct faults faults = {0};
        struct span none = {NULL, 0};
        if (params_bind(task->params, sent.len ? sent : none, "/args", &slot->bound, &faults) != OK) {
            struct span detail = span_of(faults.count ? faults.items[0].detail : "they do not fit the parameters");
            outcome_fail(&run->outcome, SPAN("bad_args"), detail, (struct span){0});
            run->outcome.retry = false;
            ok = false;
        }
        faults_release(&faults);
    } else {
        buf_add_span(&slot->bound, sent.len ? sent : SPAN("null"));
    }
    buf_release(&outside);
    args->len = slot->bound.len;
    args->p = buf_cstr(&slot->bound);
    return ok;
}

/* What was logged or reported and is not on its way yet. */
static void take_rest(struct slot *slot, struct run *run)
{
    pthread_mutex_lock(&slot->attempt.lock);
    if (slot->progress_held)
        write_progress(slot, slot->progress_value, buf_span(&slot->progress_note));
    run->log = slot->attempt.pending;
    slot->attempt.pending = (struct log_pending){0};
    pthread_mutex_unlock(&slot->attempt.lock);
}

static void run_body(struct slot *slot, struct run *run, const struct task *task, bool alone)
{
    struct runner *runner = slot->runner;
    struct span args;
    slot->attempt.record = journal_enter(runner->journal, &run->turn, alone);
    report_claim(run);
    if (prepare_args(slot, run, task, &args)) {
        slot->attempt.args = args;
        attempt_run(&slot->attempt, &run->outcome);
    }
    journal_leave(slot->attempt.record);
    take_rest(slot, run);
    if (run->log.count) {
        run->chunks = log_chunks(&run->log);
        run->finish.log = run->chunks;
        run->finish.log_count = run->log.count;
        run->finish.log_from = run->pieces;
    }
    run->finish.drop_stdout = run->outcome.drop_stdout && slot->attempt.log_stdout > 0;
    decide(slot, run, task);
}

static struct run *run_new(struct slot *slot, struct job *job)
{
    struct run *run = xcalloc(1, sizeof *run);
    run->runner = slot->runner;
    run->job = job;
    run->turn = (struct turn){
        .id = job->ready.id,
        .lease = lease_new(),
        .task = job->ready.task,
        .attempt = job->ready.attempt + 1,
    };
    report_init(run);
    run->claim.failures = job->ready.failures;
    run->claim.worker = span_of(slot->name);
    run->claim.started_at = clock_now_ms();
    run->finish.retention_ms = job->ready.retention_ms;
    return run;
}

/* Takes a job and makes the slot busy with it; the lock is the caller's. */
static struct run *begin_locked(struct slot *slot, const struct task **task, bool *alone)
{
    struct runner *runner = slot->runner;
    struct job *job = schedule_take_locked(runner, alone);
    if (!job)
        return NULL;
    struct run *run = run_new(slot, job);
    run->registry = registry_ref(runner->registry);
    *task = window_lane(&runner->window, job->ready.task)->task;
    slot->limits = runner->limits; /* a reload must not change them under the body */
    slot->attempt = (struct attempt){
        .task = *task,
        .id = run->turn.id,
        .number = run->turn.attempt,
        .timeout_ms = job->ready.timeout_ms,
        .limits = &slot->limits,
        .sink = &sink,
        .wake_fd = slot->attempt.wake_fd,
    };
    attempt_init(&slot->attempt);
    slot->run = run;
    slot->since = run->claim.started_at;
    slot->progress_us = 0;
    slot->progress_held = false;
    runner->running++;
    runner->finishing++;
    return run;
}

/* It does start. */
static void started_locked(struct slot *slot, struct run *run, int64_t now_us)
{
    struct runner *runner = slot->runner;
    schedule_claim_locked(runner, run);
    if (slot->attempt.task->kind->in_process)
        dispatcher_flush_locked(runner);
    histogram_add(&runner->wait, now_us - run->job->offered_us);
}

static void leave_locked(struct slot *slot)
{
    struct runner *runner = slot->runner;
    slot->run = NULL;
    attempt_release(&slot->attempt);
    if (--runner->running == 0)
        runner->alone_runs = false;
}

static bool expired(const struct run *run)
{
    return run->job->ready.expires_at && run->job->ready.expires_at <= run->claim.started_at;
}

/* One that should have started earlier does not start; the dispatcher, which
 * knows its time, fails it as expired. */
static void forget_locked(struct slot *slot)
{
    struct run *run = slot->run;
    leave_locked(slot);
    slot->runner->finishing--;
    run_free(run);
}

void *slot_thread(void *arg)
{
    struct slot *slot = arg;
    struct runner *runner = slot->runner;
    journal_thread_init();
    pthread_mutex_lock(&runner->lock);
    while (!runner->ended) {
        const struct task *task;
        bool alone;
        struct run *run = begin_locked(slot, &task, &alone);
        if (!run) {
            if (runner->closing && runner->running == 0)
                pthread_cond_broadcast(&runner->quiet);
            runner->idle++;
            pthread_cond_wait(&runner->work, &runner->lock);
            runner->idle--;
            runner->waking = false;
            continue;
        }
        if (expired(run)) {
            forget_locked(slot);
            continue;
        }
        int64_t began_us = clock_mono_us();
        started_locked(slot, run, began_us);
        struct op_refill *refill;
        schedule_refill_locked(runner, run->turn.task, &refill);
        schedule_wake_locked(runner);
        pthread_mutex_unlock(&runner->lock);
        if (refill)
            store_queue(runner->store, &refill->op);

        run_body(slot, run, task, alone);

        pthread_mutex_lock(&runner->lock);
        leave_locked(slot);
        histogram_add(&runner->run, clock_mono_us() - began_us);
        bool finish = report_end_locked(run);
        pthread_mutex_unlock(&runner->lock);
        if (finish)
            report_finish(run);
        pthread_mutex_lock(&runner->lock);
    }
    pthread_mutex_unlock(&runner->lock);
    return NULL;
}
