/* The thread that starts what takes no slot: it takes jobs as long as their task
 * has room for one more in flight, and hands each to its kind, which drives it
 * from there. So thousands are under way and none of them has a thread. What their
 * bodies ask and is to be read from disk is read here, too (asked.c). */
#include "workers/runner_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool has_work_locked(const struct runner *runner)
{
    return !runner->starter.held && queue_has_work_in_flight(&runner->queue);
}

void starter_ring_locked(struct runner *runner)
{
    struct starter *starter = &runner->starter;
    if (!starter->sleeps)
        return;
    starter->sleeps = false;
    pthread_cond_signal(&starter->thread.wake);
}

/* Work that nobody has room for: its kind may make some. */
static void want_room_locked(const struct runner *runner)
{
    const struct starter *starter = &runner->starter;
    for (int i = 0; i < starter->with_room_count; i++) {
        const struct task *task = starter->with_room[i];
        int count = queue_held_up(&runner->queue, task->kind->room_of(task));
        if (count)
            task->kind->wanted(task, count);
    }
}

void starter_wake_locked(struct runner *runner)
{
    want_room_locked(runner);
    if (has_work_locked(runner))
        starter_ring_locked(runner);
}

/* The last configuration's are served no more, unless it is the same. */
static void leave_tasks_locked(const struct runner *runner)
{
    const struct starter *starter = &runner->starter;
    int count = starter->served && starter->served != runner->registry ? registry_count(starter->served) : 0;
    for (int i = 0; i < count; i++) {
        struct task *task = registry_at(starter->served, i);
        if (task->kind->serve)
            task->kind->serve(task, false);
    }
}

void starter_tasks_locked(struct runner *runner)
{
    struct starter *starter = &runner->starter;
    int count = registry_count(runner->registry);
    leave_tasks_locked(runner);
    starter->served = runner->registry;
    starter->with_room_count = 0;
    starter->with_room = xrealloc(starter->with_room, ((size_t)count + 1) * sizeof *starter->with_room);
    for (int i = 0; i < count && runner->serves; i++) {
        struct task *task = registry_at(runner->registry, i);
        if (!task->kind->has_room)
            continue;
        task->kind->serve(task, true);
        starter->with_room[starter->with_room_count++] = task;
    }
}

static void start_locked(struct runner *runner, struct run *run)
{
    struct op_refill *refill = runner_refill_locked(runner, run->grant.turn.task);
    pthread_mutex_unlock(&runner->lock);
    if (refill)
        store_queue(runner->store, &refill->op);
    run_body(run, &runner->starter.thread);
    pthread_mutex_lock(&runner->lock);
}

static void sleep_locked(struct runner *runner, int64_t until_us)
{
    struct starter *starter = &runner->starter;
    struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
    int code = 0;
    starter->sleeps = true;
    while (starter->sleeps && !runner->ended && code != ETIMEDOUT)
        code = until_us == INT64_MAX ? pthread_cond_wait(&starter->thread.wake, &runner->lock)
                                     : pthread_cond_timedwait(&starter->thread.wake, &runner->lock, &until);
    starter->sleeps = false;
}

static void *starter_main(void *arg)
{
    struct runner *runner = arg;
    struct starter *starter = &runner->starter;
    pthread_mutex_lock(&runner->lock);
    while (!runner->ended) {
        int64_t next_us = asked_work_locked(runner, &starter->thread);
        bool delivers = deliver_work_locked(runner, &starter->thread);
        struct run *run = has_work_locked(runner) ? run_take_in_flight_locked(runner) : NULL;
        if (run)
            start_locked(runner, run);
        else if (!delivers && !starter->asked)
            sleep_locked(runner, next_us);
    }
    pthread_mutex_unlock(&runner->lock);
    return NULL;
}

enum err starter_start(struct runner *runner, struct reason *why)
{
    struct starter *starter = &runner->starter;
    starter->thread = (struct thread){.runner = runner, .wake_fd = -1};
    pthread_cond_init(&starter->thread.wake, &runner->monotonic);
    int code = pthread_create(&starter->thread.id, NULL, starter_main, runner);
    starter->started = code == 0;
    if (starter->started) {
        pthread_setname_np(starter->thread.id, "starter");
        return OK;
    }
    pthread_cond_destroy(&starter->thread.wake);
    reason_set(why, "no thread for what takes no slot: %s", strerrordesc_np(code));
    return ERR_IO;
}

void starter_end(struct runner *runner)
{
    struct starter *starter = &runner->starter;
    free(starter->with_room);
    starter->with_room = NULL;
    starter->with_room_count = 0;
    if (!starter->started)
        return;
    pthread_mutex_lock(&runner->lock);
    pthread_cond_signal(&starter->thread.wake);
    pthread_mutex_unlock(&runner->lock);
    pthread_join(starter->thread.id, NULL);
    pthread_cond_destroy(&starter->thread.wake);
    reader_close(starter->thread.reader);
}
