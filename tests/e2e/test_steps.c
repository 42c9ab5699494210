/* Steps and messages of native bodies: what was recorded is not worked again, over
 * retries and kills, and what is said comes out in order. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SUITE(steps);

#define TASK(name) "  " name ": {kind: native, module: %1$s, max_retries: 1, backoff: {initial: 1ms}}\n"

static char *config(const char *head)
{
    return format("%2$stasks:\n" TASK("ledger") TASK("fails_once") TASK("says") TASK("sends") TASK("reads"),
                  native("steps"), head);
}

static struct server *serve_steps(const char *head)
{
    return serve(config(head));
}

/* What the database says of it, a row a line; or what it is told. */
static char *query(struct server *s, const char *sql)
{
    static const char script[] = "import sqlite3, sys\n"
                                 "with sqlite3.connect(sys.argv[1], timeout=30) as database:\n"
                                 "    for row in database.execute(sys.argv[2]): print(*row)";
    const char *argv[] = {"python3", "-c", script, file_in(s, "errand.db"), sql, NULL};
    char *out;
    cr_assert_eq(run(s->folder, argv, NULL, &out, NULL), 0, "%s", sql);
    return out;
}

/* --- what the ledger says ---------------------------------------------------------- */

enum { STEPS = 10, BODIES = 4 };

struct entry {
    char what[8], id[16], value[32];
    int step;
    const char *after; /* the rest of the ledger */
};

static bool read_entry(const char *at, struct entry *out)
{
    const char *end = strchr(at, '\n');
    out->after = end ? end + 1 : "";
    return end && sscanf(at, "%7s %15s %d %31s", out->what, out->id, &out->step, out->value) == 4;
}

static int count(struct server *s, const char *what)
{
    struct entry entry;
    int entries = 0;
    for (const char *at = read_whole(file_in(s, "ledger")); read_entry(at, &entry); at = entry.after)
        entries += strcmp(entry.what, what) == 0;
    return entries;
}

/* Is the work of the entry's step in there? */
static bool is_worked(const char *ledger, const struct entry *done)
{
    struct entry entry;
    for (const char *at = ledger; read_entry(at, &entry); at = entry.after)
        if (entry.step == done->step && strcmp(entry.what, "work") == 0 && strcmp(entry.id, done->id) == 0)
            return true;
    return false;
}

/* What was recorded was never worked again, and is the value that the result has. */
static void audit(struct server *s, char *const *ids, int bodies)
{
    struct entry entry;
    char *ledger = read_whole(file_in(s, "ledger"));
    for (const char *at = ledger; read_entry(at, &entry); at = entry.after)
        if (strcmp(entry.what, "done") == 0) {
            REQUIRE(!is_worked(entry.after, &entry), "%s %d", entry.id, entry.step);
            struct reply *result = EXPECT(get(s, "/invocations/%s/result", entry.id), 200);
            REQUIRE(strstr(result->body, entry.value), "%s %d %s", entry.id, entry.step, entry.value);
        }
    for (int i = 0; i < bodies; i++) {
        char *steps = query(s, format("SELECT value FROM steps WHERE id = (SELECT id FROM invocations ORDER BY id "
                                      "LIMIT 1 OFFSET %d) ORDER BY number",
                                      i));
        for (char *at = steps; (at = strchr(at, '\n')); at++)
            *at = at[1] ? ',' : '\0';
        cr_expect_str_eq(get(s, "/invocations/%s/result", ids[i])->body, format("[%s]", steps));
    }
}

/* Killed whenever a few more steps were worked; who runs at each kill is chance. */
Test(steps, what_was_recorded_is_never_worked_again_whenever_the_server_is_killed)
{
    struct server *s = serve_steps("slots: 2\nlog: {level: error}\ndefaults: {max_recoveries: 1000}\n");
    char *ids[BODIES];
    int worked = 0, kills = 0;
    for (int i = 0; i < BODIES; i++)
        ids[i] = submit(s, "{'task': 'ledger', 'args': {'steps': %d, 'us': 3000}}", STEPS);
    while (number_of(get(s, "/stats"), "invocations.succeeded") < BODIES) {
        WAIT_UNTIL(count(s, "work") >= worked + 4 ||
                   number_of(get(s, "/stats"), "invocations.succeeded") == BODIES);
        restart(s);
        worked = count(s, "work");
        REQUIRE(++kills < BODIES * STEPS, "it does not get on");
    }
    audit(s, ids, BODIES);
}

Test(steps, a_retry_finds_what_the_attempt_before_has_recorded)
{
    struct server *s = serve_steps("");
    char *id = submit(s, "{'task': 'fails_once'}");
    struct reply *ended = final(s, id);
    EXPECT_TEXT(ended, "status", "succeeded");
    EXPECT_NUMBER(ended, "attempt", 2);
    cr_expect_eq(count(s, "done"), 3);
}

/* The first commit of the step is held up until the server is killed. */
Test(steps, what_was_not_recorded_at_the_kill_is_worked_again)
{
    struct server *s = prepare(config("log: {level: error}\n"));
    prepare_to_hold_commits(s);
    start(s);
    char *id = submit(s, "{'task': 'ledger', 'args': {'steps': 1, 'us': 20000}}");
    WAIT_UNTIL(strstr(read_whole(file_in(s, "ledger")), "work"));
    hold_commits(s);
    await_held_commit(s);
    kill_hard(s);
    release_commits(s);
    cr_expect_eq(count(s, "done"), 0);
    start(s);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    audit(s, &id, 1);
}

/* --- when the disk takes nothing ------------------------------------------------------- */

static struct server *serve_on_bad_disk(void)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct server *s = prepare(config("log: {level: error}\nshutdown_timeout: 1s\n"));
    const char *variables[] = {format("LD_PRELOAD=%s", native("bad_disk")),
                               format("BAD_DISK=%s", file_in(s, "bad")), NULL};
    s->variables = memcpy(malloc(sizeof variables), variables, sizeof variables);
    start(s);
    return s;
}

/* The body is at its first step, and the disk takes no commit any more. */
static char *submit_stuck(struct server *s)
{
    char *id = submit(s, "{'task': 'ledger', 'args': {'steps': 2, 'us': 200000}}");
    WAIT_UNTIL(count(s, "work") == 1);
    touch(file_in(s, "bad"));
    WAIT_UNTIL(get(s, "/readyz")->status == 503);
    return id;
}

Test(steps, a_step_waits_for_a_disk_that_takes_nothing)
{
    struct server *s = serve_on_bad_disk();
    char *id = submit_stuck(s);
    unlink(file_in(s, "bad"));
    struct reply *ended = final(s, id);
    EXPECT_TEXT(ended, "status", "succeeded");
    EXPECT_NUMBER(ended, "attempt", 1);
    cr_expect_eq(count(s, "work"), 2);
    audit(s, &id, 1);
}

Test(steps, a_step_that_waits_for_the_disk_holds_up_no_stop_and_costs_nothing)
{
    struct server *s = serve_on_bad_disk();
    char *id = submit_stuck(s);
    terminate(s);
    unlink(file_in(s, "bad"));
    start(s);
    struct reply *ended = final(s, id);
    EXPECT_TEXT(ended, "status", "succeeded");
    audit(s, &id, 1);
}

/* Nothing is known of the turn on disk until its claim is written at last. */
Test(steps, a_step_waits_for_a_claim_that_met_a_fault)
{
    struct server *s = serve_steps("log: {level: error}\n");
    query(s,
          "CREATE TRIGGER no_start BEFORE UPDATE OF status ON invocations WHEN NEW.status = 3 AND OLD.status = 2 "
          "BEGIN SELECT RAISE(ABORT, 'no'); END");
    char *id = submit(s, "{'task': 'ledger', 'args': {'steps': 2}}");
    WAIT_UNTIL(count(s, "work") == 1);
    WAIT_UNTIL(strstr(server_log(s), "was not written"));
    query(s, "DROP TRIGGER no_start");
    struct reply *ended = final(s, id);
    EXPECT_TEXT(ended, "status", "succeeded");
    EXPECT_NUMBER(ended, "attempt", 1);
    cr_expect_eq(count(s, "work"), 2);
    audit(s, &id, 1);
}

/* --- what a body may say -------------------------------------------------------------- */

Test(steps, what_a_body_says_wrongly_is_refused_with_the_reason)
{
    static const struct {
        const char *args, *why;
    } rows[] = {
        {"'what': 'step', 'name': '', 'json': '1'", "a step's name has 1 to 100 bytes"},
        {"'what': 'get', 'name': ''", "a step's name has 1 to 100 bytes"},
        {"'what': 'step', 'name': 'n', 'times': 101, 'json': '1'", "a step's name has 1 to 100 bytes"},
        {"'what': 'step', 'name': 'n', 'json': ''", "the value is not valid JSON"},
        {"'what': 'step', 'name': 'n', 'json': '[1,'", "the value is not valid JSON"},
        {"'what': 'step', 'name': 'n', 'json': ' ', 'json_times': 1048577", "the limit is 1048576"},
        {"'what': 'message', 'json': 'nul'", "the message is not valid JSON"},
        {"'what': 'message', 'json': ' ', 'json_times': 65537", "the message has 65537 bytes, the limit is 65536"},
    };
    struct server *s = serve_steps("");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *ended = final(s, submit(s, "{'task': 'says', 'args': {%s}}", quoted(rows[i].args)));
        EXPECT_NUMBER(ended, "result.code", -1);
        EXPECT_HAS(ended, rows[i].why);
    }
    cr_expect_str_eq(query(s, "SELECT (SELECT COUNT(*) FROM steps), (SELECT COUNT(*) FROM messages)"), "0 0\n");
}

Test(steps, the_longest_name_and_what_is_as_long_as_may_be_are_taken)
{
    static const char *const rows[] = {
        "'what': 'step', 'name': 'n', 'times': 100, 'json': ' 1 '",
        "'what': 'step', 'name': '\\u00e9', 'times': 50, 'json': '1'",
        "'what': 'message', 'json': '1', 'json_times': 65536",
    };
    struct server *s = serve_steps("");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *ended = final(s, submit(s, "{'task': 'says', 'args': {%s}}", quoted(rows[i])));
        EXPECT_NUMBER(ended, "result.code", 0);
    }
}

Test(steps, one_step_more_than_there_is_room_for_is_refused_and_the_others_stay)
{
    enum { MOST = 1000 };
    struct server *s = serve_steps("");
    char *id = submit(s, "{'task': 'ledger', 'args': {'steps': %d}}", MOST + 1);
    struct reply *ended = final(s, id);
    EXPECT_TEXT(ended, "error.type", "step");
    EXPECT_HAS(ended, "has no room for more steps");
    cr_expect_str_eq(query(s, "SELECT COUNT(*) FROM steps"), "1000\n");
}

Test(steps, what_no_turn_has_recorded_is_none)
{
    struct server *s = serve_steps("");
    EXPECT_NUMBER(final(s, submit(s, "{'task': 'says', 'args': {'what': 'get', 'name': 'n'}}")), "result.code", 2);
}

Test(steps, messages_are_on_disk_in_the_order_in_which_they_were_sent)
{
    struct server *s = serve_steps("slots: 3\n");
    char *ids[3];
    for (int i = 0; i < 3; i++)
        ids[i] = submit(s, "{'task': 'sends', 'args': {'count': 20}}");
    for (int i = 0; i < 3; i++)
        EXPECT_TEXT(final(s, ids[i]), "status", "succeeded");
    char *bodies = query(s, "SELECT body FROM messages ORDER BY id, seq"), *at = bodies;
    for (int i = 0; i < 60; i++) {
        int n = -1, length = 0;
        cr_assert_eq(sscanf(at, " {\"n\":%d}%n", &n, &length), 1, "%s", bodies);
        cr_expect_eq(n, i % 20);
        at += length;
    }
}

/* --- the inbox -------------------------------------------------------------------------- */

static void send(struct server *s, const char *id, const char *body)
{
    EXPECT(post(s, format("/invocations/%s/inbox", id), "%s", body), 201);
}

Test(steps, an_empty_inbox_is_none_at_once_and_after_the_time)
{
    struct server *s = serve_steps("slots: 1\n");
    for (int wait_ms = 0; wait_ms <= 50; wait_ms += 50) {
        struct reply *ended = final(s, submit(s, "{'task': 'reads', 'args': {'for': %d}}", wait_ms));
        EXPECT_TEXT(ended, "result.0", "none");
    }
}

Test(steps, who_waits_for_a_message_holds_no_slot_and_can_be_cancelled)
{
    struct server *s = serve_steps("slots: 1\n");
    char *id = submit(s, "{'task': 'reads'}");
    AWAIT_STATUS(s, id, "waiting");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'sends'}")), "status", "succeeded");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
}

Test(steps, who_waits_for_a_message_holds_up_no_stop)
{
    struct server *s = serve_steps("");
    char *id = submit(s, "{'task': 'reads'}");
    AWAIT_STATUS(s, id, "waiting");
    EXPECT(post(s, "/shutdown?policy=join", NULL), 202);
    cr_expect_eq(await_exit(s), 0);
    start(s);
    EXPECT_NUMBER(AWAIT_STATUS(s, id, "waiting"), "attempt", 2);
}

Test(steps, messages_wake_who_waits_one_after_the_other)
{
    struct server *s = serve_steps("slots: 1\n");
    char *id = submit(s, "{'task': 'reads', 'args': {'take': 3}}");
    for (int i = 0; i < 3; i++) {
        AWAIT_STATUS(s, id, "waiting");
        send(s, id, format("{\"n\": %d}", i));
    }
    struct reply *ended = final(s, id);
    for (int i = 0; i < 3; i++)
        EXPECT_NUMBER(ended, format("result.%d.n", i), i);
}

/* What a turn has read is gone when it succeeds, and comes again if it does not. */
Test(steps, what_was_read_comes_again_to_a_retry_and_after_a_kill)
{
    struct server *s = serve_steps("");
    char *id = submit(s, "{'task': 'reads', 'args': {'take': 2, 'good': 3}}");
    AWAIT_STATUS(s, id, "waiting");
    send(s, id, "1");
    WAIT_UNTIL(strcmp(query(s, "SELECT COUNT(*) FROM messages"), "1\n") == 0);
    restart(s);
    AWAIT_STATUS(s, id, "waiting");
    cr_expect_str_eq(query(s, "SELECT COUNT(*) FROM invocations WHERE inbox_read > 0"), "0\n");
    send(s, id, "2");
    struct reply *ended = final(s, id);
    EXPECT_TEXT(ended, "status", "succeeded");
    EXPECT_NUMBER(ended, "result.0", 1);
    EXPECT_NUMBER(ended, "result.1", 2);
    EXPECT_NUMBER(ended, "attempt", 3);
    cr_expect_str_eq(query(s, "SELECT inbox_read = (SELECT MAX(seq) FROM messages) FROM invocations"), "1\n");
}

/* What a body was given takes no room in its inbox any more, though it is not read yet. */
Test(steps, an_inbox_is_not_full_of_what_its_body_has_been_given)
{
    enum { UNREAD_MAX = 1000, MORE = 50 };
    struct server *s = serve_steps("");
    char *id = submit(s, "{'task': 'reads', 'args': {'take': %d}}", UNREAD_MAX + MORE);
    AWAIT_STATUS(s, id, "waiting");
    for (int i = 0; i < UNREAD_MAX + MORE; i++)
        send(s, id, "1");
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

/* --- in the foreground ----------------------------------------------------------------- */

Test(steps, in_the_foreground_steps_last_over_retries_and_messages_go_to_stderr)
{
    static const struct {
        const char *task, *args, *out, *err;
    } rows[] = {
        {"fails_once", "{}", "true\n", "attempt 1 failed"},
        {"sends", "{\"count\": 2}", "null\n", "message {\"n\":0}\nmessage {\"n\":1}\n"},
        {"reads", "{\"for\": 1}", "[\"none\"]\n", ""},
        {"reads", "{}", "", "nobody to send a message"},
    };
    struct server *s = prepare(config(""));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *out, *err;
        const char *argv[] = {errand_binary(), "run", rows[i].task, rows[i].args, NULL};
        cr_expect_eq(run(s->folder, argv, NULL, &out, &err), i == 3);
        cr_expect_str_eq(out, rows[i].out);
        REQUIRE(strstr(err, rows[i].err), "%s", err);
    }
    cr_expect_eq(count(s, "done"), 3);
}
