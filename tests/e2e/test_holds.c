/* What is held: promises, and those that come after others. */
#include "tests/e2e/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

SUITE(holds);

#define CONFIG "slots: 4\n" TASKS

static struct reply *release(struct server *s, const char *id)
{
    return post(s, format("/invocations/%s/release", id), NULL);
}

/* Is a time that the answer says so many milliseconds after another? */
static double seconds_of(struct reply *r, const char *path)
{
    const char *text = text_of(r, path);
    return strlen(text) < 23 ? -1 : atof(text + 17) + 60 * atof(text + 14) + 3600 * atof(text + 11);
}

/* --- promises ---------------------------------------------------------------------------- */

Test(holds, a_promise_runs_when_it_is_released)
{
    struct server *s = serve(CONFIG);
    struct reply *r = EXPECT(post(s, "/tasks", "{'task': 'count', 'hold': true, 'release_by': '1h'}"), 201);
    EXPECT_NULL(EXPECT_TEXT(EXPECT_TEXT(r, "status", "held"), "hold", "promise"), "group");
    char *id = strdup(text_of(r, "id"));
    EXPECT_TEXT(get(s, "/invocations?status=held"), "items.0.id", id);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.held", 1);
    restart(s);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "hold", "promise");
    cr_expect_str_eq(read_whole(file_in(s, "runs")), "");
    EXPECT_NULL(EXPECT(release(s, id), 200), "hold");
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    EXPECT_TEXT(EXPECT(release(s, id), 200), "status", "succeeded");
    EXPECT_PROBLEM(release(s, "0123456789ABC"), 404, "not-found");
    char *plain = submit(s, "{'task': 'echo'}");
    final(s, plain);
    EXPECT_PROBLEM(release(s, plain), 409, "conflict");
    EXPECT_PROBLEM(post(s, format("/invocations/%s/release", id), "{'x': 1}"), 422, "invalid-request");
}

Test(holds, what_nobody_releases_in_time_is_cancelled)
{
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'count', 'hold': true, 'release_by': '50ms'}");
    EXPECT_TEXT(EXPECT_TEXT(final(s, id), "status", "cancelled"), "error.type", "not_released");
    EXPECT_PROBLEM(release(s, id), 409, "conflict");
    id = submit(s, "{'task': 'count', 'hold': true}");
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200), "status", "cancelled");
    EXPECT_PROBLEM(release(s, id), 409, "conflict");
    struct reply *r = EXPECT(post(s, "/invocations/cancel", "{'filter': {'status': 'held'}}"), 200);
    EXPECT_NUMBER(r, "matched", 0);
    submit(s, "{'task': 'count', 'hold': true}");
    EXPECT_NUMBER(EXPECT(post(s, "/invocations/cancel", "{'filter': {}}"), 200), "changed", 1);
    cr_expect_str_eq(read_whole(file_in(s, "runs")), "");
}

Test(holds, times_count_from_the_release)
{
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'echo', 'hold': true, 'delay': '1h', 'expires_in': '2h'}");
    EXPECT_NULL(EXPECT_NULL(get(s, "/invocations/%s", id), "run_at"), "expires_at");
    struct reply *r = EXPECT_TEXT(EXPECT(release(s, id), 200), "status", "scheduled");
    double after = seconds_of(r, "expires_at") - seconds_of(r, "run_at");
    cr_expect(fabs(after - 3600) < 1 || fabs(after - 3600 + 86400) < 1, "%s", r->body);
}

Test(holds, a_wait_for_a_promise_just_waits)
{
    struct server *s = serve(CONFIG);
    struct client *client = client_open(s);
    const char *body = quoted("{'task': 'echo', 'hold': true, 'args': 7}");
    client_ask(client, "POST", "/tasks", "Content-Type: application/json\r\nPrefer: wait=30\r\n", body,
               strlen(body));
    struct reply *list;
    WAIT_UNTIL((list = get(s, "/invocations?status=held"), text_of(list, "items.0.id")[0]));
    cr_expect_not(client_hears(client, 50));
    EXPECT(release(s, text_of(list, "items.0.id")), 200);
    EXPECT_NUMBER(EXPECT(client_receive(client, false), 201), "result", 7);
}

/* --- dependencies --------------------------------------------------------------------------- */

Test(holds, it_runs_or_is_cancelled_as_its_policy_says)
{
    struct server *s = serve(CONFIG);
    static const struct {
        const char *task, *policy, *status;
    } rows[] = {
        {"echo", "success", "succeeded"}, {"fail", "success", "cancelled"}, {"echo", "any", "succeeded"},
        {"fail", "any", "succeeded"},     {"echo", "failure", "cancelled"}, {"fail", "failure", "succeeded"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *go = file_in(s, format("go%zu", i));
        char *first = submit(s, "{'task': 'hold', 'args': '%s'}", go);
        char *second = submit(s, "{'task': '%s', 'after': ['%s']}", rows[i].task, first);
        char *last = submit(s, "{'task': 'echo', 'after': ['%s', '%s'], 'after_policy': '%s'}", first, second,
                            rows[i].policy);
        struct reply *r = EXPECT_TEXT(get(s, "/invocations/%s", last), "hold", "dependency");
        EXPECT_TEXT(EXPECT_TEXT(r, "after.0", first), "after.1", second);
        touch(go);
        r = EXPECT_TEXT(final(s, last), "status", rows[i].status);
        if (strcmp(rows[i].status, "cancelled") == 0)
            EXPECT_TEXT(r, "error.type", "dependency");
        /* It makes no difference that they have ended before. */
        char *late = submit(s, "{'task': 'echo', 'after': ['%s', '%s'], 'after_policy': '%s'}", second, first,
                            rows[i].policy);
        EXPECT_TEXT(final(s, late), "status", rows[i].status);
    }
}

/* A fault of others: a dependency on nothing counted as met. */
Test(holds, what_is_not_there_is_refused_by_its_id)
{
    struct server *s = serve(CONFIG);
    char *there = submit(s, "{'task': 'echo'}");
    final(s, there);
    struct reply *r = EXPECT_PROBLEM(
        post(s, "/tasks", "{'task': 'count', 'after': ['%s', '0123456789ABC']}", there), 422, "invalid-request");
    EXPECT_HAS(r, "0123456789ABC");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'count', 'after': []}"), 422, "invalid-request");
    r = EXPECT(ask(s, "POST", "/invocations", "Content-Type: application/x-ndjson\r\n",
                   quoted(format("{'task': 'count', 'after': ['0123456789ABC']}\n"
                                 "{'task': 'count', 'after': ['%s']}\n{'task': 'count', 'hold': true}\n",
                                 there))),
               200);
    EXPECT_HAS(EXPECT_HAS(r, "{\"index\":0,\"status\":422"), "0123456789ABC");
    EXPECT_HAS(EXPECT_HAS(r, "{\"index\":1,\"status\":201"), "{\"index\":2,\"status\":201");
    WAIT_UNTIL(strcmp(read_whole(file_in(s, "runs")), "") != 0);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.held", 1);
}

Test(holds, dependencies_survive_a_crash)
{
    struct server *s = serve(CONFIG);
    char *go = file_in(s, "go");
    char *first = submit(s, "{'task': 'hold', 'args': '%s'}", go);
    char *second = submit(s, "{'task': 'echo', 'after': ['%s'], 'args': 2}", first);
    char *third = submit(s, "{'task': 'echo', 'after': ['%s'], 'hold': true}", second);
    AWAIT_STATUS(s, first, "running");
    restart(s);
    EXPECT_TEXT(get(s, "/invocations/%s", second), "status", "held");
    touch(go);
    EXPECT_NUMBER(final(s, second), "result", 2);
    EXPECT_TEXT(get(s, "/invocations/%s", third), "hold", "promise");
    EXPECT(release(s, third), 200);
    EXPECT_TEXT(final(s, third), "status", "succeeded");
}

Test(holds, a_retried_predecessor_holds_again_what_was_cancelled_on_its_account)
{
    struct server *s = serve(CONFIG);
    char *go = file_in(s, "go");
    char *first = submit(s, "{'task': 'hold', 'args': '%s'}", go);
    AWAIT_STATUS(s, first, "running");
    char *second = submit(s, "{'task': 'echo', 'after': ['%s'], 'args': 2}", first);
    EXPECT(post(s, format("/invocations/%s/cancel", first), NULL), 200);
    EXPECT_TEXT(EXPECT_TEXT(final(s, second), "status", "cancelled"), "error.type", "dependency");
    EXPECT_PROBLEM(post(s, format("/invocations/%s/retry", second), NULL), 409, "conflict");
    EXPECT(post(s, format("/invocations/%s/retry", first), NULL), 200);
    AWAIT_STATUS(s, second, "held");
    touch(go);
    EXPECT_TEXT(final(s, first), "status", "succeeded");
    EXPECT_NUMBER(final(s, second), "result", 2);
}

Test(holds, what_it_comes_after_is_kept)
{
    struct server *s = serve(CONFIG);
    char *first = submit(s, "{'task': 'echo', 'args': 1}");
    final(s, first);
    char *second = submit(s, "{'task': 'echo', 'after': ['%s'], 'hold': true}", first);
    EXPECT_PROBLEM(ask(s, "DELETE", format("/invocations/%s", first), NULL, NULL), 409, "conflict");
    EXPECT(release(s, second), 200);
    final(s, second);
    EXPECT(ask(s, "DELETE", format("/invocations/%s", first), NULL, NULL), 204);
}

Test(holds, results_of_those_before_it_stand_in_its_arguments)
{
    struct server *s = serve(CONFIG);
    char *left = submit(s, "{'task': 'echo', 'args': {'n': [4, 5]}}"),
         *right = submit(s, "{'task': 'echo', 'args': 6}");
    char *sum = submit(
        s, "{'task': 'add', 'after': ['%s', '%s'], 'args': [{'$result': '%s', 'path': 'n.1'}, {'$result': '%s'}]}",
        left, right, left, right);
    struct reply *r = final(s, sum);
    EXPECT_NUMBER(EXPECT_NUMBER(r, "result.x", 5), "result.y", 6);
    r = final(s, submit(s, "{'task': 'echo', 'after': ['%s'], 'args': {'$result': true}}", right));
    EXPECT_NUMBER(r, "result", 6);
    r = EXPECT_PROBLEM(
        post(s, "/tasks", "{'task': 'echo', 'after': ['%s'], 'args': {'$result': '%s'}}", right, left), 422,
        "invalid-request");
    cr_expect(faults_mention(r, "/args/$result"), "%s", r->body);
}

/* Many ends at once: each dependent runs once, and none is forgotten. */
Test(holds, a_fan_in_fires_once_however_its_members_race)
{
    struct server *s = serve(CONFIG);
    enum { TIMES = 30, WIDE = 8 };
    char *last[TIMES];
    for (int i = 0; i < TIMES; i++) {
        char *ids = format("'%s'", submit(s, "{'task': 'echo'}"));
        for (int k = 1; k < WIDE; k++)
            ids = format("%s, '%s'", ids, submit(s, "{'task': 'echo'}"));
        last[i] = submit(s, "{'task': 'count', 'after': [%s]}", quoted(ids));
    }
    for (int i = 0; i < TIMES; i++)
        EXPECT_NUMBER(EXPECT_TEXT(final(s, last[i]), "status", "succeeded"), "attempt", 1);
    int lines = 0;
    for (const char *p = read_whole(file_in(s, "runs")); (p = strchr(p, '\n')); p++)
        lines++;
    cr_expect_eq(lines, TIMES);
}
