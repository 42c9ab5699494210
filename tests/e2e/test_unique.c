/* Only one of a key at a time: `unique`. */
#include "tests/e2e/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SUITE(unique);

static struct server *with(const char *rule)
{
    return serve(
        format("tasks:\n"
               "  one: {kind: native, module: $NATIVE, function: echo, params: {x: integer, y: {type: integer, "
               "default: 1}}, unique: %s}\n"
               "  hold: {kind: native, module: $NATIVE, unique: {per: args}}\n"
               "  any: {kind: native, module: $NATIVE, function: echo, unique: {per: [user.id]}}\n",
               rule));
}

static void require_differs(struct reply *r, const char *wanted)
{
    char *text = cJSON_PrintUnformatted(field(r, "unique.differs"));
    REQUIRE(strcmp(text, quoted(wanted)) == 0, "differs is %s, not %s", text, quoted(wanted));
}

Test(unique, the_second_gets_the_first_and_is_told_what_differs)
{
    struct server *s = with("{per: [x]}");
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'one', 'args': {'x': 1}}");
    struct reply *r =
        EXPECT(post(s, "/tasks", "{'task': 'one', 'args': [1, 2], 'priority': 7, 'labels': {'a': 'b'}}"), 200);
    EXPECT_TEXT(r, "id", id);
    REQUIRE(cJSON_IsTrue(field(r, "unique.returned")), "%s", r->body);
    require_differs(r, "['/args/y','/priority','/labels/a']");
    r = EXPECT(post(s, "/tasks", "{'args': {'y': 1, 'x': 1}, 'task': 'one'}"), 200);
    require_differs(r, "[]");
    r = EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/json\r\nPrefer: return=minimal\r\n",
                   quoted("{'task': 'one', 'args': [1]}")),
               200);
    require_differs(r, "[]");
    EXPECT(post(s, "/tasks", "{'task': 'one', 'args': {'x': 2}}"), 201);
    EXPECT(post(s, "/resume", NULL), 200);
    final(s, id);
    EXPECT(post(s, "/tasks", "{'task': 'one', 'args': {'x': 1}}"), 201);
}

Test(unique, a_nested_name_is_the_key_and_what_is_missing_is_null)
{
    struct server *s = with("{}");
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'any', 'args': {'user': {'id': 7, 'n': [1, 2]}}}");
    struct reply *r =
        EXPECT(post(s, "/tasks", "{'task': 'any', 'args': {'user': {'n': [1, 3], 'id': 7}, 'a/b': 0}}"), 200);
    EXPECT_TEXT(r, "id", id);
    require_differs(r, "['/args/a~1b','/args/user/n/1']");
    submit(s, "{'task': 'any', 'args': {'user': 7}}");
    EXPECT(post(s, "/tasks", "{'task': 'any', 'args': null}"), 200);
}

Test(unique, a_rejected_one_is_409)
{
    struct server *s = with("{per: task, on_conflict: reject}");
    EXPECT(post(s, "/pause", NULL), 200);
    submit(s, "{'task': 'one', 'args': [1]}");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'one', 'args': [2]}"), 409, "not-unique");
}

Test(unique, a_replacement_runs_with_the_latest_arguments)
{
    struct server *s = with("{per: task, on_conflict: replace}");
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'one', 'args': [1]}");
    submit(s, "{'task': 'any'}");
    struct reply *r = EXPECT(post(s, "/tasks", "{'task': 'one', 'args': [2], 'priority': 5}"), 200);
    EXPECT_TEXT(r, "id", id);
    REQUIRE(cJSON_IsTrue(field(r, "unique.replaced")) && cJSON_IsFalse(field(r, "unique.returned")), "%s",
            r->body);
    require_differs(r, "['/priority']");
    EXPECT(post(s, "/tasks", "{'task': 'one', 'args': [3], 'delay': '20ms'}"), 200);
    EXPECT(post(s, "/resume", NULL), 200);
    EXPECT_HAS(final(s, id), "\"args\":[3],\"result\":{\"x\":3,\"y\":1}");
}

Test(unique, arguments_outside_the_row_are_replaced_both_ways)
{
    struct server *s = with("{per: task}");
    configure(s, "tasks:\n  any: {kind: native, module: $NATIVE, function: echo, unique: {per: task, on_conflict: "
                 "replace}}\n");
    terminate(s);
    start(s);
    EXPECT(post(s, "/pause", NULL), 200);
    char large[5000];
    memset(large, 'x', sizeof large);
    large[sizeof large - 1] = '\0';
    char *id = submit(s, "{'task': 'any', 'args': 1}");
    EXPECT(post(s, "/tasks", "{'task': 'any', 'args': '%s'}", large), 200);
    EXPECT_HAS(get(s, "/invocations/%s", id), large);
    EXPECT(post(s, "/tasks", "{'task': 'any', 'args': '%s1'}", large), 200);
    restart(s);
    EXPECT(post(s, "/resume", NULL), 200);
    EXPECT_TEXT(final(s, id), "result", format("%s1", large));
    id = submit(s, "{'task': 'any', 'args': '%s', 'delay': '1h'}", large);
    EXPECT(post(s, "/tasks", "{'task': 'any', 'args': 2}"), 200);
    EXPECT_NUMBER(final(s, id), "result", 2);
}

Test(unique, a_started_one_is_not_replaced)
{
    struct server *s =
        serve("tasks:\n  hold: {kind: native, module: $NATIVE, unique: {per: task, on_conflict: replace}}\n");
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'hold', 'args': 'x'}"), 409, "not-unique");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

/* Debounce with the latest arguments: the first ones ran. */
Test(unique, a_debounce_runs_once_with_the_latest_arguments)
{
    struct server *s = with("{per: task, while: queued, debounce: 150ms, max_wait: 1m}");
    char *id = submit(s, "{'task': 'one', 'args': [0]}");
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "scheduled");
    for (int i = 1; i <= 5; i++)
        EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'one', 'args': [%d]}", i), 200), "id", id);
    EXPECT_NUMBER(final(s, id), "result.x", 5);
    cr_assert_null(field(get(s, "/invocations"), "items.1"));
}

Test(unique, a_debounce_ends_after_its_longest_wait)
{
    struct server *s = with("{per: task, while: queued, debounce: 10s, max_wait: 10s}");
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'one', 'args': [0]}");
    char *first = strdup(text_of(get(s, "/invocations/%s", id), "run_at"));
    struct reply *r = EXPECT(post(s, "/tasks", "{'task': 'one', 'args': [1]}"), 200);
    REQUIRE(strcmp(text_of(r, "run_at"), first) == 0, "%s is not %s", text_of(r, "run_at"), first);
}

Test(unique, lines_of_one_request_meet)
{
    struct server *s = with("{per: [x]}");
    EXPECT(post(s, "/pause", NULL), 200);
    struct reply *r = EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n",
                                 quoted("{'task':'one','args':[1]}\n{'task':'one','args':[1,2]}\n"
                                        "{'task':'one','args':[2]}\n")),
                             200);
    EXPECT_HAS(r, quoted("'unique':{'returned':true,'replaced':false,'differs':['/args/y']}"));
    char *second = strstr(r->body, "\"index\":1");
    REQUIRE(second && strstr(second, "\"status\":200"), "%s", r->body);
    EXPECT_NULL(get(s, "/invocations?limit=2"), "next");
}

Test(unique, a_key_that_was_answered_so_stays_a_key_of_it)
{
    struct server *s = with("{per: [x]}");
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'one', 'args': [1], 'key': 'a'}");
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'one', 'args': [1, 5], 'key': 'b'}"), 200), "id", id);
    EXPECT(post(s, "/resume", NULL), 200);
    final(s, id);
    struct reply *r = EXPECT(post(s, "/tasks", "{'task': 'one', 'args': [1, 5], 'key': 'b'}"), 200);
    EXPECT_TEXT(r, "id", id);
    require_differs(r, "['/args/y']");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'one', 'args': [2], 'key': 'b'}"), 422, "key-reused");
    EXPECT_TEXT(get(s, "/invocations?key=b"), "items.0.id", id);
    restart(s);
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'one', 'args': [1, 5], 'key': 'b'}"), 200), "id", id);
}

Test(unique, a_retry_whose_place_is_taken_is_409)
{
    struct server *s = with("{}");
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'one', 'args': [1]}");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    char *other = submit(s, "{'task': 'one', 'args': [1]}");
    EXPECT_PROBLEM(post(s, format("/invocations/%s/retry", id), NULL), 409, "not-unique");
    EXPECT_HAS(EXPECT(post(s, "/invocations/retry", "{'ids': ['%s']}", id), 200), "unique place");
    EXPECT(post(s, format("/invocations/%s/cancel", other), NULL), 200);
    EXPECT(post(s, format("/invocations/%s/retry", id), NULL), 200);
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'one', 'args': [1]}"), 200), "id", id);
}

/* A place that a crash left taken would be nobody's for ever. */
Test(unique, places_survive_a_crash_with_their_invocations)
{
    struct server *s = with("{}");
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    restart(s);
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'hold', 'args': '%s'}", file_in(s, "go")), 200), "id", id);
    touch(file_in(s, "go"));
    final(s, id);
    EXPECT(post(s, "/tasks", "{'task': 'hold', 'args': '%s'}", file_in(s, "go")), 201);
}

Test(unique, a_task_shows_the_rule_as_the_file_would_say_it)
{
    struct server *s = with("{while: 1h, on_conflict: replace, debounce: 5s}");
    EXPECT_HAS(get(s, "/tasks/one"),
               "\"unique\":{\"per\":\"args\",\"while\":\"1h\",\"on_conflict\":\"replace\",\"debounce\":\"5s\"}");
}

/* Two at once found the place free. A slow commit makes them meet. */
Test(unique, submissions_of_the_same_moment_are_one)
{
    struct server *s = prepare("tasks:\n  hold: {kind: native, module: $NATIVE, unique: {per: task}}\n");
    prepare_to_hold_commits(s);
    start(s);
    struct client *clients[8];
    char *ids[8];
    int made = 0;
    hold_commits(s);
    char *body = format("{'task': 'hold', 'args': '%s'}", file_in(s, "never"));
    for (int i = 0; i < 8; i++) {
        clients[i] = client_open(s);
        client_ask(clients[i], "POST", "/tasks", "Content-Type: application/json\r\n", quoted(body), strlen(body));
    }
    await_held_commit(s);
    release_commits(s);
    for (int i = 0; i < 8; i++) {
        struct reply *r = client_receive(clients[i], false);
        made += r->status == 201;
        ids[i] = strdup(text_of(r, "id"));
        REQUIRE(strcmp(ids[i], ids[0]) == 0, "%s is not %s", ids[i], ids[0]);
    }
    cr_assert_eq(made, 1);
}
