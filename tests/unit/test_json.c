#include "base/json.h"
#include "base/clock.h"
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

/* From a copy of exactly its size, so that a sanitizer sees a byte too far. */
static enum err check(struct span text, int depth_max, struct json_fault *fault)
{
    char *copy = xmalloc(text.len);
    memcpy(copy, text.p, text.len);
    enum err err = json_check(copy, text.len, depth_max, fault);
    free(copy);
    return err;
}

static bool passes(const char *text)
{
    return check(span_of(text), JSON_DEPTH_MAX, NULL) == OK;
}

Test(json, valid_texts_pass)
{
    static const char *const rows[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "-12.50e+10",
        "1E400",
        "0.1",
        "123456789012345678901234567890",
        "\"\"",
        "\"a\"",
        "\"exactly!\"",
        "\"longer than one word of eight\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
        "\"\\ud83d\\uDE00\"",
        "\"\\u0000\"",
        "\"\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \x7F\"",
        "[]",
        "{}",
        " \t\r\n[ 1 , 2 ] \n",
        "[[],{},[{}]]",
        "{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]},\"b\":null}",
        "{\"\":1,\" \":2}",
        "{\"a\":1,\"A\":2,\"aa\":3}",
        "{\"\\u0061\":1,\"b\":2}",
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        cr_expect(passes(rows[i]), "%s", rows[i]);
}

Test(json, faults_are_found_where_they_are)
{
    static const struct row {
        const char *name, *text;
        size_t offset;
        const char *detail; /* a part of it */
    } rows[] = {
        {"empty", "", 0, "ends where a value"},
        {"only space", " \n ", 3, "ends where a value"},
        {"trailing junk", "{} x", 3, "'x'"},
        {"two values", "1 2", 2, "the end of the text"},
        {"a trailing comma", "[1,]", 3, "']' stands where a value"},
        {"a leading comma", "[,1]", 1, "a value"},
        {"no comma", "[1 2]", 3, "',' or ']'"},
        {"a trailing comma in an object", "{\"a\":1,}", 7, "a key in quotes"},
        {"no colon", "{\"a\" 1}", 5, "':'"},
        {"no value", "{\"a\":}", 5, "a value"},
        {"a bare key", "{a:1}", 1, "a key in quotes"},
        {"a number as a key", "{1:1}", 1, "a key in quotes"},
        {"a mismatched bracket", "[1}", 2, "',' or ']'"},
        {"a mismatched brace", "{\"a\":1]", 6, "',' or '}'"},
        {"a wrong close at once", "[}", 1, "a value"},
        {"an open array", "[1", 2, "ends"},
        {"an open object", "{\"a\":1", 6, "ends"},
        {"an open key", "{\"a", 3, "inside a string"},
        {"a lone close", "]", 0, "a value"},
        {"a leading zero", "01", 0, "leading zero"},
        {"a leading zero below zero", "[-012]", 2, "leading zero"},
        {"a lone minus", "-", 1, "a digit"},
        {"a plus", "+1", 0, "a value"},
        {"no digit before the point", ".5", 0, "a value"},
        {"no digit after the point", "1.", 2, "a digit"},
        {"no exponent", "1e", 2, "a digit"},
        {"no exponent after its sign", "[1e+]", 4, "a digit"},
        {"hexadecimal", "0x1", 1, "the end of the text"},
        {"not a number", "NaN", 0, "a value"},
        {"a cut word", "tru", 0, "a value"},
        {"a wrong word", "nul1", 0, "a value"},
        {"a longer word", "nulls", 4, "the end of the text"},
        {"a capital word", "True", 0, "a value"},
        {"single quotes", "'a'", 0, "a value"},
        {"a comment", "[/**/]", 1, "a value"},
        {"a line break in a string", "\"a\nb\"", 2, "0x0A"},
        {"a tab in a string", "\"ab\t\"", 3, "0x09"},
        {"a control far into a string", "\"0123456789abcdef\x01\"", 17, "0x01"},
        {"an open string", "\"a", 2, "inside a string"},
        {"an open escape", "\"a\\", 3, "inside a string"},
        {"an unknown escape", "\"\\x41\"", 1, "unknown escape"},
        {"a capital escape", "\"\\U0041\"", 1, "unknown escape"},
        {"three digits", "\"\\u123\"", 1, "four hexadecimal"},
        {"no digits", "\"\\u", 1, "four hexadecimal"},
        {"a high surrogate alone", "\"\\ud800\"", 1, "surrogate"},
        {"a high surrogate before text", "\"\\ud800abcdefgh\"", 1, "surrogate"},
        {"a high surrogate before another", "\"\\ud800\\ud800\"", 1, "surrogate"},
        {"a high surrogate before an escape", "\"\\ud800\\n12345\"", 1, "surrogate"},
        {"a low surrogate first", "\"\\udc00\\ud800\"", 1, "surrogate"},
        {"two low surrogates", "\"\\udc00\\udc00\"", 1, "surrogate"},
        {"a surrogate pair that is cut", "\"\\ud800\\udc0", 1, "surrogate"},
        {"a lone tail byte", "\"\x80\"", 1, "UTF-8"},
        {"an overlong form", "\"\xC0\xAF\"", 1, "UTF-8"},
        {"an encoded surrogate", "\"\xED\xA0\x80\"", 1, "UTF-8"},
        {"a cut sequence", "\"\xE2\x82", 1, "UTF-8"},
        {"above U+10FFFF", "\"\xF4\x90\x80\x80\"", 1, "UTF-8"},
        {"not UTF-8 outside a string", "[\xC3\xA9]", 1, "0xC3"},
        {"a byte order mark", "\xEF\xBB\xBF{}", 0, "byte order mark"},
        {"a vertical tab is no space", "[\v1]", 1, "0x0B"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct json_fault fault = {.pointer = "x"};
        cr_expect_eq(check(span_of(rows[i].text), JSON_DEPTH_MAX, &fault), ERR_INVALID, "%s", rows[i].name);
        cr_expect_eq(fault.offset, rows[i].offset, "%s: at %zu", rows[i].name, fault.offset);
        cr_expect_not_null(strstr(fault.detail, rows[i].detail), "%s: %s", rows[i].name, fault.detail);
        cr_expect_str_eq(fault.pointer, "", "%s", rows[i].name);
    }
    cr_expect_eq(json_check("1\0", 2, 64, NULL), ERR_INVALID);
    cr_expect_eq(json_check("\"\0\"", 3, 64, NULL), ERR_INVALID);
}

/* A text cut anywhere must not be read past its end, nor pass. */
Test(json, no_prefix_of_an_object_passes)
{
    struct span text = SPAN("{\"k\\u00e9y\":[1.5e-3,true,null,"
                            "\"\\ud83d\\ude00\xF0\x9F\x98\x80\"],\"b\":{\"c\":-0}}");
    cr_assert_eq(check(text, 64, NULL), OK);
    for (size_t len = 0; len < text.len; len++)
        cr_expect_eq(check((struct span){text.p, len}, 64, NULL), ERR_INVALID, "%zu bytes", len);
}

/* The fast path looks at eight bytes at once; every byte at every place. */
Test(json, every_byte_is_judged_alike_wherever_it_stands)
{
    for (int byte = 0; byte < 256; byte++) {
        bool plain = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
        for (int place = 1; place <= 20; place++) {
            char text[22];
            memset(text, 'a', sizeof text);
            text[0] = text[21] = '"';
            text[place] = (char)byte;
            cr_assert_eq(check((struct span){text, sizeof text}, 0, NULL) == OK, plain, "0x%02X at %d", byte,
                         place);
        }
    }
}

Test(json, nesting_is_limited)
{
    static const struct row {
        const char *text;
        int depth_max;
        bool ok;
    } rows[] = {
        {"1", 0, true},          {"[]", 0, false},          {"[]", 1, true},
        {"[1,[2]]", 1, false},   {"[1,[2]]", 2, true},      {"{\"a\":{}}", 1, false},
        {"{\"a\":{}}", 2, true}, {"[[],[],[[]]]", 3, true}, {"[[],[],[[]]]", 2, false},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        cr_expect_eq(check(span_of(rows[i].text), rows[i].depth_max, NULL) == OK, rows[i].ok, "%s in %d",
                     rows[i].text, rows[i].depth_max);
    for (int depth = 63; depth <= 66; depth++) {
        struct buf b = {0};
        for (int i = 0; i < depth; i++)
            buf_addc(&b, '[');
        for (int i = 0; i < depth; i++)
            buf_addc(&b, ']');
        cr_expect_eq(check(buf_span(&b), 1000, NULL) == OK, depth <= JSON_DEPTH_MAX, "depth %d", depth);
        buf_release(&b);
    }
    struct json_fault fault;
    cr_expect_eq(json_check("[[[]]]", 6, 2, &fault), ERR_INVALID);
    cr_expect_eq(fault.offset, 2);
}

Test(json, a_duplicate_key_is_refused)
{
    static const struct row {
        const char *name, *text, *pointer;
        size_t offset;
    } rows[] = {
        {"at the top", "{\"a\":1,\"a\":2}", "/a", 7},
        {"empty", "{\"\":1,\"\":2}", "/", 6},
        {"in an array", "[0,{\"x\":{\"b\":1,\"c\":[],\"b\":2}}]", "/1/x/b", 22},
        {"after a nested object with it", "{\"a\":{\"a\":1},\"b\":[{\"a\":1}],\"a\":2}", "/a", 27},
        {"escaped the second time", "{\"a\":1,\"\\u0061\":2}", "/a", 7},
        {"escaped the first time", "{\"\\u0061\":1,\"a\":2}", "/a", 12},
        {"escaped in two ways", "{\"\\u002f~\":1,\"\\/~\":2}", "/~1~0", 13},
        {"not ASCII", "{\"\xC3\xA9\":1,\"\\u00e9\":2}", "/\xC3\xA9", 8},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct json_fault fault;
        cr_expect_eq(check(span_of(rows[i].text), 64, &fault), ERR_INVALID, "%s", rows[i].name);
        cr_expect_str_eq(fault.pointer, rows[i].pointer, "%s", rows[i].name);
        cr_expect_eq(fault.offset, rows[i].offset, "%s: at %zu", rows[i].name, fault.offset);
        cr_expect_not_null(strstr(fault.detail, "twice"));
        cr_expect_eq(check(span_of(rows[i].text), 64, NULL), ERR_INVALID, "%s", rows[i].name);
    }
}

Test(json, a_long_duplicate_is_reported_in_part)
{
    struct buf b = {0};
    for (int turn = 0; turn < 2; turn++) {
        buf_adds(&b, turn ? ",\"x" : "{\"x");
        for (int i = 0; i < 500; i++)
            buf_addl(&b, "\xC3\xA9");
        buf_addl(&b, "\":1");
    }
    buf_addc(&b, '}');
    struct json_fault fault;
    cr_expect_eq(check(buf_span(&b), 64, &fault), ERR_INVALID);
    cr_expect(strlen(fault.pointer) > 250);
    cr_expect(utf8_valid(span_of(fault.pointer)));
    cr_expect(utf8_valid(span_of(fault.detail)));
    buf_release(&b);
}

/* Appends {"k0":0,...} with `count` keys, some escaped, and then key `again`. */
static void add_keys(struct buf *b, int count, int again)
{
    buf_addc(b, '{');
    for (int i = 0; i < count; i++)
        buf_addf(b, i % 7 == 3 ? "\"\\u006b%d\":{\"k1\":0}," : "\"k%d\":[0],", i);
    buf_addf(b, "\"k%d\":0}", again);
}

Test(json, duplicates_are_found_in_objects_of_every_size)
{
    for (int count = 1; count < 300; count++) {
        for (int again = 0; again <= count; again += again < count - 1 ? (count > 70 ? 37 : 1) : 1) {
            struct buf b = {0};
            add_keys(&b, count, again);
            cr_assert_eq(check(buf_span(&b), 64, NULL) == OK, again == count, "key %d of %d", again, count);
            buf_release(&b);
        }
    }
}

Test(json, large_objects_may_be_nested)
{
    struct buf b = {0};
    buf_addc(&b, '[');
    for (int i = 0; i < 5; i++) {
        buf_addl(&b, "{\"in\":");
        add_keys(&b, 100, 100);
        for (int key = 0; key < 100; key++)
            buf_addf(&b, ",\"k%d\":0", key);
        buf_addl(&b, "},");
    }
    buf_addl(&b, "0]");
    cr_expect_eq(check(buf_span(&b), 64, NULL), OK);
    buf_release(&b);
}

Test(json, a_hundred_thousand_keys_take_linear_time)
{
    struct buf b = {0};
    add_keys(&b, 100000, 100000);
    int64_t start = clock_mono_us();
    cr_expect_eq(json_check(b.data, b.len, 64, NULL), OK);
    /* 10 to 30 ms; comparing each with each takes 10 s or more */
    cr_expect(clock_mono_us() - start < 2000000);
    buf_release(&b);
}

Test(json, types_are_told_by_the_first_byte)
{
    static const struct row {
        const char *text;
        enum json_type type;
        const char *name;
    } rows[] = {
        {"null", JSON_NULL, "null"},   {"false", JSON_FALSE, "boolean"}, {"true", JSON_TRUE, "boolean"},
        {"-1", JSON_NUMBER, "number"}, {"7", JSON_NUMBER, "number"},     {"\"\"", JSON_STRING, "string"},
        {"[]", JSON_ARRAY, "array"},   {"{}", JSON_OBJECT, "object"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        cr_expect_eq(json_type(span_of(rows[i].text)), rows[i].type);
        cr_expect_str_eq(json_type_name(rows[i].type), rows[i].name);
    }
}

/* "key=value;" or "value;" for each item. */
static char *walk(const char *text)
{
    struct span value = json_trim(span_of(text));
    struct json_iter it = json_iter(value);
    struct span key, item;
    struct buf seen = {0};
    if (json_type(value) == JSON_OBJECT) {
        while (json_member(&it, &key, &item)) {
            buf_add_span(&seen, key);
            buf_addc(&seen, '=');
            buf_add_span(&seen, item);
            buf_addc(&seen, ';');
        }
    } else {
        while (json_element(&it, &item)) {
            buf_add_span(&seen, item);
            buf_addc(&seen, ';');
        }
    }
    return buf_take(&seen);
}

Test(json, walking_gives_each_item_trimmed)
{
    static const struct row {
        const char *text, *seen;
    } rows[] = {
        {"[]", ""},
        {" [ ] ", ""},
        {"{ }", ""},
        {"5", ""},
        {"\"[1]\"", ""},
        {"[1]", "1;"},
        {"[1,\"a,]\" , null]", "1;\"a,]\";null;"},
        {"[ [1, 2] ,{\"a\" : [ ] } ]", "[1, 2];{\"a\" : [ ] };"},
        {"[\"\\\\\",\"\\\"]\",\"]\"]", "\"\\\\\";\"\\\"]\";\"]\";"},
        {"{\"a\":1}", "a=1;"},
        {"{ \"a\" : 1.50 , \"b\\\"}\" : \"}\" , \"\" : true }", "a=1.50;b\\\"}=\"}\";=true;"},
        {"\n{\"x\":{\"y\":\"{\"},\"z\":[\"[\\\\\"]}\n", "x={\"y\":\"{\"};z=[\"[\\\\\"];"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        cr_assert(passes(rows[i].text), "%s", rows[i].text);
        char *seen = walk(rows[i].text);
        cr_expect_str_eq(seen, rows[i].seen, "%s", rows[i].text);
        free(seen);
    }
}

Test(json, members_are_found_by_name)
{
    struct span object = SPAN("{\"a\":1,\"\\u0062\":2,\"c\\\\\":3,\"\":4}");
    cr_expect(span_is(json_get(object, "a"), "1"));
    cr_expect(span_is(json_get(object, "b"), "2"));
    cr_expect(span_is(json_get(object, "c\\"), "3"));
    cr_expect(span_is(json_get(object, ""), "4"));
    cr_expect_null(json_get(object, "d").p);
    cr_expect_null(json_get(object, "c\\\\").p);
    cr_expect_null(json_get(SPAN("[\"a\"]"), "a").p);
    cr_expect_null(json_get(SPAN("\"a\""), "a").p);
    cr_expect_null(json_get((struct span){NULL, 0}, "a").p);
}

Test(json, escapes_are_resolved)
{
    static const struct row {
        const char *string, *text;
    } rows[] = {
        {"\"\"", ""},
        {"\"plain\"", "plain"},
        {"a key", "a key"},
        {"\\u0061 key", "a key"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\\\"quoted\\\"", "\"quoted\""},
        {"\"\\u00e9\\u20AC\\ud83d\\ude00\"", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"\"\\uDBFF\\uDFFF\"", "\xF4\x8F\xBF\xBF"},
        {"\"\\\\u0061\"", "\\u0061"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out = {0};
        json_unescape(span_of(rows[i].string), &out);
        cr_expect_str_eq(buf_cstr(&out), rows[i].text);
        buf_release(&out);
    }
    struct buf out = {0};
    json_unescape(SPAN("\"a\\u0000b\""), &out);
    cr_expect_eq(out.len, 3);
    cr_expect_arr_eq(out.data, "a\0b", 3);
    buf_release(&out);
}

Test(json, whole_numbers_are_read_if_they_fit)
{
    static const struct row {
        const char *text;
        bool integer, fits;
        int64_t value;
    } rows[] = {
        {"0", true, true, 0},
        {"-0", true, true, 0},
        {"42", true, true, 42},
        {"-42", true, true, -42},
        {"9223372036854775807", true, true, INT64_MAX},
        {"-9223372036854775808", true, true, INT64_MIN},
        {"9223372036854775808", true, false, 0},
        {"-9223372036854775809", true, false, 0},
        {"100000000000000000000000", true, false, 0},
        {"1.0", false, false, 0},
        {"1e2", false, false, 0},
        {"\"1\"", false, false, 0},
        {"true", false, false, 0},
        {"", false, false, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t value = 0;
        cr_expect_eq(json_is_integer(span_of(rows[i].text)), rows[i].integer, "%s", rows[i].text);
        cr_expect_eq(json_int64(span_of(rows[i].text), &value), rows[i].fits, "%s", rows[i].text);
        cr_expect_eq(value, rows[i].value, "%s", rows[i].text);
    }
}

Test(json, numbers_are_read_as_doubles)
{
    cr_expect_eq(json_double(SPAN("0.5")), 0.5);
    cr_expect_eq(json_double(SPAN("-1e3")), -1000);
    cr_expect(isinf(json_double(SPAN("1e999"))));
    cr_expect_eq(json_double((struct span){"125", 2}), 12);
    struct buf b = {0};
    for (int i = 0; i < 200; i++)
        buf_addc(&b, '1');
    cr_expect(fabs(json_double(buf_span(&b)) / 1.1111111111111111e199 - 1) < 4 * DBL_EPSILON);
    buf_release(&b);
}

static char *quoted(struct span text, void (*add)(struct buf *, struct span))
{
    struct buf b = {0};
    add(&b, text);
    cr_expect_eq(check(buf_span(&b), 64, NULL), OK);
    return buf_take(&b);
}

Test(json, strings_are_written_escaped)
{
    static const struct row {
        struct span text;
        const char *string;
    } rows[] = {
        {{"", 0}, "\"\""},
        {{"plain", 5}, "\"plain\""},
        {{"\"\\/", 3}, "\"\\\"\\\\/\""},
        {{"\b\f\n\r\t", 5}, "\"\\b\\f\\n\\r\\t\""},
        {{"\x01 \x1F\x7F", 4}, "\"\\u0001 \\u001f\x7F\""},
        {{"a\0b", 3}, "\"a\\u0000b\""},
        {{"\xE2\x82\xAC", 3}, "\"\xE2\x82\xAC\""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *string = quoted(rows[i].text, json_add_string);
        cr_expect_str_eq(string, rows[i].string);
        free(string);
        string = quoted(rows[i].text, json_add_lossy);
        cr_expect_str_eq(string, rows[i].string);
        free(string);
    }
    char *mended = quoted(SPAN("a\xFF\"\xC3"), json_add_lossy);
    cr_expect_str_eq(mended, "\"a" UTF8_REPLACEMENT "\\\"" UTF8_REPLACEMENT "\"");
    free(mended);
    struct buf absent = {0};
    json_add_lossy(&absent, (struct span){NULL, 0});
    cr_expect_str_eq(buf_cstr(&absent), "\"\"");
    buf_release(&absent);
}

Test(json, a_line_has_no_line_breaks)
{
    struct buf b = {0};
    buf_addl(&b, "data:\n");
    json_add_line(&b, SPAN("{\r\n\t\"a\\n\":\n1\n}"));
    cr_expect_str_eq(buf_cstr(&b), "data:\n{  \t\"a\\n\": 1 }");
    buf_release(&b);
}

Test(json, a_whole_number_is_one_however_it_is_written)
{
    static const struct {
        const char *text;
        int64_t number; /* -1: none */
    } rows[] = {
        {"5", 5},
        {"5.0", 5},
        {"5e0", 5},
        {"0.5e1", 5},
        {"50e-1", 5},
        {"-0.0", 0},
        {"1e2", 100},
        {"5.5", -1},
        {"1e400", -1},
        {"1e300", -1},
        {"99999999999999999999", -1},
        {"9223372036854775807", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t number = -1;
        cr_expect_eq(json_whole(span_of(rows[i].text), &number), rows[i].number >= 0, "%s", rows[i].text);
        cr_expect_eq(number, rows[i].number, "%s", rows[i].text);
    }
}

Test(json, has_one_canonical_form)
{
    static const struct {
        const char *text, *form;
    } rows[] = {
        {"1.10", "1.10"},
        {"{}", "{}"},
        {"[ ]", "[]"},
        {"{\"b\" : [1, {\"d\":2,\"c\" :3}],\n\"a\":null}", "{\"a\":null,\"b\":[1,{\"c\":3,\"d\":2}]}"},
        {"{\"\\u0062\":1,\"a\\\"\":2,\"\\u0061\":3}", "{\"a\":3,\"a\\\"\":2,\"b\":1}"},
        {"\"gr\\u00f6\\/\"", "\"gr\xC3\xB6/\""},
        {"{\"k\":{\"k\":1},\"l\":2}", "{\"l\":2}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out = {0};
        json_add_canonical(&out, span_of(rows[i].text), "k");
        cr_expect_str_eq(buf_cstr(&out), rows[i].form);
        buf_release(&out);
    }
}
