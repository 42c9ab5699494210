/* What is on disk survives, and what was running runs again. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

SUITE(durability);

Test(durability, what_was_acknowledged_survives_kill_9)
{
    struct server *s = serve(TASKS);
    char *ids[60];
    EXPECT(post(s, "/tasks/echo/pause", NULL), 200);
    for (int i = 0; i < 60; i++) {
        ids[i] = submit(s, "{'task': 'echo', 'args': {'n': %d}, 'labels': {'i': '%d'}}", i, i);
        if (i % 20 == 19)
            restart(s);
    }
    for (int i = 0; i < 60; i++) {
        struct reply *r = EXPECT(get(s, "/invocations/%s", ids[i]), 200);
        EXPECT_NUMBER(r, "args.n", i);
        EXPECT_TEXT(r, "status", "queued");
    }
    EXPECT_NUMBER(get(s, "/stats"), "invocations.queued", 60);
    /* the pause survived, too */
    REQUIRE(cJSON_IsTrue(field(get(s, "/tasks/echo"), "paused")));
    EXPECT(post(s, "/tasks/echo/resume", NULL), 200);
    for (int i = 0; i < 60; i++)
        EXPECT_TEXT(final(s, ids[i]), "status", "succeeded");
}

Test(durability, a_server_killed_while_clients_submit_has_all_that_it_confirmed)
{
    struct server *s = serve(TASKS);
    char *ids[3000];
    int count = 0;
    for (int round = 0; round < 3; round++) {
        struct client *clients[16];
        char *body = "{\"task\": \"count\"}";
        for (int i = 0; i < 16; i++) {
            clients[i] = client_open(s);
            client_ask(clients[i], "POST", "/tasks", "Content-Type: application/json\r\n", body, strlen(body));
        }
        for (int turn = 0; turn < 40; turn++)
            for (int i = 0; i < 16; i++) {
                struct reply *r = client_receive(clients[i], false);
                REQUIRE(r && r->status == 201);
                ids[count++] = strdup(text_of(r, "id"));
                client_ask(clients[i], "POST", "/tasks", "Content-Type: application/json\r\n", body, strlen(body));
            }
        kill_hard(s); /* with 16 requests on their way */
        for (int i = 0; i < 16; i++)
            client_close(clients[i]);
        start(s);
    }
    for (int i = 0; i < count; i++)
        EXPECT(get(s, "/invocations/%s", ids[i]), 200);
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.succeeded") >= count &&
               number_of(get(s, "/stats"), "invocations.queued") == 0);
    char *runs = read_whole(file_in(s, "runs"));
    for (int i = 0; i < count; i++)
        REQUIRE(strstr(runs, ids[i]), "%s never ran", ids[i]);
}

Test(durability, ids_never_go_back)
{
    struct server *s = serve("tasks:\n  echo: {kind: native, module: $NATIVE, retention: 1s}\n");
    char *last = strdup("");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5; i++) {
            char *id = submit(s, "{'task': 'echo'}");
            REQUIRE(strcmp(id, last) > 0, "%s after %s", id, last);
            final(s, id);
            EXPECT(ask(s, "DELETE", format("/invocations/%s", id), NULL, NULL), 204);
            last = id;
        }
        restart(s);
    }
}

Test(durability, what_was_running_runs_again_at_once)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    restart(s);
    struct reply *r;
    WAIT_UNTIL(number_of(r = get(s, "/invocations/%s", id), "attempt") == 2);
    touch(file_in(s, "go"));
    r = final(s, id);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_NUMBER(r, "attempt", 2);
}

/* Many deaths that nobody in it is to blame for: a power cut, the OOM killer. */
Test(durability, an_unexplained_death_costs_nobody_who_stood_beside_others)
{
    struct server *s = serve("slots: 4\ndefaults: {max_recoveries: 0}\n" TASKS);
    char *a = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    char *b = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, a, "running");
    AWAIT_STATUS(s, b, "running");
    restart(s);
    AWAIT_STATUS(s, a, "running");
    AWAIT_STATUS(s, b, "running");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, a), "status", "succeeded");
    EXPECT_TEXT(final(s, b), "status", "succeeded");
}

/* It ran alone in the process, and everything else that is native waited for it. */
Test(durability, what_ran_at_two_unexplained_deaths_runs_in_a_child_and_holds_up_nobody)
{
    struct server *s = serve("slots: 1\n" TASKS);
    char *suspect = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    for (int death = 1; death <= 2; death++) {
        AWAIT_STATUS(s, suspect, "running");
        restart(s);
    }
    EXPECT_TEXT(EXPECT_NUMBER(AWAIT_STATUS(s, suspect, "running"), "attempt", 3), "worker", "hold-1");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    restart(s);
    EXPECT_TEXT(AWAIT_STATUS(s, suspect, "running"), "worker", "hold-1");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, suspect), "status", "succeeded");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"))), "worker", "slot-1");
}

/* Its turns were the server's deaths, for ever. */
Test(durability, a_suspect_that_brings_its_child_down_pays_for_that_alone)
{
    struct server *s = serve("tasks:\n"
                             "  segfault_after: {kind: native, module: $NATIVE, max_recoveries: 1}\n"
                             "  echo: {kind: native, module: $NATIVE}\n");
    char *suspect = submit(s, "{'task': 'segfault_after', 'args': '%s'}", file_in(s, "go"));
    for (int death = 1; death <= 2; death++) {
        AWAIT_STATUS(s, suspect, "running");
        restart(s);
    }
    EXPECT_TEXT(AWAIT_STATUS(s, suspect, "running"), "worker", "segfault_after-1");
    pid_t before = s->pid;
    touch(file_in(s, "go"));
    struct reply *r =
        EXPECT_TEXT(EXPECT_TEXT(final(s, suspect), "status", "failed"), "error.type", "worker_crashed");
    EXPECT_NUMBER(r, "error.signal", SIGSEGV);
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    cr_assert_eq(s->pid, before);
    cr_assert(is_alive(before));
}

/* It was started without a task, and the server fell. */
Test(durability, what_is_to_run_alone_may_lose_its_task)
{
    struct server *s = serve(TASKS);
    char *suspect = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, suspect, "running");
    restart(s);
    AWAIT_STATUS(s, suspect, "running");
    EXPECT(post(s, "/pause", NULL), 200);
    restart(s);
    configure(s, "tasks:\n  echo: {kind: native, module: $NATIVE}\n");
    send_signal(s, SIGHUP);
    WAIT_UNTIL(cJSON_IsTrue(field(get(s, "/tasks/hold"), "gone")));
    EXPECT(post(s, "/resume", NULL), 200);
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    configure(s, TASKS);
    send_signal(s, SIGHUP);
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, suspect), "status", "succeeded");
}

/* Two deaths while they run; they do not run yet after those, as everything is paused. */
static void await_suspects(struct server *s, char *const *ids, int count)
{
    for (int death = 1; death <= 2; death++) {
        for (int i = 0; i < count; i++)
            AWAIT_STATUS(s, ids[i], "running");
        if (death == 2)
            EXPECT(post(s, "/pause", NULL), 200);
        restart(s);
    }
}

static char *paused_suspect(struct server *s, const char *task)
{
    char *id = submit(s, "{'task': '%s', 'args': '%s'}", task, file_in(s, "go"));
    await_suspects(s, &id, 1);
    return id;
}

/* Its turns were told of at any level, with all their arguments. */
Test(durability, a_suspect_is_told_of_as_its_task_is)
{
    struct server *s = serve("log: {level: info, arguments: hidden}\n"
                             "tasks:\n  fail_when: {kind: native, module: $NATIVE}\n");
    char *suspect = paused_suspect(s, "fail_when");
    touch(file_in(s, "go"));
    EXPECT(post(s, "/resume", NULL), 200);
    EXPECT_TEXT(final(s, suspect), "worker", "fail_when-1");
    WAIT_UNTIL(strstr(server_log(s), "error=mine"));
    cr_expect_not(strstr(server_log(s), "a turn starts"), "%s", server_log(s));
    cr_expect_not(strstr(server_log(s), "args="), "%s", server_log(s));
}

/* It paid for each time that nobody could be started, and had failed within a second. */
Test(durability, a_suspect_waits_for_a_child_that_cannot_be_started)
{
    struct server *s = prepare("tasks:\n"
                               "  hold: {kind: native, module: own.so, max_recoveries: 1}\n"
                               "  echo: {kind: native, module: $NATIVE}\n");
    char *module = file_in(s, "own.so"), *away = file_in(s, "away.so");
    cr_assert_eq(symlink(native("tasks"), module), 0);
    start(s);
    char *args = file_in(s, "go"), *suspect = submit(s, "{'task': 'hold', 'args': '%s'}", args);
    char *cancelled = submit(s, "{'task': 'hold', 'args': '%s'}", args);
    await_suspects(s, (char *[]){suspect, cancelled}, 2);
    cr_assert_eq(rename(module, away), 0);
    EXPECT(post(s, "/resume", NULL), 200);
    WAIT_UNTIL(strstr(get(s, "/readyz")->body, "hold"));
    EXPECT_TEXT(get(s, "/invocations/%s", suspect), "status", "queued");
    EXPECT_TEXT(post(s, format("/invocations/%s/cancel", cancelled), NULL), "status", "cancelled");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    cr_assert_eq(rename(away, module), 0);
    touch(file_in(s, "go"));
    EXPECT_TEXT(EXPECT_TEXT(final(s, suspect), "status", "succeeded"), "worker", "hold-1");
    cr_assert_eq(terminate(s), 0);
}

/* The module that it was to be loaded from stayed the one of the last configuration. */
Test(durability, a_reload_is_heard_by_a_suspect_that_waits_for_a_child)
{
    struct server *s = prepare("tasks:\n  hold: {kind: native, module: own.so}\n");
    cr_assert_eq(symlink(native("tasks"), file_in(s, "own.so")), 0);
    start(s);
    char *suspect = paused_suspect(s, "hold");
    cr_assert_eq(unlink(file_in(s, "own.so")), 0);
    EXPECT(post(s, "/resume", NULL), 200);
    WAIT_UNTIL(strstr(get(s, "/readyz")->body, "hold"));
    configure(s, TASKS);
    send_signal(s, SIGHUP);
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, suspect), "status", "succeeded");
    WAIT_UNTIL(!strstr(get(s, "/readyz")->body, "hold"));
}

static bool is_active(struct server *s, const char *worker)
{
    struct reply *r = get(s, "/workers");
    for (const cJSON *each = field(r, "items")->child; each; each = each->next)
        if (strcmp(cJSON_GetObjectItem(each, "name")->valuestring, worker) == 0)
            return strcmp(cJSON_GetObjectItem(each, "state")->valuestring, "active") == 0;
    return false;
}

/* It started when a child came. */
Test(durability, a_suspect_that_waits_for_a_child_is_paused_with_its_task)
{
    struct server *s = prepare("tasks:\n"
                               "  hold: {kind: native, module: own.so}\n"
                               "  echo: {kind: native, module: $NATIVE}\n");
    char *module = file_in(s, "own.so"), *away = file_in(s, "away.so");
    cr_assert_eq(symlink(native("tasks"), module), 0);
    start(s);
    char *suspect = paused_suspect(s, "hold");
    cr_assert_eq(rename(module, away), 0);
    EXPECT(post(s, "/resume", NULL), 200);
    WAIT_UNTIL(strstr(get(s, "/readyz")->body, "hold"));
    EXPECT(post(s, "/tasks/hold/pause", NULL), 200);
    cr_assert_eq(rename(away, module), 0);
    WAIT_UNTIL(is_active(s, "hold-1"));
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    EXPECT_TEXT(get(s, "/invocations/%s", suspect), "status", "queued");
    EXPECT(post(s, "/tasks/hold/resume", NULL), 200);
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, suspect), "status", "succeeded");
}

/* They stand in no lane. */
Test(durability, join_waits_for_suspects)
{
    struct server *s = serve("slots: 1\n" TASKS);
    char *suspect = paused_suspect(s, "hold"), *other = submit(s, "{'task': 'count', 'args': 1}");
    EXPECT(post(s, "/resume", NULL), 200);
    EXPECT(post(s, "/shutdown?policy=join", NULL), 202);
    EXPECT_TEXT(AWAIT_STATUS(s, suspect, "running"), "worker", "hold-1");
    touch(file_in(s, "go"));
    cr_assert_eq(await_exit(s), 0);
    start(s);
    EXPECT_TEXT(get(s, "/invocations/%s", suspect), "status", "succeeded");
    EXPECT_TEXT(get(s, "/invocations/%s", other), "status", "succeeded");
}

/* They were lost with what had not been flushed. */
Test(durability, the_last_words_of_a_task_that_crashes_are_its_log)
{
    struct server *s = serve("tasks:\n  last_words: {kind: native, module: $NATIVE, max_recoveries: 0}\n");
    char *bad = submit(s, "{'task': 'last_words', 'delay': '200ms'}");
    cr_assert_eq(await_exit(s), 128 + SIGSEGV);
    start(s);
    EXPECT_TEXT(final(s, bad), "status", "failed");
    cr_assert_str_eq(get(s, "/invocations/%s/log", bad)->body, "I am at step 1\nand now at 2\n");
}

/* Its start was lost with the claim that was to write it. */
Test(durability, a_crash_before_the_start_is_on_disk_has_its_time)
{
    struct server *s = prepare("slots: 1\ntasks:\n  hold: {kind: native, module: $NATIVE}\n"
                               "  segfault: {kind: native, module: $NATIVE, max_recoveries: 0}\n");
    prepare_to_hold_commits(s);
    start(s);
    char *before = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, before, "running");
    char *bad = submit(s, "{'task': 'segfault'}");
    hold_commits(s);
    touch(file_in(s, "go")); /* and the slot goes on to the other */
    cr_assert_eq(await_exit(s), 128 + SIGSEGV);
    release_commits(s);
    start(s);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, bad), "status", "failed"), "error.signal", SIGSEGV);
    struct reply *r = EXPECT(get(s, "/invocations/%s/attempts", bad), 200);
    const char *at = text_of(r, "items.0.started_at");
    REQUIRE(*at && strcmp(at, text_of(r, "items.0.finished_at")) <= 0, "%s", r->body);
    EXPECT_TEXT(final(s, before), "status", "succeeded");
}

/* A task that kills its worker cannot loop for ever, and what merely stood beside it pays nothing. */
Test(durability, a_native_task_that_crashes_pays_and_its_neighbours_do_not)
{
    struct server *s = serve("slots: 4\n"
                             "tasks:\n"
                             "  hold: {kind: native, module: $NATIVE, max_recoveries: 0}\n"
                             "  segfault_after: {kind: native, module: $NATIVE, max_recoveries: 2}\n");
    char *beside = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    char *bad = submit(s, "{'task': 'segfault_after', 'args': '%s'}", file_in(s, "crash"));
    for (int death = 1; death <= 3; death++) {
        AWAIT_STATUS(s, beside, "running");
        EXPECT_NUMBER(AWAIT_STATUS(s, bad, "running"), "attempt", death);
        touch(file_in(s, "crash"));
        cr_assert_eq(await_exit(s), 128 + SIGSEGV);
        unlink(file_in(s, "crash"));
        start(s);
    }
    struct reply *r = final(s, bad);
    EXPECT_TEXT(r, "status", "failed");
    EXPECT_TEXT(r, "error.type", "worker_crashed");
    EXPECT_TEXT(r, "error.message", "it brought the server down with SIGSEGV");
    EXPECT_NUMBER(r, "error.signal", SIGSEGV);
    r = EXPECT(get(s, "/invocations/%s/attempts", bad), 200);
    cr_assert_eq(cJSON_GetArraySize(field(r, "items")), 3);
    for (int i = 0; i < 3; i++) {
        EXPECT_NUMBER(r, format("items.%d.error.signal", i), SIGSEGV);
        REQUIRE(*text_of(r, format("items.%d.started_at", i)), "%s", r->body);
        REQUIRE(strstr(server_log(s), format("msg=\"a task brought the server down\" task=segfault_after "
                                             "invocation=%s attempt=%d signal=SIGSEGV",
                                             bad, i + 1)));
    }
    REQUIRE(!strstr(server_log(s), beside), "what stood beside it is blamed");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, beside), "status", "succeeded");
}

Test(durability, an_exit_in_a_native_task_is_its_own_doing)
{
    struct server *s = serve("tasks:\n"
                             "  leaves: {kind: native, module: $NATIVE, max_recoveries: 0}\n"
                             "  hold: {kind: native, module: $NATIVE, max_recoveries: 0}\n");
    char *beside = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, beside, "running");
    char *bad = submit(s, "{'task': 'leaves', 'delay': '200ms'}");
    await_exit(s);
    start(s);
    struct reply *r = EXPECT_TEXT(final(s, bad), "status", "failed");
    EXPECT_TEXT(r, "error.type", "worker_crashed");
    EXPECT_TEXT(r, "error.message", "it ended the server with exit()");
    REQUIRE(!field(r, "error.signal"), "%s", r->body);
    REQUIRE(strstr(server_log(s), "task=leaves"), "the log does not name it");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, beside), "status", "succeeded");
}

Test(durability, children_that_outlive_a_killed_server_are_killed_before_they_run_again)
{
    struct server *s =
        serve("tasks:\n  long: {kind: command, run: [sh, -c, 'echo $$ >>pids; exec sleep 1000']}\n");
    char *id = submit(s, "{'task': 'long'}");
    WAIT_UNTIL(*read_whole(file_in(s, "pids")));
    pid_t first = atoi(read_whole(file_in(s, "pids")));
    restart(s);
    WAIT_UNTIL(strchr(read_whole(file_in(s, "pids")), '\n') &&
               strlen(strchr(read_whole(file_in(s, "pids")), '\n')) > 1);
    REQUIRE(!is_alive(first), "two of them run");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    final(s, id);
}

/* The folder of the process's cgroup; NULL if it is not to be found. */
static char *cgroup_folder_of(pid_t pid)
{
    static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    char *line = strstr(read_whole(format("/proc/%d/cgroup", (int)pid)), "0::/");
    for (int i = 0; line && i < 2; i++) {
        char *folder = format("%s%.*s", mounts[i], (int)strcspn(line + 3, "\n"), line + 3);
        if (exists(format("%s/cgroup.procs", folder)))
            return folder;
    }
    return NULL;
}

static void skip_without_cgroups(void)
{
    char *folder = cgroup_folder_of(getpid());
    char *mine = folder ? format("%s/of-a-test-%d", folder, (int)getpid()) : NULL;
    if (!mine || mkdir(mine, 0755) != 0 || rmdir(mine) != 0)
        cr_skip_test("no cgroup can be made here");
}

/* The pid in the last line, if there are so many. */
static pid_t last_pid(const char *text, int lines)
{
    const char *last = text;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1, lines--)
        last = text;
    return lines > 0 ? 0 : atoi(last);
}

/* It lived on beside its second attempt. */
Test(durability, what_has_neither_its_environment_nor_its_session_is_killed_before_it_runs_again)
{
    skip_without_cgroups();
    struct server *s = serve("tasks:\n  long: {kind: command, run: [sh, -c, \"setsid env -i A=1 sh -c "
                             "'echo $$ >>pids; exec sleep 1000' & exec sleep 1000\"]}\n");
    char *id = submit(s, "{'task': 'long'}");
    pid_t first, second;
    WAIT_UNTIL((first = last_pid(read_whole(file_in(s, "pids")), 1)));
    char *folder = cgroup_folder_of(s->pid);
    restart(s);
    WAIT_UNTIL((second = last_pid(read_whole(file_in(s, "pids")), 2)));
    bool lives_on = is_alive(first);
    kill(first, SIGKILL);
    kill(second, SIGKILL);
    REQUIRE(!lives_on, "two of them run");
    REQUIRE(!exists(folder), "%s is still there", folder);
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    final(s, id);
}

Test(durability, a_server_that_is_stopped_leaves_no_cgroup)
{
    skip_without_cgroups();
    struct server *s = serve(TASKS);
    char *folder = cgroup_folder_of(s->pid);
    REQUIRE(strstr(folder, format("/errand-%d-", (int)s->pid)), "it is in %s", folder);
    final(s, submit(s, "{'task': 'echo'}"));
    cr_assert_eq(terminate(s), 0);
    REQUIRE(!exists(folder), "%s is still there", folder);
}

Test(durability, retries_and_delays_survive_a_crash)
{
    struct server *s = serve("defaults: {backoff: {initial: 1s, jitter: 0}}\n" TASKS);
    char *failing = submit(s, "{'task': 'fail', 'max_retries': 1}");
    char *delayed = submit(s, "{'task': 'echo', 'delay': '2s'}");
    AWAIT_STATUS(s, failing, "scheduled");
    restart(s);
    EXPECT_NUMBER(final(s, failing), "attempt", 2);
    struct reply *r = final(s, delayed);
    EXPECT_TEXT(r, "status", "succeeded");
    REQUIRE(strcmp(text_of(r, "started_at"), text_of(r, "run_at")) >= 0, "it ran too early: %s", r->body);
}

Test(durability, a_second_server_on_the_same_file_is_refused)
{
    struct server *s = serve(TASKS);
    submit(s, "{'task': 'echo'}");
    struct server *second = prepare(TASKS);
    char *store = file_in(s, "errand.db");
    second->arguments = (const char *[]){"--store", store, NULL};
    REQUIRE(!try_start(second), "it started");
    REQUIRE(await_exit(second) != 0);
    REQUIRE(strstr(server_log(second), "errand.db"), "it does not say why: %s", server_log(second));
    EXPECT(get(s, "/invocations"), 200);
    kill_hard(s);
    start(second);
    cr_assert_eq(cJSON_GetArraySize(field(get(second, "/invocations"), "items")), 1);
}

Test(durability, a_store_in_memory_is_a_private_folder_that_goes_with_the_server)
{
    struct server *s = prepare(TASKS);
    char *tmp = file_in(s, "tmp");
    run(s->folder, (const char *[]){"mkdir", "tmp", NULL}, NULL, NULL, NULL);
    s->arguments = (const char *[]){"--store", ":memory:", NULL};
    s->variables = (const char *[]){format("TMPDIR=%s", tmp), NULL};
    start(s);
    cr_expect_str_eq(read_whole(format("/proc/%d/cgroup", (int)s->pid)), read_whole("/proc/self/cgroup"));
    final(s, submit(s, "{'task': 'echo'}"));
    cr_assert_eq(terminate(s), 0);
    char *left;
    run(tmp, (const char *[]){"ls", "-A", NULL}, NULL, &left, NULL);
    cr_assert_str_empty(left);
    start(s);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.succeeded", 0);
}
