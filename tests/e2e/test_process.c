/* Pools of long-lived children: children/child.py is one, written from PROTOCOL.md
 * alone; what its bodies do is what their arguments say. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SUITE(process);

/* One pool, `p`, with further keys; and what follows the tasks. */
static char *config(const char *keys)
{
    char *child = realpath("tests/e2e/children/child.py", NULL);
    REQUIRE(child);
    return format("tasks:\n"
                  "  p: {kind: process, run: [python3, %s]%s%s}\n"
                  "  echo: {kind: native, module: $NATIVE}\n"
                  "  hold: {kind: native, module: $NATIVE}\n",
                  child, *keys ? ", " : "", keys);
}

static struct server *pool(const char *keys)
{
    return serve(config(keys));
}

static char *body(struct server *s, const char *args)
{
    return submit(s, "%s", quoted(format("{'task': 'p', 'args': %s}", args)));
}

static struct reply *outcome(struct server *s, const char *args)
{
    return final(s, body(s, args));
}

static char *log_of(struct server *s, const char *id)
{
    return EXPECT(get(s, "/invocations/%s/log", id), 200)->body;
}

/* --- how a body ends ---------------------------------------------------------------- */

Test(process, a_body_succeeds_or_fails_as_it_says)
{
    static const struct {
        const char *args, *status, *path, *text;
    } rows[] = {
        {"{'do': 'echo', 'value': 'v'}", "succeeded", "result", "v"},
        {"{'do': 'echo', 'value': {'deep': [1, 'x']}}", "succeeded", "result.deep.1", "x"},
        {"{'do': 'fail', 'text': 'boo'}", "failed", "error.type", "ValueError"},
        {"{'do': 'fail', 'text': 'boo'}", "failed", "error.message", "boo"},
        {"{'do': 'fail', 'text': 'boo'}", "failed", "error.traceback", "Traceback: here"},
        {"{'do': 'fail', 'text': 'boo'}", "failed", "error.types.1", "Exception"},
        {"{'do': 'who'}", "succeeded", "result.worker", "p-1"},
        {"{'do': 'message'}", "succeeded", "result.task", "p"},
        {"{'do': 'message'}", "succeeded", "worker", "p-1"},
    };
    struct server *s = pool("");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = outcome(s, rows[i].args);
        EXPECT_TEXT(EXPECT_TEXT(r, "status", rows[i].status), rows[i].path, rows[i].text);
    }
    EXPECT_NULL(outcome(s, "{'do': 'echo', 'value': null}"), "result");
}

Test(process, a_failure_is_retried_for_its_class_or_a_base_of_it_or_as_it_says)
{
    static const struct {
        const char *retry_for, *args;
        int attempts;
    } rows[] = {
        {"[ValueError]", "{'do': 'fail', 'text': 'x'}", 3},
        {"[Exception]", "{'do': 'fail', 'text': 'x'}", 3},
        {"[KeyError]", "{'do': 'fail', 'text': 'x'}", 1},
        {"[KeyError]", "{'do': 'fail', 'text': 'x', 'retry': true}", 3},
        {"['*']", "{'do': 'fail', 'text': 'x', 'retry': false}", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *s =
            pool(format("max_retries: 2, backoff: {initial: 1ms}, retry_for: %s", rows[i].retry_for));
        EXPECT_NUMBER(outcome(s, rows[i].args), "attempt", rows[i].attempts);
        cr_expect_eq(terminate(s), 0);
    }
}

Test(process, a_result_that_is_too_large_fails_the_run_and_not_the_child)
{
    struct server *s = serve(format("limits: {result: 1KiB}\n%s", config("")));
    struct reply *first = outcome(s, "{'do': 'who'}");
    char *large = malloc(3000);
    memset(large, 'x', 2999);
    large[2999] = '\0';
    EXPECT_TEXT(outcome(s, format("{'do': 'echo', 'value': '%s'}", large)), "error.type", "bad_result");
    EXPECT_NUMBER(outcome(s, "{'do': 'who'}"), "result.pid", number_of(first, "result.pid"));
}

/* --- how many there are ---------------------------------------------------------------- */

Test(process, as_many_run_at_once_as_there_are_workers_and_no_more)
{
    struct server *s = serve_with(config("workers: 4"), (const char *const[]){"--slots", "1", NULL}, NULL);
    char *ids[5], *marks[5];
    for (int i = 0; i < 5; i++) {
        marks[i] = file_in(s, format("mark-%d", i));
        ids[i] = body(s, format("{'do': 'file', 'mark': '%s', 'path': '%s'}", marks[i], file_in(s, "go")));
    }
    for (int i = 0; i < 4; i++)
        WAIT_UNTIL(exists(marks[i]));
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s", ids[4]), 200), "status", "queued");
    cr_expect_not(exists(marks[4]));
    touch(file_in(s, "go"));
    double pids[4];
    for (int i = 0; i < 4; i++) {
        pids[i] = number_of(EXPECT_TEXT(final(s, ids[i]), "status", "succeeded"), "result");
        for (int k = 0; k < i; k++)
            cr_expect_neq(pids[i], pids[k], "each in a child of its own");
    }
    EXPECT_TEXT(final(s, ids[4]), "status", "succeeded");
}

Test(process, a_child_with_capacity_holds_several_at_once)
{
    struct server *s = pool("capacity: 8");
    char *ids[8];
    for (int i = 0; i < 8; i++) {
        char *mark = file_in(s, format("mark-%d", i));
        ids[i] = body(s, format("{'do': 'file', 'mark': '%s', 'path': '%s'}", mark, file_in(s, "go")));
    }
    for (int i = 0; i < 8; i++)
        WAIT_UNTIL(exists(file_in(s, format("mark-%d", i))));
    touch(file_in(s, "go"));
    double pid = number_of(final(s, ids[0]), "result");
    for (int i = 1; i < 8; i++)
        EXPECT_NUMBER(final(s, ids[i]), "result", pid);
}

static int started(const struct server *s)
{
    const char *text = read_whole(file_in(s, "started"));
    int lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

#define NOTED "env: {STARTED: $FOLDER/started}"

Test(process, a_lazy_pool_starts_a_child_for_work_and_an_eager_one_at_once)
{
    struct server *lazy = pool(NOTED ", workers: 3");
    cr_expect_eq(started(lazy), 0);
    EXPECT_TEXT(outcome(lazy, "{'do': 'who'}"), "status", "succeeded");
    cr_expect_eq(started(lazy), 1, "one is enough");
    cr_expect_eq(terminate(lazy), 0);
    struct server *eager = pool(NOTED ", workers: 3, start: eager");
    WAIT_UNTIL(started(eager) == 3);
}

Test(process, what_is_idle_ends_and_comes_again)
{
    struct server *s = pool(NOTED ", workers: {min: 0, max: 2, idle: 50ms}");
    pid_t first = (pid_t)number_of(outcome(s, "{'do': 'who'}"), "result.pid");
    WAIT_UNTIL(!is_alive(first));
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
    cr_expect_eq(started(s), 2);
}

Test(process, a_child_is_replaced_after_so_many_invocations_or_so_much_memory)
{
    struct server *s = pool("max_invocations: 2");
    double pids[4];
    for (int i = 0; i < 4; i++)
        pids[i] = number_of(outcome(s, "{'do': 'who'}"), "result.pid");
    cr_expect_eq(pids[0], pids[1]);
    cr_expect_neq(pids[1], pids[2]);
    cr_expect_eq(pids[2], pids[3]);
    cr_expect_eq(terminate(s), 0);

    s = pool("max_memory: 200MiB");
    double small = number_of(outcome(s, "{'do': 'who'}"), "result.pid");
    EXPECT_NUMBER(outcome(s, "{'do': 'memory', 'bytes': 300000000}"), "result", small);
    WAIT_UNTIL(!is_alive((pid_t)small));
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
}

/* --- children that die -------------------------------------------------------------------- */

Test(process, who_dies_alone_pays_and_says_how)
{
    static const struct {
        const char *args, *path;
        double wanted;
    } rows[] = {
        {"{'do': 'die', 'code': 7}", "error.exit_code", 7},
        {"{'do': 'die', 'signal': true}", "error.signal", SIGKILL},
    };
    struct server *s = pool("max_recoveries: 1");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = outcome(s, rows[i].args);
        EXPECT_TEXT(EXPECT_TEXT(r, "status", "failed"), "error.type", "worker_crashed");
        EXPECT_NUMBER(EXPECT_NUMBER(r, "attempt", 2), rows[i].path, rows[i].wanted);
    }
    struct reply *again = EXPECT_TEXT(outcome(s, "{'do': 'die_once'}"), "status", "succeeded");
    EXPECT_NUMBER(again, "result", 2);
}

/* Nobody pays, and each runs next alone in a child: then it is known who it was. */
Test(process, of_several_in_a_child_that_dies_only_the_one_that_does_it_pays)
{
    struct server *s = pool("capacity: 4, max_recoveries: 0");
    char *ids[3], *go = file_in(s, "go"), *die = file_in(s, "die");
    for (int i = 0; i < 3; i++) {
        char *mark = file_in(s, format("mark-%d", i));
        ids[i] = body(s, format("{'do': 'file', 'mark': '%s', 'path': '%s'}", mark, go));
    }
    for (int i = 0; i < 3; i++)
        WAIT_UNTIL(exists(file_in(s, format("mark-%d", i))));
    char *killer = body(s, format("{'do': 'die', 'path': '%s'}", die));
    AWAIT_STATUS(s, killer, "running");
    touch(die);
    touch(go);
    EXPECT_TEXT(EXPECT_TEXT(final(s, killer), "status", "failed"), "error.type", "worker_crashed");
    for (int i = 0; i < 3; i++)
        EXPECT_TEXT(final(s, ids[i]), "status", "succeeded");
}

Test(process, who_waits_in_place_is_no_suspect_when_the_child_dies)
{
    struct server *s = pool("max_recoveries: 0, workers: 1");
    char *parent = body(s, format("{'do': 'child', 'submissions': "
                                  "[{'task': 'hold', 'args': '%s', 'step': 'one'}]}",
                                  file_in(s, "go")));
    AWAIT_STATUS(s, parent, "waiting");
    EXPECT_TEXT(outcome(s, "{'do': 'die'}"), "error.type", "worker_crashed"); /* in the same child */
    touch(file_in(s, "go"));
    struct reply *r = EXPECT_TEXT(final(s, parent), "status", "succeeded");
    EXPECT_TEXT(EXPECT_NUMBER(r, "attempt", 2), "result.results.0.0", "succeeded");
}

Test(process, a_child_that_lies_is_killed_and_its_run_is_recovered)
{
    static const struct {
        const char *bytes, *said;
    } rows[] = {
        {"no json\\n", "not valid JSON"},
        {"[1]\\n", "no object with a `type`"},
        {"{\\\"type\\\":\\\"nonsense\\\"}\\n", "no message of the type"},
        {"{\\\"type\\\":\\\"done\\\",\\\"run\\\":999}\\n", "run 999, which it does not hold"},
        {"{\\\"type\\\":\\\"done\\\"}\\n", "/run is missing"},
        {"{\\\"type\\\":\\\"ready\\\",\\\"protocol\\\":1}\\n", "`ready` twice"},
        {"{\\\"type\\\":\\\"failed\\\",\\\"run\\\":RUN,\\\"error\\\":7}\\n", "/error must be an object"},
        {"{\\\"type\\\":\\\"steps\\\",\\\"run\\\":RUN,\\\"seq\\\":0}\\n", "/seq must be a whole number"},
        {"{\\\"type\\\":\\\"done\\\",\\\"type\\\":\\\"done\\\"}\\n", "not valid JSON"},
    };
    struct server *s = pool("max_recoveries: 0");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = outcome(s, format("{'do': 'raw', 'bytes': '%s'}", rows[i].bytes));
        EXPECT_TEXT(EXPECT_TEXT(r, "status", "failed"), "error.type", "worker_crashed");
        REQUIRE(strstr(text_of(r, "error.message"), rows[i].said), "%s: %s", rows[i].said, r->body);
    }
    struct reply *r = EXPECT_TEXT(outcome(s, "{'do': 'long'}"), "error.type", "worker_crashed");
    REQUIRE(strstr(text_of(r, "error.message"), "more than 16777216 bytes"), "%s", r->body);
    EXPECT_TEXT(outcome(s, "{'do': 'hang_up'}"), "error.type", "worker_crashed");
    char *large = malloc(1000000);
    memset(large, 'x', 999999);
    large[999999] = '\0';
    char *id = submit(s, "{'task': 'echo', 'args': '%s'}", large);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    r = EXPECT_TEXT(outcome(s, format("{'do': 'unread', 'id': '%s'}", id)), "error.type", "worker_crashed");
    REQUIRE(strstr(text_of(r, "error.message"), "does not read"), "%s", r->body);
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
}

Test(process, one_that_asks_for_too_much_before_it_has_answers_is_killed)
{
    struct server *s = prepare(config("max_recoveries: 0"));
    prepare_to_hold_commits(s);
    start(s);
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
    char *id = body(s, format("{'do': 'many', 'path': '%s'}", file_in(s, "go")));
    AWAIT_STATUS(s, id, "running");
    hold_commits(s);
    touch(file_in(s, "go"));
    WAIT_UNTIL(strstr(server_log(s), "asked for too much"));
    release_commits(s);
    EXPECT_TEXT(EXPECT_TEXT(final(s, id), "status", "failed"), "error.type", "worker_crashed");
}

/* Else it would kill one child after the other for ever, and nobody would pay. */
Test(process, one_that_kills_its_child_while_it_waits_runs_alone_and_pays_then)
{
    struct server *s = pool("max_recoveries: 0");
    char *path = file_in(s, "go-");
    char *id = body(s, format("{'do': 'die_waiting', 'path': '%s'}", path));
    for (int attempt = 1; attempt <= 2; attempt++) {
        WAIT_UNTIL(number_of(get(s, "/invocations/%s", id), "attempt") == attempt);
        AWAIT_STATUS(s, id, "waiting");
        touch(format("%s%d", path, attempt));
    }
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "error.type", "worker_crashed"), "attempt", 2);
}

Test(process, one_that_runs_alone_makes_room_while_it_waits)
{
    struct server *s = pool("workers: 1, capacity: 2, max_recoveries: 0");
    char *go = file_in(s, "go");
    char *ids[2];
    for (int i = 0; i < 2; i++) {
        char *mark = file_in(s, format("mark-%d", i));
        ids[i] = body(s, format("{'do': 'file_then_child', 'mark': '%s', 'path': '%s', 'submissions': "
                                "[{'task': 'p', 'args': {'do': 'echo', 'value': 7}, 'step': 'one'}]}",
                                mark, go));
        WAIT_UNTIL(exists(mark));
    }
    pid_t pid = (pid_t)number_of(get(s, "/workers"), "items.1.pid");
    kill(pid, SIGKILL);
    touch(go);
    for (int i = 0; i < 2; i++)
        EXPECT_NUMBER(EXPECT_TEXT(final(s, ids[i]), "status", "succeeded"), "result.results.0.1", 7);
}

Test(process, a_child_that_floods_holds_up_no_other)
{
    struct server *s = serve(format("limits: {log: 64KiB}\n%s", config("workers: 2")));
    char *flood = body(s, "{'do': 'flood', 'lines': 30000}");
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
    EXPECT_TEXT(final(s, flood), "result", "flooded");
    cr_expect_lt(strlen(log_of(s, flood)), 70000);
}

/* A pool's newcomers: nothing said why nothing ran. */
Test(process, a_pool_whose_script_fails_says_why)
{
    static const struct {
        const char *script, *how, *said;
    } rows[] = {
        {"import nothing_there", "exited with code 1", "ModuleNotFoundError: No module named 'nothing_there'"},
        {"def f(:", "exited with code 1", "SyntaxError"},
        {"pass", "nothing in it had served", ""},
        {"print('no end of line', end='')", "nothing in it had served", "no end of line"},
        {"print('x' * 9000 + '\\nlast')", "nothing in it had served", "last"},
        {"import sys; sys.stderr.buffer.write(bytes([255, 65])); sys.exit(3)", "exited with code 3", "A"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *s = prepare("tasks: {p: {kind: process, run: [python3, p.py]}}");
        write_whole(file_in(s, "p.py"), rows[i].script);
        start(s);
        submit(s, "{'task': 'p'}");
        WAIT_UNTIL(strstr(get(s, "/workers")->body, "\"failing\""));
        struct reply *workers = get(s, "/workers");
        EXPECT_TEXT(workers, "items.1.state", "failing");
        REQUIRE(strstr(text_of(workers, "items.1.error"), rows[i].how), "%s", workers->body);
        REQUIRE(strstr(text_of(workers, "items.1.error"), rows[i].said), "%s", workers->body);
        REQUIRE(cJSON_IsNull(field(workers, "items.0.error")), "%s", workers->body);
        REQUIRE(strstr(server_log(s), rows[i].how));
    }
}

Test(process, a_pool_whose_children_do_not_start_says_so_and_hangs_nobody)
{
    static const char *const variables[] = {"DIE_AT_START", "STALL_AT_START"};
    for (int i = 0; i < 2; i++) {
        struct server *s = pool(format("start_timeout: 200ms, env: {%s: 'yes'}", variables[i]));
        char *id = body(s, "{'do': 'who'}");
        WAIT_UNTIL(get(s, "/readyz?strict=1")->status == 503);
        EXPECT_HAS(EXPECT_PROBLEM(get(s, "/readyz?strict=1"), 503, "failing"), "\\\"p\\\"");
        EXPECT_TEXT(EXPECT(get(s, "/readyz"), 200), "failing.0", "p");
        EXPECT_TEXT(EXPECT(get(s, "/invocations/%s", id), 200), "status", "queued");
        EXPECT_HAS(EXPECT(get(s, "/workers"), 200), "\"failing\"");
        REQUIRE(strstr(server_log(s), "a pool's children end before they have done anything"));
        EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
        EXPECT_TEXT(final(s, id), "status", "cancelled");
        cr_expect_eq(terminate(s), 0);
    }
}

/* --- ended early ------------------------------------------------------------------------------ */

static char *begun(struct server *s, const char *args)
{
    char *mark = file_in(s, "mark");
    char *id = body(s, format("{%s, 'mark': '%s'}", args, mark));
    WAIT_UNTIL(exists(mark));
    remove(mark);
    return id;
}

Test(process, a_cancelled_run_hears_it_and_its_child_goes_on)
{
    struct server *s = pool("");
    double pid = number_of(outcome(s, "{'do': 'who'}"), "result.pid");
    char *id = begun(s, "'do': 'cancellable'");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
    id = begun(s, "'do': 'cancellable', 'succeed': true");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT_TEXT(final(s, id), "result", "all the same");
    EXPECT_NUMBER(outcome(s, "{'do': 'who'}"), "result.pid", pid);
}

Test(process, one_that_does_not_hear_is_ended_with_its_child)
{
    static const char *const deaf[] = {"'do': 'stall'", "'do': 'stall', 'deaf': true"};
    struct server *s = serve(format("kill_grace: 100ms\n%s", config("")));
    for (int i = 0; i < 2; i++) {
        char *id = begun(s, deaf[i]);
        EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
        EXPECT_TEXT(final(s, id), "status", "cancelled");
    }
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
}

Test(process, one_that_is_killed_for_its_own_sake_costs_its_neighbours_nothing)
{
    struct server *s = serve(format("kill_grace: 100ms\n%s", config("capacity: 2, max_recoveries: 0")));
    char *stalls = begun(s, "'do': 'stall'");
    char *holds = begun(s, format("'do': 'file', 'path': '%s'", file_in(s, "go")));
    EXPECT(post(s, format("/invocations/%s/cancel", stalls), NULL), 200);
    EXPECT_TEXT(final(s, stalls), "status", "cancelled");
    touch(file_in(s, "go"));
    EXPECT_NUMBER(EXPECT_TEXT(final(s, holds), "status", "succeeded"), "attempt", 2);
}

Test(process, a_timeout_ends_the_run_and_stands_still_while_it_waits)
{
    struct server *s = serve(format("kill_grace: 100ms\n%s", config("timeout: 500ms")));
    struct reply *r = outcome(s, format("{'do': 'stall', 'mark': '%s'}", file_in(s, "mark")));
    EXPECT_TEXT(EXPECT_TEXT(r, "status", "failed"), "error.type", "timeout");
    char *hold = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    r = outcome(s, format("{'do': 'ask', 'type': 'wait', 'members': {'ids': ['%s'], 'timeout_ms': 700}}", hold));
    EXPECT_TEXT(r, "status", "succeeded");
    REQUIRE(cJSON_IsTrue(field(r, "result.timed_out")), "%s", r->body);
    touch(file_in(s, "go"));
}

/* --- what a run asks ------------------------------------------------------------------------------ */

Test(process, a_step_is_recorded_once_and_found_again_after_a_crash)
{
    struct server *s = pool("");
    struct reply *r = EXPECT_TEXT(outcome(s, "{'do': 'step', 'value': {'n': 1}}"), "status", "succeeded");
    EXPECT_NUMBER(EXPECT_NUMBER(EXPECT_NUMBER(r, "result.0.n", 1), "result.2.n", 1), "result.4.once.n", 1);
    REQUIRE(cJSON_IsFalse(field(r, "result.1")) && cJSON_IsTrue(field(r, "result.3")), "%s", r->body);
    r = EXPECT_TEXT(outcome(s, "{'do': 'step_then_die'}"), "status", "succeeded");
    EXPECT_NUMBER(EXPECT_NUMBER(r, "attempt", 2), "result.once.a", 1);
}

Test(process, a_waiting_body_makes_room_for_its_own_child_in_one_worker)
{
    struct server *s = pool("workers: 1");
    struct reply *r = outcome(s, "{'do': 'child', 'submissions': ["
                                 "{'task': 'p', 'args': {'do': 'echo', 'value': 7}}, {'task': 'echo', 'args': 8}, "
                                 "{'task': 'p', 'args': {'do': 'child', 'submissions': "
                                 "[{'task': 'p', 'args': {'do': 'echo', 'value': 9}}]}}]}");
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_NUMBER(EXPECT_NUMBER(r, "result.results.0.1", 7), "result.results.1.1", 8);
    EXPECT_NUMBER(r, "result.results.2.1.results.0.1", 9);
}

Test(process, a_message_wakes_one_that_waits_for_its_inbox)
{
    struct server *s = pool("");
    char *id = body(s, "{'do': 'inbox'}");
    AWAIT_STATUS(s, id, "waiting");
    EXPECT(post(s, format("/invocations/%s/inbox", id), "{'hello': [1]}"), 201);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result.hello.0", 1);
    EXPECT_NULL(outcome(s, "{'do': 'inbox', 'ask': {'timeout_ms': 0}}"), "result");
    EXPECT_NULL(outcome(s, "{'do': 'inbox', 'ask': {'timeout_ms': 50}}"), "result");
}

Test(process, of_two_requests_that_wait_one_is_refused_and_neither_spins)
{
    struct server *s = pool("");
    EXPECT_TEXT(outcome(s, "{'do': 'echo', 'value': 1}"), "status", "succeeded");
    int64_t before = processor_ms(s);
    EXPECT_TEXT(outcome(s, "{'do': 'twice'}"), "result", "answered");
    cr_expect_lt(processor_ms(s) - before, 1000);
}

Test(process, what_a_child_asks_is_answered_when_it_is_on_disk)
{
    struct server *s = prepare(config(""));
    prepare_to_hold_commits(s);
    start(s);
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
    char *mark = file_in(s, "mark");
    char *id = body(s, format("{'do': 'step_then_mark', 'before': '%s', 'path': '%s', 'mark': '%s'}",
                              file_in(s, "before"), file_in(s, "go"), mark));
    WAIT_UNTIL(exists(file_in(s, "before")));
    AWAIT_STATUS(s, id, "running");
    hold_commits(s);
    touch(file_in(s, "go"));
    await_held_commit(s);
    cr_expect_not(exists(mark));
    release_commits(s);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    cr_expect(exists(mark));
}

Test(process, a_message_and_progress_are_on_disk)
{
    struct server *s = pool("");
    char *id = body(s, "{'do': 'send', 'value': {'x': 1}}");
    REQUIRE(cJSON_IsTrue(field(final(s, id), "result")));
    EXPECT_NUMBER(EXPECT(get(s, "/invocations/%s/messages", id), 200), "items.0.body.x", 1);
    id = body(s, format("{'do': 'progress', 'path': '%s'}", file_in(s, "go")));
    WAIT_UNTIL(number_of(get(s, "/invocations/%s", id), "progress.value") == 0.5);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "progress.note", "half");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

Test(process, a_suspended_run_goes_on_later_with_its_state)
{
    struct server *s = pool("");
    char *id = body(s, "{'do': 'suspend', 'on': {'inbox': true}}");
    AWAIT_STATUS(s, id, "waiting");
    WAIT_UNTIL(number_of(get(s, "/invocations/%s", id), "turns") == 1);
    EXPECT(post(s, format("/invocations/%s/inbox", id), "'word'"), 201);
    struct reply *r = EXPECT_TEXT(final(s, id), "status", "succeeded");
    EXPECT_TEXT(EXPECT_TEXT(EXPECT_TEXT(r, "result.0.was", "here"), "result.1", "inbox"), "result.2.0", "word");
    EXPECT_NUMBER(r, "attempt", 1);
}

Test(process, a_request_that_cannot_be_done_is_answered_with_the_reason)
{
    static const struct {
        const char *type, *members, *refused;
    } rows[] = {
        {"submit", "{'submission': {'task': 'nobody'}}", "refused:invalid"},
        {"submit", "{'submission': 7}", "refused:invalid"},
        {"submit", "{}", "refused:invalid"},
        {"wait", "{'ids': []}", "refused:invalid"},
        {"wait", "{'ids': ['nonsense']}", "refused:invalid"},
        {"wait", "{'ids': ['0000000000000']}", "refused:refused"},
        {"wait", "{'ids': ['0000000000000'], 'unknown': 1}", "refused:invalid"},
        {"look", "{'id': '0000000000000'}", "refused:refused"},
        {"step", "{'name': '', 'value': 1}", "refused:invalid"},
        {"step", "{'name': 'n'}", "refused:invalid"},
        {"message", "{}", "refused:invalid"},
        {"inbox", "{'timeout_ms': -1}", "refused:invalid"},
        {"suspend", "{}", "refused:invalid"},
        {"suspend", "{'on': {}}", "refused:invalid"},
        {"suspend", "{'on': {'ids': ['0000000000000']}}", "refused:refused"},
    };
    struct server *s = pool("");
    double pid = number_of(outcome(s, "{'do': 'who'}"), "result.pid");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r =
            outcome(s, format("{'do': 'ask', 'type': '%s', 'members': %s}", rows[i].type, rows[i].members));
        EXPECT_TEXT(r, "error.type", rows[i].refused);
        REQUIRE(*text_of(r, "error.message"), "%s", r->body);
    }
    EXPECT_NUMBER(outcome(s, "{'do': 'who'}"), "result.pid", pid);
}

Test(process, the_address_of_the_turn_is_good_over_http_too)
{
    struct server *s = pool("workers: 1");
    char *id =
        body(s, format("{'do': 'address', 'path': '%s', 'into': '%s'}", file_in(s, "go"), file_in(s, "url")));
    WAIT_UNTIL(*read_whole(file_in(s, "url")));
    char *path = strstr(read_whole(file_in(s, "url")), "/leases/");
    EXPECT(ask(s, "PUT", format("%s/steps/mine", path), "Content-Type: application/json\r\n", "{\"value\":5}"),
           201);
    EXPECT_PROBLEM(post(s, format("%s/complete", path), "{}"), 409, "conflict");
    char *hold = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "held"));
    struct client *waits = client_open(s);
    char *wait = quoted(format("{'on': {'ids': ['%s']}}", hold));
    client_ask(waits, "POST", format("%s/wait", path), "Content-Type: application/json\r\n", wait, strlen(wait));
    AWAIT_STATUS(s, id, "waiting");
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded"); /* there is room */
    touch(file_in(s, "held"));
    EXPECT_TEXT(EXPECT(client_receive(waits, false), 200), "results.0.status", "succeeded");
    touch(file_in(s, "go"));
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result.mine", 5);
}

/* --- logs ---------------------------------------------------------------------------------------------- */

Test(process, what_a_child_prints_is_the_log_of_the_one_that_it_holds)
{
    struct server *s = serve(format("log: {directory: $FOLDER/log}\n%s", config("")));
    char *one = body(s, "{'do': 'print', 'text': 'from one'}");
    EXPECT_TEXT(final(s, one), "status", "succeeded");
    char *two = body(s, "{'do': 'log', 'text': 'from two\\n'}");
    EXPECT_TEXT(final(s, two), "status", "succeeded");
    cr_expect_str_eq(log_of(s, one), "from one\nerr from one\n");
    cr_expect_str_eq(log_of(s, two), "from two\n");
    const char *worker = read_whole(file_in(s, "log/p-1.log"));
    cr_expect(strstr(worker, "a worker is there\n"), "%s", worker);
    cr_expect_not(strstr(worker, "from one"), "%s", worker);
}

Test(process, of_several_only_what_names_its_run_is_in_a_log)
{
    struct server *s = serve(format("log: {directory: $FOLDER/log}\n%s", config("capacity: 2")));
    char *holds = begun(s, format("'do': 'file', 'path': '%s'", file_in(s, "go")));
    EXPECT_TEXT(outcome(s, "{'do': 'print', 'text': 'whose'}"), "status", "succeeded");
    char *named = body(s, "{'do': 'log', 'text': 'mine'}");
    EXPECT_TEXT(final(s, named), "status", "succeeded");
    WAIT_UNTIL(strstr(read_whole(file_in(s, "log/p-1.log")), "whose\n"));
    cr_expect_str_eq(log_of(s, named), "mine");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, holds), "status", "succeeded");
    cr_expect_str_eq(log_of(s, holds), "");
}

/* --- closing, and the second day --------------------------------------------------------------------------- */

Test(process, a_close_message_ends_a_child_and_signals_one_that_ignores_it)
{
    struct server *s = pool("");
    pid_t pid = (pid_t)number_of(outcome(s, "{'do': 'who'}"), "result.pid");
    cr_expect_eq(terminate(s), 0);
    cr_expect_not(is_alive(pid));
    REQUIRE(strstr(server_log(s), "exited with code 0"));
    s = serve(format("kill_grace: 100ms\n%s", config("env: {IGNORE_CLOSE: 'yes'}")));
    pid = (pid_t)number_of(outcome(s, "{'do': 'who'}"), "result.pid");
    cr_expect_eq(terminate(s), 0);
    cr_expect_not(is_alive(pid));
    REQUIRE(strstr(server_log(s), "was ended by signal 9"));
}

Test(process, closing_lets_finish_or_stops_as_its_policy_says)
{
    static const struct {
        const char *policy, *after;
        bool finishes;
    } rows[] = {{"join", "succeeded", true}, {"cancel", "succeeded", true}, {"kill", "queued", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *s = serve(format("store: $FOLDER/errand.db\nkill_grace: 200ms\n%s", config("")));
        char *mark = file_in(s, "mark"), *go = file_in(s, "go");
        char *id = body(s, format("{'do': 'file', 'mark': '%s', 'path': '%s'}", mark, go));
        char *next = body(s, "{'do': 'who'}");
        WAIT_UNTIL(exists(mark));
        EXPECT(post(s, format("/shutdown?policy=%s", rows[i].policy), NULL), 202);
        if (rows[i].finishes)
            touch(go);
        cr_expect_eq(await_exit(s), 0);
        touch(go);
        start(s);
        EXPECT_TEXT(final(s, id), "status", "succeeded");
        EXPECT_NUMBER(get(s, "/invocations/%s", id), "attempt", rows[i].finishes ? 1 : 2);
        EXPECT_TEXT(final(s, next), "status", "succeeded");
        cr_expect_eq(terminate(s), 0);
    }
}

Test(process, a_killed_server_leaves_no_child_and_nobody_pays)
{
    struct server *s = serve(format("store: $FOLDER/errand.db\n%s", config("max_recoveries: 0")));
    pid_t pid = (pid_t)number_of(outcome(s, "{'do': 'who'}"), "result.pid");
    char *id = begun(s, format("'do': 'file', 'path': '%s'", file_in(s, "go")));
    restart(s);
    WAIT_UNTIL(!is_alive(pid));
    touch(file_in(s, "go"));
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "attempt", 2);
}

Test(process, a_reload_takes_new_children_and_lets_what_runs_finish)
{
    struct server *s = pool("");
    char *id = begun(s, format("'do': 'file', 'path': '%s'", file_in(s, "go")));
    configure(s, config("env: {NEW: 'yes'}"));
    send_signal(s, SIGHUP);
    WAIT_UNTIL(strstr(server_log(s), "reloaded"));
    double pid = number_of(outcome(s, "{'do': 'who'}"), "result.pid");
    touch(file_in(s, "go"));
    double old = number_of(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result");
    cr_expect_neq(old, pid);
    WAIT_UNTIL(!is_alive((pid_t)old));
    EXPECT_NUMBER(outcome(s, "{'do': 'who'}"), "result.pid", pid);
}

Test(process, what_is_queued_for_a_pool_is_not_held_up_by_a_pause_of_another)
{
    struct server *s = pool("");
    EXPECT(post(s, "/tasks/p/pause", NULL), 200);
    char *id = body(s, "{'do': 'who'}");
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s", id), 200), "status", "queued");
    EXPECT(post(s, "/tasks/p/resume", NULL), 200);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

Test(process, workers_are_shown_with_what_they_run)
{
    struct server *s = pool("capacity: 3");
    char *id = begun(s, format("'do': 'file', 'path': '%s'", file_in(s, "go")));
    struct reply *r = EXPECT(get(s, "/workers"), 200);
    EXPECT_TEXT(EXPECT_TEXT(r, "items.1.name", "p-1"), "items.1.kind", "process");
    EXPECT_TEXT(EXPECT_NUMBER(EXPECT_NUMBER(r, "items.1.capacity", 3), "items.1.busy", 1), "items.1.running.0",
                id);
    EXPECT_TEXT(r, "items.1.state", "active");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

/* --- errand run ------------------------------------------------------------------------------------------------ */

Test(process, errand_run_runs_one_in_a_child)
{
    static const struct {
        const char *args, *out;
        int status;
    } rows[] = {{"{'do':'echo','value':[1]}", "[1]\n", 0}, {"{'do':'fail','text':'x'}", "", 1}};
    struct server *s = prepare(config(""));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *out, *err;
        const char *argv[] = {errand_binary(),      "run", "--config", file_in(s, "errand.yaml"), "p",
                              quoted(rows[i].args), NULL};
        cr_expect_eq(run(s->folder, argv, NULL, &out, &err), rows[i].status, "%s", err);
        cr_expect_str_eq(out, rows[i].out);
    }
}
