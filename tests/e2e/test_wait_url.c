/* Turns that wait in place over HTTP: commands, and workers elsewhere. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SUITE(wait_url);

/* sh runs a script in which WAIT is the address to wait at; waits asks there once
 * and says what came back: "HTTP/1.1 200 OK", ... */
#define SH "export WAIT=$ERRAND_LEASE_URL/wait; eval \\\"$0\\\""
#define WAITS "exec curl -si --max-time 90 --json \\\"$0\\\" \\\"$ERRAND_LEASE_URL/wait\\\""
#define CONFIG                                                                                   \
    "tasks:\n"                                                                                   \
    "  echo: {kind: native, module: $NATIVE}\n"                                                  \
    "  hold: {kind: native, module: $NATIVE}\n"                                                  \
    "  far: {kind: remote}\n"                                                                    \
    "  brief: {kind: remote, timeout: 1s}\n"                                                     \
    "  sh: {kind: command, run: [sh, -c, \"" SH "\", '{text}'], params: {text: string}}\n"       \
    "  waits: {kind: command, run: [sh, -c, \"" WAITS "\", '{text}'], params: {text: string}}\n" \
    "  hurried: {kind: command, run: [sh, -c, \"" SH "\", '{text}'], params: {text: string}, timeout: 1s}\n"

static char *held(struct server *s)
{
    return submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
}

/* One that is there and does not start before it is let. */
static char *later(struct server *s)
{
    return submit(s, "{'task': 'echo', 'args': {'n': 7}, 'delay': '1h'}");
}

static void begin_now(struct server *s, const char *id)
{
    EXPECT(patch(s, format("/invocations/%s", id), "{'run_at': '2020-01-01T00:00:00Z'}"), 200);
}

static char *escaped(const char *text)
{
    char *out = calloc(2, strlen(text) + 1), *at = out;
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            *at++ = '\\';
        *at++ = *text;
    }
    return out;
}

static char *run_with(struct server *s, const char *task, const char *text)
{
    return submit(s, "{'task': '%s', 'args': ['%s']}", task, escaped(text));
}

/* {"on":{"ids":["ID"]}} */
static char *on(const char *id)
{
    return quoted(format("{'on':{'ids':['%s']}}", id));
}

static char *output(struct server *s, const char *id)
{
    struct reply *ended = final(s, id);
    REQUIRE(strcmp(text_of(ended, "status"), "succeeded") == 0, "%s", ended->body);
    return strdup(text_of(ended, "result"));
}

#define EXPECT_IN(text, part) REQUIRE(strstr(text, part), "no %s in %s", part, text)

/* --- commands -------------------------------------------------------------------------- */

Test(wait_url, a_command_that_waits_holds_no_slot_and_hears_how_it_ended)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *target = later(s), *waiter = run_with(s, "waits", on(target));
    AWAIT_STATUS(s, waiter, "waiting");
    char *other = held(s);
    AWAIT_STATUS(s, other, "running");
    begin_now(s, target);
    touch(file_in(s, "go"));
    char *answer = output(s, waiter);
    EXPECT_IN(answer, "HTTP/1.1 200");
    EXPECT_IN(answer, format("{\"results\":[{\"id\":\"%s\",\"status\":\"succeeded\",\"result\":{\"n\": 7},"
                             "\"error\":null}],\"cancel\":false,\"timed_out\":false}",
                             target));
}

Test(wait_url, what_has_ended_already_is_answered_at_once)
{
    struct server *s = serve(CONFIG);
    char *one = submit(s, "{'task': 'echo', 'args': 1}"), *two = later(s);
    final(s, one);
    EXPECT_IN(output(s, run_with(s, "waits", on(one))), "HTTP/1.1 200");
    char *any = quoted(format("{'on':{'ids':['%s','%s','%s'],'mode':'any'}}", two, one, two));
    char *answer = output(s, run_with(s, "waits", any));
    EXPECT_IN(answer, "HTTP/1.1 200");
    EXPECT_IN(answer, "\"status\":\"scheduled\"");
}

/* Ten wait for one and go on together: with two slots, two at a time. */
Test(wait_url, who_goes_on_takes_a_slot_and_no_more_run_than_there_are)
{
    enum { COUNT = 10 };
    struct server *s = serve("slots: 2\n" CONFIG);
    char *target = later(s), *ids[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char *script = format("curl -sf --max-time 90 --json '%s' $WAIT >/dev/null || exit 1; echo + >>marks; "
                              "sleep 0.05; echo - >>marks",
                              on(target));
        ids[i] = run_with(s, "sh", script);
        AWAIT_STATUS(s, ids[i], "waiting");
    }
    begin_now(s, target);
    for (int i = 0; i < COUNT; i++)
        output(s, ids[i]);
    int now = 0, most = 0;
    for (const char *at = read_whole(file_in(s, "marks")); *at; at++) {
        now += *at == '+' ? 1 : *at == '-' ? -1 : 0;
        most = now > most ? now : most;
    }
    REQUIRE(most <= 2 && now == 0, "%d at once", most);
}

Test(wait_url, who_goes_on_does_so_before_new_work)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *target = later(s), *waiter = run_with(s, "waits", on(target));
    AWAIT_STATUS(s, waiter, "waiting");
    char *first = held(s);
    AWAIT_STATUS(s, first, "running");
    char *second = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "never"));
    EXPECT(post(s, format("/invocations/%s/cancel", target), NULL), 200);
    touch(file_in(s, "go"));
    EXPECT_IN(output(s, waiter), "\"status\":\"cancelled\"");
    AWAIT_STATUS(s, second, "running");
    touch(file_in(s, "never"));
}

Test(wait_url, the_timeout_stands_still_while_it_waits_and_goes_on_after)
{
    struct server *s = serve(CONFIG);
    char *target = later(s);
    char *wait = format("curl -sf --max-time 90 --json '%s' $WAIT", on(target));
    char *patient = run_with(s, "hurried", wait), *slow = run_with(s, "hurried", format("%s; sleep 5", wait));
    AWAIT_STATUS(s, patient, "waiting");
    AWAIT_STATUS(s, slow, "waiting");
    for (int64_t until = now_ms() + 1500; now_ms() < until;)
        breathe();
    begin_now(s, target);
    EXPECT_IN(output(s, patient), "succeeded");
    EXPECT_TEXT(final(s, slow), "error.type", "timeout");
}

Test(wait_url, a_wait_that_cannot_be_is_refused)
{
    struct server *s = serve(CONFIG);
    char *self = run_with(s, "sh", "curl -s --json \"{\\\"on\\\":{\\\"ids\\\":[\\\"$ERRAND_ID\\\"]}}\" $WAIT");
    EXPECT_IN(output(s, self), "wait-cycle");
    EXPECT_IN(output(s, run_with(s, "waits", on("0123456789ABC"))), "there is no invocation 0123456789ABC");

    static const char *const rows[] = {
        "{}",
        "{'on':{}}",
        "{'on':{'ids':[]}}",
        "{'on':{'ids':['x']}}",
        "{'on':{'ids':[7]}}",
        "{'on':{'ids':['0123456789ABC'],'mode':'most'}}",
        "{'on':{'ids':['0123456789ABC']},'wait':'61s'}",
        "{'on':{'ids':['0123456789ABC']},'timeout':5}",
        "{'on':{'ids':['0123456789ABC'],'inbox':true}}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        EXPECT_IN(output(s, run_with(s, "waits", quoted(rows[i]))), "HTTP/1.1 422");
}

/* The second waits for the first, which then waits for the second. */
Test(wait_url, a_circle_of_two_is_refused)
{
    struct server *s = serve(CONFIG);
    char *first = run_with(s, "sh",
                           "while [ ! -e other ]; do sleep 0.02; done; "
                           "curl -si --json \"{\\\"on\\\":{\\\"ids\\\":[\\\"$(cat other)\\\"]}}\" $WAIT");
    char *second = run_with(s, "waits", on(first));
    AWAIT_STATUS(s, second, "waiting");
    write_whole(file_in(s, "other.new"), second);
    rename(file_in(s, "other.new"), file_in(s, "other"));
    EXPECT_IN(output(s, first), "wait-cycle");
    EXPECT_IN(output(s, second), "HTTP/1.1 200");
}

Test(wait_url, a_wait_may_have_a_time_of_its_own)
{
    struct server *s = serve(CONFIG);
    char *target = later(s);
    char *answer =
        output(s, run_with(s, "waits", quoted(format("{'on':{'ids':['%s']},'timeout':'100ms'}", target))));
    EXPECT_IN(answer, "HTTP/1.1 200");
    EXPECT_IN(answer, "\"timed_out\":true");
}

Test(wait_url, an_answer_comes_in_time_and_the_same_wait_goes_on)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *target = later(s);
    char *once = quoted(format("{'on':{'ids':['%s']},'wait':'50ms'}", target));
    char *waiter = run_with(s, "sh",
                            format("curl -s -w %%{http_code} --json '%s' $WAIT >first; "
                                   "while [ ! -e ask ]; do sleep 0.02; done; "
                                   "curl -si --json '%s' $WAIT",
                                   once, on(target)));
    WAIT_UNTIL(strstr(read_whole(file_in(s, "first")), "202"));
    AWAIT_STATUS(s, waiter, "waiting");
    begin_now(s, target);
    final(s, target);
    AWAIT_STATUS(s, waiter, "waiting"); /* it is woken, and nobody asks: no slot is held by nobody */
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    touch(file_in(s, "ask"));
    EXPECT_IN(output(s, waiter), "HTTP/1.1 200");
}

/* It asks for others than before, once nobody asks for those. */
Test(wait_url, another_wait_takes_the_place_of_one_that_nobody_asks_for)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *never = later(s), *target = later(s);
    char *once = quoted(format("{'on':{'ids':['%s']},'wait':'50ms'}", never));
    char *waiter = run_with(
        s, "sh",
        format("curl -s --json '%s' $WAIT >/dev/null; touch left; curl -si --json '%s' $WAIT", once, on(target)));
    WAIT_UNTIL(exists(file_in(s, "left")));
    begin_now(s, target);
    EXPECT_IN(output(s, waiter), "HTTP/1.1 200");
    EXPECT_TEXT(get(s, "/invocations/%s", never), "status", "scheduled");
}

/* A client that leaves in the middle: the turn's next word ends the wait. */
Test(wait_url, who_says_anything_else_waits_no_longer)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *target = later(s);
    char *script = format("curl -s --max-time 0.3 --json '%s' $WAIT; while [ ! -e on ]; do sleep 0.02; done; "
                          "curl -s -X POST $ERRAND_LEASE_URL/heartbeat; while [ ! -e end ]; do sleep 0.02; done",
                          on(target));
    char *waiter = run_with(s, "sh", script);
    AWAIT_STATUS(s, waiter, "waiting");
    char *other = held(s);
    AWAIT_STATUS(s, other, "running");
    touch(file_in(s, "on"));
    EXPECT_TEXT(get(s, "/invocations/%s", waiter), "status", "waiting"); /* there is no slot yet */
    touch(file_in(s, "go"));
    AWAIT_STATUS(s, waiter, "running");
    touch(file_in(s, "end"));
    output(s, waiter);
}

Test(wait_url, a_cancellation_ends_the_wait_and_says_so)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *target = later(s);
    char *deaf = run_with(s, "sh", format("trap '' TERM; curl -si --json '%s' $WAIT", on(target)));
    AWAIT_STATUS(s, deaf, "waiting");
    EXPECT(post(s, format("/invocations/%s/cancel", deaf), NULL), 200);
    EXPECT_IN(output(s, deaf), "\"cancel\":true");
    char *heeding = run_with(s, "waits", on(target));
    AWAIT_STATUS(s, heeding, "waiting");
    EXPECT(post(s, format("/invocations/%s/cancel", heeding), NULL), 200);
    EXPECT_TEXT(final(s, heeding), "status", "cancelled");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
}

Test(wait_url, a_command_that_ends_while_it_waits_leaves_nothing_behind)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *target = later(s);
    for (int i = 0; i < 3; i++) {
        char *id = run_with(s, "sh", format("curl -s --json '%s' $WAIT & sleep 0.2; exit %d", on(target), i));
        EXPECT_TEXT(final(s, id), "status", i ? "failed" : "succeeded");
    }
    begin_now(s, target);
    EXPECT_TEXT(final(s, target), "status", "succeeded");
    cr_expect_eq(terminate(s), 0);
}

Test(wait_url, a_stop_does_not_wait_for_commands_that_wait)
{
    static const char *const policies[] = {"cancel", "join", "kill"};
    for (int i = 0; i < 3; i++) {
        struct server *s = serve(CONFIG);
        char *target = later(s), *waiter = run_with(s, "waits", on(target));
        AWAIT_STATUS(s, waiter, "waiting");
        EXPECT(post(s, format("/shutdown?policy=%s", policies[i]), NULL), 202);
        cr_expect_eq(await_exit(s), 0);
        start(s);
        EXPECT_NUMBER(AWAIT_STATUS(s, waiter, "waiting"), "attempt", 2);
        begin_now(s, target);
        EXPECT_IN(output(s, waiter), "HTTP/1.1 200");
    }
}

Test(wait_url, a_command_that_waits_at_a_crash_runs_again)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *target = later(s), *waiter = run_with(s, "waits", on(target));
    AWAIT_STATUS(s, waiter, "waiting");
    restart(s);
    AWAIT_STATUS(s, waiter, "waiting");
    begin_now(s, target);
    EXPECT_IN(output(s, waiter), "HTTP/1.1 200");
}

Test(wait_url, what_is_long_is_left_out_of_the_answer)
{
    struct server *s = serve(CONFIG);
    char *large = calloc(1, 700001);
    memset(large, 'x', 700000);
    char *one = submit(s, "{'task': 'echo', 'args': '%s'}", large);
    char *two = submit(s, "{'task': 'echo', 'args': '%s'}", large);
    char *answer = output(s, run_with(s, "waits", quoted(format("{'on':{'ids':['%s','%s']}}", one, two))));
    EXPECT_IN(answer, format("{\"id\":\"%s\",\"status\":\"succeeded\",\"result\":null,\"error\":null,"
                             "\"left_out\":true}",
                             two));
    REQUIRE(strlen(answer) > 700000 && strlen(answer) < 710000);
}

/* --- workers elsewhere --------------------------------------------------------------------- */

static char *lease_of(struct server *s, const char *task, const char *length)
{
    submit(s, "{'task': '%s'}", task);
    struct reply *r = EXPECT(
        post(s, "/leases", "{'worker': 'w', 'tasks': ['%s'], 'lease': '%s', 'wait': '20s'}", task, length), 200);
    return strdup(text_of(r, "leases.0.token"));
}

static char *id_of(const char *token)
{
    return format("%.13s", token);
}

static struct client *ask_to_wait(struct server *s, const char *token, const char *body)
{
    struct client *client = client_open(s);
    client_ask(client, "POST", format("/leases/%s/wait", token), "Content-Type: application/json\r\n", body,
               strlen(body));
    return client;
}

Test(wait_url, a_turn_elsewhere_waits_and_its_lease_and_timeout_stay)
{
    struct server *s = serve(CONFIG);
    char *target = later(s), *token = lease_of(s, "brief", "1s");
    struct client *client = ask_to_wait(s, token, on(target));
    AWAIT_STATUS(s, id_of(token), "waiting");
    for (int64_t until = now_ms() + 2500; now_ms() < until;)
        breathe();
    EXPECT_TEXT(get(s, "/invocations/%s", id_of(token)), "status", "waiting");
    begin_now(s, target);
    struct reply *r = EXPECT(client_receive(client, false), 200);
    EXPECT_TEXT(r, "results.0.status", "succeeded");
    AWAIT_STATUS(s, id_of(token), "running");
    EXPECT(post(s, format("/leases/%s/complete", token), "{'result': 1}"), 204);
}

Test(wait_url, a_turn_elsewhere_asks_again_and_misses_nothing)
{
    struct server *s = serve(CONFIG);
    char *target = later(s), *token = lease_of(s, "far", "30s"), *path = format("/leases/%s/wait", token);
    char *once = format("{'on':{'ids':['%s']},'wait':'50ms'}", target);
    EXPECT(post(s, path, "%s", quoted(once)), 202);
    EXPECT_TEXT(EXPECT(post(s, path, "%s", quoted(once)), 202), "results.0.status", "scheduled");
    EXPECT_TEXT(get(s, "/invocations/%s", id_of(token)), "status", "waiting");
    begin_now(s, target);
    final(s, target);
    AWAIT_STATUS(s, id_of(token), "running"); /* it needs no slot */
    EXPECT_TEXT(EXPECT(post(s, path, "%s", quoted(once)), 200), "results.0.status", "succeeded");
    EXPECT(post(s, format("/leases/%s/complete", token), "{'result': 1}"), 204);
}

Test(wait_url, a_wait_elsewhere_goes_on_after_a_crash_of_the_server)
{
    struct server *s = serve(CONFIG);
    char *target = later(s), *token = lease_of(s, "far", "30s");
    ask_to_wait(s, token, on(target));
    AWAIT_STATUS(s, id_of(token), "waiting");
    restart(s);
    EXPECT_TEXT(get(s, "/invocations/%s", id_of(token)), "status", "waiting");
    struct client *client = ask_to_wait(s, token, on(target));
    begin_now(s, target);
    EXPECT_TEXT(EXPECT(client_receive(client, false), 200), "results.0.status", "succeeded");

    char *second = later(s), *path = format("/leases/%s/wait", token);
    EXPECT(post(s, path, "{'on':{'ids':['%s']},'wait':'50ms'}", second), 202);
    restart(s);
    begin_now(s, second); /* nobody asks for it */
    AWAIT_STATUS(s, id_of(token), "running");
    EXPECT(post(s, path, "%s", on(second)), 200);
}

Test(wait_url, a_stop_answers_who_waits_elsewhere)
{
    struct server *s = serve(CONFIG);
    char *target = later(s), *token = lease_of(s, "far", "30s");
    struct client *client = ask_to_wait(s, token, on(target));
    AWAIT_STATUS(s, id_of(token), "waiting");
    send_signal(s, SIGTERM);
    EXPECT(client_receive(client, false), 202);
    cr_expect_eq(await_exit(s), 0);
    start(s);
    begin_now(s, target);
    EXPECT(post(s, format("/leases/%s/wait", token), "%s", on(target)), 200);
}

Test(wait_url, a_worker_that_left_while_it_waits_loses_its_lease)
{
    struct server *s = serve(CONFIG);
    char *target = later(s), *token = lease_of(s, "far", "1s");
    struct client *client = ask_to_wait(s, token, on(target));
    AWAIT_STATUS(s, id_of(token), "waiting");
    client_close(client);
    AWAIT_STATUS(s, id_of(token), "queued");
    EXPECT_PROBLEM(post(s, format("/leases/%s/wait", token), "%s", on(target)), 409, "stale-lease");
}

/* Whoever asked before is told to, or has left: neither takes from the lease what the
 * next one holds. Nor does a heartbeat. */
Test(wait_url, a_lease_is_held_as_long_as_anybody_asks)
{
    struct server *s = serve(CONFIG);
    char *target = later(s), *token = lease_of(s, "far", "1s");
    struct client *first = ask_to_wait(s, token, on(target));
    AWAIT_STATUS(s, id_of(token), "waiting");
    struct client *second = ask_to_wait(s, token, on(target));
    EXPECT(client_receive(first, false), 202);
    client_close(first);
    EXPECT(post(s, format("/leases/%s/heartbeat", token), "{}"), 200);
    for (int64_t until = now_ms() + 2500; now_ms() < until;)
        breathe();
    EXPECT_TEXT(get(s, "/invocations/%s", id_of(token)), "status", "waiting");
    begin_now(s, target);
    EXPECT(client_receive(second, false), 200);
    EXPECT(post(s, format("/leases/%s/complete", token), "{'result': 1}"), 204);
}

Test(wait_url, a_cancellation_reaches_who_waits_elsewhere)
{
    struct server *s = serve(CONFIG);
    char *target = later(s), *token = lease_of(s, "far", "30s"), *path = format("/leases/%s/wait", token);
    struct client *client = ask_to_wait(s, token, on(target));
    AWAIT_STATUS(s, id_of(token), "waiting");
    EXPECT(post(s, format("/invocations/%s/cancel", id_of(token)), NULL), 200);
    REQUIRE(cJSON_IsTrue(field(EXPECT(client_receive(client, false), 200), "cancel")));
    REQUIRE(cJSON_IsTrue(field(EXPECT(post(s, path, "%s", on(target)), 200), "cancel")));
    EXPECT(post(s, format("/leases/%s/fail", token), "{'error': {'type': 'cancelled'}}"), 204);
    EXPECT_TEXT(final(s, id_of(token)), "status", "cancelled");
}

Test(wait_url, two_waits_of_one_turn_at_once_are_refused_unless_they_are_the_same)
{
    struct server *s = serve(CONFIG);
    char *one = later(s), *two = later(s), *token = lease_of(s, "far", "30s");
    struct client *first = ask_to_wait(s, token, on(one));
    AWAIT_STATUS(s, id_of(token), "waiting");
    EXPECT_PROBLEM(post(s, format("/leases/%s/wait", token), "%s", on(two)), 409, "conflict");
    struct client *again = ask_to_wait(s, token, on(one));
    EXPECT(client_receive(first, false), 202);
    begin_now(s, one);
    EXPECT(client_receive(again, false), 200);
}

/* --- and suspends ---------------------------------------------------------------------- */

#define SUSPEND(until) "curl -sf --json '{\"on\":{\"until\":\"" until "\"}}' $ERRAND_LEASE_URL/suspend || exit 1; "

Test(wait_url, a_wait_is_over_when_the_turn_suspends)
{
    struct server *s = serve("slots: 1\n" CONFIG);
    char *target = later(s);
    char *script = format(
        "curl -s --json '%s' $WAIT >waited & while [ ! -e go ]; do sleep 0.01; done; " SUSPEND("1h") "wait; "
                                                                                                     "touch ended",
        on(target));
    char *id = run_with(s, "sh", script);
    AWAIT_STATUS(s, id, "waiting");
    touch(file_in(s, "go"));
    WAIT_UNTIL(exists(file_in(s, "ended")));
    EXPECT_IN(read_whole(file_in(s, "waited")), "stale-lease");
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "waiting");
}

Test(wait_url, what_goes_on_of_one_that_was_woken_ends_when_that_is_cancelled)
{
    struct server *s = serve(CONFIG);
    char *id = run_with(s, "sh", SUSPEND("0s") "echo $$ >pid; mv pid mine; exec sleep 100");
    AWAIT_STATUS(s, id, "queued");
    WAIT_UNTIL(exists(file_in(s, "mine")));
    pid_t pid = atoi(read_whole(file_in(s, "mine")));
    REQUIRE(is_alive(pid));
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200), "status", "cancelled");
    WAIT_UNTIL(!is_alive(pid));
}

Test(wait_url, who_asks_gets_what_a_last_process_held_up_as_soon_as_that_has_ended)
{
    struct server *s = serve(CONFIG);
    char *id = run_with(s, "sh", SUSPEND("0s") "touch there; while [ ! -e go ]; do sleep 0.01; done");
    AWAIT_STATUS(s, id, "queued");
    WAIT_UNTIL(exists(file_in(s, "there")));
    configure(s, "tasks: {sh: {kind: remote}}\n");
    send_signal(s, SIGHUP);
    WAIT_UNTIL(strstr(get(s, "/tasks/sh")->body, "\"remote\""));
    struct client *client = client_open(s);
    char *body = quoted("{'worker': 'w', 'wait': '60s'}");
    client_ask(client, "POST", "/leases", "Content-Type: application/json\r\n", body, strlen(body));
    int64_t asked = now_ms();
    EXPECT(get(s, "/healthz"), 200); /* the ask came before this */
    touch(file_in(s, "go"));
    EXPECT_TEXT(EXPECT(client_receive(client, false), 200), "leases.0.invocation.id", id);
    REQUIRE(now_ms() - asked < PATIENCE_MS);
}
