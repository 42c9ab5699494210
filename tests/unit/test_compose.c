#include "workers/compose.h"

#include "workers/kinds/kinds.h"
#include "workers/registry.h"

#include <criterion/criterion.h>

/* The faults as "pointer: detail" lines. */
static void expect_faults(struct faults *faults, const char *expected, const char *what)
{
    struct buf text = {0};
    for (int i = 0; i < faults->count; i++)
        buf_addf(&text, "%s: %s\n", faults->items[i].pointer, faults->items[i].detail);
    cr_expect_str_eq(buf_cstr(&text), expected, "%s: %s", what, buf_cstr(&text));
    buf_release(&text);
    faults_release(faults);
}

static struct span json(const char *text)
{
    cr_assert(!text || json_check(text, strlen(text), JSON_DEPTH_MAX, NULL) == OK, "%s", text);
    return span_of(text);
}

static struct params *parsed(const char *yaml)
{
    struct faults faults = {0};
    struct yaml *doc = yaml ? yaml_parse(span_of(yaml), &faults) : NULL;
    struct params *params = doc ? params_parse(doc, yaml_root(doc), "/params", &faults) : NULL;
    cr_assert_eq(faults.total, 0, "%s", yaml);
    yaml_free(doc);
    return params;
}

/* --- finding ------------------------------------------------------------------------------- */

static bool list_reference(void *context, const struct reference *r)
{
    struct buf *out = context;
    buf_addf(out, "%s %d %.*s %.*s %.*s\n", r->pointer, r->depth, r->name.p ? (int)r->name.len : 1,
             r->name.p ? r->name.p : "-", r->whose.p ? (int)r->whose.len : 4, r->whose.p ? r->whose.p : "true",
             r->path.p ? (int)r->path.len : 1, r->path.p ? r->path.p : "-");
    return true;
}

Test(compose, references_are_found_where_they_stand)
{
    static const struct {
        const char *args, *found, *faults;
    } rows[] = {
        {NULL, "", ""},
        {"null", "", ""},
        {"{\"a\": [1, {\"b\": \"$result\"}]}", "", ""},
        {"{\"$result\": true}", "/args 0 - true -\n", ""},
        {" {\"$result\" : true } ", "/args 0 - true -\n", ""},
        {"{\"x\": {\"$result\": \"left\"}, \"y\": {\"path\": \"a.0\", \"$result\": \"right\"}}",
         "/args/x 1 x left -\n/args/y 1 y right a.0\n", ""},
        {"[{\"$result\": true}, {\"a/b\": [0, {\"$result\": \"0\", \"path\": \"x\"}]}]",
         "/args/0 1 - true -\n/args/1/a~1b/1 3 - 0 x\n", ""},
        {"{\"o\\u0075t\": {\"in\": {\"$result\": true}}}", "/args/out/in 2 out true -\n", ""},
        {"{\"\\u0024result\": \"l\\u0065ft\", \"p\\u0061th\": \"\\u0061\"}", "/args 0 - left a\n", ""},
        {"{\"$result\": true, \"path\": \"a\", \"x\": 1}", "",
         "/args/x: beside `$result` there is room for `path` alone\n"},
        {"{\"a\": {\"$result\": 7}, \"b\": {\"$result\": \"x\"}, \"c\": {\"$result\": \"\", \"path\": 7}}",
         "/args/b 1 b x -\n",
         "/args/a/$result: must be true, the name of a member, or the id of an invocation\n"
         "/args/c/$result: must be true, the name of a member, or the id of an invocation\n"
         "/args/c/path: must be a path such as \"user.ids.0\", of 1 to 255 bytes\n"},
        {"{\"$result\": false}", "",
         "/args/$result: must be true, the name of a member, or the id of an invocation\n"},
        {"{\"$result\": {\"$result\": true}}", "",
         "/args/$result: must be true, the name of a member, or the id of an invocation\n"},
        {"{\"$result\": true, \"path\": \"................................................................\"}", "",
         "/args/path: has more than 64 parts: nothing is nested so deep\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct faults faults = {0};
        struct buf found = {0};
        compose_find(json(rows[i].args), "/args", list_reference, &found, &faults);
        cr_expect_str_eq(buf_cstr(&found), rows[i].found, "%s: %s", rows[i].args, buf_cstr(&found));
        expect_faults(&faults, rows[i].faults, rows[i].args);
        buf_release(&found);
    }
}

Test(compose, a_thousand_references_are_as_many_as_there_may_be)
{
    struct buf args = {0};
    struct faults faults = {0};
    buf_adds(&args, "[0");
    for (int i = 0; i < COMPOSE_REFERENCES_MAX; i++)
        buf_adds(&args, ",{\"$result\":true}");
    buf_adds(&args, "]");
    cr_expect_eq(compose_find(buf_span(&args), "/args", NULL, NULL, &faults), COMPOSE_REFERENCES_MAX);
    expect_faults(&faults, "", "a thousand");
    args.len--;
    buf_adds(&args, ",{\"$result\":true},{\"$result\":true}]");
    compose_find(buf_span(&args), "/args", NULL, NULL, &faults);
    expect_faults(&faults, "/args/1001: there are more than 1000 references\n", "one more");
    buf_release(&args);
}

/* --- paths ---------------------------------------------------------------------------------- */

Test(compose, a_path_leads_by_names_and_numbers)
{
    static const struct {
        const char *value, *path, *there; /* NULL: nothing */
    } rows[] = {
        {"{\"a\": {\"b\": [10, {\"c\": 1.10}]}}", "a.b.1.c", "1.10"},
        {"{\"a\": {\"b\": [10, 11]}}", "a.b.1", "11"},
        {"{\"a\": {\"b\": [10, 11]}}", "a.b.2", NULL},
        {"{\"a\": {\"b\": [10, 11]}}", "a.b.-1", NULL},
        {"{\"a\": {\"b\": [10, 11]}}", "a.b.01", NULL},
        {"{\"a\": {\"b\": [10, 11]}}", "a.b.", NULL},
        {"{\"a\": {\"b\": [10, 11]}}", "a.b.1.0", NULL},
        {"{\"a\": null}", "a", "null"},
        {"[[1, 2], [3]]", "0.1", "2"},
        {"[1]", "99999999999999999999", NULL},
        {"{\"0\": 5}", "0", "5"},
        {"{\"a\": {\"b\": 1}, \"a.b\": 2}", "a.b", "2"},
        {"{\"a.b\": {\"c\": 2}, \"a\": {\"b\": {\"c\": 1}}}", "a.b.c", "1"},
        {"{\"a.b\": {\"c\": 2}, \"a\": {\"b\": 1}}", "a.b.c", "2"},
        {"{\"\\u0061\": {\"\\u0062\": \"\\u0063\"}}", "a.b", "\"\\u0063\""},
        {"{\"\": {\"\": 1}}", ".", "1"},
        {"\"text\"", "a", NULL},
        {"7", "0", NULL},
        {"{}", "a", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct span at = reference_at(json(rows[i].value), span_of(rows[i].path));
        if (rows[i].there)
            cr_expect(span_is(at, rows[i].there), "%s of %s: %.*s", rows[i].path, rows[i].value, (int)at.len,
                      at.p);
        else
            cr_expect_null(at.p, "%s of %s: %.*s", rows[i].path, rows[i].value, (int)at.len, at.p);
    }
}

/* --- replacing ------------------------------------------------------------------------------- */

static bool known_results(void *context, const struct reference *r, struct span *value, struct reason *why)
{
    (void)context;
    *value = (struct span){NULL, 0};
    if (!r->whose.p)
        *value = SPAN(" {\"n\": 12345678901234567890, \"list\": [1.10, {\"$result\": true}]} ");
    else if (span_is(r->whose, "text"))
        *value = SPAN("\"gr\\u00fc\xC3\x9F\"");
    else if (span_is(r->whose, "none"))
        *value = SPAN("null");
    else if (!span_is(r->whose, "failed"))
        reason_set(why, "there is no %.*s", (int)r->whose.len, r->whose.p);
    return value->p || span_is(r->whose, "failed");
}

Test(compose, a_result_takes_the_place_of_its_reference)
{
    static const struct {
        const char *args, *made, *faults;
    } rows[] = {
        {" { \"a\" : 1.10 , \"b\" : [ ] } ", " { \"a\" : 1.10 , \"b\" : [ ] } ", ""},
        {"{\"$result\": true, \"path\": \"n\"}", "12345678901234567890", ""},
        {"[ {\"$result\": true, \"path\": \"list.0\"} , {\"$result\": \"text\"},{\"$result\": \"none\"} ]",
         "[ 1.10 , \"gr\\u00fc\xC3\x9F\",null ]", ""},
        /* what came from elsewhere is never looked into */
        {"{\"$result\": true, \"path\": \"list.1\"}", "{\"$result\": true}", ""},
        {"{\"x\": {\"$result\": true, \"path\": \"m\"}, \"y\": {\"$result\": \"gone\"}}", "",
         "/args/x: the result of the one it comes after has no `m`\n/args/y: there is no gone\n"},
        {"{\"x\": {\"$result\": \"text\", \"path\": \"a.0\"}}", "", "/args/x: the result of text has no `a.0`\n"},
        {"[{\"$result\": \"failed\"}, {\"$result\": \"failed\", \"path\": \"a.b\"}]", "[null, null]", ""},
        {"{\"x\": {\"$result\": \"none\", \"path\": \"a\"}}", "", "/args/x: the result of none has no `a`\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct faults faults = {0};
        struct buf made = {0};
        enum err err = compose_substitute(json(rows[i].args), "/args", known_results, NULL, &made, &faults);
        cr_expect_eq(err, *rows[i].faults ? ERR_INVALID : OK, "%s", rows[i].args);
        cr_expect_str_eq(buf_cstr(&made), rows[i].made, "%s: %s", rows[i].args, buf_cstr(&made));
        expect_faults(&faults, rows[i].faults, rows[i].args);
        buf_release(&made);
    }
}

static bool large_result(void *context, const struct reference *r, struct span *value, struct reason *why)
{
    (void)r, (void)why;
    *value = buf_span(context);
    return true;
}

Test(compose, what_is_made_has_a_size)
{
    struct buf result = {0}, made = {0};
    struct faults faults = {0};
    buf_addc(&result, '"');
    for (int i = 0; i < (4 << 20); i += 8)
        buf_adds(&result, "xxxxxxxx");
    buf_addc(&result, '"');
    cr_expect_eq(compose_substitute(SPAN("[{\"$result\":true},{\"$result\":true}]"), "/args", large_result,
                                    &result, &made, &faults),
                 OK);
    cr_expect_eq(made.len, 2 * result.len + 3);
    made.len = 0;
    cr_expect_eq(compose_substitute(SPAN("[{\"$result\":true},{\"$result\":true},{\"$result\":true}]"), "/args",
                                    large_result, &result, &made, &faults),
                 ERR_LIMIT);
    cr_expect_eq(made.len, 0);
    expect_faults(&faults, "/args/2: makes the arguments longer than 10 MiB\n", "three of them");
    buf_release(&result);
    buf_release(&made);
}

Test(compose, what_is_made_is_nested_no_deeper_than_what_is_sent)
{
    static const struct {
        int around, inside;
        bool good;
    } rows[] = {{0, 63, true},  {0, 64, false},  {1, 62, true}, {1, 63, false},
                {31, 32, true}, {32, 32, false}, {63, 0, true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf args = {0}, result = {0}, made = {0};
        struct faults faults = {0};
        for (int n = 0; n < rows[i].around; n++)
            buf_addc(&args, '[');
        buf_adds(&args, "{\"$result\":true}");
        for (int n = 0; n < rows[i].around; n++)
            buf_addc(&args, ']');
        for (int n = 0; n < rows[i].inside; n++)
            buf_addc(&result, '[');
        buf_adds(&result, "\"]\\\"[[\"");
        for (int n = 0; n < rows[i].inside; n++)
            buf_addc(&result, ']');
        enum err err = compose_substitute(buf_span(&args), "/args", large_result, &result, &made, &faults);
        cr_expect_eq(err, rows[i].good ? OK : ERR_INVALID, "row %zu", i);
        if (rows[i].good)
            cr_expect_eq(json_check(made.data, made.len, JSON_DEPTH_MAX, NULL), OK, "row %zu", i);
        faults_release(&faults);
        buf_release(&args);
        buf_release(&result);
        buf_release(&made);
    }
}

/* --- merging ----------------------------------------------------------------------------------- */

#define SHAPE "{source: string, width: {type: integer, default: 640}, deep: {type: boolean, default: false}}"

Test(compose, what_a_member_says_goes_over_what_is_shared)
{
    static const struct {
        const char *params, *common, *args, *made, *faults;
    } rows[] = {
        {NULL, NULL, NULL, "null", ""},
        {NULL, NULL, "[1, 2]", "[1, 2]", ""},
        {NULL, "{\"a\": 1}", NULL, "{\"a\": 1}", ""},
        {NULL, "{\"a\": 1, \"b\": 1.10}", "{\"c\": 3, \"a\": 2}", "{\"b\":1.10,\"c\":3,\"a\":2}", ""},
        {NULL, "{\"\\u0061\": 1, \"b\\n\": 2}", "{\"a\": 3, \"b\\u000a\": 4}", "{\"a\":3,\"b\\u000a\":4}", ""},
        {NULL, "{}", "{}", "{}", ""},
        {NULL, "{\"a\": 1}", "{}", "{\"a\":1}", ""},
        {NULL, "{\"a\": 1}", "[1]", "",
         "/args: must be an object, to be merged with common_args: the task has no `params` by which positions "
         "would have names\n"},
        {NULL, "{\"a\": 1}", "null", "",
         "/args: must be an object, to be merged with common_args: the task has no `params` by which positions "
         "would have names\n"},
        {SHAPE, "{\"width\": 7}", "{\"source\": \"a\"}", "{\"source\":\"a\",\"width\":7,\"deep\":false}", ""},
        {SHAPE, "{\"width\": 7}", "[\"a\"]", "{\"source\":\"a\",\"width\":7,\"deep\":false}", ""},
        {SHAPE, "{\"width\": 7, \"deep\": true}", "[\"a\", 8]", "{\"source\":\"a\",\"width\":8,\"deep\":true}",
         ""},
        {SHAPE, "{\"source\": \"a\"}", NULL, "{\"source\":\"a\",\"width\":640,\"deep\":false}", ""},
        /* who covers what does not fit mends it */
        {SHAPE, "{\"width\": \"wide\"}", "[\"a\", 8]", "{\"source\":\"a\",\"width\":8,\"deep\":false}", ""},
        {SHAPE, "{\"width\": \"wide\", \"height\": 1}", "[7]", "",
         "/common_args/height: there is no parameter `height`\n"
         "/args/0: `source` must be a string, not an integer\n"
         "/common_args/width: `width` must be an integer, not a string\n"},
        {SHAPE, "{\"width\": 1}", "{\"source\": {\"$result\": true}}", "",
         "/args/source: `source` must be a string, not an object\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct params *params = parsed(rows[i].params);
        struct faults faults = {0};
        struct buf made = {0};
        enum err err = compose_bind(params, json(rows[i].common), json(rows[i].args), &made, &faults);
        cr_expect_eq(err, *rows[i].faults ? ERR_INVALID : OK, "row %zu", i);
        cr_expect_str_eq(buf_cstr(&made), rows[i].made, "row %zu: %s", i, buf_cstr(&made));
        expect_faults(&faults, rows[i].faults, rows[i].args ? rows[i].args : "none");
        buf_release(&made);
        params_free(params);
    }
}

Test(compose, a_member_covers_what_it_names_or_counts)
{
    static const struct {
        const char *params, *args, *uncovered;
    } rows[] = {
        {NULL, NULL, "{\"a\":1,\"\\u0062\":2}"},
        {NULL, "{\"b\": 0}", "{\"a\":1}"},
        {NULL, "{\"\\u0061\": 0}", "{\"\\u0062\":2}"},
        {NULL, "[0, 0]", "{\"a\":1,\"\\u0062\":2}"},
        {"{b: any, a: any}", "[0]", "{\"a\":1}"},
        {"{b: any, a: any}", "[0, 0]", "{}"},
        {"{b: any, a: any}", "{\"$result\": true}", "{\"a\":1,\"\\u0062\":2}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct params *params = parsed(rows[i].params);
        struct buf out = {0};
        compose_add_uncovered(&out, params, json("{\"a\": 1, \"\\u0062\": 2}"), json(rows[i].args));
        cr_expect_str_eq(buf_cstr(&out), rows[i].uncovered, "row %zu: %s", i, buf_cstr(&out));
        buf_release(&out);
        params_free(params);
    }
}

Test(compose, what_is_shared_has_limits)
{
    struct buf many = {0}, references = {0}, large = {0};
    struct faults faults = {0};
    for (int i = 0; i <= COMPOSE_COMMON_NAMES_MAX; i++)
        buf_addf(&many, "%s\"n%d\":%d", i ? "," : "{", i, i);
    buf_addc(&many, '}');
    buf_adds(&references, "{\"a\":[0");
    for (int i = 0; i <= COMPOSE_COMMON_REFERENCES_MAX; i++)
        buf_adds(&references, ",{\"$result\":true}");
    buf_adds(&references, "]}");
    buf_addf(&large, "{\"a\":\"%0*d\"}", COMPOSE_COMMON_BYTES_MAX, 0);
    const struct {
        struct span common;
        const char *faults;
    } rows[] = {
        {SPAN("{}"), ""},
        {SPAN("{\"a\": {\"$result\": true}}"), ""},
        {SPAN("[1]"), "/common_args: must be an object: what is shared is merged by name\n"},
        {SPAN("{\"$result\": true}"), "/common_args: must name what is shared: a reference alone has no name\n"},
        {buf_span(&many), "/common_args: has more than 256 names\n"},
        {buf_span(&references), "/common_args: has more than 16 references\n"},
        {buf_span(&large), "/common_args: is longer than 1 MiB\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum err err = compose_check_common(rows[i].common, "/common_args", &faults);
        cr_expect_eq(err, *rows[i].faults ? ERR_INVALID : OK, "row %zu", i);
        expect_faults(&faults, rows[i].faults, "common");
    }
    buf_release(&many);
    buf_release(&references);
    buf_release(&large);
}

/* --- at submission --------------------------------------------------------------------------------- */

static const char tasks[] =
    "add: {kind: command, run: [echo, '{x}', '{y}'], params: {x: integer, y: {type: integer,"
    " enum: [1, 2], default: 1}, o: {type: object, enum: [{a: 1}], default: {a: 1}}}}\n"
    "free: {kind: command, run: [echo, '{x}']}\n";

static struct registry *read_tasks(void)
{
    struct faults faults = {0};
    struct yaml *doc = yaml_parse(SPAN(tasks), &faults);
    cr_assert(doc);
    struct registry_source source = {.doc = doc, .tasks = yaml_root(doc), .folder = "/"};
    struct registry *registry = registry_parse(kinds, &source, &faults);
    cr_assert(registry, "%s", faults.count ? faults.items[0].detail : "");
    yaml_free(doc);
    return registry;
}

Test(compose, a_reference_fits_everywhere_until_its_value_is_known)
{
    static const struct {
        const char *task, *common, *args, *faults;
    } rows[] = {
        {"add", NULL, "[{\"$result\": true}, {\"$result\": \"b\"}]", ""},
        {"add", NULL, "{\"$result\": true}", ""},
        {"add", NULL, "{\"x\": 1, \"o\": {\"a\": {\"$result\": true}}}", ""},
        {"add", NULL, "{\"x\": 1, \"o\": {\"a\": 2}}", "/args/o: `o` must be one of [{\"a\":1}]\n"},
        {"add", NULL, "{\"x\": [{\"$result\": true}]}", "/args/x: `x` must be an integer, not an array\n"},
        {"add", NULL, "{\"x\": \"a\", \"y\": {\"$result\": true}}",
         "/args/x: `x` must be an integer, not a string\n"},
        {"add", NULL, "{\"y\": {\"$result\": true}}", "/args/x: `x` is missing: an integer\n"},
        {"add", "{\"x\": {\"$result\": true}}", NULL, ""},
        {"add", "{\"x\": \"a\"}", "{\"$result\": true}", "/common_args/x: `x` must be an integer, not a string\n"},
        {"add", "{\"z\": 1}", "{\"$result\": true}", "/common_args/z: there is no parameter `z`\n"},
        {"free", NULL, "{\"x\": {\"$result\": true}}", ""},
        {"free", NULL, "{\"$result\": true}", ""},
        {"free", NULL, "{\"y\": {\"$result\": true}}", "/args/x: is missing: the command needs it\n"},
        {"free", "{\"x\": 1}", NULL, ""},
        {"free", "{\"x\": 1}", "{\"$result\": true}", ""},
        {"free", "{\"y\": 1}", "{\"z\": 1}", "/args/x: is missing: the command needs it\n"},
        {"free", "{\"x\": \"a\\u0000\"}", "{}", "/args/x: contains \\u0000, which no command line can hold\n"},
    };
    struct registry *registry = read_tasks();
    struct buf scratch = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct faults faults = {0};
        const struct task *task = registry_find(registry, span_of(rows[i].task));
        enum err err = compose_check(task, json(rows[i].common), json(rows[i].args), true, &scratch, &faults);
        cr_expect_eq(err, *rows[i].faults ? ERR_INVALID : OK, "row %zu", i);
        expect_faults(&faults, rows[i].faults, rows[i].args ? rows[i].args : "none");
    }
    buf_release(&scratch);
    registry_unref(registry);
}

Test(compose, a_sketch_stands_for_what_was_seen)
{
    struct registry *registry = read_tasks();
    const struct task *add = registry_find(registry, SPAN("add"));
    struct buf sketch = {0}, scratch = {0};
    struct faults faults = {0};
    compose_add_sketch(&sketch, json(" {\"x\": [1, 2], \"\\u0079\" : 7} "));
    cr_expect_str_eq(buf_cstr(&sketch), "{\"x\":{\"$result\":true},\"\\u0079\":{\"$result\":true}}");
    cr_expect_eq(compose_check(add, buf_span(&sketch), json(NULL), false, &scratch, &faults), OK);
    cr_expect_eq(compose_check(add, buf_span(&sketch), json("[{\"$result\": true}]"), true, &scratch, &faults),
                 OK);
    cr_expect_eq(compose_check(add, buf_span(&sketch), json("[{\"$result\": true}]"), false, &scratch, &faults),
                 ERR_INVALID);
    expect_faults(&faults, "/args/0: `x` must be an integer, not an object\n", "data");
    cr_expect_eq(compose_check(add, buf_span(&sketch), json("[\"a\"]"), false, &scratch, &faults), ERR_INVALID);
    expect_faults(&faults, "/args/0: `x` must be an integer, not a string\n", "a member");
    buf_release(&sketch);
    buf_release(&scratch);
    registry_unref(registry);
}
