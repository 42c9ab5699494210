#include "workers/queue/timers.h"

void timers_init(struct timers *timers, int count, int wall)
{
    *timers = (struct timers){.count = count, .wall = wall};
}

bool timers_set(struct timers *timers, int which, int64_t at)
{
    if (at >= timers->at[which])
        return false;
    timers->at[which] = at;
    return true;
}

int timers_take(struct timers *timers, int64_t wall_ms, int64_t mono_us)
{
    for (int i = 0; i < timers->count; i++) {
        if (timers->under_way[i] || timers->at[i] > (i < timers->wall ? wall_ms : mono_us))
            continue;
        timers->at[i] = INT64_MAX;
        timers->under_way[i] = true;
        return i;
    }
    return TIMER_NEVER;
}

void timers_done(struct timers *timers, int which)
{
    timers->under_way[which] = false;
}

void timers_next(const struct timers *timers, int64_t *wall_ms, int64_t *mono_us)
{
    *wall_ms = *mono_us = INT64_MAX;
    for (int i = 0; i < timers->count; i++) {
        int64_t *next = i < timers->wall ? wall_ms : mono_us;
        if (!timers->under_way[i] && timers->at[i] < *next)
            *next = timers->at[i];
    }
}
