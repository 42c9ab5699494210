#include "workers/tasks/argument.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const struct {
    const char *bound, *path, *text; /* NULL: none */
} rows[] = {
    {"{\"a\":7}", "a", "7"},
    {"{\"a\":1.10}", "a", "1.10"},
    {"{\"a\":\"x y\"}", "a", "x y"},
    {"{\"a\":\"\"}", "a", ""},
    {"{\"a\":\"\\u00e9\\n\"}", "a", "\xc3\xa9\n"},
    {"{\"a\":true}", "a", "true"},
    {"{\"a\":null}", "a", "null"},
    {"{\"a\":{}}", "a", NULL},
    {"{\"a\":[1]}", "a", NULL},
    {"{\"a\":1}", "b", NULL},
    {"{\"user\":{\"id\":7}}", "user.id", "7"},
    {"{\"user.id\":8,\"user\":{\"id\":7}}", "user.id", "8"},
    {"{\"a\":{\"b\":{\"c\":\"deep\"}}}", "a.b.c", "deep"},
    {"[1]", "a", NULL},
    {"7", "a", NULL},
    {"null", "a", NULL},
};

Test(argument, a_scalar_is_a_text)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out = {0};
        bool found = argument_text(span_of(rows[i].bound), rows[i].path, &out);
        cr_expect_eq(found, rows[i].text != NULL, "%s %s", rows[i].bound, rows[i].path);
        cr_expect_str_eq(buf_cstr(&out), found ? rows[i].text : "", "%s %s", rows[i].bound, rows[i].path);
        buf_release(&out);
    }
}
