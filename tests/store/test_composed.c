/* Arguments made when a turn starts, of what a group shares and of the results of those
 * it comes after. */
#include "base/id.h"
#include "tests/store/groups.h"
#include "workers/composed.h"
#include "workers/tasks/params.h"

#include <stdio.h>
#include <stdlib.h>

static int64_t finished(struct fixture *f, int64_t id, enum status status, struct span result)
{
    struct waited w;
    started(&w, f, id, 1);
    w.finish.result = result;
    IS_OK(end(&w, f, FINISH_FINAL, status));
    return id;
}

static int64_t finished_one(struct fixture *f, const char *result)
{
    return finished(f, submit(f), STATUS_SUCCEEDED, span_of(result));
}

static int64_t composed_after(struct fixture *f, const char *args, const int64_t *after, int count)
{
    struct submission s = plain(f);
    s.args = span_of(args);
    s.after = after;
    s.after_count = count;
    s.after_policy = AFTER_ANY;
    s.composed = true;
    submit_all(f, &s, 1);
    return s.id;
}

static struct params *parsed(const char *yaml)
{
    struct faults faults = {0};
    struct yaml *doc = yaml ? yaml_parse(span_of(yaml), &faults) : NULL;
    struct params *params = doc ? params_parse(doc, yaml_root(doc), "/params", &faults) : NULL;
    yaml_free(doc);
    return params;
}

/* `expected` begins with a slash where it is the place of a fault. */
static void expect_args(struct fixture *f, int64_t id, const char *params_yaml, const char *expected)
{
    struct params *params = parsed(params_yaml);
    struct buf out = {0};
    struct reason why = {""};
    buf_adds(&out, "so far ");
    enum err err = composed_read(f->reader, id, params, &out, &why);
    cr_expect_eq(err, *expected == '/' ? ERR_INVALID : OK, "%s: %s", expected, why.text);
    if (err == OK)
        cr_expect_str_eq(buf_cstr(&out) + 7, expected);
    else
        cr_expect_str_eq(why.text, expected);
    cr_expect(err == OK || out.len == 7, "nothing is left of it");
    buf_release(&out);
    params_free(params);
}

static char *with_id(const char *format, int64_t id)
{
    static char texts[4][256];
    static int next;
    char text[ID_TEXT_LEN + 1] = "";
    id_format(id, text);
    next = (next + 1) % 4;
    snprintf(texts[next], sizeof texts[next], format, text);
    return texts[next];
}

STORE_TEST(results_stand_in_arguments_by_true_and_by_id)
{
    int64_t two[2] = {finished_one(f, "{\"n\": 12345678901234567890, \"list\": [1.10, null]}"),
                      finished_one(f, "7")};
    expect_args(f, composed_after(f, "{\"$result\": true}", two, 1), NULL,
                "{\"n\": 12345678901234567890, \"list\": [1.10, null]}");
    expect_args(f, composed_after(f, "[{\"$result\": true, \"path\": \"list.0\"}]", two, 1), NULL, "[1.10]");
    expect_args(f, composed_after(f, with_id("{\"a\": {\"$result\": \"%s\"}}", two[1]), two, 2), NULL,
                "{\"a\": 7}");
    expect_args(f, composed_after(f, "[{\"$result\": true, \"path\": \"n\"}]", two, 1), "{x: integer}",
                "{\"x\":12345678901234567890}");
    expect_args(f, composed_after(f, "[{\"$result\": true}]", two, 1), "{x: integer}",
                "/args/0: `x` must be an integer, not an object");
    expect_args(f, composed_after(f, "[{\"$result\": true, \"path\": \"m\"}]", two, 1), NULL,
                "/args/0: the result of the one it comes after has no `m`");
    expect_args(f, composed_after(f, "[{\"$result\": true}]", two, 2), NULL,
                "/args/0: it does not come after one alone");
    int64_t stranger = submit(f);
    expect_args(f, composed_after(f, with_id("[{\"$result\": \"%s\"}]", stranger), two, 2), NULL,
                with_id("/args/0: it does not come after %s", stranger));
}

STORE_TEST(what_did_not_succeed_or_has_no_result_is_null)
{
    int64_t one[1] = {fail_for_good(f, submit(f))};
    expect_args(f, composed_after(f, "[{\"$result\": true}, {\"$result\": true, \"path\": \"a.b\"}]", one, 1),
                NULL, "[null, null]");
    one[0] = succeed(f, submit(f));
    expect_args(f, composed_after(f, "{\"a\": {\"$result\": true}}", one, 1), NULL, "{\"a\": null}");
    expect_args(f, composed_after(f, "{\"a\": {\"$result\": true, \"path\": \"b\"}}", one, 1), NULL,
                "/args/a: the result of the one it comes after has no `b`");
}

STORE_TEST(arguments_that_are_not_made_are_read_wherever_they_stand)
{
    struct submission s = plain(f);
    struct buf args = {0};
    buf_adds(&args, "[\"");
    for (int i = 0; i < INLINE_MAX; i++)
        buf_addc(&args, 'x');
    buf_adds(&args, "\", {\"$result\": true}]");
    s.args = buf_span(&args);
    submit_all(f, &s, 1);
    expect_args(f, s.id, NULL, buf_cstr(&args));
    s.args = SPAN("{\"$result\": 5}");
    submit_all(f, &s, 1);
    expect_args(f, s.id, NULL, "{\"$result\": 5}");
    s.args = (struct span){NULL, 0};
    submit_all(f, &s, 1);
    expect_args(f, s.id, NULL, "null");
    cr_expect_eq(composed_read(f->reader, 1, NULL, &args, &(struct reason){""}), ERR_NOT_FOUND);
    buf_release(&args);
}

STORE_TEST(large_results_are_read_and_have_a_limit_together)
{
    struct buf result = {0}, args = {0}, out = {0};
    struct reason why = {""};
    int64_t three[3];
    char ids[3][ID_TEXT_LEN + 1] = {""};
    buf_adds(&result, "{\"s\":\"");
    buf_reserve(&result, 9 << 19);
    memset(result.data + result.len, 'x', 9 << 19);
    result.len += 9 << 19;
    buf_adds(&result, "\",\"n\":1}");
    for (int i = 0; i < 3; i++) {
        three[i] = finished(f, submit(f), STATUS_SUCCEEDED, buf_span(&result));
        id_format(three[i], ids[i]);
    }
    buf_addf(&args, "[{\"$result\":\"%s\"},{\"$result\":\"%s\"}]", ids[0], ids[1]);
    enum err err = composed_read(f->reader, composed_after(f, buf_cstr(&args), three, 3), NULL, &out, &why);
    cr_assert_eq(err, OK, "%s", why.text);
    cr_expect_eq(out.len, 2 * result.len + 3);
    args.len--;
    buf_addf(&args, ",{\"$result\":\"%s\"}]", ids[2]);
    expect_args(f, composed_after(f, buf_cstr(&args), three, 3), NULL,
                "/args/2: makes the arguments longer than 10 MiB");
    /* by turns, so that not all stay in memory */
    args.len = 0;
    buf_addc(&args, '[');
    for (int i = 0; i < 18; i++)
        buf_addf(&args, "%s{\"$result\":\"%s\",\"path\":\"n\"}", i ? "," : "", ids[i % 3]);
    buf_addc(&args, ']');
    expect_args(f, composed_after(f, buf_cstr(&args), three, 3), NULL, "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]");
    buf_release(&args);
    buf_release(&out);
    buf_release(&result);
}

STORE_TEST(who_must_not_be_held_up_makes_no_arguments)
{
    int64_t one[1] = {finished_one(f, "7")};
    int64_t id = composed_after(f, "[{\"$result\": true}]", one, 1);
    struct buf out = {0};
    struct reason why;
    reader_be_brief(f->reader);
    cr_expect_eq(composed_read(f->reader, id, NULL, &out, &why), ERR_LIMIT);
    IS_OK(composed_read(f->reader, submit(f), NULL, &out, &why));
    buf_release(&out);
}

/* --- groups ------------------------------------------------------------------------------------- */

/* Members with such arguments, NULL for none. */
static struct test_group *composed_group(struct fixture *f, enum group_mode mode, const char *common,
                                         const char *const *args, int count)
{
    struct test_group *g = group_of(f, mode, count);
    g->group.common_args = span_of(common);
    for (int i = 0; i < count; i++) {
        g->items[i].args = span_of(args[i]);
        g->items[i].composed = true;
    }
    return g;
}

STORE_TEST(a_link_has_the_result_of_the_one_before_it)
{
    static const char *const args[] = {"{\"x\": 5}", NULL, "[2, {\"$result\": true}]"};
    struct test_group *g = composed_group(f, GROUP_CHAIN, "{\"x\": {\"$result\": true}, \"y\": 1.10}", args, 3);
    const int64_t *ids = g->ids;
    IS_OK(make_group(f, g, 0));
    expect_args(f, ids[0], NULL, "{\"y\":1.10,\"x\":5}");
    finished(f, ids[0], STATUS_SUCCEEDED, SPAN("12"));
    expect_args(f, ids[1], NULL, "{\"x\":12,\"y\":1.10}");
    finished(f, ids[1], STATUS_SUCCEEDED, SPAN("\"a\""));
    expect_args(f, ids[2], "{y: number, x: any}", "{\"y\":2,\"x\":\"a\"}");
    expect_args(f, ids[2], "{y: number, x: integer}", "/args/1: `x` must be an integer, not a string");
    expect_args(f, ids[2], NULL,
                "/args: must be an object, to be merged with common_args: the task has no `params` by which "
                "positions would have names");
    free(g);
}

STORE_TEST(the_link_before_it_is_meant_whatever_else_it_comes_after)
{
    static const char *const args[] = {"1", "[{\"$result\": true}]"};
    int64_t outside[2] = {finished_one(f, "8"), finished_one(f, "9")};
    struct test_group *g = composed_group(f, GROUP_CHAIN, NULL, args, 2);
    g->items[1].after = outside;
    g->items[1].after_count = 2;
    IS_OK(make_group(f, g, 0));
    finished(f, g->ids[0], STATUS_SUCCEEDED, SPAN("7"));
    expect_args(f, g->ids[1], NULL, "[7]");
    free(g);
}

STORE_TEST(a_member_of_a_graph_names_those_it_comes_after)
{
    static const int both[] = {0, 1}, top[] = {2};
    int64_t outside[1] = {finished_one(f, "[\"out\"]")};
    const char *args[] = {
        NULL,
        NULL,
        with_id("[{\"$result\": \"left\"}, {\"$result\": \"%s\", \"path\": \"0\"}, {\"$result\": \"right\"}]",
                outside[0]),
        "{\"x\": {\"$result\": \"left\"}}",
    };
    struct test_group *g = composed_group(f, GROUP_GRAPH, NULL, args, 4);
    g->items[0].name = SPAN("left");
    g->items[1].name = SPAN("right");
    g->items[2].name = SPAN("top");
    g->items[2].after = outside;
    g->items[2].after_count = 1;
    g->items[2].after_members = both;
    g->items[2].after_member_count = 2;
    g->items[3].after_members = top;
    g->items[3].after_member_count = 1;
    IS_OK(make_group(f, g, 0));
    finished(f, g->ids[0], STATUS_SUCCEEDED, SPAN("1"));
    finished(f, g->ids[1], STATUS_SUCCEEDED, SPAN("{\"r\": 2}"));
    expect_args(f, g->ids[2], NULL, "[1, \"out\", {\"r\": 2}]");
    expect_args(f, g->ids[3], NULL, "/args/x: it does not come after left");
    free(g);
}

STORE_TEST(what_comes_after_nobody_has_data)
{
    static const char *const args[] = {"{\"a\": {\"$result\": true}}", NULL};
    struct test_group *g = composed_group(f, GROUP_PARALLEL, "{\"b\": {\"$result\": 7}}", args, 2);
    IS_OK(make_group(f, g, 0));
    expect_args(f, g->ids[0], NULL, "{\"b\":{\"$result\": 7},\"a\":{\"$result\": true}}");
    expect_args(f, g->ids[1], NULL, "{\"b\": {\"$result\": 7}}");
    free(g);
}
