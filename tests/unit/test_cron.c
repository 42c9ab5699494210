#include "base/clock.h"
#include "tests/unit/zones.h"
#include "workers/tasks/cron.h"

#include <criterion/criterion.h>

static int64_t at(const char *text)
{
    int64_t ms;
    cr_assert(time_parse(span_of(text), &ms), "%s", text);
    return ms;
}

static const char *shown(int64_t ms, struct buf *out)
{
    out->len = 0;
    time_add(out, ms);
    return buf_cstr(out);
}

struct row {
    const char *cron, *zone;
    struct cron_dst dst;
    const char *after;
    const char *times[5];
};

static void expect_row(const struct row *row)
{
    struct cron cron;
    struct reason why = {""};
    struct zone *zone = row->zone ? zone_for_tests(row->zone) : zone_utc();
    cr_assert_eq(cron_parse(span_of(row->cron), &cron, &why), OK, "%s: %s", row->cron, why.text);
    struct cron_clock clock = {&cron, zone, row->dst};
    int64_t now = at(row->after);
    for (int i = 0; i < 5 && row->times[i]; i++) {
        struct buf was = {0}, is = {0};
        cr_assert(cron_next(&clock, now, &now), "%s: nothing comes", row->cron);
        cr_assert_eq(now, at(row->times[i]), "%s in %s after %s: %s, not %s", row->cron, row->zone, row->after,
                     shown(now, &is), shown(at(row->times[i]), &was));
        buf_release(&was);
        buf_release(&is);
    }
    zone_free(zone);
}

#define EXPECT_ROWS(rows)                                   \
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) \
    expect_row(&rows[i])

Test(cron, the_next_time_is_the_first_that_matches)
{
    static const struct row rows[] = {
        {"* * * * *", .after = "2026-01-01T00:00:00Z", .times = {"2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"}},
        {"* * * * *", .after = "2026-01-01T00:00:59.999Z", .times = {"2026-01-01T00:01:00Z"}},
        {"* * * * *", .after = "1969-12-31T23:58:30.5Z",
         .times = {"1969-12-31T23:59:00Z", "1970-01-01T00:00:00Z"}},
        {"*/15 * * * *", .after = "2026-01-01T00:44:00Z",
         .times = {"2026-01-01T00:45:00Z", "2026-01-01T01:00:00Z"}},
        {"5/20 * * * *", .after = "2026-01-01T00:00:00Z",
         .times = {"2026-01-01T00:05:00Z", "2026-01-01T00:25:00Z", "2026-01-01T00:45:00Z",
                   "2026-01-01T01:05:00Z"}},
        {"30 2 * * *", .after = "2026-01-01T02:30:00Z", .times = {"2026-01-02T02:30:00Z"}},
        {"0 9-17/4 * * 1-5", .after = "2026-11-20T14:00:00Z",
         .times = {"2026-11-20T17:00:00Z", "2026-11-23T09:00:00Z", "2026-11-23T13:00:00Z"}},
        {"0 0 29 2 *", .after = "2026-01-01T00:00:00Z", .times = {"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
        {"0 0 29 2 *", .after = "2096-03-01T00:00:00Z", .times = {"2104-02-29T00:00:00Z"}},
        {"0 0 1 jan ?", .after = "2026-01-01T00:00:00Z", .times = {"2027-01-01T00:00:00Z"}},
        {"0 0 ? * 7", .after = "2026-11-22T00:00:00Z", .times = {"2026-11-29T00:00:00Z"}},
        {"0 0 * * SAT-SUN", .after = "2026-11-22T00:00:00Z",
         .times = {"2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"}},
        {"0 0 13 * FRI", .after = "2026-11-22T00:00:00Z", /* either */
         .times = {"2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z",
                   "2026-12-13T00:00:00Z"}},
        {"0 0 */10 * *", .after = "2026-11-22T00:00:00Z",
         .times = {"2026-12-01T00:00:00Z", "2026-12-11T00:00:00Z"}},
        {"0 0 L * *", .after = "2028-01-31T00:00:00Z", .times = {"2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"}},
        {"0 0 L-2,1 * *", .after = "2026-02-01T00:00:00Z",
         .times = {"2026-02-26T00:00:00Z", "2026-03-01T00:00:00Z"}},
        {"0 0 LW * *", .after = "2026-01-01T00:00:00Z", /* 30 January, 27 February, 31 March, 30 April, 29 May */
         .times = {"2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z",
                   "2026-05-29T00:00:00Z"}},
        {"0 0 1W * *", .after = "2026-01-31T00:00:00Z", /* the first is a Sunday, a Sunday, a Wednesday */
         .times = {"2026-02-02T00:00:00Z", "2026-03-02T00:00:00Z", "2026-04-01T00:00:00Z"}},
        {"0 0 31W 5 *", .after = "2026-01-01T00:00:00Z", .times = {"2026-05-29T00:00:00Z"}},
        {"0 0 * * 5L", .after = "2026-11-01T00:00:00Z", .times = {"2026-11-27T00:00:00Z", "2026-12-25T00:00:00Z"}},
        {"0 0 * * MON#2", .after = "2026-11-01T00:00:00Z",
         .times = {"2026-11-09T00:00:00Z", "2026-12-14T00:00:00Z"}},
        {"0 0 * * 0#5", .after = "2026-11-01T00:00:00Z",
         .times = {"2026-11-29T00:00:00Z", "2027-01-31T00:00:00Z"}},
        {" \t0  0 *\t* *  ", .after = "2026-11-01T00:00:00Z", .times = {"2026-11-02T00:00:00Z"}},
        {"@hourly", .after = "2026-11-01T00:00:00Z", .times = {"2026-11-01T01:00:00Z"}},
        {"@daily", .after = "2026-11-01T00:00:00Z", .times = {"2026-11-02T00:00:00Z"}},
        {"@midnight", .after = "2026-11-01T00:00:00Z", .times = {"2026-11-02T00:00:00Z"}},
        {"@Weekly", .after = "2026-11-01T00:00:00Z", .times = {"2026-11-08T00:00:00Z"}},
        {"@monthly", .after = "2026-11-01T00:00:00Z", .times = {"2026-12-01T00:00:00Z"}},
        {"@yearly", .after = "2026-11-01T00:00:00Z", .times = {"2027-01-01T00:00:00Z"}},
        {"@annually", .after = "2026-11-01T00:00:00Z", .times = {"2027-01-01T00:00:00Z"}},
    };
    EXPECT_ROWS(rows);
}

Test(cron, daylight_saving_is_a_choice)
{
    static const struct cron_dst shift = {0}, skip = {.gap = CRON_GAP_SKIP}, last = {.fold = CRON_FOLD_LAST},
                                 both = {.fold = CRON_FOLD_BOTH};
    static const struct row rows[] = {
        /* Berlin skips 02:00 to 03:00 on 29 March 2026, at 01:00 UTC. */
        {"30 2 * * *",
         "Europe/Berlin",
         shift,
         "2026-03-28T12:00:00Z",
         {"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
        {"30 2 * * *", "Europe/Berlin", shift, "2026-03-29T00:59:59.999Z", {"2026-03-29T01:00:00Z"}},
        {"30 2 * * *", "Europe/Berlin", shift, "2026-03-29T01:00:00Z", {"2026-03-30T00:30:00Z"}},
        {"30 2 * * *", "Europe/Berlin", skip, "2026-03-28T12:00:00Z", {"2026-03-30T00:30:00Z"}},
        {"*/20 2,3 * * *",
         "Europe/Berlin",
         shift,
         "2026-03-29T00:00:00Z", /* once at its end */
         {"2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z", "2026-03-29T01:40:00Z", "2026-03-30T00:00:00Z"}},
        {"*/20 2,4 * * *",
         "Europe/Berlin",
         shift,
         "2026-03-29T00:00:00Z",
         {"2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T02:20:00Z"}},
        {"30 * * * *",
         "Europe/Berlin",
         shift,
         "2026-03-29T00:00:00Z",
         {"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"}},
        {"0 */2 * * *",
         "Europe/Berlin",
         shift,
         "2026-03-28T22:00:00Z", /* the wall never shows 02:00 */
         {"2026-03-28T23:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T04:00:00Z"}},
        /* From 03:00 back to 02:00 on 25 October 2026, at 01:00 UTC. */
        {"30 2 * * *",
         "Europe/Berlin",
         shift,
         "2026-10-24T12:00:00Z",
         {"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
        {"30 2 * * *", "Europe/Berlin", shift, "2026-10-25T00:30:00Z", {"2026-10-26T01:30:00Z"}},
        {"30 2 * * *",
         "Europe/Berlin",
         last,
         "2026-10-24T12:00:00Z",
         {"2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"}},
        {"30 2 * * *",
         "Europe/Berlin",
         both,
         "2026-10-24T12:00:00Z",
         {"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"}},
        {"0 1-3 * * *",
         "Europe/Berlin",
         last,
         "2026-10-24T12:00:00Z",
         {"2026-10-24T23:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"}},
        {"0 * * * *",
         "Europe/Berlin",
         shift,
         "2026-10-24T23:30:00Z", /* real time: both */
         {"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"}},
        {"15 */2 * * *",
         "Europe/Berlin",
         shift,
         "2026-10-24T23:30:00Z",
         {"2026-10-25T00:15:00Z", "2026-10-25T01:15:00Z", "2026-10-25T03:15:00Z"}},
        /* Half an hour, westwards of the date line, midnight, and a day that never was. */
        {"15 2 * * *",
         "Australia/Lord_Howe",
         shift,
         "2026-10-03T00:00:00Z",
         {"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"}},
        {"45 1 * * *",
         "Australia/Lord_Howe",
         both,
         "2026-04-04T00:00:00Z",
         {"2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-05T15:15:00Z"}},
        {"30 1 * * *",
         "America/New_York",
         shift,
         "2026-11-01T00:00:00Z",
         {"2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"}},
        {"0 0 * * *",
         "America/Sao_Paulo",
         shift,
         "2018-11-03T12:00:00Z",
         {"2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}},
        {"0 12 * * *",
         "Pacific/Apia",
         shift,
         "2011-12-29T12:00:00Z",
         {"2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"}},
        {"0 12 * * *",
         "Pacific/Apia",
         skip,
         "2011-12-29T12:00:00Z",
         {"2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z"}},
        /* Long after the last change in the file. */
        {"30 2 * * *",
         "Europe/Berlin",
         shift,
         "2999-03-30T12:00:00Z",
         {"2999-03-31T01:00:00Z", "2999-04-01T00:30:00Z"}},
    };
    EXPECT_ROWS(rows);
}

Test(cron, what_cannot_be_is_refused_with_a_reason)
{
    static const struct {
        const char *cron, *why;
    } rows[] = {
        {"", "has 0 fields and must have 5: minute, hour, day of the month, month, day of the week"},
        {"* * * *", "has 4 fields and must have 5: minute, hour, day of the month, month, day of the week"},
        {"0 0 0 * * *", "has 6 fields and must have 5: minute, hour, day of the month, month, day of the week"},
        {"60 * * * *", "minute: `60` is out of its range"},
        {"* 24 * * *", "hour: `24` is out of its range"},
        {"* * 0 * *", "day of the month: `0` is out of its range"},
        {"* * * 13 *", "month: `13` is out of its range"},
        {"* * * * 8", "day of the week: `8` is out of its range"},
        {"* * * * MO", "day of the week: `MO` has neither a number nor a name where one must be"},
        {"* * * * MONDAY", "day of the week: `MONDAY` has something that cannot stand there"},
        {"a * * * *", "minute: `a` has no number where one must be"},
        {"1, * * * *", "minute: `1,` has no number where one must be"},
        {"99999999999999999999 * * * *", "minute: `99999999999999999999` has no number where one must be"},
        {"-1 * * * *", "minute: `-1` has no number where one must be"},
        {"1.5 * * * *", "minute: `1.5` has something that cannot stand there"},
        {"*/0 * * * *", "minute: `*/0` has no step of 1 or more after the slash"},
        {"*/ * * * *", "minute: `*/` has no step of 1 or more after the slash"},
        {"*/90 * * * *", "minute: `*/90` has a step that is longer than all there is"},
        {"* 22-2 * * *", "hour: `22-2` goes backwards: write it as two ranges"},
        {"* * * * L", "day of the week: `L` has an `L` without a weekday before it"},
        {"* * L-0 * *", "day of the month: `L-0` has no number from 1 to 30 after `L-`"},
        {"* * * * 5#6", "day of the week: `5#6` has no number from 1 to 5 after `#`"},
        {"* * 5L * *", "day of the month: `5L` has something that cannot stand there"},
        {"* 5W * * *", "hour: `5W` has something that cannot stand there"},
        {"0 0 30 2 *", "never comes: no month has such a day"},
        {"0 0 31 4,6,9,11 *", "never comes: no month has such a day"},
        {"0 0 L-30 2 *", "never comes: no month has such a day"},
        {"@reboot", "`@reboot` is none of @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually"},
        {"@every 5m",
         "`@every 5m` is none of @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cron cron;
        struct reason why = {""};
        cr_expect_eq(cron_parse(span_of(rows[i].cron), &cron, &why), ERR_INVALID, "%s", rows[i].cron);
        cr_expect_str_eq(why.text, rows[i].why, "%s: %s", rows[i].cron, why.text);
    }
    char text[CRON_TEXT_MAX + 2];
    struct cron cron;
    struct reason why;
    memset(text, '*', sizeof text);
    cr_expect_eq(cron_parse((struct span){text, sizeof text}, &cron, &why), ERR_INVALID);
}

Test(cron, a_time_that_every_summer_skips_never_comes)
{
    struct cron cron;
    struct reason why;
    struct zone *zone = zone_for_tests("Europe/Berlin");
    cr_assert_eq(cron_parse(SPAN("30 2 * 3 7L"), &cron, &why), OK);
    struct cron_clock clock = {&cron, zone, {.gap = CRON_GAP_SKIP}};
    int64_t next;
    cr_expect_not(cron_next(&clock, at("2026-01-01T00:00:00Z"), &next));
    clock.dst.gap = CRON_GAP_SHIFT;
    cr_expect(cron_next(&clock, at("2026-01-01T00:00:00Z"), &next));
    cr_expect_not(cron_next(&clock, at("9999-12-31T23:59:00Z"), &next));
    cr_expect_not(cron_next(&clock, INT64_MAX, &next));
    cr_expect(cron_next(&clock, INT64_MIN, &next));
    zone_free(zone);
}

Test(cron, the_last_times_are_found_however_long_ago_the_first_was)
{
    static const struct {
        const char *cron, *after, *until, *first, *last;
        int max, count;
        bool more;
    } rows[] = {
        {"0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T03:30:00Z", "2026-01-01T01:00:00Z",
         "2026-01-01T03:00:00Z", 10, 3, false},
        {"0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z", "2026-01-01T02:00:00Z",
         "2026-01-01T03:00:00Z", 2, 2, true},
        {"0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z", "2026-01-01T01:00:00Z",
         "2026-01-01T03:00:00Z", 3, 3, false},
        {"* * * * *", "1970-01-01T00:00:00Z", "2026-01-01T03:00:00Z", "2025-12-31T10:21:00Z",
         "2026-01-01T03:00:00Z", 1000, 1000, true},
        {"* * * 1 *", "1970-01-01T00:00:00Z", "2026-06-01T00:00:00Z", "2026-01-31T07:20:00Z",
         "2026-01-31T23:59:00Z", 1000, 1000, true},
        {"0 0 29 2 *", "1970-01-01T00:00:00Z", "2026-06-01T00:00:00Z", "1972-02-29T00:00:00Z",
         "2024-02-29T00:00:00Z", 1000, 14, false},
        {"0 0 29 2 *", "2026-06-01T00:00:00Z", "2026-06-01T00:00:00Z", NULL, NULL, 1000, 0, false},
        {"0 0 29 2 *", "2026-07-01T00:00:00Z", "2026-06-01T00:00:00Z", NULL, NULL, 1000, 0, false},
    };
    struct zone *utc = zone_utc();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cron cron;
        struct reason why;
        int64_t times[1000];
        bool more;
        cr_assert_eq(cron_parse(span_of(rows[i].cron), &cron, &why), OK);
        struct cron_clock clock = {&cron, utc, {0}};
        int count = cron_last(&clock, at(rows[i].after), at(rows[i].until), times, rows[i].max, &more);
        cr_assert_eq(count, rows[i].count, "row %zu: %d", i, count);
        cr_expect_eq(more, rows[i].more, "row %zu", i);
        if (count) {
            cr_expect_eq(times[0], at(rows[i].first), "row %zu", i);
            cr_expect_eq(times[count - 1], at(rows[i].last), "row %zu", i);
        }
        for (int k = 1; k < count; k++)
            cr_assert_lt(times[k - 1], times[k], "row %zu", i);
    }
    zone_free(utc);
}

Test(cron, an_expression_has_words)
{
    static const struct {
        const char *cron, *words;
    } rows[] = {
        {"* * * * *", "every minute"},
        {"*/15 * * * *", "every 15 minutes"},
        {"0 * * * *", "every hour"},
        {"5 * * * *", "every hour at minute 5"},
        {"5,35 * * * *", "at minutes 5 and 35 of every hour"},
        {"*/7 * * * *", "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"},
        {"0 */2 * * *", "every 2 hours"},
        {"5 */2 * * *", "at minute 5 of every 2nd hour"},
        {"30 2 * * 1", "at 02:30 on Monday"},
        {"0 9,12,18 * * MON-FRI", "at 09:00, 12:00 and 18:00 on Monday through Friday"},
        {"*/10 9-17 * * 1-5", "every 10 minutes from 09:00 to 17:59 on Monday through Friday"},
        {"*/10 9,17 * * *", "every 10 minutes of the hours 9 and 17"},
        {"@daily", "at 00:00"},
        {"@monthly", "at 00:00 on the 1st"},
        {"@yearly", "at 00:00 on the 1st in January"},
        {"0 0 2,3,11-13,22 * *", "at 00:00 on the 2nd, the 3rd, the 11th through the 13th and the 22nd"},
        {"0 0 L * *", "at 00:00 on the last day of the month"},
        {"0 0 L-1,L-3 * *",
         "at 00:00 on 3 days before the last of the month and 1 day before the last of the month"},
        {"0 0 LW * *", "at 00:00 on the last weekday of the month"},
        {"0 0 15W * *", "at 00:00 on the weekday nearest the 15th"},
        {"0 0 * * 5L", "at 00:00 on the last Friday of the month"},
        {"0 0 * * 5#2", "at 00:00 on the second Friday of the month"},
        {"0 0 13 * 5", "at 00:00 on the 13th or Friday"},
        {"0 0 * 3-5,12 *", "at 00:00 in March through May and December"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cron cron;
        struct reason why;
        struct buf words = {0};
        cr_assert_eq(cron_parse(span_of(rows[i].cron), &cron, &why), OK, "%s: %s", rows[i].cron, why.text);
        cron_add_words(&words, &cron);
        cr_expect_str_eq(buf_cstr(&words), rows[i].words, "%s: %s", rows[i].cron, buf_cstr(&words));
        buf_release(&words);
    }
}
