/* Reading an expression: five fields, each a list of items. */
#include "workers/tasks/cron_days.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

static const char *const month_names[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL",
                                          "AUG", "SEP", "OCT", "NOV", "DEC", NULL};
static const char *const weekday_names[] = {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", NULL};

/* What may stand in a field. */
static const struct kind {
    const char *name;
    int min, max;
    const char *const *names; /* of min and what follows it */
} kinds[] = {
    {"minute", 0, 59, NULL},
    {"hour", 0, 23, NULL},
    {"day of the month", 1, 31, NULL},
    {"month", 1, 12, month_names},
    {"day of the week", 0, 7, weekday_names},
};
enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };

/* Who names all of them restricts nothing. */
#define ALL_DAYS UINT64_C(0xfffffffe)
enum { ALL_WEEKDAYS = 0x7f };

/* A field, as far as it was read. */
struct field {
    const struct kind *kind;
    struct span text; /* for sentences */
    const char *p, *end;
    struct cron *cron;
    struct reason *why;
    uint64_t set;
    bool only_stars; /* all items were `*` or had a step from there */
    int items, step;
};

static bool refuse(struct field *f, const char *what)
{
    reason_set(f->why, "%s: `%.*s` %s", f->kind->name, (int)(f->text.len > 60 ? 60 : f->text.len), f->text.p,
               what);
    return false;
}

static bool take(struct field *f, char c)
{
    if (f->p == f->end || toupper((unsigned char)*f->p) != c)
        return false;
    f->p++;
    return true;
}

static bool at_item_end(const struct field *f)
{
    return f->p == f->end || *f->p == ',';
}

/* At most 9999: more digits are no number. */
static bool take_digits(struct field *f, int *out)
{
    const char *first = f->p;
    for (*out = 0; f->p < f->end && isdigit((unsigned char)*f->p) && f->p - first < 4; f->p++)
        *out = *out * 10 + (*f->p - '0');
    return f->p > first && !(f->p < f->end && isdigit((unsigned char)*f->p));
}

static bool take_name(struct field *f, int *out)
{
    for (int i = 0; f->kind->names && f->kind->names[i]; i++)
        if (f->end - f->p >= 3 && strncasecmp(f->p, f->kind->names[i], 3) == 0) {
            f->p += 3;
            *out = f->kind->min + i;
            return true;
        }
    return false;
}

static bool take_value(struct field *f, int *out)
{
    if (take_name(f, out))
        return true;
    if (!take_digits(f, out))
        return refuse(f, f->kind->names ? "has neither a number nor a name where one must be"
                                        : "has no number where one must be");
    return (*out >= f->kind->min && *out <= f->kind->max) || refuse(f, "is out of its range");
}

static bool add_range(struct field *f, int from, int to, int step)
{
    if (from > to)
        return refuse(f, "goes backwards: write it as two ranges");
    for (int i = from; i <= to; i += step)
        f->set |= UINT64_C(1) << (f->kind == &kinds[WEEKDAY] ? i % 7 : i);
    return true;
}

static int last_of(const struct field *f)
{
    return f->kind == &kinds[WEEKDAY] ? 6 : f->kind->max;
}

static bool take_step(struct field *f, int *step)
{
    if (!take_digits(f, step) || *step < 1)
        return refuse(f, "has no step of 1 or more after the slash");
    if (*step > last_of(f) - f->kind->min + 1)
        return refuse(f, "has a step that is longer than all there is");
    return true;
}

static bool read_star(struct field *f)
{
    int step = 1;
    bool stepped = take(f, '/');
    if (stepped && !take_step(f, &step))
        return false;
    f->step = step;
    return add_range(f, f->kind->min, last_of(f), step);
}

/* After `L` of a day of the month. */
static bool read_before_last(struct field *f)
{
    int days = 0;
    if (take(f, 'W')) {
        f->cron->last_workday = true;
        return true;
    }
    if (take(f, '-') && (!take_digits(f, &days) || days < 1 || days > 30))
        return refuse(f, "has no number from 1 to 30 after `L-`");
    f->cron->days_before_last |= 1u << days;
    return true;
}

/* After a number; *is: there was such a letter. */
static bool read_special(struct field *f, int value, bool *is)
{
    *is = true;
    if (f->kind == &kinds[DAY] && take(f, 'W')) {
        f->cron->nearest |= 1u << value;
        return true;
    }
    if (f->kind == &kinds[WEEKDAY] && take(f, 'L')) {
        f->cron->last_weekdays |= 1u << value % 7;
        return true;
    }
    if (f->kind == &kinds[WEEKDAY] && take(f, '#')) {
        int nth;
        if (!take_digits(f, &nth) || nth < 1 || nth > 5)
            return refuse(f, "has no number from 1 to 5 after `#`");
        f->cron->nth_weekdays[nth - 1] |= 1u << value % 7;
        return true;
    }
    *is = false;
    return true;
}

static bool read_numbers(struct field *f)
{
    int from, to, step = 1;
    bool special;
    if (!take_value(f, &from) || !read_special(f, from, &special))
        return false;
    if (special)
        return true;
    bool range = take(f, '-');
    to = from;
    if (range && !take_value(f, &to))
        return false;
    if (range && f->kind == &kinds[WEEKDAY] && to == 0 && from > 0)
        to = 7; /* up to Sunday */
    if (take(f, '/')) {
        if (!take_step(f, &step))
            return false;
        if (!range)
            to = f->kind->max;
    }
    return add_range(f, from, to, step);
}

static bool read_item(struct field *f)
{
    bool star = take(f, '*') || take(f, '?');
    f->only_stars &= star;
    f->items++;
    if (star)
        return read_star(f);
    if (f->kind == &kinds[DAY] && take(f, 'L'))
        return read_before_last(f);
    if (f->kind == &kinds[WEEKDAY] && f->p < f->end && toupper((unsigned char)*f->p) == 'L')
        return refuse(f, "has an `L` without a weekday before it");
    return read_numbers(f);
}

static bool read_field(struct field *f)
{
    f->only_stars = true;
    do {
        if (!read_item(f))
            return false;
        if (!at_item_end(f))
            return refuse(f, "has something that cannot stand there");
    } while (take(f, ','));
    f->step = f->items == 1 ? f->step : 0;
    return true;
}

static void keep_field(struct cron *cron, int which, const struct field *f)
{
    switch (which) {
    case MINUTE:
        cron->minutes = f->set;
        cron->minute_step = f->step;
        break;
    case HOUR:
        cron->hours = (uint32_t)f->set;
        cron->hour_step = f->step;
        cron->real_time = f->only_stars;
        break;
    case DAY:
        cron->days = (uint32_t)f->set;
        cron->any_day = f->set == ALL_DAYS;
        break;
    case MONTH: cron->months = (uint32_t)f->set; break;
    default: cron->weekdays = (uint32_t)f->set; cron->any_weekday = f->set == ALL_WEEKDAYS;
    }
}

/* Words between white space; how many, of which `max` are kept. */
static int split(struct span text, struct span *words, int max)
{
    int count = 0;
    for (size_t i = 0; i < text.len;) {
        size_t from = i;
        while (i < text.len && text.p[i] != ' ' && text.p[i] != '\t')
            i++;
        if (i > from && count++ < max)
            words[count - 1] = (struct span){text.p + from, i - from};
        i += i < text.len;
    }
    return count;
}

static bool expand_name(struct span *text, struct reason *why)
{
    static const struct {
        const char *name, *fields;
    } rows[] = {
        {"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
        {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"},
    };
    if (!text->len || text->p[0] != '@')
        return true;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (text->len == strlen(rows[i].name) && strncasecmp(text->p, rows[i].name, text->len) == 0) {
            *text = span_of(rows[i].fields);
            return true;
        }
    reason_set(why, "`%.*s` is none of @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually",
               (int)(text->len > 60 ? 60 : text->len), text->p);
    return false;
}

/* All that is possible comes within one cycle of the calendar. */
static bool comes(const struct cron *cron)
{
    for (int year = 2000; year < 2400; year++)
        for (int month = 1; month <= 12; month++)
            if (cron_days_of(cron, year, month))
                return true;
    return false;
}

enum err cron_parse(struct span text, struct cron *out, struct reason *why)
{
    struct span words[FIELDS];
    *out = (struct cron){0};
    if (text.len > CRON_TEXT_MAX) {
        reason_set(why, "longer than %d characters", CRON_TEXT_MAX);
        return ERR_INVALID;
    }
    if (!expand_name(&text, why))
        return ERR_INVALID;
    int count = split(text, words, FIELDS);
    if (count != FIELDS) {
        reason_set(why, "has %d fields and must have 5: minute, hour, day of the month, month, day of the week",
                   count);
        return ERR_INVALID;
    }
    for (int i = 0; i < FIELDS; i++) {
        struct field field = {.kind = &kinds[i],
                              .text = words[i],
                              .p = words[i].p,
                              .end = words[i].p + words[i].len,
                              .cron = out,
                              .why = why};
        if (!read_field(&field))
            return ERR_INVALID;
        keep_field(out, i, &field);
    }
    if (!comes(out)) {
        reason_set(why, "never comes: no month has such a day");
        return ERR_INVALID;
    }
    return OK;
}
