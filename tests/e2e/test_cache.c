/* Results that answer the next submissions: `cache_results`. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>

SUITE(cache);

#define CACHED                                                                                        \
    "tasks:\n"                                                                                        \
    "  count: {kind: native, module: $NATIVE, cache_results: 1h}\n"                                   \
    "  some: {kind: native, module: $NATIVE, function: echo, cache_results: {for: 1h, per: [city]}, " \
    "params: {city: string, when: {type: string, default: now}}}\n"                                   \
    "  short: {kind: native, module: $NATIVE, function: echo, cache_results: 1ms}\n"                  \
    "  flop: {kind: native, module: $NATIVE, function: fail, cache_results: 1h}\n"

static int lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* A result cache that never caches. */
Test(cache, the_body_runs_once_and_each_has_the_result)
{
    struct server *s = serve(CACHED);
    char *first = submit(s, "{'task': 'count', 'args': {'a': 1, 'b': 2}}");
    EXPECT_TEXT(final(s, first), "status", "succeeded");
    struct reply *r = EXPECT(post(s, "/tasks", "{'task': 'count', 'args': {'b': 2, 'a': 1}}"), 201);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_TEXT(r, "cached_from", first);
    REQUIRE(strcmp(text_of(r, "id"), first) != 0 && *text_of(r, "finished_at"), "%s", r->body);
    EXPECT_HAS(r, "\"args\":{\"b\": 2, \"a\": 1}");
    EXPECT_NUMBER(r, "attempt", 0);
    char *second = strdup(text_of(r, "id"));
    EXPECT_TEXT(get(s, "/invocations/%s", second), "cached_from", first);
    EXPECT_NULL(get(s, "/invocations/%s", first), "cached_from");
    cr_assert_eq(lines(read_whole(file_in(s, "runs"))), 1);
    EXPECT_NUMBER(get(s, "/tasks/count"), "cache_hits", 1);
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'count', 'args': 2}"), 201), "status", "queued");
    restart(s);
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'count', 'args': {'a': 1, 'b': 2}}"), 201), "cached_from",
                first);
    EXPECT_NUMBER(get(s, "/tasks/count"), "cache_hits", 2);
}

Test(cache, the_key_is_of_the_named_arguments)
{
    struct server *s = serve(CACHED);
    final(s, submit(s, "{'task': 'some', 'args': ['Rome']}"));
    struct reply *r =
        EXPECT(post(s, "/tasks", "{'task': 'some', 'args': {'city': 'Rome', 'when': 'later'}}"), 201);
    EXPECT_TEXT(r, "result.when", "now");
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'some', 'args': ['Oslo']}"), 201), "status", "queued");
}

Test(cache, a_failure_and_what_is_past_its_time_are_not_kept)
{
    struct server *s = serve(CACHED);
    final(s, submit(s, "{'task': 'flop'}"));
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'flop'}"), 201), "status", "queued");
    char *id = submit(s, "{'task': 'short'}");
    final(s, id);
    WAIT_UNTIL(strcmp(text_of(EXPECT(post(s, "/tasks", "{'task': 'short'}"), 201), "status"), "queued") == 0);
}

Test(cache, a_wait_a_line_and_a_key_get_it_too)
{
    struct server *s = serve(CACHED);
    char *first = submit(s, "{'task': 'some', 'args': ['Rome']}");
    final(s, first);
    struct reply *r = EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/json\r\nPrefer: wait=10\r\n",
                                 quoted("{'task': 'some', 'args': ['Rome'], 'key': 'k'}")),
                             201);
    EXPECT_TEXT(r, "cached_from", first);
    char *id = strdup(text_of(r, "id"));
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'some', 'args': ['Rome'], 'key': 'k'}"), 200), "id", id);
    r = EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n",
                   quoted("{'task': 'some', 'args': ['Rome']}\n")),
               200);
    char *line = strstr(r->body, "\"id\":\"");
    REQUIRE(line, "%s", r->body);
    EXPECT_TEXT(get(s, "/invocations/%.13s", line + 6), "status", "succeeded");
}

Test(cache, a_deleted_one_is_forgotten)
{
    struct server *s = serve(CACHED);
    char *first = submit(s, "{'task': 'some', 'args': ['Rome']}");
    final(s, first);
    EXPECT(ask(s, "DELETE", format("/invocations/%s", first), NULL, NULL), 204);
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'some', 'args': ['Rome']}"), 201), "status", "queued");
}

Test(cache, a_task_shows_the_rule_as_the_file_would_say_it)
{
    struct server *s = serve(CACHED);
    EXPECT_HAS(get(s, "/tasks/some"), "\"cache_results\":{\"for\":\"1h\",\"per\":[\"city\"]}");
}
