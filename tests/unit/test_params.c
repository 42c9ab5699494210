#include "workers/tasks/params.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The faults as "pointer: detail" lines. */
static struct buf listed(const struct faults *faults)
{
    struct buf text = {0};
    for (int i = 0; i < faults->count; i++)
        buf_addf(&text, "%s: %s\n", faults->items[i].pointer, faults->items[i].detail);
    buf_cstr(&text);
    return text;
}

static struct params *parsed(const char *yaml, struct faults *faults)
{
    struct yaml *doc = yaml_parse(span_of(yaml), faults);
    cr_assert(doc, "not YAML: %s", yaml);
    struct params *params = params_parse(doc, yaml_root(doc), "/params", faults);
    yaml_free(doc);
    return params;
}

static struct params *good(const char *yaml)
{
    struct faults faults = {0};
    struct params *params = parsed(yaml, &faults);
    cr_assert(params, "%s: %s", yaml, faults.count ? faults.items[0].detail : "");
    return params;
}

#define SHAPE "{source: string, width: {type: integer, default: 640}, deep: {type: boolean, default: false}}"

Test(params, arguments_bind_by_name_and_by_position)
{
    static const struct {
        const char *params, *args, *bound;
    } rows[] = {
        {SHAPE, "{\"source\":\"a\"}", "{\"source\":\"a\",\"width\":640,\"deep\":false}"},
        {SHAPE, "{\"deep\":true,\"source\":\"a\"}", "{\"source\":\"a\",\"width\":640,\"deep\":true}"},
        {SHAPE, " { \"width\" : 7 , \"source\" : \"a\" } ", "{\"source\":\"a\",\"width\":7,\"deep\":false}"},
        {SHAPE, "[\"a\"]", "{\"source\":\"a\",\"width\":640,\"deep\":false}"},
        {SHAPE, " [ \"a\" , 1 , true ] ", "{\"source\":\"a\",\"width\":1,\"deep\":true}"},
        /* a client may escape a name */
        {SHAPE, "{\"s\\u006furce\":\"a\"}", "{\"source\":\"a\",\"width\":640,\"deep\":false}"},
        /* tokens are verbatim */
        {"{x: number}", "[1.10]", "{\"x\":1.10}"},
        {"{x: integer}", "[-0]", "{\"x\":-0}"},
        {"{x: integer}", "[123456789012345678901234567890]", "{\"x\":123456789012345678901234567890}"},
        {"{x: string}", "{\"x\":\"\\u0041\\n\"}", "{\"x\":\"\\u0041\\n\"}"},
        {"{x: any}", "[null]", "{\"x\":null}"},
        {"{x: any}", "[{\"b\": 1, \"a\":[ ]}]", "{\"x\":{\"b\": 1, \"a\":[ ]}}"},
        {"{x: array, y: object}", "[[1],{}]", "{\"x\":[1],\"y\":{}}"},
        {"{x: {default: null}}", "[]", "{\"x\":null}"},
        {"{x: {default: 12345678901234567890.10}}", "{}", "{\"x\":12345678901234567890.10}"},
        {"{x: {type: object, default: {b: [1, \"two\"], a: null}}}", "{}",
         "{\"x\":{\"b\":[1,\"two\"],\"a\":null}}"},
        {"{}", "{}", "{}"},
        {"{}", "[]", "{}"},
        {"{x: {type: string, enum: [low, high]}}", "[\"high\"]", "{\"x\":\"high\"}"},
        {"{x: {type: string, enum: [gr\xC3\xB6\xC3\x9F]}}", "[\"gr\\u00f6\\u00df\"]",
         "{\"x\":\"gr\\u00f6\\u00df\"}"},
        {"{x: {enum: [{a: 1, b: [2]}]}}", "[{\"b\" : [2],\"\\u0061\":1}]", "{\"x\":{\"b\" : [2],\"\\u0061\":1}}"},
        {"{x: {enum: [1, a, null], default: a}}", "{}", "{\"x\":\"a\"}"},
        {"{true: boolean, null: {default: 1}}", "{\"true\":false}", "{\"true\":false,\"null\":1}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct params *params = good(rows[i].params);
        struct faults faults = {0};
        struct buf bound = {0};
        enum err err = params_bind(params, span_of(rows[i].args), "/args", &bound, &faults);
        cr_expect_eq(err, OK, "%s: %s", rows[i].args, faults.count ? faults.items[0].detail : "");
        cr_expect_str_eq(buf_cstr(&bound), rows[i].bound);
        buf_release(&bound);
        faults_release(&faults);
        params_free(params);
    }
}

Test(params, every_fault_of_the_arguments_is_named)
{
    static const struct {
        const char *params, *args, *faults;
    } rows[] = {
        {SHAPE, "{}", "/args/source: `source` is missing: a string\n"},
        {SHAPE, "[]", "/args/0: `source` is missing: a string\n"},
        {"{x: integer, y: integer}", "{\"z\":1,\"y\":\"a\",\"w~/\":2}",
         "/args/z: there is no parameter `z`\n"
         "/args/y: `y` must be an integer, not a string\n"
         "/args/w~0~1: there is no parameter `w~/`\n"
         "/args/x: `x` is missing: an integer\n"},
        {SHAPE, "{\"sorce\":\"a\",\"source\":\"b\"}",
         "/args/sorce: there is no parameter `sorce`; did you mean `source`?\n"},
        {SHAPE, "{\"source\":null,\"width\":1.0,\"deep\":0}",
         "/args/source: `source` must be a string, not null\n"
         "/args/width: `width` must be an integer, not a number with a fraction or an exponent\n"
         "/args/deep: `deep` must be true or false, not an integer\n"},
        {SHAPE, "[\"a\",1e3]",
         "/args/1: `width` must be an integer, not a number with a fraction or an exponent\n"},
        {SHAPE, "[\"a\",1,true,4,5]",
         "/args/3: 5 values for 3 parameters: this one and what follows have no name\n"},
        {"{}", "{\"x\":1}", "/args/x: there is no parameter `x`\n"},
        {"{}", "[1]", "/args/0: 1 values for 0 parameters: this one and what follows have no name\n"},
        {"{x: array, y: object}", "{\"x\":{},\"y\":[]}",
         "/args/x: `x` must be an array, not an object\n/args/y: `y` must be an object, not an array\n"},
        {"{x: {type: string, enum: [low, high]}}", "[\"mid\"]",
         "/args/0: `x` must be one of [\"low\",\"high\"]\n"},
        {"{x: {enum: [1]}}", "[1.0]", "/args/0: `x` must be one of [1]\n"},
        {SHAPE, "null", "/args: must be an object (by name) or an array (by position), not null\n"},
        {SHAPE, "\"a\"", "/args: must be an object (by name) or an array (by position), not a string\n"},
        {SHAPE, "{\"x\\n\":1,\"source\":\"\"}", "/args/x\n: there is no parameter `x `\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct params *params = good(rows[i].params);
        struct faults faults = {0};
        struct buf bound = {0};
        cr_expect_eq(params_bind(params, span_of(rows[i].args), "/args", &bound, &faults), ERR_INVALID);
        cr_expect_eq(bound.len, 0, "a refusal writes nothing");
        struct buf text = listed(&faults);
        cr_expect_str_eq(text.data, rows[i].faults);
        buf_release(&text);
        buf_release(&bound);
        faults_release(&faults);
        params_free(params);
    }
}

Test(params, absent_arguments_are_an_empty_object)
{
    struct params *params = good("{x: {default: 1}}");
    struct faults faults = {0};
    struct buf bound = {0};
    buf_adds(&bound, "before ");
    cr_expect_eq(params_bind(params, (struct span){NULL, 0}, "/args", &bound, &faults), OK);
    cr_expect_str_eq(buf_cstr(&bound), "before {\"x\":1}", "it is appended");
    buf_release(&bound);
    params_free(params);
}

Test(params, earlier_faults_do_not_refuse_good_arguments)
{
    struct params *params = good("{x: integer}");
    struct faults faults = {0};
    struct buf bound = {0};
    faults_add(&faults, 0, "/priority", "too large");
    cr_expect_eq(params_bind(params, SPAN("[1]"), "/args", &bound, &faults), OK);
    cr_expect_eq(faults.total, 1);
    buf_release(&bound);
    faults_release(&faults);
    params_free(params);
}

Test(params, many_unknown_names_are_all_counted)
{
    struct params *params = good("{x: {default: 1}}");
    struct faults faults = {0};
    struct buf args = {0}, bound = {0};
    for (int i = 0; i < 5000; i++)
        buf_addf(&args, "%c\"n%d\":0", i ? ',' : '{', i);
    buf_addc(&args, '}');
    cr_expect_eq(params_bind(params, buf_span(&args), "/args", &bound, &faults), ERR_INVALID);
    cr_expect_eq(faults.total, 5000);
    cr_expect_eq(faults.count, FAULTS_MAX);
    buf_release(&args);
    buf_release(&bound);
    faults_release(&faults);
    params_free(params);
}

Test(params, every_fault_of_a_definition_is_named)
{
    static const struct {
        const char *params, *faults;
    } rows[] = {
        {"{x: int}", "/params/x: `int` is no type: any, string, integer, number, boolean, array or object; did "
                     "you mean `integer`?\n"},
        {"{x: 5, y: [string]}",
         "/params/x: the type must be a word: any, string, integer, number, boolean, array or object\n"
         "/params/y: the type must be a word: any, string, integer, number, boolean, array or object\n"},
        {"{x: {type: integer, default: 1.5}}",
         "/params/x/default: must be an integer, not a number with a fraction or an exponent\n"},
        {"{x: {default: 1.5, type: integer}}",
         "/params/x/default: must be an integer, not a number with a fraction or an exponent\n"},
        {"{x: {type: string, default: 1}}", "/params/x/default: must be a string, not an integer\n"},
        {"{x: {type: string, default: null}}", "/params/x/default: must be a string, not null\n"},
        {"{x: {type: string, enum: [a, 1]}}", "/params/x/enum: 1 is not a string\n"},
        {"{x: {enum: []}}", "/params/x/enum: must be a list of at least one value\n"},
        {"{x: {enum: [a], default: b}}", "/params/x/default: must be one of the `enum` values\n"},
        {"{x: {defualt: 1, min: 2}}", "/params/x/defualt: unknown key `defualt`; did you mean `default`?\n"
                                      "/params/x/min: unknown key `min`\n"},
        {"{x: {description: 5}}", "/params/x/description: must be a text of at most 1000 bytes\n"},
        {"{a-b: string, 1a: string, \"\": any}",
         "/params/a-b: `a-b` is no parameter name: 1 to 64 letters, digits and _, no digit first\n"
         "/params/1a: `1a` is no parameter name: 1 to 64 letters, digits and _, no digit first\n"
         "/params/: `` is no parameter name: 1 to 64 letters, digits and _, no digit first\n"},
        {"[x]", "/params: must be a mapping of names to types; `{}` is no parameters at all\n"},
        {"~", "/params: must be a mapping of names to types; `{}` is no parameters at all\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct faults faults = {0};
        cr_expect_null(parsed(rows[i].params, &faults));
        struct buf text = listed(&faults);
        cr_expect_str_eq(text.data, rows[i].faults);
        cr_expect(faults.count > 0 && faults.items[0].line == 1);
        buf_release(&text);
        faults_release(&faults);
    }
}

Test(params, a_definition_has_at_most_64_parameters)
{
    struct buf yaml = {0};
    struct faults faults = {0};
    for (int i = 0; i < PARAMS_MAX; i++)
        buf_addf(&yaml, "p%d: integer\n", i);
    params_free(good(buf_cstr(&yaml)));
    buf_adds(&yaml, "one_more: integer\n");
    cr_expect_null(parsed(buf_cstr(&yaml), &faults));
    buf_release(&yaml);
    faults_release(&faults);
}

Test(params, a_name_is_known_or_not)
{
    struct params *params = good(SHAPE);
    cr_expect(params_has(params, SPAN("width")));
    cr_expect_not(params_has(params, SPAN("widt")));
    cr_expect_not(params_has(params, SPAN("")));
    params_free(params);
}

Test(params, the_schema_says_what_the_definition_says)
{
    static const struct {
        const char *params, *schema;
    } rows[] = {
        {"{}", "{\"type\":\"object\",\"properties\":{},\"required\":[],\"additionalProperties\":false}"},
        {"{x: integer, y: {type: number, default: 1.10, description: 'a \"width\"'}, z: any}",
         "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"},\"y\":{\"type\":\"number\","
         "\"description\":\"a \\\"width\\\"\",\"default\":1.10},\"z\":{}},\"required\":[\"x\",\"z\"],"
         "\"additionalProperties\":false}"},
        {"{x: {enum: [a, 12345678901234567890], default: a}}",
         "{\"type\":\"object\",\"properties\":{\"x\":{\"enum\":[\"a\",12345678901234567890],\"default\":\"a\"}},"
         "\"required\":[],\"additionalProperties\":false}"},
    };
    struct buf schema = {0};
    params_add_schema(&schema, NULL);
    cr_expect_str_eq(buf_cstr(&schema), "true");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct params *params = good(rows[i].params);
        schema.len = 0;
        params_add_schema(&schema, params);
        cr_expect_str_eq(buf_cstr(&schema), rows[i].schema);
        cr_expect_eq(json_check(schema.data, schema.len, JSON_DEPTH_MAX, NULL), OK);
        params_free(params);
    }
    buf_release(&schema);
}

/* What binding says of one value: "" if it fits. */
static char *said_of(struct params *params, const char *value)
{
    struct faults faults = {0};
    struct buf args = {0}, bound = {0};
    buf_addf(&args, "[%s]", value);
    enum err err = params_bind(params, buf_span(&args), "/args", &bound, &faults);
    char *text = xstrdup(faults.count ? faults.items[0].detail : "");
    cr_expect_eq(err == OK, !*text);
    faults_release(&faults);
    buf_release(&args);
    buf_release(&bound);
    return text;
}

Test(params, values_have_bounds)
{
    static const struct {
        const char *params, *value, *said;
    } rows[] = {
        {"{x: {type: integer, minimum: 1, maximum: 10}}", "1", ""},
        {"{x: {type: integer, minimum: 1, maximum: 10}}", "10", ""},
        {"{x: {type: integer, minimum: 1, maximum: 10}}", "0", "`x` must be at least 1"},
        {"{x: {type: integer, minimum: 1, maximum: 10}}", "-5", "`x` must be at least 1"},
        {"{x: {type: integer, minimum: 1, maximum: 10}}", "11", "`x` must be at most 10"},
        {"{x: {type: integer, minimum: -10}}", "-9", ""},
        {"{x: {type: integer, minimum: -10}}", "-11", "`x` must be at least -10"},
        {"{x: {type: integer, minimum: 0}}", "-0", ""},
        /* doubles would not see it */
        {"{x: {type: integer, maximum: 9007199254740992}}", "9007199254740993",
         "`x` must be at most 9007199254740992"},
        {"{x: {type: integer, maximum: 9}}", "123456789012345678901234567890", "`x` must be at most 9"},
        {"{x: {type: number, minimum: 0.5}}", "0.5", ""},
        {"{x: {type: number, minimum: 0.5}}", "5e-2", "`x` must be at least 0.5"},
        {"{x: {type: number, maximum: 1}}", "1e400", "`x` must be at most 1"},
        {"{x: {type: string, min_length: 2, max_length: 3}}", "\"\\u00f6\xc3\x9f\"", ""},
        {"{x: {type: string, min_length: 2, max_length: 3}}", "\"\xc3\x9f\"",
         "`x` must have at least 2 characters"},
        {"{x: {type: string, min_length: 2, max_length: 3}}", "\"abcd\"", "`x` must have at most 3 characters"},
        {"{x: {type: string, pattern: '^[a-z]+$'}}", "\"abc\"", ""},
        {"{x: {type: string, pattern: '^[a-z]+$'}}", "\"\\u0061bc\"", ""},
        {"{x: {type: string, pattern: '^[a-z]+$'}}", "\"abc\\n\"", "`x` must match ^[a-z]+$"},
        {"{x: {type: string, pattern: '^[a-z]+$'}}", "\"--version\"", "`x` must match ^[a-z]+$"},
        {"{x: {type: string, pattern: 'b'}}", "\"abc\"", ""},
        {"{x: {type: string, pattern: '^.$'}}", "\"\xf0\x9f\x98\x80\"", ""},
        {"{x: {type: string, pattern: '^(a|b)$', enum: [a, c]}}", "\"c\"", "`x` must match ^(a|b)$"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct params *params = good(rows[i].params);
        char *said = said_of(params, rows[i].value);
        cr_expect_str_eq(said, rows[i].said, "%s %s: %s", rows[i].params, rows[i].value, said);
        free(said);
        params_free(params);
    }
}

/* A client sends the text, and the loop's thread matches it. */
Test(params, a_pattern_never_takes_long, .timeout = 20)
{
    static const char *const patterns[] = {"'^(a+)+$'", "'(a+)+b'", "'(a|aa)+$'", "'^(a|a)*b'"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        struct buf yaml = {0}, value = {0};
        buf_addf(&yaml, "{x: {type: string, pattern: %s}}", patterns[i]);
        buf_addc(&value, '"');
        for (int n = 0; n < 4000; n++)
            buf_addc(&value, 'a');
        buf_addl(&value, "!\"");
        struct params *params = good(buf_cstr(&yaml));
        clock_t began = clock();
        char *said = said_of(params, buf_cstr(&value));
        cr_expect(strstr(said, "pattern") || strstr(said, "must match"), "%s: %s", patterns[i], said);
        cr_expect_lt(clock() - began, CLOCKS_PER_SEC, "%s", patterns[i]);
        free(said);
        params_free(params);
        buf_release(&yaml);
        buf_release(&value);
    }
}

Test(params, bounds_that_cannot_be_are_refused)
{
    static const struct {
        const char *params, *said;
    } rows[] = {
        {"{x: {type: string, pattern: '['}}", "/params/x/pattern: at character 2: "},
        {"{x: {type: string, pattern: 5}}", "/params/x/pattern: must be a regular expression"},
        {"{x: {type: integer, pattern: a}}", "are for `type: string`"},
        {"{x: {pattern: a}}", "are for `type: string`"},
        {"{x: {type: string, minimum: 1}}", "are for `type: integer`"},
        {"{x: {type: integer, minimum: a}}", "/params/x/minimum: must be a number"},
        {"{x: {type: string, max_length: -1}}", "/params/x/max_length: must be a number of characters"},
        {"{x: {type: string, min_length: 3, max_length: 2}}", "leaves no value"},
        {"{x: {type: integer, maximum: 2, minimum: 3}}", "leaves no value"},
        {"{x: {type: integer, minimum: 3, default: 2}}", "/params/x/default: must be at least 3"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct faults faults = {0};
        struct params *params = parsed(rows[i].params, &faults);
        struct buf text = listed(&faults);
        cr_expect_null(params);
        cr_expect(strstr(buf_cstr(&text), rows[i].said), "%s: %s", rows[i].params, buf_cstr(&text));
        buf_release(&text);
        faults_release(&faults);
    }
}

Test(params, bounds_are_shown_as_json_schema)
{
    struct params *params = good("{n: {type: integer, minimum: 1, maximum: 9, default: 2},"
                                 " t: {type: string, pattern: '^a\"b$', min_length: 1, max_length: 5}}");
    struct buf schema = {0};
    params_add_schema(&schema, params);
    cr_expect_str_eq(buf_cstr(&schema),
                     "{\"type\":\"object\",\"properties\":{"
                     "\"n\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9,\"default\":2},"
                     "\"t\":{\"type\":\"string\",\"pattern\":\"^a\\\"b$\",\"minLength\":1,\"maxLength\":5}},"
                     "\"required\":[\"t\"],\"additionalProperties\":false}");
    buf_release(&schema);
    params_free(params);
}
