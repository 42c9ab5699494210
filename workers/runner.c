/* The runner's life: recovery, threads, what the store reports, closing. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <utlist.h>

/* --- what the store reports ------------------------------------------------------- */

static void stop_running(struct runner *runner, int64_t id, bool unclaimed)
{
    struct run *run;
    DL_FOREACH (runner->runs, run)
        if (run->grant.turn.id == id && (!unclaimed || run->claim_faulted || !run->claims)) {
            attempt_stop(&run->attempt, STOP_CANCEL);
            in_place_notify_locked(run);
        }
}

/* What goes on of a body whose turn has suspended. */
static void stop_lingering(struct runner *runner, int64_t id)
{
    struct run *run;
    DL_FOREACH (runner->runs, run)
        if (run->grant.turn.id == id && atomic_load(&run->attempt.suspended))
            attempt_stop(&run->attempt, STOP_CANCEL);
}

/* Its body has still to end. */
static void note_suspended(struct runner *runner, int64_t id)
{
    struct run *run;
    DL_FOREACH (runner->runs, run)
        if (run->grant.turn.id == id) {
            atomic_store(&run->attempt.suspended, true);
            queue_suspended(&runner->queue, &run->grant);
        }
}

/* The turn has ended, by its suspension after a cancellation, and the body has still to: what comes
 * anew, of a retry, waits for that. */
static void note_ended_early(struct runner *runner, int64_t id)
{
    struct run *run;
    DL_FOREACH (runner->runs, run)
        if (run->grant.turn.id == id && !run->grant.refused)
            queue_suspended(&runner->queue, &run->grant);
}

/* By the end of what they wait for, or by a message. */
static void wake_waiting(struct runner *runner, int64_t id, bool message)
{
    struct run *run;
    DL_FOREACH (runner->runs, run)
        if (run->grant.turn.id == id && (run->hears || !message)) {
            run->woken = true;
            in_place_notify_locked(run);
        }
}

/* A service that closes when all is done would never close if loops went on: their next
 * iterations stay on disk. */
static bool is_left(const struct runner *runner, const struct change *change)
{
    return change->renews && runner->closing && runner->policy == CLOSE_JOIN;
}

/* True if a worker elsewhere has news of it. */
static bool take_change(struct runner *runner, const struct change *change, int64_t now_us)
{
    if (change->refill) {
        queue_refilled(&runner->queue, change->refill, (struct window_now){now_us, clock_now_ms()});
        return false; /* refill_done() looks whether that was enough */
    }
    if (change->withdrawn) {
        queue_withdraw(&runner->queue, change);
        runner_look_locked(runner, change->task);
    }
    if (change->cancel)
        stop_running(runner, change->id, false);
    if (change->woken || (change->message && change->to == STATUS_WAITING))
        wake_waiting(runner, change->id, change->message);
    if (change->woken)
        waits_woken_locked(runner, change->id);
    else if (change->message && change->to == STATUS_WAITING)
        waits_heard_locked(runner, change->id);
    if (change->suspended)
        note_suspended(runner, change->id);
    if (status_in_turn(change->from) && change->to == STATUS_CANCELLED)
        note_ended_early(runner, change->id);
    if (change->from == STATUS_WAITING && status_is_final(change->to)) /* a body that has suspended goes, too */
        stop_running(runner, change->id, false);
    bool ends_unstarted = (change->from == STATUS_QUEUED || change->from == STATUS_SCHEDULED) &&
                          (change->to == STATUS_CANCELLED || change->to == STATUS_FAILED);
    if (ends_unstarted) /* woken already */
        stop_lingering(runner, change->id);
    if (change->wakes_at)
        dispatcher_set_locked(runner, UPKEEP_WAKE, change->wakes_at);
    bool claims_in_vain = change->withdrawn && change->to != STATUS_QUEUED; /* elsewhere in the queue it is good */
    if (claims_in_vain) /* it is on its way to be tried again, or to a child */
        stop_running(runner, change->id, true);
    if (change->to == STATUS_QUEUED && !change->message && !is_left(runner, change))
        queue_offer(&runner->queue, change, now_us);
    if (change->callback)
        dispatcher_set_locked(runner, TIMER_CALLBACKS, 0);
    if (change->follow_up)
        dispatcher_set_locked(runner, UPKEEP_FOLLOW_UP, 0);
    if (change->loops_at)
        dispatcher_set_locked(runner, UPKEEP_LOOPS, change->loops_at);
    if (change->due_at)
        dispatcher_set_locked(runner, UPKEEP_PROMOTE, change->due_at);
    if (change->expires_at)
        dispatcher_set_locked(runner, UPKEEP_EXPIRE, change->expires_at);
    if (change->release_by)
        dispatcher_set_locked(runner, UPKEEP_RELEASE_BY, change->release_by);
    if (change->prune_at)
        dispatcher_set_locked(runner, UPKEEP_PRUNE, change->prune_at);
    if (change->deadline_at)
        dispatcher_set_locked(runner, UPKEEP_DEADLINE, change->deadline_at);
    if (change->cached_until)
        dispatcher_set_locked(runner, UPKEEP_CACHE, change->cached_until);
    bool news = leases_take_change_locked(runner, change);
    if (change->cancel)
        waits_cancelled_locked(runner, change->id);
    if (status_in_turn(change->from) && (!status_in_turn(change->to) || change->suspended))
        waits_ended_locked(runner, change->id);
    return news;
}

bool runner_may_log(struct runner *runner, int task, int *left_out)
{
    pthread_mutex_lock(&runner->lock);
    bool may = failures_may_log(&runner->failures, task, clock_mono_us(), left_out);
    pthread_mutex_unlock(&runner->lock);
    return may;
}

/* Failed without a turn: not started, or not done, by the time it was to. */
static bool has_expired(const struct change *change)
{
    return change->to == STATUS_FAILED &&
           (change->withdrawn || change->is_late || change->from == STATUS_SCHEDULED);
}

static void log_expired(struct runner *runner, const struct change *change)
{
    char id[ID_TEXT_LEN + 1] = "";
    int left_out;
    if (!runner_may_log(runner, change->task, &left_out))
        return;
    id_format(change->id, id);
    log_warn(change->is_late ? "an invocation was not done by its deadline" : "an invocation expired",
             LOG_STR("task", store_task_name(runner->store, change->task)), LOG_STR("id", id),
             LOG_INT("left_out", left_out));
}

static void on_committed(void *context, const struct change *changes, int count)
{
    struct runner *runner = context;
    int64_t now_us = clock_mono_us();
    for (int i = 0; i < count; i++)
        if (has_expired(&changes[i]))
            log_expired(runner, &changes[i]);
    bool news = false;
    struct ops claims = {0};
    pthread_mutex_lock(&runner->lock);
    for (int i = 0; i < count; i++)
        news |= take_change(runner, &changes[i], now_us);
    threads_wake_locked(runner);
    leases_serve_locked(runner, &claims);
    pthread_mutex_unlock(&runner->lock);
    ops_queue(runner->store, &claims);
    if (news)
        leases_end_asks(runner, false);
}

static void on_health(void *context, bool healthy)
{
    struct runner *runner = context;
    pthread_mutex_lock(&runner->lock);
    runner->healthy = healthy;
    runner_gate_locked(runner);
    if (healthy) {
        dispatcher_set_locked(runner, TIMER_REFILL, 0); /* those that failed are asked for again */
        dispatcher_set_locked(runner, TIMER_CALLBACKS, 0);
        patient_well_locked(runner);
        leases_begin_anew_locked(runner);
    }
    pthread_mutex_unlock(&runner->lock);
    if (healthy)
        leases_serve(runner);
}

void runner_gate_locked(struct runner *runner)
{
    bool closing = runner->closing && runner->policy != CLOSE_JOIN;
    bool unwritable = runner->claims_faulted && runner->claims_faulted >= runner->slot_count;
    runner->queue.closed = !runner->healthy || runner->paused || closing || unwritable;
    threads_wake_locked(runner);
}

/* --- refills ------------------------------------------------------------------------------ */

void runner_look_locked(struct runner *runner, int task)
{
    if (queue_is_low(&runner->queue, task))
        dispatcher_set_locked(runner, TIMER_REFILL, 0);
}

static void refill_done(struct op *op)
{
    struct runner *runner = op->owner;
    struct op_refill *refill = (struct op_refill *)op;
    pthread_mutex_lock(&runner->lock);
    queue_refill_done(&runner->queue, refill->task);
    if (op->err == OK)
        runner_look_locked(runner, refill->task);
    else /* at once again, it would fail again */
        dispatcher_set_locked(runner, TIMER_REFILL, clock_mono_us() + FAILED_AGAIN_MS * 1000);
    threads_wake_locked(runner);
    in_place_closing_locked(runner);
    pthread_cond_broadcast(&runner->quiet);
    pthread_mutex_unlock(&runner->lock);
    leases_serve(runner);
    leases_end_asks(runner, false);
    op_refill_release(refill);
    free(refill);
}

struct op_refill *runner_refill_locked(struct runner *runner, int task)
{
    if (!runner->healthy || !queue_is_low(&runner->queue, task))
        return NULL;
    struct op_refill *refill = xmalloc(sizeof *refill);
    op_refill_init(refill);
    queue_wants_refill(&runner->queue, task, refill);
    refill->op.owner = runner;
    refill->op.done = refill_done;
    return refill;
}

/* --- the tasks that may run ------------------------------------------------------------ */

static enum place place_of(const struct kind *kind)
{
    return kind->elsewhere ? ELSEWHERE : kind->in_flight ? IN_FLIGHT : kind->in_process ? IN_PROCESS : APART;
}

/* First those that the store knows: a disk that takes no writes leaves only new
 * ones without. */
static enum err number_tasks(struct runner *runner, struct registry *registry,
                             enum err (*number)(struct store *store, struct span name, int *id))
{
    enum err err = OK;
    for (int i = 0; i < registry_count(registry); i++) {
        struct task *task = registry_at(registry, i);
        task->id = store_task_find(runner->store, span_of(task->name));
    }
    for (int i = 0; i < registry_count(registry) && err == OK; i++) {
        struct task *task = registry_at(registry, i);
        int id;
        err = number(runner->store, span_of(task->name), &id);
        if (err == OK)
            task->id = id;
    }
    return err;
}

/* Gives every configured task that has a number its lane; those that are gone
 * keep their lane and do not run. */
static void set_lanes_locked(struct runner *runner)
{
    queue_tasks_begin(&runner->queue);
    for (int i = 0; i < registry_count(runner->registry); i++) {
        struct task *task = registry_at(runner->registry, i);
        bool paused = false;
        int64_t counts[STATUS_SLOTS];
        if (!store_task_counts(runner->store, task->id, &paused, counts))
            continue;
        queue_task_set(&runner->queue, task, place_of(task->kind), paused);
        queue_task_room(&runner->queue, task->id, task->kind->has_room ? task->kind->room_of(task) : NULL);
        queue_task_limit(&runner->queue, task->id, task->kind->in_flight ? task->kind->in_flight(task) : 0);
    }
    queue_tasks_end(&runner->queue);
    starter_tasks_locked(runner);
    threads_wake_locked(runner);
}

enum err runner_number_tasks(struct runner *runner, struct registry *registry)
{
    enum err err = number_tasks(runner, registry, store_task_id_with_role);
    pthread_mutex_lock(&runner->lock);
    if (runner->registry == registry) /* a reload that came between has done it for its own */
        set_lanes_locked(runner);
    pthread_mutex_unlock(&runner->lock);
    leases_serve(runner);
    return err;
}

enum err runner_set_registry(struct runner *runner, struct registry *registry, const struct attempt_limits *limits)
{
    enum err err = number_tasks(runner, registry, store_task_id);
    if (err != OK)
        return err;
    pthread_mutex_lock(&runner->lock);
    struct registry *old = runner->registry;
    runner->registry = registry_ref(registry);
    set_lanes_locked(runner);
    runner->limits = *limits;
    dispatcher_set_locked(runner, TIMER_REFILL, 0);
    pthread_mutex_unlock(&runner->lock);
    leases_serve(runner);
    registry_unref(old);
    return OK;
}

/* A kind says how much room it has. */
static int on_room(void *context, const void *of, int room)
{
    struct runner *runner = context;
    pthread_mutex_lock(&runner->lock);
    queue_room_limit(&runner->queue, of, room);
    threads_wake_locked(runner);
    int waiting = queue_held_up(&runner->queue, of);
    pthread_mutex_unlock(&runner->lock);
    return waiting;
}

static void set_host(struct runner *runner)
{
    struct kind_host host = {runner, on_room};
    for (const struct kind *const *kind = kinds; *kind; kind++)
        if ((*kind)->host)
            (*kind)->host(runner ? &host : NULL);
}

/* Children are started, if there are to be some from the beginning. */
static void serve(struct runner *runner)
{
    set_host(runner);
    pthread_mutex_lock(&runner->lock);
    runner->serves = true;
    starter_tasks_locked(runner);
    starter_wake_locked(runner);
    pthread_mutex_unlock(&runner->lock);
}

/* Suspects that no child has yet, of a task or (0) of all: they are queued again. Others do not
 * wait, but for the moment that a worker with room for them needs. */
static void stop_unbegun_locked(struct runner *runner, int task)
{
    struct run *run;
    DL_FOREACH (runner->runs, run)
        if (run->grant.suspect && !run->claims && (!task || run->grant.turn.task == task))
            attempt_stop(&run->attempt, STOP_KILL);
}

struct pause_call {
    struct runner *runner;
    void (*done)(struct op *op);
    void *owner;
};

static void pause_done(struct op *op)
{
    struct pause_call call = *(struct pause_call *)op->owner;
    struct op_pause *pause = (struct op_pause *)op;
    free(op->owner);
    op->owner = call.owner;
    if (op->err == OK) {
        struct runner *runner = call.runner;
        pthread_mutex_lock(&runner->lock);
        if (pause->task == 0)
            runner->paused = pause->paused;
        else
            queue_task_pause(&runner->queue, pause->task, pause->paused);
        if (pause->paused)
            stop_unbegun_locked(runner, pause->task);
        runner_gate_locked(runner);
        pthread_mutex_unlock(&runner->lock);
        leases_serve(runner);
    }
    call.done(op);
}

void runner_pause(struct runner *runner, struct op_pause *op)
{
    struct pause_call *call = xmalloc(sizeof *call);
    *call = (struct pause_call){runner, op->op.done, op->op.owner};
    op->op.owner = call;
    op->op.done = pause_done;
    store_queue(runner->store, &op->op);
}

/* --- life -------------------------------------------------------------------------------------- */

static void init_slots(struct runner *runner)
{
    runner->slots_free = runner->slot_count;
    runner->slots = xcalloc((size_t)runner->slot_count, sizeof *runner->slots);
    runner->free_slots = xcalloc((size_t)runner->slot_count, sizeof *runner->free_slots);
    for (int i = 0; i < runner->slot_count; i++) {
        snprintf(runner->slots[i].name, sizeof runner->slots[i].name, "slot-%d", i + 1);
        runner->free_slots[i] = runner->slot_count - 1 - i; /* the first is taken first */
    }
}

enum err runner_open(const struct runner_options *options, struct runner **out, struct reason *why)
{
    struct runner *runner = xcalloc(1, sizeof *runner);
    runner->store = options->store;
    runner->limits = options->limits;
    runner->slot_count = options->slots;
    runner->callbacks = options->callbacks;
    runner->wake_fd = runner->clock_fd = -1;
    runner->healthy = true;
    runner->paused = store_paused(options->store);
    pthread_mutex_init(&runner->lock, NULL);
    pthread_condattr_init(&runner->monotonic);
    pthread_condattr_setclock(&runner->monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&runner->quiet, &runner->monotonic);
    init_slots(runner);
    queue_init(&runner->queue);
    timers_init(&runner->timers, TIMERS, TIMER_CALLBACKS + 1); /* each is due once at the start */
    runner->scheduling = scheduling_new();
    runner_gate_locked(runner);

    runner->registry = registry_ref(options->registry);
    enum err err = recovery_begin(runner, options, why);
    if (err != OK) {
        runner_free(runner);
        return err;
    }
    store_listen(runner->store, &(struct store_listener){on_committed, on_health, NULL, runner});
    *out = runner;
    return OK;
}

struct looking_for {
    pid_t pid;
    bool found;
};

static void is_worker(void *context, const struct kind_worker *worker)
{
    struct looking_for *looking = context;
    looking->found |= worker->pid == looking->pid;
}

static bool minds(void *context, pid_t pid)
{
    struct runner *runner = context;
    struct run *run;
    bool minded = false;
    pthread_mutex_lock(&runner->lock);
    DL_FOREACH (runner->runs, run)
        minded |= atomic_load(&run->attempt.child) == pid;
    pthread_mutex_unlock(&runner->lock);
    struct looking_for looking = {pid, minded};
    for (const struct kind *const *kind = kinds; *kind; kind++)
        if ((*kind)->workers)
            (*kind)->workers(is_worker, &looking);
    return looking.found;
}

enum err runner_start(struct runner *runner, struct reason *why)
{
    enum err err = leases_load(runner, why);
    if (err == OK)
        err = dispatcher_start(runner, why);
    if (err == OK)
        err = orphans_open(minds, runner, &runner->orphans, why);
    if (err == OK)
        err = starter_start(runner, why);
    if (err == OK)
        serve(runner);
    return err == OK ? threads_start(runner, why) : err; /* bodies run at once: nothing may fail after that */
}

void runner_set_url(struct runner *runner, const char *url)
{
    pthread_mutex_lock(&runner->lock);
    free(runner->url);
    runner->url = url ? xstrdup(url) : NULL;
    pthread_mutex_unlock(&runner->lock);
}

void runner_add_url(struct runner *runner, struct buf *out)
{
    pthread_mutex_lock(&runner->lock);
    if (runner->url)
        buf_adds(out, runner->url);
    pthread_mutex_unlock(&runner->lock);
}

void runner_prune(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    dispatcher_set_locked(runner, UPKEEP_PRUNE, 0);
    pthread_mutex_unlock(&runner->lock);
}

void runner_close_with(struct runner *runner, enum close_policy policy)
{
    pthread_mutex_lock(&runner->lock);
    if (!runner->closing || policy > runner->policy)
        runner->policy = policy;
    runner->closing = true;
    struct run *run;
    DL_FOREACH (runner->runs, run) {
        bool unbegun = !run->claims && runner->policy != CLOSE_JOIN; /* it waits for a worker to have room */
        if (runner->policy == CLOSE_KILL || unbegun)
            attempt_stop(&run->attempt, STOP_KILL);
        in_place_notify_locked(run); /* one that tries again tries no more */
    }
    runner_gate_locked(runner);
    in_place_closing_locked(runner);
    report_hurry_locked(runner);
    pthread_cond_broadcast(&runner->quiet);
    pthread_mutex_unlock(&runner->lock);
    leases_end_asks(runner, true);
}

static bool is_quiet_locked(const struct runner *runner)
{
    if (runner->unfinished)
        return false;
    bool drained = runner->policy != CLOSE_JOIN || runner->paused || queue_is_drained(&runner->queue);
    return runner->closing && drained;
}

bool runner_wait(struct runner *runner, int64_t timeout_ms)
{
    int64_t until_us = clock_mono_us() + timeout_ms * 1000;
    struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
    pthread_mutex_lock(&runner->lock);
    bool quiet;
    while (!(quiet = is_quiet_locked(runner)))
        if (pthread_cond_timedwait(&runner->quiet, &runner->lock, &until) == ETIMEDOUT)
            break;
    if (quiet && runner->policy == CLOSE_JOIN) {
        runner->policy = CLOSE_CANCEL; /* what becomes due from now on stays on disk */
        runner_gate_locked(runner);
    }
    pthread_mutex_unlock(&runner->lock);
    return quiet;
}

void runner_abandon(struct runner *runner)
{
    threads_reap(runner);
    journal_abandon(runner->journal);
    cgroup_leave(runner->cgroup);
    runner->cgroup = NULL;
}

void runner_free(struct runner *runner)
{
    if (!runner)
        return;
    set_host(NULL);
    pthread_mutex_lock(&runner->lock);
    runner->ended = true;
    pthread_mutex_unlock(&runner->lock);
    orphans_close(runner->orphans);
    dispatcher_end(runner);
    starter_end(runner);
    deliver_end(runner);
    threads_end(runner);
    free(runner->slots);
    free(runner->free_slots);
    run_free_spares(runner);
    free(runner->url);
    scheduling_free(runner->scheduling);
    waits_release(runner);
    leases_release(runner);
    queue_release(&runner->queue);
    registry_unref(runner->registry);
    journal_close(runner->journal);
    recovery_release(runner);
    pthread_mutex_destroy(&runner->lock);
    pthread_cond_destroy(&runner->quiet);
    pthread_condattr_destroy(&runner->monotonic);
    failures_release(&runner->failures);
    free(runner);
}

/* --- what is said of turns -------------------------------------------------------------- */

/* A failure is never silent. What it was about is in the row; here is enough to
 * find it. */
void runner_log_failure(struct runner *runner, const struct turn_said *said, const struct op_finish *finish)
{
    int left_out;
    if (turn_log_wants(said, LOG_LEVEL_WARN) && runner_may_log(runner, said->turn->task, &left_out))
        turn_log_failed(said, finish, left_out);
}

/* The task's settings are copied: the next reload may take it away. */
static struct turn_said said_elsewhere(struct runner *runner, const struct turn *turn, struct span worker)
{
    struct turn_said said = {
        .task = store_task_name(runner->store, turn->task),
        .level = LOG_LEVEL_INFO,
        .arguments = LOG_ARGUMENTS_HIDDEN,
        .turn = turn,
        .worker = worker,
    };
    pthread_mutex_lock(&runner->lock);
    const struct task *task = queue_task(&runner->queue, turn->task);
    if (task)
        said.level = task->log_level;
    pthread_mutex_unlock(&runner->lock);
    return said;
}

void runner_log_start(struct runner *runner, const struct turn *turn, struct span worker)
{
    struct turn_said said = said_elsewhere(runner, turn, worker);
    turn_log_started(&said);
}

void runner_log_end(struct runner *runner, const struct op_finish *finish, int64_t ms)
{
    struct turn_said said = said_elsewhere(runner, &finish->turn.turn, (struct span){NULL, 0});
    turn_log_ended(&said, finish, ms);
    if (finish->error.p)
        runner_log_failure(runner, &said, finish);
}

/* --- looking in ---------------------------------------------------------------------------------- */

int64_t runner_given(struct runner *runner, const struct turn *turn)
{
    struct run *run;
    int64_t given = 0;
    pthread_mutex_lock(&runner->lock);
    DL_FOREACH (runner->runs, run)
        if (run->grant.turn.id == turn->id && run->grant.turn.lease == turn->lease)
            given = run->given;
    pthread_mutex_unlock(&runner->lock);
    return given;
}

struct slot_view *runner_slots(struct runner *runner, int *count)
{
    pthread_mutex_lock(&runner->lock);
    *count = runner->slot_count;
    struct slot_view *out = xcalloc((size_t)runner->slot_count + 1, sizeof *out);
    for (int i = 0; i < runner->slot_count; i++) {
        const struct run *run = runner->slots[i].run;
        out[i] = (struct slot_view){i + 1, run ? run->grant.turn.id : 0, run ? run->claim.started_at : 0};
    }
    pthread_mutex_unlock(&runner->lock);
    return out;
}

static struct latency latency_of(const struct histogram *histogram)
{
    return (struct latency){histogram_quantile(histogram, 0.5) / 1000, histogram_quantile(histogram, 0.99) / 1000};
}

void runner_latency(struct runner *runner, struct latency *wait, struct latency *run)
{
    pthread_mutex_lock(&runner->lock);
    *wait = latency_of(&runner->wait);
    *run = latency_of(&runner->run);
    pthread_mutex_unlock(&runner->lock);
}
