/* What a body asks of the service while it runs: children, and waiting for them.
 *
 * A body that waits stays on its thread and gives its slot back; another thread
 * takes that. It is woken by the commit that ended what it waits for, takes a
 * slot before anything new starts, and says so on disk. */
#include "base/clock.h"
#include "base/json.h"
#include "workers/runner_internal.h"
#include "workers/submission.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <utlist.h>

static bool is_stopped(const struct run *run)
{
    return atomic_load(&run->attempt.stop) != STOP_NONE;
}

/* --- children ---------------------------------------------------------------------- */

static bool refuse(struct reason *why, const struct faults *faults)
{
    const struct fault *first = faults->items;
    reason_set(why, "%s%s%s", *first->pointer ? first->pointer : "", *first->pointer ? ": " : "", first->detail);
    return false;
}

/* Said again while the disk takes nothing: as a step it is one child all the same. */
static enum err submit_child(struct run *run, struct submission *s)
{
    enum err err;
    int mark;
    do {
        struct op_submit op;
        bool again;
        mark = patient_mark(run);
        op_submit_init(&op, s, 1);
        err = patient_do(run, &op.op, &again);
        if (err == OK)
            err = s->err;
    } while (err == ERR_CONFLICT && patient_was_unclaimed(run, mark) && patient_rest(run));
    return err;
}

static bool make_child(struct run *run, struct submission *s, struct reason *why)
{
    if (!submission_has_task(s)) {
        reason_set(why, "%s", submission_refusal(s, OK).detail);
        return false;
    }
    enum err err = submit_child(run, s);
    if (err != OK)
        reason_set(why, "%s", submission_refusal(s, err).detail);
    return err == OK;
}

bool in_place_submit(struct attempt *attempt, struct span submission, int64_t *id, struct reason *why)
{
    struct run *run = run_of(attempt);
    struct buf scratch = {0}, texts = {0};
    struct faults faults = {0};
    struct json_fault fault;
    struct submission s = {0};
    struct submission_context context = {
        .registry = run->registry,
        .owner = SPAN(""),
        .parent = run->grant.turn.id,
        .parent_lease = run->grant.turn.lease,
        .now_ms = clock_now_ms(),
        .scratch = &scratch,
    };
    bool made = false;
    if (json_check(submission.p, submission.len, JSON_DEPTH_MAX, &fault) != OK)
        reason_set(why, "not valid JSON: %s, at byte %zu", fault.detail, fault.offset);
    else if (submission_read(&context, submission, &s, &texts, &faults) != OK)
        refuse(why, &faults);
    else {
        made = make_child(run, &s, why);
        submission_release(&s);
    }
    if (made)
        *id = s.id;
    submission_release(&s);
    faults_release(&faults);
    buf_release(&scratch);
    buf_release(&texts);
    return made;
}

enum err in_place_look(struct attempt *attempt, int64_t id, struct child_view *out)
{
    struct run *run = run_of(attempt);
    struct invocation row;
    *out = (struct child_view){0};
    enum err err = run_open_reader(run);
    if (err == OK)
        err = reader_get_awaited(run->thread->reader, id, VIEW_FULL, &row);
    if (err != OK)
        return err;
    out->status = status_name(row.status);
    buf_add_span(&out->result, row.result);
    buf_add_span(&out->error, row.error);
    return OK;
}

/* --- slots ---------------------------------------------------------------------------- */

void in_place_notify_locked(struct run *run)
{
    pthread_cond_signal(&run->resumes);
}

void in_place_give_slot_locked(struct run *run)
{
    struct runner *runner = run->runner;
    run->waits = true;
    runner->waiting++;
    if (run->slot >= 0)
        run_leave_slot_locked(run);
    if (run->task->kind->has_room) {
        queue_gives_way(&runner->queue, &run->grant, true);
        atomic_store(&run->attempt.waits, WAITS);
        attempt_look(&run->attempt);
        starter_wake_locked(runner);
    }
    in_place_freed_locked(runner);
    in_place_closing_locked(runner);
}

void in_place_want_slot_locked(struct run *run)
{
    struct runner *runner = run->runner;
    runner->resuming++;
    DL_APPEND2(runner->resumes, run, resumes_prev, resumes_next);
}

static void unwant_slot_locked(struct run *run)
{
    struct runner *runner = run->runner;
    DL_DELETE2(runner->resumes, run, resumes_prev, resumes_next);
    runner->resuming--;
}

void in_place_take_slot_locked(struct run *run)
{
    struct runner *runner = run->runner;
    if (run->task->kind->has_room) {
        queue_gives_way(&runner->queue, &run->grant, false);
        atomic_store(&run->attempt.waits, WAITS_NOT);
    } else {
        unwant_slot_locked(run);
    }
    runner->waiting--;
    run->waits = false;
    if (!run->grant.in_flight)
        run_take_slot_locked(run);
}

void in_place_forget_slot_locked(struct run *run, bool wanted)
{
    if (wanted && !run->task->kind->has_room)
        unwant_slot_locked(run);
    run->runner->waiting--;
    run->waits = false;
}

/* The first that is to go on; it wakes the next, if there is a slot for that too.
 * Who has no thread that sleeps here takes it at once. */
void in_place_freed_locked(struct runner *runner)
{
    struct run *run;
    while ((run = runner->resumes) && run->wait && runner->slots_free)
        waits_resume_locked(run);
    if (run)
        pthread_cond_signal(&run->resumes);
}

/* --- waiting --------------------------------------------------------------------------- */

static void take_slot_locked(struct run *run)
{
    struct runner *runner = run->runner;
    in_place_want_slot_locked(run);
    while (!runner->slots_free)
        pthread_cond_wait(&run->resumes, &runner->lock);
    in_place_take_slot_locked(run);
    in_place_freed_locked(runner);
}

/* True: woken. */
static bool sleep_locked(struct run *run, int64_t until_us)
{
    struct runner *runner = run->runner;
    struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
    int code = 0;
    while (!run->woken && !is_stopped(run) && code != ETIMEDOUT)
        code = until_us == INT64_MAX ? pthread_cond_wait(&run->resumes, &runner->lock)
                                     : pthread_cond_timedwait(&run->resumes, &runner->lock, &until);
    return run->woken;
}

/* On disk it waits: the thread sleeps until it is to go on. */
static enum waited sleep_in_place(struct run *run, int64_t timeout_ms)
{
    struct runner *runner = run->runner;
    int64_t began_us = clock_mono_us();
    int64_t until_us = timeout_ms < 0 ? INT64_MAX : began_us + timeout_ms * 1000;
    pthread_mutex_lock(&runner->lock);
    in_place_give_slot_locked(run);
    threads_replace_locked(runner);
    bool woken = sleep_locked(run, until_us);
    bool stopped = !woken && is_stopped(run);
    take_slot_locked(run);
    pthread_mutex_unlock(&runner->lock);
    if (run->attempt.deadline_us)
        run->attempt.deadline_us += clock_mono_us() - began_us;
    return woken ? WAITED_MET : stopped ? WAITED_STOPPED : WAITED_TIMED_OUT;
}

static enum waited refused(struct run *run, const struct op_wait *op, struct reason *why)
{
    char id[ID_TEXT_LEN + 1] = "";
    id_format(op->bad, id);
    switch (op->turn.op.err) {
    case ERR_NOT_FOUND: reason_set(why, "there is no invocation %s", id); break;
    case ERR_INVALID: reason_set(why, "%s waits for this one: neither would ever go on", id); break;
    case ERR_CONFLICT: attempt_stop(&run->attempt, STOP_CANCEL); return WAITED_STOPPED; /* the turn is over */
    default: reason_set(why, "the wait could not be written (see the log)");
    }
    return attempt_should_stop(&run->attempt) ? WAITED_STOPPED : WAITED_REFUSED;
}

static void resumed(struct op *op)
{
    struct run *run = op->owner;
    if (op->err == ERR_CONFLICT) /* the lease is another's */
        attempt_stop(&run->attempt, STOP_CANCEL);
}

/* Not waited for: the turn's next words come after it, its end is accepted while
 * it waits, too. So the last one is always back when there is a next. */
void in_place_resume_row(struct run *run)
{
    op_resume_init(&run->resume, &run->grant.turn);
    run->resume.turn.op.owner = run;
    run->resume.turn.op.done = resumed;
    store_queue(run->runner->store, &run->resume.turn.op);
}

enum waited in_place_await(struct run *run, struct op_wait *op, int64_t timeout_ms, struct reason *why)
{
    bool again;
    op->again = true; /* a wait that was not known to be written may be */
    if (attempt_should_stop(&run->attempt))
        return WAITED_STOPPED;
    pthread_mutex_lock(&run->runner->lock);
    run->woken = false;
    run->hears = op->inbox;
    pthread_mutex_unlock(&run->runner->lock);
    if (patient_do(run, &op->turn.op, &again) != OK)
        return refused(run, op, why);
    if (op->met)
        return WAITED_MET;
    enum waited waited = sleep_in_place(run, timeout_ms);
    in_place_resume_row(run);
    return waited;
}

enum waited in_place_wait(struct attempt *attempt, const int64_t *ids, int count, bool any, int64_t timeout_ms,
                          struct reason *why)
{
    struct run *run = run_of(attempt);
    struct op_wait op;
    op_wait_init(&op, &run->grant.turn);
    op.ids = ids;
    op.count = count;
    op.any = any;
    op.timed = timeout_ms >= 0;
    return in_place_await(run, &op, timeout_ms, why);
}

/* --- without threads ------------------------------------------------------------------- */

enum { THREAD_STOP_MIN_US = 1000000, THREAD_STOP_MAX_US = 60000000 };

/* Where the next one only waits as well, that is found out more and more seldom. */
static bool may_stop_locked(struct runner *runner)
{
    int64_t now_us = clock_mono_us();
    if (now_us < runner->thread_stop.next_us && !runner->thread_stop.progress)
        return false;
    int64_t delay_us = runner->thread_stop.progress   ? 0
                       : runner->thread_stop.delay_us ? runner->thread_stop.delay_us * 2
                                                      : THREAD_STOP_MIN_US;
    runner->thread_stop.delay_us = delay_us < THREAD_STOP_MAX_US ? delay_us : THREAD_STOP_MAX_US;
    runner->thread_stop.next_us = now_us + runner->thread_stop.delay_us;
    runner->thread_stop.progress = false;
    return true;
}

/* The last that began: it loses least. NULL: all of them are about to go on. */
static struct run *youngest_waiting_locked(struct runner *runner)
{
    struct run *run, *youngest = NULL;
    DL_FOREACH (runner->runs, run) {
        if (run->waits && is_stopped(run))
            return NULL; /* one is on its way out */
        if (run->waits && !run->woken && !run->grant.in_flight)
            youngest = run;
    }
    return youngest;
}

int64_t in_place_free_thread_locked(struct runner *runner, bool unused)
{
    bool others_run = runner->slots_free < runner->slot_count || runner->thread_count < 2;
    bool wanted = runner->waiting && !runner->idle && runner_room_locked(runner) > 0 &&
                  queue_has_work(&runner->queue) && (unused || !others_run);
    struct run *run = wanted ? youngest_waiting_locked(runner) : NULL;
    if (!run || !may_stop_locked(runner))
        return 0;
    attempt_stop(&run->attempt, STOP_KILL);
    in_place_notify_locked(run);
    return run->grant.turn.id;
}

/* --- closing --------------------------------------------------------------------------- */

/* What waits in place holds up nobody, when nothing comes any more that could
 * end its wait: nothing runs, nothing is on its way to disk, and with `cancel`
 * nothing starts, with `join` nothing is queued. */
static bool nothing_comes_locked(struct runner *runner)
{
    struct run *run;
    if (runner->unfinished != runner->waiting)
        return false;
    DL_FOREACH (runner->runs, run)
        if (run->woken)
            return false;
    return runner->policy != CLOSE_JOIN || runner->paused || queue_is_drained(&runner->queue);
}

void in_place_closing_locked(struct runner *runner)
{
    struct run *run;
    if (!runner->closing || !runner->waiting || !nothing_comes_locked(runner))
        return;
    if (runner->policy == CLOSE_JOIN) { /* all else is done: what is stopped now must not start again */
        runner->policy = CLOSE_CANCEL;
        runner_gate_locked(runner);
    }
    DL_FOREACH (runner->runs, run) {
        attempt_stop(&run->attempt, STOP_KILL);
        in_place_notify_locked(run);
    }
}
