/* Finding the next time: stretch by stretch of the zone, in each by the calendar. */
#include "workers/tasks/cron.h"

#include "workers/tasks/calendar.h"
#include "workers/tasks/cron_days.h"

#include <stdlib.h>

enum { DAY_MINUTES = 1440, SUNDAY = 0, SATURDAY = 6 };

/* Beyond the year 9999 nothing is due. */
#define LAST_S INT64_C(253402300799)
#define FIRST_S INT64_C(-62167219200) /* nor before the year 0 */
#define SEARCH_S (CALENDAR_CYCLE_DAYS * DAY_S)

/* --- days --------------------------------------------------------------------- */

/* The one from Monday to Friday that is nearest to a day, within its month. */
static int workday_near(int day, int weekday, int days)
{
    if (weekday == SATURDAY)
        return day > 1 ? day - 1 : day + 2;
    if (weekday == SUNDAY)
        return day < days ? day + 1 : day - 2;
    return day;
}

static uint32_t by_month(const struct cron *cron, int first_weekday, int days)
{
    uint32_t mask = cron->days;
    for (int day = 1; day <= days; day++) {
        int weekday = (first_weekday + day - 1) % 7;
        if (cron->days_before_last & 1u << (days - day))
            mask |= 1u << day;
        if (cron->nearest & 1u << day)
            mask |= 1u << workday_near(day, weekday, days);
        if (cron->last_workday && day == days)
            mask |= 1u << (weekday == SATURDAY ? day - 1 : weekday == SUNDAY ? day - 2 : day);
    }
    return mask;
}

static uint32_t by_week(const struct cron *cron, int first_weekday, int days)
{
    uint32_t mask = 0;
    for (int day = 1; day <= days; day++) {
        uint32_t weekday = 1u << (first_weekday + day - 1) % 7;
        uint32_t wanted = cron->weekdays | cron->nth_weekdays[(day - 1) / 7];
        if (day + 7 > days)
            wanted |= cron->last_weekdays;
        if (wanted & weekday)
            mask |= 1u << day;
    }
    return mask;
}

uint32_t cron_days_of(const struct cron *cron, int64_t year, int month)
{
    if (!(cron->months & 1u << month))
        return 0;
    int days = calendar_days_in(year, month);
    int first_weekday = calendar_weekday(calendar_day(year, month, 1));
    uint32_t all = (uint32_t)((UINT64_C(1) << (days + 1)) - 2), mask = all;
    if (!cron->any_day && !cron->any_weekday)
        mask = by_month(cron, first_weekday, days) | by_week(cron, first_weekday, days);
    else if (!cron->any_day)
        mask = by_month(cron, first_weekday, days);
    else if (!cron->any_weekday)
        mask = by_week(cron, first_weekday, days);
    return mask & all;
}

/* --- on the wall ----------------------------------------------------------------- */

/* The first minute of a day that matches, from that one on; -1: none is left. */
static int minute_from(const struct cron *cron, int minute)
{
    int hour = minute / 60;
    uint64_t left = cron->minutes >> minute % 60;
    if (cron->hours & 1u << hour && left)
        return minute + __builtin_ctzll(left);
    uint32_t hours = hour < 23 ? cron->hours >> (hour + 1) : 0;
    return hours ? (hour + 1 + __builtin_ctz(hours)) * 60 + __builtin_ctzll(cron->minutes) : -1;
}

/* The first day that matches, from that one on; beyond `last`: there is none. */
static int64_t day_from(const struct cron *cron, int64_t day, int64_t last)
{
    struct date date = calendar_date(day);
    while (day <= last) {
        uint32_t days = cron_days_of(cron, date.year, date.month) >> date.day;
        if (days)
            return day + __builtin_ctz(days);
        date.year += date.month == 12;
        date.month = date.month % 12 + 1;
        date.day = 1;
        day = calendar_day(date.year, date.month, 1);
    }
    return day;
}

/* The first minute on the wall within [from, to) that matches. */
static bool next_on_wall(const struct cron *cron, int64_t from, int64_t to, int64_t *out)
{
    int64_t minute = floor_div(from + 59, 60);
    int64_t today = floor_div(minute, DAY_MINUTES), last = floor_div(to - 1, DAY_S);
    if (from >= to)
        return false;
    int64_t day = day_from(cron, today, last);
    int at = minute_from(cron, day == today ? (int)(minute - today * DAY_MINUTES) : 0);
    if (at < 0) {
        day = day_from(cron, day + 1, last);
        at = minute_from(cron, 0);
    }
    *out = day * DAY_S + at * 60;
    return day <= last && *out < to;
}

/* --- in a zone ------------------------------------------------------------------- */

/* The first time within a stretch, from that one on. */
static bool next_in(const struct cron_clock *clock, const struct zone_stretch *s, int64_t from, int64_t end,
                    int64_t *out)
{
    int64_t low = from + s->offset, high = (s->to < end ? s->to : end) + s->offset;
    if (!clock->cron->real_time) {
        /* What the clock skipped before it is due as it begins. */
        if (from == s->from && s->offset > s->before && clock->dst.gap == CRON_GAP_SHIFT &&
            next_on_wall(clock->cron, from + s->before, from + s->offset, out)) {
            *out = from;
            return true;
        }
        if (s->from != INT64_MIN && s->offset < s->before && clock->dst.fold == CRON_FOLD_FIRST)
            low = low > s->from + s->before ? low : s->from + s->before;
        if (s->to < end && s->after < s->offset && clock->dst.fold == CRON_FOLD_LAST)
            high = s->to + s->after;
    }
    if (!next_on_wall(clock->cron, low, high, out))
        return false;
    *out -= s->offset;
    return true;
}

bool cron_next(const struct cron_clock *clock, int64_t after_ms, int64_t *next_ms)
{
    int64_t from = floor_div(after_ms, 1000) + 1, at;
    from = from < FIRST_S ? FIRST_S : from;
    int64_t end = from + SEARCH_S < LAST_S ? from + SEARCH_S : LAST_S;
    while (from < end) {
        struct zone_stretch stretch = zone_at(clock->zone, from);
        if (next_in(clock, &stretch, from, end, &at)) {
            *next_ms = at * 1000;
            return true;
        }
        from = stretch.to;
    }
    return false;
}

/* --- the last ones ------------------------------------------------------------------ */

/* Those after `after_ms`, the last `max` of them in a ring; how many there are. */
static int64_t count_between(const struct cron_clock *clock, int64_t after_ms, int64_t until_ms, int64_t *ring,
                             int max)
{
    int64_t count = 0, at = after_ms;
    while (cron_next(clock, at, &at) && at <= until_ms)
        ring[count++ % max] = at;
    return count;
}

static void reverse(int64_t *items, int count)
{
    for (int i = 0; i < count / 2; i++) {
        int64_t item = items[i];
        items[i] = items[count - 1 - i];
        items[count - 1 - i] = item;
    }
}

/* Looks back twice as far each time, so that a long while costs little. */
int cron_last(const struct cron_clock *clock, int64_t after_ms, int64_t until_ms, int64_t *times, int max,
              bool *more)
{
    int64_t back = INT64_C(60000) * (max + 1), count;
    *more = false;
    if (after_ms >= until_ms || max < 1)
        return 0;
    for (;; back *= 2) {
        bool whole = until_ms - after_ms <= back;
        count = count_between(clock, whole ? after_ms : until_ms - back, until_ms, times, max);
        if (whole || count > max)
            break;
    }
    *more = count > max;
    if (!*more)
        return (int)count;
    int turn = (int)(count % max); /* the ring begins there */
    reverse(times, turn);
    reverse(times + turn, max - turn);
    reverse(times, max);
    return max;
}
