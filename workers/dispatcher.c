/* The dispatcher's thread: sleeps until the next due time or a wake-up, and
 * does or queues what is due. It never touches the database itself.
 *
 * What stands in rows is due by the wall clock. A timer of the kernel's sleeps
 * on that and also wakes when the clock is set (TFD_TIMER_CANCEL_ON_SET), so
 * that nothing is late after a step forwards and nothing is stuck after one
 * back. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <utlist.h>

enum { CLOCK_STEP_MS = 1000 };

static void wake(struct runner *runner)
{
    uint64_t one = 1;
    if (runner->wake_fd >= 0 && write(runner->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        log_error("write", LOG_STR("error", strerror(errno))); /* EAGAIN: it is readable already */
}

void dispatcher_wake_locked(struct runner *runner)
{
    wake(runner);
}

void dispatcher_set_locked(struct runner *runner, int timer, int64_t at)
{
    if (timers_set(&runner->timers, timer, at))
        wake(runner);
}

/* --- what is due ------------------------------------------------------------------- */

static void upkeep_done(struct op *op)
{
    struct upkeep_call *call = op->owner;
    struct runner *runner = call->runner;
    enum upkeep what = call->op.what;
    pthread_mutex_lock(&runner->lock);
    timers_done(&runner->timers, (int)what);
    if (op->err != OK)
        dispatcher_set_locked(runner, (int)what, clock_now_ms() + FAILED_AGAIN_MS);
    else if (call->op.more)
        dispatcher_set_locked(runner, (int)what, 0);
    else if (call->op.next_at)
        dispatcher_set_locked(runner, (int)what, call->op.next_at);
    wake(runner); /* it may have been set while it was under way */
    pthread_cond_broadcast(&runner->quiet);
    pthread_mutex_unlock(&runner->lock);
}

static void begin_upkeep(struct runner *runner, enum upkeep what)
{
    struct upkeep_call *call = &runner->upkeeps[what];
    op_upkeep_init(&call->op, what);
    call->runner = runner;
    call->op.op.owner = call;
    call->op.op.done = upkeep_done;
    store_queue(runner->store, &call->op.op);
}

/* What bodies said that have nobody here who would send it on while they are busy. */
static void flush(struct runner *runner)
{
    bool any = false;
    struct run *run;
    pthread_mutex_lock(&runner->lock);
    DL_FOREACH (runner->runs, run) {
        if (!run_wants_flush(run))
            continue;
        run_flush_locked(run);
        any = true;
    }
    if (any)
        timers_set(&runner->timers, TIMER_FLUSH, clock_mono_us() + RUN_FLUSH_US);
    pthread_mutex_unlock(&runner->lock);
}

static void refill_all(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    int count = runner->queue.window.lane_count;
    pthread_mutex_unlock(&runner->lock);
    for (int task = 1; task < count; task++) {
        pthread_mutex_lock(&runner->lock);
        struct op_refill *refill = runner_refill_locked(runner, task);
        pthread_mutex_unlock(&runner->lock);
        if (refill)
            store_queue(runner->store, &refill->op);
    }
}

static void rewrite(struct runner *runner)
{
    struct ops ops = {0};
    pthread_mutex_lock(&runner->lock);
    report_rewrites_locked(runner, clock_mono_us(), &ops);
    pthread_mutex_unlock(&runner->lock);
    ops_queue(runner->store, &ops);
}

static void act(struct runner *runner, int timer)
{
    switch (timer) {
    case TIMER_CALLBACKS: deliver_due(runner); return; /* the same */
    case TIMER_FLUSH: flush(runner); break;
    case TIMER_REFILL: refill_all(runner); break;
    case TIMER_REWRITE: rewrite(runner); break;
    case TIMER_SHORTAGE: shortage_try(runner); break;
    case TIMER_SPARE: threads_try_spare(runner); break;
    case TIMER_LEASES: leases_expire(runner); break;
    case TIMER_WAITS: waits_expire(runner); break;
    case UPKEEP_SCHEDULE: schedules_act(runner); return;
    default: begin_upkeep(runner, (enum upkeep)timer); return; /* done when it is committed */
    }
    pthread_mutex_lock(&runner->lock);
    timers_done(&runner->timers, timer);
    pthread_mutex_unlock(&runner->lock);
}

/* --- the thread ------------------------------------------------------------------------ */

static int timeout_ms(int64_t next_us, int64_t now_us)
{
    if (next_us == INT64_MAX)
        return -1;
    int64_t ms = (next_us - now_us + 999) / 1000;
    return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

/* What was put off by the old time, because it had failed, may be due by the new one. */
static void clock_was_set(struct runner *runner)
{
    log_info("the clock was set");
    pthread_mutex_lock(&runner->lock);
    for (int i = 0; i < UPKEEPS; i++)
        dispatcher_set_locked(runner, i, 0);
    pthread_mutex_unlock(&runner->lock);
}

static void set_alarm(struct runner *runner, int64_t wall_ms)
{
    struct itimerspec at = {0};
    if (wall_ms != INT64_MAX)
        at.it_value = (struct timespec){wall_ms / 1000, wall_ms % 1000 * 1000000};
    if (wall_ms <= 0)
        at.it_value = (struct timespec){0, 1}; /* zeros would disarm it */
    if (timerfd_settime(runner->clock_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at, NULL) == 0)
        return;
    if (errno == ECANCELED) /* it was set since the last look; the timer is armed all the same */
        clock_was_set(runner);
    else
        log_error("the timer of due times", LOG_STR("error", strerror(errno)));
}

static void sleep_until(struct runner *runner, int64_t wall_ms, int64_t mono_us)
{
    uint64_t count;
    struct pollfd fds[] = {{.fd = runner->wake_fd, .events = POLLIN}, {.fd = runner->clock_fd, .events = POLLIN}};
    set_alarm(runner, wall_ms);
    if (poll(fds, 2, timeout_ms(mono_us, clock_mono_us())) < 0 && errno != EINTR)
        log_error("poll", LOG_STR("error", strerror(errno)));
    if (read(runner->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        log_error("read", LOG_STR("error", strerror(errno)));
    if (read(runner->clock_fd, &count, sizeof count) < 0 && errno == ECANCELED)
        clock_was_set(runner);
}

/* By how much the wall clock is ahead of the monotonic one. */
static int64_t clock_lead_ms(void)
{
    return clock_now_ms() - clock_mono_us() / 1000;
}

/* A clock that only drifts is not set. (The kernel says so too, but not when it is asleep.) */
static void look_at_clock(struct runner *runner, int64_t *lead_ms)
{
    int64_t now_ms = clock_lead_ms();
    if (llabs(now_ms - *lead_ms) < CLOCK_STEP_MS)
        return;
    *lead_ms = now_ms;
    schedules_clock_was_set(runner);
}

static void *dispatcher_main(void *arg)
{
    struct runner *runner = arg;
    int64_t lead_ms = clock_lead_ms();
    for (;;) {
        int64_t wall_ms, mono_us;
        look_at_clock(runner, &lead_ms);
        pthread_mutex_lock(&runner->lock);
        bool ended = runner->ended;
        int due = ended ? TIMER_NEVER : timers_take(&runner->timers, clock_now_ms(), clock_mono_us());
        timers_next(&runner->timers, &wall_ms, &mono_us);
        pthread_mutex_unlock(&runner->lock);
        if (ended)
            return NULL;
        if (due != TIMER_NEVER)
            act(runner, due);
        else
            sleep_until(runner, wall_ms, mono_us);
    }
}

enum err dispatcher_start(struct runner *runner, struct reason *why)
{
    runner->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    runner->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    int code = runner->wake_fd < 0 || runner->clock_fd < 0
                   ? errno
                   : pthread_create(&runner->dispatcher, NULL, dispatcher_main, runner);
    if (code != 0) {
        reason_set(why, "no thread for the dispatcher: %s", strerror(code));
        return ERR_IO;
    }
    pthread_setname_np(runner->dispatcher, "dispatcher");
    runner->dispatcher_started = true;
    return OK;
}

void dispatcher_end(struct runner *runner)
{
    if (runner->dispatcher_started) {
        wake(runner);
        pthread_join(runner->dispatcher, NULL);
    }
    if (runner->wake_fd >= 0)
        close(runner->wake_fd);
    if (runner->clock_fd >= 0)
        close(runner->clock_fd);
}
