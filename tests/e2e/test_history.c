/* What became of an invocation, change by change. */
#include "tests/e2e/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SUITE(history);

/* "queued:submitted running:started ..." */
static char *story(struct server *s, const char *id)
{
    struct reply *r = EXPECT(get(s, "/invocations/%s/history", id), 200);
    char *out = strdup("");
    const cJSON *item;
    const char *before = "";
    cJSON_ArrayForEach(item, field(r, "items"))
    {
        const char *at = cJSON_GetObjectItem(item, "at")->valuestring;
        REQUIRE(strcmp(at, before) >= 0, "%s", r->body);
        before = at;
        out = format("%s%s%s:%s", out, *out ? " " : "", cJSON_GetObjectItem(item, "status")->valuestring,
                     cJSON_GetObjectItem(item, "reason")->valuestring);
    }
    return out;
}

static void has_story(struct server *s, const char *id, const char *wanted)
{
    char *told = story(s, id);
    REQUIRE(strcmp(told, wanted) == 0, "%s\n  is not\n%s", told, wanted);
}

Test(history, each_change_is_told_and_the_times_are_told_apart)
{
    struct server *s = serve("defaults: {backoff: {initial: 10ms, jitter: 0}}\n" TASKS
                             "  until: {kind: native, module: $NATIVE, function: fail_until, max_retries: 5}\n");
    char *id = submit(s, "{'task': 'until', 'args': 2, 'delay': '20ms'}");
    final(s, id);
    has_story(s, id,
              "scheduled:submitted queued:due running:started scheduled:retry queued:due running:started "
              "succeeded:succeeded");
    struct reply *r = get(s, "/invocations/%s/history", id);
    EXPECT_TEXT(r, "durations.held", "0s");
    EXPECT_TEXT(r, "durations.waiting", "0s");
    REQUIRE(strstr(text_of(r, "durations.scheduled"), "ms"), "%s", r->body);
    EXPECT_NUMBER(r, "items.2.attempt", 1);
    EXPECT_NUMBER(r, "items.5.attempt", 2);
    EXPECT_NUMBER(r, "items.5.turn", 1);
    REQUIRE(*text_of(r, "items.5.worker"), "%s", r->body);
    EXPECT_NULL(r, "items.1.attempt");
    EXPECT_NULL(r, "items.5.by");
    id = submit(s, "{'task': 'fail', 'args': 1}");
    final(s, id);
    has_story(s, id, "queued:submitted running:started failed:mine");
    EXPECT(post(s, format("/invocations/%s/retry", id), NULL), 200);
    WAIT_UNTIL(number_of(get(s, "/invocations/%s", id), "attempt") == 2);
    final(s, id);
    has_story(s, id, "queued:submitted running:started failed:failed queued:retried running:started failed:mine");
    restart(s);
    has_story(s, id, "queued:submitted running:started failed:failed queued:retried running:started failed:mine");
}

Test(history, who_asked_is_told_by_the_tokens_name)
{
    char *shown;
    cr_assert_eq(run("/tmp", (const char *const[]){errand_binary(), "token", "ann", NULL}, NULL, &shown, NULL), 0);
    char *token = strdup(strstr(shown, "errand_") ? strstr(shown, "errand_") : shown);
    token[strcspn(token, " \n\",}")] = '\0';
    char *line = strstr(shown, "{name");
    REQUIRE(line, "%s", shown);
    line[strcspn(line, "\n")] = '\0';
    struct server *s = prepare(format("tokens: [%s]\n" TASKS, line));
    s->token = token;
    start(s);
    char *id = submit(s, "{'task': 'echo', 'delay': '1h'}");
    EXPECT(patch(s, format("/invocations/%s", id), "{'run_at': '2099-01-01T00:00:00Z'}"), 200);
    EXPECT(post(s, "/invocations/cancel", "{'ids': ['%s']}", id), 200);
    struct reply *r = EXPECT(get(s, "/invocations/%s/history", id), 200);
    has_story(s, id, "scheduled:submitted scheduled:patched cancelled:cancelled");
    EXPECT_NULL(r, "items.0.by");
    EXPECT_TEXT(r, "items.1.by", "ann");
    EXPECT_TEXT(r, "items.2.by", "ann");
}

Test(history, a_suspension_and_its_waking_are_told)
{
    struct server *s = serve("tasks:\n  far: {kind: remote}\n");
    char *id = submit(s, "{'task': 'far'}");
    for (int i = 0; i < 2; i++) {
        struct reply *r = EXPECT(
            post(s, "/leases", "{'worker': 'w%d', 'tasks': ['far'], 'wait': '10s', 'lease': '30s'}", i), 200);
        char *lease = format("/leases/%s/%s", text_of(r, "leases.0.token"), i ? "complete" : "suspend");
        EXPECT(post(s, lease, i ? "{'result': 1}" : "{'on': {'inbox': true}}"), 204);
        if (!i)
            EXPECT(post(s, format("/invocations/%s/inbox", id), "1"), 201);
    }
    has_story(
        s, id,
        "queued:submitted running:started waiting:suspended queued:woken running:started succeeded:succeeded");
    struct reply *r = get(s, "/invocations/%s/history", id);
    EXPECT_TEXT(r, "items.1.worker", "w0");
    EXPECT_NUMBER(r, "items.1.turn", 1);
    EXPECT_TEXT(r, "items.4.worker", "w1");
    EXPECT_NUMBER(r, "items.4.turn", 2);
    EXPECT_NUMBER(r, "items.4.attempt", 1);
}

Test(history, what_ended_without_a_turn_says_why)
{
    struct server *s =
        serve("tasks:\n"
              "  one: {kind: native, module: $NATIVE, function: echo, unique: {per: task, on_conflict: replace}}\n"
              "  kept: {kind: native, module: $NATIVE, function: echo, cache_results: 1h}\n");
    final(s, submit(s, "{'task': 'kept'}"));
    has_story(s, submit(s, "{'task': 'kept'}"), "succeeded:cached");
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'one', 'deadline': '200ms'}");
    EXPECT(post(s, "/tasks", "{'task': 'one', 'args': 2, 'deadline': '200ms'}"), 200);
    final(s, id);
    has_story(s, id, "queued:submitted queued:replaced failed:deadline");
    id = submit(s, "{'task': 'kept', 'args': 2, 'expires_in': '1ms'}");
    final(s, id);
    has_story(s, id, "queued:submitted failed:expired");
}

Test(history, of_nobody_is_404)
{
    struct server *s = serve(TASKS);
    EXPECT(get(s, "/invocations/0BYZ2H9QW4G00/history"), 404);
    EXPECT(get(s, "/invocations/%s/history?x=1", submit(s, "{'task': 'echo'}")), 400);
}
