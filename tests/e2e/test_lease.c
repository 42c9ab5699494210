/* A turn's reports count for that turn alone.
 *
 * A slot starts a body before its claim is on disk. If a change of the row gets
 * there first, the claim is refused, and the body, a stale run, goes on until it
 * likes to return. When the same invocation has been given out again meanwhile,
 * under the same attempt's number, nothing that the stale run says may touch it:
 * its result stood in the place of the next one's. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>

SUITE(lease);

/* Three slots: one for the stale run, one for the next, one that is kept busy. */
#define CONFIG                                  \
    "slots: 3\n"                                \
    "tasks:\n"                                  \
    "  echo: {kind: native, module: $NATIVE}\n" \
    "  deaf: {kind: native, module: $NATIVE}\n" \
    "  numbered: {kind: native, module: $NATIVE, max_retries: 5}\n"

struct race {
    struct server *server;
    char *id;
    int taken, given; /* slots that were kept busy, and those of them that were given back */
};

static void keep_busy(struct race *race)
{
    struct server *s = race->server;
    char *id = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, format("go-%d", race->taken++)));
    AWAIT_STATUS(s, id, "running");
}

static void give_a_slot(struct race *race)
{
    touch(file_in(race->server, format("go-%d", race->given++)));
}

static void tell(struct race *race, int run, const char *what)
{
    touch(file_in(race->server, format("run.%d.%s", run, what)));
}

static bool has_begun(struct race *race, int run)
{
    return exists(file_in(race->server, format("run.%d", run)));
}

/* An invocation whose first run has begun while `method` with `body`, which
 * takes it out of the queue, was on its way to disk, before its claim. */
static struct reply *lose_the_claim(struct race *race, const char *method, const char *what, const char *body)
{
    struct server *s = race->server = prepare(CONFIG);
    prepare_to_hold_commits(s);
    start(s);
    for (int i = 0; i < 3; i++)
        keep_busy(race);
    race->id = submit(s, "{'task': 'numbered', 'args': '%s'}", file_in(s, "run"));

    struct client *client = client_open(s);
    hold_commits(s);
    client_ask(client, method, format("/invocations/%s%s", race->id, what), "Content-Type: application/json\r\n",
               body, strlen(body));
    await_held_commit(s);
    give_a_slot(race);
    WAIT_UNTIL(has_begun(race, 1));
    release_commits(s);
    return EXPECT(client_receive(client, false), 200);
}

static void begin_the_next_run(struct race *race)
{
    give_a_slot(race);
    WAIT_UNTIL(has_begun(race, 2));
    EXPECT_NUMBER(AWAIT_STATUS(race->server, race->id, "running"), "attempt", 1);
}

static void cancel_and_retry(struct race *race)
{
    struct reply *r = lose_the_claim(race, "POST", "/cancel", "{}");
    EXPECT_NUMBER(EXPECT_TEXT(r, "status", "cancelled"), "attempt", 0);
    EXPECT(post(race->server, format("/invocations/%s/retry", race->id), NULL), 200);
    begin_the_next_run(race);
}

/* The stale run ends as it is told. Its slot runs another invocation only when
 * its reports are with the committer, so that they were dealt with by the time
 * that the other has succeeded. */
static void end_the_stale_run(struct race *race, const char *how)
{
    char *other = submit(race->server, "{'task': 'echo', 'priority': 0}");
    tell(race, 1, how);
    EXPECT_TEXT(final(race->server, other), "status", "succeeded");
}

/* Nobody has noticed the stale run; the next one's end is the end. */
static void expect_the_next_run(struct race *race)
{
    struct server *s = race->server;
    struct reply *r = EXPECT_TEXT(get(s, "/invocations/%s", race->id), "status", "running");
    EXPECT_NULL(EXPECT_NULL(EXPECT_NUMBER(r, "attempt", 1), "result"), "error");
    tell(race, 2, "succeed");
    r = EXPECT_TEXT(final(s, race->id), "status", "succeeded");
    EXPECT_NULL(EXPECT_NUMBER(EXPECT_NUMBER(r, "attempt", 1), "result", 2), "error");
    r = EXPECT(get(s, "/invocations/%s/attempts", race->id), 200);
    EXPECT_TEXT(EXPECT_NUMBER(r, "items.0.attempt", 1), "items.0.status", "succeeded");
    cr_assert_eq(cJSON_GetArraySize(field(r, "items")), 1, "%s", r->body);
    EXPECT_NUMBER(get(s, "/tasks/numbered"), "counts.succeeded", 1);
    EXPECT_NUMBER(get(s, "/tasks/numbered"), "counts.running", 0);
}

static void expect_log(struct race *race, const char *wanted)
{
    cr_assert_str_eq(get(race->server, "/invocations/%s/log", race->id)->body, wanted);
}

Test(lease, the_result_of_a_stale_run_is_not_the_next_ones)
{
    struct race race = {0};
    cancel_and_retry(&race);
    end_the_stale_run(&race, "succeed");
    expect_the_next_run(&race);
    expect_log(&race, "run 2\nrun 2 ends\n");
}

Test(lease, a_stale_run_that_ends_last_changes_nothing)
{
    struct race race = {0};
    cancel_and_retry(&race);
    expect_the_next_run(&race);
    keep_busy(&race); /* where the next run was: the stale one's slot is the only one to come free */
    struct reply *before = get(race.server, "/invocations/%s", race.id);
    end_the_stale_run(&race, "succeed");
    cr_assert_str_eq(get(race.server, "/invocations/%s", race.id)->body, before->body);
    expect_log(&race, "run 2\nrun 2 ends\n");
}

Test(lease, the_failure_of_a_stale_run_is_not_the_next_ones)
{
    struct race race = {0};
    cancel_and_retry(&race);
    end_the_stale_run(&race, "fail");
    expect_the_next_run(&race);
}

/* The stale run was told that it is cancelled, as indeed it was; the next one is not. */
Test(lease, a_stale_run_that_obeys_does_not_cancel_the_next)
{
    struct race race = {0};
    cancel_and_retry(&race);
    end_the_stale_run(&race, "obey");
    expect_the_next_run(&race);
}

Test(lease, what_a_stale_run_says_meanwhile_is_not_in_the_next_ones_log)
{
    struct race race = {0};
    cancel_and_retry(&race);
    tell(&race, 2, "say");
    struct reply *r;
    WAIT_UNTIL(number_of(r = get(race.server, "/invocations/%s", race.id), "progress.value") == 2);
    tell(&race, 1, "say");
    end_the_stale_run(&race, "obey");
    r = get(race.server, "/invocations/%s", race.id);
    EXPECT_TEXT(EXPECT_NUMBER(r, "progress.value", 2), "progress.note", "run 2");
    expect_the_next_run(&race);
    expect_log(&race, "run 2\nrun 2 speaks\nrun 2 ends\n");
}

Test(lease, what_was_put_off_while_it_was_taken_has_a_stale_run_too)
{
    struct race race = {0};
    struct reply *r = lose_the_claim(&race, "PATCH", "", "{\"run_at\": \"2999-01-01T00:00:00Z\"}");
    EXPECT_NUMBER(EXPECT_TEXT(r, "status", "scheduled"), "attempt", 0);
    EXPECT(patch(race.server, format("/invocations/%s", race.id), "{'run_at': null}"), 200);
    begin_the_next_run(&race);
    end_the_stale_run(&race, "succeed");
    expect_the_next_run(&race);
    expect_log(&race, "run 2\nrun 2 ends\n");
}

Test(lease, a_stale_run_of_what_was_deleted_leaves_nothing)
{
    struct race race = {0};
    lose_the_claim(&race, "POST", "/cancel", "{}");
    EXPECT(ask(race.server, "DELETE", format("/invocations/%s", race.id), NULL, NULL), 204);
    end_the_stale_run(&race, "succeed");
    EXPECT(get(race.server, "/invocations/%s", race.id), 404);
    EXPECT_NUMBER(get(race.server, "/tasks/numbered"), "counts.succeeded", 0);
    EXPECT_NUMBER(get(race.server, "/tasks/numbered"), "counts.cancelled", 0);
}
