/* The wall clock is set while the server runs. */
#include "tests/e2e/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SUITE(clock);

static char *step_file;

static void write_step(long seconds)
{
    char *new = format("%s.new", step_file);
    write_whole(new, format("%ld", seconds));
    REQUIRE(rename(new, step_file) == 0);
}

/* It counts when this returns. */
static void step(long seconds)
{
    write_step(seconds);
    WAIT_UNTIL(strcmp(read_whole(format("%s.seen", step_file)), format("%ld", seconds)) == 0);
}

static struct server *serve_with_clock(const char *config)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct server *s = prepare(config);
    step_file = file_in(s, "step");
    write_step(0);
    s->variables = (const char *[]){format("LD_PRELOAD=%s", native("stepped_clock")),
                                    format("CLOCK_STEP=%s", step_file), NULL};
    start(s);
    return s;
}

/* They were up to a minute late. */
Test(clock, what_is_due_after_a_step_starts_at_once)
{
    struct server *s = serve_with_clock(TASKS);
    char *due = submit(s, "{'task': 'echo', 'delay': '2h'}");
    char *expires = submit(s, "{'task': 'echo', 'delay': '5h', 'expires_in': '3h'}");
    EXPECT_TEXT(get(s, "/invocations/%s", due), "status", "scheduled");
    int64_t began = now_ms();
    step(2 * 3600 + 60);
    EXPECT_TEXT(final(s, due), "status", "succeeded");
    EXPECT_TEXT(get(s, "/invocations/%s", expires), "status", "scheduled");
    step(3 * 3600 + 60);
    EXPECT_TEXT(final(s, expires), "error.type", "expired");
    REQUIRE(now_ms() - began < 10000, "it took %d ms", (int)(now_ms() - began));
}

Test(clock, a_clock_set_back_holds_up_nothing_that_is_submitted_after_it)
{
    struct server *s = serve_with_clock(TASKS);
    char *early = submit(s, "{'task': 'echo', 'delay': '1s'}");
    step(-7200);
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo', 'delay': '200ms'}")), "status", "succeeded");
    EXPECT_TEXT(get(s, "/invocations/%s", early), "status",
                "scheduled"); /* two hours from now, as its time says */
    step(2);
    EXPECT_TEXT(final(s, early), "status", "succeeded");
}

Test(clock, one_wrong_moment_does_not_stand_in_later_ids)
{
    struct server *s = serve_with_clock("defaults: {retention: 36500d}\n" TASKS); /* nothing is pruned meanwhile */
    char *before = submit(s, "{'task': 'echo'}");
    char *year = strndup(text_of(get(s, "/invocations/%s", before), "created_at"), 4);
    step(12L * 365 * 86400);
    char *wrong, *after;
    WAIT_UNTIL((wrong = submit(s, "{'task': 'echo'}"), strstr(server_log(s), "ids do not follow it")));
    step(0);
    WAIT_UNTIL((after = submit(s, "{'task': 'echo'}"), strstr(server_log(s), "ids follow the clock again")));
    REQUIRE(strcmp(before, wrong) < 0 && strcmp(wrong, after) < 0, "%s, %s, %s", before, wrong, after);
    EXPECT_HAS(get(s, "/invocations/%s", wrong), format("\"created_at\":\"%s", year));
    EXPECT_HAS(get(s, "/invocations/%s", after), format("\"created_at\":\"%s", year));
}
