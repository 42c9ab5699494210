/* What becomes of the reports of a turn: refused, tried again after faults, and
 * of what still runs without a turn. */
#include "tests/e2e/support.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SUITE(reports);

#define CONFIG                                                                                          \
    "slots: 3\n"                                                                                        \
    "kill_grace: 60s\n"                                                                                 \
    "tasks:\n"                                                                                          \
    "  echo: {kind: native, module: $NATIVE}\n"                                                         \
    "  deaf: {kind: native, module: $NATIVE}\n"                                                         \
    "  numbered: {kind: native, module: $NATIVE, max_recoveries: 0}\n"                                  \
    "  stubborn: {kind: command, run: [sh, -c, 'trap \"\" TERM; echo begin $$ >> $FOLDER/marks; while " \
    "[ ! -e $FOLDER/go ]; do sleep 0.05; done; echo end $$ >> $FOLDER/marks']}\n"

static void keep_busy(struct server *s, int k)
{
    char *id = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, format("go-%d", k)));
    AWAIT_STATUS(s, id, "running");
}

static char *lose_the_claim(struct server *s, const char *task, const char *args, const char *begun)
{
    prepare_to_hold_commits(s);
    start(s);
    for (int i = 0; i < 3; i++)
        keep_busy(s, i);
    char *id = args ? submit(s, "{'task': '%s', 'args': '%s'}", task, args) : submit(s, "{'task': '%s'}", task);
    struct client *client = client_open(s);
    hold_commits(s);
    client_ask(client, "POST", format("/invocations/%s/cancel", id), "Content-Type: application/json\r\n", "{}",
               2);
    await_held_commit(s);
    touch(file_in(s, "go-0"));
    WAIT_UNTIL(exists(begun));
    release_commits(s);
    EXPECT_TEXT(EXPECT(client_receive(client, false), 200), "status", "cancelled");
    return id;
}

Test(reports, a_stale_runs_crash_is_not_paid_for_by_the_next_turn)
{
    struct server *s = prepare(CONFIG);
    char *id = lose_the_claim(s, "numbered", file_in(s, "run"), file_in(s, "run.1"));
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/retry", id), NULL), 200), "status", "queued");
    touch(file_in(s, "run.1.crash"));
    await_exit(s);
    touch(file_in(s, "go-1"));
    touch(file_in(s, "go-2"));
    touch(file_in(s, "run.2.succeed"));
    start(s);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

static int lines_of(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)); at++)
        n++;
    return n;
}

Test(reports, a_commands_next_turn_begins_when_its_last_process_has_ended)
{
    struct server *s = prepare(CONFIG);
    char *id = lose_the_claim(s, "stubborn", NULL, file_in(s, "marks"));
    EXPECT(post(s, format("/invocations/%s/retry", id), NULL), 200);
    touch(file_in(s, "go-1"));
    int64_t until = now_ms() + 3000;
    while (now_ms() < until && lines_of(read_whole(file_in(s, "marks")), "begin") < 2)
        breathe();
    char *marks = read_whole(file_in(s, "marks"));
    int begun = lines_of(marks, "begin"), ended = lines_of(marks, "end");
    touch(file_in(s, "go"));
    touch(file_in(s, "go-2"));
    REQUIRE(begun - ended < 2, "two processes of one invocation at once: %s", marks);
}

static void exec(struct server *s, const char *sql)
{
    sqlite3 *handle;
    char *why = NULL;
    cr_assert_eq(sqlite3_open(file_in(s, "errand.db"), &handle), SQLITE_OK);
    sqlite3_busy_timeout(handle, 10000);
    cr_assert_eq(sqlite3_exec(handle, sql, NULL, NULL, &why), SQLITE_OK, "%s", why);
    sqlite3_close(handle);
}

/* What is tried together is tried too soon, and then loses its result. */
Test(reports, a_result_outlasts_a_fault_of_two_and_a_half_seconds)
{
    enum { COUNT = 60 };
    struct server *s = serve("slots: 64\ntasks:\n  deaf: {kind: native, module: $NATIVE}\n");
    char *ids[COUNT];
    for (int i = 0; i < COUNT; i++)
        ids[i] = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, format("end-%d", i)));
    for (int i = 0; i < COUNT; i++)
        AWAIT_STATUS(s, ids[i], "running");
    exec(s, "CREATE TRIGGER fault BEFORE UPDATE ON invocations WHEN new.status = 5 "
            "BEGIN SELECT RAISE(ABORT, 'a fault'); END");
    int64_t began = now_ms();
    for (int i = 0; i < COUNT; i++) {
        touch(file_in(s, format("end-%d", i)));
        while (now_ms() < began + (i + 1) * 2500 / COUNT)
            breathe();
    }
    exec(s, "DROP TRIGGER fault");
    int lost = 0;
    for (int i = 0; i < COUNT; i++)
        lost += strcmp(text_of(final(s, ids[i]), "status"), "succeeded") != 0;
    REQUIRE(lost == 0, "%d of %d results were lost", lost, COUNT);
}

/* A database that takes no claim (corrupt, say): the whole backlog runs, and is kept in memory. */
Test(reports, nothing_more_starts_while_no_claim_can_be_written)
{
    enum { COUNT = 300 };
    struct server *s = serve("slots: 2\ntasks:\n  count: {kind: native, module: $NATIVE}\n");
    exec(s, "CREATE TRIGGER fault BEFORE UPDATE ON invocations WHEN new.status IN (3, 5) "
            "BEGIN SELECT RAISE(ABORT, 'a fault'); END");
    for (int i = 0; i < COUNT; i++)
        submit(s, "{'task': 'count'}");
    int64_t until = now_ms() + 3000;
    int runs = 0;
    while (now_ms() < until && runs < COUNT) {
        runs = lines_of(read_whole(file_in(s, "runs")), "\n");
        breathe();
    }
    REQUIRE(runs < COUNT / 2, "%d of %d ran, none of them on disk", runs, COUNT);
}

/* Closing does not wait for what is tried again, though the fault is gone. */
Test(reports, what_waits_to_be_tried_again_is_tried_at_closing)
{
    struct server *s = serve("slots: 2\nshutdown_timeout: 100ms\nkill_grace: 100ms\n"
                             "tasks:\n  deaf: {kind: native, module: $NATIVE}\n");
    char *id = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, "end"));
    AWAIT_STATUS(s, id, "running");
    exec(s, "CREATE TRIGGER fault BEFORE UPDATE ON invocations WHEN new.status = 5 "
            "BEGIN SELECT RAISE(ABORT, 'a fault'); END");
    touch(file_in(s, "end"));
    WAIT_UNTIL(strstr(server_log(s), "times=3"));
    exec(s, "DROP TRIGGER fault"); /* the next try comes four seconds after the third */
    touch(file_in(s, "end"));
    terminate(s);
    sqlite3 *handle;
    sqlite3_stmt *stmt;
    sqlite3_open(file_in(s, "errand.db"), &handle);
    sqlite3_prepare_v2(handle, "SELECT status FROM invocations", -1, &stmt, NULL);
    sqlite3_step(stmt);
    int status = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(handle);
    REQUIRE(status == 5, "status is %d:\n%s", status, server_log(s));
}
