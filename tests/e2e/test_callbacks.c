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
