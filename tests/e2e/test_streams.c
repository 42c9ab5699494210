/* Requests that wait: long polls, Prefer, followed logs. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <string.h>

SUITE(streams);

#define JSON "Content-Type: application/json\r\n"

Test(streams, a_wait_ends_when_it_is_final)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    struct client *c = client_open(s);
    client_ask(c, "GET", format("/invocations/%s?wait=60", id), NULL, NULL, 0);
    AWAIT_STATUS(s, id, "running");
    REQUIRE(!client_hears(c, 100), "it does not wait");
    touch(file_in(s, "go"));
    EXPECT_TEXT(client_receive(c, false), "status", "succeeded");
}

Test(streams, a_wait_is_over_when_its_time_is)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    int64_t began = now_ms();
    AWAIT_STATUS(s, id, "running");
    struct reply *r = EXPECT(get(s, "/invocations/%s?wait=0.5", id), 200);
    EXPECT_TEXT(r, "status", "running");
    REQUIRE(now_ms() - began >= 500, "after %d ms", (int)(now_ms() - began));
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s?wait=100ms", id), 200), "status", "running");
    EXPECT_PROBLEM(get(s, "/invocations/%s/result?wait=0.1", id), 409, "unfinished");
    EXPECT_PROBLEM(get(s, "/invocations/%s?wait=soon", id), 400, "invalid-query");
    EXPECT_PROBLEM(get(s, "/invocations/%s?wait=-1", id), 400, "invalid-query");
}

/* Elsewhere a wait for a result spins a core. */
Test(streams, five_hundred_waits_do_not_spin)
{
    struct server *s = serve(TASKS);
    struct client *clients[500];
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    for (int i = 0; i < 500; i++) {
        clients[i] = client_open(s);
        client_ask(clients[i], "GET", format("/invocations/%s?wait=60", id), NULL, NULL, 0);
    }
    EXPECT(get(s, "/healthz"), 200);
    char *other = submit(s, "{'task': 'echo', 'delay': '2s'}");
    int64_t before = processor_ms(s);
    final(s, other);
    int64_t used = processor_ms(s) - before; /* the held body looks for its file 500 times a second */
    REQUIRE(used < 600, "they used %lld ms of 2 s", (long long)used);
    touch(file_in(s, "go"));
    for (int i = 0; i < 500; i++)
        EXPECT_TEXT(client_receive(clients[i], false), "status", "succeeded");
}

Test(streams, prefer_wait_answers_a_submission_with_its_result)
{
    struct server *s = serve(TASKS);
    struct reply *r =
        EXPECT(ask(s, "POST", "/tasks", JSON "Prefer: wait=30\r\n", "{\"task\": \"echo\", \"args\": 5}"), 201);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_NUMBER(r, "result", 5);
    REQUIRE(header(r, "Preference-Applied") && strstr(header(r, "Preference-Applied"), "wait"), "%s", r->head);
    REQUIRE(header(r, "Location"), "%s", r->head);

    char *body = format("{\"task\": \"hold\", \"args\": \"%s\", \"key\": \"k\"}", file_in(s, "go"));
    r = EXPECT(ask(s, "POST", "/tasks", JSON "Prefer: wait=0.2\r\n", body), 201);
    REQUIRE(strcmp(text_of(r, "status"), "succeeded") != 0, "%s", r->body);
    touch(file_in(s, "go"));
    r = EXPECT(ask(s, "POST", "/tasks", JSON "Prefer: respond-async, wait=30\r\n", body), 200);
    EXPECT_TEXT(r, "status", "succeeded");
    r = EXPECT(ask(s, "POST", "/tasks", JSON, body), 200);
    REQUIRE(!header(r, "Preference-Applied"), "%s", r->head);
}

Test(streams, a_minimal_answer_is_the_id_and_the_status)
{
    static const char body[] = "{\"task\": \"echo\", \"args\": 5, \"key\": \"k\"}";
    struct server *s = serve(TASKS);
    struct reply *r = EXPECT(ask(s, "POST", "/tasks", JSON "Prefer: return=minimal\r\n", body), 201);
    char *id = strdup(text_of(r, "id"));
    cr_assert_str_eq(r->body, format("{\"id\":\"%s\",\"status\":\"queued\"}", id));
    cr_assert_str_eq(header(r, "Preference-Applied"), "return=minimal");
    cr_assert_str_eq(header(r, "Location"), format("/invocations/%s", id));
    final(s, id);
    r = EXPECT(ask(s, "POST", "/tasks", JSON "Prefer: wait=5, return=minimal\r\n", body), 200);
    cr_assert_str_eq(r->body, format("{\"id\":\"%s\",\"status\":\"succeeded\"}", id));
    cr_assert_str_eq(header(r, "Preference-Applied"), "return=minimal, wait=5");
    r = EXPECT(ask(s, "POST", "/tasks", JSON "Prefer: return=minimal, wait=30\r\n", "{\"task\": \"fail\"}"), 201);
    EXPECT_TEXT(r, "status", "failed");
    REQUIRE(!field(r, "error"), "%s", r->body);
    EXPECT_PROBLEM(ask(s, "POST", "/tasks", JSON "Prefer: return=minimal\r\n", "{}"), 422, "invalid-request");
    r = EXPECT(ask(s, "POST", "/tasks", JSON "Prefer: return=representation\r\n", body), 200);
    EXPECT_NUMBER(r, "result", 5);
    REQUIRE(!header(r, "Preference-Applied"), "%s", r->head);
}

Test(streams, a_client_that_leaves_cancels_nothing)
{
    struct server *s = serve(TASKS);
    struct client *c = client_open(s);
    char *body = format("{\"task\": \"hold\", \"args\": \"%s\", \"key\": \"k\"}", file_in(s, "go"));
    client_ask(c, "POST", "/tasks", JSON "Prefer: wait=60\r\n", body, strlen(body));
    struct reply *r;
    WAIT_UNTIL(cJSON_GetArraySize(field(r = get(s, "/invocations?key=k&status=running"), "items")) == 1);
    char *id = strdup(text_of(r, "items.0.id"));
    client_close(c);
    c = client_open(s);
    client_ask(c, "GET", format("/invocations/%s?wait=60", id), NULL, NULL, 0);
    client_close(c);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "running");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

Test(streams, a_log_is_followed_to_its_end)
{
    struct server *s = serve("tasks:\n  slow: {kind: command, run: [sh, -c, 'echo one; until [ -e go ]; do sleep "
                             "0.02; done; echo two >&2; exit 1']}\n");
    char *id = submit(s, "{'task': 'slow'}");
    struct client *c = client_open(s);
    client_ask(c, "GET", format("/invocations/%s/log?follow=true", id), NULL, NULL, 0);
    struct reply *r = client_receive_head(c);
    REQUIRE(r && r->status == 200 && strncmp(header(r, "Content-Type"), "text/plain", 10) == 0, "%s",
            r ? r->head : "closed");
    char *text = strdup("");
    while (!strstr(text, "one\n"))
        text = format("%s%s", text, client_receive_piece(c));
    touch(file_in(s, "go"));
    for (char *piece; (piece = client_receive_piece(c));)
        text = format("%s%s", text, piece);
    cr_assert_str_eq(text, "one\ntwo\n");
    /* the connection can be used again */
    client_ask(c, "GET", format("/invocations/%s/log", id), NULL, NULL, 0);
    r = client_receive(c, false);
    REQUIRE(r && strcmp(r->body, "one\ntwo\n") == 0, "%s", r ? r->body : "closed");
}

Test(streams, a_log_is_that_of_all_attempts_or_of_one)
{
    struct server *s = serve("tasks:\n  tries: {kind: command, run: [sh, -c, 'echo try $ERRAND_ATTEMPT; exit 1'], "
                             "max_retries: 1, backoff: {initial: 1ms}}\n");
    char *id = submit(s, "{'task': 'tries'}");
    final(s, id);
    cr_assert_str_eq(EXPECT(get(s, "/invocations/%s/log", id), 200)->body, "try 1\ntry 2\n");
    cr_assert_str_eq(EXPECT(get(s, "/invocations/%s/log?attempt=2", id), 200)->body, "try 2\n");
    EXPECT_PROBLEM(get(s, "/invocations/%s/log?attempt=7", id), 404, "not-found");
    EXPECT_PROBLEM(get(s, "/invocations/%s/log?attempt=7&follow=true", id), 404, "not-found");
    cr_assert_str_eq(EXPECT(get(s, "/invocations/%s/log?follow=true", id), 200)->body, "try 1\ntry 2\n");
    EXPECT_PROBLEM(get(s, "/invocations/%s/log?attempt=0", id), 400, "invalid-query");
    EXPECT_PROBLEM(get(s, "/invocations/%s/log?follow=maybe", id), 400, "invalid-query");
}

Test(streams, a_part_of_a_log_is_asked_for_by_range)
{
    struct server *s =
        serve("tasks:\n  digits: {kind: command, run: [sh, -c, 'printf 0123456789 >&2; exit 1']}\n");
    char *id = submit(s, "{'task': 'digits'}");
    final(s, id);
    char *path = format("/invocations/%s/log", id);
    struct reply *r = EXPECT(ask(s, "GET", path, "Range: bytes=-3\r\n", NULL), 206);
    cr_assert_str_eq(r->body, "789");
    cr_assert_str_eq(header(r, "Content-Range"), "bytes 7-9/10");
    cr_assert_str_eq(EXPECT(ask(s, "GET", path, "Range: bytes=2-4\r\n", NULL), 206)->body, "234");
    r = EXPECT_PROBLEM(ask(s, "GET", path, "Range: bytes=10-\r\n", NULL), 416, "range-not-satisfiable");
    cr_assert_str_eq(header(r, "Content-Range"), "bytes */10");
    cr_assert_str_eq(EXPECT(ask(s, "GET", path, "Range: lines=1-2\r\n", NULL), 200)->body, "0123456789");
}

/* Reads pieces until the text is there. */
static char *read_until(struct client *c, const char *wanted)
{
    char *text = strdup("");
    while (!strstr(text, wanted)) {
        char *piece = client_receive_piece(c);
        REQUIRE(piece, "it ended with %s", text);
        text = format("%s%s", text, piece);
    }
    return text;
}

#define EVENTS "Accept: text/event-stream;q=1, text/plain;q=0.5\r\n"

/* A proxy cuts what is silent for a minute; then the reader goes on where it was. */
Test(streams, a_log_is_followed_as_events_that_can_be_resumed)
{
    struct server *s =
        serve("tasks:\n  slow: {kind: command, run: [sh, -c, 'echo one >&2; printf \"gr\\303\" >&2; "
              "until [ -e go ]; do sleep 0.02; done; printf \"\\266\\n\" >&2; exit 1']}\n");
    char *id = submit(s, "{'task': 'slow'}"), *path = format("/invocations/%s/log", id);
    struct client *c = client_open(s);
    client_ask(c, "GET", path, EVENTS, NULL, 0);
    struct reply *r = client_receive_head(c);
    REQUIRE(r && r->status == 200, "%s", r ? r->head : "closed");
    cr_assert_str_eq(header(r, "Content-Type"), "text/event-stream");
    read_until(c, "gr\"");
    WAIT_UNTIL(strlen(get(s, "%s", path)->body) == 7);
    char *silent = read_until(c, ":\n\n");
    cr_assert_str_eq(silent, ":\n\n");
    touch(file_in(s, "go"));
    read_until(c, "event: end\nid: 9\ndata: \"failed\"\n\n");
    REQUIRE(!client_receive_piece(c));

    r = EXPECT(ask(s, "GET", path, EVENTS, NULL), 200);
    cr_assert_str_eq(
        r->body, "event: log\nid: 9\ndata: \"one\\ngr\xC3\xB6\\n\"\n\nevent: end\nid: 9\ndata: \"failed\"\n\n");
    r = EXPECT(ask(s, "GET", path, EVENTS "Last-Event-ID: 4\r\n", NULL), 200);
    cr_assert_str_eq(r->body,
                     "event: log\nid: 9\ndata: \"gr\xC3\xB6\\n\"\n\nevent: end\nid: 9\ndata: \"failed\"\n\n");
}

Test(streams, a_followed_log_goes_on_where_it_was_left)
{
    struct server *s =
        serve("tasks:\n  slow: {kind: command, run: [sh, -c, 'printf 01234 >&2; until [ -e go ]; do "
              "sleep 0.02; done; printf 56789 >&2; exit 1']}\n");
    char *id = submit(s, "{'task': 'slow'}"), *path = format("/invocations/%s/log", id);
    WAIT_UNTIL(strlen(get(s, "%s", path)->body) == 5);
    static const struct {
        const char *query, *headers, *range, *text;
        int status;
    } rows[] = {
        {"&offset=3", NULL, NULL, "3456789", 200},
        {"&offset=7", NULL, NULL, "789", 200},
        {"&offset=70", NULL, NULL, "", 200},
        {"", "Range: bytes=4-\r\n", "bytes 4-9007199254740991/*", "456789", 206},
        {"", "Range: bytes=-4\r\n", NULL, "0123456789", 200},
    };
    enum { N = sizeof(rows) / sizeof(rows[0]) };
    struct client *clients[N];
    for (int i = 0; i < N; i++) {
        clients[i] = client_open(s);
        client_ask(clients[i], "GET", format("%s?follow=true%s", path, rows[i].query), rows[i].headers, NULL, 0);
    }
    touch(file_in(s, "go"));
    for (int i = 0; i < N; i++) {
        struct reply *r = client_receive(clients[i], false);
        REQUIRE(r && r->status == rows[i].status && strcmp(r->body, rows[i].text) == 0, "%d: %s%s", i,
                r ? r->head : "", r ? r->body : "closed");
        char *range = header(r, "Content-Range");
        REQUIRE(!range == !rows[i].range && (!range || strcmp(range, rows[i].range) == 0), "%s", r->head);
    }
    cr_assert_str_eq(EXPECT(get(s, "%s?offset=8", path), 200)->body, "89");
    EXPECT_PROBLEM(get(s, "%s?offset=-1", path), 400, "invalid-query");
}

/* It said Content-Length: 0. */
Test(streams, a_head_says_how_long_a_log_is)
{
    struct server *s =
        serve("tasks:\n  much: {kind: command, run: [sh, -c, 'head -c 2000000 /dev/zero | tr \"\\000\" x >&2; "
              "exit 1']}\n  little: {kind: command, run: [sh, -c, 'echo one >&2; exit 1']}\n");
    char *much = submit(s, "{'task': 'much'}"), *little = submit(s, "{'task': 'little'}");
    final(s, much);
    final(s, little);
    struct client *c = client_open(s);
    for (int i = 0; i < 2; i++) {
        char *path = format("/invocations/%s/log", i ? little : much);
        client_ask(c, "HEAD", path, NULL, NULL, 0);
        struct reply *r = client_receive(c, true);
        REQUIRE(r && r->status == 200, "%s", r ? r->head : "closed");
        cr_assert_str_eq(header(r, "Content-Length"), i ? "4" : "2000000");
        client_ask(c, "GET", path, NULL, NULL, 0);
        cr_assert_eq(client_receive(c, false)->length, i ? 4 : 2000000);
    }
    client_ask(c, "HEAD", format("/invocations/%s/log?follow=true", little), NULL, NULL, 0);
    struct reply *r = client_receive(c, true);
    REQUIRE(r && r->status == 200 && !header(r, "Content-Length"), "%s", r ? r->head : "closed");
    REQUIRE(!client_receive(c, false), "something came after the head");
}

Test(streams, progress_and_log_are_seen_while_it_runs)
{
    struct server *s = serve("tasks:\n  chatter: {kind: native, module: $NATIVE}\n");
    char *id = submit(s, "{'task': 'chatter', 'args': '%s'}", file_in(s, "go"));
    WAIT_UNTIL(number_of(get(s, "/invocations/%s", id), "progress.value") == 0.5);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "progress.note", "half");
    WAIT_UNTIL(strcmp(get(s, "/invocations/%s/log", id)->body, "one\ntwo\nholding\n") == 0);
    touch(file_in(s, "go"));
    final(s, id);
    cr_assert_str_eq(get(s, "/invocations/%s/log", id)->body, "one\ntwo\nholding\n");
}

Test(streams, waits_end_at_shutdown_with_what_is_known)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'delay': '1h'}");
    struct client *wait = client_open(s), *follow = client_open(s);
    client_ask(wait, "GET", format("/invocations/%s?wait=60", id), NULL, NULL, 0);
    client_ask(follow, "GET", format("/invocations/%s/log?follow=true", id), NULL, NULL, 0);
    REQUIRE(client_receive_head(follow));
    REQUIRE(!client_hears(wait, 50), "it does not wait");
    send_signal(s, SIGTERM);
    struct reply *r = client_receive(wait, false);
    REQUIRE(r, "closed without an answer");
    EXPECT_TEXT(r, "status", "scheduled");
    REQUIRE(!client_receive_piece(follow));
    cr_assert_eq(await_exit(s), 0);
}

Test(streams, a_wait_is_answered_for_a_cancellation_and_a_deletion_too)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo', 'delay': '1h'}");
    struct client *c = client_open(s);
    client_ask(c, "GET", format("/invocations/%s?wait=60", id), NULL, NULL, 0);
    REQUIRE(!client_hears(c, 50), "it does not wait");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT_TEXT(client_receive(c, false), "status", "cancelled");
}
