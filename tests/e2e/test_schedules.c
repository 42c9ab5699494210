/* Schedules: by the clock, after a downtime, while the last one runs. The clock is native/stepped_clock.c's. */
#include "tests/e2e/support.h"

#include "base/clock.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SUITE(schedules);

#define HOUR_MS INT64_C(3600000)

static char *step_file;
static int64_t step_ms; /* how far the server's clock is ahead */

/* --- its clock (whose thread takes no signals: it is killed, and starts again) ------------------------------------------------------------------------ */

static void write_step(int64_t ms)
{
    char *new = format("%s.new", step_file);
    write_whole(new, format("%ld", (long)(ms / 1000)));
    REQUIRE(rename(new, step_file) == 0);
    step_ms = ms / 1000 * 1000;
}

static int64_t server_ms(void)
{
    return clock_now_ms() + step_ms;
}

static void step_by(int64_t ms)
{
    write_step(step_ms + ms);
    WAIT_UNTIL(strcmp(read_whole(format("%s.seen", step_file)), format("%ld", (long)(step_ms / 1000))) == 0);
}

static struct server *prepare_clock(const char *config)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct server *s = prepare(config);
    step_file = file_in(s, "step");
    write_step(0);
    static const char *variables[3]; /* for later starts, too */
    variables[0] = format("LD_PRELOAD=%s", native("stepped_clock"));
    variables[1] = format("CLOCK_STEP=%s", step_file);
    s->variables = variables;
    return s;
}

/* Its clock begins a little after half past, so that neither an hour nor, for a while, a minute comes by itself. */
static struct server *serve_at_half_past(const char *config)
{
    struct server *s = prepare_clock(config);
    write_step((HOUR_MS + HOUR_MS / 2 - clock_now_ms() % HOUR_MS) % HOUR_MS + 5000);
    start(s);
    return s;
}

/* --- schedules ---------------------------------------------------------------------------- */

static struct reply *put(struct server *s, const char *name, const char *body)
{
    return ask(s, "PUT", format("/schedules/%s", name), "Content-Type: application/json\r\n", quoted(body));
}

static struct reply *of(struct server *s, const char *name)
{
    return EXPECT(get(s, "/invocations?label.schedule=%s&order=oldest&limit=1000", name), 200);
}

static int count(struct reply *reply)
{
    return cJSON_GetArraySize(field(reply, "items"));
}

static int made(struct server *s, const char *name)
{
    return count(of(s, name));
}

static int64_t time_of(struct reply *reply, const char *path)
{
    int64_t ms = 0;
    REQUIRE(time_parse(span_of(text_of(reply, path)), &ms), "%s is no time: %s", path, reply->body);
    return ms;
}

static const char *time_text(int64_t ms)
{
    struct buf text = {0};
    time_add(&text, ms);
    return buf_cstr(&text);
}

/* The hours that its invocations were due at, from `first`, one after the other. */
static void expect_hours(struct server *s, const char *name, int64_t first, int hours)
{
    struct reply *all = of(s, name);
    REQUIRE(count(all) == hours, "%d, not %d: %s", count(all), hours, all->body);
    for (int i = 0; i < hours; i++)
        EXPECT_TEXT(all, format("items.%d.labels.scheduled_for", i), time_text(first + i * HOUR_MS));
}

/* --- the clock -------------------------------------------------------------------------------- */

Test(schedules, one_submits_when_it_is_due_and_its_next_time_moves)
{
    struct server *s = serve_at_half_past(TASKS);
    struct reply *made_now = EXPECT(
        put(s, "hourly", "{'cron': '0 * * * *', 'task': 'echo', 'args': {'x': 1.10}, 'labels': {'team': 'ops'}}"),
        201);
    int64_t due = time_of(made_now, "next_run_at");
    EXPECT_TEXT(made_now, "words", "every hour");
    EXPECT_NULL(made_now, "last_run_at");
    step_by(HOUR_MS);
    WAIT_UNTIL(made(s, "hourly") == 1);
    struct reply *after = get(s, "/schedules/hourly");
    REQUIRE(time_of(after, "last_run_at") == due && time_of(after, "next_run_at") == due + HOUR_MS, "%s",
            after->body);
    struct reply *one = final(s, text_of(after, "last_invocation"));
    EXPECT_TEXT(one, "status", "succeeded");
    EXPECT_HAS(one, "\"args\":{\"x\": 1.10}");
    EXPECT_TEXT(one, "labels.team", "ops");
    EXPECT_TEXT(one, "labels.scheduled_for", time_text(due));
}

Test(schedules, a_clock_set_back_makes_nothing_twice)
{
    struct server *s = serve_at_half_past(TASKS);
    int64_t due =
        time_of(put(s, "hourly", "{'cron': '0 * * * *', 'task': 'echo', 'catch_up': 'all'}"), "next_run_at");
    step_by(HOUR_MS);
    WAIT_UNTIL(made(s, "hourly") == 1);
    step_by(-2 * HOUR_MS);
    restart(s);
    step_by(2 * HOUR_MS);
    step_by(HOUR_MS);
    WAIT_UNTIL(made(s, "hourly") >= 2);
    expect_hours(s, "hourly", due, 2);
}

/* Else a server whose clock was years ahead for a moment would never submit again. */
Test(schedules, a_clock_that_was_far_ahead_for_a_moment_leaves_no_schedule_behind)
{
    struct server *s = serve_at_half_past("defaults: {retention: 36500d}\n" TASKS);
    int64_t due = time_of(put(s, "hourly", "{'cron': '0 * * * *', 'task': 'echo'}"), "next_run_at");
    step_by(INT64_C(4000) * 24 * HOUR_MS);
    WAIT_UNTIL(made(s, "hourly") == 1);
    step_by(-INT64_C(4000) * 24 * HOUR_MS);
    WAIT_UNTIL(time_of(get(s, "/schedules/hourly"), "next_run_at") == due);
}

Test(schedules, catch_up_says_what_becomes_of_missed_times)
{
    static const struct {
        const char *name;
        int made, first; /* and which of the five is the first */
    } rows[] = {{"none", 0, 0}, {"one", 1, 4}, {"all", 5, 0}};
    struct server *s = serve_at_half_past(TASKS);
    int64_t due = 0;
    for (size_t i = 0; i < 3; i++)
        due = time_of(
            put(s, rows[i].name, format("{'cron': '0 * * * *', 'task': 'echo', 'catch_up': '%s'}", rows[i].name)),
            "next_run_at");
    kill_hard(s);
    write_step(step_ms + 5 * HOUR_MS);
    start(s);
    for (size_t i = 0; i < 3; i++) {
        WAIT_UNTIL(time_of(get(s, "/schedules/%s", rows[i].name), "next_run_at") == due + 5 * HOUR_MS);
        expect_hours(s, rows[i].name, due + rows[i].first * HOUR_MS, rows[i].made);
        EXPECT_NUMBER(get(s, "/schedules/%s", rows[i].name), "skipped", 5 - rows[i].made);
    }
}

Test(schedules, all_that_was_missed_is_a_thousand_at_most_and_the_log_says_so)
{
    struct server *s = serve_at_half_past(TASKS);
    EXPECT(put(s, "each", "{'cron': '* * * * *', 'task': 'echo', 'catch_up': 'all', 'overlap': 'allow'}"), 201);
    kill_hard(s);
    write_step(step_ms + 1500 * 60000);
    start(s);
    WAIT_UNTIL(made(s, "each") == 1000);
    WAIT_UNTIL(strstr(server_log(s), "times of a schedule were missed"));
}

/* Each start catches up with one more hour, and is killed at any moment of that. */
Test(schedules, a_crash_neither_loses_a_time_nor_doubles_one)
{
    enum { HOURS = 12 };
    struct server *s = serve_at_half_past(TASKS);
    int64_t due =
        time_of(put(s, "hourly", "{'cron': '0 * * * *', 'task': 'echo', 'catch_up': 'all', 'overlap': 'allow'}"),
                "next_run_at");
    for (int i = 0; i < HOURS; i++) {
        kill_hard(s);
        write_step(step_ms + HOUR_MS);
        start(s);
        for (int looks = i % 4; looks > 0; looks--)
            made(s, "hourly");
    }
    WAIT_UNTIL(made(s, "hourly") >= HOURS);
    expect_hours(s, "hourly", due, HOURS);
}

/* --- while the last one is unfinished ------------------------------------------------------------ */

#define HOLD(overlap) "{'cron': '0 * * * *', 'task': 'hold', 'args': '%s', 'overlap': '" overlap "'}"

static struct server *hold_one(const char *body)
{
    struct server *s = serve_at_half_past("slots: 4\n" TASKS);
    EXPECT(put(s, "h", format(body, file_in(s, "go"))), 201);
    step_by(HOUR_MS);
    WAIT_UNTIL(made(s, "h") == 1);
    WAIT_UNTIL(strcmp(text_of(of(s, "h"), "items.0.status"), "running") == 0);
    return s;
}

static void step_and_await(struct server *s, int skipped, bool waits)
{
    int64_t next = time_of(get(s, "/schedules/h"), "next_run_at");
    step_by(HOUR_MS);
    WAIT_UNTIL(time_of(get(s, "/schedules/h"), "next_run_at") == next + HOUR_MS);
    struct reply *now = get(s, "/schedules/h");
    EXPECT_NUMBER(now, "skipped", skipped);
    REQUIRE((text_of(now, "waiting_since")[0] != '\0') == waits, "%s", now->body);
}

Test(schedules, skip_makes_none_while_the_last_one_is_unfinished)
{
    struct server *s = hold_one(HOLD("skip"));
    step_and_await(s, 1, false);
    step_and_await(s, 2, false);
    touch(file_in(s, "go"));
    final(s, text_of(get(s, "/schedules/h"), "last_invocation"));
    step_and_await(s, 2, false);
    REQUIRE(made(s, "h") == 2);
}

Test(schedules, allow_makes_one_more)
{
    struct server *s = hold_one(HOLD("allow"));
    step_and_await(s, 0, false);
    REQUIRE(made(s, "h") == 2);
    touch(file_in(s, "go"));
}

Test(schedules, queue_lets_one_wait_for_the_end_and_skips_more)
{
    struct server *s = hold_one(HOLD("queue"));
    step_and_await(s, 0, true);
    step_and_await(s, 1, true);
    REQUIRE(made(s, "h") == 1);
    restart(s); /* what waits is on disk */
    EXPECT_HAS(get(s, "/schedules/h"), "\"waiting_since\":\"");
    touch(file_in(s, "go"));
    WAIT_UNTIL(made(s, "h") == 2);
    EXPECT_NULL(get(s, "/schedules/h"), "waiting_since");
    EXPECT_TEXT(final(s, text_of(of(s, "h"), "items.1.id")), "status", "succeeded");
}

Test(schedules, cancel_ends_the_one_before_first)
{
    struct server *s = hold_one(HOLD("cancel"));
    int64_t next = time_of(get(s, "/schedules/h"), "next_run_at");
    step_by(HOUR_MS);
    WAIT_UNTIL(made(s, "h") == 2);
    struct reply *both = of(s, "h");
    EXPECT_TEXT(both, "items.0.status", "cancelled");
    EXPECT_TEXT(both, "items.1.labels.scheduled_for", time_text(next));
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, text_of(both, "items.1.id")), "status", "succeeded");
}

/* Its row is taken away with its schedule. */
Test(schedules, what_waits_goes_with_its_schedule)
{
    struct server *s = hold_one(HOLD("queue"));
    step_and_await(s, 0, true);
    EXPECT(ask(s, "DELETE", "/schedules/h", NULL, NULL), 204);
    touch(file_in(s, "go"));
    final(s, text_of(of(s, "h"), "items.0.id"));
    REQUIRE(made(s, "h") == 1);
    EXPECT_PROBLEM(get(s, "/schedules/h"), 404, "not-found");
}

/* --- pause, run, backfill ---------------------------------------------------------------------------- */

Test(schedules, a_pause_survives_a_restart_and_is_not_caught_up_with)
{
    struct server *s = serve_at_half_past(TASKS);
    EXPECT(put(s, "p", "{'cron': '0 * * * *', 'task': 'echo', 'catch_up': 'all'}"), 201);
    EXPECT_NULL(EXPECT(post(s, "/schedules/p/pause", NULL), 200), "next_run_at");
    EXPECT_HAS(post(s, "/schedules/p/pause", NULL), "\"paused\":true");
    step_by(3 * HOUR_MS);
    restart(s);
    EXPECT_HAS(get(s, "/schedules/p"), "\"paused\":true");
    EXPECT_TEXT(EXPECT(post(s, "/schedules/p/run", NULL), 201), "task", "echo"); /* that still works */
    struct reply *resumed = EXPECT(post(s, "/schedules/p/resume", NULL), 200);
    REQUIRE(time_of(resumed, "next_run_at") > server_ms() &&
                time_of(resumed, "next_run_at") <= server_ms() + HOUR_MS,
            "%s", resumed->body);
    step_by(HOUR_MS);
    WAIT_UNTIL(made(s, "p") == 2);
    EXPECT_PROBLEM(post(s, "/schedules/nosuch/pause", NULL), 404, "not-found");
    EXPECT_PROBLEM(post(s, "/schedules/nosuch/run", NULL), 404, "not-found");
}

Test(schedules, a_backfill_makes_each_time_of_a_range)
{
    struct server *s = serve_with("slots: 4\n" TASKS, NULL, NULL);
    EXPECT(put(s, "b", "{'cron': '30 2 * * *', 'timezone': 'Europe/Berlin', 'task': 'echo', 'args': [1]}"), 201);
    struct reply *some = EXPECT(
        post(s, "/schedules/b/backfill", "{'from': '2026-03-28T01:30:00Z', 'to': '2026-03-30T00:30:00Z'}"), 201);
    REQUIRE(count(some) == 3, "%s", some->body);
    EXPECT_TEXT(some, "items.0.scheduled_for", "2026-03-28T01:30:00.000Z"); /* both ends included */
    EXPECT_TEXT(some, "items.1.scheduled_for", "2026-03-29T01:00:00.000Z");
    EXPECT_TEXT(some, "items.2.scheduled_for", "2026-03-30T00:30:00.000Z");
    EXPECT_TEXT(final(s, text_of(some, "items.2.id")), "labels.scheduled_for", "2026-03-30T00:30:00.000Z");
    REQUIRE(made(s, "b") == 3);
    struct reply *none = EXPECT(
        post(s, "/schedules/b/backfill", "{'from': '2026-03-28T02:30:00Z', 'to': '2026-03-28T03:30:00Z'}"), 201);
    REQUIRE(count(none) == 0);
    EXPECT_PROBLEM(
        post(s, "/schedules/b/backfill", "{'from': '2020-01-01T00:00:00Z', 'to': '2026-01-01T00:00:00Z'}"), 422,
        "invalid-request");
    EXPECT_PROBLEM(
        post(s, "/schedules/b/backfill", "{'from': '2026-01-02T00:00:00Z', 'to': '2026-01-01T00:00:00Z'}"), 422,
        "invalid-request");
    EXPECT_PROBLEM(post(s, "/schedules/b/backfill", "{'from': 1}"), 422, "invalid-request");
    EXPECT_NULL(get(s, "/schedules/b"), "problem");
}

Test(schedules, jitter_delays_by_less_than_it_says)
{
    struct server *s = serve_at_half_past(TASKS);
    int64_t due = time_of(put(s, "j", "{'cron': '0 * * * *', 'task': 'echo', 'jitter': '20m'}"), "next_run_at");
    step_by(due - server_ms() + 1000); /* the clock's steps are whole seconds */
    WAIT_UNTIL(made(s, "j") == 1);
    struct reply *one = of(s, "j");
    REQUIRE(time_of(one, "items.0.run_at") >= due && time_of(one, "items.0.run_at") <= due + 20 * 60000, "%s",
            one->body);
    step_by(21 * 60000);
    EXPECT_TEXT(final(s, text_of(one, "items.0.id")), "status", "succeeded");
}

/* --- what may be said ----------------------------------------------------------------------------------- */

Test(schedules, every_fault_of_a_definition_is_named)
{
    static const struct {
        const char *body, *pointer;
    } rows[] = {
        {"{'task': 'echo'}", "/cron"},
        {"{'cron': '* * * * *'}", "/task"},
        {"{'cron': '* * *', 'task': 'echo'}", "/cron"},
        {"{'cron': '0 0 30 2 *', 'task': 'echo'}", "/cron"},
        {"{'cron': '30 2 * 3 7L', 'timezone': 'Europe/Berlin', 'dst': {'gap': 'skip'}, 'task': 'echo'}", "/cron"},
        {"{'cron': '* * * * *', 'task': 'nosuch'}", "/task"},
        {"{'cron': '* * * * *', 'task': 'add', 'args': {'x': 'a'}}", "/args/x"},
        {"{'cron': '* * * * *', 'task': 'echo', 'timezone': 'Mars/Phobos'}", "/timezone"},
        {"{'cron': '* * * * *', 'task': 'echo', 'timezone': '../../../etc/passwd'}", "/timezone"},
        {"{'cron': '* * * * *', 'task': 'echo', 'catch_up': 'some'}", "/catch_up"},
        {"{'cron': '* * * * *', 'task': 'echo', 'overlap': 'x'}", "/overlap"},
        {"{'cron': '* * * * *', 'task': 'echo', 'jitter': '2d'}", "/jitter"},
        {"{'cron': '* * * * *', 'task': 'echo', 'dst': {'gap': 'x'}}", "/dst/gap"},
        {"{'cron': '* * * * *', 'task': 'echo', 'dst': {'hole': 'x'}}", "/dst/hole"},
        {"{'cron': '* * * * *', 'task': 'echo', 'delay': '1s'}", "/delay"},
        {"{'cron': '* * * * *', 'task': 'echo', 'key': 'k'}", "/key"},
        {"{'cron': '* * * * *', 'task': 'echo', 'priority': 1000}", "/priority"},
        {"{'cron': '* * * * *', 'task': 'echo', 'labels': {'schedule': 'x'}}", "/labels/schedule"},
        {"{'cron': '* * * * *', 'task': 'echo', 'labels': {'a': 1}}", "/labels/a"},
        {"[]", ""},
    };
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *reply = EXPECT_PROBLEM(put(s, "x", rows[i].body), 422, "invalid-request");
        REQUIRE(faults_mention(reply, rows[i].pointer), "%s: %s", rows[i].body, reply->body);
    }
    EXPECT_PROBLEM(put(s, "preview", "{'cron': '* * * * *', 'task': 'echo'}"), 422, "invalid-request");
    EXPECT_PROBLEM(put(s, "a%20b", "{'cron': '* * * * *', 'task': 'echo'}"), 422, "invalid-request");
    EXPECT_PROBLEM(get(s, "/schedules/x"), 404, "not-found");
    REQUIRE(count(get(s, "/schedules")) == 0);
    char *large = format("{\"cron\": \"* * * * *\", \"task\": \"echo\", \"args\": \"%0*d\"}", 70000, 1);
    EXPECT_PROBLEM(ask(s, "PUT", "/schedules/x", "Content-Type: application/json\r\n", large), 422,
                   "invalid-request");
}

Test(schedules, the_same_definition_again_changes_nothing_and_another_begins_anew)
{
    struct server *s = serve_at_half_past(TASKS);
    const char *hourly = "{'cron': '0 * * * *', 'task': 'echo', 'catch_up': 'all'}";
    EXPECT(put(s, "x", hourly), 201);
    step_by(HOUR_MS);
    WAIT_UNTIL(made(s, "x") == 1);
    struct reply *same = EXPECT(put(s, "x", hourly), 200);
    EXPECT_HAS(same, "\"last_run_at\":\"");
    struct reply *other = EXPECT(put(s, "x", "{'cron': '45 * * * *', 'task': 'count', 'catch_up': 'all'}"), 200);
    EXPECT_TEXT(other, "words", "every hour at minute 45");
    EXPECT_TEXT(other, "task", "count");
    REQUIRE(time_of(other, "next_run_at") > server_ms());
}

Test(schedules, a_list_has_pages)
{
    struct server *s = serve(TASKS);
    for (int i = 0; i < 5; i++)
        EXPECT(put(s, format("s%d", i), "{'cron': '@daily', 'task': 'echo'}"), 201);
    struct reply *page = EXPECT(get(s, "/schedules?limit=2"), 200);
    REQUIRE(count(page) == 2 && header(page, "Link") && header(page, "ETag"));
    EXPECT_TEXT(page, "items.1.name", "s1");
    page = get(s, "/schedules?limit=2&cursor=%s", text_of(page, "next"));
    EXPECT_TEXT(page, "items.0.name", "s2");
    page = get(s, "/schedules?limit=2&cursor=%s", text_of(page, "next"));
    REQUIRE(count(page) == 1);
    EXPECT_NULL(page, "next");
    EXPECT_PROBLEM(get(s, "/schedules?limit=0"), 400, "invalid-query");
    EXPECT_PROBLEM(get(s, "/schedules?cursor=x"), 400, "invalid-query");
}

/* No invocation changes with them: pages were shown as they had been rendered before. */
Test(schedules, a_list_that_was_asked_before_is_not_shown_again_after_a_change)
{
    struct server *s = serve(TASKS);
    struct reply *none = EXPECT(get(s, "/schedules"), 200);
    char *match = format("If-None-Match: %s\r\n", header(none, "ETag"));
    EXPECT(ask(s, "GET", "/schedules", match, NULL), 304);
    EXPECT(put(s, "a", "{'cron': '@daily', 'task': 'echo'}"), 201);
    REQUIRE(count(EXPECT(ask(s, "GET", "/schedules", match, NULL), 200)) == 1);
    struct reply *one = EXPECT(get(s, "/schedules/a"), 200);
    match = format("If-None-Match: %s\r\n", header(one, "ETag"));
    EXPECT(ask(s, "GET", "/schedules/a", match, NULL), 304);
    EXPECT(post(s, "/schedules/a/pause", NULL), 200);
    EXPECT_HAS(EXPECT(ask(s, "GET", "/schedules/a", match, NULL), 200), "\"paused\":true");
    EXPECT_HAS(get(s, "/schedules"), "\"paused\":true");
    EXPECT(ask(s, "DELETE", "/schedules/a", NULL, NULL), 204);
    REQUIRE(count(get(s, "/schedules")) == 0);
}

Test(schedules, a_preview_says_when_and_in_words)
{
    struct server *s = serve(TASKS);
    struct reply *p = EXPECT(
        get(s, "/schedules/preview?cron=30+2+*+*+*&timezone=Europe/Berlin&after=2026-10-24T12:00:00Z&count=3&"
               "dst.fold=both"),
        200);
    EXPECT_TEXT(p, "words", "at 02:30");
    EXPECT_TEXT(p, "items.0", "2026-10-25T00:30:00.000Z");
    EXPECT_TEXT(p, "items.1", "2026-10-25T01:30:00.000Z");
    EXPECT_TEXT(p, "items.2", "2026-10-26T01:30:00.000Z");
    REQUIRE(count(get(s, "/schedules/preview?cron=@daily")) == 10);
    REQUIRE(count(get(s, "/schedules/preview?cron=@daily&after=9999-12-31T12:00:00Z")) == 0);
    static const char *const bad[] = {"",
                                      "?cron=x",
                                      "?cron=@daily&timezone=x",
                                      "?cron=@daily&count=0",
                                      "?cron=@daily&count=1001",
                                      "?cron=@daily&after=soon",
                                      "?cron=@daily&dst.gap=x",
                                      "?cron=@daily&zone=UTC"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT_PROBLEM(get(s, "/schedules/preview%s", bad[i]), 400, "invalid-query");
}

/* --- the file's ------------------------------------------------------------------------------------------- */

static void reload(struct server *s, const char *config)
{
    static int reloads;
    configure(s, config);
    send_signal(s, SIGHUP);
    int wanted = ++reloads, found;
    do {
        found = 0;
        for (const char *at = server_log(s); (at = strstr(at, "msg=reloaded")); at++)
            found++;
        breathe();
    } while (found < wanted);
}

#define DAILY(name) "  " name ": {cron: '@daily', task: echo}\n"

Test(schedules, those_of_the_file_are_the_files)
{
    struct server *s = serve("schedules:\n" DAILY("a") DAILY("b") TASKS);
    EXPECT_TEXT(get(s, "/schedules/a"), "source", "file");
    EXPECT_PROBLEM(put(s, "a", "{'cron': '@hourly', 'task': 'echo'}"), 409, "conflict");
    EXPECT_PROBLEM(ask(s, "DELETE", "/schedules/a", NULL, NULL), 409, "conflict");
    EXPECT(post(s, "/schedules/a/pause", NULL), 200);
    EXPECT(post(s, "/schedules/a/run", NULL), 201);
    EXPECT(put(s, "mine", "{'cron': '@hourly', 'task': 'echo'}"), 201);
    EXPECT(put(s, "c", "{'cron': '@hourly', 'task': 'echo'}"), 201);
    reload(s, "schedules:\n" DAILY("a") DAILY("c") TASKS);
    EXPECT_HAS(get(s, "/schedules/a"), "\"paused\":true");
    EXPECT_PROBLEM(get(s, "/schedules/b"), 404, "not-found");
    EXPECT_TEXT(get(s, "/schedules/c"), "source", "file");
    EXPECT_TEXT(get(s, "/schedules/mine"), "source", "http");
    reload(s, TASKS);
    REQUIRE(count(get(s, "/schedules")) == 1);
    restart(s);
    EXPECT_TEXT(get(s, "/schedules"), "items.0.name", "mine");
}

Test(schedules, the_files_schedules_catch_up_after_a_downtime_but_a_changed_one_does_not)
{
    const char *config = "schedules:\n"
                         "  same: {cron: '0 * * * *', task: echo, catch_up: all}\n"
                         "  other: {cron: '0 * * * *', task: echo, catch_up: all}\n" TASKS;
    struct server *s = serve_at_half_past(config);
    int64_t due = time_of(get(s, "/schedules/same"), "next_run_at");
    kill_hard(s);
    configure(s, replaced(config, "other: {cron: '0", "other: {cron: '10"));
    write_step(step_ms + 3 * HOUR_MS);
    start(s);
    WAIT_UNTIL(made(s, "same") == 3);
    expect_hours(s, "same", due, 3);
    REQUIRE(made(s, "other") == 0);
}

Test(schedules, a_task_that_left_the_file_is_the_schedules_problem)
{
    struct server *s = serve_at_half_past(TASKS);
    EXPECT(put(s, "x", "{'cron': '0 * * * *', 'task': 'count'}"), 201);
    configure(s, "tasks:\n  echo: {kind: native, module: $NATIVE}\n");
    restart(s);
    WAIT_UNTIL(strstr(text_of(get(s, "/schedules/x"), "problem"), "/task"));
    EXPECT_PROBLEM(post(s, "/schedules/x/run", NULL), 409, "conflict");
    step_by(HOUR_MS);
    configure(s, TASKS);
    restart(s);
    WAIT_UNTIL(made(s, "x") == 1); /* it was missed, and is caught up with */
    EXPECT_NULL(get(s, "/schedules/x"), "problem");
}

Test(schedules, check_names_the_faults_of_schedules_with_their_lines)
{
    struct server *s = prepare("tasks:\n"
                               "  echo: {kind: native, module: $NATIVE}\n"
                               "schedules:\n"
                               "  a:\n"
                               "    cron: 0 0 30 2 *\n" /* 5 */
                               "    task: echo\n"
                               "  b:\n"
                               "    cron: '@daily'\n"
                               "    task: eco\n"                             /* 9 */
                               "    timezone: Mars/X\n"                      /* 10 */
                               "  preview: {cron: '@daily', task: echo}\n"); /* 11 */
    char *out, *err;
    REQUIRE(run(s->folder, (const char *[]){errand_binary(), "check", "--config", "errand.yaml", NULL}, NULL, &out,
                &err) == 1);
    char *text = format("%s%s", out, err);
    static const char *const parts[] = {":5:",  "never comes", ":9:",    "did you mean `echo`",
                                        ":10:", ":11:",        "preview"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        REQUIRE(strstr(text, parts[i]), "%s is not said:\n%s", parts[i], text);
}

/* --- the bad moment --------------------------------------------------------------------------------------- */

/* The clock's library and the one that holds commits. */
static void prepare_to_hold_them(struct server *s)
{
    prepare_to_hold_commits(s);
    const char **variables = calloc(7, sizeof *variables);
    int count = 0;
    for (; s->variables[count]; count++)
        variables[count] = s->variables[count];
    variables[0] = format("%s:%s", variables[0], native("stepped_clock"));
    variables[count] = format("CLOCK_STEP=%s", step_file);
    s->variables = variables;
}

Test(schedules, a_kill_while_what_is_due_is_on_its_way_to_disk_makes_it_once)
{
    struct server *s = prepare_clock(TASKS);
    prepare_to_hold_them(s);
    write_step((HOUR_MS + HOUR_MS / 2 - clock_now_ms() % HOUR_MS) % HOUR_MS + 5000);
    start(s);
    int64_t due = time_of(put(s, "h", "{'cron': '0 * * * *', 'task': 'echo', 'catch_up': 'all'}"), "next_run_at");
    hold_commits(s);
    step_by(HOUR_MS);
    await_held_commit(s);
    REQUIRE(made(s, "h") == 0);
    kill_hard(s);
    release_commits(s);
    start(s);
    WAIT_UNTIL(made(s, "h") >= 1);
    expect_hours(s, "h", due, 1);
}

/* It starts all the same, and writes them when it can. */
Test(schedules, those_of_the_file_come_when_the_disk_takes_writes_again)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct server *s = prepare(TASKS);
    char *bad = file_in(s, "bad");
    s->variables = (const char *[]){format("LD_PRELOAD=%s", native("bad_disk")), format("BAD_DISK=%s", bad), NULL};
    start(s);
    kill_hard(s);
    configure(s, "schedules:\n" DAILY("a") TASKS);
    touch(bad);
    start(s);
    REQUIRE(count(get(s, "/schedules")) == 0);
    EXPECT_PROBLEM(put(s, "b", "{'cron': '@daily', 'task': 'echo'}"), 503, "unavailable");
    unlink(bad);
    WAIT_UNTIL(count(get(s, "/schedules")) == 1);
    EXPECT_TEXT(get(s, "/schedules"), "items.0.name", "a");
}
