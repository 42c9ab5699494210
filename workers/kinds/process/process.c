/* Processes: pools of long-lived children that speak JSON lines
 * (workers/sdk/PROTOCOL.md). What is called here is handed to the minder. */
#include "workers/kinds/process/process.h"

#include <errno.h>
#include <stdlib.h>

/* The pool of a definition, made when it is first needed. */
static struct pool *pool_of_locked(const struct task *task)
{
    struct pool_definition *of = process_task(task)->of;
    if (!of->pool) {
        of->pool = pool_new(of);
        minder_add_pool(of->pool);
    } else if (of->pool->rests) {
        of->pool->rests = of->pool->ends = false;
        minder_add_pool(of->pool);
    }
    return of->pool;
}

static int in_flight(const struct task *task)
{
    post_lock();
    const struct pool *pool = process_task(task)->of->pool;
    int room = pool ? atomic_load(&pool->room) : -1;
    post_unlock();
    return room;
}

static const void *room_of(const struct task *task)
{
    return process_task(task)->of;
}

/* A socket, two pipes, the process and a log each; and a reload has the old ones beside the new.
 * Those that share a pool need their part of it. */
static int descriptors(const struct task *task)
{
    enum { OF_CHILD = 5 };
    const struct pool_definition *of = process_task(task)->of;
    int tasks = atomic_load(&of->tasks);
    return (2 * OF_CHILD * of->is.workers.max + tasks - 1) / tasks;
}

static void serve(struct task *task, bool serves)
{
    post_lock();
    if (serves && minder_run())
        pool_of_locked(task)->served = true;
    else if (!serves && process_task(task)->of->pool)
        process_task(task)->of->pool->outdated = true;
    post_unlock();
    minder_wake();
}

static void wanted(const struct task *task, int count)
{
    post_lock();
    if (minder_run()) {
        struct pool *pool = pool_of_locked(task);
        pool->wanted = count > pool->wanted ? count : pool->wanted;
    }
    post_unlock();
    minder_wake();
}

static void start(struct attempt *attempt)
{
    struct body *body = xcalloc(1, sizeof *body);
    body->attempt = attempt;
    body->id = attempt->id;
    attempt->deadline_us = 0; /* it counts from when a child has it */
    post_lock();
    bool runs = minder_run();
    int error = errno;
    if (runs)
        body->pool = pool_of_locked(attempt->task);
    post_unlock();
    if (runs) {
        minder_start_body(body);
        return;
    }
    struct reason why;
    reason_set(&why, "no thread for pools: %s", strerrordesc_np(error));
    outcome_unstarted(attempt->outcome, span_of(why.text));
    free(body);
    attempt_end(attempt);
}

static void stop(struct attempt *attempt)
{
    (void)attempt;
    minder_wake();
}

const struct kind process_kind = {
    .name = "process",
    .in_flight = in_flight,
    .descriptors = descriptors,
    .has_room = true,
    .room_of = room_of,
    .keys = process_keys,
    .definition_bytes = sizeof(struct process_task),
    .check = process_check,
    .share = process_share,
    .host = minder_host,
    .serve = serve,
    .wanted = wanted,
    .start = start,
    .stop = stop,
    .workers = minder_show_workers,
    .failing = minder_show_failing,
    .end = minder_end,
    .release = process_release,
};
