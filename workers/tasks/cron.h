/* When a schedule is due: five fields, in the time of a zone.
 *
 *     minute hour day-of-month month day-of-week
 *
 * A field is a list of `*` or `?`, N, N-M, each with a step (`/S`); N/S is from N to the end. Months and
 * weekdays have names (JAN, MON), 7 is Sunday. Of the days, `L` is the month's last, `L-3` three days
 * before it, `LW` its last from Monday to Friday, `15W` the one of those nearest the 15th; `5L` is the
 * last Friday, `5#2` the second. If both days are restricted, either matches. @hourly, @daily, @midnight,
 * @weekly, @monthly, @yearly and @annually are what they say.
 *
 * Daylight saving: a time that the clock skips is due at the first moment after the gap or not at all; one
 * that comes twice, at the first, at the last or at both. Hours given as `*` or `*`/N follow real time: each
 * minute that matches is due, as often as it comes.
 *
 * Pure: nothing asks the clock. Threads: no shared state. */
#pragma once

#include "workers/tasks/zone.h"

enum { CRON_TEXT_MAX = 500 };

/* A set of numbers is a mask: bit N is N. */
struct cron {
    uint64_t minutes;
    uint32_t hours, days;
    uint32_t months, weekdays;
    bool real_time;             /* all of the hours are `*` or have a step from there */
    bool any_day, any_weekday;  /* not restricted */
    uint32_t days_before_last;  /* L, L-N */
    uint32_t nearest;           /* NW */
    bool last_workday;          /* LW */
    uint32_t last_weekdays;     /* NL */
    uint32_t nth_weekdays[5];   /* N#1 to N#5 */
    int minute_step, hour_step; /* of a field that is a single step over all; else 0: for the words */
};

/* ERR_INVALID: it is no such expression, or comes never; `why` says which. */
MUST_USE enum err cron_parse(struct span text, struct cron *out, struct reason *why);

/* All zeros is the default. */
struct cron_dst {
    enum cron_gap { CRON_GAP_SHIFT, CRON_GAP_SKIP } gap;
    enum cron_fold { CRON_FOLD_FIRST, CRON_FOLD_LAST, CRON_FOLD_BOTH } fold;
};

/* When a schedule is due. Borrowed. */
struct cron_clock {
    const struct cron *cron;
    const struct zone *zone;
    struct cron_dst dst;
};

/* The first time after `after_ms`. False: none comes within 400 years. */
bool cron_next(const struct cron_clock *clock, int64_t after_ms, int64_t *next_ms);

/* The last times, `max` at most, after `after_ms` and until `until_ms`, in order; how many. *more: there are
 * earlier ones. */
int cron_last(const struct cron_clock *clock, int64_t after_ms, int64_t until_ms, int64_t *times, int max,
              bool *more);

/* Appends it as words: "at 02:30 on Monday", "every 15 minutes". */
void cron_add_words(struct buf *out, const struct cron *cron);
