/* The runner's life: recovery, threads, what the store reports, closing. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* --- what the store reports ------------------------------------------------------- */

static void stop_running(struct runner *runner, int64_t id)
{
    for (int i = 0; i < runner->slot_count; i++)
        if (runner->slots[i].run && runner->slots[i].run->turn.id == id)
            attempt_stop(&runner->slots[i].attempt, STOP_CANCEL);
}

static void take_change(struct runner *runner, const struct change *change, int64_t now_us)
{
    if (change->refill) {
        schedule_refilled_locked(runner, change->refill, now_us);
        return; /* refill_done() looks whether that was enough */
    }
    if (change->withdrawn)
        schedule_withdraw_locked(runner, change);
    if (change->cancel)
        stop_running(runner, change->id);
    if (change->to == STATUS_QUEUED)
        schedule_offer_locked(runner, change, now_us);
    if (change->follow_up)
        dispatcher_due_locked(runner, UPKEEP_FOLLOW_UP, 1);
    if (change->due_at)
        dispatcher_due_locked(runner, UPKEEP_PROMOTE, change->due_at);
    if (change->expires_at)
        dispatcher_due_locked(runner, UPKEEP_EXPIRE, change->expires_at);
    if (change->prune_at)
        dispatcher_due_locked(runner, UPKEEP_PRUNE, change->prune_at);
}

static void on_committed(void *context, const struct change *changes, int count)
{
    struct runner *runner = context;
    int64_t now_us = clock_mono_us();
    pthread_mutex_lock(&runner->lock);
    for (int i = 0; i < count; i++)
        take_change(runner, &changes[i], now_us);
    schedule_wake_locked(runner);
    pthread_mutex_unlock(&runner->lock);
}

static void on_health(void *context, bool healthy)
{
    struct runner *runner = context;
    pthread_mutex_lock(&runner->lock);
    runner->healthy = healthy;
    if (healthy)
        runner->refill_at = 0; /* those that failed are asked for again */
    pthread_cond_broadcast(&runner->work);
    pthread_cond_signal(&runner->tick);
    pthread_mutex_unlock(&runner->lock);
}

/* --- the tasks that may run ------------------------------------------------------------ */

/* Gives every configured task its number and its lane; those that are gone
 * keep their lane and do not run. */
static enum err adopt_registry(struct runner *runner, struct registry *registry)
{
    int count = registry_count(registry);
    for (int i = 0; i < count; i++) {
        struct task *task = registry_at(registry, i);
        enum err err = store_task_id(runner->store, span_of(task->name), &task->id);
        if (err != OK)
            return err;
    }
    pthread_mutex_lock(&runner->lock);
    for (int i = 0; i < runner->window.lane_count; i++)
        if (runner->window.lanes[i])
            window_set(&runner->window, runner->window.lanes[i], NULL, false);
    for (int i = 0; i < count; i++) {
        struct task *task = registry_at(registry, i);
        bool paused = false;
        int64_t counts[STATUS_SLOTS];
        store_task_counts(runner->store, task->id, &paused, counts);
        window_set(&runner->window, window_lane(&runner->window, task->id), task, paused);
    }
    schedule_release_alone_locked(runner);
    struct registry *old = runner->registry;
    runner->registry = registry_ref(registry);
    schedule_wake_locked(runner);
    pthread_mutex_unlock(&runner->lock);
    registry_unref(old);
    return OK;
}

enum err runner_set_registry(struct runner *runner, struct registry *registry, const struct attempt_limits *limits)
{
    enum err err = adopt_registry(runner, registry);
    if (err != OK)
        return err;
    pthread_mutex_lock(&runner->lock);
    runner->limits = *limits;
    pthread_mutex_unlock(&runner->lock);
    schedule_refill_all(runner);
    return OK;
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
        if (pause->task == 0) {
            runner->paused = pause->paused;
        } else {
            struct lane *lane = window_lane(&runner->window, pause->task);
            window_set(&runner->window, lane, lane->task, pause->paused);
            schedule_release_alone_locked(runner);
        }
        schedule_wake_locked(runner);
        pthread_mutex_unlock(&runner->lock);
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

/* --- recovery ------------------------------------------------------------------------------ */

static int recoveries_of(void *context, int task)
{
    const struct registry *registry = context;
    for (int i = 0; i < registry_count(registry); i++)
        if (registry_at(registry, i)->id == task)
            return registry_at(registry, i)->options.max_recoveries;
    return 3; /* a task that left the configuration */
}

/* Loads the jobs that are to run alone; those that cannot run now stay in the
 * queue like any other. */
static enum err load_alone(struct runner *runner, const int64_t *ids, int count)
{
    struct reader *reader = NULL;
    if (!count)
        return OK;
    enum err err = reader_open(runner->store, &reader, NULL);
    runner->alone = xcalloc((size_t)count, sizeof *runner->alone);
    for (int i = 0; i < count && err == OK; i++) {
        struct invocation row;
        err = reader_get(reader, ids[i], VIEW_FULL, &row);
        if (err != OK || row.status != STATUS_QUEUED)
            continue;
        struct lane *lane = window_lane(&runner->window, row.task);
        if (!lane->task || lane->paused)
            continue;
        struct ready ready = {
            .id = row.id,
            .task = row.task,
            .priority = row.priority,
            .attempt = row.attempt,
            .failures = row.failures,
            .max_retries = row.max_retries,
            .timeout_ms = row.timeout_ms,
            .retention_ms = row.retention_ms,
            .expires_at = row.expires_at,
            .args = row.args.p ? row.args : SPAN(""),
        };
        runner->alone[runner->alone_count++] = job_new(&ready, clock_mono_us());
        log_warn("runs alone after unexplained deaths", LOG_STR("task", store_task_name(runner->store, row.task)));
    }
    reader_close(reader);
    return err;
}

static bool any_marked(const struct journal_left *left)
{
    for (int i = 0; i < left->count; i++)
        if (left->entries[i].marked)
            return true;
    return false;
}

/* `marked`: the death was somebody's doing. */
static struct casualty casualty_of(const struct journal_entry *entry, bool marked)
{
    return (struct casualty){
        .id = entry->id,
        .lease = entry->lease,
        .attempt = entry->attempt,
        .started_at = entry->started_at,
        .pays = entry->marked || (entry->alone && !marked),
        .bystander = marked && !entry->marked,
        .marked = entry->marked,
        .signal = entry->signal,
        .log = buf_span(&entry->log),
    };
}

static enum err recover(struct runner *runner, const struct runner_options *options, struct reason *why)
{
    struct journal_left left;
    int alone_count;
    int64_t *alone;
    enum err err = journal_open(options->journal_path, options->slots, &runner->journal, &left, why);
    if (err != OK)
        return err;
    struct casualty *casualties = xcalloc((size_t)left.count + 1, sizeof *casualties);
    bool marked = any_marked(&left);
    for (int i = 0; i < left.count; i++)
        casualties[i] = casualty_of(&left.entries[i], marked);
    err = store_recover(runner->store, casualties, left.count, recoveries_of, options->registry, &alone,
                        &alone_count);
    if (err == OK)
        err = load_alone(runner, alone, alone_count);
    if (err != OK)
        reason_set(why, "recovery failed (see the log)");
    free(casualties);
    free(alone);
    journal_left_release(&left);
    return err;
}

/* --- life -------------------------------------------------------------------------------------- */

static void init_slots(struct runner *runner)
{
    runner->slots = xcalloc((size_t)runner->slot_count, sizeof *runner->slots);
    for (int i = 0; i < runner->slot_count; i++) {
        struct slot *slot = &runner->slots[i];
        slot->runner = runner;
        slot->index = i;
        slot->attempt.wake_fd = -1;
        random_bytes(&slot->random, sizeof slot->random);
        slot->random |= 1; /* xorshift must not start at 0 */
        snprintf(slot->name, sizeof slot->name, "slot-%d", i + 1);
    }
}

enum err runner_open(const struct runner_options *options, struct runner **out, struct reason *why)
{
    struct runner *runner = xcalloc(1, sizeof *runner);
    runner->store = options->store;
    runner->limits = options->limits;
    runner->slot_count = options->slots;
    runner->healthy = true;
    runner->flush_at = runner->refill_at = runner->rewrite_at = INT64_MAX;
    runner->paused = store_paused(options->store);
    pthread_mutex_init(&runner->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&runner->work, &attr);
    pthread_cond_init(&runner->tick, &attr);
    pthread_cond_init(&runner->quiet, &attr);
    pthread_condattr_destroy(&attr);
    init_slots(runner);
    for (int i = 0; i < UPKEEPS; i++)
        runner->timers[i] = (struct upkeep_timer){.runner = runner}; /* each is due once at the start */

    enum err err = adopt_registry(runner, options->registry);
    if (err != OK)
        reason_set(why, "the tasks could not be written to the database (see the log)");
    else
        err = recover(runner, options, why);
    if (err != OK) {
        runner_free(runner);
        return err;
    }
    store_listen(runner->store, &(struct store_listener){on_committed, on_health, NULL, runner});
    *out = runner;
    return OK;
}

static int start_thread(pthread_t *thread, void *(*body)(void *), void *arg, const char *name)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 1 << 20);
    int code = pthread_create(thread, &attr, body, arg);
    pthread_attr_destroy(&attr);
    if (code == 0)
        pthread_setname_np(*thread, name);
    return code;
}

enum err runner_start(struct runner *runner, struct reason *why)
{
    int code = start_thread(&runner->dispatcher, dispatcher_thread, runner, "dispatcher");
    runner->dispatcher_started = code == 0;
    for (int i = 0; i < runner->slot_count && code == 0; i++) {
        struct slot *slot = &runner->slots[i];
        slot->attempt.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        code = slot->attempt.wake_fd < 0 ? errno : start_thread(&slot->thread, slot_thread, slot, slot->name);
        slot->started = code == 0;
    }
    if (code != 0) {
        reason_set(why, "no thread for a slot: %s", strerror(code));
        return ERR_IO;
    }
    return OK;
}

void runner_prune(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    dispatcher_due_locked(runner, UPKEEP_PRUNE, 1);
    pthread_mutex_unlock(&runner->lock);
}

void runner_close_with(struct runner *runner, enum close_policy policy)
{
    pthread_mutex_lock(&runner->lock);
    if (!runner->closing || policy > runner->policy)
        runner->policy = policy;
    runner->closing = true;
    if (runner->policy == CLOSE_KILL)
        for (int i = 0; i < runner->slot_count; i++)
            if (runner->slots[i].run)
                attempt_stop(&runner->slots[i].attempt, STOP_KILL);
    pthread_cond_broadcast(&runner->work);
    pthread_cond_broadcast(&runner->quiet);
    pthread_mutex_unlock(&runner->lock);
}

static bool is_quiet_locked(const struct runner *runner)
{
    if (runner->running || runner->finishing)
        return false;
    bool drained = runner->policy != CLOSE_JOIN || runner->paused ||
                   (runner->alone_count == 0 && window_is_drained(&runner->window));
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
    if (quiet && runner->policy == CLOSE_JOIN)
        runner->policy = CLOSE_CANCEL; /* what becomes due from now on stays on disk */
    pthread_mutex_unlock(&runner->lock);
    return quiet;
}

void runner_abandon(struct runner *runner)
{
    journal_abandon(runner->journal);
}

void runner_free(struct runner *runner)
{
    if (!runner)
        return;
    pthread_mutex_lock(&runner->lock);
    runner->ended = true;
    pthread_cond_broadcast(&runner->work);
    pthread_cond_broadcast(&runner->tick);
    pthread_mutex_unlock(&runner->lock);
    if (runner->dispatcher_started)
        pthread_join(runner->dispatcher, NULL);
    for (int i = 0; i < runner->slot_count; i++) {
        struct slot *slot = &runner->slots[i];
        if (slot->started)
            pthread_join(slot->thread, NULL);
        if (slot->attempt.wake_fd >= 0)
            close(slot->attempt.wake_fd);
        reader_close(slot->reader);
        buf_release(&slot->bound);
        buf_release(&slot->progress_note);
    }
    for (int i = 0; i < runner->alone_count; i++)
        free(runner->alone[i]);
    free(runner->alone);
    free(runner->slots);
    window_release(&runner->window);
    registry_unref(runner->registry);
    journal_close(runner->journal);
    pthread_mutex_destroy(&runner->lock);
    pthread_cond_destroy(&runner->work);
    pthread_cond_destroy(&runner->tick);
    pthread_cond_destroy(&runner->quiet);
    free(runner);
}

/* --- looking in ---------------------------------------------------------------------------------- */

struct slot_view *runner_slots(struct runner *runner, int *count)
{
    pthread_mutex_lock(&runner->lock);
    *count = runner->slot_count;
    struct slot_view *out = xcalloc((size_t)runner->slot_count + 1, sizeof *out);
    for (int i = 0; i < runner->slot_count; i++) {
        const struct slot *slot = &runner->slots[i];
        out[i] = (struct slot_view){i + 1, slot->run ? slot->run->turn.id : 0, slot->run ? slot->since : 0};
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
