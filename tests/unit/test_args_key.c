#include "workers/tasks/args_key.h"

#include <criterion/criterion.h>

static char *names_ab[] = {"a", "b", NULL}, *name_user_id[] = {"user.id", NULL};

static const struct args_key per_task, per_args = {.by = ARGS_KEY_ARGS},
                                       per_ab = {.by = ARGS_KEY_NAMES, .names = names_ab},
                                       per_user_id = {.by = ARGS_KEY_NAMES, .names = name_user_id};

Test(args_key, a_key_is_what_the_arguments_have_in_common)
{
    static const struct {
        const struct args_key *key;
        const char *bound, *expected;
    } rows[] = {
        {&per_task, "{\"a\": 1}", ""},
        {&per_task, "", ""},
        {&per_args, "{\"b\": 1, \"a\": [1, 2]}", "{\"a\":[1,2],\"b\":1}"},
        {&per_args, "", "null"},
        {&per_args, "[1, 1.0]", "[1,1.0]"},
        {&per_ab, "{\"b\": {\"y\": 1, \"x\": 2}, \"a\": \"\\u0041\"}", "[\"A\",{\"x\":2,\"y\":1}]"},
        {&per_ab, "{\"b\": 9007199254740993}", "[null,9007199254740993]"},
        {&per_ab, "{}", "[null,null]"},
        {&per_ab, "[1, 2]", "[null,null]"},
        {&per_ab, "\"a\"", "[null,null]"},
        {&per_ab, "", "[null,null]"},
        {&per_user_id, "{\"user\": {\"id\": 7}}", "[7]"},
        {&per_user_id, "{\"user.id\": 8, \"user\": {\"id\": 7}}", "[8]"},
        {&per_user_id, "{\"user\": 7}", "[null]"},
        {&per_user_id, "{\"user\": {\"name\": 7}}", "[null]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out = {0};
        args_key_add(&out, rows[i].key, span_of(rows[i].bound));
        cr_expect_str_eq(buf_cstr(&out), rows[i].expected, "row %zu: %s", i, buf_cstr(&out));
        buf_release(&out);
    }
}

Test(args_key, the_configuration_reads_back_what_it_shows)
{
    static const struct {
        const char *yaml, *shown; /* NULL: a fault */
    } rows[] = {
        {"per: task", "\"task\""},
        {"per: args", "\"args\""},
        {"per: [a, user.id]", "[\"a\",\"user.id\"]"},
        {"per: [a, 7]", "[\"a\",\"7\"]"},
        {"per: []", NULL},
        {"per: [a, [b]]", NULL},
        {"per: all", NULL},
        {"per: {a: 1}", NULL},
        {"per: [a, '']", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct faults faults = {0};
        struct args_key key = {0}, copy = {0};
        struct buf out = {0};
        struct yaml *doc = yaml_parse(span_of(rows[i].yaml), &faults);
        cr_assert(doc);
        struct keys_input in = {.doc = doc, .folder = "/", .faults = &faults};
        args_key_read(&in, cJSON_GetObjectItemCaseSensitive(yaml_root(doc), "per"), "/per", &key);
        cr_expect_eq(faults.total == 0, rows[i].shown != NULL, "row %zu", i);
        args_key_copy(&copy, &key);
        if (rows[i].shown) {
            args_key_add_json(&out, &copy);
            cr_expect_str_eq(buf_cstr(&out), rows[i].shown, "row %zu: %s", i, buf_cstr(&out));
        }
        args_key_release(&key);
        args_key_release(&copy);
        buf_release(&out);
        yaml_free(doc);
        faults_release(&faults);
    }
}
