#include "base/clock.h"
#include <criterion/criterion.h>
#include <stdlib.h>

static char *time_text(int64_t at_ms)
{
    struct buf b = {0};
    time_add(&b, at_ms);
    return buf_take(&b);
}

static char *duration_text(int64_t ms)
{
    struct buf b = {0};
    duration_add(&b, ms);
    return buf_take(&b);
}

Test(clock, time_passes)
{
    int64_t before_ms = clock_now_ms();
    int64_t before_us = clock_mono_us();
    cr_expect(before_ms > INT64_C(1577836800000));
    cr_expect(clock_mono_us() >= before_us);
    cr_expect(clock_now_ms() - before_ms < 60000);
}

Test(time, is_written_and_read_back)
{
    static const struct row {
        int64_t at_ms;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {1767323045678, "2026-01-02T03:04:05.678Z"},
        {4107542399999, "2100-02-28T23:59:59.999Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
        {-62167219200000, "0000-01-01T00:00:00.000Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = time_text(rows[i].at_ms);
        cr_expect_str_eq(text, rows[i].text);
        free(text);
        int64_t at_ms = 1;
        cr_expect(time_parse(span_of(rows[i].text), &at_ms), "%s", rows[i].text);
        cr_expect_eq(at_ms, rows[i].at_ms, "%s", rows[i].text);
    }
}

Test(time, outside_the_calendar_is_clamped)
{
    char *low = time_text(INT64_MIN);
    char *high = time_text(INT64_MAX);
    cr_expect_str_eq(low, "0000-01-01T00:00:00.000Z");
    cr_expect_str_eq(high, "9999-12-31T23:59:59.999Z");
    free(low);
    free(high);
}

Test(time, every_day_of_eight_centuries_survives)
{
    for (int64_t day = -150000; day < 150000; day++) {
        char *text = time_text(day * 86400000 + 1);
        int64_t back = 0;
        cr_assert(time_parse(span_of(text), &back), "%s", text);
        cr_assert_eq(back, day * 86400000 + 1, "%s", text);
        free(text);
    }
}

Test(time, other_ways_to_write_it_are_read)
{
    static const struct row {
        const char *name, *text;
        int64_t at_ms;
    } rows[] = {
        {"no fraction", "1970-01-01T00:00:01Z", 1000},
        {"one digit", "1970-01-01T00:00:00.5Z", 500},
        {"nine digits are cut", "1970-01-01T00:00:00.123999999Z", 123},
        {"forty digits are cut", "1970-01-01T00:00:00.1239999999999999999999999999999999999999Z", 123},
        {"lower case", "1970-01-01t00:00:00z", 0},
        {"an offset to the east", "1970-01-01T02:30:00+02:30", 0},
        {"an offset to the west", "1969-12-31T16:00:00.250-08:00", 250},
        {"an unknown local offset", "1970-01-01T00:00:00-00:00", 0},
        {"the farthest offset", "1970-01-01T23:59:00+23:59", 0},
        {"a leap second", "1990-12-31T23:59:60Z", 662688000000},
        {"a leap second's fraction", "1990-12-31T23:59:60.500Z", 662688000500},
        {"a leap second in the west", "1990-12-31T15:59:60-08:00", 662688000000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t at_ms = -1;
        cr_expect(time_parse(span_of(rows[i].text), &at_ms), "%s", rows[i].name);
        cr_expect_eq(at_ms, rows[i].at_ms, "%s", rows[i].name);
    }
}

Test(time, what_is_not_rfc_3339_is_refused)
{
    static const char *const rows[] = {
        "",
        "now",
        "0",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01 00:00:00Z",
        "1970-01-01T00:00Z",
        "1970-1-1T00:00:00Z",
        "1970-00-01T00:00:00Z",
        "1970-13-01T00:00:00Z",
        "1970-01-00T00:00:00Z",
        "1970-01-32T00:00:00Z",
        "1970-04-31T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:61Z",
        "1970-01-01T12:00:60Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00,5Z",
        "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+01:60",
        "1970-01-01T00:00:00+0100",
        "1970-01-01T00:00:00+01",
        "1970-01-01T00:00:00Zz",
        "1970-01-01T00:00:00Z ",
        " 1970-01-01T00:00:00Z",
        "+1970-01-01T00:00:00Z",
        "19700-01-01T00:00:00Z",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t at_ms;
        cr_expect_not(time_parse(span_of(rows[i]), &at_ms), "%s", rows[i]);
    }
}

Test(duration, is_read_with_its_units)
{
    static const struct row {
        const char *text;
        int64_t ms; /* -1: refused */
    } rows[] = {
        {"0s", 0},
        {"250ms", 250},
        {"1.5s", 1500},
        {"0.25s", 250},
        {"1h30m", 5400000},
        {"90m", 5400000},
        {"7d", 604800000},
        {"1w", 604800000},
        {"1w2d3h4m5s6ms", 788645006},
        {"1m500ms", 60500},
        {"1.5h1.5m", 5490000},
        {"0.0001s", 1},
        {"0.00000000000001w", 1},
        {"0.0s", 0},
        {"1.5ms", 1},
        {"0.4ms", -1},
        {"0.0ms", -1},
        {"1s0.4ms", -1},
        {"0.999999999999999999999s", 999},
        {"000001s", 1000},
        {"36500d", DURATION_MAX_MS},
        {"3153600000000ms", DURATION_MAX_MS},
        {"36500d1ms", -1},
        {"36500.5d", -1},
        {"36501d", -1},
        {"5215w", -1},
        {"3153600000001ms", -1},
        {"99999999999999999999s", -1},
        {"", -1},
        {"0", -1},
        {"30", -1},
        {"s", -1},
        {".5s", -1},
        {"1.s", -1},
        {"1..5s", -1},
        {"-1s", -1},
        {"+1s", -1},
        {"1 s", -1},
        {" 1s", -1},
        {"1s ", -1},
        {"1S", -1},
        {"1sec", -1},
        {"1y", -1},
        {"1m1h", -1},
        {"1s1s", -1},
        {"1ms1s", -1},
        {"1h30", -1},
        {"1e3s", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t ms = -1;
        cr_expect_eq(duration_parse(span_of(rows[i].text), &ms), rows[i].ms >= 0, "%s", rows[i].text);
        cr_expect_eq(ms, rows[i].ms, "%s", rows[i].text);
    }
}

Test(duration, that_is_too_long_is_one_all_the_same)
{
    static const char *const rows[] = {"36500d1ms", "36501d", "5215w", "99999999999999999999s", "3153600000001ms"};
    int64_t ms;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(duration_read(span_of(rows[i]), &ms), ERR_LIMIT, "%s", rows[i]);
    cr_expect_eq(duration_read(SPAN("99999999999999999999"), &ms), ERR_INVALID);
    cr_expect_eq(duration_read(SPAN("1s99999999999999999999d"), &ms), ERR_INVALID);
}

Test(duration, is_written_so_that_it_reads_back)
{
    static const struct row {
        int64_t ms;
        const char *text;
    } rows[] = {
        {0, "0s"},
        {1, "1ms"},
        {250, "250ms"},
        {1000, "1s"},
        {1500, "1.5s"},
        {1050, "1.05s"},
        {59999, "59.999s"},
        {60000, "1m"},
        {60001, "1m1ms"},
        {5400000, "1h30m"},
        {86400000, "1d"},
        {604800000, "7d"},
        {788645006, "9d3h4m5.006s"},
        {DURATION_MAX_MS, "36500d"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = duration_text(rows[i].ms);
        int64_t back = -1;
        cr_expect_str_eq(text, rows[i].text);
        cr_expect(duration_parse(span_of(text), &back), "%s", text);
        cr_expect_eq(back, rows[i].ms, "%s", text);
        free(text);
    }
}
