/* Slots are permits, and threads are what bodies run on: as many as hold a
 * slot, and one to spare while a slot is free.
 *
 * Threads pull: one that is free takes the first job there is. A commit that
 * makes work ready wakes one idle thread; that one, before it runs its job,
 * wakes the next if there is more. So one wake-up is under way at a time, and
 * short bodies are run in a row by a thread that is awake, without a switch.
 * The last to become idle is the first to be woken; who is idle for long ends. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

enum { IDLE_MS = 10000 };

/* The calling thread is one of these: it looks for work itself. */
static __thread bool runs_bodies;

void threads_wake_locked(struct runner *runner)
{
    struct thread *thread = runner->idle;
    starter_wake_locked(runner);
    if (!thread || runner->waking || runner_room_locked(runner) <= 0 || !queue_has_work(&runner->queue))
        return;
    runner->waking = thread->woken = true;
    DL_DELETE(runner->idle, thread);
    runner->idle_count--;
    pthread_cond_signal(&thread->wake);
}

/* --- a thread ------------------------------------------------------------------- */

static void leave_descriptors(struct thread *thread)
{
    if (thread->wake_fd >= 0)
        close(thread->wake_fd);
    reader_close(thread->reader);
    thread->wake_fd = -1;
    thread->reader = NULL;
}

static void thread_free(struct thread *thread)
{
    leave_descriptors(thread);
    pthread_cond_destroy(&thread->wake);
    free(thread);
}

/* False: it has been idle for long, and others are. */
static bool wait_for_work(struct thread *thread)
{
    struct runner *runner = thread->runner;
    int64_t until_us = clock_mono_us() + IDLE_MS * 1000;
    struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
    int code = 0;
    thread->woken = false;
    DL_PREPEND(runner->idle, thread);
    runner->idle_count++;
    while (!thread->woken && !runner->ended && code != ETIMEDOUT)
        code = runner->idle_count > 1 ? pthread_cond_timedwait(&thread->wake, &runner->lock, &until)
                                      : pthread_cond_wait(&thread->wake, &runner->lock);
    if (thread->woken) {
        runner->waking = false;
        return true;
    }
    DL_DELETE(runner->idle, thread);
    runner->idle_count--;
    return code == ETIMEDOUT && runner->idle_count == 0;
}

void threads_freed_locked(struct runner *runner)
{
    in_place_freed_locked(runner);
    if (!runs_bodies)
        threads_wake_locked(runner);
}

static void start_spare(struct runner *runner);

/* Wakes or makes who takes the next job, and runs this one. */
static void work(struct thread *thread, struct run *run)
{
    struct runner *runner = thread->runner;
    struct op_refill *refill = runner_refill_locked(runner, run->grant.turn.task);
    bool spare = runner_room_locked(runner) > 0 && !runner->idle && !runner->waking &&
                 runner->thread_count <
                     runner->slot_count + runner->waiting; /* one that has just left its body is none of these */
    run->attempt.wake_fd = thread->wake_fd;
    runner->waking |= spare; /* it comes */
    threads_wake_locked(runner);
    pthread_mutex_unlock(&runner->lock);
    if (refill)
        store_queue(runner->store, &refill->op);
    if (spare)
        start_spare(runner);
    run_body(run, thread);
    pthread_mutex_lock(&runner->lock);
}

static void *thread_main(void *arg)
{
    struct thread *thread = arg;
    struct runner *runner = thread->runner;
    runs_bodies = true;
    pthread_setname_np(pthread_self(), "body");
    journal_thread_init();
    pthread_mutex_lock(&runner->lock);
    runner->waking = false;
    while (!runner->ended) {
        struct run *run = runner_room_locked(runner) > 0 ? run_take_locked(runner) : NULL;
        if (run)
            work(thread, run);
        else if (!wait_for_work(thread))
            break;
    }
    runner->thread_count--;
    DL_APPEND(runner->ended_threads, thread);
    pthread_cond_broadcast(&runner->quiet);
    pthread_mutex_unlock(&runner->lock);
    leave_descriptors(thread); /* whoever joins it may come late */
    return NULL;
}

static void join(struct thread *ended)
{
    struct thread *thread, *next;
    DL_FOREACH_SAFE (ended, thread, next) {
        pthread_join(thread->id, NULL);
        thread_free(thread);
    }
}

/* Without the lock. Those that ended meanwhile are joined. */
static int start_thread(struct runner *runner)
{
    struct thread *thread = xcalloc(1, sizeof *thread);
    pthread_attr_t attr;
    thread->runner = runner;
    thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_cond_init(&thread->wake, &runner->monotonic);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, BODY_STACK_BYTES);
    pthread_mutex_lock(&runner->lock);
    struct thread *ended = runner->ended_threads;
    runner->ended_threads = NULL;
    int code = thread->wake_fd < 0 ? EMFILE : pthread_create(&thread->id, &attr, thread_main, thread);
    runner->thread_count += code == 0;
    pthread_mutex_unlock(&runner->lock);
    pthread_attr_destroy(&attr);
    if (code != 0)
        thread_free(thread);
    join(ended);
    return code;
}

static void log_stopped(int64_t id)
{
    char text[ID_TEXT_LEN + 1] = "";
    id_format(id, text);
    log_warn("one that waits is stopped for want of threads, and runs again later", LOG_STR("id", text));
}

/* If there can be none now, it is tried again after a second: those there are
 * may be long in coming free. That is said once, until there can be one again. */
static void start_spare(struct runner *runner)
{
    int code = start_thread(runner);
    int64_t stopped = 0;
    pthread_mutex_lock(&runner->lock);
    bool said = runner->spare_missing;
    runner->spare_missing = code != 0;
    if (code != 0) {
        runner->waking = false;
        threads_wake_locked(runner); /* one may have become idle meanwhile */
        dispatcher_set_locked(runner, TIMER_SPARE, clock_mono_us() + FAILED_AGAIN_MS * 1000);
        if (said)
            stopped = in_place_free_thread_locked(runner, !runs_bodies);
    }
    pthread_mutex_unlock(&runner->lock);
    if (code != 0 && !said)
        log_warn("no further thread for bodies", LOG_STR("error", strerror(code)));
    if (stopped)
        log_stopped(stopped);
}

void threads_try_spare(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    bool wanted = runner->thread_count && !runner->ended && runner->slots_free && !runner->idle && !runner->waking;
    runner->waking |= wanted;
    pthread_mutex_unlock(&runner->lock);
    if (wanted)
        start_spare(runner);
}

void threads_replace_locked(struct runner *runner)
{
    bool spare = !runner->idle && !runner->waking && !runner->ended && runner_room_locked(runner) > 0;
    threads_wake_locked(runner);
    if (!spare)
        return;
    runner->waking = true;
    pthread_mutex_unlock(&runner->lock);
    start_spare(runner);
    pthread_mutex_lock(&runner->lock);
}

void threads_replace_later_locked(struct runner *runner)
{
    threads_wake_locked(runner);
    if (!runner->idle && !runner->waking && !runner->ended && runner_room_locked(runner) > 0)
        dispatcher_set_locked(runner, TIMER_SPARE, 0);
}

enum err threads_start(struct runner *runner, struct reason *why)
{
    int code = start_thread(runner);
    if (code == 0)
        return OK;
    reason_set(why, "no thread for a body: %s", strerror(code));
    return ERR_IO;
}

void threads_reap(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    struct thread *ended = runner->ended_threads;
    runner->ended_threads = NULL;
    pthread_mutex_unlock(&runner->lock);
    join(ended);
}

void threads_end(struct runner *runner)
{
    struct thread *thread, *ended;
    pthread_mutex_lock(&runner->lock);
    DL_FOREACH (runner->idle, thread)
        pthread_cond_signal(&thread->wake);
    while (runner->thread_count)
        pthread_cond_wait(&runner->quiet, &runner->lock);
    ended = runner->ended_threads;
    runner->ended_threads = NULL;
    pthread_mutex_unlock(&runner->lock);
    join(ended);
}
