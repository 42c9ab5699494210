/* Arguments that are made when a turn starts: of the results of those that it comes after, and of
 * what its group shares. */
#include "tests/e2e/support.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

SUITE(composed);

/* A path of a running test, or what stands there. */
#define FIRST "{'n': 12345678901234567890, 'list': [1.10, 'two']}"
#define FIRST_AS_SENT "{\"n\": 12345678901234567890, \"list\": [1.10, \"two\"]}"

/* Members of a group as they were made: its ids, in order. */
struct made {
    char *id;
    char *members[8];
};

static struct made made(struct server *s, const char *body)
{
    struct made group = {0};
    struct reply *r = EXPECT(post(s, "/groups", "%s", quoted(body)), 201);
    group.id = strdup(text_of(r, "id"));
    for (int i = 0; i < 8; i++)
        group.members[i] = strdup(text_of(r, format("invocations.%d", i)));
    return group;
}

/* What the last of a chain of two did, of which the first has the result FIRST. */
static struct made chain_to(struct server *s, const char *link)
{
    return made(s, format("{'mode': 'chain', 'invocations': [{'task': 'echo', 'args': %s}, %s]}", FIRST, link));
}

static char *result_of(struct server *s, const char *id)
{
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    return EXPECT(get(s, "/invocations/%s/result", id), 200)->body;
}

static void expect_result(struct server *s, const char *id, const char *wanted)
{
    char *result = result_of(s, id);
    cr_assert_str_eq(result, wanted, "%s", result);
}

static struct reply *lease(struct server *s)
{
    struct reply *r = EXPECT(post(s, "/leases", "{\"worker\": \"w\", \"wait\": \"30s\"}"), 200);
    REQUIRE(cJSON_GetArraySize(field(r, "leases")) == 1, "%s", r->body);
    return r;
}

/* --- every kind ------------------------------------------------------------------------------ */

static char *all_kinds(int port)
{
    char *child = realpath("tests/e2e/children/child.py", NULL);
    REQUIRE(child);
    return format("tasks:\n"
                  "  echo: {kind: native, module: $NATIVE}\n"
                  "  hold: {kind: native, module: $NATIVE}\n"
                  "  cat: {kind: command, run: [cat], result: json}\n"
                  "  word: {kind: command, run: [echo, '{v}'], result: json, params: {v: number}}\n"
                  "  pool: {kind: process, run: [python3, %s]}\n"
                  "  child: {kind: process, run: [%s, isolated, $NATIVE, echo]}\n"
                  "  http: {kind: http, url: 'http://127.0.0.1:%d/tasks'}\n"
                  "  far: {kind: remote}\n",
                  child, errand_binary(), port);
}

Test(composed, a_result_comes_to_every_kind)
{
    struct server *service = serve("tasks: {echo: {kind: native, module: $NATIVE}}\n");
    struct server *s = serve(all_kinds(service->port));
    static const struct {
        const char *link, *result;
    } rows[] = {
        {"{'task': 'echo', 'args': {'v': {'$result': true}}}", "{\"v\": " FIRST_AS_SENT "}"},
        {"{'task': 'echo', 'args': {'$result': true}}", FIRST_AS_SENT},
        {"{'task': 'cat', 'args': [ {'$result': true, 'path': 'list.0'} ]}", "[ 1.10 ]"},
        {"{'task': 'word', 'args': {'v': {'$result': true, 'path': 'list.0'}}}", "1.10"},
        {"{'task': 'word', 'args': [{'$result': true, 'path': 'n'}]}", "12345678901234567890"},
        {"{'task': 'pool', 'args': {'do': 'echo', 'value': {'$result': true, 'path': 'n'}}}",
         "12345678901234567890"},
        {"{'task': 'child', 'args': {'v': {'$result': true}}}", "{\"v\": " FIRST_AS_SENT "}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_result(s, chain_to(s, rows[i].link).members[1], rows[i].result);

    struct made sent = chain_to(s, "{'task': 'http', 'args': {'task': 'echo', 'args': {'$result': true}}}");
    struct reply *answer = EXPECT_TEXT(final(s, sent.members[1]), "status", "succeeded");
    EXPECT_HAS(answer, "\"args\":" FIRST_AS_SENT);

    struct made far = chain_to(s, "{'task': 'far', 'args': {'v': {'$result': true}}}");
    struct reply *r = EXPECT_HAS(lease(s), "\"args\":{\"v\": " FIRST_AS_SENT "}");
    EXPECT_TEXT(r, "leases.0.invocation.id", far.members[1]);
    EXPECT_HAS(EXPECT(get(s, "/leases/%s", text_of(r, "leases.0.token")), 200),
               "\"args\":{\"v\": " FIRST_AS_SENT "}");
    EXPECT(post(s, format("/leases/%s/complete", text_of(r, "leases.0.token")), "{\"result\": 1}"), 204);
    expect_result(s, far.members[1], "1");
    EXPECT_HAS(EXPECT(get(s, "/invocations/%s", far.members[1]), 200), "\"args\":{\"v\": {\"$result\": true}}");
}

Test(composed, large_results_come_to_every_kind)
{
    struct server *s = serve("tasks:\n"
                             "  long_result: {kind: native, module: $NATIVE}\n"
                             "  size: {kind: command, run: [wc, -c]}\n"
                             "  far: {kind: remote}\n");
    static const char body[] = "{'mode': 'chain', 'invocations': [{'task': 'long_result', 'args': 5000000}, "
                               "{'task': '%s', 'args': [{'$result': true}]}]}";
    expect_result(s, made(s, format(body, "size")).members[1], "\"5000002\\n\"");
    struct made far = made(s, format(body, "far"));
    struct reply *r = lease(s);
    cr_assert_eq(strlen(text_of(r, "leases.0.invocation.args.0")), 4999998);
    EXPECT(post(s, format("/leases/%s/complete", text_of(r, "leases.0.token")), "{}"), 204);
    EXPECT_TEXT(final(s, far.members[1]), "status", "succeeded");

    far = made(s, "{'mode': 'chain', 'invocations': [{'task': 'long_result', 'args': 4000000}, {'task': 'size', "
                  "'args': [{'$result': true}, {'$result': true}, {'$result': true}]}]}");
    r = EXPECT_TEXT(final(s, far.members[1]), "status", "failed");
    EXPECT_TEXT(EXPECT_TEXT(r, "error.type", "invalid_args"), "error.message",
                "/args/2: makes the arguments longer than 10 MiB");
}

/* --- what does not fit ----------------------------------------------------------------------- */

#define TYPED                                                                                              \
    "defaults: {max_retries: 5, backoff: {initial: 1ms}}\n"                                                \
    "tasks:\n"                                                                                             \
    "  echo: {kind: native, module: $NATIVE}\n"                                                            \
    "  typed: {kind: native, module: $NATIVE, function: echo, params: {x: integer, y: {default: null}}}\n" \
    "  word: {kind: command, run: [echo, '{x}']}\n"                                                        \
    "  far: {kind: remote, params: {x: integer}}\n"

Test(composed, a_value_that_does_not_fit_fails_for_good)
{
    struct server *s = serve(TYPED);
    static const struct {
        const char *link, *message;
    } rows[] = {
        {"{'task': 'typed', 'args': {'x': {'$result': true}}}", "/args/x: `x` must be an integer, not an object"},
        {"{'task': 'typed', 'args': [{'$result': true, 'path': 'list.1'}]}",
         "/args/0: `x` must be an integer, not a string"},
        {"{'task': 'typed', 'args': {'$result': true}}", "/args/n: there is no parameter `n`; "},
        {"{'task': 'typed', 'args': [1, {'$result': true, 'path': 'list.2'}]}",
         "/args/1: the result of the one it comes after has no `list.2`"},
        {"{'task': 'word', 'args': {'$result': true, 'path': 'list'}}",
         "/args/x is missing: the command needs it"},
        {"{'task': 'far', 'args': {'x': {'$result': true}}}", "/args/x: `x` must be an integer, not an object"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct made group = chain_to(s, rows[i].link);
        final(s, group.members[0]);
        if (strstr(rows[i].link, "'far'"))
            EXPECT(post(s, "/leases", "{\"worker\": \"w\"}"), 200);
        struct reply *r = EXPECT_TEXT(final(s, group.members[1]), "status", "failed");
        EXPECT_TEXT(r, "error.type", "invalid_args");
        cr_assert(strstr(text_of(r, "error.message"), rows[i].message), "row %zu: %s", i, r->body);
        EXPECT_NUMBER(r, "attempt", 1);
    }
}

Test(composed, a_reference_to_what_it_does_not_come_after_is_refused)
{
    struct server *s = serve(TYPED);
    char *one = submit(s, "{\"task\": \"echo\"}"), *other = submit(s, "{\"task\": \"echo\"}");
    const char *rows[] = {
        format("{'task': 'echo', 'after': ['%s', '%s'], 'args': [{'$result': true}]}", one, other),
        format("{'task': 'echo', 'after': ['%s'], 'args': [{'$result': '%s'}]}", one, other),
        format("{'task': 'echo', 'after': ['%s'], 'args': [{'$result': true, 'part': 'a'}]}", one),
        format("{'task': 'echo', 'after': ['%s'], 'args': [{'$result': 7}]}", one),
        format("{'task': 'typed', 'after': ['%s'], 'args': {'x': [{'$result': true}]}}", one),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        EXPECT_PROBLEM(post(s, "/tasks", "%s", quoted(rows[i])), 422, "invalid-request");
    static const char *const groups[] = {
        "{'mode': 'chain', 'invocations': [{'task': 'echo', 'args': [{'$result': true}]}]}",
        "{'invocations': [{'task': 'echo', 'name': 'a'}, {'task': 'echo', 'name': 'b', 'args': [{'$result': "
        "'a'}]}]}",
        "{'invocations': [{'task': 'echo', 'name': 'a'}, {'task': 'echo', 'name': 'b', 'after': ['a'], 'args': "
        "[{'$result': 'c'}]}]}",
        "{'mode': 'chain', 'common_args': {'x': {'$result': true}}, 'invocations': [{'task': 'echo'}]}",
        "{'common_args': [1], 'task': 'echo', 'args': [1]}",
        "{'common_args': {'x': 'a'}, 'task': 'typed', 'args': [{}]}",
        "{'common_args': {'x': 1}, 'task': 'echo', 'args': [[1]]}",
        "{'common_args': {'y': 1}, 'task': 'typed', 'args': [[{'$result': true}]]}",
        "{'common_args': {'x': 'a'}, 'invocations': [{'task': 'echo'}, {'task': 'typed', 'args': {}}]}",
        "{'common_args': {'z': 1}, 'invocations': [{'task': 'echo'}, {'task': 'typed', 'args': {'x': 1}}]}",
        "{'mode': 'chain', 'common_args': {'x': {'$result': 7}}, 'task': 'echo', 'args': [{'x': 1}, {}]}",
        "{'mode': 'chain', 'common_args': {'x': {'$result': 'a'}}, 'task': 'echo', 'args': [{'x': 1}, {}]}",
        "{'common_args': {'x': {'$result': 'a'}}, 'invocations': [{'task': 'echo', 'name': 'a', 'args': {'x': "
        "1}}, "
        "{'task': 'echo', 'name': 'b'}]}",
    };
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        EXPECT_PROBLEM(post(s, "/groups", "%s", quoted(groups[i])), 422, "invalid-request");
}

Test(composed, in_what_comes_after_nobody_it_is_data)
{
    struct server *s = serve(TYPED);
    expect_result(s, submit(s, "{\"task\": \"echo\", \"args\": {\"$result\": 7, \"x\": 1}}"),
                  "{\"$result\": 7, \"x\": 1}");
    struct made group = made(s, "{'task': 'echo', 'args': [[{'$result': true}]]}");
    expect_result(s, group.members[0], "[{\"$result\": true}]");
    group = made(s, "{'task': 'echo', 'common_args': {'a': {'$result': 7}}, 'args': [{'b': {'$result': true}}]}");
    expect_result(s, group.members[0], "{\"a\":{\"$result\": 7},\"b\":{\"$result\": true}}");
}

/* --- whose result ----------------------------------------------------------------------------- */

Test(composed, members_of_a_graph_and_ids_are_named)
{
    struct server *s = serve(TYPED);
    char *outside = submit(s, "{\"task\": \"echo\", \"args\": [\"out\"]}");
    struct made group = made(
        s,
        format(
            "{'invocations': [{'task': 'echo', 'name': 'left', 'args': 1}, {'task': 'echo', 'name': 'right', "
            "'after': ['left'], 'args': {'$result': 'left'}}, {'task': 'echo', 'name': 'top', 'after': ['left', "
            "'right', '%s'], 'args': [{'$result': 'right'}, {'$result': 'left'}, {'$result': '%s'}]}]}",
            outside, outside));
    expect_result(s, group.members[2], "[1, 1, [\"out\"]]");
    char *after =
        submit(s, "{\"task\": \"typed\", \"after\": [\"%s\"], \"args\": [{\"$result\": true, \"path\": \"1\"}]}",
               group.members[2]);
    expect_result(s, after, "{\"x\":1,\"y\":null}");
}

Test(composed, who_runs_after_a_failure_has_null)
{
    struct server *s = serve(TASKS);
    char *failed = submit(s, "{\"task\": \"fail\"}");
    char *id = submit(s,
                      "{\"task\": \"echo\", \"after\": [\"%s\"], \"after_policy\": \"failure\", "
                      "\"args\": [{\"$result\": true}, {\"$result\": true, \"path\": \"a.b\"}]}",
                      failed);
    expect_result(s, id, "[null, null]");
}

Test(composed, what_is_shared_stands_under_what_a_member_says)
{
    struct server *s = serve(TYPED);
    struct made group = made(s, "{'task': 'typed', 'common_args': {'x': 7, 'y': 'shared'}, 'args': "
                                "[{}, {'y': 1.10}, [8], [9, {'own': true}]]}");
    expect_result(s, group.members[0], "{\"x\":7,\"y\":\"shared\"}");
    expect_result(s, group.members[1], "{\"x\":7,\"y\":1.10}");
    expect_result(s, group.members[2], "{\"x\":8,\"y\":\"shared\"}");
    expect_result(s, group.members[3], "{\"x\":9,\"y\":{\"own\": true}}");
    EXPECT_HAS(EXPECT(get(s, "/invocations/%s", group.members[2]), 200), "\"args\":[8]");
    group =
        made(s, "{'mode': 'chain', 'task': 'typed', 'common_args': {'x': {'$result': true, 'path': 'x'}, 'y': 1}, "
                "'args': [{'x': 5}, {}, [{'$result': true, 'path': 'y'}]]}");
    expect_result(s, group.members[2], "{\"x\":1,\"y\":1}");
    expect_result(s, group.members[1], "{\"x\":5,\"y\":1}");
    group =
        made(s, "{'common_args': {'x': {'$result': 'a'}}, 'invocations': [{'task': 'echo', 'name': 'a', 'args': "
                "{'x': 1}}, {'task': 'echo', 'name': 'b', 'after': ['a'], 'args': {'y': 2}}]}");
    expect_result(s, group.members[1], "{\"x\":{\"x\":1},\"y\":2}");
}

/* --- bad moments -------------------------------------------------------------------------------- */

Test(composed, a_restart_and_a_retry_make_them_anew)
{
    struct server *s = serve(TASKS);
    char *path = file_in(s, "go"), *broken = file_in(s, "broken/go");
    struct made group =
        made(s, format("{'mode': 'chain', 'invocations': [{'task': 'echo', 'args': {'paths': ['%s', '%s']}}, "
                       "{'task': 'hold', 'args': {'$result': true, 'path': 'paths.0'}}]}",
                       path, broken));
    AWAIT_STATUS(s, group.members[1], "running");
    restart(s);
    AWAIT_STATUS(s, group.members[1], "running");
    EXPECT(post(s, format("/invocations/%s/cancel", group.members[1]), NULL), 200);
    EXPECT_TEXT(final(s, group.members[1]), "status", "cancelled");
    EXPECT(post(s, format("/invocations/%s/retry", group.members[1]), NULL), 200);
    AWAIT_STATUS(s, group.members[1], "running");
    touch(path);
    expect_result(s, group.members[1], "\"let go\"");
}

Test(composed, a_result_stays_while_it_is_to_be_passed_on)
{
    struct server *s = serve(TASKS);
    char *path = file_in(s, "go");
    char *first = submit(s, "{\"task\": \"echo\", \"args\": 5, \"retention\": \"1ms\"}");
    char *holds = submit(s, "{\"task\": \"hold\", \"args\": \"%s\", \"after\": [\"%s\"]}", path, first);
    char *last = submit(s, "{\"task\": \"echo\", \"after\": [\"%s\", \"%s\"], \"args\": [{\"$result\": \"%s\"}]}",
                        first, holds, first);
    AWAIT_STATUS(s, holds, "running");
    EXPECT_PROBLEM(ask(s, "DELETE", format("/invocations/%s", first), NULL, NULL), 409, "conflict");
    touch(path);
    expect_result(s, last, "[5]");
}
