/* How an invocation runs and ends, and how the server does. */
#include "tests/e2e/support.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

SUITE(life);

#define ON(id, what) format("/invocations/%s/%s", id, what)

Test(life, lower_numbers_run_first_and_then_older_ones)
{
    struct server *s = serve("slots: 1\n" TASKS);
    EXPECT(post(s, "/pause", NULL), 200);
    char *late = submit(s, "{'task': 'count', 'priority': 127}");
    char *normal1 = submit(s, "{'task': 'count'}");
    char *normal2 = submit(s, "{'task': 'count'}");
    char *first = submit(s, "{'task': 'count', 'priority': 0}");
    EXPECT(post(s, "/resume", NULL), 200);
    final(s, late);
    cr_assert_str_eq(read_whole(file_in(s, "runs")), format("%s\n%s\n%s\n%s\n", first, normal1, normal2, late));
}

Test(life, priorities_hold_across_tasks_and_over_a_long_backlog)
{
    struct server *s = serve("slots: 1\n"
                             "tasks:\n"
                             "  count: {kind: native, module: $NATIVE}\n"
                             "  other: {kind: native, module: $NATIVE, function: count}\n");
    EXPECT(post(s, "/pause", NULL), 200);
    char *lines = strdup("");
    for (int i = 0; i < 500; i++)
        lines = format("%s{\"task\": \"count\", \"priority\": 5}\n", lines);
    for (int i = 0; i < 6; i++)
        EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    char *urgent = submit(s, "{'task': 'other', 'priority': 0}");
    EXPECT(post(s, "/resume", NULL), 200);
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.succeeded") == 3001);
    REQUIRE(strncmp(read_whole(file_in(s, "runs")), urgent, 13) == 0, "the urgent one was not the first");
}

Test(life, no_more_bodies_run_than_there_are_slots)
{
    struct server *s = serve("slots: 3\n" TASKS);
    char *ids[8];
    for (int i = 0; i < 8; i++)
        ids[i] = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, ids[2], "running");
    struct reply *r = get(s, "/stats");
    EXPECT_NUMBER(r, "invocations.running", 3);
    EXPECT_NUMBER(r, "invocations.queued", 5);
    touch(file_in(s, "go"));
    for (int i = 0; i < 8; i++)
        EXPECT_TEXT(final(s, ids[i]), "status", "succeeded");
}

Test(life, a_delayed_one_does_not_start_before_its_time)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'delay': '700ms'}");
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "scheduled");
    struct reply *r = final(s, id);
    EXPECT_TEXT(r, "status", "succeeded");
    REQUIRE(strcmp(text_of(r, "started_at"), text_of(r, "run_at")) >= 0, "%s", r->body);
}

Test(life, what_does_not_start_in_time_expires)
{
    struct server *s = serve(TASKS);
    EXPECT(post(s, "/tasks/echo/pause", NULL), 200);
    char *queued = submit(s, "{'task': 'echo', 'expires_in': '300ms'}");
    char *scheduled = submit(s, "{'task': 'fail', 'delay': '1h', 'expires_in': '300ms'}");
    struct reply *r = final(s, queued);
    EXPECT_TEXT(r, "status", "failed");
    EXPECT_TEXT(r, "error.type", "expired");
    EXPECT_NUMBER(r, "attempt", 0);
    EXPECT_TEXT(final(s, scheduled), "error.type", "expired");
    EXPECT_TEXT(EXPECT(get(s, "/invocations?error=expired"), 200), "items.1.id", queued);
}

Test(life, an_attempt_that_takes_too_long_fails_as_timeout)
{
    struct server *s =
        serve("kill_grace: 100ms\ntasks:\n"
              "  hold: {kind: native, module: $NATIVE}\n"
              "  sleep: {kind: command, run: [sh, -c, 'trap \"\" TERM; sleep 1000; sleep 1000']}\n");
    char *native = submit(s, "{'task': 'hold', 'args': '%s', 'timeout': '200ms'}", file_in(s, "never"));
    char *command = submit(s, "{'task': 'sleep', 'timeout': '200ms'}");
    EXPECT_TEXT(EXPECT_TEXT(final(s, native), "status", "failed"), "error.type", "timeout");
    EXPECT_TEXT(EXPECT_TEXT(final(s, command), "status", "failed"), "error.type", "timeout");
}

Test(life, a_failure_is_tried_again_after_its_backoff)
{
    struct server *s =
        serve("defaults: {max_retries: 3, backoff: {initial: 300ms, factor: 1, jitter: 0}}\ntasks:\n"
              "  fail_until: {kind: native, module: $NATIVE}\n");
    int64_t began = now_ms();
    char *id = submit(s, "{'task': 'fail_until', 'args': 3}");
    struct reply *r = AWAIT_STATUS(s, id, "scheduled");
    EXPECT_TEXT(r, "error.type", "fault-1");
    r = final(s, id);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_NUMBER(r, "attempt", 3);
    REQUIRE(now_ms() - began >= 600, "it took only %d ms", (int)(now_ms() - began));
}

Test(life, a_failure_says_whether_it_is_worth_a_retry)
{
    struct server *s =
        serve("defaults: {max_retries: 3, backoff: {initial: 1h, max: 1h}}\ntasks:\n"
              "  fail_for_good: {kind: native, module: $NATIVE}\n"
              "  fail_later: {kind: native, module: $NATIVE}\n"
              "  picky: {kind: native, module: $NATIVE, function: fail, retry_for: [timeout, \"exit:*\"]}\n"
              "  exits: {kind: command, run: [sh, -c, 'exit 3'], retry_for: [\"exit:*\"], backoff: {initial: "
              "1ms}, max_retries: 1}\n");
    char *hopeless = submit(s, "{'task': 'fail_for_good'}"), *later = submit(s, "{'task': 'fail_later'}");
    char *picky = submit(s, "{'task': 'picky'}"), *exits = submit(s, "{'task': 'exits'}");
    EXPECT_NUMBER(EXPECT_TEXT(final(s, hopeless), "error.type", "hopeless"), "attempt", 1);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, later), "status", "succeeded"), "attempt", 2);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, picky), "status", "failed"), "attempt", 1);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, exits), "error.type", "exit:3"), "attempt", 2);
}

/* Elsewhere there are options that nothing reads. */
Test(life, every_option_of_a_task_is_read_and_a_submission_may_say_otherwise)
{
    struct server *s = serve("slots: 1\n"
                             "defaults: {priority: 9, retention: 3d}\n"
                             "tasks:\n"
                             "  all:\n"
                             "    kind: native\n"
                             "    module: $NATIVE\n"
                             "    function: hold\n"
                             "    priority: 3\n"
                             "    timeout: 150ms\n"
                             "    expires_in: 1h\n"
                             "    max_retries: 5\n"
                             "    retry_for: [timeout]\n"
                             "    backoff: {initial: 1ms, factor: 1, max: 2ms, jitter: 0}\n"
                             "    retention: 2s\n"
                             "  other: {kind: native, module: $NATIVE, function: echo}\n");
    char *go = file_in(s, "go");
    struct reply *r = EXPECT(post(s, "/tasks", "{'task': 'all', 'args': '%s', 'max_retries': 2}", go), 201);
    EXPECT_NUMBER(r, "priority", 3);
    EXPECT_TEXT(r, "timeout", "150ms");
    EXPECT_TEXT(r, "retention", "2s");
    EXPECT_NUMBER(r, "max_retries", 2);
    REQUIRE(*text_of(r, "expires_at"), "%s", r->body);
    char *id = strdup(text_of(r, "id"));
    r = final(s, id);
    EXPECT_TEXT(r, "error.type", "timeout");
    EXPECT_NUMBER(r, "attempt", 3);
    r = EXPECT(post(s, "/tasks", "{'task': 'other'}"), 201);
    EXPECT_NUMBER(r, "priority", 9);
    EXPECT_TEXT(r, "retention", "3d");
    WAIT_UNTIL(get(s, "/invocations/%s", id)->status == 404);
}

/* Elsewhere an assignment is dropped when all slots are full. */
Test(life, nothing_is_dropped_while_all_slots_are_full)
{
    struct server *s = serve("slots: 2\n" TASKS);
    submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go")), "running");
    char *lines = strdup("");
    for (int i = 0; i < 300; i++)
        lines = format("%s{\"task\": \"count\", \"delay\": \"%dms\"}\n", lines, i);
    EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.queued") == 300);
    touch(file_in(s, "go"));
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.succeeded") == 302);
    cr_assert_eq(strlen(read_whole(file_in(s, "runs"))), 300 * 14);
}

Test(life, a_command_gets_its_arguments_and_gives_its_output)
{
    struct server *s = prepare("");
    run(s->folder, (const char *[]){"mkdir", "sub", NULL}, NULL, NULL, NULL);
    configure(s, "tasks:\n"
                 "  argv:\n"
                 "    kind: command\n"
                 "    run: [sh, -c, 'printf \"%s|\" \"$@\"', sh, \"{text}\", \"-n{n}\", \"{{n}}\", \"{rest}\"]\n"
                 "    params: {text: string, n: integer, rest: {type: array, default: [1, \"a b\"]}}\n"
                 "  stdin: {kind: command, run: [cat], result: json}\n"
                 "  env: {kind: command, run: [sh, -c, 'echo \"$ERRAND_ID $ERRAND_TASK $ERRAND_ATTEMPT $MINE\"; "
                 "pwd'], env: {MINE: yes it is}, cwd: sub}\n");
    start(s);
    char *id = submit(s, "{'task': 'argv', 'args': ['a \\'; rm -rf $HOME `id`\\n', 9007199254740993]}");
    EXPECT_TEXT(final(s, id), "result", "a \"; rm -rf $HOME `id`\n|-n9007199254740993|{n}|[1,\"a b\"]|");
    id = submit(s, "{'task': 'stdin', 'args': {'n': 9007199254740993, 'p': 1.10}}");
    final(s, id);
    cr_assert_str_eq(EXPECT(get(s, "/invocations/%s/result", id), 200)->body,
                     "{\"n\": 9007199254740993, \"p\": 1.10}");
    id = submit(s, "{'task': 'env'}");
    EXPECT_TEXT(final(s, id), "result", format("%s env 1 yes it is\n%s\n", id, realpath(file_in(s, "sub"), NULL)));
}

Test(life, a_command_that_fails_says_how)
{
    struct server *s = prepare("");
    run(s->folder, (const char *[]){"cp", "/bin/true", "removed", NULL}, NULL, NULL, NULL);
    configure(s, "tasks:\n"
                 "  exits: {kind: command, run: [sh, -c, 'echo out; echo oh no >&2; exit 3']}\n"
                 "  dies: {kind: command, run: [sh, -c, 'kill -9 $$']}\n"
                 "  removed: {kind: command, run: [./removed]}\n"
                 "  nojson: {kind: command, run: [echo, not json], result: json}\n");
    start(s);
    unlink(file_in(s, "removed"));
    struct reply *r = final(s, submit(s, "{'task': 'exits'}"));
    EXPECT_TEXT(r, "error.type", "exit:3");
    EXPECT_NUMBER(r, "error.exit_code", 3);
    EXPECT_TEXT(r, "error.stderr", "oh no\n");
    EXPECT_NULL(r, "result");
    r = EXPECT(get(s, "/invocations/%s/log", text_of(r, "id")), 200);
    EXPECT_HAS(EXPECT_HAS(r, "out\n"), "oh no\n");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'dies'}")), "error.type", "signal:9");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'nojson'}")), "error.type", "bad_result");
    r = final(s, submit(s, "{'task': 'removed'}"));
    EXPECT_TEXT(r, "status", "failed");
    REQUIRE(*text_of(r, "error.type") && *text_of(r, "error.message"), "%s", r->body);
}

Test(life, text_that_is_no_utf_8_and_a_command_that_does_not_read_are_no_harm)
{
    struct server *s = serve("tasks:\n"
                             "  bytes: {kind: command, run: [printf, '\\303\\050x']}\n"
                             "  deaf: {kind: command, run: [\"true\"]}\n");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'bytes'}")), "result", "\xef\xbf\xbd(x");
    char *long_text = malloc(300001);
    memset(long_text, 'y', 300000);
    long_text[300000] = '\0';
    for (int i = 0; i < 5; i++)
        EXPECT_TEXT(final(s, submit(s, "{'task': 'deaf', 'args': '%s'}", long_text)), "status", "succeeded");
}

Test(life, an_attempt_ends_when_its_process_exits_and_takes_its_group_along)
{
    struct server *s = serve("tasks:\n  leaver: {kind: command, run: [sh, -c, 'sleep 1000 & echo $!']}\n");
    struct reply *r = final(s, submit(s, "{'task': 'leaver'}"));
    EXPECT_TEXT(r, "status", "succeeded");
    pid_t child = atoi(text_of(r, "result"));
    REQUIRE(child > 0, "%s", r->body);
    WAIT_UNTIL(!is_alive(child));
}

Test(life, a_paused_tasks_backlog_blocks_nobody)
{
    struct server *s = serve("slots: 1\n" TASKS);
    EXPECT(post(s, "/tasks/echo/pause", NULL), 200);
    char *lines = strdup("");
    for (int i = 0; i < 500; i++)
        lines = format("%s{\"task\": \"echo\", \"priority\": 0}\n", lines);
    for (int i = 0; i < 10; i++)
        EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    for (int i = 0; i < 20; i++)
        EXPECT_TEXT(final(s, submit(s, "{'task': 'count', 'priority': 127}")), "status", "succeeded");
    struct reply *r = get(s, "/tasks/echo");
    EXPECT_NUMBER(r, "counts.queued", 5000);
    EXPECT(post(s, "/tasks/echo/resume", NULL), 200);
    WAIT_UNTIL(number_of(get(s, "/tasks/echo"), "counts.succeeded") == 5000);
}

Test(life, a_pause_stops_new_work_only_and_survives_a_restart)
{
    struct server *s = serve(TASKS);
    char *running = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, running, "running");
    struct reply *r = EXPECT(post(s, "/pause", NULL), 200);
    REQUIRE(cJSON_IsTrue(field(r, "paused")), "%s", r->body);
    char *waiting = submit(s, "{'task': 'echo'}");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, running), "status", "succeeded");
    restart(s);
    EXPECT_TEXT(get(s, "/invocations/%s", waiting), "status", "queued");
    r = EXPECT(post(s, "/resume", "{}"), 200);
    REQUIRE(cJSON_IsFalse(field(r, "paused")), "%s", r->body);
    EXPECT_TEXT(final(s, waiting), "status", "succeeded");
}

Test(life, final_ones_are_pruned_after_their_retention)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'retention': '1s', 'key': 'k', 'labels': {'a': 'b'}}");
    char *kept = submit(s, "{'task': 'echo', 'retention': '1h'}");
    final(s, id);
    WAIT_UNTIL(get(s, "/invocations/%s", id)->status == 404);
    EXPECT(get(s, "/invocations/%s", kept), 200);
    EXPECT_NUMBER(get(s, "/tasks/echo"), "counts.succeeded", 1);
    EXPECT(post(s, "/tasks", "{'task': 'echo', 'key': 'k'}"), 201);
}

Test(life, no_more_final_ones_are_kept_than_retain_max)
{
    struct server *s = serve("retain_max: 10\n" TASKS);
    char *first = submit(s, "{'task': 'echo'}");
    for (int i = 0; i < 40; i++)
        submit(s, "{'task': 'echo'}");
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.queued") == 0 &&
               number_of(get(s, "/stats"), "invocations.succeeded") <= 10);
    EXPECT(get(s, "/invocations/%s", first), 404);
}

/* Only ends of attempts had the number looked at, not what expired, and not a
 * file that was read again. */
Test(life, what_expires_and_a_smaller_retain_max_are_looked_at_as_well)
{
    struct server *s = serve("retain_max: 4\n" TASKS);
    EXPECT(post(s, "/pause", NULL), 200);
    for (int i = 0; i < 8; i++)
        submit(s, "{'task': 'echo', 'expires_in': '10ms'}");
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.queued") == 0 &&
               number_of(get(s, "/stats"), "invocations.failed") == 4);
    configure(s, "retain_max: 2\n" TASKS);
    send_signal(s, SIGHUP);
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.failed") == 2);
}

/* ---- closing ---- */

/* Elsewhere finished work is thrown away at shutdown and run again. */
Test(life, a_result_that_exists_is_never_thrown_away)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    send_signal(s, SIGTERM);
    WAIT_UNTIL(strstr(server_log(s), "closing"));
    touch(file_in(s, "go"));
    cr_assert_eq(await_exit(s), 0);
    start(s);
    struct reply *r = get(s, "/invocations/%s", id);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_NUMBER(r, "attempt", 1);
}

Test(life, sigterm_finishes_what_runs_and_leaves_the_rest_on_disk)
{
    struct server *s = serve("slots: 1\n" TASKS);
    char *running = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    char *queued = submit(s, "{'task': 'count'}");
    AWAIT_STATUS(s, running, "running");
    send_signal(s, SIGTERM);
    WAIT_UNTIL(strstr(server_log(s), "closing"));
    touch(file_in(s, "go"));
    cr_assert_eq(await_exit(s), 0);
    cr_assert_str_empty(read_whole(file_in(s, "runs")));
    start(s);
    EXPECT_TEXT(get(s, "/invocations/%s", running), "status", "succeeded");
    EXPECT_TEXT(final(s, queued), "status", "succeeded");
}

/* The time was counted from the beginning of the join. */
Test(life, sigterm_gives_what_a_long_join_left_its_full_time)
{
    struct server *s = serve("shutdown_timeout: 1s\n" TASKS);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    EXPECT(post(s, "/shutdown?policy=join", NULL), 202);
    EXPECT_TEXT(get(s, "/invocations/%s?wait=1.3", id), "status", "running");
    send_signal(s, SIGTERM);
    WAIT_UNTIL(strstr(server_log(s), "policy=cancel"));
    EXPECT_TEXT(get(s, "/invocations/%s?wait=0.3", id), "status", "running");
    touch(file_in(s, "go"));
    cr_assert_eq(await_exit(s), 0);
    start(s);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "attempt", 1);
}

Test(life, while_closing_submissions_are_503_and_reads_go_on)
{
    struct server *s = serve(TASKS);
    char *running = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, running, "running");
    struct reply *r = EXPECT(post(s, "/shutdown", NULL), 202);
    EXPECT_TEXT(r, "policy", "cancel");
    r = EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo'}"), 503, "closing");
    REQUIRE(header(r, "Retry-After"), "no Retry-After");
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s", running), 200), "status", "running");
    EXPECT_PROBLEM(get(s, "/readyz"), 503, "closing");
    EXPECT(get(s, "/healthz"), 200);
    touch(file_in(s, "go"));
    cr_assert_eq(await_exit(s), 0);
}

Test(life, join_runs_everything_that_is_queued)
{
    struct server *s = serve("slots: 1\n" TASKS);
    submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    for (int i = 0; i < 50; i++)
        submit(s, "{'task': 'count'}");
    submit(s, "{'task': 'count', 'delay': '1h'}");
    EXPECT_TEXT(EXPECT(post(s, "/shutdown?policy=join", NULL), 202), "policy", "join");
    touch(file_in(s, "go"));
    cr_assert_eq(await_exit(s), 0);
    cr_assert_eq(strlen(read_whole(file_in(s, "runs"))), 50 * 14);
    start(s);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.scheduled", 1);
}

Test(life, kill_stops_what_runs_and_it_is_run_again_at_no_cost)
{
    struct server *s = serve("kill_grace: 200ms\ndefaults: {max_recoveries: 0}\ntasks:\n"
                             "  hold: {kind: native, module: $NATIVE}\n"
                             "  sleep: {kind: command, run: [sh, -c, 'trap \"\" TERM; echo $$ >>pid; until [ -e "
                             "go ]; do sleep 0.05; done; echo done']}\n");
    char *native = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    char *command = submit(s, "{'task': 'sleep'}");
    AWAIT_STATUS(s, native, "running");
    WAIT_UNTIL(*read_whole(file_in(s, "pid")));
    EXPECT(post(s, "/shutdown?policy=kill", NULL), 202);
    cr_assert_eq(await_exit(s), 0);
    WAIT_UNTIL(!is_alive(atoi(read_whole(file_in(s, "pid")))));
    touch(file_in(s, "go"));
    start(s);
    struct reply *r = final(s, native);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_NUMBER(r, "attempt", 2);
    EXPECT_TEXT(final(s, command), "result", "done\n");
}

Test(life, a_second_signal_kills)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "never"));
    AWAIT_STATUS(s, id, "running");
    send_signal(s, SIGINT);
    WAIT_UNTIL(strstr(server_log(s), "closing"));
    send_signal(s, SIGTERM);
    cr_assert_eq(await_exit(s), 0);
    start(s);
    AWAIT_STATUS(s, id, "running");
    EXPECT_NUMBER(get(s, "/invocations/%s", id), "attempt", 2);
}

/* Elsewhere a shutdown waits without bound. */
Test(life, a_shutdown_does_not_wait_longer_than_it_was_told)
{
    struct server *s = serve("shutdown_timeout: 300ms\n" TASKS);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "never"));
    AWAIT_STATUS(s, id, "running");
    cr_assert_eq(terminate(s), 0);
}

Test(life, a_body_that_never_returns_is_left_behind_and_run_again)
{
    struct server *s = serve("shutdown_timeout: 100ms\nkill_grace: 100ms\ntasks:\n  deaf: {kind: native, module: "
                             "$NATIVE, max_recoveries: 0}\n");
    char *id = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    cr_assert_eq(terminate(s), 0);
    start(s);
    AWAIT_STATUS(s, id, "running");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

Test(life, an_unknown_policy_is_refused)
{
    struct server *s = serve(TASKS);
    EXPECT(post(s, "/shutdown?policy=now", NULL), 400);
    EXPECT(post(s, "/shutdown?polciy=kill", NULL), 400);
    final(s, submit(s, "{'task': 'echo'}"));
}

/* One failure poisons the runner for every later one, elsewhere. */
Test(life, one_failure_spoils_nothing_after_it)
{
    struct server *s = serve("slots: 1\ntasks:\n"
                             "  fail: {kind: native, module: $NATIVE}\n"
                             "  no_json: {kind: native, module: $NATIVE}\n"
                             "  echo: {kind: native, module: $NATIVE}\n"
                             "  dies: {kind: command, run: [sh, -c, 'kill -SEGV $$']}\n");
    for (int i = 0; i < 5; i++) {
        EXPECT_TEXT(final(s, submit(s, "{'task': 'fail'}")), "error.type", "mine");
        EXPECT_TEXT(final(s, submit(s, "{'task': 'no_json'}")), "error.type", "bad_result");
        EXPECT_TEXT(final(s, submit(s, "{'task': 'dies'}")), "error.type", "signal:11");
        EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    }
}

Test(life, an_idle_server_uses_no_processor_time)
{
    struct server *s = serve(TASKS);
    final(s, submit(s, "{'task': 'echo'}"));
    submit(s, "{'task': 'echo', 'delay': '1h'}");
    struct client *wait = client_open(s);
    int64_t before = processor_ms(s);
    /* a wait for what comes later: two seconds in which there is nothing to do */
    char *id = submit(s, "{'task': 'echo', 'delay': '2s'}");
    client_ask(wait, "GET", format("/invocations/%s?wait=30", id), NULL, NULL, 0);
    REQUIRE(client_receive(wait, false));
    int64_t used = processor_ms(s) - before;
    REQUIRE(used < 200, "it used %lld ms of 2 s", (long long)used);
}

/* Hands over the configuration twice, and sends signals before the first. */
static void *feed_after_signals(void *argument)
{
    struct server *s = argument;
    for (int i = 0; i < 2; i++) {
        while (i == 1 && !strstr(server_log(s), "msg=listening")) /* the first has been read to its end */
            breathe();
        int fd = open(file_in(s, "fed.yaml"), O_WRONLY); /* until it is read */
        char *config = "listen: 127.0.0.1:0\ntasks: {yes: {kind: command, run: [echo, yes]}}\n";
        if (i == 0) {
            send_signal(s, SIGUSR1);
            send_signal(s, SIGUSR2);
            send_signal(s, SIGHUP);
        }
        if (write(fd, config, strlen(config)) < 0)
            return NULL;
        close(fd);
    }
    return NULL;
}

/* The default of all three is to end the process. */
Test(life, a_signal_while_it_starts_is_heard_once_it_runs)
{
    pthread_t thread;
    struct server *s = prepare(TASKS);
    REQUIRE(mkfifo(file_in(s, "fed.yaml"), 0600) == 0);
    s->arguments = (const char *[]){"--config", "fed.yaml", NULL};
    pthread_create(&thread, NULL, feed_after_signals, s);
    start(s);
    WAIT_UNTIL(strstr(server_log(s), "msg=reloaded"));
    pthread_join(thread, NULL);
    EXPECT(get(s, "/healthz"), 200);
    send_signal(s, SIGUSR1);
    WAIT_UNTIL(strstr(server_log(s), "means nothing here"));
    EXPECT_TEXT(final(s, submit(s, "{'task': 'yes'}")), "status", "succeeded");
    cr_assert_eq(terminate(s), 0);
}

/* SIGXFSZ ended it. A child has the signal as usual. */
Test(life, a_limit_on_the_size_of_files_is_as_a_full_disk)
{
    struct server *s = serve(TASKS "  grow: {kind: command, run: [sh, -c, 'ulimit -f 1; exec yes >grown']}\n");
    struct rlimit before, small;
    char *id = submit(s, "{'task': 'echo'}");
    final(s, id);
    char *grow = submit(s, "{'task': 'grow'}");
    EXPECT_TEXT(final(s, grow), "error.type", format("signal:%d", SIGXFSZ));
    REQUIRE(prlimit(s->pid, RLIMIT_FSIZE, NULL, &before) == 0);
    small = (struct rlimit){4096, before.rlim_max};
    REQUIRE(prlimit(s->pid, RLIMIT_FSIZE, &small, NULL) == 0);
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo'}"), 503, "unavailable");
    EXPECT(get(s, "/invocations/%s", id), 200);
    REQUIRE(prlimit(s->pid, RLIMIT_FSIZE, &before, NULL) == 0);
    WAIT_UNTIL(post(s, "/tasks", "{'task': 'echo'}")->status == 201);
    cr_assert_eq(terminate(s), 0);
}

static bool all_are_reaped(struct server *s)
{
    char *pids = read_whole(file_in(s, "pids"));
    for (char *pid = strtok(pids, "\n"); pid; pid = strtok(NULL, "\n"))
        if (exists(format("/proc/%s", pid)))
            return false;
    return true;
}

/* They stayed as zombies for as long as the server lived. */
Test(life, what_commands_leave_to_it_is_reaped_and_what_bodies_wait_for_is_not)
{
    enum { COMMANDS = 16 };
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct server *s =
        prepare("tasks:\n"
                "  forks: {kind: native, module: $NATIVE}\n"
                "  leave: {kind: command, run: [sh, -c, 'setsid sleep 0.3 >/dev/null 2>&1 & echo $! "
                ">>pids']}\n");
    s->variables = (const char *[]){format("LD_PRELOAD=%s", native("subreaper")), NULL};
    start(s);
    char *waits = submit(s, "{'task': 'forks', 'args': '%s'}", file_in(s, "go"));
    char *ids[COMMANDS];
    for (int i = 0; i < COMMANDS; i++)
        ids[i] = submit(s, "{'task': 'leave'}");
    for (int i = 0; i < COMMANDS; i++)
        EXPECT_TEXT(final(s, ids[i]), "status", "succeeded");
    WAIT_UNTIL(all_are_reaped(s));
    touch(file_in(s, "go"));
    EXPECT_NUMBER(EXPECT_TEXT(final(s, waits), "status", "succeeded"), "result", 7);
}
