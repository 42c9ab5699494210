/* Who may do what: tokens, scopes, hosts, origins. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>

SUITE(auth);

/* SHA-256 of "reader", "shop", "worker" and "boss". */
#define TOKENS                                                                                              \
    "tokens:\n"                                                                                             \
    "  - {name: reader, sha256: 3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30, scopes: " \
    "[read]}\n"                                                                                             \
    "  - {name: shop, sha256: 8d9001d32c6a703d95921a77115050f33dd823d3f1730bd35215dcbecad6dc20, scopes: "   \
    "[submit]}\n"                                                                                           \
    "  - {name: worker, sha256: 87eba76e7f3164534045ba922e7770fb58bbd14ad732bbf5ba6f11cc56989e6e, scopes: " \
    "[work]}\n"                                                                                             \
    "  - {name: boss, sha256: a5e7c002443743c5836758c7d1cd8ddefd9fcf2061daa0efaac683fb99966057, scopes: "   \
    "[admin]}\n"

#define JSON "Content-Type: application/json\r\n"

Test(auth, every_route_asks_for_its_scope)
{
    struct server *s = serve(TOKENS TASKS);
    s->token = "boss";
    char *id = submit(s, "{'task': 'echo', 'args': 1}");
    final(s, id);
    s->token = NULL;
    const struct {
        const char *method, *path, *body;
        const char *allowed; /* besides boss */
        int status;
    } rows[] = {
        {"GET", "/tasks", NULL, "reader", 200},
        {"GET", "/tasks/echo", NULL, "reader", 200},
        {"GET", "/invocations", NULL, "reader", 200},
        {"GET", format("/invocations/%s", id), NULL, "reader", 200},
        {"GET", format("/invocations/%s/result", id), NULL, "reader", 200},
        {"GET", format("/invocations/%s/attempts", id), NULL, "reader", 200},
        {"GET", format("/invocations/%s/log", id), NULL, "reader", 200},
        {"GET", format("/invocations/%s/callbacks", id), NULL, "reader", 200},
        {"POST", format("/invocations/%s/callbacks/1/repeat", id), NULL, "shop", 404},
        {"GET", "/stats", NULL, "reader", 200},
        {"GET", "/version", NULL, "reader", 200},
        {"GET", "/readyz", NULL, "reader", 200},
        {"GET", "/openapi.yaml", NULL, "reader", 200},
        {"POST", "/tasks", "{\"task\": \"echo\"}", "shop", 201},
        {"POST", format("/invocations/%s/cancel", id), NULL, "shop", 200},
        {"POST", format("/invocations/%s/retry", id), NULL, "shop", 409},
        {"PATCH", format("/invocations/%s", id), "{\"priority\": 1}", "shop", 409},
        {"POST", "/invocations/cancel", "{\"ids\": []}", "shop", 200},
        {"POST", "/invocations/retry", "{\"ids\": []}", "shop", 200},
        {"GET", "/workers", NULL, "reader", 200},
        {"POST", "/workers/w/quiet", NULL, "boss", 404},
        {"POST", "/workers/w/stop", NULL, "boss", 404},
        {"POST", "/workers/w/active", NULL, "boss", 404},
        {"POST", "/leases", "{\"worker\": \"w\"}", "worker", 200},
        {"PUT", "/schedules/x", "{\"cron\": \"@yearly\", \"task\": \"echo\"}", "boss", 201},
        {"GET", "/schedules", NULL, "reader", 200},
        {"GET", "/schedules/x", NULL, "reader", 200},
        {"GET", "/schedules/preview?cron=@daily", NULL, "reader", 200},
        {"POST", "/schedules/x/run", NULL, "shop", 201},
        {"POST", "/schedules/x/backfill", "{\"from\": \"2026-01-02T00:00:00Z\", \"to\": \"2026-01-03T00:00:00Z\"}",
         "shop", 201},
        {"POST", "/schedules/x/pause", NULL, "boss", 200},
        {"POST", "/schedules/x/resume", NULL, "boss", 200},
        {"DELETE", "/schedules/x", NULL, "boss", 204},
        {"POST", "/tasks/echo/pause", NULL, "boss", 200},
        {"POST", "/tasks/echo/resume", NULL, "boss", 200},
        {"POST", "/pause", NULL, "boss", 200},
        {"POST", "/resume", NULL, "boss", 200},
        {"DELETE", format("/invocations/%s", id), NULL, "boss", 204},
        {"POST", "/shutdown?policy=join", NULL, "boss", 202},
    };
    static const char *const tokens[] = {"reader", "shop", "worker", "boss"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *type = rows[i].body ? JSON : "";
        struct reply *r =
            EXPECT_PROBLEM(ask(s, rows[i].method, rows[i].path, type, rows[i].body), 401, "unauthorized");
        REQUIRE(header(r, "WWW-Authenticate") && strncmp(header(r, "WWW-Authenticate"), "Bearer", 6) == 0, "%s",
                r->head);
        for (int t = 0; t < 4; t++) {
            bool allowed = strcmp(tokens[t], rows[i].allowed) == 0 || t == 3;
            r = ask(s, rows[i].method, rows[i].path, format("%sAuthorization: Bearer %s\r\n", type, tokens[t]),
                    rows[i].body);
            if (allowed)
                EXPECT(r, rows[i].status);
            else
                EXPECT_PROBLEM(r, 403, "forbidden");
        }
    }
    cr_assert_eq(await_exit(s), 0);
}

Test(auth, health_needs_no_token)
{
    struct server *s = serve(TOKENS TASKS);
    EXPECT(get(s, "/healthz"), 200);
}

Test(auth, an_unknown_token_is_401)
{
    static const char *const values[] = {
        "Bearer nosuch", "Bearer ", "Bearer", "Basic cmVhZGVyOg==", "reader", "", "Bearer Reader"};
    struct server *s = serve(TOKENS TASKS);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        EXPECT_PROBLEM(ask(s, "GET", "/tasks", format("Authorization: %s\r\n", values[i]), NULL), 401,
                       "unauthorized");
    EXPECT(ask(s, "GET", "/tasks", "Authorization: bearer reader\r\n", NULL), 200);
}

Test(auth, keys_belong_to_the_token_that_used_them)
{
    struct server *s = serve(TOKENS TASKS);
    s->token = "shop";
    struct reply *shop = EXPECT(post(s, "/tasks", "{'task': 'echo', 'key': 'k'}"), 201);
    s->token = "boss";
    struct reply *boss = EXPECT(post(s, "/tasks", "{'task': 'echo', 'key': 'k', 'args': 2}"), 201);
    EXPECT_TEXT(EXPECT(get(s, "/invocations?key=k"), 200), "items.0.id", text_of(boss, "id"));
    REQUIRE(strcmp(text_of(shop, "id"), text_of(boss, "id")) != 0);
}

Test(auth, off_loopback_it_starts_only_with_tokens)
{
    struct server *s = prepare("listen: 0.0.0.0:0\n" TASKS);
    REQUIRE(!try_start(s), "it started");
    REQUIRE(await_exit(s) != 0, "it ended well");
    EXPECT_HAS((&(struct reply){.body = server_log(s), .length = strlen(server_log(s)), .request = "the log"}),
               "token");
    configure(s, "listen: 0.0.0.0:0\n" TOKENS TASKS);
    start(s);
    s->token = "reader";
    EXPECT(get(s, "/tasks"), 200);
    cr_assert_eq(terminate(s), 0);
    configure(s, "listen: 0.0.0.0:0\n" TASKS);
    s->arguments = (const char *[]){"--insecure", NULL};
    start(s);
    s->token = NULL;
    EXPECT(get(s, "/tasks"), 200);
    REQUIRE(strcasestr(server_log(s), "insecure"), "it does not say it loudly");
}

Test(auth, a_foreign_host_is_refused)
{
    struct server *s = serve("hosts: [errand.example]\n" TASKS);
    static const char *const good[] = {"localhost", "localhost:1234", "127.0.0.1",
                                       "[::1]:80",  "errand.example", "ERRAND.example:8080"};
    static const char *const bad[] = {
        "evil.example",           "localhost.evil.example", "errand.example.evil", "evil.example:80", "",
        "localhost:evil.example", "[::1]evil.example"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        EXPECT(ask(s, "GET", "/tasks", format("Host: %s\r\n", good[i]), NULL), 200);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct reply *r = ask(s, "GET", "/tasks", format("Host: %s\r\n", bad[i]), NULL);
        REQUIRE(r->status == 403 || r->status == 400, "Host: %s is answered %d", bad[i], r->status);
    }
    EXPECT_PROBLEM(ask(s, "GET", "/tasks", "Host: evil.example\r\n", NULL), 403, "forbidden-host");
}

/* A web page elsewhere must not drive it. */
Test(auth, a_changing_request_of_a_foreign_page_is_403)
{
    struct server *s = serve(TASKS);
    static const char *const foreign[] = {"Origin: https://evil.example\r\n", "Origin: null\r\n",
                                          "Sec-Fetch-Site: cross-site\r\n", "Origin: http://127.0.0.1:1\r\n"};
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        EXPECT_PROBLEM(ask(s, "POST", "/tasks", format(JSON "%s", foreign[i]), "{\"task\": \"echo\"}"), 403,
                       "forbidden-origin");
        EXPECT_PROBLEM(ask(s, "POST", "/pause", foreign[i], NULL), 403, "forbidden-origin");
        EXPECT(ask(s, "POST", "/shutdown", foreign[i], NULL), 403);
    }
    EXPECT(
        ask(s, "POST", "/tasks", format(JSON "Origin: http://127.0.0.1:%d\r\n", s->port), "{\"task\": \"echo\"}"),
        201);
    EXPECT_NUMBER(get(s, "/stats"), "submitted", 1);
}

Test(auth, configured_origins_may_call)
{
    struct server *s = serve("cors: {origins: [\"https://app.example\"]}\n" TASKS);
    struct reply *r =
        EXPECT(ask(s, "POST", "/tasks", JSON "Origin: https://app.example\r\n", "{\"task\": \"echo\"}"), 201);
    cr_assert_str_eq(header(r, "Access-Control-Allow-Origin"), "https://app.example");
    r = EXPECT(ask(s, "OPTIONS", "/tasks",
                   "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n"
                   "Access-Control-Request-Headers: content-type\r\n",
                   NULL),
               204);
    REQUIRE(strstr(header(r, "Access-Control-Allow-Methods"), "POST"), "%s", r->head);
    REQUIRE(strcasestr(header(r, "Access-Control-Allow-Headers"), "content-type"), "%s", r->head);
    r = ask(s, "OPTIONS", "/tasks", "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n",
            NULL);
    REQUIRE(!header(r, "Access-Control-Allow-Origin"), "%s", r->head);
    EXPECT(ask(s, "POST", "/tasks", JSON "Origin: https://evil.example\r\n", "{\"task\": \"echo\"}"), 403);
}

Test(auth, it_speaks_tls)
{
    struct server *s = prepare(TASKS);
    const char *make[] = {"openssl",
                          "req",
                          "-x509",
                          "-newkey",
                          "ec",
                          "-pkeyopt",
                          "ec_paramgen_curve:prime256v1",
                          "-nodes",
                          "-keyout",
                          "key.pem",
                          "-out",
                          "cert.pem",
                          "-days",
                          "2",
                          "-subj",
                          "/CN=localhost",
                          "-addext",
                          "subjectAltName=DNS:localhost,IP:127.0.0.1",
                          NULL};
    char *out, *err;
    if (run(s->folder, make, NULL, NULL, &err) != 0)
        cr_skip_test("openssl is not here");
    configure(s, "tls: {certificate: cert.pem, key: key.pem}\n" TASKS);
    start(s);
    char *url = format("https://127.0.0.1:%d/tasks", s->port);
    const char *curl[] = {"curl",     "-sS",    "--max-time",           "30", "--cacert",
                          "cert.pem", "--json", "{\"task\": \"echo\"}", url,  NULL};
    REQUIRE(run(s->folder, curl, NULL, &out, &err) == 0, "%s", err);
    REQUIRE(strstr(out, "\"echo\""), "%s", out);
    const char *old[] = {"curl", "-sS",       "--max-time",         "30", "--cacert", "cert.pem", "--tls-max",
                         "1.1",  "--ciphers", "DEFAULT@SECLEVEL=0", url,  NULL};
    REQUIRE(run(s->folder, old, NULL, &out, &err) != 0, "TLS 1.1 is taken");
}
