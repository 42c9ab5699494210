/* Callbacks, to a receiver of the test's own (service.py). */
#include "tests/e2e/service.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

SUITE(callbacks);

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define CALLBACKS(more) "callbacks: {hosts: ['127.0.0.1:*'], secret: " SECRET more "}\n" TASKS

/* The first delivery of an invocation, once it stands so. */
static struct reply *await_delivery(struct server *s, const char *id, int n, const char *status)
{
    struct reply *reply;
    char *path = format("items.%d.status", n);
    WAIT_UNTIL(strcmp(text_of(reply = get(s, "/invocations/%s/callbacks", id), path), status) == 0);
    return reply;
}

static const char *body_of(const cJSON *sent)
{
    return cJSON_GetObjectItem(sent, "body")->valuestring;
}

static const char *said(const char *body, const char *path)
{
    struct reply *reply = calloc(1, sizeof *reply);
    reply->body = strdup(body);
    return text_of(reply, path);
}

/* As openssl makes it, which knows nothing of us. */
static void check_signature(const cJSON *sent)
{
    const char *id = header_of(sent, "webhook-id"), *at = header_of(sent, "webhook-timestamp");
    char *out;
    char *script = format("printf %%s '%s.%s.%s' | openssl dgst -sha256 -mac HMAC -macopt hexkey:"
                          "$(printf %%s %s | base64 -d | od -An -tx1 | tr -d ' \\n') -binary | base64",
                          id, at, body_of(sent), SECRET + strlen("whsec_"));
    const char *argv[] = {"sh", "-c", script, NULL};
    cr_assert_eq(run(NULL, argv, NULL, &out, NULL), 0);
    REQUIRE(strcmp(header_of(sent, "webhook-signature"), format("v1,%.*s", (int)strcspn(out, "\n"), out)) == 0,
            "%s and not %s", header_of(sent, "webhook-signature"), out);
    REQUIRE(llabs(atoll(at) - (long long)time(NULL)) < 60);
}

/* --- what is said ---------------------------------------------------------------------- */

Test(callbacks, an_end_is_told_once_and_signed)
{
    struct service *service = service_for(CALLBACKS(""));
    struct server *s = service->server;
    char *id = submit(s,
                      "{'task': 'echo', 'args': {'n':12345678901234567890}, 'labels': {'of': 'shop'}, "
                      "'callback': '%s/hook?a=1'}",
                      service->url);
    struct reply *told = await_delivery(s, id, 0, "delivered");
    EXPECT_TEXT(told, "callback", format("%s/hook?a=1", service->url));
    EXPECT_TEXT(told, "items.0.url", format("%s/hook?a=1", service->url));
    EXPECT_TEXT(told, "items.0.event", "succeeded");
    EXPECT_NUMBER(told, "items.0.n", 1);
    EXPECT_NUMBER(told, "items.0.attempts", 1);
    EXPECT_NUMBER(told, "items.0.last_status", 200);
    EXPECT_NULL(told, "items.0.last_error");
    EXPECT_NULL(told, "items.0.next_at");
    REQUIRE(*text_of(told, "items.0.delivered_at"));
    cJSON *sent = request(service, 0);
    REQUIRE(strcmp(cJSON_GetObjectItem(sent, "method")->valuestring, "POST") == 0);
    REQUIRE(strcmp(cJSON_GetObjectItem(sent, "path")->valuestring, "/hook?a=1") == 0);
    REQUIRE(strcmp(header_of(sent, "Content-Type"), "application/json") == 0);
    REQUIRE(strcmp(header_of(sent, "webhook-id"), format("msg_%s_1", id)) == 0);
    check_signature(sent);
    const char *body = body_of(sent);
    REQUIRE(strcmp(said(body, "type"), "invocation.succeeded") == 0, "%s", body);
    REQUIRE(strcmp(said(body, "data.id"), id) == 0, "%s", body);
    REQUIRE(strcmp(said(body, "data.labels.of"), "shop") == 0, "%s", body);
    REQUIRE(strcmp(said(body, "timestamp"), said(body, "data.finished_at")) == 0, "%s", body);
    REQUIRE(strstr(body, ",\"result\":{\"n\":12345678901234567890}}}"), "%s", body);
    REQUIRE(!strstr(body, "\"args\""), "%s", body);
    REQUIRE(!strstr(server_log(s), "MfKQ9r8"));
    REQUIRE(seen_count(service) == 1);
}

/* Of a group, however its members end; a retry that reopens it makes one more. */
Test(callbacks, a_groups_end_is_told_and_its_members_are_not)
{
    struct service *service = service_for(CALLBACKS(""));
    struct server *s = service->server;
    struct reply *made =
        EXPECT(ask(s, "POST", "/groups", "Content-Type: application/json\r\n",
                   quoted(format("{'invocations': [{'task': 'echo'}, {'task': 'fail'}], 'callback': '%s/group'}",
                                 service->url))),
               201);
    char *id = strdup(text_of(made, "id")), *failing = strdup(text_of(made, "invocations.1")), *path;
    for (int n = 0; n < 2; n++) {
        struct reply *told;
        path = format("items.%d.status", n);
        WAIT_UNTIL(strcmp(text_of(told = get(s, "/groups/%s/callbacks", id), path), "delivered") == 0);
        EXPECT_TEXT(told, format("items.%d.event", n), "failed");
        const char *body = body_of(request(service, n));
        REQUIRE(strcmp(said(body, "type"), "group.failed") == 0, "%s", body);
        REQUIRE(strcmp(said(body, "data.id"), id) == 0, "%s", body);
        if (n == 0)
            EXPECT(ask(s, "POST", format("/invocations/%s/retry", failing), NULL, NULL), 200);
    }
    EXPECT_PROBLEM(get(s, "/groups/%s/callbacks", "0000000000000"), 404, "not-found");
    EXPECT(ask(s, "POST", format("/groups/%s/callbacks/1/repeat", id), NULL, NULL), 202);
    WAIT_UNTIL(seen_count(service) == 3);
    EXPECT_PROBLEM(ask(s, "POST", "/groups", "Content-Type: application/json\r\n",
                       quoted("{'invocations': [{'task': 'echo', 'callback': 'http://127.0.0.1:1/'}]}")),
                   422, "invalid-request");
}

Test(callbacks, who_wants_none_gets_none)
{
    struct service *service = service_for(CALLBACKS(""));
    char *id = submit(service->server, "{'task': 'echo'}");
    final(service->server, id);
    struct reply *none = EXPECT(get(service->server, "/invocations/%s/callbacks", id), 200);
    EXPECT_NULL(none, "callback");
    REQUIRE(strstr(none->body, "\"items\":[]"), "%s", none->body);
    EXPECT_PROBLEM(get(service->server, "/invocations/0000000000000/callbacks"), 404, "not-found");
}

Test(callbacks, each_end_is_told_and_a_late_word_says_what_was)
{
    struct service *service = service_for(CALLBACKS(", delays: [1s]"));
    struct server *s = service->server;
    char *id = submit(s, "{'task': 'fail', 'callback': '%s/?first=500'}", service->url);
    WAIT_UNTIL(seen_count(service) == 1); /* refused, and told again in a second */
    EXPECT(post(s, format("/invocations/%s/retry", id), NULL), 200);
    await_delivery(s, id, 1, "delivered");
    struct reply *told = await_delivery(s, id, 0, "delivered");
    EXPECT_NUMBER(told, "items.0.attempts", 2);
    EXPECT_NUMBER(told, "items.1.attempts", 1);
    for (int i = 0; i < 3; i++) {
        const cJSON *sent = request(service, i);
        int n = i == 1 ? 2 : 1;
        REQUIRE(strcmp(header_of(sent, "webhook-id"), format("msg_%s_%d", id, n)) == 0, "%s", seen(service));
        REQUIRE(strcmp(said(body_of(sent), "type"), "invocation.failed") == 0, "%s", body_of(sent));
        REQUIRE(strcmp(said(body_of(sent), "data.status"), "failed") == 0, "%s", body_of(sent));
        REQUIRE(strstr(body_of(sent), format("\"attempt\":%d,", n)), "%s", body_of(sent));
        REQUIRE(*said(body_of(sent), "data.error.type"), "%s", body_of(sent));
    }
    REQUIRE(strcmp(body_of(request(service, 0)), body_of(request(service, 2))) == 0, "%s", seen(service));
}

Test(callbacks, what_never_started_is_told_too)
{
    struct service *service = service_for(CALLBACKS(""));
    struct server *s = service->server;
    char *cancelled = submit(s, "{'task': 'echo', 'delay': '1h', 'callback': '%s/'}", service->url);
    EXPECT(post(s, format("/invocations/%s/cancel", cancelled), NULL), 200);
    EXPECT_TEXT(await_delivery(s, cancelled, 0, "delivered"), "items.0.event", "cancelled");
    char *expired =
        submit(s, "{'task': 'echo', 'delay': '1h', 'expires_in': '50ms', 'callback': '%s/'}", service->url);
    EXPECT_TEXT(await_delivery(s, expired, 0, "delivered"), "items.0.event", "failed");
    REQUIRE(strcmp(said(body_of(request(service, 0)), "type"), "invocation.cancelled") == 0, "%s", seen(service));
    REQUIRE(strcmp(said(body_of(request(service, 1)), "data.error.type"), "expired") == 0, "%s", seen(service));
}

Test(callbacks, a_large_result_is_left_out_and_its_address_is_given)
{
    struct service *service = service_for(CALLBACKS(", result: 2KiB"));
    struct server *s = service->server;
    char *large = calloc(1, 4000);
    memset(large, 'x', 3000);
    char *id = submit(s, "{'task': 'echo', 'args': '%s', 'callback': '%s/'}", large, service->url);
    await_delivery(s, id, 0, "delivered");
    const char *body = body_of(request(service, 0));
    char *address = format("http://127.0.0.1:%d/invocations/%s/result", s->port, id);
    REQUIRE(strcmp(said(body, "data.result_url"), address) == 0, "%s", body);
    REQUIRE(strstr(body, ",\"result\":null,"), "%s", body);
    char *fits = submit(s, "{'task': 'echo', 'args': '%.2000s', 'callback': '%s/'}", large, service->url);
    await_delivery(s, fits, 0, "delivered");
    REQUIRE(strlen(said(body_of(request(service, 1)), "data.result")) == 2000, "%s", seen(service));
}

/* Also with the slashes escaped, as some write JSON, and beside a key with escapes. */
Test(callbacks, lines_children_and_replays_have_theirs)
{
    struct service *service = service_for(CALLBACKS("") "  far: {kind: remote}\n");
    struct server *s = service->server;
    char *url = replaced(service->url, "/", "\\/");
    char *lines = format("{\"task\":\"echo\",\"callback\":\"%s\\/1\"}\n{\"task\":\"echo\",\"key\":\"a\\u0062\","
                         "\"callback\":\"%s\\/2\"}\n{\"task\":\"echo\",\"callback\":\"%s\\/3\"}\n",
                         url, url, url);
    struct reply *bulk =
        EXPECT(ask(s, "POST", "/invocations", "Content-Type: application/x-ndjson\r\n", lines), 200);
    REQUIRE(!strstr(bulk->body, "problem"), "%s", bulk->body);
    WAIT_UNTIL(seen_count(service) == 3);
    struct reply *replay =
        EXPECT(post(s, "/tasks", "{'task':'echo','key':'ab','callback':'%s/2'}", service->url), 200);
    EXPECT_TEXT(await_delivery(s, text_of(replay, "id"), 0, "delivered"), "callback",
                format("%s/2", service->url));
    EXPECT_PROBLEM(post(s, "/tasks", "{'task':'echo','key':'ab','callback':'%s/other'}", service->url), 422,
                   "key-reused");
    submit(s, "{'task': 'far'}");
    struct reply *leased = EXPECT(post(s, "/leases", "{'worker': 'w', 'tasks': ['far']}"), 200);
    struct reply *child = EXPECT(post(s, format("/leases/%s/children", text_of(leased, "leases.0.token")),
                                      "{'task':'echo','step':'a','callback':'%s/4'}", service->url),
                                 201);
    await_delivery(s, text_of(child, "id"), 0, "delivered");
    REQUIRE(seen_count(service) == 4);
}

/* --- it does not go well --------------------------------------------------------------- */

static int count_of(const char *text, const char *what)
{
    int count = 0;
    for (; (text = strstr(text, what)); text++)
        count++;
    return count;
}

Test(callbacks, what_a_receiver_does_and_what_becomes_of_it)
{
    static const struct {
        const char *query, *status, *type;
        int status_of_http, attempts;
    } rows[] = {
        {"first=500", "delivered", NULL, 200, 2},
        {"status=204", "delivered", NULL, 204, 1},
        {"raw=HTTP/1.1%20200%20OK%0d%0a%0d%0a&endless=body", "delivered", NULL, 200, 1},
        {"size=1000000", "delivered", NULL, 200, 1},
        {"status=500&body=secret-of-theirs", "failed", "http:500", 500, 3},
        {"status=404", "failed", "http:404", 404, 3},
        {"status=410", "failed", "http:410", 410, 1},
        {"status=302&header=Location:/elsewhere", "failed", "http:302", 302, 3},
        {"delay=30", "failed", "timeout", 0, 3},
        {"raw=HTTP/1.1%20200%20OK%0d%0a%0d%0a&stall=1", "failed", "timeout", 0, 3},
        {"close=now", "failed", "connection", 0, 3},
        {"raw=hello", "failed", "connection", 0, 3},
        {"endless=HTTP/1.1%20100%20Go%0d%0a%0d%0a", "failed", "connection", 0, 3},
    };
    struct service *service = service_for(CALLBACKS(", timeout: 300ms, rest: 0s, delays: [20ms, 20ms]"));
    struct server *s = service->server;
    int lines = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int before = seen_count(service);
        char *id = submit(s, "{'task': 'echo', 'callback': '%s/?%s'}", service->url, rows[i].query);
        struct reply *told = await_delivery(s, id, 0, rows[i].status);
        EXPECT_NUMBER(told, "items.0.attempts", rows[i].attempts);
        if (rows[i].type)
            EXPECT_TEXT(told, "items.0.last_error.type", rows[i].type);
        else
            EXPECT_NULL(told, "items.0.last_error");
        if (rows[i].status_of_http)
            EXPECT_NUMBER(told, "items.0.last_status", rows[i].status_of_http);
        else
            EXPECT_NULL(told, "items.0.last_status");
        REQUIRE(!strstr(text_of(told, "items.0.last_error.message"), "of-theirs"), "%s", told->body);
        REQUIRE(seen_count(service) == before + rows[i].attempts, "%s", seen(service));
        lines += strcmp(rows[i].status, "failed") == 0;
        WAIT_UNTIL(count_of(server_log(s), "a callback was given up") == lines);
        REQUIRE(!strstr(server_log(s), "/?"), "its URL may be a secret");
    }
}

Test(callbacks, nobody_there_is_tried_again_until_it_is_given_up)
{
    struct server *s = serve(CALLBACKS(", rest: 10ms, delays: [20ms, 20ms, 20ms]"));
    char *id = submit(s, "{'task': 'echo', 'callback': 'http://127.0.0.1:9/'}");
    struct reply *told = await_delivery(s, id, 0, "failed");
    EXPECT_NUMBER(told, "items.0.attempts", 4);
    EXPECT_NULL(told, "items.0.last_status");
    EXPECT_TEXT(told, "items.0.last_error.type", "connection");
}

Test(callbacks, retry_after_is_obeyed)
{
    struct service *service = service_for(CALLBACKS(", delays: [20ms]"));
    struct server *s = service->server;
    int64_t began = now_ms();
    char *id = submit(s, "{'task': 'echo', 'callback': '%s/?first=503&header=Retry-After:2'}", service->url);
    await_delivery(s, id, 0, "delivered");
    REQUIRE(now_ms() - began >= 1900);
    REQUIRE(strcmp(header_of(request(service, 0), "webhook-id"), header_of(request(service, 1), "webhook-id")) ==
            0);
}

/* Two hundred for one that takes nothing, and one for another. */
Test(callbacks, a_receiver_that_takes_nothing_holds_up_no_other)
{
    struct service *service = service_for("callbacks: {hosts: ['127.0.0.1:*', 'localhost:*'], secret: " SECRET
                                          ", in_flight: 4, per_host: 2, timeout: 60s}\n" TASKS);
    struct server *s = service->server;
    char *last = NULL;
    for (int i = 0; i < 200; i++)
        last = submit(s, "{'task': 'echo', 'callback': '%s/?until=never'}", service->url);
    final(s, last);
    WAIT_UNTIL(seen_count(service) == 2);
    char *other = replaced(service->url, "127.0.0.1", "localhost");
    for (int i = 0; i < 20; i++)
        last = submit(s, "{'task': 'echo', 'callback': '%s/'}", other);
    await_delivery(s, last, 0, "delivered");
    for (int i = 0; i < seen_count(service); i++)
        REQUIRE(number_in(request(service, i), "together") <= 4);
    int64_t used = processor_ms(s);
    get(s, "/healthz");
    REQUIRE(processor_ms(s) - used < 200, "what waits costs nothing");
}

/* --- the second day --------------------------------------------------------------------- */

Test(callbacks, a_server_that_dies_or_stops_in_the_middle_tells_it_again)
{
    static void (*const ends[])(struct server *) = {kill_hard, NULL};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct service *service = service_for(CALLBACKS(", timeout: 60s"));
        struct server *s = service->server;
        char *id = submit(s, "{'task': 'echo', 'callback': '%s/?until=now'}", service->url);
        WAIT_UNTIL(seen_count(service) == 1);
        int64_t began = now_ms();
        if (ends[i])
            ends[i](s);
        else
            cr_assert_eq(terminate(s), 0);
        REQUIRE(now_ms() - began < 10000, "what is under way is given up");
        start(s);
        WAIT_UNTIL(seen_count(service) == 2);
        touch(format("%s/now", service->folder));
        EXPECT_NUMBER(await_delivery(s, id, 0, "delivered"), "items.0.attempts", 1);
        REQUIRE(strcmp(header_of(request(service, 0), "webhook-id"),
                       header_of(request(service, 1), "webhook-id")) == 0);
        check_signature(request(service, 1));
        kill(service->pid, SIGKILL);
        terminate(s);
    }
}

Test(callbacks, what_is_to_be_told_is_not_pruned_before)
{
    struct service *service = service_for(CALLBACKS(", timeout: 60s"));
    struct server *s = service->server;
    char *id = submit(s, "{'task': 'echo', 'retention': '1ms', 'callback': '%s/?until=now'}", service->url);
    char *other = submit(s, "{'task': 'echo', 'retention': '1ms'}");
    WAIT_UNTIL(get(s, "/invocations/%s", other)->status == 404);
    WAIT_UNTIL(seen_count(service) == 1);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "succeeded");
    EXPECT(ask(s, "DELETE", format("/invocations/%s", id), NULL, NULL), 204);
    EXPECT(get(s, "/invocations/%s/callbacks", id), 404);
    touch(format("%s/now", service->folder));
    char *next = submit(s, "{'task': 'echo', 'callback': '%s/'}", service->url);
    await_delivery(s, next, 0, "delivered");
}

/* --- who may be told --------------------------------------------------------------------- */

Test(callbacks, only_to_hosts_that_the_configuration_names)
{
    static const struct {
        const char *hosts, *url, *says;
    } rows[] = {
        {"[]", "https://example.org/", "callbacks.hosts"},
        {"[example.org]", "https://example.com/", "may not be called back"},
        {"[example.org]", "https://example.org:8443/", "may not be called back"},
        {"[example.org]", "https://example.org.evil.com/", "may not be called back"},
        {"[example.org]", "https://evil.com/example.org", "may not be called back"},
        {"[example.org]", "https://example.org@evil.com/", "user"},
        {"[example.org]", "https://u:p@example.org/", "user"},
        {"[example.org]", "https://evil.com#@example.org/", "fragment"},
        {"[example.org]", "https://evil.com\\\\\\\\@example.org/", "no URL"},
        {"[example.org]", "ftp://example.org/", "http"},
        {"[example.org]", "file:///etc/passwd", "http"},
        {"[example.org]", "example.org/hook", "no URL"},
        {"[example.org]", "//example.org/hook", "no URL"},
        {"[example.org]", "https://example.org/a b", "no URL"},
        {"[example.org]", "https://example.org/\\\\u0000", "NUL"},
        {"[example.org]", "", "no URL"},
        {"['*.example.org']", "https://example.org/", "may not be called back"},
        {"['*.example.org']", "https://notexample.org/", "may not be called back"},
        {"['127.0.0.1:*']", "http://2130706434/", "may not be called back"},
    };
    struct server *s = prepare("{}");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (i)
            terminate(s);
        configure(s, format("callbacks: {hosts: %s, secret: " SECRET "}\n" TASKS, rows[i].hosts));
        start(s);
        struct reply *refused = EXPECT_PROBLEM(
            post(s, "/tasks", "{'task': 'echo', 'callback': '%s'}", replaced(rows[i].url, "\\\\", "\\")), 422,
            "invalid-request");
        REQUIRE(faults_mention(refused, "/callback") && strstr(refused->body, rows[i].says), "%s: %s", rows[i].url,
                refused->body);
    }
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'callback': 7}"), 422, "invalid-request");
    char *large = calloc(1, 4000);
    memset(large, 'x', 3000);
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'callback': 'https://example.org/%s'}", large), 422,
                   "invalid-request");
    EXPECT(post(s, "/tasks", "{'task': 'echo', 'callback': null}"), 201);
}

Test(callbacks, who_is_no_longer_allowed_is_not_told)
{
    struct service *service = service_for(CALLBACKS(", delays: [1s, 1s]"));
    struct server *s = service->server;
    char *id = submit(s, "{'task': 'echo', 'callback': '%s/?status=500'}", service->url);
    WAIT_UNTIL(seen_count(service) == 1);
    configure(s, TASKS);
    send_signal(s, SIGHUP);
    struct reply *told = await_delivery(s, id, 0, "failed");
    EXPECT_TEXT(told, "items.0.last_error.type", "not_allowed");
    EXPECT_NUMBER(told, "items.0.attempts", 1);
    REQUIRE(seen_count(service) == 1);
    EXPECT_NULL(told, "items.0.next_at");
    REQUIRE(strstr(server_log(s), "a callback was given up"));
}

/* --- once more ---------------------------------------------------------------------------- */

Test(callbacks, one_is_repeated_under_its_id)
{
    struct service *service = service_for(CALLBACKS(", delays: []"));
    struct server *s = service->server;
    char *id = submit(s, "{'task': 'echo', 'callback': '%s/?first=500'}", service->url);
    EXPECT_NUMBER(await_delivery(s, id, 0, "failed"), "items.0.attempts", 1);
    struct reply *repeated = EXPECT(post(s, format("/invocations/%s/callbacks/1/repeat", id), NULL), 202);
    EXPECT_NUMBER(repeated, "n", 1);
    struct reply *told = await_delivery(s, id, 0, "delivered");
    EXPECT_NUMBER(told, "items.0.attempts", 1);
    EXPECT(post(s, format("/invocations/%s/callbacks/1/repeat", id), "{}"), 202);
    WAIT_UNTIL(seen_count(service) == 3);
    for (int i = 0; i < 3; i++)
        REQUIRE(strcmp(header_of(request(service, i), "webhook-id"), format("msg_%s_1", id)) == 0);
    static const char *const none[] = {"0", "2", "x", "-1", "1x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        EXPECT_PROBLEM(post(s, format("/invocations/%s/callbacks/%s/repeat", id, none[i]), NULL), 404,
                       "not-found");
    EXPECT_PROBLEM(post(s, "/invocations/0000000000000/callbacks/1/repeat", NULL), 404, "not-found");
    EXPECT_PROBLEM(post(s, format("/invocations/%s/callbacks/1/repeat", id), "{'x':1}"), 422, "invalid-request");
}

static int distinct_ids(const struct service *service)
{
    int count = 0, total = seen_count(service);
    char **ids = calloc((size_t)total + 1, sizeof *ids);
    for (int i = 0; i < total; i++) {
        ids[i] = strdup(header_of(request(service, i), "webhook-id"));
        int k = 0;
        while (strcmp(ids[k], ids[i]) != 0)
            k++;
        count += k == i;
    }
    return count;
}

/* At whatever moment it dies: nothing that ended is told of to nobody. */
Test(callbacks, every_end_is_told_whatever_is_killed)
{
    enum { ROUNDS = 6, EACH = 40 };
    struct service *service = service_for(CALLBACKS(", timeout: 2s, delays: [100ms, 100ms, 100ms]"));
    struct server *s = service->server;
    char *ids[ROUNDS * EACH];
    for (int i = 0; i < ROUNDS * EACH; i++) {
        ids[i] =
            submit(s, "{'task': 'echo', 'args': %d, 'callback': '%s/?delay=0.00%d'}", i, service->url, i % 10);
        if (i % EACH == EACH - 1) {
            int64_t until = now_ms() + 7 * (i / EACH);
            while (now_ms() < until)
                ;
            restart(s);
        }
    }
    for (int i = 0; i < ROUNDS * EACH; i++)
        EXPECT_TEXT(await_delivery(s, ids[i], 0, "delivered"), "items.0.event", "succeeded");
    REQUIRE(distinct_ids(service) == ROUNDS * EACH);
}

/* The word of it is kept, and it is under way as long. */
Test(callbacks, a_disk_that_fails_meanwhile_makes_nobody_hear_it_twice)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct service *service = prepare_with_service();
    struct server *s = service->server;
    char *bad = file_in(s, "bad");
    s->variables = (const char *[]){format("LD_PRELOAD=%s", native("bad_disk")), format("BAD_DISK=%s", bad), NULL};
    start_service(service, NULL, NULL);
    serve_tasks(service, CALLBACKS(", delays: [10ms, 10ms]"));
    char *id = submit(s, "{'task': 'echo', 'callback': '%s/?until=now'}", service->url);
    WAIT_UNTIL(seen_count(service) == 1);
    touch(bad);
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo'}"), 503, "unavailable");
    touch(format("%s/now", service->folder));
    WAIT_UNTIL(EXPECT(get(s, "/readyz"), 503));
    EXPECT_TEXT(get(s, "/invocations/%s/callbacks", id), "items.0.status", "pending");
    unlink(bad);
    EXPECT_NUMBER(await_delivery(s, id, 0, "delivered"), "items.0.attempts", 1);
    REQUIRE(seen_count(service) == 1, "%s", seen(service));
}

/* As many as have all the room together: they had it again and again, until all that was due before was tried. */
Test(callbacks, dead_receivers_together_hold_up_no_other)
{
    struct service *service =
        service_for("callbacks: {hosts: ['127.0.0.1:*', '0.0.0.0:*', 'localhost:*'], secret: " SECRET
                    ", in_flight: 4, per_host: 2, timeout: 300ms}\n" TASKS);
    struct server *s = service->server;
    char *last = NULL, *other = replaced(service->url, "127.0.0.1", "0.0.0.0");
    for (int i = 0; i < 200; i++)
        last = submit(s, "{'task': 'echo', 'callback': '%s/?until=never'}", i % 2 ? service->url : other);
    final(s, last);
    WAIT_UNTIL(seen_count(service) >= 4);
    char *well =
        submit(s, "{'task': 'echo', 'callback': '%s/'}", replaced(service->url, "127.0.0.1", "localhost"));
    await_delivery(s, well, 0, "delivered");
    REQUIRE(seen_count(service) < 50, "%d were tried first", seen_count(service));
}
