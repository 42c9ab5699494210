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

#include <stdlib.h>

enum {
    FAULTS_WHOLE = 3,       /* an end is tried as it is so often */
    REWRITE_MAX_MS = 60000, /* between tries */
};

#define NOT_WRITTEN \
    "{\"type\":\"internal\",\"message\":\"how it ended could not be written (see the server's log)\"}"

struct log_chunk *log_chunks(const struct log_pending *pending)
{
    struct log_chunk *chunks = xmalloc((size_t)(pending->count + 1) * sizeof *chunks);
    size_t at = 0;
    for (int i = 0; i < pending->count; i++) {
        chunks[i] =
            (struct log_chunk){pending->pieces[i].stream, {pending->bytes.data + at, pending->pieces[i].len}};
        at += pending->pieces[i].len;
    }
    return chunks;
}

void log_pending_release(struct log_pending *pending)
{
    buf_release(&pending->bytes);
    free(pending->pieces);
    *pending = (struct log_pending){0};
}

void run_free(struct run *run)
{
    outcome_release(&run->outcome);
    log_pending_release(&run->log);
    registry_unref(run->registry);
    free(run->chunks);
    free(run->again);
    free(run->job);
    free(run);
}

/* --- faults ------------------------------------------------------------------------ */

static void log_fault(const struct run *run, const char *report, enum err err)
{
    char id[ID_TEXT_LEN + 1] = "";
    id_format(run->turn.id, id);
    log_error("a report of a turn was not written", LOG_STR("report", report), LOG_STR("id", id),
              LOG_STR("task", store_task_name(run->runner->store, run->turn.task)),
              LOG_INT("attempt", run->turn.attempt), LOG_STR("error", err_name(err)),
              LOG_INT("times", run->faults));
}

static void rewrite_later_locked(struct run *run)
{
    struct runner *runner = run->runner;
    int64_t delay = run->faults < 6 ? FAILED_AGAIN_MS << (run->faults - 1) : REWRITE_MAX_MS;
    int64_t at = clock_now_ms() + delay;
    run->rewrite_next = runner->rewrites;
    runner->rewrites = run;
    if (at < runner->rewrite_at) {
        runner->rewrite_at = at;
        pthread_cond_signal(&runner->tick);
    }
}

/* What is tried together may be tried too soon, but never too late. */
struct run *report_rewrites_locked(struct runner *runner)
{
    struct run *runs = runner->rewrites;
    runner->rewrites = NULL;
    runner->rewrite_at = INT64_MAX;
    for (struct run *run = runs; run; run = run->rewrite_next)
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
        schedule_settle_locked(runner, run, op->err);
        end = run->ended && !run->finish_queued;
        run->finish_queued |= end;
    }
    for (int i = 0; op->err == ERR_CONFLICT && i < runner->slot_count; i++)
        if (runner->slots[i].run == run)
            attempt_stop(&runner->slots[i].attempt, STOP_CANCEL);
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
        schedule_settle_locked(runner, run, op->err); /* a claim that the stopping store did not take */
        if (--runner->finishing == 0)
            pthread_cond_broadcast(&runner->quiet);
    }
    pthread_mutex_unlock(&runner->lock);
    if (!again)
        run_free(run);
}

/* --- sending --------------------------------------------------------------------------- */

void report_init(struct run *run)
{
    op_claim_init(&run->claim, &run->turn);
    op_finish_init(&run->finish, &run->turn);
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
