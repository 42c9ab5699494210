#include "base/clock.h"
#include "server/config/config.h"
#include "workers/group_submission.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const char text[] =
    "tasks:\n"
    "  any: {kind: command, run: [\"true\"], retention: 3d}\n"
    "  add: {kind: command, run: [\"true\"], params: {x: integer, y: {type: integer, default: 1}}}\n";

static const int64_t now_ms = 1700000000 * INT64_C(1000);

static struct config *config;
static struct submission_context context;
static struct group_read *group;
static char *body;

static void make_context(void)
{
    struct faults faults = {0};
    config = config_parse(span_of(text), "/", &faults);
    cr_assert(config, "%s %s", faults.count ? faults.items[0].pointer : "",
              faults.count ? faults.items[0].detail : "");
    context = (struct submission_context){.registry = config->registry, .owner = SPAN(""), .now_ms = now_ms};
}

static void free_all(void)
{
    group_read_free(group);
    group = NULL;
    free(body);
    body = NULL;
}

static void free_context(void)
{
    free_all();
    config_free(config);
}

TestSuite(group_submission, .init = make_context, .fini = free_context);

/* Reads a body with ' for ", in slices as short as can be. */
static struct group_read *read_as(const char *quoted, bool lines)
{
    free_all();
    body = xstrdup(quoted);
    for (char *p = body; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    group = group_read_new(&context, span_of(body), lines, 1000);
    while (group_read_go_on(group, 0))
        ;
    return group;
}

static const struct group_read *good(const char *quoted)
{
    struct group_read *read = read_as(quoted, false);
    cr_assert_eq(read->err, OK, "%s: %s %s", quoted, read->faults.count ? read->faults.items[0].pointer : "",
                 read->faults.count ? read->faults.items[0].detail : "");
    return read;
}

static const struct group_read *good_lines(const char *quoted)
{
    struct group_read *read = read_as(quoted, true);
    cr_assert_eq(read->err, OK, "%s: %s %s", quoted, read->faults.count ? read->faults.items[0].pointer : "",
                 read->faults.count ? read->faults.items[0].detail : "");
    return read;
}

Test(group_submission, arguments_are_positional_named_and_mixed)
{
    const struct group_read *read = good("{'task': 'add', 'args': [[1, 2], {'x': 3, 'y': 4}, 5]}");
    cr_assert_eq(read->group.total, 3);
    cr_expect(span_is(read->items[0].args, "[1, 2]"));
    cr_expect(span_is(read->items[1].args, "{\"x\": 3, \"y\": 4}"));
    cr_expect(span_is(read->items[2].args, "[5]"), "a single one is that of its first parameter");
    read = good("{'task': 'any', 'args': [5, null, 'a', [1]]}");
    cr_expect(span_is(read->items[0].args, "5"), "without parameters it is what was sent");
    cr_expect(span_is(read->items[1].args, "null"));
    cr_expect_eq(read->group.mode, GROUP_PARALLEL);
    cr_expect_not(read->items[0].composed);
}

Test(group_submission, what_is_said_beside_the_task_is_every_members)
{
    const struct group_read *read =
        good("{'task': 'any', 'args': [1, 2], 'priority': 7, 'timeout': '3s', 'max_retries': 2, 'delay': '1m',"
             "'labels': {'a': 'b'}, 'retention': '1d', 'fail_fast': true}");
    for (int i = 0; i < 2; i++) {
        const struct submission *s = &read->items[i];
        cr_expect_eq(s->priority, 7);
        cr_expect_eq(s->timeout_ms, 3000);
        cr_expect_eq(s->max_retries, 2);
        cr_expect_eq(s->run_at, now_ms + 60000);
        cr_expect_eq(s->delay_ms, 0);
        cr_expect_eq(s->retention_ms, 86400000);
        cr_expect(span_is(s->labels, "{\"a\": \"b\"}"));
    }
    cr_expect_eq(read->group.retention_ms, 86400000);
    cr_expect(span_is(read->group.labels, "{\"a\": \"b\"}"));
    cr_expect(read->group.fail_fast);
}

Test(group_submission, times_of_what_is_held_count_from_its_release)
{
    const struct group_read *read =
        good("{'task': 'any', 'args': [1], 'delay': '1m', 'expires_in': '2m', 'hold': true, 'release_by': '5m'}");
    cr_expect(read->group.hold);
    cr_expect_eq(read->group.release_by, now_ms + 300000);
    cr_expect_not(read->items[0].hold, "the group holds it");
    cr_expect_eq(read->items[0].delay_ms, 60000);
    cr_expect_eq(read->items[0].expires_ms, 120000);
    cr_expect_eq(read->items[0].run_at, 0);
    cr_expect_eq(read->items[0].expires_at, 0);
    read = good("{'task': 'any', 'args': [1, 2], 'delay': '1m', 'mode': 'chain', 'fail_fast': true}");
    cr_expect_eq(read->items[0].run_at, now_ms + 60000, "the first link is not held");
    cr_expect_eq(read->items[1].delay_ms, 60000);
    cr_expect_eq(read->group.mode, GROUP_CHAIN);
    cr_expect(read->group.fail_fast);
}

Test(group_submission, what_is_shared_is_stored_once_and_checked_with_each)
{
    const struct group_read *read =
        good("{'task': 'add', 'args': [{'x': 3}, [4], {}], 'common_args': {'x': 1, 'y': 2}}");
    cr_expect(span_is(read->group.common_args, "{\"x\": 1, \"y\": 2}"));
    cr_expect(read->items[0].composed);
    cr_expect(span_is(read->items[0].args, "{\"x\": 3}"));
    cr_expect_eq(read_as("{'task': 'add', 'args': [{'z': 3}], 'common_args': {'x': 1}}", false)->err, ERR_INVALID);
    cr_expect_str_eq(group->faults.items[0].pointer, "/args/0/z");
}

Test(group_submission, members_that_come_after_each_other_make_a_graph)
{
    const struct group_read *read = good(
        "{'invocations': [{'task': 'any', 'name': 'a'},"
        "{'task': 'add', 'name': 'b', 'after': ['a'], 'args': [{'$result': 'a'}], 'priority': 3},"
        "{'task': 'any', 'after': ['b', '0000000000001', '\\u0061'], 'after_policy': 'any', 'delay': '1s'}]}");
    cr_assert_eq(read->group.total, 3);
    cr_expect_eq(read->group.mode, GROUP_GRAPH);
    cr_expect(span_is(read->items[0].name, "a"));
    cr_expect(read->items[1].composed);
    cr_expect_eq(read->items[1].priority, 3);
    cr_assert_eq(read->items[1].after_member_count, 1);
    cr_expect_eq(read->items[1].after_members[0], 0);
    cr_assert_eq(read->items[2].after_member_count, 2);
    cr_expect_eq(read->items[2].after_members[0], 1);
    cr_expect_eq(read->items[2].after_members[1], 0);
    cr_assert_eq(read->items[2].after_count, 1);
    cr_expect_eq(read->items[2].after[0], 1);
    cr_expect_eq(read->items[2].after_policy, AFTER_ANY);
    cr_expect_eq(read->items[2].delay_ms, 1000);
    cr_expect_eq(read->group.retention_ms, INT64_C(7) * 86400000, "that of the member that is kept longest");
}

Test(group_submission, an_empty_group_is_one)
{
    cr_expect_eq(good("{'task': 'any', 'args': []}")->group.total, 0);
    cr_expect_eq(good("{'invocations': []}")->group.total, 0);
    cr_expect_eq(good("{'open': true}")->group.total, 0);
    cr_expect(group->group.open);
    cr_expect_eq(good_lines("{'task': 'any'}\n\n")->group.total, 0);
}

Test(group_submission, lines_have_the_groups_fields_first)
{
    const struct group_read *read = good_lines("\n{'task': 'add', 'mode': 'chain'}\r\n[1, 2]\n\n {'x': 3} \n4");
    cr_assert_eq(read->group.total, 3);
    cr_expect(span_is(read->items[1].args, "{\"x\": 3}"));
    cr_expect(span_is(read->items[2].args, "[4]"));
    read = good_lines("{'fail_fast': true}\n{'task': 'any', 'args': 1}\n{'task': 'add', 'args': [2]}\n");
    cr_assert_eq(read->group.total, 2);
    cr_expect(span_is(read->items[1].args, "[2]"));
}

Test(group_submission, a_key_is_the_groups_and_white_space_makes_no_other)
{
    uint8_t digest[32];
    const struct group_read *read = good("{'task': 'any', 'args': [1, 2], 'key': 'k', 'mode': 'chain'}");
    cr_expect(span_is(read->group.key, "k"));
    cr_expect_null(read->items[0].key.p);
    memcpy(digest, read->group.key_digest, sizeof digest);
    read = good(" { 'mode':'chain','key': 'k', 'args': [1,2], 'task': 'any'}");
    cr_expect_arr_eq(read->group.key_digest, digest, sizeof digest);
    read = good("{'task': 'any', 'args': [1, 3], 'key': 'k', 'mode': 'chain'}");
    cr_expect_neq(memcmp(read->group.key_digest, digest, sizeof digest), 0);
    read = good_lines("{'task': 'any', 'key': 'k'}\n1\n2\n");
    memcpy(digest, read->group.key_digest, sizeof digest);
    read = good_lines("{ 'key': 'k', 'task': 'any'}\n\n 1\n2");
    cr_expect_arr_eq(read->group.key_digest, digest, sizeof digest);
}

Test(group_submission, a_turns_group_has_a_step)
{
    context.parent = 5;
    context.parent_lease = 6;
    const struct group_read *read = good("{'task': 'any', 'args': [1], 'step': 's', 'detached': true}");
    cr_expect_eq(read->group.parent, 5);
    cr_expect_eq(read->group.parent_lease, 6);
    cr_expect(span_is(read->group.step, "s"));
    cr_expect(read->group.detached);
    cr_expect_eq(read->items[0].parent, 0);
    cr_expect_null(read->items[0].step.p);
}

Test(group_submission, each_fault_has_its_place)
{
    static const struct {
        const char *body, *pointer;
    } rows[] = {
        {"[]", ""},
        {"{}", ""},
        {"{'task': 'any'}", "/args"},
        {"{'task': 'any', 'args': 1}", "/args"},
        {"{'task': 'nobody', 'args': [1]}", "/task"},
        {"{'args': [1], 'invocations': []}", "/args"},
        {"{'task': 'any', 'args': [], 'invocations': []}", "/invocations"},
        {"{'task': 'any', 'args': [], 'mode': 'chian'}", "/mode"},
        {"{'task': 'any', 'args': [], 'mode': 1}", "/mode"},
        {"{'task': 'any', 'args': [], 'mode': 'chain', 'open': true}", "/open"},
        {"{'task': 'any', 'args': [], 'fail_fast': 1}", "/fail_fast"},
        {"{'task': 'any', 'args': [], 'common_args': [1]}", "/common_args"},
        {"{'task': 'any', 'args': [], 'release_by': '5m'}", "/release_by"},
        {"{'task': 'any', 'args': [], 'priority': 999}", "/priority"},
        {"{'task': 'any', 'args': [], 'group': '0000000000001'}", "/group"},
        {"{'task': 'any', 'args': [], 'step': 's'}", "/step"},
        {"{'invocations': [], 'priority': 1}", "/priority"},
        {"{'invocations': [], 'labels': 1}", "/labels"},
        {"{'task': 'add', 'args': [[1], ['a']]}", "/args/1/0"},
        {"{'task': 'add', 'args': [[1], {'z': 1, 'x': 1}]}", "/args/1/z"},
        {"{'invocations': [1]}", "/invocations/0"},
        {"{'invocations': [{'task': 'any'}, {'task': 'any', 'key': 'k'}]}", "/invocations/1"},
        {"{'invocations': [{'task': 'any', 'hold': true}]}", "/invocations/0"},
        {"{'invocations': [{'task': 'any', 'name': 1}]}", "/invocations/0/name"},
        {"{'invocations': [{'task': 'any', 'name': ''}]}", "/invocations/0/name"},
        {"{'invocations': [{'task': 'any', 'name': 'a'}, {'task': 'any', 'name': 'a'}]}", "/invocations/1/name"},
        {"{'invocations': [{'task': 'any', 'after': 'a'}]}", "/invocations/0/after"},
        {"{'invocations': [{'task': 'any', 'after': []}]}", "/invocations/0/after"},
        {"{'invocations': [{'task': 'any', 'after': ['a']}]}", "/invocations/0/after/0"},
        {"{'invocations': [{'task': 'any', 'name': 'a', 'after': [1]}]}", "/invocations/0/after/0"},
        {"{'invocations': [{'task': 'any', 'name': 'a'}, {'task': 'any', 'after': ['a', 'a']}]}",
         "/invocations/1/after/1"},
        {"{'invocations': [{'task': 'any', 'name': 'a', 'after': ['a']}]}", "/invocations/0/after"},
        {"{'mode': 'parallel', 'invocations': [{'task': 'any', 'name': 'a'}]}", "/mode"},
        {"{'mode': 'chain', 'invocations': [{'task': 'any', 'name': 'a'}]}", "/mode"},
        {"{'open': true, 'invocations': [{'task': 'any', 'name': 'a'}]}", "/open"},
        {"{'invocations': [{'task': 'any', 'name': 'a'}, {'task': 'any', 'name': 'b', 'after': ['a'],"
         "'args': [1, {'$result': 'c'}]}]}",
         "/invocations/1/args/1/$result"},
        {"{'invocations': [{'task': 'any', 'name': 'a', 'args': {'$result': true}}]}",
         "/invocations/0/args/$result"},
        {"{'task': 'any', 'mode': 'chain', 'args': [[{'$result': true}]]}", "/args/0/0/$result"},
        {"{'task': 'any', 'mode': 'chain', 'args': [1, {'a': {'$result': 'x'}}]}", "/args/1/a/$result"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct group_read *read = read_as(rows[i].body, false);
        cr_expect_eq(read->err, ERR_INVALID, "%s", rows[i].body);
        cr_expect_not(read->no_json, "%s", rows[i].body);
        if (read->faults.count)
            cr_expect_str_eq(read->faults.items[0].pointer, rows[i].pointer, "%s: %s %s", rows[i].body,
                             read->faults.items[0].pointer, read->faults.items[0].detail);
    }
}

Test(group_submission, all_faults_come_at_once)
{
    const struct group_read *read = read_as(
        "{'mode': 'x', 'open': 1, 'invocations': [{'task': 'none'}, {'task': 'add', 'args': ['a']}]}", false);
    cr_expect_eq(read->faults.total, 4);
    struct buf many = {0};
    buf_addl(&many, "{'task': 'add', 'args': [");
    for (int i = 0; i < 5000; i++)
        buf_addf(&many, "%s[]", i ? "," : "");
    buf_addl(&many, "]}");
    read = read_as(buf_cstr(&many), false);
    cr_expect_eq(read->faults.count, FAULTS_MAX);
    cr_expect_lt(read->faults.total, 2000, "nobody reads on for ever");
    buf_release(&many);
}

Test(group_submission, a_chain_may_take_the_result_before_it)
{
    const struct group_read *read = good("{'task': 'add', 'mode': 'chain', 'args': [1, [{'$result': true}], {'x': "
                                         "{'$result': true, 'path': 'a.b'}}]}");
    cr_expect_not(read->items[0].composed);
    cr_expect(read->items[1].composed);
    cr_expect(read->items[2].composed);
    read = good("{'task': 'any', 'args': [{'$result': 'x'}]}");
    cr_expect_not(read->items[0].composed, "elsewhere it is a name like any other");
}

Test(group_submission, what_is_no_json_is_said_where)
{
    const struct group_read *read = read_as("{'task': 'any', 'args': [1,]}", false);
    cr_expect(read->no_json);
    cr_expect_eq(read->err, ERR_INVALID);
    read = read_as("{'task': 'any'}\n1\n\n{'a': }\n", true);
    cr_expect(read->no_json);
    cr_expect(strncmp(read->faults.items[0].detail, "line 4, column 7", 16) == 0, "%s",
              read->faults.items[0].detail);
}

Test(group_submission, a_member_and_a_group_have_their_limits)
{
    struct buf many = {0};
    buf_addl(&many, "{'task': 'any', 'args': ['");
    for (int i = 0; i < 1000; i++)
        buf_addc(&many, 'x');
    buf_addl(&many, "']}");
    cr_expect_eq(read_as(buf_cstr(&many), false)->err, ERR_INVALID);
    cr_expect_str_eq(group->faults.items[0].pointer, "/args/0");
    many.len = 0;
    buf_addl(&many, "{'task': 'any', 'args': [0");
    for (int i = 1; i < GROUP_MEMBERS_MAX; i++)
        buf_addl(&many, ",1");
    size_t at = many.len;
    buf_addl(&many, "]}");
    cr_expect_eq(good(buf_cstr(&many))->group.total, GROUP_MEMBERS_MAX);
    many.len = at;
    buf_addl(&many, ",1]}");
    cr_expect_eq(read_as(buf_cstr(&many), false)->err, ERR_INVALID);
    cr_expect_str_eq(group->faults.items[0].pointer, "/args");
    buf_release(&many);
}

Test(group_submission, circles_are_found_however_long_they_are)
{
    enum { COUNT = 100000 };
    int *targets = xcalloc(COUNT, sizeof *targets), *counts = xcalloc(COUNT, sizeof *counts);
    const int **after = xcalloc(COUNT, sizeof *after);
    for (int i = 0; i < COUNT; i++) {
        after[i] = &targets[i];
        targets[i] = i ? i - 1 : COUNT - 1;
        counts[i] = i > 0;
    }
    cr_expect_eq(group_circle(after, counts, COUNT), -1);
    counts[0] = 1;
    cr_expect_geq(group_circle(after, counts, COUNT), 0);
    targets[0] = 0;
    cr_expect_eq(group_circle(after, counts, COUNT), 0);
    cr_expect_eq(group_circle(after, counts, 0), -1);
    free(targets);
    free(counts);
    free(after);
}
