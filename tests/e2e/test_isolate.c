/* `isolate` of native tasks: their bodies run in children of the server, which what they do
 * costs, and nobody else. (What a body can say there is in test_isolated.c.) */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

SUITE(isolate);

#define NATIVE(name, more) "  " name ": {kind: native, module: $NATIVE" more "}\n"
#define ISOLATED                                                                   \
    "tasks:\n" NATIVE("echo", ", isolate: true") NATIVE("hold", ", isolate: true") \
        NATIVE("segfault", ", isolate: true, max_recoveries: 0") NATIVE("deaf", ", isolate: {workers: 1}")

/* The child that runs it. */
static pid_t child_of(struct server *s, const char *worker)
{
    struct reply *r = get(s, "/workers");
    for (const cJSON *each = field(r, "items")->child; each; each = each->next)
        if (strcmp(cJSON_GetObjectItem(each, "name")->valuestring, worker) == 0)
            return (pid_t)cJSON_GetObjectItem(each, "pid")->valuedouble;
    REQUIRE(false, "no worker %s in %s", worker, r->body);
    return 0;
}

Test(isolate, a_body_runs_in_a_child_of_the_server)
{
    struct server *s = serve(ISOLATED);
    struct reply *r = EXPECT_TEXT(final(s, submit(s, "{'task': 'echo', 'args': [1, 'x']}")), "result.1", "x");
    EXPECT_TEXT(r, "worker", "echo-1");
    pid_t child = child_of(s, "echo-1");
    cr_assert_neq(child, s->pid);
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo', 'args': [1, 'x']}")), "worker", "echo-1");
    cr_assert_eq(child_of(s, "echo-1"), child, "it stays");
    cr_assert_eq(terminate(s), 0);
    cr_expect_not(is_alive(child));
}

Test(isolate, a_crash_costs_the_child_alone)
{
    struct server *s = serve(ISOLATED);
    pid_t server = s->pid;
    char *other = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, other, "running");
    struct reply *r = EXPECT_TEXT(final(s, submit(s, "{'task': 'segfault'}")), "error.type", "worker_crashed");
    EXPECT_NUMBER(r, "error.signal", SIGSEGV);
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, other), "status", "succeeded");
    cr_assert_eq(s->pid, server);
    cr_assert(is_alive(server));
}

/* A thread cannot be ended: its attempt lasted as long as the body liked. */
Test(isolate, a_body_that_never_returns_is_ended_by_its_timeout_and_by_a_cancellation)
{
    struct server *s = serve("kill_grace: 100ms\n" ISOLATED);
    char *slow = submit(s, "{'task': 'deaf', 'args': '%s', 'timeout': '200ms'}", file_in(s, "never"));
    EXPECT_TEXT(final(s, slow), "error.type", "timeout");
    char *stopped = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, "never"));
    AWAIT_STATUS(s, stopped, "running");
    EXPECT(post(s, format("/invocations/%s/cancel", stopped), NULL), 200);
    EXPECT_TEXT(final(s, stopped), "status", "cancelled");
}

Test(isolate, no_child_outlives_a_server_that_is_killed)
{
    struct server *s = serve(ISOLATED);
    char *id = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    pid_t child = child_of(s, "deaf-1");
    kill_hard(s);
    WAIT_UNTIL(!is_alive(child));
    touch(file_in(s, "go"));
    start(s);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

/* It said "reloaded", and ran the old code. */
Test(isolate, a_reload_runs_what_is_there_now)
{
    struct server *s = serve(ISOLATED);
    final(s, submit(s, "{'task': 'echo', 'args': 1}"));
    pid_t before = child_of(s, "echo-1");
    send_signal(s, SIGHUP);
    WAIT_UNTIL(strstr(server_log(s), "msg=reloaded"));
    WAIT_UNTIL(!is_alive(before));
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo', 'args': 1}")), "status", "succeeded");
    cr_assert_neq(child_of(s, "echo-1"), before);
}

Test(isolate, what_cannot_be_loaded_is_a_fault_before_anything_runs)
{
    static const struct {
        const char *task, *fault;
    } rows[] = {
        {"a: {kind: native, module: $NATIVE, isolate: true, function: nosuch}",
         "/tasks/a/module: cannot be used: "},
        {"a: {kind: native, module: errand.yaml, isolate: true}", "/tasks/a/module: cannot be used: "},
        {"a: {kind: native, module: $NATIVE, isolate: perhaps}", "/tasks/a/isolate: must be true or false"},
        {"a: {kind: native, module: $NATIVE, isolate: {wokers: 2}}", "did you mean `workers`"},
        {"a: {kind: native, module: $NATIVE, isolate: {workers: 0}}", "/tasks/a/isolate/workers"},
        {"a: {kind: native, isolate: true}", "`module` is missing"},
        {"a: {kind: command, run: ['true'], isolate: true}", "only tasks of kind native have it"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *s = prepare(format("tasks:\n  %s\n", rows[i].task));
        char *err;
        const char *const check[] = {errand_binary(), "check", "--config", "errand.yaml", NULL};
        cr_assert_eq(run(s->folder, check, NULL, NULL, &err), 1, "%s", rows[i].task);
        cr_expect(strstr(err, rows[i].fault), "%s in %s", rows[i].fault, err);
    }
}

Test(isolate, false_is_a_thread)
{
    struct server *s = serve("slots: 1\ntasks:\n" NATIVE("echo", ", isolate: false"));
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "worker", "slot-1");
}

Test(isolate, many_run_beside_each_other_and_none_is_lost)
{
    enum { COUNT = 300 };
    struct server *s =
        serve("tasks:\n" NATIVE("echo", ", isolate: {workers: 2, capacity: 4, max_invocations: 20}"));
    char *ids[COUNT];
    for (int i = 0; i < COUNT; i++)
        ids[i] = submit(s, "{'task': 'echo', 'args': %d}", i);
    for (int i = 0; i < COUNT; i++)
        EXPECT_NUMBER(EXPECT_NUMBER(final(s, ids[i]), "result", i), "attempt", 1);
}

/* --- bad guests ----------------------------------------------------------------------- */

static char *guest(const char *task)
{
    return format("  %s: {kind: native, module: %s, isolate: true, max_recoveries: 0}\n", task, native("guest"));
}

/* What a module printed stood for what is wrong with it; and one whose constructor leaves a
 * process behind was waited for as long as that had its stderr. */
Test(isolate, what_a_module_does_when_it_is_loaded_is_told_at_check)
{
    static const struct {
        const char *guest, *task, *fault;
    } rows[] = {
        {"crashes", "fine", "its child was ended by signal 11"},
        {"exits", "fine", "its child exited with code 0"},
        {"prints", "fine", NULL},
        {"prints", "nosuch", "nosuch is not in the module"},
        {"closes", "fine", NULL},
        {"leaves a child", "fine", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *s = prepare(format("tasks:\n%s", guest(rows[i].task)));
        const char *const check[] = {errand_binary(), "check", "--config", "errand.yaml", NULL};
        char *err;
        time_t before = time(NULL);
        setenv("GUEST", rows[i].guest, 1);
        int code = run(s->folder, check, NULL, NULL, &err);
        cr_expect_eq(code, rows[i].fault ? 1 : 0, "%s: %d %s", rows[i].guest, code, err);
        cr_expect(!rows[i].fault || strstr(err, rows[i].fault), "%s: %s", rows[i].guest, err);
        cr_expect_lt(time(NULL) - before, 8, "%s", rows[i].guest);
    }
}

Test(isolate, what_a_body_does_to_its_process_is_its_own_affair)
{
    static const struct {
        const char *task, *status;
    } rows[] = {
        {"closes_all", "failed"}, {"writes_on_the_socket", "failed"}, {"exits", "failed"},
        {"moves", "succeeded"},   {"signals_its_group", "failed"},
    };
    char *config = format("tasks:\n%s", guest("fine"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        config = format("%s%s", config, guest(rows[i].task));
    struct server *s = serve(config);
    pid_t server = s->pid;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r =
            EXPECT_TEXT(final(s, submit(s, "{'task': '%s'}", rows[i].task)), "status", rows[i].status);
        if (strcmp(rows[i].status, "failed") == 0)
            EXPECT_TEXT(r, "error.type", "worker_crashed");
        EXPECT_TEXT(final(s, submit(s, "{'task': 'fine'}")), "status", "succeeded");
    }
    cr_assert_eq(s->pid, server);
    cr_assert(is_alive(server));
    cr_assert_eq(terminate(s), 0);
}

/* It slept for ever, and with it a body that waited for it. */
Test(isolate, the_copy_of_a_body_that_forks_has_no_server_and_ends)
{
    struct server *s = serve(format("tasks:\n%s%s", guest("returns_twice"), guest("asks_twice")));
    EXPECT_NUMBER(final(s, submit(s, "{'task': 'returns_twice', 'timeout': '5s'}")), "result", 0);
    EXPECT_NUMBER(final(s, submit(s, "{'task': 'asks_twice', 'timeout': '5s'}")), "result", 7);
}
