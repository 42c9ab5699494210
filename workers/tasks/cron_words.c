/* An expression as words, for lists and pages. */
#include "workers/tasks/cron.h"

#include <stdio.h>

enum { CLOCK_TIMES_MAX = 6 };

static const char *const weekday_words[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                            "Thursday", "Friday", "Saturday"};
static const char *const month_words[] = {"",     "January", "February",  "March",   "April",    "May",     "June",
                                          "July", "August",  "September", "October", "November", "December"};

/* How one number of a set is said. */
struct word {
    char text[48];
};
typedef struct word (*word_of)(int number);

static struct word number_word(int number)
{
    struct word word;
    snprintf(word.text, sizeof word.text, "%d", number);
    return word;
}

static struct word weekday_word(int number)
{
    struct word word;
    snprintf(word.text, sizeof word.text, "%s", weekday_words[number]);
    return word;
}

static struct word month_word(int number)
{
    struct word word;
    snprintf(word.text, sizeof word.text, "%s", month_words[number]);
    return word;
}

static struct word day_word(int number)
{
    const char *ending = number / 10 == 1   ? "th"
                         : number % 10 == 1 ? "st"
                         : number % 10 == 2 ? "nd"
                         : number % 10 == 3 ? "rd"
                                            : "th";
    struct word word;
    snprintf(word.text, sizeof word.text, "the %d%s", number, ending);
    return word;
}

/* --- lists ---------------------------------------------------------------------- */

/* "A", "A and B", "A, B or C": each item says itself after what comes before it. */
struct list {
    struct buf *out;
    const char *lead, *last; /* before the first; before the last of several */
    int left, said;
};

static void list_add(struct list *list, const char *text)
{
    const char *before = !list->said ? list->lead : list->left == 1 ? list->last : ", ";
    buf_adds(list->out, before);
    buf_adds(list->out, text);
    list->said++;
    list->left--;
}

static int run_from(uint64_t set, int first)
{
    int last = first;
    while (last < 63 && set >> (last + 1) & 1)
        last++;
    return last;
}

/* Ranges of three and more are said as such; how many items that makes. */
static int count_runs(uint64_t set)
{
    int count = 0;
    for (int i = 0; i < 64; i++)
        if (set >> i & 1) {
            int last = run_from(set, i);
            count += last - i >= 2 ? 1 : last - i + 1;
            i = last;
        }
    return count;
}

static void add_runs(struct list *list, uint64_t set, word_of word)
{
    for (int i = 0; i < 64; i++) {
        if (!(set >> i & 1))
            continue;
        int last = run_from(set, i);
        if (last - i >= 2) {
            char text[2 * sizeof(struct word) + 16];
            snprintf(text, sizeof text, "%s through %s", word(i).text, word(last).text);
            list_add(list, text);
            i = last;
        } else {
            list_add(list, word(i).text);
        }
    }
}

static void add_set(struct buf *out, const char *lead, uint64_t set, word_of word)
{
    struct list list = {out, lead, " and ", count_runs(set), 0};
    add_runs(&list, set, word);
}

/* --- the time of day ---------------------------------------------------------------- */

static bool is_every_hour(const struct cron *cron)
{
    return cron->hours == (1u << 24) - 1;
}

static void add_hours(struct buf *out, const struct cron *cron)
{
    int first = __builtin_ctz(cron->hours), last = run_from(cron->hours, first);
    if (is_every_hour(cron))
        return;
    if (cron->hour_step > 1 && 24 % cron->hour_step == 0)
        buf_addf(out, " of every %d%s hour", cron->hour_step,
                 cron->hour_step == 2   ? "nd"
                 : cron->hour_step == 3 ? "rd"
                                        : "th");
    else if (cron->hours >> first == (UINT64_C(1) << (last - first + 1)) - 1)
        buf_addf(out, " from %02d:00 to %02d:59", first, last);
    else
        add_set(out, __builtin_popcount(cron->hours) > 1 ? " of the hours " : " of the hour ", cron->hours,
                number_word);
}

static void add_clock_times(struct buf *out, const struct cron *cron, int count)
{
    struct list list = {out, "at ", " and ", count, 0};
    for (int hour = 0; hour < 24; hour++)
        for (int minute = 0; minute < 60; minute++)
            if (cron->hours >> hour & 1 && cron->minutes >> minute & 1) {
                char text[32];
                snprintf(text, sizeof text, "%02d:%02d", hour, minute);
                list_add(&list, text);
            }
}

static void add_minutes(struct buf *out, const struct cron *cron)
{
    int count = __builtin_popcountll(cron->minutes), first = __builtin_ctzll(cron->minutes);
    bool all = count == 60, steps = cron->minute_step > 1 && 60 % cron->minute_step == 0 && count > 1;
    if (all)
        buf_adds(out, "every minute");
    else if (steps)
        buf_addf(out, "every %d minutes", cron->minute_step);
    else if (count == 1 && first == 0 && is_every_hour(cron))
        buf_adds(out, "every hour");
    else if (count == 1 && is_every_hour(cron))
        buf_addf(out, "every hour at minute %d", first);
    else
        add_set(out, count > 1 ? "at minutes " : "at minute ", cron->minutes, number_word);
    if (!all && !steps && count > 1 && is_every_hour(cron))
        buf_adds(out, " of every hour");
}

static void add_time(struct buf *out, const struct cron *cron)
{
    int count = __builtin_popcountll(cron->minutes) * __builtin_popcount(cron->hours);
    if (cron->hour_step > 1 && 24 % cron->hour_step == 0 && cron->minutes == 1) {
        buf_addf(out, "every %d hours", cron->hour_step);
        return;
    }
    if (count <= CLOCK_TIMES_MAX && cron->hour_step == 0) {
        add_clock_times(out, cron, count);
        return;
    }
    add_minutes(out, cron);
    add_hours(out, cron);
}

/* --- days and months -------------------------------------------------------------------- */

static int count_days(const struct cron *cron)
{
    return count_runs(cron->days) + __builtin_popcount(cron->days_before_last) +
           __builtin_popcount(cron->nearest) + cron->last_workday;
}

static void add_days(struct list *list, const struct cron *cron)
{
    char text[96];
    add_runs(list, cron->days, day_word);
    for (int i = 1; i < 32; i++)
        if (cron->nearest >> i & 1) {
            snprintf(text, sizeof text, "the weekday nearest %s", day_word(i).text);
            list_add(list, text);
        }
    for (int i = 31; i >= 0; i--)
        if (cron->days_before_last >> i & 1) {
            snprintf(text, sizeof text, "%d %s before the last of the month", i, i == 1 ? "day" : "days");
            list_add(list, i ? text : "the last day of the month");
        }
    if (cron->last_workday)
        list_add(list, "the last weekday of the month");
}

static int count_weekdays(const struct cron *cron)
{
    int count = count_runs(cron->weekdays) + __builtin_popcount(cron->last_weekdays);
    for (int n = 0; n < 5; n++)
        count += __builtin_popcount(cron->nth_weekdays[n]);
    return count;
}

static void add_weekdays(struct list *list, const struct cron *cron)
{
    static const char *const nth[] = {"first", "second", "third", "fourth", "fifth", "last"};
    add_runs(list, cron->weekdays, weekday_word);
    for (int n = 0; n < 6; n++)
        for (int i = 0; i < 7; i++)
            if ((n < 5 ? cron->nth_weekdays[n] : cron->last_weekdays) >> i & 1) {
                char text[64];
                snprintf(text, sizeof text, "the %s %s of the month", nth[n], weekday_words[i]);
                list_add(list, text);
            }
}

void cron_add_words(struct buf *out, const struct cron *cron)
{
    struct list list = {out, " on ", " and ", 0, 0};
    add_time(out, cron);
    if (!cron->any_day && !cron->any_weekday)
        list.last = " or "; /* either matches */
    list.left = (cron->any_day ? 0 : count_days(cron)) + (cron->any_weekday ? 0 : count_weekdays(cron));
    if (!cron->any_day)
        add_days(&list, cron);
    if (!cron->any_weekday)
        add_weekdays(&list, cron);
    if (cron->months != 0x1ffe)
        add_set(out, " in ", cron->months, month_word);
}
