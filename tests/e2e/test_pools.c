/* Pools that meet trouble: tasks that share one, reloads, and children that harm themselves, their
 * neighbours or the server. As test_process.c has them, bodies are those of children/child.py. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SUITE(pools);

static char *child_program(void)
{
    char *child = realpath("tests/e2e/children/child.py", NULL);
    REQUIRE(child);
    return child;
}

/* One pool, `p`, with further keys. */
static char *config(const char *keys)
{
    return format("tasks:\n"
                  "  p: {kind: process, run: [python3, %s]%s%s}\n"
                  "  echo: {kind: native, module: $NATIVE}\n"
                  "  hold: {kind: native, module: $NATIVE}\n",
                  child_program(), *keys ? ", " : "", keys);
}

static char *body_of(struct server *s, const char *task, const char *args)
{
    return submit(s, "%s", quoted(format("{'task': '%s', 'args': %s}", task, args)));
}

static char *body(struct server *s, const char *args)
{
    return body_of(s, "p", args);
}

static struct reply *outcome(struct server *s, const char *args)
{
    return final(s, body(s, args));
}

/* Holds its child until `path` is there. */
static char *holding(struct server *s, const char *task, const char *path)
{
    char *mark = file_in(s, "mark");
    char *id = body_of(s, task, format("{'do': 'file', 'mark': '%s', 'path': '%s'}", mark, path));
    WAIT_UNTIL(exists(mark));
    remove(mark);
    return id;
}

/* --- a pool that tasks share -------------------------------------------------------------------- */

/* Two tasks, `a` and `b`, of the pool `both`. */
static char *sharing(const char *keys)
{
    return format("pools:\n"
                  "  both: {run: [python3, %s]%s%s}\n"
                  "tasks:\n"
                  "  a: {kind: process, pool: both}\n"
                  "  b: {kind: process, pool: both, priority: 0}\n",
                  child_program(), *keys ? ", " : "", keys);
}

Test(pools, tasks_that_name_a_pool_share_its_children_and_their_room)
{
    struct server *s = serve(sharing("workers: 1"));
    char *mark = file_in(s, "mark");
    char *args = format("{'do': 'file', 'mark': '%s', 'path': '%s'}", mark, file_in(s, "go"));
    char *first = body_of(s, "a", args);
    WAIT_UNTIL(exists(mark));
    char *later = body_of(s, "a", "{'do': 'who'}"), *sooner = body_of(s, "b", "{'do': 'message'}");
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s", sooner), 200), "status", "queued");
    touch(file_in(s, "go"));
    double pid = number_of(final(s, first), "result");
    struct reply *b = EXPECT_TEXT(EXPECT_TEXT(final(s, sooner), "result.task", "b"), "worker", "both-1");
    struct reply *a = EXPECT_NUMBER(final(s, later), "result.pid", pid);
    cr_expect_lt(strcmp(text_of(b, "started_at"), text_of(a, "started_at")), 1, "the priority holds over both");
    EXPECT_TEXT(EXPECT(get(s, "/workers"), 200), "items.1.name", "both-1");
}

Test(pools, a_parent_in_a_shared_pool_makes_room_for_its_child_of_another_task)
{
    struct server *s = serve(sharing("workers: 1"));
    char *id =
        body_of(s, "a", "{'do': 'child', 'submissions': [{'task': 'b', 'args': {'do': 'echo', 'value': 7}}]}");
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result.results.0.1", 7);
}

Test(pools, a_reload_may_give_tasks_another_pool_while_they_run)
{
    struct server *s = serve(sharing("workers: 1"));
    char *mark = file_in(s, "mark"), *child = child_program();
    char *held = body_of(s, "a", format("{'do': 'file', 'mark': '%s', 'path': '%s'}", mark, file_in(s, "go")));
    WAIT_UNTIL(exists(mark));
    char *waits = body_of(s, "b", "{'do': 'who'}");
    configure(s, format("tasks:\n"
                        "  a: {kind: process, run: [python3, %s]}\n"
                        "  b: {kind: process, run: [python3, %s]}\n",
                        child, child));
    send_signal(s, SIGHUP);
    EXPECT_TEXT(final(s, waits), "result.worker", "b-1");
    EXPECT_TEXT(final(s, body_of(s, "a", "{'do': 'who'}")), "result.worker", "a-1");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, held), "worker", "both-1");
    configure(s, sharing("workers: 1"));
    send_signal(s, SIGHUP);
    WAIT_UNTIL(strncmp(text_of(final(s, body_of(s, "b", "{'do': 'who'}")), "result.worker"), "both-", 5) == 0);
}

/* --- on the way to a child ---------------------------------------------------------------------- */

static void exec(struct server *s, const char *sql)
{
    sqlite3 *handle;
    char *why = NULL;
    REQUIRE(sqlite3_open(file_in(s, "errand.db"), &handle) == SQLITE_OK);
    sqlite3_busy_timeout(handle, 10000);
    REQUIRE(sqlite3_exec(handle, sql, NULL, NULL, &why) == SQLITE_OK, "%s", why);
    sqlite3_close(handle);
}

/* What is waited for goes to the front of the queue, what is on its way to a child or to disk, too: it
 * was taken for withdrawn, and cancelled by nobody. */
Test(pools, what_begins_while_it_is_queued_may_be_waited_for)
{
    struct server *s = serve(format("store: $FOLDER/errand.db\nkill_grace: 100ms\n%s", config("workers: 2")));
    char *parent =
        body(s, format("{'do': 'address', 'path': '%s', 'into': '%s'}", file_in(s, "go"), file_in(s, "url")));
    WAIT_UNTIL(*read_whole(file_in(s, "url")));
    AWAIT_STATUS(s, parent, "running");
    exec(s, "CREATE TRIGGER refuse BEFORE UPDATE OF status ON invocations WHEN NEW.status = 3 "
            "BEGIN SELECT RAISE(FAIL, 'no'); END");
    char *awaited =
        body(s, format("{'do': 'file', 'mark': '%s', 'path': '%s'}", file_in(s, "mark"), file_in(s, "end")));
    WAIT_UNTIL(exists(file_in(s, "mark")));
    WAIT_UNTIL(strstr(server_log(s), "a report of a turn was not written"));
    struct client *waits = client_open(s);
    char *wait = quoted(format("{'on': {'ids': ['%s']}}", awaited));
    client_ask(waits, "POST", format("%s/wait", strstr(read_whole(file_in(s, "url")), "/leases/")),
               "Content-Type: application/json\r\n", wait, strlen(wait));
    AWAIT_STATUS(s, parent, "waiting");
    exec(s, "DROP TRIGGER refuse");
    AWAIT_STATUS(s, awaited, "running");
    touch(file_in(s, "end"));
    EXPECT_TEXT(EXPECT_NUMBER(final(s, awaited), "attempt", 1), "status", "succeeded");
    EXPECT_TEXT(EXPECT(client_receive(waits, false), 200), "results.0.status", "succeeded");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, parent), "status", "succeeded");
}

/* --- reloads -------------------------------------------------------------------------------- */

/* Else each reload would leave its children there for as long as one run of any task takes. */
Test(pools, a_reload_ends_children_that_hold_nothing_though_others_run_on)
{
    struct server *s = serve(config("workers: 2, start: eager"));
    char *held = holding(s, "p", file_in(s, "go"));
    for (int i = 0; i < 3; i++) {
        send_signal(s, SIGHUP);
        WAIT_UNTIL(strstr(get(s, "/workers")->body, "\"active\""));
        outcome(s, "{'do': 'who'}");
    }
    WAIT_UNTIL(cJSON_GetArraySize(field(get(s, "/workers"), "items")) == 1 + 1 + 2);
    struct reply *r = get(s, "/workers");
    for (int i = 1; i <= 3; i++)
        for (int k = 1; k < i; k++)
            cr_expect_str_neq(text_of(r, format("items.%d.name", i)), text_of(r, format("items.%d.name", k)));
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, held), "status", "succeeded");
    WAIT_UNTIL(cJSON_GetArraySize(field(get(s, "/workers"), "items")) == 1 + 2);
}

static pid_t pid_of(struct server *s, const char *worker)
{
    struct reply *r = get(s, "/workers");
    for (int i = 1; i < cJSON_GetArraySize(field(r, "items")); i++)
        if (strcmp(text_of(r, format("items.%d.name", i)), worker) == 0)
            return (pid_t)number_of(r, format("items.%d.pid", i));
    fail_at(__FILE__, __LINE__, "no worker %s: %s", worker, r->body);
}

/* Four bodies in two children of two places each: whom each is in, and the files that they wait for. */
struct four {
    char *ids[4], *files[4];
    int in[4];
};

static struct four begin_four(struct server *s)
{
    struct four four;
    for (int i = 0; i < 4; i++) {
        char *mark = file_in(s, format("mark-%d", i));
        four.files[i] = file_in(s, format("go-%d", i));
        four.ids[i] =
            body(s, format("{'do': 'memory', 'mark': '%s', 'path': '%s', 'then': '%s', 'bytes': %d}", mark,
                           four.files[i], file_in(s, format("then-%d", i)), i == 0 ? 300000000 : 1));
    }
    for (int i = 0; i < 4; i++) {
        WAIT_UNTIL(exists(file_in(s, format("mark-%d", i))));
        WAIT_UNTIL(*text_of(get(s, "/invocations/%s", four.ids[i]), "worker"));
        four.in[i] = atoi(text_of(get(s, "/invocations/%s", four.ids[i]), "worker") + 2);
    }
    return four;
}

static void let_end(struct server *s, const struct four *four, int i)
{
    touch(four->files[i]);
    touch(file_in(s, format("then-%d", i)));
}

/* Who is to run alone was promised to a child that ends before it is empty. */
Test(pools, who_runs_alone_is_given_to_no_child_that_is_to_end)
{
    struct server *s = serve(config("workers: 2, capacity: 2, max_memory: 200MiB, max_recoveries: 0"));
    struct four four = begin_four(s);
    int other = four.in[0] == 1 ? 2 : 1;
    for (int i = 1; i < 4; i++)
        if (four.in[i] == four.in[0]) {
            let_end(s, &four, i);
            EXPECT_TEXT(final(s, four.ids[i]), "status", "succeeded");
        }
    kill(pid_of(s, format("p-%d", other)), SIGKILL); /* of its two one is promised to the first one's child */
    WAIT_UNTIL(strstr(server_log(s), "signal 9"));
    touch(four.files[0]);
    WAIT_UNTIL(strstr(get(s, "/workers")->body, "\"quiet\""));
    for (int i = 0; i < 4; i++)
        let_end(s, &four, i);
    for (int i = 0; i < 4; i++)
        EXPECT_TEXT(final(s, four.ids[i]), "status", "succeeded");
}

/* They wait for a child of a pool that nobody mends any more. */
Test(pools, what_a_failing_pool_holds_goes_to_the_one_that_a_reload_makes)
{
    char *keys = "workers: 2, capacity: 2";
    struct server *s =
        prepare(format("tasks: {p: {kind: process, run: [python3, $FOLDER/child.py], %s}}\n", keys));
    write_whole(file_in(s, "child.py"), read_whole(child_program()));
    start(s);
    struct four four = begin_four(s);
    int other = four.in[0] == 1 ? 2 : 1;
    remove(file_in(s, "child.py"));
    kill(pid_of(s, format("p-%d", other)), SIGKILL);
    WAIT_UNTIL(strstr(server_log(s), "signal 9"));
    for (int i = 1; i < 4; i++)
        if (four.in[i] == four.in[0]) { /* makes room for one that is to be alone */
            let_end(s, &four, i);
            EXPECT_TEXT(final(s, four.ids[i]), "status", "succeeded");
        }
    kill(pid_of(s, format("p-%d", four.in[0])), SIGKILL);
    WAIT_UNTIL(get(s, "/readyz?strict=1")->status == 503);
    configure(s, config(keys));
    send_signal(s, SIGHUP);
    for (int i = 0; i < 4; i++)
        let_end(s, &four, i);
    for (int i = 0; i < 4; i++)
        EXPECT_TEXT(final(s, four.ids[i]), "status", "succeeded");
    WAIT_UNTIL(get(s, "/readyz?strict=1")->status == 200);
}

/* What an old child does says nothing of a program that does not start any more: each of its bodies'
 * ends would have had one more started at once. */
Test(pools, children_that_do_not_start_are_tried_seldom_though_an_old_one_works)
{
    struct server *s = prepare("tasks: {p: {kind: process, run: [sh, $FOLDER/start], workers: 2}}\n");
    write_whole(file_in(s, "start"), format("exec python3 %s\n", child_program()));
    start(s);
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
    write_whole(file_in(s, "start"), format("printf x >>%s; exit 1\n", file_in(s, "tries")));
    char *last = NULL;
    for (int i = 0; i < 60; i++)
        last = body(s, "{'do': 'nap', 'seconds': 0.05}");
    EXPECT_TEXT(final(s, last), "status", "succeeded");
    size_t tries = strlen(read_whole(file_in(s, "tries")));
    cr_expect(tries >= 3 && tries < 12, "%zu", tries);
}

/* --- children that harm ------------------------------------------------------------------------ */

Test(pools, what_is_no_text_or_too_deep_ends_the_child)
{
    static const struct {
        const char *args, *said;
    } rows[] = {
        {"{'do': 'bytes', 'hex': 'ff0a'}", "not valid JSON"},
        {"{'do': 'bytes', 'hex': '000a'}", "not valid JSON"},
        {"{'do': 'bytes', 'hex': '7b2274797065223a22ff227d0a'}", "not valid JSON"},
        {"{'do': 'bytes', 'hex': '7b7d0a'}", "no object with a `type`"},
        {"{'do': 'bytes', 'hex': '7b2274797065223a377d0a'}", "no message of the type"},
        {"{'do': 'deep', 'levels': 64}", "not valid JSON"},
    };
    struct server *s = serve(config("max_recoveries: 0"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = EXPECT_TEXT(outcome(s, rows[i].args), "error.type", "worker_crashed");
        REQUIRE(strstr(text_of(r, "error.message"), rows[i].said), "%s: %s", rows[i].args, r->body);
    }
    EXPECT_TEXT(outcome(s, "{'do': 'deep', 'levels': 63}"), "status", "succeeded");
}

Test(pools, a_child_in_another_process_group_is_ended_all_the_same)
{
    struct server *s = serve(format("kill_grace: 100ms\n%s", config("")));
    char *mark = file_in(s, "mark");
    char *id = body(s, format("{'do': 'change_group', 'mark': '%s'}", mark));
    WAIT_UNTIL(exists(mark));
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
}

Test(pools, a_grandchild_that_holds_the_socket_holds_up_nobody)
{
    struct server *s = serve(config("max_recoveries: 0"));
    char *mark = file_in(s, "mark");
    struct reply *r = outcome(s, format("{'do': 'leave_one_behind', 'mark': '%s'}", mark));
    EXPECT_NUMBER(EXPECT_TEXT(r, "error.type", "worker_crashed"), "error.exit_code", 8);
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
    cr_expect_eq(terminate(s), 0);
    kill(atoi(read_whole(mark)), SIGKILL);
}

static int64_t most_resident_kb(struct server *s)
{
    const char *line = strstr(read_whole(format("/proc/%d/status", (int)s->pid)), "VmHWM:");
    REQUIRE(line);
    return atoll(line + strlen("VmHWM:"));
}

Test(pools, a_child_that_always_leaves_something_unread_costs_no_more_memory)
{
    struct server *s = serve(config(""));
    char *large = malloc(1000000);
    memset(large, 'x', 999999);
    large[999999] = '\0';
    char *id = submit(s, "{\"task\": \"echo\", \"args\": \"%s\"}", large);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    EXPECT_TEXT(outcome(s, format("{'do': 'lag', 'id': '%s', 'times': %d}", id, is_plain() ? 20 : 4)), "result",
                "looked");
    if (is_plain())
        cr_expect_lt(most_resident_kb(s), 150 << 10, "%ld kB", (long)most_resident_kb(s));
}

Test(pools, a_child_that_asks_for_much_at_once_is_read_as_it_is_answered)
{
    struct server *s = prepare(config(""));
    prepare_to_hold_commits(s);
    start(s);
    EXPECT_TEXT(outcome(s, "{'do': 'who'}"), "status", "succeeded");
    char *mark = file_in(s, "mark");
    char *id = body(s, format("{'do': 'greedy', 'mark': '%s', 'times': 150, 'bytes': 2000000}", mark));
    AWAIT_STATUS(s, id, "running");
    hold_commits(s);
    WAIT_UNTIL(exists(mark));
    await_held_commit(s);
    for (int64_t before = -1, now = 0; before != now; now = resident_kb(s)) { /* until it is not read any more */
        before = now;
        for (int i = 0; i < 40; i++)
            breathe();
    }
    if (is_plain())
        cr_expect_lt(resident_kb(s), 200 << 10, "%ld kB", (long)resident_kb(s));
    release_commits(s);
    EXPECT_TEXT(final(s, id), "result", "answered");
}

Test(pools, children_of_whose_bodies_each_ends_it_do_not_fill_the_log)
{
    struct server *s = serve(config("workers: 4, max_recoveries: 2"));
    char *ids[6];
    for (int i = 0; i < 6; i++)
        ids[i] = body(s, "{'do': 'die'}");
    for (int i = 0; i < 6; i++)
        EXPECT_TEXT(final(s, ids[i]), "error.type", "worker_crashed");
    int lines = 0;
    for (const char *at = server_log(s); (at = strstr(at, "msg=\"a worker ")); at++)
        lines += strncmp(at, "msg=\"a worker says", strlen("msg=\"a worker says")) != 0;
    cr_expect_lt(lines, 25, "%d lines of %d children", lines, 6 * 3);
}
