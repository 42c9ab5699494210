/* Reading: one, lists, tasks, figures. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

SUITE(read);

Test(read, a_page_never_skips_or_repeats_while_statuses_change)
{
    struct server *s = serve("slots: 2\n" TASKS);
    enum { N = 120 };
    char *ids[N];
    EXPECT(post(s, "/pause", NULL), 200);
    for (int i = 0; i < N; i++)
        ids[i] = submit(s, "{'task': 'echo', 'args': %d}", i);
    EXPECT(post(s, "/resume", NULL), 200);

    /* newest first, while they run, are cancelled, and more come in */
    int seen = 0;
    const char *cursor = "";
    for (int page = 0; cursor; page++) {
        struct reply *r =
            *cursor ? get(s, "/invocations?limit=7&cursor=%s", cursor) : get(s, "/invocations?limit=7");
        EXPECT(r, 200);
        const cJSON *each;
        cJSON_ArrayForEach(each, field(r, "items"))
        {
            const char *id = cJSON_GetObjectItem(each, "id")->valuestring;
            REQUIRE(strcmp(id, ids[N - 1 - seen]) == 0, "%s came where %s should", id, ids[N - 1 - seen]);
            seen++;
        }
        cursor = cJSON_IsString(field(r, "next")) ? text_of(r, "next") : NULL;
        EXPECT(post(s, format("/invocations/%s/cancel", ids[(page * 13) % N]), NULL), 200);
        submit(s, "{'task': 'echo'}");
    }
    cr_assert_eq(seen, N);
}

Test(read, pages_with_several_statuses_are_merged_in_order)
{
    struct server *s = serve(TASKS);
    char *ids[12];
    EXPECT(post(s, "/tasks/echo/pause", NULL), 200);
    for (int i = 0; i < 12; i++) {
        static const char *const bodies[] = {"{\"task\": \"fail\"}", "{\"task\": \"echo\"}",
                                             "{\"task\": \"echo\", \"delay\": \"1h\"}", "{\"task\": \"count\"}"};
        ids[i] = submit(s, "%s", bodies[i % 4]);
    }
    for (int i = 0; i < 12; i++)
        if (i % 4 == 0 || i % 4 == 3)
            final(s, ids[i]);
    int expected[] = {0, 1, 2, 4, 5, 6, 8, 9, 10};
    int seen = 0;
    struct reply *r =
        EXPECT(get(s, "/invocations?status=failed&status=queued&status=scheduled&order=oldest&limit=2"), 200);
    for (;;) {
        const cJSON *each;
        cJSON_ArrayForEach(each, field(r, "items")) REQUIRE(
            strcmp(cJSON_GetObjectItem(each, "id")->valuestring, ids[expected[seen++]]) == 0, "%s", r->body);
        if (!cJSON_IsString(field(r, "next")))
            break;
        REQUIRE(strstr(header(r, "Link"), "rel=\"next\""), "%s", r->head);
        r = EXPECT(get(s,
                       "/invocations?status=failed&status=queued&status=scheduled&order=oldest&limit=2&cursor=%s",
                       text_of(r, "next")),
                   200);
    }
    cr_assert_eq(seen, 9);
}

static int count_of(struct server *s, const char *query)
{
    int n = 0;
    const char *cursor = NULL;
    do {
        struct reply *r =
            cursor ? get(s, "/invocations?%s&cursor=%s", query, cursor) : get(s, "/invocations?%s", query);
        EXPECT(r, 200);
        n += cJSON_GetArraySize(field(r, "items"));
        cursor = cJSON_IsString(field(r, "next")) ? text_of(r, "next") : NULL;
    } while (cursor);
    return n;
}

static int64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * (int64_t)1000 + now.tv_nsec / 1000000;
}

static void next_millisecond(void)
{
    for (int64_t began = milliseconds(); milliseconds() == began;)
        ;
}

Test(read, a_list_is_filtered_by_everything_it_says)
{
    struct server *s = serve(TASKS);
    char *first = submit(s, "{'task': 'echo', 'labels': {'shop': 'a', 'order': '1'}}");
    submit(s, "{'task': 'echo', 'labels': {'shop': 'a', 'order': '2'}}");
    next_millisecond(); /* created_before is exact to it */
    char *failed = submit(s, "{'task': 'fail', 'labels': {'shop': 'b'}, 'key': 'k'}");
    final(s, first);
    struct reply *f = final(s, failed);
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.succeeded") == 2);
    static const struct {
        const char *query;
        int count;
    } rows[] = {
        {"task=echo", 2},
        {"task=nosuch", 0},
        {"status=failed", 1},
        {"status=succeeded", 2},
        {"status=running", 0},
        {"label.shop=a", 2},
        {"label.shop=a&label.order=2", 1},
        {"label=shop:a", 2},
        {"label=shop:a&label=order:2", 1},
        {"label=shop%3Aa&label.order=2", 1},
        {"label=shop:", 0},
        {"label.shop=b&label.order=2", 0},
        {"error=mine", 1},
        {"error=mi*", 1},
        {"error=mi", 0},
        {"key=k", 1},
        {"task=fail&status=failed&label.shop=b&error=mine", 1},
        {"worker=nobody", 0},
        {"created_after=2001-01-01T00:00:00Z", 3},
        {"created_before=2001-01-01T00:00:00Z", 0},
        {"label.shop=a&limit=1", 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int n = count_of(s, rows[i].query);
        REQUIRE(n == rows[i].count, "%s: %d instead of %d", rows[i].query, n, rows[i].count);
    }
    cr_assert_eq(count_of(s, format("worker=%s", text_of(f, "worker"))) >= 1, 1);
    cr_assert_eq(count_of(s, format("created_before=%s", text_of(f, "created_at"))), 2);
}

Test(read, a_query_that_nothing_reads_is_refused)
{
    static const char *const paths[] = {
        "/invocations?stauts=failed",
        "/invocations?status=done",
        "/invocations?limit=0",
        "/invocations?limit=1001",
        "/invocations?limit=x",
        "/invocations?order=up",
        "/invocations?view=all",
        "/invocations?cursor=!!",
        "/invocations?created_after=yesterday",
        "/invocations?task=a&task=b",
        "/invocations?task=%zz",
        "/invocations?group=1",
        "/stats?x=1",
        "/tasks?limit=2x",
        "/invocations?label.=x",
        "/invocations?parent=x",
        "/messages?after=x",
        "/messages?task=a",
        "/messages?view=full",
    };
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        EXPECT_PROBLEM(ask(s, "GET", paths[i], NULL, NULL), 400, "invalid-query");
    EXPECT_HAS(ask(s, "GET", "/invocations?stauts=failed", NULL, NULL), "status");
}

Test(read, lists_leave_arguments_and_results_out_unless_asked)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'args': 'secret'}");
    final(s, id);
    struct reply *r = EXPECT(get(s, "/invocations"), 200);
    REQUIRE(!field(r, "items.0.args") && !field(r, "items.0.result") && field(r, "items.0.id"), "%s", r->body);
    EXPECT_TEXT(EXPECT(get(s, "/invocations?view=full"), 200), "items.0.result", "secret");
    r = EXPECT(get(s, "/invocations/%s?view=basic", id), 200);
    REQUIRE(!field(r, "args") && !field(r, "result"), "%s", r->body);
}

Test(read, what_has_not_changed_is_304)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo'}");
    final(s, id);
    char *paths[] = {"/invocations",
                     "/tasks",
                     "/tasks/echo",
                     "/stats",
                     "/openapi.yaml",
                     format("/invocations/%s", id),
                     format("/invocations/%s/result", id),
                     format("/invocations/%s/attempts", id),
                     format("/invocations/%s/log", id)};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct reply *r;
        char *tag, *condition;
        WAIT_UNTIL((tag = header(EXPECT(ask(s, "GET", paths[i], NULL, NULL), 200), "ETag")) &&
                   (condition = format("If-None-Match: \"a\", %s\r\n", tag)) &&
                   (r = ask(s, "GET", paths[i], condition, NULL))->status == 304);
        cr_assert_eq(r->length, 0);
        cr_assert_str_eq(header(r, "ETag"), tag);
        EXPECT(ask(s, "HEAD", paths[i], condition, NULL), 304);
        EXPECT(ask(s, "GET", paths[i], "If-None-Match: \"other\"\r\n", NULL), 200);
        EXPECT(ask(s, "GET", paths[i], "If-None-Match: *\r\n", NULL), 304);
    }
}

/* On a busy server nothing was ever 304: each commit changed each tag. */
Test(read, a_tag_is_of_what_is_shown)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo'}");
    char *waiting = submit(s, "{'task': 'echo', 'delay': '1h'}");
    final(s, id);
    char *lasting[] = {"/tasks/fail",
                       "/openapi.yaml",
                       "/invocations?status=scheduled",
                       format("/invocations/%s", id),
                       format("/invocations/%s/result", id),
                       format("/invocations/%s/attempts", id)};
    enum { LASTING = sizeof(lasting) / sizeof(lasting[0]) };
    char *tags[LASTING];
    for (int i = 0; i < LASTING; i++)
        tags[i] = header(EXPECT(ask(s, "GET", lasting[i], NULL, NULL), 200), "ETag");
    char *page = header(EXPECT(get(s, "/invocations"), 200), "ETag");
    char *task = header(EXPECT(get(s, "/tasks/echo"), 200), "ETag");
    final(s, submit(s, "{'task': 'echo'}"));
    for (int i = 0; i < LASTING; i++) {
        struct reply *r = ask(s, "GET", lasting[i], format("If-None-Match: %s\r\n", tags[i]), NULL);
        REQUIRE(r->status == 304, "%s: %d", lasting[i], r->status);
    }
    EXPECT(ask(s, "GET", "/invocations", format("If-None-Match: %s\r\n", page), NULL), 200);
    EXPECT(ask(s, "GET", "/tasks/echo", format("If-None-Match: %s\r\n", task), NULL), 200);

    char *before = header(EXPECT(get(s, "/invocations/%s", waiting), 200), "ETag");
    EXPECT(patch(s, format("/invocations/%s", waiting), "{'priority': 3}"), 200);
    EXPECT(ask(s, "GET", format("/invocations/%s", waiting), format("If-None-Match: %s\r\n", before), NULL), 200);
    restart(s);
    EXPECT(ask(s, "GET", format("/invocations/%s", id), format("If-None-Match: %s\r\n", tags[3]), NULL), 304);
}

/* `*` is 304 for what is there, and said so of everything. */
Test(read, a_star_matches_only_what_exists)
{
    static const char *const paths[] = {"/invocations/0000000000000", "/invocations/0000000000000/log",
                                        "/invocations/0000000000000/result", "/invocations/0000000000000/attempts",
                                        "/tasks/nosuch"};
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct reply *r = EXPECT_PROBLEM(ask(s, "GET", paths[i], "If-None-Match: *\r\n", NULL), 404, "not-found");
        REQUIRE(!header(r, "ETag"), "%s", r->head);
    }
    char *id = submit(s, "{'task': 'echo', 'delay': '1h'}");
    EXPECT_PROBLEM(ask(s, "GET", format("/invocations/%s/result", id), "If-None-Match: *\r\n", NULL), 409,
                   "unfinished");
}

Test(read, an_unknown_invocation_is_404)
{
    static const char *const paths[] = {"/invocations/0000000000000",
                                        "/invocations/nonsense",
                                        "/invocations/0000000000000/log",
                                        "/invocations/0000000000000/result",
                                        "/invocations/0000000000000/attempts",
                                        "/tasks/nosuch",
                                        "/nosuch",
                                        "/tasks/",
                                        "/invocations/0000000000000/nosuch",
                                        "/loops/0000000000000",
                                        "/nosuch",
                                        "/events",
                                        "/metrics",
                                        "/messages?root=0000000000000",
                                        "/invocations/0000000000000/messages",
                                        "/invocations/0000000000000/children"};
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        EXPECT_PROBLEM(ask(s, "GET", paths[i], NULL, NULL), 404, "not-found");
    EXPECT_PROBLEM(post(s, "/invocations/0000000000000/cancel", NULL), 404, "not-found");
    EXPECT_PROBLEM(post(s, "/invocations/0000000000000/retry", NULL), 404, "not-found");
    EXPECT_PROBLEM(patch(s, "/invocations/0000000000000", "{'priority': 1}"), 404, "not-found");
    EXPECT_PROBLEM(ask(s, "DELETE", "/invocations/0000000000000", NULL, NULL), 404, "not-found");
    EXPECT_PROBLEM(post(s, "/tasks/nosuch/pause", NULL), 404, "not-found");
    EXPECT_PROBLEM(post(s, "/nosuch", "{}"), 404, "not-found");
}

Test(read, a_result_that_is_not_there_is_409_and_says_why)
{
    struct server *s = serve(TASKS);
    char *held = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    char *failed = submit(s, "{'task': 'fail'}"), *cancelled = submit(s, "{'task': 'echo', 'delay': '1h'}");
    struct reply *r = EXPECT_PROBLEM(get(s, "/invocations/%s/result", held), 409, "unfinished");
    REQUIRE(!field(r, "error"), "%s", r->body);
    final(s, failed);
    r = EXPECT_PROBLEM(get(s, "/invocations/%s/result?wait=1", failed), 409, "failed");
    EXPECT_TEXT(r, "error.type", "mine");
    EXPECT_TEXT(r, "error.message", "it went wrong");
    EXPECT(post(s, format("/invocations/%s/cancel", cancelled), NULL), 200);
    EXPECT_PROBLEM(get(s, "/invocations/%s/result", cancelled), 409, "cancelled");
    touch(file_in(s, "go"));
    final(s, held);
    cr_assert_str_eq(EXPECT(get(s, "/invocations/%s/result", held), 200)->body, "\"let go\"");
}

Test(read, attempts_are_kept_with_their_errors)
{
    struct server *s = serve("defaults: {max_retries: 5, backoff: {initial: 1ms}}\ntasks:\n"
                             "  fail_until: {kind: native, module: $NATIVE}\n");
    char *id = submit(s, "{'task': 'fail_until', 'args': 3}");
    struct reply *r = final(s, id);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_NUMBER(r, "attempt", 3);
    EXPECT_NULL(r, "error");
    r = EXPECT(get(s, "/invocations/%s/attempts", id), 200);
    for (int i = 0; i < 3; i++) {
        EXPECT_NUMBER(r, format("items.%d.attempt", i), i + 1);
        EXPECT_TEXT(r, format("items.%d.status", i), i < 2 ? "failed" : "succeeded");
        if (i < 2)
            EXPECT_TEXT(r, format("items.%d.error.type", i), format("fault-%d", i + 1));
        REQUIRE(*text_of(r, format("items.%d.started_at", i)) && *text_of(r, format("items.%d.finished_at", i)),
                "%s", r->body);
    }
    EXPECT_NULL(r, "items.2.error");
    cr_assert_eq(cJSON_GetArraySize(field(r, "items")), 3);
}

Test(read, tasks_show_their_definition_and_their_counts)
{
    struct server *s = serve(
        "tasks:\n"
        "  add:\n"
        "    kind: native\n"
        "    module: $NATIVE\n"
        "    function: echo\n"
        "    description: adds\n"
        "    params: {x: integer, y: {type: integer, default: 1}, z: {type: string, enum: [a, b], default: a}}\n"
        "    timeout: 1h30m\n"
        "    max_retries: 3\n"
        "  say: {kind: command, run: [echo, hello]}\n");
    final(s, submit(s, "{'task': 'add', 'args': [1]}"));
    struct reply *r = EXPECT(get(s, "/tasks/add"), 200);
    EXPECT_TEXT(r, "kind", "native");
    EXPECT_TEXT(r, "description", "adds");
    EXPECT_TEXT(r, "params.properties.x.type", "integer");
    EXPECT_NUMBER(r, "params.properties.y.default", 1);
    EXPECT_TEXT(r, "params.required.0", "x");
    EXPECT_TEXT(r, "options.timeout", "1h30m");
    EXPECT_NUMBER(r, "options.max_retries", 3);
    EXPECT_NUMBER(r, "counts.succeeded", 1);
    REQUIRE(cJSON_IsFalse(field(r, "paused")) && cJSON_IsFalse(field(r, "gone")), "%s", r->body);
    EXPECT_NULL(r, "oldest_queued_at");
    r = EXPECT(get(s, "/tasks"), 200);
    EXPECT_TEXT(r, "items.0.name", "add");
    EXPECT_TEXT(r, "items.1.name", "say");
    EXPECT_TEXT(r, "items.1.kind", "command");
    EXPECT(post(s, "/tasks/say/pause", NULL), 200);
    struct reply *queued = EXPECT(post(s, "/tasks", "{'task': 'say'}"), 201);
    EXPECT_TEXT(EXPECT(get(s, "/tasks/say"), 200), "oldest_queued_at", text_of(queued, "created_at"));
}

/* It merges at most 64 streams, and then scans: with half a million rows that
 * held up everybody for 357 ms. */
Test(read, a_list_of_many_tasks_and_priorities_holds_up_nobody)
{
    enum { TASK_COUNT = 70, LATER = 3000 };
    char *config = format("tasks:\n  later: {kind: command, run: [echo]}\n"), *lines = format("\n");
    for (int i = 0; i < TASK_COUNT; i++) {
        config = format("%s  t%d: {kind: command, run: [echo]}\n", config, i);
        for (int priority = 0; priority < 2; priority++)
            lines = format("%s{\"task\": \"t%d\", \"priority\": %d}\n", lines, i, priority);
    }
    struct server *s = serve(config);
    EXPECT(post(s, "/pause", NULL), 200);
    EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    static const char later[] = "{\"task\": \"later\", \"delay\": \"1h\"}\n";
    char *many = calloc(LATER, sizeof later);
    for (int i = 0; i < LATER; i++)
        strcat(many + i * strlen(later), later);
    EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", many), 200);
    int count = 0;
    for (const char *cursor = ""; cursor;) {
        struct reply *r = EXPECT(get(s, "/invocations?status=queued&limit=50&cursor=%s", cursor), 200);
        for (const cJSON *item = field(r, "items.0"); item; item = item->next, count++)
            cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(item, "status")), "queued");
        cursor = cJSON_IsString(field(r, "next")) ? text_of(r, "next") : NULL;
    }
    cr_assert_eq(count, 2 * TASK_COUNT);
    EXPECT_NUMBER(EXPECT(get(s, "/tasks/t0"), 200), "counts.queued", 2);
    REQUIRE(!strstr(server_log(s), "too much was read"), "%s", server_log(s));
}

Test(read, stats_count_what_happened)
{
    struct server *s = serve(TASKS);
    final(s, submit(s, "{'task': 'echo'}"));
    final(s, submit(s, "{'task': 'fail'}"));
    EXPECT(post(s, "/pause", NULL), 200);
    submit(s, "{'task': 'echo'}");
    struct reply *r = EXPECT(get(s, "/stats"), 200);
    EXPECT_NUMBER(r, "invocations.succeeded", 1);
    EXPECT_NUMBER(r, "invocations.failed", 1);
    EXPECT_NUMBER(r, "invocations.queued", 1);
    EXPECT_NUMBER(r, "tasks.echo.succeeded", 1);
    EXPECT_NUMBER(r, "tasks.echo.queued", 1);
    EXPECT_NUMBER(r, "submitted", 3);
    EXPECT_NUMBER(r, "failed", 1);
    WAIT_UNTIL(number_of(get(s, "/stats"), "rates.submitted") > 0); /* seconds that are over count */
    REQUIRE(number_of(r, "latency_ms.run.p99") >= number_of(r, "latency_ms.run.p50"), "%s", r->body);
}

Test(read, the_server_says_what_it_is)
{
    struct server *s = serve(TASKS);
    EXPECT(get(s, "/healthz"), 200);
    EXPECT(get(s, "/readyz"), 200);
    struct reply *r = EXPECT(get(s, "/version"), 200);
    REQUIRE(*text_of(r, "version") && *text_of(r, "commit") && *text_of(r, "sqlite") &&
                *text_of(r, "libmicrohttpd"),
            "%s", r->body);
    r = EXPECT(get(s, "/openapi.yaml"), 200);
    cr_assert_str_eq(r->body, read_whole("openapi.yaml"));
}

Test(read, a_head_is_a_get_without_its_body)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'args': 'x'}");
    final(s, id);
    char *paths[] = {"/tasks",
                     "/invocations",
                     "/healthz",
                     "/stats",
                     format("/invocations/%s", id),
                     format("/invocations/%s/log", id)};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct reply *head = EXPECT(ask(s, "HEAD", paths[i], NULL, NULL), 200);
        struct reply *whole = EXPECT(ask(s, "GET", paths[i], NULL, NULL), 200);
        cr_assert_eq(head->length, 0);
        cr_assert_str_eq(header(head, "Content-Type"), header(whole, "Content-Type"));
    }
}

Test(read, a_method_that_a_path_does_not_know_is_405_and_names_those_it_does)
{
    struct server *s = serve(TASKS);
    struct reply *r = EXPECT_PROBLEM(ask(s, "DELETE", "/tasks", NULL, NULL), 405, "method-not-allowed");
    REQUIRE(strstr(header(r, "Allow"), "GET") && strstr(header(r, "Allow"), "POST"), "%s", r->head);
    EXPECT(ask(s, "PUT", "/invocations/0000000000000", "Content-Type: application/json\r\n", "{}"), 405);
    EXPECT(ask(s, "BREW", "/tasks", NULL, NULL), 405);
    r = EXPECT(ask(s, "OPTIONS", "/invocations/0000000000000", NULL, NULL), 204);
    REQUIRE(strstr(header(r, "Allow"), "PATCH") && strstr(header(r, "Allow"), "HEAD"), "%s", r->head);
}

Test(read, a_connection_serves_many_requests_in_order)
{
    struct server *s = serve(TASKS);
    struct client *c = client_open(s);
    for (int i = 0; i < 20; i++) {
        char *body = format("{\"task\": \"echo\", \"args\": %d}", i);
        client_ask(c, "POST", "/tasks", "Content-Type: application/json\r\n", body, strlen(body));
        struct reply *r = client_receive(c, false);
        REQUIRE(r && r->status == 201, "the connection was closed");
        EXPECT_NUMBER(r, "args", i);
    }
    /* pipelined */
    for (int i = 0; i < 5; i++)
        client_ask(c, "GET", i % 2 ? "/healthz" : "/version", NULL, NULL, 0);
    for (int i = 0; i < 5; i++) {
        struct reply *r = client_receive(c, false);
        REQUIRE(r && r->status == 200 && (i % 2 == 0) == (strstr(r->body, "sqlite") != NULL),
                "answer %d is another's", i);
    }
}

Test(read, a_task_that_left_the_configuration_is_gone_and_its_invocations_stay)
{
    struct server *s = serve(TASKS);
    EXPECT(post(s, "/tasks/echo/pause", NULL), 200);
    char *id = submit(s, "{'task': 'echo'}");
    EXPECT(post(s, "/tasks/echo/resume", NULL), 200);
    final(s, id);
    EXPECT(post(s, "/tasks/echo/pause", NULL), 200);
    id = submit(s, "{'task': 'echo', 'key': 'k'}");
    kill_hard(s);
    configure(s, "tasks:\n  fail: {kind: native, module: $NATIVE}\n");
    start(s);
    struct reply *r = EXPECT(get(s, "/tasks/echo"), 200);
    REQUIRE(cJSON_IsTrue(field(r, "gone")), "%s", r->body);
    EXPECT_NUMBER(r, "counts.queued", 1);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "queued");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo'}"), 422, "invalid-request");
    EXPECT_TEXT(EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200), "status", "cancelled");
}

/* Each of these left its reader to guess. */
Test(read, a_refusal_says_what_would_do)
{
    static const struct {
        const char *method, *path, *headers, *body;
        int status;
        const char *said;
    } rows[] = {
        {"PUT", "/tasks", NULL, NULL, 405, "this path takes POST, GET, HEAD, OPTIONS"},
        {"GET", "/invocations?nosuch=1&limit=0", NULL, NULL, 400,
         "\"detail\":\"nosuch: unknown parameter (and 1 more)\""},
        {"GET", "/invocations?label=order", NULL, NULL, 400, "label: must be NAME:VALUE"},
        {"GET", "/invocations?labels.order=1", NULL, NULL, 400, "did you mean `label.order`?"},
        {"GET", "/invocations?status=queued,running", NULL, NULL, 400, "status=queued&status=running"},
        {"GET", "/invocations?created_after=2026-01-31T12:00:00+01:00", NULL, NULL, 400, "is written %2B"},
        {"GET", "/invocations?cursor=2", NULL, NULL, 400, "`next` of the page before"},
        {"POST", "/tasks", "Content-Type: application/json\r\n", "{\"task\": \"echo\",\n \"args\": }", 400,
         "\"detail\":\"line 2, column 10: "},
        {"POST", "/tasks", "Content-Type: application/json\r\n", "{\"task\": \"echo\", \"retries\": 1}", 422,
         "did you mean `max_retries`?"},
        {"POST", "/invocations", "Content-Type: application/x-ndjson\r\n",
         "{\"task\": \"echo\"}{\"task\": \"echo\"}", 200, "column 17: "},
        {"POST", "/invocations", "Content-Type: application/x-ndjson\r\n",
         "{\"task\": \"echo\"}{\"task\": \"echo\"}", 200, "--data-binary"},
        {"POST", "/invocations", "Content-Type: application/x-ndjson\r\n", "{\"task\": \"ehco\"}", 200,
         "\"detail\":\"/task: there is no task of that name; did you mean `echo`?\""},
    };
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reply *r =
            EXPECT(ask(s, rows[i].method, rows[i].path, rows[i].headers, rows[i].body), rows[i].status);
        REQUIRE(strstr(r->body, rows[i].said), "%s %s: %s", rows[i].method, rows[i].path, r->body);
    }
}
