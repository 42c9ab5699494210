/* The dispatcher's thread: sleeps until the next due time or a wake-up, and
 * queues the upkeep that is due. It never touches the database itself. */
#include "workers/runner_internal.h"

#include "base/clock.h"

#include <time.h>

enum { FLUSH_MS = 200 };

void dispatcher_due_locked(struct runner *runner, enum upkeep what, int64_t at)
{
    struct upkeep_timer *timer = &runner->timers[what];
    if (at >= timer->next_at)
        return;
    timer->next_at = at;
    pthread_cond_signal(&runner->tick);
}

void dispatcher_flush_locked(struct runner *runner)
{
    if (runner->flush_at != INT64_MAX)
        return;
    runner->flush_at = clock_now_ms() + FLUSH_MS;
    pthread_cond_signal(&runner->tick);
}

/* Commands are minded by their slots; a native body's thread is its own, so
 * what it said is sent on from here while it is busy with something else. */
static void flush_locked(struct runner *runner, int64_t now)
{
    bool any = false;
    for (int i = 0; i < runner->slot_count; i++)
        any |= slot_flush_locked(&runner->slots[i]);
    runner->flush_at = any ? now + FLUSH_MS : INT64_MAX;
}

static void upkeep_done(struct op *op)
{
    struct upkeep_timer *timer = op->owner;
    struct runner *runner = timer->runner;
    pthread_mutex_lock(&runner->lock);
    timer->in_flight = false;
    if (op->err != OK)
        dispatcher_due_locked(runner, timer->op.what, clock_now_ms() + FAILED_AGAIN_MS);
    else if (timer->op.more)
        dispatcher_due_locked(runner, timer->op.what, 1);
    else if (timer->op.next_at)
        dispatcher_due_locked(runner, timer->op.what, timer->op.next_at);
    pthread_cond_signal(&runner->tick);
    pthread_cond_broadcast(&runner->quiet);
    pthread_mutex_unlock(&runner->lock);
}

/* The timer that is due, or NULL with the time of the next one. */
static struct upkeep_timer *due_locked(struct runner *runner, int64_t now, int64_t *next_at)
{
    *next_at = runner->flush_at < runner->refill_at ? runner->flush_at : runner->refill_at;
    if (runner->rewrite_at < *next_at)
        *next_at = runner->rewrite_at;
    for (int i = 0; i < UPKEEPS; i++) {
        struct upkeep_timer *timer = &runner->timers[i];
        if (timer->in_flight)
            continue;
        if (timer->next_at <= now)
            return timer;
        if (timer->next_at < *next_at)
            *next_at = timer->next_at;
    }
    return NULL;
}

/* Sleeps in steps of a minute at most, because the wall clock may be set. */
static void sleep_until_locked(struct runner *runner, int64_t now, int64_t next_at)
{
    static const int64_t step_ms = 60000;
    if (next_at == INT64_MAX) {
        pthread_cond_wait(&runner->tick, &runner->lock);
        return;
    }
    int64_t delay = next_at - now < step_ms ? next_at - now : step_ms;
    int64_t until_us = clock_mono_us() + delay * 1000;
    struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
    pthread_cond_timedwait(&runner->tick, &runner->lock, &until);
}

void *dispatcher_thread(void *arg)
{
    struct runner *runner = arg;
    pthread_mutex_lock(&runner->lock);
    runner->refill_at = 0; /* nothing is in memory yet */
    while (!runner->ended) {
        int64_t now = clock_now_ms(), next_at;
        if (runner->refill_at <= now) {
            runner->refill_at = INT64_MAX;
            pthread_mutex_unlock(&runner->lock);
            schedule_refill_all(runner);
            pthread_mutex_lock(&runner->lock);
            continue;
        }
        if (runner->rewrite_at <= now) {
            struct run *runs = report_rewrites_locked(runner);
            pthread_mutex_unlock(&runner->lock);
            report_rewrite(runs);
            pthread_mutex_lock(&runner->lock);
            continue;
        }
        if (runner->flush_at <= now)
            flush_locked(runner, now);
        struct upkeep_timer *timer = due_locked(runner, now, &next_at);
        if (!timer) {
            sleep_until_locked(runner, now, next_at);
            continue;
        }
        op_upkeep_init(&timer->op, (enum upkeep)(timer - runner->timers));
        timer->op.op.owner = timer;
        timer->op.op.done = upkeep_done;
        timer->in_flight = true;
        timer->next_at = INT64_MAX;
        pthread_mutex_unlock(&runner->lock);
        store_queue(runner->store, &timer->op.op);
        pthread_mutex_lock(&runner->lock);
    }
    pthread_mutex_unlock(&runner->lock);
    return NULL;
}
