/* HTTP tasks, against a service of the test's own (service.py). */
#include "tests/e2e/service.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

SUITE(http_kind);

/* --- outcomes ----------------------------------------------------------------------- */

Test(http_kind, what_the_service_answers_is_the_result)
{
    static const struct {
        const char *query, *keys, *result;
    } rows[] = {
        {"echo=1&type=application/json", "", "{\"n\":12345678901234567890,\"x\":1.10}"},
        {"echo=1&type=application/problem%2Bjson;%20charset=utf-8", "", "{\"n\":12345678901234567890,\"x\":1.10}"},
        {"body=done&type=text/plain", "", "\"done\""},
        {"body=done", "", "\"done\""},
        {"status=204", "", "null"},
        {"status=201&body=%201", ", result: json", "1"},
        {"status=204", ", result: json", "null"},
        {"status=200", ", result: text", "\"\""},
        {"echo=1&type=application/json", ", result: text", "\"{\\\"n\\\":12345678901234567890,\\\"x\\\":1.10}\""},
        {"status=202&body=yes", ", lease: none", "\"yes\""},
        {"drip=0.01&body=slowly", "", "\"slowly\""},
        {"echo=1", ", method: PUT, result: json", "{\"n\":12345678901234567890,\"x\":1.10}"},
    };
    struct service *service = prepare_with_service();
    char *tasks = "tasks:\n";
    start_service(service, NULL, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        tasks = format("%s  t%zu: {kind: http, url: \"$SERVICE/?%s\"%s}\n", tasks, i, rows[i].query, rows[i].keys);
    struct server *s = serve_tasks(service, tasks);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *id = submit(s, "{'task': 't%zu', 'args': {'n':12345678901234567890,'x':1.10}}", i);
        struct reply *ended = EXPECT_TEXT(final(s, id), "status", "succeeded");
        EXPECT_TEXT(ended, "worker", "http");
        struct reply *result = get(s, "/invocations/%s/result", id);
        REQUIRE(strcmp(result->body, rows[i].result) == 0, "%s: %s", rows[i].query, result->body);
    }
    REQUIRE(strcmp(cJSON_GetObjectItem(request(service, 11), "method")->valuestring, "PUT") == 0);
}

Test(http_kind, each_failure_has_its_type)
{
    static const struct {
        const char *query, *keys, *type, *body;
    } rows[] = {
        {"status=500&body=oh%20no", "", "http:500", "oh no"},
        {"status=404", "", "http:404", NULL},
        {"status=503&header=Retry-After:7&body=later", "", "http:503", "later"},
        {"status=302&header=Location:/elsewhere", "", "http:302", NULL},
        {"body=nope", ", result: json", "bad_result", NULL},
        {"body=nope&type=application/json", "", "bad_result", NULL},
        {"", ", result: json", "bad_result", NULL},
        {"size=5000", "", "bad_result", NULL},
        {"size=3000000", "", "bad_result", NULL},
        {"size=2500&type=text/plain", ", result: text", "bad_result", NULL}, /* 2,502 as a JSON string */
        {"headers=400", "", "connection", NULL},
        {"close=now", "", "connection", NULL},
        {"close=head&size=10", "", "connection", NULL},
        {"close=middle&size=100", "", "connection", NULL},
        {"delay=30", ", timeout: 300ms", "timeout", NULL},
        {"drip=0.2&size=1000", ", timeout: 500ms", "timeout", NULL},
    };
    struct service *service = prepare_with_service();
    char *tasks = "limits: {result: 2501}\ntasks:\n";
    start_service(service, NULL, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        tasks = format("%s  t%zu: {kind: http, url: \"$SERVICE/?%s\"%s}\n", tasks, i, rows[i].query, rows[i].keys);
    struct server *s = serve_tasks(service, tasks);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *ended = final(s, submit(s, "{'task': 't%zu'}", i));
        EXPECT_TEXT(ended, "status", "failed");
        EXPECT_TEXT(ended, "error.type", rows[i].type);
        if (rows[i].body)
            EXPECT_TEXT(ended, "error.body", rows[i].body);
        else
            REQUIRE(!field(ended, "error.body"), "%s", ended->body);
    }
}

Test(http_kind, of_a_large_failure_the_beginning_is_kept_and_its_connection_is_used_again)
{
    struct service *service = service_for("tasks: {t: {kind: http, url: \"$SERVICE/?status=500&size=100000\"}}");
    for (int i = 0; i < 3; i++) {
        struct reply *ended = final(service->server, submit(service->server, "{'task': 't'}"));
        REQUIRE(strlen(text_of(ended, "error.body")) == 4096);
        REQUIRE(number_in(request(service, i), "connection") == 1);
    }
}

#define HEAD "HTTP/1.1%20200%20OK%0d%0a"
#define END "%0d%0a"

/* A head that broke off was a success; one header without end, a want of memory. */
Test(http_kind, a_service_that_lies_breaks_off_or_never_ends_fails)
{
    static const struct {
        const char *query, *type, *said;
    } rows[] = {
        {"raw=" HEAD "Content-Le", "connection", "in the middle of the answer's headers"},
        {"raw=HTTP/1.1%20202%20OK%0d%0a", "connection", "in the middle of the answer's headers"},
        {"raw=HTTP/1.1%20100%20Go%0d%0a%0d%0a", "connection", ""},
        {"raw=HTTP/1.1%20307%20No%0d%0aLocation:%20/there%0d%0a", "connection", "in the middle"},
        {"raw=" HEAD "X:&endless=y", "connection", "a header that is too long"},
        {"raw=" HEAD "&endless=X:%20yyyyyyyyyyyyyyyy" END, "connection", "too many headers"},
        {"raw=" HEAD "Transfer-Encoding:%20chunked" END END "1" END "x" END "0" END
         "&endless=X:%20yyyyyyyyyyyyyyyy" END,
         "connection", "too many headers"},
        {"endless=HTTP/1.1%20100%20Go" END END, "connection", "too many headers"},
        {"raw=" HEAD END "&endless=body", "bad_result", "larger than the limit"},
        {"raw=" HEAD "Transfer-Encoding:%20chunked" END END "&endless=3" END "abc" END, "bad_result", "larger"},
        {"raw=" HEAD "Transfer-Encoding:%20chunked" END END "2" END "abc" END "0" END END, "connection", "chunk"},
        {"raw=" HEAD "Transfer-Encoding:%20chunked" END END "3" END "abc" END, "connection", "closed"},
        {"raw=" HEAD "Content-Length:%20-1" END END "abc", "connection", "Content-Length"},
        {"raw=" HEAD "Content-Encoding:%20gzip" END END "abc", "bad_result", "encoded (gzip)"},
        {"raw=HTTP/1.1%20500%20No" END END "&endless=no", "http:500", ""},
        {"raw=hello", "connection", "HTTP/0.9"},
        {"raw=" HEAD "no%20header" END END, "connection", "without colon"},
        {"raw=" HEAD "%20x:y" END END, "connection", "a header that is none"},
        {"raw=HTTP/1.1%20304%20No" END "Location:%20/there" END END, "http:304", "not followed"},
        {"raw=HTTP/1.1%20302%20No" END "Location:%20file:///etc/passwd" END END, "http:302", "not followed"},
    };
    struct service *service = prepare_with_service();
    char *tasks = "limits: {result: 2501}\ntasks:\n";
    start_service(service, NULL, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        tasks = format("%s  t%zu: {kind: http, redirects: 3, url: \"$SERVICE/?%s\"}\n", tasks, i, rows[i].query);
    struct server *s = serve_tasks(service, tasks);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *ended = final(s, submit(s, "{'task': 't%zu'}", i));
        EXPECT_TEXT(ended, "error.type", rows[i].type);
        REQUIRE(strstr(text_of(ended, "error.message"), rows[i].said), "%s: %s", rows[i].query, ended->body);
    }
    REQUIRE(seen_count(service) == sizeof rows / sizeof *rows);
}

Test(http_kind, nobody_there_and_no_such_name_fail_as_connection)
{
    struct server *s = serve("tasks:\n"
                             "  refused: {kind: http, url: 'http://127.0.0.1:9/'}\n"
                             "  unknown: {kind: http, url: 'http://does-not-exist.invalid/'}\n");
    char *ids[50];
    EXPECT_TEXT(final(s, submit(s, "{'task': 'refused'}")), "error.type", "connection");
    for (int i = 0; i < 50; i++)
        ids[i] = submit(s, "{'task': 'unknown'}");
    for (int i = 0; i < 50; i++)
        EXPECT_TEXT(final(s, ids[i]), "error.type", "connection");
}

Test(http_kind, a_failure_is_tried_again_as_its_type_says_and_not_before_retry_after)
{
    struct service *service = service_for(
        "tasks:\n"
        "  t: {kind: http, url: \"$SERVICE/?first=503&header=Retry-After:2&body=ok\", max_retries: 1,\n"
        "      retry_for: ['http:5*'], backoff: {initial: 1ms}}\n");
    struct server *s = service->server;
    int64_t began = now_ms();
    struct reply *ended = final(s, submit(s, "{'task': 't'}"));
    EXPECT_TEXT(ended, "status", "succeeded");
    EXPECT_NUMBER(ended, "attempt", 2);
    REQUIRE(now_ms() - began >= 1900);
    REQUIRE(strcmp(header_of(request(service, 0), "Errand-Attempt"), "1") == 0);
    REQUIRE(strcmp(header_of(request(service, 1), "Errand-Attempt"), "2") == 0);
    REQUIRE(strcmp(header_of(request(service, 0), "Idempotency-Key"),
                   header_of(request(service, 1), "Idempotency-Key")) == 0);
}

Test(http_kind, a_date_in_retry_after_is_obeyed_too)
{
    char date[64];
    time_t at = time(NULL) + 3600;
    strftime(date, sizeof date, "%a,%%20%d%%20%b%%20%Y%%20%H:%M:%S%%20GMT", gmtime(&at));
    struct service *service = service_for(format(
        "tasks: {t: {kind: http, url: \"$SERVICE/?status=429&header=Retry-After:%s\", max_retries: 1}}", date));
    struct server *s = service->server;
    char *id = submit(s, "{'task': 't'}");
    struct reply *waits = AWAIT_STATUS(s, id, "scheduled");
    struct tm due = {0};
    strptime(text_of(waits, "run_at"), "%Y-%m-%dT%H:%M:%S", &due);
    REQUIRE(fabs(difftime(timegm(&due), at)) < 30, "%s", waits->body);
}

Test(http_kind, a_retry_after_of_any_size_is_a_day_at_most)
{
    static const struct {
        const char *value, *status;
    } rows[] = {
        {"315360000", "scheduled"},
        {"99999999999999999999999999", "scheduled"}, /* was none */
        {"Wed,%20%2021%20Oct%202065%2007:28:00%20GMT", "scheduled"},
        {"-5", "failed"},
        {"0", "failed"},
        {"soon", "failed"},
        {"Wed,%20%2021%20Oct%202015%2007:28:00%20GMT", "failed"},
    };
    struct service *service = prepare_with_service();
    char *tasks = "tasks:\n";
    start_service(service, NULL, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        tasks = format("%s  t%zu: {kind: http, max_retries: 1, backoff: {initial: 1ms},\n"
                       "       url: \"$SERVICE/?status=503&header=Retry-After:%s\"}\n",
                       tasks, i, rows[i].value);
    struct server *s = serve_tasks(service, tasks);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *reply = AWAIT_STATUS(s, submit(s, "{'task': 't%zu'}", i), rows[i].status);
        struct tm due = {0};
        if (strcmp(rows[i].status, "failed") == 0)
            continue;
        strptime(text_of(reply, "run_at"), "%Y-%m-%dT%H:%M:%S", &due);
        REQUIRE(fabs(difftime(timegm(&due), time(NULL) + 24 * 3600)) < 30, "%s", reply->body);
    }
}

/* --- what is sent --------------------------------------------------------------------- */

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Test(http_kind, a_request_says_whose_it_is_and_is_signed)
{
    struct service *service = prepare_with_service();
    start_service(service, NULL, NULL);
    write_whole(file_in(service->server, "secret"), SECRET "\n");
    write_whole(file_in(service->server, "auth"), "Bearer of-a-file\n");
    service->server->variables = (const char *const[]){"HOOK=of-the-environment", NULL};
    struct server *s = serve_tasks(
        service, "tasks:\n"
                 "  t: {kind: http, url: $SERVICE/hook, secret: {file: secret},\n"
                 "      headers: {Authorization: {file: auth}, X-Env: {env: HOOK}, X-Plain: a b, X-None: '',\n"
                 "                user-agent: mine}}\n");
    char *id = submit(s, "{'task': 't', 'args': {'a':[1,2]}}");
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    cJSON *sent = request(service, 0);
    const struct {
        const char *name, *value;
    } rows[] = {
        {"Errand-Id", id},
        {"Errand-Attempt", "1"},
        {"Errand-Task", "t"},
        {"Idempotency-Key", id},
        {"Content-Type", "application/json"},
        {"Accept", "*/*"},
        {"User-Agent", "mine"},
        {"Authorization", "Bearer of-a-file"},
        {"X-Env", "of-the-environment"},
        {"X-Plain", "a b"},
        {"X-None", ""},
        {"webhook-id", id},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *value = header_of(sent, rows[i].name);
        REQUIRE(value && strcmp(value, rows[i].value) == 0, "%s: %s", rows[i].name, value ? value : "none");
    }
    REQUIRE(!header_of(sent, "Expect") && !header_of(sent, "Errand-Resumes"));
    REQUIRE(strcmp(cJSON_GetObjectItem(sent, "method")->valuestring, "POST") == 0);
    REQUIRE(strcmp(cJSON_GetObjectItem(sent, "path")->valuestring, "/hook") == 0);
    char *lease = format("http://127.0.0.1:%d/leases/%s-", s->port, id);
    REQUIRE(strncmp(header_of(sent, "Errand-Lease"), lease, strlen(lease)) == 0);
    REQUIRE(!strstr(server_log(s), "of-a-file") && !strstr(server_log(s), "/leases/"));

    const char *at = header_of(sent, "webhook-timestamp");
    REQUIRE(llabs(atoll(at) - (long long)time(NULL)) < 60);
    char *script = format("printf %%s '%s.%s.{\"a\":[1,2]}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:"
                          "$(printf %%s %s | base64 -d | od -An -tx1 | tr -d ' \\n') -binary | base64",
                          id, at, SECRET + strlen("whsec_"));
    char *out;
    const char *argv[] = {"sh", "-c", script, NULL};
    cr_assert_eq(run(NULL, argv, NULL, &out, NULL), 0);
    REQUIRE(strcmp(cJSON_GetObjectItem(sent, "body")->valuestring, "{\"a\":[1,2]}") == 0);
    REQUIRE(strcmp(header_of(sent, "webhook-signature"), format("v1,%.*s", (int)strcspn(out, "\n"), out)) == 0,
            "%s and not %s", header_of(sent, "webhook-signature"), out);
}

Test(http_kind, redirects_are_followed_if_asked_for_and_to_the_same_host_alone)
{
    struct service *service = prepare_with_service();
    start_service(service, NULL, NULL);
    char *other = replaced(service->url, "127.0.0.1", "localhost");
    struct server *s = serve_tasks(
        service,
        format(
            "tasks:\n"
            "  off: {kind: http, url: \"$SERVICE/?status=307&header=Location:/end\"}\n"
            "  same: {kind: http, redirects: 1, url: \"$SERVICE/?status=307&header=Location:/end%%3fecho=1\"}\n"
            "  see: {kind: http, redirects: 1, url: \"$SERVICE/?status=303&header=Location:/end%%3fbody=got\"}\n"
            "  loop: {kind: http, redirects: 3, url: \"$SERVICE/?status=308&header=Location:/%%3fstatus=308%%26"
            "header=Location:/%%253fstatus=308%%2526header=Location:/end\"}\n"
            "  more: {kind: http, redirects: 1, url: \"$SERVICE/?status=308&header=Location:/%%3fstatus=308%%26"
            "header=Location:/end\"}\n"
            "  away: {kind: http, redirects: 5, url: \"$SERVICE/?status=307&header=Location:%s/end\"}\n",
            other));
    const struct {
        const char *task, *status, *said;
        int requests;
    } rows[] = {
        {"off", "failed", "http:307", 1}, {"same", "succeeded", "[7]", 2},   {"see", "succeeded", "got", 2},
        {"loop", "succeeded", "", 4},     {"more", "failed", "http:308", 2}, {"away", "failed", "http:307", 1},
    };
    int before = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *ended = final(s, submit(s, "{'task': '%s', 'args': [7]}", rows[i].task));
        REQUIRE(strcmp(text_of(ended, "status"), rows[i].status) == 0, "%s: %s", rows[i].task, ended->body);
        REQUIRE(strstr(ended->body, rows[i].said), "%s", ended->body);
        REQUIRE(seen_count(service) - before == rows[i].requests, "%s:\n%s", rows[i].task, seen(service));
        before = seen_count(service);
    }
}

Test(http_kind, a_certificate_is_checked)
{
    struct service *service = prepare_with_service();
    char *key = file_in(service->server, "key.pem"), *certificate = file_in(service->server, "cert.pem");
    const char *argv[] = {"openssl",
                          "req",
                          "-x509",
                          "-newkey",
                          "ec",
                          "-pkeyopt",
                          "ec_paramgen_curve:P-256",
                          "-nodes",
                          "-days",
                          "2",
                          "-keyout",
                          key,
                          "-out",
                          certificate,
                          "-subj",
                          "/CN=localhost",
                          "-addext",
                          "subjectAltName=IP:127.0.0.1",
                          NULL};
    cr_assert_eq(run(NULL, argv, NULL, NULL, NULL), 0);
    start_service(service, certificate, key);
    char *by_name = replaced(service->url, "127.0.0.1", "localhost");
    struct server *s =
        serve_tasks(service, format("tasks:\n"
                                    "  unknown: {kind: http, url: $SERVICE/}\n"
                                    "  trusted: {kind: http, url: $SERVICE/?body=yes, ca: cert.pem}\n"
                                    "  misnamed: {kind: http, url: %s/, ca: cert.pem}\n",
                                    by_name));
    EXPECT_TEXT(final(s, submit(s, "{'task': 'unknown'}")), "error.type", "connection");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'misnamed'}")), "error.type", "connection");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'trusted'}")), "result", "yes");
    REQUIRE(seen_count(service) == 1);
}

Test(http_kind, the_environments_proxy_is_not_used_and_a_configured_one_is)
{
    struct service *service = prepare_with_service();
    start_service(service, NULL, NULL);
    service->server->variables =
        (const char *const[]){"http_proxy=http://127.0.0.1:9", "all_proxy=http://127.0.0.1:9", "no_proxy=*", NULL};
    struct server *s = serve_tasks(service, "tasks:\n"
                                            "  direct: {kind: http, url: $SERVICE/direct}\n"
                                            "  by: {kind: http, url: 'http://far.invalid/by', proxy: $SERVICE}\n");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'direct'}")), "status", "succeeded");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'by'}")), "status", "succeeded");
    REQUIRE(strcmp(cJSON_GetObjectItem(request(service, 1), "path")->valuestring, "http://far.invalid/by") == 0);
}

/* --- how many ---------------------------------------------------------------------------- */

static int threads_of(const struct server *s)
{
    char *status = read_whole(format("/proc/%d/status", (int)s->pid)), *line = strstr(status, "\nThreads:");
    return line ? atoi(line + strlen("\nThreads:")) : 0;
}

static void submit_many(struct server *s, const char *task, int count)
{
    char *body = NULL;
    size_t length;
    FILE *file = open_memstream(&body, &length);
    for (int i = 0; i < count; i++)
        fprintf(file, "{\"task\": \"%s\", \"args\": %d}\n", task, i);
    fclose(file);
    EXPECT(ask(s, "POST", "/invocations", "Content-Type: application/x-ndjson\r\n", body), 200);
}

static double count_of(struct server *s, const char *status)
{
    return number_of(get(s, "/stats"), format("invocations.%s", status));
}

Test(http_kind, hundreds_are_under_way_with_one_slot_and_a_few_threads)
{
    struct service *service = service_for("slots: 1\n"
                                          "tasks:\n"
                                          "  t: {kind: http, url: $SERVICE/?until=go, in_flight: 500}\n"
                                          "  echo: {kind: native, module: $NATIVE}\n");
    struct server *s = service->server;
    int threads = threads_of(s);
    submit_many(s, "t", 600);
    WAIT_UNTIL(seen_count(service) == 500);
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo'}")), "status", "succeeded");
    REQUIRE(count_of(s, "running") == 500 && count_of(s, "queued") == 100);
    REQUIRE(threads_of(s) <= threads + 2, "%d and %d before", threads_of(s), threads);
    EXPECT_NUMBER(get(s, "/stats"), "service.busy", 0);
    touch(file_in(s, "go"));
    WAIT_UNTIL(count_of(s, "succeeded") == 601);
    REQUIRE(seen_count(service) == 600);
}

Test(http_kind, of_a_task_no_more_are_under_way_than_it_says_and_another_is_not_held_up)
{
    struct service *service = service_for("tasks:\n"
                                          "  a: {kind: http, url: $SERVICE/a?until=go, in_flight: 3}\n"
                                          "  b: {kind: http, url: $SERVICE/b, in_flight: 1}\n");
    struct server *s = service->server;
    submit_many(s, "a", 20);
    WAIT_UNTIL(seen_count(service) == 3);
    for (int i = 0; i < 5; i++)
        EXPECT_TEXT(final(s, submit(s, "{'task': 'b'}")), "status", "succeeded");
    REQUIRE(seen_count(service) == 8);
    touch(file_in(s, "go"));
    WAIT_UNTIL(count_of(s, "succeeded") == 25);
    for (int i = 0; i < 25; i++)
        REQUIRE(number_in(request(service, i), "together") <= 4, "%s", seen(service));
}

/* Curl made a thread for each of them, and waited for it when one was given up. */
Test(http_kind, a_name_is_looked_up_once_for_all_and_holds_up_nobody_else)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct service *service = prepare_with_service();
    start_service(service, NULL, NULL);
    const char *variables[] = {format("LD_PRELOAD=%s", native("slow_names")),
                               format("SLOW_NAMES=%s", file_in(service->server, "names")), NULL};
    service->server->variables = variables;
    char *asked = file_in(service->server, "names.asked"), *port = strrchr(service->url, ':');
    struct server *s =
        serve_tasks(service, format("tasks:\n"
                                    "  slow: {kind: http, url: 'http://name.slow%s/'}\n"
                                    "  late: {kind: http, url: 'http://name.slow%s/', timeout: 200ms}\n"
                                    "  fast: {kind: http, url: $SERVICE/}\n",
                                    port, port));
    EXPECT_TEXT(final(s, submit(s, "{'task': 'fast'}")), "status", "succeeded");
    int threads = threads_of(s);
    submit_many(s, "slow", 50);
    WAIT_UNTIL(exists(asked));
    EXPECT_TEXT(final(s, submit(s, "{'task': 'late'}")), "error.type", "timeout");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'fast'}")), "status", "succeeded");
    REQUIRE(threads_of(s) <= threads + 3, "%d and %d before", threads_of(s), threads);
    REQUIRE(count_lines(read_whole(asked)) == 2);
    touch(file_in(s, "names"));
    WAIT_UNTIL(count_of(s, "succeeded") == 52);
    REQUIRE(count_lines(read_whole(asked)) == 2);
}

/* Each waited in its turn for curl's 30 s. */
Test(http_kind, a_name_that_is_not_found_in_time_fails_all_who_wait_for_it)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    const char *variables[] = {format("LD_PRELOAD=%s", native("slow_names")), "SLOW_NAMES=/nowhere",
                               "CONNECT_MS=1000", NULL};
    struct server *s = prepare("tasks: {t: {kind: http, url: 'http://name.slow:9/', timeout: none}}");
    s->variables = variables;
    start(s);
    int64_t began = now_ms();
    submit_many(s, "t", 50);
    WAIT_UNTIL(count_of(s, "failed") == 50);
    REQUIRE(now_ms() - began < 10000);
    REQUIRE(strstr(get(s, "/invocations?view=full&limit=1")->body, "Resolving timed out"));
}

/* Twenty requests are under way, and a descriptor more cannot be had: another's attempt is put off. */
static void want_descriptors(struct service *service, const char *many, const char *other)
{
    struct server *s = service->server;
    struct client *client = client_open(s);
    struct rlimit before, low;
    submit_many(s, many, 20);
    WAIT_UNTIL(seen_count(service) == 20);
    REQUIRE(prlimit(s->pid, RLIMIT_NOFILE, NULL, &before) == 0);
    low = (struct rlimit){20, before.rlim_max}; /* all that could be given are in use */
    submit_many(s, many, 1);
    WAIT_UNTIL(seen_count(service) == 21);
    REQUIRE(prlimit(s->pid, RLIMIT_NOFILE, &low, NULL) == 0);
    char *body = format("{\"task\": \"%s\"}", other);
    client_ask(client, "POST", "/tasks", "Content-Type: application/json\r\n", body, strlen(body));
    char *id = strdup(text_of(client_receive(client, false), "id"));
    WAIT_UNTIL(strstr(server_log(s), "starts are held back"));
    REQUIRE(prlimit(s->pid, RLIMIT_NOFILE, &before, NULL) == 0);
    WAIT_UNTIL(seen_count(service) == 22);
    touch(file_in(s, "go"));
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "attempt", 1);
}

Test(http_kind, for_want_of_descriptors_it_waits_and_pays_nothing)
{
    want_descriptors(service_for("tasks: {t: {kind: http, url: $SERVICE/?until=go, in_flight: 100}}"), "t", "t");
}

/* Curl says of it that the name is not known. */
Test(http_kind, for_want_of_descriptors_to_look_up_a_name_it_waits_too)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct service *service = prepare_with_service();
    start_service(service, NULL, NULL);
    const char *variables[] = {format("LD_PRELOAD=%s", native("slow_names")),
                               format("SLOW_NAMES=%s", service->folder), NULL}; /* is there: they are not slow */
    service->server->variables = variables;
    serve_tasks(service, format("tasks:\n"
                                "  t: {kind: http, url: $SERVICE/?until=go, in_flight: 100}\n"
                                "  named: {kind: http, url: 'http://name.slow%s/'}\n",
                                strrchr(service->url, ':')));
    want_descriptors(service, "t", "named");
}

Test(http_kind, connections_are_used_again)
{
    struct service *service = service_for("tasks: {t: {kind: http, url: $SERVICE/, in_flight: 4}}");
    submit_many(service->server, "t", 200);
    WAIT_UNTIL(count_of(service->server, "succeeded") == 200);
    for (int i = 0; i < 200; i++)
        REQUIRE(number_in(request(service, i), "connection") <= 8);
}

/* --- stops, crashes, closing ---------------------------------------------------------------- */

static char *under_way(struct service *service, const char *task)
{
    int before = seen_count(service);
    char *id = submit(service->server, "{'task': '%s'}", task);
    WAIT_UNTIL(seen_count(service) == before + 1);
    return id;
}

#define HOLD "tasks: {t: {kind: http, url: $SERVICE/?until=go}}"

Test(http_kind, a_cancelled_one_is_aborted)
{
    struct service *service = service_for(HOLD);
    struct server *s = service->server;
    char *id = under_way(service, "t");
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
    touch(file_in(s, "go"));
    WAIT_UNTIL(exists(file_in(s, "closed"))); /* the service found nobody there */
}

Test(http_kind, a_crash_costs_nothing)
{
    struct service *service = service_for(HOLD);
    struct server *s = service->server;
    char *id = under_way(service, "t");
    for (int i = 0; i < 4; i++) {
        restart(s);
        WAIT_UNTIL(seen_count(service) == i + 2);
    }
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

Test(http_kind, closing_waits_for_it_or_leaves_it_to_be_run_again)
{
    static const struct {
        const char *policy, *status;
        bool goes;
    } rows[] = {{"join", "succeeded", true}, {"cancel", "succeeded", true}, {"kill", "queued", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct service *service = service_for(HOLD);
        struct server *s = service->server;
        char *id = under_way(service, "t");
        EXPECT(post(s, format("/shutdown?policy=%s", rows[i].policy), NULL), 202);
        if (rows[i].goes)
            touch(file_in(s, "go"));
        cr_assert_eq(await_exit(s), 0);
        configure(s, "tasks: {}");
        start(s);
        EXPECT_TEXT(get(s, "/invocations/%s", id), "status", rows[i].status);
    }
}

/* --- taken over ------------------------------------------------------------------------------ */

#define LATER "tasks: {t: {kind: http, url: $SERVICE/?status=202}}"

/* The address of the turn, without the server's. */
static const char *lease_of(const struct service *service, int n)
{
    return strstr(header_of(request(service, n), "Errand-Lease"), "/leases/");
}

/* A service may be quicker with that than we with its 202. */
static void await_taken_over(struct server *s)
{
    WAIT_UNTIL(strstr(get(s, "/workers")->body, "\"name\":\"http\""));
    WAIT_UNTIL(number_of(get(s, "/workers"), "items.1.busy") > 0);
}

Test(http_kind, what_a_service_takes_over_it_finishes_at_the_turns_address)
{
    struct service *service = service_for(LATER);
    struct server *s = service->server;
    char *id = under_way(service, "t");
    await_taken_over(s);
    const char *lease = lease_of(service, 0);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "running");
    EXPECT_TEXT(get(s, "/workers"), "items.1.kind", "http");
    EXPECT_PROBLEM(post(s, "/workers/http/stop", NULL), 409, "conflict");
    WAIT_UNTIL(*text_of(EXPECT(post(s, format("%s/heartbeat", lease), "{'progress': 0.5}"), 200), "expires_at"));
    EXPECT(post(s, format("%s/complete", lease), "{'result': {'a': 1}}"), 204);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result.a", 1);
    EXPECT_PROBLEM(post(s, format("%s/complete", lease), "{'result': 2}"), 409, "stale-lease");
    REQUIRE(seen_count(service) == 1);
    REQUIRE(count_of(s, "running") == 0);
}

Test(http_kind, it_may_be_finished_before_the_answer_is_there)
{
    struct service *service = service_for(HOLD);
    struct server *s = service->server;
    char *id = under_way(service, "t");
    EXPECT(post(s, format("%s/log", lease_of(service, 0)), NULL), 204);
    EXPECT(post(s, format("%s/complete", lease_of(service, 0)), "{'result': 1}"), 204);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result", 1);
    touch(file_in(s, "go"));
    cr_assert_eq(terminate(s), 0);
}

/* Its body is of no interest, so it may break off: the service has said that it took it over. */
Test(http_kind, a_202_whose_body_breaks_off_is_one)
{
    struct service *service =
        service_for("tasks: {t: {kind: http, url: $SERVICE/?status=202&close=middle&size=100}}");
    struct server *s = service->server;
    char *id = under_way(service, "t");
    await_taken_over(s);
    EXPECT(post(s, format("%s/complete", lease_of(service, 0)), "{'result': 1}"), 204);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result", 1);
    REQUIRE(seen_count(service) == 1);
}

/* What comes on the old request is of a turn that is over, and takes nothing of the new one over. */
Test(http_kind, a_202_after_the_turn_was_given_back_counts_no_more)
{
    static const struct {
        const char *path, *body;
    } rows[] = {
        {"fail", "{'error': {'type': 'later', 'message': 'no', 'retry': true}}"},
        {"suspend", "{'on': {'until': '10ms'}}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct service *service = service_for("tasks: {t: {kind: http, url: $SERVICE/?status=202&until=go,\n"
                                              "            max_retries: 1, backoff: {initial: 1ms}, lease: 1s,\n"
                                              "            max_recoveries: 0}}");
        struct server *s = service->server;
        char *id = under_way(service, "t");
        EXPECT(post(s, format("%s/%s", lease_of(service, 0), rows[i].path), rows[i].body), 204);
        if (i == 0)
            WAIT_UNTIL(seen_count(service) == 2); /* both are under way now */
        touch(file_in(s, "go"));
        WAIT_UNTIL(seen_count(service) == 2);
        await_taken_over(s);
        EXPECT(post(s, format("%s/heartbeat", lease_of(service, 0)), "{}"), 409);
        EXPECT(post(s, format("%s/complete", lease_of(service, 1)), "{'result': 2}"), 204);
        EXPECT_NUMBER(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result", 2);
    }
}

Test(http_kind, a_reload_leaves_what_is_under_way_and_the_next_goes_to_the_new_address)
{
    struct service *service = service_for(HOLD);
    struct server *s = service->server;
    char *id = under_way(service, "t");
    configure(s, replaced("tasks: {t: {kind: http, url: $SERVICE/?body=new}}", "$SERVICE", service->url));
    kill(s->pid, SIGHUP);
    WAIT_UNTIL(strstr(server_log(s), "msg=reloaded"));
    EXPECT_TEXT(final(s, submit(s, "{'task': 't'}")), "result", "new");
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "running");
    configure(s, "tasks: {}");
    kill(s->pid, SIGHUP);
    WAIT_UNTIL(cJSON_IsTrue(field(get(s, "/tasks/t"), "gone")));
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

Test(http_kind, what_was_taken_over_outlives_the_server)
{
    struct service *service = service_for(LATER "\nlisten: 127.0.0.1:0");
    struct server *s = service->server;
    char *id = under_way(service, "t");
    await_taken_over(s);
    cr_assert_eq(terminate(s), 0);
    start(s);
    EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "running");
    restart(s);
    EXPECT(post(s, format("%s/fail", lease_of(service, 0)), "{'error': {'type': 'mine', 'message': 'no'}}"), 204);
    EXPECT_TEXT(EXPECT_TEXT(final(s, id), "status", "failed"), "error.type", "mine");
    REQUIRE(seen_count(service) == 1);
}

Test(http_kind, a_service_that_says_no_more_loses_the_turn)
{
    struct service *service =
        service_for("tasks: {t: {kind: http, url: $SERVICE/?status=202, lease: 1s, max_recoveries: 1}}");
    struct reply *ended = final(service->server, submit(service->server, "{'task': 't'}"));
    EXPECT_TEXT(ended, "error.type", "lease_lost");
    REQUIRE(seen_count(service) == 2);
}

Test(http_kind, the_timeout_goes_on_when_it_was_taken_over)
{
    struct service *service = service_for("tasks: {t: {kind: http, url: $SERVICE/?status=202, timeout: 1s}}");
    struct reply *ended = final(service->server, submit(service->server, "{'task': 't'}"));
    EXPECT_TEXT(ended, "error.type", "timeout");
}

Test(http_kind, a_service_that_took_it_over_hears_of_a_cancellation)
{
    struct service *service = service_for(LATER);
    struct server *s = service->server;
    char *id = under_way(service, "t");
    await_taken_over(s);
    EXPECT(post(s, format("/invocations/%s/cancel", id), NULL), 200);
    struct reply *beat = EXPECT(post(s, format("%s/heartbeat", lease_of(service, 0)), "{}"), 200);
    REQUIRE(cJSON_IsTrue(field(beat, "cancel")), "%s", beat->body);
    EXPECT(post(s, format("%s/fail", lease_of(service, 0)), "{'error': {'type': 'stopped'}}"), 204);
    EXPECT_TEXT(final(s, id), "status", "cancelled");
}

/* Slow commits: the claim, what is asked meanwhile and the 202 meet in one batch. */
Test(http_kind, what_meets_the_claim_and_the_202_on_their_way_to_disk)
{
    static const struct {
        const char *path, *body, *status;
        int answer;
    } rows[] = {
        {"complete", "{\"result\": 1}", "succeeded", 204},
        {"heartbeat", "{}", "running", 200},
        {NULL, NULL, "cancelled", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct service *service = prepare_with_service();
        start_service(service, NULL, NULL);
        prepare_to_hold_commits(service->server);
        struct server *s = serve_tasks(service, "tasks: {t: {kind: http, url: $SERVICE/?status=202, lease: 3s,"
                                                " max_recoveries: 0}}");
        char *id = submit(s, "{'task': 't', 'delay': '300ms'}");
        WAIT_UNTIL(strcmp(text_of(get(s, "/invocations/%s", id), "status"), "scheduled") != 0);
        WAIT_UNTIL(seen_count(service) == 1);
        hold_commits(s);
        struct client *client = client_open(s);
        char *path = rows[i].path ? format("%s/%s", lease_of(service, 0), rows[i].path)
                                  : format("/invocations/%s/cancel", id);
        const char *body = rows[i].body ? rows[i].body : "{}";
        client_ask(client, "POST", path, "Content-Type: application/json\r\n", body, strlen(body));
        client_hears(client, 200);
        release_commits(s);
        struct reply *reply = client_receive(client, false);
        REQUIRE(!rows[i].answer || reply->status == rows[i].answer, "%s: %s", path, reply->body);
        AWAIT_STATUS(s, id, rows[i].status);
    }
}

Test(http_kind, a_service_may_wait_for_a_child_before_it_answers_and_after)
{
    static const char *const answers[] = {"200&body=done", "202"};
    for (int i = 0; i < 2; i++) {
        struct service *service =
            service_for(format("tasks:\n"
                               "  t: {kind: http, url: \"$SERVICE/?status=%s&until=go\", timeout: 20s}\n"
                               "  hold: {kind: native, module: $NATIVE}\n",
                               answers[i]));
        struct server *s = service->server;
        char *id = under_way(service, "t"), *file = file_in(s, "child");
        struct reply *child = EXPECT(
            post(s, format("%s/children", lease_of(service, 0)), "{'task': 'hold', 'args': '%s'}", file), 201);
        char *wait = format("{\"on\": {\"ids\": [\"%s\"]}}", text_of(child, "id"));
        struct client *client = client_open(s);
        client_ask(client, "POST", format("%s/wait", lease_of(service, 0)), "Content-Type: application/json\r\n",
                   wait, strlen(wait));
        AWAIT_STATUS(s, id, "waiting");
        if (i == 1) { /* what waits is taken over with the turn */
            touch(file_in(s, "go"));
            await_taken_over(s);
            EXPECT_TEXT(get(s, "/invocations/%s", id), "status", "waiting");
        }
        touch(file);
        REQUIRE(client_receive(client, false)->status == 200);
        AWAIT_STATUS(s, id, "running");
        touch(file_in(s, "go"));
        if (i == 1)
            EXPECT(post(s, format("%s/complete", lease_of(service, 0)), "{'result': 'done'}"), 204);
        EXPECT_TEXT(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result", "done");
    }
}

Test(http_kind, a_service_that_suspends_is_asked_again_and_finds_the_state_at_its_lease)
{
    struct service *service = service_for("tasks: {t: {kind: http, url: $SERVICE/?until=go&body=end}}");
    struct server *s = service->server;
    char *id = under_way(service, "t");
    EXPECT(post(s, format("%s/suspend", lease_of(service, 0)), "{'on': {'until': '10ms'}, 'state': {'at': 2}}"),
           204);
    touch(file_in(s, "go"));
    WAIT_UNTIL(seen_count(service) == 2);
    REQUIRE(strcmp(header_of(request(service, 1), "Errand-Resumes"), "true") == 0);
    EXPECT_TEXT(EXPECT_TEXT(final(s, id), "status", "succeeded"), "result", "end");
}

/* --- without a server ------------------------------------------------------------------------- */

Test(http_kind, errand_run_asks_the_service_and_has_nothing_to_hand_over)
{
    struct service *service = prepare_with_service();
    char *out, *err;
    start_service(service, NULL, NULL);
    configure(service->server, replaced("tasks:\n"
                                        "  t: {kind: http, url: $SERVICE/?echo=1, result: json}\n"
                                        "  later: {kind: http, url: $SERVICE/?status=202}\n",
                                        "$SERVICE", service->url));
    const char *argv[] = {errand_binary(), "run", "t", "[1.10]", NULL};
    cr_expect_eq(run(service->folder, argv, NULL, &out, &err), 0, "%s", err);
    cr_expect_str_eq(out, "[1.10]\n");
    argv[2] = "later";
    cr_expect_neq(run(service->folder, argv, NULL, &out, &err), 0);
    cr_expect(strstr(err, "\"type\":\"http:202\""), "%s", err);
}

Test(http_kind, what_is_wrong_with_a_definition_is_said)
{
    static const char *const rows[][2] = {
        {"url: ftp://example.org/", "must begin with https:// or http://"},
        {"url: 'https://example.org/{id}'", "no argument goes into it"},
        {"url: 'https://me:secret@example.org/'", "must not have a user"},
        {"url: example.org", "is no URL"},
        {"url: 'https://example.org/#part'", "fragment"},
        {"url: 'https://example.org/', in_flight: 0", "in_flight"},
        {"url: 'https://example.org/', method: GET", "GET"},
        {"url: 'https://example.org/', headers: {Errand-Id: x}", "is set by Errand itself"},
        {"url: 'https://example.org/', headers: {'a b': x}", "is no name of a header"},
        {"url: 'https://example.org/', headers: {a: \"x\\ny\"}", "control characters"},
        {"url: 'https://example.org/', headers: {a: {file: none}}", "cannot read"},
        {"url: 'https://example.org/', headers: {a: {env: NOT_THERE_AT_ALL}}", "no variable NOT_THERE_AT_ALL"},
        {"url: 'https://example.org/', secret: short", "must be whsec_"},
        {"url: 'https://example.org/', lease: 2h", "lease"},
        {"url: 'http://example.org/', ca: errand.yaml", "is of no use"},
    };
    struct server *s = prepare("{}");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *err;
        configure(s, format("tasks: {t: {kind: http, %s}}", rows[i][0]));
        const char *argv[] = {errand_binary(), "check", NULL};
        cr_expect_neq(run(s->folder, argv, NULL, NULL, &err), 0, "%s", rows[i][0]);
        cr_expect(strstr(err, rows[i][1]), "%s:\n%s", rows[i][0], err);
        cr_expect(!strstr(err, "secret@"), "%s", err);
    }
}
