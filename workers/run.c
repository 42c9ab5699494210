/* One turn: from the job to its body, what the body says meanwhile, and what
 * becomes of the invocation. The start is not waited for. */
#include "workers/composed.h"
#include "workers/lease_token.h"
#include "workers/runner_internal.h"
#include "store/step.h"
#include "workers/verdict.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

/* A run that is taken again hides from a sanitizer who still looks at the last. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RUNS_KEPT = 0 };
#else
enum { RUNS_KEPT = 64 };
#endif

enum { PROGRESS_EVERY_US = 100000 };

/* --- logs and progress on their way to disk -------------------------------------- */

struct progress_write {
    struct op_progress op;
    char note[];
};

struct run *run_of(struct attempt *attempt)
{
    return (struct run *)((char *)attempt - offsetof(struct run, attempt));
}

static struct log_chunk *log_chunks(const struct log_pending *pending)
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

static void log_pending_release(struct log_pending *pending)
{
    buf_release(&pending->bytes);
    free(pending->pieces);
    *pending = (struct log_pending){0};
}

static void log_write_free(struct log_write *write)
{
    log_pending_release(&write->pending);
    free(write->chunks);
    free(write);
}

/* What came before a claim that met a fault waits for that. */
static void log_written(struct op *op)
{
    struct run *run = op->owner;
    struct log_write *write = (struct log_write *)op;
    bool held = false;
    if (op->err == ERR_CONFLICT) {
        pthread_mutex_lock(&run->runner->lock);
        held = run->claim_faulted;
        if (held)
            DL_APPEND(run->held_logs, write);
        pthread_mutex_unlock(&run->runner->lock);
    }
    if (!held)
        log_write_free(write);
}

static void sink_log(struct attempt *attempt, struct log_pending *pending)
{
    struct run *run = run_of(attempt);
    struct log_write *write = xmalloc(sizeof *write);
    op_log_init(&write->op, &run->grant.turn);
    write->pending = *pending;
    *pending = (struct log_pending){0};
    write->chunks = log_chunks(&write->pending);
    write->op.chunks = write->chunks;
    write->op.count = write->pending.count;
    write->op.from = run->pieces;
    write->op.turn.op.done = log_written;
    write->op.turn.op.owner = run;
    run->pieces += write->op.count;
    store_queue(run->runner->store, &write->op.turn.op);
}

static void progress_written(struct op *op)
{
    free(op);
}

static void write_progress(struct run *run, double value, struct span note)
{
    struct progress_write *write = xmalloc(sizeof *write + note.len);
    op_progress_init(&write->op, &run->grant.turn);
    if (note.p) {
        memcpy(write->note, note.p, note.len);
        write->op.note = (struct span){write->note, note.len};
    }
    write->op.value = value;
    write->op.turn.op.done = progress_written;
    run->progress_held = false;
    run->progress_us = clock_mono_us();
    store_queue(run->runner->store, &write->op.turn.op);
}

/* At most ten writes a second; what comes sooner is held back, and the last of
 * it is written at the end. */
static void sink_progress(struct attempt *attempt, double value, struct span note)
{
    struct run *run = run_of(attempt);
    if (clock_mono_us() - run->progress_us >= PROGRESS_EVERY_US) {
        write_progress(run, value, note);
        return;
    }
    run->progress_held = true;
    run->progress_value = value;
    run->progress_note.len = 0;
    buf_add_span(&run->progress_note, note);
}

/* A body in this process has its thread to itself; and who minds pools sends on what was
 * logged, but no progress that was held back. */
bool run_wants_flush(const struct run *run)
{
    return run->grant.in_process || run->task->kind->has_room;
}

/* A body that is just logging is left to the next time: it may wait for the disk. */
void run_flush_locked(struct run *run)
{
    if (pthread_mutex_trylock(&run->attempt.lock) != 0)
        return;
    pthread_mutex_unlock(&run->attempt.lock);
    attempt_log_tick(&run->attempt);
    pthread_mutex_lock(&run->attempt.lock);
    if (run->progress_held)
        write_progress(run, run->progress_value, buf_span(&run->progress_note));
    pthread_mutex_unlock(&run->attempt.lock);
}

static void sink_add_lease_url(struct attempt *attempt, struct buf *out)
{
    struct run *run = run_of(attempt);
    struct runner *runner = run->runner;
    pthread_mutex_lock(&runner->lock);
    bool has_url = runner->url;
    if (has_url)
        buf_adds(out, runner->url);
    pthread_mutex_unlock(&runner->lock);
    if (!has_url)
        return;
    buf_addl(out, "/leases/");
    lease_token_add(out, &run->grant.turn);
}

static struct turn_said said_of(const struct run *run)
{
    return (struct turn_said){
        .task = run->task->name,
        .level = run->task->log_level,
        .arguments = run->task->log_arguments,
        .turn = &run->grant.turn,
        .worker = run->claim.worker,
        .args = run->attempt.args,
    };
}

static void log_start(const struct run *run)
{
    struct turn_said said = said_of(run);
    turn_log_started(&said);
}

static void log_end(struct run *run)
{
    struct turn_said said = said_of(run);
    bool suspended = atomic_load(&run->attempt.suspended);
    turn_log_ended(&said, suspended ? NULL : &run->finish, (clock_mono_us() - run->began_us) / 1000);
    if ((run->outcome.end == OUTCOME_FAILED || run->outcome.end == OUTCOME_LOST) && !suspended)
        runner_log_failure(run->runner, &said, &run->finish);
}

static void sink_begins(struct attempt *attempt, const char *worker)
{
    struct run *run = run_of(attempt);
    struct runner *runner = run->runner;
    snprintf(run->worker, sizeof run->worker, "%s", worker);
    run->claim.worker = span_of(run->worker);
    run->claim.started_at = clock_now_ms();
    attempt->record = journal_enter(runner->journal, &run->grant.turn);
    journal_thread_is_free();
    pthread_mutex_lock(&runner->lock);
    run->claims = true;
    run->began_us = clock_mono_us();
    histogram_add(&runner->wait, run->began_us - run->grant.job->offered_us);
    if (run->grant.suspect) { /* the next of them may come */
        queue_begins(&runner->queue, &run->grant);
        starter_wake_locked(runner);
    }
    pthread_mutex_unlock(&runner->lock);
    report_claim(run);
    log_start(run);
}

static const struct attempt_sink sink = {
    .log = sink_log,
    .progress = sink_progress,
    .submit = in_place_submit,
    .wait = in_place_wait,
    .look = in_place_look,
    .step = on_record_step,
    .step_get = on_record_step_get,
    .message = on_record_message,
    .inbox = on_record_inbox,
    .suspend = on_record_suspend,
    .begins = sink_begins,
    .ask = asked_ask,
    .goes_on = asked_goes_on,
    .wait_no_more = asked_wait_no_more,
    .add_lease_url = sink_add_lease_url,
};

/* --- the end --------------------------------------------------------------------------- */

/* Decides what becomes of the invocation. */
static void decide(struct run *run)
{
    struct op_finish *op = &run->finish;
    const struct outcome *outcome = &run->outcome;
    const struct ready *ready = &run->grant.job->ready;
    op->next = FINISH_FINAL;
    op->finished_at = clock_now_ms();
    switch (outcome->end) {
    case OUTCOME_SUCCEEDED:
        op->status = STATUS_SUCCEEDED;
        op->result = outcome->result.len ? buf_span(&outcome->result) : (struct span){NULL, 0};
        op->inbox_read = run->inbox_given;
        return;
    case OUTCOME_CANCELLED: op->status = STATUS_CANCELLED; return;
    case OUTCOME_HANDED_OVER:
        if (atomic_load(&run->attempt.suspended)) { /* there is nothing left of it to go on */
            op->status = STATUS_SUCCEEDED;
            return;
        }
        op->next = FINISH_HAND_OVER;
        op->status = STATUS_RUNNING;
        op->lease_ms = outcome->lease_ms;
        op->lease_until = op->finished_at + outcome->lease_ms;
        return;
    case OUTCOME_STOPPED:
        op->next = FINISH_REQUEUE;
        op->status = STATUS_QUEUED;
        return;
    case OUTCOME_UNSTARTED:
        op->next = FINISH_UNSTARTED;
        op->status = STATUS_QUEUED;
        return;
    case OUTCOME_LOST:
        op->next = FINISH_LOST;
        op->status = STATUS_FAILED;
        op->error = buf_span(&outcome->error);
        op->error_type = buf_span(&outcome->type);
        op->pays = outcome->pays;
        op->max_recoveries = run->task->options.max_recoveries;
        return;
    case OUTCOME_FAILED: break;
    }
    struct failure failure = {
        .type = buf_span(&outcome->type),
        .error = buf_span(&outcome->error),
        .types = outcome->types.len ? buf_span(&outcome->types) : (struct span){NULL, 0},
        .again = !outcome->retry    ? AGAIN_NEVER
                 : outcome->insists ? AGAIN_ALWAYS
                                    : AGAIN_AS_CONFIGURED,
        .retry_after_ms = outcome->retry_after_ms,
        .failures = ready->failures,
        .max_retries = ready->max_retries,
    };
    verdict_on_failure(op, run->task, &failure, op->finished_at, verdict_random(&run->grant.turn));
}

/* What was logged or reported and is not on its way yet. */
static void take_rest(struct run *run)
{
    pthread_mutex_lock(&run->attempt.lock);
    if (run->progress_held)
        write_progress(run, run->progress_value, buf_span(&run->progress_note));
    run->log = run->attempt.pending;
    run->attempt.pending = (struct log_pending){0};
    pthread_mutex_unlock(&run->attempt.lock);
    if (!run->log.count)
        return;
    run->chunks = log_chunks(&run->log);
    run->finish.log = run->chunks;
    run->finish.log_count = run->log.count;
    run->finish.log_from = run->pieces;
}

void run_take_slot_locked(struct run *run)
{
    struct runner *runner = run->runner;
    run->slot = runner->free_slots[--runner->slots_free];
    runner->slots[run->slot].run = run;
}

void run_leave_slot_locked(struct run *run)
{
    struct runner *runner = run->runner;
    runner->slots[run->slot].run = NULL;
    runner->free_slots[runner->slots_free++] = run->slot;
    run->slot = -1;
}

/* The body no longer runs: its slot is free. */
static void leave_locked(struct run *run)
{
    struct runner *runner = run->runner;
    if (run->attempt.record)
        journal_leave(run->attempt.record);
    DL_DELETE(runner->runs, run);
    waits_left_locked(run);
    if (run->slot >= 0)
        run_leave_slot_locked(run);
    queue_left(&runner->queue, &run->grant); /* who comes back is looked for with the slot, or the room */
    if (!runner->runs)
        pthread_cond_broadcast(&runner->quiet);
}

/* No child ever had it. */
static void claim_late(struct run *run)
{
    pthread_mutex_lock(&run->runner->lock);
    bool late = !run->claims;
    run->claims = true;
    pthread_mutex_unlock(&run->runner->lock);
    if (late)
        report_claim(run);
}

static void run_ended(struct attempt *attempt, void *context)
{
    struct run *run = context;
    struct runner *runner = run->runner;
    take_rest(run);
    claim_late(run);
    bool suspended = atomic_load(&attempt->suspended);
    run->finish.drop_stdout = run->outcome.drop_stdout && attempt->log_stdout > 0 && !suspended;
    decide(run);
    log_end(run);
    pthread_mutex_lock(&runner->lock);
    if (run->finish.next == FINISH_HAND_OVER) /* what befalls it from now on is told there */
        leases_take_over_locked(runner, run, false);
    leave_locked(run);
    runner->thread_stop.progress |= run->outcome.end != OUTCOME_STOPPED;
    if (run->outcome.end == OUTCOME_UNSTARTED && !run->task->kind->has_room)
        shortage_note_locked(runner, buf_span(&run->outcome.error));
    histogram_add(&runner->run, clock_mono_us() - run->began_us);
    bool finish = report_end_locked(run);
    threads_freed_locked(runner);
    pthread_mutex_unlock(&runner->lock);
    if (finish)
        report_finish(run); /* it is no longer ours */
}

enum err run_open_reader(struct run *run)
{
    struct thread *thread = run->thread;
    return thread->reader ? OK : reader_open(run->runner->store, &thread->reader, NULL);
}

/* --- the start --------------------------------------------------------------------------- */

/* What the disk or the descriptors do not give now they will give later. */
static void fail_reading(struct outcome *outcome, enum err err, const char *message)
{
    if (err == ERR_UNAVAILABLE || err == ERR_IO)
        outcome_unstarted(outcome, span_of(message));
    else
        outcome_fail(outcome, SPAN("internal"), span_of(message), (struct span){0});
}

static void note_resumption(struct run *run, int64_t pieces)
{
    const struct woken *woken = &run->resumption;
    run->pieces = pieces;
    run->finish.drop_from = pieces;
    if (woken->state.len)
        run->attempt.state = (struct span){buf_cstr(&run->resumption.state), woken->state.len};
    if (woken->json.len)
        run->attempt.woken = (struct span){buf_cstr(&run->resumption.json), woken->json.len};
    pthread_mutex_lock(&run->runner->lock);
    run->given = woken->read;
    pthread_mutex_unlock(&run->runner->lock);
}

/* What the last turn left, and where the numbers of its output stopped. False
 * with the outcome filled. */
static bool prepare_resumption(struct run *run, struct thread *thread)
{
    const struct turn *turn = &run->grant.turn;
    int64_t pieces = 0;
    if (!run->grant.job->ready.resumes)
        return true;
    enum err err = run_open_reader(run);
    if (err == OK)
        err = reader_log_pieces(thread->reader, turn->id, turn->attempt, &pieces);
    if (err == OK)
        err = woken_read(thread->reader, turn->id, WOKEN_HERE, WOKEN_BYTES, &run->resumption);
    if (err == OK)
        note_resumption(run, pieces);
    else
        fail_reading(&run->outcome, err, "what it resumes with could not be read");
    return err == OK;
}

static void add_step(void *context, const struct step *step)
{
    struct buf *steps = context;
    buf_addc(steps, steps->len ? ',' : '{');
    json_add_string(steps, step->name);
    buf_addc(steps, ':');
    buf_add_span(steps, step->value);
}

/* What earlier turns have recorded, for a body that is told. */
static bool prepare_steps(struct run *run, struct thread *thread)
{
    const struct ready *ready = &run->grant.job->ready;
    if (!run->task->kind->has_room || (!ready->attempt && !ready->resumes))
        return true;
    enum err err = run_open_reader(run);
    if (err == OK)
        err = reader_steps(thread->reader, run->grant.turn.id, add_step, &run->steps);
    if (err != OK)
        fail_reading(&run->outcome, err, "the steps recorded so far could not be read");
    if (err != OK || !run->steps.len)
        return err == OK;
    buf_addc(&run->steps, '}');
    run->attempt.steps = buf_span(&run->steps);
    return true;
}

static enum err read_args(struct run *run, struct reason *why)
{
    struct span sent = run->grant.job->ready.args;
    if (sent.p)
        return composed_bind(run->task->params, sent, &run->bound, why);
    enum err err = run_open_reader(run);
    if (err == OK)
        err = composed_read(run->thread->reader, run->grant.turn.id, run->task->params, &run->bound, why);
    return err;
}

/* Arguments as the body gets them: fetched if they stand outside the row, made if they are composed,
 * bound if the task has parameters. False with the outcome filled otherwise. */
static bool prepare_args(struct run *run)
{
    struct reason why;
    enum err err = read_args(run, &why);
    if (err == ERR_INVALID) {
        outcome_fail(&run->outcome, SPAN("invalid_args"), span_of(why.text), (struct span){0});
        run->outcome.retry = false;
    } else if (err != OK) {
        fail_reading(&run->outcome, err, "the arguments could not be read");
    }
    run->attempt.args.len = run->bound.len;
    run->attempt.args.p = buf_cstr(&run->bound);
    return err == OK;
}

/* What the body is told of it. If it cannot be read now, it is stopped in time all the same. */
static void prepare_deadline(struct run *run, struct thread *thread)
{
    if (run->grant.job->ready.has_deadline && run_open_reader(run) == OK &&
        reader_deadline(thread->reader, run->grant.turn.id, &run->attempt.deadline_at) != OK)
        run->attempt.deadline_at = 0;
}

static void log_suspect(const struct run *run)
{
    char id[ID_TEXT_LEN + 1] = "";
    id_format(run->grant.turn.id, id);
    log_warn("it runs in a child of its own, because the server died twice while it ran",
             LOG_STR("task", run->task->name), LOG_STR("id", id));
}

void run_body(struct run *run, struct thread *thread)
{
    run->thread = thread;
    if (run->grant.suspect)
        log_suspect(run);
    if (!run->grant
             .in_flight) /* whose bodies leave nothing behind, and cannot be to blame; or stand there later */
        run->attempt.record = journal_enter(run->runner->journal, &run->grant.turn);
    if (run->claims)
        report_claim(run);
    bool prepared = prepare_args(run) && prepare_resumption(run, thread) && prepare_steps(run, thread);
    if (prepared)
        prepare_deadline(run, thread);
    if (prepared && run->claims)
        log_start(run);
    if (prepared)
        attempt_start(&run->attempt, &run->outcome, run_ended, run);
    else
        attempt_refuse(&run->attempt, &run->outcome, run_ended, run);
}

/* Runs come and go with every turn, and are larger than what malloc() keeps at hand: those that
 * are over are kept here. Whoever takes has the lock, whoever gives back has none. */
static struct run *run_take_spare_locked(struct runner *runner)
{
    struct run *run = runner->spares;
    if (!run) {
        run = atomic_exchange(&runner->given_back, NULL);
        atomic_store(&runner->given_back_count, 0);
    }
    runner->spares = run ? run->next : NULL;
    if (run)
        memset(run, 0, sizeof *run);
    return run ? run : xcalloc(1, sizeof *run);
}

static void run_give_back(struct runner *runner, struct run *run)
{
    if (atomic_fetch_add(&runner->given_back_count, 1) >= RUNS_KEPT) {
        free(run);
        return;
    }
    run->next = atomic_load(&runner->given_back);
    while (!atomic_compare_exchange_weak(&runner->given_back, &run->next, run))
        continue;
}

static void free_list(struct run *run)
{
    for (struct run *next; run; run = next) {
        next = run->next;
        free(run);
    }
}

void run_free_spares(struct runner *runner)
{
    free_list(runner->spares);
    free_list(atomic_load(&runner->given_back));
}

static struct run *run_new(struct runner *runner, const struct grant *grant)
{
    struct run *run = run_take_spare_locked(runner);
    const struct ready *ready = &grant->job->ready;
    run->grant = *grant;
    run->runner = runner;
    run->task = queue_task(&runner->queue, ready->task);
    if (grant->suspect)
        run->task = run->task->kind->apart(run->task);
    run->registry = registry_ref(runner->registry);
    run->slot = -1;
    if (!grant->in_flight)
        run_take_slot_locked(run);
    pthread_cond_init(&run->resumes, &runner->monotonic);
    run->limits = runner->limits;
    report_init(run);
    run->claim.failures = ready->failures;
    run->claim.flags = ready->flags;
    run->claim.resumes = ready->resumes;
    run->claim.worker = span_of(grant->in_flight ? run->task->kind->name : runner->slots[run->slot].name);
    run->claim.started_at = clock_now_ms();
    run->finish.retention_ms = ready->retention_ms;
    run->attempt = (struct attempt){
        .task = run->task,
        .id = grant->turn.id,
        .number = grant->turn.attempt,
        .timeout_ms = ready->timeout_ms,
        .limits = &run->limits,
        .sink = &sink,
        .wake_fd = -1,
    };
    attempt_init(&run->attempt);
    return run;
}

void run_free(struct run *run)
{
    struct log_write *write, *next;
    DL_FOREACH_SAFE (run->held_logs, write, next)
        log_write_free(write);
    attempt_release(&run->attempt);
    pthread_cond_destroy(&run->resumes);
    outcome_release(&run->outcome);
    log_pending_release(&run->log);
    registry_unref(run->registry);
    buf_release(&run->bound);
    buf_release(&run->steps);
    woken_release(&run->resumption);
    buf_release(&run->progress_note);
    free(run->chunks);
    free(run->grant.job);
    run_give_back(run->runner, run);
}

/* One that should have started earlier does not start; the dispatcher, which
 * knows its time, fails it as expired. */
static bool is_expired(const struct grant *grant, int64_t now)
{
    int64_t expires_at = grant->job->ready.expires_at;
    return expires_at && expires_at <= now;
}

static bool take_job_locked(struct runner *runner, bool (*take)(struct queue *, int64_t, struct grant *),
                            struct grant *grant)
{
    bool taken;
    while ((taken = take(&runner->queue, lease_new(), grant)) && is_expired(grant, clock_now_ms())) {
        queue_left(&runner->queue, grant);
        free(grant->job);
    }
    if (runner->queue.suspect_count) /* put aside for it */
        starter_wake_locked(runner);
    return taken;
}

static struct run *begin_locked(struct runner *runner, const struct grant *grant)
{
    struct run *run = run_new(runner, grant);
    queue_claiming(&runner->queue, &run->grant);
    DL_APPEND(runner->runs, run);
    runner->unfinished++;
    run->claims = !run->task->kind->has_room;
    run->began_us = clock_mono_us();
    if (run->claims)
        histogram_add(&runner->wait, run->began_us - run->grant.job->offered_us);
    if (run_wants_flush(run))
        dispatcher_set_locked(runner, TIMER_FLUSH, run->began_us + RUN_FLUSH_US);
    return run;
}

struct run *run_take_locked(struct runner *runner)
{
    struct grant grant;
    return take_job_locked(runner, queue_take, &grant) ? begin_locked(runner, &grant) : NULL;
}

struct run *run_take_in_flight_locked(struct runner *runner)
{
    struct grant grant;
    return take_job_locked(runner, queue_take_in_flight, &grant) ? begin_locked(runner, &grant) : NULL;
}
