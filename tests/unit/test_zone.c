#include "workers/tasks/calendar.h"
#include "workers/tasks/zone.h"
#include "workers/tasks/zone_rule.h"

#include "tests/unit/zones.h"

#include <criterion/criterion.h>

Test(calendar, a_day_is_its_date_and_back)
{
    for (int64_t day = -800000; day < 3000000; day += 13) {
        struct date date = calendar_date(day);
        cr_assert_eq(calendar_day(date.year, date.month, date.day), day);
        cr_assert(date.month >= 1 && date.month <= 12 && date.day >= 1 &&
                  date.day <= calendar_days_in(date.year, date.month));
    }
    cr_assert_eq(calendar_day(1970, 1, 1), 0);
    cr_assert_eq(calendar_day(2000, 2, 29), 11016);
    cr_assert_eq(calendar_weekday(calendar_day(2026, 11, 22)), 0);
}

Test(zone, names_that_lead_elsewhere_are_refused)
{
    static const struct {
        const char *name;
        bool good;
    } rows[] = {
        {"UTC", true},
        {"Europe/Berlin", true},
        {"America/Argentina/Buenos_Aires", true},
        {"Etc/GMT+5", true},
        {"Etc/GMT-14", true},
        {"", false},
        {".", false},
        {"..", false},
        {"../shadow", false},
        {"Europe/../../../etc/passwd", false},
        {"/etc/passwd", false},
        {"Europe/", false},
        {"Europe//Berlin", false},
        {"Europe\\Berlin", false},
        {"zone.tab", false},
        {"Europe/Berlin ", false},
        {"Europe/K\xc3\xb6ln", false},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(zone_name_is_good(span_of(rows[i].name)), rows[i].good, "%s", rows[i].name);
    cr_expect_not(zone_name_is_good((struct span){"a\0b", 3}));
    cr_expect_not(zone_name_is_good((struct span){0}));
}

Test(zone, a_rule_says_when_summer_is)
{
    static const struct {
        const char *rule;
        int64_t year, begins, ends;
        int standard, summer;
    } rows[] = {
        {"CET-1CEST,M3.5.0,M10.5.0/3", 2026, 1774746000, 1792890000, 3600, 7200},
        {"EST5EDT,M3.2.0,M11.1.0", 2026, 1772953200, 1793512800, -18000, -14400},
        {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 2026, 1774746000, 1792890000, -7200, -3600},
        {"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 2026, 1791041400, 1775314800, 37800, 39600},
        {"IST-2IDT,M3.4.4/26,M10.5.0", 2026, 1774569600, 1792882800, 7200, 10800},
        {"AAA0BBB,J60,J61", 2024, 1709258400, 1709341200, 0, 3600}, /* the first of March, leap year or not */
        {"AAA0BBB,59,60", 2024, 1709172000, 1709254800, 0, 3600},   /* the 29th of February */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct zone_rule rule;
        cr_assert(zone_rule_read(span_of(rows[i].rule), &rule), "%s", rows[i].rule);
        cr_expect_eq(rule.standard, rows[i].standard, "%s: %d", rows[i].rule, rule.standard);
        cr_expect_eq(rule.summer, rows[i].summer, "%s: %d", rows[i].rule, rule.summer);
        cr_expect_eq(zone_rule_begins(&rule, rows[i].year), rows[i].begins, "%s: %lld", rows[i].rule,
                     (long long)zone_rule_begins(&rule, rows[i].year));
        cr_expect_eq(zone_rule_ends(&rule, rows[i].year), rows[i].ends, "%s: %lld", rows[i].rule,
                     (long long)zone_rule_ends(&rule, rows[i].year));
    }
}

Test(zone, what_is_no_rule_is_refused)
{
    static const char *const rows[] = {
        "",
        "CET",
        "CE-1",
        "CET-1CEST",
        "CET-1CEST,M3.5.0",
        "CET-1CEST,M13.5.0,M10.5.0",
        "CET-1CEST,M3.6.0,M10.5.0",
        "CET-1CEST,M3.5.7,M10.5.0",
        "CET-1CEST,M3.5.0/168,M10.5.0",
        "CET-1CEST,J0,J365",
        "CET-1CEST,J366,J365",
        "CET-1CEST,366,365",
        "CET-25",
        "CET-1:60",
        "<CET-1",
        "CET-1 ",
        "CET-99999999999999999999",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct zone_rule rule;
        cr_expect_not(zone_rule_read(span_of(rows[i]), &rule), "%s", rows[i]);
    }
}

Test(zone, offsets_are_those_of_the_file_and_of_its_rule_for_ever)
{
    static const struct {
        const char *zone;
        int64_t at;
        int offset;
    } rows[] = {
        {"Europe/Berlin", 1774745999, 3600}, /* 2026-03-29, the second before summer */
        {"Europe/Berlin", 1774746000, 7200}, /* and its first */
        {"Europe/Berlin", 1792889999, 7200}, /* 2026-10-25 */
        {"Europe/Berlin", 1792890000, 3600},
        {"Europe/Berlin", 4119300000, 7200},   /* July 2100 */
        {"Europe/Berlin", 32503000000, 3600},  /* December 2999 */
        {"Europe/Berlin", 32482764000, 7200},  /* July 2999 */
        {"Europe/Berlin", 253386000000, 7200}, /* July 9999 */
        {"America/New_York", 1772953199, -18000},
        {"America/New_York", 1772953200, -14400},
        {"Australia/Lord_Howe", 1775314799, 39600}, /* summer is half an hour there */
        {"Australia/Lord_Howe", 1775314800, 37800},
        {"Pacific/Apia", 1325239199, -36000}, /* the day before the one that was skipped */
        {"Pacific/Apia", 1325239200, 50400},
        {"Asia/Kolkata", 1775314800, 19800},
        {"UTC", 1775314800, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct zone *zone = zone_for_tests(rows[i].zone);
        struct zone_stretch s = zone_at(zone, rows[i].at);
        cr_expect_eq(s.offset, rows[i].offset, "%s at %lld: %d", rows[i].zone, (long long)rows[i].at, s.offset);
        cr_expect(s.from <= rows[i].at && rows[i].at < s.to);
        cr_expect(s.from == INT64_MIN || zone_at(zone, s.from - 1).offset == s.before);
        cr_expect(s.to == INT64_MAX || zone_at(zone, s.to).offset == s.after);
        zone_free(zone);
    }
}

Test(zone, malformed_files_are_refused)
{
    char data[ZONE_FILE_MAX];
    struct span file = zone_file_for_tests("Europe/Berlin", data);
    struct zone *zone;
    struct reason why;
    for (size_t len = 0; len < file.len; len++) { /* cut anywhere */
        char *part = malloc(len + 1);             /* so that a sanitizer sees its end */
        memcpy(part, file.p, len);
        cr_assert_eq(zone_read((struct span){part, len}, &zone, &why), ERR_INVALID, "%zu bytes", len);
        cr_assert(why.text[0]);
        free(part);
    }
    data[0] = 'X';
    cr_expect_eq(zone_read(file, &zone, &why), ERR_INVALID);
    file = zone_file_for_tests("right/Europe/Berlin", data);
    if (file.p) {
        cr_expect_eq(zone_read(file, &zone, &why), ERR_INVALID);
        cr_expect_str_eq(why.text, "it counts leap seconds");
    }
}
