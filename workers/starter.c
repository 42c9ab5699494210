/* The thread that starts what takes no slot: it takes jobs as long as their task
 * has room for one more in flight, and hands each to its kind, which drives it
 * from there. So thousands are under way and none of them has a thread. */
#include "workers/runner_internal.h"

#include <string.h>

static bool has_work_locked(const struct runner *runner)
{
    return !runner->starter.held && queue_has_work_in_flight(&runner->queue);
}

void starter_wake_locked(struct runner *runner)
{
    struct starter *starter = &runner->starter;
    if (!starter->sleeps || !has_work_locked(runner))
        return;
    starter->sleeps = false;
    pthread_cond_signal(&starter->thread.wake);
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

static void *starter_main(void *arg)
{
    struct runner *runner = arg;
    struct starter *starter = &runner->starter;
    pthread_mutex_lock(&runner->lock);
    while (!runner->ended) {
        struct run *run = has_work_locked(runner) ? run_take_in_flight_locked(runner) : NULL;
        if (run) {
            start_locked(runner, run);
            continue;
        }
        starter->sleeps = true;
        while (starter->sleeps && !runner->ended)
            pthread_cond_wait(&starter->thread.wake, &runner->lock);
    }
    pthread_mutex_unlock(&runner->lock);
    return NULL;
}

enum err starter_start(struct runner *runner, struct reason *why)
{
    struct starter *starter = &runner->starter;
    starter->thread = (struct thread){.runner = runner, .wake_fd = -1};
    pthread_cond_init(&starter->thread.wake, NULL);
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
    if (!starter->started)
        return;
    pthread_mutex_lock(&runner->lock);
    pthread_cond_signal(&starter->thread.wake);
    pthread_mutex_unlock(&runner->lock);
    pthread_join(starter->thread.id, NULL);
    pthread_cond_destroy(&starter->thread.wake);
    reader_close(starter->thread.reader);
}
