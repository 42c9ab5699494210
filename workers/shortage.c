/* Shortages that pass: no more processes, descriptors or memory for a start.
 *
 * What could not begin is queued again and pays nothing. The slots that are free
 * then are held back, and what takes none, so that as many bodies run as there is room for, and what
 * ends makes room for the next. After a while all slots are tried again; if that
 * is in vain the next while is twice as long. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/log.h"

enum { FIRST_US = 100 * 1000, LONGEST_US = 5 * 1000 * 1000 };

void shortage_note_locked(struct runner *runner, struct span message)
{
    int64_t delay = runner->shortage_delay_us;
    if (!delay)
        log_warn("starts are held back until there is room for them", LOG_SPAN("reason", message));
    if (!runner->slots_held && !runner->starter.held) /* else it comes from a start that began before */
        delay = delay ? 2 * delay : FIRST_US;
    runner->shortage_delay_us = delay < LONGEST_US ? delay : LONGEST_US;
    runner->shortage_us = clock_mono_us();
    runner->slots_held = runner->slots_free;
    runner->starter.held = true;
    dispatcher_set_locked(runner, TIMER_SHORTAGE, runner->shortage_us + runner->shortage_delay_us);
}

/* Everything was tried, and for as long as it was held back nothing was missing. */
static bool is_over(const struct runner *runner, int64_t now_us)
{
    return !runner->slots_held && !runner->starter.held &&
           now_us >= runner->shortage_us + 2 * runner->shortage_delay_us;
}

void shortage_try(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    int64_t now_us = clock_mono_us();
    bool was_short = runner->shortage_delay_us > 0, over = was_short && is_over(runner, now_us);
    if (over) {
        runner->shortage_delay_us = 0;
    } else if (was_short) {
        runner->slots_held = 0;
        runner->starter.held = false;
        dispatcher_set_locked(runner, TIMER_SHORTAGE, now_us + runner->shortage_delay_us);
    }
    in_place_freed_locked(runner);
    threads_wake_locked(runner);
    pthread_mutex_unlock(&runner->lock);
    if (over)
        log_info("starts go on");
}

bool runner_is_short(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    bool is_short = runner->shortage_delay_us > 0;
    pthread_mutex_unlock(&runner->lock);
    return is_short;
}
