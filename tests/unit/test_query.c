#include "server/http/query.h"
#include "server/http/range.h"

#include <criterion/criterion.h>

Test(query, parameters_are_split_and_decoded)
{
    static const struct {
        const char *raw, *read; /* "name=value|" each; NULL: refused */
    } rows[] = {
        {"", ""},
        {"a=1", "a=1|"},
        {"a=1&b=2", "a=1|b=2|"},
        {"&&a=1&&", "a=1|"},
        {"a", "a=|"},
        {"a=", "a=|"},
        {"a=b=c", "a=b=c|"},
        {"a=%20x+y", "a= x y|"},
        {"%61=%C3%A4", "a=\xC3\xA4|"},
        {"a=%2526", "a=%26|"},
        {"a=%2b", "a=+|"},
        {"label.x=%26%3D", "label.x=&=|"},
        {"a=1&a=2", "a=1|a=2|"},
        {"=1", NULL},
        {"a=%", NULL},
        {"a=%4", NULL},
        {"a=%zz", NULL},
        {"a=%-1", NULL},
        {"a=%00", NULL},
        {"a=%FF", NULL},
        {"a=%ED%A0%80", NULL},
        {"%00=a", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct query_param params[QUERY_PARAMS_MAX];
        struct buf arena = {0}, read = {0};
        struct reason why = {""};
        int count;
        enum err err = query_parse(span_of(rows[i].raw), &arena, params, &count, &why);
        cr_expect_eq(err, rows[i].read ? OK : ERR_INVALID, "%s", rows[i].raw);
        for (int k = 0; err == OK && k < count; k++) {
            buf_add_span(&read, params[k].name);
            buf_addc(&read, '=');
            buf_add_span(&read, params[k].value);
            buf_addc(&read, '|');
        }
        if (rows[i].read)
            cr_expect_str_eq(buf_cstr(&read), rows[i].read, "%s", rows[i].raw);
        else
            cr_expect(why.text[0], "%s: no reason", rows[i].raw);
        buf_release(&arena);
        buf_release(&read);
    }
}

Test(query, more_parameters_than_fit_are_refused)
{
    struct query_param params[QUERY_PARAMS_MAX];
    struct buf raw = {0}, arena = {0};
    int count;
    for (int i = 0; i < QUERY_PARAMS_MAX; i++)
        buf_adds(&raw, "a=1&");
    cr_expect_eq(query_parse(buf_span(&raw), &arena, params, &count, NULL), OK);
    cr_expect_eq(count, QUERY_PARAMS_MAX);
    buf_adds(&raw, "b");
    cr_expect_eq(query_parse(buf_span(&raw), &arena, params, &count, NULL), ERR_INVALID);
    buf_release(&raw);
    buf_release(&arena);
}

Test(query, a_path_segment_is_decoded_and_stays_one_segment)
{
    static const struct {
        const char *raw, *text; /* NULL: refused */
    } rows[] = {
        {"add", "add"}, {"a%20b", "a b"}, {"a+b", "a+b"}, {"%C3%A4", "\xC3\xA4"}, {"", NULL}, {"a%2Fb", NULL},
        {"a%00", NULL}, {"%FF", NULL},    {"%", NULL},    {"..", ".."},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf text = {0};
        bool good = segment_decode(span_of(rows[i].raw), &text);
        cr_expect_eq(good, rows[i].text != NULL, "%s", rows[i].raw);
        if (good)
            cr_expect_str_eq(buf_cstr(&text), rows[i].text);
        buf_release(&text);
    }
}

Test(query, a_wait_is_seconds_or_a_duration)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } rows[] = {
        {"30", 30000}, {"0", 0},      {"0.5", 500}, {"1.2345", 1234}, {"30s", 30000}, {"250ms", 250},
        {"1m", 60000}, {"007", 7000}, {"", -1},     {"-1", -1},       {".5", -1},     {"5.", -1},
        {"1e3", -1},   {"1 s", -1},   {"s", -1},    {"1.2.3", -1},    {"inf", -1},    {"99999999999999999999", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t ms;
        bool good = wait_parse(span_of(rows[i].text), &ms);
        cr_expect_eq(good, rows[i].ms >= 0, "%s", rows[i].text);
        if (good && rows[i].ms >= 0)
            cr_expect_eq(ms, rows[i].ms, "%s", rows[i].text);
    }
}

Test(query, a_range_is_one_part_or_the_whole)
{
    static const struct {
        const char *header;
        int64_t total;
        enum range range;
        int64_t from, to;
    } rows[] = {
        {NULL, 10, RANGE_ALL, 0, 0},
        {"bytes=0-4", 10, RANGE_PART, 0, 4},
        {"Bytes=2-4", 10, RANGE_PART, 2, 4},
        {"bytes=5-", 10, RANGE_PART, 5, 9},
        {"bytes=5-100", 10, RANGE_PART, 5, 9},
        {"bytes=9-9", 10, RANGE_PART, 9, 9},
        {"bytes=-3", 10, RANGE_PART, 7, 9},
        {"bytes=-30", 10, RANGE_PART, 0, 9},
        {"bytes=5-99999999999999999999999", 10, RANGE_PART, 5, 9},
        {"bytes=10-", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=99999999999999999999999-", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-5", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=4-2", 10, RANGE_ALL, 0, 0},
        {"bytes=0-1,3-4", 10, RANGE_ALL, 0, 0},
        {"bytes=", 10, RANGE_ALL, 0, 0},
        {"bytes=-", 10, RANGE_ALL, 0, 0},
        {"bytes=a-b", 10, RANGE_ALL, 0, 0},
        {"bytes=1", 10, RANGE_ALL, 0, 0},
        {"lines=0-1", 10, RANGE_ALL, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t from = 0, to = 0;
        enum range range = range_parse(span_of(rows[i].header), rows[i].total, &from, &to);
        cr_expect_eq(range, rows[i].range, "%s", rows[i].header);
        if (range == RANGE_PART)
            cr_expect(from == rows[i].from && to == rows[i].to, "%s", rows[i].header);
    }
}
