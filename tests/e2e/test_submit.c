/* Submitting: one, many, with keys. */
#include "tests/e2e/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

SUITE(submit);

Test(submit, a_task_is_submitted_and_runs)
{
    struct server *s = serve(TASKS);
    struct reply *r = EXPECT(post(s, "/tasks", "{'task': 'echo', 'args': {'x': 1}}"), 201);
    const char *id = text_of(r, "id");
    REQUIRE(strlen(id) == 13 && strspn(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == 13, "the id is %s", id);
    cr_assert_str_eq(header(r, "Location"), format("/invocations/%s", id));
    cr_assert_str_eq(header(r, "Content-Type"), "application/json");
    EXPECT_TEXT(r, "task", "echo");
    EXPECT_NUMBER(r, "priority", 1);

    r = final(s, id);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_NUMBER(r, "attempt", 1);
    EXPECT_NUMBER(r, "args.x", 1);
    EXPECT_NUMBER(r, "result.x", 1);
    EXPECT_NULL(r, "error");
    EXPECT_HAS(EXPECT(get(s, "/invocations/%s/result", id), 200), "{\"x\": 1}");
}

/* A JSON library whose numbers are doubles mangles them. */
Test(submit, big_integers_and_the_order_of_keys_survive_byte_for_byte)
{
    static const char args[] = "{\"n\":9007199254740993,\"p\":1.10,  \"a\":[1e400, -0, "
                               "12345678901234567890123],\"\\u0041\":\"\\ud83d\\ude00\"}";
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'args': %s}", args);
    EXPECT_HAS(final(s, id), args);
    struct reply *r = EXPECT(get(s, "/invocations/%s/result", id), 200);
    cr_assert_str_eq(r->body, args);
    EXPECT_HAS(EXPECT(get(s, "/invocations?view=full"), 200), args);
}

Test(submit, any_json_may_be_the_arguments_of_a_task_without_params)
{
    static const char *const rows[] = {"null",   "true",         "0",       "\"text\"", "[]", "{}",
                                       "[[[]]]", "\"\\u0000x\"", "-1.50e+3"};
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *id = submit(s, "{'task': 'echo', 'args': %s}", rows[i]);
        final(s, id);
        cr_assert_str_eq(EXPECT(get(s, "/invocations/%s/result", id), 200)->body, rows[i]);
    }
    final(s, submit(s, "{'task': 'echo'}"));
}

Test(submit, large_arguments_and_results_come_back_whole)
{
    struct server *s = serve(TASKS);
    size_t n = 900000;
    char *args = malloc(n + 3);
    memset(args, 'y', n + 2);
    args[0] = args[n + 1] = '"';
    args[n + 2] = '\0';
    char *id = submit(s, "{'task': 'echo', 'args': %s}", args);
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    REQUIRE(strcmp(EXPECT(get(s, "/invocations/%s/result", id), 200)->body, args) == 0, "the result differs");
}

Test(submit, options_settle_at_submission)
{
    struct server *s = serve("defaults: {timeout: 10m}\n" TASKS);
    EXPECT(post(s, "/pause", NULL), 200);
    struct reply *r = EXPECT(
        post(s, "/tasks",
             "{'task': 'echo', 'args': 1, 'priority': 0, 'delay': '1h', 'expires_in': '2h', 'timeout': '1m30s',"
             " 'max_retries': 4, 'retention': '1h', 'labels': {'order': '1017', 'shop': 'b'}, 'key': 'k1'}"),
        201);
    EXPECT_TEXT(r, "status", "scheduled");
    EXPECT_NUMBER(r, "priority", 0);
    EXPECT_NUMBER(r, "max_retries", 4);
    EXPECT_TEXT(r, "labels.order", "1017");
    EXPECT_TEXT(r, "key", "k1");
    EXPECT_TEXT(r, "timeout", "1m30s");
    EXPECT_TEXT(r, "retention", "1h");
    REQUIRE(*text_of(r, "run_at") && *text_of(r, "expires_at"), "%s", r->body);
    REQUIRE(strcmp(text_of(r, "run_at"), text_of(r, "created_at")) > 0);

    r = EXPECT(post(s, "/tasks", "{'task': 'echo', 'run_at': '2999-01-02T03:04:05.678+02:00'}"), 201);
    EXPECT_TEXT(r, "status", "scheduled");
    EXPECT_TEXT(r, "run_at", "2999-01-02T01:04:05.678Z");
    EXPECT_TEXT(r, "timeout", "10m");

    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'echo', 'run_at': '2001-01-01T00:00:00Z'}"), 201), "status",
                "queued");
}

Test(submit, everything_that_is_wrong_is_named_at_once)
{
    struct server *s = serve(TASKS);
    struct reply *r = EXPECT_PROBLEM(
        post(s, "/tasks",
             "{'task': 'nosuch', 'priority': 128, 'delay': '5', 'run_at': 'tomorrow', 'max_retries': -1,"
             " 'labels': {'a': 1}, 'colour': 'red', 'timeout': 30}"),
        422, "invalid-request");
    static const char *const pointers[] = {"/task",        "/priority", "/delay",  "/run_at",
                                           "/max_retries", "/labels/a", "/colour", "/timeout"};
    for (size_t i = 0; i < sizeof(pointers) / sizeof(pointers[0]); i++)
        REQUIRE(faults_mention(r, pointers[i]), "%s is not mentioned: %s", pointers[i], r->body);

    static const char *const bodies[] = {
        "[]",
        "1",
        "{}",
        "{\"task\": 1}",
        "{\"task\": \"echo\", \"delay\": \"1s\", \"run_at\": \"2999-01-01T00:00:00Z\"}",
        "{\"task\": \"echo\", \"key\": \"\"}",
        "{\"task\": \"echo\", \"expires_in\": \"-1s\"}",
        "{\"task\": \"echo\", \"max_retries\": 1.5}",
        "{\"task\": \"echo\", \"priority\": \"1\"}",
        "{\"task\": \"echo\", \"labels\": []}",
        "{\"task\": \"echo\", \"labels\": {\"\": \"x\"}}",
        "{\"task\": \"echo\", \"run_at\": \"2026-02-30T00:00:00Z\"}",
        "{\"task\": \"\"}",
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        EXPECT_PROBLEM(post(s, "/tasks", "%s", bodies[i]), 422, "invalid-request");
}

Test(submit, a_query_that_nothing_reads_is_refused)
{
    struct server *s = serve(TASKS);
    EXPECT_PROBLEM(post(s, "/tasks?priority=0", "{'task': 'echo'}"), 400, "invalid-query");
    EXPECT_PROBLEM(
        ask(s, "POST", "/tasks?x=1", "Content-Type: application/x-ndjson\r\n", "{\"task\": \"echo\"}\n"), 400,
        "invalid-query");
    EXPECT_NUMBER(get(s, "/stats"), "submitted", 0);
}

/* These belong to later parts: a server that ignored them would run too early. */
Test(submit, fields_that_nothing_reads_yet_are_refused)
{
    static const char *const fields[] = {"callback", "index", "parent", "loop"};
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        struct reply *r =
            EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', '%s': true}", fields[i]), 422, "invalid-request");
        REQUIRE(faults_mention(r, format("/%s", fields[i])), "%s", r->body);
    }
}

Test(submit, parameters_bind_by_name_and_by_position_and_fill_defaults_in)
{
    static const struct {
        const char *args, *result;
    } rows[] = {
        {"{\"x\": 2}", "{\"x\":2,\"y\":1}"},
        {"[2]", "{\"x\":2,\"y\":1}"},
        {"[2, 12345678901234567890]", "{\"x\":2,\"y\":12345678901234567890}"},
        {"{\"y\": 3, \"x\": 9007199254740993}", "{\"x\":9007199254740993,\"y\":3}"},
    };
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *id = submit(s, "{'task': 'add', 'args': %s}", rows[i].args);
        EXPECT_HAS(final(s, id), rows[i].args); /* as it was sent */
        cr_assert_str_eq(EXPECT(get(s, "/invocations/%s/result", id), 200)->body, rows[i].result);
    }
    static const struct {
        const char *args, *pointer;
    } wrong[] = {
        {"{}", "/args/x"},           {"[]", "/args/0"},           {"{\"x\": \"2\"}", "/args/x"},
        {"{\"x\": 1.0}", "/args/x"}, {"{\"x\": 1e3}", "/args/x"}, {"{\"x\": 1, \"z\": 2}", "/args/z"},
        {"[1, 2, 3]", "/args/2"},    {"[1, null]", "/args/1"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct reply *r = EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'add', 'args': %s}", wrong[i].args), 422,
                                         "invalid-request");
        REQUIRE(faults_mention(r, wrong[i].pointer), "%s is not mentioned for %s: %s", wrong[i].pointer,
                wrong[i].args, r->body);
    }
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'add', 'args': 1}"), 422, "invalid-request");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'add'}"), 422, "invalid-request");
}

Test(submit, a_body_that_is_no_json_is_told_where)
{
    static const char *const bodies[] = {"",
                                         "{",
                                         "{\"task\": \"echo\"} x",
                                         "{'task': 'echo'}",
                                         "{\"task\": \"echo\", \"task\": \"add\"}",
                                         "{\"task\": \"echo\", \"args\": {\"a\": 1, \"\\u0061\": 2}}",
                                         "{\"task\": 01}",
                                         "\"\xff\"",
                                         "{\"task\": \"\\ud800\"}",
                                         "NaN"};
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        EXPECT_PROBLEM(ask(s, "POST", "/tasks", "Content-Type: application/json\r\n", bodies[i]), 400,
                       "invalid-json");
}

Test(submit, a_body_of_another_type_is_415_and_told_about_curl_json)
{
    struct server *s = serve(TASKS);
    struct reply *r =
        ask(s, "POST", "/tasks", "Content-Type: application/x-www-form-urlencoded\r\n", "{\"task\":\"echo\"}");
    EXPECT_HAS(EXPECT_PROBLEM(r, 415, "unsupported-media-type"), "curl --json");
    EXPECT_PROBLEM(ask(s, "POST", "/tasks", NULL, "{\"task\":\"echo\"}"), 415, "unsupported-media-type");
    EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/json; charset=utf-8\r\n", "{\"task\":\"echo\"}"),
           201);
}

/* JSON strings that are written differently and are the same. */
Test(submit, a_name_with_escapes_is_the_same_name)
{
    struct server *s = serve(TASKS);
    EXPECT_TEXT(final(s, submit(s, "{'t\\u0061sk': '\\u0065cho', 'args': 1}")), "task", "echo");
}

Test(submit, a_key_settles_what_happened_to_the_first_try)
{
    struct server *s = serve(TASKS);
    char *headers = "Content-Type: application/json\r\nIdempotency-Key: order-1\r\n";
    char *body = "{\"task\": \"echo\", \"args\": 1}";
    struct reply *first = EXPECT(ask(s, "POST", "/tasks", headers, body), 201);
    EXPECT_TEXT(first, "key", "order-1");
    struct reply *second = EXPECT(ask(s, "POST", "/tasks", headers, body), 200);
    EXPECT_TEXT(second, "id", text_of(first, "id"));
    EXPECT_PROBLEM(ask(s, "POST", "/tasks", headers, "{\"task\": \"echo\", \"args\": 2}"), 422, "key-reused");
    EXPECT_TEXT(EXPECT(get(s, "/invocations?key=order-1"), 200), "items.0.id", text_of(first, "id"));

    final(s, text_of(first, "id"));
    /* also after a crash, while the service is paused, and when the task is gone from the configuration */
    restart(s);
    EXPECT(post(s, "/pause", NULL), 200);
    EXPECT_TEXT(EXPECT(ask(s, "POST", "/tasks", headers, body), 200), "id", text_of(first, "id"));
    EXPECT_NUMBER(EXPECT(get(s, "/stats"), 200), "tasks.echo.succeeded", 1);
}

Test(submit, a_key_in_the_body_is_as_one_in_the_header)
{
    struct server *s = serve(TASKS);
    struct reply *first = EXPECT(post(s, "/tasks", "{'task': 'echo', 'key': 'k'}"), 201);
    EXPECT_TEXT(EXPECT(post(s, "/tasks", "{'task': 'echo', 'key': 'k'}"), 200), "id", text_of(first, "id"));
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'key': 'k', 'priority': 2}"), 422, "key-reused");
    REQUIRE(ask(s, "POST", "/tasks", "Content-Type: application/json\r\nIdempotency-Key: other\r\n",
                "{\"task\": \"echo\", \"key\": \"k\"}")
                        ->status /
                    100 ==
                4,
            "two keys that differ are taken");
}

/* A client that is written anew, or sends through another library, is the same client. */
Test(submit, the_form_of_a_body_makes_no_other_body)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'args': {'a': 1, 'b': 2}, 'key': 'k2'}");
    struct reply *r = EXPECT(post(s, "/tasks", "{'key':'k2','args':{'b':2,'a':1},'task':'echo'}"), 200);
    EXPECT_TEXT(r, "id", id);
    static const char *const headers[] = {"Content-Type: application/json\r\nIdempotency-Key: k2\r\n",
                                          "Content-Type: application/json\r\nIdempotency-Key: \"k2\"\r\n"};
    for (int i = 0; i < 2; i++) {
        r = EXPECT(ask(s, "POST", "/tasks", headers[i], "{\"task\": \"echo\", \"args\": {\"b\": 2, \"a\": 1}}"),
                   200);
        EXPECT_TEXT(r, "id", id);
    }
    EXPECT_PROBLEM(ask(s, "POST", "/tasks", headers[1], "{\"task\": \"echo\", \"args\": [1]}"), 422, "key-reused");
    EXPECT_PROBLEM(ask(s, "POST", "/tasks", "Content-Type: application/json\r\nIdempotency-Key: \"\"\r\n",
                       "{\"task\": \"echo\"}"),
                   422, "invalid-request");
}

Test(submit, many_with_one_key_at_once_make_one_invocation)
{
    struct server *s = serve(TASKS);
    struct client *clients[16];
    char *body = "{\"task\": \"count\", \"key\": \"only-one\"}";
    for (int i = 0; i < 16; i++)
        clients[i] = client_open(s);
    for (int i = 0; i < 16; i++)
        client_ask(clients[i], "POST", "/tasks", "Content-Type: application/json\r\n", body, strlen(body));
    int made = 0;
    const char *id = NULL;
    for (int i = 0; i < 16; i++) {
        struct reply *r = client_receive(clients[i], false);
        REQUIRE(r && (r->status == 201 || r->status == 200), "%s", r ? r->body : "closed");
        made += r->status == 201;
        if (id)
            EXPECT_TEXT(r, "id", id);
        id = text_of(r, "id");
    }
    cr_assert_eq(made, 1);
    final(s, id);
    cr_assert_eq(strlen(read_whole(file_in(s, "runs"))), 14);
}

static struct reply *submit_lines(struct server *s, const char *lines)
{
    return ask(s, "POST", "/invocations", "Content-Type: application/x-ndjson\r\n", lines);
}

/* The n-th line of an answer as a reply of its own. */
static struct reply *line_of(struct reply *r, int n)
{
    char *at = r->body;
    while (n-- > 0 && (at = strchr(at, '\n')))
        at++;
    REQUIRE(at && *at, "the answer has fewer lines: %.2000s", r->body);
    struct reply *line = calloc(1, sizeof(*line));
    line->request = "a line of NDJSON";
    line->head = "";
    line->body = strndup(at, strcspn(at, "\n"));
    line->length = strlen(line->body);
    return line;
}

Test(submit, many_go_to_invocations_and_still_to_tasks)
{
    static const char line[] = "{\"task\": \"echo\"}";
    struct server *s = serve(TASKS);
    static const char *const paths[] = {"/invocations", "/tasks"};
    for (int i = 0; i < 2; i++) {
        struct reply *r = EXPECT(ask(s, "POST", paths[i], "Content-Type: application/x-ndjson\r\n", line), 200);
        cr_assert_str_eq(header(r, "Content-Type"), "application/x-ndjson");
        EXPECT_NUMBER(line_of(r, 0), "status", 201);
    }
    struct reply *r = EXPECT_PROBLEM(post(s, "/invocations", line), 415, "unsupported-media-type");
    EXPECT_HAS(r, "application/x-ndjson");
    EXPECT_PROBLEM(post(s, "/invocations", NULL), 415, "unsupported-media-type");
    EXPECT_PROBLEM(ask(s, "POST", "/invocations?x=1", "Content-Type: application/x-ndjson\r\n", line), 400,
                   "invalid-query");
}

Test(submit, lines_are_answered_one_by_one_and_spoil_nothing_of_each_other)
{
    struct server *s = serve(TASKS);
    struct reply *r = EXPECT(submit_lines(s, "{\"task\": \"echo\", \"args\": {\"n\": 9007199254740993}}\n"
                                             "{\"task\": \"nosuch\"}\n"
                                             "not json\n"
                                             "{\"task\": \"add\", \"args\": [\"x\"]}\n"
                                             "{\"task\": \"echo\", \"key\": \"a\"}\n"
                                             "{\"task\": \"echo\", \"key\": \"a\"}\n"
                                             "{\"task\": \"echo\", \"key\": \"a\", \"args\": 1}"),
                             200);
    cr_assert_str_eq(header(r, "Content-Type"), "application/x-ndjson");
    static const int statuses[] = {201, 422, 400, 422, 201, 200, 422};
    static const char *const problems[] = {NULL, "invalid-request", "invalid-json", "invalid-request", NULL,
                                           NULL, "key-reused"};
    for (int i = 0; i < 7; i++) {
        struct reply *line = line_of(r, i);
        EXPECT_NUMBER(line, "index", i);
        EXPECT_NUMBER(line, "status", statuses[i]);
        if (problems[i])
            EXPECT_TEXT(line, "problem.type", format("urn:errand:problem:%s", problems[i]));
        else
            EXPECT_TEXT(final(s, text_of(line, "id")), "status", "succeeded");
    }
    cr_assert_str_eq(text_of(line_of(r, 4), "id"), text_of(line_of(r, 5), "id"));
    cr_assert_str_eq(EXPECT(get(s, "/invocations/%s/result", text_of(line_of(r, 0), "id")), 200)->body,
                     "{\"n\": 9007199254740993}");
}

Test(submit, ten_thousand_lines_are_ten_thousand_invocations)
{
    struct server *s = serve("slots: 2\n" TASKS);
    enum { N = 10000 };
    char *body = malloc(N * 40);
    size_t n = 0;
    EXPECT(post(s, "/pause", NULL), 200);
    for (int i = 0; i < N; i++)
        n += (size_t)sprintf(body + n, "{\"task\": \"echo\", \"args\": %d}\n", i);
    struct reply *r = EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", body), 200);
    int lines = 0;
    for (char *at = r->body; (at = strchr(at, '\n')); at++)
        lines++;
    cr_assert_eq(lines, N);
    EXPECT_NUMBER(line_of(r, N - 1), "index", N - 1);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.queued", N);
    EXPECT(post(s, "/resume", NULL), 200);
    WAIT_UNTIL(number_of(get(s, "/stats"), "invocations.succeeded") == N);
}

Test(submit, lines_that_arrive_slowly_and_in_chunks_are_read_as_they_arrive)
{
    struct server *s = serve(TASKS);
    struct client *c = client_open(s);
    client_ask(c, "POST", "/tasks", "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n", NULL,
               0);
    static const char *const chunks[] = {"9\r\n{\"task\": \r\n", "10\r\n\"echo\"}\n{\"task\":\r\n",
                                         "7\r\n\"echo\"}\r\n", "0\r\n\r\n"};
    for (int i = 0; i < 4; i++)
        client_send(c, chunks[i], strlen(chunks[i]));
    struct reply *r = client_receive(c, false);
    REQUIRE(r && r->status == 200, "%s", r ? r->body : "closed");
    EXPECT_NUMBER(line_of(r, 0), "status", 201);
    EXPECT_NUMBER(line_of(r, 1), "status", 201);
}

Test(submit, a_header_key_for_many_lines_is_400)
{
    struct server *s = serve(TASKS);
    struct reply *r = ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\nIdempotency-Key: k\r\n",
                          "{\"task\": \"echo\"}\n");
    EXPECT(r, 400);
    EXPECT_NUMBER(get(s, "/stats"), "submitted", 0);
}

Test(submit, a_backlog_has_a_cap)
{
    struct server *s = serve("tasks:\n  capped: {kind: native, module: $NATIVE, function: echo, max_queued: 2}\n"
                             "  echo: {kind: native, module: $NATIVE}\n");
    EXPECT(post(s, "/tasks/capped/pause", NULL), 200);
    submit(s, "{'task': 'capped'}");
    submit(s, "{'task': 'capped', 'delay': '1h', 'key': 'second'}");
    struct reply *r = EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'capped'}"), 429, "queue-full");
    REQUIRE(header(r, "Retry-After"), "no Retry-After");
    EXPECT(post(s, "/tasks", "{'task': 'capped', 'delay': '1h', 'key': 'second'}"), 200);
    final(s, submit(s, "{'task': 'echo'}"));
    r = EXPECT(submit_lines(s, "{\"task\": \"capped\"}\n{\"task\": \"echo\"}\n"), 200);
    EXPECT_NUMBER(line_of(r, 0), "status", 429);
    EXPECT_NUMBER(line_of(r, 1), "status", 201);
    EXPECT(post(s, "/tasks/capped/resume", NULL), 200);
    WAIT_UNTIL(number_of(get(s, "/tasks/capped"), "counts.queued") == 0);
    submit(s, "{'task': 'capped'}");
}

/* Its header was read when the commit came, and was gone with the client. */
Test(submit, a_client_that_leaves_takes_its_key_along_no_more)
{
    enum { CLIENTS = 60 };
    struct server *s = serve(TASKS);
    struct client *clients[CLIENTS];
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < CLIENTS; i++)
            clients[i] = client_open(s);
        for (int i = 0; i < CLIENTS; i++)
            client_ask(
                clients[i], "POST", "/tasks",
                format("Content-Type: application/json\r\nIdempotency-Key: a-client-left-%d-%d\r\n", round, i),
                "{\"task\": \"echo\"}", 16);
        for (int i = 0; i < CLIENTS; i++) {
            setsockopt(clients[i]->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
            client_close(clients[i]); /* reset: it is noticed at once */
        }
        struct reply *r = EXPECT(get(s, "/invocations?limit=1000"), 200);
        for (char *at = r->body; (at = strstr(at, "\"key\":")); at++)
            REQUIRE(strncmp(at + 6, "\"a-client-left-", 15) == 0, "%.60s", at);
    }
}
