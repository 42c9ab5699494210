/* Loops: each iteration is an invocation, and makes the next one by its end. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>

SUITE(loops);

#define CONFIG                                         \
    "tasks:\n"                                         \
    "  far: {kind: remote, backoff: {initial: 1ms}}\n" \
    "  typed: {kind: remote, params: {x: integer}}\n"  \
    "  echo: {kind: native, module: $NATIVE}\n"        \
    "  hold: {kind: native, module: $NATIVE}\n"        \
    "  fail: {kind: native, module: $NATIVE}\n"        \
    "  count: {kind: native, module: $NATIVE}\n"

/* --- who runs it ---------------------------------------------------------------------- */

struct turn {
    char *id, *token, *args;
};

static char *json_of(struct reply *r, const char *path)
{
    return cJSON_PrintUnformatted(field(r, path));
}

static struct turn lease(struct server *s)
{
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'wait': '30s', 'lease': '1h'}"), 200);
    REQUIRE(cJSON_GetArraySize(field(r, "leases")) == 1, "%s", r->body);
    return (struct turn){strdup(text_of(r, "leases.0.invocation.id")), strdup(text_of(r, "leases.0.token")),
                         json_of(r, "leases.0.invocation.args")};
}

static bool nobody_waits(struct server *s)
{
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'idle'}"), 200);
    return cJSON_GetArraySize(field(r, "leases")) == 0;
}

static struct reply *tell(struct server *s, struct turn turn, const char *what, const char *body)
{
    return EXPECT(post(s, format("/leases/%s/%s", turn.token, what), "%s", quoted(body)), 204);
}

static void complete(struct server *s, struct turn turn, const char *result)
{
    tell(s, turn, "complete", format("{'result': %s}", result));
}

static void give_up(struct server *s, struct turn turn)
{
    tell(s, turn, "fail", "{'error': {'type': 'torn', 'message': 'it tore'}}");
}

/* --- loops ------------------------------------------------------------------------------- */

static char *make(struct server *s, const char *body)
{
    struct reply *r = EXPECT(post(s, "/loops", "%s", quoted(body)), 201);
    REQUIRE(strcmp(header(r, "Location"), format("/loops/%s", text_of(r, "id"))) == 0);
    return strdup(text_of(r, "id"));
}

static struct reply *loop(struct server *s, const char *id)
{
    return EXPECT(get(s, "/loops/%s", id), 200);
}

static struct reply *order(struct server *s, const char *id, const char *what, int status)
{
    return EXPECT(post(s, format("/loops/%s/%s", id, what), NULL), status);
}

static bool is(struct server *s, const char *id, const char *status)
{
    return strcmp(text_of(loop(s, id), "status"), status) == 0;
}

static void expect_args(struct turn turn, const char *wanted)
{
    REQUIRE(strcmp(turn.args, quoted(wanted)) == 0, "%s instead of %s", turn.args, wanted);
}

Test(loops, an_iteration_is_an_invocation_and_its_result_the_next_ones_arguments)
{
    struct server *s = serve(CONFIG);
    struct reply *r = EXPECT(post(s, "/loops",
                                  "{'task': 'far', 'args': {'n': 1.50}, 'next': 'output',"
                                  " 'labels': {'of': 'it'}, 'priority': 3, 'timeout': '5s'}"),
                             201);
    EXPECT_NULL(EXPECT_NULL(EXPECT_NUMBER(EXPECT_TEXT(r, "status", "queued"), "iteration", 0), "result"), "set");
    EXPECT_HAS(EXPECT_NULL(EXPECT_NULL(r, "delay"), "max_iterations"), "\"args\":{\"n\": 1.50}");
    char *id = strdup(text_of(r, "id"));

    struct turn first = lease(s);
    EXPECT_TEXT(EXPECT_TEXT(loop(s, id), "invocation", first.id), "status", "running");
    r = EXPECT(get(s, "/invocations/%s", first.id), 200);
    EXPECT_NUMBER(EXPECT_TEXT(EXPECT_TEXT(r, "loop", id), "labels.of", "it"), "iteration", 1);
    EXPECT_TEXT(EXPECT_NUMBER(r, "priority", 3), "timeout", "5s");
    complete(s, first, "{'n' : 2.50, 'big': 12345678901234567890}");
    r = loop(s, id);
    EXPECT_HAS(EXPECT_NUMBER(r, "iteration", 1), "\"args\":{\"n\" : 2.50, \"big\": 12345678901234567890}");
    EXPECT_HAS(r, "\"result\":{\"n\" : 2.50, \"big\": 12345678901234567890}");

    struct turn second = lease(s);
    REQUIRE(strcmp(first.id, second.id) < 0);
    r = EXPECT(get(s, "/invocations/%s", second.id), 200);
    EXPECT_HAS(EXPECT_NUMBER(r, "iteration", 2), "\"args\":{\"n\" : 2.50, \"big\": 12345678901234567890}");
    r = EXPECT(get(s, "/invocations?loop=%s", id), 200);
    EXPECT_TEXT(EXPECT_TEXT(r, "items.0.id", second.id), "items.1.id", first.id);
    REQUIRE(cJSON_GetArraySize(field(r, "items")) == 2);
}

/* Where the next arguments come from, and where the loop is then. */
static const struct {
    const char *more, *result; /* NULL: it fails */
    const char *status, *args;
} ends[] = {
    {"'next': 'input'", "{'n': 1}", "queued", "{'n':0}"},
    {"'priority': 1", "{'n': 1}", "queued", "{'n':0}"},
    {"'next': 'output'", "{'n': 1}", "queued", "{'n':1}"},
    {"'next': 'output'", "null", "queued", "null"},
    {"'next': 'chosen'", "{'next': {'n': 2}, 'x': 1}", "queued", "{'n':2}"},
    {"'next': 'chosen'", "{'next': null}", "queued", "null"},
    {"'next': 'chosen'", "{'other': 1}", "queued", "{'n':0}"},
    {"'next': 'chosen'", "[1]", "queued", "{'n':0}"},
    {"'next': 'input'", "{'stop': true}", "succeeded", "{'n':0}"},
    {"'next': 'input'", "{'stop': 'true'}", "queued", "{'n':0}"},
    {"'next': 'input'", "{'stop': false, 'pause': false}", "queued", "{'n':0}"},
    {"'next': 'output'", "{'\\u0073top': true}", "succeeded", "{'stop':true}"},
    {"'next': 'output'", "{'pause': true, 'n': 5}", "paused", "{'pause':true,'n':5}"},
    {"'next': 'chosen'", "{'pause': true, 'next': 6}", "paused", "6"},
    {"'next': 'chosen', 'max_iterations': 1", "{'next': 6}", "succeeded", "6"},
    {"'next': 'output', 'max_iterations': 1", "{'pause': true}", "succeeded", "{'pause':true}"},
    {"'next': 'output'", NULL, "failed", "{'n':0}"},
    {"'next': 'chosen'", NULL, "failed", "{'n':0}"},
    {"'next': 'output', 'on_failure': 'stop'", NULL, "failed", "{'n':0}"},
    {"'next': 'output', 'on_failure': 'continue'", NULL, "queued", "{'n':0}"},
    {"'next': 'output', 'on_failure': 'continue', 'max_iterations': 1", NULL, "succeeded", "{'n':0}"},
    {"'next': 'output', 'on_failure': 'stop', 'max_iterations': 1", NULL, "failed", "{'n':0}"},
};

Test(loops, the_end_of_one_says_what_comes_next)
{
    struct server *s = serve(CONFIG);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char *id = make(s, format("{'task': 'far', 'args': {'n': 0}, %s}", ends[i].more));
        struct turn turn = lease(s);
        if (ends[i].result)
            complete(s, turn, ends[i].result);
        else
            give_up(s, turn);
        struct reply *r = EXPECT_NUMBER(EXPECT_TEXT(loop(s, id), "status", ends[i].status), "iteration", 1);
        REQUIRE(strcmp(json_of(r, "args"), quoted(ends[i].args)) == 0, "row %zu: %s", i, r->body);
        if (strcmp(ends[i].status, "queued") == 0)
            expect_args(lease(s), ends[i].args);
        else
            EXPECT_NULL(r, "invocation");
        REQUIRE(nobody_waits(s));
        order(s, id, "cancel", 200);
    }
}

Test(loops, a_paused_loop_keeps_its_arguments)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'args': 0, 'next': 'output'}");
    struct turn turn = lease(s);
    EXPECT_TEXT(EXPECT_TEXT(order(s, id, "pause", 200), "status", "paused"), "invocation", turn.id);
    EXPECT_TEXT(order(s, id, "pause", 200), "status", "paused");
    complete(s, turn, "1"); /* it may end, and counts */
    EXPECT_NULL(EXPECT_NUMBER(EXPECT_NUMBER(loop(s, id), "iteration", 1), "args", 1), "invocation");
    REQUIRE(nobody_waits(s));
    restart(s);
    EXPECT_NUMBER(EXPECT_TEXT(loop(s, id), "status", "paused"), "args", 1);
    EXPECT_TEXT(order(s, id, "resume", 200), "status", "queued");
    EXPECT_PROBLEM(order(s, id, "resume", 409), 409, "conflict");
    turn = lease(s);
    expect_args(turn, "1");

    /* resumed before its turn has ended: as if nothing had been */
    order(s, id, "pause", 200);
    EXPECT_TEXT(order(s, id, "resume", 200), "status", "running");
    complete(s, turn, "2");
    expect_args(lease(s), "2");
}

Test(loops, what_has_not_begun_is_taken_back_by_a_pause_and_counts_for_nothing)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'args': 7, 'next': 'output'}");
    char *taken = strdup(text_of(loop(s, id), "invocation"));
    EXPECT_NULL(order(s, id, "pause", 200), "invocation");
    EXPECT_TEXT(get(s, "/invocations/%s", taken), "status", "cancelled");
    REQUIRE(nobody_waits(s));
    order(s, id, "resume", 200);
    struct turn turn = lease(s);
    expect_args(turn, "7");
    EXPECT_NUMBER(get(s, "/invocations/%s", turn.id), "iteration", 1);
    complete(s, turn, "8");
    EXPECT_NUMBER(loop(s, id), "iteration", 1);
}

/* `during`: while its last turn still runs. */
static void patch_paused(struct server *s, bool during)
{
    char *id = make(s, "{'task': 'far', 'args': 0, 'next': 'output', 'delay': '1h'}");
    EXPECT_PROBLEM(patch(s, format("/loops/%s", id), "{'args': 5}"), 409, "conflict");
    struct turn turn = lease(s);
    order(s, id, "pause", 200);
    if (!during)
        complete(s, turn, "1");
    struct reply *r =
        EXPECT(patch(s, format("/loops/%s", id), "{'args': {'x': 9}, 'delay': '250ms', 'task': 'typed'}"), 200);
    EXPECT_TEXT(EXPECT_TEXT(EXPECT_TEXT(r, "status", "paused"), "delay", "250ms"), "task", "typed");
    if (during)
        complete(s, turn, "1");
    EXPECT_NUMBER(EXPECT_NUMBER(loop(s, id), "args.x", 9), "result", 1);
    order(s, id, "resume", 200);
    turn = lease(s); /* at once: the delay stands between an end and the next */
    expect_args(turn, "{'x':9}");
    EXPECT_TEXT(get(s, "/invocations/%s", turn.id), "task", "typed");
    complete(s, turn, "{'x': 3}"); /* and after it all is as it was */
    turn = lease(s);
    expect_args(turn, "{'x':3}");
    complete(s, turn, "{'stop': true}");
}

Test(loops, what_is_patched_while_paused_holds_whatever_the_ending_turn_gives)
{
    struct server *s = serve(CONFIG);
    patch_paused(s, false);
    patch_paused(s, true);
    char *id = make(s, "{'task': 'typed', 'args': {'x': 1}}");
    order(s, id, "pause", 200);
    struct reply *r = EXPECT_PROBLEM(patch(s, format("/loops/%s", id), "{'args': {'x': '1'}, 'delay': 5, 'y': 0}"),
                                     422, "invalid-request");
    REQUIRE(faults_mention(r, "/delay") && faults_mention(r, "/y") && faults_mention(r, "/args/x"));
    REQUIRE(faults_mention(EXPECT(patch(s, format("/loops/%s", id), "{'task': 'nobody'}"), 422), "/task"));
    REQUIRE(faults_mention(EXPECT(patch(s, format("/loops/%s", id), "{'task': null}"), 422), "/task"));
    EXPECT_TEXT(EXPECT(patch(s, format("/loops/%s", id), "{'task': 'far'}"), 200), "task", "far");
    EXPECT_NUMBER(EXPECT(patch(s, format("/loops/%s", id), "{'task': 'typed'}"), 200), "args.x", 1);
    REQUIRE(faults_mention(EXPECT(patch(s, format("/loops/%s", id), "{'args': {'x': 'y'}}"), 422), "/args/x"));
    EXPECT(patch(s, format("/loops/%s", id), "{}"), 422);
    EXPECT(patch(s, "/loops/nobody", "{'args': 1}"), 404);
}

Test(loops, a_failure_fails_the_loop_which_resumes_and_its_iteration_is_not_retried)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'args': 4, 'next': 'output'}");
    struct turn turn = lease(s);
    give_up(s, turn);
    struct reply *r = EXPECT_TEXT(EXPECT_NUMBER(loop(s, id), "iteration", 1), "status", "failed");
    EXPECT_TEXT(r, "error.type", "torn");
    r = EXPECT_PROBLEM(post(s, format("/invocations/%s/retry", turn.id), NULL), 409, "conflict");
    EXPECT_HAS(r, "resume the loop");
    EXPECT(patch(s, format("/loops/%s", id), "{'args': 5}"), 200);
    EXPECT_NULL(EXPECT_NULL(order(s, id, "resume", 200), "error"), "finished_at");
    turn = lease(s);
    expect_args(turn, "5");
    EXPECT_NUMBER(get(s, "/invocations/%s", turn.id), "iteration", 2);
}

Test(loops, a_retry_within_an_iteration_is_no_end_of_it)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'max_retries': 1}");
    struct turn first = lease(s);
    give_up(s, first);
    struct turn again = lease(s);
    REQUIRE(strcmp(first.id, again.id) == 0);
    EXPECT_NUMBER(loop(s, id), "iteration", 0);
    order(s, id, "pause", 200); /* it has begun, and may end */
    complete(s, again, "1");
    EXPECT_NUMBER(EXPECT_TEXT(loop(s, id), "status", "paused"), "iteration", 1);
}

Test(loops, cancelling_an_iteration_is_a_failure_of_it)
{
    struct server *s = serve(CONFIG);
    char *stops = make(s, "{'task': 'far'}"), *goes_on = make(s, "{'task': 'far', 'on_failure': 'continue'}");
    EXPECT(post(s, format("/invocations/%s/cancel", text_of(loop(s, stops), "invocation")), NULL), 200);
    EXPECT_TEXT(EXPECT_TEXT(EXPECT_NUMBER(loop(s, stops), "iteration", 1), "status", "failed"), "error.type",
                "cancelled");
    struct turn turn = lease(s);
    EXPECT(post(s, format("/invocations/%s/cancel", turn.id), NULL), 200);
    give_up(s, turn);
    EXPECT_NUMBER(EXPECT_TEXT(loop(s, goes_on), "status", "queued"), "iteration", 1);
    REQUIRE(strcmp(lease(s).id, turn.id) > 0);
}

Test(loops, a_stop_comes_after_the_current_iteration_and_a_cancellation_now)
{
    struct server *s = serve(CONFIG);
    char *stops = make(s, "{'task': 'far', 'next': 'output'}");
    struct turn turn = lease(s);
    EXPECT_TEXT(EXPECT_TEXT(order(s, stops, "stop", 200), "status", "stopping"), "invocation", turn.id);
    EXPECT_PROBLEM(order(s, stops, "pause", 409), 409, "conflict");
    complete(s, turn, "1");
    EXPECT_NUMBER(EXPECT_NUMBER(EXPECT_TEXT(loop(s, stops), "status", "stopped"), "iteration", 1), "result", 1);
    EXPECT_TEXT(order(s, stops, "stop", 200), "status", "stopped");
    EXPECT_PROBLEM(order(s, stops, "resume", 409), 409, "conflict");

    char *waits = make(s, "{'task': 'far'}"), *other = strdup(text_of(loop(s, waits), "invocation"));
    EXPECT_NULL(EXPECT_TEXT(order(s, waits, "stop", 200), "status", "stopped"), "invocation");
    EXPECT_TEXT(get(s, "/invocations/%s", other), "status", "cancelled");

    char *now = make(s, "{'task': 'far'}");
    turn = lease(s);
    EXPECT_TEXT(EXPECT_TEXT(order(s, now, "cancel", 200), "status", "cancelled"), "invocation", turn.id);
    struct reply *r = EXPECT(post(s, format("/leases/%s/heartbeat", turn.token), "{}"), 200);
    REQUIRE(cJSON_IsTrue(field(r, "cancel")));
    EXPECT_PROBLEM(ask(s, "DELETE", format("/loops/%s", now), NULL, NULL), 409, "conflict");
    give_up(s, turn);
    EXPECT_NULL(EXPECT_NUMBER(EXPECT_TEXT(loop(s, now), "status", "cancelled"), "iteration", 1), "invocation");
    REQUIRE(nobody_waits(s));
    EXPECT(ask(s, "DELETE", format("/loops/%s", now), NULL, NULL), 204);
    EXPECT(get(s, "/loops/%s", now), 404);
}

Test(loops, the_next_one_comes_a_delay_after_the_end)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'delay': '1h', 'on_failure': 'continue'}");
    struct turn turn = lease(s); /* the first has none */
    give_up(s, turn);
    struct reply *r = EXPECT_TEXT(loop(s, id), "status", "running");
    char *next = strdup(text_of(r, "invocation"));
    char *end = strdup(text_of(get(s, "/invocations/%s", turn.id), "finished_at"));
    r = EXPECT_TEXT(get(s, "/invocations/%s", next), "status", "scheduled");
    REQUIRE(strcmp(end + 14, text_of(r, "run_at") + 14) == 0, "%s and %s", end, text_of(r, "run_at"));
    order(s, id, "stop", 200); /* it rests: there is nothing to wait for */
    EXPECT_TEXT(loop(s, id), "status", "stopped");

    id = make(s, "{'task': 'count', 'args': 'x', 'delay': '20ms', 'max_iterations': 3}");
    WAIT_UNTIL(is(s, id, "succeeded"));
    EXPECT_NUMBER(loop(s, id), "iteration", 3);
}

Test(loops, a_crash_between_an_end_and_the_next_one_neither_loses_nor_doubles_any)
{
    struct server *s = prepare(CONFIG);
    prepare_to_hold_commits(s);
    start(s);
    char *id = make(s, "{'task': 'far', 'args': 0, 'next': 'output'}");
    struct turn turn = lease(s);
    for (int n = 1; n <= 3; n++) {
        char *body = format("{\"result\": %d}", n);
        struct client *client = client_open(s);
        hold_commits(s);
        client_ask(client, "POST", format("/leases/%s/complete", turn.token), "Content-Type: application/json\r\n",
                   body, strlen(body));
        await_held_commit(s);
        kill_hard(s);
        release_commits(s);
        start(s);
        /* Of the end and the next one both are there, or none is. */
        struct reply *r = loop(s, id);
        if (number_of(r, "iteration") < n)
            complete(s, turn, format("%d", n));
        EXPECT_NUMBER(EXPECT_NUMBER(loop(s, id), "iteration", n), "args", n);
        turn = lease(s);
        expect_args(turn, format("%d", n));
        REQUIRE(nobody_waits(s));
        REQUIRE(cJSON_GetArraySize(field(get(s, "/invocations?loop=%s", id), "items")) == n + 1);
    }
}

Test(loops, a_local_loop_goes_on_after_kill)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'echo', 'args': {'a': 1}, 'next': 'output'}");
    for (int round = 0; round < 3; round++) {
        double before = number_of(loop(s, id), "iteration");
        WAIT_UNTIL(number_of(loop(s, id), "iteration") > before + 20);
        restart(s);
    }
    order(s, id, "stop", 200);
    WAIT_UNTIL(is(s, id, "stopped"));
    struct reply *r = loop(s, id);
    EXPECT_NUMBER(r, "args.a", 1);
    REQUIRE(cJSON_GetArraySize(field(get(s, "/invocations?loop=%s&limit=1000&status=queued", id), "items")) == 0);
}

/* --- its inbox --------------------------------------------------------------------------- */

static void send_in(struct server *s, const char *id, const char *body)
{
    EXPECT(post(s, format("/loops/%s/inbox", id), "%s", quoted(body)), 201);
}

/* The bodies of what is unread, with spaces between. */
static char *inbox(struct server *s, struct turn turn)
{
    struct reply *r = EXPECT(get(s, "/leases/%s/inbox", turn.token), 200);
    char *all = strdup("");
    const cJSON *item;
    cJSON_ArrayForEach(item, field(r, "items")) all =
        format("%s%s%d", all, *all ? " " : "", cJSON_GetObjectItem(item, "body")->valueint);
    return all;
}

static void expect_inbox(struct server *s, struct turn turn, const char *wanted)
{
    char *all = inbox(s, turn);
    REQUIRE(strcmp(all, wanted) == 0, "\"%s\" instead of \"%s\"", all, wanted);
}

Test(loops, what_a_turn_has_read_is_gone_when_it_succeeds_and_comes_again_if_not)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'on_failure': 'continue'}");
    send_in(s, id, "1"); /* before any turn */
    struct turn turn = lease(s);
    send_in(s, id, "2");
    expect_inbox(s, turn, "1 2");
    give_up(s, turn);
    turn = lease(s);
    expect_inbox(s, turn, "1 2");
    send_in(s, id, "3"); /* and this one it has not read */
    complete(s, turn, "1");
    turn = lease(s);
    expect_inbox(s, turn, "3");
    restart(s);
    expect_inbox(s, turn, "3");
    complete(s, turn, "1");
    turn = lease(s);
    expect_inbox(s, turn, "");
    EXPECT(post(s, format("/invocations/%s/inbox", turn.id), "4"), 201); /* to an iteration: to its loop */
    complete(s, turn, "1");
    expect_inbox(s, lease(s), "4");
}

Test(loops, a_message_between_two_iterations_is_not_lost)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far'}");
    order(s, id, "pause", 200);
    EXPECT(ask(s, "POST", format("/loops/%s/inbox", id),
               "Content-Type: application/json\r\nIdempotency-Key: once\r\n", "5"),
           201);
    restart(s);
    EXPECT(ask(s, "POST", format("/loops/%s/inbox", id),
               "Content-Type: application/json\r\nIdempotency-Key: once\r\n", "5"),
           200);
    order(s, id, "resume", 200);
    struct turn turn = lease(s);
    expect_inbox(s, turn, "5");
    complete(s, turn, "{'stop': true}");
    EXPECT_PROBLEM(post(s, format("/loops/%s/inbox", id), "6"), 409, "conflict");
    EXPECT(post(s, "/loops/nobody/inbox", "6"), 404);
    EXPECT(ask(s, "DELETE", format("/loops/%s", id), NULL, NULL), 204);
}

Test(loops, a_suspended_iteration_is_woken_by_a_message_to_its_loop)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'args': 1}");
    struct turn turn = lease(s);
    tell(s, turn, "suspend", "{'on': {'inbox': true}, 'state': 1}");
    EXPECT_TEXT(loop(s, id), "status", "running");
    send_in(s, id, "8");
    struct turn woken = lease(s);
    REQUIRE(strcmp(woken.id, turn.id) == 0);
    EXPECT_HAS(EXPECT(get(s, "/leases/%s/woken", woken.token), 200), "\"body\":8");
    complete(s, woken, "2");
    EXPECT_NUMBER(EXPECT_NUMBER(loop(s, id), "iteration", 1), "result", 2);
    expect_inbox(s, lease(s), "");
}

Test(loops, what_has_suspended_and_is_awake_is_not_taken_back)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'args': 1}");
    struct turn turn = lease(s);
    tell(s, turn, "suspend", "{'on': {'inbox': true}, 'state': 7}");
    send_in(s, id, "8");
    EXPECT_TEXT(AWAIT_STATUS(s, turn.id, "queued"), "status", "queued");
    EXPECT_TEXT(order(s, id, "pause", 200), "invocation", turn.id);
    turn = lease(s);
    EXPECT_HAS(EXPECT(get(s, "/leases/%s", turn.token), 200), "\"state\":7");
    complete(s, turn, "2");
    EXPECT_NUMBER(EXPECT_NULL(loop(s, id), "invocation"), "iteration", 1);
}

Test(loops, an_inbox_that_is_never_empty_does_not_grow)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far'}");
    struct client *client = client_open(s);
    for (int sent = 0; sent < 3000;) {
        for (int i = 0; i < 500; i++, sent++) {
            client_ask(client, "POST", format("/loops/%s/inbox", id), "Content-Type: application/json\r\n", "1",
                       1);
            EXPECT(client_receive(client, false), 201);
        }
        struct turn turn = lease(s);
        inbox(s, turn);
        complete(s, turn, "1");
    }
    EXPECT_NUMBER(get(s, "/messages?kind=in&limit=1"), "items.0.seq", 1001);
}

Test(loops, the_messages_of_a_loop_are_those_of_its_iterations_and_its_own)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'labels': {'a': 'b'}}"), *other = make(s, "{'task': 'far'}");
    struct turn first = lease(s), others = lease(s);
    EXPECT(post(s, format("/leases/%s/messages", first.token), "1"), 201);
    EXPECT(post(s, format("/leases/%s/messages", others.token), "2"), 201);
    send_in(s, id, "3");
    complete(s, first, "1");
    struct turn second = lease(s);
    EXPECT(post(s, format("/leases/%s/messages", second.token), "4"), 201);
    struct reply *r = EXPECT(get(s, "/messages?loop=%s&kind=all", id), 200);
    EXPECT_TEXT(EXPECT_NUMBER(r, "items.0.body", 1), "items.0.invocation", first.id);
    EXPECT_TEXT(EXPECT_NUMBER(r, "items.1.body", 3), "items.1.invocation", id);
    EXPECT_TEXT(EXPECT_NUMBER(r, "items.2.body", 4), "items.2.invocation", second.id);
    REQUIRE(cJSON_GetArraySize(field(r, "items")) == 3);
    REQUIRE(cJSON_GetArraySize(field(EXPECT(get(s, "/messages?loop=%s", other), 200), "items")) == 1);
    EXPECT(get(s, "/messages?loop=nobody"), 404);
    EXPECT(get(s, "/invocations/%s/messages", id), 404); /* it is none */
    EXPECT(get(s, "/invocations/%s/children", id), 404);
    EXPECT(get(s, "/messages?loop=%s&root=%s", id, first.id), 400);

    /* followed: it ends by itself when the loop has ended */
    struct client *client = client_open(s);
    client_ask(client, "GET", format("/messages?loop=%s", id), "Accept: text/event-stream\r\n", NULL, 0);
    client_receive_head(client);
    complete(s, second, "{'stop': true}");
    char *all = strdup(""), *piece;
    while ((piece = client_receive_piece(client)))
        all = format("%s%s", all, piece);
    REQUIRE(strstr(all, "\"body\":4") && strstr(all, "event: end") && strstr(all, id), "%s", all);
}

/* --- names, limits, lists --------------------------------------------------------------------- */

Test(loops, a_named_loop_is_made_once)
{
    struct server *s = serve(CONFIG);
    const char *json = "Content-Type: application/json\r\n";
    char *body = quoted("{'task': 'far', 'args': {'a': 1}, 'next': 'output'}");
    struct reply *r = EXPECT(ask(s, "PUT", "/loops/nightly", json, body), 201);
    char *id = strdup(text_of(EXPECT_TEXT(r, "name", "nightly"), "id"));
    body = quoted("{ 'next': 'output', 'task': 'far', 'args': {'a': 1}}");
    EXPECT_TEXT(EXPECT(ask(s, "PUT", "/loops/nightly", json, body), 200), "id", id);
    EXPECT_TEXT(EXPECT(get(s, "/loops/nightly"), 200), "id", id);
    EXPECT_PROBLEM(ask(s, "PUT", "/loops/nightly", json, quoted("{'task': 'far', 'args': {'a': 2}}")), 409,
                   "conflict");
    EXPECT_TEXT(EXPECT(post(s, "/loops/nightly/pause", NULL), 200), "status", "paused");
    EXPECT_TEXT(EXPECT(ask(s, "PUT", "/loops/nightly", json, body), 200), "status", "paused");
    EXPECT(ask(s, "PUT", format("/loops/%s", id), json, body), 400);
    EXPECT_PROBLEM(ask(s, "POST", "/loops", "Content-Type: application/json\r\nIdempotency-Key: x\r\n", body), 400,
                   "invalid-header");
    EXPECT(ask(s, "PUT", format("/loops/%0256d", 0), json, body), 400);
    struct turn turn = (order(s, "nightly", "resume", 200), lease(s));
    EXPECT_TEXT(get(s, "/invocations?loop=nightly"), "items.0.id", turn.id);
    REQUIRE(cJSON_GetArraySize(field(EXPECT(get(s, "/invocations?loop=unknown"), 200), "items")) == 0);
}

static const struct {
    const char *body, *pointer;
} wrong[] = {
    {"{}", "/task"},
    {"{'task': 'nobody'}", "/task"},
    {"{'task': 'far', 'tasks': 1}", "/tasks"},
    {"{'task': 'far', 'next': 'args'}", "/next"},
    {"{'task': 'far', 'delay': 5}", "/delay"},
    {"{'task': 'far', 'delay': '5'}", "/delay"},
    {"{'task': 'far', 'timeout': '0s'}", "/timeout"},
    {"{'task': 'far', 'max_iterations': 0}", "/max_iterations"},
    {"{'task': 'far', 'max_iterations': 1.5}", "/max_iterations"},
    {"{'task': 'far', 'on_failure': true}", "/on_failure"},
    {"{'task': 'far', 'priority': 128}", "/priority"},
    {"{'task': 'far', 'labels': {'a': 1}}", "/labels/a"},
    {"{'task': 'far', 'run_at': '2030-01-01T00:00:00Z'}", "/run_at"},
    {"{'task': 'far', 'key': 'x'}", "/key"},
    {"{'task': 'far', 'set': 5}", "/set"},
    {"{'task': 'far', 'set': ''}", "/set"},
    {"{'task': 'far', 'set': {'slots': 1}}", "/set/name"},
    {"{'task': 'far', 'set': {'name': 's', 'slots': 0}}", "/set/slots"},
    {"{'task': 'far', 'set': {'name': 's', 'slots': 1001}}", "/set/slots"},
    {"{'task': 'far', 'set': {'name': 's', 'slots': 1, 'slot': 'hour'}}", "/set/slot"},
    {"{'task': 'far', 'set': {'name': 's', 'slots': 1, 'fail_fast': 1}}", "/set/fail_fast"},
    {"{'task': 'typed', 'args': {'x': 'y'}}", "/args/x"},
    {"[]", ""},
};

Test(loops, every_fault_of_a_body_is_named)
{
    struct server *s = serve(CONFIG);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct reply *r = EXPECT_PROBLEM(post(s, "/loops", "%s", quoted(wrong[i].body)), 422, "invalid-request");
        REQUIRE(faults_mention(r, wrong[i].pointer), "row %zu: %s", i, r->body);
    }
    REQUIRE(cJSON_GetArraySize(field(EXPECT(get(s, "/loops"), 200), "items")) == 0);
    EXPECT(get(s, "/loops/0000000000000"), 404);
    EXPECT(post(s, "/loops/0000000000000/stop", NULL), 404);
    EXPECT(get(s, "/loops?status=runing"), 400);
    EXPECT(get(s, "/loops?limit=0"), 400);
    EXPECT(get(s, "/loops?cursor=x"), 400);
}

static int listed(struct server *s, const char *query)
{
    return cJSON_GetArraySize(field(EXPECT(get(s, "/loops?%s", query), 200), "items"));
}

Test(loops, lists_are_paged_and_filtered)
{
    struct server *s = serve(CONFIG);
    char *ids[5];
    for (int i = 0; i < 5; i++)
        ids[i] =
            make(s, i < 3 ? "{'task': 'far', 'args': [1]}" : "{'task': 'hold', 'set': {'name': 'a', 'slots': 1}}");
    order(s, ids[1], "pause", 200);
    order(s, ids[2], "cancel", 200);
    WAIT_UNTIL(is(s, ids[3], "running") || is(s, ids[3], "failed"));
    struct reply *r = EXPECT(get(s, "/loops?limit=2"), 200);
    EXPECT_TEXT(EXPECT_TEXT(r, "items.0.id", ids[4]), "items.1.id", ids[3]);
    REQUIRE(!strstr(r->body, "\"args\""));
    REQUIRE(strstr(header(r, "Link"), "rel=\"next\""));
    r = EXPECT(get(s, "/loops?limit=2&cursor=%s", text_of(r, "next")), 200);
    EXPECT_TEXT(EXPECT_TEXT(r, "items.0.id", ids[2]), "items.1.id", ids[1]);
    EXPECT_TEXT(get(s, "/loops?order=oldest&view=full"), "items.0.id", ids[0]);
    EXPECT_NUMBER(get(s, "/loops?order=oldest&view=full"), "items.0.args.0", 1);
    REQUIRE(listed(s, "task=far") == 3 && listed(s, "task=none") == 0);
    REQUIRE(listed(s, "status=paused") == 1 && listed(s, "status=paused&status=cancelled") == 2);
    REQUIRE(listed(s, "status=queued&task=far") == 1);
    REQUIRE(listed(s, "set=a") == 2 && listed(s, "set=b") == 0 && listed(s, "set=a&task=far") == 0);
}

/* --- the second day ------------------------------------------------------------------------------ */

Test(loops, a_loop_does_not_die_of_its_own_history)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'echo', 'args': {'a': 1}, 'next': 'output', 'retention': '1ms'}");
    WAIT_UNTIL(number_of(loop(s, id), "iteration") > 300);
    WAIT_UNTIL(cJSON_GetArraySize(field(get(s, "/invocations?loop=%s&limit=1000", id), "items")) < 200);
    EXPECT_NUMBER(loop(s, id), "result.a", 1);
    order(s, id, "stop", 200);
    WAIT_UNTIL(get(s, "/loops/%s", id)->status == 404); /* its retention, too */
    WAIT_UNTIL(cJSON_GetArraySize(field(get(s, "/invocations?loop=%s", id), "items")) == 0);
}

Test(loops, long_arguments_and_results_are_carried_on)
{
    struct server *s = serve(CONFIG);
    size_t length = 300000;
    char *text = malloc(length + 1);
    memset(text, 'x', length);
    text[length] = '\0';
    char *id = make(s, "{'task': 'far', 'args': 'short', 'next': 'output'}");
    for (int round = 0; round < 2; round++) {
        complete(s, lease(s), format("'%s'", text));
        struct reply *r = loop(s, id);
        REQUIRE(strlen(text_of(r, "args")) == length && strlen(text_of(r, "result")) == length);
        struct turn turn = lease(s);
        REQUIRE(strlen(turn.args) == length + 2);
        complete(s, turn, "{'s': 1}");
        EXPECT_NUMBER(EXPECT_NUMBER(loop(s, id), "args.s", 1), "result.s", 1);
    }
    restart(s);
    EXPECT_NUMBER(loop(s, id), "args.s", 1);
}

Test(loops, a_loop_whose_task_has_left_waits_as_anything_does)
{
    struct server *s = serve("tasks:\n  far: {kind: remote}\n  other: {kind: remote}\n");
    char *id = make(s, "{'task': 'other', 'args': 1}");
    kill_hard(s);
    configure(s, "tasks:\n  far: {kind: remote}\n");
    start(s);
    EXPECT_TEXT(EXPECT_TEXT(loop(s, id), "status", "queued"), "task", "other");
    REQUIRE(nobody_waits(s));
    order(s, id, "pause", 200);
    EXPECT(patch(s, format("/loops/%s", id), "{'args': 2, 'task': 'far'}"), 200);
    order(s, id, "resume", 200);
    expect_args(lease(s), "2");
}

Test(loops, a_timeout_is_an_iterations)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'far', 'timeout': '50ms'}");
    lease(s);
    WAIT_UNTIL(is(s, id, "failed"));
    EXPECT_TEXT(loop(s, id), "error.type", "timeout");
}

Test(loops, a_service_that_closes_when_all_is_done_does_not_wait_for_loops)
{
    struct server *s = serve(CONFIG);
    char *id = make(s, "{'task': 'echo', 'args': 1, 'next': 'output'}");
    make(s, "{'task': 'count', 'args': 'x', 'set': {'name': 'p', 'slots': 1, 'slot': 'turn'}}");
    WAIT_UNTIL(number_of(loop(s, id), "iteration") > 5);
    EXPECT(post(s, "/shutdown?policy=join", NULL), 202);
    REQUIRE(await_exit(s) == 0);
    start(s);
    double before = number_of(loop(s, id), "iteration");
    WAIT_UNTIL(number_of(loop(s, id), "iteration") > before);
}

/* --- the slow moment: what meets in one commit ------------------------------------------------ */

static const struct {
    const char *first, *then; /* "end": the iteration's */
    const char *status;
    int iteration;
} meetings[] = {
    {"end", "pause", "paused", 1},     {"pause", "end", "paused", 1},       {"end", "stop", "stopped", 1},
    {"stop", "end", "stopped", 1},     {"end", "cancel", "cancelled", 1},   {"cancel", "end", "cancelled", 1},
    {"pause", "resume", "running", 0}, {"pause", "cancel", "cancelled", 0},
};

static struct client *ask_at_once(struct server *s, struct turn turn, const char *id, const char *what)
{
    struct client *client = client_open(s);
    bool is_end = strcmp(what, "end") == 0;
    char *path = is_end ? format("/leases/%s/complete", turn.token) : format("/loops/%s/%s", id, what);
    const char *body = is_end ? "{\"result\": 1}" : "{}";
    client_ask(client, "POST", path, "Content-Type: application/json\r\n", body, strlen(body));
    return client;
}

Test(loops, what_is_asked_meets_the_end_of_an_iteration)
{
    struct server *s = prepare(CONFIG);
    prepare_to_hold_commits(s);
    start(s);
    for (size_t i = 0; i < sizeof meetings / sizeof *meetings; i++) {
        char *id = make(s, "{'task': 'far', 'args': 0, 'next': 'output'}");
        struct turn turn = lease(s);
        hold_commits(s);
        struct client *held = client_open(s);
        client_ask(held, "POST", "/tasks", "Content-Type: application/json\r\n", "{\"task\":\"echo\"}", 15);
        await_held_commit(s);
        struct client *first = ask_at_once(s, turn, id, meetings[i].first);
        for (int64_t until = now_ms() + 50; now_ms() < until;) /* in this order into one batch */
            breathe();
        struct client *then = ask_at_once(s, turn, id, meetings[i].then);
        for (int64_t until = now_ms() + 50; now_ms() < until;)
            breathe();
        release_commits(s);
        REQUIRE(client_receive(first, false)->status < 300 && client_receive(then, false)->status < 300);
        struct reply *r = EXPECT_TEXT(loop(s, id), "status", meetings[i].status);
        EXPECT_NUMBER(r, "iteration", meetings[i].iteration);
        EXPECT(post(s, format("/loops/%s/cancel", id), NULL), 200);
        post(s, format("/leases/%s/complete", turn.token), "{}");
        REQUIRE(nobody_waits(s), "row %zu", i);
    }
}
