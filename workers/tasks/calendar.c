#include "workers/tasks/calendar.h"

#include <stdbool.h>

enum { DAYS_BEFORE_1970 = 719468 }; /* from the first of March of the year 0 */

/* Years begin in March here, so that the leap day is their last. */
int64_t calendar_day(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t cycle = floor_div(y, 400), of_cycle = y - cycle * 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return cycle * CALENDAR_CYCLE_DAYS + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year -
           DAYS_BEFORE_1970;
}

struct date calendar_date(int64_t day)
{
    int64_t cycle = floor_div(day + DAYS_BEFORE_1970, CALENDAR_CYCLE_DAYS);
    int64_t of_cycle = day + DAYS_BEFORE_1970 - cycle * CALENDAR_CYCLE_DAYS;
    int64_t year = (of_cycle - of_cycle / 1460 + of_cycle / 36524 - of_cycle / 146096) / 365;
    int64_t of_year = of_cycle - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;
    return (struct date){
        .year = cycle * 400 + year + (month >= 10),
        .month = (int)(month < 10 ? month + 3 : month - 9),
        .day = (int)(of_year - (153 * month + 2) / 5 + 1),
    };
}

int calendar_weekday(int64_t day)
{
    return (int)(day + 4 - floor_div(day + 4, 7) * 7); /* 1970-01-01 was a Thursday */
}

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int calendar_days_in(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}
