/* The configuration: what is wrong with it, and what a reload does. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SUITE(config);

/* `errand check` in the server's folder; its output, both streams. */
static int check(struct server *s, char **text)
{
    char *out, *err;
    int status = run(s->folder, (const char *[]){errand_binary(), "check", "--config", "errand.yaml", NULL}, NULL,
                     &out, &err);
    *text = format("%s%s", out, err);
    return status;
}

Test(config, a_good_file_is_good)
{
    char *text;
    struct server *s = prepare(TASKS);
    REQUIRE(check(s, &text) == 0, "%s", text);
}

Test(config, every_mistake_is_named_at_once_with_its_line)
{
    struct server *s = prepare("listen: nowhere\n"          /* 1 */
                               "slots: many\n"              /* 2 */
                               "colour: red\n"              /* 3 */
                               "limits: {body: 5 apples}\n" /* 4 */
                               "defaults:\n"
                               "  timeout: 10\n" /* 6 */
                               "tasks:\n"
                               "  a: {kind: nosuch}\n"  /* 8 */
                               "  b: {kind: command}\n" /* 9 */
                               "  c:\n"
                               "    kind: command\n"
                               "    run: [echo, \"{y}\"]\n" /* 12 */
                               "    params: {x: integer}\n"
                               "    max_retires: 3\n"                       /* 14 */
                               "  d: {kind: native, module: nosuch.so}\n"); /* 15 */
    char *text;
    REQUIRE(check(s, &text) == 1, "%s", text);
    static const int lines[] = {1, 2, 3, 4, 6, 8, 9, 12, 14, 15};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        REQUIRE(strstr(text, format(":%d:", lines[i])) || strstr(text, format("line %d", lines[i])),
                "line %d is not named:\n%s", lines[i], text);
    REQUIRE(strstr(text, "max_retries"), "the nearest key is not named:\n%s", text);
    /* and the server does not start with it */
    REQUIRE(!try_start(s));
    REQUIRE(await_exit(s) != 0);
    REQUIRE(strstr(server_log(s), "max_retires"), "%s", server_log(s));
}

Test(config, a_file_that_is_no_yaml_is_told_where)
{
    char *text;
    struct server *s = prepare("");
    write_whole(file_in(s, "errand.yaml"), "tasks:\n  a: {kind: native\n  b: [\n");
    REQUIRE(check(s, &text) == 1, "%s", text);
    REQUIRE(strstr(text, ":2") || strstr(text, ":3") || strstr(text, ":4") || strstr(text, "line"), "%s", text);
    write_whole(file_in(s, "errand.yaml"), "slots: 2\nslots: 3\n");
    REQUIRE(check(s, &text) == 1, "a key that is there twice: %s", text);
    char *err;
    REQUIRE(run(s->folder, (const char *[]){errand_binary(), "check", "--config", "nosuch.yaml", NULL}, NULL, NULL,
                &err) == 1,
            "%s", err);
    REQUIRE(strstr(err, "nosuch.yaml"), "%s", err);
}

Test(config, a_symbol_that_the_module_lacks_is_a_mistake)
{
    char *text;
    struct server *s = prepare("tasks:\n  a: {kind: native, module: $NATIVE, function: nosuch}\n");
    REQUIRE(check(s, &text) == 1, "%s", text);
    REQUIRE(strstr(text, "nosuch"), "%s", text);
}

Test(config, keys_are_texts_and_false_is_a_name)
{
    struct server *s = serve("tasks:\n  false: {kind: native, module: $NATIVE, function: echo}\n"
                             "  12: {kind: native, module: $NATIVE, function: echo}\n");
    final(s, submit(s, "{'task': 'false'}"));
    final(s, submit(s, "{'task': '12'}"));
}

Test(config, the_defaults_that_are_printed_are_a_valid_file)
{
    char *text, *defaults;
    struct server *s = prepare("");
    REQUIRE(run(s->folder, (const char *[]){errand_binary(), "check", "--defaults", NULL}, NULL, &defaults,
                NULL) == 0);
    REQUIRE(strstr(defaults, "shutdown_timeout: 30s") && strstr(defaults, "backoff"), "%s", defaults);
    write_whole(file_in(s, "errand.yaml"), defaults);
    REQUIRE(check(s, &text) == 0, "%s", text);
}

Test(config, flags_beat_variables_and_variables_beat_the_file)
{
    struct server *s = serve_with("slots: 1\nstore: from-file.db\n" TASKS, (const char *[]){"--slots", "3", NULL},
                                  (const char *[]){"ERRAND_SLOTS=2", "ERRAND_STORE=from-variable.db", NULL});
    char *ids[4];
    for (int i = 0; i < 4; i++)
        ids[i] = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, ids[2], "running");
    EXPECT_NUMBER(get(s, "/stats"), "invocations.running", 3);
    touch(file_in(s, "go"));
    REQUIRE(exists(file_in(s, "from-variable.db")) && !exists(file_in(s, "from-file.db")));
}

Test(config, a_reload_changes_tasks_tokens_and_limits_and_disturbs_nothing)
{
    struct server *s = serve(TASKS);
    char *running = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, running, "running");
    char *ran = submit(s, "{'task': 'echo'}");
    final(s, ran);
    configure(s, "limits: {body: 2KiB}\n"
                 "tokens: [{name: boss, sha256: a5e7c002443743c5836758c7d1cd8ddefd9fcf2061daa0efaac683fb99966057, "
                 "scopes: [admin]}]\n"
                 "tasks:\n"
                 "  hold: {kind: native, module: $NATIVE}\n"
                 "  added: {kind: native, module: $NATIVE, function: echo}\n");
    send_signal(s, SIGHUP);
    WAIT_UNTIL(get(s, "/tasks")->status == 401);
    s->token = "boss";
    EXPECT_TEXT(final(s, submit(s, "{'task': 'added', 'args': 'new'}")), "result", "new");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo'}"), 422, "invalid-request");
    REQUIRE(cJSON_IsTrue(field(EXPECT(get(s, "/tasks/echo"), 200), "gone")), "echo is not gone");
    char *large = calloc(1, 3001);
    memset(large, 'x', 3000);
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'added', 'args': '%s'}", large), 413, "payload-too-large");
    EXPECT_NUMBER(AWAIT_STATUS(s, running, "running"), "attempt", 1);
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, running), "status", "succeeded");
}

Test(config, a_reload_names_what_waits_for_a_restart)
{
    struct server *s = serve("slots: 1\n" TASKS);
    configure(s, "slots: 2\nstore: other.db\n" TASKS);
    send_signal(s, SIGHUP);
    WAIT_UNTIL(strstr(server_log(s), "reloaded"));
    REQUIRE(strstr(server_log(s), "restart\" key=slots") && strstr(server_log(s), "restart\" key=store"), "%s",
            server_log(s));
    REQUIRE(!strstr(server_log(s), "key=listen") && !strstr(server_log(s), "key=tls"), "%s", server_log(s));
    EXPECT_NUMBER(get(s, "/stats"), "service.slots", 1);
}

Test(config, a_reload_of_a_faulty_file_changes_nothing_and_says_so)
{
    struct server *s = serve(TASKS);
    configure(s, "slots: 0\ntasks: {added: {kind: nosuch}}\n");
    send_signal(s, SIGHUP);
    WAIT_UNTIL(strstr(server_log(s), "nothing was changed"));
    REQUIRE(strstr(server_log(s), "nosuch") && strstr(server_log(s), "slots"), "%s", server_log(s));
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    EXPECT(get(s, "/tasks/added"), 404);
    /* and a task that comes back runs what was left of it */
    configure(s, "tasks:\n  fail: {kind: native, module: $NATIVE}\n");
    EXPECT(post(s, "/tasks/echo/pause", NULL), 200);
    char *id = submit(s, "{'task': 'echo'}");
    send_signal(s, SIGHUP);
    WAIT_UNTIL(cJSON_IsTrue(field(get(s, "/tasks/echo"), "gone")));
    configure(s, TASKS);
    send_signal(s, SIGHUP);
    WAIT_UNTIL(cJSON_IsFalse(field(get(s, "/tasks/echo"), "gone")));
    EXPECT(post(s, "/tasks/echo/resume", NULL), 200);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

Test(config, log_lines_are_key_value_or_json)
{
    struct server *s = serve("log: {format: json}\n" TASKS);
    final(s, submit(s, "{'task': 'echo'}"));
    cr_assert_eq(terminate(s), 0);
    char *rest = server_log(s);
    int lines = 0;
    for (char *line; (line = strsep(&rest, "\n"));)
        if (*line) {
            REQUIRE(cJSON_IsObject(cJSON_Parse(line)), "no JSON: %s", line);
            lines++;
        }
    REQUIRE(lines > 0, "nothing was logged");
}

static int count_in(const char *text, const char *part)
{
    int n = 0;
    for (; (text = strstr(text, part)); text++)
        n++;
    return n;
}

Test(config, a_failure_is_a_line_in_the_log)
{
    struct server *s = serve("log: {level: warn}\n" TASKS);
    char *id = submit(s, "{'task': 'fail'}");
    final(s, id);
    WAIT_UNTIL(strstr(server_log(s), id));
    char *log = server_log(s);
    REQUIRE(strstr(log, "level=warn msg=\"an attempt failed\" task=fail") && strstr(log, "error=mine") &&
                strstr(log, "message=\"it went wrong\"") && strstr(log, "then=failed"),
            "%s", log);
    char *late = submit(s, "{'task': 'echo', 'delay': '1h', 'expires_in': '1ms'}");
    WAIT_UNTIL(strstr(server_log(s), late));
    REQUIRE(strstr(server_log(s), "msg=\"an invocation expired\" task=echo"), "%s", server_log(s));
    /* one that fails all the time must not fill the disk */
    for (int i = 0; i < 40; i++)
        id = submit(s, "{'task': 'fail'}");
    final(s, id);
    WAIT_UNTIL(number_of(get(s, "/stats"), "tasks.fail.failed") == 41);
    int lines = count_in(server_log(s), "an attempt failed");
    REQUIRE(lines >= 10 && lines <= 20, "%d lines", lines);
    REQUIRE(!strstr(server_log(s), "msg=request"), "%s", server_log(s));
}

Test(config, requests_are_lines_at_debug)
{
    struct server *s = serve("log: {level: debug}\n" TASKS);
    EXPECT(get(s, "/tasks/nosuch?x=1"), 400);
    EXPECT(ask(s, "HEAD", "/healthz", NULL, NULL), 200);
    WAIT_UNTIL(strstr(server_log(s), "msg=request method=GET path=/tasks/nosuch status=400 us="));
    WAIT_UNTIL(strstr(server_log(s), "msg=request method=HEAD path=/healthz status=200 us="));
}

Test(config, a_folder_without_a_configuration_is_told)
{
    char *out, *err;
    struct server *s = prepare("");
    cr_assert_eq(unlink(file_in(s, "errand.yaml")), 0);
    const char *const check[] = {errand_binary(), "check", NULL}, *const task[] = {errand_binary(), "run", "greet",
                                                                                   NULL};
    cr_assert_eq(run(s->folder, check, NULL, &out, &err), 1);
    REQUIRE(strstr(err, "there is no errand.yaml") && !strstr(out, "good"), "%s%s", out, err);
    cr_assert_eq(run(s->folder, task, NULL, &out, &err), 2);
    REQUIRE(strstr(err, "there is no errand.yaml"), "%s", err);
    const char *const server[] = {
        "timeout",
        "-s",
        "INT",
        "20",
        "sh",
        "-c",
        "\"$0\" serve --listen 127.0.0.1:0 --store :memory: 2>log & while [ ! -s log ]; do sleep 0.02; "
        "done; kill $!; wait; cat log",
        errand_binary(),
        NULL};
    run(s->folder, server, NULL, &out, &err);
    REQUIRE(strstr(out, "level=warn msg=\"there is no errand.yaml here"), "%s%s", out, err);
    write_whole(file_in(s, "errand.yaml"), "tasks: {greet: {kind: command, run: [\"true\"]}}\n");
    const char *const near[] = {errand_binary(), "run", "gret", NULL};
    cr_assert_eq(run(s->folder, near, NULL, &out, &err), 2);
    REQUIRE(strstr(err, "there is no task `gret`") && strstr(err, "did you mean `greet`?"), "%s", err);
}

static void build_module(struct server *s, const char *answer)
{
    char *err;
    write_whole(file_in(s, "made.c"),
                format("#include \"errand_task.h\"\n#include <stdio.h>\n#include <unistd.h>\n"
                       "void told(struct errand_call *call) {\n"
                       "    char path[4096]; size_t n; const char *args = errand_args(call, &n);\n"
                       "    snprintf(path, sizeof path, \"%%.*s\", (int)n - 2, args + 1);\n"
                       "    while (access(path, F_OK) != 0) usleep(2000);\n"
                       "    errand_result(call, \"%s\", %zu);\n}\n",
                       answer, strlen(answer)));
    const char *const cc[] = {"cc", "-shared",  "-fPIC",  "-I", realpath("workers/sdk", NULL),
                              "-o", "made.new", "made.c", NULL};
    REQUIRE(run(s->folder, cc, NULL, NULL, &err) == 0, "%s", err);
    /* over the file that is mapped, as cp does it */
    const char *const cp[] = {"cp", "made.new", "made.so", NULL};
    REQUIRE(run(s->folder, cp, NULL, NULL, &err) == 0, "%s", err);
}

/* A reload said so, and went on with the old code. */
Test(config, sighup_loads_a_rebuilt_module)
{
    struct server *s = prepare("slots: 4\ntasks:\n  told: {kind: native, module: made.so}\n"
                               "  echo: {kind: native, module: $NATIVE}\n");
    build_module(s, "1");
    start(s);
    char *go = file_in(s, "go"), *there = file_in(s, "errand.yaml");
    EXPECT_NUMBER(final(s, submit(s, "{'task': 'told', 'args': '%s'}", there)), "result", 1);
    char *old = submit(s, "{'task': 'told', 'args': '%s'}", go);
    AWAIT_STATUS(s, old, "running");
    for (int version = 2; version < 5; version++) {
        build_module(s, format("%d", version));
        send_signal(s, SIGHUP);
        WAIT_UNTIL(count_in(server_log(s), "msg=reloaded") == version - 1);
        EXPECT_NUMBER(final(s, submit(s, "{'task': 'told', 'args': '%s'}", there)), "result", version);
    }
    int changed = count_in(server_log(s), "a module has changed");
    REQUIRE(changed == 3 && strstr(server_log(s), format("module=%s", file_in(s, "made.so"))), "%d: %s", changed,
            server_log(s));
    send_signal(s, SIGHUP);
    WAIT_UNTIL(count_in(server_log(s), "msg=reloaded") == 4);
    cr_assert_eq(count_in(server_log(s), "a module has changed"), 3, "nothing was rebuilt");
    EXPECT_TEXT(get(s, "/invocations/%s", old), "status", "running");
    touch(go);
    EXPECT_NUMBER(final(s, old), "result", 1); /* it ended on what it began with */
}

/* The example of errand_task.h did not compile. */
Test(config, the_headers_first_example_is_a_task)
{
    char *err;
    struct server *s =
        prepare("tasks:\n  add: {kind: native, module: example.so, params: {x: integer, y: integer}}\n");
    char *header = realpath("workers/sdk/errand_task.h", NULL), *include = realpath("workers/sdk", NULL);
    char *command =
        format("sed -n '/#include <errand_task.h>/,/^ \\*     }$/s/^ \\* \\{0,5\\}//p' %s > example.c && "
               "cc -Wall -Wextra -Werror -shared -fPIC -I%s -o example.so example.c",
               header, include);
    const char *const sh[] = {"sh", "-c", command, NULL};
    REQUIRE(run(s->folder, sh, NULL, NULL, &err) == 0, "%s", err);
    start(s);
    EXPECT_NUMBER(final(s, submit(s, "{'task': 'add', 'args': [9007199254740993, -40]}")), "result",
                  9007199254740953);
}

Test(config, a_native_body_reads_its_arguments_by_name)
{
    struct server *s = serve("tasks:\n  reads_args: {kind: native, module: $NATIVE}\n");
    char *id = submit(s, "{'task': 'reads_args', 'args': {'number': 9007199254740993, 'real': 2.5, 'truth': true, "
                         "'text': 'gr\\u00f6\\u0000\\n', 'json': [1, {'a': 1.10}]}}");
    final(s, id);
    cr_assert_str_eq(get(s, "/invocations/%s/log", id)->body,
                     "0 9007199254740993\n0 2.5\n0 1\n0 gr\xC3\xB6 6\n0 [1, {\"a\": 1.10}]\n-1 -1\n");
    id = submit(s, "{'task': 'reads_args', 'args': {'number': 1.5, 'real': 'x', 'truth': 1, 'text': 5}}");
    final(s, id);
    cr_assert_str_eq(get(s, "/invocations/%s/log", id)->body, "-1 -7\n-1 -7\n-1 -7\n-1 none 0\n-1 none\n0 -1\n");
    id = submit(s, "{'task': 'reads_args', 'args': [1]}");
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

/* A text such as --version was taken for an option without a word. */
Test(config, check_warns_of_an_argument_that_may_be_an_option)
{
    static const struct {
        const char *params, *run;
        bool warned;
    } rows[] = {
        {"{x: string}", "[cat, '{x}']", true},
        {"{x: any}", "[cat, '{x}']", true},
        {NULL, "[cat, '{x}']", true},
        {"{x: {type: string, max_length: 9}}", "[cat, '{x}.txt']", true},
        {"{x: {type: string, pattern: '^[a-z-]+$'}}", "[cat, '{x}']", true},
        {"{x: {enum: [a, -b]}}", "[cat, '{x}']", true},
        {"{x: {type: string, pattern: '^[a-z]+$'}}", "[cat, '{x}']", false},
        {"{x: {enum: [a, b]}}", "[cat, '{x}']", false},
        {"{x: integer}", "[cat, '{x}']", false},
        {"{x: string}", "[cat, --, '{x}']", false},
        {"{x: string}", "[cat, './{x}']", false},
    };
    struct server *s = prepare(TASKS);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *out, *err;
        const char *params = rows[i].params;
        configure(s, format("tasks:\n  t:\n    kind: command\n    run: %s\n%s%s\n", rows[i].run,
                            params ? "    params: " : "", params ? params : ""));
        int status = run(s->folder, (const char *[]){errand_binary(), "check", "--config", "errand.yaml", NULL},
                         NULL, &out, &err);
        REQUIRE(status == 0 && strstr(out, "good"), "%s: %s", params, err);
        REQUIRE((strstr(err, "warning: /tasks/t/run/1: {x}") != NULL) == rows[i].warned, "%s %s: '%s'", params,
                rows[i].run, err);
    }
}

Test(config, a_missing_function_and_a_tab_have_their_line)
{
    char *err;
    struct server *s = prepare("slots: 1\ntasks:\n  a: {kind: native, module: $NATIVE, function: nosuch}\n");
    const char *const check[] = {errand_binary(), "check", NULL};
    cr_assert_eq(run(s->folder, check, NULL, NULL, &err), 1);
    REQUIRE(strstr(err, "errand.yaml:3: /tasks/a/function: nosuch is not in the module"), "%s", err);
    configure(s, "tasks:\n\ta: {kind: command, run: [\"true\"]}\n");
    cr_assert_eq(run(s->folder, check, NULL, NULL, &err), 1);
    REQUIRE(strstr(err, "errand.yaml:2: the line begins with a tab"), "%s", err);
}
