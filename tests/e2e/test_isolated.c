/* `errand isolated`: native tasks in children of a pool. What a body says and hears is what it says
 * and hears in the server; what it breaks is its child. */
#include "tests/e2e/support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

SUITE(isolated);

/* --- both ways ------------------------------------------------------------------------ */

/* The path of tests/unit/tasks_for_tests.c as a module. */
static char *unit_module(void)
{
    char *path = realpath("build/tests/tasks_for_tests.so", NULL);
    REQUIRE(path, "`make programs` makes it");
    return path;
}

/* A task in a child. */
static char *child_task(const char *name, const char *module, const char *function, const char *keys)
{
    return format("  %s: {kind: process, run: [%s, isolated, %s, %s]%s%s}\n", name, errand_binary(), module,
                  function, *keys ? ", " : "", keys);
}

/* The function `f` of a module as the tasks `here_f`, in the server, and `child_f`. */
static char *both(const char *module, const char *names, const char *keys)
{
    char *config = "", *copy = strdup(names);
    for (char *name = strtok(copy, " "); name; name = strtok(NULL, " "))
        config = format("%s  here_%s: {kind: native, module: %s, function: %s%s%s}\n%s", config, name, module,
                        name, *keys ? ", " : "", keys, child_task(format("child_%s", name), module, name, keys));
    return config;
}

static char *print(const cJSON *json)
{
    return json ? cJSON_PrintUnformatted(json) : "absent";
}

static struct reply *outcome(struct server *s, const char *task, const char *args)
{
    return final(s, submit(s, "%s", quoted(format("{'task': '%s', 'args': %s}", task, args))));
}

static void expect_same(struct server *s, struct reply *here, struct reply *child, const char *what)
{
    static const char *const paths[] = {"status", "result", "error", "progress", "attempt"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char *a = print(field(here, paths[i])), *b = print(field(child, paths[i]));
        REQUIRE(strcmp(a, b) == 0, "%s: %s: %.300s in the server, %.300s in a child", what, paths[i], a, b);
    }
    char *a = EXPECT(get(s, "/invocations/%s/log", text_of(here, "id")), 200)->body;
    char *b = EXPECT(get(s, "/invocations/%s/log", text_of(child, "id")), 200)->body;
    REQUIRE(strcmp(a, b) == 0, "%s: the log: %.300s in the server, %.300s in a child", what, a, b);
}

static void compare(struct server *s, const char *function, const char *args)
{
    expect_same(s, outcome(s, format("here_%s", function), args), outcome(s, format("child_%s", function), args),
                format("%s %s", function, args));
}

#define RETRIED "max_retries: 2, backoff: {initial: 1ms}"

Test(isolated, a_body_that_asks_nothing_does_the_same_as_in_the_server)
{
    static const struct {
        const char *function, *args;
    } rows[] = {
        {"echo", "null"},
        {"echo", "{'a': [1.10, 9007199254740993, 'é\\u0000\\ud83d\\ude00'], 'b': {}}"},
        {"fail", "null"},
        {"fail_for_good", "null"},
        {"fail_later", "null"},
        {"fail_until", "3"},
        {"no_json", "null"},
        {"reads_args", "{'number': 7, 'real': 1.5, 'truth': true, 'text': 'a\\u0000b', 'json': [1, {}]}"},
        {"reads_args", "{'number': 'x', 'real': 'x', 'truth': 1, 'text': 5}"},
        {"reads_args", "[1]"},
        {"long_result", "8388608"},
        {"long_result", "8388609"},
        {"nothing", "null"},
        {"fail_plain", "null"},
        {"fail_odd", "null"},
        {"invalid", "null"},
        {"too_deep", "null"},
        {"last_counts", "null"},
        {"log_lines", "null"},
        {"log_long", "null"},
        {"report_progress", "null"},
        {"nested", "63"},
    };
    struct server *s = serve(
        format("tasks:\n%s%s%s",
               both(native("tasks"),
                    "echo fail fail_for_good fail_later fail_until no_json reads_args long_result", RETRIED),
               both(unit_module(),
                    "nothing fail_plain fail_odd invalid too_deep last_counts log_lines log_long report_progress",
                    RETRIED),
               both(native("isolated"), "nested", "")));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        compare(s, rows[i].function, rows[i].args);
}

/* Threads of a body may log, all at once; what they log is all the same. */
Test(isolated, threads_of_a_body_log_and_report)
{
    struct server *s = serve(format("tasks:\n%s", both(unit_module(), "log_threads", "")));
    struct reply *here = outcome(s, "here_log_threads", "null"), *child = outcome(s, "child_log_threads", "null");
    char *a = get(s, "/invocations/%s/log", text_of(here, "id"))->body;
    char *b = get(s, "/invocations/%s/log", text_of(child, "id"))->body;
    cr_expect_eq(strlen(a), 4 * 1000 * 16);
    cr_expect_str_eq(a, b);
    EXPECT_NUMBER(child, "progress.value", number_of(here, "progress.value"));
}

/* --- what is asked, both ways ------------------------------------------------------------ */

#define ASKING                                                          \
    "tasks:\n"                                                          \
    "  echo: {kind: native, module: $NATIVE}\n"                         \
    "  hold: {kind: native, module: $NATIVE}\n"                         \
    "  fails: {kind: native, module: $NATIVE, function: fail}\n"        \
    "  tight: {kind: native, module: $NATIVE, function: echo, params: " \
    "{x: integer}}\n"

/* `$FOLDER` in it is the server's. */
static void compare_result(struct server *s, const char *function, const char *args)
{
    args = replaced(args, "$FOLDER", s->folder);
    struct reply *here = outcome(s, format("here_%s", function), args);
    struct reply *child = outcome(s, format("child_%s", function), args);
    char *a = print(field(here, "result")), *b = print(field(child, "result"));
    char *c = print(field(here, "error")), *d = print(field(child, "error"));
    REQUIRE(strcmp(a, b) == 0 && strcmp(c, d) == 0, "%s %s: %s %s in the server, %s %s in a child", function, args,
            a, c, b, d);
}

Test(isolated, children_are_made_waited_for_and_looked_at)
{
    static const char *const rows[] = {
        "{'child': {'task': 'echo', 'args': {'n': 1.50}}}",
        "{'child': {'task': 'echo', 'args': null, 'step': 'child'}}",
        "{'child': {'task': 'fails'}}",
        "{'child': {'task': 'hold', 'args': '$FOLDER/never'}, 'for': 30}",
        "{'child': {'task': 'hold', 'args': '$FOLDER/never'}, 'for': 0}",
        "{'child': {'task': 'nosuch'}}",
        "{'child': {'task': 'tight', 'args': {'x': 'y'}}}",
        "{'child': {'task': 'echo', 'nosuch': 1}}",
        "{'child': [1]}",
        "{'on': '0000000000001'}",
        "{'on': 'no id'}",
    };
    struct server *s =
        serve(format("slots: 9\nkill_grace: 100ms\n" ASKING "%s", both(native("tasks"), "waits", "")));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        compare_result(s, "waits", rows[i]);
    struct reply *r = outcome(s, "child_waits", "{'child': {'task': 'echo', 'args': 5, 'step': 'child'}}");
    EXPECT_NUMBER(EXPECT_TEXT(r, "result.status", "succeeded"), "result.value", 5);
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s/children", text_of(r, "id")), 200), "items.0.step", "child");
}

Test(isolated, what_is_recorded_is_found_again_and_what_is_wrong_is_refused)
{
    static const char *const rows[] = {
        "{'what': 'step', 'name': 'a', 'json': '{\\\"n\\\": [1,\\n2]}'}",
        "{'what': 'step', 'name': '', 'json': '1'}",
        "{'what': 'step', 'name': 'n', 'times': 101, 'json': '1'}",
        "{'what': 'step', 'name': '\\\"é\\\"', 'json': '1'}",
        "{'what': 'step', 'name': 'a', 'json': 'no'}",
        "{'what': 'step', 'name': 'a', 'json': '11111111', 'json_times': 131072}",
        "{'what': 'step', 'name': 'a', 'json': '11111111', 'json_times': 131073}",
        "{'what': 'get', 'name': 'a'}",
        "{'what': 'message', 'json': '[1]'}",
        "{'what': 'message', 'json': '1 1'}",
        "{'what': 'message', 'json': '1', 'json_times': 65536}",
        "{'what': 'message', 'json': '1', 'json_times': 65537}",
    };
    struct server *s =
        serve(format("tasks:\n%s%s%s", both(native("steps"), "says fails_once sends", RETRIED),
                     both(native("isolated"), "keeps", RETRIED), both(unit_module(), "records", "")));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        compare_result(s, "says", rows[i]);
    static const char *const records[] = {
        "step_without_name", "step_with_long_name",  "step_with_bytes",  "step_without_value", "step_with_text",
        "get_without_name",  "message_without_body", "message_with_two", "message_too_large",  "good_step",
        "good_get",          "good_message",         "good_inbox",
    };
    for (size_t i = 0; i < sizeof records / sizeof *records; i++)
        compare(s, "records", format("'%s'", records[i]));
    compare(s, "fails_once", "null");
    compare(s, "keeps", "null");
    for (int i = 0; i < 2; i++) {
        struct reply *r = outcome(s, i ? "child_sends" : "here_sends", "{'count': 20}");
        r = EXPECT(get(s, "/invocations/%s/messages", text_of(r, "id")), 200);
        EXPECT_NUMBER(EXPECT_NUMBER(r, "items.0.body.n", 0), "items.19.body.n", 19);
    }
}

Test(isolated, messages_come_in_and_wake_who_waits)
{
    struct server *s = serve(format("tasks:\n%s", both(native("steps"), "reads", RETRIED)));
    compare(s, "reads", "{'for': 0}");
    compare(s, "reads", "{'for': 20, 'take': 2}");
    for (int i = 0; i < 2; i++) {
        char *id = submit(s, "{'task': '%s', 'args': {'take': 2, 'good': 2}}", i ? "child_reads" : "here_reads");
        AWAIT_STATUS(s, id, "waiting");
        EXPECT(post(s, format("/invocations/%s/inbox", id), "{'hello': [1]}"), 201);
        EXPECT(post(s, format("/invocations/%s/inbox", id), "'two'"), 201);
        struct reply *r = EXPECT_TEXT(final(s, id), "status", "succeeded");
        EXPECT_NUMBER(EXPECT_NUMBER(EXPECT_TEXT(r, "result.1", "two"), "result.0.hello.0", 1), "attempt", 2);
    }
}

Test(isolated, a_turn_suspends_and_goes_on_with_its_state)
{
    static const char *const rows[] = {
        "{'on': {'until': '1ms'}, 'state': {'n': [1.50, null]}}",
        "{'on': {'until': '1ms'}}",
        "{'on': {}}",
        "{'on': 5}",
        "{'on': {'until': 'soon'}}",
        "{'on': {'ids': ['0000000000001']}}",
        "{'on': {'until': '1ms'}, 'run': 1}",
        "{'state': 1}",
        "[1]",
        "5",
    };
    struct server *s = serve(format("tasks:\n%s", both(native("tasks"), "sleeper sleeps_and_holds", "")));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        compare(s, "sleeper", rows[i]);
    touch(file_in(s, "go"));
    compare(s, "sleeps_and_holds", format("'%s'", file_in(s, "go")));
    char *id = submit(s, "{'task': 'child_sleeper', 'args': {'on': {'inbox': true}, 'state': 7}}");
    WAIT_UNTIL(number_of(get(s, "/invocations/%s", id), "turns") == 1);
    EXPECT(post(s, format("/invocations/%s/inbox", id), "'hi'"), 201);
    struct reply *r = EXPECT_NUMBER(final(s, id), "result.state", 7);
    EXPECT_TEXT(EXPECT_TEXT(r, "result.woken.by", "inbox"), "result.woken.messages.0.body", "hi");
}

/* --- what a child alone is ---------------------------------------------------------------- */

static struct server *serve_children(const char *keys, const char *functions)
{
    char *config = "", *copy = strdup(functions);
    for (char *name = strtok(copy, " "); name; name = strtok(NULL, " "))
        config = format("%s%s", config, child_task(name, native("isolated"), name, keys));
    return serve(format("kill_grace: 100ms\n" ASKING "%s", config));
}

static char *log_of(struct server *s, struct reply *r)
{
    return EXPECT(get(s, "/invocations/%s/log", text_of(r, "id")), 200)->body;
}

Test(isolated, one_child_runs_one_after_the_other_on_one_thread)
{
    struct server *s = serve_children("", "who");
    double pid = number_of(outcome(s, "who", "null"), "result.pid");
    for (int i = 2; i <= 20; i++) {
        struct reply *r = outcome(s, "who", "null");
        EXPECT_NUMBER(EXPECT_NUMBER(r, "result.pid", pid), "result.runs", i);
        REQUIRE(cJSON_IsFalse(field(r, "result.fd")), "what it starts would get the socket: %s", r->body);
    }
}

Test(isolated, a_thousand_short_runs_pass)
{
    enum { RUNS = 1000 };
    struct server *s = serve_children("capacity: 4", "who");
    char *lines = calloc(RUNS, 32);
    for (int i = 0; i < RUNS; i++)
        strcat(lines, "{\"task\": \"who\"}\n");
    EXPECT(ask(s, "POST", "/invocations", "Content-Type: application/x-ndjson\r\n", lines), 200);
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.succeeded") == RUNS);
    struct reply *r = EXPECT(get(s, "/invocations?view=full&limit=1000"), 200);
    for (int i = 1; i < RUNS; i++)
        EXPECT_NUMBER(r, format("items.%d.result.pid", i), number_of(r, "items.0.result.pid"));
}

Test(isolated, what_is_printed_is_log_and_comes_before_the_end)
{
    struct server *s = serve_children("max_recoveries: 0", "prints prints_and_dies wordy");
    for (int i = 0; i < 20; i++) {
        char *log = log_of(s, outcome(s, "prints", format("%d", i)));
        REQUIRE(strstr(log, format("printed %d", i)) && strstr(log, "and told"), "%s", log);
    }
    cr_expect_str_eq(log_of(s, outcome(s, "prints_and_dies", "null")), "the last line\n");
    struct reply *r = EXPECT_TEXT(outcome(s, "wordy", "20000000"), "status", "succeeded");
    REQUIRE(strlen(log_of(s, r)) > 10 << 20, "up to the limit of a log");
}

Test(isolated, the_last_word_of_progress_is_seen_while_it_runs)
{
    struct server *s = serve_children("", "comma");
    char *id = submit(s, "{'task': 'comma', 'args': {'path': '%s'}}", file_in(s, "go"));
    WAIT_UNTIL(number_of(get(s, "/invocations/%s", id), "progress.value") == 2500);
    touch(file_in(s, "go"));
    struct reply *r = EXPECT_TEXT(final(s, id), "status", "succeeded");
    EXPECT_NUMBER(EXPECT_TEXT(r, "progress.note", "note 10000"), "progress.value", 2500);
    EXPECT_TEXT(outcome(s, "comma", "null"), "progress.note", "note 10000");
}

/* A line is nested once more than what stands in it, and the server kills who says too deep a one. */
Test(isolated, what_does_not_fit_a_line_is_refused_and_costs_nothing)
{
    struct server *s = serve_children("max_recoveries: 0", "nested deep_step wide");
    struct reply *r = EXPECT_TEXT(outcome(s, "nested", "64"), "error.type", "bad_result");
    REQUIRE(strstr(text_of(r, "error.message"), "the result is not valid JSON"), "%s", r->body);
    EXPECT_TEXT(outcome(s, "nested", "63"), "status", "succeeded");
    r = outcome(s, "deep_step", "64");
    for (int i = 0; i < 4; i++)
        EXPECT_NUMBER(r, format("result.%d", i), -1);
    r = outcome(s, "deep_step", "63");
    EXPECT_NUMBER(EXPECT_NUMBER(r, "result.0", 0), "result.1", 0);
    r = EXPECT_TEXT(outcome(s, "wide", "null"), "error.type", "refused");
    REQUIRE(strstr(text_of(r, "error.message"), "no line has room"), "%s", r->body);
}

Test(isolated, a_copy_of_the_process_says_nothing)
{
    struct server *s = serve_children("max_recoveries: 0", "copies");
    struct reply *r = EXPECT_TEXT(outcome(s, "copies", "null"), "status", "succeeded");
    cr_expect_str_eq(log_of(s, r), "one\n");
    EXPECT_NULL(r, "progress");
}

/* All streams are not flushed at the end: one may be another body's, that waits for it. */
Test(isolated, a_body_ends_while_another_waits_for_a_stream_of_its_own)
{
    struct server *s =
        serve(format("tasks:\n%s", child_task("holds_stream", native("isolated"), "holds_stream", "capacity: 2")));
    char *first = submit(s, "{'task': 'holds_stream', 'args': {'path': '%s', 'mark': '%s'}}", file_in(s, "first"),
                         file_in(s, "mark-1"));
    WAIT_UNTIL(exists(file_in(s, "mark-1")));
    touch(file_in(s, "second"));
    EXPECT_TEXT(outcome(s, "holds_stream",
                        format("{'path': '%s', 'mark': '%s'}", file_in(s, "second"), file_in(s, "mark-2"))),
                "result", "end");
    touch(file_in(s, "first"));
    EXPECT_TEXT(final(s, first), "result", "end");
}

/* Two bodies at once in a child with room for one, as who waits has none. */
Test(isolated, bodies_wait_for_their_own_kind_in_one_child)
{
    struct server *s =
        serve(format("tasks:\n%s", child_task("tree", native("tasks"), "tree", "workers: 1, capacity: 1")));
    struct reply *r = outcome(s, "tree", "{'depth': 5}");
    EXPECT_NUMBER(EXPECT_TEXT(r, "status", "succeeded"), "result", 63);
    EXPECT_TEXT(r, "worker", "tree-1");
    EXPECT_NUMBER(get(s, "/stats"), "invocations.succeeded", 63);
}

/* --- what it breaks ----------------------------------------------------------------------- */

Test(isolated, a_crash_costs_the_child_alone)
{
    static const struct {
        const char *function, *path;
        double wanted;
    } rows[] = {
        {"segfault", "error.signal", SIGSEGV},    {"overflow_stack", "error.signal", SIGSEGV},
        {"raise_abort", "error.signal", SIGABRT}, {"end_thread", "error.signal", SIGABRT},
        {"call_exit", "error.exit_code", 3},      {"leaves", "error.exit_code", 0},
        {"last_words", "error.signal", SIGSEGV},
    };
    char *config = format("tasks:\n%s", child_task("who", native("isolated"), "who", ""));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_unit = i >= 1 && i <= 4;
        config = format("%s%s", config,
                        child_task(rows[i].function, is_unit ? unit_module() : native("tasks"), rows[i].function,
                                   "max_recoveries: 1"));
    }
    struct server *s = serve(config);
    double pid = number_of(outcome(s, "who", "null"), "result.pid");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = EXPECT_TEXT(outcome(s, rows[i].function, "null"), "error.type", "worker_crashed");
        EXPECT_NUMBER(EXPECT_NUMBER(r, rows[i].path, rows[i].wanted), "attempt", 2);
        if (i == 6)
            REQUIRE(strstr(log_of(s, r), "I am at step 1\nand now at 2\n"), "%s", log_of(s, r));
    }
    EXPECT_NUMBER(outcome(s, "who", "null"), "result.pid", pid);
    cr_expect_eq(terminate(s), 0);
}

static char *spinning(struct server *s)
{
    char *mark = file_in(s, "mark");
    char *id = submit(s, "{'task': 'spin', 'args': {'mark': '%s'}}", mark);
    WAIT_UNTIL(exists(mark));
    return id;
}

Test(isolated, a_body_that_never_returns_ends_at_its_timeout_and_its_cancellation)
{
    struct server *s = serve_children("timeout: 200ms, max_recoveries: 0", "spin");
    EXPECT_TEXT(EXPECT_TEXT(outcome(s, "spin", "null"), "status", "failed"), "error.type", "timeout");
    cr_expect_eq(terminate(s), 0);
    s = serve_children("max_recoveries: 0, capacity: 2", "spin");
    char *id = spinning(s);
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
}

Test(isolated, one_that_is_told_to_end_hears_it_and_its_child_goes_on)
{
    struct server *s =
        serve(format("kill_grace: 10s\ntasks:\n%s%s%s%s", child_task("hold", native("tasks"), "hold", ""),
                     child_task("hurried", native("tasks"), "hold", "timeout: 100ms"),
                     child_task("slow_result", unit_module(), "slow_result", ""),
                     child_task("slow", unit_module(), "slow", "")));
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "never"));
    WAIT_UNTIL(strstr(get(s, "/invocations/%s/log", id)->body, "holding"));
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    struct reply *r = EXPECT_TEXT(final(s, id), "status", "cancelled");
    EXPECT_NULL(r, "error");
    touch(file_in(s, "go"));
    EXPECT_TEXT(outcome(s, "hold", format("'%s'", file_in(s, "go"))), "result", "let go");
    r = outcome(s, "hurried", format("'%s'", file_in(s, "never")));
    EXPECT_TEXT(EXPECT_TEXT(r, "status", "failed"), "error.type", "timeout");
    EXPECT_TEXT(outcome(s, "hurried", format("'%s'", file_in(s, "go"))), "result", "let go");
    static const char *const tasks[] = {"slow", "slow_result"}, *const ends[] = {"cancelled", "succeeded"};
    for (int i = 0; i < 2; i++) {
        id = submit(s, "{'task': '%s'}", tasks[i]);
        WAIT_UNTIL(strcmp(text_of(get(s, "/invocations/%s", id), "progress.note"), "begun") == 0);
        EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
        EXPECT_TEXT(final(s, id), "status", ends[i]);
    }
    REQUIRE(!strstr(server_log(s), "a worker has ended"), "its child goes on");
}

/* What it waits for is refused at once, and errand_cancelled() says why. */
Test(isolated, one_that_waits_is_told_to_end)
{
    struct server *s =
        serve(format("kill_grace: 10s\n" ASKING "%s%s", child_task("waits", native("tasks"), "waits", ""),
                     child_task("reads", native("steps"), "reads", "")));
    char *mark = file_in(s, "said");
    char *id = submit(s, "{'task': 'waits', 'args': {'child': {'task': 'hold', 'args': '%s'}, 'mark': '%s'}}",
                      file_in(s, "never"), mark);
    AWAIT_STATUS(s, id, "waiting");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
    cr_expect_str_eq(read_whole(mark), "-1 1");
    id = submit(s, "{'task': 'reads'}");
    AWAIT_STATUS(s, id, "waiting");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
}

Test(isolated, time_stands_still_while_a_body_waits)
{
    struct server *s = serve(format("kill_grace: 100ms\n" ASKING "%s",
                                    child_task("waits", native("tasks"), "waits", "timeout: 300ms")));
    struct reply *r =
        outcome(s, "waits", format("{'child': {'task': 'hold', 'args': '%s'}, 'for': 500}", file_in(s, "never")));
    EXPECT_TEXT(EXPECT_TEXT(r, "status", "succeeded"), "result", "timed out");
}

Test(isolated, a_killed_server_leaves_no_child_and_the_next_one_goes_on)
{
    struct server *s = serve_children("", "spin who keeps");
    pid_t pid = (pid_t)number_of(outcome(s, "who", "null"), "result.pid");
    spinning(s);
    kill_hard(s);
    WAIT_UNTIL(!is_alive(pid));
    start(s);
    EXPECT_TEXT(outcome(s, "who", "null"), "status", "succeeded");
}

/* --- with the test as its server ------------------------------------------------------------- */

struct child {
    pid_t pid;
    FILE *from;
    int to;
};

static struct child begin(const char *module, const char *function)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pair[1], 3);
        setenv("ERRAND_FD", "3", 1);
        execl(errand_binary(), "errand", "isolated", module, function, (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
    return (struct child){pid, fdopen(dup(pair[0]), "r"), pair[0]};
}

static void tell(struct child *child, const char *line)
{
    char *text = format("%s\n", quoted(line));
    size_t length = strlen(text);
    cr_assert_eq(send(child->to, text, length, MSG_NOSIGNAL), (ssize_t)length);
}

/* The next line has this in it. */
static void expect_line(struct child *child, const char *part)
{
    char *line = NULL;
    size_t size = 0;
    cr_assert_gt(getline(&line, &size, child->from), 0, "it says nothing more, where %s is expected", part);
    cr_assert(strstr(line, quoted(part)), "%s is not in %s", part, line);
}

static void greet(struct child *child)
{
    tell(child, "{'type':'hello','protocol':1,'worker':'w-1','capacity':2,'limits':{'line':16777216}}");
    expect_line(child, "{'type':'ready','protocol':1");
}

static int status_of(struct child *child)
{
    int status;
    cr_assert_eq(waitpid(child->pid, &status, 0), child->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define RUN "'task':'t','attempt':1,'id':'06HM2K8W9TQ3C','steps':{}"

Test(isolated, it_ends_in_order_when_it_is_told_and_ignores_what_it_does_not_know)
{
    struct child child = begin(native("tasks"), "echo");
    greet(&child);
    tell(&child, "{'type':'nosuch','run':1}");
    tell(&child, "");
    tell(&child, "{'type':'cancel','run':7,'reason':'cancelled'}");
    tell(&child, "{'type':'answer','run':7,'seq':7}");
    tell(&child, "{'type':'run','run':1," RUN ",'args':{'a':1},'nosuch':[{}]}");
    expect_line(&child, "{'type':'done','run':1,'result':{'a':1}}");
    tell(&child, "{'type':'run','run':2," RUN "}");
    expect_line(&child, "{'type':'done','run':2,'result':null}");
    tell(&child, "{'type':'close'}");
    cr_expect_eq(status_of(&child), 0);
}

Test(isolated, what_it_is_told_may_be_nested_more_deeply_than_what_a_client_says)
{
    struct child child = begin(native("steps"), "says");
    char deep[200] = "";
    for (int i = 0; i < 70; i++)
        strcat(deep, "[");
    for (int i = 0; i < 70; i++)
        strcat(deep, "]");
    greet(&child);
    tell(&child,
         format("{'type':'run','run':1,'task':'t','attempt':1,'id':'06HM2K8W9TQ3C','steps':{'a\\u0062':[1],"
                "'other':%s},'args':{'what':'get','name':'ab','deep':%s}}",
                deep, deep));
    expect_line(&child, "{'code':0,'kept':[1],'why':''}");
    tell(&child, "{'type':'close'}");
    cr_expect_eq(status_of(&child), 0);
}

Test(isolated, answers_come_in_any_order)
{
    struct child child = begin(native("steps"), "says");
    greet(&child);
    for (int i = 1; i <= 2; i++) {
        tell(&child,
             format("{'type':'run','run':%d," RUN ",'args':{'what':'step','name':'s','json':'%d'}}", i, i));
        expect_line(&child, format("{'type':'step','run':%d,'name':'s','value':%d,'seq':%d}", i, i, i));
    }
    tell(&child, "{'type':'answer','run':2,'seq':2,'error':{'type':'limit','message':'too many'}}");
    expect_line(&child, "{'type':'done','run':2,'result':{'code':-1,'kept':null,'why':'too many'}}");
    tell(&child, "{'type':'answer','run':1,'seq':1,'value':7,'found':true}");
    expect_line(&child, "{'type':'done','run':1,'result':{'code':1,'kept':7,'why':''}}");
    tell(&child, "{'type':'close'}");
    cr_expect_eq(status_of(&child), 0);
}

Test(isolated, a_body_hears_that_it_is_to_end_and_a_success_is_one_all_the_same)
{
    static const struct {
        const char *function, *reason, *end;
    } rows[] = {
        {"slow", "cancelled", "{'type':'failed','run':1,'error':{'type':'stopped'"},
        {"slow", "timeout", "{'type':'failed','run':1,'error':{'type':'stopped'"},
        {"slow", "closing", "{'type':'failed','run':1,'error':{'type':'stopped'"},
        {"slow_result", "closing", "{'type':'done','run':1,'result':'done'}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct child child = begin(unit_module(), rows[i].function);
        greet(&child);
        tell(&child, "{'type':'run','run':1," RUN "}");
        expect_line(&child, "{'type':'progress','run':1,'value':0,'note':'begun'}");
        tell(&child, format("{'type':'cancel','run':1,'reason':'%s'}", rows[i].reason));
        expect_line(&child, rows[i].end);
        tell(&child, "{'type':'close'}");
        cr_expect_eq(status_of(&child), 0);
    }
}

/* Nothing else would end it: its body asks nothing. */
Test(isolated, it_ends_when_the_server_is_gone_whatever_runs)
{
    char *mark = format("/tmp/errand-isolated-%d", (int)getpid());
    struct child child = begin(native("isolated"), "spin");
    greet(&child);
    tell(&child, format("{'type':'run','run':1," RUN ",'args':{'mark':'%s'}}", mark));
    WAIT_UNTIL(exists(mark));
    remove(mark);
    fclose(child.from);
    close(child.to);
    cr_expect_eq(status_of(&child), 0);
}

Test(isolated, what_cannot_be_served_is_said)
{
    char *err, *module = native("tasks");
#define CALL(...) run("/", (const char *[]){errand_binary(), "isolated", __VA_ARGS__, NULL}, NULL, NULL, &err)
    cr_expect_eq(CALL(module), 2);
    REQUIRE(strstr(err, "usage: errand isolated MODULE FUNCTION"), "%s", err);
    cr_expect_eq(CALL(module, "echo"), 2);
    REQUIRE(strstr(err, "a server starts this"), "%s", err);
    static const struct {
        const char *module, *function, *said;
    } rows[] = {
        {"nosuch.so", "echo", "errand isolated: module: there is no file"},
        {"errand.yaml", "echo", "errand.yaml: cannot be loaded:"},
        {NULL, "nosuch", "nosuch is not in the module"},
        {NULL, "no name", "errand isolated: function: `no name` is no name of a C function"},
    };
    struct server *s = prepare("tasks: {}\n");
    char *child = realpath(errand_binary(), NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *script = "import os, socket, subprocess, sys\n"
                             "mine, its = socket.socketpair()\n"
                             "os.environ['ERRAND_FD'] = str(its.fileno())\n"
                             "sys.exit(subprocess.call(sys.argv[1:], pass_fds=[its.fileno()]))";
        const char *argv[] = {
            "python3",        "-c", script, child, "isolated", rows[i].module ? rows[i].module : module,
            rows[i].function, NULL};
        cr_expect_eq(run(s->folder, argv, NULL, NULL, &err), 1);
        REQUIRE(strstr(err, rows[i].said), "%s", err);
    }
}
