/* Invocations by their arguments: `index`, and `arg.` in a query. */
#include "tests/e2e/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SUITE(search);

static struct server *with_orders(void)
{
    struct server *s =
        serve("tasks:\n"
              "  order: {kind: native, module: $NATIVE, function: echo, index: [user.id, express]}\n"
              "  add: {kind: native, module: $NATIVE, function: echo, params: {x: integer, y: {type: integer, "
              "default: 1}},"
              " index: [x, y]}\n"
              "  echo: {kind: native, module: $NATIVE}\n");
    EXPECT(post(s, "/pause", NULL), 200);
    submit(s, "{'task': 'order', 'args': {'user': {'id': 7}, 'express': true}}");
    submit(s, "{'task': 'order', 'args': {'user': {'id': '7'}, 'express': false, 'note': 'x=y'}}");
    submit(s, "{'task': 'order', 'args': {'user': {'id': 7.0}}}");
    submit(s, "{'task': 'order', 'args': {'user': {'id': {'a': 7}}}}");
    submit(s, "{'task': 'order'}");
    submit(s, "{'task': 'add', 'args': [3]}");
    submit(s, "{'task': 'add', 'args': {'y': 2, 'x': 3}}");
    submit(s, "{'task': 'echo', 'args': {'user': {'id': 7}, 'deep': {'er': {'est': null}}}}");
    return s;
}

static int count(struct server *s, const char *query)
{
    return cJSON_GetArraySize(field(EXPECT(get(s, "/invocations?%s", query), 200), "items"));
}

/* Both ways to find them say the same. */
static const struct {
    const char *query;
    int count;
} rows[] = {
    {"task=order&arg.user.id=7", 2},
    {"task=order&arg.user.id=7.0", 1},
    {"task=order&arg.user.id=8", 0},
    {"task=order&arg.express=true", 1},
    {"task=order&arg.user.id=7&arg.express=false", 1},
    {"task=order&arg.express=true&arg.user.id=7", 1},
    {"task=order&arg.note=x%3Dy&arg.user.id=7", 1},
    {"task=order&arg.note=x%3Dy", 1},
    {"task=order&arg.user.id=7&status=queued", 2},
    {"task=order&arg.user.id=7&status=failed", 0},
    {"task=order&arg.user.id=7&order=oldest&view=full", 2},
    {"task=add&arg.x=3", 2},
    {"task=add&arg.y=1", 1},
    {"task=add&arg.x=3&arg.y=2", 1},
    {"arg.user.id=7", 3},
    {"arg.deep.er.est=null", 1},
    {"arg.y=1", 1},
    {"task=nobody&arg.x=1", 0},
    {"task=echo&arg.user.id=7", 1},
};

Test(search, an_argument_finds_its_invocations_with_an_index_and_without)
{
    struct server *s = with_orders();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        REQUIRE(count(s, rows[i].query) == rows[i].count, "%s: %d", rows[i].query, count(s, rows[i].query));
    EXPECT(post(s, "/resume", NULL), 200);
    WAIT_UNTIL(count(s, "status=succeeded") == 8);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strstr(rows[i].query, "status"))
            REQUIRE(count(s, rows[i].query) == rows[i].count, "%s", rows[i].query);
    restart(s);
    cr_assert_eq(count(s, "task=order&arg.user.id=7"), 2);
}

Test(search, pages_of_an_index_are_whole)
{
    struct server *s = with_orders();
    struct reply *r = EXPECT(get(s, "/invocations?task=order&arg.user.id=7&limit=1"), 200);
    char *first = strdup(text_of(r, "items.0.id"));
    r = EXPECT(get(s, "/invocations?task=order&arg.user.id=7&limit=1&cursor=%s", text_of(r, "next")), 200);
    REQUIRE(*text_of(r, "items.0.id") && strcmp(text_of(r, "items.0.id"), first) != 0, "%s", r->body);
    EXPECT_NULL(r, "next");
}

Test(search, arguments_outside_the_row_are_looked_into)
{
    struct server *s = serve("tasks:\n  echo: {kind: native, module: $NATIVE, index: [text]}\n");
    char large[3000];
    memset(large, 'x', sizeof large);
    large[sizeof large - 1] = '\0';
    submit(s, "{'task': 'echo', 'args': {'text': '%s', 'n': 1}}", large);
    cr_assert_eq(count(s, "arg.n=1"), 1);
    cr_assert_eq(count(s, "task=echo&arg.n=1"), 1);
    cr_assert_eq(count(s, format("task=echo&arg.text=%s", large)), 1);
    cr_assert_eq(count(s, format("task=echo&arg.text=%s&arg.n=1", large)), 1);
    cr_assert_eq(count(s, format("task=echo&arg.text=%sx", large)), 0);
}

Test(search, bulk_actions_take_them_too)
{
    struct server *s = with_orders();
    struct reply *r =
        EXPECT(post(s, "/invocations/cancel", "{'filter': {'task': 'order', 'args': {'user.id': 7}}}"), 200);
    EXPECT_NUMBER(r, "changed", 2);
    r = EXPECT(post(s, "/invocations/cancel", "{'filter': {'args': {'x': '3', 'y': 2}}}"), 200);
    EXPECT_NUMBER(r, "changed", 1);
    r = post(s, "/invocations/cancel", "{'filter': {'args': {'x': [3]}}}");
    REQUIRE(faults_mention(EXPECT_PROBLEM(r, 422, "invalid-request"), "/filter/args/x"));
}

Test(search, too_many_and_nameless_ones_are_refused)
{
    struct server *s = with_orders();
    EXPECT_PROBLEM(get(s, "/invocations?arg.=1"), 400, "invalid-query");
    EXPECT_PROBLEM(get(s, "/invocations?arg.a=1&arg.b=1&arg.c=1&arg.d=1&arg.e=1&arg.f=1&arg.g=1&arg.h=1&arg.i=1"),
                   400, "invalid-query");
    EXPECT_TEXT(EXPECT(get(s, "/tasks/order"), 200), "options.index.0", "user.id");
}

/* A scan through what is large stops in time, and its pages lead to the end. */
Test(search, a_scan_stops_in_time_and_goes_on)
{
    struct server *s = serve(TASKS);
    enum { COUNT = 80, SIZE = 1000000 };
    EXPECT(post(s, "/pause", NULL), 200);
    char *id = submit(s, "{'task': 'echo', 'args': {'wanted': 1}}");
    char *body = malloc(SIZE + 200);
    int n = sprintf(body, "{\"task\":\"echo\",\"args\":{\"all\":[");
    while (n < SIZE)
        n += sprintf(body + n, "{\"a\":%d},", n);
    sprintf(body + n, "0]}}");
    for (int i = 0; i < COUNT; i++)
        EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/json\r\n", body), 201);
    char *cursor = strdup(""), *found = NULL;
    int pages = 0;
    do {
        struct reply *r = EXPECT(get(s, "/invocations?arg.wanted=1&cursor=%s", cursor), 200);
        if (*text_of(r, "items.0.id"))
            found = strdup(text_of(r, "items.0.id"));
        cursor = strdup(text_of(r, "next"));
        pages++;
    } while (*cursor);
    REQUIRE(found && strcmp(found, id) == 0 && pages > 1, "%d pages", pages);
}
