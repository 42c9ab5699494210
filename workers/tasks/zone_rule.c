#include "workers/tasks/zone_rule.h"

#include "workers/tasks/calendar.h"

struct cursor {
    const char *p, *end;
};

static bool at(const struct cursor *in, char c)
{
    return in->p < in->end && *in->p == c;
}

static bool take(struct cursor *in, char c)
{
    if (!at(in, c))
        return false;
    in->p++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool read_number(struct cursor *in, int max, int *out)
{
    const char *first = in->p;
    for (*out = 0; in->p < in->end && is_digit(*in->p) && *out <= max; in->p++)
        *out = *out * 10 + (*in->p - '0');
    return in->p > first && *out <= max;
}

/* Letters, or <anything but that>. */
static bool skip_name(struct cursor *in)
{
    bool quoted = take(in, '<');
    const char *first = in->p;
    while (in->p < in->end && (is_letter(*in->p) || (quoted && (is_digit(*in->p) || at(in, '+') || at(in, '-')))))
        in->p++;
    return in->p - first >= 3 && (!quoted || take(in, '>'));
}

/* [+-]hh[:mm[:ss]] */
static bool read_clock(struct cursor *in, int max_hours, int *seconds)
{
    int hours, minutes = 0, rest = 0;
    bool minus = take(in, '-');
    if (!minus)
        take(in, '+');
    if (!read_number(in, max_hours, &hours))
        return false;
    if (take(in, ':')) {
        if (!read_number(in, 59, &minutes))
            return false;
        if (take(in, ':') && !read_number(in, 59, &rest))
            return false;
    }
    *seconds = (hours * 60 + minutes) * 60 + rest;
    if (minus)
        *seconds = -*seconds;
    return true;
}

static bool read_offset(struct cursor *in, int *east)
{
    int west;
    if (!read_clock(in, 24, &west))
        return false;
    *east = -west;
    return true;
}

static bool read_day(struct cursor *in, struct zone_rule_day *out)
{
    bool good;
    *out = (struct zone_rule_day){.by = RULE_OF_YEAR, .time = 2 * 3600};
    if (take(in, 'M')) {
        out->by = RULE_OF_MONTH;
        good = read_number(in, 12, &out->month) && out->month >= 1 && take(in, '.') &&
               read_number(in, 5, &out->week) && out->week >= 1 && take(in, '.') && read_number(in, 6, &out->day);
    } else if (take(in, 'J')) {
        out->by = RULE_JULIAN;
        good = read_number(in, 365, &out->day) && out->day >= 1;
    } else {
        good = read_number(in, 365, &out->day);
    }
    return good && (!take(in, '/') || read_clock(in, 167, &out->time));
}

bool zone_rule_read(struct span text, struct zone_rule *out)
{
    struct cursor in = {text.p, text.p + text.len};
    *out = (struct zone_rule){0};
    if (!skip_name(&in) || !read_offset(&in, &out->standard))
        return false;
    out->summer = out->standard + 3600;
    if (in.p == in.end)
        return true;
    out->has_summer = true;
    if (!skip_name(&in))
        return false;
    if (!at(&in, ',') && !read_offset(&in, &out->summer))
        return false;
    return take(&in, ',') && read_day(&in, &out->begins) && take(&in, ',') && read_day(&in, &out->ends) &&
           in.p == in.end;
}

static int64_t of_month(const struct zone_rule_day *day, int64_t year)
{
    int64_t first = calendar_day(year, day->month, 1);
    int at_first = calendar_weekday(first);
    int n = 1 + (day->day - at_first + 7) % 7 + 7 * (day->week - 1);
    while (n > calendar_days_in(year, day->month))
        n -= 7;
    return first + n - 1;
}

static int64_t on_the_wall(const struct zone_rule_day *day, int64_t year)
{
    int64_t first = calendar_day(year, 1, 1), days = first + day->day;
    if (day->by == RULE_OF_MONTH)
        days = of_month(day, year);
    else if (day->by == RULE_JULIAN)
        days = first + day->day - 1 + (day->day >= 60 && calendar_days_in(year, 2) == 29);
    return days * DAY_S + day->time;
}

int64_t zone_rule_begins(const struct zone_rule *rule, int64_t year)
{
    return on_the_wall(&rule->begins, year) - rule->standard;
}

int64_t zone_rule_ends(const struct zone_rule *rule, int64_t year)
{
    return on_the_wall(&rule->ends, year) - rule->summer;
}
