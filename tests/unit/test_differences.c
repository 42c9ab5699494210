#include "workers/differences.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *one, *other, *differs;
} rows[] = {
    {"{'a':1,'b':[1,{'c':2}]}", "{'b': [1, {'c': 2}], 'a': 1}", ""},
    {"null", "null", ""},
    {"1", "1.0", "'/args'"},
    {"{}", "[]", "'/args'"},
    {"{'x':1}", "{'x':2}", "'/args/x'"},
    {"{'x':1}", "{}", "'/args/x'"},
    {"{}", "{'x':null}", "'/args/x'"},
    {"{'b':1,'d':1}", "{'a':1,'b':2,'c':1}", "'/args/a','/args/b','/args/c','/args/d'"},
    {"[1,2,3]", "[1,5,3]", "'/args/1'"},
    {"[1,2,3]", "[1,2]", "'/args'"},
    {"{'a/b':{'~':1}}", "{'a/b':{'~':2}}", "'/args/a~1b/~0'"},
    {"{'\\u0061':1}", "{'a':1}", ""},
    {"{'\\n':1,'z':0}", "{'\\n':2,'z':0}", "'/args/\\n'"},
    {"'\\u0041'", "'A'", ""},
    {"{'a':{'b':{'c':[0,{'d':1}]}}}", "{'a':{'b':{'c':[0,{'d':2,'e':3}]}}}",
     "'/args/a/b/c/1/d','/args/a/b/c/1/e'"},
};

static char *quoted(const char *text)
{
    static char copies[4][200]; /* as many live at a time */
    static int next;
    char *copy = copies[next++ % 4];
    snprintf(copy, sizeof copies[0], "%s", text);
    for (char *c = copy; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    return copy;
}

Test(differences, each_place_is_named_once)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out = {0};
        struct differences d = {.out = &out};
        differences_between(&d, "/args", span_of(quoted(rows[i].one)), span_of(quoted(rows[i].other)));
        cr_expect_str_eq(buf_cstr(&out), quoted(rows[i].differs), "%s, %s: %s", rows[i].one, rows[i].other,
                         buf_cstr(&out));
        buf_release(&out);
    }
}

Test(differences, there_are_not_more_than_so_many)
{
    struct buf out = {0}, one = {0};
    struct differences d = {.out = &out};
    buf_addc(&one, '{');
    for (int i = 0; i < 1000; i++)
        buf_addf(&one, "%s\"%d\":1", i ? "," : "", i);
    buf_addc(&one, '}');
    differences_between(&d, "", buf_span(&one), SPAN("{}"));
    cr_expect_eq(d.count, DIFFERENCES_MAX);
    buf_release(&out);
    buf_release(&one);
}

/* A name may be as long as a body. */
Test(differences, a_long_name_is_not_repeated)
{
    struct buf out = {0}, one = {0};
    struct differences d = {.out = &out};
    buf_addl(&one, "{\"x\":{\"");
    for (int i = 0; i < 5000; i++)
        buf_addc(&one, 'a');
    buf_addl(&one, "\":1}}");
    differences_between(&d, "/args", buf_span(&one), SPAN("{\"x\":{}}"));
    cr_expect_str_eq(buf_cstr(&out), "\"/args/x\"");
    buf_release(&out);
    buf_release(&one);
}
