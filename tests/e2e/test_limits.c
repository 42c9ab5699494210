/* Every size has a limit and its own clear answer. */
#include "tests/e2e/support.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

SUITE(limits);

#define JSON "Content-Type: application/json\r\n"

static char *filled(const char *before, size_t n, const char *after)
{
    char *text = malloc(strlen(before) + n + strlen(after) + 1);
    char *at = stpcpy(text, before);
    memset(at, 'x', n);
    strcpy(at + n, after);
    return text;
}

Test(limits, a_body_above_the_limit_is_413_and_its_answer_is_heard)
{
    struct server *s = serve("limits: {body: 64KiB}\n" TASKS);
    char *fits = filled("{\"task\": \"echo\", \"args\": \"", 65536 - 28, "\"}");
    cr_assert_eq(strlen(fits), 65536);
    EXPECT(ask(s, "POST", "/tasks", JSON, fits), 201);
    EXPECT_HAS(EXPECT_PROBLEM(ask(s, "POST", "/tasks", JSON, filled(fits, 1, "")), 413, "payload-too-large"),
               "65536");
    /* the server reads and drops what it refused: an answer is lost if the connection is reset */
    EXPECT_PROBLEM(ask(s, "POST", "/tasks", JSON, filled("\"", 4 << 20, "\"")), 413, "payload-too-large");
    /* sent in chunks, its length is not known before */
    struct client *c = client_open(s);
    client_ask(c, "POST", "/tasks", JSON "Transfer-Encoding: chunked\r\n", NULL, 0);
    char *chunk = filled("4000\r\n", 0x4000, "\r\n");
    for (int i = 0; i < 6; i++)
        client_send(c, chunk, strlen(chunk));
    client_send(c, "0\r\n\r\n", 5);
    struct reply *r = client_receive(c, false);
    REQUIRE(r, "closed without an answer");
    EXPECT_PROBLEM(r, 413, "payload-too-large");
    /* and the server is as it was */
    final(s, submit(s, "{'task': 'echo'}"));
}

Test(limits, a_body_far_above_the_limit_is_refused_before_it_is_sent)
{
    struct server *s = serve(TASKS);
    struct client *c = client_open(s);
    client_ask(c, "POST", "/tasks", JSON "Content-Length: 99999999999\r\n", NULL, 0);
    struct reply *r = client_receive(c, false);
    REQUIRE(r && r->status == 413, "not refused");
}

Test(limits, a_client_that_expects_100_is_told_to_go_on)
{
    struct server *s = serve(TASKS);
    struct client *c = client_open(s);
    client_ask(c, "POST", "/tasks", JSON "Content-Length: 16\r\nExpect: 100-continue\r\n", NULL, 0);
    REQUIRE(client_hears(c, PATIENCE_MS), "no 100 Continue");
    client_send(c, "{\"task\": \"echo\"}", 16);
    struct reply *r = client_receive(c, false);
    REQUIRE(r && r->status == 201, "%s", r ? r->body : "closed");
}

Test(limits, an_ndjson_body_may_be_larger_but_has_limits_too)
{
    struct server *s = serve("limits: {body: 4KiB, bulk_body: 32KiB, bulk_lines: 100}\n" TASKS);
    char *lines = strdup("");
    for (int i = 0; i < 100; i++)
        lines = format("%s{\"task\": \"echo\", \"args\": \"%s\"}\n", lines, filled("", 100, ""));
    struct reply *r = EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    REQUIRE(!strstr(r->body, "problem"), "%s", r->body);
    r = ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n",
            format("%s{\"task\": \"echo\"}\n", lines));
    REQUIRE(r->status == 413 || (r->status == 200 && strstr(r->body, "413")), "%d %s", r->status, r->body);
    r = ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", filled("\"", 40000, "\"\n"));
    REQUIRE(r->status == 413 || (r->status == 200 && strstr(r->body, "413")), "%d %s", r->status, r->body);
    final(s, submit(s, "{'task': 'echo'}"));
}

Test(limits, a_line_that_is_too_long_is_answered_in_its_place)
{
    static const size_t sizes[] = {5000, 3000000}; /* one that comes in one piece, and one that does not */
    struct server *s = serve("limits: {body: 4KiB}\n" TASKS);
    for (int i = 0; i < 2; i++) {
        char *lines =
            filled("{\"task\": \"echo\", \"args\": 1}\n\"", sizes[i], "\"\n{\"task\": \"echo\", \"args\": 3}\n");
        struct reply *r = EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
        char *first = strstr(r->body, "\"index\":0,\"status\":201"),
             *second = strstr(r->body, "\"index\":1,\"status\":413"),
             *third = strstr(r->body, "\"index\":2,\"status\":201");
        REQUIRE(first && second && third && first < second && second < third, "%.2000s", r->body);
    }
}

Test(limits, nesting_is_at_most_64_deep)
{
    struct server *s = serve(TASKS);
    char *open = strdup(""), *close = strdup("");
    for (int i = 0; i < 63; i++)
        open = format("%s[", open), close = format("%s]", close);
    EXPECT(post(s, "/tasks", "{'task': 'echo', 'args': %s%s}", open, close), 201);
    struct reply *r = post(s, "/tasks", "{'task': 'echo', 'args': %s[]%s}", open, close);
    REQUIRE(r->status == 400 || r->status == 422, "%d %s", r->status, r->body);
    char *deep = filled("", 100000, "");
    memset(deep, '[', 100000);
    r = ask(s, "POST", "/tasks", JSON, deep);
    REQUIRE(r->status == 400 || r->status == 422, "%d %s", r->status, r->body);
}

Test(limits, a_long_address_is_414_and_large_headers_are_431)
{
    struct server *s = serve("limits: {header: 8KiB}\n" TASKS);
    /* those that libmicrohttpd has no room for were its own pages, in HTML */
    static const size_t sizes[] = {8200, 12000, 16000, 20000, 33000, 40000, 200000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        EXPECT_PROBLEM(ask(s, "GET", filled("/invocations?task=", sizes[i], ""), NULL, NULL), 414, "uri-too-long");
        EXPECT_PROBLEM(ask(s, "GET", "/tasks", filled("X-Long: ", sizes[i], "\r\n"), NULL), 431,
                       "header-too-large");
    }
    char *many = strdup("");
    for (int i = 0; i < 2000; i++)
        many = format("%sX-%d: a\r\n", many, i);
    EXPECT_PROBLEM(ask(s, "GET", "/tasks", many, NULL), 431, "header-too-large");
    EXPECT(ask(s, "GET", "/tasks", filled("X-Long: ", 4000, "\r\n"), NULL), 200);
    EXPECT(get(s, "/healthz"), 200);
}

/* It was taken for JSON, and "not valid". */
Test(limits, a_compressed_body_is_415_and_says_why)
{
    struct server *s = serve(TASKS);
    static const char *const types[] = {"application/json", "application/x-ndjson"};
    for (int i = 0; i < 2; i++) {
        char *headers = format("Content-Type: %s\r\nContent-Encoding: gzip\r\n", types[i]);
        struct reply *r = ask(s, "POST", "/tasks", headers, "\x1f\x8b");
        EXPECT_HAS(EXPECT_PROBLEM(r, 415, "unsupported-media-type"), "gzip");
        cr_assert_str_eq(header(r, "Accept-Encoding"), "identity");
    }
    EXPECT(ask(s, "POST", "/tasks", JSON "Content-Encoding: identity\r\n", "{\"task\": \"echo\"}"), 201);
}

Test(limits, labels_and_keys_have_limits)
{
    struct server *s = serve(TASKS);
    char *many = strdup("\"l0\": \"\"");
    for (int i = 1; i < 32; i++)
        many = format("%s, \"l%d\": \"v\"", many, i);
    EXPECT(post(s, "/tasks", "{'task': 'echo', 'labels': {%s}}", many), 201);
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'labels': {%s, 'more': ''}}", many), 422,
                   "invalid-request");
    EXPECT(post(s, "/tasks", "{'task': 'echo', 'labels': {'%s': '%s'}}", filled("", 64, ""), filled("", 256, "")),
           201);
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'labels': {'%s': ''}}", filled("", 65, "")), 422,
                   "invalid-request");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'labels': {'a': '%s'}}", filled("", 257, "")), 422,
                   "invalid-request");
    EXPECT(post(s, "/tasks", "{'task': 'echo', 'key': '%s'}", filled("", 255, "")), 201);
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'key': '%s'}", filled("", 256, "")), 422,
                   "invalid-request");
    struct reply *r =
        ask(s, "POST", "/tasks", filled(JSON "Idempotency-Key: ", 256, "\r\n"), "{\"task\": \"echo\"}");
    REQUIRE(r->status == 400 || r->status == 422, "%d", r->status);
}

Test(limits, a_time_that_overflows_is_refused)
{
    struct server *s = serve(TASKS);
    static const char *const fields[] = {
        "\"delay\": \"99999999999999999999d\"",
        "\"expires_in\": \"9223372036854775807ms\"",
        "\"timeout\": \"9999999999999999h\"",
        "\"run_at\": \"99999-01-01T00:00:00Z\"",
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', %s}", fields[i]), 422, "invalid-request");
}

Test(limits, a_request_that_two_parsers_could_read_differently_is_refused)
{
    static const char *const heads[] = {
        "POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        "16\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        "16\r\nContent-Length: 5\r\n\r\n{\"task\": \"echo\"}",
        "GET /tasks HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET /tasks HTTP/1.1\r\n\r\n",
        "POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET /tasks HTTP/9.9\r\nHost: localhost\r\n\r\n",
    };
    struct server *s = serve(TASKS);
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct client *c = client_open(s);
        client_send(c, heads[i], strlen(heads[i]));
        struct reply *r = client_receive(c, false);
        REQUIRE(!r || (r->status >= 400 && r->status < 600 && strstr(r->head, "application/problem+json")),
                "%s: %s", heads[i], r->head);
        client_close(c);
    }
    EXPECT_NUMBER(get(s, "/stats"), "submitted", 0);
}

Test(limits, a_slow_client_is_timed_out_and_an_idle_one_closed)
{
    struct server *s = serve("limits: {request_timeout: 1s, idle_timeout: 1s}\n" TASKS);
    struct client *head = client_open(s), *body = client_open(s), *idle = client_open(s), *silent = client_open(s);
    client_send(head, "GET /tasks HT", 13);
    client_ask(body, "POST", "/tasks", JSON "Content-Length: 16\r\n", NULL, 0);
    client_send(body, "{\"task\"", 7);
    client_ask(idle, "GET", "/healthz", NULL, NULL, 0);
    REQUIRE(client_receive(idle, false));
    struct client *all[] = {head, body, idle, silent};
    for (int i = 0; i < 4; i++) {
        REQUIRE(client_hears(all[i], PATIENCE_MS), "client %d is kept for ever", i);
        struct reply *r = client_receive(all[i], false);
        REQUIRE(!r || r->status == 408, "client %d: %d", i, r->status);
    }
    EXPECT_NUMBER(get(s, "/stats"), "submitted", 0);
}

Test(limits, connections_above_the_limit_are_not_taken_and_the_others_are_served)
{
    struct server *s = serve("limits: {connections: 20}\n" TASKS);
    struct client *clients[40];
    for (int i = 0; i < 40; i++) {
        clients[i] = client_open(s);
        client_ask(clients[i], "GET", "/healthz", NULL, NULL, 0);
    }
    int served = 0;
    for (int i = 0; i < 15; i++) {
        struct reply *r = client_receive(clients[i], false);
        served += r && r->status == 200;
    }
    cr_assert_eq(served, 15);
    for (int i = 0; i < 40; i++)
        client_close(clients[i]);
    WAIT_UNTIL(({
        struct client *c = client_open(s);
        client_ask(c, "GET", "/healthz", NULL, NULL, 0);
        struct reply *r = client_receive(c, false);
        client_close(c);
        r && r->status == 200;
    }));
}

static struct client *open_from(struct server *s, const char *address)
{
    struct client *c = client_open(s);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)}, from = to;
    inet_pton(AF_INET, s->host, &to.sin_addr);
    inet_pton(AF_INET, address, &from.sin_addr);
    from.sin_port = 0;
    close(c->fd);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(c->fd, (struct sockaddr *)&from, sizeof from) == 0);
    REQUIRE(connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0);
    return c;
}

/* One client's idle connections shut everyone else out. */
Test(limits, whoever_opens_too_many_connections_loses_his_own_idle_ones)
{
    enum { LIMIT = 60, MANY = 300 };
    struct server *s = serve(format("limits: {connections: %d}\n" TASKS, LIMIT));
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    struct client *waits = client_open(s), *other = open_from(s, "127.0.0.9"), *many[MANY];
    client_ask(waits, "GET", format("/invocations/%s?wait=60", id), NULL, NULL, 0);
    client_ask(other, "GET", "/healthz", NULL, NULL, 0);
    REQUIRE(client_receive(other, false));
    for (int i = 0; i < MANY; i++) {
        many[i] = client_open(s);
        if (i % 3 == 0)
            client_send(many[i], "GET /heal", 9);
    }
    for (int i = 0; i < 20; i++) { /* a newcomer, and one who was there before and is idle */
        struct client *c = open_from(s, "127.0.0.8");
        client_ask(c, "GET", "/healthz", NULL, NULL, 0);
        REQUIRE(client_hears(c, PATIENCE_MS), "newcomer %d is not served", i);
        struct reply *r = client_receive(c, false);
        REQUIRE(r && r->status == 200, "newcomer %d is turned away", i);
    }
    client_ask(other, "GET", "/healthz", NULL, NULL, 0);
    REQUIRE(client_receive(other, false), "another address lost its connection");
    touch(file_in(s, "go"));
    EXPECT_TEXT(client_receive(waits, false), "status", "succeeded");
    for (int i = 0; i < MANY; i++)
        client_close(many[i]);
    WAIT_UNTIL(get(s, "/healthz")->status == 200);
}

Test(limits, waits_above_the_limit_of_streams_are_429)
{
    struct server *s = serve("limits: {streams: 3}\n" TASKS);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    struct client *clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = client_open(s);
        client_ask(clients[i], "GET", format("/invocations/%s?wait=60", id), NULL, NULL, 0);
    }
    struct reply *r;
    WAIT_UNTIL((r = get(s, "/invocations/%s?wait=0.01", id))->status == 429);
    EXPECT_PROBLEM(r, 429, "too-many-streams");
    EXPECT(get(s, "/invocations/%s", id), 200);
    /* a submission is taken all the same: its wait was only a preference */
    char *body = format("{\"task\": \"hold\", \"args\": \"%s\"}", file_in(s, "go"));
    int64_t began = now_ms();
    r = ask(s, "POST", "/tasks", JSON "Prefer: wait=20\r\n", body);
    REQUIRE(r->status == 201 || r->status == 429, "%d %s", r->status, r->body);
    REQUIRE(now_ms() - began < 15000, "it waits above the limit");
    touch(file_in(s, "go"));
    for (int i = 0; i < 3; i++)
        EXPECT_TEXT(client_receive(clients[i], false), "status", "succeeded");
}

/* Each held its place for up to a minute: a thousand that hung up at once were 429 for everyone. */
Test(limits, clients_that_leave_a_wait_or_a_log_give_their_places_back_at_once)
{
    enum { COUNT = 60 };
    struct server *s = serve(format("limits: {streams: %d}\n" TASKS, COUNT));
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    char *wait = format("/invocations/%s?wait=60", id), *log = format("/invocations/%s/log?follow=true", id);
    struct client *clients[COUNT];
    for (int i = 0; i < COUNT; i++) {
        clients[i] = client_open(s);
        client_ask(clients[i], "GET", i % 2 ? wait : log, NULL, NULL, 0);
        if (i % 3 == 0) /* and one more, which nobody reads any more */
            client_ask(clients[i], "GET", "/healthz", NULL, NULL, 0);
    }
    WAIT_UNTIL(get(s, "/invocations/%s?wait=0.01", id)->status == 429);
    int64_t began = now_ms();
    for (int i = 0; i < COUNT; i++)
        client_close(clients[i]);
    WAIT_UNTIL(get(s, "/invocations/%s?wait=0.01", id)->status == 200);
    for (int i = 0; i < COUNT; i++) {
        clients[i] = client_open(s);
        client_ask(clients[i], "GET", wait, NULL, NULL, 0);
    }
    WAIT_UNTIL(get(s, "/invocations/%s?wait=0.01", id)->status == 429);
    REQUIRE(now_ms() - began < 12000, "after %lld ms", (long long)(now_ms() - began));
    int64_t used = processor_ms(s);
    began = now_ms();
    for (int i = 0; i < COUNT; i++) { /* they send nothing more, which is not yet the end of their connections */
        shutdown(clients[i]->fd, SHUT_WR);
        client_receive(clients[i], false);
    }
    REQUIRE(now_ms() - began < 5000, "after %lld ms", (long long)(now_ms() - began));
    REQUIRE(processor_ms(s) - used < 1000, "it was busy with those who left");
}

/* A page of 8 MB stayed in memory for each client that did not read it. */
Test(limits, pages_that_nobody_reads_cost_little)
{
    enum { ROWS = 700, CLIENTS = 40 };
    struct server *s = serve("limits: {body: 64KiB}\ndefaults: {retention: 1h}\n" TASKS);
    char *lines = strdup("");
    for (int i = 0; i < ROWS / 10; i++)
        lines =
            format("%s{\"task\": \"echo\", \"delay\": \"1h\", \"args\": \"%s\"}\n", lines, filled("", 11000, ""));
    for (int i = 0; i < 10; i++)
        EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    struct reply *r = EXPECT(get(s, "/invocations?limit=1000&view=full&order=oldest"), 200);
    REQUIRE(r->length > 2000000, "%zu bytes", r->length); /* a slow machine's page ends early */
    int64_t before = resident_kb(s);
    struct client *clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = client_open(s);
        setsockopt(clients[i]->fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
        client_ask(clients[i], "GET", format("/invocations?limit=%d&view=full", 1000 - i), NULL, NULL, 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        REQUIRE(client_hears(clients[i], PATIENCE_MS), "client %d is not answered", i);
    EXPECT(get(s, "/invocations?limit=2"), 200);
    int64_t after = resident_kb(s);
    REQUIRE_GROWTH_BELOW(40 * 1024, before, after);
}

/* What is read in pieces is the page that its first words promised: whole, in order, each row once. */
Test(limits, a_large_page_is_the_same_in_pieces)
{
    enum { ROWS = 900 };
    struct server *s = serve("defaults: {retention: 1h}\n" TASKS);
    char *lines = strdup("");
    for (int i = 0; i < ROWS; i++)
        lines = format("%s{\"task\": \"echo\", \"delay\": \"1h\", \"args\": [%d, \"%s\"]}\n", lines, i,
                       filled("", i % 7 ? 300 : 70000 - i, ""));
    EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    static const char *const orders[] = {"oldest", "newest"};
    for (int o = 0; o < 2; o++) {
        char *path = format("/invocations?limit=450&view=full&order=%s", orders[o]);
        int seen = 0;
        for (char *cursor = ""; seen < ROWS; seen += 0) {
            struct reply *r = EXPECT(ask(s, "GET", format("%s&cursor=%s", path, cursor), NULL, NULL), 200);
            const cJSON *items = field(r, "items"), *item;
            cJSON_ArrayForEach(item, items)
            {
                int number = cJSON_GetArrayItem(cJSON_GetObjectItem(item, "args"), 0)->valueint;
                REQUIRE(number == (o ? ROWS - 1 - seen : seen), "%d where %d is due", number, seen);
                seen++;
            }
            REQUIRE(cJSON_GetArraySize(items) > 0, "an empty page after %d", seen);
            cursor = strdup(text_of(r, "next"));
            REQUIRE((*cursor == 0) == (seen == ROWS), "next is '%s' after %d", cursor, seen);
            if (*cursor)
                REQUIRE(header(r, "Link") && strstr(header(r, "Link"), cursor), "%s", r->head);
        }
    }
}

/* Whole answers share one limit; small ones are always given. */
Test(limits, large_answers_beyond_the_limit_are_503_until_others_are_read)
{
    enum { CLIENTS = 30 };
    struct server *s = serve("limits: {answers: 16MiB}\n"
                             "tasks: {long_result: {kind: native, module: $NATIVE}}\n");
    char *id = submit(s, "{'task': 'long_result', 'args': 7000000}");
    final(s, id);
    char *path = format("/invocations/%s/result", id);
    int64_t before = resident_kb(s);
    struct client *clients[CLIENTS];
    int refused = 0;
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = client_open(s);
        setsockopt(clients[i]->fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
        client_ask(clients[i], "GET", path, NULL, NULL, 0);
        struct reply *r = client_receive_head(clients[i]);
        REQUIRE(r && (r->status == 200 || (r->status == 503 && header(r, "Retry-After"))), "%d",
                r ? r->status : 0);
        refused += r->status == 503;
    }
    REQUIRE(refused >= CLIENTS - 3, "%d of %d are refused", refused, CLIENTS);
    EXPECT_PROBLEM(ask(s, "GET", path, NULL, NULL), 503, "busy");
    EXPECT_TEXT(get(s, "/invocations/%s?view=basic", id), "status", "succeeded");
    REQUIRE_GROWTH_BELOW(60 * 1024, before, resident_kb(s));
    for (int i = 0; i < CLIENTS; i++)
        client_close(clients[i]);
    struct reply *r;
    WAIT_UNTIL((r = ask(s, "GET", path, NULL, NULL))->status == 200);
    cr_assert_eq(r->length, 7000000);
}

static int64_t peak_kb(const struct server *s)
{
    const char *at = strstr(read_whole(format("/proc/%d/status", (int)s->pid)), "VmHWM:");
    return at ? atoll(at + 6) : 0;
}

/* 42 MB of them cost 363 MB. */
Test(limits, lines_that_are_refused_cost_no_more_than_they_are_long)
{
    enum { LINES = 60000 };
    struct server *s = serve(TASKS);
    char *line = format("{\"task\": \"echo\"%s}\n", ", \"a\": 1, \"b\": 1, \"c\": 1, \"d\": 1, \"e\": 1"
                                                    ", \"f\": 1, \"g\": 1, \"h\": 1, \"i\": 1, \"j\": 1");
    size_t n = strlen(line);
    char *lines = malloc(LINES * n + 1);
    for (int i = 0; i < LINES; i++)
        memcpy(lines + (size_t)i * n, line, n + 1);
    int64_t before = peak_kb(s);
    struct reply *r = EXPECT(ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", lines), 200);
    int count = 0;
    for (char *p = r->body; (p = strstr(p, "\"status\":422,\"problem\":{")); p++)
        count++;
    cr_assert_eq(count, LINES);
    REQUIRE(strstr(r->body, "\"pointer\":\"/a\""), "the first ones say what is wrong");
    REQUIRE_GROWTH_BELOW(24 * 1024, before, peak_kb(s));
}

Test(limits, a_result_above_the_limit_is_said)
{
    struct server *s =
        serve("limits: {result: 4KiB}\n"
              "tasks:\n"
              "  long_result: {kind: native, module: $NATIVE}\n"
              "  many: {kind: command, run: [sh, -c, 'head -c 100000 /dev/zero | tr \"\\\\0\" y']}\n");
    char *native = submit(s, "{'task': 'long_result', 'args': 5000}"), *command = submit(s, "{'task': 'many'}");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'long_result', 'args': 4000}")), "status", "succeeded");
    EXPECT_TEXT(EXPECT_TEXT(final(s, native), "status", "failed"), "error.type", "bad_result");
    EXPECT_TEXT(EXPECT_TEXT(final(s, command), "status", "failed"), "error.type", "bad_result");
}

Test(limits, a_log_above_the_limit_is_cut_and_says_so)
{
    struct server *s = serve(
        "limits: {log: 8KiB}\n"
        "tasks:\n"
        "  loud: {kind: command, run: [sh, -c, 'head -c 100000 /dev/zero | tr \"\\\\0\" y >&2; echo done']}\n");
    char *id = submit(s, "{'task': 'loud'}");
    EXPECT_TEXT(final(s, id), "result", "done\n");
    struct reply *r = EXPECT(get(s, "/invocations/%s/log", id), 200);
    REQUIRE(r->length >= 8000 && r->length < 9000, "the log has %zu bytes", r->length);
    REQUIRE(strstr(r->body, "limit") || strstr(r->body, "cut"), "it does not say so: %s",
            r->body + r->length - 100);
}

Test(limits, memory_stays_flat_over_many_requests)
{
    struct server *s = serve("defaults: {retention: 1s}\n" TASKS);
    struct client *c = client_open(s);
    char *body = "{\"task\": \"echo\", \"args\": {\"some\": \"arguments\"}}";
    int64_t before = 0;
    for (int i = 0; i < 6000; i++) {
        client_ask(c, "POST", "/tasks", JSON, body, strlen(body));
        struct reply *r = client_receive(c, false);
        REQUIRE(r && r->status == 201);
        client_ask(c, "GET", format("/invocations/%s", text_of(r, "id")), NULL, NULL, 0);
        REQUIRE(client_receive(c, false));
        if (i == 3000)
            before = resident_kb(s);
    }
    int64_t after = resident_kb(s);
    REQUIRE_GROWTH_BELOW(2048, before, after);
}

/* Only announced lengths were compared with the limit. */
Test(limits, ndjson_in_chunks_has_the_limit_of_bytes_too)
{
    struct server *s = serve("limits: {bulk_body: 64KiB}\n" TASKS);
    struct client *c = client_open(s);
    client_ask(c, "POST", "/tasks", "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n", NULL,
               0);
    char *chunk = filled("4000\r\n", 0x4000, "\r\n");
    memset(chunk + 6, '\n', 0x4000);
    for (int i = 0; i < 6; i++)
        client_send(c, chunk, strlen(chunk));
    client_send(c, "0\r\n\r\n", 5);
    struct reply *r = client_receive(c, false);
    REQUIRE(r && r->status == 200 && strstr(r->body, "\"status\":413") && strstr(r->body, "payload-too-large"),
            "%s", r ? r->body : "closed");
    final(s, submit(s, "{'task': 'echo'}"));
}

/* To look for the start of the line at each chunk took 4 s of the only HTTP thread for a MiB. */
Test(limits, a_long_line_in_tiny_chunks_holds_nobody_up)
{
    enum { PIECES = 800000 };
    struct server *s = serve(TASKS);
    struct client *c = client_open(s);
    char *chunks = malloc(PIECES * 6 + 1), *at = chunks;
    for (int i = 0; i < PIECES; i++)
        at = stpcpy(at, "1\r\nx\r\n");
    client_ask(c, "POST", "/tasks", "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n", NULL,
               0);
    int64_t before = processor_ms(s);
    client_send(c, chunks, (size_t)(at - chunks));
    client_send(c, "0\r\n\r\n", 5);
    struct reply *r = client_receive(c, false);
    REQUIRE(r && r->status == 200 && strstr(r->body, "\"status\":400"), "%s", r ? r->body : "closed");
    int64_t used = processor_ms(s) - before;
    if (is_plain())
        REQUIRE(used < 1500, "it took %lld ms of processor time", (long long)used);
    free(chunks);
}

static struct reply *raw(struct server *s, const char *bytes, bool of_head_request)
{
    struct client *c = client_open(s);
    client_send(c, bytes, strlen(bytes));
    return client_receive(c, of_head_request);
}

/* libmicrohttpd's own answer to the first has its head twice. */
Test(limits, a_request_without_a_host_or_with_unclear_framing_is_refused_and_hung_up_on)
{
    static const char *const requests[] = {
        "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    };
    struct server *s = serve(TASKS);
    EXPECT_PROBLEM(raw(s, "GET /healthz HTTP/1.1\r\n\r\n", false), 400, "invalid-request");
    EXPECT(raw(s, "GET /healthz HTTP/1.0\r\n\r\n", false), 200);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        char *text = format("POST /tasks HTTP/1.1\r\nHost: localhost\r\n%s", requests[i]);
        struct reply *r = EXPECT_PROBLEM(raw(s, text, false), 400, "invalid-request");
        REQUIRE(header(r, "Connection") && strcmp(header(r, "Connection"), "close") == 0, "it stays open");
    }
}

/* The end of a body in chunks was sent without the body, in front of the next answer. */
Test(limits, a_head_of_a_stream_has_no_body)
{
    struct server *s = serve(TASKS);
    char *id = submit(s, "{'task': 'echo'}");
    final(s, id);
    struct client *c = client_open(s);
    client_ask(c, "HEAD", format("/invocations/%s/log?follow=true", id), NULL, NULL, 0);
    struct reply *r = EXPECT(client_receive(c, true), 200);
    cr_assert_str_eq(header(r, "Connection"), "close");
    REQUIRE(!client_receive(c, false), "something came after the head");
}

/* Bytes and the end of a connection that came together: only the bytes were seen, until the timeout. */
Test(limits, clients_that_left_in_the_middle_of_a_request_take_no_room)
{
    enum { CONNECTIONS = 20 };
    struct server *s = serve("limits: {connections: 20, idle_timeout: 10m, request_timeout: 10m}\n" TASKS);
    struct client *clients[CONNECTIONS];
    for (int i = 0; i < CONNECTIONS; i++)
        clients[i] = client_open(s);
    for (int i = 0; i < CONNECTIONS; i++) { /* each is the server's by now */
        client_ask(clients[i], "GET", "/healthz", NULL, NULL, 0);
        EXPECT(client_receive(clients[i], false), 200);
    }
    kill(s->pid, SIGSTOP);
    for (int i = 0; i < CONNECTIONS; i++) {
        client_send(clients[i], "GET /he", 7);
        client_close(clients[i]);
    }
    kill(s->pid, SIGCONT);
    EXPECT(get(s, "/healthz"), 200);
}
