#include "workers/schedule_plan.h"

#define DAY_MS INT64_C(86400000)

static bool is_on_time(int64_t due, int64_t now, int64_t since)
{
    return due >= since && now - due <= ON_TIME_MS;
}

/* How many of those that were due are made: the last of them. */
static int wanted(enum catch_up catch_up, int64_t last, int count, int64_t now, int64_t since)
{
    switch (catch_up) {
    case CATCH_UP_ALL: return count;
    case CATCH_UP_ONE: return 1;
    case CATCH_UP_NONE: return is_on_time(last, now, since);
    }
    return 0;
}

void schedule_plan(const struct schedule_definition *definition, int64_t until, int64_t now, int64_t since,
                   struct schedule_plan *out)
{
    struct cron_clock clock = schedule_clock(definition);
    if (until > now + DAY_MS)
        until = now;
    bool more;
    out->count = cron_last(&clock, until, now, out->times, SCHEDULE_TIMES_MAX, &more);
    out->left_before = more ? out->times[0] : 0;
    int keep = out->count ? wanted(definition->catch_up, out->times[out->count - 1], out->count, now, since) : 0;
    out->left_out = out->count - keep;
    memmove(out->times, out->times + out->left_out, (size_t)keep * sizeof *out->times);
    out->count = keep;
    out->until = now > until ? now : until;
    if (!cron_next(&clock, out->until, &out->next_at))
        out->next_at = 0;
}
