/* A pool as it is defined, and what the kinds whose bodies run in it hand on to the minder. */
#include "workers/kinds/pool/internal.h"

#include <errno.h>
#include <stdlib.h>

struct pool_definition *pool_definition_new(const char *name, struct pool_settings *is)
{
    struct pool_definition *of = xcalloc(1, sizeof *of);
    atomic_init(&of->tasks, 1);
    of->name = xstrdup(name);
    of->is = *is;
    *is = (struct pool_settings){0};
    return of;
}

void pool_definition_free(struct pool_definition *of)
{
    pool_settings_release(&of->is);
    free(of->name);
    free(of);
}

void pool_definition_give_up(struct pool_definition *of)
{
    if (!of || atomic_fetch_sub(&of->tasks, 1) > 1)
        return;
    if (of->pool)
        minder_release_pool(of->pool);
    else
        pool_definition_free(of);
}

void pool_task_release(struct pool_task *in)
{
    pool_definition_give_up(in->of);
    pool_settings_release(&in->own);
}

/* --- what kinds hand on ------------------------------------------------------------- */

/* Its pool, made when it is first needed. */
static struct pool *pool_of_locked(struct pool_definition *of)
{
    if (!of->pool) {
        of->pool = pool_new(of);
        minder_add_pool(of->pool);
    } else if (of->pool->rests) {
        of->pool->rests = of->pool->ends = false;
        minder_add_pool(of->pool);
    }
    return of->pool;
}

int pool_in_flight(const struct task *task)
{
    const struct pool_definition *of = pool_of(task);
    post_lock();
    int room = of->pool ? atomic_load(&of->pool->room) : -1;
    post_unlock();
    return room;
}

const void *pool_room_of(const struct task *task)
{
    return pool_of(task);
}

/* A socket, two pipes, the process and a log each; and a reload has the old ones beside the new.
 * Those that share a pool need their part of it. */
int pool_descriptors(const struct task *task)
{
    enum { OF_CHILD = 5 };
    const struct pool_definition *of = pool_of(task);
    int tasks = atomic_load(&of->tasks);
    return (2 * OF_CHILD * of->is.workers.max + tasks - 1) / tasks;
}

void pool_serve(struct task *task, bool serves)
{
    struct pool_definition *of = pool_of(task);
    post_lock();
    if (serves && minder_run())
        pool_of_locked(of)->served = true;
    else if (!serves && of->pool)
        of->pool->outdated = true;
    post_unlock();
    minder_wake();
}

void pool_wanted(const struct task *task, int count)
{
    post_lock();
    if (minder_run()) {
        struct pool *pool = pool_of_locked(pool_of(task));
        pool->wanted = count > pool->wanted ? count : pool->wanted;
    }
    post_unlock();
    minder_wake();
}

void pool_start(struct attempt *attempt)
{
    struct body *body = xcalloc(1, sizeof *body);
    body->attempt = attempt;
    body->id = attempt->id;
    attempt->deadline_us = 0; /* it counts from when a child has it */
    post_lock();
    bool runs = minder_run();
    int error = errno;
    if (runs)
        body->pool = pool_of_locked(pool_of(attempt->task));
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

void pool_stop(struct attempt *attempt)
{
    (void)attempt;
    minder_wake();
}
