/* Tasks that are run elsewhere: a worker asks, renews, reports. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/resource.h>

SUITE(leases);

#define FAR                                                                         \
    "tasks:\n"                                                                      \
    "  far: {kind: remote, max_retries: 2, backoff: {initial: 1ms}}\n"              \
    "  other: {kind: remote}\n"                                                     \
    "  add: {kind: remote, params: {x: integer, y: {type: integer, default: 1}}}\n" \
    "  echo: {kind: native, module: $NATIVE}\n"

#define JSON "Content-Type: application/json\r\n"

/* One lease that there must be by now, or within the patience of a test. */
static struct reply *lease(struct server *s, const char *more)
{
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'wait': '30s'%s}", quoted(more)), 200);
    REQUIRE(cJSON_GetArraySize(field(r, "leases")) == 1, "%s", r->body);
    return r;
}

static const char *token_of(struct reply *r)
{
    return text_of(r, "leases.0.token");
}

static struct reply *tell(struct server *s, const char *token, const char *what, const char *body)
{
    return post(s, format("/leases/%s/%s", token, what), "%s", quoted(body));
}

static bool gives_nothing(struct reply *r)
{
    return r->status == 200 && cJSON_GetArraySize(field(r, "leases")) == 0;
}

static bool waits(struct server *s, int count)
{
    return number_of(get(s, "/stats"), "service.waiting_requests") == count;
}

/* A poll of worker NAME that finds nothing and waits. */
static struct client *wait_as(struct server *s, const char *name)
{
    struct client *client = client_open(s);
    char *body = format("{\"worker\": \"%s\", \"wait\": \"60s\", \"lease\": \"1m\"}", name);
    int before = (int)number_of(get(s, "/stats"), "service.waiting_requests");
    client_ask(client, "POST", "/leases", JSON, body, strlen(body));
    WAIT_UNTIL(waits(s, before + 1));
    return client;
}

/* --- the life of a turn --------------------------------------------------------- */

Test(leases, what_was_leased_runs_and_succeeds_with_what_was_reported)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far', 'args': {'n': 1.10}}");
    struct reply *r = lease(s, "");
    EXPECT_TEXT(EXPECT_TEXT(r, "leases.0.invocation.id", id), "leases.0.invocation.status", "running");
    EXPECT_TEXT(EXPECT_NUMBER(r, "leases.0.invocation.attempt", 1), "leases.0.invocation.worker", "w");
    EXPECT_HAS(EXPECT_NULL(EXPECT_NULL(r, "leases.0.state"), "leases.0.woken"), "\"args\":{\"n\": 1.10}");
    EXPECT_TEXT(r, "state", "active");
    struct reply *shown = EXPECT(get(s, "/leases/%s", token_of(r)), 200);
    EXPECT_TEXT(EXPECT_TEXT(shown, "token", token_of(r)), "expires_at", text_of(r, "leases.0.expires_at"));
    EXPECT_TEXT(shown, "invocation.id", id);

    EXPECT(tell(s, token_of(r), "complete", "{'result': 2.50}"), 204);
    EXPECT_HAS(EXPECT_TEXT(final(s, id), "status", "succeeded"), "\"result\":2.50");
    EXPECT_PROBLEM(get(s, "/leases/%s", token_of(r)), 409, "stale-lease");
}

Test(leases, a_poll_that_waits_is_answered_when_there_is_work)
{
    struct server *s = serve(FAR);
    struct client *client = wait_as(s, "w");
    char *id = submit(s, "{'task': 'far'}");
    struct reply *r = EXPECT(client_receive(client, false), 200);
    EXPECT_NULL(EXPECT_TEXT(r, "leases.0.invocation.id", id), "leases.0.invocation.args");
    EXPECT(tell(s, token_of(r), "complete", "{}"), 204);
    EXPECT_NULL(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result");
}

Test(leases, a_poll_that_need_not_wait_does_not)
{
    struct server *s = serve(FAR);
    cr_assert(gives_nothing(post(s, "/leases", "{'worker': 'w'}")));
    cr_assert(gives_nothing(post(s, "/leases", "{'worker': 'w', 'max': 0, 'wait': '60s'}")));
    submit(s, "{'task': 'far'}");
    cr_assert(gives_nothing(post(s, "/leases", "{'worker': 'w', 'max': 0}")));
    cr_assert_not(gives_nothing(post(s, "/leases", "{'worker': 'w'}")));
}

/* What is queued comes from disk: a poll that need not wait stays for that alone. */
Test(leases, a_poll_right_after_a_start_finds_what_is_queued)
{
    struct server *s = serve(FAR);
    for (int i = 0; i < 8; i++)
        submit(s, "{'task': 'far'}");
    for (int i = 0; i < 8; i++) {
        restart(s);
        cr_assert_not(gives_nothing(post(s, "/leases", "{'worker': 'w'}")), "the %dth", i + 1);
    }
    cr_assert(gives_nothing(post(s, "/leases", "{'worker': 'w'}")));
}

Test(leases, of_two_polls_one_gets_the_one_job)
{
    struct server *s = serve(FAR);
    struct client *first = wait_as(s, "a"), *second = wait_as(s, "b");
    char *id = submit(s, "{'task': 'far'}");
    EXPECT_TEXT(EXPECT(client_receive(first, false), 200), "leases.0.invocation.id", id);
    cr_assert(waits(s, 1));
    char *next = submit(s, "{'task': 'far'}");
    EXPECT_TEXT(EXPECT(client_receive(second, false), 200), "leases.0.invocation.id", next);
}

Test(leases, a_worker_gets_its_tasks_and_as_many_as_it_asks_for)
{
    struct server *s = serve(FAR);
    for (int i = 0; i < 5; i++)
        submit(s, "{'task': 'far', 'args': %d}", i);
    char *other = submit(s, "{'task': 'other', 'priority': 2}");
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'tasks': ['other', 'unknown'], 'max': 9}"), 200);
    cr_assert_eq(cJSON_GetArraySize(field(r, "leases")), 1, "%s", r->body);
    EXPECT_TEXT(r, "leases.0.invocation.id", other);
    r = EXPECT(post(s, "/leases", "{'worker': 'w', 'max': 3}"), 200);
    cr_assert_eq(cJSON_GetArraySize(field(r, "leases")), 3, "%s", r->body);
    EXPECT_NUMBER(EXPECT_NUMBER(r, "leases.0.invocation.args", 0), "leases.2.invocation.args", 2);
    cr_assert(gives_nothing(post(s, "/leases", "{'worker': 'w', 'tasks': ['unknown', 'other']}")));
    cr_assert(gives_nothing(post(s, "/leases", "{'worker': 'w', 'tasks': []}")));
    r = EXPECT(post(s, "/leases", "{'worker': 'w', 'max': 100}"), 200);
    cr_assert_eq(cJSON_GetArraySize(field(r, "leases")), 2, "%s", r->body);
}

Test(leases, arguments_are_bound_wherever_they_are_kept)
{
    struct server *s = serve(FAR);
    char *large = calloc(1, 100001);
    memset(large, 'x', 100000);
    submit(s, "{'task': 'add', 'args': [41]}");
    EXPECT_HAS(lease(s, ""), "\"args\":{\"x\":41,\"y\":1}");
    for (int i = 0; i < 3; i++)
        submit(s, "{'task': 'far', 'args': '%s'}", large);
    EXPECT_HAS(lease(s, ""), large);
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'max': 9}"), 200);
    cr_assert_eq(strlen(text_of(r, "leases.1.invocation.args")), 100000);
    EXPECT_HAS(get(s, "/leases/%s", token_of(r)), large);
}

Test(leases, a_failure_is_tried_again_until_its_budget_is_spent)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    for (int attempt = 1; attempt <= 3; attempt++) {
        struct reply *r = EXPECT_NUMBER(lease(s, ""), "leases.0.invocation.attempt", attempt);
        EXPECT(tell(s, token_of(r), "fail",
                    "{'error': {'type': 'Oops', 'message': 'no', 'traceback': 'line 1', 'exit_code': 3, "
                    "'stderr': 'a\\u0000b', 'types': ['Oops', 'Exception']}}"),
               204);
    }
    struct reply *r = EXPECT_TEXT(final(s, id), "status", "failed");
    EXPECT_TEXT(EXPECT_TEXT(r, "error.type", "Oops"), "error.message", "no");
    EXPECT_NUMBER(EXPECT_TEXT(r, "error.traceback", "line 1"), "error.exit_code", 3);
    EXPECT_TEXT(EXPECT_HAS(r, "a\\u0000b"), "error.types.1", "Exception");
    WAIT_UNTIL(strstr(server_log(s), "an attempt failed"));
}

Test(leases, a_failure_may_say_whether_and_when_it_is_tried_again)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    EXPECT(tell(s, token_of(lease(s, "")), "fail", "{'error': {'type': 'Oops', 'retry_after': '1000d'}}"), 204);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "scheduled");
    EXPECT(patch(s, format("/invocations/%s", id), "{'run_at': null}"), 200);
    EXPECT(tell(s, token_of(lease(s, "")), "fail", "{'error': {'type': 'Oops', 'retry': false}}"), 204);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "failed"), "attempt", 2);
}

/* --- renewing and losing ------------------------------------------------------------ */

Test(leases, a_heartbeat_renews_the_lease_and_says_how_far_it_is)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    struct reply *given = lease(s, ", 'lease': '1s'"), *r = NULL;
    int64_t begun = now_ms();
    WAIT_UNTIL(
        EXPECT(r = tell(s, token_of(given), "heartbeat", "{'progress': {'value': 0.5, 'note': 'half'}}"), 200) &&
        now_ms() - begun > 1500);
    cr_assert(strcmp(text_of(r, "expires_at"), text_of(given, "leases.0.expires_at")) > 0);
    cr_assert(cJSON_IsFalse(field(r, "cancel")));
    r = get(s, "/invocations/%s", id);
    EXPECT_TEXT(EXPECT_NUMBER(r, "progress.value", 0.5), "progress.note", "half");
    EXPECT_NUMBER(EXPECT_TEXT(r, "status", "running"), "attempt", 1);
    EXPECT(tell(s, token_of(given), "heartbeat", "{'progress': 7}"), 200);
    EXPECT_NUMBER(get(s, "/invocations/%s", id), "progress.value", 7);
    EXPECT(post(s, format("/leases/%s/heartbeat", token_of(given)), NULL), 200);
}

Test(leases, a_report_that_is_no_report_spoils_none_beside_it)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}"), nonsense[201];
    memset(nonsense, 'x', 200);
    nonsense[200] = '\0';
    const char *token = token_of(lease(s, ""));
    struct reply *r =
        post(s, "/leases",
             "{'worker': 'w', 'max': 0, 'done': [{'token': '%s', 'result': 1}, {'token': '%s', 'result': 2}]}",
             nonsense, token);
    EXPECT_TEXT(EXPECT(r, 200), "refused.0.token", nonsense);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result", 2);
}

/* The holder's heartbeats were answered 503: it paid for the server's own disk. */
Test(leases, an_outage_of_the_disk_ends_no_lease)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct server *s = prepare("tasks: {far: {kind: remote, max_recoveries: 0}}\n");
    const char *bad = file_in(s, "bad");
    s->variables = (const char *[]){format("LD_PRELOAD=%s", native("bad_disk")), format("BAD_DISK=%s", bad), NULL};
    start(s);
    char *id = submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s, ", 'lease': '3s'"));
    touch(bad);
    int64_t over = now_ms() + 3100;
    WAIT_UNTIL(tell(s, token, "heartbeat", "{'progress': 1}")->status == 503 && now_ms() > over);
    unlink(bad);
    WAIT_UNTIL(get(s, "/readyz")->status == 200);
    int64_t again = now_ms() + 1500; /* its end, which could not be written, was tried again by then */
    WAIT_UNTIL(now_ms() > again);
    EXPECT(tell(s, token, "heartbeat", "{'progress': 2}"), 200);
    EXPECT(tell(s, token, "complete", "{'result': 1}"), 204);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

Test(leases, a_lease_that_runs_out_comes_back_and_its_token_is_stale)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    const char *stale = token_of(lease(s, ", 'lease': '1s'"));
    struct reply *r = EXPECT_TEXT(lease(s, ""), "leases.0.invocation.id", id);
    EXPECT_NUMBER(r, "leases.0.invocation.attempt", 2);

    EXPECT_PROBLEM(get(s, "/leases/%s", stale), 409, "stale-lease");
    EXPECT_PROBLEM(tell(s, stale, "heartbeat", "{'progress': 1}"), 409, "stale-lease");
    EXPECT_PROBLEM(tell(s, stale, "complete", "{'result': 1}"), 409, "stale-lease");
    EXPECT_PROBLEM(tell(s, stale, "fail", "{'error': {'type': 'x'}}"), 409, "stale-lease");
    struct reply *refused =
        post(s, "/leases", "{'worker': 'w', 'max': 0, 'done': [{'token': '%s', 'result': 1}]}", stale);
    EXPECT_TEXT(EXPECT(refused, 200), "refused.0.token", stale);

    EXPECT(tell(s, token_of(r), "complete", "{'result': 2}"), 204);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result", 2);
}

/* Whatever stands in the body, of whatever type and length. */
Test(leases, a_stale_token_is_refused_before_the_body_is_looked_at)
{
    struct server *s = serve(FAR);
    static const char *const tokens[] = {"0BYZ2H9QW4G00-5c1e09a37b42d8f6", "x", "0BYZ2H9QW4G00",
                                         "0BYZ2H9QW4G00-5C1E09A37B42D8F6"};
    static const char *const verbs[] = {"heartbeat", "complete", "fail", "children", "messages"};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (size_t k = 0; k < sizeof verbs / sizeof *verbs; k++) {
            char *path = format("/leases/%s/%s", tokens[i], verbs[k]);
            EXPECT_PROBLEM(ask(s, "POST", path, JSON, "{bad"), 409, "stale-lease");
            EXPECT_PROBLEM(ask(s, "POST", path, "Content-Type: text/plain\r\n", "x"), 409, "stale-lease");
        }
    char *huge = calloc(1, 9 << 20);
    memset(huge, ' ', (9 << 20) - 1);
    EXPECT_PROBLEM(ask(s, "POST", "/leases/x/heartbeat", JSON, huge), 409, "stale-lease");
}

/* --- output ------------------------------------------------------------------------- */

static struct reply *print(struct server *s, const char *token, const char *query, const char *text)
{
    return ask(s, "POST", format("/leases/%s/log%s", token, query), "Content-Type: text/plain\r\n", text);
}

Test(leases, what_a_turn_prints_is_its_log)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    const char *first = token_of(lease(s, "")), *second;
    EXPECT(print(s, first, "", "one\n"), 204);
    EXPECT(print(s, first, "?stream=stderr", "two \xff\n"), 204);
    EXPECT(print(s, first, "?stream=stdout", ""), 204);
    EXPECT(print(s, first, "", "three\n"), 204);
    EXPECT(tell(s, first, "fail", "{'error': {'type': 'x'}}"), 204);
    EXPECT_PROBLEM(print(s, first, "", "late\n"), 409, "stale-lease");
    EXPECT(print(s, second = token_of(lease(s, "")), "", "four\n"), 204);
    EXPECT(tell(s, second, "complete", "{}"), 204);
    final(s, id);
    cr_assert_str_eq(get(s, "/invocations/%s/log", id)->body, "one\ntwo \xff\nthree\nfour\n");
    cr_assert_str_eq(get(s, "/invocations/%s/log?attempt=2", id)->body, "four\n");
}

Test(leases, a_log_that_is_followed_has_what_is_printed_elsewhere)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s, ""));
    struct client *client = client_open(s);
    client_ask(client, "GET", format("/invocations/%s/log?follow=true", id), NULL, NULL, 0);
    EXPECT(client_receive_head(client), 200);
    EXPECT(print(s, token, "", "one\n"), 204);
    cr_assert_str_eq(client_receive_piece(client), "one\n");
    EXPECT(print(s, token, "", "two\n"), 204);
    cr_assert_str_eq(client_receive_piece(client), "two\n");
    EXPECT(tell(s, token, "complete", "{}"), 204);
    cr_assert_null(client_receive_piece(client));
}

Test(leases, a_log_has_a_limit_and_says_so_once)
{
    struct server *s = serve("limits: {log: 1KiB}\n" FAR);
    char *text = calloc(1, 701), *id = submit(s, "{'task': 'far'}");
    memset(text, 'x', 700);
    const char *token = token_of(lease(s, ""));
    for (int i = 0; i < 4; i++)
        EXPECT(print(s, token, "", text), 204);
    char *log = get(s, "/invocations/%s/log", id)->body;
    cr_assert_eq(strspn(log, "x"), 1024);
    cr_assert_str_eq(log + 1024, "\n[errand: the log reached its limit of 1 KiB, the rest is left out]\n");
}

Test(leases, a_log_is_plain_text)
{
    struct server *s = serve(FAR);
    submit(s, "{'task': 'far'}");
    char *path = format("/leases/%s/log", token_of(lease(s, "")));
    EXPECT_PROBLEM(ask(s, "POST", path, JSON, "{}"), 415, "unsupported-media-type");
    EXPECT_PROBLEM(ask(s, "POST", path, NULL, "x"), 415, "unsupported-media-type");
    EXPECT_PROBLEM(ask(s, "POST", format("%s?stream=tty", path), "Content-Type: text/plain\r\n", "x"), 400,
                   "invalid-query");
    EXPECT(ask(s, "POST", path, NULL, NULL), 204);
}

/* --- cancelling ------------------------------------------------------------------------ */

Test(leases, a_cancel_is_heard_at_the_heartbeat_and_in_a_poll)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    struct reply *given = lease(s, "");
    struct client *client = wait_as(s, "w");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    struct reply *r = EXPECT(client_receive(client, false), 200);
    EXPECT_TEXT(r, "cancel.0", token_of(given));
    cr_assert(gives_nothing(r));

    r = EXPECT(tell(s, token_of(given), "heartbeat", "{}"), 200);
    cr_assert(cJSON_IsTrue(field(r, "cancel")), "%s", r->body);
    EXPECT_TEXT(r, "expires_at", text_of(given, "leases.0.expires_at"));
    EXPECT(tell(s, token_of(given), "fail", "{'error': {'type': 'stopped'}}"), 204);
    EXPECT_NULL(EXPECT_TEXT(final(s, id), "status", "cancelled"), "error");
    EXPECT(tell(s, token_of(given), "fail", "{'error': {'type': 'stopped'}}"), 204);
    EXPECT_PROBLEM(tell(s, token_of(given), "complete", "{}"), 409, "stale-lease");
}

Test(leases, what_succeeds_after_a_cancel_has_succeeded)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    struct reply *given = lease(s, "");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT(tell(s, token_of(given), "complete", "{'result': 1}"), 204);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

/* --- reports with a poll ------------------------------------------------------------------ */

Test(leases, one_call_reports_and_asks)
{
    struct server *s = serve(FAR);
    char *good = submit(s, "{'task': 'far'}"), *bad = submit(s, "{'task': 'other'}");
    char *next = submit(s, "{'task': 'far'}");
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'max': 2}"), 200);
    const char *first = token_of(r), *second = text_of(r, "leases.1.token");
    r = post(s, "/leases",
             "{'worker': 'w', 'done': [{'token': '%s', 'result': [1]}, "
             "{'token': '%s', 'error': {'type': 'Oops'}}, {'token': 'nonsense', 'result': 1}]}",
             first, second);
    EXPECT_TEXT(EXPECT(r, 200), "leases.0.invocation.id", next);
    cr_assert_eq(cJSON_GetArraySize(field(r, "refused")), 1, "%s", r->body);
    EXPECT_TEXT(r, "refused.0.token", "nonsense");
    EXPECT_TEXT(final(s, good), "status", "succeeded");
    EXPECT_TEXT(EXPECT_TEXT(final(s, bad), "status", "failed"), "error.type", "Oops");
}

/* The answer to a report may be lost. */
Test(leases, a_report_may_come_again_but_not_otherwise)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s, ""));
    for (int i = 0; i < 2; i++) {
        EXPECT(tell(s, token, "complete", "{'result': 1}"), 204);
        struct reply *r =
            post(s, "/leases", "{'worker': 'w', 'max': 0, 'done': [{'token': '%s', 'result': 1}]}", token);
        cr_assert_eq(cJSON_GetArraySize(field(EXPECT(r, 200), "refused")), 0, "%s", r->body);
    }
    EXPECT_PROBLEM(tell(s, token, "fail", "{'error': {'type': 'x'}}"), 409, "stale-lease");
    EXPECT_PROBLEM(tell(s, token, "heartbeat", "{}"), 409, "stale-lease");
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

Test(leases, a_failure_may_be_reported_again_while_it_waits_for_its_retry)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s, ""));
    for (int i = 0; i < 2; i++)
        EXPECT(tell(s, token, "fail", "{'error': {'type': 'x', 'retry_after': '1000d'}}"), 204);
    EXPECT_PROBLEM(tell(s, token, "complete", "{'result': 1}"), 409, "stale-lease");
    EXPECT_NUMBER(EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "scheduled"), "attempt", 1);
}

Test(leases, many_reports_are_written_together)
{
    enum { MANY = 60 };
    struct server *s = serve(FAR);
    for (int i = 0; i < MANY; i++)
        submit(s, "{'task': 'far'}");
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'max': 100}"), 200);
    cr_assert_eq(cJSON_GetArraySize(field(r, "leases")), MANY, "%s", r->body);
    char *done = format("%s", "");
    for (int i = 0; i < MANY; i++)
        done = format("%s%s{\"token\": \"%s\", \"result\": %d}", done, i ? "," : "",
                      text_of(r, format("leases.%d.token", i)), i);
    r = EXPECT(post(s, "/leases", "{'worker': 'w', 'max': 0, 'done': [%s]}", done), 200);
    cr_assert_eq(cJSON_GetArraySize(field(r, "refused")), 0, "%s", r->body);
    EXPECT_NUMBER(get(s, "/tasks/far"), "counts.succeeded", MANY);
}

Test(leases, a_result_over_the_limit_is_a_failure)
{
    struct server *s = serve("limits: {result: 1KiB, body: 1KiB}\n" FAR);
    char *large = calloc(1, 2001);
    memset(large, 'x', 2000);
    char *id = submit(s, "{'task': 'other'}");
    const char *token = token_of(lease(s, ""));
    EXPECT(post(s, format("/leases/%s/complete", token), "{'result': '%s'}", large), 204);
    EXPECT_TEXT(EXPECT_TEXT(final(s, id), "status", "failed"), "error.type", "bad_result");
    EXPECT_PROBLEM(
        post(s, "/leases", "{'worker': 'w', 'max': 0, 'done': [{'token': '%s', 'result': '%s'}]}", token, large),
        413, "payload-too-large");
}

/* --- who leaves ------------------------------------------------------------------------------ */

Test(leases, a_client_that_leaves_a_poll_costs_nothing_and_loses_nothing)
{
    struct server *s = serve(FAR);
    client_close(wait_as(s, "gone"));
    WAIT_UNTIL(waits(s, 0));
    char *id = submit(s, "{'task': 'far'}");
    EXPECT_TEXT(EXPECT_NUMBER(lease(s, ""), "leases.0.invocation.attempt", 1), "leases.0.invocation.id", id);
}

/* Its claim was on its way to disk when it left. */
static void leave_while_it_is_given(const char *wait)
{
    struct server *s = prepare(FAR);
    prepare_to_hold_commits(s);
    start(s);
    submit(s, "{'task': 'far'}");
    EXPECT(tell(s, token_of(lease(s, "")), "complete", "{}"), 204); /* what a start has to read was read */
    char *id = submit(s, "{'task': 'far'}");
    char *body = format("{\"worker\": \"gone\", \"lease\": \"1h\"%s}", wait);
    struct client *client = client_open(s);
    hold_commits(s);
    client_ask(client, "POST", "/leases", JSON, body, strlen(body));
    await_held_commit(s);
    client_close(client);
    release_commits(s);
    struct reply *r = lease(s, "");
    EXPECT_NUMBER(EXPECT_TEXT(r, "leases.0.invocation.id", id), "leases.0.invocation.attempt", 1);
    EXPECT(tell(s, token_of(r), "complete", "{}"), 204);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    r = get(s, "/invocations/%s/attempts", id);
    cr_assert_eq(cJSON_GetArraySize(field(r, "items")), 1, "%s", r->body);
}

Test(leases, what_is_given_to_a_client_that_has_left_comes_back)
{
    leave_while_it_is_given("");
}

Test(leases, what_is_given_to_a_client_that_has_left_its_wait_comes_back)
{
    leave_while_it_is_given(", \"wait\": \"60s\"");
}

/* --- the server ends ---------------------------------------------------------------------------- */

Test(leases, a_lease_outlives_the_server_that_gave_it)
{
    struct server *s = serve(FAR);
    char *id = submit(s, "{'task': 'far'}"), *other = submit(s, "{'task': 'far'}");
    const char *first = token_of(lease(s, "")), *second = token_of(lease(s, ""));
    cr_assert_eq(terminate(s), 0);
    start(s);
    EXPECT_NUMBER(EXPECT_TEXT(get(s, "/leases/%s", first), "invocation.status", "running"), "invocation.attempt",
                  1);
    EXPECT(tell(s, first, "complete", "{'result': 1}"), 204);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "attempt", 1);
    restart(s);
    EXPECT(tell(s, second, "heartbeat", "{}"), 200);
    EXPECT(tell(s, second, "complete", "{'result': 2}"), 204);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, other), "status", "succeeded"), "attempt", 1);
}

Test(leases, polls_are_answered_with_nothing_when_the_server_closes)
{
    struct server *s = serve(FAR);
    struct client *client = wait_as(s, "w");
    send_signal(s, SIGTERM);
    struct reply *r = client_receive(client, false);
    REQUIRE(r);
    cr_assert(gives_nothing(r), "%s", r->body);
    cr_assert_eq(await_exit(s), 0);
}

/* Reports are taken as long as it listens. */
Test(leases, a_server_that_closes_takes_reports_and_gives_nothing)
{
    struct server *s = serve(FAR "  hold: {kind: native, module: $NATIVE}\n");
    char *held = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, held, "running");
    submit(s, "{'task': 'far'}");
    submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s, ""));
    EXPECT(post(s, "/shutdown", NULL), 202);
    struct reply *r =
        post(s, "/leases", "{'worker': 'w', 'wait': '60s', 'done': [{'token': '%s', 'result': 1}]}", token);
    cr_assert(gives_nothing(r), "%s", r->body);
    cr_assert_eq(cJSON_GetArraySize(field(r, "refused")), 0, "%s", r->body);
    touch(file_in(s, "go"));
    cr_assert_eq(await_exit(s), 0);
    start(s);
    EXPECT_NUMBER(get(s, "/tasks/far"), "counts.succeeded", 1);
    EXPECT_NUMBER(get(s, "/tasks/far"), "counts.queued", 1);
}

/* --- the disk ------------------------------------------------------------------------------------- */

Test(leases, a_disk_that_takes_no_writes_is_503_and_costs_nothing)
{
    struct rlimit before, none = {1, RLIM_INFINITY};
    struct server *s = serve(FAR);
    char *first = submit(s, "{'task': 'far'}"), *second = submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s, ""));
    REQUIRE(prlimit(s->pid, RLIMIT_FSIZE, NULL, &before) == 0);
    none.rlim_max = before.rlim_max;
    REQUIRE(prlimit(s->pid, RLIMIT_FSIZE, &none, NULL) == 0);
    struct reply *r = EXPECT_PROBLEM(tell(s, token, "complete", "{'result': 1}"), 503, "unavailable");
    cr_assert(header(r, "Retry-After"), "%s", r->head);
    EXPECT_PROBLEM(tell(s, token, "heartbeat", "{}"), 503, "unavailable");
    EXPECT_PROBLEM(post(s, "/leases", "{'worker': 'w', 'done': [{'token': '%s', 'result': 1}]}", token), 503,
                   "unavailable");
    EXPECT_PROBLEM(post(s, "/leases", "{'worker': 'w', 'wait': '10ms'}"), 503, "unavailable");
    EXPECT(get(s, "/leases/%s", token), 200);

    REQUIRE(prlimit(s->pid, RLIMIT_FSIZE, &before, NULL) == 0);
    WAIT_UNTIL(tell(s, token, "complete", "{'result': 1}")->status == 204);
    EXPECT_NUMBER(final(s, first), "attempt", 1);
    EXPECT_TEXT(EXPECT_NUMBER(lease(s, ""), "leases.0.invocation.attempt", 1), "leases.0.invocation.id", second);
}

/* --- workers ---------------------------------------------------------------------------------------- */

Test(leases, workers_are_shown_with_what_they_run)
{
    struct server *s = serve("slots: 3\n" FAR);
    char *id = submit(s, "{'task': 'far'}");
    EXPECT(post(s, "/leases", "{'worker': {'name': 'w', 'host': 'h', 'version': '2', 'pid': 7}, 'max': 4}"), 200);
    struct reply *r = EXPECT(get(s, "/workers"), 200);
    EXPECT_TEXT(EXPECT_TEXT(r, "items.0.name", "local"), "items.0.kind", "local");
    EXPECT_NUMBER(EXPECT_NUMBER(r, "items.0.capacity", 3), "items.0.busy", 0);
    EXPECT_TEXT(EXPECT_TEXT(r, "items.1.name", "w"), "items.1.kind", "remote");
    EXPECT_TEXT(EXPECT_TEXT(r, "items.1.host", "h"), "items.1.version", "2");
    EXPECT_TEXT(EXPECT_NUMBER(r, "items.1.pid", 7), "items.1.state", "active");
    EXPECT_TEXT(EXPECT_NUMBER(r, "items.1.busy", 1), "items.1.running.0", id);
    cr_assert_eq(cJSON_GetArraySize(field(r, "items")), 2, "%s", r->body);
}

Test(leases, a_quiet_worker_is_given_nothing_until_it_is_active_again)
{
    struct server *s = serve(FAR);
    struct client *client = wait_as(s, "w");
    EXPECT_TEXT(EXPECT(post(s, "/workers/w/quiet", NULL), 200), "state", "quiet");
    EXPECT_TEXT(EXPECT(client_receive(client, false), 200), "state", "quiet");
    submit(s, "{'task': 'far'}");
    struct reply *r = post(s, "/leases", "{'worker': 'w'}");
    cr_assert(gives_nothing(r), "%s", r->body);
    EXPECT_TEXT(r, "state", "quiet");
    EXPECT_TEXT(EXPECT(post(s, "/workers/w/stop", NULL), 200), "state", "stop");
    EXPECT_TEXT(post(s, "/leases", "{'worker': 'w'}"), "state", "stop");
    EXPECT_TEXT(EXPECT(post(s, "/workers/w/active", NULL), 200), "state", "active");
    EXPECT_TEXT(lease(s, ""), "state", "active");
    EXPECT_PROBLEM(post(s, "/workers/nobody/quiet", NULL), 404, "not-found");
    EXPECT_PROBLEM(post(s, "/workers/local/quiet", NULL), 409, "conflict");
}

Test(leases, what_nobody_asks_for_is_named)
{
    struct server *s = serve(FAR);
    EXPECT(get(s, "/readyz?strict=1"), 200);
    submit(s, "{'task': 'far'}");
    WAIT_UNTIL(cJSON_GetArraySize(field(get(s, "/stats"), "unserved")) == 1);
    EXPECT_NULL(EXPECT_TEXT(get(s, "/stats"), "unserved.0.task", "far"), "unserved.0.last_asked_at");
    EXPECT_HAS(EXPECT_PROBLEM(get(s, "/readyz?strict=1"), 503, "unserved"), "far");
    EXPECT(get(s, "/readyz"), 200);
    EXPECT(get(s, "/readyz?strict=0"), 200);
    EXPECT_PROBLEM(get(s, "/readyz?strict=yes"), 400, "invalid-query");
    lease(s, "");
    submit(s, "{'task': 'far'}");
    EXPECT(get(s, "/readyz?strict=1"), 200);
    cr_assert_eq(cJSON_GetArraySize(field(get(s, "/stats"), "unserved")), 0);
}

/* --- what is refused ------------------------------------------------------------------------------------ */

Test(leases, all_faults_of_a_request_are_named)
{
    struct server *s = serve(FAR);
    static const struct {
        const char *body, *pointer;
    } rows[] = {
        {"{}", "/worker"},
        {"{'worker': ''}", "/worker"},
        {"{'worker': 'a/b'}", "/worker"},
        {"{'worker': 'a\\nb'}", "/worker"},
        {"{'worker': 'local'}", "/worker"},
        {"{'worker': 7}", "/worker"},
        {"{'worker': {}}", "/worker/name"},
        {"{'worker': {'name': 'w', 'pid': 0}}", "/worker/pid"},
        {"{'worker': {'name': 'w', 'color': 'red'}}", "/worker/color"},
        {"{'worker': 'w', 'tasks': 'far'}", "/tasks"},
        {"{'worker': 'w', 'tasks': ['far', 7]}", "/tasks/1"},
        {"{'worker': 'w', 'tasks': ['echo']}", "/tasks/0"},
        {"{'worker': 'w', 'max': 101}", "/max"},
        {"{'worker': 'w', 'max': -1}", "/max"},
        {"{'worker': 'w', 'wait': '61s'}", "/wait"},
        {"{'worker': 'w', 'wait': 20}", "/wait"},
        {"{'worker': 'w', 'lease': '999ms'}", "/lease"},
        {"{'worker': 'w', 'lease': '61m'}", "/lease"},
        {"{'worker': 'w', 'done': {}}", "/done"},
        {"{'worker': 'w', 'done': [7]}", "/done/0"},
        {"{'worker': 'w', 'done': [{'result': 1}]}", "/done/0/token"},
        {"{'worker': 'w', 'done': [{'token': 'x'}]}", "/done/0"},
        {"{'worker': 'w', 'done': [{'token': 'x', 'result': 1, 'error': {'type': 'x'}}]}", "/done/0"},
        {"{'worker': 'w', 'done': [{'token': 'x', 'result': 1}, {'token': 'x', 'result': 1}]}", "/done/1"},
        {"{'worker': 'w', 'done': [{'token': 'x', 'error': {'message': 'x'}}]}", "/done/0/error/type"},
        {"{'worker': 'w', 'done': [{'token': 'x', 'error': {'type': ''}}]}", "/done/0/error/type"},
        {"{'worker': 'w', 'done': [{'token': 'x', 'error': {'type': 'x', 'retry': 1}}]}", "/done/0/error/retry"},
        {"{'worker': 'w', 'done': [{'token': 'x', 'error': {'type': 'x', 'retry_after': 1}}]}",
         "/done/0/error/retry_after"},
        {"{'worker': 'w', 'done': [{'token': 'x', 'error': {'type': 'x', 'types': [1]}}]}",
         "/done/0/error/types/0"},
        {"{'worker': 'w', 'done': [{'token': 'x', 'error': {'type': 'x', 'stderr': 1}}]}", "/done/0/error/stderr"},
        {"{'worker': 'w', 'suspend': {}}", "/suspend"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = EXPECT_PROBLEM(post(s, "/leases", "%s", quoted(rows[i].body)), 422, "invalid-request");
        cr_assert(faults_mention(r, rows[i].pointer), "%s: %s", rows[i].body, r->body);
    }
    char *longer = calloc(1, 102);
    memset(longer, 'w', 101);
    EXPECT_PROBLEM(post(s, "/leases", "{'worker': '%s'}", longer), 422, "invalid-request");
    longer[100] = '\0';
    EXPECT(post(s, "/leases", "{'worker': '%s', 'wait': '0s', 'lease': '1h'}", longer), 200);
    EXPECT_PROBLEM(post(s, "/leases?wait=1", "{'worker': 'w'}"), 400, "invalid-query");
}

Test(leases, what_a_turn_says_is_checked)
{
    struct server *s = serve(FAR);
    submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s, ""));
    static const struct {
        const char *what, *body, *pointer;
    } rows[] = {
        {"heartbeat", "{'progress': 'half'}", "/progress"},
        {"heartbeat", "{'progress': 1e999}", "/progress"},
        {"heartbeat", "{'progress': {'note': 'x'}}", "/progress/value"},
        {"heartbeat", "{'progress': {'value': 1, 'note': 7}}", "/progress/note"},
        {"heartbeat", "{'messages': {}}", "/messages"},
        {"complete", "{'result': 1, 'error': {'type': 'x'}}", "/error"},
        {"fail", "{}", "/error"},
        {"fail", "{'error': 'x'}", "/error"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = EXPECT_PROBLEM(tell(s, token, rows[i].what, rows[i].body), 422, "invalid-request");
        cr_assert(faults_mention(r, rows[i].pointer), "%s: %s", rows[i].body, r->body);
    }
    EXPECT_PROBLEM(tell(s, token, "heartbeat?x=1", "{}"), 400, "invalid-query");
    EXPECT(tell(s, token, "complete", "{}"), 204);
}

Test(leases, a_reload_may_leave_arguments_that_no_longer_fit)
{
    struct server *s = serve(FAR);
    char *bad = submit(s, "{'task': 'add', 'args': {'x': 1, 'y': 2}}");
    configure(s, "tasks:\n  add: {kind: remote, params: {x: integer}, max_retries: 5}\n");
    send_signal(s, SIGHUP);
    WAIT_UNTIL(strstr(server_log(s), "reloaded"));
    char *good = submit(s, "{'task': 'add', 'args': {'x': 1}}");
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'max': 9}"), 200);
    cr_assert_eq(cJSON_GetArraySize(field(r, "leases")), 1, "%s", r->body);
    EXPECT_TEXT(r, "leases.0.invocation.id", good);
    EXPECT_TEXT(EXPECT_TEXT(final(s, bad), "status", "failed"), "error.type", "invalid_args");
}

Test(leases, polls_count_as_those_who_wait)
{
    struct server *s = serve("limits: {streams: 1}\n" FAR);
    wait_as(s, "w");
    EXPECT_PROBLEM(post(s, "/leases", "{'worker': 'b', 'wait': '1s'}"), 429, "too-many-streams");
    cr_assert(gives_nothing(post(s, "/leases", "{'worker': 'b'}")));
}

/* SHA-256 of "worker" and "boss". */
#define TOKENS                                                                                              \
    "tokens:\n"                                                                                             \
    "  - {name: worker, sha256: 87eba76e7f3164534045ba922e7770fb58bbd14ad732bbf5ba6f11cc56989e6e, scopes: " \
    "[work]}\n"                                                                                             \
    "  - {name: boss, sha256: a5e7c002443743c5836758c7d1cd8ddefd9fcf2061daa0efaac683fb99966057, scopes: "   \
    "[admin]}\n"

Test(leases, the_token_of_a_lease_is_the_permission_and_no_log_shows_it)
{
    struct server *s = serve("log: {level: debug}\n" TOKENS FAR);
    s->token = "boss";
    char *id = submit(s, "{'task': 'far', 'args': 1}");
    s->token = "worker";
    EXPECT_PROBLEM(get(s, "/invocations/%s", id), 403, "forbidden");
    EXPECT_PROBLEM(post(s, "/workers/w/quiet", NULL), 403, "forbidden");
    const char *token = token_of(lease(s, ""));
    s->token = NULL;
    EXPECT_PROBLEM(post(s, "/leases", "{'worker': 'w'}"), 401, "unauthorized");
    EXPECT(get(s, "/leases/%s", token), 200);
    EXPECT(tell(s, token, "heartbeat", "{}"), 200);
    EXPECT(ask(s, "PUT", format("/leases/%s/complete", token), NULL, NULL), 405);
    EXPECT(get(s, "/leases/%s/nothing", token), 404);
    EXPECT(tell(s, token, "complete", "{}"), 204);
    cr_assert_eq(terminate(s), 0);
    cr_assert(strstr(server_log(s), "/leases/{token}/complete"));
    cr_assert_null(strstr(server_log(s), token), "%s", server_log(s));
}
