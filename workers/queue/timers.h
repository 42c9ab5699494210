/* What is due when: a few timers on two clocks.
 *
 * Times that stand in rows are on the wall clock; what only spaces things out
 * is on the monotonic one, which nobody sets. Pure: no clock, no lock. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { TIMERS_MAX = 32, TIMER_NEVER = -1 };

struct timers {
    int64_t at[TIMERS_MAX]; /* INT64_MAX: nothing is known to come */
    bool under_way[TIMERS_MAX];
    int count, wall; /* the first `wall` are on the wall clock, in ms; the others monotonic, in us */
};

/* All of them due at once. */
void timers_init(struct timers *timers, int count, int wall);

/* Due at `at`, unless it is sooner already. True if that is news. */
bool timers_set(struct timers *timers, int which, int64_t at);

/* The first that is due: it is under way, and not due again until timers_done()
 * (which may find it set meanwhile). TIMER_NEVER if none is. */
int timers_take(struct timers *timers, int64_t wall_ms, int64_t mono_us);
void timers_done(struct timers *timers, int which);

/* When the next one is due on each clock; INT64_MAX: none. */
void timers_next(const struct timers *timers, int64_t *wall_ms, int64_t *mono_us);
