/* Changing what was submitted: cancel, retry, PATCH, DELETE, one and many. */
#include "tests/e2e/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

SUITE(alter);

#define ON(id, what) format("/invocations/%s/%s", id, what)
#define AT(id) format("/invocations/%s", id)

Test(alter, what_has_not_started_is_cancelled_at_once)
{
    struct server *s = serve(TASKS);
    EXPECT(post(s, "/pause", NULL), 200);
    char *queued = submit(s, "{'task': 'echo'}");
    char *scheduled = submit(s, "{'task': 'echo', 'delay': '1h'}");
    EXPECT_TEXT(EXPECT(post(s, ON(queued, "cancel"), NULL), 200), "status", "cancelled");
    EXPECT_TEXT(EXPECT(post(s, ON(scheduled, "cancel"), "{}"), 200), "status", "cancelled");
    struct reply *r = get(s, "/invocations/%s", queued);
    REQUIRE(*text_of(r, "finished_at") && *text_of(r, "cancel_requested_at"), "%s", r->body);
    EXPECT_NUMBER(r, "attempt", 0);
}

Test(alter, a_native_body_sees_that_it_is_cancelled)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "never"));
    AWAIT_STATUS(s, id, "running");
    struct reply *r = EXPECT(post(s, ON(id, "cancel"), NULL), 200);
    REQUIRE(*text_of(r, "cancel_requested_at"), "%s", r->body);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
}

Test(alter, a_command_and_its_whole_group_are_stopped)
{
    struct server *s =
        serve("kill_grace: 200ms\n"
              "tasks:\n"
              "  kind: {kind: command, run: [sh, -c, 'sleep 1000 & echo $! >child; touch started; wait']}\n"
              "  deaf: {kind: command, run: [sh, -c, 'trap \"\" TERM; echo $$ >deaf; sleep 1000; sleep 1000']}\n");
    char *kind = submit(s, "{'task': 'kind'}"), *deaf = submit(s, "{'task': 'deaf'}");
    WAIT_UNTIL(exists(file_in(s, "started")) && *read_whole(file_in(s, "deaf")));
    EXPECT(post(s, ON(kind, "cancel"), NULL), 200);
    EXPECT(post(s, ON(deaf, "cancel"), NULL), 200);
    EXPECT_TEXT(final(s, kind), "status", "cancelled");
    EXPECT_TEXT(final(s, deaf), "status", "cancelled");
    WAIT_UNTIL(!is_alive(atoi(read_whole(file_in(s, "child")))));
    WAIT_UNTIL(!is_alive(atoi(read_whole(file_in(s, "deaf")))));
}

Test(alter, a_body_that_succeeds_first_has_succeeded)
{
    struct server *s = serve("tasks:\n  deaf: {kind: native, module: $NATIVE}\n");
    char *id = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    EXPECT_TEXT(EXPECT(post(s, ON(id, "cancel"), NULL), 200), "status", "running");
    touch(file_in(s, "go"));
    struct reply *r = final(s, id);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_TEXT(r, "result", "let go");
}

Test(alter, a_cancellation_is_a_state_on_disk_that_survives_a_crash)
{
    struct server *s = serve("tasks:\n  deaf: {kind: native, module: $NATIVE}\n");
    char *id = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, "never"));
    AWAIT_STATUS(s, id, "running");
    EXPECT(post(s, ON(id, "cancel"), NULL), 200);
    restart(s);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
}

Test(alter, a_final_one_is_cancelled_to_no_effect)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'args': 7}");
    struct reply *before = final(s, id);
    struct reply *r = EXPECT(post(s, ON(id, "cancel"), NULL), 200);
    EXPECT_TEXT(r, "status", "succeeded");
    cr_assert_str_eq(r->body, before->body);
}

/* A retry loses its exception. */
Test(alter, a_retry_keeps_its_id_and_the_errors_before_it)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'fail', 'args': [1.10]}");
    final(s, id);
    struct reply *r = EXPECT(post(s, ON(id, "retry"), NULL), 200);
    EXPECT_TEXT(r, "id", id);
    WAIT_UNTIL(number_of(get(s, "/invocations/%s", id), "attempt") == 2);
    r = final(s, id);
    EXPECT_TEXT(r, "error.type", "mine");
    EXPECT_HAS(r, "[1.10]");
    r = EXPECT(get(s, "/invocations/%s/attempts", id), 200);
    EXPECT_TEXT(r, "items.0.error.type", "mine");
    EXPECT_TEXT(r, "items.0.error.message", "it went wrong");
    EXPECT_TEXT(r, "items.1.error.type", "mine");
}

Test(alter, a_retry_renews_the_budget_of_retries)
{
    struct server *s = serve("defaults: {backoff: {initial: 1ms}}\n" TASKS);
    char *id = submit(s, "{'task': 'fail', 'max_retries': 1}");
    EXPECT_NUMBER(final(s, id), "attempt", 2);
    EXPECT(post(s, ON(id, "retry"), NULL), 200);
    WAIT_UNTIL(number_of(get(s, "/invocations/%s", id), "attempt") == 4);
    EXPECT_NUMBER(final(s, id), "attempt", 4);
}

Test(alter, only_failed_and_cancelled_ones_are_retried)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo'}");
    final(s, id);
    EXPECT_HAS(EXPECT_PROBLEM(post(s, ON(id, "retry"), NULL), 409, "conflict"), "succeeded");
    char *held = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, held, "running");
    EXPECT_PROBLEM(post(s, ON(held, "retry"), NULL), 409, "conflict");
    EXPECT(post(s, ON(held, "cancel"), NULL), 200);
    final(s, held);
    touch(file_in(s, "go"));
    EXPECT(post(s, ON(held, "retry"), NULL), 200);
    WAIT_UNTIL(strcmp(text_of(get(s, "/invocations/%s", held), "status"), "succeeded") == 0);
}

Test(alter, a_waiting_one_gets_another_priority_and_another_time)
{
    struct server *s = serve("slots: 1\n" TASKS);
    EXPECT(post(s, "/pause", NULL), 200);
    char *first = submit(s, "{'task': 'count'}"), *second = submit(s, "{'task': 'count'}");
    char *later = submit(s, "{'task': 'count', 'delay': '1h'}");
    EXPECT_NUMBER(EXPECT(patch(s, AT(second), "{'priority': 0}"), 200), "priority", 0);
    struct reply *r = EXPECT(patch(s, AT(later), "{'run_at': '2001-01-01T00:00:00Z', 'priority': 9}"), 200);
    EXPECT_TEXT(r, "status", "queued");
    r = EXPECT(patch(s, AT(first), "{'run_at': '2999-01-01T00:00:00Z'}"), 200);
    EXPECT_TEXT(r, "status", "scheduled");
    EXPECT_TEXT(r, "run_at", "2999-01-01T00:00:00.000Z");
    EXPECT(post(s, "/resume", NULL), 200);
    final(s, later);
    final(s, second);
    cr_assert_str_eq(read_whole(file_in(s, "runs")), format("%s\n%s\n", second, later));
    EXPECT_TEXT(get(s, "/invocations/%s", first), "status", "scheduled");
}

Test(alter, what_has_started_is_not_patched)
{
    struct server *s = serve(TASKS);
    char *held = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, held, "running");
    EXPECT_HAS(EXPECT_PROBLEM(patch(s, AT(held), "{'priority': 0}"), 409, "conflict"), "running");
    touch(file_in(s, "go"));
    final(s, held);
    EXPECT_PROBLEM(patch(s, AT(held), "{'priority': 0}"), 409, "conflict");
    EXPECT_PROBLEM(patch(s, AT(held), "{'priority': 200, 'args': 1}"), 422, "invalid-request");
    EXPECT_PROBLEM(patch(s, AT(held), "{}"), 422, "invalid-request");
}

Test(alter, a_final_one_is_removed_with_its_key_and_its_log)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'key': 'k'}");
    EXPECT(post(s, "/pause", NULL), 200);
    char *queued = submit(s, "{'task': 'echo'}");
    EXPECT(post(s, "/resume", NULL), 200);
    final(s, id);
    final(s, queued);
    char *held = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    EXPECT_PROBLEM(ask(s, "DELETE", AT(held), NULL, NULL), 409, "conflict");
    EXPECT(ask(s, "DELETE", AT(id), NULL, NULL), 204);
    EXPECT(get(s, "/invocations/%s", id), 404);
    EXPECT(ask(s, "DELETE", AT(id), NULL, NULL), 404);
    EXPECT_NUMBER(get(s, "/stats"), "tasks.echo.succeeded", 1);
    EXPECT(post(s, "/tasks", "{'task': 'echo', 'key': 'k'}"), 201);
}

Test(alter, many_are_cancelled_by_their_ids)
{
    struct server *s = serve(TASKS);
    char *done = submit(s, "{'task': 'echo'}");
    final(s, done);
    EXPECT(post(s, "/pause", NULL), 200);
    char *a = submit(s, "{'task': 'echo'}"), *b = submit(s, "{'task': 'echo'}");
    struct reply *r = EXPECT(post(s, "/invocations/cancel",
                                  "{'ids': ['%s', '%s', '%s', '0000000000000'], 'dry_run': true}", a, b, done),
                             200);
    EXPECT_NUMBER(r, "changed", 0);
    REQUIRE(cJSON_IsTrue(field(r, "dry_run")), "%s", r->body);
    EXPECT_TEXT(get(s, "/invocations/%s", a), "status", "queued");
    r = EXPECT(post(s, "/invocations/cancel", "{'ids': ['%s', '%s', '%s', '0000000000000']}", a, b, done), 200);
    EXPECT_NUMBER(r, "changed", 2);
    REQUIRE(cJSON_GetArraySize(field(r, "errors")) == 1 && faults_mention(r, "/ids/3"), "%s", r->body);
    EXPECT_TEXT(get(s, "/invocations/%s", b), "status", "cancelled");
    EXPECT_PROBLEM(post(s, "/invocations/cancel", "{'ids': ['nonsense']}"), 422, "invalid-request");
    EXPECT_PROBLEM(post(s, "/invocations/cancel", "{}"), 422, "invalid-request");
    EXPECT_PROBLEM(post(s, "/invocations/cancel", "{'ids': [], 'filter': {}}"), 422, "invalid-request");
    EXPECT_PROBLEM(post(s, "/invocations/cancel", "{'filter': {'colour': 'red'}}"), 422, "invalid-request");
}

Test(alter, all_that_match_are_cancelled_and_retried)
{
    struct server *s = serve("slots: 2\n" TASKS);
    enum { N = 2500 };
    EXPECT(post(s, "/pause", NULL), 200);
    char *lines = strdup("");
    for (int i = 0; i < N / 50; i++) {
        lines = strdup("");
        for (int k = 0; k < 50; k++)
            lines = format("%s{\"task\": \"echo\", \"labels\": {\"half\": \"%d\"}}\n", lines, k % 2);
        EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    }
    struct reply *r = EXPECT(
        post(s, "/invocations/cancel", "{'filter': {'task': 'echo', 'labels': {'half': '1'}}, 'dry_run': true}"),
        200);
    EXPECT_NUMBER(r, "matched", N / 2);
    r = EXPECT(post(s, "/invocations/cancel", "{'filter': {'task': 'echo', 'labels': {'half': '1'}}}"), 200);
    EXPECT_NUMBER(r, "matched", N / 2);
    EXPECT_NUMBER(r, "changed", N / 2);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.cancelled", N / 2);
    r = EXPECT(post(s, "/invocations/retry", "{'filter': {'status': ['cancelled', 'failed']}}"), 200);
    EXPECT_NUMBER(r, "changed", N / 2);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.queued", N);
    EXPECT(post(s, "/resume", NULL), 200);
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.succeeded") == N);
}

#define IF_MATCH(tag) format("Content-Type: application/json\r\nIf-Match: %s\r\n", tag)

Test(alter, if_match_changes_only_what_was_seen)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'delay': '1h'}"), *path = format("/invocations/%s", id);
    char *full = header(get(s, "%s", path), "ETag"), *basic = header(get(s, "%s?view=basic", path), "ETag");
    cr_assert_str_neq(full, basic);
    EXPECT_NUMBER(EXPECT(ask(s, "PATCH", path, IF_MATCH(full), "{\"priority\": 3}"), 200), "priority", 3);
    EXPECT_PROBLEM(ask(s, "PATCH", path, IF_MATCH(full), "{\"priority\": 4}"), 412, "precondition-failed");
    EXPECT_PROBLEM(ask(s, "PATCH", path, IF_MATCH(basic), "{\"priority\": 4}"), 412, "precondition-failed");
    EXPECT_NUMBER(get(s, "%s", path), "priority", 3);
    char *now = header(get(s, "%s?view=basic", path), "ETag");
    EXPECT_NUMBER(EXPECT(ask(s, "PATCH", path, IF_MATCH(format("\"a\", W/%s", now)), "{\"priority\": 5}"), 200),
                  "priority", 5);
    EXPECT_NUMBER(EXPECT(ask(s, "PATCH", path, IF_MATCH("*"), "{\"priority\": 6}"), 200), "priority", 6);
    EXPECT_PROBLEM(ask(s, "PATCH", "/invocations/0000000000000", IF_MATCH("*"), "{\"priority\": 6}"), 404,
                   "not-found");
    EXPECT_PROBLEM(ask(s, "PATCH", "/invocations/0000000000000", IF_MATCH("\"a\""), "{\"priority\": 6}"), 404,
                   "not-found");

    EXPECT(post(s, format("%s/cancel", path), NULL), 200);
    char *cancelled = header(get(s, "%s", path), "ETag");
    EXPECT(post(s, format("%s/retry", path), NULL), 200);
    final(s, id);
    EXPECT_PROBLEM(ask(s, "DELETE", path, format("If-Match: %s\r\n", cancelled), NULL), 412,
                   "precondition-failed");
    char *last = header(get(s, "%s", path), "ETag");
    EXPECT(ask(s, "DELETE", path, format("If-Match: %s\r\n", last), NULL), 204);
}

/* Between the comparison and the write there is a commit's time. */
Test(alter, if_match_holds_in_the_write_as_well)
{
    struct server *s = prepare(TASKS);
    prepare_to_hold_commits(s);
    start(s);
    char *id = submit(s, "{'task': 'echo', 'delay': '1h'}"), *path = format("/invocations/%s", id);
    char *tag = header(get(s, "%s", path), "ETag");
    hold_commits(s);
    struct client *first = client_open(s), *second = client_open(s);
    client_ask(first, "PATCH", path, IF_MATCH(tag), "{\"priority\": 3}", 15);
    await_held_commit(s);
    client_ask(second, "PATCH", path, IF_MATCH(tag), "{\"priority\": 4}", 15);
    REQUIRE(!client_hears(second, 100), "it was answered before its commit");
    release_commits(s);
    EXPECT(client_receive(first, false), 200);
    EXPECT_PROBLEM(client_receive(second, false), 412, "precondition-failed");
    EXPECT_NUMBER(get(s, "%s", path), "priority", 3);
}

/* Takes 1,000 a step. */
static char *all_ids(struct server *s, int count)
{
    char *list = NULL, *path = strdup("/invocations?limit=1000");
    size_t length;
    FILE *out = open_memstream(&list, &length);
    int n = 0;
    while (path) {
        struct reply *r = EXPECT(get(s, "%s", path), 200);
        const cJSON *item;
        cJSON_ArrayForEach(item, field(r, "items"))
            fprintf(out, "%s\"%s\"", n++ ? "," : "", cJSON_GetObjectItem(item, "id")->valuestring);
        path = *text_of(r, "next") ? format("/invocations?limit=1000&cursor=%s", text_of(r, "next")) : NULL;
    }
    fclose(out);
    REQUIRE(n == count, "%d", n);
    return list;
}

/* The client's end was the end of the change, at whatever step that was. */
Test(alter, a_bulk_change_goes_on_when_its_client_has_left)
{
    enum { ALL = 3500 };
    char *lines = NULL;
    size_t length;
    FILE *out = open_memstream(&lines, &length);
    for (int i = 0; i < ALL; i++)
        fputs("{\"task\": \"count\"}\n", out);
    fclose(out);
    for (int by_id = 0; by_id < 2; by_id++) {
        struct server *s = prepare(TASKS);
        prepare_to_hold_commits(s);
        start(s);
        EXPECT(post(s, "/tasks/count/pause", NULL), 200);
        EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
        char *body = by_id ? format("{\"ids\": [%s]}", all_ids(s, ALL)) : "{\"filter\": {}}";
        hold_commits(s);
        struct client *c = client_open(s);
        client_ask(c, "POST", "/invocations/cancel", "Content-Type: application/json\r\n", body, strlen(body));
        await_held_commit(s);
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)); /* at once */
        client_close(c);
        for (int i = 0; i < 3; i++)
            EXPECT(get(s, "/healthz"), 200); /* the end was heard before these */
        release_commits(s);
        WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.cancelled") == ALL);
        cr_assert_eq(terminate(s), 0);
    }
}
