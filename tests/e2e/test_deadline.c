/* Done by then, or failed: `deadline`. */
#include "tests/e2e/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SUITE(deadline);

#define LATE(s, id) EXPECT_TEXT(final(s, id), "error.type", "deadline")

Test(deadline, what_waits_fails_whatever_it_waits_for)
{
    struct server *s = serve("defaults: {backoff: {initial: 1h, max: 1h}}\n" TASKS);
    char *retried = submit(s, "{'task': 'fail', 'max_retries': 3, 'deadline': '300ms'}");
    LATE(s, retried);
    EXPECT(post(s, "/pause", NULL), 200);
    char *scheduled = submit(s, "{'task': 'echo', 'delay': '1h', 'deadline': '50ms'}");
    char *queued = submit(s, "{'task': 'echo', 'deadline': '50ms'}");
    char *past = submit(s, "{'task': 'echo', 'deadline': '2020-01-01T00:00:00Z'}");
    LATE(s, scheduled);
    LATE(s, queued);
    LATE(s, past);
    EXPECT_TEXT(get(s, "/invocations/%s", past), "deadline", "2020-01-01T00:00:00.000Z");
    EXPECT_NULL(get(s, "/invocations/%s", submit(s, "{'task': 'echo'}")), "deadline");
    REQUIRE(field(get(s, "/invocations?error=deadline"), "items.3") != NULL);
}

Test(deadline, what_runs_is_ended_as_by_a_cancellation)
{
    struct server *s =
        serve("kill_grace: 200ms\n" TASKS
              "  sleeper: {kind: command, run: [sleep, '1000'], deadline: 300ms, max_retries: 5}\n");
    char *native = submit(s, "{'task': 'hold', 'args': '%s', 'deadline': '300ms'}", file_in(s, "never"));
    char *command = submit(s, "{'task': 'sleeper'}");
    LATE(s, native);
    struct reply *r = final(s, command);
    EXPECT_TEXT(r, "error.type", "deadline");
    EXPECT_NULL(r, "cancel_requested_at");
    EXPECT_NUMBER(r, "attempt", 1);
}

Test(deadline, a_worker_elsewhere_hears_it_at_its_next_heartbeat)
{
    struct server *s = serve("tasks:\n  far: {kind: remote, deadline: 500ms}\n");
    char *id = submit(s, "{'task': 'far'}");
    struct reply *r =
        EXPECT(post(s, "/leases", "{'worker': 'w', 'tasks': ['far'], 'wait': '10s', 'lease': '30s'}"), 200);
    char *token = strdup(text_of(r, "leases.0.token"));
    REQUIRE(*text_of(r, "leases.0.invocation.deadline"), "%s", r->body);
    WAIT_UNTIL(cJSON_IsTrue(field(post(s, format("/leases/%s/heartbeat", token), "{}"), "cancel")));
    EXPECT(post(s, format("/leases/%s/fail", token), "{'error': {'type': 'mine', 'retry': true}}"), 204);
    LATE(s, id);
}

Test(deadline, what_has_suspended_and_what_waits_in_place_fail)
{
    struct server *s = serve("tasks:\n  far: {kind: remote}\n");
    char *id = submit(s, "{'task': 'far', 'deadline': '400ms'}");
    struct reply *r =
        EXPECT(post(s, "/leases", "{'worker': 'w', 'tasks': ['far'], 'wait': '10s', 'lease': '30s'}"), 200);
    EXPECT(post(s, format("/leases/%s/suspend", text_of(r, "leases.0.token")), "{'on': {'inbox': true}}"), 204);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "waiting");
    LATE(s, id);
}

Test(deadline, a_restart_finds_those_whose_time_has_come)
{
    struct server *s = serve(TASKS);
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'echo', 'deadline': '1s'}");
    kill_hard(s);
    start(s);
    LATE(s, id);
}

/* Killed between the mark and the end of the turn. */
Test(deadline, a_turn_that_dies_after_its_deadline_has_failed)
{
    struct server *s = serve("tasks:\n  deaf: {kind: native, module: $NATIVE}\n");
    char *id = submit(s, "{'task': 'deaf', 'args': '%s', 'deadline': '300ms'}", file_in(s, "never"));
    WAIT_UNTIL(*text_of(get(s, "/invocations/%s", id), "cancel_requested_at"));
    restart(s);
    LATE(s, id);
}

Test(deadline, a_retry_begins_it_anew)
{
    struct server *s = serve(TASKS);
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'echo', 'deadline': '100ms'}");
    LATE(s, id);
    struct reply *r = EXPECT(post(s, format("/invocations/%s/retry", id), NULL), 200);
    EXPECT_TEXT(r, "status", "queued");
    LATE(s, id);
}

Test(deadline, what_is_no_deadline_is_refused)
{
    struct server *s = serve(TASKS);
    static const char *const bad[] = {"5", "''", "'soon'", "'5'", "true", "'0s'"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct reply *r = post(s, "/tasks", "{'task': 'echo', 'deadline': %s}", quoted(bad[i]));
        REQUIRE(faults_mention(EXPECT_PROBLEM(r, 422, "invalid-request"), "/deadline"), "%s", bad[i]);
    }
    final(s, submit(s, "{'task': 'echo', 'deadline': null}"));
}

Test(deadline, a_command_is_told_its_deadline)
{
    struct server *s =
        serve("tasks:\n  tell: {kind: command, run: [sh, -c, 'printf %s \"$ERRAND_DEADLINE\"'], deadline: 1h}\n");
    struct reply *r = final(s, submit(s, "{'task': 'tell'}"));
    REQUIRE(strcmp(text_of(r, "result"), text_of(r, "deadline")) == 0 && *text_of(r, "result"), "%s", r->body);
}

Test(deadline, a_native_body_sees_what_is_left)
{
    struct server *s = serve("tasks:\n"
                             "  left: {kind: native, module: $NATIVE}\n"
                             "  apart: {kind: native, module: $NATIVE, function: left, isolate: true}\n");
    EXPECT_NUMBER(final(s, submit(s, "{'task': 'left'}")), "result", -1);
    static const char *const nearer[] = {"'deadline': '1m'", "'timeout': '1m'",
                                         "'deadline': '1m', 'timeout': '1h'", "'deadline': '1h', 'timeout': '1m'"};
    for (size_t i = 0; i < 2 * sizeof nearer / sizeof *nearer; i++) {
        double left = number_of(
            final(s, submit(s, "{'task': '%s', %s}", i % 2 ? "left" : "apart", quoted(nearer[i / 2]))), "result");
        REQUIRE(left > 1000 && left <= 60000, "%s: %f", nearer[i / 2], left);
    }
}
