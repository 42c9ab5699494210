/* Days as numbers: the proleptic Gregorian calendar, which repeats every 400 years.
 *
 * Pure. Threads: no shared state. */
#pragma once

#include <stdint.h>

#define DAY_S INT64_C(86400)
#define CALENDAR_CYCLE_DAYS INT64_C(146097)

struct date {
    int64_t year;
    int month, day; /* from 1 */
};

/* Days since 1970-01-01. */
int64_t calendar_day(int64_t year, int month, int day);
struct date calendar_date(int64_t day);

/* 0 is Sunday. */
int calendar_weekday(int64_t day);

int calendar_days_in(int64_t year, int month);

/* Rounds down where `/` rounds to zero. */
static inline int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}
