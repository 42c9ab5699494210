#include "base/clock.h"

#include <time.h>

enum { SECOND_MS = 1000, MINUTE_MS = 60 * SECOND_MS, HOUR_MS = 60 * MINUTE_MS, DAY_MS = 24 * HOUR_MS };

#define TIME_MIN_MS (INT64_C(-719528) * DAY_MS)     /* 0000-01-01T00:00:00.000Z */
#define TIME_MAX_MS (INT64_C(2932897) * DAY_MS - 1) /* 9999-12-31T23:59:59.999Z */

int64_t clock_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_mono_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_boot_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The proleptic Gregorian calendar, in years that begin in March so that the
 * leap day is the last one, and in eras of 400 years, which are all alike. */
enum { ERA_DAYS = 146097, MARCH_0000_TO_1970 = 719468 };

static int64_t days_from_date(int year, int month, int day)
{
    if (month <= 2)
        year--;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int year_of_era = (int)(year - era * 400);
    int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * ERA_DAYS + day_of_era - MARCH_0000_TO_1970;
}

static void date_from_days(int64_t days, int *year, int *month, int *day)
{
    days += MARCH_0000_TO_1970;
    int64_t era = (days >= 0 ? days : days - (ERA_DAYS - 1)) / ERA_DAYS;
    int day_of_era = (int)(days - era * ERA_DAYS);
    int year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int march_month = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * march_month + 2) / 5 + 1;
    *month = march_month < 10 ? march_month + 3 : march_month - 9;
    *year = (int)(year_of_era + era * 400) + (*month <= 2);
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

static char *put_digits(char *p, int value, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        p[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return p + width;
}

void time_add(struct buf *out, int64_t at_ms)
{
    if (at_ms < TIME_MIN_MS)
        at_ms = TIME_MIN_MS;
    if (at_ms > TIME_MAX_MS)
        at_ms = TIME_MAX_MS;
    int64_t days = at_ms / DAY_MS;
    int rest = (int)(at_ms % DAY_MS);
    if (rest < 0) {
        days--;
        rest += DAY_MS;
    }
    int year, month, day;
    date_from_days(days, &year, &month, &day);

    char text[24];
    char *p = put_digits(text, year, 4);
    *p++ = '-';
    p = put_digits(p, month, 2);
    *p++ = '-';
    p = put_digits(p, day, 2);
    *p++ = 'T';
    p = put_digits(p, rest / HOUR_MS, 2);
    *p++ = ':';
    p = put_digits(p, rest / MINUTE_MS % 60, 2);
    *p++ = ':';
    p = put_digits(p, rest / SECOND_MS % 60, 2);
    *p++ = '.';
    p = put_digits(p, rest % SECOND_MS, 3);
    *p = 'Z';
    buf_add(out, text, sizeof text);
}

/* What is left to read. */
struct cursor {
    const char *p;
    const char *end;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool at_digit(const struct cursor *c)
{
    return c->p < c->end && is_digit(*c->p);
}

static bool take(struct cursor *c, char wanted)
{
    if (c->p == c->end || *c->p != wanted)
        return false;
    c->p++;
    return true;
}

/* Exactly `width` digits with a value of min..max. */
static bool take_field(struct cursor *c, int width, int min, int max, int *value)
{
    *value = 0;
    for (int i = 0; i < width; i++) {
        if (!at_digit(c))
            return false;
        *value = *value * 10 + (*c->p++ - '0');
    }
    return *value >= min && *value <= max;
}

/* One digit or more; what is smaller than `scale` can hold is cut. `scale` is
 * the value of 1. */
static bool take_fraction(struct cursor *c, int64_t scale, int64_t *value)
{
    *value = 0;
    if (!at_digit(c))
        return false;
    for (; at_digit(c); c->p++) {
        scale /= 10;
        *value += scale * (*c->p - '0');
    }
    return true;
}

static bool take_offset(struct cursor *c, int64_t *offset_ms)
{
    *offset_ms = 0;
    if (take(c, 'Z') || take(c, 'z'))
        return true;
    int sign = take(c, '+') ? 1 : take(c, '-') ? -1 : 0;
    int hours, minutes;
    if (!sign || !take_field(c, 2, 0, 23, &hours) || !take(c, ':') || !take_field(c, 2, 0, 59, &minutes))
        return false;
    *offset_ms = sign * ((int64_t)hours * HOUR_MS + (int64_t)minutes * MINUTE_MS);
    return true;
}

bool time_parse(struct span text, int64_t *at_ms)
{
    struct cursor c = {text.p, text.p + text.len};
    int year, month, day, hour, minute, second;
    if (!take_field(&c, 4, 0, 9999, &year) || !take(&c, '-') || !take_field(&c, 2, 1, 12, &month) ||
        !take(&c, '-') || !take_field(&c, 2, 1, days_in_month(year, month), &day))
        return false;
    if (!take(&c, 'T') && !take(&c, 't'))
        return false;
    if (!take_field(&c, 2, 0, 23, &hour) || !take(&c, ':') || !take_field(&c, 2, 0, 59, &minute) ||
        !take(&c, ':') || !take_field(&c, 2, 0, 60, &second))
        return false;
    int64_t fraction_ms = 0;
    if (take(&c, '.') && !take_fraction(&c, SECOND_MS, &fraction_ms))
        return false;
    int64_t offset_ms;
    if (!take_offset(&c, &offset_ms) || c.p != c.end)
        return false;

    int64_t whole_ms = days_from_date(year, month, day) * DAY_MS + (int64_t)hour * HOUR_MS +
                       (int64_t)minute * MINUTE_MS + (int64_t)second * SECOND_MS - offset_ms;
    bool midnight = whole_ms % DAY_MS == 0;
    if (second == 60 && !midnight)
        return false; /* leap seconds come before midnight, UTC */
    *at_ms = whole_ms + fraction_ms;
    return *at_ms >= TIME_MIN_MS && *at_ms <= TIME_MAX_MS;
}

/* From large to small, the order in which they are written. */
static const struct unit {
    const char *name;
    int64_t ms;
} units[] = {
    {"w", INT64_C(7) * DAY_MS}, {"d", DAY_MS}, {"h", HOUR_MS}, {"m", MINUTE_MS}, {"s", SECOND_MS}, {"ms", 1},
};
enum { UNITS = sizeof units / sizeof *units };

/* The index of the unit that is next, UNITS if it is none. */
static int take_unit(struct cursor *c)
{
    const char *start = c->p;
    while (c->p < c->end && !is_digit(*c->p))
        c->p++;
    struct span name = {start, (size_t)(c->p - start)};
    int unit = 0;
    while (unit < UNITS && !span_is(name, units[unit].name))
        unit++;
    return unit;
}

/* One number and its unit, as milliseconds; what is too long is DURATION_MAX_MS + 1.
 * False if it is none, or of a unit that is not smaller than the one before. */
static bool take_part(struct cursor *c, int *unit, int64_t *ms)
{
    const int64_t fraction_scale = INT64_C(1000000000);
    int64_t whole = 0, fraction = 0;
    if (!at_digit(c))
        return false;
    for (; at_digit(c); c->p++)
        whole = whole > DURATION_MAX_MS ? whole : whole * 10 + (*c->p - '0');
    bool has_fraction = take(c, '.');
    if (has_fraction && !take_fraction(c, fraction_scale, &fraction))
        return false;
    int previous = *unit;
    *unit = take_unit(c);
    if (*unit == UNITS || *unit <= previous || (has_fraction && !whole && units[*unit].ms == 1))
        return false;
    *ms = whole > DURATION_MAX_MS / units[*unit].ms
              ? DURATION_MAX_MS + 1
              : whole * units[*unit].ms + fraction * units[*unit].ms / fraction_scale;
    return true;
}

static bool is_zero(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.p[i] >= '1' && text.p[i] <= '9')
            return false;
    return true;
}

enum err duration_read(struct span text, int64_t *ms)
{
    struct cursor c = {text.p, text.p + text.len};
    int64_t total = 0, part;
    int unit = -1;
    do {
        if (!take_part(&c, &unit, &part))
            return ERR_INVALID;
        total += part;
    } while (c.p < c.end);
    if (total > DURATION_MAX_MS)
        return ERR_LIMIT;
    *ms = total == 0 && !is_zero(text) ? 1 : total;
    return OK;
}

bool duration_parse(struct span text, int64_t *ms)
{
    return duration_read(text, ms) == OK;
}

/* "1.5s": a second or more, less than a minute. */
static void add_seconds(struct buf *out, int64_t ms)
{
    buf_add_int(out, ms / SECOND_MS);
    if (ms % SECOND_MS) {
        char fraction[3];
        put_digits(fraction, (int)(ms % SECOND_MS), 3);
        size_t n = 3;
        while (fraction[n - 1] == '0')
            n--;
        buf_addc(out, '.');
        buf_add(out, fraction, n);
    }
    buf_addc(out, 's');
}

void duration_add(struct buf *out, int64_t ms)
{
    if (ms < 0) {
        buf_addc(out, '-');
        ms = ms == INT64_MIN ? INT64_MAX : -ms;
    }
    if (ms == 0) {
        buf_addl(out, "0s");
        return;
    }
    for (const struct unit *unit = units + 1; unit->ms > SECOND_MS; unit++) {
        if (ms < unit->ms)
            continue;
        buf_add_int(out, ms / unit->ms);
        buf_adds(out, unit->name);
        ms %= unit->ms;
    }
    if (ms >= SECOND_MS) {
        add_seconds(out, ms);
    } else if (ms) {
        buf_add_int(out, ms);
        buf_addl(out, "ms");
    }
}
