/* Bodies that submit others and wait for them in place: without a slot, without
 * a circle, and over everything that can happen meanwhile. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SUITE(waiting);

#define CONFIG                                                                      \
    "tasks:\n"                                                                      \
    "  echo: {kind: native, module: $NATIVE}\n"                                     \
    "  hold: {kind: native, module: $NATIVE}\n"                                     \
    "  waits: {kind: native, module: $NATIVE}\n"                                    \
    "  hurried: {kind: native, module: $NATIVE, function: waits, timeout: 300ms}\n" \
    "  tree: {kind: native, module: $NATIVE}\n"                                     \
    "  most: {kind: native, module: $NATIVE}\n"

/* 2^(depth + 1) - 1 of them. */
enum { DEPTH = 6, TREE = 127 };

static char *submit_parent(struct server *s, const char *child)
{
    char *id = submit(s, "{'task': 'waits', 'args': {'child': %s}}", child);
    AWAIT_STATUS(s, id, "waiting");
    return id;
}

/* As the parent has logged it. */
static char *child_of(struct server *s, const char *parent)
{
    struct reply *log;
    WAIT_UNTIL((log = EXPECT(get(s, "/invocations/%s/log", parent), 200))->length > 13);
    return format("%.13s", log->body);
}

static char *held_child(struct server *s)
{
    return quoted(format("{'task': 'hold', 'args': '%s', 'step': 'child'}", file_in(s, "go")));
}

Test(waiting, a_tree_of_bodies_ends_with_any_number_of_slots_and_no_more_run)
{
    static const int slots[] = {1, 2, 8};
    for (int i = 0; i < 3; i++) {
        struct server *s = serve(format("slots: %d\n" CONFIG, slots[i]));
        struct reply *top = final(s, submit(s, "{'task': 'tree', 'args': {'depth': %d}}", DEPTH));
        EXPECT_TEXT(top, "status", "succeeded");
        EXPECT_NUMBER(top, "result", TREE);
        EXPECT_NUMBER(get(s, "/stats"), "invocations.succeeded", TREE);
        struct reply *most = final(s, submit(s, "{'task': 'most'}"));
        REQUIRE(number_of(most, "result") <= slots[i], "%g ran at once", number_of(most, "result"));
        cr_expect_eq(terminate(s), 0);
    }
}

Test(waiting, who_waits_is_shown_and_holds_no_slot)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *parent = submit_parent(s, held_child(s));
    AWAIT_STATUS(s, child_of(s, parent), "running");
    EXPECT_TEXT(EXPECT(get(s, "/invocations?status=waiting"), 200), "items.0.id", parent);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.waiting", 1);
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, parent), "result.status", "succeeded");
}

/* One slot; the others each keep it until they are let go. */
Test(waiting, what_is_waited_for_and_who_resumes_overtake_what_waited_longer)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *first = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, first, "running");
    char *parent =
        submit(s, "{'task': 'waits', 'args': {'child': {'task': 'hold', 'args': '%s'}}}", file_in(s, "child"));
    char *others[3];
    for (int i = 0; i < 3; i++)
        others[i] = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, format("other-%d", i)));
    touch(file_in(s, "go"));
    AWAIT_STATUS(s, parent, "waiting");
    int between = 0; /* who took the slot before it was known what the parent waits for */
    struct reply *log;
    WAIT_UNTIL((log = get(s, "/invocations/%s/log", parent))->length > 13 ||
               strcmp(text_of(get(s, "/invocations/%s", others[0]), "status"), "running") == 0);
    if (log->length <= 13)
        touch(file_in(s, format("other-%d", between++)));
    AWAIT_STATUS(s, child_of(s, parent), "running");
    EXPECT_TEXT(get(s, "/invocations/%s", others[between]), "status", "queued");
    touch(file_in(s, "child"));
    AWAIT_STATUS(s, others[between], "running"); /* before the child's end is on disk */
    touch(file_in(s, format("other-%d", between)));
    EXPECT_TEXT(final(s, parent), "status", "succeeded");
    for (int i = 0; i < 3; i++)
        touch(file_in(s, format("other-%d", i)));
    final(s, others[2]);
}

Test(waiting, a_failed_or_cancelled_one_ends_the_wait_as_well)
{
    struct server *s = serve(CONFIG);
    char *parent = submit_parent(s, held_child(s));
    EXPECT(post(s, format("/invocations/%s/cancel", child_of(s, parent)), NULL), 200);
    EXPECT_TEXT(final(s, parent), "result.status", "cancelled");
}

Test(waiting, a_cancellation_reaches_who_waits_and_its_children)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *parent = submit_parent(s, held_child(s)), *child = child_of(s, parent);
    AWAIT_STATUS(s, child, "running");
    EXPECT(post(s, format("/invocations/%s/cancel", parent), NULL), 200);
    EXPECT_TEXT(final(s, parent), "status", "cancelled");
    EXPECT_TEXT(final(s, child), "status", "cancelled");
}

Test(waiting, a_wait_has_its_own_time_and_the_timeout_stands_still)
{
    struct server *s = serve(CONFIG);
    char *tired = submit(s, "{'task': 'waits', 'args': {'for': 50, 'child': %s}}", held_child(s));
    EXPECT_TEXT(final(s, tired), "result", "timed out");
    char *patient = submit(s, "{'task': 'hurried', 'args': {'for': 800, 'on': '%s'}}", child_of(s, tired));
    EXPECT_TEXT(final(s, patient), "result", "timed out");
    touch(file_in(s, "go"));
}

Test(waiting, a_circle_is_refused_and_so_is_what_is_not_there)
{
    struct server *s = serve(CONFIG);
    char *parent = submit(s, "{'task': 'waits', 'args': {'on': 'nonsense'}}");
    EXPECT_HAS(final(s, parent), "is no id");
    parent = submit(s, "{'task': 'waits', 'args': {'on': '0123456789ABC'}}");
    EXPECT_HAS(final(s, parent), "there is no invocation 0123456789ABC");

    /* The second waits for the first, which then waits for the second. */
    char *first = submit_parent(s, quoted("{'task': 'waits', 'delay': '200ms', 'args': {'on': 'PARENT'}}"));
    EXPECT_TEXT(final(s, first), "result.status", "failed"); /* PARENT is no id: nothing to do with circles */
    char *self = submit(s, "{'task': 'waits', 'delay': '1h', 'args': null}");
    EXPECT(patch(s, format("/invocations/%s", self), "{'priority': 2}"), 200);
}

Test(waiting, what_a_body_submits_wrongly_is_refused_with_the_reason)
{
    static const char *const rows[][2] = {
        {"{'task': 'ech'}", "did you mean `echo`?"},
        {"{'task': 'echo', 'step': ''}", "a step's name has 1 to 255 characters"},
        {"{'task': 'echo', 'step': 's', 'key': 'k'}", "step and key exclude each other"},
        {"{'task': 'echo', 'detached': 1}", "must be true or false"},
        {"[]", "a submission is an object"},
    };
    struct server *s = serve(CONFIG);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *id = submit(s, "{'task': 'waits', 'args': {'child': %s}}", quoted(rows[i][0]));
        EXPECT_HAS(final(s, id), rows[i][1]);
    }
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'step': 's'}"), 422, "invalid-request");
}

Test(waiting, a_body_that_runs_again_finds_its_steps)
{
    struct server *s = serve(CONFIG);
    char *parent = submit_parent(s, held_child(s)), *child = child_of(s, parent);
    AWAIT_STATUS(s, child, "running");
    restart(s);
    AWAIT_STATUS(s, parent, "waiting");
    AWAIT_STATUS(s, child, "running");
    touch(file_in(s, "go"));
    struct reply *ended = final(s, parent);
    EXPECT_TEXT(ended, "result.status", "succeeded");
    EXPECT_NUMBER(ended, "attempt", 2);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.succeeded", 2);
}

Test(waiting, a_stop_does_not_wait_for_who_waits)
{
    static const char *const policies[] = {"cancel", "kill"};
    for (int i = 0; i < 2; i++) {
        struct server *s = serve(CONFIG);
        char *first = submit(s, "{'task': 'echo', 'delay': '1h'}");
        char *parent = submit(s, "{'task': 'waits', 'args': {'on': '%s'}}", first);
        AWAIT_STATUS(s, parent, "waiting");
        EXPECT(post(s, format("/shutdown?policy=%s", policies[i]), NULL), 202);
        cr_expect_eq(await_exit(s), 0);
        start(s);
        struct reply *again = AWAIT_STATUS(s, parent, "waiting");
        EXPECT_NUMBER(again, "attempt", 2);
        EXPECT_NUMBER(again, "max_retries", 0);
    }
}

/* With `join` a parent may go on as long as anything comes: here its child. What
 * waits for a time is stopped. */
Test(waiting, a_join_runs_the_children_too_and_stops_who_waits_for_what_does_not_come)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *late = submit(s, "{'task': 'echo', 'delay': '1h'}");
    char *stuck = submit(s, "{'task': 'waits', 'args': {'on': '%s'}}", late);
    char *parent = submit_parent(s, held_child(s));
    AWAIT_STATUS(s, stuck, "waiting");
    EXPECT(post(s, "/shutdown?policy=join", NULL), 202);
    touch(file_in(s, "go"));
    cr_expect_eq(await_exit(s), 0);
    start(s);
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s", parent), 200), "status", "succeeded");
    AWAIT_STATUS(s, stuck, "waiting");
}

/* Killed again and again amid a tree: it ends once, right, and no child is made
 * twice. Which bodies run at each kill is chance, and who ran at too many pays. */
Test(waiting, a_tree_survives_kills_at_any_moment)
{
    struct server *s = serve("slots: 4\nlog: {level: error}\ndefaults: {max_recoveries: 100}\n" CONFIG);
    char *top = submit(s, "{'task': 'tree', 'args': {'depth': %d}, 'max_retries': 0}", DEPTH);
    for (int i = 0; i < 8; i++) {
        double before = number_of(get(s, "/stats"), "invocations.succeeded");
        WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.succeeded") >= before + 5);
        restart(s);
    }
    struct reply *ended = final(s, top);
    EXPECT_TEXT(ended, "status", "succeeded");
    EXPECT_NUMBER(ended, "result", TREE);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.succeeded", TREE);
}

Test(waiting, in_the_foreground_there_is_nobody_to_submit_to)
{
    struct server *s = prepare(CONFIG);
    char *out, *err;
    const char *argv[] = {errand_binary(), "run", "waits", "{\"child\": {\"task\": \"echo\"}}", NULL};
    cr_expect_eq(run(file_in(s, "."), argv, NULL, &out, &err), 1);
    REQUIRE(strstr(err, "there is no server to submit to"), "%s", err);
}

/* --- over faults -------------------------------------------------------------------------- */

/* They were refused at once, where a claim or an end is tried again. */
Test(waiting, what_a_body_asks_outlasts_a_fault_of_the_disk)
{
    static const bool of_child[] = {true, false};
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    for (int i = 0; i < 2; i++) {
        struct server *s = prepare(CONFIG);
        char *bad = file_in(s, "bad"), *gate = file_in(s, "gate");
        s->variables =
            (const char *[]){format("LD_PRELOAD=%s", native("bad_disk")), format("BAD_DISK=%s", bad), NULL};
        start(s);
        char *other = submit(s, "{'task': 'echo', 'args': 1, 'delay': '1h'}");
        char *what =
            of_child[i] ? quoted("'child': {'task': 'echo', 'step': 'c'}") : quoted(format("'on': '%s'", other));
        char *id = submit(s, "{'task': 'waits', 'args': {'gate': '%s', %s}}", gate, what);
        AWAIT_STATUS(s, id, "running");
        touch(bad);
        touch(gate);
        WAIT_UNTIL(get(s, "/readyz")->status == 503);
        for (int64_t until = now_ms() + 1500; now_ms() < until;)
            breathe();
        EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "running");
        unlink(bad);
        if (!of_child[i]) {
            AWAIT_STATUS(s, id, "waiting");
            EXPECT(post(s, format("/invocations/%s/cancel", other), NULL), 200);
        }
        EXPECT_TEXT(final(s, id), "result.status", of_child[i] ? "succeeded" : "cancelled");
    }
}

Test(waiting, a_stop_ends_what_is_tried_again)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct server *s = prepare(CONFIG);
    char *bad = file_in(s, "bad"), *gate = file_in(s, "gate"), *mark = file_in(s, "mark");
    s->variables = (const char *[]){format("LD_PRELOAD=%s", native("bad_disk")), format("BAD_DISK=%s", bad), NULL};
    start(s);
    char *other = submit(s, "{'task': 'echo', 'delay': '1h'}");
    submit(s, "{'task': 'waits', 'args': {'gate': '%s', 'mark': '%s', 'on': '%s'}}", gate, mark, other);
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.running") == 1);
    touch(bad);
    touch(gate);
    WAIT_UNTIL(get(s, "/readyz")->status == 503);
    EXPECT(post(s, "/shutdown?policy=kill", NULL), 202);
    WAIT_UNTIL(*read_whole(mark));
    cr_expect_str_eq(strchr(read_whole(mark), ' '), " 1");
}

/* It heard "stop" from the wait, and errand_cancelled() said no. */
Test(waiting, a_body_whose_lease_is_lost_hears_of_it_from_both_words)
{
    struct server *s = serve(CONFIG);
    char *gate = file_in(s, "gate"), *mark = file_in(s, "mark"), *why = NULL;
    char *other = submit(s, "{'task': 'echo', 'delay': '1h'}");
    char *id = submit(s, "{'task': 'waits', 'args': {'gate': '%s', 'mark': '%s', 'on': '%s'}}", gate, mark, other);
    AWAIT_STATUS(s, id, "running");
    sqlite3 *handle;
    cr_assert_eq(sqlite3_open(file_in(s, "errand.db"), &handle), SQLITE_OK);
    sqlite3_busy_timeout(handle, 10000);
    const char *sql = "UPDATE invocations SET lease = 42 WHERE status = 3";
    cr_assert_eq(sqlite3_exec(handle, sql, NULL, NULL, &why), SQLITE_OK, "%s", why);
    sqlite3_close(handle);
    touch(gate);
    WAIT_UNTIL(*read_whole(mark));
    cr_expect_str_eq(strchr(read_whole(mark), ' '), " 1", "%s", read_whole(mark));
}
