/* The threads that bodies run on. They stay, so that what a body keeps for its thread is there
 * again. One whose body has ended is free before its end is said: the next run may come
 * the moment after. */
#include "workers/isolated_internal.h"

#include "workers/kinds/kind.h"

#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

void isolated_crew_init(struct isolated_crew *crew)
{
    *crew = (struct isolated_crew){0};
    pthread_mutex_init(&crew->work_lock, NULL);
    pthread_cond_init(&crew->comes, NULL);
}

/* NULL: there is nothing more to come. */
static struct isolated_run *next_run(struct isolated_crew *crew)
{
    pthread_mutex_lock(&crew->work_lock);
    while (!crew->queue && !crew->closes)
        pthread_cond_wait(&crew->comes, &crew->work_lock);
    struct isolated_run *run = crew->queue;
    if (run) {
        DL_DELETE2(crew->queue, run, queue_prev, queue_next);
        crew->queued--;
        crew->free--;
    }
    pthread_mutex_unlock(&crew->work_lock);
    return run;
}

static void is_free(struct isolated_crew *crew)
{
    pthread_mutex_lock(&crew->work_lock);
    crew->free++;
    pthread_mutex_unlock(&crew->work_lock);
}

static void *run_bodies(void *argument)
{
    struct isolated_crew *crew = argument;
    struct isolated_run *run;
    while ((run = next_run(crew))) {
        isolated_run_body(run);
        if (!wire_is_ours(run->wire)) /* it has forked, and both have returned */
            _exit(0);
        is_free(crew);
        isolated_run_say_end(run);
        atomic_store(&run->is_over, true);
    }
    return NULL;
}

static bool start_thread(struct isolated_crew *crew)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, BODY_STACK_BYTES);
    crew->threads = xrealloc(crew->threads, (size_t)(crew->thread_count + 1) * sizeof *crew->threads);
    is_free(crew); /* it will be */
    bool started = pthread_create(&crew->threads[crew->thread_count], &attr, run_bodies, crew) == 0;
    crew->thread_count += started;
    pthread_attr_destroy(&attr);
    if (started)
        return true;
    pthread_mutex_lock(&crew->work_lock);
    crew->free--;
    pthread_mutex_unlock(&crew->work_lock);
    return false;
}

bool isolated_crew_take(struct isolated_crew *crew, struct isolated_run *run)
{
    pthread_mutex_lock(&crew->work_lock);
    DL_APPEND2(crew->queue, run, queue_prev, queue_next);
    bool suffice = ++crew->queued <= crew->free;
    pthread_cond_signal(&crew->comes);
    pthread_mutex_unlock(&crew->work_lock);
    return suffice || start_thread(crew) || crew->thread_count;
}

void isolated_crew_end(struct isolated_crew *crew)
{
    pthread_mutex_lock(&crew->work_lock);
    crew->closes = true;
    pthread_cond_broadcast(&crew->comes);
    pthread_mutex_unlock(&crew->work_lock);
    for (int i = 0; i < crew->thread_count; i++)
        pthread_join(crew->threads[i], NULL);
    free(crew->threads);
    pthread_mutex_destroy(&crew->work_lock);
    pthread_cond_destroy(&crew->comes);
}
