#include "base/yaml.h"
#include "base/clock.h"
#include "base/json.h"
#include <criterion/criterion.h>
#include <stdlib.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static struct yaml *parse(struct span text)
{
    struct faults faults = {0};
    struct yaml *doc = yaml_parse(text, &faults);
    cr_assert_eq(faults.total, 0, "line %d: %s", faults.items[0].line, faults.items[0].detail);
    cr_assert_not_null(doc);
    return doc;
}

Test(yaml, becomes_json)
{
    static const struct row {
        const char *name, *text, *json;
    } rows[] = {
        {"an empty text", "", "{}"},
        {"only a comment", "# nothing\n", "{}"},
        {"a byte order mark",
         "\xEF\xBB\xBF"
         "a: 1",
         "{\"a\":1}"},
        {"a mapping", "b: 1\na: two words\n", "{\"b\":1,\"a\":\"two words\"}"},
        {"a start marker", "---\na: 1\n...\n", "{\"a\":1}"},
        {"a root that is a scalar", "5", "5"},
        {"nothing", "a:\nb: ~\nc: null\nd: {e}\n", "{\"a\":null,\"b\":null,\"c\":null,\"d\":{\"e\":null}}"},
        {"booleans", "[true, false]", "[true,false]"},
        {"not booleans", "[yes, no, on, True, FALSE]", "[\"yes\",\"no\",\"on\",\"True\",\"FALSE\"]"},
        {"not nulls", "[Null, NULL, '', \"\", 'null', '~']", "[\"Null\",\"NULL\",\"\",\"\",\"null\",\"~\"]"},
        {"numbers keep their digits", "[0, -0, 1.10, 1e3, 1E-2, 12345678901234567890123, 1e999]",
         "[0,-0,1.10,1e3,1E-2,12345678901234567890123,1e999]"},
        {"not JSON numbers", "[01, +1, .5, 1., 0x1F, 0o17, 1_000, .inf, .nan, 1:30, -]",
         "[\"01\",\"+1\",\".5\",\"1.\",\"0x1F\",\"0o17\",\"1_000\",\".inf\",\".nan\",\"1:30\",\"-\"]"},
        {"quoted numbers", "['1', \"2\"]", "[\"1\",\"2\"]"},
        {"times and versions", "[2026-01-02, 127.0.0.1, 1.2.3, 10m]",
         "[\"2026-01-02\",\"127.0.0.1\",\"1.2.3\",\"10m\"]"},
        {"keys are strings", "false: 1\nnull: 2\n3: 4\n~: 5\n", "{\"false\":1,\"null\":2,\"3\":4,\"~\":5}"},
        {"an empty key", "? \n: 1\n", "{\"\":1}"},
        {"nested", "a:\n- x: 1\n  y: [2, {z: 3}]\n-\n", "{\"a\":[{\"x\":1,\"y\":[2,{\"z\":3}]},null]}"},
        {"block texts", "a: |\n  one\n  two\nb: >\n  one\n  two\n",
         "{\"a\":\"one\\ntwo\\n\",\"b\":\"one two\\n\"}"},
        {"a block text of digits", "a: |-\n  12\n", "{\"a\":\"12\"}"},
        {"escapes", "\"\\u00e9\\t\\\"\"", "\"\xC3\xA9\\t\\\"\""},
        {"a merge key is a key", "<<: 1", "{\"<<\":1}"},
        {"the same key in other mappings", "a: {a: 1}\nb: {a: 1}\n", "{\"a\":{\"a\":1},\"b\":{\"a\":1}}"},
        {"keys that differ in case", "a: 1\nA: 2\n", "{\"a\":1,\"A\":2}"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct yaml *doc = parse(span_of(rows[i].text));
        struct buf json = {0};
        yaml_add_json(&json, yaml_root(doc));
        cr_expect_str_eq(buf_cstr(&json), rows[i].json, "%s: %s", rows[i].name, json.data);
        cr_expect_eq(json_check(json.data, json.len, 64, NULL), OK, "%s", rows[i].name);
        buf_release(&json);
        yaml_free(doc);
    }
}

Test(yaml, numbers_are_numbers_with_text)
{
    struct yaml *doc = parse(SPAN("port: 8080\nbig: 12345678901234567890\n"));
    const cJSON *port = cJSON_GetObjectItemCaseSensitive(yaml_root(doc), "port");
    const cJSON *big = cJSON_GetObjectItemCaseSensitive(yaml_root(doc), "big");
    cr_assert(cJSON_IsNumber(port));
    cr_expect_eq(port->valueint, 8080);
    cr_expect_str_eq(port->valuestring, "8080");
    cr_expect_str_eq(big->valuestring, "12345678901234567890");
    yaml_free(doc);
}

Test(yaml, trees_made_elsewhere_are_written_too)
{
    cJSON *tree = cJSON_CreateObject();
    cJSON_AddNumberToObject(tree, "n", 0.5);
    cJSON_AddBoolToObject(tree, "t", true);
    struct buf json = {0};
    yaml_add_json(&json, tree);
    cr_expect_str_eq(buf_cstr(&json), "{\"n\":0.5,\"t\":true}");
    buf_release(&json);
    cJSON_Delete(tree);
}

Test(yaml, items_remember_their_lines)
{
    struct yaml *doc = parse(SPAN("# comment\n"
                                  "a: 1\n"
                                  "b:\n"
                                  "  c:\n"
                                  "    - x\n"
                                  "    - y: |\n"
                                  "        text\n"
                                  "      z: {deep:\n"
                                  "        1}\n"));
    const cJSON *root = yaml_root(doc);
    const cJSON *c = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "b"), "c");
    const cJSON *second = cJSON_GetArrayItem(c, 1);
    cJSON *foreign = cJSON_CreateNull();
    cr_expect_eq(yaml_line(doc, root), 2);
    cr_expect_eq(yaml_line(doc, cJSON_GetObjectItem(root, "a")), 2);
    cr_expect_eq(yaml_line(doc, cJSON_GetObjectItem(root, "b")), 3);
    cr_expect_eq(yaml_line(doc, c), 4);
    cr_expect_eq(yaml_line(doc, cJSON_GetArrayItem(c, 0)), 5);
    cr_expect_eq(yaml_line(doc, second), 6);
    cr_expect_eq(yaml_line(doc, cJSON_GetObjectItem(second, "y")), 6);
    cr_expect_eq(yaml_line(doc, cJSON_GetObjectItem(second, "z")), 8);
    cr_expect_eq(yaml_line(doc, cJSON_GetObjectItem(cJSON_GetObjectItem(second, "z"), "deep")), 8);
    cr_expect_eq(yaml_line(doc, foreign), 0);
    cJSON_Delete(foreign);
    yaml_free(doc);
}

Test(yaml, faults_name_their_line)
{
    static const struct row {
        const char *name, *text;
        int line;
        const char *pointer, *detail; /* a part of it */
    } rows[] = {
        {"a duplicate key", "a: 1\nb: 2\na: 3\n", 3, "/a", "already on line 1"},
        {"a duplicate key below", "x:\n- b: 1\n- c: 1\n  \"c\": 2\n", 4, "/x/1/c", "already on line 3"},
        {"a key with a slash", "a/b: {c: 1, c: 2}", 1, "/a~1b/c", "already"},
        {"an anchor", "a: &x 1\n", 1, "/a", "anchors"},
        {"an anchor on a mapping", "a:\n  - &x {}\n", 2, "/a/0", "anchors"},
        {"an alias", "a: 1\nb: *x\n", 2, "/b", "aliases"},
        {"a tag", "a: !!str 1\n", 1, "/a", "tags"},
        {"a tag on a sequence", "a: !x [1]\n", 1, "/a", "tags"},
        {"a second document", "a: 1\n---\nb: 2\n", 2, "", "second document"},
        {"a mapping as a key", "? {a: 1}\n: 2\n", 1, "", "a key must be"},
        {"a NUL", "a: 1\nb: \"\\0\"\n", 2, "/b", "U+0000"},
        {"a tab", "a: 1\n\tb: 2\n", 2, "", ""},
        {"bad indentation", "a:\n  - 1\n b: 2\n", 3, "", "line 1"},
        {"an open bracket", "a: [1,\n", 2, "", ""},
        {"an open quote", "a: 'x\n", 2, "", "quoted scalar"},
        {"not UTF-8", "a: 1\nb: \xFF\n", 2, "", "UTF-8"},
        {"a control character", "a: 1\n\nb: \x01\n", 3, "", "control characters"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct faults faults = {0};
        cr_expect_null(yaml_parse(span_of(rows[i].text), &faults), "%s", rows[i].name);
        cr_assert_eq(faults.count, 1, "%s", rows[i].name);
        const struct fault *fault = &faults.items[0];
        cr_expect_eq(fault->line, rows[i].line, "%s: line %d", rows[i].name, fault->line);
        cr_expect_str_eq(fault->pointer, rows[i].pointer, "%s", rows[i].name);
        cr_expect_not_null(strstr(fault->detail, rows[i].detail), "%s: %s", rows[i].name, fault->detail);
        faults_release(&faults);
    }
}

Test(yaml, several_faults_are_told_at_once)
{
    struct faults faults = {0};
    faults_add(&faults, 0, "", "from before");
    cr_expect_null(yaml_parse(SPAN("a: 1\na: 2\nb: !t 3\na: &x 4\n"), &faults));
    cr_expect_eq(faults.total, 5);
    cr_expect_eq(faults.items[4].line, 4);
    faults_release(&faults);
}

Test(yaml, faults_of_others_do_not_spoil_a_good_text)
{
    struct faults faults = {0};
    faults_add(&faults, 0, "", "from before");
    struct yaml *doc = yaml_parse(SPAN("a: 1"), &faults);
    cr_expect_not_null(doc);
    yaml_free(doc);
    yaml_free(NULL);
    faults_release(&faults);
}

Test(yaml, nesting_and_size_are_limited)
{
    for (int depth = 64; depth <= 65; depth++) {
        struct buf text = {0};
        for (int i = 0; i < depth; i++)
            buf_addc(&text, '[');
        for (int i = 0; i < depth; i++)
            buf_addc(&text, ']');
        struct faults faults = {0};
        struct yaml *doc = yaml_parse(buf_span(&text), &faults);
        cr_expect_eq(doc != NULL, depth == 64);
        cr_expect_eq(faults.total, depth - 64);
        yaml_free(doc);
        faults_release(&faults);
        buf_release(&text);
    }
    struct buf text = {0};
    buf_reserve(&text, (4 << 20) + 1);
    memset(text.data, '#', (4 << 20) + 1);
    text.len = (4 << 20) + 1;
    struct faults faults = {0};
    cr_expect_null(yaml_parse(buf_span(&text), &faults));
    cr_expect_eq(faults.total, 1);
    text.len--;
    faults_release(&faults);
    struct yaml *doc = yaml_parse(buf_span(&text), &faults);
    cr_expect_not_null(doc);
    yaml_free(doc);
    buf_release(&text);
}

Test(yaml, many_keys_take_linear_time)
{
    struct buf text = {0};
    for (int i = 0; i < 50000; i++)
        buf_addf(&text, "key%d: %d\n", i, i);
    int64_t start = clock_mono_us();
    struct yaml *doc = parse(buf_span(&text));
    /* 0.1 s; looking through all keys before each takes 10 s or more */
    cr_expect(clock_mono_us() - start < 3000000);
    cr_expect_eq(cJSON_GetArraySize(yaml_root(doc)), 50000);
    yaml_free(doc);
    buf_release(&text);
}
