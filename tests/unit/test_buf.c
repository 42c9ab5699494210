#include "base/buf.h"
#include "base/err.h"
#include "base/utf8.h"
#include <criterion/criterion.h>
#include <stdlib.h>

Test(buf, starts_empty_and_grows)
{
    struct buf b = {0};
    cr_assert_eq(buf_span(&b).len, 0);
    cr_assert_not_null(buf_span(&b).p);
    for (int i = 0; i < 10000; i++)
        buf_addc(&b, (char)('a' + i % 26));
    cr_assert_eq(b.len, 10000);
    cr_assert(b.cap >= b.len);
    for (int i = 0; i < 10000; i++)
        cr_assert_eq(b.data[i], 'a' + i % 26);
    buf_release(&b);
    cr_assert_null(b.data);
    cr_assert_eq(b.cap, 0);
    buf_adds(&b, "again");
    cr_assert_str_eq(buf_cstr(&b), "again");
    buf_release(&b);
}

Test(buf, adds_are_appended_in_order)
{
    struct buf b = {0};
    buf_add(&b, NULL, 0);
    buf_addl(&b, "one ");
    buf_adds(&b, "two ");
    buf_add_span(&b, SPAN("three "));
    buf_addf(&b, "%s %d", "four", 5);
    cr_assert_str_eq(buf_cstr(&b), "one two three four 5");
    cr_assert_eq(b.len, strlen("one two three four 5"));
    buf_release(&b);
}

Test(buf, a_long_format_fits)
{
    struct buf b = {0};
    buf_addf(&b, "%05000d|", 7);
    cr_assert_eq(b.len, 5001);
    cr_assert_eq(b.data[5000], '|');
    buf_release(&b);
}

Test(buf, integers_are_written_in_decimal)
{
    static const struct row {
        int64_t value;
        const char *text;
    } rows[] = {
        {0, "0"},
        {7, "7"},
        {-1, "-1"},
        {1000000, "1000000"},
        {INT64_MAX, "9223372036854775807"},
        {INT64_MIN, "-9223372036854775808"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf b = {0};
        buf_add_int(&b, rows[i].value);
        cr_expect_str_eq(buf_cstr(&b), rows[i].text);
        buf_release(&b);
    }
}

Test(buf, taken_bytes_are_terminated_and_leave_it_empty)
{
    struct buf b = {0};
    buf_adds(&b, "mine");
    char *text = buf_take(&b);
    cr_assert_str_eq(text, "mine");
    cr_assert_null(b.data);
    free(text);
    text = buf_take(&b);
    cr_assert_str_eq(text, "");
    free(text);
}

Test(span, is_compares_whole_texts)
{
    cr_expect(span_is(SPAN("abc"), "abc"));
    cr_expect(span_is(SPAN(""), ""));
    cr_expect_not(span_is(SPAN("abc"), "ab"));
    cr_expect_not(span_is(SPAN("ab"), "abc"));
    cr_expect_not(span_is(span_of(NULL), ""));
}

Test(span, dup_copies_and_keeps_absence)
{
    cr_expect_null(span_dup(span_of(NULL)));
    char *copy = span_dup((struct span){"abcdef", 3});
    cr_expect_str_eq(copy, "abc");
    free(copy);
}

Test(reason, is_cut_to_fit_between_characters)
{
    struct reason why;
    reason_set(NULL, "nobody %s", "listens");
    reason_set(&why, "%s: %d", "no", 3);
    cr_expect_str_eq(why.text, "no: 3");

    char longer[2 * sizeof why.text];
    for (size_t i = 0; i + 1 < sizeof longer; i++)
        longer[i] = i % 2 ? '\xA9' : '\xC3';
    longer[sizeof longer - 1] = '\0';
    reason_set(&why, "%s", longer);
    cr_expect_eq(strlen(why.text), sizeof why.text - 2);
    cr_expect(utf8_valid(span_of(why.text)));
}

Test(err, every_one_has_a_name)
{
    for (int err = OK; err <= ERR_IO; err++)
        cr_expect_str_neq(err_name((enum err)err), "unknown");
    cr_expect_str_eq(err_name(OK), "ok");
    cr_expect_str_eq(err_name(ERR_NOT_FOUND), "not_found");
}

static const struct utf8_row {
    const char *name, *bytes, *mended; /* mended NULL: is valid */
} utf8_rows[] = {
    {"empty", "", NULL},
    {"ascii", "plain", NULL},
    {"two to four bytes", "\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", NULL},
    {"the ends of the ranges", "\xC2\x80 \xDF\xBF \xE0\xA0\x80 \xEF\xBF\xBF \xF0\x90\x80\x80 \xF4\x8F\xBF\xBF",
     NULL},
    {"around the surrogates", "\xED\x9F\xBF \xEE\x80\x80", NULL},
    {"a lone tail", "a\x80z", "a" UTF8_REPLACEMENT "z"},
    {"overlong in two", "\xC0\xAF", UTF8_REPLACEMENT UTF8_REPLACEMENT},
    {"overlong in three", "\xE0\x80\x80", UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT},
    {"a surrogate", "\xED\xA0\x80", UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT},
    {"above U+10FFFF", "\xF4\x90\x80\x80", UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT},
    {"0xFF", "a\xFF", "a" UTF8_REPLACEMENT},
    {"broken off in the middle", "\xE2\x82z", UTF8_REPLACEMENT "z"},
    {"broken off at the end", "long enough a text \xF0\x9F\x98", "long enough a text " UTF8_REPLACEMENT},
};

Test(utf8, what_is_not_is_found_and_mended)
{
    for (size_t i = 0; i < sizeof utf8_rows / sizeof *utf8_rows; i++) {
        const struct utf8_row *row = &utf8_rows[i];
        struct buf mended = {0};
        utf8_add_lossy(&mended, span_of(row->bytes));
        cr_expect_eq(utf8_valid(span_of(row->bytes)), !row->mended, "%s", row->name);
        cr_expect_str_eq(buf_cstr(&mended), row->mended ? row->mended : row->bytes, "%s", row->name);
        cr_expect(utf8_valid(buf_span(&mended)), "%s", row->name);
        buf_release(&mended);
    }
}

Test(utf8, every_code_point_is_written_validly)
{
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        if (code == 0xD800)
            code = 0xE000;
        struct buf b = {0};
        utf8_add_code(&b, code);
        size_t n = utf8_sequence(b.data, b.data + b.len);
        buf_release(&b);
        cr_assert(n == (code < 0x80 ? 1u : code < 0x800 ? 2u : code < 0x10000 ? 3u : 4u), "U+%04X", code);
    }
}

Test(utf8, a_cut_splits_no_character)
{
    static const struct row {
        const char *text;
        size_t max, len;
    } rows[] = {
        {"abc", 5, 3},
        {"abc", 2, 2},
        {"abc", 0, 0},
        {"a\xC3\xA9", 2, 1},
        {"a\xC3\xA9", 3, 3},
        {"\xE2\x82\xAC", 2, 0},
        {"\xF0\x9F\x98\x80", 3, 0},
        {"\xF0\x9F\x98\x80", 4, 4},
        {"ab\xE2\x82", 9, 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(utf8_cut(span_of(rows[i].text), rows[i].max).len, rows[i].len, "row %zu", i);
}
