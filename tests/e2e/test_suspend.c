/* Turns that suspend: nothing is left of them, and the next one starts with what
 * they left and with what woke it. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>

SUITE(suspend);

#define CONFIG                                                         \
    "tasks:\n"                                                         \
    "  far: {kind: remote, max_retries: 2, backoff: {initial: 1ms}}\n" \
    "  other: {kind: remote, priority: 2}\n"                           \
    "  echo: {kind: native, module: $NATIVE}\n"                        \
    "  hold: {kind: native, module: $NATIVE}\n"                        \
    "  sleeps_and_holds: {kind: native, module: $NATIVE}\n"            \
    "  sleeper: {kind: native, module: $NATIVE}\n"                     \
    "  order: {kind: command, run: [sh, order.sh]}\n"                  \
    "  large: {kind: command, run: [sh, large.sh]}\n"

/* The lease that there must be within the patience of a test. */
static struct reply *lease(struct server *s)
{
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'wait': '30s'}"), 200);
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

/* A turn that has suspended, and its token. */
static char *suspended(struct server *s, const char *body, const char **token)
{
    char *id = submit(s, "{'task': 'far'}");
    struct reply *r = lease(s);
    *token = token_of(r);
    EXPECT_TEXT(r, "leases.0.invocation.id", id);
    EXPECT(tell(s, *token, "suspend", body), 204);
    return id;
}

Test(suspend, the_next_turn_starts_with_the_state_and_what_woke_it)
{
    struct server *s = serve(CONFIG);
    char *first = submit(s, "{'task': 'other', 'args': 1}"), *second = submit(s, "{'task': 'other', 'args': 2}");
    const char *stale;
    char *id = suspended(
        s, format("{'on': {'ids': ['%s', '%s', '%s']}, 'state': {'n': 1.50}}", second, first, second), &stale);
    struct reply *shown = EXPECT(get(s, "/invocations/%s", id), 200);
    EXPECT_NULL(EXPECT_NUMBER(EXPECT_TEXT(shown, "status", "waiting"), "attempt", 1), "worker");
    EXPECT_NULL(EXPECT_TEXT(EXPECT_NUMBER(shown, "turns", 1), "waiting_for.0", first), "wakes_at");
    EXPECT_PROBLEM(tell(s, stale, "heartbeat", "{}"), 409, "stale-lease");
    EXPECT_PROBLEM(tell(s, stale, "complete", "{}"), 409, "stale-lease");
    EXPECT(tell(s, stale, "suspend", "{'on': {'until': '1h'}}"), 204); /* it has, and is not asked again */

    for (int i = 0; i < 2; i++) {
        struct reply *r = lease(s);
        EXPECT_TEXT(r, "leases.0.invocation.id", i ? first : second);
        EXPECT(tell(s, token_of(r), i ? "fail" : "complete",
                    i ? "{'error': {'type': 'x', 'retry': false}}" : "{'result': [1.10]}"),
               204);
    }
    struct reply *r = lease(s);
    EXPECT_TEXT(r, "leases.0.invocation.id", id);
    EXPECT_NUMBER(r, "leases.0.invocation.attempt", 1);
    EXPECT_HAS(EXPECT_TEXT(r, "leases.0.woken.by", "ids"), "\"state\":{\"n\": 1.50}");
    EXPECT_TEXT(EXPECT_TEXT(r, "leases.0.woken.results.0.id", second), "leases.0.woken.results.0.status",
                "succeeded");
    EXPECT_TEXT(EXPECT_TEXT(r, "leases.0.woken.results.1.id", first), "leases.0.woken.results.1.error.type", "x");
    EXPECT_HAS(EXPECT_NULL(r, "leases.0.woken.results.1.step"), "\"result\":[1.10]");
    EXPECT_HAS(EXPECT(get(s, "/leases/%s/woken", token_of(r)), 200), "\"result\":[1.10]");
    EXPECT_HAS(EXPECT(get(s, "/leases/%s", token_of(r)), 200), "\"state\":{\"n\": 1.50}");
    EXPECT(tell(s, token_of(r), "complete", "{'result': 7}"), 204);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result", 7);
    EXPECT_HAS(get(s, "/invocations/%s/attempts", id), "\"attempt\":1");
}

/* Within 50 ms of its time, says the contract; a busy machine is given more here. */
Test(suspend, a_time_wakes_it_alone_and_it_survives_a_restart)
{
    struct server *s = serve(CONFIG);
    const char *stale;
    char *id = suspended(s, "{'on': {'until': '300ms'}}", &stale);
    char *later = suspended(s, "{'on': {'until': '1h'}, 'state': 5}", &stale);
    restart(s);
    struct reply *r = lease(s);
    EXPECT_TEXT(EXPECT_TEXT(r, "leases.0.invocation.id", id), "leases.0.woken.by", "until");
    EXPECT_NULL(r, "leases.0.state");
    EXPECT(tell(s, token_of(r), "complete", "{}"), 204);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    EXPECT_TEXT(get(s, "/invocations/%s", later), "status", "waiting");
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/cancel", later), NULL), 200), "status", "cancelled");
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/retry", later), NULL), 200), "status", "queued");
    r = lease(s);
    EXPECT_NULL(EXPECT_NUMBER(r, "leases.0.state", 5), "leases.0.woken");
    EXPECT(tell(s, token_of(r), "fail", "{'error': {'type': 'x', 'retry': false}}"), 204);
    EXPECT_PROBLEM(post(s, format("/invocations/%s/retry", later), "{'fresh': 1}"), 422, "invalid-request");
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/retry", later), "{'fresh': true}"), 200), "status",
                "queued");
    EXPECT_NULL(lease(s), "leases.0.state");
}

/* Its budget is whole again; what fails is repeated with the same state. */
Test(suspend, a_turn_that_fails_or_is_lost_is_repeated_with_the_same_state)
{
    struct server *s = serve(CONFIG);
    const char *stale;
    char *id = suspended(s, "{'on': {'until': '1ms'}, 'state': 'a'}", &stale);
    for (int i = 0; i < 3; i++) {
        struct reply *r = EXPECT_TEXT(lease(s), "leases.0.woken.by", "until");
        EXPECT_TEXT(EXPECT_NUMBER(r, "leases.0.invocation.attempt", i + 1), "leases.0.state", "a");
        EXPECT(tell(s, token_of(r), "fail", "{'error': {'type': 'boom'}}"), 204);
    }
    EXPECT_TEXT(EXPECT_TEXT(final(s, id), "status", "failed"), "error.type", "boom");
}

Test(suspend, a_cancellation_that_comes_first_ends_it)
{
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s));
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT(tell(s, token, "suspend", "{'on': {'inbox': true}}"), 204);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
    EXPECT_PROBLEM(tell(s, token, "suspend", "{'on': {'inbox': true}}"), 409, "stale-lease");
}

Test(suspend, what_it_is_to_get_cannot_be_deleted)
{
    struct server *s = serve(CONFIG);
    char *done = submit(s, "{'task': 'echo', 'args': 'kept'}"), *other = submit(s, "{'task': 'other'}");
    const char *stale;
    final(s, done);
    char *id = submit(s, "{'task': 'far'}");
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'tasks': ['far'], 'wait': '30s'}"), 200);
    stale = token_of(r);
    EXPECT(tell(s, stale, "suspend", format("{'on': {'ids': ['%s', '%s']}, 'state': 1}", done, other)), 204);
    EXPECT_PROBLEM(ask(s, "DELETE", format("/invocations/%s", done), NULL, NULL), 409, "conflict");
    EXPECT(post(s, format("/invocations/%s/cancel", other), NULL), 200);
    AWAIT_STATUS(s, id, "queued");
    EXPECT_PROBLEM(ask(s, "DELETE", format("/invocations/%s", other), NULL, NULL), 409, "conflict");
    r = EXPECT_TEXT(lease(s), "leases.0.woken.results.0.result", "kept");
    EXPECT(tell(s, token_of(r), "complete", "{'result': 1}"), 204);
    EXPECT(ask(s, "DELETE", format("/invocations/%s", done), NULL, NULL), 204);
}

/* What woke nobody was given to nobody: its messages are unread still. */
Test(suspend, a_retry_of_one_that_was_cancelled_asleep_reads_no_messages)
{
    struct server *s = serve(CONFIG);
    const char *stale;
    char *id = suspended(s, "{'on': {'until': '1h'}, 'state': 1}", &stale);
    EXPECT(post(s, format("/invocations/%s/inbox", id), "'hello'"), 201);
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200), "status", "cancelled");
    EXPECT(post(s, format("/invocations/%s/retry", id), NULL), 200);
    struct reply *r = EXPECT_NULL(lease(s), "leases.0.woken");
    EXPECT(tell(s, token_of(r), "suspend", "{'on': {'inbox': true}}"), 204);
    EXPECT_TEXT(EXPECT_TEXT(lease(s), "leases.0.woken.by", "inbox"), "leases.0.woken.messages.0.body", "hello");
}

Test(suspend, what_cannot_wake_it_is_refused_and_the_turn_goes_on)
{
    static const struct {
        const char *body;
        int status;
        const char *type;
    } rows[] = {
        {"{}", 422, "invalid-request"},
        {"{'on': {}}", 422, "invalid-request"},
        {"{'on': {'inbox': false}}", 422, "invalid-request"},
        {"{'on': {'ids': []}}", 422, "invalid-request"},
        {"{'on': {'ids': ['nonsense']}}", 422, "invalid-request"},
        {"{'on': {'ids': 'x'}}", 422, "invalid-request"},
        {"{'on': {'until': 'tomorrow'}}", 422, "invalid-request"},
        {"{'on': {'until': 5}}", 422, "invalid-request"},
        {"{'on': {'ids': ['0000000000001'], 'mode': 'some'}}", 422, "invalid-request"},
        {"{'on': {'ids': ['0000000000001']}}", 422, "invalid-request"},
        {"{'on': {'until': '1h'}, 'stat': 1}", 422, "invalid-request"},
        {"{'on': true}", 422, "invalid-request"},
        {"[]", 422, "invalid-request"},
        {"{'on': {'ids': ['ME']}}", 409, "wait-cycle"},
        {"{'on': ", 400, "invalid-json"},
    };
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *me = strstr(rows[i].body, "ME");
        const char *body =
            me ? format("%.*s%s%s", (int)(me - rows[i].body), rows[i].body, id, me + 2) : rows[i].body;
        EXPECT_PROBLEM(tell(s, token, "suspend", body), rows[i].status, rows[i].type);
    }
    char *large = calloc(1, (1 << 20) + 100);
    memset(large, '1', (1 << 20) + 1);
    EXPECT_PROBLEM(tell(s, token, "suspend", format("{'on': {'until': '1h'}, 'state': %s}", large)), 422,
                   "invalid-request");
    free(large);
    EXPECT(tell(s, token, "heartbeat", "{}"), 200);
    EXPECT(tell(s, token, "complete", "{'result': 1}"), 204);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

/* Report and ask in one call. */
Test(suspend, a_poll_reports_a_suspension_too)
{
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s));
    struct reply *r =
        EXPECT(post(s, "/leases",
                    "{'worker': 'w', 'max': 0, 'done': [{'token': '%s', 'suspend': {'on': {'ids': ['%s']}}}]}",
                    token, id),
               200);
    EXPECT_HAS(EXPECT_TEXT(r, "refused.0.token", token), "wait-cycle");
    r = EXPECT(post(s, "/leases",
                    "{'worker': 'w', 'wait': '30s', 'done': [{'token': '%s', 'suspend': {'on': {'until': '20ms'}, "
                    "'state': 1}}]}",
                    token),
               200);
    EXPECT_NUMBER(EXPECT_TEXT(r, "leases.0.invocation.id", id), "leases.0.state", 1);
    EXPECT_PROBLEM(
        post(s, "/leases", "{'worker': 'w', 'done': [{'token': '%s', 'suspend': {}, 'result': 1}]}", token), 422,
        "invalid-request");
}

/* A commit on its way: the answer comes after it, and nothing is half done. */
Test(suspend, the_body_hears_of_it_when_it_is_on_disk)
{
    struct server *s = prepare(CONFIG);
    prepare_to_hold_commits(s);
    start(s);
    submit(s, "{'task': 'far'}");
    const char *token = token_of(lease(s));
    hold_commits(s);
    struct client *client = client_open(s);
    const char *body = "{\"on\": {\"until\": \"50ms\"}, \"state\": 3}";
    client_ask(client, "POST", format("/leases/%s/suspend", token), "Content-Type: application/json\r\n", body,
               strlen(body));
    await_held_commit(s);
    kill_hard(s); /* its answer never came: it is said again */
    release_commits(s);
    start(s);
    struct reply *again = tell(s, token, "suspend", body);
    EXPECT(again, 204);
    EXPECT_NUMBER(lease(s), "leases.0.state", 3);
}

/* --- in this process ------------------------------------------------------------------ */

Test(suspend, a_native_body_suspends_and_goes_on)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *other = submit(s, "{'task': 'other'}");
    char *id = submit(s, "{'task': 'sleeper', 'args': {'on': {'ids': ['%s']}, 'state': [1]}}", other);
    struct reply *r = AWAIT_STATUS(s, id, "waiting");
    EXPECT_NULL(r, "worker");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded"); /* its slot is free */
    restart(s);
    EXPECT(tell(s, token_of(lease(s)), "complete", "{'result': 'there'}"), 204);
    r = final(s, id);
    EXPECT_NUMBER(EXPECT_TEXT(r, "result.woken.by", "ids"), "attempt", 1);
    EXPECT_TEXT(EXPECT_NUMBER(r, "result.state.0", 1), "result.woken.results.0.result", "there");
    cr_expect_str_eq(get(s, "/invocations/%s/log", id)->body, "turn\nlate\nturn\n");
    EXPECT_NUMBER(get(s, "/stats"), "tasks.sleeper.waiting", 0);
}

Test(suspend, what_a_native_body_cannot_wait_for_is_said_to_it)
{
    static const char *const rows[][2] = {
        {"{'on': {}}", "/on: needs ids"},
        {"{'on': {'ids': ['0000000000001']}}", "there is no invocation 0000000000001"},
        {"1", "must be an object"},
    };
    struct server *s = serve(CONFIG);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = final(s, submit(s, "{'task': 'sleeper', 'args': %s}", quoted(rows[i][0])));
        EXPECT_HAS(EXPECT_TEXT(r, "error.type", "not_suspended"), rows[i][1]);
    }
}

/* After two unexplained deaths: it was started as one that had never suspended. */
Test(suspend, a_native_body_that_is_to_run_alone_has_its_state)
{
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'sleeps_and_holds', 'args': '%s'}", file_in(s, "go"));
    for (int death = 1; death <= 2; death++) {
        WAIT_UNTIL(strstr(get(s, "/invocations/%s/log?attempt=%d", id, death)->body, "holding"));
        restart(s);
    }
    touch(file_in(s, "go"));
    EXPECT_TEXT(EXPECT_NUMBER(final(s, id), "attempt", 3), "result", "kept");
}

/* A thousand that wait for a time: each goes on, and none holds anything meanwhile. */
Test(suspend, many_may_sleep_with_one_slot)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    for (int i = 0; i < 200; i++)
        submit(s, "{'task': 'sleeper', 'args': {'on': {'until': '400ms'}, 'state': %d}}", i);
    WAIT_UNTIL(number_of(get(s, "/stats"), "tasks.sleeper.succeeded") == 200);
    EXPECT_NUMBER(get(s, "/stats"), "tasks.sleeper.queued", 0);
}

/* --- commands ---------------------------------------------------------------------------- */

/* Its own process suspends, goes on for a while, and is ended before the next turn starts. */
#define ORDER                                                                             \
    "if [ -z \"$ERRAND_WOKEN\" ]; then\n"                                                 \
    "  echo first; curl -sS --json '{\"on\": {\"inbox\": true}, \"state\": {\"n\": 1}}' " \
    "\"$ERRAND_LEASE_URL/suspend\"\n"                                                     \
    "  touch suspended; while [ ! -e go ]; do sleep 0.01; done; echo late; exit 3\n"      \
    "fi\n"                                                                                \
    "echo \"$ERRAND_ATTEMPT $ERRAND_STATE $ERRAND_WOKEN\"\n"

Test(suspend, a_command_suspends_and_its_next_turn_waits_for_its_process)
{
    struct server *s = prepare(CONFIG);
    write_whole(file_in(s, "order.sh"), ORDER);
    start(s);
    char *id = submit(s, "{'task': 'order'}");
    WAIT_UNTIL(exists(file_in(s, "suspended")));
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "waiting");
    EXPECT(post(s, format("/invocations/%s/inbox", id), "'yes'"), 201);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "queued");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded"); /* what comes after it runs */
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "queued");
    touch(file_in(s, "go"));
    struct reply *r = EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "attempt", 1);
    const char *result = text_of(r, "result");
    REQUIRE(strstr(result, "1 {\"n\": 1} {\"by\":\"inbox\"") == result, "%s", result);
    REQUIRE(strstr(result, "\"body\":\"yes\"}]}"), "%s", result);
    cr_expect_str_eq(get(s, "/invocations/%s/log", id)->body, "first\nlate\n");
}

/* What became the result is taken out of the log, and took with it what the turns before
 * had printed. */
Test(suspend, the_result_of_the_last_turn_leaves_the_log_of_the_others)
{
    struct server *s = prepare(CONFIG);
    write_whole(file_in(s, "order.sh"), "if [ -z \"$ERRAND_WOKEN\" ]; then\n"
                                        "  echo first; exec curl -sS --json '{\"on\": {\"until\": \"0s\"}}' "
                                        "\"$ERRAND_LEASE_URL/suspend\"\n"
                                        "fi\n"
                                        "echo second; while [ ! -e go ]; do sleep 0.01; done\n");
    start(s);
    char *id = submit(s, "{'task': 'order'}");
    WAIT_UNTIL(strstr(get(s, "/invocations/%s/log", id)->body, "second"));
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "result", "second\n");
    cr_expect_str_eq(get(s, "/invocations/%s/log", id)->body, "first\n");
}

/* The process is killed with the server, its turn had ended: nobody pays, nothing runs twice. */
Test(suspend, a_crash_before_the_process_has_ended_loses_nothing)
{
    struct server *s = prepare("defaults: {max_recoveries: 0}\n" CONFIG);
    write_whole(file_in(s, "order.sh"), ORDER);
    start(s);
    char *id = submit(s, "{'task': 'order'}"), *asleep = submit(s, "{'task': 'order'}");
    AWAIT_STATUS(s, id, "waiting");
    AWAIT_STATUS(s, asleep, "waiting");
    EXPECT(post(s, format("/invocations/%s/inbox", id), "'yes'"), 201);
    restart(s);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "attempt", 1);
    EXPECT_TEXT(get(s, "/invocations/%s", asleep), "status", "waiting");
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/cancel", asleep), NULL), 200), "status", "cancelled");
}

Test(suspend, a_cancellation_stops_the_process_that_has_suspended)
{
    struct server *s = prepare("slots: 1\n" CONFIG);
    write_whole(file_in(s, "order.sh"), ORDER);
    start(s);
    char *id = submit(s, "{'task': 'order'}");
    WAIT_UNTIL(exists(file_in(s, "suspended")));
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200), "status", "cancelled");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
}

/* Above 64 kB what it resumes with stands in a file. */
Test(suspend, a_large_state_stands_in_a_file)
{
    struct server *s = prepare(CONFIG);
    write_whole(
        file_in(s, "large.sh"),
        "if [ -z \"$ERRAND_WOKEN\" ]; then\n"
        "  { printf '{\"on\": {\"until\": \"1ms\"}, \"state\": \"'; head -c 100000 /dev/zero | tr '\\0' x; "
        "printf '\"}'; } | curl -sS --json @- \"$ERRAND_LEASE_URL/suspend\"\n"
        "  exit\n"
        "fi\n"
        "printf '%s %s' \"${ERRAND_STATE-none}\" \"$(sh -c 'wc -c <\"$ERRAND_STATE_FILE\"')\"\n");
    start(s);
    EXPECT_TEXT(final(s, submit(s, "{'task': 'large'}")), "result", "none 100002");
}

/* Nothing is left of them but rows, and nobody looks at those until one is due. */
Test(suspend, what_sleeps_costs_no_memory_and_no_time)
{
    enum { SLEEPERS = 2000, LINES = 500 };
    if (!is_plain())
        cr_skip_test("a sanitizer has memory of its own");
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'sleeper', 'args': {'on': {'inbox': true}}}");
    AWAIT_STATUS(s, id, "waiting");
    int64_t one = resident_kb(s);
    const char *lines = "";
    for (int i = 0; i < LINES; i++)
        lines = format("%s{\"task\": \"sleeper\", \"args\": {\"on\": {\"until\": \"1h\"}, \"state\": %d}}\n",
                       lines, i);
    for (int i = 0; i < SLEEPERS / LINES; i++)
        EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    WAIT_UNTIL(number_of(get(s, "/stats"), "tasks.sleeper.waiting") == SLEEPERS + 1);
    REQUIRE_GROWTH_BELOW(8 * 1024, one, resident_kb(s));
    restart(s);
    int64_t before = processor_ms(s);
    EXPECT_TEXT(get(s, "/invocations/%s?wait=2", id), "status", "waiting");
    REQUIRE(processor_ms(s) < before + 100, "%lld ms in 2 s", (long long)(processor_ms(s) - before));
    REQUIRE_GROWTH_BELOW(1024, one, resident_kb(s));
}

/* --- bounds ------------------------------------------------------------------------------ */

/* What is too much for one turn stays unread, and wakes it again. */
Test(suspend, a_turn_is_given_about_a_mebibyte_of_messages)
{
    enum { LARGE = 60000, COUNT = 30 };
    struct server *s = serve(CONFIG);
    const char *stale;
    char *id = suspended(s, "{'on': {'inbox': true}}", &stale), *body = malloc(LARGE + 1);
    memset(body, '1', LARGE);
    body[LARGE] = '\0';
    for (int i = 0; i < COUNT; i++)
        EXPECT(post(s, format("/invocations/%s/inbox", id), "%s", body), 201);
    int got = 0;
    for (int turn = 0; turn < 2; turn++) {
        struct reply *r = lease(s);
        int given = cJSON_GetArraySize(field(r, "leases.0.woken.messages"));
        REQUIRE(turn ? given == COUNT - got : given == 18, "%d were given", given);
        got += given;
        EXPECT(tell(s, token_of(r), turn ? "complete" : "suspend", turn ? "{}" : "{'on': {'inbox': true}}"), 204);
    }
    free(body);
}

Test(suspend, a_poll_may_not_wait_for_too_many_in_all)
{
    struct server *s = serve(CONFIG);
    char *ids = format("'0000000000001'"), *done = strdup("");
    for (int i = 2; i <= 1000; i++)
        ids = format("%s,'%013d'", ids, i);
    for (int i = 0; i < 11; i++)
        done = format("%s%s{'token': '%d', 'suspend': {'on': {'ids': [%s]}}}", done, i ? "," : "", i, ids);
    struct reply *r = post(s, "/leases", "%s", quoted(format("{'worker': 'w', 'done': [%s]}", done)));
    EXPECT_TEXT(EXPECT_PROBLEM(r, 422, "invalid-request"), "errors.0.pointer", "/done/10");
}
